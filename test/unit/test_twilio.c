/*
 * test_twilio.c
 *		Tests of the Super SIM driver and of its callbacks, without a network.
 *		Prints TAP.
 *
 * The worker also says which candidates no row of esim knows.  A model of the
 * server keeps profiles, Sims and Fleets, refuses what the OpenAPI refuses and
 * counts effects; every request of every sequence is lost there in every way.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "known.h"
#include "tap.h"
#include "worker.h"
#include "twilio_event.h"

#define EID1 "89049032000000000000000000000001"
#define EID2 "89049032000000000000000000000002"
#define ICCID1 "89883070000007537119"
#define ICCID2 "89883070000078034798"
#define HP1 "HP00000000000000000000000000000001"
#define HP2 "HP00000000000000000000000000000002"
#define HP9 "HP00000000000000000000000000000009"
#define HS1 "HS00000000000000000000000000000001"
#define HS2 "HS00000000000000000000000000000002"
#define HF1 "HF00000000000000000000000000000001"
#define HF2 "HF00000000000000000000000000000002"
#define AC "AC00000000000000000000000000000000"
#define OPID "0199b0f0-a400-774b-bcce-b302099a8057"	/* at T1 */
#define CODE "1$SM-DP-PLUS.TWILIO.COM$AAAAA-BBBBB-CCCCC-DDDDD-EEEEE"
#define T1 INT64_C(1759610184704)

#define SECOND INT64_C(1000)

/* ----- a worker ----- */

static char row_rsp_id[64];		/* of the profile's row */
static char row_sim_id[64];
static char row_subscription[12];
static bool knows;				/* the worker tells candidates apart */
static int	nsubscriptions;		/* reports, all turns */
static int	nprofiles;
static int	nfleets;

/* what the worker reads from the rows when it claims */
static void
claim(void)
{
	op.rsp_id = row_rsp_id[0] ? row_rsp_id : NULL;
	if (row_sim_id[0])
		op.sim_id = row_sim_id;
	op.subscription_now = row_subscription[0] ? row_subscription : NULL;
}

/* what the worker writes to the rows with the end of a turn */
static void
complete(void)
{
	int			i;

	if (conv.facts.rsp_id[0] && op.kind != RSP_FLEET_CREATE)
	{
		strcpy(row_rsp_id, conv.facts.rsp_id);
		know(row_rsp_id);
	}
	if (conv.facts.sim_id[0])
		strcpy(row_sim_id, conv.facts.sim_id);
	if (conv.facts.subscription[0])
		strcpy(row_subscription, conv.facts.subscription);
	for (i = 0; i < conv.nreports; i++)
	{
		nprofiles += conv.reports[i].what == RSP_REPORT_PROFILE;
		nsubscriptions += conv.reports[i].what == RSP_REPORT_SUBSCRIPTION;
		nfleets += conv.reports[i].what == RSP_REPORT_FLEET;
	}
	if (conv.action.type == RSP_ACT_WAIT && conv.candidates != NULL && knows)
		tell_unknown(&conv);
}

static void
setup(RspKind kind)
{
	static const WorkerRows rows = {claim, complete};

	worker_reset(&rsp_twilio, kind, &rows);
	server.url = "https://supersim.twilio.com/v1";
	strcpy(op.id, OPID);
	op.eid = kind == RSP_RESERVE || kind == RSP_DOWNLOAD || kind == RSP_REFRESH ? EID1 : NULL;
	op.iccid = kind == RSP_SET_SUBSCRIPTION || kind == RSP_ASSIGN_FLEET ? ICCID1 : NULL;
	op.sim_id = kind == RSP_SET_SUBSCRIPTION || kind == RSP_ASSIGN_FLEET ? HS1 : NULL;
	op.subscription = kind == RSP_SET_SUBSCRIPTION ? "ACTIVE" : NULL;
	op.fleet = kind == RSP_FLEET_CREATE || kind == RSP_ASSIGN_FLEET ? "Meters" : NULL;
	op.fleet_rsp_id = kind == RSP_ASSIGN_FLEET ? HF1 : NULL;
	op.state = kind == RSP_RESERVE ? RSP_STATE_RESERVING : RSP_STATE_RELEASED;
	op.release = true;
	op.settings = kind == RSP_FLEET_CREATE ?
		json_pack("{s:s}", "NetworkAccessProfile", "everywhere") : json_object();
	op.now_ms = T1;
	row_rsp_id[0] = row_sim_id[0] = row_subscription[0] = '\0';
	forget_all();
	knows = true;
	nsubscriptions = nprofiles = nfleets = 0;
	save();
}

static void
answer_error(int status, int code)
{
	char		body[512];

	if (code == 0)
		snprintf(body, sizeof(body), "<html>%d</html>", status);
	else
		snprintf(body, sizeof(body), "{\"code\":%d,\"message\":\"said so\","
				 "\"more_info\":\"https://www.twilio.com/docs/errors/%d\",\"status\":%d}",
				 code, code, status);
	answer(status, body);
}

/* ----- what the server says ----- */

static const char *
quoted(const char *text)
{
	static char buffers[8][320];
	static int	n = 0;
	char	   *buffer = buffers[n++ % 8];

	if (text == NULL)
		return "null";
	snprintf(buffer, 320, "\"%s\"", text);
	return buffer;
}

