/*
 * activation_code.c
 *		Activation codes of SGP.22 4.1: parse, build, compare; plain C.
 *
 * Fields between dollar signs: the format (1), the SM-DP+ address, the
 * matching ID (may be empty), the OID of the SM-DP+, the confirmation code
 * flag; what later versions put behind is kept as it is.  No PostgreSQL in
 * here: the simulator and the fuzzer link this file too.
 */
#include "activation_code.h"

#include <string.h>

#define MAX_HOST 253			/* RFC 1035 2.3.4, as text */
#define MAX_LABEL 63
#define MAX_PORT 65535

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
is_alnum(unsigned char c)
{
	return is_digit(c) || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static inline char
to_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char) (c + ('a' - 'A')) : c;
}

/*
 * Fill in the error and say no; place counts from 0 within the field.
 */
static bool
fail(ActivationCodeError *error, ActivationCodeStatus status, const char *field, size_t place,
	 size_t length)
{
	if (error)
	{
		error->status = status;
		error->position = (int) place + 1;
		error->offset = place;
		error->character = place < length ? field[place] : '\0';
		error->length = (int) length;
	}
	return false;
}

static bool
has_lpa(const char *text, size_t len)
{
	return len >= 4 && to_lower(text[0]) == 'l' && to_lower(text[1]) == 'p' &&
		to_lower(text[2]) == 'a' && text[3] == ':';
}

/*
 * A host name, an IPv4 address included, and perhaps a port.  The plus sign is
 * there for the documents' own example, SM-DP+.EXAMPLE.COM.
 */
static bool
check_address(const char *s, size_t len, ActivationCodeError *error)
{
	size_t		host = len;
	size_t		label = 0;
	size_t		i;

	if (len == 0)
		return fail(error, AC_ADDRESS_MISSING, s, 0, len);
	for (i = 0; i < len; i++)
	{
		if (s[i] == '/')
			return fail(error, AC_ADDRESS_URL, s, i, len);
	}
	for (i = 0; i < len; i++)
	{
		if (s[i] == ':')
		{
			host = i;
			break;
		}
		if (!is_alnum((unsigned char) s[i]) && s[i] != '-' && s[i] != '.' && s[i] != '+')
			return fail(error, AC_ADDRESS_CHARACTER, s, i, len);
	}

	for (i = 0; i <= host; i++)
	{
		if (i < host && s[i] != '.')
			continue;
		if (i == label || i - label > MAX_LABEL || s[label] == '-' || s[i - 1] == '-')
			return fail(error, AC_ADDRESS_LABEL, s, label, len);
		label = i + 1;
	}
	if (host > MAX_HOST)
		return fail(error, AC_ADDRESS_LABEL, s, 0, len);

	if (host < len)
	{
		unsigned int port = 0;

		for (i = host + 1; i < len && is_digit((unsigned char) s[i]) && port <= MAX_PORT; i++)
			port = port * 10 + (unsigned int) (s[i] - '0');
		if (i < len || port == 0 || port > MAX_PORT || s[host + 1] == '0')
			return fail(error, AC_ADDRESS_PORT, s, host, len);
	}
	return true;
}

/*
 * SGP.22 allows A to Z, 0 to 9 and the dash.  Codes in use have small letters
 * too; the other signs are the rest of what a QR code's alphanumeric mode can
 * carry, and the underscore.
 */
static bool
check_matching_id(const char *s, size_t len, ActivationCodeError *error)
{
	size_t		i;

	for (i = 0; i < len; i++)
	{
		if (!is_alnum((unsigned char) s[i]) && (s[i] == '\0' || strchr("-_.+*/:%", s[i]) == NULL))
			return fail(error, AC_MATCHING_ID_CHARACTER, s, i, len);
	}
	return true;
}

/*
 * An object identifier in dotted form (ITU-T X.660), or nothing.
 */
