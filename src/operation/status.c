/*-------------------------------------------------------------------------
 *
 * status.c
 *	  What esim knows: of profiles (esim_status), of operations
 *	  (esim_operation_status), and waiting for one of them (esim_wait).
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "access/xact.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "operation/operation.h"

/* ------------------------------------------------------------------------
 * esim_status
 * ------------------------------------------------------------------------ */

/* the columns of the result, then owner, owner_name */
#define STATUS_COLUMNS \
	"p.eid, p.iccid, p.id, p.state, p.is_fallback, p.subscription_status, p.msisdn, p.state_at," \
	" p.state_source, p.owner, p.owner_name"
#define STATUS_NCOLUMNS 9

static EsimStatement status_by_eid = {
	"SELECT " STATUS_COLUMNS " FROM @esim_profile p WHERE p.eid = $1 AND ($2 IS NULL OR p.iccid = $2)"
	" AND ($3 OR p.state NOT IN ('DELETED', 'CANCELLED', 'FAILED')) ORDER BY p.port, p.iccid, p.id",
	3, {"@eid", "@iccid", "bool"}
};
static EsimStatement status_by_iccid = {
	"SELECT " STATUS_COLUMNS " FROM @esim_profile p WHERE p.id = ANY ($1)"
	" AND ($2 OR p.state NOT IN ('DELETED', 'CANCELLED', 'FAILED')) ORDER BY p.eid, p.id",
	2, {"uuid[]", "bool"}
};

/* options: {"all": true} shows profiles that are no more, too */
static bool
wants_all(Jsonb *options)
{
	JsonbIterator *it = JsonbIteratorInit(&options->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	bool		all = false;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		if (value.val.string.len != 3 || memcmp(value.val.string.val, "all", 3) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_ESIM_INVALID),
					 errmsg("unknown option \"%s\"",
							pnstrdup(value.val.string.val,
									 pg_mbcliplen(value.val.string.val, value.val.string.len, 100))),
					 esim_errdetail("INVALID_ARGUMENT", "There is no such option."),
					 errhint("The only option is \"all\".")));
		(void) JsonbIteratorNext(&it, &value, true);
		if (value.type != jbvBool)
			ereport(ERROR,
					(errcode(ERRCODE_ESIM_INVALID),
					 errmsg("option \"%s\" must be true or false", "all"),
					 esim_errdetail("INVALID_ARGUMENT", "It is of another type."),
					 errhint("Use options => '{\"all\": true}'.")));
		all = value.val.boolean;
	}
	return all;
}

PG_FUNCTION_INFO_V1(esim_status);
Datum
esim_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid			caller = GetUserId();
	EsimRights	rights;
	Datum		values[3];
	char		nulls[4] = "   ";
	bool		all = false;
	bool		by_eid = !PG_ARGISNULL(0);
	bool		by_iccid = !PG_ARGISNULL(1);
	bool		found = false;

	esim_look_after_worker();
	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	if (!by_eid && !by_iccid)
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_UNPROCESSABLE),
				 errmsg("cannot show the status without an identifier"),
				 esim_errdetail("MISSING_IDENTIFIER", "Neither an EID nor an ICCID is given."),
				 errhint("Give the EID, the ICCID, or both.")));
	if (!PG_ARGISNULL(2))
	{
		Jsonb	   *options = PG_GETARG_JSONB_P(2);

		esim_check_object("options", options, 16384);
		all = wants_all(options);
	}

	esim_enter_owner(&rights);
	if (by_eid)
	{
		if (esim_find_device(caller, PG_GETARG_EID_P(0)) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_ESIM_NOT_FOUND),
					 errmsg("eUICC \"%s\" is not known", esim_mask_eid(PG_GETARG_EID_P(0))),
					 esim_errdetail("IDENTIFIER_NOT_FOUND", "There is no device of yours with this EID."),
					 errhint("Register it in esim_device first.")));

		values[0] = PG_GETARG_DATUM(0);
		if (by_iccid)
			values[1] = PG_GETARG_DATUM(1);
		else
			nulls[1] = 'n';
		values[2] = BoolGetDatum(all);
		esim_execute(&status_by_eid, values, nulls, 0);
	}
	else
	{
		values[0] = esim_find_profiles(caller, PG_GETARG_ICCID(1));
		values[1] = BoolGetDatum(all);
		esim_execute(&status_by_iccid, values, NULL, 0);
	}

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		EsimRow		row;

		esim_row(&row, SPI_tuptable, i);
		if (!esim_may_act_for(caller, DatumGetObjectId(row.value[STATUS_NCOLUMNS]),
							  NameStr(*DatumGetName(row.value[STATUS_NCOLUMNS + 1]))))
			continue;
		found = true;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row.value, row.null);
	}
	if (!found && by_iccid)
	{
		if (by_eid)
			ereport(ERROR,
					(errcode(ERRCODE_ESIM_UNPROCESSABLE),
					 errmsg("profile \"%s\" is not on eUICC \"%s\"",
							esim_mask_iccid(PG_GETARG_ICCID(1)), esim_mask_eid(PG_GETARG_EID_P(0))),
					 esim_errdetail("IDENTIFIER_MISMATCH", "The EID and the ICCID do not belong together."),
					 errhint("Give one of the two.")));
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_NOT_FOUND),
				 errmsg("profile \"%s\" is not known", esim_mask_iccid(PG_GETARG_ICCID(1))),
				 esim_errdetail("IDENTIFIER_NOT_FOUND", "There is no profile of yours with this identifier."),
				 errhint("With options => '{\"all\": true}' deleted ones are shown too.")));
	}
	esim_leave_owner(&rights);
	SPI_finish();
	return (Datum) 0;
}