static const char *
date_text(int64_t ms)
{
	static char buffers[4][32];
	static int	n = 0;
	char	   *buffer = buffers[n++ % 4];
	time_t		seconds = ms / 1000;
	struct tm	tm;

	gmtime_r(&seconds, &tm);
	strftime(buffer, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
	return buffer;
}

static const char *
profile_at(const char *sid, const char *status, const char *eid, const char *iccid,
		   const char *sim, const char *code, int64_t created)
{
	static char buffers[4][1600];
	static int	n = 0;
	char	   *buffer = buffers[n++ % 4];
	bool		there = iccid != NULL;

	snprintf(buffer, 1600,
			 "{\"sid\":\"%s\",\"account_sid\":\"" AC "\",\"iccid\":%s,\"sim_sid\":%s,"
			 "\"status\":\"%s\",\"eid\":%s,\"smdp_plus_address\":%s,\"matching_id\":%s,"
			 "\"activation_code\":%s,\"error_code\":%s,\"error_message\":%s,"
			 "\"date_created\":\"%s\",\"date_updated\":\"2020-09-01T20:00:00Z\","
			 "\"url\":\"https://supersim.twilio.com/v1/ESimProfiles/%s\"}",
			 sid, quoted(iccid), quoted(sim), status, quoted(eid),
			 quoted(there ? "sm-dp-plus.twilio.com" : NULL),
			 quoted(code ? "AAAAA-BBBBB-CCCCC-DDDDD-EEEEE" : NULL), quoted(code),
			 strcmp(status, "failed") == 0 ? "\"83010\"" : "null",
			 strcmp(status, "failed") == 0 ? "\"no luck\"" : "null", date_text(created), sid);
	return buffer;
}

static const char *
profile(const char *sid, const char *status, const char *eid, bool there)
{
	return profile_at(sid, status, eid, there ? ICCID1 : NULL, there ? HS1 : NULL, NULL, T1);
}

static const char *
sim(const char *sid, const char *iccid, const char *status, const char *fleet)
{
	static char buffers[4][1200];
	static int	n = 0;
	char	   *buffer = buffers[n++ % 4];

	snprintf(buffer, 1200,
			 "{\"sid\":\"%s\",\"account_sid\":\"" AC "\",\"unique_name\":null,\"status\":\"%s\","
			 "\"fleet_sid\":%s,\"iccid\":\"%s\",\"date_created\":\"2015-07-30T20:00:00Z\","
			 "\"date_updated\":\"2015-07-30T20:00:00Z\","
			 "\"url\":\"https://supersim.twilio.com/v1/Sims/%s\",\"links\":{"
			 "\"billing_periods\":\"https://supersim.twilio.com/v1/Sims/%s/BillingPeriods\"}}",
			 sid, status, quoted(fleet), iccid, sid, sid);
	return buffer;
}

static const char *
fleet(const char *sid, const char *name)
{
	static char buffers[4][1200];
	static int	n = 0;
	char	   *buffer = buffers[n++ % 4];

	snprintf(buffer, 1200,
			 "{\"account_sid\":\"" AC "\",\"unique_name\":%s,\"data_enabled\":true,"
			 "\"data_limit\":500,\"data_metering\":\"payg\",\"sid\":\"%s\","
			 "\"network_access_profile_sid\":\"HA00000000000000000000000000000000\"}",
			 quoted(name), sid);
	return buffer;
}

static const char *
page(const char *key, const char *next, int n,...)
{
	static char text[16384];
	va_list		args;
	size_t		at;
	int			i;

	at = snprintf(text, sizeof(text), "{\"%s\":[", key);
	va_start(args, n);
	for (i = 0; i < n; i++)
		at += snprintf(text + at, sizeof(text) - at, "%s%s", i ? "," : "",
					   va_arg(args, const char *));
	va_end(args);
	snprintf(text + at, sizeof(text) - at,
			 "],\"meta\":{\"key\":\"%s\",\"page\":0,\"page_size\":50,\"first_page_url\":\"x\","
			 "\"previous_page_url\":null,\"url\":\"x\",\"next_page_url\":%s}}",
			 key, quoted(next));
	return text;
}

/* ----- looking at actions ----- */

/* ----- what it can do, what it refuses at once ----- */

static bool
settings_are(const char *text, const char *code)
{
	json_decref(op.settings);
	op.settings = json_loads(text, 0, NULL);
	return checked(code);
}

static void
test_check(void)
{
	static const RspKind can[] = {RSP_DOWNLOAD, RSP_REFRESH, RSP_RESERVE, RSP_SET_SUBSCRIPTION,
	RSP_ASSIGN_FLEET, RSP_FLEET_CREATE, RSP_SYNC};
	static const RspKind cannot[] = {RSP_ENABLE, RSP_DISABLE, RSP_DELETE, RSP_SET_FALLBACK,
	RSP_UNSET_FALLBACK, RSP_RELEASE, RSP_CANCEL_ORDER};
	const char *note;
	size_t		i;
	int			n = 0;

	for (i = 0; i < 7; i++)
	{
		setup(cannot[i]);
		n += rsp_twilio.supports(RSP_DIALECT_R1_2, can[i], &note) &&
			!rsp_twilio.supports(RSP_DIALECT_R1_2, cannot[i], &note) && note[0] != '\0' &&
			!rsp_twilio.state_allowed(cannot[i], RSP_STATE_DISABLED) &&
			checked("SERVICE_NOT_APPLICABLE");
	}
	check(n == 7, "supported kinds");
	check(rsp_twilio.can_ask && rsp_driver(RSP_PROTOCOL_TWILIO) == &rsp_twilio, "the driver");
	check(rsp_twilio.state_allowed(RSP_DOWNLOAD, RSP_STATE_RELEASED) &&
		  !rsp_twilio.state_allowed(RSP_DOWNLOAD, RSP_STATE_DELETED) &&
		  !rsp_twilio.state_allowed(RSP_DOWNLOAD, RSP_STATE_DOWNLOADED) &&
		  rsp_twilio.state_allowed(RSP_SET_SUBSCRIPTION, RSP_STATE_DELETED),
		  "a profile downloads once; its subscription can always be stopped");

	setup(RSP_RESERVE);
	check(checked(NULL), "reserve by EID");
	op.generate_matching_id = true;
	check(checked("INVALID_ARGUMENT"), "EID and generate_matching_id");
	op.eid = NULL;
	check(checked(NULL), "reserve by matching ID");
	op.generate_matching_id = false;
	check(checked("MISSING_IDENTIFIER"), "neither");
	op.reserved_eid = EID1;
	check(checked(NULL), "the row's reserved EID");
	op.matching_id = "ABC";
	check(checked("SERVICE_NOT_APPLICABLE"), "a matching ID of one's own");
	op.matching_id = NULL;
	op.profile_type = "x";
	check(checked("SERVICE_NOT_APPLICABLE"), "a profile type");
	op.profile_type = NULL;
	op.iccid = ICCID1;
	check(checked("SERVICE_NOT_APPLICABLE"), "an ICCID");
	op.iccid = NULL;
	op.release = false;
	check(checked("SERVICE_NOT_APPLICABLE"), "held back");

	setup(RSP_DOWNLOAD);
	check(checked(NULL), "download needs no code");
	op.activation_code = "1$sm-dp-plus.twilio.com$";
	check(checked(NULL), "a code of the server's address");
	op.activation_code = CODE;
	check(checked("SERVICE_NOT_APPLICABLE"), "somebody else's code");
	op.rsp_id = HP1;
	check(checked(NULL), "the reserved profile's code");
	op.activate_on_download = true;
	check(checked("SERVICE_NOT_APPLICABLE"), "activate_on_download");
	op.activate_on_download = false;
	op.confirmation_code = "1";
	check(checked("SERVICE_NOT_APPLICABLE"), "confirmation code");
	op.confirmation_code = NULL;
	op.reserved_eid = EID2;
	check(checked("IDENTIFIER_MISMATCH"), "reserved for another");
	op.reserved_eid = NULL;
	op.eid = NULL;
	check(checked("MISSING_IDENTIFIER"), "download without EID");

	setup(RSP_SET_SUBSCRIPTION);
	check(checked(NULL), "set-subscription");
	op.subscription = "NEW";
	check(checked("INVALID_ARGUMENT"), "NEW cannot be set");
	op.subscription = "SCHEDULED";
	check(checked("INVALID_ARGUMENT"), "nor SCHEDULED");
	op.subscription = "READY";
	check(checked(NULL), "READY when nothing is known");
	op.subscription_now = "NEW";
	check(checked(NULL), "READY from NEW");
	op.subscription_now = "ACTIVE";
	check(checked("INCOMPATIBLE_STATE"), "READY from ACTIVE");
	op.subscription_now = "INACTIVE";
	check(checked("INCOMPATIBLE_STATE"), "READY from INACTIVE");
	op.subscription = NULL;
	check(checked("INVALID_ARGUMENT"), "neither status nor fleet");
	op.fleet = "Meters";
	check(checked(NULL), "the fleet alone");
	setup(RSP_ASSIGN_FLEET);
	check(checked(NULL), "assign-fleet");
	op.fleet = op.fleet_rsp_id = NULL;
	check(checked("INVALID_ARGUMENT"), "assign-fleet without one");

	setup(RSP_FLEET_CREATE);
	check(checked(NULL), "fleet-create");
	check(settings_are("{}", "INVALID_ARGUMENT"), "NetworkAccessProfile is needed");
	check(settings_are("{\"network_access_profile\":\"x\",\"data_limit\":5}", NULL),
		  "names as in the resource");
	check(settings_are("{\"network_access_profile_sid\":\"HAx\"}", NULL), "and its sid");
	check(settings_are("{\"NetworkAccessProfile\":\"x\",\"network_access_profile\":\"x\"}",
					   "INVALID_ARGUMENT"), "twice");
	check(settings_are("{\"NetworkAccessProfile\":\"x\",\"Colour\":1}", "INVALID_ARGUMENT"),
		  "an unknown setting");
	check(settings_are("{\"NetworkAccessProfile\":\"x\",\"DataLimit\":0}", "OUT_OF_RANGE") &&
		  settings_are("{\"NetworkAccessProfile\":\"x\",\"DataLimit\":2000001}", "OUT_OF_RANGE") &&
		  settings_are("{\"NetworkAccessProfile\":\"x\",\"DataLimit\":\"5\"}", "OUT_OF_RANGE"),
		  "DataLimit out of range");
	check(settings_are("{\"NetworkAccessProfile\":\"x\",\"DataEnabled\":1}", "INVALID_ARGUMENT") &&
		  settings_are("{\"NetworkAccessProfile\":\"x\",\"SmsCommandsUrl\":\"x\"}",
					   "INVALID_ARGUMENT") &&
		  settings_are("{\"NetworkAccessProfile\":\"x\",\"SmsCommandsMethod\":\"PUT\"}",
					   "INVALID_ARGUMENT") &&
		  settings_are("{\"NetworkAccessProfile\":\"\"}", "INVALID_ARGUMENT") &&
		  settings_are("{\"NetworkAccessProfile\":\"x\",\"IpCommandsUrl\":\"https://a@b/\"}",
					   "INVALID_ARGUMENT"), "wrong types");
	op.fleet = HF1;
	check(settings_are("{\"NetworkAccessProfile\":\"x\"}", "INVALID_ARGUMENT"),
		  "a name like a SID");
	op.fleet = NULL;
	check(checked("INVALID_ARGUMENT"), "no name");
	setup(RSP_REFRESH);
	op.eid = NULL;
	check(checked("MISSING_IDENTIFIER"), "refresh without EID");
	setup(RSP_SYNC);
	check(checked(NULL), "sync");

	setup(RSP_ENABLE);
	begin();
	check(fails("SERVICE_NOT_APPLICABLE") && sends == 0, "what it cannot is refused when it runs");
	setup(RSP_RESERVE);
	op.eid = NULL;
	begin();
	check(fails("MISSING_IDENTIFIER") && sends == 0, "checked again when it runs");
}

/* ----- the plain way ----- */

static void
test_reserve(void)
{
	int			i;
	int64_t		delay;

	setup(RSP_RESERVE);
	begin();
	check(is(RSP_ACT_SEND) && path_is("POST /ESimProfiles") &&
		  body_is("Eid=" EID1 "&CallbackMethod=POST") &&
		  strcmp(conv.action.content_type, "application/x-www-form-urlencoded") == 0 &&
		  op.step == 0 && json_object_size(op.memo) == 0, "reserve by EID");
	answer(201, profile(HP1, "new", EID1, false));
	check(waits(RSP_PHASE_SENT) && near(conv.action.delay_ms, 2000) && !op.unresolved &&
		  strcmp(op.rsp_operation_id, HP1) == 0 && strcmp(row_rsp_id, HP1) == 0 &&
		  strcmp(conv.facts.rsp_state, "new") == 0 && strcmp(conv.facts.reserved_eid, EID1) == 0,
		  "the sid is kept at once");
	again();
	check(is(RSP_ACT_ASK) && path_is("GET /ESimProfiles/" HP1), "polled by its sid");
	answer(200, profile(HP1, "reserving", EID1, false));
	check(waits(RSP_PHASE_SENT) && near(conv.action.delay_ms, 2000), "reserving");
	for (i = 1; i < 20; i++)
	{
		again();
		answer(200, profile(HP1, "reserving", EID1, false));
		delay = i > 14 ? 6 * HOUR : INT64_C(2000) << i;
		if (delay > 6 * HOUR)
			delay = 6 * HOUR;
		if (!near(conv.action.delay_ms, delay))
			break;
	}
	check(i == 20, "the interval grows to six hours");
	again();
	answer(200, profile(HP1, "available", EID1, true));
	check(is(RSP_ACT_ASK) && path_is("GET /Sims/" HS1), "its Sim is read");
	answer(200, sim(HS1, ICCID1, "new", NULL));
	check(is(RSP_ACT_DONE) && state_is(RSP_STATE_RELEASED) &&
		  strcmp(conv.action.iccid, ICCID1) == 0 && strcmp(conv.facts.sim_id, HS1) == 0 &&
		  strcmp(conv.facts.smdp_address, "sm-dp-plus.twilio.com") == 0 &&
		  conv.facts.matching_id[0] == '\0' && conv.facts.activation_code[0] == '\0' &&
		  strcmp(conv.facts.subscription, "NEW") == 0 &&
		  strcmp(conv.facts.rsp_state, "available") == 0 && sends == 1, "reserved");

	setup(RSP_RESERVE);
	op.eid = NULL;
	op.generate_matching_id = true;
	server.event_url = "https://events.example.com/esim";
	begin();
	check(body_is("GenerateMatchingId=true&CallbackUrl=https%3A%2F%2Fevents.example.com%2Fesim"
				  "%3Fop%3D" OPID "&CallbackMethod=POST"), "by matching ID, with a callback");
	answer(201, profile(HP1, "new", NULL, false));
	again();
	answer(200, profile_at(HP1, "available", NULL, ICCID1, HS1, "LPA:" CODE, T1));
	answer(200, sim(HS1, ICCID1, "new", NULL));
	check(is(RSP_ACT_DONE) && strcmp(conv.facts.activation_code, CODE) == 0 &&
		  strcmp(conv.facts.matching_id, "AAAAA-BBBBB-CCCCC-DDDDD-EEEEE") == 0,
		  "matching ID and activation code");

	setup(RSP_RESERVE);
	server.event_url = "https://events.example.com/esim?a=b";
	begin();
	check(strstr(last_body, "%3Fa%3Db%26op%3D" OPID) != NULL, "an event_url with a query");
	setup(RSP_RESERVE);
	server.url = "https://gateway.example.com";
	begin();
	check(path_is("POST /v1/ESimProfiles"), "a URL without /v1");
	setup(RSP_RESERVE);
	server.url = "https://gateway.example.com/twilio/v1/";
	begin();
	check(path_is("POST /ESimProfiles"), "a URL that ends in /v1/");

	setup(RSP_RESERVE);
	begin();
	answer(201, profile(HP1, "available", EID1, true));
	answer(200, sim(HS1, ICCID1, "new", NULL));
	check(is(RSP_ACT_DONE) && asks == 1, "available at once");

	setup(RSP_RESERVE);
	begin();
	answer(201, profile(HP1, "new", EID1, false));
	again();
	answer(200, profile(HP1, "failed", EID1, false));
	check(fails("INCOMPATIBLE_STATE") && state_is(RSP_STATE_FAILED) &&
		  strcmp(conv.action.rsp_code, "83010") == 0 &&
		  strcmp(conv.action.rsp_message, "no luck") == 0, "failed, in the server's words");

	setup(RSP_RESERVE);
	begin();
	answer_error(400, 20001);
	check(fails("INVALID_ARGUMENT") && state_is(RSP_STATE_FAILED) && !op.unresolved &&
		  strcmp(conv.action.rsp_code, "20001") == 0, "refused");

	/* parts are missing */
	setup(RSP_RESERVE);
	begin();
	answer(201, profile(HP1, "new", EID1, false));
	again();
	answer(200, profile(HP1, "available", EID1, false));
	check(waits(RSP_PHASE_SENT), "available without its ICCID is not yet the end");
	for (i = 0; i < 5 && conv.action.type == RSP_ACT_WAIT; i++)
	{
		again();
		answer(200, profile_at(HP1, "available", "89049032005008882600033489aaaaaa",
							   "8988307aaaaaaaaaaaaa", HS1, NULL, T1));
	}
	check(is(RSP_ACT_ASK) && strstr(last_path, "/Sims/" HS1) != NULL && i == 2, "but is in the end, masked identifiers count as not said");
	answer(200, sim(HS1, "8988307aaaaaaaaaaaaa", "new", NULL));
	check(is(RSP_ACT_DONE) && conv.action.iccid[0] == '\0', "nor does its Sim have to say it");

	/* ICCIDs that do not agree */
	setup(RSP_RESERVE);
	begin();
	answer(201, profile(HP1, "available", EID1, true));
	answer(200, sim(HS1, ICCID2, "new", NULL));
	check(waits(RSP_PHASE_RETRYING) && row_sim_id[0] == '\0', "Sim and profile disagree");
	again();
	answer(200, profile_at(HP1, "available", EID1, ICCID2, HS1, NULL, T1));
	answer(200, sim(HS1, ICCID2, "new", NULL));
	check(is(RSP_ACT_DONE) && strcmp(conv.action.iccid, ICCID2) == 0, "what both say counts");
	setup(RSP_RESERVE);
	begin();
	answer(201, profile(HP1, "available", EID1, true));
	for (i = 0; i < 9 && conv.action.type != RSP_ACT_DONE; i++)
	{
		if (conv.action.type == RSP_ACT_WAIT)
		{
			again();
			answer(200, profile(HP1, "available", EID1, true));
		}
		answer(200, sim(HS1, ICCID2, "new", NULL));
	}
	check(is(RSP_ACT_DONE) && strcmp(conv.action.iccid, ICCID1) == 0 && i == 3,
		  "if they never agree, the profile's");
	setup(RSP_RESERVE);
	begin();
	answer(201, profile(HP1, "available", EID1, true));
	answer_error(404, 20404);
	check(is(RSP_ACT_DONE), "a Sim that is not shown keeps nobody up");

	/* the row has an ESimProfile already */
	setup(RSP_RESERVE);
	strcpy(row_rsp_id, HP1);
	claim();
	begin();
	check(is(RSP_ACT_ASK) && path_is("GET /ESimProfiles/" HP1), "a row with a sid is read");
	answer(200, profile(HP1, "failed", EID1, false));
	check(is(RSP_ACT_SEND) && path_is("POST /ESimProfiles"), "a failed one is replaced");
	crash();
	begin();
	check(is(RSP_ACT_ASK) && strstr(last_path, "/ESimProfiles?Eid=") != NULL,
		  "and not mistaken for its own successor");
	setup(RSP_RESERVE);
	strcpy(row_rsp_id, HP1);
	claim();
	begin();
	answer(200, profile(HP1, "available", EID1, true));
	answer(200, sim(HS1, ICCID1, "new", NULL));
	check(is(RSP_ACT_DONE) && sends == 0, "a good one is adopted");
}

static void
test_download(void)
{
	int			i;

	setup(RSP_DOWNLOAD);
	begin();
	check(is(RSP_ACT_SEND) && path_is("POST /ESimProfiles") &&
		  body_is("Eid=" EID1 "&CallbackMethod=POST"), "download reserves for the EID");
	answer(201, profile(HP1, "new", EID1, false));
	again();
	answer(200, profile(HP1, "available", EID1, true));
	check(waits(RSP_PHASE_WAITING_DEVICE) && !conv.action.profile_state_set &&
		  strcmp(conv.action.iccid, ICCID1) == 0 && strcmp(row_sim_id, HS1) == 0,
		  "then waits for the device");
	for (i = 0; i < 20; i++)
	{
		again();
		answer(200, profile(HP1, "available", EID1, true));
	}
	check(waits(RSP_PHASE_WAITING_DEVICE) && near(conv.action.delay_ms, 6 * HOUR),
		  "every six hours");
	again();
	answer(200, profile(HP1, "downloaded", EID1, true));
	check(waits(RSP_PHASE_WAITING_DEVICE) && state_is(RSP_STATE_DOWNLOADED) &&
		  near(conv.action.delay_ms, 2000), "downloaded: looked at closely");
	crash();
	begin();
	answer(200, profile(HP1, "installed", EID1, true));
	answer(200, sim(HS1, ICCID1, "active", HF1));
	check(is(RSP_ACT_DONE) && state_is(RSP_STATE_INSTALLED) && sends == 1 &&
		  strcmp(conv.action.iccid, ICCID1) == 0, "installed");

	setup(RSP_DOWNLOAD);
	strcpy(row_rsp_id, HP2);
	op.activation_code = CODE;
	claim();
	begin();
	check(is(RSP_ACT_ASK) && path_is("GET /ESimProfiles/" HP2), "a reserved profile is waited for");
	answer(200, profile_at(HP2, "available", NULL, ICCID1, HS1, CODE, T1));
	check(waits(RSP_PHASE_WAITING_DEVICE) && sends == 0 && op.rsp_operation_id[0] == '\0',
		  "nothing is sent");
	for (i = 0; i < 2; i++)
	{
		again();
		answer(200, profile_at(HP2, "installed", EID2, ICCID1, HS1, CODE, T1));
		if (!waits(RSP_PHASE_RETRYING))
			break;
	}
	again();
	answer(200, profile_at(HP2, "installed", EID2, ICCID1, HS1, CODE, T1));
	check(i == 2 && fails("IDENTIFIER_MISMATCH") && !conv.action.profile_state_set,
		  "another eUICC has fetched it");

	setup(RSP_DOWNLOAD);
	op.iccid = ICCID1;
	begin();
	check(is(RSP_ACT_ASK) && path_is("GET /Sims?Iccid=" ICCID1), "by ICCID: its Sim");
	answer(200, page("sims", NULL, 1, sim(HS1, ICCID1, "new", NULL)));
	check(is(RSP_ACT_ASK) && path_is("GET /ESimProfiles?SimSid=" HS1), "the Sim's ESimProfile");
	answer(200, page("esim_profiles", NULL, 1, profile(HP2, "available", EID1, true)));
	check(waits(RSP_PHASE_WAITING_DEVICE) && strcmp(row_rsp_id, HP2) == 0 && sends == 0,
		  "is waited for");
	again();
	check(path_is("GET /ESimProfiles/" HP2), "and found again");
	setup(RSP_DOWNLOAD);
	op.iccid = ICCID1;
	begin();
	answer(200, page("sims", NULL, 0));
	check(fails("IDENTIFIER_NOT_FOUND") && sends == 0, "an ICCID that the account has not");
	setup(RSP_DOWNLOAD);
	op.iccid = ICCID1;
	begin();
	answer(200, page("sims", NULL, 1, sim(HS1, ICCID1, "new", NULL)));
	answer(200, page("esim_profiles", NULL, 0));
	check(fails("SERVICE_NOT_APPLICABLE") && sends == 0, "a physical SIM");

	setup(RSP_DOWNLOAD);
	begin();
	answer(201, profile(HP1, "new", EID1, false));
	for (i = 0; i < 11; i++)
	{
		again();
		answer_error(404, 20404);
		if (!waits(RSP_PHASE_RETRYING))
			break;
	}
	again();
	answer_error(404, 20404);
	check(i == 11 && fails("OUTCOME_UNKNOWN"), "a resource that is never shown");
}

static void
test_subscription(void)
{
	int			i;

	setup(RSP_SET_SUBSCRIPTION);
	op.fleet = "Meters";
	op.fleet_rsp_id = HF1;
	begin();
	check(is(RSP_ACT_SEND) && path_is("POST /Sims/" HS1) &&
		  body_is("Status=active&Fleet=" HF1 "&CallbackMethod=POST") &&
		  json_object_size(op.memo) == 0, "one call sets status and fleet");
	answer(202, sim(HS1, ICCID1, "scheduled", NULL));
	check(waits(RSP_PHASE_SENT) && strcmp(row_subscription, "SCHEDULED") == 0 && !op.unresolved,
		  "scheduled is waited out");
	again();
	check(is(RSP_ACT_ASK) && path_is("GET /Sims/" HS1), "polled");
	answer(200, sim(HS1, ICCID1, "scheduled", HF1));
	check(waits(RSP_PHASE_SENT), "still scheduled");
	crash();
	begin();
	answer(200, sim(HS1, ICCID1, "active", HF1));
	check(is(RSP_ACT_DONE) && strcmp(row_subscription, "ACTIVE") == 0 &&
		  strcmp(conv.facts.fleet, "Meters") == 0 && sends == 1, "active");

	setup(RSP_ASSIGN_FLEET);
	server.event_url = "https://e.example.com/";
	begin();
	check(body_is("Fleet=" HF1 "&CallbackUrl=https%3A%2F%2Fe.example.com%2F%3Fop%3D" OPID
				  "&CallbackMethod=POST"), "assign-fleet");
	answer(200, sim(HS1, ICCID1, "new", HF1));
	check(is(RSP_ACT_DONE) && strcmp(conv.facts.fleet, "Meters") == 0 &&
		  strcmp(conv.facts.subscription, "NEW") == 0, "assigned at once");

	setup(RSP_SET_SUBSCRIPTION);
	op.subscription = "READY";
	begin();
	check(body_is("Status=ready&CallbackMethod=POST"), "ready");
	answer(202, sim(HS1, ICCID1, "scheduled", HF1));
	again();
	answer(200, sim(HS1, ICCID1, "active", HF1));
	check(is(RSP_ACT_DONE) && strcmp(row_subscription, "ACTIVE") == 0,
		  "READY that became ACTIVE by itself");
	setup(RSP_SET_SUBSCRIPTION);
	op.subscription = "INACTIVE";
	begin();
	check(body_is("Status=inactive&CallbackMethod=POST"), "inactive");

	/* nothing is known but the ICCID and the fleet's name */
	setup(RSP_SET_SUBSCRIPTION);
	op.sim_id = NULL;
	op.fleet = "Meters";
	begin();
	check(is(RSP_ACT_ASK) && path_is("GET /Sims?Iccid=" ICCID1), "the Sim by ICCID");
	answer(200, page("sims", NULL, 1, sim(HS1, ICCID1, "new", NULL)));
	check(is(RSP_ACT_ASK) && path_is("GET /Fleets?PageSize=1000"), "the Fleet by name");
	answer(200, page("fleets", "https://SuperSIM.twilio.com:443/v1/Fleets?PageSize=1000&Page=1&PageToken=x",
					 2, fleet(HF2, "meters"), fleet(HF2, NULL)));
	check(is(RSP_ACT_ASK) && path_is("GET /Fleets?PageSize=1000&Page=1&PageToken=x"),
		  "on the next page");
	answer(200, page("fleets", NULL, 1, fleet(HF1, "Meters")));
	check(is(RSP_ACT_SEND) && path_is("POST /Sims/" HS1) &&
		  body_is("Status=active&Fleet=" HF1 "&CallbackMethod=POST"), "then sent");
	setup(RSP_SET_SUBSCRIPTION);
	op.fleet = "Meters";
	begin();
	answer(200, page("fleets", NULL, 0));
	check(fails("NOT_FOUND") && sends == 0, "no such Fleet");
	setup(RSP_SET_SUBSCRIPTION);
	op.fleet = HF2;
	begin();
	check(body_is("Status=active&Fleet=" HF2 "&CallbackMethod=POST"), "a Fleet by its SID");
	setup(RSP_SET_SUBSCRIPTION);
	op.sim_id = NULL;
	begin();
	answer(200, page("sims", NULL, 0));
	check(fails("IDENTIFIER_NOT_FOUND"), "no such Sim");
	setup(RSP_SET_SUBSCRIPTION);
	op.sim_id = op.iccid = NULL;
	begin();
	check(fails("MISSING_IDENTIFIER"), "nothing known at all");
	strcpy(row_rsp_id, HP1);
	setup(RSP_SET_SUBSCRIPTION);
	op.sim_id = op.iccid = NULL;
	op.rsp_id = HP1;
	begin();
	check(is(RSP_ACT_ASK) && path_is("GET /ESimProfiles/" HP1), "the Sim by its ESimProfile");
	answer(200, profile(HP1, "reserving", EID1, false));
	check(waits(RSP_PHASE_SENT), "which has none yet");
	op.now_ms += conv.action.delay_ms;
	begin();
	answer(200, profile(HP1, "available", EID1, true));
	check(is(RSP_ACT_SEND) && path_is("POST /Sims/" HS1), "and then has");

	/* refusals */
	setup(RSP_SET_SUBSCRIPTION);
	begin();
	answer_error(400, 83007);
	check(is(RSP_ACT_ASK) && path_is("GET /Sims/" HS1), "no Fleet: see how it stands");
	answer(200, sim(HS1, ICCID1, "new", NULL));
	check(fails("INCOMPATIBLE_STATE") && strcmp(conv.action.rsp_code, "83007") == 0 &&
		  strstr(conv.action.message, "Fleet") != NULL && sends == 1, "83007");
	setup(RSP_SET_SUBSCRIPTION);
	begin();
	answer_error(400, 83010);
	answer(200, sim(HS1, ICCID1, "inactive", HF1));
	check(fails("INCOMPATIBLE_STATE") && strcmp(row_subscription, "INACTIVE") == 0 && sends == 1,
		  "83010 is final");
	setup(RSP_SET_SUBSCRIPTION);
	begin();
	answer_error(400, 83010);
	answer(200, sim(HS1, ICCID1, "active", HF1));
	check(is(RSP_ACT_DONE) && sends == 1, "83010, since it is so already");
	setup(RSP_SET_SUBSCRIPTION);
	begin();
	answer_error(400, 83010);
	answer(200, sim(HS1, ICCID1, "scheduled", HF1));
	check(waits(RSP_PHASE_SENT), "83010, since a change is under way");
	again();
	check(is(RSP_ACT_ASK), "it is waited out");
	answer(200, sim(HS1, ICCID1, "inactive", HF1));
	check(is(RSP_ACT_SEND) && sends == 2, "then sent again");
	setup(RSP_SET_SUBSCRIPTION);
	strcpy(row_subscription, "SCHEDULED");
	claim();
	begin();
	check(is(RSP_ACT_ASK) && path_is("GET /Sims/" HS1), "a scheduled change is looked at first");
	answer(200, sim(HS1, ICCID1, "inactive", HF1));
	check(is(RSP_ACT_SEND), "then ours is sent");
	setup(RSP_SET_SUBSCRIPTION);
	begin();
	answer(202, sim(HS1, ICCID1, "scheduled", HF1));
	for (i = 0; i < 9 && conv.action.type == RSP_ACT_WAIT; i++)
	{
		again();
		answer(200, sim(HS1, ICCID1, "inactive", HF1));
	}
	check(fails("INCOMPATIBLE_STATE") && i == 6 && sends == 1, "ended otherwise than asked for");
	setup(RSP_SET_SUBSCRIPTION);
	begin();
	answer(202, sim(HS2, ICCID1, "scheduled", HF1));
	check(is(RSP_ACT_ASK) && op.unresolved && path_is("GET /Sims/" HS1),
		  "another Sim's answer says nothing");
	answer(200, sim(HS1, ICCID2, "active", HF1));
	check(waits(RSP_PHASE_UNKNOWN) && row_subscription[0] == '\0', "nor does another ICCID's");
}

static void
test_fleet(void)
{
	setup(RSP_FLEET_CREATE);
	begin();
	check(is(RSP_ACT_SEND) && path_is("POST /Fleets") &&
		  body_is("UniqueName=Meters&NetworkAccessProfile=everywhere&DataLimit=1000"),
		  "fleet-create, DataLimit is always sent");
	answer(201, fleet(HF1, "Meters"));
	check(is(RSP_ACT_DONE) && strcmp(conv.facts.rsp_id, HF1) == 0 &&
		  strcmp(conv.facts.fleet, "Meters") == 0, "created");
	setup(RSP_FLEET_CREATE);
	op.fleet = "Zähler & Co";
	settings_are("{\"sms_commands_enabled\":false,\"data_enabled\":true,\"DataLimit\":7,"
				 "\"IpCommandsUrl\":\"https://a.example.com/?b=c\",\"IpCommandsMethod\":\"GET\","
				 "\"network_access_profile\":\"all of them\"}", NULL);
	begin();
	check(body_is("UniqueName=Z%C3%A4hler%20%26%20Co&NetworkAccessProfile=all%20of%20them"
				  "&DataEnabled=true&DataLimit=7&IpCommandsUrl=https%3A%2F%2Fa.example.com%2F%3Fb%3Dc"
				  "&IpCommandsMethod=GET&SmsCommandsEnabled=false"), "settings by the OpenAPI's names");
	answer_error(400, 83011);
	check(fails("ALREADY_EXISTS"), "the name is taken");

	setup(RSP_FLEET_CREATE);
	begin();
	answer_outcome(HTTP_LOST);
	check(is(RSP_ACT_ASK) && path_is("GET /Fleets?PageSize=1000"), "lost: looked up");
	answer(200, page("fleets", NULL, 2, fleet(HF2, "Others"), fleet(HF1, "Meters")));
	check(is(RSP_ACT_DONE) && strcmp(conv.facts.rsp_id, HF1) == 0 && sends == 1, "and found");
	setup(RSP_FLEET_CREATE);
	begin();
	answer_outcome(HTTP_LOST);
	answer(200, page("fleets", NULL, 0));
	check(waits(RSP_PHASE_UNKNOWN), "lost and not there");
	op.now_ms = T1 + 41 * SECOND;
	begin();
	answer(200, page("fleets", NULL, 0));
	check(is(RSP_ACT_SEND) && sends == 2, "sent again after the grace");
	answer_error(409, 20409);
	check(is(RSP_ACT_ASK), "refused, but the first may have worked");
	answer(200, page("fleets", NULL, 1, fleet(HF1, "Meters")));
	check(is(RSP_ACT_DONE), "it has");
}

/* ----- lost creations ----- */

static void
lose_create(bool by_eid)
{
	setup(RSP_RESERVE);
	if (!by_eid)
	{
		op.eid = NULL;
		op.generate_matching_id = true;
	}
	begin();
	answer_outcome(HTTP_LOST);
}

static void
test_lost_create(void)
{
	const char *next = "https://supersim.twilio.com/v1/ESimProfiles?PageSize=200&Page=1&PageToken=y";
	int			i;

	lose_create(true);
	check(is(RSP_ACT_ASK) && path_is("GET /ESimProfiles?Eid=" EID1 "&PageSize=200"),
		  "lost: listed by EID");
	answer(200, page("esim_profiles", NULL, 3,
					 profile_at(HP1, "reserving", EID1, NULL, NULL, NULL, T1 + SECOND),
					 profile_at(HP2, "new", EID2, NULL, NULL, NULL, T1 + SECOND),
					 profile_at(HP9, "installed", EID1, ICCID2, HS2, NULL, T1 - 24 * HOUR)));
	check(waits(RSP_PHASE_UNKNOWN) && json_array_size(json_object_get(op.memo, "unknown")) == 1,
		  "candidates: those of the EID since the request");
	again();
	check(waits(RSP_PHASE_UNKNOWN) && conv.action.delay_ms == 10000, "one: looked at twice");
	again();
	check(is(RSP_ACT_ASK), "listed again");
	answer(200, page("esim_profiles", NULL, 1,
					 profile_at(HP1, "reserving", EID1, NULL, NULL, NULL, T1 + SECOND)));
	again();
	check(is(RSP_ACT_ASK) && path_is("GET /ESimProfiles/" HP1) &&
		  strcmp(op.rsp_operation_id, HP1) == 0 && !op.unresolved, "adopted");
	answer(200, profile(HP1, "available", EID1, true));
	answer(200, sim(HS1, ICCID1, "new", NULL));
	check(is(RSP_ACT_DONE) && sends == 1, "and not created twice");

	lose_create(false);
	check(path_is("GET /ESimProfiles?PageSize=200"), "lost: listed, the newest first");
	know(HP2);
	answer(200, page("esim_profiles", next, 2,
					 profile_at(HP1, "new", NULL, NULL, NULL, NULL, T1 + 2 * SECOND),
					 profile_at(HP2, "new", NULL, NULL, NULL, NULL, T1 + SECOND)));
	check(waits(RSP_PHASE_UNKNOWN) && conv.action.delay_ms == 1, "candidates page by page");
	again();
	check(is(RSP_ACT_ASK) && path_is("GET /ESimProfiles?PageSize=200&Page=1&PageToken=y"),
		  "the next page");
	answer(200, page("esim_profiles",
					 "https://supersim.twilio.com/v1/ESimProfiles?PageSize=200&Page=2&PageToken=z",
					 2, profile_at(HP9, "new", NULL, NULL, NULL, NULL, T1 - 2 * HOUR),
					 profile_at(HP9, "new", NULL, NULL, NULL, NULL, T1 - 3 * HOUR)));
	check(waits(RSP_PHASE_UNKNOWN) && conv.action.delay_ms == 10000,
		  "what is older than the request ends the search");
	again();
	answer(200, page("esim_profiles", NULL, 1,
					 profile_at(HP1, "new", NULL, NULL, NULL, NULL, T1 + 2 * SECOND)));
	again();
	check(path_is("GET /ESimProfiles/" HP1), "the only unknown one is adopted");

	/* one that another operation has created and not written yet */
	lose_create(false);
	answer(200, page("esim_profiles", NULL, 1,
					 profile_at(HP2, "new", NULL, NULL, NULL, NULL, T1 + SECOND)));
	again();
	know(HP2);
	again();
	answer(200, page("esim_profiles", NULL, 1,
					 profile_at(HP2, "new", NULL, NULL, NULL, NULL, T1 + SECOND)));
	again();
	check(waits(RSP_PHASE_UNKNOWN) && op.rsp_operation_id[0] == '\0',
		  "what turns out to be another's is not adopted");
	for (i = 0; i < 100 && conv.action.type == RSP_ACT_WAIT; i++)
	{
		again();
		if (conv.action.type == RSP_ACT_ASK)
			answer(200, page("esim_profiles", NULL, 1,
							 profile_at(HP2, "new", NULL, NULL, NULL, NULL, T1 + SECOND)));
	}
	check(is(RSP_ACT_SEND) && op.now_ms >= T1 + HOUR && op.now_ms < T1 + HOUR + 10 * 60 * SECOND &&
		  sends == 2, "none for as long as unknown_hold: created again");

	/* two */
	lose_create(false);
	for (i = 0; i < 50 && conv.action.type != RSP_ACT_FAIL; i++)
	{
		if (conv.action.type == RSP_ACT_ASK)
			answer(200, page("esim_profiles", NULL, 2,
							 profile_at(HP1, "new", NULL, NULL, NULL, NULL, T1 + SECOND),
							 profile_at(HP2, "new", NULL, NULL, NULL, NULL, T1 + SECOND)));
		else
			again();
	}
	check(fails("OUTCOME_UNKNOWN") && sends == 1 && op.now_ms >= T1 + 40 * SECOND &&
		  !conv.action.profile_state_set, "two cannot be told apart");

	/* a list in another order is read to its end */
	lose_create(false);
	answer(200, page("esim_profiles", next, 2,
					 profile_at(HP9, "new", NULL, NULL, NULL, NULL, T1 - 3 * HOUR),
					 profile_at(HP9, "new", NULL, NULL, NULL, NULL, T1 - 2 * HOUR)));
	check(is(RSP_ACT_ASK) && path_is("GET /ESimProfiles?PageSize=200&Page=1&PageToken=y"),
		  "oldest first: read on");
	answer(200, page("esim_profiles", next, 0));
	check(waits(RSP_PHASE_UNKNOWN) && op.failures > 0, "a page that leads to itself");

	/* nobody says which are known */
	lose_create(true);
	knows = false;
	for (i = 0; i < 100 && conv.action.type != RSP_ACT_FAIL; i++)
	{
		if (conv.action.type == RSP_ACT_ASK)
			answer(200, page("esim_profiles", NULL, 1, profile(HP1, "new", EID1, false)));
		else
			again();
	}
	check(fails("OUTCOME_UNKNOWN") && sends == 1, "a worker that tells nothing");

	/* the callback has brought the sid */
	lose_create(false);
	answer_outcome(HTTP_LOST);
	strcpy(row_rsp_id, HP1);
	again();
	check(is(RSP_ACT_ASK) && path_is("GET /ESimProfiles/" HP1), "a callback settles it");
	answer(200, profile_at(HP1, "available", NULL, ICCID1, HS1, CODE, T1));
	answer(200, sim(HS1, ICCID1, "new", NULL));
	check(is(RSP_ACT_DONE) && sends == 1, "without a search");

	/* after a promotion */
	setup(RSP_RESERVE);
	op.ask_first = true;
	begin();
	check(is(RSP_ACT_ASK), "ask_first asks");
	answer(200, page("esim_profiles", NULL, 1,
					 profile_at(HP9, "available", EID1, ICCID2, HS2, NULL, T1 - HOUR)));
	check(is(RSP_ACT_SEND) && sends == 1, "then sends");
	setup(RSP_RESERVE);
	op.ask_first = true;
	begin();
	answer(200, page("esim_profiles", NULL, 1, profile(HP1, "new", EID1, false)));
	again();
	again();
	answer(200, page("esim_profiles", NULL, 1, profile(HP1, "new", EID1, false)));
	again();
	check(path_is("GET /ESimProfiles/" HP1) && sends == 0, "or adopts what the former primary sent");
	setup(RSP_SET_SUBSCRIPTION);
	op.ask_first = true;
	begin();
	answer(200, sim(HS1, ICCID1, "active", HF1));
	check(is(RSP_ACT_DONE) && sends == 0, "ask_first of a subscription");
	setup(RSP_FLEET_CREATE);
	op.ask_first = true;
	begin();
	answer(200, page("fleets", NULL, 0));
	check(is(RSP_ACT_SEND), "ask_first of a Fleet");

	/* which was to be cancelled */
	setup(RSP_RESERVE);
	op.ask_first = op.cancel_asked = true;
	begin();
	answer(200, page("esim_profiles", NULL, 0));
	check(fails("CANCELLED") && conv.action.cancelled && state_is(RSP_STATE_CANCELLED) &&
		  sends == 0, "a reservation is cancelled as it was not sent");
	setup(RSP_SET_SUBSCRIPTION);
	op.ask_first = op.cancel_asked = true;
	begin();
	answer(200, sim(HS1, ICCID1, "ready", HF1));
	check(fails("CANCELLED") && conv.action.cancelled && sends == 0, "a subscription, too");
	setup(RSP_SET_SUBSCRIPTION);
	op.ask_first = op.cancel_asked = true;
	begin();
	answer(200, sim(HS1, ICCID1, "active", HF1));
	check(is(RSP_ACT_DONE), "unless it is so already");
	setup(RSP_FLEET_CREATE);
	op.ask_first = op.cancel_asked = true;
	begin();
	answer(200, page("fleets", NULL, 0));
	check(fails("CANCELLED") && conv.action.cancelled && sends == 0, "and a Fleet");
	setup(RSP_RESERVE);
	op.unresolved = true;
	begin();
	answer(200, page("esim_profiles", NULL, 0));
	check(waits(RSP_PHASE_UNKNOWN), "an intent without a time");
	op.now_ms += HOUR + SECOND;
	begin();
	answer(200, page("esim_profiles", NULL, 0));
	check(is(RSP_ACT_SEND), "counts from when it was noticed");
}

/* ----- codes ----- */

typedef struct Row
{
	int			status;
	int			code;
	char		post;			/* F final, S state, R retry, B busy, P park, U unknown */
	char		get;			/* P park, R later, B busy, F later too: a read ends nothing */
	const char *ours;
} Row;

static const Row rows[] = {
	{400, 20001, 'F', 'F', "INVALID_ARGUMENT"},
	{401, 20003, 'P', 'P', "UNAUTHENTICATED"},
	{405, 20004, 'F', 'F', "METHOD_NOT_ALLOWED"},
	{401, 20005, 'P', 'P', "PERMISSION_DENIED"},
	{403, 20006, 'F', 'F', "PERMISSION_DENIED"},
	{400, 20007, 'F', 'F', "OUT_OF_RANGE"},
	{403, 20008, 'F', 'F', "PERMISSION_DENIED"},
	{401, 20104, 'P', 'P', "UNAUTHENTICATED"},
	{403, 20403, 'F', 'F', "PERMISSION_DENIED"},
	{404, 20404, 'F', 'F', "IDENTIFIER_NOT_FOUND"},
	{409, 20409, 'S', 'R', "CONFLICT"},
	{422, 20422, 'F', 'F', "INVALID_ARGUMENT"},
	{429, 20429, 'R', 'R', "TOO_MANY_REQUESTS"},
	{400, 20429, 'R', 'R', "TOO_MANY_REQUESTS"},
	{500, 20500, 'U', 'B', "INTERNAL"},
	{503, 20503, 'U', 'B', "UNAVAILABLE"},
	{504, 20504, 'U', 'B', "TIMEOUT"},
	{400, 20504, 'F', 'F', "INVALID_ARGUMENT"},
	{400, 83001, 'F', 'F', "MISSING_IDENTIFIER"},
	{400, 83002, 'F', 'F', "SERVICE_NOT_APPLICABLE"},
	{400, 83003, 'F', 'F', "ALREADY_EXISTS"},
	{409, 83003, 'F', 'F', "ALREADY_EXISTS"},
	{400, 83006, 'F', 'F', "NOT_FOUND"},
	{400, 83007, 'S', 'F', "INCOMPATIBLE_STATE"},
	{409, 83007, 'S', 'F', "INCOMPATIBLE_STATE"},
	{400, 83010, 'S', 'F', "INCOMPATIBLE_STATE"},
	{400, 83011, 'F', 'F', "ALREADY_EXISTS"},
	{400, 83705, 'S', 'F', "INCOMPATIBLE_STATE"},
	{400, 99999, 'F', 'F', "INVALID_ARGUMENT"},
	{400, 0, 'F', 'F', "INVALID_ARGUMENT"},
	{401, 0, 'P', 'P', "UNAUTHENTICATED"},
	{403, 0, 'F', 'F', "PERMISSION_DENIED"},
	{404, 0, 'F', 'F', "IDENTIFIER_NOT_FOUND"},
	{405, 0, 'F', 'F', "METHOD_NOT_ALLOWED"},
	{406, 0, 'F', 'F', "NOT_ACCEPTABLE"},
	{407, 0, 'P', 'P', "UNAUTHENTICATED"},
	{408, 0, 'R', 'R', "TIMEOUT"},
	{409, 0, 'S', 'R', "CONFLICT"},
	{410, 0, 'F', 'F', "GONE"},
	{412, 0, 'S', 'F', "FAILED_PRECONDITION"},
	{415, 0, 'F', 'F', "UNSUPPORTED_MEDIA_TYPE"},
	{418, 0, 'F', 'F', "INVALID_ARGUMENT"},
	{422, 0, 'F', 'F', "INVALID_ARGUMENT"},
	{425, 0, 'R', 'R', "UNAVAILABLE"},
	{429, 0, 'R', 'R', "TOO_MANY_REQUESTS"},
	{500, 0, 'U', 'B', "INTERNAL"},
	{501, 0, 'F', 'F', "NOT_IMPLEMENTED"},
	{502, 0, 'U', 'B', "BAD_GATEWAY"},
	{503, 0, 'U', 'B', "UNAVAILABLE"},
	{504, 0, 'U', 'B', "TIMEOUT"},
	{599, 0, 'U', 'B', "INTERNAL"},
	{100, 0, 'U', 'R', ""},
	{204, 0, 'U', 'R', ""},
	{302, 0, 'U', 'R', ""},
	{700, 0, 'U', 'R', ""}
};

static bool
meaning_is(char meaning, const Row *row)
{
	bool		good = row->ours[0] == '\0' || strcmp(conv.action.code, row->ours) == 0;

	switch (meaning)
	{
		case 'F':
			return fails(row->ours);
		case 'S':
			return is(RSP_ACT_ASK) && path_is("GET /Sims/" HS1);
		case 'R':
			return good && waits(RSP_PHASE_RETRYING) && !conv.action.server_trouble;
		case 'B':
			return good && waits(RSP_PHASE_RETRYING) && conv.action.server_trouble;
		case 'P':
			return good && waits(RSP_PHASE_PARKED) && near(conv.action.delay_ms, 300000);
		case 'U':
			return is(RSP_ACT_ASK) && op.unresolved;
		default:
			return false;
	}
}

static void
test_codes(void)
{
	size_t		i;
	int			n;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		const Row  *row = &rows[i];
		bool		good;

		setup(RSP_SET_SUBSCRIPTION);
		begin();
		answer_error(row->status, row->code);
		good = meaning_is(row->post, row) && (row->post == 'U' || !op.unresolved);
		setup(RSP_DOWNLOAD);
		strcpy(row_rsp_id, HP1);
		claim();
		begin();
		answer_error(row->status, row->code);
		good = good && meaning_is(row->get == 'F' ? 'R' : row->get, row);
		setup(RSP_RESERVE);
		begin();
		answer_error(row->status, row->code);
		good = good && meaning_is(row->post == 'S' ? 'F' : row->post, row);
		check(good, "%d %d", row->status, row->code);
	}

	setup(RSP_RESERVE);
	begin();
	answer_raw(HTTP_ANSWERED, 429, "{}", 2, 60000);
	check(waits(RSP_PHASE_RETRYING) && conv.action.delay_ms >= 60000 &&
		  conv.action.delay_ms <= 72000, "Retry-After with jitter");
	setup(RSP_RESERVE);
	begin();
	for (n = 0; n < 12; n++)
	{
		int64_t		delay = SECOND << n > 300000 ? 300000 : SECOND << n;

		answer_error(429, 20429);
		if (!waits(RSP_PHASE_RETRYING) || !near(conv.action.delay_ms, delay))
			break;
		again();
	}
	check(n == 12 && sends == 13, "20429: longer and longer");
	setup(RSP_RESERVE);
	begin();
	answer(400, "{\"code\":\"20404\",\"message\":\"x\"}");
	check(fails("IDENTIFIER_NOT_FOUND"), "a code in quotes");
	setup(RSP_RESERVE);
	begin();
	answer_outcome(HTTP_NOT_SENT);
	check(waits(RSP_PHASE_RETRYING) && !op.unresolved && conv.action.server_trouble, "not sent");
	again();
	check(is(RSP_ACT_SEND), "tried again");
}

