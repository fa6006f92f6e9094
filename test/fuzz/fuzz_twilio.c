/*
 * fuzz_twilio.c
 *		Fuzzer of the Super SIM driver and of its callbacks: arbitrary answers
 *		through begin and answer.
 *
 * The first bytes choose kind, flags and state; see driver_fuzz.h.  The whole
 * input is read as a callback, too.
 */
#include "driver_fuzz.h"
#include "twilio_event.h"

#define EID "89049032000000000000000000000001"
#define ICCID "89883070000007537119"
#define HP "HP00000000000000000000000000000001"
#define HS "HS00000000000000000000000000000001"
#define HF "HF00000000000000000000000000000001"

static void
sound(const RspConversation *c)
{
	const RspAction *action = &c->action;

	if (action->type == RSP_ACT_ASK || action->type == RSP_ACT_SEND)
		MUST(strncmp(action->path, "/v1/", 4) == 0);
	if (action->type == RSP_ACT_ASK)
		MUST(strcmp(action->method, "GET") == 0 && action->body == NULL);
	if (action->type == RSP_ACT_SEND)
	{
		MUST(strcmp(action->method, "POST") == 0 && action->body != NULL);
		MUST(strcmp(action->content_type, "application/x-www-form-urlencoded") == 0);
		MUST(strspn(action->body, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
					"0123456789-._~%=&") == strlen(action->body));
	}
	MUST(!c->reports_whole);
}

/* A body that makes sense for the request that is under way. */
static char *
sensible(const RspConversation *c, unsigned how, char mark, const Input *rest, HttpAnswer *answer)
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

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const DriverFuzz fuzz = {&rsp_twilio, 64, "!", sound, sensible, NULL};
	static const RspKind kinds[] = {RSP_RESERVE, RSP_RESERVE, RSP_DOWNLOAD, RSP_SET_SUBSCRIPTION,
	RSP_ASSIGN_FLEET, RSP_FLEET_CREATE, RSP_REFRESH, RSP_SYNC};
	TwilioCallback callback;
	Input		input = {data, size};
	RspServer	server;
	RspOperation op;
	unsigned	kind = next_byte(&input);
	unsigned	flags = next_byte(&input);

	memset(&callback, 0, sizeof(callback));
	(void) twilio_callback((const char *) data, size, &callback, NULL);

	fuzz_setup(&fuzz, &server, &op);
	server.url = "https://rsp.example.com";
	server.event_url = kind & 8 ? "https://events.example.com/x" : NULL;
	server.unknown_hold_ms = flags & 2 ? 0 : 3600000;
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
	op.cancel_asked = (kind & 16) != 0;
	op.state = (RspState) (next_byte(&input) % RSP_STATE_COUNT);
	json_object_set_new(op.settings, "NetworkAccessProfile", json_string("x"));
	fuzz_run(&fuzz, &server, &op, &input);
	return 0;
}
