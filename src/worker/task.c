/*-------------------------------------------------------------------------
 *
 * task.c
 *	  One claimed operation between the driver, the HTTP loop and the lists
 *	  of the worker.  No SQL.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/worker.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

int64_t
timestamptz_to_ms(TimestampTz t)
{
	return t / 1000 + ((int64_t) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY) * 1000;
}

TimestampTz
ms_to_timestamptz(int64_t ms)
{
	return (ms - ((int64_t) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY) * 1000) * 1000;
}

/* in a memory context of its own */
Task *
task_create(void)
{
	MemoryContext context = AllocSetContextCreate(esim_worker->context, "esim task", ALLOCSET_SMALL_SIZES);
	Task	   *task = MemoryContextAllocZero(context, sizeof(Task));

	task->context = context;
	task->stage = TASK_BEGIN;
	task->server_slot = -1;
	dlist_push_tail(&esim_worker->begin, &task->node);
	esim_worker->in_flight++;
	return task;
}

static dlist_head *
list_of(TaskStage stage)
{
	switch (stage)
	{
		case TASK_BEGIN:
			return &esim_worker->begin;
		case TASK_INTENT:
			return &esim_worker->intents;
		case TASK_FLYING:
			return &esim_worker->flying;
		case TASK_OUTCOME:
			return &esim_worker->outcomes;
	}
	return NULL;				/* keep compiler quiet */
}

static void
count(TaskStage stage, int n)
{
	if (stage == TASK_INTENT)
		esim_worker->nintents += n;
	else if (stage == TASK_OUTCOME)
		esim_worker->noutcomes += n;
}

void
task_move(Task *task, TaskStage stage)
{
	count(task->stage, -1);
	dlist_delete(&task->node);
	task->stage = stage;
	dlist_push_tail(list_of(stage), &task->node);
	count(stage, 1);
}

/* The task must be off all lists. */
void
task_free(Task *task)
{
	if (task->request)
		http_request_free(task->request);
	rsp_conversation_free(&task->conversation);
	if (task->op.memo)
		rsp_json_release(task->op.memo);
	if (task->op.options)
		rsp_json_release(task->op.options);
	if (task->op.settings)
		rsp_json_release(task->op.settings);
	if (task->server)
	{
		esim_server_release_slots(task->server_slot, esim_worker->slot, 1);
		esim_server_release(task->server);
	}
	MemoryContextDelete(task->context);
}

/* Ends the turn FAILED by our own judgement. */
void
task_fail(Task *task, const char *code, const char *message)
{
	rsp_conversation_reset(&task->conversation);
	rsp_fail(&task->conversation, code, message);
	task_move(task, TASK_OUTCOME);
}

static TaskAttempt *
add_attempt(Task *task)
{
	TaskAttempt *attempt;

	if (task->nattempts == task->attempts_size)
	{
		int			size = Max(4, task->attempts_size * 2);
		TaskAttempt *grown = MemoryContextAllocZero(task->context, size * sizeof(TaskAttempt));

		memcpy(grown, task->attempts, task->nattempts * sizeof(TaskAttempt));
		task->attempts = grown;
		task->attempts_size = size;
	}
	attempt = &task->attempts[task->nattempts++];
	attempt->number = task->attempts_before + task->nattempts;
	return attempt;
}

/* Makes the HTTP request of the action and its attempt. */
static bool
prepare_request(Task *task, bool acts)
{
	RspAction  *action = &task->conversation.action;
	HttpRequest *request;
	TaskAttempt *attempt;

	if (task->requests++ >= TASK_MAX_REQUESTS)
	{
		rsp_conversation_reset(&task->conversation);
		rsp_wait(&task->conversation, RSP_PHASE_RETRYING, 300000, "UNAVAILABLE",
				 "too many requests in one turn");
		task_move(task, TASK_OUTCOME);
		return false;
	}

	request = http_request_create(task->server->rsp.endpoint, action->method, action->path,
								  action->content_type, action->body,
								  action->body ? strlen(action->body) : 0, task);
	if (request == NULL)
	{
		rsp_conversation_reset(&task->conversation);
		rsp_wait(&task->conversation, RSP_PHASE_RETRYING, 10000, "UNAVAILABLE",
				 "could not make the request");
		task_move(task, TASK_OUTCOME);
		return false;
	}
	for (int i = 0; i < action->nheaders; i++)
		(void) http_request_header(request, action->headers[i].name, action->headers[i].value);
	if (!acts)
		http_request_asks_only(request);

	attempt = add_attempt(task);
	attempt->method = action->method;
	attempt->url = MemoryContextStrdup(task->context, http_request_url(request));
	strlcpy(attempt->call_id, action->call_id, sizeof(attempt->call_id));
	attempt->at = GetCurrentTimestamp();

	task->request = request;
	task->request_acts = acts;
	return true;
}

