/*-------------------------------------------------------------------------
 *
 * decide.c
 *	  Preconditions against the projected state, the lockout guard, quotas.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "access/xact.h"

#include "operation/enqueue.h"

static EsimStatement count_pending = {
	"SELECT count(*) FROM (SELECT FROM @esim_pending q JOIN @esim_operation o ON o.id = q.operation"
	" WHERE o.owner = $1 LIMIT $2) c",
	2, {"regrole", "int8"}
};

static int64
count_of_owner(Oid owner)
{
	Datum		values[2];
	EsimRow		row;
	int64		count;

	values[0] = ObjectIdGetDatum(owner);
	values[1] = Int64GetDatum((int64) esim_max_pending_per_owner + 1);
	esim_execute_latest(&count_pending, values, NULL, 1);
	esim_row(&row, SPI_tuptable, 0);
	count = DatumGetInt64(row.value[0]);
	SPI_freetuptable(SPI_tuptable);
	return count;
}

/*
 * How many unfinished operations an owner has is counted once a transaction
 * and then added up, since counting goes through the whole queue.
 */
void
esim_check_quota(EsimElement *element, int accepted)
{
	static TimestampTz transaction = 0;
	static Oid	counted = InvalidOid;
	static int64 count = 0;
	Oid			owner = element->owner;

	if (esim_max_pending_per_owner <= 0)
		return;
	/* at the limit it is counted again: the sum has what a savepoint has undone */
	if (transaction != GetCurrentTransactionStartTimestamp() || counted != owner ||
		count >= esim_max_pending_per_owner)
	{
		count = count_of_owner(owner) + accepted;
		transaction = GetCurrentTransactionStartTimestamp();
		counted = owner;
	}
	if (count < esim_max_pending_per_owner)
	{
		count++;
		return;
	}
	element->failure =
		esim_failure("QUOTA_EXCEEDED",
					 psprintf("role \"%s\" has too many unfinished operations",
							  element->owner_name),
					 psprintf("At most %d are allowed.", esim_max_pending_per_owner),
					 pstrdup("Wait until some have completed, or raise esim.max_pending_per_owner."));
}

void
esim_refuse(EsimRequest *request, EsimElement *element, const ProjectQuestion *question,
			RspState now, RspState state)
{
	char		states[160];
	char	   *label = esim_profile_label(element);
	char	   *hint;

	project_allowed_states(question, states, sizeof(states));
	if (question->kind == RSP_RESERVE)
		hint = pstrdup("Use the profile as it is, or reserve another one.");
	else if (question->kind == RSP_CANCEL_ORDER && now != state)
		hint = psprintf("It must be %s; esim_cancel() takes back what is ahead.", states);
	else
		hint = psprintf("It must be %s.", states);
	if (state == RSP_STATE_NONE)
		element->failure =
			esim_failure("INCOMPATIBLE_STATE",
						 psprintf("cannot %s profile \"%s\"", request->kind->verb, label),
						 pstrdup("It is not on this eUICC."), hint);
	else
		element->failure =
			esim_failure("INCOMPATIBLE_STATE",
						 psprintf("cannot %s profile \"%s\" in state %s", request->kind->verb,
								  label, rsp_state_name(state)),
						 now == state ? psprintf("Its state is %s.", rsp_state_name(state)) :
						 psprintf("That is its state when the operations ahead of it have succeeded; now it is %s.",
								  now == RSP_STATE_NONE ? "not on this eUICC" : rsp_state_name(now)),
						 hint);
}

static pg_uuid_t *
append_id(pg_uuid_t *ids, int *n, const ProjectOperation *op)
{
	for (int i = 0; i < *n; i++)
	{
		if (memcmp(ids[i].data, op->id, UUID_LEN) == 0)
			return ids;
	}
	ids = ids == NULL ? palloc(sizeof(pg_uuid_t)) : repalloc(ids, sizeof(pg_uuid_t) * (*n + 1));
	memcpy(ids[(*n)++].data, op->id, UUID_LEN);
	return ids;
}

void
esim_wait_for(EsimElement *element, const ProjectOperation *op)
{
	if (op->lane == element->lane)
		return;
	element->waits_for = append_id(element->waits_for, &element->nwaits_for, op);
	element->phase_reason = psprintf("waits for an operation in another lane: %s",
									 rsp_kind_name(op->kind));
}

void
esim_depend_on(EsimElement *element, const ProjectOperation *op)
{
	element->depends_on = append_id(element->depends_on, &element->ndepends_on, op);
	esim_wait_for(element, op);
}

/*
 * What is enabled must be allowed to attach: changes of the subscription come
 * first, and one that lets it attach must succeed.
 */
