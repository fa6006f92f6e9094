/*-------------------------------------------------------------------------
 *
 * adopt.c
 *	  What a server says of its stock, its subscriptions and its fleets: to
 *	  the operation's own profile, or to whatever rows it belongs to.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/worker.h"

#include "utils/builtins.h"

static bool
text_argument(Datum *value, char *null, const char *text)
{
	*null = text[0] == '\0' ? 'n' : ' ';
	if (text[0] != '\0')
		*value = CStringGetTextDatum(text);
	return text[0] != '\0';
}

/*
 * What was learned of the operation's own profile, or of the fleet that it
 * makes.
 */
void
adopt_facts(Task *task)
{
	static EsimStatement profile = {
		"UPDATE @esim_profile SET rsp_id = coalesce($2, rsp_id), rsp_state = coalesce($3, rsp_state),"
		" smdp_address = coalesce($4, smdp_address), matching_id = coalesce($5, matching_id),"
		" activation_code = coalesce($6::@activation_code, activation_code), sim_id = coalesce($7, sim_id),"
		" subscription_status = coalesce($8::@esim_subscription_status, subscription_status), fleet = coalesce($9, fleet),"
		" imsi = coalesce($10, imsi), msisdn = coalesce($11, msisdn), reserved_eid = coalesce($12::@eid(unchecked), reserved_eid),"
		" subscription_server = CASE WHEN $7 IS NULL THEN subscription_server ELSE coalesce(subscription_server, $13) END,"
		" server = CASE WHEN $2 IS NULL THEN server ELSE coalesce(server, $13) END"
		" WHERE id = $1",
		13, {"uuid", "text", "text", "text", "text", "text", "text", "text", "text", "text", "text", "text", "text"}
	};
	static EsimStatement fleet = {
		"UPDATE @esim_fleet g SET rsp_id = $2 FROM @esim_operation o"
		" WHERE o.id = $1 AND g.owner = o.owner AND g.server = o.server AND g.name = o.fleet", 2, {"uuid", "text"}
	};
	RspFacts   *facts = &task->conversation.facts;
	Datum		values[13];
	char		nulls[13];
	bool		any = false;

	nulls[0] = ' ';
	any |= text_argument(&values[1], &nulls[1], facts->rsp_id);
	any |= text_argument(&values[2], &nulls[2], facts->rsp_state);
	any |= text_argument(&values[3], &nulls[3], facts->smdp_address);
	any |= text_argument(&values[4], &nulls[4], facts->matching_id);
	any |= text_argument(&values[5], &nulls[5], facts->activation_code);
	any |= text_argument(&values[6], &nulls[6], facts->sim_id);
	any |= text_argument(&values[7], &nulls[7], facts->subscription);
	any |= text_argument(&values[8], &nulls[8], facts->fleet);
	any |= text_argument(&values[9], &nulls[9], facts->imsi);
	any |= text_argument(&values[10], &nulls[10], facts->msisdn);
	any |= text_argument(&values[11], &nulls[11], facts->reserved_eid);
	if (!any || task->server == NULL)
		return;

	if (task->op.kind == RSP_FLEET_CREATE)
	{
		values[0] = UUIDPGetDatum(&task->id);
		if (nulls[1] == ' ')
			esim_execute(&fleet, values, nulls, 0);
	}
	else if (task->has_profile)
	{
		values[0] = UUIDPGetDatum(&task->profile);
		text_argument(&values[12], &nulls[12], task->server->rsp.name);
		esim_execute(&profile, values, nulls, 0);
	}
}

