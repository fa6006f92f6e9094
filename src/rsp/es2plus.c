/*-------------------------------------------------------------------------
 *
 * es2plus.c
 *	  Driver of ES2+, from the operator to the SM-DP+ (SGP.22 5.3, 6.5).
 *
 * Kinds: reserve is downloadOrder, then confirmOrder; release is
 * releaseProfile; cancel-order is cancelOrder; download is the default SM-DP+
 * use: order and confirm for the EID, after which the device fetches the
 * profile when it asks, and a notification tells of it.
 *
 * There is no function that reads.  What became of a request whose answer was
 * lost is found out by going on, each request being such that it cannot act
 * twice:
 *
 *	downloadOrder	of a known ICCID: confirmOrder follows, its success proves
 *			the order; if it is refused, the order is repeated, which cannot
 *			take another profile.  Of an ICCID that the SM-DP+ was to choose: a
 *			repeat would take a second profile from stock, so there is none.
 *	confirmOrder	repeated with the same ICCID, EID and MatchingID.
 *	releaseProfile	repeated; "cannot be released" says that it is.
 *	cancelOrder	repeated with the EID and the MatchingID of the order, so that
 *			it cannot meet the next order of the same profile.
 *
 * What lasts from turn to turn is op->step (which request is under way or
 * next) and the memo:
 *
 *	iccid	the ICCID that is ordered, as an answer has said: the order is proved
 *	lost_order, lost_confirm, lost	an earlier try of downloadOrder, of
 *			confirmOrder, of the kind's only request may have been carried out
 *	order_at	when the lost downloadOrder was sent
 *	noted	when the last request was sent whose loss is in these flags: a
 *			later one that is unresolved is another
 *	rounds	how often a lost downloadOrder was repeated
 *	senseless	how many answers made no sense
 *	mid		number of the MatchingID of ours, when the first ones were taken
 *	s1, s2	what our MatchingID is made of
 *	empty	cancelOrder with an empty MatchingID
 *	nomid	cancelOrder without the MatchingID, of which it is not known whether
 *			it was confirmed
 *	bare	this ICCID of 19 digits is written without padding, or not
 *	guess	so far only because an answer without sense came to the padding
 *
 *-------------------------------------------------------------------------
 */
#include "driver.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "../identifier/activation_code.h"
#include "es2plus_event.h"

#define ES2PLUS_PATH	"/gsma/rsp2/es2plus"
#define ADMIN_PROTOCOL	"gsma/rsp/v2.5.0"

#define BUSY_BASE_MS	INT64_C(15000)
#define BUSY_MAX_MS		INT64_C(3600000)
#define STOCK_BASE_MS	INT64_C(900000)
#define STOCK_MAX_MS	INT64_C(21600000)
#define DEVICE_BASE_MS	INT64_C(300000)
#define DEVICE_MAX_MS	INT64_C(21600000)

#define MAX_ROUNDS		2
#define MAX_MATCHING_IDS 3
#define MAX_PROFILE_TYPE 255
#define MAX_CONFIRMATION_CODE 255

/* which request is under way, or comes next */
typedef enum Es2plusStep
{
	STEP_FIRST,					/* the kind's first: downloadOrder, releaseProfile or
								 * cancelOrder.  0: so that the queue's row need not be
								 * written before a first request */
	STEP_CONFIRM,
	STEP_REORDER,				/* downloadOrder once more, after confirmOrder was refused */
	STEP_RELEASE,				/* releaseProfile of a download of what is reserved */
	STEP_DEVICE					/* none: the device's turn */
} Es2plusStep;

#define F_ORDER			0x01
#define F_CONFIRM		0x02
#define F_CANCEL		0x04
#define F_RELEASE		0x08
#define F_ALL			0x0f

/* ----- what codes mean ----- */

typedef enum Meaning
{
	M_FINAL,					/* nothing was done, and it will not be otherwise */
	M_STATE,					/* not done because of the profile's state: it may be so by a
								 * try of ours whose answer was lost */
	M_BOUND,					/* not done because the order is another's: likewise */
	M_ABSENT,					/* not done because there is no such profile: likewise */
	M_USED,						/* not done because the MatchingID is in use */
	M_NAMELESS,					/* not done because the MatchingID was left out */
	M_RETRY,					/* not done, try later */
	M_STOCK,					/* not done, stock is used up: parked, tried now and then */
	M_PARK,						/* not done, the set-up is wrong: likewise */
	M_DOUBT						/* broken off: may have been done */
} Meaning;

typedef struct Es2plusRow
{
	int			functions;
	const char *subject;
	const char *reason;
	Meaning		meaning;
	const char *code;			/* CAMARA's */
} Es2plusRow;

/*
 * Subject and reason codes of a Failed function; the first row that fits
 * counts.  Several servers print 3.10 as 3.1: they are taken for the same.
 *
 * Processing and transport errors are no proof that nothing was done, whatever
 * Failed should mean, and are treated as lost answers.  1.1 and 1.2 say that
 * the requester or the provider is not known to the other: an administrator's
 * matter, and not one that may fail all that is queued.
 */
static const Es2plusRow es2plus_rows[] = {
	{F_CONFIRM | F_CANCEL, "8.1.1", "2.2", M_FINAL, "MISSING_IDENTIFIER"},
	{F_ORDER | F_CONFIRM, "8.1.1", "3.9", M_FINAL, "IDENTIFIER_NOT_FOUND"},
	{F_CONFIRM | F_CANCEL, "8.1.1", "3.10", M_BOUND, "IDENTIFIER_MISMATCH"},
	{F_ALL, "8.2.1", "1.2", M_FINAL, "PERMISSION_DENIED"},
	{F_CANCEL, "8.2.1", "2.2", M_FINAL, "MISSING_IDENTIFIER"},
	{F_ORDER, "8.2.1", "3.3", M_STATE, "CONFLICT"},
	{F_CONFIRM | F_CANCEL, "8.2.1", "3.3", M_STATE, "INCOMPATIBLE_STATE"},
	{F_ALL, "8.2.1", "3.5", M_STATE, "INCOMPATIBLE_STATE"},
	{F_CANCEL, "8.2.1", "3.9", M_ABSENT, "IDENTIFIER_NOT_FOUND"},
	{F_ALL, "8.2.1", "3.9", M_FINAL, "IDENTIFIER_NOT_FOUND"},
	{F_CONFIRM | F_CANCEL, "8.2.1", "3.10", M_BOUND, "IDENTIFIER_MISMATCH"},
	{F_ORDER, "8.2.5", "1.2", M_FINAL, "PERMISSION_DENIED"},
	{F_ORDER, "8.2.5", "3.7", M_STOCK, "QUOTA_EXCEEDED"},
	{F_ORDER, "8.2.5", "3.8", M_FINAL, "INVALID_ARGUMENT"},
	{F_ORDER, "8.2.5", "3.9", M_FINAL, "NOT_FOUND"},
	{F_CONFIRM, "8.2.6", "2.1", M_FINAL, "INVALID_ARGUMENT"},
	{F_CANCEL, "8.2.6", "2.2", M_NAMELESS, "MISSING_IDENTIFIER"},
	{F_CONFIRM, "8.2.6", "3.3", M_USED, "ALREADY_EXISTS"},
	{F_CANCEL, "8.2.6", "3.10", M_BOUND, "IDENTIFIER_MISMATCH"},
	{F_CONFIRM | F_RELEASE | F_CANCEL, "8.9*", "4.2", M_RETRY, "UNAVAILABLE"},
	{F_CONFIRM | F_RELEASE | F_CANCEL, "8.9*", "5.1", M_RETRY, "UNAVAILABLE"},

	{F_ALL, "*", "4.10", M_RETRY, "TIMEOUT"},
	{F_ALL, "*", "4*", M_DOUBT, "INTERNAL"},
	{F_ALL, "*", "5*", M_DOUBT, "UNAVAILABLE"},
	{F_ALL, "1.3*", "*", M_FINAL, "SERVICE_NOT_APPLICABLE"},
	{F_ALL, "1.6*", "*", M_FINAL, "NOT_IMPLEMENTED"},
	{F_ALL, "1*", "*", M_PARK, "PERMISSION_DENIED"},

	/* codes that are not in the tables of these functions, by their class */
	{F_ALL, "*", "1*", M_FINAL, "PERMISSION_DENIED"},
	{F_ALL, "*", "2*", M_FINAL, "INVALID_ARGUMENT"},
	{F_ALL, "*", "3.3", M_FINAL, "CONFLICT"},
	{F_ALL, "*", "3.5", M_FINAL, "INCOMPATIBLE_STATE"},
	{F_ALL, "*", "3.7", M_FINAL, "UNAVAILABLE"},
	{F_ALL, "*", "3.9", M_FINAL, "NOT_FOUND"},
	{F_ALL, "*", "3.10", M_FINAL, "IDENTIFIER_MISMATCH"},
	{F_ALL, "*", "3*", M_FINAL, "SERVICE_NOT_APPLICABLE"},
	{F_ALL, "*", "6*", M_FINAL, "PERMISSION_DENIED"},
	{F_ALL, "*", "*", M_FINAL, "SERVICE_NOT_APPLICABLE"}
};

