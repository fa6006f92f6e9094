/*
 * test_es2plus_http.c
 *		Tests of the ES2+ driver over HTTP against the simulator.  Prints TAP.
 *
 * Each sequence is carried out with trouble at each of its requests: answers
 * lost before and after the effect, broken off, mangled.  Then the simulator is
 * asked what became of its stock.  Waiting times are not waited for: the driver is
 * told that they are over.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

#include "client.h"
#include "json.h"
#include "rsp.h"
#include "tap.h"

#define EID "89049032000000000000000000000001"
#define ICCID "8944478600003770170"

#define lengthof(array) (sizeof(array) / sizeof((array)[0]))

static RspServer server;
static RspOperation op;
static RspConversation conv;
static HttpEndpoint *patient;
static HttpEndpoint *hasty;		/* for requests that are left hanging */
static int	requests;
static char matching_id[256];

/* ----- the simulator ----- */

static char reply[65536];
static size_t reply_length;

static size_t
take(char *data, size_t size, size_t n, void *nothing)
{
	size_t		length = size * n;

	if (length < sizeof(reply) - reply_length)
	{
		memcpy(reply + reply_length, data, length);
		reply_length += length;
	}
	return size * n;
}

/* A call of the control API; body NULL: GET.  The answer is in reply. */
static bool
control(const char *path, const char *body)
{
	CURL	   *curl = curl_easy_init();
	char		url[256];
	long		status = 0;

	snprintf(url, sizeof(url), "%s/control/%s", simulator_url, path);
	reply_length = 0;
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT, 10L);
	if (body != NULL)
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
	curl_easy_perform(curl);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_cleanup(curl);
	reply[reply_length] = '\0';
	if (status != 200)
		printf("# %s: %ld %s\n", path, status, reply);
	return status == 200;
}

/* how many profiles of the SM-DP+ are in a state */
static int
in_state(const char *state)
{
	json_t	   *root;
	int			n;

	control("es2plus/summary", NULL);
	root = json_loads(reply, 0, NULL);
	n = (int) json_integer_value(json_object_get(json_object_get(root, "states"), state));
	json_decref(root);
	return n;
}

/* a member of the profile with this ICCID, "" if there is none */
static const char *
profile(const char *iccid, const char *key)
{
	static char text[256];
	char		path[128];
	json_t	   *root;
	const char *value;

	snprintf(path, sizeof(path), "es2plus/profiles?iccid=%s", iccid);
	control(path, NULL);
	root = json_loads(reply, 0, NULL);
	value = json_string_value(json_object_get(json_array_get(json_object_get(root, "profiles"), 0),
											  key));
	snprintf(text, sizeof(text), "%s", value != NULL ? value : "");
	json_decref(root);
	return text;
}

static int
double_effects(void)
{
	json_t	   *root;
	int			n;

	control("ledger", NULL);
	root = json_loads(reply, 0, NULL);
	n = (int) json_integer_value(json_object_get(root, "double_effects"));
	json_decref(root);
	return n;
}

/* ----- a worker ----- */

static void
setup(RspKind kind)
{
	json_decref(op.memo);
	json_decref(op.options);
	rsp_conversation_free(&conv);
	memset(&op, 0, sizeof(op));
	memset(&conv, 0, sizeof(conv));
	strcpy(op.id, "01890a5d-ac96-774b-bcce-b302099a8057");
	op.id[0] = 'a' + points() % 6;
	op.id[1] = '0' + points() / 6 % 10;
	op.id[2] = '0' + points() / 60 % 10;
	op.kind = kind;
	op.state = RSP_STATE_RESERVING;
	op.release = true;
	op.options = json_object();
	op.memo = json_object();
	op.now_ms = INT64_C(1760000000000) + points() * INT64_C(1000000000);
	conv.server = &server;
	conv.op = &op;
	requests = 0;
}

static void
send_request(void)
{
	RspAction  *action = &conv.action;
	HttpRequest *request = http_request_create(server.endpoint, action->method, action->path,
											   action->content_type, action->body,
											   action->body ? strlen(action->body) : 0, NULL);
	const HttpAnswer *answer;
	int			i;

	requests++;
	for (i = 0; i < action->nheaders; i++)
		http_request_header(request, action->headers[i].name, action->headers[i].value);
	op.now_ms += 5;
	op.attempts++;
	op.unresolved = true;
	op.last_sent_ms = op.now_ms;
	if (op.first_sent_ms == 0)
		op.first_sent_ms = op.now_ms;
	http_loop_submit(loop, request);
	request = next_done();
	answer = http_request_answer(request);
	if (answer->outcome == HTTP_NOT_SENT)
	{
		op.unresolved = false;
		op.attempts--;
	}
	rsp_conversation_reset(&conv);
	rsp_es2plus.answer(&conv, answer);
	http_request_free(request);
}

