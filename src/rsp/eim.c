/*-------------------------------------------------------------------------
 *
 * eim.c
 *	  Driver of an eIM (SGP.32): the REST interface of onomondo-eim.
 *
 * An eIM is given orders.  POST /{facility}/create hands one in and is
 * answered 303 with a Location whose last part is the order's identifier;
 * GET /{facility}/lookup/{id} tells its status (new, work, done, absent,
 * error) and, when it is done, its outcome: a list of results, one for each
 * PSMO.  GET /{facility}/list names all orders, GET /{facility}/delete/{id}
 * takes one away.  The device fetches orders when it likes, in no order that
 * could be relied on: so there is never more than one open order of an eUICC.
 *
 * An operation takes one order, or more: a download that enables as well has
 * one for each, and whenever it is not known what became of an order, or why
 * it was refused, an order listProfileInfo asks the eUICC, which decides.  The
 * delete of an enabled profile is one order of two PSMOs.
 *
 * An eIM that does not see the device within its patience (half an hour by
 * default) ends the order as noshowOrder; it is handed in again, as soon after
 * that as can be, until the operation expires.
 *
 * The answer to create lost: the order is looked for among those listed, by
 * EID and content; an eIM makes an order while it answers, so one that is not
 * found after the time-out was never made.
 *
 * What lasts from turn to turn is in the operation's flags (unresolved,
 * ask_first, rsp_operation_id: the order that is open) and in the memo:
 *
 *	act		the order that carries out the operation, if it is not the usual
 *			one of its kind
 *	look	what the listProfileInfo that is under way is for
 *	reason	how the act ended, while the eUICC is asked
 *	lost	an earlier order of this act may have been carried out
 *	tries	orders of this act of which nothing became known
 *	lists	listProfileInfo orders in a row of which nothing came
 *	replays	replayErrors in a row
 *	bad		answers without sense in a row
 *	old		orders that are through, to be taken away at the eIM
 *	past	orders that are not to be taken for the one that is looked for
 *	kill	an order that may be open and must be taken away before the next
 *	strange	how often in a row the eIM told of another eUICC's order instead
 *	from	a lost order is being looked for: when the first list was asked for
 *	listed	the eIM's orders are listed
 *	unknown	those of them that are still to be looked up
 *	asked	the worker was asked which of them esim knows
 *	more	there are more of them, beyond
 *	beyond	the last one that was looked up
 *	again	how often the next of them could not be looked up
 *	blind	one of them could not be read
 *	vanished	the order that is looked for had a name that the eIM does not know
 *	unmade	how often in a row an order was not made
 *	since	when a lost answer was noticed whose time of sending is not known
 *	life	the eIM's patience with devices, in seconds, once it has shown
 *	iccid	the ICCID that the download got
 *	told	an ICCID that was told once, and must be told again to be believed
 *	gone	a list without the profile was seen once, and must be seen again
 *	any		delete: whether the profile is enabled was not known
 *	turned	delete: the other form of the order was taken once
 *	disabled	the first half of a delete is done
 *	plain	enable without rollback: there is nothing to roll back to
 *	narrow	listProfileInfo asks for ICCIDs and states alone: what else there is
 *			could not be told
 *
 * op->step only says which answer is awaited; begin() does not need it.  Where
 * something has been done, or may have been, a wait leaves it other than 0: that
 * is not cancelled at once.
 *
 * Who wants to cancel asks (op->cancel_asked), and the operation ends where it
 * would hand in its order and it is certain that none was carried out: the eIM
 * has ended it as noshowOrder, or the eUICC was busy, or shows that a lost one
 * had no effect.  To delete the order would not do: an eIM answers "deleted"
 * whether the device has it or not.
 *
 *-------------------------------------------------------------------------
 */
#include "driver.h"
#include "eim_outcome.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../identifier/activation_code.h"
#include "../identifier/iccid.h"

#define POLL_BASE_MS	INT64_C(1000)
#define POLL_MAX_MS		INT64_C(600000)
#define POLL_FAR_MS		INT64_C(3600000)	/* after days */
#define POLL_WORK_MS	INT64_C(15000)	/* the device is at it */
#define BUSY_BASE_MS	INT64_C(5000)	/* catBusy and the like */

/* of the time waited, the longest interval is this part: ten minutes after a
 * day, an hour after six */
#define POLLS_OF_WAIT	144

/* rest_timeout_noshow as shipped; the eIM looks for such orders every 10 s */
#define USUAL_LIFE_S	1800
#define LONGEST_LIFE_S	(31 * 86400)
#define LIFE_MARGIN_MS	INT64_C(12000)
#define LEAST_LIFE_MS	INT64_C(2000)

/* An eIM forgets orders that are done for a day.  Half of it: then one that is
 * not listed may have been there. */
#define FORGET_MS		INT64_C(43200000)

/* an order that was done before ours was handed in is not ours; clocks differ */
#define SKEW_MS			INT64_C(5000)

#define MAX_TRIES		5		/* orders in a row of which nothing became known */
#define MAX_LISTS		10
#define MAX_REPLAYS		3
#define MAX_STRANGE		3		/* orders of another eUICC in a row */
#define MAX_FINDS		24		/* look-ups of unknown orders in one turn */
#define MAX_FIND_TRIES	3		/* of one of them */
#define MAX_KEPT		RSP_MAX_CANDIDATES	/* unknown orders that the memo holds */
#define MAX_PAST		8
#define MAX_PROFILES	RSP_MAX_REPORTS

#define CARD_HEX		(2 * ICCID_CARD_SIZE)

/* tags of SGP.22's ProfileInfo: iccid, profileState */
#define NARROW_TAGS		"5A9F70"

/* which answer is awaited */
typedef enum EimStep
{
	STEP_CREATE,				/* of create, or none.  0: so that the queue's row need not be
								 * written before a first request */
	STEP_LOOKUP,				/* of the order that is open */
	STEP_LIST,					/* of list, to find a lost order */
	STEP_DELETE,				/* of an order that is through */
	STEP_KILL,					/* of one that may be open */
	STEP_FIND					/* and above: of an unknown order, the how manyth of this turn */
} EimStep;

/* ----- what statuses of HTTP mean ----- */

typedef enum HttpMeaning
{
	H_FINAL,					/* nothing was done, and it will not be otherwise */
	H_RETRY,					/* not processed, try later */
	H_PARK,						/* not processed, somebody must see to it */
	H_BUSY,						/* the server as a whole has trouble */
	H_UNKNOWN					/* of a create: the order may have been made */
} HttpMeaning;

typedef struct HttpRow
{
	int			status;
	HttpMeaning create;
	HttpMeaning get;
	const char *code;
} HttpRow;

/*
 * The eIM itself has no errors of HTTP but 500, which is a crash of its
 * handler.  All others come from what stands before it: an address that does
 * not lead to an eIM, or a denial, is for the administrator, whatever the
 * order.
 */
static const HttpRow http_rows[] = {
	{400, H_FINAL, H_FINAL, "INVALID_ARGUMENT"},
	{401, H_PARK, H_PARK, "UNAUTHENTICATED"},
	{403, H_PARK, H_PARK, "PERMISSION_DENIED"},
	{404, H_PARK, H_FINAL, "NOT_FOUND"},
	{405, H_PARK, H_PARK, "METHOD_NOT_ALLOWED"},
	{406, H_PARK, H_PARK, "NOT_ACCEPTABLE"},
	{407, H_PARK, H_PARK, "UNAUTHENTICATED"},
	{408, H_RETRY, H_RETRY, "TIMEOUT"},
	{409, H_RETRY, H_RETRY, "CONFLICT"},
	{410, H_PARK, H_FINAL, "GONE"},
	{414, H_PARK, H_PARK, "INVALID_ARGUMENT"},
	{415, H_PARK, H_PARK, "UNSUPPORTED_MEDIA_TYPE"},
	{425, H_RETRY, H_RETRY, "UNAVAILABLE"},
	{429, H_RETRY, H_RETRY, "TOO_MANY_REQUESTS"},
	{431, H_PARK, H_PARK, "INVALID_ARGUMENT"},
	{500, H_UNKNOWN, H_BUSY, "INTERNAL"},
	{501, H_PARK, H_PARK, "NOT_IMPLEMENTED"},
	{502, H_UNKNOWN, H_BUSY, "BAD_GATEWAY"},
	{503, H_UNKNOWN, H_BUSY, "UNAVAILABLE"},
	{504, H_UNKNOWN, H_BUSY, "TIMEOUT"}
};

/* those that are not there, by their class */
static const HttpRow http_3xx = {300, H_UNKNOWN, H_PARK, "UNAVAILABLE"};
static const HttpRow http_4xx = {400, H_FINAL, H_FINAL, "INVALID_ARGUMENT"};
static const HttpRow http_5xx = {500, H_UNKNOWN, H_BUSY, "INTERNAL"};
static const HttpRow http_other = {0, H_UNKNOWN, H_RETRY, "INTERNAL"};

static const HttpRow *
http_row(int status)
{
	size_t		i;

	for (i = 0; i < lengthof(http_rows); i++)
	{
		if (http_rows[i].status == status)
			return &http_rows[i];
	}
	if (status >= 300 && status < 400)
		return &http_3xx;
	if (status >= 400 && status < 500)
		return &http_4xx;
	if (status >= 500 && status < 600)
		return &http_5xx;
	return &http_other;
}

/* ----- small things ----- */

static bool
parse_iccid(const char *text, Iccid *iccid)
{
	return text != NULL && iccid_parse(text, strlen(text), false, iccid, NULL);
}

/* An ICCID as the eIM writes it: the octets of the card in hexadecimal. */
static bool
card_text(const char *text, char card[CARD_HEX + 1])
{
	static const char digits[] = "0123456789ABCDEF";
	uint8_t		octets[ICCID_CARD_SIZE];
	Iccid		iccid;
	int			i;

	if (!parse_iccid(text, &iccid))
		return false;
	iccid_to_card(iccid, octets);
	for (i = 0; i < ICCID_CARD_SIZE; i++)
	{
		card[2 * i] = digits[octets[i] >> 4];
		card[2 * i + 1] = digits[octets[i] & 15];
	}
	card[CARD_HEX] = '\0';
	return true;
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char) toupper((unsigned char) c);
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool
is_card(const char *text)
{
	return text != NULL && strlen(text) == CARD_HEX &&
		strspn(text, "0123456789ABCDEFabcdef") == CARD_HEX;
}

/* false: no ten octets, or none that stand for an ICCID of digits */
static bool
from_card_text(const char *text, char out[ICCID_TEXT_SIZE])
{
	uint8_t		octets[ICCID_CARD_SIZE];
	Iccid		iccid;
	int			i;

	if (!is_card(text))
		return false;
	for (i = 0; i < ICCID_CARD_SIZE; i++)
		octets[i] = (uint8_t) (hex_value(text[2 * i]) << 4 | hex_value(text[2 * i + 1]));
	if (!iccid_from_card(octets, &iccid))
		return false;
	iccid_format(iccid, out);
	return true;
}

