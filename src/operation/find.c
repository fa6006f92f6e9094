/*-------------------------------------------------------------------------
 *
 * find.c
 *	  Finding the devices and profiles that a request is about.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "access/xact.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "operation/enqueue.h"
#include "right/right.h"

EsimTable	esim_device_table = {
	"esim_device", 6, {"eid", "owner", "owner_name", "server", "retired_at", "lane"}
};
EsimTable	esim_profile_table = {
	"esim_profile", 23,
	{"id", "iccid", "eid", "reserved_eid", "owner", "owner_name", "state", "profile_class", "drift",
		"lane", "created_at", "activation_code", "smdp_address", "matching_id", "redownload",
		"is_fallback", "port", "server", "subscription_server", "subscription_status", "fleet",
	"sim_id", "rsp_id"}
};
EsimTable	esim_operation_table = {
	"esim_operation", 11,
	{"eid", "profile", "activate_on_download", "id", "kind", "seq", "release", "status",
	"subscription_status", "fleet", "phase"}
};
EsimIndex	esim_device_by_eid = {"esim_device_pkey", &esim_device_table, 1};
EsimIndex	esim_profile_by_id = {"esim_profile_pkey", &esim_profile_table, 1};
EsimIndex	esim_profile_by_eid = {"esim_profile_eid_idx", &esim_profile_table, 1};
EsimIndex	esim_operation_by_profile = {"esim_operation_profile_idx", &esim_operation_table, 1};
static EsimIndex device_by_owner = {"esim_device_owner_eid_idx", &esim_device_table, 2};
static EsimIndex profile_by_iccid = {"esim_profile_iccid_idx", &esim_profile_table, 1};
static EsimIndex profile_by_iccid_owner = {"esim_profile_iccid_idx", &esim_profile_table, 2};

bool
esim_request_may_act_for(EsimRequest *request, Oid owner, const char *owner_name)
{
	if (request->known_owner_name == NULL || request->known_owner != owner ||
		strcmp(request->known_owner_name, owner_name) != 0)
	{
		request->known_may = esim_may_act_for(request->caller, owner, owner_name);
		request->known_owner = owner;
		request->known_owner_name = pstrdup(owner_name);
	}
	return request->known_may;
}

static char *
text_or_null(EsimRow *row, int column)
{
	return row->null[column] ? NULL : TextDatumGetCString(row->value[column]);
}

/* columns of esim_device_table */
EsimDevice *
esim_device_of_row(EsimRow *row)
{
	EsimDevice *device = palloc(sizeof(EsimDevice));

	device->eid = *DatumGetEidP(row->value[0]);
	device->owner = DatumGetObjectId(row->value[1]);
	device->owner_name = pstrdup(NameStr(*DatumGetName(row->value[2])));
	device->server = text_or_null(row, 3);
	device->retired = !row->null[4];
	device->lane = DatumGetInt64(row->value[5]);
	return device;
}

/* A label of esim_profile_state. */
RspState
esim_state_of_datum(Datum value)
{
	static Oid	known_type = InvalidOid;
	static Oid	known[RSP_STATE_COUNT];
	Oid			type = esim_type_oid("esim_profile_state");
	Oid			label = DatumGetObjectId(value);

	for (int pass = 0; pass < 2; pass++)
	{
		if (known_type == type)
		{
			for (int i = RSP_STATE_NONE + 1; i < RSP_STATE_COUNT; i++)
			{
				if (known[i] == label)
					return (RspState) i;
			}
		}
		known_type = InvalidOid;
		for (int i = RSP_STATE_NONE + 1; i < RSP_STATE_COUNT; i++)
			known[i] = GetSysCacheOid2(ENUMTYPOIDNAME, Anum_pg_enum_oid, ObjectIdGetDatum(type),
									   CStringGetDatum(rsp_state_name(i)));
		known_type = type;
	}
	elog(ERROR, "unknown profile state %u", label);
	return RSP_STATE_NONE;
}

