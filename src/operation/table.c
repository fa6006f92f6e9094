/*-------------------------------------------------------------------------
 *
 * table.c
 *	  Access to the extension's tables without the executor.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "access/nbtree.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "operation/table.h"

void
esim_table_locate(EsimTable *table, Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	int			found = 0;

	if (table->relid == RelationGetRelid(rel) && table->natts == desc->natts)
		return;
	table->relid = InvalidOid;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		int			c;

		if (attribute->attisdropped)
			continue;
		for (c = 0; c < table->ncolumns; c++)
		{
			if (strcmp(table->columns[c], NameStr(attribute->attname)) == 0)
				break;
		}
		if (c < table->ncolumns)
		{
			table->attnum[c] = attribute->attnum;
			found++;
		}
	}
	if (found != table->ncolumns)
		elog(ERROR, "table %s lacks a column", table->name);
	table->natts = desc->natts;
	table->relid = RelationGetRelid(rel);
}

Snapshot
esim_latest_snapshot(void)
{
	CommandCounterIncrement();
	return RegisterSnapshot(GetLatestSnapshot());
}

/* Look up the equality of the index's first columns once. */
static void
locate_keys(EsimIndex *index, Relation rel)
{
	if (index->indexid == RelationGetRelid(rel))
		return;
	index->indexid = InvalidOid;
	for (int i = 0; i < index->nkeys; i++)
	{
		Oid			type = rel->rd_opcintype[i];
		Oid			equality = get_opfamily_member(rel->rd_opfamily[i], type, type,
												   BTEqualStrategyNumber);
		FmgrInfo	function;

		if (!OidIsValid(equality))
			elog(ERROR, "index %s has no equality", index->name);
		fmgr_info_cxt(get_opcode(equality), &function, TopMemoryContext);
		ScanKeyEntryInitializeWithInfo(&index->key[i], 0, i + 1, BTEqualStrategyNumber, InvalidOid,
									   rel->rd_indcollation[i], &function, (Datum) 0);
	}
	index->indexid = RelationGetRelid(rel);
}

void
esim_scan_open(EsimScan *scan, EsimIndex *index, Snapshot snapshot)
{
	scan->table = index->table;
	scan->rel = table_open(esim_relation_oid(index->table->name), AccessShareLock);
	scan->index = index_open(esim_relation_oid(index->name), AccessShareLock);
	esim_table_locate(index->table, scan->rel);
	locate_keys(index, scan->index);
	scan->nkeys = index->nkeys;
	memcpy(scan->key, index->key, sizeof(scan->key));
	scan->slot = table_slot_create(scan->rel, NULL);
	scan->snapshot = snapshot;
	scan->desc = ESIM_INDEX_BEGINSCAN(scan->rel, scan->index, snapshot, scan->nkeys);
}

void
esim_scan_search(EsimScan *scan, Datum value)
{
	Assert(scan->nkeys == 1);
	scan->key[0].sk_argument = value;
	index_rescan(scan->desc, scan->key, 1, NULL, 0);
}

void
esim_scan_search2(EsimScan *scan, Datum first, Datum second)
{
	Assert(scan->nkeys == 2);
	scan->key[0].sk_argument = first;
	scan->key[1].sk_argument = second;
	index_rescan(scan->desc, scan->key, 2, NULL, 0);
}

static void
row_of_slot(EsimScan *scan, EsimRow *row)
{
	EsimTable  *table = scan->table;

	slot_getallattrs(scan->slot);
	for (int c = 0; c < table->ncolumns; c++)
	{
		row->value[c] = scan->slot->tts_values[table->attnum[c] - 1];
		row->null[c] = scan->slot->tts_isnull[table->attnum[c] - 1];
	}
}

bool
esim_scan_next(EsimScan *scan, EsimRow *row)
{
	if (!index_getnext_slot(scan->desc, ForwardScanDirection, scan->slot))
		return false;
	row_of_slot(scan, row);
	return true;
}

bool
esim_scan_lock(EsimScan *scan, EsimRow *row)
{
	TM_FailureData failure;
	TM_Result	result;

	result = table_tuple_lock(scan->rel, &scan->slot->tts_tid, scan->snapshot, scan->slot,
							  GetCurrentCommandId(false), LockTupleNoKeyExclusive, LockWaitBlock,
							  TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS |
							  TUPLE_LOCK_FLAG_FIND_LAST_VERSION,
							  &failure);
	switch (result)
	{
		case TM_Ok:
			row_of_slot(scan, row);
			return true;
		case TM_Deleted:
		case TM_SelfModified:
			return false;
		default:
			elog(ERROR, "unexpected result of locking a row of %s: %d", scan->table->name, result);
	}
	return false;
}

void
esim_scan_close(EsimScan *scan)
{
	index_endscan(scan->desc);
	ExecDropSingleTupleTableSlot(scan->slot);
	index_close(scan->index, NoLock);
	table_close(scan->rel, NoLock);
}
