/*
 * qr_type.c
 *		QR codes of activation codes in SQL: text, SVG and PNG.
 */
#include "identifier.h"

#include <stdlib.h>

#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "qr.h"

/* the extension's class ES; DETAIL begins with the code */
#define ERRCODE_ARGUMENT MAKE_SQLSTATE('E','S','4','0','0')

/*
 * The symbol of a code's LPA: form.  Palloc'd.
 */
static QrCode *
encode_code(Datum code, char level)
{
	text	   *t = DatumGetTextPP(code);
	char	   *lpa = psprintf(ACTIVATION_CODE_LPA "%.*s", (int) VARSIZE_ANY_EXHDR(t),
							   VARDATA_ANY(t));
	QrCode	   *symbol = palloc(sizeof(QrCode));

	switch (qr_encode(lpa, level, symbol))
	{
		case QR_OK:
			break;
		case QR_TOO_LONG:
			elog(ERROR, "activation code does not fit into a QR code");
			break;
		case QR_NO_MEMORY:
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory")));
	}
	pfree(lpa);
	return symbol;
}

static int
module_argument(int32 module)
{
	if (module < 1 || module > QR_MAX_MODULE)
		ereport(ERROR,
				(errcode(ERRCODE_ARGUMENT),
				 errmsg("module size is out of range: %d", module),
				 errdetail("OUT_OF_RANGE: A module of a QR code has 1 to %d pixels a side.",
						   QR_MAX_MODULE),
				 errhint("The default is 4.")));
	return module;
}

static char
level_argument(text *level)
{
	const char *s = VARDATA_ANY(level);
	int			len = VARSIZE_ANY_EXHDR(level);

	if (len != 1 || !qr_level_valid(s[0]))
		ereport(ERROR,
				(errcode(ERRCODE_ARGUMENT),
				 errmsg("invalid error correction level \"%.*s\"",
						pg_mbcliplen(s, len, 40), s),
				 errdetail("INVALID_ARGUMENT: QR codes have four levels of error correction."),
				 errhint("They are L (7 %%), M (15 %%), Q (25 %%) and H (30 %%).")));
	return s[0];
}

/*
 * esim_qr(code activation_code, inverse boolean)
 *
 * The QR code in block characters, for a terminal.
 */
PG_FUNCTION_INFO_V1(esim_qr);
Datum
esim_qr(PG_FUNCTION_ARGS)
{
	QrCode	   *symbol = encode_code(PG_GETARG_DATUM(0), 'M');
	char	   *out = palloc(qr_text_size(symbol));
	size_t		length = qr_text(symbol, PG_GETARG_BOOL(1), out);
	char	   *converted;

	/* raises an error where the database's encoding has no blocks */
	converted = pg_any_to_server(out, (int) length, PG_UTF8);
	PG_RETURN_TEXT_P(cstring_to_text(converted));
}

/*
 * esim_qr_svg(code activation_code, module int, level text)
 *
 * Errors: INVALID_ARGUMENT, OUT_OF_RANGE.
 */
PG_FUNCTION_INFO_V1(esim_qr_svg);
Datum
esim_qr_svg(PG_FUNCTION_ARGS)
{
	int			module = module_argument(PG_GETARG_INT32(1));
	char		level = level_argument(PG_GETARG_TEXT_PP(2));
	QrCode	   *symbol = encode_code(PG_GETARG_DATUM(0), level);
	char	   *out = palloc(qr_svg_size(symbol));
	size_t		length = qr_svg(symbol, module, out);

	PG_RETURN_TEXT_P(cstring_to_text_with_len(out, (int) length));
}

/*
 * esim_qr_png(code activation_code, module int, level text)
 *
 * Errors: INVALID_ARGUMENT, OUT_OF_RANGE.
 */
PG_FUNCTION_INFO_V1(esim_qr_png);
Datum
esim_qr_png(PG_FUNCTION_ARGS)
{
	int			module = module_argument(PG_GETARG_INT32(1));
	char		level = level_argument(PG_GETARG_TEXT_PP(2));
	QrCode	   *symbol = encode_code(PG_GETARG_DATUM(0), level);
	unsigned char *data;
	size_t		length;
	bytea	   *result = NULL;

	if (qr_png(symbol, module, &data, &length) == QR_OK)
	{
		/* an error here would leave what libpng has made */
		result = palloc_extended(VARHDRSZ + length, MCXT_ALLOC_NO_OOM);
		if (result != NULL)
		{
			SET_VARSIZE(result, VARHDRSZ + length);
			memcpy(VARDATA(result), data, length);
		}
		free(data);
	}
	if (result == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	PG_RETURN_BYTEA_P(result);
}
