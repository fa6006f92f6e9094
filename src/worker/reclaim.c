/*-------------------------------------------------------------------------
 *
 * reclaim.c
 *	  What a worker does with a shard that it has just taken over: operations
 *	  whose worker is dead, rows of another epoch, rows left behind.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/worker.h"

#include <sys/stat.h>

#include "access/timeline.h"
#include "access/xlog_internal.h"
#include "catalog/pg_type.h"
#include "storage/fd.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* true: the whole database is paused */
bool
reclaim_paused(void)
{
	static EsimStatement paused = {
		"SELECT 1 FROM @esim_paused z WHERE z.server IS NULL", 0, {NULL}
	};

	esim_execute(&paused, NULL, NULL, 1);
	return SPI_processed > 0;
}

/*
 * Did this timeline begin by the promotion of a standby, or by recovery to a
 * target?  The last line of its history file says why it left its parent.
 */
static bool
began_by_promotion(TimeLineID timeline)
{
	char		path[MAXPGPATH];
	FILE	   *file;
	char		line[MAXPGPATH];
	bool		promotion = false;

	if (timeline <= 1)
		return false;
	TLHistoryFilePath(path, timeline);
	file = AllocateFile(path, "r");
	if (file == NULL)
		return false;			/* not known: the careful answer */
	while (fgets(line, sizeof(line), file) != NULL)
		if (line[0] != '\n' && line[0] != '#')
			promotion = strstr(line, "no recovery target specified") != NULL;
	FreeFile(file);
	return promotion;
}

static void
pause_database(const char *reason)
{
	static EsimStatement pause = {
		"INSERT INTO @esim_paused (server, reason) SELECT NULL, $1"
		" WHERE NOT EXISTS (SELECT FROM @esim_paused z WHERE z.server IS NULL)", 1, {"text"}
	};
	Datum		value = CStringGetTextDatum(reason);

	esim_execute(&pause, &value, NULL, 0);
	if (SPI_processed > 0)
		ereport(LOG,
				(errmsg("esim is paused in database \"%s\": %s",
						get_database_name(esim_worker->database), reason),
				 errhint("If this database is the one to drive the RSP from now on, call esim_resume().")));
	esim_worker->paused = true;
}

/* Rows that were written in another cluster, timeline or database. */
void
reclaim_epoch(int shard)
{
	static EsimStatement foreign = {
		"SELECT DISTINCT p.system_identifier, p.timeline, p.database FROM @esim_pending p WHERE p.shard = $1"
		" AND (p.system_identifier <> $2 OR p.timeline <> $3 OR p.database <> $4)"
		" UNION"
		" SELECT n.system_identifier, n.timeline, n.database FROM @esim_notification n WHERE n.shard = $1 AND n.next_at IS NOT NULL"
		" AND (n.system_identifier <> $2 OR n.timeline <> $3 OR n.database <> $4)",
		4, {"int2", "int8", "int4", "oid"}
	};
	static EsimStatement adopt = {
		"UPDATE @esim_pending p SET timeline = $3, ask_first = true WHERE p.shard = $1"
		" AND p.system_identifier = $2 AND p.timeline = $5 AND p.database = $4",
		5, {"int2", "int8", "int4", "oid", "int4"}
	};
	static EsimStatement adopt_notifications = {
		"UPDATE @esim_notification n SET timeline = $3 WHERE n.shard = $1 AND n.next_at IS NOT NULL"
		" AND n.system_identifier = $2 AND n.timeline = $5 AND n.database = $4",
		5, {"int2", "int8", "int4", "oid", "int4"}
	};
	EsimEpoch	epoch;
	Datum		values[5];
	uint64		n;
	SPITupleTable *table;

	esim_current_epoch(&epoch);
	values[0] = Int16GetDatum(shard);
	values[1] = Int64GetDatum(epoch.system_identifier);
	values[2] = Int32GetDatum(epoch.timeline);
	values[3] = ObjectIdGetDatum(epoch.database);
	esim_execute(&foreign, values, NULL, 0);
	n = SPI_processed;
	table = SPI_tuptable;
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		int64		sysid = DatumGetInt64(SPI_getbinval(table->vals[i], table->tupdesc, 1, &isnull));
		int32		timeline = DatumGetInt32(SPI_getbinval(table->vals[i], table->tupdesc, 2, &isnull));
		Oid			database = DatumGetObjectId(SPI_getbinval(table->vals[i], table->tupdesc, 3, &isnull));

		if (sysid != epoch.system_identifier)
			pause_database("its operations were queued in another cluster");
		else if (database != epoch.database)
			pause_database("its operations were queued in another database");
		else if (timeline < epoch.timeline && began_by_promotion(epoch.timeline))
		{
			values[4] = Int32GetDatum(timeline);
			esim_execute(&adopt, values, NULL, 0);
			esim_execute(&adopt_notifications, values, NULL, 0);
		}
		else
			pause_database("it was recovered to a point in time after its operations had been queued");
	}
}

