/*
 * test_camara.c
 *		Tests of the CAMARA driver: canned answers, no network.  Prints TAP.
 *
 * The last part lets a model of a server lose, break and delay answers at
 * random, and the worker crash, and looks at what became of the eUICC.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"
#include "worker.h"


#define EID1 "89049032000000000000000000000001"
#define EID2 "89049032000000000000000000000002"
#define ICCID1 "8944478600003770170"
#define ICCID2 "89457300000021819183"
#define ICCID3 "8944478600003260131"
#define OPID "550e8400-e29b-41d4-a716-446655440000"
#define OPID2 "550e8400-e29b-41d4-a716-446655440001"
#define CODE "1$smdp.example.com$04386-AGYFT"

/* ----- a worker ----- */


static void
setup(RspDialect dialect, RspKind kind)
{
	worker_reset(&rsp_camara, kind, NULL);
	server.dialect = dialect;
	server.url = "https://rsp.example.com";
	op.eid = EID1;
	op.iccid = kind == RSP_REFRESH ? NULL : ICCID1;
	op.activation_code = kind == RSP_DOWNLOAD ? CODE : NULL;
	op.state = kind == RSP_DISABLE ? RSP_STATE_ENABLED :
		kind == RSP_DOWNLOAD ? RSP_STATE_RELEASED : RSP_STATE_DISABLED;
	save();
}

static void
answer_error(int status, const char *code)
{
	char		body[512];

	if (code == NULL)
		snprintf(body, sizeof(body), "<html>%d</html>", status);
	else
		snprintf(body, sizeof(body), "{\"status\":%d,\"code\":\"%s\",\"message\":\"said so\"}",
				 status, code);
	answer(status, body);
}

/* an operation in the words of the dialect; result is NULL or JSON text */
static const char *
operation(const char *name, const char *id, const char *status, const char *eid,
		  const char *iccid, const char *rest)
{
	static char text[2048];
	bool		old = server.dialect == RSP_DIALECT_2026_02;

	snprintf(text, sizeof(text),
			 "{\"operationId\":\"%s\",\"operation\":\"%s\",\"status\":\"%s\",\"%s\":{\"eid\":\"%s\"%s%s%s}%s%s}",
			 id, name, status, old ? "esim" : "esimProfile", eid,
			 iccid ? ",\"iccid\":\"" : "", iccid ? iccid : "", iccid ? "\"" : "",
			 rest ? "," : "", rest ? rest : "");
	return text;
}

static const char *
accepted(void)
{
	return operation(strrchr(last_path, '/') + 1, OPID,
					 server.dialect == RSP_DIALECT_2026_02 ? "accepted" : "ACCEPTED", EID1,
					 op.kind == RSP_DOWNLOAD && op.iccid == NULL ? NULL : ICCID1, NULL);
}

#define R12_SUCCESS "\"result\":{\"completedAt\":\"2026-01-01T00:00:00Z\",\"outcome\":\"SUCCESS\"}"
#define OLD_SUCCESS "\"result\":{\"completedAt\":\"2026-01-01T00:00:00Z\",\"outcome\":\"success\"}"

static const char *
completed(const char *name)
{
	bool		old = server.dialect == RSP_DIALECT_2026_02;

	return operation(name, OPID, old ? "completed" : "COMPLETED", EID1,
					 op.kind == RSP_DOWNLOAD && op.iccid == NULL ? NULL : ICCID1,
					 old ? OLD_SUCCESS : R12_SUCCESS);
}

/* a list; entries: iccid, state, fallback mark */
static const char *
list(int n,...)
{
	static char text[4096];
	va_list		args;
	bool		old = server.dialect == RSP_DIALECT_2026_02;
	size_t		at = snprintf(text, sizeof(text), "{\"%s\":[", old ? "esims" : "esimProfiles");
	int			i;

	va_start(args, n);
	for (i = 0; i < n; i++)
	{
		const char *iccid = va_arg(args, const char *);
		const char *state = va_arg(args, const char *);
		int			mark = va_arg(args, int);

		at += snprintf(text + at, sizeof(text) - at,
					   "%s{\"eid\":\"%s\",\"iccid\":\"%s\",\"state\":\"%s\",\"isFallback\":%s}",
					   i ? "," : "", EID1, iccid, state, mark ? "true" : "false");
	}
	va_end(args);
	snprintf(text + at, sizeof(text) - at, "]}");
	return text;
}

/* turns of waiting until something else comes up; lists and polls by f */
static void
wait_until(int64_t when)
{
	op.now_ms = when;
	begin();
}

/* ----- what it can do, what it refuses at once ----- */

static void
test_check(void)
{
	static char long_code[300];
	const char *note;
	int			kind;
	int			state;
	int			n = 0;

	for (kind = 0; kind < RSP_KIND_COUNT; kind++)
	{
		bool		can = rsp_camara.supports(RSP_DIALECT_R1_2, kind, &note);
		bool		wanted = kind <= RSP_SET_FALLBACK || kind == RSP_REFRESH;

		n += can == wanted && (can || note[0] != '\0') &&
			rsp_camara.supports(RSP_DIALECT_2026_02, kind, NULL) == wanted;
	}
	check(n == RSP_KIND_COUNT, "supported kinds");
	check(rsp_camara.can_ask, "can ask");

	n = 0;
	for (state = 0; state < RSP_STATE_COUNT; state++)
	{
		bool		dis = state == RSP_STATE_DISABLED;
		bool		en = state == RSP_STATE_ENABLED;
		bool		in = state == RSP_STATE_INSTALLED;

		n += rsp_camara.state_allowed(RSP_ENABLE, state) == (dis || in) &&
			rsp_camara.state_allowed(RSP_DISABLE, state) == (en || in) &&
			rsp_camara.state_allowed(RSP_DELETE, state) == (en || dis || in) &&
			rsp_camara.state_allowed(RSP_SET_FALLBACK, state) == (dis || in) &&
			rsp_camara.state_allowed(RSP_REFRESH, state) &&
			!rsp_camara.state_allowed(RSP_RESERVE, state) &&
			!(rsp_camara.state_allowed(RSP_DOWNLOAD, state) && (dis || en || in));
	}
	check(n == RSP_STATE_COUNT, "allowed states");

	setup(RSP_DIALECT_R1_2, RSP_ENABLE);
	check(checked(NULL), "enable passes");
	op.iccid = "891000000000009125";
	check(checked("UNSUPPORTED_IDENTIFIER"), "18 digits are refused");
	op.iccid = NULL;
	check(checked("MISSING_IDENTIFIER"), "enable without ICCID");
	setup(RSP_DIALECT_R1_2, RSP_REFRESH);
	check(checked(NULL), "refresh passes");
	op.eid = NULL;
	check(checked("MISSING_IDENTIFIER"), "refresh without EID");
	setup(RSP_DIALECT_R1_2, RSP_RESERVE);
	check(checked("SERVICE_NOT_APPLICABLE"), "reserve");

	setup(RSP_DIALECT_R1_2, RSP_DOWNLOAD);
	check(checked(NULL), "download passes");
	op.iccid = NULL;
	check(checked(NULL), "r1.2 needs no ICCID");
	server.dialect = RSP_DIALECT_2026_02;
	check(checked("MISSING_IDENTIFIER"), "2026-02 needs the ICCID");
	op.iccid = "891000000000009125";
	check(checked("UNSUPPORTED_IDENTIFIER"), "download of 18 digits");
	server.dialect = RSP_DIALECT_R1_2;
	check(checked("UNSUPPORTED_IDENTIFIER"), "download of 18 digits, r1.2");
	op.iccid = ICCID1;
	op.activation_code = NULL;
	check(checked("MISSING_IDENTIFIER"), "download without code");
	op.activation_code = "1$smdp.example.com$X$$1";
	check(checked("SERVICE_NOT_APPLICABLE"), "confirmation flag");
	op.activation_code = "1$smdp.example.com$X$1.3.6.1$1";
	check(checked("SERVICE_NOT_APPLICABLE"), "confirmation flag behind the OID");
	op.activation_code = "1$smdp.example.com$X$1.3.6.1";
	check(checked(NULL), "code with OID");
	op.confirmation_code = "1234";
	check(checked("SERVICE_NOT_APPLICABLE"), "confirmation code");
	op.confirmation_code = NULL;
	op.activation_code = "nonsense";
	check(checked("INVALID_ARGUMENT"), "no code at all");
	strcpy(long_code, "1$smdp.example.com$");
	memset(long_code + strlen(long_code), 'A', 252 - strlen(long_code));
	op.activation_code = long_code;
	check(strlen(long_code) == 252 && checked(NULL), "256 characters with LPA:");
	strcat(long_code, "A");
	check(checked("INVALID_ARGUMENT"), "257 characters with LPA:");
	server.dialect = RSP_DIALECT_2026_02;
	check(checked(NULL), "2026-02 has no limit");
	op.eid = NULL;
	check(checked("MISSING_IDENTIFIER"), "download without EID");

	setup(RSP_DIALECT_2026_02, RSP_DOWNLOAD);
	op.iccid = NULL;
	begin();
	check(fails("MISSING_IDENTIFIER") && sends == 0, "checked again when it runs");
	setup(RSP_DIALECT_R1_2, RSP_SYNC);
	begin();
	check(fails("SERVICE_NOT_APPLICABLE"), "a kind that is not there");
}

/* ----- bodies ----- */

static void
test_bodies(void)
{
	static const struct
	{
		RspKind		kind;
		const char *name;
	}			kinds[] = {
		{RSP_ENABLE, "enable"}, {RSP_DISABLE, "disable"},
		{RSP_DELETE, "delete"}, {RSP_SET_FALLBACK, "set-fallback"}
	};
	char		path[64];
	int			i;

	for (i = 0; i < 4; i++)
	{
		setup(RSP_DIALECT_R1_2, kinds[i].kind);
		begin();
		snprintf(path, sizeof(path), "POST /%s", kinds[i].name);
		check(is(RSP_ACT_SEND) && path_is(path) &&
			  json_is("{\"esimProfile\":{\"eid\":\"" EID1 "\",\"iccid\":\"" ICCID1 "\"}}") &&
			  strcmp(conv.action.content_type, "application/json") == 0, "r1.2 %s",
			  kinds[i].name);
		setup(RSP_DIALECT_2026_02, kinds[i].kind);
		begin();
		snprintf(path, sizeof(path), "POST /esim/%s", kinds[i].name);
		check(is(RSP_ACT_SEND) && path_is(path) &&
			  json_is("{\"esim\":{\"eid\":\"" EID1 "\",\"iccid\":\"" ICCID1 "\"},"
					  "\"sink\":\"https://sink.invalid/\","
					  "\"correlationId\":\"01890a5d-ac96-774b-bcce-b302099a8057\"}"),
			  "2026-02 %s", kinds[i].name);
	}
	setup(RSP_DIALECT_R1_2, RSP_ENABLE);
	op.eid = NULL;
	begin();
	check(json_is("{\"esimProfile\":{\"iccid\":\"" ICCID1 "\"}}"), "EID is left out if unknown");

	setup(RSP_DIALECT_R1_2, RSP_DOWNLOAD);
	op.activate_on_download = true;
	begin();
	check(path_is("POST /download") &&
		  json_is("{\"esimProfile\":{\"eid\":\"" EID1 "\"},\"activationCode\":\"LPA:" CODE "\"}"),
		  "r1.2 download: neither ICCID nor activateOnDownload nor sink");
	setup(RSP_DIALECT_2026_02, RSP_DOWNLOAD);
	server.event_url = "https://events.example.com/x";
	begin();
	check(path_is("POST /esim/download") &&
		  json_is("{\"esim\":{\"eid\":\"" EID1 "\",\"iccid\":\"" ICCID1 "\"},"
				  "\"activationCode\":\"LPA:" CODE "\",\"activateOnDownload\":false,"
				  "\"sink\":\"https://events.example.com/x\","
				  "\"correlationId\":\"01890a5d-ac96-774b-bcce-b302099a8057\"}"),
		  "2026-02 download");
	setup(RSP_DIALECT_2026_02, RSP_DOWNLOAD);
	op.activate_on_download = true;
	begin();
	check(strstr(last_body, "\"activateOnDownload\":true") != NULL, "2026-02 activateOnDownload");

	setup(RSP_DIALECT_R1_2, RSP_REFRESH);
	begin();
	check(is(RSP_ACT_ASK) && path_is("POST /retrieve-status") &&
		  json_is("{\"esimProfile\":{\"eid\":\"" EID1 "\"}}"), "r1.2 retrieve-status");
	setup(RSP_DIALECT_2026_02, RSP_REFRESH);
	begin();
	check(is(RSP_ACT_ASK) && path_is("POST /esim/retrieve-status") &&
		  json_is("{\"esim\":{\"eid\":\"" EID1 "\"}}"), "2026-02 retrieve-status");

	setup(RSP_DIALECT_R1_2, RSP_ENABLE);
	begin();
	answer(202, accepted());
	check(is(RSP_ACT_ASK) && path_is("GET /operations/" OPID) && last_body[0] == '\0',
		  "r1.2 poll");
	setup(RSP_DIALECT_2026_02, RSP_ENABLE);
	begin();
	answer(202, accepted());
	check(is(RSP_ACT_ASK) && path_is("GET /esim/operations/" OPID), "2026-02 poll");
	check(has_header("x-correlator", op.id), "x-correlator on polls");

	setup(RSP_DIALECT_R1_2, RSP_ENABLE);
	op.correlator = "abc-_:;./<>{}";
	begin();
	check(has_header("x-correlator", "abc-_:;./<>{}") &&
		  strcmp(conv.action.call_id, "abc-_:;./<>{}") == 0, "the user's correlator");
	op.correlator = "a b\r\nx: y";
	begin();
	check(has_header("x-correlator", op.id), "a bad correlator is not sent");
	op.correlator = "";
	begin();
	check(has_header("x-correlator", op.id), "an empty correlator is not sent");
}