/* A label of esim_subscription_status. */
ProjectSubscription
esim_subscription_of_datum(Datum value)
{
	HeapTuple	tuple = SearchSysCache1(ENUMOID, value);
	ProjectSubscription status = PROJECT_UNKNOWN;

	if (!HeapTupleIsValid(tuple) ||
		!project_subscription_from_name(NameStr(((Form_pg_enum) GETSTRUCT(tuple))->enumlabel),
										&status))
		elog(ERROR, "unknown subscription status %u", DatumGetObjectId(value));
	ReleaseSysCache(tuple);
	return status;
}

/* columns of esim_profile_table */
EsimProfile *
esim_profile_of_row(EsimRow *row)
{
	EsimProfile *profile = palloc0(sizeof(EsimProfile));
	text	   *class;

	profile->id = *DatumGetUUIDP(row->value[0]);
	profile->has_iccid = !row->null[1];
	if (profile->has_iccid)
		profile->iccid = DatumGetIccid(row->value[1]);
	profile->has_eid = !row->null[2];
	if (profile->has_eid)
		profile->eid = *DatumGetEidP(row->value[2]);
	profile->has_reserved_eid = !row->null[3];
	if (profile->has_reserved_eid)
		profile->reserved_eid = *DatumGetEidP(row->value[3]);
	profile->owner = DatumGetObjectId(row->value[4]);
	profile->owner_name = pstrdup(NameStr(*DatumGetName(row->value[5])));
	profile->state = esim_state_of_datum(row->value[6]);
	class = DatumGetTextPP(row->value[7]);
	profile->plain = !DatumGetBool(row->value[8]) &&
		VARSIZE_ANY_EXHDR(class) == strlen("OPERATIONAL") &&
		memcmp(VARDATA_ANY(class), "OPERATIONAL", strlen("OPERATIONAL")) == 0;
	profile->lane = DatumGetInt64(row->value[9]);
	profile->created_at = DatumGetTimestampTz(row->value[10]);
	if (!row->null[11])
		profile->activation_code = PG_DETOAST_DATUM_COPY(row->value[11]);
	profile->smdp_address = text_or_null(row, 12);
	profile->matching_id = text_or_null(row, 13);
	profile->redownload = text_or_null(row, 14);
	profile->server = text_or_null(row, 17);
	profile->subscription_server = text_or_null(row, 18);
	if (!row->null[19])
		profile->subscription = esim_subscription_of_datum(row->value[19]);
	profile->has_fleet = !row->null[20];
	profile->has_sim = !row->null[21] || !row->null[22];
	profile->rsp_id = text_or_null(row, 22);
	return profile;
}

bool
esim_on_euicc(RspState state)
{
	return state == RSP_STATE_INSTALLED || state == RSP_STATE_DISABLED ||
		state == RSP_STATE_ENABLED;
}

static bool
is_dead(RspState state)
{
	return state == RSP_STATE_DELETED || state == RSP_STATE_CANCELLED ||
		state == RSP_STATE_FAILED;
}

bool
esim_same_eid(const Eid *a, const Eid *b)
{
	return memcmp(a, b, sizeof(Eid)) == 0;
}

Datum
esim_make_array(Datum *values, bool *nulls, int n, Oid type)
{
	int16		length;
	bool		byval;
	char		align;
	int			lower = 1;

	get_typlenbyvalalign(type, &length, &byval, &align);
	return PointerGetDatum(construct_md_array(values, nulls, 1, &n, &lower, type, length, byval, align));
}

/* The text is the same for unknown and foreign ones. */
EsimFailure *
esim_unknown_device(const Eid *eid)
{
	return esim_failure("IDENTIFIER_NOT_FOUND",
						psprintf("eUICC \"%s\" is not known", esim_mask_eid(eid)),
						pstrdup("There is no device of yours with this EID."),
						pstrdup("Register it in esim_device first."));
}

