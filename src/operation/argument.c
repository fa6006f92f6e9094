/*-------------------------------------------------------------------------
 *
 * argument.c
 *	  Checks of what a caller gives, and the fingerprint of a call.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include <ctype.h>

#include "common/cryptohash.h"
#include "common/hmac.h"
#include "common/sha2.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "operation/operation.h"

#define MAX_CORRELATOR	256		/* CAMARA's XCorrelator */

/*
 * A text argument as a string, at most max characters and without control
 * characters.
 */
char *
esim_argument_text(const char *name, Datum value, int max)
{
	char	   *string = TextDatumGetCString(value);
	int			length = pg_mbstrlen(string);

	if (length > max)
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_INVALID),
				 errmsg("parameter \"%s\" is too long", name),
				 esim_errdetail("OUT_OF_RANGE", "It has %d characters, at most %d are allowed.",
								length, max),
				 errhint("Give a shorter value.")));
	for (const char *p = string; *p; p++)
	{
		if ((unsigned char) *p < 0x20 || *p == 0x7f)
			ereport(ERROR,
					(errcode(ERRCODE_ESIM_INVALID),
					 errmsg("parameter \"%s\" has a control character", name),
					 esim_errdetail("INVALID_ARGUMENT", "Control characters are not allowed."),
					 errhint("Remove line breaks and tabs.")));
	}
	return string;
}

/* CAMARA's pattern ^[a-zA-Z0-9-_:;.\/<>{}]{0,256}$ */
void
esim_check_correlator(const char *correlator)
{
	size_t		length = strlen(correlator);

	for (size_t i = 0; i < length; i++)
	{
		unsigned char c = (unsigned char) correlator[i];

		if (c >= 0x80 || (!isalnum(c) && strchr("-_:;.\\/<>{}", c) == NULL))
			ereport(ERROR,
					(errcode(ERRCODE_ESIM_INVALID),
					 errmsg("invalid correlator"),
					 esim_errdetail("INVALID_ARGUMENT",
									"Character %zu is not allowed in x-correlator.", i + 1),
					 errhint("Use letters, digits and -_:;./<>{}.")));
	}
	if (length > MAX_CORRELATOR)
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_INVALID),
				 errmsg("correlator is too long"),
				 esim_errdetail("OUT_OF_RANGE", "It has %zu characters, at most %d are allowed.",
								length, MAX_CORRELATOR),
				 errhint("Give a shorter value.")));
}

void
esim_check_times(EsimRequest *request)
{
	if (request->has_not_before && TIMESTAMP_NOT_FINITE(request->not_before))
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_INVALID),
				 errmsg("parameter \"%s\" must be finite", "not_before"),
				 esim_errdetail("OUT_OF_RANGE", "It is infinite."),
				 errhint("Leave it out to begin at once.")));
	if (!request->has_expires_at)
		return;
	if (TIMESTAMP_NOT_FINITE(request->expires_at))
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_INVALID),
				 errmsg("parameter \"%s\" must be finite", "expires_at"),
				 esim_errdetail("OUT_OF_RANGE", "It is infinite."),
				 errhint("Leave it out for the server's default_expiry.")));
	if (request->expires_at <= request->now)
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_INVALID),
				 errmsg("parameter \"%s\" must be in the future", "expires_at"),
				 esim_errdetail("OUT_OF_RANGE", "It is %s.",
								timestamptz_to_str(request->expires_at)),
				 errhint("Leave it out for the server's default_expiry.")));
	if (request->has_not_before && request->expires_at <= request->not_before)
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_INVALID),
				 errmsg("the operation would expire before it may begin"),
				 esim_errdetail("OUT_OF_RANGE", "The value of expires_at is not later than not_before."),
				 errhint("Give a later expires_at.")));
}

/* value must be a JSON object of at most max bytes */
void
esim_check_object(const char *name, Jsonb *value, int max)
{
	if (!JB_ROOT_IS_OBJECT(value))
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_INVALID),
				 errmsg("parameter \"%s\" must be a JSON object", name),
				 esim_errdetail("INVALID_ARGUMENT", "It is of another type."),
				 errhint("Give an object such as {}.")));
	if (VARSIZE(value) > max)
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_INVALID),
				 errmsg("parameter \"%s\" is too large", name),
				 esim_errdetail("OUT_OF_RANGE", "At most %d bytes are allowed.", max),
				 errhint("Give a smaller object.")));
}

static void
release_json(void *arg)
{
	rsp_json_release(arg);
}

/*
 * The same as the drivers have it; freed with the current memory context.
 * Raises where that cannot be: numbers out of range, deep nesting.
 */
struct json_t *
esim_json_from_jsonb(const char *name, Jsonb *value)
{
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));
	struct json_t *json;

	if (JB_ROOT_COUNT(value) == 0)
	{
		json = rsp_json_object();
		if (json == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory")));
	}
	else
	{
		char	   *text = JsonbToCString(NULL, &value->root, VARSIZE(value));
		char	   *utf8 = pg_server_to_any(text, strlen(text), PG_UTF8);
		const char *reason;

		json = rsp_json(utf8, strlen(utf8), &reason);
		if (json == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_ESIM_INVALID),
					 errmsg("parameter \"%s\" cannot be sent", name),
					 esim_errdetail("INVALID_ARGUMENT", "A reader of JSON says: %s.", reason),
					 errhint("Use smaller numbers, and no deep nesting.")));
	}
	callback->func = release_json;
	callback->arg = json;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	return json;
}

