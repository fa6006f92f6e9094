/*-------------------------------------------------------------------------
 *
 * retry.c
 *	  esim_retry: new operations for those that did not succeed.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "audit/audit.h"
#include "operation/operation.h"
#include "operation/result.h"

#define MAX_RETRIES 100000

/*
 * In the order of lanes, those in the network first, and within a lane in which
 * they were accepted.
 */
static EsimStatement read_operations = {
	"SELECT u.n, o.id, o.kind, o.eid, o.iccid, o.profile, o.owner, o.owner_name, o.server,"
	" o.result::text, o.correlator, o.priority, o.activation_code, o.activate_on_download,"
	" o.rollback, o.sink, o.callback_url, o.callback_method, o.options, s.confirmation_code,"
	" s.sink_credential,"
	" (SELECT has_function_privilege($2, f.oid, 'EXECUTE') FROM pg_proc f WHERE f.pronamespace = $3"
	"  AND f.proname = 'esim_' || replace(o.kind, '-', '_')),"
	" o.generate_matching_id, o.matching_id, o.profile_type, o.smds_address, o.release, o.final_status,"
	" o.subscription_status::text, o.fleet, o.settings, p.state::text"
	" FROM unnest($1) WITH ORDINALITY AS u(id, n)"
	" LEFT JOIN @esim_operation o ON o.id = u.id"
	" LEFT JOIN @esim_operation_secret s ON s.operation = u.id"
	" LEFT JOIN @esim_profile p ON p.id = o.profile"
	" ORDER BY CASE WHEN o.kind IN ('reserve', 'release', 'cancel-order', 'set-subscription', 'assign-fleet',"
	"  'fleet-create', 'sync') THEN coalesce(p.lane, 0) END, o.eid, o.seq, u.n",
	3, {"uuid[]", "oid", "oid"}
};

static char *
text_column(EsimRow *row, int column)
{
	return row->null[column] ? NULL : TextDatumGetCString(row->value[column]);
}

/* the columns of read_operations from here on are parameters of operations in the network */
#define NETWORK_COLUMN 22

/* Super SIM does not let ICCIDs be chosen. */
static bool
assigns_iccid(const char *name)
{
	char	   *reason;
	EsimServer *server = esim_server_get(name, InvalidOid, false, &reason);
	bool		assigns;

	if (server == NULL)
		return false;
	assigns = server->rsp.protocol == RSP_PROTOCOL_TWILIO;
	esim_server_release(server);
	return assigns;
}

static void
take_network_parameters(EsimRow *row, EsimRequest *request, EsimElement *element)
{
	int			c = NETWORK_COLUMN;
	char	   *fleet;
	char	   *state;

	request->generate_matching_id = !row->null[c] && DatumGetBool(row->value[c]);
	element->matching_id = text_column(row, c + 1);
	request->profile_type = text_column(row, c + 2);
	request->smds_address = text_column(row, c + 3);
	request->release = !row->null[c + 4] && DatumGetBool(row->value[c + 4]);
	request->final_status = text_column(row, c + 5);
	request->subscription = text_column(row, c + 6);
	fleet = text_column(row, c + 7);
	if (request->kind->lane == ESIM_LANE_FLEET)
		element->name = fleet;
	else
		request->fleet = fleet;
	if (request->kind->lane == ESIM_LANE_SYNC)
		element->name = request->server;
	if (!row->null[c + 8])
	{
		request->settings = DatumGetJsonbPCopy(row->value[c + 8]);
		request->settings_json = esim_json_from_jsonb("settings", request->settings);
	}

	/*
	 * A reservation goes on with its row as long as that stands for nothing; a
	 * row that came to an end stays as it is.  What was ordered under an ICCID
	 * is asked for under that again, so that no second profile is taken.
	 */
	state = text_column(row, c + 9);
	if (request->kind->kind == RSP_RESERVE && (state == NULL || strcmp(state, "RESERVING") != 0))
	{
		element->has_profile = false;
		element->has_iccid = !row->null[4] && !assigns_iccid(request->server);
		if (element->has_iccid)
			element->iccid = DatumGetIccid(row->value[4]);
	}
}

/* Refused before it got as far as being queued. */
static EsimFailure *
refuse(Oid caller, const pg_uuid_t *asked, EsimFailure *failure)
{
	esim_audit_one(caller, "esim_retry", asked, failure->code);
	return failure;
}

