/*
 * eim.c
 *		An eIM as onomondo-eim is one: a table of orders behind REST, and devices
 *		that fetch them when they like.
 *
 * An order is new until its device comes, work while the device is at it, and
 * done with an outcome.  The eIM gives up on devices that do not come
 * (noshowOrder) or do not end (stuckOrder), and forgets what has been done for
 * a day.  Its traps are here as well: the body is read as a form would be, the
 * order of the members counts, pending orders are handed out in no order, a
 * PSMO that is not known shows only when the device has come.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "rspsim.h"

#define MAX_PSMOS		16

/* the list of orders is made in pieces beyond 2048 bytes, and the handler takes one only */
#define MAX_LISTED		52

/* cowboy's limit of a form */
#define MAX_FORM		64000
#define DEBUGINFO		"836400046E6F6E65"

typedef enum Facility
{
	FACILITY_DOWNLOAD,
	FACILITY_PSMO,
	FACILITY_ECO,
	FACILITY_EDR,
	FACILITY_EUICC,
	FACILITIES
} Facility;

static const char *const facility_names[FACILITIES] = {
	"download", "psmo", "eco", "edr", "euicc"
};

typedef enum Verb
{
	VERB_CREATE,
	VERB_LOOKUP,
	VERB_DELETE,
	VERB_LIST,
	VERBS
} Verb;

static const struct
{
	const char *name;
	const char *label;
}			verbs[VERBS] = {
	{"create", "POST create"}, {"lookup", "GET lookup"}, {"delete", "GET delete"},
	{"list", "GET list"}
};

typedef enum Status
{
	STATUS_NEW,
	STATUS_WORK,
	STATUS_DONE
} Status;

static const char *const status_names[] = {"new", "work", "done"};

typedef struct Order
{
	char		id[37];
	uint16_t	server;
	uint8_t		facility;
	uint8_t		status;
	uint8_t		fault;			/* DeviceFault */
	bool		has_euicc;		/* the EID is one, so a device may come */
	bool		deleted;
	bool		counted;		/* is among the open ones */
	bool		held;			/* the device is at it, whatever the eIM thinks */
	uint64_t	at_ms;			/* of the last change of its status */
	const char *reason;			/* of the fault; interned */
	char	   *resource;		/* JSON, as it was sent */
	char	   *outcome;		/* JSON, an array */
	uint32_t	euicc;			/* index */
	uint32_t	next;			/* open one of the same eUICC, index + 1 */
	uint32_t	operations[MAX_PSMOS];	/* of the ledger, index + 1, by PSMO */
} Order;

typedef struct Settings
{
	bool		set;
	uint32_t	noshow_s;
	uint32_t	stuck_s;
	uint32_t	expired_s;
	uint32_t	work_ms;		/* how long a device is at an order */
	bool		v12;			/* SGP.32 v1.2: fallback */
	bool		long_lists;		/* unlike the real one, lists any number of orders */
	uint32_t	list_tick;		/* when the orders were listed last */
	uint64_t	created;
	uint64_t	fetched;
	uint64_t	removed;
	uint64_t	revoked;		/* removed before they were done */
	uint64_t	overlaps;		/* handed in while another of the eUICC was open */
	uint64_t	noshow;
	uint64_t	stuck;
	uint64_t	refused;		/* not understood: 500 */
} Settings;

static Pool orders = {.width = sizeof(Order)};
static IdTable by_id;
static IdTable open_by_euicc;	/* EID to a slot of heads */
static Pool heads = {.width = sizeof(uint32_t)};
static Settings settings[MAX_SERVERS];
static uint32_t epoch;

static Settings *
settings_of(uint16_t server)
{
	Settings   *s = &settings[server];

	if (!s->set)
	{
		s->set = true;
		s->noshow_s = 1800;
		s->stuck_s = 300;
		s->expired_s = 86400;
	}
	return s;
}

/*
 * Settings of a server: {"noshow_s", "stuck_s", "expired_s", "work_ms",
 * "v12", "long_lists"}.  False, with a message, at the first that is unknown or wrong.
 */
bool
eim_configure(Server *server, json_t *config, char *error, size_t size)
{
	Settings   *s = settings_of(server->index);
	const char *key;
	json_t	   *value;

	if (!json_is_object(config))
	{
		snprintf(error, size, "eim is an object");
		return false;
	}
	json_object_foreach(config, key, value)
	{
		bool		number = json_is_integer(value) && json_integer_value(value) >= 0 &&
			json_integer_value(value) <= INT32_MAX;

		if (strcmp(key, "noshow_s") == 0 && number)
			s->noshow_s = json_integer_value(value);
		else if (strcmp(key, "stuck_s") == 0 && number)
			s->stuck_s = json_integer_value(value);
		else if (strcmp(key, "expired_s") == 0 && number)
			s->expired_s = json_integer_value(value);
		else if (strcmp(key, "work_ms") == 0 && number)
			s->work_ms = json_integer_value(value);
		else if (strcmp(key, "v12") == 0 && json_is_boolean(value))
			s->v12 = json_is_true(value);
		else if (strcmp(key, "long_lists") == 0 && json_is_boolean(value))
			s->long_lists = json_is_true(value);
		else
		{
			snprintf(error, size, "eim.%.64s is unknown or has a wrong value", key);
			return false;
		}
	}
	return true;
}

/* ---- small things ---- */

static bool
is_hex(char c)
{
	return c != '\0' && strchr("0123456789abcdefABCDEF", c) != NULL;
}

static Id
id_key(const char *id)
{
	Id			key;

	key.high = hash_bytes(id, strlen(id), 1);
	key.low = hash_bytes(id, strlen(id), 2);
	return key;
}