/*
 * Business failures come with HTTP 200, so other statuses are not the
 * function's.  Those in this table were given before it was reached; all others
 * leave open what was done.
 */
static const struct
{
	int			status;
	Meaning		meaning;		/* M_RETRY, M_PARK */
	const char *code;
	const char *message;
}			http_rows[] = {
	{401, M_PARK, "UNAUTHENTICATED", "the server does not accept the credentials"},
	{403, M_PARK, "PERMISSION_DENIED", "the server does not let this client in"},
	{404, M_PARK, "NOT_FOUND", "the server has no ES2+ at its url"},
	{405, M_PARK, "METHOD_NOT_ALLOWED", "the server has no ES2+ at its url"},
	{406, M_PARK, "NOT_ACCEPTABLE", "the server does not speak JSON"},
	{407, M_PARK, "UNAUTHENTICATED", "a proxy does not accept the credentials"},
	{408, M_RETRY, "TIMEOUT", "the server did not get the request in time"},
	{411, M_PARK, "INVALID_ARGUMENT", "the server does not take the request"},
	{413, M_PARK, "INVALID_ARGUMENT", "the server does not take the request"},
	{414, M_PARK, "INVALID_ARGUMENT", "the server does not take the request"},
	{415, M_PARK, "UNSUPPORTED_MEDIA_TYPE", "the server does not take JSON"},
	{421, M_PARK, "INVALID_ARGUMENT", "the server does not take the request"},
	{425, M_RETRY, "UNAVAILABLE", "the server asks to try again later"},
	{426, M_PARK, "INVALID_ARGUMENT", "the server does not take the request"},
	{429, M_RETRY, "TOO_MANY_REQUESTS", "the server asks to try again later"},
	{431, M_PARK, "INVALID_ARGUMENT", "the server does not take the request"},
	{501, M_PARK, "NOT_IMPLEMENTED", "the server has no such function"},
	{505, M_PARK, "NOT_IMPLEMENTED", "the server does not take the request"}
};

static const Es2plusRow *
row_of(int function, const char *subject, const char *reason)
{
	size_t		i;

	if (strcmp(reason, "3.1") == 0)
		reason = "3.10";
	for (i = 0; i < lengthof(es2plus_rows) - 1; i++)
	{
		if ((es2plus_rows[i].functions & function) != 0 &&
			es2plus_code_is(subject, es2plus_rows[i].subject) &&
			es2plus_code_is(reason, es2plus_rows[i].reason))
			break;
	}
	return &es2plus_rows[i];
}

/* ----- small things ----- */

/* as it can stand in an activation code; false also for "" */
static bool
valid_matching_id(const char *text)
{
	ActivationCode code;
	ActivationCodeError error;

	return text != NULL && text[0] != '\0' && strlen(text) <= ACTIVATION_CODE_MAX_LEN &&
		activation_code_build("a.example", 9, text, strlen(text), "", 0, false, &code, &error);
}

static bool
valid_address(const char *text)
{
	ActivationCode code;
	ActivationCodeError error;

	return text != NULL && text[0] != '\0' && strlen(text) <= ACTIVATION_CODE_MAX_LEN &&
		activation_code_build(text, strlen(text), "", 0, "", 0, false, &code, &error);
}

static bool
empty(const char *text)
{
	return text == NULL || text[0] == '\0';
}

/* Some servers write null, or nothing between quotes, for what they leave out. */
static bool
is_absent(const json_t *root, const char *key)
{
	const json_t *value = json_object_get(root, key);

	return value == NULL || json_is_null(value) ||
		(json_is_string(value) && json_string_length(value) == 0);
}

/* the ICCID that is ordered, "" as long as that is not proved */
static const char *
ordered(const RspOperation *op)
{
	const char *iccid = json_string_value(json_object_get(op->memo, "iccid"));

	return rsp_is_iccid(iccid) ? iccid : "";
}

/* the ICCID that requests are about, NULL: the SM-DP+ is to choose one */
static const char *
target(const RspOperation *op)
{
	return ordered(op)[0] != '\0' ? ordered(op) : op->iccid;
}

/* the EID that the order is for, NULL: for any */
static const char *
bound_eid(const RspOperation *op)
{
	if (op->kind == RSP_CANCEL_ORDER && op->reserved_eid != NULL)
		return op->reserved_eid;
	return op->eid != NULL ? op->eid : op->reserved_eid;
}

/* does cancelOrder name no MatchingID? */
static bool
sends_nameless(const RspOperation *op)
{
	return empty(op->profile_matching_id) || rsp_memo_flag(op, "nomid");
}

/* may a request of ours have been carried out without our knowing? */
static bool
in_doubt(const RspOperation *op)
{
	return rsp_memo_flag(op, "lost_order") || rsp_memo_flag(op, "lost_confirm") ||
		rsp_memo_flag(op, "lost");
}

/* Refused without a reason after a lost answer: perhaps because it was done. */
static bool
unexplained(const RspOperation *op, const Es2plusExecution *said)
{
	return in_doubt(op) && said->subject[0] == '\0' && said->reason[0] == '\0';
}

/*
 * At the end of a turn: what is in doubt stays unresolved, and is told from the
 * next request that is sent.
 */
static void
keep_doubt(RspOperation *op)
{
	op->unresolved = in_doubt(op);
	if (op->unresolved)
		rsp_memo_set(op, "noted", json_integer(op->last_sent_ms));
	else
		rsp_memo_clear(op, "noted");
}

/* Has the profile of a download been ordered and confirmed before? */
static bool
is_prepared(const RspOperation *op)
{
	return (op->state == RSP_STATE_RESERVED || op->state == RSP_STATE_RELEASED ||
			op->state == RSP_STATE_DOWNLOADED) &&
		(op->reserved_eid != NULL || !empty(op->profile_matching_id));
}

/* A step that this kind of operation has; what is none counts as the first. */
static Es2plusStep
step_of(const RspOperation *op)
{
	switch (op->step)
	{
		case STEP_CONFIRM:
		case STEP_REORDER:
			if ((op->kind == RSP_RESERVE || op->kind == RSP_DOWNLOAD) && target(op) != NULL)
				return (Es2plusStep) op->step;
			break;
		case STEP_RELEASE:
		case STEP_DEVICE:
			if (op->kind == RSP_DOWNLOAD)
				return (Es2plusStep) op->step;
			break;
		default:
			break;
	}
	return STEP_FIRST;
}

/* ----- MatchingIDs, call identifiers ----- */

static uint64_t
mix(uint64_t value)
{
	value += UINT64_C(0x9e3779b97f4a7c15);
	value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
	return value ^ value >> 31;
}

static uint64_t
mix_text(const char *text, uint64_t hash)
{
	for (; *text != '\0'; text++)
		hash = mix(hash ^ (unsigned char) *text);
	return hash;
}

/*
 * A random number of this operation, kept in its memo: the same one after a
 * lost answer, and none that can be guessed from the operation's identifier,
 * which others may see.
 */
static uint64_t
memo_secret(const RspOperation *op, const char *key)
{
	json_t	   *known = json_object_get(op->memo, key);
	uint64_t	number = 0;

	if (json_is_integer(known))
		return (uint64_t) json_integer_value(known);
	if (getrandom(&number, sizeof(number), 0) != (ssize_t) sizeof(number))
		number = mix_text(op->id, (uint64_t) op->now_ms);
	json_object_set_new(op->memo, key, json_integer((json_int_t) number));
	return number;
}

