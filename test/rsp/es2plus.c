/*
 * es2plus.c
 *		An SM-DP+ as its operator sees it: ES2+ (SGP.22 5.3, 6.5), stock of
 *		profiles, and the devices that fetch them.
 *
 * States are those of SGP.22 3.1.6: Available, Allocated (ordered for any
 * eUICC), Linked (for one), Confirmed, Released, Downloaded, Installed, Error,
 * Unavailable.  A server whose stock was never set up makes profiles of any
 * type, and any ICCID, when they are ordered.
 *
 * Business failures are HTTP 200 with Failed.  What the model does not let
 * happen cannot be done twice, but for one thing: an order that leaves the
 * ICCID to the SM-DP+ takes another profile each time.  One that comes while
 * the answer to the like of it was never given is a double effect.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "rspsim.h"

#define ADMIN_PROTOCOL	"gsma/rsp/v2.5.0"
#define MAX_TEXT		255
#define MAX_CODE_TRIES	3
#define PAGE_LIMIT		10000

typedef enum State
{
	AVAILABLE,
	ALLOCATED,
	LINKED,
	CONFIRMED,
	RELEASED,
	DOWNLOADED,
	INSTALLED,
	ERROR,
	UNAVAILABLE
} State;

static const char *const state_names[] = {
	"Available", "Allocated", "Linked", "Confirmed", "Released", "Downloaded", "Installed",
	"Error", "Unavailable"
};

/* A profile at the SM-DP+. */
typedef struct Item
{
	Id			iccid;
	Id			eid;
	uint32_t	type;			/* index */
	uint32_t	next_free;		/* index + 1, in its type's queue */
	char	   *matching_id;	/* NULL: not confirmed; "": default SM-DP+ use */
	char	   *code;			/* confirmation code, NULL: none */
	uint16_t	server;
	uint8_t		state;
	uint8_t		code_tries;
	bool		has_eid;
	bool		smds;
	bool		forbidden;
	bool		queued;			/* in its type's queue */
	bool		unanswered;		/* ordered without an ICCID, and nobody was told */
} Item;

/* A profile type; its free profiles wait in order. */
typedef struct Type
{
	uint16_t	server;
	bool		forbidden;
	char	   *name;
	uint32_t	first;			/* index + 1 */
	uint32_t	last;
} Type;

typedef enum Smds
{
	SMDS_OK,
	SMDS_ERROR,
	SMDS_UNREACHABLE
} Smds;

/* Settings of a named server, beside those that all have. */
typedef struct Settings
{
	char	   *notify_url;
	char	   *requester;		/* NULL: any */
	char	   *smdp_address;	/* NULL: smdp.example.com */
	char	   *default_type;	/* NULL: "default" */
	bool		cmlink;			/* notifications and codes in CMLink's manner */
	bool		plain_iccid;	/* answers ICCIDs of 19 digits without padding */
	bool		full_iccid;		/* takes only ICCIDs of 20 places */
	bool		bare_iccid;		/* takes only ICCIDs without padding */
	bool		digits_only;	/* its schema knows no padding: HTTP 400 */
	bool		no_codes;		/* Failed without statusCodeData */
	bool		notify_v3;		/* HandleNotification, as version 3 has it */
	bool		accept_repeats; /* a confirmation that changes nothing is a success */
	bool		old_codes;		/* 3.1 for 3.10 */
	bool		warn;			/* Executed-WithWarning for Executed-Success */
	bool		auto_download;
	uint32_t	auto_ms;
	Smds		smds;
	bool		stocked;		/* has stock of its own */
} Settings;

typedef enum Endpoint
{
	DOWNLOAD_ORDER,
	CONFIRM_ORDER,
	CANCEL_ORDER,
	RELEASE_PROFILE,
	ENDPOINTS
} Endpoint;

static const struct
{
	const char *name;
	const char *label;
}			endpoints[ENDPOINTS] = {
	{"downloadOrder", "POST downloadOrder"},
	{"confirmOrder", "POST confirmOrder"},
	{"cancelOrder", "POST cancelOrder"},
	{"releaseProfile", "POST releaseProfile"},
};

static Pool items = {.width = sizeof(Item)};
static Pool types = {.width = sizeof(Type)};
static Pool holders = {.width = sizeof(uint32_t)};	/* of matching IDs: index + 1 */
static IdTable by_iccid;
static IdTable by_matching_id;	/* to holders */
static IdTable by_call;			/* functionCallIdentifiers that were used */
static Settings settings[MAX_SERVERS];
static uint64_t already_so;
static uint32_t nunanswered;
static uint64_t reused_calls;
static uint64_t made;
static uint64_t notified;
static uint32_t epoch;

static Item *
item_get(uint32_t index)
{
	return pool_get(&items, index);
}

static Type *
type_get(uint32_t index)
{
	return pool_get(&types, index);
}

static Settings *
settings_of(const Server *server)
{
	return &settings[server->index];
}

/* ---- stock ---- */

static Type *
type_find(const Server *server, const char *name, uint32_t *index)
{
	for (*index = 0; *index < types.count; (*index)++)
	{
		Type	   *type = type_get(*index);

		if (type->server == server->index && strcmp(type->name, name) == 0)
			return type;
	}
	return NULL;
}

static Type *
type_make(const Server *server, const char *name, uint32_t *index)
{
	Type	   *type = type_find(server, name, index);

	if (type == NULL)
	{
		type = pool_add(&types, index);
		type->server = server->index;
		type->name = xstrdup(name);
	}
	return type;
}

/* A profile has become available: it is the last in its type's queue. */
static void
queue_free(uint32_t index)
{
	Item	   *item = item_get(index);
	Type	   *type = type_get(item->type);

	item->state = AVAILABLE;
	if (item->queued)
		return;
	item->queued = true;
	item->next_free = 0;
	if (type->last != 0)
		item_get(type->last - 1)->next_free = index + 1;
	else
		type->first = index + 1;
	type->last = index + 1;
}

/* The next available profile of a type, UINT32_MAX if none is left. */
static uint32_t
take_free(Type *type)
{
	while (type->first != 0)
	{
		uint32_t	index = type->first - 1;
		Item	   *item = item_get(index);

		type->first = item->next_free;
		if (type->first == 0)
			type->last = 0;
		item->queued = false;
		/* one that was ordered by its ICCID is still in the queue */
		if (item->state == AVAILABLE && !item->forbidden)
			return index;
	}
	return UINT32_MAX;
}

