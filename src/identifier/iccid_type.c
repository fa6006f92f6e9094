/*
 * iccid_type.c
 *		SQL type iccid: input, output, comparison and the form on the card.
 */
#include "identifier.h"

#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/sortsupport.h"

#define INVALID_ICCID(text, len) \
	errcode(ERRCODE_INVALID_TEXT_REPRESENTATION), \
	errmsg("invalid input syntax for type %s: \"%s\"", "iccid", identifier_mask(text, len))

/*
 * Say what is wrong with this number.
 */
static void
report_iccid(const char *text, size_t len, const IccidError *error)
{
	switch (error->status)
	{
		case ICCID_OK:
			break;
		case ICCID_EMPTY:
			ereport(ERROR,
					(INVALID_ICCID(text, len),
					 errdetail("It has no digits.")));
			break;
		case ICCID_LENGTH:
			ereport(ERROR,
					(INVALID_ICCID(text, len),
					 errdetail_plural("It has %d digit.", "It has %d digits.",
									  error->length, error->length),
					 errhint("An ICCID has %d to %d digits, the check digit included.",
							 ICCID_MIN_LEN, ICCID_MAX_LEN)));
			break;
		case ICCID_CHARACTER:
			ereport(ERROR,
					(INVALID_ICCID(text, len),
					 errdetail("Character %d is %s.", error->position,
							   identifier_character(text, len, error->position)),
					 errhint("An ICCID has digits only; blanks, dashes and a trailing F are passed over.")));
			break;
		case ICCID_HEXADECIMAL:
			ereport(ERROR,
					(INVALID_ICCID(text, len),
					 errdetail("Character %d is %s: this is a hexadecimal ICCID, as some operators use (898600...).",
							   error->position,
							   identifier_character(text, len, error->position)),
					 errhint("Type iccid takes decimal ICCIDs only; keep this one in a text column.")));
			break;
		case ICCID_PADDING:
			ereport(ERROR,
					(INVALID_ICCID(text, len),
					 errdetail("With the F behind its %d digits it has %d places.",
							   error->length, error->length + error->padding),
					 errhint("F fills an ICCID up to %d places.", ICCID_MAX_LEN)));
			break;
		case ICCID_PREFIX:
			ereport(ERROR,
					(INVALID_ICCID(text, len),
					 errdetail("It does not begin with 89.")));
			break;
		case ICCID_SWAPPED:
			ereport(ERROR,
					(INVALID_ICCID(text, len),
					 errdetail("It begins with 98, not 89, as if its digits were swapped in pairs."),
					 errhint("The form on the card, a bytea of %d octets, is read by esim_iccid_from_card.",
							 ICCID_CARD_SIZE)));
			break;
		case ICCID_CHECK_DIGIT:
			ereport(ERROR,
					(INVALID_ICCID(text, len),
					 errdetail("The last digit is %c, but the Luhn check digit of the digits before it is %c.",
							   error->character, error->expected),
					 errhint("Look for a typing error. If the issuer gives numbers without a check digit, SET esim.check_digits = off.")));
			break;
	}
	elog(ERROR, "unexpected iccid status: %d", (int) error->status);
}

/*
 * Read an ICCID from text in the database encoding, or raise 22P02.
 */
Iccid
iccid_from_text(const char *text, size_t len, bool check)
{
	Iccid		v = ICCID_INVALID;
	IccidError	error;

	if (!iccid_parse(text, len, check, &v, &error))
		report_iccid(text, len, &error);
	return v;
}

PG_FUNCTION_INFO_V1(esim_iccid_in);
Datum
esim_iccid_in(PG_FUNCTION_ARGS)
{
	char	   *text = PG_GETARG_CSTRING(0);

	PG_RETURN_ICCID(iccid_from_text(text, strlen(text), identifier_checked(PG_GETARG_INT32(2))));
}

PG_FUNCTION_INFO_V1(esim_iccid_out);
Datum
esim_iccid_out(PG_FUNCTION_ARGS)
{
	char	   *out = palloc(ICCID_TEXT_SIZE);

	iccid_format(PG_GETARG_ICCID(0), out);
	PG_RETURN_CSTRING(out);
}

/*
 * Binary input: the 10 octets of the form on the card.
 */
PG_FUNCTION_INFO_V1(esim_iccid_recv);
Datum
esim_iccid_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	const uint8 *octets = (const uint8 *) pq_getmsgbytes(buf, ICCID_CARD_SIZE);
	Iccid		v;

	if (!iccid_from_card(octets, &v))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("invalid external \"%s\" value", "iccid"),
				 errdetail("These are not %d octets as an ICCID has on the card.",
						   ICCID_CARD_SIZE)));
	if (identifier_checked(PG_GETARG_INT32(2)) && !iccid_check(v))
	{
		char		text[ICCID_TEXT_SIZE];
		int			len = iccid_format(v, text);

		iccid_from_text(text, len, true);
	}
	PG_RETURN_ICCID(v);
}

