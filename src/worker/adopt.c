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

/* what the server says */
static bool
text_argument(Datum *value, char *null, const char *text)
{
	*null = text[0] == '\0' ? 'n' : ' ';
	if (text[0] != '\0')
		*value = esim_text_from_utf8(text);
	return text[0] != '\0';
}

/* a name of ours */
static void
name_argument(Datum *value, char *null, const char *name)
{
	*null = ' ';
	*value = CStringGetTextDatum(name);
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
		name_argument(&values[12], &nulls[12], task->server->rsp.name);
		esim_execute(&profile, values, nulls, 0);
	}
}

/*
 * Requests under way that may be creating a profile at the server.  What a
 * list shows of it belongs to the operation's row: a second row would hide it
 * from the operation, which would then create another.
 */
typedef struct Creation
{
	char		eid[33];		/* "": for any eUICC */
	int64		since_ms;
} Creation;

typedef struct Creations
{
	bool		known;
	int			count;
	Creation   *items;
} Creations;

/* clocks of server and database may be apart by so much */
#define CREATION_SLACK_MS	INT64CONST(300000)

static void
load_creations(Task *task, Creations *creations)
{
	static EsimStatement under_way = {
		"SELECT coalesce(q.eid, f.reserved_eid)::text,"
		"  (extract(epoch FROM coalesce(q.first_sent_at, o.created_at)) * 1000)::int8"
		" FROM @esim_pending q JOIN @esim_operation o ON o.id = q.operation LEFT JOIN @esim_profile f ON f.id = o.profile"
		" WHERE q.server = $1 AND q.kind IN ('reserve', 'download') AND (q.claimed OR q.unresolved)"
		"  AND q.rsp_operation_id IS NULL AND (q.kind = 'reserve' OR f.rsp_id IS NULL)", 1, {"text"}
	};
	Datum		value = CStringGetTextDatum(task->server->rsp.name);

	esim_execute(&under_way, &value, NULL, 0);
	creations->known = true;
	creations->count = (int) SPI_processed;
	creations->items = palloc0(Max(creations->count, 1) * sizeof(Creation));
	for (int i = 0; i < creations->count; i++)
	{
		char	   *eid = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		bool		isnull;

		if (eid != NULL)
			strlcpy(creations->items[i].eid, eid, sizeof(creations->items[i].eid));
		creations->items[i].since_ms = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i],
																   SPI_tuptable->tupdesc, 2, &isnull));
	}
}

/* May one of them have made it? */
static bool
may_be_created(const Creations *creations, const RspReport *report)
{
	for (int i = 0; i < creations->count; i++)
	{
		const Creation *creation = &creations->items[i];

		if (report->created_ms > 0 && report->created_ms < creation->since_ms - CREATION_SLACK_MS)
			continue;
		if (report->what == RSP_REPORT_SUBSCRIPTION || report->eid[0] == '\0' ||
			strcmp(report->eid, creation->eid) == 0)
			return true;
	}
	return false;
}

/* a row that a report may be about */
typedef struct Row
{
	pg_uuid_t	id;
	bool		ours;			/* of the operation's owner */
	RspState	state;
	bool		live;			/* its ICCID is taken */
	bool		open_drift;
	char	   *iccid;			/* NULL: none, as all that follow */
	char	   *eid;
	char	   *reserved_eid;
	char	   *rsp_id;
	char	   *rsp_state;
	char	   *sim_id;
	char	   *smdp_address;
	char	   *matching_id;
	char	   *server;
	char	   *subscription;
	char	   *subscription_server;
	char	   *fleet;
	char	   *fleet_name;		/* of the fleet that the report names */
} Row;

/* the owner is no condition: its index would lead through all that he has */

#define ROW_COLUMNS \
	" q.id, q.state::text, q.live IS NOT NULL," \
	" EXISTS (SELECT FROM @esim_drift d WHERE d.profile = q.id AND d.resolved_at IS NULL)," \
	" q.iccid::text, q.eid::text, q.reserved_eid::text, q.rsp_id, q.rsp_state, q.sim_id, q.smdp_address, q.matching_id," \
	" q.server, q.subscription_status::text, q.subscription_server, q.fleet, q.owner = $1"

