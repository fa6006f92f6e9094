/*-------------------------------------------------------------------------
 *
 * complete.c
 *	  Writes what the worker has learned: intents, attempts, outcomes, and
 *	  what follows from them in the lane.  Set-based, many operations at once.
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
#include "utils/timestamp.h"

#define SHOW_SENT_AFTER_MS 100

static Datum
uuid_datum(const pg_uuid_t *uuid)
{
	return UUIDPGetDatum(uuid);
}

static char *
memo_text(Task *task)
{
	return rsp_json_text(task->op.memo);
}

static bool
same_text(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return strcmp(a, b) == 0;
}

/* ------------------------------------------------------------------------
 * Intents
 * ------------------------------------------------------------------------ */

/*
 * Before a request that acts goes out, its row in esim_attempt is there,
 * without an outcome.  The driver's notes go with it where they changed, so
 * that begin() finds its way after a crash.
 */
void
complete_intents(void)
{
	static EsimStatement attempts = {
		"INSERT INTO @esim_attempt (operation, number, at, method, url, call_id)"
		" SELECT * FROM unnest($1, $2, $3, $4, $5, $6)",
		6, {"uuid[]", "int4[]", "timestamptz[]", "text[]", "text[]", "text[]"}
	};
	static EsimStatement notes = {
		"UPDATE @esim_pending p SET step = u.step, memo = u.memo, attempts = u.attempts, acting = u.acting,"
		" first_sent_at = u.first_sent_at, last_sent_at = u.last_sent_at, rsp_operation_id = u.rsp_operation_id, handling = false"
		" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8) u(seq, step, memo, attempts, acting, first_sent_at, last_sent_at, rsp_operation_id)"
		" WHERE p.seq = u.seq",
		8, {"int8[]", "int2[]", "text[]", "int4[]", "int4[]", "timestamptz[]", "timestamptz[]", "text[]"}
	};
	Column		c[6];
	Column		n[8];
	Datum		values[8];
	dlist_iter	iter;

	if (esim_worker->nintents == 0)
		return;
	for (int i = 0; i < 6; i++)
		column_init(&c[i], esim_worker->nintents);
	for (int i = 0; i < 8; i++)
		column_init(&n[i], 8);

	dlist_foreach(iter, &esim_worker->intents)
	{
		Task	   *task = dlist_container(Task, node, iter.cur);
		char	   *memo = memo_text(task);

		/* attempts of this turn that are not written yet go along */
		for (int i = 0; i < task->nattempts; i++)
		{
			TaskAttempt *attempt = &task->attempts[i];

			if (attempt->committed || attempt->answered)
				continue;
			column_add(&c[0], uuid_datum(&task->id));
			column_add(&c[1], Int32GetDatum(attempt->number));
			column_add(&c[2], TimestampTzGetDatum(attempt->at));
			column_add_text(&c[3], attempt->method);
			column_add_text(&c[4], attempt->url);
			column_add_text(&c[5], attempt->call_id);
		}
		if (task->suspect || task->op.step != task->saved_step || !same_text(memo, task->saved_memo) ||
			task->op.attempts > 0 || task->attempts_before + task->nattempts > 1)
		{
			column_add(&n[0], Int64GetDatum(task->seq));
			column_add(&n[1], Int16GetDatum(task->op.step));
			column_add_text(&n[2], memo);
			column_add(&n[3], Int32GetDatum(task->attempts_before + task->nattempts - 1));
			column_add(&n[4], Int32GetDatum(task->op.attempts));
			if (task->first_sent_at)
				column_add(&n[5], TimestampTzGetDatum(task->first_sent_at));
			else
				column_add_null(&n[5]);
			if (task->last_sent_at)
				column_add(&n[6], TimestampTzGetDatum(task->last_sent_at));
			else
				column_add_null(&n[6]);
			column_add_text(&n[7], task->op.rsp_operation_id);
			task->saved_step = task->op.step;
			task->saved_memo = memo ? MemoryContextStrdup(task->context, memo) : NULL;
		}
		free(memo);
	}

	values[0] = column_array(&c[0], UUIDOID);
	values[1] = column_array(&c[1], INT4OID);
	values[2] = column_array(&c[2], TIMESTAMPTZOID);
	values[3] = column_array(&c[3], TEXTOID);
	values[4] = column_array(&c[4], TEXTOID);
	values[5] = column_array(&c[5], TEXTOID);
	esim_execute(&attempts, values, NULL, 0);

	if (n[0].count > 0)
	{
		static const Oid types[8] = {INT8OID, INT2OID, TEXTOID, INT4OID, INT4OID,
		TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID};

		for (int i = 0; i < 8; i++)
			values[i] = column_array(&n[i], types[i]);
		esim_execute(&notes, values, NULL, 0);
	}
}

