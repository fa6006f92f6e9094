/*-------------------------------------------------------------------------
 *
 * note.c
 *	  What the worker keeps as JSON: the outcome of an operation that cannot
 *	  be applied at once (what the RSP has answered must survive a crash), and
 *	  the candidates that a driver has asked about.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/worker.h"

#include "rsp/json.h"

typedef struct Member
{
	size_t		offset;
	size_t		size;
} Member;

#define MEMBER(type, member) {offsetof(type, member), sizeof(((type *) NULL)->member)}

/* texts of RspFacts and of RspReport, in the order in which they are kept */
static const Member fact_members[] = {
	MEMBER(RspFacts, rsp_id), MEMBER(RspFacts, rsp_state), MEMBER(RspFacts, smdp_address), MEMBER(RspFacts, matching_id),
	MEMBER(RspFacts, activation_code), MEMBER(RspFacts, sim_id), MEMBER(RspFacts, subscription), MEMBER(RspFacts, fleet),
	MEMBER(RspFacts, imsi), MEMBER(RspFacts, msisdn), MEMBER(RspFacts, reserved_eid)
};
static const Member report_members[] = {
	MEMBER(RspReport, eid), MEMBER(RspReport, iccid), MEMBER(RspReport, msisdn), MEMBER(RspReport, rsp_id),
	MEMBER(RspReport, rsp_state), MEMBER(RspReport, sim_id), MEMBER(RspReport, subscription), MEMBER(RspReport, fleet_id),
	MEMBER(RspReport, name), MEMBER(RspReport, smdp_address), MEMBER(RspReport, matching_id)
};

static json_t *
texts(const void *from, const Member *members, int n)
{
	json_t	   *array = json_array();

	for (int i = 0; i < n; i++)
		json_array_append_new(array, json_string((const char *) from + members[i].offset));
	return array;
}

static void
take_texts(void *into, const Member *members, int n, const json_t *array)
{
	for (int i = 0; i < n; i++)
		rsp_set((char *) into + members[i].offset, members[i].size, json_string_value(json_array_get(array, i)));
}

/*
 * Where the operation stands: without it the driver would begin anew, and send
 * again what was sent.
 */
static json_t *
progress_to_json(const Task *task)
{
	const RspOperation *op = &task->op;

	return json_pack("{s:i, s:b, s:b, s:i, s:i, s:i, s:I, s:I, s:s, s:O, s:b, s:b, s:i}",
					 "step", op->step, "unresolved", (int) op->unresolved, "ask_first", (int) op->ask_first,
					 "acting", op->attempts, "polls", op->polls, "failures", op->failures,
					 "first_sent_at", (json_int_t) task->first_sent_at, "last_sent_at", (json_int_t) task->last_sent_at,
					 "rsp_operation_id", op->rsp_operation_id, "memo", op->memo,
					 "cancelled", (int) task->cancelled, "refresh_after", (int) task->refresh_after,
					 "attempts", task->attempts_before + task->nattempts);
}

static void
progress_from_json(Task *task, const json_t *object)
{
	RspOperation *op = &task->op;
	json_t	   *memo = json_object_get(object, "memo");

	op->step = (int) json_integer_value(json_object_get(object, "step"));
	op->unresolved = json_is_true(json_object_get(object, "unresolved"));
	/* a promotion since then has said so in the row */
	op->ask_first |= json_is_true(json_object_get(object, "ask_first"));
	op->attempts = (int) json_integer_value(json_object_get(object, "acting"));
	op->polls = (int) json_integer_value(json_object_get(object, "polls"));
	op->failures = (int) json_integer_value(json_object_get(object, "failures"));
	task->first_sent_at = json_integer_value(json_object_get(object, "first_sent_at"));
	task->last_sent_at = json_integer_value(json_object_get(object, "last_sent_at"));
	rsp_set(op->rsp_operation_id, sizeof(op->rsp_operation_id),
			json_string_value(json_object_get(object, "rsp_operation_id")));
	if (json_is_object(memo))
	{
		rsp_json_release(op->memo);
		op->memo = json_incref(memo);
	}
	task->cancelled = json_is_true(json_object_get(object, "cancelled"));
	task->refresh_after = json_is_true(json_object_get(object, "refresh_after"));
	task->attempts_before = (int) json_integer_value(json_object_get(object, "attempts"));
}