static bool
check_oid(const char *s, size_t len, ActivationCodeError *error)
{
	size_t		arc = 0;		/* where the present number begins */
	int			arcs = 0;
	size_t		i;

	if (len == 0)
		return true;
	for (i = 0; i <= len; i++)
	{
		if (i < len && is_digit((unsigned char) s[i]))
			continue;
		if (i < len && s[i] != '.')
			return fail(error, AC_OID, s, i, len);
		if (i == arc || (i - arc > 1 && s[arc] == '0'))
			return fail(error, AC_OID, s, arc, len);
		if (arcs == 0 && (i - arc > 1 || s[arc] > '2'))
			return fail(error, AC_OID, s, arc, len);
		if (arcs == 1 && s[0] != '2' &&
			(i - arc > 2 || (i - arc == 2 && s[arc] > '3')))
			return fail(error, AC_OID, s, arc, len);
		arcs++;
		arc = i + 1;
	}
	if (arcs < 2)
		return fail(error, AC_OID, s, 0, len);
	return true;
}

/*
 * Give the next field and step behind its dollar sign.  Empty fields count:
 * "$$1" is a flag without an OID.
 */
static bool
next_field(const ActivationCode *code, size_t *at, ActivationCodeField *field)
{
	const char *dollar;
	size_t		end;

	if (*at > code->length)
		return false;
	dollar = memchr(code->text + *at, '$', code->length - *at);
	end = dollar ? (size_t) (dollar - code->text) : code->length;
	field->offset = (uint16_t) *at;
	field->length = (uint16_t) (end - *at);
	*at = end + 1;
	return true;
}

/*
 * A check of a field said no: make its place one of the whole code.
 */
static bool
fail_in(ActivationCodeError *error, ActivationCodeField field)
{
	if (error)
		error->offset += field.offset;
	return false;
}

/*
 * Take the normalised text of code apart.
 */
static bool
parse_fields(ActivationCode *code, ActivationCodeError *error)
{
	const char *text = code->text;
	ActivationCodeField field;
	size_t		at = 0;
	size_t		i;

	if (memchr(text, '$', code->length) == NULL)
	{
		if (code->length == 1 && text[0] == '1')
			return fail(error, AC_ADDRESS_MISSING, text, 0, 0);
		return fail(error, AC_NO_FIELDS, text, 0, code->length);
	}

	next_field(code, &at, &field);
	if (field.length != 1 || text[0] != '1')
		return fail(error, AC_FORMAT, text, 0, field.length);

	next_field(code, &at, &field);
	if (!check_address(text + field.offset, field.length, error))
		return fail_in(error, field);
	code->address = field;

	if (!next_field(code, &at, &field))
		return fail(error, AC_MATCHING_ID_MISSING, text, 0, 0);
	if (!check_matching_id(text + field.offset, field.length, error))
		return fail_in(error, field);
	code->matching_id = field;

	if (!next_field(code, &at, &field))
		return true;
	if (!check_oid(text + field.offset, field.length, error))
		return fail_in(error, field);
	code->smdp_oid = field;

	if (!next_field(code, &at, &field))
		return true;
	if (field.length > 1 || (field.length == 1 && text[field.offset] != '1'))
	{
		fail(error, AC_FLAG, text + field.offset, 0, field.length);
		return fail_in(error, field);
	}
	code->confirmation_required = field.length == 1;

	if (at > code->length)
		return true;
	field.offset = (uint16_t) at;
	field.length = (uint16_t) (code->length - at);
	for (i = at; i < code->length; i++)
	{
		if (text[i] <= ' ' || text[i] > '~')
		{
			fail(error, AC_REST_CHARACTER, text + at, i - at, field.length);
			return fail_in(error, field);
		}
	}
	code->rest = field;
	return true;
}

/*
 * Read an activation code from len bytes of text, not necessarily
 * zero-terminated.
 *
 * LPA: in front, in any case, blanks around and empty fields at the end are
 * taken and left out of out->text.  Gives false and says why in error (which
 * may be NULL); out is unspecified then.
 */