/* Only of one that the caller may act for. */
EsimFailure *
esim_retired_device(const Eid *eid)
{
	return esim_failure("IDENTIFIER_NOT_FOUND",
						psprintf("eUICC \"%s\" is retired", esim_mask_eid(eid)),
						pstrdup("Nothing is asked of a device that has retired_at."),
						pstrdup("Set retired_at in esim_device to NULL if it is in use again."));
}

EsimFailure *
esim_unknown_profile(const EsimElement *element)
{
	return esim_failure("IDENTIFIER_NOT_FOUND",
						psprintf("profile \"%s\" is not known",
								 element->has_profile ? esim_mask_uuid(&element->profile_id) :
								 esim_mask_iccid(element->iccid)),
						pstrdup("There is no profile of yours with this identifier."),
						pstrdup("Only esim_download() and esim_reserve() add a profile that is not known yet."));
}

static EsimFailure *
profile_elsewhere(const EsimElement *element)
{
	return esim_failure("IDENTIFIER_MISMATCH",
						psprintf("profile \"%s\" is not on eUICC \"%s\"",
								 esim_profile_label(element), esim_mask_eid(&element->eid)),
						pstrdup("The EID and the profile do not belong together."),
						pstrdup("Give one of the two."));
}

char *
esim_profile_label(const EsimElement *element)
{
	if (element->profile != NULL && element->profile->has_iccid)
		return esim_mask_iccid(element->profile->iccid);
	if (element->has_iccid)
		return esim_mask_iccid(element->iccid);
	return element->profile ? esim_mask_uuid(&element->profile->id) : pstrdup("?");
}

/*
 * Only what is the caller's is searched, by owner: a device of somebody else
 * is not even met, so that no counter tells that it is there.
 */
static EsimDevice *
load_device(EsimScan *devices, List *owners, const Eid *eid)
{
	EsimRow		row;
	ListCell   *cell;

	if (owners == NIL)
	{
		esim_scan_search(devices, EidPGetDatum(eid));
		return esim_scan_next(devices, &row) ? esim_device_of_row(&row) : NULL;
	}
	foreach(cell, owners)
	{
		esim_scan_search2(devices, ObjectIdGetDatum(lfirst_oid(cell)), EidPGetDatum(eid));
		if (esim_scan_next(devices, &row))
			return esim_device_of_row(&row);
	}
	return NULL;
}

static EsimIndex *
devices_of(List *owners)
{
	return owners ? &device_by_owner : &esim_device_by_eid;
}

static EsimIndex *
profiles_of(List *owners)
{
	return owners ? &profile_by_iccid_owner : &profile_by_iccid;
}

/* the transaction's, with our own changes; unregister it */
static Snapshot
current_snapshot(void)
{
	CommandCounterIncrement();
	return RegisterSnapshot(GetTransactionSnapshot());
}

/* whose rows the caller may act for, NIL: everybody's */
static List *
owners_for(Oid caller)
{
	return superuser_arg(caller) ? NIL : esim_roles_of(caller);
}

/*
 * Several rows may have an ICCID: one that is dead and its successor, test
 * profiles on many eUICCs, another owner's.  Greater is better.
 */
static int
rank(const EsimElement *element, const EsimProfile *profile)
{
	int			rank = 0;

	if (!is_dead(profile->state))
		rank += 8;
	if (element->has_eid && profile->has_eid && esim_same_eid(&element->eid, &profile->eid))
		rank += 4;
	if (profile->plain)
		rank += 2;
	if (profile->state == RSP_STATE_DELETED)
		rank += 1;
	return rank;
}

