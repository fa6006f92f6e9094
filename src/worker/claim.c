/*-------------------------------------------------------------------------
 *
 * claim.c
 *	  Moves rows of the queue: what is due, what is new, what is ready, what
 *	  has expired.  Everything here runs within a transaction of the worker,
 *	  on lanes of the shards that it holds.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/worker.h"

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define DUE_BATCH 1000
#define NEW_BATCH 2000
#define EXPIRED_BATCH 500
#define DEFERRED_BATCH 100

/* the crash that makes a suspect, and two while it was being handled */
#define POISON_CRASHES 3

/* the shards whose rows may be claimed, as smallint[] */
static Datum
shards_array(bool draining_too)
{
	Column		column;

	column_init(&column, ESIM_SHARDS);
	for (int i = 0; i < ESIM_SHARDS; i++)
		if (esim_worker->held[i] && (draining_too || !esim_worker->draining[i]))
			column_add(&column, Int16GetDatum(i));
	return column_array(&column, INT2OID);
}

static int
shards_held(void)
{
	int			held = 0;

	for (int i = 0; i < ESIM_SHARDS; i++)
		if (esim_worker->held[i] && !esim_worker->draining[i])
			held++;
	return held;
}

/* What waited for its time is ready. */
void
claim_due(void)
{
	static EsimStatement due = {
		"UPDATE @esim_pending p SET state = CASE WHEN p.state = 'D' THEN 'N' ELSE 'R' END, next_at = NULL"
		" FROM (SELECT d.seq FROM unnest($1) s(shard),"
		"  LATERAL (SELECT q.seq FROM @esim_pending q WHERE q.shard = s.shard AND q.state IN ('W', 'D', 'P') AND q.next_at IS NOT NULL"
		"    AND q.next_at <= $2 AND NOT q.claimed"
		"   ORDER BY q.next_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED) d) x"
		" WHERE p.seq = x.seq",
		3, {"int2[]", "timestamptz", "int8"}
	};
	Datum		values[3];

	values[0] = shards_array(false);
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[2] = Int64GetDatum(DUE_BATCH);
	esim_execute(&due, values, NULL, 0);
}

/*
 * New rows: behind something in their lane, waiting for other lanes, waiting
 * for their time, or ready.  Rows of the own shards only, so nobody else can
 * complete what is ahead of them meanwhile.
 */
void
claim_new(void)
{
	static EsimStatement classify = {
		"WITH n AS MATERIALIZED (SELECT q.seq FROM unnest($1) s(shard),"
		"  LATERAL (SELECT x.seq FROM @esim_pending x WHERE x.shard = s.shard AND x.state = 'N' AND NOT x.claimed ORDER BY x.seq LIMIT $2"
		"   FOR NO KEY UPDATE SKIP LOCKED) q)"
		" UPDATE @esim_pending p SET"
		"  state = CASE WHEN EXISTS (SELECT FROM @esim_pending a WHERE a.lane = p.lane AND a.seq < p.seq) THEN 'B'"
		"   WHEN EXISTS (SELECT FROM unnest(p.waits_for) w(id) JOIN @esim_pending d ON d.operation = w.id) THEN 'D'"
		"   WHEN p.next_at > $3 THEN 'W' ELSE 'R' END,"
		"  next_at = CASE WHEN EXISTS (SELECT FROM unnest(p.waits_for) w(id) JOIN @esim_pending d ON d.operation = w.id)"
		"   THEN greatest(p.next_at, $3 + interval '1 second') ELSE p.next_at END"
		" FROM n WHERE p.seq = n.seq"
		" RETURNING p.lane, p.priority, p.state",
		3, {"int2[]", "int8", "timestamptz"}
	};
	static EsimStatement urge = {
		"UPDATE @esim_pending h SET urgency = m.priority"
		" FROM (SELECT u.lane, min(u.priority) AS priority FROM unnest($1, $2) u(lane, priority) GROUP BY u.lane) m"
		" WHERE h.seq = (SELECT x.seq FROM @esim_pending x WHERE x.lane = m.lane ORDER BY x.seq LIMIT 1)"
		"  AND h.urgency > m.priority",
		2, {"int8[]", "int2[]"}
	};
	Datum		values[3];
	uint64		nrows;
	Column		lanes;
	Column		priorities;

	values[0] = shards_array(true);
	values[1] = Int64GetDatum(NEW_BATCH);
	values[2] = TimestampTzGetDatum(GetCurrentTimestamp());
	esim_execute(&classify, values, NULL, 0);
	nrows = SPI_processed;
	if (nrows == 0)
		return;

	/* a lane counts as its most urgent operation */
	column_init(&lanes, nrows);
	column_init(&priorities, nrows);
	for (uint64 i = 0; i < nrows; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		if (DatumGetChar(SPI_getbinval(tuple, desc, 3, &isnull)) != 'B')
			continue;
		column_add(&lanes, SPI_getbinval(tuple, desc, 1, &isnull));
		column_add(&priorities, SPI_getbinval(tuple, desc, 2, &isnull));
	}
	if (lanes.count > 0)
	{
		values[0] = column_array(&lanes, INT8OID);
		values[1] = column_array(&priorities, INT2OID);
		esim_execute(&urge, values, NULL, 0);
	}
}