/*
 * The MatchingID that we give: 100 random bits in digits and upper case
 * letters that cannot be taken for one another.  The same each time, so that
 * a repeat is one.
 */
static void
own_matching_id(const RspOperation *op, char out[24])
{
	static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
	uint64_t	hash = mix(memo_secret(op, "s1") ^ mix((uint64_t) rsp_memo_number(op, "mid")));
	uint64_t	more = mix(memo_secret(op, "s2") ^ hash);
	int			n = 0;
	int			i;

	for (i = 0; i < 20; i++)
	{
		if (i > 0 && i % 5 == 0)
			out[n++] = '-';
		out[n++] = digits[i < 10 ? (hash >> (5 * i)) & 31 : (more >> (5 * (i - 10))) & 31];
	}
	out[n] = '\0';
}

/*
 * functionCallIdentifier, in the shape of a uuid (RFC 9562, version 8): another
 * for each try.
 */
static void
new_call_id(const RspOperation *op, char out[37])
{
	static uint64_t calls = 0;
	uint64_t	a;
	uint64_t	b;

	calls = mix(calls + (uint64_t) op->attempts);
	a = mix_text(op->id, mix((uint64_t) op->now_ms) ^ calls);
	b = mix(a ^ mix_text(op->id, calls));
	snprintf(out, 37, "%08x-%04x-8%03x-%04x-%04x%08x", (unsigned) (a >> 32),
			 (unsigned) (a >> 16 & 0xffff), (unsigned) (a & 0xfff),
			 (unsigned) (0x8000 | (b >> 48 & 0x3fff)), (unsigned) (b >> 32 & 0xffff),
			 (unsigned) (b & 0xffffffff));
}

/*
 * The MatchingID of confirmOrder.  NULL: left out, the SM-DP+ makes one.  "":
 * default SM-DP+ use, the device needs none.  buf is room for one of ours.
 */
static const char *
wanted_matching_id(const RspConversation *c, char buf[ACTIVATION_CODE_MAX_LEN + 1])
{
	const RspOperation *op = c->op;
	ActivationCode code;
	ActivationCodeError error;

	if (op->kind == RSP_DOWNLOAD)
	{
		if (!empty(op->profile_matching_id))
			return op->profile_matching_id;
		if (op->activation_code != NULL &&
			activation_code_parse(op->activation_code, strlen(op->activation_code), &code, &error))
		{
			memcpy(buf, code.text + code.matching_id.offset, code.matching_id.length);
			buf[code.matching_id.length] = '\0';
			return buf;
		}
		return "";
	}
	if (op->matching_id != NULL)
		return op->matching_id;

	/* an SM-DS names its event by the MatchingID */
	if (op->eid != NULL && !op->generate_matching_id && empty(op->smds_address))
		return "";
	if (c->server->matching_id_source != NULL &&
		strcmp(c->server->matching_id_source, "server") == 0)
		return NULL;
	own_matching_id(op, buf);
	return buf;
}

/* is the MatchingID of confirmOrder one that nobody else can have given? */
static bool
matching_id_is_own(const RspConversation *c)
{
	char		buf[ACTIVATION_CODE_MAX_LEN + 1];

	return c->op->kind == RSP_RESERVE && c->op->matching_id == NULL &&
		!empty(wanted_matching_id(c, buf));
}

/* ----- supports, check, state_allowed ----- */

static bool
es2plus_supports(RspDialect dialect, RspKind kind, const char **note)
{
	const char *text = "";
	bool		can = false;

	switch (kind)
	{
		case RSP_RESERVE:
			can = true;
			text = "downloadOrder and confirmOrder";
			break;
		case RSP_RELEASE:
		case RSP_CANCEL_ORDER:
			can = true;
			break;
		case RSP_DOWNLOAD:
			can = true;
			text = "default SM-DP+ use: the device fetches the profile, a notification ends the "
				"operation";
			break;
		case RSP_ENABLE:
		case RSP_DISABLE:
		case RSP_DELETE:
		case RSP_SET_FALLBACK:
		case RSP_UNSET_FALLBACK:
			text = "ES2+ does not reach profiles on eUICCs";
			break;
		case RSP_REFRESH:
		case RSP_SYNC:
			text = "ES2+ has no function that reads";
			break;
		case RSP_SET_SUBSCRIPTION:
		case RSP_ASSIGN_FLEET:
		case RSP_FLEET_CREATE:
			text = "ES2+ does not manage subscriptions";
			break;
		case RSP_KIND_COUNT:
			break;
	}
	if (note != NULL)
		*note = text;
	return can;
}

static bool
check_identifiers(const RspOperation *op, RspError *error)
{
	if (op->eid != NULL && !rsp_is_eid(op->eid))
		return rsp_refuse(error, "UNSUPPORTED_IDENTIFIER", "EID cannot be used with protocol es2plus",
						  "ES2+ takes EIDs of 32 digits.", "");
	if (op->iccid != NULL && !rsp_is_iccid(op->iccid))
		return rsp_refuse(error, "UNSUPPORTED_IDENTIFIER",
						  "ICCID cannot be used with protocol es2plus",
						  "ES2+ takes ICCIDs of 18 to 20 digits.", "");
	return true;
}

static bool
check_reserve(const RspOperation *op, RspError *error)
{
	if (op->profile_type != NULL &&
		(op->profile_type[0] == '\0' || strlen(op->profile_type) > MAX_PROFILE_TYPE))
		return rsp_refuse(error, "INVALID_ARGUMENT", "profile type is empty or too long", "", "");
	if (op->matching_id != NULL && op->generate_matching_id)
		return rsp_refuse(error, "INVALID_ARGUMENT",
						  "matching ID is given and to be generated as well", "",
						  "Give one of matching_id and generate_matching_id.");
	if (op->matching_id != NULL && op->matching_id[0] == '\0' && op->eid == NULL)
		return rsp_refuse(error, "MISSING_IDENTIFIER", "an empty matching ID needs an EID",
						  "It stands for the default SM-DP+ use (SGP.22 5.3.2).", "Give the EID.");
	if (!empty(op->matching_id) && !valid_matching_id(op->matching_id))
		return rsp_refuse(error, "INVALID_ARGUMENT", "matching ID is not valid",
						  "It could not stand in an activation code (SGP.22 4.1).", "");
	if (op->smds_address != NULL && op->eid == NULL)
		return rsp_refuse(error, "MISSING_IDENTIFIER", "an SM-DS address needs an EID",
						  "An SM-DS keeps events for eUICCs (SGP.22 5.3.2).", "Give the EID.");
	if (op->smds_address != NULL && !valid_address(op->smds_address))
		return rsp_refuse(error, "INVALID_ARGUMENT", "SM-DS address is not valid",
						  "It is a host name without scheme and path.", "");
	return true;
}

static bool
check_download(const RspOperation *op, RspError *error)
{
	ActivationCode code;
	ActivationCodeError code_error;

	if (op->eid == NULL)
		return rsp_refuse(error, "MISSING_IDENTIFIER", "no EID is given", "", "Give the EID.");
	if (op->reserved_eid != NULL && strcmp(op->reserved_eid, op->eid) != 0)
		return rsp_refuse(error, "IDENTIFIER_MISMATCH", "the profile is reserved for another eUICC",
						  "", "Cancel its order first.");
	if (op->activate_on_download)
		return rsp_refuse(error, "SERVICE_NOT_APPLICABLE",
						  "protocol es2plus cannot enable profiles",
						  "The device fetches the profile by itself.",
						  "Enable it through the server that manages the eUICC.");
	if (op->activation_code != NULL &&
		!activation_code_parse(op->activation_code, strlen(op->activation_code), &code,
							   &code_error))
		return rsp_refuse(error, "INVALID_ARGUMENT", "activation code is not valid", "", "");
	return true;
}

