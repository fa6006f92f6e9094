/*
 * test_eim.c
 *		Tests of the eIM driver: canned answers, no network.  Prints TAP.
 *
 * The last part is a model of an eIM and of a device that fetches its orders
 * late, breaks off and comes back; answers are lost, broken and delayed at
 * random, at every request; it looks at what became of the eUICC, at how many
 * orders were open at a time, and at repeats that no question went before.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"
#include "worker.h"


#define EID1 "89049032000000000000000000000001"
#define EID2 "89049032000000000000000000000002"
#define ICCID1 "8944478600003770170"
#define CARD1 "984474680000730771F0"
#define ICCID2 "89457300000021819183"
#define CARD2 "98543700000012181938"
#define ICCID3 "8944478600003260131"
#define CARD3 "984474680000230631F1"
#define ID1 "550e8400-e29b-41d4-a716-446655440001"
#define ID2 "550e8400-e29b-41d4-a716-446655440002"
#define ID3 "550e8400-e29b-41d4-a716-446655440003"
#define ID4 "550e8400-e29b-41d4-a716-446655440004"
#define CODE "1$smdp.example.com$04386-AGYFT"
/* ----- a worker ----- */


static void
setup(RspKind kind)
{
	worker_reset(&rsp_eim, kind, NULL);
	server.url = "http://127.0.0.1:8080";
	op.eid = EID1;
	op.iccid = kind == RSP_REFRESH || kind == RSP_UNSET_FALLBACK ? NULL : ICCID1;
	op.activation_code = kind == RSP_DOWNLOAD ? CODE : NULL;
	op.rollback = kind == RSP_ENABLE;
	op.state = kind == RSP_DISABLE ? RSP_STATE_ENABLED :
		kind == RSP_DOWNLOAD ? RSP_STATE_RELEASED : RSP_STATE_DISABLED;
	save();
}

/* the same with a place to look at */
static void
answer_located(HttpOutcome outcome, int status, const char *body, size_t length,
			   const char *location)
{
	HttpAnswer	answer;

	memset(&answer, 0, sizeof(answer));
	answer.outcome = outcome;
	answer.status = status;
	answer.location = (char *) location;
	answer.retry_after_ms = -1;
	answer_with(&answer, body, length);
}

/* 303, as the eIM answers create */
static void
created(const char *id)
{
	char		location[100];
	const char *facility = strstr(last_path, "/download/") ? "download" : "psmo";

	snprintf(location, sizeof(location), "/%s/lookup/%s", facility, id);
	answer_located(HTTP_ANSWERED, 303, "", 0, location);
}

/* the body of the last create as the eIM keeps it */
static char last_resource[sizeof(last_body)];

static void
remember(void)
{
	snprintf(last_resource, sizeof(last_resource), "%s", last_body);
}

/* the answer to a look-up: of our order, in this status */
static const char *
told(const char *status, const char *outcome)
{
	static char text[16384];

	snprintf(text, sizeof(text),
			 "{\"status\":\"%s\",\"timestamp\":\"%lld\",\"resource\":%s,\"outcome\":%s,"
			 "\"debuginfo\":\"836400046E6F6E65\"}", status, (long long) (op.now_ms / 1000),
			 last_resource, outcome);
	return text;
}

static void
done(const char *outcome)
{
	answer(200, told("done", outcome));
}

/* the device did not come */
static void
noshow(void)
{
	op.now_ms += 1805000;
	done("[{\"procedureError\":\"noshowOrder\"}]");
}

/* a list of no orders, until it counts */
static void
no_orders(void)
{
	int			i;

	for (i = 0; i < 20 && conv.action.type == RSP_ACT_ASK && strstr(last_path, "/list"); i++)
	{
		answer(200, "{\"resourceIdList\": []}");
		if (conv.action.type == RSP_ACT_WAIT && conv.action.phase == RSP_PHASE_UNKNOWN)
			again();
	}
}

/* an identifier that was not there before */
static const char *
fresh(void)
{
	static char id[37];
	static int	number;

	snprintf(id, sizeof(id), "650e8400-e29b-41d4-a716-%012d", ++number);
	return id;
}

/* hands the order in and looks it up */
static void
order(const char *id)
{
	remember();
	created(id);
	while (conv.action.type == RSP_ACT_ASK && strstr(last_path, "/delete/"))
		answer(200, "{\"status\":\"deleted\"}");
}

#define LIST(entries) \
	"[{\"listProfileInfoResult\":{\"finalResult\":\"successResult\",\"profileInfoList\":[" entries "]}}]"
#define ENTRY(card, state) \
	"{\"iccid\":\"" card "\",\"isdpAid\":\"A0000005591010FFFFFFFF8900001000\",\"profileState\":\"" state "\"," \
	"\"serviceProviderName\":\"x\",\"profileName\":\"y\",\"profileClass\":\"operational\"}"

static bool
path_is_quietly(const char *expected)
{
	return conv.action.type == RSP_ACT_ASK && strcmp(last_path, expected) == 0;
}

static bool
sends_to(const char *path)
{
	return is(RSP_ACT_SEND) && path_is(path);
}

static bool
lists(void)
{
	return sends_to("POST /psmo/create") &&
		body_is("{\"eidValue\":\"" EID1 "\",\"order\":{\"psmo\":[{\"listProfileInfo\":{}}]}}");
}

static bool
cleans(const char *path)
{
	if (conv.cleanup_path != NULL && strcmp(conv.cleanup_path, path) == 0)
		return true;
	printf("# clean-up is %s\n", conv.cleanup_path ? conv.cleanup_path : "none");
	return false;
}

/* ----- what it can do, what it refuses at once ----- */

static void
test_check(void)
{
	const char *note;
	int			kind;
	int			state;
	int			n = 0;

	for (kind = 0; kind < RSP_KIND_COUNT; kind++)
	{
		bool		can = rsp_eim.supports(RSP_DIALECT_R1_2, kind, &note);

		n += can == (kind <= RSP_REFRESH) && (can || note[0] != '\0') &&
			rsp_eim.supports(RSP_DIALECT_R1_2, kind, NULL) == can;
	}
	check(n == RSP_KIND_COUNT, "supported kinds");
	rsp_eim.supports(RSP_DIALECT_R1_2, RSP_SET_FALLBACK, &note);
	check(strstr(note, "v1.2") != NULL, "set-fallback has a note");
	check(rsp_eim.can_ask && rsp_driver(RSP_PROTOCOL_EIM) == &rsp_eim, "can ask, and is found");

	n = 0;
	for (state = 0; state < RSP_STATE_COUNT; state++)
	{
		bool		dis = state == RSP_STATE_DISABLED;
		bool		en = state == RSP_STATE_ENABLED;
		bool		in = state == RSP_STATE_INSTALLED;

		n += rsp_eim.state_allowed(RSP_ENABLE, state) == (dis || in) &&
			rsp_eim.state_allowed(RSP_DISABLE, state) == (en || in) &&
			rsp_eim.state_allowed(RSP_DELETE, state) == (en || dis || in) &&
			rsp_eim.state_allowed(RSP_SET_FALLBACK, state) == (en || dis || in) &&
			rsp_eim.state_allowed(RSP_UNSET_FALLBACK, state) &&
			rsp_eim.state_allowed(RSP_REFRESH, state) &&
			!rsp_eim.state_allowed(RSP_RESERVE, state) &&
			!(rsp_eim.state_allowed(RSP_DOWNLOAD, state) && (dis || en || in));
	}
	check(n == RSP_STATE_COUNT, "allowed states");

	setup(RSP_ENABLE);
	check(checked(NULL), "enable passes");
	op.iccid = "891000000000009125";
	check(checked(NULL), "18 digits pass");
	op.iccid = "123";
	check(checked("UNSUPPORTED_IDENTIFIER"), "no ICCID");
	op.iccid = NULL;
	check(checked("MISSING_IDENTIFIER"), "enable without ICCID");
	op.state = RSP_STATE_RELEASED;
	check(checked(NULL), "enable behind a download that will tell the ICCID");
	begin();
	check(fails("MISSING_IDENTIFIER") && sends == 0, "which it must have done by then");
	setup(RSP_REFRESH);
	check(checked(NULL), "refresh passes");
	op.eid = NULL;
	check(checked("MISSING_IDENTIFIER"), "refresh without EID");
	setup(RSP_RESERVE);
	check(checked("SERVICE_NOT_APPLICABLE"), "reserve");

	setup(RSP_DOWNLOAD);
	check(checked(NULL), "download passes");
	op.iccid = NULL;
	check(checked(NULL), "download without ICCID");
	op.activation_code = NULL;
	check(checked("MISSING_IDENTIFIER"), "download without code");
	op.profile_smdp_address = "smdp.example.com";
	check(checked(NULL), "the profile's SM-DP+ will do");
	op.profile_smdp_address = NULL;
	server.smdp_address = "smdp.example.com";
	check(checked(NULL), "the server's will, too");
	server.smdp_address = NULL;
	op.state = RSP_STATE_RESERVING;
	check(checked(NULL), "a reservation that is under way will tell it");
	begin();
	check(fails("MISSING_IDENTIFIER") && sends == 0, "which it must have done by then");
	op.state = RSP_STATE_RELEASED;
	op.activation_code = "1$smdp.example.com$X$$1";
	check(checked("SERVICE_NOT_APPLICABLE"), "confirmation flag");
	op.activation_code = "1$smdp.example.com$X$1.3.6.1$1";
	check(checked("SERVICE_NOT_APPLICABLE"), "confirmation flag behind the OID");
	op.activation_code = "1$smdp.example.com$X$1.3.6.1";
	check(checked(NULL), "code with OID");
	op.confirmation_code = "1234";
	check(checked("SERVICE_NOT_APPLICABLE"), "confirmation code");
	op.confirmation_code = NULL;
	op.activation_code = "04386-AGYFT-A74Y8-3F815";
	check(checked("INVALID_ARGUMENT"), "a bare matching ID is no code");
	setup(RSP_SYNC);
	begin();
	check(fails("SERVICE_NOT_APPLICABLE"), "a kind that is not there");
}

/* ----- bodies, to the letter ----- */

static bool
body_of(RspKind kind, const char *path, const char *expected)
{
	setup(kind);
	begin();
	return sends_to(path) && body_is(expected) &&
		strcmp(conv.action.content_type, "application/json") == 0 && op.step == 0;
}

static void
test_bodies(void)
{
	json_t	   *json;

	check(body_of(RSP_DOWNLOAD, "POST /download/create",
				  "{\"eidValue\":\"" EID1 "\",\"order\":{\"download\":{\"activationCode\":\"" CODE "\"}}}") &&
		  json_object_size(op.memo) == 0, "download");
	check(body_of(RSP_ENABLE, "POST /psmo/create",
				  "{\"eidValue\":\"" EID1 "\",\"order\":{\"psmo\":[{\"enable\":{\"iccid\":\"" CARD1
				  "\",\"rollback\":true}}]}}") && json_object_size(op.memo) == 0, "enable");
	setup(RSP_ENABLE);
	op.rollback = false;
	begin();
	check(body_is("{\"eidValue\":\"" EID1 "\",\"order\":{\"psmo\":[{\"enable\":{\"iccid\":\"" CARD1
				  "\",\"rollback\":false}}]}}"), "the rollback flag is never left out");
	check(body_of(RSP_DISABLE, "POST /psmo/create",
				  "{\"eidValue\":\"" EID1 "\",\"order\":{\"psmo\":[{\"disable\":{\"iccid\":\"" CARD1
				  "\"}}]}}") && json_object_size(op.memo) == 0, "disable");
	check(body_of(RSP_DELETE, "POST /psmo/create",
				  "{\"eidValue\":\"" EID1 "\",\"order\":{\"psmo\":[{\"delete\":{\"iccid\":\"" CARD1
				  "\"}}]}}") && json_object_size(op.memo) == 0, "delete of a disabled profile");
	setup(RSP_DELETE);
	op.state = RSP_STATE_ENABLED;
	begin();
	check(body_is("{\"eidValue\":\"" EID1 "\",\"order\":{\"psmo\":[{\"disable\":{\"iccid\":\"" CARD1
				  "\"}},{\"delete\":{\"iccid\":\"" CARD1 "\"}}]}}"),
		  "delete of an enabled profile: one package");
	check(body_of(RSP_SET_FALLBACK, "POST /psmo/create",
				  "{\"eidValue\":\"" EID1 "\",\"order\":{\"psmo\":[{\"setFallbackAttribute\":{\"iccid\":\""
				  CARD1 "\"}}]}}"), "set-fallback");
	check(body_of(RSP_UNSET_FALLBACK, "POST /psmo/create",
				  "{\"eidValue\":\"" EID1 "\",\"order\":{\"psmo\":[{\"unsetFallbackAttribute\":{}}]}}"),
		  "unset-fallback");
	check(body_of(RSP_REFRESH, "POST /psmo/create",
				  "{\"eidValue\":\"" EID1 "\",\"order\":{\"psmo\":[{\"listProfileInfo\":{}}]}}"),
		  "refresh");

	setup(RSP_ENABLE);
	op.iccid = ICCID2;
	begin();
	check(strstr(last_body, "\"" CARD2 "\"") != NULL, "20 digits: ten full octets");
	setup(RSP_ENABLE);
	op.iccid = "891000000000009125";
	begin();
	check(strstr(last_body, "\"980100000000001952FF\"") != NULL, "18 digits: one octet of padding");

	setup(RSP_DOWNLOAD);
	op.activation_code = "1$SM-DP+.EXAMPLE.COM$AAAAA-BBBBB$$$x=y&z%2f";
	begin();
	check(strpbrk(last_body, "=&+%") == NULL && strstr(last_body, "SM-DP\\u002b.EXAMPLE.COM") &&
		  strstr(last_body, "x\\u003dy\\u0026z\\u00252f"),
		  "what a form would take for its own is written otherwise");
	json = json_loads(last_body, 0, NULL);
	check(json != NULL &&
		  strcmp(json_string_value(json_object_get(json_object_get(json_object_get(json, "order"), "download"),
												   "activationCode")), op.activation_code) == 0,
		  "and means the same");
	json_decref(json);
	setup(RSP_DOWNLOAD);
	op.activation_code = "LPA:" CODE;
	begin();
	check(strstr(last_body, "\"" CODE "\"") != NULL, "LPA: is taken off");
	setup(RSP_DOWNLOAD);
	op.activation_code = NULL;
	op.reserved_eid = EID1;
	op.profile_smdp_address = "smdp.example.com";
	begin();
	check(strstr(last_body, "\"1$smdp.example.com$\"") != NULL, "reserved for the EID");
	setup(RSP_DOWNLOAD);
	op.activation_code = NULL;
	op.profile_smdp_address = "smdp.example.com";
	op.profile_matching_id = "ABC-1";
	begin();
	check(strstr(last_body, "\"1$smdp.example.com$ABC-1\"") != NULL, "reserved with a matching ID");
}

/* ----- the plain way ----- */

