/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  With shared_preload_libraries = 'esim': starts a worker in each
 *	  database that has the extension, after every restart and whenever one
 *	  is missing.
 *
 * The launcher is connected to no database and sees only shared catalogs, so
 * it starts a worker in every database that takes connections; one that finds
 * no extension says so in shared memory and is not started again: CREATE
 * EXTENSION and the first operation start one themselves.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/worker.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define LAUNCHER_NAP_MS 2000
#define BACKOFF_MAX_MS 60000

/* what the launcher remembers of a database */
typedef struct Known
{
	Oid			database;
	TimestampTz next_try;
	TimestampTz seen;			/* running, last */
	int			backoff_ms;
} Known;

void
esim_launcher_register(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;
	strlcpy(worker.bgw_library_name, "esim", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "esim_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "esim launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "esim launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

static void
detach(int code, Datum arg)
{
	EsimShared *s = esim_shared();

	LWLockAcquire(&s->lock, LW_EXCLUSIVE);
	if (s->launcher_pid == MyProcPid)
		s->launcher_pid = 0;
	LWLockRelease(&s->lock);
}

/* OIDs of the databases that a worker can be started in */
static List *
databases(MemoryContext context)
{
	List	   *result = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		if (form->datallowconn && !form->datistemplate)
		{
			MemoryContext old = MemoryContextSwitchTo(context);

			result = lappend_oid(result, form->oid);
			MemoryContextSwitchTo(old);
		}
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

static bool
has_no_extension(Oid database)
{
	EsimShared *s = esim_shared();
	bool		result = false;

	LWLockAcquire(&s->lock, LW_SHARED);
	for (int i = 0; i < ESIM_DATABASE_SLOTS; i++)
		if (s->databases[i].database == database)
			result = s->databases[i].no_extension;
	LWLockRelease(&s->lock);
	return result;
}

void
esim_launcher_main(Datum arg)
{
	EsimShared *s = esim_shared();
	MemoryContext context;
	List	   *known = NIL;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, ESIM_SIG_IGN);
	BackgroundWorkerUnblockSignals();

	LWLockAcquire(&s->lock, LW_EXCLUSIVE);
	s->launcher_pid = MyProcPid;
	LWLockRelease(&s->lock);
	before_shmem_exit(detach, (Datum) 0);

	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("esim launcher");

	context = AllocSetContextCreate(TopMemoryContext, "esim launcher", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		List	   *oids;
		ListCell   *cell;
		Oid			role;
		TimestampTz now;
		List	   *keep = NIL;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}

		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		(void) GetTransactionSnapshot();
		oids = databases(context);
		role = get_role_oid(esim_worker_role, true);
		CommitTransactionCommand();
		MemoryContextSwitchTo(context);

		now = GetCurrentTimestamp();
		foreach(cell, oids)
		{
			Oid			database = lfirst_oid(cell);
			Known	   *entry = NULL;
			ListCell   *k;

			foreach(k, known)
				if (((Known *) lfirst(k))->database == database)
					entry = lfirst(k);
			if (entry == NULL)
			{
				entry = palloc0(sizeof(Known));
				entry->database = database;
			}
			keep = lappend(keep, entry);

			if (esim_workers == 0 || !OidIsValid(role) || has_no_extension(database))
				continue;
			if (esim_workers_alive(database) > 0)
			{
				entry->seen = now;
				/* it has run for a while: trust it again */
				if (entry->next_try != 0 && now > entry->next_try)
					entry->backoff_ms = 0;
				continue;
			}
			/* who ends it may be about to drop the database */
			if (now < entry->next_try ||
				(entry->seen != 0 && !TimestampDifferenceExceeds(entry->seen, now, 2 * LAUNCHER_NAP_MS)))
				continue;
			entry->backoff_ms = entry->backoff_ms == 0 ? LAUNCHER_NAP_MS :
				Min(entry->backoff_ms * 2, BACKOFF_MAX_MS);
			entry->next_try = TimestampTzPlusMilliseconds(now, entry->backoff_ms);
			(void) esim_start_worker(database, role, 0);
		}
		foreach(cell, known)
			if (!list_member_ptr(keep, lfirst(cell)))
				pfree(lfirst(cell));
		list_free(known);
		list_free(oids);
		known = keep;

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LAUNCHER_NAP_MS, PG_WAIT_EXTENSION);
	}
}