static Item *
item_find(const Server *server, Id iccid, uint32_t *index)
{
	Item	   *item = idtable_find(&by_iccid, iccid, index) ? item_get(*index) : NULL;

	return item != NULL && item->server == server->index ? item : NULL;
}

/* NULL: another server has a profile of this ICCID. */
static Item *
item_make(const Server *server, Id iccid, const char *type_name, uint32_t *index)
{
	Item	   *item;
	uint32_t	type;

	if (idtable_find(&by_iccid, iccid, index))
		return NULL;
	type_make(server, type_name, &type);
	item = pool_add(&items, index);
	item->iccid = iccid;
	item->type = type;
	item->server = server->index;
	idtable_insert(&by_iccid, iccid, *index);
	queue_free(*index);
	return item;
}

static const char *
default_type(const Server *server)
{
	const char *name = settings_of(server)->default_type;

	return name != NULL ? name : "default";
}

/* A profile that nobody has stocked. */
static uint32_t
make_one(const Server *server, const char *type)
{
	uint32_t	index;

	while (item_make(server, iccid_make(mix64(simulator_seed ^ mix64(++made))), type,
					 &index) == NULL)
		;
	return index;
}

/* ---- what happened ---- */

/* A profile goes to another state; request NULL: by its device. */
static void
note(const char *what, uint32_t index, State to, const Request *request, bool twice)
{
	Item	   *item = item_get(index);
	char		iccid[ID_TEXT];

	id_format(item->iccid, iccid);
	deed_effect(what, request, server_by_index(item->server), iccid, state_names[item->state],
				state_names[to], twice);
	item->state = to;
}

/* ---- answers ---- */

static void
begin_answer(Request *request, const char *status, const char *subject, const char *reason,
			 const char *message)
{
	Buf		   *out = &request->out;

	buf_clear(out);
	request->status = 200;
	request->content_type = "application/json;charset=UTF-8";
	request->admin_protocol = ADMIN_PROTOCOL;
	buf_format(out, "{\"header\":{\"functionExecutionStatus\":{\"status\":\"%s\"", status);
	if (subject != NULL)
	{
		buf_format(out, ",\"statusCodeData\":{\"subjectCode\":\"%s\",\"reasonCode\":\"%s\",\"message\":",
				   subject, reason);
		buf_json(out, message);
		buf_text(out, "}");
	}
	buf_text(out, "}}");
}

static void
failed(Request *request, const char *subject, const char *reason, const char *message)
{
	if (settings_of(request->server)->old_codes && strcmp(reason, "3.10") == 0)
		reason = "3.1";
	if (settings_of(request->server)->no_codes)
		subject = NULL;
	begin_answer(request, "Failed", subject, reason, message);
	buf_text(&request->out, "}");
}

/* Ends with the body open, for further members. */
static void
executed(Request *request)
{
	Settings   *s = settings_of(request->server);

	if (s->warn)
		begin_answer(request, "Executed-WithWarning", "8.2.9", "4.3", "It went, but so so.");
	else if (s->cmlink)
		begin_answer(request, "Executed-Success", "0", "0", "Success");
	else
		begin_answer(request, "Executed-Success", NULL, NULL, NULL);
}

/* An ICCID with its padding. */
static void
put_iccid(Buf *out, Id iccid, bool padded)
{
	char		text[ID_TEXT];

	id_format(iccid, text);
	buf_format(out, "\"%s%s\"", text, padded && strlen(text) == 19 ? "F" : "");
}

/*
 * Errors of the HTTP front.  A fault's code like "8.2.5/3.7" is an answer of
 * ES2+; anything else is what a gateway would say.
 */
void
es2plus_error(Request *request, int status, const char *code, const char *message)
{
	const char *slash = strchr(code, '/');
	char		subject[32];

	if (slash != NULL && slash - code < (ptrdiff_t) sizeof(subject))
	{
		snprintf(subject, sizeof(subject), "%.*s", (int) (slash - code), code);
		begin_answer(request, "Failed", subject, slash + 1, message);
		buf_text(&request->out, "}");
		request->status = status;
		return;
	}
	buf_clear(&request->out);
	request->status = status;
	request->content_type = "text/plain";
	buf_format(&request->out, "%d %s\n", status, message);
}

/* ---- requests ---- */

/* ICCID of 18 to 20 digits, filled up with F to at most 20 places. */
static bool
parse_iccid(const char *text, size_t length, Id *iccid)
{
	size_t		digits = strspn(text, "0123456789");

	return digits + strspn(text + digits, "F") == length && length <= 20 &&
		id_parse(text, digits, 18, 20, iccid);
}

static bool
get_iccid(json_t *json, Id *iccid)
{
	json_t	   *value = json_object_get(json, "iccid");

	return json_is_string(value) &&
		parse_iccid(json_string_value(value), json_string_length(value), iccid);
}

static bool
get_eid(json_t *json, Id *eid)
{
	json_t	   *value = json_object_get(json, "eid");

	return json_is_string(value) &&
		id_parse(json_string_value(value), json_string_length(value), 32, 32, eid);
}

/* Names the function and finds the identifiers. */
void
es2plus_identify(Request *request)
{
	const char *name = *request->path == '/' ? request->path + 1 : "";
	int			i;

	for (i = 0; i < ENDPOINTS && strcmp(name, endpoints[i].name) != 0; i++)
		;
	request->endpoint = i;
	request->label = i == ENDPOINTS ? "unknown path" :
		strcmp(request->method, "POST") != 0 ? "other method" : endpoints[i].label;
	if (request->body.length == 0)
		return;
	request->json = json_loadb(request->body.data, request->body.length, JSON_REJECT_DUPLICATES,
							   NULL);
	request->has_eid = get_eid(request->json, &request->eid);
	request->has_iccid = get_iccid(request->json, &request->iccid);
}

static const struct
{
	const char *name;
	unsigned	functions;		/* bits by Endpoint: may have it */
	unsigned	required;		/* must have it */
	json_type	type;
	const char *subject;		/* where it is wrong or missing */
}			members[] = {
	{"header", 0xf, 0xf, JSON_OBJECT, "1.3.1"},
	{"eid", 0x7, 0, JSON_STRING, "8.1.1"},
	{"iccid", 0xf, 0xe, JSON_STRING, "8.2.1"},
	{"profileType", 0x1, 0, JSON_STRING, "8.2.5"},
	{"matchingId", 0x6, 0, JSON_STRING, "8.2.6"},
	{"confirmationCode", 0x2, 0, JSON_STRING, "8.2.7"},
	{"smdsAddress", 0x2, 0, JSON_STRING, "8.9.1"},
	{"releaseFlag", 0x2, 0x2, JSON_TRUE, "1.3.1"},
	{"finalProfileStatusIndicator", 0x4, 0x4, JSON_STRING, "8.2.1"},
};

