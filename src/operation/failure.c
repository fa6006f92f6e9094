/*-------------------------------------------------------------------------
 *
 * failure.c
 *	  Errors as data, and identifiers as messages may show them.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "access/htup_details.h"
#include "utils/builtins.h"

#include "operation/operation.h"

/* The texts are not copied. */
EsimFailure *
esim_failure(const char *code, char *message, char *detail, char *hint)
{
	EsimFailure *failure = palloc(sizeof(EsimFailure));

	failure->sqlstate = esim_sqlstate_for_code(code);
	failure->code = code;
	failure->message = message;
	failure->detail = detail;
	failure->hint = hint;
	return failure;
}

/* ordinal: of the element in a bulk call, 0: not of one */
void
esim_failure_raise(const EsimFailure *failure, int ordinal)
{
	ereport(ERROR,
			(errcode(failure->sqlstate),
			 errmsg_internal("%s", failure->message),
			 esim_errdetail(failure->code, "%s", failure->detail),
			 failure->hint ? errhint("%s", failure->hint) : 0,
			 ordinal > 0 ? errcontext("element %d", ordinal) : 0));
	pg_unreachable();
}

char *
esim_mask_eid(const Eid *eid)
{
	char		text[EID_TEXT_SIZE];

	eid_format(eid, text);
	return esim_mask(text);
}

char *
esim_mask_iccid(Iccid iccid)
{
	char		text[ICCID_TEXT_SIZE];

	iccid_format(iccid, text);
	return esim_mask(text);
}

char *
esim_mask_uuid(const pg_uuid_t *id)
{
	return psprintf("...%02x%02x", id->data[UUID_LEN - 2], id->data[UUID_LEN - 1]);
}

void
esim_row(EsimRow *row, SPITupleTable *table, uint64 n)
{
	if (table->tupdesc->natts > ESIM_MAX_COLUMNS)
		elog(ERROR, "row has too many columns");
	heap_deform_tuple(table->vals[n], table->tupdesc, row->value, row->null);
}
