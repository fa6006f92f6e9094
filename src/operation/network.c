/*-------------------------------------------------------------------------
 *
 * network.c
 *	  Operations in the network: locking their lanes, reading what is there and
 *	  ahead, and their preconditions.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "operation/enqueue.h"

/* an open creation of the fleet that a subscription is assigned to */
static EsimStatement find_creation = {
	"SELECT q.operation, q.seq, q.lane FROM @esim_fleet f JOIN @esim_pending q ON q.lane = f.lane"
	" WHERE f.owner = $1 AND f.server = $2 AND f.name = $3 AND q.kind = 'fleet-create'"
	" ORDER BY q.seq DESC LIMIT 1",
	3, {"regrole", "text", "text"}
};

/* ------------------------------------------------------------------------
 * Lanes
 * ------------------------------------------------------------------------ */

/* Lock the lanes of the elements of a chunk, which are sorted by them. */
void
esim_lock_network_lanes(EsimRequest *request, EsimElement **chunk, int n)
{
	Datum	   *lanes = palloc(sizeof(Datum) * n);
	int			nlanes = 0;

	for (int i = 0; i < n; i++)
	{
		if (i > 0 && chunk[i]->lane == chunk[i - 1]->lane)
			continue;
		/* nobody else sees a row that was just made */
		if (!chunk[i]->fresh)
			lanes[nlanes++] = Int64GetDatum(chunk[i]->lane);
	}
	if (nlanes > 0)
		esim_lock_profile_lanes(lanes, nlanes);
	pfree(lanes);
}

static void
read_profile_lane(EsimRequest *request, EsimScan *by_id, EsimAheadReader *reader,
				  const EsimElement *element, EsimLane *lane)
{
	EsimAhead	ahead;
	EsimRow		row;
	bool		waiting;

	esim_scan_search(by_id, UUIDPGetDatum(&element->profile->id));
	if (esim_scan_next(by_id, &row))
		lane->profile = esim_profile_of_row(&row);
	esim_ahead_search(reader, &element->profile->id);
	while (esim_ahead_next(reader, &ahead, &waiting))
	{
		/*
		 * A download that waits for the device is taken back by cancelling the
		 * order, and in no other way.
		 */
		if (waiting && ahead.op.kind == RSP_DOWNLOAD && request->kind->kind == RSP_CANCEL_ORDER)
			continue;
		esim_lane_add_operation(lane, &ahead.op);
	}
}

/*
 * Read, in one snapshot, the profiles and their open operations, or what is
 * ahead in the lanes of fleets and syncs.  The lanes are locked.
 */
void
esim_read_network_lanes(EsimRequest *request, EsimElement **chunk, int n, EsimScratch *scratch)
{
	bool		of_profile = request->kind->of_profile;
	EsimLane   *lanes = palloc0(sizeof(EsimLane) * n);
	Snapshot	snapshot = esim_latest_snapshot();
	EsimScan	by_id;
	EsimScan	pending;
	EsimAheadReader ahead;
	EsimRow		row;
	int			nlanes = 0;

	esim_scan_open(&by_id, &esim_profile_by_id, snapshot);
	esim_scan_open(&pending, &esim_pending_by_lane, snapshot);
	esim_ahead_open(&ahead, snapshot);
	for (int i = 0; i < n; i++)
	{
		if (nlanes == 0 || lanes[nlanes - 1].number != chunk[i]->lane)
		{
			EsimLane   *lane = &lanes[nlanes++];

			lane->number = chunk[i]->lane;
			if (of_profile)
				read_profile_lane(request, &by_id, &ahead, chunk[i], lane);
			else
			{
				esim_scan_search(&pending, Int64GetDatum(lane->number));
				while (esim_scan_next(&pending, &row))
				{
					ProjectOperation op;

					esim_operation_of_row(&row, &op);
					op.lane = lane->number;
					esim_lane_add_operation(lane, &op);
				}
			}
		}
		scratch[i].lane = &lanes[nlanes - 1];
	}
	esim_ahead_close(&ahead);
	esim_scan_close(&pending);
	esim_scan_close(&by_id);
	UnregisterSnapshot(snapshot);
}

/* ------------------------------------------------------------------------
 * Preconditions
 * ------------------------------------------------------------------------ */

/* reserve, release, cancel-order */
static void
decide_order(EsimRequest *request, EsimElement *element, EsimLane *lane)
{
	ProjectQuestion question;
	ProjectAnswer answer;
	ProjectProfile present;

	memset(&question, 0, sizeof(question));
	question.kind = request->kind->kind;
	question.profile = element->profile->id.data;
	memset(&present, 0, sizeof(present));
	memcpy(present.id, element->profile->id.data, UUID_LEN);
	present.state = element->profile->state;
	lane->work = esim_grow(lane->work, &lane->work_size, lane->nops + 2, sizeof(ProjectProfile));
	project(&present, 1, lane->ops, lane->nops, &question, lane->work, &answer);
	if (!answer.allowed)
		esim_refuse(request, element, &question, present.state, answer.state);
	else if (answer.depends_on >= 0)
		esim_depend_on(element, &lane->ops[answer.depends_on]);
}

