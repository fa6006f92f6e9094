/*-------------------------------------------------------------------------
 *
 * deliver.c
 *	  The worker's second business: it sends what lies in the outbox.
 *
 * A notification belongs to the shard of its host, and so to one worker at a
 * time.  Nothing is claimed in the table: what is under way is known here, and
 * a crash sends it again (at least once; the identifier stays).  Between a
 * short transaction that writes results and fetches what is due, and the next
 * one, no transaction is open.
 *
 * A slow or dead sink holds nobody else up.  Each sink (URL without its query)
 * begins with one message at a time and gets more as it answers; sinks that
 * have not answered lately share a part of the places, overall and per host,
 * so that there is always room for those that do.  After some failures in a
 * row a sink is left alone for a growing time, then one message tries it.  Its
 * rows are not touched meanwhile.
 *
 * Connections are not shared with those to RSP servers: a kept connection to a
 * private address must not be found by a sink.
 *
 *-------------------------------------------------------------------------
 */
#include "event/event.h"

#include <sys/epoll.h>
#include <unistd.h>

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "lib/ilist.h"
#include "mb/pg_wchar.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "event/message.h"
#include "worker/worker.h"

/* places: messages under way, or answered and not written yet */
#define MAX_PLACES			128
#define MIN_PLACES			8

/* descriptors left to the rest of the process when there are few */
#define SPARE_FILES			8

/* in flight at one host; at one sink */
#define HOST_MAX			32
#define SINK_MAX			8

#define TIMEOUT_MS			10000
#define CONNECT_TIMEOUT_MS	5000
#define MAX_ANSWER			65536

/* time to the next try of a message, doubled each time */
#define BACKOFF_MS			1000
#define BACKOFF_MAX_MS		3600000
#define RETRY_AFTER_MAX_MS	86400000

/* failures in a row after which a sink is left alone, and for how long */
#define TRIP				3
#define OPEN_MS				1000
#define OPEN_MAX_MS			60000

/* results are written when there are so many, or the oldest is so old */
#define WRITE_BATCH			16
#define WRITE_AGE_MS		2

/* sinks and hosts remembered; looked at in one shard at a time */
#define MAX_SINKS			1024
#define MAX_HOSTS			128
#define LOOK_SINKS			256

/* after a transaction that failed */
#define PAUSE_MS			1000

typedef struct Host
{
	char		key[SINK_MAX_ORIGIN];	/* scheme://host:port; must be first */
	HttpEndpoint *endpoint;
	bool		only_private;	/* as the endpoint was made */
	int			generation;		/* of the settings it was made with */
	int			in_flight;
	int			unproven;		/* of these to sinks that are not proven */
} Host;

typedef struct Sink
{
	char	   *key;			/* URL without query; must be first */
	int16		shard;
	int			in_flight;
	int			window;			/* so many may be in flight */
	int			failures;		/* in a row */
	bool		proven;			/* the last answer was a good one */
	bool		urgent;			/* somebody wants it tried at once */
	bool		give_up;		/* what is too old is given up now */
	bool		ready;			/* in the list of those with due rows */
	TimestampTz open_until;		/* left alone until then */
	TimestampTz used_at;
	char		error[128];		/* of the last failure */
	char	   *origin;			/* key of its host; NULL: it may not be sent to */
	int			generation;		/* of the settings by which that was found */
	dlist_node	node;
	int			want;			/* asked for in this transaction */
	int			got;
} Sink;

typedef enum Outcome
{
	RESULT_NONE,
	RESULT_DELIVERED,
	RESULT_RETRY,
	RESULT_GIVEN_UP
} Outcome;

typedef struct Delivery
{
	bool		used;
	pg_uuid_t	id;
	pg_uuid_t	operation;
	int16		shard;
	int			tries;			/* with this one */
	TimestampTz since;
	bool		has_secret;		/* there is a row in esim_operation_secret */
	Sink	   *sink;
	Host	   *host;			/* NULL: nothing was sent */
	bool		counted_unproven;
	HttpRequest *request;
	bool		submitted;
	bool		written;		/* its result is, in this transaction */
	Outcome		result;
	int64		delay_ms;
	char		error[300];
} Delivery;

/* why an address may be connected to; arguments of address_allowed() */
static const int no_private = 0;
static const int any_address = 1;
static const int only_private = 2;

static HttpLoop *loop = NULL;
static int	wait_fd = -1;
static Delivery places[MAX_PLACES];
static int	nplaces = 0;		/* how many of them may be used */
static int	nused = 0;
static int	nflying = 0;
static int	nunproven = 0;
static int	nresults = 0;		/* to be written */
static HTAB *hosts = NULL;
static HTAB *sinks = NULL;
static dlist_head ready = DLIST_STATIC_INIT(ready);
static int	generation = 0;
static bool look = true;
static TimestampTz next_look = 0;
static TimestampTz not_before = 0;	/* of the next look */
static TimestampTz paused_until = 0;
static TimestampTz results_since = 0;
static char *cursors[ESIM_SHARDS];	/* where the next look goes on */

