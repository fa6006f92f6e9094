/*
 * iccid.c
 *		ICCID: parse, print, compare and the form on the card; plain C.
 *
 * ITU-T E.118 numbers as eSIM profiles carry them: 18 to 20 digits, 89 first,
 * the Luhn digit last.  No PostgreSQL in here: the simulator and the fuzzer
 * link this file too.
 */
#include "iccid.h"

#include <string.h>

#define TAIL_DIGITS 18			/* places behind the leading 89 */

static inline bool
is_blank(unsigned char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static inline bool
is_digit(unsigned char c)
{
	return c >= '0' && c <= '9';
}

static inline bool
is_hex_letter(unsigned char c)
{
	return (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f');
}

/*
 * Pack checked digits: begin with 89, n is 18 to 20.
 */
static Iccid
iccid_pack(const char *digits, size_t n)
{
	uint64_t	v = 0;
	size_t		i;

	for (i = 2; i < 2 + TAIL_DIGITS; i++)
		v = v * 10 + (uint64_t) (i < n ? digits[i] - '0' : 0);
	return (v << 2) | (uint64_t) (n - ICCID_MIN_LEN + 1);
}

/*
 * The Luhn digit (ISO/IEC 7812-1 annex B) that belongs behind n digits.
 */
char
iccid_luhn(const char *digits, size_t n)
{
	unsigned int sum = 0;
	bool		twice = true;
	size_t		i;

	for (i = n; i > 0; i--)
	{
		unsigned int d = (unsigned int) (digits[i - 1] - '0');

		if (twice)
			d = d < 5 ? 2 * d : 2 * d - 9;
		sum = (sum + d) % 10;
		twice = !twice;
	}
	return (char) ('0' + (10 - sum) % 10);
}

/*
 * Fill in the error and say no.
 */
static bool
fail(IccidError *error, IccidStatus status, int position, char character,
	 int length, int padding, char expected)
{
	if (error)
	{
		error->status = status;
		error->position = position;
		error->character = character;
		error->length = length;
		error->padding = padding;
		error->expected = expected;
	}
	return false;
}

/*
 * Read an ICCID from len bytes of text, not necessarily zero-terminated.
 *
 * Blanks and dashes are passed over, and F behind the last digit, as modems
 * and ES2+ servers pad it, up to 20 places in all.  With check, the last digit
 * must be the Luhn digit of those before it.  Gives false and says why in
 * error (which may be NULL); out is set only on success.
 */
bool
iccid_parse(const char *text, size_t len, bool check, Iccid *out, IccidError *error)
{
	char		digits[ICCID_MAX_LEN];
	size_t		n = 0;			/* digits */
	size_t		letters = 0;	/* hexadecimal letters */
	size_t		padding = 0;	/* F since the last other character */
	size_t		first = 0;		/* place of the first letter, from 1 */
	size_t		before = 0;		/* digits before it */
	size_t		i;

	for (i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if (is_digit(c))
		{
			if (n < ICCID_MAX_LEN)
				digits[n] = (char) c;
			n++;
			padding = 0;
		}
		else if (is_hex_letter(c))
		{
			if (letters++ == 0)
			{
				first = i + 1;
				before = n;
			}
			padding = (c == 'F' || c == 'f') ? padding + 1 : 0;
		}
		else if (!is_blank(c) && c != '-')
		{
			if (letters == padding)
				first = i + 1;
			return fail(error, ICCID_CHARACTER, (int) first, text[first - 1], (int) n, 0, 0);
		}
	}

	if (letters > padding)
	{
		IccidStatus status = ICCID_CHARACTER;

		if (before >= 2 && n + letters >= ICCID_MIN_LEN && n + letters <= ICCID_MAX_LEN)
		{
			if (memcmp(digits, "89", 2) == 0)
				status = ICCID_HEXADECIMAL;
			else if (memcmp(digits, "98", 2) == 0)
				status = ICCID_SWAPPED;
		}
		return fail(error, status, (int) first, text[first - 1], (int) n, 0, 0);
	}
	if (n == 0 && padding > 0)
		return fail(error, ICCID_CHARACTER, (int) first, text[first - 1], 0, 0, 0);
	if (n == 0)
		return fail(error, ICCID_EMPTY, 0, 0, 0, 0, 0);
	if (n < ICCID_MIN_LEN || n > ICCID_MAX_LEN)
		return fail(error, ICCID_LENGTH, 0, 0, (int) n, (int) padding, 0);
	if (n + padding > ICCID_MAX_LEN)
		return fail(error, ICCID_PADDING, 0, 0, (int) n, (int) padding, 0);
	if (memcmp(digits, "98", 2) == 0)
		return fail(error, ICCID_SWAPPED, 0, 0, (int) n, (int) padding, 0);
	if (memcmp(digits, "89", 2) != 0)
		return fail(error, ICCID_PREFIX, 0, 0, (int) n, (int) padding, 0);
	if (check)
	{
		char		expected = iccid_luhn(digits, n - 1);

		if (digits[n - 1] != expected)
			return fail(error, ICCID_CHECK_DIGIT, 0, digits[n - 1], (int) n, (int) padding,
						expected);
	}

	*out = iccid_pack(digits, n);
	if (error)
		error->status = ICCID_OK;
	return true;
}

/*
 * Write the digits and a terminating zero; gives the number of digits.
 */
int
iccid_format(Iccid v, char out[ICCID_TEXT_SIZE])
{
	int			n = (int) (v & 3) + ICCID_MIN_LEN - 1;
	uint64_t	tail = v >> 2;
	int			i;

	out[0] = '8';
	out[1] = '9';
	for (i = 2 + TAIL_DIGITS - 1; i >= 2; i--)
	{
		out[i] = (char) ('0' + tail % 10);
		tail /= 10;
	}
	out[n] = '\0';
	return n;
}

/*
 * Total order, -1, 0 or 1: as the digits sort as text, byte by byte.
 */
int
iccid_compare(Iccid a, Iccid b)
{
	return (a > b) - (a < b);
}

/*
 * Is the last digit the Luhn digit?
 */
bool
iccid_check(Iccid v)
{
	char		text[ICCID_TEXT_SIZE];
	int			n = iccid_format(v, text);

	return iccid_luhn(text, (size_t) n - 1) == text[n - 1];
}

/*
 * The 10 octets of EF.ICCID (3GPP TS 31.102 4.2.1, SGP.22 Iccid): nibbles
 * swapped, F behind the last digit.
 */
void
iccid_to_card(Iccid v, uint8_t out[ICCID_CARD_SIZE])
{
	char		text[ICCID_TEXT_SIZE];
	int			n = iccid_format(v, text);
	int			i;

	memset(out, 0xFF, ICCID_CARD_SIZE);
	for (i = 0; i < n; i++)
	{
		uint8_t		d = (uint8_t) (text[i] - '0');

		if (i % 2 == 0)
			out[i / 2] = (uint8_t) ((out[i / 2] & 0xF0) | d);
		else
			out[i / 2] = (uint8_t) ((out[i / 2] & 0x0F) | (d << 4));
	}
}

/*
 * Read the 10 octets of EF.ICCID.  The check digit is not looked at: what a
 * card says is its name.  Gives false if they are no such digits.
 */
bool
iccid_from_card(const uint8_t in[ICCID_CARD_SIZE], Iccid *out)
{
	char		digits[ICCID_MAX_LEN];
	size_t		n = 0;
	bool		padded = false;
	int			i;

	for (i = 0; i < ICCID_MAX_LEN; i++)
	{
		uint8_t		d = i % 2 == 0 ? in[i / 2] & 0x0F : in[i / 2] >> 4;

		if (d == 0x0F)
			padded = true;
		else if (d > 9 || padded)
			return false;
		else
			digits[n++] = (char) ('0' + d);
	}
	if (n < ICCID_MIN_LEN || memcmp(digits, "89", 2) != 0)
		return false;
	*out = iccid_pack(digits, n);
	return true;
}