static bool
check_parameters(const RspOperation *op, RspError *error)
{
	if (!check_identifiers(op, error))
		return false;
	if (op->confirmation_code != NULL &&
		(op->confirmation_code[0] == '\0' ||
		 strlen(op->confirmation_code) > MAX_CONFIRMATION_CODE))
		return rsp_refuse(error, "INVALID_ARGUMENT", "confirmation code is empty or too long", "", "");
	switch (op->kind)
	{
		case RSP_RESERVE:
			return check_reserve(op, error);
		case RSP_DOWNLOAD:
			return check_download(op, error);
		case RSP_RELEASE:
			return true;
		case RSP_CANCEL_ORDER:
			if (op->final_status != NULL && strcmp(op->final_status, "Available") != 0 &&
				strcmp(op->final_status, "Unavailable") != 0)
				return rsp_refuse(error, "INVALID_ARGUMENT", "final status is not valid",
								  "A cancelled profile is Available or Unavailable (SGP.22 5.3.3).",
								  "");
			return true;
		default:
			return rsp_refuse(error, "SERVICE_NOT_APPLICABLE",
							  "protocol es2plus has no such operation", "",
							  "esim_capabilities() says what a server can do.");
	}
}

/*
 * What can be known at once.  An ICCID is not asked for: the profile may be
 * one that an operation ahead is to reserve.
 */
static bool
es2plus_check(const RspServer *server, const RspOperation *op, RspError *error)
{
	if (!check_parameters(op, error))
		return false;
	if (empty(server->requester_id))
		return rsp_refuse(error, "UNAVAILABLE", "the server has no requester identifier",
						  "Each request of ES2+ names its requester.",
						  "Set the server's option requester_id.");
	return true;
}

static bool
es2plus_state_allowed(RspKind kind, RspState state)
{
	switch (kind)
	{
		case RSP_DOWNLOAD:
			return state == RSP_STATE_NONE || state == RSP_STATE_RESERVING ||
				state == RSP_STATE_RESERVED || state == RSP_STATE_RELEASED ||
				state == RSP_STATE_DELETED;
		case RSP_RESERVE:
			return state == RSP_STATE_NONE || state == RSP_STATE_RESERVING;
		case RSP_RELEASE:
			return state == RSP_STATE_RESERVED;
		case RSP_CANCEL_ORDER:
			return state == RSP_STATE_RESERVED || state == RSP_STATE_RELEASED ||
				state == RSP_STATE_FAILED;
		default:
			return false;
	}
}

/* ----- endings and waits ----- */

/* No request could be made; nothing was sent. */
static void
no_memory(RspConversation *c)
{
	keep_doubt(c->op);
	rsp_wait(c, c->op->unresolved ? RSP_PHASE_UNKNOWN : RSP_PHASE_RETRYING, RETRY_MAX_MS,
			 "INTERNAL", "out of memory");
}

/* the ICCID that was assigned, if the profile's row does not have it */
static void
tell_iccid(RspConversation *c)
{
	const char *iccid = ordered(c->op);

	if (iccid[0] != '\0' && (c->op->iccid == NULL || strcmp(c->op->iccid, iccid) != 0))
		strcpy(c->action.iccid, iccid);
}

/*
 * Versions before 2.2 did not know ICCIDs of 19 digits, so these are filled up
 * to 20, which all should take (SGP.22 6.5.2.2); but an SM-DP+ that writes the
 * number without padding gets it so.
 */
static bool
is_bare(const RspOperation *op)
{
	const json_t *bare = json_object_get(op->memo, "bare");

	if (bare != NULL)
		return json_is_true(bare);
	return op->rsp_id != NULL && op->iccid != NULL && strlen(op->rsp_id) == 19 &&
		strcmp(op->rsp_id, op->iccid) == 0;
}

/* the ICCID as the SM-DP+ writes it */
static void
set_rsp_id(RspConversation *c)
{
	const char *iccid = ordered(c->op);

	snprintf(c->facts.rsp_id, sizeof(c->facts.rsp_id), "%s%s", iccid,
			 strlen(iccid) == 19 && !is_bare(c->op) ? "F" : "");
}

/*
 * Fail.  A profile whose order stands, or may stand, is FAILED with its ICCID,
 * so that the order can be cancelled; one that was to be reserved is, too.
 */
static void
fail(RspConversation *c, const char *code, const char *message, const Es2plusExecution *said)
{
	RspOperation *op = c->op;
	char		rsp_code[48] = "";
	char		buf[ACTIVATION_CODE_MAX_LEN + 1];

	rsp_fail(c, code, message);
	/* every other code says what became of the last request */
	if (strcmp(code, "OUTCOME_UNKNOWN") != 0)
		op->unresolved = false;
	if (said != NULL)
	{
		snprintf(rsp_code, sizeof(rsp_code), "%s%s%s", said->subject,
				 said->subject[0] != '\0' && said->reason[0] != '\0' ? "/" : "", said->reason);
		rsp_said(c, rsp_code, said->message);
	}
	tell_iccid(c);
	if ((op->kind == RSP_RESERVE &&
		 (op->state == RSP_STATE_NONE || op->state == RSP_STATE_RESERVING)) ||
		((op->kind == RSP_RESERVE || op->kind == RSP_DOWNLOAD) && ordered(op)[0] != '\0'))
	{
		c->action.profile_state_set = true;
		c->action.state = RSP_STATE_FAILED;
	}

	/* what it takes to cancel the order */
	if ((op->kind == RSP_RESERVE || op->kind == RSP_DOWNLOAD) && ordered(op)[0] != '\0')
	{
		set_rsp_id(c);
		rsp_set(c->facts.reserved_eid, sizeof(c->facts.reserved_eid), bound_eid(op));
		if (rsp_memo_flag(op, "lost_confirm"))
			rsp_set(c->facts.matching_id, sizeof(c->facts.matching_id),
					wanted_matching_id(c, buf));
	}
}

static void
fail_unknown(RspConversation *c, const char *message, const Es2plusExecution *said)
{
	fail(c, "OUTCOME_UNKNOWN", message, said);
}

/* SUCCESS; state is what the profile is now, said a warning or NULL */
static void
done(RspConversation *c, RspState state, const Es2plusExecution *said)
{
	RspOperation *op = c->op;
	char		rsp_code[48];

	op->unresolved = false;
	op->ask_first = false;
	rsp_done(c);
	c->action.profile_state_set = true;
	c->action.state = state;
	tell_iccid(c);
	if (said != NULL && said->status == ES2PLUS_WARNING)
	{
		snprintf(rsp_code, sizeof(rsp_code), "%s%s%s", said->subject,
				 said->subject[0] != '\0' && said->reason[0] != '\0' ? "/" : "", said->reason);
		rsp_said(c, rsp_code, said->message);
	}
}

/* Come back; what is in doubt stays so, and shows. */
static void
later(RspConversation *c, int64_t delay, const char *code, const char *message)
{
	RspOperation *op = c->op;

	keep_doubt(op);
	rsp_wait(c, op->unresolved ? RSP_PHASE_UNKNOWN : RSP_PHASE_RETRYING, delay, code, message);
	tell_iccid(c);
}

/*
 * Shown as waiting for an administrator, but tried again by itself at long
 * intervals: stock is filled up, and the fault may lie with the server.
 */
static void
park(RspConversation *c, int64_t delay, const char *code, const char *message)
{
	keep_doubt(c->op);
	rsp_wait(c, RSP_PHASE_PARKED, delay, code, message);
	tell_iccid(c);
}

/* The device's turn.  Nothing can be asked; an event ends it. */
static void
wait_device(RspConversation *c)
{
	RspOperation *op = c->op;
	int64_t		delay = rsp_poll_delay(op, DEVICE_BASE_MS, DEVICE_MAX_MS);

	op->step = STEP_DEVICE;
	op->unresolved = false;
	op->failures = 0;
	rsp_wait(c, RSP_PHASE_WAITING_DEVICE, delay, "",
			 op->state == RSP_STATE_DOWNLOADED ?
			 "downloaded, waiting for its installation" :
			 "released, waiting for the device to download it");
	tell_iccid(c);
}

/* ----- requests ----- */

