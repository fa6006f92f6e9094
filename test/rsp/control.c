/*
 * control.c
 *		The control API: what tests tell the simulator and ask it.
 */
#include <stdlib.h>
#include <string.h>

#include "rspsim.h"

#define PAGE_LIMIT		10000
#define MAX_ADVANCE_MS	INT64_C(31622400000)

static bool
path_is(const Request *request, const char *method, const char *path)
{
	return strcmp(request->method, method) == 0 &&
		strcmp(request->url + strlen("/control"), path) == 0;
}

static void
answer_problem(Request *request, int status, const char *message)
{
	error_info(request, status, status == 404 ? "NOT_FOUND" : "INVALID_ARGUMENT", message);
}

static void
answer_done(Request *request)
{
	request->status = 200;
	buf_text(&request->out, "{\"ok\":true}");
}

/* A device event: {"eid", "what", "iccid"}. */
static bool
apply_event(json_t *item, char *error, size_t size)
{
	json_t	   *eid_text = json_object_get(item, "eid");
	json_t	   *iccid_text = json_object_get(item, "iccid");
	json_t	   *what = json_object_get(item, "what");
	const char *problem;
	uint32_t	euicc;
	Id			eid;
	Id			iccid = {0, 0};

	if (!json_is_string(what) || !json_is_string(eid_text) ||
		!id_parse(json_string_value(eid_text), json_string_length(eid_text), 32, 32, &eid) ||
		(iccid_text != NULL &&
		 (!json_is_string(iccid_text) ||
		  !id_parse(json_string_value(iccid_text), json_string_length(iccid_text), 18, 20, &iccid))))
		problem = "an event has eid, what and perhaps iccid";
	else if (euicc_find(eid, &euicc) == NULL)
		problem = "the EID is not known";
	else
		problem = device_event(euicc, json_string_value(what), iccid_text != NULL, iccid);
	if (problem != NULL)
		snprintf(error, size, "%s", problem);
	return problem == NULL;
}

/* Time goes by: {"advance_ms"}. */
static bool
advance_clock(json_t *item, char *error, size_t size)
{
	json_t	   *value = json_object_get(item, "advance_ms");

	if (json_object_size(item) != 1 || !json_is_integer(value) || json_integer_value(value) < 0 ||
		json_integer_value(value) > MAX_ADVANCE_MS)
	{
		snprintf(error, size, "a clock has advance_ms, at most a year");
		return false;
	}
	clock_advance(json_integer_value(value));
	return true;
}

static void
show_euicc(Request *request)
{
	const char *eid_text = http_query(request, "eid");
	const char *iccid_text = http_query(request, "iccid");
	Euicc	   *euicc = NULL;
	uint32_t	index;
	Id			id;

	if (eid_text != NULL && id_parse(eid_text, strlen(eid_text), 32, 32, &id))
		euicc = euicc_find(id, &index);
	else if (iccid_text != NULL && id_parse(iccid_text, strlen(iccid_text), 18, 20, &id))
	{
		Profile    *profile = profile_find(id, &index);

		if (profile != NULL && profile->euicc != 0)
			euicc = euicc_get(profile->euicc - 1);
	}
	if (euicc == NULL)
	{
		answer_problem(request, 404, "No such eUICC.");
		return;
	}
	request->status = 200;
	euicc_json(&request->out, euicc);
}

static uint32_t
query_number(Request *request, const char *name, uint32_t usual, uint32_t most)
{
	const char *text = http_query(request, name);
	unsigned long number = text != NULL ? strtoul(text, NULL, 10) : usual;

	return number > most ? most : (uint32_t) number;
}

/* Pages through the installed profiles: "next" is the next page's "from". */
static void
show_profiles(Request *request)
{
	uint32_t	index = query_number(request, "from", 0, UINT32_MAX - 1);
	uint32_t	limit = query_number(request, "limit", 1000, PAGE_LIMIT);
	const char *comma = "";
	Buf		   *out = &request->out;

	request->status = 200;
	buf_text(out, "{\"profiles\":[");
	for (; index < profile_total() && limit > 0; index++)
	{
		Profile    *profile = profile_get(index);

		if (profile->state == PROFILE_ABSENT)
			continue;
		buf_format(out, "%s{\"iccid\":", comma);
		buf_id(out, profile->iccid);
		buf_text(out, ",\"eid\":");
		buf_id(out, euicc_get(profile->euicc - 1)->eid);
		buf_format(out, ",\"state\":\"%s\",\"fallback\":%s}",
				   profile_state_names[profile->state], profile->fallback ? "true" : "false");
		comma = ",";
		limit--;
	}
	if (index < profile_total())
		buf_format(out, "],\"next\":%u}", index);
	else
		buf_text(out, "],\"next\":null}");
}

