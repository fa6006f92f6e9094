/*
 * twilio.c
 *		Super SIM (Twilio's, now KORE's): ESimProfiles, Sims, Fleets.
 *
 * An account is a named server.  Parameters that the OpenAPI does not have,
 * and values that it does not allow, are refused.  A profile is reserved, and a
 * Sim's status changed, some time after the request (reserve_ms, schedule_ms);
 * the device fetches the profile when a test says so, when a CAMARA server
 * installs its ICCID, or by itself (install_ms).
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#include "rspsim.h"

#define PREFIX			"/supersim/v1"
#define SID_LENGTH		34
#define MAX_FIELDS		24
#define MAX_PAGE		1000
#define USUAL_PAGE		50
#define MAX_POPULATION	5000000

typedef enum Endpoint
{
	ENDPOINT_PROFILES,
	ENDPOINT_PROFILE,
	ENDPOINT_SIMS,
	ENDPOINT_SIM,
	ENDPOINT_FLEETS,
	ENDPOINT_FLEET,
	ENDPOINT_NONE
} Endpoint;

typedef enum Status
{
	PROFILE_NEW,
	PROFILE_RESERVING,
	PROFILE_AVAILABLE,
	PROFILE_DOWNLOADED,
	PROFILE_INSTALLED,
	PROFILE_FAILED,
	PROFILE_STATUSES
} Status;

static const char *const profile_words[PROFILE_STATUSES] = {
	"new", "reserving", "available", "downloaded", "installed", "failed"
};

typedef enum SimStatus
{
	SIM_NEW,
	SIM_READY,
	SIM_ACTIVE,
	SIM_INACTIVE,
	SIM_SCHEDULED,
	SIM_STATUSES
} SimStatus;

static const char *const sim_words[SIM_STATUSES] = {
	"new", "ready", "active", "inactive", "scheduled"
};

typedef struct TwilioProfile
{
	uint64_t	created_ms;
	uint64_t	updated_ms;
	uint64_t	random;			/* part of the sid */
	uint32_t	place;			/* in its account's list */
	uint32_t	sim;			/* index + 1, 0: none yet */
	uint32_t	next_of_eid;	/* index + 1 */
	Id			eid;
	bool		has_eid;
	bool		matching;
	bool		doomed;			/* its reservation will fail */
	uint16_t	server;
	uint8_t		status;
	bool		post;			/* CallbackMethod */
	char	   *callback;		/* NULL: none */
	const char *error_code;		/* interned */
	const char *error_message;
	uint32_t	tick;			/* when it was created, or the creation repeated */
} TwilioProfile;

typedef struct TwilioSim
{
	uint64_t	created_ms;
	uint64_t	updated_ms;
	uint64_t	random;
	Id			iccid;
	uint32_t	place;
	uint32_t	profile;		/* index + 1, 0: a physical SIM */
	uint32_t	fleet;			/* index + 1 */
	uint32_t	generation;		/* of the scheduled change */
	uint32_t	last_ask;
	uint32_t	last_update;	/* tick of the last accepted one */
	uint64_t	last_form;		/* its hash */
	uint16_t	server;
	uint8_t		status;
	uint8_t		goal;
	bool		post;
	char	   *callback;
	const char *unique_name;	/* interned, NULL: none */
} TwilioSim;

typedef struct TwilioFleet
{
	uint64_t	created_ms;
	uint64_t	updated_ms;
	uint64_t	random;
	uint32_t	place;
	uint32_t	data_limit;
	uint16_t	server;
	bool		data_enabled;
	bool		sms_enabled;
	const char *unique_name;
	const char *network_access_profile;
	const char *sms_url;
	const char *sms_method;
	const char *ip_url;
	const char *ip_method;
} TwilioFleet;

/* What belongs to one account, in order of creation. */
typedef struct List
{
	uint32_t   *items;
	uint32_t	count;
	uint32_t	size;
} List;

/* With its settings; all zero: everything happens at once, no device comes. */
typedef struct Account
{
	List		profiles;
	List		sims;
	List		fleets;
	uint32_t	last_ask;		/* of a list of profiles */
	uint32_t	reserve_ms;
	uint32_t	schedule_ms;
	uint32_t	install_ms;		/* 0: not by itself */
	uint32_t	page_size;		/* of lists, at most; 0: what is asked for */
	char		smdp_address[200];
	json_t	   *lies;			/* rules, with how often each was met ("seen") */
} Account;

static Pool profiles = {.width = sizeof(TwilioProfile)};
static Pool sims = {.width = sizeof(TwilioSim)};
static Pool fleets = {.width = sizeof(TwilioFleet)};
static Pool registrable = {.width = sizeof(Id)};
static Account accounts[MAX_SERVERS];
static IdTable sims_by_iccid;
static IdTable profiles_by_eid; /* the newest, then next_of_eid */
static IdTable by_callback;		/* hash of CallbackUrl and account */
static IdTable registrable_by_iccid;
static uint32_t epoch;			/* timers of an earlier one are void */

/* ---- small things ---- */

static void
list_add(List *list, uint32_t item, uint32_t *place)
{
	if (list->count == list->size)
	{
		list->size = list->size ? list->size * 2 : 64;
		list->items = xrealloc(list->items, list->size * sizeof(uint32_t));
	}
	*place = list->count;
	list->items[list->count++] = item;
}

/* A sid holds the index of its record, so that no table is needed. */
static void
make_sid(char out[SID_LENGTH + 1], const char *prefix, uint64_t random, uint32_t index)
{
	snprintf(out, SID_LENGTH + 1, "%s%016" PRIx64 "%08" PRIx64 "%08x", prefix, random,
			 mix64(random) & 0xffffffff, index);
}

static void
profile_sid(uint32_t index, char out[SID_LENGTH + 1])
{
	make_sid(out, "HP", ((TwilioProfile *) pool_get(&profiles, index))->random, index);
}

static void
sim_sid(uint32_t index, char out[SID_LENGTH + 1])
{
	make_sid(out, "HS", ((TwilioSim *) pool_get(&sims, index))->random, index);
}

static void
fleet_sid(uint32_t index, char out[SID_LENGTH + 1])
{
	make_sid(out, "HF", ((TwilioFleet *) pool_get(&fleets, index))->random, index);
}

static void
account_sid(const Server *server, char out[SID_LENGTH + 1])
{
	make_sid(out, "AC", hash_bytes(server->name, strlen(server->name), simulator_seed), 0);
}

static bool
sid_index(const char *text, const char *prefix, uint32_t total, uint32_t *index)
{
	char	   *end;

	if (strlen(text) != SID_LENGTH || strncmp(text, prefix, 2) != 0)
		return false;
	*index = (uint32_t) strtoul(text + SID_LENGTH - 8, &end, 16);
	return *end == '\0' && *index < total;
}

static TwilioProfile *
find_profile(const Server *server, const char *sid, uint32_t *index)
{
	char		own[SID_LENGTH + 1];
	TwilioProfile *p;

	if (!sid_index(sid, "HP", profiles.count, index))
		return NULL;
	profile_sid(*index, own);
	p = pool_get(&profiles, *index);
	return strcmp(own, sid) == 0 && p->server == server->index ? p : NULL;
}

/* by its sid, or by its unique name */
static TwilioSim *
find_sim(const Server *server, const char *name, uint32_t *index)
{
	char		own[SID_LENGTH + 1];
	List	   *list = &accounts[server->index].sims;
	TwilioSim  *sim;
	uint32_t	i;

	if (sid_index(name, "HS", sims.count, index))
	{
		sim_sid(*index, own);
		sim = pool_get(&sims, *index);
		return strcmp(own, name) == 0 && sim->server == server->index ? sim : NULL;
	}
	if (strncmp(name, "HS", 2) == 0 && strlen(name) == SID_LENGTH)
		return NULL;
	for (i = 0; i < list->count; i++)
	{
		*index = list->items[i];
		sim = pool_get(&sims, *index);
		if (sim->unique_name != NULL && strcmp(sim->unique_name, name) == 0)
			return sim;
	}
	return NULL;
}

static TwilioFleet *
find_fleet(const Server *server, const char *name, uint32_t *index)
{
	char		own[SID_LENGTH + 1];
	List	   *list = &accounts[server->index].fleets;
	TwilioFleet *fleet;
	uint32_t	i;

	if (sid_index(name, "HF", fleets.count, index))
	{
		fleet_sid(*index, own);
		fleet = pool_get(&fleets, *index);
		if (strcmp(own, name) == 0 && fleet->server == server->index)
			return fleet;
	}
	for (i = 0; i < list->count; i++)
	{
		*index = list->items[i];
		fleet = pool_get(&fleets, *index);
		if (fleet->unique_name != NULL && strcmp(fleet->unique_name, name) == 0)
			return fleet;
	}
	return NULL;
}

/* 20 digits of Super SIM's range, the last one by Luhn. */
static Id
make_iccid(uint32_t number)
{
	char		digits[24];
	Id			id = {0, 0};
	int			sum = 0;
	int			i;

	snprintf(digits, sizeof(digits), "8988307%012" PRIu64,
			 (mix64(simulator_seed) % 1000 * UINT64_C(1000000000) + number) %
			 UINT64_C(1000000000000));
	for (i = 0; i < 19; i++)
	{
		int			digit = digits[18 - i] - '0';

		if (i % 2 == 0)
			digit = digit * 2 > 9 ? digit * 2 - 9 : digit * 2;
		sum += digit;
	}
	digits[19] = '0' + (10 - sum % 10) % 10;
	id_parse(digits, 20, 20, 20, &id);
	return id;
}

