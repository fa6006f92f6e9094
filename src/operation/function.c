/*-------------------------------------------------------------------------
 *
 * function.c
 *	  The SQL functions that make operations: arguments in, identifiers out.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "event/event.h"
#include "operation/enqueue.h"
#include "operation/result.h"

#define MAX_ELEMENTS	1000000
#define MAX_KEY			256
#define MAX_CODE		255
#define MAX_OPTIONS		16384
#define MAX_CREDENTIAL	8192
#define MAX_NAME		200		/* of a fleet or profile type */
#define MAX_HOST		255

/* positions in the common tail, behind the own parameters */
enum
{
	TAIL_PROFILE, TAIL_SERVER, TAIL_CORRELATOR, TAIL_SINK, TAIL_SINK_CREDENTIAL, TAIL_CALLBACK_URL,
	TAIL_CALLBACK_METHOD, TAIL_PRIORITY, TAIL_NOT_BEFORE, TAIL_EXPIRES_AT, TAIL_IDEMPOTENCY_KEY,
	TAIL_OPTIONS, TAIL_ON_ERROR
};

static bool
has_arg(FunctionCallInfo fcinfo, int n)
{
	return n >= 0 && !PG_ARGISNULL(n);
}

static char *
text_arg(FunctionCallInfo fcinfo, int n, const char *name, int max)
{
	return has_arg(fcinfo, n) ? esim_argument_text(name, PG_GETARG_DATUM(n), max) : NULL;
}

static Jsonb *
empty_object(void)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
}

/* The tail.  The caller's rights are still on. */
static void
take_tail(FunctionCallInfo fcinfo, EsimRequest *request)
{
	const EsimKind *kind = request->kind;
	int			tail = kind->tail;

	request->caller = GetUserId();
	request->now = GetCurrentTimestamp();
	request->server = text_arg(fcinfo, tail + TAIL_SERVER, "server", NAMEDATALEN - 1);
	if (has_arg(fcinfo, tail + TAIL_CORRELATOR))
	{
		request->correlator = TextDatumGetCString(PG_GETARG_DATUM(tail + TAIL_CORRELATOR));
		esim_check_correlator(request->correlator);
	}
	request->sink = text_arg(fcinfo, tail + TAIL_SINK, "sink", 2048);
	if (request->sink != NULL)
		esim_check_sink("sink", request->sink);
	if (has_arg(fcinfo, tail + TAIL_SINK_CREDENTIAL))
	{
		request->sink_credential = PG_GETARG_JSONB_P(tail + TAIL_SINK_CREDENTIAL);
		esim_check_object("sink_credential", request->sink_credential, MAX_CREDENTIAL);
		esim_check_sink_credential(request->sink_credential);
		if (request->sink == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_ESIM_INVALID),
					 errmsg("parameter \"%s\" needs parameter \"%s\"", "sink_credential", "sink"),
					 esim_errdetail("INVALID_ARGUMENT", "A credential without a sink is of no use."),
					 errhint("Give the sink, or leave the credential out.")));
	}
	request->callback_url = text_arg(fcinfo, tail + TAIL_CALLBACK_URL, "callback_url", 2048);
	if (request->callback_url != NULL)
		esim_check_sink("callback_url", request->callback_url);
	request->callback_method = text_arg(fcinfo, tail + TAIL_CALLBACK_METHOD, "callback_method", 16);
	if (request->callback_method == NULL)
		request->callback_method = "GET";
	if (strcmp(request->callback_method, "GET") != 0 &&
		strcmp(request->callback_method, "POST") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_INVALID),
				 errmsg("invalid callback method \"%s\"", request->callback_method),
				 esim_errdetail("INVALID_ARGUMENT", "It is neither GET nor POST."),
				 errhint("Use GET or POST.")));
	if (has_arg(fcinfo, tail + TAIL_PRIORITY))
		request->priority = PG_GETARG_INT16(tail + TAIL_PRIORITY);
	request->has_not_before = has_arg(fcinfo, tail + TAIL_NOT_BEFORE);
	if (request->has_not_before)
		request->not_before = PG_GETARG_TIMESTAMPTZ(tail + TAIL_NOT_BEFORE);
	request->has_expires_at = has_arg(fcinfo, tail + TAIL_EXPIRES_AT);
	if (request->has_expires_at)
		request->expires_at = PG_GETARG_TIMESTAMPTZ(tail + TAIL_EXPIRES_AT);
	esim_check_times(request);
	if (has_arg(fcinfo, tail + TAIL_OPTIONS))
	{
		request->options = PG_GETARG_JSONB_P(tail + TAIL_OPTIONS);
		esim_check_object("options", request->options, MAX_OPTIONS);
	}
	else
		request->options = empty_object();
	request->options_json = esim_json_from_jsonb("options", request->options);
	if (has_arg(fcinfo, tail + TAIL_PROFILE) && (kind->lane == ESIM_LANE_FLEET || kind->lane == ESIM_LANE_SYNC))
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_INVALID),
				 errmsg("parameter \"%s\" does not belong to this operation",
						fcinfo->nargs > tail + TAIL_ON_ERROR ? "profiles" : "profile"),
				 esim_errdetail("INVALID_ARGUMENT", "It is not about a profile."),
				 errhint("Leave it out.")));
}

