/*-------------------------------------------------------------------------
 *
 * drift.c
 *	  What the RSP says is kept also where it breaks a rule of ours, such as
 *	  one ICCID at two profiles: the row as reported, out of the rule's reach
 *	  (esim_profile.drift), and a row of esim_drift to look at.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/worker.h"

#include "utils/builtins.h"
#include "utils/memutils.h"

/* indexes that keep a rule, and what is wrong where it is broken */
static const struct
{
	const char *index;
	const char *what;
}			rules[] = {
	{"esim_profile_iccid_idx", DRIFT_TWO_ROWS},
	{"esim_profile_eid_idx", DRIFT_TWO_ENABLED},
	{"esim_profile_one_fallback_key", DRIFT_TWO_FALLBACK}
};

static const char *
broken_rule(const ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_UNIQUE_VIOLATION && error->constraint_name != NULL)
		for (int i = 0; i < lengthof(rules); i++)
			if (strcmp(error->constraint_name, rules[i].index) == 0)
				return rules[i].what;
	return NULL;
}

bool
drift_explains(const ErrorData *error)
{
	return broken_rule(error) != NULL;
}

typedef struct CarefulStep
{
	Task	   *task;
	DriftStep	step;
	void	   *arg;
} CarefulStep;

static bool
careful_step(void *arg)
{
	CarefulStep *c = arg;

	c->step(c->task, c->arg, NULL);
	return true;
}

/*
 * Takes a step that records what the RSP said.  Many outcomes are written at
 * once in the belief that no rule is broken; where that has failed the task is
 * careful, and each of its steps is tried by itself.
 */
void
drift_apply(Task *task, DriftStep step, void *arg)
{
	CarefulStep careful = {task, step, arg};
	ErrorData  *error;
	const char *broken;

	if (!task->careful)
	{
		step(task, arg, NULL);
		return;
	}
	error = esim_try(careful_step, &careful);
	if (error == NULL)
		return;
	broken = broken_rule(error);
	if (broken == NULL)
		ReThrowError(error);
	step(task, arg, broken);
}

/* eid, ours, reported: NULL where there is nothing to say. */
void
drift_note(const char *eid, const pg_uuid_t *profile, const char *what, const char *ours, const char *reported)
{
	/* the same as an open one is no news */
	static EsimStatement drift = {
		"INSERT INTO @esim_drift (eid, profile, what, ours, reported)"
		" SELECT $1::@eid(unchecked), $2, $3, $4, $5 WHERE NOT EXISTS (SELECT FROM @esim_drift d"
		"  WHERE d.profile = $2 AND d.what = $3 AND d.reported IS NOT DISTINCT FROM $5 AND d.resolved_at IS NULL)",
		5, {"text", "uuid", "text", "text", "text"}
	};
	Datum		values[5];
	char		nulls[5] = {' ', ' ', ' ', ' ', ' '};

	if (eid)
		values[0] = CStringGetTextDatum(eid);
	else
		nulls[0] = 'n';
	values[1] = UUIDPGetDatum(profile);
	values[2] = CStringGetTextDatum(what);
	if (ours)
		values[3] = CStringGetTextDatum(ours);
	else
		nulls[3] = 'n';
	if (reported)
		values[4] = CStringGetTextDatum(reported);
	else
		nulls[4] = 'n';
	esim_execute(&drift, values, nulls, 0);
}

/* A rule that what was reported breaks; iccid: the reported one, ours: RSP_STATE_NONE if there was none. */
void
drift_note_broken(const char *eid, const pg_uuid_t *profile, const char *broken, const char *iccid,
				  RspState ours, RspState reported)
{
	if (strcmp(broken, DRIFT_TWO_ROWS) == 0)
		drift_note(eid, profile, broken, NULL, esim_mask(iccid));
	else
		drift_note(eid, profile, broken, ours == RSP_STATE_NONE ? NULL : rsp_state_name(ours), rsp_state_name(reported));
}

void
drift_resolve(const pg_uuid_t *profile)
{
	static EsimStatement resolve = {
		"UPDATE @esim_drift SET resolved_at = now() WHERE profile = $1 AND resolved_at IS NULL", 1, {"uuid"}
	};
	Datum		value = UUIDPGetDatum(profile);

	esim_execute(&resolve, &value, NULL, 0);
}
