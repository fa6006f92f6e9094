/*
 * ledger.c
 *		The ledger: every effect, and how callers repeat their requests.
 *
 * Effects are kept in order, chained by profile and by eUICC, so that a
 * million of them cost 48 bytes each and no search.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "rspsim.h"

#define MAX_ENTRIES		50000000
#define PAGE_LIMIT		10000
#define UNASKED_KEPT	32

typedef struct Entry
{
	uint64_t	at_ms;
	uint32_t	operation;		/* index + 1, 0: the device by itself */
	uint32_t	euicc;
	uint32_t	profile;
	uint32_t	previous_of_profile;	/* index + 1 */
	uint32_t	previous_of_euicc;
	uint8_t		what;
	uint8_t		cause;
	uint8_t		from;
	uint8_t		to;
	bool		twice;
} Entry;

/* A repeat that no ask went before, kept for whoever looks for the reason. */
typedef struct Unasked
{
	uint64_t	request;
	uint64_t	first_request;
	Id			id;
	int			kind;
} Unasked;

static const char *const effect_names[EFFECTS] = {
	"downloaded", "enabled", "disabled", "deleted", "fallback-set", "fallback-unset"
};
static const char *const cause_names[] = {"operation", "implicit", "device"};
static const char *const fallback_names[] = {"NONE", "FALLBACK"};

static Pool entries = {.width = sizeof(Entry)};
static Buf	texts;				/* correlators, each with its NUL */
static uint32_t tick;
static uint64_t effects;
static uint64_t device_effects;
static uint64_t implicit_effects;
static uint64_t by_kind[EFFECTS];
static uint64_t repeats;
static uint64_t repeats_by_kind[KINDS];
static uint64_t unasked_repeats;
static uint64_t double_effects;
static uint64_t already_so;
static uint64_t entries_dropped;
static Unasked unasked[UNASKED_KEPT];

/* The next moment in the order of requests, asks and effects. */
uint32_t
ledger_tick(void)
{
	return ++tick;
}

/* Keeps a correlator; gives its offset + 1. */
uint32_t
ledger_correlator(const char *text)
{
	size_t		offset = texts.length;

	if (*text == '\0' || offset > UINT32_MAX - 1024)
		return 0;
	buf_add(&texts, text, strlen(text) + 1);
	return (uint32_t) offset + 1;
}

#define BIT(kind) (1u << (kind))

/*
 * Something asked for, or did, the opposite of these kinds on a profile: the
 * next such request is a new one, not a repeat.
 */
void
ledger_reversed(uint32_t index, unsigned kinds)
{
	Profile    *profile = profile_get(index);
	int			kind;

	for (kind = 0; kind < KINDS; kind++)
		if (kinds & BIT(kind))
			profile->track[kind].reversed = true;
	if ((kinds & BIT(KIND_DOWNLOAD)) && profile->code != 0)
		code_get(profile->code - 1)->track.reversed = true;
}

static const unsigned effect_reverses[EFFECTS] = {
	[EFFECT_DOWNLOADED] = BIT(KIND_ENABLE) | BIT(KIND_DISABLE) | BIT(KIND_DELETE) | BIT(KIND_SET_FALLBACK),
	[EFFECT_ENABLED] = BIT(KIND_DISABLE),
	[EFFECT_DISABLED] = BIT(KIND_ENABLE),
	[EFFECT_DELETED] = BIT(KIND_DOWNLOAD) | BIT(KIND_ENABLE) | BIT(KIND_DISABLE) | BIT(KIND_SET_FALLBACK),
	[EFFECT_FALLBACK_SET] = 0,
	[EFFECT_FALLBACK_UNSET] = BIT(KIND_SET_FALLBACK),
};

/*
 * Writes down an effect.  "operation" is an index, UINT32_MAX where the device
 * acted by itself.  An effect that leads to where the profile stood already,
 * or a second profile out of a repeated download, is a double one.
 */