static void
test_way(void)
{
	static const struct
	{
		RspKind		kind;
		const char *facility;
		const char *outcome;
	}			ways[] = {
		{RSP_DOWNLOAD, "download",
		"[{\"profileInstallationResult\":{\"finalResult\":\"successResult\",\"iccid\":\"" CARD1 "\"}}]"},
		{RSP_ENABLE, "psmo", "[{\"enableResult\":\"ok\"}]"},
		{RSP_DISABLE, "psmo", "[{\"disableResult\":\"ok\"}]"},
		{RSP_DELETE, "psmo", "[{\"deleteResult\":\"ok\"}]"},
		{RSP_SET_FALLBACK, "psmo", "[{\"setFallbackAttributeResult\":\"ok\"}]"},
		{RSP_UNSET_FALLBACK, "psmo", "[{\"unsetFallbackAttributeResult\":\"ok\"}]"},
		{RSP_REFRESH, "psmo", LIST(ENTRY(CARD1, "enabled") "," ENTRY(CARD2, "disabled"))}
	};
	char		path[100];
	size_t		i;
	int			n;

	for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
	{
		const char *name = rsp_kind_name(ways[i].kind);

		setup(ways[i].kind);
		begin();
		order(ID1);
		snprintf(path, sizeof(path), "GET /%s/lookup/" ID1, ways[i].facility);
		check(is(RSP_ACT_ASK) && path_is(path) && last_body[0] == '\0' && !op.unresolved &&
			  strcmp(op.rsp_operation_id, ID1) == 0, "%s: looked up at once", name);
		answer(200, told("new", "[]"));
		snprintf(path, sizeof(path), "/%s/delete/" ID1, ways[i].facility);
		check(waits(RSP_PHASE_WAITING_DEVICE) && near(conv.action.delay_ms, 1000) && cleans(path),
			  "%s: waits, and is taken away if it expires", name);
		crash();
		again();
		snprintf(path, sizeof(path), "GET /%s/lookup/" ID1, ways[i].facility);
		check(is(RSP_ACT_ASK) && path_is(path), "%s: looked up again after a crash", name);
		answer(200, told("work", "[]"));
		check(waits(RSP_PHASE_WAITING_DEVICE), "%s: at work", name);
		again();
		done(ways[i].outcome);
		snprintf(path, sizeof(path), "/%s/delete/" ID1, ways[i].facility);
		check(is(RSP_ACT_DONE) && cleans(path) && strcmp(conv.cleanup_method, "GET") == 0 &&
			  sends == 1 && !conv.action.profile_state_set && conv.action.iccid[0] == '\0' &&
			  strcmp(op.rsp_operation_id, ID1) == 0, "%s: done, and taken away", name);
	}
	check(conv.nreports == 2 && conv.reports_whole &&
		  strcmp(conv.reports[0].iccid, ICCID1) == 0 &&
		  conv.reports[0].state == RSP_STATE_ENABLED && conv.reports[0].is_fallback == -1 &&
		  strcmp(conv.reports[1].iccid, ICCID2) == 0 &&
		  conv.reports[1].state == RSP_STATE_DISABLED &&
		  strcmp(conv.reports[1].eid, EID1) == 0, "the list is reported");

	/* polling */
	setup(RSP_ENABLE);
	begin();
	order(ID1);
	for (n = 0; n < 10; n++)
	{
		int64_t		expected = INT64_C(1000) << n;

		answer(200, told("new", "[]"));
		if (!waits(RSP_PHASE_WAITING_DEVICE) || !near(conv.action.delay_ms, expected))
			break;
		if (n == 5)
			crash();
		again();
	}
	check(n == 10, "looks at growing intervals");
	answer(200, told("new", "[]"));
	check(near(conv.action.delay_ms, 600000), "of ten minutes at the most");
	again();
	answer(200, told("new", "[]"));
	check(op.now_ms + conv.action.delay_ms >= T0 + 1800000 &&
		  op.now_ms + conv.action.delay_ms <= T0 + 1815000,
		  "and just after the eIM will have lost its patience");
	again();
	noshow();
	check(sends_to("POST /psmo/create") && sends == 2, "noshow: handed in again");
	remember();
	crash();
	check(op.unresolved && op.rsp_operation_id[0] == '\0', "committed before");
	begin();
	check(is(RSP_ACT_ASK) && path_is("GET /psmo/list"), "a crash there: which orders are there");
	answer(200, "{\"resourceIdList\": [\"" ID1 "\",\"" ID2 "\"]}");
	check(waits(RSP_PHASE_UNKNOWN) && json_array_size(conv.candidates) == 1,
		  "the old one is not a candidate");
	again();
	check(path_is("GET /psmo/lookup/" ID2), "the other one is looked up");
	answer(200, told("new", "[]"));
	check(waits(RSP_PHASE_WAITING_DEVICE) && !op.unresolved && strcmp(op.rsp_operation_id, ID2) == 0,
		  "and found");
	again();
	noshow();
	created(ID3);
	check(is(RSP_ACT_ASK) && path_is("GET /psmo/delete/" ID1), "old orders are taken away");
	answer(200, "{\"status\":\"deleted\"}");
	check(is(RSP_ACT_ASK) && path_is("GET /psmo/delete/" ID2), "one by one");
	answer_outcome(HTTP_LOST);
	check(is(RSP_ACT_ASK) && path_is("GET /psmo/lookup/" ID3), "be it in vain");
	done("[{\"enableResult\":\"ok\"}]");
	check(is(RSP_ACT_DONE) && cleans("/psmo/delete/" ID3) && sends == 3, "done at last");

	/* the eIM's own patience */
	setup(RSP_ENABLE);
	begin();
	order(ID1);
	op.now_ms = T0 + 60000;
	done("[{\"procedureError\":\"noshowOrder\"}]");
	order(ID2);
	op.polls = 20;
	answer(200, told("new", "[]"));
	check(near(conv.action.delay_ms, 72000), "its patience is learned");
	op.now_ms += 10 * 86400000LL;
	begin();
	noshow();
	for (n = 0; n < 200 && conv.action.type == RSP_ACT_SEND; n++)
	{
		order(fresh());
		op.now_ms += 60000;
		answer(200, told("new", "[]"));
		if (conv.action.delay_ms < 540000 || conv.action.delay_ms > 4 * HOUR / 3)
			break;
		again();
		noshow();
	}
	check(n == 200 && is(RSP_ACT_SEND) && json_array_size(json_object_get(op.memo, "past")) <= 8,
		  "no end to it but the operation's expiry, and the memo does not grow");

	setup(RSP_REFRESH);
	begin();
	order(ID1);
	noshow();
	check(lists() && sends == 2, "a refresh is handed in again as well");

	/* two orders */
	setup(RSP_DOWNLOAD);
	op.activate_on_download = true;
	op.iccid = NULL;
	begin();
	order(ID1);
	done("[{\"profileInstallationResult\":{\"finalResult\":\"successResult\",\"iccid\":\"" CARD3 "\"}}]");
	check(is(RSP_ACT_ASK) && path_is("GET /download/lookup/" ID1), "an unknown ICCID is read twice");
	done("[{\"profileInstallationResult\":{\"finalResult\":\"successResult\",\"iccid\":\"" CARD3 "\"}}]");
	check(sends_to("POST /psmo/create") &&
		  body_is("{\"eidValue\":\"" EID1 "\",\"order\":{\"psmo\":[{\"enable\":{\"iccid\":\"" CARD3
				  "\",\"rollback\":true}}]}}"), "then enabled");
	remember();
	created(ID2);
	check(path_is("GET /download/delete/" ID1), "the first order is taken away");
	answer(200, "{\"status\":\"absent\"}");
	done("[{\"enableResult\":\"ok\"}]");
	check(is(RSP_ACT_DONE) && state_is(RSP_STATE_ENABLED) &&
		  strcmp(conv.action.iccid, ICCID3) == 0 && cleans("/psmo/delete/" ID2),
		  "activate_on_download");

	setup(RSP_DOWNLOAD);
	op.activate_on_download = true;
	begin();
	order(ID1);
	done("[{\"profileInstallationResult\":{\"finalResult\":\"successResult\",\"iccid\":\"" CARD1 "\"}}]");
	order(ID2);
	done("[{\"enableResult\":\"disallowedByPolicy\"}]");
	check(fails("INCOMPATIBLE_STATE") && state_is(RSP_STATE_DISABLED), "downloaded, not enabled");

	setup(RSP_DELETE);
	op.state = RSP_STATE_ENABLED;
	begin();
	order(ID1);
	done("[{\"disableResult\":\"ok\"},{\"deleteResult\":\"ok\"}]");
	check(is(RSP_ACT_DONE) && sends == 1, "delete of an enabled profile");
}

/* ----- Location ----- */

static void
test_location(void)
{
	static const struct
	{
		int			status;
		const char *location;
		bool		good;
	}			rows[] = {
		{303, "/psmo/lookup/" ID1, true},
		{303, "http://127.0.0.1:8080/psmo/lookup/" ID1, true},
		{303, "https://evil.example.com/" ID1, true},
		{303, "/prefix/psmo/lookup/" ID1 "/", true},
		{303, "/psmo/lookup/" ID1 "?a=b#c", true},
		{302, "/psmo/lookup/" ID1, true},
		{201, "/psmo/lookup/" ID1, true},
		{303, "/psmo/lookup/550E8400-E29B-41D4-A716-446655440001", true},
		{303, NULL, false},
		{303, "", false},
		{303, "/", false},
		{303, ID1, false},
		{303, "/psmo/lookup/", false},
		{303, "/psmo/lookup/../../x", false},
		{303, "/psmo/lookup/" ID1 "0", false},
		{303, "/psmo/lookup/550e8400-e29b-41d4-a716-44665544000", false},
		{303, "/psmo/lookup/550e8400-e29b-41d4-a716-44665544000g", false},
		{303, "/psmo/lookup/550e8400-e29b-41d4-a716-4466554400%30", false},
		{303, "/psmo/lookup/550e8400-e29b-41d4-a716_446655440001", false},
		{303, "/psmo/lookup/?" ID1, false},
		{307, "https://other.example.com/psmo/create", false},
		{301, "https://other.example.com/psmo/create", false},
		{200, NULL, false},
		{204, NULL, false}
	};
	size_t		i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		setup(RSP_ENABLE);
		begin();
		answer_located(HTTP_ANSWERED, rows[i].status, "", 0, rows[i].location);
		check(rows[i].good ? is(RSP_ACT_ASK) && strstr(last_path, "GET /psmo/lookup/") == last_path &&
			  strlen(last_path) == strlen("GET /psmo/lookup/" ID1) && !op.unresolved :
			  is(RSP_ACT_ASK) && path_is("GET /psmo/list") && op.unresolved,
			  "%d %s", rows[i].status, rows[i].location ? rows[i].location : "without Location");
	}
}

/* ----- outcomes ----- */

/*
 * What must come of an outcome:
 *	S	success
 *	F	failed with the code, at once
 *	V	the eUICC is listed, and if its aim is not reached: failed with the code
 *	L	the eUICC is listed, and if its aim is not reached: handed in again
 *	R	handed in again after a while
 *	N	handed in again at once
 *	A	listed, then failed with the code
 */
typedef struct OutcomeRow
{
	RspKind		kind;
	const char *outcome;
	char		what;
	const char *code;
} OutcomeRow;

#define BY_NAME(key, name, number, kind, what, code) \
	{kind, "[{\"" key "\":\"" name "\"}]", what, code}, \
	{kind, "[{\"" key "\":" number "}]", what, code}, \
	{kind, "[{\"" key "\":\"" number "\"}]", what, code}
#define GENERAL(entry, what, code) \
	{RSP_ENABLE, "[" entry "]", what, code}, \
	{RSP_DISABLE, "[" entry "]", what, code}, \
	{RSP_DELETE, "[" entry "]", what, code}, \
	{RSP_DOWNLOAD, "[" entry "]", what, code}, \
	{RSP_SET_FALLBACK, "[" entry "]", what, code}