PG_FUNCTION_INFO_V1(esim_iccid_send);
Datum
esim_iccid_send(PG_FUNCTION_ARGS)
{
	StringInfoData buf;
	uint8		octets[ICCID_CARD_SIZE];

	iccid_to_card(PG_GETARG_ICCID(0), octets);
	pq_begintypsend(&buf);
	pq_sendbytes(&buf, (const char *) octets, ICCID_CARD_SIZE);
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}

PG_FUNCTION_INFO_V1(esim_iccid_typmod_in);
Datum
esim_iccid_typmod_in(PG_FUNCTION_ARGS)
{
	return identifier_typmod_in("iccid", PG_GETARG_ARRAYTYPE_P(0));
}

PG_FUNCTION_INFO_V1(esim_iccid_typmod_out);
Datum
esim_iccid_typmod_out(PG_FUNCTION_ARGS)
{
	return identifier_typmod_out(PG_GETARG_INT32(0));
}

/*
 * Cast to a type modifier: the value stays, whatever its check digit.
 */
PG_FUNCTION_INFO_V1(esim_iccid_typmod);
Datum
esim_iccid_typmod(PG_FUNCTION_ARGS)
{
	return PG_GETARG_DATUM(0);
}

/*
 * Cast from text, with the type modifier of the target.
 */
PG_FUNCTION_INFO_V1(esim_iccid_from_text);
Datum
esim_iccid_from_text(PG_FUNCTION_ARGS)
{
	text	   *t = PG_GETARG_TEXT_PP(0);

	PG_RETURN_ICCID(iccid_from_text(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t),
									identifier_checked(PG_GETARG_INT32(1))));
}

PG_FUNCTION_INFO_V1(esim_iccid_to_text);
Datum
esim_iccid_to_text(PG_FUNCTION_ARGS)
{
	char		out[ICCID_TEXT_SIZE];
	int			len = iccid_format(PG_GETARG_ICCID(0), out);

	PG_RETURN_TEXT_P(cstring_to_text_with_len(out, len));
}

/*
 * Comparison.  None of these raises an error: they are LEAKPROOF, so that
 * indexes serve beneath row-level security.
 */
PG_FUNCTION_INFO_V1(esim_iccid_eq);
Datum
esim_iccid_eq(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(PG_GETARG_ICCID(0) == PG_GETARG_ICCID(1));
}

PG_FUNCTION_INFO_V1(esim_iccid_ne);
Datum
esim_iccid_ne(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(PG_GETARG_ICCID(0) != PG_GETARG_ICCID(1));
}

PG_FUNCTION_INFO_V1(esim_iccid_lt);
Datum
esim_iccid_lt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(PG_GETARG_ICCID(0) < PG_GETARG_ICCID(1));
}

PG_FUNCTION_INFO_V1(esim_iccid_le);
Datum
esim_iccid_le(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(PG_GETARG_ICCID(0) <= PG_GETARG_ICCID(1));
}

PG_FUNCTION_INFO_V1(esim_iccid_gt);
Datum
esim_iccid_gt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(PG_GETARG_ICCID(0) > PG_GETARG_ICCID(1));
}

PG_FUNCTION_INFO_V1(esim_iccid_ge);
Datum
esim_iccid_ge(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(PG_GETARG_ICCID(0) >= PG_GETARG_ICCID(1));
}

PG_FUNCTION_INFO_V1(esim_iccid_cmp);
Datum
esim_iccid_cmp(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(iccid_compare(PG_GETARG_ICCID(0), PG_GETARG_ICCID(1)));
}

PG_FUNCTION_INFO_V1(esim_iccid_smaller);
Datum
esim_iccid_smaller(PG_FUNCTION_ARGS)
{
	PG_RETURN_ICCID(Min(PG_GETARG_ICCID(0), PG_GETARG_ICCID(1)));
}

PG_FUNCTION_INFO_V1(esim_iccid_larger);
Datum
esim_iccid_larger(PG_FUNCTION_ARGS)
{
	PG_RETURN_ICCID(Max(PG_GETARG_ICCID(0), PG_GETARG_ICCID(1)));
}

#if SIZEOF_DATUM < 8
static int
iccid_sort_compare(Datum x, Datum y, SortSupport ssup)
{
	return iccid_compare(DatumGetIccid(x), DatumGetIccid(y));
}
#endif

/*
 * Sort support.  Values are below 2^62, so the comparator of bigint orders
 * them; tuplesort knows it and compares inline.
 */
