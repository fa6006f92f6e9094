/*
 * camara.c
 *		CAMARA eSIM management: the dialect of 2026-02 and release 1.2 of
 *		eSIM Profile Management.
 *
 * What can be known without the device is a 4xx at once where the dialect's
 * OpenAPI has one (release 1.2: 404, 409, 422; 2026-02: 422 only); all else
 * is accepted with 202 and told by the operation.
 */
#include <string.h>
#include <strings.h>

#include "camara.h"

static const struct
{
	const char *name;
	const char *label_2026;
	const char *label_r12;
	uint32_t	scope_2026;
	uint32_t	scope_r12;
}			endpoints[] = {
	[KIND_DOWNLOAD] = {"download", "POST /esim/download", "POST /download",
	SCOPE_DOWNLOAD_2026, SCOPE_DOWNLOAD},
	[KIND_ENABLE] = {"enable", "POST /esim/enable", "POST /enable",
	SCOPE_ENABLE_2026, SCOPE_ENABLE},
	[KIND_DISABLE] = {"disable", "POST /esim/disable", "POST /disable",
	SCOPE_DISABLE_2026, SCOPE_DISABLE},
	[KIND_DELETE] = {"delete", "POST /esim/delete", "POST /delete",
	SCOPE_DELETE_2026, SCOPE_DELETE},
	[KIND_SET_FALLBACK] = {"set-fallback", "POST /esim/set-fallback", "POST /set-fallback",
	SCOPE_ENABLE_2026, SCOPE_SET_FALLBACK},
	[ENDPOINT_STATUS] = {"retrieve-status", "POST /esim/retrieve-status",
	"POST /retrieve-status", SCOPE_READ_2026, SCOPE_RETRIEVE_STATUS},
	[ENDPOINT_OPERATION] = {"operations/", "GET /esim/operations", "GET /operations",
	SCOPE_READ_2026, SCOPE_RETRIEVE_OPERATION},
};

/* An ErrorInfo, as every CAMARA error is. */
void
error_info(Request *request, int status, const char *code, const char *message)
{
	request->status = status;
	request->content_type = "application/json";
	request->location[0] = '\0';
	buf_clear(&request->out);
	buf_format(&request->out, "{\"status\":%d,\"code\":", status);
	buf_json(&request->out, code);
	buf_text(&request->out, ",\"message\":");
	buf_json(&request->out, message);
	buf_text(&request->out, "}");
}

/* The path behind the dialect's own prefix: "/x" or "/esim/x". */
static const char *
endpoint_path(Dialect dialect, const char *path)
{
	if (dialect == DIALECT_2026_02)
		return strncmp(path, "/esim/", 6) == 0 ? path + 6 : "";
	return *path == '/' ? path + 1 : "";
}

/* Names the endpoint and, as far as they are well formed, the identifiers. */
static void
identify(Request *request, Dialect dialect)
{
	const char *path = endpoint_path(dialect, request->path);
	int			endpoint;

	for (endpoint = 0; endpoint < ENDPOINT_NONE; endpoint++)
	{
		const char *name = endpoints[endpoint].name;

		if (endpoint == ENDPOINT_OPERATION ? strncmp(path, name, strlen(name)) == 0 :
			strcmp(path, name) == 0)
			break;
	}
	request->endpoint = endpoint;
	request->label = endpoint == ENDPOINT_NONE ? "unknown path" :
		strcmp(request->method, endpoint == ENDPOINT_OPERATION ? "GET" : "POST") != 0 ?
		"other method" :
		dialect == DIALECT_R12 ? endpoints[endpoint].label_r12 : endpoints[endpoint].label_2026;

	if (endpoint == ENDPOINT_OPERATION)
	{
		uint32_t	index;
		Operation  *operation = operation_find(path + strlen("operations/"), &index);

		if (operation != NULL)
		{
			request->has_eid = true;
			request->eid = euicc_get(operation->euicc)->eid;
			if (operation->profile != 0)
			{
				request->has_iccid = true;
				request->iccid = profile_get(operation->profile - 1)->iccid;
			}
		}
	}
	else if (request->body.length > 0)
	{
		json_t	   *esim;
		json_t	   *value;

		request->json = json_loadb(request->body.data, request->body.length,
								   JSON_REJECT_DUPLICATES, NULL);
		esim = json_object_get(request->json, dialect == DIALECT_R12 ? "esimProfile" : "esim");
		value = json_object_get(esim, "eid");
		if (json_is_string(value))
			request->has_eid = id_parse(json_string_value(value), json_string_length(value),
										32, 32, &request->eid);
		value = json_object_get(esim, "iccid");
		if (json_is_string(value))
			request->has_iccid = id_parse(json_string_value(value), json_string_length(value),
										  19, 20, &request->iccid);
	}
}

