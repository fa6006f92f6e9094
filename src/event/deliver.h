/*-------------------------------------------------------------------------
 *
 * deliver.h
 *	  What the files share that send what lies in the outbox.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_DELIVER_H
#define ESIM_DELIVER_H

#include "event/event.h"

#include "lib/ilist.h"
#include "utils/hsearch.h"
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

/* all of it; there is one per worker */
typedef struct Outbox
{
	HttpLoop   *loop;
	Delivery	places[MAX_PLACES];
	int			nplaces;		/* how many of them may be used */
	int			nused;
	int			nflying;
	int			nunproven;
	int			nresults;		/* to be written */
	HTAB	   *hosts;
	HTAB	   *sinks;
	dlist_head	ready;			/* sinks with due rows */
	int			generation;		/* of the settings */
	bool		look;			/* there may be something new */
	TimestampTz next_look;		/* 0: none */
	TimestampTz not_before;		/* of the next look */
	TimestampTz results_since;
	char	   *cursors[ESIM_SHARDS];	/* where the next look goes on */
} Outbox;

extern Outbox outbox;

/* limit.c */
extern void limit_start(void);
extern Sink *limit_sink(const char *key, int16 shard, TimestampTz now);
extern Host *limit_host(const SinkRoute *route, char *error, size_t size);
extern void limit_succeeded(Sink *sink);
extern void limit_failed(Sink *sink, const char *error, int64 hold_ms, TimestampTz now);
extern void limit_unready(Sink *sink);
extern int	limit_room(Sink *sink, int left, int unproven_left, TimestampTz now);
extern int	limit_room_at_host(Sink *sink);
extern int	limit_unproven(void);
extern bool limit_wants_any(TimestampTz now);

/* compose.c */
extern void compose(HeapTuple tuple, TupleDesc desc, Sink *sink, TimestampTz now);

/* columns of the rows that compose() takes */
enum
{
	F_ID = 1, F_OPERATION, F_TARGET, F_FORMAT, F_TRIES, F_SINCE, F_SINK, F_SHARD, F_HAS_OPERATION,
	F_OWNED, F_KIND, F_EID, F_ICCID, F_RESULT, F_ERROR_CODE, F_ERROR_MESSAGE, F_COMPLETED_AT,
	F_CORRELATOR, F_METHOD, F_HAS_SECRET, F_CREDENTIAL, F_TOKEN, F_EXPIRES, F_NAME, F_STORED_KIND,
	F_STORED_VALUE
};

/* fetch.c; within a transaction with SPI connected */
extern Datum fetch_in_hand(void);	/* identifiers, uuid[] */
extern void fetch_look_again(TimestampTz at);
extern void fetch_look(TimestampTz now);
extern void fetch_due(TimestampTz now);

/* deliver.c */
extern void deliver_result(Delivery *d, Outcome result, const char *error, TimestampTz now);

#endif							/* ESIM_DELIVER_H */