/* ------------------------------------------------------------------------
 * Sinks and hosts
 * ------------------------------------------------------------------------ */

static uint32
sink_hash(const void *key, Size size)
{
	const char *text = *(char *const *) key;

	return hash_bytes((const unsigned char *) text, (int) strlen(text));
}

static int
sink_match(const void *a, const void *b, Size size)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

static bool
address_allowed(const struct sockaddr *address, size_t length, void *arg)
{
	bool		is_private = sink_address_is_private(address, length);

	switch (*(const int *) arg)
	{
		case 1:
			return true;
		case 2:
			return is_private;
		default:
			return !is_private;
	}
}

static void
unready(Sink *sink)
{
	if (sink->ready)
		dlist_delete(&sink->node);
	sink->ready = false;
}

/* Forgets sinks that nothing is known about that matters; hosts after them. */
static void
forget(TimestampTz now)
{
	HASH_SEQ_STATUS status;
	Sink	   *sink;
	Host	   *host;

	hash_seq_init(&status, sinks);
	while ((sink = hash_seq_search(&status)) != NULL)
	{
		char	   *key = sink->key;

		if (sink->in_flight > 0 || sink->open_until > now || sink->ready)
			continue;
		if (sink->origin != NULL)
			pfree(sink->origin);
		hash_search(sinks, &key, HASH_REMOVE, NULL);
		pfree(key);
	}
	hash_seq_init(&status, hosts);
	while ((host = hash_seq_search(&status)) != NULL)
	{
		if (host->in_flight > 0)
			continue;
		http_endpoint_release(host->endpoint);
		hash_search(hosts, host->key, HASH_REMOVE, NULL);
	}
}

/* NULL: there are too many at the moment */
static Sink *
find_sink(const char *key, int16 shard, TimestampTz now)
{
	Sink	   *sink;
	bool		found;

	sink = hash_search(sinks, &key, HASH_FIND, NULL);
	if (sink != NULL)
		return sink;
	if (hash_get_num_entries(sinks) >= MAX_SINKS)
	{
		forget(now);
		if (hash_get_num_entries(sinks) >= MAX_SINKS)
			return NULL;
	}
	sink = hash_search(sinks, &key, HASH_ENTER, &found);
	memset((char *) sink + sizeof(char *), 0, sizeof(Sink) - sizeof(char *));
	sink->key = MemoryContextStrdup(esim_worker->context, key);
	sink->shard = shard;
	sink->window = 1;
	sink->generation = generation - 1;
	return sink;
}

/* The host of the route, with an endpoint; NULL: error is filled. */
static Host *
find_host(const SinkRoute *route, char *error, size_t size)
{
	Host	   *host;
	bool		found;

	if (hash_get_num_entries(hosts) >= MAX_HOSTS)
		forget(GetCurrentTimestamp());
	host = hash_search(hosts, route->origin, HASH_ENTER, &found);
	if (!found)
		memset((char *) host + SINK_MAX_ORIGIN, 0, sizeof(Host) - SINK_MAX_ORIGIN);
	if (host->endpoint != NULL &&
		(host->generation != generation || host->only_private != route->only_private))
	{
		http_endpoint_release(host->endpoint);
		host->endpoint = NULL;
	}
	if (host->endpoint == NULL)
	{
		HttpEndpointOptions options;

		memset(&options, 0, sizeof(options));
		options.base_url = route->origin;
		options.timeout_ms = TIMEOUT_MS;
		options.connect_timeout_ms = CONNECT_TIMEOUT_MS;
		options.max_answer = MAX_ANSWER;
		options.verify = true;
		options.allow_http = route->plain_http;
		options.auth = HTTP_AUTH_NONE;
		options.address_allowed = address_allowed;
		options.address_arg = unconstify(int *, route->only_private ? &only_private :
										 esim_sink_allow_private ? &any_address : &no_private);
		host->endpoint = http_endpoint_create(&options, error, size);
		host->generation = generation;
		host->only_private = route->only_private;
		if (host->endpoint == NULL && host->in_flight == 0)
			hash_search(hosts, route->origin, HASH_REMOVE, NULL);
		if (host->endpoint == NULL)
			return NULL;
	}
	return host;
}

/* ------------------------------------------------------------------------
 * Places
 * ------------------------------------------------------------------------ */

static void
free_place(Delivery *d)
{
	if (d->request != NULL)
		http_request_free(d->request);
	memset(d, 0, sizeof(*d));
	nused--;
}

/* what was under way is not any more */
static void
landed(Delivery *d)
{
	nflying--;
	d->sink->in_flight--;
	if (d->host != NULL)
		d->host->in_flight--;
	if (d->counted_unproven)
	{
		nunproven--;
		if (d->host != NULL)
			d->host->unproven--;
		d->counted_unproven = false;
	}
}

