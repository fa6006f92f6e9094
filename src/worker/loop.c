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
#include "commands/dbcommands.h"
#include "libpq/pqsignal.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "replication/syncrep.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* without preload an idle worker goes after this time */
#define IDLE_EXIT_MS 5000

/* upkeep: shards, pauses, siblings, expiry, deferred outcomes */
#define UPKEEP_MS 1000

/* outcomes are written when so many have gathered, or the oldest is so old */
#define WRITE_BATCH 64
#define WRITE_AGE_MS 2

/* finished requests handled between two looks at the rest */
#define ANSWER_BATCH 256

Worker	   *esim_worker = NULL;

static volatile sig_atomic_t shutdown_requested = false;

/*
 * The worker ends between two transactions; only a wait for a synchronous
 * standby is broken off, it could last for ever.
 */
static void
handle_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	shutdown_requested = true;
	if (MyProc != NULL && MyProc->syncRepState == SYNC_REP_WAITING)
	{
		InterruptPending = true;
		ProcDiePending = true;
	}
	SetLatch(MyLatch);
	errno = save_errno;
}

/* ------------------------------------------------------------------------
 * Shared memory: what the others see of us
 * ------------------------------------------------------------------------ */

static EsimWorkerSlot *
my_slot(void)
{
	return &esim_worker->shared->workers[esim_worker->slot];
}

static void
report_doing(const char *doing)
{
	EsimWorkerSlot *slot = my_slot();

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

static void
report_error(const char *message)
{
	LWLockAcquire(&esim_worker->shared->lock, LW_EXCLUSIVE);
	strlcpy(my_slot()->last_error, message, ESIM_TEXT_SIZE);
	LWLockRelease(&esim_worker->shared->lock);
}

/* gives the slot back, with all that is counted under it */
static void
detach(int code, Datum arg)
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

/* takes the slot again after detach(); false: somebody has started another */
static bool
reattach(void)
{
	EsimShared *s = esim_worker->shared;
	EsimWorkerSlot *slot = my_slot();
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

static void
connecting_failed(int code, Datum arg)
{
	if (esim_worker == NULL)
		esim_note_start_failure(DatumGetObjectId(arg),
								"the worker could not connect as the role that esim.worker_role names; see the server log");
}

/* ------------------------------------------------------------------------
 * Transactions
 * ------------------------------------------------------------------------ */

static void
begin_transaction(void)
{
	Oid			user;
	int			context;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	/* nothing that users have put somewhere may act with our rights */
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(user, context | SECURITY_RESTRICTED_OPERATION);
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, "esim worker");
}

static void
commit_transaction(void)
{
	Oid			user;
	int			context;

	PopActiveSnapshot();
	SPI_finish();
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(user, context & ~SECURITY_RESTRICTED_OPERATION);
	/* an end that was asked for does not wait for a standby */
	if (shutdown_requested)
		SetConfigOption("synchronous_commit", "local", PGC_USERSET, PGC_S_SESSION);
	CommitTransactionCommand();
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(esim_worker->turn);
}

/* after an error: the transaction is gone, its message is kept and returned */
static ErrorData *
abort_transaction(const char *what)
{
	ErrorData  *error;

	MemoryContextSwitchTo(esim_worker->turn);
	error = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(esim_worker->turn);

	/* locks of others are no trouble, they are dealt with */
	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
		error->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED)
	{
		report_error(error->message);
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("esim worker failed while %s: %s", what, error->message),
				 errcontext("%s", error->context ? error->context : "")));
	}
	return error;
}

static bool
is_lock_error(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED;
}

/* ------------------------------------------------------------------------
 * Tasks
 * ------------------------------------------------------------------------ */

static void
drop_task(Task *task)
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

static void
drop_all(dlist_head *list)
{
	while (!dlist_is_empty(list))
		drop_task(dlist_head_element(Task, node, list));
}