/* One more answer without sense: was it one too many? */
static bool
out_of_patience(RspOperation *op)
{
	return rsp_memo_count(op, "bad") > PATIENCE;
}

/* Adds a text to an array in the memo that holds at most max, dropping the oldest. */
static void
memo_push(RspOperation *op, const char *key, const char *text, size_t max)
{
	json_t	   *array = json_object_get(op->memo, key);

	if (!json_is_array(array))
	{
		if (!rsp_json_put(op->memo, key, json_array()))
			return;
		array = json_object_get(op->memo, key);
	}
	if (rsp_json_has(array, text))
		return;
	while (json_array_size(array) >= max)
		json_array_remove(array, 0);
	json_array_append_new(array, json_string(text));
}

/* ----- which order is under way ----- */

static EimOrder
usual_order(RspKind kind)
{
	switch (kind)
	{
		case RSP_DOWNLOAD:
			return ORDER_DOWNLOAD;
		case RSP_ENABLE:
			return ORDER_ENABLE;
		case RSP_DISABLE:
			return ORDER_DISABLE;
		case RSP_DELETE:
			return ORDER_DELETE;
		case RSP_SET_FALLBACK:
			return ORDER_SET_FALLBACK;
		case RSP_UNSET_FALLBACK:
			return ORDER_UNSET_FALLBACK;
		default:
			return ORDER_LIST;
	}
}

/* The order that carries out the operation, or the part of it that is next. */
static EimOrder
act_of(const RspOperation *op)
{
	const char *name = rsp_memo_text(op, "act");

	if (op->kind == RSP_DOWNLOAD && name != NULL && strcmp(name, "enable") == 0)
		return ORDER_ENABLE;
	if (op->kind == RSP_DELETE && name != NULL && strcmp(name, "disable-delete") == 0)
		return ORDER_DISABLE_DELETE;
	return usual_order(op->kind);
}

static bool
set_act(RspOperation *op, EimOrder act)
{
	return rsp_memo_set_text(op, "act", eim_orders[act].name);
}

/* The order that is open or to be handed in next. */
static EimOrder
current(const RspOperation *op)
{
	return rsp_memo_text(op, "look") != NULL ? ORDER_LIST : act_of(op);
}

static bool
is_list(const RspOperation *op)
{
	return current(op) == ORDER_LIST;
}

/* ICCID that the act is about; NULL: a download's that is not known */
static const char *
target(const RspOperation *op)
{
	const char *iccid = rsp_memo_text(op, "iccid");

	if (op->kind == RSP_DOWNLOAD && act_of(op) == ORDER_ENABLE && iccid != NULL)
		return iccid;
	return op->iccid;
}

/*
 * The activation code, as the device's LPA takes it: without LPA:.  A profile
 * that is reserved has its own; one reserved for the EID has an empty matching
 * ID.
 */
static bool
activation_code(const RspServer *server, const RspOperation *op, ActivationCode *code)
{
	const char *address = op->profile_smdp_address;
	const char *matching_id = op->profile_matching_id != NULL ? op->profile_matching_id : "";

	if (op->activation_code != NULL)
		return activation_code_parse(op->activation_code, strlen(op->activation_code), code, NULL);
	if (address == NULL)
	{
		address = server->smdp_address;
		matching_id = "";
	}
	return address != NULL &&
		activation_code_build(address, strlen(address), matching_id, strlen(matching_id), "", 0,
							  false, code, NULL);
}

/* ----- supports, check, state_allowed ----- */

static bool
eim_supports(RspDialect dialect, RspKind kind, const char **note)
{
	const char *text = "";
	bool		can = false;

	switch (kind)
	{
		case RSP_DOWNLOAD:
			can = true;
			text = "activate_on_download enables the profile with a second order";
			break;
		case RSP_ENABLE:
		case RSP_DISABLE:
		case RSP_REFRESH:
			can = true;
			break;
		case RSP_DELETE:
			can = true;
			text = "an enabled profile is disabled and deleted by one order";
			break;
		case RSP_SET_FALLBACK:
		case RSP_UNSET_FALLBACK:
			can = true;
			text = "needs SGP.32 v1.2; a v1.0 eIM answers badPsmo";
			break;
		case RSP_SYNC:
			text = "an eIM lists the profiles of one eUICC at a time: use refresh";
			break;
		case RSP_RESERVE:
		case RSP_RELEASE:
		case RSP_CANCEL_ORDER:
			text = "an eIM has no profiles in stock: use the SM-DP+";
			break;
		case RSP_SET_SUBSCRIPTION:
		case RSP_ASSIGN_FLEET:
		case RSP_FLEET_CREATE:
			text = "an eIM does not manage subscriptions";
			break;
		case RSP_KIND_COUNT:
			break;
	}
	if (note != NULL)
		*note = text;
	return can;
}

/* What is not known yet may be when the operations ahead have run. */
static bool
still_to_come(RspState state)
{
	return state == RSP_STATE_NONE || state == RSP_STATE_RESERVING ||
		state == RSP_STATE_RESERVED || state == RSP_STATE_RELEASED ||
		state == RSP_STATE_DOWNLOADED || state == RSP_STATE_DELETED;
}

static bool
check_iccid(const RspOperation *op, RspError *error)
{
	char		card[CARD_HEX + 1];

	if (op->iccid == NULL || card_text(op->iccid, card))
		return true;
	return rsp_refuse(error, "UNSUPPORTED_IDENTIFIER", "ICCID cannot be used with protocol eim",
					  "An ICCID has 18 to 20 digits and begins with 89.", "");
}

static bool
check_download(const RspServer *server, const RspOperation *op, RspError *error)
{
	ActivationCode code;

	if (!check_iccid(op, error))
		return false;
	if (!activation_code(server, op, &code))
	{
		if (op->activation_code != NULL)
			return rsp_refuse(error, "INVALID_ARGUMENT", "activation code is not valid", "", "");
		if (op->state == RSP_STATE_RESERVING)
			return true;
		return rsp_refuse(error, "MISSING_IDENTIFIER", "no activation code is given",
						  "An eIM needs the activation code of a download.",
						  "Give the activation code, set it in the profile's row, "
						  "or set the server option smdp_address.");
	}
	if (code.confirmation_required || op->confirmation_code != NULL)
		return rsp_refuse(error, "SERVICE_NOT_APPLICABLE",
						  "confirmation codes cannot be used with protocol eim",
						  "The eIM has no field for the confirmation code.",
						  "Use a server of another protocol for this profile.");
	return true;
}

/*
 * What can be known without the device.  A profile whose download is queued
 * has no ICCID yet, one whose reservation is has no activation code.
 */
static bool
eim_check(const RspServer *server, const RspOperation *op, RspError *error)
{
	switch (op->kind)
	{
		case RSP_DOWNLOAD:
		case RSP_ENABLE:
		case RSP_DISABLE:
		case RSP_DELETE:
		case RSP_SET_FALLBACK:
		case RSP_UNSET_FALLBACK:
		case RSP_REFRESH:
			break;
		default:
			return rsp_refuse(error, "SERVICE_NOT_APPLICABLE", "protocol eim has no such operation",
							  "", "esim_capabilities() says what a server can do.");
	}
	if (!rsp_is_eid(op->eid))
		return rsp_refuse(error, "MISSING_IDENTIFIER", "no EID is given",
						  "An eIM hands its orders to an eUICC.", "Give the EID.");
	if (op->kind == RSP_DOWNLOAD)
		return check_download(server, op, error);
	if (op->kind == RSP_UNSET_FALLBACK || op->kind == RSP_REFRESH)
		return true;
	if (op->iccid == NULL && !still_to_come(op->state))
		return rsp_refuse(error, "MISSING_IDENTIFIER", "the profile's ICCID is not known",
						  "SGP.32 identifies profiles by their ICCID.",
						  "Give the ICCID, or ask for a refresh of the device.");
	return check_iccid(op, error);
}

static bool
eim_state_allowed(RspKind kind, RspState state)
{
	switch (kind)
	{
		case RSP_DOWNLOAD:
			return state == RSP_STATE_NONE || state == RSP_STATE_RESERVING ||
				state == RSP_STATE_RESERVED || state == RSP_STATE_RELEASED ||
				state == RSP_STATE_DELETED;
		case RSP_ENABLE:
			return state == RSP_STATE_DISABLED || state == RSP_STATE_INSTALLED;
		case RSP_DISABLE:
			return state == RSP_STATE_ENABLED || state == RSP_STATE_INSTALLED;
		case RSP_DELETE:
		case RSP_SET_FALLBACK:
			return state == RSP_STATE_DISABLED || state == RSP_STATE_INSTALLED ||
				state == RSP_STATE_ENABLED;
		case RSP_UNSET_FALLBACK:
		case RSP_REFRESH:
			return true;
		default:
			return false;
	}
}

/* ----- requests ----- */

static void
order_path(char *path, size_t size, EimOrder order, const char *verb, const char *id)
{
	snprintf(path, size, "/%s/%s%s%.36s", eim_orders[order].facility, verb,
			 id != NULL ? "/" : "", id != NULL ? id : "");
}

/* "psmo/<id>" of the memo in parts; false: it is not such */
static bool
old_order(const char *text, char *path, size_t size)
{
	const char *id = text != NULL ? strchr(text, '/') : NULL;

	if (id == NULL || !rsp_is_uuid(id + 1))
		return false;
	if (strncmp(text, "psmo/", 5) == 0)
		order_path(path, size, ORDER_LIST, "delete", id + 1);
	else if (strncmp(text, "download/", 9) == 0)
		order_path(path, size, ORDER_DOWNLOAD, "delete", id + 1);
	else
		return false;
	return true;
}

/*
 * For when the operation ends: its order is taken away at the eIM.  Also while
 * it waits, since it may end by expiring, and then the device must not carry
 * the order out any more.
 */
static void
tidy(RspConversation *c)
{
	RspOperation *op = c->op;
	const json_t *old = json_object_get(op->memo, "old");
	char		path[80];

	if (op->rsp_operation_id[0] != '\0')
	{
		/* one that seems to be another eUICC's is not touched */
		if (rsp_memo_number(op, "strange") > 0)
			return;
		order_path(path, sizeof(path), current(op), "delete", op->rsp_operation_id);
		rsp_cleanup(c, "GET", path);
	}
	else if (json_array_size(old) > 0 &&
			 old_order(json_string_value(json_array_get(old, json_array_size(old) - 1)), path,
					   sizeof(path)))
		rsp_cleanup(c, "GET", path);
}

