/*
 * worker.h
 *		A worker that is played to a driver: canned answers, no network.
 *
 * It commits (copies) the operation before each request that acts and at the
 * end of each turn, as the real one does, so that a crash is a return to the
 * last copy.
 */
#ifndef WORKER_H
#define WORKER_H

#include "rsp.h"
#include "json.h"

#define HOUR INT64_C(3600000)

/* when an operation begins */
#define T0 INT64_C(1760000000000)

/*
 * The rows beside the operation's own, where a test keeps some.  Either may be
 * NULL.
 */
typedef struct WorkerRows
{
	void		(*claim) (void);	/* reads them into op */
	void		(*complete) (void); /* writes what the turn told; the action is
									 * none that is a request */
} WorkerRows;

extern RspServer server;
extern RspOperation op;
extern RspConversation conv;
extern int64_t request_ms;		/* how long a request that acts takes */

/* since worker_reset() */
extern int	sends;
extern int	asks;
extern int	turns;

/* the last request */
extern char last_path[2048];	/* with the method in front */
extern char last_body[8192];

extern const char *const action_names[];

/*
 * A new operation at a new server; what every test wants is filled in.  The
 * test adds its own and calls save().
 */
extern void worker_reset(const RspDriver *driver, RspKind kind, const WorkerRows *rows);
extern void worker_free(void);

/* commits the operation */
extern void save(void);

/* The worker is gone; another takes up what was committed. */
extern void crash(void);

/* The same, but the intent was not committed: nothing was sent. */
extern void crash_unsent(void);

extern void begin(void);

/* the delay is over */
extern void again(void);

/* Answers the request; a test of its own kind fills in the other members. */
extern void answer_with(const HttpAnswer *members, const char *body, size_t length);
extern void answer_raw(HttpOutcome outcome, int status, const char *body, size_t length,
					   long retry_after);
extern void answer(int status, const char *body);
extern void answer_outcome(HttpOutcome outcome);

/* Looks at the action; each says what it found instead. */
extern bool is(RspActionType type);
extern bool path_is(const char *expected);
extern bool body_is(const char *expected);	/* to the letter */
extern bool json_is(const char *expected);	/* the body, as JSON */
extern bool has_header(const char *name, const char *value);
extern bool waits(RspPhase phase);
extern bool fails(const char *code);
extern bool state_is(RspState state);
extern bool near(int64_t value, int64_t expected);

/* an action that a worker can carry out, whatever it is */
extern bool defined(void);

/* 0 to sides - 1, always the same after the same seed */
extern uint64_t dice_seed;
extern unsigned dice(unsigned sides);

/* The driver's check() refuses with this code; NULL: it does not. */
extern bool checked(const char *code);

#endif							/* WORKER_H */