static void
put_failure(Buf *out, Operation *operation, Dialect dialect)
{
	if (dialect == DIALECT_R12)
	{
		buf_text(out, ",\"failureReason\":");
		buf_json(out, operation->reason);
		return;
	}
	buf_format(out, "},\"error\":{\"status\":%u,\"code\":\"%s\",\"message\":",
			   operation->reason_status, operation->reason_code);
	buf_json(out, operation->reason);
}

/* An operation in the dialect's shape; "told": with its outcome, if it has one. */
static void
put_operation(Request *request, Dialect dialect, uint32_t index, bool told)
{
	Buf		   *out = &request->out;
	Operation  *operation = operation_get(index);
	bool		r12 = dialect == DIALECT_R12;
	bool		done = told && operation->outcome != OUTCOME_NONE;
	bool		good = operation->outcome == OUTCOME_SUCCESS;
	char		id[48];

	operation_id(index, id);
	buf_format(out, "{\"operationId\":\"%s\",\"operation\":\"%s\",\"status\":\"%s\",\"%s\":{\"eid\":",
			   id, kind_names[operation->kind],
			   r12 ? (done ? "COMPLETED" : "ACCEPTED") :
			   !done ? "accepted" : good ? "completed" : "failed",
			   r12 ? "esimProfile" : "esim");
	buf_id(out, euicc_get(operation->euicc)->eid);
	/* release 1.2: the ICCID of a download is known when it has been installed */
	if (operation->profile != 0 && (!r12 || operation->kind != KIND_DOWNLOAD || (done && good)))
	{
		buf_text(out, ",\"iccid\":");
		buf_id(out, profile_get(operation->profile - 1)->iccid);
	}
	buf_text(out, "}");
	if (done)
	{
		buf_text(out, ",\"result\":{\"completedAt\":");
		buf_time(out, operation->completed_ms);
		buf_format(out, ",\"outcome\":\"%s\"", r12 ? (good ? "SUCCESS" : "FAILED") :
				   good ? "success" : "failed");
		if (!good)
			put_failure(out, operation, dialect);
		else if (r12 && operation->kind == KIND_DOWNLOAD)
		{
			buf_text(out, ",\"assignedIccid\":");
			buf_id(out, profile_get(operation->profile - 1)->iccid);
		}
		buf_text(out, "}");
	}
	buf_text(out, "}");
	request->content_type = "application/json";
}

static void
answer_accepted(Request *request, Dialect dialect, uint32_t index)
{
	request->status = 202;
	put_operation(request, dialect, index, false);
	if (dialect == DIALECT_R12)
	{
		const char *host = http_header(request, "Host");
		char		id[48];

		operation_id(index, id);
		if (host == NULL || strlen(host) > 100)
			host = "localhost";
		snprintf(request->location, sizeof(request->location),
				 "%s://%s/%s/esim-profile-management/vwip/operations/%s", request->base, host,
				 request->server->name, id);
	}
}

