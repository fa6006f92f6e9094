/*-------------------------------------------------------------------------
 *
 * camara.c
 *	  Driver of CAMARA's eSIM management APIs, in both dialects.
 *
 * 2026-02 is "eSIM Management" as first drafted (paths under /esim, body
 * member "esim", sink required), r1.2 "eSIM Profile Management" (body member
 * "esimProfile", strict bodies, polling only).  Requests are written to the
 * letter of the server's dialect; answers are read tolerantly, either dialect's
 * spelling is understood.
 *
 * An operation is one acting request (POST), or two: delete of an enabled
 * profile is disable and delete, and activate_on_download is download and
 * enable in r1.2, which has no such parameter.  Which one is under way stands
 * in the memo as "act".  Each is accepted with an operationId, which is then
 * polled.  Whenever it is not known what became of an acting request,
 * retrieve-status is asked and decides.
 *
 * What lasts from turn to turn is in the operation's flags (unresolved,
 * ask_first, rsp_operation_id) and in the memo:
 *
 *	act		name of the acting request that is under way, if it is not the
 *			operation's kind
 *	before	ICCIDs on the eUICC before a download that may bring any
 *	iccid	the ICCID that the download got
 *	told	the ICCID that the server says it got, if another than asked for
 *	known	the server has shown that it knows this eUICC
 *	lost	an earlier try of this act may have been carried out
 *	doubt	the operation resource is gone or says nothing of use
 *	disabled	the first half of a delete is done
 *	seen	what a list has shown once, and must show again to be believed
 *	since	when a lost request was noticed whose time of sending is not known
 *	refused	how the act was refused, while it is looked up whether its aim
 *			is reached nevertheless
 *
 * op->step only says which answer is awaited; begin() does not need it, so an
 * operation can be taken up after a crash at any point.  Where something has
 * been done, or may have been, a wait leaves it other than 0: that is not
 * cancelled any more.
 *
 *-------------------------------------------------------------------------
 */
#include "driver.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "../identifier/activation_code.h"

#define POLL_BASE_MS	INT64_C(1000)
#define POLL_MAX_MS		INT64_C(300000)
#define QUOTA_MS		INT64_C(900000)

/* polls without sense in a row, after which retrieve-status is tried too */
#define PEEK_AFTER		3

#define MAX_ACTIVATION_CODE 256 /* r1.2, DownloadEsimProfileRequest, with LPA: */
#define MAX_OPERATION_ID 64		/* r1.2, ESimProfileResponse */
#define MAX_CORRELATOR	256		/* XCorrelator */

/* which answer is awaited */
typedef enum CamaraStep
{
	STEP_ACT,					/* of an acting request, or none.  0: so that the queue's row
								 * need not be written before a first request */
	STEP_POLL,					/* of GET operations/{operationId} */
	/* of retrieve-status, and what it is asked for: */
	STEP_REFRESH,				/* the operation is a refresh */
	STEP_BEFORE,				/* what is there before a download */
	STEP_DELETE_WHICH,			/* must it be disabled before it is deleted */
	STEP_LOST,					/* what became of an acting request */
	STEP_REFUSED,				/* is the aim of a refused one reached already */
	STEP_ASSIGNED,				/* which profile did the download bring */
	STEP_PEEK					/* is the aim reached of one whose polls fail */
} CamaraStep;

typedef enum ListResult
{
	LIST_READ,					/* it is there */
	LIST_NOBODY,				/* the server does not know the eUICC */
	LIST_DENIED,				/* the server will not tell */
	LIST_UNREADABLE,			/* answered without sense */
	LIST_WAIT					/* not now; the action is set */
} ListResult;

/* ----- what statuses and codes mean ----- */

typedef enum Meaning
{
	M_FINAL,					/* nothing was done, and it will not be otherwise */
	M_STATE,					/* not done because of the state: the aim may be reached
								 * already */
	M_UNTOLD,					/* M_STATE in 2026-02, which has neither 404 nor 409 to say so;
								 * M_FINAL in r1.2 */
	M_ABSENT,					/* not done because the profile or the eUICC is not known:
								 * the aim of a delete may be reached already */
	M_RETRY,					/* not processed, try later */
	M_BUSY,						/* not processed, the server as a whole has trouble */
	M_QUOTA,					/* not processed, and not soon */
	M_CREDENTIALS,				/* not processed for want of credentials */
	M_UNKNOWN					/* may have been processed: ask */
} Meaning;

typedef struct CamaraRow
{
	int			status;
	const char *code;			/* NULL: any other code, or none */
	Meaning		post;			/* of an acting request */
	Meaning		get;			/* of one that only asks: retrieve-status and GET
								 * operations/{operationId} */
	const char *error_code;		/* ours for "any other code" */
} CamaraRow;

/*
 * Every status and code of CAMARA_common.yaml (Commonalities 0.8.0), and the
 * statuses that gateways in between give of their own.
 *
 * 401 is not final: it says nothing about the operation, and credentials that
 * were not renewed in time would otherwise fail everything that is queued
 * overnight.  The operation is parked; it is tried again by itself at long
 * intervals, since the fault may as well lie with the server.
 *
 * 403 is final: CAMARA uses it for what this client may not do with this
 * device as well, and no retry alters that.
 *
 * 503 with CAMARA's code comes from the API itself, which did not take the
 * request; without, it may come from a gateway that lost the connection
 * behind it after the request was passed on.
 */
static const CamaraRow camara_rows[] = {
	{400, "INVALID_ARGUMENT", M_FINAL, M_FINAL, NULL},
	{400, "OUT_OF_RANGE", M_FINAL, M_FINAL, NULL},
	{400, NULL, M_FINAL, M_FINAL, "INVALID_ARGUMENT"},
	{401, "UNAUTHENTICATED", M_CREDENTIALS, M_CREDENTIALS, NULL},
	{401, NULL, M_CREDENTIALS, M_CREDENTIALS, "UNAUTHENTICATED"},
	{403, "PERMISSION_DENIED", M_FINAL, M_FINAL, NULL},
	{403, "INVALID_TOKEN_CONTEXT", M_FINAL, M_FINAL, NULL},
	{403, NULL, M_FINAL, M_FINAL, "PERMISSION_DENIED"},
	{404, "NOT_FOUND", M_ABSENT, M_FINAL, NULL},
	{404, "IDENTIFIER_NOT_FOUND", M_ABSENT, M_ABSENT, NULL},
	{404, NULL, M_FINAL, M_FINAL, "NOT_FOUND"},
	{405, "METHOD_NOT_ALLOWED", M_FINAL, M_FINAL, NULL},
	{405, NULL, M_FINAL, M_FINAL, "METHOD_NOT_ALLOWED"},
	{406, "NOT_ACCEPTABLE", M_FINAL, M_FINAL, NULL},
	{406, NULL, M_FINAL, M_FINAL, "NOT_ACCEPTABLE"},
	{407, NULL, M_CREDENTIALS, M_CREDENTIALS, "UNAUTHENTICATED"},
	{408, NULL, M_RETRY, M_RETRY, "TIMEOUT"},
	{409, "ABORTED", M_RETRY, M_RETRY, NULL},
	{409, "ALREADY_EXISTS", M_STATE, M_FINAL, NULL},
	{409, "CONFLICT", M_STATE, M_FINAL, NULL},
	{409, "INCOMPATIBLE_STATE", M_STATE, M_FINAL, NULL},
	{409, NULL, M_STATE, M_FINAL, "INCOMPATIBLE_STATE"},
	{410, "GONE", M_ABSENT, M_FINAL, NULL},
	{410, NULL, M_ABSENT, M_FINAL, "GONE"},
	{412, "FAILED_PRECONDITION", M_STATE, M_FINAL, NULL},
	{412, NULL, M_STATE, M_FINAL, "FAILED_PRECONDITION"},
	{415, "UNSUPPORTED_MEDIA_TYPE", M_FINAL, M_FINAL, NULL},
	{415, NULL, M_FINAL, M_FINAL, "UNSUPPORTED_MEDIA_TYPE"},
	{422, "SERVICE_NOT_APPLICABLE", M_UNTOLD, M_FINAL, NULL},
	{422, "MISSING_IDENTIFIER", M_FINAL, M_FINAL, NULL},
	{422, "UNSUPPORTED_IDENTIFIER", M_FINAL, M_FINAL, NULL},
	{422, "UNNECESSARY_IDENTIFIER", M_FINAL, M_FINAL, NULL},
	{422, "IDENTIFIER_MISMATCH", M_FINAL, M_FINAL, NULL},
	{422, NULL, M_UNTOLD, M_FINAL, "SERVICE_NOT_APPLICABLE"},
	{425, NULL, M_RETRY, M_RETRY, "UNAVAILABLE"},
	{429, "QUOTA_EXCEEDED", M_QUOTA, M_QUOTA, NULL},
	{429, "TOO_MANY_REQUESTS", M_RETRY, M_RETRY, NULL},
	{429, NULL, M_RETRY, M_RETRY, "TOO_MANY_REQUESTS"},
	{500, "INTERNAL", M_UNKNOWN, M_BUSY, NULL},
	{500, NULL, M_UNKNOWN, M_BUSY, "INTERNAL"},
	{501, "NOT_IMPLEMENTED", M_FINAL, M_FINAL, NULL},
	{501, NULL, M_FINAL, M_FINAL, "NOT_IMPLEMENTED"},
	{502, "BAD_GATEWAY", M_UNKNOWN, M_BUSY, NULL},
	{502, NULL, M_UNKNOWN, M_BUSY, "BAD_GATEWAY"},
	{503, "UNAVAILABLE", M_BUSY, M_BUSY, NULL},
	{503, NULL, M_UNKNOWN, M_BUSY, "UNAVAILABLE"},
	{504, "TIMEOUT", M_UNKNOWN, M_BUSY, NULL},
	{504, NULL, M_UNKNOWN, M_BUSY, "TIMEOUT"}
};

