/*-------------------------------------------------------------------------
 *
 * adopt.c
 *	  What a server says of its stock, its subscriptions and its fleets: to
 *	  the operation's own profile, or to whatever rows it belongs to.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/worker.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "port/pg_bitutils.h"
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

/*
 * A row that a report may be about.  The owner is no condition of the search:
 * his index would lead through all that he has.
 */
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
} Row;

/* of one report, the best first */
#define MAX_ROWS 8

/* reports that are adopted at once */
#define MAX_BATCH 1000

typedef struct Rows
{
	int			count;
	Row			row[MAX_ROWS];
} Rows;

/* Reports of one kind that are adopted together; none is about another's row. */
typedef struct Batch
{
	RspReport **reports;
	int			count;
	Creations  *creations;
} Batch;

#define ROW_COLUMNS \
	" u.n, q.id, q.state::text, q.live IS NOT NULL," \
	" EXISTS (SELECT FROM @esim_drift d WHERE d.profile = q.id AND d.resolved_at IS NULL)," \
	" q.iccid::text, q.eid::text, q.reserved_eid::text, q.rsp_id, q.rsp_state, q.sim_id, q.smdp_address, q.matching_id," \
	" q.server, q.subscription_status::text, q.subscription_server, q.fleet, q.owner = $1"

/* the rows of each of n reports, which the statement has told by their number */
static Rows *
read_rows(int n)
{
	Rows	   *all = palloc0(n * sizeof(Rows));

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		int64		number = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		Rows	   *rows = &all[number - 1];
		Row		   *row = &rows->row[rows->count];
		char	   *state;

		if (rows->count == MAX_ROWS)
			continue;
		rows->count++;
		memcpy(&row->id, DatumGetUUIDP(SPI_getbinval(tuple, desc, 2, &isnull)), UUID_LEN);
		state = SPI_getvalue(tuple, desc, 3);
		if (state != NULL)
			(void) rsp_state_from_name(state, &row->state);
		row->live = DatumGetBool(SPI_getbinval(tuple, desc, 4, &isnull));
		row->open_drift = DatumGetBool(SPI_getbinval(tuple, desc, 5, &isnull));
		row->iccid = SPI_getvalue(tuple, desc, 6);
		row->eid = SPI_getvalue(tuple, desc, 7);
		row->reserved_eid = SPI_getvalue(tuple, desc, 8);
		row->rsp_id = SPI_getvalue(tuple, desc, 9);
		row->rsp_state = SPI_getvalue(tuple, desc, 10);
		row->sim_id = SPI_getvalue(tuple, desc, 11);
		row->smdp_address = SPI_getvalue(tuple, desc, 12);
		row->matching_id = SPI_getvalue(tuple, desc, 13);
		row->server = SPI_getvalue(tuple, desc, 14);
		row->subscription = SPI_getvalue(tuple, desc, 15);
		row->subscription_server = SPI_getvalue(tuple, desc, 16);
		row->fleet = SPI_getvalue(tuple, desc, 17);
		row->ours = DatumGetBool(SPI_getbinval(tuple, desc, 18, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return all;
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
is_anothers(Task *task, const RspReport *report, const Rows *rows)
{
	for (int i = 0; i < rows->count; i++)
	{
		const Row  *row = &rows->row[i];

		if (row->ours)
			continue;
		if (report->what == RSP_REPORT_PROFILE && same(row->rsp_id, report->rsp_id) &&
			same(row->server, task->server->rsp.name))
			return true;
		if (report->sim_id[0] != '\0' && same(row->sim_id, report->sim_id) &&
			same(row->subscription_server, task->server->rsp.name))
			return true;
	}
	return false;
}

/* May the report be of something that a request under way is creating? */
static bool
is_being_created(Task *task, const RspReport *report, Creations *creations)
{
	if (!creations->known)
		load_creations(task, creations);
	return may_be_created(creations, report);
}

static void
columns_init(Column *columns, int n, int size)
{
	for (int i = 0; i < n; i++)
		column_init(&columns[i], size);
}

/* the identifier of a row to be */
static pg_uuid_t *
new_id(void)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	esim_uuid7(id->data);
	return id;
}

/* ------------------------------------------------------------------------
 * Subscriptions
 * ------------------------------------------------------------------------ */

typedef struct FleetName
{
	const char *rsp_id;
	const char *name;			/* NULL: we have no such fleet */
} FleetName;

static int
by_rsp_id(const void *a, const void *b)
{
	return strcmp(((const FleetName *) a)->rsp_id, ((const FleetName *) b)->rsp_id);
}

/* The fleets that the reports name, in order; returns how many. */
static int
load_fleets(Task *task, Batch *batch, FleetName **fleets)
{
	static EsimStatement named = {
		"SELECT g.rsp_id, min(g.name) FROM @esim_fleet g WHERE g.owner = $1 AND g.server = $2 AND g.rsp_id = ANY ($3) GROUP BY g.rsp_id",
		3, {"oid", "text", "text[]"}
	};
	FleetName  *names = palloc(batch->count * sizeof(FleetName));
	int			asked = 0;
	int			distinct = 0;
	Column		ids;
	Datum		values[3];

	*fleets = names;
	for (int i = 0; i < batch->count; i++)
		if (batch->reports[i]->fleet_id[0] != '\0')
			names[asked++] = (FleetName) {batch->reports[i]->fleet_id, NULL};
	if (asked == 0)
		return 0;
	qsort(names, asked, sizeof(FleetName), by_rsp_id);
	column_init(&ids, 16);
	for (int i = 0; i < asked; i++)
	{
		if (distinct > 0 && strcmp(names[distinct - 1].rsp_id, names[i].rsp_id) == 0)
			continue;
		names[distinct++] = names[i];
		column_add_text(&ids, names[i].rsp_id);
	}
	values[0] = ObjectIdGetDatum(task->owner);
	values[1] = CStringGetTextDatum(task->server->rsp.name);
	values[2] = column_array(&ids, TEXTOID);
	esim_execute(&named, values, NULL, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		FleetName	key = {SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1), NULL};
		FleetName  *found = bsearch(&key, names, distinct, sizeof(FleetName), by_rsp_id);

		if (found != NULL)
			found->name = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2);
	}
	return distinct;
}