static void
not_found(Request *request, Dialect dialect, const char *message)
{
	/* 2026-02 has no 404 on the requests that change something */
	if (dialect == DIALECT_R12 || request->endpoint == ENDPOINT_STATUS)
		error_info(request, 404, "IDENTIFIER_NOT_FOUND", message);
	else
		error_info(request, 422, "SERVICE_NOT_APPLICABLE", message);
}

static bool
refuse_busy(Request *request, Euicc *euicc)
{
	if (!request->server->conflict_when_busy || euicc->pending == 0)
		return false;
	error_info(request, 409, "ABORTED", "Another operation of the eUICC is in progress.");
	return true;
}

static void
download(Request *request, Dialect dialect, CamaraBody *body)
{
	static const Id none = {0, 0};
	Euicc	   *euicc;
	uint32_t	euicc_index;
	Profile    *profile = NULL;
	uint32_t	profile_index = 0;
	Code	   *code = NULL;
	uint32_t	code_index = 0;
	uint32_t	last_ask;
	uint32_t	index;
	bool		repeat = false;

	euicc = euicc_seen(body->eid, &euicc_index);
	if (euicc == NULL)
	{
		not_found(request, dialect, "The EID is not known.");
		return;
	}
	if (refuse_busy(request, euicc))
		return;
	if (code_well_formed(body->activation_code))
	{
		Operation  *first;

		/* release 1.2 assigns the ICCID; one in the request is declared, but says nothing */
		code = code_lookup(body->activation_code, body->eid,
						   dialect == DIALECT_R12 ? none : body->iccid, &code_index);
		profile = profile_make(dialect == DIALECT_R12 ? code->iccid : body->iccid,
							   &profile_index);
		first = code->track.operation ? operation_get(code->track.operation - 1) : NULL;
		/* the same code for another eUICC is another request */
		if (first != NULL && first->euicc != euicc_index)
			first = NULL;
		last_ask = euicc->last_ask > profile->last_ask ? euicc->last_ask : profile->last_ask;
		repeat = ledger_request(KIND_DOWNLOAD, &code->track, first, last_ask, request,
								body->eid);
	}
	else if (dialect == DIALECT_2026_02)
		profile = profile_make(body->iccid, &profile_index);
	index = operation_accept(request, KIND_DOWNLOAD, dialect, euicc_index,
							 profile ? profile_index + 1 : 0, code ? code_index + 1 : 0,
							 body->activate, repeat);
	if (code != NULL)
		ledger_accepted(KIND_DOWNLOAD, &code->track, index, profile_index);
	camara_event_expect(index, request, request->json);
	euicc_drain(euicc_index);
	answer_accepted(request, dialect, index);
}

/* Enable, disable, delete, set-fallback: of an installed profile. */
static void
change(Request *request, Dialect dialect, Kind kind, CamaraBody *body)
{
	Euicc	   *euicc;
	Profile    *profile;
	Operation  *first;
	Track	   *track;
	uint32_t	index;
	uint32_t	profile_index;
	uint32_t	euicc_index;
	uint32_t	last_ask;
	bool		repeat;
	ProfileState needed = kind == KIND_DISABLE ? PROFILE_ENABLED : PROFILE_DISABLED;

	/* a repeat counts even when it is refused below */
	profile = profile_find(body->iccid, &profile_index);
	repeat = false;
	if (profile != NULL && profile->euicc != 0)
	{
		track = &profile->track[kind];
		first = track->operation ? operation_get(track->operation - 1) : NULL;
		last_ask = euicc_get(profile->euicc - 1)->last_ask;
		if (profile->last_ask > last_ask)
			last_ask = profile->last_ask;
		repeat = ledger_request(kind, track, first, last_ask, request, body->iccid);
	}
	profile = profile_seen(body->iccid, &profile_index);
	if (body->has_eid && euicc_seen(body->eid, &euicc_index) == NULL)
	{
		not_found(request, dialect, "The EID is not known.");
		return;
	}
	if (profile == NULL)
	{
		not_found(request, dialect, "The ICCID is not known.");
		return;
	}
	if (body->has_eid && profile->euicc != euicc_index + 1)
	{
		error_info(request, 422,
				   dialect == DIALECT_R12 ? "IDENTIFIER_MISMATCH" : "SERVICE_NOT_APPLICABLE",
				   "The provided ICCID is not associated with the provided EID.");
		return;
	}
	euicc = euicc_get(profile->euicc - 1);
	if (refuse_busy(request, euicc))
		return;
	if (dialect == DIALECT_R12 && profile->state != needed && !request->server->idempotent)
	{
		error_info(request, 409, "INCOMPATIBLE_STATE",
				   needed == PROFILE_ENABLED ? "The eSIM Profile must be ENABLED." :
				   "The eSIM Profile must be DISABLED.");
		return;
	}
	euicc_index = profile->euicc - 1;
	index = operation_accept(request, kind, dialect, euicc_index, profile_index + 1, 0, false,
							 repeat);
	ledger_accepted(kind, &profile->track[kind], index, profile_index);
	camara_event_expect(index, request, request->json);
	euicc_drain(euicc_index);
	answer_accepted(request, dialect, index);
}