/* statuses that the table does not have, by their class */
static const CamaraRow camara_other_4xx = {0, NULL, M_FINAL, M_FINAL, "INVALID_ARGUMENT"};
static const CamaraRow camara_other_5xx = {0, NULL, M_UNKNOWN, M_BUSY, "INTERNAL"};
static const CamaraRow camara_other = {0, NULL, M_UNKNOWN, M_RETRY, "INTERNAL"};

/*
 * Codes of failures behind a 202 that are not CAMARA's own.  2026-02 has no
 * 409, states are told of in this way.
 */
static const struct
{
	const char *code;
	const char *error_code;
}			camara_aliases[] = {
	{"ESIM_NOT_ENABLED", "INCOMPATIBLE_STATE"},
	{"ESIM_NOT_DISABLED", "INCOMPATIBLE_STATE"},
	{"ESIM_ALREADY_ENABLED", "INCOMPATIBLE_STATE"},
	{"ESIM_ALREADY_DISABLED", "INCOMPATIBLE_STATE"},
	{"ESIM_NOT_FOUND", "IDENTIFIER_NOT_FOUND"}
};

/* An error as the server tells it: ErrorInfo. */
typedef struct CamaraError
{
	int			status;			/* 0: not said */
	char		code[128];
	char		message[512];
} CamaraError;

static const CamaraRow *
row_of_code(const char *code)
{
	size_t		i;

	for (i = 0; i < lengthof(camara_rows); i++)
	{
		if (camara_rows[i].code != NULL && strcmp(camara_rows[i].code, code) == 0)
			return &camara_rows[i];
	}
	return NULL;
}

/*
 * The row for an answer.  A code that stands beside another 4xx status than
 * CAMARA's still means what it says: no 4xx was processed, so there is no
 * harm in it.
 */
static const CamaraRow *
row_of(int status, const char *code)
{
	const CamaraRow *by_status = NULL;
	const CamaraRow *by_code;
	size_t		i;

	for (i = 0; i < lengthof(camara_rows); i++)
	{
		if (camara_rows[i].status != status)
			continue;
		if (camara_rows[i].code == NULL)
			by_status = &camara_rows[i];
		else if (strcmp(camara_rows[i].code, code) == 0)
			return &camara_rows[i];
	}
	if (status >= 400 && status < 500)
	{
		by_code = row_of_code(code);
		if (by_code != NULL && by_code->status < 500)
			return by_code;
	}
	if (by_status != NULL)
		return by_status;
	if (status >= 400 && status < 500)
		return &camara_other_4xx;
	if (status >= 500 && status < 600)
		return &camara_other_5xx;
	return &camara_other;
}

/*
 * Is it worth asking whether the aim of a refused act is reached already?  Of
 * a delete that disables first it may be, too, in its first half.
 */
static bool
worth_verifying(const RspConversation *c, RspKind act, Meaning meaning)
{
	switch (meaning)
	{
		case M_STATE:
			return true;
		case M_UNTOLD:
			return c->server->dialect == RSP_DIALECT_2026_02 && act != RSP_DOWNLOAD;
		case M_ABSENT:
			return c->op->kind == RSP_DELETE;
		default:
			return false;
	}
}

static const char *
row_error_code(const CamaraRow *row)
{
	return row->code != NULL ? row->code : row->error_code;
}

/* ----- small things ----- */

/* CAMARA's pattern; 89 is what E.118 gives to telecommunications */
static bool
valid_iccid(const char *text)
{
	return rsp_is_iccid(text) && strlen(text) >= 19;
}

/*
 * An operationId goes into a path.  What the patterns allow needs no escaping
 * there; "." and ".." fit r1.2's pattern too but would name another resource.
 */
static bool
valid_operation_id(RspDialect dialect, const char *text)
{
	size_t		n;

	if (text == NULL)
		return false;
	if (dialect == RSP_DIALECT_2026_02)
		return rsp_is_uuid(text);
	n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_:.");
	return n > 0 && n <= MAX_OPERATION_ID && text[n] == '\0' &&
		strcmp(text, ".") != 0 && strcmp(text, "..") != 0;
}

static bool
valid_correlator(const char *text)
{
	size_t		n;

	if (text == NULL)
		return false;
	n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_:;./<>{}");
	return n > 0 && n <= MAX_CORRELATOR && text[n] == '\0';
}

static bool
is_2026_02(const RspConversation *c)
{
	return c->server->dialect == RSP_DIALECT_2026_02;
}

/* ----- which acting request is under way ----- */

static RspKind
act_of(const RspOperation *op)
{
	const char *name = rsp_memo_text(op, "act");
	RspKind		act;

	if (name == NULL || !rsp_kind_from_name(name, &act))
		return op->kind;
	if (act == op->kind ||
		(op->kind == RSP_DELETE && act == RSP_DISABLE) ||
		(op->kind == RSP_DOWNLOAD && act == RSP_ENABLE))
		return act;
	return op->kind;
}

static bool
set_act(RspOperation *op, RspKind act)
{
	return rsp_memo_set_text(op, "act", rsp_kind_name(act));
}

/* ICCID that the acting request is about; NULL: a download's that is not known */
static const char *
target(const RspOperation *op)
{
	const char *iccid;

	if (op->kind == RSP_DOWNLOAD && act_of(op) == RSP_ENABLE)
	{
		iccid = rsp_memo_text(op, "iccid");
		return valid_iccid(iccid) ? iccid : op->iccid;
	}
	return op->iccid;
}

/* activate_on_download is a parameter of 2026-02 only */
static bool
activates_itself(const RspConversation *c)
{
	return c->op->kind == RSP_DOWNLOAD && c->op->activate_on_download && is_2026_02(c);
}

/*
 * r1.2 sends no ICCID, the activation code tells which profile is meant; one
 * without a MatchingID leaves it to the SM-DP+.
 */
static bool
is_theirs_to_choose(const RspConversation *c)
{
	ActivationCode code;
	ActivationCodeError error;
	const char *text = c->op->activation_code;

	if (act_of(c->op) != RSP_DOWNLOAD || is_2026_02(c))
		return false;
	return c->op->iccid == NULL ||
		(text != NULL && activation_code_parse(text, strlen(text), &code, &error) &&
		 code.matching_id.length == 0);
}

/* ----- supports, check, state_allowed ----- */

static bool
camara_supports(RspDialect dialect, RspKind kind, const char **note)
{
	const char *text = "";
	bool		can = false;

	switch (kind)
	{
		case RSP_DOWNLOAD:
			can = true;
			text = dialect == RSP_DIALECT_2026_02 ?
				"the ICCID is required" :
				"activate_on_download enables the profile with a second request";
			break;
		case RSP_ENABLE:
		case RSP_DISABLE:
		case RSP_SET_FALLBACK:
		case RSP_REFRESH:
			can = true;
			break;
		case RSP_DELETE:
			can = true;
			text = "an enabled profile is disabled first";
			break;
		case RSP_UNSET_FALLBACK:
			text = "CAMARA has no operation that takes the fallback attribute away";
			break;
		case RSP_SYNC:
			text = "CAMARA lists the profiles of one eUICC at a time: use refresh";
			break;
		case RSP_RESERVE:
		case RSP_RELEASE:
		case RSP_CANCEL_ORDER:
			text = "CAMARA has no operations for the procurement of profiles";
			break;
		case RSP_SET_SUBSCRIPTION:
		case RSP_ASSIGN_FLEET:
		case RSP_FLEET_CREATE:
			text = "CAMARA's eSIM APIs do not manage subscriptions";
			break;
		case RSP_KIND_COUNT:
			break;
	}
	if (note != NULL)
		*note = text;
	return can;
}

