/*
 * fuzz_twilio.c
 *		Fuzzer of the Super SIM driver and of its callbacks: arbitrary answers
 *		through begin and answer.
 *
 * With libFuzzer:
 *	clang -g -fsanitize=fuzzer,address,undefined -I src -I src/rsp \
 *		test/fuzz/fuzz_twilio.c src/rsp/{twilio,twilio_event,rsp,...}.c \
 *		src/identifier/{activation_code,eid,iccid}.c -ljansson
 * As a program over files (or standard input), for instance under valgrind:
 *	cc -g -DFUZZ_MAIN -I src -I src/rsp test/fuzz/fuzz_twilio.c src/rsp/{twilio,twilio_event,rsp,...}.c \
 *		src/identifier/{activation_code,eid,iccid}.c -ljansson
 *
 * The first bytes choose kind, state and flags.  Then come answers: one byte
 * for the outcome, two for the status, two for the length of the body, the
 * body.  A body that begins with '!' is replaced by one that makes sense, so
 * that the later steps are reached as well.  The whole input is read as a
 * callback, too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "rsp.h"
#include "twilio_event.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* assert() that NDEBUG does not take away */
#define MUST(condition) \
	do { \
		if (!(condition)) \
		{ \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

#define EID "89049032000000000000000000000001"
#define ICCID "89883070000007537119"
#define HP "HP00000000000000000000000000000001"
#define HS "HS00000000000000000000000000000001"
#define HF "HF00000000000000000000000000000001"
#define T0 INT64_C(1760000000000)

typedef struct Input
{
	const uint8_t *at;
	size_t		left;
} Input;

static unsigned
next_byte(Input *input)
{
	if (input->left == 0)
		return 0;
	input->left--;
	return *input->at++;
}

/* What must hold of every action, whatever was answered. */
static void
must_be_sound(const RspConversation *c)
{
	const RspAction *action = &c->action;

	switch (action->type)
	{
		case RSP_ACT_ASK:
			MUST(strcmp(action->method, "GET") == 0 && action->body == NULL);
			/* fall through */
		case RSP_ACT_SEND:
			MUST(action->method != NULL && action->path != NULL);
			MUST(strncmp(action->path, "/v1/", 4) == 0);
			MUST(strpbrk(action->path, " \t\r\n#\\") == NULL);
			if (action->type == RSP_ACT_SEND)
			{
				MUST(strcmp(action->method, "POST") == 0 && action->body != NULL);
				MUST(strcmp(action->content_type, "application/x-www-form-urlencoded") == 0);
				MUST(strspn(action->body, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
							"0123456789-._~%=&") == strlen(action->body));
			}
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
	MUST(c->nreports <= RSP_MAX_REPORTS && !c->reports_whole);
}

/* A body that makes sense for the request that is under way. */
static char *
sensible(const RspConversation *c, unsigned how)
{
	static const char *const profile_states[] = {"new", "reserving", "available", "downloaded",
	"installed", "failed", "available", "nonsense"};
	static const char *const sim_states[] = {"new", "scheduled", "active", "inactive"};
	const RspAction *action = &c->action;
	bool		list = strchr(action->path, '?') != NULL;
	const char *key = action->path[4] == 'E' ? "esim_profiles" : action->path[4] == 'S' ? "sims" :
		"fleets";
	char	   *one = malloc(1024);
	char	   *text = malloc(2048);

	MUST(one != NULL && text != NULL);
	if (action->path[4] == 'E')
		snprintf(one, 1024,
				 "{\"sid\":\"" HP "\",\"status\":\"%s\",\"eid\":\"" EID "\",\"iccid\":\"" ICCID
				 "\",\"sim_sid\":\"" HS "\",\"smdp_plus_address\":\"a.example.com\","
				 "\"matching_id\":\"A-B\",\"activation_code\":\"1$a.example.com$A-B\","
				 "\"date_created\":\"2025-10-0%uT08:53:20Z\"}",
				 profile_states[how % 8], 8 + how % 2);
	else if (action->path[4] == 'S')
		snprintf(one, 1024,
				 "{\"sid\":\"" HS "\",\"status\":\"%s\",\"iccid\":\"" ICCID "\",\"fleet_sid\":%s}",
				 sim_states[how % 4], how & 16 ? "\"" HF "\"" : "null");
	else
		snprintf(one, 1024, "{\"sid\":\"" HF "\",\"unique_name\":\"%s\"}",
				 how & 8 ? "Meters" : "Others");
	if (list)
		snprintf(text, 2048, "{\"%s\":[%s],\"meta\":{\"next_page_url\":%s%.300s%s}}", key,
				 how & 32 ? "" : one, how & 4 ? "\"https://rsp.example.com" : "null",
				 how & 4 ? action->path : "", how & 4 ? "&Page=1\"" : "");
	else
		snprintf(text, 2048, "%s", one);
	free(one);
	return text;
}

/* What a worker says of candidates: it knows none of them, or all. */
static void
tell(RspConversation *c, unsigned how)
{
	if (c->candidates == NULL || how % 4 == 3)
		return;
	json_object_set_new(c->op->memo, "unknown",
						how % 4 == 0 ? json_array() : json_copy(c->candidates));
	json_decref(c->candidates);
	c->candidates = NULL;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const RspKind kinds[] = {RSP_RESERVE, RSP_RESERVE, RSP_DOWNLOAD, RSP_SET_SUBSCRIPTION,
	RSP_ASSIGN_FLEET, RSP_FLEET_CREATE, RSP_REFRESH, RSP_SYNC};
	TwilioCallback callback;
	Input		input;
	RspServer	server;
	RspOperation op;
	RspConversation c;
	unsigned	flags;
	unsigned	kind;
	int			steps;

	memset(&callback, 0, sizeof(callback));
	(void) twilio_callback((const char *) data, size, &callback, NULL);

	input.at = data;
	input.left = size;
	kind = next_byte(&input);
	flags = next_byte(&input);

	memset(&server, 0, sizeof(server));
	memset(&op, 0, sizeof(op));
	memset(&c, 0, sizeof(c));
	server.name = "fuzz";
	server.protocol = RSP_PROTOCOL_TWILIO;
	server.url = "https://rsp.example.com";
	server.event_url = kind & 8 ? "https://events.example.com/x" : NULL;
	server.timeout_ms = 30000;
	server.unknown_hold_ms = flags & 2 ? 0 : 3600000;
	strcpy(op.id, "01890a5d-ac96-774b-bcce-b302099a8057");
	op.kind = kinds[kind % 8];
	op.generate_matching_id = kind % 8 == 1;
	op.eid = op.generate_matching_id ? NULL : EID;
	op.iccid = flags & 8 || op.kind == RSP_RESERVE ? NULL : ICCID;
	op.rsp_id = flags & 1 ? HP : NULL;
	op.sim_id = flags & 4 ? HS : NULL;
	op.subscription = "ACTIVE";
	op.subscription_now = flags & 16 ? "SCHEDULED" : NULL;
	op.fleet = "Meters";
	op.fleet_rsp_id = flags & 128 ? HF : NULL;
	op.release = true;
	op.ask_first = (flags & 32) != 0;
	op.unresolved = (flags & 64) != 0;
	op.state = (RspState) (next_byte(&input) % RSP_STATE_COUNT);
	op.settings = json_pack("{s:s}", "NetworkAccessProfile", "x");
	op.options = json_object();
	op.memo = json_object();
	op.now_ms = T0;
	c.server = &server;
	c.op = &op;

	rsp_twilio.begin(&c);
	for (steps = 0; steps < 64; steps++)
	{
		HttpAnswer	answer;
		unsigned	how;
		size_t		length;
		char	   *body;

		must_be_sound(&c);
		if (c.action.type == RSP_ACT_DONE || c.action.type == RSP_ACT_FAIL || input.left == 0)
			break;
		if (c.action.type == RSP_ACT_WAIT || c.action.type == RSP_ACT_PARK)
		{
			op.now_ms += c.action.delay_ms;
			tell(&c, next_byte(&input));
			rsp_conversation_reset(&c);
			memset(&c.facts, 0, sizeof(c.facts));
			c.nreports = 0;
			rsp_twilio.begin(&c);
			continue;
		}
		if (c.action.type == RSP_ACT_SEND)
		{
			op.unresolved = true;
			op.attempts++;
			op.last_sent_ms = op.now_ms;
			if (op.first_sent_ms == 0)
				op.first_sent_ms = op.now_ms;
		}

		memset(&answer, 0, sizeof(answer));
		how = next_byte(&input);
		answer.outcome = how % 8 > 3 ? HTTP_ANSWERED : (HttpOutcome) (how % 4);
		answer.auth_failed = answer.outcome == HTTP_NOT_SENT && (how & 16);
		answer.tls_failed = answer.outcome == HTTP_NOT_SENT && (how & 32);
		answer.tls_reason = answer.tls_failed ? "the TLS handshake failed" : NULL;
		answer.retry_after_ms = how & 64 ? (long) (how % 7) * 1000000000L : -1;
		answer.status = (int) (next_byte(&input) << 8);
		answer.status |= (int) next_byte(&input);
		length = next_byte(&input) << 8;
		length |= next_byte(&input);
		if (length > input.left)
			length = input.left;
		if (length > 0 && input.at[0] == '!')
		{
			body = sensible(&c, how);
			answer.status = how & 128 ? 200 : 202;
			answer.length = strlen(body);
		}
		else
		{
			body = malloc(length + 1);
			MUST(body != NULL);
			if (length > 0)
				memcpy(body, input.at, length);
			body[length] = '\0';
			answer.length = length;
		}
		input.at += length;
		input.left -= length;
		answer.body = body;
		rsp_conversation_reset(&c);
		rsp_twilio.answer(&c, &answer);
		free(body);
	}

	rsp_conversation_free(&c);
	json_decref(op.memo);
	json_decref(op.options);
	json_decref(op.settings);
	return 0;
}

#ifdef FUZZ_MAIN
static void
run_stream(FILE *file)
{
	size_t		size = 0;
	size_t		room = 65536;
	uint8_t    *data = malloc(room);
	size_t		n;

	MUST(data != NULL);
	while ((n = fread(data + size, 1, room - size, file)) > 0)
	{
		size += n;
		if (size == room)
		{
			room *= 2;
			data = realloc(data, room);
			MUST(data != NULL);
		}
	}
	LLVMFuzzerTestOneInput(data, size);
	free(data);
}

int
main(int argc, char **argv)
{
	int			i;

	if (argc < 2)
		run_stream(stdin);
	for (i = 1; i < argc; i++)
	{
		FILE	   *file = fopen(argv[i], "rb");

		if (file == NULL)
		{
			perror(argv[i]);
			return 1;
		}
		run_stream(file);
		fclose(file);
	}
	return 0;
}
#endif							/* FUZZ_MAIN */
