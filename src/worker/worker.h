/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  Background workers: shared memory, launcher, the loop and its parts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_WORKER_H
#define ESIM_WORKER_H

#include <signal.h>

#include "esim.h"

#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "utils/uuid.h"

/* ------------------------------------------------------------------------
 * Shared memory (shmem.c)
 * ------------------------------------------------------------------------ */

#define ESIM_WORKER_SLOTS 64	/* workers in the whole cluster */
#define ESIM_SERVER_SLOTS 64	/* servers with shared limits */
#define ESIM_DATABASE_SLOTS 64	/* databases whose trouble is remembered */
#define ESIM_TEXT_SIZE 256

/* breaker: so many failures in a row open it */
#define BREAKER_FAILURES 5

typedef struct EsimWorkerSlot
{
	Oid			database;		/* InvalidOid: free */
	int			index;			/* 0 .. esim.workers - 1 */
	int			pid;			/* 0: registered, not running yet */
	TimestampTz registered_at;
	TimestampTz started_at;
	TimestampTz since;			/* of doing */
	uint16		shards;			/* bit mask of the shards it holds */
	int			in_flight;
	char		doing[64];
	char		last_error[ESIM_TEXT_SIZE];
} EsimWorkerSlot;

typedef struct EsimServerSlot
{
	Oid			database;
	Oid			server;			/* InvalidOid: free */
	TimestampTz used_at;
	int			in_flight[ESIM_WORKER_SLOTS];
	double		tokens;
	TimestampTz tokens_at;
	int			failures;		/* of the server as a whole, in a row */
	TimestampTz failing_since;	/* the first of them */
	char		last_error[ESIM_TEXT_SIZE]; /* the last of them */
	TimestampTz open_until;		/* breaker: nothing is claimed before */
	bool		probing;		/* one request decides */
} EsimServerSlot;

typedef struct EsimDatabaseSlot
{
	Oid			database;		/* InvalidOid: free */
	bool		no_extension;
	TimestampTz failed_at;		/* last time that no worker could start */
	bool		warned;			/* since then a session has been told */
	char		reason[ESIM_TEXT_SIZE];
} EsimDatabaseSlot;

typedef struct EsimShared
{
	LWLock		lock;
	int			launcher_pid;
	EsimWorkerSlot workers[ESIM_WORKER_SLOTS];
	EsimServerSlot servers[ESIM_SERVER_SLOTS];
	EsimDatabaseSlot databases[ESIM_DATABASE_SLOTS];
} EsimShared;

extern void esim_shmem_preload(void);

/* attaches, makes it if it is not there; never NULL */
extern EsimShared *esim_shared(void);

/* Number of running workers of a database; mine: bit mask of their shards. */
extern int	esim_workers_alive(Oid database);

/*
 * Reserves a slot and registers a dynamic worker for it.  Does nothing that
 * can fail, so that it may be called when a transaction has just committed;
 * a failure is remembered in the database's slot.  true: one is on its way.
 */
extern bool esim_start_worker(Oid database, Oid role, int index);
extern void esim_note_start_failure(Oid database, const char *reason);

/* Limits and breaker of a server; slot < 0: table full, the caller falls back
 * to a share of its own. */
extern int	esim_server_slot(Oid database, Oid server);

/* how many requests of the server this worker may start now, at most want;
 * counted as in flight */
extern int	esim_server_acquire(int slot, int worker_slot, int want, int max_in_flight,
								double rate_limit, TimestampTz now);

/* one more request within the turn of an operation: paid for by later ones */
extern void esim_server_debit(int slot);
extern void esim_server_release_slots(int slot, int worker_slot, int count);
extern void esim_server_recount(int worker_slot, const int *counts);
extern void esim_server_success(int slot);

/* error: in our words, nothing that came over the network */
extern void esim_server_failure(int slot, TimestampTz now, const char *error);

/* when the server may be used again: 0 now */
extern TimestampTz esim_server_open_until(int slot);

/* ------------------------------------------------------------------------
 * Launcher
 * ------------------------------------------------------------------------ */

extern void esim_launcher_register(void);
extern PGDLLEXPORT void esim_launcher_main(Datum arg);
extern PGDLLEXPORT void esim_worker_main(Datum arg);

/* ------------------------------------------------------------------------
 * Tasks: operations that this worker has claimed
 * ------------------------------------------------------------------------ */

