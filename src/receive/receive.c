/*-------------------------------------------------------------------------
 *
 * receive.c
 *	  esim_receive: takes an event from an RSP.
 *
 *-------------------------------------------------------------------------
 */
#include "receive/receive.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "audit/audit.h"

static const char *const outcome_names[] = {"applied", "asked", "duplicate", "ignored", "unknown"};

/* the event that is being received; id 0: not kept yet */
static Received *current = NULL;
static int64 current_id = 0;

void
receive_refuse(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_ESIM_INVALID),
			 errmsg("event cannot be read"),
			 esim_errdetail("INVALID_ARGUMENT", "%s", detail),
			 errhint("Hand over what the server sent, as JSON; form fields as members of an object.")));
}

char *
receive_member(Jsonb *object, const char *path)
{
	static EsimStatement member = {
		"SELECT left($1 #>> string_to_array($2, '.'), 2000)", 2, {"jsonb", "text"}
	};
	Datum		values[2];
	Datum		value;
	bool		isnull;

	if (object == NULL)
		return NULL;
	values[0] = JsonbPGetDatum(object);
	values[1] = CStringGetTextDatum(path);
	esim_execute(&member, values, NULL, 1);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	return isnull ? NULL : TextDatumGetCString(value);
}

bool
receive_uuid(const char *text, pg_uuid_t *id)
{
	if (text == NULL || strlen(text) != 36)
		return false;
	for (int i = 0; i < 36; i++)
	{
		bool		dash = (i == 8 || i == 13 || i == 18 || i == 23);

		if (dash ? text[i] != '-' : !isxdigit((unsigned char) text[i]))
			return false;
	}
	*id = *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(text)));
	return true;
}

bool
receive_keep(const char *kind, const char *key, Jsonb *extra)
{
	/* one that nothing belonged to then may have found its operation by now */
	static EsimStatement keep = {
		"INSERT INTO @esim_event AS e (server, kind, key, body) VALUES ($1, left($2, 200),"
		" CASE WHEN length($3) > 200 THEN 'sha256:' || encode(sha256(convert_to($3, 'UTF8')), 'hex') ELSE $3 END,"
		" coalesce($4 || $5, $4))"
		" ON CONFLICT (server, key) DO UPDATE SET received_at = clock_timestamp() WHERE e.outcome = 'unknown'"
		" RETURNING e.id",
		5, {"text", "text", "text", "jsonb", "jsonb"}
	};
	Datum		values[5];
	char		nulls[5] = {' ', ' ', ' ', ' ', ' '};
	bool		isnull;

	values[0] = CStringGetTextDatum(current->server->rsp.name);
	values[1] = CStringGetTextDatum(kind);
	if (key != NULL)
		values[2] = CStringGetTextDatum(key);
	else
		nulls[2] = 'n';
	values[3] = JsonbPGetDatum(current->event);
	if (extra != NULL)
		values[4] = JsonbPGetDatum(extra);
	else
		nulls[4] = 'n';
	esim_execute_latest(&keep, values, nulls, 0);
	if (SPI_processed == 0)
		return false;
	current_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
											 &isnull));
	return true;
}

static void
note_outcome(ReceiveOutcome outcome)
{
	static EsimStatement note = {
		"UPDATE @esim_event SET outcome = $2 WHERE id = $1 AND outcome <> $2", 2, {"int8", "text"}
	};
	Datum		values[2];

	values[0] = Int64GetDatum(current_id);
	values[1] = CStringGetTextDatum(outcome_names[outcome]);
	esim_execute_latest(&note, values, NULL, 0);
}

/* Identifiers that are none of ours by their form are left out. */
static void
audit(const Received *received, ReceiveOutcome outcome)
{
	EsimAuditEntry entry = {NULL, ICCID_INVALID, NULL, NULL};
	Eid			eid;
	EidError	eid_error;
	IccidError	iccid_error;

	if (received->eid != NULL &&
		eid_parse(received->eid, strlen(received->eid), false, &eid, &eid_error))
		entry.eid = &eid;
	if (received->iccid != NULL &&
		!iccid_parse(received->iccid, strlen(received->iccid), false, &entry.iccid, &iccid_error))
		entry.iccid = ICCID_INVALID;
	entry.outcome = psprintf("%s, server %s", outcome_names[outcome],
							 quote_identifier(received->server->rsp.name));
	esim_audit(received->caller, "esim_receive", &entry, 1);
}