static void
set_result(Delivery *d, Outcome result, const char *error, TimestampTz now)
{
	if (nresults++ == 0)
		results_since = now;
	d->result = result;
	strlcpy(d->error, error, sizeof(d->error));
}

static void
sink_succeeded(Sink *sink)
{
	sink->failures = 0;
	sink->proven = true;
	sink->open_until = 0;
	if (sink->window < SINK_MAX)
		sink->window++;
}

static void
sink_failed(Sink *sink, const char *error, int64 hold_ms, TimestampTz now)
{
	sink->failures++;
	sink->proven = false;
	sink->window = Max(1, sink->window / 2);
	strlcpy(sink->error, error, sizeof(sink->error));
	if (sink->failures >= TRIP)
		hold_ms = Max(hold_ms, rsp_backoff_ms(sink->failures - TRIP, OPEN_MS, OPEN_MAX_MS));
	if (hold_ms > 0)
		sink->open_until = Max(sink->open_until, TimestampTzPlusMilliseconds(now, hold_ms));
	if (sink->failures >= TRIP)
		sink->give_up = true;
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
		sink_succeeded(d->sink);
		set_result(d, RESULT_DELIVERED, "", now);
	}
	else if (status == 410)
		set_result(d, RESULT_GIVEN_UP, "the sink answered with status 410: it is gone", now);
	else
	{
		if (status >= 300 && status < 400)
			snprintf(error, sizeof(error), "the sink answered with status %d; redirects are not followed", status);
		else if (status != 0)
			snprintf(error, sizeof(error), "the sink answered with status %d", status);
		else
			strlcpy(error, answer->error[0] ? answer->error : "no answer", sizeof(error));
		d->delay_ms = Max(rsp_backoff_ms(d->tries - 1, BACKOFF_MS, BACKOFF_MAX_MS), retry_after);
		sink_failed(d->sink, error, status == 429 || status == 503 ? retry_after : 0, now);
		set_result(d, RESULT_RETRY, error, now);
	}
	http_request_free(d->request);
	d->request = NULL;
}

/* ------------------------------------------------------------------------
 * Making a message
 * ------------------------------------------------------------------------ */

enum
{
	F_ID = 1, F_OPERATION, F_TARGET, F_FORMAT, F_TRIES, F_SINCE, F_SINK, F_SHARD, F_HAS_OPERATION,
	F_OWNED, F_KIND, F_EID, F_ICCID, F_RESULT, F_ERROR_CODE, F_ERROR_MESSAGE, F_COMPLETED_AT,
	F_CORRELATOR, F_METHOD, F_HAS_SECRET, F_CREDENTIAL, F_TOKEN, F_EXPIRES, F_NAME, F_STORED_KIND,
	F_STORED_VALUE
};