/* ------------------------------------------------------------------------
 * Attempts
 * ------------------------------------------------------------------------ */

static void
write_attempts(dlist_head *tasks)
{
	static EsimStatement insert = {
		"INSERT INTO @esim_attempt (operation, number, at, method, url, call_id, http_status, outcome, detail, duration_ms)"
		" SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
		10, {"uuid[]", "int4[]", "timestamptz[]", "text[]", "text[]", "text[]", "int4[]", "text[]", "text[]", "int4[]"}
	};
	static EsimStatement update = {
		"UPDATE @esim_attempt a SET http_status = u.http_status, outcome = u.outcome, detail = u.detail, duration_ms = u.duration_ms"
		" FROM unnest($1, $2, $3, $4, $5, $6) u(operation, number, http_status, outcome, detail, duration_ms)"
		" WHERE a.operation = u.operation AND a.number = u.number",
		6, {"uuid[]", "int4[]", "int4[]", "text[]", "text[]", "int4[]"}
	};
	static const Oid insert_types[10] = {UUIDOID, INT4OID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID,
	INT4OID, TEXTOID, TEXTOID, INT4OID};
	static const Oid update_types[6] = {UUIDOID, INT4OID, INT4OID, TEXTOID, TEXTOID, INT4OID};
	Column		ins[10];
	Column		upd[6];
	Datum		values[10];
	dlist_iter	iter;

	for (int i = 0; i < 10; i++)
		column_init(&ins[i], 64);
	for (int i = 0; i < 6; i++)
		column_init(&upd[i], 64);

	dlist_foreach(iter, tasks)
	{
		Task	   *task = dlist_container(Task, node, iter.cur);

		for (int i = 0; i < task->nattempts; i++)
		{
			TaskAttempt *a = &task->attempts[i];
			Column	   *tail = a->committed ? &upd[2] : &ins[6];

			/* made, but never sent: it has no row and gets none */
			if (!a->sent && !a->committed)
				continue;
			column_add(a->committed ? &upd[0] : &ins[0], uuid_datum(&task->id));
			column_add(a->committed ? &upd[1] : &ins[1], Int32GetDatum(a->number));
			if (!a->committed)
			{
				column_add(&ins[2], TimestampTzGetDatum(a->at));
				column_add_text(&ins[3], a->method);
				column_add_text(&ins[4], a->url);
				column_add_text(&ins[5], a->call_id);
			}
			if (a->http_status > 0)
				column_add(&tail[0], Int32GetDatum(a->http_status));
			else
				column_add_null(&tail[0]);
			column_add_text(&tail[1], a->outcome[0] ? a->outcome : "LOST");
			column_add_text(&tail[2], a->detail);
			column_add(&tail[3], Int32GetDatum(a->duration_ms));
		}
	}
	if (ins[0].count > 0)
	{
		for (int i = 0; i < 10; i++)
			values[i] = column_array(&ins[i], insert_types[i]);
		esim_execute(&insert, values, NULL, 0);
	}
	if (upd[0].count > 0)
	{
		for (int i = 0; i < 6; i++)
			values[i] = column_array(&upd[i], update_types[i]);
		esim_execute(&update, values, NULL, 0);
	}
}

/* ------------------------------------------------------------------------
 * Effects on profiles
 * ------------------------------------------------------------------------ */

/* What the end of the operation makes of its profile; false: nothing. */
static bool
effect_of(const Task *task, RspState *state, int *fallback)
{
	const RspAction *action = &task->conversation.action;

	*state = RSP_STATE_NONE;
	*fallback = -1;
	if (!task->has_profile)
		return false;
	if (action->profile_state_set)
	{
		*state = action->state;
		return *state != RSP_STATE_NONE;
	}
	if (action->type != RSP_ACT_DONE)
		return false;
	switch (task->op.kind)
	{
		case RSP_DOWNLOAD:
			*state = task->op.activate_on_download ? RSP_STATE_ENABLED : RSP_STATE_DISABLED;
			return true;
		case RSP_ENABLE:
			*state = RSP_STATE_ENABLED;
			return true;
		case RSP_DISABLE:
			*state = RSP_STATE_DISABLED;
			return true;
		case RSP_DELETE:
			*state = RSP_STATE_DELETED;
			*fallback = 0;
			return true;
		case RSP_SET_FALLBACK:
			*fallback = 1;
			return true;
		case RSP_RELEASE:
			*state = RSP_STATE_RELEASED;
			return true;
		case RSP_CANCEL_ORDER:
			*state = RSP_STATE_CANCELLED;
			return true;
		default:
			return false;
	}
}

