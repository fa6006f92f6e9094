/*-------------------------------------------------------------------------
 *
 * fetch.c
 *	  Finds out which sinks have something due, and takes it.
 *
 * Nothing is claimed in the table: a notification belongs to the shard of its
 * host and so to one worker at a time, and what is under way is known there.
 *
 *-------------------------------------------------------------------------
 */
#include "event/deliver.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

Datum
fetch_in_hand(void)
{
	Column		column;

	column_init(&column, Max(outbox.nused, 1));
	for (int i = 0; i < outbox.nplaces; i++)
		if (outbox.places[i].used)
			column_add(&column, UUIDPGetDatum(&outbox.places[i].id));
	return column_array(&column, UUIDOID);
}

void
fetch_look_again(TimestampTz at)
{
	if (outbox.next_look == 0 || at < outbox.next_look)
		outbox.next_look = at;
}

/*
 * The sinks that have something to be delivered, by hops over the index, and
 * when the first of it is due.
 */
void
fetch_look(TimestampTz now)
{
	static EsimStatement find = {
		"SELECT s.shard, h.sink, d.next_at FROM unnest($1, $2) s (shard, after)"
		" CROSS JOIN LATERAL (WITH RECURSIVE h (sink) AS ("
		"   (SELECT n.sink FROM @esim_notification n WHERE n.shard = s.shard AND n.sink > s.after AND n.next_at IS NOT NULL"
		"     ORDER BY n.sink LIMIT 1)"
		"   UNION ALL"
		"   SELECT (SELECT n.sink FROM @esim_notification n WHERE n.shard = s.shard AND n.sink > h.sink AND n.next_at IS NOT NULL"
		"     ORDER BY n.sink LIMIT 1) FROM h WHERE h.sink IS NOT NULL)"
		"  SELECT h.sink FROM h WHERE h.sink IS NOT NULL LIMIT $3) h"
		" LEFT JOIN LATERAL (SELECT n.next_at FROM @esim_notification n WHERE n.shard = s.shard AND n.sink = h.sink"
		"  AND n.next_at IS NOT NULL AND n.id <> ALL ($4) AND n.system_identifier = $5 AND n.timeline = $6 AND n.database = $7"
		"  ORDER BY n.next_at LIMIT 1) d ON true",
		7, {"int2[]", "text[]", "int8", "uuid[]", "int8", "int4", "oid"}
	};
	Column		shards;
	Column		after;
	Datum		values[7];
	int			counts[ESIM_SHARDS] = {0};
	EsimEpoch	epoch;
	uint64		n;
	SPITupleTable *table;
	bool		more = false;
	TimestampTz then;

	outbox.look = false;
	outbox.next_look = TimestampTzPlusMilliseconds(now, Max(esim_poll_interval_ms, 1000));
	column_init(&shards, ESIM_SHARDS);
	column_init(&after, ESIM_SHARDS);
	for (int i = 0; i < ESIM_SHARDS; i++)
	{
		if (!esim_worker->held[i])
			continue;
		column_add(&shards, Int16GetDatum(i));
		column_add(&after, CStringGetTextDatum(outbox.cursors[i] ? outbox.cursors[i] : ""));
	}
	if (shards.count == 0)
		return;
	esim_current_epoch(&epoch);
	values[0] = column_array(&shards, INT2OID);
	values[1] = column_array(&after, TEXTOID);
	values[2] = Int64GetDatum(LOOK_SINKS);
	values[3] = fetch_in_hand();
	values[4] = Int64GetDatum(epoch.system_identifier);
	values[5] = Int32GetDatum(epoch.timeline);
	values[6] = ObjectIdGetDatum(epoch.database);
	esim_execute(&find, values, NULL, 0);
	n = SPI_processed;
	table = SPI_tuptable;
	for (int i = 0; i < ESIM_SHARDS; i++)
	{
		if (outbox.cursors[i] != NULL)
			pfree(outbox.cursors[i]);
		outbox.cursors[i] = NULL;
	}
	for (uint64 r = 0; r < n; r++)
	{
		bool		isnull;
		int16		shard = DatumGetInt16(SPI_getbinval(table->vals[r], table->tupdesc, 1, &isnull));
		Datum		key = SPI_getbinval(table->vals[r], table->tupdesc, 2, &isnull);
		Datum		value = SPI_getbinval(table->vals[r], table->tupdesc, 3, &isnull);
		TimestampTz due = isnull ? 0 : DatumGetTimestampTz(value);
		Sink	   *sink;

		if (++counts[shard] == LOOK_SINKS)
		{
			/* the next look goes on behind it */
			outbox.cursors[shard] = MemoryContextStrdup(esim_worker->context, TextDatumGetCString(key));
			more = true;
		}
		if (isnull)
			continue;			/* all in hand, or of another epoch */
		if (due > now)
		{
			fetch_look_again(due);
			continue;
		}
		sink = limit_sink(TextDatumGetCString(key), shard, now);
		if (sink == NULL)
		{
			fetch_look_again(TimestampTzPlusMilliseconds(now, 1000));
			continue;
		}
		if (TIMESTAMP_IS_NOBEGIN(due))
			sink->urgent = true;
		if (!sink->ready)
		{
			dlist_push_tail(&outbox.ready, &sink->node);
			sink->ready = true;
		}
	}

	/* looking takes at most a tenth of the time */
	then = GetCurrentTimestamp();
	outbox.not_before = then + Max(5000, (then - now) * 10);
	if (more)
		outbox.look = true;
	SPI_freetuptable(table);
}

