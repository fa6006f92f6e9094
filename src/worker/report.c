/*-------------------------------------------------------------------------
 *
 * report.c
 *	  Records what the RSP says about the profiles of an eUICC, also where it
 *	  contradicts what esim knew: the rows become as reported, what cannot be
 *	  explained is kept in esim_drift.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/worker.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* a profile as its row has it */
typedef struct Known
{
	pg_uuid_t	id;
	char		iccid[21];
	char		eid[33];
	RspState	state;
	bool		is_fallback;
	bool		drift;
} Known;

/*
 * Live rows of the owner: those on the eUICC, and those that are reported.  One
 * that an earlier list took for gone is the same profile when it is listed again.
 */
static Known *
load_known(Task *task, const char *eid, const RspReport **reports, int nreports, int *count)
{
	static EsimStatement known = {
		"SELECT f.id, f.iccid::text, f.eid::text, f.state::text, f.is_fallback, f.drift FROM @esim_profile f"
		" WHERE f.owner = $1 AND f.state NOT IN ('DELETED', 'CANCELLED', 'FAILED')"
		"  AND f.id IN (SELECT a.id FROM @esim_profile a WHERE a.eid OPERATOR(@=) $2::@eid(unchecked)"
		"   UNION SELECT b.id FROM unnest($3) u(iccid) JOIN @esim_profile b ON b.iccid OPERATOR(@=) u.iccid::@iccid(unchecked))"
		" UNION ALL (SELECT DISTINCT ON (g.iccid) g.id, g.iccid::text, g.eid::text, g.state::text, g.is_fallback, g.drift"
		"  FROM unnest($3) u(iccid) JOIN @esim_profile g ON g.iccid OPERATOR(@=) u.iccid::@iccid(unchecked)"
		"  WHERE g.owner = $1 AND g.eid OPERATOR(@=) $2::@eid(unchecked) AND g.state = 'DELETED' AND g.state_source = 'refresh'"
		"   AND NOT EXISTS (SELECT FROM @esim_profile l WHERE l.iccid OPERATOR(@=) g.iccid AND l.owner = $1"
		"    AND l.state NOT IN ('DELETED', 'CANCELLED', 'FAILED'))"
		"  ORDER BY g.iccid, g.state_at DESC)"
		" ORDER BY 1",
		3, {"oid", "text", "text[]"}
	};
	Column		iccids;
	Datum		values[3];
	char		nulls[3] = {' ', ' ', ' '};
	Known	   *rows;
	uint64		n;

	column_init(&iccids, nreports);
	for (int i = 0; i < nreports; i++)
		column_add_text(&iccids, reports[i]->iccid);
	values[0] = ObjectIdGetDatum(task->owner);
	if (eid == NULL)
		nulls[1] = 'n';
	else
		values[1] = CStringGetTextDatum(eid);
	values[2] = column_array(&iccids, TEXTOID);
	esim_execute(&known, values, nulls, 0);
	n = SPI_processed;
	rows = palloc0(Max(n, 1) * sizeof(Known));
	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		char	   *text;
		bool		isnull;

		memcpy(&rows[i].id, DatumGetUUIDP(SPI_getbinval(tuple, desc, 1, &isnull)), UUID_LEN);
		if ((text = SPI_getvalue(tuple, desc, 2)) != NULL)
			strlcpy(rows[i].iccid, text, sizeof(rows[i].iccid));
		if ((text = SPI_getvalue(tuple, desc, 3)) != NULL)
			strlcpy(rows[i].eid, text, sizeof(rows[i].eid));
		if ((text = SPI_getvalue(tuple, desc, 4)) != NULL)
			(void) rsp_state_from_name(text, &rows[i].state);
		rows[i].is_fallback = DatumGetBool(SPI_getbinval(tuple, desc, 5, &isnull));
		rows[i].drift = DatumGetBool(SPI_getbinval(tuple, desc, 6, &isnull));
	}
	*count = (int) n;
	return rows;
}

