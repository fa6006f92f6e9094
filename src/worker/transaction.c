/*-------------------------------------------------------------------------
 *
 * transaction.c
 *	  Transactions of the worker: security-restricted, short, none of them
 *	  open while anything is waited for.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/worker.h"

#include "access/xact.h"
#include "pgstat.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

void
worker_begin(void)
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

void
worker_commit(void)
{
	Oid			user;
	int			context;

	PopActiveSnapshot();
	SPI_finish();
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(user, context & ~SECURITY_RESTRICTED_OPERATION);
	/* an end that was asked for does not wait for a standby */
	if (worker_shutdown)
		SetConfigOption("synchronous_commit", "local", PGC_USERSET, PGC_S_SESSION);
	CommitTransactionCommand();
	QueryCancelPending = false;
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(esim_worker->turn);
}

/* after an error: the transaction is gone, its message is kept and returned */
ErrorData *
worker_abort(const char *what)
{
	ErrorData  *error;

	MemoryContextSwitchTo(esim_worker->turn);
	error = CopyErrorData();
	FlushErrorState();
	AbortOutOfAnyTransaction();
	/* of a lock_timeout that came just too late */
	QueryCancelPending = false;
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(esim_worker->turn);

	/* locks of others are no trouble, they are dealt with */
	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
		error->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED)
	{
		worker_report_error(error->message);
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("esim worker failed while %s: %s", what, error->message),
				 errcontext("%s", error->context ? error->context : "")));
	}
	return error;
}

/*
 * Trouble of the moment, such as locks, a full disk or an administrator, and
 * none of the data: the same may succeed later.
 */
bool
worker_is_passing(const ErrorData *error)
{
	static const int categories[] = {
		ERRCODE_INVALID_TRANSACTION_STATE, ERRCODE_TRANSACTION_ROLLBACK, ERRCODE_INSUFFICIENT_RESOURCES,
		ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, ERRCODE_OPERATOR_INTERVENTION, ERRCODE_SYSTEM_ERROR
	};

	for (int i = 0; i < lengthof(categories); i++)
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == categories[i])
			return true;
	return false;
}
