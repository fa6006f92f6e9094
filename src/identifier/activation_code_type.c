/*
 * activation_code_type.c
 *		SQL type activation_code: input, output, comparison and its fields.
 */
#include "identifier.h"

#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/sortsupport.h"

#define INVALID_CODE(text, len) \
	errcode(ERRCODE_INVALID_TEXT_REPRESENTATION), \
	errmsg("invalid input syntax for type %s: \"%s\"", "activation_code", \
		   identifier_mask(text, len))

#define HINT_FORM errhint("An activation code is 1$<SM-DP+ address>$<matching ID>, perhaps with LPA: in front.")

/*
 * Say what is wrong, without showing the code.  place is the byte of text that
 * a status with a position means.
 */
static void
report_code(const char *text, size_t len, const ActivationCodeError *error, size_t place)
{
	char	   *c = place < len ? identifier_character(text, len, (int) place + 1) : "";

	switch (error->status)
	{
		case AC_OK:
			break;
		case AC_EMPTY:
			ereport(ERROR,
					(INVALID_CODE(text, len),
					 errdetail("It is empty."),
					 HINT_FORM));
			break;
		case AC_TOO_LONG:
			ereport(ERROR,
					(INVALID_CODE(text, len),
					 errdetail("It has %d characters, but at most %d are allowed.",
							   error->length, ACTIVATION_CODE_MAX_LEN)));
			break;
		case AC_PREFIX_TWICE:
			ereport(ERROR,
					(INVALID_CODE(text, len),
					 errdetail("LPA: stands in front twice.")));
			break;
		case AC_NO_FIELDS:
			ereport(ERROR,
					(INVALID_CODE(text, len),
					 errdetail("It has no fields separated by dollar signs."),
					 errhint("A matching ID alone is no activation code: esim_build_activation_code makes one of it and the SM-DP+ address.")));
			break;
		case AC_FORMAT:
			ereport(ERROR,
					(INVALID_CODE(text, len),
					 errdetail("The first field, the format, is not 1."),
					 HINT_FORM));
			break;
		case AC_ADDRESS_MISSING:
			ereport(ERROR,
					(INVALID_CODE(text, len),
					 errdetail("The SM-DP+ address is missing."),
					 HINT_FORM));
			break;
		case AC_ADDRESS_URL:
			ereport(ERROR,
					(INVALID_CODE(text, len),
					 errdetail("Character %d of the SM-DP+ address is %s.", error->position, c),
					 errhint("The address is a host name, not a URL.")));
			break;
		case AC_ADDRESS_CHARACTER:
			ereport(ERROR,
					(INVALID_CODE(text, len),
					 errdetail("Character %d of the SM-DP+ address is %s.", error->position, c),
					 errhint("The address is a host name, perhaps with a port.")));
			break;
		case AC_ADDRESS_LABEL:
			ereport(ERROR,
					(INVALID_CODE(text, len),
					 errdetail("The SM-DP+ address is no host name from character %d on.",
							   error->position),
					 errhint("Between the dots of a host name stand 1 to 63 characters that neither begin nor end with a dash.")));
			break;
		case AC_ADDRESS_PORT:
			ereport(ERROR,
					(INVALID_CODE(text, len),
					 errdetail("The port of the SM-DP+ address is not a number from 1 to 65535.")));
			break;
		case AC_MATCHING_ID_MISSING:
			ereport(ERROR,
					(INVALID_CODE(text, len),
					 errdetail("There is no dollar sign behind the SM-DP+ address."),
					 errhint("The matching ID may be empty, its dollar sign may not be left out.")));
			break;
		case AC_MATCHING_ID_CHARACTER:
			ereport(ERROR,
					(INVALID_CODE(text, len),
					 errdetail("Character %d of the matching ID is %s.", error->position, c),
					 errhint("A matching ID has letters, digits and dashes.")));
			break;
		case AC_OID:
			ereport(ERROR,
					(INVALID_CODE(text, len),
					 errdetail("The SM-DP+ OID is no object identifier from character %d on.",
							   error->position),
					 errhint("An object identifier is numbers with dots between them, such as 1.3.6.1.4.1.31746.")));
			break;
		case AC_FLAG:
			ereport(ERROR,
					(INVALID_CODE(text, len),
					 errdetail("The fifth field, the confirmation code flag, is neither 1 nor empty.")));
			break;
		case AC_REST_CHARACTER:
			ereport(ERROR,
					(INVALID_CODE(text, len),
					 errdetail("Character %d of what stands behind the fifth field is %s.",
							   error->position, c)));
			break;
	}
	elog(ERROR, "unexpected activation code status: %d", (int) error->status);
}