static bool
check_iccid(const RspOperation *op, RspError *error)
{
	if (op->iccid == NULL || valid_iccid(op->iccid))
		return true;
	if (rsp_digits(op->iccid, 18, 18))
		return rsp_refuse(error, "UNSUPPORTED_IDENTIFIER",
						  "ICCID of 18 digits cannot be used with protocol camara",
						  "CAMARA takes ICCIDs of 19 or 20 digits.",
						  "Use a server of another protocol for this profile.");
	return rsp_refuse(error, "UNSUPPORTED_IDENTIFIER",
					  "ICCID cannot be used with protocol camara",
					  "CAMARA takes ICCIDs of 19 or 20 digits.", "");
}

/*
 * What can be known without the device: the identifiers and the activation
 * code fit the schemas of the dialect's requests.
 */
static bool
camara_check(const RspServer *server, const RspOperation *op, RspError *error)
{
	ActivationCode code;
	ActivationCodeError code_error;

	switch (op->kind)
	{
		case RSP_REFRESH:
			if (!rsp_is_eid(op->eid))
				return rsp_refuse(error, "MISSING_IDENTIFIER", "no EID is given", "",
								  "Give the EID.");
			return true;

		case RSP_ENABLE:
		case RSP_DISABLE:
		case RSP_DELETE:
		case RSP_SET_FALLBACK:
			if (op->iccid == NULL)
				return rsp_refuse(error, "MISSING_IDENTIFIER",
								  "the profile's ICCID is not known",
								  "CAMARA identifies profiles by their ICCID.",
								  "Give the ICCID, or ask for a refresh of the device.");
			return check_iccid(op, error);

		case RSP_DOWNLOAD:
			if (!rsp_is_eid(op->eid))
				return rsp_refuse(error, "MISSING_IDENTIFIER", "no EID is given", "",
								  "Give the EID.");
			if (op->iccid == NULL && server->dialect == RSP_DIALECT_2026_02)
				return rsp_refuse(error, "MISSING_IDENTIFIER", "no ICCID is given",
								  "CAMARA's dialect 2026-02 requires the ICCID of a download.",
								  "Give the ICCID.");
			if (!check_iccid(op, error))
				return false;
			if (op->activation_code == NULL)
				return rsp_refuse(error, "MISSING_IDENTIFIER", "no activation code is given",
								  "CAMARA requires the activation code of a download.",
								  "Give the activation code, set it in the profile's row, "
								  "or set the server option smdp_address.");
			if (!activation_code_parse(op->activation_code, strlen(op->activation_code),
									   &code, &code_error))
				return rsp_refuse(error, "INVALID_ARGUMENT", "activation code is not valid", "",
								  "");
			if (code.confirmation_required || op->confirmation_code != NULL)
				return rsp_refuse(error, "SERVICE_NOT_APPLICABLE",
								  "confirmation codes cannot be used with protocol camara",
								  "CAMARA has no field for the confirmation code.",
								  "Use a server of another protocol for this profile.");
			if (server->dialect == RSP_DIALECT_R1_2 &&
				strlen(ACTIVATION_CODE_LPA) + code.length > MAX_ACTIVATION_CODE)
				return rsp_refuse(error, "INVALID_ARGUMENT", "activation code is too long",
								  "CAMARA takes at most 256 characters, LPA: included.", "");
			return true;

		default:
			return rsp_refuse(error, "SERVICE_NOT_APPLICABLE",
							  "protocol camara has no such operation", "",
							  "esim_capabilities() says what a server can do.");
	}
}

static bool
camara_state_allowed(RspKind kind, RspState state)
{
	switch (kind)
	{
		case RSP_DOWNLOAD:
			return state == RSP_STATE_NONE || state == RSP_STATE_RESERVING ||
				state == RSP_STATE_RESERVED || state == RSP_STATE_RELEASED ||
				state == RSP_STATE_DELETED;
		case RSP_ENABLE:
		case RSP_SET_FALLBACK:
			return state == RSP_STATE_DISABLED || state == RSP_STATE_INSTALLED;
		case RSP_DISABLE:
			return state == RSP_STATE_ENABLED || state == RSP_STATE_INSTALLED;
		case RSP_DELETE:
			return state == RSP_STATE_DISABLED || state == RSP_STATE_INSTALLED ||
				state == RSP_STATE_ENABLED;
		case RSP_REFRESH:
			return true;
		default:
			return false;
	}
}

/* ----- requests ----- */

/* op->correlator where CAMARA's pattern lets it through, else our operation's
 * id; also what esim_attempt shows */
static void
correlate(RspConversation *c)
{
	const RspOperation *op = c->op;
	const char *value = valid_correlator(op->correlator) ? op->correlator : op->id;

	rsp_header(c, "x-correlator", value);
	rsp_set(c->action.call_id, sizeof(c->action.call_id), value);
	if (c->action.body != NULL && c->action.content_type == NULL)
		c->action.content_type = "application/json";
}

static const char *
prefix(const RspConversation *c)
{
	return is_2026_02(c) ? "/esim" : "";
}

static const char *
body_member(const RspConversation *c)
{
	return is_2026_02(c) ? "esim" : "esimProfile";
}

/*
 * Body of an acting request, to the letter of its schema: r1.2 refuses
 * properties that it does not know.  The EID is sent with the ICCID where it is
 * known, so that the server can check that they belong together.  In 2026-02
 * the sink is never the user's: esim sends its own event to that.
 */
static json_t *
act_body(const RspConversation *c, RspKind act)
{
	const RspOperation *op = c->op;
	json_t	   *body = json_object();
	json_t	   *who = json_object();
	const char *iccid = target(op);
	bool		download = act == RSP_DOWNLOAD;
	bool		ok = body != NULL && who != NULL;

	if (ok && op->eid != NULL)
		ok = rsp_json_put(who, "eid", json_string(op->eid));
	if (ok && iccid != NULL && (!download || is_2026_02(c)))
		ok = rsp_json_put(who, "iccid", json_string(iccid));
	if (ok)
	{
		ok = rsp_json_put(body, body_member(c), who);
		who = NULL;
	}
	if (ok && download)
		ok = rsp_json_put(body, "activationCode",
						  json_sprintf("%s%s", ACTIVATION_CODE_LPA, op->activation_code));
	if (ok && is_2026_02(c))
	{
		const char *sink = c->server->event_url;

		if (download)
			ok = rsp_json_put(body, "activateOnDownload", json_boolean(op->activate_on_download));
		ok = ok && rsp_json_put(body, "sink", json_string(sink != NULL ? sink : "https://sink.invalid/"));
		ok = ok && rsp_json_put(body, "correlationId", json_string(op->id));
	}
	if (ok)
		return body;
	json_decref(who);
	json_decref(body);
	return NULL;
}

static void
send_act(RspConversation *c)
{
	RspOperation *op = c->op;
	RspKind		act = act_of(op);
	char		path[64];
	json_t	   *body = act_body(c, act);

	if (body == NULL)
	{
		rsp_no_memory(c);
		return;
	}
	op->rsp_operation_id[0] = '\0';
	op->step = STEP_ACT;
	snprintf(path, sizeof(path), "%s/%s", prefix(c), rsp_kind_name(act));
	rsp_send(c, "POST", path, body);
	correlate(c);
}

static void
poll_operation(RspConversation *c)
{
	RspOperation *op = c->op;
	char		path[64 + MAX_OPERATION_ID];

	op->step = STEP_POLL;
	snprintf(path, sizeof(path), "%s/operations/%.*s", prefix(c), MAX_OPERATION_ID,
			 op->rsp_operation_id);
	rsp_ask(c, "GET", path, NULL);
	correlate(c);
}