#define MEMBERS (sizeof(members) / sizeof(members[0]))

/* true: an answer was made, the request does not fit the function's schema */
static bool
refuse_schema(Request *request)
{
	unsigned	bit = 1u << request->endpoint;
	const char *key;
	json_t	   *value;
	char		message[160];
	size_t		i;

	for (i = 0; i < MEMBERS; i++)
	{
		value = json_object_get(request->json, members[i].name);
		if (value == NULL && (members[i].required & bit))
		{
			snprintf(message, sizeof(message), "%s is missing.", members[i].name);
			failed(request, members[i].subject, "2.2", message);
			return true;
		}
	}
	json_object_foreach(request->json, key, value)
	{
		for (i = 0; i < MEMBERS && strcmp(key, members[i].name) != 0; i++)
			;
		if (i == MEMBERS || !(members[i].functions & bit))
		{
			snprintf(message, sizeof(message), "%.64s is not known.", key);
			failed(request, "1.3.1", "2.1", message);
			return true;
		}
		if (members[i].type == JSON_TRUE ? !json_is_boolean(value) :
			json_typeof(value) != members[i].type ||
			(json_is_string(value) && json_string_length(value) > MAX_TEXT))
		{
			snprintf(message, sizeof(message), "%s is of a wrong type or too long.", key);
			failed(request, members[i].subject, "2.1", message);
			return true;
		}
	}
	if (json_object_get(request->json, "eid") != NULL && !request->has_eid)
	{
		failed(request, "8.1.1", "2.1", "eid does not match ^[0-9]{32}$.");
		return true;
	}
	value = json_object_get(request->json, "iccid");
	if (value != NULL && settings_of(request->server)->digits_only &&
		strchr(json_string_value(value), 'F') != NULL)
	{
		es2plus_error(request, 400, "INVALID_ARGUMENT", "iccid does not match ^[0-9]{19,20}$.");
		return true;
	}
	if (value != NULL &&
		(!request->has_iccid || (settings_of(request->server)->full_iccid &&
								 json_string_length(value) != 20) ||
		 (settings_of(request->server)->bare_iccid &&
		  strchr(json_string_value(value), 'F') != NULL)))
	{
		failed(request, "8.2.1", "2.1", "iccid is malformed.");
		return true;
	}
	return false;
}

/* true: an answer was made, the request's header object is not as it should be */
static bool
refuse_header(Request *request)
{
	json_t	   *header = json_object_get(request->json, "header");
	const char *requester = json_string_value(json_object_get(header, "functionRequesterIdentifier"));
	const char *wanted = settings_of(request->server)->requester;
	const char *call_id = json_string_value(json_object_get(header, "functionCallIdentifier"));
	size_t		length;
	uint32_t	index;
	Id			key;

	if (requester == NULL || *requester == '\0' || call_id == NULL || *call_id == '\0' ||
		json_object_size(header) != 2)
	{
		failed(request, "1.3.1", "2.2",
			   "header has functionRequesterIdentifier and functionCallIdentifier.");
		return true;
	}
	if (wanted != NULL && strcmp(requester, wanted) != 0)
	{
		failed(request, "1.1", "1.1", "The function requester is not known.");
		return true;
	}
	length = strlen(call_id);
	key.high = hash_bytes(call_id, length, request->server->index);
	key.low = hash_bytes(call_id, length, ~(uint64_t) request->server->index);
	if (idtable_find(&by_call, key, &index))
	{
		reused_calls++;
		failed(request, "1.6", "3.3", "functionCallIdentifier was used before.");
		return true;
	}
	idtable_insert(&by_call, key, 0);
	return false;
}

/* Somebody knows of the order after all. */
static void
settle(Item *item)
{
	nunanswered -= item->unanswered;
	item->unanswered = false;
}

/* Has the like of this order been carried out without anybody being told? */
static bool
order_again(const Request *request, uint32_t type)
{
	uint32_t	index;

	for (index = nunanswered > 0 ? items.count : 0; index > 0; index--)
	{
		const Item *item = item_get(index - 1);

		if (item->unanswered && item->server == request->server->index && item->type == type &&
			item->has_eid == request->has_eid &&
			(!item->has_eid || id_equal(item->eid, request->eid)))
			return true;
	}
	return false;
}

static void
download_order(Request *request)
{
	Server	   *server = request->server;
	Settings   *s = settings_of(server);
	const char *name = json_string_value(json_object_get(request->json, "profileType"));
	bool		chosen = !request->has_iccid;
	bool		twice = false;
	Type	   *type;
	Item	   *item;
	uint32_t	type_index = 0;
	uint32_t	index;
	uint32_t	euicc;

	if (request->has_eid && euicc_seen(request->eid, &euicc) == NULL)
	{
		failed(request, "8.1.1", "3.9", "The EID is not known.");
		return;
	}
	if (name == NULL && chosen)
		name = default_type(server);
	if (name != NULL)
	{
		type = s->stocked ? type_find(server, name, &type_index) :
			type_make(server, name, &type_index);
		if (type == NULL)
		{
			failed(request, "8.2.5", "3.9", "The profile type is not known.");
			return;
		}
		if (type->forbidden)
		{
			failed(request, "8.2.5", "1.2", "The profile type is another's.");
			return;
		}
	}
	if (chosen)
	{
		index = take_free(type_get(type_index));
		if (index == UINT32_MAX && !s->stocked)
		{
			make_one(server, name);
			index = take_free(type_get(type_index));
		}
		if (index == UINT32_MAX)
		{
			failed(request, "8.2.5", "3.7", "No profile of this type is left.");
			return;
		}
		twice = order_again(request, type_index);
		item = item_get(index);
	}
	else
	{
		item = item_find(server, request->iccid, &index);
		if (item == NULL && !s->stocked)
			item = item_make(server, request->iccid, name != NULL ? name : default_type(server),
							 &index);
		if (item == NULL)
		{
			failed(request, "8.2.1", "3.9", "The ICCID is not known.");
			return;
		}
		if (item->forbidden)
		{
			failed(request, "8.2.1", "1.2", "The profile is another's.");
			return;
		}
		if (item->state != AVAILABLE)
		{
			failed(request, "8.2.1", "3.3", "The profile is not available.");
			return;
		}
		if (name != NULL && item->type != type_index)
		{
			failed(request, "8.2.5", "3.8", "The profile is of another type.");
			return;
		}
	}
	item->has_eid = request->has_eid;
	item->eid = request->eid;
	item->unanswered = chosen && !request->answered_plainly;
	nunanswered += item->unanswered;
	note("ordered", index, request->has_eid ? LINKED : ALLOCATED, request, twice);
	executed(request);
	buf_text(&request->out, ",\"iccid\":");
	put_iccid(&request->out, item->iccid, !s->plain_iccid);
	buf_text(&request->out, "}");
}