/* ----- the plain way ----- */

static void
test_way(RspDialect dialect)
{
	static const RspKind kinds[] = {RSP_ENABLE, RSP_DISABLE, RSP_DELETE, RSP_SET_FALLBACK};
	const char *label = dialect == RSP_DIALECT_R1_2 ? "r1.2" : "2026-02";
	bool		old = dialect == RSP_DIALECT_2026_02;
	int64_t		delay;
	int			i;

	for (i = 0; i < 4; i++)
	{
		const char *name = rsp_kind_name(kinds[i]);

		setup(dialect, kinds[i]);
		begin();
		check(op.step == 0 && json_object_size(op.memo) == 0,
			  "%s %s: nothing to be written before the first request", label, name);
		answer(202, accepted());
		check(!op.unresolved && strcmp(op.rsp_operation_id, OPID) == 0,
			  "%s %s: accepted", label, name);
		answer(200, completed(name));
		check(is(RSP_ACT_DONE) && sends == 1 && asks == 1, "%s %s: done", label, name);
	}

	setup(dialect, RSP_ENABLE);
	begin();
	answer(202, completed("enable"));
	check(is(RSP_ACT_DONE) && asks == 0, "%s: done at once", label);

	setup(dialect, RSP_ENABLE);
	begin();
	answer(202, accepted());
	for (i = 0; i < 12; i++)
	{
		answer(200, operation("enable", OPID, old ? "accepted" : "ACCEPTED", EID1, ICCID1, NULL));
		delay = (INT64_C(1000) << i) < 300000 ? INT64_C(1000) << i : 300000;
		if (!waits(RSP_PHASE_WAITING_DEVICE) || !near(conv.action.delay_ms, delay))
			break;
		if (i == 5)
			crash();
		again();
		if (!path_is(old ? "GET /esim/operations/" OPID : "GET /operations/" OPID))
			break;
	}
	check(i == 12, "%s: polls at growing intervals", label);
	answer(200, operation("enable", OPID, "IN_PROGRESS", EID1, ICCID1, NULL));
	check(waits(RSP_PHASE_WAITING_DEVICE), "%s: an unknown status is not yet the end", label);
	again();
	answer(200, completed("enable"));
	check(is(RSP_ACT_DONE), "%s: done when the device came", label);

	/* download */
	setup(dialect, RSP_DOWNLOAD);
	begin();
	answer(202, accepted());
	answer(200, completed("download"));
	check(is(RSP_ACT_DONE) && conv.action.iccid[0] == '\0' && !conv.action.profile_state_set,
		  "%s: download", label);
	setup(dialect, RSP_DOWNLOAD);
	op.activate_on_download = true;
	begin();
	answer(202, accepted());
	answer(200, completed("download"));
	if (!old)
	{
		check(is(RSP_ACT_SEND) && path_is("POST /enable") &&
			  json_is("{\"esimProfile\":{\"eid\":\"" EID1 "\",\"iccid\":\"" ICCID1 "\"}}"),
			  "%s: enable after download", label);
		answer(202, operation("enable", OPID2, "ACCEPTED", EID1, ICCID1, NULL));
		check(path_is("GET /operations/" OPID2), "%s: its own operationId", label);
		answer(200, operation("enable", OPID2, "COMPLETED", EID1, ICCID1, R12_SUCCESS));
	}
	check(is(RSP_ACT_DONE) && conv.action.profile_state_set &&
		  conv.action.state == RSP_STATE_ENABLED && sends == (old ? 1 : 2),
		  "%s: activate_on_download", label);

	/* delete of an enabled profile */
	setup(dialect, RSP_DELETE);
	op.state = RSP_STATE_ENABLED;
	begin();
	check(path_is(old ? "POST /esim/disable" : "POST /disable"), "%s: disable first", label);
	answer(202, accepted());
	answer(200, completed("disable"));
	check(is(RSP_ACT_SEND) && path_is(old ? "POST /esim/delete" : "POST /delete"),
		  "%s: then delete", label);
	answer(202, accepted());
	answer(200, completed("delete"));
	check(is(RSP_ACT_DONE) && sends == 2, "%s: delete of an enabled profile", label);
}

static void
test_download_r12(void)
{
	int			i;

	/* the ICCID is not known */
	setup(RSP_DIALECT_R1_2, RSP_DOWNLOAD);
	op.iccid = NULL;
	begin();
	check(is(RSP_ACT_ASK) && path_is("POST /retrieve-status"), "listed before");
	answer(200, list(1, ICCID2, "ENABLED", 0));
	check(is(RSP_ACT_SEND) && path_is("POST /download") &&
		  json_array_size(json_object_get(op.memo, "before")) == 1, "then sent");
	answer(202, accepted());
	answer(200, operation("download", OPID, "COMPLETED", EID1, NULL,
						  "\"result\":{\"completedAt\":\"x\",\"outcome\":\"SUCCESS\","
						  "\"assignedIccid\":\"" ICCID1 "\"}"));
	check(is(RSP_ACT_ASK) && path_is("POST /retrieve-status"), "is it there");
	answer(200, list(2, ICCID2, "ENABLED", 0, ICCID1, "DISABLED", 0));
	check(is(RSP_ACT_DONE) && strcmp(conv.action.iccid, ICCID1) == 0, "the assigned ICCID");

	setup(RSP_DIALECT_R1_2, RSP_DOWNLOAD);
	op.iccid = NULL;
	begin();
	answer(200, list(1, ICCID2, "ENABLED", 0));
	answer(202, accepted());
	for (i = 0; i < 40; i++)
	{
		answer(200, operation("download", OPID, "COMPLETED", EID1, NULL,
							  "\"result\":{\"completedAt\":\"x\",\"outcome\":\"SUCCESS\","
							  "\"assignedIccid\":\"" ICCID1 "\"}"));
		answer(200, list(1, ICCID2, "ENABLED", 0));
		if (conv.action.type != RSP_ACT_WAIT)
			break;
		if (i > 8 && !near(conv.action.delay_ms, INT64_C(1000) << i > 300000 ? 300000 :
						   INT64_C(1000) << i))
			break;
		again();
	}
	check(is(RSP_ACT_DONE) && conv.action.iccid[0] == '\0' && i > 5 && sends == 1,
		  "an assigned ICCID that is never listed is not believed (%d)", i);

	setup(RSP_DIALECT_R1_2, RSP_DOWNLOAD);
	op.iccid = NULL;
	begin();
	answer(200, list(1, ICCID2, "ENABLED", 0));
	answer(202, accepted());
	for (i = 0; i < 40; i++)
	{
		answer(200, operation("download", OPID, "COMPLETED", EID1, NULL,
							  "\"result\":{\"completedAt\":\"x\",\"outcome\":\"SUCCESS\","
							  "\"assignedIccid\":\"" ICCID1 "\"}"));
		answer(200, list(2, ICCID2, "ENABLED", 0, ICCID3, "DISABLED", 0));
		if (conv.action.type != RSP_ACT_WAIT)
			break;
		again();
	}
	check(is(RSP_ACT_DONE) && strcmp(conv.action.iccid, ICCID3) == 0 && i > 5,
		  "what is listed is believed in the end");

	setup(RSP_DIALECT_R1_2, RSP_DOWNLOAD);
	op.iccid = NULL;
	begin();
	answer(200, list(0));
	answer(202, accepted());
	answer(200, operation("download", OPID, "COMPLETED", EID1, ICCID3, R12_SUCCESS));
	answer(200, list(1, ICCID3, "DISABLED", 0));
	check(is(RSP_ACT_DONE) && strcmp(conv.action.iccid, ICCID3) == 0,
		  "the ICCID of esimProfile if there is no assignedIccid");

	setup(RSP_DIALECT_R1_2, RSP_DOWNLOAD);
	op.iccid = NULL;
	begin();
	answer(200, list(1, ICCID2, "ENABLED", 0));
	answer(202, accepted());
	answer(200, operation("download", OPID, "COMPLETED", EID1, NULL, R12_SUCCESS));
	check(is(RSP_ACT_ASK) && path_is("POST /retrieve-status"), "no ICCID is told: list");
	answer(200, list(2, ICCID2, "ENABLED", 0, ICCID3, "DISABLED", 0));
	check(is(RSP_ACT_DONE) && strcmp(conv.action.iccid, ICCID3) == 0, "the new one");

	setup(RSP_DIALECT_R1_2, RSP_DOWNLOAD);
	op.iccid = NULL;
	op.activate_on_download = true;
	begin();
	answer_error(404, "IDENTIFIER_NOT_FOUND");
	check(is(RSP_ACT_SEND), "an eUICC that is not known yet has no profiles");
	answer(202, accepted());
	answer(200, operation("download", OPID, "COMPLETED", EID1, NULL, R12_SUCCESS));
	answer(200, list(2, ICCID2, "ENABLED", 0, ICCID3, "DISABLED", 0));
	check(fails("MISSING_IDENTIFIER") && conv.action.profile_state_set &&
		  conv.action.state == RSP_STATE_DISABLED, "cannot be enabled without its ICCID");

	/* another one than asked for */
	setup(RSP_DIALECT_R1_2, RSP_DOWNLOAD);
	op.activate_on_download = true;
	begin();
	answer(202, accepted());
	answer(200, operation("download", OPID, "COMPLETED", EID1, NULL,
						  "\"result\":{\"completedAt\":\"x\",\"outcome\":\"SUCCESS\","
						  "\"assignedIccid\":\"" ICCID3 "\"}"));
	answer(200, list(1, ICCID3, "DISABLED", 0));
	check(is(RSP_ACT_SEND) && strstr(last_body, ICCID3) != NULL, "enables the real one");
	answer(202, operation("enable", OPID2, "ACCEPTED", EID1, ICCID3, NULL));
	crash();
	check(op.unresolved, "a crash behind the 202 leaves it unresolved");
	begin();
	check(path_is("POST /retrieve-status"), "so it asks");
	answer(200, list(1, ICCID3, "ENABLED", 0));
	check(is(RSP_ACT_DONE) && strcmp(conv.action.iccid, ICCID3) == 0 &&
		  strstr(conv.action.message, "another ICCID") != NULL &&
		  strstr(conv.detail, "another ICCID") != NULL, "another ICCID than asked for");

	/* ... and the server shows no list: its word is all there is */
	setup(RSP_DIALECT_R1_2, RSP_DOWNLOAD);
	begin();
	answer(202, accepted());
	answer(200, operation("download", OPID, "COMPLETED", EID1, NULL,
						  "\"result\":{\"completedAt\":\"x\",\"outcome\":\"SUCCESS\","
						  "\"assignedIccid\":\"" ICCID3 "\"}"));
	check(is(RSP_ACT_ASK) && path_is("POST /retrieve-status"), "is it there");
	answer_error(403, "PERMISSION_DENIED");
	check(is(RSP_ACT_DONE) && strcmp(conv.action.iccid, ICCID3) == 0,
		  "the ICCID that was assigned where no list is to be had");

	/* half done */
	setup(RSP_DIALECT_R1_2, RSP_DOWNLOAD);
	op.iccid = NULL;
	op.activate_on_download = true;
	begin();
	answer(200, list(0));
	answer(202, accepted());
	answer(200, operation("download", OPID, "COMPLETED", EID1, ICCID1, R12_SUCCESS));
	answer(200, list(1, ICCID1, "DISABLED", 0));
	answer_error(422, "SERVICE_NOT_APPLICABLE");
	check(fails("SERVICE_NOT_APPLICABLE") && conv.action.profile_state_set &&
		  conv.action.state == RSP_STATE_DISABLED &&
		  strcmp(conv.action.iccid, ICCID1) == 0 &&
		  strcmp(conv.action.rsp_code, "SERVICE_NOT_APPLICABLE") == 0 &&
		  strcmp(conv.action.rsp_message, "said so") == 0, "downloaded, not enabled");

	setup(RSP_DIALECT_R1_2, RSP_DELETE);
	op.state = RSP_STATE_ENABLED;
	begin();
	answer(202, accepted());
	answer(200, completed("disable"));
	answer_error(403, "PERMISSION_DENIED");
	check(fails("PERMISSION_DENIED") && conv.action.profile_state_set &&
		  conv.action.state == RSP_STATE_DISABLED, "disabled, not deleted");

	/* what was listed before a try that sent nothing is stale */
	setup(RSP_DIALECT_R1_2, RSP_DOWNLOAD);
	op.iccid = NULL;
	begin();
	answer(200, list(0));
	answer_outcome(HTTP_NOT_SENT);
	check(waits(RSP_PHASE_RETRYING) && !op.unresolved, "not sent: tried again");
	again();
	check(is(RSP_ACT_ASK) && path_is("POST /retrieve-status"), "listed anew");
	answer_error(403, "PERMISSION_DENIED");
	check(fails("PERMISSION_DENIED"), "may not list");
}