/* Ask retrieve-status: by EID, so that all of the eUICC is seen. */
static void
look(RspConversation *c, CamaraStep step)
{
	RspOperation *op = c->op;
	char		path[64];
	bool		by_eid = op->eid != NULL;
	json_t	   *body = json_object();
	json_t	   *who = json_object();
	bool		ok = body != NULL && who != NULL;

	if (ok)
		ok = rsp_json_put(who, by_eid ? "eid" : "iccid", json_string(by_eid ? op->eid : target(op)));
	if (ok)
	{
		ok = rsp_json_put(body, body_member(c), who);
		who = NULL;
	}
	if (!ok)
	{
		json_decref(who);
		json_decref(body);
		rsp_no_memory(c);
		return;
	}
	op->step = step;
	snprintf(path, sizeof(path), "%s/retrieve-status", prefix(c));
	rsp_ask(c, "POST", path, body);
	correlate(c);
}

/*
 * Go on with the acting request that is next: send it, or ask what must be
 * known before.
 */
static void
act(RspConversation *c)
{
	RspOperation *op = c->op;

	if (op->unresolved || op->ask_first)
		look(c, STEP_LOST);
	else if (op->kind == RSP_DELETE && rsp_memo_text(op, "act") == NULL && op->eid != NULL &&
			 (op->state == RSP_STATE_INSTALLED || op->state == RSP_STATE_NONE))
		look(c, STEP_DELETE_WHICH);
	else if (is_theirs_to_choose(c) && json_object_get(op->memo, "before") == NULL)
		look(c, STEP_BEFORE);
	else
		send_act(c);
}

/* ----- endings and waits ----- */

/* This act is settled, the next one (if any) begins from nothing. */
static void
forget_act(RspOperation *op)
{
	op->unresolved = false;
	op->rsp_operation_id[0] = '\0';
	op->polls = 0;
	op->failures = 0;
	rsp_memo_clear(op, "lost");
	rsp_memo_clear(op, "doubt");
	rsp_memo_clear_refusal(op);
	rsp_memo_clear(op, "since");
	rsp_memo_clear(op, "seen");
}

/*
 * Fail, and tell what the operation has done nevertheless: the first half of
 * one that takes two acting requests.
 */
static void
fail(RspConversation *c, const char *code, const char *message, const char *rsp_code,
	 const char *rsp_message)
{
	RspOperation *op = c->op;
	const char *iccid = rsp_memo_text(op, "iccid");

	op->step = STEP_ACT;
	rsp_fail(c, code, message);
	if ((rsp_code != NULL && rsp_code[0] != '\0') ||
		(rsp_message != NULL && rsp_message[0] != '\0'))
		rsp_said(c, rsp_code, rsp_message);
	if (op->kind == RSP_DELETE && rsp_memo_flag(op, "disabled"))
	{
		c->action.profile_state_set = true;
		c->action.state = RSP_STATE_DISABLED;
	}
	else if (op->kind == RSP_DOWNLOAD && act_of(op) == RSP_ENABLE)
	{
		c->action.profile_state_set = true;
		c->action.state = RSP_STATE_DISABLED;
		if (valid_iccid(iccid) && (op->iccid == NULL || strcmp(iccid, op->iccid) != 0))
			rsp_set(c->action.iccid, sizeof(c->action.iccid), iccid);
	}
}

/* The whole operation has succeeded. */
static void
finish(RspConversation *c)
{
	RspOperation *op = c->op;
	const char *iccid = rsp_memo_text(op, "iccid");

	op->step = STEP_ACT;
	op->ask_first = false;
	rsp_done(c);
	if (op->kind != RSP_DOWNLOAD)
		return;
	if (op->activate_on_download)
	{
		c->action.profile_state_set = true;
		c->action.state = RSP_STATE_ENABLED;
	}
	if (!valid_iccid(iccid))
	{
		if (op->iccid == NULL)
			rsp_set(c->action.message, sizeof(c->action.message),
					"the server did not say which ICCID was assigned");
		return;
	}
	if (op->iccid == NULL || strcmp(iccid, op->iccid) != 0)
		rsp_set(c->action.iccid, sizeof(c->action.iccid), iccid);
	if (op->iccid != NULL && strcmp(iccid, op->iccid) != 0)
	{
		rsp_set(c->action.message, sizeof(c->action.message),
				"the server assigned another ICCID than the one asked for");
		rsp_note(c, "completed", c->action.message);
	}
}

/* The acting request that was under way has had its effect. */
static void
act_done(RspConversation *c)
{
	RspOperation *op = c->op;
	RspKind		done = act_of(op);

	forget_act(op);
	if (op->kind == RSP_DELETE && done == RSP_DISABLE)
	{
		if (!set_act(op, RSP_DELETE) || !rsp_memo_set_flag(op, "disabled"))
			rsp_no_memory(c);
		else
			act(c);
	}
	else if (done == RSP_DOWNLOAD && op->activate_on_download && !is_2026_02(c))
	{
		if (!set_act(op, RSP_ENABLE))
			rsp_no_memory(c);
		else if (target(op) == NULL)
			fail(c, "MISSING_IDENTIFIER",
				 "the profile was downloaded but not enabled: its ICCID is not known", NULL,
				 NULL);
		else
			act(c);
	}
	else
		finish(c);
}

static void
later_unresolved(RspConversation *c, const HttpAnswer *answer, const char *message)
{
	c->op->unresolved = true;
	rsp_later(c, answer, false, "", message);
}

/* Nobody knows what became of the acting request: ask. */
static void
lost(RspConversation *c)
{
	RspOperation *op = c->op;

	op->unresolved = true;
	op->polls = 0;
	rsp_memo_set_flag(op, "lost");
	look(c, STEP_LOST);
}

/*
 * The acting request was not carried out, says the server.  verify: that may
 * be because its aim is reached already.  It may be so as well if an earlier
 * try was lost.
 */
static void
refused(RspConversation *c, bool verify, const char *code, const char *message,
		const char *rsp_code, const char *rsp_message)
{
	RspOperation *op = c->op;

	op->unresolved = false;
	if (verify || rsp_memo_flag(op, "lost"))
	{
		if (rsp_memo_set_refusal(op, code, message, rsp_code, rsp_message))
		{
			op->failures = 0;
			look(c, STEP_REFUSED);
			return;
		}
	}
	fail(c, code, message, rsp_code, rsp_message);
}

/* ----- answers in general ----- */

static void
read_error(const json_t *root, CamaraError *error)
{
	const json_t *object = root;
	const json_t *inner;
	const json_t *status;

	memset(error, 0, sizeof(*error));
	if (!json_is_object(root))
		return;
	inner = json_object_get(root, "error");
	if (json_is_object(inner))
		object = inner;
	rsp_set(error->code, sizeof(error->code), rsp_json_string(object, "code", 2048));
	rsp_set(error->message, sizeof(error->message), rsp_json_string(object, "message", 8192));
	status = json_object_get(object, "status");
	if (json_is_integer(status) && json_integer_value(status) >= 100 &&
		json_integer_value(status) <= 599)
		error->status = (int) json_integer_value(status);
}

static void
answer_error(const HttpAnswer *answer, CamaraError *error)
{
	const char *reason;
	json_t	   *root = rsp_answer_json(answer, &reason);

	read_error(root, error);
	json_decref(root);
}

/* Meanings that say "not now", alike for all requests.  false: none of them. */
static bool
not_now(RspConversation *c, const HttpAnswer *answer, Meaning meaning, const CamaraRow *row,
		const CamaraError *error)
{
	const char *code = row_error_code(row);
	RspOperation *op = c->op;
	int64_t		delay;

	switch (meaning)
	{
		case M_RETRY:
			rsp_note(c, "try-later", code);
			rsp_later(c, answer, false, code, "the server asks to try again later");
			break;
		case M_BUSY:
			rsp_note(c, "try-later", code);
			rsp_later(c, answer, true, code, "the server has trouble");
			break;
		case M_QUOTA:
			rsp_note(c, "try-later", code);
			delay = rsp_retry_delay(op, answer, QUOTA_MS, QUOTA_MS);
			op->step = STEP_ACT;
			rsp_wait(c, op->unresolved ? RSP_PHASE_UNKNOWN : RSP_PHASE_RETRYING, delay, code,
					 "the quota at the server is used up");
			break;
		case M_CREDENTIALS:
			rsp_note(c, "unauthenticated", code);
			rsp_parked(c, answer, code, "the server does not accept the credentials");
			break;
		default:
			return false;
	}
	if (error->code[0] != '\0' || error->message[0] != '\0')
		rsp_said(c, error->code, error->message);
	return true;
}

/* ----- an operation as the server tells it ----- */

typedef enum OpStatus
{
	OP_ACCEPTED,				/* and whatever else is not an end */
	OP_SUCCESS,
	OP_FAILED,
	OP_CANCELLED,
	OP_DOUBTFUL					/* ended, but does not say how, or says both */
} OpStatus;

