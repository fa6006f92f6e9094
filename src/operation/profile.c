/*-------------------------------------------------------------------------
 *
 * profile.c
 *	  Rows of profiles that a request adds, by a download or a reservation, and
 *	  the lanes of those that are downloaded.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "operation/enqueue.h"

static EsimStatement insert_profiles = {
	"INSERT INTO @esim_profile (id, iccid, owner, owner_name, state, state_source, activation_code,"
	" reserved_eid, server, smdp_address, redownload, profile_type)"
	" SELECT u.id, u.iccid, u.owner, u.owner_name, $10::@esim_profile_state, 'operation', u.code,"
	" u.reserved_eid, u.server, u.smdp_address, u.redownload, $11"
	" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9)"
	" AS u(id, iccid, owner, owner_name, code, reserved_eid, server, smdp_address, redownload)"
	" ON CONFLICT DO NOTHING RETURNING id, lane",
	11, {"uuid[]", "@iccid[]", "regrole[]", "name[]", "@activation_code[]", "@eid[]", "text[]",
	"text[]", "text[]", "text", "text"}
};
#define INSERT_COLUMNS 9

/* a reservation that is tried again */
static EsimStatement update_profile = {
	"UPDATE @esim_profile SET server = $2, reserved_eid = $3, profile_type = $4,"
	" smdp_address = coalesce($5, smdp_address), redownload = $6 WHERE id = $1",
	6, {"uuid", "text", "@eid", "text", "text", "text"}
};
static EsimStatement delete_profiles = {
	/* another element of the call may have taken it */
	"DELETE FROM @esim_profile p WHERE p.id = ANY ($1)"
	" AND NOT EXISTS (SELECT FROM @esim_operation o WHERE o.profile = p.id)",
	1, {"uuid[]"}
};
static EsimStatement insert_profile_lanes = {
	"INSERT INTO @esim_profile_lane (lane) SELECT DISTINCT u FROM unnest($1) u ORDER BY u"
	" ON CONFLICT DO NOTHING",
	1, {"int8[]"}
};
#define MAX_LANE_TRIES 100

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

/* does the server itself prepare the profile? */
static bool
prepares(const EsimRequest *request, const EsimElement *element)
{
	return request->kind->kind == RSP_RESERVE || element->by_device;
}

/* the guide of Super SIM: a profile is downloaded once */
static const char *
redownload_of(const EsimElement *element)
{
	const EsimServer *server = element->choice->server;

	return server->rsp.protocol == RSP_PROTOCOL_TWILIO ? "NEVER" : server->redownload;
}

static Datum
text_datum(const char *text, bool *null)
{
	*null = text == NULL;
	return text ? PointerGetDatum(cstring_to_text(text)) : (Datum) 0;
}

/*
 * Add the rows of profiles that are not known.  Who adds the same ICCID at the
 * same time is waited for by the unique index, and then found.
 */
static void
add_profiles(EsimRequest *request, EsimElement **unknown, int n)
{
	bool		reserve = request->kind->kind == RSP_RESERVE;
	RspState	state = reserve ? RSP_STATE_RESERVING : RSP_STATE_RELEASED;

	qsort(unknown, n, sizeof(EsimElement *), compare_fresh_iccid);
	for (int from = 0; from < n; from += ESIM_CHUNK)
	{
		int			count = Min(ESIM_CHUNK, n - from);
		EsimElement **chunk = unknown + from;
		Datum	   *column[INSERT_COLUMNS];
		bool	   *nulls[INSERT_COLUMNS];
		Datum		values[INSERT_COLUMNS + 2];
		char		scalar_nulls[INSERT_COLUMNS + 2];
		const Oid	types[INSERT_COLUMNS] = {UUIDOID, esim_type_oid("iccid"), REGROLEOID, NAMEOID,
		esim_type_oid("activation_code"), esim_type_oid("eid"), TEXTOID, TEXTOID, TEXTOID};
		NameData   *names = palloc0(sizeof(NameData) * count);
		EsimFinder	finder;
		int			missing = 0;
		bool		null;

		for (int c = 0; c < INSERT_COLUMNS; c++)
		{
			column[c] = palloc(sizeof(Datum) * count);
			nulls[c] = palloc0(sizeof(bool) * count);
		}
		for (int i = 0; i < count; i++)
		{
			EsimElement *element = chunk[i];
			const EsimServer *server = element->choice->server;
			EsimProfile *profile = palloc0(sizeof(EsimProfile));
			bool		prepared = prepares(request, element);

			esim_uuid7(profile->id.data);
			profile->has_iccid = element->has_iccid;
			profile->iccid = element->iccid;
			profile->has_reserved_eid = reserve && element->has_eid;
			profile->reserved_eid = element->eid;
			profile->owner = element->owner;
			profile->owner_name = element->owner_name;
			profile->state = state;
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
			nulls[5][i] = !profile->has_reserved_eid;
			column[5][i] = EidPGetDatum(&profile->reserved_eid);
			column[6][i] = text_datum(prepared ? server->rsp.name : NULL, &nulls[6][i]);
			column[7][i] = text_datum(reserve ? server->rsp.smdp_address : NULL, &nulls[7][i]);
			column[8][i] = text_datum(prepared ? redownload_of(element) : NULL, &nulls[8][i]);
		}
		for (int c = 0; c < INSERT_COLUMNS; c++)
			values[c] = esim_make_array(column[c], nulls[c], count, types[c]);
		memset(scalar_nulls, ' ', sizeof(scalar_nulls));
		values[INSERT_COLUMNS] = PointerGetDatum(cstring_to_text(rsp_state_name(state)));
		values[INSERT_COLUMNS + 1] = text_datum(request->profile_type, &null);
		if (null)
			scalar_nulls[INSERT_COLUMNS + 1] = 'n';
		esim_execute_latest(&insert_profiles, values, scalar_nulls, 0);

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
		if (missing > 0)
			esim_finder_open(&finder, request->caller);
		for (int i = 0; i < missing; i++)
		{
			EsimElement *element = chunk[i];

			esim_find_profile(request, &finder, element);
			if (element->profile == NULL)
				ereport(ERROR,
						(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						 errmsg("could not add profile \"%s\" due to concurrent changes",
								esim_mask_iccid(element->iccid)),
						 errhint("Try again.")));
			if (element->failure == NULL)
				element->redownload = esim_redownload_allowed(element);
		}
		if (missing > 0)
			esim_finder_close(&finder);
	}
}

