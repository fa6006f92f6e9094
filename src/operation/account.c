/*-------------------------------------------------------------------------
 *
 * account.c
 *	  Operations on what an owner has at a server: making fleets, and
 *	  synchronising with the server.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "access/xact.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "event/event.h"
#include "operation/enqueue.h"

/* devices whose refresh is queued at a time */
#define SYNC_BATCH 20000

/* ------------------------------------------------------------------------
 * Lanes
 * ------------------------------------------------------------------------ */

static EsimStatement insert_fleet = {
	"INSERT INTO @esim_fleet (name, owner, owner_name, server, settings) VALUES ($1, $2, $3, $4, $5)"
	" ON CONFLICT DO NOTHING RETURNING lane",
	5, {"text", "regrole", "name", "text", "jsonb"}
};
static EsimStatement find_fleet = {
	"SELECT lane, rsp_id IS NOT NULL FROM @esim_fleet WHERE name = $1 AND owner = $2 AND server = $3",
	3, {"text", "regrole", "text"}
};
static EsimStatement update_fleet = {
	"UPDATE @esim_fleet SET settings = $2 WHERE lane = $1 AND name = $3 AND owner = $4 AND server = $5",
	5, {"int8", "jsonb", "text", "regrole", "text"}
};
static EsimStatement delete_fleet = {
	"DELETE FROM @esim_fleet f WHERE f.lane = $1 AND f.name = $2 AND f.owner = $3 AND f.server = $4"
	" AND NOT EXISTS (SELECT FROM @esim_pending q WHERE q.lane = f.lane)",
	4, {"int8", "text", "regrole", "text"}
};

static Datum
server_name(const EsimElement *element)
{
	return PointerGetDatum(cstring_to_text(element->choice->server->rsp.name));
}

/* true: there is such a row, lane and known (it exists at the server) are set */
static bool
read_fleet(const EsimElement *element, int64 *lane, bool *known)
{
	Datum		values[3];
	EsimRow		row;
	bool		found;

	values[0] = PointerGetDatum(cstring_to_text(element->name));
	values[1] = ObjectIdGetDatum(element->owner);
	values[2] = server_name(element);
	esim_execute_latest(&find_fleet, values, NULL, 1);
	found = SPI_processed > 0;
	if (found)
	{
		esim_row(&row, SPI_tuptable, 0);
		*lane = DatumGetInt64(row.value[0]);
		*known = DatumGetBool(row.value[1]);
	}
	SPI_freetuptable(SPI_tuptable);
	return found;
}

/* Who makes the same fleet at the same time is waited for by the unique index. */
static void
prepare_fleet(EsimRequest *request, EsimElement *element)
{
	Datum		values[5];
	NameData	owner_name;
	EsimRow		row;
	bool		known;

	if (read_fleet(element, &element->lane, &known))
		return;
	namestrcpy(&owner_name, element->owner_name);
	values[0] = PointerGetDatum(cstring_to_text(element->name));
	values[1] = ObjectIdGetDatum(element->owner);
	values[2] = NameGetDatum(&owner_name);
	values[3] = server_name(element);
	values[4] = JsonbPGetDatum(request->settings);
	esim_execute_latest(&insert_fleet, values, NULL, 0);
	element->fresh = SPI_processed > 0;
	if (element->fresh)
	{
		esim_row(&row, SPI_tuptable, 0);
		element->lane = DatumGetInt64(row.value[0]);
	}
	SPI_freetuptable(SPI_tuptable);
	if (!element->fresh && !read_fleet(element, &element->lane, &known))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not make fleet \"%s\" due to concurrent changes", element->name),
				 errhint("Try again.")));
}

/*
 * One sync of an owner with a server at a time.  No row stands for that: the
 * lane's number is made of the two, and negative, unlike all others.
 */
static int64
sync_lane(Oid owner, Oid serverid)
{
	uint64		key = (((uint64) owner << 32) | serverid) & ((UINT64CONST(1) << 61) - 1);

	return -2 * (int64) (key + 1);
}

static int
compare_name(const void *a, const void *b)
{
	const EsimElement *x = *(EsimElement *const *) a;
	const EsimElement *y = *(EsimElement *const *) b;
	int			cmp = strcmp(x->name, y->name);

	return cmp != 0 ? cmp : x->ordinal - y->ordinal;
}

void
esim_prepare_accounts(EsimRequest *request)
{
	EsimElement **list = palloc(sizeof(EsimElement *) * Max(request->nelements, 1));
	int			n = 0;

	for (int i = 0; i < request->nelements; i++)
	{
		if (esim_is_open(&request->elements[i]))
			list[n++] = &request->elements[i];
	}
	qsort(list, n, sizeof(EsimElement *), compare_name);
	for (int i = 0; i < n; i++)
	{
		if (request->kind->lane == ESIM_LANE_FLEET)
			prepare_fleet(request, list[i]);
		else
			list[i]->lane = sync_lane(list[i]->owner, list[i]->choice->server->serverid);
	}
	pfree(list);
}