/* A row with the element's identifier: take it if it is the best so far. */
static void
take_profile(EsimRequest *request, EsimElement *element, EsimProfile *profile)
{
	int			better;

	if (!esim_request_may_act_for(request, profile->owner, profile->owner_name))
		return;

	/*
	 * A download, or a reservation, takes a row of the owner for whom it would
	 * add one; another owner's row of the same ICCID is another profile to us.
	 */
	if (request->kind->adds_profile && !element->has_profile &&
		profile->owner != (element->device != NULL ? element->device->owner : request->caller))
		return;
	if (OidIsValid(element->wanted_owner) && profile->owner != element->wanted_owner)
		return;

	if (element->profile != NULL)
	{
		better = rank(element, profile) - rank(element, element->profile);
		if (better == 0 && !is_dead(profile->state) && element->failure == NULL)
			element->failure =
				esim_failure("MISSING_IDENTIFIER",
							 psprintf("ICCID \"%s\" names more than one profile",
									  esim_mask_iccid(element->iccid)),
							 pstrdup("It stands in several rows of esim_profile."),
							 pstrdup("Give the EID too, or the row in the parameter profile."));
		if (better < 0 ||
			(better == 0 && profile->created_at <= element->profile->created_at))
			return;
		if (better > 0)
			element->failure = NULL;
	}
	element->profile = profile;
}

static void
take_profiles(EsimRequest *request, EsimElement *element, EsimScan *scan)
{
	EsimRow		row;

	while (esim_scan_next(scan, &row))
		take_profile(request, element, esim_profile_of_row(&row));
}

/*
 * The profile with the element's identifier, by its row if that is given, and
 * the device on which it is.
 */
void
esim_find_profile(EsimRequest *request, EsimFinder *finder, EsimElement *element)
{
	for (;;)
	{
		EsimDevice *device;

		if (element->has_profile)
		{
			esim_scan_search(&finder->by_id, UUIDPGetDatum(&element->profile_id));
			take_profiles(request, element, &finder->by_id);
		}
		else if (finder->owners == NIL)
		{
			esim_scan_search(&finder->by_iccid, IccidGetDatum(element->iccid));
			take_profiles(request, element, &finder->by_iccid);
		}
		else
		{
			ListCell   *cell;

			foreach(cell, finder->owners)
			{
				esim_scan_search2(&finder->by_iccid, IccidGetDatum(element->iccid),
								  ObjectIdGetDatum(lfirst_oid(cell)));
				take_profiles(request, element, &finder->by_iccid);
			}
		}
		if (element->failure == NULL || !element->has_eid || OidIsValid(element->wanted_owner))
			break;
		/* several owners have the ICCID: that of the EID's device is meant */
		device = load_device(&finder->devices, finder->owners, &element->eid);
		/* somebody else's device must look like none */
		if (device == NULL ||
			!esim_request_may_act_for(request, device->owner, device->owner_name))
			break;
		element->wanted_owner = device->owner;
		element->profile = NULL;
		element->failure = NULL;
	}
	if (request->kind->lane == ESIM_LANE_EUICC && !request->kind->adds_profile &&
		element->profile != NULL && element->profile->has_eid)
		element->device = load_device(&finder->devices, finder->owners, &element->profile->eid);
}

/*
 * A profile that is not on an eUICC, or not on the one that is named, may be on
 * its way there: then that one's lane is meant.
 */
static void
follow_downloads(EsimFinder *finder, EsimElement *element)
{
	EsimProfile *profile = element->profile;
	EsimRow		row;
	bool		found = false;
	RspKind		kind;
	char		name[32];
	Datum		accepted;

	if (esim_on_euicc(profile->state) &&
		(!element->has_eid || esim_same_eid(&element->eid, &profile->eid)))
		return;
	accepted = esim_enum_value("esim_operation_state", "ACCEPTED");
	esim_scan_search(&finder->operations, UUIDPGetDatum(&profile->id));
	while (esim_scan_next(&finder->operations, &row))
	{
		if (row.value[7] != accepted || row.null[0])
			continue;
		text_to_cstring_buffer(DatumGetTextPP(row.value[4]), name, sizeof(name));
		if (!rsp_kind_from_name(name, &kind) || kind != RSP_DOWNLOAD)
			continue;
		if (element->has_eid && !esim_same_eid(&element->eid, DatumGetEidP(row.value[0])))
			continue;
		/* the last one counts */
		found = true;
		profile->has_eid = true;
		profile->eid = *DatumGetEidP(row.value[0]);
	}
	if (found)
		element->device = load_device(&finder->devices, finder->owners, &profile->eid);
}