/* A request's body begins with the header; NULL: no memory. */
static json_t *
new_body(RspConversation *c, char call_id[37])
{
	json_t	   *body = json_object();
	json_t	   *header = json_object();

	new_call_id(c->op, call_id);
	if (body != NULL && header != NULL &&
		rsp_json_put(header, "functionRequesterIdentifier", json_string(c->server->requester_id)) &&
		rsp_json_put(header, "functionCallIdentifier", json_string(call_id)))
	{
		if (rsp_json_put(body, "header", header))
			return body;
	}
	else
		json_decref(header);
	json_decref(body);
	return NULL;
}

static json_t *
json_iccid(const RspOperation *op, const char *iccid)
{
	return json_sprintf("%s%s", iccid, strlen(iccid) == 19 && !is_bare(op) ? "F" : "");
}

/*
 * May what the SM-DP+ does not take be the padding?  As long as its own way of
 * writing is not known, the ICCID is sent without, once.
 */
static bool
turn_bare(RspOperation *op)
{
	const char *iccid = target(op);

	return iccid != NULL && strlen(iccid) == 19 && json_object_get(op->memo, "bare") == NULL &&
		op->rsp_id == NULL && rsp_memo_set(op, "bare", json_true());
}

/*
 * The ICCID is not known, or malformed, says the SM-DP+, and nothing was done:
 * to be sent the other way?
 */
static bool
try_bare(RspOperation *op, const Es2plusExecution *said)
{
	if (strcmp(said->subject, "8.2.1") != 0 ||
		(strcmp(said->reason, "3.9") != 0 && strcmp(said->reason, "2.1") != 0))
		return false;
	if (!rsp_memo_flag(op, "guess"))
		return turn_bare(op);
	rsp_memo_clear(op, "guess");
	return rsp_memo_set(op, "bare", json_false());
}

/* Does the url lead to ES2+ itself, in whatever version's path? */
static bool
names_es2plus(const char *url)
{
	const char *at = strstr(url, "/gsma/rsp");

	return at != NULL && (strncmp(at, "/gsma/rsp2/", 11) == 0 || strstr(at, "/es2plus") != NULL);
}

/* body: reference stolen */
static void
call(RspConversation *c, const char *function, json_t *body, bool ok, const char *call_id)
{
	/* vendors put their own names in front, or between (es2plus/smdp) */
	const char *prefix = names_es2plus(c->server->url) ? "" : ES2PLUS_PATH;
	char		path[64];

	if (!ok)
	{
		json_decref(body);
		no_memory(c);
		return;
	}
	snprintf(path, sizeof(path), "%s/%s", prefix, function);
	rsp_send(c, "POST", path, body);
	rsp_header(c, "X-Admin-Protocol", ADMIN_PROTOCOL);
	rsp_set(c->action.call_id, sizeof(c->action.call_id), call_id);
}

static void
send_order(RspConversation *c, Es2plusStep step)
{
	RspOperation *op = c->op;
	char		call_id[37];
	json_t	   *body = new_body(c, call_id);
	const char *eid = bound_eid(op);
	bool		ok = body != NULL;

	op->step = step;
	if (ok && eid != NULL)
		ok = rsp_json_put(body, "eid", json_string(eid));
	if (ok && op->iccid != NULL)
		ok = rsp_json_put(body, "iccid", json_iccid(op, op->iccid));
	if (ok && op->profile_type != NULL)
		ok = rsp_json_put(body, "profileType", json_string(op->profile_type));
	call(c, "downloadOrder", body, ok, call_id);
}

static void
send_confirm(RspConversation *c)
{
	RspOperation *op = c->op;
	char		call_id[37];
	char		buf[ACTIVATION_CODE_MAX_LEN + 1];
	json_t	   *body = new_body(c, call_id);
	const char *eid = bound_eid(op);
	const char *matching_id = wanted_matching_id(c, buf);
	bool		ok = body != NULL;

	op->step = STEP_CONFIRM;
	if (ok)
		ok = rsp_json_put(body, "iccid", json_iccid(op, target(op)));
	if (ok && eid != NULL)
		ok = rsp_json_put(body, "eid", json_string(eid));
	if (ok && matching_id != NULL)
		ok = rsp_json_put(body, "matchingId", json_string(matching_id));
	if (ok && op->confirmation_code != NULL)
		ok = rsp_json_put(body, "confirmationCode", json_string(op->confirmation_code));
	if (ok && op->smds_address != NULL)
		ok = rsp_json_put(body, "smdsAddress", json_string(op->smds_address));
	if (ok)
		ok = rsp_json_put(body, "releaseFlag", json_boolean(op->kind == RSP_DOWNLOAD || op->release));
	call(c, "confirmOrder", body, ok, call_id);
}

static void
send_release(RspConversation *c, Es2plusStep step)
{
	char		call_id[37];
	json_t	   *body = new_body(c, call_id);

	c->op->step = step;
	call(c, "releaseProfile", body,
		 body != NULL && rsp_json_put(body, "iccid", json_iccid(c->op, c->op->iccid)), call_id);
}

static void
send_cancel(RspConversation *c)
{
	RspOperation *op = c->op;
	char		call_id[37];
	json_t	   *body = new_body(c, call_id);
	const char *eid = bound_eid(op);
	bool		ok = body != NULL;

	op->step = STEP_FIRST;
	if (ok)
		ok = rsp_json_put(body, "iccid", json_iccid(op, op->iccid));
	if (ok && eid != NULL)
		ok = rsp_json_put(body, "eid", json_string(eid));
	if (ok && !sends_nameless(op))
		ok = rsp_json_put(body, "matchingId", json_string(op->profile_matching_id));
	else if (ok && rsp_memo_flag(op, "empty"))
		ok = rsp_json_put(body, "matchingId", json_string(""));
	if (ok)
		ok = rsp_json_put(body, "finalProfileStatusIndicator",
						  json_string(op->final_status != NULL ? op->final_status : "Available"));
	call(c, "cancelOrder", body, ok, call_id);
}

/* Sends what the step says is next. */
static void
go_on(RspConversation *c)
{
	RspOperation *op = c->op;

	op->step = step_of(op);
	switch ((Es2plusStep) op->step)
	{
		case STEP_CONFIRM:
			send_confirm(c);
			return;
		case STEP_REORDER:
			send_order(c, STEP_REORDER);
			return;
		case STEP_DEVICE:
			wait_device(c);
			return;
		case STEP_RELEASE:
			break;
		case STEP_FIRST:
			if (op->kind == RSP_RESERVE)
			{
				send_order(c, STEP_FIRST);
				return;
			}
			if (op->kind == RSP_DOWNLOAD)
			{
				if (!is_prepared(op))
					send_order(c, STEP_FIRST);
				else if (op->state != RSP_STATE_RESERVED)
					wait_device(c);
				else
					break;
				return;
			}
			break;
	}

	/* the rest is about a profile that has been ordered before */
	if (op->iccid == NULL)
		fail(c, op->unresolved || in_doubt(op) ? "OUTCOME_UNKNOWN" : "MISSING_IDENTIFIER",
			 "the profile's ICCID is not known", NULL);
	else if (op->kind == RSP_CANCEL_ORDER)
		send_cancel(c);
	else
		send_release(c, op->kind == RSP_DOWNLOAD ? STEP_RELEASE : STEP_FIRST);
}

/*
 * The request that is under way may have been carried out, nobody knows.  Says
 * so in the memo and goes to the step that finds out.  false: nothing can; the
 * operation has ended.
 */
static bool
note_lost(RspConversation *c, const Es2plusExecution *said)
{
	RspOperation *op = c->op;
	Es2plusStep step = step_of(op);
	bool		order = step == STEP_REORDER ||
		(step == STEP_FIRST &&
		 (op->kind == RSP_RESERVE || (op->kind == RSP_DOWNLOAD && !is_prepared(op))));
	bool		ok;

	op->unresolved = true;
	if (step == STEP_DEVICE)
	{
		op->unresolved = false;
		return true;
	}
	if (order)
	{
		if (op->iccid == NULL)
		{
			fail_unknown(c, "the answer to downloadOrder was lost; an order may stand, and a "
						 "second one would take another profile", said);
			return false;
		}
		ok = rsp_memo_set(op, "lost_order", json_true()) &&
			rsp_memo_set(op, "order_at", json_integer(op->last_sent_ms != 0 ? op->last_sent_ms :
													  op->now_ms));
		op->step = STEP_CONFIRM;
	}
	else if (op->kind == RSP_CANCEL_ORDER && bound_eid(op) == NULL && sends_nameless(op) &&
			 (op->final_status == NULL || strcmp(op->final_status, "Available") == 0))
	{
		fail_unknown(c, "the answer to cancelOrder was lost; without EID and MatchingID another "
					 "try could cancel the next order of the profile", said);
		return false;
	}
	else
		ok = rsp_memo_set(op, step == STEP_CONFIRM ? "lost_confirm" : "lost", json_true());
	if (!ok)
		no_memory(c);
	return ok;
}