static char *
column_text(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(tuple, desc, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static char *
column_utf8(HeapTuple tuple, TupleDesc desc, int column)
{
	char	   *text = column_text(tuple, desc, column);

	return text == NULL ? NULL : pg_server_to_any(text, (int) strlen(text), PG_UTF8);
}

static bool
column_bool(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(tuple, desc, column, &isnull);

	return !isnull && DatumGetBool(value);
}

static const char *
event_source(void)
{
	size_t		length = esim_api_root ? strlen(esim_api_root) : 0;

	while (length > 0 && esim_api_root[length - 1] == '/')
		length--;
	if (length == 0)
		return "urn:esim:operations";
	return psprintf("%.*s/esim/vwip", (int) length, esim_api_root);
}

/* Authorization or signature; false: d has its result. */
static bool
add_credential(Delivery *d, HeapTuple tuple, TupleDesc desc, const char *id, const char *body,
			   TimestampTz now)
{
	char	   *credential = column_text(tuple, desc, F_CREDENTIAL);
	char	   *token;
	char	   *kind;

	if (credential == NULL)
		return true;
	if (strcmp(credential, "token") == 0)
	{
		char	   *expires = column_text(tuple, desc, F_EXPIRES);
		int64_t		seconds;

		token = column_text(tuple, desc, F_TOKEN);
		if (token == NULL)
		{
			set_result(d, RESULT_GIVEN_UP, "the access token is gone", now);
			return false;
		}
		if (expires != NULL &&
			(!sink_parse_time(expires, &seconds) || seconds * 1000 <= timestamptz_to_ms(now)))
		{
			explicit_bzero(token, strlen(token));
			set_result(d, RESULT_GIVEN_UP, "the access token has expired", now);
			return false;
		}
	}
	else
	{
		kind = column_text(tuple, desc, F_STORED_KIND);
		token = column_text(tuple, desc, F_STORED_VALUE);
		if (token == NULL || kind == NULL)
		{
			d->delay_ms = rsp_backoff_ms(d->tries - 1, BACKOFF_MS, BACKOFF_MAX_MS);
			set_result(d, RESULT_RETRY, "the owner has no credential of the name that sink_credential gives", now);
			return false;
		}
		if (strcmp(kind, "webhook-secret") == 0)
		{
			unsigned char key[SINK_MAX_SECRET];
			size_t		length = sink_secret(token, key);
			int64_t		timestamp = timestamptz_to_ms(now) / 1000;
			char		signature[SINK_SIGNATURE_SIZE];
			char		number[32];
			bool		ok;

			snprintf(number, sizeof(number), INT64_FORMAT, (int64) timestamp);
			ok = length > 0 && sink_signature(key, length, id, timestamp, body, strlen(body), signature) &&
				http_request_header(d->request, "webhook-id", id) &&
				http_request_header(d->request, "webhook-timestamp", number) &&
				http_request_header(d->request, "webhook-signature", signature);
			explicit_bzero(key, sizeof(key));
			explicit_bzero(token, strlen(token));
			if (!ok)
			{
				d->delay_ms = rsp_backoff_ms(d->tries - 1, BACKOFF_MS, BACKOFF_MAX_MS);
				set_result(d, RESULT_RETRY, "the stored credential is no secret that messages can be signed with", now);
			}
			return ok;
		}
	}
	if (!sink_token_valid(token) || !http_request_bearer(d->request, token))
	{
		explicit_bzero(token, strlen(token));
		set_result(d, RESULT_GIVEN_UP, "the access token has a character that cannot stand in a header", now);
		return false;
	}
	explicit_bzero(token, strlen(token));
	return true;
}

/*
 * Takes a place for the row and makes its request; without a request it has
 * its result already.
 */
static void
make_delivery(HeapTuple tuple, TupleDesc desc, Sink *sink, TimestampTz now)
{
	Delivery   *d = NULL;
	SinkEvent	event;
	SinkRoute	route;
	char		reason[256];
	char	   *target;
	char	   *path;
	char	   *message;
	bool		form;
	bool		get;
	bool		isnull;

	for (int i = 0; i < nplaces && d == NULL; i++)
		if (!places[i].used)
			d = &places[i];
	if (d == NULL)
		return;
	memset(d, 0, sizeof(*d));
	d->used = true;
	nused++;
	d->sink = sink;
	memcpy(&d->id, DatumGetUUIDP(SPI_getbinval(tuple, desc, F_ID, &isnull)), UUID_LEN);
	memcpy(&d->operation, DatumGetUUIDP(SPI_getbinval(tuple, desc, F_OPERATION, &isnull)), UUID_LEN);
	d->shard = DatumGetInt16(SPI_getbinval(tuple, desc, F_SHARD, &isnull));
	d->tries = DatumGetInt32(SPI_getbinval(tuple, desc, F_TRIES, &isnull)) + 1;
	d->since = DatumGetTimestampTz(SPI_getbinval(tuple, desc, F_SINCE, &isnull));
	d->has_secret = column_bool(tuple, desc, F_HAS_SECRET);

	if (!column_bool(tuple, desc, F_HAS_OPERATION))
	{
		set_result(d, RESULT_GIVEN_UP, "the operation is gone", now);
		return;
	}
	if (!column_bool(tuple, desc, F_OWNED))
	{
		set_result(d, RESULT_GIVEN_UP, "the owner no longer exists", now);
		return;
	}

	target = column_text(tuple, desc, F_TARGET);
	if (sink_check(target, esim_sink_allow, esim_sink_allow_private, &route, reason, sizeof(reason)) != SINK_ALLOWED)
	{
		char	   *error = psprintf("the URL is not allowed: %s", reason);

		d->delay_ms = rsp_backoff_ms(d->tries - 1, BACKOFF_MS, BACKOFF_MAX_MS);
		sink_failed(sink, error, 0, now);
		set_result(d, RESULT_RETRY, error, now);
		return;
	}
	d->host = find_host(&route, reason, sizeof(reason));
	if (d->host == NULL)
	{
		d->delay_ms = rsp_backoff_ms(d->tries - 1, BACKOFF_MS, BACKOFF_MAX_MS);
		sink_failed(sink, reason, 0, now);
		set_result(d, RESULT_RETRY, reason, now);
		return;
	}

	memset(&event, 0, sizeof(event));
	event.id = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&d->id)));
	event.source = event_source();
	event.operation = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&d->operation)));
	event.kind = column_text(tuple, desc, F_KIND);
	event.result = column_text(tuple, desc, F_RESULT);
	event.eid = column_text(tuple, desc, F_EID);
	event.iccid = column_text(tuple, desc, F_ICCID);
	event.error_code = column_utf8(tuple, desc, F_ERROR_CODE);
	event.error_message = column_utf8(tuple, desc, F_ERROR_MESSAGE);
	event.completed_at = column_text(tuple, desc, F_COMPLETED_AT);
	event.correlator = column_text(tuple, desc, F_CORRELATOR);

	form = strcmp(column_text(tuple, desc, F_FORMAT), "form") == 0;
	get = form && strcmp(column_text(tuple, desc, F_METHOD), "POST") != 0;
	message = form ? sink_form(&event) : sink_cloudevent(&event);
	if (message == NULL)
	{
		d->host = NULL;
		set_result(d, RESULT_GIVEN_UP, "the message could not be made", now);
		return;
	}
	path = unconstify(char *, route.target);
	if (get)
	{
		char	   *query = strchr(path, '?');

		path = psprintf("%s%s%s", path, query == NULL ? "?" :
						query[1] == '\0' || path[strlen(path) - 1] == '&' ? "" : "&", message);
	}
	d->request = http_request_create(d->host->endpoint, get ? "GET" : "POST", path,
									 get ? NULL : form ? "application/x-www-form-urlencoded" :
									 "application/cloudevents+json",
									 get ? NULL : message, get ? 0 : strlen(message), d);
	if (d->request == NULL ||
		!http_request_header(d->request, "x-correlator", event.correlator))
	{
		free(message);
		d->host = NULL;
		d->delay_ms = BACKOFF_MS;
		set_result(d, RESULT_RETRY, "the request could not be made", now);
		return;
	}
	if (!form && !add_credential(d, tuple, desc, event.id, message, now))
	{
		free(message);
		http_request_free(d->request);
		d->request = NULL;
		d->host = NULL;
		if (d->result == RESULT_GIVEN_UP)
			d->tries--;
		return;
	}
	free(message);

	nflying++;
	sink->in_flight++;
	d->host->in_flight++;
	if (!sink->proven)
	{
		d->counted_unproven = true;
		nunproven++;
		d->host->unproven++;
	}
}

