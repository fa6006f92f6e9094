/*-------------------------------------------------------------------------
 *
 * deliver.c
 *	  The worker's second business: it sends what lies in the outbox.
 *
 * Between a short transaction that writes results and fetches what is due, and
 * the next one, no transaction is open.  A crash sends again what was under
 * way: at least once, with the same identifier.
 *
 * Connections are not shared with those to RSP servers: a kept connection to a
 * private address must not be found by a sink.
 *
 *-------------------------------------------------------------------------
 */
#include "event/deliver.h"

#include <sys/epoll.h>
#include <unistd.h>

#include "catalog/pg_type.h"
#include "storage/fd.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

Outbox		outbox = {.look = true,.ready = DLIST_STATIC_INIT(outbox.ready)};

static int	wait_fd = -1;
static TimestampTz paused_until = 0;

/* ------------------------------------------------------------------------
 * Places
 * ------------------------------------------------------------------------ */

static void
free_place(Delivery *d)
{
	if (d->request != NULL)
		http_request_free(d->request);
	memset(d, 0, sizeof(*d));
	outbox.nused--;
}

/* what was under way is not any more */
static void
landed(Delivery *d)
{
	outbox.nflying--;
	d->sink->in_flight--;
	if (d->host != NULL)
		d->host->in_flight--;
	if (d->counted_unproven)
	{
		outbox.nunproven--;
		if (d->host != NULL)
			d->host->unproven--;
		d->counted_unproven = false;
	}
}

void
deliver_result(Delivery *d, Outcome result, const char *error, TimestampTz now)
{
	if (outbox.nresults++ == 0)
		outbox.results_since = now;
	d->result = result;
	strlcpy(d->error, error, sizeof(d->error));
}

/* The request of d is over. */
static void
answered(Delivery *d, TimestampTz now)
{
	const HttpAnswer *answer = http_request_answer(d->request);
	int64		retry_after = Min(Max(answer->retry_after_ms, 0), RETRY_AFTER_MAX_MS);
	int			status = answer->outcome == HTTP_ANSWERED || answer->outcome == HTTP_BAD_ANSWER ?
		answer->status : 0;
	char		error[300];

	landed(d);
	if (status >= 200 && status < 300)
	{
		limit_succeeded(d->sink);
		deliver_result(d, RESULT_DELIVERED, "", now);
	}
	else if (status == 410)
		deliver_result(d, RESULT_GIVEN_UP, "the sink answered with status 410: it is gone", now);
	else
	{
		if (status >= 300 && status < 400)
			snprintf(error, sizeof(error), "the sink answered with status %d; redirects are not followed", status);
		else if (status != 0)
			snprintf(error, sizeof(error), "the sink answered with status %d", status);
		else
			strlcpy(error, answer->error[0] ? answer->error : "no answer", sizeof(error));
		d->delay_ms = Max(rsp_backoff_ms(d->tries - 1, BACKOFF_MS, BACKOFF_MAX_MS), retry_after);
		limit_failed(d->sink, error, status == 429 || status == 503 ? retry_after : 0, now);
		deliver_result(d, RESULT_RETRY, error, now);
	}
	http_request_free(d->request);
	d->request = NULL;
}

/* ------------------------------------------------------------------------
 * Writing
 * ------------------------------------------------------------------------ */