/* Returns what went wrong; NULL: *id is the new operation. */
static EsimFailure *
retry(EsimRow *row, const pg_uuid_t *asked, Oid caller, pg_uuid_t *id, bool *lockout)
{
	EsimRequest request;
	EsimElement element;
	RspKind		kind;
	char	   *name;
	char	   *result;

	if (row->null[1] ||
		!esim_may_act_for(caller, DatumGetObjectId(row->value[6]),
						  NameStr(*DatumGetName(row->value[7]))))
		return refuse(caller, asked,
					  esim_failure("NOT_FOUND",
								   psprintf("operation \"%s\" is not known", esim_mask_uuid(asked)),
								   pstrdup("There is no operation of yours with this identifier."), NULL));
	result = text_column(row, 9);
	if (result == NULL || strcmp(result, "SUCCESS") == 0)
		return refuse(caller, asked,
					  esim_failure("INCOMPATIBLE_STATE",
								   psprintf("operation \"%s\" %s", esim_mask_uuid(asked),
											result ? "has succeeded" : "has not completed yet"),
								   pstrdup("Only operations that ended FAILED or CANCELLED are repeated."),
								   NULL));

	memset(&request, 0, sizeof(request));
	memset(&element, 0, sizeof(element));
	name = text_column(row, 2);
	request.kind = rsp_kind_from_name(name, &kind) ? esim_kind(kind) : NULL;
	if (request.kind == NULL)
		return refuse(caller, asked,
					  esim_failure("SERVICE_NOT_APPLICABLE",
								   psprintf("operations of kind \"%s\" cannot be repeated", name),
								   pstrdup("They are asked for anew."), NULL));
	if (row->null[21] || !DatumGetBool(row->value[21]))
		return refuse(caller, asked,
					  esim_failure("PERMISSION_DENIED",
								   psprintf("permission denied for operations of kind \"%s\"", name),
								   pstrdup("Repeating needs the same right as asking for it."), NULL));
	request.function = "esim_retry";
	request.caller = caller;
	request.now = GetCurrentTimestamp();
	request.report = true;
	request.elements = &element;
	request.nelements = 1;
	request.server = text_column(row, 8);
	request.own_server = true;
	request.correlator = text_column(row, 10);
	request.priority = DatumGetInt16(row->value[11]);
	request.activate = !row->null[13] && DatumGetBool(row->value[13]);
	request.rollback = !row->null[14] && DatumGetBool(row->value[14]);
	request.sink = text_column(row, 15);
	request.callback_url = text_column(row, 16);
	request.callback_method = text_column(row, 17);
	request.options = DatumGetJsonbPCopy(row->value[18]);
	request.options_json = esim_json_from_jsonb("options", request.options);
	if (!row->null[20])
		request.sink_credential = DatumGetJsonbPCopy(row->value[20]);

	element.ordinal = 1;
	element.has_eid = !row->null[3] && request.kind->eid >= 0;
	if (element.has_eid)
		element.eid = *DatumGetEidP(row->value[3]);
	element.has_profile = request.kind->of_profile && !row->null[5];
	if (element.has_profile)
		element.profile_id = *DatumGetUUIDP(row->value[5]);
	if (!row->null[12])
		element.activation_code = PG_DETOAST_DATUM_COPY(row->value[12]);
	if (!row->null[19])
		element.confirmation_code = DatumGetTextPCopy(row->value[19]);
	take_network_parameters(row, &request, &element);
	element.has_retry_of = true;
	element.retry_of = *DatumGetUUIDP(row->value[1]);

	esim_enqueue(&request);
	*id = element.id;
	if (element.lockout)
		*lockout = true;
	return element.failure;
}

typedef struct RetryResult
{
	pg_uuid_t	id;
	EsimFailure *failure;
} RetryResult;

PG_FUNCTION_INFO_V1(esim_retry);
Datum
esim_retry(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid			caller = GetUserId();
	EsimRights	rights;
	ArrayType  *array;
	Datum	   *asked;
	bool	   *asked_nulls;
	int			n;
	Datum		values[3];
	SPITupleTable *table;
	uint64		processed;
	RetryResult *results;
	bool		lockout = false;

	esim_look_after_worker();
	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	SPI_connect();
	array = PG_GETARG_ARRAYTYPE_P(0);
	deconstruct_array(array, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &asked, &asked_nulls, &n);
	if (n > MAX_RETRIES)
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_INVALID),
				 errmsg("parameter \"%s\" has too many elements", "ids"),
				 esim_errdetail("OUT_OF_RANGE", "It has %d, at most %d are allowed.", n, MAX_RETRIES),
				 errhint("Make several calls.")));

	esim_enter_owner(&rights);
	values[0] = PointerGetDatum(array);
	values[1] = ObjectIdGetDatum(caller);
	values[2] = ObjectIdGetDatum(esim_schema_oid());
	esim_execute_latest(&read_operations, values, NULL, 0);
	table = SPI_tuptable;
	processed = SPI_processed;
	results = palloc0(sizeof(RetryResult) * Max(n, 1));
	for (uint64 i = 0; i < processed; i++)
	{
		EsimRow		row;
		int			ordinal;
		pg_uuid_t	none;

		CHECK_FOR_INTERRUPTS();
		esim_row(&row, table, i);
		ordinal = (int) DatumGetInt64(row.value[0]);
		memset(&none, 0, sizeof(none));
		results[ordinal - 1].failure =
			retry(&row, asked_nulls[ordinal - 1] ? &none : DatumGetUUIDP(asked[ordinal - 1]), caller,
				  &results[ordinal - 1].id, &lockout);
	}
	esim_leave_owner(&rights);

	for (int i = 0; i < n; i++)
		esim_put_result(rsinfo, i + 1, &results[i].id, results[i].failure);
	if (lockout)
		ereport(WARNING,
				(errmsg("some eUICCs will have no enabled profile"),
				 esim_errdetail("INCOMPATIBLE_STATE", "The operations take their only enabled profiles."),
				 errhint("Enable other profiles first; see esim.lockout_guard.")));
	SPI_finish();
	return (Datum) 0;
}
