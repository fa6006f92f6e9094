/*-------------------------------------------------------------------------
 *
 * cancel.c
 *	  esim_cancel: take back an operation.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "audit/audit.h"
#include "event/event.h"
#include "operation/enqueue.h"

static EsimStatement find_operation = {
	"SELECT o.owner, o.owner_name, o.status = 'COMPLETED', o.eid, o.server, q.lane, q.seq, o.iccid,"
	" CASE WHEN o.kind = 'download' AND o.phase = 'WAITING_DEVICE' AND q.state = 'W' AND NOT q.claimed THEN o.profile END,"
	" (SELECT p.lane FROM @esim_profile p WHERE p.id = o.profile), o.kind = 'download'"
	" FROM @esim_operation o LEFT JOIN @esim_pending q ON q.operation = o.id WHERE o.id = $1",
	1, {"uuid"}
};
static EsimStatement lock_euicc_lane = {
	"SELECT 1 FROM @esim_device WHERE lane = $1 AND eid = $2 FOR NO KEY UPDATE",
	2, {"int8", "@eid"}
};
/*
 * The operation and those behind it in its lane, in order.  Nothing
 * outstanding: no request that acts was ever sent, or the driver says by step 0
 * that nothing has come of those that were.  Last column: an earlier timeline
 * may have sent one that is not known here.
 */
static EsimStatement lock_pending = {
	"SELECT q.operation, q.seq, q.claimed,"
	" NOT q.unresolved AND q.rsp_operation_id IS NULL AND (q.acting = 0 OR q.step = 0),"
	" q.ask_first AND q.kind NOT IN ('refresh', 'sync')"
	" FROM @esim_pending q WHERE q.lane = $1 AND q.seq >= $2 ORDER BY q.seq FOR UPDATE",
	2, {"int8", "int8"}
};
static EsimStatement read_dependencies = {
	"SELECT o.id, d FROM @esim_operation o, unnest(o.depends_on) d WHERE o.id = ANY ($1) ORDER BY o.seq",
	1, {"uuid[]"}
};
static EsimStatement delete_pending = {
	"DELETE FROM @esim_pending WHERE operation = ANY ($1)",
	1, {"uuid[]"}
};
static EsimStatement complete_cancelled = {
	"UPDATE @esim_operation SET status = 'COMPLETED', result = 'CANCELLED', phase = 'DONE',"
	" phase_reason = NULL, next_at = NULL, completed_at = clock_timestamp(),"
	" error_code = CASE WHEN id = $2 THEN 'CANCELLED' ELSE 'DEPENDENCY_FAILED' END,"
	" error_message = CASE WHEN id = $2 THEN 'cancelled'"
	" ELSE 'an operation that it depends on was cancelled' END"
	" WHERE id = ANY ($1) AND status = 'ACCEPTED' RETURNING " ESIM_ANNOUNCED("esim_operation"),
	2, {"uuid[]", "uuid"}
};

/* nothing stands for a profile whose reservation was never asked for */
static EsimStatement cancel_reserved = {
	"WITH p AS (UPDATE @esim_profile p SET state = 'CANCELLED', state_at = clock_timestamp(), state_source = 'operation'"
	" FROM @esim_operation o WHERE o.id = ANY ($1) AND o.kind = 'reserve' AND p.id = o.profile"
	" AND p.state = 'RESERVING' RETURNING p.id, p.eid, o.id AS operation)"
	" INSERT INTO @esim_profile_event (profile, eid, old_state, new_state, cause, operation, detail)"
	" SELECT p.id, p.eid, 'RESERVING', 'CANCELLED', 'OPERATION', p.operation, 'the reservation was cancelled' FROM p",
	1, {"uuid[]"}
};

/* a credential of a sink is still needed: the end is announced */
static EsimStatement forget_secrets = {
	"DELETE FROM @esim_operation_secret WHERE operation = ANY ($1) AND sink_credential IS NULL",
	1, {"uuid[]"}
};

