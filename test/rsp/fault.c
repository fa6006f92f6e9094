/*
 * fault.c
 *		Fault rules: which requests they meet, and what they say is to happen.
 *
 * The first rule of a request that is not a delay wins; delays add up.  Each
 * rule draws its chances from a sequence of its own, begun by the seed and the
 * rule's number, so that a run can be repeated.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "rspsim.h"

#define MAX_FAULTS		10000

static const char *const names[FAULT_KINDS] = {
	[FAULT_LATENCY] = "latency",
	[FAULT_STATUS] = "status",
	[FAULT_TIMEOUT_BEFORE] = "timeout_before_effect",
	[FAULT_TIMEOUT_AFTER] = "timeout_after_effect",
	[FAULT_RESET_BEFORE] = "reset_before_effect",
	[FAULT_RESET_AFTER] = "reset_after_effect",
	[FAULT_REDIRECT] = "redirect",
	[FAULT_TOKEN_EXPIRED] = "token_expired",
	[FAULT_FORGET] = "forget_operation",
	[FAULT_MALFORMED_JSON] = "malformed_json",
	[FAULT_TRUNCATED_JSON] = "truncated_json",
	[FAULT_TRUNCATED_BODY] = "truncated_body",
	[FAULT_OVERSIZED_JSON] = "oversized_json",
	[FAULT_DEEP_JSON] = "deep_json",
	[FAULT_CONTENT_TYPE] = "wrong_content_type",
	[FAULT_INVALID_UTF8] = "invalid_utf8",
	[FAULT_NUL_BYTES] = "nul_bytes",
	[FAULT_SLOW_DRIP] = "slow_drip",
	[FAULT_ENDLESS_BODY] = "endless_body",
	[FAULT_WRONG_ICCID] = "wrong_iccid",
	[FAULT_WRONG_TYPES] = "wrong_types",
	[FAULT_EMPTY_BODY] = "empty_body",
	[FAULT_DUPLICATE_KEYS] = "duplicate_keys",
	[FAULT_MERGE_JSON] = "merge_json",
	[FAULT_BODY] = "body",
	[FAULT_INFORMATIONAL] = "informational",
	[FAULT_EDIT] = "edit",
	[FAULT_DEVICE_FAIL] = "device_fail",
	[FAULT_DEVICE_LOST] = "device_lost",
	[FAULT_DEVICE_UNREPORTED] = "device_unreported",
	[FAULT_DEVICE_DELAY] = "device_delay",
};

static Fault *first;
static Fault **last = &first;
static uint32_t count;
static uint32_t numbers;

const char *
fault_name(FaultKind kind)
{
	return names[kind];
}

static void
fault_free(Fault *fault)
{
	free(fault->server);
	free(fault->method);
	free(fault->path);
	free(fault->code);
	free(fault->message);
	free(fault->retry_after);
	free(fault->location);
	free(fault->content_type);
	free(fault->body);
	free(fault->from);
	free(fault->to);
	json_decref(fault->headers);
	json_decref(fault->merge);
	free(fault);
}

void
fault_release(Fault *fault)
{
	if (--fault->references == 0)
		fault_free(fault);
}

/* Sensible values for what a rule does not say. */
static void
set_defaults(Fault *fault)
{
	fault->probability = 1.0;
	fault->status = 500;
	fault->ms = 1000;
	switch (fault->kind)
	{
		case FAULT_OVERSIZED_JSON:
			fault->bytes = 64 * 1024 * 1024;
			break;
		case FAULT_DEEP_JSON:
			fault->bytes = 100000;
			break;
		case FAULT_ENDLESS_BODY:
			fault->bytes = UINT64_C(1) << 40;
			break;
		case FAULT_SLOW_DRIP:
			fault->rate = 10;
			break;
		case FAULT_TIMEOUT_AFTER:
		case FAULT_TIMEOUT_BEFORE:
			fault->ms = 600000;
			break;
		case FAULT_REDIRECT:
			fault->status = 307;
			break;
		case FAULT_INFORMATIONAL:
			fault->bytes = 100000;
			break;
		case FAULT_BODY:
			fault->status = 0;
			break;
		default:
			break;
	}
}

static bool
set_text(char **target, json_t *value)
{
	if (!json_is_string(value))
		return false;
	free(*target);
	*target = xstrdup(json_string_value(value));
	return true;
}

static bool
set_number(uint64_t *target, json_t *value)
{
	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return false;
	*target = json_integer_value(value);
	return true;
}

static bool
set_flag(bool *target, json_t *value)
{
	*target = json_is_true(value);
	return json_is_boolean(value);
}