static bool
matching_id_valid(const char *text)
{
	for (; *text != '\0'; text++)
		if (!isalnum((unsigned char) *text) && *text != '-')
			return false;
	return true;
}

/* The profile that has, or had, this matching ID; index + 1. */
static uint32_t *
holder_of(const Server *server, const char *matching_id)
{
	size_t		length = strlen(matching_id);
	uint32_t	index;
	uint32_t   *holder;
	Id			key;

	key.high = hash_bytes(matching_id, length, server->index);
	key.low = hash_bytes(matching_id, length, ~(uint64_t) server->index);
	if (idtable_find(&by_matching_id, key, &index))
		return pool_get(&holders, index);
	holder = pool_add(&holders, &index);
	idtable_insert(&by_matching_id, key, index);
	return holder;
}

static bool
has_matching_id(uint32_t index, const char *text)
{
	const Item *item = item_get(index);

	return item->matching_id != NULL && strcmp(item->matching_id, text) == 0;
}

/* true: an answer was made, the SM-DS is not to be had */
static bool
refuse_smds(Request *request, bool used)
{
	switch (used ? settings_of(request->server)->smds : SMDS_OK)
	{
		case SMDS_ERROR:
			failed(request, "8.9", "4.2", "The SM-DS has raised an error.");
			return true;
		case SMDS_UNREACHABLE:
			failed(request, "8.9", "5.1", "The SM-DS cannot be reached.");
			return true;
		case SMDS_OK:
			break;
	}
	return false;
}

/* The profile of a request other than downloadOrder; NULL: an answer was made. */
static Item *
ordered_item(Request *request, uint32_t *index)
{
	Item	   *item = item_find(request->server, request->iccid, index);

	if (item == NULL)
		failed(request, "8.2.1", "3.9", "The ICCID is not known.");
	else if (item->forbidden)
	{
		failed(request, "8.2.1", "1.2", "The profile is another's.");
		item = NULL;
	}
	return item;
}

/* What a request asks for is so already.  ES2+ has nothing to ask by before. */
static void
repeated(const Request *request, const char *what)
{
	char		iccid[ID_TEXT];

	already_so++;
	id_format(request->iccid, iccid);
	deed_repeat(what, request, iccid, true);
}

static void device_comes(void *subject, uint32_t index);

static void
released(const Server *server, uint32_t index)
{
	const Item *item = item_get(index);
	const Settings *s = settings_of(server);

	if (s->auto_download && item->has_eid)
		timer_add(clock_ms() + s->auto_ms, device_comes, (void *) (uintptr_t) epoch, index);
}

static void
answer_confirmed(Request *request, const Item *item)
{
	const Settings *s = settings_of(request->server);
	Buf		   *out = &request->out;

	executed(request);
	buf_text(out, ",\"matchingId\":");
	buf_json(out, item->matching_id);
	if (item->has_eid)
	{
		buf_text(out, ",\"eid\":");
		buf_id(out, item->eid);
	}
	buf_text(out, ",\"smdpAddress\":");
	buf_json(out, s->smdp_address != NULL ? s->smdp_address : "smdp.example.com");
	buf_text(out, "}");
}

static void
confirm_order(Request *request)
{
	const char *matching_id = json_string_value(json_object_get(request->json, "matchingId"));
	const char *code = json_string_value(json_object_get(request->json, "confirmationCode"));
	bool		smds = json_object_get(request->json, "smdsAddress") != NULL;
	bool		release = json_is_true(json_object_get(request->json, "releaseFlag"));
	char		made_id[32];
	uint32_t   *holder;
	uint32_t	euicc;
	uint32_t	index;
	uint64_t	hash;
	Item	   *item = ordered_item(request, &index);

	if (item == NULL)
		return;
	if (request->has_eid && euicc_seen(request->eid, &euicc) == NULL)
	{
		failed(request, "8.1.1", "3.9", "The EID is not known.");
		return;
	}
	if (request->has_eid && item->has_eid && !id_equal(item->eid, request->eid))
	{
		failed(request, "8.1.1", "3.10", "Another EID is associated with the ICCID.");
		return;
	}
	if (!request->has_eid && !item->has_eid && (smds || (matching_id != NULL && *matching_id == '\0')))
	{
		failed(request, "8.1.1", "2.2", "The EID is missing.");
		return;
	}
	if (matching_id != NULL && !matching_id_valid(matching_id))
	{
		failed(request, "8.2.6", "2.1", "The MatchingID is malformed.");
		return;
	}
	if (item->state != ALLOCATED && item->state != LINKED)
	{
		bool		same = matching_id != NULL && has_matching_id(index, matching_id) &&
			item->state == (release ? RELEASED : CONFIRMED);

		if (same)
			repeated(request, "order-confirmed");
		if (same && settings_of(request->server)->accept_repeats)
			answer_confirmed(request, item);
		else
			failed(request, "8.2.1", "3.3", "The profile is not ordered, or confirmed.");
		return;
	}
	holder = holder_of(request->server, matching_id != NULL ? matching_id : "");
	if (matching_id != NULL && *matching_id != '\0' && *holder != 0 &&
		has_matching_id(*holder - 1, matching_id))
	{
		failed(request, "8.2.6", "3.3", "The MatchingID is in use.");
		return;
	}
	if (refuse_smds(request, smds))
		return;

	if (matching_id == NULL)
	{
		hash = mix64(simulator_seed ^ mix64(index) ^ wall_ms());
		snprintf(made_id, sizeof(made_id), "%05X-%05X-%05X-%05X", (unsigned) (hash & 0xfffff),
				 (unsigned) (hash >> 20 & 0xfffff), (unsigned) (hash >> 40 & 0xfffff),
				 (unsigned) index & 0xfffff);
		matching_id = made_id;
	}
	if (request->has_eid)
	{
		item->has_eid = true;
		item->eid = request->eid;
	}
	free(item->matching_id);
	item->matching_id = xstrdup(matching_id);
	if (*matching_id != '\0')
		*holder_of(request->server, matching_id) = index + 1;
	free(item->code);
	item->code = code != NULL ? xstrdup(code) : NULL;
	item->code_tries = 0;
	item->smds = smds;
	settle(item);
	note("order-confirmed", index, release ? RELEASED : CONFIRMED, request, false);
	if (release)
		released(request->server, index);
	answer_confirmed(request, item);
}