/* An own transaction around the mark of a suspect. */
static void
mark_suspect(Task *task, bool handling)
{
	PG_TRY();
	{
		begin_transaction();
		complete_mark_handling(task, handling);
		commit_transaction();
	}
	PG_CATCH();
	{
		(void) abort_transaction("marking an operation");
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
 * Writing
 * ------------------------------------------------------------------------ */

/* what was committed may go out */
static void
submit_intents(void)
{
	while (!dlist_is_empty(&esim_worker->intents))
	{
		Task	   *task = dlist_head_element(Task, node, &esim_worker->intents);

		task->attempts[task->nattempts - 1].committed = true;
		task_submit(task);
	}
}

/* what servers are told when the end of an operation is committed */
static void
submit_cleanups(dlist_head *tasks)
{
	dlist_iter	iter;

	dlist_foreach(iter, tasks)
	{
		Task	   *task = dlist_container(Task, node, iter.cur);
		RspConversation *c = &task->conversation;
		HttpRequest *request;

		if (c->cleanup_path == NULL || task->server == NULL || shutdown_requested ||
			(c->action.type != RSP_ACT_DONE && c->action.type != RSP_ACT_FAIL))
			continue;
		request = http_request_create(task->server->rsp.endpoint, c->cleanup_method, c->cleanup_path,
									  NULL, NULL, 0, NULL);
		if (request != NULL)
			http_loop_submit(esim_worker->http, request);
	}
}

/* One outcome alone, in the ways that are left. */
static void
write_one(Task *task)
{
	dlist_head	one;
	ErrorData  *volatile error = NULL;

	/* out of the list of outcomes into one of its own */
	dlist_init(&one);
	dlist_delete(&task->node);
	dlist_push_tail(&one, &task->node);

	for (volatile int attempt = 0; attempt < 2; attempt++)
	{
		error = NULL;
		PG_TRY();
		{
			begin_transaction();
			complete_outcomes(&one);
			commit_transaction();
		}
		PG_CATCH();
		{
			error = abort_transaction("writing an outcome");
		}
		PG_END_TRY();
		if (error == NULL || is_lock_error(error))
			break;

		/*
		 * What the RSP did cannot be brought into our rows.  The operation
		 * ends all the same, without its effect; the reason is in the log and
		 * in its row.
		 */
		task->has_profile = false;
		task->conversation.nreports = 0;
		task->conversation.reports_whole = false;
		task->conversation.action.iccid[0] = '\0';
		snprintf(task->conversation.action.message, sizeof(task->conversation.action.message),
				 "the outcome could not be applied: %.400s", error->message);
	}
	if (error == NULL)
		submit_cleanups(&one);
	else
	{
		PG_TRY();
		{
			begin_transaction();
			complete_defer(task);
			commit_transaction();
		}
		PG_CATCH();
		{
			/* stays claimed in the table; taken up when the shard is taken again */
			(void) abort_transaction("recording an outcome");
		}
		PG_END_TRY();
	}
	drop_task(task);
}

static void
write_batch(void)
{
	volatile bool failed = false;
	TimestampTz now = GetCurrentTimestamp();

	if (esim_worker->noutcomes == 0 && esim_worker->nintents == 0)
		return;
	PG_TRY();
	{
		begin_transaction();
		complete_outcomes(&esim_worker->outcomes);
		complete_intents();
		complete_show_sent(now);
		commit_transaction();
	}
	PG_CATCH();
	{
		(void) abort_transaction("writing outcomes");
		failed = true;
	}
	PG_END_TRY();

	if (!failed)
	{
		submit_cleanups(&esim_worker->outcomes);
		drop_all(&esim_worker->outcomes);
		submit_intents();
		return;
	}

	while (!dlist_is_empty(&esim_worker->outcomes))
		write_one(dlist_head_element(Task, node, &esim_worker->outcomes));

	PG_TRY();
	{
		begin_transaction();
		complete_intents();
		commit_transaction();
	}
	PG_CATCH();
	{
		(void) abort_transaction("recording what is to be sent");
		/* without a committed intent nothing goes out: try again later */
		while (!dlist_is_empty(&esim_worker->intents))
		{
			Task	   *task = dlist_head_element(Task, node, &esim_worker->intents);

			rsp_conversation_reset(&task->conversation);
			rsp_wait(&task->conversation, RSP_PHASE_RETRYING, 1000, "UNAVAILABLE",
					 "the request could not be recorded");
			task_move(task, TASK_OUTCOME);
		}
	}
	PG_END_TRY();
	submit_intents();
}

/* ------------------------------------------------------------------------
 * Claiming
 * ------------------------------------------------------------------------ */

/* returns true when as much was claimed as asked for: there may be more */
static bool
claim(int limit)
{
	volatile int claimed = 0;

	/* a failure here must only concern what is claimed here */
	write_batch();

	PG_TRY();
	{
		begin_transaction();
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
		commit_transaction();
	}
	PG_CATCH();
	{
		(void) abort_transaction("claiming operations");
		/* claimed by a transaction that is no more */
		drop_all(&esim_worker->begin);
		drop_all(&esim_worker->outcomes);
		esim_worker->next_claim = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 100);
		claimed = 0;
	}
	PG_END_TRY();
	return claimed >= limit;
}

/* ------------------------------------------------------------------------
 * Upkeep
 * ------------------------------------------------------------------------ */

static void
release_shard(int shard)
{
	shard_unlock(shard);
	esim_worker->held[shard] = esim_worker->draining[shard] = false;
}

static void
publish_shards(void)
{
	uint16		mask = 0;

	for (int i = 0; i < ESIM_SHARDS; i++)
		if (esim_worker->held[i])
			mask |= (uint16) (1 << i);
	LWLockAcquire(&esim_worker->shared->lock, LW_EXCLUSIVE);
	my_slot()->shards = mask;
	LWLockRelease(&esim_worker->shared->lock);
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
		if (!esim_worker->draining[i])
			keep++;
		else if (esim_worker->shard_tasks[i] == 0)
			release_shard(i);
	}
	for (int n = 0; n < ESIM_SHARDS && keep < wanted; n++)
	{
		/* begin where others do not */
		int			i = (n + esim_worker->index * wanted) % ESIM_SHARDS;
		volatile bool got = false;

		if (esim_worker->held[i])
			continue;
		PG_TRY();
		{
			begin_transaction();
			if (shard_lock(i))
			{
				got = true;
				reclaim_shard(i);
			}
			commit_transaction();
		}
		PG_CATCH();
		{
			(void) abort_transaction("taking over a share of the queue");
			if (got)
				shard_unlock(i);
			got = false;
		}
		PG_END_TRY();
		if (got)
		{
			esim_worker->held[i] = true;
			esim_worker->draining[i] = false;
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
		begin_transaction();
		for (int i = 0; i < ESIM_SHARDS; i++)
			if (esim_worker->held[i])
				reclaim_epoch(i);
		commit_transaction();
	}
	PG_CATCH();
	{
		(void) abort_transaction("looking at operations that were queued elsewhere");
	}
	PG_END_TRY();
}

static void
upkeep(void)
{
	volatile bool extension = true;
	List	   *unpromoted = esim_worker->unpromoted;

	write_batch();
	(void) balance_shards();
	if (esim_worker->foreign_rows)
		decide_epoch();

	PG_TRY();
	{
		begin_transaction();
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
			esim_worker->queue_empty = !claim_anything_left();
			esim_worker->next_due = claim_next_due();
		}
		commit_transaction();
		list_free_deep(unpromoted);
	}
	PG_CATCH();
	{
		(void) abort_transaction("looking after the queue");
		esim_worker->unpromoted = unpromoted;
		drop_all(&esim_worker->begin);
		drop_all(&esim_worker->outcomes);
	}
	PG_END_TRY();

	if (!extension)
	{
		ereport(LOG, (errmsg("esim worker ends: the extension is gone")));
		proc_exit(0);
	}
}

