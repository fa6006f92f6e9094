/*-------------------------------------------------------------------------
 *
 * enqueue.c
 *	  Queueing operations: find the rows, lock the lanes, project, insert.
 *
 * One call or a bulk call go the same way; they differ in the statements that
 * reach the tables.  What waits comes in one order for everybody: lanes of
 * profiles before lanes of eUICCs, each in ascending order.  Reads under a
 * lane's lock use the latest snapshot, so that under REPEATABLE READ and
 * SERIALIZABLE too the operations ahead are seen.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "jit/jit.h"
#include "miscadmin.h"
#include "optimizer/cost.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/timestamp.h"

#include "operation/operation.h"

/* elements that are read, decided and inserted at a time in a bulk call */
#define CHUNK 4096

/* what an operation ahead in another lane, or this one, does to the profile */
typedef struct Ahead
{
	ProjectOperation op;
	bool		has_eid;
	Eid			eid;
} Ahead;

/* One eUICC of a chunk: what is on it, and what is ahead. */
typedef struct Lane
{
	Eid			eid;
	ProjectProfile *profiles;
	int			nprofiles;
	int			profiles_size;
	ProjectOperation *ops;
	int			nops;
	int			ops_size;
	ProjectProfile *work;
	int			work_size;
} Lane;

/* What stands beside an element while its chunk is decided. */
typedef struct Scratch
{
	Lane	   *lane;
	bool		target_found;
	ProjectProfile target;		/* its profile as it is now */
	bool		target_has_eid;
	Eid			target_eid;
	Ahead	   *ahead;			/* download: open operations of the profile */
	int			nahead;
	int			ahead_size;
} Scratch;

/* ------------------------------------------------------------------------
 * Kinds
 * ------------------------------------------------------------------------ */

static const EsimKind kinds[] = {
	{RSP_DOWNLOAD, "download", ESIM_LANE_EUICC, true, true, 0, 1, 2, 3, 4, -1, 5},
	{RSP_ENABLE, "enable", ESIM_LANE_EUICC, true, false, 1, 0, -1, -1, -1, 2, 3},
	{RSP_DISABLE, "disable", ESIM_LANE_EUICC, true, false, 1, 0, -1, -1, -1, -1, 2},
	{RSP_DELETE, "delete", ESIM_LANE_EUICC, true, false, 1, 0, -1, -1, -1, -1, 2},
	{RSP_SET_FALLBACK, "make a fallback of", ESIM_LANE_EUICC, true, false, 0, 1, -1, -1, -1, -1, 2},
	{RSP_UNSET_FALLBACK, "take the fallback from", ESIM_LANE_EUICC, false, false, 0, -1, -1, -1, -1, -1, 1},
	{RSP_REFRESH, "refresh", ESIM_LANE_EUICC, false, false, 0, -1, -1, -1, -1, -1, 1},
};

const EsimKind *
esim_kind(RspKind kind)
{
	for (int i = 0; i < lengthof(kinds); i++)
	{
		if (kinds[i].kind == kind)
			return &kinds[i];
	}
	return NULL;
}

/* ------------------------------------------------------------------------
 * Finding rows
 * ------------------------------------------------------------------------ */

#define DEVICE_COLUMNS \
	"d.eid, d.owner, d.owner_name, d.server, d.retired_at IS NOT NULL, d.lane"

static EsimStatement find_device = {
	"SELECT 1::int8, " DEVICE_COLUMNS " FROM @esim_device d WHERE d.eid = $1",
	1, {"@eid"}
};
static EsimStatement find_devices = {
	"SELECT u.n, " DEVICE_COLUMNS
	" FROM unnest($1) WITH ORDINALITY AS u(eid, n) JOIN @esim_device d ON d.eid = u.eid",
	1, {"@eid[]"}
};
static EsimStatement lock_device = {
	"SELECT 1::int8, " DEVICE_COLUMNS " FROM @esim_device d WHERE d.eid = $1 FOR NO KEY UPDATE",
	1, {"@eid"}
};
static EsimStatement lock_devices = {
	"SELECT 0::int8, " DEVICE_COLUMNS
	" FROM @esim_device d WHERE d.eid = ANY ($1) ORDER BY d.eid FOR NO KEY UPDATE",
	1, {"@eid[]"}
};

#define PROFILE_COLUMNS \
	"p.id, p.iccid, p.eid, p.reserved_eid, p.owner, p.owner_name, p.state::text, " \
	"p.profile_class = 'OPERATIONAL' AND NOT p.drift, p.lane, p.created_at, " \
	"p.activation_code, p.smdp_address, p.matching_id, p.redownload"
#define PROFILE_NCOLUMNS 14

