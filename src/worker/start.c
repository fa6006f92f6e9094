/*-------------------------------------------------------------------------
 *
 * start.c
 *	  Start of a worker: its slot in shared memory, its connection, its
 *	  settings; and the giving back of the slot.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/worker.h"

#include "access/xact.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "event/event.h"

/* gives the slot back, with all that is counted under it */
void
worker_detach(int code, Datum arg)
{
	EsimShared *s = esim_shared();
	int			number = DatumGetInt32(arg);
	EsimWorkerSlot *slot = &s->workers[number];

	LWLockAcquire(&s->lock, LW_EXCLUSIVE);
	if (slot->pid == MyProcPid)
	{
		memset(slot, 0, sizeof(*slot));
		for (int i = 0; i < ESIM_SERVER_SLOTS; i++)
			s->servers[i].in_flight[number] = 0;
	}
	LWLockRelease(&s->lock);
}

/* takes the slot again after worker_detach(); false: somebody has started another */
bool
worker_reattach(void)
{
	EsimShared *s = esim_worker->shared;
	EsimWorkerSlot *slot = worker_slot();
	bool		free = true;

	LWLockAcquire(&s->lock, LW_EXCLUSIVE);
	for (int i = 0; i < ESIM_WORKER_SLOTS; i++)
		if (s->workers[i].database == esim_worker->database && s->workers[i].index == esim_worker->index)
			free = false;
	free = free && !OidIsValid(slot->database);
	if (free)
	{
		slot->database = esim_worker->database;
		slot->index = esim_worker->index;
		slot->pid = MyProcPid;
		slot->registered_at = slot->started_at = slot->since = GetCurrentTimestamp();
	}
	LWLockRelease(&s->lock);
	return free;
}

/* files besides curl's sockets: wait events, name resolution, relations */
#define SPARE_FILES 32

static void
connecting_failed(int code, Datum arg)
{
	if (esim_worker == NULL)
		esim_note_start_failure(DatumGetObjectId(arg),
								"the worker could not connect as the role that esim.worker_role names; see the server log");
}

static void
override(const char *name, const char *value)
{
	SetConfigOption(name, value, PGC_SUSET, PGC_S_OVERRIDE);
}

void
worker_settings(void)
{
	/* never wait for a lock that a user holds */
	override("lock_timeout", "20ms");
	override("statement_timeout", "0");
	override("idle_in_transaction_session_timeout", "0");
	override("search_path", "pg_catalog, pg_temp");
	override("default_transaction_isolation", "read committed");
	override("default_transaction_read_only", "off");
	override("row_security", "on");

	/* statistics of a queue are always wrong: the indexes are right */
	override("enable_seqscan", "off");
	override("enable_hashjoin", "off");
	override("enable_mergejoin", "off");
	override("enable_bitmapscan", "off");
	override("jit", "off");
	override("plan_cache_mode", "force_generic_plan");

	/* an intent that a crash could lose would be no intent */
	if (synchronous_commit < SYNCHRONOUS_COMMIT_REMOTE_FLUSH)
		override("synchronous_commit", "on");
}

static bool
extension_there(void)
{
	bool		there;
	char	   *version;

	worker_begin();
	esim_worker->extension = esim_extension_oid();
	there = OidIsValid(esim_worker->extension);
	if (there)
	{
		version = esim_extension_version();
		if (version == NULL || strcmp(version, ESIM_VERSION) != 0)
			ereport(WARNING,
					(errmsg("esim library is of version %s, the extension in database \"%s\" of version %s",
							ESIM_VERSION, get_database_name(MyDatabaseId), version ? version : "unknown"),
					 errhint("Run ALTER EXTENSION esim UPDATE, or restart the server if the library is the older one.")));
	}
	worker_commit();
	return there;
}

static void
note_no_extension(bool none)
{
	EsimShared *s = esim_worker->shared;
	int			place = -1;

	LWLockAcquire(&s->lock, LW_EXCLUSIVE);
	for (int i = 0; i < ESIM_DATABASE_SLOTS; i++)
	{
		EsimDatabaseSlot *d = &s->databases[i];

		if (d->database == esim_worker->database)
		{
			place = i;
			break;
		}
		if (place < 0 && !OidIsValid(d->database))
			place = i;
	}
	if (place >= 0)
	{
		s->databases[place].database = esim_worker->database;
		s->databases[place].no_extension = none;
		if (!none)
			s->databases[place].reason[0] = '\0';	/* it has started */
	}
	LWLockRelease(&s->lock);
}

void
worker_start(Datum arg)
{
	EsimShared *s = esim_shared();
	int			number = DatumGetInt32(arg);
	EsimWorkerSlot *slot = &s->workers[number];
	MemoryContext context;
	Worker	   *worker;
	Oid			database;
	Oid			role;
	int			index;
	int			sockets = 0;
	char		error[256];

	LWLockAcquire(&s->lock, LW_EXCLUSIVE);
	database = slot->database;
	index = slot->index;
	if (OidIsValid(database) && slot->pid == 0)
	{
		slot->pid = MyProcPid;
		slot->started_at = GetCurrentTimestamp();
	}
	else
		database = InvalidOid;	/* somebody gave us up */
	LWLockRelease(&s->lock);
	if (!OidIsValid(database))
		proc_exit(0);
	before_shmem_exit(worker_detach, arg);
	before_shmem_exit(connecting_failed, ObjectIdGetDatum(database));

	memcpy(&role, MyBgworkerEntry->bgw_extra, sizeof(role));
	BackgroundWorkerInitializeConnectionByOid(database, role, 0);

	context = AllocSetContextCreate(TopMemoryContext, "esim worker", ALLOCSET_DEFAULT_SIZES);
	worker = MemoryContextAllocZero(context, sizeof(Worker));
	worker->context = context;
	worker->turn = AllocSetContextCreate(context, "esim turn", ALLOCSET_DEFAULT_SIZES);
	worker->shared = s;
	worker->slot = number;
	worker->database = database;
	worker->role = role;
	worker->index = index;
	dlist_init(&worker->begin);
	dlist_init(&worker->intents);
	dlist_init(&worker->flying);
	dlist_init(&worker->outcomes);
	esim_worker = worker;
	MemoryContextSwitchTo(worker->turn);

	worker_settings();
	esim_server_never_lock();
	pgstat_report_appname(psprintf("esim worker %d", index));

	if (!extension_there())
	{
		note_no_extension(true);
		proc_exit(0);
	}
	note_no_extension(false);

	/* no more sockets than the process may have files */
	while (sockets < esim_max_in_flight && AcquireExternalFD())
		sockets++;
	/* and some are left for the rest of the process */
	for (int i = 0; i < SPARE_FILES && sockets < esim_max_in_flight && sockets > SPARE_FILES; i++, sockets--)
		ReleaseExternalFD();
	worker->http = http_loop_create(Max(sockets, 8), error, sizeof(error));
	if (worker->http == NULL)
		ereport(FATAL,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not set up libcurl: %s", error)));
	worker->wait_fd = deliver_start(http_loop_fd(worker->http));
}
