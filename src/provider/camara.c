/*-------------------------------------------------------------------------
 *
 * camara.c
 *	  esim_camara(): CAMARA's eSIM APIs, answered out of the database.
 *
 * Whoever stands before it has checked the token and has become the role of
 * its owner (SET ROLE); here that role's rights count.  A scope of the APIs is
 * EXECUTE on the function that does the same in SQL.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"

#include "audit/audit.h"
#include "operation/operation.h"
#include "provider/request.h"

#define DEFAULT_API_ROOT	"http://localhost:9091"	/* of both OpenAPI files */
#define MAX_PROFILES		256 /* EsimProfileStatusResponse.esimProfiles */

/*
 * Endpoints, in the order of ProviderEndpoint: the function that does the same
 * in SQL, and whether r1.2 lists 409 and 422 among their answers.
 */
static const struct
{
	const char *function;
	const char *method;
	RspKind		kind;
	bool		acts;
	bool		has_409;
	bool		has_422;
}			endpoints[] =
{
	{"esim_download", "POST", RSP_DOWNLOAD, true, false, true},
	{"esim_enable", "POST", RSP_ENABLE, true, true, true},
	{"esim_disable", "POST", RSP_DISABLE, true, true, true},
	{"esim_delete", "POST", RSP_DELETE, true, true, true},
	{"esim_set_fallback", "POST", RSP_SET_FALLBACK, true, true, true},
	{"esim_status", "POST", RSP_KIND_COUNT, false, false, true},
	{"esim_operation_status", "GET", RSP_KIND_COUNT, false, false, false}
};

typedef struct Answer
{
	int			status;
	char	   *correlator;
	char	   *location;		/* NULL: none; the same below */
	const char *allow;
	bool		authenticate;
	char	   *body;

	/* for esim_audit, where it is an error */
	const char *code;
	const char *function;		/* of the endpoint; NULL: there is none such */
	Eid		   *eid;
	Iccid		iccid;
} Answer;

/* ------------------------------------------------------------------------
 * Errors
 * ------------------------------------------------------------------------ */

static const struct
{
	int			status;
	const char *code;
	const char *message;
	bool		speaks;			/* what esim's functions say about it is for the client */
}			codes[] =
{
	{400, "INVALID_ARGUMENT", "Client specified an invalid argument.", true},
	{400, "OUT_OF_RANGE", "Client specified a value that is out of range.", true},
	{401, "UNAUTHENTICATED", "Request not authenticated: a bearer token is required.", false},
	{403, "PERMISSION_DENIED", "Client does not have sufficient permissions to perform this action.", false},
	{404, "NOT_FOUND", "The specified resource is not found.", true},
	{404, "IDENTIFIER_NOT_FOUND", "The identifier is not found.", true},
	{405, "METHOD_NOT_ALLOWED", "The requested method is not allowed on the target resource.", false},
	{406, "NOT_ACCEPTABLE", "The answer is application/json, which the header Accept does not allow.", false},
	{409, "ABORTED", "Another request is working on the same eSIM. Please try again.", false},
	{409, "ALREADY_EXISTS", "The resource already exists.", true},
	{409, "CONFLICT", "The request conflicts with an earlier one.", true},
	{409, "INCOMPATIBLE_STATE", "The state of the eSIM profile does not allow this.", true},
	{415, "UNSUPPORTED_MEDIA_TYPE", "The header Content-Type must be application/json.", false},
	{422, "SERVICE_NOT_APPLICABLE", "The service is not available for the provided identifier.", false},
	{422, "MISSING_IDENTIFIER", "The identifiers do not name one eSIM profile.", false},
	{422, "IDENTIFIER_MISMATCH", "The provided ICCID is not associated with the provided EID.", true},
	{422, "UNSUPPORTED_IDENTIFIER", "The identifier provided is not supported.", false},
	{422, "UNNECESSARY_IDENTIFIER", "An identifier is given that is not needed.", false},
	{429, "QUOTA_EXCEEDED", "Out of resource quota.", false},
	{500, "INTERNAL", "Unknown server error.", false},
	{503, "UNAVAILABLE", "Service unavailable.", false}
};

