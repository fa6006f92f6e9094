/*-------------------------------------------------------------------------
 *
 * es2plus.c
 *	  HandleDownloadProgressInfo (SGP.22 5.3.5), HandleNotification (version
 *	  3): what an SM-DP+ tells of a profile on its way to an eUICC.
 *
 * An SM-DP+ cannot be asked, so its word counts, where the ICCID and, if the
 * order is bound to one, the EID are those of an order at that server.  It
 * never takes back what is known better.
 *
 * The profile's row is written here; an operation that waits for it is ended
 * by the worker: by an outcome in esim_deferred where nobody has it in hand,
 * else when the driver looks at the profile next.
 *
 *-------------------------------------------------------------------------
 */
#include "receive/receive.h"

#include "catalog/pg_type.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "rsp/es2plus_event.h"

/* The order that a notification is about. */
typedef struct Order
{
	pg_uuid_t	profile;
	RspState	state;
	char	   *bound;			/* EID; NULL: bound to none */
	bool		has_download;	/* an unfinished download of it at this server */
	pg_uuid_t	download;
	Oid			owner;
	int			port;
} Order;

static char *
text_of(int column)
{
	bool		isnull;
	Datum		datum = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(datum);
}

/*
 * Finds and locks the order of an ICCID; false: there is none, or more than
 * one.
 */
static bool
find_order(Received *received, const Es2plusProgress *progress, Order *order)
{
	static EsimStatement find = {
		"SELECT p.id, p.live, count(*) FILTER (WHERE p.live) OVER (),"
		" (SELECT x.id FROM @esim_operation x WHERE x.profile = p.id AND x.server = $2 AND x.kind = 'download' AND x.status = 'ACCEPTED' ORDER BY x.seq LIMIT 1)"
		" FROM @esim_profile p"
		" WHERE p.iccid OPERATOR(@=) $1::@iccid(unchecked) AND p.state <> 'CANCELLED' AND p.profile_class = 'OPERATIONAL'"
		" AND (p.server = $2 OR EXISTS (SELECT FROM @esim_operation o WHERE o.profile = p.id AND o.server = $2))"
		" ORDER BY p.live, p.state_at DESC LIMIT 1",
		2, {"text", "text"}
	};
	static EsimStatement lock = {
		"SELECT p.state::text, coalesce(o.eid, p.eid, p.reserved_eid)::text, o.id, p.owner, p.port"
		" FROM @esim_profile p LEFT JOIN LATERAL (SELECT x.id, x.eid FROM @esim_operation x WHERE x.profile = p.id AND x.server = $2"
		"  AND x.kind = 'download' AND x.status = 'ACCEPTED' ORDER BY x.seq LIMIT 1) o ON true"
		" WHERE p.id = $1 FOR NO KEY UPDATE OF p",
		2, {"uuid", "text"}
	};
	Datum		values[2];
	Datum		datum;
	bool		isnull;
	int64		live;
	char	   *state;

	memset(order, 0, sizeof(Order));
	values[0] = CStringGetTextDatum(progress->iccid);
	values[1] = CStringGetTextDatum(received->server->rsp.name);
	esim_execute_latest(&find, values, NULL, 1);
	if (SPI_processed == 0)
		return false;
	live = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3, &isnull));
	if (live > 1)
		return false;
	order->profile = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
												  &isnull));

	/* before the row is locked: the worker may have to write it */
	datum = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4, &isnull);
	if (!isnull)
		receive_settle(&datum, 1);
	values[0] = UUIDPGetDatum(&order->profile);
	esim_execute_latest(&lock, values, NULL, 1);
	if (SPI_processed == 0)
		return false;
	state = text_of(1);
	if (state == NULL || !rsp_state_from_name(state, &order->state))
		return false;
	order->bound = text_of(2);
	datum = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3, &isnull);
	if (!isnull)
	{
		order->has_download = true;
		order->download = *DatumGetUUIDP(datum);
	}
	order->owner = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4,
												  &isnull));
	order->port = DatumGetInt16(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 5,
											  &isnull));
	return true;
}

