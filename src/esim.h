/*-------------------------------------------------------------------------
 *
 * esim.h
 *	  What the rooms of the extension share: settings, errors, the schema,
 *	  the change to the extension owner's rights, prepared statements.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_H
#define ESIM_H

#include "postgres.h"

#include "executor/spi.h"
#include "utils/snapshot.h"

#include "compat.h"

/* ----- settings (esim.c) ----- */

typedef enum EsimLockoutGuard
{
	ESIM_LOCKOUT_OFF,
	ESIM_LOCKOUT_WARNING,
	ESIM_LOCKOUT_ERROR
} EsimLockoutGuard;

extern bool esim_check_digits;
extern char *esim_default_server;
extern int	esim_lockout_guard;
extern int	esim_workers;
extern int	esim_poll_interval_ms;
extern int	esim_max_in_flight;
extern bool esim_log_operations;
extern int	esim_retention_min;
extern int	esim_max_pending_per_owner;
extern char *esim_sink_allow;
extern bool esim_sink_allow_private;
extern int	esim_sink_give_up_s;
extern char *esim_sink_ca_file;
extern char *esim_notify_channel;
extern char *esim_api_root;
extern char *esim_worker_role;
extern bool esim_preloaded;

/* ----- errors: class ES, DETAIL begins with CAMARA's code ----- */

#define ERRCODE_ESIM_INVALID		MAKE_SQLSTATE('E','S','4','0','0')
#define ERRCODE_ESIM_DENIED			MAKE_SQLSTATE('E','S','4','0','3')
#define ERRCODE_ESIM_NOT_FOUND		MAKE_SQLSTATE('E','S','4','0','4')
#define ERRCODE_ESIM_CONFLICT		MAKE_SQLSTATE('E','S','4','0','9')
#define ERRCODE_ESIM_UNPROCESSABLE	MAKE_SQLSTATE('E','S','4','2','2')
#define ERRCODE_ESIM_QUOTA			MAKE_SQLSTATE('E','S','4','2','9')
#define ERRCODE_ESIM_UNAVAILABLE	MAKE_SQLSTATE('E','S','5','0','3')

/*
 * SQLSTATE of one of CAMARA's codes (interface.md's table); ES422 for codes
 * that are not in it.
 */
extern int	esim_sqlstate_for_code(const char *code);

/*
 * errdetail of an esim error: the code, then a sentence.  Use as
 *	ereport(ERROR, (errcode(ERRCODE_ESIM_CONFLICT),
 *					errmsg("..."), esim_errdetail("INCOMPATIBLE_STATE", "It is %s.", x),
 *					errhint("...")));
 * gives DETAIL "INCOMPATIBLE_STATE: It is ENABLED."
 */
extern int	esim_errdetail(const char *code, const char *fmt,...) pg_attribute_printf(2, 3);

/* ----- the extension in this database (catalog.c) ----- */

/*
 * OID of the extension, InvalidOid if it is not there.  Cached, follows
 * DROP and CREATE EXTENSION.  The others raise UNDEFINED_OBJECT then.
 */
extern Oid	esim_extension_oid(void);
extern Oid	esim_schema_oid(void);
extern const char *esim_schema(void);	/* quoted identifier */
extern Oid	esim_owner_oid(void);
extern char *esim_extension_version(void);	/* palloc'ed; NULL if not there */

/* Type and relation OIDs in the extension's schema, looked up by name, cached. */
extern Oid	esim_type_oid(const char *name);
extern Oid	esim_relation_oid(const char *name);

/*
 * Run as the extension's owner, security-restricted, with a search_path of
 * pg_catalog and the extension's schema only.  GetUserId() before
 * entering is the caller that counts; an error restores by itself.
 */
typedef struct EsimRights
{
	Oid			caller;
	int			context;
	int			path_level;
} EsimRights;

extern void esim_enter_owner(EsimRights *save);
extern void esim_leave_owner(const EsimRights *save);

/* true: caller may act for owner (same role, a member with inherited rights,
 * superuser), and owner is still the role of that name */
extern bool esim_may_act_for(Oid caller, Oid owner, const char *owner_name);

/*
 * A statement that is prepared once per session.  "@" in the text stands for
 * the extension's schema with a dot.  Prepared again when the extension was
 * dropped and made anew.
 *
 *	static EsimStatement find = {"SELECT ... FROM @esim_device WHERE eid = $1", 1, {"@eid"}};
 *
 * Argument types are names: "@eid" for the extension's, else pg_catalog's.
 * Operators on the extension's types are written OPERATOR(@=), since the
 * search_path is the caller's.  Plans are generic and made for indexes:
 * statistics of a queue are always those of another moment.
 */
#define ESIM_MAX_ARGS 64
typedef struct EsimStatement
{
	const char *text;
	int			nargs;
	const char *types[ESIM_MAX_ARGS];
	SPIPlanPtr	plan;
	uint64		generation;
	bool		planned;
} EsimStatement;

/* Needs SPI_connect().  Returns SPI's result code (> 0), raises on failure. */
extern void esim_statement_install(void);
extern int	esim_execute(EsimStatement *statement, Datum *values, const char *nulls, long limit);

/*
 * The same with the latest snapshot, also under REPEATABLE READ and
 * SERIALIZABLE, as RI triggers do: what a lock has just shown to be
 * committed is seen.
 */
extern int	esim_execute_latest(EsimStatement *statement, Datum *values, const char *nulls, long limit);

/* ----- a step that may fail without its transaction (subtransaction.c) ----- */

/* true: what was done stays; false: it is rolled back */
typedef bool (*EsimStep) (void *arg);

/*
 * Takes the step in a subtransaction, which is gone afterwards in any case.
 * NULL: the step has returned.  Else its error, in the caller's context and
 * rolled back, to be looked at or given to ReThrowError().
 */
extern ErrorData *esim_try(EsimStep step, void *arg);

/* ----- texts of the network, which are UTF-8 (encoding.c) ----- */

/* in the database's encoding; what it cannot say is a question mark */
extern Datum esim_text_from_utf8(const char *text);

/* text itself where there is nothing to convert, else palloc'ed */
extern const char *esim_utf8_from_text(const char *text);

/* ----- where this cluster is (catalog.c) ----- */

typedef struct EsimEpoch
{
	int64		system_identifier;
	int32		timeline;
	Oid			database;
} EsimEpoch;

extern void esim_current_epoch(EsimEpoch *epoch);

/* uuid version 7 (RFC 9562), growing within a session */
extern void esim_uuid7(unsigned char uuid[16]);

/* shard of a lane; esim_pending.shard */
#define ESIM_SHARDS 16
#define ESIM_SHARD(lane) ((int16) (((lane) >> 1) & (ESIM_SHARDS - 1)))

/* text with all but the last four characters replaced, for logs */
extern char *esim_mask(const char *identifier);

/* ----- waking workers (worker/wake.c) ----- */

/*
 * Something was queued in this transaction: at its commit the workers of
 * this database are woken, or one is started.
 */
extern void esim_wake_at_commit(void);

/*
 * Called at the beginning of every SQL function: once a transaction, when no
 * worker runs and the queue is not empty, starts one; warns when that failed
 * before.
 */
extern void esim_look_after_worker(void);

/* ----- queries on the server side of a call (server/server.c) ----- */
#include "server/server.h"

#endif							/* ESIM_H */
