/*
 * test_es2plus.c
 *		Tests of the ES2+ driver and of the reader of its notifications: canned
 *		answers, no network.  Prints TAP.
 *
 * The last part lets a model of an SM-DP+ lose, break and delay answers at
 * random, and the worker crash, and looks at what became of its stock.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"
#include "worker.h"
#include "es2plus_event.h"

#define EID1 "89049032000000000000000000000001"
#define EID2 "89049032000000000000000000000002"
#define ICCID1 "8944478600003770170"
#define ICCID1F ICCID1 "F"
#define ICCID2 "89457300000021819183"

#define lengthof(array) (sizeof(array) / sizeof((array)[0]))

/* ----- a worker ----- */

static char last_call[64];

static void
setup(RspKind kind)
{
	worker_reset(&rsp_es2plus, kind, NULL);
	server.url = "https://smdp.example.com:8443";
	server.requester_id = "1.3.6.1.4.1.31746";
	server.smdp_address = "smdp.example.com";
	request_ms = 7;
	op.state = RSP_STATE_RESERVING;
	op.release = true;
	if (kind == RSP_RELEASE || kind == RSP_CANCEL_ORDER)
	{
		op.iccid = ICCID1;
		op.state = kind == RSP_RELEASE ? RSP_STATE_RESERVED : RSP_STATE_RELEASED;
	}
	if (kind == RSP_DOWNLOAD)
	{
		op.eid = EID1;
		op.state = RSP_STATE_RELEASED;
	}
	last_call[0] = '\0';
	save();
}

#define STATUS(word) "\"header\":{\"functionExecutionStatus\":{\"status\":\"" word "\"}}"
#define EXECUTED STATUS("Executed-Success")
#define DONE "{" EXECUTED "}"

static void
answer_failed(const char *subject, const char *reason)
{
	char		body[512];

	snprintf(body, sizeof(body),
			 "{\"header\":{\"functionExecutionStatus\":{\"status\":\"Failed\",\"statusCodeData\":"
			 "{\"subjectCode\":\"%s\",\"reasonCode\":\"%s\",\"subjectIdentifier\":\"x\","
			 "\"message\":\"said so\"}}}}", subject, reason);
	answer(200, body);
}

static void
answer_ordered(const char *iccid)
{
	char		body[512];

	snprintf(body, sizeof(body), "{" EXECUTED ",\"iccid\":\"%s\"}", iccid);
	answer(200, body);
}

static void
answer_confirmed(const char *matching_id)
{
	char		body[512];

	snprintf(body, sizeof(body), "{" EXECUTED ",\"matchingId\":\"%s\",\"smdpAddress\":"
			 "\"rsp.example.com\"}", matching_id);
	answer(200, body);
}

static bool
sends_to(const char *function)
{
	const char *slash = strrchr(last_path, '/');

	if (is(RSP_ACT_SEND) && slash != NULL && strcmp(slash + 1, function) == 0)
		return true;
	printf("# path is %s\n", last_path);
	return false;
}

/* a member of the last body; good until the next look */
static const json_t *
member(const char *key)
{
	static json_t *body;

	json_decref(body);
	body = json_loads(last_body, 0, NULL);
	return json_object_get(body, key);
}

/* The body but for its header, which is looked at here. */
static bool
call_is(const char *expected)
{
	json_t	   *want = json_loads(expected, 0, NULL);
	json_t	   *body = json_loads(last_body, 0, NULL);
	const json_t *header = json_object_get(body, "header");
	const char *requester = rsp_json_string(header, "functionRequesterIdentifier", 100);
	const char *call = rsp_json_string(header, "functionCallIdentifier", 100);
	bool		good;

	good = want != NULL && requester != NULL && call != NULL && json_object_size(header) == 2 &&
		strcmp(requester, "1.3.6.1.4.1.31746") == 0 && strlen(call) == 36 &&
		strcmp(call, conv.action.call_id) == 0 && strcmp(call, last_call) != 0 &&
		conv.action.nheaders == 1 &&
		strcmp(conv.action.headers[0].name, "X-Admin-Protocol") == 0 &&
		strcmp(conv.action.headers[0].value, "gsma/rsp/v2.5.0") == 0 &&
		strcmp(conv.action.content_type, "application/json") == 0;
	if (call != NULL)
		strcpy(last_call, call);
	json_object_del(body, "header");
	if (good && json_equal(body, want))
		good = true;
	else
	{
		printf("# body is %s\n", conv.action.body);
		good = false;
	}
	json_decref(want);
	json_decref(body);
	return good;
}

static const char *
body_text(const char *key)
{
	const char *text = json_string_value(member(key));

	return text != NULL ? text : "(none)";
}

static bool
text_is(const char *got, const char *wanted)
{
	if (strcmp(got, wanted) == 0)
		return true;
	printf("# is \"%s\", wanted \"%s\"\n", got, wanted);
	return false;
}

/* ----- what it can do, what it refuses at once ----- */

static void
test_check(void)
{
	const char *note;
	int			kind;
	int			n = 0;

	for (kind = 0; kind < RSP_KIND_COUNT; kind++)
	{
		bool		can = rsp_es2plus.supports(RSP_DIALECT_R1_2, kind, &note);

		n += can == (kind == RSP_RESERVE || kind == RSP_RELEASE || kind == RSP_CANCEL_ORDER ||
					 kind == RSP_DOWNLOAD) && (can || note[0] != '\0') &&
			rsp_es2plus.supports(RSP_DIALECT_R1_2, kind, NULL) == can;
	}
	check(n == RSP_KIND_COUNT, "supported kinds");
	check(!rsp_es2plus.can_ask, "cannot ask");
	check(rsp_driver(RSP_PROTOCOL_ES2PLUS) == &rsp_es2plus, "it is the protocol's driver");
	check(rsp_es2plus.state_allowed(RSP_RELEASE, RSP_STATE_RESERVED) &&
		  !rsp_es2plus.state_allowed(RSP_RELEASE, RSP_STATE_RELEASED) &&
		  rsp_es2plus.state_allowed(RSP_CANCEL_ORDER, RSP_STATE_FAILED) &&
		  !rsp_es2plus.state_allowed(RSP_CANCEL_ORDER, RSP_STATE_INSTALLED) &&
		  !rsp_es2plus.state_allowed(RSP_DELETE, RSP_STATE_DISABLED) &&
		  rsp_es2plus.state_allowed(RSP_DOWNLOAD, RSP_STATE_RELEASED), "allowed states");

	setup(RSP_RESERVE);
	op.eid = EID1;
	check(checked(NULL), "reserve for an EID");
	op.eid = NULL;
	op.profile_type = "A";
	check(checked(NULL), "reserve of a type");
	op.profile_type = "";
	check(checked("INVALID_ARGUMENT"), "empty profile type");
	op.profile_type = NULL;
	op.generate_matching_id = true;
	check(checked(NULL), "reserve with a generated matching ID");
	op.matching_id = "X";
	check(checked("INVALID_ARGUMENT"), "generated and given matching ID");
	op.generate_matching_id = false;
	check(checked(NULL), "given matching ID");
	op.matching_id = "A$B";
	check(checked("INVALID_ARGUMENT"), "malformed matching ID");
	op.matching_id = "";
	check(checked("MISSING_IDENTIFIER"), "empty matching ID without EID");
	op.matching_id = NULL;
	op.smds_address = "lpa.ds.gsma.com";
	check(checked("MISSING_IDENTIFIER"), "SM-DS without EID");
	op.eid = EID1;
	check(checked(NULL), "SM-DS with EID");
	op.smds_address = "https://lpa.ds.gsma.com/";
	check(checked("INVALID_ARGUMENT"), "SM-DS address that is a URL");
	op.smds_address = NULL;
	op.eid = "123";
	check(checked("UNSUPPORTED_IDENTIFIER"), "EID that is none");
	op.eid = NULL;
	op.iccid = "891000000000009125";
	check(checked(NULL), "ICCID of 18 digits");
	op.iccid = "123";
	check(checked("UNSUPPORTED_IDENTIFIER"), "ICCID that is none");
	op.iccid = NULL;
	op.confirmation_code = "";
	check(checked("INVALID_ARGUMENT"), "empty confirmation code");
	op.confirmation_code = "1234";
	check(checked(NULL), "confirmation code");
	server.requester_id = NULL;
	check(checked("UNAVAILABLE"), "no requester identifier");

	setup(RSP_DOWNLOAD);
	check(checked(NULL), "download");
	op.reserved_eid = EID2;
	check(checked("IDENTIFIER_MISMATCH"), "download of what is another eUICC's");
	op.reserved_eid = EID1;
	check(checked(NULL), "download of what is reserved");
	op.activate_on_download = true;
	check(checked("SERVICE_NOT_APPLICABLE"), "activate_on_download");
	op.activate_on_download = false;
	op.activation_code = "nonsense";
	check(checked("INVALID_ARGUMENT"), "malformed activation code");
	op.activation_code = NULL;
	op.eid = NULL;
	check(checked("MISSING_IDENTIFIER"), "download without EID");

	setup(RSP_CANCEL_ORDER);
	check(checked(NULL), "cancel-order");
	op.final_status = "Unavailable";
	check(checked(NULL), "cancel-order, Unavailable");
	op.final_status = "available";
	check(checked("INVALID_ARGUMENT"), "another final status");
	setup(RSP_RELEASE);
	check(checked(NULL), "release");
	op.iccid = NULL;
	check(checked(NULL), "release behind its reserve: no ICCID yet");
	setup(RSP_ENABLE);
	check(checked("SERVICE_NOT_APPLICABLE"), "enable");
}

/* ----- the plain sequences ----- */

