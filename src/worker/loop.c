/*-------------------------------------------------------------------------
 *
 * loop.c
 *	  The life of a worker: start, the event loop, its end.
 *
 * A turn of the loop: what libcurl has finished goes to the drivers; what has
 * come of that is written, many at a time; new work is claimed; then the
 * worker waits for its latch and for curl's sockets together.  No transaction
 * is open while it waits or talks.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/worker.h"

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "libpq/pqsignal.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "replication/syncrep.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "event/event.h"

/* without preload an idle worker goes after this time */
#define IDLE_EXIT_MS 5000

/* upkeep: shards, pauses, siblings, expiry, deferred outcomes */
#define UPKEEP_MS 1000

/* whether the database is wanted; DROP DATABASE waits for 5 s */
#define WANTED_MS 1500

/* outcomes are written when so many have gathered, or the oldest is so old */
#define WRITE_BATCH 64
#define WRITE_AGE_MS 2

/* finished requests handled between two looks at the rest */
#define ANSWER_BATCH 256

Worker	   *esim_worker = NULL;

volatile sig_atomic_t worker_shutdown = false;

/*
 * The worker ends between two transactions; only a wait for a synchronous
 * standby is broken off, it could last for ever.
 */
static void
handle_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	worker_shutdown = true;
	if (MyProc != NULL && MyProc->syncRepState == SYNC_REP_WAITING)
	{
		InterruptPending = true;
		ProcDiePending = true;
	}
	SetLatch(MyLatch);
	errno = save_errno;
}

/*
 * pg_cancel_backend() is about statements of users: ours are short, and an
 * error in the loop would end the worker with all that it has in flight.  The
 * server sends the same signal when lock_timeout has passed.
 */
static void
handle_sigint(SIGNAL_ARGS)
{
	if (get_timeout_indicator(LOCK_TIMEOUT, false))
		StatementCancelHandler(ESIM_SIGNAL_ARGUMENTS);
}

/* ------------------------------------------------------------------------
 * Shared memory: what the others see of us
 * ------------------------------------------------------------------------ */

EsimWorkerSlot *
worker_slot(void)
{
	return &esim_worker->shared->workers[esim_worker->slot];
}

void
worker_report_doing(const char *doing)
{
	EsimWorkerSlot *slot = worker_slot();

	if (strcmp(slot->doing, doing) == 0 && slot->in_flight == esim_worker->in_flight)
		return;
	LWLockAcquire(&esim_worker->shared->lock, LW_EXCLUSIVE);
	if (strcmp(slot->doing, doing) != 0)
	{
		strlcpy(slot->doing, doing, sizeof(slot->doing));
		slot->since = GetCurrentTimestamp();
	}
	slot->in_flight = esim_worker->in_flight;
	LWLockRelease(&esim_worker->shared->lock);
}

void
worker_report_error(const char *message)
{
	LWLockAcquire(&esim_worker->shared->lock, LW_EXCLUSIVE);
	strlcpy(worker_slot()->last_error, message, ESIM_TEXT_SIZE);
	LWLockRelease(&esim_worker->shared->lock);
}

/* ------------------------------------------------------------------------
 * Tasks
 * ------------------------------------------------------------------------ */

void
worker_drop_task(Task *task)
{
	dlist_delete(&task->node);
	if (task->stage == TASK_INTENT)
		esim_worker->nintents--;
	else if (task->stage == TASK_OUTCOME)
		esim_worker->noutcomes--;
	esim_worker->in_flight--;
	esim_worker->shard_tasks[task->shard]--;
	task_free(task);
}

void
worker_drop_all(dlist_head *list)
{
	while (!dlist_is_empty(list))
		worker_drop_task(dlist_head_element(Task, node, list));
}

/* An own transaction around the mark of a suspect. */
static void
mark_suspect(Task *task, bool handling)
{
	PG_TRY();
	{
		worker_begin();
		complete_mark_handling(task, handling);
		worker_commit();
	}
	PG_CATCH();
	{
		(void) worker_abort("marking an operation");
	}
	PG_END_TRY();
}

static void
begin_tasks(void)
{
	while (!dlist_is_empty(&esim_worker->begin))
	{
		Task	   *task = dlist_head_element(Task, node, &esim_worker->begin);

		/* the mark is there exactly while the driver is at it */
		if (task->suspect)
			mark_suspect(task, true);
		task_begin(task);
		if (task->suspect)
			mark_suspect(task, false);
	}
}

/* true: there may be more */
static bool
handle_answers(void)
{
	for (int i = 0; i < ANSWER_BATCH; i++)
	{
		HttpRequest *request = http_loop_next_done(esim_worker->http);
		Task	   *task;

		if (request == NULL)
			return false;
		task = http_request_owner(request);
		if (task == NULL)
		{
			http_request_free(request); /* a clean-up, nobody waits for it */
			continue;
		}
		if (task->suspect)
			mark_suspect(task, true);
		task_answer(task);
		if (task->suspect)
			mark_suspect(task, false);
	}
	return true;
}