/* ------------------------------------------------------------------------
 * esim_operation_status
 * ------------------------------------------------------------------------ */

/*
 * CAMARA's schemas ESimProfileResponse (r1.2) and ESimResponse (2026-02).  An
 * ICCID of 18 digits does not satisfy them and is left out.  r1.2 knows no
 * cancelled outcome.
 */
#define RFC3339(t) \
	"to_char(" t " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
#define CAMARA_IDENTIFIERS \
	"jsonb_strip_nulls(jsonb_build_object('eid', o.eid::text, 'iccid'," \
	" CASE WHEN length(o.iccid::text) >= 19 THEN o.iccid::text END))"

static EsimStatement status_r1_2 = {
	"SELECT o.owner, o.owner_name, jsonb_strip_nulls(jsonb_build_object("
	"'operationId', o.id::text, 'operation', o.kind, 'status', o.status::text,"
	" 'esimProfile', " CAMARA_IDENTIFIERS ","
	" 'result', CASE WHEN o.status = 'COMPLETED' THEN jsonb_build_object("
	"'completedAt', " RFC3339("o.completed_at") ","
	" 'outcome', CASE WHEN o.result = 'SUCCESS' THEN 'SUCCESS' ELSE 'FAILED' END,"
	" 'failureReason', CASE o.result WHEN 'CANCELLED' THEN 'cancelled'"
	" WHEN 'FAILED' THEN left(concat_ws(': ', o.error_code, coalesce(nullif(o.rsp_message, ''), o.error_message)), 256) END,"
	" 'assignedIccid', CASE WHEN o.kind = 'download' AND o.result = 'SUCCESS'"
	" AND length(o.iccid::text) >= 19 THEN o.iccid::text END) END))"
	" FROM @esim_operation o WHERE o.id = $1",
	1, {"uuid"}
};
static EsimStatement status_2026_02 = {
	"SELECT o.owner, o.owner_name, jsonb_strip_nulls(jsonb_build_object("
	"'operationId', o.id::text, 'operation', o.kind,"
	" 'status', CASE WHEN o.status = 'ACCEPTED' THEN 'accepted' WHEN o.result = 'FAILED' THEN 'failed'"
	" ELSE 'completed' END,"
	" 'esim', " CAMARA_IDENTIFIERS ","
	" 'result', CASE WHEN o.status = 'COMPLETED' THEN jsonb_build_object("
	"'completedAt', " RFC3339("o.completed_at") ","
	" 'outcome', lower(o.result::text),"
	" 'code', o.error_code, 'message', coalesce(nullif(o.rsp_message, ''), o.error_message)) END))"
	" FROM @esim_operation o WHERE o.id = $1",
	1, {"uuid"}
};

static void
operation_not_found(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_ESIM_NOT_FOUND),
			 errmsg("operation \"%s\" is not known", esim_mask_uuid(id)),
			 esim_errdetail("NOT_FOUND", "There is no operation of yours with this identifier."),
			 errhint("Operations are removed some time after they have completed; see esim.retention.")));
}