/* the worker looks at the lane's new head again */
static EsimStatement wake_lane = {
	"UPDATE @esim_pending SET state = 'N' WHERE state = 'B'"
	" AND seq = (SELECT min(q.seq) FROM @esim_pending q WHERE q.lane = $1)",
	1, {"int8"}
};

static void
audit(Oid caller, const pg_uuid_t *id, const EsimRow *row, const char *outcome)
{
	EsimAuditEntry entry;

	entry.eid = row->null[3] ? NULL : DatumGetEidP(row->value[3]);
	entry.iccid = row->null[7] ? ICCID_INVALID : DatumGetIccid(row->value[7]);
	entry.operation = id;
	entry.outcome = outcome;
	esim_audit(caller, "esim_cancel", &entry, 1);
}

static ArrayType *
uuid_array(pg_uuid_t *ids, int n)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		values[i] = UUIDPGetDatum(&ids[i]);
	return construct_array(values, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);
}

static bool
contains(const pg_uuid_t *ids, int n, const pg_uuid_t *id)
{
	for (int i = 0; i < n; i++)
	{
		if (memcmp(&ids[i], id, sizeof(pg_uuid_t)) == 0)
			return true;
	}
	return false;
}

typedef struct Cancellation
{
	const pg_uuid_t *id;
	int64		lane;
	int64		seq;
	const RspDriver *driver;	/* NULL: the server is not there any more */
	RspDialect	dialect;
	bool		cancelled;
	bool		gone;			/* it has ended meanwhile */
	bool		doubtful;		/* the server knows whether it was sent */
} Cancellation;

/*
 * Cancel the operation whose queue row is seq in lane, with all behind it that
 * need its success.  false: it was sent; the row may stay locked, the caller
 * rolls back.  Dependents in other lanes are ended by the worker when it looks
 * at what they wait for.
 */
static bool
cancel_queued(Cancellation *c)
{
	Datum		values[2];
	EsimRow		row;
	pg_uuid_t  *behind;
	pg_uuid_t  *cancelled;
	int			nbehind = 0;
	int			ncancelled = 0;
	ArrayType  *array;

	values[0] = Int64GetDatum(c->lane);
	values[1] = Int64GetDatum(c->seq);
	esim_execute_latest(&lock_pending, values, NULL, 0);
	c->gone = true;
	behind = palloc(sizeof(pg_uuid_t) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		esim_row(&row, SPI_tuptable, i);
		if (memcmp(DatumGetUUIDP(row.value[0]), c->id, sizeof(pg_uuid_t)) == 0)
		{
			c->gone = false;
			if (DatumGetBool(row.value[2]) || !DatumGetBool(row.value[3]))
				return false;
			c->doubtful = DatumGetBool(row.value[4]) && c->driver != NULL && c->driver->can_ask;
			if (c->doubtful)
				return false;
		}
		else
			behind[nbehind++] = *DatumGetUUIDP(row.value[0]);
	}
	SPI_freetuptable(SPI_tuptable);
	if (c->gone)
		return false;

	/* in order, so that what depends on a dependent is found in one pass */
	cancelled = palloc(sizeof(pg_uuid_t) * (nbehind + 1));
	cancelled[ncancelled++] = *c->id;
	if (nbehind > 0)
	{
		values[0] = PointerGetDatum(uuid_array(behind, nbehind));
		esim_execute_latest(&read_dependencies, values, NULL, 0);
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			esim_row(&row, SPI_tuptable, i);
			if (contains(cancelled, ncancelled, DatumGetUUIDP(row.value[1])) &&
				!contains(cancelled, ncancelled, DatumGetUUIDP(row.value[0])))
				cancelled[ncancelled++] = *DatumGetUUIDP(row.value[0]);
		}
		SPI_freetuptable(SPI_tuptable);
	}

	array = uuid_array(cancelled, ncancelled);
	values[0] = PointerGetDatum(array);
	values[1] = UUIDPGetDatum(c->id);
	esim_execute_latest(&delete_pending, values, NULL, 0);
	esim_execute_latest(&complete_cancelled, values, NULL, 0);
	esim_outbox_write(SPI_tuptable, SPI_processed, 1);
	esim_execute_latest(&cancel_reserved, values, NULL, 0);
	esim_execute_latest(&forget_secrets, values, NULL, 0);
	values[0] = Int64GetDatum(c->lane);
	esim_execute_latest(&wake_lane, values, NULL, 0);
	return true;
}