/* ------------------------------------------------------------------------
 * Looking for what is due
 * ------------------------------------------------------------------------ */

static Datum
ids_in_hand(void)
{
	Column		column;

	column_init(&column, Max(nused, 1));
	for (int i = 0; i < nplaces; i++)
		if (places[i].used)
			column_add(&column, UUIDPGetDatum(&places[i].id));
	return column_array(&column, UUIDOID);
}

static void
look_again_at(TimestampTz at)
{
	if (next_look == 0 || at < next_look)
		next_look = at;
}

/*
 * The sinks that have something to be delivered, by hops over the index, and
 * when the first of it is due.
 */
static void
look_for_sinks(TimestampTz now)
{
	static EsimStatement find = {
		"SELECT s.shard, h.sink, d.next_at FROM unnest($1, $2) s (shard, after)"
		" CROSS JOIN LATERAL (WITH RECURSIVE h (sink) AS ("
		"   (SELECT n.sink FROM @esim_notification n WHERE n.shard = s.shard AND n.sink > s.after AND n.next_at IS NOT NULL"
		"     ORDER BY n.sink LIMIT 1)"
		"   UNION ALL"
		"   SELECT (SELECT n.sink FROM @esim_notification n WHERE n.shard = s.shard AND n.sink > h.sink AND n.next_at IS NOT NULL"
		"     ORDER BY n.sink LIMIT 1) FROM h WHERE h.sink IS NOT NULL)"
		"  SELECT h.sink FROM h WHERE h.sink IS NOT NULL LIMIT $3) h"
		" LEFT JOIN LATERAL (SELECT n.next_at FROM @esim_notification n WHERE n.shard = s.shard AND n.sink = h.sink"
		"  AND n.next_at IS NOT NULL AND n.id <> ALL ($4) AND n.system_identifier = $5 AND n.timeline = $6 AND n.database = $7"
		"  ORDER BY n.next_at LIMIT 1) d ON true",
		7, {"int2[]", "text[]", "int8", "uuid[]", "int8", "int4", "oid"}
	};
	Column		shards;
	Column		after;
	Datum		values[7];
	int			counts[ESIM_SHARDS] = {0};
	EsimEpoch	epoch;
	uint64		n;
	SPITupleTable *table;
	bool		more = false;
	TimestampTz then;

	look = false;
	next_look = TimestampTzPlusMilliseconds(now, Max(esim_poll_interval_ms, 1000));
	column_init(&shards, ESIM_SHARDS);
	column_init(&after, ESIM_SHARDS);
	for (int i = 0; i < ESIM_SHARDS; i++)
	{
		if (!esim_worker->held[i])
			continue;
		column_add(&shards, Int16GetDatum(i));
		column_add(&after, CStringGetTextDatum(cursors[i] ? cursors[i] : ""));
	}
	if (shards.count == 0)
		return;
	esim_current_epoch(&epoch);
	values[0] = column_array(&shards, INT2OID);
	values[1] = column_array(&after, TEXTOID);
	values[2] = Int64GetDatum(LOOK_SINKS);
	values[3] = ids_in_hand();
	values[4] = Int64GetDatum(epoch.system_identifier);
	values[5] = Int32GetDatum(epoch.timeline);
	values[6] = ObjectIdGetDatum(epoch.database);
	esim_execute(&find, values, NULL, 0);
	n = SPI_processed;
	table = SPI_tuptable;
	for (int i = 0; i < ESIM_SHARDS; i++)
	{
		if (cursors[i] != NULL)
			pfree(cursors[i]);
		cursors[i] = NULL;
	}
	for (uint64 r = 0; r < n; r++)
	{
		bool		isnull;
		int16		shard = DatumGetInt16(SPI_getbinval(table->vals[r], table->tupdesc, 1, &isnull));
		Datum		key = SPI_getbinval(table->vals[r], table->tupdesc, 2, &isnull);
		Datum		value = SPI_getbinval(table->vals[r], table->tupdesc, 3, &isnull);
		TimestampTz due = isnull ? 0 : DatumGetTimestampTz(value);
		Sink	   *sink;

		if (++counts[shard] == LOOK_SINKS)
		{
			/* the next look goes on behind it */
			cursors[shard] = MemoryContextStrdup(esim_worker->context, TextDatumGetCString(key));
			more = true;
		}
		if (isnull)
			continue;			/* all in hand, or of another epoch */
		if (due > now)
		{
			look_again_at(due);
			continue;
		}
		sink = find_sink(TextDatumGetCString(key), shard, now);
		if (sink == NULL)
		{
			look_again_at(TimestampTzPlusMilliseconds(now, 1000));
			continue;
		}
		if (TIMESTAMP_IS_NOBEGIN(due))
			sink->urgent = true;
		if (!sink->ready)
		{
			dlist_push_tail(&ready, &sink->node);
			sink->ready = true;
		}
	}

	/* looking takes at most a tenth of the time */
	then = GetCurrentTimestamp();
	not_before = then + Max(5000, (then - now) * 10);
	if (more)
		look = true;
	SPI_freetuptable(table);
}