/* A UUID of version 4 that seed and number give. */
static void
make_id(uint32_t number, char out[37])
{
	uint64_t	a = mix64(simulator_seed ^ mix64(number) ^ UINT64_C(0x65494d));
	uint64_t	b = mix64(a ^ number);

	snprintf(out, 37, "%08x-%04x-4%03x-%04x-%012" PRIx64, (unsigned) (a >> 32),
			 (unsigned) (a >> 16 & 0xffff), (unsigned) (a & 0xfff),
			 (unsigned) (0x8000 | (b >> 48 & 0x3fff)), b & UINT64_C(0xffffffffffff));
}

/* The swapped digits of ten octets; false if they are none. */
static bool
from_card(const char *text, Id *iccid)
{
	char		digits[21];
	size_t		i;

	if (text == NULL || strlen(text) != 20 ||
		strspn(text, "0123456789ABCDEFabcdef") != 20)
		return false;
	for (i = 0; i < 20; i++)
		digits[i] = text[i ^ 1];
	digits[20] = '\0';
	digits[strspn(digits, "0123456789")] = '\0';
	return id_parse(digits, strlen(digits), 18, 20, iccid);
}

static void
put_card(Buf *out, Id iccid)
{
	char		digits[ID_TEXT];
	char		card[21];
	size_t		i;

	id_format(iccid, digits);
	memset(card, 'F', 20);
	for (i = 0; digits[i] != '\0' && i < 20; i++)
		card[i ^ 1] = digits[i];
	card[20] = '\0';
	buf_format(out, "\"%s\"", card);
}

static char *
take_text(Buf *buf)
{
	char	   *text = xstrdup(buf->data != NULL ? buf->data : "");

	buf_free(buf);
	return text;
}

/* ---- the table of orders ---- */

static Order *
order_get(uint32_t index)
{
	return pool_get(&orders, index);
}

/* Where the chain of an eUICC's open orders begins. */
static uint32_t *
open_head(Id eid)
{
	uint32_t	index;

	if (!idtable_find(&open_by_euicc, eid, &index))
	{
		pool_add(&heads, &index);
		idtable_insert(&open_by_euicc, eid, index);
	}
	return pool_get(&heads, index);
}

static void
unlink_order(uint32_t index)
{
	Order	   *order = order_get(index);
	uint32_t   *link;

	if (!order->counted)
		return;
	order->counted = false;
	for (link = open_head(euicc_get(order->euicc)->eid); *link != 0;
		 link = &order_get(*link - 1)->next)
		if (*link == index + 1)
		{
			*link = order->next;
			break;
		}
	order->next = 0;
}

/* What has not been carried out by now will not be. */
static void
give_up(Order *order)
{
	int			i;

	for (i = 0; i < MAX_PSMOS; i++)
		if (order->operations[i] != 0)
			operation_give_up(order->operations[i] - 1, "The order was not carried out.");
}

/* The order is done; the outcome's text is taken. */
static void
end_order(uint32_t index, char *outcome, uint64_t at_ms)
{
	Order	   *order = order_get(index);

	free(order->outcome);
	order->outcome = outcome;
	order->status = STATUS_DONE;
	order->at_ms = at_ms;
	unlink_order(index);
	if (!order->held)
		give_up(order);
}

static void
end_with_error(uint32_t index, const char *error, uint64_t at_ms)
{
	Buf			out = {0};

	buf_format(&out, "[{\"procedureError\":\"%s\"}]", error);
	end_order(index, take_text(&out), at_ms);
}

/* What the eIM has done to an order by now for want of patience. */
static void
age(uint32_t index)
{
	Order	   *order = order_get(index);
	Settings   *s = settings_of(order->server);
	uint64_t	now = wall_ms();

	if (order->status == STATUS_NEW && order->facility != FACILITY_EUICC &&
		now > order->at_ms + UINT64_C(1000) * s->noshow_s)
	{
		s->noshow++;
		end_with_error(index, "noshowOrder", order->at_ms + UINT64_C(1000) * s->noshow_s);
	}
	if (order->status == STATUS_WORK && now > order->at_ms + UINT64_C(1000) * s->stuck_s)
	{
		s->stuck++;
		end_with_error(index, "stuckOrder", order->at_ms + UINT64_C(1000) * s->stuck_s);
	}
	if (order->status == STATUS_DONE && !order->deleted &&
		now > order->at_ms + UINT64_C(1000) * s->expired_s)
		order->deleted = true;
}

/* The order of this id in this facility, NULL if there is none. */
static Order *
order_find(const Request *request, Facility facility, const char *id, uint32_t *index)
{
	Order	   *order;
	size_t		length = strcspn(id, "/");
	char		key[37];

	if (length != sizeof(key) - 1)
		return NULL;
	memcpy(key, id, length);
	key[length] = '\0';
	if (!idtable_find(&by_id, id_key(key), index))
		return NULL;
	age(*index);
	order = order_get(*index);
	return !order->deleted && order->facility == facility &&
		order->server == request->server->index ? order : NULL;
}

/* ---- what devices do ---- */

/* names that are in SGP.32 v1.2 only: a v1.0 eIM prints their numbers */
static const struct
{
	const char *name;
	int			number;
}			later_names[] = {
	{"disallowedByPolicy", 3}, {"catBusy", 5}, {"rollbackNotAvailable", 20},
	{"returnFallbackProfile", 21}, {"ecallActive", 104}
};

static void
put_result(Buf *out, const Settings *s, const char *key, const char *name)
{
	size_t		i;

	buf_format(out, "%s{\"%s\":", out->length > 1 ? "," : "", key);
	for (i = 0; !s->v12 && i < sizeof(later_names) / sizeof(later_names[0]); i++)
		if (strcmp(later_names[i].name, name) == 0)
		{
			buf_format(out, "%d}", later_names[i].number);
			return;
		}
	buf_json(out, name);
	buf_text(out, "}");
}

