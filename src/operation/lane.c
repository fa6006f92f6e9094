/*-------------------------------------------------------------------------
 *
 * lane.c
 *	  Locking lanes, and reading what is there and ahead under the lock.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "operation/enqueue.h"

static EsimStatement lock_devices = {
	"SELECT d.eid, d.owner, d.owner_name, d.server, d.retired_at, d.lane"
	" FROM @esim_device d WHERE d.eid = ANY ($1) ORDER BY d.eid FOR NO KEY UPDATE",
	1, {"@eid[]"}
};

static EsimTable pending_table = {
	"esim_pending", 6, {"eid", "profile", "activate", "operation", "kind", "seq"}
};
static EsimIndex pending_by_lane = {"esim_pending_lane_idx", &pending_table};
static EsimTable operation_table = {
	"esim_operation", 8, {"eid", "profile", "activate_on_download", "id", "kind", "seq", "release", "status"}
};
static EsimIndex operation_by_profile = {"esim_operation_profile_idx", &operation_table};

/*
 * In one statement, that is in one snapshot: the profiles on the eUICCs, the
 * profiles that are asked for wherever they are, the operations ahead, and for
 * downloads all open operations of the profile in whatever lane.
 */
static EsimStatement read_lanes = {
	"SELECT 0, 0::int8, p.eid, p.id, p.state, p.is_fallback, p.port, NULL::uuid, NULL::text, 0::int8"
	" FROM @esim_profile p"
	" WHERE p.eid = ANY ($1) AND p.state IN ('INSTALLED', 'DISABLED', 'ENABLED')"
	" UNION ALL "
	"SELECT 1, u.n, p.eid, p.id, p.state, p.is_fallback, p.port, NULL, NULL, 0"
	" FROM unnest($2) WITH ORDINALITY AS u(id, n) JOIN @esim_profile p ON p.id = u.id"
	" UNION ALL "
	"SELECT 2, 0, q.eid, q.profile, NULL, q.activate, 0::int2, q.operation, q.kind, q.seq"
	" FROM @esim_pending q WHERE q.lane = ANY ($3)",
	3, {"@eid[]", "uuid[]", "int8[]"}
};
static EsimStatement read_download_lanes = {
	"SELECT 0, 0::int8, p.eid, p.id, p.state, p.is_fallback, p.port, NULL::uuid, NULL::text, 0::int8"
	" FROM @esim_profile p"
	" WHERE p.eid = ANY ($1) AND p.state IN ('INSTALLED', 'DISABLED', 'ENABLED')"
	" UNION ALL "
	"SELECT 1, u.n, p.eid, p.id, p.state, p.is_fallback, p.port, NULL, NULL, 0"
	" FROM unnest($2) WITH ORDINALITY AS u(id, n) JOIN @esim_profile p ON p.id = u.id"
	" UNION ALL "
	"SELECT 2, 0, q.eid, q.profile, NULL, q.activate, 0::int2, q.operation, q.kind, q.seq"
	" FROM @esim_pending q WHERE q.lane = ANY ($3)"
	" UNION ALL "
	"SELECT 3, u.n, o.eid, o.profile, NULL,"
	" CASE WHEN o.kind = 'download' THEN o.activate_on_download ELSE o.release END,"
	" 0::int2, o.id, o.kind, o.seq"
	" FROM unnest($2) WITH ORDINALITY AS u(id, n) JOIN @esim_operation o ON o.profile = u.id"
	" WHERE o.status = 'ACCEPTED'",
	3, {"@eid[]", "uuid[]", "int8[]"}
};

void *
esim_grow(void *array, int *size, int needed, size_t width)
{
	if (needed <= *size)
		return array;
	*size = Max(needed, Max(8, *size * 2));
	return array ? repalloc_huge(array, width * *size) : palloc(width * *size);
}

static int
compare_lane(const void *key, const void *b)
{
	return eid_compare(key, &((const EsimLane *) b)->eid);
}

ProjectProfile *
esim_lane_profile(EsimLane *lane, const pg_uuid_t *id)
{
	for (int i = 0; i < lane->nprofiles; i++)
	{
		if (memcmp(lane->profiles[i].id, id->data, UUID_LEN) == 0)
			return &lane->profiles[i];
	}
	return NULL;
}