/* how many more messages to the sink may be under way */
static int
room_for(Sink *sink, int left, int unproven_left, TimestampTz now)
{
	int			room = sink->window;

	if (sink->urgent)
		room = Max(room, sink->in_flight + 1);
	else if (sink->open_until > now)
		return 0;
	else if (sink->failures >= TRIP)
		room = 1;				/* it is tried out */
	room = Min(room - sink->in_flight, left);
	if (!sink->proven)
		room = Min(room, unproven_left);
	return room;
}

static int
max_unproven(void)
{
	return nplaces * 3 / 4;
}

/* places at the sink's host; its own part for those that are not proven */
static int
room_at_host(Sink *sink)
{
	Host	   *host;
	int			room;

	if (sink->generation != generation)
	{
		SinkRoute	route;

		if (sink->origin != NULL)
			pfree(sink->origin);
		sink->origin = NULL;
		if (sink_check(sink->key, esim_sink_allow, esim_sink_allow_private, &route, NULL, 0) == SINK_ALLOWED)
		{
			/* the keys of hosts are of a fixed size */
			sink->origin = MemoryContextAllocZero(esim_worker->context, SINK_MAX_ORIGIN);
			strlcpy(sink->origin, route.origin, SINK_MAX_ORIGIN);
		}
		sink->generation = generation;
	}
	if (sink->origin == NULL)
		return SINK_MAX;		/* nothing will be sent */
	host = hash_search(hosts, sink->origin, HASH_FIND, NULL);
	if (host == NULL)
		return HOST_MAX;
	room = HOST_MAX - host->in_flight;
	if (!sink->proven)
		room = Min(room, HOST_MAX * 3 / 4 - host->unproven);
	return room;
}

/* true: a message of a ready sink may go out now */
static bool
wants_any(TimestampTz now)
{
	dlist_iter	iter;

	if (nused >= nplaces)
		return false;
	dlist_foreach(iter, &ready)
	{
		Sink	   *sink = dlist_container(Sink, node, iter.cur);

		if (room_for(sink, nplaces - nused, max_unproven() - nunproven, now) > 0 &&
			room_at_host(sink) > 0)
			return true;
	}
	return false;
}

