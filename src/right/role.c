/*-------------------------------------------------------------------------
 *
 * role.c
 *	  The roles whose rows a session may see, and what the policies ask.
 *
 * The functions that decide are LEAKPROOF and next to free by their declared
 * cost, so that they come first among the conditions on a row, before any that
 * the query has: what happens to a row of another owner is then the same
 * whatever is asked of it.  They raise nothing and tell nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "right/right.h"

#include "access/htup_details.h"
#include "catalog/pg_auth_members.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/supportnodes.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/catcache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/uuid.h"

#include "identifier/identifier.h"
#include "operation/table.h"

List *
esim_roles_of(Oid role)
{
	List	   *known = list_make2_oid(role, ROLE_PG_DATABASE_OWNER);
	List	   *roles = NIL;
	ListCell   *cell;

	/* the list grows while it is walked; foreach allows that */
	foreach(cell, known)
	{
		CatCList   *memberships = SearchSysCacheList1(AUTHMEMMEMROLE,
													  ObjectIdGetDatum(lfirst_oid(cell)));

		for (int i = 0; i < memberships->n_members; i++)
		{
			HeapTuple	tuple = &memberships->members[i]->tuple;

			known = list_append_unique_oid(known,
										   ((Form_pg_auth_members) GETSTRUCT(tuple))->roleid);
		}
		ReleaseSysCacheList(memberships);
	}

	/* how rights are inherited differs between versions */
	foreach(cell, known)
	{
		if (has_privs_of_role(role, lfirst_oid(cell)))
			roles = lappend_oid(roles, lfirst_oid(cell));
	}
	list_free(known);
	return roles;
}

/*
 * esim_roles() oid[]: the current role and the roles whose rights it has.
 *
 * Where it is asked for each row, the first answer is kept for the query.
 */
typedef struct RolesOfCaller
{
	Oid			caller;
	ArrayType  *roles;
} RolesOfCaller;

PG_FUNCTION_INFO_V1(esim_roles);
Datum
esim_roles(PG_FUNCTION_ARGS)
{
	RolesOfCaller *known = (RolesOfCaller *) fcinfo->flinfo->fn_extra;
	MemoryContext old;
	List	   *roles;
	Datum	   *values;
	int			count = 0;
	ListCell   *cell;

	if (known != NULL && known->caller == GetUserId())
		PG_RETURN_ARRAYTYPE_P(known->roles);

	roles = esim_roles_of(GetUserId());
	values = (Datum *) palloc(list_length(roles) * sizeof(Datum));
	foreach(cell, roles)
		values[count++] = ObjectIdGetDatum(lfirst_oid(cell));

	old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	if (known == NULL)
		known = palloc(sizeof(RolesOfCaller));
	known->caller = GetUserId();
	known->roles = construct_array(values, count, OIDOID, sizeof(Oid), true, TYPALIGN_INT);
	fcinfo->flinfo->fn_extra = known;
	MemoryContextSwitchTo(old);
	PG_RETURN_ARRAYTYPE_P(known->roles);
}

/*
 * esim_visible(owner, owner_name) bool: the current role has the rights of the
 * owner, and the owner still is the role of that name.
 *
 * Asked for every row that a scan without the index on the owner meets, so
 * answers are kept for the query.
 */
#define ANSWERS 64

typedef struct Answer
{
	Oid			caller;
	Oid			owner;
	NameData	owner_name;
	bool		visible;
} Answer;

PG_FUNCTION_INFO_V1(esim_visible);
Datum
esim_visible(PG_FUNCTION_ARGS)
{
	Oid			owner = PG_GETARG_OID(0);
	Name		owner_name = PG_GETARG_NAME(1);
	Oid			caller = GetUserId();
	Answer	   *answer = (Answer *) fcinfo->flinfo->fn_extra;

	if (answer == NULL)
	{
		answer = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, ANSWERS * sizeof(Answer));
		fcinfo->flinfo->fn_extra = answer;
	}
	answer += owner % ANSWERS;
	if (answer->caller != caller || answer->owner != owner ||
		strncmp(NameStr(answer->owner_name), NameStr(*owner_name), NAMEDATALEN) != 0)
	{
		answer->visible = esim_may_act_for(caller, owner, NameStr(*owner_name));
		answer->caller = caller;
		answer->owner = owner;
		answer->owner_name = *owner_name;
	}
	PG_RETURN_BOOL(answer->visible);
}

/* ------------------------------------------------------------------------
 * What hangs on another row
 * ------------------------------------------------------------------------ */

#define OWNED(t) {t, 2, {"owner", "owner_name"}}