static EsimStatement find_profile_by_iccid = {
	"SELECT 1::int8, " PROFILE_COLUMNS ", " DEVICE_COLUMNS
	" FROM @esim_profile p LEFT JOIN @esim_device d ON d.eid = p.eid WHERE p.iccid = $1",
	1, {"@iccid"}
};
static EsimStatement find_profile_by_id = {
	"SELECT 1::int8, " PROFILE_COLUMNS ", " DEVICE_COLUMNS
	" FROM @esim_profile p LEFT JOIN @esim_device d ON d.eid = p.eid WHERE p.id = $1",
	1, {"uuid"}
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

/* columns DEVICE_COLUMNS of row from first on; NULL: there is no device */
static EsimDevice *
device_of_row(EsimRow *row, int first)
{
	EsimDevice *device;

	if (row->null[first])
		return NULL;
	device = palloc(sizeof(EsimDevice));
	device->eid = *DatumGetEidP(row->value[first]);
	device->owner = DatumGetObjectId(row->value[first + 1]);
	device->owner_name = pstrdup(NameStr(*DatumGetName(row->value[first + 2])));
	device->server = text_or_null(row, first + 3);
	device->retired = DatumGetBool(row->value[first + 4]);
	device->lane = DatumGetInt64(row->value[first + 5]);
	return device;
}

static RspState
state_of_datum(Datum value)
{
	RspState	state;
	char	   *name = TextDatumGetCString(value);

	if (!rsp_state_from_name(name, &state))
		elog(ERROR, "unknown profile state \"%s\"", name);
	pfree(name);
	return state;
}

static EsimProfile *
profile_of_row(EsimRow *row, int first)
{
	EsimProfile *profile = palloc0(sizeof(EsimProfile));

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
	profile->state = state_of_datum(row->value[first + 6]);
	profile->plain = DatumGetBool(row->value[first + 7]);
	profile->lane = DatumGetInt64(row->value[first + 8]);
	profile->created_at = DatumGetTimestampTz(row->value[first + 9]);
	if (!row->null[first + 10])
		profile->activation_code = PG_DETOAST_DATUM_COPY(row->value[first + 10]);
	profile->smdp_address = text_or_null(row, first + 11);
	profile->matching_id = text_or_null(row, first + 12);
	profile->redownload = text_or_null(row, first + 13);
	return profile;
}

static bool
on_euicc(RspState state)
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

static bool
same_eid(const Eid *a, const Eid *b)
{
	return memcmp(a, b, sizeof(Eid)) == 0;
}

static ArrayType *
make_array(Datum *values, bool *nulls, int n, Oid type)
{
	int16		length;
	bool		byval;
	char		align;
	int			lower = 1;

	get_typlenbyvalalign(type, &length, &byval, &align);
	return construct_md_array(values, nulls, 1, &n, &lower, type, length, byval, align);
}

/* The text is the same for unknown, retired and foreign ones. */
static EsimFailure *
unknown_device(const Eid *eid)
{
	return esim_failure("IDENTIFIER_NOT_FOUND",
						psprintf("eUICC \"%s\" is not known", esim_mask_eid(eid)),
						pstrdup("There is no device of yours with this EID."),
						pstrdup("Register it in esim_device first."));
}

static EsimFailure *
unknown_profile(const EsimElement *element)
{
	return esim_failure("IDENTIFIER_NOT_FOUND",
						psprintf("profile \"%s\" is not known",
								 element->has_profile ? esim_mask_uuid(&element->profile_id) :
								 esim_mask_iccid(element->iccid)),
						pstrdup("There is no profile of yours with this identifier."),
						pstrdup("Only esim_download() adds a profile that is not known yet."));
}

static char *
profile_label(const EsimElement *element)
{
	if (element->profile != NULL && element->profile->has_iccid)
		return esim_mask_iccid(element->profile->iccid);
	if (element->has_iccid)
		return esim_mask_iccid(element->iccid);
	return element->profile ? esim_mask_uuid(&element->profile->id) : pstrdup("?");
}

/* Devices of the elements' EIDs: those given, or those of their profiles. */
static void
load_devices(EsimElement **elements, int n, bool of_profile)
{
	Datum		value;

	if (n == 0)
		return;
	if (n == 1)
	{
		value = EidPGetDatum(of_profile ? &elements[0]->profile->eid : &elements[0]->eid);
		esim_execute_latest(&find_device, &value, NULL, 0);
	}
	else
	{
		Datum	   *eids = palloc(sizeof(Datum) * n);

		for (int i = 0; i < n; i++)
			eids[i] = EidPGetDatum(of_profile ? &elements[i]->profile->eid : &elements[i]->eid);
		value = PointerGetDatum(make_array(eids, NULL, n, esim_type_oid("eid")));
		esim_execute_latest(&find_devices, &value, NULL, 0);
		pfree(eids);
		pfree(DatumGetPointer(value));
	}
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		EsimRow		row;

		esim_row(&row, SPI_tuptable, i);
		elements[DatumGetInt64(row.value[0]) - 1]->device = device_of_row(&row, 1);
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
	if (element->has_eid && profile->has_eid && same_eid(&element->eid, &profile->eid))
		rank += 4;
	if (profile->plain)
		rank += 2;
	if (profile->state == RSP_STATE_DELETED)
		rank += 1;
	return rank;
}

/* A row with the element's identifier: take it if it is the best so far. */
static void
consider_profile(EsimRequest *request, EsimElement *element, EsimRow *row)
{
	EsimProfile *profile = profile_of_row(row, 1);
	int			better;

	if (!esim_request_may_act_for(request, profile->owner, profile->owner_name))
		return;

	/*
	 * A download takes a row of the device's owner; another owner's row of the
	 * same ICCID is another profile to us.
	 */
	if (request->kind->adds_profile && !element->has_profile &&
		element->device != NULL && profile->owner != element->device->owner)
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
	if (!request->kind->adds_profile)
		element->device = device_of_row(row, 1 + PROFILE_NCOLUMNS);
}

static void
load_profiles(EsimRequest *request, EsimElement **elements, int n, bool by_id)
{
	Datum		value;

	if (n == 0)
		return;
	if (n == 1)
	{
		value = by_id ? UUIDPGetDatum(&elements[0]->profile_id) :
			IccidGetDatum(elements[0]->iccid);
		esim_execute_latest(by_id ? &find_profile_by_id : &find_profile_by_iccid, &value, NULL, 0);
	}
	else
	{
		Datum	   *ids = palloc(sizeof(Datum) * n);

		for (int i = 0; i < n; i++)
			ids[i] = by_id ? UUIDPGetDatum(&elements[i]->profile_id) :
				IccidGetDatum(elements[i]->iccid);
		value = PointerGetDatum(make_array(ids, NULL, n, by_id ? UUIDOID : esim_type_oid("iccid")));
		esim_execute_latest(by_id ? &find_profiles_by_id : &find_profiles_by_iccid, &value, NULL, 0);
		pfree(ids);
		pfree(DatumGetPointer(value));
	}
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		EsimRow		row;

		esim_row(&row, SPI_tuptable, i);
		consider_profile(request, elements[DatumGetInt64(row.value[0]) - 1], &row);
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
		if (on_euicc(element->profile->state) &&
			(!element->has_eid || same_eid(&element->eid, &element->profile->eid)))
			continue;
		ids[nfound] = UUIDPGetDatum(&element->profile->id);
		found[nfound++] = element;
	}
	if (nfound > 0)
	{
		EsimElement **changed;
		int			nchanged = 0;

		value = PointerGetDatum(make_array(ids, NULL, nfound, UUIDOID));
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
			if (element->has_eid && !same_eid(&element->eid, &eid))
				continue;
			if (!element->profile->has_eid || !same_eid(&element->profile->eid, &eid))
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
static void
find_rows(EsimRequest *request)
{
	const EsimKind *kind = request->kind;

	for (int from = 0; from < request->nelements; from += CHUNK)
	{
		int			n = Min(CHUNK, request->nelements - from);
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
				list[i]->failure = unknown_device(&list[i]->eid);
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
			load_profiles(request, list, count, by_id);
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
					element->failure = unknown_profile(element);
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
											  profile_label(element),
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
				!same_eid(&element->eid, &element->profile->eid))
				element->failure =
					esim_failure("IDENTIFIER_MISMATCH",
								 psprintf("profile \"%s\" is not on eUICC \"%s\"",
										  profile_label(element), esim_mask_eid(&element->eid)),
								 pstrdup("The EID and the ICCID do not belong together."),
								 pstrdup("Leave the EID out to use the one where the profile is."));
			else if (element->profile->has_eid &&
					 (element->device == NULL ||
					  !esim_request_may_act_for(request, element->device->owner,
												element->device->owner_name)))
			{
				element->device = NULL;
				element->failure = unknown_device(&element->profile->eid);
			}
		}
		pfree(list);
	}
}

/* ------------------------------------------------------------------------
 * Idempotency keys
 * ------------------------------------------------------------------------ */

static EsimStatement find_key = {
	"SELECT operation, fingerprint FROM @esim_idempotency WHERE owner = $1 AND key = $2",
	2, {"oid", "text"}
};
static EsimStatement insert_key = {
	"INSERT INTO @esim_idempotency (owner, key, operation, fingerprint) VALUES ($1, $2, $3, $4)"
	" ON CONFLICT DO NOTHING",
	4, {"regrole", "text", "uuid", "bytea"}
};

static Oid
key_owner(const EsimElement *element)
{
	if (element->device != NULL)
		return element->device->owner;
	return element->profile != NULL ? element->profile->owner : InvalidOid;
}

