/*-------------------------------------------------------------------------
 *
 * wake.c
 *	  Sessions' side of the workers: wake them when a transaction commits,
 *	  start one where none runs, tell why none could start.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/worker.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

/* a session is told at most so often that no worker can start */
#define WARN_AGAIN_MS 60000

static bool callback_registered = false;
static bool wake_wanted = false;
static Oid	wake_role = InvalidOid;
static LocalTransactionId looked_after = InvalidLocalTransactionId;

/* sets the latches of the database's running workers; returns their number */
static int
wake_workers(Oid database)
{
	EsimShared *s = esim_shared();
	int			pids[ESIM_WORKER_SLOTS];
	int			count = 0;
	int			alive = 0;

	LWLockAcquire(&s->lock, LW_SHARED);
	for (int i = 0; i < ESIM_WORKER_SLOTS; i++)
	{
		EsimWorkerSlot *w = &s->workers[i];

		if (w->database != database)
			continue;
		if (w->pid != 0)
			pids[count++] = w->pid;
		else if (!TimestampDifferenceExceeds(w->registered_at, GetCurrentTimestamp(), 15000))
			alive++;			/* will look at the queue when it starts */
	}
	LWLockRelease(&s->lock);

	for (int i = 0; i < count; i++)
	{
		PGPROC	   *proc = BackendPidGetProc(pids[i]);

		/* a latch that meanwhile belongs to somebody else: a spurious wake */
		if (proc != NULL)
		{
			SetLatch(&proc->procLatch);
			alive++;
		}
	}
	return alive;
}

/*
 * At PREPARE the flag is dropped: COMMIT PREPARED wakes nobody, the workers'
 * poll finds those operations.
 */
static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (wake_wanted)
			{
				wake_wanted = false;
				/* nothing here can fail: an error would be a PANIC */
				if (wake_workers(MyDatabaseId) == 0 && esim_workers > 0 && OidIsValid(wake_role))
					(void) esim_start_worker(MyDatabaseId, wake_role, 0);
			}
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			wake_wanted = false;
			break;
		default:
			break;
	}
}

static Oid
worker_role(void)
{
	return get_role_oid(esim_worker_role, true);
}

void
esim_wake_at_commit(void)
{
	if (wake_wanted)
		return;
	if (!callback_registered)
	{
		RegisterXactCallback(xact_callback, NULL);
		callback_registered = true;
	}
	(void) esim_shared();
	wake_role = worker_role();
	wake_wanted = true;
}

static void
warn_not_started(void)
{
	EsimShared *s = esim_shared();
	char		reason[ESIM_TEXT_SIZE] = "";
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(&s->lock, LW_EXCLUSIVE);
	for (int i = 0; i < ESIM_DATABASE_SLOTS; i++)
	{
		EsimDatabaseSlot *d = &s->databases[i];

		if (d->database == MyDatabaseId && d->reason[0] != '\0' && !d->warned)
		{
			strlcpy(reason, d->reason, sizeof(reason));
			d->warned = !TimestampDifferenceExceeds(d->failed_at, now, WARN_AGAIN_MS);
		}
	}
	LWLockRelease(&s->lock);

	if (reason[0] != '\0')
		ereport(WARNING,
				(errcode(ERRCODE_ESIM_UNAVAILABLE),
				 errmsg("no esim worker runs in this database"),
				 errdetail("The last try to start one failed: %s.", reason),
				 errhint("Operations stay queued. See esim_worker_status().")));
}

void
esim_look_after_worker(void)
{
	static EsimStatement any = {"(SELECT 1 FROM @esim_pending WHERE state IN ('N', 'R', 'W', 'D') OR next_at IS NOT NULL LIMIT 1)"
		" UNION ALL (SELECT 1 FROM @esim_notification WHERE next_at IS NOT NULL LIMIT 1) LIMIT 1", 0, {NULL}};
	EsimRights	rights;
	bool		work;

	if (looked_after == ESIM_MY_LXID)
		return;
	looked_after = ESIM_MY_LXID;

	if (RecoveryInProgress() || !OidIsValid(esim_extension_oid()))
		return;
	if (esim_workers == 0 || esim_workers_alive(MyDatabaseId) > 0)
		return;

	esim_enter_owner(&rights);
	SPI_connect();
	work = esim_execute_latest(&any, NULL, NULL, 1) > 0 && SPI_processed > 0;
	SPI_finish();
	esim_leave_owner(&rights);

	if (!work)
		return;
	if (!OidIsValid(worker_role()))
		esim_note_start_failure(MyDatabaseId, "the role that esim.worker_role names does not exist");
	else
		(void) esim_start_worker(MyDatabaseId, worker_role(), 0);
	warn_not_started();
}

