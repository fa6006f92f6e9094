/*-------------------------------------------------------------------------
 *
 * enqueue.c
 *	  Queueing operations: the way of a request.
 *
 * One call or a bulk call go the same way; they differ in how the tables are
 * reached.  What waits comes in one order for everybody: lanes of profiles and
 * other lanes in the network before lanes of eUICCs, each in ascending order.  Reads under a lane's lock
 * use the latest snapshot, so that under REPEATABLE READ and SERIALIZABLE too
 * the operations ahead are seen.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "access/xact.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "audit/audit.h"
#include "operation/enqueue.h"

bool
esim_is_open(const EsimElement *element)
{
	return element->failure == NULL && !element->replayed;
}

/* ------------------------------------------------------------------------
 * What can be known without a lock
 * ------------------------------------------------------------------------ */

/*
 * Where a download's code comes from: the call, the profile's row, the
 * server's SM-DP+ address.
 */
static void
choose_code(EsimElement *element)
{
	const EsimProfile *profile = element->profile;
	const char *address = NULL;
	const char *matching_id = "";
	ActivationCode code;
	ActivationCodeError error;

	if (element->activation_code != NULL)
		element->used_code = element->activation_code;
	else if (profile != NULL && profile->activation_code != NULL)
		element->used_code = profile->activation_code;
	if (element->used_code != NULL)
		return;
	/* the device finds it by itself; or the reservation ahead will tell it */
	if (element->by_device || (profile != NULL && profile->state == RSP_STATE_RESERVING))
		return;

	if (profile != NULL && profile->smdp_address != NULL)
	{
		address = profile->smdp_address;
		if (profile->matching_id != NULL)
			matching_id = profile->matching_id;
	}
	else
		address = element->choice->server->rsp.smdp_address;

	if (address == NULL)
		element->failure =
			esim_failure("MISSING_IDENTIFIER",
						 pstrdup("there is no activation code for the download"),
						 pstrdup("Neither the call nor the profile's row nor the server has one."),
						 pstrdup("Give the parameter activation_code, set activation_code in the profile's row of esim_profile, or set the server's option smdp_address."));
	else if (!activation_code_build(address, strlen(address), matching_id, strlen(matching_id),
									"", 0, false, &code, &error))
		element->failure =
			esim_failure("INVALID_ARGUMENT",
						 pstrdup("there is no valid activation code for the download"),
						 pstrdup("The SM-DP+ address and matching ID on record do not make one."),
						 pstrdup("Give the parameter activation_code."));
	else
		element->used_code = (struct varlena *) DatumGetPointer(activation_code_datum(&code));
}

bool
esim_redownload_allowed(const EsimElement *element)
{
	const char *redownload = element->profile->redownload;

	if (redownload == NULL)
		redownload = element->choice->server->redownload;
	if (redownload == NULL)
		redownload = "SAME_EID";
	if (strcmp(redownload, "ANY") == 0)
		return true;
	if (strcmp(redownload, "NEVER") == 0)
		return false;
	/* it is refused as a mismatch later if it was on another one */
	return true;
}

bool
esim_redownload_anywhere(const EsimElement *element)
{
	const char *redownload = element->profile->redownload;

	if (redownload == NULL)
		redownload = element->choice->server->redownload;
	return redownload != NULL && strcmp(redownload, "ANY") == 0;
}

