/*-------------------------------------------------------------------------
 *
 * shmem.c
 *	  What workers, launcher and sessions share: who runs where, limits and
 *	  breakers of servers, why no worker could start.
 *
 * A few kilobytes, made on first use when the library is not preloaded.
 * Nothing in it belongs to one process, no handles and no pointers.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/worker.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

/* a worker that was registered and has not shown itself by then did not start */
#define START_GRACE_MS 15000

#define BREAKER_FIRST_MS 1000
#define BREAKER_MAX_MS 60000

static EsimShared *shared = NULL;
static shmem_request_hook_type previous_request = NULL;
static shmem_startup_hook_type previous_startup = NULL;

static void
request(void)
{
	if (previous_request)
		previous_request();
	RequestAddinShmemSpace(MAXALIGN(sizeof(EsimShared)));
}

static void
startup(void)
{
	if (previous_startup)
		previous_startup();
	shared = NULL;				/* a crash has made memory anew */
	(void) esim_shared();
}

void
esim_shmem_preload(void)
{
	previous_request = shmem_request_hook;
	shmem_request_hook = request;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = startup;
}

EsimShared *
esim_shared(void)
{
	bool		found;

	if (shared != NULL)
		return shared;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("esim", sizeof(EsimShared), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(EsimShared));
		LWLockInitialize(&shared->lock, ESIM_NEW_TRANCHE("esim"));
	}
	LWLockRelease(AddinShmemInitLock);
	ESIM_REGISTER_TRANCHE(shared->lock.tranche, "esim");
	return shared;
}

/* ------------------------------------------------------------------------
 * Workers
 * ------------------------------------------------------------------------ */

static bool
slot_alive(const EsimWorkerSlot *slot, TimestampTz now)
{
	if (!OidIsValid(slot->database))
		return false;
	return slot->pid != 0 ||
		!TimestampDifferenceExceeds(slot->registered_at, now, START_GRACE_MS);
}

int
esim_workers_alive(Oid database)
{
	EsimShared *s = esim_shared();
	TimestampTz now = GetCurrentTimestamp();
	int			count = 0;

	LWLockAcquire(&s->lock, LW_SHARED);
	for (int i = 0; i < ESIM_WORKER_SLOTS; i++)
		if (s->workers[i].database == database && slot_alive(&s->workers[i], now))
			count++;
	LWLockRelease(&s->lock);
	return count;
}

/* the database's slot, taken if need be; the lock is held */
static EsimDatabaseSlot *
database_slot(EsimShared *s, Oid database)
{
	EsimDatabaseSlot *oldest = &s->databases[0];

	for (int i = 0; i < ESIM_DATABASE_SLOTS; i++)
	{
		EsimDatabaseSlot *d = &s->databases[i];

		if (d->database == database)
			return d;
		if (OidIsValid(oldest->database) &&
			(!OidIsValid(d->database) || d->failed_at < oldest->failed_at))
			oldest = d;
	}
	memset(oldest, 0, sizeof(*oldest));
	oldest->database = database;
	return oldest;
}

static void
note_failure(EsimShared *s, Oid database, const char *reason)
{
	EsimDatabaseSlot *d = database_slot(s, database);

	d->failed_at = GetCurrentTimestamp();
	d->warned = false;
	strlcpy(d->reason, reason, sizeof(d->reason));
}

void
esim_note_start_failure(Oid database, const char *reason)
{
	EsimShared *s = esim_shared();

	LWLockAcquire(&s->lock, LW_EXCLUSIVE);
	note_failure(s, database, reason);
	LWLockRelease(&s->lock);
}

