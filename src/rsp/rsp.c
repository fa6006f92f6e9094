/*-------------------------------------------------------------------------
 *
 * rsp.c
 *	  What the drivers of all protocols share: names, the setting of actions,
 *	  reading of JSON from the network.
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
#include <unistd.h>

#include "rsp.h"
#include "json.h"

#define MAX_JSON_DEPTH	32

/* a conversation that ran out of memory comes back after this */
#define MEMORY_DELAY_MS	10000

static const char *const protocol_names[] = {"camara", "es2plus", "eim", "twilio"};

static const char *const kind_names[RSP_KIND_COUNT] = {
	"download", "enable", "disable", "delete", "set-fallback", "unset-fallback",
	"refresh", "reserve", "release", "cancel-order", "set-subscription",
	"assign-fleet", "fleet-create", "sync"
};

static const char *const state_names[RSP_STATE_COUNT] = {
	"", "RESERVING", "RESERVED", "RELEASED", "DOWNLOADED", "INSTALLED",
	"DISABLED", "ENABLED", "DELETED", "CANCELLED", "FAILED"
};

static const char *const phase_names[RSP_PHASE_COUNT] = {
	"QUEUED", "BLOCKED", "SENT", "WAITING_DEVICE", "RETRYING", "UNKNOWN",
	"PARKED", "DONE"
};

/*
 * The driver of a protocol, NULL if this release has none.
 */
const RspDriver *
rsp_driver(RspProtocol protocol)
{
	switch (protocol)
	{
		case RSP_PROTOCOL_CAMARA:
			return &rsp_camara;
		case RSP_PROTOCOL_ES2PLUS:
			return &rsp_es2plus;
		case RSP_PROTOCOL_EIM:
			return &rsp_eim;
		case RSP_PROTOCOL_TWILIO:
			return &rsp_twilio;
	}
	return NULL;
}

static int
find_name(const char *const *names, int n, const char *name)
{
	int			i;

	for (i = 0; name != NULL && i < n; i++)
	{
		if (strcmp(names[i], name) == 0)
			return i;
	}
	return -1;
}

const char *
rsp_protocol_name(RspProtocol protocol)
{
	return (unsigned) protocol < 4 ? protocol_names[protocol] : "";
}

bool
rsp_protocol_from_name(const char *name, RspProtocol *protocol)
{
	int			i = find_name(protocol_names, 4, name);

	if (i < 0)
		return false;
	*protocol = (RspProtocol) i;
	return true;
}

const char *
rsp_kind_name(RspKind kind)
{
	return (unsigned) kind < RSP_KIND_COUNT ? kind_names[kind] : "";
}

bool
rsp_kind_from_name(const char *name, RspKind *kind)
{
	int			i = find_name(kind_names, RSP_KIND_COUNT, name);

	if (i < 0)
		return false;
	*kind = (RspKind) i;
	return true;
}

const char *
rsp_state_name(RspState state)
{
	return (unsigned) state < RSP_STATE_COUNT ? state_names[state] : "";
}

/*
 * The empty string is no name of a state: where none is known there is NULL.
 */
bool
rsp_state_from_name(const char *name, RspState *state)
{
	int			i = find_name(state_names, RSP_STATE_COUNT, name);

	if (i <= 0)
		return false;
	*state = (RspState) i;
	return true;
}

int
rsp_state_progress(RspState state)
{
	switch (state)
	{
		case RSP_STATE_RESERVING:
			return 1;
		case RSP_STATE_RESERVED:
			return 2;
		case RSP_STATE_RELEASED:
			return 3;
		case RSP_STATE_DOWNLOADED:
			return 4;
		case RSP_STATE_INSTALLED:
			return 5;
		case RSP_STATE_DISABLED:
		case RSP_STATE_ENABLED:
			return RSP_PROGRESS_MAX;
		default:
			return 0;
	}
}

const char *
rsp_phase_name(RspPhase phase)
{
	return (unsigned) phase < RSP_PHASE_COUNT ? phase_names[phase] : "";
}

/* length of the UTF-8 character at text (left bytes), 0: broken */
static size_t
utf8_length(const unsigned char *text, size_t left)
{
	size_t		length;
	size_t		i;

	if (text[0] < 0x80)
		return 1;
	if (text[0] >= 0xc2 && text[0] <= 0xdf)
		length = 2;
	else if (text[0] >= 0xe0 && text[0] <= 0xef)
		length = 3;
	else if (text[0] >= 0xf0 && text[0] <= 0xf4)
		length = 4;
	else
		return 0;
	if (left < length)
		return 0;
	for (i = 1; i < length; i++)
	{
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	}

	/* overlong forms, surrogates, beyond U+10FFFF */
	if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ||
		(text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f))
		return 0;
	return length;
}