/* index into codes[]; -1: none of that name, or of another status (0: any) */
static int
find_code(int status, const char *code)
{
	for (int i = 0; i < lengthof(codes); i++)
	{
		if ((status == 0 || codes[i].status == status) && strcmp(codes[i].code, code) == 0)
			return i;
	}
	return -1;
}

/* An ErrorInfo as the answer.  message: NULL for the one that goes with the code. */
static void
refuse(Answer *answer, const char *code, const char *message)
{
	int			i = find_code(0, code);
	StringInfoData body;
	char	   *text = pstrdup(message ? message : codes[i].message);

	text[pg_mbcharcliplen(text, strlen(text), PROVIDER_MAX_MESSAGE)] = '\0';
	initStringInfo(&body);
	appendStringInfo(&body, "{\"status\": %d, \"code\": \"%s\", \"message\": ", codes[i].status, code);
	escape_json(&body, text);
	appendStringInfoChar(&body, '}');
	answer->status = codes[i].status;
	answer->code = codes[i].code;
	answer->body = body.data;
	answer->location = NULL;
}

/*
 * Which of CAMARA's codes an error is, as the dialect has them for the
 * endpoint.  r1.2 lists 409 for all that acts but download, and two codes of
 * 422; 2026-02 has 400, 401, 403 and 422 for what acts and 404 only for what
 * reads.
 */