void
ledger_effect(Effect what, Cause cause, uint32_t operation, uint32_t euicc_index,
			  uint32_t profile_index, int from, int to)
{
	Profile    *profile = profile_get(profile_index);
	Euicc	   *euicc = euicc_get(euicc_index);
	Operation  *op = operation == UINT32_MAX ? NULL : operation_get(operation);
	uint32_t	index;
	Entry	   *entry;
	bool		twice;

	twice = what == EFFECT_DOWNLOADED ?
		from != PROFILE_ABSENT ||
		(op != NULL && op->flags & OPERATION_REPEAT && code_get(op->code - 1)->generic &&
		 code_get(op->code - 1)->euicc != 0) :
		from == to;
	tick++;
	if (cause == CAUSE_DEVICE)
		device_effects++;
	else
	{
		effects++;
		if (cause == CAUSE_IMPLICIT)
			implicit_effects++;
	}
	by_kind[what]++;
	if (twice)
		double_effects++;
	ledger_reversed(profile_index, effect_reverses[what]);
	if (what == EFFECT_DOWNLOADED && cause != CAUSE_DEVICE)
		twilio_installed(euicc->eid, profile->iccid);

	if (entries.count >= MAX_ENTRIES)
	{
		entries_dropped++;
		return;
	}
	entry = pool_add(&entries, &index);
	entry->at_ms = wall_ms();
	entry->operation = op == NULL ? 0 : operation + 1;
	entry->euicc = euicc_index;
	entry->profile = profile_index;
	entry->previous_of_profile = profile->last_entry;
	entry->previous_of_euicc = euicc->last_entry;
	entry->what = what;
	entry->cause = cause;
	entry->from = from;
	entry->to = to;
	entry->twice = twice;
	profile->last_entry = euicc->last_entry = index + 1;
}

/* An operation reached a device on which its end state stood already. */
void
ledger_already_so(void)
{
	already_so++;
}

/*
 * A request of this kind has come in; "first" is the operation that the track
 * remembers, if any.  Counts it if it is a repeat, and gives whether it is.
 * It is none if the opposite was asked for or happened in between, or if the
 * caller has been told that the first one failed.  The ask must have come
 * after the first one (or the last repeat).
 */
bool
ledger_request(Kind kind, Track *track, Operation *first, uint32_t last_ask, Request *request,
			   Id id)
{
	if (first == NULL || track->reversed ||
		(first->outcome == OUTCOME_FAILED && first->flags & OPERATION_TOLD))
		return false;
	repeats++;
	repeats_by_kind[kind]++;
	if (last_ask <= track->tick)
	{
		Unasked    *item = &unasked[unasked_repeats++ % UNASKED_KEPT];

		item->request = request->number;
		item->first_request = first->request;
		item->id = id;
		item->kind = kind;
	}
	track->tick = ++tick;
	return true;
}

/*
 * An operation was accepted: remembers it for its repeats and lets it reverse
 * the opposite kinds.  "profile" is an index.
 */
void
ledger_accepted(Kind kind, Track *track, uint32_t operation, uint32_t profile_index)
{
	static const unsigned reverses[KINDS] = {
		[KIND_DOWNLOAD] = BIT(KIND_DELETE),
		[KIND_ENABLE] = BIT(KIND_DISABLE),
		[KIND_DISABLE] = BIT(KIND_ENABLE),
		[KIND_DELETE] = BIT(KIND_DOWNLOAD) | BIT(KIND_ENABLE) | BIT(KIND_DISABLE),
		[KIND_SET_FALLBACK] = 0,
	};
	Profile    *profile = profile_get(profile_index);

	track->operation = operation + 1;
	track->tick = ++tick;
	track->reversed = false;
	ledger_reversed(profile_index, reverses[kind]);
	if ((kind == KIND_ENABLE || kind == KIND_SET_FALLBACK) && profile->euicc != 0)
	{
		uint32_t	next = euicc_get(profile->euicc - 1)->first_profile;

		/* what it displaces may be asked for again */
		for (; next != 0; next = profile_get(next - 1)->next)
			if (next != profile_index + 1)
				ledger_reversed(next - 1, BIT(kind));
	}
}

