/*-------------------------------------------------------------------------
 *
 * timeline.c
 *	  esim_timeline(): what happened to an eUICC, in order, and what is being
 *	  waited for.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "operation/operation.h"

static EsimStatement last_seen_at = {
	"SELECT s.last_seen_at FROM @esim_device_state s WHERE s.eid = $1",
	1, {"@eid"}
};

/*
 * Policies do not hold for the extension's owner, so their conditions are here:
 * rows of owners that $2 is a member of, or that hang on such rows.
 */
#define VISIBLE(t) \
	"pg_has_role($2, " t ".owner, 'USAGE') AND pg_get_userbyid(" t ".owner) = " t ".owner_name"

#define SHOWN \
	"o.id, o.seq, o.kind, o.iccid, o.profile, o.requested_by, o.server, o.result, o.error_code, o.error_message," \
	" o.retry_of, o.activate_on_download, o.created_at, o.sent_at, o.completed_at"

/*
 * Operations of the eUICC, and those in the network of the profiles that are
 * on it or bound to it.  A target is shown without its query, which may hold a
 * secret.
 *
 * IS TRUE: operations without an EID are not to be gone through by the index.
 */
static EsimStatement history = {
	"WITH m AS MATERIALIZED ("
	"SELECT " SHOWN " FROM @esim_operation o WHERE o.eid = $1 AND " VISIBLE("o")
	"), p AS MATERIALIZED ("
	"SELECT p.id, p.iccid FROM @esim_profile p"
	" WHERE p.id IN (SELECT a.id FROM @esim_profile a WHERE a.eid = $1 UNION SELECT m.profile FROM m)"
	" AND " VISIBLE("p")
	"), o AS MATERIALIZED ("
	"SELECT * FROM m"
	" UNION ALL "
	"SELECT " SHOWN " FROM p JOIN @esim_operation o ON o.profile = p.id WHERE (o.eid IS NULL) IS TRUE AND " VISIBLE("o")
	"), happened (at, seq, step, what, kind, iccid, operation, detail) AS ("
	"SELECT o.created_at, o.seq, 1, 'asked', o.kind, o.iccid, o.id,"
	" concat_ws(', ', 'by ' || pg_get_userbyid(o.requested_by), 'server ' || o.server,"
	"  CASE WHEN o.activate_on_download THEN 'to be enabled as well' END, 'again for ' || o.retry_of)"
	" FROM o"
	" UNION ALL "
	"SELECT o.sent_at, o.seq, 2, 'sent', o.kind, o.iccid, o.id, 'to server ' || o.server"
	" FROM o WHERE o.sent_at IS NOT NULL"
	" UNION ALL "
	"SELECT a.at, o.seq, 3, 'attempt', o.kind, o.iccid, o.id,"
	" concat(a.method, ' ', split_part(a.url, '?', 1), ': ',"
	"  concat_ws(', ', coalesce('HTTP ' || a.http_status, 'no answer'), a.outcome, a.detail, a.duration_ms || ' ms'))"
	" FROM o JOIN @esim_attempt a ON a.operation = o.id"
	" UNION ALL "
	"SELECT e.at, coalesce(o.seq, 0), 4, 'profile', o.kind, p.iccid, e.operation,"
	" concat_ws(', ', concat_ws(' to ', nullif(e.old_state, e.new_state), e.new_state), 'cause ' || e.cause, e.detail)"
	" FROM p JOIN @esim_profile_event e ON e.profile = p.id"
	" LEFT JOIN @esim_operation o ON o.id = e.operation AND (o.eid = $1 OR o.eid IS NULL) AND " VISIBLE("o")
	" WHERE e.eid = $1 OR (e.eid IS NULL AND o.id IS NOT NULL)"
	" UNION ALL "
	"SELECT v.at, 0, 5, v.what, NULL, p.iccid, NULL,"
	" concat(x.what, ': ours ', coalesce(x.ours, 'none'), ', reported ', coalesce(x.reported, 'none'))"
	" FROM @esim_drift x LEFT JOIN p ON p.id = x.profile"
	" CROSS JOIN LATERAL (VALUES (x.seen_at, 'drift'), (x.resolved_at, 'drift resolved')) v (at, what)"
	" WHERE x.eid = $1 AND v.at IS NOT NULL AND (x.profile IS NULL OR p.id IS NOT NULL)"
	" UNION ALL "
	"SELECT o.completed_at, o.seq, 6, 'completed', o.kind, o.iccid, o.id,"
	" concat_ws(': ', o.result, concat_ws(', ', o.error_code, o.error_message))"
	" FROM o WHERE o.completed_at IS NOT NULL"
	" UNION ALL "
	"SELECT coalesce(n.delivered_at, o.completed_at, o.created_at), o.seq, 7, 'notification', o.kind, o.iccid, o.id,"
	" concat_ws(', ', 'to ' || split_part(n.target, '?', 1), n.state,"
	"  n.tries || CASE n.tries WHEN 1 THEN ' try' ELSE ' tries' END, n.last_error)"
	" FROM o JOIN @esim_notification n ON n.operation = o.id"
	") SELECT h.at, h.what, h.kind, h.iccid, h.operation, nullif(rtrim(h.detail, ': '), '')"
	" FROM happened h WHERE $3 IS NULL OR h.at >= $3"
	" ORDER BY h.at, h.seq, h.step",
	3, {"@eid", "oid", "timestamptz"}
};

