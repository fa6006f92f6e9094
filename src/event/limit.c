/*-------------------------------------------------------------------------
 *
 * limit.c
 *	  How much may be on its way to sinks, so that a slow or dead one holds
 *	  nobody else up.
 *
 * Each sink (URL without its query) begins with one message at a time and gets
 * more as it answers; sinks that have not answered lately share a part of the
 * places, overall and per host, so that there is always room for those that
 * do.  After some failures in a row a sink is left alone for a growing time,
 * then one message tries it.  Its rows are not touched meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "event/deliver.h"

#include "common/hashfn.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* why an address may be connected to; arguments of address_allowed() */
static const int no_private = 0;
static const int any_address = 1;
static const int only_private = 2;

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

void
limit_unready(Sink *sink)
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

	hash_seq_init(&status, outbox.sinks);
	while ((sink = hash_seq_search(&status)) != NULL)
	{
		char	   *key = sink->key;

		if (sink->in_flight > 0 || sink->open_until > now || sink->ready)
			continue;
		if (sink->origin != NULL)
			pfree(sink->origin);
		hash_search(outbox.sinks, &key, HASH_REMOVE, NULL);
		pfree(key);
	}
	hash_seq_init(&status, outbox.hosts);
	while ((host = hash_seq_search(&status)) != NULL)
	{
		if (host->in_flight > 0)
			continue;
		http_endpoint_release(host->endpoint);
		hash_search(outbox.hosts, host->key, HASH_REMOVE, NULL);
	}
}

/* NULL: there are too many at the moment */
Sink *
limit_sink(const char *key, int16 shard, TimestampTz now)
{
	Sink	   *sink;
	bool		found;

	sink = hash_search(outbox.sinks, &key, HASH_FIND, NULL);
	if (sink != NULL)
		return sink;
	if (hash_get_num_entries(outbox.sinks) >= MAX_SINKS)
	{
		forget(now);
		if (hash_get_num_entries(outbox.sinks) >= MAX_SINKS)
			return NULL;
	}
	sink = hash_search(outbox.sinks, &key, HASH_ENTER, &found);
	memset((char *) sink + sizeof(char *), 0, sizeof(Sink) - sizeof(char *));
	sink->key = MemoryContextStrdup(esim_worker->context, key);
	sink->shard = shard;
	sink->window = 1;
	sink->generation = outbox.generation - 1;
	return sink;
}

/* The host of the route, with an endpoint; NULL: error is filled. */
Host *
limit_host(const SinkRoute *route, char *error, size_t size)
{
	Host	   *host;
	bool		found;

	if (hash_get_num_entries(outbox.hosts) >= MAX_HOSTS)
		forget(GetCurrentTimestamp());
	host = hash_search(outbox.hosts, route->origin, HASH_ENTER, &found);
	if (!found)
		memset((char *) host + SINK_MAX_ORIGIN, 0, sizeof(Host) - SINK_MAX_ORIGIN);
	if (host->endpoint != NULL &&
		(host->generation != outbox.generation || host->only_private != route->only_private))
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
		options.ca_file = esim_sink_ca_file[0] ? esim_sink_ca_file : NULL;
		options.auth = HTTP_AUTH_NONE;
		options.address_allowed = address_allowed;
		options.address_arg = unconstify(int *, route->only_private ? &only_private :
										 esim_sink_allow_private ? &any_address : &no_private);
		host->endpoint = http_endpoint_create(&options, error, size);
		host->generation = outbox.generation;
		host->only_private = route->only_private;
		if (host->endpoint == NULL && host->in_flight == 0)
			hash_search(outbox.hosts, route->origin, HASH_REMOVE, NULL);
		if (host->endpoint == NULL)
			return NULL;
	}
	return host;
}

void
limit_succeeded(Sink *sink)
{
	sink->failures = 0;
	sink->proven = true;
	sink->open_until = 0;
	if (sink->window < SINK_MAX)
		sink->window++;
}

void
limit_failed(Sink *sink, const char *error, int64 hold_ms, TimestampTz now)
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

/* how many more messages to the sink may be under way */
int
limit_room(Sink *sink, int left, int unproven_left, TimestampTz now)
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

int
limit_unproven(void)
{
	return outbox.nplaces * 3 / 4;
}

/* places at the sink's host; its own part for those that are not proven */
int
limit_room_at_host(Sink *sink)
{
	Host	   *host;
	int			room;

	if (sink->generation != outbox.generation)
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
		sink->generation = outbox.generation;
	}
	if (sink->origin == NULL)
		return SINK_MAX;		/* nothing will be sent */
	host = hash_search(outbox.hosts, sink->origin, HASH_FIND, NULL);
	if (host == NULL)
		return HOST_MAX;
	room = HOST_MAX - host->in_flight;
	if (!sink->proven)
		room = Min(room, HOST_MAX * 3 / 4 - host->unproven);
	return room;
}

/* true: a message of a ready sink may go out now */
bool
limit_wants_any(TimestampTz now)
{
	dlist_iter	iter;

	if (outbox.nused >= outbox.nplaces)
		return false;
	dlist_foreach(iter, &outbox.ready)
	{
		Sink	   *sink = dlist_container(Sink, node, iter.cur);

		if (limit_room(sink, outbox.nplaces - outbox.nused, limit_unproven() - outbox.nunproven, now) > 0 &&
			limit_room_at_host(sink) > 0)
			return true;
	}
	return false;
}

void
limit_start(void)
{
	HASHCTL		control;

	memset(&control, 0, sizeof(control));
	control.keysize = SINK_MAX_ORIGIN;
	control.entrysize = sizeof(Host);
	control.hcxt = esim_worker->context;
	outbox.hosts = hash_create("esim hosts of sinks", 64, &control, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	memset(&control, 0, sizeof(control));
	control.keysize = sizeof(char *);
	control.entrysize = sizeof(Sink);
	control.hash = sink_hash;
	control.match = sink_match;
	control.hcxt = esim_worker->context;
	outbox.sinks = hash_create("esim sinks", 64, &control, HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}
