/*-------------------------------------------------------------------------
 *
 * effect.c
 *	  What the end of an operation makes of profiles.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/worker.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

/* What the end of the operation makes of its profile; false: nothing. */
static bool
effect_of(const Task *task, RspState *state, int *fallback)
{
	const RspAction *action = &task->conversation.action;

	*state = RSP_STATE_NONE;
	*fallback = -1;
	if (!task->has_profile)
		return false;
	if (action->profile_state_set)
	{
		*state = action->state;
		return *state != RSP_STATE_NONE;
	}
	if (action->type == RSP_ACT_FAIL && task->op.kind == RSP_RESERVE &&
		task->op.state == RSP_STATE_RESERVING)
	{
		/* nobody works at it any more */
		*state = task->op.unresolved || task->op.attempts > 0 ? RSP_STATE_FAILED : RSP_STATE_CANCELLED;
		return true;
	}
	if (action->type != RSP_ACT_DONE)
		return false;
	switch (task->op.kind)
	{
		case RSP_DOWNLOAD:
			*state = task->op.activate_on_download ? RSP_STATE_ENABLED : RSP_STATE_DISABLED;
			return true;
		case RSP_ENABLE:
			*state = RSP_STATE_ENABLED;
			return true;
		case RSP_DISABLE:
			*state = RSP_STATE_DISABLED;
			return true;
		case RSP_DELETE:
			*state = RSP_STATE_DELETED;
			*fallback = 0;
			return true;
		case RSP_SET_FALLBACK:
			*fallback = 1;
			return true;
		case RSP_RELEASE:
			*state = RSP_STATE_RELEASED;
			return true;
		case RSP_CANCEL_ORDER:
			*state = RSP_STATE_CANCELLED;
			return true;
		default:
			return false;
	}
}

/*
 * Profiles whose ICCID comes to be known now may have another row already: of
 * stock that was imported, of an earlier list.  It is the same profile, and
 * that row gives way; that it was thought to be on another eUICC is drift.
 */
static void
take_over(Column *profiles, Column *iccids, Column *eids, Column *operations, TimestampTz now)
{
	static EsimStatement give_way = {
		"WITH k AS MATERIALIZED (SELECT x.id, x.eid AS other, x.state AS old, x.sim_id, x.subscription_status, x.subscription_server, x.fleet,"
		"   x.msisdn, x.imsi, x.rsp_id, x.rsp_state, x.server, x.redownload, u.profile, u.eid::@eid(unchecked) AS eid, u.operation"
		"  FROM unnest($1, $2, $3, $4) u(profile, iccid, eid, operation) JOIN @esim_profile p ON p.id = u.profile"
		"  JOIN @esim_profile x ON x.iccid OPERATOR(@=) u.iccid::@iccid(unchecked) AND x.owner = p.owner AND x.live"
		"  WHERE x.id <> p.id FOR NO KEY UPDATE OF x),"
		" t AS (UPDATE @esim_profile x SET state = 'CANCELLED', is_fallback = false, rsp_id = NULL, state_at = $5, state_source = 'operation'"
		"  FROM k WHERE x.id = k.id),"
		" e AS (INSERT INTO @esim_profile_event (profile, eid, old_state, new_state, at, cause, operation, detail)"
		"  SELECT k.id, k.other, k.old, 'CANCELLED', $5, 'OPERATION', k.operation, 'the same profile as ' || k.profile FROM k),"
		" d AS (INSERT INTO @esim_drift (eid, profile, what, ours, reported)"
		"  SELECT k.eid, k.profile, 'on another eUICC', '...' || right(k.other::text, 4), '...' || right(k.eid::text, 4)"
		"  FROM k WHERE k.old IN ('INSTALLED', 'DISABLED', 'ENABLED') AND NOT k.other OPERATOR(@=) k.eid)"
		" UPDATE @esim_profile p SET sim_id = coalesce(p.sim_id, k.sim_id), subscription_status = coalesce(p.subscription_status, k.subscription_status),"
		"  subscription_server = coalesce(p.subscription_server, k.subscription_server), fleet = coalesce(p.fleet, k.fleet),"
		"  msisdn = coalesce(p.msisdn, k.msisdn), imsi = coalesce(p.imsi, k.imsi), rsp_id = coalesce(p.rsp_id, k.rsp_id),"
		"  rsp_state = coalesce(p.rsp_state, k.rsp_state), server = coalesce(p.server, k.server), redownload = coalesce(p.redownload, k.redownload)"
		" FROM k WHERE p.id = k.profile",
		5, {"uuid[]", "text[]", "text[]", "uuid[]", "timestamptz"}
	};
	Datum		values[5];

	values[0] = column_array(profiles, UUIDOID);
	values[1] = column_array(iccids, TEXTOID);
	values[2] = column_array(eids, TEXTOID);
	values[3] = column_array(operations, UUIDOID);
	values[4] = TimestampTzGetDatum(now);
	esim_execute(&give_way, values, NULL, 0);
}

