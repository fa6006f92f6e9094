/*
 * fuzz_es2plus.c
 *		Fuzzer of the ES2+ driver: arbitrary answers through begin and answer,
 *		and arbitrary notifications.
 *
 * With libFuzzer:
 *	clang -g -fsanitize=fuzzer,address,undefined -I src -I src/rsp \
 *		test/fuzz/fuzz_es2plus.c src/rsp/?*.c src/identifier/{activation_code,iccid,eid}.c \
 *		-ljansson
 * As a program over files (or standard input): the same with cc -DFUZZ_MAIN.
 *
 * The first bytes choose kind, state and flags.  Then come answers: one byte
 * for the outcome, two for the status, two for the length of the body, the
 * body.  A body that begins with '!' is replaced by one that makes sense.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "rsp.h"
#include "es2plus_event.h"

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
#define ICCID "8944478600003770170"

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

static bool
all_digits(const char *text, size_t min, size_t max)
{
	size_t		n = strspn(text, "0123456789");

	return text[n] == '\0' && n >= min && n <= max;
}

/* What must hold of every action, whatever was answered.  orders: how many were
 * sent for an ICCID that the SM-DP+ chooses, and may have been carried out. */
static void
must_be_sound(const RspConversation *c, int orders)
{
	const RspAction *action = &c->action;
	const json_t *header;
	json_t	   *body;

	switch (action->type)
	{
		case RSP_ACT_SEND:
			MUST(strcmp(action->method, "POST") == 0);
			MUST(strncmp(action->path, "/gsma/rsp2/es2plus/", 19) == 0);
			MUST(action->nheaders == 1 && action->body != NULL && action->call_id[0] != '\0');
			body = json_loads(action->body, 0, NULL);
			header = json_object_get(body, "header");
			MUST(json_is_string(json_object_get(header, "functionCallIdentifier")));
			MUST(json_is_string(json_object_get(header, "functionRequesterIdentifier")));
			if (strstr(action->path, "downloadOrder") != NULL)
				MUST(json_object_get(body, "iccid") != NULL || orders == 0);
			else
				MUST(json_is_string(json_object_get(body, "iccid")));
			json_decref(body);
			break;
		case RSP_ACT_WAIT:
			MUST(action->delay_ms > 0 && action->delay_ms <= 2 * INT64_C(86400000));
			MUST(action->phase == RSP_PHASE_UNKNOWN || action->phase == RSP_PHASE_PARKED ||
				 !c->op->unresolved);
			break;
		case RSP_ACT_PARK:
			MUST(action->code[0] != '\0');
			break;
		case RSP_ACT_DONE:
			MUST(!c->op->unresolved && action->profile_state_set);
			break;
		case RSP_ACT_FAIL:
			MUST(action->code[0] != '\0');
			break;
		case RSP_ACT_ASK:
		case RSP_ACT_NONE:
			MUST(!"no action of this driver");
	}
	MUST(action->iccid[0] == '\0' || all_digits(action->iccid, 18, 20));
	MUST(strpbrk(c->facts.activation_code, " \n\t") == NULL);
	MUST(c->nreports == 0);
}

/* A body that makes sense for the request that is under way. */
static char *
sensible(const RspConversation *c, unsigned how)
{
	static const char *const codes[][2] = {
		{"8.2.1", "3.3"}, {"8.2.1", "3.5"}, {"8.2.6", "3.3"}, {"8.2.6", "2.2"}, {"8.1.1", "3.1"},
		{"8.2.1", "3.9"}, {"8.9", "5.1"}, {"8.2.5", "3.7"}, {"8", "4.2"}, {"1.1", "3.9"},
		{"8.8", "4.10"}, {"8.2.1", "1.2"}
	};
	char	   *text = malloc(512);

	MUST(text != NULL);
	if (how % 2)
		snprintf(text, 512, "{\"header\":{\"functionExecutionStatus\":{\"status\":\"Failed\","
				 "\"statusCodeData\":{\"subjectCode\":\"%s\",\"reasonCode\":\"%s\"}}}}",
				 codes[how / 2 % 12][0], codes[how / 2 % 12][1]);
	else
		snprintf(text, 512, "{\"header\":{\"functionExecutionStatus\":{\"status\":\"%s\"}}%s%s}",
				 how & 4 ? "Executed-WithWarning" : how & 8 ? "Expired" : "Executed-Success",
				 strstr(c->action.path, "downloadOrder") ? ",\"iccid\":\"" ICCID "F\"" : "",
				 strstr(c->action.path, "confirmOrder") && how & 16 ? ",\"matchingId\":\"X\"" : "");
	return text;
}

