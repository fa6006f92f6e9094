/*-------------------------------------------------------------------------
 *
 * twilio.c
 *	  Driver of Super SIM (Twilio's, now KORE's): ESimProfiles, Sims, Fleets.
 *
 * Forms in, JSON out.  Three requests act: POST ESimProfiles, POST Sims/{sid}
 * and POST Fleets.  None of them has a key against repeats, so whenever it is
 * not known what became of one, the resource is read before anything is sent
 * again:
 *
 *	Sims/{sid}	is read by its sid; setting what is set already does no harm
 *	Fleets		is looked up by its unique name
 *	ESimProfiles	is listed (by EID where there is one).  What was created
 *				since the request and is in no row of esim may be ours: one, seen
 *				twice, is adopted; none for as long as unknown_hold says is
 *				created again; more than one can be told apart by nobody
 *
 * A reservation's sid (HP...) is kept in op->rsp_operation_id once the answer
 * to its creation, or the search, has named it.  Else, in the memo:
 *
 *	sid		the ESimProfile that a download was found to be about
 *	old		the failed ESimProfile of the row, which a reservation replaces
 *	iccid	what the ESimProfile said, while its Sim is asked the same
 *	status	its last status: the interval of polls begins anew when it changes
 *	sim, fleet	sids of the Sim and the Fleet that a change is about
 *	accepted	the change was accepted and is polled for
 *	refused	how the change was refused, while it is looked up whether its
 *			aim is reached nevertheless
 *	lost	an earlier try may have been carried out
 *	since	when a lost request was noticed whose time of sending is not known
 *	walk	where a walk through a list stands
 *	unknown	(the worker's) candidates that no row of esim knows
 *	one, one_at, many_at	what the last search has found, and when
 *	odd, gone, short, foreign, senseless	counters of answers that do not fit
 *
 * op->step only says which answer is awaited; begin() does not need it.  Where
 * something has been done, or may have been, a wait leaves it other than 0: that
 * is not cancelled any more.
 *
 *-------------------------------------------------------------------------
 */
#include "driver.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../identifier/activation_code.h"

/* A profile may wait for its device for months. */
#define POLL_BASE_MS	INT64_C(2000)
#define POLL_MAX_MS		INT64_C(21600000)
#define SIM_POLL_MAX_MS INT64_C(900000)

/*
 * Between two searches that must agree: long enough for what another
 * operation has just created to be in its row.
 */
#define AGAIN_MS		INT64_C(10000)

/* how far our clock and the server's may be apart beyond what Date tells */
#define CLOCK_MS		INT64_C(300000)

#define FEW				3		/* answers that contradict, in a row */
#define SEVERAL			6		/* polls of a change that do not show it */
#define TURN_PAGES		20		/* pages of a list in one turn */
#define MAX_PAGES		100000	/* of one list */
#define PAGE_SIZE		1000	/* the maximum */
#define SEARCH_SIZE		200
#define MAX_PAGE_PATH	1500
#define MAX_FORM		32768
#define DATA_LIMIT		1000	/* megabytes, as the OpenAPI's default */

#define SID_LENGTH		34

#define FORM_TYPE		"application/x-www-form-urlencoded"

/* which answer is awaited */
typedef enum TwilioStep
{
	STEP_ACT,					/* of a request that acts, or none.  0: so that the queue's
								 * row need not be written before a first request */
	STEP_PROFILE,				/* the ESimProfile by its sid */
	STEP_CHECK,					/* the Sim of the ESimProfile */
	STEP_SEARCH,				/* ESimProfiles, for what a lost request created */
	STEP_SIM_BY_ICCID,			/* Sims?Iccid= */
	STEP_PROFILE_BY_SIM,		/* ESimProfiles?SimSid= */
	STEP_SIM_OF_PROFILE,		/* the ESimProfile, for its Sim */
	STEP_FLEETS,				/* Fleets, for a name */
	STEP_SIM,					/* the Sim by its sid */
	STEP_REFRESH,				/* ESimProfiles?Eid= */
	STEP_SYNC					/* a page of what the account has */
} TwilioStep;

/* ----- what statuses and codes mean ----- */

typedef enum Meaning
{
	M_FINAL,					/* nothing was done, and it will not be otherwise */
	M_STATE,					/* not done because of the state: the aim may be reached
								 * already, or a change be under way */
	M_RETRY,					/* not processed, try later */
	M_BUSY,						/* not processed, the server as a whole has trouble */
	M_CREDENTIALS,				/* not processed for want of credentials */
	M_UNKNOWN					/* may have been processed: ask */
} Meaning;

typedef struct TwilioRow
{
	int			status;
	int			code;			/* Twilio's; 0: any other, or none */
	Meaning		post;			/* of a request that acts */
	Meaning		get;
	const char *error_code;
	const char *message;		/* NULL: the usual one */
} TwilioRow;

/*
 * A code means the same beside any 4xx status: none of these was processed.
 *
 * 401 is not final: it says nothing about the operation, and credentials that
 * were not renewed in time would otherwise fail everything that is queued.
 */
static const TwilioRow twilio_rows[] = {
	{400, 20001, M_FINAL, M_FINAL, "INVALID_ARGUMENT", NULL},
	{401, 20003, M_CREDENTIALS, M_CREDENTIALS, "UNAUTHENTICATED", NULL},
	{405, 20004, M_FINAL, M_FINAL, "METHOD_NOT_ALLOWED", NULL},
	{401, 20005, M_CREDENTIALS, M_CREDENTIALS, "PERMISSION_DENIED", "the account is not active"},
	{403, 20006, M_FINAL, M_FINAL, "PERMISSION_DENIED", NULL},
	{400, 20007, M_FINAL, M_FINAL, "OUT_OF_RANGE", NULL},
	{403, 20008, M_FINAL, M_FINAL, "PERMISSION_DENIED", "test credentials cannot be used for it"},
	{401, 20104, M_CREDENTIALS, M_CREDENTIALS, "UNAUTHENTICATED", NULL},
	{403, 20403, M_FINAL, M_FINAL, "PERMISSION_DENIED", NULL},
	{404, 20404, M_FINAL, M_FINAL, "IDENTIFIER_NOT_FOUND", "the server does not know the resource"},
	{409, 20409, M_STATE, M_RETRY, "CONFLICT", NULL},
	{422, 20422, M_FINAL, M_FINAL, "INVALID_ARGUMENT", NULL},
	{429, 20429, M_RETRY, M_RETRY, "TOO_MANY_REQUESTS", NULL},
	{500, 20500, M_UNKNOWN, M_BUSY, "INTERNAL", NULL},
	{503, 20503, M_UNKNOWN, M_BUSY, "UNAVAILABLE", NULL},
	{504, 20504, M_UNKNOWN, M_BUSY, "TIMEOUT", NULL},
	{400, 83001, M_FINAL, M_FINAL, "MISSING_IDENTIFIER", "the server misses a parameter"},
	{400, 83002, M_FINAL, M_FINAL, "SERVICE_NOT_APPLICABLE", "the Sim cannot be registered"},
	{400, 83003, M_FINAL, M_FINAL, "ALREADY_EXISTS", "the Sim belongs to the account already"},
	{400, 83006, M_FINAL, M_FINAL, "NOT_FOUND", "the server does not know the Fleet"},
	{400, 83007, M_STATE, M_FINAL, "INCOMPATIBLE_STATE", "the Sim belongs to no Fleet"},
	{400, 83010, M_STATE, M_FINAL, "INCOMPATIBLE_STATE",
	"the Sim's status cannot be changed to the one asked for"},
	{400, 83011, M_FINAL, M_FINAL, "ALREADY_EXISTS", "the unique name is in use"},
	{400, 83705, M_STATE, M_FINAL, "INCOMPATIBLE_STATE", "the Sim is inactive"},
	{400, 0, M_FINAL, M_FINAL, "INVALID_ARGUMENT", NULL},
	{401, 0, M_CREDENTIALS, M_CREDENTIALS, "UNAUTHENTICATED", NULL},
	{403, 0, M_FINAL, M_FINAL, "PERMISSION_DENIED", NULL},
	{404, 0, M_FINAL, M_FINAL, "IDENTIFIER_NOT_FOUND", "the server does not know the resource"},
	{405, 0, M_FINAL, M_FINAL, "METHOD_NOT_ALLOWED", NULL},
	{406, 0, M_FINAL, M_FINAL, "NOT_ACCEPTABLE", NULL},
	{407, 0, M_CREDENTIALS, M_CREDENTIALS, "UNAUTHENTICATED", NULL},
	{408, 0, M_RETRY, M_RETRY, "TIMEOUT", NULL},
	{409, 0, M_STATE, M_RETRY, "CONFLICT", NULL},
	{410, 0, M_FINAL, M_FINAL, "GONE", "the server does not know the resource"},
	{412, 0, M_STATE, M_FINAL, "FAILED_PRECONDITION", NULL},
	{415, 0, M_FINAL, M_FINAL, "UNSUPPORTED_MEDIA_TYPE", NULL},
	{422, 0, M_FINAL, M_FINAL, "INVALID_ARGUMENT", NULL},
	{425, 0, M_RETRY, M_RETRY, "UNAVAILABLE", NULL},
	{429, 0, M_RETRY, M_RETRY, "TOO_MANY_REQUESTS", NULL},
	{500, 0, M_UNKNOWN, M_BUSY, "INTERNAL", NULL},
	{501, 0, M_FINAL, M_FINAL, "NOT_IMPLEMENTED", NULL},
	{502, 0, M_UNKNOWN, M_BUSY, "BAD_GATEWAY", NULL},
	{503, 0, M_UNKNOWN, M_BUSY, "UNAVAILABLE", NULL},
	{504, 0, M_UNKNOWN, M_BUSY, "TIMEOUT", NULL}
};

/* statuses that the table does not have, by their class */
static const TwilioRow twilio_other_4xx = {0, 0, M_FINAL, M_FINAL, "INVALID_ARGUMENT", NULL};
static const TwilioRow twilio_other_5xx = {0, 0, M_UNKNOWN, M_BUSY, "INTERNAL", NULL};
static const TwilioRow twilio_other = {0, 0, M_UNKNOWN, M_RETRY, "INTERNAL", NULL};

/* An error as the server tells it. */
typedef struct TwilioError
{
	int			code;			/* 0: none */
	char		text[32];		/* the same in digits, "" if none */
	char		message[512];
} TwilioError;

static const TwilioRow *
row_of_code(int code)
{
	size_t		i;

	for (i = 0; code != 0 && i < lengthof(twilio_rows); i++)
	{
		if (twilio_rows[i].code == code)
			return &twilio_rows[i];
	}
	return NULL;
}

static const TwilioRow *
row_of(int status, int code)
{
	const TwilioRow *row = row_of_code(code);
	size_t		i;

	if (row != NULL && (row->status == status ||
						(status >= 400 && status < 500 && row->status < 500)))
		return row;
	for (i = 0; i < lengthof(twilio_rows); i++)
	{
		if (twilio_rows[i].code == 0 && twilio_rows[i].status == status)
			return &twilio_rows[i];
	}
	if (status >= 400 && status < 500)
		return &twilio_other_4xx;
	if (status >= 500 && status < 600)
		return &twilio_other_5xx;
	return &twilio_other;
}

static bool
is_absent(int status)
{
	return status == 404 || status == 410;
}

/* ----- small things ----- */

/* "HP" and the like and 32 hexadecimal digits */
static bool
is_sid(const char *text, const char *prefix)
{
	size_t		i;

	if (text == NULL || text[0] != prefix[0] || text[1] != prefix[1])
		return false;
	for (i = 2; i < SID_LENGTH; i++)
	{
		if (!isxdigit((unsigned char) text[i]))
			return false;
	}
	return text[SID_LENGTH] == '\0';
}

/* An absolute http or https URL without user, blanks and control characters. */
static bool
is_url(const char *text)
{
	const char *host;
	size_t		i;

	if (text == NULL || strlen(text) > 2000)
		return false;
	if (strncasecmp(text, "https://", 8) == 0)
		host = text + 8;
	else if (strncasecmp(text, "http://", 7) == 0)
		host = text + 7;
	else
		return false;
	for (i = 0; text[i] != '\0'; i++)
	{
		if ((unsigned char) text[i] <= 0x20 || (unsigned char) text[i] >= 0x7f)
			return false;
	}
	i = strcspn(host, "/?#");
	return i > 0 && memchr(host, '@', i) == NULL;
}

static const char *
wanted_eid(const RspOperation *op)
{
	if (op->kind == RSP_RESERVE && op->generate_matching_id)
		return NULL;
	return op->eid != NULL ? op->eid : op->reserved_eid;
}

static RspState
state_of_status(const char *status)
{
	static const struct
	{
		const char *status;
		RspState	state;
	}			table[] = {
		{"new", RSP_STATE_RESERVING},
		{"reserving", RSP_STATE_RESERVING},
		{"available", RSP_STATE_RELEASED},
		{"downloaded", RSP_STATE_DOWNLOADED},
		{"installed", RSP_STATE_INSTALLED},
		{"failed", RSP_STATE_FAILED}
	};
	size_t		i;

	for (i = 0; i < lengthof(table); i++)
	{
		if (strcasecmp(table[i].status, status) == 0)
			return table[i].state;
	}
	return RSP_STATE_NONE;
}

/* esim's word for a Sim's status, NULL if it is none */
static const char *
subscription_of_status(const char *status)
{
	static const char *const words[] = {"NEW", "READY", "ACTIVE", "INACTIVE", "SCHEDULED"};
	size_t		i;

	for (i = 0; i < lengthof(words); i++)
	{
		if (strcasecmp(words[i], status) == 0)
			return words[i];
	}
	return NULL;
}

/* ----- time ----- */

