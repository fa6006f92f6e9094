/*
 * fuzz_es2plus.c
 *		Fuzzer of the ES2+ driver: arbitrary answers through begin and answer,
 *		and arbitrary notifications.
 *
 * The first bytes choose kind, flags and state; see driver_fuzz.h.  The whole
 * input is read as a notification, too.
 */
#include "driver_fuzz.h"
#include "es2plus_event.h"

#define EID "89049032000000000000000000000001"
#define ICCID "8944478600003770170"

/* how many orders were sent for an ICCID that the SM-DP+ chooses, and may have
 * been carried out */
static int	orders;

static bool
all_digits(const char *text, size_t min, size_t max)
{
	size_t		n = strspn(text, "0123456789");

	return text[n] == '\0' && n >= min && n <= max;
}

static void
sound(const RspConversation *c)
{
	const RspAction *action = &c->action;
	const json_t *header;
	json_t	   *body;

	MUST(action->type != RSP_ACT_ASK);
	if (action->type == RSP_ACT_SEND)
	{
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
	}
	MUST(action->type != RSP_ACT_DONE || action->profile_state_set);
	MUST(action->iccid[0] == '\0' || all_digits(action->iccid, 18, 20));
	MUST(strpbrk(c->facts.activation_code, " \n\t") == NULL);
	MUST(c->nreports == 0);
}

/* A body that makes sense for the request that is under way. */
static char *
sensible(const RspConversation *c, unsigned how, char mark, const Input *rest, HttpAnswer *answer)
{
	static const char *const codes[][2] = {
		{"8.2.1", "3.3"}, {"8.2.1", "3.5"}, {"8.2.6", "3.3"}, {"8.2.6", "2.2"}, {"8.1.1", "3.1"},
		{"8.2.1", "3.9"}, {"8.9", "5.1"}, {"8.2.5", "3.7"}, {"8", "4.2"}, {"1.1", "3.9"},
		{"8.8", "4.10"}, {"8.2.1", "1.2"}
	};
	char	   *text = malloc(512);

	MUST(text != NULL);
	answer->status = 200;
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

/* Was an order carried out that nobody can find again? */
static void
answering(const RspConversation *c, const HttpAnswer *answer)
{
	if (strstr(c->action.path, "downloadOrder") == NULL ||
		strstr(c->action.body, "\"iccid\"") != NULL)
		return;
	if (answer->outcome == HTTP_LOST ||
		(answer->outcome == HTTP_BAD_ANSWER && answer->status >= 200 && answer->status < 300) ||
		(answer->outcome == HTTP_ANSWERED && answer->status == 500 && answer->length == 0))
		orders++;
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
	static const DriverFuzz fuzz = {&rsp_es2plus, 64, "!", sound, sensible, answering};
	static const RspKind kinds[] = {RSP_RESERVE, RSP_RELEASE, RSP_CANCEL_ORDER, RSP_DOWNLOAD,
	RSP_RESERVE, RSP_ENABLE};
	Input		input = {data, size};
	RspServer	server;
	RspOperation op;
	unsigned	kind = next_byte(&input);
	unsigned	flags = next_byte(&input);

	fuzz_notification(data, size);
	fuzz_setup(&fuzz, &server, &op);
	server.url = "https://smdp.example.com";
	server.requester_id = "1.2.3";
	server.smdp_address = flags & 1 ? "smdp.example.com" : NULL;
	server.matching_id_source = flags & 2 ? "server" : "client";
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
	orders = op.unresolved && op.iccid == NULL;
	fuzz_run(&fuzz, &server, &op, &input);
	return 0;
}
