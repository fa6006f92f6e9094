/*-------------------------------------------------------------------------
 *
 * camara.c
 *	  CloudEvents of CAMARA eSIM management: hints that an operation has
 *	  completed.
 *
 *-------------------------------------------------------------------------
 */
#include "receive/receive.h"

#include "utils/builtins.h"

/* the OpenAPI's type, and those of its sequence diagram */
static bool
type_counts(const char *type)
{
	static const char *const names[] = {
		"operation-completed", "esim-downloaded", "esim-enabled", "esim-fallback-set"
	};
	const char *last = strrchr(type, '.');

	last = last != NULL ? last + 1 : type;
	for (int i = 0; i < lengthof(names); i++)
	{
		if (strcmp(last, names[i]) == 0)
			return true;
	}
	return false;
}

static bool
all_digits(const char *text, size_t min, size_t max)
{
	size_t		n = text != NULL ? strspn(text, "0123456789") : 0;

	return n >= min && n <= max && text[n] == '\0';
}

/* an operation of this server by our own identifier; 0: none, 1: open, 2: completed */
static int
find_by_correlation(Received *received, const char *text, pg_uuid_t *id)
{
	static EsimStatement find = {
		"SELECT o.status = 'COMPLETED' FROM @esim_operation o WHERE o.id = $1 AND o.server = $2", 2, {"uuid", "text"}
	};
	Datum		values[2];
	bool		isnull;

	if (!receive_uuid(text, id))
		return 0;
	values[0] = UUIDPGetDatum(id);
	values[1] = CStringGetTextDatum(received->server->rsp.name);
	esim_execute_latest(&find, values, NULL, 1);
	if (SPI_processed == 0)
		return 0;
	return DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)) ? 2 : 1;
}

/* by the server's identifier, on the eUICC that the event names if it does */
static int
find_by_operation(Received *received, const char *operation, const char *eid, pg_uuid_t *id)
{
	/* of what has completed, the requests tell */
	static EsimStatement on_euicc = {
		"SELECT o.id, o.status = 'COMPLETED' FROM (SELECT x.id, x.seq, x.server, x.status, x.rsp_operation_id FROM @esim_operation x"
		"  WHERE x.eid OPERATOR(@=) $3::@eid(unchecked) ORDER BY x.seq DESC LIMIT 200) o"
		" WHERE o.server = $1 AND (o.rsp_operation_id = $2"
		"  OR EXISTS (SELECT FROM @esim_attempt a WHERE a.operation = o.id AND right(a.url, length($2) + 1) = '/' || $2))"
		" ORDER BY 2, o.seq DESC LIMIT 1",
		3, {"text", "text", "text"}
	};
	static EsimStatement anywhere = {
		"SELECT q.operation, false FROM @esim_pending q WHERE q.server = $1 AND q.rsp_operation_id = $2 LIMIT 1",
		2, {"text", "text"}
	};
	Datum		values[3];
	bool		isnull;

	if (operation == NULL)
		return 0;
	values[0] = CStringGetTextDatum(received->server->rsp.name);
	values[1] = CStringGetTextDatum(operation);
	if (eid != NULL)
	{
		values[2] = CStringGetTextDatum(eid);
		esim_execute_latest(&on_euicc, values, NULL, 1);
	}
	else
		esim_execute_latest(&anywhere, values, NULL, 1);
	if (SPI_processed == 0)
		return 0;
	*id = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	return DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull)) ? 2 : 1;
}

/*
 * One whose answer was lost, or is not here yet, has no identifier of the
 * server: such ones of that eUICC ask.
 */
static int
hurry_unresolved(Received *received, const char *eid)
{
	static EsimStatement find = {
		"SELECT q.operation FROM @esim_device d JOIN @esim_pending q ON q.lane = d.lane"
		" WHERE d.eid OPERATOR(@=) $1::@eid(unchecked) AND q.server = $2 AND (q.unresolved OR q.claimed) AND q.rsp_operation_id IS NULL",
		2, {"text", "text"}
	};
	Datum		values[2];
	Datum	   *ids;
	int			n;

	values[0] = CStringGetTextDatum(eid);
	values[1] = CStringGetTextDatum(received->server->rsp.name);
	esim_execute_latest(&find, values, NULL, 100);
	n = (int) SPI_processed;
	ids = palloc(sizeof(Datum) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		bool		isnull;

		ids[i] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
	}
	receive_settle(ids, n);
	return receive_hurry(ids, n);
}

ReceiveOutcome
receive_camara(Received *received)
{
	static const char *const correlations[] = {"data.correlationId", "correlationId", "correlationid", "data.xCorrelator"};
	char	   *type = receive_member(received->event, "type");
	char	   *source = receive_member(received->event, "source");
	char	   *event_id = receive_member(received->event, "id");
	char	   *operation = receive_member(received->event, "data.operationId");
	char	   *eid = receive_member(received->event, "data.esim.eid");
	bool		named = operation != NULL;
	pg_uuid_t	id;
	Datum		datum;
	int			found = 0;

	if (type == NULL || source == NULL || event_id == NULL || event_id[0] == '\0')
		receive_refuse("A CloudEvent has type, source and id.");
	if (eid == NULL)
		eid = receive_member(received->event, "data.esimProfile.eid");
	if (eid == NULL)
		eid = receive_member(received->event, "data.eid");
	if (!all_digits(eid, 32, 32))
		eid = NULL;
	received->eid = eid;
	if (operation != NULL && (operation[0] == '\0' || strlen(operation) > 127))
		operation = NULL;

	if (!receive_keep(type, psprintf("%s %s", event_id, source), NULL))
		return RECEIVE_DUPLICATE;
	if (!type_counts(type))
		return RECEIVE_IGNORED;

	for (int i = 0; i < lengthof(correlations) && found == 0; i++)
		found = find_by_correlation(received, receive_member(received->event, correlations[i]), &id);
	if (found == 0)
		found = find_by_operation(received, operation, eid, &id);
	if (found == 0 && eid != NULL)
	{
		if (hurry_unresolved(received, eid) > 0)
			return RECEIVE_ASKED;
		/* meanwhile its answer may have come */
		found = find_by_operation(received, operation, eid, &id);
	}
	if (found == 2)
		return RECEIVE_DUPLICATE;
	if (found == 1)
	{
		datum = UUIDPGetDatum(&id);
		receive_settle(&datum, 1);
		(void) receive_hurry(&datum, 1);
		return RECEIVE_ASKED;
	}

	/* nothing that we asked for, but news of an eUICC of ours */
	if (!named && eid != NULL && receive_refresh(received, eid, received->server->rsp.name))
		return RECEIVE_ASKED;
	return RECEIVE_UNKNOWN;
}
