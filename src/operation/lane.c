/*-------------------------------------------------------------------------
 *
 * lane.c
 *	  Locking lanes of eUICCs, and reading what is there and ahead under the
 *	  lock.
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

static EsimTable pending_table = {
	"esim_pending", 7, {"eid", "profile", "activate", "operation", "kind", "seq", "lane"}
};
EsimIndex	esim_pending_by_lane = {"esim_pending_lane_idx", &pending_table, 1};
static EsimIndex pending_by_operation = {"esim_pending_operation_key", &pending_table, 1};

void *
esim_grow(void *array, int *size, int needed, size_t width)
{
	if (needed <= *size)
		return array;
	*size = Max(needed, Max(8, *size * 2));
	return array ? repalloc_huge(array, width * *size) : palloc(width * *size);
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

void
esim_lane_add_outside(EsimLane *lane, const ProjectOperation *op)
{
	lane->outside = esim_grow(lane->outside, &lane->outside_size, lane->noutside + 1,
							  sizeof(ProjectOperation));
	lane->outside[lane->noutside++] = *op;
}

/* columns of esim_profile_table */
static void
profile_of_row(EsimRow *row, ProjectProfile *profile)
{
	memset(profile, 0, sizeof(*profile));
	memcpy(profile->id, DatumGetUUIDP(row->value[0])->data, UUID_LEN);
	profile->state = esim_state_of_datum(row->value[6]);
	profile->fallback = DatumGetBool(row->value[15]);
	profile->port = DatumGetInt16(row->value[16]);
}

/* columns of pending_table, the first ones of esim_operation_table too */
void
esim_operation_of_row(EsimRow *row, ProjectOperation *op)
{
	char		kind[32];

	memset(op, 0, sizeof(*op));
	op->has_profile = !row->null[1];
	if (op->has_profile)
		memcpy(op->profile, DatumGetUUIDP(row->value[1])->data, UUID_LEN);
	op->flag = !row->null[2] && DatumGetBool(row->value[2]);
	memcpy(op->id, DatumGetUUIDP(row->value[3])->data, UUID_LEN);
	text_to_cstring_buffer(DatumGetTextPP(row->value[4]), kind, sizeof(kind));
	if (!rsp_kind_from_name(kind, &op->kind))
		elog(ERROR, "unknown kind of operation \"%s\"", kind);
	op->seq = DatumGetInt64(row->value[5]);
}

/* The index scans of esim_read_lanes(). */
typedef struct Reader
{
	EsimScan	profiles_by_eid;
	EsimScan	profiles_by_id;
	EsimScan	pending;
	EsimAheadReader ahead;
} Reader;

void
esim_ahead_open(EsimAheadReader *reader, Snapshot snapshot)
{
	esim_scan_open(&reader->operations, &esim_operation_by_profile, snapshot);
	esim_scan_open(&reader->by_operation, &pending_by_operation, snapshot);
	reader->accepted = esim_enum_value("esim_operation_state", "ACCEPTED");
	reader->waiting_device = esim_enum_value("esim_operation_phase", "WAITING_DEVICE");
}

void
esim_ahead_close(EsimAheadReader *reader)
{
	esim_scan_close(&reader->by_operation);
	esim_scan_close(&reader->operations);
}

void
esim_ahead_search(EsimAheadReader *reader, const pg_uuid_t *profile)
{
	esim_scan_search(&reader->operations, UUIDPGetDatum(profile));
}

bool
esim_ahead_next(EsimAheadReader *reader, EsimAhead *ahead, bool *waiting)
{
	EsimRow		row;
	EsimRow		queued;

	while (esim_scan_next(&reader->operations, &row))
	{
		int			flag = row.null[2] ? 6 : 2;

		if (row.value[7] != reader->accepted)
			continue;
		esim_operation_of_row(&row, &ahead->op);
		ahead->op.flag = !row.null[flag] && DatumGetBool(row.value[flag]);
		if (!row.null[8])
			ahead->op.wanted = esim_subscription_of_datum(row.value[8]);
		ahead->op.fleet = !row.null[9];
		ahead->has_eid = !row.null[0];
		if (ahead->has_eid)
			ahead->eid = *DatumGetEidP(row.value[0]);
		*waiting = row.value[10] == reader->waiting_device;

		esim_scan_search(&reader->by_operation, UUIDPGetDatum((const pg_uuid_t *) ahead->op.id));
		if (esim_scan_next(&reader->by_operation, &queued))
			ahead->op.lane = DatumGetInt64(queued.value[6]);
		/* lanes of eUICCs are odd */
		ahead->op.by_device = ahead->op.kind == RSP_DOWNLOAD && (ahead->op.lane & 1) == 0;
		return true;
	}
	return false;
}

/* what is on the eUICC and ahead of it */
static void
read_lane(Reader *reader, EsimLane *lane, int64 number)
{
	EsimRow		row;

	esim_scan_search(&reader->profiles_by_eid, EidPGetDatum(&lane->eid));
	while (esim_scan_next(&reader->profiles_by_eid, &row))
	{
		ProjectProfile profile;

		profile_of_row(&row, &profile);
		if (esim_on_euicc(profile.state))
			esim_lane_add_profile(lane, &profile);
	}
	esim_scan_search(&reader->pending, Int64GetDatum(number));
	while (esim_scan_next(&reader->pending, &row))
	{
		ProjectOperation op;

		esim_operation_of_row(&row, &op);
		op.lane = number;
		esim_lane_add_operation(lane, &op);
	}
}