/* headers and query */
static void
read_options(Received *received, Jsonb *options)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;

	if (options == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_INVALID),
				 errmsg("options must be a JSON object"),
				 esim_errdetail("INVALID_ARGUMENT", "They are not an object."),
				 errhint("Options are headers and query.")));
	it = JsonbIteratorInit(&options->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		char	   *key;
		bool		object;

		if (token != WJB_KEY)
			continue;
		key = pnstrdup(value.val.string.val, value.val.string.len);
		(void) JsonbIteratorNext(&it, &value, true);
		object = value.type == jbvBinary && JsonContainerIsObject(value.val.binary.data);
		if (value.type == jbvNull)
			continue;
		if (strcmp(key, "headers") == 0 && object)
			received->headers = JsonbValueToJsonb(&value);
		else if (strcmp(key, "query") == 0 && object)
			received->query_object = JsonbValueToJsonb(&value);
		else if (strcmp(key, "query") == 0 && value.type == jbvString &&
				 value.val.string.len <= RECEIVE_MAX_BODY)
			received->query_text = pnstrdup(value.val.string.val, value.val.string.len);
		else
			ereport(ERROR,
					(errcode(ERRCODE_ESIM_INVALID),
					 errmsg("unknown option \"%.100s\", or of the wrong type", key),
					 esim_errdetail("INVALID_ARGUMENT", "Options are headers, an object, and query, an object or a text."),
					 errhint("Write for instance {\"headers\": {\"x-correlator\": \"...\"}, \"query\": {\"op\": \"...\"}}.")));
	}
}

static void
find_server(Received *received, const char *name)
{
	char	   *reason = NULL;
	bool		known = false;
	ListCell   *lc;

	foreach(lc, esim_server_names())
		known |= strcmp(lfirst(lc), name) == 0;
	if (!known)
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_NOT_FOUND),
				 errmsg("server \"%.100s\" does not exist", name),
				 esim_errdetail("NOT_FOUND", "No server of the foreign data wrapper esim_rsp has this name."),
				 errhint("Run CREATE SERVER ... FOREIGN DATA WRAPPER esim_rsp.")));
	received->server = esim_server_get(name, InvalidOid, false, &reason);
	if (received->server == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_UNAVAILABLE),
				 errmsg("server \"%s\" cannot be used", name),
				 esim_errdetail("UNAVAILABLE", "The %s.", reason ? reason : "options do not suffice"),
				 errhint("Set its options with ALTER SERVER.")));
	if (!DatumGetBool(DirectFunctionCall3(has_server_privilege_id_id,
										  ObjectIdGetDatum(received->caller),
										  ObjectIdGetDatum(received->server->serverid),
										  PointerGetDatum(cstring_to_text("USAGE")))))
	{
		esim_server_release(received->server);
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_DENIED),
				 errmsg("permission denied for server \"%s\"", name),
				 esim_errdetail("PERMISSION_DENIED", "Receiving its events needs the privilege USAGE on it."),
				 errhint("Run GRANT USAGE ON FOREIGN SERVER %s.", quote_identifier(name))));
	}
}

static ReceiveOutcome
receive(Received *received)
{
	switch (received->server->rsp.protocol)
	{
		case RSP_PROTOCOL_CAMARA:
			return receive_camara(received);
		case RSP_PROTOCOL_ES2PLUS:
			return receive_es2plus(received);
		case RSP_PROTOCOL_TWILIO:
			return receive_twilio(received);
		case RSP_PROTOCOL_EIM:
			break;
	}
	/* an eIM has no events */
	(void) receive_keep("event", NULL, NULL);
	return RECEIVE_IGNORED;
}

/*
 * esim_receive(server text, event jsonb, options jsonb) text
 */
PG_FUNCTION_INFO_V1(esim_receive);
Datum
esim_receive(PG_FUNCTION_ARGS)
{
	Received	received;
	EsimRights	rights;
	volatile ReceiveOutcome outcome = RECEIVE_UNKNOWN;
	char	   *body;
	char	   *name;

	memset(&received, 0, sizeof(received));
	received.caller = GetUserId();
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_INVALID),
				 errmsg("parameter \"%s\" is NULL", "server"),
				 esim_errdetail("INVALID_ARGUMENT", "An event comes from a server."),
				 errhint("Name the server that sent it.")));
	if (PG_ARGISNULL(1))
		receive_refuse("It is NULL.");
	PreventCommandIfReadOnly("esim_receive()");

	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	received.event = PG_GETARG_JSONB_P(1);
	if (!JB_ROOT_IS_OBJECT(received.event))
		receive_refuse("It is not an object.");
	if (VARSIZE(received.event) > 2 * RECEIVE_MAX_BODY)
		receive_refuse("It is longer than 64 kB.");
	body = JsonbToCString(NULL, &received.event->root, VARSIZE(received.event));
	received.text = pg_server_to_any(body, strlen(body), PG_UTF8);
	received.length = strlen(received.text);
	if (received.length > RECEIVE_MAX_BODY)
		receive_refuse("It is longer than 64 kB.");
	read_options(&received, PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2));

	esim_look_after_worker();
	SPI_connect();
	find_server(&received, name);
	esim_enter_owner(&rights);
	PG_TRY();
	{
		current = &received;
		current_id = 0;
		outcome = receive(&received);
		if (current_id != 0)
			note_outcome(outcome);
		audit(&received, outcome);
	}
	PG_FINALLY();
	{
		current = NULL;
		esim_server_release(received.server);
	}
	PG_END_TRY();
	esim_leave_owner(&rights);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(outcome_names[outcome]));
}