/* ----- lists ----- */

static void
test_sync(void)
{
	static const char *const bad_next[] = {
		"https://evil.example.com/v1/Fleets?PageSize=1000&Page=1",
		"http://supersim.twilio.com/v1/Fleets?Page=1",
		"https://supersim.twilio.com:8443/v1/Fleets?Page=1",
		"https://user@supersim.twilio.com/v1/Fleets?Page=1",
		"https://supersim.twilio.com.evil.example.com/v1/Fleets?Page=1",
		"https://supersim.twilio.com/v2/Fleets?Page=1",
		"https://supersim.twilio.com/v1/Sims?Page=1",
		"https://supersim.twilio.com/v1/FleetsX?Page=1",
		"https://supersim.twilio.com/v1/Fleets/../Sims?Page=1",
		"https://supersim.twilio.com/v1/Fleets?Page=1#x",
		"https://supersim.twilio.com/v1/Fleets?Page=1 HTTP/1.1",
		"/v1/Fleets?Page=1",
		"//evil.example.com/v1/Fleets",
		"",
		"https://"
	};
	size_t		i;
	int			n;

	setup(RSP_SYNC);
	begin();
	check(is(RSP_ACT_ASK) && path_is("GET /Fleets?PageSize=1000"), "sync begins with Fleets");
	answer(200, page("fleets", "https://supersim.twilio.com/v1/Fleets?PageSize=1000&Page=1&PageToken=AFHF1",
					 1, fleet(HF1, "Meters")));
	check(is(RSP_ACT_WAIT) && conv.action.delay_ms == 1 && conv.nreports == 1 &&
		  conv.reports[0].what == RSP_REPORT_FLEET && strcmp(conv.reports[0].rsp_id, HF1) == 0 &&
		  strcmp(conv.reports[0].name, "Meters") == 0, "a page a turn");
	crash();
	begin();
	check(path_is("GET /Fleets?PageSize=1000&Page=1&PageToken=AFHF1"), "goes on where it was");
	answer(200, page("fleets", NULL, 1, fleet(HF2, NULL)));
	again();
	check(path_is("GET /ESimProfiles?PageSize=1000"), "then ESimProfiles");
	answer(200, page("esim_profiles", NULL, 2, profile(HP1, "available", EID1, true),
					 profile_at(HP2, "installed", EID2, ICCID2, HS2, CODE, T1)));
	check(conv.nreports == 2 && conv.reports[1].state == RSP_STATE_INSTALLED &&
		  conv.reports[0].state == RSP_STATE_RELEASED && !conv.reports_whole &&
		  strcmp(conv.reports[0].eid, EID1) == 0 && strcmp(conv.reports[0].iccid, ICCID1) == 0 &&
		  strcmp(conv.reports[0].rsp_id, HP1) == 0 &&
		  strcmp(conv.reports[0].rsp_state, "available") == 0 &&
		  strcmp(conv.reports[0].sim_id, HS1) == 0 &&
		  strcmp(conv.reports[0].smdp_address, "sm-dp-plus.twilio.com") == 0 &&
		  conv.reports[0].matching_id[0] == '\0' &&
		  strcmp(conv.reports[1].matching_id, "AAAAA-BBBBB-CCCCC-DDDDD-EEEEE") == 0,
		  "reports of profiles");
	again();
	check(path_is("GET /Sims?PageSize=1000"), "then Sims");
	answer(200, page("sims", NULL, 1, sim(HS1, ICCID1, "scheduled", HF1)));
	check(is(RSP_ACT_DONE) && conv.nreports == 1 &&
		  conv.reports[0].what == RSP_REPORT_SUBSCRIPTION &&
		  strcmp(conv.reports[0].subscription, "SCHEDULED") == 0 &&
		  strcmp(conv.reports[0].rsp_id, HS1) == 0 && strcmp(conv.reports[0].fleet_id, HF1) == 0 &&
		  strcmp(conv.reports[0].iccid, ICCID1) == 0, "done with the last page");
	check(nfleets == 2 && nprofiles == 2 && nsubscriptions == 1 && sends == 0, "all was reported");

	for (i = 0; i < sizeof(bad_next) / sizeof(bad_next[0]); i++)
	{
		bool		good = true;

		setup(RSP_SYNC);
		for (n = 0; n < 9; n++)
		{
			begin();
			good = good && path_is("GET /Fleets?PageSize=1000");
			answer(200, page("fleets", bad_next[i], 1, fleet(HF1, "Meters")));
			if (conv.action.type != RSP_ACT_WAIT)
				break;
		}
		check(good && fails("INTERNAL") && n == 3, "not followed: %s", bad_next[i]);
	}
	setup(RSP_SYNC);
	server.url = "http://127.0.0.1:8080/main/supersim";
	begin();
	check(path_is("GET /v1/Fleets?PageSize=1000"), "below a path, without /v1");
	answer(200, page("fleets", "http://127.0.0.1:8080/main/supersim/v1/Fleets?Page=1", 0));
	again();
	check(path_is("GET /v1/Fleets?Page=1"), "the next page there");
	answer(200, page("fleets", "http://127.0.0.1:8080/other/v1/Fleets?Page=2", 0));
	check(is(RSP_ACT_WAIT) && conv.action.delay_ms > 1, "not outside of the path");

	/* a circle of three pages */
	setup(RSP_SYNC);
	begin();
	for (n = 0; n < 100 && conv.action.type != RSP_ACT_FAIL; n++)
	{
		char		next[100];

		snprintf(next, sizeof(next), "https://supersim.twilio.com/v1/Fleets?Page=%d", n % 3);
		answer(200, page("fleets", next, 0));
		if (conv.action.type == RSP_ACT_WAIT)
			again();
	}
	check(fails("INTERNAL") && n < 20, "a circle of pages ends");

	/* too much on a page */
	setup(RSP_SYNC);
	begin();
	answer_raw(HTTP_BAD_ANSWER, 200, "{", 1, -1);
	again();
	check(path_is("GET /Fleets?PageSize=250"), "smaller pages after one that was too large");

	/* a token of a page that has expired */
	setup(RSP_SYNC);
	begin();
	answer(200, page("fleets", "https://supersim.twilio.com/v1/Fleets?Page=1", 0));
	again();
	answer_error(400, 20001);
	check(waits(RSP_PHASE_RETRYING), "a page that is refused");
	again();
	check(path_is("GET /Fleets?PageSize=1000"), "begins the list anew");
	setup(RSP_SYNC);
	begin();
	answer_error(403, 20403);
	check(fails("PERMISSION_DENIED"), "a list that is refused");

	setup(RSP_REFRESH);
	begin();
	check(is(RSP_ACT_ASK) && path_is("GET /ESimProfiles?Eid=" EID1), "refresh by EID");
	answer(200, page("esim_profiles", "https://supersim.twilio.com/v1/ESimProfiles?Eid=" EID1 "&Page=1",
					 2, profile(HP1, "installed", EID1, true),
					 profile(HP2, "installed", EID2, true)));
	check(is(RSP_ACT_WAIT) && conv.nreports == 1, "others' are left out");
	again();
	check(path_is("GET /ESimProfiles?Eid=" EID1 "&Page=1"), "the next page");
	answer(200, page("esim_profiles", NULL, 0));
	check(is(RSP_ACT_DONE) && !conv.reports_whole && nprofiles == 1,
		  "what others have put on the eUICC is not denied");
}