/* ----- each row of the table ----- */

typedef struct Row
{
	int			status;
	const char *code;
	char		post;			/* F final, V verify (enable), R retry, B busy, Q quota, P park,
								 * U unknown */
	char		get;			/* P park, R later, G gone */
	const char *ours;
} Row;

static const Row rows[] = {
	{400, "INVALID_ARGUMENT", 'F', 'R', "INVALID_ARGUMENT"},
	{400, "OUT_OF_RANGE", 'F', 'R', "OUT_OF_RANGE"},
	{400, NULL, 'F', 'R', "INVALID_ARGUMENT"},
	{401, "UNAUTHENTICATED", 'P', 'P', "UNAUTHENTICATED"},
	{401, NULL, 'P', 'P', "UNAUTHENTICATED"},
	{403, "PERMISSION_DENIED", 'F', 'R', "PERMISSION_DENIED"},
	{403, "INVALID_TOKEN_CONTEXT", 'F', 'R', "INVALID_TOKEN_CONTEXT"},
	{403, "VENDOR_CODE", 'F', 'R', "PERMISSION_DENIED"},
	{404, "NOT_FOUND", 'F', 'G', "NOT_FOUND"},
	{404, "IDENTIFIER_NOT_FOUND", 'F', 'G', "IDENTIFIER_NOT_FOUND"},
	{404, NULL, 'F', 'G', "NOT_FOUND"},
	{405, "METHOD_NOT_ALLOWED", 'F', 'R', "METHOD_NOT_ALLOWED"},
	{405, NULL, 'F', 'R', "METHOD_NOT_ALLOWED"},
	{406, "NOT_ACCEPTABLE", 'F', 'R', "NOT_ACCEPTABLE"},
	{406, NULL, 'F', 'R', "NOT_ACCEPTABLE"},
	{407, NULL, 'P', 'P', "UNAUTHENTICATED"},
	{408, NULL, 'R', 'R', "TIMEOUT"},
	{409, "ABORTED", 'R', 'R', "ABORTED"},
	{409, "ALREADY_EXISTS", 'V', 'R', "ALREADY_EXISTS"},
	{409, "CONFLICT", 'V', 'R', "CONFLICT"},
	{409, "INCOMPATIBLE_STATE", 'V', 'R', "INCOMPATIBLE_STATE"},
	{409, "VENDOR_CODE", 'V', 'R', "INCOMPATIBLE_STATE"},
	{410, "GONE", 'F', 'G', "GONE"},
	{410, NULL, 'F', 'G', "GONE"},
	{412, "FAILED_PRECONDITION", 'V', 'R', "FAILED_PRECONDITION"},
	{412, NULL, 'V', 'R', "FAILED_PRECONDITION"},
	{415, "UNSUPPORTED_MEDIA_TYPE", 'F', 'R', "UNSUPPORTED_MEDIA_TYPE"},
	{415, NULL, 'F', 'R', "UNSUPPORTED_MEDIA_TYPE"},
	{418, NULL, 'F', 'R', "INVALID_ARGUMENT"},
	{422, "SERVICE_NOT_APPLICABLE", 'F', 'R', "SERVICE_NOT_APPLICABLE"},
	{422, "MISSING_IDENTIFIER", 'F', 'R', "MISSING_IDENTIFIER"},
	{422, "UNSUPPORTED_IDENTIFIER", 'F', 'R', "UNSUPPORTED_IDENTIFIER"},
	{422, "UNNECESSARY_IDENTIFIER", 'F', 'R', "UNNECESSARY_IDENTIFIER"},
	{422, "IDENTIFIER_MISMATCH", 'F', 'R', "IDENTIFIER_MISMATCH"},
	{422, "INCOMPATIBLE_STATE", 'V', 'R', "INCOMPATIBLE_STATE"},
	{422, NULL, 'F', 'R', "SERVICE_NOT_APPLICABLE"},
	{425, NULL, 'R', 'R', "UNAVAILABLE"},
	{429, "QUOTA_EXCEEDED", 'Q', 'Q', "QUOTA_EXCEEDED"},
	{429, "TOO_MANY_REQUESTS", 'R', 'R', "TOO_MANY_REQUESTS"},
	{429, NULL, 'R', 'R', "TOO_MANY_REQUESTS"},
	{500, "INTERNAL", 'U', 'B', "INTERNAL"},
	{500, NULL, 'U', 'B', "INTERNAL"},
	{501, "NOT_IMPLEMENTED", 'F', 'R', "NOT_IMPLEMENTED"},
	{501, NULL, 'F', 'R', "NOT_IMPLEMENTED"},
	{502, "BAD_GATEWAY", 'U', 'B', "BAD_GATEWAY"},
	{502, NULL, 'U', 'B', "BAD_GATEWAY"},
	{503, "UNAVAILABLE", 'B', 'B', "UNAVAILABLE"},
	{503, NULL, 'U', 'B', "UNAVAILABLE"},
	{504, "TIMEOUT", 'U', 'B', "TIMEOUT"},
	{504, NULL, 'U', 'B', "TIMEOUT"},
	{599, NULL, 'U', 'B', "INTERNAL"},
	{100, NULL, 'U', 'R', ""},
	{200, NULL, 'U', 'R', ""},
	{204, NULL, 'U', 'R', ""},
	{302, NULL, 'U', 'R', ""},
	{0, NULL, 'U', 'R', ""},
	{700, NULL, 'U', 'R', ""}
};

static bool
not_now_is(char meaning, const char *ours)
{
	bool		good = ours[0] == '\0' || strcmp(conv.action.code, ours) == 0;

	switch (meaning)
	{
		case 'R':
			return good && waits(RSP_PHASE_RETRYING) && !conv.action.server_trouble;
		case 'B':
			return good && waits(RSP_PHASE_RETRYING) && conv.action.server_trouble;
		case 'Q':
			return good && waits(RSP_PHASE_RETRYING) && near(conv.action.delay_ms, 900000);
		case 'P':
			return good && waits(RSP_PHASE_PARKED) && near(conv.action.delay_ms, 300000);
		default:
			return false;
	}
}

static void
test_rows(RspDialect dialect)
{
	const char *label = dialect == RSP_DIALECT_R1_2 ? "r1.2" : "2026-02";
	size_t		i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		const Row  *row = &rows[i];
		const char *code = row->code ? row->code : "no code";
		char		post = row->post;
		bool		good;

		/* 2026-02 has no other way to tell of states */
		if (dialect == RSP_DIALECT_2026_02 && row->status == 422 && post == 'F' &&
			strcmp(row->ours, "SERVICE_NOT_APPLICABLE") == 0)
			post = 'V';

		setup(dialect, RSP_ENABLE);
		begin();
		answer_error(row->status, row->code);
		switch (post)
		{
			case 'F':
				good = fails(row->ours) && !op.unresolved &&
					strcmp(conv.action.rsp_code, row->code ? row->code : "") == 0;
				break;
			case 'V':
				good = is(RSP_ACT_ASK) && !op.unresolved;
				answer(200, list(1, ICCID1, "DISABLED", 0));
				good = good && fails(row->ours);
				break;
			case 'U':
				good = is(RSP_ACT_ASK) && op.unresolved &&
					strstr(last_path, "retrieve-status") != NULL;
				break;
			default:
				good = !op.unresolved && not_now_is(post, row->ours);
				if (good)
				{
					again();
					good = is(RSP_ACT_SEND);
				}
				break;
		}
		check(good, "%s POST %d %s", label, row->status, code);

		setup(dialect, RSP_ENABLE);
		begin();
		answer(202, accepted());
		answer_error(row->status, row->code);
		if (row->get == 'G')
			good = is(RSP_ACT_ASK) && op.unresolved &&
				strstr(last_path, "retrieve-status") != NULL;
		else
		{
			good = !op.unresolved && not_now_is(row->get, row->ours);
			if (good)
			{
				again();
				good = is(RSP_ACT_ASK) && strstr(last_path, "operations/") != NULL;
			}
		}
		check(good && sends == 1, "%s GET %d %s", label, row->status, code);

		/* the same where retrieve-status is asked, by refresh */
		setup(dialect, RSP_REFRESH);
		begin();
		answer_error(row->status, row->code);
		if (row->get == 'G' || (row->get == 'R' && row->status >= 400 && row->status != 408 &&
								row->status != 425 && row->status != 429 && row->status < 600 &&
								!(row->code && strcmp(row->code, "ABORTED") == 0)))
			good = fails(row->ours);
		else
			good = not_now_is(row->get, row->ours);
		check(good, "%s refresh %d %s", label, row->status, code);
	}

	/* polls that keep failing */
	setup(dialect, RSP_ENABLE);
	begin();
	answer(202, accepted());
	for (i = 0; i < 3; i++)
	{
		answer_error(403, "PERMISSION_DENIED");
		again();
	}
	answer_error(403, "PERMISSION_DENIED");
	check(is(RSP_ACT_ASK) && strstr(last_path, "retrieve-status") != NULL,
		  "%s: looks when polls keep failing", label);
	answer(200, list(1, ICCID1, "DISABLED", 0));
	check(waits(RSP_PHASE_RETRYING) && !op.unresolved, "%s: not yet", label);
	again();
	answer_error(403, "PERMISSION_DENIED");
	answer(200, list(1, ICCID1, "ENABLED", 0));
	check(is(RSP_ACT_DONE) && sends == 1, "%s: seen", label);
}