/* ------------------------------------------------------------------------
 * Start and end
 * ------------------------------------------------------------------------ */

static void
override(const char *name, const char *value)
{
	SetConfigOption(name, value, PGC_SUSET, PGC_S_OVERRIDE);
}

static void
settings(void)
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

	begin_transaction();
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
	commit_transaction();
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

static void
start(Datum arg)
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
	before_shmem_exit(detach, arg);
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

	settings();
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
	worker->http = http_loop_create(Max(sockets, 8), error, sizeof(error));
	if (worker->http == NULL)
		ereport(FATAL,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not set up libcurl: %s", error)));
}

/*
 * An orderly end: what is in flight is written as it stands, so that whoever
 * takes over knows what may have been sent.
 */
static void
finish(void)
{
	dlist_head *lists[3];

	report_doing("ending");
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
	write_batch();
	http_loop_destroy(esim_worker->http);
}

/* milliseconds until the loop must turn again */
static long
time_to_wait(TimestampTz now, TimestampTz next_upkeep, TimestampTz outcome_since,
			 TimestampTz idle_since, bool more)
{
	long		wait = esim_poll_interval_ms;
	long		http = http_loop_timeout(esim_worker->http);
	TimestampTz at[5];

	if (more)
		return 0;
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
	bool		look = true;	/* there may be something to claim */

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, handle_sigterm);
	BackgroundWorkerUnblockSignals();

	start(arg);

	while (!shutdown_requested)
	{
		bool		more;
		int			room;
		int			events;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(esim_worker->turn);
		MemoryContextReset(esim_worker->turn);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			settings();
			next_upkeep = 0;
		}
		if (esim_worker->index >= esim_workers)
			break;				/* fewer workers are wanted, or none */

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
			report_doing("writing");
			write_batch();
			outcome_since = 0;
			look = true;		/* there is room again, lanes have moved on */
		}

		now = GetCurrentTimestamp();
		if (now >= next_upkeep || esim_worker->foreign_rows)
		{
			upkeep();
			/* an idle worker leaves the database in peace */
			next_upkeep = TimestampTzPlusMilliseconds(now,
													  esim_worker->queue_empty && esim_worker->in_flight == 0 ?
													  Max(esim_poll_interval_ms, UPKEEP_MS) : UPKEEP_MS);
			if (esim_preloaded || !esim_worker->queue_empty)
				start_siblings();
		}
		if (now >= next_poll ||
			(esim_worker->next_claim != 0 && now >= esim_worker->next_claim) ||
			(esim_worker->next_due != 0 && now >= esim_worker->next_due))
		{
			look = true;
			next_poll = TimestampTzPlusMilliseconds(now, esim_poll_interval_ms);
		}

		if (look && !esim_worker->paused && room_for_claims(&room))
		{
			report_doing("claiming");
			look = claim(room);
			more |= !dlist_is_empty(&esim_worker->begin) ||
				esim_worker->noutcomes > 0;
			begin_tasks();
			if (esim_worker->in_flight > 0)
				esim_worker->queue_empty = false;
		}

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
			detach(0, Int32GetDatum(esim_worker->slot));
			upkeep();
			if ((esim_worker->queue_empty && esim_worker->in_flight == 0) || !reattach())
				break;
			idle_since = 0;
			look = true;
		}

		more |= look && !esim_worker->paused && room_for_claims(&room);
		report_doing(esim_worker->paused ? "paused" :
					 esim_worker->in_flight > 0 ? "waiting for answers" : "idle");
		if (outcome_since == 0 && esim_worker->noutcomes + esim_worker->nintents > 0)
			outcome_since = now;
		events = WaitLatchOrSocket(MyLatch,
								   WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
								   http_loop_fd(esim_worker->http),
								   time_to_wait(now, next_upkeep, outcome_since, idle_since, more),
								   PG_WAIT_EXTENSION);
		if (events & WL_LATCH_SET)
			look = true;
	}

	finish();
	proc_exit(0);
}