/* To the operation's end, or until it waits for the device. */
static void
run(void)
{
	int			turns;

	rsp_conversation_reset(&conv);
	rsp_es2plus.begin(&conv);
	for (turns = 0; turns < 60; turns++)
	{
		switch (conv.action.type)
		{
			case RSP_ACT_SEND:
				send_request();
				break;
			case RSP_ACT_WAIT:
				if (conv.action.phase == RSP_PHASE_WAITING_DEVICE)
					return;
				op.now_ms += conv.action.delay_ms;
				rsp_conversation_reset(&conv);
				rsp_es2plus.begin(&conv);
				break;
			default:
				return;
		}
	}
}

static bool
done_as(RspState state)
{
	if (conv.action.type == RSP_ACT_DONE && conv.action.state == state)
		return true;
	printf("# action %d, code \"%s\", message \"%s\"\n", conv.action.type, conv.action.code,
		   conv.action.message);
	return false;
}

/* ----- the sequences ----- */

typedef enum Sequence
{
	RESERVE_ICCID, RESERVE_TYPE, RESERVE_EID, RELEASE, CANCEL, DOWNLOAD, SEQUENCES
} Sequence;

static const struct
{
	const char *name;
	int			requests;
}			sequences[SEQUENCES] = {
	{"reserve of an ICCID", 2},
	{"reserve of a type", 2},
	{"reserve for an EID", 2},
	{"release", 1},
	{"cancel-order", 1},
	{"download", 2}
};

static const char *const functions[SEQUENCES][2] = {
	{"downloadOrder", "confirmOrder"}, {"downloadOrder", "confirmOrder"},
	{"downloadOrder", "confirmOrder"}, {"releaseProfile", ""}, {"cancelOrder", ""},
	{"downloadOrder", "confirmOrder"}
};

static void
prepare(Sequence sequence, bool accepts)
{
	control("reset", "{}");
	control("es2plus/stock", "[{\"profile_type\":\"A\",\"count\":5},"
			"{\"profile_type\":\"A\",\"iccid\":\"" ICCID "\"}]");
	if (accepts)
		control("config", "{\"server\":\"main\",\"es2plus\":{\"accept_repeats\":true}}");
	setup(sequence == DOWNLOAD ? RSP_DOWNLOAD : RSP_RESERVE);
	switch (sequence)
	{
		case RESERVE_ICCID:
			op.iccid = ICCID;
			break;
		case RESERVE_TYPE:
			op.profile_type = "A";
			break;
		case RESERVE_EID:
			op.profile_type = "A";
			op.eid = EID;
			break;
		case DOWNLOAD:
			op.profile_type = "A";
			op.eid = EID;
			op.state = RSP_STATE_RELEASED;
			break;
		default:

			/* what is to be released or cancelled is reserved first */
			op.iccid = ICCID;
			op.eid = EID;
			op.generate_matching_id = true;
			op.release = false;
			run();
			snprintf(matching_id, sizeof(matching_id), "%s", conv.facts.matching_id);
			setup(sequence == RELEASE ? RSP_RELEASE : RSP_CANCEL_ORDER);
			op.iccid = ICCID;
			op.reserved_eid = EID;
			op.profile_matching_id = matching_id;
			op.state = RSP_STATE_RESERVED;
			break;
	}
}

