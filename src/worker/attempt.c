/*-------------------------------------------------------------------------
 *
 * attempt.c
 *	  Rows of esim_attempt: intents before requests that act, and what came
 *	  of every request.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/worker.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"
#include "utils/memutils.h"

static bool
same_text(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return strcmp(a, b) == 0;
}

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
		char	   *memo = rsp_json_text(task->op.memo);

		/* attempts of this turn that are not written yet go along */
		for (int i = 0; i < task->nattempts; i++)
		{
			TaskAttempt *attempt = &task->attempts[i];

			if (attempt->committed || attempt->answered)
				continue;
			column_add(&c[0], UUIDPGetDatum(&task->id));
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

/* The requests that were sent in the turns of these tasks. */
void
complete_attempts(dlist_head *tasks)
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
			column_add(a->committed ? &upd[0] : &ins[0], UUIDPGetDatum(&task->id));
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
			column_add_text(&tail[1], a->outcome[0] ? a->outcome : "lost");
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