static const char *
code_of_error(const ErrorData *edata, const ProviderRoute *route)
{
	bool		r1_2 = (route->dialect == RSP_DIALECT_R1_2);
	bool		reads = !endpoints[route->endpoint].acts;
	bool		has_409 = r1_2 && endpoints[route->endpoint].has_409;
	bool		has_422 = r1_2 ? endpoints[route->endpoint].has_422 : !reads;
	int			found = -1;

	if (ERRCODE_TO_CATEGORY(edata->sqlerrcode) == ERRCODE_TO_CATEGORY(ERRCODE_ESIM_INVALID))
	{
		/* DETAIL begins with the code */
		const char *colon = edata->detail ? strchr(edata->detail, ':') : NULL;

		if (colon != NULL)
		{
			char	   *code = pnstrdup(edata->detail, colon - edata->detail);

			found = find_code(0, code);
		}
	}
	else if (edata->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE)
		found = find_code(0, "PERMISSION_DENIED");
	else if (edata->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
			 edata->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE ||
			 edata->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED)
		return has_409 ? "ABORTED" : "UNAVAILABLE";
	else if (edata->sqlerrcode == ERRCODE_READ_ONLY_SQL_TRANSACTION ||
			 ERRCODE_TO_CATEGORY(edata->sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES)
		return "UNAVAILABLE";
	else if (ERRCODE_TO_CATEGORY(edata->sqlerrcode) == ERRCODE_DATA_EXCEPTION)
		found = find_code(0, "INVALID_ARGUMENT");
	if (found < 0)
		return "INTERNAL";

	switch (codes[found].status)
	{
		case 404:
			if (r1_2 || reads)
				return codes[found].code;
			return "SERVICE_NOT_APPLICABLE";
		case 409:
			return has_409 ? codes[found].code : "SERVICE_NOT_APPLICABLE";
		case 422:
			if (!has_422)
				return "IDENTIFIER_NOT_FOUND";
			if (r1_2 ? strcmp(codes[found].code, "IDENTIFIER_MISMATCH") != 0 :
				strcmp(codes[found].code, "IDENTIFIER_MISMATCH") == 0)
				return "SERVICE_NOT_APPLICABLE";
			return codes[found].code;
		default:
			return codes[found].code;
	}
}

/*
 * The message of an error that esim's functions raise on purpose, and its
 * detail behind the code.  Their hints are for those who write SQL, and so are
 * the words of some codes, which name servers and roles: NULL then.
 */
static char *
message_of_error(const ErrorData *edata)
{
	const char *colon = edata->detail ? strchr(edata->detail, ':') : NULL;
	int			i;
	char	   *message;

	if (ERRCODE_TO_CATEGORY(edata->sqlerrcode) != ERRCODE_TO_CATEGORY(ERRCODE_ESIM_INVALID) ||
		colon == NULL || edata->message == NULL)
		return NULL;
	i = find_code(0, pnstrdup(edata->detail, colon - edata->detail));
	if (i < 0 || !codes[i].speaks)
		return NULL;
	message = psprintf("%s.%s", edata->message, colon + 1);
	/* a sentence, but eUICC stays */
	if (message[0] >= 'a' && message[0] <= 'z' && message[1] >= 'a' && message[1] <= 'z')
		message[0] = pg_ascii_toupper((unsigned char) message[0]);
	return message;
}

/* ------------------------------------------------------------------------
 * Headers
 * ------------------------------------------------------------------------ */

typedef struct Headers
{
	char	   *authorization;
	char	   *correlator;
	char	   *content_type;
	char	   *accept;			/* all of them, parted by commas */
	bool		malformed_authorization;	/* of another type, or more than one */
	bool		malformed_correlator;
	bool		malformed_content_type;
} Headers;

/* without the blanks around it */
static char *
header_value(const JsonbValue *value)
{
	const char *start = value->val.string.val;
	const char *end = start + value->val.string.len;

	while (start < end && (*start == ' ' || *start == '\t'))
		start++;
	while (end > start && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	return pnstrdup(start, end - start);
}

/* one more value of a header */
static void
take_header(Headers *headers, const char *name, const JsonbValue *value)
{
	char	  **slot;
	bool	   *malformed;

	if (pg_strcasecmp(name, "authorization") == 0)
	{
		slot = &headers->authorization;
		malformed = &headers->malformed_authorization;
	}
	else if (pg_strcasecmp(name, "x-correlator") == 0)
	{
		slot = &headers->correlator;
		malformed = &headers->malformed_correlator;
	}
	else if (pg_strcasecmp(name, "content-type") == 0)
	{
		slot = &headers->content_type;
		malformed = &headers->malformed_content_type;
	}
	else
	{
		if (pg_strcasecmp(name, "accept") == 0 && value->type == jbvString)
			headers->accept = headers->accept == NULL ? header_value(value) :
				psprintf("%s, %s", headers->accept, header_value(value));
		return;
	}
	if (value->type == jbvNull)
		return;
	if (value->type != jbvString || *slot != NULL)
		*malformed = true;
	else
		*slot = header_value(value);
}

/*
 * Headers as an object: names of any case, values as strings or as arrays of
 * strings.  What is no object has none.
 */
static void
read_headers(Jsonb *jsonb, Headers *headers)
{
	JsonbIterator *iterator;
	JsonbValue	value;
	JsonbIteratorToken token;
	char	   *name = NULL;
	int			depth = 0;

	memset(headers, 0, sizeof(*headers));
	if (jsonb == NULL || !JB_ROOT_IS_OBJECT(jsonb))
		return;
	iterator = JsonbIteratorInit(&jsonb->root);
	while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
	{
		switch (token)
		{
			case WJB_BEGIN_OBJECT:
			case WJB_BEGIN_ARRAY:
				/* objects and nested arrays are no values of headers */
				if (++depth > 2 || (depth == 2 && token == WJB_BEGIN_OBJECT))
				{
					value.type = jbvBool;
					take_header(headers, name, &value);
				}
				break;
			case WJB_END_OBJECT:
			case WJB_END_ARRAY:
				depth--;
				break;
			case WJB_KEY:
				if (depth == 1)
					name = pnstrdup(value.val.string.val, value.val.string.len);
				break;
			case WJB_VALUE:
			case WJB_ELEM:
				if (depth <= 2 && name != NULL)
					take_header(headers, name, &value);
				break;
			default:
				break;
		}
	}
}

/* ------------------------------------------------------------------------
 * Scopes
 * ------------------------------------------------------------------------ */

/* The extension's function of that name; no name has two signatures. */
static Oid
function_oid(const char *name)
{
	CatCList   *list = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(name));
	Oid			schema = esim_schema_oid();
	Oid			oid = InvalidOid;

	for (int i = 0; i < list->n_members; i++)
	{
		Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(&list->members[i]->tuple);

		if (proc->pronamespace == schema)
			oid = proc->oid;
	}
	ReleaseSysCacheList(list);
	if (!OidIsValid(oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function \"%s\" does not exist", name),
				 errhint("The library and the extension's objects do not fit together. Run ALTER EXTENSION esim UPDATE.")));
	return oid;
}