/*
 * Make a Datum of a parsed code.
 */
Datum
activation_code_datum(const ActivationCode *code)
{
	return PointerGetDatum(cstring_to_text_with_len(code->text, (int) code->length));
}

/*
 * Read an activation code from text in the database encoding, or raise 22P02.
 */
Datum
activation_code_from_text(const char *text, size_t len)
{
	ActivationCode code;
	ActivationCodeError error;

	if (!activation_code_parse(text, len, &code, &error))
		report_code(text, len, &error, error.offset);
	return activation_code_datum(&code);
}

/*
 * Take a Datum apart.  What is stored has been read once; were it not so, it
 * is an error of ours.
 */
void
activation_code_take_apart(Datum code, ActivationCode *out)
{
	text	   *t = DatumGetTextPP(code);

	if (!activation_code_parse(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t), out, NULL))
		elog(ERROR, "stored activation code is malformed");
}

PG_FUNCTION_INFO_V1(esim_activation_code_in);
Datum
esim_activation_code_in(PG_FUNCTION_ARGS)
{
	char	   *text = PG_GETARG_CSTRING(0);

	return activation_code_from_text(text, strlen(text));
}

PG_FUNCTION_INFO_V1(esim_activation_code_out);
Datum
esim_activation_code_out(PG_FUNCTION_ARGS)
{
	PG_RETURN_CSTRING(TextDatumGetCString(PG_GETARG_DATUM(0)));
}

/*
 * Binary input: the text.
 */
PG_FUNCTION_INFO_V1(esim_activation_code_recv);
Datum
esim_activation_code_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	char	   *text;
	int			len;

	text = pq_getmsgtext(buf, buf->len - buf->cursor, &len);
	return activation_code_from_text(text, len);
}

PG_FUNCTION_INFO_V1(esim_activation_code_send);
Datum
esim_activation_code_send(PG_FUNCTION_ARGS)
{
	text	   *t = PG_GETARG_TEXT_PP(0);
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendtext(&buf, VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}

PG_FUNCTION_INFO_V1(esim_activation_code_from_text);
Datum
esim_activation_code_from_text(PG_FUNCTION_ARGS)
{
	text	   *t = PG_GETARG_TEXT_PP(0);

	return activation_code_from_text(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
}

/*
 * Comparison: the host without regard to case, all else byte by byte.
 */
static int
compare_codes(Datum x, Datum y)
{
	text	   *a = DatumGetTextPP(x);
	text	   *b = DatumGetTextPP(y);
	int			result;

	result = activation_code_compare(VARDATA_ANY(a), VARSIZE_ANY_EXHDR(a),
									 VARDATA_ANY(b), VARSIZE_ANY_EXHDR(b));
	if ((Pointer) a != DatumGetPointer(x))
		pfree(a);
	if ((Pointer) b != DatumGetPointer(y))
		pfree(b);
	return result;
}

#define COMPARE_ARGS() compare_codes(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1))

PG_FUNCTION_INFO_V1(esim_activation_code_eq);
Datum
esim_activation_code_eq(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(COMPARE_ARGS() == 0);
}

PG_FUNCTION_INFO_V1(esim_activation_code_ne);
Datum
esim_activation_code_ne(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(COMPARE_ARGS() != 0);
}

PG_FUNCTION_INFO_V1(esim_activation_code_lt);
Datum
esim_activation_code_lt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(COMPARE_ARGS() < 0);
}

PG_FUNCTION_INFO_V1(esim_activation_code_le);
Datum
esim_activation_code_le(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(COMPARE_ARGS() <= 0);
}

PG_FUNCTION_INFO_V1(esim_activation_code_gt);
Datum
esim_activation_code_gt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(COMPARE_ARGS() > 0);
}

PG_FUNCTION_INFO_V1(esim_activation_code_ge);
Datum
esim_activation_code_ge(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(COMPARE_ARGS() >= 0);
}

PG_FUNCTION_INFO_V1(esim_activation_code_cmp);
Datum
esim_activation_code_cmp(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(COMPARE_ARGS());
}

static int
activation_code_sort_compare(Datum x, Datum y, SortSupport ssup)
{
	return compare_codes(x, y);
}

PG_FUNCTION_INFO_V1(esim_activation_code_sortsupport);
Datum
esim_activation_code_sortsupport(PG_FUNCTION_ARGS)
{
	((SortSupport) PG_GETARG_POINTER(0))->comparator = activation_code_sort_compare;
	PG_RETURN_VOID();
}

