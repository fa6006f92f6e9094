/*-------------------------------------------------------------------------
 *
 * driver.c
 *	  What the drivers share; see driver.h.
 *
 *-------------------------------------------------------------------------
 */
#include <ctype.h>
#include <string.h>

#include "driver.h"

#define RETRY_AFTER_MAX_MS INT64_C(86400000)

/* ----- the memo ----- */

const char *
rsp_memo_text(const RspOperation *op, const char *key)
{
	return json_string_value(json_object_get(op->memo, key));
}

bool
rsp_memo_flag(const RspOperation *op, const char *key)
{
	return json_is_true(json_object_get(op->memo, key));
}

int64_t
rsp_memo_number(const RspOperation *op, const char *key)
{
	return json_integer_value(json_object_get(op->memo, key));
}

bool
rsp_memo_set(RspOperation *op, const char *key, json_t *value)
{
	return rsp_json_put(op->memo, key, value);
}

bool
rsp_memo_set_text(RspOperation *op, const char *key, const char *value)
{
	return rsp_memo_set(op, key, json_string(value));
}

bool
rsp_memo_set_flag(RspOperation *op, const char *key)
{
	return rsp_memo_set(op, key, json_true());
}

void
rsp_memo_clear(RspOperation *op, const char *key)
{
	json_object_del(op->memo, key);
}

int64_t
rsp_memo_count(RspOperation *op, const char *key)
{
	int64_t		n = rsp_memo_number(op, key) + 1;

	rsp_memo_set(op, key, json_integer(n));
	return n;
}

/* a text that is not there is left out */
static bool
put_text(json_t *object, const char *key, const char *text)
{
	return text == NULL || rsp_json_put(object, key, json_string(text));
}

bool
rsp_memo_set_refusal(RspOperation *op, const char *code, const char *message,
					 const char *rsp_code, const char *rsp_message)
{
	json_t	   *refusal = json_object();
	bool		ok = refusal != NULL &&
		put_text(refusal, "code", code) && put_text(refusal, "message", message) &&
		put_text(refusal, "rsp_code", rsp_code) &&
		put_text(refusal, "rsp_message", rsp_message) &&
		json_object_set(op->memo, "refused", refusal) == 0;

	json_decref(refusal);
	return ok;
}

bool
rsp_memo_is_refused(const RspOperation *op)
{
	return json_is_object(json_object_get(op->memo, "refused"));
}

void
rsp_memo_refusal(const RspOperation *op, RspRefusal *refusal)
{
	const json_t *kept = json_object_get(op->memo, "refused");

	rsp_set(refusal->code, sizeof(refusal->code), rsp_json_string(kept, "code", 64));
	rsp_set(refusal->message, sizeof(refusal->message), rsp_json_string(kept, "message", 2048));
	rsp_set(refusal->rsp_code, sizeof(refusal->rsp_code),
			rsp_json_string(kept, "rsp_code", 512));
	rsp_set(refusal->rsp_message, sizeof(refusal->rsp_message),
			rsp_json_string(kept, "rsp_message", 8192));
}

void
rsp_memo_clear_refusal(RspOperation *op)
{
	rsp_memo_clear(op, "refused");
}

/* ----- JSON ----- */

bool
rsp_json_put(json_t *object, const char *key, json_t *value)
{
	return json_object_set_new(object, key, value) == 0;
}

bool
rsp_json_has(const json_t *array, const char *text)
{
	size_t		i;

	for (i = 0; i < json_array_size(array); i++)
	{
		const char *element = json_string_value(json_array_get(array, i));

		if (element != NULL && strcmp(element, text) == 0)
			return true;
	}
	return false;
}

bool
rsp_json_optional(const json_t *object, const char *key, size_t max, const char **value)
{
	const json_t *member = json_object_get(object, key);

	*value = NULL;
	if (member == NULL || json_is_null(member))
		return true;
	*value = rsp_json_string(object, key, max);
	return *value != NULL;
}

json_t *
rsp_answer_json(const HttpAnswer *answer, const char **reason)
{
	*reason = "the answer was broken off or too large";
	if (answer->outcome != HTTP_ANSWERED)
		return NULL;
	return rsp_json(answer->body, answer->length, reason);
}

/* ----- identifiers ----- */

bool
rsp_digits(const char *text, size_t min, size_t max)
{
	size_t		n = text != NULL ? strspn(text, "0123456789") : 0;

	return text != NULL && text[n] == '\0' && n >= min && n <= max;
}

bool
rsp_is_eid(const char *text)
{
	return rsp_digits(text, 32, 32);
}

/* 89 is what E.118 gives to telecommunications */
bool
rsp_is_iccid(const char *text)
{
	return rsp_digits(text, 18, 20) && text[0] == '8' && text[1] == '9';
}

bool
rsp_is_uuid(const char *text)
{
	size_t		i;

	if (text == NULL)
		return false;
	for (i = 0; i < 36; i++)
	{
		bool		dash = (i == 8 || i == 13 || i == 18 || i == 23);

		if (dash ? text[i] != '-' : !isxdigit((unsigned char) text[i]))
			return false;
	}
	return text[36] == '\0';
}