static void
test_waits(void)
{
	int			i;
	HttpAnswer	none;

	setup(RSP_DIALECT_R1_2, RSP_ENABLE);
	begin();
	answer_raw(HTTP_ANSWERED, 429, "", 0, 90000);
	check(waits(RSP_PHASE_RETRYING) && conv.action.delay_ms >= 90000 &&
		  conv.action.delay_ms <= 110000, "Retry-After is honoured");
	again();
	answer_raw(HTTP_ANSWERED, 503, "{\"code\":\"UNAVAILABLE\"}", 22, 10 * 86400000L);
	check(conv.action.delay_ms >= 86400000 && conv.action.delay_ms <= 2 * 86400000L,
		  "but no longer than about a day");
	again();
	answer_raw(HTTP_ANSWERED, 429, "", 0, 0);
	check(conv.action.delay_ms >= 900, "Retry-After: 0 is no reason to hurry");
	for (i = 0; i < 20; i++)
	{
		again();
		answer_raw(HTTP_ANSWERED, 429, "", 0, -1);
	}
	check(near(conv.action.delay_ms, 300000), "grows to five minutes");

	setup(RSP_DIALECT_R1_2, RSP_ENABLE);
	begin();
	answer_outcome(HTTP_NOT_SENT);
	check(waits(RSP_PHASE_RETRYING) && conv.action.server_trouble && !op.unresolved,
		  "not sent: nothing happened");
	again();
	check(is(RSP_ACT_SEND), "and is sent again without asking");

	memset(&none, 0, sizeof(none));
	none.outcome = HTTP_NOT_SENT;
	none.body = (char *) "";
	none.retry_after_ms = -1;
	none.auth_failed = true;
	none.auth_status = 401;
	rsp_conversation_reset(&conv);
	rsp_camara.answer(&conv, &none);
	check(waits(RSP_PHASE_PARKED) && strcmp(conv.action.code, "UNAUTHENTICATED") == 0 &&
		  !conv.action.server_trouble && !op.unresolved,
		  "wrong credentials are parked");
	begin();
	none.auth_status = 503;
	rsp_conversation_reset(&conv);
	rsp_camara.answer(&conv, &none);
	check(waits(RSP_PHASE_RETRYING) && !conv.action.server_trouble,
		  "a token endpoint that is away is waited for");
	begin();
	none.auth_failed = false;
	none.tls_failed = true;
	none.tls_reason = "the server's certificate is not trusted";
	rsp_conversation_reset(&conv);
	rsp_camara.answer(&conv, &none);
	check(waits(RSP_PHASE_RETRYING) && strstr(conv.action.message, "certificate") != NULL,
		  "the certificate is named");

	setup(RSP_DIALECT_R1_2, RSP_ENABLE);
	begin();
	answer(202, accepted());
	answer_outcome(HTTP_LOST);
	check(waits(RSP_PHASE_RETRYING) && conv.action.server_trouble && !op.unresolved,
		  "a lost poll is polled again");
	again();
	answer_outcome(HTTP_NOT_SENT);
	again();
	check(path_is("GET /operations/" OPID), "and again");
}

/* ----- already so ----- */

static void
test_already(RspDialect dialect)
{
	const char *label = dialect == RSP_DIALECT_R1_2 ? "r1.2" : "2026-02";
	static const struct
	{
		RspKind		kind;
		const char *state;
		int			mark;
	}			cases[] = {
		{RSP_ENABLE, "ENABLED", 0}, {RSP_DISABLE, "DISABLED", 0},
		{RSP_SET_FALLBACK, "DISABLED", 1}
	};
	int			i;

	for (i = 0; i < 3; i++)
	{
		setup(dialect, cases[i].kind);
		begin();
		answer_error(409, "INCOMPATIBLE_STATE");
		check(is(RSP_ACT_ASK), "%s %s: 409 is looked up", label, rsp_kind_name(cases[i].kind));
		answer_error(503, "UNAVAILABLE");
		check(waits(RSP_PHASE_RETRYING), "%s: that may take a while", label);
		crash();
		again();
		check(is(RSP_ACT_ASK) && strstr(last_path, "retrieve-status") != NULL,
			  "%s: and is not forgotten", label);
		answer(200, list(1, ICCID1, cases[i].state, cases[i].mark));
		check(is(RSP_ACT_DONE) && sends == 1, "%s %s: it is so already", label,
			  rsp_kind_name(cases[i].kind));

		setup(dialect, cases[i].kind);
		begin();
		answer_error(409, "INCOMPATIBLE_STATE");
		answer(200, list(0));
		check(fails("INCOMPATIBLE_STATE") && strcmp(conv.action.rsp_message, "said so") == 0,
			  "%s %s: it is not so", label, rsp_kind_name(cases[i].kind));
	}

	setup(dialect, RSP_ENABLE);
	begin();
	answer_error(409, "INCOMPATIBLE_STATE");
	answer_error(403, "PERMISSION_DENIED");
	check(fails("INCOMPATIBLE_STATE"), "%s: cannot be looked up", label);

	/* delete */
	setup(dialect, RSP_DELETE);
	begin();
	answer_error(404, "IDENTIFIER_NOT_FOUND");
	check(is(RSP_ACT_ASK), "%s delete: 404 is looked up", label);
	answer(200, list(1, ICCID2, "ENABLED", 0));
	check(is(RSP_ACT_DONE), "%s delete: absent is success", label);
	setup(dialect, RSP_DELETE);
	begin();
	answer_error(404, "IDENTIFIER_NOT_FOUND");
	answer_error(404, "IDENTIFIER_NOT_FOUND");
	check(fails("IDENTIFIER_NOT_FOUND"), "%s delete: an eUICC that is not known", label);
	setup(dialect, RSP_DELETE);
	begin();
	answer_error(409, "INCOMPATIBLE_STATE");
	answer(200, list(1, ICCID1, "ENABLED", 0));
	check(fails("INCOMPATIBLE_STATE") && conv.action.profile_state_set &&
		  conv.action.state == RSP_STATE_ENABLED,
		  "%s delete: found enabled against what was known", label);

	setup(dialect, RSP_DELETE);
	op.state = RSP_STATE_INSTALLED;
	begin();
	check(is(RSP_ACT_ASK), "%s delete: enabled or not is asked", label);
	answer(200, list(1, ICCID1, "ENABLED", 0));
	check(is(RSP_ACT_SEND) && strstr(last_path, "disable") != NULL, "%s delete: it is", label);
	answer_error(409, "INCOMPATIBLE_STATE");
	answer(200, list(1, ICCID1, "DISABLED", 0));
	check(is(RSP_ACT_SEND) && strstr(last_path, "delete") != NULL,
		  "%s delete: or was until just now", label);
	setup(dialect, RSP_DELETE);
	op.state = RSP_STATE_INSTALLED;
	begin();
	answer(200, list(1, ICCID1, "DISABLED", 0));
	check(is(RSP_ACT_SEND) && strstr(last_path, "delete") != NULL, "%s delete: it is not", label);
	setup(dialect, RSP_DELETE);
	op.state = RSP_STATE_INSTALLED;
	begin();
	answer(200, list(0));
	check(is(RSP_ACT_SEND) && strstr(last_path, "delete") != NULL,
		  "%s delete: not listed is not enough", label);
	answer_error(404, "IDENTIFIER_NOT_FOUND");
	answer(200, list(0));
	check(is(RSP_ACT_DONE), "%s delete: nothing there", label);
	setup(dialect, RSP_DELETE);
	op.state = RSP_STATE_ENABLED;
	begin();
	answer_error(409, "INCOMPATIBLE_STATE");
	answer(200, list(0));
	check(is(RSP_ACT_DONE) && sends == 1, "%s delete: gone before its disable", label);

	/* download */
	setup(dialect, RSP_DOWNLOAD);
	begin();
	answer_error(409, "ALREADY_EXISTS");
	answer(200, list(1, ICCID1, "DISABLED", 0));
	check(fails("ALREADY_EXISTS"), "%s download: was there, but not by us", label);
}

/* ----- lost answers ----- */