static Row *
read_rows(int *count)
{
	Row		   *rows = palloc0(Max(SPI_processed, 1) * sizeof(Row));

	*count = (int) SPI_processed;
	for (int i = 0; i < *count; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		Row		   *row = &rows[i];
		bool		isnull;
		char	   *state = SPI_getvalue(tuple, desc, 2);

		memcpy(&row->id, DatumGetUUIDP(SPI_getbinval(tuple, desc, 1, &isnull)), UUID_LEN);
		if (state != NULL)
			(void) rsp_state_from_name(state, &row->state);
		row->live = DatumGetBool(SPI_getbinval(tuple, desc, 3, &isnull));
		row->open_drift = DatumGetBool(SPI_getbinval(tuple, desc, 4, &isnull));
		row->iccid = SPI_getvalue(tuple, desc, 5);
		row->eid = SPI_getvalue(tuple, desc, 6);
		row->reserved_eid = SPI_getvalue(tuple, desc, 7);
		row->rsp_id = SPI_getvalue(tuple, desc, 8);
		row->rsp_state = SPI_getvalue(tuple, desc, 9);
		row->sim_id = SPI_getvalue(tuple, desc, 10);
		row->smdp_address = SPI_getvalue(tuple, desc, 11);
		row->matching_id = SPI_getvalue(tuple, desc, 12);
		row->server = SPI_getvalue(tuple, desc, 13);
		row->subscription = SPI_getvalue(tuple, desc, 14);
		row->subscription_server = SPI_getvalue(tuple, desc, 15);
		row->fleet = SPI_getvalue(tuple, desc, 16);
		row->ours = DatumGetBool(SPI_getbinval(tuple, desc, 17, &isnull));
		row->fleet_name = desc->natts > 17 ? SPI_getvalue(tuple, desc, 18) : NULL;
	}
	SPI_freetuptable(SPI_tuptable);
	return rows;
}

static bool
same(const char *ours, const char *reported)
{
	return ours != NULL && strcmp(ours, reported) == 0;
}

/* nothing to be learned: it is not said, or known already */
static bool
known(const char *ours, const char *reported)
{
	return reported[0] == '\0' || same(ours, reported);
}

/* the same where what we have is kept */
static bool
filled(const char *ours, const char *reported)
{
	return reported[0] == '\0' || ours != NULL;
}

/* Another owner's row has it: neither taken over nor doubled. */
static bool
is_anothers(Task *task, const RspReport *report, const Row *rows, int nrows)
{
	for (int i = 0; i < nrows; i++)
	{
		if (rows[i].ours)
			continue;
		if (report->what == RSP_REPORT_PROFILE && same(rows[i].rsp_id, report->rsp_id) &&
			same(rows[i].server, task->server->rsp.name))
			return true;
		if (report->sim_id[0] != '\0' && same(rows[i].sim_id, report->sim_id) &&
			same(rows[i].subscription_server, task->server->rsp.name))
			return true;
	}
	return false;
}