/* The driver has set an action: what next? */
static void
carry_out(Task *task)
{
	switch (task->conversation.action.type)
	{
		case RSP_ACT_ASK:
			if (prepare_request(task, false))
			{
				if (task->requests > 1)
					esim_server_debit(task->server_slot);
				task_submit(task);
			}
			break;
		case RSP_ACT_SEND:
			if (prepare_request(task, true))
			{
				/* what was reported before it will no longer be true */
				task->conversation.nreports = 0;
				task->conversation.reports_whole = false;
				if (task->requests > 1)
					esim_server_debit(task->server_slot);

				/*
				 * The claim was the intent of the first request, provided that
				 * the driver needs no notes to find its way after a crash.
				 */
				if (task->intent_committed && task->requests == 1 &&
					task->op.step == task->saved_step && !rsp_json_any(task->op.memo))
					task_submit(task);
				else
					task_move(task, TASK_INTENT);
			}
			break;
		case RSP_ACT_FAIL:
			task->cancelled = task->conversation.action.cancelled;
			task_move(task, TASK_OUTCOME);
			break;
		case RSP_ACT_WAIT:
		case RSP_ACT_PARK:
		case RSP_ACT_DONE:
			task_move(task, TASK_OUTCOME);
			break;
		case RSP_ACT_NONE:
			/* a fault of the driver must not hang the lane */
			task_fail(task, task->op.unresolved ? "OUTCOME_UNKNOWN" : "UNAVAILABLE",
					  "the driver did not say how to go on");
			break;
	}
}

void
task_begin(Task *task)
{
	task->op.now_ms = timestamptz_to_ms(GetCurrentTimestamp());
	rsp_conversation_reset(&task->conversation);
	task->driver->begin(&task->conversation);
	carry_out(task);
}

void
task_submit(Task *task)
{
	TaskAttempt *attempt = &task->attempts[task->nattempts - 1];

	attempt->at = GetCurrentTimestamp();
	attempt->sent = true;
	if (task->request_acts)
	{
		task->last_sent_at = attempt->at;
		if (task->first_sent_at == 0)
			task->first_sent_at = attempt->at;
		task->op.last_sent_ms = timestamptz_to_ms(task->last_sent_at);
		task->op.first_sent_ms = timestamptz_to_ms(task->first_sent_at);
		task->op.attempts++;
		task->op.unresolved = true;
	}
	task_move(task, TASK_FLYING);
	http_loop_submit(esim_worker->http, task->request);
}

/* The request is finished: the driver says what that means. */
void
task_answer(Task *task)
{
	const HttpAnswer *answer = http_request_answer(task->request);
	TaskAttempt *attempt = &task->attempts[task->nattempts - 1];
	TimestampTz now = GetCurrentTimestamp();

	attempt->answered = true;
	attempt->http_status = answer->status;
	attempt->duration_ms = answer->duration_ms;

	if (answer->outcome == HTTP_ANSWERED && answer->status < 500)
		esim_server_success(task->server_slot);

	/* what was certainly not sent leaves no doubt behind */
	if (task->request_acts && answer->outcome == HTTP_NOT_SENT)
	{
		task->op.unresolved = false;
		task->op.attempts--;
	}

	task->op.now_ms = timestamptz_to_ms(now);
	rsp_conversation_reset(&task->conversation);
	task->conversation.outcome[0] = '\0';
	task->conversation.detail[0] = '\0';
	task->driver->answer(&task->conversation, answer);

	strlcpy(attempt->outcome,
			task->conversation.outcome[0] ? task->conversation.outcome :
			answer->outcome == HTTP_ANSWERED ? "answered" :
			answer->outcome == HTTP_NOT_SENT ? "not-sent" :
			answer->outcome == HTTP_LOST ? "lost" : "bad-answer",
			sizeof(attempt->outcome));
	if (task->conversation.detail[0] || answer->error[0])
		attempt->detail = MemoryContextStrdup(task->context,
											  task->conversation.detail[0] ?
											  task->conversation.detail : answer->error);

	if (task->conversation.action.server_trouble)
	{
		char		status[32];

		snprintf(status, sizeof(status), "HTTP status %d", answer->status);
		esim_server_failure(task->server_slot, now,
							answer->error[0] ? answer->error :
							answer->outcome == HTTP_ANSWERED ? status : "no answer");
	}

	http_request_free(task->request);
	task->request = NULL;
	carry_out(task);
}