typedef enum TaskStage
{
	TASK_BEGIN,					/* claim is committed, driver is asked next */
	TASK_INTENT,				/* a request that acts waits for its intent */
	TASK_FLYING,				/* a request is under way */
	TASK_OUTCOME				/* the turn has ended, to be written */
} TaskStage;

typedef struct TaskAttempt
{
	int			number;
	bool		committed;		/* its row is there already: the intent */
	bool		sent;
	bool		answered;
	TimestampTz at;
	const char *method;			/* static text */
	char	   *url;
	char		call_id[64];
	int			http_status;
	char		outcome[40];
	char	   *detail;
	int			duration_ms;
} TaskAttempt;

typedef struct Task
{
	dlist_node	node;			/* in one of the loop's lists */
	TaskStage	stage;
	MemoryContext context;
	int64		seq;
	int64		lane;
	int16		shard;
	pg_uuid_t	id;
	pg_uuid_t	profile;
	bool		has_profile;
	int16		port;
	Oid			owner;
	EsimServer *server;			/* NULL: could not be loaded */
	int			server_slot;
	const RspDriver *driver;
	RspOperation op;
	RspConversation conversation;
	HttpRequest *request;
	bool		request_acts;
	TimestampTz claimed_at;
	TimestampTz expires_at;
	TimestampTz first_sent_at;	/* 0: none */
	TimestampTz last_sent_at;
	int			attempts_before;	/* rows in esim_attempt before this turn */
	TaskAttempt *attempts;		/* of this turn */
	int			nattempts;
	int			attempts_size;
	int			saved_step;		/* as in the queue row */
	char	   *saved_memo;
	bool		intent_committed;	/* with the claim: the first request may
									 * act at once */
	bool		suspect;		/* in flight when a worker crashed */
	bool		shown;			/* esim_operation says SENT */
	bool		cancelled;		/* outcome CANCELLED rather than FAILED */
	bool		refresh_after;	/* ends without knowing: list the eUICC */
	bool		deferred;		/* its outcome is in esim_deferred */
	bool		careful;		/* its outcome breaks a rule, see drift.c */
	int			requests;		/* in this turn */
} Task;

/* more requests than this in one turn: the driver or the RSP goes round in
 * circles */
#define TASK_MAX_REQUESTS 40

typedef struct Worker
{
	EsimShared *shared;
	int			slot;
	Oid			database;
	Oid			extension;
	Oid			role;
	int			index;
	HttpLoop   *http;
	int			wait_fd;		/* readable when a socket of curl's is */
	MemoryContext context;		/* of the worker's life */
	MemoryContext turn;			/* of one turn of the loop */
	dlist_head	begin;
	dlist_head	intents;
	dlist_head	flying;
	dlist_head	outcomes;
	int			nintents;
	int			noutcomes;
	int			in_flight;		/* tasks in all lists */
	int			shard_tasks[ESIM_SHARDS];
	bool		held[ESIM_SHARDS];
	bool		draining[ESIM_SHARDS];	/* no claims any more */
	bool		orphaned[ESIM_SHARDS];	/* an outcome could not be written at all */
	List	   *unpromoted;		/* lanes whose next row was locked (int64 *) */
	bool		paused;			/* the whole database */
	bool		foreign_rows;	/* of another epoch were met */
	uint64		server_generation;	/* of which parked operations know */
	TimestampTz next_due;		/* earliest next_at known; 0: none */
	TimestampTz next_claim;		/* not before, when a server holds back */
	bool		queue_empty;	/* nothing to do in the shards held */
} Worker;

extern Worker *esim_worker;		/* NULL in all other processes */

/* loop.c */
extern volatile sig_atomic_t worker_shutdown;	/* SIGTERM came */
extern EsimWorkerSlot *worker_slot(void);
extern void worker_report_doing(const char *doing);
extern void worker_report_error(const char *message);
extern void worker_drop_task(Task *task);
extern void worker_drop_all(dlist_head *list);

/* transaction.c: SPI is connected between begin and commit; after an error
 * worker_abort() gives it back, logged unless it was about a lock */
extern void worker_begin(void);
extern void worker_commit(void);
extern ErrorData *worker_abort(const char *what);
extern bool worker_is_passing(const ErrorData *error);	/* the same may succeed later */