/* What the point means at this server; "NONE": nothing is known of it. */
static char *
point_meaning(Received *received, const char *function, int point)
{
	static EsimStatement meaning = {
		"SELECT n.meaning FROM @esim_notification_point n WHERE n.point = $2 AND (n.server = $1 OR n.server IS NULL)"
		" AND (n.function = $3 OR n.function IS NULL) ORDER BY n.server, n.function LIMIT 1",
		3, {"text", "int4", "text"}
	};
	Datum		values[3];

	values[0] = CStringGetTextDatum(received->server->rsp.name);
	values[1] = Int32GetDatum(point);
	values[2] = CStringGetTextDatum(function);
	esim_execute(&meaning, values, NULL, 1);
	return SPI_processed == 0 ? pstrdup("NONE") : text_of(1);
}

/* Does the new state say more than what is known? */
static bool
is_news(const Order *order, RspState new)
{
	if (new == RSP_STATE_NONE || new == order->state || order->state == RSP_STATE_CANCELLED)
		return false;
	switch (new)
	{
		case RSP_STATE_DOWNLOADED:
		case RSP_STATE_INSTALLED:
			/* gone, or failed: only a new download brings it back */
			if (rsp_state_progress(order->state) == 0)
				return order->has_download ||
					(order->state == RSP_STATE_FAILED && new == RSP_STATE_INSTALLED);
			return rsp_state_progress(new) > rsp_state_progress(order->state);
		case RSP_STATE_FAILED:
			return rsp_state_progress(order->state) > 0 && rsp_state_progress(order->state) <= 4;
		case RSP_STATE_ENABLED:
		case RSP_STATE_DISABLED:
		case RSP_STATE_DELETED:
			/* what came before may still be on its way */
			return rsp_state_progress(order->state) >= 3;
		default:
			return false;
	}
}

static void
add_event(const Order *order, const pg_uuid_t *profile, const char *eid, RspState old,
		  RspState new, const char *cause, const char *detail)
{
	static EsimStatement add = {
		"INSERT INTO @esim_profile_event (profile, eid, old_state, new_state, cause, operation, detail)"
		" VALUES ($1, $2::@eid(unchecked), nullif($3, '')::@esim_profile_state, nullif($4, '')::@esim_profile_state, $5, $6, $7)",
		7, {"uuid", "text", "text", "text", "text", "uuid", "text"}
	};
	Datum		values[7];
	char		nulls[7] = {' ', ' ', ' ', ' ', ' ', ' ', ' '};

	values[0] = UUIDPGetDatum(profile);
	if (eid != NULL && eid[0] != '\0')
		values[1] = CStringGetTextDatum(eid);
	else
		nulls[1] = 'n';
	values[2] = CStringGetTextDatum(rsp_state_name(old));
	values[3] = CStringGetTextDatum(rsp_state_name(new));
	values[4] = CStringGetTextDatum(cause);
	if (order->has_download)
		values[5] = UUIDPGetDatum(&order->download);
	else
		nulls[5] = 'n';
	if (detail != NULL)
		values[6] = CStringGetTextDatum(detail);
	else
		nulls[6] = 'n';
	esim_execute_latest(&add, values, nulls, 0);
}

/* One ENABLED per eUICC and port: demote first, promote second. */
static void
demote_others(const Order *order, const char *eid)
{
	static EsimStatement demote = {
		"UPDATE @esim_profile SET state = 'DISABLED', state_at = now(), state_source = 'event'"
		" WHERE eid OPERATOR(@=) $1::@eid(unchecked) AND port = $2 AND state = 'ENABLED' AND id <> $3 RETURNING id",
		3, {"text", "int2", "uuid"}
	};
	Datum		values[3];
	uint64		n;
	pg_uuid_t  *ids;

	values[0] = CStringGetTextDatum(eid);
	values[1] = Int16GetDatum(order->port);
	values[2] = UUIDPGetDatum(&order->profile);
	esim_execute_latest(&demote, values, NULL, 0);
	n = SPI_processed;
	ids = palloc(sizeof(pg_uuid_t) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;

		ids[i] = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1,
											  &isnull));
	}
	for (uint64 i = 0; i < n; i++)
		add_event(order, &ids[i], eid, RSP_STATE_ENABLED, RSP_STATE_DISABLED, "LOCAL",
				  "another profile was enabled");
}