/*
 * Less than is known: an event may be faster than the answer to the request that
 * it follows.
 */
#define SAYS_LESS \
	"coalesce(u.state IN ('DOWNLOADED', 'INSTALLED') AND p.state IN ('DISABLED', 'ENABLED')" \
	" OR u.state IN ('RESERVED', 'RELEASED') AND p.state IN ('DOWNLOADED', 'INSTALLED', 'DISABLED', 'ENABLED', 'FAILED'), false)"

/* Profiles as the ends of these tasks have made them, and the events of that. */
void
complete_effects(dlist_head *tasks, TimestampTz now, const char *broken)
{
	/* demote first, promote second: one ENABLED per (eUICC, port), always */
	static EsimStatement demote = {
		"UPDATE @esim_profile p SET state = 'DISABLED', state_at = $4, state_source = 'operation'"
		" FROM unnest($1, $2, $3) u(profile, eid, port)"
		" WHERE p.eid OPERATOR(@=) u.eid::@eid(unchecked) AND p.port = u.port AND p.state = 'ENABLED' AND p.id <> u.profile"
		" RETURNING p.id, u.profile",
		4, {"uuid[]", "text[]", "int2[]", "timestamptz"}
	};
	static EsimStatement unmark = {
		"UPDATE @esim_profile p SET is_fallback = false"
		" FROM unnest($1, $2) u(profile, eid)"
		" WHERE p.eid OPERATOR(@=) u.eid::@eid(unchecked) AND p.is_fallback AND p.id IS DISTINCT FROM u.profile",
		2, {"uuid[]", "text[]"}
	};
	static EsimStatement change = {
		"UPDATE @esim_profile p SET state = CASE WHEN " SAYS_LESS " THEN p.state"
		"  ELSE coalesce(u.state::@esim_profile_state, p.state) END,"
		" eid = coalesce(u.eid::@eid(unchecked), p.eid), iccid = coalesce(u.iccid::@iccid(unchecked), p.iccid),"
		" rsp_iccid = CASE WHEN u.iccid IS NOT NULL AND p.iccid IS NOT NULL"
		"  AND p.iccid::text <> u.iccid THEN u.iccid::@iccid(unchecked) ELSE p.rsp_iccid END,"
		" is_fallback = CASE u.fallback WHEN -1 THEN p.is_fallback ELSE u.fallback = 1 END,"
		" state_at = CASE WHEN " SAYS_LESS " THEN p.state_at ELSE $6 END,"
		" state_source = CASE WHEN " SAYS_LESS " THEN p.state_source ELSE 'operation' END, drift = p.drift OR $7"
		" FROM unnest($1, $2, $3, $4, $5) u(profile, state, eid, iccid, fallback) WHERE p.id = u.profile",
		7, {"uuid[]", "text[]", "text[]", "text[]", "int2[]", "timestamptz", "bool"}
	};
	static EsimStatement events = {
		"INSERT INTO @esim_profile_event (profile, eid, old_state, new_state, at, cause, operation, detail)"
		" SELECT u.profile, u.eid::@eid(unchecked), u.old::@esim_profile_state, u.new::@esim_profile_state, $8, u.cause, u.operation, u.detail"
		" FROM unnest($1, $2, $3, $4, $5, $6, $7) u(profile, eid, old, new, operation, detail, cause)"
		/* what says less than is known has not happened now */
		" WHERE u.cause <> 'OPERATION' OR u.new NOT IN ('RESERVED', 'RELEASED', 'DOWNLOADED', 'INSTALLED')"
		" OR u.new = (SELECT p.state::text FROM @esim_profile p WHERE p.id = u.profile)",
		8, {"uuid[]", "text[]", "text[]", "text[]", "uuid[]", "text[]", "text[]", "timestamptz"}
	};
	static const Oid change_types[5] = {UUIDOID, TEXTOID, TEXTOID, TEXTOID, INT2OID};
	static const Oid event_types[7] = {UUIDOID, TEXTOID, TEXTOID, TEXTOID, UUIDOID, TEXTOID, TEXTOID};
	Column		d[3];
	Column		f[2];
	Column		c[5];
	Column		e[7];
	Column		n[4];
	Datum		values[8];
	dlist_iter	iter;

	for (int i = 0; i < 3; i++)
		column_init(&d[i], 64);
	for (int i = 0; i < 2; i++)
		column_init(&f[i], 8);
	for (int i = 0; i < 5; i++)
		column_init(&c[i], 64);
	for (int i = 0; i < 7; i++)
		column_init(&e[i], 64);
	for (int i = 0; i < 4; i++)
		column_init(&n[i], 8);

	dlist_foreach(iter, tasks)
	{
		Task	   *task = dlist_container(Task, node, iter.cur);
		RspAction  *action = &task->conversation.action;
		RspState	state;
		int			fallback;
		bool		affected = effect_of(task, &state, &fallback);

		if (action->type == RSP_ACT_DONE && task->op.kind == RSP_UNSET_FALLBACK)
		{
			column_add_null(&f[0]);
			column_add_text(&f[1], task->op.eid);
		}
		/* it was enabled, and the eUICC went back for want of a connection */
		if (action->type == RSP_ACT_FAIL && strcmp(action->code, "ROLLED_BACK") == 0 && task->has_profile)
		{
			column_add(&e[0], UUIDPGetDatum(&task->profile));
			column_add_text(&e[1], task->op.eid);
			column_add_text(&e[2], "ENABLED");
			column_add_text(&e[3], "DISABLED");
			column_add(&e[4], UUIDPGetDatum(&task->id));
			column_add_text(&e[5], action->message);
			column_add_text(&e[6], "ROLLBACK");
		}
		if (!affected && !(action->iccid[0] && task->has_profile))
			continue;

		if (state == RSP_STATE_ENABLED)
		{
			column_add(&d[0], UUIDPGetDatum(&task->profile));
			column_add_text(&d[1], task->op.eid);
			column_add(&d[2], Int16GetDatum(task->port));
		}
		if (fallback == 1)
		{
			column_add(&f[0], UUIDPGetDatum(&task->profile));
			column_add_text(&f[1], task->op.eid);
		}
		column_add(&c[0], UUIDPGetDatum(&task->profile));
		column_add_text(&c[1], rsp_state_name(state));
		column_add_text(&c[2], task->op.eid);
		column_add_text(&c[3], action->iccid);
		column_add(&c[4], Int16GetDatum(fallback));
		if (broken)
			drift_note_broken(task->op.eid, &task->profile, broken,
							  action->iccid[0] ? action->iccid : task->op.iccid ? task->op.iccid : "",
							  task->op.state, state);
		/* one that failed lives no more, and is no reason for others to give way */
		if (action->iccid[0] && task->op.eid && state != RSP_STATE_FAILED)
		{
			column_add(&n[0], UUIDPGetDatum(&task->profile));
			column_add_text(&n[1], action->iccid);
			column_add_text(&n[2], task->op.eid);
			column_add(&n[3], UUIDPGetDatum(&task->id));
		}

		if ((state != RSP_STATE_NONE && state != task->op.state) || fallback == 1)
		{
			column_add(&e[0], UUIDPGetDatum(&task->profile));
			column_add_text(&e[1], task->op.eid);
			column_add_text(&e[2], rsp_state_name(task->op.state));
			column_add_text(&e[3], rsp_state_name(state != RSP_STATE_NONE ? state : task->op.state));
			column_add(&e[4], UUIDPGetDatum(&task->id));
			column_add_text(&e[5], fallback == 1 ? "fallback set" : NULL);
			column_add_text(&e[6], "OPERATION");
		}
	}

	if (n[0].count > 0)
		take_over(&n[0], &n[1], &n[2], &n[3], now);
	if (d[0].count > 0)
	{
		uint64		ndemoted;

		values[0] = column_array(&d[0], UUIDOID);
		values[1] = column_array(&d[1], TEXTOID);
		values[2] = column_array(&d[2], INT2OID);
		values[3] = TimestampTzGetDatum(now);
		esim_execute(&demote, values, NULL, 0);
		ndemoted = SPI_processed;
		for (uint64 i = 0; i < ndemoted; i++)
		{
			HeapTuple	tuple = SPI_tuptable->vals[i];
			TupleDesc	desc = SPI_tuptable->tupdesc;
			bool		isnull;
			Datum		demoted = SPI_getbinval(tuple, desc, 1, &isnull);
			pg_uuid_t  *by = DatumGetUUIDP(SPI_getbinval(tuple, desc, 2, &isnull));

			dlist_foreach(iter, tasks)
			{
				Task	   *task = dlist_container(Task, node, iter.cur);

				if (!task->has_profile || memcmp(&task->profile, by, UUID_LEN) != 0)
					continue;
				column_add(&e[0], demoted);
				column_add_text(&e[1], task->op.eid);
				column_add_text(&e[2], "ENABLED");
				column_add_text(&e[3], "DISABLED");
				column_add(&e[4], UUIDPGetDatum(&task->id));
				column_add_text(&e[5], "another profile was enabled");
				column_add_text(&e[6], "OPERATION");
				break;
			}
		}
	}
	if (f[0].count > 0)
	{
		values[0] = column_array(&f[0], UUIDOID);
		values[1] = column_array(&f[1], TEXTOID);
		esim_execute(&unmark, values, NULL, 0);
	}
	if (c[0].count > 0)
	{
		for (int i = 0; i < 5; i++)
			values[i] = column_array(&c[i], change_types[i]);
		values[5] = TimestampTzGetDatum(now);
		values[6] = BoolGetDatum(broken != NULL);
		esim_execute(&change, values, NULL, 0);
	}
	if (e[0].count > 0)
	{
		for (int i = 0; i < 7; i++)
			values[i] = column_array(&e[i], event_types[i]);
		values[7] = TimestampTzGetDatum(now);
		esim_execute(&events, values, NULL, 0);
	}
}
