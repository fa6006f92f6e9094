/*
 * euicc.c
 *		Virtual eUICCs, the profiles on them, and what activation codes stand for.
 */
#include <stdlib.h>
#include <string.h>

#include "rspsim.h"

const char *const profile_state_names[] = {"ABSENT", "DISABLED", "ENABLED"};

bool		accept_unknown_eid = true;
bool		accept_unknown_iccid = false;

/* A profile that waits in stock for one eUICC. */
typedef struct Waiting
{
	Id			iccid;
	uint32_t	next;			/* index + 1 */
} Waiting;

static Pool euiccs = {.width = sizeof(Euicc)};
static Pool profiles = {.width = sizeof(Profile)};
static Pool codes = {.width = sizeof(Code)};
static Pool waiting = {.width = sizeof(Waiting)};
static IdTable by_eid;
static IdTable by_iccid;
static IdTable by_code;
static IdTable waiting_by_eid;	/* the first in line; taken ones are skipped by "taken" */
static IdTable waiting_taken;	/* ICCIDs that are no longer in stock */
static uint32_t epoch;			/* timers of an earlier one are void */

Euicc *
euicc_get(uint32_t index)
{
	return pool_get(&euiccs, index);
}

uint32_t
euicc_total(void)
{
	return euiccs.count;
}

Euicc *
euicc_find(Id eid, uint32_t *index)
{
	return idtable_find(&by_eid, eid, index) ? euicc_get(*index) : NULL;
}

/* The eUICC of this EID, made empty and online if it is new. */
Euicc *
euicc_make(Id eid, uint32_t *index)
{
	Euicc	   *euicc = euicc_find(eid, index);

	if (euicc != NULL)
		return euicc;
	euicc = pool_add(&euiccs, index);
	euicc->eid = eid;
	euicc->memory = DEFAULT_MEMORY;
	euicc->delay_ms = -1;
	euicc->online = true;
	idtable_insert(&by_eid, eid, *index);
	return euicc;
}

/* The eUICC that a request names: NULL if it is unknown and must not be made. */
Euicc *
euicc_seen(Id eid, uint32_t *index)
{
	return accept_unknown_eid ? euicc_make(eid, index) : euicc_find(eid, index);
}

Profile *
profile_get(uint32_t index)
{
	return pool_get(&profiles, index);
}

uint32_t
profile_total(void)
{
	return profiles.count;
}

Profile *
profile_find(Id iccid, uint32_t *index)
{
	return idtable_find(&by_iccid, iccid, index) ? profile_get(*index) : NULL;
}

Profile *
profile_make(Id iccid, uint32_t *index)
{
	Profile    *profile = profile_find(iccid, index);

	if (profile != NULL)
		return profile;
	profile = pool_add(&profiles, index);
	profile->iccid = iccid;
	idtable_insert(&by_iccid, iccid, *index);
	return profile;
}

/*
 * The installed profile that a request names, else NULL.  With
 * accept_unknown_iccid a profile that was never heard of is found DISABLED on
 * an eUICC of its own.
 */
Profile *
profile_seen(Id iccid, uint32_t *index)
{
	Profile    *profile = profile_find(iccid, index);

	if (profile == NULL && accept_unknown_iccid)
	{
		uint32_t	euicc;

		euicc_make(eid_make(mix64(iccid.high ^ mix64(iccid.low ^ simulator_seed))), &euicc);
		profile = profile_make(iccid, index);
		profile_attach(*index, euicc);
	}
	return profile != NULL && profile->state != PROFILE_ABSENT ? profile : NULL;
}

/* Installs a profile, DISABLED, behind the others of the eUICC. */
void
profile_attach(uint32_t index, uint32_t euicc_index)
{
	Profile    *profile = profile_get(index);
	Euicc	   *euicc = euicc_get(euicc_index);
	uint32_t   *link = &euicc->first_profile;

	while (*link != 0)
		link = &profile_get(*link - 1)->next;
	*link = index + 1;
	profile->next = 0;
	profile->euicc = euicc_index + 1;
	profile->state = PROFILE_DISABLED;
	profile->fallback = false;
	profile->spent = true;
	euicc->profiles++;
}