/* what the fleet of a report is called, "" if it names none */
static const char *
fleet_name(const RspReport *report, const FleetName *fleets, int nfleets)
{
	FleetName	key = {report->fleet_id, NULL};
	const FleetName *found = NULL;

	if (report->fleet_id[0] != '\0')
		found = bsearch(&key, fleets, nfleets, sizeof(FleetName), by_rsp_id);
	return found != NULL && found->name != NULL ? found->name : report->fleet_id;
}

/* subscriptions, with or without profiles that we know */
static void
adopt_subscriptions(Task *task, Batch *batch, Rows *all)
{
	static EsimStatement update = {
		"UPDATE @esim_profile p SET sim_id = u.sim_id, subscription_status = coalesce(u.status::@esim_subscription_status, p.subscription_status),"
		" fleet = coalesce(u.fleet, p.fleet), subscription_server = coalesce(p.subscription_server, $5)"
		" FROM unnest($1, $2, $3, $4) u(id, sim_id, status, fleet) WHERE p.id = u.id",
		5, {"uuid[]", "text[]", "text[]", "text[]", "text"}
	};
	static EsimStatement insert = {
		"INSERT INTO @esim_profile (id, iccid, owner, owner_name, state, sim_id, subscription_status, subscription_server, fleet, state_source)"
		" SELECT u.id, u.iccid::@iccid(unchecked), o.owner, o.owner_name, 'INSTALLED', u.sim_id, u.status::@esim_subscription_status, $6, u.fleet, 'refresh'"
		" FROM unnest($1, $2, $3, $4, $5) u(id, iccid, sim_id, status, fleet), @esim_operation o WHERE o.id = $7",
		7, {"uuid[]", "text[]", "text[]", "text[]", "text[]", "text", "uuid"}
	};
	FleetName  *fleets;
	int			nfleets = load_fleets(task, batch, &fleets);
	Column		changed[4];
	Column		fresh[5];
	Datum		values[7];

	columns_init(changed, lengthof(changed), batch->count);
	columns_init(fresh, lengthof(fresh), batch->count);
	for (int i = 0; i < batch->count; i++)
	{
		RspReport  *report = batch->reports[i];
		Row		   *row = &all[i].row[0];
		const char *fleet = fleet_name(report, fleets, nfleets);

		if (all[i].count > 0 && row->ours)
		{
			if (known(row->sim_id, report->rsp_id) && known(row->subscription, report->subscription) &&
				known(row->fleet, fleet) && row->subscription_server != NULL)
				continue;
			column_add(&changed[0], UUIDPGetDatum(&row->id));
			column_add_text(&changed[1], report->rsp_id);
			column_add_text(&changed[2], report->subscription);
			column_add_name(&changed[3], fleet);
			continue;
		}
		if (report->iccid[0] == '\0' || is_anothers(task, report, &all[i]) ||
			is_being_created(task, report, batch->creations))
			continue;

		/* a SIM that is no eSIM profile: an ICCID and no device */
		column_add(&fresh[0], UUIDPGetDatum(new_id()));
		column_add_text(&fresh[1], report->iccid);
		column_add_text(&fresh[2], report->rsp_id);
		column_add_text(&fresh[3], report->subscription);
		column_add_name(&fresh[4], fleet);
	}
	if (changed[0].count > 0)
	{
		for (int i = 0; i < lengthof(changed); i++)
			values[i] = column_array(&changed[i], i == 0 ? UUIDOID : TEXTOID);
		values[4] = CStringGetTextDatum(task->server->rsp.name);
		esim_execute(&update, values, NULL, 0);
	}
	if (fresh[0].count > 0)
	{
		for (int i = 0; i < lengthof(fresh); i++)
			values[i] = column_array(&fresh[i], i == 0 ? UUIDOID : TEXTOID);
		values[5] = CStringGetTextDatum(task->server->rsp.name);
		values[6] = UUIDPGetDatum(&task->id);
		esim_execute(&insert, values, NULL, 0);
	}
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

/* ------------------------------------------------------------------------
 * Stock
 * ------------------------------------------------------------------------ */

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

/* what a report means for the row that it is about */
typedef struct Finding
{
	const RspReport *report;
	Row		   *row;			/* NULL: a new one */
	pg_uuid_t	id;
	RspState	state;
	bool		contradicts;
	bool		other_iccid;
	bool		taken;			/* one ICCID, two profiles */
	bool		late;			/* what has changed meanwhile was changed by who knows better */
} Finding;

static void
note_finding(Task *task, Finding *f)
{
	/* what stock has said; what others say of the eUICC is theirs */
	static EsimStatement resolve = {
		"UPDATE @esim_drift SET resolved_at = now() WHERE profile = $1 AND resolved_at IS NULL"
		" AND (what LIKE 'ICCID%' OR what = 'state' AND reported IN ('RESERVING', 'RESERVED', 'RELEASED', 'FAILED'))",
		1, {"uuid"}
	};
	const char *eid = f->report->eid[0] != '\0' ? f->report->eid : NULL;
	Row		   *row = f->row;
	Datum		value;

	if (row != NULL && f->state != row->state)
		report_event(task, eid, &row->id, row->state, f->state,
					 f->state == RSP_STATE_DOWNLOADED || f->state == RSP_STATE_INSTALLED ? "LOCAL" : "UNKNOWN",
					 "reported by the RSP");
	if (f->contradicts)
		drift_note(eid, &f->id, "state", rsp_state_name(row->state), rsp_state_name(f->report->state));
	if (f->other_iccid)
		drift_note(eid, &f->id, "ICCID", esim_mask(row->iccid), esim_mask(f->report->iccid));
	if (f->taken)
		drift_note(eid, &f->id, DRIFT_TWO_ROWS, NULL, esim_mask(f->report->iccid));
	if (row != NULL && row->open_drift && row->live && !f->contradicts && !f->other_iccid && !f->taken)
	{
		value = UUIDPGetDatum(&row->id);
		esim_execute(&resolve, &value, NULL, 0);
	}
}

/* columns of both statements below, in order */
enum
{
	S_ID, S_RSP_ID, S_RSP_STATE, S_STATE, S_ICCID, S_EID, S_SIM_ID, S_SMDP, S_MATCHING_ID, S_TAKEN,
	S_COLUMNS,
	S_OURS = S_COLUMNS, S_NUMBER,
	S_CHANGED_COLUMNS
};

static const Oid stock_types[S_CHANGED_COLUMNS] = {UUIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
TEXTOID, TEXTOID, BOOLOID, TEXTOID, INT4OID};

static void
add_finding(Column *columns, Finding *f, const char *state)
{
	const RspReport *report = f->report;

	column_add(&columns[S_ID], UUIDPGetDatum(&f->id));
	column_add_text(&columns[S_RSP_ID], report->rsp_id);
	column_add_text(&columns[S_RSP_STATE], report->rsp_state);
	column_add_text(&columns[S_STATE], state);
	column_add_text(&columns[S_ICCID], report->iccid);
	column_add_text(&columns[S_EID], report->eid);
	column_add_text(&columns[S_SIM_ID], report->sim_id);
	column_add_text(&columns[S_SMDP], report->smdp_address);
	column_add_text(&columns[S_MATCHING_ID], report->matching_id);
	column_add(&columns[S_TAKEN], BoolGetDatum(f->taken));
}

/* profiles of the server's stock, known by their identifiers there or their ICCIDs */
static void
adopt_stock(Task *task, Batch *batch, Rows *all)
{
	static EsimStatement update = {
		"UPDATE @esim_profile p SET rsp_id = u.rsp_id, rsp_state = coalesce(u.rsp_state, p.rsp_state), state = u.state::@esim_profile_state,"
		" iccid = coalesce(p.iccid, u.iccid::@iccid(unchecked)), reserved_eid = coalesce(p.reserved_eid, u.eid::@eid(unchecked)),"
		" eid = CASE WHEN u.state IN ('DOWNLOADED', 'INSTALLED') THEN coalesce(p.eid, u.eid::@eid(unchecked)) ELSE p.eid END,"
		" sim_id = coalesce(u.sim_id, p.sim_id), smdp_address = coalesce(u.smdp_address, p.smdp_address), matching_id = coalesce(u.matching_id, p.matching_id),"
		" server = coalesce(p.server, $13), subscription_server = CASE WHEN u.sim_id IS NULL THEN p.subscription_server ELSE coalesce(p.subscription_server, $13) END,"
		" drift = p.drift OR u.taken, state_at = CASE WHEN p.state::text = u.state THEN p.state_at ELSE now() END,"
		" state_source = CASE WHEN p.state::text = u.state THEN p.state_source ELSE 'refresh' END"
		" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
		"  u(id, rsp_id, rsp_state, state, iccid, eid, sim_id, smdp_address, matching_id, taken, ours, n)"
		" WHERE p.id = u.id AND p.state = u.ours::@esim_profile_state RETURNING u.n",
		13, {"uuid[]", "text[]", "text[]", "text[]", "text[]", "text[]", "text[]", "text[]", "text[]", "bool[]", "text[]", "int4[]", "text"}
	};
	static EsimStatement insert = {
		"INSERT INTO @esim_profile (id, rsp_id, rsp_state, state, iccid, reserved_eid, eid, sim_id, smdp_address, matching_id, server, owner, owner_name,"
		"  redownload, state_source, drift, subscription_server)"
		" SELECT u.id, u.rsp_id, u.rsp_state, coalesce(u.state, 'RESERVING')::@esim_profile_state, u.iccid::@iccid(unchecked), u.eid::@eid(unchecked),"
		"  CASE WHEN u.state IN ('DOWNLOADED', 'INSTALLED') THEN u.eid::@eid(unchecked) END, u.sim_id, u.smdp_address, u.matching_id, $11, o.owner, o.owner_name,"
		"  $12, 'refresh', u.taken, CASE WHEN u.sim_id IS NOT NULL THEN $11 END"
		" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) u(id, rsp_id, rsp_state, state, iccid, eid, sim_id, smdp_address, matching_id, taken),"
		"  @esim_operation o WHERE o.id = $13",
		13, {"uuid[]", "text[]", "text[]", "text[]", "text[]", "text[]", "text[]", "text[]", "text[]", "bool[]", "text", "text", "uuid"}
	};
	Finding    *findings = palloc0(batch->count * sizeof(Finding));
	int			nfindings = 0;
	Column		changed[S_CHANGED_COLUMNS];
	Column		fresh[S_COLUMNS];
	Datum		values[S_CHANGED_COLUMNS + 1];
	char		nulls[S_CHANGED_COLUMNS + 1];

	columns_init(changed, S_CHANGED_COLUMNS, batch->count);
	columns_init(fresh, S_COLUMNS, batch->count);
	memset(nulls, ' ', sizeof(nulls));
	for (int i = 0; i < batch->count; i++)
	{
		const RspReport *report = batch->reports[i];
		Rows	   *rows = &all[i];
		Row		   *row = NULL;
		Finding    *f = &findings[nfindings];

		if (rows->count > 0 && rows->row[0].ours && same(rows->row[0].rsp_id, report->rsp_id))
			row = &rows->row[0];
		for (int k = 0; row == NULL && k < rows->count; k++)
			if (rows->row[k].ours && rows->row[k].rsp_id == NULL)
				row = &rows->row[k];
		memset(f, 0, sizeof(Finding));
		f->report = report;
		f->row = row;
		for (int k = 0; k < rows->count; k++)
			f->taken |= &rows->row[k] != row && rows->row[k].ours && rows->row[k].live &&
				same(rows->row[k].iccid, report->iccid);

		if (row == NULL)
		{
			if (is_anothers(task, report, rows) || is_being_created(task, report, batch->creations))
				continue;
			nfindings++;
			esim_uuid7(f->id.data);
			f->state = report->state;
			add_finding(fresh, f, rsp_state_name(f->state));
			continue;
		}

		nfindings++;
		f->id = row->id;
		f->state = state_after(row->state, report->state, &f->contradicts);
		f->other_iccid = row->iccid != NULL && report->iccid[0] != '\0' && !same(row->iccid, report->iccid);
		/* it begins to count with its ICCID, or with its state */
		f->taken = f->taken && (row->iccid == NULL || !row->live);
		if (f->state != row->state || !same(row->rsp_id, report->rsp_id) || !known(row->rsp_state, report->rsp_state) ||
			!filled(row->iccid, report->iccid) || !filled(row->reserved_eid, report->eid) ||
			!known(row->sim_id, report->sim_id) || !known(row->smdp_address, report->smdp_address) ||
			!known(row->matching_id, report->matching_id) || row->server == NULL)
		{
			f->late = true;		/* until it is written */
			add_finding(changed, f, rsp_state_name(f->state));
			column_add_text(&changed[S_OURS], rsp_state_name(row->state));
			column_add(&changed[S_NUMBER], Int32GetDatum(nfindings - 1));
		}
	}

	if (changed[S_ID].count > 0)
	{
		for (int i = 0; i < S_CHANGED_COLUMNS; i++)
			values[i] = column_array(&changed[i], stock_types[i]);
		values[S_CHANGED_COLUMNS] = CStringGetTextDatum(task->server->rsp.name);
		esim_execute(&update, values, NULL, 0);
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			bool		isnull;

			findings[DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull))].late = false;
		}
	}
	if (fresh[S_ID].count > 0)
	{
		for (int i = 0; i < S_COLUMNS; i++)
			values[i] = column_array(&fresh[i], stock_types[i]);
		values[S_COLUMNS] = CStringGetTextDatum(task->server->rsp.name);
		text_argument(&values[S_COLUMNS + 1], &nulls[S_COLUMNS + 1], task->server->redownload ? task->server->redownload : "");
		values[S_COLUMNS + 2] = UUIDPGetDatum(&task->id);
		esim_execute(&insert, values, nulls, 0);
	}
	for (int i = 0; i < nfindings; i++)
		if (!findings[i].late)
			note_finding(task, &findings[i]);
}