static void
release_profile(Request *request)
{
	uint32_t	index;
	Item	   *item = ordered_item(request, &index);

	if (item == NULL)
		return;
	if (item->state != CONFIRMED)
	{
		if (item->state == RELEASED)
			repeated(request, "released");
		failed(request, "8.2.1", "3.5", "The profile cannot be released.");
		return;
	}
	if (refuse_smds(request, item->smds))
		return;
	note("released", index, RELEASED, request, false);
	released(request->server, index);
	executed(request);
	buf_text(&request->out, "}");
}

static void
cancel_order(Request *request)
{
	const char *matching_id = json_string_value(json_object_get(request->json, "matchingId"));
	const char *final = json_string_value(json_object_get(request->json,
														  "finalProfileStatusIndicator"));
	bool		back = strcmp(final, "Available") == 0;
	uint32_t	index;
	Item	   *item;

	if (!back && strcmp(final, "Unavailable") != 0)
	{
		failed(request, "8.2.1", "2.1", "finalProfileStatusIndicator is Available or Unavailable.");
		return;
	}
	item = ordered_item(request, &index);
	if (item == NULL)
		return;
	if (request->has_eid && (!item->has_eid || !id_equal(item->eid, request->eid)))
	{
		failed(request, "8.1.1", "3.10", "Another EID is associated with the ICCID.");
		return;
	}
	if (item->matching_id != NULL && matching_id == NULL && *item->matching_id != '\0')
	{
		failed(request, "8.2.6", "2.2", "The MatchingID is missing.");
		return;
	}
	if (matching_id != NULL &&
		strcmp(matching_id, item->matching_id != NULL ? item->matching_id : "") != 0)
	{
		failed(request, "8.2.6", "3.10", "Another MatchingID is associated with the ICCID.");
		return;
	}
	if (item->state == AVAILABLE || item->state == UNAVAILABLE || item->state == DOWNLOADED ||
		item->state == INSTALLED)
	{
		failed(request, "8.2.1", "3.3", "The profile is not ordered, or downloaded.");
		return;
	}
	if (refuse_smds(request, item->smds))
		return;
	free(item->matching_id);
	free(item->code);
	item->matching_id = item->code = NULL;
	item->has_eid = item->smds = false;
	settle(item);
	note("order-cancelled", index, back ? AVAILABLE : UNAVAILABLE, request, false);
	if (back)
		queue_free(index);
	executed(request);
	buf_text(&request->out, "}");
}

static bool
admin_protocol_valid(const char *text)
{
	int			x,
				y,
				end = 0;

	return text != NULL && sscanf(text, "gsma/rsp/v2.%d.%d%n", &x, &y, &end) == 2 &&
		text[end] == '\0' && x >= 0 && y >= 0;
}

void
es2plus_handle(Request *request)
{
	const char *type = http_header(request, "Content-Type");

	if (request->endpoint == ENDPOINTS)
	{
		es2plus_error(request, 404, "NOT_FOUND", "There is no such function.");
		return;
	}
	if (strcmp(request->method, "POST") != 0)
	{
		es2plus_error(request, 405, "METHOD_NOT_ALLOWED", "Functions are called by POST.");
		return;
	}
	if (!token_check(request, 0))
		return;
	if (type == NULL || strncasecmp(type, "application/json", 16) != 0)
	{
		es2plus_error(request, 415, "UNSUPPORTED_MEDIA_TYPE", "The content is application/json.");
		return;
	}
	if (!json_is_object(request->json))
	{
		es2plus_error(request, 400, "INVALID_ARGUMENT", "The body is no JSON object.");
		return;
	}
	if (!admin_protocol_valid(http_header(request, "X-Admin-Protocol")))
	{
		failed(request, "1.3.2", "2.1", "X-Admin-Protocol is gsma/rsp/v2.x.y.");
		return;
	}
	if (refuse_header(request) || refuse_schema(request))
		return;
	switch ((Endpoint) request->endpoint)
	{
		case DOWNLOAD_ORDER:
			download_order(request);
			break;
		case CONFIRM_ORDER:
			confirm_order(request);
			break;
		case CANCEL_ORDER:
			cancel_order(request);
			break;
		case RELEASE_PROFILE:
			release_profile(request);
			break;
		case ENDPOINTS:
			break;
	}
}

/* ---- notifications ---- */

/*
 * HandleDownloadProgressInfo of a profile, or HandleNotification, to the
 * server's notify_url.
 */
static void
send_progress(const Item *item, bool has_eid, Id eid, int point, const char *status,
			  const char *subject, const char *reason)
{
	Server	   *server = server_by_index(item->server);
	const Settings *s = settings_of(server);
	const char *number = s->notify_v3 ? "notificationEvent" : "notificationPointId";
	Buf			out = {0};

	if (s->notify_url == NULL)
		return;
	buf_format(&out, "{\"header\":{\"functionRequesterIdentifier\":\"%s\","
			   "\"functionCallIdentifier\":\"rspsim-%" PRIu64 "\"}", server->name, ++notified);
	if (has_eid)
	{
		buf_text(&out, ",\"eid\":");
		buf_id(&out, eid);
	}
	buf_text(&out, ",\"iccid\":");
	put_iccid(&out, item->iccid, !s->plain_iccid);
	buf_text(&out, ",\"profileType\":");
	buf_json(&out, type_get(item->type)->name);
	if (s->cmlink)
		buf_format(&out, ",\"timeStamp\":\"%" PRIu64 "\",\"%s\":\"%d\"",
				   wall_ms() / 1000, number, point);
	else
	{
		time_t		seconds = wall_ms() / 1000;
		char		text[32];
		struct tm	tm;

		gmtime_r(&seconds, &tm);
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
		buf_format(&out, ",\"timestamp\":\"%s\",\"%s\":%d", text, number, point);
	}
	buf_format(&out, ",\"%s\":{\"status\":\"%s\"",
			   s->notify_v3 ? "notificationEventStatus" : "notificationPointStatus", status);
	if (subject != NULL || s->cmlink)
		buf_format(&out, ",\"statusCodeData\":{\"subjectCode\":\"%s\",\"reasonCode\":\"%s\"}",
				   subject != NULL ? subject : "0", reason != NULL ? reason : "0");
	buf_text(&out, "}");
	if (point == 4)
		buf_text(&out, ",\"resultData\":\"vzcA\"");
	buf_text(&out, "}");
	outbound_send("POST", s->notify_url, "application/json", "X-Admin-Protocol: " ADMIN_PROTOCOL,
				out.data);
	buf_free(&out);
}

