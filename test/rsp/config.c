/*
 * config.c
 *		The configuration document, of --config and of POST /control/config,
 *		and the setting up of eUICCs and stock.
 */
#include <inttypes.h>
#include <string.h>

#include "rspsim.h"

#define MAX_POPULATION	20000000

/* Applies "apply" to a value, or to each item if it is an array. */
bool
config_each(json_t *value, bool (*apply) (json_t *, char *, size_t), char *error, size_t size)
{
	size_t		i;
	json_t	   *item;

	if (!json_is_array(value))
		return apply(value, error, size);
	json_array_foreach(value, i, item)
		if (!apply(item, error, size))
			return false;
	return true;
}

static bool
wrong_key(const char *key, char *error, size_t size)
{
	snprintf(error, size, "\"%.64s\" is unknown or has a wrong value", key);
	return false;
}

static bool
get_id(json_t *value, size_t least, size_t most, Id *id)
{
	return json_is_string(value) &&
		id_parse(json_string_value(value), json_string_length(value), least, most, id);
}

/* Puts a profile on an eUICC, as if it had always been there. */
static bool
set_profile(json_t *item, uint32_t euicc, char *error, size_t size)
{
	const char *state = "DISABLED";
	bool		fallback = false;
	int			port = 0;
	Profile    *profile;
	uint32_t	index;
	const char *key;
	json_t	   *value;
	Id			iccid;

	if (!get_id(json_object_get(item, "iccid"), 18, 20, &iccid))
		return wrong_key("profiles.iccid", error, size);
	json_object_foreach(item, key, value)
	{
		if (strcmp(key, "state") == 0 && json_is_string(value))
			state = json_string_value(value);
		else if (strcmp(key, "fallback") == 0 && json_is_boolean(value))
			fallback = json_is_true(value);
		else if (strcmp(key, "port") == 0 && json_is_integer(value) &&
				 json_integer_value(value) >= 0 && json_integer_value(value) < 256)
			port = (int) json_integer_value(value);
		else if (strcmp(key, "iccid") != 0)
			return wrong_key(key, error, size);
	}
	if (strcmp(state, "DISABLED") != 0 && strcmp(state, "ENABLED") != 0)
		return wrong_key("profiles.state", error, size);
	profile = profile_make(iccid, &index);
	if (profile->state != PROFILE_ABSENT)
		profile_detach(index);
	profile_attach(index, euicc);
	if (strcmp(state, "ENABLED") == 0)
	{
		uint32_t	other;

		if (euicc_enabled(euicc_get(euicc), &other) != NULL)
			profile_get(other)->state = PROFILE_DISABLED;
		profile->state = PROFILE_ENABLED;
	}
	if (fallback)
	{
		uint32_t	other;

		if (euicc_fallback(euicc_get(euicc), &other) != NULL)
			profile_get(other)->fallback = false;
		profile->fallback = true;
	}
	profile->port = port;
	ledger_reversed(index, ~0u);
	return true;
}

/*
 * Sets up an eUICC: {"eid", "online", "offline_ms", "memory", "delay_ms",
 * "profiles"}.  What is not named stays; "profiles" replaces the present ones.
 */
bool
config_euicc(json_t *item, char *error, size_t size)
{
	json_t	   *online = json_object_get(item, "online");
	json_t	   *offline = json_object_get(item, "offline_ms");
	json_t	   *profiles = json_object_get(item, "profiles");
	Euicc	   *euicc;
	uint32_t	index;
	const char *key;
	json_t	   *value;
	size_t		i;
	Id			eid;

	if (!get_id(json_object_get(item, "eid"), 32, 32, &eid))
		return wrong_key("eid", error, size);
	json_object_foreach(item, key, value)
	{
		json_int_t	number = json_integer_value(value);
		bool		known = strcmp(key, "eid") == 0 ||
			(strcmp(key, "online") == 0 && json_is_boolean(value)) ||
			(strcmp(key, "profiles") == 0 && json_is_array(value)) ||
			(strcmp(key, "offline_ms") == 0 && json_is_integer(value) && number >= 0 &&
			 number <= INT32_MAX) ||
			(strcmp(key, "memory") == 0 && json_is_integer(value) && number >= 0 &&
			 number <= MAX_MEMORY) ||
			(strcmp(key, "delay_ms") == 0 && json_is_integer(value) && number >= -1 &&
			 number <= INT32_MAX);

		if (!known)
			return wrong_key(key, error, size);
	}
	euicc = euicc_make(eid, &index);
	if ((value = json_object_get(item, "memory")) != NULL)
		euicc->memory = json_integer_value(value);
	if ((value = json_object_get(item, "delay_ms")) != NULL)
		euicc->delay_ms = json_integer_value(value);
	if (profiles != NULL)
	{
		while (euicc->first_profile != 0)
		{
			ledger_reversed(euicc->first_profile - 1, ~0u);
			profile_detach(euicc->first_profile - 1);
		}
		json_array_foreach(profiles, i, value)
			if (!set_profile(value, index, error, size))
				return false;
	}
	if (offline != NULL || online != NULL)
		euicc_set_online(index, offline == NULL && json_is_true(online),
						 offline ? (uint32_t) json_integer_value(offline) : 0);
	return true;
}