static void
put_status(Buf *out, Profile *profile, Dialect dialect, bool first)
{
	bool		enabled = profile->state == PROFILE_ENABLED;

	buf_text(out, first ? "{\"eid\":" : ",{\"eid\":");
	buf_id(out, euicc_get(profile->euicc - 1)->eid);
	buf_text(out, ",\"iccid\":");
	buf_id(out, profile->iccid);
	buf_format(out, ",\"state\":\"%s\",\"isFallback\":%s}",
			   dialect == DIALECT_R12 ? (enabled ? "ENABLED" : "DISABLED") :
			   enabled ? "enabled" : "disabled",
			   profile->fallback ? "true" : "false");
}

static void
retrieve_status(Request *request, Dialect dialect, CamaraBody *body)
{
	Euicc	   *euicc = NULL;
	uint32_t	euicc_index = 0;
	Profile    *profile;
	uint32_t	index;
	uint32_t	next;

	/* an ask counts when its answer reaches the caller, be it a 404 */
	if (request->answered_plainly)
	{
		if (body->has_eid && (euicc = euicc_find(body->eid, &euicc_index)) != NULL)
			euicc->last_ask = ledger_tick();
		if (body->has_iccid && (profile = profile_find(body->iccid, &index)) != NULL)
			profile->last_ask = ledger_tick();
	}
	if (body->has_eid && (euicc = euicc_seen(body->eid, &euicc_index)) == NULL)
	{
		not_found(request, dialect, "The EID is not known.");
		return;
	}
	profile = NULL;
	if (body->has_iccid)
	{
		profile = profile_seen(body->iccid, &index);
		if (profile == NULL)
		{
			not_found(request, dialect, "The ICCID is not known.");
			return;
		}
		if (euicc != NULL && profile->euicc != euicc_index + 1)
		{
			if (dialect == DIALECT_R12)
				error_info(request, 422, "IDENTIFIER_MISMATCH",
						   "The provided ICCID is not associated with the provided EID.");
			else
				not_found(request, dialect, "The ICCID is not on the eUICC.");
			return;
		}
	}
	request->status = 200;
	request->content_type = "application/json";
	buf_format(&request->out, "{\"%s\":[", dialect == DIALECT_R12 ? "esimProfiles" : "esims");
	if (profile != NULL)
		put_status(&request->out, profile, dialect, true);
	else
		for (next = euicc->first_profile; next != 0; next = profile_get(next - 1)->next)
			put_status(&request->out, profile_get(next - 1), dialect,
					   next == euicc->first_profile);
	buf_text(&request->out, "]}");
}