static const OutcomeRow outcome_rows[] = {
	BY_NAME("enableResult", "ok", "0", RSP_ENABLE, 'S', NULL),
	BY_NAME("enableResult", "iccidOrAidNotFound", "1", RSP_ENABLE, 'V', "IDENTIFIER_MISMATCH"),
	BY_NAME("enableResult", "profileNotInDisabledState", "2", RSP_ENABLE, 'V', "INCOMPATIBLE_STATE"),
	BY_NAME("enableResult", "disallowedByPolicy", "3", RSP_ENABLE, 'F', "INCOMPATIBLE_STATE"),
	BY_NAME("enableResult", "catBusy", "5", RSP_ENABLE, 'R', NULL),
	BY_NAME("enableResult", "commandError", "7", RSP_ENABLE, 'V', "INTERNAL"),
	BY_NAME("enableResult", "rollbackNotAvailable", "20", RSP_ENABLE, 'V', "INCOMPATIBLE_STATE"),
	BY_NAME("enableResult", "undefinedError", "127", RSP_ENABLE, 'V', "INTERNAL"),
	BY_NAME("disableResult", "ok", "0", RSP_DISABLE, 'S', NULL),
	BY_NAME("disableResult", "iccidOrAidNotFound", "1", RSP_DISABLE, 'V', "IDENTIFIER_MISMATCH"),
	BY_NAME("disableResult", "profileNotInEnabledState", "2", RSP_DISABLE, 'V', "INCOMPATIBLE_STATE"),
	BY_NAME("disableResult", "disallowedByPolicy", "3", RSP_DISABLE, 'F', "INCOMPATIBLE_STATE"),
	BY_NAME("disableResult", "catBusy", "5", RSP_DISABLE, 'R', NULL),
	BY_NAME("disableResult", "undefinedError", "127", RSP_DISABLE, 'V', "INTERNAL"),
	BY_NAME("deleteResult", "ok", "0", RSP_DELETE, 'S', NULL),
	BY_NAME("deleteResult", "iccidOrAidNotFound", "1", RSP_DELETE, 'V', "IDENTIFIER_MISMATCH"),
	BY_NAME("deleteResult", "profileNotInDisabledState", "2", RSP_DELETE, 'V', "INCOMPATIBLE_STATE"),
	BY_NAME("deleteResult", "disallowedByPolicy", "3", RSP_DELETE, 'F', "INCOMPATIBLE_STATE"),
	BY_NAME("deleteResult", "rollbackNotAvailable", "20", RSP_DELETE, 'F', "INCOMPATIBLE_STATE"),
	BY_NAME("deleteResult", "returnFallbackProfile", "21", RSP_DELETE, 'F', "INCOMPATIBLE_STATE"),
	BY_NAME("deleteResult", "undefinedError", "127", RSP_DELETE, 'V', "INTERNAL"),
	BY_NAME("setFallbackAttributeResult", "ok", "0", RSP_SET_FALLBACK, 'S', NULL),
	BY_NAME("setFallbackAttributeResult", "iccidOrAidNotFound", "1", RSP_SET_FALLBACK, 'V', "IDENTIFIER_MISMATCH"),
	BY_NAME("setFallbackAttributeResult", "fallbackNotAllowed", "2", RSP_SET_FALLBACK, 'F', "INCOMPATIBLE_STATE"),
	BY_NAME("setFallbackAttributeResult", "fallbackProfileEnabled", "3", RSP_SET_FALLBACK, 'F', "INCOMPATIBLE_STATE"),
	BY_NAME("setFallbackAttributeResult", "undefinedError", "127", RSP_SET_FALLBACK, 'V', "INTERNAL"),
	BY_NAME("unsetFallbackAttributeResult", "ok", "0", RSP_UNSET_FALLBACK, 'S', NULL),
	BY_NAME("unsetFallbackAttributeResult", "noFallbackAttribute", "2", RSP_UNSET_FALLBACK, 'S', NULL),
	BY_NAME("unsetFallbackAttributeResult", "fallbackProfileEnabled", "3", RSP_UNSET_FALLBACK, 'F', "INCOMPATIBLE_STATE"),
	BY_NAME("unsetFallbackAttributeResult", "commandError", "7", RSP_UNSET_FALLBACK, 'V', "INTERNAL"),
	BY_NAME("unsetFallbackAttributeResult", "undefinedError", "127", RSP_UNSET_FALLBACK, 'V', "INTERNAL"),

	GENERAL("{\"euiccPackageErrorCode\":\"invalidEid\"}", 'F', "IDENTIFIER_MISMATCH"),
	GENERAL("{\"euiccPackageErrorCode\":3}", 'F', "IDENTIFIER_MISMATCH"),
	GENERAL("{\"euiccPackageErrorCode\":\"replayError\"}", 'R', NULL),
	GENERAL("{\"euiccPackageErrorCode\":4}", 'R', NULL),
	GENERAL("{\"euiccPackageErrorCode\":\"counterValueOutOfRange\"}", 'F', "OUT_OF_RANGE"),
	GENERAL("{\"euiccPackageErrorCode\":6}", 'F', "OUT_OF_RANGE"),
	GENERAL("{\"euiccPackageErrorCode\":\"sizeOverflow\"}", 'F', "SERVICE_NOT_APPLICABLE"),
	GENERAL("{\"euiccPackageErrorCode\":15}", 'F', "SERVICE_NOT_APPLICABLE"),
	GENERAL("{\"euiccPackageErrorCode\":\"ecallActive\"}", 'R', NULL),
	GENERAL("{\"euiccPackageErrorCode\":104}", 'R', NULL),
	GENERAL("{\"euiccPackageErrorCode\":\"undefinedError\"}", 'L', NULL),
	GENERAL("{\"euiccPackageErrorCode\":\"counterValueMismatch\"}", 'L', NULL),
	GENERAL("{\"euiccPackageErrorCode\":99}", 'L', NULL),
	GENERAL("{\"eimPackageError\":\"invalidPackageFormat\"}", 'F', "SERVICE_NOT_APPLICABLE"),
	GENERAL("{\"eimPackageError\":\"unknownPackage\"}", 'F', "SERVICE_NOT_APPLICABLE"),
	GENERAL("{\"eimPackageError\":\"undefinedError\"}", 'L', NULL),
	GENERAL("{\"error\":\"malformedResult\"}", 'L', NULL),
	GENERAL("{\"processingTerminated\":\"resultSizeOverflow\"}", 'L', NULL),
	GENERAL("{\"processingTerminated\":\"unknownOrDamagedCommand\"}", 'F', "SERVICE_NOT_APPLICABLE"),
	GENERAL("{\"processingTerminated\":2}", 'F', "SERVICE_NOT_APPLICABLE"),
	GENERAL("{\"processingTerminated\":\"interruption\"}", 'L', NULL),
	GENERAL("{\"processingTerminated\":\"undefinedError\"}", 'L', NULL),
	GENERAL("{\"procedureError\":\"badPsmo\"}", 'F', "SERVICE_NOT_APPLICABLE"),
	GENERAL("{\"procedureError\":\"badEco\"}", 'F', "INTERNAL"),
	GENERAL("{\"procedureError\":\"badEdr\"}", 'F', "INTERNAL"),
	GENERAL("{\"procedureError\":\"badOrder\"}", 'F', "INTERNAL"),
	GENERAL("{\"procedureError\":\"abortedOrder\"}", 'L', NULL),
	GENERAL("{\"procedureError\":\"stuckOrder\"}", 'L', NULL),
	GENERAL("{\"procedureError\":\"noshowOrder\"}", 'N', NULL),
	GENERAL("{\"procedureError\":\"undefinedError\"}", 'V', "INTERNAL"),
	GENERAL("{\"procedureError\":\"euiccSignatureInvalid\"}", 'V', "INTERNAL"),
	GENERAL("{\"procedureError\":\"handleNotificationError\"}", 'V', "INTERNAL"),
	GENERAL("{\"procedureError\":\"somethingNew\"}", 'L', NULL),
	GENERAL("{\"notificationResult\":\"otherSignedNotification\"}", 'L', NULL),
	GENERAL("{\"somethingNew\":\"ok\"}", 'L', NULL),
	GENERAL("", 'L', NULL),
	{RSP_DOWNLOAD, "[{\"procedureError\":\"initiateAuthenticationError\"}]", 'F', "SERVICE_NOT_APPLICABLE"},
	{RSP_DOWNLOAD, "[{\"procedureError\":\"authenticateResponseError\"}]", 'F', "SERVICE_NOT_APPLICABLE"},
	{RSP_DOWNLOAD, "[{\"procedureError\":\"authenticateClientError\"}]", 'F', "SERVICE_NOT_APPLICABLE"},
	{RSP_DOWNLOAD, "[{\"procedureError\":\"downloadResponseError\"}]", 'F', "SERVICE_NOT_APPLICABLE"},
	{RSP_DOWNLOAD, "[{\"procedureError\":\"getBoundProfilePackageError\"}]", 'F', "SERVICE_NOT_APPLICABLE"},
	{RSP_DOWNLOAD, "[{\"procedureError\":\"cancelSessionResponseError\"}]", 'F', "SERVICE_NOT_APPLICABLE"},
	{RSP_DOWNLOAD, "[{\"cancelSessionResult\":\"ok\"}]", 'F', "SERVICE_NOT_APPLICABLE"},
	{RSP_DOWNLOAD, "[{\"cancelSessionResult\":\"undefinedError\"}]", 'F', "SERVICE_NOT_APPLICABLE"},
	{RSP_DOWNLOAD, "[{\"profileInstallationResult\":{\"finalResult\":\"errorResult\"}}]", 'F', "SERVICE_NOT_APPLICABLE"},
	{RSP_DOWNLOAD, "[{\"profileInstallationResult\":{\"finalResult\":\"successResult\"}}]", 'S', NULL},
	{RSP_DOWNLOAD, "[{\"profileInstallationResult\":{\"finalResult\":\"perhaps\"}}]", 'L', NULL},
	{RSP_DOWNLOAD, "[{\"profileInstallationResult\":{}}]", 'L', NULL},
	{RSP_DOWNLOAD, "[{\"profileInstallationResult\":{\"finalResult\":\"successResult\",\"iccid\":\"" CARD1 "\"}},"
	"{\"procedureError\":\"stuckOrder\"}]", 'L', NULL},

	/* more than one result */
	{RSP_ENABLE, "[{\"enableResult\":\"ok\"},{\"rollbackResult\":\"ok\"}]", 'A', "ROLLED_BACK"},
	{RSP_ENABLE, "[{\"rollbackResult\":\"ok\"}]", 'A', "ROLLED_BACK"},
	{RSP_ENABLE, "[{\"enableResult\":0},{\"rollbackResult\":0}]", 'A', "ROLLED_BACK"},
	{RSP_ENABLE, "[{\"enableResult\":\"ok\",\"rollbackResult\":\"ok\"}]", 'A', "ROLLED_BACK"},
	{RSP_ENABLE, "[{\"enableResult\":\"ok\"},{\"rollbackResult\":\"undefinedError\"}]", 'V', "ROLLED_BACK"},
	{RSP_ENABLE, "[{\"enableResult\":\"ok\"},{\"rollbackResult\":{}}]", 'L', NULL},
	{RSP_ENABLE, "[{\"enableResult\":\"ok\"},{\"processingTerminated\":\"interruption\"}]", 'L', NULL},
	{RSP_ENABLE, "[{\"enableResult\":\"ok\"},{\"enableResult\":\"disallowedByPolicy\"}]", 'F', "INCOMPATIBLE_STATE"},
	{RSP_ENABLE, "[{\"disableResult\":\"ok\"}]", 'L', NULL},
	{RSP_ENABLE, "[{\"enableResult\":\"ok\"},{\"notificationResult\":\"otherSignedNotification\"}]", 'S', NULL},
	{RSP_ENABLE, "[{\"enableResult\":\"notInTheStandard\"}]", 'L', NULL},
	{RSP_ENABLE, "[{\"enableResult\":99}]", 'L', NULL},
	{RSP_ENABLE, "[{\"enableResult\":null}]", 'L', NULL},
	{RSP_ENABLE, "[{\"enableResult\":{\"x\":1}}]", 'L', NULL},
	{RSP_ENABLE, "[{\"enableResult\":[]}]", 'L', NULL},
	{RSP_ENABLE, "[[],7,null,\"x\",{}]", 'L', NULL},
	{RSP_ENABLE, "{\"enableResult\":\"ok\"}", 'L', NULL},
	{RSP_ENABLE, "null", 'L', NULL},
	{RSP_ENABLE, "7", 'L', NULL}
};

#undef BY_NAME
#undef GENERAL

/* a list on which the aim of the operation is not reached */
static const char *
list_without(RspKind kind)
{
	switch (kind)
	{
		case RSP_ENABLE:
			return LIST(ENTRY(CARD1, "disabled") "," ENTRY(CARD2, "enabled"));
		case RSP_DISABLE:
			return LIST(ENTRY(CARD1, "enabled") "," ENTRY(CARD2, "disabled"));
		case RSP_DELETE:
			return LIST(ENTRY(CARD1, "disabled") "," ENTRY(CARD2, "enabled"));
		default:
			return LIST(ENTRY(CARD2, "enabled"));
	}
}

static const char *
list_with(RspKind kind)
{
	switch (kind)
	{
		case RSP_ENABLE:
			return LIST(ENTRY(CARD1, "enabled") "," ENTRY(CARD2, "disabled"));
		case RSP_SET_FALLBACK:
			return LIST("{\"iccid\":\"" CARD1 "\",\"profileState\":\"disabled\",\"fallbackAttribute\":true}");
		case RSP_DELETE:
			return LIST(ENTRY(CARD2, "enabled"));
		default:
			return LIST(ENTRY(CARD1, "disabled"));
	}
}

/* the list is looked up; a delete wants to see twice that the profile is gone */
static void
listed(const char *list)
{
	order(fresh());
	done(list);
	if (conv.action.type == RSP_ACT_ASK && strstr(last_path, "/lookup/"))
		done(list);
}

static void
test_outcomes(void)
{
	size_t		i;

	for (i = 0; i < sizeof(outcome_rows) / sizeof(outcome_rows[0]); i++)
	{
		const OutcomeRow *row = &outcome_rows[i];
		bool		good = false;

		setup(row->kind);
		if (row->kind == RSP_ENABLE && strstr(row->outcome, "rollbackNotAvailable"))
			op.rollback = true;
		begin();
		order(ID1);
		if (row->what == 'N')
			op.now_ms += 1805000;
		done(row->outcome);
		switch (row->what)
		{
			case 'S':
				good = is(RSP_ACT_DONE) && sends == 1;
				break;
			case 'F':
				good = fails(row->code) && sends == 1 && conv.action.message[0] != '\0' &&
					conv.action.rsp_code[0] != '\0' && cleans(row->kind == RSP_DOWNLOAD ?
															  "/download/delete/" ID1 : "/psmo/delete/" ID1);
				break;
			case 'V':
				good = lists();
				listed(list_without(row->kind));
				good = good && fails(row->code) && sends == 2 && conv.action.rsp_code[0] != '\0' &&
					conv.nreports > 0 && conv.reports_whole;
				break;
			case 'A':
				good = lists();
				listed(list_without(row->kind));
				good = good && fails(row->code) && sends == 2 && conv.nreports == 2 &&
					state_is(RSP_STATE_DISABLED);
				break;
			case 'L':
				good = lists();
				listed(list_without(row->kind));
				good = good && is(RSP_ACT_SEND) && sends == 3 &&
					strstr(last_body, "listProfileInfo") == NULL;
				break;
			case 'R':
				good = waits(RSP_PHASE_RETRYING);
				again();
				good = good && is(RSP_ACT_SEND) && sends == 2 &&
					strstr(last_body, "listProfileInfo") == NULL;
				break;
			case 'N':
				good = is(RSP_ACT_SEND) && sends == 2 &&
					strstr(last_body, "listProfileInfo") == NULL;
				break;
		}
		check(good && !(conv.action.type == RSP_ACT_DONE && row->what != 'S'), "%s %s",
			  rsp_kind_name(row->kind), row->outcome);

		/* the same where the eUICC shows that the aim is reached */
		if (row->kind == RSP_UNSET_FALLBACK || strchr("VL", row->what) == NULL)
			continue;
		setup(row->kind);
		begin();
		order(ID1);
		done(row->outcome);
		listed(list_with(row->kind));
		check(is(RSP_ACT_DONE) && sends == 2 && conv.cleanup_path != NULL,
			  "%s %s: it is so already", rsp_kind_name(row->kind), row->outcome);
	}
}