typedef struct CamaraOperation
{
	char		id[MAX_OPERATION_ID + 1];
	OpStatus	status;
	char		iccid[21];		/* "" if not said */
	CamaraError error;			/* of OP_FAILED, OP_CANCELLED */
} CamaraOperation;

/* true: member is absent, null, or an object that is put into *value */
static bool
optional_object(const json_t *object, const char *key, const json_t **value)
{
	*value = json_object_get(object, key);
	if (*value == NULL || json_is_null(*value))
	{
		*value = NULL;
		return true;
	}
	return json_is_object(*value);
}

static bool
is_word(const char *text, const char *word)
{
	return text != NULL && strcasecmp(text, word) == 0;
}

static bool
is_cancelled(const char *text)
{
	return is_word(text, "cancelled") || is_word(text, "canceled");
}

/*
 * Reads ESimResponse of 2026-02, ESimProfileResponse of r1.2.  false: it has
 * not the shape, or is about something else than what was asked for; why says
 * what.  An answer about another eUICC, profile or kind is never believed.
 */
static bool
read_operation(const RspConversation *c, const json_t *root, CamaraOperation *out,
			   const char **why)
{
	const RspOperation *op = c->op;
	RspKind		act = act_of(op);
	const char *expected = target(op);
	const char *text;
	const char *outcome;
	const char *reason;
	const json_t *who;
	const json_t *result;
	const json_t *error;
	bool		ended;
	bool		good;
	bool		bad;

	memset(out, 0, sizeof(*out));
	*why = "the answer is not an operation";
	if (!json_is_object(root))
		return false;
	text = rsp_json_string(root, "operationId", 256);
	if (!valid_operation_id(c->server->dialect, text))
	{
		*why = "the answer has no valid operationId";
		return false;
	}
	rsp_set(out->id, sizeof(out->id), text);

	if (!rsp_json_optional(root, "operation", 64, &text))
		return false;
	if (text != NULL && strcasecmp(text, rsp_kind_name(act)) != 0)
	{
		*why = "the answer is about another kind of operation";
		return false;
	}

	if (!optional_object(root, "esimProfile", &who) ||
		(who == NULL && !optional_object(root, "esim", &who)))
		return false;
	if (who != NULL)
	{
		if (!rsp_json_optional(who, "eid", 32, &text))
			return false;
		if (text != NULL && op->eid != NULL && strcmp(text, op->eid) != 0)
		{
			*why = "the answer is about another eUICC";
			return false;
		}
		if (!rsp_json_optional(who, "iccid", 20, &text))
			return false;
		if (text != NULL)
		{
			/* only a download may bring a profile of another ICCID */
			if (!valid_iccid(text) ||
				(act != RSP_DOWNLOAD && expected != NULL && strcmp(text, expected) != 0))
			{
				*why = "the answer is about another profile";
				return false;
			}
			rsp_set(out->iccid, sizeof(out->iccid), text);
		}
	}

	text = rsp_json_string(root, "status", 64);
	if (text == NULL || !optional_object(root, "result", &result) ||
		!optional_object(root, "error", &error))
		return false;
	ended = is_word(text, "COMPLETED") || is_word(text, "FAILED") || is_cancelled(text);
	if (!ended)
	{
		out->status = OP_ACCEPTED;
		return true;
	}

	outcome = NULL;
	reason = NULL;
	if (result != NULL)
	{
		const char *assigned;

		if (!rsp_json_optional(result, "outcome", 64, &outcome) ||
			!rsp_json_optional(result, "failureReason", 8192, &reason) ||
			!rsp_json_optional(result, "assignedIccid", 20, &assigned))
			return false;
		if (assigned != NULL)
		{
			if (!valid_iccid(assigned))
			{
				*why = "the answer is about another profile";
				return false;
			}
			if (act == RSP_DOWNLOAD)
				rsp_set(out->iccid, sizeof(out->iccid), assigned);
		}
		if (error == NULL && !optional_object(result, "error", &error))
			return false;
	}

	good = is_word(outcome, "SUCCESS");
	bad = is_word(text, "FAILED") || is_word(outcome, "FAILED") ||
		is_word(outcome, "FAILURE") || error != NULL;
	if (is_cancelled(text) || is_cancelled(outcome) || (bad && is_cancelled(reason)))
		out->status = good ? OP_DOUBTFUL : OP_CANCELLED;
	else if (good == bad)
		out->status = OP_DOUBTFUL;
	else
		out->status = good ? OP_SUCCESS : OP_FAILED;

	/* some tell code and message beside the outcome */
	if (error != NULL || result != NULL)
		read_error(error != NULL ? error : result, &out->error);
	if (out->error.message[0] == '\0')
		rsp_set(out->error.message, sizeof(out->error.message), reason);
	return true;
}

/*
 * Our code for a failure behind a 202: CAMARA's if it is one, else an alias,
 * else by the status that the error carries, else SERVICE_NOT_APPLICABLE.
 * r1.2's failureReason is text for people and is not read for one.
 */
static const char *
failure_code(const CamaraError *error)
{
	const CamaraRow *row = row_of_code(error->code);
	size_t		i;

	if (row != NULL)
		return row->code;
	for (i = 0; i < lengthof(camara_aliases); i++)
	{
		if (strcmp(camara_aliases[i].code, error->code) == 0)
			return camara_aliases[i].error_code;
	}
	if (error->status >= 400)
		return row_error_code(row_of(error->status, ""));
	return "SERVICE_NOT_APPLICABLE";
}

/* The server has ended the operation. */
static void
operation_ended(RspConversation *c, const CamaraOperation *told)
{
	RspOperation *op = c->op;
	RspKind		act = act_of(op);
	const char *code;
	const CamaraRow *row;
	bool		verify;

	if (told->status == OP_DOUBTFUL)
	{
		rsp_note(c, "doubtful", "the operation ended, but its outcome is not told clearly");
		rsp_memo_set_flag(op, "doubt");
		op->unresolved = true;
		look(c, STEP_LOST);
		return;
	}
	if (rsp_memo_flag(op, "doubt"))
	{
		rsp_memo_clear(op, "doubt");
		op->unresolved = false;
	}

	switch (told->status)
	{
		case OP_SUCCESS:
			rsp_note(c, "completed", "");
			if (act == RSP_DOWNLOAD)
			{
				/* an ICCID that was not asked for is believed when it is listed */
				bool		expected = op->iccid != NULL &&
					(told->iccid[0] == '\0' || strcmp(told->iccid, op->iccid) == 0);

				if (!expected && rsp_memo_text(op, "told") == NULL)
					op->failures = 0;
				if (!rsp_memo_set_text(op, expected ? "iccid" : "told",
									   expected ? op->iccid : told->iccid))
				{
					rsp_no_memory(c);
					return;
				}
				if (!expected)
				{
					look(c, STEP_ASSIGNED);
					return;
				}
			}
			act_done(c);
			return;

		case OP_CANCELLED:
			rsp_note(c, "cancelled", "");
			fail(c, "CANCELLED", "the operation was cancelled at the server", told->error.code,
				 told->error.message);
			return;

		default:
			break;
	}

	rsp_note(c, "failed", told->error.code);
	code = failure_code(&told->error);
	row = row_of_code(code);

	/*
	 * A download that was to enable as well may have failed in its second
	 * half: see what is there.
	 */
	verify = (act == RSP_DOWNLOAD && activates_itself(c)) ||
		(row != NULL && worth_verifying(c, act, row->post));
	refused(c, verify, code, "the operation failed at the server or on the device",
			told->error.code, told->error.message);
}

/* ----- answer of an acting request ----- */

static void
post_answered(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	CamaraOperation told;
	CamaraError error;
	const CamaraRow *row;
	const char *reason;
	json_t	   *root;
	bool		ok;

	if (answer->outcome == HTTP_NOT_SENT)
	{
		op->unresolved = false;
		rsp_no_answer(c, answer);
		return;
	}
	if (answer->outcome == HTTP_LOST)
	{
		rsp_note(c, "lost", answer->error);
		lost(c);
		return;
	}

	if (answer->status >= 200 && answer->status < 300)
	{
		root = rsp_answer_json(answer, &reason);
		ok = root != NULL && read_operation(c, root, &told, &reason);
		json_decref(root);
		if (!ok)
		{
			rsp_note(c, "bad-answer", reason);
			lost(c);
			return;
		}
		op->unresolved = false;
		op->polls = 0;
		op->failures = 0;
		rsp_set(op->rsp_operation_id, sizeof(op->rsp_operation_id), told.id);
		rsp_memo_set_flag(op, "known");
		rsp_note(c, "accepted", "");
		if (told.status == OP_ACCEPTED)
			poll_operation(c);
		else
			operation_ended(c, &told);
		return;
	}

	answer_error(answer, &error);
	row = row_of(answer->status, error.code);
	switch (row->post)
	{
		case M_UNKNOWN:
			rsp_note(c, "unknown", row_error_code(row));
			lost(c);
			return;
		case M_FINAL:
		case M_STATE:
		case M_UNTOLD:
		case M_ABSENT:
			rsp_note(c, "refused", row_error_code(row));
			refused(c, worth_verifying(c, act_of(op), row->post),
					row_error_code(row), "the server refused the request", error.code,
					error.message);
			return;
		default:
			op->unresolved = false;
			not_now(c, answer, row->post, row, &error);
			return;
	}
}

