/*-------------------------------------------------------------------------
 *
 * complete.c
 *	  Writes the outcomes of operations and what follows from them in the
 *	  lane.  Set-based, many operations at once.
 *
 * Everything runs within a transaction of the worker, under its short
 * lock_timeout: an error here sends the caller to writing them one by one.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/worker.h"

#include "catalog/pg_type.h"
#include "commands/async.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "event/event.h"

#define SHOW_SENT_AFTER_MS 100

/* share of the queue of NOTIFY from which it is left to others */
#define NOTIFY_QUEUE_MAX 0.5

/* ------------------------------------------------------------------------
 * Operations and queue
 * ------------------------------------------------------------------------ */

/* is the operation over after this turn? */
static bool
ended(const Task *task)
{
	return task->conversation.action.type == RSP_ACT_DONE ||
		task->conversation.action.type == RSP_ACT_FAIL;
}

static bool
on_euicc(RspKind kind)
{
	return kind == RSP_DOWNLOAD || kind == RSP_ENABLE || kind == RSP_DISABLE || kind == RSP_DELETE ||
		kind == RSP_SET_FALLBACK || kind == RSP_UNSET_FALLBACK;
}

/*
 * NOTIFY of operations that have ended?  A listener that never reads fills the
 * queue of notifications, and a full one would end every transaction of ours.
 */
static bool
notify_wanted(void)
{
	return esim_notify_channel && esim_notify_channel[0] &&
		DatumGetFloat8(DirectFunctionCall1(pg_notification_queue_usage, (Datum) 0)) < NOTIFY_QUEUE_MAX;
}

/* recorded outcomes that are applied now */
static void
forget_deferred(Column *operations)
{
	static EsimStatement forget = {
		"DELETE FROM @esim_deferred WHERE operation = ANY ($1)", 1, {"uuid[]"}
	};
	Datum		value;

	if (operations->count == 0)
		return;
	value = column_array(operations, UUIDOID);
	esim_execute(&forget, &value, NULL, 0);
}