/* The outcome of the request is not known: note it, and find out later. */
static void
lost(RspConversation *c, const HttpAnswer *answer, bool trouble, bool senseless,
	 const char *message, const Es2plusExecution *said)
{
	RspOperation *op = c->op;

	if (!note_lost(c, said))
	{
		c->action.server_trouble = trouble;
		return;
	}
	if (senseless)
	{
		int64_t		n = rsp_memo_number(op, "senseless") + 1;

		if (n >= PATIENCE)
		{
			fail_unknown(c, "the server's answers cannot be understood", said);
			return;
		}
		rsp_memo_set(op, "senseless", json_integer(n));
	}
	later(c, rsp_retry_delay(op, answer, RETRY_BASE_MS, RETRY_MAX_MS), "", message);
	c->action.server_trouble = trouble;
}

/* ----- answers in general ----- */

typedef enum ResultType
{
	RESULT_NONE,				/* no sense in it; the action is set */
	RESULT_DONE,				/* Executed-Success, Executed-WithWarning */
	RESULT_FAILED				/* by the function's own saying, row says what it means */
} ResultType;

typedef struct Result
{
	ResultType	type;
	Es2plusExecution said;
	const Es2plusRow *row;
	json_t	   *root;			/* of RESULT_DONE; to be released */
} Result;

/*
 * What came of a request, as far as that is alike for all functions: what did
 * not come, or makes no sense, or says "later", is dealt with here.  An answer
 * in the function's own shape counts whatever HTTP status it comes with, but
 * success only with 2xx.
 */
static void
take_answer(RspConversation *c, const HttpAnswer *answer, int function, Result *result)
{
	RspOperation *op = c->op;
	const char *reason = "the answer was broken off or too large";
	char		detail[64];
	size_t		i;
	bool		bare;
	bool		order;

	memset(result, 0, sizeof(*result));
	if (answer->outcome == HTTP_NOT_SENT)
	{
		rsp_note(c, "not-sent", answer->error);
		if (rsp_token_refused(answer))
			park(c, rsp_retry_delay(op, answer, PARK_BASE_MS, PARK_MAX_MS), "UNAUTHENTICATED",
				 "the token endpoint refuses the credentials");
		else
		{
			later(c, rsp_retry_delay(op, answer, RETRY_BASE_MS, RETRY_MAX_MS),
				  answer->auth_failed ? "UNAUTHENTICATED" : "UNAVAILABLE",
				  answer->auth_failed ? "no access token could be had" :
				  answer->tls_reason != NULL ? answer->tls_reason :
				  "the server cannot be reached");
			c->action.server_trouble = !answer->auth_failed;
		}
		return;
	}
	if (answer->outcome == HTTP_LOST)
	{
		rsp_note(c, "lost", answer->error);
		lost(c, answer, true, false, "the answer was lost; what became of the request is found out",
			 NULL);
		return;
	}

	if (answer->outcome == HTTP_ANSWERED)
	{
		json_t	   *root = rsp_json(answer->body, answer->length, &reason);
		const json_t *header = json_object_get(root, "header");
		bool		ok = answer->status >= 200 && answer->status < 300;

		if (root != NULL &&
			es2plus_execution(json_object_get(header, "functionExecutionStatus"), &result->said))
		{
			if (ok && (result->said.status == ES2PLUS_SUCCESS ||
					   result->said.status == ES2PLUS_WARNING))
			{
				rsp_note(c, result->said.status == ES2PLUS_WARNING ? "warning" : "executed",
						 result->said.message);
				result->type = RESULT_DONE;
				result->root = root;
				return;
			}
			if (result->said.status == ES2PLUS_EXPIRED)
			{
				rsp_note(c, "expired", result->said.message);
				later(c, rsp_retry_delay(op, answer, BUSY_BASE_MS, BUSY_MAX_MS), "TIMEOUT",
					  "the request expired at the SM-DP+ before it was carried out");
				json_decref(root);
				return;
			}
			if (result->said.status == ES2PLUS_FAILED)
			{
				snprintf(detail, sizeof(detail), "%s/%s", result->said.subject,
						 result->said.reason);
				rsp_note(c, "failed", detail);
				result->type = RESULT_FAILED;
				result->row = row_of(function, result->said.subject, result->said.reason);
				json_decref(root);
				return;
			}
		}
		else if (root != NULL)
			reason = "the answer has no execution status";
		json_decref(root);
	}
	memset(&result->said, 0, sizeof(result->said));

	for (i = 0; i < lengthof(http_rows); i++)
	{
		if (http_rows[i].status != answer->status)
			continue;
		rsp_note(c, "refused", http_rows[i].code);
		if (http_rows[i].meaning == M_PARK)
			park(c, rsp_retry_delay(op, answer, PARK_BASE_MS, PARK_MAX_MS), http_rows[i].code,
				 http_rows[i].message);
		else
			later(c, rsp_retry_delay(op, answer, RETRY_BASE_MS, RETRY_MAX_MS), http_rows[i].code,
				  http_rows[i].message);
		return;
	}
	if (answer->status >= 200 && answer->status < 300)
	{
		rsp_note(c, "bad-answer", reason);
		lost(c, answer, false, true, "the server's answer cannot be understood", NULL);
		return;
	}
	snprintf(detail, sizeof(detail), "HTTP status %d", answer->status);
	rsp_note(c, "unknown", detail);
	order = step_of(op) != STEP_CONFIRM;
	bare = (answer->status == 400 || answer->status == 422) && turn_bare(op) &&
		rsp_memo_set(op, "guess", json_true());
	lost(c, answer, answer->status >= 500, answer->status < 500,
		 "the server's answer does not say what was done", NULL);

	/*
	 * A schema that knows no padding was in the way, perhaps: of a known ICCID
	 * the order can be repeated.
	 */
	if (bare && order && op->step == STEP_CONFIRM)
		op->step = STEP_REORDER;
}

/* The answer says that it was done, but is not one that can be believed. */
static void
not_believed(RspConversation *c, const HttpAnswer *answer, const char *why)
{
	rsp_note(c, "bad-answer", why);
	lost(c, answer, false, true, "the server's answer cannot be believed", NULL);
}

/* Meanings of a failure that are alike for all functions.  false: none of them. */
static bool
failed_alike(RspConversation *c, const HttpAnswer *answer, const Result *result)
{
	RspOperation *op = c->op;
	const Es2plusRow *row = result->row;
	char		rsp_code[48];

	switch (row->meaning)
	{
		case M_RETRY:
			later(c, rsp_retry_delay(op, answer, BUSY_BASE_MS, BUSY_MAX_MS), row->code,
				  "the SM-DP+ could not carry it out now");
			break;
		case M_STOCK:
			park(c, rsp_retry_delay(op, answer, STOCK_BASE_MS, STOCK_MAX_MS), row->code,
				 "no profile of this type is left in stock");
			break;
		case M_PARK:
			park(c, rsp_retry_delay(op, answer, PARK_BASE_MS, PARK_MAX_MS), row->code,
				 "the SM-DP+ does not know this requester");
			break;
		case M_DOUBT:
			if (!note_lost(c, &result->said))
				return true;
			later(c, rsp_retry_delay(op, answer, BUSY_BASE_MS, BUSY_MAX_MS), row->code,
				  "the SM-DP+ failed while carrying it out");
			break;
		default:
			return false;
	}
	snprintf(rsp_code, sizeof(rsp_code), "%s/%s", result->said.subject, result->said.reason);
	rsp_said(c, rsp_code, result->said.message);
	return true;
}

/* ----- downloadOrder ----- */