/* ------------------------------------------------------------------------
 * Ready rows
 * ------------------------------------------------------------------------ */

/* columns of the claim, in order */
enum
{
	C_SEQ = 1, C_OPERATION, C_LANE, C_SHARD, C_KIND, C_EXPIRES, C_UNRESOLVED, C_ASK_FIRST, C_CRASHES, C_STEP,
	C_ATTEMPTS, C_ACTING, C_POLLS, C_FAILURES, C_FIRST_SENT, C_LAST_SENT, C_RSP_OPERATION, C_MEMO,
	C_OWNER, C_OWNER_NAME, C_CORRELATOR, C_EID, C_ICCID, C_CODE, C_ACTIVATE, C_ROLLBACK, C_MATCHING_ID,
	C_PROFILE_TYPE, C_SMDS, C_FINAL, C_SUBSCRIPTION, C_FLEET, C_OPTIONS, C_PROFILE, C_CONFIRMATION,
	C_STATE, C_FALLBACK, C_PORT, C_RSP_ID, C_PROFILE_ICCID, C_RETIRED, C_PHASE, C_DEPENDENCY,
	C_FLEET_RSP_ID, C_GENERATE, C_RELEASE, C_SETTINGS, C_RESERVED_EID, C_PROFILE_MATCHING, C_PROFILE_SMDP,
	C_SIM_ID, C_SUBSCRIPTION_NOW, C_PROFILE_CODE, C_SYSTEM, C_TIMELINE, C_DATABASE, C_INTENT, C_CANCEL_ASKED,
	C_SERVER, C_OUTCOME			/* of deferred ones only */
};

#define CLAIMED_COLUMNS \
	" p.seq, p.operation, p.lane, p.shard, p.kind, p.expires_at, p.unresolved, p.ask_first, p.crashes, p.step," \
	" p.attempts, p.acting, p.polls, p.failures, p.first_sent_at, p.last_sent_at, p.rsp_operation_id, p.memo," \
	" o.owner, o.owner_name, o.correlator, o.eid::text, o.iccid::text, o.activation_code::text, o.activate_on_download, o.rollback, o.matching_id," \
	" o.profile_type, o.smds_address, o.final_status, o.subscription_status::text, o.fleet, nullif(o.options, '{}')::text, o.profile," \
	" CASE WHEN o.kind IN ('download', 'reserve') THEN (SELECT s.confirmation_code FROM @esim_operation_secret s WHERE s.operation = o.id) END," \
	" f.state::text, f.is_fallback, f.port, f.rsp_id, f.iccid::text," \
	" EXISTS (SELECT FROM @esim_device d WHERE d.eid OPERATOR(@=) o.eid AND d.retired_at IS NOT NULL), o.phase::text," \
	" CASE WHEN o.depends_on IS NOT NULL THEN (SELECT x.id::text FROM @esim_operation x WHERE x.id = ANY (o.depends_on)" \
	"  AND x.result IN ('FAILED', 'CANCELLED') LIMIT 1) END," \
	" CASE WHEN o.fleet IS NOT NULL THEN (SELECT g.rsp_id FROM @esim_fleet g WHERE g.owner = o.owner AND g.server = o.server AND g.name = o.fleet) END," \
	" o.generate_matching_id, o.release, o.settings::text, f.reserved_eid::text, f.matching_id, f.smdp_address, f.sim_id, f.subscription_status::text," \
	" CASE WHEN o.kind = 'download' AND o.activation_code IS NULL THEN coalesce(f.activation_code::text," \
	"  '1$' || f.smdp_address || '$' || coalesce(f.matching_id, '')) END," \
	" p.system_identifier, p.timeline, p.database, p.intent, p.cancel_asked"

