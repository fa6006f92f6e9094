/*-------------------------------------------------------------------------
 *
 * sink.c
 *	  Sinks in the sessions of users: checks when an operation is asked for,
 *	  stored credentials, esim_redeliver().
 *
 *-------------------------------------------------------------------------
 */
#include "event/event.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "audit/audit.h"
#include "event/message.h"

#define MAX_NAME	200

/* ------------------------------------------------------------------------
 * Checks at enqueue
 * ------------------------------------------------------------------------ */

void
esim_check_sink(const char *name, const char *url)
{
	char		reason[128];

	switch (sink_check(url, esim_sink_allow, esim_sink_allow_private, NULL, reason, sizeof(reason)))
	{
		case SINK_ALLOWED:
			return;
		case SINK_INVALID:
		case SINK_NOT_HTTPS:
			ereport(ERROR,
					(errcode(ERRCODE_ESIM_INVALID),
					 errmsg("invalid URL in parameter \"%s\"", name),
					 esim_errdetail("INVALID_ARGUMENT", "%s", reason),
					 errhint("Give a URL such as https://example.com/path.")));
			break;
		case SINK_NOT_LISTED:
			ereport(ERROR,
					(errcode(ERRCODE_ESIM_DENIED),
					 errmsg("URL in parameter \"%s\" is not allowed", name),
					 esim_errdetail("PERMISSION_DENIED", "%s", reason),
					 errhint("An administrator can add the host to esim.sink_allow.")));
			break;
		case SINK_PRIVATE:
			ereport(ERROR,
					(errcode(ERRCODE_ESIM_DENIED),
					 errmsg("URL in parameter \"%s\" is not allowed", name),
					 esim_errdetail("PERMISSION_DENIED", "%s", reason),
					 errhint("Only hosts with a public address can be notified.")));
			break;
	}
}

bool
esim_check_sink_allow(char **newval, void **extra, GucSource source)
{
	char		reason[128];

	if (sink_allow_valid(*newval, reason, sizeof(reason)))
		return true;
	GUC_check_errdetail("%s", reason);
	GUC_check_errhint("Entries are hosts such as example.com, *.example.com or example.com:8443, separated by commas.");
	return false;
}

static void
bad_credential(const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_ESIM_INVALID),
			 errmsg("invalid value of parameter \"%s\"", "sink_credential"),
			 esim_errdetail("INVALID_ARGUMENT", "%s", why),
			 errhint("Give {\"credentialType\": \"ACCESSTOKEN\", \"accessToken\": \"...\", \"accessTokenExpireUtc\": \"...\", \"accessTokenType\": \"bearer\"}, or {\"name\": \"...\"} of a credential that esim_set_credential() has stored.")));
}

/* NULL: there is none, or it is null; raises if it is no string */
static char *
string_member(Jsonb *object, const char *key, const char *complaint)
{
	JsonbValue	name;
	JsonbValue *value;

	name.type = jbvString;
	name.val.string.val = (char *) key;
	name.val.string.len = (int) strlen(key);
	value = findJsonbValueFromContainer(&object->root, JB_FOBJECT, &name);
	if (value == NULL || value->type == jbvNull)
		return NULL;
	if (value->type != jbvString)
		bad_credential(complaint);
	return pnstrdup(value->val.string.val, value->val.string.len);
}

void
esim_check_sink_credential(Jsonb *credential)
{
	char	   *name = string_member(credential, "name", "Its name is not a text.");
	char	   *type = string_member(credential, "credentialType", "Its credentialType is not a text.");
	char	   *token = string_member(credential, "accessToken", "Its accessToken is not a text.");
	char	   *expiry = string_member(credential, "accessTokenExpireUtc", "Its accessTokenExpireUtc is not a text.");
	char	   *expires = string_member(credential, "accessTokenExpiresUtc", "Its accessTokenExpiresUtc is not a text.");
	char	   *token_type = string_member(credential, "accessTokenType", "Its accessTokenType is not a text.");
	int64_t		seconds;

	if (name != NULL)
	{
		if (type != NULL || token != NULL)
			bad_credential("It has a name and a token of its own.");
		if (name[0] == '\0' || strlen(name) > MAX_NAME)
			bad_credential("Its name is empty or too long.");
		return;
	}
	if (type == NULL)
		bad_credential("It has neither a credentialType nor a name.");
	if (strcmp(type, "ACCESSTOKEN") != 0)
		bad_credential("Its credentialType is not ACCESSTOKEN.");
	if (token_type != NULL && strcmp(token_type, "bearer") != 0)
		bad_credential("Its accessTokenType is not bearer.");
	if (token != NULL && !sink_token_valid(token))
		bad_credential("Its accessToken is empty, too long, or has a character that cannot stand in a header.");
	if (expiry != NULL && !sink_parse_time(expiry, &seconds))
		bad_credential("Its accessTokenExpireUtc is not a time such as 2026-12-31T23:59:59Z.");
	/* the name that CAMARA's Commonalities have for it */
	if (expires != NULL && !sink_parse_time(expires, &seconds))
		bad_credential("Its accessTokenExpiresUtc is not a time such as 2026-12-31T23:59:59Z.");
	if (expiry != NULL && expires != NULL)
		bad_credential("It has both accessTokenExpireUtc and accessTokenExpiresUtc.");
}