/*
 * true: the key was used before; the element has the operation of that time,
 * or a failure if that was another call.
 */
static bool
replay(EsimElement *element)
{
	Datum		values[2];
	EsimRow		row;
	bytea	   *fingerprint;

	values[0] = ObjectIdGetDatum(key_owner(element));
	values[1] = PointerGetDatum(cstring_to_text(element->idempotency_key));
	esim_execute_latest(&find_key, values, NULL, 1);
	if (SPI_processed == 0)
	{
		SPI_freetuptable(SPI_tuptable);
		return false;
	}
	esim_row(&row, SPI_tuptable, 0);
	fingerprint = DatumGetByteaPP(row.value[1]);
	if (VARSIZE_ANY_EXHDR(fingerprint) == sizeof(element->fingerprint) &&
		memcmp(VARDATA_ANY(fingerprint), element->fingerprint, sizeof(element->fingerprint)) == 0)
	{
		element->replayed = true;
		element->failure = NULL;
		element->id = *DatumGetUUIDP(row.value[0]);
	}
	else
		element->failure =
			esim_failure("CONFLICT",
						 pstrdup("the idempotency key was used for another call"),
						 pstrdup("An operation with this key has other identifiers or parameters."),
						 pstrdup("Use a new key for a new operation."));
	SPI_freetuptable(SPI_tuptable);
	return true;
}

/* false: somebody else has just used the key; the element has the outcome */
static bool
claim_key(EsimElement *element)
{
	Datum		values[4];
	bytea	   *fingerprint = palloc(VARHDRSZ + sizeof(element->fingerprint));

	SET_VARSIZE(fingerprint, VARHDRSZ + sizeof(element->fingerprint));
	memcpy(VARDATA(fingerprint), element->fingerprint, sizeof(element->fingerprint));
	values[0] = ObjectIdGetDatum(key_owner(element));
	values[1] = PointerGetDatum(cstring_to_text(element->idempotency_key));
	values[2] = UUIDPGetDatum(&element->id);
	values[3] = PointerGetDatum(fingerprint);
	esim_execute_latest(&insert_key, values, NULL, 0);
	if (SPI_processed == 1)
		return true;
	if (!replay(element))
		elog(ERROR, "idempotency key is neither free nor taken");
	return false;
}

static bool
is_open(const EsimElement *element)
{
	return element->failure == NULL && !element->replayed;
}

static void
replay_all(EsimRequest *request)
{
	for (int i = 0; i < request->nelements; i++)
	{
		EsimElement *element = &request->elements[i];

		if (element->idempotency_key == NULL || !OidIsValid(key_owner(element)))
			continue;
		esim_fingerprint(request, element);
		replay(element);
	}
}

/* ------------------------------------------------------------------------
 * What can be known without a lock
 * ------------------------------------------------------------------------ */

/*
 * Where a download's code comes from: the call, the profile's row, the
 * server's SM-DP+ address.
 */
static void
choose_code(EsimElement *element)
{
	const EsimProfile *profile = element->profile;
	const char *address = NULL;
	const char *matching_id = "";
	ActivationCode code;
	ActivationCodeError error;

	if (element->activation_code != NULL)
		element->used_code = element->activation_code;
	else if (profile != NULL && profile->activation_code != NULL)
		element->used_code = profile->activation_code;
	if (element->used_code != NULL)
		return;

	if (profile != NULL && profile->smdp_address != NULL)
	{
		address = profile->smdp_address;
		if (profile->matching_id != NULL)
			matching_id = profile->matching_id;
	}
	else
		address = element->choice->server->rsp.smdp_address;

	if (address == NULL)
		element->failure =
			esim_failure("MISSING_IDENTIFIER",
						 pstrdup("there is no activation code for the download"),
						 pstrdup("Neither the call nor the profile's row nor the server has one."),
						 pstrdup("Give the parameter activation_code, set activation_code in the profile's row of esim_profile, or set the server's option smdp_address."));
	else if (!activation_code_build(address, strlen(address), matching_id, strlen(matching_id),
									"", 0, false, &code, &error))
		element->failure =
			esim_failure("INVALID_ARGUMENT",
						 pstrdup("there is no valid activation code for the download"),
						 pstrdup("The SM-DP+ address and matching ID on record do not make one."),
						 pstrdup("Give the parameter activation_code."));
	else
		element->used_code = (struct varlena *) DatumGetPointer(activation_code_datum(&code));
}

static bool
redownload_allowed(const EsimElement *element)
{
	const char *redownload = element->profile->redownload;

	if (redownload == NULL)
		redownload = element->choice->server->redownload;
	if (redownload == NULL)
		redownload = "SAME_EID";
	if (strcmp(redownload, "ANY") == 0)
		return true;
	if (strcmp(redownload, "NEVER") == 0)
		return false;
	/* it is refused as a mismatch later if it was on another one */
	return true;
}

static bool
redownload_anywhere(const EsimElement *element)
{
	const char *redownload = element->profile->redownload;

	if (redownload == NULL)
		redownload = element->choice->server->redownload;
	return redownload != NULL && strcmp(redownload, "ANY") == 0;
}

/* Ask the driver what can be known without the device. */
static void
ask_driver(EsimRequest *request, EsimElement *element)
{
	const EsimChoice *choice = element->choice;
	RspOperation op;
	RspError	error;
	char		eid[EID_TEXT_SIZE];
	char		iccid[ICCID_TEXT_SIZE];

	if (choice->driver->check == NULL)
		return;
	memset(&op, 0, sizeof(op));
	memset(&error, 0, sizeof(error));
	op.kind = request->kind->kind;
	op.correlator = request->correlator;
	if (element->device != NULL)
	{
		eid_format(&element->device->eid, eid);
		op.eid = eid;
	}
	if (element->has_iccid || (element->profile != NULL && element->profile->has_iccid))
	{
		iccid_format(element->has_iccid ? element->iccid : element->profile->iccid, iccid);
		op.iccid = iccid;
	}
	if (element->used_code != NULL)
		op.activation_code = text_to_cstring((text *) element->used_code);
	if (element->confirmation_code != NULL)
		op.confirmation_code = text_to_cstring(element->confirmation_code);
	op.activate_on_download = request->activate;
	op.rollback = request->rollback;
	op.options = request->options_json;
	op.memo = request->options_json;
	if (element->profile != NULL)
		op.state = element->profile->state;
	op.now_ms = 0;
	if (!choice->driver->check(&choice->server->rsp, &op, &error))
		element->failure =
			esim_failure(error.code ? error.code : "INVALID_ARGUMENT",
						 pstrdup(error.message),
						 error.detail[0] ? pstrdup(error.detail) :
						 psprintf("The protocol of server \"%s\" does not allow it.",
								  choice->server->rsp.name),
						 error.hint[0] ? pstrdup(error.hint) : NULL);
}