/* The own parameters that are the same for all elements. */
static void
take_parameters(FunctionCallInfo fcinfo, EsimRequest *request)
{
	const EsimKind *kind = request->kind;

	if (has_arg(fcinfo, kind->activate))
		request->activate = PG_GETARG_BOOL(kind->activate);
	request->rollback = kind->rollback < 0 ? false :
		has_arg(fcinfo, kind->rollback) ? PG_GETARG_BOOL(kind->rollback) : true;
	if (has_arg(fcinfo, kind->generate_matching_id))
		request->generate_matching_id = PG_GETARG_BOOL(kind->generate_matching_id);
	request->profile_type = text_arg(fcinfo, kind->profile_type, "profile_type", MAX_NAME);
	request->smds_address = text_arg(fcinfo, kind->smds_address, "smds_address", MAX_HOST);
	request->release = kind->release < 0 ? false :
		has_arg(fcinfo, kind->release) ? PG_GETARG_BOOL(kind->release) : true;
	if (kind->final_status >= 0)
	{
		request->final_status = text_arg(fcinfo, kind->final_status, "final_status", 32);
		if (request->final_status == NULL)
			request->final_status = "Available";
		if (strcmp(request->final_status, "Available") != 0 &&
			strcmp(request->final_status, "Unavailable") != 0)
			ereport(ERROR,
					(errcode(ERRCODE_ESIM_INVALID),
					 errmsg("invalid final status \"%s\"", request->final_status),
					 esim_errdetail("INVALID_ARGUMENT", "It is neither Available nor Unavailable."),
					 errhint("Use Available (back to stock) or Unavailable (never again).")));
	}
	if (has_arg(fcinfo, kind->subscription))
	{
		ProjectSubscription wanted = esim_subscription_of_datum(PG_GETARG_DATUM(kind->subscription));

		request->subscription = pstrdup(project_subscription_name(wanted));
	}
	request->fleet = text_arg(fcinfo, kind->fleet, "fleet", MAX_NAME);
	if (request->fleet != NULL && request->fleet[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_INVALID),
				 errmsg("parameter \"%s\" is empty", "fleet"),
				 esim_errdetail("INVALID_ARGUMENT", "A fleet has a name."),
				 errhint("Give the name of a fleet.")));
	if (kind->settings >= 0)
	{
		request->settings = has_arg(fcinfo, kind->settings) ? PG_GETARG_JSONB_P(kind->settings) :
			empty_object();
		esim_check_object("settings", request->settings, MAX_OPTIONS);
		request->settings_json = esim_json_from_jsonb("settings", request->settings);
	}
}

static char *
key_arg(FunctionCallInfo fcinfo, const EsimKind *kind, int max)
{
	char	   *key = text_arg(fcinfo, kind->tail + TAIL_IDEMPOTENCY_KEY, "idempotency_key", max);

	if (key != NULL && key[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_INVALID),
				 errmsg("parameter \"%s\" is empty", "idempotency_key"),
				 esim_errdetail("INVALID_ARGUMENT", "A key has at least one character."),
				 errhint("Leave it out if repeated calls are to make new operations.")));
	return key;
}

/* A fleet or a server that an element names. */
static EsimFailure *
check_name(const EsimRequest *request, const EsimElement *element)
{
	bool		fleet = request->kind->lane == ESIM_LANE_FLEET;

	if (element->name == NULL || element->name[0] == '\0')
		return esim_failure("INVALID_ARGUMENT",
							fleet ? pstrdup("cannot create a fleet without a name") :
							pstrdup("cannot synchronise without a server"),
							pstrdup("The name is NULL or empty."),
							fleet ? pstrdup("Give the name of the new fleet.") :
							pstrdup("Give the name of a server of esim_rsp."));
	if (!fleet && request->server != NULL && !request->own_server &&
		strcmp(request->server, element->name) != 0)
		return esim_failure("INVALID_ARGUMENT",
							pstrdup("two servers are named"),
							pstrdup("The parameter server names another one."),
							pstrdup("Leave the parameter server out."));
	return NULL;
}