/* Returns malloc'ed text; NULL when memory is short. */
char *
deferred_to_json(Task *task)
{
	RspAction  *a = &task->conversation.action;
	RspConversation *c = &task->conversation;
	json_t	   *reports = json_array();
	json_t	   *object;
	char	   *text;

	for (int i = 0; i < c->nreports; i++)
	{
		RspReport  *r = &c->reports[i];

		json_array_append_new(reports, json_pack("{s:i, s:i, s:i, s:I, s:o}", "what", (int) r->what, "state", (int) r->state,
												 "fallback", r->is_fallback, "created", (json_int_t) r->created_ms,
												 "texts", texts(r, report_members, lengthof(report_members))));
	}
	object = json_pack("{s:i, s:i, s:I, s:s, s:s, s:s, s:s, s:s, s:b, s:i, s:b, s:o, s:o, s:o, s:O*, s:s*, s:s*}",
					   "type", (int) a->type, "phase", (int) a->phase, "delay", (json_int_t) a->delay_ms,
					   "code", a->code, "message", a->message, "rsp_code", a->rsp_code,
					   "rsp_message", a->rsp_message, "iccid", a->iccid,
					   "state_set", (int) a->profile_state_set, "state", (int) a->state,
					   "whole", (int) c->reports_whole, "reports", reports,
					   "facts", texts(&c->facts, fact_members, lengthof(fact_members)),
					   "progress", progress_to_json(task),
					   "candidates", c->candidates,
					   "cleanup_method", c->cleanup_method, "cleanup_path", c->cleanup_path);
	if (object == NULL)
		return NULL;
	text = json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII);
	json_decref(object);
	return text;
}

static void
take(char *buffer, size_t size, const json_t *object, const char *key)
{
	rsp_set(buffer, size, json_string_value(json_object_get(object, key)));
}

/*
 * The task as it was when its outcome was recorded; false: the text is none of
 * ours.  An outcome that esim_receive() has recorded says nothing of where the
 * operation stands: that is in its row.
 */
bool
deferred_from_json(Task *task, const char *text)
{
	RspAction  *a = &task->conversation.action;
	RspConversation *c = &task->conversation;
	const char *reason;
	json_t	   *object = rsp_json(text, strlen(text), &reason);
	json_t	   *reports;
	json_t	   *candidates;
	const char *path;

	if (!json_is_object(object))
	{
		json_decref(object);
		return false;
	}
	rsp_conversation_reset(c);
	a->type = (RspActionType) json_integer_value(json_object_get(object, "type"));
	a->phase = (RspPhase) json_integer_value(json_object_get(object, "phase"));
	a->delay_ms = json_integer_value(json_object_get(object, "delay"));
	take(a->code, sizeof(a->code), object, "code");
	take(a->message, sizeof(a->message), object, "message");
	take(a->rsp_code, sizeof(a->rsp_code), object, "rsp_code");
	take(a->rsp_message, sizeof(a->rsp_message), object, "rsp_message");
	take(a->iccid, sizeof(a->iccid), object, "iccid");
	a->profile_state_set = json_is_true(json_object_get(object, "state_set"));
	a->state = (RspState) json_integer_value(json_object_get(object, "state"));
	take_texts(&c->facts, fact_members, lengthof(fact_members), json_object_get(object, "facts"));
	reports = json_object_get(object, "reports");
	for (size_t i = 0; i < json_array_size(reports); i++)
	{
		json_t	   *r = json_array_get(reports, i);
		RspReport  *report = rsp_report_add(c, (RspReportWhat) json_integer_value(json_object_get(r, "what")));

		if (report == NULL)
			break;
		report->state = (RspState) json_integer_value(json_object_get(r, "state"));
		report->is_fallback = (int) json_integer_value(json_object_get(r, "fallback"));
		report->created_ms = json_integer_value(json_object_get(r, "created"));
		take_texts(report, report_members, lengthof(report_members), json_object_get(r, "texts"));
	}
	c->reports_whole = json_is_true(json_object_get(object, "whole"));
	candidates = json_object_get(object, "candidates");
	if (candidates != NULL)
		rsp_candidates(c, json_incref(candidates));
	path = json_string_value(json_object_get(object, "cleanup_path"));
	if (path != NULL)
		rsp_cleanup(c, json_string_value(json_object_get(object, "cleanup_method")), path);
	if (json_object_get(object, "progress") != NULL)
		progress_from_json(task, json_object_get(object, "progress"));
	json_decref(object);
	return true;
}

/*
 * The identifiers that the driver wants to have looked up, as an array of
 * texts in the current memory context; returns their number.
 */
int
note_candidates(Task *task, const char ***ids)
{
	json_t	   *array = task->conversation.candidates;
	size_t		n = json_array_size(array);

	*ids = palloc(Max(n, 1) * sizeof(char *));
	for (size_t i = 0; i < n; i++)
	{
		const char *id = json_string_value(json_array_get(array, i));

		(*ids)[i] = id ? pstrdup(id) : "";
	}
	return (int) n;
}

/* those of them that nobody knows: for the driver's next turn */
void
note_unknown(Task *task, const char **ids, int n)
{
	json_t	   *array = json_array();

	for (int i = 0; i < n; i++)
		json_array_append_new(array, json_string(ids[i]));
	json_object_set_new(task->op.memo, "unknown", array);
}