/* "key:value" as a result, or "[...]" as all of them; false if it is neither */
static bool
put_reason(Buf *out, const Settings *s, const char *reason)
{
	const char *colon = strchr(reason, ':');
	char		key[64];
	size_t		length = strlen(reason);

	if (reason[0] == '[' && reason[length - 1] == ']')
	{
		buf_add(out, reason + 1, length - 2);
		return true;
	}
	if (colon == NULL || colon == reason || (size_t) (colon - reason) >= sizeof(key) ||
		strchr(reason, ' ') != NULL)
		return false;
	memcpy(key, reason, colon - reason);
	key[colon - reason] = '\0';
	put_result(out, s, key, colon + 1);
	return true;
}

/* tags: hexadecimal, NULL: all */
static void
put_profiles(Buf *out, const Settings *s, const Euicc *euicc, const char *tags)
{
	bool		whole = tags == NULL;
	bool		states = whole || strstr(tags, "9F70") != NULL;
	uint32_t	next;

	buf_format(out, "%s{\"listProfileInfoResult\":{\"finalResult\":\"successResult\","
			   "\"profileInfoList\":[", out->length > 1 ? "," : "");
	for (next = euicc->first_profile; next != 0; next = profile_get(next - 1)->next)
	{
		Profile    *profile = profile_get(next - 1);

		buf_text(out, next == euicc->first_profile ? "{\"iccid\":" : ",{\"iccid\":");
		put_card(out, profile->iccid);
		if (whole)
			buf_format(out, ",\"isdpAid\":\"A0000005591010FFFFFFFF8900%04X00\"", (next + 15) & 0xffff);
		if (states)
			buf_format(out, ",\"profileState\":\"%s\"",
					   profile->state == PROFILE_ENABLED ? "enabled" : "disabled");
		if (whole)
			buf_text(out, ",\"serviceProviderName\":\"rspsim\",\"profileName\":\"virtual\"");
		if (whole && s->v12 && profile->fallback)
			buf_text(out, ",\"fallbackAttribute\":true");
		buf_text(out, whole ? ",\"profileClass\":\"operational\"}" : "}");
	}
	buf_text(out, "]}}");
}

/* SGP.32's word for how an operation of the model ended */
static const char *
word_of(const Operation *operation)
{
	if (operation->outcome == OUTCOME_SUCCESS)
		return "ok";
	if (operation->reason_code == NULL)
		return "undefinedError";
	if (strcmp(operation->reason_code, "ESIM_NOT_FOUND") == 0)
		return "iccidOrAidNotFound";
	if (strcmp(operation->reason_code, "ESIM_NOT_DISABLED") == 0)
		return "profileNotInDisabledState";
	if (strcmp(operation->reason_code, "ESIM_NOT_ENABLED") == 0)
		return "profileNotInEnabledState";
	return "undefinedError";
}

static const char *
set_fallback(uint32_t euicc_index, bool set, uint32_t profile_index)
{
	Euicc	   *euicc = euicc_get(euicc_index);
	uint32_t	other_index = 0;
	Profile    *other = euicc_fallback(euicc, &other_index);
	Profile    *profile = set ? profile_get(profile_index) : NULL;

	if (set && (profile->state == PROFILE_ABSENT || profile->euicc != euicc_index + 1))
		return "iccidOrAidNotFound";
	if (!set && other == NULL)
		return "noFallbackAttribute";
	if (set && other == profile)
	{
		ledger_already_so();
		return "ok";
	}
	if (other != NULL && other->state == PROFILE_ENABLED)
		return "fallbackProfileEnabled";
	if (other != NULL)
	{
		other->fallback = false;
		ledger_effect(EFFECT_FALLBACK_UNSET, set ? CAUSE_IMPLICIT : CAUSE_OPERATION, UINT32_MAX,
					  euicc_index, other_index, 1, 0);
	}
	if (set)
	{
		profile->fallback = true;
		ledger_effect(EFFECT_FALLBACK_SET, CAUSE_OPERATION, UINT32_MAX, euicc_index,
					  profile_index, 0, 1);
	}
	return "ok";
}

/* The connection is lost with the new profile: back to the former one. */
static void
roll_back(uint32_t euicc, bool had_former, Id former)
{
	static const Id none = {0, 0};

	if (had_former)
		device_event(euicc, "local_enable", true, former);
	else
		device_event(euicc, "local_disable", false, none);
}

static void
carry_out_download(Order *order, Buf *out)
{
	Operation  *operation;

	operation_perform(order->operations[0] - 1);
	operation = operation_get(order->operations[0] - 1);
	if (operation->outcome == OUTCOME_SUCCESS)
	{
		buf_text(out, "{\"profileInstallationResult\":{\"finalResult\":\"successResult\",\"iccid\":");
		put_card(out, profile_get(operation->profile - 1)->iccid);
		buf_text(out, "}}");
	}
	else if (operation->reason_code != NULL &&
			 strcmp(operation->reason_code, "ESIM_ALREADY_DOWNLOADED") == 0)
		buf_text(out, "{\"procedureError\":\"authenticateClientError\"}");
	else
		buf_text(out, "{\"profileInstallationResult\":{\"finalResult\":\"errorResult\"}}");
}

/*
 * The PSMOs of a package one after the other; the first failure ends it.  Gives
 * false when the eIM does not know one of them.
 */
