/*-------------------------------------------------------------------------
 *
 * right.c
 *	  The roles whose rows a session may see, for the policies.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "access/htup_details.h"
#include "catalog/pg_auth_members.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/catcache.h"
#include "utils/syscache.h"

/*
 * esim_roles() oid[]: the current role and the roles it is a member of,
 * directly or not.
 *
 * At least those that pg_has_role(..., 'USAGE') says yes to: whether rights
 * are inherited is left to it, since that differs between versions.
 */
PG_FUNCTION_INFO_V1(esim_roles);
Datum
esim_roles(PG_FUNCTION_ARGS)
{
	List	   *roles = list_make2_oid(GetUserId(), ROLE_PG_DATABASE_OWNER);
	Datum	   *values;
	int			count = 0;
	ListCell   *cell;

	/* the list grows while it is walked; foreach allows that */
	foreach(cell, roles)
	{
		CatCList   *memberships = SearchSysCacheList1(AUTHMEMMEMROLE,
													  ObjectIdGetDatum(lfirst_oid(cell)));

		for (int i = 0; i < memberships->n_members; i++)
		{
			HeapTuple	tuple = &memberships->members[i]->tuple;

			roles = list_append_unique_oid(roles,
										   ((Form_pg_auth_members) GETSTRUCT(tuple))->roleid);
		}
		ReleaseSysCacheList(memberships);
	}

	values = (Datum *) palloc(list_length(roles) * sizeof(Datum));
	foreach(cell, roles)
		values[count++] = ObjectIdGetDatum(lfirst_oid(cell));

	PG_RETURN_ARRAYTYPE_P(construct_array(values, count, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}