static void
prepare_element(EsimRequest *request, EsimElement *element)
{
	const EsimKind *kind = request->kind;
	TimestampTz begin;

	if (element->device != NULL && element->device->retired)
	{
		element->failure = unknown_device(&element->device->eid);
		return;
	}
	if (element->device == NULL && kind->lane == ESIM_LANE_EUICC)
	{
		/* not on an eUICC, nor on the way to one */
		element->failure =
			esim_failure("INCOMPATIBLE_STATE",
						 psprintf("cannot %s profile \"%s\"", kind->verb, profile_label(element)),
						 psprintf("Its state is %s, it is on no eUICC.",
								  rsp_state_name(element->profile->state)),
						 pstrdup("Download it first."));
		return;
	}

	element->choice = esim_choose_server(request, element->device ? element->device->server : NULL);
	if (element->choice->failure != NULL)
	{
		element->failure = element->choice->failure;
		return;
	}
	if (kind->activation_code >= 0)
	{
		choose_code(element);
		if (element->failure != NULL)
			return;
		element->redownload = element->profile != NULL && redownload_allowed(element);
	}
	ask_driver(request, element);
	if (element->failure != NULL)
		return;

	if (request->has_expires_at)
		element->expires_at = request->expires_at;
	else
	{
		EsimServer *server = element->choice->server;

		begin = request->has_not_before ? Max(request->now, request->not_before) : request->now;
		element->expires_at =
			begin + (kind->lane == ESIM_LANE_EUICC ? server->default_expiry_ms :
					 server->default_network_expiry_ms) * INT64CONST(1000);
		if (element->expires_at < begin || !IS_VALID_TIMESTAMP(element->expires_at))
			element->expires_at = END_TIMESTAMP - 1;
	}
}

/* The first element in the caller's order that failed is raised. */
static void
raise_first(EsimRequest *request)
{
	if (request->report)
		return;
	for (int i = 0; i < request->nelements; i++)
	{
		if (request->elements[i].failure != NULL)
			esim_failure_raise(request->elements[i].failure,
							   request->nelements > 1 ? request->elements[i].ordinal : 0);
	}
}

/* ------------------------------------------------------------------------
 * Downloads: rows and lanes of profiles
 * ------------------------------------------------------------------------ */

static EsimStatement insert_profiles = {
	"INSERT INTO @esim_profile (id, iccid, owner, owner_name, state, state_source, activation_code)"
	" SELECT u.id, u.iccid, u.owner, u.owner_name, 'RELEASED', 'operation', u.code"
	" FROM unnest($1, $2, $3, $4, $5) AS u(id, iccid, owner, owner_name, code)"
	" ON CONFLICT DO NOTHING RETURNING id, lane",
	5, {"uuid[]", "@iccid[]", "regrole[]", "name[]", "@activation_code[]"}
};
static EsimStatement delete_profiles = {
	"DELETE FROM @esim_profile WHERE id = ANY ($1)",
	1, {"uuid[]"}
};
static EsimStatement insert_profile_lanes = {
	"INSERT INTO @esim_profile_lane (lane) SELECT DISTINCT u FROM unnest($1) u ORDER BY u"
	" ON CONFLICT DO NOTHING",
	1, {"int8[]"}
};
static EsimStatement lock_profile_lanes = {
	"SELECT lane FROM @esim_profile_lane WHERE lane = ANY ($1) ORDER BY lane FOR UPDATE",
	1, {"int8[]"}
};

static int
compare_fresh_iccid(const void *a, const void *b)
{
	const EsimElement *x = *(EsimElement *const *) a;
	const EsimElement *y = *(EsimElement *const *) b;

	if (x->has_iccid != y->has_iccid)
		return x->has_iccid ? -1 : 1;
	if (x->has_iccid && x->iccid != y->iccid)
		return x->iccid < y->iccid ? -1 : 1;
	return x->ordinal - y->ordinal;
}

static int
compare_profile_id(const void *a, const void *b)
{
	const EsimElement *x = *(EsimElement *const *) a;
	const EsimElement *y = *(EsimElement *const *) b;
	int			cmp = memcmp(&x->profile->id, &y->profile->id, sizeof(pg_uuid_t));

	return cmp != 0 ? cmp : x->ordinal - y->ordinal;
}

static int
compare_uuid_element(const void *key, const void *b)
{
	return memcmp(key, &(*(EsimElement *const *) b)->profile->id, sizeof(pg_uuid_t));
}

/*
 * Add the rows of profiles that are not known.  Who adds the same ICCID at the
 * same time is waited for by the unique index, and then found.
 */
static void
add_profiles(EsimRequest *request, EsimElement **unknown, int n)
{
	qsort(unknown, n, sizeof(EsimElement *), compare_fresh_iccid);
	for (int from = 0; from < n; from += CHUNK)
	{
		int			count = Min(CHUNK, n - from);
		EsimElement **chunk = unknown + from;
		Datum	   *column[5];
		bool	   *nulls[5];
		Datum		values[5];
		const Oid	types[5] = {UUIDOID, esim_type_oid("iccid"), REGROLEOID, NAMEOID,
		esim_type_oid("activation_code")};
		NameData   *names = palloc0(sizeof(NameData) * count);
		int			missing = 0;

		for (int c = 0; c < 5; c++)
		{
			column[c] = palloc(sizeof(Datum) * count);
			nulls[c] = palloc0(sizeof(bool) * count);
		}
		for (int i = 0; i < count; i++)
		{
			EsimElement *element = chunk[i];
			EsimProfile *profile = palloc0(sizeof(EsimProfile));

			esim_uuid7(profile->id.data);
			profile->has_iccid = element->has_iccid;
			profile->iccid = element->iccid;
			profile->owner = element->device->owner;
			profile->owner_name = element->device->owner_name;
			profile->state = RSP_STATE_RELEASED;
			profile->lane = -1;
			element->profile = profile;
			namestrcpy(&names[i], profile->owner_name);
			column[0][i] = UUIDPGetDatum(&profile->id);
			column[1][i] = IccidGetDatum(profile->iccid);
			nulls[1][i] = !profile->has_iccid;
			column[2][i] = ObjectIdGetDatum(profile->owner);
			column[3][i] = NameGetDatum(&names[i]);
			nulls[4][i] = element->activation_code == NULL;
			column[4][i] = PointerGetDatum(element->activation_code);
		}
		for (int c = 0; c < 5; c++)
			values[c] = PointerGetDatum(make_array(column[c], nulls[c], count, types[c]));
		esim_execute_latest(&insert_profiles, values, NULL, 0);

		qsort(chunk, count, sizeof(EsimElement *), compare_profile_id);
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			EsimRow		row;
			EsimElement **found;

			esim_row(&row, SPI_tuptable, i);
			found = bsearch(DatumGetUUIDP(row.value[0]), chunk, count, sizeof(EsimElement *),
							compare_uuid_element);
			(*found)->profile->lane = DatumGetInt64(row.value[1]);
			(*found)->fresh = true;
		}
		SPI_freetuptable(SPI_tuptable);

		/* what was there before us */
		for (int i = 0; i < count; i++)
		{
			EsimElement *element = chunk[i];

			if (element->fresh)
				continue;
			element->profile = NULL;
			chunk[missing++] = element;
		}
		load_profiles(request, chunk, missing, false);
		for (int i = 0; i < missing; i++)
		{
			EsimElement *element = chunk[i];

			if (element->profile == NULL)
				ereport(ERROR,
						(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						 errmsg("could not add profile \"%s\" due to concurrent changes",
								esim_mask_iccid(element->iccid)),
						 errhint("Try again.")));
			if (element->failure == NULL)
				element->redownload = redownload_allowed(element);
		}
	}
}

