/*
 * worker.c
 *		A worker that is played to a driver; see worker.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker.h"

RspServer	server;
RspOperation op;
RspConversation conv;
int64_t		request_ms;
int			sends;
int			asks;
int			turns;
char		last_path[2048];
char		last_body[8192];

uint64_t	dice_seed;

const char *const action_names[] = {
	"NONE", "ASK", "SEND", "WAIT", "PARK", "DONE", "FAIL"
};

static const RspDriver *driver;
static const WorkerRows *rows;
static RspOperation saved;		/* the operation as committed */
static bool intent;				/* committed before a request that acts */

void
worker_free(void)
{
	rsp_conversation_free(&conv);
	json_decref(op.memo);
	json_decref(op.options);
	json_decref(op.settings);
	json_decref(saved.memo);
	memset(&op, 0, sizeof(op));
	memset(&saved, 0, sizeof(saved));
}

void
worker_reset(const RspDriver *driver_played, RspKind kind, const WorkerRows *rows_kept)
{
	worker_free();
	memset(&server, 0, sizeof(server));
	memset(&conv, 0, sizeof(conv));
	driver = driver_played;
	rows = rows_kept;
	server.name = "test";
	server.protocol = driver->protocol;
	server.timeout_ms = 30000;
	server.unknown_hold_ms = HOUR;
	strcpy(op.id, "01890a5d-ac96-774b-bcce-b302099a8057");
	op.kind = kind;
	op.options = json_object();
	op.memo = json_object();
	op.now_ms = T0;
	conv.server = &server;
	conv.op = &op;
	request_ms = 0;
	sends = asks = turns = 0;
	last_path[0] = last_body[0] = '\0';
}

void
save(void)
{
	json_t	   *memo = json_deep_copy(op.memo);

	json_decref(saved.memo);
	saved = op;
	saved.memo = memo;
	intent = false;
}

static void
take_up(bool sent)
{
	RspOperation lost = op;

	rsp_conversation_free(&conv);
	json_decref(op.memo);
	op = saved;
	op.memo = json_deep_copy(saved.memo);
	op.now_ms = lost.now_ms;
	if (intent && sent)
	{
		/* what reclaim makes of an intent without an outcome */
		op.unresolved = true;
		op.attempts++;
		op.last_sent_ms = lost.last_sent_ms;
		if (op.first_sent_ms == 0)
			op.first_sent_ms = lost.last_sent_ms;
	}
	if (rows != NULL && rows->claim != NULL)
		rows->claim();
}

void
crash(void)
{
	take_up(true);
}

void
crash_unsent(void)
{
	take_up(false);
}

/* what the worker does with the action that was set */
static void
carry_out(void)
{
	RspAction  *action = &conv.action;

	if (action->type == RSP_ACT_SEND || action->type == RSP_ACT_ASK)
	{
		snprintf(last_path, sizeof(last_path), "%s %s", action->method, action->path);
		snprintf(last_body, sizeof(last_body), "%s", action->body ? action->body : "");
	}
	if (action->type == RSP_ACT_SEND)
	{
		sends++;
		save();
		intent = true;
		/* what was reported before it will no longer be true */
		conv.nreports = 0;
		conv.reports_whole = false;
		op.now_ms += request_ms;
		op.unresolved = true;
		op.attempts++;
		op.last_sent_ms = op.now_ms;
		if (op.first_sent_ms == 0)
			op.first_sent_ms = op.now_ms;
	}
	else if (action->type == RSP_ACT_ASK)
		asks++;
	else
	{
		if (rows != NULL && rows->complete != NULL)
			rows->complete();
		save();
	}
}

void
begin(void)
{
	rsp_conversation_free(&conv);
	turns++;
	driver->begin(&conv);
	carry_out();
}

void
again(void)
{
	op.now_ms += conv.action.delay_ms;
	if (rows != NULL && rows->claim != NULL)
		rows->claim();
	begin();
}

void
answer_with(const HttpAnswer *members, const char *body, size_t length)
{
	HttpAnswer	answer = *members;
	char	   *text = malloc(length + 1);

	/* of its exact size: a step beyond its end shows */
	memcpy(text, body, length);
	text[length] = '\0';
	answer.body = text;
	answer.length = length;
	answer.content_type = (char *) "application/json";
	/* what was certainly not sent leaves no doubt behind */
	if (answer.outcome == HTTP_NOT_SENT && conv.action.type == RSP_ACT_SEND)
	{
		op.unresolved = false;
		op.attempts--;
	}
	rsp_conversation_reset(&conv);
	conv.outcome[0] = conv.detail[0] = '\0';
	driver->answer(&conv, &answer);
	free(text);
	carry_out();
}

