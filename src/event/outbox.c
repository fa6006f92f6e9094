/*-------------------------------------------------------------------------
 *
 * outbox.c
 *	  Rows of esim_notification, written in the transaction that completes
 *	  the operation.
 *
 *-------------------------------------------------------------------------
 */
#include "event/event.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/uuid.h"

#include "worker/worker.h"

void
esim_outbox_write(SPITupleTable *table, uint64 n, int column)
{
	static EsimStatement insert = {
		"INSERT INTO @esim_notification (id, operation, target, format, next_at, since, credential, system_identifier, timeline, database)"
		" SELECT pg_catalog.gen_random_uuid(), o.id, t.target, t.format, c.now, c.now,"
		"  CASE WHEN t.format <> 'cloudevent' THEN NULL WHEN s.sink_credential ? 'name' THEN 'stored'"
		"   WHEN s.sink_credential ? 'accessToken' THEN 'token' END, $2, $3, $4"
		" FROM unnest($1) u(id) JOIN @esim_operation o ON o.id = u.id"
		" LEFT JOIN @esim_operation_secret s ON s.operation = u.id"
		" CROSS JOIN (SELECT pg_catalog.clock_timestamp() AS now OFFSET 0) c"
		" CROSS JOIN LATERAL (VALUES (o.sink, 'cloudevent'), (o.callback_url, 'form')) t (target, format)"
		" WHERE t.target IS NOT NULL AND o.status = 'COMPLETED'"
		" RETURNING shard",
		4, {"uuid[]", "int8", "int4", "oid"}
	};
	Datum	   *ids;
	int			count = 0;
	EsimEpoch	epoch;
	Datum		values[4];

	if (n == 0)
		return;
	ids = palloc(n * sizeof(Datum));
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		Datum		id = SPI_getbinval(table->vals[i], table->tupdesc, column, &isnull);

		if (!isnull)
			ids[count++] = id;
	}
	if (count > 0)
	{
		esim_current_epoch(&epoch);
		values[0] = PointerGetDatum(construct_array(ids, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
		values[1] = Int64GetDatum(epoch.system_identifier);
		values[2] = Int32GetDatum(epoch.timeline);
		values[3] = ObjectIdGetDatum(epoch.database);
		esim_execute_latest(&insert, values, NULL, 0);
		if (esim_worker != NULL)
		{
			bool		others = false;

			for (uint64 i = 0; i < SPI_processed; i++)
			{
				bool		isnull;

				others |= !esim_worker->held[DatumGetInt16(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)) % ESIM_SHARDS];
			}
			deliver_look();
			if (others)
				esim_wake_at_commit();
		}
	}
	pfree(ids);
}