/* the first operation of each lane, that of the eUICC last */
static EsimStatement waiting = {
	"SELECT w.kind, w.iccid, w.id, w.phase::text, w.phase_reason, w.next_at, w.not_before, w.sent_at, w.expires_at,"
	" w.behind, (SELECT coalesce(x.server, '') FROM @esim_paused x WHERE x.server IS NULL OR x.server = w.server"
	"  ORDER BY x.server NULLS FIRST LIMIT 1)"
	" FROM (SELECT o.*, q.lane, row_number() OVER (PARTITION BY q.lane ORDER BY o.seq) AS place,"
	"  count(*) OVER (PARTITION BY q.lane) - 1 AS behind"
	/* one after the other: an index answers each, and none both */
	"  FROM (SELECT a.* FROM @esim_operation a WHERE a.eid = $1"
	"   UNION ALL SELECT b.* FROM (SELECT p.id FROM @esim_profile p WHERE p.eid = $1"
	"    UNION SELECT c.profile FROM @esim_operation c WHERE c.eid = $1) u JOIN @esim_operation b ON b.profile = u.id WHERE (b.eid IS NULL) IS TRUE) o"
	"  LEFT JOIN @esim_pending q ON q.operation = o.id"
	"  WHERE o.status = 'ACCEPTED' AND " VISIBLE("o") ") w"
	" WHERE w.place = 1 ORDER BY w.lane & 1, w.seq",
	2, {"@eid", "oid"}
};

/*
 * Compiling it takes a hundred times as long as running it, and the costs by
 * which that is decided are made up while a statement is planned.
 */
