/*
 * identifier.c
 *		What the fmgr glue of the identifier types has in common.
 */
#include "identifier.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"

#define SHOWN 4					/* characters of an identifier that a message may show */

/*
 * An identifier as messages show it, which reach the server log: its last four
 * characters behind "...".  text is in the database encoding.  Palloc'd.
 */
char *
identifier_mask(const char *text, size_t len)
{
	size_t		last[SHOWN];	/* where the last characters begin */
	size_t		n = 0;
	size_t		i = 0;

	while (i < len)
	{
		last[n++ % SHOWN] = i;
		i += pg_mblen(text + i);
	}
	if (n <= SHOWN)
		return pnstrdup(text, len);
	i = last[n % SHOWN];
	return psprintf("...%.*s", (int) (len - i), text + i);
}

/*
 * The character that begins at a byte position, counted from 1, ready to be
 * put into a message.  Palloc'd.
 */
char *
identifier_character(const char *text, size_t len, int position)
{
	const char *s = text + position - 1;
	size_t		rest = len - (position - 1);
	unsigned char c = (unsigned char) *s;

	if (c < ' ' || c == 0x7F)
		return psprintf("0x%02x", c);
	return psprintf("\"%.*s\"", (int) Min((size_t) pg_mblen(s), rest), s);
}

/*
 * Are check digits to be looked at when a value with this type modifier is read?
 */
bool
identifier_checked(int32 typmod)
{
	return esim_check_digits && typmod != IDENTIFIER_TYPMOD_UNCHECKED;
}

/*
 * Type modifier input: the one word "unchecked".
 */
Datum
identifier_typmod_in(const char *type_name, ArrayType *words)
{
	Datum	   *elems;
	int			n;

	if (ARR_ELEMTYPE(words) != CSTRINGOID || ARR_NDIM(words) != 1 || ARR_HASNULL(words))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("type modifier of %s must be a list of words", type_name)));
	deconstruct_array(words, CSTRINGOID, -2, false, TYPALIGN_CHAR, &elems, NULL, &n);

	if (n != 1 || strcmp(DatumGetCString(elems[0]), "unchecked") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid type modifier for %s", type_name),
				 errhint("The only type modifier is \"unchecked\": %s(unchecked).", type_name)));
	PG_RETURN_INT32(IDENTIFIER_TYPMOD_UNCHECKED);
}

/*
 * Type modifier output.
 */
Datum
identifier_typmod_out(int32 typmod)
{
	PG_RETURN_CSTRING(pstrdup(typmod == IDENTIFIER_TYPMOD_UNCHECKED ? "(unchecked)" : ""));
}