static void
test_reserve(void)
{
	char		matching_id[64];
	char		code[300];

	/* for an EID: default SM-DP+ use */
	setup(RSP_RESERVE);
	op.eid = EID1;
	op.profile_type = "Telemetry 1";
	begin();
	check(op.step == 0 && json_object_size(op.memo) == 0, "a first request needs no notes");
	check(sends_to("downloadOrder") &&
		  text_is(last_path, "POST /gsma/rsp2/es2plus/downloadOrder"), "path of downloadOrder");
	check(call_is("{\"eid\":\"" EID1 "\",\"profileType\":\"Telemetry 1\"}"),
		  "downloadOrder for an EID");
	check(strncmp(conv.action.body, "{\"header\":{\"functionRequesterIdentifier\":", 41) == 0,
		  "the header comes first");
	answer_ordered(ICCID1F);
	check(sends_to("confirmOrder"), "confirmOrder follows");
	check(call_is("{\"iccid\":\"" ICCID1F "\",\"eid\":\"" EID1 "\",\"matchingId\":\"\","
				  "\"releaseFlag\":true}"), "confirmOrder for the default SM-DP+ use");
	answer_confirmed("");
	check(is(RSP_ACT_DONE) && state_is(RSP_STATE_RELEASED) && text_is(conv.action.iccid, ICCID1),
		  "it is released, its ICCID is told without padding");
	check(conv.facts.matching_id[0] == '\0' && conv.facts.activation_code[0] == '\0' &&
		  text_is(conv.facts.reserved_eid, EID1) &&
		  text_is(conv.facts.smdp_address, "rsp.example.com") &&
		  text_is(conv.facts.rsp_id, ICCID1F) && text_is(conv.facts.rsp_state, "Released"),
		  "no matching ID for an EID; the ICCID as the server writes it");
	check(sends == 2, "two requests");

	/* of a type, with a MatchingID of ours */
	setup(RSP_RESERVE);
	op.profile_type = "A";
	op.release = false;
	op.confirmation_code = "4711";
	begin();
	check(call_is("{\"profileType\":\"A\"}"), "downloadOrder of a type");
	answer_ordered(ICCID2);
	strcpy(matching_id, body_text("matchingId"));
	check(strlen(matching_id) == 23 && matching_id[5] == '-' && matching_id[11] == '-' &&
		  strspn(matching_id, "0123456789ABCDEFGHJKMNPQRSTVWXYZ-") == 23, "our matching ID: %s",
		  matching_id);
	check(json_is_false(member("releaseFlag")) &&
		  text_is(body_text("confirmationCode"), "4711") &&
		  text_is(body_text("iccid"), ICCID2), "no release, confirmation code, 20 digits");
	answer(200, "{" EXECUTED ",\"matchingId\":null}");
	check(is(RSP_ACT_DONE) && state_is(RSP_STATE_RESERVED), "it is confirmed");
	snprintf(code, sizeof(code), "1$smdp.example.com$%s$$1", matching_id);
	check(text_is(conv.facts.matching_id, matching_id) &&
		  text_is(conv.facts.activation_code, code) &&
		  text_is(conv.facts.rsp_state, "Confirmed"),
		  "activation code with the server's option, and the confirmation flag");

	strcpy(code, matching_id);
	setup(RSP_RESERVE);
	op.profile_type = "A";
	op.id[35] = '8';
	begin();
	answer_ordered(ICCID2);
	check(strcmp(body_text("matchingId"), code) != 0, "another operation, another matching ID");

	/* the SM-DP+ makes the MatchingID */
	setup(RSP_RESERVE);
	server.matching_id_source = "server";
	op.iccid = ICCID1;
	op.profile_type = "A";
	begin();
	check(call_is("{\"iccid\":\"" ICCID1F "\",\"profileType\":\"A\"}"), "downloadOrder of an ICCID");
	answer_ordered(ICCID1);
	check(call_is("{\"iccid\":\"" ICCID1 "\",\"releaseFlag\":true}"),
		  "no matching ID is sent; the ICCID as the server writes it");
	answer_confirmed("04386-AGYFT-A74Y8-3F815");
	check(is(RSP_ACT_DONE) && conv.action.iccid[0] == '\0' &&
		  text_is(conv.facts.activation_code, "1$rsp.example.com$04386-AGYFT-A74Y8-3F815"),
		  "the server's matching ID");

	/* SM-DS */
	setup(RSP_RESERVE);
	op.eid = EID1;
	op.smds_address = "lpa.ds.gsma.com";
	op.iccid = "891000000000009125";
	begin();
	answer_ordered("891000000000009125FF");
	check(sends_to("confirmOrder") && text_is(body_text("smdsAddress"), "lpa.ds.gsma.com") &&
		  strlen(body_text("matchingId")) == 23 &&
		  text_is(body_text("iccid"), "891000000000009125"),
		  "SM-DS with a matching ID; ICCID of 18 digits");

	/* EID and generate_matching_id; a given one */
	setup(RSP_RESERVE);
	op.eid = EID1;
	op.generate_matching_id = true;
	begin();
	answer_ordered(ICCID1);
	check(strlen(body_text("matchingId")) == 23, "a matching ID beside the EID");
	setup(RSP_RESERVE);
	op.matching_id = "MINE-1";
	begin();
	check(call_is("{}"), "an order that leaves all to the SM-DP+");
	answer_ordered(ICCID1);
	check(text_is(body_text("matchingId"), "MINE-1"), "a given matching ID");
	answer_confirmed("OTHER-2");
	check(is(RSP_ACT_DONE) && text_is(conv.facts.matching_id, "OTHER-2"),
		  "the server's word about it counts");

	/* success in vendors' manners */
	setup(RSP_RESERVE);
	op.eid = EID1;
	begin();
	answer(200, "{\"header\":{\"functionExecutionStatus\":{\"status\":\"Executed-Success\","
		   "\"statusCodeData\":{\"subjectCode\":\"0\",\"reasonCode\":\"0\",\"message\":\"OK\"}}},"
		   "\"iccid\":\"" ICCID1 "f\"}");
	check(sends_to("confirmOrder"), "codes 0 on success");
	answer(200, "{\"header\":{\"functionExecutionStatus\":{\"status\":\"Executed-WithWarning\","
		   "\"statusCodeData\":{\"subjectCode\":\"8.9\",\"reasonCode\":\"4.2\",\"message\":\"later\"}}},"
		   "\"eid\":\"" EID1 "\",\"smdpAddress\":\"https://no.host/\"}");
	check(is(RSP_ACT_DONE) && text_is(conv.action.rsp_code, "8.9/4.2") &&
		  text_is(conv.action.rsp_message, "later") &&
		  text_is(conv.facts.smdp_address, "smdp.example.com"),
		  "Executed-WithWarning is done, with its codes; an address that is none is passed over");

	/* vendors' paths */
	setup(RSP_RESERVE);
	server.url = "https://smdp.example.com/aep/gsma/rsp2/es2plus/smdp";
	begin();
	check(text_is(last_path, "POST /downloadOrder"), "a url that has the path");
	setup(RSP_RESERVE);
	server.requester_id = NULL;
	begin();
	check(waits(RSP_PHASE_PARKED) && sends == 0, "without a requester: parked");
}

static void
test_release_cancel(void)
{
	setup(RSP_RELEASE);
	begin();
	check(sends_to("releaseProfile") && call_is("{\"iccid\":\"" ICCID1F "\"}") && op.step == 0,
		  "releaseProfile");
	answer(200, DONE);
	check(is(RSP_ACT_DONE) && state_is(RSP_STATE_RELEASED), "released");
	setup(RSP_RELEASE);
	begin();
	answer_failed("8.2.1", "3.5");
	check(is(RSP_ACT_DONE) && state_is(RSP_STATE_RELEASED), "it was released already");
	setup(RSP_RELEASE);
	op.iccid = NULL;
	begin();
	check(fails("MISSING_IDENTIFIER") && sends == 0, "no ICCID is known");

	setup(RSP_CANCEL_ORDER);
	op.reserved_eid = EID1;
	op.profile_matching_id = "M-1";
	op.final_status = "Unavailable";
	begin();
	check(sends_to("cancelOrder") &&
		  call_is("{\"iccid\":\"" ICCID1F "\",\"eid\":\"" EID1 "\",\"matchingId\":\"M-1\","
				  "\"finalProfileStatusIndicator\":\"Unavailable\"}"), "cancelOrder");
	answer(200, DONE);
	check(is(RSP_ACT_DONE) && state_is(RSP_STATE_CANCELLED) &&
		  text_is(conv.facts.rsp_state, "Unavailable"), "cancelled");
	setup(RSP_CANCEL_ORDER);
	begin();
	check(call_is("{\"iccid\":\"" ICCID1F "\",\"finalProfileStatusIndicator\":\"Available\"}"),
		  "cancelOrder of an order for any");
	setup(RSP_CANCEL_ORDER);
	op.reserved_eid = EID1;
	begin();
	check(text_is(body_text("matchingId"), "(none)"), "an order for the default SM-DP+ use");
	answer_failed("8.2.6", "2.2");
	check(sends_to("cancelOrder") && text_is(body_text("matchingId"), ""),
		  "where the server wants the matching ID: it is the empty one");
	answer_failed("8.2.6", "2.2");
	check(fails("MISSING_IDENTIFIER"), "but not twice");
	setup(RSP_CANCEL_ORDER);
	op.iccid = NULL;
	begin();
	check(fails("MISSING_IDENTIFIER"), "cancel without ICCID");
	setup(RSP_CANCEL_ORDER);
	begin();
	answer_failed("8.2.1", "3.3");
	check(fails("INCOMPATIBLE_STATE") && !conv.action.profile_state_set &&
		  text_is(conv.action.rsp_code, "8.2.1/3.3"), "already downloaded");
}

static void
test_download(void)
{
	int			i;
	int64_t		delay = 0;
	bool		grows = true;

	setup(RSP_DOWNLOAD);
	begin();
	check(sends_to("downloadOrder") && call_is("{\"eid\":\"" EID1 "\"}"), "order for the EID");
	answer_ordered(ICCID1F);
	check(call_is("{\"iccid\":\"" ICCID1F "\",\"eid\":\"" EID1 "\",\"matchingId\":\"\","
				  "\"releaseFlag\":true}"), "confirmed and released");
	answer_confirmed("");
	check(waits(RSP_PHASE_WAITING_DEVICE) && text_is(conv.action.iccid, ICCID1) &&
		  text_is(conv.facts.reserved_eid, EID1), "waits for the device, ICCID and EID are told");
	for (i = 0; i < 12; i++)
	{
		grows = grows && conv.action.delay_ms >= delay - delay / 4 &&
			conv.action.delay_ms <= 7 * HOUR;
		delay = conv.action.delay_ms;
		again();
	}
	check(grows && delay > 5 * HOUR && sends == 2, "at growing intervals, nothing is sent");
	crash();
	op.state = RSP_STATE_DOWNLOADED;
	begin();
	check(waits(RSP_PHASE_WAITING_DEVICE) && strstr(conv.action.message, "downloaded") != NULL,
		  "downloaded, not installed yet");
	op.state = RSP_STATE_INSTALLED;
	again();
	check(is(RSP_ACT_DONE) && state_is(RSP_STATE_INSTALLED), "installed");
	op.state = RSP_STATE_ENABLED;
	begin();
	check(is(RSP_ACT_DONE) && state_is(RSP_STATE_ENABLED), "more is known: it stays so");
	op.state = RSP_STATE_FAILED;
	begin();
	check(fails("SERVICE_NOT_APPLICABLE"), "the installation failed");
	op.state = RSP_STATE_CANCELLED;
	begin();
	check(fails("CANCELLED"), "the order was cancelled");
	op.state = RSP_STATE_RELEASED;
	op.ask_first = true;
	begin();
	check(waits(RSP_PHASE_WAITING_DEVICE), "after a promotion it waits on: nothing is to be sent");

	setup(RSP_DOWNLOAD);
	op.iccid = ICCID2;
	op.activation_code = "1$smdp.example.com$TOKEN-1$$1";
	op.confirmation_code = "99";
	begin();
	check(call_is("{\"eid\":\"" EID1 "\",\"iccid\":\"" ICCID2 "\"}"), "order of a known ICCID");
	answer_ordered(ICCID2);
	check(text_is(body_text("matchingId"), "TOKEN-1") &&
		  text_is(body_text("confirmationCode"), "99"), "the matching ID of the code");

	setup(RSP_DOWNLOAD);
	op.iccid = ICCID1;
	op.reserved_eid = EID1;
	begin();
	check(waits(RSP_PHASE_WAITING_DEVICE) && sends == 0, "what is released needs no order");
	op.state = RSP_STATE_INSTALLED;
	again();
	check(is(RSP_ACT_DONE), "and ends with its installation");
	setup(RSP_DOWNLOAD);
	op.iccid = ICCID1;
	op.profile_matching_id = "M-1";
	op.state = RSP_STATE_RESERVED;
	begin();
	check(sends_to("releaseProfile"), "what is reserved is released");
	answer_outcome(HTTP_LOST);
	check(waits(RSP_PHASE_UNKNOWN) && op.unresolved, "the answer is lost");
	again();
	check(sends_to("releaseProfile"), "it is asked for again");
	answer_failed("8.2.1", "3.5");
	check(waits(RSP_PHASE_WAITING_DEVICE) && state_is(RSP_STATE_RELEASED) && !op.unresolved,
		  "and is released");
}

/* ----- codes ----- */

typedef enum Expected
{
	X_FAIL, X_RETRY, X_PARK, X_LOST, X_DONE, X_AGAIN
} Expected;

static void
to_function(const char *function)
{
	if (strcmp(function, "releaseProfile") == 0)
		setup(RSP_RELEASE);
	else if (strcmp(function, "cancelOrder") == 0)
	{
		setup(RSP_CANCEL_ORDER);
		op.reserved_eid = EID1;
	}
	else
	{
		setup(RSP_RESERVE);
		op.iccid = ICCID1;
		op.eid = EID1;
		op.generate_matching_id = true;
	}
	begin();
	if (strcmp(function, "confirmOrder") == 0)
		answer_ordered(ICCID1);
}