void
esim_lane_add_profile(EsimLane *lane, const ProjectProfile *profile)
{
	lane->profiles = esim_grow(lane->profiles, &lane->profiles_size, lane->nprofiles + 1,
						  sizeof(ProjectProfile));
	lane->profiles[lane->nprofiles++] = *profile;
}

void
esim_lane_add_operation(EsimLane *lane, const ProjectOperation *op)
{
	lane->ops = esim_grow(lane->ops, &lane->ops_size, lane->nops + 1, sizeof(ProjectOperation));
	lane->ops[lane->nops++] = *op;
}

static int
compare_operation(const void *a, const void *b)
{
	const ProjectOperation *x = a;
	const ProjectOperation *y = b;

	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static int
compare_ahead(const void *a, const void *b)
{
	return compare_operation(&((const EsimAhead *) a)->op, &((const EsimAhead *) b)->op);
}

static void
take_profile_row(EsimLane *lane, EsimScratch *target, const pg_uuid_t *id, Datum state,
				 bool fallback, int port, const Eid *eid)
{
	ProjectProfile profile;

	memset(&profile, 0, sizeof(profile));
	memcpy(profile.id, id->data, UUID_LEN);
	profile.state = esim_state_of_datum(state);
	profile.fallback = fallback;
	profile.port = port;
	if (lane != NULL)
		esim_lane_add_profile(lane, &profile);
	if (target != NULL)
	{
		target->target_found = true;
		target->target = profile;
		target->target_has_eid = eid != NULL;
		if (eid != NULL)
			target->target_eid = *eid;
	}
}

/* an operation ahead, of the lane or, with its EID, of the profile */
static void
take_operation_row(EsimLane *lane, EsimScratch *target, const pg_uuid_t *id, text *kind_name,
				   int64 seq, const pg_uuid_t *profile, bool flag, const Eid *eid)
{
	ProjectOperation op;
	char		kind[32];

	memset(&op, 0, sizeof(op));
	memcpy(op.id, id->data, UUID_LEN);
	text_to_cstring_buffer(kind_name, kind, sizeof(kind));
	if (!rsp_kind_from_name(kind, &op.kind))
		elog(ERROR, "unknown kind of operation \"%s\"", kind);
	op.seq = seq;
	op.has_profile = profile != NULL;
	if (profile != NULL)
		memcpy(op.profile, profile->data, UUID_LEN);
	op.flag = flag;
	if (lane != NULL)
		esim_lane_add_operation(lane, &op);
	else
	{
		EsimAhead  *ahead;

		target->ahead = esim_grow(target->ahead, &target->ahead_size, target->nahead + 1,
								  sizeof(EsimAhead));
		ahead = &target->ahead[target->nahead++];
		memset(ahead, 0, sizeof(*ahead));
		ahead->op = op;
		ahead->has_eid = eid != NULL;
		if (eid != NULL)
			ahead->eid = *eid;
	}
}

/* columns of read_lanes */
static void
take_row(EsimRow *row, EsimLane *lanes, int nlanes, EsimScratch *scratch)
{
	int			what = DatumGetInt32(row->value[0]);
	int64		n = DatumGetInt64(row->value[1]);
	Eid		   *eid = row->null[2] ? NULL : DatumGetEidP(row->value[2]);
	EsimLane   *lane = NULL;
	EsimScratch *target = n > 0 ? &scratch[n - 1] : NULL;

	if (what == 0 || what == 2)
	{
		lane = eid ? bsearch(eid, lanes, nlanes, sizeof(EsimLane), compare_lane) : NULL;
		if (lane == NULL)
			elog(ERROR, "row of another lane");
	}
	if (what <= 1)
		take_profile_row(lane, target, DatumGetUUIDP(row->value[3]), row->value[4],
						 DatumGetBool(row->value[5]), DatumGetInt16(row->value[6]), eid);
	else
		take_operation_row(lane, target, DatumGetUUIDP(row->value[7]),
						   DatumGetTextPP(row->value[8]), DatumGetInt64(row->value[9]),
						   row->null[3] ? NULL : DatumGetUUIDP(row->value[3]),
						   !row->null[5] && DatumGetBool(row->value[5]), eid);
}

/* The same for one element, by index: all with one snapshot. */
static void
read_one(EsimRequest *request, EsimElement *element, EsimLane *lane, EsimScratch *scratch)
{
	Snapshot	snapshot = esim_latest_snapshot();
	const pg_uuid_t *wanted = request->kind->of_profile ? &element->profile->id : NULL;
	EsimScan	scan;
	EsimRow		row;

	esim_scan_begin(&scan, &esim_profile_by_eid, EidPGetDatum(&lane->eid), snapshot);
	while (esim_scan_next(&scan, &row))
	{
		pg_uuid_t  *id = DatumGetUUIDP(row.value[0]);
		bool		is_target = wanted != NULL && memcmp(id, wanted, sizeof(pg_uuid_t)) == 0;
		bool		here = esim_on_euicc(esim_state_of_datum(row.value[6]));

		if (here || is_target)
			take_profile_row(here ? lane : NULL, is_target ? scratch : NULL, id, row.value[6],
							 DatumGetBool(row.value[15]), DatumGetInt16(row.value[16]), &lane->eid);
	}
	esim_scan_end(&scan);

	if (wanted != NULL && !scratch->target_found)
	{
		esim_scan_begin(&scan, &esim_profile_by_id, UUIDPGetDatum(wanted), snapshot);
		if (esim_scan_next(&scan, &row))
			take_profile_row(NULL, scratch, DatumGetUUIDP(row.value[0]), row.value[6],
							 DatumGetBool(row.value[15]), DatumGetInt16(row.value[16]),
							 row.null[2] ? NULL : DatumGetEidP(row.value[2]));
		esim_scan_end(&scan);
	}

	esim_scan_begin(&scan, &pending_by_lane, Int64GetDatum(element->device->lane), snapshot);
	while (esim_scan_next(&scan, &row))
		take_operation_row(lane, NULL, DatumGetUUIDP(row.value[3]), DatumGetTextPP(row.value[4]),
						   DatumGetInt64(row.value[5]),
						   row.null[1] ? NULL : DatumGetUUIDP(row.value[1]),
						   DatumGetBool(row.value[2]), NULL);
	esim_scan_end(&scan);

	if (request->kind->adds_profile && !element->fresh)
	{
		Datum		open = esim_enum_value("esim_operation_state", "ACCEPTED");

		esim_scan_begin(&scan, &operation_by_profile, UUIDPGetDatum(wanted), snapshot);
		while (esim_scan_next(&scan, &row))
		{
			int			flag = row.null[2] ? 6 : 2;

			if (row.value[7] != open)
				continue;
			take_operation_row(NULL, scratch, DatumGetUUIDP(row.value[3]),
							   DatumGetTextPP(row.value[4]), DatumGetInt64(row.value[5]), wanted,
							   !row.null[flag] && DatumGetBool(row.value[flag]),
							   row.null[0] ? NULL : DatumGetEidP(row.value[0]));
		}
		esim_scan_end(&scan);
	}
	UnregisterSnapshot(snapshot);
}

static bool
usable(EsimRequest *request, const EsimDevice *device)
{
	return !device->retired &&
		esim_request_may_act_for(request, device->owner, device->owner_name);
}

static void
lock_one(EsimRequest *request, EsimElement *element)
{
	Snapshot	snapshot = esim_latest_snapshot();
	EsimDevice *device = NULL;
	EsimScan	scan;
	EsimRow		row;

	esim_scan_begin(&scan, &esim_device_by_eid, EidPGetDatum(&element->device->eid), snapshot);
	if (esim_scan_next(&scan, &row) && esim_scan_lock(&scan, snapshot, &row))
		device = esim_device_of_row(&row, 0);
	esim_scan_end(&scan);
	UnregisterSnapshot(snapshot);
	if (device == NULL || !usable(request, device) ||
		!esim_same_eid(&device->eid, &element->device->eid))
		element->failure = esim_unknown_device(&element->device->eid);
	else
		element->device = device;
}

/*
 * Lock the lanes of the elements of a chunk (sorted by EID) and take the
 * devices as they are now.  Those that have gone meanwhile fail.
 */
void
esim_lock_lanes(EsimRequest *request, EsimElement **chunk, int n)
{
	Datum		value;
	Datum	   *eids;
	int			count = 0;
	int			next = 0;

	if (n == 1)
	{
		lock_one(request, chunk[0]);
		return;
	}
	eids = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
	{
		if (i == 0 || !esim_same_eid(&chunk[i]->device->eid, &chunk[i - 1]->device->eid))
			eids[count++] = EidPGetDatum(&chunk[i]->device->eid);
	}
	value = esim_make_array(eids, NULL, count, esim_type_oid("eid"));
	esim_execute_latest(&lock_devices, &value, NULL, 0);
	pfree(eids);
	pfree(DatumGetPointer(value));

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		EsimRow		row;
		EsimDevice *device;

		esim_row(&row, SPI_tuptable, i);
		device = esim_device_of_row(&row, 0);
		for (; next < n; next++)
		{
			int			cmp = eid_compare(&chunk[next]->device->eid, &device->eid);

			if (cmp > 0)
				break;
			if (cmp < 0 || !usable(request, device))
				chunk[next]->failure = esim_unknown_device(&chunk[next]->device->eid);
			else
				chunk[next]->device = device;
		}
	}
	for (; next < n; next++)
		chunk[next]->failure = esim_unknown_device(&chunk[next]->device->eid);
	SPI_freetuptable(SPI_tuptable);
}