static void
follow_subscription(EsimElement *element, EsimScratch *scratch)
{
	const ProjectOperation *last = NULL;
	const ProjectOperation *status = NULL;

	for (int i = 0; i < scratch->nahead; i++)
	{
		const ProjectOperation *op = &scratch->ahead[i].op;

		if (op->kind != RSP_SET_SUBSCRIPTION && op->kind != RSP_ASSIGN_FLEET)
			continue;
		last = op;
		if (op->wanted != PROJECT_UNKNOWN)
			status = op;
	}
	if (status != NULL && (status->wanted == PROJECT_READY || status->wanted == PROJECT_ACTIVE))
		esim_depend_on(element, status);
	if (last != NULL)
		esim_wait_for(element, last);
}

/*
 * The operations ahead in the lane, and those of the profile in other lanes,
 * in the order in which they were accepted.
 */
static const ProjectOperation *
merge_operations(const EsimLane *lane, const EsimScratch *scratch, int *n)
{
	ProjectOperation *ops;
	int			a = 0;

	if (scratch->nahead == 0)
	{
		*n = lane->nops;
		return lane->ops;
	}
	ops = palloc(sizeof(ProjectOperation) * (lane->nops + scratch->nahead));
	*n = 0;
	for (int i = 0; i <= lane->nops; i++)
	{
		for (; a < scratch->nahead; a++)
		{
			if (i < lane->nops && scratch->ahead[a].op.seq > lane->ops[i].seq)
				break;
			if (scratch->ahead[a].op.lane != lane->number)
				ops[(*n)++] = scratch->ahead[a].op;
		}
		if (i < lane->nops)
			ops[(*n)++] = lane->ops[i];
	}
	return ops;
}

/* Kinds that need the profile on the eUICC. */
static void
decide_on_euicc(EsimRequest *request, EsimElement *element, EsimScratch *scratch)
{
	EsimLane   *lane = scratch->lane;
	ProjectQuestion question;
	ProjectAnswer answer;
	RspState	now = RSP_STATE_NONE;
	const ProjectOperation *ops;
	int			nops;

	memset(&question, 0, sizeof(question));
	question.kind = request->kind->kind;
	question.driver = element->choice->driver;

	if (request->kind->of_profile)
	{
		if (!scratch->target_found)
		{
			element->failure = esim_unknown_profile(element);
			return;
		}
		question.profile = scratch->target.id;

		/* on another eUICC is not on this one */
		now = scratch->target.state;
		if (esim_on_euicc(now) &&
			!(scratch->target_has_eid && esim_same_eid(&scratch->target_eid, &lane->eid)))
			now = RSP_STATE_NONE;
		if (esim_lane_profile(lane, &element->profile->id) == NULL)
		{
			ProjectProfile profile = scratch->target;

			profile.state = now;
			esim_lane_add_profile(lane, &profile);
		}
	}

	ops = merge_operations(lane, scratch, &nops);
	lane->work = esim_grow(lane->work, &lane->work_size, lane->nprofiles + nops + 1,
						   sizeof(ProjectProfile));
	project(lane->profiles, lane->nprofiles, ops, nops, &question, lane->work, &answer);
	if (!answer.allowed)
	{
		esim_refuse(request, element, &question, now, answer.state);
		return;
	}
	if (answer.depends_on >= 0)
		esim_depend_on(element, &ops[answer.depends_on]);
	if (question.kind == RSP_ENABLE)
		follow_subscription(element, scratch);

	if (esim_lockout_guard != ESIM_LOCKOUT_OFF && answer.only_enabled &&
		(question.kind == RSP_DISABLE || question.kind == RSP_DELETE))
	{
		if (esim_lockout_guard == ESIM_LOCKOUT_ERROR)
			element->failure =
				esim_failure("INCOMPATIBLE_STATE",
							 psprintf("cannot %s profile \"%s\"", request->kind->verb,
									  esim_profile_label(element)),
							 pstrdup("It is the only enabled profile of its eUICC, which would lose its connection."),
							 pstrdup("Enable another profile first, or set esim.lockout_guard to warning."));
		else
			element->lockout = true;
	}
}

/* Operations on the profile that are younger than those ahead of it join them. */
static void
take_queued(const ProjectOperation *ops, int nops, const EsimLane *lane, EsimScratch *scratch)
{
	for (int i = 0; i < nops; i++)
	{
		EsimAhead  *ahead;

		if (!ops[i].has_profile ||
			memcmp(ops[i].profile, scratch->target.id, UUID_LEN) != 0 ||
			(scratch->nahead > 0 && ops[i].seq <= scratch->ahead[scratch->nahead - 1].op.seq))
			continue;
		scratch->ahead = esim_grow(scratch->ahead, &scratch->ahead_size, scratch->nahead + 1,
								   sizeof(EsimAhead));
		ahead = &scratch->ahead[scratch->nahead++];
		ahead->op = ops[i];
		ahead->has_eid = true;
		ahead->eid = lane->eid;
	}
}

