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
	{
		RspReport  *r = &c->reports[i];

		json_array_append_new(reports, json_pack("[s,s,i,i,s]", r->eid, r->iccid, (int) r->state,
												 r->is_fallback, r->msisdn));
	}
	object = json_pack("{s:i, s:i, s:I, s:s, s:s, s:s, s:s, s:s, s:b, s:i, s:b, s:o, s:o}",
					   "type", (int) a->type, "phase", (int) a->phase, "delay", (json_int_t) a->delay_ms,
					   "code", a->code, "message", a->message, "rsp_code", a->rsp_code,
					   "rsp_message", a->rsp_message, "iccid", a->iccid,
					   "state_set", (int) a->profile_state_set, "state", (int) a->state,
					   "whole", (int) c->reports_whole, "reports", reports, "facts", learned);
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
	{
		json_t	   *r = json_array_get(reports, i);

		rsp_report(c, json_string_value(json_array_get(r, 0)), json_string_value(json_array_get(r, 1)),
				   (RspState) json_integer_value(json_array_get(r, 2)),
				   (int) json_integer_value(json_array_get(r, 3)), json_string_value(json_array_get(r, 4)));
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