PG_FUNCTION_INFO_V1(esim_iccid_sortsupport);
Datum
esim_iccid_sortsupport(PG_FUNCTION_ARGS)
{
	SortSupport ssup = (SortSupport) PG_GETARG_POINTER(0);

#if SIZEOF_DATUM >= 8
	ssup->comparator = ssup_datum_signed_cmp;
#else
	ssup->comparator = iccid_sort_compare;
#endif
	PG_RETURN_VOID();
}

/*
 * Hash.  The number is put in one byte order first, so that hash partitions
 * mean the same on every machine.
 */
PG_FUNCTION_INFO_V1(esim_iccid_hash);
Datum
esim_iccid_hash(PG_FUNCTION_ARGS)
{
	uint64		v = pg_hton64(PG_GETARG_ICCID(0));

	return hash_any((const unsigned char *) &v, sizeof(v));
}

PG_FUNCTION_INFO_V1(esim_iccid_hash_extended);
Datum
esim_iccid_hash_extended(PG_FUNCTION_ARGS)
{
	uint64		v = pg_hton64(PG_GETARG_ICCID(0));

	return hash_any_extended((const unsigned char *) &v, sizeof(v), PG_GETARG_INT64(1));
}

/*
 * Is this text an ICCID with the right check digit, whatever the setting?
 */
PG_FUNCTION_INFO_V1(esim_iccid_valid);
Datum
esim_iccid_valid(PG_FUNCTION_ARGS)
{
	text	   *t = PG_GETARG_TEXT_PP(0);
	Iccid		v;

	PG_RETURN_BOOL(iccid_parse(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t), true, &v, NULL));
}

/*
 * The Luhn digit that belongs behind the 17 to 19 digits of an ICCID without
 * one.  Anything else is 22P02.
 */
PG_FUNCTION_INFO_V1(esim_iccid_check_digit);
Datum
esim_iccid_check_digit(PG_FUNCTION_ARGS)
{
	text	   *t = PG_GETARG_TEXT_PP(0);
	const char *s = VARDATA_ANY(t);
	size_t		len = VARSIZE_ANY_EXHDR(t);
	char		digits[ICCID_MAX_LEN];
	int			n = 0;
	size_t		i;
	char		check_digit;

	for (i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) s[i];

		if (c >= '0' && c <= '9')
		{
			if (n < ICCID_MAX_LEN)
				digits[n] = (char) c;
			n++;
		}
		else if (c != ' ' && (c < '\t' || c > '\r') && c != '-')
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
					 errmsg("invalid ICCID without check digit: \"%s\"", identifier_mask(s, len)),
					 errdetail("Character %d is %s.", (int) i + 1,
							   identifier_character(s, len, (int) i + 1))));
	}
	if (n < ICCID_MIN_LEN - 1 || n > ICCID_MAX_LEN - 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("invalid ICCID without check digit: \"%s\"", identifier_mask(s, len)),
				 errdetail_plural("It has %d digit.", "It has %d digits.", n, n),
				 errhint("An ICCID without its check digit has %d to %d digits.",
						 ICCID_MIN_LEN - 1, ICCID_MAX_LEN - 1)));
	if (memcmp(digits, "89", 2) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("invalid ICCID without check digit: \"%s\"", identifier_mask(s, len)),
				 errdetail("It does not begin with 89.")));

	check_digit = iccid_luhn(digits, n);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(&check_digit, 1));
}

/*
 * The 10 octets of EF.ICCID.
 */
PG_FUNCTION_INFO_V1(esim_iccid_to_card);
Datum
esim_iccid_to_card(PG_FUNCTION_ARGS)
{
	bytea	   *out = palloc(VARHDRSZ + ICCID_CARD_SIZE);

	SET_VARSIZE(out, VARHDRSZ + ICCID_CARD_SIZE);
	iccid_to_card(PG_GETARG_ICCID(0), (uint8 *) VARDATA(out));
	PG_RETURN_BYTEA_P(out);
}

/*
 * Read the 10 octets of EF.ICCID; the check digit is not looked at.
 */
PG_FUNCTION_INFO_V1(esim_iccid_from_card);
Datum
esim_iccid_from_card(PG_FUNCTION_ARGS)
{
	bytea	   *in = PG_GETARG_BYTEA_PP(0);
	size_t		len = VARSIZE_ANY_EXHDR(in);
	Iccid		v;

	if (len != ICCID_CARD_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("invalid ICCID in the form on the card"),
				 errdetail_plural("It has %d octet.", "It has %d octets.",
								  (int) len, (int) len),
				 errhint("EF.ICCID has %d octets; a shorter read is a fault of the reader.",
						 ICCID_CARD_SIZE)));
	if (!iccid_from_card((const uint8 *) VARDATA_ANY(in), &v))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("invalid ICCID in the form on the card"),
				 errdetail("The half octets, each pair swapped, are not 89, more digits to 18 to 20 in all, and F behind them.")));
	PG_RETURN_ICCID(v);
}