/* Ask the driver what can be known without the device. */
static void
ask_driver(EsimRequest *request, EsimElement *element)
{
	const EsimChoice *choice = element->choice;
	const EsimKind *kind = request->kind;
	const EsimProfile *profile = element->profile;
	RspOperation op;
	RspError	error;
	char		eid[EID_TEXT_SIZE];
	char		reserved_eid[EID_TEXT_SIZE];
	char		iccid[ICCID_TEXT_SIZE];

	if (choice->driver->check == NULL || element->by_refresh)
		return;

	/* the download ahead will tell the ICCID; the driver asks for it by then */
	if (kind->lane == ESIM_LANE_EUICC && kind->of_profile && !kind->adds_profile &&
		!profile->has_iccid)
		return;
	memset(&op, 0, sizeof(op));
	memset(&error, 0, sizeof(error));
	op.kind = kind->kind;
	op.correlator = request->correlator;
	if (element->device != NULL)
	{
		eid_format(&element->device->eid, eid);
		op.eid = eid;
	}
	if (element->has_iccid || (profile != NULL && profile->has_iccid))
	{
		iccid_format(element->has_iccid ? element->iccid : profile->iccid, iccid);
		op.iccid = iccid;
	}
	if (element->used_code != NULL)
		op.activation_code = text_to_cstring((text *) element->used_code);
	if (element->confirmation_code != NULL)
		op.confirmation_code = text_to_cstring(element->confirmation_code);
	op.activate_on_download = request->activate;
	op.rollback = request->rollback;
	op.generate_matching_id = request->generate_matching_id;
	op.profile_type = request->profile_type;
	op.matching_id = element->matching_id;
	op.smds_address = request->smds_address;
	op.release = request->release;
	op.final_status = request->final_status;
	op.subscription = request->subscription;
	op.fleet = kind->lane == ESIM_LANE_FLEET ? element->name : request->fleet;
	op.settings = request->settings_json ? request->settings_json : request->options_json;
	op.options = request->options_json;
	op.memo = request->options_json;
	if (profile != NULL)
	{
		op.state = profile->state;
		op.rsp_id = profile->rsp_id;
		op.profile_matching_id = profile->matching_id;
		op.profile_smdp_address = profile->smdp_address;
		if (profile->has_reserved_eid && kind->kind != RSP_RESERVE)
		{
			eid_format(&profile->reserved_eid, reserved_eid);
			op.reserved_eid = reserved_eid;
		}
	}
	if (choice->driver->check(&choice->server->rsp, &op, &error))
		return;

	/* a download behind the profile's reservation, which will tell what is missing */
	if (kind->kind == RSP_DOWNLOAD && op.state == RSP_STATE_RESERVING && error.code != NULL &&
		strcmp(error.code, "MISSING_IDENTIFIER") == 0)
		return;
	element->failure =
		esim_failure(error.code ? error.code : "INVALID_ARGUMENT",
					 pstrdup(error.message),
					 error.detail[0] ? pstrdup(error.detail) :
					 psprintf("The protocol of server \"%s\" does not allow it.",
							  choice->server->rsp.name),
					 error.hint[0] ? pstrdup(error.hint) : NULL);
}

/* The server that the rows name; optional: it counts only if it can do it. */
static const char *
asked_server(const EsimRequest *request, const EsimElement *element, bool *optional)
{
	const EsimProfile *profile = element->profile;

	*optional = false;
	switch (request->kind->lane)
	{
		case ESIM_LANE_EUICC:
			return element->device ? element->device->server : NULL;
		case ESIM_LANE_PROFILE:
			if (request->kind->kind == RSP_RESERVE &&
				(profile == NULL || profile->server == NULL) && element->device != NULL)
			{
				*optional = true;
				return element->device->server;
			}
			if (profile == NULL)
				return NULL;
			if (request->kind->kind != RSP_SET_SUBSCRIPTION &&
				request->kind->kind != RSP_ASSIGN_FLEET)
				return profile->server;
			if (profile->subscription_server != NULL)
				return profile->subscription_server;
			*optional = true;
			return profile->server;
		case ESIM_LANE_FLEET:
			break;
		case ESIM_LANE_SYNC:
			return element->name;
	}
	return NULL;
}

static void
prepare_element(EsimRequest *request, EsimElement *element)
{
	const EsimKind *kind = request->kind;
	bool		network = kind->lane != ESIM_LANE_EUICC;
	TimestampTz begin;
	const char *asked;
	bool		optional;
	const char *note;

	if (element->device != NULL && element->device->retired)
	{
		element->failure = esim_retired_device(&element->device->eid);
		return;
	}
	if (element->device == NULL && kind->lane == ESIM_LANE_EUICC)
	{
		/* not on an eUICC, nor on the way to one */
		element->failure =
			esim_failure("INCOMPATIBLE_STATE",
						 psprintf("cannot %s profile \"%s\"", kind->verb, esim_profile_label(element)),
						 psprintf("Its state is %s, it is on no eUICC.",
								  rsp_state_name(element->profile->state)),
						 pstrdup("Download it first."));
		return;
	}

	asked = asked_server(request, element, &optional);
	element->choice = esim_choose_server(request, asked, optional);
	if (element->choice->failure != NULL)
	{
		element->failure = element->choice->failure;
		return;
	}
	if (kind->kind == RSP_SYNC)
		element->by_refresh = !element->choice->driver->supports(element->choice->server->rsp.dialect,
																 RSP_SYNC, &note);
	if (kind->activation_code >= 0)
	{
		/* a server that does not reach the eUICC: that waits for the device in a
		 * lane of its own, and holds up neither eUICC nor profile */
		element->by_device = !element->choice->driver->supports(element->choice->server->rsp.dialect,
																RSP_ENABLE, &note);
		network = element->by_device;
		choose_code(element);
		if (element->failure != NULL)
			return;
		element->redownload = element->profile != NULL && esim_redownload_allowed(element);
	}
	ask_driver(request, element);
	if (element->failure != NULL)
		return;

	if (element->by_device)
		element->lane = nextval_internal(esim_relation_oid("esim_profile_lane_seq"), false);
	else if (element->device != NULL && kind->lane == ESIM_LANE_EUICC)
		element->lane = element->device->lane;

	if (request->has_expires_at)
		element->expires_at = request->expires_at;
	else
	{
		EsimServer *server = element->choice->server;

		begin = request->has_not_before ? Max(request->now, request->not_before) : request->now;
		element->expires_at =
			begin + (network ? server->default_network_expiry_ms : server->default_expiry_ms) *
			INT64CONST(1000);
		if (element->expires_at < begin || !IS_VALID_TIMESTAMP(element->expires_at))
			element->expires_at = END_TIMESTAMP - 1;
	}
}