/* UTF-8, as drivers want it */
static const char *
task_text(Task *task, HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		datum = SPI_getbinval(tuple, desc, column, &isnull);
	char	   *value;
	char	   *copy;

	if (isnull)
		return NULL;
	value = TextDatumGetCString(datum);
	copy = MemoryContextStrdup(task->context, esim_utf8_from_text(value));
	pfree(value);
	return copy;
}

static int64
task_number(HeapTuple tuple, TupleDesc desc, int column, Oid type)
{
	bool		isnull;
	Datum		datum = SPI_getbinval(tuple, desc, column, &isnull);

	if (isnull)
		return 0;
	switch (type)
	{
		case BOOLOID:
			return DatumGetBool(datum);
		case INT2OID:
			return DatumGetInt16(datum);
		case INT4OID:
			return DatumGetInt32(datum);
		case OIDOID:
			return DatumGetObjectId(datum);
		default:
			return DatumGetInt64(datum);	/* bigint, timestamptz */
	}
}

static struct json_t *
json_object_of(const char *text)
{
	const char *reason;
	struct json_t *object = NULL;

	if (text != NULL)
		object = rsp_json(text, strlen(text), &reason);
	/* ours, so an object, unless somebody has edited the table */
	return object != NULL ? object : rsp_json_object();
}

/*
 * A row that was queued in another cluster, on another timeline or in another
 * database, by a restore for example: nothing of this claim may go out before
 * it is decided what it means.
 */
static void
check_row_epoch(HeapTuple tuple, TupleDesc desc)
{
	EsimEpoch	epoch;

	esim_current_epoch(&epoch);
	if (task_number(tuple, desc, C_SYSTEM, INT8OID) == epoch.system_identifier &&
		task_number(tuple, desc, C_TIMELINE, INT4OID) == epoch.timeline &&
		task_number(tuple, desc, C_DATABASE, OIDOID) == epoch.database)
		return;
	esim_worker->foreign_rows = true;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("there are operations that were queued elsewhere")));
}