/* new: RSP_STATE_NONE leaves the state */
static void
write_profile(const Order *order, const char *eid, RspState new, const char *said)
{
	/* the eUICC of another owner's device is not taken down on this word */
	static EsimStatement write = {
		"UPDATE @esim_profile p SET state = coalesce(nullif($2, '')::@esim_profile_state, p.state),"
		" is_fallback = p.is_fallback AND nullif($2, '') IS DISTINCT FROM 'DELETED',"
		" eid = CASE WHEN $3 IS NULL OR EXISTS (SELECT FROM @esim_device d WHERE d.eid OPERATOR(@=) $3::@eid(unchecked) AND d.owner <> p.owner)"
		"  THEN p.eid ELSE $3::@eid(unchecked) END,"
		" rsp_state = $4, state_at = CASE WHEN $2 = '' THEN p.state_at ELSE now() END,"
		" state_source = CASE WHEN $2 = '' THEN p.state_source ELSE 'event' END"
		" WHERE p.id = $1",
		4, {"uuid", "text", "text", "text"}
	};
	Datum		values[4];
	char		nulls[4] = {' ', ' ', ' ', ' '};

	values[0] = UUIDPGetDatum(&order->profile);
	values[1] = CStringGetTextDatum(rsp_state_name(new));
	if (eid != NULL && eid[0] != '\0')
		values[2] = CStringGetTextDatum(eid);
	else
		nulls[2] = 'n';
	values[3] = CStringGetTextDatum(said);
	esim_execute_latest(&write, values, nulls, 0);
}

/*
 * Ends the download that waits for the device: code NULL: SUCCESS.  The
 * outcome is applied by the worker; while that has the operation in hand, the
 * driver is left to find the profile as it is now.
 */
static void
end_download(const Order *order, const Es2plusProgress *progress, const char *code)
{
	static EsimStatement defer = {
		"WITH q AS MATERIALIZED (SELECT x.operation, x.shard FROM @esim_pending x WHERE x.operation = $1 AND x.state = 'W' AND NOT x.claimed"
		"  FOR NO KEY UPDATE SKIP LOCKED)"
		" INSERT INTO @esim_deferred (operation, shard, outcome) SELECT q.operation, q.shard, $2 FROM q"
		" WHERE NOT EXISTS (SELECT FROM @esim_deferred d WHERE d.operation = q.operation)",
		2, {"uuid", "text"}
	};
	Datum		values[2];
	Datum		id = UUIDPGetDatum(&order->download);
	StringInfoData outcome;

	/* as note.c has it; the profile's row is written already: no state */
	initStringInfo(&outcome);
	appendStringInfo(&outcome, "{\"type\":%d,\"phase\":%d,\"delay\":0,\"state_set\":true,\"state\":%d,\"code\":\"%s\",\"message\":",
					 (int) (code == NULL ? RSP_ACT_DONE : RSP_ACT_FAIL), (int) RSP_PHASE_DONE,
					 (int) RSP_STATE_NONE, code == NULL ? "" : code);
	if (code == NULL)
		appendStringInfoString(&outcome, "\"\"");
	else
		escape_json(&outcome, psprintf("the device could not get the profile (notification %s %d)",
									   progress->v3 ? "event" : "point", progress->point));
	appendStringInfo(&outcome, ",\"rsp_code\":\"%s%s%s\",\"rsp_message\":",
					 progress->execution.subject, progress->execution.reason[0] ? "/" : "",
					 progress->execution.reason);
	escape_json(&outcome, progress->execution.message);
	appendStringInfoString(&outcome, "}");

	values[0] = id;
	values[1] = CStringGetTextDatum(outcome.data);
	esim_execute_latest(&defer, values, NULL, 0);
	if (SPI_processed > 0)
		esim_wake_at_commit();
	else
		(void) receive_hurry(&id, 1);
}