static void
test_lost(RspDialect dialect)
{
	const char *label = dialect == RSP_DIALECT_R1_2 ? "r1.2" : "2026-02";
	static const struct
	{
		RspKind		kind;
		const char *before;
		const char *after;
		int			mark;
	}			cases[] = {
		{RSP_ENABLE, "DISABLED", "ENABLED", 0},
		{RSP_DISABLE, "ENABLED", "DISABLED", 0},
		{RSP_SET_FALLBACK, "DISABLED", "DISABLED", 1},
		{RSP_DELETE, "DISABLED", NULL, 0},
		{RSP_DOWNLOAD, NULL, "DISABLED", 0}
	};
	static const char *const ways[] = {
		"lost", "broken off", "500", "502", "503 of a gateway", "504", "no JSON",
		"wrong operationId", "another eUICC", "another kind", "no operationId", "302", "crash"
	};
	int			i;
	int			way;
	int64_t		delay;

	for (i = 0; i < 5; i++)
	{
		const char *name = rsp_kind_name(cases[i].kind);

		for (way = 0; way < 13; way++)
		{
			setup(dialect, cases[i].kind);
			begin();
			switch (way)
			{
				case 0:
					answer_outcome(HTTP_LOST);
					break;
				case 1:
					answer_raw(HTTP_BAD_ANSWER, 202, "{\"oper", 6, -1);
					break;
				case 2:
					answer_error(500, "INTERNAL");
					break;
				case 3:
					answer_error(502, "BAD_GATEWAY");
					break;
				case 4:
					answer_error(503, NULL);
					break;
				case 5:
					answer_error(504, "TIMEOUT");
					break;
				case 6:
					answer(202, "{\"operationId\":");
					break;
				case 7:
					answer(202, operation(name, "../../x", "accepted", EID1, ICCID1, NULL));
					break;
				case 8:
					answer(202, operation(name, OPID, "accepted", EID2, ICCID1, NULL));
					break;
				case 9:
					answer(202, operation("refresh", OPID, "accepted", EID1, ICCID1, NULL));
					break;
				case 10:
					answer(202, "{\"status\":\"accepted\"}");
					break;
				case 11:
					answer(302, "");
					break;
				case 12:
					crash();
					begin();
					break;
			}
			check(is(RSP_ACT_ASK) && op.unresolved && op.rsp_operation_id[0] == '\0' &&
				  strstr(last_path, "retrieve-status") != NULL, "%s %s %s: asks", label, name,
				  ways[way]);
			if (cases[i].before != NULL)
				answer(200, list(2, ICCID1, cases[i].before, 0, ICCID2, "DISABLED", 0));
			else
				answer(200, list(1, ICCID2, "DISABLED", 0));
			check(waits(RSP_PHASE_UNKNOWN) && op.unresolved && near(conv.action.delay_ms, 1000),
				  "%s %s %s: nothing to be seen", label, name, ways[way]);
			again();
			answer_outcome(HTTP_NOT_SENT);
			check(waits(RSP_PHASE_UNKNOWN) && conv.action.server_trouble && op.unresolved,
				  "%s %s %s: cannot be asked now", label, name, ways[way]);
			again();
			if (cases[i].kind == RSP_DELETE)
			{
				answer(200, list(1, ICCID2, "DISABLED", 0));
				check(waits(RSP_PHASE_UNKNOWN), "%s %s: too early to be believed", label, name);
				delay = conv.action.delay_ms;
				wait_until(op.last_sent_ms + server.timeout_ms + 10001);
				answer(200, list(1, ICCID2, "DISABLED", 0));
				check(delay > 0 && is(RSP_ACT_DONE) && sends == 1, "%s %s %s: seen", label, name,
					  ways[way]);
			}
			else
			{
				answer(200, list(2, ICCID1, cases[i].after, cases[i].mark, ICCID2, "DISABLED", 0));
				check(is(RSP_ACT_DONE) && sends == 1 && !op.unresolved, "%s %s %s: seen", label,
					  name, ways[way]);
			}
		}

		/* nothing comes of it */
		setup(dialect, cases[i].kind);
		begin();
		answer_outcome(HTTP_LOST);
		for (way = 0; way < 100; way++)
		{
			if (cases[i].before != NULL)
				answer(200, list(2, ICCID1, cases[i].before, 0, ICCID2, "DISABLED", 0));
			else
				answer(200, list(1, ICCID2, "DISABLED", 0));
			if (conv.action.type != RSP_ACT_WAIT)
				break;
			again();
		}
		check(is(RSP_ACT_SEND) && op.now_ms - T0 >= HOUR && op.now_ms - T0 < HOUR + 60000 &&
			  way > 12 && way < 40, "%s %s: repeated after unknown_hold (%d asks)", label, name,
			  way);

		/* and the repeat shows that the first came through after all */
		answer_error(409, "INCOMPATIBLE_STATE");
		check(is(RSP_ACT_ASK), "%s %s: repeat refused", label, name);
		if (cases[i].after != NULL)
			answer(200, list(2, ICCID1, cases[i].after, cases[i].mark, ICCID2, "DISABLED", 0));
		else
			answer(200, list(1, ICCID2, "DISABLED", 0));
		check(is(RSP_ACT_DONE) && sends == 2, "%s %s: the first one did it", label, name);
	}

	/* the operation is gone */
	setup(dialect, RSP_ENABLE);
	begin();
	answer(202, accepted());
	answer_error(404, "NOT_FOUND");
	answer(200, list(1, ICCID1, "DISABLED", 0));
	check(waits(RSP_PHASE_UNKNOWN) && op.unresolved, "%s: operation gone", label);
	again();
	check(is(RSP_ACT_ASK) && strstr(last_path, "operations/") != NULL, "%s: polled on", label);
	answer(200, operation("enable", OPID, "ACCEPTED", EID1, ICCID1, NULL));
	check(waits(RSP_PHASE_WAITING_DEVICE) && !op.unresolved, "%s: back again", label);
	again();
	answer_error(404, "NOT_FOUND");
	answer(200, list(1, ICCID1, "ENABLED", 0));
	check(is(RSP_ACT_DONE) && sends == 1, "%s: gone, and seen", label);
	setup(dialect, RSP_ENABLE);
	begin();
	answer(202, accepted());
	answer_error(404, "NOT_FOUND");
	answer(200, list(1, ICCID1, "DISABLED", 0));
	wait_until(T0 + HOUR + 1000);
	answer_error(404, "NOT_FOUND");
	answer(200, list(1, ICCID1, "DISABLED", 0));
	check(is(RSP_ACT_SEND) && sends == 2, "%s: gone, and repeated", label);

	/* asking is not possible at all */
	setup(dialect, RSP_ENABLE);
	begin();
	answer_outcome(HTTP_LOST);
	answer_error(403, "PERMISSION_DENIED");
	check(waits(RSP_PHASE_UNKNOWN), "%s: may not ask", label);
	wait_until(T0 + HOUR + 1000);
	answer_error(403, "PERMISSION_DENIED");
	check(fails("OUTCOME_UNKNOWN") && sends == 1, "%s: may not ask, is not guessed", label);

	/* ask first */
	setup(dialect, RSP_ENABLE);
	op.ask_first = true;
	begin();
	check(is(RSP_ACT_ASK) && strstr(last_path, "retrieve-status") != NULL, "%s: ask first",
		  label);
	answer(200, list(1, ICCID1, "DISABLED", 0));
	check(is(RSP_ACT_SEND) && !op.ask_first, "%s: nothing there, sent", label);
	setup(dialect, RSP_ENABLE);
	op.ask_first = true;
	begin();
	answer(200, list(1, ICCID1, "ENABLED", 0));
	check(is(RSP_ACT_DONE) && sends == 0, "%s: ask first, so already", label);
	setup(dialect, RSP_ENABLE);
	op.ask_first = true;
	op.first_sent_ms = op.last_sent_ms = T0 - 1000;
	begin();
	answer(200, list(1, ICCID1, "DISABLED", 0));
	check(waits(RSP_PHASE_UNKNOWN) && sends == 0, "%s: ask first, was sent before", label);
	setup(dialect, RSP_ENABLE);
	op.ask_first = true;
	begin();
	answer_error(403, "PERMISSION_DENIED");
	check(is(RSP_ACT_PARK) && sends == 0, "%s: ask first, may not ask", label);
	setup(dialect, RSP_DELETE);
	op.ask_first = true;
	op.state = RSP_STATE_INSTALLED;
	begin();
	answer(200, list(1, ICCID1, "ENABLED", 0));
	check(is(RSP_ACT_SEND) && strstr(last_path, "disable") != NULL,
		  "%s: ask first, delete of an enabled one", label);

	/* ask first, and it was to be cancelled */
	setup(dialect, RSP_ENABLE);
	op.ask_first = op.cancel_asked = true;
	begin();
	answer(200, list(1, ICCID1, "DISABLED", 0));
	check(fails("CANCELLED") && conv.action.cancelled && sends == 0,
		  "%s: ask first, cancelled as it was not sent", label);
	setup(dialect, RSP_ENABLE);
	op.ask_first = op.cancel_asked = true;
	op.first_sent_ms = op.last_sent_ms = T0 - 2 * HOUR;
	begin();
	answer(200, list(1, ICCID1, "DISABLED", 0));
	check(is(RSP_ACT_SEND), "%s: ask first, what was sent before is not cancelled", label);
	setup(dialect, RSP_ENABLE);
	op.ask_first = op.cancel_asked = true;
	begin();
	answer(200, list(1, ICCID1, "ENABLED", 0));
	check(is(RSP_ACT_DONE) && sends == 0, "%s: ask first, too late to cancel", label);

	/* an intent whose time is not known */
	setup(dialect, RSP_ENABLE);
	op.unresolved = true;
	begin();
	answer(200, list(1, ICCID1, "DISABLED", 0));
	check(waits(RSP_PHASE_UNKNOWN), "%s: sent at no known time", label);
	wait_until(T0 + HOUR + 1000);
	answer(200, list(1, ICCID1, "DISABLED", 0));
	check(is(RSP_ACT_SEND), "%s: holds from when it was noticed", label);

	/* delete in two halves, the second lost */
	setup(dialect, RSP_DELETE);
	op.state = RSP_STATE_ENABLED;
	begin();
	answer(202, accepted());
	answer(200, completed("disable"));
	check(is(RSP_ACT_SEND), "%s: second half", label);
	crash();
	op.state = RSP_STATE_DISABLED;
	op.now_ms += 60000;
	begin();
	answer(200, list(0));
	check(is(RSP_ACT_ASK), "%s: second half lost, looks twice", label);
	answer(200, list(0));
	check(is(RSP_ACT_DONE) && sends == 2, "%s: second half lost, and done", label);
	setup(dialect, RSP_DELETE);
	begin();
	answer_outcome(HTTP_LOST);
	op.now_ms += 60000;
	answer(200, list(0));
	answer(200, list(1, ICCID1, "DISABLED", 0));
	check(waits(RSP_PHASE_UNKNOWN) && sends == 1, "%s: lists that contradict each other", label);
}

static void
test_lost_download(void)
{
	int			i;

	setup(RSP_DIALECT_R1_2, RSP_DOWNLOAD);
	op.iccid = NULL;
	begin();
	answer(200, list(1, ICCID2, "ENABLED", 0));
	crash();
	begin();
	check(is(RSP_ACT_ASK) && op.unresolved, "the intent is known after a crash");
	answer(200, list(1, ICCID2, "ENABLED", 0));
	check(waits(RSP_PHASE_UNKNOWN), "nothing new");
	again();
	answer(200, list(2, ICCID2, "ENABLED", 0, ICCID3, "DISABLED", 0));
	check(is(RSP_ACT_ASK), "looks twice");
	answer(200, list(2, ICCID2, "ENABLED", 0, ICCID3, "DISABLED", 0));
	check(is(RSP_ACT_DONE) && strcmp(conv.action.iccid, ICCID3) == 0 && sends == 1,
		  "exactly one is new");

	setup(RSP_DIALECT_R1_2, RSP_DOWNLOAD);
	op.iccid = NULL;
	begin();
	answer(200, list(0));
	answer_outcome(HTTP_LOST);
	answer(200, list(2, ICCID2, "ENABLED", 0, ICCID3, "DISABLED", 0));
	check(fails("OUTCOME_UNKNOWN") && sends == 1, "two are new");

	setup(RSP_DIALECT_R1_2, RSP_DOWNLOAD);
	op.iccid = NULL;
	begin();
	answer(200, list(1, ICCID2, "ENABLED", 0));
	answer_outcome(HTTP_LOST);
	for (i = 0; i < 100 && conv.action.type != RSP_ACT_SEND; i++)
	{
		answer(200, list(1, ICCID2, "ENABLED", 0));
		if (conv.action.type == RSP_ACT_WAIT)
			again();
	}
	check(is(RSP_ACT_SEND) && sends == 2 &&
		  json_array_size(json_object_get(op.memo, "before")) == 1,
		  "repeated with the same code and the first list");
	answer_error(422, "SERVICE_NOT_APPLICABLE");
	check(is(RSP_ACT_ASK), "the repeat is refused: look");
	answer(200, list(2, ICCID2, "ENABLED", 0, ICCID3, "DISABLED", 0));
	check(is(RSP_ACT_DONE) && strcmp(conv.action.iccid, ICCID3) == 0, "the first one did it");

	/* a code without MatchingID may bring another profile than the one asked for */
	setup(RSP_DIALECT_R1_2, RSP_DOWNLOAD);
	op.activation_code = "1$smdp.example.com$";
	begin();
	check(is(RSP_ACT_ASK) && path_is("POST /retrieve-status"), "the SM-DP+ chooses: listed before");
	answer(200, list(1, ICCID2, "ENABLED", 0));
	answer_outcome(HTTP_LOST);
	answer(200, list(2, ICCID2, "ENABLED", 0, ICCID3, "DISABLED", 0));
	check(is(RSP_ACT_ASK), "one is new, though not the one asked for: looks twice");
	answer(200, list(2, ICCID2, "ENABLED", 0, ICCID3, "DISABLED", 0));
	check(is(RSP_ACT_DONE) && strcmp(conv.action.iccid, ICCID3) == 0 && sends == 1,
		  "it is the download's, which is not repeated");
	setup(RSP_DIALECT_R1_2, RSP_DOWNLOAD);
	op.activation_code = "1$smdp.example.com$";
	begin();
	answer(200, list(0));
	answer_outcome(HTTP_LOST);
	answer(200, list(1, ICCID1, "DISABLED", 0));
	check(is(RSP_ACT_DONE) && conv.action.iccid[0] == '\0' && sends == 1, "or the one asked for");
	setup(RSP_DIALECT_R1_2, RSP_DOWNLOAD);
	op.activation_code = "1$smdp.example.com$";
	begin();
	answer_error(403, "PERMISSION_DENIED");
	check(is(RSP_ACT_SEND) && path_is("POST /download"), "no list to be had: sent all the same");

	/* nothing is known of what was there before */
	setup(RSP_DIALECT_R1_2, RSP_DOWNLOAD);
	op.iccid = NULL;
	op.unresolved = true;
	op.first_sent_ms = op.last_sent_ms = T0;
	begin();
	answer(200, list(1, ICCID3, "DISABLED", 0));
	check(waits(RSP_PHASE_UNKNOWN), "no list of before");
	wait_until(T0 + HOUR + 1000);
	answer(200, list(1, ICCID3, "DISABLED", 0));
	check(fails("OUTCOME_UNKNOWN") && sends == 0, "is never guessed");

	/* 2026-02 with activation: the list shows half of it */
	setup(RSP_DIALECT_2026_02, RSP_DOWNLOAD);
	op.activate_on_download = true;
	begin();
	answer_outcome(HTTP_LOST);
	answer(200, list(1, ICCID1, "disabled", 0));
	check(waits(RSP_PHASE_UNKNOWN), "downloaded, not yet enabled");
	again();
	answer(200, list(1, ICCID1, "enabled", 0));
	check(is(RSP_ACT_DONE) && conv.action.state == RSP_STATE_ENABLED, "enabled");
	setup(RSP_DIALECT_2026_02, RSP_DOWNLOAD);
	op.activate_on_download = true;
	begin();
	answer_outcome(HTTP_LOST);
	answer(200, list(1, ICCID1, "disabled", 0));
	wait_until(T0 + HOUR + 1000);
	answer(200, list(1, ICCID1, "disabled", 0));
	check(is(RSP_ACT_SEND) && path_is("POST /esim/enable"), "the second half by itself");
	answer(202, operation("enable", OPID2, "accepted", EID1, ICCID1, NULL));
	answer(200, operation("enable", OPID2, "completed", EID1, ICCID1, OLD_SUCCESS));
	check(is(RSP_ACT_DONE) && conv.action.state == RSP_STATE_ENABLED, "and done");
}