/* ------------------------------------------------------------------------
 * Claiming
 * ------------------------------------------------------------------------ */

/* what was granted to a claim that failed is given back */
static void
recount(void)
{
	int			counts[ESIM_SERVER_SLOTS] = {0};
	dlist_head *lists[4];
	dlist_iter	iter;

	lists[0] = &esim_worker->begin;
	lists[1] = &esim_worker->intents;
	lists[2] = &esim_worker->flying;
	lists[3] = &esim_worker->outcomes;
	for (int i = 0; i < 4; i++)
		dlist_foreach(iter, lists[i])
		{
			Task	   *task = dlist_container(Task, node, iter.cur);

			if (task->server != NULL && task->server_slot >= 0)
				counts[task->server_slot]++;
		}
	esim_server_recount(esim_worker->slot, counts);
}

/* returns true when as much was claimed as asked for: there may be more */
static bool
claim(int limit)
{
	volatile int claimed = 0;

	/* a failure here must only concern what is claimed here */
	worker_write();

	PG_TRY();
	{
		worker_begin();
		esim_worker->next_claim = 0;
		esim_worker->paused = reclaim_paused();
		if (!esim_worker->paused)
		{
			claim_due();
			claim_new();
			claimed = claim_ready(limit);
			if (claimed < limit)
				esim_worker->next_due = claim_next_due();
		}
		worker_commit();
	}
	PG_CATCH();
	{
		(void) worker_abort("claiming operations");
		/* claimed by a transaction that is no more */
		worker_drop_all(&esim_worker->begin);
		worker_drop_all(&esim_worker->outcomes);
		recount();
		esim_worker->next_claim = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 100);
		claimed = 0;
	}
	PG_END_TRY();
	return claimed >= limit;
}

/* ------------------------------------------------------------------------
 * Start and end
 * ------------------------------------------------------------------------ */

/*
 * An orderly end: what is in flight is written as it stands, so that whoever
 * takes over knows what may have been sent.
 */
static void
finish(void)
{
	dlist_head *lists[3];

	worker_report_doing("ending");
	http_loop_run(esim_worker->http);
	(void) handle_answers();
	lists[0] = &esim_worker->begin;
	lists[1] = &esim_worker->intents;
	lists[2] = &esim_worker->flying;
	for (int i = 0; i < 3; i++)
		while (!dlist_is_empty(lists[i]))
		{
			Task	   *task = dlist_head_element(Task, node, lists[i]);

			if (task->request)
				http_request_free(task->request);
			task->request = NULL;
			rsp_conversation_reset(&task->conversation);
			rsp_wait(&task->conversation, task->op.unresolved ? RSP_PHASE_UNKNOWN : RSP_PHASE_RETRYING, 1,
					 "UNAVAILABLE", "the worker was stopped");
			task_move(task, TASK_OUTCOME);
		}
	worker_write();
	deliver_finish();
	http_loop_destroy(esim_worker->http);
}

/*
 * DROP DATABASE, ALTER DATABASE ... RENAME or SET TABLESPACE, and CREATE
 * DATABASE with this one as the template take a lock that keeps others from
 * connecting, then wait for a while for those who are there to leave.  Does
 * one of them?  A connection that begins takes the same lock as this.
 */