static Task *
make_task(HeapTuple tuple, TupleDesc desc)
{
	Task	   *task = task_create();
	RspOperation *op = &task->op;
	MemoryContext old = MemoryContextSwitchTo(task->context);
	RspKind		kind = RSP_REFRESH;
	RspState	state = RSP_STATE_NONE;
	const char *text;
	bool		isnull;
	Datum		datum;
	TimestampTz now = GetCurrentTimestamp();

	task->seq = task_number(tuple, desc, C_SEQ, INT8OID);
	task->lane = task_number(tuple, desc, C_LANE, INT8OID);
	task->shard = task_number(tuple, desc, C_SHARD, INT2OID);
	esim_worker->shard_tasks[task->shard]++;
	memcpy(&task->id, DatumGetUUIDP(SPI_getbinval(tuple, desc, C_OPERATION, &isnull)), UUID_LEN);
	datum = SPI_getbinval(tuple, desc, C_PROFILE, &isnull);
	if (!isnull)
	{
		memcpy(&task->profile, DatumGetUUIDP(datum), UUID_LEN);
		task->has_profile = true;
	}
	task->owner = task_number(tuple, desc, C_OWNER, OIDOID);
	task->port = task_number(tuple, desc, C_PORT, INT2OID);
	task->expires_at = task_number(tuple, desc, C_EXPIRES, INT8OID);
	task->first_sent_at = task_number(tuple, desc, C_FIRST_SENT, INT8OID);
	task->last_sent_at = task_number(tuple, desc, C_LAST_SENT, INT8OID);
	task->attempts_before = task_number(tuple, desc, C_ATTEMPTS, INT4OID);
	task->intent_committed = task_number(tuple, desc, C_INTENT, BOOLOID);
	task->suspect = task_number(tuple, desc, C_CRASHES, INT2OID) > 0;
	task->claimed_at = now;

	{
		char	   *uuid = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&task->id)));

		strlcpy(op->id, uuid, sizeof(op->id));
		pfree(uuid);
	}
	text = task_text(task, tuple, desc, C_KIND);
	(void) rsp_kind_from_name(text, &kind);
	op->kind = kind;
	op->correlator = task_text(task, tuple, desc, C_CORRELATOR);
	op->eid = task_text(task, tuple, desc, C_EID);
	/* a reservation or a download ahead may have told it, or another one than was asked for */
	op->iccid = task_text(task, tuple, desc,
						  kind == RSP_DOWNLOAD || kind == RSP_RESERVE ? C_ICCID : C_PROFILE_ICCID);
	if (op->iccid == NULL)
		op->iccid = task_text(task, tuple, desc,
							  kind == RSP_DOWNLOAD || kind == RSP_RESERVE ? C_PROFILE_ICCID : C_ICCID);
	op->activation_code = task_text(task, tuple, desc, C_CODE);
	/* queued behind the profile's reservation, which has told it meanwhile */
	if (op->activation_code == NULL)
		op->activation_code = task_text(task, tuple, desc, C_PROFILE_CODE);
	op->confirmation_code = task_text(task, tuple, desc, C_CONFIRMATION);
	op->activate_on_download = task_number(tuple, desc, C_ACTIVATE, BOOLOID);
	op->rollback = task_number(tuple, desc, C_ROLLBACK, BOOLOID);
	op->matching_id = task_text(task, tuple, desc, C_MATCHING_ID);
	op->profile_type = task_text(task, tuple, desc, C_PROFILE_TYPE);
	op->smds_address = task_text(task, tuple, desc, C_SMDS);
	op->final_status = task_text(task, tuple, desc, C_FINAL);
	op->subscription = task_text(task, tuple, desc, C_SUBSCRIPTION);
	op->fleet = task_text(task, tuple, desc, C_FLEET);
	op->fleet_rsp_id = task_text(task, tuple, desc, C_FLEET_RSP_ID);
	op->generate_matching_id = task_number(tuple, desc, C_GENERATE, BOOLOID);
	op->release = task_number(tuple, desc, C_RELEASE, BOOLOID);
	op->settings = json_object_of(task_text(task, tuple, desc, C_SETTINGS));
	op->options = json_object_of(task_text(task, tuple, desc, C_OPTIONS));
	op->reserved_eid = task_text(task, tuple, desc, C_RESERVED_EID);
	op->profile_matching_id = task_text(task, tuple, desc, C_PROFILE_MATCHING);
	op->profile_smdp_address = task_text(task, tuple, desc, C_PROFILE_SMDP);
	op->sim_id = task_text(task, tuple, desc, C_SIM_ID);
	op->subscription_now = task_text(task, tuple, desc, C_SUBSCRIPTION_NOW);
	text = task_text(task, tuple, desc, C_STATE);
	if (text != NULL && rsp_state_from_name(text, &state))
		op->state = state;
	op->is_fallback = task_number(tuple, desc, C_FALLBACK, BOOLOID);
	op->rsp_id = task_text(task, tuple, desc, C_RSP_ID);
	op->now_ms = timestamptz_to_ms(now);
	op->first_sent_ms = task->first_sent_at ? timestamptz_to_ms(task->first_sent_at) : 0;
	op->last_sent_ms = task->last_sent_at ? timestamptz_to_ms(task->last_sent_at) : 0;
	op->attempts = task_number(tuple, desc, C_ACTING, INT4OID);
	op->unresolved = task_number(tuple, desc, C_UNRESOLVED, BOOLOID);
	op->ask_first = task_number(tuple, desc, C_ASK_FIRST, BOOLOID);
	op->cancel_asked = task_number(tuple, desc, C_CANCEL_ASKED, BOOLOID);
	op->step = task_number(tuple, desc, C_STEP, INT2OID);
	op->polls = task_number(tuple, desc, C_POLLS, INT4OID);
	op->failures = task_number(tuple, desc, C_FAILURES, INT4OID);
	task->saved_step = op->step;
	task->saved_memo = (char *) task_text(task, tuple, desc, C_MEMO);
	op->memo = json_object_of(task->saved_memo);
	text = task_text(task, tuple, desc, C_RSP_OPERATION);
	if (text != NULL)
		strlcpy(op->rsp_operation_id, text, sizeof(op->rsp_operation_id));
	text = task_text(task, tuple, desc, C_PHASE);
	task->shown = text != NULL && strcmp(text, "SENT") == 0;

	task->conversation.op = op;
	MemoryContextSwitchTo(old);
	return task;
}

/*
 * What must still hold when an operation runs.  Only for those of which
 * nothing has been sent yet: the rest is under way, whatever we think of it.
 */