/*
 * Copies a text into a field: cut at a character's end, control characters
 * become blanks, broken UTF-8 a question mark.  NULL is the empty text.
 */
static void
set_text(char *field, size_t size, const char *text)
{
	size_t		left = text != NULL ? strnlen(text, 4 * size) : 0;
	size_t		at = 0;

	while (left > 0)
	{
		size_t		length = utf8_length((const unsigned char *) text, left);
		size_t		step = length > 0 ? length : 1;

		if (at + step >= size)
			break;
		if (length == 0)
			field[at] = '?';
		else if (length == 1)
			field[at] = (unsigned char) *text < 0x20 || *text == 0x7f ? ' ' : *text;
		else if (length == 2 && (unsigned char) text[0] == 0xc2 &&
				 (unsigned char) text[1] < 0xa0)
		{
			/* U+0080 to U+009F */
			field[at] = ' ';
			at--;
		}
		else
			memcpy(field + at, text, length);
		at += step;
		text += step;
		left -= step;
	}
	field[at] = '\0';
}

/*
 * Before the next call of the driver: frees the request, clears the action.
 * Reports, outcome and detail stay.
 */
void
rsp_conversation_reset(RspConversation *c)
{
	free(c->action.path);
	free(c->action.body);
	memset(&c->action, 0, sizeof(c->action));
}

/*
 * All that the conversation holds; server and op are the worker's.
 */
void
rsp_conversation_free(RspConversation *c)
{
	rsp_conversation_reset(c);
	free(c->cleanup_method);
	free(c->cleanup_path);
	json_decref(c->candidates);
	c->cleanup_method = c->cleanup_path = NULL;
	c->candidates = NULL;
	memset(&c->facts, 0, sizeof(c->facts));
	free(c->reports);
	c->reports = NULL;
	c->nreports = 0;
	c->reports_size = 0;
	c->reports_whole = false;
	c->outcome[0] = '\0';
	c->detail[0] = '\0';
}

/* no memory for a request: nothing is sent, the operation comes back */
static void
set_request(RspConversation *c, RspActionType type, const char *method,
			const char *path, json_t *body)
{
	RspAction  *action = &c->action;

	rsp_conversation_reset(c);
	action->path = strdup(path);
	if (body != NULL)
	{
		action->body = json_dumps(body, JSON_COMPACT | JSON_ENSURE_ASCII);
		json_decref(body);
		action->content_type = "application/json";
		if (action->body == NULL)
		{
			free(action->path);
			action->path = NULL;
		}
	}
	if (action->path == NULL)
	{
		rsp_wait(c, RSP_PHASE_RETRYING, MEMORY_DELAY_MS, "", "out of memory");
		return;
	}
	action->type = type;
	action->method = method;
}

/*
 * Sends a request that changes nothing.  method is a constant; body is an
 * object whose reference is taken, or NULL for none.
 */
void
rsp_ask(RspConversation *c, const char *method, const char *path, json_t *body)
{
	set_request(c, RSP_ACT_ASK, method, path, body);
}

/*
 * Sends a request that acts, the intent being committed first.
 */
void
rsp_send(RspConversation *c, const char *method, const char *path, json_t *body)
{
	set_request(c, RSP_ACT_SEND, method, path, body);
}

/*
 * A header for the request that was set by rsp_ask() or rsp_send(); one too
 * many, or too long, is left out.
 */
void
rsp_header(RspConversation *c, const char *name, const char *value)
{
	RspAction  *action = &c->action;
	int			n = action->nheaders;

	if (n >= (int) (sizeof(action->headers) / sizeof(action->headers[0])) ||
		strlen(name) >= sizeof(action->headers[0].name) ||
		strlen(value) >= sizeof(action->headers[0].value))
		return;
	strcpy(action->headers[n].name, name);
	strcpy(action->headers[n].value, value);
	action->nheaders++;
}

/*
 * Ends the turn: come back after delay_ms.
 */
void
rsp_wait(RspConversation *c, RspPhase phase, int64_t delay_ms,
		 const char *code, const char *message)
{
	rsp_conversation_reset(c);
	c->action.type = RSP_ACT_WAIT;
	c->action.phase = phase;
	c->action.delay_ms = delay_ms > 0 ? delay_ms : 0;
	set_text(c->action.code, sizeof(c->action.code), code);
	set_text(c->action.message, sizeof(c->action.message), message);
}

/*
 * Ends the turn: an administrator has to see to it.
 */
void
rsp_park(RspConversation *c, const char *code, const char *message)
{
	rsp_conversation_reset(c);
	c->action.type = RSP_ACT_PARK;
	c->action.phase = RSP_PHASE_PARKED;
	set_text(c->action.code, sizeof(c->action.code), code);
	set_text(c->action.message, sizeof(c->action.message), message);
}

