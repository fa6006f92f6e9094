/*
 * camara_event.c
 *		CloudEvents of 2026-02: what a provider sends to the sink of a request
 *		when its operation has completed.
 */
#include <stdlib.h>
#include <string.h>

#include "camara.h"

#define TYPE_PREFIX		"com.camara.esim-management.vwip."
#define MAX_HELD		1000

typedef struct Settings
{
	bool		events;
	bool		diagram;		/* names of the document's sequence diagram */
	uint32_t	copies;
	uint32_t	hold;
	uint32_t	held[MAX_HELD]; /* operations */
	uint32_t	nheld;
} Settings;

/* Where the events of an operation go; by the operation's index. */
typedef struct Sink
{
	char	   *url;			/* NULL: nowhere */
	char	   *token;
	char	   *source;
} Sink;

static Settings settings[MAX_SERVERS];
static Sink *sinks;
static uint32_t nsinks;

static void
put_event(Buf *out, uint32_t index, bool diagram)
{
	static const char *const names[KINDS] = {
		[KIND_DOWNLOAD] = "esim-downloaded",
		[KIND_ENABLE] = "esim-enabled",
		[KIND_SET_FALLBACK] = "esim-fallback-set",
	};
	Operation  *operation = operation_get(index);
	const char *name = diagram ? names[operation->kind] : NULL;
	char		id[48];

	operation_id(index, id);
	buf_format(out, "{\"specversion\":\"1.0\",\"type\":\"" TYPE_PREFIX "%s\",\"source\":",
			   name != NULL ? name : "operation-completed");
	buf_json(out, sinks[index].source);
	buf_format(out, ",\"id\":\"%s\",\"time\":", id);
	buf_time(out, operation->completed_ms);
	buf_format(out, ",\"data\":{\"operationId\":\"%s\",\"operation\":\"%s\",\"status\":\"completed\","
			   "\"esim\":{\"eid\":", id, kind_names[operation->kind]);
	buf_id(out, euicc_get(operation->euicc)->eid);
	if (operation->profile != 0)
	{
		buf_text(out, ",\"iccid\":");
		buf_id(out, profile_get(operation->profile - 1)->iccid);
	}
	buf_text(out, "},");
	if (operation->outcome == OUTCOME_SUCCESS)
	{
		buf_text(out, "\"result\":{\"outcome\":\"success\",\"completedAt\":");
		buf_time(out, operation->completed_ms);
	}
	else
	{
		buf_format(out, "\"error\":{\"status\":%u,\"code\":\"%s\",\"message\":",
				   operation->reason_status, operation->reason_code);
		buf_json(out, operation->reason);
	}
	buf_text(out, "}}}");
}

static void
send_event(uint32_t index, const Settings *how)
{
	Sink	   *sink = &sinks[index];
	Buf			body = {0};
	Buf			header = {0};
	uint32_t	i;

	put_event(&body, index, how->diagram);
	if (sink->token != NULL)
		buf_format(&header, "Authorization: Bearer %s", sink->token);
	for (i = 0; i < how->copies; i++)
		outbound_send("POST", sink->url, "application/cloudevents+json", header.data, body.data);
	buf_free(&header);
	buf_free(&body);
}

static void
completed(uint32_t index)
{
	Settings   *how = &settings[operation_get(index)->server];

	if (index >= nsinks || sinks[index].url == NULL || !how->events)
		return;
	if (how->hold == 0)
	{
		send_event(index, how);
		return;
	}
	how->held[how->nheld++] = index;
	if (how->nheld < how->hold)
		return;
	while (how->nheld > 0)
		send_event(how->held[--how->nheld], how);
}

/* The operation that this request has made is to be told of, if it wants to. */
void
camara_event_expect(uint32_t index, const Request *request, json_t *body)
{
	const char *url = json_string_value(json_object_get(body, "sink"));
	const char *token = json_string_value(json_object_get(json_object_get(body, "sinkCredential"),
														  "accessToken"));
	Buf			source = {0};

	if (url == NULL || !settings[request->server->index].events)
		return;
	if (index >= nsinks)
	{
		uint32_t	size = index + 1000;

		sinks = xrealloc(sinks, size * sizeof(Sink));
		memset(sinks + nsinks, 0, (size - nsinks) * sizeof(Sink));
		nsinks = size;
	}
	buf_format(&source, "%s://rspsim/%s/esim/vwip", request->base, request->server->name);
	sinks[index].url = xstrdup(url);
	sinks[index].token = token != NULL ? xstrdup(token) : NULL;
	sinks[index].source = source.data;
}

bool
camara_configure(Server *server, json_t *config, char *error, size_t size)
{
	Settings   *how = &settings[server->index];
	const char *key;
	json_t	   *value;

	if (how->copies == 0)
		how->copies = 1;
	json_object_foreach(config, key, value)
	{
		json_int_t	number = json_integer_value(value);
		const char *text = json_string_value(value);

		if (strcmp(key, "events") == 0 && json_is_boolean(value))
			how->events = json_is_true(value);
		else if (strcmp(key, "names") == 0 && text != NULL &&
				 (strcmp(text, "openapi") == 0 || strcmp(text, "diagram") == 0))
			how->diagram = strcmp(text, "diagram") == 0;
		else if (strcmp(key, "copies") == 0 && json_is_integer(value) && number > 0 && number <= 100)
			how->copies = number;
		else if (strcmp(key, "hold") == 0 && json_is_integer(value) && number >= 0 && number <= MAX_HELD)
			how->hold = number;
		else
		{
			snprintf(error, size, "camara.%.64s is unknown or has a wrong value", key);
			return false;
		}
	}
	operation_completed_hook = completed;
	return true;
}

void
camara_event_reset(void)
{
	uint32_t	i;

	for (i = 0; i < nsinks; i++)
	{
		free(sinks[i].url);
		free(sinks[i].token);
		free(sinks[i].source);
	}
	free(sinks);
	sinks = NULL;
	nsinks = 0;
	memset(settings, 0, sizeof(settings));
}