/*
 * Claimed rows in a shard that we have just got: nobody else can be at
 * them, so their worker is dead.  An attempt without an outcome is an intent
 * whose answer nobody has.  Where the answer has been recorded, it is applied
 * by claim_deferred(), and nothing is lost.
 */
static void
reclaim_claimed(int shard, bool crashed)
{
	static EsimStatement reclaim = {
		"UPDATE @esim_pending p SET claimed = false, handling = false,"
		/* the server was stopped: no sign against anybody */
		" crashes = CASE WHEN NOT $3 OR p.postmaster IS DISTINCT FROM $2 THEN p.crashes WHEN p.handling THEN p.crashes + 1"
		"  ELSE greatest(p.crashes, 1) END,"
		" intent = false, unresolved = p.unresolved OR a.open OR p.intent, attempts = greatest(p.attempts, a.number) + CASE WHEN p.intent THEN 1 ELSE 0 END,"
		" acting = greatest(p.acting, CASE WHEN a.open OR p.intent THEN 1 ELSE 0 END),"
		" first_sent_at = coalesce(p.first_sent_at, a.at, CASE WHEN p.intent THEN now() END),"
		" last_sent_at = coalesce(a.at, CASE WHEN p.intent THEN now() END, p.last_sent_at)"
		" FROM @esim_pending q CROSS JOIN LATERAL (SELECT coalesce(bool_or(x.outcome IS NULL), false) AS open, coalesce(max(x.number), 0) AS number,"
		"   max(x.at) FILTER (WHERE x.outcome IS NULL) AS at FROM @esim_attempt x WHERE x.operation = q.operation) a"
		" WHERE q.shard = $1 AND q.claimed AND p.seq = q.seq"
		" AND NOT EXISTS (SELECT FROM @esim_deferred d WHERE d.operation = q.operation)"
		" RETURNING p.operation, q.intent",
		3, {"int2", "timestamptz", "bool"}
	};
	static EsimStatement lost = {
		"UPDATE @esim_attempt a SET outcome = 'lost', detail = 'the worker ended before the answer came'"
		" FROM unnest($1) u(operation) WHERE a.operation = u.operation AND a.outcome IS NULL",
		1, {"uuid[]"}
	};
	/* an intent that was the claim's has no row yet, and its request may not have been sent */
	static EsimStatement unknown = {
		"INSERT INTO @esim_attempt (operation, number, at, method, url, outcome, detail)"
		" SELECT p.operation, p.attempts, p.last_sent_at, 'POST',"
		"  coalesce((SELECT o.option_value FROM pg_catalog.pg_foreign_server s, pg_catalog.pg_options_to_table(s.srvoptions) o"
		"   WHERE s.srvname = p.server AND o.option_name = 'url'), p.server),"
		"  'lost', 'the worker ended; whether the request was sent is not known'"
		" FROM unnest($1) u(operation) JOIN @esim_pending p ON p.operation = u.operation",
		1, {"uuid[]"}
	};
	Datum		values[3];
	Datum		value;
	uint64		n;
	Column		operations;
	Column		intents;

	values[0] = Int16GetDatum(shard);
	values[1] = TimestampTzGetDatum(PgStartTime);
	values[2] = BoolGetDatum(crashed);
	esim_execute(&reclaim, values, NULL, 0);
	n = SPI_processed;
	if (n == 0)
		return;
	column_init(&operations, n);
	column_init(&intents, n);
	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		Datum		operation = SPI_getbinval(tuple, desc, 1, &isnull);

		column_add(DatumGetBool(SPI_getbinval(tuple, desc, 2, &isnull)) ? &intents : &operations, operation);
	}
	value = column_array(&operations, UUIDOID);
	esim_execute(&lost, &value, NULL, 0);
	if (intents.count > 0)
	{
		value = column_array(&intents, UUIDOID);
		esim_execute(&unknown, &value, NULL, 0);
	}
}

/*
 * Rows that were left blocked with nothing ahead of them: look again, and where
 * somebody has locked them (a cancellation under way), later.
 */
static void
reclaim_blocked(int shard)
{
	static EsimStatement blocked = {
		"WITH b AS MATERIALIZED (SELECT q.seq, q.lane FROM @esim_pending q WHERE q.shard = $1 AND q.state = 'B'"
		"  AND NOT EXISTS (SELECT FROM @esim_pending a WHERE a.lane = q.lane AND a.seq < q.seq)),"
		" k AS MATERIALIZED (SELECT p.seq FROM b JOIN @esim_pending p USING (seq) FOR NO KEY UPDATE OF p SKIP LOCKED),"
		" u AS (UPDATE @esim_pending p SET state = 'N' FROM k WHERE p.seq = k.seq)"
		" SELECT b.lane FROM b WHERE b.seq NOT IN (SELECT k.seq FROM k)",
		1, {"int2"}
	};
	Datum		value = Int16GetDatum(shard);

	esim_execute(&blocked, &value, NULL, 0);
	complete_promote_later();
}

void
reclaim_shard(int shard, bool crashed)
{
	reclaim_claimed(shard, crashed);
	reclaim_epoch(shard);
	reclaim_blocked(shard);
}
