/*
 * fuzz_eim.c
 *		Fuzzer of the eIM driver: arbitrary answers through begin and answer.
 *
 * With libFuzzer:
 *	clang -g -fsanitize=fuzzer,address,undefined -I src -I src/rsp \
 *		test/fuzz/fuzz_eim.c src/rsp/?*.c \
 *		src/identifier/{activation_code,eid,iccid}.c -ljansson
 * As a program over files (or standard input), for instance under valgrind:
 *	cc -g -DFUZZ_MAIN, and the rest as above without -fsanitize.
 *
 * The first bytes choose kind, state and flags.  Then come answers: one byte
 * for the outcome, two for the status, two for the length of the body, the
 * body.  A body that begins with '!' is replaced by one that makes sense, and
 * one that begins with '?' becomes the outcome of the order that is open, so
 * that the later steps are reached as well.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "rsp.h"
#include "json.h"

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
#define CARD "984474680000730771F0"
#define ID "550e8400-e29b-41d4-a716-%012u"

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
	json_t	   *body;

	switch (action->type)
	{
		case RSP_ACT_ASK:
		case RSP_ACT_SEND:
			MUST(action->method != NULL && action->path != NULL && action->path[0] == '/');
			MUST(strspn(action->path, "ABCDEFabcdefghijklmnopqrstuvwxyz0123456789-/") ==
				 strlen(action->path));
			MUST(strlen(action->path) < 70);
			MUST((action->body != NULL) == (action->type == RSP_ACT_SEND));
			if (action->body != NULL)
			{
				MUST(strpbrk(action->body, "=&+%") == NULL);
				MUST(strncmp(action->body, "{\"eidValue\":\"", 13) == 0);
				body = json_loads(action->body, 0, NULL);
				MUST(json_is_object(body) && json_object_size(body) == 2);
				json_decref(body);
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
	MUST(c->nreports <= RSP_MAX_REPORTS);
	MUST(json_is_object(c->op->memo));
}

/* A body that makes sense for the request that is under way. */
static char *
sensible(const RspConversation *c, unsigned how, const char *resource, const char *outcome,
		 size_t length)
{
	static const char *const outcomes[] = {
		"[{\"enableResult\":\"ok\"}]", "[{\"disableResult\":\"ok\"},{\"deleteResult\":\"ok\"}]",
		"[{\"deleteResult\":2}]", "[{\"enableResult\":\"ok\"},{\"rollbackResult\":\"ok\"}]",
		"[{\"procedureError\":\"noshowOrder\"}]", "[{\"procedureError\":\"stuckOrder\"}]",
		"[{\"listProfileInfoResult\":{\"finalResult\":\"successResult\",\"profileInfoList\":"
		"[{\"iccid\":\"" CARD "\",\"profileState\":\"enabled\"}]}}]",
		"[{\"listProfileInfoResult\":{\"finalResult\":\"successResult\",\"profileInfoList\":[]}}]",
		"[{\"profileInstallationResult\":{\"finalResult\":\"successResult\",\"iccid\":\"" CARD "\"}}]",
		"[{\"enableResult\":\"rollbackNotAvailable\"}]", "[{\"disableResult\":\"profileNotInEnabledState\"}]"
	};
	size_t		size = strlen(resource) + length + 1024;
	char	   *text = malloc(size);

	MUST(text != NULL);
	if (strstr(c->action.path, "/list") != NULL)
		snprintf(text, size, "{\"resourceIdList\":[\"" ID "\",\"" ID "\"]}", how % 4, how % 7);
	else if (strstr(c->action.path, "/delete/") != NULL)
		snprintf(text, size, "{\"status\":\"%s\"}", how % 2 ? "deleted" : "absent");
	else if (outcome != NULL)
		snprintf(text, size, "{\"status\":\"done\",\"resource\":%s,\"outcome\":%.*s}", resource,
				 (int) length, outcome);
	else if (how % 5 == 0)
		snprintf(text, size, "{\"status\":\"%s\",\"timestamp\":\"1760000000\",\"resource\":%s,\"outcome\":[]}",
				 how % 2 ? "new" : "work", resource);
	else
		snprintf(text, size, "{\"status\":\"done\",\"timestamp\":\"1760001800\",\"resource\":%s,\"outcome\":%s}",
				 resource, outcomes[how % (sizeof(outcomes) / sizeof(outcomes[0]))]);
	return text;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const RspKind kinds[] = {RSP_DOWNLOAD, RSP_ENABLE, RSP_DISABLE, RSP_DELETE,
	RSP_SET_FALLBACK, RSP_REFRESH, RSP_UNSET_FALLBACK, RSP_RESERVE};
	Input		input;
	RspServer	server;
	RspOperation op;
	RspConversation c;
	char		resource[1024] = "{}";
	char		location[80];
	unsigned	number = 0;
	unsigned	flags;
	unsigned	kind;
	int			steps;

	input.at = data;
	input.left = size;
	kind = next_byte(&input);
	flags = next_byte(&input);

	memset(&server, 0, sizeof(server));
	memset(&op, 0, sizeof(op));
	memset(&c, 0, sizeof(c));
	server.name = "fuzz";
	server.protocol = RSP_PROTOCOL_EIM;
	server.url = "http://127.0.0.1:8080";
	server.timeout_ms = 30000;
	server.unknown_hold_ms = flags & 1 ? 0 : 3600000;
	strcpy(op.id, "01890a5d-ac96-774b-bcce-b302099a8057");
	op.kind = kinds[kind % 8];
	op.eid = EID;
	op.iccid = flags & 2 ? NULL : ICCID;
	op.activation_code = "1$SM-DP+.EXAMPLE.COM$X";
	op.activate_on_download = (flags & 4) != 0;
	op.rollback = (flags & 8) != 0;
	op.ask_first = (flags & 16) != 0;
	op.unresolved = (flags & 32) != 0;
	if (flags & 64)
		strcpy(op.rsp_operation_id, "550e8400-e29b-41d4-a716-000000000001");
	op.state = (RspState) (next_byte(&input) % RSP_STATE_COUNT);
	op.options = json_object();
	op.memo = json_object();
	op.now_ms = INT64_C(1760000000000);
	c.server = &server;
	c.op = &op;

	rsp_eim.begin(&c);
	for (steps = 0; steps < 96; steps++)
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
			rsp_conversation_reset(&c);
			rsp_eim.begin(&c);
			continue;
		}
		if (c.action.type == RSP_ACT_SEND)
		{
			op.unresolved = true;
			op.attempts++;
			op.last_sent_ms = op.now_ms;
			if (op.first_sent_ms == 0)
				op.first_sent_ms = op.now_ms;
			snprintf(resource, sizeof(resource), "%s", c.action.body);
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
		if (length > 0 && (input.at[0] == '!' || input.at[0] == '?'))
		{
			bool		own = next_byte(&input) == '?';

			length--;
			if (own)
				body = sensible(&c, how, resource, (const char *) input.at, length);
			else
				body = sensible(&c, length > 0 ? input.at[0] : how, resource, NULL, 0);
			answer.outcome = HTTP_ANSWERED;
			answer.status = c.action.type == RSP_ACT_SEND ? 303 : 200;
			answer.length = strlen(body);
			snprintf(location, sizeof(location), "/psmo/lookup/" ID, ++number % 97);
			answer.location = location;
		}
		else
		{
			body = malloc(length + 1);
			MUST(body != NULL);
			if (length > 0)
				memcpy(body, input.at, length);
			body[length] = '\0';
			answer.length = length;
			answer.location = how & 128 ? body : NULL;
		}
		input.at += length;
		input.left -= length;
		answer.body = body;
		if (c.action.type == RSP_ACT_SEND && answer.outcome == HTTP_NOT_SENT)
			op.unresolved = false;
		rsp_conversation_reset(&c);
		rsp_eim.answer(&c, &answer);
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