static void
test_special(void)
{
	int			i;

	/* rollback: the list cannot be had */
	setup(RSP_ENABLE);
	begin();
	order(ID1);
	done("[{\"enableResult\":\"ok\"},{\"rollbackResult\":\"ok\"}]");
	order(ID2);
	noshow();
	check(fails("ROLLED_BACK") && state_is(RSP_STATE_DISABLED), "rolled back, and gone again");
	setup(RSP_ENABLE);
	begin();
	order(ID1);
	done("[{\"enableResult\":\"ok\"},{\"rollbackResult\":\"ok\"}]");
	crash();
	begin();
	check(path_is("GET /psmo/list"), "a crash while the list is handed in");
	answer(200, "{\"resourceIdList\":[\"" ID1 "\"]}");
	check(waits(RSP_PHASE_UNKNOWN), "the old order is passed over, the list was not made");
	op.now_ms += 60000;
	begin();
	answer(200, "{\"resourceIdList\":[]}");
	listed(LIST(ENTRY(CARD1, "disabled") "," ENTRY(CARD2, "enabled")));
	check(fails("ROLLED_BACK") && strstr(conv.action.rsp_code, "rollbackResult") != NULL &&
		  conv.reports[1].state == RSP_STATE_ENABLED, "is remembered");

	/* nothing to roll back to */
	setup(RSP_ENABLE);
	begin();
	order(ID1);
	done("[{\"enableResult\":\"rollbackNotAvailable\"}]");
	listed(LIST(ENTRY(CARD1, "disabled") "," ENTRY(CARD2, "disabled")));
	check(sends_to("POST /psmo/create") && strstr(last_body, "\"rollback\":false"),
		  "no profile is enabled: enabled without rollback");
	order(ID3);
	done("[{\"enableResult\":\"rollbackNotAvailable\"}]");
	listed(LIST(ENTRY(CARD1, "disabled")));
	check(fails("INCOMPATIBLE_STATE") && sends == 4, "but only once");

	/* delete */
	setup(RSP_DELETE);
	op.state = RSP_STATE_INSTALLED;
	begin();
	check(strstr(last_body, "\"disable\"") == NULL, "INSTALLED: delete alone");
	order(ID1);
	done("[{\"deleteResult\":\"profileNotInDisabledState\"}]");
	check(is(RSP_ACT_SEND) && strstr(last_body, "\"psmo\":[{\"disable\"") && sends == 2,
		  "it is enabled: both");
	order(ID2);
	done("[{\"disableResult\":\"profileNotInEnabledState\"}]");
	check(lists(), "and not enabled: ask");
	order(ID3);
	done(LIST(ENTRY(CARD1, "disabled")));
	check(fails("INCOMPATIBLE_STATE") && state_is(RSP_STATE_DISABLED), "not round in circles");
	setup(RSP_DELETE);
	op.state = RSP_STATE_ENABLED;
	begin();
	order(ID1);
	done("[{\"disableResult\":\"profileNotInEnabledState\"},{\"processingTerminated\":\"interruption\"}]");
	check(is(RSP_ACT_SEND) && strstr(last_body, "\"psmo\":[{\"delete\"") && sends == 2,
		  "disabled already: delete alone");
	order(ID2);
	done("[{\"deleteResult\":\"ok\"}]");
	check(is(RSP_ACT_DONE), "deleted");
	setup(RSP_DELETE);
	op.state = RSP_STATE_ENABLED;
	begin();
	order(ID1);
	done("[{\"disableResult\":\"ok\"},{\"deleteResult\":\"disallowedByPolicy\"}]");
	check(fails("INCOMPATIBLE_STATE") && state_is(RSP_STATE_DISABLED), "disabled, not deleted");
	setup(RSP_DELETE);
	op.state = RSP_STATE_ENABLED;
	begin();
	order(ID1);
	done("[{\"disableResult\":\"ok\"},{\"processingTerminated\":\"interruption\"}]");
	check(lists(), "disabled, then broken off: ask");
	order(ID2);
	done(LIST(ENTRY(CARD1, "disabled")));
	check(is(RSP_ACT_SEND) && strstr(last_body, "\"psmo\":[{\"delete\""), "only the rest");
	setup(RSP_DELETE);
	op.state = RSP_STATE_ENABLED;
	begin();
	order(ID1);
	done("[{\"disableResult\":\"ok\"}]");
	check(lists(), "a list of results that is too short: ask");
	order(ID2);
	done(LIST(ENTRY(CARD2, "enabled")));
	check(is(RSP_ACT_ASK), "gone: seen once");
	done(LIST(ENTRY(CARD1, "disabled")));
	check(is(RSP_ACT_SEND) && strstr(last_body, "\"delete\""), "but not twice");

	/* download */
	setup(RSP_DOWNLOAD);
	begin();
	order(ID1);
	done("[{\"profileInstallationResult\":{\"finalResult\":\"successResult\",\"iccid\":\"" CARD3 "\"}}]");
	check(is(RSP_ACT_ASK) && path_is("GET /download/lookup/" ID1), "another ICCID: read again");
	done("[{\"profileInstallationResult\":{\"finalResult\":\"successResult\",\"iccid\":\"" CARD1 "\"}}]");
	check(is(RSP_ACT_DONE) && conv.action.iccid[0] == '\0', "it was misread");
	setup(RSP_DOWNLOAD);
	begin();
	order(ID1);
	for (i = 0; i < 2; i++)
		done("[{\"profileInstallationResult\":{\"finalResult\":\"successResult\",\"iccid\":\"" CARD3 "\"}}]");
	check(lists(), "told twice: what is there?");
	listed(LIST(ENTRY(CARD3, "disabled") "," ENTRY(CARD2, "enabled")));
	check(is(RSP_ACT_DONE) && strcmp(conv.action.iccid, ICCID3) == 0 &&
		  strstr(conv.action.message, "another ICCID") != NULL, "another ICCID than asked for");
	setup(RSP_DOWNLOAD);
	begin();
	order(ID1);
	for (i = 0; i < 2; i++)
		done("[{\"profileInstallationResult\":{\"finalResult\":\"successResult\",\"iccid\":\"" CARD3 "\"}}]");
	listed(LIST(ENTRY(CARD1, "disabled")));
	check(is(RSP_ACT_DONE) && conv.action.iccid[0] == '\0', "the one asked for is there");
	setup(RSP_DOWNLOAD);
	begin();
	order(ID1);
	for (i = 0; i < 2; i++)
		done("[{\"profileInstallationResult\":{\"finalResult\":\"successResult\",\"iccid\":\"" CARD3 "\"}}]");
	listed(LIST(ENTRY(CARD2, "enabled")));
	check(fails("OUTCOME_UNKNOWN") && state_is(RSP_STATE_FAILED), "neither is");
	setup(RSP_DOWNLOAD);
	op.iccid = NULL;
	begin();
	order(ID1);
	done("[{\"profileInstallationResult\":{\"finalResult\":\"successResult\"}}]");
	check(is(RSP_ACT_DONE) && conv.action.message[0] != '\0', "no ICCID is told");
	setup(RSP_DOWNLOAD);
	begin();
	order(ID1);
	done("[{\"profileInstallationResult\":{\"finalResult\":\"errorResult\"}}]");
	check(fails("SERVICE_NOT_APPLICABLE") && state_is(RSP_STATE_FAILED), "the profile is spent");
	setup(RSP_DOWNLOAD);
	begin();
	order(ID1);
	done("[{\"cancelSessionResult\":\"ok\"}]");
	check(fails("SERVICE_NOT_APPLICABLE") && !conv.action.profile_state_set, "the profile is not");
	setup(RSP_DOWNLOAD);
	op.iccid = NULL;
	begin();
	order(ID1);
	done("[{\"procedureError\":\"stuckOrder\"}]");
	listed(LIST(ENTRY(CARD2, "enabled")));
	check(fails("OUTCOME_UNKNOWN") && state_is(RSP_STATE_FAILED) && conv.nreports == 1,
		  "stuck, and the ICCID is not known");
	setup(RSP_DOWNLOAD);
	op.iccid = NULL;
	begin();
	order(ID1);
	done("[{\"procedureError\":\"stuckOrder\"}]");
	listed(LIST(""));
	check(sends_to("POST /download/create"), "unless the eUICC is empty");
	setup(RSP_DOWNLOAD);
	begin();
	order(ID1);
	done("[{\"procedureError\":\"stuckOrder\"}]");
	listed(LIST(ENTRY(CARD2, "enabled")));
	order(ID3);
	done("[{\"procedureError\":\"authenticateClientError\"}]");
	check(lists(), "refused, but an earlier one may have worked");
	listed(LIST(ENTRY(CARD1, "disabled")));
	check(is(RSP_ACT_DONE), "so it has");
	setup(RSP_DOWNLOAD);
	begin();
	order(ID1);
	done("[{\"procedureError\":\"handleNotificationError\"}]");
	listed(LIST("{\"iccid\":\"9844\"}"));
	check(fails("OUTCOME_UNKNOWN"), "a list that is not whole proves nothing");

	/* the same order again and again */
	setup(RSP_ENABLE);
	begin();
	for (i = 0; i < 20 && conv.action.type == RSP_ACT_SEND; i++)
	{
		order(fresh());
		done("[{\"procedureError\":\"stuckOrder\"}]");
		listed(LIST(ENTRY(CARD1, "disabled")));
	}
	check(fails("TIMEOUT") && i == 5 && state_is(RSP_STATE_DISABLED) &&
		  strstr(conv.action.rsp_code, "stuckOrder") != NULL, "stuck five times");
	setup(RSP_ENABLE);
	begin();
	for (i = 0; i < 20 && conv.action.type == RSP_ACT_SEND; i++)
	{
		order(fresh());
		done("[{\"euiccPackageErrorCode\":\"replayError\"}]");
		if (conv.action.type == RSP_ACT_WAIT)
			again();
	}
	check(is(RSP_ACT_PARK) && strcmp(conv.action.code, "CONFLICT") == 0 && i == 4,
		  "the eIM's counter is behind: parked");
	begin();
	order(ID1);
	done("[{\"enableResult\":\"ok\"}]");
	check(is(RSP_ACT_DONE), "until it is seen to");
	setup(RSP_ENABLE);
	begin();
	for (i = 0; i < 30 && conv.action.type == RSP_ACT_SEND; i++)
	{
		order(fresh());
		done("[{\"enableResult\":\"catBusy\"}]");
		again();
	}
	check(i == 30, "catBusy is retried as long as it takes");

	/* the order is gone */
	setup(RSP_ENABLE);
	begin();
	order(ID1);
	answer(200, "{\"status\":\"absent\"}");
	check(is(RSP_ACT_ASK) && path_is("GET /psmo/list") && op.unresolved, "absent: is it there by another name");
	no_orders();
	check(lists() && op.now_ms >= T0 + 40000, "absent: ask");
	listed(list_without(RSP_ENABLE));
	check(is(RSP_ACT_SEND) && sends == 3, "not done: handed in again");
	setup(RSP_REFRESH);
	begin();
	for (i = 0; i < 20 && conv.action.type == RSP_ACT_SEND; i++)
	{
		order(fresh());
		answer(200, "{\"status\":\"absent\"}");
		no_orders();
		if (conv.action.type == RSP_ACT_WAIT)
			again();
	}
	check(fails("INTERNAL") && i == 10, "a refresh that is always gone fails");

	/* lists that fail */
	setup(RSP_REFRESH);
	begin();
	for (i = 0; i < 20 && conv.action.type == RSP_ACT_SEND; i++)
	{
		order(fresh());
		done("[{\"listProfileInfoResult\":{\"finalResult\":\"errorResult\"}}]");
		if (conv.action.type == RSP_ACT_WAIT)
			again();
	}
	check(fails("INTERNAL") && i == 10, "the eUICC does not list");
	setup(RSP_REFRESH);
	begin();
	order(ID1);
	done("[{\"procedureError\":\"badPsmo\"}]");
	check(fails("SERVICE_NOT_APPLICABLE"), "the eIM does not list");
	setup(RSP_REFRESH);
	begin();
	for (i = 0; i < 20 && conv.action.type == RSP_ACT_SEND; i++)
	{
		order(fresh());
		done(i % 3 == 0 ? "[{\"listProfileInfoResult\":\"profileChangeOngoing\"}]" :
			 i % 3 == 1 ? "[{\"listProfileInfoResult\":11}]" :
			 "[{\"listProfileInfoResult\":{\"finalResult\":\"errorResult\",\"error\":\"profileChangeOngoing\"}}]");
		if (!waits(RSP_PHASE_RETRYING))
			break;
		again();
	}
	check(i == 20, "profileChangeOngoing is retried as long as it takes");
	setup(RSP_REFRESH);
	begin();
	order(ID1);
	done("[{\"listProfileInfoResult\":1}]");
	check(fails("INTERNAL"), "incorrectInputValues");
	setup(RSP_ENABLE);
	begin();
	order(ID1);
	done("[{\"procedureError\":\"euiccSignatureInvalid\"}]");
	order(ID2);
	done("[{\"procedureError\":\"euiccSignatureInvalid\"}]");
	check(fails("OUTCOME_UNKNOWN"), "no answer of the eUICC can be trusted");
	setup(RSP_ENABLE);
	begin();
	order(ID1);
	done("[{\"enableResult\":\"profileNotInDisabledState\"}]");
	order(ID2);
	done("[{\"procedureError\":\"badPsmo\"}]");
	check(fails("INCOMPATIBLE_STATE"), "refused, and no list can be had");
}

#define NARROW \
	"{\"eidValue\":\"" EID1 "\",\"order\":{\"psmo\":[{\"listProfileInfo\":{\"tagList\":\"5A9F70\"}}]}}"

static void
test_lists(void)
{
	int			i;

	/* a name that is not UTF-8 crashes each look-up */
	setup(RSP_REFRESH);
	begin();
	order(ID1);
	for (i = 0; i < 20 && conv.action.type == RSP_ACT_ASK && strstr(last_path, "/lookup/"); i++)
	{
		answer(500, "");
		again();
	}
	check(path_is("GET /psmo/delete/" ID1), "a list that cannot be told is taken away");
	answer(200, "{\"status\":\"deleted\"}");
	check(waits(RSP_PHASE_RETRYING), "another one is asked for later");
	again();
	check(sends_to("POST /psmo/create") && body_is(NARROW), "of ICCIDs and states alone");
	order(ID2);
	done(LIST("{\"iccid\":\"" CARD1 "\",\"profileState\":\"enabled\"}"));
	check(is(RSP_ACT_DONE) && conv.nreports == 1 && conv.reports_whole &&
		  conv.reports[0].state == RSP_STATE_ENABLED, "and read");
	setup(RSP_REFRESH);
	begin();
	order(ID1);
	done("[{\"processingTerminated\":\"resultSizeOverflow\"}]");
	again();
	check(sends_to("POST /psmo/create") && body_is(NARROW), "a list that became too long");
	setup(RSP_REFRESH);
	begin();
	order(ID1);
	done("[{\"listProfileInfoResult\":{\"finalResult\":\"ok\",\"profileInfoList\":[]}}]");
	check(is(RSP_ACT_DONE) && conv.reports_whole, "finalResult of an early version");

	setup(RSP_REFRESH);
	begin();
	order(ID1);
	done(LIST("{\"iccid\":\"" CARD1 "\",\"profileState\":\"enabled\",\"fallbackAttribute\":false},"
			  "{\"iccid\":\"" CARD2 "\",\"profileState\":\"disabled\",\"fallbackAttribute\":true},"
			  "{\"iccid\":\"" CARD3 "\"},"
			  "{\"iccid\":\"98060000D16104207267\",\"profileState\":\"disabled\"}"));
	check(is(RSP_ACT_DONE) && conv.nreports == 3 && conv.reports_whole &&
		  conv.reports[0].is_fallback == 0 && conv.reports[1].is_fallback == 1 &&
		  conv.reports[2].is_fallback == 0 && conv.reports[2].state == RSP_STATE_INSTALLED,
		  "fallback of v1.2, no state, an ICCID with letters");
	setup(RSP_REFRESH);
	begin();
	order(ID1);
	done(LIST("{\"iccid\":\"" CARD1 "\",\"profileState\":1,\"profileClass\":2},"
			  "{\"iccid\":\"98543700000012181938\",\"profileState\":0},"
			  "{\"iccid\":\"984474680000230631f1\",\"profileState\":\"Enabled\"}"));
	check(conv.nreports == 3 && conv.reports[0].state == RSP_STATE_ENABLED &&
		  conv.reports[1].state == RSP_STATE_DISABLED && conv.reports[2].state == RSP_STATE_ENABLED &&
		  conv.reports_whole, "numbers, small letters, two enabled: reported as told");
	setup(RSP_REFRESH);
	begin();
	order(ID1);
	done(LIST("{\"iccid\":\"" CARD1 "\",\"profileState\":\"enabled\"},"
			  "{\"iccid\":\"98447468000023063\",\"profileState\":\"disabled\"}"));
	check(is(RSP_ACT_DONE) && conv.nreports == 1 && !conv.reports_whole,
		  "nine octets are no ICCID, and the list is not whole");
	setup(RSP_REFRESH);
	begin();
	order(ID1);
	done(LIST(ENTRY(CARD1, "enabled") "," ENTRY(CARD1, "disabled")));
	check(conv.nreports == 1 && !conv.reports_whole, "an ICCID twice");
	setup(RSP_REFRESH);
	begin();
	order(ID1);
	done(LIST(""));
	check(is(RSP_ACT_DONE) && conv.nreports == 0 && conv.reports_whole, "an empty eUICC");
	setup(RSP_REFRESH);
	begin();
	order(ID1);
	done("[{\"listProfileInfoResult\":{\"finalResult\":\"successResult\"}}]");
	check(waits(RSP_PHASE_RETRYING), "success without a list");
}