static void
write_ended(dlist_head *tasks, TimestampTz now)
{
	static EsimStatement update = {
		"UPDATE @esim_operation o SET status = 'COMPLETED', result = u.result::@esim_operation_result, phase = 'DONE',"
		" phase_reason = NULL, next_at = NULL, attempts = u.attempts, error_code = u.error_code, error_message = u.error_message,"
		" rsp_operation_id = u.rsp_operation_id, rsp_code = u.rsp_code, rsp_message = u.rsp_message,"
		" iccid = coalesce(u.iccid::@iccid(unchecked), o.iccid), sent_at = u.sent_at, completed_at = $11"
		" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
		"  u(id, result, attempts, error_code, error_message, rsp_operation_id, rsp_code, rsp_message, iccid, sent_at)"
		" WHERE o.id = u.id AND o.status = 'ACCEPTED' RETURNING " ESIM_ANNOUNCED("o"),
		11, {"uuid[]", "text[]", "int4[]", "text[]", "text[]", "text[]", "text[]", "text[]", "text[]", "timestamptz[]", "timestamptz"}
	};
	static EsimStatement dequeue = {
		"DELETE FROM @esim_pending WHERE seq = ANY ($1)", 1, {"int8[]"}
	};
	static EsimStatement secrets = {
		"DELETE FROM @esim_operation_secret WHERE operation = ANY ($1) AND sink_credential IS NULL", 1, {"uuid[]"}
	};
	static EsimStatement seen = {
		"INSERT INTO @esim_device_state AS s (eid, last_seen_at, owner, owner_name)"
		" SELECT u.eid, $2, d.owner, d.owner_name FROM (SELECT DISTINCT e.eid::@eid(unchecked) FROM unnest($1) e(eid)) u"
		" LEFT JOIN @esim_device d ON d.eid OPERATOR(@=) u.eid"
		" ON CONFLICT (eid) DO UPDATE SET last_seen_at = EXCLUDED.last_seen_at",
		2, {"text[]", "timestamptz"}
	};
	static const Oid types[10] = {UUIDOID, TEXTOID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
	TEXTOID, TIMESTAMPTZOID};
	Column		c[10];
	Column		seqs;
	Column		lanes;
	Column		with_secrets;
	Column		deferred;
	Column		eids;
	Datum		values[11];
	bool		notify = notify_wanted();
	dlist_iter	iter;

	for (int i = 0; i < 10; i++)
		column_init(&c[i], 64);
	column_init(&seqs, 64);
	column_init(&lanes, 64);
	column_init(&with_secrets, 8);
	column_init(&deferred, 8);
	column_init(&eids, 64);

	dlist_foreach(iter, tasks)
	{
		Task	   *task = dlist_container(Task, node, iter.cur);
		RspAction  *action = &task->conversation.action;
		bool		done = action->type == RSP_ACT_DONE;

		if (!ended(task))
			continue;
		column_add(&c[0], UUIDPGetDatum(&task->id));
		column_add_text(&c[1], done ? "SUCCESS" : task->cancelled ? "CANCELLED" : "FAILED");
		column_add(&c[2], Int32GetDatum(task->attempts_before + task->nattempts));
		column_add_text(&c[3], done ? NULL : action->code[0] ? action->code : "UNAVAILABLE");
		column_add_text(&c[4], action->message);
		column_add_text(&c[5], task->op.rsp_operation_id);
		column_add_text(&c[6], action->rsp_code);
		column_add_text(&c[7], action->rsp_message);
		column_add_text(&c[8], action->iccid);
		if (task->first_sent_at)
			column_add(&c[9], TimestampTzGetDatum(task->first_sent_at));
		else
			column_add_null(&c[9]);
		column_add(&seqs, Int64GetDatum(task->seq));
		column_add(&lanes, Int64GetDatum(task->lane));
		if (task->op.kind == RSP_DOWNLOAD || task->op.kind == RSP_RESERVE)
			column_add(&with_secrets, UUIDPGetDatum(&task->id));
		if (task->deferred)
			column_add(&deferred, UUIDPGetDatum(&task->id));
		if (done && task->op.eid && on_euicc(task->op.kind))
			column_add_text(&eids, task->op.eid);

		if (notify)
			Async_Notify(esim_notify_channel, task->op.id);
		if (esim_log_operations)
			ereport(LOG,
					(errmsg("esim operation %s (%s of profile %s) ended %s%s%s", task->op.id,
							rsp_kind_name(task->op.kind), task->op.iccid ? esim_mask(task->op.iccid) : "unknown",
							done ? "SUCCESS" : task->cancelled ? "CANCELLED" : "FAILED",
							done ? "" : ", ", done ? "" : action->code)));
	}
	if (seqs.count == 0)
		return;

	for (int i = 0; i < 10; i++)
		values[i] = column_array(&c[i], types[i]);
	values[10] = TimestampTzGetDatum(now);
	esim_execute(&update, values, NULL, 0);
	esim_outbox_write(SPI_tuptable, SPI_processed, 1);
	values[0] = column_array(&seqs, INT8OID);
	esim_execute(&dequeue, values, NULL, 0);
	if (with_secrets.count > 0)
	{
		values[0] = column_array(&with_secrets, UUIDOID);
		esim_execute(&secrets, values, NULL, 0);
	}
	forget_deferred(&deferred);
	if (eids.count > 0)
	{
		values[0] = column_array(&eids, TEXTOID);
		values[1] = TimestampTzGetDatum(now);
		esim_execute(&seen, values, NULL, 0);
	}
	complete_promote(lanes.values, lanes.count);
}