/*
 * The server that manages the eUICC and can list it, if that is another one;
 * NULL: nobody knows better than this server.
 */
static char *
managing_server(Received *received, const char *eid)
{
	static EsimStatement find = {
		"SELECT d.server FROM @esim_device d WHERE d.eid OPERATOR(@=) $1::@eid(unchecked) AND d.server <> $2 AND d.retired_at IS NULL",
		2, {"text", "text"}
	};
	Datum		values[2];
	char	   *name;
	char	   *reason;
	const char *note;
	EsimServer *server;
	const RspDriver *driver;
	bool		can = false;

	if (eid == NULL)
		return NULL;
	values[0] = CStringGetTextDatum(eid);
	values[1] = CStringGetTextDatum(received->server->rsp.name);
	esim_execute_latest(&find, values, NULL, 1);
	if (SPI_processed == 0)
		return NULL;
	name = text_of(1);
	server = esim_server_get(name, InvalidOid, false, &reason);
	if (server != NULL)
	{
		driver = rsp_driver(server->rsp.protocol);
		can = driver != NULL && driver->supports(server->rsp.dialect, RSP_REFRESH, &note);
		esim_server_release(server);
	}
	return can ? name : NULL;
}

/* The time that a notification gives, in a form that sorts; NULL: it gives none. */
static char *
time_of(const Es2plusProgress *progress)
{
	pg_time_t	seconds = progress->at_ms / 1000;
	struct pg_tm *tm = progress->at_ms > 0 ? pg_gmtime(&seconds) : NULL;

	if (tm == NULL)
		return NULL;
	return psprintf("%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm->tm_year + 1900, tm->tm_mon + 1,
					tm->tm_mday, tm->tm_hour, tm->tm_min, tm->tm_sec,
					(int) (progress->at_ms % 1000));
}

/* Has a notification of a later switch come before this one? */
static bool
is_overtaken(const Order *order, const char *at)
{
	static EsimStatement later = {
		"SELECT FROM @esim_profile_event e WHERE e.profile = $1 AND e.new_state IN ('ENABLED', 'DISABLED', 'DELETED')"
		" AND substring(e.detail FROM ', at ([0-9T:.-]{23}Z)$') COLLATE \"C\" > $2 LIMIT 1",
		2, {"uuid", "text"}
	};
	Datum		values[2];

	if (at == NULL)
		return false;
	values[0] = UUIDPGetDatum(&order->profile);
	values[1] = CStringGetTextDatum(at);
	esim_execute_latest(&later, values, NULL, 1);
	return SPI_processed > 0;
}

/* local switches, told by vendors' own points */
static ReceiveOutcome
device_changed(Received *received, Order *order, const char *eid, RspState new, const char *said,
			   const char *at)
{
	char	   *manager = managing_server(received, eid);

	if (is_overtaken(order, at))
		return RECEIVE_IGNORED;
	if (manager != NULL && receive_refresh(received, eid, manager))
		return RECEIVE_ASKED;
	if (!is_news(order, new))
		return RECEIVE_IGNORED;
	if (new != RSP_STATE_DELETED && eid == NULL)
		new = RSP_STATE_INSTALLED;	/* where, nobody has said */
	if (!is_news(order, new))
		return RECEIVE_IGNORED;
	if (new == RSP_STATE_ENABLED)
		demote_others(order, eid);
	write_profile(order, eid, new, said);
	add_event(order, &order->profile, eid, order->state, new, "LOCAL",
			  at != NULL ? psprintf("%s, at %s", said, at) : said);
	if (order->has_download && new != RSP_STATE_DELETED)
	{
		Es2plusProgress none;

		memset(&none, 0, sizeof(none));
		end_download(order, &none, NULL);
	}
	return RECEIVE_APPLIED;
}