/*
 * A download looks at the profile wherever it is: at what is ahead for it in
 * other lanes too.
 */
static void
decide_download(EsimRequest *request, EsimElement *element, EsimScratch *scratch)
{
	EsimLane   *lane = scratch->lane;
	EsimProfile *profile = element->profile;
	ProjectQuestion question;
	ProjectAnswer answer;
	ProjectOperation *ops;
	ProjectProfile *work;
	const Eid  *bound;
	bool		foreign;
	int			nops = 0;

	if (!scratch->target_found)
	{
		element->failure = esim_unknown_profile(element);
		return;
	}
	memset(&question, 0, sizeof(question));
	question.kind = RSP_DOWNLOAD;
	question.driver = element->choice->driver;
	question.profile = scratch->target.id;
	question.redownload = element->redownload;

	/* what was queued for it in this very call is in the lane's lists only */
	take_queued(lane->ops, lane->nops, lane, scratch);
	take_queued(lane->outside, lane->noutside, lane, scratch);

	bound = scratch->target_has_eid ? &scratch->target_eid :
		profile->has_reserved_eid ? &profile->reserved_eid : NULL;
	ops = palloc(sizeof(ProjectOperation) * Max(scratch->nahead, 1));
	for (int i = 0; i < scratch->nahead; i++)
	{
		ops[nops++] = scratch->ahead[i].op;
		if (scratch->ahead[i].op.kind == RSP_DOWNLOAD && scratch->ahead[i].has_eid)
			bound = &scratch->ahead[i].eid;
	}
	work = palloc(sizeof(ProjectProfile) * (nops + 2));
	project(&scratch->target, 1, ops, nops, &question, work, &answer);

	foreign = bound != NULL && !esim_same_eid(bound, &lane->eid);
	if (foreign &&
		(answer.state == RSP_STATE_DOWNLOADED || esim_on_euicc(answer.state) ||
		 answer.state == RSP_STATE_RESERVING || answer.state == RSP_STATE_RESERVED ||
		 answer.state == RSP_STATE_RELEASED))
	{
		element->failure =
			esim_failure("IDENTIFIER_MISMATCH",
						 psprintf("profile \"%s\" is bound to another eUICC", esim_profile_label(element)),
						 nops > 0 ?
						 pstrdup("It is there, reserved for it, or on its way to it.") :
						 pstrdup("It is there, or reserved for it."),
						 pstrdup("Use another profile, or delete it there first."));
		return;
	}
	if (answer.state == RSP_STATE_DELETED && answer.allowed &&
		!esim_redownload_anywhere(element) && (bound == NULL || foreign))
	{
		element->failure =
			esim_failure("IDENTIFIER_MISMATCH",
						 psprintf("profile \"%s\" may not be downloaded to another eUICC",
								  esim_profile_label(element)),
						 pstrdup("It was deleted, and may be downloaded again only to the eUICC on which it was."),
						 pstrdup("Where the SM-DP+ allows it, set redownload to ANY in its row or in the server's options."));
		return;
	}
	if (!answer.allowed)
	{
		esim_refuse(request, element, &question, scratch->target.state, answer.state);
		if (answer.state == RSP_STATE_DELETED)
			element->failure->hint =
				pstrdup("Its redownload setting is NEVER: order another profile.");
		return;
	}
	if (answer.depends_on >= 0)
		esim_depend_on(element, &ops[answer.depends_on]);

	/* the SM-DP+ must have it ready: what prepares it comes first */
	for (int i = nops - 1; i >= 0; i--)
	{
		if (ops[i].kind != RSP_RESERVE && ops[i].kind != RSP_RELEASE)
			continue;
		esim_depend_on(element, &ops[i]);
		break;
	}
	if (request->activate)
		follow_subscription(element, scratch);
	pfree(ops);
	pfree(work);
}

/*
 * Whether the element may be queued: else it has a failure.  What it depends
 * on is noted in it.
 */
void
esim_decide(EsimRequest *request, EsimElement *element, EsimScratch *scratch)
{
	if (request->kind->lane != ESIM_LANE_EUICC)
		esim_decide_network(request, element, scratch->lane);
	else if (request->kind->adds_profile)
		decide_download(request, element, scratch);
	else
		decide_on_euicc(request, element, scratch);
}
