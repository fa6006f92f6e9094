/*
 * eid.c
 *		EID: parse, print, compare and its check digits; plain C.
 *
 * 32 digits of any beginning: 89 for numbers after SGP.02, anything else for
 * those that GSMA assigns after SGP.29.  The last two are check digits by
 * ISO/IEC 7064 MOD 97-10 in both.  No PostgreSQL in here: the simulator and
 * the fuzzer link this file too.
 */
#include "eid.h"

#include <string.h>

static inline bool
is_blank(unsigned char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/*
 * Remainder of n digits by 97, rolling: 32 digits fit no integer.
 */
static unsigned int
mod97(const char *digits, size_t n)
{
	unsigned int r = 0;
	size_t		i;

	for (i = 0; i < n; i++)
		r = (r * 10 + (unsigned int) (digits[i] - '0')) % 97;
	return r;
}

/*
 * The two check digits that belong behind 30 digits, zero-terminated.
 */
void
eid_check_digits(const char digits[EID_LEN - 2], char out[3])
{
	unsigned int c = 98 - mod97(digits, EID_LEN - 2) * 100 % 97;

	out[0] = (char) ('0' + c / 10);
	out[1] = (char) ('0' + c % 10);
	out[2] = '\0';
}

/*
 * Read an EID from len bytes of text, not necessarily zero-terminated.
 *
 * Blanks and dashes are passed over.  With check, the number must leave 1 when
 * divided by 97 (SGP.29 section 10).  Gives false and says why in error (which
 * may be NULL); out is set only on success.
 */
bool
eid_parse(const char *text, size_t len, bool check, Eid *out, EidError *error)
{
	EidError	none;
	char		digits[EID_LEN];
	size_t		n = 0;
	size_t		i;

	if (error == NULL)
		error = &none;
	memset(error, 0, sizeof(*error));

	for (i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if (c >= '0' && c <= '9')
		{
			if (n < EID_LEN)
				digits[n] = (char) c;
			n++;
		}
		else if (!is_blank(c) && c != '-')
		{
			error->status = EID_CHARACTER;
			error->position = (int) i + 1;
			error->character = text[i];
			error->length = (int) n;
			return false;
		}
	}

	error->length = (int) n;
	if (n != EID_LEN)
	{
		error->status = n == 0 ? EID_EMPTY : EID_LENGTH;
		return false;
	}
	if (check && mod97(digits, EID_LEN) != 1)
	{
		error->status = EID_CHECK_DIGITS;
		memcpy(error->given, digits + EID_LEN - 2, 2);
		eid_check_digits(digits, error->expected);
		return false;
	}

	for (i = 0; i < EID_SIZE; i++)
		out->octet[i] = (uint8_t) ((digits[2 * i] - '0') << 4 | (digits[2 * i + 1] - '0'));
	return true;
}

/*
 * Write the 32 digits and a terminating zero.
 */
void
eid_format(const Eid *v, char out[EID_TEXT_SIZE])
{
	int			i;

	for (i = 0; i < EID_SIZE; i++)
	{
		out[2 * i] = (char) ('0' + (v->octet[i] >> 4));
		out[2 * i + 1] = (char) ('0' + (v->octet[i] & 0x0F));
	}
	out[EID_LEN] = '\0';
}

/*
 * Do the check digits fit?
 */
bool
eid_check(const Eid *v)
{
	char		text[EID_TEXT_SIZE];

	eid_format(v, text);
	return mod97(text, EID_LEN) == 1;
}

/*
 * Read the 16 octets of the ASN.1 form.  The check digits are not looked at.
 * Gives false if a half octet is no digit.
 */
bool
eid_from_octets(const uint8_t in[EID_SIZE], Eid *out)
{
	int			i;

	for (i = 0; i < EID_SIZE; i++)
	{
		if ((in[i] >> 4) > 9 || (in[i] & 0x0F) > 9)
			return false;
	}
	memcpy(out->octet, in, EID_SIZE);
	return true;
}