/* ----- outcomes ----- */

static void
test_outcomes(void)
{
	static const struct
	{
		const char *status;
		const char *rest;
		const char *code;		/* NULL: done; "?": asks; "~": not yet */
		const char *said;
	}			cases[] = {
		{"COMPLETED", "\"result\":{\"outcome\":\"SUCCESS\"}", NULL, NULL},
		{"completed", "\"result\":{\"outcome\":\"success\"}", NULL, NULL},
		{"Completed", "\"result\":{\"outcome\":\"Success\"},\"error\":null", NULL, NULL},
		{"COMPLETED", "\"result\":{\"outcome\":\"FAILED\",\"failureReason\":\"device unreachable\"}",
		"SERVICE_NOT_APPLICABLE", "device unreachable"},
		{"COMPLETED", "\"result\":{\"outcome\":\"FAILED\",\"failureReason\":\"cancelled\"}",
		"CANCELLED", "cancelled"},
		{"COMPLETED", "\"result\":{\"outcome\":\"FAILED\"}", "SERVICE_NOT_APPLICABLE", ""},
		{"COMPLETED", "\"result\":{\"outcome\":\"cancelled\"}", "CANCELLED", ""},
		{"cancelled", NULL, "CANCELLED", ""},
		{"failed", NULL, "SERVICE_NOT_APPLICABLE", ""},
		{"FAILED", "\"error\":{\"status\":403,\"code\":\"PERMISSION_DENIED\",\"message\":\"m\"}",
		"PERMISSION_DENIED", "m"},
		{"completed", "\"error\":{\"status\":422,\"code\":\"IDENTIFIER_MISMATCH\",\"message\":\"m\"}",
		"IDENTIFIER_MISMATCH", "m"},
		{"failed", "\"error\":{\"status\":500,\"code\":\"SMDP_DOWN\",\"message\":\"m\"}",
		"INTERNAL", "m"},
		{"failed", "\"error\":{\"status\":403,\"code\":\"VENDOR\",\"message\":\"m\"}",
		"PERMISSION_DENIED", "m"},
		{"completed", "\"result\":{\"error\":{\"code\":\"OUT_OF_RANGE\",\"message\":\"m\"}}",
		"OUT_OF_RANGE", "m"},
		{"failed", "\"error\":{\"code\":5,\"message\":[]}", "SERVICE_NOT_APPLICABLE", ""},
		{"completed", "\"error\":{\"status\":422,\"code\":\"ESIM_NOT_ENABLED\",\"message\":\"m\"}",
		"?", NULL},
		{"failed", "\"error\":{\"status\":409,\"code\":\"INCOMPATIBLE_STATE\",\"message\":\"m\"}",
		"?", NULL},
		{"COMPLETED", NULL, "?", NULL},
		{"COMPLETED", "\"result\":{}", "?", NULL},
		{"COMPLETED", "\"result\":{\"outcome\":\"MAYBE\"}", "?", NULL},
		{"COMPLETED", "\"result\":{\"outcome\":\"SUCCESS\"},\"error\":{\"code\":\"INTERNAL\"}", "?",
		NULL},
		{"FAILED", "\"result\":{\"outcome\":\"SUCCESS\"}", "?", NULL},
		{"cancelled", "\"result\":{\"outcome\":\"SUCCESS\"}", "?", NULL},
		{"PENDING", NULL, "~", NULL},
		{"ACCEPTED", "\"result\":{\"outcome\":\"SUCCESS\"}", "~", NULL}
	};
	size_t		i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		bool		good;

		setup(RSP_DIALECT_R1_2, RSP_ENABLE);
		begin();
		answer(202, accepted());
		answer(200, operation("enable", OPID, cases[i].status, EID1, ICCID1, cases[i].rest));
		if (cases[i].code == NULL)
			good = is(RSP_ACT_DONE);
		else if (strcmp(cases[i].code, "?") == 0)
			good = is(RSP_ACT_ASK) && path_is("POST /retrieve-status");
		else if (strcmp(cases[i].code, "~") == 0)
			good = waits(RSP_PHASE_WAITING_DEVICE);
		else
			good = fails(cases[i].code) && strcmp(conv.action.rsp_message, cases[i].said) == 0;
		check(good && sends == 1, "outcome: %s, %s", cases[i].status,
			  cases[i].rest ? cases[i].rest : "no more");
	}

	setup(RSP_DIALECT_2026_02, RSP_ENABLE);
	begin();
	answer(202, accepted());
	answer(200, operation("enable", OPID, "failed", EID1, ICCID1,
						  "\"error\":{\"status\":422,\"code\":\"ESIM_NOT_DISABLED\",\"message\":\"m\"}"));
	answer(200, list(1, ICCID1, "enabled", 0));
	check(is(RSP_ACT_DONE), "2026-02 tells of states behind the 202");
	setup(RSP_DIALECT_2026_02, RSP_ENABLE);
	begin();
	answer(202, accepted());
	answer(200, operation("enable", OPID, "failed", EID1, ICCID1,
						  "\"error\":{\"status\":422,\"code\":\"ESIM_NOT_DISABLED\",\"message\":\"m\"}"));
	answer(200, list(1, ICCID1, "disabled", 0));
	check(fails("INCOMPATIBLE_STATE") && strcmp(conv.action.rsp_code, "ESIM_NOT_DISABLED") == 0 &&
		  strcmp(conv.action.rsp_message, "m") == 0, "the RSP's own code is kept");

	setup(RSP_DIALECT_2026_02, RSP_DOWNLOAD);
	op.activate_on_download = true;
	begin();
	answer(202, accepted());
	answer(200, operation("download", OPID, "failed", EID1, ICCID1,
						  "\"error\":{\"status\":500,\"code\":\"INTERNAL\",\"message\":\"m\"}"));
	check(is(RSP_ACT_ASK), "2026-02: which half failed");
	answer(200, list(1, ICCID1, "disabled", 0));
	check(fails("INTERNAL") && conv.action.profile_state_set &&
		  conv.action.state == RSP_STATE_DISABLED, "2026-02: the second");

	setup(RSP_DIALECT_R1_2, RSP_ENABLE);
	begin();
	answer(202, accepted());
	answer(200, operation("enable", OPID, "COMPLETED", EID1, ICCID1, NULL));
	answer(200, list(1, ICCID1, "DISABLED", 0));
	check(waits(RSP_PHASE_UNKNOWN) && op.unresolved, "no outcome: unknown");
	again();
	answer(200, completed("enable"));
	check(is(RSP_ACT_DONE) && !op.unresolved, "an outcome at last");
}

/* ----- reports ----- */

static void
test_reports(void)
{
	static char big[400000];
	size_t		at;
	int			i;

	setup(RSP_DIALECT_2026_02, RSP_REFRESH);
	begin();
	answer(200, "{\"esims\":[{\"eid\":\"" EID1 "\",\"iccid\":\"" ICCID1
		   "\",\"state\":\"enabled\",\"phoneNumber\":\"+1234567890\",\"isFallback\":false},"
		   "{\"eid\":\"" EID1 "\",\"iccid\":\"" ICCID2 "\",\"state\":\"disabled\",\"isFallback\":true}]}");
	check(is(RSP_ACT_DONE) && conv.nreports == 2 && conv.reports_whole &&
		  strcmp(conv.reports[0].eid, EID1) == 0 && strcmp(conv.reports[0].iccid, ICCID1) == 0 &&
		  conv.reports[0].state == RSP_STATE_ENABLED && conv.reports[0].is_fallback == 0 &&
		  strcmp(conv.reports[0].msisdn, "+1234567890") == 0 &&
		  conv.reports[1].state == RSP_STATE_DISABLED && conv.reports[1].is_fallback == 1 &&
		  conv.reports[1].msisdn[0] == '\0', "refresh reports");
	begin();
	answer(200, "{\"esims\":[]}");
	check(is(RSP_ACT_DONE) && conv.nreports == 0 && conv.reports_whole, "an empty eUICC");
	begin();
	answer(200, "{\"esimProfiles\":[{\"eid\":\"" EID1 "\",\"iccid\":\"" ICCID1 "\"}]}");
	check(is(RSP_ACT_DONE) && conv.nreports == 1 && conv.reports_whole &&
		  conv.reports[0].state == RSP_STATE_INSTALLED && conv.reports[0].is_fallback == -1,
		  "the other dialect's name, state not told");
	begin();
	answer(200, "{\"esims\":[{\"eid\":\"" EID2 "\",\"iccid\":\"" ICCID3 "\",\"state\":\"enabled\"},"
		   "{\"eid\":\"" EID1 "\",\"iccid\":\"" ICCID1 "\",\"state\":\"enabled\"}]}");
	check(conv.nreports == 1 && conv.reports_whole && strstr(conv.detail, "1 of other") != NULL,
		  "an entry of another eUICC is left out");
	begin();
	answer(200, "{\"esims\":[{\"eid\":\"" EID2 "\",\"iccid\":\"" ICCID3 "\",\"state\":\"enabled\"}]}");
	check(conv.nreports == 0 && !conv.reports_whole, "only another eUICC's: proves nothing");
	begin();
	answer(200, "{\"esims\":[7,null,[],\"x\",{\"iccid\":\"" ICCID1 "\"},{\"eid\":\"" EID1 "\"},"
		   "{\"eid\":\"" EID1 "\",\"iccid\":\"898600D6101400027602\"},"
		   "{\"eid\":\"" EID1 "\",\"iccid\":\"1234567890123456789\"},"
		   "{\"eid\":\"" EID1 "\",\"iccid\":\"" ICCID1 "\",\"state\":7,\"isFallback\":\"yes\","
		   "\"phoneNumber\":\"+0123456\"}]}");
	check(is(RSP_ACT_DONE) && conv.nreports == 1 && !conv.reports_whole &&
		  strstr(conv.detail, "8 not readable") != NULL && conv.reports[0].is_fallback == -1 &&
		  conv.reports[0].msisdn[0] == '\0', "entries that cannot be read are left out");
	begin();
	answer(200, "{\"esims\":[{\"eid\":\"" EID1 "\",\"iccid\":\"" ICCID1 "\",\"state\":\"enabled\"},"
		   "{\"eid\":\"" EID1 "\",\"iccid\":\"" ICCID1 "\",\"state\":\"disabled\"}]}");
	check(conv.nreports == 1 && !conv.reports_whole, "the same profile twice");

	at = snprintf(big, sizeof(big), "{\"esims\":[");
	for (i = 0; i < 3000; i++)
		at += snprintf(big + at, sizeof(big) - at, "%s{\"eid\":\"" EID1 "\",\"iccid\":\"8944%015d\"}",
					   i ? "," : "", i);
	snprintf(big + at, sizeof(big) - at, "]}");
	begin();
	answer(200, big);
	check(is(RSP_ACT_DONE) && conv.nreports == RSP_MAX_REPORTS && !conv.reports_whole,
		  "bounded");

	begin();
	answer_error(404, "IDENTIFIER_NOT_FOUND");
	check(fails("IDENTIFIER_NOT_FOUND"), "refresh of an unknown eUICC");

	setup(RSP_DIALECT_R1_2, RSP_REFRESH);
	begin();
	for (i = 0; i < 40 && conv.action.type != RSP_ACT_FAIL; i++)
	{
		answer(200, "{\"esimProfiles\":{}}");
		if (conv.action.type == RSP_ACT_WAIT)
			again();
	}
	check(fails("INTERNAL") && i > 5, "a server that never makes sense");

	/* a list of the end replaces one of the beginning */
	setup(RSP_DIALECT_R1_2, RSP_DELETE);
	op.state = RSP_STATE_INSTALLED;
	begin();
	answer(200, list(1, ICCID1, "DISABLED", 0));
	answer_error(404, "IDENTIFIER_NOT_FOUND");
	answer(200, list(0));
	check(is(RSP_ACT_DONE) && conv.nreports == 0 && conv.reports_whole, "the last list counts");

	/* an entry that cannot be read may be the profile */
	setup(RSP_DIALECT_R1_2, RSP_DELETE);
	begin();
	answer_outcome(HTTP_LOST);
	op.now_ms += 60000;
	answer(200, "{\"esimProfiles\":[{}]}");
	check(waits(RSP_PHASE_UNKNOWN), "absence needs a whole list");

	setup(RSP_DIALECT_R1_2, RSP_ENABLE);
	op.eid = NULL;
	begin();
	answer_outcome(HTTP_LOST);
	check(json_is("{\"esimProfile\":{\"iccid\":\"" ICCID1 "\"}}"), "without EID: by ICCID");
	answer(200, list(1, ICCID1, "ENABLED", 0));
	check(is(RSP_ACT_DONE) && conv.nreports == 1 && !conv.reports_whole, "which is not whole");
}

