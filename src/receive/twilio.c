/*-------------------------------------------------------------------------
 *
 * twilio.c
 *	  Callbacks of Super SIM: hints that an ESimProfile or a Sim has changed.
 *
 *-------------------------------------------------------------------------
 */
#include "receive/receive.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "rsp/twilio_event.h"

static void
take_fields(TwilioCallback *callback, Jsonb *object)
{
	static EsimStatement fields = {
		"SELECT left(e.key, 64), e.value FROM jsonb_each_text($1) e(key, value) WHERE length(e.value) <= 1000 LIMIT 200", 1, {"jsonb"}
	};
	Datum		value;

	if (object == NULL)
		return;
	value = JsonbPGetDatum(object);
	esim_execute(&fields, &value, NULL, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
		twilio_callback_field(callback,
							  SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1),
							  SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2));
}

/* what was understood, for those who look at the event later */
static Jsonb *
understood(const TwilioCallback *callback)
{
	static EsimStatement build = {
		"SELECT jsonb_strip_nulls(jsonb_build_object('op', nullif($1, ''), 'Sid', coalesce(nullif($2, ''), nullif($3, '')), 'Status', nullif($4, '')))",
		4, {"text", "text", "text", "text"}
	};
	Datum		values[4];
	bool		isnull;

	values[0] = CStringGetTextDatum(callback->operation);
	values[1] = CStringGetTextDatum(callback->profile_sid);
	values[2] = CStringGetTextDatum(callback->sim_sid);
	values[3] = CStringGetTextDatum(callback->status);
	esim_execute(&build, values, NULL, 1);
	return DatumGetJsonbPCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

ReceiveOutcome
receive_twilio(Received *received)
{
	/* the operation named, and the profiles by whatever names one */
	static EsimStatement profiles = {
		"SELECT p.id, coalesce(p.eid, p.reserved_eid)::text FROM @esim_profile p"
		" WHERE p.rsp_id = nullif($2, '') AND p.server = $1"
		" UNION SELECT p.id, coalesce(p.eid, p.reserved_eid)::text FROM @esim_profile p"
		" WHERE p.sim_id = nullif($3, '') AND coalesce(p.subscription_server, p.server) = $1"
		" UNION SELECT p.id, coalesce(p.eid, p.reserved_eid)::text FROM @esim_operation o JOIN @esim_profile p ON p.id = o.profile"
		" WHERE o.id = nullif($4, '')::uuid AND o.server = $1 LIMIT 100",
		4, {"text", "text", "text", "text"}
	};
	static EsimStatement waiting = {
		"SELECT o.id FROM @esim_operation o WHERE o.id = nullif($2, '')::uuid AND o.server = $1 AND o.status = 'ACCEPTED'"
		" UNION SELECT o.id FROM @esim_operation o WHERE o.profile = ANY ($3) AND o.server = $1 AND o.status = 'ACCEPTED'",
		3, {"text", "text", "uuid[]"}
	};
	TwilioCallback callback;
	const char *reason = "";
	Datum		values[4];
	Datum	   *found;
	Datum	   *ids;
	char	  **eids;
	int			nprofiles;
	int			n;
	bool		isnull;

	memset(&callback, 0, sizeof(callback));
	take_fields(&callback, received->event);
	take_fields(&callback, received->query_object);
	if (received->query_text != NULL &&
		!twilio_callback(received->query_text, strlen(received->query_text), &callback, &reason))
		receive_refuse(psprintf("The query %s.", reason));
	if (!callback.ambiguous && !twilio_callback_usable(&callback))
		receive_refuse("It names neither an ESimProfile, nor a Sim, nor an operation.");
	received->eid = pstrdup(callback.eid);
	received->iccid = pstrdup(callback.iccid);

	/* a status may come again, and mean it: nothing makes a duplicate */
	(void) receive_keep("callback", NULL, understood(&callback));
	if (callback.ambiguous)
		return RECEIVE_UNKNOWN;

	values[0] = CStringGetTextDatum(received->server->rsp.name);
	values[1] = CStringGetTextDatum(callback.profile_sid);
	values[2] = CStringGetTextDatum(callback.sim_sid);
	values[3] = CStringGetTextDatum(callback.operation);
	esim_execute_latest(&profiles, values, NULL, 0);
	nprofiles = (int) SPI_processed;
	found = palloc(sizeof(Datum) * Max(nprofiles, 1));
	eids = palloc(sizeof(char *) * Max(nprofiles, 1));
	for (int i = 0; i < nprofiles; i++)
	{
		Datum		eid = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull);

		eids[i] = isnull ? NULL : TextDatumGetCString(eid);
		found[i] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
	}

	values[1] = CStringGetTextDatum(callback.operation);
	values[2] = PointerGetDatum(construct_array(found, nprofiles, UUIDOID, UUID_LEN, false,
												TYPALIGN_CHAR));
	esim_execute_latest(&waiting, values, NULL, 0);
	n = (int) SPI_processed;
	ids = palloc(sizeof(Datum) * Max(n, 1));
	for (int i = 0; i < n; i++)
		ids[i] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
	receive_settle(ids, n);
	if (receive_hurry(ids, n) > 0)
		return RECEIVE_ASKED;

	/* nothing waits for it: the eUICC is listed */
	for (int i = 0; i < nprofiles; i++)
	{
		if (eids[i] != NULL && receive_refresh(received, eids[i], received->server->rsp.name))
			return RECEIVE_ASKED;
	}
	if (nprofiles == 0 && callback.eid[0] != '\0' &&
		receive_refresh(received, callback.eid, received->server->rsp.name))
		return RECEIVE_ASKED;
	return nprofiles > 0 || n > 0 ? RECEIVE_IGNORED : RECEIVE_UNKNOWN;
}