static void
write_results(TimestampTz now)
{
	/* a row that somebody has locked stays as it is, and is sent again */
	static EsimStatement update = {
		"WITH l AS MATERIALIZED (SELECT n.ctid, u.* FROM unnest($1, $2, $3, $4, $5, $6, $7)"
		"  u (id, since, state, tries, next_at, delivered_at, error) JOIN @esim_notification n ON n.id = u.id"
		"  WHERE n.next_at IS NOT NULL AND n.since = u.since FOR NO KEY UPDATE OF n SKIP LOCKED)"
		" UPDATE @esim_notification n SET state = l.state, tries = l.tries, next_at = l.next_at,"
		"  delivered_at = l.delivered_at, last_error = coalesce(l.error, n.last_error)"
		" FROM l WHERE n.ctid = l.ctid",
		7, {"uuid[]", "timestamptz[]", "text[]", "int4[]", "timestamptz[]", "timestamptz[]", "text[]"}
	};
	static EsimStatement forget_tokens = {
		"DELETE FROM @esim_operation_secret s WHERE s.operation = ANY ($1) AND coalesce(NOT s.sink_credential ? 'name', true)",
		1, {"uuid[]"}
	};
	static EsimStatement forget_codes = {
		"UPDATE @esim_operation_secret s SET confirmation_code = NULL WHERE s.operation = ANY ($1) AND s.confirmation_code IS NOT NULL",
		1, {"uuid[]"}
	};
	static const Oid types[7] = {UUIDOID, TIMESTAMPTZOID, TEXTOID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID};
	Column		c[7];
	Column		announced;
	Datum		values[7];

	if (outbox.nresults == 0)
		return;
	for (int i = 0; i < 7; i++)
		column_init(&c[i], outbox.nresults);
	column_init(&announced, 8);
	for (int i = 0; i < outbox.nplaces; i++)
	{
		Delivery   *d = &outbox.places[i];
		TimestampTz end;
		TimestampTz next = 0;

		if (!d->used || d->result == RESULT_NONE)
			continue;
		if (d->result == RESULT_RETRY)
		{
			/* the last try is at the end */
			end = d->since + (int64) esim_sink_give_up_s * USECS_PER_SEC;
			if (now >= end)
				d->result = RESULT_GIVEN_UP;
			else
			{
				next = Min(TimestampTzPlusMilliseconds(now, d->delay_ms), end);
				fetch_look_again(next);
			}
		}
		d->written = true;
		column_add(&c[0], UUIDPGetDatum(&d->id));
		column_add(&c[1], TimestampTzGetDatum(d->since));
		column_add_text(&c[2], d->result == RESULT_DELIVERED ? "DELIVERED" :
						d->result == RESULT_RETRY ? "PENDING" : "GIVEN_UP");
		column_add(&c[3], Int32GetDatum(d->tries));
		if (next != 0)
			column_add(&c[4], TimestampTzGetDatum(next));
		else
			column_add_null(&c[4]);
		if (d->result == RESULT_DELIVERED)
			column_add(&c[5], TimestampTzGetDatum(now));
		else
			column_add_null(&c[5]);
		column_add_text(&c[6], d->error);
		if (d->result == RESULT_DELIVERED && d->has_secret)
			column_add(&announced, UUIDPGetDatum(&d->operation));
	}
	for (int i = 0; i < 7; i++)
		values[i] = column_array(&c[i], types[i]);
	esim_execute(&update, values, NULL, 0);
	if (announced.count > 0)
	{
		values[0] = column_array(&announced, UUIDOID);
		esim_execute(&forget_tokens, values, NULL, 0);
		esim_execute(&forget_codes, values, NULL, 0);
	}
}

/*
 * What has waited for a dead sink for too long is given up without a try of
 * its own.  While the sink answers, everything gets its try, however old.
 */