void
fetch_due(TimestampTz now)
{
	static EsimStatement due = {
		"SELECT n.id, n.operation, n.target, n.format, n.tries, n.since, n.sink, n.shard, o.id IS NOT NULL,"
		" pg_catalog.pg_get_userbyid(o.owner) = o.owner_name, o.kind, o.eid::text, o.iccid::text, o.result::text,"
		" o.error_code, o.error_message,"
		" pg_catalog.to_char(o.completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),"
		" coalesce(o.correlator, o.id::text), coalesce(o.callback_method, 'GET'), s.operation IS NOT NULL, n.credential,"
		" s.sink_credential ->> 'accessToken',"
		" coalesce(s.sink_credential ->> 'accessTokenExpireUtc', s.sink_credential ->> 'accessTokenExpiresUtc'), s.sink_credential ->> 'name',"
		" c.kind, c.value"
		" FROM unnest($1, $2, $3) w (shard, sink, wanted)"
		" CROSS JOIN LATERAL (SELECT x.* FROM @esim_notification x WHERE x.shard = w.shard AND x.sink = w.sink"
		"  AND x.next_at IS NOT NULL AND x.next_at <= $4 AND x.id <> ALL ($5)"
		"  AND x.system_identifier = $6 AND x.timeline = $7 AND x.database = $8"
		"  ORDER BY x.next_at LIMIT w.wanted FOR SHARE SKIP LOCKED) n"
		" LEFT JOIN @esim_operation o ON o.id = n.operation"
		" LEFT JOIN @esim_operation_secret s ON s.operation = n.operation AND n.format = 'cloudevent'"
		" LEFT JOIN @esim_credential c ON c.owner = o.owner AND c.owner_name = o.owner_name AND c.name = s.sink_credential ->> 'name'",
		8, {"int2[]", "text[]", "int8[]", "timestamptz", "uuid[]", "int8", "int4", "oid"}
	};
	Column		shards;
	Column		keys;
	Column		wanted;
	Datum		values[8];
	dlist_mutable_iter iter;
	List	   *asked = NIL;
	ListCell   *cell;
	int			left = outbox.nplaces - outbox.nused;
	int			unproven_left = limit_unproven() - outbox.nunproven;
	uint64		n;
	SPITupleTable *table;
	EsimEpoch	epoch;

	column_init(&shards, 16);
	column_init(&keys, 16);
	column_init(&wanted, 16);
	dlist_foreach_modify(iter, &outbox.ready)
	{
		Sink	   *sink = dlist_container(Sink, node, iter.cur);
		int			room = limit_room(sink, left, unproven_left, now);

		if (left <= 0)
			break;
		if (room > 0)
			room = Min(room, limit_room_at_host(sink));
		if (room <= 0)
			continue;
		sink->want = room;
		sink->got = 0;
		sink->urgent = false;
		sink->used_at = now;
		left -= room;
		if (!sink->proven)
			unproven_left -= room;
		column_add(&shards, Int16GetDatum(sink->shard));
		column_add(&keys, CStringGetTextDatum(sink->key));
		column_add(&wanted, Int64GetDatum(room));
		asked = lappend(asked, sink);
	}
	if (asked == NIL)
		return;
	esim_current_epoch(&epoch);
	values[0] = column_array(&shards, INT2OID);
	values[1] = column_array(&keys, TEXTOID);
	values[2] = column_array(&wanted, INT8OID);
	values[3] = TimestampTzGetDatum(now);
	values[4] = fetch_in_hand();
	values[5] = Int64GetDatum(epoch.system_identifier);
	values[6] = Int32GetDatum(epoch.timeline);
	values[7] = ObjectIdGetDatum(epoch.database);
	esim_execute(&due, values, NULL, 0);
	n = SPI_processed;
	table = SPI_tuptable;
	for (uint64 r = 0; r < n; r++)
	{
		bool		isnull;
		char	   *key = TextDatumGetCString(SPI_getbinval(table->vals[r], table->tupdesc, F_SINK, &isnull));
		Sink	   *sink = hash_search(outbox.sinks, &key, HASH_FIND, NULL);

		if (sink == NULL)
			continue;
		sink->got++;
		compose(table->vals[r], table->tupdesc, sink, now);
	}
	SPI_freetuptable(table);

	/* each in turn */
	foreach(cell, asked)
	{
		Sink	   *sink = lfirst(cell);

		dlist_delete(&sink->node);
		sink->ready = sink->got == sink->want;
		if (sink->ready)
			dlist_push_tail(&outbox.ready, &sink->node);
	}
}

bool
deliver_anything_left(void)
{
	static EsimStatement left = {
		"SELECT 1 FROM unnest($1) s (shard), LATERAL (SELECT 1 FROM @esim_notification n"
		" WHERE n.shard = s.shard AND n.next_at IS NOT NULL AND n.system_identifier = $2 AND n.timeline = $3 AND n.database = $4"
		" LIMIT 1) x LIMIT 1",
		4, {"int2[]", "int8", "int4", "oid"}
	};
	Column		shards;
	EsimEpoch	epoch;
	Datum		values[4];

	if (outbox.nused > 0)
		return true;
	column_init(&shards, ESIM_SHARDS);
	for (int i = 0; i < ESIM_SHARDS; i++)
		if (esim_worker->held[i])
			column_add(&shards, Int16GetDatum(i));
	esim_current_epoch(&epoch);
	values[0] = column_array(&shards, INT2OID);
	values[1] = Int64GetDatum(epoch.system_identifier);
	values[2] = Int32GetDatum(epoch.timeline);
	values[3] = ObjectIdGetDatum(epoch.database);
	esim_execute(&left, values, NULL, 1);
	return SPI_processed > 0;
}