/* a subscription, with or without a profile that we know */
static void
adopt_subscription(Task *task, RspReport *report, Creations *creations)
{
	static EsimStatement find = {
		"SELECT" ROW_COLUMNS
		", (SELECT g.name FROM @esim_fleet g WHERE g.rsp_id = $4 AND g.owner = $1 AND g.server = $5 LIMIT 1)"
		" FROM (SELECT a.id FROM @esim_profile a WHERE a.iccid OPERATOR(@=) $2::@iccid(unchecked)"
		"  UNION SELECT b.id FROM @esim_profile b WHERE b.sim_id = $3) u JOIN @esim_profile q USING (id)"
		" ORDER BY q.owner = $1 DESC, q.sim_id = $3 DESC NULLS LAST, q.state IN ('DELETED', 'CANCELLED', 'FAILED'), q.created_at DESC LIMIT 8",
		5, {"oid", "text", "text", "text", "text"}
	};
	static EsimStatement update = {
		"UPDATE @esim_profile p SET sim_id = $2, subscription_status = coalesce($3::@esim_subscription_status, p.subscription_status),"
		" fleet = coalesce($4, p.fleet), subscription_server = coalesce(p.subscription_server, $5)"
		" WHERE p.id = $1",
		5, {"uuid", "text", "text", "text", "text"}
	};
	static EsimStatement insert = {
		"INSERT INTO @esim_profile (id, iccid, owner, owner_name, state, sim_id, subscription_status, subscription_server, fleet, state_source)"
		" SELECT $1, $6::@iccid(unchecked), o.owner, o.owner_name, 'INSTALLED', $2, $3::@esim_subscription_status, $5,"
		"  coalesce((SELECT g.name FROM @esim_fleet g WHERE g.rsp_id = $4 AND g.owner = o.owner AND g.server = $5 LIMIT 1), $4), 'refresh'"
		" FROM @esim_operation o WHERE o.id = $7",
		7, {"uuid", "text", "text", "text", "text", "text", "uuid"}
	};
	Datum		values[7];
	char		nulls[7] = {' ', ' ', ' ', ' ', ' ', ' ', ' '};
	pg_uuid_t	id;
	Row		   *row;
	int			nrows;

	values[0] = ObjectIdGetDatum(task->owner);
	text_argument(&values[1], &nulls[1], report->iccid);
	text_argument(&values[2], &nulls[2], report->rsp_id);
	text_argument(&values[3], &nulls[3], report->fleet_id);
	name_argument(&values[4], &nulls[4], task->server->rsp.name);
	esim_execute(&find, values, nulls, 0);
	row = read_rows(&nrows);

	text_argument(&values[1], &nulls[1], report->rsp_id);
	text_argument(&values[2], &nulls[2], report->subscription);
	if (nrows > 0 && row->ours)
	{
		const char *fleet = row->fleet_name != NULL ? row->fleet_name : report->fleet_id;

		if (known(row->sim_id, report->rsp_id) && known(row->subscription, report->subscription) &&
			known(row->fleet, fleet) && row->subscription_server != NULL)
			return;
		values[0] = UUIDPGetDatum(&row->id);
		if (row->fleet_name != NULL)
			name_argument(&values[3], &nulls[3], fleet);
		else
			text_argument(&values[3], &nulls[3], fleet);
		esim_execute(&update, values, nulls, 0);
		return;
	}
	if (report->iccid[0] == '\0' || is_anothers(task, report, row, nrows))
		return;
	if (!creations->known)
		load_creations(task, creations);
	if (may_be_created(creations, report))
		return;

	/* a SIM that is no eSIM profile: an ICCID and no device */
	esim_uuid7(id.data);
	values[0] = UUIDPGetDatum(&id);
	text_argument(&values[5], &nulls[5], report->iccid);
	values[6] = UUIDPGetDatum(&task->id);
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
	values[0] = esim_text_from_utf8(report->name[0] ? report->name : report->rsp_id);
	values[1] = CStringGetTextDatum(task->server->rsp.name);
	values[2] = esim_text_from_utf8(report->rsp_id);
	values[3] = UUIDPGetDatum(&task->id);
	esim_execute(&upsert, values, NULL, 0);
}

/* how far a profile is in its life; 0: it has none */
static int
progress(RspState state)
{
	return state == RSP_STATE_DELETED ? RSP_PROGRESS_MAX + 1 : rsp_state_progress(state);
}

/*
 * The state of a row after a report from stock.  A profile goes one way only;
 * whoever prepares profiles knows less of what has become of one than who
 * manages the eUICC.  *contradicts: what is said cannot be.
 */
static RspState
state_after(RspState ours, RspState reported, bool *contradicts)
{
	*contradicts = false;
	if (reported == RSP_STATE_NONE || reported == ours)
		return ours;
	if (progress(ours) == 0)
		return reported;
	if (progress(reported) > progress(ours))
		return reported;
	if (reported == RSP_STATE_FAILED && progress(ours) < progress(RSP_STATE_INSTALLED))
		return reported;
	*contradicts = progress(ours) <= progress(RSP_STATE_RELEASED) ||
		(reported != RSP_STATE_DOWNLOADED && reported != RSP_STATE_INSTALLED);
	return ours;
}

