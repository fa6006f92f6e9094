/*-------------------------------------------------------------------------
 *
 * compose.c
 *	  A due row of the outbox becomes a request.
 *
 *-------------------------------------------------------------------------
 */
#include "event/deliver.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static char *
column_text(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(tuple, desc, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static char *
column_utf8(HeapTuple tuple, TupleDesc desc, int column)
{
	char	   *text = column_text(tuple, desc, column);

	/* what is no UTF-8 there must not end the transaction: it makes no message */
	if (text == NULL || GetDatabaseEncoding() == PG_SQL_ASCII)
		return text;
	return pg_server_to_any(text, (int) strlen(text), PG_UTF8);
}

static bool
column_bool(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(tuple, desc, column, &isnull);

	return !isnull && DatumGetBool(value);
}

static const char *
event_source(void)
{
	size_t		length = esim_api_root ? strlen(esim_api_root) : 0;

	while (length > 0 && esim_api_root[length - 1] == '/')
		length--;
	if (length == 0)
		return "urn:esim:operations";
	return psprintf("%.*s/esim/vwip", (int) length, esim_api_root);
}

/* Authorization or signature; false: d has its result. */
static bool
add_credential(Delivery *d, HeapTuple tuple, TupleDesc desc, const char *id, const char *body,
			   TimestampTz now)
{
	char	   *credential = column_text(tuple, desc, F_CREDENTIAL);
	char	   *token;
	char	   *kind;

	if (credential == NULL)
		return true;
	if (strcmp(credential, "token") == 0)
	{
		char	   *expires = column_text(tuple, desc, F_EXPIRES);
		int64_t		seconds;

		token = column_text(tuple, desc, F_TOKEN);
		if (token == NULL)
		{
			deliver_result(d, RESULT_GIVEN_UP, "the access token is gone", now);
			return false;
		}
		if (expires != NULL &&
			(!sink_parse_time(expires, &seconds) || seconds * 1000 <= timestamptz_to_ms(now)))
		{
			explicit_bzero(token, strlen(token));
			deliver_result(d, RESULT_GIVEN_UP, "the access token has expired", now);
			return false;
		}
	}
	else
	{
		kind = column_text(tuple, desc, F_STORED_KIND);
		token = column_text(tuple, desc, F_STORED_VALUE);
		if (token == NULL || kind == NULL)
		{
			d->delay_ms = rsp_backoff_ms(d->tries - 1, BACKOFF_MS, BACKOFF_MAX_MS);
			deliver_result(d, RESULT_RETRY, "the owner has no credential of the name that sink_credential gives", now);
			return false;
		}
		if (strcmp(kind, "webhook-secret") == 0)
		{
			unsigned char key[SINK_MAX_SECRET];
			size_t		length = sink_secret(token, key);
			int64_t		timestamp = timestamptz_to_ms(now) / 1000;
			char		signature[SINK_SIGNATURE_SIZE];
			char		number[32];
			bool		ok;

			snprintf(number, sizeof(number), INT64_FORMAT, (int64) timestamp);
			ok = length > 0 && sink_signature(key, length, id, timestamp, body, strlen(body), signature) &&
				http_request_header(d->request, "webhook-id", id) &&
				http_request_header(d->request, "webhook-timestamp", number) &&
				http_request_header(d->request, "webhook-signature", signature);
			explicit_bzero(key, sizeof(key));
			explicit_bzero(token, strlen(token));
			if (!ok)
			{
				d->delay_ms = rsp_backoff_ms(d->tries - 1, BACKOFF_MS, BACKOFF_MAX_MS);
				deliver_result(d, RESULT_RETRY, "the stored credential is no secret that messages can be signed with", now);
			}
			return ok;
		}
	}
	if (!sink_token_valid(token) || !http_request_bearer(d->request, token))
	{
		explicit_bzero(token, strlen(token));
		deliver_result(d, RESULT_GIVEN_UP, "the access token has a character that cannot stand in a header", now);
		return false;
	}
	explicit_bzero(token, strlen(token));
	return true;
}

/*
 * Takes a place for the row and makes its request; without a request it has
 * its result already.
 */
void
compose(HeapTuple tuple, TupleDesc desc, Sink *sink, TimestampTz now)
{
	Delivery   *d = NULL;
	SinkEvent	event;
	SinkRoute	route;
	char		reason[256];
	char	   *target;
	char	   *path;
	char	   *message;
	bool		form;
	bool		get;
	bool		isnull;

	for (int i = 0; i < outbox.nplaces && d == NULL; i++)
		if (!outbox.places[i].used)
			d = &outbox.places[i];
	if (d == NULL)
		return;
	memset(d, 0, sizeof(*d));
	d->used = true;
	outbox.nused++;
	d->sink = sink;
	memcpy(&d->id, DatumGetUUIDP(SPI_getbinval(tuple, desc, F_ID, &isnull)), UUID_LEN);
	memcpy(&d->operation, DatumGetUUIDP(SPI_getbinval(tuple, desc, F_OPERATION, &isnull)), UUID_LEN);
	d->shard = DatumGetInt16(SPI_getbinval(tuple, desc, F_SHARD, &isnull));
	d->tries = DatumGetInt32(SPI_getbinval(tuple, desc, F_TRIES, &isnull)) + 1;
	d->since = DatumGetTimestampTz(SPI_getbinval(tuple, desc, F_SINCE, &isnull));
	d->has_secret = column_bool(tuple, desc, F_HAS_SECRET);

	if (!column_bool(tuple, desc, F_HAS_OPERATION))
	{
		deliver_result(d, RESULT_GIVEN_UP, "the operation is gone", now);
		return;
	}
	if (!column_bool(tuple, desc, F_OWNED))
	{
		/* a renamed one gets its rows back by esim_reassign() */
		d->delay_ms = rsp_backoff_ms(d->tries - 1, BACKOFF_MS, BACKOFF_MAX_MS);
		deliver_result(d, RESULT_RETRY, "the owner is gone or was renamed", now);
		return;
	}

	target = column_text(tuple, desc, F_TARGET);
	if (sink_check(target, esim_sink_allow, esim_sink_allow_private, &route, reason, sizeof(reason)) != SINK_ALLOWED)
	{
		char	   *error = psprintf("the URL is not allowed: %s", reason);

		d->delay_ms = rsp_backoff_ms(d->tries - 1, BACKOFF_MS, BACKOFF_MAX_MS);
		limit_failed(sink, error, 0, now);
		deliver_result(d, RESULT_RETRY, error, now);
		return;
	}
	d->host = limit_host(&route, reason, sizeof(reason));
	if (d->host == NULL)
	{
		d->delay_ms = rsp_backoff_ms(d->tries - 1, BACKOFF_MS, BACKOFF_MAX_MS);
		limit_failed(sink, reason, 0, now);
		deliver_result(d, RESULT_RETRY, reason, now);
		return;
	}

	memset(&event, 0, sizeof(event));
	event.id = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&d->id)));
	event.source = event_source();
	event.operation = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&d->operation)));
	event.kind = column_text(tuple, desc, F_KIND);
	event.result = column_text(tuple, desc, F_RESULT);
	event.eid = column_text(tuple, desc, F_EID);
	event.iccid = column_text(tuple, desc, F_ICCID);
	event.error_code = column_utf8(tuple, desc, F_ERROR_CODE);
	event.error_message = column_utf8(tuple, desc, F_ERROR_MESSAGE);
	event.completed_at = column_text(tuple, desc, F_COMPLETED_AT);
	event.correlator = column_text(tuple, desc, F_CORRELATOR);

	form = strcmp(column_text(tuple, desc, F_FORMAT), "form") == 0;
	get = form && strcmp(column_text(tuple, desc, F_METHOD), "POST") != 0;
	message = form ? sink_form(&event) : sink_cloudevent(&event);
	if (message == NULL)
	{
		d->host = NULL;
		deliver_result(d, RESULT_GIVEN_UP, "the message could not be made", now);
		return;
	}
	path = unconstify(char *, route.target);
	if (get)
	{
		char	   *query = strchr(path, '?');

		path = psprintf("%s%s%s", path, query == NULL ? "?" :
						query[1] == '\0' || path[strlen(path) - 1] == '&' ? "" : "&", message);
	}
	d->request = http_request_create(d->host->endpoint, get ? "GET" : "POST", path,
									 get ? NULL : form ? "application/x-www-form-urlencoded" :
									 "application/cloudevents+json",
									 get ? NULL : message, get ? 0 : strlen(message), d);
	if (d->request == NULL ||
		!http_request_header(d->request, "x-correlator", event.correlator))
	{
		free(message);
		d->host = NULL;
		d->delay_ms = BACKOFF_MS;
		deliver_result(d, RESULT_RETRY, "the request could not be made", now);
		return;
	}
	if (!form && !add_credential(d, tuple, desc, event.id, message, now))
	{
		free(message);
		http_request_free(d->request);
		d->request = NULL;
		d->host = NULL;
		if (d->result == RESULT_GIVEN_UP)
			d->tries--;
		return;
	}
	free(message);

	outbox.nflying++;
	sink->in_flight++;
	d->host->in_flight++;
	if (!sink->proven)
	{
		d->counted_unproven = true;
		outbox.nunproven++;
		d->host->unproven++;
	}
}