/* A profile that is being reserved already, and nothing does: as it is asked for now. */
void
esim_reserve_profiles(EsimRequest *request, EsimElement **elements, int n)
{
	for (int i = 0; i < n; i++)
	{
		EsimElement *element = elements[i];
		Datum		values[6];
		char		spi_nulls[6];
		bool		nulls[6] = {false};

		if (element->fresh)
			continue;
		values[0] = UUIDPGetDatum(&element->profile->id);
		values[1] = text_datum(element->choice->server->rsp.name, &nulls[1]);
		values[2] = EidPGetDatum(&element->eid);
		nulls[2] = !element->has_eid;
		values[3] = text_datum(request->profile_type, &nulls[3]);
		values[4] = text_datum(element->choice->server->rsp.smdp_address, &nulls[4]);
		values[5] = text_datum(redownload_of(element), &nulls[5]);
		for (int c = 0; c < 6; c++)
			spi_nulls[c] = nulls[c] ? 'n' : ' ';
		esim_execute_latest(&update_profile, values, spi_nulls, 0);
	}
}

static bool
insert_lanes_step(void *arg)
{
	esim_execute_latest(&insert_profile_lanes, arg, NULL, 0);
	return true;
}

/*
 * Under REPEATABLE READ a row that somebody else inserts while we wait for it is
 * an error, whatever snapshot the statement has.  false: that was so, it is
 * there now.
 */
static bool
try_insert_lanes(Datum value, bool last)
{
	ErrorData  *error = esim_try(insert_lanes_step, &value);

	if (error == NULL)
		return true;
	if (last || error->sqlerrcode != ERRCODE_T_R_SERIALIZATION_FAILURE)
		ReThrowError(error);
	FreeErrorData(error);
	return false;
}

/* Lock lanes that are no eUICCs', in ascending order. */
void
esim_lock_profile_lanes(Datum *lanes, int nlanes)
{
	Datum		value = esim_make_array(lanes, NULL, nlanes, INT8OID);

	if (!IsolationUsesXactSnapshot())
		esim_execute_latest(&insert_profile_lanes, &value, NULL, 0);
	else
	{
		/* a transaction that cannot be serialized at all fails for ever */
		for (int tries = 1; !try_insert_lanes(value, tries == MAX_LANE_TRIES); tries++)
			CHECK_FOR_INTERRUPTS();
	}
	esim_execute_latest(&lock_profile_lanes, &value, NULL, 0);
	SPI_freetuptable(SPI_tuptable);
	pfree(DatumGetPointer(value));
}

/*
 * Rows of profiles are made, and for downloads the lanes of those that were
 * there before are locked, before any lane of an eUICC.  One call downloads a
 * profile to one eUICC.
 */
void
esim_prepare_profiles(EsimRequest *request)
{
	EsimElement **list = palloc(sizeof(EsimElement *) * Max(request->nelements, 1));
	Datum	   *lanes;
	int			n = 0;
	int			nlanes = 0;

	for (int i = 0; i < request->nelements; i++)
	{
		if (esim_is_open(&request->elements[i]) && request->elements[i].profile == NULL)
			list[n++] = &request->elements[i];
	}
	if (n > 0)
		add_profiles(request, list, n);
	if (request->kind->lane != ESIM_LANE_EUICC)
	{
		pfree(list);
		return;
	}

	n = 0;
	for (int i = 0; i < request->nelements; i++)
	{
		if (esim_is_open(&request->elements[i]))
			list[n++] = &request->elements[i];
	}
	lanes = palloc(sizeof(Datum) * Max(n, 1));
	qsort(list, n, sizeof(EsimElement *), compare_profile_id);
	for (int i = 0; i < n; i++)
	{
		if (i > 0 && memcmp(&list[i]->profile->id, &list[i - 1]->profile->id, sizeof(pg_uuid_t)) == 0)
		{
			EsimElement *first = list[i - 1];

			if (!esim_same_eid(&list[i]->eid, &first->eid))
			{
				list[i]->failure =
					esim_failure("IDENTIFIER_MISMATCH",
								 psprintf("profile \"%s\" is asked for twice", esim_profile_label(list[i])),
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
		esim_lock_profile_lanes(lanes, nlanes);
	pfree(lanes);
	pfree(list);
}

/* Rows made for elements that could not be queued after all. */
void
esim_remove_profiles(EsimRequest *request)
{
	Datum	   *ids = NULL;
	int			n = 0;

	for (int i = 0; i < request->nelements; i++)
	{
		EsimElement *element = &request->elements[i];

		if (!element->fresh || esim_is_open(element))
			continue;
		if (ids == NULL)
			ids = palloc(sizeof(Datum) * request->nelements);
		ids[n++] = UUIDPGetDatum(&element->profile->id);
	}
	if (n > 0)
	{
		Datum		value = esim_make_array(ids, NULL, n, UUIDOID);

		esim_execute_latest(&delete_profiles, &value, NULL, 0);
	}
}