/* No part of the operation is done. */
static bool
is_whole(const RspOperation *op)
{
	return !rsp_memo_flag(op, "disabled") &&
		!(op->kind == RSP_DOWNLOAD && act_of(op) == ORDER_ENABLE);
}

/* Nothing of the operation was carried out by an order that is through. */
static bool
untouched(const RspOperation *op)
{
	return rsp_memo_text(op, "look") == NULL && !rsp_memo_flag(op, "lost") && is_whole(op);
}

/* No request could be made; nothing was sent. */
static void
no_memory(RspConversation *c)
{
	rsp_no_memory(c);
	tidy(c);
}

static json_t *
psmo(const RspOperation *op, const char *name, const char *card)
{
	json_t	   *input = json_object();
	json_t	   *entry = json_object();
	bool		ok = input != NULL && entry != NULL;

	if (ok && strcmp(name, "listProfileInfo") != 0 && strcmp(name, "unsetFallbackAttribute") != 0)
		ok = rsp_json_put(input, "iccid", json_string(card));

	if (ok && strcmp(name, "listProfileInfo") == 0 && rsp_memo_flag(op, "narrow"))
		ok = rsp_json_put(input, "tagList", json_string(NARROW_TAGS));

	/* the eIM wants rollback behind iccid, and never left out */
	if (ok && strcmp(name, "enable") == 0)
		ok = rsp_json_put(input, "rollback",
						  json_boolean(!rsp_memo_flag(op, "plain") &&
									   (op->rollback || op->kind == RSP_DOWNLOAD)));
	if (ok)
	{
		ok = rsp_json_put(entry, name, input);
		input = NULL;
	}
	if (ok)
		return entry;
	json_decref(input);
	json_decref(entry);
	return NULL;
}

/* The member "order"; NULL: no memory, or what it takes is not known. */
static json_t *
order_json(const RspConversation *c, EimOrder order)
{
	const RspOperation *op = c->op;
	const EimOrderRow *row = &eim_orders[order];
	json_t	   *json = json_object();
	char		card[CARD_HEX + 1] = "";
	bool		ok = json != NULL;
	int			i;

	if (ok && order == ORDER_DOWNLOAD)
	{
		ActivationCode code;
		json_t	   *download = json_object();

		ok = download != NULL && activation_code(c->server, op, &code) &&
			rsp_json_put(download, "activationCode", json_string(code.text));
		if (ok)
		{
			ok = rsp_json_put(json, "download", download);
			download = NULL;
		}
		json_decref(download);
	}
	else if (ok)
	{
		json_t	   *list = json_array();

		if (order != ORDER_LIST && order != ORDER_UNSET_FALLBACK)
			ok = card_text(target(op), card);
		ok = ok && list != NULL;
		for (i = 0; i < 2 && ok && row->psmo[i] != NULL; i++)
			ok = json_array_append_new(list, psmo(op, row->psmo[i], card)) == 0;
		if (ok)
		{
			ok = rsp_json_put(json, "psmo", list);
			list = NULL;
		}
		json_decref(list);
	}
	if (ok)
		return json;
	json_decref(json);
	return NULL;
}

/*
 * The body as text.  Its members stand in the order in which they are put.
 * The eIM reads the body as if a form had sent it: what would be read as a
 * form's is written in another way, which JSON allows within strings, and
 * nothing of that is outside of strings.
 */
static char *
order_text(const char *eid, json_t *order)
{
	json_t	   *body = json_object();
	char	   *plain = NULL;
	char	   *text = NULL;

	if (body != NULL && rsp_json_put(body, "eidValue", json_string(eid)) &&
		json_object_set(body, "order", order) == 0)
		plain = json_dumps(body, JSON_COMPACT | JSON_ENSURE_ASCII);
	json_decref(body);
	if (plain != NULL)
		text = malloc(6 * strlen(plain) + 1);
	if (text != NULL)
	{
		const char *from;
		char	   *to = text;

		for (from = plain; *from != '\0'; from++)
		{
			if (strchr("=&+%", *from) != NULL)
				to += sprintf(to, "\\u%04x", (unsigned) *from);
			else
				*to++ = *from;
		}
		*to = '\0';
	}
	free(plain);
	return text;
}

static void look_for_order(RspConversation *c);
static void vanished(RspConversation *c);
static void withdrawn(RspConversation *c);

/* Hands in the current order, if no other can be open. */
static void
send_order(RspConversation *c)
{
	RspOperation *op = c->op;
	EimOrder	order = current(op);
	char		path[80];
	json_t	   *json;
	char	   *text;

	if (op->ask_first)
	{
		look_for_order(c);
		return;
	}
	if (op->cancel_asked && untouched(op))
	{
		withdrawn(c);
		return;
	}
	json = order_json(c, order);
	text = json != NULL ? order_text(op->eid, json) : NULL;
	json_decref(json);
	if (text == NULL)
	{
		no_memory(c);
		return;
	}
	if (order != ORDER_LIST)
	{
		/* what was listed before it is not the present any more */
		c->nreports = 0;
		c->reports_whole = false;
	}
	op->rsp_operation_id[0] = '\0';
	op->step = STEP_CREATE;
	order_path(path, sizeof(path), order, "create", NULL);
	rsp_send(c, "POST", path, NULL);
	rsp_body(c, "application/json", text);
	free(text);
}

static void
look_up(RspConversation *c)
{
	RspOperation *op = c->op;
	char		path[80];

	op->step = STEP_LOOKUP;
	order_path(path, sizeof(path), current(op), "lookup", op->rsp_operation_id);
	rsp_ask(c, "GET", path, NULL);
}

/* The open order must not be carried out any more. */
static void
take_away(RspConversation *c)
{
	RspOperation *op = c->op;
	char		path[80];

	op->step = STEP_KILL;
	order_path(path, sizeof(path), current(op), "delete", op->rsp_operation_id);
	rsp_ask(c, "GET", path, NULL);
}

/* The next of the orders that are through is taken away, then it goes on. */
static void
sweep(RspConversation *c)
{
	RspOperation *op = c->op;
	json_t	   *old = json_object_get(op->memo, "old");
	char		path[80];

	while (json_array_size(old) > 0)
	{
		const char *text = json_string_value(json_array_get(old, 0));

		if (old_order(text, path, sizeof(path)))
		{
			op->step = STEP_DELETE;
			rsp_ask(c, "GET", path, NULL);
			return;
		}
		json_array_remove(old, 0);
	}
	rsp_memo_clear(op, "old");
	look_up(c);
}

/* The open order is through: it is taken away when the next one is handed in. */
static void
retire(RspOperation *op)
{
	char		text[64];

	if (op->rsp_operation_id[0] == '\0')
		return;
	snprintf(text, sizeof(text), "%s/%.36s", eim_orders[current(op)].facility,
			 op->rsp_operation_id);
	memo_push(op, "old", text, MAX_PAST);
	memo_push(op, "past", op->rsp_operation_id, MAX_PAST);
	op->rsp_operation_id[0] = '\0';
}

/* ----- endings and waits ----- */

/* This act is settled, the next one (if any) begins from nothing. */
static void
end_of_act(RspOperation *op)
{
	retire(op);
	op->unresolved = false;
	op->polls = 0;
	op->failures = 0;
	rsp_memo_clear(op, "look");
	rsp_memo_clear(op, "reason");
	rsp_memo_clear(op, "lost");
	rsp_memo_clear(op, "tries");
	rsp_memo_clear(op, "lists");
	rsp_memo_clear(op, "replays");
	rsp_memo_clear(op, "told");
	rsp_memo_clear(op, "gone");
	rsp_memo_clear(op, "since");
	rsp_memo_clear(op, "vanished");
	rsp_memo_clear(op, "unmade");
}

/* The last order stays to be seen in the operation's row. */
static void
show_last(RspOperation *op)
{
	const json_t *past = json_object_get(op->memo, "past");
	const char *id;

	if (op->rsp_operation_id[0] != '\0' || json_array_size(past) == 0)
		return;
	id = json_string_value(json_array_get(past, json_array_size(past) - 1));
	if (rsp_is_uuid(id))
		rsp_set(op->rsp_operation_id, sizeof(op->rsp_operation_id), id);
}

static void
set_state(RspConversation *c, RspState state)
{
	c->action.profile_state_set = true;
	c->action.state = state;
}

static void
set_iccid(RspConversation *c)
{
	RspOperation *op = c->op;
	const char *iccid = rsp_memo_text(op, "iccid");

	if (iccid != NULL && (op->iccid == NULL || strcmp(iccid, op->iccid) != 0))
		rsp_set(c->action.iccid, sizeof(c->action.iccid), iccid);
}

/*
 * Fail, and tell what the operation has done nevertheless: the first half of
 * a delete, or a download whose profile could not be enabled.  A download of
 * which nobody knows whether it worked, or which the eUICC began and could not
 * end, leaves a profile that must not be handed out again.
 */
static void
fail(RspConversation *c, const char *code, const char *message, const char *said)
{
	RspOperation *op = c->op;
	bool		installed = op->kind == RSP_DOWNLOAD && act_of(op) == ORDER_ENABLE;

	tidy(c);
	op->step = STEP_CREATE;
	rsp_fail(c, code, message);
	if (said != NULL && said[0] != '\0')
		rsp_said(c, said, NULL);
	if (op->kind == RSP_DELETE && rsp_memo_flag(op, "disabled"))
		set_state(c, RSP_STATE_DISABLED);
	else if (installed)
	{
		set_state(c, RSP_STATE_DISABLED);
		set_iccid(c);
	}
	else if (op->kind == RSP_DOWNLOAD && strcmp(code, "OUTCOME_UNKNOWN") == 0)
		set_state(c, RSP_STATE_FAILED);
	else if (op->kind == RSP_ENABLE && strcmp(code, "ROLLED_BACK") == 0)
		set_state(c, RSP_STATE_DISABLED);
	show_last(op);
}

/* The whole operation has succeeded. */
static void
finish(RspConversation *c)
{
	RspOperation *op = c->op;
	const char *iccid = rsp_memo_text(op, "iccid");

	tidy(c);
	op->step = STEP_CREATE;
	op->ask_first = false;
	rsp_done(c);
	if (op->kind == RSP_DOWNLOAD)
	{
		if (op->activate_on_download)
			set_state(c, RSP_STATE_ENABLED);
		set_iccid(c);
		if (iccid == NULL)
		{
			rsp_set(c->action.message, sizeof(c->action.message),
					"the eIM did not say which ICCID was installed");
			rsp_note(c, "completed", c->action.message);
		}
		else if (op->iccid != NULL && strcmp(iccid, op->iccid) != 0)
		{
			rsp_set(c->action.message, sizeof(c->action.message),
					"another ICCID was installed than the one asked for");
			rsp_note(c, "completed", c->action.message);
		}
	}
	show_last(op);
}