static void
fetch(TimestampTz now)
{
	static EsimStatement due = {
		"SELECT n.id, n.operation, n.target, n.format, n.tries, n.since, n.sink, n.shard, o.id IS NOT NULL,"
		" pg_catalog.pg_get_userbyid(o.owner) = o.owner_name, o.kind, o.eid::text, o.iccid::text, o.result::text,"
		" o.error_code, o.error_message,"
		" pg_catalog.to_char(o.completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),"
		" coalesce(o.correlator, o.id::text), coalesce(o.callback_method, 'GET'), s.operation IS NOT NULL, n.credential,"
		" s.sink_credential ->> 'accessToken', s.sink_credential ->> 'accessTokenExpireUtc', s.sink_credential ->> 'name',"
		" c.kind, c.value"
		" FROM unnest($1, $2, $3) w (shard, sink, wanted)"
		" CROSS JOIN LATERAL (SELECT x.* FROM @esim_notification x WHERE x.shard = w.shard AND x.sink = w.sink"
		"  AND x.next_at IS NOT NULL AND x.next_at <= $4 AND x.id <> ALL ($5)"
		"  AND x.system_identifier = $6 AND x.timeline = $7 AND x.database = $8"
		"  ORDER BY x.next_at LIMIT w.wanted FOR SHARE SKIP LOCKED) n"
		" LEFT JOIN @esim_operation o ON o.id = n.operation"
		" LEFT JOIN @esim_operation_secret s ON s.operation = n.operation AND n.format = 'cloudevent'"
		" LEFT JOIN @esim_credential c ON c.owner = o.owner AND c.owner_name = o.owner_name AND c.name = s.sink_credential ->> 'name'",
		8, {"int2[]", "text[]", "int8[]", "timestamptz", "uuid[]", "int8", "int4", "oid"}
	};
	Column		shards;
	Column		keys;
	Column		wanted;
	Datum		values[8];
	dlist_mutable_iter iter;
	List	   *asked = NIL;
	ListCell   *cell;
	int			left = nplaces - nused;
	int			unproven_left = max_unproven() - nunproven;
	uint64		n;
	SPITupleTable *table;
	EsimEpoch	epoch;

	column_init(&shards, 16);
	column_init(&keys, 16);
	column_init(&wanted, 16);
	dlist_foreach_modify(iter, &ready)
	{
		Sink	   *sink = dlist_container(Sink, node, iter.cur);
		int			room = room_for(sink, left, unproven_left, now);

		if (left <= 0)
			break;
		if (room > 0)
			room = Min(room, room_at_host(sink));
		if (room <= 0)
			continue;
		sink->want = room;
		sink->got = 0;
		sink->urgent = false;
		sink->used_at = now;
		left -= room;
		if (!sink->proven)
			unproven_left -= room;
		column_add(&shards, Int16GetDatum(sink->shard));
		column_add(&keys, CStringGetTextDatum(sink->key));
		column_add(&wanted, Int64GetDatum(room));
		asked = lappend(asked, sink);
	}
	if (asked == NIL)
		return;
	esim_current_epoch(&epoch);
	values[0] = column_array(&shards, INT2OID);
	values[1] = column_array(&keys, TEXTOID);
	values[2] = column_array(&wanted, INT8OID);
	values[3] = TimestampTzGetDatum(now);
	values[4] = ids_in_hand();
	values[5] = Int64GetDatum(epoch.system_identifier);
	values[6] = Int32GetDatum(epoch.timeline);
	values[7] = ObjectIdGetDatum(epoch.database);
	esim_execute(&due, values, NULL, 0);
	n = SPI_processed;
	table = SPI_tuptable;
	for (uint64 r = 0; r < n; r++)
	{
		char	   *key = column_text(table->vals[r], table->tupdesc, F_SINK);
		Sink	   *sink = hash_search(sinks, &key, HASH_FIND, NULL);

		if (sink == NULL)
			continue;
		sink->got++;
		make_delivery(table->vals[r], table->tupdesc, sink, now);
	}
	SPI_freetuptable(table);

	/* each in turn */
	foreach(cell, asked)
	{
		Sink	   *sink = lfirst(cell);

		dlist_delete(&sink->node);
		sink->ready = sink->got == sink->want;
		if (sink->ready)
			dlist_push_tail(&ready, &sink->node);
	}
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

	if (nresults == 0)
		return;
	for (int i = 0; i < 7; i++)
		column_init(&c[i], nresults);
	column_init(&announced, 8);
	for (int i = 0; i < nplaces; i++)
	{
		Delivery   *d = &places[i];
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
				look_again_at(next);
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
	hash_seq_init(&status, sinks);
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
	values[4] = ids_in_hand();
	esim_execute(&update, values, NULL, 0);
}

/* ------------------------------------------------------------------------
 * The worker's calls
 * ------------------------------------------------------------------------ */

int
deliver_start(int other)
{
	HASHCTL		control;
	struct epoll_event event;
	char		error[256];

	while (nplaces < MAX_PLACES && AcquireExternalFD())
		nplaces++;

	/* whoever took the last ones: waiting for a latch needs one as well */
	for (int i = 0; i < SPARE_FILES && nplaces < MAX_PLACES; i++)
	{
		ReleaseExternalFD();
		nplaces = Max(nplaces - 1, 0);
	}
	nplaces = Max(nplaces, MIN_PLACES);
	loop = http_loop_create(nplaces, error, sizeof(error));
	wait_fd = epoll_create1(EPOLL_CLOEXEC);
	memset(&event, 0, sizeof(event));
	event.events = EPOLLIN;
	if (loop == NULL || wait_fd < 0 ||
		epoll_ctl(wait_fd, EPOLL_CTL_ADD, other, &event) != 0 ||
		epoll_ctl(wait_fd, EPOLL_CTL_ADD, http_loop_fd(loop), &event) != 0)
		ereport(FATAL,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not set up libcurl: %s", loop == NULL ? error : "no descriptor to wait with")));

	memset(&control, 0, sizeof(control));
	control.keysize = SINK_MAX_ORIGIN;
	control.entrysize = sizeof(Host);
	control.hcxt = esim_worker->context;
	hosts = hash_create("esim hosts of sinks", 64, &control, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	memset(&control, 0, sizeof(control));
	control.keysize = sizeof(char *);
	control.entrysize = sizeof(Sink);
	control.hash = sink_hash;
	control.match = sink_match;
	control.hcxt = esim_worker->context;
	sinks = hash_create("esim sinks", 64, &control, HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	return wait_fd;
}

/* what is under way is broken off; another worker sends it again */
void
deliver_finish(void)
{
	if (nresults > 0)
	{
		results_since = 0;
		deliver_turn(GetCurrentTimestamp());
	}
	for (int i = 0; i < nplaces; i++)
		if (places[i].used)
			free_place(&places[i]);
	http_loop_destroy(loop);
	loop = NULL;
}

void
deliver_reload(void)
{
	generation++;
	look = true;
}

void
deliver_look(void)
{
	look = true;
}

void
deliver_shard(int shard, bool held)
{
	dlist_mutable_iter iter;

	look = true;
	if (held)
		return;
	if (cursors[shard] != NULL)
		pfree(cursors[shard]);
	cursors[shard] = NULL;
	dlist_foreach_modify(iter, &ready)
	{
		Sink	   *sink = dlist_container(Sink, node, iter.cur);

		if (sink->shard == shard)
			unready(sink);
	}
	for (int i = 0; i < nplaces; i++)
	{
		Delivery   *d = &places[i];

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

	if (nflying > 0)
	{
		http_loop_run(loop);
		while ((request = http_loop_next_done(loop)) != NULL)
			answered(http_request_owner(request), now);
	}
	if (paused_until > now)
		return false;
	if (nresults > 0 &&
		(nresults >= WRITE_BATCH || nflying == 0 ||
		 TimestampDifferenceExceeds(results_since, now, WRITE_AGE_MS)))
		return true;
	if ((look || (next_look != 0 && next_look <= now)) && now >= not_before)
		return true;
	return nresults == 0 && !dlist_is_empty(&ready) && wants_any(now);
}

static void
transaction(TimestampTz now)
{
	/* a crash that loses what is written here sends some messages again */
	(void) set_config_option("synchronous_commit", "off", PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	write_results(now);
	give_up(now);
	if ((look || (next_look != 0 && next_look <= now)) && now >= not_before)
		look_for_sinks(now);
	fetch(now);
}

static void
committed(void)
{
	nresults = 0;
	for (int i = 0; i < nplaces; i++)
	{
		Delivery   *d = &places[i];

		if (!d->used)
			continue;
		if (d->written)
			free_place(d);
		else if (d->result != RESULT_NONE)
			nresults++;
		else if (d->request != NULL && !d->submitted)
		{
			d->submitted = true;
			http_loop_submit(loop, d->request);
		}
	}
}

/* what was fetched is fetched again, results are written again */
static void
aborted(TimestampTz now)
{
	nresults = 0;
	for (int i = 0; i < nplaces; i++)
	{
		Delivery   *d = &places[i];

		if (!d->used)
			continue;
		d->written = false;
		if (d->result != RESULT_NONE)
			nresults++;
		else if (!d->submitted)
		{
			landed(d);
			free_place(d);
		}
	}
	paused_until = TimestampTzPlusMilliseconds(now, PAUSE_MS);
	look = true;
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

	if (nflying > 0)
		wait = http_loop_timeout(loop);
	if (nused < nplaces)
		dlist_foreach(iter, &ready)
		{
			Sink	   *sink = dlist_container(Sink, node, iter.cur);

			if (sink->open_until > now && (open == 0 || sink->open_until < open))
				open = sink->open_until;
		}
	at[0] = nresults > 0 ? TimestampTzPlusMilliseconds(results_since, WRITE_AGE_MS + 1) : 0;
	at[1] = look ? Max(not_before, now) : next_look == 0 ? 0 : Max(next_look, not_before);
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

bool
deliver_anything_left(void)
{
	static EsimStatement left = {
		"SELECT 1 FROM unnest($1) s (shard), LATERAL (SELECT 1 FROM @esim_notification n"
		" WHERE n.shard = s.shard AND n.next_at IS NOT NULL AND n.system_identifier = $2 AND n.timeline = $3 AND n.database = $4"
		" LIMIT 1) x LIMIT 1",
		4, {"int2[]", "int8", "int4", "oid"}
	};
	Column		shards;
	EsimEpoch	epoch;
	Datum		values[4];

	if (nused > 0)
		return true;
	column_init(&shards, ESIM_SHARDS);
	for (int i = 0; i < ESIM_SHARDS; i++)
		if (esim_worker->held[i])
			column_add(&shards, Int16GetDatum(i));
	esim_current_epoch(&epoch);
	values[0] = column_array(&shards, INT2OID);
	values[1] = Int64GetDatum(epoch.system_identifier);
	values[2] = Int32GetDatum(epoch.timeline);
	values[3] = ObjectIdGetDatum(epoch.database);
	esim_execute(&left, values, NULL, 1);
	return SPI_processed > 0;
}