static bool
carry_out_psmos(Order *order, Buf *out)
{
	static const char *const known[] = {"enable", "disable", "delete", "listProfileInfo", "getRAT",
	"configureAutoEnable", "setFallbackAttribute", "unsetFallbackAttribute"};
	Settings   *s = settings_of(order->server);
	json_t	   *resource = json_loads(order->resource, 0, NULL);
	json_t	   *list = json_object_get(json_object_get(resource, "order"), "psmo");
	bool		rolls_back = order->reason != NULL && strstr(order->reason, "rollback") == order->reason;
	bool		changed = false;
	bool		good = json_is_array(list) && json_array_size(list) <= MAX_PSMOS;
	size_t		i;
	size_t		k;

	for (i = 0; i < json_array_size(list) && good; i++)
	{
		json_t	   *entry = json_array_get(list, i);
		const char *name = json_object_iter_key(json_object_iter(entry));
		json_t	   *input = name ? json_object_get(entry, name) : NULL;
		const char *first = json_object_iter_key(json_object_iter(input));

		good = json_object_size(entry) == 1 && json_is_object(input);
		for (k = 0; k < sizeof(known) / sizeof(known[0]); k++)
			if (good && strcmp(known[k], name) == 0)
				break;
		if (!good || k >= (s->v12 ? 8 : 6))
			good = false;
		else if (strcmp(name, "enable") == 0)
			/* both, and in this order */
			good = json_object_size(input) == 2 && strcmp(first, "iccid") == 0 &&
				json_is_boolean(json_object_get(input, "rollback"));
		else if (strcmp(name, "disable") == 0 || strcmp(name, "delete") == 0 ||
				 strcmp(name, "setFallbackAttribute") == 0)
			good = json_object_size(input) == 1 && strcmp(first, "iccid") == 0;
		else if (strcmp(name, "getRAT") == 0 || strcmp(name, "unsetFallbackAttribute") == 0)
			good = json_object_size(input) == 0;
		else if (strcmp(name, "listProfileInfo") == 0)
			good = json_object_size(input) == 0 ||
				(json_object_size(input) == 1 && json_is_string(json_object_get(input, "tagList")));
	}
	for (i = 0; i < json_array_size(list) && good; i++)
	{
		json_t	   *entry = json_array_get(list, i);
		const char *name = json_object_iter_key(json_object_iter(entry));
		json_t	   *input = json_object_get(entry, name);
		const char *word = "undefinedError";
		char		key[64];

		if (strcmp(name, "listProfileInfo") == 0)
		{
			if (!changed)
			{
				put_profiles(out, s, euicc_get(order->euicc),
							 json_string_value(json_object_get(input, "tagList")));
				continue;
			}
			buf_format(out, "%s{\"listProfileInfoResult\":{\"finalResult\":\"errorResult\"}}",
					   out->length > 1 ? "," : "");
			break;
		}
		if (strcmp(name, "getRAT") == 0)
		{
			buf_format(out, "%s{\"getRATResult\":[]}", out->length > 1 ? "," : "");
			continue;
		}
		snprintf(key, sizeof(key), "%sResult", name);
		if (strcmp(name, "unsetFallbackAttribute") == 0)
			word = set_fallback(order->euicc, false, 0);
		else if (strcmp(name, "setFallbackAttribute") == 0)
		{
			Id			iccid;
			uint32_t	index;

			word = from_card(json_string_value(json_object_get(input, "iccid")), &iccid) &&
				profile_find(iccid, &index) != NULL ? set_fallback(order->euicc, true, index) :
				"iccidOrAidNotFound";
			if (order->operations[i] != 0)
				operation_close(order->operations[i] - 1, strcmp(word, "ok") == 0, word);
		}
		else if (strcmp(name, "configureAutoEnable") == 0)
			word = "ok";
		else if (order->operations[i] != 0)
		{
			uint32_t	former_index;
			Profile    *former = euicc_enabled(euicc_get(order->euicc), &former_index);
			Id			former_iccid = former != NULL ? former->iccid : (Id) {0, 0};

			operation_perform(order->operations[i] - 1);
			word = word_of(operation_get(order->operations[i] - 1));
			changed = true;
			if (rolls_back && strcmp(name, "enable") == 0 && strcmp(word, "ok") == 0 &&
				json_is_true(json_object_get(input, "rollback")))
			{
				put_result(out, s, key, word);
				roll_back(order->euicc, former != NULL, former_iccid);
				put_result(out, s, "rollbackResult", "ok");
				continue;
			}
		}
		put_result(out, s, key, word);
		if (strcmp(word, "ok") != 0)
		{
			if (i + 1 < json_array_size(list))
				put_result(out, s, "processingTerminated", "undefinedError");
			break;
		}
	}
	json_decref(resource);
	return good;
}