void
ledger_summary_json(Buf *out)
{
	uint64_t	first = unasked_repeats > UNASKED_KEPT ? unasked_repeats - UNASKED_KEPT : 0;
	uint64_t	i;

	buf_format(out, "{\"seed\":%" PRIu64 ",\"requests\":%" PRIu64 ",\"effects\":%" PRIu64
			   ",\"implicit_effects\":%" PRIu64 ",\"device_effects\":%" PRIu64
			   ",\"double_effects\":%" PRIu64 ",\"already_so\":%" PRIu64
			   ",\"repeats\":%" PRIu64 ",\"unasked_repeats\":%" PRIu64 ",\"by_kind\":{",
			   simulator_seed, requests_total, effects + deed_total(), implicit_effects,
			   device_effects, double_effects + deed_doubles(), already_so,
			   repeats + deed_repeats(), unasked_repeats + deed_unasked());
	for (i = 0; i < EFFECTS; i++)
		buf_format(out, "%s\"%s\":%" PRIu64, i ? "," : "", effect_names[i], by_kind[i]);
	deed_kinds_json(out, false);
	buf_text(out, "},\"repeats_by_kind\":{");
	for (i = 0; i < KINDS; i++)
		buf_format(out, "%s\"%s\":%" PRIu64, i ? "," : "", kind_names[i], repeats_by_kind[i]);
	deed_kinds_json(out, true);
	buf_text(out, "},\"unasked\":[");
	for (i = first; i < unasked_repeats; i++)
	{
		Unasked    *item = &unasked[i % UNASKED_KEPT];

		buf_format(out, "%s{\"request\":%" PRIu64 ",\"first_request\":%" PRIu64
				   ",\"kind\":\"%s\",\"id\":", i > first ? "," : "", item->request,
				   item->first_request, kind_names[item->kind]);
		buf_id(out, item->id);
		buf_text(out, "}");
	}
	deed_unasked_json(out, unasked_repeats == 0);
	buf_text(out, "],\"operations\":");
	operation_counts_json(out);
	buf_format(out, ",\"euiccs\":%u,\"profiles\":%u,\"entries\":%u,\"entries_dropped\":%" PRIu64
			   "}", euicc_total(), profile_total(), entries.count, entries_dropped);
}

static void
entry_json(Buf *out, uint32_t index)
{
	Entry	   *entry = pool_get(&entries, index);
	const char *const *names = entry->what == EFFECT_FALLBACK_SET ||
		entry->what == EFFECT_FALLBACK_UNSET ? fallback_names : profile_state_names;

	buf_format(out, "{\"number\":%u,\"at\":", index + 1);
	buf_time(out, entry->at_ms);
	buf_format(out, ",\"what\":\"%s\",\"cause\":\"%s\",\"eid\":", effect_names[entry->what],
			   cause_names[entry->cause]);
	buf_id(out, euicc_get(entry->euicc)->eid);
	buf_text(out, ",\"iccid\":");
	buf_id(out, profile_get(entry->profile)->iccid);
	buf_format(out, ",\"from\":\"%s\",\"to\":\"%s\",\"double\":%s", names[entry->from],
			   names[entry->to], entry->twice ? "true" : "false");
	if (entry->operation != 0)
	{
		Operation  *operation = operation_get(entry->operation - 1);
		char		id[48];

		operation_id(entry->operation - 1, id);
		buf_format(out, ",\"server\":\"%s\",\"request\":%u,\"operation\":\"%s\"",
				   server_by_index(operation->server)->name, operation->request, id);
		if (operation->correlator != 0)
		{
			buf_text(out, ",\"correlator\":");
			buf_json(out, texts.data + operation->correlator - 1);
		}
	}
	buf_text(out, "}");
}