ReceiveOutcome
receive_es2plus(Received *received)
{
	static const char *const status_words[] = {"", "Executed-Success", "Executed-WithWarning", "Failed", "Expired"};
	Es2plusProgress progress;
	Es2plusMeaning meaning;
	const char *reason;
	const char *function;
	char	   *point;
	char	   *said;
	char	   *key = NULL;
	char	   *eid;
	Order		order;
	bool		success;
	RspState	new = RSP_STATE_NONE;

	if (!es2plus_progress(received->text, received->length, &progress, &reason))
		receive_refuse(psprintf("HandleDownloadProgressInfo or HandleNotification %s.", reason));
	received->eid = pstrdup(progress.eid);
	received->iccid = pstrdup(progress.iccid);

	function = progress.v3 ? "handleNotification" : "handleDownloadProgressInfo";
	said = psprintf("notification %s %d: %s%s%s%s%s", progress.v3 ? "event" : "point", progress.point,
					status_words[progress.execution.status],
					progress.execution.subject[0] ? ", " : "", progress.execution.subject,
					progress.execution.reason[0] ? "/" : "", progress.execution.reason);

	/*
	 * The same again has the time of the first.  That counts, too, since there
	 * are servers whose functionCallIdentifier never changes (CMLink).
	 */
	if (progress.call_id[0] != '\0' || progress.time[0] != '\0')
		key = psprintf("%s %s %s %s%d %s %s", progress.requester, progress.call_id,
					   progress.iccid, progress.v3 ? "event " : "", progress.point,
					   status_words[progress.execution.status], progress.time);
	if (!receive_keep(function, key, NULL))
		return RECEIVE_DUPLICATE;
	if (progress.iccid[0] == '\0')
		return RECEIVE_IGNORED;
	if (!find_order(received, &progress, &order))
		return RECEIVE_UNKNOWN;

	/* it counts for the eUICC that the order is bound to */
	if (order.bound != NULL && strcmp(order.bound, progress.eid) != 0)
	{
		Datum		id = UUIDPGetDatum(&order.download);

		if (progress.eid[0] == '\0' && order.has_download &&
			receive_hurry(&id, 1) > 0)
			return RECEIVE_ASKED;
		return RECEIVE_UNKNOWN;
	}
	eid = order.bound != NULL ? order.bound : progress.eid[0] ? progress.eid : NULL;

	point = point_meaning(received, function, progress.point);
	success = progress.execution.status == ES2PLUS_SUCCESS ||
		progress.execution.status == ES2PLUS_WARNING;
	if (strcmp(point, "ENABLED") == 0 || strcmp(point, "DISABLED") == 0 ||
		strcmp(point, "DELETED") == 0)
	{
		if (!success || !rsp_state_from_name(point, &new))
			return RECEIVE_IGNORED;
		return device_changed(received, &order, eid, new, said, time_of(&progress));
	}

	/* a vendor's number for one of SGP.22's points is read as that */
	if (strcmp(point, "ELIGIBILITY") == 0)
		progress.point = 1;
	else if (strcmp(point, "CONFIRMATION") == 0)
		progress.point = 2;
	else if (strcmp(point, "DOWNLOADED") == 0)
		progress.point = 3;
	else if (strcmp(point, "INSTALLED") == 0)
		progress.point = 4;
	else
		return RECEIVE_IGNORED;

	es2plus_meaning(&progress, &meaning);
	if (meaning.state != NULL && !rsp_state_from_name(meaning.state, &new))
		new = RSP_STATE_NONE;
	if (!is_news(&order, new))
	{
		/* late, or told before; a failure that is not the end is kept with it */
		if (new != RSP_STATE_NONE || rsp_state_progress(order.state) >= 5 || rsp_state_progress(order.state) == 0)
			return RECEIVE_IGNORED;
		new = RSP_STATE_NONE;
	}
	write_profile(&order, eid, new, said);
	if (new != RSP_STATE_NONE || !success)
		add_event(&order, &order.profile, eid, order.state,
				  new != RSP_STATE_NONE ? new : order.state,
				  order.has_download ? "OPERATION" : "LOCAL", said);
	if (order.has_download && meaning.ends)
		end_download(&order, &progress, success ? NULL : meaning.code);
	return RECEIVE_APPLIED;
}