static int64_t
days_from_civil(int64_t y, int m, int d)
{
	int64_t		era;
	int64_t		yoe;
	int64_t		doy;

	y -= m <= 2;
	era = (y >= 0 ? y : y - 399) / 400;
	yoe = y - era * 400;
	doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

/* RFC 3339; -1: it is not. */
static int64_t
date_ms(const char *text)
{
	int			y,
				mo,
				d,
				h,
				mi,
				s;
	int			used = 0;
	int			oh = 0;
	int			om = 0;
	char		sign;
	int64_t		ms;

	if (text == NULL || strlen(text) > 40 ||
		sscanf(text, "%4d-%2d-%2d%*1[Tt ]%2d:%2d:%2d%n", &y, &mo, &d, &h, &mi, &s, &used) != 6 ||
		used < 19 || y < 1970 || mo < 1 || mo > 12 || d < 1 || d > 31 || h < 0 || h > 23 ||
		mi < 0 || mi > 59 || s < 0 || s > 60)
		return -1;
	ms = (days_from_civil(y, mo, d) * 86400 + h * 3600 + mi * 60 + s) * 1000;
	text += used;
	if (*text == '.')
	{
		text++;
		text += strspn(text, "0123456789");
	}
	if ((*text == 'Z' || *text == 'z') && text[1] == '\0')
		return ms;
	if (sscanf(text, "%c%2d:%2d%n", &sign, &oh, &om, &used) == 3 && text[used] == '\0' &&
		(sign == '+' || sign == '-') && oh >= 0 && oh < 24 && om >= 0 && om < 60)
		return ms - (sign == '+' ? 1 : -1) * (int64_t) (oh * 3600 + om * 60) * 1000;
	return -1;
}

/*
 * The earliest moment at which this operation can have created anything.  An
 * operation's id is a uuid of version 7, which begins with its time.
 */
static int64_t
created_since(const RspOperation *op)
{
	int64_t		ms = 0;
	int			i;

	if (op->first_sent_ms != 0)
		return op->first_sent_ms - CLOCK_MS;
	if (strlen(op->id) != 36 || op->id[14] != '7')
		return 0;
	for (i = 0; i < 13; i++)
	{
		if (i == 8)
			continue;
		if (!isxdigit((unsigned char) op->id[i]))
			return 0;
		ms = ms * 16 + (isdigit((unsigned char) op->id[i]) ? op->id[i] - '0' :
						tolower((unsigned char) op->id[i]) - 'a' + 10);
	}
	return ms <= op->now_ms ? ms - CLOCK_MS : 0;
}

static bool
never_sent(const RspOperation *op)
{
	return !op->unresolved && op->first_sent_ms == 0;
}

/* Nothing has come of what was sent: the request is made anew. */
static void
anew(RspOperation *op)
{
	if (op->unresolved)
		rsp_memo_set_flag(op, "lost");
	op->unresolved = false;
	op->ask_first = false;
	op->polls = 0;
}

/* Was it to be cancelled, and nothing was ever sent? */
static bool
withdrawn(RspConversation *c)
{
	if (!c->op->cancel_asked || !never_sent(c->op))
		return false;
	rsp_withdrawn(c, "cancelled before it was sent");
	return true;
}

/* From when on what is not there will not come by itself. */
static int64_t
settled_at(RspConversation *c)
{
	return rsp_sent_at(c->op) + c->server->timeout_ms + GRACE_MS;
}

/* ----- supports, check, state_allowed ----- */

static bool
twilio_supports(RspDialect dialect, RspKind kind, const char **note)
{
	const char *text = "";
	bool		can = false;

	(void) dialect;
	switch (kind)
	{
		case RSP_DOWNLOAD:
			can = true;
			text = "default SM-DP+ method: reserved for the EID, the device fetches the "
				"profile itself";
			break;
		case RSP_REFRESH:
			can = true;
			text = "lists the account's own profiles of the eUICC, enabled or not is not known";
			break;
		case RSP_RESERVE:
			can = true;
			text = "by EID or generate_matching_id; the profile is released at once";
			break;
		case RSP_SET_SUBSCRIPTION:
		case RSP_ASSIGN_FLEET:
		case RSP_FLEET_CREATE:
		case RSP_SYNC:
			can = true;
			break;
		case RSP_ENABLE:
		case RSP_DISABLE:
		case RSP_DELETE:
		case RSP_SET_FALLBACK:
		case RSP_UNSET_FALLBACK:
			text = "Super SIM does not reach what is on the eUICC";
			break;
		case RSP_RELEASE:
			text = "Super SIM releases a profile when it reserves it";
			break;
		case RSP_CANCEL_ORDER:
			text = "Super SIM has no request that takes a reservation back";
			break;
		case RSP_KIND_COUNT:
			break;
	}
	if (note != NULL)
		*note = text;
	return can;
}

/* ----- settings of a Fleet ----- */

typedef enum SettingType
{
	SETTING_TEXT,
	SETTING_BOOLEAN,
	SETTING_LIMIT,
	SETTING_URL,
	SETTING_METHOD
} SettingType;

/* CreateFleetRequest, in its order; UniqueName is the fleet's name. */
static const struct
{
	const char *name;
	SettingType type;
}			fleet_settings[] = {
	{"NetworkAccessProfile", SETTING_TEXT},
	{"DataEnabled", SETTING_BOOLEAN},
	{"DataLimit", SETTING_LIMIT},
	{"IpCommandsUrl", SETTING_URL},
	{"IpCommandsMethod", SETTING_METHOD},
	{"SmsCommandsEnabled", SETTING_BOOLEAN},
	{"SmsCommandsUrl", SETTING_URL},
	{"SmsCommandsMethod", SETTING_METHOD}
};

/* network_access_profile and network_access_profile_sid are NetworkAccessProfile */
static bool
same_setting(const char *key, const char *name)
{
	for (;;)
	{
		while (*key == '_')
			key++;
		if (tolower((unsigned char) *key) != tolower((unsigned char) *name))
			return *name == '\0' && strcmp(key, "sid") == 0;
		if (*key == '\0')
			return true;
		key++;
		name++;
	}
}

/* The setting's number in fleet_settings, -1 if it is none. */
static int
setting_number(const char *key)
{
	size_t		i;

	for (i = 0; i < lengthof(fleet_settings); i++)
	{
		if (same_setting(key, fleet_settings[i].name) &&
			(i == 0 || strlen(key) < 3 || strcmp(key + strlen(key) - 3, "sid") != 0))
			return (int) i;
	}
	return -1;
}

/*
 * The value as it stands in the form; NULL if it is none.  buffer is for
 * numbers.
 */
static const char *
setting_value(SettingType type, const json_t *value, char *buffer, size_t size)
{
	const char *text = json_string_value(value);
	json_int_t	number;

	switch (type)
	{
		case SETTING_TEXT:
			return text != NULL && text[0] != '\0' && strlen(text) <= 200 ? text : NULL;
		case SETTING_BOOLEAN:
			if (json_is_boolean(value))
				return json_is_true(value) ? "true" : "false";
			return NULL;
		case SETTING_LIMIT:
			number = json_integer_value(value);
			if (!json_is_integer(value) || number < 1 || number > 2000000)
				return NULL;
			snprintf(buffer, size, "%lld", (long long) number);
			return buffer;
		case SETTING_URL:
			return is_url(text) ? text : NULL;
		case SETTING_METHOD:
			return text != NULL && (strcmp(text, "GET") == 0 || strcmp(text, "POST") == 0) ?
				text : NULL;
	}
	return NULL;
}

static bool
check_fleet(const RspOperation *op, RspError *error)
{
	static const char *const expected[] = {
		"A text of at most 200 characters is needed.",
		"true or false is needed.",
		"A number of megabytes between 1 and 2000000 is needed.",
		"A URL is needed.",
		"GET or POST is needed."
	};
	const char *key;
	json_t	   *value;
	bool		have[lengthof(fleet_settings)];
	char		buffer[32];
	char		message[160];

	memset(have, 0, sizeof(have));
	if (op->fleet == NULL || op->fleet[0] == '\0' || strlen(op->fleet) > 200)
		return rsp_refuse(error, "INVALID_ARGUMENT", "fleet name is missing or too long", "",
						  "Give a name of at most 200 characters.");
	if (is_sid(op->fleet, "HF"))
		return rsp_refuse(error, "INVALID_ARGUMENT", "fleet name looks like a SID", "",
						  "Give another name.");
	json_object_foreach(op->settings, key, value)
	{
		int			n = setting_number(key);

		if (n < 0)
		{
			snprintf(message, sizeof(message), "fleet setting \"%.60s\" is not known", key);
			return rsp_refuse(error, "INVALID_ARGUMENT", message, "",
							  "Settings are NetworkAccessProfile, DataEnabled, DataLimit, "
							  "IpCommandsUrl, IpCommandsMethod, SmsCommandsEnabled, SmsCommandsUrl "
							  "and SmsCommandsMethod.");
		}
		if (have[n])
		{
			snprintf(message, sizeof(message), "fleet setting \"%.60s\" is given twice",
					 fleet_settings[n].name);
			return rsp_refuse(error, "INVALID_ARGUMENT", message, "", "");
		}
		have[n] = true;
		if (setting_value(fleet_settings[n].type, value, buffer, sizeof(buffer)) == NULL)
		{
			snprintf(message, sizeof(message), "value of fleet setting \"%.60s\" is not valid",
					 fleet_settings[n].name);
			return rsp_refuse(error, fleet_settings[n].type == SETTING_LIMIT ? "OUT_OF_RANGE" :
							  "INVALID_ARGUMENT", message, expected[fleet_settings[n].type], "");
		}
	}
	if (!have[0])
		return rsp_refuse(error, "INVALID_ARGUMENT",
						  "fleet setting \"NetworkAccessProfile\" is missing",
						  "Super SIM requires it of every Fleet.",
						  "Give the SID or the unique name of a Network Access Profile.");
	return true;
}

static bool
check_sim(const RspOperation *op, RspError *error)
{
	const char *wanted = op->subscription;
	const char *now = op->subscription_now;

	if (op->iccid != NULL && !rsp_is_iccid(op->iccid))
		return rsp_refuse(error, "UNSUPPORTED_IDENTIFIER",
						  "ICCID cannot be used with protocol twilio", "", "");
	if (op->fleet != NULL && (op->fleet[0] == '\0' || strlen(op->fleet) > 200))
		return rsp_refuse(error, "INVALID_ARGUMENT", "fleet name is empty or too long", "", "");
	if (op->kind == RSP_ASSIGN_FLEET)
	{
		if (op->fleet == NULL && op->fleet_rsp_id == NULL)
			return rsp_refuse(error, "INVALID_ARGUMENT", "no fleet is given",
							  "Super SIM cannot take a Sim out of its Fleet.", "Give the fleet.");
		return true;
	}
	if (wanted == NULL)
	{
		if (op->fleet == NULL && op->fleet_rsp_id == NULL)
			return rsp_refuse(error, "INVALID_ARGUMENT", "neither status nor fleet is given", "",
							  "Give at least one of them.");
		return true;
	}
	if (strcmp(wanted, "READY") != 0 && strcmp(wanted, "ACTIVE") != 0 &&
		strcmp(wanted, "INACTIVE") != 0)
		return rsp_refuse(error, "INVALID_ARGUMENT", "subscription status cannot be set",
						  "NEW and SCHEDULED are only ever reported.",
						  "Use READY, ACTIVE or INACTIVE.");
	if (strcmp(wanted, "READY") == 0 && now != NULL &&
		(strcmp(now, "ACTIVE") == 0 || strcmp(now, "INACTIVE") == 0))
		return rsp_refuse(error, "INCOMPATIBLE_STATE", "subscription cannot be set to READY",
						  "READY can be set only from NEW.", "Use ACTIVE or INACTIVE.");
	return true;
}

/*
 * What can be known without the device: the parameters fit the forms, and
 * nothing is asked for that Super SIM has no field for.
 */
static bool
twilio_check(const RspServer *server, const RspOperation *op, RspError *error)
{
	ActivationCode code;
	ActivationCodeError code_error;

	(void) server;
	switch (op->kind)
	{
		case RSP_REFRESH:
			if (!rsp_is_eid(op->eid))
				return rsp_refuse(error, "MISSING_IDENTIFIER", "no EID is given", "",
								  "Give the EID.");
			return true;

		case RSP_RESERVE:
			if (op->generate_matching_id && op->eid != NULL)
				return rsp_refuse(error, "INVALID_ARGUMENT",
								  "EID and generate_matching_id cannot be used together",
								  "A profile is reserved for an EID or by a matching ID.",
								  "Give one of them.");
			if (!op->generate_matching_id && !rsp_is_eid(wanted_eid(op)))
				return rsp_refuse(error, "MISSING_IDENTIFIER",
								  "neither EID nor generate_matching_id is given", "",
								  "Give one of them.");
			if (op->matching_id != NULL || op->confirmation_code != NULL ||
				op->profile_type != NULL || op->smds_address != NULL)
				return rsp_refuse(error, "SERVICE_NOT_APPLICABLE",
								  "reservation has parameters that protocol twilio does not have",
								  "Super SIM has neither matching ID of one's own, confirmation "
								  "code, profile type nor SM-DS address.",
								  "Leave them out, or use a server of another protocol.");
			if (op->iccid != NULL && op->rsp_id == NULL)
				return rsp_refuse(error, "SERVICE_NOT_APPLICABLE",
								  "ICCID cannot be chosen with protocol twilio",
								  "Super SIM assigns the ICCID.", "Leave the ICCID out.");
			if (!op->release)
				return rsp_refuse(error, "SERVICE_NOT_APPLICABLE",
								  "release cannot be held back with protocol twilio",
								  "Super SIM releases a profile when it reserves it.", "");
			return true;

		case RSP_DOWNLOAD:
			if (!rsp_is_eid(op->eid))
				return rsp_refuse(error, "MISSING_IDENTIFIER", "no EID is given", "",
								  "Give the EID.");
			if (op->reserved_eid != NULL && strcmp(op->reserved_eid, op->eid) != 0)
				return rsp_refuse(error, "IDENTIFIER_MISMATCH",
								  "profile is reserved for another eUICC", "", "");
			if (op->iccid != NULL && op->rsp_id == NULL && !rsp_is_iccid(op->iccid))
				return rsp_refuse(error, "UNSUPPORTED_IDENTIFIER",
								  "ICCID cannot be used with protocol twilio", "", "");
			if (op->confirmation_code != NULL)
				return rsp_refuse(error, "SERVICE_NOT_APPLICABLE",
								  "confirmation codes cannot be used with protocol twilio", "", "");
			if (op->activate_on_download)
				return rsp_refuse(error, "SERVICE_NOT_APPLICABLE",
								  "activate_on_download cannot be used with protocol twilio",
								  "Super SIM does not reach what is on the eUICC.",
								  "Enable the profile on the device, or through a server that can.");
			if (op->activation_code != NULL && op->rsp_id == NULL && op->iccid == NULL)
			{
				if (!activation_code_parse(op->activation_code, strlen(op->activation_code),
										   &code, &code_error))
					return rsp_refuse(error, "INVALID_ARGUMENT", "activation code is not valid", "",
									  "");
				if (code.matching_id.length > 0)
					return rsp_refuse(error, "SERVICE_NOT_APPLICABLE",
									  "activation code cannot be handed to a device by protocol twilio",
									  "A download reserves a profile for the EID.",
									  "Leave the code out, or give it to the device.");
			}
			return true;

		case RSP_SET_SUBSCRIPTION:
		case RSP_ASSIGN_FLEET:
			return check_sim(op, error);

		case RSP_FLEET_CREATE:
			return check_fleet(op, error);

		case RSP_SYNC:
			return true;

		default:
			return rsp_refuse(error, "SERVICE_NOT_APPLICABLE",
							  "protocol twilio has no such operation", "",
							  "esim_capabilities() says what a server can do.");
	}
}

static bool
twilio_state_allowed(RspKind kind, RspState state)
{
	switch (kind)
	{
		case RSP_DOWNLOAD:
			return state == RSP_STATE_NONE || state == RSP_STATE_RESERVING ||
				state == RSP_STATE_RESERVED || state == RSP_STATE_RELEASED;
		case RSP_RESERVE:
			return state == RSP_STATE_NONE || state == RSP_STATE_RESERVING;
		case RSP_REFRESH:
		case RSP_SET_SUBSCRIPTION:
		case RSP_ASSIGN_FLEET:
		case RSP_FLEET_CREATE:
		case RSP_SYNC:
			return true;
		default:
			return false;
	}
}

/* ----- forms ----- */

typedef struct Form
{
	size_t		length;
	bool		full;
	char		text[MAX_FORM];
} Form;

static void
form_char(Form *form, char ch)
{
	if (form->length + 1 >= sizeof(form->text))
		form->full = true;
	else
		form->text[form->length++] = ch;
	form->text[form->length] = '\0';
}

static void
form_add(Form *form, const char *name, const char *value)
{
	static const char hex[] = "0123456789ABCDEF";

	if (form->length > 0)
		form_char(form, '&');
	while (*name)
		form_char(form, *name++);
	form_char(form, '=');
	for (; *value; value++)
	{
		unsigned char ch = (unsigned char) *value;

		if ((ch >= '0' && ch <= '9') || (ch >= 'A' && ch <= 'Z') ||
			(ch >= 'a' && ch <= 'z') || strchr("-._~", ch) != NULL)
			form_char(form, (char) ch);
		else
		{
			form_char(form, '%');
			form_char(form, hex[ch >> 4]);
			form_char(form, hex[ch & 15]);
		}
	}
}

/*
 * CallbackUrl is the front end that calls esim_receive(), with our operation
 * in its query.  CallbackMethod is always there, since guide and OpenAPI name
 * different defaults.
 */
static void
form_callback(Form *form, const RspConversation *c)
{
	const char *url = c->server->event_url;
	char		text[2200];

	if (url != NULL && strlen(url) <= 2000)
	{
		snprintf(text, sizeof(text), "%.*s%sop=%s", (int) strcspn(url, "#"), url,
				 strchr(url, '?') != NULL ? "&" : "?", c->op->id);
		form_add(form, "CallbackUrl", text);
	}
	form_add(form, "CallbackMethod", "POST");
}

/* ----- requests ----- */

/*
 * The OpenAPI's paths begin with /v1.  A server's URL may end in it, as in
 * the documents, or leave it out.
 */
static const char *
root(const RspConversation *c)
{
	const char *url = c->server->url != NULL ? c->server->url : "";
	size_t		n = strlen(url);
	size_t		digits = 0;

	while (n > 0 && url[n - 1] == '/')
		n--;
	while (n > 0 && url[n - 1] >= '0' && url[n - 1] <= '9')
	{
		n--;
		digits++;
	}
	return digits > 0 && n > 1 && url[n - 1] == 'v' && url[n - 2] == '/' ? "" : "/v1";
}

static void
ask(RspConversation *c, TwilioStep step, const char *path)
{
	char		whole[MAX_PAGE_PATH + 200];

	c->op->step = step;
	snprintf(whole, sizeof(whole), "%s%s", root(c), path);
	rsp_ask(c, "GET", whole, NULL);
	c->action.no_correlator = true;
}

static void
ask_for(RspConversation *c, TwilioStep step, const char *resource, const char *sid)
{
	char		path[200];

	snprintf(path, sizeof(path), "/%s/%s", resource, sid);
	ask(c, step, path);
}

static void
send_form(RspConversation *c, const char *path, const Form *form)
{
	char		whole[200];

	c->op->step = STEP_ACT;
	if (form->full)
	{
		c->op->unresolved = false;
		rsp_fail(c, "INVALID_ARGUMENT", "the request would be too long");
		return;
	}
	snprintf(whole, sizeof(whole), "%s%s", root(c), path);
	rsp_send(c, "POST", whole, NULL);
	if (c->action.type == RSP_ACT_SEND)
		rsp_body(c, FORM_TYPE, form->text);
	c->action.no_correlator = true;
}

/* ----- endings and waits ----- */

static void
fail(RspConversation *c, const char *code, const char *message, const char *rsp_code,
	 const char *rsp_message)
{
	c->op->step = STEP_ACT;
	rsp_fail(c, code, message);
	if ((rsp_code != NULL && rsp_code[0] != '\0') ||
		(rsp_message != NULL && rsp_message[0] != '\0'))
		rsp_said(c, rsp_code, rsp_message);
}

/* Nothing came of it, and nothing will. */
static void
fail_known(RspConversation *c, const char *code, const char *message, const char *rsp_code,
		   const char *rsp_message)
{
	c->op->unresolved = false;
	c->op->ask_first = false;
	fail(c, code, message, rsp_code, rsp_message);
	if (c->op->kind == RSP_RESERVE)
	{
		c->action.profile_state_set = true;
		c->action.state = RSP_STATE_FAILED;
	}
}

static void
done(RspConversation *c)
{
	c->op->step = STEP_ACT;
	c->op->unresolved = false;
	c->op->ask_first = false;
	rsp_done(c);
}

/* Polls at growing intervals. */
static void
poll_later(RspConversation *c, RspPhase phase, int64_t max, const char *message)
{
	RspOperation *op = c->op;
	int64_t		delay = rsp_poll_delay(op, POLL_BASE_MS, max);

	op->failures = 0;
	op->step = STEP_ACT;
	rsp_wait(c, phase, delay, "", message);
}

/* The next page of a list in a turn of its own: one turn stays short. */
static void
next_turn(RspConversation *c, const char *message)
{
	c->op->step = STEP_ACT;
	rsp_wait(c, c->op->unresolved ? RSP_PHASE_UNKNOWN : RSP_PHASE_SENT, 1, "", message);
}

/* ----- answers in general ----- */

static void
read_error(const json_t *root_value, TwilioError *error)
{
	const json_t *code = json_object_get(root_value, "code");
	const char *text;

	memset(error, 0, sizeof(*error));
	if (!json_is_object(root_value))
		return;
	if (json_is_integer(code) && json_integer_value(code) > 0 &&
		json_integer_value(code) <= 999999)
	{
		error->code = (int) json_integer_value(code);
		snprintf(error->text, sizeof(error->text), "%d", error->code);
	}
	else if ((text = rsp_json_string(root_value, "code", 1024)) != NULL)
	{
		rsp_set(error->text, sizeof(error->text), text);
		if (rsp_digits(text, 1, 6))
			error->code = atoi(text);
	}
	rsp_set(error->message, sizeof(error->message), rsp_json_string(root_value, "message", 8192));
}

static const TwilioRow *
answer_error(const HttpAnswer *answer, TwilioError *error)
{
	const char *reason;
	json_t	   *value = rsp_answer_json(answer, &reason);

	read_error(value, error);
	json_decref(value);
	return row_of(answer->status, error->code);
}

/* Meanings that say "not now", alike for all requests.  false: none of them. */
static bool
not_now(RspConversation *c, const HttpAnswer *answer, Meaning meaning, const TwilioRow *row,
		const TwilioError *error)
{
	switch (meaning)
	{
		case M_RETRY:
			rsp_note(c, "try-later", row->error_code);
			rsp_later(c, answer, false, row->error_code, "the server asks to try again later");
			break;
		case M_BUSY:
			rsp_note(c, "try-later", row->error_code);
			rsp_later(c, answer, true, row->error_code, "the server has trouble");
			break;
		case M_CREDENTIALS:
			rsp_note(c, "unauthenticated", row->error_code);
			rsp_parked(c, answer, row->error_code, row->message != NULL ? row->message :
					   "the server does not accept the credentials");
			break;
		default:
			return false;
	}
	if (error->text[0] != '\0' || error->message[0] != '\0')
		rsp_said(c, error->text, error->message);
	return true;
}

/* An answer to a GET. */
typedef enum Got
{
	GOT_JSON,					/* *value is an object, to be released */
	GOT_BAD,					/* answered without sense */
	GOT_REFUSED,				/* *row and *error say how */
	GOT_WAIT					/* not now; the action is set */
} Got;

static Got
get_answer(RspConversation *c, const HttpAnswer *answer, json_t **value, const TwilioRow **row,
		   TwilioError *error)
{
	const char *reason;

	*value = NULL;
	*row = NULL;
	memset(error, 0, sizeof(*error));
	if (rsp_no_answer(c, answer))
		return GOT_WAIT;
	if (answer->status >= 200 && answer->status < 300)
	{
		*value = rsp_answer_json(answer, &reason);
		if (json_is_object(*value))
			return GOT_JSON;
		rsp_note(c, "bad-answer", *value != NULL ? "the answer is no object" : reason);
		json_decref(*value);
		*value = NULL;
		return GOT_BAD;
	}
	*row = answer_error(answer, error);
	if (not_now(c, answer, (*row)->get, *row, error))
		return GOT_WAIT;
	rsp_note(c, "refused", (*row)->error_code);
	return GOT_REFUSED;
}

/* ----- resources ----- */

typedef struct Profile
{
	char		sid[SID_LENGTH + 1];
	char		sim_sid[SID_LENGTH + 1];	/* "" if not said, as all that follow */
	char		status[32];
	RspState	state;
	char		eid[33];
	char		iccid[21];
	char		smdp_address[256];
	char		matching_id[256];
	char		activation_code[260];
	char		error_code[64];
	char		error_message[512];
	int64_t		created_ms;		/* -1: not said */
} Profile;

/* "format: uri" says the OpenAPI, a bare host name say its examples */
static void
copy_address(char *to, size_t size, const char *text)
{
	size_t		n;

	to[0] = '\0';
	if (text == NULL)
		return;
	if (strncasecmp(text, "https://", 8) == 0)
		text += 8;
	n = strlen(text);
	while (n > 0 && text[n - 1] == '/')
		n--;
	if (n == 0 || n >= size ||
		strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-:") < n)
		return;
	memcpy(to, text, n);
	to[n] = '\0';
}

/*
 * Reads supersim.v1.esim_profile.  false: it has not the shape.  Identifiers
 * that are none (masked ones, say) count as not said.
 */
static bool
read_profile(const json_t *object, Profile *p, const char **why)
{
	ActivationCode code;
	ActivationCodeError code_error;
	const char *text;

	memset(p, 0, sizeof(*p));
	*why = "the answer is not an ESimProfile";
	if (!json_is_object(object))
		return false;
	text = rsp_json_string(object, "sid", SID_LENGTH);
	if (!is_sid(text, "HP"))
	{
		*why = "the answer has no valid sid";
		return false;
	}
	rsp_set(p->sid, sizeof(p->sid), text);
	text = rsp_json_string(object, "status", sizeof(p->status) - 1);
	if (text == NULL || text[0] == '\0')
	{
		*why = "the answer has no status";
		return false;
	}
	rsp_set(p->status, sizeof(p->status), text);
	p->state = state_of_status(text);
	if (!rsp_json_optional(object, "sim_sid", 64, &text) || (text != NULL && !is_sid(text, "HS")))
		return false;
	rsp_set(p->sim_sid, sizeof(p->sim_sid), text);
	if (!rsp_json_optional(object, "eid", 64, &text))
		return false;
	rsp_set(p->eid, sizeof(p->eid), rsp_is_eid(text) ? text : NULL);
	if (!rsp_json_optional(object, "iccid", 64, &text))
		return false;
	rsp_set(p->iccid, sizeof(p->iccid), rsp_is_iccid(text) ? text : NULL);
	if (!rsp_json_optional(object, "smdp_plus_address", 1024, &text))
		return false;
	copy_address(p->smdp_address, sizeof(p->smdp_address), text);
	if (!rsp_json_optional(object, "matching_id", 255, &text))
		return false;
	if (text != NULL &&
		strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-") ==
		strlen(text))
		rsp_set(p->matching_id, sizeof(p->matching_id), text);
	if (!rsp_json_optional(object, "activation_code", 512, &text))
		return false;
	if (text != NULL && activation_code_parse(text, strlen(text), &code, &code_error))
	{
		rsp_set(p->activation_code, sizeof(p->activation_code), code.text);
		if (p->matching_id[0] == '\0' && code.matching_id.length < sizeof(p->matching_id))
			memcpy(p->matching_id, code.text + code.matching_id.offset, code.matching_id.length);
	}
	if (json_is_integer(json_object_get(object, "error_code")))
		snprintf(p->error_code, sizeof(p->error_code), "%lld",
				 (long long) json_integer_value(json_object_get(object, "error_code")));
	else if (rsp_json_optional(object, "error_code", 1024, &text))
		rsp_set(p->error_code, sizeof(p->error_code), text);
	if (rsp_json_optional(object, "error_message", 8192, &text))
		rsp_set(p->error_message, sizeof(p->error_message), text);
	p->created_ms = date_ms(rsp_json_string(object, "date_created", 40));
	return true;
}

typedef struct Sim
{
	char		sid[SID_LENGTH + 1];
	char		iccid[21];
	char		fleet_sid[SID_LENGTH + 1];
	const char *subscription;	/* esim's word */
	int64_t		created_ms;		/* -1: not said */
} Sim;

/* Reads supersim.v1.sim. */
static bool
read_sim(const json_t *object, Sim *sim, const char **why)
{
	const char *text;

	memset(sim, 0, sizeof(*sim));
	*why = "the answer is not a Sim";
	if (!json_is_object(object))
		return false;
	text = rsp_json_string(object, "sid", SID_LENGTH);
	if (!is_sid(text, "HS"))
	{
		*why = "the answer has no valid sid";
		return false;
	}
	rsp_set(sim->sid, sizeof(sim->sid), text);
	if (!rsp_json_optional(object, "iccid", 64, &text))
		return false;
	rsp_set(sim->iccid, sizeof(sim->iccid), rsp_is_iccid(text) ? text : NULL);
	if (!rsp_json_optional(object, "fleet_sid", 64, &text) || (text != NULL && !is_sid(text, "HF")))
		return false;
	rsp_set(sim->fleet_sid, sizeof(sim->fleet_sid), text);
	text = rsp_json_string(object, "status", 32);
	sim->subscription = text != NULL ? subscription_of_status(text) : NULL;
	if (sim->subscription == NULL)
	{
		*why = "the answer has no known status";
		return false;
	}
	sim->created_ms = date_ms(rsp_json_string(object, "date_created", 40));
	return true;
}

typedef struct Fleet
{
	char		sid[SID_LENGTH + 1];
	char		name[204];
} Fleet;

/* Reads supersim.v1.fleet. */
static bool
read_fleet(const json_t *object, Fleet *fleet, const char **why)
{
	const char *text;

	memset(fleet, 0, sizeof(*fleet));
	*why = "the answer is not a Fleet";
	if (!json_is_object(object))
		return false;
	text = rsp_json_string(object, "sid", SID_LENGTH);
	if (!is_sid(text, "HF"))
	{
		*why = "the answer has no valid sid";
		return false;
	}
	rsp_set(fleet->sid, sizeof(fleet->sid), text);
	if (!rsp_json_optional(object, "unique_name", 4096, &text))
		return false;
	rsp_set(fleet->name, sizeof(fleet->name), text);
	return true;
}

/* ----- lists ----- */

typedef struct Origin
{
	const char *authority;
	size_t		authority_length;
	bool		tls;
	const char *path;			/* "" or from the first '/' on */
} Origin;

static bool
read_origin(const char *url, Origin *origin)
{
	if (strncasecmp(url, "https://", 8) == 0)
	{
		origin->tls = true;
		url += 8;
	}
	else if (strncasecmp(url, "http://", 7) == 0)
	{
		origin->tls = false;
		url += 7;
	}
	else
		return false;
	origin->authority = url;
	origin->authority_length = strcspn(url, "/?#");
	origin->path = url + origin->authority_length;
	if (origin->authority_length == 0 ||
		memchr(origin->authority, '@', origin->authority_length) != NULL)
		return false;
	/* the scheme's own port says nothing */
	if (origin->tls && origin->authority_length > 4 &&
		strncmp(url + origin->authority_length - 4, ":443", 4) == 0)
		origin->authority_length -= 4;
	else if (!origin->tls && origin->authority_length > 3 &&
			 strncmp(url + origin->authority_length - 3, ":80", 3) == 0)
		origin->authority_length -= 3;
	return true;
}

/*
 * The next page of a list, as a path below the server's own URL (without
 * root()): it must lie on the configured host, below the configured path, and
 * be of the same resource.  Credentials go nowhere else.
 */
static bool
next_page(const RspConversation *c, const char *url, const char *resource, char *path,
		  size_t size)
{
	Origin		ours;
	Origin		theirs;
	size_t		n;
	size_t		i;

	if (c->server->url == NULL || !read_origin(c->server->url, &ours) ||
		!read_origin(url, &theirs) || ours.tls != theirs.tls ||
		ours.authority_length != theirs.authority_length ||
		strncasecmp(ours.authority, theirs.authority, ours.authority_length) != 0)
		return false;
	n = strcspn(ours.path, "?#");
	while (n > 0 && ours.path[n - 1] == '/')
		n--;
	if (strncmp(ours.path, theirs.path, n) != 0)
		return false;
	theirs.path += n;
	n = strlen(root(c));
	if (strncmp(theirs.path, root(c), n) != 0)
		return false;
	theirs.path += n;
	n = strlen(resource);
	if (theirs.path[0] != '/' || strncmp(theirs.path + 1, resource, n) != 0 ||
		(theirs.path[n + 1] != '?' && theirs.path[n + 1] != '\0'))
		return false;
	for (i = 0; theirs.path[i] != '\0'; i++)
	{
		unsigned char ch = (unsigned char) theirs.path[i];

		if (ch <= 0x20 || ch >= 0x7f || strchr("\"#<>\\^`{|}", ch) != NULL)
			return false;
	}
	if (i >= size)
		return false;
	memcpy(path, theirs.path, i + 1);
	return true;
}

/*
 * Takes a page apart: its array, and the next page's path ("" if it is the
 * last).  false: it has not the shape; *foreign: the next page lies elsewhere.
 */
static bool
read_page(const RspConversation *c, const json_t *value, const char *key, const char *resource,
		  const json_t **array, char *path, size_t size, const char **why, bool *foreign)
{
	const json_t *meta = json_object_get(value, "meta");
	const json_t *next = json_object_get(meta, "next_page_url");

	path[0] = '\0';
	*foreign = false;
	*why = "the answer is not a list";
	*array = json_object_get(value, key);
	if (!json_is_array(*array) || (meta != NULL && !json_is_object(meta)))
		return false;
	if (json_array_size(*array) > PAGE_SIZE)
	{
		*why = "the page has more entries than there may be";
		return false;
	}
	if (next == NULL || json_is_null(next))
		return true;
	if (!json_is_string(next))
		return false;
	if (!next_page(c, json_string_value(next), resource, path, size))
	{
		*why = "the next page is not on this server";
		*foreign = true;
		return false;
	}
	return true;
}

static json_t *
walk_of(RspOperation *op)
{
	json_t	   *walk = json_object_get(op->memo, "walk");

	if (json_is_object(walk))
		return walk;
	if (!rsp_json_put(op->memo, "walk", json_object()))
		return NULL;
	return json_object_get(op->memo, "walk");
}

/*
 * Steps on to a page.  A list that leads back to where it has been would never
 * end: every path is compared with one that is kept and renewed at growing
 * distances (Brent).
 */
static bool
walk_on(json_t *walk, const char *path)
{
	json_int_t	n = json_integer_value(json_object_get(walk, "n")) + 1;
	const char *mark = json_string_value(json_object_get(walk, "mark"));
	const char *page = json_string_value(json_object_get(walk, "page"));

	if (n > MAX_PAGES || (mark != NULL && strcmp(mark, path) == 0) ||
		(page != NULL && strcmp(page, path) == 0))
		return false;
	if ((n & (n - 1)) == 0 && !rsp_json_put(walk, "mark", json_string(path)))
		return false;
	return rsp_json_put(walk, "n", json_integer(n)) && rsp_json_put(walk, "page", json_string(path));
}

static const char *
walk_page(const RspOperation *op)
{
	return json_string_value(json_object_get(json_object_get(op->memo, "walk"), "page"));
}

/* ----- reservation and download: an ESimProfile ----- */

static void search(RspConversation *c);
static void take_profile(RspConversation *c, const Profile *p);

/* The sid of the operation's ESimProfile, NULL if it has none yet. */
static const char *
profile_sid(const RspOperation *op)
{
	const char *sid = rsp_memo_text(op, "sid");
	const char *old = rsp_memo_text(op, "old");

	if (is_sid(op->rsp_operation_id, "HP"))
		return op->rsp_operation_id;
	if (is_sid(sid, "HP"))
		return sid;
	if (is_sid(op->rsp_id, "HP") && (old == NULL || strcmp(old, op->rsp_id) != 0))
		return op->rsp_id;
	return NULL;
}

static void
create_profile(RspConversation *c)
{
	RspOperation *op = c->op;
	const char *eid = wanted_eid(op);
	Form		form;

	form.length = 0;
	form.full = false;
	form.text[0] = '\0';
	if (eid != NULL)
		form_add(&form, "Eid", eid);
	else
		form_add(&form, "GenerateMatchingId", "true");
	form_callback(&form, c);
	op->rsp_operation_id[0] = '\0';
	send_form(c, "/ESimProfiles", &form);
}

/* What becomes of a request that may have created something is searched for. */
static void
lost_profile(RspConversation *c)
{
	RspOperation *op = c->op;

	op->unresolved = true;
	op->polls = 0;
	rsp_memo_set_flag(op, "lost");
	rsp_memo_clear(op, "walk");
	search(c);
}

static void
search(RspConversation *c)
{
	const RspOperation *op = c->op;
	const char *page = walk_page(op);
	const char *eid = wanted_eid(op);
	char		path[120];

	if (page == NULL)
	{
		if (eid != NULL)
			snprintf(path, sizeof(path), "/ESimProfiles?Eid=%s&PageSize=%d", eid, SEARCH_SIZE);
		else
			snprintf(path, sizeof(path), "/ESimProfiles?PageSize=%d", SEARCH_SIZE);
		page = path;
	}
	ask(c, STEP_SEARCH, page);
}

/* The ESimProfile of that sid is the operation's own. */
static void
adopt(RspConversation *c, const char *sid)
{
	RspOperation *op = c->op;

	rsp_set(op->rsp_operation_id, sizeof(op->rsp_operation_id), sid);
	op->unresolved = false;
	op->ask_first = false;
	op->polls = 0;
	op->failures = 0;
	rsp_memo_clear(op, "one");
	rsp_memo_clear(op, "one_at");
	rsp_memo_clear(op, "many_at");
	rsp_memo_clear(op, "lost");
	rsp_memo_clear(op, "since");
	ask_for(c, STEP_PROFILE, "ESimProfiles", op->rsp_operation_id);
}

/* A search came to its end without anything that might be ours. */
static void
nothing_found(RspConversation *c)
{
	RspOperation *op = c->op;
	int64_t		settled;
	int64_t		until;

	rsp_memo_clear(op, "one");
	rsp_memo_clear(op, "one_at");
	rsp_memo_clear(op, "many_at");
	if (!never_sent(op))
	{
		settled = settled_at(c);
		until = rsp_sent_at(op) + c->server->unknown_hold_ms;
		if (until < settled)
			until = settled;
		if (op->now_ms < until)
		{
			op->unresolved = true;
			rsp_wait_unknown(c, until,
							 "the answer was lost; whether a profile was reserved is asked");
			return;
		}
		if (rsp_memo_number(op, "senseless") >= FEW)
		{
			fail(c, "OUTCOME_UNKNOWN",
				 "the server's answers cannot be understood, and its list does not show the profile",
				 NULL, NULL);
			return;
		}
		rsp_memo_set_flag(op, "lost");
	}
	if (withdrawn(c))
		return;
	anew(op);
	create_profile(c);
}

/* The end of a search: maybe holds what might be ours. */
static void
judge_search(RspConversation *c, const json_t *maybe, bool blind)
{
	RspOperation *op = c->op;
	size_t		n = json_array_size(maybe);
	const char *sid = json_string_value(json_array_get(maybe, 0));
	const char *one = rsp_memo_text(op, "one");
	int64_t		settled = never_sent(op) ? 0 : settled_at(c);

	if (blind)
	{
		if (op->failures >= PATIENCE && op->now_ms >= settled)
			fail(c, "OUTCOME_UNKNOWN",
				 "the answer was lost, and the server's list of profiles cannot be read", NULL,
				 NULL);
		else
			rsp_later(c, NULL, false, "INTERNAL", "the server's list of profiles cannot be read");
		return;
	}
	op->failures = 0;
	if (n == 0)
		nothing_found(c);
	else if (n == 1)
	{
		rsp_memo_clear(op, "many_at");
		if (one != NULL && strcmp(one, sid) == 0 &&
			op->now_ms >= rsp_memo_number(op, "one_at") + AGAIN_MS)
		{
			char		found[SID_LENGTH + 1];

			rsp_set(found, sizeof(found), sid);
			rsp_memo_clear(op, "walk");
			adopt(c, found);
			return;
		}
		if (one == NULL || strcmp(one, sid) != 0)
		{
			if (!rsp_memo_set_text(op, "one", sid) ||
				!rsp_json_put(op->memo, "one_at", json_integer(op->now_ms)))
			{
				rsp_no_memory(c);
				return;
			}
		}
		op->step = STEP_ACT;
		rsp_wait(c, RSP_PHASE_UNKNOWN, AGAIN_MS, "",
				 "the answer was lost; a profile that may be the reserved one is there");
	}
	else
	{
		int64_t		many_at = rsp_memo_number(op, "many_at");

		rsp_memo_clear(op, "one");
		rsp_memo_clear(op, "one_at");
		if (many_at > 0 && op->now_ms >= many_at + AGAIN_MS && op->now_ms >= settled)
		{
			rsp_memo_clear(op, "walk");
			fail(c, "OUTCOME_UNKNOWN",
				 "the answer was lost, and more than one profile of the account may be the "
				 "reserved one", NULL, NULL);
			return;
		}
		if (many_at == 0)
			rsp_json_put(op->memo, "many_at", json_integer(op->now_ms));
		op->step = STEP_ACT;
		rsp_wait(c, RSP_PHASE_UNKNOWN,
				 settled > op->now_ms + AGAIN_MS ? settled - op->now_ms : AGAIN_MS, "",
				 "the answer was lost; more than one profile may be the reserved one");
	}
}

static void
end_search(RspConversation *c)
{
	RspOperation *op = c->op;
	json_t	   *walk = json_incref(json_object_get(op->memo, "walk"));

	rsp_memo_clear(op, "walk");
	judge_search(c, json_object_get(walk, "maybe"), json_is_true(json_object_get(walk, "blind")));
	json_decref(walk);
}

/* A search goes on, after the worker has said which candidates it knows. */
static void
resolve_profile(RspConversation *c)
{
	RspOperation *op = c->op;
	json_t	   *unknown = json_object_get(op->memo, "unknown");
	json_t	   *walk = json_object_get(op->memo, "walk");
	json_t	   *maybe;
	size_t		i;

	if (json_is_true(json_object_get(walk, "asked")))
	{
		json_object_del(walk, "asked");
		if (!json_is_array(unknown))
		{
			/* nobody has looked: begin anew, and not for ever */
			rsp_memo_clear(op, "walk");
			if (op->failures >= PATIENCE)
				fail(c, "OUTCOME_UNKNOWN",
					 "the answer was lost, and which profiles are known cannot be told", NULL,
					 NULL);
			else
			{
				op->failures++;
				search(c);
			}
			return;
		}
		maybe = json_object_get(walk, "maybe");
		if (!json_is_array(maybe))
		{
			if (!rsp_json_put(walk, "maybe", json_array()))
			{
				rsp_no_memory(c);
				return;
			}
			maybe = json_object_get(walk, "maybe");
		}

		/* two are as good as any number */
		for (i = 0; i < json_array_size(unknown) && json_array_size(maybe) < 2; i++)
		{
			const char *sid = json_string_value(json_array_get(unknown, i));
			const char *first = json_string_value(json_array_get(maybe, 0));

			if (is_sid(sid, "HP") && (first == NULL || strcmp(first, sid) != 0))
				json_array_append_new(maybe, json_string(sid));
		}
		rsp_memo_clear(op, "unknown");
		if (json_is_true(json_object_get(walk, "end")))
		{
			end_search(c);
			return;
		}
	}
	search(c);
}

/*
 * A page of a search.  The list comes newest first: where a page shows that
 * order and ends before the request was made, the rest is older still.
 */
static void
search_answered(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	const char *eid = wanted_eid(op);
	const char *old = rsp_memo_text(op, "old");
	const json_t *array;
	const TwilioRow *row;
	TwilioError error;
	json_t	   *value;
	json_t	   *walk;
	json_t	   *candidates;
	char		path[MAX_PAGE_PATH];
	const char *why;
	int64_t		since = created_since(op);
	int64_t		before = INT64_MAX;
	bool		foreign;
	bool		falls = false;
	bool		rises = false;
	bool		end;
	int			dropped = 0;
	size_t		i;
	Got			got = get_answer(c, answer, &value, &row, &error);

	if (got == GOT_WAIT)
	{
		/* a new search, not the page of an old one */
		rsp_memo_clear(op, "walk");
		return;
	}
	if (got == GOT_REFUSED)
	{
		int64_t		settled = never_sent(op) ? 0 : settled_at(c);

		rsp_memo_clear(op, "walk");
		if (never_sent(op))
			fail_known(c, row->error_code, "the server does not list its profiles", error.text,
					   error.message);
		else if (op->failures >= PATIENCE && op->now_ms >= settled)
			fail(c, "OUTCOME_UNKNOWN",
				 "the answer was lost, and the server does not list its profiles", error.text,
				 error.message);
		else
			rsp_later(c, answer, false, row->error_code, "the server does not list its profiles");
		return;
	}
	walk = walk_of(op);
	candidates = json_array();
	if (walk == NULL || candidates == NULL)
	{
		json_decref(value);
		json_decref(candidates);
		rsp_no_memory(c);
		return;
	}
	if (got == GOT_BAD ||
		!read_page(c, value, "esim_profiles", "ESimProfiles", &array, path, sizeof(path), &why,
				   &foreign))
	{
		if (got != GOT_BAD)
			rsp_note(c, "bad-answer", why);
		json_decref(value);
		json_decref(candidates);
		rsp_memo_clear(op, "walk");
		judge_search(c, NULL, true);
		return;
	}
	for (i = 0; i < json_array_size(array); i++)
	{
		Profile		p;
		int64_t		created;

		if (!read_profile(json_array_get(array, i), &p, &why))
		{
			dropped++;
			continue;
		}
		created = p.created_ms < 0 ? -1 : p.created_ms - answer->date_skew_ms;
		if (created >= 0)
		{
			falls = falls || (before != INT64_MAX && created < before);
			rises = rises || created > before;
			before = created;
		}
		if (eid != NULL && p.eid[0] == '\0')
			dropped++;			/* listed by EID, but it does not say which */
		else if (eid != NULL && strcmp(p.eid, eid) != 0)
			continue;
		/* one that is bound to an eUICC before it is fetched was asked for so */
		else if (eid == NULL && p.eid[0] != '\0' &&
				 (p.state == RSP_STATE_RESERVING || p.state == RSP_STATE_RELEASED))
			continue;
		else if ((created < 0 || created >= since) &&
				 (old == NULL || strcmp(old, p.sid) != 0) && !rsp_json_has(candidates, p.sid))
			json_array_append_new(candidates, json_string(p.sid));
	}
	if (dropped > 0)
		rsp_json_put(walk, "blind", json_true());
	end = path[0] == '\0' || (falls && !rises && before < since);
	if (!end && !walk_on(walk, path))
	{
		rsp_json_put(walk, "blind", json_true());
		end = true;
	}
	json_decref(value);
	rsp_note(c, "listed", dropped > 0 ? "not all of the list can be read" : "");
	if (json_array_size(candidates) > 0)
	{
		/* which of them are in esim's rows: the worker says */
		rsp_json_put(walk, "asked", json_true());
		if (end)
			rsp_json_put(walk, "end", json_true());
		rsp_memo_clear(op, "unknown");
		op->step = STEP_ACT;
		rsp_wait(c, RSP_PHASE_UNKNOWN, 1, "",
				 "the answer was lost; profiles that may be the reserved one are compared");
		rsp_candidates(c, candidates);
		return;
	}
	json_decref(candidates);
	if (end)
		end_search(c);
	else if (json_integer_value(json_object_get(walk, "n")) % TURN_PAGES == 0)
	{
		op->step = STEP_ACT;
		rsp_wait(c, RSP_PHASE_UNKNOWN, 1, "", "the list of profiles is read");
	}
	else
		search(c);
}

/* What the server says about the operation's own profile. */
static void
profile_facts(RspConversation *c, const Profile *p)
{
	RspFacts   *facts = &c->facts;
	const char *eid = wanted_eid(c->op);

	rsp_set(facts->rsp_id, sizeof(facts->rsp_id), p->sid);
	rsp_set(facts->rsp_state, sizeof(facts->rsp_state), p->status);
	if (p->smdp_address[0] != '\0')
		rsp_set(facts->smdp_address, sizeof(facts->smdp_address), p->smdp_address);
	if (p->matching_id[0] != '\0')
		rsp_set(facts->matching_id, sizeof(facts->matching_id), p->matching_id);
	if (p->activation_code[0] != '\0')
		rsp_set(facts->activation_code, sizeof(facts->activation_code), p->activation_code);
	if (p->sim_sid[0] != '\0')
		rsp_set(facts->sim_id, sizeof(facts->sim_id), p->sim_sid);
	if (eid != NULL && p->eid[0] != '\0' && strcmp(p->eid, eid) == 0)
		rsp_set(facts->reserved_eid, sizeof(facts->reserved_eid), eid);
}

/* The state and the ICCID belong to whatever action was set. */
static void
show_profile(RspConversation *c, RspState state, const char *iccid)
{
	const char *known = c->op->iccid;

	if (state != RSP_STATE_NONE)
	{
		c->action.profile_state_set = true;
		c->action.state = state;
	}
	if (iccid != NULL && iccid[0] != '\0' && (known == NULL || strcmp(known, iccid) != 0))
		rsp_set(c->action.iccid, sizeof(c->action.iccid), iccid);
}

/* The operation has reached its aim. */
static void
profile_done(RspConversation *c, const char *note)
{
	RspOperation *op = c->op;
	RspState	state = state_of_status(rsp_memo_text(op, "status") != NULL ?
										rsp_memo_text(op, "status") : "");
	const char *iccid = rsp_memo_text(op, "iccid");
	char		kept[21];

	rsp_set(kept, sizeof(kept), iccid);
	done(c);
	show_profile(c, state, kept);
	if (note[0] != '\0')
	{
		rsp_set(c->action.message, sizeof(c->action.message), note);
		rsp_note(c, "completed", note);
	}
	else
		rsp_note(c, "completed", "");
}

/* An answer about the ESimProfile that cannot be taken as it is. */
static void
profile_odd(RspConversation *c, const HttpAnswer *answer, const char *why)
{
	rsp_note(c, "bad-answer", why);
	rsp_later(c, answer, false, "INTERNAL", "the server's answer cannot be understood");
}

/*
 * Goes on by what the ESimProfile says; the sid is the operation's, the rest
 * is not looked at yet.
 */
static void
take_profile(RspConversation *c, const Profile *p)
{
	RspOperation *op = c->op;
	const char *eid = wanted_eid(op);
	const char *status = rsp_memo_text(op, "status");
	const TwilioRow *row;
	bool		reserve = op->kind == RSP_RESERVE;
	bool		complete;

	/* bound to another eUICC; or the answer is about something else */
	if (eid != NULL && p->eid[0] != '\0' && strcmp(p->eid, eid) != 0)
	{
		if (rsp_memo_count(op, "foreign") >= FEW)
		{
			rsp_note(c, "refused", "the profile is bound to another eUICC");
			op->unresolved = false;
			fail(c, "IDENTIFIER_MISMATCH", "the profile is bound to another eUICC", NULL, NULL);
		}
		else
			profile_odd(c, NULL, "the answer is about another eUICC");
		return;
	}
	rsp_memo_clear(op, "foreign");
	if (op->iccid != NULL && p->iccid[0] != '\0' && strcmp(op->iccid, p->iccid) != 0)
	{
		if (rsp_memo_count(op, "odd") >= FEW)
		{
			rsp_note(c, "refused", "the ESimProfile has another ICCID");
			op->unresolved = false;
			fail(c, "IDENTIFIER_MISMATCH",
				 "the ICCID is another than that of the profile at the server", NULL, NULL);
		}
		else
			profile_odd(c, NULL, "the answer is about another profile");
		return;
	}
	profile_facts(c, p);
	if (status == NULL || strcmp(status, p->status) != 0)
	{
		op->polls = 0;
		rsp_memo_clear(op, "short");
		if (!rsp_memo_set_text(op, "status", p->status))
		{
			rsp_no_memory(c);
			return;
		}
	}

	switch (p->state)
	{
		case RSP_STATE_FAILED:
			if (reserve && op->rsp_operation_id[0] == '\0' && never_sent(op))
			{
				/* the row's former one: nothing comes of it any more */
				memset(&c->facts, 0, sizeof(c->facts));
				rsp_memo_clear(op, "status");
				rsp_memo_clear(op, "sid");
				if (!rsp_memo_set_text(op, "old", p->sid))
					rsp_no_memory(c);
				else
					create_profile(c);
				return;
			}
			rsp_note(c, "failed", p->error_code);
			row = row_of_code(rsp_digits(p->error_code, 1, 6) ? atoi(p->error_code) : 0);
			op->unresolved = false;
			fail(c, row != NULL ? row->error_code : "SERVICE_NOT_APPLICABLE",
				 "the reservation or the download failed", p->error_code, p->error_message);
			show_profile(c, RSP_STATE_FAILED, p->iccid);
			return;

		case RSP_STATE_RELEASED:
		case RSP_STATE_DOWNLOADED:
			if (!reserve)
			{
				rsp_note(c, "not-yet", p->status);
				poll_later(c, RSP_PHASE_WAITING_DEVICE, POLL_MAX_MS,
						   p->state == RSP_STATE_RELEASED ?
						   "reserved, waiting for the device to fetch the profile" :
						   "downloaded, waiting for the installation");
				/* a row that knows it already is left alone */
				show_profile(c, op->state != p->state ? p->state : RSP_STATE_NONE, p->iccid);
				return;
			}
			break;

		case RSP_STATE_INSTALLED:
			break;

		default:
			rsp_note(c, "not-yet", p->status);
			poll_later(c, RSP_PHASE_SENT, POLL_MAX_MS, "the server is reserving the profile");
			return;
	}

	/* what belongs to the status should be there by now */
	complete = p->iccid[0] != '\0' && p->sim_sid[0] != '\0' &&
		(p->state != RSP_STATE_RELEASED ||
		 (p->smdp_address[0] != '\0' &&
		  (!op->generate_matching_id || p->matching_id[0] != '\0' ||
		   p->activation_code[0] != '\0')));
	if (!complete && rsp_memo_count(op, "short") < FEW)
	{
		rsp_note(c, "not-yet", "parts are missing");
		poll_later(c, RSP_PHASE_SENT, POLL_MAX_MS,
				   "the server does not tell all of the profile yet");
		return;
	}
	if (p->iccid[0] != '\0' ? !rsp_memo_set_text(op, "iccid", p->iccid) : false)
	{
		rsp_no_memory(c);
		return;
	}
	if (p->iccid[0] == '\0')
		rsp_memo_clear(op, "iccid");
	if (p->sim_sid[0] == '\0')
	{
		profile_done(c, "the server did not tell all of the profile");
		show_profile(c, RSP_STATE_NONE, p->iccid);
		return;
	}

	/* one ICCID is a whole subscription's key: its Sim must say the same */
	ask_for(c, STEP_CHECK, "Sims", p->sim_sid);
}

static void
profile_answered(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	const TwilioRow *row;
	TwilioError error;
	const char *sid = profile_sid(op);
	const char *why;
	json_t	   *value;
	Profile		p;

	switch (get_answer(c, answer, &value, &row, &error))
	{
		case GOT_WAIT:
			return;
		case GOT_BAD:
			rsp_later(c, answer, false, "INTERNAL", "the server's answer cannot be understood");
			return;
		case GOT_REFUSED:
			if (is_absent(answer->status) && rsp_memo_count(op, "gone") >= PATIENCE)
			{
				bool		ours = op->rsp_operation_id[0] != '\0';

				fail(c, ours ? "OUTCOME_UNKNOWN" : "IDENTIFIER_NOT_FOUND",
					 "the server does not know the profile any more", error.text, error.message);
				return;
			}
			/* it was accepted, so no refusal of a read ends it */
			rsp_later(c, answer, false, row->error_code,
					  "the server does not say how the profile stands");
			rsp_said(c, error.text, error.message);
			return;
		case GOT_JSON:
			break;
	}
	if (!read_profile(value, &p, &why))
		profile_odd(c, answer, why);
	else if (sid == NULL || strcasecmp(sid, p.sid) != 0)
		profile_odd(c, answer, "the answer is about another ESimProfile");
	else
	{
		rsp_memo_clear(op, "gone");
		take_profile(c, &p);
	}
	json_decref(value);
}

/* The Sim of the ESimProfile: does it have the same ICCID? */
static void
check_answered(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	const TwilioRow *row;
	TwilioError error;
	const char *iccid = rsp_memo_text(op, "iccid");
	const char *why;
	json_t	   *value;
	Sim			sim;
	Got			got = get_answer(c, answer, &value, &row, &error);
	bool		good = got == GOT_JSON && read_sim(value, &sim, &why) &&
		strcasecmp(sim.sid, c->facts.sim_id) == 0;

	json_decref(value);
	if (got == GOT_WAIT)
	{
		if (op->failures > PATIENCE)
			profile_done(c, "the server does not show the Sim of the profile");
		return;
	}
	if (good && iccid != NULL && sim.iccid[0] != '\0' && strcmp(iccid, sim.iccid) != 0)
	{
		if (rsp_memo_count(op, "odd") < FEW)
		{
			profile_odd(c, answer, "profile and Sim name different ICCIDs");
			memset(&c->facts, 0, sizeof(c->facts));
			return;
		}
		profile_done(c, "the Sim of the profile names another ICCID");
		return;
	}
	if (good)
	{
		rsp_set(c->facts.subscription, sizeof(c->facts.subscription), sim.subscription);
		/* an ESimProfile that does not say its ICCID has that of its Sim */
		if (iccid == NULL && sim.iccid[0] != '\0' &&
			(op->iccid == NULL || strcmp(op->iccid, sim.iccid) == 0))
			rsp_memo_set_text(op, "iccid", sim.iccid);
		profile_done(c, rsp_memo_text(op, "iccid") != NULL ? "" :
					 "the server did not tell the ICCID of the profile");
	}
	else if (got == GOT_REFUSED || rsp_memo_count(op, "odd") >= FEW)
		profile_done(c, "the server does not show the Sim of the profile");
	else
		profile_odd(c, answer, "the answer is not the Sim of the profile");
}

/* ----- answers of requests that act ----- */

/* The answer to a request that acts did not say what became of it. */
static bool
act_unanswered(RspConversation *c, const HttpAnswer *answer)
{
	if (answer->outcome == HTTP_NOT_SENT)
	{
		c->op->unresolved = false;
		rsp_no_answer(c, answer);
		return true;
	}
	return false;
}

static void
profile_created(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	const char *eid = wanted_eid(op);
	const TwilioRow *row;
	TwilioError error;
	const char *why;
	json_t	   *value;
	Profile		p;
	bool		good;

	if (act_unanswered(c, answer))
		return;
	if (answer->outcome == HTTP_LOST)
	{
		rsp_note(c, "lost", answer->error);
		lost_profile(c);
		return;
	}
	if (answer->status >= 200 && answer->status < 300)
	{
		value = rsp_answer_json(answer, &why);
		good = value != NULL && read_profile(value, &p, &why);
		json_decref(value);
		if (good && ((eid != NULL && p.eid[0] != '\0' && strcmp(eid, p.eid) != 0) ||
					 (op->rsp_id != NULL && strcmp(op->rsp_id, p.sid) == 0)))
		{
			/* something was created: never again */
			why = "the answer is about another ESimProfile";
			good = false;
			rsp_json_put(op->memo, "senseless", json_integer(FEW));
		}
		if (!good)
		{
			rsp_note(c, "bad-answer", why);
			rsp_memo_count(op, "senseless");
			lost_profile(c);
			return;
		}
		rsp_note(c, "accepted", p.status);
		rsp_set(op->rsp_operation_id, sizeof(op->rsp_operation_id), p.sid);
		op->unresolved = false;
		op->ask_first = false;
		op->polls = 0;
		op->failures = 0;
		rsp_memo_clear(op, "lost");
		rsp_memo_clear(op, "since");
		rsp_memo_clear(op, "status");
		take_profile(c, &p);
		return;
	}
	row = answer_error(answer, &error);
	if (row->post == M_UNKNOWN)
	{
		rsp_note(c, "unknown", row->error_code);
		lost_profile(c);
		return;
	}
	op->unresolved = false;
	if (not_now(c, answer, row->post, row, &error))
		return;
	rsp_note(c, "refused", row->error_code);
	fail_known(c, row->error_code,
			   row->message != NULL ? row->message : "the server refused the reservation",
			   error.text, error.message);
}

static void
begin_profile(RspConversation *c)
{
	RspOperation *op = c->op;
	const char *sid = profile_sid(op);
	char		path[80];

	if (sid != NULL)
	{
		op->unresolved = false;
		op->ask_first = false;
		ask_for(c, STEP_PROFILE, "ESimProfiles", sid);
	}
	else if (op->unresolved || op->ask_first || json_object_get(op->memo, "walk") != NULL)
		resolve_profile(c);
	else if (op->kind == RSP_DOWNLOAD && op->iccid != NULL)
	{
		/* a profile that the account has, but no row tells which: by its Sim */
		snprintf(path, sizeof(path), "/Sims?Iccid=%s", op->iccid);
		ask(c, STEP_SIM_BY_ICCID, path);
	}
	else
		create_profile(c);
}

/* ----- subscription: a Sim ----- */

static void ask_fleets(RspConversation *c);
static void go_on_sim(RspConversation *c);

static const char *
sim_sid(const RspOperation *op)
{
	const char *sid = rsp_memo_text(op, "sim");

	if (is_sid(sid, "HS"))
		return sid;
	return is_sid(op->sim_id, "HS") ? op->sim_id : NULL;
}

static bool
wants_fleet(const RspOperation *op)
{
	return op->fleet != NULL || op->fleet_rsp_id != NULL;
}

static const char *
fleet_sid(const RspOperation *op)
{
	const char *sid = rsp_memo_text(op, "fleet");

	if (is_sid(sid, "HF"))
		return sid;
	if (is_sid(op->fleet_rsp_id, "HF"))
		return op->fleet_rsp_id;
	return is_sid(op->fleet, "HF") ? op->fleet : NULL;
}

static const char *
wanted_status(const RspOperation *op)
{
	return op->kind == RSP_SET_SUBSCRIPTION ? op->subscription : NULL;
}

static void
send_sim(RspConversation *c)
{
	RspOperation *op = c->op;
	const char *wanted = wanted_status(op);
	const char *fleet = fleet_sid(op);
	char		path[80];
	Form		form;

	form.length = 0;
	form.full = false;
	form.text[0] = '\0';
	if (wanted != NULL)
		form_add(&form, "Status", strcmp(wanted, "READY") == 0 ? "ready" :
				 strcmp(wanted, "ACTIVE") == 0 ? "active" : "inactive");
	if (fleet != NULL)
		form_add(&form, "Fleet", fleet);
	form_callback(&form, c);
	snprintf(path, sizeof(path), "/Sims/%s", sim_sid(op));
	send_form(c, path, &form);
}

/*
 * Is the aim reached?  READY becomes ACTIVE by itself.
 */
static bool
sim_fits(const RspOperation *op, const Sim *sim)
{
	const char *wanted = wanted_status(op);
	const char *fleet = fleet_sid(op);

	if (wanted != NULL && strcmp(wanted, sim->subscription) != 0 &&
		!(strcmp(wanted, "READY") == 0 && strcmp(sim->subscription, "ACTIVE") == 0))
		return false;
	return fleet == NULL || strcasecmp(fleet, sim->fleet_sid) == 0;
}

static void
sim_facts(RspConversation *c, const Sim *sim)
{
	RspOperation *op = c->op;
	const char *fleet = fleet_sid(op);

	rsp_set(c->facts.sim_id, sizeof(c->facts.sim_id), sim->sid);
	rsp_set(c->facts.subscription, sizeof(c->facts.subscription), sim->subscription);
	if (fleet != NULL && op->fleet != NULL && strcasecmp(fleet, sim->fleet_sid) == 0)
		rsp_set(c->facts.fleet, sizeof(c->facts.fleet), op->fleet);
}

/* Reads the Sim and sees to it that it is the one meant. */
static bool
read_own_sim(const RspConversation *c, const json_t *value, Sim *sim, const char **why)
{
	const RspOperation *op = c->op;
	const char *sid = sim_sid(op);

	if (!read_sim(value, sim, why))
		return false;
	*why = "the answer is about another Sim";
	return sid != NULL && strcasecmp(sid, sim->sid) == 0 &&
		(op->iccid == NULL || sim->iccid[0] == '\0' || strcmp(op->iccid, sim->iccid) == 0);
}

static bool
is_scheduled(const Sim *sim)
{
	return strcmp(sim->subscription, "SCHEDULED") == 0;
}

/* The change is accepted; its end is what the Sim says. */
static void
poll_sim(RspConversation *c)
{
	poll_later(c, RSP_PHASE_SENT, SIM_POLL_MAX_MS,
			   "the change is accepted and scheduled");
}

static void
ask_sim(RspConversation *c)
{
	ask_for(c, STEP_SIM, "Sims", sim_sid(c->op));
}

static void
lost_sim(RspConversation *c)
{
	c->op->unresolved = true;
	c->op->polls = 0;
	rsp_memo_set_flag(c->op, "lost");
	ask_sim(c);
}

static void
sim_updated(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	const TwilioRow *row;
	TwilioError error;
	const char *why;
	json_t	   *value;
	Sim			sim;
	bool		good;

	if (act_unanswered(c, answer))
		return;
	if (answer->outcome == HTTP_LOST)
	{
		rsp_note(c, "lost", answer->error);
		lost_sim(c);
		return;
	}
	if (answer->status >= 200 && answer->status < 300)
	{
		value = rsp_answer_json(answer, &why);
		good = value != NULL && read_own_sim(c, value, &sim, &why);
		json_decref(value);
		if (!good)
		{
			rsp_note(c, "bad-answer", why);
			rsp_memo_count(op, "senseless");
			lost_sim(c);
			return;
		}
		rsp_note(c, "accepted", sim.subscription);
		op->unresolved = false;
		op->ask_first = false;
		op->polls = 0;
		op->failures = 0;
		sim_facts(c, &sim);
		if (sim_fits(op, &sim))
			done(c);
		else if (!rsp_memo_set_flag(op, "accepted"))
			rsp_no_memory(c);
		else
		{
			rsp_memo_clear(op, "odd");
			poll_sim(c);
		}
		return;
	}
	row = answer_error(answer, &error);
	if (row->post == M_UNKNOWN)
	{
		rsp_note(c, "unknown", row->error_code);
		lost_sim(c);
		return;
	}
	op->unresolved = false;
	if (not_now(c, answer, row->post, row, &error))
		return;
	rsp_note(c, "refused", row->error_code);
	why = row->message != NULL ? row->message : "the server refused the change";
	if (row->post == M_STATE || rsp_memo_flag(op, "lost"))
	{
		/* it may be so already, or a change be under way */
		if (rsp_memo_set_refusal(op, row->error_code, why, error.text, error.message))
		{
			op->failures = 0;
			ask_sim(c);
			return;
		}
	}
	fail_known(c, row->error_code, why, error.text, error.message);
}

/* Fails as the server had refused the request. */
static void
fail_refused(RspConversation *c)
{
	RspRefusal	how;

	rsp_memo_refusal(c->op, &how);
	fail_known(c, how.code[0] != '\0' ? how.code : "OUTCOME_UNKNOWN", how.message, how.rsp_code,
			   how.rsp_message);
	rsp_memo_clear_refusal(c->op);
}

/* The Sim, read to see how the change stands. */
static void
sim_answered(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	bool		was_refused = rsp_memo_is_refused(op);
	const TwilioRow *row;
	TwilioError error;
	const char *why;
	json_t	   *value;
	Sim			sim;
	bool		good;
	Got			got = get_answer(c, answer, &value, &row, &error);

	if (got == GOT_WAIT)
		return;
	good = got == GOT_JSON && read_own_sim(c, value, &sim, &why);
	json_decref(value);
	if (!good)
	{
		if (got == GOT_JSON)
			rsp_note(c, "bad-answer", why);
		if (was_refused && (got == GOT_REFUSED || op->failures >= PATIENCE))
			fail_refused(c);
		else if (got == GOT_REFUSED && never_sent(op))
			fail_known(c, row->error_code, row->message != NULL ? row->message :
					   "the server does not show the Sim", error.text, error.message);
		else if (op->failures >= PATIENCE && (never_sent(op) || op->now_ms >= settled_at(c)))
		{
			if (never_sent(op))
				fail_known(c, "INTERNAL", "the server's answers cannot be understood", NULL, NULL);
			else
				fail(c, "OUTCOME_UNKNOWN",
					 "the server does not say what became of the change", error.text,
					 error.message);
		}
		else
			rsp_later(c, answer, false, row != NULL ? row->error_code : "INTERNAL",
					  "the server does not say how the Sim stands");
		return;
	}

	op->failures = 0;
	sim_facts(c, &sim);
	rsp_note(c, "read", sim.subscription);
	if (sim_fits(op, &sim))
	{
		rsp_memo_clear_refusal(op);
		done(c);
		return;
	}
	if (is_scheduled(&sim))
	{
		/* ours, or another's that is waited out before ours is sent (again) */
		rsp_memo_clear(op, "odd");
		rsp_memo_clear_refusal(op);
		op->step = STEP_ACT;
		poll_later(c, op->unresolved ? RSP_PHASE_UNKNOWN : RSP_PHASE_SENT, SIM_POLL_MAX_MS,
				   "a change of the Sim is scheduled");
		if (was_refused || op->ask_first)
			op->ask_first = true;
		return;
	}
	if (was_refused)
	{
		fail_refused(c);
		return;
	}
	if (rsp_memo_flag(op, "accepted"))
	{
		/* it has ended, but not as it should */
		if (rsp_memo_count(op, "odd") < SEVERAL)
			poll_sim(c);
		else
			fail_known(c, "INCOMPATIBLE_STATE",
					   "the server accepted the change, but it ended in another status",
					   sim.subscription, NULL);
		return;
	}
	if (!never_sent(op) && op->unresolved && op->now_ms < settled_at(c))
	{
		rsp_wait_unknown(c, settled_at(c),
						 "the answer was lost; whether the change has an effect is asked");
		return;
	}

	if (rsp_memo_number(op, "senseless") >= FEW)
	{
		fail(c, "OUTCOME_UNKNOWN",
			 "the server's answers cannot be understood, and the Sim does not show the change",
			 NULL, NULL);
		return;
	}

	/* setting the same once more has the same end */
	if (withdrawn(c))
		return;
	anew(op);
	send_sim(c);
}

static void
sim_found(RspConversation *c, const char *sid)
{
	if (!rsp_memo_set_text(c->op, "sim", sid))
		rsp_no_memory(c);
	else
	{
		c->op->failures = 0;
		go_on_sim(c);
	}
}

/* Nothing was sent yet and cannot be: what is needed to know is refused. */
static void
lookup_failed(RspConversation *c, const HttpAnswer *answer, Got got, const TwilioRow *row,
			  const TwilioError *error)
{
	RspOperation *op = c->op;

	if (got == GOT_REFUSED && !op->unresolved)
		fail_known(c, row->error_code, row->message != NULL ? row->message :
				   "the server refused the request", error->text, error->message);
	else if (op->failures >= PATIENCE && !op->unresolved)
		fail_known(c, "INTERNAL", "the server's answers cannot be understood", NULL, NULL);
	else if (op->failures >= PATIENCE && op->now_ms >= settled_at(c))
		fail(c, "OUTCOME_UNKNOWN", "the server does not say what became of the request",
			 error->text, error->message);
	else
		rsp_later(c, answer, false, row != NULL ? row->error_code : "INTERNAL",
				  "the server's answer cannot be understood");
}

/* Sims?Iccid=: one or none. */
static void
sim_listed(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	const json_t *array;
	const TwilioRow *row;
	TwilioError error;
	const char *why;
	json_t	   *value;
	char		path[MAX_PAGE_PATH];
	char		found[SID_LENGTH + 1];
	bool		foreign;
	size_t		i;
	Got			got = get_answer(c, answer, &value, &row, &error);

	if (got == GOT_WAIT)
		return;
	if (got == GOT_JSON &&
		!read_page(c, value, "sims", "Sims", &array, path, sizeof(path), &why, &foreign))
	{
		rsp_note(c, "bad-answer", why);
		got = GOT_BAD;
	}
	found[0] = '\0';
	for (i = 0; got == GOT_JSON && i < json_array_size(array); i++)
	{
		Sim			sim;

		if (!read_sim(json_array_get(array, i), &sim, &why))
		{
			rsp_note(c, "bad-answer", why);
			got = GOT_BAD;
		}
		else if (op->iccid != NULL && strcmp(sim.iccid, op->iccid) == 0)
		{
			rsp_set(found, sizeof(found), sim.sid);
			rsp_set(c->facts.subscription, sizeof(c->facts.subscription), sim.subscription);
		}
		else
		{
			/* the filter lets no other through */
			rsp_note(c, "bad-answer", "the list has another Sim than was asked for");
			got = GOT_BAD;
		}
	}
	json_decref(value);
	if (got != GOT_JSON)
	{
		c->facts.subscription[0] = '\0';
		lookup_failed(c, answer, got, row, &error);
		return;
	}
	rsp_note(c, "listed", "");
	if (found[0] == '\0')
	{
		fail_known(c, "IDENTIFIER_NOT_FOUND", "the account has no Sim of this ICCID", NULL, NULL);
		return;
	}
	rsp_set(c->facts.sim_id, sizeof(c->facts.sim_id), found);
	if (op->kind == RSP_DOWNLOAD)
	{
		snprintf(path, sizeof(path), "/ESimProfiles?SimSid=%s", found);
		ask(c, STEP_PROFILE_BY_SIM, path);
	}
	else
		sim_found(c, found);
}

/* ESimProfiles?SimSid=: one, or none where the Sim is a physical one. */
static void
profile_listed(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	const json_t *array;
	const TwilioRow *row;
	TwilioError error;
	const char *why = "the list has another ESimProfile than was asked for";
	json_t	   *value;
	char		path[MAX_PAGE_PATH];
	bool		foreign;
	Profile		p;
	Got			got = get_answer(c, answer, &value, &row, &error);

	if (got == GOT_WAIT)
		return;
	memset(&p, 0, sizeof(p));
	if (got == GOT_JSON &&
		(!read_page(c, value, "esim_profiles", "ESimProfiles", &array, path, sizeof(path), &why,
					&foreign) ||
		 json_array_size(array) > 1 ||
		 (json_array_size(array) == 1 &&
		  (!read_profile(json_array_get(array, 0), &p, &why) ||
		   strcasecmp(p.sim_sid, c->facts.sim_id) != 0))))
	{
		rsp_note(c, "bad-answer", why);
		got = GOT_BAD;
	}
	json_decref(value);
	if (got != GOT_JSON)
		lookup_failed(c, answer, got, row, &error);
	else if (p.sid[0] == '\0')
		fail_known(c, "SERVICE_NOT_APPLICABLE", "the ICCID is that of a physical SIM", NULL, NULL);
	else if (!rsp_memo_set_text(op, "sid", p.sid))
		rsp_no_memory(c);
	else
	{
		op->failures = 0;
		take_profile(c, &p);
	}
}

/* The ESimProfile, for the Sim of a profile whose ICCID is not known. */
static void
sim_told(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	const TwilioRow *row;
	TwilioError error;
	const char *why = "the answer is about another ESimProfile";
	json_t	   *value;
	Profile		p;
	Got			got = get_answer(c, answer, &value, &row, &error);

	if (got == GOT_WAIT)
		return;
	memset(&p, 0, sizeof(p));
	if (got == GOT_JSON &&
		(!read_profile(value, &p, &why) || op->rsp_id == NULL ||
		 strcasecmp(p.sid, op->rsp_id) != 0))
	{
		rsp_note(c, "bad-answer", why);
		got = GOT_BAD;
	}
	json_decref(value);
	if (got != GOT_JSON)
		lookup_failed(c, answer, got, row, &error);
	else if (p.sim_sid[0] != '\0')
		sim_found(c, p.sim_sid);
	else if (p.state == RSP_STATE_FAILED)
		fail_known(c, "INCOMPATIBLE_STATE", "the profile's reservation failed, it has no Sim",
				   p.error_code, p.error_message);
	else
		poll_later(c, RSP_PHASE_SENT, POLL_MAX_MS, "the profile has no Sim yet");
}

/* Sim and Fleet are looked up, then the change is asked about or sent. */
static void
go_on_sim(RspConversation *c)
{
	RspOperation *op = c->op;
	char		path[80];

	if (sim_sid(op) == NULL)
	{
		if (op->iccid != NULL)
		{
			snprintf(path, sizeof(path), "/Sims?Iccid=%s", op->iccid);
			ask(c, STEP_SIM_BY_ICCID, path);
		}
		else if (is_sid(op->rsp_id, "HP"))
			ask_for(c, STEP_SIM_OF_PROFILE, "ESimProfiles", op->rsp_id);
		else
			fail_known(c, "MISSING_IDENTIFIER",
					   "neither ICCID nor Sim of the profile is known yet", NULL, NULL);
	}
	else if (wants_fleet(op) && fleet_sid(op) == NULL)
		ask_fleets(c);
	else if (op->unresolved || op->ask_first || rsp_memo_flag(op, "accepted") ||
			 rsp_memo_is_refused(op) ||
			 (never_sent(op) && op->subscription_now != NULL &&
			  strcmp(op->subscription_now, "SCHEDULED") == 0))
		ask_sim(c);
	else
		send_sim(c);
}

/* ----- fleets ----- */

static void
send_fleet(RspConversation *c)
{
	RspOperation *op = c->op;
	const char *key;
	json_t	   *value;
	char		buffer[32];
	bool		limit = false;
	size_t		i;
	Form		form;

	form.length = 0;
	form.full = false;
	form.text[0] = '\0';
	form_add(&form, "UniqueName", op->fleet);
	for (i = 0; i < lengthof(fleet_settings); i++)
	{
		json_object_foreach(op->settings, key, value)
		{
			const char *text;

			if (setting_number(key) != (int) i)
				continue;
			text = setting_value(fleet_settings[i].type, value, buffer, sizeof(buffer));
			if (text != NULL)
				form_add(&form, fleet_settings[i].name, text);
			limit = limit || fleet_settings[i].type == SETTING_LIMIT;
		}
	}
	/* the documents name two defaults for it */
	if (!limit)
	{
		snprintf(buffer, sizeof(buffer), "%d", DATA_LIMIT);
		form_add(&form, "DataLimit", buffer);
	}
	send_form(c, "/Fleets", &form);
}

static void
ask_fleets(RspConversation *c)
{
	const char *page = walk_page(c->op);
	char		path[60];

	if (page == NULL)
	{
		snprintf(path, sizeof(path), "/Fleets?PageSize=%d", PAGE_SIZE);
		page = path;
	}
	ask(c, STEP_FLEETS, page);
}

static void
lost_fleet(RspConversation *c)
{
	c->op->unresolved = true;
	c->op->polls = 0;
	rsp_memo_set_flag(c->op, "lost");
	rsp_memo_clear(c->op, "walk");
	ask_fleets(c);
}

static void
fleet_done(RspConversation *c, const char *sid)
{
	rsp_set(c->facts.rsp_id, sizeof(c->facts.rsp_id), sid);
	rsp_set(c->facts.fleet, sizeof(c->facts.fleet), c->op->fleet);
	rsp_memo_clear_refusal(c->op);
	done(c);
}

static void
fleet_created(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	const TwilioRow *row;
	TwilioError error;
	const char *why;
	json_t	   *value;
	Fleet		fleet;
	bool		good;

	if (act_unanswered(c, answer))
		return;
	if (answer->outcome == HTTP_LOST)
	{
		rsp_note(c, "lost", answer->error);
		lost_fleet(c);
		return;
	}
	if (answer->status >= 200 && answer->status < 300)
	{
		value = rsp_answer_json(answer, &why);
		good = value != NULL && read_fleet(value, &fleet, &why);
		json_decref(value);
		if (good && fleet.name[0] != '\0' && strcmp(fleet.name, op->fleet) != 0)
		{
			/* something was created: never again */
			why = "the answer is about another Fleet";
			good = false;
			rsp_json_put(op->memo, "senseless", json_integer(FEW));
		}
		if (!good)
		{
			rsp_note(c, "bad-answer", why);
			rsp_memo_count(op, "senseless");
			lost_fleet(c);
			return;
		}
		rsp_note(c, "accepted", "");
		op->unresolved = false;
		fleet_done(c, fleet.sid);
		return;
	}
	row = answer_error(answer, &error);
	if (row->post == M_UNKNOWN)
	{
		rsp_note(c, "unknown", row->error_code);
		lost_fleet(c);
		return;
	}
	op->unresolved = false;
	if (not_now(c, answer, row->post, row, &error))
		return;
	rsp_note(c, "refused", row->error_code);
	why = row->message != NULL ? row->message : "the server refused the Fleet";
	if (rsp_memo_flag(op, "lost"))
	{
		/* the name may be in use because an earlier try was carried out */
		if (rsp_memo_set_refusal(op, row->error_code, why, error.text, error.message))
		{
			op->failures = 0;
			rsp_memo_clear(op, "walk");
			ask_fleets(c);
			return;
		}
	}
	fail_known(c, row->error_code, why, error.text, error.message);
}

/* No Fleet of the name is there. */
static void
no_fleet(RspConversation *c)
{
	RspOperation *op = c->op;

	if (op->kind != RSP_FLEET_CREATE)
	{
		if (op->unresolved)
		{
			/* what was sent named it by its sid, which is lost */
			fail(c, "OUTCOME_UNKNOWN", "the account has no Fleet of this name any more", NULL,
				 NULL);
			return;
		}
		fail_known(c, "NOT_FOUND", "the account has no Fleet of this name", NULL, NULL);
		return;
	}
	if (rsp_memo_is_refused(op))
	{
		fail_refused(c);
		return;
	}
	if (!never_sent(op) && op->unresolved && op->now_ms < settled_at(c))
	{
		rsp_wait_unknown(c, settled_at(c),
						 "the answer was lost; whether the Fleet was created is asked");
		return;
	}
	if (rsp_memo_number(op, "senseless") >= FEW)
	{
		fail(c, "OUTCOME_UNKNOWN",
			 "the server's answers cannot be understood, and its list does not show the Fleet",
			 NULL, NULL);
		return;
	}
	if (withdrawn(c))
		return;
	anew(op);
	send_fleet(c);
}

static void
fleets_answered(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	const json_t *array;
	const TwilioRow *row;
	TwilioError error;
	const char *why;
	json_t	   *value;
	json_t	   *walk;
	char		path[MAX_PAGE_PATH];
	char		found[SID_LENGTH + 1];
	bool		foreign;
	bool		blind = false;
	size_t		i;
	Got			got = get_answer(c, answer, &value, &row, &error);

	if (got == GOT_WAIT)
	{
		rsp_memo_clear(op, "walk");
		return;
	}
	if (got == GOT_JSON &&
		!read_page(c, value, "fleets", "Fleets", &array, path, sizeof(path), &why, &foreign))
	{
		rsp_note(c, "bad-answer", why);
		got = GOT_BAD;
	}
	if (got != GOT_JSON)
	{
		json_decref(value);
		rsp_memo_clear(op, "walk");
		if (got == GOT_REFUSED && rsp_memo_is_refused(op))
			fail_refused(c);
		else
			lookup_failed(c, answer, got, row, &error);
		return;
	}
	found[0] = '\0';
	for (i = 0; i < json_array_size(array); i++)
	{
		Fleet		fleet;

		if (!read_fleet(json_array_get(array, i), &fleet, &why))
			blind = true;
		else if (strcmp(fleet.name, op->fleet != NULL ? op->fleet : "") == 0 &&
				 fleet.name[0] != '\0')
			rsp_set(found, sizeof(found), fleet.sid);
	}
	json_decref(value);
	rsp_note(c, "listed", blind ? "not all of the list can be read" : "");
	if (found[0] != '\0')
	{
		rsp_memo_clear(op, "walk");
		op->failures = 0;
		if (op->kind == RSP_FLEET_CREATE)
		{
			if (never_sent(op))
				rsp_note(c, "listed", "it is there already");
			fleet_done(c, found);
		}
		else if (!rsp_memo_set_text(op, "fleet", found))
			rsp_no_memory(c);
		else
			go_on_sim(c);
		return;
	}
	walk = walk_of(op);
	if (walk == NULL)
	{
		rsp_no_memory(c);
		return;
	}
	if (blind || (path[0] != '\0' && !walk_on(walk, path)))
	{
		rsp_memo_clear(op, "walk");
		lookup_failed(c, answer, GOT_BAD, NULL, &error);
	}
	else if (path[0] == '\0')
	{
		rsp_memo_clear(op, "walk");
		op->failures = 0;
		no_fleet(c);
	}
	else if (json_integer_value(json_object_get(walk, "n")) % TURN_PAGES == 0)
		next_turn(c, "the list of Fleets is read");
	else
		ask_fleets(c);
}

/* ----- refresh and sync ----- */

static void
report_profile(RspConversation *c, const Profile *p, const HttpAnswer *answer)
{
	RspReport  *report = rsp_report_add(c, RSP_REPORT_PROFILE);

	if (report == NULL)
		return;
	report->state = p->state;
	rsp_set(report->eid, sizeof(report->eid), p->eid);
	rsp_set(report->iccid, sizeof(report->iccid), p->iccid);
	rsp_set(report->rsp_id, sizeof(report->rsp_id), p->sid);
	rsp_set(report->rsp_state, sizeof(report->rsp_state), p->status);
	rsp_set(report->sim_id, sizeof(report->sim_id), p->sim_sid);
	rsp_set(report->smdp_address, sizeof(report->smdp_address), p->smdp_address);
	rsp_set(report->matching_id, sizeof(report->matching_id), p->matching_id);
	report->created_ms = p->created_ms < 0 ? 0 : p->created_ms - answer->date_skew_ms;
}

static void
report_sim(RspConversation *c, const Sim *sim, const HttpAnswer *answer)
{
	RspReport  *report = rsp_report_add(c, RSP_REPORT_SUBSCRIPTION);

	if (report == NULL)
		return;
	rsp_set(report->iccid, sizeof(report->iccid), sim->iccid);
	rsp_set(report->rsp_id, sizeof(report->rsp_id), sim->sid);
	rsp_set(report->sim_id, sizeof(report->sim_id), sim->sid);
	rsp_set(report->subscription, sizeof(report->subscription), sim->subscription);
	rsp_set(report->fleet_id, sizeof(report->fleet_id), sim->fleet_sid);
	report->created_ms = sim->created_ms < 0 ? 0 : sim->created_ms - answer->date_skew_ms;
}

static void
report_fleet(RspConversation *c, const Fleet *fleet)
{
	RspReport  *report = rsp_report_add(c, RSP_REPORT_FLEET);

	if (report == NULL)
		return;
	rsp_set(report->rsp_id, sizeof(report->rsp_id), fleet->sid);
	rsp_set(report->fleet_id, sizeof(report->fleet_id), fleet->sid);
	rsp_set(report->name, sizeof(report->name), fleet->name);
}

static void
note_listed(RspConversation *c, size_t n, int dropped)
{
	char		detail[80];

	detail[0] = '\0';
	if (dropped > 0)
		snprintf(detail, sizeof(detail), "%zu entries, left out: %d", n, dropped);
	rsp_note(c, "listed", detail);
}

/* What the account has on one eUICC. */
static void
refresh_answered(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	const json_t *array;
	const TwilioRow *row;
	TwilioError error;
	const char *why;
	json_t	   *value;
	json_t	   *walk;
	char		path[MAX_PAGE_PATH];
	bool		foreign;
	int			dropped = 0;
	size_t		i;
	Got			got = get_answer(c, answer, &value, &row, &error);

	if (got == GOT_WAIT)
	{
		rsp_memo_clear(op, "walk");
		return;
	}
	if (got == GOT_JSON &&
		!read_page(c, value, "esim_profiles", "ESimProfiles", &array, path, sizeof(path), &why,
				   &foreign))
	{
		rsp_note(c, "bad-answer", why);
		got = GOT_BAD;
	}
	if (got != GOT_JSON)
	{
		json_decref(value);
		rsp_memo_clear(op, "walk");
		lookup_failed(c, answer, got, row, &error);
		return;
	}
	for (i = 0; i < json_array_size(array); i++)
	{
		Profile		p;

		if (!read_profile(json_array_get(array, i), &p, &why) || strcmp(p.eid, op->eid) != 0)
			dropped++;
		else
			report_profile(c, &p, answer);
	}
	note_listed(c, json_array_size(array), dropped);
	json_decref(value);
	walk = walk_of(op);
	if (walk == NULL)
	{
		rsp_no_memory(c);
		return;
	}
	if (path[0] == '\0')
	{
		rsp_memo_clear(op, "walk");
		done(c);
	}
	else if (!walk_on(walk, path))
	{
		rsp_memo_clear(op, "walk");
		lookup_failed(c, answer, GOT_BAD, NULL, &error);
	}
	else
	{
		op->failures = 0;
		next_turn(c, "the list of profiles is read");
	}
}

/* Fleets first, since Sims name them; ESimProfiles before the Sims they control. */
static const struct
{
	const char *resource;
	const char *key;
}			sync_lists[] = {
	{"Fleets", "fleets"},
	{"ESimProfiles", "esim_profiles"},
	{"Sims", "sims"}
};

static void
begin_sync(RspConversation *c)
{
	RspOperation *op = c->op;
	int64_t		list = rsp_memo_number(op, "list");
	int64_t		size = rsp_memo_number(op, "size");
	const char *page = walk_page(op);
	char		path[80];

	if (list < 0 || list >= (int64_t) lengthof(sync_lists))
	{
		done(c);
		return;
	}
	if (page == NULL)
	{
		snprintf(path, sizeof(path), "/%s?PageSize=%d", sync_lists[list].resource,
				 size >= 1 && size <= PAGE_SIZE ? (int) size : PAGE_SIZE);
		page = path;
	}
	ask(c, STEP_SYNC, page);
}

/* Begins the list anew; sync is repeatable. */
static void
sync_failed(RspConversation *c, const HttpAnswer *answer, Got got, const TwilioRow *row,
			const TwilioError *error, bool foreign)
{
	RspOperation *op = c->op;
	bool		inside = walk_page(op) != NULL;

	rsp_memo_clear(op, "walk");
	if (answer->outcome == HTTP_BAD_ANSWER)
	{
		/* too many on one page, perhaps */
		int64_t		size = rsp_memo_number(op, "size");

		size = (size >= 1 ? size : PAGE_SIZE) / 4;
		rsp_json_put(op->memo, "size", json_integer(size >= 10 ? size : 10));
	}
	if (foreign && op->failures >= FEW)
		fail_known(c, "INTERNAL", "the server names a next page that is not its own", NULL, NULL);
	else if (got == GOT_REFUSED && inside && rsp_memo_count(op, "gone") <= FEW)
		rsp_later(c, answer, false, row->error_code, "the server does not show the next page");
	else
		lookup_failed(c, answer, got, row, error);
}

static void
sync_answered(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	int64_t		list = rsp_memo_number(op, "list");
	const json_t *array;
	const TwilioRow *row;
	TwilioError error;
	const char *why;
	json_t	   *value;
	json_t	   *walk;
	char		path[MAX_PAGE_PATH];
	bool		foreign = false;
	int			dropped = 0;
	size_t		i;
	Got			got = get_answer(c, answer, &value, &row, &error);

	if (got == GOT_WAIT)
		return;
	if (list < 0 || list >= (int64_t) lengthof(sync_lists))
		list = 0;
	if (got == GOT_JSON &&
		!read_page(c, value, sync_lists[list].key, sync_lists[list].resource, &array, path,
				   sizeof(path), &why, &foreign))
	{
		rsp_note(c, "bad-answer", why);
		got = GOT_BAD;
	}
	if (got != GOT_JSON)
	{
		json_decref(value);
		sync_failed(c, answer, got, row, &error, foreign);
		return;
	}
	for (i = 0; i < json_array_size(array); i++)
	{
		const json_t *entry = json_array_get(array, i);
		Profile		p;
		Sim			sim;
		Fleet		fleet;

		if (list == 0)
		{
			if (read_fleet(entry, &fleet, &why))
				report_fleet(c, &fleet);
			else
				dropped++;
		}
		else if (list == 1)
		{
			if (read_profile(entry, &p, &why))
				report_profile(c, &p, answer);
			else
				dropped++;
		}
		else if (read_sim(entry, &sim, &why))
			report_sim(c, &sim, answer);
		else
			dropped++;
	}
	note_listed(c, json_array_size(array), dropped);
	json_decref(value);
	op->failures = 0;
	if (path[0] == '\0')
	{
		rsp_memo_clear(op, "walk");
		rsp_memo_clear(op, "gone");
		if (list + 1 >= (int64_t) lengthof(sync_lists))
			done(c);
		else if (!rsp_json_put(op->memo, "list", json_integer(list + 1)))
			rsp_no_memory(c);
		else
			next_turn(c, "what the account has is read");
		return;
	}
	walk = walk_of(op);
	if (walk == NULL)
		rsp_no_memory(c);
	else if (!walk_on(walk, path))
	{
		rsp_memo_clear(op, "walk");
		fail_known(c, "INTERNAL", "the server's pages lead in a circle", NULL, NULL);
	}
	else
		next_turn(c, "what the account has is read");
}

/* ----- the driver's face ----- */

/* Has anything been done for the operation yet? */
static bool
is_started(const RspOperation *op)
{
	return op->unresolved || op->attempts > 0 || op->first_sent_ms != 0 ||
		op->rsp_operation_id[0] != '\0' || json_object_size(op->memo) > 0;
}

/*
 * Takes an operation up: at first, after a wait, after a crash at any point.
 */
static void
take_up(RspConversation *c)
{
	RspOperation *op = c->op;
	RspError	error;
	char		path[120];

	op->step = STEP_ACT;
	memset(&error, 0, sizeof(error));
	if (!twilio_supports(RSP_DIALECT_R1_2, op->kind, NULL) ||
		(!is_started(op) && !twilio_check(c->server, op, &error)))
	{
		/* it was checked when it was queued; the row may differ now */
		fail(c, op->unresolved || op->rsp_operation_id[0] != '\0' ? "OUTCOME_UNKNOWN" :
			 error.code != NULL ? error.code : "SERVICE_NOT_APPLICABLE",
			 error.code != NULL ? error.message : "protocol twilio has no such operation", NULL,
			 NULL);
		return;
	}
	switch (op->kind)
	{
		case RSP_RESERVE:
		case RSP_DOWNLOAD:
			begin_profile(c);
			break;
		case RSP_SET_SUBSCRIPTION:
		case RSP_ASSIGN_FLEET:
			go_on_sim(c);
			break;
		case RSP_FLEET_CREATE:
			if (op->unresolved || op->ask_first || walk_page(op) != NULL ||
				rsp_memo_is_refused(op))
				ask_fleets(c);
			else
				send_fleet(c);
			break;
		case RSP_REFRESH:
			op->unresolved = false;
			op->ask_first = false;
			snprintf(path, sizeof(path), "/ESimProfiles?Eid=%s", op->eid);
			ask(c, STEP_REFRESH, walk_page(op) != NULL ? walk_page(op) : path);
			break;
		default:
			op->unresolved = false;
			op->ask_first = false;
			begin_sync(c);
			break;
	}
}

static void
read_answer(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;

	switch ((TwilioStep) op->step)
	{
		case STEP_ACT:
			if (op->kind == RSP_RESERVE || op->kind == RSP_DOWNLOAD)
				profile_created(c, answer);
			else if (op->kind == RSP_SET_SUBSCRIPTION || op->kind == RSP_ASSIGN_FLEET)
				sim_updated(c, answer);
			else if (op->kind == RSP_FLEET_CREATE)
				fleet_created(c, answer);
			else
				take_up(c);
			break;
		case STEP_PROFILE:
			profile_answered(c, answer);
			break;
		case STEP_CHECK:
			check_answered(c, answer);
			break;
		case STEP_SEARCH:
			search_answered(c, answer);
			break;
		case STEP_SIM_BY_ICCID:
			sim_listed(c, answer);
			break;
		case STEP_PROFILE_BY_SIM:
			profile_listed(c, answer);
			break;
		case STEP_SIM_OF_PROFILE:
			sim_told(c, answer);
			break;
		case STEP_FLEETS:
			fleets_answered(c, answer);
			break;
		case STEP_SIM:
			sim_answered(c, answer);
			break;
		case STEP_REFRESH:
			refresh_answered(c, answer);
			break;
		case STEP_SYNC:
			sync_answered(c, answer);
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
		(rsp_memo_flag(op, "lost") || rsp_memo_flag(op, "accepted")))
		op->step = STEP_SIM;
}

static void
twilio_begin(RspConversation *c)
{
	take_up(c);
	keep_done(c);
}

static void
twilio_answer(RspConversation *c, const HttpAnswer *answer)
{
	read_answer(c, answer);
	keep_done(c);
}

const RspDriver rsp_twilio = {
	.protocol = RSP_PROTOCOL_TWILIO,
	.name = "twilio",
	.supports = twilio_supports,
	.check = twilio_check,
	.state_allowed = twilio_state_allowed,
	.can_ask = true,
	.begin = twilio_begin,
	.answer = twilio_answer
};