/* cancel_queued(), undone when it does not cancel */
static bool
cancel_step(void *arg)
{
	Cancellation *c = arg;

	c->cancelled = cancel_queued(c);
	return c->cancelled;
}

static const RspDriver *
driver_of(char *server_name, RspDialect *dialect)
{
	const RspDriver *driver;
	EsimServer *server;
	char	   *reason;

	server = esim_server_get(server_name, InvalidOid, false, &reason);
	if (server == NULL)
		return NULL;
	driver = rsp_driver(server->rsp.protocol);
	*dialect = server->rsp.dialect;
	esim_server_release(server);
	return driver;
}

/*
 * Where the driver can, an operation that was sent, or may have been, is asked
 * to end when it becomes certain that nothing of it was carried out; else it
 * goes on.  A worker that is just at it may have to put its outcome aside for
 * us.  false: the driver cannot, or the operation has ended meanwhile.
 */
static bool
ask_to_withdraw(Cancellation *c)
{
	static EsimStatement ask = {
		"UPDATE @esim_pending SET cancel_asked = true WHERE seq = $1", 1, {"int8"}
	};
	Datum		value = Int64GetDatum(c->seq);

	if (!c->doubtful && (c->driver == NULL || !c->driver->can_withdraw))
		return false;
	esim_execute_latest(&ask, &value, NULL, 0);
	c->gone = SPI_processed == 0;
	return !c->gone;
}

/*
 * A download of which nothing is left but that the device fetches the profile:
 * the server is asked to take the order back, where it has a way.  That is an
 * operation of its own, which the right to cancel includes; the download ends
 * when it has succeeded.  false: the server has no way.
 */
static bool
ask_to_cancel(const Cancellation *c, Oid caller, char *server_name, const pg_uuid_t *profile)
{
	static EsimStatement asked = {
		"SELECT 1 FROM @esim_operation o WHERE o.profile = $1 AND o.kind = 'cancel-order' AND o.status = 'ACCEPTED'",
		1, {"uuid"}
	};
	EsimRequest request;
	EsimElement element;
	Datum		value = UUIDPGetDatum(profile);
	const char *note;

	if (c->driver == NULL || !c->driver->supports(c->dialect, RSP_CANCEL_ORDER, &note))
		return false;
	esim_execute_latest(&asked, &value, NULL, 1);
	if (SPI_processed > 0)
		return true;

	memset(&request, 0, sizeof(request));
	memset(&element, 0, sizeof(element));
	request.kind = esim_kind(RSP_CANCEL_ORDER);
	request.function = "esim_cancel";
	request.caller = caller;
	request.now = GetCurrentTimestamp();
	request.report = true;
	request.elements = &element;
	request.nelements = 1;
	request.server = server_name;
	request.own_server = true;
	request.final_status = pstrdup("Available");
	request.callback_method = pstrdup("GET");
	request.options = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	request.options_json = esim_json_from_jsonb("options", request.options);
	element.ordinal = 1;
	element.has_profile = true;
	element.profile_id = *profile;
	esim_enqueue(&request);
	if (element.failure != NULL)
		esim_failure_raise(element.failure, 0);
	return true;
}