/* The first element in the caller's order that failed is raised. */
static void
raise_first(EsimRequest *request)
{
	if (request->report)
		return;
	for (int i = 0; i < request->nelements; i++)
	{
		if (request->elements[i].failure != NULL)
			esim_failure_raise(request->elements[i].failure,
							   request->nelements > 1 ? request->elements[i].ordinal : 0);
	}
}

/* ------------------------------------------------------------------------
 * All of it
 * ------------------------------------------------------------------------ */

static int
compare_euicc_order(const void *a, const void *b)
{
	const EsimElement *x = *(EsimElement *const *) a;
	const EsimElement *y = *(EsimElement *const *) b;
	int			cmp = eid_compare(&x->device->eid, &y->device->eid);

	return cmp != 0 ? cmp : x->ordinal - y->ordinal;
}

static int
compare_lane_order(const void *a, const void *b)
{
	const EsimElement *x = *(EsimElement *const *) a;
	const EsimElement *y = *(EsimElement *const *) b;

	if (x->lane != y->lane)
		return x->lane < y->lane ? -1 : 1;
	return x->ordinal - y->ordinal;
}

/* Elements that are open, in place; gives their number. */
static int
keep_open(EsimElement **list, int n)
{
	int			count = 0;

	for (int i = 0; i < n; i++)
	{
		if (esim_is_open(list[i]))
			list[count++] = list[i];
	}
	return count;
}

/* how many operations are ahead in the element's lane */
static int
count_ahead(const EsimRequest *request, const EsimElement *element, const EsimLane *lane)
{
	int			n = 0;

	if (element->by_device)
		return 0;
	if (request->kind->lane != ESIM_LANE_PROFILE)
		return lane->nops;
	for (int i = 0; i < lane->nops; i++)
		n += lane->ops[i].lane == element->lane;
	return n;
}

/* An accepted element becomes an operation of its lane. */
static void
accept(EsimRequest *request, EsimElement *element, EsimLane *lane)
{
	static const char *const of_what[] = {
		[ESIM_LANE_EUICC] = "of its eUICC",
		[ESIM_LANE_PROFILE] = "of its profile",
		[ESIM_LANE_FLEET] = "of its fleet",
		[ESIM_LANE_SYNC] = "with its server"
	};
	ProjectOperation op;
	bool		early = request->has_not_before && request->not_before > request->now;
	int			ahead = count_ahead(request, element, lane);

	element->seq = nextval_internal(esim_relation_oid("esim_operation_seq"), false);
	if (ahead > 0)
	{
		element->state = 'N';
		element->phase_reason = psprintf("behind %d operation%s %s", ahead, ahead == 1 ? "" : "s",
										 of_what[request->kind->lane]);
	}
	else if (element->nwaits_for > 0)
		element->state = 'D';
	else if (early)
	{
		element->state = 'W';
		element->phase_reason = "not_before has not come";
	}
	else
		element->state = 'R';

	memset(&op, 0, sizeof(op));
	memcpy(op.id, element->id.data, UUID_LEN);
	op.seq = element->seq;
	op.lane = element->lane;
	op.kind = request->kind->kind;
	op.flag = op.kind == RSP_RESERVE ? request->release : request->activate;
	op.by_device = element->by_device;
	if (request->subscription != NULL)
		(void) project_subscription_from_name(request->subscription, &op.wanted);
	op.fleet = request->fleet != NULL;
	if (request->kind->of_profile)
	{
		op.has_profile = true;
		memcpy(op.profile, element->profile->id.data, UUID_LEN);
	}
	if (element->by_device)
		esim_lane_add_outside(lane, &op);
	else
		esim_lane_add_operation(lane, &op);
}

/*
 * A chunk is a number of elements in the order of lanes.  Lanes stay locked to
 * the end of the transaction, so that a lane that goes on in the next chunk is
 * read again there, with what was queued by this one.
 */