/* ---- devices ---- */

/* What a device brings along, and what is to go wrong. */
typedef struct Visit
{
	Id			eid;
	const char *code;			/* confirmation code, NULL: none */
	int			fail_point;		/* 0: none */
	const char *subject;		/* of that failure */
	const char *reason;
	int			until;			/* the last point that it gets to */
} Visit;

static bool
put_on_euicc(Id eid, Id iccid)
{
	uint32_t	euicc;
	uint32_t	profile;

	euicc_make(eid, &euicc);
	if (euicc_get(euicc)->profiles >= euicc_get(euicc)->memory)
		return false;
	if (profile_make(iccid, &profile)->state != PROFILE_ABSENT)
		return false;
	profile_attach(profile, euicc);
	ledger_effect(EFFECT_DOWNLOADED, CAUSE_DEVICE, UINT32_MAX, euicc, profile, PROFILE_ABSENT,
				  PROFILE_DISABLED);
	return true;
}

/*
 * A device asks for a profile, and the SM-DP+ tells the operator at each point.
 * Gives what became of it.
 */
static const char *
visit(uint32_t index, const Visit *v)
{
	Item	   *item = item_get(index);

	if (item->state != RELEASED && item->state != DOWNLOADED)
		return "8.2/1.2";
	if (v->fail_point == 1 || (item->has_eid && !id_equal(item->eid, v->eid)))
	{
		bool		asked = v->fail_point == 1;

		send_progress(item, true, v->eid, 1, "Failed", asked ? v->subject : "8.1.1",
					  asked ? v->reason : "3.8");
		return "failed at 1";
	}
	send_progress(item, true, v->eid, 1, "Executed-Success", NULL, NULL);
	if (v->until == 1)
		return "1";
	if (v->fail_point == 2 ||
		(item->code != NULL && (v->code == NULL || strcmp(v->code, item->code) != 0)))
	{
		bool		over = v->fail_point != 2 && ++item->code_tries >= MAX_CODE_TRIES;

		send_progress(item, true, v->eid, 2, "Failed", v->fail_point == 2 ? v->subject : "8.2.7",
					  v->fail_point == 2 ? v->reason : over ? "6.4" :
					  v->code == NULL ? "2.2" : "3.8");
		if (over)
			note("order-error", index, ERROR, NULL, false);
		return "failed at 2";
	}
	if (v->until == 2)
		return "2";
	if (v->fail_point == 3)
	{
		send_progress(item, true, v->eid, 3, "Failed", v->subject, v->reason);
		return "failed at 3";
	}
	/* from now on it is this eUICC's */
	item->has_eid = true;
	item->eid = v->eid;
	if (item->state != DOWNLOADED)
		note("fetched", index, DOWNLOADED, NULL, false);
	send_progress(item, true, v->eid, 3, "Executed-Success", NULL, NULL);
	if (v->until == 3)
		return "downloaded";
	if (v->fail_point == 4 || !put_on_euicc(v->eid, item->iccid))
	{
		note("order-error", index, ERROR, NULL, false);
		send_progress(item, true, v->eid, 4, "Failed", v->fail_point == 4 ? v->subject : "8.1",
					  v->fail_point == 4 ? v->reason : "4.8");
		return "failed at 4";
	}
	note("installed", index, INSTALLED, NULL, false);
	send_progress(item, true, v->eid, 4, "Executed-Success", NULL, NULL);
	return "installed";
}

/* The device that an order is for has come by itself. */
static void
device_comes(void *subject, uint32_t index)
{
	Item	   *item;
	Visit		v;

	if ((uint32_t) (uintptr_t) subject != epoch)
		return;
	item = item_get(index);
	if (item->state != RELEASED || !item->has_eid)
		return;
	memset(&v, 0, sizeof(v));
	v.eid = item->eid;
	v.code = item->code;
	v.until = 4;
	visit(index, &v);
}

/* ---- settings and stock ---- */

static bool
set_text(char **target, json_t *value)
{
	if (!json_is_string(value) && !json_is_null(value))
		return false;
	free(*target);
	*target = json_is_string(value) ? xstrdup(json_string_value(value)) : NULL;
	return true;
}

static bool
set_flag(bool *target, json_t *value)
{
	*target = json_is_true(value);
	return json_is_boolean(value);
}

/*
 * Applies the member "es2plus" of a server's settings.  False, with a message,
 * at the first one that is unknown or wrong.
 */
