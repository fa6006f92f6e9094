/*-------------------------------------------------------------------------
 *
 * audit.c
 *	  Rows of esim_audit.
 *
 * They go straight into the table and its index, as operations do (see
 * operation/insert.c); by a statement where the table is not the one that the
 * extension made.
 *
 *-------------------------------------------------------------------------
 */
#include "audit/audit.h"

#include "access/htup_details.h"
#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/* rows that are inserted at a time */
#define BATCH 1000

/* bytes of an outcome */
#define MAX_OUTCOME 500

/* the table's columns, in this order */
enum
{
	A_AT, A_ROLE, A_SESSION, A_FUNCTION, A_EID, A_ICCID, A_OPERATION, A_OUTCOME,
	A_COUNT
};
static const char *const columns[A_COUNT] = {
	"at", "role", "session", "function", "eid", "iccid", "operation", "outcome"
};

static EsimStatement insert = {
	"INSERT INTO @esim_audit (at, role, session, function, eid, iccid, operation, outcome)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
	A_COUNT,
	{"timestamptz", "text", "text", "text", "@eid", "@iccid", "uuid", "text"}
};

/* ------------------------------------------------------------------------
 * Who
 * ------------------------------------------------------------------------ */

/* Names of roles may come from a database of another encoding. */
static char *
clean_name(char *name)
{
	if (!pg_verifymbstr(name, strlen(name), true))
	{
		for (char *p = name; *p; p++)
		{
			if (IS_HIGHBIT_SET(*p))
				*p = '?';
		}
	}
	return name;
}

static char *
role_name(Oid role)
{
	char	   *name = GetUserNameFromId(role, true);

	return name ? clean_name(name) : psprintf("%u", role);
}

/* The client's address, as inet_client_addr() has it; none of a background process. */
static void
append_client(StringInfo text)
{
	LOCAL_FCINFO(fcinfo, 0);
	Datum		address;

	if (MyProcPort == NULL)
		return;
	InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
	address = inet_client_addr(fcinfo);
	appendStringInfoString(text, ", \"client\": ");
	escape_json(text, fcinfo->isnull ? "local" :
				DatumGetCString(DirectFunctionCall1(inet_out, address)));
}

/*
 * The session as a JSON object, so that no part can pass for another.  Made
 * once, and again when the session's user or its application_name change.
 */
static text *
session_text(const char *user)
{
	static text *made = NULL;
	static char made_user[NAMEDATALEN];
	static char made_application[256];
	char		application[256];
	StringInfoData buffer;
	int			utc = 0;
	text	   *old = made;
	MemoryContext context;

	strlcpy(application, application_name ? application_name : "", sizeof(application));
	if (made != NULL && strcmp(user, made_user) == 0 && strcmp(application, made_application) == 0)
		return made;

	initStringInfo(&buffer);
	appendStringInfo(&buffer, "{\"pid\": %d, \"started\": \"%s\", \"user\": ", MyProcPid,
					 JsonEncodeDateTime(NULL, TimestampTzGetDatum(MyStartTimestamp), TIMESTAMPTZOID,
										&utc));
	escape_json(&buffer, user);
	if (GetAuthenticatedUserId() != GetSessionUserId())
	{
		appendStringInfoString(&buffer, ", \"login\": ");
		escape_json(&buffer, role_name(GetAuthenticatedUserId()));
	}
	append_client(&buffer);
	if (application[0] != '\0')
	{
		char	   *name = pstrdup(application);

		name[pg_mbcliplen(name, strlen(name), NAMEDATALEN - 1)] = '\0';
		appendStringInfoString(&buffer, ", \"application\": ");
		escape_json(&buffer, clean_name(name));
	}
	appendStringInfoChar(&buffer, '}');

	context = MemoryContextSwitchTo(TopMemoryContext);
	made = NULL;
	if (old != NULL)
		pfree(old);
	made = cstring_to_text(buffer.data);
	MemoryContextSwitchTo(context);
	strlcpy(made_user, user, sizeof(made_user));
	strlcpy(made_application, application, sizeof(made_application));
	pfree(buffer.data);
	return made;
}

/* ------------------------------------------------------------------------
 * Rows
 * ------------------------------------------------------------------------ */

/*
 * The index of the table, if the executor would do no more than is done here;
 * else NULL.
 */
