/*-------------------------------------------------------------------------
 *
 * test_rsp.c
 *	  Unit tests of what the RSP drivers share; prints TAP.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/rsp/rsp.h"
#include "../../src/rsp/json.h"
#include "tap.h"


static void
test_names(void)
{
	RspProtocol protocol;
	RspKind		kind;
	RspState	state;
	bool		good = true;
	int			i;

	for (i = 0; i < RSP_KIND_COUNT; i++)
		good = good && rsp_kind_from_name(rsp_kind_name((RspKind) i), &kind) && kind == (RspKind) i;
	ok(good, "kinds there and back");
	for (i = 1, good = true; i < RSP_STATE_COUNT; i++)
		good = good && rsp_state_from_name(rsp_state_name((RspState) i), &state) &&
			state == (RspState) i;
	ok(good, "states there and back");
	for (i = 0, good = true; i < 4; i++)
		good = good && rsp_protocol_from_name(rsp_protocol_name((RspProtocol) i), &protocol) &&
			protocol == (RspProtocol) i;
	ok(good, "protocols there and back");
	ok(strcmp(rsp_kind_name(RSP_SET_FALLBACK), "set-fallback") == 0 &&
	   strcmp(rsp_kind_name(RSP_SYNC), "sync") == 0 &&
	   strcmp(rsp_state_name(RSP_STATE_ENABLED), "ENABLED") == 0 &&
	   strcmp(rsp_state_name(RSP_STATE_FAILED), "FAILED") == 0 &&
	   strcmp(rsp_state_name(RSP_STATE_NONE), "") == 0 &&
	   strcmp(rsp_phase_name(RSP_PHASE_WAITING_DEVICE), "WAITING_DEVICE") == 0 &&
	   strcmp(rsp_phase_name(RSP_PHASE_DONE), "DONE") == 0, "names");
	ok(!rsp_kind_from_name("Download", &kind) && !rsp_kind_from_name("", &kind) &&
	   !rsp_kind_from_name(NULL, &kind) && !rsp_state_from_name("", &state) &&
	   !rsp_protocol_from_name("es9", &protocol), "no names");
	ok(rsp_driver(RSP_PROTOCOL_CAMARA) == &rsp_camara &&
	   rsp_driver(RSP_PROTOCOL_ES2PLUS) == &rsp_es2plus &&
	   rsp_driver(RSP_PROTOCOL_EIM) == &rsp_eim &&
	   rsp_driver(RSP_PROTOCOL_TWILIO) == &rsp_twilio, "drivers");
}

static void
test_actions(void)
{
	RspConversation c;
	char		eid[33];
	char		long_text[2000];
	int			i;

	memset(&c, 0, sizeof(c));
	rsp_send(&c, "POST", "/enable", json_pack("{s:s}", "iccid", "8901"));
	rsp_header(&c, "x-correlator", "abc");
	ok(c.action.type == RSP_ACT_SEND && strcmp(c.action.path, "/enable") == 0 &&
	   strcmp(c.action.body, "{\"iccid\":\"8901\"}") == 0 &&
	   strcmp(c.action.content_type, "application/json") == 0 &&
	   c.action.nheaders == 1 && strcmp(c.action.headers[0].value, "abc") == 0, "send");
	for (i = 0; i < 10; i++)
		rsp_header(&c, "a", "b");
	ok(c.action.nheaders == 4, "no more than four headers");
	rsp_ask(&c, "GET", "/operations/1", NULL);
	ok(c.action.type == RSP_ACT_ASK && c.action.body == NULL && c.action.nheaders == 0 &&
	   strcmp(c.action.method, "GET") == 0, "ask replaces send");
	rsp_wait(&c, RSP_PHASE_RETRYING, 500, "UNAVAILABLE", "try again");
	rsp_said(&c, "x", "a\nb\033[2J\302\205c\377d\303");
	ok(c.action.type == RSP_ACT_WAIT && c.action.delay_ms == 500 && c.action.path == NULL &&
	   strcmp(c.action.code, "UNAVAILABLE") == 0, "wait");
	ok(strcmp(c.action.rsp_message, "a b [2J c?d?") == 0, "texts are cleaned");
	memset(long_text, 'a', 510);
	strcpy(long_text + 510, "\303\244\303\244");
	rsp_fail(&c, "CONFLICT", long_text);
	ok(c.action.type == RSP_ACT_FAIL && strlen(c.action.message) == 510, "cut at a character's end");
	rsp_fail(&c, NULL, NULL);
	ok(c.action.code[0] == '\0' && c.action.message[0] == '\0', "NULL texts");
	rsp_park(&c, "PERMISSION_DENIED", "");
	ok(c.action.type == RSP_ACT_PARK && c.action.phase == RSP_PHASE_PARKED, "park");
	rsp_note(&c, "accepted", "x");
	rsp_done(&c);
	ok(c.action.type == RSP_ACT_DONE && strcmp(c.outcome, "accepted") == 0, "done, note stays");

	rsp_report(&c, "89049032000000000000000000000001", "8901234567890123456", RSP_STATE_ENABLED, 1, NULL);
	rsp_report(&c, NULL, "890123456789012345", RSP_STATE_NONE, -1, "+4930123");
	rsp_report(&c, NULL, NULL, RSP_STATE_ENABLED, -1, NULL);
	rsp_report(&c, "8904", "8901234567890123456", RSP_STATE_ENABLED, -1, NULL);
	rsp_report(&c, NULL, "89012345678901234567890", RSP_STATE_ENABLED, -1, NULL);
	rsp_report(&c, NULL, "8901234567890123456x", RSP_STATE_ENABLED, -1, NULL);
	ok(c.nreports == 2 && c.reports[0].is_fallback == 1 &&
	   strcmp(c.reports[1].msisdn, "+4930123") == 0, "reports, the impossible ones dropped");
	c.reports_whole = true;
	for (i = 0; i < 2000; i++)
	{
		snprintf(eid, sizeof(eid), "%032d", i);
		rsp_report(&c, eid, NULL, RSP_STATE_ENABLED, -1, NULL);
	}
	ok(c.nreports == RSP_MAX_REPORTS && !c.reports_whole, "reports are bounded");
	rsp_conversation_free(&c);
	ok(c.reports == NULL && c.nreports == 0, "free");
}

static void
test_backoff(void)
{
	bool		good = true;
	bool		differ = false;
	int64_t		first = rsp_backoff_ms(3, 1000, 300000);
	int			i;

	for (i = 0; i < 1000; i++)
	{
		int64_t		delay = rsp_backoff_ms(3, 1000, 300000);

		good = good && delay >= 7200 && delay <= 8800;
		differ = differ || delay != first;
	}
	ok(good && differ, "doubled, with jitter");
	for (i = 0, good = true; i < 200; i++)
		good = good && rsp_backoff_ms(i, 1000, 300000) <= 330000 && rsp_backoff_ms(i, 1000, 300000) > 0;
	ok(good, "bounded");
	ok(rsp_backoff_ms(1000000, 0, 0) > 0, "nonsense");
}

static void
test_json(void)
{
	static const struct
	{
		const char *text;
		size_t		length;		/* 0: strlen */
		const char *reason;		/* NULL: fine */
	}			cases[] =
	{
		{"{}", 0, NULL},
		{" [1, 2.5, \"\\u00e4\", true, null] ", 0, NULL},
		{"\357\273\277{}", 0, NULL},
		{"{\"a\":\"]}{[\\\"\"}", 0, NULL},
		{"", 0, "empty"},
		{"x", 0, "not valid JSON"},
		{"1", 0, "not valid JSON"},
		{"{} {}", 0, "not valid JSON"},
		{"{\"a\":1,\"a\":2}", 0, "has a key twice"},
		{"{\"a\":\"\\u0000\"}", 0, "has a NUL"},
		{"{\"a\\u0000b\":1}", 0, "has a NUL"},
		{"{}\0", 3, "has a NUL"},
		{"{\"a\":\"\377\"}", 0, "not valid UTF-8"},
		{"{\"a\":\"\355\240\200\"}", 0, "not valid UTF-8"},
		{"{\"a\":\"\300\200\"}", 0, "not valid UTF-8"},
		{"{\"a\":\"\364\220\200\200\"}", 0, "not valid UTF-8"},
		{"{\"a\":\"\360\237\230\200\"}", 0, NULL},
		{"{\"a\":\"\\ud800\"}", 0, "not valid JSON"},
		{"{\"a\":99999999999999999999999}", 0, NULL},
		{"{\"a\":1e999}", 0, "not valid JSON"},
		{"{\"a\":\"\\", 0, "not valid JSON"},
		{"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", 0, NULL},
		{"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", 0, "nested too deeply"},
	};
	json_t	   *json;
	const char *reason;
	int			i;

	for (i = 0; i < (int) (sizeof(cases) / sizeof(cases[0])); i++)
	{
		size_t		length = cases[i].length ? cases[i].length : strlen(cases[i].text);

		/* a copy of the exact size: reading beyond it shows */
		char	   *copy = malloc(length + (length == 0));
		char		name[100];

		memcpy(copy, cases[i].text, length);
		json = rsp_json(copy, length, &reason);
		snprintf(name, sizeof(name), "JSON case %d: %s", i + 1,
				 cases[i].reason ? cases[i].reason : "fine");
		ok(cases[i].reason != NULL ? json == NULL && strcmp(reason, cases[i].reason) == 0 :
		   json != NULL, name);
		json_decref(json);
		free(copy);
	}
	ok(rsp_json(NULL, 0, NULL) == NULL, "JSON of nothing");
	json = rsp_json("{\"a\":[{\"b\":83007}],\"c\":99999999999999999999,\"d\":0.5}", 52, &reason);
	ok(json_integer_value(json_object_get(json_array_get(json_object_get(json, "a"), 0), "b")) == 83007 &&
	   json_is_real(json_object_get(json, "c")) && json_is_real(json_object_get(json, "d")),
	   "a number that is too large leaves the others what they are");
	json_decref(json);
	json = json_pack("{s:s,s:i}", "a", "abc", "b", 5);
	ok(strcmp(rsp_json_string(json, "a", 3), "abc") == 0 &&
	   rsp_json_string(json, "a", 2) == NULL && rsp_json_string(json, "b", 9) == NULL &&
	   rsp_json_string(json, "c", 9) == NULL && rsp_json_string(NULL, "a", 9) == NULL, "strings");
	json_decref(json);
}

int
main(void)
{
	test_names();
	test_actions();
	test_backoff();
	test_json();
	return finish();
}