static void
write_effects(dlist_head *tasks, TimestampTz now)
{
	/* demote first, promote second: one ENABLED per (eUICC, port), always */
	static EsimStatement demote = {
		"UPDATE @esim_profile p SET state = 'DISABLED', state_at = $4, state_source = 'operation'"
		" FROM unnest($1, $2, $3) u(profile, eid, port)"
		" WHERE p.eid OPERATOR(@=) u.eid::@eid(unchecked) AND p.port = u.port AND p.state = 'ENABLED' AND p.id <> u.profile"
		" RETURNING p.id, u.profile",
		4, {"uuid[]", "text[]", "int2[]", "timestamptz"}
	};
	static EsimStatement unmark = {
		"UPDATE @esim_profile p SET is_fallback = false"
		" FROM unnest($1, $2) u(profile, eid)"
		" WHERE p.eid OPERATOR(@=) u.eid::@eid(unchecked) AND p.is_fallback AND p.id IS DISTINCT FROM u.profile",
		2, {"uuid[]", "text[]"}
	};
	static EsimStatement change = {
		"UPDATE @esim_profile p SET state = CASE"
		/* says less than we know */
		"  WHEN u.state IN ('DOWNLOADED', 'INSTALLED') AND p.state IN ('DISABLED', 'ENABLED') THEN p.state"
		"  ELSE coalesce(u.state::@esim_profile_state, p.state) END,"
		" eid = coalesce(u.eid::@eid(unchecked), p.eid), iccid = coalesce(u.iccid::@iccid(unchecked), p.iccid),"
		" rsp_iccid = CASE WHEN u.iccid IS NOT NULL AND p.iccid IS NOT NULL"
		"  AND p.iccid::text <> u.iccid THEN u.iccid::@iccid(unchecked) ELSE p.rsp_iccid END,"
		" is_fallback = CASE u.fallback WHEN -1 THEN p.is_fallback ELSE u.fallback = 1 END,"
		" state_at = $6, state_source = 'operation'"
		" FROM unnest($1, $2, $3, $4, $5) u(profile, state, eid, iccid, fallback) WHERE p.id = u.profile",
		6, {"uuid[]", "text[]", "text[]", "text[]", "int2[]", "timestamptz"}
	};
	static EsimStatement events = {
		"INSERT INTO @esim_profile_event (profile, eid, old_state, new_state, at, cause, operation, detail)"
		" SELECT u.profile, u.eid::@eid(unchecked), u.old::@esim_profile_state, u.new::@esim_profile_state, $7, 'OPERATION', u.operation, u.detail"
		" FROM unnest($1, $2, $3, $4, $5, $6) u(profile, eid, old, new, operation, detail)",
		7, {"uuid[]", "text[]", "text[]", "text[]", "uuid[]", "text[]", "timestamptz"}
	};
	static const Oid change_types[5] = {UUIDOID, TEXTOID, TEXTOID, TEXTOID, INT2OID};
	static const Oid event_types[6] = {UUIDOID, TEXTOID, TEXTOID, TEXTOID, UUIDOID, TEXTOID};
	Column		d[3];
	Column		f[2];
	Column		c[5];
	Column		e[6];
	Datum		values[7];
	dlist_iter	iter;

	for (int i = 0; i < 3; i++)
		column_init(&d[i], 64);
	for (int i = 0; i < 2; i++)
		column_init(&f[i], 8);
	for (int i = 0; i < 5; i++)
		column_init(&c[i], 64);
	for (int i = 0; i < 6; i++)
		column_init(&e[i], 64);

	dlist_foreach(iter, tasks)
	{
		Task	   *task = dlist_container(Task, node, iter.cur);
		RspAction  *action = &task->conversation.action;
		RspState	state;
		int			fallback;
		bool		affected = effect_of(task, &state, &fallback);

		if (action->type == RSP_ACT_DONE && task->op.kind == RSP_UNSET_FALLBACK)
		{
			column_add_null(&f[0]);
			column_add_text(&f[1], task->op.eid);
		}
		if (!affected && !(action->iccid[0] && task->has_profile))
			continue;

		if (state == RSP_STATE_ENABLED)
		{
			column_add(&d[0], uuid_datum(&task->profile));
			column_add_text(&d[1], task->op.eid);
			column_add(&d[2], Int16GetDatum(task->port));
		}
		if (fallback == 1)
		{
			column_add(&f[0], uuid_datum(&task->profile));
			column_add_text(&f[1], task->op.eid);
		}
		column_add(&c[0], uuid_datum(&task->profile));
		column_add_text(&c[1], rsp_state_name(state));
		column_add_text(&c[2], task->op.eid);
		column_add_text(&c[3], action->iccid);
		column_add(&c[4], Int16GetDatum(fallback));

		if ((state != RSP_STATE_NONE && state != task->op.state) || fallback == 1)
		{
			column_add(&e[0], uuid_datum(&task->profile));
			column_add_text(&e[1], task->op.eid);
			column_add_text(&e[2], rsp_state_name(task->op.state));
			column_add_text(&e[3], rsp_state_name(state != RSP_STATE_NONE ? state : task->op.state));
			column_add(&e[4], uuid_datum(&task->id));
			column_add_text(&e[5], fallback == 1 ? "fallback set" : NULL);
		}
	}

	if (d[0].count > 0)
	{
		uint64		ndemoted;

		values[0] = column_array(&d[0], UUIDOID);
		values[1] = column_array(&d[1], TEXTOID);
		values[2] = column_array(&d[2], INT2OID);
		values[3] = TimestampTzGetDatum(now);
		esim_execute(&demote, values, NULL, 0);
		ndemoted = SPI_processed;
		for (uint64 i = 0; i < ndemoted; i++)
		{
			HeapTuple	tuple = SPI_tuptable->vals[i];
			TupleDesc	desc = SPI_tuptable->tupdesc;
			bool		isnull;
			Datum		demoted = SPI_getbinval(tuple, desc, 1, &isnull);
			pg_uuid_t  *by = DatumGetUUIDP(SPI_getbinval(tuple, desc, 2, &isnull));

			dlist_foreach(iter, tasks)
			{
				Task	   *task = dlist_container(Task, node, iter.cur);

				if (!task->has_profile || memcmp(&task->profile, by, UUID_LEN) != 0)
					continue;
				column_add(&e[0], demoted);
				column_add_text(&e[1], task->op.eid);
				column_add_text(&e[2], "ENABLED");
				column_add_text(&e[3], "DISABLED");
				column_add(&e[4], uuid_datum(&task->id));
				column_add_text(&e[5], "another profile was enabled");
				break;
			}
		}
	}
	if (f[0].count > 0)
	{
		values[0] = column_array(&f[0], UUIDOID);
		values[1] = column_array(&f[1], TEXTOID);
		esim_execute(&unmark, values, NULL, 0);
	}
	if (c[0].count > 0)
	{
		for (int i = 0; i < 5; i++)
			values[i] = column_array(&c[i], change_types[i]);
		values[5] = TimestampTzGetDatum(now);
		esim_execute(&change, values, NULL, 0);
	}
	if (e[0].count > 0)
	{
		for (int i = 0; i < 6; i++)
			values[i] = column_array(&e[i], event_types[i]);
		values[6] = TimestampTzGetDatum(now);
		esim_execute(&events, values, NULL, 0);
	}
}

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
		" WHERE o.id = u.id AND o.status = 'ACCEPTED'",
		11, {"uuid[]", "text[]", "int4[]", "text[]", "text[]", "text[]", "text[]", "text[]", "text[]", "timestamptz[]", "timestamptz"}
	};
	static EsimStatement dequeue = {
		"DELETE FROM @esim_pending WHERE seq = ANY ($1)", 1, {"int8[]"}
	};
	static EsimStatement secrets = {
		"DELETE FROM @esim_operation_secret WHERE operation = ANY ($1) AND sink_credential IS NULL", 1, {"uuid[]"}
	};
	static EsimStatement seen = {
		"INSERT INTO @esim_device_state AS s (eid, last_seen_at)"
		" SELECT DISTINCT u.eid::@eid(unchecked), $2 FROM unnest($1) u(eid)"
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
		column_add(&c[0], uuid_datum(&task->id));
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
			column_add(&with_secrets, uuid_datum(&task->id));
		if (task->deferred)
			column_add(&deferred, uuid_datum(&task->id));
		if (done && task->op.eid && on_euicc(task->op.kind))
			column_add_text(&eids, task->op.eid);

		if (esim_notify_channel && esim_notify_channel[0])
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
		"UPDATE @esim_pending p SET state = u.state, claimed = false, intent = false, next_at = u.next_at, unresolved = u.unresolved, ask_first = u.ask_first,"
		" handling = false, crashes = 0, step = u.step, attempts = u.attempts, acting = u.acting, polls = u.polls, failures = u.failures,"
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
		memo = memo_text(task);
		if (task->deferred)
			column_add(&deferred, uuid_datum(&task->id));

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

		column_add(&o[0], uuid_datum(&task->id));
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
	uint64		missed;

	if (nlanes == 0)
		return;
	column_init(&column, nlanes);
	for (int i = 0; i < nlanes; i++)
		column_add(&column, lanes[i]);
	values[0] = column_array(&column, INT8OID);
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	esim_execute(&promote, values, NULL, 0);
	missed = SPI_processed;
	for (uint64 i = 0; i < missed; i++)
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
		" FROM d WHERE o.id = d.operation RETURNING o.id",
		3, {"int8[]", "uuid[]", "timestamptz"}
	};
	Column		lanes;
	Column		failed;
	Datum		values[3];
	dlist_iter	iter;

	column_init(&lanes, 8);
	column_init(&failed, 8);
	dlist_foreach(iter, tasks)
	{
		Task	   *task = dlist_container(Task, node, iter.cur);

		if (task->conversation.action.type != RSP_ACT_FAIL)
			continue;
		column_add(&lanes, Int64GetDatum(task->lane));
		column_add(&failed, uuid_datum(&task->id));
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
			if (esim_notify_channel && esim_notify_channel[0])
				Async_Notify(esim_notify_channel,
							 DatumGetCString(DirectFunctionCall1(uuid_out, id)));
		}
	}
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
	values[1] = uuid_datum(&task->id);
	values[2] = Int64GetDatum(task->lane);
	values[3] = Int16GetDatum(task->shard);
	values[4] = Int64GetDatum(epoch.system_identifier);
	values[5] = Int32GetDatum(epoch.timeline);
	values[6] = ObjectIdGetDatum(epoch.database);
	esim_execute(&refresh, values, NULL, 0);
}