void
esim_read_lanes(EsimRequest *request, EsimElement **chunk, int n, EsimScratch *scratch)
{
	EsimLane   *lanes = palloc0(sizeof(EsimLane) * n);
	int			nlanes = 0;
	Datum		values[3];

	for (int i = 0; i < n; i++)
	{
		if (nlanes == 0 || !esim_same_eid(&lanes[nlanes - 1].eid, &chunk[i]->device->eid))
			lanes[nlanes++].eid = chunk[i]->device->eid;
		scratch[i].lane = &lanes[nlanes - 1];
	}

	if (n == 1)
		read_one(request, chunk[0], &lanes[0], &scratch[0]);
	else
	{
		Datum	   *eids = palloc(sizeof(Datum) * n);
		Datum	   *ids = palloc(sizeof(Datum) * n);
		bool	   *nulls = palloc0(sizeof(bool) * n);
		Datum	   *numbers = palloc(sizeof(Datum) * n);
		int			count = 0;

		for (int i = 0; i < n; i++)
		{
			nulls[i] = !request->kind->of_profile;
			ids[i] = nulls[i] ? (Datum) 0 : UUIDPGetDatum(&chunk[i]->profile->id);
			if (i > 0 && scratch[i].lane == scratch[i - 1].lane)
				continue;
			eids[count] = EidPGetDatum(&chunk[i]->device->eid);
			numbers[count++] = Int64GetDatum(chunk[i]->device->lane);
		}
		values[0] = esim_make_array(eids, NULL, count, esim_type_oid("eid"));
		values[1] = esim_make_array(ids, nulls, n, UUIDOID);
		values[2] = esim_make_array(numbers, NULL, count, INT8OID);
		esim_execute_latest(request->kind->adds_profile ? &read_download_lanes : &read_lanes,
							values, NULL, 0);
		pfree(eids);
		pfree(ids);
		pfree(nulls);
		pfree(numbers);
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			EsimRow		row;

			esim_row(&row, SPI_tuptable, i);
			take_row(&row, lanes, nlanes, scratch);
		}
		SPI_freetuptable(SPI_tuptable);
	}

	for (int i = 0; i < nlanes; i++)
	{
		if (lanes[i].nops > 1)
			qsort(lanes[i].ops, lanes[i].nops, sizeof(ProjectOperation), compare_operation);
	}
	for (int i = 0; i < n; i++)
	{
		if (scratch[i].nahead > 1)
			qsort(scratch[i].ahead, scratch[i].nahead, sizeof(EsimAhead), compare_ahead);
	}
}