/* It was to be cancelled, and nothing of it was carried out or will be. */
static void
withdrawn(RspConversation *c)
{
	tidy(c);
	rsp_withdrawn(c, "cancelled before the device had carried it out");
	show_last(c->op);
}

/* The order that was under way has had its effect. */
static void
act_done(RspConversation *c)
{
	RspOperation *op = c->op;
	EimOrder	done = act_of(op);

	end_of_act(op);
	if (done != ORDER_DOWNLOAD || !op->activate_on_download)
		finish(c);
	else if (!set_act(op, ORDER_ENABLE))
		no_memory(c);
	else if (target(op) == NULL)
		fail(c, "MISSING_IDENTIFIER",
			 "the profile was downloaded but not enabled: its ICCID is not known", NULL);
	else
		send_order(c);
}

/* Not now.  What was unresolved stays so, and shows. */
static void
later(RspConversation *c, const HttpAnswer *answer, bool trouble, const char *code,
	  const char *message)
{
	rsp_later(c, answer, trouble, code, message);
	tidy(c);
}

static void
park(RspConversation *c, const HttpAnswer *answer, const char *code, const char *message)
{
	rsp_parked(c, answer, code, message);
	tidy(c);
}

/* The eUICC or the device was busy: the order is handed in anew. */
static void
busy(RspConversation *c, const EimRow *row, const char *said)
{
	RspOperation *op = c->op;

	retire(op);
	op->step = STEP_CREATE;
	rsp_wait(c, RSP_PHASE_RETRYING, rsp_retry_delay(op, NULL, BUSY_BASE_MS, RETRY_MAX_MS), row->code,
			 row->message);
	rsp_said(c, said, NULL);
	tidy(c);
}

/*
 * The order lies ready for the device.  It is looked up at growing intervals;
 * and just after the eIM will have lost its patience, so that the device
 * finds an order whenever it comes.
 */
static void
wait_device(RspConversation *c, bool working)
{
	RspOperation *op = c->op;
	int64_t		waited = op->first_sent_ms != 0 ? op->now_ms - op->first_sent_ms : 0;
	int64_t		longest = waited / POLLS_OF_WAIT;
	int64_t		delay;
	int64_t		life = rsp_memo_number(op, "life");
	int64_t		noshow;

	if (longest < POLL_MAX_MS)
		longest = POLL_MAX_MS;
	if (longest > POLL_FAR_MS)
		longest = POLL_FAR_MS;
	delay = rsp_backoff_ms(op->polls, POLL_BASE_MS, longest);

	if (life <= 0)
		life = USUAL_LIFE_S;
	noshow = op->last_sent_ms + 1000 * life + LIFE_MARGIN_MS;
	if (working)
		delay = rsp_backoff_ms(op->polls < 4 ? op->polls : 4, POLL_BASE_MS, POLL_WORK_MS);
	else if (op->last_sent_ms != 0 && noshow > op->now_ms && delay > noshow - op->now_ms)
		delay = noshow - op->now_ms;
	if (op->polls < 1000)
		op->polls++;
	op->failures = 0;
	op->step = STEP_CREATE;
	rsp_note(c, "not-yet", "");
	rsp_wait(c, RSP_PHASE_WAITING_DEVICE, delay, "",
			 working ? "the device is carrying out the order" :
			 op->cancel_asked ? "to be cancelled when the eIM gives up waiting for the device" :
			 "the order waits for the device to fetch it");
	tidy(c);
}

/* How the act ended is kept while the eUICC is asked. */
static bool
keep_reason(RspOperation *op, const EimRow *row, const char *said)
{
	json_t	   *reason = json_object();

	if (reason != NULL && rsp_json_put(reason, "code", json_string(row->code)) &&
		rsp_json_put(reason, "message", json_string(row->message)) &&
		rsp_json_put(reason, "said", json_string(said)) &&
		(row->meaning != M_NO_ROLLBACK || rsp_json_put(reason, "plain", json_true())) &&
		json_object_set(op->memo, "reason", reason) == 0)
	{
		json_decref(reason);
		return true;
	}
	json_decref(reason);
	return false;
}

/* Fails as the act did. */
static void
fail_with_reason(RspConversation *c)
{
	RspOperation *op = c->op;
	const json_t *reason = json_object_get(op->memo, "reason");
	char		code[40];
	char		message[160];
	char		said[128];

	rsp_set(code, sizeof(code), rsp_json_string(reason, "code", sizeof(code) - 1));
	rsp_set(message, sizeof(message), rsp_json_string(reason, "message", sizeof(message) - 1));
	rsp_set(said, sizeof(said), rsp_json_string(reason, "said", sizeof(said) - 1));
	if (code[0] == '\0')
		fail(c, "OUTCOME_UNKNOWN", "what became of the order is not known", NULL);
	else
		fail(c, code, message, said);
}

/*
 * Asks the eUICC what is on it.  What for:
 *	lost	nobody knows what became of the act: it is done, or handed in again
 *	refused	the act failed: it is done all the same, or it fails
 *	after	the act failed, and what is there now is of interest
 *	assigned	the download was told to have brought another profile
 */
static void
look(RspConversation *c, const char *what)
{
	RspOperation *op = c->op;

	retire(op);
	op->polls = 0;
	op->failures = 0;
	rsp_memo_clear(op, "lists");
	rsp_memo_clear(op, "gone");
	if (!rsp_memo_set_text(op, "look", what))
		no_memory(c);
	else
		send_order(c);
}

/* ----- answers in general ----- */

/* See rsp_no_answer(). */
static bool
no_answer(RspConversation *c, const HttpAnswer *answer)
{
	if (!rsp_no_answer(c, answer))
		return false;
	tidy(c);
	return true;
}

/* Meanings that say "not now".  false: none of them. */
static bool
not_now(RspConversation *c, const HttpAnswer *answer, HttpMeaning meaning, const HttpRow *row)
{
	switch (meaning)
	{
		case H_RETRY:
			rsp_note(c, "try-later", row->code);
			later(c, answer, false, row->code, "the server asks to try again later");
			return true;
		case H_BUSY:
			/* 500 is a crash of the eIM's handler at this request, not of the eIM */
			rsp_note(c, "try-later", row->code);
			later(c, answer, answer->status != 500, row->code, "the server has trouble");
			return true;
		case H_PARK:
			rsp_note(c, "refused", row->code);
			park(c, answer, row->code, row == &http_3xx ?
				 "the server redirects to another address: its option url may be wrong" :
				 "the server does not let this client in, or its option url is wrong");
			return true;
		default:
			return false;
	}
}

static bool
good_status(const HttpAnswer *answer)
{
	return answer->status >= 200 && answer->status < 300;
}

/* ----- an order as the eIM tells it ----- */

/*
 * Is it the order that we have handed in?  Letters of hexadecimal digits may
 * be small; rollback false may be left out.
 */
static bool
same_order(const json_t *ours, const json_t *theirs)
{
	const char *key;
	json_t	   *value;
	size_t		i;

	if (json_is_object(ours))
	{
		if (!json_is_object(theirs))
			return false;
		json_object_foreach((json_t *) ours, key, value)
		{
			const json_t *other = json_object_get(theirs, key);

			if (other == NULL ? !json_is_false(value) : !same_order(value, other))
				return false;
		}
		json_object_foreach((json_t *) theirs, key, value)
		{
			if (json_object_get(ours, key) == NULL)
				return false;
		}
		return true;
	}
	if (json_is_array(ours))
	{
		if (!json_is_array(theirs) || json_array_size(ours) != json_array_size(theirs))
			return false;
		for (i = 0; i < json_array_size(ours); i++)
		{
			if (!same_order(json_array_get(ours, i), json_array_get(theirs, i)))
				return false;
		}
		return true;
	}
	if (json_is_string(ours))
		return json_is_string(theirs) &&
			strcasecmp(json_string_value(ours), json_string_value(theirs)) == 0;
	return json_equal(ours, theirs);
}

typedef enum OrderStatus
{
	STATUS_NEW,
	STATUS_WORK,
	STATUS_DONE,
	STATUS_ABSENT,
	STATUS_ERROR				/* or one that is not known */
} OrderStatus;

typedef struct EimTold
{
	OrderStatus status;
	bool		resource;		/* it says whose order it is: ours */
	bool		strange;		/* it is another eUICC's */
	int64_t		at;				/* seconds since 1970, 0: not said */
	const json_t *outcome;		/* borrowed; NULL: none */
} EimTold;

/* Seconds since 1970, told as text or as a number; 0: not such. */
static int64_t
seconds(const json_t *value)
{
	const char *text = json_string_value(value);
	int64_t		n = 0;

	if (json_is_integer(value))
		n = json_integer_value(value);
	else if (text != NULL && *text != '\0' && strlen(text) <= 12 &&
			 strspn(text, "0123456789") == strlen(text))
		n = strtoll(text, NULL, 10);
	return n > 0 && n < INT64_C(100000000000) ? n : 0;
}

/*
 * Reads the answer to a look-up.  false: it has not the shape, or is about
 * another order than the current one; why says what.
 */
static bool
read_told(const RspConversation *c, const json_t *root, EimTold *told, const char **why)
{
	static const struct
	{
		const char *name;
		OrderStatus status;
	}			statuses[] = {
		{"new", STATUS_NEW}, {"work", STATUS_WORK}, {"done", STATUS_DONE},
		{"absent", STATUS_ABSENT}, {"deleted", STATUS_ABSENT}, {"error", STATUS_ERROR}
	};
	const RspOperation *op = c->op;
	const char *status = rsp_json_string(root, "status", 64);
	const json_t *resource;
	const json_t *order;
	json_t	   *ours;
	const char *eid;
	size_t		i;
	bool		same;

	memset(told, 0, sizeof(*told));
	*why = "the answer is not an order";
	if (!json_is_object(root) || status == NULL)
		return false;
	for (i = 0; i < lengthof(statuses); i++)
	{
		if (strcasecmp(status, statuses[i].name) == 0)
			break;
	}
	told->status = i < lengthof(statuses) ? statuses[i].status : STATUS_ERROR;
	told->at = seconds(json_object_get(root, "timestamp"));
	told->outcome = json_object_get(root, "outcome");

	resource = json_object_get(root, "resource");
	if (resource == NULL || json_is_null(resource))
		return true;
	eid = rsp_json_string(resource, "eidValue", 64);
	order = json_object_get(resource, "order");
	if (eid == NULL || !json_is_object(order))
		return false;
	if (strcmp(eid, op->eid) != 0)
	{
		*why = "the order is for another eUICC";
		told->strange = true;
		return false;
	}
	ours = order_json(c, current(op));
	same = ours != NULL && same_order(ours, order);
	json_decref(ours);
	if (!same)
	{
		*why = "the order is another one";
		return false;
	}
	told->resource = true;
	return true;
}