static void
order_answered(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	bool		again = step_of(op) == STEP_REORDER;
	Result		result;
	char		iccid[21];
	const char *text;
	bool		ok = true;

	take_answer(c, answer, F_ORDER, &result);
	if (result.type == RESULT_DONE)
	{
		text = rsp_json_string(result.root, "iccid", 20);
		if (is_absent(result.root, "iccid") && op->iccid != NULL)
			strcpy(iccid, op->iccid);
		else if (!es2plus_iccid(text, iccid))
			iccid[0] = '\0';
		else if (strlen(iccid) == 19)
		{
			ok = rsp_memo_set(op, "bare", json_boolean(text[19] == '\0'));
			rsp_memo_clear(op, "guess");
		}
		json_decref(result.root);
		if (iccid[0] == '\0' || (op->iccid != NULL && strcmp(iccid, op->iccid) != 0))
		{
			not_believed(c, answer, iccid[0] == '\0' ? "the answer has no valid ICCID" :
						 "the answer is about another ICCID");
			return;
		}

		/* made now, so nothing that was confirmed before has to do with it */
		if (!ok || !rsp_memo_set(op, "iccid", json_string(iccid)))
		{
			if (note_lost(c, NULL))
				no_memory(c);
			return;
		}
		rsp_memo_clear(op, "lost_order");
		rsp_memo_clear(op, "lost_confirm");
		rsp_memo_clear(op, "order_at");
		op->unresolved = false;
		op->failures = 0;
		send_confirm(c);
		return;
	}
	if (result.type != RESULT_FAILED || failed_alike(c, answer, &result))
		return;
	if (try_bare(op, &result.said))
	{
		op->unresolved = in_doubt(op);
		send_order(c, again ? STEP_REORDER : STEP_FIRST);
		return;
	}

	/* not available: by another's order, or by our own whose answer was lost */
	if (again && (result.row->meaning == M_STATE || unexplained(op, &result.said)))
	{
		op->unresolved = in_doubt(op);
		send_confirm(c);
		return;
	}
	if (rsp_memo_flag(op, "lost_confirm"))
		fail_unknown(c, "answers were lost, and the SM-DP+ refuses the order now", &result.said);
	else
		fail(c, result.row->code, "the SM-DP+ refused the order", &result.said);
}

/* ----- confirmOrder ----- */

/*
 * The order is confirmed.  root is the answer, NULL where an earlier one was
 * lost and this is known otherwise.
 */
static void
confirmed(RspConversation *c, const HttpAnswer *answer, const json_t *root,
		  const Es2plusExecution *said)
{
	RspOperation *op = c->op;
	const char *eid = bound_eid(op);
	char		buf[ACTIVATION_CODE_MAX_LEN + 1];
	const char *matching_id = wanted_matching_id(c, buf);
	const char *address = rsp_json_string(root, "smdpAddress", ACTIVATION_CODE_MAX_LEN);
	const char *text;
	ActivationCode code;
	ActivationCodeError error;
	bool		released = op->kind == RSP_DOWNLOAD || op->release;

	text = json_string_value(json_object_get(root, "eid"));
	if (!is_absent(root, "eid") &&
		(!rsp_is_eid(text) || (eid != NULL && strcmp(text, eid) != 0)))
	{
		not_believed(c, answer, "the answer is about another eUICC");
		return;
	}
	if (!is_absent(root, "matchingId"))
	{
		text = rsp_json_string(root, "matchingId", ACTIVATION_CODE_MAX_LEN);
		if (!valid_matching_id(text))
		{
			not_believed(c, answer, "the answer has no valid MatchingID");
			return;
		}
		/* the server's word counts: it is what it will let the device in by */
		matching_id = text;
	}

	if (matching_id == NULL && eid == NULL)
	{
		if (root != NULL)
			not_believed(c, answer, "the answer has no MatchingID");
		else
			fail_unknown(c, "the order is confirmed, but the MatchingID that the SM-DP+ made for "
						 "it was lost", said);
		return;
	}
	if (!valid_address(address))
		address = c->server->smdp_address;

	/* ordered is proved by its confirmation */
	if (ordered(op)[0] == '\0' && !rsp_memo_set(op, "iccid", json_string(op->iccid)))
	{
		if (note_lost(c, NULL))
			no_memory(c);
		return;
	}
	rsp_memo_clear(op, "lost_order");
	rsp_memo_clear(op, "lost_confirm");
	rsp_memo_clear(op, "order_at");
	set_rsp_id(c);
	rsp_set(c->facts.rsp_state, sizeof(c->facts.rsp_state), released ? "Released" : "Confirmed");
	rsp_set(c->facts.reserved_eid, sizeof(c->facts.reserved_eid), eid);
	rsp_set(c->facts.smdp_address, sizeof(c->facts.smdp_address), address);
	rsp_set(c->facts.matching_id, sizeof(c->facts.matching_id), matching_id);
	if (!empty(matching_id) && valid_address(address) &&
		activation_code_build(address, strlen(address), matching_id, strlen(matching_id), "", 0,
							  op->confirmation_code != NULL, &code, &error))
		rsp_set(c->facts.activation_code, sizeof(c->facts.activation_code), code.text);

	if (op->kind == RSP_RESERVE)
	{
		done(c, released ? RSP_STATE_RELEASED : RSP_STATE_RESERVED, said);
		return;
	}
	op->polls = 0;
	wait_device(c);
	c->action.profile_state_set = true;
	c->action.state = RSP_STATE_RELEASED;
}

/* Refused because of the profile's state, or nobody knows why after a lost order. */
static void
confirm_refused(RspConversation *c, const HttpAnswer *answer, const Result *result)
{
	RspOperation *op = c->op;
	int64_t		settled;
	int64_t		rounds = rsp_memo_number(op, "rounds");
	int64_t		delay;

	if (ordered(op)[0] != '\0')
	{
		/* the order was ours, and what has moved it on was the lost try */
		if (rsp_memo_flag(op, "lost_confirm"))
		{
			rsp_note(c, "failed", "it was done by an earlier try");
			confirmed(c, answer, NULL, &result->said);
		}
		else
			fail(c, result->row->code, "the SM-DP+ refused to confirm the order", &result->said);
		return;
	}

	/* the lost order may still be under way */
	settled = rsp_memo_number(op, "order_at") + c->server->timeout_ms + GRACE_MS;
	if (op->now_ms < settled)
	{
		delay = rsp_retry_delay(op, answer, RETRY_BASE_MS, RETRY_MAX_MS);
		later(c, delay < settled - op->now_ms ? delay : settled - op->now_ms, "",
			  "the answer was lost; whether the order stands is found out");
		return;
	}
	if (rounds < MAX_ROUNDS)
	{
		if (!rsp_memo_set(op, "rounds", json_integer(rounds + 1)))
			no_memory(c);
		else
		{
			op->unresolved = in_doubt(op);
			send_order(c, STEP_REORDER);
		}
		return;
	}
	if (rsp_memo_flag(op, "lost_confirm") || unexplained(op, &result->said))
		fail_unknown(c, "answers were lost, and the SM-DP+ neither takes nor confirms the order "
					 "now", &result->said);
	else
		fail(c, result->row->code, "the SM-DP+ neither takes nor confirms the order",
			 &result->said);
}

static void
confirm_answered(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	Result		result;
	int64_t		number = rsp_memo_number(op, "mid");

	take_answer(c, answer, F_CONFIRM, &result);
	if (result.type == RESULT_DONE)
	{
		op->unresolved = false;
		confirmed(c, answer, result.root, &result.said);
		json_decref(result.root);
		return;
	}
	if (result.type != RESULT_FAILED || failed_alike(c, answer, &result))
		return;
	if (try_bare(op, &result.said))
	{
		op->unresolved = in_doubt(op);
		send_confirm(c);
		return;
	}

	switch (result.row->meaning)
	{
		case M_STATE:
			confirm_refused(c, answer, &result);
			return;
		case M_USED:
			if (!matching_id_is_own(c))
				break;
			if (rsp_memo_flag(op, "lost_confirm"))
			{
				/* in use by nobody but us */
				rsp_note(c, "failed", "it was done by an earlier try");
				confirmed(c, answer, NULL, &result.said);
				return;
			}
			if (number + 1 < MAX_MATCHING_IDS && rsp_memo_set(op, "mid", json_integer(number + 1)))
			{
				op->unresolved = in_doubt(op);
				send_confirm(c);
				return;
			}
			break;
		default:
			break;
	}
	if (rsp_memo_flag(op, "lost_confirm") && result.row->meaning == M_USED)
		fail_unknown(c, "an answer was lost, and the MatchingID is in use now", &result.said);
	else if (!unexplained(op, &result.said))
		fail(c, result.row->code, "the SM-DP+ refused to confirm the order", &result.said);
	else if (ordered(op)[0] == '\0')
		confirm_refused(c, answer, &result);
	else
		fail_unknown(c, "an answer was lost, and the SM-DP+ does not say why it does not confirm "
					 "the order now", &result.said);
}