static bool
set_id(Id *target, bool *has, json_t *value)
{
	*has = json_is_string(value) &&
		id_parse(json_string_value(value), json_string_length(value), 1, 32, target);
	return *has;
}

static bool
set_property(Fault *fault, const char *key, json_t *value)
{
	uint64_t	number = 0;

	if (strcmp(key, "fault") == 0)
		return true;
	if (strcmp(key, "server") == 0)
		return set_text(&fault->server, value);
	if (strcmp(key, "method") == 0)
		return set_text(&fault->method, value);
	if (strcmp(key, "path") == 0)
		return set_text(&fault->path, value);
	if (strcmp(key, "eid") == 0)
		return set_id(&fault->eid, &fault->has_eid, value);
	if (strcmp(key, "iccid") == 0)
		return set_id(&fault->iccid, &fault->has_iccid, value);
	if (strcmp(key, "after") == 0)
		return set_number(&fault->after, value);
	if (strcmp(key, "count") == 0)
		return set_number(&fault->count, value);
	if (strcmp(key, "every") == 0)
		return set_number(&fault->every, value);
	if (strcmp(key, "probability") == 0)
	{
		fault->probability = json_number_value(value);
		return json_is_number(value) && fault->probability >= 0 && fault->probability <= 1;
	}
	if (strcmp(key, "ms") == 0)
	{
		if (!set_number(&number, value) || number > INT32_MAX)
			return false;
		fault->ms = (uint32_t) number;
		return true;
	}
	if (strcmp(key, "before") == 0)
		return set_flag(&fault->before, value);
	if (strcmp(key, "effect") == 0)
		return set_flag(&fault->effect, value);
	if (strcmp(key, "status") == 0)
	{
		if (!set_number(&number, value) || number < 200 || number > 599)
			return false;
		fault->status = (int) number;
		return true;
	}
	if (strcmp(key, "code") == 0)
		return set_text(&fault->code, value);
	if (strcmp(key, "message") == 0 || strcmp(key, "reason") == 0)
		return set_text(&fault->message, value);
	if (strcmp(key, "retry_after") == 0)
	{
		char		text[32];

		if (!json_is_integer(value))
			return set_text(&fault->retry_after, value);
		snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		free(fault->retry_after);
		fault->retry_after = xstrdup(text);
		return true;
	}
	if (strcmp(key, "location") == 0)
		return set_text(&fault->location, value);
	if (strcmp(key, "content_type") == 0)
		return set_text(&fault->content_type, value);
	if (strcmp(key, "from") == 0)
		return set_text(&fault->from, value) && *fault->from != '\0';
	if (strcmp(key, "to") == 0)
		return set_text(&fault->to, value);
	if (strcmp(key, "headers") == 0)
	{
		json_decref(fault->headers);
		fault->headers = json_incref(value);
		return json_is_object(value);
	}
	if (strcmp(key, "merge") == 0)
	{
		json_decref(fault->merge);
		fault->merge = json_incref(value);
		return true;
	}
	if (strcmp(key, "body") == 0)
		return set_text(&fault->body, value);
	if (strcmp(key, "bytes") == 0 || strcmp(key, "depth") == 0)
		return set_number(&fault->bytes, value);
	if (strcmp(key, "rate") == 0)
		return set_number(&fault->rate, value) && fault->rate > 0;
	return false;
}

/* Adds a rule; false, with a message, if it is none. */
bool
fault_add(json_t *rule, char *error, size_t size)
{
	json_t	   *name = json_object_get(rule, "fault");
	const char *text = json_is_string(name) ? json_string_value(name) : "";
	const char *key;
	json_t	   *value;
	Fault	   *fault;
	int			kind;

	for (kind = 0; kind < FAULT_KINDS; kind++)
		if (strcmp(text, names[kind]) == 0)
			break;
	/* a full eUICC is one of the device's failures */
	if (strcmp(text, "memory_full") == 0)
		kind = FAULT_DEVICE_FAIL;
	if (kind == FAULT_KINDS)
	{
		snprintf(error, size, "fault \"%.64s\" is unknown", text);
		return false;
	}
	if (count == MAX_FAULTS)
	{
		snprintf(error, size, "there are too many rules");
		return false;
	}
	fault = xalloc(sizeof(Fault));
	fault->kind = kind;
	fault->references = 1;
	fault->number = ++numbers;
	fault->random = mix64(simulator_seed ^ fault->number);
	set_defaults(fault);
	if (strcmp(text, "memory_full") == 0)
		fault->message = xstrdup("Not enough memory on the eUICC.");
	json_object_foreach(rule, key, value)
		if (!set_property(fault, key, value))
		{
			snprintf(error, size, "\"%.64s\" is unknown or has a wrong value", key);
			fault_free(fault);
			return false;
		}
	if (fault->kind == FAULT_FORGET && fault->path == NULL)
		fault->path = xstrdup("/operations/");
	count++;
	*last = fault;
	last = &fault->next;
	return true;
}