/* ----- what is on the eUICC ----- */

typedef struct EimList
{
	bool		exact;			/* what is not listed is not there */
	int			count;
	int			enabled;		/* how many are */
	bool		found;			/* the target is listed */
	RspState	state;			/* its state */
	int			fallback;		/* whether it is the fallback profile, -1: not said */
	bool		marked;			/* one of them is */
	bool		told;			/* the ICCID in "told" is listed */
} EimList;

static bool
is_word(const json_t *value, const char *word, int number)
{
	if (json_is_integer(value))
		return json_integer_value(value) == number;
	return json_is_string(value) && strcasecmp(json_string_value(value), word) == 0;
}

/*
 * Reads a list of profiles and reports it.  An entry whose ten octets are not
 * an ICCID of digits (some issuers use hexadecimal ones) is left out; one that
 * has not ten octets, or is there twice, makes the list prove the absence of
 * nothing.
 */
static void
read_list(RspConversation *c, const json_t *array, EimList *list)
{
	RspOperation *op = c->op;
	const char *wanted = target(op);
	const char *told = rsp_memo_text(op, "told");
	json_t	   *seen = json_array();
	size_t		n = json_array_size(array);
	size_t		i;
	int			left_out = 0;
	char		detail[120];

	memset(list, 0, sizeof(*list));
	list->exact = n <= MAX_PROFILES && seen != NULL;
	list->fallback = -1;

	/* a list is the present; what an earlier one of this turn said is not */
	c->nreports = 0;
	c->reports_whole = false;

	for (i = 0; i < n; i++)
	{
		if (json_is_true(json_object_get(json_array_get(array, i), "fallbackAttribute")))
			list->marked = true;
	}
	for (i = 0; i < n && i < MAX_PROFILES; i++)
	{
		const json_t *entry = json_array_get(array, i);
		const char *card = rsp_json_string(entry, "iccid", 64);
		const json_t *word = json_object_get(entry, "profileState");
		const json_t *mark = json_object_get(entry, "fallbackAttribute");
		RspState	state = RSP_STATE_INSTALLED;
		int			fallback = -1;
		char		iccid[ICCID_TEXT_SIZE];

		list->count++;
		if (is_word(word, "enabled", 1))
		{
			state = RSP_STATE_ENABLED;
			list->enabled++;
		}
		else if (is_word(word, "disabled", 0))
			state = RSP_STATE_DISABLED;
		if (json_is_boolean(mark))
			fallback = json_is_true(mark);
		else if (list->marked)
			fallback = 0;
		if (!is_card(card) || (seen != NULL && rsp_json_has(seen, card)))
			list->exact = false;
		if (!from_card_text(card, iccid) || (seen != NULL && rsp_json_has(seen, card)))
		{
			left_out++;
			continue;
		}
		if (json_array_append_new(seen, json_string(card)) != 0)
			list->exact = false;
		rsp_report(c, op->eid, iccid, state, fallback, NULL);
		if (wanted != NULL && strcmp(iccid, wanted) == 0)
		{
			list->found = true;
			list->state = state;
			list->fallback = fallback;
		}
		if (told != NULL && strcmp(iccid, told) == 0)
			list->told = true;
	}
	json_decref(seen);
	c->reports_whole = list->exact;
	detail[0] = '\0';
	if (n > MAX_PROFILES)
		snprintf(detail, sizeof(detail), "%zu entries, only the first %d were read", n,
				 MAX_PROFILES);
	else if (left_out > 0)
		snprintf(detail, sizeof(detail), "%zu entries, %d not readable", n, left_out);
	rsp_note(c, "listed", detail);
}

typedef enum Sight
{
	SIGHT_NO,					/* the aim is not reached */
	SIGHT_YES,					/* it is */
	SIGHT_BLIND,				/* what is listed cannot tell; to repeat does no harm */
	SIGHT_DARK					/* what is listed cannot tell */
} Sight;

/* Is the aim of the act reached? */
static Sight
sight(const RspOperation *op, const EimList *list)
{
	switch (act_of(op))
	{
		case ORDER_DOWNLOAD:
			if (op->iccid == NULL)
				return list->count == 0 && list->exact ? SIGHT_NO : SIGHT_DARK;
			if (list->found)
				return SIGHT_YES;
			return list->exact ? SIGHT_NO : SIGHT_DARK;
		case ORDER_ENABLE:
			return list->found && list->state == RSP_STATE_ENABLED ? SIGHT_YES : SIGHT_NO;
		case ORDER_DISABLE:
			return list->found && list->state == RSP_STATE_DISABLED ? SIGHT_YES : SIGHT_NO;
		case ORDER_DELETE:
		case ORDER_DISABLE_DELETE:
			return !list->found && list->exact ? SIGHT_YES : SIGHT_NO;
		case ORDER_SET_FALLBACK:
			if (list->found && list->fallback >= 0)
				return list->fallback == 1 ? SIGHT_YES : SIGHT_NO;
			return SIGHT_BLIND;
		default:
			return list->marked ? SIGHT_NO : SIGHT_BLIND;
	}
}

/*
 * The eUICC shows that the act has had its effect.
 */
static void
seen(RspConversation *c)
{
	RspOperation *op = c->op;

	if (act_of(op) == ORDER_DOWNLOAD && !rsp_memo_set_text(op, "iccid", op->iccid))
	{
		no_memory(c);
		return;
	}
	act_done(c);
}

/* The other form of a delete, once: true when it is handed in. */
static bool
turn(RspConversation *c, EimOrder act)
{
	RspOperation *op = c->op;

	if (rsp_memo_flag(op, "turned") || !rsp_memo_set_flag(op, "turned") || !set_act(op, act))
		return false;
	retire(op);
	rsp_memo_clear(op, "look");
	rsp_memo_clear(op, "reason");
	op->polls = 0;
	op->failures = 0;
	send_order(c);
	return true;
}

/* Nobody knew what became of the act, and now it shows. */
static void
resolve_lost(RspConversation *c, const EimList *list)
{
	RspOperation *op = c->op;
	EimOrder	act = act_of(op);

	switch (sight(op, list))
	{
		case SIGHT_YES:
			seen(c);
			return;
		case SIGHT_DARK:
			fail(c, "OUTCOME_UNKNOWN",
				 op->iccid == NULL ?
				 "what became of the download is not known, and which ICCID it was to bring neither" :
				 "what became of the download is not known, and the list of profiles is not complete",
				 NULL);
			return;
		case SIGHT_NO:
			if (op->cancel_asked && is_whole(op))
			{
				withdrawn(c);
				return;
			}
			break;
		case SIGHT_BLIND:
			break;
	}
	if (rsp_memo_number(op, "tries") >= MAX_TRIES)
	{
		fail_with_reason(c);
		if (list->found)
			set_state(c, list->state);
		return;
	}
	if (act == ORDER_DISABLE_DELETE && list->found && list->state == RSP_STATE_DISABLED)
	{
		if (!rsp_memo_set_flag(op, "disabled") || !set_act(op, ORDER_DELETE))
		{
			no_memory(c);
			return;
		}
	}
	else if (act == ORDER_DELETE && rsp_memo_flag(op, "disabled") && list->found &&
			 list->state == RSP_STATE_ENABLED)
	{
		/* it was told to be disabled, or has been enabled again */
		rsp_memo_clear(op, "disabled");
		if (!set_act(op, ORDER_DISABLE_DELETE))
		{
			no_memory(c);
			return;
		}
	}
	retire(op);
	rsp_memo_clear(op, "look");
	rsp_memo_clear(op, "reason");
	op->polls = 0;
	op->failures = 0;
	send_order(c);
}

/* The act was refused; the list says whether its aim is reached all the same. */
static void
resolve_refused(RspConversation *c, const EimList *list)
{
	RspOperation *op = c->op;
	EimOrder	act = act_of(op);
	const json_t *reason = json_object_get(op->memo, "reason");
	Sight		what = sight(op, list);

	/* a download that was there already is not this operation's */
	if (what == SIGHT_YES && (act != ORDER_DOWNLOAD || rsp_memo_flag(op, "lost")))
	{
		rsp_note(c, "listed", "it is so already");
		seen(c);
		return;
	}
	if (what == SIGHT_DARK && rsp_memo_flag(op, "lost"))
	{
		fail(c, "OUTCOME_UNKNOWN",
			 "what became of the download is not known, and the list of profiles cannot tell", NULL);
		return;
	}

	/* no profile is enabled, so there is none that one could go back to */
	if (act == ORDER_ENABLE && json_is_true(json_object_get(reason, "plain")) &&
		list->found && list->enabled == 0 && list->exact && !rsp_memo_flag(op, "plain"))
	{
		if (!rsp_memo_set_flag(op, "plain"))
		{
			no_memory(c);
			return;
		}
		retire(op);
		rsp_memo_clear(op, "look");
		rsp_memo_clear(op, "reason");
		op->polls = 0;
		op->failures = 0;
		send_order(c);
		return;
	}
	fail_with_reason(c);
	if (list->found)
		set_state(c, list->state);
}

/*
 * The download was told to have brought another profile than the one asked
 * for: what is listed is believed.
 */
static void
resolve_assigned(RspConversation *c, const EimList *list)
{
	RspOperation *op = c->op;
	const char *iccid = list->found ? op->iccid : list->told ? rsp_memo_text(op, "told") : NULL;

	if (iccid == NULL)
	{
		fail(c, "OUTCOME_UNKNOWN",
			 "the eIM told of another profile than the one asked for, and neither is listed", NULL);
		return;
	}
	if (!rsp_memo_set_text(op, "iccid", iccid))
		no_memory(c);
	else
		act_done(c);
}

/* No list can be had. */
static void
no_list(RspConversation *c, const EimRow *row, const char *said)
{
	RspOperation *op = c->op;
	const char *what = rsp_memo_text(op, "look");

	if (what == NULL)
		fail(c, row->code, row->message, said);
	else if (strcmp(what, "after") == 0 ||
			 (strcmp(what, "refused") == 0 && !rsp_memo_flag(op, "lost")))
		fail_with_reason(c);
	else
		fail(c, "OUTCOME_UNKNOWN",
			 "what became of the order is not known, and the eUICC does not say what is on it",
			 said);
}

/* ----- the end of an order ----- */

/*
 * The act failed.  verify: its aim may be reached all the same; so it may be
 * if an earlier order of it was lost.
 */
