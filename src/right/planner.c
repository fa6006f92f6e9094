/*-------------------------------------------------------------------------
 *
 * planner.c
 *	  Keeps rows of other owners out of the plans of a role.
 *
 * Row-level security says which rows a query gives; the planner and EXPLAIN
 * know more.  Two of the ways in which a plan tells whether a row is there that
 * the role does not see are closed here, for relations of the extension whose
 * rows are restricted for the query's role:
 *
 * An index is searched for what a query asks before the policy looks at the
 * row, so EXPLAIN ANALYZE counts what it found.  What can be guessed is
 * searched only in indexes that begin with the owner; in others, what is random
 * and known in full.
 *
 * Estimates are made of the most common values and histograms of all rows, so
 * EXPLAIN tells where the values are.  The planner gets figures without values.
 *
 * The third way is the order of conditions; see role.c.
 *
 *-------------------------------------------------------------------------
 */
#include "right/right.h"

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "nodes/pathnodes.h"
#include "nodes/primnodes.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/selfuncs.h"
#include "utils/syscache.h"

static ESIM_TABLE_HOOK_TYPE previous_table_hook = NULL;
static get_relation_stats_hook_type previous_relation_stats = NULL;
static get_index_stats_hook_type previous_index_stats = NULL;

/*
 * A relation of the extension, and the query's role does not see all of it.
 *
 * The conditions of policies are simplified by the time that this is asked:
 * where one is true for everybody (esim_worker's), nothing is left of them.
 */
static bool
is_veiled(RangeTblEntry *rte)
{
	ListCell   *cell;
	char	   *name;
	bool		ours;

	if (rte->rtekind != RTE_RELATION)
		return false;
	foreach(cell, rte->securityQuals)
	{
		if (lfirst(cell) != NULL)
			break;
	}
	if (cell == NULL)
		return false;

	name = get_rel_name(rte->relid);
	ours = name != NULL && strncmp(name, "esim_", 5) == 0;
	if (name != NULL)
		pfree(name);
	return ours && OidIsValid(esim_extension_oid()) &&
		get_rel_namespace(rte->relid) == esim_schema_oid();
}

/*
 * The index begins with the owner, and a policy asks that it is one of the
 * role's: this is part of every search then.
 */
static bool
begins_with_owner(RangeTblEntry *rte, const IndexOptInfo *index)
{
	ListCell   *list;

	/* others do not search for arrays */
	if (index->relam != BTREE_AM_OID)
		return false;

	foreach(list, rte->securityQuals)
	{
		ListCell   *cell;

		foreach(cell, castNode(List, lfirst(list)))
		{
			ScalarArrayOpExpr *condition = (ScalarArrayOpExpr *) lfirst(cell);
			Var		   *owner;

			if (!IsA(condition, ScalarArrayOpExpr) || !condition->useOr ||
				get_op_opfamily_strategy(condition->opno, index->opfamily[0]) != BTEqualStrategyNumber ||
				contain_var_clause(lsecond(condition->args)))
				continue;
			owner = (Var *) linitial(condition->args);
			while (IsA(owner, RelabelType))
				owner = (Var *) ((RelabelType *) owner)->arg;
			if (IsA(owner, Var) && owner->varno == index->rel->relid &&
				owner->varattno == index->indexkeys[0])
				return true;
		}
	}
	return false;
}

/* A random identifier, and mere numbers beside it. */
static bool
is_by_uuid(const IndexOptInfo *index)
{
	for (int i = 0; i < index->nkeycolumns; i++)
	{
		Oid			type = index->opcintype[i];

		if (type != UUIDOID &&
			(i == 0 || (type != INT2OID && type != INT4OID && type != INT8OID)))
			return false;
	}
	return true;
}

/*
 * A random identifier cannot be guessed, but it can be closed in on: the index
 * is to be searched for equality only, and not as a whole.  So it is made to
 * look like a hash index.
 */
static void
allow_equality_only(IndexOptInfo *index)
{
	Oid			opclass = GetDefaultOpClass(UUIDOID, HASH_AM_OID);
	Oid		   *opfamily;

	if (index->relam != BTREE_AM_OID)
		return;

	/* that of the order, which stays known, is in the same place */
	opfamily = palloc(index->nkeycolumns * sizeof(Oid));
	memcpy(opfamily, index->opfamily, index->nkeycolumns * sizeof(Oid));
	opfamily[0] = get_opclass_family(opclass);
	index->opfamily = opfamily;
	index->relam = HASH_AM_OID;
	index->amoptionalkey = false;
	index->amsearchnulls = false;
}

/* That it is unique stays known: this does not depend on the rows. */
static void
forbid(IndexOptInfo *index)
{
	index->amhasgettuple = false;
	index->amhasgetbitmap = false;
	index->amcanparallel = false;
}

static void
relation_info(ESIM_TABLE_HOOK_PARAMETERS)
{
	RangeTblEntry *entry = planner_rt_fetch(rel->relid, root);
	ListCell   *cell;

	if (previous_table_hook)
		previous_table_hook(ESIM_TABLE_HOOK_ARGUMENTS);

	if (!is_veiled(entry))
		return;

	/* extended statistics have values, too */
	rel->statlist = NIL;

	foreach(cell, rel->indexlist)
	{
		IndexOptInfo *index = lfirst_node(IndexOptInfo, cell);

		if (begins_with_owner(entry, index))
			continue;
		if (is_by_uuid(index))
			allow_equality_only(index);
		else
			forbid(index);
	}
}

/* The statistics of a column as far as they have no values of it. */
static void
supply_figures(Oid relid, AttrNumber attnum, bool inherited, VariableStatData *vardata)
{
	HeapTuple	tuple;
	Form_pg_statistic figures;

	vardata->statsTuple = NULL;
	tuple = SearchSysCacheCopy3(STATRELATTINH, ObjectIdGetDatum(relid),
								Int16GetDatum(attnum), BoolGetDatum(inherited));
	if (!HeapTupleIsValid(tuple))
		return;
	figures = (Form_pg_statistic) GETSTRUCT(tuple);
	figures->stakind1 = figures->stakind2 = figures->stakind3 = figures->stakind4 =
		figures->stakind5 = 0;
	vardata->statsTuple = tuple;
	vardata->freefunc = heap_freetuple;
}

static bool
relation_stats(PlannerInfo *root, RangeTblEntry *rte, AttrNumber attnum, VariableStatData *vardata)
{
	if (is_veiled(rte))
	{
		supply_figures(rte->relid, attnum, rte->inh, vardata);
		return true;
	}
	return previous_relation_stats && previous_relation_stats(root, rte, attnum, vardata);
}

static bool
index_stats(PlannerInfo *root, Oid indexid, AttrNumber attnum, VariableStatData *vardata)
{
	Oid			relid = IndexGetRelation(indexid, true);

	for (int i = 1; OidIsValid(relid) && i < root->simple_rel_array_size; i++)
	{
		RangeTblEntry *rte = root->simple_rte_array[i];

		if (rte != NULL && rte->rtekind == RTE_RELATION && rte->relid == relid && is_veiled(rte))
		{
			supply_figures(indexid, attnum, false, vardata);
			return true;
		}
	}
	return previous_index_stats && previous_index_stats(root, indexid, attnum, vardata);
}

void
esim_planner_install(void)
{
	previous_table_hook = ESIM_TABLE_HOOK;
	ESIM_TABLE_HOOK = relation_info;
	previous_relation_stats = get_relation_stats_hook;
	get_relation_stats_hook = relation_stats;
	previous_index_stats = get_index_stats_hook;
	get_index_stats_hook = index_stats;
}