/* ----- somebody wants it cancelled ----- */

static bool
cancelled(void)
{
	return fails("CANCELLED") && conv.action.cancelled && !op.unresolved;
}

static void
test_cancel(void)
{
	static const RspKind kinds[] = {RSP_DOWNLOAD, RSP_ENABLE, RSP_DISABLE, RSP_DELETE, RSP_REFRESH};
	size_t		i;

	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
	{
		setup(kinds[i]);
		begin();
		order(ID1);
		answer(200, told("new", "[]"));
		op.cancel_asked = true;
		again();
		answer(200, told("new", "[]"));
		check(waits(RSP_PHASE_WAITING_DEVICE) && sends == 1 && strstr(conv.action.message, "cancelled"),
			  "%s: it waits until nobody can fetch the order", rsp_kind_name(kinds[i]));
		again();
		noshow();
		check(cancelled() && sends == 1, "then it is cancelled");
	}

	setup(RSP_ENABLE);
	begin();
	order(ID1);
	op.cancel_asked = true;
	done("[{\"enableResult\":\"ok\"}]");
	check(is(RSP_ACT_DONE), "the device was quicker");
	setup(RSP_ENABLE);
	begin();
	order(ID1);
	op.cancel_asked = true;
	done("[{\"enableResult\":\"catBusy\"}]");
	again();
	check(cancelled() && sends == 1, "the eUICC was busy: not once more");
	setup(RSP_ENABLE);
	begin();
	answer_outcome(HTTP_LOST);
	op.cancel_asked = true;
	no_orders();
	check(cancelled() && sends == 1, "the order was never made");

	/* not where something may have been carried out */
	setup(RSP_ENABLE);
	begin();
	order(ID1);
	op.cancel_asked = true;
	done("[{\"procedureError\":\"stuckOrder\"}]");
	check(lists(), "nobody knows: the eUICC is asked");
	order(ID2);
	noshow();
	check(lists() && sends == 3, "and is asked until it answers");
	order(ID3);
	done("[{\"listProfileInfoResult\":{\"finalResult\":\"errorResult\"}}]");
	check(waits(RSP_PHASE_RETRYING) && op.step != 0, "meanwhile it cannot be cancelled at once");
	again();
	order(ID4);
	done(LIST(ENTRY(CARD1, "enabled")));
	check(is(RSP_ACT_DONE), "it was carried out");
	setup(RSP_DOWNLOAD);
	op.activate_on_download = true;
	begin();
	order(ID1);
	op.cancel_asked = true;
	done("[{\"profileInstallationResult\":{\"finalResult\":\"successResult\",\"iccid\":\"" CARD1 "\"}}]");
	check(sends_to("POST /psmo/create") && strstr(last_body, "enable"), "downloaded: goes on");
	order(ID2);
	done("[{\"enableResult\":\"catBusy\"}]");
	check(waits(RSP_PHASE_RETRYING) && op.step != 0, "cannot be cancelled at once");
	setup(RSP_DELETE);
	op.state = RSP_STATE_ENABLED;
	begin();
	order(ID1);
	op.cancel_asked = true;
	done("[{\"disableResult\":\"ok\"},{\"deleteResult\":\"catBusy\"}]");
	check(waits(RSP_PHASE_RETRYING) && op.step != 0, "half done: not at once either");
	again();
	check(sends_to("POST /psmo/create"), "goes on");

	/* an earlier timeline may have sent it: the eUICC tells */
	setup(RSP_ENABLE);
	op.ask_first = op.cancel_asked = true;
	begin();
	answer(200, "{\"resourceIdList\": []}");
	check(lists() && !op.ask_first, "of an earlier timeline: the eUICC is asked");
	order(ID1);
	done(LIST(ENTRY(CARD1, "disabled")));
	check(cancelled() && sends == 1, "it was not carried out: cancelled");
	setup(RSP_ENABLE);
	op.ask_first = op.cancel_asked = true;
	begin();
	answer(200, "{\"resourceIdList\": []}");
	order(ID1);
	done(LIST(ENTRY(CARD1, "enabled")));
	check(is(RSP_ACT_DONE), "it was carried out: too late");

	/* nothing was done: the queue's row says so */
	setup(RSP_ENABLE);
	begin();
	order(ID1);
	done("[{\"enableResult\":\"catBusy\"}]");
	check(waits(RSP_PHASE_RETRYING) && op.step == 0 && op.rsp_operation_id[0] == '\0' &&
		  !op.unresolved, "busy: can be cancelled at once");
}

/* ----- statuses of HTTP ----- */

static void
test_http(void)
{
	static const struct
	{
		int			status;
		char		create;		/* F final, R retry, P park, U unknown */
		char		get;		/* R retry, P park, B busy, N not understood */
		const char *code;
	}			rows[] = {
		{400, 'F', 'N', "INVALID_ARGUMENT"}, {401, 'P', 'P', "UNAUTHENTICATED"},
		{403, 'P', 'P', "PERMISSION_DENIED"}, {404, 'P', 'N', "NOT_FOUND"},
		{405, 'P', 'P', "METHOD_NOT_ALLOWED"}, {406, 'P', 'P', "NOT_ACCEPTABLE"},
		{407, 'P', 'P', "UNAUTHENTICATED"}, {408, 'R', 'R', "TIMEOUT"}, {409, 'R', 'R', "CONFLICT"},
		{410, 'P', 'N', "GONE"}, {413, 'F', 'N', "INVALID_ARGUMENT"},
		{414, 'P', 'P', "INVALID_ARGUMENT"}, {415, 'P', 'P', "UNSUPPORTED_MEDIA_TYPE"},
		{422, 'F', 'N', "INVALID_ARGUMENT"}, {431, 'P', 'P', "INVALID_ARGUMENT"},
		{425, 'R', 'R', "UNAVAILABLE"}, {429, 'R', 'R', "TOO_MANY_REQUESTS"},
		{500, 'U', 'B', "INTERNAL"}, {501, 'P', 'P', "NOT_IMPLEMENTED"}, {502, 'U', 'B', "BAD_GATEWAY"},
		{503, 'U', 'B', "UNAVAILABLE"}, {504, 'U', 'B', "TIMEOUT"}, {599, 'U', 'B', "INTERNAL"},
		{100, 'U', 'R', "INTERNAL"}, {200, 'U', 'N', "INTERNAL"}, {204, 'U', 'N', "INTERNAL"},
		{301, 'U', 'P', "UNAVAILABLE"}, {307, 'U', 'P', "UNAVAILABLE"}, {0, 'U', 'R', "INTERNAL"},
		{700, 'U', 'R', "INTERNAL"}
	};
	size_t		i;
	int			n;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		bool		good;

		setup(RSP_ENABLE);
		begin();
		answer(rows[i].status, "<html>");
		if (rows[i].create == 'F')
			good = fails(rows[i].code) && !op.unresolved;
		else if (rows[i].create == 'U')
			good = is(RSP_ACT_ASK) && path_is("GET /psmo/list") && op.unresolved;
		else
		{
			good = waits(rows[i].create == 'P' ? RSP_PHASE_PARKED : RSP_PHASE_RETRYING) &&
				!op.unresolved && strcmp(conv.action.code, rows[i].code) == 0;
			again();
			good = good && sends_to("POST /psmo/create");
		}
		check(good, "create %d", rows[i].status);

		setup(RSP_ENABLE);
		begin();
		order(ID1);
		answer(rows[i].status, "<html>");
		good = waits(rows[i].get == 'P' ? RSP_PHASE_PARKED : RSP_PHASE_RETRYING) &&
			strcmp(conv.action.code, rows[i].code) == 0 &&
			conv.action.server_trouble == (rows[i].get == 'B' && rows[i].status != 500) && cleans("/psmo/delete/" ID1);
		again();
		check(good && path_is("GET /psmo/lookup/" ID1) && sends == 1, "lookup %d", rows[i].status);
	}

	setup(RSP_ENABLE);
	begin();
	answer_outcome(HTTP_NOT_SENT);
	check(waits(RSP_PHASE_RETRYING) && conv.action.server_trouble && !op.unresolved, "not sent");
	again();
	check(sends_to("POST /psmo/create"), "sent then");
	answer_raw(HTTP_ANSWERED, 429, "", 0, 60000);
	check(waits(RSP_PHASE_RETRYING) && conv.action.delay_ms >= 60000, "Retry-After");

	/* answers without sense */
	setup(RSP_ENABLE);
	begin();
	order(ID1);
	for (n = 0; n < 40; n++)
	{
		answer(200, "{\"status\":\"done");
		if (conv.action.type != RSP_ACT_WAIT)
			break;
		again();
	}
	check(is(RSP_ACT_ASK) && path_is("GET /psmo/delete/" ID1) && n == 12,
		  "an order that cannot be understood is taken away");
	answer_outcome(HTTP_LOST);
	check(waits(RSP_PHASE_RETRYING), "if it can");
	again();
	check(path_is("GET /psmo/delete/" ID1), "again");
	answer(200, "{\"status\":\"deleted\"}");
	check(lists(), "and the eUICC asked");
	order(ID2);
	done(LIST(ENTRY(CARD1, "enabled")));
	check(is(RSP_ACT_DONE), "it was done");
	setup(RSP_ENABLE);
	begin();
	order(ID1);
	for (n = 0; n < 40; n++)
	{
		answer(200, "{\"status\":\"error\"}");
		if (conv.action.type != RSP_ACT_WAIT)
			break;
		again();
	}
	check(path_is("GET /psmo/delete/" ID1), "status error");
	setup(RSP_ENABLE);
	begin();
	order(ID1);
	for (n = 0; n < 40; n++)
	{
		answer(404, "");
		if (conv.action.type != RSP_ACT_WAIT)
			break;
		again();
	}
	no_orders();
	check(lists() && n == 12, "404 for good is as absent");

	/* the handler crashes at this order */
	setup(RSP_ENABLE);
	begin();
	order(ID1);
	for (n = 0; n < 40; n++)
	{
		answer(500, "");
		if (conv.action.type != RSP_ACT_WAIT)
			break;
		check(n != 0 || !conv.action.server_trouble, "500 of one order holds up no others");
		again();
	}
	check(n == 12 && path_is("GET /psmo/delete/" ID1), "500 for good: taken away");
	answer(500, "");
	check(waits(RSP_PHASE_RETRYING), "the eIM has trouble with all");
	again();
	check(path_is("GET /psmo/lookup/" ID1), "then it is looked up again");
	for (n = 0; n < 40 && path_is("GET /psmo/lookup/" ID1); n++)
	{
		answer(500, "");
		if (conv.action.type == RSP_ACT_WAIT)
			again();
	}
	answer(200, "{\"status\":\"deleted\"}");
	check(lists(), "what became of it is asked");

	/* another one's order */
	setup(RSP_ENABLE);
	begin();
	order(ID1);
	answer(200, "{\"status\":\"done\",\"timestamp\":\"1\",\"resource\":{\"eidValue\":\"" EID2 "\",\"order\":{\"psmo\":"
		   "[{\"enable\":{\"iccid\":\"" CARD1 "\",\"rollback\":true}}]}},\"outcome\":[{\"enableResult\":\"ok\"}]}");
	check(waits(RSP_PHASE_RETRYING), "another EID");
	check(conv.cleanup_path == NULL, "another eUICC's order is not taken away");
	again();
	answer(200, "{\"status\":\"done\",\"timestamp\":\"1\",\"resource\":{\"eidValue\":\"" EID1 "\",\"order\":{\"psmo\":"
		   "[{\"enable\":{\"iccid\":\"" CARD2 "\",\"rollback\":true}}]}},\"outcome\":[{\"enableResult\":\"ok\"}]}");
	check(waits(RSP_PHASE_RETRYING), "another ICCID");
	again();
	answer(200, "{\"status\":\"done\",\"timestamp\":\"1\",\"resource\":{\"eidValue\":\"" EID1 "\",\"order\":{\"psmo\":"
		   "[{\"disable\":{\"iccid\":\"" CARD1 "\"}}]}},\"outcome\":[{\"enableResult\":\"ok\"}]}");
	check(waits(RSP_PHASE_RETRYING), "another PSMO");
	again();
	answer(200, "{\"status\":\"done\",\"resource\":{\"order\":{\"psmo\":[{\"enable\":{\"rollback\":true,\"iccid\":\""
		   "984474680000730771f0\"}}]},\"eidValue\":\"" EID1 "\"},\"outcome\":[{\"enableResult\":\"ok\"}]}");
	check(is(RSP_ACT_DONE), "our own, otherwise written");
	setup(RSP_ENABLE);
	begin();
	order(ID1);
	answer(200, "{\"status\":\"done\",\"outcome\":[{\"enableResult\":\"ok\"}]}");
	check(is(RSP_ACT_DONE), "only status is mandatory");
}

/* the eIM names another eUICC's order */
static void
test_strange(void)
{
	static const char other[] = "{\"status\":\"new\",\"timestamp\":\"1\",\"resource\":{\"eidValue\":\"" EID2
		"\",\"order\":{\"psmo\":[{\"enable\":{\"iccid\":\"" CARD1 "\",\"rollback\":true}}]}},\"outcome\":[]}";
	int			n;

	setup(RSP_ENABLE);
	begin();
	order(ID1);
	for (n = 0; n < 10; n++)
	{
		answer(200, other);
		if (conv.action.type != RSP_ACT_WAIT)
			break;
		check(conv.cleanup_path == NULL, "not taken away while it waits");
		again();
	}
	check(n == 2 && path_is("GET /psmo/list") && op.unresolved, "three times: looked for by another name");
	answer(200, "{\"resourceIdList\": [\"" ID1 "\",\"" ID2 "\"]}");
	check(json_array_size(conv.candidates) == 1, "not by that one");
	again();
	check(path_is("GET /psmo/lookup/" ID2), "looked up");
	answer(200, told("new", "[]"));
	check(waits(RSP_PHASE_WAITING_DEVICE) && strcmp(op.rsp_operation_id, ID2) == 0 && sends == 1, "found");
	again();
	done("[{\"enableResult\":\"ok\"}]");
	check(is(RSP_ACT_DONE) && cleans("/psmo/delete/" ID2), "and done");

	/* an eIM without patience */
	setup(RSP_ENABLE);
	begin();
	order(ID1);
	done("[{\"procedureError\":\"noshowOrder\"}]");
	check(waits(RSP_PHASE_RETRYING) && near(conv.action.delay_ms, 5000), "noshow at once: not again at once");
	again();
	check(is(RSP_ACT_SEND) && sends == 2, "but then");

	/* after days it is not looked up every ten minutes */
	setup(RSP_ENABLE);
	begin();
	order(ID1);
	answer(200, told("new", "[]"));
	check(waits(RSP_PHASE_WAITING_DEVICE) && near(conv.action.delay_ms, 1000), "a second");
	op.polls = 20;
	json_object_set_new(op.memo, "life", json_integer(30 * 86400));
	again();
	answer(200, told("new", "[]"));
	check(near(conv.action.delay_ms, 600000), "ten minutes");
	op.now_ms = T0 + 72 * HOUR;
	begin();
	answer(200, told("new", "[]"));
	check(near(conv.action.delay_ms, 1800000), "after three days half an hour");
	op.now_ms = T0 + 24 * 20 * HOUR;
	begin();
	answer(200, told("new", "[]"));
	check(near(conv.action.delay_ms, HOUR), "after weeks an hour");
}