/* A fleet is made once.  One whose making has failed is made again. */
void
esim_decide_fleet(EsimRequest *request, EsimElement *element, EsimLane *lane)
{
	Datum		values[5];
	int64		number;
	bool		known = false;

	if (lane->nops == 0 && !element->fresh && !read_fleet(element, &number, &known))
		known = true;			/* removed meanwhile, and made anew perhaps */
	if (lane->nops > 0 || known)
	{
		element->failure =
			esim_failure("ALREADY_EXISTS",
						 psprintf("fleet \"%s\" exists already", element->name),
						 lane->nops > 0 ? pstrdup("An operation that creates it is queued.") :
						 psprintf("There is one at server \"%s\".",
								  element->choice->server->rsp.name),
						 pstrdup("Use it, or give another name."));
		return;
	}
	if (element->fresh)
		return;
	values[0] = Int64GetDatum(lane->number);
	values[1] = JsonbPGetDatum(request->settings);
	values[2] = PointerGetDatum(cstring_to_text(element->name));
	values[3] = ObjectIdGetDatum(element->owner);
	values[4] = server_name(element);
	esim_execute_latest(&update_fleet, values, NULL, 0);
}

void
esim_remove_fleets(EsimRequest *request)
{
	for (int i = 0; i < request->nelements; i++)
	{
		EsimElement *element = &request->elements[i];
		Datum		values[4];

		if (!element->fresh || esim_is_open(element))
			continue;
		values[0] = Int64GetDatum(element->lane);
		values[1] = PointerGetDatum(cstring_to_text(element->name));
		values[2] = ObjectIdGetDatum(element->owner);
		values[3] = server_name(element);
		esim_execute_latest(&delete_fleet, values, NULL, 0);
	}
}

/* ------------------------------------------------------------------------
 * Servers that list one eUICC at a time
 * ------------------------------------------------------------------------ */

/* those that wait for a refresh anyway are left out */
static EsimStatement find_devices = {
	"SELECT d.eid FROM @esim_device d"
	" WHERE d.eid OPERATOR(@>) $1 AND d.retired_at IS NULL AND (d.server = $2 OR $3 AND d.server IS NULL)"
	" AND pg_has_role($4, d.owner, 'USAGE') AND pg_get_userbyid(d.owner) = d.owner_name"
	" AND NOT EXISTS (SELECT FROM @esim_pending q WHERE q.lane = d.lane AND q.kind = 'refresh' AND NOT q.claimed)"
	" ORDER BY d.eid LIMIT $5",
	5, {"@eid", "text", "bool", "oid", "int8"}
};
static EsimStatement insert_completed = {
	"INSERT INTO @esim_operation AS o (id, seq, kind, owner, owner_name, requested_by, server, status, result, phase,"
	" error_message, attempts, retry_of, correlator, priority, not_before, expires_at, created_at, completed_at,"
	" idempotency_key, sink, callback_url, callback_method, options)"
	" VALUES ($1, $2, 'sync', $3, $4, $5, $6, 'COMPLETED', 'SUCCESS', 'DONE', $7, 0, $8, $9, $10, $11, $12, now(),"
	" clock_timestamp(), $13, $14, $15, $16, $17) RETURNING " ESIM_ANNOUNCED("o"),
	17, {"uuid", "int8", "regrole", "name", "regrole", "text", "text", "uuid", "text", "int2",
	"timestamptz", "timestamptz", "text", "text", "text", "text", "jsonb"}
};

/* Queue a refresh of n devices in the current memory context. */
static void
refresh_devices(EsimRequest *sync, const EsimElement *element, const Eid *eids, int n)
{
	EsimRequest request;

	memset(&request, 0, sizeof(request));
	request.kind = esim_kind(RSP_REFRESH);
	request.function = sync->function;
	request.caller = sync->caller;
	request.now = sync->now;
	request.server = pstrdup(element->choice->server->rsp.name);
	request.own_server = true;	/* the caller's right to name it was checked */
	request.correlator = sync->correlator;
	request.callback_method = sync->callback_method;
	request.priority = sync->priority;
	request.has_not_before = sync->has_not_before;
	request.not_before = sync->not_before;
	request.has_expires_at = sync->has_expires_at;
	request.expires_at = sync->expires_at;
	request.options = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	request.options_json = sync->options_json;
	request.nelements = n;
	request.elements = palloc0(sizeof(EsimElement) * n);
	for (int i = 0; i < n; i++)
	{
		request.elements[i].ordinal = i + 1;
		request.elements[i].has_eid = true;
		request.elements[i].eid = eids[i];
	}
	esim_enqueue(&request);
}

