/*
 * eid_type.c
 *		SQL type eid: input, output and comparison.
 */
#include "identifier.h"

#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "utils/builtins.h"
#include "utils/sortsupport.h"

#define INVALID_EID(text, len) \
	errcode(ERRCODE_INVALID_TEXT_REPRESENTATION), \
	errmsg("invalid input syntax for type %s: \"%s\"", "eid", identifier_mask(text, len))

/*
 * Say what is wrong with this number.
 */
static void
report_eid(const char *text, size_t len, const EidError *error)
{
	switch (error->status)
	{
		case EID_OK:
			break;
		case EID_EMPTY:
			ereport(ERROR,
					(INVALID_EID(text, len),
					 errdetail("It has no digits.")));
			break;
		case EID_LENGTH:
			ereport(ERROR,
					(INVALID_EID(text, len),
					 errdetail_plural("It has %d digit.", "It has %d digits.",
									  error->length, error->length),
					 errhint("An EID has %d digits.", EID_LEN)));
			break;
		case EID_CHARACTER:
			ereport(ERROR,
					(INVALID_EID(text, len),
					 errdetail("Character %d is %s.", error->position,
							   identifier_character(text, len, error->position)),
					 errhint("An EID has digits only; blanks and dashes are passed over.")));
			break;
		case EID_CHECK_DIGITS:
			ereport(ERROR,
					(INVALID_EID(text, len),
					 errdetail("The last two digits are %s, but the check digits of the %d digits before them are %s.",
							   error->given, EID_LEN - 2, error->expected),
					 errhint("Look for a typing error. To take an EID with other check digits, as in some documents' examples, SET esim.check_digits = off.")));
			break;
	}
	elog(ERROR, "unexpected eid status: %d", (int) error->status);
}

/*
 * Read an EID from text in the database encoding, or raise 22P02.  Palloc'd.
 */
Eid *
eid_from_text(const char *text, size_t len, bool check)
{
	Eid		   *v = palloc(sizeof(Eid));
	EidError	error;

	if (!eid_parse(text, len, check, v, &error))
		report_eid(text, len, &error);
	return v;
}

PG_FUNCTION_INFO_V1(esim_eid_in);
Datum
esim_eid_in(PG_FUNCTION_ARGS)
{
	char	   *text = PG_GETARG_CSTRING(0);

	PG_RETURN_EID_P(eid_from_text(text, strlen(text), identifier_checked(PG_GETARG_INT32(2))));
}

PG_FUNCTION_INFO_V1(esim_eid_out);
Datum
esim_eid_out(PG_FUNCTION_ARGS)
{
	char	   *out = palloc(EID_TEXT_SIZE);

	eid_format(PG_GETARG_EID_P(0), out);
	PG_RETURN_CSTRING(out);
}

/*
 * Binary input: the 16 octets of the ASN.1 form.
 */
PG_FUNCTION_INFO_V1(esim_eid_recv);
Datum
esim_eid_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	const uint8 *octets = (const uint8 *) pq_getmsgbytes(buf, EID_SIZE);
	Eid		   *v = palloc(sizeof(Eid));

	if (!eid_from_octets(octets, v))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("invalid external \"%s\" value", "eid"),
				 errdetail("These are not %d octets of two digits each.", EID_SIZE)));
	if (identifier_checked(PG_GETARG_INT32(2)) && !eid_check(v))
	{
		char		text[EID_TEXT_SIZE];

		eid_format(v, text);
		eid_from_text(text, EID_LEN, true);
	}
	PG_RETURN_EID_P(v);
}

PG_FUNCTION_INFO_V1(esim_eid_send);
Datum
esim_eid_send(PG_FUNCTION_ARGS)
{
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendbytes(&buf, (const char *) PG_GETARG_EID_P(0)->octet, EID_SIZE);
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}

PG_FUNCTION_INFO_V1(esim_eid_typmod_in);
Datum
esim_eid_typmod_in(PG_FUNCTION_ARGS)
{
	return identifier_typmod_in("eid", PG_GETARG_ARRAYTYPE_P(0));
}

PG_FUNCTION_INFO_V1(esim_eid_typmod_out);
Datum
esim_eid_typmod_out(PG_FUNCTION_ARGS)
{
	return identifier_typmod_out(PG_GETARG_INT32(0));
}

/*
 * Cast to a type modifier: the value stays, whatever its check digits.
 */
PG_FUNCTION_INFO_V1(esim_eid_typmod);
Datum
esim_eid_typmod(PG_FUNCTION_ARGS)
{
	return PG_GETARG_DATUM(0);
}

/*
 * Cast from text, with the type modifier of the target.
 */
PG_FUNCTION_INFO_V1(esim_eid_from_text);
Datum
esim_eid_from_text(PG_FUNCTION_ARGS)
{
	text	   *t = PG_GETARG_TEXT_PP(0);

	PG_RETURN_EID_P(eid_from_text(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t),
								  identifier_checked(PG_GETARG_INT32(1))));
}

PG_FUNCTION_INFO_V1(esim_eid_to_text);
Datum
esim_eid_to_text(PG_FUNCTION_ARGS)
{
	char		out[EID_TEXT_SIZE];

	eid_format(PG_GETARG_EID_P(0), out);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out, EID_LEN));
}