static bool
may_execute(const char *name)
{
	return DatumGetBool(DirectFunctionCall2(has_function_privilege_id,
											ObjectIdGetDatum(function_oid(name)),
											PointerGetDatum(cstring_to_text("EXECUTE"))));
}

/*
 * r1.2 has a scope for each endpoint.  2026-02 has one for all that reads,
 * which is either of ours, and asks for that of enable to set the fallback.
 */
static bool
has_scope(const ProviderRoute *route)
{
	if (route->dialect == RSP_DIALECT_2026_02)
	{
		if (!endpoints[route->endpoint].acts)
			return may_execute("esim_status") || may_execute("esim_operation_status");
		if (route->endpoint == PROVIDER_SET_FALLBACK)
			return may_execute("esim_enable");
	}
	return may_execute(endpoints[route->endpoint].function);
}

/* ------------------------------------------------------------------------
 * Calls
 * ------------------------------------------------------------------------ */

/* text of the reader of JSON, in the database's encoding */
static char *
from_utf8(const char *text)
{
	return pg_any_to_server(text, strlen(text), PG_UTF8);
}

/*
 * A call of one of the extension's functions, all its arguments NULL, which
 * stands for their defaults.  has_scope() has decided whether it may be made.
 */
static FunctionCallInfo
new_call(const char *name, ReturnSetInfo *result)
{
	FmgrInfo   *flinfo = palloc(sizeof(FmgrInfo));
	FunctionCallInfo fcinfo;

	fmgr_info(function_oid(name), flinfo);
	fcinfo = palloc0(SizeForFunctionCallInfo(flinfo->fn_nargs));
	InitFunctionCallInfoData(*fcinfo, flinfo, flinfo->fn_nargs, InvalidOid, NULL, (Node *) result);
	for (int i = 0; i < fcinfo->nargs; i++)
		fcinfo->args[i].isnull = true;
	return fcinfo;
}

static void
set_argument(FunctionCallInfo fcinfo, int n, Datum value)
{
	if (n < 0 || n >= fcinfo->nargs)
		elog(ERROR, "function has no such parameter");
	fcinfo->args[n].value = value;
	fcinfo->args[n].isnull = false;
}

/* esim_operation_status(), with its rights only */
static Jsonb *
operation_status(Datum id, RspDialect dialect)
{
	FunctionCallInfo fcinfo = new_call("esim_operation_status", NULL);

	set_argument(fcinfo, 0, id);
	set_argument(fcinfo, 1,
				 CStringGetTextDatum(dialect == RSP_DIALECT_R1_2 ? "r1.2" : "2026-02"));
	return DatumGetJsonbP(FunctionCallInvoke(fcinfo));
}

/* Places in the tail that interface.md has behind the own parameters. */
#define TAIL_CORRELATOR			2
#define TAIL_SINK				3
#define TAIL_SINK_CREDENTIAL	4
#define TAIL_OPTIONS			11

static Datum
jsonb_of_text(const char *text)
{
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(from_utf8(text)));
}

