/*
 * test_twilio_rspsim.c
 *		Tests the Super SIM driver over HTTP against the simulator.  Prints TAP.
 *
 * Every request of every sequence is lost there before and after its effect;
 * the simulator's ledger must then show each effect once, and no repeat that
 * nobody had asked about.  Waits are not waited out: the operation's clock is put
 * forward instead.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "json.h"
#include "known.h"
#include "rsp.h"
#include "tap.h"

#define EID "89049032000000000000000000000001"
#define TIMEOUT_MS 150

static HttpEndpoint *endpoint;
static HttpEndpoint *control;
static RspServer server;
static RspOperation op;
static RspConversation conv;
static int64_t ahead;			/* of the operation's clock */
static char row_rsp_id[64];
static char row_sim_id[64];
static char row_iccid[21];
static int	requests;
static int	reports;

static int64_t
wall_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void
tell(const char *path, const char *json)
{
	HttpRequest *request = call(control, strcmp(path, "/fault") == 0 && json == NULL ? "DELETE" :
								"POST", path, json, false);

	if (http_request_answer(request)->status != 200)
		printf("# control %s: %s\n", path, http_request_answer(request)->body);
	http_request_free(request);
}

/* A number of the ledger's summary. */
static long
ledger(const char *key)
{
	HttpRequest *request = call(control, "GET", "/ledger", NULL, true);
	json_t	   *value = json_loads(http_request_answer(request)->body, 0, NULL);
	json_t	   *number = json_object_get(value, key);
	long		result;

	if (number == NULL)
		number = json_object_get(json_object_get(value, "by_kind"), key);
	result = (long) json_integer_value(number);
	json_decref(value);
	http_request_free(request);
	return result;
}

static void
setup(RspKind kind)
{
	rsp_conversation_free(&conv);
	json_decref(op.memo);
	json_decref(op.options);
	json_decref(op.settings);
	memset(&op, 0, sizeof(op));
	memset(&conv, 0, sizeof(conv));
	strcpy(op.id, "0199b0f0-a400-774b-bcce-b302099a8057");
	op.kind = kind;
	op.release = true;
	op.settings = json_object();
	op.options = json_object();
	op.memo = json_object();
	conv.server = &server;
	conv.op = &op;
	ahead = 0;
	requests = reports = 0;
	row_rsp_id[0] = row_sim_id[0] = row_iccid[0] = '\0';
}

static void
end_turn(void)
{
	if (conv.facts.rsp_id[0] && op.kind != RSP_FLEET_CREATE)
	{
		strcpy(row_rsp_id, conv.facts.rsp_id);
		know(row_rsp_id);
	}
	if (conv.facts.sim_id[0])
		strcpy(row_sim_id, conv.facts.sim_id);
	if (conv.action.iccid[0])
		strcpy(row_iccid, conv.action.iccid);
	reports += conv.nreports;
	if (conv.candidates != NULL)
		tell_unknown(&conv);
}

/* Runs the operation to its end. */
static void
run(void)
{
	int			steps;
	bool		begin = true;

	for (steps = 0; steps < 3000; steps++)
	{
		RspAction  *action = &conv.action;
		HttpRequest *request;
		HttpAnswer	answer;
		bool		acts;

		op.now_ms = wall_ms() + ahead;
		if (begin)
		{
			rsp_conversation_reset(&conv);
			json_decref(conv.candidates);
			conv.candidates = NULL;
			memset(&conv.facts, 0, sizeof(conv.facts));
			conv.nreports = 0;
			op.rsp_id = row_rsp_id[0] ? row_rsp_id : NULL;
			op.sim_id = row_sim_id[0] ? row_sim_id : NULL;
			rsp_twilio.begin(&conv);
			begin = false;
		}
		if (action->type == RSP_ACT_WAIT)
		{
			end_turn();
			usleep(action->delay_ms > 5 ? 5000 : 1000);
			ahead += action->delay_ms;
			begin = true;
			continue;
		}
		if (action->type != RSP_ACT_ASK && action->type != RSP_ACT_SEND)
		{
			end_turn();
			return;
		}
		acts = action->type == RSP_ACT_SEND;
		if (acts)
		{
			op.unresolved = true;
			op.attempts++;
			op.last_sent_ms = op.now_ms;
			if (op.first_sent_ms == 0)
				op.first_sent_ms = op.now_ms;
		}
		requests++;
		request = call_with(endpoint, action->method, action->path, action->content_type,
							action->body, !acts);
		answer = *http_request_answer(request);
		answer.date_skew_ms -= ahead;
		op.now_ms = wall_ms() + ahead;
		if (acts && answer.outcome == HTTP_NOT_SENT)
		{
			op.unresolved = false;
			op.attempts--;
		}
		rsp_conversation_reset(&conv);
		rsp_twilio.answer(&conv, &answer);
		http_request_free(request);
	}
}