/* ----- lost answers to create ----- */

static void
unknown(const char *ids)
{
	json_t	   *array = json_loads(ids, 0, NULL);

	json_object_set_new(op.memo, "unknown", array);
}

static void
test_lost(void)
{
	static char many[80000];
	char		resource[sizeof(last_resource)];
	int			i;
	size_t		at;

	/* it was made */
	setup(RSP_ENABLE);
	begin();
	remember();
	answer_outcome(HTTP_LOST);
	check(is(RSP_ACT_ASK) && path_is("GET /psmo/list") && op.unresolved, "lost: which orders");
	answer(200, "{\"resourceIdList\": [\"" ID3 "\",\"" ID1 "\",\"" ID2 "\"]}");
	check(waits(RSP_PHASE_UNKNOWN) && conv.action.delay_ms <= 10 &&
		  json_array_size(conv.candidates) == 3, "those that esim does not know?");
	unknown("[\"" ID3 "\",\"" ID1 "\"]");
	save();
	crash();
	again();
	check(is(RSP_ACT_ASK) && path_is("GET /psmo/lookup/" ID3), "one by one");
	snprintf(resource, sizeof(resource), "%s", last_resource);
	snprintf(last_resource, sizeof(last_resource), "{\"eidValue\":\"" EID2 "\",\"order\":{\"psmo\":"
			 "[{\"enable\":{\"iccid\":\"" CARD1 "\",\"rollback\":true}}]}}");
	answer(200, told("new", "[]"));
	check(path_is("GET /psmo/lookup/" ID1), "another eUICC's");
	snprintf(last_resource, sizeof(last_resource), "%s", resource);
	answer(200, told("work", "[]"));
	check(waits(RSP_PHASE_WAITING_DEVICE) && strcmp(op.rsp_operation_id, ID1) == 0 &&
		  !op.unresolved && json_object_get(op.memo, "unknown") == NULL &&
		  json_object_get(op.memo, "listed") == NULL, "found");
	again();
	done("[{\"enableResult\":\"ok\"}]");
	check(is(RSP_ACT_DONE) && sends == 1, "and done");

	setup(RSP_DOWNLOAD);
	begin();
	remember();
	answer_outcome(HTTP_LOST);
	check(path_is("GET /download/list"), "in its own facility");
	answer(200, "{\"resourceIdList\": [\"" ID1 "\"]}");
	again();
	done("[{\"profileInstallationResult\":{\"finalResult\":\"successResult\",\"iccid\":\"" CARD1 "\"}}]");
	check(is(RSP_ACT_DONE) && sends == 1, "found when it was done already");

	/* it was not */
	setup(RSP_ENABLE);
	begin();
	answer_outcome(HTTP_LOST);
	answer(200, "{\"resourceIdList\": []}");
	check(waits(RSP_PHASE_UNKNOWN) && sends == 1, "not there yet");
	again();
	check(path_is("GET /psmo/list"), "listed again");
	answer(200, "{\"resourceIdList\": []}");
	op.now_ms = T0 + 41000;
	begin();
	answer(200, "{\"resourceIdList\": []}");
	check(sends_to("POST /psmo/create") && sends == 2, "not there after the grace: handed in again");
	for (i = 0; i < 8; i++)
	{
		int64_t		then = op.now_ms;

		answer(500, "");
		no_orders();
		if (i > 4)
			check(op.now_ms - then >= 40000, "an order that is never made is not handed in ever faster");
		check(waits(RSP_PHASE_RETRYING) && !op.unresolved, "not made once more");
		again();
		check(is(RSP_ACT_SEND) && sends == i + 3, "handed in again");
	}
	order(ID1);
	check(is(RSP_ACT_ASK) && json_object_get(op.memo, "unmade") == NULL, "made at last");

	/* it may be made while the orders are looked up */
	setup(RSP_ENABLE);
	begin();
	remember();
	op.now_ms = T0 + 35000;
	answer_outcome(HTTP_LOST);
	answer(200, "{\"resourceIdList\": [\"" ID2 "\"]}");
	again();
	op.now_ms = T0 + 45000;
	answer(200, "{\"status\":\"absent\"}");
	check(waits(RSP_PHASE_UNKNOWN) && sends == 1, "listed before the grace was over: listed once more");
	again();
	answer(200, "{\"resourceIdList\": [\"" ID1 "\",\"" ID2 "\"]}");
	again();
	answer(200, told("new", "[]"));
	check(waits(RSP_PHASE_WAITING_DEVICE) && strcmp(op.rsp_operation_id, ID1) == 0, "and there it is");

	/* an older one of the same content */
	setup(RSP_ENABLE);
	begin();
	remember();
	answer_outcome(HTTP_LOST);
	answer(200, "{\"resourceIdList\": [\"" ID1 "\",\"" ID2 "\"]}");
	again();
	op.now_ms -= 60000;
	snprintf(many, sizeof(many), "%s", told("done", "[{\"enableResult\":\"ok\"}]"));
	op.now_ms += 60000;
	answer(200, many);
	check(path_is("GET /psmo/lookup/" ID2), "done before ours was handed in: not ours");
	answer(200, told("done", "[{\"enableResult\":\"ok\"}]"));
	check(is(RSP_ACT_DONE), "done after it: ours");
	for (i = 0; i < 2; i++)
	{
		setup(RSP_ENABLE);
		begin();
		remember();
		answer_outcome(HTTP_LOST);
		answer(200, "{\"resourceIdList\": [\"" ID1 "\"]}");
		again();
		op.now_ms -= 60000;
		snprintf(many, sizeof(many), "%s", told(i ? "work" : "new", "[]"));
		op.now_ms += 60000;
		answer(200, many);
		check(waits(RSP_PHASE_UNKNOWN) && op.rsp_operation_id[0] == '\0',
			  "handed in before ours: somebody else's, though it is the same");
	}

	/* the look-ups fail */
	setup(RSP_ENABLE);
	begin();
	remember();
	answer_outcome(HTTP_LOST);
	answer_outcome(HTTP_LOST);
	check(waits(RSP_PHASE_UNKNOWN) && op.unresolved, "the list is lost as well");
	again();
	answer(503, "");
	check(waits(RSP_PHASE_UNKNOWN) && conv.action.server_trouble, "503");
	again();
	answer(200, "{\"resourceIdList\": [\"" ID1 "\",\"" ID2 "\"]}");
	again();
	answer_outcome(HTTP_NOT_SENT);
	check(waits(RSP_PHASE_UNKNOWN) && op.unresolved, "the look-up is lost");
	crash();
	again();
	check(path_is("GET /psmo/lookup/" ID1), "and asked again");
	answer(200, "{");
	check(path_is("GET /psmo/lookup/" ID2), "one that cannot be read");
	answer(200, "{\"status\":\"absent\"}");
	check(waits(RSP_PHASE_UNKNOWN) && op.unresolved && sends == 1,
		  "while one cannot be read it is not taken for not made");
	for (i = 0; i < 200 && conv.action.type == RSP_ACT_WAIT; i++)
	{
		again();
		if (conv.action.type != RSP_ACT_ASK)
			continue;
		if (path_is("GET /psmo/list"))
		{
			answer(200, "{\"resourceIdList\": [\"" ID1 "\"]}");
			again();
		}
		answer(200, "{");
	}
	check(fails("OUTCOME_UNKNOWN") && sends == 1 && op.now_ms >= T0 + HOUR,
		  "after all that time nobody knows");
	setup(RSP_ENABLE);
	begin();
	answer_outcome(HTTP_LOST);
	for (i = 0; i < 200; i++)
	{
		answer(200, i % 2 ? "{\"resourceIdList\":{}}" : "[]");
		if (conv.action.type != RSP_ACT_WAIT)
			break;
		again();
	}
	check(fails("OUTCOME_UNKNOWN") && sends == 1, "nor if there is no list");
	setup(RSP_REFRESH);
	begin();
	answer_outcome(HTTP_LOST);
	for (i = 0; i < 200; i++)
	{
		answer(200, "{}");
		if (conv.action.type != RSP_ACT_WAIT)
			break;
		again();
		if (conv.action.type == RSP_ACT_SEND)
			break;
	}
	check(lists() && sends == 2, "a refresh may be handed in twice");

	/* an eIM that has more than 52 orders cannot list them */
	setup(RSP_ENABLE);
	begin();
	answer_outcome(HTTP_LOST);
	for (i = 0; i < 200; i++)
	{
		answer(500, "");
		if (conv.action.type != RSP_ACT_WAIT || conv.action.server_trouble)
			break;
		again();
	}
	check(lists() && sends == 2 && op.now_ms >= T0 + HOUR,
		  "a list that crashes: the eUICC is asked when the order can no longer be open");
	order(ID2);
	done(LIST(ENTRY(CARD1, "enabled")));
	check(is(RSP_ACT_DONE) && sends == 2, "it had been carried out");
	setup(RSP_ENABLE);
	op.ask_first = true;
	begin();
	for (i = 0; i < 200; i++)
	{
		answer(500, "");
		if (conv.action.type != RSP_ACT_WAIT || conv.action.server_trouble)
			break;
		again();
	}
	check(lists() && sends == 1 && !op.ask_first, "so is one of an earlier timeline");
	order(ID2);
	done(LIST(ENTRY(CARD1, "disabled")));
	check(sends_to("POST /psmo/create") && strstr(last_body, "enable") != NULL,
		  "and handed in, as it had not been");

	/* an eIM of an early version */
	setup(RSP_ENABLE);
	begin();
	remember();
	answer_outcome(HTTP_LOST);
	answer(200, "{\"resource_id_list\": [\"" ID1 "\"]}");
	check(json_array_size(conv.candidates) == 1, "resource_id_list");

	/* many orders */
	setup(RSP_ENABLE);
	begin();
	remember();
	answer_outcome(HTTP_LOST);
	at = snprintf(many, sizeof(many), "{\"resourceIdList\":[");
	for (i = 0; i < 60; i++)
		at += snprintf(many + at, sizeof(many) - at, "%s\"550e8400-e29b-41d4-a716-%012d\"", i ? "," : "", i);
	snprintf(many + at, sizeof(many) - at, "]}");
	answer(200, many);
	again();
	for (i = 0; i < 200; i++)
	{
		if (conv.action.type == RSP_ACT_WAIT)
		{
			if (conv.action.delay_ms > 10)
				break;
			crash();
			again();
		}
		else if (conv.action.type == RSP_ACT_ASK && strstr(last_path, "000000000055"))
		{
			answer(200, told("new", "[]"));
			break;
		}
		else
			answer(200, "{\"status\":\"done\",\"resource\":{\"eidValue\":\"" EID2 "\",\"order\":{}},\"outcome\":[]}");
	}
	check(waits(RSP_PHASE_WAITING_DEVICE) && strstr(op.rsp_operation_id, "000000000055") &&
		  asks > 55 && asks < 62, "several a turn, each once (%d)", asks);

	at = snprintf(many, sizeof(many), "{\"resourceIdList\":[");
	for (i = 0; i < 1500; i++)
		at += snprintf(many + at, sizeof(many) - at, "%s\"550e8400-e29b-41d4-a716-%012d\"", i ? "," : "", i);
	snprintf(many + at, sizeof(many) - at, "]}");
	setup(RSP_ENABLE);
	begin();
	remember();
	answer_outcome(HTTP_LOST);
	answer(200, many);
	check(waits(RSP_PHASE_UNKNOWN) && json_array_size(conv.candidates) == 1500 &&
		  json_array_size(json_object_get(op.memo, "unknown")) == 1000, "no more than fit into the memo");
	unknown("[\"" ID1 "\"]");
	again();
	answer(200, told("new", "[]"));
	check(waits(RSP_PHASE_WAITING_DEVICE), "the worker knows most of them");

	/* or none: the search goes on behind those that have been looked up */
	setup(RSP_ENABLE);
	begin();
	remember();
	answer_outcome(HTTP_LOST);
	answer(200, many);
	again();
	for (i = 0; i < 4000; i++)
	{
		if (conv.action.type == RSP_ACT_WAIT)
		{
			if (conv.action.delay_ms > 10)
				break;
			crash();
			again();
		}
		else if (path_is_quietly("GET /psmo/list"))
			answer(200, many);
		else if (conv.action.type == RSP_ACT_ASK && strstr(last_path, "000000001499"))
			answer(200, told("new", "[]"));
		else
			answer(200, "{\"status\":\"done\",\"resource\":{\"eidValue\":\"" EID2 "\",\"order\":{}},\"outcome\":[]}");
	}
	check(waits(RSP_PHASE_WAITING_DEVICE) && strstr(op.rsp_operation_id, "000000001499") &&
		  asks >= 1502 && asks <= 1504, "1500 that nobody knows, each once (%d)", asks);
	check(json_object_get(op.memo, "beyond") == NULL && json_object_get(op.memo, "from") == NULL,
		  "nothing of the search stays");

	/* one of them cannot be told by the eIM */
	setup(RSP_ENABLE);
	begin();
	remember();
	answer_outcome(HTTP_LOST);
	answer(200, "{\"resourceIdList\": [\"" ID1 "\",\"" ID2 "\"]}");
	again();
	for (i = 0; i < 20 && path_is("GET /psmo/lookup/" ID1); i++)
	{
		answer(500, "");
		if (conv.action.type == RSP_ACT_WAIT)
			again();
	}
	check(i == 3 && path_is("GET /psmo/lookup/" ID2), "one that the eIM crashes at hides none");
	answer(200, told("new", "[]"));
	check(waits(RSP_PHASE_WAITING_DEVICE), "ours is found behind it");

	/* rows of an earlier timeline */
	setup(RSP_ENABLE);
	op.ask_first = true;
	begin();
	check(is(RSP_ACT_ASK) && path_is("GET /psmo/list") && sends == 0, "asks first");
	answer(200, "{\"resourceIdList\": []}");
	check(sends_to("POST /psmo/create") && !op.ask_first, "nothing there: handed in");
	order(ID1);
	done("[{\"enableResult\":\"disallowedByPolicy\"}]");
	check(lists(), "refused: had it been done before?");
	setup(RSP_ENABLE);
	op.ask_first = true;
	begin();
	last_resource[0] = '\0';
	snprintf(last_resource, sizeof(last_resource), "{\"eidValue\":\"" EID1 "\",\"order\":{\"psmo\":"
			 "[{\"enable\":{\"iccid\":\"" CARD1 "\",\"rollback\":true}}]}}");
	answer(200, "{\"resourceIdList\": [\"" ID1 "\"]}");
	again();
	answer(200, told("new", "[]"));
	check(waits(RSP_PHASE_WAITING_DEVICE) && !op.ask_first && sends == 0, "there: gone on with");
	setup(RSP_ENABLE);
	op.ask_first = true;
	strcpy(op.rsp_operation_id, ID1);
	op.first_sent_ms = op.last_sent_ms = T0 - 60000;
	begin();
	check(path_is("GET /psmo/lookup/" ID1), "the order that is known is looked up");
	noshow();
	check(is(RSP_ACT_ASK) && path_is("GET /psmo/list"), "before another one is handed in: which are there");

	/* sent long ago */
	setup(RSP_ENABLE);
	op.unresolved = true;
	op.first_sent_ms = op.last_sent_ms = T0 - 48 * HOUR;
	begin();
	answer(200, "{\"resourceIdList\": []}");
	check(lists(), "an eIM forgets: the eUICC is asked");

	/* broken rows */
	setup(RSP_ENABLE);
	strcpy(op.rsp_operation_id, "../x");
	begin();
	check(is(RSP_ACT_ASK) && path_is("GET /psmo/list") && op.unresolved, "an identifier that is none");
	setup(RSP_ENABLE);
	json_object_set_new(op.memo, "act", json_string("delete"));
	json_object_set_new(op.memo, "reason", json_integer(7));
	json_object_set_new(op.memo, "old", json_string("x"));
	json_object_set_new(op.memo, "past", json_pack("{}"));
	json_object_set_new(op.memo, "kill", json_true());
	begin();
	check(sends_to("POST /psmo/create") && strstr(last_body, "\"enable\""), "a memo that makes no sense");
	order(ID1);
	check(path_is("GET /psmo/lookup/" ID1), "and goes on");
	op.step = 77;
	answer(200, "{}");
	check(is(RSP_ACT_ASK), "a step that makes no sense");
	setup(RSP_ENABLE);
	json_object_set_new(op.memo, "old", json_loads("[7,\"psmo/../x\",\"eco/" ID1 "\",\"psmo/" ID2 "\"]", 0, NULL));
	begin();
	created(ID1);
	check(path_is("GET /psmo/delete/" ID2), "old orders that are none are passed over");
}