static void
write_waiting(dlist_head *tasks, TimestampTz now)
{
	static EsimStatement queue = {
		"UPDATE @esim_pending p SET state = u.state, claimed = false, intent = false,"
		/* its order was taken back while it was looked at */
		" next_at = CASE WHEN p.kind = 'download' AND (p.lane & 1) = 0 AND EXISTS (SELECT FROM @esim_profile f WHERE f.id = p.profile AND f.state = 'CANCELLED')"
		"   AND EXISTS (SELECT FROM @esim_operation c WHERE c.profile = p.profile AND c.kind = 'cancel-order' AND c.result = 'SUCCESS')"
		"  THEN least(u.next_at, clock_timestamp()) ELSE u.next_at END,"
		" unresolved = u.unresolved, ask_first = u.ask_first,"
		" handling = false, step = u.step, attempts = u.attempts, acting = u.acting, polls = u.polls, failures = u.failures,"
		" first_sent_at = u.first_sent_at, last_sent_at = u.last_sent_at, rsp_operation_id = u.rsp_operation_id, memo = u.memo"
		" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
		"  u(seq, state, next_at, unresolved, ask_first, step, attempts, acting, polls, failures, first_sent_at, last_sent_at, rsp_operation_id, memo)"
		" WHERE p.seq = u.seq",
		14, {"int8[]", "char[]", "timestamptz[]", "bool[]", "bool[]", "int2[]", "int4[]", "int4[]", "int4[]", "int4[]",
		"timestamptz[]", "timestamptz[]", "text[]", "text[]"}
	};
	static EsimStatement operation = {
		"UPDATE @esim_operation o SET phase = u.phase::@esim_operation_phase, phase_reason = u.reason, next_at = u.next_at,"
		" attempts = u.attempts, sent_at = u.sent_at, rsp_operation_id = u.rsp_operation_id, rsp_code = u.rsp_code, rsp_message = u.rsp_message"
		" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9) u(id, phase, reason, next_at, attempts, sent_at, rsp_operation_id, rsp_code, rsp_message)"
		" WHERE o.id = u.id AND o.status = 'ACCEPTED'",
		9, {"uuid[]", "text[]", "text[]", "timestamptz[]", "int4[]", "timestamptz[]", "text[]", "text[]", "text[]"}
	};
	static const Oid queue_types[14] = {INT8OID, CHAROID, TIMESTAMPTZOID, BOOLOID, BOOLOID, INT2OID, INT4OID, INT4OID,
	INT4OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, TEXTOID};
	static const Oid operation_types[9] = {UUIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, INT4OID, TIMESTAMPTZOID,
	TEXTOID, TEXTOID, TEXTOID};
	Column		q[14];
	Column		o[9];
	Column		deferred;
	Datum		values[14];
	dlist_iter	iter;

	for (int i = 0; i < 14; i++)
		column_init(&q[i], 64);
	for (int i = 0; i < 9; i++)
		column_init(&o[i], 64);
	column_init(&deferred, 8);

	dlist_foreach(iter, tasks)
	{
		Task	   *task = dlist_container(Task, node, iter.cur);
		RspAction  *action = &task->conversation.action;
		bool		park = action->type == RSP_ACT_PARK;
		TimestampTz next;
		char	   *memo;

		if (ended(task))
			continue;
		next = TimestampTzPlusMilliseconds(now, Max(action->delay_ms, 1));
		if (!park && next > task->expires_at)
			next = task->expires_at;
		memo = rsp_json_text(task->op.memo);
		if (task->deferred)
			column_add(&deferred, UUIDPGetDatum(&task->id));

		column_add(&q[0], Int64GetDatum(task->seq));
		column_add(&q[1], CharGetDatum(park || action->phase == RSP_PHASE_PARKED ? 'P' : 'W'));
		if (park)
			column_add_null(&q[2]);
		else
			column_add(&q[2], TimestampTzGetDatum(next));
		column_add(&q[3], BoolGetDatum(task->op.unresolved));
		column_add(&q[4], BoolGetDatum(task->op.ask_first));
		column_add(&q[5], Int16GetDatum(task->op.step));
		column_add(&q[6], Int32GetDatum(task->attempts_before + task->nattempts));
		column_add(&q[7], Int32GetDatum(task->op.attempts));
		column_add(&q[8], Int32GetDatum(task->op.polls));
		column_add(&q[9], Int32GetDatum(task->op.failures));
		for (int i = 0; i < 2; i++)
		{
			TimestampTz t = i == 0 ? task->first_sent_at : task->last_sent_at;

			if (t)
				column_add(&q[10 + i], TimestampTzGetDatum(t));
			else
				column_add_null(&q[10 + i]);
		}
		column_add_text(&q[12], task->op.rsp_operation_id);
		column_add_text(&q[13], memo);
		free(memo);

		column_add(&o[0], UUIDPGetDatum(&task->id));
		column_add_text(&o[1], rsp_phase_name(park ? RSP_PHASE_PARKED : action->phase));
		column_add_text(&o[2], action->message);
		if (park)
			column_add_null(&o[3]);
		else
			column_add(&o[3], TimestampTzGetDatum(next));
		column_add(&o[4], Int32GetDatum(task->attempts_before + task->nattempts));
		if (task->first_sent_at)
			column_add(&o[5], TimestampTzGetDatum(task->first_sent_at));
		else
			column_add_null(&o[5]);
		column_add_text(&o[6], task->op.rsp_operation_id);
		column_add_text(&o[7], action->rsp_code);
		column_add_text(&o[8], action->rsp_message);
	}
	if (q[0].count == 0)
		return;
	forget_deferred(&deferred);
	for (int i = 0; i < 14; i++)
		values[i] = column_array(&q[i], queue_types[i]);
	esim_execute(&queue, values, NULL, 0);
	for (int i = 0; i < 9; i++)
		values[i] = column_array(&o[i], operation_types[i]);
	esim_execute(&operation, values, NULL, 0);
}