void
esim_finder_open(EsimFinder *finder, Oid caller)
{
	finder->snapshot = esim_latest_snapshot();
	finder->owners = owners_for(caller);
	esim_scan_open(&finder->devices, devices_of(finder->owners), finder->snapshot);
	esim_scan_open(&finder->by_id, &esim_profile_by_id, finder->snapshot);
	esim_scan_open(&finder->by_iccid, profiles_of(finder->owners), finder->snapshot);
	esim_scan_open(&finder->operations, &esim_operation_by_profile, finder->snapshot);
}

void
esim_finder_close(EsimFinder *finder)
{
	esim_scan_close(&finder->operations);
	esim_scan_close(&finder->by_iccid);
	esim_scan_close(&finder->by_id);
	esim_scan_close(&finder->devices);
	UnregisterSnapshot(finder->snapshot);
}

EsimDevice *
esim_find_device(Oid caller, const Eid *eid)
{
	List	   *owners = owners_for(caller);
	Snapshot	snapshot = current_snapshot();
	EsimScan	scan;
	EsimDevice *device;

	esim_scan_open(&scan, devices_of(owners), snapshot);
	device = load_device(&scan, owners, eid);
	if (device != NULL && !esim_may_act_for(caller, device->owner, device->owner_name))
		device = NULL;
	esim_scan_close(&scan);
	UnregisterSnapshot(snapshot);
	return device;
}

static void
add_ids(EsimScan *scan, ArrayBuildState *ids)
{
	EsimRow		row;

	while (esim_scan_next(scan, &row))
		accumArrayResult(ids, row.value[0], false, UUIDOID, CurrentMemoryContext);
}

Datum
esim_find_profiles(Oid caller, Iccid iccid)
{
	List	   *owners = owners_for(caller);
	Snapshot	snapshot = current_snapshot();
	ArrayBuildState *ids = initArrayResult(UUIDOID, CurrentMemoryContext, false);
	EsimScan	scan;
	ListCell   *cell;

	esim_scan_open(&scan, profiles_of(owners), snapshot);
	if (owners == NIL)
	{
		esim_scan_search(&scan, IccidGetDatum(iccid));
		add_ids(&scan, ids);
	}
	foreach(cell, owners)
	{
		esim_scan_search2(&scan, IccidGetDatum(iccid), ObjectIdGetDatum(lfirst_oid(cell)));
		add_ids(&scan, ids);
	}
	esim_scan_close(&scan);
	UnregisterSnapshot(snapshot);
	return makeArrayResult(ids, CurrentMemoryContext);
}

/* The eUICC that an element names; false: it is none of the caller's. */
static bool
find_device(EsimRequest *request, EsimFinder *finder, EsimElement *element)
{
	element->device = load_device(&finder->devices, finder->owners, &element->eid);
	if (element->device != NULL &&
		esim_request_may_act_for(request, element->device->owner, element->device->owner_name))
		return true;
	element->device = NULL;
	element->failure = esim_unknown_device(&element->eid);
	return false;
}

/* kinds about the eUICC as a whole: a profile beside the EID only checks it */
static void
check_profile(EsimRequest *request, EsimFinder *finder, EsimElement *element)
{
	esim_find_profile(request, finder, element);
	if (element->profile == NULL)
		element->failure = esim_unknown_profile(element);
	else if (!element->profile->has_eid ||
			 !esim_same_eid(&element->profile->eid, &element->eid))
		element->failure = profile_elsewhere(element);
	else
		element->device = load_device(&finder->devices, finder->owners, &element->eid);
}

