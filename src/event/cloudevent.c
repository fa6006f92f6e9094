/*-------------------------------------------------------------------------
 *
 * cloudevent.c
 *	  The messages: CloudEvents 1.0 with CAMARA's ESimEventData, and form
 *	  fields for callback URLs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "event/message.h"
#include "rsp/json.h"

#define TYPE_CAMARA	"com.camara.esim-management.vwip.operation-completed"
#define TYPE_ESIM	"esim.operation-completed"

/* CAMARA's five */
static bool
is_camara_kind(const char *kind)
{
	return strcmp(kind, "download") == 0 || strcmp(kind, "enable") == 0 ||
		strcmp(kind, "disable") == 0 || strcmp(kind, "delete") == 0 ||
		strcmp(kind, "set-fallback") == 0;
}

int
sink_error_status(const char *code)
{
	static const struct
	{
		const char *code;
		int			status;
	}			codes[] = {
		{"INVALID_ARGUMENT", 400}, {"OUT_OF_RANGE", 400}, {"UNAUTHENTICATED", 401},
		{"PERMISSION_DENIED", 403}, {"INVALID_TOKEN_CONTEXT", 403},
		{"NOT_FOUND", 404}, {"IDENTIFIER_NOT_FOUND", 404},
		{"ABORTED", 409}, {"ALREADY_EXISTS", 409}, {"CONFLICT", 409},
		{"INCOMPATIBLE_STATE", 409}, {"CANCELLED", 409}, {"DEPENDENCY_FAILED", 409},
		{"ROLLED_BACK", 409}, {"GONE", 410},
		{"SERVICE_NOT_APPLICABLE", 422}, {"MISSING_IDENTIFIER", 422},
		{"UNSUPPORTED_IDENTIFIER", 422}, {"IDENTIFIER_MISMATCH", 422},
		{"UNNECESSARY_IDENTIFIER", 422},
		{"QUOTA_EXCEEDED", 429}, {"TOO_MANY_REQUESTS", 429},
		{"UNAVAILABLE", 503}, {"EXPIRED", 504}, {"TIMEOUT", 504}, {"OUTCOME_UNKNOWN", 504}
	};
	size_t		i;

	for (i = 0; code != NULL && i < sizeof(codes) / sizeof(codes[0]); i++)
	{
		if (strcmp(codes[i].code, code) == 0)
			return codes[i].status;
	}
	return 500;
}

/* null where there is no text */
static bool
put(json_t *object, const char *key, const char *text)
{
	if (text == NULL)
		return true;
	return json_object_set_new(object, key, json_string(text)) == 0;
}

/* "success" as in the document's examples */
static void
lower(char *to, size_t size, const char *text)
{
	size_t		i;

	for (i = 0; text[i] && i + 1 < size; i++)
		to[i] = text[i] >= 'A' && text[i] <= 'Z' ? text[i] + ('a' - 'A') : text[i];
	to[i] = '\0';
}

static json_t *
event_data(const SinkEvent *event)
{
	json_t	   *data = json_object();
	json_t	   *esim = json_object();
	json_t	   *outcome = json_object();
	bool		success = strcmp(event->result, "SUCCESS") == 0;
	char		word[16];
	bool		ok;

	lower(word, sizeof(word), event->result);
	ok = data != NULL && esim != NULL && outcome != NULL &&
		put(data, "operationId", event->operation) &&
		put(data, "operation", event->kind) &&
		put(data, "status", "completed") &&
		put(esim, "eid", event->eid);

	/* the schema has no ICCID of 18 digits */
	if (event->iccid != NULL && strlen(event->iccid) >= 19)
		ok = ok && put(esim, "iccid", event->iccid);
	if (success)
		ok = ok && put(outcome, "outcome", word) &&
			put(outcome, "completedAt", event->completed_at);
	else
	{
		const char *code = event->error_code != NULL ? event->error_code : "UNAVAILABLE";

		ok = ok && json_object_set_new(outcome, "status",
									   json_integer(sink_error_status(code))) == 0 &&
			put(outcome, "code", code) &&
			put(outcome, "message", event->error_message != NULL && *event->error_message ?
				event->error_message : "the operation did not succeed");
	}
	ok = ok && json_object_set(data, "esim", esim) == 0 &&
		json_object_set(data, success ? "result" : "error", outcome) == 0;
	json_decref(esim);
	json_decref(outcome);
	if (!ok)
	{
		json_decref(data);
		return NULL;
	}
	return data;
}