/* The device carries the order out; gives the outcome, NULL: it never tells. */
static char *
carry_out(uint32_t index)
{
	Order	   *order = order_get(index);
	Settings   *s = settings_of(order->server);
	const char *reason = order->reason;
	bool		effect = true;
	Buf			out = {0};
	Buf			told = {0};
	bool		good = true;

	if (order->fault == DEVICE_FAULT_FAIL)
	{
		effect = strncmp(reason, "effect:", 7) == 0 || strcmp(reason, "rollback") == 0;
		if (strncmp(reason, "effect:", 7) == 0)
			reason += 7;
	}
	buf_text(&out, "[");
	if (effect && order->facility == FACILITY_DOWNLOAD)
	{
		if (order->operations[0] == 0)
		{
			/* the fetch of a malformed download crashes, which breaks it off */
			buf_text(&out, "{\"procedureError\":\"abortedOrder\"}]");
			return take_text(&out);
		}
		carry_out_download(order, &out);
	}
	else if (effect && order->facility == FACILITY_PSMO)
		good = carry_out_psmos(order, &out);
	else if (order->facility == FACILITY_EUICC)
		buf_text(&out, "{\"euiccUpdateResult\":\"ok\"}");
	else if (effect)
		buf_format(&out, "{\"procedureError\":\"%s\"}",
				   order->facility == FACILITY_ECO ? "badEco" : "badEdr");
	if (!good)
	{
		buf_clear(&out);
		buf_text(&out, "[{\"procedureError\":\"badPsmo\"}");
	}
	buf_text(&out, "]");
	if (order->fault == DEVICE_FAULT_UNREPORTED)
	{
		buf_free(&out);
		return NULL;
	}
	if (order->fault != DEVICE_FAULT_FAIL || strcmp(order->reason, "rollback") == 0)
		return take_text(&out);

	/* another answer than the one that goes with what was done */
	buf_free(&out);
	buf_text(&told, "[");
	if (!put_reason(&told, s, reason))
	{
		if (order->facility != FACILITY_DOWNLOAD)
		{
			json_t	   *resource = json_loads(order->resource, 0, NULL);
			json_t	   *list = json_object_get(json_object_get(resource, "order"), "psmo");
			const char *name =
				json_object_iter_key(json_object_iter(json_array_get(list, 0)));
			char		key[64];

			snprintf(key, sizeof(key), "%sResult", name ? name : "enable");
			put_result(&told, s, key, strchr(reason, ' ') ? "undefinedError" : reason);
			json_decref(resource);
		}
		else if (strcmp(reason, "cancel") == 0)
			buf_text(&told, "{\"cancelSessionResult\":\"ok\"}");
		else
			buf_text(&told, "{\"profileInstallationResult\":{\"finalResult\":\"errorResult\"}}");
	}
	buf_text(&told, "]");
	return take_text(&told);
}

static void fetch(uint32_t euicc);

/* The device is through with an order that took its time. */
static void
through(void *subject, uint32_t index)
{
	Order	   *order;
	char	   *outcome;

	if ((uint32_t) (uintptr_t) subject != epoch)
		return;
	age(index);
	order = order_get(index);
	order->held = false;
	outcome = carry_out(index);
	if (outcome != NULL && order->status == STATUS_WORK)
		end_order(index, outcome, wall_ms());
	else
	{
		/* the eIM is not told, or no longer wants to know */
		free(outcome);
		if (order->fault != DEVICE_FAULT_UNREPORTED)
			give_up(order);
	}
	fetch(order->euicc);
}

/* The device polls the eIM, as long as there is something for it. */
static void
fetch(uint32_t euicc_index)
{
	Euicc	   *euicc = euicc_get(euicc_index);

	for (;;)
	{
		uint32_t   *head = open_head(euicc->eid);
		uint32_t	best = 0;
		uint32_t	next;
		uint32_t	following;
		Order	   *order;
		Settings   *s;

		if (!euicc->online)
			return;
		for (next = *head; next != 0; next = following)
		{
			following = order_get(next - 1)->next;
			age(next - 1);
			order = order_get(next - 1);
			if (order->status != STATUS_NEW || order->fault == DEVICE_FAULT_LOST)
				continue;
			/* in no order: whichever id comes first */
			if (best == 0 || strcmp(order->id, order_get(best - 1)->id) < 0)
				best = next;
		}
		if (best == 0)
			return;
		order = order_get(best - 1);
		s = settings_of(order->server);
		s->fetched++;
		order->status = STATUS_WORK;
		order->at_ms = wall_ms();
		if (s->work_ms > 0)
		{
			order->held = true;
			timer_add(clock_ms() + s->work_ms, through, (void *) (uintptr_t) epoch, best - 1);
			return;
		}
		{
			char	   *outcome = carry_out(best - 1);

			/* else it stays in work until the eIM has had enough */
			if (outcome != NULL)
				end_order(best - 1, outcome, wall_ms());
		}
	}
}

static void
device_polls(void *subject, uint32_t index)
{
	if ((uint32_t) (uintptr_t) subject == epoch)
		fetch(index);
}

/* A device is back. */
void
eim_device_online(uint32_t index)
{
	uint32_t	ignored;

	if (idtable_find(&open_by_euicc, euicc_get(index)->eid, &ignored))
		fetch(index);
}

/* ---- requests ---- */

/* Errors have no body. */
void
eim_error(Request *request, int status, const char *code, const char *message)
{
	(void) code;
	(void) message;
	request->status = status;
	request->content_type = NULL;
	request->location[0] = '\0';
	buf_clear(&request->out);
}

/* cowboy's answer to what is no form, or too large for one */
static void
no_form(Request *request, int status)
{
	settings_of(request->server->index)->refused++;
	eim_error(request, status, NULL, NULL);
}

static void
crash(Request *request)
{
	settings_of(request->server->index)->refused++;
	eim_error(request, 500, NULL, NULL);
}

/* "/psmo/lookup/<id>" in parts; false: no such path */
static bool
split_path(const char *path, Facility *facility, Verb *verb, const char **id)
{
	size_t		length;
	int			i;

	*id = "";
	if (*path++ != '/')
		return false;
	length = strcspn(path, "/");
	for (i = 0; i < FACILITIES; i++)
		if (strlen(facility_names[i]) == length && strncmp(path, facility_names[i], length) == 0)
			break;
	if (i == FACILITIES || path[length] != '/')
		return false;
	*facility = (Facility) i;
	path += length + 1;
	length = strcspn(path, "/");
	for (i = 0; i < VERBS; i++)
		if (strlen(verbs[i].name) == length && strncmp(path, verbs[i].name, length) == 0)
			break;
	if (i == VERBS)
		return false;
	*verb = (Verb) i;
	path += length;
	if (*path == '/')
		path++;
	if (*verb == VERB_LOOKUP || *verb == VERB_DELETE)
	{
		const char *end = strchr(path, '/');

		/* a slash at the end counts for nothing */
		*id = path;
		return *path != '\0' && *path != '/' && (end == NULL || end[1] == '\0');
	}
	return *path == '\0';
}