/*
 * esim_wake() void: wakes the workers when the transaction commits.
 */
PG_FUNCTION_INFO_V1(esim_wake);
Datum
esim_wake(PG_FUNCTION_ARGS)
{
	esim_wake_at_commit();
	PG_RETURN_VOID();
}

/*
 * esim_epoch() (system_identifier bigint, timeline int, database oid)
 */
PG_FUNCTION_INFO_V1(esim_epoch);
Datum
esim_epoch(PG_FUNCTION_ARGS)
{
	EsimEpoch	epoch;
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	esim_current_epoch(&epoch);
	values[0] = Int64GetDatum(epoch.system_identifier);
	values[1] = Int32GetDatum(epoch.timeline);
	values[2] = ObjectIdGetDatum(epoch.database);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/*
 * esim_worker_status() rows (pid, worker, started_at, doing, in_flight,
 * last_error, since), and a row without pid that says why none could start.
 */
PG_FUNCTION_INFO_V1(esim_worker_status);
Datum
esim_worker_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	EsimShared *s = esim_shared();
	EsimShared *copy;
	int			alive = 0;

	esim_look_after_worker();
	InitMaterializedSRF(fcinfo, 0);

	/* no tuples are made while the lock is held */
	copy = palloc(sizeof(EsimShared));
	LWLockAcquire(&s->lock, LW_SHARED);
	memcpy(copy, s, sizeof(EsimShared));
	LWLockRelease(&s->lock);

	for (int i = 0; i < ESIM_WORKER_SLOTS; i++)
	{
		EsimWorkerSlot *w = &copy->workers[i];
		Datum		values[7];
		bool		nulls[7] = {false};

		if (w->database != MyDatabaseId)
			continue;
		nulls[0] = w->pid == 0;
		values[0] = Int32GetDatum(w->pid);
		values[1] = Int32GetDatum(w->index);
		nulls[2] = w->started_at == 0;
		values[2] = TimestampTzGetDatum(w->started_at);
		values[3] = CStringGetTextDatum(w->doing);
		values[4] = Int32GetDatum(w->in_flight);
		nulls[5] = w->last_error[0] == '\0';
		values[5] = CStringGetTextDatum(w->last_error);
		values[6] = TimestampTzGetDatum(w->since);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		alive++;
	}
	for (int i = 0; i < ESIM_DATABASE_SLOTS && alive == 0; i++)
	{
		EsimDatabaseSlot *d = &copy->databases[i];
		Datum		values[7];
		bool		nulls[7] = {true, true, true, false, false, false, false};

		if (d->database != MyDatabaseId || d->reason[0] == '\0')
			continue;
		values[3] = CStringGetTextDatum("could not start");
		values[4] = Int32GetDatum(0);
		values[5] = CStringGetTextDatum(d->reason);
		values[6] = TimestampTzGetDatum(d->failed_at);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	if (alive == 0 && esim_workers == 0)
	{
		Datum		values[7];
		bool		nulls[7] = {true, true, true, false, false, true, true};

		values[3] = CStringGetTextDatum("none: esim.workers is 0");
		values[4] = Int32GetDatum(0);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * esim_failing_servers() rows (server oid, since, error): servers of this
 * database that have failed as a whole so often that they are left alone.
 */
PG_FUNCTION_INFO_V1(esim_failing_servers);
Datum
esim_failing_servers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	EsimShared *s = esim_shared();
	EsimServerSlot *copy;

	InitMaterializedSRF(fcinfo, 0);

	/* no tuples are made while the lock is held */
	copy = palloc(sizeof(s->servers));
	LWLockAcquire(&s->lock, LW_SHARED);
	memcpy(copy, s->servers, sizeof(s->servers));
	LWLockRelease(&s->lock);

	for (int i = 0; i < ESIM_SERVER_SLOTS; i++)
	{
		EsimServerSlot *v = &copy[i];
		Datum		values[3];
		bool		nulls[3] = {false, false, false};

		if (v->database != MyDatabaseId || v->failures < BREAKER_FAILURES)
			continue;
		values[0] = ObjectIdGetDatum(v->server);
		values[1] = TimestampTzGetDatum(v->failing_since);
		values[2] = CStringGetTextDatum(v->last_error);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
