/*-------------------------------------------------------------------------
 *
 * driver.h
 *	  What the drivers share and nobody else needs: the memo, JSON of
 *	  answers, identifiers, the ends of a turn that are alike everywhere.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_RSP_DRIVER_H
#define ESIM_RSP_DRIVER_H

#include "rsp.h"
#include "json.h"

#define lengthof(array) (sizeof(array) / sizeof((array)[0]))

#define RETRY_BASE_MS	INT64_C(1000)
#define RETRY_MAX_MS	INT64_C(300000)
#define PARK_BASE_MS	INT64_C(300000)
#define PARK_MAX_MS		INT64_C(3600000)

/*
 * After its time-out a request may still be on its way through the server's
 * own queues; only then does what is not there count as not there.
 */
#define GRACE_MS		INT64_C(10000)

#define PATIENCE		12		/* answers without sense in a row */

/* ----- the memo: what a driver keeps of an operation between turns ----- */

/* NULL, false, 0: not there, or of another type */
extern const char *rsp_memo_text(const RspOperation *op, const char *key);
extern bool rsp_memo_flag(const RspOperation *op, const char *key);
extern int64_t rsp_memo_number(const RspOperation *op, const char *key);

/* false: no memory; value's reference is stolen */
extern bool rsp_memo_set(RspOperation *op, const char *key, json_t *value);
extern bool rsp_memo_set_text(RspOperation *op, const char *key, const char *value);
extern bool rsp_memo_set_flag(RspOperation *op, const char *key);
extern void rsp_memo_clear(RspOperation *op, const char *key);

/* adds one to a counter and gives the sum */
extern int64_t rsp_memo_count(RspOperation *op, const char *key);

/*
 * How the server refused a request, kept while it is asked whether its aim is
 * reached all the same.  set: false: no memory; texts may be NULL.
 */
typedef struct RspRefusal
{
	char		code[40];
	char		message[512];
	char		rsp_code[128];
	char		rsp_message[512];
} RspRefusal;

extern bool rsp_memo_set_refusal(RspOperation *op, const char *code, const char *message,
								 const char *rsp_code, const char *rsp_message);
extern bool rsp_memo_is_refused(const RspOperation *op);
extern void rsp_memo_refusal(const RspOperation *op, RspRefusal *refusal);	/* "": none */
extern void rsp_memo_clear_refusal(RspOperation *op);

/* ----- JSON ----- */

/* Reference stolen; false: no memory, or a NULL value. */
extern bool rsp_json_put(json_t *object, const char *key, json_t *value);

/* true: array is one and has the text */
extern bool rsp_json_has(const json_t *array, const char *text);

/* true: member is absent, null, or a string of at most max bytes that is put
 * into *value */
extern bool rsp_json_optional(const json_t *object, const char *key, size_t max,
							  const char **value);

/*
 * JSON of an answer that came whole, to be released; NULL: there is none,
 * reason (static text) says why.  The media type is not looked at: what counts
 * is whether the content can be read.
 */
extern json_t *rsp_answer_json(const HttpAnswer *answer, const char **reason);

/* ----- identifiers; NULL is none ----- */

extern bool rsp_digits(const char *text, size_t min, size_t max);
extern bool rsp_is_eid(const char *text);
extern bool rsp_is_iccid(const char *text); /* 18 to 20 digits */
extern bool rsp_is_uuid(const char *text);

/* ----- checks at enqueue ----- */

/* fills error; false always */
extern bool rsp_refuse(RspError *error, const char *code, const char *message,
					   const char *detail, const char *hint);

/* ----- when ----- */

/*
 * When the last request that acts was sent, ms since 1970.  It should be
 * known; else it counts from when that was noticed, which the memo keeps.
 */
extern int64_t rsp_sent_at(RspOperation *op);

/* ----- ends of a turn ----- */

/* Retry-After where the server gave one (answer may be NULL), else grows with
 * each failure */
extern int64_t rsp_retry_delay(RspOperation *op, const HttpAnswer *answer, int64_t base,
							   int64_t max);

/* grows with each poll */
extern int64_t rsp_poll_delay(RspOperation *op, int64_t base, int64_t max);

/*
 * These put the step back to 0: begin() finds its way without it.
 *
 * rsp_no_memory: no request could be made, nothing was sent.
 * rsp_later: not now; what was unresolved stays so, and shows.
 * rsp_parked: shown as waiting for an administrator, but tried again by itself
 * at long intervals, since the fault may lie with the server and pass.
 * rsp_wait_unknown: waits until (ms since 1970), but looks in between at
 * growing intervals.
 */
extern void rsp_no_memory(RspConversation *c);
extern void rsp_later(RspConversation *c, const HttpAnswer *answer, bool trouble,
					  const char *code, const char *message);
extern void rsp_parked(RspConversation *c, const HttpAnswer *answer, const char *code,
					   const char *message);
extern void rsp_wait_unknown(RspConversation *c, int64_t until, const char *message);

/*
 * An answer that did not come, or not for the operation's sake: waits and
 * returns true.  Only where nothing depends on whether the request got
 * through.
 */
extern bool rsp_no_answer(RspConversation *c, const HttpAnswer *answer);

/* it was to be cancelled, and nothing of it was carried out or will be */
extern void rsp_withdrawn(RspConversation *c, const char *message);

/* a token endpoint that refuses us does so until somebody sees to it */
extern bool rsp_token_refused(const HttpAnswer *answer);

#endif							/* ESIM_RSP_DRIVER_H */
