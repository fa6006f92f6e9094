/*-------------------------------------------------------------------------
 *
 * find.c
 *	  Finding the devices and profiles that a request is about.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "operation/enqueue.h"

/* in the order of esim_device_table and esim_profile_table */
#define DEVICE_COLUMNS "d.eid, d.owner, d.owner_name, d.server, d.retired_at, d.lane"
#define PROFILE_COLUMNS \
	"p.id, p.iccid, p.eid, p.reserved_eid, p.owner, p.owner_name, p.state, p.profile_class, p.drift," \
	" p.lane, p.created_at, p.activation_code, p.smdp_address, p.matching_id, p.redownload"
#define PROFILE_NCOLUMNS 15

EsimTable	esim_device_table = {
	"esim_device", 6, {"eid", "owner", "owner_name", "server", "retired_at", "lane"}
};
EsimTable	esim_profile_table = {
	"esim_profile", PROFILE_NCOLUMNS + 2,
	{"id", "iccid", "eid", "reserved_eid", "owner", "owner_name", "state", "profile_class", "drift",
		"lane", "created_at", "activation_code", "smdp_address", "matching_id", "redownload",
	"is_fallback", "port"}
};
EsimIndex	esim_device_by_eid = {"esim_device_pkey", &esim_device_table};
EsimIndex	esim_profile_by_id = {"esim_profile_pkey", &esim_profile_table};
EsimIndex	esim_profile_by_eid = {"esim_profile_eid_idx", &esim_profile_table};
static EsimIndex profile_by_iccid = {"esim_profile_iccid_idx", &esim_profile_table};

static EsimStatement find_devices = {
	"SELECT u.n, " DEVICE_COLUMNS
	" FROM unnest($1) WITH ORDINALITY AS u(eid, n) JOIN @esim_device d ON d.eid = u.eid",
	1, {"@eid[]"}
};
static EsimStatement find_profiles_by_iccid = {
	"SELECT u.n, " PROFILE_COLUMNS ", " DEVICE_COLUMNS
	" FROM unnest($1) WITH ORDINALITY AS u(iccid, n) JOIN @esim_profile p ON p.iccid = u.iccid"
	" LEFT JOIN @esim_device d ON d.eid = p.eid",
	1, {"@iccid[]"}
};
static EsimStatement find_profiles_by_id = {
	"SELECT u.n, " PROFILE_COLUMNS ", " DEVICE_COLUMNS
	" FROM unnest($1) WITH ORDINALITY AS u(id, n) JOIN @esim_profile p ON p.id = u.id"
	" LEFT JOIN @esim_device d ON d.eid = p.eid",
	1, {"uuid[]"}
};

/* the eUICCs to which a profile is on its way */
static EsimStatement find_downloads = {
	"SELECT u.n, o.eid FROM unnest($1) WITH ORDINALITY AS u(id, n)"
	" JOIN @esim_operation o ON o.profile = u.id"
	" WHERE o.status = 'ACCEPTED' AND o.kind = 'download' AND o.eid IS NOT NULL ORDER BY o.seq",
	1, {"uuid[]"}
};

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

