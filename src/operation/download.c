/*-------------------------------------------------------------------------
 *
 * download.c
 *	  Rows and lanes of the profiles that a request downloads.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "operation/enqueue.h"

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
	for (int from = 0; from < n; from += ESIM_CHUNK)
	{
		int			count = Min(ESIM_CHUNK, n - from);
		EsimElement **chunk = unknown + from;
		Datum	   *column[5];
		bool	   *nulls[5];
		Datum		values[5];
		const Oid	types[5] = {UUIDOID, esim_type_oid("iccid"), REGROLEOID, NAMEOID,
		esim_type_oid("activation_code")};
		NameData   *names = palloc0(sizeof(NameData) * count);
		EsimFinder	finder;
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
			values[c] = esim_make_array(column[c], nulls[c], count, types[c]);
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
		if (missing > 0)
			esim_finder_open(&finder);
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

/*
 * One call downloads a profile to one eUICC.  Rows of profiles are made, and
 * the lanes of those that were there before are locked, before any lane of an
 * eUICC.
 */
void
esim_prepare_profiles(EsimRequest *request)
{
	EsimElement **list = palloc(sizeof(EsimElement *) * Max(request->nelements, 1));
	Datum	   *lanes;
	Datum		value;
	int			n = 0;
	int			nlanes = 0;

	for (int i = 0; i < request->nelements; i++)
	{
		if (esim_is_open(&request->elements[i]) && request->elements[i].profile == NULL)
			list[n++] = &request->elements[i];
	}
	if (n > 0)
		add_profiles(request, list, n);

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
	{
		value = esim_make_array(lanes, NULL, nlanes, INT8OID);
		esim_execute_latest(&insert_profile_lanes, &value, NULL, 0);
		esim_execute_latest(&lock_profile_lanes, &value, NULL, 0);
		SPI_freetuptable(SPI_tuptable);
		pfree(DatumGetPointer(value));
	}
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
