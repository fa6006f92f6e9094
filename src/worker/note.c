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

/* members of RspFacts, in the order of the text */
static const struct
{
	size_t		offset;
	size_t		size;
}			facts[] = {
#define FACT(member) {offsetof(RspFacts, member), sizeof(((RspFacts *) NULL)->member)}
	FACT(rsp_id), FACT(rsp_state), FACT(smdp_address), FACT(matching_id), FACT(activation_code), FACT(sim_id),
	FACT(subscription), FACT(fleet), FACT(imsi), FACT(msisdn), FACT(reserved_eid)
#undef FACT
};

/* texts of RspReport, likewise */
static const struct
{
	size_t		offset;
	size_t		size;
}			said[] = {
#define SAID(member) {offsetof(RspReport, member), sizeof(((RspReport *) NULL)->member)}
	SAID(eid), SAID(iccid), SAID(msisdn), SAID(rsp_id), SAID(rsp_state), SAID(sim_id), SAID(subscription),
	SAID(fleet_id), SAID(name), SAID(smdp_address), SAID(matching_id)
#undef SAID
};

static json_t *
report_to_json(const RspReport *report)
{
	json_t	   *array = json_pack("[i,i,i,I]", (int) report->what, (int) report->state, report->is_fallback,
								  (json_int_t) report->created_ms);

	for (int i = 0; i < lengthof(said); i++)
		json_array_append_new(array, json_string((const char *) report + said[i].offset));
	return array;
}

static void
report_from_json(RspConversation *c, const json_t *array)
{
	RspReport  *report = rsp_report_add(c, (RspReportWhat) json_integer_value(json_array_get(array, 0)));

	if (report == NULL)
		return;
	report->state = (RspState) json_integer_value(json_array_get(array, 1));
	report->is_fallback = (int) json_integer_value(json_array_get(array, 2));
	report->created_ms = json_integer_value(json_array_get(array, 3));
	for (int i = 0; i < lengthof(said); i++)
		rsp_set((char *) report + said[i].offset, said[i].size,
				json_string_value(json_array_get(array, 4 + i)));
}

/* Returns malloc'ed text; NULL when memory is short. */
char *
deferred_to_json(Task *task)
{
	RspAction  *a = &task->conversation.action;
	RspConversation *c = &task->conversation;
	json_t	   *reports = json_array();
	json_t	   *learned = json_array();
	json_t	   *object;
	char	   *text;

	for (int i = 0; i < lengthof(facts); i++)
		json_array_append_new(learned, json_string((const char *) &c->facts + facts[i].offset));

	for (int i = 0; i < c->nreports; i++)
		json_array_append_new(reports, report_to_json(&c->reports[i]));
	object = json_pack("{s:i, s:i, s:I, s:s, s:s, s:s, s:s, s:s, s:b, s:i, s:b, s:o, s:o, s:b, s:b, s:i, s:i, s:i, s:s, s:O,"
					   " s:i, s:i, s:I, s:I}",
					   "type", (int) a->type, "phase", (int) a->phase, "delay", (json_int_t) a->delay_ms,
					   "code", a->code, "message", a->message, "rsp_code", a->rsp_code,
					   "rsp_message", a->rsp_message, "iccid", a->iccid,
					   "state_set", (int) a->profile_state_set, "state", (int) a->state,
					   "whole", (int) c->reports_whole, "reports", reports, "facts", learned,
					   "unresolved", (int) task->op.unresolved, "ask_first", (int) task->op.ask_first,
					   "step", task->op.step, "polls", task->op.polls, "failures", task->op.failures,
					   "rsp_operation_id", task->op.rsp_operation_id, "memo", task->op.memo,
					   "attempts", task->attempts_before + task->nattempts, "acting", task->op.attempts,
					   "first_sent", (json_int_t) task->first_sent_at, "last_sent", (json_int_t) task->last_sent_at);
	if (object == NULL)
		return NULL;
	text = json_dumps(object, JSON_COMPACT);
	json_decref(object);
	return text;
}

static void
take(char *buffer, size_t size, const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	strlcpy(buffer, text ? text : "", size);
}

/* false: the text is none of ours */
bool
deferred_from_json(Task *task, const char *text)
{
	RspAction  *a = &task->conversation.action;
	RspConversation *c = &task->conversation;
	const char *reason;
	json_t	   *object = rsp_json(text, strlen(text), &reason);
	json_t	   *reports;

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
	c->reports_whole = json_is_true(json_object_get(object, "whole"));
	for (int i = 0; i < lengthof(facts); i++)
	{
		const char *fact = json_string_value(json_array_get(json_object_get(object, "facts"), i));

		rsp_set((char *) &c->facts + facts[i].offset, facts[i].size, fact);
	}
	reports = json_object_get(object, "reports");
	for (size_t i = 0; i < json_array_size(reports); i++)
		report_from_json(c, json_array_get(reports, i));
	if (json_is_object(json_object_get(object, "memo")))
	{
		/* the driver's notes are part of what was learned */
		task->op.unresolved = json_is_true(json_object_get(object, "unresolved"));
		task->op.ask_first = json_is_true(json_object_get(object, "ask_first"));
		task->op.step = (int) json_integer_value(json_object_get(object, "step"));
		task->op.polls = (int) json_integer_value(json_object_get(object, "polls"));
		task->op.failures = (int) json_integer_value(json_object_get(object, "failures"));
		task->attempts_before = (int) json_integer_value(json_object_get(object, "attempts"));
		task->op.attempts = (int) json_integer_value(json_object_get(object, "acting"));
		task->first_sent_at = json_integer_value(json_object_get(object, "first_sent"));
		task->last_sent_at = json_integer_value(json_object_get(object, "last_sent"));
		take(task->op.rsp_operation_id, sizeof(task->op.rsp_operation_id), object, "rsp_operation_id");
		json_decref(task->op.memo);
		task->op.memo = json_incref(json_object_get(object, "memo"));
	}
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