/* ----- hostile answers ----- */

static void
test_hostile(void)
{
	static char deep[200000];
	static char wide[300000];
	static const char *const texts[] = {
		"", " ", "null", "true", "0", "-1", "1e999", "\"x\"", "[]", "{}", "[[]]", "{\"", "}{",
		"{\"status\":null}", "{\"status\":7}", "{\"status\":{}}", "{\"status\":[\"done\"]}",
		"{\"status\":\"\"}", "{\"status\":\"DONE\"}", "{\"status\":\"done\"}",
		"{\"status\":\"done\",\"outcome\":7}", "{\"status\":\"done\",\"outcome\":{}}",
		"{\"status\":\"done\",\"outcome\":[[[[]]]]}", "{\"status\":\"done\",\"outcome\":[{}]}",
		"{\"status\":\"done\",\"outcome\":[{\"enableResult\":{\"ok\":\"ok\"}}]}",
		"{\"status\":\"done\",\"outcome\":[{\"enableResult\":\"ok\\u0000\"}]}",
		"{\"status\":\"done\",\"outcome\":[{\"enableResult\":\"\\ud800\"}]}",
		"{\"status\":\"done\",\"outcome\":[{\"enableResult\":1e308}]}",
		"{\"status\":\"done\",\"outcome\":[{\"enableResult\":-1}]}",
		"{\"status\":\"done\",\"outcome\":[{\"enableResult\":9223372036854775807}]}",
		"{\"status\":\"done\",\"outcome\":[{\"enableResult\":true}]}",
		"{\"status\":\"done\",\"outcome\":[{\"ENABLERESULT\":\"ok\"}]}",
		"{\"status\":\"done\",\"outcome\":[{\"\":\"ok\"}]}",
		"{\"status\":\"done\",\"outcome\":[{\"profileInstallationResult\":7}]}",
		"{\"status\":\"done\",\"outcome\":[{\"profileInstallationResult\":{\"finalResult\":7,\"iccid\":7}}]}",
		"{\"status\":\"done\",\"outcome\":[{\"listProfileInfoResult\":{\"finalResult\":\"successResult\",\"profileInfoList\":7}}]}",
		"{\"status\":\"done\",\"outcome\":[{\"listProfileInfoResult\":{\"finalResult\":\"successResult\",\"profileInfoList\":null}}]}",
		"{\"status\":\"done\",\"outcome\":[{\"listProfileInfoResult\":[]}]}",
		"{\"status\":\"done\",\"outcome\":[{\"rollbackResult\":\"x\"}]}",
		"{\"status\":\"done\",\"resource\":7}", "{\"status\":\"done\",\"resource\":{}}",
		"{\"status\":\"done\",\"resource\":{\"eidValue\":7,\"order\":{}}}",
		"{\"status\":\"done\",\"resource\":{\"eidValue\":\"" EID1 "\",\"order\":[]},\"outcome\":[{\"enableResult\":\"ok\"}]}",
		"{\"status\":\"done\",\"resource\":{\"eidValue\":\"" EID2 "\",\"order\":{}},\"outcome\":[{\"enableResult\":\"ok\"},"
		"{\"deleteResult\":\"ok\"}]}",
		"{\"status\":\"done\",\"status\":\"new\"}", "{\"status\":\"new\",\"timestamp\":{}}",
		"{\"status\":\"new\",\"timestamp\":\"99999999999999999999\"}",
		"{\"status\":\"done\",\"timestamp\":-5,\"outcome\":[{\"procedureError\":\"noshowOrder\"}]}",
		"{\"status\":\"done\",\"timestamp\":\"99999999999\",\"outcome\":[{\"procedureError\":\"noshowOrder\"}]}",
		"{\"resourceIdList\":null}", "{\"resourceIdList\":7}", "{\"resourceIdList\":[7,null,{}]}",
		"{\"resourceIdList\":[\"..\",\"a/b\",\"\"]}", "{\"resourceIdList\":[\"" ID1 "\",\"" ID1 "\"]}",
		"{\"resourceIdList\":[\"550e8400-e29b-41d4-a716-44665544000\\u0000\"]}",
		"\xff\xfe{}", "{\"status\":\"\xc3\"}", "{\"status\":\"\xed\xa0\x80\"}",
		"<html><body>captive portal</body></html>", "HTTP/1.1 303 See Other"
	};
	static const int statuses[] = {0, 100, 200, 202, 204, 301, 303, 400, 401, 404, 410, 429, 500, 503, 999};
	static const RspKind kinds[] = {RSP_DOWNLOAD, RSP_ENABLE, RSP_DELETE, RSP_SET_FALLBACK};
	size_t		t;
	size_t		s;
	size_t		k;
	int			stage;
	int			bad = 0;
	int			finished = 0;
	int			cases = 0;

	memset(deep, '[', sizeof(deep) - 1);
	strcpy(wide, "{\"status\":\"done\",\"outcome\":[{\"procedureError\":\"");
	memset(wide + strlen(wide), 'x', 250000);
	strcat(wide, "\"}]}");

	for (t = 0; t < sizeof(texts) / sizeof(texts[0]) + 2; t++)
	{
		const char *text = t < sizeof(texts) / sizeof(texts[0]) ? texts[t] :
			t == sizeof(texts) / sizeof(texts[0]) ? deep : wide;

		for (s = 0; s < sizeof(statuses) / sizeof(statuses[0]); s++)
		{
			for (k = 0; k < 4; k++)
			{
				/* as answer to create, look-up, list, find, delete, a list order's look-up, kill */
				for (stage = 0; stage < 7; stage++)
				{
					setup(kinds[k]);
					if (kinds[k] == RSP_DOWNLOAD && t % 2 == 0)
						op.iccid = NULL;
					begin();
					switch (stage)
					{
						case 1:
							order(ID1);
							break;
						case 2:
						case 3:
							answer_outcome(HTTP_LOST);
							if (stage == 2)
								break;
							answer(200, "{\"resourceIdList\":[\"" ID1 "\"]}");
							again();
							break;
						case 4:
							order(ID1);
							noshow();
							created(ID2);
							break;
						case 5:
							order(ID1);
							done("[{\"procedureError\":\"stuckOrder\"}]");
							order(ID2);
							break;
						case 6:
							order(ID1);
							json_object_set_new(op.memo, "kill", json_string(ID1));
							begin();
							break;
					}
					answer_located(HTTP_ANSWERED, statuses[s], text, strlen(text),
								   t % 3 ? NULL : "http://evil.example.com/psmo/lookup/../../x");
					cases++;
					if (!defined())
					{
						printf("# undefined: text %.60s status %d kind %d stage %d\n", text,
							   statuses[s], kinds[k], stage);
						bad++;
					}
					if (conv.action.type == RSP_ACT_DONE)
					{
						printf("# done: text %.60s status %d kind %d stage %d\n", text,
							   statuses[s], kinds[k], stage);
						finished++;
					}
				}
			}
		}
	}
	check(bad == 0, "%d hostile answers leave a defined action", cases);
	check(finished == 0, "none of them is taken for success");

	setup(RSP_ENABLE);
	begin();
	order(ID1);
	answer_raw(HTTP_ANSWERED, 200, "{\"status\":\"done\"\0}", 19, -1);
	check(waits(RSP_PHASE_RETRYING), "NUL");
	setup(RSP_ENABLE);
	begin();
	order(ID1);
	answer_located(HTTP_BAD_ANSWER, 200, told("done", "[{\"enableResult\":\"ok\"}]"), 200, NULL);
	check(waits(RSP_PHASE_RETRYING), "an answer that was broken off");
	setup(RSP_ENABLE);
	begin();
	order(ID1);
	done("[{\"procedureError\":\"<b>\\u0007\\u001b[2J\"}]");
	check(lists() && strpbrk(conv.detail, "\a\033") == NULL, "control characters");
}

/* ----- a model of an eIM and a device ----- */

#define MODEL_ORDERS 2048
#define MODEL_PROFILES 8
#define NOSHOW_S 1800
#define STUCK_S 300
#define EXPIRED_S 86400

typedef enum ModelStatus
{
	MODEL_GONE,
	MODEL_NEW,
	MODEL_WORK,
	MODEL_DONE
} ModelStatus;

typedef struct ModelOrder
{
	char		id[37];
	char		facility[16];
	json_t	   *resource;
	ModelStatus status;
	int64_t		at;				/* ms of the last change */
	int64_t		due;			/* WORK: when the device is through */
	bool		breaks;			/* the device never tells */
	bool		background;		/* not of the operation */
	json_t	   *outcome;
} ModelOrder;

typedef struct ModelProfile
{
	char		card[21];
	bool		enabled;
	bool		fallback;
} ModelProfile;

static ModelOrder orders[MODEL_ORDERS];
static int	norders;
static ModelProfile profiles[MODEL_PROFILES];
static int	nprofiles;
static int64_t next_poll;
static int64_t model_now;
static int	installs;
static int	deletes;
static int	enables;
static int	overlaps;			/* more than one open order */
static int	unasked;			/* acting orders repeated without an ask */
static bool asked;
static bool acted_before;
static int	trouble_device;
static bool v12;
static ModelProfile *
find_profile(const char *card)
{
	int			i;

	for (i = 0; i < nprofiles; i++)
	{
		if (card != NULL && strcmp(profiles[i].card, card) == 0)
			return &profiles[i];
	}
	return NULL;
}

static void
install(const char *card, bool enabled)
{
	memset(&profiles[nprofiles], 0, sizeof(profiles[nprofiles]));
	strcpy(profiles[nprofiles].card, card);
	profiles[nprofiles++].enabled = enabled;
}

/* a result {key: name}; v1.2 names are numbers to a v1.0 eIM */
static json_t *
result(const char *key, const char *name)
{
	return json_pack("{s:s}", key, name);
}

/* the device carries the order out; what it tells */
static json_t *
model_carry_out(ModelOrder *o)
{
	json_t	   *outcome = json_array();
	json_t	   *order = json_object_get(o->resource, "order");
	json_t	   *list = json_object_get(order, "psmo");
	size_t		i;

	if (strcmp(o->facility, "download") == 0)
	{
		if (find_profile(CARD1) != NULL || installs > 0)
			json_array_append_new(outcome, result("procedureError", "authenticateClientError"));
		else
		{
			install(CARD1, false);
			installs++;
			json_array_append_new(outcome, json_pack("{s:{s:s,s:s}}", "profileInstallationResult",
													 "finalResult", "successResult", "iccid", CARD1));
		}
		return outcome;
	}
	for (i = 0; i < json_array_size(list); i++)
	{
		json_t	   *entry = json_array_get(list, i);
		const char *psmo = json_object_iter_key(json_object_iter(entry));
		json_t	   *input = json_object_get(entry, psmo);
		ModelProfile *p = find_profile(json_string_value(json_object_get(input, "iccid")));
		char		key[64];
		const char *name = "ok";
		int			k;

		if (strcmp(psmo, "listProfileInfo") == 0)
		{
			json_t	   *entries = json_array();

			for (k = 0; k < nprofiles; k++)
			{
				json_t	   *one = json_pack("{s:s,s:s}", "iccid", profiles[k].card, "profileState",
											profiles[k].enabled ? "enabled" : "disabled");

				if (v12)
					json_object_set_new(one, "fallbackAttribute", json_boolean(profiles[k].fallback));
				json_array_append_new(entries, one);
			}
			json_array_append_new(outcome, json_pack("{s:{s:s,s:o}}", "listProfileInfoResult", "finalResult",
													 "successResult", "profileInfoList", entries));
			continue;
		}
		snprintf(key, sizeof(key), "%sResult", psmo);
		if (p == NULL)
			name = "iccidOrAidNotFound";
		else if (dice(100) < (unsigned) trouble_device / 8)
			name = "catBusy";
		else if (strcmp(psmo, "enable") == 0)
		{
			if (p->enabled)
				name = "profileNotInDisabledState";
			else
			{
				for (k = 0; k < nprofiles; k++)
					profiles[k].enabled = false;
				p->enabled = true;
				enables++;
			}
		}
		else if (strcmp(psmo, "disable") == 0)
		{
			if (!p->enabled)
				name = "profileNotInEnabledState";
			p->enabled = false;
		}
		else if (strcmp(psmo, "delete") == 0)
		{
			if (p->enabled)
				name = "profileNotInDisabledState";
			else
			{
				*p = profiles[--nprofiles];
				deletes++;
			}
		}
		else
		{
			for (k = 0; k < nprofiles; k++)
				profiles[k].fallback = false;
			p->fallback = true;
		}
		json_array_append_new(outcome, result(key, name));
		if (strcmp(name, "ok") != 0)
			break;
	}
	return outcome;
}