static void
test_codes(void)
{
	static const struct
	{
		const char *function;
		const char *subject;
		const char *reason;
		Expected	expected;
		const char *code;
	}			rows[] = {
		/* domain's table, row by row */
		{"confirmOrder", "8.1.1", "2.2", X_FAIL, "MISSING_IDENTIFIER"},
		{"cancelOrder", "8.1.1", "2.2", X_FAIL, "MISSING_IDENTIFIER"},
		{"downloadOrder", "8.1.1", "3.9", X_FAIL, "IDENTIFIER_NOT_FOUND"},
		{"confirmOrder", "8.1.1", "3.9", X_FAIL, "IDENTIFIER_NOT_FOUND"},
		{"confirmOrder", "8.1.1", "3.10", X_FAIL, "IDENTIFIER_MISMATCH"},
		{"confirmOrder", "8.1.1", "3.1", X_FAIL, "IDENTIFIER_MISMATCH"},
		{"cancelOrder", "8.1.1", "3.10", X_FAIL, "IDENTIFIER_MISMATCH"},
		{"cancelOrder", "8.1.1", "3.1", X_FAIL, "IDENTIFIER_MISMATCH"},
		{"downloadOrder", "8.2.1", "1.2", X_FAIL, "PERMISSION_DENIED"},
		{"confirmOrder", "8.2.1", "1.2", X_FAIL, "PERMISSION_DENIED"},
		{"cancelOrder", "8.2.1", "1.2", X_FAIL, "PERMISSION_DENIED"},
		{"releaseProfile", "8.2.1", "1.2", X_FAIL, "PERMISSION_DENIED"},
		{"cancelOrder", "8.2.1", "2.2", X_FAIL, "MISSING_IDENTIFIER"},
		{"downloadOrder", "8.2.1", "3.3", X_FAIL, "CONFLICT"},
		{"confirmOrder", "8.2.1", "3.3", X_FAIL, "INCOMPATIBLE_STATE"},
		{"cancelOrder", "8.2.1", "3.3", X_FAIL, "INCOMPATIBLE_STATE"},
		{"releaseProfile", "8.2.1", "3.5", X_DONE, ""},
		{"downloadOrder", "8.2.1", "3.9", X_FAIL, "IDENTIFIER_NOT_FOUND"},
		{"confirmOrder", "8.2.1", "3.9", X_FAIL, "IDENTIFIER_NOT_FOUND"},
		{"cancelOrder", "8.2.1", "3.9", X_FAIL, "IDENTIFIER_NOT_FOUND"},
		{"releaseProfile", "8.2.1", "3.9", X_FAIL, "IDENTIFIER_NOT_FOUND"},
		{"confirmOrder", "8.2.1", "3.10", X_FAIL, "IDENTIFIER_MISMATCH"},
		{"cancelOrder", "8.2.1", "3.1", X_FAIL, "IDENTIFIER_MISMATCH"},
		{"downloadOrder", "8.2.5", "1.2", X_FAIL, "PERMISSION_DENIED"},
		{"downloadOrder", "8.2.5", "3.7", X_PARK, "QUOTA_EXCEEDED"},
		{"downloadOrder", "8.2.5", "3.8", X_FAIL, "INVALID_ARGUMENT"},
		{"downloadOrder", "8.2.5", "3.9", X_FAIL, "NOT_FOUND"},
		{"confirmOrder", "8.2.6", "2.1", X_FAIL, "INVALID_ARGUMENT"},
		{"confirmOrder", "8.2.6", "3.3", X_AGAIN, ""},
		{"cancelOrder", "8.2.6", "2.2", X_AGAIN, ""},
		{"cancelOrder", "8.2.6", "3.10", X_FAIL, "IDENTIFIER_MISMATCH"},
		{"cancelOrder", "8.2.6", "3.1", X_FAIL, "IDENTIFIER_MISMATCH"},
		{"confirmOrder", "8.9", "4.2", X_RETRY, "UNAVAILABLE"},
		{"releaseProfile", "8.9", "4.2", X_RETRY, "UNAVAILABLE"},
		{"cancelOrder", "8.9", "4.2", X_RETRY, "UNAVAILABLE"},
		{"confirmOrder", "8.9", "5.1", X_RETRY, "UNAVAILABLE"},
		{"releaseProfile", "8.9", "5.1", X_RETRY, "UNAVAILABLE"},
		{"cancelOrder", "8.9", "5.1", X_RETRY, "UNAVAILABLE"},
		{"cancelOrder", "8.9.1", "5.1", X_RETRY, "UNAVAILABLE"},
		{"downloadOrder", "1.1", "3.9", X_PARK, "PERMISSION_DENIED"},
		{"releaseProfile", "1.2", "3.8", X_PARK, "PERMISSION_DENIED"},
		{"downloadOrder", "1.3.2", "2.1", X_FAIL, "SERVICE_NOT_APPLICABLE"},
		{"cancelOrder", "1.6", "3.1", X_FAIL, "NOT_IMPLEMENTED"},
		{"downloadOrder", "8.8", "4.10", X_RETRY, "TIMEOUT"},
		{"confirmOrder", "8", "4.2", X_LOST, "INTERNAL"},
		{"downloadOrder", "8.8", "4.2", X_LOST, "INTERNAL"},
		{"releaseProfile", "8.8", "5.1", X_LOST, "UNAVAILABLE"},
		/* by class */
		{"releaseProfile", "8.2.2", "1.1", X_FAIL, "PERMISSION_DENIED"},
		{"confirmOrder", "8.2.7", "2.1", X_FAIL, "INVALID_ARGUMENT"},
		{"releaseProfile", "8.7", "3.3", X_FAIL, "CONFLICT"},
		{"releaseProfile", "8.7", "3.5", X_FAIL, "INCOMPATIBLE_STATE"},
		{"releaseProfile", "8.7", "3.7", X_FAIL, "UNAVAILABLE"},
		{"releaseProfile", "8.7", "3.9", X_FAIL, "NOT_FOUND"},
		{"releaseProfile", "8.7", "3.10", X_FAIL, "IDENTIFIER_MISMATCH"},
		{"releaseProfile", "8.7", "3.11", X_FAIL, "SERVICE_NOT_APPLICABLE"},
		{"releaseProfile", "8.7", "6.1", X_FAIL, "PERMISSION_DENIED"},
		{"releaseProfile", "9", "9", X_FAIL, "SERVICE_NOT_APPLICABLE"},
		{"releaseProfile", "", "", X_FAIL, "SERVICE_NOT_APPLICABLE"},
		{"releaseProfile", "8.20", "40.1", X_FAIL, "SERVICE_NOT_APPLICABLE"},
	};
	char		said[64];
	size_t		i;

	for (i = 0; i < lengthof(rows); i++)
	{
		bool		good = false;
		int			before;

		to_function(rows[i].function);
		before = sends;
		answer_failed(rows[i].subject, rows[i].reason);
		if (strcmp(rows[i].subject, "8.2.1") == 0 && strcmp(rows[i].reason, "3.9") == 0 &&
			sends_to(rows[i].function) && sends == before + 1)
		{
			/* the ICCID without padding */
			answer_failed(rows[i].subject, rows[i].reason);
		}
		snprintf(said, sizeof(said), "%s/%s", rows[i].subject, rows[i].reason);
		switch (rows[i].expected)
		{
			case X_FAIL:
				good = fails(rows[i].code) && !op.unresolved &&
					(rows[i].subject[0] == '\0' || text_is(conv.action.rsp_code, said)) &&
					text_is(conv.action.rsp_message, "said so");
				if (strcmp(rows[i].function, "confirmOrder") == 0 ||
					strcmp(rows[i].function, "downloadOrder") == 0)
					good = good && state_is(RSP_STATE_FAILED);
				else
					good = good && !conv.action.profile_state_set;
				break;
			case X_RETRY:
				good = waits(RSP_PHASE_RETRYING) && !op.unresolved &&
					text_is(conv.action.code, rows[i].code);
				again();
				good = good && sends_to(rows[i].function);
				break;
			case X_PARK:
				good = waits(RSP_PHASE_PARKED) && !op.unresolved &&
					text_is(conv.action.code, rows[i].code) && conv.action.delay_ms > 200000;
				again();
				good = good && sends_to(rows[i].function);
				break;
			case X_LOST:
				good = waits(RSP_PHASE_UNKNOWN) && op.unresolved &&
					text_is(conv.action.code, rows[i].code);
				break;
			case X_DONE:
				good = is(RSP_ACT_DONE);
				break;
			case X_AGAIN:
				good = sends_to(rows[i].function) && sends == before + 1;
				break;
		}
		check(good, "%s, %s", rows[i].function, said);
	}

	/* half done: the order can be cancelled */
	setup(RSP_RESERVE);
	op.profile_type = "A";
	begin();
	answer_ordered(ICCID1F);
	answer_failed("8.2.6", "2.1");
	check(fails("INVALID_ARGUMENT") && state_is(RSP_STATE_FAILED) &&
		  text_is(conv.action.iccid, ICCID1) && text_is(conv.facts.rsp_id, ICCID1F) &&
		  conv.facts.matching_id[0] == '\0', "half done: FAILED, with the ICCID of the order");
	setup(RSP_DOWNLOAD);
	begin();
	answer_ordered(ICCID1F);
	answer_failed("8.2.6", "2.1");
	check(fails("INVALID_ARGUMENT") && text_is(conv.facts.reserved_eid, EID1),
		  "half done: with the EID of the order");
	setup(RSP_RESERVE);
	op.profile_type = "A";
	begin();
	answer_ordered(ICCID1F);
	strcpy(said, body_text("matchingId"));
	answer_outcome(HTTP_LOST);
	again();
	answer_failed("8.2.6", "2.1");
	check(fails("INVALID_ARGUMENT") && text_is(conv.facts.matching_id, said),
		  "and with the matching ID that may stand");
	setup(RSP_RESERVE);
	begin();
	answer_failed("8.2.5", "3.9");
	check(fails("NOT_FOUND") && state_is(RSP_STATE_FAILED) && conv.action.iccid[0] == '\0',
		  "not done at all: FAILED");
	setup(RSP_DOWNLOAD);
	begin();
	answer_failed("8.2.5", "3.9");
	check(fails("NOT_FOUND") && !conv.action.profile_state_set,
		  "a download that was not ordered leaves the profile");

	/* MatchingIDs in use */
	setup(RSP_RESERVE);
	op.iccid = ICCID1;
	begin();
	answer_ordered(ICCID1);
	{
		char		first[64];

		strcpy(first, body_text("matchingId"));
		answer_failed("8.2.6", "3.3");
		check(sends_to("confirmOrder") && strcmp(first, body_text("matchingId")) != 0,
			  "a matching ID in use: another one");
	}
	answer_failed("8.2.6", "3.3");
	answer_failed("8.2.6", "3.3");
	check(fails("ALREADY_EXISTS") && sends == 4, "but not for ever");
	setup(RSP_RESERVE);
	op.matching_id = "MINE";
	begin();
	answer_ordered(ICCID1);
	answer_failed("8.2.6", "3.3");
	check(fails("ALREADY_EXISTS"), "a given one in use");

	/* Expired */
	setup(RSP_RESERVE);
	op.profile_type = "A";
	begin();
	answer(200, "{" STATUS("Expired") "}");
	check(waits(RSP_PHASE_RETRYING) && !op.unresolved, "Expired: not carried out");
	again();
	check(sends_to("downloadOrder"), "so it is asked for again");

	/* stock */
	setup(RSP_RESERVE);
	op.profile_type = "A";
	begin();
	answer_failed("8.2.5", "3.7");
	check(conv.action.delay_ms > 800000, "stock is looked at seldom");
	answer_raw(HTTP_ANSWERED, 429, "", 0, 5000);
	check(waits(RSP_PHASE_RETRYING) && conv.action.delay_ms >= 5000 &&
		  conv.action.delay_ms < 6000, "429 with Retry-After");
}