/* ----- answer of GET operations/{operationId} ----- */

/*
 * A poll that brought nothing.  The operation is accepted, so no answer to a
 * read ends it; when polls keep failing, retrieve-status may still show that
 * the aim is reached.
 */
static void
poll_failed(RspConversation *c, const HttpAnswer *answer, const char *code)
{
	if (c->op->failures >= PEEK_AFTER)
		look(c, STEP_PEEK);
	else
		rsp_later(c, answer, false, code, "the server does not say how the operation stands");
}

static void
poll_answered(RspConversation *c, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	CamaraOperation told;
	CamaraError error;
	const CamaraRow *row;
	const char *reason;
	json_t	   *root;
	bool		ok;

	if (rsp_no_answer(c, answer))
		return;
	if (answer->status >= 200 && answer->status < 300)
	{
		root = rsp_answer_json(answer, &reason);
		ok = root != NULL && read_operation(c, root, &told, &reason);
		json_decref(root);
		if (ok && (is_2026_02(c) ? strcasecmp(told.id, op->rsp_operation_id) :
				   strcmp(told.id, op->rsp_operation_id)) != 0)
		{
			reason = "the answer is about another operation";
			ok = false;
		}
		if (!ok)
		{
			rsp_note(c, "bad-answer", reason);
			poll_failed(c, answer, "INTERNAL");
			return;
		}
		if (told.status != OP_ACCEPTED)
		{
			operation_ended(c, &told);
			return;
		}
		op->failures = 0;
		if (rsp_memo_flag(op, "doubt"))
		{
			rsp_memo_clear(op, "doubt");
			op->unresolved = false;
			op->polls = 0;
		}
		rsp_note(c, "not-yet", "");
		op->step = STEP_ACT;
		rsp_wait(c, RSP_PHASE_WAITING_DEVICE, rsp_poll_delay(op, POLL_BASE_MS, POLL_MAX_MS), "",
				 "accepted by the server, waiting for the device");
		return;
	}

	answer_error(answer, &error);
	row = row_of(answer->status, error.code);
	if (answer->status == 404 || answer->status == 410)
	{
		/*
		 * It was accepted, but the server has lost it, or does not show it
		 * yet: it is polled on while retrieve-status is asked.
		 */
		rsp_note(c, "gone", row_error_code(row));
		rsp_memo_set_flag(op, "doubt");
		op->unresolved = true;
		look(c, STEP_LOST);
		return;
	}
	if (not_now(c, answer, row->get, row, &error))
		return;
	rsp_note(c, "refused", row_error_code(row));
	poll_failed(c, answer, row_error_code(row));
}

/* ----- answer of retrieve-status ----- */

typedef struct CamaraList
{
	ListResult	result;
	bool		whole;			/* every profile of the eUICC was readable */
	bool		found;			/* the target is listed */
	RspState	state;			/* its state */
	bool		fallback;
	int			fresh;			/* profiles that were not there before */
	char		fresh_iccid[21];	/* the last of them */
	json_t	   *iccids;			/* all, for "before" */
	const CamaraRow *row;		/* LIST_DENIED, LIST_NOBODY */
	CamaraError error;
} CamaraList;

/* pattern of the phone number: + and 5 to 15 digits, not 0 first */
static bool
valid_msisdn(const char *text)
{
	return text != NULL && text[0] == '+' && text[1] != '0' && rsp_digits(text + 1, 5, 15);
}

static void
read_list_entry(RspConversation *c, const json_t *entry, CamaraList *list, int *foreign,
				int *dropped)
{
	const RspOperation *op = c->op;
	const char *wanted = target(op);
	const char *eid = rsp_json_string(entry, "eid", 32);
	const char *iccid = rsp_json_string(entry, "iccid", 20);
	const char *state_name = rsp_json_string(entry, "state", 64);
	const char *msisdn = rsp_json_string(entry, "phoneNumber", 16);
	const json_t *mark = json_object_get(entry, "isFallback");
	const json_t *before = json_object_get(op->memo, "before");
	int			is_fallback = json_is_boolean(mark) ? (int) json_is_true(mark) : -1;
	RspState	state = RSP_STATE_INSTALLED;

	if (rsp_is_eid(eid) && op->eid != NULL && strcmp(eid, op->eid) != 0)
	{
		(*foreign)++;
		return;
	}
	if (!rsp_is_eid(eid) || !rsp_is_iccid(iccid) || rsp_json_has(list->iccids, iccid))
	{
		(*dropped)++;
		return;
	}
	if (is_word(state_name, "ENABLED"))
		state = RSP_STATE_ENABLED;
	else if (is_word(state_name, "DISABLED"))
		state = RSP_STATE_DISABLED;

	json_array_append_new(list->iccids, json_string(iccid));
	rsp_report(c, eid, iccid, state, is_fallback, valid_msisdn(msisdn) ? msisdn : NULL);
	if (wanted != NULL && strcmp(iccid, wanted) == 0)
	{
		list->found = true;
		list->state = state;
		list->fallback = is_fallback == 1;
	}
	if (before != NULL && !rsp_json_has(before, iccid))
	{
		list->fresh++;
		rsp_set(list->fresh_iccid, sizeof(list->fresh_iccid), iccid);
	}
}

/*
 * Reads ESimStatusResponse of 2026-02, EsimProfileStatusResponse of r1.2, and
 * reports what it says.  Entries that cannot be read or are of another eUICC
 * are left out; the list then proves the absence of nothing, unless it was
 * only others' entries.
 */
static bool
read_list(RspConversation *c, const json_t *root, CamaraList *list, const char **why)
{
	const json_t *array;
	size_t		n;
	size_t		i;
	int			foreign = 0;
	int			dropped = 0;
	char		detail[120];

	*why = "the answer is not a list of profiles";
	if (!json_is_object(root))
		return false;
	array = json_object_get(root, "esimProfiles");
	if (array == NULL)
		array = json_object_get(root, "esims");
	if (!json_is_array(array))
		return false;
	*why = "out of memory";
	list->iccids = json_array();
	if (list->iccids == NULL)
		return false;

	/* a list is the present; what an earlier one of this turn said is not */
	c->nreports = 0;
	c->reports_whole = false;

	n = json_array_size(array);
	for (i = 0; i < n && i < RSP_MAX_REPORTS; i++)
		read_list_entry(c, json_array_get(array, i), list, &foreign, &dropped);
	list->whole = c->op->eid != NULL && dropped == 0 && n <= RSP_MAX_REPORTS &&
		(foreign == 0 || json_array_size(list->iccids) > 0);
	c->reports_whole = list->whole;
	detail[0] = '\0';
	if (n > RSP_MAX_REPORTS)
		snprintf(detail, sizeof(detail), "%zu entries, only the first %d were read", n,
				 RSP_MAX_REPORTS);
	else if (foreign > 0 || dropped > 0)
		snprintf(detail, sizeof(detail),
				 "%zu entries, left out: %d of other eUICCs, %d not readable", n, foreign,
				 dropped);
	rsp_note(c, "listed", detail);
	return true;
}

/* What came of retrieve-status.  LIST_WAIT: the action is set. */
static void
take_list(RspConversation *c, const HttpAnswer *answer, CamaraList *list)
{
	const char *reason;
	json_t	   *root;
	bool		ok;

	memset(list, 0, sizeof(*list));
	list->result = LIST_WAIT;
	if (rsp_no_answer(c, answer))
		return;
	if (answer->status >= 200 && answer->status < 300)
	{
		root = rsp_answer_json(answer, &reason);
		ok = root != NULL && read_list(c, root, list, &reason);
		json_decref(root);
		if (ok)
		{
			list->result = LIST_READ;
			return;
		}
		rsp_note(c, "bad-answer", reason);
		list->result = LIST_UNREADABLE;
		return;
	}
	answer_error(answer, &list->error);
	list->row = row_of(answer->status, list->error.code);
	if (not_now(c, answer, list->row->get, list->row, &list->error))
		return;
	rsp_note(c, "refused", row_error_code(list->row));
	list->result = list->row->get == M_ABSENT ? LIST_NOBODY : LIST_DENIED;
}