static void
give_up(TimestampTz now)
{
	static EsimStatement update = {
		"UPDATE @esim_notification n SET state = 'GIVEN_UP', next_at = NULL, last_error = coalesce(n.last_error, x.error)"
		" FROM (SELECT y.id, k.error FROM unnest($1, $2, $3) k (shard, sink, error)"
		"  CROSS JOIN LATERAL (SELECT z.id FROM @esim_notification z WHERE z.shard = k.shard AND z.sink = k.sink AND z.next_at IS NOT NULL"
		"   AND z.since <= $4 AND z.id <> ALL ($5) ORDER BY z.next_at LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED) y) x"
		" WHERE n.id = x.id",
		5, {"int2[]", "text[]", "text[]", "timestamptz", "uuid[]"}
	};
	HASH_SEQ_STATUS status;
	Sink	   *sink;
	Column		c[3];
	Datum		values[5];

	for (int i = 0; i < 3; i++)
		column_init(&c[i], 8);
	hash_seq_init(&status, outbox.sinks);
	while ((sink = hash_seq_search(&status)) != NULL)
	{
		if (!sink->give_up)
			continue;
		sink->give_up = false;
		column_add(&c[0], Int16GetDatum(sink->shard));
		column_add_text(&c[1], sink->key);
		column_add_text(&c[2], sink->error[0] ? sink->error : "the sink does not answer");
	}
	if (c[0].count == 0)
		return;
	values[0] = column_array(&c[0], INT2OID);
	values[1] = column_array(&c[1], TEXTOID);
	values[2] = column_array(&c[2], TEXTOID);
	values[3] = TimestampTzGetDatum(now - (int64) esim_sink_give_up_s * USECS_PER_SEC);
	values[4] = fetch_in_hand();
	esim_execute(&update, values, NULL, 0);
}

/* ------------------------------------------------------------------------
 * The worker's calls
 * ------------------------------------------------------------------------ */