/* ----- sequences ----- */

static const char *const names[] = {
	"reserve by EID", "reserve by matching ID", "download", "set-subscription with fleet",
	"assign-fleet", "fleet-create", "refresh", "sync"
};

static void
prepare(int sequence)
{
	static char iccid[21];

	tell("/reset", "{}");
	tell("/config", "{\"server\":\"main\",\"auth\":{\"username\":\"AC1\",\"password\":\"secret\"}}");
	if (sequence == 2)
		tell("/config", "{\"server\":\"main\",\"supersim\":{\"install_ms\":40}}");
	if (sequence == 3)
		tell("/config", "{\"server\":\"main\",\"supersim\":{\"schedule_ms\":20}}");
	tell("/supersim/account", "{\"server\":\"main\",\"profiles\":3,\"fleets\":[\"Others\"]}");
	forget_all();
	switch (sequence)
	{
		case 0:
			setup(RSP_RESERVE);
			op.eid = EID;
			break;
		case 1:
			setup(RSP_RESERVE);
			op.generate_matching_id = true;
			break;
		case 2:
			setup(RSP_DOWNLOAD);
			op.eid = EID;
			break;
		case 3:
		case 4:
			setup(sequence == 3 ? RSP_SET_SUBSCRIPTION : RSP_ASSIGN_FLEET);
			tell("/supersim/account", "{\"server\":\"main\",\"sims\":[{\"iccid\":\"89883070000007537119\"}]}");
			strcpy(iccid, "89883070000007537119");
			op.iccid = iccid;
			op.subscription = sequence == 3 ? "ACTIVE" : NULL;
			op.fleet = "Others";
			break;
		case 5:
			setup(RSP_FLEET_CREATE);
			op.fleet = "Meters & more";
			json_decref(op.settings);
			op.settings = json_pack("{s:s,s:i}", "network_access_profile", "everywhere",
									"DataLimit", 250);
			break;
		case 6:
			setup(RSP_REFRESH);
			op.eid = EID;
			break;
		default:
			setup(RSP_SYNC);
			break;
	}
	if (sequence == 1)
	{
		/* what the account has had before is in esim's rows */
		HttpRequest *request = call(endpoint, "GET", "/ESimProfiles", NULL, true);
		json_t	   *value = json_loads(http_request_answer(request)->body, 0, NULL);
		json_t	   *array = json_object_get(value, "esim_profiles");
		size_t		i;

		for (i = 0; i < json_array_size(array); i++)
			know(json_string_value(json_object_get(json_array_get(array, i), "sid")));
		json_decref(value);
		http_request_free(request);
	}
}

/* DONE, with its effect, once, and nothing repeated unasked. */
static bool
happened(int sequence)
{
	static const char *const effects[] = {
		"reserved", "reserved", "reserved", "subscription", "fleet-assigned", "fleet-created",
		NULL, NULL
	};
	bool		good = conv.action.type == RSP_ACT_DONE && ledger("double_effects") == 0 &&
		ledger("unasked_repeats") == 0;

	if (effects[sequence] != NULL)
		good = good && ledger(effects[sequence]) == 1;
	if (sequence <= 1)
		good = good && conv.action.state == RSP_STATE_RELEASED && strlen(row_iccid) == 20 &&
			(sequence == 0 || conv.facts.activation_code[0] != '\0');
	if (sequence == 2)
		good = good && conv.action.state == RSP_STATE_INSTALLED && ledger("downloaded") == 1;
	if (sequence == 3)
		good = good && strcmp(conv.facts.subscription, "ACTIVE") == 0;
	if (sequence == 7)
		good = good && reports >= 7;
	if (!good)
		printf("# action %d, code \"%s\", \"%s\", effects %ld, double %ld, unasked %ld\n",
			   conv.action.type, conv.action.code, conv.action.message, ledger("effects"),
			   ledger("double_effects"), ledger("unasked_repeats"));
	return good;
}