bool
esim_start_worker(Oid database, Oid role, int index)
{
	EsimShared *s = esim_shared();
	TimestampTz now = GetCurrentTimestamp();
	BackgroundWorker worker;
	EsimWorkerSlot *slot = NULL;
	int			number = -1;
	bool		started;

	LWLockAcquire(&s->lock, LW_EXCLUSIVE);
	for (int i = 0; i < ESIM_WORKER_SLOTS; i++)
	{
		EsimWorkerSlot *w = &s->workers[i];

		if (w->database == database && w->index == index)
		{
			if (slot_alive(w, now))
			{
				LWLockRelease(&s->lock);
				return true;
			}
			note_failure(s, database, "the worker process was registered but did not start; see the server log");
			w->database = InvalidOid;
		}
		if (number < 0 && !slot_alive(w, now))
			number = i;
	}
	if (number < 0)
	{
		note_failure(s, database, "all slots for esim workers of this cluster are in use");
		LWLockRelease(&s->lock);
		return false;
	}
	slot = &s->workers[number];
	memset(slot, 0, sizeof(*slot));
	slot->database = database;
	slot->index = index;
	slot->registered_at = now;
	strlcpy(slot->doing, "starting", sizeof(slot->doing));
	slot->since = now;
	LWLockRelease(&s->lock);

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "esim", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "esim_worker_main", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "esim worker %d of database %u", index, database);
	strlcpy(worker.bgw_type, "esim worker", BGW_MAXLEN);
	worker.bgw_main_arg = Int32GetDatum(number);
	memcpy(worker.bgw_extra, &role, sizeof(role));
	worker.bgw_notify_pid = 0;

	started = RegisterDynamicBackgroundWorker(&worker, NULL);

	LWLockAcquire(&s->lock, LW_EXCLUSIVE);
	if (!started)
	{
		if (slot->database == database && slot->pid == 0)
			slot->database = InvalidOid;
		note_failure(s, database, "no background worker slot is free; raise max_worker_processes");
	}
	LWLockRelease(&s->lock);
	return started;
}

/* ------------------------------------------------------------------------
 * Servers
 * ------------------------------------------------------------------------ */

int
esim_server_slot(Oid database, Oid server)
{
	EsimShared *s = esim_shared();
	TimestampTz now = GetCurrentTimestamp();
	int			found = -1;

	LWLockAcquire(&s->lock, LW_EXCLUSIVE);
	for (int i = 0; i < ESIM_SERVER_SLOTS; i++)
	{
		EsimServerSlot *v = &s->servers[i];

		if (v->server == server && v->database == database)
		{
			found = i;
			break;
		}
	}
	for (int i = 0; found < 0 && i < ESIM_SERVER_SLOTS; i++)
	{
		EsimServerSlot *v = &s->servers[i];
		bool		idle = true;

		for (int w = 0; OidIsValid(v->server) && w < ESIM_WORKER_SLOTS; w++)
			if (v->in_flight[w] != 0)
				idle = false;
		if (!OidIsValid(v->server) ||
			(idle && TimestampDifferenceExceeds(v->used_at, now, 3600 * 1000)))
		{
			memset(v, 0, sizeof(*v));
			v->database = database;
			v->server = server;
			v->tokens_at = now;
			v->tokens = 1;
			found = i;
		}
	}
	if (found >= 0)
		s->servers[found].used_at = now;
	LWLockRelease(&s->lock);
	return found;
}

int
esim_server_acquire(int slot, int worker_slot, int want, int max_in_flight,
					double rate_limit, TimestampTz now)
{
	EsimShared *s = esim_shared();
	EsimServerSlot *v;
	int			total = 0;

	if (slot < 0)
		return Min(want, Max(1, max_in_flight / Max(1, esim_workers)));

	LWLockAcquire(&s->lock, LW_EXCLUSIVE);
	v = &s->servers[slot];
	v->used_at = now;
	if (v->open_until != 0)
	{
		if (now < v->open_until || v->probing)
			want = 0;
		else if (want > 0)
		{
			want = 1;
			v->probing = true;
		}
	}
	for (int w = 0; w < ESIM_WORKER_SLOTS; w++)
		total += v->in_flight[w];
	want = Max(0, Min(want, max_in_flight - total));
	if (rate_limit > 0)
	{
		double		burst = Max(1.0, rate_limit / 10);

		/*
		 * In microseconds: milliseconds are rounded up, and many short steps
		 * would add up.  The other workers' clock may be a little ahead of
		 * ours; one that is far ahead was set back.
		 */
		if (now > v->tokens_at || v->tokens_at - now > USECS_PER_SEC)
		{
			if (now > v->tokens_at)
				v->tokens = Min(burst, v->tokens + rate_limit * (double) (now - v->tokens_at) / USECS_PER_SEC);
			v->tokens_at = now;
		}
		want = v->tokens < 1 ? 0 : Min(want, (int) v->tokens);
		v->tokens -= want;
	}
	v->in_flight[worker_slot] += want;
	if (want == 0 && v->probing && total == 0)
		v->probing = false;
	LWLockRelease(&s->lock);
	return want;
}