/*
 * One call downloads a profile to one eUICC.  Rows of profiles are made, and
 * the lanes of those that were there before are locked, before any lane of an
 * eUICC.
 */
static void
prepare_profiles(EsimRequest *request)
{
	EsimElement **list = palloc(sizeof(EsimElement *) * Max(request->nelements, 1));
	Datum	   *lanes;
	Datum		value;
	int			n = 0;
	int			nlanes = 0;

	for (int i = 0; i < request->nelements; i++)
	{
		if (is_open(&request->elements[i]) && request->elements[i].profile == NULL)
			list[n++] = &request->elements[i];
	}
	if (n > 0)
		add_profiles(request, list, n);

	n = 0;
	for (int i = 0; i < request->nelements; i++)
	{
		if (is_open(&request->elements[i]))
			list[n++] = &request->elements[i];
	}
	lanes = palloc(sizeof(Datum) * Max(n, 1));
	qsort(list, n, sizeof(EsimElement *), compare_profile_id);
	for (int i = 0; i < n; i++)
	{
		if (i > 0 && memcmp(&list[i]->profile->id, &list[i - 1]->profile->id, sizeof(pg_uuid_t)) == 0)
		{
			EsimElement *first = list[i - 1];

			if (!same_eid(&list[i]->eid, &first->eid))
			{
				list[i]->failure =
					esim_failure("IDENTIFIER_MISMATCH",
								 psprintf("profile \"%s\" is asked for twice", profile_label(list[i])),
								 psprintf("Element %d downloads it to another eUICC.", first->ordinal),
								 pstrdup("Download a profile to one eUICC."));
				list[i] = first;	/* the next one is compared with that */
			}
			continue;
		}
		/* nobody else sees a row that was just made */
		if (!list[i]->fresh)
			lanes[nlanes++] = Int64GetDatum(list[i]->profile->lane);
	}
	if (nlanes > 0)
	{
		value = PointerGetDatum(make_array(lanes, NULL, nlanes, INT8OID));
		esim_execute_latest(&insert_profile_lanes, &value, NULL, 0);
		esim_execute_latest(&lock_profile_lanes, &value, NULL, 0);
		SPI_freetuptable(SPI_tuptable);
		pfree(DatumGetPointer(value));
	}
	pfree(lanes);
	pfree(list);
}

/* Rows made for elements that could not be queued after all. */
static void
remove_profiles(EsimRequest *request)
{
	Datum	   *ids = NULL;
	int			n = 0;

	for (int i = 0; i < request->nelements; i++)
	{
		EsimElement *element = &request->elements[i];

		if (!element->fresh || is_open(element))
			continue;
		if (ids == NULL)
			ids = palloc(sizeof(Datum) * request->nelements);
		ids[n++] = UUIDPGetDatum(&element->profile->id);
	}
	if (n > 0)
	{
		Datum		value = PointerGetDatum(make_array(ids, NULL, n, UUIDOID));

		esim_execute_latest(&delete_profiles, &value, NULL, 0);
	}
}

/* ------------------------------------------------------------------------
 * Lanes
 * ------------------------------------------------------------------------ */

/*
 * In one statement, that is in one snapshot: the profiles on the eUICCs, the
 * profiles that are asked for wherever they are, the operations ahead, and for
 * downloads all open operations of the profile in whatever lane.
 */