char *
sink_cloudevent(const SinkEvent *event)
{
	json_t	   *object = json_object();
	json_t	   *data = event_data(event);
	char	   *text = NULL;

	if (object != NULL && data != NULL &&
		put(object, "specversion", "1.0") &&
		put(object, "type", is_camara_kind(event->kind) ? TYPE_CAMARA : TYPE_ESIM) &&
		put(object, "source", event->source) &&
		put(object, "id", event->id) &&
		put(object, "time", event->completed_at) &&
		put(object, "datacontenttype", "application/json") &&
		json_object_set(object, "data", data) == 0)
		text = json_dumps(object, JSON_COMPACT);
	json_decref(data);
	json_decref(object);
	return text;
}

/* ------------------------------------------------------------------------
 * Form fields
 * ------------------------------------------------------------------------ */

char *
sink_form(const SinkEvent *event)
{
	static const char hex[] = "0123456789ABCDEF";
	const struct
	{
		const char *name;
		const char *value;
	}			fields[] = {
		{"NotificationId", event->id},
		{"OperationId", event->operation},
		{"Operation", event->kind},
		{"Status", "completed"},
		{"Result", event->result},
		{"Eid", event->eid},
		{"Iccid", event->iccid},
		{"ErrorCode", event->error_code},
		{"ErrorMessage", event->error_message},
		{"CompletedAt", event->completed_at},
		{"Correlator", event->correlator}
	};
	size_t		size = 1;
	size_t		i;
	char	   *text;
	char	   *to;

	for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
	{
		if (fields[i].value != NULL)
			size += strlen(fields[i].name) + 3 * strlen(fields[i].value) + 2;
	}
	to = text = malloc(size);
	if (text == NULL)
		return NULL;
	for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
	{
		const unsigned char *c = (const unsigned char *) fields[i].value;

		if (c == NULL)
			continue;
		if (to > text)
			*to++ = '&';
		to = stpcpy(to, fields[i].name);
		*to++ = '=';
		for (; *c; c++)
		{
			if ((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
				(*c >= '0' && *c <= '9') || strchr("-._", *c) != NULL)
				*to++ = (char) *c;
			else
			{
				*to++ = '%';
				*to++ = hex[*c >> 4];
				*to++ = hex[*c & 15];
			}
		}
	}
	*to = '\0';
	return text;
}

/* ------------------------------------------------------------------------
 * RFC 3339
 * ------------------------------------------------------------------------ */

/* n digits at *c; -1: there are not so many */
static int
digits(const char **c, int n)
{
	int			value = 0;

	for (; n > 0; n--, (*c)++)
	{
		if (**c < '0' || **c > '9')
			return -1;
		value = value * 10 + (**c - '0');
	}
	return value;
}

bool
sink_parse_time(const char *text, int64_t *seconds)
{
	static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	const char *c = text;
	struct tm	tm;
	int			offset = 0;

	memset(&tm, 0, sizeof(tm));
	tm.tm_year = digits(&c, 4) - 1900;
	if (tm.tm_year < 0 || *c++ != '-')
		return false;
	tm.tm_mon = digits(&c, 2) - 1;
	if (tm.tm_mon < 0 || tm.tm_mon > 11 || *c++ != '-')
		return false;
	tm.tm_mday = digits(&c, 2);
	if (tm.tm_mday < 1 || tm.tm_mday > days[tm.tm_mon] || (*c != 'T' && *c != 't' && *c != ' '))
		return false;
	c++;
	tm.tm_hour = digits(&c, 2);
	if (tm.tm_hour < 0 || tm.tm_hour > 23 || *c++ != ':')
		return false;
	tm.tm_min = digits(&c, 2);
	if (tm.tm_min < 0 || tm.tm_min > 59 || *c++ != ':')
		return false;
	tm.tm_sec = digits(&c, 2);
	if (tm.tm_sec < 0 || tm.tm_sec > 60)
		return false;
	if (*c == '.')
	{
		c++;
		if (*c < '0' || *c > '9')
			return false;
		while (*c >= '0' && *c <= '9')
			c++;
	}
	if (*c == '+' || *c == '-')
	{
		int			sign = *c++ == '-' ? -1 : 1;
		int			hours = digits(&c, 2);
		int			minutes;

		if (hours < 0 || hours > 23 || *c++ != ':')
			return false;
		minutes = digits(&c, 2);
		if (minutes < 0 || minutes > 59)
			return false;
		offset = sign * (hours * 3600 + minutes * 60);
	}
	else if (*c != 'Z' && *c != 'z')
		return false;
	else
		c++;
	if (*c != '\0')
		return false;
	*seconds = (int64_t) timegm(&tm) - offset;
	return true;
}