/*
 * Identifiers at the server that might be those of a lost creation: the ones
 * that no row of ours has.
 */
static void
look_up_candidates(Task *task)
{
	static EsimStatement unknown = {
		"SELECT u.id FROM unnest($1) u(id) WHERE u.id <> ''"
		" AND NOT EXISTS (SELECT FROM @esim_profile p WHERE p.rsp_id = u.id)"
		" AND NOT EXISTS (SELECT FROM @esim_fleet g WHERE g.rsp_id = u.id)", 1, {"text[]"}
	};
	const char **ids;
	int			n = note_candidates(task, &ids);
	Column		column;
	Datum		value;
	uint64		left;

	column_init(&column, n);
	for (int i = 0; i < n; i++)
		column_add_text(&column, ids[i]);
	value = column_array(&column, TEXTOID);
	esim_execute(&unknown, &value, NULL, 0);
	left = SPI_processed;
	for (uint64 i = 0; i < left; i++)
		ids[i] = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
	note_unknown(task, ids, (int) left);
}

/* ------------------------------------------------------------------------
 * The whole
 * ------------------------------------------------------------------------ */

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

	write_attempts(tasks);
	write_effects(tasks, now);
	dlist_foreach(iter, tasks)
	{
		Task	   *task = dlist_container(Task, node, iter.cur);

		adopt_facts(task);
		if (task->conversation.nreports > 0 || task->conversation.reports_whole)
			report_apply(task);
		if (task->conversation.candidates != NULL)
			look_up_candidates(task);
		if (task->refresh_after)
			queue_refresh(task);
	}
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

	values[0] = uuid_datum(&task->id);
	values[1] = Int16GetDatum(task->shard);
	values[2] = CStringGetTextDatum(text ? text : "{}");
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
		column_add(&c[0], uuid_datum(&task->id));
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