static bool
recheck(Task *task, bool dangling, bool retired, const char *dependency)
{
	RspOperation *op = &task->op;
	char		message[128];

	if (dangling)
	{
		rsp_park(&task->conversation, "PERMISSION_DENIED", "the owner no longer exists");
		task_move(task, TASK_OUTCOME);
		return false;
	}
	if (op->unresolved || op->attempts > 0 || op->step != 0 || op->rsp_operation_id[0] != '\0')
		return true;
	if (dependency != NULL)
	{
		snprintf(message, sizeof(message), "operation %s did not succeed", dependency);
		task->cancelled = true;
		task_fail(task, "DEPENDENCY_FAILED", message);
		return false;
	}
	/* a subscription can be stopped, and an order taken back, all the same */
	if (retired && ((task->lane & 1) != 0 || op->kind == RSP_DOWNLOAD || op->kind == RSP_RESERVE))
	{
		task_fail(task, "IDENTIFIER_NOT_FOUND", "the device is retired");
		return false;
	}
	switch (op->kind)
	{
		case RSP_ENABLE:
		case RSP_DISABLE:
		case RSP_DELETE:
		case RSP_SET_FALLBACK:
			if (!task->driver->state_allowed(op->kind, op->state))
			{
				snprintf(message, sizeof(message), "the profile is %s",
						 op->state == RSP_STATE_NONE ? "not there" : rsp_state_name(op->state));
				task_fail(task, "INCOMPATIBLE_STATE", message);
				return false;
			}
			break;
		default:
			break;
	}
	return true;
}

static void
claimed(HeapTuple tuple, TupleDesc desc, const char *server_name, int server_slot, bool counted)
{
	Task	   *task = make_task(tuple, desc);
	char	   *reason = NULL;
	char	   *owner_name;
	char	   *role;
	bool		isnull;
	bool		dangling;

	if (task_number(tuple, desc, C_CRASHES, INT2OID) >= POISON_CRASHES)
	{
		if (counted)
			esim_server_release_slots(server_slot, esim_worker->slot, 1);
		task_fail(task, task->op.unresolved ? "OUTCOME_UNKNOWN" : "POISONED",
				  "workers crashed while handling the operation");
		return;
	}

	/* a role of that number and that name, as esim_may_act_for() */
	owner_name = NameStr(*DatumGetName(SPI_getbinval(tuple, desc, C_OWNER_NAME, &isnull)));
	role = GetUserNameFromId(task->owner, true);
	dangling = role == NULL || strcmp(role, owner_name) != 0;

	task->server_slot = counted ? server_slot : -1;
	task->server = esim_server_get(server_name, task->owner, true, &reason);
	if (task->server == NULL)
	{
		if (counted)
			esim_server_release_slots(server_slot, esim_worker->slot, 1);
		rsp_park(&task->conversation, "UNAVAILABLE", reason ? reason : "the server cannot be used");
		task_move(task, TASK_OUTCOME);
		return;
	}
	task->driver = rsp_driver(task->server->rsp.protocol);
	task->conversation.server = &task->server->rsp;
	if (task->driver == NULL || task->server->rsp.endpoint == NULL)
	{
		rsp_park(&task->conversation, "UNAVAILABLE", "this release has no driver for the server's protocol");
		task_move(task, TASK_OUTCOME);
		return;
	}
	if (task->expires_at <= GetCurrentTimestamp() && !task->op.unresolved &&
		task->op.attempts == 0)
	{
		task_fail(task, "EXPIRED", "the operation expired before it was sent");
		return;
	}
	(void) recheck(task, dangling, task_number(tuple, desc, C_RETIRED, BOOLOID) != 0,
				   task_text(task, tuple, desc, C_DEPENDENCY));
}

/* names of the servers that have ready rows, by hops over the index */
static List *
ready_servers(void)
{
	static EsimStatement next = {
		"SELECT p.server FROM @esim_pending p WHERE p.state = 'R' AND p.server > $1 ORDER BY p.server LIMIT 1",
		1, {"text"}
	};
	List	   *names = NIL;
	Datum		last = CStringGetTextDatum("");

	for (;;)
	{
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		esim_execute(&next, &last, NULL, 1);
		if (SPI_processed == 0)
			return names;
		last = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
		names = lappend(names, TextDatumGetCString(last));
		last = CStringGetTextDatum(llast(names));
	}
}