/* ------------------------------------------------------------------------
 * Stored credentials
 * ------------------------------------------------------------------------ */

static char *
name_arg(FunctionCallInfo fcinfo)
{
	char	   *name = PG_ARGISNULL(0) ? NULL : TextDatumGetCString(PG_GETARG_DATUM(0));

	if (name == NULL || name[0] == '\0' || strlen(name) > MAX_NAME)
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_INVALID),
				 errmsg("invalid name of a credential"),
				 esim_errdetail("INVALID_ARGUMENT", "It has 1 to %d bytes.", MAX_NAME),
				 errhint("Give a name by which sink_credential can refer to it.")));
	return name;
}

/* the role whose credential it is: the caller, or one that it is a member of */
static Oid
owner_arg(FunctionCallInfo fcinfo, int n, Oid caller)
{
	Oid			owner = PG_ARGISNULL(n) ? caller : PG_GETARG_OID(n);
	char	   *name = GetUserNameFromId(owner, true);

	if (name == NULL || !esim_may_act_for(caller, owner, name))
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_NOT_FOUND),
				 errmsg("no such owner"),
				 esim_errdetail("NOT_FOUND", "It is no role that you are a member of."),
				 errhint("Leave the owner out for credentials of your own.")));
	return owner;
}

/* Its name and owner are no secrets; the value is. */
static void
audit_credential(Oid caller, const char *function, const char *what, const char *name, Oid owner)
{
	char	   *outcome = psprintf("%s %s of %s", what, quote_identifier(name),
								   quote_identifier(GetUserNameFromId(owner, false)));

	esim_audit_one(caller, function, NULL, outcome);
}

/*
 * esim_set_credential(name text, kind text, value text, owner regrole) void
 */
PG_FUNCTION_INFO_V1(esim_set_credential);
Datum
esim_set_credential(PG_FUNCTION_ARGS)
{
	static EsimStatement store = {
		"INSERT INTO @esim_credential AS c (owner, owner_name, name, kind, value)"
		" VALUES ($1, pg_catalog.pg_get_userbyid($1), $2, $3, $4)"
		" ON CONFLICT (owner, name) DO UPDATE SET owner_name = EXCLUDED.owner_name, kind = EXCLUDED.kind, value = EXCLUDED.value",
		4, {"regrole", "text", "text", "text"}
	};
	Oid			caller = GetUserId();
	char	   *name = name_arg(fcinfo);
	char	   *kind = PG_ARGISNULL(1) ? "" : TextDatumGetCString(PG_GETARG_DATUM(1));
	char	   *value = PG_ARGISNULL(2) ? "" : TextDatumGetCString(PG_GETARG_DATUM(2));
	Oid			owner = owner_arg(fcinfo, 3, caller);
	unsigned char key[SINK_MAX_SECRET];
	EsimRights	rights;
	Datum		values[4];

	if (strcmp(kind, "bearer") == 0)
	{
		if (!sink_token_valid(value))
			ereport(ERROR,
					(errcode(ERRCODE_ESIM_INVALID),
					 errmsg("invalid token"),
					 esim_errdetail("INVALID_ARGUMENT", "It has 1 to %d visible ASCII characters.", SINK_MAX_TOKEN),
					 errhint("Give the token alone, without \"Bearer\".")));
	}
	else if (strcmp(kind, "webhook-secret") == 0)
	{
		if (sink_secret(value, key) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_ESIM_INVALID),
					 errmsg("invalid secret"),
					 esim_errdetail("INVALID_ARGUMENT", "It is not the base64 of %d to %d bytes.", SINK_MIN_SECRET, SINK_MAX_SECRET),
					 errhint("Give whsec_ and the base64 of 32 random bytes.")));
		explicit_bzero(key, sizeof(key));
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_INVALID),
				 errmsg("invalid kind of credential \"%s\"", kind),
				 esim_errdetail("INVALID_ARGUMENT", "There is no such kind."),
				 errhint("Kinds are bearer and webhook-secret.")));

	SPI_connect();
	esim_enter_owner(&rights);
	values[0] = ObjectIdGetDatum(owner);
	values[1] = CStringGetTextDatum(name);
	values[2] = CStringGetTextDatum(kind);
	values[3] = CStringGetTextDatum(value);
	esim_execute(&store, values, NULL, 0);
	audit_credential(caller, "esim_set_credential", psprintf("STORED %s", kind), name, owner);
	esim_leave_owner(&rights);
	SPI_finish();
	explicit_bzero(value, strlen(value));
	PG_RETURN_VOID();
}

/*
 * esim_drop_credential(name text, owner regrole) boolean: was there one?
 */