void
report_event(Task *task, const char *eid, const pg_uuid_t *profile, RspState old_state, RspState new_state,
		  const char *cause, const char *detail)
{
	static EsimStatement event = {
		"INSERT INTO @esim_profile_event (profile, eid, old_state, new_state, cause, operation, detail)"
		" VALUES ($1, $2::@eid(unchecked), nullif($3, '')::@esim_profile_state, $4::@esim_profile_state, $5, $6, $7)",
		7, {"uuid", "text", "text", "text", "text", "uuid", "text"}
	};
	Datum		values[7];
	char		nulls[7] = {' ', ' ', ' ', ' ', ' ', ' ', ' '};

	values[0] = UUIDPGetDatum(profile);
	if (eid)
		values[1] = CStringGetTextDatum(eid);
	else
		nulls[1] = 'n';
	values[2] = CStringGetTextDatum(rsp_state_name(old_state));
	values[3] = CStringGetTextDatum(rsp_state_name(new_state));
	values[4] = CStringGetTextDatum(cause);
	values[5] = UUIDPGetDatum(&task->id);
	if (detail)
		values[6] = esim_text_from_utf8(detail);
	else
		nulls[6] = 'n';
	esim_execute(&event, values, nulls, 0);
}

/* fallback: -1 leaves it; drift: the rules of uniqueness do not cover it */
static void
set_profile(const pg_uuid_t *id, RspState state, const char *eid, int fallback, bool drift, const char *msisdn)
{
	static EsimStatement set = {
		"UPDATE @esim_profile SET state = $2::@esim_profile_state, eid = coalesce($3::@eid(unchecked), eid),"
		" is_fallback = CASE $4 WHEN -1 THEN is_fallback ELSE $4 = 1 END AND $2 IN ('INSTALLED', 'DISABLED', 'ENABLED'),"
		" drift = $5, msisdn = coalesce($6, msisdn), state_at = now(), state_source = 'refresh', rsp_state = $2 WHERE id = $1",
		6, {"uuid", "text", "text", "int2", "bool", "text"}
	};
	Datum		values[6];
	char		nulls[6] = {' ', ' ', ' ', ' ', ' ', ' '};

	values[0] = UUIDPGetDatum(id);
	values[1] = CStringGetTextDatum(rsp_state_name(state));
	if (eid && eid[0])
		values[2] = CStringGetTextDatum(eid);
	else
		nulls[2] = 'n';
	values[3] = Int16GetDatum(fallback);
	values[4] = BoolGetDatum(drift);
	if (msisdn && msisdn[0])
		values[5] = esim_text_from_utf8(msisdn);
	else
		nulls[5] = 'n';
	esim_execute(&set, values, nulls, 0);
}

/* A profile that esim did not know; it gets a row of the same owner. */
static void
add_profile(Task *task, const char *eid, const RspReport *report, bool fallback, const char *broken, bool news)
{
	static EsimStatement add = {
		"INSERT INTO @esim_profile (id, iccid, eid, owner, owner_name, state, is_fallback, server, msisdn, rsp_state, state_source, drift)"
		" SELECT $1, $2::@iccid(unchecked), $3::@eid(unchecked), o.owner, o.owner_name, $4::@esim_profile_state, $5, o.server, $6, $4, 'refresh', $7"
		" FROM @esim_operation o WHERE o.id = $8",
		8, {"uuid", "text", "text", "text", "bool", "text", "bool", "uuid"}
	};
	Datum		values[8];
	char		nulls[8] = {' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '};
	pg_uuid_t	id;

	esim_uuid7(id.data);
	values[0] = UUIDPGetDatum(&id);
	values[1] = CStringGetTextDatum(report->iccid);
	values[2] = CStringGetTextDatum(eid);
	values[3] = CStringGetTextDatum(rsp_state_name(report->state));
	values[4] = BoolGetDatum(fallback);
	if (report->msisdn[0])
		values[5] = esim_text_from_utf8(report->msisdn);
	else
		nulls[5] = 'n';
	values[6] = BoolGetDatum(broken != NULL);
	values[7] = UUIDPGetDatum(&task->id);
	esim_execute(&add, values, nulls, 0);
	report_event(task, eid, &id, RSP_STATE_NONE, report->state, "UNKNOWN", "first seen on the eUICC");
	if (news)
		drift_note(eid, &id, "unknown profile", NULL, rsp_state_name(report->state));
	if (broken)
		drift_note_broken(eid, &id, broken, report->iccid, RSP_STATE_NONE, report->state);
}