static EsimStatement read_lane = {
	"SELECT 0, 0::int8, p.eid, p.id, p.state::text, p.is_fallback, p.port, NULL::uuid, NULL::text, 0::int8"
	" FROM @esim_profile p"
	" WHERE p.eid = $1 AND p.state IN ('INSTALLED', 'DISABLED', 'ENABLED')"
	" UNION ALL "
	"SELECT 1, 1, p.eid, p.id, p.state::text, p.is_fallback, p.port, NULL, NULL, 0"
	" FROM @esim_profile p WHERE p.id = $2"
	" UNION ALL "
	"SELECT 2, 0, q.eid, q.profile, NULL, q.activate, 0::int2, q.operation, q.kind, q.seq"
	" FROM @esim_pending q WHERE q.lane = $3",
	3, {"@eid", "uuid", "int8"}
};
static EsimStatement read_lanes = {
	"SELECT 0, 0::int8, p.eid, p.id, p.state::text, p.is_fallback, p.port, NULL::uuid, NULL::text, 0::int8"
	" FROM @esim_profile p"
	" WHERE p.eid = ANY ($1) AND p.state IN ('INSTALLED', 'DISABLED', 'ENABLED')"
	" UNION ALL "
	"SELECT 1, u.n, p.eid, p.id, p.state::text, p.is_fallback, p.port, NULL, NULL, 0"
	" FROM unnest($2) WITH ORDINALITY AS u(id, n) JOIN @esim_profile p ON p.id = u.id"
	" UNION ALL "
	"SELECT 2, 0, q.eid, q.profile, NULL, q.activate, 0::int2, q.operation, q.kind, q.seq"
	" FROM @esim_pending q WHERE q.lane = ANY ($3)",
	3, {"@eid[]", "uuid[]", "int8[]"}
};
static EsimStatement read_download_lanes = {
	"SELECT 0, 0::int8, p.eid, p.id, p.state::text, p.is_fallback, p.port, NULL::uuid, NULL::text, 0::int8"
	" FROM @esim_profile p"
	" WHERE p.eid = ANY ($1) AND p.state IN ('INSTALLED', 'DISABLED', 'ENABLED')"
	" UNION ALL "
	"SELECT 1, u.n, p.eid, p.id, p.state::text, p.is_fallback, p.port, NULL, NULL, 0"
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

static void *
grow(void *array, int *size, int needed, size_t width)
{
	if (needed <= *size)
		return array;
	*size = Max(needed, Max(8, *size * 2));
	return array ? repalloc_huge(array, width * *size) : palloc(width * *size);
}

static int
compare_lane(const void *key, const void *b)
{
	return eid_compare(key, &((const Lane *) b)->eid);
}

static ProjectProfile *
lane_profile(Lane *lane, const pg_uuid_t *id)
{
	for (int i = 0; i < lane->nprofiles; i++)
	{
		if (memcmp(lane->profiles[i].id, id->data, UUID_LEN) == 0)
			return &lane->profiles[i];
	}
	return NULL;
}

static void
add_profile(Lane *lane, const ProjectProfile *profile)
{
	lane->profiles = grow(lane->profiles, &lane->profiles_size, lane->nprofiles + 1,
						  sizeof(ProjectProfile));
	lane->profiles[lane->nprofiles++] = *profile;
}

static void
add_operation(Lane *lane, const ProjectOperation *op)
{
	lane->ops = grow(lane->ops, &lane->ops_size, lane->nops + 1, sizeof(ProjectOperation));
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
	return compare_operation(&((const Ahead *) a)->op, &((const Ahead *) b)->op);
}

/* columns of read_lane */
static void
take_row(EsimRow *row, Lane *lanes, int nlanes, Scratch *scratch)
{
	int			what = DatumGetInt32(row->value[0]);
	int64		n = DatumGetInt64(row->value[1]);
	Eid		   *eid = row->null[2] ? NULL : DatumGetEidP(row->value[2]);
	Lane	   *lane = NULL;

	if (what == 0 || what == 2)
	{
		lane = eid ? bsearch(eid, lanes, nlanes, sizeof(Lane), compare_lane) : NULL;
		if (lane == NULL)
			elog(ERROR, "row of another lane");
	}
	if (what <= 1)
	{
		ProjectProfile profile;

		memset(&profile, 0, sizeof(profile));
		memcpy(profile.id, DatumGetUUIDP(row->value[3])->data, UUID_LEN);
		profile.state = state_of_datum(row->value[4]);
		profile.fallback = DatumGetBool(row->value[5]);
		profile.port = DatumGetInt16(row->value[6]);
		if (what == 0)
			add_profile(lane, &profile);
		else
		{
			Scratch    *s = &scratch[n - 1];

			s->target_found = true;
			s->target = profile;
			s->target_has_eid = eid != NULL;
			if (eid != NULL)
				s->target_eid = *eid;
		}
	}
	else
	{
		ProjectOperation op;
		char	   *kind = TextDatumGetCString(row->value[8]);

		memset(&op, 0, sizeof(op));
		op.has_profile = !row->null[3];
		if (op.has_profile)
			memcpy(op.profile, DatumGetUUIDP(row->value[3])->data, UUID_LEN);
		op.flag = !row->null[5] && DatumGetBool(row->value[5]);
		memcpy(op.id, DatumGetUUIDP(row->value[7])->data, UUID_LEN);
		if (!rsp_kind_from_name(kind, &op.kind))
			elog(ERROR, "unknown kind of operation \"%s\"", kind);
		pfree(kind);
		op.seq = DatumGetInt64(row->value[9]);
		if (what == 2)
			add_operation(lane, &op);
		else
		{
			Scratch    *s = &scratch[n - 1];
			Ahead	   *ahead;

			s->ahead = grow(s->ahead, &s->ahead_size, s->nahead + 1, sizeof(Ahead));
			ahead = &s->ahead[s->nahead++];
			memset(ahead, 0, sizeof(*ahead));
			ahead->op = op;
			ahead->has_eid = eid != NULL;
			if (eid != NULL)
				ahead->eid = *eid;
		}
	}
}

/*
 * Lock the lanes of the elements of a chunk (sorted by EID) and take the
 * devices as they are now.  Those that have gone meanwhile fail.
 */
static void
lock_lanes(EsimRequest *request, EsimElement **chunk, int n)
{
	Datum		value;
	int			next = 0;

	if (n == 1)
	{
		value = EidPGetDatum(&chunk[0]->device->eid);
		esim_execute_latest(&lock_device, &value, NULL, 0);
	}
	else
	{
		Datum	   *eids = palloc(sizeof(Datum) * n);
		int			count = 0;

		for (int i = 0; i < n; i++)
		{
			if (i == 0 || !same_eid(&chunk[i]->device->eid, &chunk[i - 1]->device->eid))
				eids[count++] = EidPGetDatum(&chunk[i]->device->eid);
		}
		value = PointerGetDatum(make_array(eids, NULL, count, esim_type_oid("eid")));
		esim_execute_latest(&lock_devices, &value, NULL, 0);
		pfree(eids);
		pfree(DatumGetPointer(value));
	}

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		EsimRow		row;
		EsimDevice *device;

		esim_row(&row, SPI_tuptable, i);
		device = device_of_row(&row, 1);
		for (; next < n; next++)
		{
			int			cmp = eid_compare(&chunk[next]->device->eid, &device->eid);

			if (cmp > 0)
				break;
			if (cmp < 0 || device->retired ||
				!esim_request_may_act_for(request, device->owner, device->owner_name))
				chunk[next]->failure = unknown_device(&chunk[next]->device->eid);
			else
				chunk[next]->device = device;
		}
	}
	for (; next < n; next++)
		chunk[next]->failure = unknown_device(&chunk[next]->device->eid);
	SPI_freetuptable(SPI_tuptable);
}

static Lane *
read_state(EsimRequest *request, EsimElement **chunk, int n, Scratch *scratch)
{
	Lane	   *lanes = palloc0(sizeof(Lane) * n);
	int			nlanes = 0;
	Datum		values[3];

	for (int i = 0; i < n; i++)
	{
		if (nlanes == 0 || !same_eid(&lanes[nlanes - 1].eid, &chunk[i]->device->eid))
			lanes[nlanes++].eid = chunk[i]->device->eid;
		scratch[i].lane = &lanes[nlanes - 1];
	}

	if (n == 1 && !request->kind->adds_profile)
	{
		bool		target = request->kind->of_profile;

		values[0] = EidPGetDatum(&chunk[0]->device->eid);
		values[1] = target ? UUIDPGetDatum(&chunk[0]->profile->id) : (Datum) 0;
		values[2] = Int64GetDatum(chunk[0]->device->lane);
		esim_execute_latest(&read_lane, values, target ? "   " : " n ", 0);
	}
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
		values[0] = PointerGetDatum(make_array(eids, NULL, count, esim_type_oid("eid")));
		values[1] = PointerGetDatum(make_array(ids, nulls, n, UUIDOID));
		values[2] = PointerGetDatum(make_array(numbers, NULL, count, INT8OID));
		esim_execute_latest(request->kind->adds_profile ? &read_download_lanes : &read_lanes,
							values, NULL, 0);
		pfree(eids);
		pfree(ids);
		pfree(nulls);
		pfree(numbers);
	}
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		EsimRow		row;

		esim_row(&row, SPI_tuptable, i);
		take_row(&row, lanes, nlanes, scratch);
	}
	SPI_freetuptable(SPI_tuptable);

	for (int i = 0; i < nlanes; i++)
	{
		if (lanes[i].nops > 1)
			qsort(lanes[i].ops, lanes[i].nops, sizeof(ProjectOperation), compare_operation);
	}
	for (int i = 0; i < n; i++)
	{
		if (scratch[i].nahead > 1)
			qsort(scratch[i].ahead, scratch[i].nahead, sizeof(Ahead), compare_ahead);
	}
	return lanes;
}

/* ------------------------------------------------------------------------
 * Decision
 * ------------------------------------------------------------------------ */

static EsimStatement count_pending = {
	"SELECT count(*) FROM (SELECT FROM @esim_pending q JOIN @esim_operation o ON o.id = q.operation"
	" WHERE o.owner = $1 LIMIT $2) c",
	2, {"regrole", "int8"}
};

/*
 * How many unfinished operations an owner has is counted once a transaction
 * and then added up, since counting goes through the whole queue.
 */