/* columns of esim_device_table from first on; NULL: there is no device */
EsimDevice *
esim_device_of_row(EsimRow *row, int first)
{
	EsimDevice *device;

	if (row->null[first])
		return NULL;
	device = palloc(sizeof(EsimDevice));
	device->eid = *DatumGetEidP(row->value[first]);
	device->owner = DatumGetObjectId(row->value[first + 1]);
	device->owner_name = pstrdup(NameStr(*DatumGetName(row->value[first + 2])));
	device->server = text_or_null(row, first + 3);
	device->retired = !row->null[first + 4];
	device->lane = DatumGetInt64(row->value[first + 5]);
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

/* columns of esim_profile_table from first on */
static EsimProfile *
profile_of_row(EsimRow *row, int first)
{
	EsimProfile *profile = palloc0(sizeof(EsimProfile));
	text	   *class;

	profile->id = *DatumGetUUIDP(row->value[first]);
	profile->has_iccid = !row->null[first + 1];
	if (profile->has_iccid)
		profile->iccid = DatumGetIccid(row->value[first + 1]);
	profile->has_eid = !row->null[first + 2];
	if (profile->has_eid)
		profile->eid = *DatumGetEidP(row->value[first + 2]);
	profile->has_reserved_eid = !row->null[first + 3];
	if (profile->has_reserved_eid)
		profile->reserved_eid = *DatumGetEidP(row->value[first + 3]);
	profile->owner = DatumGetObjectId(row->value[first + 4]);
	profile->owner_name = pstrdup(NameStr(*DatumGetName(row->value[first + 5])));
	profile->state = esim_state_of_datum(row->value[first + 6]);
	class = DatumGetTextPP(row->value[first + 7]);
	profile->plain = !DatumGetBool(row->value[first + 8]) &&
		VARSIZE_ANY_EXHDR(class) == strlen("OPERATIONAL") &&
		memcmp(VARDATA_ANY(class), "OPERATIONAL", strlen("OPERATIONAL")) == 0;
	profile->lane = DatumGetInt64(row->value[first + 9]);
	profile->created_at = DatumGetTimestampTz(row->value[first + 10]);
	if (!row->null[first + 11])
		profile->activation_code = PG_DETOAST_DATUM_COPY(row->value[first + 11]);
	profile->smdp_address = text_or_null(row, first + 12);
	profile->matching_id = text_or_null(row, first + 13);
	profile->redownload = text_or_null(row, first + 14);
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

/* The text is the same for unknown, retired and foreign ones. */
EsimFailure *
esim_unknown_device(const Eid *eid)
{
	return esim_failure("IDENTIFIER_NOT_FOUND",
						psprintf("eUICC \"%s\" is not known", esim_mask_eid(eid)),
						pstrdup("There is no device of yours with this EID."),
						pstrdup("Register it in esim_device first."));
}

EsimFailure *
esim_unknown_profile(const EsimElement *element)
{
	return esim_failure("IDENTIFIER_NOT_FOUND",
						psprintf("profile \"%s\" is not known",
								 element->has_profile ? esim_mask_uuid(&element->profile_id) :
								 esim_mask_iccid(element->iccid)),
						pstrdup("There is no profile of yours with this identifier."),
						pstrdup("Only esim_download() adds a profile that is not known yet."));
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

static EsimDevice *
load_device(const Eid *eid)
{
	Snapshot	snapshot = esim_latest_snapshot();
	EsimDevice *device = NULL;
	EsimScan	scan;
	EsimRow		row;

	esim_scan_begin(&scan, &esim_device_by_eid, EidPGetDatum(eid), snapshot);
	if (esim_scan_next(&scan, &row))
		device = esim_device_of_row(&row, 0);
	esim_scan_end(&scan);
	UnregisterSnapshot(snapshot);
	return device;
}

/* Devices of the elements' EIDs: those given, or those of their profiles. */
static void
load_devices(EsimElement **elements, int n, bool of_profile)
{
	Datum		value;
	Datum	   *eids;

	if (n == 0)
		return;
	if (n == 1)
	{
		elements[0]->device =
			load_device(of_profile ? &elements[0]->profile->eid : &elements[0]->eid);
		return;
	}
	eids = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
		eids[i] = EidPGetDatum(of_profile ? &elements[i]->profile->eid : &elements[i]->eid);
	value = esim_make_array(eids, NULL, n, esim_type_oid("eid"));
	esim_execute_latest(&find_devices, &value, NULL, 0);
	pfree(eids);
	pfree(DatumGetPointer(value));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		EsimRow		row;

		esim_row(&row, SPI_tuptable, i);
		elements[DatumGetInt64(row.value[0]) - 1]->device = esim_device_of_row(&row, 1);
	}
	SPI_freetuptable(SPI_tuptable);
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

/* A row with the element's identifier: true if it is the best so far, and taken. */
static bool
take_profile(EsimRequest *request, EsimElement *element, EsimProfile *profile)
{
	int			better;

	if (!esim_request_may_act_for(request, profile->owner, profile->owner_name))
		return false;

	/*
	 * A download takes a row of the device's owner; another owner's row of the
	 * same ICCID is another profile to us.
	 */
	if (request->kind->adds_profile && !element->has_profile &&
		element->device != NULL && profile->owner != element->device->owner)
		return false;

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
			return false;
		if (better > 0)
			element->failure = NULL;
	}
	element->profile = profile;
	return true;
}

static void
load_profile(EsimRequest *request, EsimElement *element, bool by_id)
{
	Snapshot	snapshot = esim_latest_snapshot();
	EsimScan	scan;
	EsimRow		row;

	esim_scan_begin(&scan, by_id ? &esim_profile_by_id : &profile_by_iccid,
					by_id ? UUIDPGetDatum(&element->profile_id) : IccidGetDatum(element->iccid),
					snapshot);
	while (esim_scan_next(&scan, &row))
		take_profile(request, element, profile_of_row(&row, 0));
	esim_scan_end(&scan);
	UnregisterSnapshot(snapshot);
	if (!request->kind->adds_profile && element->profile != NULL && element->profile->has_eid)
		element->device = load_device(&element->profile->eid);
}


/* Profiles with the elements' identifiers, and the devices on which they are. */
void
esim_load_profiles(EsimRequest *request, EsimElement **elements, int n, bool by_id)
{
	Datum		value;
	Datum	   *ids;

	if (n == 0)
		return;
	if (n == 1)
	{
		load_profile(request, elements[0], by_id);
		return;
	}
	ids = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
		ids[i] = by_id ? UUIDPGetDatum(&elements[i]->profile_id) : IccidGetDatum(elements[i]->iccid);
	value = esim_make_array(ids, NULL, n, by_id ? UUIDOID : esim_type_oid("iccid"));
	esim_execute_latest(by_id ? &find_profiles_by_id : &find_profiles_by_iccid, &value, NULL, 0);
	pfree(ids);
	pfree(DatumGetPointer(value));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		EsimRow		row;
		EsimElement *element;

		esim_row(&row, SPI_tuptable, i);
		element = elements[DatumGetInt64(row.value[0]) - 1];
		if (take_profile(request, element, profile_of_row(&row, 1)) && !request->kind->adds_profile)
			element->device = esim_device_of_row(&row, 1 + PROFILE_NCOLUMNS);
	}
	SPI_freetuptable(SPI_tuptable);
}

/*
 * A profile that is not on an eUICC may be on its way to one: then that one's
 * lane is meant.
 */
static void
follow_downloads(EsimElement **elements, int n)
{
	EsimElement **found = palloc(sizeof(EsimElement *) * n);
	Datum	   *ids = palloc(sizeof(Datum) * n);
	Datum		value;
	int			nfound = 0;

	for (int i = 0; i < n; i++)
	{
		EsimElement *element = elements[i];

		if (element->failure != NULL || element->profile == NULL)
			continue;
		if (esim_on_euicc(element->profile->state) &&
			(!element->has_eid || esim_same_eid(&element->eid, &element->profile->eid)))
			continue;
		ids[nfound] = UUIDPGetDatum(&element->profile->id);
		found[nfound++] = element;
	}
	if (nfound > 0)
	{
		EsimElement **changed;
		int			nchanged = 0;

		value = esim_make_array(ids, NULL, nfound, UUIDOID);
		esim_execute_latest(&find_downloads, &value, NULL, 0);
		changed = palloc(sizeof(EsimElement *) * Max(SPI_processed, 1));
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			EsimRow		row;
			EsimElement *element;
			Eid			eid;

			esim_row(&row, SPI_tuptable, i);
			element = found[DatumGetInt64(row.value[0]) - 1];
			eid = *DatumGetEidP(row.value[1]);
			if (element->has_eid && !esim_same_eid(&element->eid, &eid))
				continue;
			if (!element->profile->has_eid || !esim_same_eid(&element->profile->eid, &eid))
			{
				element->profile->has_eid = true;
				element->profile->eid = eid;
				changed[nchanged++] = element;
			}
		}
		SPI_freetuptable(SPI_tuptable);

		/* an element may stand there twice, which does no harm */
		for (int i = 0; i < nchanged; i++)
			changed[i]->device = NULL;
		load_devices(changed, nchanged, true);
	}
	pfree(ids);
	pfree(found);
}