static void
matching_id(uint32_t index, char out[32])
{
	static const char letters[] = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
	uint64_t	state = ((TwilioProfile *) pool_get(&profiles, index))->random;
	int			i;

	for (i = 0; i < 29; i++)
	{
		if (i % 6 == 5)
			out[i] = '-';
		else
		{
			state = mix64(state);
			out[i] = letters[state & 31];
		}
	}
	out[29] = '\0';
}

static const char *
smdp_address(const Server *server)
{
	const Account *account = &accounts[server->index];

	return account->smdp_address[0] != '\0' ? account->smdp_address : "sm-dp-plus.example.com";
}

static void
activation_code(uint32_t index, char out[320])
{
	TwilioProfile *p = pool_get(&profiles, index);
	char		matching[32];
	char	   *c;

	matching_id(index, matching);
	snprintf(out, 320, "1$%s$", smdp_address(server_by_index(p->server)));
	for (c = out; *c; c++)
		*c = (char) toupper((unsigned char) *c);
	strcat(out, matching);
}

/* ---- errors ---- */

void
twilio_error(Request *request, int status, const char *code, const char *message)
{
	static const int usual[][2] = {
		{400, 20001}, {401, 20003}, {403, 20403}, {404, 20404}, {405, 20004}, {409, 20409},
		{415, 20001}, {422, 20422}, {429, 20429}, {500, 20500}, {503, 20503}, {504, 20504}
	};
	int			number = code != NULL && isdigit((unsigned char) *code) ? atoi(code) :
		20000 + status;
	size_t		i;

	for (i = 0; number == 20000 + status && i < sizeof(usual) / sizeof(usual[0]); i++)
		if (usual[i][0] == status)
			number = usual[i][1];
	request->status = status;
	request->content_type = "application/json";
	request->location[0] = '\0';
	if (status == 401 && request->server->auth.username != NULL)
		request->challenge = "Basic realm=\"Twilio API\"";
	buf_clear(&request->out);
	buf_format(&request->out, "{\"code\":%d,\"message\":", number);
	buf_json(&request->out, message);
	buf_format(&request->out, ",\"more_info\":\"https://www.twilio.com/docs/errors/%d\","
			   "\"status\":%d}", number, status);
}

static void
refuse(Request *request, const char *code, const char *message)
{
	twilio_error(request, 400, code, message);
}

/* ---- forms ---- */

typedef struct Field
{
	char	   *name;
	char	   *value;
} Field;

typedef struct Form
{
	Field		fields[MAX_FIELDS];
	int			count;
	char	   *text;
} Form;

static void
form_free(Form *form)
{
	free(form->text);
	form->text = NULL;
}

static int
hex_digit(char c)
{
	return isdigit((unsigned char) c) ? c - '0' :
		isxdigit((unsigned char) c) ? tolower((unsigned char) c) - 'a' + 10 : -1;
}

/* Undoes the encoding in place; false if it is broken, or holds a NUL. */
static bool
decode(char *text)
{
	char	   *out = text;

	for (; *text; text++)
	{
		if (*text == '%')
		{
			int			high = hex_digit(text[1]);
			int			low = high >= 0 ? hex_digit(text[2]) : -1;

			if (low < 0 || (high | low) == 0)
				return false;
			*out++ = (char) (high << 4 | low);
			text += 2;
		}
		else
			*out++ = *text == '+' ? ' ' : *text;
	}
	*out = '\0';
	return true;
}

static bool
form_parse(Form *form, const char *data, size_t length)
{
	char	   *at;

	memset(form, 0, sizeof(*form));
	if (memchr(data != NULL ? data : "", '\0', length) != NULL)
		return false;
	form->text = xalloc(length + 1);
	memcpy(form->text, data != NULL ? data : "", length);
	for (at = strtok(form->text, "&"); at != NULL; at = strtok(NULL, "&"))
	{
		char	   *equals = strchr(at, '=');

		if (form->count == MAX_FIELDS || equals == NULL)
			return false;
		*equals = '\0';
		form->fields[form->count].name = at;
		form->fields[form->count].value = equals + 1;
		if (!decode(at) || !decode(equals + 1))
			return false;
		form->count++;
	}
	return true;
}

static const char *
form_get(const Form *form, const char *name)
{
	int			i;

	for (i = 0; i < form->count; i++)
		if (strcmp(form->fields[i].name, name) == 0)
			return form->fields[i].value;
	return NULL;
}

typedef enum Type
{
	TYPE_STRING,
	TYPE_BOOLEAN,
	TYPE_METHOD,
	TYPE_URL,
	TYPE_LIMIT,
	TYPE_EID,
	TYPE_SIM_STATUS
} Type;

typedef struct Parameter
{
	const char *name;
	Type		type;
} Parameter;

static const Parameter create_profile[] = {
	{"CallbackUrl", TYPE_URL}, {"CallbackMethod", TYPE_METHOD},
	{"GenerateMatchingId", TYPE_BOOLEAN}, {"Eid", TYPE_EID}, {NULL, 0}
};
static const Parameter create_sim[] = {
	{"Iccid", TYPE_STRING}, {"RegistrationCode", TYPE_STRING}, {NULL, 0}
};
static const Parameter update_sim[] = {
	{"UniqueName", TYPE_STRING}, {"Status", TYPE_SIM_STATUS}, {"Fleet", TYPE_STRING},
	{"CallbackUrl", TYPE_URL}, {"CallbackMethod", TYPE_METHOD}, {"AccountSid", TYPE_STRING},
	{NULL, 0}
};
static const Parameter create_fleet[] = {
	{"NetworkAccessProfile", TYPE_STRING}, {"UniqueName", TYPE_STRING},
	{"DataEnabled", TYPE_BOOLEAN}, {"DataLimit", TYPE_LIMIT}, {"IpCommandsUrl", TYPE_URL},
	{"IpCommandsMethod", TYPE_METHOD}, {"SmsCommandsEnabled", TYPE_BOOLEAN},
	{"SmsCommandsUrl", TYPE_URL}, {"SmsCommandsMethod", TYPE_METHOD}, {NULL, 0}
};
static const Parameter update_fleet[] = {
	{"UniqueName", TYPE_STRING}, {"NetworkAccessProfile", TYPE_STRING},
	{"IpCommandsUrl", TYPE_URL}, {"IpCommandsMethod", TYPE_METHOD},
	{"SmsCommandsUrl", TYPE_URL}, {"SmsCommandsMethod", TYPE_METHOD},
	{"DataLimit", TYPE_LIMIT}, {NULL, 0}
};

static bool
is_number(const char *text, unsigned long least, unsigned long most)
{
	return *text != '\0' && strspn(text, "0123456789") == strlen(text) && strlen(text) < 12 &&
		strtoul(text, NULL, 10) >= least && strtoul(text, NULL, 10) <= most;
}

static bool
value_fits(Type type, const char *value)
{
	Id			id;
	size_t		i;

	switch (type)
	{
		case TYPE_STRING:
			return *value != '\0';
		case TYPE_BOOLEAN:
			return strcmp(value, "true") == 0 || strcmp(value, "false") == 0;
		case TYPE_METHOD:
			return strcmp(value, "GET") == 0 || strcmp(value, "POST") == 0;
		case TYPE_URL:
			for (i = 0; value[i] != '\0'; i++)
				if ((unsigned char) value[i] <= 0x20 || (unsigned char) value[i] >= 0x7f)
					return false;
			return (strncmp(value, "http://", 7) == 0 && value[7] != '\0') ||
				(strncmp(value, "https://", 8) == 0 && value[8] != '\0');
		case TYPE_LIMIT:
			return is_number(value, 1, 2000000);
		case TYPE_EID:
			return id_parse(value, strlen(value), 32, 32, &id);
		case TYPE_SIM_STATUS:
			return strcmp(value, "ready") == 0 || strcmp(value, "active") == 0 ||
				strcmp(value, "inactive") == 0;
	}
	return false;
}

/* Are these the parameters of the request, each once, with values that fit? */
static bool
form_valid(Request *request, const Form *form, const Parameter *parameters)
{
	char		message[128];
	int			i;

	for (i = 0; i < form->count; i++)
	{
		const Parameter *p;

		for (p = parameters; p->name != NULL; p++)
			if (strcmp(p->name, form->fields[i].name) == 0)
				break;
		if (p->name == NULL)
			snprintf(message, sizeof(message), "Parameter \"%.40s\" is not known.",
					 form->fields[i].name);
		else if (form_get(form, p->name) != form->fields[i].value)
			snprintf(message, sizeof(message), "Parameter \"%.40s\" is given twice.", p->name);
		else if (!value_fits(p->type, form->fields[i].value))
			snprintf(message, sizeof(message), "Parameter \"%.40s\" is not valid.", p->name);
		else
			continue;
		refuse(request, NULL, message);
		return false;
	}
	return true;
}

/* ---- resources as JSON ---- */