/*
 * The body as cowboy's read_urlencoded_body gives it: one key without a value.
 * False: it is not that, and the handler crashes; or status says what cowboy
 * answers by itself.
 */
static bool
read_as_form(const Buf *body, Buf *out, int *status)
{
	size_t		i;

	*status = 500;
	if (body->length > MAX_FORM)
	{
		*status = 413;
		return false;
	}
	for (i = 0; i < body->length; i++)
	{
		if (body->data[i] == '%' && (i + 2 >= body->length || !is_hex(body->data[i + 1]) ||
									 !is_hex(body->data[i + 2])))
		{
			*status = 400;
			return false;
		}
	}

	for (i = 0; i < body->length; i++)
	{
		char		c = body->data[i];
		unsigned	octet;

		if (c == '&' || c == '=')
			return false;
		if (c == '+')
			buf_char(out, ' ');
		else if (c == '%')
		{
			char		hex[3] = {0};

			memcpy(hex, body->data + i + 1, 2);
			octet = strtoul(hex, NULL, 16);
			buf_char(out, (char) octet);
			i += 2;
		}
		else
			buf_char(out, c);
	}
	return true;
}

/* The resource of a create; NULL: there is none, the answer is status. */
static json_t *
read_resource(const Buf *body, int *status)
{
	Buf			text = {0};
	json_t	   *json = NULL;
	const char *first;
	const char *second;

	if (read_as_form(body, &text, status) && text.length > 0)
		json = json_loadb(text.data, text.length, 0, NULL);
	buf_free(&text);
	first = json_object_iter_key(json_object_iter(json));
	second = first ? json_object_iter_key(json_object_iter_next(json, json_object_iter(json))) : NULL;
	if (json_object_size(json) == 2 && strcmp(first, "eidValue") == 0 &&
		strcmp(second, "order") == 0 && json_is_string(json_object_get(json, "eidValue")))
		return json;
	json_decref(json);
	return NULL;
}

/* Names the endpoint and finds the identifiers, so that faults can be aimed. */
void
eim_identify(Request *request)
{
	Facility	facility;
	Verb		verb;
	const char *id;
	json_t	   *resource = NULL;
	json_t	   *value;
	int			status;

	request->endpoint = -1;
	if (!split_path(request->path, &facility, &verb, &id))
		return;
	request->endpoint = verb;
	request->label = verbs[verb].label;
	if (verb == VERB_CREATE)
		resource = request->json = read_resource(&request->body, &status);
	else if (*id != '\0')
	{
		uint32_t	index;
		Order	   *order = order_find(request, facility, id, &index);

		if (order != NULL && order->has_euicc)
			resource = json_loads(order->resource, 0, NULL);
	}
	value = json_object_get(resource, "eidValue");
	if (json_is_string(value))
		request->has_eid = id_parse(json_string_value(value), json_string_length(value), 32, 32,
									&request->eid);
	value = json_array_get(json_object_get(json_object_get(resource, "order"), "psmo"), 0);
	value = json_object_iter_value(json_object_iter(value));
	request->has_iccid = from_card(json_string_value(json_object_get(value, "iccid")),
								   &request->iccid);
	if (resource != request->json)
		json_decref(resource);
}