/*
 * Find profile and device of every element, as far as they are the caller's.
 * What is missing becomes a failure; a device that is retired is told apart
 * later, since a repeated call must find its operation all the same.
 */
void
esim_find_rows(EsimRequest *request)
{
	const EsimKind *kind = request->kind;

	for (int from = 0; from < request->nelements; from += ESIM_CHUNK)
	{
		int			n = Min(ESIM_CHUNK, request->nelements - from);
		EsimElement *chunk = request->elements + from;
		EsimElement **list = palloc(sizeof(EsimElement *) * n);
		int			count;

		/* those that name the eUICC itself */
		count = 0;
		for (int i = 0; i < n; i++)
		{
			if (chunk[i].failure == NULL && chunk[i].has_eid &&
				(kind->adds_profile || !kind->of_profile))
				list[count++] = &chunk[i];
		}
		load_devices(list, count, false);
		for (int i = 0; i < count; i++)
		{
			EsimDevice *device = list[i]->device;

			if (device == NULL ||
				!esim_request_may_act_for(request, device->owner, device->owner_name))
				list[i]->failure = esim_unknown_device(&list[i]->eid);
		}

		/* profiles by their row, then those by ICCID alone */
		for (int by_id = 1; by_id >= 0; by_id--)
		{
			count = 0;
			for (int i = 0; i < n; i++)
			{
				if (chunk[i].failure == NULL &&
					(by_id ? chunk[i].has_profile : (chunk[i].has_iccid && !chunk[i].has_profile)))
					list[count++] = &chunk[i];
			}
			esim_load_profiles(request, list, count, by_id);
		}

		count = 0;
		for (int i = 0; i < n; i++)
		{
			EsimElement *element = &chunk[i];

			if (element->failure != NULL)
				continue;
			if (element->profile == NULL)
			{
				if (element->has_profile || (kind->of_profile && !kind->adds_profile))
					element->failure = esim_unknown_profile(element);
				continue;
			}
			if (element->has_profile && element->has_iccid &&
				(!element->profile->has_iccid || element->profile->iccid != element->iccid))
			{
				element->failure =
					esim_failure("IDENTIFIER_MISMATCH",
								 psprintf("profile \"%s\" does not have ICCID \"%s\"",
										  esim_mask_uuid(&element->profile_id),
										  esim_mask_iccid(element->iccid)),
								 pstrdup("The ICCID and the parameter profile name different profiles."),
								 pstrdup("Give one of the two."));
				continue;
			}
			if (kind->adds_profile)
			{
				if (element->profile->owner != element->device->owner)
					element->failure =
						esim_failure("IDENTIFIER_MISMATCH",
									 psprintf("profile \"%s\" is not of the owner of eUICC \"%s\"",
											  esim_profile_label(element),
											  esim_mask_eid(&element->eid)),
									 pstrdup("A profile is downloaded to devices of its owner only."),
									 pstrdup("Use another profile, or esim_transfer()."));
				continue;
			}
			if (kind->of_profile)
				list[count++] = element;
		}
		if (count > 0)
			follow_downloads(list, count);

		for (int i = 0; i < n; i++)
		{
			EsimElement *element = &chunk[i];

			if (element->failure != NULL || element->profile == NULL || kind->adds_profile)
				continue;
			if (element->has_eid && element->profile->has_eid &&
				!esim_same_eid(&element->eid, &element->profile->eid))
				element->failure =
					esim_failure("IDENTIFIER_MISMATCH",
								 psprintf("profile \"%s\" is not on eUICC \"%s\"",
										  esim_profile_label(element), esim_mask_eid(&element->eid)),
								 pstrdup("The EID and the ICCID do not belong together."),
								 pstrdup("Leave the EID out to use the one where the profile is."));
			else if (element->profile->has_eid &&
					 (element->device == NULL ||
					  !esim_request_may_act_for(request, element->device->owner,
												element->device->owner_name)))
			{
				element->device = NULL;
				element->failure = esim_unknown_device(&element->profile->eid);
			}
		}
		pfree(list);
	}
}