int
deliver_start(int other)
{
	struct epoll_event event;
	char		error[256];

	while (outbox.nplaces < MAX_PLACES && AcquireExternalFD())
		outbox.nplaces++;

	/* whoever took the last ones: waiting for a latch needs one as well */
	for (int i = 0; i < SPARE_FILES && outbox.nplaces < MAX_PLACES; i++)
	{
		ReleaseExternalFD();
		outbox.nplaces = Max(outbox.nplaces - 1, 0);
	}
	outbox.nplaces = Max(outbox.nplaces, MIN_PLACES);
	outbox.loop = http_loop_create(outbox.nplaces, error, sizeof(error));
	wait_fd = epoll_create1(EPOLL_CLOEXEC);
	memset(&event, 0, sizeof(event));
	event.events = EPOLLIN;
	if (outbox.loop == NULL || wait_fd < 0 ||
		epoll_ctl(wait_fd, EPOLL_CTL_ADD, other, &event) != 0 ||
		epoll_ctl(wait_fd, EPOLL_CTL_ADD, http_loop_fd(outbox.loop), &event) != 0)
		ereport(FATAL,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not set up libcurl: %s", outbox.loop == NULL ? error : "no descriptor to wait with")));

	limit_start();
	return wait_fd;
}

/* what is under way is broken off; another worker sends it again */
void
deliver_finish(void)
{
	if (outbox.nresults > 0)
	{
		outbox.results_since = 0;
		deliver_turn(GetCurrentTimestamp());
	}
	for (int i = 0; i < outbox.nplaces; i++)
		if (outbox.places[i].used)
			free_place(&outbox.places[i]);
	http_loop_destroy(outbox.loop);
	outbox.loop = NULL;
}

void
deliver_reload(void)
{
	outbox.generation++;
	outbox.look = true;
}

void
deliver_look(void)
{
	outbox.look = true;
}

void
deliver_shard(int shard, bool held)
{
	dlist_mutable_iter iter;

	outbox.look = true;
	if (held)
		return;
	if (outbox.cursors[shard] != NULL)
		pfree(outbox.cursors[shard]);
	outbox.cursors[shard] = NULL;
	dlist_foreach_modify(iter, &outbox.ready)
	{
		Sink	   *sink = dlist_container(Sink, node, iter.cur);

		if (sink->shard == shard)
			limit_unready(sink);
	}
	for (int i = 0; i < outbox.nplaces; i++)
	{
		Delivery   *d = &outbox.places[i];

		if (d->used && d->shard == shard && d->result == RESULT_NONE)
		{
			landed(d);
			free_place(d);
		}
	}
}

/* takes in what was answered; true: there is something to write or to fetch */
static bool
anything_to_do(TimestampTz now)
{
	HttpRequest *request;

	if (outbox.nflying > 0)
	{
		http_loop_run(outbox.loop);
		while ((request = http_loop_next_done(outbox.loop)) != NULL)
			answered(http_request_owner(request), now);
	}
	if (paused_until > now)
		return false;
	if (outbox.nresults > 0 &&
		(outbox.nresults >= WRITE_BATCH || outbox.nflying == 0 ||
		 TimestampDifferenceExceeds(outbox.results_since, now, WRITE_AGE_MS)))
		return true;
	if ((outbox.look || (outbox.next_look != 0 && outbox.next_look <= now)) && now >= outbox.not_before)
		return true;
	return outbox.nresults == 0 && !dlist_is_empty(&outbox.ready) && limit_wants_any(now);
}

static void
transaction(TimestampTz now)
{
	/* a crash that loses what is written here sends some messages again */
	(void) set_config_option("synchronous_commit", "off", PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	write_results(now);
	give_up(now);
	if ((outbox.look || (outbox.next_look != 0 && outbox.next_look <= now)) && now >= outbox.not_before)
		fetch_look(now);
	fetch_due(now);
}

static void
committed(void)
{
	outbox.nresults = 0;
	for (int i = 0; i < outbox.nplaces; i++)
	{
		Delivery   *d = &outbox.places[i];

		if (!d->used)
			continue;
		if (d->written)
			free_place(d);
		else if (d->result != RESULT_NONE)
			outbox.nresults++;
		else if (d->request != NULL && !d->submitted)
		{
			d->submitted = true;
			http_loop_submit(outbox.loop, d->request);
		}
	}
}

/* what was fetched is fetched again, results are written again */
static void
aborted(TimestampTz now)
{
	outbox.nresults = 0;
	for (int i = 0; i < outbox.nplaces; i++)
	{
		Delivery   *d = &outbox.places[i];

		if (!d->used)
			continue;
		d->written = false;
		if (d->result != RESULT_NONE)
			outbox.nresults++;
		else if (!d->submitted)
		{
			landed(d);
			free_place(d);
		}
	}
	paused_until = TimestampTzPlusMilliseconds(now, PAUSE_MS);
	outbox.look = true;
}

void
deliver_turn(TimestampTz now)
{
	if (!anything_to_do(now))
		return;
	PG_TRY();
	{
		worker_begin();
		transaction(now);
		worker_commit();
	}
	PG_CATCH();
	{
		(void) worker_abort("delivering notifications");
		aborted(now);
		return;
	}
	PG_END_TRY();
	committed();
}

long
deliver_timeout(TimestampTz now)
{
	long		wait = -1;
	TimestampTz at[3];
	dlist_iter	iter;
	TimestampTz open = 0;

	if (outbox.nflying > 0)
		wait = http_loop_timeout(outbox.loop);
	if (outbox.nused < outbox.nplaces)
		dlist_foreach(iter, &outbox.ready)
		{
			Sink	   *sink = dlist_container(Sink, node, iter.cur);

			if (sink->open_until > now && (open == 0 || sink->open_until < open))
				open = sink->open_until;
		}
	at[0] = outbox.nresults > 0 ? TimestampTzPlusMilliseconds(outbox.results_since, WRITE_AGE_MS + 1) : 0;
	at[1] = outbox.look ? Max(outbox.not_before, now) : outbox.next_look == 0 ? 0 : Max(outbox.next_look, outbox.not_before);
	at[2] = open;
	for (int i = 0; i < 3; i++)
	{
		long		ms;

		if (at[i] == 0)
			continue;
		if (at[i] < paused_until)
			at[i] = paused_until;
		ms = at[i] <= now ? 0 : (long) Min((at[i] - now + 999) / 1000, 3600000);
		if (wait < 0 || ms < wait)
			wait = ms;
	}
	return wait;
}