static void
put_date(Buf *out, const char *name, uint64_t ms)
{
	time_t		seconds = ms / 1000;
	struct tm	tm;

	gmtime_r(&seconds, &tm);
	buf_format(out, ",\"%s\":\"%04d-%02d-%02dT%02d:%02d:%02dZ\"", name, tm.tm_year + 1900,
			   tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static void
put_text(Buf *out, const char *name, const char *value)
{
	buf_format(out, ",\"%s\":", name);
	if (value != NULL)
		buf_json(out, value);
	else
		buf_text(out, "null");
}

/* scheme, host and the account's path */
static void
put_base(Buf *out, Request *request)
{
	const char *host = http_header(request, "Host");

	buf_format(out, "%s://%s/%s" PREFIX, request->base,
			   host != NULL && strlen(host) < 200 ? host : "localhost", request->server->name);
}

static void
put_url(Request *request, const char *resource, const char *sid)
{
	buf_text(&request->out, ",\"url\":\"");
	put_base(&request->out, request);
	buf_format(&request->out, "/%s/%s\"", resource, sid);
}

static void
put_profile(Request *request, uint32_t index)
{
	Buf		   *out = &request->out;
	TwilioProfile *p = pool_get(&profiles, index);
	bool		there = p->sim != 0;
	char		text[320];

	profile_sid(index, text);
	buf_format(out, "{\"sid\":\"%s\"", text);
	account_sid(request->server, text);
	put_text(out, "account_sid", text);
	if (there)
	{
		id_format(((TwilioSim *) pool_get(&sims, p->sim - 1))->iccid, text);
		put_text(out, "iccid", text);
		sim_sid(p->sim - 1, text);
		put_text(out, "sim_sid", text);
	}
	else
		buf_text(out, ",\"iccid\":null,\"sim_sid\":null");
	put_text(out, "status", profile_words[p->status]);
	if (p->has_eid)
		id_format(p->eid, text);
	put_text(out, "eid", p->has_eid ? text : NULL);
	put_text(out, "smdp_plus_address", there ? smdp_address(request->server) : NULL);
	matching_id(index, text);
	put_text(out, "matching_id", there && p->matching ? text : NULL);
	activation_code(index, text);
	put_text(out, "activation_code", there && p->matching ? text : NULL);
	put_text(out, "error_code", p->error_code);
	put_text(out, "error_message", p->error_message);
	put_date(out, "date_created", p->created_ms);
	put_date(out, "date_updated", p->updated_ms);
	profile_sid(index, text);
	put_url(request, "ESimProfiles", text);
	buf_char(out, '}');
}

static void
put_sim(Request *request, uint32_t index)
{
	Buf		   *out = &request->out;
	TwilioSim  *sim = pool_get(&sims, index);
	char		sid[SID_LENGTH + 1];
	char		text[64];

	sim_sid(index, sid);
	buf_format(out, "{\"sid\":\"%s\"", sid);
	put_text(out, "unique_name", sim->unique_name);
	account_sid(request->server, text);
	put_text(out, "account_sid", text);
	id_format(sim->iccid, text);
	put_text(out, "iccid", text);
	put_text(out, "status", sim_words[sim->status]);
	if (sim->fleet != 0)
		fleet_sid(sim->fleet - 1, text);
	put_text(out, "fleet_sid", sim->fleet != 0 ? text : NULL);
	put_date(out, "date_created", sim->created_ms);
	put_date(out, "date_updated", sim->updated_ms);
	put_url(request, "Sims", sid);
	buf_text(out, ",\"links\":{\"billing_periods\":\"");
	put_base(out, request);
	buf_format(out, "/Sims/%s/BillingPeriods\",\"sim_ip_addresses\":\"", sid);
	put_base(out, request);
	buf_format(out, "/Sims/%s/IpAddresses\"}}", sid);
}

static void
put_fleet(Request *request, uint32_t index)
{
	Buf		   *out = &request->out;
	TwilioFleet *fleet = pool_get(&fleets, index);
	char		sid[SID_LENGTH + 1];
	char		text[64];

	fleet_sid(index, sid);
	account_sid(request->server, text);
	buf_format(out, "{\"account_sid\":\"%s\",\"sid\":\"%s\"", text, sid);
	put_text(out, "unique_name", fleet->unique_name);
	buf_format(out, ",\"data_enabled\":%s,\"data_limit\":%u,\"data_metering\":\"payg\","
			   "\"sms_commands_enabled\":%s", fleet->data_enabled ? "true" : "false",
			   fleet->data_limit, fleet->sms_enabled ? "true" : "false");
	put_text(out, "sms_commands_url", fleet->sms_url);
	put_text(out, "sms_commands_method", fleet->sms_method ? fleet->sms_method : "POST");
	if (strlen(fleet->network_access_profile) == SID_LENGTH &&
		strncmp(fleet->network_access_profile, "HA", 2) == 0)
		snprintf(text, sizeof(text), "%s", fleet->network_access_profile);
	else
		make_sid(text, "HA", hash_bytes(fleet->network_access_profile,
										strlen(fleet->network_access_profile), simulator_seed), 0);
	put_text(out, "network_access_profile_sid", text);
	put_text(out, "ip_commands_url", fleet->ip_url);
	put_text(out, "ip_commands_method", fleet->ip_method ? fleet->ip_method : "POST");
	put_date(out, "date_created", fleet->created_ms);
	put_date(out, "date_updated", fleet->updated_ms);
	put_url(request, "Fleets", sid);
	buf_char(out, '}');
}

/* ---- callbacks ---- */

static void
form_add(Buf *out, const char *name, const char *value)
{
	const char *c;

	if (value == NULL)
		return;
	buf_format(out, "%s%s=", out->length > 0 ? "&" : "", name);
	for (c = value; *c; c++)
		if (isalnum((unsigned char) *c) || strchr("-._~", *c) != NULL)
			buf_char(out, *c);
		else
			buf_format(out, "%%%02X", (unsigned char) *c);
}

static void
call_back(const char *url, bool post, Buf *fields)
{
	if (post)
		outbound_send("POST", url, "application/x-www-form-urlencoded", NULL, fields->data);
	else
	{
		Buf			whole = {0};

		buf_format(&whole, "%s%s%s", url, strchr(url, '?') ? "&" : "?", fields->data);
		outbound_send("GET", whole.data, NULL, NULL, NULL);
		buf_free(&whole);
	}
	buf_free(fields);
}

static void
tell_profile(uint32_t index)
{
	TwilioProfile *p = pool_get(&profiles, index);
	Buf			fields = {0};
	char		text[320];

	if (p->callback == NULL)
		return;
	account_sid(server_by_index(p->server), text);
	form_add(&fields, "AccountSid", text);
	profile_sid(index, text);
	form_add(&fields, "Sid", text);
	form_add(&fields, "Status", profile_words[p->status]);
	if (p->sim != 0)
	{
		sim_sid(p->sim - 1, text);
		form_add(&fields, "SimSid", text);
		id_format(((TwilioSim *) pool_get(&sims, p->sim - 1))->iccid, text);
		form_add(&fields, "Iccid", text);
	}
	if (p->has_eid)
	{
		id_format(p->eid, text);
		form_add(&fields, "Eid", text);
	}
	form_add(&fields, "ErrorCode", p->error_code);
	form_add(&fields, "ErrorMessage", p->error_message);
	call_back(p->callback, p->post, &fields);
}

static void
tell_sim(uint32_t index)
{
	TwilioSim  *sim = pool_get(&sims, index);
	Buf			fields = {0};
	char		text[64];

	if (sim->callback == NULL)
		return;
	account_sid(server_by_index(sim->server), text);
	form_add(&fields, "AccountSid", text);
	sim_sid(index, text);
	form_add(&fields, "Sid", text);
	form_add(&fields, "Status", sim_words[sim->status]);
	id_format(sim->iccid, text);
	form_add(&fields, "Iccid", text);
	call_back(sim->callback, sim->post, &fields);
}

/* ---- what time brings ---- */

static void
after(uint32_t ms, timer_function function, uint32_t index)
{
	if (ms == 0)
		function((void *) (uintptr_t) epoch, index);
	else
		timer_add(clock_ms() + ms, function, (void *) (uintptr_t) epoch, index);
}

static uint32_t
add_sim(uint16_t server, Id iccid, uint32_t profile)
{
	uint32_t	index;
	TwilioSim  *sim = pool_add(&sims, &index);

	sim->created_ms = sim->updated_ms = wall_ms();
	sim->random = mix64(simulator_seed ^ mix64(0x5348ULL << 32 | index));
	sim->iccid = iccid;
	sim->server = server;
	sim->profile = profile;
	list_add(&accounts[server].sims, index, &sim->place);
	idtable_insert(&sims_by_iccid, iccid, index);
	return index;
}

static void fetch_by_itself(void *subject, uint32_t index);

static void
make_available(uint32_t index, bool tell)
{
	TwilioProfile *p = pool_get(&profiles, index);
	Account    *account = &accounts[p->server];
	TwilioSim  *sim;
	char		code[320];

	p->sim = 1 + add_sim(p->server, make_iccid(index), index + 1);
	sim = pool_get(&sims, p->sim - 1);
	p->status = PROFILE_AVAILABLE;
	p->updated_ms = wall_ms();

	/* other protocols' devices find it there too */
	activation_code(index, code);
	code_stock(p->matching ? code : NULL, p->has_eid, p->eid, sim->iccid);
	if (tell)
		tell_profile(index);
	if (p->has_eid && account->install_ms > 0)
		after(account->install_ms, fetch_by_itself, index);
}

static void
reserved(void *subject, uint32_t index)
{
	TwilioProfile *p;

	if ((uintptr_t) subject != epoch)
		return;
	p = pool_get(&profiles, index);
	if (!p->doomed)
	{
		make_available(index, true);
		return;
	}
	p->status = PROFILE_FAILED;
	p->updated_ms = wall_ms();
	tell_profile(index);
}

static void
reserving(void *subject, uint32_t index)
{
	TwilioProfile *p;

	if ((uintptr_t) subject != epoch)
		return;
	p = pool_get(&profiles, index);
	if (p->status == PROFILE_NEW)
		p->status = PROFILE_RESERVING;
}

static void
installed(void *subject, uint32_t index)
{
	TwilioProfile *p;

	if ((uintptr_t) subject != epoch)
		return;
	p = pool_get(&profiles, index);
	if (p->status != PROFILE_DOWNLOADED)
		return;
	p->status = PROFILE_INSTALLED;
	p->updated_ms = wall_ms();
	tell_profile(index);
}

static void
profile_failed(TwilioProfile *p, uint32_t index, const char *code, const char *message)
{
	p->status = PROFILE_FAILED;
	p->error_code = code;
	p->error_message = message;
	p->updated_ms = wall_ms();
	tell_profile(index);
}

/* The device fetches the profile and installs it.  NULL, or why not. */
static const char *
fetch(uint32_t index, Id eid)
{
	TwilioProfile *p = pool_get(&profiles, index);
	Server	   *server = server_by_index(p->server);
	Euicc	   *euicc;
	uint32_t	euicc_index;
	uint32_t	profile_index;
	Profile    *profile;

	if (p->status != PROFILE_AVAILABLE)
		return "the profile cannot be downloaded (again)";
	if (p->has_eid && !id_equal(p->eid, eid))
		return "the profile is reserved for another eUICC";
	euicc = euicc_make(eid, &euicc_index);
	if (!euicc->online)
		return "the device is offline";
	if (!p->has_eid)
	{
		p->has_eid = true;
		p->eid = eid;
	}
	if (euicc->profiles >= euicc->memory)
	{
		profile_failed(p, index, "83000", "Not enough memory on the eUICC.");
		return NULL;
	}
	p->status = PROFILE_DOWNLOADED;
	p->updated_ms = wall_ms();
	tell_profile(index);
	profile = profile_make(((TwilioSim *) pool_get(&sims, p->sim - 1))->iccid, &profile_index);
	if (profile->state == PROFILE_ABSENT)
	{
		profile_attach(profile_index, euicc_index);
		ledger_effect(EFFECT_DOWNLOADED, CAUSE_DEVICE, UINT32_MAX, euicc_index, profile_index,
					  PROFILE_ABSENT, PROFILE_DISABLED);
	}
	after(server->device_delay_ms, installed, index);
	return NULL;
}

static void
fetch_by_itself(void *subject, uint32_t index)
{
	TwilioProfile *p;

	if ((uintptr_t) subject != epoch)
		return;
	p = pool_get(&profiles, index);
	if (p->status != PROFILE_AVAILABLE)
		return;

	/* a device that is off tries again */
	if (fetch(index, p->eid) != NULL)
		after(1000 + accounts[p->server].install_ms, fetch_by_itself, index);
}

/*
 * A device asks its SM-DP+ for a profile: by the matching ID of an activation
 * code, else (code NULL, or its matching ID empty) for what is reserved for
 * its EID.  NULL: done, else why not.
 */
static const char *
device_download(Id eid, const char *code)
{
	const char *field = code != NULL ? strrchr(code, '$') : NULL;
	uint32_t	index;

	if (field != NULL && field[1] != '\0')
	{
		for (index = 0; index < profiles.count; index++)
		{
			TwilioProfile *p = pool_get(&profiles, index);
			char		own[32];

			matching_id(index, own);
			if (p->matching && strcasecmp(own, field + 1) == 0)
				return fetch(index, eid);
		}
		return "no profile has this matching ID";
	}
	if (idtable_find(&profiles_by_eid, eid, &index))
	{
		for (index++; index != 0;)
		{
			TwilioProfile *p = pool_get(&profiles, index - 1);

			if (p->status == PROFILE_AVAILABLE)
				return fetch(index - 1, eid);
			index = p->next_of_eid;
		}
	}
	return "nothing is reserved for this eUICC";
}

/* A profile has come onto an eUICC by another protocol. */
void
twilio_installed(Id eid, Id iccid)
{
	TwilioProfile *p;
	uint32_t	index;

	if (!idtable_find(&sims_by_iccid, iccid, &index))
		return;
	index = ((TwilioSim *) pool_get(&sims, index))->profile;
	if (index == 0)
		return;
	p = pool_get(&profiles, index - 1);
	if (p->status != PROFILE_AVAILABLE)
		return;
	if (!p->has_eid)
	{
		p->has_eid = true;
		p->eid = eid;
	}
	p->status = PROFILE_DOWNLOADED;
	tell_profile(index - 1);
	installed((void *) (uintptr_t) epoch, index - 1);
}

static void
scheduled(void *subject, uint32_t index)
{
	TwilioSim  *sim;

	if ((uintptr_t) subject != epoch)
		return;
	sim = pool_get(&sims, index);
	if (sim->status != SIM_SCHEDULED)
		return;
	sim->status = sim->goal;
	sim->updated_ms = wall_ms();
	tell_sim(index);
}

/* ---- lists ---- */

typedef struct Query
{
	uint32_t	size;
	bool		has_page;
	uint32_t	page;
	const char *token;
	const char *filters[4];		/* by their number in the table */
	int			unknown;
	int			repeated;
	const char *const *names;	/* of the filters, ends with NULL */
} Query;

static enum MHD_Result
take_query(void *subject, enum MHD_ValueKind kind, const char *name, const char *value)
{
	Query	   *query = subject;
	int			i;

	(void) kind;
	if (value == NULL)
		value = "";
	if (strcmp(name, "PageSize") == 0)
	{
		if (is_number(value, 1, MAX_PAGE))
			query->size = (uint32_t) strtoul(value, NULL, 10);
		else
			query->unknown++;
		return MHD_YES;
	}
	if (strcmp(name, "Page") == 0)
	{
		query->has_page = true;
		if (is_number(value, 0, UINT32_MAX))
			query->page = (uint32_t) strtoul(value, NULL, 10);
		else
			query->unknown++;
		return MHD_YES;
	}
	if (strcmp(name, "PageToken") == 0)
	{
		query->token = value;
		return MHD_YES;
	}
	for (i = 0; query->names[i] != NULL; i++)
		if (strcmp(query->names[i], name) == 0)
		{
			if (query->filters[i] != NULL)
				query->repeated++;
			query->filters[i] = value;
			return MHD_YES;
		}
	query->unknown++;
	return MHD_YES;
}

static bool
read_query(Request *request, const char *const *names, Query *query)
{
	memset(query, 0, sizeof(*query));
	query->size = USUAL_PAGE;
	query->names = names;
	MHD_get_connection_values(request->connection, MHD_GET_ARGUMENT_KIND, take_query, query);
	if (query->unknown > 0 || query->repeated > 0)
	{
		refuse(request, NULL, "A query parameter is not known or not valid.");
		return false;
	}
	/* pages are the API's own: nobody makes up their numbers */
	if (query->has_page && query->page > 0 && query->token == NULL)
	{
		refuse(request, NULL, "Page is not valid without its PageToken.");
		return false;
	}
	return true;
}

static void
encode_query(Buf *out, const Query *query)
{
	int			i;
	Buf			encoded = {0};

	for (i = 0; query->names[i] != NULL; i++)
		if (query->filters[i] != NULL)
		{
			buf_clear(&encoded);
			form_add(&encoded, query->names[i], query->filters[i]);
			buf_format(out, "%s&", encoded.data);
		}
	buf_free(&encoded);
	buf_format(out, "PageSize=%u", query->size);
}

/*
 * A page, newest first.  A PageToken names the last entry of the page before,
 * so that what is added meanwhile moves nothing.
 */
static void
show_list(Request *request, const Query *query, const char *resource, const char *key,
		  const char *sid_prefix, Pool *pool, const List *list,
		  bool (*fits) (const Query *query, uint32_t index),
		  void (*put) (Request *request, uint32_t index),
		  void (*sid) (uint32_t index, char *out))
{
	Buf		   *out = &request->out;
	uint32_t	at = list->count;
	uint32_t	low;
	uint32_t	index;
	uint32_t	last = UINT32_MAX;
	uint32_t	n = 0;
	uint32_t	size = query->size;
	uint32_t	most = accounts[request->server->index].page_size;
	bool		more = false;
	char		text[SID_LENGTH + 1];

	if (most > 0 && size > most)
		size = most;
	if (query->token != NULL)
	{
		if (strncmp(query->token, "PA", 2) != 0 ||
			!sid_index(query->token + 2, sid_prefix, pool->count, &index))
		{
			refuse(request, NULL, "PageToken is not valid.");
			return;
		}
		/* the list is in order: what is older stands before it */
		for (low = 0; low < at;)
		{
			uint32_t	middle = low + (at - low) / 2;

			if (list->items[middle] < index)
				low = middle + 1;
			else
				at = middle;
		}
	}
	request->status = 200;
	request->content_type = "application/json";
	buf_format(out, "{\"%s\":[", key);
	while (at-- > 0)
	{
		index = list->items[at];
		if (!fits(query, index))
			continue;
		if (n == size)
		{
			more = true;
			break;
		}
		if (n++ > 0)
			buf_char(out, ',');
		put(request, index);
		last = index;
	}
	buf_format(out, "],\"meta\":{\"page\":%u,\"page_size\":%u,\"first_page_url\":\"", query->page,
			   query->size);
	put_base(out, request);
	buf_format(out, "/%s?", resource);
	encode_query(out, query);
	buf_text(out, "&Page=0\",\"previous_page_url\":");
	if (query->page > 0)
	{
		buf_char(out, '"');
		put_base(out, request);
		buf_format(out, "/%s?", resource);
		encode_query(out, query);
		buf_text(out, "&Page=0\"");
	}
	else
		buf_text(out, "null");
	buf_text(out, ",\"url\":\"");
	put_base(out, request);
	buf_format(out, "/%s?", resource);
	encode_query(out, query);
	buf_format(out, "&Page=%u", query->page);
	if (query->token != NULL)
		buf_format(out, "&PageToken=%s", query->token);
	buf_text(out, "\",\"next_page_url\":");
	if (more)
	{
		sid(last, text);
		buf_char(out, '"');
		put_base(out, request);
		buf_format(out, "/%s?", resource);
		encode_query(out, query);
		buf_format(out, "&Page=%u&PageToken=PA%s\"", query->page + 1, text);
	}
	else
		buf_text(out, "null");
	buf_format(out, ",\"key\":\"%s\"}}", key);
}

static const char *const profile_filters[] = {"Eid", "SimSid", "Status", NULL};

static bool
profile_fits(const Query *query, uint32_t index)
{
	TwilioProfile *p = pool_get(&profiles, index);
	char		text[SID_LENGTH + 1];

	if (query->filters[0] != NULL)
	{
		id_format(p->eid, text);
		if (!p->has_eid || strcmp(text, query->filters[0]) != 0)
			return false;
	}
	if (query->filters[1] != NULL)
	{
		if (p->sim == 0)
			return false;
		sim_sid(p->sim - 1, text);
		if (strcmp(text, query->filters[1]) != 0)
			return false;
	}
	return query->filters[2] == NULL || strcmp(query->filters[2], profile_words[p->status]) == 0;
}

static bool
is_word(const char *text, const char *const *words, int n)
{
	int			i;

	for (i = 0; i < n; i++)
		if (strcmp(words[i], text) == 0)
			return true;
	return false;
}

/* A list that a filter leaves few of, without a walk over all of them. */
static void
few(List *list, uint32_t index)
{
	uint32_t	place;

	list_add(list, index, &place);
}

static int
by_age(const void *a, const void *b)
{
	uint32_t	x = *(const uint32_t *) a;
	uint32_t	y = *(const uint32_t *) b;

	return x < y ? -1 : x > y;
}

static void
list_profiles(Request *request)
{
	Account    *account = &accounts[request->server->index];
	List		some = {0};
	const List *list = &account->profiles;
	Query		query;
	uint32_t	index;
	Id			eid;

	if (!read_query(request, profile_filters, &query))
		return;
	if (query.filters[2] != NULL && !is_word(query.filters[2], profile_words, PROFILE_STATUSES))
	{
		refuse(request, NULL, "Status is not valid.");
		return;
	}
	if (request->answered_plainly)
		account->last_ask = ledger_tick();
	if (query.filters[0] != NULL)
	{
		list = &some;
		if (id_parse(query.filters[0], strlen(query.filters[0]), 32, 32, &eid) &&
			idtable_find(&profiles_by_eid, eid, &index))
			for (index++; index != 0;)
			{
				TwilioProfile *p = pool_get(&profiles, index - 1);

				if (p->server == request->server->index)
					few(&some, index - 1);
				index = p->next_of_eid;
			}
		if (some.count > 1)
			qsort(some.items, some.count, sizeof(uint32_t), by_age);
	}
	else if (query.filters[1] != NULL)
	{
		list = &some;
		if (find_sim(request->server, query.filters[1], &index) != NULL &&
			((TwilioSim *) pool_get(&sims, index))->profile != 0)
			few(&some, ((TwilioSim *) pool_get(&sims, index))->profile - 1);
	}
	show_list(request, &query, "ESimProfiles", "esim_profiles", "HP", &profiles, list,
			  profile_fits, put_profile, profile_sid);
	free(some.items);
}

static const char *const sim_filters[] = {"Status", "Fleet", "Iccid", NULL};

static bool
sim_fits(const Query *query, uint32_t index)
{
	TwilioSim  *sim = pool_get(&sims, index);
	char		text[SID_LENGTH + 1];
	uint32_t	fleet;

	if (query->filters[0] != NULL && strcmp(query->filters[0], sim_words[sim->status]) != 0)
		return false;
	if (query->filters[1] != NULL &&
		(find_fleet(server_by_index(sim->server), query->filters[1], &fleet) == NULL ||
		 sim->fleet != fleet + 1))
		return false;
	if (query->filters[2] != NULL)
	{
		id_format(sim->iccid, text);
		return strcmp(text, query->filters[2]) == 0;
	}
	return true;
}

static void
list_sims(Request *request)
{
	List		some = {0};
	const List *list = &accounts[request->server->index].sims;
	Query		query;
	uint32_t	index;
	Id			iccid;

	if (!read_query(request, sim_filters, &query))
		return;
	if (query.filters[0] != NULL && !is_word(query.filters[0], sim_words, SIM_STATUSES))
	{
		refuse(request, NULL, "Status is not valid.");
		return;
	}
	if (query.filters[2] != NULL)
	{
		list = &some;
		if (id_parse(query.filters[2], strlen(query.filters[2]), 18, 20, &iccid) &&
			idtable_find(&sims_by_iccid, iccid, &index) &&
			((TwilioSim *) pool_get(&sims, index))->server == request->server->index)
		{
			few(&some, index);
			if (request->answered_plainly)
				((TwilioSim *) pool_get(&sims, index))->last_ask = ledger_tick();
		}
	}
	show_list(request, &query, "Sims", "sims", "HS", &sims, list, sim_fits, put_sim, sim_sid);
	free(some.items);
}

static const char *const fleet_filters[] = {"NetworkAccessProfile", NULL};

static bool
fleet_fits(const Query *query, uint32_t index)
{
	TwilioFleet *fleet = pool_get(&fleets, index);

	return query->filters[0] == NULL ||
		strcmp(query->filters[0], fleet->network_access_profile) == 0;
}

static void
list_fleets(Request *request)
{
	Query		query;

	if (read_query(request, fleet_filters, &query))
		show_list(request, &query, "Fleets", "fleets", "HF", &fleets,
				  &accounts[request->server->index].fleets, fleet_fits, put_fleet, fleet_sid);
}

/* ---- requests that act ---- */

static Id
text_key(const char *text, uint16_t server)
{
	Id			key;

	key.high = hash_bytes(text, strlen(text), server);
	key.low = hash_bytes(text, strlen(text), ~(uint64_t) server);
	return key;
}

static uint32_t
add_profile(Server *server, bool has_eid, Id eid)
{
	uint32_t	index;
	uint32_t	before;
	TwilioProfile *p = pool_add(&profiles, &index);

	p->created_ms = p->updated_ms = wall_ms();
	p->random = mix64(simulator_seed ^ mix64(0x4850ULL << 32 | index));
	p->server = server->index;
	p->has_eid = has_eid;
	p->eid = eid;
	p->matching = !has_eid;
	list_add(&accounts[server->index].profiles, index, &p->place);
	if (has_eid)
	{
		if (idtable_find(&profiles_by_eid, eid, &before))
		{
			/* the table keeps the first; newer ones come right behind it */
			TwilioProfile *first = pool_get(&profiles, before);

			p->next_of_eid = first->next_of_eid;
			first->next_of_eid = index + 1;
		}
		else
			idtable_insert(&profiles_by_eid, eid, index);
	}
	return index;
}

/*
 * Is this creation a repeat?  One that gives a CallbackUrl that was given
 * before (callers put their own reference there); without one, for an EID
 * whose last profile has not been fetched yet.
 */
static bool
is_repeat(Request *request, const char *callback, bool has_eid, Id eid, uint32_t *earlier)
{
	uint32_t	index;

	if (callback != NULL && strchr(callback, '?') != NULL)
		return idtable_find(&by_callback, text_key(callback, request->server->index), earlier);
	if (!has_eid || !idtable_find(&profiles_by_eid, eid, &index))
		return false;
	for (index++; index != 0;)
	{
		TwilioProfile *p = pool_get(&profiles, index - 1);

		if (p->server == request->server->index && p->status <= PROFILE_AVAILABLE)
		{
			*earlier = index - 1;
			return true;
		}
		index = p->next_of_eid;
	}
	return false;
}

static void
reserve(Request *request, const Form *form)
{
	Server	   *server = request->server;
	Account    *account = &accounts[server->index];
	const char *eid_text = form_get(form, "Eid");
	const char *generate = form_get(form, "GenerateMatchingId");
	const char *callback = form_get(form, "CallbackUrl");
	const char *method = form_get(form, "CallbackMethod");
	bool		matching = generate != NULL && strcmp(generate, "true") == 0;
	TwilioProfile *p;
	uint32_t	index;
	uint32_t	earlier;
	bool		repeat;
	bool		twice = false;
	uint32_t	ms = account->reserve_ms + request->device_delay_ms;
	char		sid[SID_LENGTH + 1];
	Id			eid = {0, 0};
	Id			key;

	if ((eid_text != NULL) == matching)
	{
		refuse(request, NULL, matching ? "Eid and GenerateMatchingId cannot be used together." :
			   "Eid or GenerateMatchingId is required.");
		return;
	}
	if (eid_text != NULL)
		id_parse(eid_text, strlen(eid_text), 32, 32, &eid);
	repeat = is_repeat(request, callback, eid_text != NULL, eid, &earlier);
	if (repeat)
	{
		p = pool_get(&profiles, earlier);
		profile_sid(earlier, sid);
		deed_repeat("reserved", request, sid, account->last_ask > p->tick);
		p->tick = ledger_tick();
		/* one that has failed may be followed by another */
		twice = p->status != PROFILE_FAILED;
	}
	index = add_profile(server, eid_text != NULL, eid);
	p = pool_get(&profiles, index);
	p->callback = callback != NULL ? xstrdup(callback) : NULL;
	p->post = method == NULL || strcmp(method, "POST") == 0;
	p->tick = ledger_tick();
	if (callback != NULL && strchr(callback, '?') != NULL)
	{
		key = text_key(callback, server->index);
		if (!idtable_find(&by_callback, key, &earlier))
			idtable_insert(&by_callback, key, index);
	}
	profile_sid(index, sid);
	deed_effect("reserved", request, server, sid, NULL, eid_text ? "eid" : "matching-id", twice);
	if (request->device_fault == DEVICE_FAULT_FAIL)
	{
		p->doomed = true;
		p->error_code = "83000";
		p->error_message = request->device_reason;
	}

	/* the answer says new, whatever comes at once */
	request->status = 201;
	request->content_type = "application/json";
	put_profile(request, index);
	if (request->device_fault != DEVICE_FAULT_LOST)
	{
		after(ms / 2, reserving, index);
		after(ms, reserved, index);
	}
	else
		p->status = PROFILE_RESERVING;
}

static bool
may_change(SimStatus from, SimStatus to)
{
	switch (to)
	{
		case SIM_READY:
			return from == SIM_NEW || from == SIM_READY;
		case SIM_ACTIVE:
			return from != SIM_SCHEDULED;
		case SIM_INACTIVE:
			return from == SIM_ACTIVE || from == SIM_INACTIVE || from == SIM_READY;
		default:
			return false;
	}
}

static void
change_sim(Request *request, const Form *form, uint32_t index)
{
	Server	   *server = request->server;
	TwilioSim  *sim = pool_get(&sims, index);
	const char *status = form_get(form, "Status");
	const char *fleet_name = form_get(form, "Fleet");
	const char *name = form_get(form, "UniqueName");
	const char *account = form_get(form, "AccountSid");
	const char *callback = form_get(form, "CallbackUrl");
	const char *method = form_get(form, "CallbackMethod");
	SimStatus	goal = SIM_NEW;
	uint32_t	fleet = sim->fleet;
	uint32_t	other;
	uint64_t	hash;
	uint32_t	ms = accounts[server->index].schedule_ms + request->device_delay_ms;
	char		sid[SID_LENGTH + 1];
	char		own[SID_LENGTH + 1];
	char		key[900];

	sim_sid(index, sid);
	/* callers put their reference into the query of CallbackUrl */
	snprintf(key, sizeof(key), "%s/%.200s/%.200s/%.300s", status ? status : "", fleet_name ? fleet_name : "",
			 name ? name : "", callback && strchr(callback, '?') ? callback : "");
	hash = hash_bytes(key, strlen(key), 1);
	if (sim->last_update != 0 && sim->last_form == hash)
	{
		deed_repeat("subscription", request, sid, sim->last_ask > sim->last_update);
		sim->last_update = ledger_tick();
	}

	if (account != NULL)
	{
		account_sid(server, own);
		if (strcmp(account, own) != 0 || sim->status != SIM_NEW)
		{
			refuse(request, NULL, "AccountSid is not valid.");
			return;
		}
	}
	if (fleet_name != NULL)
	{
		if (find_fleet(server, fleet_name, &fleet) == NULL)
		{
			refuse(request, "83006", "Super SIM's Target Fleet not found.");
			return;
		}
		fleet++;
	}
	if (name != NULL && find_sim(server, name, &other) != NULL && other != index)
	{
		refuse(request, "83011", "A Super SIM with the specified Unique Name exists already.");
		return;
	}
	if (sim->status == SIM_SCHEDULED && (status != NULL || fleet_name != NULL))
	{
		refuse(request, "83010", "Unable to update your Super SIM to the desired status.");
		return;
	}
	if (status != NULL)
	{
		while (strcmp(sim_words[goal], status) != 0)
			goal++;
		if (!may_change(sim->status, goal))
		{
			refuse(request, "83010", "Unable to update your Super SIM to the desired status.");
			return;
		}
		if (fleet == 0 && goal != SIM_INACTIVE)
		{
			refuse(request, "83007",
				   "Unable to activate your Super SIM as it does not belong to a Fleet.");
			return;
		}
	}

	sim->last_form = hash;
	sim->last_update = ledger_tick();
	sim->updated_ms = wall_ms();
	if (name != NULL)
		sim->unique_name = intern(name);
	if (callback != NULL)
	{
		free(sim->callback);
		sim->callback = xstrdup(callback);
		sim->post = method == NULL || strcmp(method, "POST") == 0;
	}
	if (fleet != sim->fleet)
	{
		deed_effect("fleet-assigned", request, server, sid, NULL, NULL, false);
		sim->fleet = fleet;
	}
	if (status != NULL && goal == sim->status)
		ledger_already_so();
	else if (status != NULL)
	{
		deed_effect("subscription", request, server, sid, sim_words[sim->status],
					sim_words[goal], false);
		sim->goal = request->device_fault == DEVICE_FAULT_FAIL ? sim->status : goal;
		sim->status = SIM_SCHEDULED;
	}
	request->status = status != NULL ? 202 : 200;
	request->content_type = "application/json";
	put_sim(request, index);
	if (sim->status == SIM_SCHEDULED && request->device_fault != DEVICE_FAULT_LOST)
		after(ms, scheduled, index);
	else if (status == NULL)
		tell_sim(index);
}

static void
register_sim(Request *request, const Form *form)
{
	const char *iccid_text = form_get(form, "Iccid");
	const char *code = form_get(form, "RegistrationCode");
	uint32_t	index;
	char		sid[SID_LENGTH + 1];
	Id			iccid;

	if (iccid_text == NULL || code == NULL)
	{
		refuse(request, "83001", "Parameter missing while registering a Super SIM.");
		return;
	}
	if (!id_parse(iccid_text, strlen(iccid_text), 18, 20, &iccid) || strlen(code) != 10 ||
		!idtable_find(&registrable_by_iccid, iccid, &index))
	{
		if (id_parse(iccid_text, strlen(iccid_text), 18, 20, &iccid) &&
			idtable_find(&sims_by_iccid, iccid, &index) &&
			((TwilioSim *) pool_get(&sims, index))->server == request->server->index)
			refuse(request, "83003", "The Super SIM already belongs to the requesting Account.");
		else
			refuse(request, "83002", "Super SIM cannot be registered.");
		return;
	}
	if (idtable_find(&sims_by_iccid, iccid, &index))
	{
		if (((TwilioSim *) pool_get(&sims, index))->server == request->server->index)
			refuse(request, "83003", "The Super SIM already belongs to the requesting Account.");
		else
			refuse(request, "83002", "Super SIM cannot be registered.");
		return;
	}
	index = add_sim(request->server->index, iccid, 0);
	sim_sid(index, sid);
	deed_effect("sim-registered", request, request->server, sid, NULL, NULL, false);
	request->status = 201;
	request->content_type = "application/json";
	put_sim(request, index);
}

static const char *
kept(const char *text)
{
	return text != NULL ? intern(text) : NULL;
}

static void
set_fleet(TwilioFleet *fleet, const Form *form)
{
	const char *text;

	if ((text = form_get(form, "UniqueName")) != NULL)
		fleet->unique_name = intern(text);
	if ((text = form_get(form, "NetworkAccessProfile")) != NULL)
		fleet->network_access_profile = intern(text);
	if ((text = form_get(form, "DataEnabled")) != NULL)
		fleet->data_enabled = strcmp(text, "true") == 0;
	if ((text = form_get(form, "SmsCommandsEnabled")) != NULL)
		fleet->sms_enabled = strcmp(text, "true") == 0;
	if ((text = form_get(form, "DataLimit")) != NULL)
		fleet->data_limit = (uint32_t) strtoul(text, NULL, 10);
	if ((text = form_get(form, "SmsCommandsUrl")) != NULL)
		fleet->sms_url = kept(text);
	if ((text = form_get(form, "SmsCommandsMethod")) != NULL)
		fleet->sms_method = kept(text);
	if ((text = form_get(form, "IpCommandsUrl")) != NULL)
		fleet->ip_url = kept(text);
	if ((text = form_get(form, "IpCommandsMethod")) != NULL)
		fleet->ip_method = kept(text);
	fleet->updated_ms = wall_ms();
}

static uint32_t
add_fleet(Server *server)
{
	uint32_t	index;
	TwilioFleet *fleet = pool_add(&fleets, &index);

	fleet->created_ms = fleet->updated_ms = wall_ms();
	fleet->random = mix64(simulator_seed ^ mix64(0x4846ULL << 32 | index));
	fleet->server = server->index;
	fleet->data_enabled = fleet->sms_enabled = true;
	fleet->data_limit = 1000;
	fleet->network_access_profile = "default";
	list_add(&accounts[server->index].fleets, index, &fleet->place);
	return index;
}

static void
make_fleet(Request *request, const Form *form)
{
	const char *name = form_get(form, "UniqueName");
	uint32_t	index;
	char		sid[SID_LENGTH + 1];

	if (form_get(form, "NetworkAccessProfile") == NULL)
	{
		refuse(request, NULL, "NetworkAccessProfile is required.");
		return;
	}
	if (name != NULL && find_fleet(request->server, name, &index) != NULL)
	{
		fleet_sid(index, sid);
		deed_repeat("fleet-created", request, sid, true);
		twilio_error(request, 409, NULL, "A Fleet with this UniqueName exists already.");
		return;
	}
	index = add_fleet(request->server);
	set_fleet(pool_get(&fleets, index), form);
	fleet_sid(index, sid);
	deed_effect("fleet-created", request, request->server, sid, NULL, NULL, false);
	request->status = 201;
	request->content_type = "application/json";
	put_fleet(request, index);
}

static void
change_fleet(Request *request, const Form *form, uint32_t index)
{
	const char *name = form_get(form, "UniqueName");
	uint32_t	other;
	char		sid[SID_LENGTH + 1];

	if (name != NULL && find_fleet(request->server, name, &other) != NULL && other != index)
	{
		twilio_error(request, 409, NULL, "A Fleet with this UniqueName exists already.");
		return;
	}
	set_fleet(pool_get(&fleets, index), form);
	fleet_sid(index, sid);
	deed_effect("fleet-changed", request, request->server, sid, NULL, NULL, false);
	request->status = 200;
	request->content_type = "application/json";
	put_fleet(request, index);
}

/* ---- the protocol ---- */

static const struct
{
	const char *resource;
	const char *get;
	const char *post;
}			endpoints[] = {
	[ENDPOINT_PROFILES] = {"/ESimProfiles", "GET ESimProfiles", "POST ESimProfiles"},
	[ENDPOINT_PROFILE] = {"/ESimProfiles/", "GET ESimProfile", NULL},
	[ENDPOINT_SIMS] = {"/Sims", "GET Sims", "POST Sims"},
	[ENDPOINT_SIM] = {"/Sims/", "GET Sim", "POST Sim"},
	[ENDPOINT_FLEETS] = {"/Fleets", "GET Fleets", "POST Fleets"},
	[ENDPOINT_FLEET] = {"/Fleets/", "GET Fleet", "POST Fleet"},
};

/* What a path ends in, behind its resource. */
static const char *
tail(const Request *request)
{
	return request->path + strlen(endpoints[request->endpoint].resource);
}

void
twilio_identify(Request *request)
{
	const char *text;
	uint32_t	index;
	int			endpoint;

	for (endpoint = 0; endpoint < ENDPOINT_NONE; endpoint++)
	{
		const char *resource = endpoints[endpoint].resource;
		size_t		length = strlen(resource);

		if (endpoint % 2 == 0 ? strcmp(request->path, resource) == 0 :
			strncmp(request->path, resource, length) == 0 && request->path[length] != '\0' &&
			strchr(request->path + length, '/') == NULL)
			break;
	}
	request->endpoint = endpoint;
	request->label = "unknown path";
	if (endpoint == ENDPOINT_NONE)
		return;
	request->label = strcmp(request->method, "GET") == 0 ? endpoints[endpoint].get :
		strcmp(request->method, "POST") == 0 && endpoints[endpoint].post != NULL ?
		endpoints[endpoint].post : "other method";

	if ((text = http_query(request, "Eid")) != NULL)
		request->has_eid = id_parse(text, strlen(text), 32, 32, &request->eid);
	if ((text = http_query(request, "Iccid")) != NULL)
		request->has_iccid = id_parse(text, strlen(text), 18, 20, &request->iccid);
	if (endpoint == ENDPOINT_PROFILE && find_profile(request->server, tail(request), &index) != NULL)
	{
		TwilioProfile *p = pool_get(&profiles, index);

		request->has_eid = p->has_eid;
		request->eid = p->eid;
		if (p->sim != 0)
		{
			request->has_iccid = true;
			request->iccid = ((TwilioSim *) pool_get(&sims, p->sim - 1))->iccid;
		}
	}
	else if (endpoint == ENDPOINT_SIM && find_sim(request->server, tail(request), &index) != NULL)
	{
		request->has_iccid = true;
		request->iccid = ((TwilioSim *) pool_get(&sims, index))->iccid;
	}
	else if (endpoint == ENDPOINT_PROFILES && request->body.length > 0)
	{
		Form		form;

		if (form_parse(&form, request->body.data, request->body.length) &&
			(text = form_get(&form, "Eid")) != NULL)
			request->has_eid = id_parse(text, strlen(text), 32, 32, &request->eid);
		form_free(&form);
	}
}

static void
get(Request *request)
{
	uint32_t	index;

	switch (request->endpoint)
	{
		case ENDPOINT_PROFILES:
			list_profiles(request);
			return;
		case ENDPOINT_SIMS:
			list_sims(request);
			return;
		case ENDPOINT_FLEETS:
			list_fleets(request);
			return;
		case ENDPOINT_PROFILE:
			if (find_profile(request->server, tail(request), &index) == NULL)
				break;
			put_profile(request, index);
			request->status = 200;
			break;
		case ENDPOINT_SIM:
			if (find_sim(request->server, tail(request), &index) == NULL)
				break;
			if (request->answered_plainly)
				((TwilioSim *) pool_get(&sims, index))->last_ask = ledger_tick();
			put_sim(request, index);
			request->status = 200;
			break;
		case ENDPOINT_FLEET:
			if (find_fleet(request->server, tail(request), &index) == NULL)
				break;
			put_fleet(request, index);
			request->status = 200;
			break;
		default:
			break;
	}
	request->content_type = "application/json";
	if (request->status != 200)
		twilio_error(request, 404, NULL, "The requested resource was not found.");
}

static void
post(Request *request)
{
	static const Parameter *const parameters[] = {
		create_profile, NULL, create_sim, update_sim, create_fleet, update_fleet
	};
	const char *type = http_header(request, "Content-Type");
	uint32_t	index = 0;
	Form		form;

	if ((request->endpoint == ENDPOINT_SIM &&
		 find_sim(request->server, tail(request), &index) == NULL) ||
		(request->endpoint == ENDPOINT_FLEET &&
		 find_fleet(request->server, tail(request), &index) == NULL))
	{
		twilio_error(request, 404, NULL, "The requested resource was not found.");
		return;
	}
	if (type == NULL || strncasecmp(type, "application/x-www-form-urlencoded", 33) != 0 ||
		(type[33] != '\0' && type[33] != ';' && type[33] != ' '))
	{
		twilio_error(request, 415, NULL, "The body must be a form.");
		return;
	}
	if (request->too_large ||
		!form_parse(&form, request->body.data, request->body.length))
	{
		refuse(request, NULL, "The body is no form.");
		if (!request->too_large)
			form_free(&form);
		return;
	}
	if (form_valid(request, &form, parameters[request->endpoint]))
	{
		switch (request->endpoint)
		{
			case ENDPOINT_PROFILES:
				reserve(request, &form);
				break;
			case ENDPOINT_SIMS:
				register_sim(request, &form);
				break;
			case ENDPOINT_SIM:
				change_sim(request, &form, index);
				break;
			case ENDPOINT_FLEETS:
				make_fleet(request, &form);
				break;
			case ENDPOINT_FLEET:
				change_fleet(request, &form, index);
				break;
			default:
				break;
		}
	}
	form_free(&form);
}

/* ---- lies ---- */

/* Members of "members" replace those of each resource of the answer. */
static void
change_resources(json_t *answer, json_t *members)
{
	const char *key;
	json_t	   *list;
	json_t	   *item;
	size_t		i;

	if (json_object_get(answer, "sid") != NULL)
		json_object_update(answer, members);
	json_object_foreach(answer, key, list)
		json_array_foreach(list, i, item)
			json_object_update(item, members);
}

/* So many informational answers before the answer itself; not over TLS. */
static void
send_hints(const Request *request, json_int_t n)
{
	static const char hint[] = "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n";

	for (; n > 0; n--)
		if (send(request->socket, hint, sizeof(hint) - 1, MSG_NOSIGNAL) != sizeof(hint) - 1)
			return;
}

static void
tell_lie(Request *request, json_t *rule)
{
	Buf		   *out = &request->out;
	json_t	   *answer = json_loadb(out->data ? out->data : "", out->length, 0, NULL);
	json_t	   *value;
	char	   *text = NULL;

	if ((value = json_object_get(rule, "resource")) != NULL)
		change_resources(answer, value);
	if ((value = json_object_get(rule, "answer")) != NULL)
		json_object_update(answer, value);
	if (json_is_object(json_object_get(rule, "meta")))
		json_object_update(json_object_get(answer, "meta"), json_object_get(rule, "meta"));
	if (answer != NULL)
		text = json_dumps(answer, JSON_COMPACT);
	if ((value = json_object_get(rule, "body")) != NULL)
	{
		free(text);
		text = json_is_string(value) ? strdup(json_string_value(value)) : json_dumps(value, JSON_ENCODE_ANY);
	}
	if (text != NULL)
	{
		buf_clear(out);
		buf_text(out, text);
	}
	free(text);
	json_decref(answer);
	if ((value = json_object_get(rule, "status")) != NULL)
		request->status = (int) json_integer_value(value);
	if ((value = json_object_get(rule, "content_type")) != NULL)
		request->content_type = intern(json_string_value(value));
	send_hints(request, json_integer_value(json_object_get(rule, "hints")));
}

/* The first lie that fits the request, each so often as it says. */
static void
lie(Request *request)
{
	Account    *account = &accounts[request->server->index];
	json_t	   *rule;
	size_t		i;

	json_array_foreach(account->lies, i, rule)
	{
		const char *method = json_string_value(json_object_get(rule, "method"));
		const char *path = json_string_value(json_object_get(rule, "path"));
		json_t	   *count = json_object_get(rule, "count");
		json_int_t	after = json_integer_value(json_object_get(rule, "after"));
		json_int_t	most = count != NULL ? json_integer_value(count) : 1;
		json_int_t	seen = json_integer_value(json_object_get(rule, "seen"));

		if ((method != NULL && strcmp(method, request->method) != 0) ||
			(path != NULL && strstr(request->url, path) == NULL))
			continue;
		json_object_set_new(rule, "seen", json_integer(seen + 1));
		if (seen < after || (most > 0 && seen >= after + most))
			continue;
		tell_lie(request, rule);
		return;
	}
}

void
twilio_handle(Request *request)
{
	if (request->endpoint == ENDPOINT_NONE)
		twilio_error(request, 404, NULL, "The requested resource was not found.");
	else if (!token_check(request, 0))
		return;
	else if (strcmp(request->method, "GET") == 0)
		get(request);
	else if (strcmp(request->method, "POST") == 0 && endpoints[request->endpoint].post != NULL)
		post(request);
	else
		twilio_error(request, 405, NULL, "Method not allowed.");
	lie(request);
}

/* ---- the control API ---- */

/*
 * Sets up an account: {"server", "fleets": [name], "sims": [{"iccid",
 * "status", "fleet"}], "registrable": [iccid], "profiles": n (by matching ID,
 * available)}.
 */
static bool
set_account(json_t *item, char *error, size_t size)
{
	json_t	   *name = json_object_get(item, "server");
	json_t	   *value;
	json_t	   *entry;
	Server	   *server = json_is_string(name) ?
		server_get(json_string_value(name), json_string_length(name)) : NULL;
	uint32_t	index;
	json_int_t	n;
	size_t		i;
	Id			id = {0, 0};

	if (server == NULL)
	{
		snprintf(error, size, "an account has the name of its server");
		return false;
	}
	json_array_foreach(json_object_get(item, "fleets"), i, value)
	{
		if (json_is_string(value) && find_fleet(server, json_string_value(value), &index) == NULL)
		{
			index = add_fleet(server);
			((TwilioFleet *) pool_get(&fleets, index))->unique_name =
				intern(json_string_value(value));
		}
	}
	json_array_foreach(json_object_get(item, "registrable"), i, value)
	{
		if (!json_is_string(value) ||
			!id_parse(json_string_value(value), json_string_length(value), 18, 20, &id))
		{
			snprintf(error, size, "registrable has ICCIDs");
			return false;
		}
		if (!idtable_find(&registrable_by_iccid, id, &index))
		{
			*(Id *) pool_add(&registrable, &index) = id;
			idtable_insert(&registrable_by_iccid, id, index);
		}
	}
	json_array_foreach(json_object_get(item, "sims"), i, entry)
	{
		const char *status = json_string_value(json_object_get(entry, "status"));
		const char *fleet = json_string_value(json_object_get(entry, "fleet"));
		TwilioSim  *sim;
		uint32_t	fleet_index;

		value = json_object_get(entry, "iccid");
		if (!json_is_string(value) ||
			!id_parse(json_string_value(value), json_string_length(value), 18, 20, &id) ||
			(status != NULL && !is_word(status, sim_words, SIM_STATUSES)) ||
			(fleet != NULL && find_fleet(server, fleet, &fleet_index) == NULL))
		{
			snprintf(error, size, "a Sim has iccid, and perhaps status and fleet");
			return false;
		}
		if (!idtable_find(&sims_by_iccid, id, &index))
			index = add_sim(server->index, id, 0);
		sim = pool_get(&sims, index);
		for (sim->status = 0; status != NULL && strcmp(sim_words[sim->status], status) != 0;)
			sim->status++;
		sim->fleet = fleet != NULL ? fleet_index + 1 : 0;
	}
	n = json_integer_value(json_object_get(item, "profiles"));
	if (n < 0 || n > MAX_POPULATION)
	{
		snprintf(error, size, "profiles is a number");
		return false;
	}
	for (; n > 0; n--)
	{
		static const Id none = {0, 0};

		make_available(add_profile(server, false, none), false);
	}
	return true;
}

/* A device downloads: {"eid", "code"}. */
static bool
apply_download(json_t *item, char *error, size_t size)
{
	json_t	   *eid_text = json_object_get(item, "eid");
	json_t	   *code = json_object_get(item, "code");
	const char *problem = "a download has eid and perhaps code";
	Id			eid;

	if (json_is_string(eid_text) && (code == NULL || json_is_string(code)) &&
		id_parse(json_string_value(eid_text), json_string_length(eid_text), 32, 32, &eid))
		problem = device_download(eid, json_string_value(code));
	if (problem != NULL)
		snprintf(error, size, "%s", problem);
	return problem == NULL;
}

/* POST /control/supersim/account and download. */
void
twilio_control(Request *request, const char *path)
{
	json_t	   *body = json_loadb(request->body.data ? request->body.data : "",
								  request->body.length, JSON_REJECT_DUPLICATES, NULL);
	char		error[256] = "unknown path, or no JSON";
	bool		good = false;

	if (body != NULL && strcmp(request->method, "POST") == 0 && strcmp(path, "account") == 0)
		good = config_each(body, set_account, error, sizeof(error));
	else if (body != NULL && strcmp(request->method, "POST") == 0 && strcmp(path, "download") == 0)
		good = config_each(body, apply_download, error, sizeof(error));
	json_decref(body);
	if (good)
	{
		request->status = 200;
		buf_text(&request->out, "{\"ok\":true}");
	}
	else
		error_info(request, 400, "INVALID_ARGUMENT", error);
}

/*
 * The server's setting "supersim": {"reserve_ms", "schedule_ms", "install_ms",
 * "page_size", "smdp_address", "lies": [{"method", "path", "after", "count", and what the
 * answer is changed to: "resource", "answer", "meta", "body", "status",
 * "content_type", "hints"}]}.
 */
bool
twilio_configure(Server *server, json_t *config, char *error, size_t size)
{
	Account    *account = &accounts[server->index];
	const char *key;
	json_t	   *value;

	json_object_foreach(config, key, value)
	{
		json_int_t	number = json_integer_value(value);
		bool		good = json_is_integer(value) && number >= 0 && number <= INT32_MAX;

		if (strcmp(key, "reserve_ms") == 0 && good)
			account->reserve_ms = (uint32_t) number;
		else if (strcmp(key, "schedule_ms") == 0 && good)
			account->schedule_ms = (uint32_t) number;
		else if (strcmp(key, "install_ms") == 0 && good)
			account->install_ms = (uint32_t) number;
		else if (strcmp(key, "page_size") == 0 && good && number <= MAX_PAGE)
			account->page_size = (uint32_t) number;
		else if (strcmp(key, "smdp_address") == 0 && json_is_string(value) &&
				 json_string_length(value) < sizeof(account->smdp_address))
			strcpy(account->smdp_address, json_string_value(value));
		else if (strcmp(key, "lies") == 0 && json_is_array(value))
		{
			json_decref(account->lies);
			account->lies = json_deep_copy(value);
		}
		else
		{
			snprintf(error, size, "supersim.%.64s is unknown or has a wrong value", key);
			return false;
		}
	}
	return true;
}

void
twilio_reset(void)
{
	uint32_t	i;

	for (i = 0; i < profiles.count; i++)
		free(((TwilioProfile *) pool_get(&profiles, i))->callback);
	for (i = 0; i < sims.count; i++)
		free(((TwilioSim *) pool_get(&sims, i))->callback);
	for (i = 0; i < MAX_SERVERS; i++)
	{
		free(accounts[i].profiles.items);
		free(accounts[i].sims.items);
		free(accounts[i].fleets.items);
		json_decref(accounts[i].lies);
	}
	memset(accounts, 0, sizeof(accounts));
	pool_reset(&profiles);
	pool_reset(&sims);
	pool_reset(&fleets);
	pool_reset(&registrable);
	idtable_reset(&sims_by_iccid);
	idtable_reset(&profiles_by_eid);
	idtable_reset(&by_callback);
	idtable_reset(&registrable_by_iccid);
	epoch++;
}