typedef enum Sight
{
	SIGHT_NO,					/* the aim is not reached */
	SIGHT_YES,					/* it is */
	SIGHT_HALF,					/* downloaded, but not enabled */
	SIGHT_TWO,					/* more than one profile is new */
	SIGHT_BLIND					/* what is listed cannot tell */
} Sight;

/* Is the aim of the acting request reached? */
static Sight
sight(const RspConversation *c, const CamaraList *list)
{
	const RspOperation *op = c->op;

	switch (act_of(op))
	{
		case RSP_DOWNLOAD:
			if (!list->found && is_theirs_to_choose(c))
			{
				if (json_object_get(op->memo, "before") == NULL)
					return op->iccid == NULL ? SIGHT_BLIND : SIGHT_NO;
				if (list->result != LIST_READ || list->fresh == 0)
					return SIGHT_NO;
				return list->fresh == 1 ? SIGHT_YES : SIGHT_TWO;
			}
			if (!list->found)
				return SIGHT_NO;
			if (activates_itself(c) && list->state != RSP_STATE_ENABLED)
				return SIGHT_HALF;
			return SIGHT_YES;
		case RSP_ENABLE:
			return list->found && list->state == RSP_STATE_ENABLED ? SIGHT_YES : SIGHT_NO;
		case RSP_DISABLE:
			return list->found && list->state == RSP_STATE_DISABLED ? SIGHT_YES : SIGHT_NO;
		case RSP_SET_FALLBACK:
			return list->found && list->fallback ? SIGHT_YES : SIGHT_NO;
		case RSP_DELETE:
			if (list->result == LIST_READ)
				return !list->found && list->whole ? SIGHT_YES : SIGHT_NO;

			/*
			 * An eUICC that the server no longer knows has no profile; but
			 * only if it knew it before, else it is the wrong server.
			 */
			return list->result == LIST_NOBODY && rsp_memo_flag(op, "known") ?
				SIGHT_YES : SIGHT_NO;
		default:
			return SIGHT_BLIND;
	}
}

/* The list shows that the act has had its effect. */
static void
seen(RspConversation *c, const CamaraList *list)
{
	RspOperation *op = c->op;

	if (act_of(op) == RSP_DOWNLOAD)
	{
		const char *iccid = list->found ? op->iccid : list->fresh_iccid;

		if (!rsp_memo_set_text(op, "iccid", iccid))
		{
			rsp_no_memory(c);
			return;
		}
	}
	op->ask_first = false;
	act_done(c);
}

/*
 * One mangled ICCID in a list makes a profile vanish and a new one appear.
 * Where that alone would decide, two lists in a row must say so.
 */
static bool
seen_again(RspOperation *op, const CamaraList *list)
{
	const char *before = rsp_memo_text(op, "seen");
	const char *now;
	bool		again;

	if (act_of(op) == RSP_DELETE)
		now = "gone";
	else if (act_of(op) == RSP_DOWNLOAD && !list->found)
		now = list->fresh_iccid;
	else
		return true;
	again = before != NULL && strcmp(before, now) == 0;
	rsp_memo_set_text(op, "seen", now);
	return again;
}

/* A delete of a profile that may be enabled: which half comes first. */
static void
choose_delete(RspConversation *c, const CamaraList *list)
{
	RspOperation *op = c->op;
	RspKind		first = list->result == LIST_READ && list->found &&
		list->state == RSP_STATE_ENABLED ? RSP_DISABLE : RSP_DELETE;

	if (!set_act(op, first))
		rsp_no_memory(c);
	else
		act(c);
}

/*
 * What became of an acting request whose answer was lost, or of an operation
 * that an earlier timeline may have sent.
 */
static void
resolve(RspConversation *c, const HttpAnswer *answer, const CamaraList *list)
{
	RspOperation *op = c->op;
	bool		never_sent = !op->unresolved && op->first_sent_ms == 0;
	int64_t		settled = 0;
	int64_t		until = 0;
	bool		again;

	/* settled: it is no longer under way; until: an effect may still come */
	if (!never_sent)
	{
		settled = rsp_sent_at(op) + c->server->timeout_ms + GRACE_MS;
		until = rsp_sent_at(op) + c->server->unknown_hold_ms;
		if (until < settled)
			until = settled;
	}

	if (list->result == LIST_UNREADABLE || list->result == LIST_DENIED)
	{
		bool		denied = list->result == LIST_DENIED;

		if (never_sent)
		{
			if (denied)
			{
				op->step = STEP_ACT;
				rsp_park(c, row_error_code(list->row),
						 "the server does not say what is on the eUICC");
				rsp_said(c, list->error.code, list->error.message);
			}
			else
				rsp_later(c, answer, false, "INTERNAL", "the server's answer cannot be understood");
		}
		else if (op->now_ms >= until && (denied || op->failures >= PATIENCE))
			fail(c, "OUTCOME_UNKNOWN",
				 "the answer was lost, and the server does not say what is on the eUICC",
				 list->error.code, list->error.message);
		else
			later_unresolved(c, answer,
							 "the answer was lost, and the server does not say what is on the "
							 "eUICC");
		return;
	}

	op->failures = 0;
	switch (sight(c, list))
	{
		case SIGHT_YES:
			again = seen_again(op, list);
			if (act_of(op) == RSP_DELETE && op->now_ms < settled)
				rsp_wait_unknown(c, settled, "the answer was lost; the profile seems to be gone");
			else if (!again)
				look(c, STEP_LOST);
			else
				seen(c, list);
			return;
		case SIGHT_TWO:
			fail(c, "OUTCOME_UNKNOWN",
				 "the answer was lost, and more than one profile is new on the eUICC", NULL,
				 NULL);
			return;
		case SIGHT_BLIND:
			if (!never_sent && op->now_ms >= until)
			{
				fail(c, "OUTCOME_UNKNOWN",
					 "the answer was lost, and which profile was downloaded cannot be told",
					 NULL, NULL);
				return;
			}
			break;
		case SIGHT_HALF:
			if (never_sent || op->now_ms >= until)
			{
				/* the download is there: only its second half is left */
				forget_act(op);
				op->ask_first = false;
				if (!rsp_memo_set_text(op, "iccid", op->iccid) || !set_act(op, RSP_ENABLE))
					rsp_no_memory(c);
				else
					act(c);
				return;
			}
			break;
		case SIGHT_NO:
			break;
	}

	rsp_memo_clear(op, "seen");
	if (never_sent)
	{
		op->ask_first = false;
		if (op->cancel_asked)
			rsp_withdrawn(c, "cancelled before it was sent");
		else if (op->kind == RSP_DELETE && rsp_memo_text(op, "act") == NULL)
			choose_delete(c, list);
		else
			act(c);
		return;
	}
	if (op->now_ms < until)
	{
		op->unresolved = true;
		rsp_wait_unknown(c, until, "the answer was lost; whether the request has an effect is asked");
		return;
	}

	/*
	 * Nothing came of it in all that time.  Once more: enable, disable and
	 * set-fallback have the same end, a delete finds the profile or not, and a
	 * download with the same code is refused if the code was used.
	 */
	op->unresolved = false;
	op->ask_first = false;
	op->polls = 0;
	op->rsp_operation_id[0] = '\0';
	rsp_memo_clear(op, "doubt");
	rsp_memo_set_flag(op, "lost");
	act(c);
}