/* Drops the rules of a server, or all of them. */
void
fault_clear(const char *server)
{
	Fault	  **link = &first;

	while (*link != NULL)
	{
		Fault	   *fault = *link;

		if (server == NULL || (fault->server != NULL && strcmp(fault->server, server) == 0))
		{
			*link = fault->next;
			fault_release(fault);
			count--;
		}
		else
			link = &fault->next;
	}
	last = link;
	if (first == NULL)
		numbers = 0;
}

void
fault_json(Buf *out)
{
	const Fault *fault;

	buf_text(out, "[");
	for (fault = first; fault != NULL; fault = fault->next)
	{
		buf_format(out, "%s{\"number\":%u,\"fault\":\"%s\",\"server\":",
				   fault == first ? "" : ",", fault->number, names[fault->kind]);
		buf_json(out, fault->server ? fault->server : "*");
		buf_text(out, ",\"path\":");
		buf_json(out, fault->path ? fault->path : "*");
		buf_format(out, ",\"seen\":%" PRIu64 ",\"hits\":%" PRIu64 "}", fault->seen, fault->hits);
	}
	buf_text(out, "]");
}

static bool
meets(const Fault *fault, const Request *request)
{
	return (fault->server == NULL || strcmp(fault->server, request->server->name) == 0) &&
		(fault->method == NULL || strcmp(fault->method, request->method) == 0) &&
		(fault->path == NULL || strstr(request->url, fault->path) != NULL) &&
		(!fault->has_eid || (request->has_eid && id_equal(fault->eid, request->eid))) &&
		(!fault->has_iccid || (request->has_iccid && id_equal(fault->iccid, request->iccid)));
}

/* Does this one strike, now that it meets the request? */
static bool
strikes(Fault *fault)
{
	fault->seen++;
	if (fault->seen <= fault->after || (fault->count > 0 && fault->hits >= fault->count))
		return false;
	if (fault->every > 1 && (fault->seen - fault->after) % fault->every != 0)
		return false;
	if (fault->probability < 1.0 && random_next(&fault->random) >= fault->probability)
		return false;
	fault->hits++;
	return true;
}

/* Chooses what happens to a request. */
void
fault_choose(Request *request)
{
	Fault	   *fault;

	for (fault = first; fault != NULL; fault = fault->next)
	{
		bool		device = fault->kind == FAULT_DEVICE_FAIL ||
			fault->kind == FAULT_DEVICE_LOST || fault->kind == FAULT_DEVICE_UNREPORTED;
		bool		delay = fault->kind == FAULT_LATENCY || fault->kind == FAULT_DEVICE_DELAY;

		if (device ? request->device_fault != DEVICE_FAULT_NONE :
			!delay && request->fault != NULL)
			continue;
		if (!meets(fault, request) || !strikes(fault))
			continue;
		if (fault->kind == FAULT_LATENCY && fault->before)
			request->delay_ms += fault->ms;
		else if (fault->kind == FAULT_LATENCY)
			request->latency_ms += fault->ms;
		else if (fault->kind == FAULT_DEVICE_DELAY)
			request->device_delay_ms += fault->ms;
		else if (device)
		{
			request->device_fault = fault->kind == FAULT_DEVICE_FAIL ? DEVICE_FAULT_FAIL :
				fault->kind == FAULT_DEVICE_LOST ? DEVICE_FAULT_LOST : DEVICE_FAULT_UNREPORTED;
			request->device_reason = intern(fault->message ? fault->message :
											"The device reported an error.");
		}
		else
		{
			request->fault = fault;
			fault->references++;
		}
	}
}

/* Does this fault strike before the request has had its effect? */
bool
fault_before_effect(const Fault *fault)
{
	switch (fault->kind)
	{
		case FAULT_TIMEOUT_BEFORE:
		case FAULT_RESET_BEFORE:
		case FAULT_TOKEN_EXPIRED:
		case FAULT_FORGET:
			return true;
		case FAULT_STATUS:
		case FAULT_REDIRECT:
			return !fault->effect;
		case FAULT_BODY:
			return fault->before;
		default:
			return false;
	}
}