/* a profile of the server's stock, known by its identifier there or its ICCID */
static void
adopt_stock(Task *task, RspReport *report, Creations *creations)
{
	static EsimStatement find = {
		"SELECT" ROW_COLUMNS
		" FROM (SELECT a.id FROM @esim_profile a WHERE a.rsp_id = $2"
		"  UNION SELECT b.id FROM @esim_profile b WHERE b.iccid OPERATOR(@=) $3::@iccid(unchecked)) u"
		" JOIN @esim_profile q USING (id)"
		" ORDER BY q.owner = $1 DESC, q.rsp_id = $2 DESC NULLS LAST, q.state IN ('DELETED', 'CANCELLED', 'FAILED'), q.created_at DESC LIMIT 8",
		3, {"oid", "text", "text"}
	};
	static EsimStatement update = {
		/* what has changed meanwhile was changed by who knows better */
		"UPDATE @esim_profile p SET rsp_id = $2, rsp_state = coalesce($3, p.rsp_state), state = $4::@esim_profile_state,"
		" iccid = coalesce(p.iccid, $5::@iccid(unchecked)), reserved_eid = coalesce(p.reserved_eid, $6::@eid(unchecked)),"
		" eid = CASE WHEN $4 IN ('DOWNLOADED', 'INSTALLED') THEN coalesce(p.eid, $6::@eid(unchecked)) ELSE p.eid END,"
		" sim_id = coalesce($7, p.sim_id), smdp_address = coalesce($8, p.smdp_address), matching_id = coalesce($9, p.matching_id),"
		" server = coalesce(p.server, $10), subscription_server = CASE WHEN $7 IS NULL THEN p.subscription_server ELSE coalesce(p.subscription_server, $10) END,"
		" drift = p.drift OR $13, state_at = CASE WHEN p.state::text = $4 THEN p.state_at ELSE now() END,"
		" state_source = CASE WHEN p.state::text = $4 THEN p.state_source ELSE 'refresh' END"
		" WHERE p.id = $1 AND p.state = $12::@esim_profile_state",
		13, {"uuid", "text", "text", "text", "text", "text", "text", "text", "text", "text", "uuid", "text", "bool"}
	};
	static EsimStatement insert = {
		"INSERT INTO @esim_profile (id, rsp_id, rsp_state, state, iccid, reserved_eid, eid, sim_id, smdp_address, matching_id, server, owner, owner_name,"
		"  redownload, state_source, drift, subscription_server)"
		" SELECT $1, $2, $3, coalesce($4, 'RESERVING')::@esim_profile_state, $5::@iccid(unchecked), $6::@eid(unchecked),"
		"  CASE WHEN $4 IN ('DOWNLOADED', 'INSTALLED') THEN $6::@eid(unchecked) END, $7, $8, $9, $10, o.owner, o.owner_name,"
		"  $12, 'refresh', $13, CASE WHEN $7 IS NOT NULL THEN $10 END FROM @esim_operation o WHERE o.id = $11",
		13, {"uuid", "text", "text", "text", "text", "text", "text", "text", "text", "text", "uuid", "text", "bool"}
	};
	/* what stock has said; what others say of the eUICC is theirs */
	static EsimStatement resolve = {
		"UPDATE @esim_drift SET resolved_at = now() WHERE profile = $1 AND resolved_at IS NULL"
		" AND (what LIKE 'ICCID%' OR what = 'state' AND reported IN ('RESERVING', 'RESERVED', 'RELEASED', 'FAILED'))",
		1, {"uuid"}
	};
	Datum		values[13];
	char		nulls[13] = {' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '};
	const char *eid = report->eid[0] != '\0' ? report->eid : NULL;
	pg_uuid_t	id;
	Row		   *rows;
	Row		   *row = NULL;
	int			nrows;
	bool		taken = false;
	bool		contradicts;
	RspState	state;

	values[0] = ObjectIdGetDatum(task->owner);
	text_argument(&values[1], &nulls[1], report->rsp_id);
	text_argument(&values[2], &nulls[2], report->iccid);
	esim_execute(&find, values, nulls, 0);
	rows = read_rows(&nrows);
	if (nrows > 0 && rows[0].ours && same(rows[0].rsp_id, report->rsp_id))
		row = &rows[0];
	for (int i = 0; row == NULL && i < nrows; i++)
		if (rows[i].ours && rows[i].rsp_id == NULL)
			row = &rows[i];
	/* one ICCID, two profiles */
	for (int i = 0; i < nrows; i++)
		taken |= &rows[i] != row && rows[i].ours && rows[i].live && same(rows[i].iccid, report->iccid);

	text_argument(&values[2], &nulls[2], report->rsp_state);
	text_argument(&values[4], &nulls[4], report->iccid);
	text_argument(&values[5], &nulls[5], report->eid);
	text_argument(&values[6], &nulls[6], report->sim_id);
	text_argument(&values[7], &nulls[7], report->smdp_address);
	text_argument(&values[8], &nulls[8], report->matching_id);
	name_argument(&values[9], &nulls[9], task->server->rsp.name);
	values[10] = UUIDPGetDatum(&task->id);
	values[12] = BoolGetDatum(taken);

	if (row != NULL)
	{
		bool		other_iccid = row->iccid != NULL && report->iccid[0] != '\0' &&
			!same(row->iccid, report->iccid);

		state = state_after(row->state, report->state, &contradicts);
		values[0] = UUIDPGetDatum(&row->id);
		text_argument(&values[3], &nulls[3], rsp_state_name(state));
		text_argument(&values[11], &nulls[11], rsp_state_name(row->state));
		/* it begins to count with its ICCID, or with its state */
		taken = taken && (row->iccid == NULL || !row->live);
		values[12] = BoolGetDatum(taken);
		if (state != row->state || !same(row->rsp_id, report->rsp_id) || !known(row->rsp_state, report->rsp_state) ||
			!filled(row->iccid, report->iccid) || !filled(row->reserved_eid, report->eid) ||
			!known(row->sim_id, report->sim_id) || !known(row->smdp_address, report->smdp_address) ||
			!known(row->matching_id, report->matching_id) || row->server == NULL)
		{
			esim_execute(&update, values, nulls, 0);
			if (SPI_processed == 0)
				return;
		}
		if (state != row->state)
			report_event(task, eid, &row->id, row->state, state,
						 state == RSP_STATE_DOWNLOADED || state == RSP_STATE_INSTALLED ? "LOCAL" : "UNKNOWN",
						 "reported by the RSP");
		if (contradicts)
			drift_note(eid, &row->id, "state", rsp_state_name(row->state), rsp_state_name(report->state));
		if (other_iccid)
			drift_note(eid, &row->id, "ICCID", esim_mask(row->iccid), esim_mask(report->iccid));
		if (taken)
			drift_note(eid, &row->id, DRIFT_TWO_ROWS, NULL, esim_mask(report->iccid));
		if (row->open_drift && row->live && !contradicts && !other_iccid && !taken)
		{
			values[0] = UUIDPGetDatum(&row->id);
			esim_execute(&resolve, values, NULL, 0);
		}
		return;
	}

	if (is_anothers(task, report, rows, nrows))
		return;
	if (!creations->known)
		load_creations(task, creations);
	if (may_be_created(creations, report))
		return;
	esim_uuid7(id.data);
	values[0] = UUIDPGetDatum(&id);
	text_argument(&values[3], &nulls[3], rsp_state_name(report->state));
	text_argument(&values[11], &nulls[11], task->server->redownload ? task->server->redownload : "");
	esim_execute(&insert, values, nulls, 0);
	if (taken)
		drift_note(eid, &id, DRIFT_TWO_ROWS, NULL, esim_mask(report->iccid));
}