static void
test_http(void)
{
	static const int parked[] = {401, 403, 404, 405, 406, 407, 411, 413, 414, 415, 421, 426, 431,
	501, 505};
	static const int tried[] = {408, 425, 429};
	static const int unknown[] = {100, 201, 204, 301, 302, 307, 400, 402, 409, 410, 412, 422, 418,
	500, 502, 503, 504, 599};
	size_t		i;
	int			n;

	for (n = 0, i = 0; i < lengthof(parked); i++)
	{
		setup(RSP_RESERVE);
		begin();
		answer(parked[i], "<html>");
		n += waits(RSP_PHASE_PARKED) && !op.unresolved && conv.action.code[0] != '\0';
	}
	check(n == lengthof(parked), "statuses of what was not reached: parked");
	for (n = 0, i = 0; i < lengthof(tried); i++)
	{
		setup(RSP_RESERVE);
		begin();
		answer(tried[i], "<html>");
		n += waits(RSP_PHASE_RETRYING) && !op.unresolved;
	}
	check(n == lengthof(tried), "statuses of what was not taken: tried again");
	for (n = 0, i = 0; i < lengthof(unknown); i++)
	{
		setup(RSP_RESERVE);
		begin();
		answer(unknown[i], "");
		n += fails("OUTCOME_UNKNOWN") && sends == 1;
		setup(RSP_RESERVE);
		op.iccid = ICCID1;
		begin();
		answer(unknown[i], "");
		n += waits(RSP_PHASE_UNKNOWN) && op.unresolved;
		again();
		n += unknown[i] == 400 || unknown[i] == 422 ? sends_to("downloadOrder") :
			sends_to("confirmOrder");
	}
	check(n == 3 * lengthof(unknown),
		  "all others: unknown; no second order without an ICCID, else confirmOrder");

	/* a schema that knows no padding */
	for (n = 0, i = 0; i < 2; i++)
	{
		setup(RSP_RESERVE);
		op.iccid = ICCID1;
		begin();
		n += text_is(body_text("iccid"), ICCID1F);
		answer(i ? 422 : 400, "{\"code\":400,\"message\":\"schema\"}");
		again();
		n += sends_to("downloadOrder") && text_is(body_text("iccid"), ICCID1);
		if (i)
			answer_ordered(ICCID1);
		else
			answer_failed("8.2.1", "3.3");	/* it was done for all that */
		n += sends_to("confirmOrder") && text_is(body_text("iccid"), ICCID1);
		answer_confirmed("X");
		n += is(RSP_ACT_DONE) && text_is(conv.facts.rsp_id, ICCID1) && sends == 3;
	}
	check(n == 8, "400 and 422: the order once more, without padding");
	setup(RSP_RESERVE);
	op.iccid = ICCID1;
	begin();
	answer(400, "");
	again();
	answer(400, "");
	again();
	check(sends_to("confirmOrder") && text_is(body_text("iccid"), ICCID1), "but once only");
	setup(RSP_RESERVE);
	op.iccid = ICCID2;
	begin();
	answer(400, "");
	again();
	check(sends_to("confirmOrder") && text_is(body_text("iccid"), ICCID2),
		  "20 digits were never padded");
	setup(RSP_CANCEL_ORDER);
	op.reserved_eid = EID1;
	begin();
	n = text_is(body_text("iccid"), ICCID1F);
	answer(400, "");
	again();
	check(n && sends_to("cancelOrder") && text_is(body_text("iccid"), ICCID1),
		  "other functions, too");
	answer_failed("8.2.1", "2.1");
	check(sends_to("cancelOrder") && text_is(body_text("iccid"), ICCID1F),
		  "and back, if that is what the SM-DP+ does not take");
	answer_failed("8.2.1", "2.1");
	check(is(RSP_ACT_FAIL), "once");

	/* paths */
	{
		static const char *const urls[][2] = {
			{"https://smdp.example.com", "POST /gsma/rsp2/es2plus/releaseProfile"},
			{"https://smdp.example.com/aep", "POST /gsma/rsp2/es2plus/releaseProfile"},
			{"https://smdp.example.com/es2plus", "POST /gsma/rsp2/es2plus/releaseProfile"},
			{"https://smdp.example.com/gsma", "POST /gsma/rsp2/es2plus/releaseProfile"},
			{"https://smdp.example.com/gsma/rsp2/es2plus", "POST /releaseProfile"},
			{"https://smdp.example.com/aep/gsma/rsp2/es2plus/smdp", "POST /releaseProfile"},
			{"https://smdp.example.com/gsma/rsp/v2/es2plus", "POST /releaseProfile"},
		};

		for (i = 0; i < lengthof(urls); i++)
		{
			setup(RSP_RELEASE);
			server.url = urls[i][0];
			begin();
			check(text_is(last_path, urls[i][1]), "path at %s", urls[i][0]);
		}
	}

	setup(RSP_RELEASE);
	begin();
	answer(500, "{\"header\":{\"functionExecutionStatus\":{\"status\":\"Failed\",\"statusCodeData\":"
		   "{\"subjectCode\":\"8.2.1\",\"reasonCode\":\"1.2\"}}}}");
	check(fails("PERMISSION_DENIED"), "a failure in its own shape counts with any status");
	setup(RSP_RELEASE);
	begin();
	answer(500, DONE);
	check(waits(RSP_PHASE_UNKNOWN), "success does not");

	setup(RSP_RESERVE);
	begin();
	answer_outcome(HTTP_NOT_SENT);
	check(waits(RSP_PHASE_RETRYING) && conv.action.server_trouble && !op.unresolved, "not sent");
	again();
	check(sends_to("downloadOrder") && op.step == 0, "is sent again");

	setup(RSP_RELEASE);
	for (n = 0; n < 20; n++)
	{
		begin();
		if (conv.action.type == RSP_ACT_FAIL)
			break;
		answer(200, "garbage");
		op.now_ms += conv.action.delay_ms;
		if (conv.action.type == RSP_ACT_FAIL)
			break;
	}
	check(fails("OUTCOME_UNKNOWN") && n > 5, "patience with answers without sense ends");
	setup(RSP_RELEASE);
	for (n = 0; n < 40; n++)
	{
		begin();
		answer_outcome(n % 2 ? HTTP_NOT_SENT : HTTP_LOST);
		op.now_ms += conv.action.delay_ms;
	}
	check(waits(RSP_PHASE_UNKNOWN) && op.unresolved && conv.action.server_trouble,
		  "with a server that does not answer it does not");
}

/* ----- lost answers, one at a time ----- */