static int64
pending_of_owner(Oid owner, bool again)
{
	static TimestampTz transaction = 0;
	static Oid	counted = InvalidOid;
	static int64 count = 0;

	if (again || transaction != GetCurrentTransactionStartTimestamp() || counted != owner)
	{
		Datum		values[2];
		EsimRow		row;

		values[0] = ObjectIdGetDatum(owner);
		values[1] = Int64GetDatum((int64) esim_max_pending_per_owner + 1);
		esim_execute_latest(&count_pending, values, NULL, 1);
		esim_row(&row, SPI_tuptable, 0);
		count = DatumGetInt64(row.value[0]);
		SPI_freetuptable(SPI_tuptable);
		transaction = GetCurrentTransactionStartTimestamp();
		counted = owner;
	}
	return count++;
}

static void
check_quota(EsimElement *element, int accepted)
{
	Oid			owner = element->device->owner;

	if (esim_max_pending_per_owner <= 0 ||
		pending_of_owner(owner, false) < esim_max_pending_per_owner)
		return;
	/* the sum may count what a savepoint has undone; accepted is not inserted yet */
	if (pending_of_owner(owner, true) + accepted < esim_max_pending_per_owner)
		return;
	element->failure =
		esim_failure("QUOTA_EXCEEDED",
					 psprintf("role \"%s\" has too many unfinished operations",
							  element->device->owner_name),
					 psprintf("At most %d are allowed.", esim_max_pending_per_owner),
					 pstrdup("Wait until some have completed, or raise esim.max_pending_per_owner."));
}

static void
refuse(EsimRequest *request, EsimElement *element, const ProjectQuestion *question,
	   RspState now, RspState state)
{
	char		states[160];
	char	   *label = profile_label(element);
	char	   *hint;

	project_allowed_states(question, states, sizeof(states));
	hint = psprintf("It must be %s.", states);
	if (state == RSP_STATE_NONE)
		element->failure =
			esim_failure("INCOMPATIBLE_STATE",
						 psprintf("cannot %s profile \"%s\"", request->kind->verb, label),
						 pstrdup("It is not on this eUICC."), hint);
	else
		element->failure =
			esim_failure("INCOMPATIBLE_STATE",
						 psprintf("cannot %s profile \"%s\" in state %s", request->kind->verb,
								  label, rsp_state_name(state)),
						 now == state ? psprintf("Its state is %s.", rsp_state_name(state)) :
						 psprintf("That is its state when the operations ahead of it have succeeded; now it is %s.",
								  now == RSP_STATE_NONE ? "not on this eUICC" : rsp_state_name(now)),
						 hint);
}

static void
depend_on(EsimElement *element, const uint8 *id, bool waits)
{
	element->has_depends_on = true;
	memcpy(element->depends_on.data, id, UUID_LEN);
	element->waits = waits;
}

/* Kinds that need the profile on the eUICC. */
static void
decide_on_euicc(EsimRequest *request, EsimElement *element, Scratch *scratch)
{
	Lane	   *lane = scratch->lane;
	ProjectQuestion question;
	ProjectAnswer answer;
	RspState	now = RSP_STATE_NONE;

	memset(&question, 0, sizeof(question));
	question.kind = request->kind->kind;
	question.driver = element->choice->driver;

	if (request->kind->of_profile)
	{
		if (!scratch->target_found)
		{
			element->failure = unknown_profile(element);
			return;
		}
		question.profile = scratch->target.id;

		/* on another eUICC is not on this one */
		now = scratch->target.state;
		if (on_euicc(now) &&
			!(scratch->target_has_eid && same_eid(&scratch->target_eid, &lane->eid)))
			now = RSP_STATE_NONE;
		if (lane_profile(lane, &element->profile->id) == NULL)
		{
			ProjectProfile profile = scratch->target;

			profile.state = now;
			add_profile(lane, &profile);
		}
	}

	lane->work = grow(lane->work, &lane->work_size, lane->nprofiles + lane->nops + 1,
					  sizeof(ProjectProfile));
	project(lane->profiles, lane->nprofiles, lane->ops, lane->nops, &question, lane->work, &answer);
	if (!answer.allowed)
	{
		refuse(request, element, &question, now, answer.state);
		return;
	}
	if (answer.depends_on >= 0)
		depend_on(element, lane->ops[answer.depends_on].id, false);

	if (esim_lockout_guard != ESIM_LOCKOUT_OFF && answer.only_enabled &&
		(question.kind == RSP_DISABLE || question.kind == RSP_DELETE))
	{
		if (esim_lockout_guard == ESIM_LOCKOUT_ERROR)
			element->failure =
				esim_failure("INCOMPATIBLE_STATE",
							 psprintf("cannot %s profile \"%s\"", request->kind->verb,
									  profile_label(element)),
							 pstrdup("It is the only enabled profile of its eUICC, which would lose its connection."),
							 pstrdup("Enable another profile first, or set esim.lockout_guard to warning."));
		else
			element->lockout = true;
	}
}

/*
 * A download looks at the profile wherever it is: at what is ahead for it in
 * other lanes too.
 */
static void
decide_download(EsimRequest *request, EsimElement *element, Scratch *scratch)
{
	Lane	   *lane = scratch->lane;
	EsimProfile *profile = element->profile;
	ProjectQuestion question;
	ProjectAnswer answer;
	ProjectOperation *ops;
	ProjectProfile *work;
	const Eid  *bound;
	bool		foreign;
	int			nops = 0;

	if (!scratch->target_found)
	{
		element->failure = unknown_profile(element);
		return;
	}
	memset(&question, 0, sizeof(question));
	question.kind = RSP_DOWNLOAD;
	question.driver = element->choice->driver;
	question.profile = scratch->target.id;
	question.redownload = element->redownload;

	/* what was queued for it in this very call is in the lane's list only */
	for (int i = 0; i < lane->nops; i++)
	{
		if (lane->ops[i].has_profile &&
			memcmp(lane->ops[i].profile, scratch->target.id, UUID_LEN) == 0 &&
			(scratch->nahead == 0 ||
			 lane->ops[i].seq > scratch->ahead[scratch->nahead - 1].op.seq))
		{
			Ahead	   *ahead;

			scratch->ahead = grow(scratch->ahead, &scratch->ahead_size, scratch->nahead + 1,
								  sizeof(Ahead));
			ahead = &scratch->ahead[scratch->nahead++];
			ahead->op = lane->ops[i];
			ahead->has_eid = true;
			ahead->eid = lane->eid;
		}
	}

	bound = scratch->target_has_eid ? &scratch->target_eid :
		profile->has_reserved_eid ? &profile->reserved_eid : NULL;
	ops = palloc(sizeof(ProjectOperation) * Max(scratch->nahead, 1));
	for (int i = 0; i < scratch->nahead; i++)
	{
		ops[nops++] = scratch->ahead[i].op;
		if (scratch->ahead[i].op.kind == RSP_DOWNLOAD && scratch->ahead[i].has_eid)
			bound = &scratch->ahead[i].eid;
	}
	work = palloc(sizeof(ProjectProfile) * (nops + 2));
	project(&scratch->target, 1, ops, nops, &question, work, &answer);

	foreign = bound != NULL && !same_eid(bound, &lane->eid);
	if (foreign &&
		(answer.state == RSP_STATE_DOWNLOADED || on_euicc(answer.state) ||
		 answer.state == RSP_STATE_RESERVING || answer.state == RSP_STATE_RESERVED ||
		 answer.state == RSP_STATE_RELEASED))
	{
		element->failure =
			esim_failure("IDENTIFIER_MISMATCH",
						 psprintf("profile \"%s\" is bound to another eUICC", profile_label(element)),
						 nops > 0 ?
						 pstrdup("It is there, reserved for it, or on its way to it.") :
						 pstrdup("It is there, or reserved for it."),
						 pstrdup("Use another profile, or delete it there first."));
		return;
	}
	if (answer.state == RSP_STATE_DELETED && answer.allowed &&
		!redownload_anywhere(element) && (bound == NULL || foreign))
	{
		element->failure =
			esim_failure("IDENTIFIER_MISMATCH",
						 psprintf("profile \"%s\" may not be downloaded to another eUICC",
								  profile_label(element)),
						 pstrdup("It was deleted, and may be downloaded again only to the eUICC on which it was."),
						 pstrdup("Where the SM-DP+ allows it, set redownload to ANY in its row or in the server's options."));
		return;
	}
	if (!answer.allowed)
	{
		refuse(request, element, &question, scratch->target.state, answer.state);
		if (answer.state == RSP_STATE_DELETED)
			element->failure->hint =
				pstrdup("Its redownload setting is NEVER: order another profile.");
		return;
	}
	if (answer.depends_on >= 0)
	{
		const Ahead *needed = &scratch->ahead[answer.depends_on];

		depend_on(element, needed->op.id,
				  !needed->has_eid || !same_eid(&needed->eid, &lane->eid));
	}
	pfree(ops);
	pfree(work);
}

