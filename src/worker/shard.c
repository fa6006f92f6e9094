/*-------------------------------------------------------------------------
 *
 * shard.c
 *	  Which shards of the queue a worker holds.
 *
 * A shard is held by a session-level lock on the extension object with the
 * shard's number as sub-object.  It is of the lock method of advisory locks,
 * whose session locks outlive an aborted transaction (those of the standard
 * method do not), and go with the process; but of the type of objects, which
 * no function lets a user take.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/worker.h"

#include "catalog/pg_extension.h"
#include "storage/lock.h"

static void
shard_tag(LOCKTAG *tag, int shard)
{
	SET_LOCKTAG_OBJECT(*tag, esim_worker->database, ExtensionRelationId, esim_worker->extension,
					   shard + 1);
	tag->locktag_lockmethodid = USER_LOCKMETHOD;
}

bool
shard_lock(int shard)
{
	LOCKTAG		tag;

	shard_tag(&tag, shard);
	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

void
shard_unlock(int shard)
{
	LOCKTAG		tag;

	shard_tag(&tag, shard);
	(void) LockRelease(&tag, ExclusiveLock, true);
}

/* an even share among the workers of the database that run */
int
shard_wanted(void)
{
	EsimShared *s = esim_worker->shared;
	int			running = 0;

	LWLockAcquire(&s->lock, LW_SHARED);
	for (int i = 0; i < ESIM_WORKER_SLOTS; i++)
		if (s->workers[i].database == esim_worker->database && s->workers[i].pid != 0)
			running++;
	LWLockRelease(&s->lock);
	return (ESIM_SHARDS + Max(running, 1) - 1) / Max(running, 1);
}