static void
show_ledger(Request *request)
{
	char		error[256];

	request->status = 200;
	if (http_query(request, "deeds") != NULL)
		deed_list_json(&request->out, query_number(request, "from", 1, UINT32_MAX),
					   query_number(request, "limit", 1000, PAGE_LIMIT));
	else if (http_query(request, "entries") == NULL && http_query(request, "iccid") == NULL &&
		http_query(request, "eid") == NULL && http_query(request, "from") == NULL)
		ledger_summary_json(&request->out);
	else if (!ledger_entries_json(&request->out, request, error, sizeof(error)))
		answer_problem(request, 400, error);
}

static void
show_stats(Request *request)
{
	request->status = 200;
	buf_text(&request->out, "{\"connections\":");
	http_stats_json(&request->out);
	buf_text(&request->out, ",\"outbound\":");
	outbound_json(&request->out);
	buf_text(&request->out, ",\"servers\":");
	server_stats_json(&request->out);
	buf_text(&request->out, "}");
}

static void
reset(Request *request, json_t *body)
{
	json_t	   *seed = json_object_get(body, "seed");

	reset_everything();
	if (json_is_integer(seed))
		simulator_seed = json_integer_value(seed);
	answer_done(request);
}

static void
post(Request *request)
{
	const char *path = request->url + strlen("/control");
	json_t	   *body = NULL;
	char		error[256] = "unknown path";
	bool		good = false;

	if (request->body.length > 0)
	{
		json_error_t problem;

		body = json_loadb(request->body.data, request->body.length, JSON_REJECT_DUPLICATES,
						  &problem);
		if (body == NULL)
		{
			snprintf(error, sizeof(error), "The body is no JSON: %s", problem.text);
			answer_problem(request, 400, error);
			return;
		}
	}
	if (strcmp(path, "/reset") == 0)
	{
		reset(request, body);
		json_decref(body);
		return;
	}
	if (body == NULL)
		snprintf(error, sizeof(error), "A body is needed.");
	else if (strcmp(path, "/euicc") == 0)
		good = config_each(body, config_euicc, error, sizeof(error));
	else if (strcmp(path, "/stock") == 0)
		good = config_each(json_is_object(body) && json_object_get(body, "stock") ?
						   json_object_get(body, "stock") : body, config_stock, error,
						   sizeof(error));
	else if (strcmp(path, "/populate") == 0)
		good = config_each(body, config_populate, error, sizeof(error));
	else if (strcmp(path, "/config") == 0)
		good = config_apply(body, error, sizeof(error));
	else if (strcmp(path, "/fault") == 0)
		good = config_each(body, fault_add, error, sizeof(error));
	else if (strcmp(path, "/device-event") == 0)
		good = config_each(body, apply_event, error, sizeof(error));
	else if (strcmp(path, "/clock") == 0)
		good = advance_clock(body, error, sizeof(error));
	if (good)
		answer_done(request);
	else
		answer_problem(request, 400, error);
	json_decref(body);
}

/* Answers a request below /control/. */
void
control_handle(Request *request)
{
	request->content_type = "application/json";
	if (strncmp(request->url, "/control/supersim/", 18) == 0)
	{
		twilio_control(request, request->url + 18);
		return;
	}
	if (strncmp(request->url, "/control/es2plus/", 17) == 0)
		es2plus_control(request, request->url + 17);
	else if (strncmp(request->url, "/control/eim", 12) == 0 &&
			 (request->url[12] == '/' || request->url[12] == '\0'))
	{
		if (!eim_control(request, request->url + 12))
			answer_problem(request, 404, "The control API has no such path.");
	}
	else if (strcmp(request->method, "POST") == 0)
		post(request);
	else if (path_is(request, "GET", "/ledger"))
		show_ledger(request);
	else if (path_is(request, "GET", "/stats"))
		show_stats(request);
	else if (path_is(request, "GET", "/euicc"))
		show_euicc(request);
	else if (path_is(request, "GET", "/profiles"))
		show_profiles(request);
	else if (path_is(request, "GET", "/requests"))
	{
		request->status = 200;
		record_json(&request->out, query_number(request, "n", 50, 1000000));
	}
	else if (path_is(request, "GET", "/fault"))
	{
		request->status = 200;
		fault_json(&request->out);
	}
	else if (path_is(request, "DELETE", "/fault"))
	{
		fault_clear(http_query(request, "server"));
		answer_done(request);
	}
	else if (path_is(request, "DELETE", "/stats"))
	{
		server_reset_stats();
		http_reset_stats();
		answer_done(request);
	}
	else if (path_is(request, "DELETE", "/requests"))
	{
		record_reset();
		answer_done(request);
	}
	else
		answer_problem(request, 404, "The control API has no such path.");
}