/*
 * The form that is equal for equal codes, for the hash functions.
 */
static int
folded_code(Datum code, unsigned char out[ACTIVATION_CODE_MAX_LEN])
{
	text	   *t = DatumGetTextPP(code);
	int			len = Min(VARSIZE_ANY_EXHDR(t), ACTIVATION_CODE_MAX_LEN);

	activation_code_fold(VARDATA_ANY(t), len, (char *) out);
	if ((Pointer) t != DatumGetPointer(code))
		pfree(t);
	return len;
}

PG_FUNCTION_INFO_V1(esim_activation_code_hash);
Datum
esim_activation_code_hash(PG_FUNCTION_ARGS)
{
	unsigned char folded[ACTIVATION_CODE_MAX_LEN];
	int			len = folded_code(PG_GETARG_DATUM(0), folded);

	return hash_any(folded, len);
}

PG_FUNCTION_INFO_V1(esim_activation_code_hash_extended);
Datum
esim_activation_code_hash_extended(PG_FUNCTION_ARGS)
{
	unsigned char folded[ACTIVATION_CODE_MAX_LEN];
	int			len = folded_code(PG_GETARG_DATUM(0), folded);

	return hash_any_extended(folded, len, PG_GETARG_INT64(1));
}

/*
 * Make a code of its fields.  Without an address NULL, so that it can be
 * called on rows where the address is not known yet; other NULLs are the
 * defaults.
 */
PG_FUNCTION_INFO_V1(esim_build_activation_code);
Datum
esim_build_activation_code(PG_FUNCTION_ARGS)
{
	const char *part[3] = {"", "", ""};
	size_t		len[3] = {0, 0, 0};
	bool		confirmation_required = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
	ActivationCode code;
	ActivationCodeError error;
	int			i;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	for (i = 0; i < 3; i++)
	{
		text	   *t;

		if (PG_ARGISNULL(i))
			continue;
		t = PG_GETARG_TEXT_PP(i);
		part[i] = VARDATA_ANY(t);
		len[i] = VARSIZE_ANY_EXHDR(t);
	}

	if (!activation_code_build(part[0], len[0], part[1], len[1], part[2], len[2],
							   confirmation_required, &code, &error))
	{
		/* the field at fault is the text that the message is about */
		switch (error.status)
		{
			case AC_MATCHING_ID_CHARACTER:
				i = 1;
				break;
			case AC_OID:
				i = 2;
				break;
			default:
				i = 0;
				break;
		}
		report_code(part[i], len[i], &error, error.offset);
	}
	return activation_code_datum(&code);
}

static Datum
field_text(const ActivationCode *code, ActivationCodeField field)
{
	return PointerGetDatum(cstring_to_text_with_len(code->text + field.offset, field.length));
}

PG_FUNCTION_INFO_V1(esim_ac_smdp_address);
Datum
esim_ac_smdp_address(PG_FUNCTION_ARGS)
{
	ActivationCode code;

	activation_code_take_apart(PG_GETARG_DATUM(0), &code);
	return field_text(&code, code.address);
}

PG_FUNCTION_INFO_V1(esim_ac_matching_id);
Datum
esim_ac_matching_id(PG_FUNCTION_ARGS)
{
	ActivationCode code;

	activation_code_take_apart(PG_GETARG_DATUM(0), &code);
	return field_text(&code, code.matching_id);
}

PG_FUNCTION_INFO_V1(esim_ac_smdp_oid);
Datum
esim_ac_smdp_oid(PG_FUNCTION_ARGS)
{
	ActivationCode code;

	activation_code_take_apart(PG_GETARG_DATUM(0), &code);
	if (code.smdp_oid.length == 0)
		PG_RETURN_NULL();
	return field_text(&code, code.smdp_oid);
}

PG_FUNCTION_INFO_V1(esim_ac_confirmation_required);
Datum
esim_ac_confirmation_required(PG_FUNCTION_ARGS)
{
	ActivationCode code;

	activation_code_take_apart(PG_GETARG_DATUM(0), &code);
	PG_RETURN_BOOL(code.confirmation_required);
}

/*
 * The form for QR codes and links.
 */
PG_FUNCTION_INFO_V1(esim_ac_lpa);
Datum
esim_ac_lpa(PG_FUNCTION_ARGS)
{
	text	   *t = PG_GETARG_TEXT_PP(0);

	PG_RETURN_TEXT_P(cstring_to_text(psprintf(ACTIVATION_CODE_LPA "%.*s",
											  (int) VARSIZE_ANY_EXHDR(t), VARDATA_ANY(t))));
}
