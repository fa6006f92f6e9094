/*
 * fuzz_eim.c
 *		Fuzzer of the eIM driver: arbitrary answers through begin and answer.
 *
 * The first bytes choose kind, flags and state; see driver_fuzz.h.
 */
#include "driver_fuzz.h"

#define EID "89049032000000000000000000000001"
#define ICCID "8944478600003770170"
#define CARD "984474680000730771F0"
#define ID "550e8400-e29b-41d4-a716-%012u"

static char resource[1024];		/* of the last order */
static char location[80];
static unsigned number;

static void
sound(const RspConversation *c)
{
	const RspAction *action = &c->action;
	json_t	   *body;

	if (action->type != RSP_ACT_ASK && action->type != RSP_ACT_SEND)
		return;
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
		snprintf(resource, sizeof(resource), "%s", action->body);
	}
}

/*
 * '?': the rest is the outcome of the order that is open.
 */
static char *
sensible(const RspConversation *c, unsigned how, char mark, const Input *rest, HttpAnswer *answer)
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
	size_t		size = strlen(resource) + rest->left + 1024;
	char	   *text = malloc(size);

	MUST(text != NULL);
	answer->outcome = HTTP_ANSWERED;
	answer->status = c->action.type == RSP_ACT_SEND ? 303 : 200;
	snprintf(location, sizeof(location), "/psmo/lookup/" ID, ++number % 97);
	answer->location = location;
	if (strstr(c->action.path, "/list") != NULL)
		snprintf(text, size, "{\"resourceIdList\":[\"" ID "\",\"" ID "\"]}", how % 4, how % 7);
	else if (strstr(c->action.path, "/delete/") != NULL)
		snprintf(text, size, "{\"status\":\"%s\"}", how % 2 ? "deleted" : "absent");
	else if (mark == '?')
		snprintf(text, size, "{\"status\":\"done\",\"resource\":%s,\"outcome\":%.*s}", resource,
				 (int) rest->left, (const char *) rest->at);
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
	static const DriverFuzz fuzz = {&rsp_eim, 96, "!?", sound, sensible, NULL};
	static const RspKind kinds[] = {RSP_DOWNLOAD, RSP_ENABLE, RSP_DISABLE, RSP_DELETE,
	RSP_SET_FALLBACK, RSP_REFRESH, RSP_UNSET_FALLBACK, RSP_RESERVE};
	Input		input = {data, size};
	RspServer	server;
	RspOperation op;
	unsigned	kind = next_byte(&input);
	unsigned	flags = next_byte(&input);

	fuzz_setup(&fuzz, &server, &op);
	server.url = "http://127.0.0.1:8080";
	server.unknown_hold_ms = flags & 1 ? 0 : 3600000;
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
	op.cancel_asked = (flags & 128) != 0;
	op.state = (RspState) (next_byte(&input) % RSP_STATE_COUNT);
	strcpy(resource, "{}");
	number = 0;
	fuzz_run(&fuzz, &server, &op, &input);
	return 0;
}