static EsimFailure *
refuse_change(EsimRequest *request, EsimElement *element, ProjectRefusal refusal,
			  const ProjectChange *change, const ProjectSim *sim)
{
	const char *verb = request->kind->verb;
	char	   *label = esim_profile_label(element);
	const char *status = project_subscription_name(sim->status);
	const char *wanted = project_subscription_name(change->wanted);
	bool		same = sim->status == element->profile->subscription;

	switch (refusal)
	{
		case PROJECT_RESERVING:
			return esim_failure("INCOMPATIBLE_STATE",
								psprintf("cannot %s profile \"%s\" in state %s", verb, label,
										 rsp_state_name(sim->state)),
								pstrdup("It is not reserved, and no operation ahead reserves it."),
								pstrdup("Call esim_reserve() with the parameter profile first."));
		case PROJECT_NOT_KNOWN:
			return esim_failure("MISSING_IDENTIFIER",
								psprintf("cannot %s profile \"%s\" without its ICCID", verb, label),
								pstrdup("Neither its ICCID nor its subscription is known."),
								pstrdup("Reserve or download it first, or call esim_sync()."));
		case PROJECT_IS_SCHEDULED:
			return esim_failure("INCOMPATIBLE_STATE",
								psprintf("cannot %s profile \"%s\" while a change of it is scheduled",
										 verb, label),
								pstrdup("The status of its subscription is SCHEDULED."),
								pstrdup("Wait until the change has come; esim_sync() asks for it."));
		case PROJECT_NO_FLEET:
			return esim_failure("INCOMPATIBLE_STATE",
								psprintf("cannot set the subscription of profile \"%s\" to %s without a fleet",
										 label, wanted),
								pstrdup("It is in no fleet, and no operation ahead assigns one."),
								pstrdup("Give the parameter fleet, or call esim_assign_fleet() first."));
		default:
			break;
	}
	if (change->wanted == PROJECT_NEW || change->wanted == PROJECT_SCHEDULED)
		return esim_failure("INVALID_ARGUMENT",
							psprintf("subscription status %s cannot be set", wanted),
							pstrdup("NEW and SCHEDULED are only ever reported."),
							pstrdup("Use READY, ACTIVE or INACTIVE."));
	return esim_failure("INCOMPATIBLE_STATE",
						psprintf("cannot set the subscription of profile \"%s\" from %s to %s",
								 label, status, wanted),
						same ? psprintf("Its status is %s.", status) :
						pstrdup("That is its status when the operations ahead of it have succeeded."),
						change->wanted == PROJECT_READY ? pstrdup("It must be NEW.") :
						pstrdup("It must be READY or ACTIVE."));
}

/* The fleet may be being created: the elements of a call name the same one. */
static void
follow_creation(EsimRequest *request, EsimElement *element)
{
	ProjectOperation *creation = &request->creation;
	Datum		values[3];
	EsimRow		row;

	if (request->creation_choice != element->choice || request->creation_owner != element->owner)
	{
		request->creation_choice = element->choice;
		request->creation_owner = element->owner;
		memset(creation, 0, sizeof(*creation));
		values[0] = ObjectIdGetDatum(element->owner);
		values[1] = PointerGetDatum(cstring_to_text(element->choice->server->rsp.name));
		values[2] = PointerGetDatum(cstring_to_text(request->fleet));
		esim_execute_latest(&find_creation, values, NULL, 1);
		if (SPI_processed > 0)
		{
			esim_row(&row, SPI_tuptable, 0);
			memcpy(creation->id, DatumGetUUIDP(row.value[0])->data, UUID_LEN);
			creation->kind = RSP_FLEET_CREATE;
			creation->seq = DatumGetInt64(row.value[1]);
			creation->lane = DatumGetInt64(row.value[2]);
		}
		SPI_freetuptable(SPI_tuptable);
	}
	if (creation->seq > 0)
		esim_depend_on(element, creation);
}

/* set-subscription, assign-fleet */
static void
decide_change(EsimRequest *request, EsimElement *element, EsimLane *lane)
{
	EsimProfile *profile = element->profile;
	ProjectChange change;
	ProjectSim	sim;
	ProjectRefusal refusal;
	int			depends_on;

	memset(&change, 0, sizeof(change));
	if (request->subscription != NULL)
		(void) project_subscription_from_name(request->subscription, &change.wanted);
	change.fleet = request->fleet != NULL;
	sim.state = profile->state;
	sim.known = profile->has_iccid || profile->has_sim;
	sim.status = profile->subscription;
	sim.fleet = profile->has_fleet;
	refusal = project_sim(&sim, lane->ops, lane->nops, &change, &depends_on);
	if (refusal != PROJECT_ALLOWED)
	{
		element->failure = refuse_change(request, element, refusal, &change, &sim);
		return;
	}
	if (depends_on >= 0)
		esim_depend_on(element, &lane->ops[depends_on]);

	if (request->fleet != NULL)
		follow_creation(request, element);
}

/* As esim_decide(), for kinds whose lane is not an eUICC's. */
void
esim_decide_network(EsimRequest *request, EsimElement *element, EsimLane *lane)
{
	if (request->kind->lane == ESIM_LANE_FLEET)
		esim_decide_fleet(request, element, lane);
	if (!request->kind->of_profile)
		return;

	/* as it is under the lock */
	if (lane->profile == NULL ||
		!esim_request_may_act_for(request, lane->profile->owner, lane->profile->owner_name))
	{
		element->failure = esim_unknown_profile(element);
		return;
	}
	element->profile = lane->profile;
	element->owner = lane->profile->owner;
	element->owner_name = lane->profile->owner_name;
	if (request->kind->kind == RSP_SET_SUBSCRIPTION || request->kind->kind == RSP_ASSIGN_FLEET)
		decide_change(request, element, lane);
	else
		decide_order(request, element, lane);
}
