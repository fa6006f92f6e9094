/*-------------------------------------------------------------------------
 *
 * upkeep.c
 *	  What a worker does now and then: its share of the lanes, its siblings,
 *	  what has expired, what was put off, whether the extension is still there.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/worker.h"

#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "event/event.h"

static void
release_shard(int shard)
{
	deliver_shard(shard, false);
	shard_unlock(shard);
	esim_worker->held[shard] = esim_worker->draining[shard] = esim_worker->orphaned[shard] = false;
}

static void
publish_shards(void)
{
	uint16		mask = 0;

	for (int i = 0; i < ESIM_SHARDS; i++)
		if (esim_worker->held[i])
			mask |= (uint16) (1 << i);
	LWLockAcquire(&esim_worker->shared->lock, LW_EXCLUSIVE);
	worker_slot()->shards = mask;
	LWLockRelease(&esim_worker->shared->lock);
}

/*
 * Takes up what is in a share's rows; false: not now.
 */
static bool
take_up_shard(int shard, bool crashed)
{
	volatile bool taken = false;

	PG_TRY();
	{
		worker_begin();
		if (esim_worker->held[shard] || shard_lock(shard))
		{
			taken = true;
			reclaim_shard(shard, crashed);
		}
		worker_commit();
	}
	PG_CATCH();
	{
		(void) worker_abort("taking over a share of the queue");
		if (taken && !esim_worker->held[shard])
			shard_unlock(shard);
		taken = false;
	}
	PG_END_TRY();
	return taken;
}

/* Takes free shards up to an even share, gives back what is above it. */
static bool
balance_shards(void)
{
	int			wanted = shard_wanted();
	int			keep = 0;
	bool		taken = false;

	for (int i = 0; i < ESIM_SHARDS; i++)
	{
		if (!esim_worker->held[i])
			continue;
		esim_worker->draining[i] = keep >= wanted;

		/*
		 * What could not even be put off is nobody's now: when nothing else
		 * of the share is under way, it is taken up as after a crash.
		 */
		if (esim_worker->orphaned[i] && !esim_worker->draining[i])
		{
			keep++;
			if (esim_worker->shard_tasks[i] == 0 && take_up_shard(i, false))
				esim_worker->orphaned[i] = false;
			esim_worker->draining[i] = esim_worker->orphaned[i];
		}
		else if (!esim_worker->draining[i])
			keep++;
		else if (esim_worker->shard_tasks[i] == 0)
			release_shard(i);
	}
	for (int n = 0; n < ESIM_SHARDS && keep < wanted; n++)
	{
		/* begin where others do not */
		int			i = (n + esim_worker->index * wanted) % ESIM_SHARDS;

		if (esim_worker->held[i])
			continue;
		if (take_up_shard(i, true))
		{
			esim_worker->held[i] = true;
			esim_worker->draining[i] = false;
			deliver_shard(i, true);
			keep++;
			taken = true;
		}
	}
	publish_shards();
	return taken;
}

/* The others of esim.workers, when one is missing and there is work. */
static void
start_siblings(void)
{
	for (int i = 0; i < esim_workers; i++)
		if (i != esim_worker->index)
			(void) esim_start_worker(esim_worker->database, esim_worker->role, i);
}

static void
decide_epoch(void)
{
	esim_worker->foreign_rows = false;
	PG_TRY();
	{
		worker_begin();
		for (int i = 0; i < ESIM_SHARDS; i++)
			if (esim_worker->held[i])
				reclaim_epoch(i);
		worker_commit();
	}
	PG_CATCH();
	{
		(void) worker_abort("looking at operations that were queued elsewhere");
	}
	PG_END_TRY();
}

void
worker_upkeep(void)
{
	volatile bool extension = true;
	List	   *unpromoted;

	worker_write();
	(void) balance_shards();
	if (esim_worker->foreign_rows)
		decide_epoch();
	unpromoted = esim_worker->unpromoted;

	PG_TRY();
	{
		worker_begin();
		if (!OidIsValid(esim_extension_oid()) || esim_extension_oid() != esim_worker->extension)
			extension = false;
		else
		{
			ListCell   *cell;
			Column		lanes;

			esim_worker->paused = reclaim_paused();
			if (!esim_worker->paused)
				claim_expired();
			if (esim_worker->server_generation != esim_server_generation())
			{
				esim_worker->server_generation = esim_server_generation();
				claim_parked();
			}
			claim_deferred();

			column_init(&lanes, list_length(unpromoted));
			foreach(cell, unpromoted)
				column_add(&lanes, Int64GetDatum(*(int64 *) lfirst(cell)));
			esim_worker->unpromoted = NIL;
			complete_promote(lanes.values, lanes.count);
			complete_show_sent(GetCurrentTimestamp());
			esim_worker->queue_empty = esim_worker->unpromoted == NIL && !claim_anything_left() &&
				!deliver_anything_left();
			esim_worker->next_due = claim_next_due();
		}
		worker_commit();
		list_free_deep(unpromoted);
	}
	PG_CATCH();
	{
		(void) worker_abort("looking after the queue");
		esim_worker->unpromoted = unpromoted;
		worker_drop_all(&esim_worker->begin);
		worker_drop_all(&esim_worker->outcomes);
	}
	PG_END_TRY();

	if (!extension)
	{
		ereport(LOG, (errmsg("esim worker ends: the extension is gone")));
		proc_exit(0);
	}
	if (esim_preloaded || !esim_worker->queue_empty)
		start_siblings();
}