/* a subscription, with or without a profile that we know */
static void
adopt_subscription(Task *task, RspReport *report)
{
	static EsimStatement update = {
		"UPDATE @esim_profile p SET sim_id = $2, subscription_status = coalesce($3::@esim_subscription_status, p.subscription_status),"
		" fleet = coalesce((SELECT g.name FROM @esim_fleet g WHERE g.rsp_id = $4 AND g.owner = p.owner AND g.server = $5 LIMIT 1), $4, p.fleet),"
		" msisdn = coalesce($6, p.msisdn), subscription_server = coalesce(p.subscription_server, $5)"
		" WHERE p.id = (SELECT q.id FROM @esim_profile q WHERE q.iccid OPERATOR(@=) $7::@iccid(unchecked) AND q.owner = $1"
		"  ORDER BY q.state IN ('DELETED', 'CANCELLED', 'FAILED'), q.created_at DESC LIMIT 1)",
		7, {"oid", "text", "text", "text", "text", "text", "text"}
	};
	static EsimStatement insert = {
		"INSERT INTO @esim_profile (id, iccid, owner, owner_name, state, sim_id, subscription_status, subscription_server, fleet, msisdn, state_source)"
		" SELECT $1, $7::@iccid(unchecked), o.owner, o.owner_name, 'INSTALLED', $2, $3::@esim_subscription_status, $5,"
		"  coalesce((SELECT g.name FROM @esim_fleet g WHERE g.rsp_id = $4 AND g.owner = o.owner AND g.server = $5 LIMIT 1), $4), $6, 'refresh'"
		" FROM @esim_operation o WHERE o.id = $8",
		8, {"uuid", "text", "text", "text", "text", "text", "text", "uuid"}
	};
	Datum		values[8];
	char		nulls[8] = {' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '};
	pg_uuid_t	id;

	if (report->iccid[0] == '\0')
		return;
	values[0] = ObjectIdGetDatum(task->owner);
	text_argument(&values[1], &nulls[1], report->rsp_id);
	text_argument(&values[2], &nulls[2], report->subscription);
	text_argument(&values[3], &nulls[3], report->fleet_id);
	text_argument(&values[4], &nulls[4], task->server->rsp.name);
	text_argument(&values[5], &nulls[5], report->msisdn);
	text_argument(&values[6], &nulls[6], report->iccid);
	esim_execute(&update, values, nulls, 0);
	if (SPI_processed > 0)
		return;
	/* a SIM that is no eSIM profile: an ICCID and no device */
	esim_uuid7(id.data);
	values[0] = UUIDPGetDatum(&id);
	values[7] = UUIDPGetDatum(&task->id);
	esim_execute(&insert, values, nulls, 0);
}

static void
adopt_fleet(Task *task, RspReport *report)
{
	static EsimStatement upsert = {
		"INSERT INTO @esim_fleet AS g (name, owner, owner_name, server, rsp_id)"
		" SELECT $1, o.owner, o.owner_name, $2, $3 FROM @esim_operation o WHERE o.id = $4"
		" ON CONFLICT (owner, server, name) DO UPDATE SET rsp_id = EXCLUDED.rsp_id WHERE g.rsp_id IS DISTINCT FROM EXCLUDED.rsp_id",
		4, {"text", "text", "text", "uuid"}
	};
	Datum		values[4];

	if (report->rsp_id[0] == '\0')
		return;
	values[0] = CStringGetTextDatum(report->name[0] ? report->name : report->rsp_id);
	values[1] = CStringGetTextDatum(task->server->rsp.name);
	values[2] = CStringGetTextDatum(report->rsp_id);
	values[3] = UUIDPGetDatum(&task->id);
	esim_execute(&upsert, values, NULL, 0);
}

