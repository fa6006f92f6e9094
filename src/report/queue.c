/*-------------------------------------------------------------------------
 *
 * queue.c
 *	  What a role may know of the queue, which it cannot read itself.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/tuplestore.h"

#define QUEUE_COLUMNS 6

/*
 * Sent is what has an outstanding effect; it runs, also while it waits for the
 * time of the next look.  The time of a request leads its identifier.
 */
#define QUEUE_COUNTS \
	"SELECT q.server, q.kind," \
	" count(*) FILTER (WHERE q.state <> 'P' AND NOT q.sent)," \
	" count(*) FILTER (WHERE q.state <> 'P' AND q.sent)," \
	" count(*) FILTER (WHERE q.state = 'P')," \
	" pg_catalog.to_timestamp(('x' || pg_catalog.translate(min(pg_catalog.\"left\"(q.operation::text, 13) COLLATE pg_catalog.\"C\"), '-', ''))::bit(48)::bigint / 1000.0)" \
	" FROM (SELECT p.server, p.kind, p.state, p.operation," \
	"   p.claimed OR p.acting > 0 OR p.rsp_operation_id IS NOT NULL AS sent FROM @esim_pending p"

/*
 * esim_queue_counts() setof (server, kind, queued, running, parked, oldest):
 * unfinished operations that the caller may see.
 */
PG_FUNCTION_INFO_V1(esim_queue_counts);
Datum
esim_queue_counts(PG_FUNCTION_ARGS)
{
	static EsimStatement all = {
		QUEUE_COUNTS ") q GROUP BY q.server, q.kind", 0, {NULL}
	};
	static EsimStatement of_role = {
		QUEUE_COUNTS " JOIN @esim_operation o ON o.id = p.operation"
		" WHERE pg_catalog.pg_has_role($1, o.owner, 'USAGE') AND pg_catalog.pg_get_userbyid(o.owner) = o.owner_name"
		") q GROUP BY q.server, q.kind", 1, {"oid"}
	};
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid			caller = GetUserId();
	EsimRights	rights;
	Datum		value = ObjectIdGetDatum(caller);

	esim_look_after_worker();
	InitMaterializedSRF(fcinfo, 0);

	esim_enter_owner(&rights);
	SPI_connect();
	if (superuser_arg(caller))
		esim_execute(&all, NULL, NULL, 0);
	else
		esim_execute(&of_role, &value, NULL, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Datum		values[QUEUE_COLUMNS];
		bool		nulls[QUEUE_COLUMNS];

		for (int c = 0; c < QUEUE_COLUMNS; c++)
			values[c] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, c + 1, &nulls[c]);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	SPI_finish();
	esim_leave_owner(&rights);

	return (Datum) 0;
}