/* ------------------------------------------------------------------------
 * Pages
 * ------------------------------------------------------------------------ */

static Rows *
find_rows(Task *task, Batch *batch)
{
	static EsimStatement of_stock = {
		"SELECT r.* FROM unnest($2, $3) WITH ORDINALITY u(rsp_id, iccid, n), LATERAL (SELECT" ROW_COLUMNS
		" FROM (SELECT a.id FROM @esim_profile a WHERE a.rsp_id = u.rsp_id"
		"  UNION SELECT b.id FROM @esim_profile b WHERE b.iccid OPERATOR(@=) u.iccid::@iccid(unchecked)) x"
		" JOIN @esim_profile q USING (id)"
		" ORDER BY q.owner = $1 DESC, q.rsp_id = u.rsp_id DESC NULLS LAST, q.state IN ('DELETED', 'CANCELLED', 'FAILED'), q.created_at DESC LIMIT 8) r",
		3, {"oid", "text[]", "text[]"}
	};
	static EsimStatement of_subscriptions = {
		"SELECT r.* FROM unnest($2, $3) WITH ORDINALITY u(sim_id, iccid, n), LATERAL (SELECT" ROW_COLUMNS
		" FROM (SELECT a.id FROM @esim_profile a WHERE a.iccid OPERATOR(@=) u.iccid::@iccid(unchecked)"
		"  UNION SELECT b.id FROM @esim_profile b WHERE b.sim_id = u.sim_id) x"
		" JOIN @esim_profile q USING (id)"
		" ORDER BY q.owner = $1 DESC, q.sim_id = u.sim_id DESC NULLS LAST, q.state IN ('DELETED', 'CANCELLED', 'FAILED'), q.created_at DESC LIMIT 8) r",
		3, {"oid", "text[]", "text[]"}
	};
	Column		ids;
	Column		iccids;
	Datum		values[3];

	column_init(&ids, batch->count);
	column_init(&iccids, batch->count);
	for (int i = 0; i < batch->count; i++)
	{
		column_add_text(&ids, batch->reports[i]->rsp_id);
		column_add_text(&iccids, batch->reports[i]->iccid);
	}
	values[0] = ObjectIdGetDatum(task->owner);
	values[1] = column_array(&ids, TEXTOID);
	values[2] = column_array(&iccids, TEXTOID);
	esim_execute(batch->reports[0]->what == RSP_REPORT_PROFILE ? &of_stock : &of_subscriptions, values, NULL, 0);
	return read_rows(batch->count);
}