/* ----- hostile answers ----- */

static const char *const hostile[] = {
	"", "null", "true", "0", "\"x\"", "[]", "{}", "{", "[", "nonsense", "<html></html>",
	"{\"sid\":null}", "{\"sid\":1}", "{\"sid\":\"\"}", "{\"sid\":\"HP1\"}",
	"{\"sid\":\"XX00000000000000000000000000000001\",\"status\":\"new\"}",
	"{\"sid\":\"HP0000000000000000000000000000000g\",\"status\":\"new\"}",
	"{\"sid\":\"" HP1 "0\",\"status\":\"new\"}",
	"{\"sid\":\"" HP1 "\"}",
	"{\"sid\":\"" HP1 "\",\"status\":null}",
	"{\"sid\":\"" HP1 "\",\"status\":7}",
	"{\"sid\":\"" HP1 "\",\"status\":{}}",
	"{\"sid\":\"" HP1 "\",\"status\":\"\"}",
	"{\"sid\":\"" HP1 "\",\"status\":\"available\",\"iccid\":7}",
	"{\"sid\":\"" HP1 "\",\"status\":\"available\",\"eid\":[]}",
	"{\"sid\":\"" HP1 "\",\"status\":\"available\",\"sim_sid\":\"HS1\"}",
	"{\"sid\":\"" HP1 "\",\"status\":\"available\",\"sim_sid\":\"../../v1/Sims\"}",
	"{\"sid\":\"" HP1 "\",\"sid\":\"" HP2 "\",\"status\":\"new\"}",
	"{\"sid\":\"" HP1 "\",\"status\":\"available\",\"smdp_plus_address\":false}",
	"{\"sid\":\"" HP1 "\",\"status\":\"available\",\"activation_code\":{\"a\":1}}",
	"{\"sid\":\"../" HP1 "\",\"status\":\"new\"}",
	"{\"sid\":\"HP/../../../../../../../../../../..\",\"status\":\"new\"}",
	"{\"sid\":\"" HS1 "\",\"status\":\"nonsense\"}",
	"{\"sid\":\"" HS1 "\",\"status\":[\"active\"]}",
	"{\"sid\":\"" HS2 "\",\"status\":\"active\",\"iccid\":\"" ICCID1 "\"}",
	"{\"sid\":\"" HS1 "\",\"status\":\"active\",\"iccid\":\"" ICCID2 "\"}",
	"{\"sid\":\"" HS1 "\",\"status\":\"active\",\"fleet_sid\":\"x\"}",
	"{\"sid\":\"" HF1 "\",\"unique_name\":[]}",
	"{\"sid\":\"" HF1 "\",\"unique_name\":\"another\"}",
	"{\"sims\":[],\"esim_profiles\":{},\"fleets\":7}",
	"{\"sims\":[1],\"esim_profiles\":[1],\"fleets\":[1],\"meta\":[]}",
	"{\"sims\":[{}],\"esim_profiles\":[{}],\"fleets\":[{}]}",
	"{\"sims\":[null],\"esim_profiles\":[null],\"fleets\":[null],\"meta\":{\"next_page_url\":7}}",
	"{\"sims\":[],\"esim_profiles\":[],\"fleets\":[],\"meta\":{\"next_page_url\":\"https://evil.example.com/v1/x\"}}",
	"{\"sid\":\"" HP1 "\",\"status\":\"new\",\"x\":\"\\u0000\"}",
	"{\"sid\":\"" HP1 "\",\"status\":\"new\",\"x\":\"\xff\xfe\"}",
	"{\"sid\":\"" HP1 "\",\"status\":\"new\",\"x\":\"\xed\xa0\x80\"}",
	"\xef\xbb\xbf{}",
	"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
	"{\"code\":20429,\"message\":\"but with 200\"}"
};