PG_FUNCTION_INFO_V1(esim_operation_status);
Datum
esim_operation_status(PG_FUNCTION_ARGS)
{
	Oid			caller = GetUserId();
	EsimRights	rights;
	EsimRow		row;
	Datum		id;
	Datum		result;
	char	   *dialect;
	EsimStatement *statement;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_UNPROCESSABLE),
				 errmsg("cannot show the status without an operation"),
				 esim_errdetail("MISSING_IDENTIFIER", "The identifier is NULL."),
				 errhint("Give the identifier that esim_download() and its like return.")));
	id = PG_GETARG_DATUM(0);
	dialect = PG_ARGISNULL(1) ? pstrdup("r1.2") : TextDatumGetCString(PG_GETARG_DATUM(1));
	if (strcmp(dialect, "r1.2") == 0)
		statement = &status_r1_2;
	else if (strcmp(dialect, "2026-02") == 0)
		statement = &status_2026_02;
	else
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_INVALID),
				 errmsg("invalid dialect \"%s\"", dialect),
				 esim_errdetail("INVALID_ARGUMENT", "It is no version of CAMARA's API that esim knows."),
				 errhint("Use r1.2 or 2026-02.")));

	esim_look_after_worker();
	SPI_connect();
	esim_enter_owner(&rights);
	esim_execute(statement, &id, NULL, 1);
	if (SPI_processed == 1)
		esim_row(&row, SPI_tuptable, 0);
	if (SPI_processed == 0 ||
		!esim_may_act_for(caller, DatumGetObjectId(row.value[0]),
						  NameStr(*DatumGetName(row.value[1]))))
		operation_not_found(DatumGetUUIDP(id));
	esim_leave_owner(&rights);
	result = SPI_datumTransfer(row.value[2], false, -1);
	SPI_finish();
	PG_RETURN_DATUM(result);
}

/* ------------------------------------------------------------------------
 * esim_wait
 * ------------------------------------------------------------------------ */

/* runs with the caller's rights: row-level security holds */
static EsimStatement look_at_operation = {
	"SELECT o.status = 'COMPLETED', o.xmin, o FROM @esim_operation o WHERE o.id = $1",
	1, {"uuid"}
};

#define WAIT_MIN_MS 10
#define WAIT_MAX_MS 250

PG_FUNCTION_INFO_V1(esim_wait);
Datum
esim_wait(PG_FUNCTION_ARGS)
{
	Datum		id;
	TimestampTz end;
	Interval   *wait;
	Datum		result;
	long		pause = WAIT_MIN_MS;
	bool		completed;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_UNPROCESSABLE),
				 errmsg("cannot wait without an operation"),
				 esim_errdetail("MISSING_IDENTIFIER", "The identifier is NULL."),
				 errhint("Give the identifier that esim_download() and its like return.")));
	id = PG_GETARG_DATUM(0);
	wait = PG_ARGISNULL(1) ? NULL : PG_GETARG_INTERVAL_P(1);
	end = GetCurrentTimestamp();
	if (wait == NULL)
		end += 60 * USECS_PER_SEC;
	else
		end = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
													  TimestampTzGetDatum(end),
													  IntervalPGetDatum(wait)));

	esim_look_after_worker();
	SPI_connect();
	for (;;)
	{
		EsimRow		row;
		TimestampTz now;

		/* each look with a new snapshot, whatever the isolation level */
		esim_execute_latest(&look_at_operation, &id, NULL, 1);
		if (SPI_processed == 0)
			operation_not_found(DatumGetUUIDP(id));
		esim_row(&row, SPI_tuptable, 0);
		completed = DatumGetBool(row.value[0]);
		if (!completed && TransactionIdIsCurrentTransactionId(DatumGetTransactionId(row.value[1])))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("cannot wait for an operation of the same transaction"),
					 errdetail("It begins when the transaction that asked for it has committed."),
					 errhint("Commit first, then call esim_wait().")));

		now = GetCurrentTimestamp();
		if (completed || now >= end)
		{
			result = SPI_datumTransfer(row.value[2], false, -1);
			SPI_freetuptable(SPI_tuptable);
			break;
		}
		SPI_freetuptable(SPI_tuptable);

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Max(1, Min(pause, TimestampDifferenceMilliseconds(now, end))),
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		pause = Min(pause * 2, WAIT_MAX_MS);
	}
	SPI_finish();

	if (!completed)
		ereport(NOTICE,
				(errmsg("operation \"%s\" has not completed yet", esim_mask_uuid(DatumGetUUIDP(id))),
				 errhint("It goes on; its column phase says what it waits for.")));
	PG_RETURN_DATUM(result);
}