static void
test_sequences(void)
{
	static const char *const faults[] = {
		"\"fault\":\"timeout_after_effect\"", "\"fault\":\"timeout_before_effect\"",
		"\"fault\":\"reset_after_effect\"", "\"fault\":\"reset_before_effect\"",
		"\"fault\":\"status\",\"status\":500,\"effect\":true",
		"\"fault\":\"status\",\"status\":503",
		"\"fault\":\"status\",\"status\":429,\"retry_after\":1",
		"\"fault\":\"malformed_json\"", "\"fault\":\"truncated_json\"",
		"\"fault\":\"truncated_body\"", "\"fault\":\"wrong_types\"", "\"fault\":\"empty_body\"",
		"\"fault\":\"duplicate_keys\"", "\"fault\":\"invalid_utf8\"", "\"fault\":\"nul_bytes\"",
		"\"fault\":\"deep_json\"", "\"fault\":\"wrong_iccid\"",
		"\"fault\":\"wrong_content_type\"", "\"fault\":\"redirect\"",
		"\"fault\":\"oversized_json\",\"bytes\":3000000"
	};
	size_t		nfaults = sizeof(faults) / sizeof(faults[0]);
	int			sequence;

	for (sequence = 0; sequence < 8; sequence++)
	{
		int			total;
		int			which;
		size_t		fault;
		int			bad = 0;

		prepare(sequence);
		run();
		total = requests;
		check(happened(sequence), "%s, %d requests", names[sequence], total);
		/* polls of a download are many and alike */
		if (total > 5)
			total = 5;
		for (which = 0; which < total; which++)
		{
			for (fault = 0; fault < nfaults; fault++)
			{
				char		rule[200];

				prepare(sequence);
				snprintf(rule, sizeof(rule), "{\"server\":\"main\",\"after\":%d,\"count\":1,%s}",
						 which, faults[fault]);
				tell("/fault", rule);
				run();
				tell("/fault", NULL);
				if (!happened(sequence))
				{
					printf("# request %d, %s\n", which, faults[fault]);
					bad++;
				}
			}
		}
		check(bad == 0, "%s: %zu faults at each of %d requests", names[sequence], nfaults, total);
	}
}

static void
test_many(void)
{
	tell("/reset", "{}");
	tell("/supersim/account", "{\"server\":\"main\",\"profiles\":12500}");
	setup(RSP_SYNC);
	run();
	check(conv.action.type == RSP_ACT_DONE && reports == 25000 && requests == 27,
		  "25,000 rows in %d pages", requests);
}

int
main(void)
{
	HttpEndpointOptions options;
	char		url[300];

	signal(SIGPIPE, SIG_IGN);
	if (!simulator_start(NULL))
		return skip_all("no simulator");
	loop_start(8);
	memset(&options, 0, sizeof(options));
	snprintf(url, sizeof(url), "%s/main/supersim/v1", simulator_url);
	options.base_url = url;
	options.timeout_ms = TIMEOUT_MS;
	options.connect_timeout_ms = 2000;
	options.max_answer = 2 * 1024 * 1024;
	options.verify = true;
	options.allow_http = true;
	options.auth = HTTP_AUTH_BASIC;
	options.username = "AC1";
	options.password = "secret";
	endpoint = endpoint_of(&options);
	server.name = "main";
	server.protocol = RSP_PROTOCOL_TWILIO;
	server.url = strdup(url);
	server.event_url = "http://127.0.0.1:9/events";
	server.timeout_ms = TIMEOUT_MS;
	server.unknown_hold_ms = 60000;
	snprintf(url, sizeof(url), "%s/control", simulator_url);
	options.auth = HTTP_AUTH_NONE;
	options.timeout_ms = 20000;
	control = endpoint_of(&options);
	test_sequences();
	test_many();
	rsp_conversation_free(&conv);
	json_decref(op.memo);
	json_decref(op.options);
	json_decref(op.settings);
	http_endpoint_release(endpoint);
	http_endpoint_release(control);
	http_loop_destroy(loop);
	free((char *) server.url);
	return finish();
}