/* brings an operation to the answer of its n-th request; false: it has none */
static bool
bring(int scene)
{
	switch (scene)
	{
		case 0:
			setup(RSP_RESERVE);
			begin();
			return true;
		case 1:
			setup(RSP_RESERVE);
			begin();
			answer(201, profile(HP1, "new", EID1, false));
			again();
			return true;
		case 2:
			setup(RSP_RESERVE);
			begin();
			answer(201, profile(HP1, "available", EID1, true));
			return true;
		case 3:
			lose_create(true);
			return true;
		case 4:
			lose_create(false);
			return true;
		case 5:
			setup(RSP_DOWNLOAD);
			op.iccid = ICCID1;
			begin();
			return true;
		case 6:
			setup(RSP_DOWNLOAD);
			op.iccid = ICCID1;
			begin();
			answer(200, page("sims", NULL, 1, sim(HS1, ICCID1, "new", NULL)));
			return true;
		case 7:
			setup(RSP_SET_SUBSCRIPTION);
			begin();
			return true;
		case 8:
			setup(RSP_SET_SUBSCRIPTION);
			begin();
			answer_outcome(HTTP_LOST);
			return true;
		case 9:
			setup(RSP_SET_SUBSCRIPTION);
			op.sim_id = op.iccid = NULL;
			op.rsp_id = HP1;
			begin();
			return true;
		case 10:
			setup(RSP_SET_SUBSCRIPTION);
			op.fleet = "Meters";
			begin();
			return true;
		case 11:
			setup(RSP_FLEET_CREATE);
			begin();
			return true;
		case 12:
			setup(RSP_FLEET_CREATE);
			begin();
			answer_outcome(HTTP_LOST);
			return true;
		case 13:
			setup(RSP_REFRESH);
			begin();
			return true;
		case 14:
			setup(RSP_SYNC);
			begin();
			return true;
		default:
			return false;
	}
}