/*
 * Comparison.  None of these raises an error: they are LEAKPROOF, so that
 * indexes serve beneath row-level security.
 */
PG_FUNCTION_INFO_V1(esim_eid_eq);
Datum
esim_eid_eq(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(eid_compare(PG_GETARG_EID_P(0), PG_GETARG_EID_P(1)) == 0);
}

PG_FUNCTION_INFO_V1(esim_eid_ne);
Datum
esim_eid_ne(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(eid_compare(PG_GETARG_EID_P(0), PG_GETARG_EID_P(1)) != 0);
}

PG_FUNCTION_INFO_V1(esim_eid_lt);
Datum
esim_eid_lt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(eid_compare(PG_GETARG_EID_P(0), PG_GETARG_EID_P(1)) < 0);
}

PG_FUNCTION_INFO_V1(esim_eid_le);
Datum
esim_eid_le(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(eid_compare(PG_GETARG_EID_P(0), PG_GETARG_EID_P(1)) <= 0);
}

PG_FUNCTION_INFO_V1(esim_eid_gt);
Datum
esim_eid_gt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(eid_compare(PG_GETARG_EID_P(0), PG_GETARG_EID_P(1)) > 0);
}

PG_FUNCTION_INFO_V1(esim_eid_ge);
Datum
esim_eid_ge(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(eid_compare(PG_GETARG_EID_P(0), PG_GETARG_EID_P(1)) >= 0);
}

PG_FUNCTION_INFO_V1(esim_eid_cmp);
Datum
esim_eid_cmp(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(eid_compare(PG_GETARG_EID_P(0), PG_GETARG_EID_P(1)));
}

PG_FUNCTION_INFO_V1(esim_eid_smaller);
Datum
esim_eid_smaller(PG_FUNCTION_ARGS)
{
	Eid		   *a = PG_GETARG_EID_P(0);
	Eid		   *b = PG_GETARG_EID_P(1);

	PG_RETURN_EID_P(eid_compare(a, b) <= 0 ? a : b);
}

PG_FUNCTION_INFO_V1(esim_eid_larger);
Datum
esim_eid_larger(PG_FUNCTION_ARGS)
{
	Eid		   *a = PG_GETARG_EID_P(0);
	Eid		   *b = PG_GETARG_EID_P(1);

	PG_RETURN_EID_P(eid_compare(a, b) >= 0 ? a : b);
}

static int
eid_sort_compare(Datum x, Datum y, SortSupport ssup)
{
	return eid_compare(DatumGetEidP(x), DatumGetEidP(y));
}

/*
 * Sort support, without abbreviated keys: the EIDs of one fleet differ behind
 * the digits that a key of 8 bytes could hold.
 */
PG_FUNCTION_INFO_V1(esim_eid_sortsupport);
Datum
esim_eid_sortsupport(PG_FUNCTION_ARGS)
{
	((SortSupport) PG_GETARG_POINTER(0))->comparator = eid_sort_compare;
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(esim_eid_hash);
Datum
esim_eid_hash(PG_FUNCTION_ARGS)
{
	return hash_any(PG_GETARG_EID_P(0)->octet, EID_SIZE);
}

PG_FUNCTION_INFO_V1(esim_eid_hash_extended);
Datum
esim_eid_hash_extended(PG_FUNCTION_ARGS)
{
	return hash_any_extended(PG_GETARG_EID_P(0)->octet, EID_SIZE, PG_GETARG_INT64(1));
}

/*
 * Is this text an EID with the right check digits, whatever the setting?
 */
PG_FUNCTION_INFO_V1(esim_eid_valid);
Datum
esim_eid_valid(PG_FUNCTION_ARGS)
{
	text	   *t = PG_GETARG_TEXT_PP(0);
	Eid			v;

	PG_RETURN_BOOL(eid_parse(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t), true, &v, NULL));
}

/*
 * The two check digits that belong behind the first 30 digits of an EID.
 * Anything else than 30 digits is 22P02.
 */
PG_FUNCTION_INFO_V1(esim_eid_check_digits);
Datum
esim_eid_check_digits(PG_FUNCTION_ARGS)
{
	text	   *t = PG_GETARG_TEXT_PP(0);
	const char *s = VARDATA_ANY(t);
	size_t		len = VARSIZE_ANY_EXHDR(t);
	char		digits[EID_LEN - 2];
	int			n = 0;
	size_t		i;
	char		check_digits[3];

	for (i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) s[i];

		if (c >= '0' && c <= '9')
		{
			if (n < EID_LEN - 2)
				digits[n] = (char) c;
			n++;
		}
		else if (c != ' ' && (c < '\t' || c > '\r') && c != '-')
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
					 errmsg("invalid EID without check digits: \"%s\"", identifier_mask(s, len)),
					 errdetail("Character %d is %s.", (int) i + 1,
							   identifier_character(s, len, (int) i + 1))));
	}
	if (n != EID_LEN - 2)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("invalid EID without check digits: \"%s\"", identifier_mask(s, len)),
				 errdetail_plural("It has %d digit.", "It has %d digits.", n, n),
				 errhint("An EID without its check digits has %d digits.", EID_LEN - 2)));

	eid_check_digits(digits, check_digits);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(check_digits, 2));
}