static bool
database_is_wanted(void)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, MyDatabaseId, 0);
	if (LockAcquire(&tag, RowExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	(void) LockRelease(&tag, RowExclusiveLock, true);
	return false;
}

/* milliseconds until the loop must turn again */
static long
time_to_wait(TimestampTz now, TimestampTz next_upkeep, TimestampTz outcome_since,
			 TimestampTz idle_since, bool more)
{
	long		wait = Min(esim_poll_interval_ms, WANTED_MS);
	long		http = http_loop_timeout(esim_worker->http);
	TimestampTz at[5];

	if (more)
		return 0;
	if (http >= 0)
		wait = Min(wait, http);
	http = deliver_timeout(now);
	if (http >= 0)
		wait = Min(wait, http);
	at[0] = next_upkeep;
	at[1] = esim_worker->next_claim;
	at[2] = esim_worker->paused ? 0 : esim_worker->next_due;
	at[3] = outcome_since == 0 ? 0 : TimestampTzPlusMilliseconds(outcome_since, WRITE_AGE_MS);
	at[4] = idle_since == 0 || esim_preloaded ? 0 :
		TimestampTzPlusMilliseconds(idle_since, IDLE_EXIT_MS + 1);
	for (int i = 0; i < 5; i++)
		if (at[i] != 0)
			wait = Min(wait, at[i] <= now ? (i == 2 ? 10 : 0) : TimestampDifferenceMilliseconds(now, at[i]));
	return Max(wait, 0);
}

/* claims wait until a good part of the room is free, so that batches stay large */
static bool
room_for_claims(int *room)
{
	*room = esim_max_in_flight - esim_worker->in_flight;
	return *room >= Max(1, esim_max_in_flight / 4);
}

void
esim_worker_main(Datum arg)
{
	TimestampTz now;
	TimestampTz next_upkeep = 0;
	TimestampTz next_poll = 0;
	TimestampTz idle_since = 0;
	TimestampTz outcome_since = 0;
	TimestampTz next_wanted = 0;
	bool		look = true;	/* there may be something to claim */
	bool		wanted = false;
	WaitEventSet *set;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, handle_sigterm);
	pqsignal(SIGINT, handle_sigint);
	BackgroundWorkerUnblockSignals();

	worker_start(arg);

	/* one for the worker's life: it turns thousands of times a second */
	set = ESIM_CREATE_WAIT_EVENT_SET(3);
	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(set, WL_SOCKET_READABLE, esim_worker->wait_fd, NULL, NULL);

	while (!worker_shutdown)
	{
		bool		more;
		int			room;
		WaitEvent	events[3];
		int			nevents;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(esim_worker->turn);
		MemoryContextReset(esim_worker->turn);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			worker_settings();
			deliver_reload();
			next_upkeep = 0;
		}
		if (esim_worker->index >= esim_workers)
			break;				/* fewer workers are wanted, or none */

		now = GetCurrentTimestamp();
		if (now >= next_wanted)
		{
			next_wanted = TimestampTzPlusMilliseconds(now, WANTED_MS);
			wanted = database_is_wanted();
			if (wanted)
			{
				ereport(LOG, (errmsg("esim worker leaves its database, which is being dropped, renamed, moved or copied")));
				break;
			}
		}

		http_loop_run(esim_worker->http);
		more = handle_answers();
		begin_tasks();

		now = GetCurrentTimestamp();
		if (esim_worker->noutcomes + esim_worker->nintents == 0)
			outcome_since = 0;
		else if (outcome_since == 0)
			outcome_since = now;
		if (outcome_since != 0 &&
			(esim_worker->noutcomes + esim_worker->nintents >= Max(WRITE_BATCH, esim_worker->in_flight / 2) ||
			 http_loop_in_flight(esim_worker->http) == 0 ||
			 TimestampDifferenceExceeds(outcome_since, now, WRITE_AGE_MS)))
		{
			worker_report_doing("writing");
			worker_write();
			outcome_since = 0;
			look = true;		/* there is room again, lanes have moved on */
		}

		now = GetCurrentTimestamp();
		if (now >= next_upkeep || esim_worker->foreign_rows)
		{
			worker_upkeep();
			/* an idle worker leaves the database in peace */
			next_upkeep = TimestampTzPlusMilliseconds(now,
													  esim_worker->queue_empty && esim_worker->in_flight == 0 ?
													  Max(esim_poll_interval_ms, UPKEEP_MS) : UPKEEP_MS);
		}
		if (now >= next_poll ||
			(esim_worker->next_claim != 0 && now >= esim_worker->next_claim) ||
			(esim_worker->next_due != 0 && now >= esim_worker->next_due))
		{
			look = true;
			next_poll = TimestampTzPlusMilliseconds(now, esim_poll_interval_ms);
		}

		if (look && room_for_claims(&room))
		{
			worker_report_doing("claiming");
			look = claim(room);
			more |= !dlist_is_empty(&esim_worker->begin) ||
				esim_worker->noutcomes > 0;
			begin_tasks();
			if (esim_worker->in_flight > 0)
				esim_worker->queue_empty = false;
		}

		deliver_turn(GetCurrentTimestamp());

		now = GetCurrentTimestamp();
		if (esim_worker->in_flight > 0 || !esim_worker->queue_empty)
			idle_since = 0;
		else if (idle_since == 0)
			idle_since = now;
		else if (!esim_preloaded && TimestampDifferenceExceeds(idle_since, now, IDLE_EXIT_MS))
		{
			/*
			 * The slot is given back first, then the queue is looked at once
			 * more: who commits after that look finds no worker and starts
			 * one, who committed before it is seen.
			 */
			worker_detach(0, Int32GetDatum(esim_worker->slot));
			worker_upkeep();
			if ((esim_worker->queue_empty && esim_worker->in_flight == 0) || !worker_reattach())
				break;
			idle_since = 0;
			look = true;
		}

		more |= look && room_for_claims(&room);
		worker_report_doing(esim_worker->paused ? "paused" :
					 esim_worker->in_flight > 0 ? "waiting for answers" : "idle");
		if (outcome_since == 0 && esim_worker->noutcomes + esim_worker->nintents > 0)
			outcome_since = now;
		nevents = WaitEventSetWait(set, time_to_wait(now, next_upkeep, outcome_since, idle_since, more),
								   events, lengthof(events), PG_WAIT_EXTENSION);
		for (int i = 0; i < nevents; i++)
			if (events[i].events & WL_LATCH_SET)
			{
				look = true;
				deliver_look();
			}
	}

	finish();

	/* the launcher will start one again; else the next one waits for that command */
	if (wanted && !esim_preloaded && !esim_worker->queue_empty)
	{
		worker_detach(0, Int32GetDatum(esim_worker->slot));
		(void) esim_start_worker(esim_worker->database, esim_worker->role, esim_worker->index);
	}
	proc_exit(0);
}