bool
es2plus_configure(Server *server, json_t *config, char *error, size_t size)
{
	Settings   *s = settings_of(server);
	const char *key;
	json_t	   *value;

	if (!json_is_object(config))
	{
		snprintf(error, size, "es2plus is an object");
		return false;
	}
	json_object_foreach(config, key, value)
	{
		const char *text = json_is_string(value) ? json_string_value(value) : "";
		bool		good = false;

		if (strcmp(key, "notify_url") == 0)
			good = set_text(&s->notify_url, value);
		else if (strcmp(key, "requester") == 0)
			good = set_text(&s->requester, value);
		else if (strcmp(key, "smdp_address") == 0)
			good = set_text(&s->smdp_address, value);
		else if (strcmp(key, "default_type") == 0)
			good = set_text(&s->default_type, value);
		else if (strcmp(key, "cmlink") == 0)
			good = set_flag(&s->cmlink, value);
		else if (strcmp(key, "plain_iccid") == 0)
			good = set_flag(&s->plain_iccid, value);
		else if (strcmp(key, "full_iccid") == 0)
			good = set_flag(&s->full_iccid, value);
		else if (strcmp(key, "bare_iccid") == 0)
			good = set_flag(&s->bare_iccid, value);
		else if (strcmp(key, "digits_only") == 0)
			good = set_flag(&s->digits_only, value);
		else if (strcmp(key, "no_codes") == 0)
			good = set_flag(&s->no_codes, value);
		else if (strcmp(key, "notify_v3") == 0)
			good = set_flag(&s->notify_v3, value);
		else if (strcmp(key, "accept_repeats") == 0)
			good = set_flag(&s->accept_repeats, value);
		else if (strcmp(key, "old_codes") == 0)
			good = set_flag(&s->old_codes, value);
		else if (strcmp(key, "warn") == 0)
			good = set_flag(&s->warn, value);
		else if (strcmp(key, "auto_download_ms") == 0)
		{
			good = json_is_null(value) || (json_is_integer(value) && json_integer_value(value) >= 0 &&
										   json_integer_value(value) <= INT32_MAX);
			s->auto_download = json_is_integer(value);
			s->auto_ms = json_integer_value(value);
		}
		else if (strcmp(key, "smds") == 0)
		{
			good = strcmp(text, "ok") == 0 || strcmp(text, "error") == 0 ||
				strcmp(text, "unreachable") == 0;
			s->smds = *text == 'e' ? SMDS_ERROR : *text == 'u' ? SMDS_UNREACHABLE : SMDS_OK;
		}
		if (!good)
		{
			snprintf(error, size, "es2plus.%.64s is unknown or has a wrong value", key);
			return false;
		}
	}
	return true;
}

/* The server that a control call is about: "server", else main. */
static Server *
server_of(json_t *item)
{
	json_t	   *name = json_object_get(item, "server");

	if (name == NULL)
		return server_get("main", 4);
	return json_is_string(name) ? server_get(json_string_value(name), json_string_length(name)) :
		NULL;
}

/*
 * Stocks profiles: {"server", "profile_type", "count", "forbidden"}, or one
 * with "iccid".
 */
static bool
add_stock(json_t *item, char *error, size_t size)
{
	Server	   *server = server_of(item);
	json_t	   *name = json_object_get(item, "profile_type");
	json_t	   *number = json_object_get(item, "count");
	bool		forbidden = json_is_true(json_object_get(item, "forbidden"));
	bool		one = json_object_get(item, "iccid") != NULL;
	json_int_t	count = json_is_integer(number) ? json_integer_value(number) : 0;
	const char *type;
	uint32_t	index;
	Item	   *made_item;
	Id			iccid;

	if (server == NULL || (name != NULL && !json_is_string(name)) ||
		(number != NULL && (!json_is_integer(number) || count < 0 || count > 10000000)) ||
		(one && !get_iccid(item, &iccid)))
	{
		snprintf(error, size, "stock has server, profile_type, count or iccid, forbidden");
		return false;
	}
	type = name != NULL ? json_string_value(name) : default_type(server);
	settings_of(server)->stocked = true;
	type_make(server, type, &index);
	if (one)
	{
		made_item = item_make(server, iccid, type, &index);
		if (made_item == NULL)
		{
			snprintf(error, size, "the ICCID is in stock already");
			return false;
		}
		made_item->forbidden = forbidden;
	}
	else
		type_get(index)->forbidden = forbidden;
	while (count-- > 0)
		make_one(server, type);
	return true;
}

/* The profile that a code or a matching ID lets an eUICC have. */
static bool
find_for_device(Server *server, json_t *visit, Id eid, uint32_t *index)
{
	json_t	   *code = json_object_get(visit, "activation_code");
	json_t	   *id = json_object_get(visit, "matching_id");
	const char *text = json_is_string(id) ? json_string_value(id) : "";
	char		matching_id[MAX_TEXT + 1] = "";
	Id			iccid;

	if (get_iccid(visit, &iccid))
		return item_find(server, iccid, index) != NULL;
	if (json_is_string(code))
	{
		/* the third field */
		text = strchr(json_string_value(code), '$');
		text = text != NULL ? strchr(text + 1, '$') : NULL;
		if (text == NULL)
			return false;
		text++;
	}
	snprintf(matching_id, sizeof(matching_id), "%.*s", (int) strcspn(text, "$"), text);
	if (matching_id[0] != '\0')
	{
		*index = *holder_of(server, matching_id) - 1;
		return *index != UINT32_MAX && has_matching_id(*index, matching_id);
	}
	for (*index = 0; *index < items.count; (*index)++)
	{
		const Item *item = item_get(*index);

		if (item->server == server->index && has_matching_id(*index, "") &&
			(item->state == RELEASED || item->state == DOWNLOADED) &&
			item->has_eid && id_equal(item->eid, eid))
			return true;
	}
	return false;
}

/*
 * A device comes: {"server", "eid", one of "activation_code", "matching_id",
 * "iccid" or nothing (default SM-DP+), "confirmation_code", "until",
 * "fail_point", "subject", "reason"}.  The outcome goes into the answer.
 */
static bool
device_downloads(json_t *item, Buf *out, char *error, size_t size)
{
	Server	   *server = server_of(item);
	uint32_t	index;
	Visit		v;

	memset(&v, 0, sizeof(v));
	if (server == NULL || !get_eid(item, &v.eid))
	{
		snprintf(error, size, "a download has eid, and activation_code, matching_id, iccid or none");
		return false;
	}
	if (!find_for_device(server, item, v.eid, &index))
	{
		snprintf(error, size, "there is nothing for this eUICC");
		return false;
	}
	v.code = json_string_value(json_object_get(item, "confirmation_code"));
	v.fail_point = (int) json_integer_value(json_object_get(item, "fail_point"));
	v.subject = json_string_value(json_object_get(item, "subject"));
	v.reason = json_string_value(json_object_get(item, "reason"));
	if (v.subject == NULL || v.reason == NULL)
	{
		v.subject = "8.2.10";
		v.reason = "4.2";
	}
	v.until = json_is_integer(json_object_get(item, "until")) ?
		(int) json_integer_value(json_object_get(item, "until")) : 4;
	buf_text(out, "{\"iccid\":");
	buf_id(out, item_get(index)->iccid);
	buf_format(out, ",\"outcome\":\"%s\"", visit(index, &v));
	buf_format(out, ",\"state\":\"%s\"}", state_names[item_get(index)->state]);
	return true;
}