static EsimTable operation_table = OWNED("esim_operation");
static EsimTable profile_table = OWNED("esim_profile");
static EsimTable device_table = OWNED("esim_device");
static EsimIndex operation_by_id = {"esim_operation_pkey", &operation_table, 1};
static EsimIndex profile_by_id = {"esim_profile_pkey", &profile_table, 1};
static EsimIndex device_by_owner = {"esim_device_owner_eid_idx", &device_table, 2};

/* The next row of the scan is the current role's. */
static bool
next_is_visible(EsimScan *scan)
{
	Datum		owner;
	Datum		owner_name;
	bool		isnull;

	if (!index_getnext_slot(scan->desc, ForwardScanDirection, scan->slot))
		return false;
	owner = slot_getattr(scan->slot, scan->table->attnum[0], &isnull);
	owner_name = slot_getattr(scan->slot, scan->table->attnum[1], &isnull);
	return esim_may_act_for(GetUserId(), DatumGetObjectId(owner),
							NameStr(*DatumGetName(owner_name)));
}

/* Rows of one operation, or of one profile, often stand together. */
typedef struct LastAsked
{
	Oid			caller;
	pg_uuid_t	id;
	bool		visible;
} LastAsked;

static Datum
visible_by_id(FunctionCallInfo fcinfo, EsimIndex *index)
{
	pg_uuid_t  *id = PG_GETARG_UUID_P(0);
	LastAsked  *last = (LastAsked *) fcinfo->flinfo->fn_extra;

	if (last == NULL)
	{
		last = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(LastAsked));
		fcinfo->flinfo->fn_extra = last;
	}
	if (last->caller != GetUserId() || memcmp(&last->id, id, sizeof(pg_uuid_t)) != 0)
	{
		EsimScan	scan;

		esim_scan_open(&scan, index, GetActiveSnapshot());
		esim_scan_search(&scan, UUIDPGetDatum(id));
		last->visible = next_is_visible(&scan);
		esim_scan_close(&scan);
		last->caller = GetUserId();
		last->id = *id;
	}
	PG_RETURN_BOOL(last->visible);
}

/*
 * esim_operation_visible(uuid), esim_profile_visible(uuid) bool: there is such
 * an operation, such a profile, that the current role sees.
 */
PG_FUNCTION_INFO_V1(esim_operation_visible);
Datum
esim_operation_visible(PG_FUNCTION_ARGS)
{
	return visible_by_id(fcinfo, &operation_by_id);
}

PG_FUNCTION_INFO_V1(esim_profile_visible);
Datum
esim_profile_visible(PG_FUNCTION_ARGS)
{
	return visible_by_id(fcinfo, &profile_by_id);
}

/*
 * esim_device_visible(eid) bool: the current role sees a device with that EID.
 *
 * An EID can be guessed, so only the part of the index is looked at that is the
 * role's: a device of another owner costs what none costs.
 */
PG_FUNCTION_INFO_V1(esim_device_visible);
Datum
esim_device_visible(PG_FUNCTION_ARGS)
{
	EsimScan	scan;
	List	   *roles = esim_roles_of(GetUserId());
	ListCell   *cell;
	bool		visible = false;

	esim_scan_open(&scan, &device_by_owner, GetActiveSnapshot());
	foreach(cell, roles)
	{
		esim_scan_search2(&scan, ObjectIdGetDatum(lfirst_oid(cell)), PG_GETARG_DATUM(0));
		if ((visible = next_is_visible(&scan)))
			break;
	}
	esim_scan_close(&scan);
	list_free(roles);
	PG_RETURN_BOOL(visible);
}

/*
 * Support of the functions above: how many rows pass esim_visible(), the one
 * with two arguments.
 *
 * The condition on the owner that stands beside takes every role of the caller
 * for the owner of as many rows as any; most own nothing.
 *
 * That there is a support function also brings the library, and with it the
 * hooks of planner.c, before the first plan of a session is made.
 */
PG_FUNCTION_INFO_V1(esim_visible_support);
Datum
esim_visible_support(PG_FUNCTION_ARGS)
{
	Node	   *request = (Node *) PG_GETARG_POINTER(0);

	if (IsA(request, SupportRequestSelectivity) &&
		list_length(((SupportRequestSelectivity *) request)->args) == 2)
	{
		SupportRequestSelectivity *selectivity = (SupportRequestSelectivity *) request;
		List	   *roles = esim_roles_of(GetUserId());

		selectivity->selectivity = 1.0 / Max(list_length(roles), 1);
		list_free(roles);
		PG_RETURN_POINTER(request);
	}
	PG_RETURN_POINTER(NULL);
}