/* Lanes, as the last statement has listed them, are looked at again. */
void
complete_promote_later(void)
{
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(esim_worker->context);
		bool		isnull;
		int64	   *lane = palloc(sizeof(int64));

		*lane = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		esim_worker->unpromoted = lappend(esim_worker->unpromoted, lane);
		MemoryContextSwitchTo(old);
	}
}

/*
 * The next row of each lane becomes its head.  A row that somebody has locked
 * (a cancellation under way) is looked at again later.
 */
void
complete_promote(Datum *lanes, int nlanes)
{
	static EsimStatement promote = {
		"WITH h AS MATERIALIZED (SELECT l.lane, (SELECT q.seq FROM @esim_pending q WHERE q.lane = l.lane ORDER BY q.seq LIMIT 1) AS seq"
		"  FROM (SELECT DISTINCT x.lane FROM unnest($1) x(lane)) l),"
		" k AS MATERIALIZED (SELECT p.seq FROM h JOIN @esim_pending p USING (seq) WHERE p.state IN ('N', 'B') AND NOT p.claimed FOR NO KEY UPDATE OF p SKIP LOCKED),"
		" u AS (UPDATE @esim_pending p SET state = CASE WHEN p.waits_for IS NOT NULL THEN 'N' WHEN p.next_at > $2 THEN 'W' ELSE 'R' END,"
		"  urgency = (SELECT min(x.priority) FROM @esim_pending x WHERE x.lane = p.lane)"
		"  FROM k WHERE p.seq = k.seq RETURNING p.seq, p.operation, p.state),"
		" s AS (UPDATE @esim_operation o SET phase = 'QUEUED', phase_reason = NULL FROM u WHERE o.id = u.operation AND o.phase = 'BLOCKED')"
		" SELECT h.lane FROM h JOIN @esim_pending p USING (seq) WHERE p.state IN ('N', 'B') AND NOT p.claimed AND h.seq NOT IN (SELECT u.seq FROM u)",
		2, {"int8[]", "timestamptz"}
	};
	Column		column;
	Datum		values[2];

	if (nlanes == 0)
		return;
	column_init(&column, nlanes);
	for (int i = 0; i < nlanes; i++)
		column_add(&column, lanes[i]);
	values[0] = column_array(&column, INT8OID);
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	esim_execute(&promote, values, NULL, 0);
	complete_promote_later();
}

/*
 * Those that needed the success of an operation that had none: CANCELLED,
 * and so on down the lane.  Those in other lanes are told when they are
 * looked at (waits_for).
 */