/* The act was refused; the list says whether its aim is reached all the same. */
static void
verify_refusal(RspConversation *c, const HttpAnswer *answer, const CamaraList *list)
{
	RspOperation *op = c->op;
	RspKind		act = act_of(op);
	Sight		what = SIGHT_NO;
	RspRefusal	how;

	if (list->result == LIST_UNREADABLE && op->failures < PATIENCE)
	{
		rsp_later(c, answer, false, "INTERNAL", "the server's answer cannot be understood");
		return;
	}
	if (list->result == LIST_READ || list->result == LIST_NOBODY)
		what = sight(c, list);

	/* a download that was there already is not this operation's */
	if (what == SIGHT_YES && (act != RSP_DOWNLOAD || rsp_memo_flag(op, "lost")))
	{
		rsp_note(c, "listed", "it is so already");
		seen(c, list);
		return;
	}

	/* esim did not know whether it is enabled, and deletes those that are */
	if (act == RSP_DELETE && list->found && list->state == RSP_STATE_ENABLED &&
		op->state != RSP_STATE_DISABLED && !rsp_memo_flag(op, "disabled"))
	{
		forget_act(op);
		if (!set_act(op, RSP_DISABLE))
			rsp_no_memory(c);
		else
			send_act(c);
		return;
	}

	/* what is to be disabled for its deletion is gone */
	if (op->kind == RSP_DELETE && act == RSP_DISABLE && list->result == LIST_READ &&
		list->whole && !list->found)
	{
		forget_act(op);
		finish(c);
		return;
	}

	rsp_memo_refusal(op, &how);
	rsp_memo_clear_refusal(op);
	fail(c, how.code[0] != '\0' ? how.code : "OUTCOME_UNKNOWN", how.message, how.rsp_code,
		 how.rsp_message);
	if (list->found)
	{
		c->action.profile_state_set = true;
		c->action.state = list->state;
	}
}

/*
 * The download is done; which profile did it bring?  The one that was
 * asked for, or that the server named, when it is listed; if it named none, or
 * none that is ever listed, the one that is new.
 */
static void
take_assigned(RspConversation *c, const HttpAnswer *answer, const CamaraList *list)
{
	RspOperation *op = c->op;
	const char *told = rsp_memo_text(op, "told");
	const char *iccid = NULL;
	bool		named = valid_iccid(told);
	bool		patient = op->failures < PATIENCE &&
		(list->result == LIST_READ || list->result == LIST_UNREADABLE);

	if (list->result == LIST_READ)
	{
		if (list->found)
			iccid = op->iccid;
		else if (named && rsp_json_has(list->iccids, told))
			iccid = told;
		else if (!named || !patient)
			iccid = list->fresh == 1 ? list->fresh_iccid : NULL;
		if (list->fresh > 1 && !named)
			patient = false;
	}
	if (iccid == NULL && patient)
	{
		rsp_later(c, answer, false, "", "the downloaded profile is not listed yet");
		return;
	}
	/* no list, and none to come: the server's word is all there is */
	if (iccid == NULL && named && list->result != LIST_READ)
		iccid = told;
	if (iccid != NULL && !rsp_memo_set_text(op, "iccid", iccid))
	{
		rsp_no_memory(c);
		return;
	}
	rsp_memo_clear(op, "told");
	act_done(c);
}

static void
list_answered(RspConversation *c, CamaraStep step, const HttpAnswer *answer)
{
	RspOperation *op = c->op;
	CamaraList	list;

	take_list(c, answer, &list);
	if (list.result == LIST_READ)
		rsp_memo_set_flag(op, "known");
	switch (list.result == LIST_WAIT ? STEP_ACT : step)
	{
		case STEP_REFRESH:
			if (list.result == LIST_READ)
				finish(c);
			else if (list.result != LIST_UNREADABLE)
				fail(c, row_error_code(list.row), "the server refused the request",
					 list.error.code, list.error.message);
			else if (op->failures >= PATIENCE)
				fail(c, "INTERNAL", "the server's answers cannot be understood", NULL, NULL);
			else
				rsp_later(c, answer, false, "INTERNAL", "the server's answer cannot be understood");
			break;

		case STEP_BEFORE:
			if (list.result == LIST_READ || list.result == LIST_NOBODY)
			{
				op->failures = 0;
				if (!rsp_json_put(op->memo, "before",
								  list.iccids != NULL ? json_incref(list.iccids) : json_array()))
					rsp_no_memory(c);
				else
					send_act(c);
			}
			else if (op->iccid != NULL && (list.result == LIST_DENIED || op->failures >= PATIENCE))
				send_act(c);	/* the one that is asked for will do */
			else if (list.result == LIST_DENIED)
				fail(c, row_error_code(list.row),
					 "the server does not say what is on the eUICC, which a download without "
					 "an ICCID needs", list.error.code, list.error.message);
			else if (op->failures >= PATIENCE)
				fail(c, "INTERNAL", "the server's answers cannot be understood", NULL, NULL);
			else
				rsp_later(c, answer, false, "INTERNAL", "the server's answer cannot be understood");
			break;

		case STEP_DELETE_WHICH:
			if (list.result == LIST_UNREADABLE && op->failures < PATIENCE)
				rsp_later(c, answer, false, "INTERNAL", "the server's answer cannot be understood");
			else
			{
				/* if it is not listed the delete says so too, or the list was wrong */
				op->failures = 0;
				choose_delete(c, &list);
			}
			break;

		case STEP_LOST:
			resolve(c, answer, &list);
			break;

		case STEP_REFUSED:
			verify_refusal(c, answer, &list);
			break;

		case STEP_ASSIGNED:
			take_assigned(c, answer, &list);
			break;

		case STEP_PEEK:
			if (list.result == LIST_READ && sight(c, &list) == SIGHT_YES)
				seen(c, &list);
			else
				rsp_later(c, answer, false, "",
						  "the server does not say how the operation stands");
			break;

		case STEP_ACT:
		case STEP_POLL:
			break;
	}
	json_decref(list.iccids);
}

/* ----- the driver's face ----- */

/*
 * Takes an operation up: at first, after a wait, after a crash at any point.
 */
static void
take_up(RspConversation *c)
{
	RspOperation *op = c->op;
	RspError	error;

	op->step = STEP_ACT;
	memset(&error, 0, sizeof(error));
	if (!camara_check(c->server, op, &error))
	{
		/* it was checked when it was queued; the server's options may differ now */
		fail(c, op->unresolved || op->rsp_operation_id[0] != '\0' ? "OUTCOME_UNKNOWN" :
			 error.code, error.message, NULL, NULL);
		return;
	}
	if (op->kind == RSP_REFRESH)
	{
		op->unresolved = false;
		op->ask_first = false;
		look(c, STEP_REFRESH);
		return;
	}
	if (op->rsp_operation_id[0] != '\0' &&
		!valid_operation_id(c->server->dialect, op->rsp_operation_id))
	{
		/* the server's dialect was altered meanwhile */
		op->rsp_operation_id[0] = '\0';
		op->unresolved = true;
	}
	if (rsp_memo_text(op, "act") == NULL && op->kind == RSP_DELETE &&
		op->state == RSP_STATE_ENABLED && !set_act(op, RSP_DISABLE))
	{
		rsp_no_memory(c);
		return;
	}

	if (rsp_memo_is_refused(op))
		look(c, STEP_REFUSED);
	else if (op->rsp_operation_id[0] != '\0')
		poll_operation(c);
	else
	{
		/* what was listed in an earlier turn that sent nothing is stale */
		if (!op->unresolved && !rsp_memo_flag(op, "lost"))
			rsp_memo_clear(op, "before");
		act(c);
	}
}

static void
read_answer(RspConversation *c, const HttpAnswer *answer)
{
	CamaraStep	step = (CamaraStep) c->op->step;

	switch (step)
	{
		case STEP_ACT:
			post_answered(c, answer);
			break;
		case STEP_POLL:
			poll_answered(c, answer);
			break;
		case STEP_REFRESH:
		case STEP_BEFORE:
		case STEP_DELETE_WHICH:
		case STEP_LOST:
		case STEP_REFUSED:
		case STEP_ASSIGNED:
		case STEP_PEEK:
			list_answered(c, step, answer);
			break;
		default:
			/* not a step of ours: take it up anew, which asks if anything was sent */
			take_up(c);
			break;
	}
}

/* A wait tells by its step whether something is done, or may be. */
static void
keep_done(RspConversation *c)
{
	RspOperation *op = c->op;

	if ((c->action.type == RSP_ACT_WAIT || c->action.type == RSP_ACT_PARK) &&
		(rsp_memo_flag(op, "lost") || rsp_memo_flag(op, "disabled") ||
		 (op->kind == RSP_DOWNLOAD && act_of(op) == RSP_ENABLE)))
		op->step = STEP_PEEK;
}

static void
camara_begin(RspConversation *c)
{
	take_up(c);
	keep_done(c);
}

static void
camara_answer(RspConversation *c, const HttpAnswer *answer)
{
	read_answer(c, answer);
	keep_done(c);
}

const RspDriver rsp_camara = {
	.protocol = RSP_PROTOCOL_CAMARA,
	.name = "camara",
	.supports = camara_supports,
	.check = camara_check,
	.state_allowed = camara_state_allowed,
	.can_ask = true,
	.begin = camara_begin,
	.answer = camara_answer
};