static void
refused(RspConversation *c, bool verify, const EimRow *row, const char *said)
{
	RspOperation *op = c->op;

	if (!verify && !rsp_memo_flag(op, "lost"))
	{
		fail(c, row->code, row->message, said);
		/* the SM-DP+ has handed it out, and the eUICC could not take it */
		if (act_of(op) == ORDER_DOWNLOAD && strcmp(row->key, "profileInstallationResult") == 0)
			set_state(c, RSP_STATE_FAILED);
	}
	else if (!keep_reason(op, row, said))
		no_memory(c);
	else
		look(c, "refused");
}

/* What became of the order is not known. */
static void
unclear(RspConversation *c, const EimRow *row, const char *said)
{
	RspOperation *op = c->op;

	if (is_list(op))
	{
		if (rsp_memo_count(op, "lists") >= MAX_LISTS)
			no_list(c, row, said);
		else
			busy(c, row, said);
		return;
	}
	rsp_memo_count(op, "tries");
	rsp_memo_set_flag(op, "lost");
	if (!keep_reason(op, row, said))
		no_memory(c);
	else
		look(c, "lost");
}

/*
 * The device did not come in the eIM's time.  How long that is shows in when
 * the order was ended.
 */
static void
noshow(RspConversation *c, const EimTold *told, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	const char *what = rsp_memo_text(op, "look");

	if (what != NULL && strcmp(what, "after") == 0)
	{
		fail_with_reason(c);
		return;
	}
	if (told->at > 0 && op->last_sent_ms > 0)
	{
		int64_t		life = told->at - (op->last_sent_ms + answer->date_skew_ms) / 1000;

		if (life > 0 && life <= LONGEST_LIFE_S)
			rsp_memo_set(op, "life", json_integer(life));
	}
	retire(op);
	if (op->now_ms - op->last_sent_ms < LEAST_LIFE_MS)
	{
		/* an eIM that has no patience at all is not to be asked without end */
		op->step = STEP_CREATE;
		rsp_wait(c, RSP_PHASE_RETRYING, rsp_retry_delay(op, NULL, BUSY_BASE_MS, RETRY_MAX_MS), "TIMEOUT",
				 "the eIM gives devices no time to fetch the order");
		tidy(c);
		return;
	}
	op->failures = 0;
	send_order(c);
}

static void
download_done(RspConversation *c, const EimVerdict *verdict)
{
	RspOperation *op = c->op;
	const char *told = rsp_memo_text(op, "told");
	char		iccid[ICCID_TEXT_SIZE];

	if (!from_card_text(verdict->iccid, iccid))
	{
		if (op->iccid != NULL && !rsp_memo_set_text(op, "iccid", op->iccid))
			no_memory(c);
		else
			act_done(c);
		return;
	}
	if (op->iccid != NULL && strcmp(op->iccid, iccid) == 0)
	{
		if (!rsp_memo_set_text(op, "iccid", iccid))
			no_memory(c);
		else
			act_done(c);
		return;
	}

	/* one mangled answer would give the profile another name for ever */
	if (told == NULL || strcmp(told, iccid) != 0)
	{
		if (!rsp_memo_set_text(op, "told", iccid))
			no_memory(c);
		else
			look_up(c);
		return;
	}
	if (op->iccid != NULL)
		look(c, "assigned");
	else if (!rsp_memo_set_text(op, "iccid", iccid))
		no_memory(c);
	else
		act_done(c);
}

static void
act_ended(RspConversation *c, const EimVerdict *verdict)
{
	RspOperation *op = c->op;
	EimOrder	act = act_of(op);
	const EimRow *row = verdict->row;

	if (verdict->disabled)
	{
		/* what is left of it is the second half */
		rsp_memo_set_flag(op, "disabled");
		set_act(op, ORDER_DELETE);
	}
	if (row->meaning != M_REPLAY)
		rsp_memo_clear(op, "replays");
	switch (row->meaning)
	{
		case M_OK:
		case M_ALREADY:
			rsp_note(c, "completed", "");
			if (act == ORDER_DOWNLOAD)
				download_done(c, verdict);
			else
				act_done(c);
			return;

		case M_STATE:
			rsp_note(c, "failed", verdict->said);

			/* it was to be disabled for its deletion, and is already */
			if (verdict->turned && turn(c, ORDER_DELETE))
				return;

			/* esim did not know whether it is enabled, and deletes those that are */
			if (act == ORDER_DELETE && rsp_memo_flag(op, "any") && turn(c, ORDER_DISABLE_DELETE))
				return;
			refused(c, true, row, verdict->said);
			return;

		case M_ABSENT:
		case M_NO_ROLLBACK:
			rsp_note(c, "failed", verdict->said);
			refused(c, true, row, verdict->said);
			return;

		case M_FINAL:
			rsp_note(c, "failed", verdict->said);
			refused(c, false, row, verdict->said);
			return;

		case M_UNDEFINED:
			rsp_note(c, "failed", verdict->said);
			rsp_memo_set_flag(op, "lost");
			refused(c, true, row, verdict->said);
			return;

		case M_RETRY:
			rsp_note(c, "try-later", verdict->said);
			busy(c, row, verdict->said);
			return;

		case M_REPLAY:
			rsp_note(c, "try-later", verdict->said);
			if (rsp_memo_count(op, "replays") <= MAX_REPLAYS)
				busy(c, row, verdict->said);
			else
			{
				/* each order raises the counter by one: that does not help here */
				rsp_memo_clear(op, "replays");
				retire(op);
				op->step = STEP_CREATE;
				rsp_park(c, row->code, row->message);
				rsp_said(c, verdict->said, NULL);
			}
			return;

		case M_ROLLED_BACK:
			rsp_note(c, "rolled-back", verdict->said);
			if (!keep_reason(op, row, verdict->said))
				no_memory(c);
			else
				look(c, "after");
			return;

		case M_ROLLBACK_FAILED:
			rsp_note(c, "rolled-back", verdict->said);
			refused(c, true, row, verdict->said);
			return;

		case M_NOSHOW:
		case M_UNCLEAR:
			break;
	}
	rsp_note(c, "unknown", verdict->said);
	unclear(c, row, verdict->said);
}

/* Lists to come ask for what they must have alone, or for all. */
static void
narrow(RspOperation *op, bool alone)
{
	if (alone)
		rsp_memo_set_flag(op, "narrow");
	else
		rsp_memo_clear(op, "narrow");
}

static void
list_ended(RspConversation *c, const EimVerdict *verdict)
{
	RspOperation *op = c->op;
	const char *what = rsp_memo_text(op, "look");
	EimList		list;

	if (verdict->list == NULL)
	{
		const EimRow *row = verdict->row;

		rsp_note(c, "failed", verdict->said);
		if (row->name != NULL && strcmp(row->name, "resultSizeOverflow") == 0)
			narrow(op, true);
		if (row->meaning == M_RETRY)
			busy(c, row, verdict->said);
		else if (row->meaning == M_UNCLEAR || row->meaning == M_REPLAY)
			unclear(c, row, verdict->said);
		else
			no_list(c, row, verdict->said);
		return;
	}
	read_list(c, verdict->list, &list);
	if (what == NULL)
	{
		finish(c);
		return;
	}

	/* one mangled ICCID in a list makes a profile vanish: ask once more */
	if (op->kind == RSP_DELETE && !list.found && list.exact && !rsp_memo_flag(op, "gone"))
	{
		if (!rsp_memo_set_flag(op, "gone"))
			no_memory(c);
		else
			look_up(c);
		return;
	}
	if (strcmp(what, "refused") == 0)
		resolve_refused(c, &list);
	else if (strcmp(what, "assigned") == 0)
		resolve_assigned(c, &list);
	else if (strcmp(what, "after") == 0)
	{
		fail_with_reason(c);
		if (list.found)
			set_state(c, list.state);
	}
	else
		resolve_lost(c, &list);
}

/*
 * The look-up of our order brought nothing of use.  The order may be open: when
 * nothing better comes, it is taken away before another one is handed in.
 */
static void
not_understood(RspConversation *c, const HttpAnswer *answer, const char *code,
			   const char *message)
{
	RspOperation *op = c->op;

	if (!out_of_patience(op))
	{
		later(c, answer, false, code, message);
		return;
	}
	rsp_memo_clear(op, "bad");
	if (!rsp_memo_set_text(op, "kill", op->rsp_operation_id))
	{
		no_memory(c);
		return;
	}
	op->failures = 0;
	take_away(c);
}

/* The eIM has the order, and says how it stands. */
static void
take_told(RspConversation *c, const EimTold *told, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	EimVerdict	verdict;

	if (told->status == STATUS_ERROR)
	{
		rsp_note(c, "bad-answer", "the eIM has an internal error");
		not_understood(c, answer, "INTERNAL", "the eIM has an internal error");
		return;
	}
	rsp_memo_clear(op, "bad");
	rsp_memo_clear(op, "strange");
	switch (told->status)
	{
		case STATUS_NEW:
		case STATUS_WORK:
			wait_device(c, told->status == STATUS_WORK);
			return;
		case STATUS_ABSENT:
			rsp_note(c, "gone", "");
			vanished(c);
			return;
		case STATUS_DONE:
		case STATUS_ERROR:
			break;
	}
	eim_judge(current(op), told->outcome, &verdict);
	if (verdict.row != NULL && verdict.row->meaning == M_NOSHOW)
	{
		rsp_note(c, "no-show", verdict.said);
		noshow(c, told, answer);
	}
	else if (is_list(op))
		list_ended(c, &verdict);
	else
		act_ended(c, &verdict);
}

static void
looked_up(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	EimTold		told;
	const HttpRow *row;
	const char *reason;
	json_t	   *root;

	if (no_answer(c, answer))
		return;
	if (!good_status(answer))
	{
		row = http_row(answer->status);
		if (answer->status == 404 || answer->status == 410)
		{
			/* this eIM would say absent; but it is as good */
			memset(&told, 0, sizeof(told));
			told.status = STATUS_ABSENT;
			if (!out_of_patience(op))
			{
				rsp_note(c, "refused", row->code);
				later(c, answer, false, row->code, "the server does not have the order");
			}
			else
				take_told(c, &told, answer);
		}
		else if (answer->status == 500)
		{
			/*
			 * The eIM's handler has crashed, perhaps at this order alone (its
			 * outcome cannot be told): then it can be taken away all the same,
			 * and nobody else is to be held up by it.
			 */
			rsp_note(c, "try-later", row->code);
			not_understood(c, answer, row->code, "the server has trouble with the order");
		}
		else if (!not_now(c, answer, row->get, row))
		{
			rsp_note(c, "refused", row->code);
			not_understood(c, answer, row->code, "the server does not say how the order stands");
		}
		return;
	}
	root = rsp_answer_json(answer, &reason);
	memset(&told, 0, sizeof(told));
	if (root != NULL && read_told(c, root, &told, &reason))
		take_told(c, &told, answer);
	else
	{
		rsp_note(c, "bad-answer", reason);
		if (told.strange && rsp_memo_count(op, "strange") >= MAX_STRANGE)
			vanished(c);
		else
			not_understood(c, answer, "INTERNAL", "the server's answer cannot be understood");
	}
	json_decref(root);
}