/* An answer without sense ends in no effect, no success and a defined action. */
static bool
survived(int scene)
{
	switch (conv.action.type)
	{
		case RSP_ACT_ASK:
			return conv.action.path[0] == '/' && strstr(conv.action.path, "..") == NULL;
		case RSP_ACT_WAIT:
			return conv.action.delay_ms > 0 &&
				(!op.unresolved || conv.action.phase == RSP_PHASE_UNKNOWN);
		case RSP_ACT_DONE:
			/* an empty list is one; a Sim that is not shown keeps nobody up */
			return scene == 2 || scene == 13 || scene == 14;
		case RSP_ACT_FAIL:
			return conv.action.code[0] != '\0' &&
				(!op.unresolved || strcmp(conv.action.code, "OUTCOME_UNKNOWN") == 0);
		default:
			return false;
	}
}

static void
test_hostile(void)
{
	char	   *big = malloc(2000000);
	int			scene;

	for (scene = 0; bring(scene); scene++)
	{
		int			bad = 0;
		size_t		i;
		int			before;

		for (i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++)
		{
			bring(scene);
			before = sends;
			answer(scene == 0 || scene == 11 ? 201 : 200, hostile[i]);
			if (!survived(scene) || sends != before)
			{
				printf("# %s\n", hostile[i]);
				is(RSP_ACT_NONE);
				bad++;
			}
		}
		/* NULs, redirects, depth, size */
		for (i = 0; i < 6; i++)
		{
			size_t		length = 1900000;

			bring(scene);
			before = sends;
			memset(big, '[', length);
			switch (i)
			{
				case 0:
					memcpy(big, "{\"sid\":\"" HP1 "\",\0\"status\":\"new\"}", 61);
					answer_raw(HTTP_ANSWERED, 200, big, 61, -1);
					break;
				case 1:
					answer_raw(HTTP_ANSWERED, 200, big, length, -1);
					break;
				case 2:
					answer_raw(HTTP_BAD_ANSWER, 200, big, 100, -1);
					break;
				case 3:
					answer(307, "");
					break;
				case 4:
					answer(0, "");
					break;
				default:
					memset(big, 'a', length);
					memcpy(big, "{\"status\":\"", 11);
					memcpy(big + length - 2, "\"}", 2);
					answer_raw(HTTP_ANSWERED, 200, big, length, -1);
					break;
			}
			bad += !survived(scene) || sends != before;
		}
		check(bad == 0, "%zu hostile answers, scene %d", i + sizeof(hostile) / sizeof(hostile[0]),
			  scene);
	}
	free(big);

	/* hostile lists of a lost creation never lead to a second one or to a wrong one */
	{
		size_t		i;
		int			bad = 0;

		for (i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++)
		{
			int			n;

			if (strstr(hostile[i], "\"esim_profiles\":[]") != NULL)
				continue;
			lose_create(true);
			for (n = 0; n < 200 && conv.action.type != RSP_ACT_FAIL; n++)
			{
				if (conv.action.type == RSP_ACT_SEND || conv.action.type == RSP_ACT_DONE)
					break;
				if (conv.action.type == RSP_ACT_ASK)
					answer(200, hostile[i]);
				else
					again();
			}
			if (sends != 1 || !fails("OUTCOME_UNKNOWN"))
			{
				printf("# %s\n", hostile[i]);
				bad++;
			}
		}
		check(bad == 0, "lists that cannot be read end OUTCOME_UNKNOWN");
	}
}

