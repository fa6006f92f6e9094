/*
 * eid.h
 *		EID: parse, print, compare and its check digits; plain C.
 */
#ifndef ESIM_EID_H
#define ESIM_EID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EID_LEN 32
#define EID_TEXT_SIZE 33		/* with the terminating zero */
#define EID_SIZE 16				/* octets */

/*
 * Two digits to the octet, the first in the upper half: the form of the EID in
 * the ASN.1 of SGP.22 and SGP.32 (not swapped).  Byte order is digit order.
 */
typedef struct
{
	uint8_t		octet[EID_SIZE];
} Eid;

typedef enum
{
	EID_OK,
	EID_EMPTY,					/* no digit at all */
	EID_LENGTH,					/* length: how many digits there are */
	EID_CHARACTER,				/* position, character */
	EID_CHECK_DIGITS			/* given, expected */
} EidStatus;

typedef struct
{
	EidStatus	status;
	int			position;		/* place in the text as given, from 1 */
	char		character;
	int			length;			/* digits found */
	char		given[3];
	char		expected[3];
} EidError;

extern bool eid_parse(const char *text, size_t len, bool check, Eid *out, EidError *error);
extern void eid_format(const Eid *v, char out[EID_TEXT_SIZE]);
extern bool eid_check(const Eid *v);
extern void eid_check_digits(const char digits[EID_LEN - 2], char out[3]);
extern bool eid_from_octets(const uint8_t in[EID_SIZE], Eid *out);

/*
 * Eight octets as a number, the first uppermost; compilers make one load of it.
 */
static inline uint64_t
eid_half(const uint8_t *p)
{
	return (uint64_t) p[0] << 56 | (uint64_t) p[1] << 48 | (uint64_t) p[2] << 40 |
		(uint64_t) p[3] << 32 | (uint64_t) p[4] << 24 | (uint64_t) p[5] << 16 |
		(uint64_t) p[6] << 8 | (uint64_t) p[7];
}

/*
 * Total order, -1, 0 or 1: that of the digits.
 */
static inline int
eid_compare(const Eid *a, const Eid *b)
{
	uint64_t	x = eid_half(a->octet);
	uint64_t	y = eid_half(b->octet);

	if (x == y)
	{
		x = eid_half(a->octet + 8);
		y = eid_half(b->octet + 8);
	}
	return (x > y) - (x < y);
}

#endif							/* ESIM_EID_H */