/* Queues the operation; the answer is 202 with it. */
static void
call_operation(const ProviderRoute *route, const ProviderBody *body, Eid *eid, Iccid iccid,
			   Datum activation_code, Answer *answer)
{
	const EsimKind *kind = esim_kind(endpoints[route->endpoint].kind);
	FunctionCallInfo fcinfo = new_call(endpoints[route->endpoint].function, NULL);
	Datum		id;

	if (eid != NULL)
		set_argument(fcinfo, kind->eid, EidPGetDatum(eid));
	if (iccid != ICCID_INVALID)
		set_argument(fcinfo, kind->iccid, IccidGetDatum(iccid));
	if (body->activation_code != NULL)
		set_argument(fcinfo, kind->activation_code, activation_code);
	if (body->activate)
		set_argument(fcinfo, kind->activate, BoolGetDatum(true));
	set_argument(fcinfo, kind->tail + TAIL_CORRELATOR,
				 PointerGetDatum(cstring_to_text(answer->correlator)));
	if (body->sink != NULL)
		set_argument(fcinfo, kind->tail + TAIL_SINK,
					 PointerGetDatum(cstring_to_text(from_utf8(body->sink))));
	if (body->sink_credential != NULL)
		set_argument(fcinfo, kind->tail + TAIL_SINK_CREDENTIAL, jsonb_of_text(body->sink_credential));
	if (body->options != NULL)
		set_argument(fcinfo, kind->tail + TAIL_OPTIONS, jsonb_of_text(body->options));
	id = FunctionCallInvoke(fcinfo);

	/* what the caller has just asked for is shown without the scope to read */
	answer->status = 202;
	answer->body = JsonbToCString(NULL, &operation_status(id, route->dialect)->root, 0);
	if (route->dialect == RSP_DIALECT_R1_2)
	{
		const char *root = esim_api_root && esim_api_root[0] ? esim_api_root : DEFAULT_API_ROOT;
		int			length = strlen(root);

		while (length > 0 && root[length - 1] == '/')
			length--;
		answer->location = psprintf("%.*s%s/operations/%s", length, root,
									provider_root(route->dialect),
									DatumGetCString(DirectFunctionCall1(uuid_out, id)));
	}
}

/*
 * What CAMARA can say of a profile: those that are enabled or disabled on a
 * eUICC, with an ICCID that fits its pattern.  Appends nothing for others.
 */
static bool
append_profile(StringInfo body, RspDialect dialect, TupleTableSlot *slot, bool first)
{
	enum
	{
		EID, ICCID, PROFILE, STATE, IS_FALLBACK, SUBSCRIPTION, MSISDN
	};
	bool		r1_2 = (dialect == RSP_DIALECT_R1_2);
	char		eid[EID_TEXT_SIZE];
	char		iccid[ICCID_TEXT_SIZE];
	char	   *state;
	bool		enabled;

	slot_getallattrs(slot);
	if (slot->tts_isnull[EID] || slot->tts_isnull[ICCID] || slot->tts_isnull[STATE])
		return false;
	state = DatumGetCString(DirectFunctionCall1(enum_out, slot->tts_values[STATE]));
	enabled = strcmp(state, "ENABLED") == 0;
	if (!enabled && strcmp(state, "DISABLED") != 0)
		return false;
	eid_format(DatumGetEidP(slot->tts_values[EID]), eid);
	if (iccid_format(DatumGetIccid(slot->tts_values[ICCID]), iccid) < 19)
		return false;

	appendStringInfo(body, "%s{\"eid\": \"%s\", \"iccid\": \"%s\", \"state\": \"%s\"", first ? "" : ", ",
					 eid, iccid,
					 r1_2 ? state : enabled ? "enabled" : "disabled");
	if (!r1_2 && !slot->tts_isnull[MSISDN])
	{
		char	   *phone = TextDatumGetCString(slot->tts_values[MSISDN]);

		if (provider_phone_valid(phone))
			appendStringInfo(body, ", \"phoneNumber\": \"%s\"", phone);
	}
	appendStringInfo(body, ", \"isFallback\": %s}",
					 !slot->tts_isnull[IS_FALLBACK] && DatumGetBool(slot->tts_values[IS_FALLBACK]) ?
					 "true" : "false");
	return true;
}