/* ----- a model of the server ----- */

typedef struct ModelProfile
{
	char		sid[35];
	char		sim[35];
	char		iccid[21];
	char		eid[33];
	bool		matching;
	int64_t		created;
	int64_t		installed;		/* when the device comes; 0: never */
} ModelProfile;

typedef struct ModelSim
{
	char		status[12];
	char		goal[12];
	char		fleet[35];
	int64_t		due;
} ModelSim;

#define MODEL_MAX 12

static ModelProfile model_profiles[MODEL_MAX];
static ModelSim model_sims[MODEL_MAX];
static int	model_nprofiles;
static char model_fleets[MODEL_MAX][64];
static int	model_nfleets;
static int	model_changes;		/* effects on Sims */
static int64_t model_reserving = 5000;
static unsigned model_random = 1;

static unsigned
chance(unsigned n)
{
	model_random = model_random * 1103515245u + 12345u;
	return (model_random >> 16) % n;
}

static void
model_reset(void)
{
	memset(model_profiles, 0, sizeof(model_profiles));
	memset(model_sims, 0, sizeof(model_sims));
	memset(model_fleets, 0, sizeof(model_fleets));
	model_nprofiles = model_nfleets = model_changes = 0;
}

static int
model_add(const char *eid, int64_t created)
{
	int			n = model_nprofiles++;
	ModelProfile *p = &model_profiles[n];

	snprintf(p->sid, sizeof(p->sid), "HP%032x", 0x100 + n);
	snprintf(p->sim, sizeof(p->sim), "HS%032x", 0x100 + n);
	snprintf(p->iccid, sizeof(p->iccid), "898830700000%07d", n);
	p->matching = eid == NULL;
	if (eid != NULL)
		strcpy(p->eid, eid);
	p->created = created;
	strcpy(model_sims[n].status, "new");
	return n;
}

static const char *
model_profile(int n)
{
	ModelProfile *p = &model_profiles[n];
	int64_t		age = op.now_ms - p->created;
	bool		there = age >= model_reserving;
	const char *status = !there ? (age < model_reserving / 2 ? "new" : "reserving") :
		p->installed > 0 && op.now_ms >= p->installed ? "installed" : "available";

	return profile_at(p->sid, status, p->eid[0] ? p->eid : NULL, there ? p->iccid : NULL,
					  there ? p->sim : NULL, there && p->matching ? CODE : NULL, p->created);
}

static const char *
model_sim(int n)
{
	ModelSim   *s = &model_sims[n];

	if (strcmp(s->status, "scheduled") == 0 && op.now_ms >= s->due)
		strcpy(s->status, s->goal);
	return sim(model_profiles[n].sim, model_profiles[n].iccid, s->status,
			   s->fleet[0] ? s->fleet : NULL);
}

static bool
form_value(const char *form, const char *name, char *value, size_t size)
{
	size_t		n = strlen(name);
	const char *at = form;

	while (at != NULL && *at)
	{
		if (strncmp(at, name, n) == 0 && at[n] == '=')
		{
			size_t		length = strcspn(at + n + 1, "&");

			snprintf(value, size, "%.*s", (int) length, at + n + 1);
			return true;
		}
		at = strchr(at, '&');
		if (at != NULL)
			at++;
	}
	return false;
}

/* What a request does, and its answer. */
static int
serve(const char *request, const char *form, char *out, size_t size)
{
	char		value[300];
	char		other[300];
	int			i;
	size_t		at;

	out[0] = '\0';
	if (strcmp(request, "POST /ESimProfiles") == 0)
	{
		bool		by_eid = form_value(form, "Eid", value, sizeof(value));

		if (by_eid == form_value(form, "GenerateMatchingId", other, sizeof(other)) ||
			model_nprofiles == MODEL_MAX || !form_value(form, "CallbackMethod", other, sizeof(other)))
			return 400;
		i = model_add(by_eid ? value : NULL, op.now_ms);
		model_profiles[i].installed = op.now_ms + 3 * HOUR;
		snprintf(out, size, "%s", model_profile(i));
		return 201;
	}
	if (strncmp(request, "GET /ESimProfiles/", 18) == 0)
	{
		for (i = 0; i < model_nprofiles; i++)
		{
			if (strcmp(model_profiles[i].sid, request + 18) == 0)
			{
				snprintf(out, size, "%s", model_profile(i));
				return 200;
			}
		}
		return 404;
	}
	if (strncmp(request, "GET /ESimProfiles?", 18) == 0)
	{
		const char *eid = strstr(request, "Eid=");
		int			skip = strstr(request, "Page=1") != NULL ? 2 : 0;
		int			taken = 0;
		bool		more = false;

		/* pages of two, newest first */
		at = snprintf(out, size, "{\"esim_profiles\":[");
		for (i = model_nprofiles - 1; i >= 0; i--)
		{
			if (eid != NULL && strncmp(eid + 4, model_profiles[i].eid, 32) != 0)
				continue;
			if (skip-- > 0)
				continue;
			if (taken == 2 && strstr(request, "Page=1") == NULL)
			{
				more = true;
				break;
			}
			at += snprintf(out + at, size - at, "%s%s", taken++ ? "," : "", model_profile(i));
		}
		snprintf(out + at, size - at, "],\"meta\":{\"next_page_url\":%s%s%s}}",
				 more ? "\"https://supersim.twilio.com/v1" : "null",
				 more ? strchr(request, '/') : "", more ? "&Page=1\"" : "");
		return 200;
	}
	if (strncmp(request, "GET /Sims?Iccid=", 16) == 0)
	{
		for (i = 0; i < model_nprofiles; i++)
		{
			if (strcmp(model_profiles[i].iccid, request + 16) == 0)
			{
				snprintf(out, size, "%s", page("sims", NULL, 1, model_sim(i)));
				return 200;
			}
		}
		snprintf(out, size, "%s", page("sims", NULL, 0));
		return 200;
	}
	for (i = 0; i < model_nprofiles; i++)
	{
		ModelSim   *s = &model_sims[i];
		bool		status;
		bool		changes = false;

		if (strstr(request, model_profiles[i].sim) == NULL)
			continue;
		(void) model_sim(i);
		if (strncmp(request, "GET /Sims/", 10) == 0)
		{
			snprintf(out, size, "%s", model_sim(i));
			return 200;
		}
		status = form_value(form, "Status", value, sizeof(value));
		if (strcmp(s->status, "scheduled") == 0 ||
			(status && strcmp(value, "ready") == 0 && strcmp(s->status, "new") != 0))
		{
			snprintf(out, size, "{\"code\":83010,\"message\":\"no\",\"status\":400}");
			return 400;
		}
		if (form_value(form, "Fleet", other, sizeof(other)))
		{
			changes = strcmp(s->fleet, other) != 0;
			strcpy(s->fleet, other);
		}
		if (status && strcmp(s->status, value) != 0)
		{
			if (s->fleet[0] == '\0')
			{
				snprintf(out, size, "{\"code\":83007,\"message\":\"no\",\"status\":400}");
				return 400;
			}
			strcpy(s->goal, value);
			strcpy(s->status, "scheduled");
			s->due = op.now_ms + 60 * SECOND;
			changes = true;
		}
		model_changes += changes;
		snprintf(out, size, "%s", model_sim(i));
		return status ? 202 : 200;
	}
	if (strncmp(request, "GET /Fleets", 11) == 0)
	{
		at = snprintf(out, size, "{\"fleets\":[");
		for (i = 0; i < model_nfleets; i++)
		{
			snprintf(value, sizeof(value), "HF%032x", i + 1);
			at += snprintf(out + at, size - at, "%s%s", i ? "," : "",
						   fleet(value, model_fleets[i]));
		}
		snprintf(out + at, size - at, "],\"meta\":{\"next_page_url\":null}}");
		return 200;
	}
	if (strcmp(request, "POST /Fleets") == 0)
	{
		if (!form_value(form, "UniqueName", value, sizeof(value)) ||
			!form_value(form, "DataLimit", other, sizeof(other)) ||
			!form_value(form, "NetworkAccessProfile", other, sizeof(other)))
			return 400;
		for (i = 0; i < model_nfleets; i++)
		{
			if (strcmp(model_fleets[i], value) == 0)
				return 409;
		}
		strcpy(model_fleets[model_nfleets++], value);
		snprintf(other, sizeof(other), "HF%032x", model_nfleets);
		snprintf(out, size, "%s", fleet(other, value));
		return 201;
	}
	return 404;
}

typedef enum Fault
{
	FAULT_NONE,
	FAULT_LOST_BEFORE,			/* time-out, without the effect */
	FAULT_LOST_AFTER,			/* time-out, with it */
	FAULT_CRASH_BEFORE,			/* of the worker */
	FAULT_CRASH_AFTER,
	FAULT_500_AFTER,
	FAULT_GARBAGE_AFTER,
	FAULT_BROKEN_AFTER,
	FAULT_NOT_SENT,
	FAULT_429,
	FAULT_503,
	FAULT_REDIRECT,
	FAULTS
} Fault;

/* One request of the operation goes out. */
static void
talk(Fault fault)
{
	static char text[16384];
	char		request[2048];
	char		form[4096];
	int			status = 0;

	strcpy(request, last_path);
	strcpy(form, last_body);
	if (fault == FAULT_NONE || fault == FAULT_LOST_AFTER || fault == FAULT_CRASH_AFTER ||
		fault == FAULT_500_AFTER || fault == FAULT_GARBAGE_AFTER || fault == FAULT_BROKEN_AFTER)
		status = serve(request, form, text, sizeof(text));
	if (fault == FAULT_LOST_BEFORE || fault == FAULT_LOST_AFTER)
		op.now_ms += server.timeout_ms;
	else
		op.now_ms += 20;
	switch (fault)
	{
		case FAULT_LOST_BEFORE:
		case FAULT_LOST_AFTER:
			answer_outcome(HTTP_LOST);
			break;
		case FAULT_CRASH_BEFORE:
		case FAULT_CRASH_AFTER:
			crash();
			begin();
			break;
		case FAULT_500_AFTER:
			answer_error(500, 20500);
			break;
		case FAULT_GARBAGE_AFTER:
			answer(200, "{\"sid\": 7");
			break;
		case FAULT_BROKEN_AFTER:
			answer_raw(HTTP_BAD_ANSWER, status, "{", 1, -1);
			break;
		case FAULT_NOT_SENT:
			answer_outcome(HTTP_NOT_SENT);
			break;
		case FAULT_429:
			answer_error(429, 20429);
			break;
		case FAULT_503:
			answer_error(503, 20503);
			break;
		case FAULT_REDIRECT:
			answer(307, "");
			break;
		default:
			answer(status, text);
			break;
	}
}

