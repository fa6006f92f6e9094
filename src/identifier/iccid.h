/*
 * iccid.h
 *		ICCID: parse, print, compare and the form on the card; plain C.
 */
#ifndef ESIM_ICCID_H
#define ESIM_ICCID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ICCID_MIN_LEN 18
#define ICCID_MAX_LEN 20
#define ICCID_TEXT_SIZE 21		/* with the terminating zero */
#define ICCID_CARD_SIZE 10		/* octets of EF.ICCID */

/*
 * An ICCID begins with 89, so that at most 18 digits need storing.  They stand
 * left-aligned in 18 decimal places, above two bits of length (1, 2, 3 for 18,
 * 19, 20 digits).  Unsigned order is thereby the order of the digits as text.
 * The greatest value is below 2^62; 0 is never valid.
 */
typedef uint64_t Iccid;

#define ICCID_INVALID ((Iccid) 0)

typedef enum
{
	ICCID_OK,
	ICCID_EMPTY,				/* no digit at all */
	ICCID_LENGTH,				/* length: how many digits there are */
	ICCID_CHARACTER,			/* position, character */
	ICCID_HEXADECIMAL,			/* position, character: 898600D6... of China Mobile */
	ICCID_PADDING,				/* length, padding: too many F behind the digits */
	ICCID_PREFIX,				/* does not begin with 89 */
	ICCID_SWAPPED,				/* begins with 98, as the form on the card does */
	ICCID_CHECK_DIGIT			/* character: the last digit, expected: what it should be */
} IccidStatus;

typedef struct
{
	IccidStatus status;
	int			position;		/* place in the text as given, from 1 */
	char		character;
	int			length;			/* digits found */
	int			padding;		/* trailing F found */
	char		expected;
} IccidError;

extern bool iccid_parse(const char *text, size_t len, bool check, Iccid *out, IccidError *error);
extern int	iccid_format(Iccid v, char out[ICCID_TEXT_SIZE]);
extern int	iccid_compare(Iccid a, Iccid b);
extern bool iccid_check(Iccid v);
extern void iccid_to_card(Iccid v, uint8_t out[ICCID_CARD_SIZE]);
extern bool iccid_from_card(const uint8_t in[ICCID_CARD_SIZE], Iccid *out);
extern char iccid_luhn(const char *digits, size_t n);

#endif							/* ESIM_ICCID_H */