/* Takes an installed profile off its eUICC; it stays known. */
void
profile_detach(uint32_t index)
{
	Profile    *profile = profile_get(index);
	Euicc	   *euicc = euicc_get(profile->euicc - 1);
	uint32_t   *link = &euicc->first_profile;

	while (*link != index + 1)
		link = &profile_get(*link - 1)->next;
	*link = profile->next;
	profile->next = 0;
	profile->state = PROFILE_ABSENT;
	profile->fallback = false;
	euicc->profiles--;
}

/* The enabled profile of an eUICC, NULL if none is. */
Profile *
euicc_enabled(Euicc *euicc, uint32_t *index)
{
	uint32_t	next;

	for (next = euicc->first_profile; next != 0; next = profile_get(next - 1)->next)
		if (profile_get(next - 1)->state == PROFILE_ENABLED)
		{
			*index = next - 1;
			return profile_get(next - 1);
		}
	return NULL;
}

/* The profile with the fallback attribute, NULL if none has it. */
Profile *
euicc_fallback(Euicc *euicc, uint32_t *index)
{
	uint32_t	next;

	for (next = euicc->first_profile; next != 0; next = profile_get(next - 1)->next)
		if (profile_get(next - 1)->fallback)
		{
			*index = next - 1;
			return profile_get(next - 1);
		}
	return NULL;
}

static void
back_online(void *subject, uint32_t index)
{
	uint64_t	stamp = (uintptr_t) subject;
	Euicc	   *euicc;

	if ((uint32_t) (stamp >> 32) != epoch)
		return;
	euicc = euicc_get(index);
	if (euicc->online_generation == (uint32_t) stamp)
		euicc_set_online(index, true, 0);
}

/* Sets a device online or off; offline_ms > 0: it comes back by itself. */
void
euicc_set_online(uint32_t index, bool online, uint32_t offline_ms)
{
	Euicc	   *euicc = euicc_get(index);

	euicc->online = online;
	euicc->online_generation++;
	if (online)
	{
		euicc_drain(index);
		eim_device_online(index);
	}
	else if (offline_ms > 0)
		timer_add(clock_ms() + offline_ms, back_online,
				  (void *) (uintptr_t) ((uint64_t) epoch << 32 | euicc->online_generation),
				  index);
}

void
euicc_json(Buf *out, Euicc *euicc)
{
	uint32_t	next;

	buf_text(out, "{\"eid\":");
	buf_id(out, euicc->eid);
	buf_format(out, ",\"online\":%s,\"memory\":%u,\"delay_ms\":%d,\"pending\":%u,\"profiles\":[",
			   euicc->online ? "true" : "false", euicc->memory, euicc->delay_ms,
			   euicc->pending);
	for (next = euicc->first_profile; next != 0; next = profile_get(next - 1)->next)
	{
		Profile    *profile = profile_get(next - 1);

		buf_text(out, next == euicc->first_profile ? "{\"iccid\":" : ",{\"iccid\":");
		buf_id(out, profile->iccid);
		buf_format(out, ",\"state\":\"%s\",\"fallback\":%s,\"port\":%u}",
				   profile_state_names[profile->state], profile->fallback ? "true" : "false",
				   profile->port);
	}
	buf_text(out, "]}");
}

void
euicc_reset(void)
{
	pool_reset(&euiccs);
	pool_reset(&profiles);
	pool_reset(&codes);
	pool_reset(&waiting);
	idtable_reset(&by_eid);
	idtable_reset(&by_iccid);
	idtable_reset(&by_code);
	idtable_reset(&waiting_by_eid);
	idtable_reset(&waiting_taken);
	epoch++;
}

/* ---- activation codes ---- */

Code *
code_get(uint32_t index)
{
	return pool_get(&codes, index);
}

static const char *
without_prefix(const char *code)
{
	return strncmp(code, "LPA:", 4) == 0 ? code + 4 : code;
}

/* The matching ID: the third of the fields that '$' parts. */
static const char *
matching_id(const char *code, size_t *length)
{
	const char *field = strchr(code, '$');

	field = field ? strchr(field + 1, '$') : NULL;
	if (field == NULL)
	{
		*length = 0;
		return "";
	}
	*length = strcspn(++field, "$");
	return field;
}

/* SGP.22 4.1 as far as a server looks at it: "1$", an address, '$'. */
bool
code_well_formed(const char *code)
{
	const char *address;

	code = without_prefix(code);
	if (strncmp(code, "1$", 2) != 0)
		return false;
	address = code + 2;
	return *address != '$' && strchr(address, '$') != NULL;
}

