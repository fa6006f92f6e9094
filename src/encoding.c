/*-------------------------------------------------------------------------
 *
 * encoding.c
 *	  Texts between the database, which may have any encoding, and the network,
 *	  which speaks UTF-8.
 *
 * Nothing here raises an error about a text: what came over the network is
 * recorded, with a question mark for what cannot be said here.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "catalog/namespace.h"
#include "common/string.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

/* text itself where there is nothing to convert */
static const char *
convert(const char *text, int from, int to)
{
	Oid			procedure;
	const char *end = text + strlen(text);
	size_t		size = (end - text + 4) * MAX_CONVERSION_GROWTH;	/* the last byte is converted, too */
	size_t		length = 0;
	char	   *result;

	if (from == to || from == PG_SQL_ASCII || to == PG_SQL_ASCII || pg_is_ascii(text))
		return text;
	procedure = FindDefaultConversionProc(from, to);
	if (!OidIsValid(procedure))
		return text;

	result = palloc(size);
	while (text < end)
	{
		text += pg_do_encoding_conversion_buf(procedure, from, to,
											  unconstify(unsigned char *, (const unsigned char *) text), end - text,
											  (unsigned char *) result + length, size - length, true);
		length += strlen(result + length);
		if (text < end)
		{
			result[length++] = '?';
			text += Min(pg_encoding_mblen(from, text), end - text);
		}
	}
	result[length] = '\0';
	return result;
}

Datum
esim_text_from_utf8(const char *text)
{
	return CStringGetTextDatum(convert(text, PG_UTF8, GetDatabaseEncoding()));
}

const char *
esim_utf8_from_text(const char *text)
{
	return convert(text, GetDatabaseEncoding(), PG_UTF8);
}