/* Is what the driver says what the SM-DP+ has? */
static bool
is_true(Sequence sequence, bool unknown_allowed)
{
	const char *iccid = conv.action.iccid[0] != '\0' ? conv.action.iccid : op.iccid;
	int			taken = in_state("Allocated") + in_state("Linked") + in_state("Confirmed") +
		in_state("Released");

	if (taken > 1 || double_effects() > 0)
	{
		printf("# %d profiles taken, %d double effects\n", taken, double_effects());
		return false;
	}
	if (unknown_allowed && conv.action.type == RSP_ACT_FAIL)
	{
		if (strcmp(conv.action.code, "OUTCOME_UNKNOWN") == 0)
			return true;
		printf("# code %s\n", conv.action.code);
		return false;
	}
	switch (sequence)
	{
		case RESERVE_ICCID:
		case RESERVE_TYPE:
		case RESERVE_EID:
			return done_as(RSP_STATE_RELEASED) && iccid != NULL &&
				strcmp(profile(iccid, "state"), "Released") == 0 &&
				strcmp(profile(iccid, "matching_id"), conv.facts.matching_id) == 0;
		case RELEASE:
			return done_as(RSP_STATE_RELEASED) && strcmp(profile(ICCID, "state"), "Released") == 0;
		case CANCEL:
			return done_as(RSP_STATE_CANCELLED) && strcmp(profile(ICCID, "state"), "Available") == 0;
		default:
			if (conv.action.type != RSP_ACT_WAIT || iccid == NULL ||
				strcmp(profile(iccid, "state"), "Released") != 0)
			{
				printf("# action %d, code %s\n", conv.action.type, conv.action.code);
				return false;
			}

			/* the device comes, and the notification is applied */
			if (!control("es2plus/download", "{\"eid\":\"" EID "\"}"))
				return false;
			op.state = RSP_STATE_INSTALLED;
			rsp_conversation_reset(&conv);
			rsp_es2plus.begin(&conv);
			return done_as(RSP_STATE_INSTALLED) && in_state("Installed") == 1;
	}
}

static void
test_sequences(void)
{
	/* after: the effect is had, its answer is not */
	static const struct
	{
		const char *fault;
		bool		after;
	}			faults[] = {
		{"\"fault\":\"timeout_after_effect\"", true},
		{"\"fault\":\"timeout_before_effect\"", false},
		{"\"fault\":\"reset_after_effect\"", true},
		{"\"fault\":\"reset_before_effect\"", false},
		{"\"fault\":\"status\",\"status\":500,\"effect\":true", true},
		{"\"fault\":\"status\",\"status\":503", false},
		{"\"fault\":\"status\",\"status\":504,\"effect\":true", true},
		{"\"fault\":\"status\",\"status\":400,\"effect\":true", true},
		{"\"fault\":\"redirect\",\"effect\":true", true},
		{"\"fault\":\"malformed_json\"", true},
		{"\"fault\":\"truncated_json\"", true},
		{"\"fault\":\"truncated_body\"", true},
		{"\"fault\":\"empty_body\"", true},
		{"\"fault\":\"wrong_types\"", true},
		{"\"fault\":\"invalid_utf8\"", true},
		{"\"fault\":\"nul_bytes\"", true},
		{"\"fault\":\"duplicate_keys\"", true},
		{"\"fault\":\"deep_json\",\"depth\":1000", true},
		{"\"fault\":\"oversized_json\",\"bytes\":4000000", true},
		{"\"fault\":\"endless_body\"", true},
		{"\"fault\":\"slow_drip\",\"rate\":20", true},
	};
	char		rule[256];
	int			s;
	int			r;
	size_t		f;
	int			accepts;

	for (s = 0; s < SEQUENCES; s++)
	{
		prepare((Sequence) s, false);
		run();
		check(is_true((Sequence) s, false) && requests == sequences[s].requests, "%s",
			  sequences[s].name);
		for (r = 0; r < sequences[s].requests; r++)
			for (f = 0; f < lengthof(faults); f++)
				for (accepts = 0; accepts < 2; accepts++)
				{
					bool		chosen = r == 0 && (s == RESERVE_TYPE || s == RESERVE_EID ||
													s == DOWNLOAD);

					/* a repeat that is accepted is of interest for confirmOrder only */
					if (accepts && r == 0)
						continue;
					prepare((Sequence) s, accepts);
					snprintf(rule, sizeof(rule), "{%s,\"path\":\"%s\",\"count\":1}",
							 faults[f].fault, functions[s][r]);
					control("fault", rule);
					if (strstr(faults[f].fault, "timeout") || strstr(faults[f].fault, "drip"))
						server.endpoint = hasty;
					run();
					server.endpoint = patient;
					check(is_true((Sequence) s, chosen) &&
						  (!chosen || conv.action.type != RSP_ACT_FAIL || requests == 1),
						  "%s, %s: %s%s", sequences[s].name, functions[s][r], faults[f].fault,
						  accepts ? ", repeats accepted" : "");
				}
	}
}