static bool
read_number(Request *request, const char *name, uint32_t most, uint32_t *value)
{
	const char *text = http_query(request, name);
	char	   *end;
	unsigned long number;

	if (text == NULL)
		return true;
	number = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end != '\0' || number > most)
		return false;
	*value = (uint32_t) number;
	return true;
}

/*
 * Entries as a JSON array: of one profile (?iccid=) or eUICC (?eid=), newest
 * first, or all of them from ?from= on, oldest first; at most ?limit=.
 */
bool
ledger_entries_json(Buf *out, Request *request, char *error, size_t size)
{
	const char *iccid = http_query(request, "iccid");
	const char *eid = http_query(request, "eid");
	uint32_t	from = 1;
	uint32_t	limit = 1000;
	uint32_t	index;
	uint32_t	count = 0;
	uint32_t	last = 0;
	Id			id;

	if (!read_number(request, "from", UINT32_MAX, &from) || from == 0 ||
		!read_number(request, "limit", PAGE_LIMIT, &limit))
	{
		snprintf(error, size, "from begins with 1, limit is at most %d", PAGE_LIMIT);
		return false;
	}
	if (iccid != NULL)
	{
		if (!id_parse(iccid, strlen(iccid), 1, 32, &id))
		{
			snprintf(error, size, "iccid is no number");
			return false;
		}
		if (profile_find(id, &index) != NULL)
			last = profile_get(index)->last_entry;
	}
	else if (eid != NULL)
	{
		if (!id_parse(eid, strlen(eid), 32, 32, &id))
		{
			snprintf(error, size, "eid is not 32 digits");
			return false;
		}
		if (euicc_find(id, &index) != NULL)
			last = euicc_get(index)->last_entry;
	}
	buf_text(out, "[");
	if (iccid != NULL || eid != NULL)
		while (last != 0 && count++ < limit)
		{
			Entry	   *entry = pool_get(&entries, last - 1);

			if (count > 1)
				buf_text(out, ",");
			entry_json(out, last - 1);
			last = iccid ? entry->previous_of_profile : entry->previous_of_euicc;
		}
	else
		for (index = from - 1; index < entries.count && count++ < limit; index++)
		{
			if (count > 1)
				buf_text(out, ",");
			entry_json(out, index);
		}
	buf_text(out, "]");
	return true;
}

/* Writes summary, statistics and the last "limit" entries to a file. */
bool
ledger_write(const char *path, uint32_t limit)
{
	FILE	   *file = fopen(path, "w");
	uint32_t	index = entries.count > limit ? entries.count - limit : 0;
	Buf			out = {0};
	bool		good;

	if (file == NULL)
		return false;
	buf_text(&out, "{\"summary\":");
	ledger_summary_json(&out);
	buf_text(&out, ",\n\"servers\":");
	server_stats_json(&out);
	buf_format(&out, ",\n\"entries_omitted\":%u,\"entries\":[", index);
	while (index < entries.count)
	{
		buf_text(&out, "\n");
		entry_json(&out, index);
		if (++index < entries.count)
			buf_text(&out, ",");
		if (out.length > 65536)
		{
			fwrite(out.data, 1, out.length, file);
			buf_clear(&out);
		}
	}
	buf_text(&out, "],\n\"deeds\":");
	deed_list_json(&out, 1, limit);
	buf_text(&out, "}\n");
	fwrite(out.data, 1, out.length, file);
	buf_free(&out);
	good = !ferror(file);
	return fclose(file) == 0 && good;
}

void
ledger_reset(void)
{
	deed_reset();
	pool_reset(&entries);
	buf_free(&texts);
	tick = 0;
	effects = device_effects = implicit_effects = double_effects = already_so = 0;
	repeats = unasked_repeats = entries_dropped = 0;
	memset(by_kind, 0, sizeof(by_kind));
	memset(repeats_by_kind, 0, sizeof(repeats_by_kind));
}