static Relation
open_plain_index(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	List	   *indexes;
	Relation	index;

	if (rel->trigdesc != NULL || rel->rd_rel->relhasrules || rel->rd_rel->relforcerowsecurity ||
		rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relispartition ||
		(desc->constr != NULL && desc->constr->num_check > 0) || desc->natts != A_COUNT)
		return NULL;
	for (int i = 0; i < A_COUNT; i++)
	{
		if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), columns[i]) != 0)
			return NULL;
	}
	indexes = RelationGetIndexList(rel);
	if (list_length(indexes) != 1)
		return NULL;
	index = index_open(linitial_oid(indexes), RowExclusiveLock);
	if (index->rd_rel->relam == BRIN_AM_OID && index->rd_index->indnatts == 1 &&
		index->rd_index->indkey.values[0] == A_AT + 1)
		return index;
	index_close(index, NoLock);
	return NULL;
}

/*
 * Insert n rows that stand in the slots, all of one time.  The index has ranges
 * of blocks, not rows: it is enough to tell it each block once.
 */
static void
insert_slots(Relation rel, Relation index, IndexInfo *info, TupleTableSlot **slots, int n, Datum at)
{
	CommandId	cid = GetCurrentCommandId(true);
	BlockNumber block = InvalidBlockNumber;
	bool		isnull = false;

	if (n == 1)
		table_tuple_insert(rel, slots[0], cid, 0, NULL);
	else
		table_multi_insert(rel, slots, n, cid, 0, NULL);
	for (int i = 0; i < n; i++)
	{
		if (ItemPointerGetBlockNumber(&slots[i]->tts_tid) == block)
			continue;
		block = ItemPointerGetBlockNumber(&slots[i]->tts_tid);
		index_insert(index, &at, &isnull, &slots[i]->tts_tid, rel, UNIQUE_CHECK_NO, false, info);
	}
}

void
esim_audit(Oid caller, const char *function, const EsimAuditEntry *entries, int n)
{
	Datum		values[A_COUNT];
	bool		nulls[A_COUNT];
	Relation	rel;
	Relation	index;
	IndexInfo  *info = NULL;
	TupleDesc	desc = NULL;
	TupleTableSlot **slots = NULL;
	int			nslots = 0;
	int			filled = 0;
	const char *last = NULL;
	char	   *role;
	char	   *user;

	if (n == 0)
		return;
	if (XactReadOnly)
		PreventCommandIfReadOnly(psprintf("%s()", function));
	memset(values, 0, sizeof(values));
	memset(nulls, false, sizeof(nulls));
	values[A_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	role = role_name(caller);
	user = caller == GetSessionUserId() ? role : role_name(GetSessionUserId());
	values[A_ROLE] = CStringGetTextDatum(role);
	values[A_SESSION] = PointerGetDatum(session_text(user));
	values[A_FUNCTION] = CStringGetTextDatum(function);

	rel = table_open(esim_relation_oid("esim_audit"), RowExclusiveLock);
	index = open_plain_index(rel);
	if (index != NULL)
	{
		info = BuildIndexInfo(index);
		nslots = Min(n, BATCH);
		slots = palloc(sizeof(TupleTableSlot *) * nslots);
		/* a copy is not counted: many pins make the resource owner slow */
		desc = n == 1 ? RelationGetDescr(rel) : CreateTupleDescCopy(RelationGetDescr(rel));
		for (int i = 0; i < nslots; i++)
		{
			slots[i] = MakeSingleTupleTableSlot(desc, &TTSOpsHeapTuple);
			slots[i]->tts_tableOid = RelationGetRelid(rel);
		}
	}

	for (int i = 0; i < n; i++)
	{
		const EsimAuditEntry *entry = &entries[i];

		nulls[A_EID] = entry->eid == NULL;
		values[A_EID] = EidPGetDatum(entry->eid);
		nulls[A_ICCID] = entry->iccid == ICCID_INVALID;
		values[A_ICCID] = IccidGetDatum(entry->iccid);
		nulls[A_OPERATION] = entry->operation == NULL;
		values[A_OPERATION] = UUIDPGetDatum(entry->operation);
		nulls[A_OUTCOME] = entry->outcome == NULL;
		if (entry->outcome != last && entry->outcome != NULL)
			values[A_OUTCOME] =
				PointerGetDatum(cstring_to_text_with_len(entry->outcome,
														 pg_mbcliplen(entry->outcome,
																	  strlen(entry->outcome),
																	  MAX_OUTCOME)));
		last = entry->outcome ? entry->outcome : last;

		if (index == NULL)
		{
			char		spi_nulls[A_COUNT];

			for (int c = 0; c < A_COUNT; c++)
				spi_nulls[c] = nulls[c] ? 'n' : ' ';
			esim_execute_latest(&insert, values, spi_nulls, 0);
			continue;
		}
		ExecStoreHeapTuple(heap_form_tuple(desc, values, nulls), slots[filled++], true);
		if (filled == nslots || i == n - 1)
		{
			insert_slots(rel, index, info, slots, filled, values[A_AT]);
			filled = 0;
		}
	}

	for (int i = 0; i < nslots; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	if (index != NULL)
	{
		ESIM_INDEX_INSERT_CLEANUP(index, info);
		index_close(index, NoLock);
	}
	table_close(rel, NoLock);
}

void
esim_audit_one(Oid caller, const char *function, const pg_uuid_t *operation, const char *outcome)
{
	EsimAuditEntry entry = {NULL, ICCID_INVALID, operation, outcome};

	esim_audit(caller, function, &entry, 1);
}

/* ------------------------------------------------------------------------
 * From SQL
 * ------------------------------------------------------------------------ */

/*
 * esim_audit_note(function text, outcome text, eid eid, operation uuid) void: a
 * row of a function in SQL.  Those are SECURITY DEFINER, so the caller is the
 * role that SET ROLE has set, else the session's user.
 */
PG_FUNCTION_INFO_V1(esim_audit_note);
Datum
esim_audit_note(PG_FUNCTION_ARGS)
{
	EsimAuditEntry entry = {NULL, ICCID_INVALID, NULL, NULL};
	EsimRights	rights;

	if (PG_ARGISNULL(0))
		elog(ERROR, "function is NULL");
	if (!PG_ARGISNULL(1))
		entry.outcome = TextDatumGetCString(PG_GETARG_DATUM(1));
	if (!PG_ARGISNULL(2))
		entry.eid = PG_GETARG_EID_P(2);
	if (!PG_ARGISNULL(3))
		entry.operation = PG_GETARG_UUID_P(3);
	PreventCommandIfReadOnly("esim_audit_note()");
	SPI_connect();
	esim_enter_owner(&rights);
	esim_audit(GetOuterUserId(), TextDatumGetCString(PG_GETARG_DATUM(0)), &entry, 1);
	esim_leave_owner(&rights);
	SPI_finish();
	PG_RETURN_VOID();
}

/* NULL: it is null; times in one form, whatever the session's DateStyle is */
static char *
column_text(HeapTuple tuple, TupleDesc desc, const char *column)
{
	int			number = SPI_fnumber(desc, column);
	bool		isnull;
	Datum		value;
	int			utc = 0;

	if (SPI_gettypeid(desc, number) != TIMESTAMPTZOID)
		return SPI_getvalue(tuple, desc, number);
	value = SPI_getbinval(tuple, desc, number, &isnull);
	return isnull ? NULL : JsonEncodeDateTime(NULL, value, TIMESTAMPTZOID, &utc);
}

/* what of a column is new; at an INSERT, what is not NULL */
static void
append_change(StringInfo text, TriggerData *trigger, const char *column)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	bool		update = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event);
	char	   *new = column_text(update ? trigger->tg_newtuple : trigger->tg_trigtuple, desc, column);
	char	   *old = update ? column_text(trigger->tg_trigtuple, desc, column) : NULL;

	if (new == NULL && old == NULL)
		return;
	if (new != NULL && old != NULL && strcmp(new, old) == 0)
		return;
	appendStringInfo(text, "%s%s %s", text->len > 0 ? ", " : "", column, new ? new : "NULL");
}