static void
model_end(ModelOrder *o, json_t *outcome)
{
	json_decref(o->outcome);
	o->outcome = outcome;
	o->status = MODEL_DONE;
	o->at = model_now;
}

static void
model_error(ModelOrder *o, const char *error)
{
	json_t	   *outcome = json_array();

	json_array_append_new(outcome, result("procedureError", error));
	model_end(o, outcome);
}

/* one moment: what the eIM and the device do at model_now */
static void
model_step(void)
{
	int			i;
	int			pending[MODEL_ORDERS];
	int			n = 0;
	bool		working = false;

	for (i = 0; i < norders; i++)
	{
		ModelOrder *o = &orders[i];

		if (o->status == MODEL_WORK && !o->background)
		{
			if (!o->breaks && o->due <= model_now)
				model_end(o, model_carry_out(o));
			else if (o->at + 1000 * STUCK_S < model_now)
				model_error(o, "stuckOrder");
			else
				working = true;
		}
		else if (o->status == MODEL_NEW && o->at + 1000 * NOSHOW_S < model_now)
			model_error(o, "noshowOrder");
		else if (o->status == MODEL_DONE && o->at + INT64_C(1000) * EXPIRED_S < model_now)
			o->status = MODEL_GONE;
	}
	if (model_now < next_poll)
		return;
	next_poll = model_now + (dice(4) ? (int64_t) (1 + dice(60)) * 1000 :
							 dice(4) ? (int64_t) dice(7200) * 1000 : (int64_t) dice(200000) * 1000);
	if (working)
		return;
	for (i = 0; i < norders; i++)
	{
		if (orders[i].status == MODEL_NEW && !orders[i].background)
			pending[n++] = i;
	}
	if (n > 0)
	{
		ModelOrder *o = &orders[pending[dice(n)]];

		o->status = MODEL_WORK;
		o->at = model_now;
		o->due = model_now + (dice(3) ? 0 : (int64_t) dice(60) * 1000);
		o->breaks = false;
		if ((int) dice(100) < trouble_device / 6)
		{
			/* breaks off, before or after the effect */
			o->breaks = true;
			if (dice(2))
				json_decref(model_carry_out(o));
		}
		else if (o->due <= model_now)
			model_end(o, model_carry_out(o));
	}
}

static void
model_until(int64_t then)
{
	while (model_now < then)
	{
		int64_t		step = then - model_now > 3600000 ? 30000 : 5000;

		model_now = model_now + step < then ? model_now + step : then;
		model_step();
	}
}

/* the eIM is restarted: what is in work is lost, with or without its effect */
static void
model_restart(void)
{
	int			i;

	for (i = 0; i < norders; i++)
	{
		if (orders[i].status == MODEL_WORK && !orders[i].background)
		{
			if (!orders[i].breaks && dice(2))
				json_decref(model_carry_out(&orders[i]));
			model_error(&orders[i], "abortedOrder");
		}
	}
}

static void
model_clear(void)
{
	int			i;

	for (i = 0; i < norders; i++)
	{
		json_decref(orders[i].resource);
		json_decref(orders[i].outcome);
	}
	norders = 0;
	nprofiles = 0;
}

static ModelOrder *
model_add(const char *facility, json_t *resource)
{
	ModelOrder *o = &orders[norders++];

	memset(o, 0, sizeof(*o));
	snprintf(o->id, sizeof(o->id), "%08x-0000-4000-8000-%012d", dice(1u << 30), norders);
	snprintf(o->facility, sizeof(o->facility), "%s", facility);
	o->resource = resource;
	o->status = MODEL_NEW;
	o->at = model_now;
	o->outcome = json_array();
	return o;
}

static ModelOrder *
model_find(const char *facility, size_t length, const char *id)
{
	int			i;

	for (i = 0; i < norders; i++)
	{
		if (orders[i].status != MODEL_GONE && strcmp(orders[i].id, id) == 0 &&
			strncmp(orders[i].facility, facility, length) == 0)
			return &orders[i];
	}
	return NULL;
}

static int	model_status;
static char model_body[65536];
static char model_location[128];

/* the request has arrived: what the eIM says */
static void
model_request(void)
{
	const char *path = conv.action.path;
	const char *facility = path + 1;
	const char *verb = strchr(facility, '/') + 1;
	size_t		length = verb - 1 - facility;
	const char *id = strrchr(path, '/') + 1;
	ModelOrder *o;
	char	   *text;
	int			i;

	model_until(op.now_ms);
	model_status = 200;
	model_location[0] = '\0';
	if (strncmp(verb, "create", 6) == 0)
	{
		json_t	   *resource = json_loads(conv.action.body, 0, NULL);
		bool		lists = strstr(conv.action.body, "listProfileInfo") != NULL;
		char		name[16];

		for (i = 0; i < norders; i++)
		{
			if ((orders[i].status == MODEL_NEW || orders[i].status == MODEL_WORK) && !orders[i].background)
				overlaps++;
		}
		if (!lists)
		{
			if (acted_before && !asked)
				unasked++;
			acted_before = true;
			asked = false;
		}
		snprintf(name, sizeof(name), "%.*s", (int) length, facility);
		o = model_add(name, resource);
		if (strstr(conv.action.body, "FallbackAttribute") && !v12)
			model_error(o, "badPsmo");
		model_status = 303;
		model_body[0] = '\0';
		snprintf(model_location, sizeof(model_location), "/%s/lookup/%s", name, o->id);
		return;
	}
	if (strncmp(verb, "list", 4) == 0)
	{
		size_t		at = snprintf(model_body, sizeof(model_body), "{\"resourceIdList\": [");
		bool		first = true;

		asked = true;
		for (i = 0; i < norders; i++)
		{
			if (orders[i].status == MODEL_GONE || strncmp(orders[i].facility, facility, length) != 0)
				continue;
			at += snprintf(model_body + at, sizeof(model_body) - at, "%s\"%s\"", first ? "" : ",", orders[i].id);
			first = false;
		}
		snprintf(model_body + at, sizeof(model_body) - at, "]}");
		return;
	}
	o = model_find(facility, length, id);
	if (o == NULL)
	{
		snprintf(model_body, sizeof(model_body), "{\"status\":\"absent\"}");
		return;
	}
	if (strncmp(verb, "delete", 6) == 0)
	{
		/* the card may do it all the same */
		if (o->status == MODEL_WORK && !o->background && !o->breaks && dice(2))
			json_decref(model_carry_out(o));
		o->status = MODEL_GONE;
		snprintf(model_body, sizeof(model_body), "{\"status\":\"deleted\"}");
		return;
	}
	asked = true;
	{
		json_t	   *root = json_pack("{s:s,s:o,s:O,s:O,s:s}", "status",
									 o->status == MODEL_NEW ? "new" : o->status == MODEL_WORK ? "work" : "done",
									 "timestamp", json_sprintf("%lld", (long long) (o->at / 1000)),
									 "resource", o->resource, "outcome", o->outcome, "debuginfo", "83");

		text = json_dumps(root, JSON_COMPACT);
		snprintf(model_body, sizeof(model_body), "%s", text);
		free(text);
		json_decref(root);
	}
}

static void
model_answer(void)
{
	answer_located(HTTP_ANSWERED, model_status, model_body, strlen(model_body),
				   model_location[0] ? model_location : NULL);
}

/* as the worker does: candidates come back without those that it knows */
static void
model_candidates(void)
{
	json_t	   *array;
	size_t		i;

	if (conv.action.type != RSP_ACT_WAIT || conv.candidates == NULL || dice(2))
		return;
	array = json_array();
	for (i = 0; i < json_array_size(conv.candidates); i++)
	{
		const char *id = json_string_value(json_array_get(conv.candidates, i));
		int			k;

		for (k = 0; k < norders; k++)
		{
			if (strcmp(orders[k].id, id) == 0 && (!orders[k].background || dice(2)))
				json_array_append_new(array, json_string(id));
		}
	}
	json_object_set_new(op.memo, "unknown", array);
	save();
}

static int	model_steps;

/* as esim_cancel() has it: nothing has come of what was sent */
static bool
cancellable(void)
{
	return !op.unresolved && op.rsp_operation_id[0] == '\0' && (op.attempts == 0 || op.step == 0);
}

static int	late_cancels;		/* waits in which what had an effect could be cancelled */

static void
model_turns(int trouble)
{
	int			steps;

	for (steps = 0; steps < 20000; steps++)
	{
		model_steps++;
		switch (conv.action.type)
		{
			case RSP_ACT_DONE:
			case RSP_ACT_FAIL:
			case RSP_ACT_NONE:
				return;
			case RSP_ACT_WAIT:
			case RSP_ACT_PARK:
				if (installs + enables + deletes > 0 && op.kind != RSP_REFRESH && cancellable())
					late_cancels++;
				model_candidates();
				if ((int) dice(100) < trouble / 4)
					crash();
				if ((int) dice(400) < trouble)
					model_restart();
				op.now_ms += conv.action.delay_ms > 0 ? conv.action.delay_ms : 1;
				begin();
				continue;
			default:
				break;
		}
		if (norders >= MODEL_ORDERS - 8)
			return;
		if ((int) dice(100) >= trouble)
		{
			model_request();
			model_answer();
			continue;
		}
		switch (dice(11))
		{
			case 0:
				answer_outcome(HTTP_NOT_SENT);
				break;
			case 1:
				answer_outcome(HTTP_LOST);
				break;
			case 2:
				model_request();
				answer_outcome(HTTP_LOST);
				break;
			case 3:
				answer(500, "");
				break;
			case 4:
				model_request();
				answer(502, "");
				break;
			case 5:
				answer(429, "");
				break;
			case 6:
				answer(401, "");
				break;
			case 7:
				model_request();
				answer(200, "{\"status\":\"do");
				break;
			case 8:
				model_request();
				answer_located(HTTP_BAD_ANSWER, model_status, model_body, strlen(model_body) / 2, NULL);
				break;
			case 9:
				crash();
				begin();
				break;
			default:
				model_request();
				crash();
				op.now_ms += 60000;
				begin();
				break;
		}
	}
}

static void
test_model(void)
{
	static const RspKind kinds[] = {RSP_DOWNLOAD, RSP_DOWNLOAD, RSP_ENABLE, RSP_DISABLE, RSP_DELETE,
	RSP_DELETE, RSP_SET_FALLBACK, RSP_REFRESH};
	int			run;
	int			runs = 0;
	int			wrong = 0;
	int			success = 0;
	int			unknown_ends = 0;
	int			given_up = 0;
	int			doubles = 0;
	int			total_unasked = 0;
	int			total_overlaps = 0;
	int			repeats = 0;

	for (run = 0; run < 3200; run++)
	{
		int			variant = run % 8;
		int			trouble;
		ModelProfile *p;
		bool		aim;
		int			i;

		dice_seed = (uint64_t) run * 7919 + 12345;
		setup(kinds[variant]);
		model_clear();
		model_now = op.now_ms;
		next_poll = op.now_ms + (int64_t) dice(30) * 1000;
		installs = deletes = enables = overlaps = unasked = 0;
		asked = true;
		acted_before = false;
		v12 = true;
		trouble = dice(3) ? dice(40) : 0;
		trouble_device = dice(2) ? trouble : 0;
		install(CARD2, op.kind != RSP_DISABLE && variant != 5);
		if (op.kind == RSP_DOWNLOAD)
		{
			op.activate_on_download = variant == 1;
			if (dice(2))
				op.iccid = NULL;
		}
		else if (op.kind != RSP_REFRESH)
		{
			install(CARD1, op.kind == RSP_DISABLE || variant == 5);
			if (variant == 5)
				op.state = dice(2) ? RSP_STATE_ENABLED : RSP_STATE_INSTALLED;
		}
		save();
		begin();

		/* orders of others, and old ones of the same content */
		for (i = 0; i < 6; i++)
		{
			json_t	   *resource = json_loads(last_body, 0, NULL);
			ModelOrder *o;

			if (i < 4)
				json_object_set_new(resource, "eidValue", json_string(EID2));
			o = model_add(strstr(last_path, "/download/") ? "download" : "psmo", resource);
			o->background = true;
			if (i >= 4)
			{
				json_array_append_new(o->outcome, json_pack("{s:s}", "enableResult", "ok"));
				o->status = MODEL_DONE;
				o->at = op.now_ms - 3600000;
			}
		}
		model_turns(trouble);
		model_until(op.now_ms);
		p = find_profile(CARD1);
		switch (op.kind)
		{
			case RSP_DOWNLOAD:
				aim = p != NULL && p->enabled == op.activate_on_download &&
					(op.iccid != NULL || strcmp(conv.action.iccid, ICCID1) == 0);
				break;
			case RSP_ENABLE:
				aim = p != NULL && p->enabled;
				break;
			case RSP_DISABLE:
				aim = p != NULL && !p->enabled;
				break;
			case RSP_DELETE:
				aim = p == NULL;
				break;
			case RSP_REFRESH:
				aim = conv.nreports == 1 && conv.reports_whole;
				break;
			default:
				aim = p != NULL && p->fallback;
				break;
		}
		runs++;
		if (conv.action.type == RSP_ACT_DONE && aim)
			success++;
		else if (conv.action.type == RSP_ACT_FAIL && strcmp(conv.action.code, "OUTCOME_UNKNOWN") == 0 &&
				 op.kind == RSP_DOWNLOAD && op.iccid == NULL)
			unknown_ends++;
		else if (conv.action.type == RSP_ACT_FAIL && !aim &&
				 (strcmp(conv.action.code, "TIMEOUT") == 0 || strcmp(conv.action.code, "ABORTED") == 0 ||
				  strcmp(conv.action.code, "INTERNAL") == 0 || strcmp(conv.action.code, "OUTCOME_UNKNOWN") == 0))
			given_up++;
		else
		{
			wrong++;
			printf("# run %d: %s: %s %s \"%s\" after %d sends, aim %s\n", run, rsp_kind_name(op.kind),
				   action_names[conv.action.type], conv.action.code, conv.action.message, sends,
				   aim ? "reached" : "not reached");
		}
		if (installs > 1 || deletes > 1 || (op.kind != RSP_DOWNLOAD && enables > 1))
			doubles++;
		total_unasked += unasked;
		total_overlaps += overlaps;
		if (overlaps > 0)
			printf("# run %d: %d overlaps\n", run, overlaps);
		repeats += sends > 1;
	}
	check(wrong == 0, "%d operations through trouble all end truly", runs);
	check(success > runs * 9 / 10, "%d of them as asked for, %d unknown, %d given up", success, unknown_ends,
		  given_up);
	check(doubles == 0, "no effect twice");
	check(total_unasked == 0, "no order repeated without asking");
	check(late_cancels == 0, "what has had an effect cannot be cancelled, %d times", late_cancels);
	check(total_overlaps == 0, "never two open orders of an eUICC");
	check(repeats > 100, "%d of them needed more than one order (%d steps)", repeats, model_steps);
	model_clear();
}

int
main(void)
{
	test_check();
	test_bodies();
	test_way();
	test_location();
	test_outcomes();
	test_special();
	test_lists();
	test_http();
	test_strange();
	test_lost();
	test_cancel();
	test_hostile();
	test_model();
	worker_free();
	return finish();
}