/* the profile that is asked for, wherever it is */
static void
read_target(EsimRequest *request, Reader *reader, EsimElement *element, EsimScratch *scratch)
{
	const pg_uuid_t *id = &element->profile->id;
	ProjectProfile *here = esim_lane_profile(scratch->lane, id);
	EsimRow		row;

	if (here != NULL)
	{
		scratch->target_found = true;
		scratch->target = *here;
		scratch->target_has_eid = true;
		scratch->target_eid = scratch->lane->eid;
	}
	else
	{
		esim_scan_search(&reader->profiles_by_id, UUIDPGetDatum(id));
		if (esim_scan_next(&reader->profiles_by_id, &row))
		{
			scratch->target_found = true;
			profile_of_row(&row, &scratch->target);
			scratch->target_has_eid = !row.null[2];
			if (scratch->target_has_eid)
				scratch->target_eid = *DatumGetEidP(row.value[2]);
		}
	}

	/*
	 * Its open operations in all lanes count for a download, and where it is not
	 * on the eUICC yet; else those in the network, which are rare.
	 */
	if (element->fresh)
		return;
	if (!request->kind->adds_profile && here != NULL)
	{
		esim_scan_search(&reader->pending, Int64GetDatum(element->profile->lane));
		if (!esim_scan_next(&reader->pending, &row))
			return;
	}
	esim_ahead_search(&reader->ahead, id);
	for (;;)
	{
		bool		waiting;

		scratch->ahead = esim_grow(scratch->ahead, &scratch->ahead_size, scratch->nahead + 1,
								   sizeof(EsimAhead));
		if (!esim_ahead_next(&reader->ahead, &scratch->ahead[scratch->nahead], &waiting))
			break;
		scratch->nahead++;
	}
}

/*
 * Lock the lanes of the elements of a chunk (sorted by EID) and take the
 * devices as they are now.  Those that have gone meanwhile fail.
 */
void
esim_lock_lanes(EsimRequest *request, EsimElement **chunk, int n)
{
	Snapshot	snapshot = esim_latest_snapshot();
	EsimScan	scan;
	EsimRow		row;

	esim_scan_open(&scan, &esim_device_by_eid, snapshot);
	for (int i = 0; i < n; i++)
	{
		Eid			eid = chunk[i]->device->eid;
		EsimDevice *device = NULL;

		if (i > 0 && esim_same_eid(&eid, &chunk[i - 1]->device->eid))
		{
			chunk[i]->device = chunk[i - 1]->device;
			chunk[i]->owner = chunk[i - 1]->owner;
			chunk[i]->owner_name = chunk[i - 1]->owner_name;
			chunk[i]->failure = chunk[i - 1]->failure;
			continue;
		}
		esim_scan_search(&scan, EidPGetDatum(&eid));
		if (esim_scan_next(&scan, &row) && esim_scan_lock(&scan, &row))
			device = esim_device_of_row(&row);
		if (device == NULL || !esim_same_eid(&device->eid, &eid) ||
			!esim_request_may_act_for(request, device->owner, device->owner_name))
			chunk[i]->failure = esim_unknown_device(&eid);
		else if (device->retired)
			chunk[i]->failure = esim_retired_device(&eid);
		else
		{
			chunk[i]->device = device;
			chunk[i]->owner = device->owner;
			chunk[i]->owner_name = device->owner_name;
		}
	}
	esim_scan_close(&scan);
	UnregisterSnapshot(snapshot);
}

/*
 * Read, in one snapshot, the profiles on the eUICCs, the profiles that are
 * asked for wherever they are, the operations ahead, and where they count all
 * open operations of the profile.  The lanes are locked.
 */
void
esim_read_lanes(EsimRequest *request, EsimElement **chunk, int n, EsimScratch *scratch)
{
	EsimLane   *lanes = palloc0(sizeof(EsimLane) * n);
	Snapshot	snapshot = esim_latest_snapshot();
	Reader		reader;
	int			nlanes = 0;

	esim_scan_open(&reader.profiles_by_eid, &esim_profile_by_eid, snapshot);
	esim_scan_open(&reader.profiles_by_id, &esim_profile_by_id, snapshot);
	esim_scan_open(&reader.pending, &esim_pending_by_lane, snapshot);
	esim_ahead_open(&reader.ahead, snapshot);
	for (int i = 0; i < n; i++)
	{
		if (nlanes == 0 || !esim_same_eid(&lanes[nlanes - 1].eid, &chunk[i]->device->eid))
		{
			lanes[nlanes].eid = chunk[i]->device->eid;
			lanes[nlanes].number = chunk[i]->device->lane;
			read_lane(&reader, &lanes[nlanes++], chunk[i]->device->lane);
		}
		scratch[i].lane = &lanes[nlanes - 1];
		if (request->kind->of_profile)
			read_target(request, &reader, chunk[i], &scratch[i]);
	}
	esim_ahead_close(&reader.ahead);
	esim_scan_close(&reader.pending);
	esim_scan_close(&reader.profiles_by_id);
	esim_scan_close(&reader.profiles_by_eid);
	UnregisterSnapshot(snapshot);
}