/*
 * Trigger: a user has registered a device, or changed its server or whether it
 * is retired.
 */
PG_FUNCTION_INFO_V1(esim_audit_device);
Datum
esim_audit_device(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Oid			caller = GetUserId();
	EsimAuditEntry entry = {NULL, ICCID_INVALID, NULL, NULL};
	EsimRights	rights;
	StringInfoData outcome;
	HeapTuple	tuple;
	TupleDesc	desc;
	bool		update;
	bool		isnull;
	Datum		eid;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || TRIGGER_FIRED_BY_DELETE(trigger->tg_event) ||
		RelationGetRelid(trigger->tg_relation) != esim_relation_oid("esim_device"))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be called by its trigger on \"%s\"",
						"esim_audit_device", "esim_device")));
	update = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event);
	tuple = update ? trigger->tg_newtuple : trigger->tg_trigtuple;
	desc = RelationGetDescr(trigger->tg_relation);
	eid = SPI_getbinval(tuple, desc, SPI_fnumber(desc, "eid"), &isnull);

	SPI_connect();
	esim_enter_owner(&rights);
	initStringInfo(&outcome);
	append_change(&outcome, trigger, "owner_name");
	append_change(&outcome, trigger, "server");
	append_change(&outcome, trigger, "retired_at");
	entry.eid = DatumGetEidP(eid);
	entry.outcome = outcome.data;
	esim_audit(caller, update ? "UPDATE esim_device" : "INSERT esim_device", &entry, 1);
	esim_leave_owner(&rights);
	SPI_finish();
	return PointerGetDatum(NULL);
}