static uint32_t
latest(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

/*
 * Tells the ledger of what an order is to do: one operation for each PSMO that
 * changes a profile.
 */
static void
register_psmo(Request *request, Order *order, size_t place, Kind kind, Id iccid)
{
	Settings   *s = settings_of(order->server);
	Euicc	   *euicc = euicc_get(order->euicc);
	Profile    *profile;
	uint32_t	profile_index;
	bool		fresh = profile_find(iccid, &profile_index) == NULL;
	Track	   *track;
	Operation  *first;
	bool		repeat;

	profile = profile_make(iccid, &profile_index);
	if (fresh && accept_unknown_iccid)
		profile_attach(profile_index, order->euicc);
	track = &profile->track[kind];
	first = track->operation ? operation_get(track->operation - 1) : NULL;
	repeat = ledger_request(kind, track, first,
							latest(latest(euicc->last_ask, profile->last_ask), s->list_tick),
							request, iccid);
	order->operations[place] =
		operation_record(request, kind, order->euicc, profile_index + 1, 0, repeat) + 1;
	ledger_accepted(kind, track, order->operations[place] - 1, profile_index);
}

static void
register_download(Request *request, Order *order, const char *text)
{
	static const Id none = {0, 0};
	Settings   *s = settings_of(order->server);
	Euicc	   *euicc = euicc_get(order->euicc);
	uint32_t	code_index;
	uint32_t	profile_index;
	Code	   *code;
	Profile    *profile;
	Operation  *first;
	bool		repeat;

	if (text == NULL || !code_well_formed(text) || strncmp(text, "LPA:", 4) == 0)
		return;					/* the IPA stops without a word */
	code = code_lookup(text, euicc->eid, none, &code_index);
	profile = profile_make(code->iccid, &profile_index);
	first = code->track.operation ? operation_get(code->track.operation - 1) : NULL;
	if (first != NULL && first->euicc != order->euicc)
		first = NULL;
	repeat = ledger_request(KIND_DOWNLOAD, &code->track, first,
							latest(latest(euicc->last_ask, profile->last_ask), s->list_tick),
							request, euicc->eid);
	order->operations[0] = operation_record(request, KIND_DOWNLOAD, order->euicc,
											profile_index + 1, code_index + 1, repeat) + 1;
	ledger_accepted(KIND_DOWNLOAD, &code->track, order->operations[0] - 1, profile_index);
}

static void
register_order(Request *request, Order *order, json_t *json)
{
	json_t	   *list = json_object_get(json, "psmo");
	size_t		i;

	if (order->facility == FACILITY_DOWNLOAD)
	{
		json_t	   *download = json_object_get(json, "download");

		if (json_object_size(json) == 1 && json_object_size(download) == 1)
			register_download(request, order,
							  json_string_value(json_object_get(download, "activationCode")));
		return;
	}
	for (i = 0; i < json_array_size(list) && i < MAX_PSMOS; i++)
	{
		json_t	   *entry = json_array_get(list, i);
		const char *name = json_object_iter_key(json_object_iter(entry));
		json_t	   *input = name ? json_object_get(entry, name) : NULL;
		Id			iccid;
		Kind		kind;

		if (name == NULL || !from_card(json_string_value(json_object_get(input, "iccid")), &iccid))
			continue;
		if (strcmp(name, "enable") == 0)
			kind = KIND_ENABLE;
		else if (strcmp(name, "disable") == 0)
			kind = KIND_DISABLE;
		else if (strcmp(name, "delete") == 0)
			kind = KIND_DELETE;
		else if (strcmp(name, "setFallbackAttribute") == 0)
			kind = KIND_SET_FALLBACK;
		else
			continue;
		register_psmo(request, order, i, kind, iccid);
	}
}

static void
create(Request *request, Facility facility)
{
	Settings   *s = settings_of(request->server->index);
	Order	   *order;
	uint32_t	index;
	uint32_t	euicc_index;
	uint32_t	delay;
	Euicc	   *euicc = NULL;
	uint32_t	next;
	uint32_t	following;
	char	   *resource;

	if (request->json == NULL)
	{
		int			status;

		json_decref(read_resource(&request->body, &status));
		no_form(request, status);
		return;
	}
	if (request->has_eid)
		euicc = euicc_seen(request->eid, &euicc_index);
	order = pool_add(&orders, &index);
	make_id(index, order->id);
	idtable_insert(&by_id, id_key(order->id), index);
	order->server = request->server->index;
	order->facility = facility;
	order->at_ms = wall_ms();
	order->fault = request->device_fault;
	order->reason = request->device_reason;
	resource = json_dumps(request->json, JSON_COMPACT);
	order->resource = xstrdup(resource ? resource : "{}");
	free(resource);
	order->outcome = xstrdup("[]");
	s->created++;
	request->status = 303;
	snprintf(request->location, sizeof(request->location), "/%s/lookup/%s",
			 facility_names[facility], order->id);
	if (euicc == NULL)
		return;					/* no device will ever ask for it */

	order->has_euicc = true;
	order->euicc = euicc_index;
	for (next = *open_head(euicc->eid); next != 0; next = following)
	{
		following = order_get(next - 1)->next;
		age(next - 1);
		if (order_get(next - 1)->status != STATUS_DONE)
		{
			s->overlaps++;
			break;
		}
	}
	register_order(request, order, json_object_get(request->json, "order"));
	order->counted = true;
	order->next = *open_head(euicc->eid);
	*open_head(euicc->eid) = index + 1;

	delay = request->device_delay_ms ? request->device_delay_ms :
		euicc->delay_ms >= 0 ? (uint32_t) euicc->delay_ms : request->server->device_delay_ms;
	if (delay > 0)
		timer_add(clock_ms() + delay, device_polls, (void *) (uintptr_t) epoch, euicc_index);
	else
		fetch(euicc_index);
}

static void
lookup(Request *request, Facility facility, const char *id)
{
	uint32_t	index;
	Order	   *order = order_find(request, facility, id, &index);
	Buf		   *out = &request->out;
	int			i;

	request->status = 200;
	request->content_type = "application/json";
	if (order == NULL)
	{
		buf_text(out, "{\"status\":\"absent\"}");
		return;
	}
	if (request->answered_plainly && order->has_euicc)
	{
		uint32_t	tick = ledger_tick();

		euicc_get(order->euicc)->last_ask = tick;
		for (i = 0; i < MAX_PSMOS; i++)
			if (order->operations[i] != 0)
			{
				Operation  *operation = operation_get(order->operations[i] - 1);

				if (operation->profile != 0)
					profile_get(operation->profile - 1)->last_ask = tick;
				if (order->status == STATUS_DONE && operation->outcome != OUTCOME_NONE)
					operation->flags |= OPERATION_TOLD;
			}
	}
	buf_format(out, "{\"status\":\"%s\",\"timestamp\":\"%" PRIu64 "\",\"resource\":%s,\"outcome\":%s,"
			   "\"debuginfo\":\"" DEBUGINFO "\"}", status_names[order->status],
			   order->at_ms / 1000, order->resource, order->outcome);
}

static void
delete(Request *request, Facility facility, const char *id)
{
	Settings   *s = settings_of(request->server->index);
	uint32_t	index;
	Order	   *order = order_find(request, facility, id, &index);
	int			i;

	request->status = 200;
	request->content_type = "application/json";
	if (order == NULL)
	{
		buf_text(&request->out, "{\"status\":\"absent\"}");
		return;
	}
	s->removed++;
	order->deleted = true;
	if (order->status != STATUS_DONE)
	{
		s->revoked++;
		unlink_order(index);
		/* one that the device is at goes on there */
		if (order->status == STATUS_NEW)
		{
			order->status = STATUS_DONE;
			give_up(order);
			for (i = 0; i < MAX_PSMOS; i++)
				if (order->operations[i] != 0)
					operation_get(order->operations[i] - 1)->flags |= OPERATION_TOLD;
		}
	}
	buf_text(&request->out, "{\"status\":\"deleted\"}");
}

static void
list(Request *request, Facility facility)
{
	Buf		   *out = &request->out;
	const char *comma = "";
	uint32_t	count = 0;
	uint32_t	i;

	for (i = 0; i < orders.count; i++)
	{
		Order	   *order = order_get(i);

		age(i);
		if (!order->deleted && order->server == request->server->index &&
			order->facility == facility)
			count++;
	}
	if (count > MAX_LISTED && !settings_of(request->server->index)->long_lists)
	{
		crash(request);
		return;
	}
	if (request->answered_plainly)
		settings_of(request->server->index)->list_tick = ledger_tick();
	request->status = 200;
	request->content_type = "application/json";
	buf_text(out, "{\"resourceIdList\": [");
	for (i = 0; i < orders.count; i++)
	{
		Order	   *order = order_get(i);

		if (order->deleted || order->server != request->server->index ||
			order->facility != facility)
			continue;
		buf_format(out, "%s\"%s\"", comma, order->id);
		comma = ",";
	}
	buf_text(out, "]}");
}

static void
info(Request *request)
{
	request->status = 200;
	request->content_type = "application/json";
	buf_text(&request->out, "{\"hostname\":\"rspsim\",\"node\":\"rspsim@localhost\",\"vsn\":\"0.0.2\","
			 "\"eimId\":\"rspsim\",\"counterValue\":1,\"consumerEuicc\":false}");
}

void
eim_handle(Request *request)
{
	const char *accept = http_header(request, "Accept");
	const char *content_type = http_header(request, "Content-Type");
	Facility	facility;
	Verb		verb;
	const char *id;
	bool		get = strcmp(request->method, "GET") == 0;
	bool		post = strcmp(request->method, "POST") == 0;

	bool		root = request->path[0] == '\0' || strcmp(request->path, "/") == 0;

	/* the router comes first */
	if (!root && !split_path(request->path, &facility, &verb, &id))
		eim_error(request, 404, NULL, NULL);
	else if (!get && !post)
		eim_error(request, 405, NULL, NULL);
	else if (accept != NULL && strstr(accept, "application/json") == NULL &&
			 strstr(accept, "*/*") == NULL && strstr(accept, "application/*") == NULL)
		eim_error(request, 406, NULL, NULL);
	else if (get && root)
		info(request);
	else if (post && (content_type == NULL || strcasecmp(content_type, "application/json") != 0))
		eim_error(request, 415, NULL, NULL);
	else if (root || post != (verb == VERB_CREATE))
		crash(request);
	else if (verb == VERB_CREATE)
		create(request, facility);
	else if (verb == VERB_LOOKUP)
		lookup(request, facility, id);
	else if (verb == VERB_DELETE)
		delete(request, facility, id);
	else
		list(request, facility);
}

/* ---- control ---- */

static void
show(Request *request)
{
	Buf		   *out = &request->out;
	const char *comma = "";
	uint64_t	count[3];
	uint32_t	i;
	int			server;

	request->status = 200;
	buf_text(out, "{");
	for (server = 0; server < MAX_SERVERS; server++)
	{
		Settings   *s = &settings[server];

		if (!s->set)
			continue;
		memset(count, 0, sizeof(count));
		for (i = 0; i < orders.count; i++)
		{
			Order	   *order = order_get(i);

			if (order->server != server || order->deleted)
				continue;
			age(i);
			if (!order->deleted)
				count[order->status]++;
		}
		buf_format(out, "%s\"%s\":{\"new\":%" PRIu64 ",\"work\":%" PRIu64 ",\"done\":%" PRIu64
				   ",\"created\":%" PRIu64 ",\"fetched\":%" PRIu64 ",\"removed\":%" PRIu64
				   ",\"revoked\":%" PRIu64 ",\"overlaps\":%" PRIu64 ",\"noshow\":%" PRIu64
				   ",\"stuck\":%" PRIu64 ",\"crashes\":%" PRIu64 "}", comma,
				   server_by_index(server)->name, count[0], count[1], count[2], s->created,
				   s->fetched, s->removed, s->revoked, s->overlaps, s->noshow, s->stuck, s->refused);
		comma = ",";
	}
	buf_text(out, "}");
}

/* The eIM is started anew: what devices were at is lost to it. */
static void
restart(void)
{
	uint32_t	i;

	for (i = 0; i < orders.count; i++)
		if (order_get(i)->status == STATUS_WORK && !order_get(i)->deleted)
			end_with_error(i, "abortedOrder", wall_ms());
}

/*
 * Below /control/eim: GET "" shows what there is, POST "/restart" starts the
 * eIM anew.  False: no such path.
 */
bool
eim_control(Request *request, const char *path)
{
	if (strcmp(request->method, "GET") == 0 && *path == '\0')
		show(request);
	else if (strcmp(request->method, "POST") == 0 && strcmp(path, "/restart") == 0)
	{
		restart();
		request->status = 200;
		buf_text(&request->out, "{\"ok\":true}");
	}
	else
		return false;
	return true;
}

void
eim_reset(void)
{
	uint32_t	i;

	for (i = 0; i < orders.count; i++)
	{
		free(order_get(i)->resource);
		free(order_get(i)->outcome);
	}
	pool_reset(&orders);
	pool_reset(&heads);
	idtable_reset(&by_id);
	idtable_reset(&open_by_euicc);
	memset(settings, 0, sizeof(settings));
	epoch++;
}