static void
test_lost(void)
{
	char		matching_id[64];

	/* downloadOrder without an ICCID */
	setup(RSP_RESERVE);
	op.eid = EID1;
	op.profile_type = "A";
	begin();
	answer_outcome(HTTP_LOST);
	check(fails("OUTCOME_UNKNOWN") && sends == 1 && state_is(RSP_STATE_FAILED),
		  "lost order without ICCID: OUTCOME_UNKNOWN, no second one");
	setup(RSP_RESERVE);
	begin();
	crash();
	begin();
	check(fails("OUTCOME_UNKNOWN") && sends == 1, "the same after a crash");
	setup(RSP_RESERVE);
	begin();
	crash_unsent();
	begin();
	check(sends_to("downloadOrder"), "a crash before anything was sent");
	setup(RSP_RELEASE);
	op.iccid = NULL;
	op.unresolved = true;
	op.attempts = 1;
	op.first_sent_ms = op.last_sent_ms = T0 - 1000;
	begin();
	check(fails("OUTCOME_UNKNOWN") && sends == 0,
		  "a release that may have been done, of a profile whose ICCID is gone");

	/* with one: done */
	setup(RSP_RESERVE);
	op.iccid = ICCID1;
	begin();
	answer_outcome(HTTP_LOST);
	check(waits(RSP_PHASE_UNKNOWN) && op.unresolved && conv.action.server_trouble,
		  "lost order of an ICCID");
	again();
	check(sends_to("confirmOrder"), "confirmOrder follows");
	answer_confirmed(body_text("matchingId"));
	check(is(RSP_ACT_DONE) && sends == 2 && !op.unresolved, "its success proves the order");
	setup(RSP_RESERVE);
	op.iccid = ICCID1;
	begin();
	crash();
	begin();
	check(sends_to("confirmOrder"), "the same after a crash");

	/* with one: not done */
	setup(RSP_RESERVE);
	op.iccid = ICCID1;
	begin();
	answer_outcome(HTTP_LOST);
	again();
	answer_failed("8.2.1", "3.3");
	check(waits(RSP_PHASE_UNKNOWN) && op.unresolved, "refused at once: the order may be under way");
	op.now_ms += 60000;
	begin();
	check(sends_to("confirmOrder"), "asked again later");
	answer_failed("8.2.1", "3.5");
	check(sends_to("downloadOrder"), "then the order is repeated");
	answer_ordered(ICCID1);
	check(sends_to("confirmOrder"), "and confirmed");
	answer_confirmed("");
	check(is(RSP_ACT_DONE) && state_is(RSP_STATE_RELEASED), "done after all");

	/* with one: it is another's */
	setup(RSP_RESERVE);
	op.iccid = ICCID1;
	begin();
	answer_outcome(HTTP_LOST);
	op.now_ms += 100000;
	begin();
	answer_failed("8.2.1", "3.3");
	answer_failed("8.2.1", "3.3");
	answer_failed("8.2.1", "3.3");
	answer_failed("8.2.1", "3.3");
	answer_failed("8.2.1", "3.3");
	check(fails("INCOMPATIBLE_STATE") && sends == 6, "neither ordered nor confirmed: refused");

	/* confirmOrder */
	setup(RSP_RESERVE);
	op.profile_type = "A";
	begin();
	answer_ordered(ICCID1F);
	strcpy(matching_id, body_text("matchingId"));
	answer_outcome(HTTP_LOST);
	check(waits(RSP_PHASE_UNKNOWN) && text_is(conv.action.iccid, ICCID1), "lost confirmation");
	again();
	check(sends_to("confirmOrder") && text_is(body_text("matchingId"), matching_id) &&
		  text_is(body_text("iccid"), ICCID1F), "is repeated with the same matching ID");
	answer_failed("8.2.1", "3.3");
	check(is(RSP_ACT_DONE) && text_is(conv.facts.matching_id, matching_id) &&
		  text_is(conv.action.iccid, ICCID1), "refused because it is done");
	setup(RSP_RESERVE);
	op.profile_type = "A";
	begin();
	answer_ordered(ICCID1F);
	strcpy(matching_id, body_text("matchingId"));
	crash();
	begin();
	check(sends_to("confirmOrder") && text_is(body_text("matchingId"), matching_id),
		  "the same after a crash");
	answer_failed("8.2.6", "3.3");
	check(is(RSP_ACT_DONE) && text_is(conv.facts.matching_id, matching_id),
		  "our matching ID in use: by us");
	setup(RSP_RESERVE);
	op.matching_id = "MINE";
	begin();
	answer_ordered(ICCID1F);
	answer_outcome(HTTP_LOST);
	again();
	answer_failed("8.2.6", "3.3");
	check(fails("OUTCOME_UNKNOWN"), "a given one in use: by whom is not known");
	setup(RSP_RESERVE);
	server.matching_id_source = "server";
	begin();
	answer_ordered(ICCID1F);
	answer_outcome(HTTP_LOST);
	again();
	answer_failed("8.2.1", "3.3");
	check(fails("OUTCOME_UNKNOWN") && text_is(conv.action.iccid, ICCID1) &&
		  state_is(RSP_STATE_FAILED), "the server's matching ID is lost");
	setup(RSP_DOWNLOAD);
	begin();
	answer_ordered(ICCID1F);
	answer_outcome(HTTP_LOST);
	again();
	answer_failed("8.2.1", "3.3");
	check(waits(RSP_PHASE_WAITING_DEVICE) && !op.unresolved, "a download: confirmed");

	/* both lost, nothing proved */
	setup(RSP_RESERVE);
	op.iccid = ICCID1;
	begin();
	answer_outcome(HTTP_LOST);
	again();
	answer_outcome(HTTP_LOST);
	op.now_ms += 100000;
	begin();
	check(sends_to("confirmOrder"), "both answers lost");
	answer_failed("8.2.1", "3.3");
	answer_failed("8.2.1", "3.3");
	answer_failed("8.2.1", "3.3");
	answer_failed("8.2.1", "3.3");
	answer_failed("8.2.1", "3.3");
	check(fails("OUTCOME_UNKNOWN"), "and never known whose the order is");
	setup(RSP_RESERVE);
	op.iccid = ICCID1;
	begin();
	answer_outcome(HTTP_LOST);
	again();
	crash();
	begin();
	check(sends_to("confirmOrder") && json_is_true(json_object_get(op.memo, "lost_confirm")),
		  "a crash during the confirmation of a lost order is noted");
	answer_outcome(HTTP_NOT_SENT);
	check(waits(RSP_PHASE_UNKNOWN) && op.unresolved, "what was not sent leaves the doubt");
	setup(RSP_RESERVE);
	op.iccid = ICCID1;
	begin();
	answer_outcome(HTTP_LOST);
	again();
	answer_outcome(HTTP_NOT_SENT);
	again();
	check(!json_is_true(json_object_get(op.memo, "lost_confirm")),
		  "and a confirmation that was not sent is not in doubt");

	/* the repeated order lost */
	setup(RSP_RESERVE);
	op.iccid = ICCID1;
	begin();
	answer_outcome(HTTP_LOST);
	op.now_ms += 100000;
	begin();
	answer_failed("8.2.1", "3.3");
	check(sends_to("downloadOrder") && op.step != 0, "the order is repeated");
	answer_outcome(HTTP_LOST);
	again();
	check(sends_to("confirmOrder"), "lost again: confirmOrder");
	answer_confirmed("");
	check(is(RSP_ACT_DONE), "which is taken");

	/* releaseProfile, cancelOrder */
	setup(RSP_RELEASE);
	begin();
	answer_outcome(HTTP_LOST);
	check(waits(RSP_PHASE_UNKNOWN), "lost release");
	again();
	answer_failed("8.2.1", "3.5");
	check(is(RSP_ACT_DONE) && state_is(RSP_STATE_RELEASED), "it is released");
	setup(RSP_CANCEL_ORDER);
	op.reserved_eid = EID1;
	op.profile_matching_id = "M-1";
	begin();
	answer_outcome(HTTP_LOST);
	again();
	check(text_is(body_text("matchingId"), "M-1") && text_is(body_text("eid"), EID1),
		  "a lost cancellation is repeated with EID and matching ID");
	answer_failed("8.2.6", "3.10");
	check(is(RSP_ACT_DONE) && state_is(RSP_STATE_CANCELLED), "this order stands no more");
	setup(RSP_CANCEL_ORDER);
	op.reserved_eid = EID1;
	begin();
	crash();
	begin();
	answer_failed("8.2.1", "3.3");
	check(fails("OUTCOME_UNKNOWN"), "it was released: cancelled, or downloaded");
	setup(RSP_CANCEL_ORDER);
	op.reserved_eid = EID1;
	op.state = RSP_STATE_RESERVED;
	begin();
	crash();
	begin();
	answer_failed("8.2.1", "3.3");
	check(is(RSP_ACT_DONE), "it was not: cancelled");
	setup(RSP_CANCEL_ORDER);
	op.final_status = "Unavailable";
	begin();
	answer_outcome(HTTP_LOST);
	again();
	answer_failed("8.2.1", "3.9");
	check(sends_to("cancelOrder") && text_is(body_text("iccid"), ICCID1), "not known with padding");
	answer_failed("8.2.1", "3.9");
	check(is(RSP_ACT_DONE), "there is no such profile any more");

	/* whether the matching ID was confirmed is not known */
	setup(RSP_CANCEL_ORDER);
	op.state = RSP_STATE_FAILED;
	op.profile_matching_id = "MINE";
	op.rsp_id = ICCID1F;
	begin();
	check(text_is(body_text("matchingId"), "MINE") && text_is(body_text("iccid"), ICCID1F),
		  "a failed order is cancelled with its matching ID");
	answer_failed("8.2.6", "3.10");
	check(sends_to("cancelOrder") && member("matchingId") == NULL,
		  "or without, if there is none");
	answer(200, DONE);
	check(is(RSP_ACT_DONE) && state_is(RSP_STATE_CANCELLED), "it is cancelled");
	setup(RSP_CANCEL_ORDER);
	op.state = RSP_STATE_FAILED;
	op.profile_matching_id = "MINE";
	op.rsp_id = ICCID1F;
	begin();
	answer_outcome(HTTP_LOST);
	again();
	answer_failed("8.2.6", "3.10");
	check(fails("OUTCOME_UNKNOWN"), "after a lost answer that may mean either");
	setup(RSP_CANCEL_ORDER);
	op.state = RSP_STATE_FAILED;
	op.profile_matching_id = "MINE";
	op.rsp_id = ICCID1F;
	begin();
	answer_failed("8.2.6", "3.10");
	answer_outcome(HTTP_LOST);
	check(fails("OUTCOME_UNKNOWN"), "without a matching ID a lost answer is not repeated");
	setup(RSP_CANCEL_ORDER);
	op.rsp_id = ICCID1;
	begin();
	check(text_is(body_text("iccid"), ICCID1), "an ICCID that the server writes without padding");
	answer_failed("8.2.1", "3.9");
	check(fails("IDENTIFIER_NOT_FOUND") && sends == 1, "is written in no other way");
	setup(RSP_CANCEL_ORDER);
	begin();
	answer_outcome(HTTP_LOST);
	check(fails("OUTCOME_UNKNOWN") && sends == 1,
		  "without EID and matching ID: no repeat that could cancel another's order");

	/* promotion of a standby */
	setup(RSP_RESERVE);
	op.ask_first = true;
	begin();
	check(is(RSP_ACT_PARK) && !op.ask_first && sends == 0, "another timeline, no intent: parked");
	begin();
	check(sends_to("downloadOrder"), "after esim_resume() it is sent");
	setup(RSP_RESERVE);
	op.iccid = ICCID1;
	begin();
	crash();
	op.ask_first = true;
	begin();
	check(fails("OUTCOME_UNKNOWN") && sends == 1, "with an intent: OUTCOME_UNKNOWN");
}

/* ----- hostile answers ----- */

/* Failed without codes, as pySim's server says it */
static void
test_unexplained(void)
{
	static const RspKind kinds[] = {RSP_RELEASE, RSP_CANCEL_ORDER};
	static const char *const words[] = {"{" STATUS("Failed") "}",
		"{\"header\":{\"functionExecutionStatus\":{\"status\":\"Failed\",\"statusCodeData\":null}}}"};
	size_t		i;
	int			n = 0;

	for (i = 0; i < lengthof(kinds); i++)
	{
		setup(kinds[i]);
		op.reserved_eid = EID1;
		begin();
		answer(200, words[i]);
		n += fails("SERVICE_NOT_APPLICABLE");
		setup(kinds[i]);
		op.reserved_eid = EID1;
		begin();
		answer_outcome(HTTP_LOST);
		again();
		answer(200, words[i]);
		n += fails("OUTCOME_UNKNOWN");
	}
	for (i = 0; i < 3; i++)
	{
		setup(RSP_RESERVE);
		op.iccid = ICCID1;
		begin();
		if (i > 0)
			answer_ordered(ICCID1);
		if (i != 1)
		{
			answer_outcome(HTTP_LOST);
			again();
		}
		n += sends_to("confirmOrder");
		answer(200, words[i % 2]);
		if (i > 0)
			n += fails(i == 1 ? "SERVICE_NOT_APPLICABLE" : "OUTCOME_UNKNOWN");
		else
			n += waits(RSP_PHASE_UNKNOWN);
	}
	check(n == 10, "Failed without a reason is final, but after a lost answer OUTCOME_UNKNOWN");

	/* an order of a known ICCID can be repeated */
	for (i = 0; i < 2; i++)
	{
		setup(RSP_RESERVE);
		op.iccid = ICCID1;
		begin();
		answer_outcome(HTTP_LOST);
		op.now_ms += HOUR;
		begin();
		answer(200, words[i]);
		n = sends_to("downloadOrder");
		if (i == 0)
		{
			answer_ordered(ICCID1);
			answer_confirmed("X");
			check(n && is(RSP_ACT_DONE) && sends == 4, "the order once more: it never came");
			continue;
		}
		while (conv.action.type == RSP_ACT_SEND && sends < 20)
			answer(200, words[0]);
		check(n && fails("OUTCOME_UNKNOWN") && sends == 6,
			  "neither taken nor confirmed: OUTCOME_UNKNOWN");
	}
}