/* Returns how many refreshes were queued. */
static int64
refresh_all(EsimRequest *sync, const EsimElement *element)
{
	const char *name = element->choice->server->rsp.name;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "esim sync",
												  ALLOCSET_DEFAULT_SIZES);
	EsimRequest probe;
	const EsimChoice *choice;
	Eid			last;
	bool		unnamed;
	int64		total = 0;

	/* do devices that name no server belong to this one? */
	memset(&probe, 0, sizeof(probe));
	probe.kind = esim_kind(RSP_REFRESH);
	probe.caller = sync->caller;
	choice = esim_choose_server(&probe, NULL, false);
	unnamed = choice->server != NULL && strcmp(choice->server->rsp.name, name) == 0;

	memset(&last, 0, sizeof(last));
	for (;;)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		Datum		values[5];
		Eid		   *eids;
		int			n;

		CHECK_FOR_INTERRUPTS();
		values[0] = EidPGetDatum(&last);
		values[1] = PointerGetDatum(cstring_to_text(name));
		values[2] = BoolGetDatum(unnamed);
		values[3] = ObjectIdGetDatum(sync->caller);
		values[4] = Int64GetDatum(SYNC_BATCH);
		esim_execute_latest(&find_devices, values, NULL, 0);
		n = (int) SPI_processed;
		eids = palloc(sizeof(Eid) * Max(n, 1));
		for (int i = 0; i < n; i++)
		{
			EsimRow		row;

			esim_row(&row, SPI_tuptable, i);
			eids[i] = *DatumGetEidP(row.value[0]);
		}
		SPI_freetuptable(SPI_tuptable);
		if (n > 0)
		{
			last = eids[n - 1];
			refresh_devices(sync, element, eids, n);
			total += n;
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
		if (n < SYNC_BATCH)
			break;
	}
	MemoryContextDelete(context);
	return total;
}

/*
 * The operation itself ends at once, SUCCESS: it has queued the refreshes.
 * Each of them has an end of its own.
 */
void
esim_sync_by_refresh(EsimRequest *request, EsimElement *element)
{
	int64		count;
	Datum		values[17];
	char		nulls[17];
	NameData	owner_name;
	SPITupleTable *table;
	uint64		processed;

	esim_uuid7(element->id.data);
	if (element->idempotency_key != NULL && !esim_claim_key(element))
		return;
	count = refresh_all(request, element);

	memset(nulls, ' ', sizeof(nulls));
	namestrcpy(&owner_name, element->owner_name);
	values[0] = UUIDPGetDatum(&element->id);
	values[1] = Int64GetDatum(nextval_internal(esim_relation_oid("esim_operation_seq"), false));
	values[2] = ObjectIdGetDatum(element->owner);
	values[3] = NameGetDatum(&owner_name);
	values[4] = ObjectIdGetDatum(request->caller);
	values[5] = server_name(element);
	values[6] = PointerGetDatum(cstring_to_text(psprintf(INT64_FORMAT " refresh%s queued", count,
														 count == 1 ? "" : "es")));
	values[7] = UUIDPGetDatum(&element->retry_of);
	if (!element->has_retry_of)
		nulls[7] = 'n';
	if (request->correlator != NULL)
		values[8] = PointerGetDatum(cstring_to_text(request->correlator));
	else
		nulls[8] = 'n';
	values[9] = Int16GetDatum(request->priority);
	values[10] = TimestampTzGetDatum(request->not_before);
	if (!request->has_not_before)
		nulls[10] = 'n';
	values[11] = TimestampTzGetDatum(element->expires_at);
	if (element->idempotency_key != NULL)
		values[12] = PointerGetDatum(cstring_to_text(element->idempotency_key));
	else
		nulls[12] = 'n';
	if (request->sink != NULL)
		values[13] = PointerGetDatum(cstring_to_text(request->sink));
	else
		nulls[13] = 'n';
	nulls[14] = nulls[15] = 'n';
	if (request->callback_url != NULL)
	{
		values[14] = PointerGetDatum(cstring_to_text(request->callback_url));
		values[15] = PointerGetDatum(cstring_to_text(request->callback_method));
		nulls[14] = nulls[15] = ' ';
	}
	values[16] = JsonbPGetDatum(request->options);
	esim_execute_latest(&insert_completed, values, nulls, 0);
	table = SPI_tuptable;
	processed = SPI_processed;
	esim_insert_secrets(request, element);
	esim_outbox_write(table, processed, 1);
	esim_wake_at_commit();
}