/* ----- hostile answers ----- */

static void
test_hostile(void)
{
	static char deep[200000];
	static char wide[300000];
	static const char *const texts[] = {
		"", " ", "null", "true", "0", "-1", "1e999", "\"x\"", "[]", "{}", "[[]]", "{\"", "}{",
		"{\"operationId\":null}", "{\"operationId\":{}}", "{\"operationId\":[\"x\"]}",
		"{\"operationId\":\"\"}", "{\"operationId\":\".\",\"status\":\"ACCEPTED\"}",
		"{\"operationId\":\"..\",\"status\":\"ACCEPTED\"}",
		"{\"operationId\":\"a/b\",\"status\":\"ACCEPTED\"}",
		"{\"operationId\":\"a%2fb\",\"status\":\"ACCEPTED\"}",
		"{\"operationId\":\"a?b\",\"status\":\"ACCEPTED\"}",
		"{\"operationId\":\"a\\r\\nb\",\"status\":\"ACCEPTED\"}",
		"{\"operationId\":\"a\\u0000b\",\"status\":\"ACCEPTED\"}",
		"{\"operationId\":\"\\ud800\",\"status\":\"ACCEPTED\"}",
		"{\"operationId\":\"12345678901234567890123456789012345678901234567890123456789012345\",\"status\":\"ACCEPTED\"}",
		"{\"operationId\":\"" OPID "\"}",
		"{\"operationId\":\"" OPID "\",\"status\":7}",
		"{\"operationId\":\"" OPID "\",\"status\":null}",
		"{\"operationId\":\"" OPID "\",\"status\":\"ACCEPTED\",\"operation\":7}",
		"{\"operationId\":\"" OPID "\",\"status\":\"ACCEPTED\",\"operation\":\"delete\"}",
		"{\"operationId\":\"" OPID "\",\"status\":\"ACCEPTED\",\"esimProfile\":7}",
		"{\"operationId\":\"" OPID "\",\"status\":\"ACCEPTED\",\"esimProfile\":{\"eid\":7}}",
		"{\"operationId\":\"" OPID "\",\"status\":\"ACCEPTED\",\"esimProfile\":{\"eid\":\"\"}}",
		"{\"operationId\":\"" OPID "\",\"status\":\"ACCEPTED\",\"esimProfile\":{\"iccid\":\"\"}}",
		"{\"operationId\":\"" OPID "\",\"status\":\"ACCEPTED\",\"esimProfile\":{\"iccid\":\"89x\"}}",
		"{\"operationId\":\"" OPID "\",\"status\":\"ACCEPTED\",\"esim\":{\"iccid\":\"" ICCID3 "\"}}",
		"{\"operationId\":\"" OPID "\",\"status\":\"COMPLETED\",\"result\":7}",
		"{\"operationId\":\"" OPID "\",\"status\":\"COMPLETED\",\"result\":{\"outcome\":7}}",
		"{\"operationId\":\"" OPID "\",\"status\":\"COMPLETED\",\"result\":{\"outcome\":\"SUCCESS\",\"assignedIccid\":7}}",
		"{\"operationId\":\"" OPID "\",\"status\":\"COMPLETED\",\"result\":{\"outcome\":\"SUCCESS\",\"assignedIccid\":\"0\"}}",
		"{\"operationId\":\"" OPID "\",\"status\":\"COMPLETED\",\"result\":{\"outcome\":\"FAILED\",\"failureReason\":{}}}",
		"{\"operationId\":\"" OPID "\",\"status\":\"COMPLETED\",\"error\":7}",
		"{\"operationId\":\"" OPID "\",\"operationId\":\"" OPID2 "\",\"status\":\"ACCEPTED\"}",
		"{\"esimProfiles\":null}", "{\"esimProfiles\":7}", "{\"esimProfiles\":[[[[]]]]}",
		"{\"esimProfiles\":[{\"eid\":{},\"iccid\":[],\"state\":{},\"isFallback\":7}]}",
		"{\"esims\":[null,null]}",
		"{\"status\":\"x\",\"code\":7,\"message\":{}}", "{\"code\":\"\\u0000\"}", "{\"error\":7}",
		"{\"error\":{\"code\":{}}}", "\xff\xfe{}", "{\"code\":\"\xc3\"}", "{\"code\":\"\xed\xa0\x80\"}",
		"<html><body>captive portal</body></html>", "HTTP/1.1 202 Accepted"
	};
	static const int statuses[] = {0, 100, 200, 202, 204, 301, 400, 401, 404, 409, 410, 422, 429,
	500, 503, 999};
	static const RspKind kinds[] = {RSP_DOWNLOAD, RSP_ENABLE, RSP_DELETE, RSP_REFRESH};
	size_t		t;
	size_t		s;
	size_t		k;
	int			stage;
	int			bad = 0;
	int			done = 0;
	int			cases = 0;

	memset(deep, '[', sizeof(deep) - 1);
	strcpy(wide, "{\"status\":409,\"code\":\"INCOMPATIBLE_STATE\",\"message\":\"");
	memset(wide + strlen(wide), 'x', 250000);
	strcat(wide, "\"}");

	for (t = 0; t < sizeof(texts) / sizeof(texts[0]) + 2; t++)
	{
		const char *text = t < sizeof(texts) / sizeof(texts[0]) ? texts[t] :
			t == sizeof(texts) / sizeof(texts[0]) ? deep : wide;

		for (s = 0; s < sizeof(statuses) / sizeof(statuses[0]); s++)
		{
			for (k = 0; k < 4; k++)
			{
				/* as answer to the first request, to a poll, to a look */
				for (stage = 0; stage < 3; stage++)
				{
					setup(t % 2 ? RSP_DIALECT_2026_02 : RSP_DIALECT_R1_2, kinds[k]);
					if (kinds[k] == RSP_DOWNLOAD && t % 2 == 0)
						op.iccid = NULL;
					begin();
					if (stage == 1 && conv.action.type == RSP_ACT_SEND)
						answer(202, accepted());
					if (stage == 2 && conv.action.type == RSP_ACT_SEND)
						answer_outcome(HTTP_LOST);
					answer_raw(HTTP_ANSWERED, statuses[s], text, strlen(text), -1);
					cases++;
					if (!defined())
					{
						printf("# undefined: text %.60s status %d kind %d stage %d\n", text,
							   statuses[s], kinds[k], stage);
						bad++;
					}
					if (conv.action.type == RSP_ACT_DONE && kinds[k] != RSP_REFRESH)
					{
						printf("# done: text %.60s status %d kind %d stage %d\n", text,
							   statuses[s], kinds[k], stage);
						done++;
					}
				}
			}
		}
	}
	check(bad == 0, "%d hostile answers leave a defined action", cases);
	check(done == 0, "none of them is taken for success");

	/* NUL inside */
	setup(RSP_DIALECT_R1_2, RSP_ENABLE);
	begin();
	answer_raw(HTTP_ANSWERED, 202, "{\"operationId\":\"x\"\0}", 20, -1);
	check(is(RSP_ACT_ASK) && op.unresolved, "NUL");

	/* another one's answers */
	setup(RSP_DIALECT_R1_2, RSP_ENABLE);
	begin();
	answer(202, accepted());
	answer(200, operation("enable", OPID2, "COMPLETED", EID1, ICCID1, R12_SUCCESS));
	check(waits(RSP_PHASE_RETRYING), "another operationId");
	again();
	answer(200, operation("enable", OPID, "COMPLETED", EID2, ICCID1, R12_SUCCESS));
	check(waits(RSP_PHASE_RETRYING), "another EID");
	again();
	answer(200, operation("enable", OPID, "COMPLETED", EID1, ICCID2, R12_SUCCESS));
	check(waits(RSP_PHASE_RETRYING), "another ICCID");
	again();
	answer(200, operation("disable", OPID, "COMPLETED", EID1, ICCID1, R12_SUCCESS));
	check(is(RSP_ACT_ASK) && path_is("POST /retrieve-status"), "another kind");
	setup(RSP_DIALECT_2026_02, RSP_DOWNLOAD);
	begin();
	answer(202, operation("download", OPID, "accepted", EID1, ICCID2, NULL));
	check(is(RSP_ACT_ASK) && path_is("GET /esim/operations/" OPID), "2026-02: another ICCID than asked for: polled");
	answer(200, operation("download", OPID, "completed", EID1, ICCID2, "\"result\":{\"outcome\":\"success\"}"));
	check(is(RSP_ACT_ASK) && path_is("POST /esim/retrieve-status"), "2026-02: and listed");
	answer(200, list(1, ICCID2, "disabled", 0));
	check(is(RSP_ACT_DONE) && strcmp(conv.action.iccid, ICCID2) == 0 &&
		  strstr(conv.action.message, "another ICCID") != NULL, "2026-02: it is believed when it is listed");
	setup(RSP_DIALECT_2026_02, RSP_DOWNLOAD);
	begin();
	answer(202, operation("download", OPID, "completed", EID1, ICCID2, "\"result\":{\"outcome\":\"success\"}"));
	answer(200, list(1, ICCID1, "disabled", 0));
	check(is(RSP_ACT_DONE) && conv.action.iccid[0] == '\0', "2026-02: not when the one asked for is");
	setup(RSP_DIALECT_2026_02, RSP_ENABLE);
	begin();
	answer(202, operation("enable", "not-a-uuid", "accepted", EID1, ICCID1, NULL));
	check(is(RSP_ACT_ASK) && op.unresolved, "2026-02: operationId is a uuid");
	setup(RSP_DIALECT_R1_2, RSP_ENABLE);
	begin();
	answer(202, operation("enable", "a-Z_0:9.x", "ACCEPTED", EID1, ICCID1, NULL));
	check(path_is("GET /operations/a-Z_0:9.x"), "r1.2: operationId is not");

	/* a row of an earlier dialect, or a broken one */
	setup(RSP_DIALECT_2026_02, RSP_ENABLE);
	strcpy(op.rsp_operation_id, "../x");
	begin();
	check(is(RSP_ACT_ASK) && path_is("POST /esim/retrieve-status") && op.unresolved,
		  "an operationId that does not fit");
	setup(RSP_DIALECT_R1_2, RSP_ENABLE);
	json_object_set_new(op.memo, "act", json_string("delete"));
	json_object_set_new(op.memo, "before", json_integer(7));
	json_object_set_new(op.memo, "lost", json_string("x"));
	json_object_set_new(op.memo, "refused", json_string("x"));
	begin();
	check(is(RSP_ACT_SEND) && path_is("POST /enable"), "a memo that makes no sense");
	setup(RSP_DIALECT_R1_2, RSP_ENABLE);
	op.step = 77;
	answer(200, "{}");
	check(defined(), "a step that makes no sense");

	/* long texts are cut between characters */
	setup(RSP_DIALECT_R1_2, RSP_ENABLE);
	begin();
	{
		char		body[1200];
		int			i;

		strcpy(body, "{\"status\":409,\"code\":\"INCOMPATIBLE_STATE\",\"message\":\"x");
		for (i = 0; i < 400; i++)
			strcat(body, "\xc3\xa4");
		strcat(body, "\"}");
		answer(409, body);
	}
	check(is(RSP_ACT_ASK) && json_is_object(json_object_get(op.memo, "refused")),
		  "a long message does not keep it from being looked up");
	answer(200, list(0));
	check(fails("INCOMPATIBLE_STATE") && strlen(conv.action.rsp_message) > 500, "and is shown");
}

/* ----- a server that loses, breaks and delays at random ----- */