/* ----- releaseProfile ----- */

static void
release_answered(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	Result		result;

	take_answer(c, answer, F_RELEASE, &result);
	if (result.type == RESULT_NONE)
		return;
	if (result.type == RESULT_DONE)
		json_decref(result.root);
	else
	{
		if (failed_alike(c, answer, &result))
			return;
		if (try_bare(op, &result.said))
		{
			op->unresolved = in_doubt(op);
			send_release(c, step_of(op));
			return;
		}

		/* it cannot be released because it is */
		if (result.row->meaning != M_STATE)
		{
			if (unexplained(op, &result.said))
				fail_unknown(c, "an answer was lost, and the SM-DP+ does not say why it does not "
							 "release the profile now", &result.said);
			else
				fail(c, result.row->code, "the SM-DP+ refused to release the profile",
					 &result.said);
			return;
		}
		rsp_note(c, "failed", "it is released already");
	}
	rsp_memo_clear(op, "lost");
	rsp_set(c->facts.rsp_state, sizeof(c->facts.rsp_state), "Released");
	if (op->kind == RSP_RELEASE)
	{
		done(c, RSP_STATE_RELEASED, &result.said);
		return;
	}
	op->polls = 0;
	wait_device(c);
	c->action.profile_state_set = true;
	c->action.state = RSP_STATE_RELEASED;
}

/* ----- cancelOrder ----- */

static void
cancel_answered(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	bool		repeat = rsp_memo_flag(op, "lost");
	bool		gone = false;
	Result		result;

	take_answer(c, answer, F_CANCEL, &result);
	if (result.type == RESULT_NONE)
		return;
	if (result.type == RESULT_DONE)
		json_decref(result.root);
	else
	{
		if (failed_alike(c, answer, &result))
			return;
		if (try_bare(op, &result.said))
		{
			op->unresolved = in_doubt(op);
			send_cancel(c);
			return;
		}
		switch (result.row->meaning)
		{
			case M_NAMELESS:
				if (empty(op->profile_matching_id) && !rsp_memo_flag(op, "empty") &&
					rsp_memo_set(op, "empty", json_true()))
				{
					/* an order for the default SM-DP+ use: it is the empty one */
					op->unresolved = in_doubt(op);
					send_cancel(c);
					return;
				}
				break;
			case M_BOUND:
				if (op->state == RSP_STATE_FAILED && !sends_nameless(op) &&
					strcmp(result.said.subject, "8.2.6") == 0)
				{
					/* whether it was confirmed with this MatchingID is not known */
					if (repeat)
						fail_unknown(c, "the answer was lost; the order is cancelled, or stands "
									 "without this MatchingID", &result.said);
					else if (rsp_memo_set(op, "nomid", json_true()))
					{
						op->unresolved = in_doubt(op);
						send_cancel(c);
					}
					else
						no_memory(c);
					return;
				}
				gone = repeat;
				break;
			case M_ABSENT:
				/* the order with this EID and this MatchingID does not stand any more */
				gone = repeat;
				break;
			case M_STATE:
				/* what was not released cannot have been downloaded meanwhile */
				gone = repeat && op->state == RSP_STATE_RESERVED;
				if (repeat && !gone)
				{
					fail_unknown(c, "the answer was lost; the order is cancelled, or the profile "
								 "was downloaded", &result.said);
					return;
				}
				break;
			default:
				break;
		}
		if (!gone)
		{
			if (unexplained(op, &result.said))
				fail_unknown(c, "an answer was lost, and the SM-DP+ does not say why it does not "
							 "cancel the order now", &result.said);
			else
				fail(c, result.row->code, "the SM-DP+ refused to cancel the order", &result.said);
			return;
		}
		rsp_note(c, "failed", "it was done by an earlier try");
	}
	rsp_memo_clear(op, "lost");
	rsp_set(c->facts.rsp_state, sizeof(c->facts.rsp_state),
			op->final_status != NULL ? op->final_status : "Available");
	done(c, RSP_STATE_CANCELLED, &result.said);
}

/* ----- the driver's face ----- */

/* Has the device, as far as was learned otherwise, done its part? */
static bool
device_done(RspConversation *c)
{
	RspOperation *op = c->op;

	switch (op->state)
	{
		case RSP_STATE_INSTALLED:
		case RSP_STATE_DISABLED:
		case RSP_STATE_ENABLED:
			done(c, op->state, NULL);
			return true;
		case RSP_STATE_FAILED:
			fail(c, "SERVICE_NOT_APPLICABLE", "the device could not install the profile", NULL);
			return true;
		case RSP_STATE_CANCELLED:
			fail(c, "CANCELLED", "the order was cancelled", NULL);
			c->action.cancelled = true;
			c->action.profile_state_set = true;
			c->action.state = RSP_STATE_CANCELLED;
			return true;
		case RSP_STATE_DELETED:
			fail(c, "INCOMPATIBLE_STATE", "the profile was deleted", NULL);
			return true;
		default:
			return false;
	}
}

/*
 * Takes an operation up: at first, after a wait, after a crash at any point.
 */
static void
es2plus_begin(RspConversation *c)
{
	RspOperation *op = c->op;
	RspError	error;

	memset(&error, 0, sizeof(error));
	if (!check_parameters(op, &error))
	{
		/* it was checked when it was queued; what it is about may differ now */
		fail(c, op->unresolved || in_doubt(op) ? "OUTCOME_UNKNOWN" : error.code, error.message,
			 NULL);
		return;
	}
	if (op->kind == RSP_DOWNLOAD && step_of(op) == STEP_DEVICE)
	{
		op->ask_first = false;
		if (!device_done(c))
			wait_device(c);
		return;
	}
	if (op->ask_first)
	{
		/* nothing can be asked, and others may have gone on from here */
		if (op->unresolved || op->first_sent_ms != 0 || op->attempts > 0)
		{
			fail_unknown(c, "requests may have been sent since this copy of the database was "
						 "made, and ES2+ cannot be asked", NULL);
			return;
		}
		op->ask_first = false;
		rsp_park(c, "UNAVAILABLE",
				 "the database was promoted, and ES2+ cannot be asked whether this was done "
				 "meanwhile; esim_resume() sends it");
		return;
	}
	if (empty(c->server->requester_id))
	{
		park(c, PARK_MAX_MS, "UNAVAILABLE", "the server has no requester identifier");
		return;
	}
	if (op->unresolved && (!in_doubt(op) || rsp_memo_number(op, "noted") != op->last_sent_ms) &&
		!note_lost(c, NULL))
		return;
	go_on(c);
}

static void
es2plus_answer(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;

	switch (step_of(op))
	{
		case STEP_CONFIRM:
			confirm_answered(c, answer);
			return;
		case STEP_REORDER:
			order_answered(c, answer);
			return;
		case STEP_RELEASE:
			release_answered(c, answer);
			return;
		case STEP_DEVICE:
			wait_device(c);
			return;
		case STEP_FIRST:
			break;
	}
	if (op->kind == RSP_CANCEL_ORDER)
		cancel_answered(c, answer);
	else if (op->kind == RSP_RELEASE)
		release_answered(c, answer);
	else
		order_answered(c, answer);
}

const RspDriver rsp_es2plus = {
	.protocol = RSP_PROTOCOL_ES2PLUS,
	.name = "es2plus",
	.supports = es2plus_supports,
	.check = es2plus_check,
	.state_allowed = es2plus_state_allowed,
	.can_ask = false,
	.begin = es2plus_begin,
	.answer = es2plus_answer
};