/* An element must say what it is about. */
static EsimFailure *
check_identifiers(const EsimRequest *request, const EsimElement *element)
{
	const EsimKind *kind = request->kind;

	if (kind->lane == ESIM_LANE_FLEET || kind->lane == ESIM_LANE_SYNC)
		return check_name(request, element);
	if (kind->kind == RSP_RESERVE)
	{
		if (!element->has_eid && !element->has_iccid && !element->has_profile &&
			element->matching_id == NULL && !request->generate_matching_id &&
			request->profile_type == NULL)
			return esim_failure("MISSING_IDENTIFIER",
								pstrdup("nothing says which profile to reserve"),
								pstrdup("There is no EID, ICCID, profile type or matching ID."),
								pstrdup("Give the EID, generate_matching_id, the ICCID, or the profile type."));
		return NULL;
	}
	if (kind->adds_profile || !kind->of_profile)
	{
		if (!element->has_eid)
			return esim_failure("MISSING_IDENTIFIER",
								psprintf("cannot %s without an EID", kind->verb),
								pstrdup("The EID is NULL."),
								pstrdup("Give the EID of the eUICC."));
	}
	else if (!element->has_iccid && !element->has_profile)
		return esim_failure("MISSING_IDENTIFIER",
							psprintf("cannot %s a profile without its identifier", kind->verb),
							pstrdup("Neither an ICCID nor the parameter profile is given."),
							pstrdup("Give the ICCID, or the row of esim_profile in the parameter profile."));
	return NULL;
}

static Datum
call_one(FunctionCallInfo fcinfo, RspKind rsp_kind, const char *function)
{
	const EsimKind *kind = esim_kind(rsp_kind);
	EsimRequest request;
	EsimElement element;
	EsimRights	rights;
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));
	int			arg;

	esim_look_after_worker();
	SPI_connect();
	memset(&request, 0, sizeof(request));
	memset(&element, 0, sizeof(element));
	request.kind = kind;
	request.function = function;
	request.elements = &element;
	request.nelements = 1;
	take_tail(fcinfo, &request);
	take_parameters(fcinfo, &request);

	element.ordinal = 1;
	if (has_arg(fcinfo, kind->eid))
	{
		element.has_eid = true;
		element.eid = *PG_GETARG_EID_P(kind->eid);
	}
	if (has_arg(fcinfo, kind->iccid))
	{
		element.has_iccid = true;
		element.iccid = PG_GETARG_ICCID(kind->iccid);
	}
	arg = kind->tail + TAIL_PROFILE;
	if (has_arg(fcinfo, arg))
	{
		element.has_profile = true;
		element.profile_id = *PG_GETARG_UUID_P(arg);
	}
	if (has_arg(fcinfo, kind->activation_code))
		element.activation_code = PG_DETOAST_DATUM(PG_GETARG_DATUM(kind->activation_code));
	if (has_arg(fcinfo, kind->confirmation_code))
		element.confirmation_code =
			cstring_to_text(text_arg(fcinfo, kind->confirmation_code, "confirmation_code", MAX_CODE));
	element.matching_id = text_arg(fcinfo, kind->matching_id, "matching_id", MAX_CODE);
	element.name = text_arg(fcinfo, kind->name,
							kind->lane == ESIM_LANE_SYNC ? "from_server" : "name", MAX_NAME);
	element.idempotency_key = key_arg(fcinfo, kind, MAX_KEY);
	element.failure = check_identifiers(&request, &element);
	if (element.failure != NULL)
		esim_failure_raise(element.failure, 0);

	esim_enter_owner(&rights);
	esim_enqueue(&request);
	esim_leave_owner(&rights);

	*id = element.id;
	if (element.lockout)
		ereport(WARNING,
				(errmsg("the eUICC will have no enabled profile"),
				 esim_errdetail("INCOMPATIBLE_STATE", "It is the only enabled profile of its eUICC, which loses its connection."),
				 errhint("Enable another profile first; see esim.lockout_guard.")));
	SPI_finish();
	PG_RETURN_UUID_P(id);
}

/*
 * Elements of an array argument.  *n is the number that all given arrays have;
 * -1 as long as none was seen.
 */