static void
test_hostile(void)
{
	static const char *const bodies[] = {
		"", " ", "{", "}", "null", "true", "[]", "{}", "\"x\"", "4711", "<html>no</html>",
		"{\"header\":null}", "{\"header\":[]}", "{\"header\":{}}", "{\"header\":\"Executed-Success\"}",
		"{\"header\":{\"functionExecutionStatus\":null}}",
		"{\"header\":{\"functionExecutionStatus\":[]}}",
		"{\"header\":{\"functionExecutionStatus\":{}}}",
		"{\"header\":{\"functionExecutionStatus\":{\"status\":null}}}",
		"{\"header\":{\"functionExecutionStatus\":{\"status\":1}}}",
		"{\"header\":{\"functionExecutionStatus\":{\"status\":\"\"}}}",
		"{\"header\":{\"functionExecutionStatus\":{\"status\":\"OK\"}}}",
		"{\"header\":{\"functionExecutionStatus\":{\"status\":\"Executed-Success\\u0000\"}}}",
		"{\"header\":{\"functionExecutionStatus\":{\"status\":\"Executed-Success\",\"status\":\"Failed\"}}}",
		"{" EXECUTED "",
		"{" EXECUTED "}trailing",
		"{" EXECUTED ",\"iccid\":8944478600003770170}",
		"{" EXECUTED ",\"iccid\":\"F\"}",
		"{" EXECUTED ",\"iccid\":\"1234567890123456789\"}",
		"{" EXECUTED ",\"iccid\":\"89444786000037701\"}",
		"{" EXECUTED ",\"iccid\":\"894447860000377017012\"}",
		"{" EXECUTED ",\"iccid\":\"8944478600003770170FF\"}",
		"{" EXECUTED ",\"iccid\":\"89444786000037701F0F\"}",
		"{" EXECUTED ",\"iccid\":\"" ICCID2 "\"}",
		"{" EXECUTED ",\"iccid\":\"8944478600003770170\\n\"}",
		"{" EXECUTED ",\"iccid\":[\"" ICCID1 "\"]}",
		"{" EXECUTED ",\"iccid\":\"\xff\xfe\"}",
		"{" EXECUTED ",\"iccid\":\"" ICCID1 "\",\"x\":\"\xc0\xaf\"}",
	};
	static const char *const confirmations[] = {
		"{" EXECUTED ",\"matchingId\":1}",
		"{" EXECUTED ",\"matchingId\":\"A$B\"}",
		"{" EXECUTED ",\"matchingId\":\"A B\\u0001\"}",
		"{" EXECUTED ",\"matchingId\":[]}",
		"{" EXECUTED ",\"matchingId\":\"X\",\"eid\":\"" EID2 "\"}",
		"{" EXECUTED ",\"matchingId\":\"X\",\"eid\":1}",
		"{" EXECUTED ",\"matchingId\":\"X\",\"eid\":\"89\"}",
		"{" EXECUTED ",\"matchingId\":\"X\xff\"}",
	};
	static const char *const failures[] = {
		"{\"header\":{\"functionExecutionStatus\":{\"status\":\"Failed\"}}}",
		"{\"header\":{\"functionExecutionStatus\":{\"status\":\"Failed\",\"statusCodeData\":null}}}",
		"{\"header\":{\"functionExecutionStatus\":{\"status\":\"Failed\",\"statusCodeData\":[]}}}",
		"{\"header\":{\"functionExecutionStatus\":{\"status\":\"Failed\",\"statusCodeData\":{\"subjectCode\":8.2,\"reasonCode\":3.1}}}}",
		"{\"header\":{\"functionExecutionStatus\":{\"status\":\"Failed\",\"statusCodeData\":{\"subjectCode\":\"8.2.1; DROP\",\"reasonCode\":\"x\"}}}}",
		"{\"header\":{\"functionExecutionStatus\":{\"status\":\"Failed\",\"statusCodeData\":{\"subjectCode\":\"8.2.1.1.1.1.1.1.1.1.1.1.1.1.1\",\"reasonCode\":\"3.9\"}}}}",
	};
	size_t		i;
	int			n;
	char	   *big;
	char		long_id[700];

	for (i = 0; i < lengthof(bodies); i++)
	{
		setup(RSP_RESERVE);
		begin();
		answer(200, bodies[i]);
		if (strstr(bodies[i], "\"" ICCID2 "\"") != NULL)
		{
			check(sends_to("confirmOrder"), "hostile answer %zu: any ICCID will do", i);
			continue;
		}
		check(fails("OUTCOME_UNKNOWN") && sends == 1, "hostile answer %zu to an order", i);
		setup(RSP_RESERVE);
		op.iccid = ICCID1;
		begin();
		answer(200, bodies[i]);
		if (!check(waits(RSP_PHASE_UNKNOWN) && conv.outcome[0] != '\0' && conv.detail[0] != '\0',
				   "hostile answer %zu to an order of an ICCID", i))
			printf("# %s\n", bodies[i]);
	}
	setup(RSP_RESERVE);
	op.iccid = ICCID1;
	begin();
	answer(200, "{" EXECUTED ",\"iccid\":\"" ICCID2 "\"}");
	check(waits(RSP_PHASE_UNKNOWN), "another ICCID is not believed");
	for (i = 0; i < lengthof(confirmations); i++)
	{
		setup(RSP_RESERVE);
		op.eid = EID1;
		begin();
		answer_ordered(ICCID1);
		answer(200, confirmations[i]);
		n = waits(RSP_PHASE_UNKNOWN) && op.unresolved && text_is(conv.action.iccid, ICCID1);
		again();
		check(n && sends_to("confirmOrder"), "hostile confirmation %zu", i);
	}
	setup(RSP_RESERVE);
	server.matching_id_source = "server";
	begin();
	answer_ordered(ICCID1);
	answer(200, DONE);
	check(waits(RSP_PHASE_UNKNOWN), "no matching ID where the server was to make one");
	for (i = 0; i < lengthof(failures); i++)
	{
		setup(RSP_RELEASE);
		begin();
		answer(200, failures[i]);
		check(is(RSP_ACT_FAIL) && conv.action.code[0] != '\0' &&
			  strchr(conv.action.rsp_code, ';') == NULL, "hostile failure %zu", i);
	}

	/* null, or nothing, for what is left out */
	setup(RSP_RESERVE);
	op.iccid = ICCID1;
	begin();
	answer(200, "{" EXECUTED ",\"iccid\":null}");
	n = sends_to("confirmOrder");
	answer(200, "{\"header\":{\"functionExecutionStatus\":{\"status\":\"Executed-Success\","
		   "\"statusCodeData\":null}},\"eid\":null,\"matchingId\":null,\"smdpAddress\":null}");
	check(n && is(RSP_ACT_DONE) && strlen(conv.facts.matching_id) == 23 &&
		  text_is(conv.facts.smdp_address, "smdp.example.com"), "members that are null");
	setup(RSP_RESERVE);
	op.iccid = ICCID1;
	begin();
	answer_ordered("");
	n = sends_to("confirmOrder");
	answer(200, "{" EXECUTED ",\"eid\":\"\",\"matchingId\":\"\",\"smdpAddress\":\"\"}");
	check(n && is(RSP_ACT_DONE) && strlen(conv.facts.matching_id) == 23, "members that are empty");
	setup(RSP_RESERVE);
	begin();
	answer(200, "{" EXECUTED ",\"iccid\":null}");
	check(fails("OUTCOME_UNKNOWN") && sends == 1, "but not the ICCID that the SM-DP+ was to choose");
	setup(RSP_RELEASE);
	begin();
	answer(400, "{\"header\":{\"functionExecutionStatus\":{\"status\":\"Failed\",\"code\":\"8.1.4\","
		   "\"message\":\"release failed\"}}}");
	check(fails("SERVICE_NOT_APPLICABLE") && text_is(conv.action.rsp_message, "release failed"),
		  "a message beside the status");

	/* huge, deep, with NULs, broken off */
	big = malloc(4000000);
	memset(big, '[', 4000000);
	setup(RSP_RELEASE);
	begin();
	answer_raw(HTTP_ANSWERED, 200, big, 4000000, -1);
	check(waits(RSP_PHASE_UNKNOWN), "deep");
	n = sprintf(big, "{" EXECUTED ",\"x\":\"");
	memset(big + n, 'a', 3000000);
	strcpy(big + n + 3000000, "\"}");
	setup(RSP_RELEASE);
	begin();
	answer(200, big);
	check(is(RSP_ACT_DONE), "huge but sound");
	setup(RSP_RELEASE);
	begin();
	answer_raw(HTTP_BAD_ANSWER, 200, DONE, strlen(DONE), -1);
	check(waits(RSP_PHASE_UNKNOWN), "broken off");
	memcpy(big, DONE, sizeof(DONE));
	setup(RSP_RELEASE);
	begin();
	answer_raw(HTTP_ANSWERED, 200, big, sizeof(DONE), -1);
	check(waits(RSP_PHASE_UNKNOWN), "NUL behind it");
	free(big);
	memset(long_id, 'A', sizeof(long_id) - 1);
	long_id[sizeof(long_id) - 1] = '\0';
	setup(RSP_RESERVE);
	begin();
	answer_ordered(ICCID1);
	{
		char		body[900];

		snprintf(body, sizeof(body), "{" EXECUTED ",\"matchingId\":\"%s\"}", long_id);
		answer(200, body);
	}
	check(waits(RSP_PHASE_UNKNOWN), "a matching ID that is too long");
	setup(RSP_RELEASE);
	begin();
	{
		char		body[1500];

		snprintf(body, sizeof(body), "{\"header\":{\"functionExecutionStatus\":{\"status\":\"Failed\","
				 "\"statusCodeData\":{\"subjectCode\":\"8.2.1\",\"reasonCode\":\"3.9\",\"message\":"
				 "\"a\\u0007\\u0000%s\"}}}}", long_id);
		answer(200, body);
	}
	check(is(RSP_ACT_WAIT), "NUL within");

	/* notes that make no sense */
	for (n = -3; n < 12; n++)
	{
		static const RspKind kinds[] = {RSP_RESERVE, RSP_RELEASE, RSP_CANCEL_ORDER, RSP_DOWNLOAD};

		for (i = 0; i < lengthof(kinds); i++)
		{
			setup(kinds[i]);
			op.step = n;
			json_object_set_new(op.memo, "iccid", n % 2 ? json_integer(1) : json_string("x"));
			json_object_set_new(op.memo, "rounds", json_string("x"));
			json_object_set_new(op.memo, "mid", json_integer(-1));
			op.unresolved = n % 3 == 0;
			begin();
			if (conv.action.type == RSP_ACT_NONE)
				break;
		}
		if (conv.action.type == RSP_ACT_NONE)
			break;
	}
	check(n == 12, "steps and notes of any kind lead to an action");
	setup(RSP_RESERVE);
	op.eid = "x";
	op.unresolved = true;
	begin();
	check(fails("OUTCOME_UNKNOWN"), "parameters that are no longer valid");
}

/* ----- notifications ----- */

static Es2plusProgress progress;

static bool
reads(const char *text)
{
	const char *reason;

	if (es2plus_progress(text, strlen(text), &progress, &reason))
		return true;
	printf("# %s\n", reason);
	return false;
}

#define STATE "\"notificationPointStatus\":{\"status\":\"Executed-Success\"}"

