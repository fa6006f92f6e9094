/*
 * activation_code.h
 *		Activation codes of SGP.22 4.1: parse, build, compare; plain C.
 */
#ifndef ESIM_ACTIVATION_CODE_H
#define ESIM_ACTIVATION_CODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ACTIVATION_CODE_MAX_LEN 255 /* without the LPA: of the QR code, SGP.32 ActivationCode */
#define ACTIVATION_CODE_LPA "LPA:"

typedef enum
{
	AC_OK,
	AC_EMPTY,					/* nothing, or nothing behind LPA: */
	AC_TOO_LONG,				/* length */
	AC_PREFIX_TWICE,			/* LPA:LPA: */
	AC_NO_FIELDS,				/* no $: a bare matching ID, say */
	AC_FORMAT,					/* first field is not 1; length, character */
	AC_ADDRESS_MISSING,
	AC_ADDRESS_URL,				/* has a scheme or a path */
	AC_ADDRESS_CHARACTER,		/* position, character */
	AC_ADDRESS_LABEL,			/* position: empty or too long label, or dash at its end */
	AC_ADDRESS_PORT,
	AC_MATCHING_ID_MISSING,		/* no second $ */
	AC_MATCHING_ID_CHARACTER,	/* position, character */
	AC_OID,						/* position */
	AC_FLAG,					/* neither empty nor 1 */
	AC_REST_CHARACTER			/* position, character: in the sixth field or behind */
} ActivationCodeStatus;

typedef struct
{
	ActivationCodeStatus status;
	int			position;		/* place in its field, from 1 */
	size_t		offset;			/* of that place in the text as given */
	char		character;
	int			length;
} ActivationCodeError;

typedef struct
{
	uint16_t	offset;			/* in text */
	uint16_t	length;
} ActivationCodeField;

/*
 * A code taken apart.  text is the normalised form: no LPA:, no blanks around
 * it, no empty fields at its end (the second $ stays).
 */
typedef struct
{
	char		text[ACTIVATION_CODE_MAX_LEN + 1];
	size_t		length;
	ActivationCodeField address;
	ActivationCodeField matching_id;
	ActivationCodeField smdp_oid;
	ActivationCodeField rest;	/* sixth field and behind, with the $ between them */
	bool		confirmation_required;
} ActivationCode;

extern bool activation_code_parse(const char *text, size_t len, ActivationCode *out,
								  ActivationCodeError *error);
extern bool activation_code_build(const char *address, size_t address_len,
								  const char *matching_id, size_t matching_id_len,
								  const char *smdp_oid, size_t smdp_oid_len,
								  bool confirmation_required, ActivationCode *out,
								  ActivationCodeError *error);
extern int	activation_code_compare(const char *a, size_t a_len, const char *b, size_t b_len);
extern void activation_code_fold(const char *text, size_t len, char *out);

#endif							/* ESIM_ACTIVATION_CODE_H */
