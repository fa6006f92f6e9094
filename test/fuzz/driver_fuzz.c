/*
 * driver_fuzz.c
 *		A worker that gives arbitrary answers; see driver_fuzz.h.
 */
#include "driver_fuzz.h"

#define CRASH 255

unsigned
next_byte(Input *input)
{
	if (input->left == 0)
		return 0;
	input->left--;
	return *input->at++;
}

void
fuzz_setup(const DriverFuzz *fuzz, RspServer *server, RspOperation *op)
{
	memset(server, 0, sizeof(*server));
	memset(op, 0, sizeof(*op));
	server->name = "fuzz";
	server->protocol = fuzz->driver->protocol;
	server->timeout_ms = 30000;
	server->unknown_hold_ms = 3600000;
	strcpy(op->id, "01890a5d-ac96-774b-bcce-b302099a8057");
	op->settings = json_object();
	op->options = json_object();
	op->memo = json_object();
	op->now_ms = INT64_C(1760000000000);
}

/* What must hold of every action, whatever was answered. */
static void
must_be_sound(const DriverFuzz *fuzz, const RspConversation *c)
{
	const RspAction *action = &c->action;

	switch (action->type)
	{
		case RSP_ACT_ASK:
		case RSP_ACT_SEND:
			MUST(action->method != NULL && action->path != NULL && action->path[0] == '/');
			MUST(strpbrk(action->path, " \t\r\n#\\") == NULL);
			MUST(strstr(action->path, "/../") == NULL);
			break;
		case RSP_ACT_WAIT:
			MUST(action->delay_ms > 0 && action->delay_ms <= 2 * INT64_C(86400000));
			MUST(action->phase == RSP_PHASE_UNKNOWN || action->phase == RSP_PHASE_PARKED ||
				 !c->op->unresolved);
			break;
		case RSP_ACT_PARK:
			MUST(action->code[0] != '\0' && !c->op->unresolved);
			break;
		case RSP_ACT_DONE:
			MUST(!c->op->unresolved);
			break;
		case RSP_ACT_FAIL:
			MUST(action->code[0] != '\0');
			MUST(!c->op->unresolved || strcmp(action->code, "OUTCOME_UNKNOWN") == 0);
			break;
		case RSP_ACT_NONE:
			MUST(!"no action");
	}
	MUST(!action->cancelled || (action->type == RSP_ACT_FAIL && !c->op->unresolved));
	MUST(c->nreports <= RSP_MAX_REPORTS);
	MUST(json_is_object(c->op->memo));
	MUST(c->op->attempts >= 0);
	fuzz->sound(c);
}

/* What a worker says of candidates: it knows none of them, or all. */
static void
tell(RspConversation *c, Input *input)
{
	unsigned	how = c->candidates != NULL ? next_byte(input) % 4 : 3;

	if (how != 3)
		json_object_set_new(c->op->memo, "unknown",
							how == 0 ? json_array() : json_copy(c->candidates));
}

/* The row of the queue keeps the memo as text. */
static void
keep_memo(RspOperation *op)
{
	char	   *text = rsp_json_text(op->memo);
	json_t	   *again;

	if (text == NULL)
	{
		MUST(json_object_size(op->memo) == 0);
		return;
	}
	again = rsp_json(text, strlen(text), NULL);
	MUST(json_equal(again, op->memo));
	json_decref(op->memo);
	op->memo = again;
	free(text);
}

/* An answer out of the input; its body is to be freed. */
static char *
next_answer(const DriverFuzz *fuzz, const RspConversation *c, unsigned how, Input *input,
			HttpAnswer *answer)
{
	Input		rest;
	size_t		length;
	char	   *body;

	memset(answer, 0, sizeof(*answer));
	answer->outcome = how % 8 > 3 ? HTTP_ANSWERED : (HttpOutcome) (how % 4);
	answer->auth_failed = answer->outcome == HTTP_NOT_SENT && (how & 16);
	answer->tls_failed = answer->outcome == HTTP_NOT_SENT && (how & 32);
	answer->tls_reason = answer->tls_failed ? "the TLS handshake failed" : NULL;
	answer->retry_after_ms = how & 64 ? (long) (how % 7) * 1000000000L : -1;
	answer->status = (int) (next_byte(input) << 8);
	answer->status |= (int) next_byte(input);
	length = next_byte(input) << 8;
	length |= next_byte(input);
	if (length > input->left)
		length = input->left;
	rest.at = input->at;
	rest.left = length;
	input->at += length;
	input->left -= length;

	if (length > 0 && rest.at[0] != '\0' && strchr(fuzz->marks, rest.at[0]) != NULL)
	{
		char		mark = (char) next_byte(&rest);

		answer->status = how & 128 ? 200 : 202;
		body = fuzz->sensible(c, rest.left > 0 ? rest.at[0] : how, mark, &rest, answer);
		length = strlen(body);
	}
	else
	{
		body = malloc(length + 1);
		MUST(body != NULL);
		memcpy(body, rest.at, length);
		body[length] = '\0';
		answer->location = how & 128 ? body : NULL;
	}
	answer->body = body;
	answer->length = length;
	return body;
}

void
fuzz_run(const DriverFuzz *fuzz, RspServer *server, RspOperation *op, Input *input)
{
	RspConversation c;
	int			steps;

	memset(&c, 0, sizeof(c));
	c.server = server;
	c.op = op;
	fuzz->driver->begin(&c);
	for (steps = 0; steps < fuzz->steps; steps++)
	{
		RspActionType type = c.action.type;
		HttpAnswer	answer;
		unsigned	how;
		char	   *body;

		must_be_sound(fuzz, &c);
		if (type == RSP_ACT_DONE || type == RSP_ACT_FAIL || input->left == 0)
			break;
		if (type == RSP_ACT_WAIT || type == RSP_ACT_PARK)
		{
			op->now_ms += c.action.delay_ms;
			tell(&c, input);
			keep_memo(op);
			rsp_conversation_free(&c);
			fuzz->driver->begin(&c);
			continue;
		}
		if (type == RSP_ACT_SEND)
		{
			c.nreports = 0;
			c.reports_whole = false;
			op->now_ms += 3;
			op->unresolved = true;
			op->attempts++;
			op->last_sent_ms = op->now_ms;
			if (op->first_sent_ms == 0)
				op->first_sent_ms = op->now_ms;
		}

		how = next_byte(input);
		if (how == CRASH && type == RSP_ACT_SEND)
		{
			/* another worker goes on from the intent */
			memset(&answer, 0, sizeof(answer));
			answer.outcome = HTTP_LOST;
			if (fuzz->answering != NULL)
				fuzz->answering(&c, &answer);
			keep_memo(op);
			rsp_conversation_free(&c);
			fuzz->driver->begin(&c);
			continue;
		}
		body = next_answer(fuzz, &c, how, input, &answer);
		if (answer.outcome == HTTP_NOT_SENT && type == RSP_ACT_SEND)
		{
			op->unresolved = false;
			op->attempts--;
		}
		if (fuzz->answering != NULL)
			fuzz->answering(&c, &answer);
		rsp_conversation_reset(&c);
		fuzz->driver->answer(&c, &answer);
		free(body);
	}

	rsp_conversation_free(&c);
	json_decref(op->memo);
	json_decref(op->options);
	json_decref(op->settings);
}