static void
cancel_dependents(dlist_head *tasks, TimestampTz now)
{
	static EsimStatement cancel = {
		"WITH d AS MATERIALIZED (SELECT p.seq, p.operation, o.depends_on FROM @esim_pending p JOIN @esim_operation o ON o.id = p.operation"
		"  WHERE p.lane = ANY ($1) AND NOT p.claimed AND o.depends_on && $2 FOR NO KEY UPDATE OF p SKIP LOCKED),"
		" q AS (DELETE FROM @esim_pending p USING d WHERE p.seq = d.seq)"
		" UPDATE @esim_operation o SET status = 'COMPLETED', result = 'CANCELLED', phase = 'DONE', phase_reason = NULL, next_at = NULL,"
		"  error_code = 'DEPENDENCY_FAILED', error_message = 'operation '"
		"  || (SELECT x.id FROM unnest(d.depends_on) x(id) WHERE x.id = ANY ($2) LIMIT 1) || ' did not succeed', completed_at = $3"
		" FROM d WHERE o.id = d.operation RETURNING o.id, " ESIM_ANNOUNCED("o"),
		3, {"int8[]", "uuid[]", "timestamptz"}
	};
	Column		lanes;
	Column		failed;
	Datum		values[3];
	bool		notify = notify_wanted();
	dlist_iter	iter;

	column_init(&lanes, 8);
	column_init(&failed, 8);
	dlist_foreach(iter, tasks)
	{
		Task	   *task = dlist_container(Task, node, iter.cur);

		if (task->conversation.action.type != RSP_ACT_FAIL)
			continue;
		column_add(&lanes, Int64GetDatum(task->lane));
		column_add(&failed, UUIDPGetDatum(&task->id));
	}
	while (failed.count > 0)
	{
		uint64		n;

		CHECK_FOR_INTERRUPTS();
		values[0] = column_array(&lanes, INT8OID);
		values[1] = column_array(&failed, UUIDOID);
		values[2] = TimestampTzGetDatum(now);
		esim_execute(&cancel, values, NULL, 0);
		n = SPI_processed;
		column_init(&failed, Max(8, (int) n));
		for (uint64 i = 0; i < n; i++)
		{
			bool		isnull;
			Datum		id = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);

			column_add(&failed, id);
			if (notify)
				Async_Notify(esim_notify_channel,
							 DatumGetCString(DirectFunctionCall1(uuid_out, id)));
		}
		esim_outbox_write(SPI_tuptable, n, 2);
	}
}

/* Orders that were taken back: downloads that wait for their devices look now. */
static void
wake_downloads(dlist_head *tasks)
{
	static EsimStatement wake = {
		"WITH k AS MATERIALIZED (SELECT q.seq FROM @esim_operation o JOIN @esim_pending q ON q.operation = o.id"
		"  WHERE o.profile = ANY ($1) AND o.kind = 'download' AND o.status = 'ACCEPTED' AND q.state = 'W' AND NOT q.claimed"
		"  FOR NO KEY UPDATE OF q SKIP LOCKED)"
		" UPDATE @esim_pending p SET next_at = clock_timestamp() FROM k WHERE p.seq = k.seq",
		1, {"uuid[]"}
	};
	Column		profiles;
	Datum		value;
	dlist_iter	iter;

	column_init(&profiles, 8);
	dlist_foreach(iter, tasks)
	{
		Task	   *task = dlist_container(Task, node, iter.cur);

		if (task->op.kind == RSP_CANCEL_ORDER && task->has_profile &&
			task->conversation.action.type == RSP_ACT_DONE)
			column_add(&profiles, UUIDPGetDatum(&task->profile));
	}
	if (profiles.count == 0)
		return;
	value = column_array(&profiles, UUIDOID);
	esim_execute(&wake, &value, NULL, 0);
	if (SPI_processed > 0)
		esim_worker->next_due = GetCurrentTimestamp();
}