static void
retrieve_operation(Request *request, Dialect dialect)
{
	const char *id = endpoint_path(dialect, request->path) + strlen("operations/");
	Operation  *operation;
	uint32_t	index;

	if (!camara_operation_id_valid(dialect, id))
	{
		error_info(request, 400, "INVALID_ARGUMENT", "The operation id is malformed.");
		return;
	}
	operation = operation_find(id, &index);
	if (operation == NULL || operation->server != request->server->index)
	{
		error_info(request, 404, "NOT_FOUND", "The specified resource is not found.");
		return;
	}
	if (request->answered_plainly)
	{
		if (operation->profile != 0)
			profile_get(operation->profile - 1)->last_ask = ledger_tick();
		if (operation->outcome != OUTCOME_NONE)
			operation->flags |= OPERATION_TOLD;
	}
	request->status = 200;
	put_operation(request, dialect, index, true);
}

static bool
is_json(const char *content_type)
{
	size_t		length = strlen("application/json");

	return content_type != NULL && strncasecmp(content_type, "application/json", length) == 0 &&
		(content_type[length] == '\0' || content_type[length] == ';' ||
		 content_type[length] == ' ');
}

static bool
accepts_json(const char *accept)
{
	return accept == NULL || strstr(accept, "application/json") != NULL ||
		strstr(accept, "*/*") != NULL || strstr(accept, "application/*") != NULL;
}

static void
handle(Request *request, Dialect dialect)
{
	bool		r12 = dialect == DIALECT_R12;
	const char *correlator = http_header(request, "x-correlator");
	CamaraBody	body;
	char		error[256];

	if (request->endpoint == ENDPOINT_NONE)
	{
		error_info(request, 404, "NOT_FOUND", "The specified resource is not found.");
		return;
	}
	if (strcmp(request->method, request->endpoint == ENDPOINT_OPERATION ? "GET" : "POST") != 0)
	{
		error_info(request, 405, "METHOD_NOT_ALLOWED",
				   "The requested method is not allowed/supported on the target resource.");
		return;
	}
	if (correlator != NULL)
	{
		if (camara_correlator_valid(dialect, correlator))
			request->correlator = correlator;
		else if (r12 || request->endpoint != ENDPOINT_STATUS)
		{
			/* 2026-02 does not declare the header on retrieve-status */
			error_info(request, 400, "INVALID_ARGUMENT", "x-correlator is malformed.");
			return;
		}
	}
	if (!token_check(request, r12 ? endpoints[request->endpoint].scope_r12 :
					 endpoints[request->endpoint].scope_2026))
		return;
	if (r12 && !accepts_json(http_header(request, "Accept")))
	{
		error_info(request, 406, "NOT_ACCEPTABLE", "The answer is application/json.");
		return;
	}
	if (request->endpoint == ENDPOINT_OPERATION)
	{
		retrieve_operation(request, dialect);
		return;
	}
	if (!is_json(http_header(request, "Content-Type")))
	{
		if (r12)
			error_info(request, 415, "UNSUPPORTED_MEDIA_TYPE",
					   "The content type must be application/json.");
		else
			error_info(request, 400, "INVALID_ARGUMENT",
					   "The content type must be application/json.");
		return;
	}
	if (request->json == NULL)
	{
		error_info(request, 400, "INVALID_ARGUMENT",
				   request->too_large ? "The body is too large." : "The body is no JSON.");
		return;
	}
	if (!camara_body_valid(dialect, request->endpoint, request->json, &body, error,
						   sizeof(error)))
	{
		error_info(request, 400, "INVALID_ARGUMENT", error);
		return;
	}
	if (request->endpoint == ENDPOINT_STATUS)
		retrieve_status(request, dialect, &body);
	else if (request->endpoint == KIND_DOWNLOAD)
		download(request, dialect, &body);
	else
		change(request, dialect, (Kind) request->endpoint, &body);
}

void
camara_2026_identify(Request *request)
{
	identify(request, DIALECT_2026_02);
}

void
camara_2026_handle(Request *request)
{
	handle(request, DIALECT_2026_02);
}

void
camara_r12_identify(Request *request)
{
	identify(request, DIALECT_R12);
}

void
camara_r12_handle(Request *request)
{
	handle(request, DIALECT_R12);
}