static void
test_event(void)
{
	static const char *const hostile[] = {
		"", "[]", "null", "{}", "{\"iccid\":1}",
		"{\"iccid\":\"" ICCID1 "\"}",
		"{\"iccid\":\"" ICCID1 "\",\"notificationPointId\":4}",
		"{\"iccid\":\"" ICCID1 "\"," STATE "}",
		"{\"iccid\":\"" ICCID1 "\",\"notificationPointId\":-1," STATE "}",
		"{\"iccid\":\"" ICCID1 "\",\"notificationPointId\":4.5," STATE "}",
		"{\"iccid\":\"" ICCID1 "\",\"notificationPointId\":1e300," STATE "}",
		"{\"iccid\":\"" ICCID1 "\",\"notificationPointId\":99999999999," STATE "}",
		"{\"iccid\":\"" ICCID1 "\",\"notificationPointId\":\"\"," STATE "}",
		"{\"iccid\":\"" ICCID1 "\",\"notificationPointId\":\"four\"," STATE "}",
		"{\"iccid\":\"" ICCID1 "\",\"notificationPointId\":\"4 \"," STATE "}",
		"{\"iccid\":\"" ICCID1 "\",\"notificationPointId\":[4]," STATE "}",
		"{\"iccid\":\"" ICCID1 "\",\"notificationPointId\":4,\"notificationPointStatus\":1}",
		"{\"iccid\":\"" ICCID1 "\",\"notificationPointId\":4,\"notificationPointStatus\":{\"status\":\"fine\"}}",
		"{\"iccid\":\"12\",\"notificationPointId\":4," STATE "}",
		"{\"iccid\":\"" ICCID1 "\",\"eid\":\"12\",\"notificationPointId\":4," STATE "}",
		"{\"iccid\":\"" ICCID1 "\",\"eid\":12,\"notificationPointId\":4," STATE "}",
		"{\"iccid\":\"" ICCID1 "\",\"eid\":\"" EID1 "1\",\"notificationPointId\":4," STATE "}",
		"{\"iccid\":\"" ICCID1 "\xff\",\"notificationPointId\":4," STATE "}",
	};
	static const struct
	{
		const char *time;
		int64_t		ms;
	}			times[] = {
		{"\"timestamp\":\"2026-11-22T13:14:15Z\"", INT64_C(1795353255000)},
		{"\"timestamp\":\"2026-11-22T15:14:15+02:00\"", INT64_C(1795353255000)},
		{"\"timestamp\":\"2026-11-22T07:44:15-05:30\"", INT64_C(1795353255000)},
		{"\"timestamp\":\"2026-11-22T13:14:15.250Z\"", INT64_C(1795353255250)},
		{"\"timestamp\":\"2026-11-22T13:14:15.1234567Z\"", INT64_C(1795353255123)},
		{"\"timestamp\":\"2026-11-22T15:14:15+0200\"", INT64_C(1795353255000)},
		{"\"timeStamp\":\"1795353255\"", INT64_C(1795353255000)},
		{"\"timeStamp\":1795353255", INT64_C(1795353255000)},
		{"\"timeStamp\":1795353255000", INT64_C(1795353255000)},
		{"\"timestamp\":1795353255", INT64_C(1795353255000)},
		{"\"timestamp\":\"2024-02-29T00:00:00Z\"", INT64_C(1709164800000)},
		{"\"timestamp\":\"2000-03-01T00:00:00Z\"", INT64_C(951868800000)},
		{"\"timestamp\":\"2026-02-29T00:00:00Z\"", 0},
		{"\"timestamp\":\"2026-13-01T00:00:00Z\"", 0},
		{"\"timestamp\":\"2026-11-22T13:14:15\"", INT64_C(1795353255000)},
		{"\"timestamp\":\"2026-11-22T13:14:15.123456\"", INT64_C(1795353255123)},
		{"\"timestamp\":\"2026-11-22T13:14:15.123456+00:00\"", INT64_C(1795353255123)},
		{"\"timestamp\":\"2026-11-22T13:14:15 \"", 0},
		{"\"timestamp\":\"20261122131415\"", 0},
		{"\"timestamp\":\"2026-11-22T13:14\"", 0},
		{"\"timestamp\":\"2026-11-22T13:14:15.Z\"", 0},
		{"\"timestamp\":\"2026-11-22T13:14:15+02:0\"", 0},
		{"\"timestamp\":\"yesterday\"", 0},
		{"\"timestamp\":[]", 0},
		{"\"timestamp\":-5", 0},
		{"\"x\":0", 0},
	};
	static const struct
	{
		int			point;
		const char *status;
		const char *subject;
		const char *reason;
		const char *state;
		bool		ends;
		const char *code;
	}			meanings[] = {
		{1, "Executed-Success", "", "", NULL, false, NULL},
		{2, "Executed-Success", "", "", NULL, false, NULL},
		{3, "Executed-Success", "", "", "DOWNLOADED", false, NULL},
		{4, "Executed-Success", "0", "0", "INSTALLED", true, NULL},
		{4, "Executed-WithWarning", "8.1", "4.2", "INSTALLED", true, NULL},
		{4, "Failed", "8.1", "4.8", "FAILED", true, "SERVICE_NOT_APPLICABLE"},
		{4, "Expired", "", "", "FAILED", true, "GONE"},
		{1, "Failed", "8.2.5", "4.3", "FAILED", true, "SERVICE_NOT_APPLICABLE"},
		{1, "Failed", "8.8.5", "6.4", "FAILED", true, "PERMISSION_DENIED"},
		{1, "Failed", "8.1.1", "3.8", NULL, false, "IDENTIFIER_MISMATCH"},
		{1, "Failed", "8.2.6", "3.8", NULL, false, "PERMISSION_DENIED"},
		{1, "Failed", "8.8.5", "4.10", "FAILED", true, "GONE"},
		{1, "Failed", "8.8.5", "4.1", "FAILED", true, "GONE"},
		{2, "Failed", "8.2.7", "3.8", NULL, false, "PERMISSION_DENIED"},
		{2, "Failed", "8.2.7", "2.2", NULL, false, "PERMISSION_DENIED"},
		{2, "Failed", "8.2.7", "6.4", "FAILED", true, "PERMISSION_DENIED"},
		{2, "Failed", "8.8.5", "3.8", "FAILED", true, "ABORTED"},
		{3, "Failed", "8.2", "3.7", "FAILED", true, "INCOMPATIBLE_STATE"},
		{3, "Failed", "8.2", "1.2", NULL, false, "INCOMPATIBLE_STATE"},
		{3, "Failed", "8.2.8", "1.2", "FAILED", true, "SERVICE_NOT_APPLICABLE"},
		{3, "Failed", "8.2.9", "3.11", "FAILED", true, "ABORTED"},
		{3, "Failed", "8.2.10", "4.2", "FAILED", true, "ABORTED"},
		{3, "Failed", "8", "4.2", "FAILED", true, "ABORTED"},
		{3, "Failed", "8.2.10", "3.7", NULL, false, "SERVICE_NOT_APPLICABLE"},
		{5, "Executed-Success", "", "", NULL, false, NULL},
		{101, "Failed", "", "", NULL, false, NULL},
	};
	Es2plusMeaning meaning;
	char		text[600];
	size_t		i;

	check(reads("{\"header\":{\"functionRequesterIdentifier\":\"smdp\",\"functionCallIdentifier\":\"7\"},"
				"\"eid\":\"" EID1 "\",\"iccid\":\"" ICCID1F "\",\"profileType\":\"A\","
				"\"timestamp\":\"2026-11-22T13:14:15Z\",\"notificationPointId\":4,"
				"\"notificationPointStatus\":{\"status\":\"Failed\",\"statusCodeData\":{\"subjectCode\":\"8.1\","
				"\"reasonCode\":\"4.8\",\"message\":\"full\"}},\"resultData\":\"AAAA\"}") &&
		  text_is(progress.iccid, ICCID1) && text_is(progress.eid, EID1) &&
		  progress.point == 4 && progress.execution.status == ES2PLUS_FAILED &&
		  text_is(progress.execution.subject, "8.1") && text_is(progress.execution.reason, "4.8") &&
		  text_is(progress.execution.message, "full") && text_is(progress.profile_type, "A") &&
		  text_is(progress.call_id, "7") && text_is(progress.requester, "smdp") &&
		  progress.has_result && progress.at_ms == INT64_C(1795353255000),
		  "HandleDownloadProgressInfo");
	check(reads("{\"iccid\":\"" ICCID2 "\",\"eid\":null,\"timeStamp\":\"1795353255\","
				"\"notificationPointId\":\"101\",\"notificationPointStatus\":{\"status\":"
				"\"Executed-Success\",\"statusCodeData\":{\"subjectCode\":\"0\",\"reasonCode\":\"0\"}}}") &&
		  text_is(progress.iccid, ICCID2) && progress.eid[0] == '\0' && progress.point == 101 &&
		  progress.execution.subject[0] == '\0' && progress.at_ms == INT64_C(1795353255000),
		  "as CMLink sends it");
	check(reads("{\"iccid\":\"" ICCID1 "\",\"notificationPointId\":4.0,"
				"\"notificationPointStatus\":\"executed-success\"}") && progress.point == 4,
		  "status as a word, point with a fraction of nothing");
	check(reads("{\"header\":{\"functionRequesterIdentifier\":\"smdp\",\"functionCallIdentifier\":\"8\"},"
				"\"eid\":\"" EID1 "\",\"iccid\":\"" ICCID1 "\",\"profileType\":\"A\","
				"\"timestamp\":\"2026-11-22T13:14:15Z\",\"notificationEvent\":4,"
				"\"notificationEventStatus\":{\"status\":\"Executed-Success\"},\"tac\":\"35008957\","
				"\"imei\":\"350089571234565\",\"resultData\":\"AAAA\"}") &&
		  progress.v3 && progress.point == 4 && progress.execution.status == ES2PLUS_SUCCESS &&
		  text_is(progress.iccid, ICCID1) && text_is(progress.eid, EID1) &&
		  text_is(progress.time, "2026-11-22T13:14:15Z"), "HandleNotification");
	check(reads("{\"notificationEvent\":\"11\",\"notificationEventStatus\":{\"status\":\"Failed\"}}") &&
		  progress.v3 && progress.iccid[0] == '\0' && progress.point == 11,
		  "HandleNotification about no profile");
	check(reads("{\"iccid\":\"" ICCID1 "\",\"notificationPointId\":3,\"notificationEvent\":4," STATE "}") &&
		  !progress.v3 && progress.point == 3, "both: HandleDownloadProgressInfo");
	check(!reads("{\"iccid\":\"" ICCID1 "\",\"notificationEvent\":4," STATE "}") &&
		  !reads("{\"iccid\":\"12\",\"notificationEvent\":4,\"notificationEventStatus\":{\"status\":\"Failed\"}}") &&
		  !reads("{\"iccid\":\"" ICCID1 "\",\"notificationEvent\":[],\"notificationEventStatus\":{\"status\":\"Failed\"}}"),
		  "HandleNotification that is none");
	for (i = 0; i < lengthof(times); i++)
	{
		snprintf(text, sizeof(text), "{\"iccid\":\"" ICCID1 "\",\"notificationPointId\":1," STATE ",%s}",
				 times[i].time);
		if (!check(reads(text) && progress.at_ms == times[i].ms, "time: %s", times[i].time))
			printf("# %lld\n", (long long) progress.at_ms);
	}
	for (i = 0; i < lengthof(hostile); i++)
	{
		const char *reason = "";

		check(!es2plus_progress(hostile[i], strlen(hostile[i]), &progress, &reason) &&
			  reason[0] != '\0', "hostile notification %zu: %s", i, reason);
	}
	for (i = 0; i < lengthof(meanings); i++)
	{
		snprintf(text, sizeof(text), "{\"iccid\":\"" ICCID1 "\",\"notificationPointId\":%d,"
				 "\"notificationPointStatus\":{\"status\":\"%s\",\"statusCodeData\":{\"subjectCode\":\"%s\","
				 "\"reasonCode\":\"%s\"}}}", meanings[i].point, meanings[i].status,
				 meanings[i].subject, meanings[i].reason);
		memset(&meaning, 0, sizeof(meaning));
		if (reads(text))
			es2plus_meaning(&progress, &meaning);
		check(meaning.ends == meanings[i].ends &&
			  text_is(meaning.state ? meaning.state : "", meanings[i].state ? meanings[i].state : "") &&
			  text_is(meaning.code ? meaning.code : "", meanings[i].code ? meanings[i].code : ""),
			  "point %d, %s %s/%s", meanings[i].point, meanings[i].status, meanings[i].subject,
			  meanings[i].reason);
	}
	check(es2plus_code_is("8.9.1", "8.9*") && es2plus_code_is("8.9", "8.9*") &&
		  !es2plus_code_is("8.90", "8.9*") && es2plus_code_is("", "*") &&
		  !es2plus_code_is("3.1", "3.10"), "patterns of codes");
}

/* ----- a model of an SM-DP+ that loses answers ----- */

typedef enum Model
{
	AVAILABLE, ALLOCATED, CONFIRMED, RELEASED, UNAVAILABLE
} Model;

#define STOCK 6

static const char *const model_iccids[STOCK] = {
	ICCID1, ICCID2, "8944478600003260131", "8949449999999990023", "891000000000009125",
	"89883070000007537119"
};
static struct
{
	Model		state;
	char		eid[33];
	char		matching_id[64];
	int			orders;
	int			confirmations;
	int			releases;
	int			cancellations;
}			model[STOCK];
static bool model_accepts_repeats;
static bool model_matching_first;
static char model_answer[700];

static const char *
model_failed(const char *subject, const char *reason)
{
	snprintf(model_answer, sizeof(model_answer),
			 "{\"header\":{\"functionExecutionStatus\":{\"status\":\"Failed\",\"statusCodeData\":"
			 "{\"subjectCode\":\"%s\",\"reasonCode\":\"%s\"}}}}", subject, reason);
	return model_answer;
}