/* An operation that ended without knowing: list the eUICC when it answers. */
static void
queue_refresh(Task *task)
{
	static EsimStatement refresh = {
		"WITH o AS (INSERT INTO @esim_operation (id, seq, kind, eid, owner, owner_name, requested_by, server, phase, expires_at)"
		"  SELECT $1, nextval('@esim_operation_seq'), 'refresh', x.eid, x.owner, x.owner_name, x.requested_by, x.server, 'BLOCKED', now() + interval '30 days'"
		"  FROM @esim_operation x WHERE x.id = $2 AND x.eid IS NOT NULL RETURNING id, seq, eid, server, expires_at)"
		" INSERT INTO @esim_pending (seq, operation, lane, shard, state, priority, urgency, kind, eid, server, expires_at,"
		"  system_identifier, timeline, database)"
		" SELECT o.seq, o.id, $3, $4, 'N', 0, 0, 'refresh', o.eid, o.server, o.expires_at, $5, $6, $7 FROM o",
		7, {"uuid", "uuid", "int8", "int2", "int8", "int4", "oid"}
	};
	Datum		values[7];
	pg_uuid_t	id;
	EsimEpoch	epoch;

	if (task->op.kind == RSP_REFRESH || (task->lane & 1) == 0)
		return;
	esim_uuid7(id.data);
	esim_current_epoch(&epoch);
	values[0] = UUIDPGetDatum(&id);
	values[1] = UUIDPGetDatum(&task->id);
	values[2] = Int64GetDatum(task->lane);
	values[3] = Int16GetDatum(task->shard);
	values[4] = Int64GetDatum(epoch.system_identifier);
	values[5] = Int32GetDatum(epoch.timeline);
	values[6] = ObjectIdGetDatum(epoch.database);
	esim_execute(&refresh, values, NULL, 0);
}

/*
 * Identifiers at the server that might be those of a lost creation: the ones
 * that no row of ours has, and that no other operation has under way.  There
 * may be as many of them as rows in the queue.
 */
static void
look_up_candidates(Task *task)
{
	static EsimStatement unknown = {
		"SELECT x.id FROM (SELECT u.id FROM unnest($1) u(id) WHERE u.id <> ''"
		"  AND NOT EXISTS (SELECT FROM @esim_profile p WHERE p.rsp_id = u.id)"
		/* not joins: those could become one look at all of them for each */
		"  EXCEPT (SELECT g.rsp_id FROM @esim_fleet g WHERE g.rsp_id IS NOT NULL"
		"   UNION ALL SELECT q.rsp_operation_id FROM @esim_pending q WHERE q.rsp_operation_id IS NOT NULL AND q.server = $2 AND q.seq <> $3)) x"
		" ORDER BY x.id COLLATE \"C\" LIMIT $4", 4, {"text[]", "text", "int8", "int8"}
	};
	const char **ids;
	int			n = note_candidates(task, &ids);
	Column		column;
	Datum		values[4];
	uint64		left;

	column_init(&column, n);
	for (int i = 0; i < n; i++)
		column_add_text(&column, ids[i]);
	values[0] = column_array(&column, TEXTOID);
	values[1] = CStringGetTextDatum(task->server->rsp.name);
	values[2] = Int64GetDatum(task->seq);
	values[3] = Int64GetDatum(RSP_MAX_CANDIDATES);
	esim_execute(&unknown, values, NULL, 0);
	left = SPI_processed;
	for (uint64 i = 0; i < left; i++)
		ids[i] = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
	note_unknown(task, ids, (int) left);
}

/* ------------------------------------------------------------------------
 * The whole
 * ------------------------------------------------------------------------ */

/* The effects of one operation whose outcome breaks a rule. */
static void
effects_step(Task *task, void *arg, const char *broken)
{
	dlist_head *one = arg;

	complete_effects(one, GetCurrentTimestamp(), broken);
}

/*
 * Writes the outcomes of the tasks.  They stay where they are: the caller
 * frees them when the transaction has committed.
 */