/*
 * Ends the operation: SUCCESS.
 */
void
rsp_done(RspConversation *c)
{
	rsp_conversation_reset(c);
	c->action.type = RSP_ACT_DONE;
	c->action.phase = RSP_PHASE_DONE;
}

/*
 * Ends the operation: FAILED.
 */
void
rsp_fail(RspConversation *c, const char *code, const char *message)
{
	rsp_conversation_reset(c);
	c->action.type = RSP_ACT_FAIL;
	c->action.phase = RSP_PHASE_DONE;
	set_text(c->action.code, sizeof(c->action.code), code);
	set_text(c->action.message, sizeof(c->action.message), message);
}

/*
 * The RSP's own words, for the action that was set before.
 */
void
rsp_said(RspConversation *c, const char *rsp_code, const char *rsp_message)
{
	set_text(c->action.rsp_code, sizeof(c->action.rsp_code), rsp_code);
	set_text(c->action.rsp_message, sizeof(c->action.rsp_message), rsp_message);
}

static bool
set_digits(char *field, size_t size, size_t min, const char *text)
{
	field[0] = '\0';
	if (text == NULL || *text == '\0')
		return true;
	if (strlen(text) < min || strlen(text) >= size ||
		strspn(text, "0123456789") != strlen(text))
		return false;
	strcpy(field, text);
	return true;
}

/*
 * A new report, empty but for its kind; NULL when there are too many.
 */
RspReport *
rsp_report_add(RspConversation *c, RspReportWhat what)
{
	RspReport  *report;

	if (c->nreports == c->reports_size && c->nreports < RSP_MAX_REPORTS)
	{
		int			size = c->reports_size > 0 ? 2 * c->reports_size : 8;
		RspReport  *reports = realloc(c->reports, size * sizeof(RspReport));

		if (reports != NULL)
		{
			c->reports = reports;
			c->reports_size = size;
		}
	}
	if (c->nreports >= c->reports_size || c->nreports >= RSP_MAX_REPORTS)
	{
		c->reports_whole = false;
		return NULL;
	}
	report = &c->reports[c->nreports++];
	memset(report, 0, sizeof(*report));
	report->what = what;
	report->is_fallback = -1;
	return report;
}

/*
 * Adds what the RSP said about a profile.  Dropped: identifiers that are not
 * 32, or 18 to 20 digits, a report about nothing, those beyond
 * RSP_MAX_REPORTS.
 */
void
rsp_report(RspConversation *c, const char *eid, const char *iccid,
		   RspState state, int is_fallback, const char *msisdn)
{
	RspReport  *report = rsp_report_add(c, RSP_REPORT_PROFILE);

	if (report == NULL)
		return;
	if (!set_digits(report->eid, sizeof(report->eid), 32, eid) ||
		!set_digits(report->iccid, sizeof(report->iccid), 18, iccid) ||
		(report->eid[0] == '\0' && report->iccid[0] == '\0'))
	{
		c->nreports--;
		return;
	}
	report->state = state;
	report->is_fallback = is_fallback;
	set_text(report->msisdn, sizeof(report->msisdn), msisdn);
}

/*
 * See rsp.h; NULL is the empty text.
 */
void
rsp_set(char *member, size_t size, const char *text)
{
	set_text(member, size, text);
}

/*
 * A request for when the operation's end is committed; one at the most.
 */
void
rsp_cleanup(RspConversation *c, const char *method, const char *path)
{
	free(c->cleanup_method);
	free(c->cleanup_path);
	c->cleanup_method = strdup(method);
	c->cleanup_path = strdup(path);
}

void
rsp_candidates(RspConversation *c, json_t *ids)
{
	json_decref(c->candidates);
	c->candidates = ids;
}

/*
 * Gives the request that has just been set a body that is no JSON.
 * content_type is a constant.
 */
void
rsp_body(RspConversation *c, const char *content_type, const char *text)
{
	char	   *copy = strdup(text);

	if (copy == NULL)
	{
		rsp_wait(c, RSP_PHASE_RETRYING, MEMORY_DELAY_MS, "", "out of memory");
		return;
	}
	free(c->action.body);
	c->action.body = copy;
	c->action.content_type = content_type;
}

/*
 * What the driver made of the last answer, for the list of attempts.
 */
void
rsp_note(RspConversation *c, const char *outcome, const char *detail)
{
	set_text(c->outcome, sizeof(c->outcome), outcome);
	set_text(c->detail, sizeof(c->detail), detail);
}

/*
 * base_ms doubled n times, at most max_ms, and up to a tenth of it more or
 * less so that operations that failed together do not come back together.
 */