/* write.c: outcomes and intents, in transactions of its own */
extern void worker_write(void);

/* upkeep.c */
extern void worker_upkeep(void);

/* start.c */
extern void worker_start(Datum arg);
extern void worker_settings(void);
extern void worker_detach(int code, Datum arg);
extern bool worker_reattach(void);	/* false: somebody has started another */

/* task.c */
extern Task *task_create(void);
extern void task_free(Task *task);
extern void task_begin(Task *task);	/* asks the driver for its first action */
extern void task_answer(Task *task);	/* the request is finished */
extern void task_fail(Task *task, const char *code, const char *message);
extern void task_move(Task *task, TaskStage stage);
extern void task_submit(Task *task);	/* sends what task->conversation asks */

/* claim.c; all within a transaction with SPI connected */
extern void claim_due(void);
extern void claim_new(void);
extern int	claim_ready(int limit);
extern void claim_expired(void);
extern void claim_deferred(void);
extern void claim_parked(void);
extern TimestampTz claim_next_due(void);
extern bool claim_anything_left(void);

/* attempt.c, effect.c, complete.c; all within a transaction with SPI connected */
extern void complete_attempts(dlist_head *tasks);
extern void complete_effects(dlist_head *tasks, TimestampTz now, const char *broken);
extern void complete_intents(void); /* rows of esim_attempt for the requests
									 * that act, and the driver's notes */
extern void complete_outcomes(dlist_head *tasks);
extern void complete_show_sent(TimestampTz now);
extern void complete_promote(Datum *lanes, int nlanes);
extern void complete_promote_later(void);
extern void complete_mark_handling(Task *task, bool handling);

/* report.c, adopt.c */
extern void report_apply(Task *task);
extern void report_event(Task *task, const char *eid, const pg_uuid_t *profile, RspState old_state,
						 RspState new_state, const char *cause, const char *detail);
extern int	adopt_reports(Task *task, const RspReport **others);	/* those of eUICCs */
extern void adopt_facts(Task *task);

/* drift.c; broken: the rule that what the RSP said breaks, NULL: none */
#define DRIFT_TWO_ROWS		"ICCID of another profile"
#define DRIFT_TWO_ENABLED	"two profiles enabled"
#define DRIFT_TWO_FALLBACK	"two fallback profiles"
typedef void (*DriftStep) (Task *task, void *arg, const char *broken);
extern void drift_apply(Task *task, DriftStep step, void *arg);
extern bool drift_explains(const ErrorData *error);
extern void drift_note(const char *eid, const pg_uuid_t *profile, const char *what,
					   const char *ours, const char *reported);
extern void drift_note_broken(const char *eid, const pg_uuid_t *profile, const char *broken, const char *iccid,
							  RspState ours, RspState reported);
extern void drift_resolve(const pg_uuid_t *profile);

/* shard.c */
extern bool shard_lock(int shard);	/* false: another worker holds it */
extern void shard_unlock(int shard);
extern int	shard_wanted(void); /* how many this worker should hold */

/* reclaim.c; within a transaction with SPI connected */
extern void reclaim_shard(int shard, bool crashed);	/* by a worker that has crashed, perhaps */
extern void reclaim_epoch(int shard);
extern bool reclaim_paused(void);	/* is the whole database paused? */

/* note.c */
extern int	note_candidates(Task *task, const char ***ids);
extern void note_unknown(Task *task, const char **ids, int n);
extern char *deferred_to_json(Task *task);
extern bool deferred_from_json(Task *task, const char *text);
extern void complete_defer(Task *task);

/* array building for set-based statements */
typedef struct Column
{
	Datum	   *values;
	bool	   *nulls;
	int			count;
	int			size;
} Column;

extern void column_init(Column *column, int size);
extern void column_add(Column *column, Datum value);
extern void column_add_null(Column *column);
extern void column_add_text(Column *column, const char *text);	/* UTF-8; NULL: null */
extern void column_add_name(Column *column, const char *name);	/* NULL: null */
extern Datum column_array(const Column *column, Oid type);

/* enum labels of ours as Datums: text, cast by the statement */
extern TimestampTz ms_to_timestamptz(int64_t ms);
extern int64_t timestamptz_to_ms(TimestampTz t);

#endif							/* ESIM_WORKER_H */