/* a report and the requests under way */
typedef struct Adoption
{
	RspReport  *report;
	Creations	creations;
} Adoption;

/* broken: somebody has just made a row in the way, which is found this time */
static void
adopt_step(Task *task, void *arg, const char *broken)
{
	Adoption   *adoption = arg;

	switch (adoption->report->what)
	{
		case RSP_REPORT_PROFILE:
			adopt_stock(task, adoption->report, &adoption->creations);
			break;
		case RSP_REPORT_SUBSCRIPTION:
			adopt_subscription(task, adoption->report, &adoption->creations);
			break;
		case RSP_REPORT_FLEET:
			adopt_fleet(task, adoption->report);
			break;
	}
}

/*
 * Adopts those of the task's reports that are no business of an eUICC; returns
 * how many are, and puts them into others.  The conversation stays as it is:
 * this may have to be done again.
 */
int
adopt_reports(Task *task, const RspReport **others)
{
	RspConversation *c = &task->conversation;
	Adoption	adoption = {0};
	int			left = 0;

	for (int i = 0; i < c->nreports; i++)
	{
		adoption.report = &c->reports[i];

		CHECK_FOR_INTERRUPTS();
		if (adoption.report->what == RSP_REPORT_PROFILE && adoption.report->rsp_id[0] == '\0')
			others[left++] = adoption.report;
		else if (task->server != NULL)
			drift_apply(task, adopt_step, &adoption);
	}
	return left;
}