static Id
code_key(const char *code, Id eid, Id iccid)
{
	uint64_t	seed = mix64(eid.high ^ mix64(eid.low)) ^ mix64(iccid.high ^ mix64(iccid.low) ^ 1);
	size_t		length = strlen(code);
	Id			key;

	key.high = hash_bytes(code, length, seed);
	key.low = hash_bytes(code, length, ~seed);
	return key;
}

static Code *
code_make(Id key, uint32_t *index)
{
	Code	   *code;

	if (idtable_find(&by_code, key, index))
		return code_get(*index);
	code = pool_add(&codes, index);
	idtable_insert(&by_code, key, *index);
	return code;
}

/* The next profile that waits for this eUICC. */
static bool
take_waiting(Id eid, Id *iccid)
{
	uint32_t	index;
	uint32_t	ignored;

	if (!idtable_find(&waiting_by_eid, eid, &index))
		return false;
	for (;;)
	{
		Waiting    *item = pool_get(&waiting, index);

		if (!idtable_find(&waiting_taken, item->iccid, &ignored))
		{
			*iccid = item->iccid;
			idtable_insert(&waiting_taken, item->iccid, index);
			return true;
		}
		if (item->next == 0)
			return false;
		index = item->next - 1;
	}
}

/* A run of 19 or 20 digits in the matching ID. */
static bool
embedded_iccid(const char *field, size_t length, Id *iccid)
{
	size_t		i = 0;

	while (i < length)
	{
		size_t		digits = strspn(field + i, "0123456789");

		if (digits > length - i)
			digits = length - i;
		if (id_parse(field + i, digits, 19, 20, iccid))
			return true;
		i += digits + 1;
	}
	return false;
}

/*
 * What a download of this code on this eUICC will bring.  "iccid" is the one
 * that the request names, {0, 0} if it names none.  A code with an empty
 * matching ID stands for whatever waits for the eUICC, and for a further
 * profile each time it has been used up.
 */
Code *
code_lookup(const char *text, Id eid, Id iccid, uint32_t *index)
{
	static const Id none = {0, 0};
	bool		named = !id_equal(iccid, none);
	size_t		length;
	const char *field;
	Code	   *code;

	text = without_prefix(text);
	field = matching_id(text, &length);
	if (length == 0)
	{
		uint32_t	profile;

		code = code_make(code_key(text, eid, iccid), index);
		code->generic = true;
		if (named)
			code->iccid = iccid;
		else if (id_equal(code->iccid, none) ||
				 (profile_find(code->iccid, &profile) && profile_get(profile)->spent))
		{
			uint32_t	ignored;
			Euicc	   *euicc = euicc_make(eid, &ignored);

			if (!take_waiting(eid, &code->iccid))
				code->iccid = iccid_make(code_key(text, eid, none).high ^
										 mix64(simulator_seed ^ euicc->downloads++));
		}
		return code;
	}
	code = code_make(code_key(text, none, none), index);
	if (!code->known_iccid)
	{
		if (named)
			code->iccid = iccid;
		else if (id_equal(code->iccid, none) && !embedded_iccid(field, length, &code->iccid))
			code->iccid = iccid_make(hash_bytes(text, strlen(text), simulator_seed));
	}
	return code;
}

/* Puts a profile in stock: for a code, or for an eUICC. */
void
code_stock(const char *text, bool has_eid, Id eid, Id iccid)
{
	static const Id none = {0, 0};
	uint32_t	index;
	uint32_t	last;

	if (text != NULL)
	{
		Code	   *code = code_make(code_key(without_prefix(text), none, none), &index);

		code->iccid = iccid;
		code->known_iccid = true;
	}
	if (has_eid)
	{
		Waiting    *item = pool_add(&waiting, &index);

		item->iccid = iccid;
		if (!idtable_find(&waiting_by_eid, eid, &last))
			idtable_insert(&waiting_by_eid, eid, index);
		else
		{
			while (((Waiting *) pool_get(&waiting, last))->next != 0)
				last = ((Waiting *) pool_get(&waiting, last))->next - 1;
			((Waiting *) pool_get(&waiting, last))->next = index + 1;
		}
	}
}