#define MODEL_PROFILES 8
#define MODEL_OPERATIONS 64

typedef struct ModelProfile
{
	char		iccid[21];
	bool		enabled;
	bool		fallback;
} ModelProfile;

typedef struct ModelOperation
{
	RspKind		kind;
	char		iccid[21];
	int64_t		due;			/* when the device does it */
	bool		activate;
	bool		done;
	bool		success;
	bool		forgotten;
} ModelOperation;

static ModelProfile profiles[MODEL_PROFILES];
static int	nprofiles;
static ModelOperation operations[MODEL_OPERATIONS];
static int	noperations;
static int	installs;
static int	unasked;			/* acting requests repeated without an ask */
static bool asked;
static ModelProfile *
find_profile(const char *iccid)
{
	int			i;

	for (i = 0; i < nprofiles; i++)
	{
		if (strcmp(profiles[i].iccid, iccid) == 0)
			return &profiles[i];
	}
	return NULL;
}

/* the device does what is due */
static void
model_device(void)
{
	int			i;
	int			j;

	for (i = 0; i < noperations; i++)
	{
		ModelOperation *o = &operations[i];
		ModelProfile *p = find_profile(o->iccid);

		if (o->done || o->due > op.now_ms)
			continue;
		o->done = true;
		o->success = true;
		switch (o->kind)
		{
			case RSP_DOWNLOAD:
				installs++;
				if (p != NULL)
				{
					/* the code is used */
					o->success = false;
					installs--;
					break;
				}
				p = &profiles[nprofiles++];
				memset(p, 0, sizeof(*p));
				strcpy(p->iccid, o->iccid);
				p->enabled = o->activate;
				break;
			case RSP_ENABLE:
				if (p != NULL)
				{
					for (j = 0; j < nprofiles; j++)
						profiles[j].enabled = false;
					p->enabled = true;
				}
				o->success = p != NULL;
				break;
			case RSP_DISABLE:
				if (p != NULL)
					p->enabled = false;
				o->success = p != NULL;
				break;
			case RSP_DELETE:
				o->success = p != NULL && !p->enabled;
				if (o->success)
				{
					*p = profiles[nprofiles - 1];
					nprofiles--;
				}
				break;
			default:
				o->success = p != NULL && !p->enabled;
				if (o->success)
					p->fallback = true;
				break;
		}
	}
}

static int	model_status;
static char model_body[4096];

static void
model_operation(int i)
{
	ModelOperation *o = &operations[i];
	bool		old = server.dialect == RSP_DIALECT_2026_02;
	char		id[40];
	char		rest[256];

	snprintf(id, sizeof(id), "00000000-0000-4000-8000-%012d", i);
	rest[0] = '\0';
	if (o->done)
	{
		if (!old)
			snprintf(rest, sizeof(rest),
					 "\"result\":{\"completedAt\":\"x\",\"outcome\":\"%s\"%s%s%s}",
					 o->success ? "SUCCESS" : "FAILED",
					 o->kind == RSP_DOWNLOAD && o->success && dice(2) ? ",\"assignedIccid\":\"" ICCID1 "\"" : "",
					 o->success ? "" : ",\"failureReason\":\"code used\"", "");
		else if (o->success)
			snprintf(rest, sizeof(rest), OLD_SUCCESS);
		else
			snprintf(rest, sizeof(rest),
					 "\"error\":{\"status\":422,\"code\":\"VENDOR\",\"message\":\"m\"}");
	}
	snprintf(model_body, sizeof(model_body), "%s",
			 operation(rsp_kind_name(o->kind), id,
					   !o->done ? (old ? "accepted" : "ACCEPTED") :
					   old ? (o->success ? "completed" : "failed") : "COMPLETED", EID1,
					   o->kind == RSP_DOWNLOAD && !old ? NULL : o->iccid,
					   rest[0] ? rest : NULL));
}

/* the request has arrived: what the server says */
static void
model_request(void)
{
	bool		old = server.dialect == RSP_DIALECT_2026_02;
	const char *name = strrchr(conv.action.path, '/') + 1;
	RspKind		kind;
	ModelProfile *p;
	json_t	   *body;
	const char *iccid;
	int			i;

	model_device();
	if (strcmp(conv.action.method, "GET") == 0)
	{
		i = atoi(name + 24);
		if (i >= noperations || operations[i].forgotten)
		{
			model_status = 404;
			snprintf(model_body, sizeof(model_body), "{\"status\":404,\"code\":\"NOT_FOUND\",\"message\":\"m\"}");
			return;
		}
		model_status = 200;
		model_operation(i);
		return;
	}
	if (strcmp(name, "retrieve-status") == 0)
	{
		size_t		at;

		asked = true;
		model_status = 200;
		at = snprintf(model_body, sizeof(model_body), "{\"%s\":[", old ? "esims" : "esimProfiles");
		for (i = 0; i < nprofiles; i++)
			at += snprintf(model_body + at, sizeof(model_body) - at,
						   "%s{\"eid\":\"" EID1 "\",\"iccid\":\"%s\",\"state\":\"%s\",\"isFallback\":%s}",
						   i ? "," : "", profiles[i].iccid,
						   profiles[i].enabled ? "ENABLED" : "DISABLED",
						   profiles[i].fallback ? "true" : "false");
		snprintf(model_body + at, sizeof(model_body) - at, "]}");
		return;
	}

	rsp_kind_from_name(name, &kind);
	for (i = 0; i < noperations; i++)
	{
		if (operations[i].kind == kind && !asked)
			unasked++;
	}
	asked = false;
	body = json_loads(conv.action.body, 0, NULL);
	iccid = json_string_value(json_object_get(json_object_get(body, old ? "esim" : "esimProfile"),
											  "iccid"));
	if (iccid == NULL)
		iccid = ICCID1;
	p = find_profile(iccid);
	if (kind != RSP_DOWNLOAD && !old)
	{
		bool		good = p != NULL && p->enabled == (kind == RSP_DISABLE);

		if (!good)
		{
			model_status = p == NULL ? 404 : 409;
			snprintf(model_body, sizeof(model_body), "{\"status\":%d,\"code\":\"%s\",\"message\":\"m\"}",
					 model_status, p == NULL ? "IDENTIFIER_NOT_FOUND" : "INCOMPATIBLE_STATE");
			json_decref(body);
			return;
		}
	}
	if (noperations < MODEL_OPERATIONS)
	{
		ModelOperation *o = &operations[noperations++];

		memset(o, 0, sizeof(*o));
		o->kind = kind;
		strcpy(o->iccid, iccid);
		o->activate = json_is_true(json_object_get(body, "activateOnDownload"));
		o->due = op.now_ms + (dice(2) ? 0 : (int64_t) dice(1800) * 1000);
		o->forgotten = dice(20) == 0;
	}
	json_decref(body);
	model_device();
	model_status = 202;
	model_operation(noperations - 1);
}

/* as esim_cancel() has it: nothing has come of what was sent */
static bool
cancellable(void)
{
	return !op.unresolved && op.rsp_operation_id[0] == '\0' && (op.attempts == 0 || op.step == 0);
}

static int	late_cancels;		/* waits in which what was accepted could be cancelled */

static void
look_at_cancel(void)
{
	int			i;

	for (i = 0; i < noperations; i++)
		if ((!operations[i].done || operations[i].success) && cancellable())
		{
			late_cancels++;
			break;
		}
}

static void
model_turns(int trouble)
{
	int			steps;

	for (steps = 0; steps < 3000; steps++)
	{
		switch (conv.action.type)
		{
			case RSP_ACT_DONE:
			case RSP_ACT_FAIL:
			case RSP_ACT_NONE:
				return;
			case RSP_ACT_WAIT:
			case RSP_ACT_PARK:
				look_at_cancel();
				if ((int) dice(100) < trouble / 4)
					crash();
				again();
				continue;
			default:
				break;
		}
		if ((int) dice(100) >= trouble)
		{
			model_request();
			answer(model_status, model_body);
			continue;
		}
		switch (dice(12))
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
				answer_error(500, "INTERNAL");
				break;
			case 4:
				model_request();
				answer_error(502, NULL);
				break;
			case 5:
				answer_error(503, "UNAVAILABLE");
				break;
			case 6:
				answer_error(429, "TOO_MANY_REQUESTS");
				break;
			case 7:
				answer_error(401, "UNAUTHENTICATED");
				break;
			case 8:
				model_request();
				answer(model_status, "{\"oper");
				break;
			case 9:
				model_request();
				answer_raw(HTTP_BAD_ANSWER, model_status, model_body, strlen(model_body) / 2, -1);
				break;
			case 10:
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
	RSP_DELETE, RSP_SET_FALLBACK};
	int			variant;
	int			run;
	int			runs = 0;
	int			wrong = 0;
	int			doubles = 0;
	int			total_unasked = 0;
	int			repeats = 0;

	for (run = 0; run < 4000; run++)
	{
		ModelProfile *p;
		bool		good;

		variant = run % 7;
		dice_seed = (uint64_t) run * 7919 + 12345;
		setup(run / 7 % 2 ? RSP_DIALECT_R1_2 : RSP_DIALECT_2026_02, kinds[variant]);
		nprofiles = 0;
		noperations = 0;
		installs = 0;
		unasked = 0;
		asked = true;
		strcpy(profiles[nprofiles].iccid, ICCID2);
		profiles[nprofiles].fallback = false;
		profiles[nprofiles++].enabled = op.kind != RSP_DISABLE && variant != 5;
		if (op.kind == RSP_DOWNLOAD)
		{
			op.activate_on_download = variant == 1;
			if (server.dialect == RSP_DIALECT_R1_2 && dice(2))
				op.iccid = NULL;
		}
		else
		{
			strcpy(profiles[nprofiles].iccid, ICCID1);
			profiles[nprofiles].fallback = false;
			profiles[nprofiles++].enabled = op.kind == RSP_DISABLE || variant == 5;
			if (variant == 5)
				op.state = dice(2) ? RSP_STATE_ENABLED : RSP_STATE_INSTALLED;
		}
		save();
		begin();
		model_turns(dice(60));
		model_device();
		p = find_profile(ICCID1);
		good = conv.action.type == RSP_ACT_DONE;
		switch (op.kind)
		{
			case RSP_DOWNLOAD:
				good = good && p != NULL && p->enabled == op.activate_on_download &&
					(op.iccid != NULL || strcmp(conv.action.iccid, ICCID1) == 0);
				break;
			case RSP_ENABLE:
				good = good && p != NULL && p->enabled;
				break;
			case RSP_DISABLE:
				good = good && p != NULL && !p->enabled;
				break;
			case RSP_DELETE:
				good = good && p == NULL;
				break;
			default:
				good = good && p != NULL && p->fallback;
				break;
		}
		runs++;
		if (!good)
		{
			wrong++;
			printf("# run %d: %s %s: %s %s \"%s\" after %d sends\n", run,
				   server.dialect == RSP_DIALECT_R1_2 ? "r1.2" : "2026-02",
				   rsp_kind_name(op.kind), action_names[conv.action.type], conv.action.code,
				   conv.action.message, sends);
		}
		if (installs > 1)
			doubles++;
		total_unasked += unasked;
		repeats += sends > 1;
	}
	check(wrong == 0, "%d operations through trouble all end as asked for", runs);
	check(doubles == 0, "no download twice");
	check(total_unasked == 0, "no request repeated without asking");
	check(late_cancels == 0, "what has been accepted cannot be cancelled, %d times", late_cancels);
	check(repeats > 50, "%d of them needed more than one request", repeats);
}

int
main(void)
{
	test_check();
	test_bodies();
	test_way(RSP_DIALECT_R1_2);
	test_way(RSP_DIALECT_2026_02);
	test_download_r12();
	test_rows(RSP_DIALECT_R1_2);
	test_rows(RSP_DIALECT_2026_02);
	test_waits();
	test_already(RSP_DIALECT_R1_2);
	test_already(RSP_DIALECT_2026_02);
	test_lost(RSP_DIALECT_R1_2);
	test_lost(RSP_DIALECT_2026_02);
	test_lost_download();
	test_outcomes();
	test_reports();
	test_hostile();
	test_model();
	worker_free();
	return finish();
}