PG_FUNCTION_INFO_V1(esim_cancel);
Datum
esim_cancel(PG_FUNCTION_ARGS)
{
	Oid			caller = GetUserId();
	EsimRights	rights;
	EsimRow		row;
	Datum		values[2];
	pg_uuid_t  *id;
	char	   *server;
	int64		lane;
	Cancellation c;
	ErrorData  *error;
	bool		asked;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_UNPROCESSABLE),
				 errmsg("cannot cancel without an operation"),
				 esim_errdetail("MISSING_IDENTIFIER", "The identifier is NULL."),
				 errhint("Give the identifier that esim_download() and its like return.")));
	id = PG_GETARG_UUID_P(0);
	PreventCommandIfReadOnly("esim_cancel()");

	esim_look_after_worker();
	SPI_connect();
	esim_enter_owner(&rights);

	values[0] = UUIDPGetDatum(id);
	esim_execute_latest(&find_operation, values, NULL, 1);
	if (SPI_processed == 1)
		esim_row(&row, SPI_tuptable, 0);
	if (SPI_processed == 0 ||
		!esim_may_act_for(caller, DatumGetObjectId(row.value[0]),
						  NameStr(*DatumGetName(row.value[1]))))
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_NOT_FOUND),
				 errmsg("operation \"%s\" is not known", esim_mask_uuid(id)),
				 esim_errdetail("NOT_FOUND", "There is no operation of yours with this identifier."),
				 errhint("Operations are removed some time after they have completed; see esim.retention.")));
	if (DatumGetBool(row.value[2]) || row.null[5])
	{
		audit(caller, id, &row, "COMPLETED");
		esim_leave_owner(&rights);
		SPI_finish();
		PG_RETURN_BOOL(false);
	}
	server = TextDatumGetCString(row.value[4]);
	lane = DatumGetInt64(row.value[5]);

	/* the lane's lock: who queues behind it sees the outcome */
	values[0] = Int64GetDatum(lane);
	if (lane & 1)
	{
		if (row.null[3])
			elog(ERROR, "operation in the lane of an eUICC has no EID");
		values[1] = row.value[3];
		esim_execute_latest(&lock_euicc_lane, values, NULL, 0);
		SPI_freetuptable(SPI_tuptable);
	}
	else if (!DatumGetBool(row.value[10]))
		esim_lock_profile_lanes(values, 1);
	else if (!row.null[9])
	{
		/*
		 * A download that the device fetches by itself is alone in its lane,
		 * which no row stands for; the order that is taken back is the profile's.
		 */
		values[0] = row.value[9];
		esim_lock_profile_lanes(values, 1);
	}

	/*
	 * A queue row that turns out to be claimed must not stay locked until our
	 * transaction ends: the worker would have to put its outcome aside.
	 */
	memset(&c, 0, sizeof(c));
	c.id = id;
	c.lane = lane;
	c.seq = DatumGetInt64(row.value[6]);
	c.driver = driver_of(server, &c.dialect);
	error = esim_try(cancel_step, &c);
	if (error != NULL)
		ReThrowError(error);
	asked = !c.cancelled && !c.gone && ask_to_withdraw(&c);
	if (!c.cancelled && !c.gone && !asked && !row.null[8])
		asked = ask_to_cancel(&c, caller, server, DatumGetUUIDP(row.value[8]));

	if (!c.cancelled && !c.gone && !asked)
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_CONFLICT),
				 errmsg("operation \"%s\" cannot be cancelled any more", esim_mask_uuid(id)),
				 esim_errdetail("INCOMPATIBLE_STATE", "It was sent, and server \"%s\" has no way to take it back.",
								server),
				 errhint("Wait for its end; esim_disable() or esim_delete() may undo it then.")));
	if (c.cancelled)
		esim_wake_at_commit();
	audit(caller, id, &row, c.cancelled ? "CANCELLED" : asked ? "ASKED" : "COMPLETED");
	esim_leave_owner(&rights);
	SPI_finish();
	PG_RETURN_BOOL(c.cancelled || asked);
}