/* a profile of the server's stock, known by its identifier there or its ICCID */
static void
adopt_stock(Task *task, void *arg, const char *broken)
{
	RspReport  *report = arg;
	static EsimStatement update = {
		"UPDATE @esim_profile p SET rsp_id = $2, rsp_state = coalesce($3, p.rsp_state),"
		" state = CASE WHEN $4 IS NULL OR ($4 IN ('DOWNLOADED', 'INSTALLED', 'RELEASED', 'RESERVED', 'RESERVING') AND p.state IN ('DISABLED', 'ENABLED')) THEN p.state"
		"  ELSE $4::@esim_profile_state END,"
		" iccid = coalesce(p.iccid, $5::@iccid(unchecked)), reserved_eid = coalesce($6::@eid(unchecked), p.reserved_eid),"
		" eid = CASE WHEN $4 IN ('DOWNLOADED', 'INSTALLED') THEN coalesce(p.eid, $6::@eid(unchecked)) ELSE p.eid END,"
		" sim_id = coalesce($7, p.sim_id), smdp_address = coalesce($8, p.smdp_address), matching_id = coalesce($9, p.matching_id),"
		" server = coalesce(p.server, $10), state_at = now(), state_source = 'refresh', drift = p.drift OR $11"
		" WHERE p.id = (SELECT q.id FROM @esim_profile q WHERE q.owner = $1 AND (q.rsp_id = $2 OR q.iccid OPERATOR(@=) $5::@iccid(unchecked) AND q.rsp_id IS NULL)"
		"  ORDER BY q.rsp_id = $2 DESC NULLS LAST, q.state IN ('DELETED', 'CANCELLED', 'FAILED') LIMIT 1)"
		" RETURNING p.id",
		11, {"oid", "text", "text", "text", "text", "text", "text", "text", "text", "text", "bool"}
	};
	static EsimStatement insert = {
		"INSERT INTO @esim_profile (id, rsp_id, rsp_state, state, iccid, reserved_eid, eid, sim_id, smdp_address, matching_id, server, owner, owner_name,"
		"  redownload, state_source, drift)"
		" SELECT $1, $2, $3, coalesce($4, 'RESERVING')::@esim_profile_state, $5::@iccid(unchecked), $6::@eid(unchecked),"
		"  CASE WHEN $4 IN ('DOWNLOADED', 'INSTALLED') THEN $6::@eid(unchecked) END, $7, $8, $9, $10, o.owner, o.owner_name,"
		"  $12, 'refresh', $13 FROM @esim_operation o WHERE o.id = $11",
		13, {"uuid", "text", "text", "text", "text", "text", "text", "text", "text", "text", "uuid", "text", "bool"}
	};
	Datum		values[13];
	char		nulls[13] = {' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '};
	pg_uuid_t	id;

	values[0] = ObjectIdGetDatum(task->owner);
	text_argument(&values[1], &nulls[1], report->rsp_id);
	text_argument(&values[2], &nulls[2], report->rsp_state);
	text_argument(&values[3], &nulls[3], rsp_state_name(report->state));
	text_argument(&values[4], &nulls[4], report->iccid);
	text_argument(&values[5], &nulls[5], report->eid);
	text_argument(&values[6], &nulls[6], report->sim_id);
	text_argument(&values[7], &nulls[7], report->smdp_address);
	text_argument(&values[8], &nulls[8], report->matching_id);
	text_argument(&values[9], &nulls[9], task->server->rsp.name);
	values[10] = BoolGetDatum(broken != NULL);
	esim_execute(&update, values, nulls, 0);
	if (SPI_processed > 0)
	{
		bool		isnull;

		memcpy(&id, DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)), UUID_LEN);
	}
	else
	{
		esim_uuid7(id.data);
		values[0] = UUIDPGetDatum(&id);
		values[10] = UUIDPGetDatum(&task->id);
		text_argument(&values[11], &nulls[11], task->server->redownload ? task->server->redownload : "");
		values[12] = BoolGetDatum(broken != NULL);
		esim_execute(&insert, values, nulls, 0);
	}
	if (broken)
		drift_note_broken(NULL, &id, broken, report->iccid, RSP_STATE_NONE, report->state);
}

void
adopt_report(Task *task, RspReport *report)
{
	if (task->server == NULL)
		return;
	switch (report->what)
	{
		case RSP_REPORT_PROFILE:
			drift_apply(task, adopt_stock, report);
			break;
		case RSP_REPORT_SUBSCRIPTION:
			adopt_subscription(task, report);
			break;
		case RSP_REPORT_FLEET:
			adopt_fleet(task, report);
			break;
	}
}