static bool
server_paused(const char *name)
{
	static EsimStatement paused = {
		"SELECT 1 FROM @esim_paused z WHERE z.server = $1", 1, {"text"}
	};
	Datum		value = CStringGetTextDatum(name);

	esim_execute(&paused, &value, NULL, 1);
	return SPI_processed > 0;
}

/*
 * Claims at most limit ready rows, servers in turn; returns how many.  Sets
 * the worker's next_claim when a server holds back and rows remain.
 *
 * Of a server that holds back, those that only look whether their device has
 * come get no more than half: they are older, and with many devices that are
 * away there are always some of them.
 */
int
claim_ready(int limit)
{
	static EsimStatement claim = {
		"WITH c AS MATERIALIZED (SELECT x.ctid FROM unnest($2) s(shard), (VALUES (false), (true)) g(looks),"
		"  LATERAL (SELECT q.ctid, q.urgency, q.seq FROM @esim_pending q"
		"   WHERE q.state = 'R' AND q.server = $1 AND q.shard = s.shard AND (q.polls > 0) = g.looks AND NOT q.claimed"
		/* the net below the flags: one at a time, in order, in every lane */
		"    AND NOT EXISTS (SELECT FROM @esim_pending a WHERE a.lane = q.lane AND a.seq <> q.seq AND (a.seq < q.seq OR a.claimed))"
		"    AND NOT EXISTS (SELECT FROM @esim_deferred d WHERE d.operation = q.operation)"
		/* a lost creation is found again only while it is the only one */
		"    AND (NOT $6 OR q.kind NOT IN ('reserve', 'fleet-create') OR q.unresolved OR NOT EXISTS"
		"     (SELECT FROM @esim_pending u WHERE u.unresolved AND u.server = q.server AND u.kind = q.kind))"
		"   ORDER BY q.urgency, q.seq LIMIT $4 FOR NO KEY UPDATE OF q SKIP LOCKED) x"
		"  ORDER BY x.urgency, row_number() OVER (PARTITION BY x.urgency, g.looks ORDER BY x.seq), g.looks = $7 DESC LIMIT $3)"
		" UPDATE @esim_pending p SET claimed = true, handling = false, postmaster = $5,"
		"  intent = $6 AND p.kind <> 'refresh' AND p.step = 0 AND p.memo IS NULL AND p.rsp_operation_id IS NULL AND NOT p.ask_first FROM c, @esim_operation o"
		"  LEFT JOIN @esim_profile f ON f.id = o.profile"
		" WHERE p.ctid = c.ctid AND o.id = p.operation RETURNING" CLAIMED_COLUMNS,
		7, {"text", "int2[]", "int8", "int8", "timestamptz", "bool", "bool"}
	};
	static int	turn = 0;
	List	   *names;
	int			total = 0;
	int			nnames;
	TimestampTz now = GetCurrentTimestamp();

	if (esim_worker->paused)
		return 0;
	names = ready_servers();
	nnames = list_length(names);
	turn++;

	/* begin with another server each time, so that the first does not eat all */
	for (int i = 0; i < nnames && limit > total; i++)
	{
		char	   *name = list_nth(names, (i + turn) % nnames);
		EsimServer *server;
		char	   *reason;
		int			slot = -1;
		int			want = Max(1, (limit - total) / (nnames - i));
		int			granted;
		uint64		got;
		SPITupleTable *table;
		Datum		values[7];
		bool		can_ask = false;
		Oid			serverid = InvalidOid;

		if (server_paused(name))
			continue;

		/* limits are the server's, whoever's credentials are used */
		server = esim_server_get(name, InvalidOid, false, &reason);
		if (server != NULL)
		{
			const RspDriver *driver = rsp_driver(server->rsp.protocol);

			can_ask = driver != NULL && driver->can_ask;
			serverid = server->serverid;
			slot = esim_server_slot(esim_worker->database, serverid);
			granted = esim_server_acquire(slot, esim_worker->slot, want, server->max_in_flight,
										  server->rate_limit, now);
			if (granted < want)
			{
				TimestampTz open = esim_server_open_until(slot);
				TimestampTz again = open > now ? open :
					TimestampTzPlusMilliseconds(now, server->rate_limit > 0 ?
												Max(5, (int) (1000 / server->rate_limit)) : 20);

				if (esim_worker->next_claim == 0 || again < esim_worker->next_claim)
					esim_worker->next_claim = again;
			}
			esim_server_release(server);
		}
		else
			granted = want;		/* to be parked with the reason */
		if (granted == 0)
			continue;

		values[0] = CStringGetTextDatum(name);
		values[1] = shards_array(false);
		values[2] = Int64GetDatum(granted);
		/* an even share from each shard: the next look gets the rest */
		values[3] = Int64GetDatum(granted / Max(1, shards_held()) + 1);
		values[4] = TimestampTzGetDatum(PgStartTime);
		/* where it can be asked what became of it, the claim is the intent */
		values[5] = BoolGetDatum(can_ask);
		/* whose turn it is where there is room for one */
		values[6] = BoolGetDatum(pg_prng_bool(&pg_global_prng_state));
		esim_execute(&claim, values, NULL, 0);
		got = SPI_processed;
		table = SPI_tuptable;
		for (uint64 r = 0; r < got; r++)
			check_row_epoch(table->vals[r], table->tupdesc);
		for (uint64 r = 0; r < got; r++)
			claimed(table->vals[r], table->tupdesc, name, slot, OidIsValid(serverid));
		if (OidIsValid(serverid))
			esim_server_release_slots(slot, esim_worker->slot, granted - (int) got);
		total += (int) got;
	}
	return total;
}