PG_FUNCTION_INFO_V1(esim_drop_credential);
Datum
esim_drop_credential(PG_FUNCTION_ARGS)
{
	static EsimStatement drop = {
		"DELETE FROM @esim_credential WHERE owner = $1 AND name = $2", 2, {"regrole", "text"}
	};
	Oid			caller = GetUserId();
	char	   *name = name_arg(fcinfo);
	Oid			owner = owner_arg(fcinfo, 1, caller);
	EsimRights	rights;
	Datum		values[2];
	bool		dropped;

	SPI_connect();
	esim_enter_owner(&rights);
	values[0] = ObjectIdGetDatum(owner);
	values[1] = CStringGetTextDatum(name);
	esim_execute(&drop, values, NULL, 0);
	dropped = SPI_processed > 0;
	audit_credential(caller, "esim_drop_credential", dropped ? "DROPPED" : "NOT_FOUND", name, owner);
	esim_leave_owner(&rights);
	SPI_finish();
	PG_RETURN_BOOL(dropped);
}

/* ------------------------------------------------------------------------
 * esim_redeliver
 * ------------------------------------------------------------------------ */

/*
 * esim_redeliver(notification uuid) boolean: true, it is sent again; false, it
 * is due already.
 */
PG_FUNCTION_INFO_V1(esim_redeliver);
Datum
esim_redeliver(PG_FUNCTION_ARGS)
{
	static EsimStatement find = {
		"SELECT o.owner, o.owner_name, n.next_at <= pg_catalog.clock_timestamp(),"
		" n.credential = 'token' AND NOT EXISTS (SELECT FROM @esim_operation_secret s WHERE s.operation = n.operation AND s.sink_credential IS NOT NULL),"
		/* the scope admin is about all owners: it alone has this function */
		" EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.proname = 'esim_transfer' AND p.pronamespace = $3"
		"  AND pg_catalog.has_function_privilege($2, p.oid, 'EXECUTE')),"
		" o.id, o.eid, o.iccid"
		" FROM @esim_notification n JOIN @esim_operation o ON o.id = n.operation WHERE n.id = $1",
		3, {"uuid", "oid", "oid"}
	};

	/* the worker tries what has -infinity even where it waits for a sink to recover */
	static EsimStatement again = {
		"UPDATE @esim_notification SET state = 'PENDING', next_at = '-infinity', since = pg_catalog.clock_timestamp(),"
		" delivered_at = NULL, last_error = NULL, system_identifier = $2, timeline = $3, database = $4 WHERE id = $1",
		4, {"uuid", "int8", "int4", "oid"}
	};
	Oid			caller = GetUserId();
	EsimRights	rights;
	EsimEpoch	epoch;
	Datum		values[4];
	Datum		row[8];
	bool		nulls[8];
	bool		found;
	bool		send;
	EsimAuditEntry entry;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_UNPROCESSABLE),
				 errmsg("cannot redeliver without a notification"),
				 esim_errdetail("MISSING_IDENTIFIER", "The identifier is NULL."),
				 errhint("esim_notification has the identifiers.")));

	SPI_connect();
	esim_enter_owner(&rights);
	values[0] = PG_GETARG_DATUM(0);
	values[1] = ObjectIdGetDatum(caller);
	values[2] = ObjectIdGetDatum(esim_schema_oid());
	esim_execute_latest(&find, values, NULL, 1);
	found = SPI_processed == 1;
	for (int i = 0; found && i < lengthof(row); i++)
		row[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &nulls[i]);
	if (!found ||
		!(esim_may_act_for(caller, DatumGetObjectId(row[0]), NameStr(*DatumGetName(row[1]))) ||
		  DatumGetBool(row[4])))
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_NOT_FOUND),
				 errmsg("notification is not known"),
				 esim_errdetail("NOT_FOUND", "There is no notification of yours with this identifier."),
				 errhint("esim_notification has the identifiers.")));
	if (!nulls[3] && DatumGetBool(row[3]))
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_CONFLICT),
				 errmsg("notification cannot be sent again"),
				 esim_errdetail("INCOMPATIBLE_STATE", "Its access token was removed when it had been delivered."),
				 errhint("Store credentials with esim_set_credential() and name them in sink_credential.")));
	send = nulls[2] || !DatumGetBool(row[2]);
	if (send)
	{
		esim_current_epoch(&epoch);
		values[1] = Int64GetDatum(epoch.system_identifier);
		values[2] = Int32GetDatum(epoch.timeline);
		values[3] = ObjectIdGetDatum(epoch.database);
		esim_execute_latest(&again, values, NULL, 0);
	}
	esim_wake_at_commit();
	entry.operation = DatumGetUUIDP(row[5]);
	entry.eid = nulls[6] ? NULL : DatumGetEidP(row[6]);
	entry.iccid = nulls[7] ? ICCID_INVALID : DatumGetIccid(row[7]);
	entry.outcome = psprintf("%s %s", send ? "QUEUED" : "DUE",
							 DatumGetCString(DirectFunctionCall1(uuid_out, PG_GETARG_DATUM(0))));
	esim_audit(caller, "esim_redeliver", &entry, 1);
	esim_leave_owner(&rights);
	SPI_finish();
	PG_RETURN_BOOL(send);
}