static void
call_status(const ProviderRoute *route, Eid *eid, Iccid iccid, Answer *answer)
{
	FunctionCallInfo fcinfo;
	ReturnSetInfo result;
	ExprContext *econtext = CreateStandaloneExprContext();
	TupleTableSlot *slot;
	StringInfoData body;
	int			count = 0;

	memset(&result, 0, sizeof(result));
	result.type = T_ReturnSetInfo;
	result.econtext = econtext;
	result.allowedModes = (int) SFRM_Materialize;
	fcinfo = new_call("esim_status", &result);
	if (eid != NULL)
		set_argument(fcinfo, 0, EidPGetDatum(eid));
	if (iccid != ICCID_INVALID)
		set_argument(fcinfo, 1, IccidGetDatum(iccid));
	(void) FunctionCallInvoke(fcinfo);

	initStringInfo(&body);
	appendStringInfo(&body, "{\"%s\": [", route->dialect == RSP_DIALECT_R1_2 ? "esimProfiles" : "esims");
	slot = MakeSingleTupleTableSlot(result.setDesc, &TTSOpsMinimalTuple);
	while (count < MAX_PROFILES && tuplestore_gettupleslot(result.setResult, true, false, slot))
	{
		if (append_profile(&body, route->dialect, slot, count == 0))
			count++;
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(result.setResult);
	FreeExprContext(econtext, true);
	appendStringInfoString(&body, "]}");
	answer->status = 200;
	answer->body = body.data;
}

/* An operation of another kind than the API's five is none of the API's. */
static void
call_operation_status(const ProviderRoute *route, Answer *answer)
{
	Jsonb	   *jsonb = operation_status(DirectFunctionCall1(uuid_in, CStringGetDatum(route->id)),
										 route->dialect);
	JsonbValue	key;
	JsonbValue *kind;

	key.type = jbvString;
	key.val.string.val = "operation";
	key.val.string.len = strlen("operation");
	kind = findJsonbValueFromContainer(&jsonb->root, JB_FOBJECT, &key);
	for (int i = PROVIDER_DOWNLOAD; kind != NULL && i <= PROVIDER_SET_FALLBACK; i++)
	{
		const char *name = rsp_kind_name(endpoints[i].kind);

		if (kind->type == jbvString && kind->val.string.len == strlen(name) &&
			memcmp(kind->val.string.val, name, kind->val.string.len) == 0)
		{
			answer->status = 200;
			answer->body = JsonbToCString(NULL, &jsonb->root, 0);
			return;
		}
	}
	refuse(answer, "NOT_FOUND", NULL);
}

/*
 * The identifiers as the types have them, which ask for more than the schemas
 * do: 22P02 here is the client's.  *field names the one that is looked at.
 */
static void
call(const ProviderRoute *route, const ProviderBody *body, const char *volatile *field, Answer *answer)
{
	bool		r1_2 = (route->dialect == RSP_DIALECT_R1_2);
	Eid		   *eid = NULL;
	Iccid		iccid = ICCID_INVALID;
	Datum		activation_code = (Datum) 0;

	if (route->endpoint == PROVIDER_RETRIEVE_OPERATION)
	{
		call_operation_status(route, answer);
		return;
	}
	if (body->eid != NULL)
	{
		*field = r1_2 ? "esimProfile.eid" : "esim.eid";
		eid = answer->eid = eid_from_text(body->eid, strlen(body->eid), esim_check_digits);
	}
	if (body->iccid != NULL)
	{
		*field = r1_2 ? "esimProfile.iccid" : "esim.iccid";
		iccid = answer->iccid = iccid_from_text(body->iccid, strlen(body->iccid), esim_check_digits);
	}
	if (body->activation_code != NULL)
	{
		const char *code = from_utf8(body->activation_code);

		*field = "activationCode";
		activation_code = activation_code_from_text(code, strlen(code));
	}
	*field = NULL;
	if (route->endpoint == PROVIDER_RETRIEVE_STATUS)
		call_status(route, eid, iccid, answer);
	else
		call_operation(route, body, eid, iccid, activation_code, answer);
}

/* a call, and the field of its body that is being read */
typedef struct Call
{
	const ProviderRoute *route;
	const ProviderBody *body;
	const char *field;
	Answer	   *answer;
} Call;

static bool
call_step(void *arg)
{
	Call	   *c = arg;

	call(c->route, c->body, &c->field, c->answer);
	return true;
}

/*
 * The call in a subtransaction: what fails has done nothing, and its error is
 * the answer.  Cancellation is nobody's answer.
 */
static void
call_safely(const ProviderRoute *route, const ProviderBody *body, Answer *answer)
{
	Call		c = {route, body, NULL, answer};
	ErrorData  *edata = esim_try(call_step, &c);
	const char *code;

	if (edata == NULL)
		return;
	if (edata->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(edata);
	code = code_of_error(edata, route);
	if (c.field != NULL && edata->sqlerrcode == ERRCODE_INVALID_TEXT_REPRESENTATION)
		refuse(answer, code, psprintf("%s is not valid. %s", c.field,
									  edata->detail ? edata->detail : ""));
	else
		refuse(answer, code, message_of_error(edata));
	/* the statement holds the token and what the body says */
	if (answer->status == 500)
		ereport(LOG,
				(errcode(edata->sqlerrcode),
				 errmsg("CAMARA request failed: %s", edata->message),
				 errhidestmt(true), errhidecontext(true)));
}

/* ------------------------------------------------------------------------
 * esim_camara
 * ------------------------------------------------------------------------ */

static char *
text_argument(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? pstrdup("") : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

static void
release_body(void *arg)
{
	provider_body_release(arg);
}

static void
serve(const char *method, const char *path, const Headers *headers, const char *text, Answer *answer)
{
	ProviderRoute route;
	ProviderBody *body = palloc0(sizeof(ProviderBody));
	bool		known = provider_route(path, esim_api_root, &route);

	/* the longer pattern until it is known which one counts */
	bool		backslash = !known || route.dialect == RSP_DIALECT_2026_02;
	bool		bad_correlator = headers->malformed_correlator ||
		(headers->correlator != NULL && !provider_correlator_valid(headers->correlator, backslash));

	if (headers->correlator != NULL && headers->correlator[0] != '\0' && !bad_correlator)
		answer->correlator = headers->correlator;
	else
		answer->correlator = DatumGetCString(DirectFunctionCall1(uuid_out,
																 DirectFunctionCall1(gen_random_uuid,
																					 (Datum) 0)));

	if (headers->authorization == NULL || headers->malformed_authorization ||
		!provider_bearer_valid(headers->authorization))
	{
		answer->authenticate = true;
		refuse(answer, "UNAUTHENTICATED", NULL);
		return;
	}
	if (!known)
	{
		refuse(answer, "NOT_FOUND", NULL);
		return;
	}
	answer->function = endpoints[route.endpoint].function;
	if (strcmp(method, endpoints[route.endpoint].method) != 0)
	{
		answer->allow = endpoints[route.endpoint].method;
		refuse(answer, "METHOD_NOT_ALLOWED", NULL);
		return;
	}
	if (bad_correlator)
	{
		refuse(answer, "INVALID_ARGUMENT", "The header x-correlator does not match its pattern.");
		return;
	}
	if (!has_scope(&route))
	{
		refuse(answer, "PERMISSION_DENIED", NULL);
		return;
	}
	/* 2026-02 has neither 406 nor 415 */
	if (route.dialect == RSP_DIALECT_R1_2 && headers->accept != NULL &&
		!provider_accepts_json(headers->accept))
	{
		refuse(answer, "NOT_ACCEPTABLE", NULL);
		return;
	}

	if (route.endpoint == PROVIDER_RETRIEVE_OPERATION)
	{
		if (!route.id_valid)
		{
			refuse(answer, "INVALID_ARGUMENT", "The operationId does not match its schema.");
			return;
		}
		/* ours are UUIDs */
		if (!provider_uuid_valid(route.id))
		{
			refuse(answer, "NOT_FOUND", NULL);
			return;
		}
	}
	else
	{
		MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));
		char	   *utf8;

		if (headers->malformed_content_type ||
			(headers->content_type != NULL && !provider_content_type_valid(headers->content_type)))
		{
			if (route.dialect == RSP_DIALECT_R1_2)
				refuse(answer, "UNSUPPORTED_MEDIA_TYPE", NULL);
			else
				refuse(answer, "INVALID_ARGUMENT", "The header Content-Type must be application/json.");
			return;
		}
		callback->func = release_body;
		callback->arg = body;
		MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
		utf8 = pg_server_to_any(text, strlen(text), PG_UTF8);
		if (!provider_body_read(route.dialect, route.endpoint, utf8, strlen(utf8), body))
		{
			refuse(answer, "INVALID_ARGUMENT", from_utf8(body->error));
			return;
		}
	}
	call_safely(&route, body, answer);
}

/*
 * What is refused leaves a row; what is done has the row of the function that
 * did it.  Nothing can be written in a transaction that only reads.
 */
static void
audit(const Answer *answer)
{
	EsimAuditEntry entry = {answer->eid, answer->iccid, NULL, NULL};
	EsimRights	rights;

	if (answer->status < 400 || XactReadOnly)
		return;
	entry.outcome = psprintf("%d %s%s%s", answer->status, answer->code,
							 answer->function ? ", " : "", answer->function ? answer->function : "");
	SPI_connect();
	esim_enter_owner(&rights);
	esim_audit(rights.caller, "esim_camara", &entry, 1);
	esim_leave_owner(&rights);
	SPI_finish();
}

static void
append_header(StringInfo headers, const char *name, const char *value)
{
	if (value == NULL)
		return;
	appendStringInfoString(headers, headers->len > 1 ? ", " : "");
	escape_json(headers, name);
	appendStringInfoString(headers, ": ");
	escape_json(headers, value);
}

/*
 * esim_camara(method, path, headers, body): the answer of the CAMARA API to an
 * HTTP request, as a row (status, headers, body).  Errors of the request are
 * answers; SQL errors are only cancellation and what befalls the session.
 */
PG_FUNCTION_INFO_V1(esim_camara);
Datum
esim_camara(PG_FUNCTION_ARGS)
{
	Answer		answer;
	Headers		headers;
	TupleDesc	desc;
	StringInfoData text;
	char	   *method = text_argument(fcinfo, 0);
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	for (char *p = method; *p; p++)
		*p = pg_ascii_toupper((unsigned char) *p);

	esim_look_after_worker();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	memset(&answer, 0, sizeof(answer));
	read_headers(PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2), &headers);
	serve(method, text_argument(fcinfo, 1), &headers, text_argument(fcinfo, 3), &answer);
	audit(&answer);

	initStringInfo(&text);
	appendStringInfoChar(&text, '{');
	append_header(&text, "Content-Type", "application/json");
	append_header(&text, "x-correlator", answer.correlator);
	append_header(&text, "Location", answer.location);
	append_header(&text, "Allow", answer.allow);
	append_header(&text, "WWW-Authenticate", answer.authenticate ? "Bearer" : NULL);
	appendStringInfoChar(&text, '}');
	values[0] = Int32GetDatum(answer.status);
	values[1] = DirectFunctionCall1(jsonb_in, CStringGetDatum(text.data));
	values[2] = CStringGetTextDatum(answer.body);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