/* true: the eUICC was listed before, so what is new since then is news */
static bool
listed_before(const char *eid)
{
	static EsimStatement listed = {
		"SELECT 1 FROM @esim_device_state WHERE eid OPERATOR(@=) $1::@eid(unchecked) AND refreshed_at IS NOT NULL", 1, {"text"}
	};
	Datum		value = CStringGetTextDatum(eid);

	esim_execute(&listed, &value, NULL, 1);
	return SPI_processed > 0;
}

static void
note_refreshed(const char *eid)
{
	static EsimStatement refreshed = {
		"INSERT INTO @esim_device_state AS s (eid, refreshed_at) VALUES ($1::@eid(unchecked), now())"
		" ON CONFLICT (eid) DO UPDATE SET refreshed_at = EXCLUDED.refreshed_at", 1, {"text"}
	};
	Datum		value = CStringGetTextDatum(eid);

	esim_execute(&refreshed, &value, NULL, 0);
}

static bool
on_euicc(RspState state)
{
	return state == RSP_STATE_INSTALLED || state == RSP_STATE_DISABLED || state == RSP_STATE_ENABLED;
}

/* What an eUICC is said to have, and the row that it is about. */
typedef struct Finding
{
	const char *eid;
	const RspReport *report;
	const Known *row;			/* NULL: not known so far */
	bool		fallback;
	const char *broken;			/* the rule that it breaks, as far as can be seen */
	bool		news;			/* the eUICC was listed before */
	bool		fallback_took_over;
} Finding;

static void
apply_finding(Task *task, void *arg, const char *broken)
{
	const Finding *f = arg;
	const RspReport *report = f->report;
	const Known *row = f->row;
	const char *eid = f->eid;
	bool		agrees;

	if (broken == NULL)
		broken = f->broken;
	if (row == NULL)
	{
		add_profile(task, eid, report, f->fallback, broken, f->news);
		return;
	}
	agrees = row->state == report->state && row->is_fallback == f->fallback &&
		strcmp(row->eid, eid) == 0;

	/* installed, enabled or not unknown: says less than we know */
	if (report->state == RSP_STATE_INSTALLED && on_euicc(row->state))
		agrees = true;
	if (agrees && broken == NULL)
	{
		drift_resolve(&row->id);
		if (row->drift)
			set_profile(&row->id, row->state, eid, f->fallback, false, report->msisdn);
		return;
	}
	set_profile(&row->id, report->state, eid, f->fallback, broken != NULL, report->msisdn);
	if (row->state == RSP_STATE_DELETED)
		drift_resolve(&row->id);
	if (row->state != report->state)
	{
		const char *cause = "UNKNOWN";

		if (row->eid[0] && strcmp(row->eid, eid) != 0)
			cause = "DEVICE_CHANGE";
		else if (f->fallback_took_over)
			cause = "FALLBACK";
		report_event(task, eid, &row->id, row->state, report->state, cause, "reported by the RSP");
		/* of INSTALLED it was not known which */
		if (!f->fallback_took_over && on_euicc(row->state) && row->state != RSP_STATE_INSTALLED)
			drift_note(eid, &row->id, "state", rsp_state_name(row->state), rsp_state_name(report->state));
	}
	if (row->is_fallback != f->fallback)
		drift_note(eid, &row->id, "fallback", row->is_fallback ? "true" : "false", f->fallback ? "true" : "false");
	if (on_euicc(row->state) && row->eid[0] && strcmp(row->eid, eid) != 0)
		drift_note(eid, &row->id, "on another eUICC", esim_mask(row->eid), esim_mask(eid));
	if (broken)
		drift_note_broken(eid, &row->id, broken, report->iccid, row->state, report->state);
}

/*
 * The row of an ICCID.  Where there are several, the one on that eUICC, else
 * the one that the rule of uniqueness covers; twin: there is another such.
 */
static Known *
find_known(Known *rows, int nrows, const char *iccid, const char *eid, bool *twin)
{
	Known	   *found = NULL;

	*twin = false;
	for (int k = 0; k < nrows; k++)
	{
		Known	   *row = &rows[k];

		if (strcmp(row->iccid, iccid) != 0)
			continue;
		if (found == NULL)
		{
			found = row;
			continue;
		}
		if ((strcmp(row->eid, eid) == 0) > (strcmp(found->eid, eid) == 0) ||
			((strcmp(row->eid, eid) == 0) == (strcmp(found->eid, eid) == 0) && found->drift && !row->drift))
			found = row;
	}
	for (int k = 0; found != NULL && k < nrows; k++)
		if (&rows[k] != found && !rows[k].drift && strcmp(rows[k].iccid, iccid) == 0)
			*twin = true;
	return found;
}

