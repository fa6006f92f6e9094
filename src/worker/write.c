/*-------------------------------------------------------------------------
 *
 * write.c
 *	  Writes intents and outcomes, many at a time, and one by one when
 *	  somebody is in the way; then sends what may go out.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/worker.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

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

		if (c->cleanup_path == NULL || task->server == NULL || task->server->rsp.endpoint == NULL || worker_shutdown ||
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

	for (volatile int attempt = 0; attempt < 3; attempt++)
	{
		error = NULL;
		PG_TRY();
		{
			worker_begin();
			complete_outcomes(&one);
			worker_commit();
		}
		PG_CATCH();
		{
			error = worker_abort("writing an outcome");
		}
		PG_END_TRY();
		if (error == NULL || worker_is_passing(error))
			break;
		if (!task->careful && drift_explains(error))
		{
			task->careful = true;
			continue;
		}

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
			worker_begin();
			complete_attempts(&one);
			complete_defer(task);
			worker_commit();
		}
		PG_CATCH();
		{
			/* stays claimed in the table, until the share is taken up anew */
			(void) worker_abort("recording an outcome");
			esim_worker->orphaned[task->shard] = true;
		}
		PG_END_TRY();
	}
	worker_drop_task(task);
}

void
worker_write(void)
{
	volatile bool failed = false;
	TimestampTz now = GetCurrentTimestamp();

	if (esim_worker->noutcomes == 0 && esim_worker->nintents == 0)
		return;
	PG_TRY();
	{
		worker_begin();
		complete_outcomes(&esim_worker->outcomes);
		complete_intents();
		complete_show_sent(now);
		worker_commit();
	}
	PG_CATCH();
	{
		(void) worker_abort("writing outcomes");
		failed = true;
	}
	PG_END_TRY();

	if (!failed)
	{
		submit_cleanups(&esim_worker->outcomes);
		worker_drop_all(&esim_worker->outcomes);
		submit_intents();
		return;
	}

	while (!dlist_is_empty(&esim_worker->outcomes))
		write_one(dlist_head_element(Task, node, &esim_worker->outcomes));

	PG_TRY();
	{
		worker_begin();
		complete_intents();
		worker_commit();
	}
	PG_CATCH();
	{
		(void) worker_abort("recording what is to be sent");
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
	while (!dlist_is_empty(&esim_worker->outcomes))
		write_one(dlist_head_element(Task, node, &esim_worker->outcomes));
}