/* An accepted element becomes an operation of its lane. */
static void
accept(EsimRequest *request, EsimElement *element, Lane *lane)
{
	ProjectOperation op;
	bool		early = request->has_not_before && request->not_before > request->now;

	element->seq = nextval_internal(esim_relation_oid("esim_operation_seq"), false);
	if (lane->nops > 0)
	{
		element->state = 'N';
		element->phase_reason = psprintf("behind %d operation%s of its eUICC", lane->nops,
										 lane->nops == 1 ? "" : "s");
	}
	else if (element->waits)
	{
		element->state = 'D';
		element->phase_reason = "waits for an operation of another eUICC or of the profile";
	}
	else if (early)
	{
		element->state = 'W';
		element->phase_reason = "not_before has not come";
	}
	else
		element->state = 'R';

	memset(&op, 0, sizeof(op));
	memcpy(op.id, element->id.data, UUID_LEN);
	op.seq = element->seq;
	op.kind = request->kind->kind;
	op.flag = request->activate;
	if (request->kind->of_profile)
	{
		op.has_profile = true;
		memcpy(op.profile, element->profile->id.data, UUID_LEN);
	}
	add_operation(lane, &op);
}

/* ------------------------------------------------------------------------
 * All of it
 * ------------------------------------------------------------------------ */

static int
compare_lane_order(const void *a, const void *b)
{
	const EsimElement *x = *(EsimElement *const *) a;
	const EsimElement *y = *(EsimElement *const *) b;
	int			cmp = eid_compare(&x->device->eid, &y->device->eid);

	return cmp != 0 ? cmp : x->ordinal - y->ordinal;
}

/* Elements that are open, in place; gives their number. */
static int
keep_open(EsimElement **list, int n)
{
	int			count = 0;

	for (int i = 0; i < n; i++)
	{
		if (is_open(list[i]))
			list[count++] = list[i];
	}
	return count;
}

/*
 * A chunk is a number of elements in the order of lanes.  Lanes stay locked to
 * the end of the transaction, so that a lane that goes on in the next chunk is
 * read again there, with what was queued by this one.
 */
static void
enqueue_chunk(EsimRequest *request, EsimElement **chunk, int n)
{
	Scratch    *scratch;
	int			accepted = 0;

	lock_lanes(request, chunk, n);
	raise_first(request);
	for (int i = 0; i < n; i++)
	{
		/* the same call may have come in while we waited */
		if (is_open(chunk[i]) && chunk[i]->idempotency_key != NULL)
			replay(chunk[i]);
	}
	raise_first(request);
	n = keep_open(chunk, n);
	if (n == 0)
		return;

	scratch = palloc0(sizeof(Scratch) * n);
	read_state(request, chunk, n, scratch);
	for (int i = 0; i < n; i++)
	{
		EsimElement *element = chunk[i];

		if (request->kind->adds_profile)
			decide_download(request, element, &scratch[i]);
		else
			decide_on_euicc(request, element, &scratch[i]);
		if (element->failure == NULL)
			check_quota(element, accepted);
		if (element->failure == NULL)
		{
			esim_uuid7(element->id.data);
			if (element->idempotency_key == NULL || claim_key(element))
			{
				accept(request, element, scratch[i].lane);
				accepted++;
			}
		}
		if (element->failure != NULL && !request->report)
			raise_first(request);
	}
	n = keep_open(chunk, n);
	if (n > 0)
		esim_insert_elements(request, chunk, n);
}

static void
enqueue(EsimRequest *request)
{
	EsimElement **list;
	int			n;

	find_rows(request);
	replay_all(request);
	raise_first(request);

	for (int i = 0; i < request->nelements; i++)
	{
		if (is_open(&request->elements[i]))
			prepare_element(request, &request->elements[i]);
	}
	raise_first(request);
	if (request->kind->adds_profile)
	{
		prepare_profiles(request);
		raise_first(request);
	}

	list = MemoryContextAllocHuge(CurrentMemoryContext,
								  sizeof(EsimElement *) * Max(request->nelements, 1));
	n = 0;
	for (int i = 0; i < request->nelements; i++)
	{
		if (is_open(&request->elements[i]))
			list[n++] = &request->elements[i];
	}
	if (n > 1)
		qsort(list, n, sizeof(EsimElement *), compare_lane_order);
	for (int from = 0; from < n; from += CHUNK)
	{
		CHECK_FOR_INTERRUPTS();
		enqueue_chunk(request, list + from, Min(CHUNK, n - from));
	}
	if (request->kind->adds_profile)
		remove_profiles(request);
}

/*
 * The statements are planned for a queue of any size: index scans, and one
 * plan for all parameters.  Statistics taken when it was short would else make
 * sequential scans of it, and make them again and again.
 */
void
esim_enqueue(EsimRequest *request)
{
	bool		seqscan = enable_seqscan;
	bool		jit = jit_enabled;
	int			mode = plan_cache_mode;

	enable_seqscan = false;
	jit_enabled = false;
	plan_cache_mode = PLAN_CACHE_MODE_FORCE_GENERIC_PLAN;
	PG_TRY();
	{
		enqueue(request);
	}
	PG_FINALLY();
	{
		enable_seqscan = seqscan;
		jit_enabled = jit;
		plan_cache_mode = mode;
	}
	PG_END_TRY();
}