/* What has been seen so far, by hash: an accident only makes a batch shorter. */
typedef struct Seen
{
	uint32		size;			/* a power of two, more than is ever seen */
	uint64	   *hashes;			/* 0: free */
} Seen;

/* false: it has been */
static bool
see(Seen *seen, const void *key, int length, uint64 kind)
{
	uint64		hash = hash_bytes_extended(key, length, kind) | 1;

	for (uint32 at = (uint32) (hash >> 32) & (seen->size - 1);; at = (at + 1) & (seen->size - 1))
	{
		if (seen->hashes[at] == hash)
			return false;
		if (seen->hashes[at] == 0)
		{
			seen->hashes[at] = hash;
			return true;
		}
	}
}

static void
see_none(Seen *seen, int n)
{
	seen->size = pg_nextpower2_32(Max(n, 4) * 2);
	seen->hashes = palloc0(seen->size * sizeof(uint64));
}

static bool
see_text(Seen *seen, const char *text, uint64 kind)
{
	return text[0] == '\0' || see(seen, text, strlen(text), kind);
}

/* How many of the batch name nothing that one before them names. */
static int
without_repeats(const Batch *batch)
{
	Seen		seen;
	int			n;

	see_none(&seen, 3 * batch->count);
	for (n = 0; n < batch->count; n++)
	{
		const RspReport *report = batch->reports[n];

		if (!see_text(&seen, report->rsp_id, 0) || !see_text(&seen, report->iccid, 1) ||
			!see_text(&seen, report->sim_id, 2))
			break;
	}
	pfree(seen.hashes);
	return n;
}