static Datum *
array_arg(FunctionCallInfo fcinfo, int arg, const char *name, bool **nulls, int *n)
{
	ArrayType  *array;
	Datum	   *values;
	int			count;
	int16		length;
	bool		byval;
	char		align;

	*nulls = NULL;
	if (!has_arg(fcinfo, arg))
		return NULL;
	array = PG_GETARG_ARRAYTYPE_P(arg);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_INVALID),
				 errmsg("parameter \"%s\" must be a one-dimensional array", name),
				 esim_errdetail("INVALID_ARGUMENT", "It has %d dimensions.", ARR_NDIM(array)),
				 errhint("Use array_agg() over single values.")));
	get_typlenbyvalalign(ARR_ELEMTYPE(array), &length, &byval, &align);
	deconstruct_array(array, ARR_ELEMTYPE(array), length, byval, align, &values, nulls, &count);
	if (count > MAX_ELEMENTS)
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_INVALID),
				 errmsg("parameter \"%s\" has too many elements", name),
				 esim_errdetail("OUT_OF_RANGE", "It has %d, at most %d are allowed.",
								count, MAX_ELEMENTS),
				 errhint("Make several calls.")));
	if (*n >= 0 && count != *n)
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_INVALID),
				 errmsg("arrays of different length"),
				 esim_errdetail("INVALID_ARGUMENT", "The length of parameter \"%s\" is %d, that of another one %d.",
								name, count, *n),
				 errhint("Give arrays of the same length; elements may be NULL.")));
	*n = count;
	return values;
}

void
esim_put_result(ReturnSetInfo *rsinfo, int ordinal, const pg_uuid_t *id, const EsimFailure *failure)
{
	Datum		values[5];
	bool		nulls[5] = {false, false, true, true, true};

	memset(values, 0, sizeof(values));
	values[0] = Int32GetDatum(ordinal);
	if (failure == NULL)
		values[1] = UUIDPGetDatum(id);
	else
	{
		nulls[1] = true;
		nulls[2] = nulls[3] = nulls[4] = false;
		values[2] = PointerGetDatum(cstring_to_text(unpack_sql_state(failure->sqlstate)));
		values[3] = PointerGetDatum(cstring_to_text(failure->code));
		values[4] = PointerGetDatum(cstring_to_text(failure->message));
	}
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static Datum
call_many(FunctionCallInfo fcinfo, RspKind rsp_kind, const char *function)
{
	const EsimKind *kind = esim_kind(rsp_kind);
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	EsimRequest request;
	EsimRights	rights;
	char	   *key;
	char	   *on_error;
	Datum	   *eids,
			   *iccids,
			   *profiles,
			   *codes,
			   *confirmations,
			   *matching_ids,
			   *names;
	bool	   *eid_nulls,
			   *iccid_nulls,
			   *profile_nulls,
			   *code_nulls,
			   *confirmation_nulls,
			   *matching_id_nulls,
			   *name_nulls;
	const char *names_name = kind->lane == ESIM_LANE_SYNC ? "from_servers" : "names";
	int			n = -1;
	int			lockouts = 0;

	esim_look_after_worker();
	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	memset(&request, 0, sizeof(request));
	request.kind = kind;
	request.function = function;
	take_tail(fcinfo, &request);
	take_parameters(fcinfo, &request);
	key = key_arg(fcinfo, kind, MAX_KEY - 8);	/* room for ":" and the ordinal */
	on_error = text_arg(fcinfo, kind->tail + TAIL_ON_ERROR, "on_error", 16);
	if (on_error == NULL || strcmp(on_error, "abort") == 0)
		request.report = false;
	else if (strcmp(on_error, "report") == 0)
		request.report = true;
	else
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_INVALID),
				 errmsg("invalid value \"%s\" for parameter \"%s\"", on_error, "on_error"),
				 esim_errdetail("INVALID_ARGUMENT", "It is neither abort nor report."),
				 errhint("Use abort or report.")));

	eids = array_arg(fcinfo, kind->eid, "eids", &eid_nulls, &n);
	iccids = array_arg(fcinfo, kind->iccid, "iccids", &iccid_nulls, &n);
	profiles = array_arg(fcinfo, kind->tail + TAIL_PROFILE, "profiles", &profile_nulls, &n);
	codes = array_arg(fcinfo, kind->activation_code, "activation_codes", &code_nulls, &n);
	confirmations = array_arg(fcinfo, kind->confirmation_code, "confirmation_codes",
							  &confirmation_nulls, &n);
	matching_ids = array_arg(fcinfo, kind->matching_id, "matching_ids", &matching_id_nulls, &n);
	names = array_arg(fcinfo, kind->name, names_name, &name_nulls, &n);
	if (n < 0)
	{
		EsimElement none;
		EsimFailure *failure;

		memset(&none, 0, sizeof(none));
		failure = check_identifiers(&request, &none);
		esim_failure_raise(failure ? failure :
						   esim_failure("MISSING_IDENTIFIER",
										pstrdup("nothing says how many profiles to reserve"),
										pstrdup("No array is given."),
										pstrdup("Give eids, iccids or matching_ids; their elements may be NULL.")), 0);
	}

	request.nelements = n;
	request.elements = MemoryContextAllocExtended(CurrentMemoryContext,
												  sizeof(EsimElement) * Max(n, 1),
												  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < n; i++)
	{
		EsimElement *element = &request.elements[i];

		element->ordinal = i + 1;
		if (eids != NULL && !eid_nulls[i])
		{
			element->has_eid = true;
			element->eid = *DatumGetEidP(eids[i]);
		}
		if (iccids != NULL && !iccid_nulls[i])
		{
			element->has_iccid = true;
			element->iccid = DatumGetIccid(iccids[i]);
		}
		if (profiles != NULL && !profile_nulls[i])
		{
			element->has_profile = true;
			element->profile_id = *DatumGetUUIDP(profiles[i]);
		}
		if (codes != NULL && !code_nulls[i])
			element->activation_code = PG_DETOAST_DATUM(codes[i]);
		if (confirmations != NULL && !confirmation_nulls[i])
			element->confirmation_code =
				cstring_to_text(esim_argument_text("confirmation_codes", confirmations[i], MAX_CODE));
		if (matching_ids != NULL && !matching_id_nulls[i])
			element->matching_id = esim_argument_text("matching_ids", matching_ids[i], MAX_CODE);
		if (names != NULL && !name_nulls[i])
			element->name = esim_argument_text(names_name, names[i], MAX_NAME);
		if (key != NULL)
			element->idempotency_key = psprintf("%s:%d", key, i + 1);
		element->failure = check_identifiers(&request, element);
		if (element->failure != NULL && !request.report)
			esim_failure_raise(element->failure, element->ordinal);
	}

	esim_enter_owner(&rights);
	esim_enqueue(&request);
	esim_leave_owner(&rights);

	for (int i = 0; i < n; i++)
	{
		EsimElement *element = &request.elements[i];

		esim_put_result(rsinfo, element->ordinal, &element->id, element->failure);
		if (element->failure == NULL && element->lockout)
			lockouts++;
	}
	if (lockouts > 0)
		ereport(WARNING,
				(errmsg_plural("%d eUICC will have no enabled profile",
							   "%d eUICCs will have no enabled profile", lockouts, lockouts),
				 esim_errdetail("INCOMPATIBLE_STATE", "The operations take their only enabled profiles."),
				 errhint("Enable other profiles first; see esim.lockout_guard.")));
	SPI_finish();
	return (Datum) 0;
}

