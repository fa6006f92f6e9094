/*-------------------------------------------------------------------------
 *
 * column.c
 *	  Arrays of values for set-based statements: one array per column, taken
 *	  apart by unnest().
 *
 *-------------------------------------------------------------------------
 */
#include "worker/worker.h"

#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

void
column_init(Column *column, int size)
{
	column->size = Max(size, 1);
	column->count = 0;
	column->values = palloc(column->size * sizeof(Datum));
	column->nulls = palloc(column->size * sizeof(bool));
}

static void
add(Column *column, Datum value, bool isnull)
{
	if (column->count == column->size)
	{
		column->size *= 2;
		column->values = repalloc(column->values, column->size * sizeof(Datum));
		column->nulls = repalloc(column->nulls, column->size * sizeof(bool));
	}
	column->values[column->count] = value;
	column->nulls[column->count++] = isnull;
}

void
column_add(Column *column, Datum value)
{
	add(column, value, false);
}

void
column_add_null(Column *column)
{
	add(column, (Datum) 0, true);
}

/* UTF-8.  NULL and the empty string are null: nothing here tells them apart */
void
column_add_text(Column *column, const char *text)
{
	if (text == NULL || text[0] == '\0')
		add(column, (Datum) 0, true);
	else
		add(column, esim_text_from_utf8(text), false);
}

/* a name of ours, in the database's encoding */
void
column_add_name(Column *column, const char *name)
{
	if (name == NULL || name[0] == '\0')
		add(column, (Datum) 0, true);
	else
		add(column, CStringGetTextDatum(name), false);
}

Datum
column_array(const Column *column, Oid type)
{
	int16		length;
	bool		by_value;
	char		align;
	int			dims[1];
	int			bounds[1] = {1};

	get_typlenbyvalalign(type, &length, &by_value, &align);
	if (column->count == 0)
		return PointerGetDatum(construct_empty_array(type));
	dims[0] = column->count;
	return PointerGetDatum(construct_md_array(column->values, column->nulls, 1, dims, bounds,
											  type, length, by_value, align));
}