int64_t
rsp_backoff_ms(int n, int64_t base_ms, int64_t max_ms)
{
	static uint64_t seed = 0;
	int64_t		delay = base_ms > 0 ? base_ms : 1;
	int64_t		spread;

	while (n-- > 0 && delay < max_ms)
		delay *= 2;
	if (delay > max_ms)
		delay = max_ms;

	if (seed == 0)
	{
		struct timespec now;

		clock_gettime(CLOCK_MONOTONIC, &now);
		seed = ((uint64_t) now.tv_nsec << 20) ^ (uint64_t) now.tv_sec ^
			((uint64_t) getpid() << 44) ^ 1;
		if (seed == 0)
			seed = 1;
	}
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	spread = delay / 10;
	if (spread > 0)
		delay += (int64_t) (seed % (uint64_t) (2 * spread + 1)) - spread;
	return delay > 0 ? delay : 1;
}

/* depth of brackets outside of strings; stops at one too many */
static bool
depth_is_fine(const char *text, size_t length)
{
	int			depth = 0;
	bool		in_string = false;
	size_t		i;

	for (i = 0; i < length; i++)
	{
		char		c = text[i];

		if (in_string)
		{
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		}
		else if (c == '"')
			in_string = true;
		else if (c == '{' || c == '[')
		{
			if (++depth > MAX_JSON_DEPTH)
				return false;
		}
		else if (c == '}' || c == ']')
			depth--;
	}
	return true;
}

/*
 * Numbers that are integers and have been read as reals become integers.
 * Reference stolen; depth is bounded.
 */
static json_t *
integers_again(json_t *json)
{
	const char *key;
	json_t	   *value;
	void	   *next;
	size_t		i;
	double		number = json_real_value(json);

	if (json_is_real(json) && number >= -9007199254740992.0 && number <= 9007199254740992.0 &&
		number == (double) (json_int_t) number)
	{
		json_decref(json);
		return json_integer((json_int_t) number);
	}
	if (json_is_array(json))
	{
		json_array_foreach(json, i, value)
			json_array_set_new(json, i, integers_again(json_incref(value)));
	}
	else if (json_is_object(json))
	{
		json_object_foreach_safe(json, next, key, value)
			json_object_set_new(json, key, integers_again(json_incref(value)));
	}
	return json;
}

/*
 * See rsp.h.  The caller owns the reference.
 */
json_t *
rsp_json(const char *text, size_t length, const char **reason)
{
	const char *ignored;
	json_t	   *json;
	json_error_t error;
	size_t		at;

	if (reason == NULL)
		reason = &ignored;
	*reason = "";
	if (text == NULL || length == 0)
	{
		*reason = "empty";
		return NULL;
	}

	/* RFC 8259 8.1 allows a reader to pass over a byte order mark */
	if (length >= 3 && memcmp(text, "\357\273\277", 3) == 0)
	{
		text += 3;
		length -= 3;
	}
	if (memchr(text, '\0', length) != NULL)
	{
		*reason = "has a NUL";
		return NULL;
	}
	for (at = 0; at < length;)
	{
		size_t		step = (unsigned char) text[at] < 0x80 ? 1 :
			utf8_length((const unsigned char *) text + at, length - at);

		if (step == 0)
		{
			*reason = "not valid UTF-8";
			return NULL;
		}
		at += step;
	}
	if (!depth_is_fine(text, length))
	{
		*reason = "nested too deeply";
		return NULL;
	}

	json = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
	if (json == NULL && json_error_code(&error) == json_error_numeric_overflow)
	{
		/* JSON's integers have no limits; such a one is in some member, of no use to us */
		json = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &error);
		json = integers_again(json);
	}
	if (json == NULL)
	{
		switch (json_error_code(&error))
		{
			case json_error_duplicate_key:
				*reason = "has a key twice";
				break;
			case json_error_null_character:
			case json_error_null_byte_in_key:
				*reason = "has a NUL";
				break;
			case json_error_out_of_memory:
				*reason = "out of memory";
				break;
			default:
				*reason = "not valid JSON";
				break;
		}
	}
	return json;
}

/*
 * See rsp.h.  The string belongs to object.
 */
const char *
rsp_json_string(const json_t *object, const char *key, size_t max)
{
	const json_t *value = json_object_get(object, key);

	if (!json_is_string(value) || json_string_length(value) > max)
		return NULL;
	return json_string_value(value);
}

/* ------------------------------------------------------------------------
 * For those who must not include jansson.h (json.h says why)
 * ------------------------------------------------------------------------ */

struct json_t *
rsp_json_object(void)
{
	return json_pack("{}");
}

char *
rsp_json_text(const struct json_t *object)
{
	return json_object_size(object) > 0 ? json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
}

void
rsp_json_release(struct json_t *object)
{
	json_decref(object);
}

bool
rsp_json_any(const struct json_t *object)
{
	return json_object_size(object) > 0;
}