/* ----- checks at enqueue ----- */

bool
rsp_refuse(RspError *error, const char *code, const char *message, const char *detail,
		   const char *hint)
{
	error->code = code;
	rsp_set(error->message, sizeof(error->message), message);
	rsp_set(error->detail, sizeof(error->detail), detail);
	rsp_set(error->hint, sizeof(error->hint), hint);
	return false;
}

/* ----- when ----- */

int64_t
rsp_sent_at(RspOperation *op)
{
	int64_t		since = rsp_memo_number(op, "since");

	if (op->last_sent_ms != 0)
		return op->last_sent_ms;
	if (since > 0 && since <= op->now_ms)
		return since;
	rsp_memo_set(op, "since", json_integer(op->now_ms));
	return op->now_ms;
}

/* ----- ends of a turn ----- */

int64_t
rsp_retry_delay(RspOperation *op, const HttpAnswer *answer, int64_t base, int64_t max)
{
	int64_t		after = answer != NULL ? answer->retry_after_ms : -1;
	int			n = op->failures;

	if (op->failures < 1000)
		op->failures++;
	if (after > 0)
	{
		if (after > RETRY_AFTER_MAX_MS)
			after = RETRY_AFTER_MAX_MS;
		/* a tenth on top, so that jitter never makes it earlier than asked */
		return after + rsp_backoff_ms(0, after / 10 + 1, after);
	}
	return rsp_backoff_ms(n, base, max);
}

int64_t
rsp_poll_delay(RspOperation *op, int64_t base, int64_t max)
{
	int64_t		delay = rsp_backoff_ms(op->polls, base, max);

	if (op->polls < 1000)
		op->polls++;
	return delay;
}

static RspPhase
not_now_phase(const RspOperation *op)
{
	return op->unresolved ? RSP_PHASE_UNKNOWN : RSP_PHASE_RETRYING;
}

void
rsp_no_memory(RspConversation *c)
{
	c->op->step = 0;
	rsp_wait(c, not_now_phase(c->op), RETRY_MAX_MS, "INTERNAL", "out of memory");
}

void
rsp_later(RspConversation *c, const HttpAnswer *answer, bool trouble, const char *code,
		  const char *message)
{
	c->op->step = 0;
	rsp_wait(c, not_now_phase(c->op),
			 rsp_retry_delay(c->op, answer, RETRY_BASE_MS, RETRY_MAX_MS), code, message);
	c->action.server_trouble = trouble;
}

void
rsp_parked(RspConversation *c, const HttpAnswer *answer, const char *code, const char *message)
{
	c->op->step = 0;
	rsp_wait(c, RSP_PHASE_PARKED, rsp_retry_delay(c->op, answer, PARK_BASE_MS, PARK_MAX_MS),
			 code, message);
}

void
rsp_wait_unknown(RspConversation *c, int64_t until, const char *message)
{
	RspOperation *op = c->op;
	int64_t		delay = rsp_poll_delay(op, RETRY_BASE_MS, RETRY_MAX_MS);

	if (until > op->now_ms && delay > until - op->now_ms)
		delay = until - op->now_ms;
	if (delay < RETRY_BASE_MS)
		delay = RETRY_BASE_MS;
	op->step = 0;
	rsp_wait(c, RSP_PHASE_UNKNOWN, delay, "", message);
}

void
rsp_withdrawn(RspConversation *c, const char *message)
{
	c->op->step = 0;
	rsp_note(c, "cancelled", "");
	rsp_fail(c, "CANCELLED", message);
	c->action.cancelled = true;
	if (c->op->kind == RSP_RESERVE && c->op->state <= RSP_STATE_RESERVING)
	{
		c->action.profile_state_set = true;
		c->action.state = RSP_STATE_CANCELLED;
	}
}

bool
rsp_token_refused(const HttpAnswer *answer)
{
	return answer->auth_failed && answer->auth_status >= 400 && answer->auth_status < 500 &&
		answer->auth_status != 408 && answer->auth_status != 429;
}

bool
rsp_no_answer(RspConversation *c, const HttpAnswer *answer)
{
	/* the token endpoint's trouble is not this server's */
	if (rsp_token_refused(answer))
	{
		rsp_note(c, "not-sent", answer->error);
		rsp_parked(c, answer, "UNAUTHENTICATED", "the token endpoint refuses the credentials");
	}
	else if (answer->auth_failed)
	{
		rsp_note(c, "not-sent", answer->error);
		rsp_later(c, answer, false, "UNAUTHENTICATED", "no access token could be had");
	}
	else if (answer->outcome == HTTP_NOT_SENT)
	{
		rsp_note(c, "not-sent", answer->error);
		rsp_later(c, answer, true, "UNAVAILABLE",
				  answer->tls_reason != NULL ? answer->tls_reason :
				  "the server cannot be reached");
	}
	else if (answer->outcome == HTTP_LOST)
	{
		rsp_note(c, "lost", answer->error);
		rsp_later(c, answer, true, "UNAVAILABLE", "the server does not answer");
	}
	else
		return false;
	return true;
}