/* The order that could not be understood is taken away, or it cannot be. */
static void
killed(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	const char *reason;
	json_t	   *root = rsp_answer_json(answer, &reason);
	const char *status = rsp_json_string(root, "status", 64);
	bool		away = good_status(answer) && status != NULL &&
		(strcasecmp(status, "deleted") == 0 || strcasecmp(status, "absent") == 0);

	json_decref(root);
	if (!away && no_answer(c, answer))
		return;
	if (!away && answer->status >= 500)
	{
		/* it is not the order, it is the eIM: when it is well again, the order can be read */
		rsp_note(c, "try-later", http_row(answer->status)->code);
		rsp_memo_clear(op, "kill");
		rsp_memo_clear(op, "bad");
		later(c, answer, true, http_row(answer->status)->code, "the server has trouble");
		return;
	}
	if (!away && !out_of_patience(op))
	{
		rsp_note(c, "bad-answer", "the order could not be deleted");
		later(c, answer, false, "INTERNAL", "an order that cannot be understood is deleted");
		return;
	}
	rsp_note(c, away ? "deleted" : "bad-answer", "");
	rsp_memo_clear(op, "bad");
	rsp_memo_clear(op, "kill");
	memo_push(op, "past", op->rsp_operation_id, MAX_PAST);
	op->rsp_operation_id[0] = '\0';

	/* perhaps it was a name on the eUICC that is not UTF-8 */
	if (is_list(op))
		narrow(op, !rsp_memo_flag(op, "narrow"));
	unclear(c, &eim_unreadable, "");
}

/* An order that is through was taken away, or will be forgotten by the eIM. */
static void
swept(RspConversation *c, const HttpAnswer *answer)
{
	json_t	   *old = json_object_get(c->op->memo, "old");

	rsp_note(c, good_status(answer) ? "deleted" : "not-deleted", answer->error);
	json_array_remove(old, 0);
	sweep(c);
}

/* ----- a lost answer to create ----- */

/* Which orders does the eIM have? */
static void
list_orders(RspConversation *c)
{
	RspOperation *op = c->op;
	char		path[80];

	rsp_memo_clear(op, "listed");
	rsp_memo_clear(op, "unknown");
	op->step = STEP_LIST;
	order_path(path, sizeof(path), current(op), "list", NULL);
	rsp_ask(c, "GET", path, NULL);
}

static void
end_search(RspOperation *op)
{
	static const char *const keys[] = {
		"from", "listed", "unknown", "asked", "more", "beyond", "again", "blind"
	};
	size_t		i;

	for (i = 0; i < lengthof(keys); i++)
		rsp_memo_clear(op, keys[i]);
}

static void
look_for_order(RspConversation *c)
{
	end_search(c->op);
	if (!rsp_memo_set(c->op, "from", json_integer(c->op->now_ms)))
		no_memory(c);
	else
		list_orders(c);
}

/*
 * The eIM does not know the order by the name that it has given itself, or
 * another eUICC's order has it.  It may be there under another name.
 */
static void
vanished(RspConversation *c)
{
	RspOperation *op = c->op;

	memo_push(op, "past", op->rsp_operation_id, MAX_PAST);
	op->rsp_operation_id[0] = '\0';
	rsp_memo_clear(op, "strange");
	rsp_memo_clear(op, "bad");
	if (rsp_memo_flag(op, "vanished") || op->now_ms - op->last_sent_ms > FORGET_MS)
	{
		rsp_memo_clear(op, "vanished");
		unclear(c, &eim_gone, "status: absent");
		return;
	}
	if (!rsp_memo_set_flag(op, "vanished"))
	{
		no_memory(c);
		return;
	}
	op->unresolved = true;
	op->polls = 0;
	look_for_order(c);
}

/*
 * Whether the order was made cannot be found out now.  crash: the eIM cannot
 * list its orders at all, which is so where there are more than 52 of them, and
 * may be so for good.
 */
static void
search_failed(RspConversation *c, const HttpAnswer *answer, bool crash, const char *code,
			  const char *message)
{
	RspOperation *op = c->op;
	int64_t		until;
	bool		enough = out_of_patience(op);

	end_search(op);
	until = rsp_sent_at(op) + c->server->unknown_hold_ms;
	if (until < rsp_sent_at(op) + c->server->timeout_ms + GRACE_MS)
		until = rsp_sent_at(op) + c->server->timeout_ms + GRACE_MS;
	if (!enough || (op->now_ms < until && (crash || op->unresolved)))
		later(c, answer, false, code, message);
	else if (crash || (op->unresolved && (is_list(op) || rsp_memo_flag(op, "vanished"))))
	{
		/*
		 * One more list does no harm; and by now the order was fetched, or the
		 * eIM has given up waiting for the device.
		 */
		rsp_memo_clear(op, "bad");
		rsp_memo_clear(op, "since");
		rsp_memo_clear(op, "vanished");
		op->unresolved = false;
		op->ask_first = false;
		op->failures = 0;
		unclear(c, &eim_unreadable, "");
	}
	else if (!op->unresolved)
	{
		/* nothing is known to have been sent */
		rsp_memo_clear(op, "bad");
		op->step = STEP_CREATE;
		rsp_park(c, code, message);
	}
	else
		fail(c, "OUTCOME_UNKNOWN",
			 "the answer was lost, and the server does not say which orders it has", NULL);
}

/* The order is not at the eIM. */
static void
not_found(RspConversation *c)
{
	RspOperation *op = c->op;
	int64_t		from = rsp_memo_number(op, "from");
	int64_t		settled;

	if (rsp_memo_flag(op, "blind"))
	{
		search_failed(c, NULL, false, "INTERNAL", "one of the server's orders cannot be understood");
		return;
	}
	end_search(op);
	rsp_memo_clear(op, "bad");
	if (!op->unresolved)
	{
		/*
		 * Rows of an earlier timeline: an order may have been made, carried
		 * out and taken away.  If it is refused now, that is looked into.
		 */
		op->ask_first = false;
		op->failures = 0;
		rsp_memo_clear(op, "since");
		if (!is_list(op))
			rsp_memo_set_flag(op, "lost");
		if (op->cancel_asked && !is_list(op))
			look(c, "lost");
		else
			send_order(c);
		return;
	}
	settled = rsp_sent_at(op) + c->server->timeout_ms + GRACE_MS;
	if (from < settled)
	{
		/* it may have been made since the orders were listed */
		rsp_wait_unknown(c, settled, "the answer was lost; the order is looked for");
		return;
	}
	op->unresolved = false;
	op->ask_first = false;
	op->polls = 0;
	rsp_memo_clear(op, "since");
	if (rsp_memo_flag(op, "vanished") || (op->now_ms - op->last_sent_ms > FORGET_MS && !is_list(op)))
	{
		rsp_memo_clear(op, "vanished");
		unclear(c, &eim_gone, "");
		return;
	}
	if (rsp_memo_count(op, "unmade") > 1)
		later(c, NULL, false, "UNAVAILABLE", "the server did not make the order");
	else
		send_order(c);
}