void
esim_server_debit(int slot)
{
	EsimShared *s = esim_shared();

	if (slot < 0)
		return;
	LWLockAcquire(&s->lock, LW_EXCLUSIVE);
	s->servers[slot].tokens -= 1;
	LWLockRelease(&s->lock);
}

void
esim_server_release_slots(int slot, int worker_slot, int count)
{
	EsimShared *s = esim_shared();
	EsimServerSlot *v;

	if (slot < 0 || count == 0)
		return;
	LWLockAcquire(&s->lock, LW_EXCLUSIVE);
	v = &s->servers[slot];
	v->in_flight[worker_slot] = Max(0, v->in_flight[worker_slot] - count);
	if (v->probing)
	{
		int			total = 0;

		/* the probe has ended without telling: let another one go */
		for (int w = 0; w < ESIM_WORKER_SLOTS; w++)
			total += v->in_flight[w];
		if (total == 0)
			v->probing = false;
	}
	LWLockRelease(&s->lock);
}

/*
 * After a failure: what this worker really has in flight is counted anew,
 * counts[i] for the server slot i.
 */
void
esim_server_recount(int worker_slot, const int *counts)
{
	EsimShared *s = esim_shared();

	LWLockAcquire(&s->lock, LW_EXCLUSIVE);
	for (int i = 0; i < ESIM_SERVER_SLOTS; i++)
		s->servers[i].in_flight[worker_slot] = counts[i];
	LWLockRelease(&s->lock);
}

void
esim_server_success(int slot)
{
	EsimShared *s = esim_shared();
	EsimServerSlot *v;

	if (slot < 0)
		return;
	v = &s->servers[slot];
	/* unlocked look: nearly always there is nothing to do */
	if (v->failures == 0 && v->open_until == 0)
		return;
	LWLockAcquire(&s->lock, LW_EXCLUSIVE);
	v->failures = 0;
	v->failing_since = 0;
	v->open_until = 0;
	v->probing = false;
	LWLockRelease(&s->lock);
}

void
esim_server_failure(int slot, TimestampTz now, const char *error)
{
	EsimShared *s = esim_shared();
	EsimServerSlot *v;

	if (slot < 0)
		return;
	LWLockAcquire(&s->lock, LW_EXCLUSIVE);
	v = &s->servers[slot];
	if (v->failures == 0)
		v->failing_since = now;
	strlcpy(v->last_error, error, sizeof(v->last_error));
	/* those that were under way when it opened count once */
	if (v->open_until == 0 || v->probing)
		v->failures++;
	if (v->failures >= BREAKER_FAILURES && (v->open_until == 0 || v->probing))
	{
		int64		wait = BREAKER_FIRST_MS;

		for (int i = BREAKER_FAILURES; i < v->failures && wait < BREAKER_MAX_MS; i++)
			wait *= 2;
		v->open_until = TimestampTzPlusMilliseconds(now, Min(wait, BREAKER_MAX_MS));
		v->probing = false;
	}
	LWLockRelease(&s->lock);
}

TimestampTz
esim_server_open_until(int slot)
{
	EsimShared *s = esim_shared();
	TimestampTz result;

	if (slot < 0)
		return 0;
	LWLockAcquire(&s->lock, LW_SHARED);
	result = s->servers[slot].open_until;
	LWLockRelease(&s->lock);
	return result;
}