/*
 * Expired rows that nothing is done with at present, whatever their place in
 * the lane.  What was sent is ended as well; the eUICC is listed later.
 */
void
claim_expired(void)
{
	static EsimStatement expired = {
		"WITH e AS MATERIALIZED (SELECT x.seq FROM unnest($1) s(shard),"
		"  LATERAL (SELECT q.seq FROM @esim_pending q WHERE q.shard = s.shard AND q.expires_at <= $2 AND NOT q.claimed"
		"    AND NOT EXISTS (SELECT FROM @esim_deferred f WHERE f.operation = q.operation)"
		"   ORDER BY q.expires_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED) x)"
		" UPDATE @esim_pending p SET claimed = true, handling = false FROM e, @esim_operation o"
		"  LEFT JOIN @esim_profile f ON f.id = o.profile"
		" WHERE p.seq = e.seq AND o.id = p.operation RETURNING" CLAIMED_COLUMNS,
		3, {"int2[]", "timestamptz", "int8"}
	};
	Datum		values[3];
	uint64		got;
	SPITupleTable *table;

	values[0] = shards_array(false);
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[2] = Int64GetDatum(EXPIRED_BATCH);
	esim_execute(&expired, values, NULL, 0);
	got = SPI_processed;
	table = SPI_tuptable;
	for (uint64 r = 0; r < got; r++)
		check_row_epoch(table->vals[r], table->tupdesc);
	for (uint64 r = 0; r < got; r++)
	{
		Task	   *task = make_task(table->vals[r], table->tupdesc);

		if (task->op.unresolved || task->op.attempts > 0)
		{
			task->refresh_after = true;
			task_fail(task, "EXPIRED", "the operation expired before its end was known");
		}
		else
			task_fail(task, "EXPIRED", "the operation expired before it was sent");
	}
}

/* does this worker have the operation in hand? */
static bool
in_hand(int64 seq)
{
	dlist_head *lists[4] = {&esim_worker->begin, &esim_worker->intents, &esim_worker->flying, &esim_worker->outcomes};
	dlist_iter	iter;

	for (int i = 0; i < lengthof(lists); i++)
		dlist_foreach(iter, lists[i])
			if (dlist_container(Task, node, iter.cur)->seq == seq)
				return true;
	return false;
}

/*
 * Outcomes that could not be applied before: tasks with the outcome as it was
 * recorded.  Those whose rows are still locked wait on.
 */