static void
enqueue_chunk(EsimRequest *request, EsimElement **chunk, int n)
{
	EsimScratch *scratch;
	bool		network = request->kind->lane != ESIM_LANE_EUICC;
	int			accepted = 0;

	if (network)
		esim_lock_network_lanes(request, chunk, n);
	else
		esim_lock_lanes(request, chunk, n);
	raise_first(request);
	for (int i = 0; i < n; i++)
	{
		/* the same call may have come in while we waited */
		if (esim_is_open(chunk[i]) && chunk[i]->idempotency_key != NULL)
			esim_replay(chunk[i]);
	}
	raise_first(request);
	n = keep_open(chunk, n);
	if (n == 0)
		return;

	scratch = palloc0(sizeof(EsimScratch) * n);
	if (network)
		esim_read_network_lanes(request, chunk, n, scratch);
	else
		esim_read_lanes(request, chunk, n, scratch);
	for (int i = 0; i < n; i++)
	{
		EsimElement *element = chunk[i];

		esim_decide(request, element, &scratch[i]);
		/* taking an order back makes room */
		if (element->failure == NULL && request->kind->kind != RSP_CANCEL_ORDER)
			esim_check_quota(element, accepted);
		if (element->failure == NULL)
		{
			esim_uuid7(element->id.data);
			if (element->idempotency_key == NULL || esim_claim_key(element))
			{
				accept(request, element, scratch[i].lane);
				accepted++;
			}
		}
		if (element->failure != NULL && !request->report)
			raise_first(request);
	}
	n = keep_open(chunk, n);
	if (n == 0)
		return;
	if (request->kind->kind == RSP_RESERVE)
		esim_reserve_profiles(request, chunk, n);
	esim_insert_elements(request, chunk, n);
}

/* One row of each element: what was asked for, and what came of it. */
static void
audit(EsimRequest *request)
{
	int			size = Min(request->nelements, ESIM_CHUNK);
	EsimAuditEntry *entries = palloc(sizeof(EsimAuditEntry) * Max(size, 1));

	for (int from = 0; from < request->nelements; from += size)
	{
		int			n = Min(size, request->nelements - from);

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < n; i++)
		{
			EsimElement *element = &request->elements[from + i];
			EsimProfile *profile = request->kind->of_profile ? element->profile : NULL;
			EsimAuditEntry *entry = &entries[i];

			entry->eid = element->device ? &element->device->eid :
				element->has_eid ? &element->eid :
				profile != NULL && profile->has_eid ? &profile->eid : NULL;
			entry->iccid = element->has_iccid ? element->iccid :
				profile != NULL && profile->has_iccid ? profile->iccid : ICCID_INVALID;
			entry->operation = element->failure == NULL ? &element->id :
				element->has_retry_of ? &element->retry_of : NULL;
			entry->outcome = element->failure ? element->failure->code :
				element->replayed ? ESIM_AUDIT_REPEATED : ESIM_AUDIT_ACCEPTED;
		}
		esim_audit(request->caller, request->function, entries, n);
	}
	pfree(entries);
}

void
esim_enqueue(EsimRequest *request)
{
	bool		network = request->kind->lane != ESIM_LANE_EUICC;
	EsimElement **list;
	int			n;

	if (XactReadOnly)
		PreventCommandIfReadOnly(psprintf("%s()", request->function));
	esim_find_rows(request);
	esim_replay_all(request);
	raise_first(request);

	for (int i = 0; i < request->nelements; i++)
	{
		if (esim_is_open(&request->elements[i]))
			prepare_element(request, &request->elements[i]);
	}
	raise_first(request);
	if (request->kind->adds_profile)
		esim_prepare_profiles(request);
	else if (!request->kind->of_profile && network)
		esim_prepare_accounts(request);
	raise_first(request);

	list = MemoryContextAllocHuge(CurrentMemoryContext,
								  sizeof(EsimElement *) * Max(request->nelements, 1));
	n = 0;
	for (int i = 0; i < request->nelements; i++)
	{
		EsimElement *element = &request->elements[i];

		if (!esim_is_open(element) || element->by_refresh)
			continue;
		if (request->kind->lane == ESIM_LANE_PROFILE)
			element->lane = element->profile->lane;
		list[n++] = element;
	}
	if (n > 1)
		qsort(list, n, sizeof(EsimElement *), network ? compare_lane_order : compare_euicc_order);
	for (int from = 0; from < n; from += ESIM_CHUNK)
	{
		CHECK_FOR_INTERRUPTS();
		enqueue_chunk(request, list + from, Min(ESIM_CHUNK, n - from));
	}
	if (request->kind->adds_profile)
		esim_remove_profiles(request);
	else if (request->kind->lane == ESIM_LANE_FLEET)
		esim_remove_fleets(request);
	else if (request->kind->lane == ESIM_LANE_SYNC)
	{
		for (int i = 0; i < request->nelements; i++)
		{
			if (esim_is_open(&request->elements[i]) && request->elements[i].by_refresh)
				esim_sync_by_refresh(request, &request->elements[i]);
		}
		raise_first(request);
	}
	audit(request);
}