#define ESIM_FUNCTION(name, kind) \
	PG_FUNCTION_INFO_V1(esim_##name); \
	Datum \
	esim_##name(PG_FUNCTION_ARGS) \
	{ \
		return call_one(fcinfo, kind, "esim_" #name); \
	} \
	PG_FUNCTION_INFO_V1(esim_##name##_many); \
	Datum \
	esim_##name##_many(PG_FUNCTION_ARGS) \
	{ \
		return call_many(fcinfo, kind, "esim_" #name "_many"); \
	} \
	extern int no_such_variable

ESIM_FUNCTION(download, RSP_DOWNLOAD);
ESIM_FUNCTION(enable, RSP_ENABLE);
ESIM_FUNCTION(disable, RSP_DISABLE);
ESIM_FUNCTION(delete, RSP_DELETE);
ESIM_FUNCTION(set_fallback, RSP_SET_FALLBACK);
ESIM_FUNCTION(unset_fallback, RSP_UNSET_FALLBACK);
ESIM_FUNCTION(refresh, RSP_REFRESH);
ESIM_FUNCTION(reserve, RSP_RESERVE);
ESIM_FUNCTION(release, RSP_RELEASE);
ESIM_FUNCTION(cancel_order, RSP_CANCEL_ORDER);
ESIM_FUNCTION(set_subscription, RSP_SET_SUBSCRIPTION);
ESIM_FUNCTION(assign_fleet, RSP_ASSIGN_FLEET);
ESIM_FUNCTION(fleet_create, RSP_FLEET_CREATE);
ESIM_FUNCTION(sync, RSP_SYNC);