void
claim_deferred(void)
{
	static EsimStatement deferred = {
		"WITH d AS MATERIALIZED (SELECT DISTINCT ON (x.operation) x.operation, x.outcome FROM @esim_deferred x"
		"  WHERE x.shard = ANY ($1) ORDER BY x.operation, x.id),"
		/* those whose profile is still locked would only cost a time-out each; not always the same ones first */
		" l AS MATERIALIZED (SELECT p.seq, d.outcome FROM d JOIN @esim_pending p USING (operation)"
		"  WHERE p.profile IS NULL OR EXISTS (SELECT FROM @esim_profile f WHERE f.id = p.profile FOR NO KEY UPDATE SKIP LOCKED)"
		"  ORDER BY random() LIMIT $2 FOR NO KEY UPDATE OF p SKIP LOCKED)"
		" UPDATE @esim_pending p SET claimed = true, handling = false FROM l, @esim_operation o"
		"  LEFT JOIN @esim_profile f ON f.id = o.profile"
		" WHERE p.seq = l.seq AND o.id = p.operation RETURNING" CLAIMED_COLUMNS ", p.server, l.outcome",
		2, {"int2[]", "int8"}
	};
	static EsimStatement left_over = {
		"DELETE FROM @esim_deferred d WHERE d.shard = ANY ($1)"
		" AND NOT EXISTS (SELECT FROM @esim_pending p WHERE p.operation = d.operation)", 1, {"int2[]"}
	};
	Datum		values[2];
	uint64		got;
	SPITupleTable *table;

	values[0] = shards_array(true);
	values[1] = Int64GetDatum(DEFERRED_BATCH);
	esim_execute(&left_over, values, NULL, 0);
	esim_execute(&deferred, values, NULL, 0);
	got = SPI_processed;
	table = SPI_tuptable;
	for (uint64 r = 0; r < got; r++)
	{
		Task	   *task;
		const char *outcome;
		const char *server;
		char	   *reason;

		/* of an event that came while its claim was being made: later */
		if (in_hand(task_number(table->vals[r], table->tupdesc, C_SEQ, INT8OID)))
			continue;
		task = make_task(table->vals[r], table->tupdesc);
		outcome = task_text(task, table->vals[r], table->tupdesc, C_OUTCOME);
		server = SPI_getvalue(table->vals[r], table->tupdesc, C_SERVER);

		task->deferred = true;
		task->server = esim_server_get(server, task->owner, true, &reason);
		/* without usable credentials what was learned is learned all the same */
		if (task->server == NULL)
			task->server = esim_server_get(server, InvalidOid, false, &reason);
		if (!deferred_from_json(task, outcome))
		{
			task->op.unresolved = true;
			rsp_wait(&task->conversation, RSP_PHASE_RETRYING, 1000, "UNAVAILABLE",
					 "a recorded outcome could not be read");
		}
		task_move(task, TASK_OUTCOME);
	}
}

/* A server or its credentials have changed: who is parked may try again. */
void
claim_parked(void)
{
	static EsimStatement parked = {
		"WITH k AS (SELECT q.seq FROM @esim_pending q WHERE q.shard = ANY ($1) AND q.state = 'P' AND NOT q.claimed FOR NO KEY UPDATE SKIP LOCKED),"
		" u AS (UPDATE @esim_pending p SET state = 'N', next_at = NULL FROM k WHERE p.seq = k.seq RETURNING p.operation)"
		" UPDATE @esim_operation o SET phase = 'QUEUED', phase_reason = NULL, next_at = NULL FROM u WHERE o.id = u.operation",
		1, {"int2[]"}
	};
	Datum		value = shards_array(false);

	esim_execute(&parked, &value, NULL, 0);
}

/* Earliest time at which something becomes due or expires; 0: never. */
TimestampTz
claim_next_due(void)
{
	static EsimStatement earliest = {
		"SELECT least(min((SELECT q.next_at FROM @esim_pending q WHERE q.shard = s.shard AND q.state IN ('W', 'D', 'P') AND q.next_at IS NOT NULL AND NOT q.claimed"
		"   ORDER BY q.next_at LIMIT 1)),"
		"  min((SELECT q.expires_at FROM @esim_pending q WHERE q.shard = s.shard AND NOT q.claimed"
		"   ORDER BY q.expires_at LIMIT 1)))"
		" FROM unnest($1) s(shard)",
		1, {"int2[]"}
	};
	Datum		value = shards_array(false);
	bool		isnull;
	Datum		due;

	esim_execute(&earliest, &value, NULL, 1);
	due = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	return isnull ? 0 : DatumGetTimestampTz(due);
}

/* true: there is something in the shards held that will need this worker */
bool
claim_anything_left(void)
{
	static EsimStatement left = {
		"SELECT 1 FROM unnest($1) s(shard), LATERAL (SELECT 1 FROM @esim_pending q"
		" WHERE q.shard = s.shard AND (q.state IN ('N', 'R', 'W', 'D') OR q.next_at IS NOT NULL)"
		" AND NOT EXISTS (SELECT FROM @esim_paused z WHERE z.server IS NULL OR z.server = q.server) LIMIT 1) x LIMIT 1",
		1, {"int2[]"}
	};
	Datum		value = shards_array(true);

	esim_execute(&left, &value, NULL, 1);
	return SPI_processed > 0;
}