/* a sequence to try: what is set up, and what must have come of it */
static void
prepare(int sequence)
{
	static char iccid[21];
	static char sid[35];

	model_reset();
	setup(sequence <= 1 ? RSP_RESERVE : sequence <= 3 ? RSP_DOWNLOAD :
		  sequence <= 5 ? RSP_SET_SUBSCRIPTION : sequence == 6 ? RSP_ASSIGN_FLEET :
		  sequence == 7 ? RSP_FLEET_CREATE : sequence == 8 ? RSP_REFRESH : RSP_SYNC);
	/* what the account has had before; esim knows one of the two */
	model_add(EID1, T1 - 48 * HOUR);
	model_add(NULL, T1 - 24 * HOUR);
	know(model_profiles[0].sid);
	strcpy(model_fleets[model_nfleets++], "Others");
	if (sequence == 1)
	{
		op.eid = NULL;
		op.generate_matching_id = true;
		/* and others go on meanwhile */
		model_add(NULL, T1 - SECOND);
		know(model_profiles[2].sid);
	}
	if (sequence == 3)
	{
		model_profiles[1].installed = T1 + HOUR;
		strcpy(sid, model_profiles[1].sid);
		strcpy(row_rsp_id, sid);
		claim();
	}
	if (sequence >= 4 && sequence <= 6)
	{
		strcpy(iccid, model_profiles[0].iccid);
		op.iccid = iccid;
		op.sim_id = NULL;
		op.fleet = "Others";
		op.fleet_rsp_id = NULL;
		if (sequence == 5)
		{
			op.fleet = NULL;
			strcpy(model_sims[0].fleet, "HF00000000000000000000000000000001");
			strcpy(model_sims[0].status, "active");
			op.subscription = "INACTIVE";
		}
	}
	save();
}

/* Did the operation do what it says, once? */
static bool
happened(int sequence)
{
	int			created = model_nprofiles - (sequence == 1 ? 3 : 2);

	switch (sequence)
	{
		case 0:
		case 1:
			return conv.action.type == RSP_ACT_DONE && created == 1 &&
				state_is(RSP_STATE_RELEASED) &&
				strcmp(conv.action.iccid, model_profiles[model_nprofiles - 1].iccid) == 0;
		case 2:
			return conv.action.type == RSP_ACT_DONE && created == 1 &&
				state_is(RSP_STATE_INSTALLED) &&
				strcmp(conv.action.iccid, model_profiles[model_nprofiles - 1].iccid) == 0;
		case 3:
			return conv.action.type == RSP_ACT_DONE && created == 0 && sends == 0 &&
				state_is(RSP_STATE_INSTALLED);
		case 4:
			return conv.action.type == RSP_ACT_DONE && model_changes == 1 &&
				strcmp(model_sims[0].status, "active") == 0 &&
				strcmp(model_sims[0].fleet, "HF00000000000000000000000000000001") == 0 &&
				strcmp(row_subscription, "ACTIVE") == 0;
		case 5:
			return conv.action.type == RSP_ACT_DONE && model_changes == 1 &&
				strcmp(model_sims[0].status, "inactive") == 0;
		case 6:
			return conv.action.type == RSP_ACT_DONE && model_changes == 1 &&
				strcmp(model_sims[0].fleet, "HF00000000000000000000000000000001") == 0;
		case 7:
			return conv.action.type == RSP_ACT_DONE && model_nfleets == 2 &&
				strcmp(conv.facts.rsp_id, "HF00000000000000000000000000000002") == 0;
		case 8:
			return conv.action.type == RSP_ACT_DONE && nprofiles >= 1;
		default:
			return conv.action.type == RSP_ACT_DONE && nfleets >= 1 && nprofiles >= 2;
	}
}

static const char *const sequence_names[] = {
	"reserve by EID", "reserve by matching ID", "download", "download of a reserved profile",
	"set-subscription with fleet", "set-subscription", "assign-fleet", "fleet-create", "refresh",
	"sync"
};


/* as esim_cancel() has it: nothing has come of what was sent */
static bool
cancellable(void)
{
	return !op.unresolved && op.rsp_operation_id[0] == '\0' && (op.attempts == 0 || op.step == 0);
}

static int	effects_before;
static int	late_cancels;		/* waits in which what had an effect could be cancelled */

static int
effects(void)
{
	return model_nprofiles + model_changes + model_nfleets;
}

static void
look_at_cancel(void)
{
	if (effects() > effects_before && op.kind != RSP_REFRESH && op.kind != RSP_SYNC && cancellable())
		late_cancels++;
}

/* Runs to the end; the n-th request (from 0) meets the fault. */
static int
run(int which, Fault fault)
{
	int			n = 0;
	int			steps;

	effects_before = effects();
	begin();
	for (steps = 0; steps < 400; steps++)
	{
		switch (conv.action.type)
		{
			case RSP_ACT_ASK:
			case RSP_ACT_SEND:
				/* sync: the model has no such list of Sims */
				if (strncmp(last_path, "GET /Sims?PageSize=", 19) == 0)
				{
					answer(200, page("sims", NULL, 0));
					break;
				}
				talk(n++ == which ? fault : FAULT_NONE);
				break;
			case RSP_ACT_WAIT:
				look_at_cancel();
				again();
				break;
			default:
				return n;
		}
	}
	return n;
}

static void
test_lost(void)
{
	int			sequence;

	for (sequence = 0; sequence < 10; sequence++)
	{
		int			total;
		int			which;
		int			fault;
		int			bad = 0;
		int			done = 0;

		prepare(sequence);
		total = run(-1, FAULT_NONE);
		check(happened(sequence), "%s, %d requests", sequence_names[sequence], total);
		for (which = 0; which < total; which++)
		{
			for (fault = 1; fault < FAULTS; fault++)
			{
				prepare(sequence);
				run(which, fault);
				done++;
				if (!happened(sequence))
				{
					printf("# request %d, fault %d\n", which, fault);
					is(RSP_ACT_NONE);
					printf("# profiles %d, changes %d, fleets %d, sends %d\n", model_nprofiles,
						   model_changes, model_nfleets, sends);
					bad++;
				}
			}
		}
		check(bad == 0, "%s: %d faults, at every request, no effect twice or none",
			  sequence_names[sequence], done);
	}
}

/* Faults at random, several in a row, and the worker's death. */
static void
test_storm(void)
{
	int			sequence;
	int			round;

	for (sequence = 0; sequence < 10; sequence++)
	{
		int			ended = 0;
		int			unknown = 0;
		int			bad = 0;

		for (round = 0; round < 300; round++)
		{
			int			steps;

			model_random = 7919 * round + sequence + 1;
			prepare(sequence);
			effects_before = effects();
			begin();
			for (steps = 0; steps < 2000; steps++)
			{
				if (conv.action.type == RSP_ACT_ASK || conv.action.type == RSP_ACT_SEND)
				{
					Fault		fault = chance(100) < 40 ? 1 + (int) chance(FAULTS - 1) : FAULT_NONE;

					if (strncmp(last_path, "GET /Sims?PageSize=", 19) == 0)
						answer(200, page("sims", NULL, 0));
					else
						talk(fault);
				}
				else if (conv.action.type == RSP_ACT_WAIT)
				{
					look_at_cancel();
					again();
					if (chance(50) == 0)
					{
						crash();
						begin();
					}
				}
				else
					break;
			}
			if (conv.action.type == RSP_ACT_FAIL &&
				strcmp(conv.action.code, "OUTCOME_UNKNOWN") == 0)
				unknown++;
			else if (happened(sequence))
				ended++;
			else
			{
				printf("# round %d\n", round);
				is(RSP_ACT_NONE);
				printf("# profiles %d, changes %d, fleets %d, sends %d\n", model_nprofiles,
					   model_changes, model_nfleets, sends);
				bad++;
			}
		}
		check(bad == 0 && ended >= 290, "%s in a storm: %d ended well, %d OUTCOME_UNKNOWN",
			  sequence_names[sequence], ended, unknown);
	}
	check(late_cancels == 0, "what has had an effect cannot be cancelled, %d times", late_cancels);
}

/* ----- callbacks ----- */

static bool
called(const char *text, TwilioCallback *callback)
{
	const char *reason;

	memset(callback, 0, sizeof(*callback));
	return twilio_callback(text, strlen(text), callback, &reason);
}

static void
test_callback(void)
{
	TwilioCallback callback;
	const char *reason;
	char	   *big;

	check(called("AccountSid=" AC "&Sid=" HP1 "&SimSid=" HS1 "&Status=available&Eid=" EID1
				 "&Iccid=" ICCID1, &callback) && strcmp(callback.profile_sid, HP1) == 0 &&
		  strcmp(callback.sim_sid, HS1) == 0 && strcmp(callback.account_sid, AC) == 0 &&
		  strcmp(callback.status, "available") == 0 && strcmp(callback.eid, EID1) == 0 &&
		  strcmp(callback.iccid, ICCID1) == 0 && twilio_callback_usable(&callback), "a body");
	check(called("https://events.example.com/esim?op=" OPID "&esimprofilesid=" HP1, &callback) &&
		  strcmp(callback.operation, OPID) == 0 && strcmp(callback.profile_sid, HP1) == 0,
		  "a URL");
	check(called("?OP=" OPID, &callback) && strcmp(callback.operation, OPID) == 0 &&
		  twilio_callback_usable(&callback), "a query, any case");
	check(called("/esim?op=" OPID "#x", &callback) && strcmp(callback.operation, OPID) == 0,
		  "a path");
	check(twilio_callback("SID=" HP1, 38, &callback, &reason) &&
		  strcmp(callback.profile_sid, HP1) == 0 && strcmp(callback.operation, OPID) == 0,
		  "body and query together");
	check(called("x=%48%50" "00000000000000000000000000000001&Status=a%20b+c%e2", &callback) &&
		  strcmp(callback.profile_sid, HP1) == 0 && strcmp(callback.status, "a b c?") == 0,
		  "escapes");
	check(called("a=" HP1 "&b=" HP2, &callback) && callback.ambiguous &&
		  !twilio_callback_usable(&callback), "two sids are none");
	check(called("a=" HP1 "&b=" HP1, &callback) && strcmp(callback.profile_sid, HP1) == 0,
		  "the same sid twice is one");
	check(called("op=nonsense&Sid=HP1&Eid=1&Iccid=abc", &callback) && callback.operation[0] == '\0' &&
		  callback.profile_sid[0] == '\0' && callback.eid[0] == '\0' && callback.iccid[0] == '\0' &&
		  !twilio_callback_usable(&callback), "what has not the shape");
	check(!called("a=%4", &callback) && !called("a=%zz", &callback),
		  "broken escapes");
	check(!called("a=%00", &callback), "a NUL");
	check(!twilio_callback("a=\0b", 4, &callback, &reason), "a raw NUL");
	check(called("", &callback) && called("&&&", &callback) && called("a&b&=", &callback) &&
		  called("=" HP1, &callback), "little or nothing");
	big = malloc(70000);
	memset(big, 'a', 70000);
	big[1] = '=';
	memset(&callback, 0, sizeof(callback));
	check(!twilio_callback(big, 70000, &callback, &reason) &&
		  twilio_callback(big, 60000, &callback, &reason), "too long");
	memset(big, '&', 2000);
	{
		int			i;

		for (i = 0; i < 600; i += 2)
			big[i] = '=';
	}
	check(!twilio_callback(big, 600, &callback, &reason), "too many fields");
	free(big);
	memset(&callback, 0, sizeof(callback));
	twilio_callback_field(&callback, "sid", HP1);
	twilio_callback_field(&callback, "op", OPID);
	twilio_callback_field(&callback, NULL, NULL);
	twilio_callback_field(&callback, "ErrorCode", "83010");
	check(strcmp(callback.profile_sid, HP1) == 0 && strcmp(callback.operation, OPID) == 0 &&
		  strcmp(callback.error_code, "83010") == 0, "fields one by one");
}

int
main(void)
{
	test_check();
	test_reserve();
	test_download();
	test_subscription();
	test_fleet();
	test_lost_create();
	test_codes();
	test_sync();
	test_hostile();
	test_lost();
	test_storm();
	test_callback();
	worker_free();
	return finish();
}