void
answer_raw(HttpOutcome outcome, int status, const char *body, size_t length, long retry_after)
{
	HttpAnswer	answer;

	memset(&answer, 0, sizeof(answer));
	answer.outcome = outcome;
	answer.status = status;
	answer.retry_after_ms = retry_after;
	answer_with(&answer, body, length);
}

void
answer(int status, const char *body)
{
	answer_raw(HTTP_ANSWERED, status, body, strlen(body), -1);
}

void
answer_outcome(HttpOutcome outcome)
{
	answer_raw(outcome, 0, "", 0, -1);
}

bool
is(RspActionType type)
{
	if (conv.action.type == type)
		return true;
	printf("# action is %s, phase %s, code \"%s\", message \"%s\", path %s\n",
		   action_names[conv.action.type], rsp_phase_name(conv.action.phase), conv.action.code,
		   conv.action.message, last_path);
	return false;
}

bool
path_is(const char *expected)
{
	if (strcmp(last_path, expected) == 0)
		return true;
	printf("# path is %s\n", last_path);
	return false;
}

bool
body_is(const char *expected)
{
	if (strcmp(last_body, expected) == 0)
		return true;
	printf("# body is %s\n", last_body);
	return false;
}

bool
json_is(const char *expected)
{
	json_t	   *got = json_loads(last_body, 0, NULL);
	json_t	   *wanted = json_loads(expected, 0, NULL);
	bool		same = wanted != NULL && json_equal(got, wanted);

	if (!same)
		printf("# body is %s\n", last_body);
	json_decref(got);
	json_decref(wanted);
	return same;
}

bool
has_header(const char *name, const char *value)
{
	int			i;

	for (i = 0; i < conv.action.nheaders; i++)
	{
		if (strcmp(conv.action.headers[i].name, name) == 0)
			return strcmp(conv.action.headers[i].value, value) == 0;
	}
	return false;
}

bool
waits(RspPhase phase)
{
	if (is(RSP_ACT_WAIT) && conv.action.phase == phase)
		return true;
	printf("# phase is %s\n", rsp_phase_name(conv.action.phase));
	return false;
}

bool
fails(const char *code)
{
	if (is(RSP_ACT_FAIL) && strcmp(conv.action.code, code) == 0)
		return true;
	printf("# code is %s\n", conv.action.code);
	return false;
}

bool
state_is(RspState state)
{
	if (conv.action.profile_state_set && conv.action.state == state)
		return true;
	printf("# state is %s%s\n", conv.action.profile_state_set ? "" : "not set, ",
		   rsp_state_name(conv.action.state));
	return false;
}

bool
near(int64_t value, int64_t expected)
{
	if (value >= expected - expected / 5 && value <= expected + expected / 5)
		return true;
	printf("# is %lld, expected about %lld\n", (long long) value, (long long) expected);
	return false;
}

bool
defined(void)
{
	const RspAction *action = &conv.action;

	switch (action->type)
	{
		case RSP_ACT_ASK:
		case RSP_ACT_SEND:
			return action->path != NULL && action->path[0] == '/' && action->method != NULL &&
				strpbrk(action->path, " \r\n?#%") == NULL && strstr(action->path, "..") == NULL;
		case RSP_ACT_WAIT:
			return action->delay_ms > 0 && action->delay_ms <= 2 * 86400000L;
		case RSP_ACT_PARK:
		case RSP_ACT_FAIL:
			return action->code[0] != '\0';
		case RSP_ACT_DONE:
			return true;
		default:
			return false;
	}
}

unsigned
dice(unsigned sides)
{
	dice_seed = dice_seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned) (dice_seed >> 33) % sides;
}

bool
checked(const char *code)
{
	RspError	error;
	bool		good;

	memset(&error, 0, sizeof(error));
	good = driver->check(&server, &op, &error);
	if (code == NULL ? good : !good && strcmp(error.code, code) == 0 && error.message[0] != '\0')
		return true;
	printf("# %s: %s\n", good ? "good" : error.code, error.message);
	return false;
}