/* asked twice in one turn: the later answer counts */
static int
without_repeats(const RspReport **reports, int n)
{
	int			left = 0;

	for (int i = 0; i < n; i++)
	{
		bool		again = false;

		for (int k = i + 1; k < n && !again; k++)
			again = reports[i]->iccid[0] && strcmp(reports[i]->iccid, reports[k]->iccid) == 0;
		if (!again)
			reports[left++] = reports[i];
	}
	return left;
}

/*
 * Applies the reports that the task has gathered.  Its own effects are in the
 * rows already, so what still differs is somebody else's doing.
 */
void
report_apply(Task *task)
{
	RspConversation *c = &task->conversation;
	const char *eid = task->op.eid;
	const RspReport **reports;
	int			nreports;
	Known	   *rows;
	int			nrows;
	int			nenabled = 0;
	int			nfallback = 0;
	bool		news;

	/* what is new may be the download's own profile, which has no ICCID yet */
	bool		may_be_ours = task->op.kind == RSP_DOWNLOAD && task->op.iccid == NULL && task->has_profile &&
		c->action.type != RSP_ACT_DONE && c->action.type != RSP_ACT_FAIL;
	bool		fallback_took_over = false;

	reports = palloc(Max(c->nreports, 1) * sizeof(RspReport *));
	nreports = without_repeats(reports, adopt_reports(task, reports));
	if (nreports == 0 && !c->reports_whole)
		return;

	if (eid == NULL && nreports > 0 && reports[0]->eid[0])
		eid = reports[0]->eid;
	if (eid == NULL)
		return;
	rows = load_known(task, eid, reports, nreports, &nrows);
	news = listed_before(eid);

	/* a fallback profile that is enabled now, while ours says another one */
	for (int i = 0; i < nreports; i++)
		for (int k = 0; k < nrows; k++)
			if (strcmp(rows[k].iccid, reports[i]->iccid) == 0 && rows[k].is_fallback &&
				rows[k].state == RSP_STATE_DISABLED && reports[i]->state == RSP_STATE_ENABLED)
				fallback_took_over = true;

	/* two passes: what is no longer enabled or fallback makes room first */
	for (int pass = 0; pass < 2; pass++)
	{
		for (int i = 0; i < nreports; i++)
		{
			const RspReport *report = reports[i];
			Finding		finding = {.eid = eid, .report = report, .news = news, .fallback_took_over = fallback_took_over};
			bool		twin;

			CHECK_FOR_INTERRUPTS();
			if (report->state == RSP_STATE_NONE)
				continue;
			if ((report->state == RSP_STATE_ENABLED || report->is_fallback == 1) != (pass == 1))
				continue;

			finding.row = find_known(rows, nrows, report->iccid, eid, &twin);
			finding.fallback = report->is_fallback == 1 ||
				(report->is_fallback < 0 && finding.row && finding.row->is_fallback);
			if (finding.row == NULL && may_be_ours)
				continue;
			if (twin)
				finding.broken = DRIFT_TWO_ROWS;
			if (finding.fallback && nfallback++ > 0)
				finding.broken = DRIFT_TWO_FALLBACK;
			if (report->state == RSP_STATE_ENABLED && nenabled++ > 0)
				finding.broken = DRIFT_TWO_ENABLED;
			drift_apply(task, apply_finding, &finding);
		}

		/* absent from a whole list: it is not on the eUICC any more */
		for (int k = 0; pass == 0 && c->reports_whole && k < nrows; k++)
		{
			bool		listed = false;

			for (int i = 0; i < nreports; i++)
				if (strcmp(rows[k].iccid, reports[i]->iccid) == 0)
					listed = true;
			if (listed || !on_euicc(rows[k].state) || strcmp(rows[k].eid, eid) != 0)
				continue;
			set_profile(&rows[k].id, RSP_STATE_DELETED, NULL, 0, false, NULL);
			report_event(task, eid, &rows[k].id, rows[k].state, RSP_STATE_DELETED, "UNKNOWN",
					  "no longer on the eUICC");
			drift_note(eid, &rows[k].id, "missing", rsp_state_name(rows[k].state), NULL);
		}
	}
	if (c->reports_whole && !may_be_ours)
		note_refreshed(eid);
}
