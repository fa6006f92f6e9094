/*
 * deed.c
 *		The part of the ledger for effects that are not on an eUICC: in stock, in
 *		orders, in subscriptions.
 *
 * What is a repeat, and what it takes to have asked before it, only the
 * protocol knows; it says so here.
 */
#include <inttypes.h>
#include <string.h>

#include "rspsim.h"

#define MAX_DEEDS		10000000
#define MAX_KINDS		32
#define UNASKED_KEPT	32
#define SUBJECT_KEPT	40
#define PAGE_LIMIT		10000

typedef struct Deed
{
	uint64_t	at_ms;
	uint64_t	request;
	const char *what;			/* static, as from and to */
	const char *from;
	const char *to;
	uint16_t	server;
	bool		twice;
	char		subject[SUBJECT_KEPT];
} Deed;

typedef struct Unasked
{
	uint64_t	request;
	const char *what;
	char		subject[SUBJECT_KEPT];
} Unasked;

static Pool deeds = {.width = sizeof(Deed)};
static struct
{
	const char *what;
	uint64_t	count;
	uint64_t	repeats;
}			kinds[MAX_KINDS];
static int	nkinds;
static uint64_t total;
static uint64_t doubles;
static uint64_t repeats;
static uint64_t unasked_repeats;
static Unasked unasked[UNASKED_KEPT];

static int
kind_of(const char *what)
{
	int			i;

	for (i = 0; i < nkinds; i++)
		if (strcmp(kinds[i].what, what) == 0)
			return i;
	if (nkinds == MAX_KINDS)
		return MAX_KINDS - 1;
	kinds[nkinds].what = what;
	return nkinds++;
}

/*
 * Writes down an effect of a request (NULL: it came by itself).  what, from
 * and to are constants, from and to may be NULL; subject names what was
 * changed.  twice: the same effect had been had before.
 */
void
deed_effect(const char *what, const Request *request, const Server *server,
			const char *subject, const char *from, const char *to, bool twice)
{
	uint32_t	index;
	Deed	   *deed;

	ledger_tick();
	total++;
	kinds[kind_of(what)].count++;
	if (twice)
		doubles++;
	if (deeds.count >= MAX_DEEDS)
		return;
	deed = pool_add(&deeds, &index);
	deed->at_ms = wall_ms();
	deed->request = request != NULL ? request->number : 0;
	deed->what = what;
	deed->from = from;
	deed->to = to;
	deed->server = server->index;
	deed->twice = twice;
	snprintf(deed->subject, sizeof(deed->subject), "%s", subject);
}

/*
 * A request asks again for what one that was accepted had asked for.  asked:
 * in between the caller has asked what became of it.
 */
void
deed_repeat(const char *what, const Request *request, const char *subject, bool asked)
{
	Unasked    *item;

	repeats++;
	kinds[kind_of(what)].repeats++;
	if (asked)
		return;
	item = &unasked[unasked_repeats++ % UNASKED_KEPT];
	item->request = request->number;
	item->what = what;
	snprintf(item->subject, sizeof(item->subject), "%s", subject);
}

uint64_t
deed_total(void)
{
	return total;
}

uint64_t
deed_doubles(void)
{
	return doubles;
}

uint64_t
deed_repeats(void)
{
	return repeats;
}

uint64_t
deed_unasked(void)
{
	return unasked_repeats;
}

/* Members for the summary's by_kind (repeated: repeats_by_kind). */
void
deed_kinds_json(Buf *out, bool repeated)
{
	int			i;

	for (i = 0; i < nkinds; i++)
		buf_format(out, ",\"%s\":%" PRIu64, kinds[i].what,
				   repeated ? kinds[i].repeats : kinds[i].count);
}

/* Items for the summary's list of unasked repeats. */
void
deed_unasked_json(Buf *out, bool first)
{
	uint64_t	i = unasked_repeats > UNASKED_KEPT ? unasked_repeats - UNASKED_KEPT : 0;

	for (; i < unasked_repeats; i++)
	{
		Unasked    *item = &unasked[i % UNASKED_KEPT];

		buf_format(out, "%s{\"request\":%" PRIu64 ",\"kind\":\"%s\",\"id\":", first ? "" : ",",
				   item->request, item->what);
		buf_json(out, item->subject);
		buf_text(out, "}");
		first = false;
	}
}

/* Deeds from number "from" (the first is 1) on, oldest first. */
void
deed_list_json(Buf *out, uint32_t from, uint32_t limit)
{
	const char *comma = "";
	uint32_t	i;

	if (limit > PAGE_LIMIT)
		limit = PAGE_LIMIT;
	buf_text(out, "[");
	for (i = from > 0 ? from - 1 : 0; i < deeds.count && limit-- > 0; i++)
	{
		Deed	   *deed = pool_get(&deeds, i);

		buf_format(out, "%s{\"number\":%u,\"at\":", comma, i + 1);
		comma = ",";
		buf_time(out, deed->at_ms);
		buf_format(out, ",\"what\":\"%s\",\"server\":\"%s\",\"request\":%" PRIu64 ",\"subject\":",
				   deed->what, server_by_index(deed->server)->name, deed->request);
		buf_json(out, deed->subject);
		if (deed->from != NULL)
			buf_format(out, ",\"from\":\"%s\"", deed->from);
		if (deed->to != NULL)
			buf_format(out, ",\"to\":\"%s\"", deed->to);
		buf_format(out, ",\"double\":%s}", deed->twice ? "true" : "false");
	}
	buf_text(out, "]");
}

void
deed_reset(void)
{
	pool_reset(&deeds);
	memset(kinds, 0, sizeof(kinds));
	nkinds = 0;
	total = doubles = repeats = unasked_repeats = 0;
}
