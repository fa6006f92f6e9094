/*-------------------------------------------------------------------------
 *
 * ask.c
 *	  An event as a hint: has the worker ask the RSP now.
 *
 * Nothing here waits for the worker, nor for anybody who has locked a row of
 * the queue.
 *
 *-------------------------------------------------------------------------
 */
#include "receive/receive.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "audit/audit.h"

/*
 * An operation whose request is just under way is waited for so long: its
 * answer may be older than the event, and its next turn far off.
 */
#define CLAIMED_TRIES 80
#define CLAIMED_PAUSE_US 25000L

void
receive_settle(Datum *operations, int n)
{
	static EsimStatement claimed = {
		"SELECT 1 FROM @esim_pending q WHERE q.operation = ANY ($1) AND q.claimed LIMIT 1", 1, {"uuid[]"}
	};
	Datum		value;

	if (n == 0)
		return;
	value = PointerGetDatum(construct_array(operations, n, UUIDOID, UUID_LEN, false,
											TYPALIGN_CHAR));
	for (int try = 0; try < CLAIMED_TRIES; try++)
	{
		CHECK_FOR_INTERRUPTS();
		esim_execute_latest(&claimed, &value, NULL, 1);
		if (SPI_processed == 0)
			return;
		pg_usleep(CLAIMED_PAUSE_US);
	}
}

int
receive_hurry(Datum *operations, int n)
{
	/* what waits for not_before has sent nothing yet */
	static EsimStatement hurry = {
		"WITH k AS MATERIALIZED (SELECT q.seq FROM @esim_pending q WHERE q.operation = ANY ($1) AND q.state = 'W' AND NOT q.claimed"
		"  AND (q.acting > 0 OR q.step <> 0 OR q.rsp_operation_id IS NOT NULL OR q.memo IS NOT NULL) FOR NO KEY UPDATE SKIP LOCKED)"
		" UPDATE @esim_pending p SET next_at = clock_timestamp() FROM k WHERE p.seq = k.seq",
		1, {"uuid[]"}
	};
	static EsimStatement under_way = {
		"SELECT count(*) FROM @esim_pending q WHERE q.operation = ANY ($1) AND (q.claimed OR q.state = 'R')", 1, {"uuid[]"}
	};
	int			hurried;
	bool		isnull;
	Datum		value;

	if (n == 0)
		return 0;
	value = PointerGetDatum(construct_array(operations, n, UUIDOID, UUID_LEN, false,
											TYPALIGN_CHAR));
	esim_execute_latest(&hurry, &value, NULL, 0);
	hurried = (int) SPI_processed;
	if (hurried > 0)
		esim_wake_at_commit();
	esim_execute_latest(&under_way, &value, NULL, 1);
	return hurried + (int) DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
													   SPI_tuptable->tupdesc, 1, &isnull));
}

bool
receive_refresh(Received *received, const char *eid, const char *server)
{
	static EsimStatement known = {
		"SELECT EXISTS (SELECT FROM @esim_pending q WHERE q.lane = d.lane AND q.kind = 'refresh' AND q.server = $2"
		"  AND NOT q.claimed AND q.acting = 0 AND q.step = 0 AND q.memo IS NULL)"
		" FROM @esim_device d WHERE d.eid OPERATOR(@=) $1::@eid(unchecked) AND d.retired_at IS NULL",
		2, {"text", "text"}
	};
	static EsimStatement queue = {
		"WITH d AS (SELECT x.eid, x.owner, x.owner_name, x.lane FROM @esim_device x WHERE x.eid OPERATOR(@=) $2::@eid(unchecked)),"
		" o AS (INSERT INTO @esim_operation (id, seq, kind, eid, owner, owner_name, requested_by, server, expires_at)"
		"  SELECT $1, nextval('@esim_operation_seq'), 'refresh', d.eid, d.owner, d.owner_name, $3::regrole, $4, now() + interval '30 days' FROM d"
		"  RETURNING id, seq, eid, server, expires_at)"
		" INSERT INTO @esim_pending (seq, operation, lane, shard, state, priority, urgency, kind, eid, server, expires_at,"
		"  system_identifier, timeline, database)"
		" SELECT o.seq, o.id, d.lane, ((d.lane >> 1) & 15)::int2, 'N', 0, 0, 'refresh', o.eid, o.server, o.expires_at, $5, $6, $7 FROM o, d",
		7, {"uuid", "text", "oid", "text", "int8", "int4", "oid"}
	};
	Datum		values[7];
	EsimAuditEntry entry;
	pg_uuid_t	id;
	EsimEpoch	epoch;
	bool		isnull;

	values[0] = CStringGetTextDatum(eid);
	values[1] = CStringGetTextDatum(server);
	esim_execute_latest(&known, values, NULL, 1);
	if (SPI_processed == 0)
		return false;
	if (DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)))
		return true;
	esim_uuid7(id.data);
	esim_current_epoch(&epoch);
	values[0] = UUIDPGetDatum(&id);
	values[1] = CStringGetTextDatum(eid);
	values[2] = ObjectIdGetDatum(received->caller);
	values[3] = CStringGetTextDatum(server);
	values[4] = Int64GetDatum(epoch.system_identifier);
	values[5] = Int32GetDatum(epoch.timeline);
	values[6] = ObjectIdGetDatum(epoch.database);
	esim_execute_latest(&queue, values, NULL, 0);
	entry.eid = eid_from_text(eid, strlen(eid), false);
	entry.iccid = ICCID_INVALID;
	entry.operation = &id;
	entry.outcome = ESIM_AUDIT_ACCEPTED;
	esim_audit(received->caller, "esim_receive", &entry, 1);
	esim_wake_at_commit();
	return true;
}