/* Puts a profile in stock: {"code" or "eid", "iccid"}. */
bool
config_stock(json_t *item, char *error, size_t size)
{
	json_t	   *code = json_object_get(item, "code");
	Id			eid = {0, 0};
	bool		has_eid = get_id(json_object_get(item, "eid"), 32, 32, &eid);
	Id			iccid;

	if (!get_id(json_object_get(item, "iccid"), 19, 20, &iccid))
		return wrong_key("iccid", error, size);
	if (json_is_string(code) ? !code_well_formed(json_string_value(code)) : !has_eid)
		return wrong_key("code", error, size);
	code_stock(json_string_value(code), has_eid, eid, iccid);
	return true;
}

/*
 * Makes many eUICCs at once: {"count", "first", "profiles", "state"}.  Number
 * n has the EID 8904903200, n in 20 digits, check digits; its profiles have
 * the ICCIDs 89, n * profiles + k in 16 digits, Luhn digit.  ENABLED: the first.
 */
bool
config_populate(json_t *item, char *error, size_t size)
{
	uint64_t	count = 0;
	uint64_t	first = 0;
	uint64_t	each = 1;
	bool		enabled = false;
	const char *key;
	json_t	   *value;
	uint64_t	i,
				k;

	json_object_foreach(item, key, value)
	{
		json_int_t	number = json_integer_value(value);

		if (strcmp(key, "state") == 0 && json_is_string(value) &&
			(strcmp(json_string_value(value), "ENABLED") == 0 ||
			 strcmp(json_string_value(value), "DISABLED") == 0))
			enabled = strcmp(json_string_value(value), "ENABLED") == 0;
		else if (!json_is_integer(value) || number < 0)
			return wrong_key(key, error, size);
		else if (strcmp(key, "count") == 0 && number <= MAX_POPULATION)
			count = number;
		else if (strcmp(key, "first") == 0 && number <= INT64_C(1000000000000))
			first = number;
		else if (strcmp(key, "profiles") == 0 && number <= DEFAULT_MEMORY)
			each = number;
		else
			return wrong_key(key, error, size);
	}
	for (i = first; i < first + count; i++)
	{
		uint32_t	euicc;

		euicc_make(eid_make(i), &euicc);
		for (k = 0; k < each; k++)
		{
			uint32_t	index;
			Profile    *profile = profile_make(iccid_make(i * each + k), &index);

			if (profile->state == PROFILE_ABSENT)
				profile_attach(index, euicc);
			if (enabled && k == 0)
				profile->state = PROFILE_ENABLED;
		}
	}
	return true;
}

static bool
set_servers(json_t *value, char *error, size_t size)
{
	const char *name;
	json_t	   *settings;

	json_object_foreach(value, name, settings)
	{
		Server	   *server = server_get(name, strlen(name));

		if (server == NULL)
		{
			snprintf(error, size, "\"%.64s\" cannot name a server", name);
			return false;
		}
		if (!server_configure(server, settings, error, size))
			return false;
	}
	return true;
}

/*
 * Applies a configuration document.  With "server" all members that are not
 * the simulator's own are that server's settings.
 */
bool
config_apply(json_t *config, char *error, size_t size)
{
	json_t	   *name = json_object_get(config, "server");
	json_t	   *settings;
	const char *key;
	json_t	   *value;
	bool		good = true;

	if (!json_is_object(config))
	{
		snprintf(error, size, "the configuration is a JSON object");
		return false;
	}
	settings = json_object();
	json_object_foreach(config, key, value)
	{
		if (strcmp(key, "server") == 0)
			good = json_is_string(value) || wrong_key(key, error, size);
		else if (strcmp(key, "servers") == 0)
			good = set_servers(value, error, size);
		else if (strcmp(key, "euiccs") == 0)
			good = config_each(value, config_euicc, error, size);
		else if (strcmp(key, "stock") == 0)
			good = config_each(value, config_stock, error, size);
		else if (strcmp(key, "faults") == 0)
			good = config_each(value, fault_add, error, size);
		else if (strcmp(key, "populate") == 0)
			good = config_each(value, config_populate, error, size);
		else if (strcmp(key, "record") == 0 && json_is_boolean(value))
			record_enable(json_is_true(value));
		else if (strcmp(key, "accept_unknown_eid") == 0 && json_is_boolean(value))
			accept_unknown_eid = json_is_true(value);
		else if (strcmp(key, "accept_unknown_iccid") == 0 && json_is_boolean(value))
			accept_unknown_iccid = json_is_true(value);
		else if (json_is_string(name))
			json_object_set(settings, key, value);
		else
			good = wrong_key(key, error, size);
		if (!good)
			break;
	}
	if (good && json_is_string(name))
	{
		Server	   *server = server_get(json_string_value(name), json_string_length(name));

		good = server != NULL ? server_configure(server, settings, error, size) :
			wrong_key("server", error, size);
	}
	json_decref(settings);
	return good;
}

/* As after the start, but for the switches of the whole program. */
void
reset_everything(void)
{
	fault_clear(NULL);
	twilio_reset();
	camara_event_reset();
	outbound_reset();
	operation_reset();
	euicc_reset();
	ledger_reset();
	server_reset_all();
	es2plus_reset();
	eim_reset();
	http_reset_stats();
	record_reset();
	requests_total = 0;
}