/* for qsort */
static int
compare_ids(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/*
 * The identifiers in a list of orders that come next in the search, in order:
 * those of earlier orders of this operation and those that have been looked up
 * are left out.  NULL: no memory.  strange: some are no identifiers.
 */
static json_t *
ids_to_find(const RspOperation *op, const json_t *list, bool *strange)
{
	const json_t *past = json_object_get(op->memo, "past");
	const char *beyond = rsp_memo_text(op, "beyond");
	size_t		n = json_array_size(list);
	const char **ids = malloc((n + 1) * sizeof(char *));
	json_t	   *found = json_array();
	size_t		count = 0;
	size_t		i;
	bool		good = ids != NULL && found != NULL;

	*strange = false;
	for (i = 0; i < n && good; i++)
	{
		const char *id = json_string_value(json_array_get(list, i));

		if (!rsp_is_uuid(id))
			*strange = true;
		else if ((beyond == NULL || strcmp(id, beyond) > 0) && !rsp_json_has(past, id))
			ids[count++] = id;
	}
	if (good)
		qsort(ids, count, sizeof(char *), compare_ids);
	for (i = 0; i < count && good; i++)
	{
		if (i == 0 || strcmp(ids[i], ids[i - 1]) != 0)
			good = json_array_append_new(found, json_string(ids[i])) == 0;
	}
	free(ids);
	if (good)
		return found;
	json_decref(found);
	return NULL;
}

/* The first of these, for the memo. */
static json_t *
first_ids(const json_t *ids, size_t max)
{
	json_t	   *first = json_array();
	size_t		i;

	for (i = 0; i < json_array_size(ids) && i < max; i++)
		json_array_append(first, json_array_get(ids, i));
	return first;
}

/* The orders at the eIM; those that esim knows are left out by the worker. */
static void
listed(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	const HttpRow *row;
	const char *reason;
	json_t	   *root;
	json_t	   *list;
	json_t	   *ids;
	char		detail[80];
	bool		strange;

	if (no_answer(c, answer))
		return;
	if (!good_status(answer))
	{
		row = http_row(answer->status);
		if (answer->status == 500)
		{
			rsp_note(c, "try-later", row->code);
			search_failed(c, answer, true, row->code, "the server cannot list its orders");
		}
		else if (!not_now(c, answer, row->get, row))
		{
			rsp_note(c, "refused", row->code);
			search_failed(c, answer, false, row->code,
						  "the server does not say which orders it has");
		}
		return;
	}
	root = rsp_answer_json(answer, &reason);
	list = json_object_get(root, "resourceIdList");
	if (list == NULL)
		list = json_object_get(root, "resource_id_list");	/* early versions */
	if (!json_is_array(list))
	{
		rsp_note(c, "bad-answer", root == NULL ? reason : "the answer is not a list of orders");
		json_decref(root);
		search_failed(c, answer, false, "INTERNAL", "the server's answer cannot be understood");
		return;
	}
	ids = ids_to_find(op, list, &strange);
	snprintf(detail, sizeof(detail), "%zu orders%s", json_array_size(list),
			 strange ? ", not all of them have identifiers" : "");
	json_decref(root);
	if (ids == NULL)
	{
		no_memory(c);
		return;
	}
	rsp_note(c, "listed", detail);
	if (strange)
		rsp_memo_set_flag(op, "blind");
	if (json_array_size(ids) == 0)
	{
		json_decref(ids);
		not_found(c);
		return;
	}
	rsp_memo_set_flag(op, "listed");
	rsp_memo_set_flag(op, "asked");
	if (json_array_size(ids) > MAX_KEPT)
		rsp_memo_set_flag(op, "more");
	else
		rsp_memo_clear(op, "more");
	rsp_json_put(op->memo, "unknown", first_ids(ids, MAX_KEPT));
	rsp_candidates(c, ids);
	op->step = STEP_CREATE;
	rsp_wait(c, op->unresolved ? RSP_PHASE_UNKNOWN : RSP_PHASE_RETRYING, 1, "",
			 "the order is looked for at the server");
}

/* Looks up the next unknown order, the nth of this turn. */
static void
find_next(RspConversation *c, int n)
{
	RspOperation *op = c->op;
	json_t	   *unknown = json_object_get(op->memo, "unknown");
	const char *id = NULL;
	char		path[80];

	if (rsp_memo_flag(op, "asked"))
	{
		/* the worker gives no more than fit: then there may be others */
		rsp_memo_clear(op, "asked");
		if (json_array_size(unknown) < MAX_KEPT)
			rsp_memo_clear(op, "more");
	}
	while (json_array_size(unknown) > 0)
	{
		id = json_string_value(json_array_get(unknown, 0));
		if (rsp_is_uuid(id))
			break;
		json_array_remove(unknown, 0);
	}
	if (json_array_size(unknown) == 0)
	{
		if (rsp_memo_flag(op, "more") && rsp_memo_text(op, "beyond") != NULL)
			list_orders(c);
		else
			not_found(c);
		return;
	}
	if (n >= MAX_FINDS)
	{
		op->step = STEP_CREATE;
		rsp_wait(c, op->unresolved ? RSP_PHASE_UNKNOWN : RSP_PHASE_RETRYING, 1, "",
				 "the order is looked for at the server");
		return;
	}
	op->step = STEP_FIND + n;
	order_path(path, sizeof(path), current(op), "lookup", id);
	rsp_ask(c, "GET", path, NULL);
}

/* An unknown order: is it the one that is looked for? */
static void
found(RspConversation *c, int n, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	json_t	   *unknown = json_object_get(op->memo, "unknown");
	const char *id = json_string_value(json_array_get(unknown, 0));
	EimTold		told;
	const HttpRow *row;
	const char *reason;
	json_t	   *root;
	bool		ours = false;

	if (no_answer(c, answer))
		return;
	if (!good_status(answer))
	{
		/* one order that the eIM cannot tell of must not hide all others */
		row = http_row(answer->status);
		if (rsp_memo_count(op, "again") < MAX_FIND_TRIES && not_now(c, answer, row->get, row))
			return;
	}
	rsp_memo_clear(op, "again");
	root = good_status(answer) ? rsp_answer_json(answer, &reason) : NULL;
	if (!json_is_string(json_object_get(root, "status")))
	{
		rsp_note(c, "bad-answer", "");
		if (answer->status != 404 && answer->status != 410)
			rsp_memo_set_flag(op, "blind");
	}
	else if (read_told(c, root, &told, &reason))
	{
		int64_t		sent = op->last_sent_ms + answer->date_skew_ms - SKEW_MS;

		/* the time is that of its last change: it was made then, or before */
		ours = rsp_is_uuid(id) && told.resource && told.status != STATUS_ABSENT &&
			!(told.at > 0 && 1000 * told.at < sent);
		if (!told.resource && told.status != STATUS_ABSENT)
			rsp_memo_set_flag(op, "blind");
		rsp_note(c, ours ? "found" : "another", "");
	}
	else
		rsp_note(c, "another", "");

	if (ours)
	{
		rsp_set(op->rsp_operation_id, sizeof(op->rsp_operation_id), id);
		end_search(op);
		op->unresolved = false;
		op->ask_first = false;
		op->failures = 0;
		op->polls = 0;
		rsp_memo_clear(op, "since");
		take_told(c, &told, answer);
	}
	else
	{
		rsp_memo_set_text(op, "beyond", id);
		json_array_remove(unknown, 0);
		find_next(c, n + 1);
	}
	json_decref(root);
}

/* ----- answer of create ----- */

/*
 * The identifier in a Location: its last part, be it a path or a whole URL.
 * The address itself is never followed.
 */
static bool
id_of_location(const char *location, char id[37])
{
	size_t		length = location != NULL ? strcspn(location, "?#") : 0;
	size_t		begin;

	while (length > 0 && location[length - 1] == '/')
		length--;
	for (begin = length; begin > 0 && location[begin - 1] != '/'; begin--)
		;
	if (begin == 0 || length - begin != 36)
		return false;
	memcpy(id, location + begin, 36);
	id[36] = '\0';
	return rsp_is_uuid(id);
}

/* Nobody knows whether the order was made. */
static void
lost(RspConversation *c)
{
	RspOperation *op = c->op;

	op->unresolved = true;
	op->polls = 0;
	look_for_order(c);
}

static void
created(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	const HttpRow *row;
	char		id[37];

	if (answer->outcome == HTTP_NOT_SENT)
	{
		op->unresolved = false;
		no_answer(c, answer);
		return;
	}
	if (answer->outcome == HTTP_LOST)
	{
		rsp_note(c, "lost", answer->error);
		lost(c);
		return;
	}
	if (answer->status >= 200 && answer->status < 400)
	{
		if (!id_of_location(answer->location, id) ||
			rsp_json_has(json_object_get(op->memo, "past"), id))
		{
			rsp_note(c, "bad-answer", "the answer does not name the order");
			lost(c);
			return;
		}
		rsp_set(op->rsp_operation_id, sizeof(op->rsp_operation_id), id);
		op->unresolved = false;
		op->failures = 0;
		rsp_memo_clear(op, "bad");
		rsp_memo_clear(op, "vanished");
		rsp_memo_clear(op, "unmade");
		rsp_note(c, "accepted", "");
		sweep(c);
		return;
	}
	row = http_row(answer->status);
	switch (row->create)
	{
		case H_UNKNOWN:
		case H_BUSY:
			rsp_note(c, "unknown", row->code);
			lost(c);
			return;
		case H_FINAL:
			rsp_note(c, "refused", row->code);
			op->unresolved = false;
			if (is_list(op))
			{
				EimRow		refusal = eim_unreadable;

				refusal.code = row->code;
				refusal.message = "the server refused the order";
				no_list(c, &refusal, "");
			}
			else if (rsp_memo_flag(op, "lost"))
				fail(c, "OUTCOME_UNKNOWN",
					 "what became of an earlier order is not known, and the server refuses another",
					 NULL);
			else
				fail(c, row->code, "the server refused the order", NULL);
			return;
		default:
			op->unresolved = false;
			not_now(c, answer, row->create, row);
			return;
	}
}

/* ----- the driver's face ----- */

/*
 * Takes an operation up: at first, after a wait, after a crash at any point.
 */
static void
take_up(RspConversation *c)
{
	RspOperation *op = c->op;
	RspError	error;
	EimOrder	act;
	bool		doubt = op->unresolved || op->rsp_operation_id[0] != '\0' || rsp_memo_flag(op, "lost");

	op->step = STEP_CREATE;
	memset(&error, 0, sizeof(error));
	act = act_of(op);
	if (!eim_check(c->server, op, &error))
	{
		/* it was checked when it was queued; the server's options may differ now */
		fail(c, doubt ? "OUTCOME_UNKNOWN" : error.code, error.message, NULL);
		return;
	}
	if (target(op) == NULL && op->kind != RSP_DOWNLOAD && op->kind != RSP_REFRESH &&
		op->kind != RSP_UNSET_FALLBACK)
	{
		fail(c, doubt ? "OUTCOME_UNKNOWN" : "MISSING_IDENTIFIER",
			 "the profile's ICCID is not known", NULL);
		return;
	}
	if (act == ORDER_DOWNLOAD)
	{
		ActivationCode code;

		if (!activation_code(c->server, op, &code))
		{
			fail(c, doubt ? "OUTCOME_UNKNOWN" : "MISSING_IDENTIFIER",
				 "no activation code is known", NULL);
			return;
		}
	}
	if (op->rsp_operation_id[0] != '\0' && !rsp_is_uuid(op->rsp_operation_id))
	{
		op->rsp_operation_id[0] = '\0';
		op->unresolved = true;
	}
	if (act == ORDER_DELETE && op->first_sent_ms == 0 && !op->unresolved &&
		op->rsp_operation_id[0] == '\0' && rsp_memo_text(op, "act") == NULL)
	{
		bool		good = true;

		if (op->state == RSP_STATE_ENABLED)
			good = set_act(op, ORDER_DISABLE_DELETE);
		else if (op->state != RSP_STATE_DISABLED)
			good = rsp_memo_set_flag(op, "any");
		if (!good)
		{
			no_memory(c);
			return;
		}
	}

	if (rsp_memo_flag(op, "listed") && op->rsp_operation_id[0] == '\0')
		find_next(c, 0);
	else if (op->unresolved)
		look_for_order(c);
	else if (rsp_memo_text(op, "kill") != NULL && op->rsp_operation_id[0] != '\0')
		take_away(c);
	else if (op->rsp_operation_id[0] != '\0')
		look_up(c);
	else
		send_order(c);
}

static void
read_answer(RspConversation *c, const HttpAnswer *answer)
{
	int			step = c->op->step;

	if (step >= STEP_FIND && step < STEP_FIND + MAX_FINDS)
	{
		found(c, step - STEP_FIND, answer);
		return;
	}
	switch (step)
	{
		case STEP_CREATE:
			created(c, answer);
			break;
		case STEP_LOOKUP:
			looked_up(c, answer);
			break;
		case STEP_LIST:
			listed(c, answer);
			break;
		case STEP_DELETE:
			swept(c, answer);
			break;
		case STEP_KILL:
			killed(c, answer);
			break;
		default:
			/* not a step of ours: take it up anew, which asks if anything was sent */
			take_up(c);
			break;
	}
}

/* A wait tells by its step whether something is done, or may be. */
static void
keep_done(RspConversation *c)
{
	RspOperation *op = c->op;

	if ((c->action.type == RSP_ACT_WAIT || c->action.type == RSP_ACT_PARK) &&
		(!untouched(op) || json_object_get(op->memo, "reason") != NULL))
		op->step = STEP_LOOKUP;
}

static void
eim_begin(RspConversation *c)
{
	take_up(c);
	keep_done(c);
}

static void
eim_answer(RspConversation *c, const HttpAnswer *answer)
{
	read_answer(c, answer);
	keep_done(c);
}

const RspDriver rsp_eim = {
	.protocol = RSP_PROTOCOL_EIM,
	.name = "eim",
	.supports = eim_supports,
	.check = eim_check,
	.state_allowed = eim_state_allowed,
	.can_ask = true,
	.can_withdraw = true,
	.begin = eim_begin,
	.answer = eim_answer
};