/*
 * Sends a notification as it is told: {"server", "iccid", "eid", "point",
 * "status", "subject", "reason"}.
 */
static bool
send_notification(json_t *item, char *error, size_t size)
{
	Server	   *server = server_of(item);
	json_t	   *status = json_object_get(item, "status");
	uint32_t	index;
	Item	   *profile;
	Id			iccid;
	Id			eid = {0, 0};
	bool		has_eid = get_eid(item, &eid);

	if (server == NULL || !get_iccid(item, &iccid) ||
		!json_is_integer(json_object_get(item, "point")) ||
		(profile = item_find(server, iccid, &index)) == NULL)
	{
		snprintf(error, size, "a notification has the iccid of a profile in stock, and point");
		return false;
	}
	send_progress(profile, has_eid, eid, (int) json_integer_value(json_object_get(item, "point")),
				  json_is_string(status) ? json_string_value(status) : "Executed-Success",
				  json_string_value(json_object_get(item, "subject")),
				  json_string_value(json_object_get(item, "reason")));
	return true;
}

/* ---- control ---- */

static void
item_json(Buf *out, const Item *item)
{
	buf_text(out, "{\"iccid\":");
	buf_id(out, item->iccid);
	buf_format(out, ",\"server\":\"%s\",\"profile_type\":", server_by_index(item->server)->name);
	buf_json(out, type_get(item->type)->name);
	buf_format(out, ",\"state\":\"%s\",\"eid\":", state_names[item->state]);
	if (item->has_eid)
		buf_id(out, item->eid);
	else
		buf_text(out, "null");
	buf_text(out, ",\"matching_id\":");
	if (item->matching_id != NULL)
		buf_json(out, item->matching_id);
	else
		buf_text(out, "null");
	buf_format(out, ",\"confirmation_code\":%s,\"smds\":%s}", item->code ? "true" : "false",
			   item->smds ? "true" : "false");
}

static uint32_t
query_number(Request *request, const char *name, uint32_t usual)
{
	const char *text = http_query(request, name);
	unsigned long number = text != NULL ? strtoul(text, NULL, 10) : usual;

	return number > UINT32_MAX - 1 ? UINT32_MAX - 1 : (uint32_t) number;
}

/* Profiles at the SM-DP+: of ?iccid=, else a page of all. */
static void
show_profiles(Request *request)
{
	const char *text = http_query(request, "iccid");
	uint32_t	index = query_number(request, "from", 0);
	uint32_t	limit = query_number(request, "limit", 1000);
	const char *comma = "";
	Buf		   *out = &request->out;
	Id			iccid;

	if (limit > PAGE_LIMIT)
		limit = PAGE_LIMIT;
	buf_text(out, "{\"profiles\":[");
	if (text != NULL)
	{
		if (parse_iccid(text, strlen(text), &iccid) && idtable_find(&by_iccid, iccid, &index))
			item_json(out, item_get(index));
		buf_text(out, "]}");
		return;
	}
	for (; index < items.count && limit > 0; index++, limit--)
	{
		buf_text(out, comma);
		item_json(out, item_get(index));
		comma = ",";
	}
	if (index < items.count)
		buf_format(out, "],\"next\":%u}", index);
	else
		buf_text(out, "],\"next\":null}");
}

/* How many profiles are in which state. */
static void
show_summary(Request *request)
{
	uint32_t	states[UNAVAILABLE + 1] = {0};
	uint32_t	index;
	int			i;

	for (index = 0; index < items.count; index++)
		states[item_get(index)->state]++;
	buf_text(&request->out, "{\"states\":{");
	for (i = 0; i <= UNAVAILABLE; i++)
		buf_format(&request->out, "%s\"%s\":%u", i ? "," : "", state_names[i], states[i]);
	buf_format(&request->out, "},\"already_so\":%" PRIu64 ",\"reused_call_ids\":%" PRIu64
			   ",\"notified\":%" PRIu64 "}", already_so, reused_calls, notified);
}

static void
problem(Request *request, int status, const char *message)
{
	error_info(request, status, status == 404 ? "NOT_FOUND" : "INVALID_ARGUMENT", message);
}

/* Answers a request below /control/es2plus/. */
void
es2plus_control(Request *request, const char *path)
{
	char		error[256] = "The control API has no such path.";
	json_t	   *body = NULL;
	bool		good = false;

	request->status = 200;
	if (strcmp(request->method, "GET") == 0)
	{
		if (strcmp(path, "profiles") == 0)
			show_profiles(request);
		else if (strcmp(path, "summary") == 0)
			show_summary(request);
		else
			problem(request, 404, error);
		return;
	}
	if (strcmp(request->method, "POST") == 0 && request->body.length > 0)
		body = json_loadb(request->body.data, request->body.length, JSON_REJECT_DUPLICATES, NULL);
	if (body == NULL)
		snprintf(error, sizeof(error), "The body is no JSON.");
	else if (strcmp(path, "stock") == 0)
		good = config_each(body, add_stock, error, sizeof(error));
	else if (strcmp(path, "notify") == 0)
		good = config_each(body, send_notification, error, sizeof(error));
	else if (strcmp(path, "download") == 0)
		good = device_downloads(body, &request->out, error, sizeof(error));
	if (!good)
		problem(request, 400, error);
	else if (request->out.length == 0)
		buf_text(&request->out, "{\"ok\":true}");
	json_decref(body);
}

/* As after the start. */
void
es2plus_reset(void)
{
	uint32_t	index;
	int			i;

	for (index = 0; index < items.count; index++)
	{
		free(item_get(index)->matching_id);
		free(item_get(index)->code);
	}
	for (index = 0; index < types.count; index++)
		free(type_get(index)->name);
	pool_reset(&items);
	pool_reset(&types);
	pool_reset(&holders);
	idtable_reset(&by_matching_id);
	idtable_reset(&by_iccid);
	idtable_reset(&by_call);
	for (i = 0; i < MAX_SERVERS; i++)
	{
		free(settings[i].notify_url);
		free(settings[i].requester);
		free(settings[i].smdp_address);
		free(settings[i].default_type);
	}
	memset(settings, 0, sizeof(settings));
	already_so = reused_calls = made = notified = 0;
	nunanswered = 0;
	epoch++;
}