bool
activation_code_parse(const char *text, size_t len, ActivationCode *out,
					  ActivationCodeError *error)
{
	size_t		skipped = 0;
	size_t		dollars = 0;
	size_t		i;

	while (len > 0 && is_blank((unsigned char) text[len - 1]))
		len--;
	while (skipped < len && is_blank((unsigned char) text[skipped]))
		skipped++;
	if (has_lpa(text + skipped, len - skipped))
	{
		skipped += 4;
		if (has_lpa(text + skipped, len - skipped))
			return fail(error, AC_PREFIX_TWICE, text, 0, 0);
	}
	text += skipped;
	len -= skipped;
	if (len == 0)
		return fail(error, AC_EMPTY, text, 0, 0);

	for (i = 0; i < len; i++)
		dollars += text[i] == '$';
	while (dollars > 2 && text[len - 1] == '$')
	{
		len--;
		dollars--;
	}
	if (len > ACTIVATION_CODE_MAX_LEN)
		return fail(error, AC_TOO_LONG, text, 0, len);

	memset(out, 0, sizeof(*out));
	memcpy(out->text, text, len);
	out->length = len;
	if (!parse_fields(out, error))
	{
		if (error)
			error->offset += skipped;
		return false;
	}
	if (error)
		error->status = AC_OK;
	return true;
}

/*
 * Make an activation code of its fields, each checked on its own, so that no
 * dollar sign in one can make two of it.  Matching ID and OID may be empty.
 */
bool
activation_code_build(const char *address, size_t address_len,
					  const char *matching_id, size_t matching_id_len,
					  const char *smdp_oid, size_t smdp_oid_len,
					  bool confirmation_required, ActivationCode *out,
					  ActivationCodeError *error)
{
	char		text[ACTIVATION_CODE_MAX_LEN + 8];
	size_t		length;
	char	   *p = text;

	if (!check_address(address, address_len, error) ||
		!check_matching_id(matching_id, matching_id_len, error) ||
		!check_oid(smdp_oid, smdp_oid_len, error))
		return false;

	length = 2 + address_len + 1 + matching_id_len;
	if (smdp_oid_len > 0 || confirmation_required)
		length += 1 + smdp_oid_len;
	if (confirmation_required)
		length += 2;
	if (length > ACTIVATION_CODE_MAX_LEN)
		return fail(error, AC_TOO_LONG, text, length, length);

	*p++ = '1';
	*p++ = '$';
	memcpy(p, address, address_len);
	p += address_len;
	*p++ = '$';
	memcpy(p, matching_id, matching_id_len);
	p += matching_id_len;
	if (smdp_oid_len > 0 || confirmation_required)
	{
		*p++ = '$';
		memcpy(p, smdp_oid, smdp_oid_len);
		p += smdp_oid_len;
	}
	if (confirmation_required)
	{
		*p++ = '$';
		*p++ = '1';
	}
	return activation_code_parse(text, (size_t) (p - text), out, error);
}

/*
 * Copy a normalised code with its host in small letters; codes are equal if
 * this form is.  out holds len bytes, no terminating zero.
 */
void
activation_code_fold(const char *text, size_t len, char *out)
{
	size_t		i;

	for (i = 0; i < len && i < 2; i++)
		out[i] = text[i];
	for (; i < len && text[i] != '$'; i++)
		out[i] = to_lower(text[i]);
	if (i < len)
		memcpy(out + i, text + i, len - i);
}

/*
 * Total order of normalised codes, less than, equal to or greater than 0: byte
 * by byte, the host without regard to case.
 */
int
activation_code_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t		n = a_len < b_len ? a_len : b_len;
	bool		in_host = true;
	size_t		i;

	for (i = 0; i < n; i++)
	{
		unsigned char x = (unsigned char) (in_host ? to_lower(a[i]) : a[i]);
		unsigned char y = (unsigned char) (in_host ? to_lower(b[i]) : b[i]);

		if (x != y)
			return x < y ? -1 : 1;
		if (i >= 2 && x == '$')
			in_host = false;
	}
	return (a_len > b_len) - (a_len < b_len);
}