/* How many of the batch are about no row of ours that one before them is about. */
static int
without_common_rows(const Batch *batch, const Rows *all)
{
	Seen		seen;
	int			n = 0;
	bool		first = true;

	see_none(&seen, MAX_ROWS * batch->count);
	for (; n < batch->count && first; n += first)
		for (int k = 0; k < all[n].count && first; k++)
			first = !all[n].row[k].ours || see(&seen, &all[n].row[k].id, UUID_LEN, 0);
	pfree(seen.hashes);
	return n;
}

/* broken: somebody has just made a row in the way, which is found this time */
static void
adopt_step(Task *task, void *arg, const char *broken)
{
	Batch	   *batch = arg;
	Rows	   *all;

	if (batch->reports[0]->what == RSP_REPORT_FLEET)
	{
		batch->count = 1;
		adopt_fleet(task, batch->reports[0]);
		return;
	}
	batch->count = Max(without_repeats(batch), 1);
	all = find_rows(task, batch);
	/* what it makes of the one must be seen by the other */
	batch->count = Max(without_common_rows(batch, all), 1);
	if (batch->reports[0]->what == RSP_REPORT_PROFILE)
		adopt_stock(task, batch, all);
	else
		adopt_subscriptions(task, batch, all);
}

/*
 * Adopts those of the task's reports that are no business of an eUICC; returns
 * how many are, and puts them into others.  The conversation stays as it is:
 * this may have to be done again.
 *
 * As many at once as do not depend on each other: a page has a thousand, and
 * an account hundreds of pages.
 */
int
adopt_reports(Task *task, const RspReport **others)
{
	RspConversation *c = &task->conversation;
	RspReport **reports = palloc(Max(c->nreports, 1) * sizeof(RspReport *));
	int			nreports = 0;
	int			left = 0;
	int			limit = MAX_BATCH;
	Creations	creations = {0};

	for (int i = 0; i < c->nreports; i++)
	{
		RspReport  *report = &c->reports[i];

		if (report->what == RSP_REPORT_PROFILE && report->rsp_id[0] == '\0')
			others[left++] = report;
		else if (task->server != NULL)
			reports[nreports++] = report;
	}
	for (int i = 0; i < nreports;)
	{
		Batch		batch = {.reports = reports + i, .count = 1, .creations = &creations};
		int			tried;

		CHECK_FOR_INTERRUPTS();
		while (!task->careful && i + batch.count < nreports && batch.count < limit &&
			   reports[i + batch.count]->what == reports[i]->what)
			batch.count++;
		tried = batch.count;
		drift_apply(task, adopt_step, &batch);
		/* where they do depend on each other not all are looked up each time */
		limit = batch.count < tried ? batch.count : Min(2 * limit, MAX_BATCH);
		i += batch.count;
	}
	return left;
}
