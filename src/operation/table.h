/*-------------------------------------------------------------------------
 *
 * table.h
 *	  The extension's tables read by index and written without the executor.
 *
 * A statement costs some ten microseconds to start, which is more than all
 * the index accesses of a call together.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_TABLE_H
#define ESIM_TABLE_H

#include "esim.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/skey.h"
#include "utils/relcache.h"

#include "operation/operation.h"

/* A table and those of its columns that are used, in the order of use. */
typedef struct EsimTable
{
	const char *name;
	int			ncolumns;
	const char *columns[ESIM_MAX_COLUMNS];

	/* where they are in the table that is there */
	Oid			relid;
	int			natts;
	AttrNumber	attnum[ESIM_MAX_COLUMNS];
} EsimTable;

/* Make sure that attnum[] is that of rel. */
extern void esim_table_locate(EsimTable *table, Relation rel);

/* An index that is searched by equality of its first column, or first two. */
#define ESIM_INDEX_KEYS 2
typedef struct EsimIndex
{
	const char *name;
	EsimTable  *table;
	int			nkeys;

	Oid			indexid;		/* of which the keys are */
	ScanKeyData key[ESIM_INDEX_KEYS];
} EsimIndex;

typedef struct EsimScan
{
	EsimTable  *table;
	Relation	rel;
	Relation	index;
	Snapshot	snapshot;
	IndexScanDesc desc;
	TupleTableSlot *slot;
	int			nkeys;
	ScanKeyData key[ESIM_INDEX_KEYS];
} EsimScan;

/*
 * Open an index, search it for a value any number of times, close it.  Rows
 * come in the order of the index; what a row points to is good until the next
 * one.  The snapshot is the caller's.
 */
extern void esim_scan_open(EsimScan *scan, EsimIndex *index, Snapshot snapshot);
extern void esim_scan_search(EsimScan *scan, Datum value);
extern void esim_scan_search2(EsimScan *scan, Datum first, Datum second);
extern bool esim_scan_next(EsimScan *scan, EsimRow *row);
extern void esim_scan_close(EsimScan *scan);

/*
 * Lock the row of the scan FOR NO KEY UPDATE and take it as it is then, whatever
 * the isolation level.  false: it is gone.
 */
extern bool esim_scan_lock(EsimScan *scan, EsimRow *row);

/* The latest snapshot, with our own changes; unregister it. */
extern Snapshot esim_latest_snapshot(void);

#endif							/* ESIM_TABLE_H */