/* Carries a request out, and gives the answer. */
static const char *
model_serve(const char *path, const char *body)
{
	const char *function = strrchr(path, '/') + 1;
	json_t	   *root = json_loads(body, 0, NULL);
	const char *text = json_string_value(json_object_get(root, "iccid"));
	const char *eid = json_string_value(json_object_get(root, "eid"));
	const char *matching_id = json_string_value(json_object_get(root, "matchingId"));
	char		iccid[21] = "";
	const char *said = NULL;
	int			i = -1;

	if (text != NULL)
	{
		if (!es2plus_iccid(text, iccid) || (strlen(iccid) == 19 && strlen(text) != 20))
			said = model_failed("8.2.1", "2.1");
		for (i = 0; i < STOCK && strcmp(model_iccids[i], iccid) != 0; i++)
			;
		if (i == STOCK)
			said = model_failed("8.2.1", "3.9");
	}
	if (said != NULL)
		;
	else if (strcmp(function, "downloadOrder") == 0)
	{
		if (i < 0)
			for (i = 0; i < STOCK - 1 && model[i].state != AVAILABLE; i++)
				;
		if (model[i].state != AVAILABLE)
			said = text != NULL ? model_failed("8.2.1", "3.3") : model_failed("8.2.5", "3.7");
		else
		{
			model[i].state = ALLOCATED;
			model[i].orders++;
			snprintf(model[i].eid, sizeof(model[i].eid), "%s", eid ? eid : "");
			model[i].matching_id[0] = '\0';
			snprintf(model_answer, sizeof(model_answer), "{" EXECUTED ",\"iccid\":\"%s%s\"}",
					 model_iccids[i], strlen(model_iccids[i]) == 19 ? "F" : "");
			said = model_answer;
		}
	}
	else if (strcmp(function, "confirmOrder") == 0)
	{
		bool		same = matching_id != NULL &&
			strcmp(model[i].matching_id, matching_id) == 0;

		if (eid != NULL && model[i].eid[0] != '\0' && strcmp(eid, model[i].eid) != 0)
			said = model_failed("8.1.1", "3.10");
		else if (model[i].state == ALLOCATED)
		{
			model[i].state = json_is_true(json_object_get(root, "releaseFlag")) ?
				RELEASED : CONFIRMED;
			model[i].confirmations++;
			snprintf(model[i].matching_id, sizeof(model[i].matching_id), "%s",
					 matching_id ? matching_id : "SERVER-1");
		}
		else if (!model_accepts_repeats || !same || model[i].state == AVAILABLE)
			said = model_matching_first && same && matching_id[0] != '\0' ?
				model_failed("8.2.6", "3.3") : model_failed("8.2.1", "3.3");
		if (said == NULL)
		{
			snprintf(model_answer, sizeof(model_answer),
					 "{" EXECUTED ",\"matchingId\":\"%s\",\"smdpAddress\":\"rsp.example.com\"}",
					 model[i].matching_id);
			said = model_answer;
		}
	}
	else if (strcmp(function, "releaseProfile") == 0)
	{
		if (model[i].state != CONFIRMED)
			said = model_failed("8.2.1", "3.5");
		else
		{
			model[i].state = RELEASED;
			model[i].releases++;
		}
	}
	else
	{
		if (model[i].state == AVAILABLE || model[i].state == UNAVAILABLE)
			said = model_accepts_repeats ? model_failed("8.1.1", "3.1") :
				model_failed("8.2.1", "3.3");
		else if (eid != NULL && strcmp(eid, model[i].eid) != 0)
			said = model_failed("8.1.1", "3.10");
		else if (matching_id != NULL && strcmp(matching_id, model[i].matching_id) != 0)
			said = model_failed("8.2.6", "3.10");
		else
		{
			model[i].state = strcmp(json_string_value(json_object_get(root, "finalProfileStatusIndicator")),
									"Available") == 0 ? AVAILABLE : UNAVAILABLE;
			model[i].cancellations++;
			model[i].eid[0] = model[i].matching_id[0] = '\0';
		}
	}
	json_decref(root);
	return said != NULL ? said : DONE;
}

static int
model_count(Model from, Model to)
{
	int			n = 0;
	int			i;

	for (i = 0; i < STOCK; i++)
		n += model[i].state >= from && model[i].state <= to;
	return n;
}

/*
 * One operation to its end, trouble coming in one of four requests.  NULL: all
 * is as it should be; else what is not.
 */
static const char *
run_model(int seed)
{
	static const RspKind kinds[] = {RSP_RESERVE, RSP_RESERVE, RSP_RELEASE, RSP_CANCEL_ORDER,
	RSP_DOWNLOAD, RSP_RESERVE};
	RspKind		kind;
	bool		known;
	bool		unknown;
	bool		trouble = true;
	char		before_matching[64] = "MODEL-1";
	int			i;
	int			n;

	dice_seed = (unsigned long long) seed * 2654435761ULL + 17;
	dice(2);
	kind = kinds[dice(6)];
	setup(kind);
	memset(model, 0, sizeof(model));
	model_accepts_repeats = dice(2) == 1;
	model_matching_first = dice(2) == 1;
	known = dice(2) == 1 || kind == RSP_RELEASE || kind == RSP_CANCEL_ORDER;
	op.iccid = known ? ICCID1 : NULL;
	if (kind == RSP_RESERVE)
	{
		op.eid = dice(2) ? EID1 : NULL;
		op.release = dice(2) == 1;
		op.profile_type = "A";
		if (dice(4) == 0)
			server.matching_id_source = "server";
	}
	if (kind == RSP_RELEASE || kind == RSP_CANCEL_ORDER)
	{
		strcpy(model[0].matching_id, before_matching);
		strcpy(model[0].eid, EID1);
		model[0].state = kind == RSP_RELEASE || dice(2) ? CONFIRMED : RELEASED;
		op.state = model[0].state == CONFIRMED ? RSP_STATE_RESERVED : RSP_STATE_RELEASED;
		op.reserved_eid = EID1;
		op.profile_matching_id = before_matching;
		save();
	}

	begin();
	for (i = 0; i < 200; i++)
	{
		const char *said;
		char		path[256];
		char		body[1024];

		if (conv.action.type == RSP_ACT_DONE || conv.action.type == RSP_ACT_FAIL)
			break;
		if (conv.action.type == RSP_ACT_NONE)
			return "no action";
		if (conv.action.type == RSP_ACT_WAIT)
		{
			if (conv.action.phase == RSP_PHASE_WAITING_DEVICE)
			{
				if (model_count(RELEASED, RELEASED) != 1)
					return "waits for the device, but nothing is released";
				op.state = RSP_STATE_INSTALLED;
			}
			again();
			continue;
		}
		if (conv.action.type != RSP_ACT_SEND)
			return "an action that is not expected";
		if (i > 60)
			trouble = false;
		snprintf(path, sizeof(path), "%s", conv.action.path);
		snprintf(body, sizeof(body), "%s", conv.action.body);
		switch (trouble ? dice(16) : 15)
		{
			case 0:
				answer_outcome(HTTP_NOT_SENT);
				break;
			case 1:
				answer_outcome(HTTP_LOST);
				break;
			case 2:
				model_serve(path, body);
				answer_outcome(HTTP_LOST);
				break;
			case 3:
				model_serve(path, body);
				answer(200, "{\"header\":{}}");
				break;
			case 4:
				model_serve(path, body);
				crash();
				begin();
				break;
			case 5:
				crash();
				begin();
				break;
			case 6:
				model_serve(path, body);
				answer(dice(2) ? 504 : 400, "gateway");
				break;
			case 7:
				answer(503, "");
				break;
			default:
				said = model_serve(path, body);
				answer(200, said);
				break;
		}
	}
	if (conv.action.type != RSP_ACT_DONE && conv.action.type != RSP_ACT_FAIL)
		return "no end";

	/* no effect twice */
	n = 0;
	for (i = 0; i < STOCK; i++)
	{
		if (model[i].orders > 1 || model[i].confirmations > 1 || model[i].releases > 1 ||
			model[i].cancellations > 1)
			return "an effect twice";
		n += model[i].orders;
	}
	if (n > 1)
		return "a second profile from stock";

	/* and told truly */
	unknown = conv.action.type == RSP_ACT_FAIL && strcmp(conv.action.code, "OUTCOME_UNKNOWN") == 0;
	if (conv.action.type == RSP_ACT_DONE)
	{
		const char *iccid = conv.action.iccid[0] ? conv.action.iccid : op.iccid;

		switch (kind)
		{
			case RSP_RESERVE:
				for (i = 0; i < STOCK - 1 && (iccid == NULL || strcmp(iccid, model_iccids[i]) != 0); i++)
					;
				if (model[i].state != (op.release ? RELEASED : CONFIRMED))
					return "SUCCESS, but it is not reserved";
				if (strcmp(conv.facts.matching_id, model[i].matching_id) != 0 &&
					!(op.eid != NULL && conv.facts.matching_id[0] == '\0'))
					return "another matching ID";
				break;
			case RSP_DOWNLOAD:
				break;
			case RSP_RELEASE:
				if (model[0].state != RELEASED)
					return "SUCCESS, but it is not released";
				break;
			default:
				if (model[0].state != AVAILABLE)
					return "SUCCESS, but it is not cancelled";
				break;
		}
	}
	else if (!unknown)
		return "FAILED, for no reason of the model's";
	else if (kind == RSP_RELEASE)
		return "a release is never unknown";
	return NULL;
}

static void
test_model(void)
{
	int			seed;
	int			bad = 0;
	int			unknown = 0;
	int			done = 0;
	int			runs = 20000;

	for (seed = 0; seed < runs; seed++)
	{
		const char *why = run_model(seed);

		if (conv.action.type == RSP_ACT_DONE)
			done++;
		else
			unknown++;
		if (why != NULL && bad++ < 10)
			printf("# seed %d, %s: %s (%s, %s)\n", seed, rsp_kind_name(op.kind), why,
				   conv.action.code, conv.action.message);
	}
	check(bad == 0, "%d operations with lost answers and crashes: none acts twice or lies", runs);
	printf("# %d succeeded, %d unknown\n", done, unknown);
	check(done > runs / 2, "most succeed nevertheless");
}

/* every request of each sequence, its answer lost after the effect */
static void
test_each_lost(void)
{
	static const struct
	{
		const char *name;
		RspKind		kind;
		bool		iccid;
		bool		eid;
		int			requests;
	}			sequences[] = {
		{"reserve of an ICCID", RSP_RESERVE, true, false, 2},
		{"reserve of an ICCID for an EID", RSP_RESERVE, true, true, 2},
		{"reserve of a type", RSP_RESERVE, false, false, 2},
		{"reserve for an EID", RSP_RESERVE, false, true, 2},
		{"download", RSP_DOWNLOAD, false, true, 2},
		{"download of an ICCID", RSP_DOWNLOAD, true, true, 2},
		{"release", RSP_RELEASE, true, true, 1},
		{"cancel-order", RSP_CANCEL_ORDER, true, true, 1},
	};
	size_t		i;
	int			request;
	int			accepts;
	int			how;

	for (i = 0; i < lengthof(sequences); i++)
		for (request = 0; request < sequences[i].requests; request++)
			for (accepts = 0; accepts < 2; accepts++)
				for (how = 0; how < 3; how++)
				{
					bool		first_unknown = request == 0 && !sequences[i].iccid;
					bool		good;
					int			n = 0;
					int			turns;

					setup(sequences[i].kind);
					memset(model, 0, sizeof(model));
					model_accepts_repeats = accepts != 0;
					model_matching_first = false;
					op.iccid = sequences[i].iccid ? ICCID1 : NULL;
					op.eid = sequences[i].eid && sequences[i].kind != RSP_CANCEL_ORDER &&
						sequences[i].kind != RSP_RELEASE ? EID1 : NULL;
					if (sequences[i].requests == 1)
					{
						model[0].state = CONFIRMED;
						strcpy(model[0].eid, EID1);
						strcpy(model[0].matching_id, "M");
						op.state = RSP_STATE_RESERVED;
						op.reserved_eid = EID1;
						op.profile_matching_id = "M";
					}
					save();
					begin();
					for (turns = 0; turns < 50; turns++)
					{
						const char *said;

						if (conv.action.type == RSP_ACT_WAIT &&
							conv.action.phase != RSP_PHASE_WAITING_DEVICE)
						{
							again();
							continue;
						}
						if (conv.action.type != RSP_ACT_SEND)
							break;
						said = model_serve(conv.action.path, conv.action.body);
						if (n++ != request)
							answer(200, said);
						else if (how == 0)
							answer_outcome(HTTP_LOST);
						else if (how == 1)
							answer(502, "<html>");
						else
						{
							crash();
							begin();
						}
					}
					if (first_unknown)
						good = fails("OUTCOME_UNKNOWN") && n == 1;
					else
						good = (conv.action.type == RSP_ACT_DONE ||
								waits(RSP_PHASE_WAITING_DEVICE)) && !op.unresolved;
					check(good && model[0].orders + model[1].orders <= 1 &&
						  model[0].confirmations <= 1,
						  "%s: answer %d lost%s, the SM-DP+ %s repeats: %s", sequences[i].name,
						  request + 1, how == 2 ? " in a crash" : how ? " in a gateway" : "",
						  accepts ? "accepts" : "refuses",
						  first_unknown ? "unknown, no second order" : "settled");
				}
}

int
main(void)
{
	test_check();
	test_reserve();
	test_release_cancel();
	test_download();
	test_codes();
	test_http();
	test_lost();
	test_unexplained();
	test_hostile();
	test_event();
	test_each_lost();
	test_model();
	worker_free();
	return finish();
}