static void
test_codes(void)
{
	static const struct
	{
		Sequence	sequence;
		const char *function;
		const char *code;
		bool		passes;		/* it is tried again, and done */
	}			codes[] = {
		{RESERVE_ICCID, "downloadOrder", "8.1.1/3.9", false},
		{RESERVE_TYPE, "downloadOrder", "8.2.5/1.2", false},
		{RESERVE_TYPE, "downloadOrder", "8.2.5/3.7", true},
		{RESERVE_TYPE, "downloadOrder", "8.2.5/3.9", false},
		{RESERVE_TYPE, "downloadOrder", "1.1/1.1", true},
		{RESERVE_ICCID, "confirmOrder", "8.9/4.2", true},
		{RESERVE_ICCID, "confirmOrder", "8.9/5.1", true},
		{RESERVE_TYPE, "confirmOrder", "8.2.6/3.3", true},
		{RESERVE_TYPE, "confirmOrder", "8.2.6/2.1", false},
		{RELEASE, "releaseProfile", "8.9/5.1", true},
		{RELEASE, "releaseProfile", "8.2.1/3.9", false},
		{CANCEL, "cancelOrder", "8.9/4.2", true},
		{CANCEL, "cancelOrder", "8/4.2", true},
	};
	char		rule[256];
	size_t		i;

	for (i = 0; i < lengthof(codes); i++)
	{
		prepare(codes[i].sequence, false);
		snprintf(rule, sizeof(rule), "{\"fault\":\"status\",\"status\":200,\"code\":\"%s\","
				 "\"path\":\"%s\",\"count\":%d}", codes[i].code, codes[i].function,
				 codes[i].passes ? 1 : 2);
		control("fault", rule);
		run();
		if (codes[i].passes)
			check(is_true(codes[i].sequence, false), "%s, %s: passes", codes[i].function,
				  codes[i].code);
		else
			check(conv.action.type == RSP_ACT_FAIL &&
				  strcmp(conv.action.rsp_code, codes[i].code) == 0 &&
				  strcmp(conv.action.code, "OUTCOME_UNKNOWN") != 0, "%s, %s: %s",
				  codes[i].function, codes[i].code, conv.action.code);
	}

	/* vendors */
	prepare(RESERVE_EID, false);
	control("config", "{\"server\":\"main\",\"es2plus\":{\"cmlink\":true,\"plain_iccid\":true}}");
	run();
	check(is_true(RESERVE_EID, false), "codes 0 on success, ICCIDs without padding");
	prepare(RESERVE_EID, false);
	control("config", "{\"server\":\"main\",\"es2plus\":{\"full_iccid\":true,\"warn\":true}}");
	run();
	check(is_true(RESERVE_EID, false) && strcmp(conv.action.rsp_code, "8.2.9/4.3") == 0,
		  "only ICCIDs of 20 places, Executed-WithWarning");
	prepare(CANCEL, false);
	op.final_status = "Unavailable";
	run();
	check(done_as(RSP_STATE_CANCELLED) && strcmp(profile(ICCID, "state"), "Unavailable") == 0,
		  "cancelled for ever");
	control("es2plus/summary", NULL);
	check(strstr(reply, "\"reused_call_ids\":0") != NULL, "no call identifier twice");
}

int
main(void)
{
	HttpEndpointOptions options;
	char		url[160];

	if (!simulator_start(NULL))
		return skip_all("no simulator");
	memset(&options, 0, sizeof(options));
	snprintf(url, sizeof(url), "%s/main", simulator_url);
	options.base_url = url;
	options.timeout_ms = 10000;
	options.connect_timeout_ms = 10000;
	options.max_answer = 1024 * 1024;
	options.allow_http = true;
	options.verify = true;
	loop_start(4);
	server.name = "main";
	server.protocol = RSP_PROTOCOL_ES2PLUS;
	server.url = url;
	server.requester_id = "1.3.6.1.4.1.31746";
	server.timeout_ms = 10000;
	server.unknown_hold_ms = 3600000;
	patient = server.endpoint = endpoint_of(&options);
	options.timeout_ms = 500;
	hasty = endpoint_of(&options);
	test_sequences();
	test_codes();
	rsp_conversation_free(&conv);
	json_decref(op.memo);
	json_decref(op.options);
	http_endpoint_release(patient);
	http_endpoint_release(hasty);
	http_loop_destroy(loop);
	return finish();
}