static void
execute(EsimStatement *statement, Datum *values, const char *nulls)
{
	int			level = NewGUCNestLevel();

	(void) set_config_option("jit", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	esim_execute(statement, values, nulls, 0);
	AtEOXact_GUC(true, level);
}

/* "nine days" */
static char *
span(TimestampTz from, TimestampTz to)
{
	static const char *const words[] = {
		"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
		"eleven", "twelve"
	};
	int64		n = Max(to - from, 0) / USECS_PER_SEC;
	const char *unit = "second";
	char	   *number;

	if (n >= SECS_PER_DAY)
	{
		n /= SECS_PER_DAY;
		unit = "day";
	}
	else if (n >= SECS_PER_HOUR)
	{
		n /= SECS_PER_HOUR;
		unit = "hour";
	}
	else if (n >= SECS_PER_MINUTE)
	{
		n /= SECS_PER_MINUTE;
		unit = "minute";
	}
	number = n < lengthof(words) ? pstrdup(words[n]) : psprintf(INT64_FORMAT, n);
	return psprintf("%s %s%s", number, unit, n == 1 ? "" : "s");
}

/* columns of the statement above */
enum
{
	OPEN_KIND, OPEN_ICCID, OPEN_ID, OPEN_PHASE, OPEN_REASON, OPEN_NEXT_AT, OPEN_NOT_BEFORE, OPEN_SENT_AT, OPEN_EXPIRES_AT,
	OPEN_BEHIND, OPEN_PAUSED
};

static bool
in_future(EsimRow *row, int column, TimestampTz now)
{
	return !row->null[column] && DatumGetTimestampTz(row->value[column]) > now;
}

/* What an operation waits for, in words.  last_seen: 0 for never. */
static char *
what_for(EsimRow *row, TimestampTz now, TimestampTz last_seen)
{
	char	   *phase = TextDatumGetCString(row->value[OPEN_PHASE]);
	char	   *reason = row->null[OPEN_REASON] ? NULL : TextDatumGetCString(row->value[OPEN_REASON]);
	int64		behind = DatumGetInt64(row->value[OPEN_BEHIND]);
	StringInfoData answer;

	initStringInfo(&answer);
	if (!row->null[OPEN_PAUSED])
	{
		char	   *server = TextDatumGetCString(row->value[OPEN_PAUSED]);

		if (server[0] != '\0')
			appendStringInfo(&answer, "waiting for server %s to be resumed", server);
		else
			appendStringInfoString(&answer, "waiting for the database to be resumed");
	}
	else if (strcmp(phase, "WAITING_DEVICE") == 0)
	{
		appendStringInfoString(&answer, "waiting for the device, ");
		if (last_seen != 0)
			appendStringInfo(&answer, "last seen %s ago", span(last_seen, now));
		else
			appendStringInfoString(&answer, "never seen");
		reason = NULL;
	}
	else if (in_future(row, OPEN_NOT_BEFORE, now))
	{
		appendStringInfo(&answer, "waiting until it may begin, in %s",
						 span(now, DatumGetTimestampTz(row->value[OPEN_NOT_BEFORE])));
		reason = NULL;
	}
	else if (strcmp(phase, "SENT") == 0)
	{
		appendStringInfoString(&answer, "waiting for the answer of the RSP");
		if (!row->null[OPEN_SENT_AT])
			appendStringInfo(&answer, ", asked %s ago",
							 span(DatumGetTimestampTz(row->value[OPEN_SENT_AT]), now));
	}
	else if (strcmp(phase, "RETRYING") == 0)
	{
		appendStringInfoString(&answer, "waiting for the next try");
		if (in_future(row, OPEN_NEXT_AT, now))
			appendStringInfo(&answer, ", in %s", span(now, DatumGetTimestampTz(row->value[OPEN_NEXT_AT])));
	}
	else if (strcmp(phase, "UNKNOWN") == 0)
		appendStringInfoString(&answer, "waiting to learn what became of a request");
	else if (strcmp(phase, "PARKED") == 0)
		appendStringInfoString(&answer, "waiting for an administrator");
	else if (strcmp(phase, "BLOCKED") == 0)
		appendStringInfoString(&answer, "waiting for other operations");
	else
		appendStringInfoString(&answer, "waiting for its turn");
	if (reason != NULL && reason[0] != '\0')
		appendStringInfo(&answer, ": %s", reason);
	if (in_future(row, OPEN_EXPIRES_AT, now))
		appendStringInfo(&answer, "; expires in %s",
						 span(now, DatumGetTimestampTz(row->value[OPEN_EXPIRES_AT])));
	if (behind > 0)
		appendStringInfo(&answer, "; " INT64_FORMAT " %s behind it", behind,
						 behind == 1 ? "operation" : "operations");
	return answer.data;
}

/*
 * esim_timeline(eid, since?) setof (at, what, kind, iccid, operation, detail):
 * ES422 without an EID, ES404 for a device that is unknown or not the caller's.
 */
PG_FUNCTION_INFO_V1(esim_timeline);
Datum
esim_timeline(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid			caller = GetUserId();
	EsimRights	rights;
	EsimRow		row;
	Datum		values[3];
	char		nulls[4] = "   ";
	TimestampTz last_seen = 0;
	TimestampTz now;

	esim_look_after_worker();
	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_UNPROCESSABLE),
				 errmsg("cannot show the timeline without an EID"),
				 esim_errdetail("MISSING_IDENTIFIER", "The EID is NULL."),
				 errhint("Give the EID of the eUICC.")));
	values[0] = PG_GETARG_DATUM(0);

	SPI_connect();
	esim_enter_owner(&rights);
	if (esim_find_device(caller, PG_GETARG_EID_P(0)) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_NOT_FOUND),
				 errmsg("eUICC \"%s\" is not known", esim_mask_eid(PG_GETARG_EID_P(0))),
				 esim_errdetail("IDENTIFIER_NOT_FOUND", "There is no device of yours with this EID."),
				 errhint("Register it in esim_device first.")));
	esim_execute(&last_seen_at, values, NULL, 1);
	if (SPI_processed == 1)
	{
		esim_row(&row, SPI_tuptable, 0);
		if (!row.null[0])
			last_seen = DatumGetTimestampTz(row.value[0]);
	}
	SPI_freetuptable(SPI_tuptable);

	values[1] = ObjectIdGetDatum(caller);
	if (PG_ARGISNULL(1))
		nulls[2] = 'n';
	else
		values[2] = PG_GETARG_DATUM(1);
	execute(&history, values, nulls);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		esim_row(&row, SPI_tuptable, i);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row.value, row.null);
	}
	SPI_freetuptable(SPI_tuptable);

	execute(&waiting, values, NULL);
	now = GetCurrentTimestamp();
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Datum		line[6];
		bool		null[6] = {false, false, false, false, false, false};

		esim_row(&row, SPI_tuptable, i);
		line[0] = TimestampTzGetDatum(now);
		line[1] = PointerGetDatum(cstring_to_text("waiting"));
		line[2] = row.value[OPEN_KIND];
		line[3] = row.value[OPEN_ICCID];
		null[3] = row.null[OPEN_ICCID];
		line[4] = row.value[OPEN_ID];
		line[5] = PointerGetDatum(cstring_to_text(what_for(&row, now, last_seen)));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, line, null);
	}
	esim_leave_owner(&rights);
	SPI_finish();
	return (Datum) 0;
}