void
complete_outcomes(dlist_head *tasks)
{
	TimestampTz now = GetCurrentTimestamp();
	dlist_iter	iter;

	if (dlist_is_empty(tasks))
		return;

	dlist_foreach(iter, tasks)
	{
		Task	   *task = dlist_container(Task, node, iter.cur);

		if (!ended(task) && task->expires_at <= now &&
			task->conversation.action.type != RSP_ACT_PARK)
		{
			bool		sent = task->op.unresolved || task->op.attempts > 0;

			rsp_conversation_reset(&task->conversation);
			rsp_fail(&task->conversation, "EXPIRED",
					 sent ? "the operation expired before its end was known" :
					 "the operation expired before it was sent");
			task->refresh_after = sent;
		}
	}

	complete_attempts(tasks);
	/* a careful one comes alone */
	drift_apply(dlist_head_element(Task, node, tasks), effects_step, tasks);
	dlist_foreach(iter, tasks)
	{
		Task	   *task = dlist_container(Task, node, iter.cur);

		adopt_facts(task);
		if (task->conversation.nreports > 0 || task->conversation.reports_whole)
			report_apply(task);
		if (task->conversation.candidates != NULL && task->server != NULL)
			look_up_candidates(task);
		if (task->refresh_after)
			queue_refresh(task);
	}
	wake_downloads(tasks);
	cancel_dependents(tasks, now);
	write_ended(tasks, now);
	write_waiting(tasks, now);
}

/*
 * The outcome cannot be applied because somebody holds a lock: it is recorded
 * insert-only, nothing is lost, and applied later.
 */
void
complete_defer(Task *task)
{
	static EsimStatement insert = {
		"INSERT INTO @esim_deferred (operation, shard, outcome) SELECT $1, $2, $3"
		" WHERE NOT EXISTS (SELECT FROM @esim_deferred d WHERE d.operation = $1)", 3, {"uuid", "int2", "text"}
	};
	Datum		values[3];
	char	   *text = deferred_to_json(task);

	/* the row stays claimed then, and the RSP is asked */
	if (text == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	values[0] = UUIDPGetDatum(&task->id);
	values[1] = Int16GetDatum(task->shard);
	values[2] = CStringGetTextDatum(text);
	free(text);
	esim_execute(&insert, values, NULL, 0);
}

/*
 * Operations that have been under way for a while show it; those that are
 * answered at once never pay for it.
 */
void
complete_show_sent(TimestampTz now)
{
	static EsimStatement show = {
		"UPDATE @esim_operation o SET phase = 'SENT', phase_reason = NULL, sent_at = u.sent_at, attempts = u.attempts"
		" FROM unnest($1, $2, $3) u(id, sent_at, attempts) WHERE o.id = u.id AND o.status = 'ACCEPTED'",
		3, {"uuid[]", "timestamptz[]", "int4[]"}
	};
	Column		c[3];
	Datum		values[3];
	dlist_iter	iter;

	for (int i = 0; i < 3; i++)
		column_init(&c[i], 64);
	dlist_foreach(iter, &esim_worker->flying)
	{
		Task	   *task = dlist_container(Task, node, iter.cur);

		if (task->shown || !TimestampDifferenceExceeds(task->claimed_at, now, SHOW_SENT_AFTER_MS))
			continue;
		task->shown = true;
		column_add(&c[0], UUIDPGetDatum(&task->id));
		if (task->first_sent_at)
			column_add(&c[1], TimestampTzGetDatum(task->first_sent_at));
		else
			column_add_null(&c[1]);
		column_add(&c[2], Int32GetDatum(task->attempts_before + task->nattempts));
	}
	if (c[0].count == 0)
		return;
	values[0] = column_array(&c[0], UUIDOID);
	values[1] = column_array(&c[1], TIMESTAMPTZOID);
	values[2] = column_array(&c[2], INT4OID);
	esim_execute(&show, values, NULL, 0);
}

/* The mark of a suspect: a worker is just handling it. */
void
complete_mark_handling(Task *task, bool handling)
{
	static EsimStatement mark = {
		"UPDATE @esim_pending SET handling = $2 WHERE seq = $1", 2, {"int8", "bool"}
	};
	Datum		values[2];

	values[0] = Int64GetDatum(task->seq);
	values[1] = BoolGetDatum(handling);
	esim_execute(&mark, values, NULL, 0);
}