/* ------------------------------------------------------------------------
 * Fingerprint
 * ------------------------------------------------------------------------ */

/* name, length and value: no two calls run into the same bytes */
static void
add_field(StringInfo buffer, const char *name, const char *value, size_t length)
{
	if (value == NULL)
		return;
	appendStringInfo(buffer, "%s:%zu:", name, length);
	appendBinaryStringInfo(buffer, value, (int) length);
}

static void
add_string(StringInfo buffer, const char *name, const char *value)
{
	add_field(buffer, name, value, value ? strlen(value) : 0);
}

/*
 * A secret goes in as a hash keyed with the idempotency key, so that the stored
 * fingerprint alone does not let a confirmation code of few digits be tried
 * out.
 */
static void
add_secret(StringInfo buffer, const char *name, const char *key, const char *value, size_t length)
{
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	pg_hmac_ctx *hmac = pg_hmac_create(PG_SHA256);

	if (hmac == NULL ||
		pg_hmac_init(hmac, (const uint8 *) key, strlen(key)) < 0 ||
		pg_hmac_update(hmac, (const uint8 *) value, length) < 0 ||
		pg_hmac_final(hmac, digest, sizeof(digest)) < 0)
		elog(ERROR, "could not compute HMAC");
	pg_hmac_free(hmac);
	add_field(buffer, name, (char *) digest, sizeof(digest));
}

/*
 * SHA-256 over kind, identifiers, server and the meaning of the parameters as
 * the caller gave them; without correlator, priority and times, by which a
 * repeated call may differ.
 */
void
esim_fingerprint(const EsimRequest *request, EsimElement *element)
{
	StringInfoData buffer;
	pg_cryptohash_ctx *hash;
	char		text[Max(EID_TEXT_SIZE, ICCID_TEXT_SIZE)];

	initStringInfo(&buffer);
	add_string(&buffer, "kind", rsp_kind_name(request->kind->kind));
	if (element->has_eid)
	{
		eid_format(&element->eid, text);
		add_string(&buffer, "eid", text);
	}
	if (element->has_iccid)
	{
		iccid_format(element->iccid, text);
		add_string(&buffer, "iccid", text);
	}
	if (element->has_profile)
		add_field(&buffer, "profile", (char *) element->profile_id.data, UUID_LEN);
	add_string(&buffer, "server", request->server);
	if (element->activation_code)
		add_field(&buffer, "activation_code", VARDATA_ANY(element->activation_code),
				  VARSIZE_ANY_EXHDR(element->activation_code));
	if (request->kind->activate >= 0)
		add_string(&buffer, "activate", request->activate ? "1" : "0");
	if (request->kind->rollback >= 0)
		add_string(&buffer, "rollback", request->rollback ? "1" : "0");
	if (request->kind->generate_matching_id >= 0)
	{
		add_string(&buffer, "generate_matching_id", request->generate_matching_id ? "1" : "0");
		add_string(&buffer, "release", request->release ? "1" : "0");
	}
	add_string(&buffer, "profile_type", request->profile_type);
	add_string(&buffer, "matching_id", element->matching_id);
	add_string(&buffer, "smds_address", request->smds_address);
	add_string(&buffer, "final_status", request->final_status);
	add_string(&buffer, "subscription", request->subscription);
	add_string(&buffer, "fleet", request->fleet);
	add_string(&buffer, "name", element->name);
	if (request->settings != NULL && JB_ROOT_COUNT(request->settings) > 0)
		add_string(&buffer, "settings",
				   JsonbToCString(NULL, &request->settings->root, VARSIZE(request->settings)));
	add_string(&buffer, "sink", request->sink);
	add_string(&buffer, "callback_url", request->callback_url);
	if (request->callback_url)
		add_string(&buffer, "callback_method", request->callback_method);
	if (request->options != NULL && JB_ROOT_COUNT(request->options) > 0)
		add_string(&buffer, "options",
				   JsonbToCString(NULL, &request->options->root, VARSIZE(request->options)));
	if (element->confirmation_code)
		add_secret(&buffer, "confirmation_code", element->idempotency_key,
				   VARDATA_ANY(element->confirmation_code),
				   VARSIZE_ANY_EXHDR(element->confirmation_code));
	if (request->sink_credential)
	{
		char	   *credential = JsonbToCString(NULL, &request->sink_credential->root,
												VARSIZE(request->sink_credential));

		add_secret(&buffer, "sink_credential", element->idempotency_key, credential,
				   strlen(credential));
	}

	hash = pg_cryptohash_create(PG_SHA256);
	if (hash == NULL ||
		pg_cryptohash_init(hash) < 0 ||
		pg_cryptohash_update(hash, (uint8 *) buffer.data, buffer.len) < 0 ||
		pg_cryptohash_final(hash, element->fingerprint, sizeof(element->fingerprint)) < 0)
		elog(ERROR, "could not compute SHA-256");
	pg_cryptohash_free(hash);
	pfree(buffer.data);
}
