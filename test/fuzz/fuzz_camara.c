/*
 * fuzz_camara.c
 *		Fuzzer of the CAMARA driver: arbitrary answers through begin and answer.
 *
 * The first bytes choose kind, dialect, flags and state; see driver_fuzz.h.
 */
#include "driver_fuzz.h"

#define EID "89049032000000000000000000000001"
#define ICCID "8944478600003770170"

static void
sound(const RspConversation *c)
{
	const RspAction *action = &c->action;
	json_t	   *body;

	if (action->type != RSP_ACT_ASK && action->type != RSP_ACT_SEND)
		return;
	MUST(strspn(action->path, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				"0123456789-_:./") == strlen(action->path));
	MUST(action->nheaders == 1);
	if (action->body != NULL)
	{
		body = json_loads(action->body, 0, NULL);
		MUST(json_is_object(body));
		json_decref(body);
	}
}

/* A body that makes sense for the request that is under way. */
static char *
sensible(const RspConversation *c, unsigned how, char mark, const Input *rest, HttpAnswer *answer)
{
	const RspAction *action = &c->action;
	const char *name = strrchr(action->path, '/') + 1;
	const char *who = c->server->dialect == RSP_DIALECT_2026_02 ? "esim" : "esimProfile";
	char	   *text = malloc(512);

	MUST(text != NULL);
	if (strcmp(name, "retrieve-status") == 0)
		snprintf(text, 512, how % 3 == 0 ? "{\"%ss\":[]}" :
				 how % 3 == 1 ?
				 "{\"%ss\":[{\"eid\":\"" EID "\",\"iccid\":\"" ICCID
				 "\",\"state\":\"ENABLED\",\"isFallback\":true}]}" :
				 "{\"%ss\":[{\"eid\":\"" EID "\",\"iccid\":\"" ICCID
				 "\",\"state\":\"DISABLED\",\"isFallback\":false}]}", who);
	else
		snprintf(text, 512,
				 "{\"operationId\":\"550e8400-e29b-41d4-a716-446655440000\",\"status\":\"%s\","
				 "\"%s\":{\"eid\":\"" EID "\"},\"result\":{\"outcome\":\"%s\"}}",
				 how % 2 ? "COMPLETED" : "ACCEPTED", who, how % 4 < 2 ? "SUCCESS" : "FAILED");
	return text;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const DriverFuzz fuzz = {&rsp_camara, 64, "!", sound, sensible, NULL};
	static const RspKind kinds[] = {RSP_DOWNLOAD, RSP_ENABLE, RSP_DISABLE, RSP_DELETE,
	RSP_SET_FALLBACK, RSP_REFRESH, RSP_DOWNLOAD, RSP_RESERVE};
	Input		input = {data, size};
	RspServer	server;
	RspOperation op;
	unsigned	kind = next_byte(&input);
	unsigned	flags = next_byte(&input);

	fuzz_setup(&fuzz, &server, &op);
	server.dialect = flags & 1 ? RSP_DIALECT_R1_2 : RSP_DIALECT_2026_02;
	server.url = "https://rsp.example.com";
	server.unknown_hold_ms = flags & 2 ? 0 : 3600000;
	op.kind = kinds[kind % 8];
	op.eid = flags & 4 && op.kind != RSP_REFRESH ? NULL : EID;
	op.iccid = flags & 8 ? NULL : ICCID;
	op.activation_code = "1$smdp.example.com$X";
	op.activate_on_download = (flags & 16) != 0;
	op.ask_first = (flags & 32) != 0;
	op.unresolved = (flags & 64) != 0;
	op.cancel_asked = (flags & 128) != 0;
	op.state = (RspState) (next_byte(&input) % RSP_STATE_COUNT);
	fuzz_run(&fuzz, &server, &op, &input);
	return 0;
}