static void
find_element(EsimRequest *request, EsimFinder *finder, EsimElement *element)
{
	const EsimKind *kind = request->kind;
	EsimProfile *profile;

	/* those that name the eUICC itself */
	if ((kind->adds_profile || !kind->of_profile) && element->has_eid)
	{
		if (!find_device(request, finder, element))
			return;
	}
	if (!kind->of_profile)
	{
		if (element->has_profile)
			check_profile(request, finder, element);
		return;
	}

	if (element->has_profile || element->has_iccid)
		esim_find_profile(request, finder, element);
	if (element->failure != NULL)
		return;
	/* an ICCID whose profile is no more is reserved as a new one */
	if (kind->kind == RSP_RESERVE && !element->has_profile && element->profile != NULL &&
		is_dead(element->profile->state))
		element->profile = NULL;
	profile = element->profile;
	if (profile == NULL)
	{
		if (element->has_profile || !kind->adds_profile)
			element->failure = esim_unknown_profile(element);
		return;
	}
	if (element->has_profile && element->has_iccid &&
		(!profile->has_iccid || profile->iccid != element->iccid))
	{
		element->failure =
			esim_failure("IDENTIFIER_MISMATCH",
						 psprintf("profile \"%s\" does not have ICCID \"%s\"",
								  esim_mask_uuid(&element->profile_id),
								  esim_mask_iccid(element->iccid)),
						 pstrdup("The ICCID and the parameter profile name different profiles."),
						 pstrdup("Give one of the two."));
		return;
	}
	if (kind->adds_profile)
	{
		if (element->device != NULL && profile->owner != element->device->owner)
			element->failure =
				esim_failure("IDENTIFIER_MISMATCH",
							 psprintf("profile \"%s\" is not of the owner of eUICC \"%s\"",
									  esim_profile_label(element), esim_mask_eid(&element->eid)),
							 pstrdup("A profile goes to devices of its owner only."),
							 pstrdup("Use another profile, or esim_transfer()."));
		return;
	}
	if (kind->lane != ESIM_LANE_EUICC)
		return;

	follow_downloads(finder, element);
	if (element->has_eid && profile->has_eid && !esim_same_eid(&element->eid, &profile->eid))
		element->failure = profile_elsewhere(element);
	else if (profile->has_eid &&
			 (element->device == NULL ||
			  !esim_request_may_act_for(request, element->device->owner,
										element->device->owner_name)))
	{
		element->device = NULL;
		element->failure = esim_unknown_device(&profile->eid);
	}
}

/*
 * The owner of the operation: the device's where it is about the eUICC, else
 * the profile's, else the caller.
 */
static void
set_owner(EsimRequest *request, EsimElement *element)
{
	const EsimKind *kind = request->kind;
	EsimDevice *device = element->device;

	if (device != NULL && (kind->lane == ESIM_LANE_EUICC || element->profile == NULL))
	{
		element->owner = device->owner;
		element->owner_name = device->owner_name;
	}
	else if (element->profile != NULL)
	{
		element->owner = element->profile->owner;
		element->owner_name = element->profile->owner_name;
	}
	else if (element->failure == NULL &&
			 (kind->kind == RSP_RESERVE || kind->lane == ESIM_LANE_FLEET ||
			  kind->lane == ESIM_LANE_SYNC))
	{
		if (request->caller_name == NULL)
			request->caller_name = GetUserNameFromId(request->caller, false);
		element->owner = request->caller;
		element->owner_name = request->caller_name;
	}
}

/*
 * A device that is retired is told apart later, since a repeated call must find
 * its operation all the same.
 */
void
esim_find_rows(EsimRequest *request)
{
	EsimFinder	finder;

	esim_finder_open(&finder, request->caller);
	for (int i = 0; i < request->nelements; i++)
	{
		if (request->elements[i].failure == NULL)
			find_element(request, &finder, &request->elements[i]);
		set_owner(request, &request->elements[i]);
	}
	esim_finder_close(&finder);
}