static void
fuzz_notification(const uint8_t *data, size_t size)
{
	Es2plusProgress progress;
	Es2plusMeaning meaning;
	const char *reason;

	if (es2plus_progress((const char *) data, size, &progress, &reason))
	{
		MUST(all_digits(progress.iccid, 18, 20));
		MUST(progress.eid[0] == '\0' || all_digits(progress.eid, 32, 32));
		MUST(progress.point >= 0 && progress.at_ms >= 0);
		MUST(progress.execution.status != ES2PLUS_NOT_SAID);
		es2plus_meaning(&progress, &meaning);
		MUST(!meaning.ends || meaning.state != NULL);
	}
	else
		MUST(reason[0] != '\0');
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const RspKind kinds[] = {RSP_RESERVE, RSP_RELEASE, RSP_CANCEL_ORDER, RSP_DOWNLOAD,
	RSP_RESERVE, RSP_ENABLE};
	Input		input;
	RspServer	server;
	RspOperation op;
	RspConversation c;
	unsigned	flags;
	unsigned	kind;
	int			orders = 0;
	int			steps;

	fuzz_notification(data, size);
	input.at = data;
	input.left = size;
	kind = next_byte(&input);
	flags = next_byte(&input);

	memset(&server, 0, sizeof(server));
	memset(&op, 0, sizeof(op));
	memset(&c, 0, sizeof(c));
	server.name = "fuzz";
	server.protocol = RSP_PROTOCOL_ES2PLUS;
	server.url = "https://smdp.example.com";
	server.requester_id = "1.2.3";
	server.smdp_address = flags & 1 ? "smdp.example.com" : NULL;
	server.matching_id_source = flags & 2 ? "server" : "client";
	server.timeout_ms = 30000;
	server.unknown_hold_ms = 3600000;
	strcpy(op.id, "01890a5d-ac96-774b-bcce-b302099a8057");
	op.kind = kinds[kind % 6];
	op.eid = flags & 4 || op.kind == RSP_DOWNLOAD ? EID : NULL;
	op.iccid = flags & 8 ? NULL : ICCID;
	op.release = (flags & 16) != 0;
	op.ask_first = (flags & 32) != 0;
	op.unresolved = (flags & 64) != 0;
	op.reserved_eid = flags & 128 ? EID : NULL;
	if (op.unresolved)
		op.first_sent_ms = op.last_sent_ms = 1;
	op.state = (RspState) (next_byte(&input) % RSP_STATE_COUNT);
	op.options = json_object();
	op.memo = json_object();
	op.now_ms = INT64_C(1760000000000);
	c.server = &server;
	c.op = &op;
	if (op.unresolved && op.iccid == NULL)
		orders = 1;

	rsp_es2plus.begin(&c);
	for (steps = 0; steps < 64; steps++)
	{
		HttpAnswer	answer;
		unsigned	how;
		size_t		length;
		char	   *body;
		bool		chosen;

		must_be_sound(&c, orders);
		if (c.action.type == RSP_ACT_DONE || c.action.type == RSP_ACT_FAIL || input.left == 0)
			break;
		if (c.action.type == RSP_ACT_WAIT || c.action.type == RSP_ACT_PARK)
		{
			op.now_ms += c.action.delay_ms;
			rsp_conversation_reset(&c);
			rsp_es2plus.begin(&c);
			continue;
		}
		op.now_ms += 3;
		op.unresolved = true;
		op.attempts++;
		op.last_sent_ms = op.now_ms;
		if (op.first_sent_ms == 0)
			op.first_sent_ms = op.now_ms;
		chosen = strstr(c.action.path, "downloadOrder") != NULL &&
			strstr(c.action.body, "\"iccid\"") == NULL;

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
			body = sensible(&c, length > 1 ? input.at[1] : how);
			answer.status = 200;
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
		if (answer.outcome == HTTP_NOT_SENT)
		{
			op.unresolved = false;
			op.attempts--;
		}
		else if (chosen &&
				 (answer.outcome == HTTP_LOST || (answer.status >= 200 && answer.status < 300 &&
												  answer.outcome == HTTP_BAD_ANSWER) ||
				  (answer.status == 500 && answer.length == 0)))
			orders++;
		input.at += length;
		input.left -= length;
		answer.body = body;
		rsp_conversation_reset(&c);
		rsp_es2plus.answer(&c, &answer);
		free(body);
	}

	rsp_conversation_free(&c);
	json_decref(op.memo);
	json_decref(op.options);
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
