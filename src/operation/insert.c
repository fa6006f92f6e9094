/*-------------------------------------------------------------------------
 *
 * insert.c
 *	  Insertion of operations and of their rows in the queue.
 *
 * The rows go straight into table and indexes.  By a statement the executor
 * would read and plan the tables' CHECK constraints anew for every call, which
 * costs more than all the rest; they hold by the way the values are made here.
 * Where somebody has put a trigger, a rule or a constraint of their own on a
 * table, a statement is used.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteHandler.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "operation/enqueue.h"

#define MAX_DEFAULTS 32

/* A table into which rows go. */
typedef struct Target
{
	EsimTable	table;			/* all columns for which there are values */
	int			nchecks;		/* CHECK constraints that the extension made */
	EsimStatement *statement;	/* with the columns as parameters */

	/* other columns of the table that is there, and their defaults */
	Oid			relid;
	int			natts;
	bool		simple;			/* all of them are constants */
	int			ndefaults;
	AttrNumber	default_attnum[MAX_DEFAULTS];
	Datum		default_value[MAX_DEFAULTS];
} Target;

/* An insertion under way. */
typedef struct Insertion
{
	Target	   *target;
	Relation	rel;			/* NULL: by the statement */
	TupleDesc	desc;
	EState	   *estate;
	ResultRelInfo *info;
	TupleTableSlot **slots;
	int			nslots;
	Datum	   *values;
	bool	   *nulls;
} Insertion;

enum
{
	O_ID, O_SEQ, O_KIND, O_EID, O_ICCID, O_PROFILE, O_OWNER, O_OWNER_NAME, O_REQUESTED_BY, O_SERVER,
	O_STATUS, O_PHASE, O_REASON, O_NEXT_AT, O_ATTEMPTS, O_DEPENDS_ON, O_RETRY_OF, O_CORRELATOR,
	O_PRIORITY, O_NOT_BEFORE, O_EXPIRES_AT, O_CREATED_AT, O_KEY, O_CODE, O_ACTIVATE, O_ROLLBACK,
	O_SINK, O_CALLBACK_URL, O_CALLBACK_METHOD, O_OPTIONS, O_GENERATE, O_MATCHING_ID, O_PROFILE_TYPE,
	O_SMDS_ADDRESS, O_RELEASE, O_FINAL_STATUS, O_SUBSCRIPTION, O_FLEET, O_SETTINGS,
	O_COUNT
};

static EsimStatement insert_operation = {
	"INSERT INTO @esim_operation (id, seq, kind, eid, iccid, profile, owner, owner_name, requested_by,"
	" server, status, phase, phase_reason, next_at, attempts, depends_on, retry_of, correlator,"
	" priority, not_before, expires_at, created_at, idempotency_key, activation_code,"
	" activate_on_download, rollback, sink, callback_url, callback_method, options,"
	" generate_matching_id, matching_id, profile_type, smds_address, release, final_status,"
	" subscription_status, fleet, settings)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,"
	" $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38,"
	" $39)",
	O_COUNT,
	{"uuid", "int8", "text", "@eid", "@iccid", "uuid", "regrole", "name", "regrole", "text",
		"@esim_operation_state", "@esim_operation_phase", "text", "timestamptz", "int4", "uuid[]",
		"uuid", "text", "int2", "timestamptz", "timestamptz", "timestamptz", "text",
		"@activation_code", "bool", "bool", "text", "text", "text", "jsonb", "bool", "text", "text",
	"text", "bool", "text", "@esim_subscription_status", "text", "jsonb"}
};
static Target operation_target = {
	{"esim_operation", O_COUNT,
	{"id", "seq", "kind", "eid", "iccid", "profile", "owner", "owner_name", "requested_by", "server",
		"status", "phase", "phase_reason", "next_at", "attempts", "depends_on", "retry_of", "correlator",
		"priority", "not_before", "expires_at", "created_at", "idempotency_key", "activation_code",
		"activate_on_download", "rollback", "sink", "callback_url", "callback_method", "options",
		"generate_matching_id", "matching_id", "profile_type", "smds_address", "release", "final_status",
	"subscription_status", "fleet", "settings"}},
	3, &insert_operation
};

enum
{
	Q_SEQ, Q_OPERATION, Q_LANE, Q_SHARD, Q_STATE, Q_CLAIMED, Q_PRIORITY, Q_URGENCY, Q_KIND, Q_ACTIVATE, Q_EID,
	Q_PROFILE, Q_SERVER, Q_NEXT_AT, Q_EXPIRES_AT, Q_WAITS_FOR, Q_UNRESOLVED, Q_ASK_FIRST, Q_HANDLING,
	Q_CRASHES, Q_STEP, Q_ATTEMPTS, Q_ACTING, Q_POLLS, Q_FAILURES, Q_SYSTEM, Q_TIMELINE, Q_DATABASE,
	Q_COUNT
};

static EsimStatement insert_pending = {
	"INSERT INTO @esim_pending (seq, operation, lane, shard, state, claimed, priority, urgency, kind,"
	" activate, eid, profile, server, next_at, expires_at, waits_for, unresolved, ask_first, handling, crashes,"
	" step, attempts, acting, polls, failures, system_identifier, timeline, database)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,"
	" $20, $21, $22, $23, $24, $25, $26, $27, $28)",
	Q_COUNT,
	{"int8", "uuid", "int8", "int2", "char", "bool", "int2", "int2", "text", "bool", "@eid", "uuid", "text",
		"timestamptz", "timestamptz", "uuid[]", "bool", "bool", "bool", "int2", "int2", "int4", "int4",
	"int4", "int4", "int8", "int4", "oid"}
};
static Target pending_target = {
	{"esim_pending", Q_COUNT,
	{"seq", "operation", "lane", "shard", "state", "claimed", "priority", "urgency", "kind", "activate", "eid",
		"profile", "server", "next_at", "expires_at", "waits_for", "unresolved", "ask_first", "handling",
		"crashes", "step", "attempts", "acting", "polls", "failures", "system_identifier", "timeline",
	"database"}},
	2, &insert_pending
};

static EsimStatement insert_secret = {
	"INSERT INTO @esim_operation_secret (operation, confirmation_code, sink_credential)"
	" VALUES ($1, $2, $3)",
	3, {"uuid", "text", "jsonb"}
};

/*
 * Columns that are not given here have their default if that is a constant;
 * else a statement is needed.
 */
static void
locate_defaults(Target *target, Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);

	if (target->relid == RelationGetRelid(rel) && target->natts == desc->natts)
		return;
	target->relid = InvalidOid;
	target->ndefaults = 0;
	target->simple = true;
	for (int i = 0; i < desc->natts && target->simple; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		bool		given = false;
		Expr	   *expr;
		MemoryContext old;

		for (int c = 0; c < target->table.ncolumns && !given; c++)
			given = target->table.attnum[c] == attribute->attnum;
		if (given || attribute->attisdropped)
			continue;
		if (attribute->attgenerated || attribute->attidentity ||
			(attribute->attnotnull && !attribute->atthasdef))
		{
			target->simple = false;
			break;
		}
		expr = attribute->atthasdef ? (Expr *) build_column_default(rel, attribute->attnum) : NULL;
		if (expr == NULL)
			continue;
		expr = expression_planner(expr);
		if (!IsA(expr, Const) || target->ndefaults >= MAX_DEFAULTS)
		{
			target->simple = false;
			break;
		}
		if (((Const *) expr)->constisnull)
			continue;
		old = MemoryContextSwitchTo(TopMemoryContext);
		target->default_value[target->ndefaults] =
			datumCopy(((Const *) expr)->constvalue, attribute->attbyval, attribute->attlen);
		MemoryContextSwitchTo(old);
		target->default_attnum[target->ndefaults++] = attribute->attnum;
	}
	target->natts = desc->natts;
	target->relid = RelationGetRelid(rel);
}

/* true: the executor would do no more than is done here */
static bool
is_plain(const Target *target, Relation rel, ResultRelInfo *info)
{
	TupleDesc	desc = RelationGetDescr(rel);

	if (!target->simple || rel->trigdesc != NULL || rel->rd_rel->relhasrules ||
		rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relforcerowsecurity ||
		rel->rd_rel->relispartition ||
		(desc->constr ? desc->constr->num_check : 0) > target->nchecks)
		return false;
	for (int i = 0; i < info->ri_NumIndices; i++)
	{
		if (info->ri_IndexRelationInfo[i]->ii_ExclusionOps != NULL ||
			!info->ri_IndexRelationDescs[i]->rd_index->indimmediate)
			return false;
	}
	return true;
}

/* n: how many rows there will be */
static void
begin_insertion(Insertion *insertion, Target *target, int n)
{
	Relation	rel = table_open(esim_relation_oid(target->table.name), RowExclusiveLock);
	ResultRelInfo *info = makeNode(ResultRelInfo);

	memset(insertion, 0, sizeof(*insertion));
	insertion->target = target;
	esim_table_locate(&target->table, rel);
	locate_defaults(target, rel);
	InitResultRelInfo(info, rel, 1, NULL, 0);
	ExecOpenIndices(info, false);
	if (!is_plain(target, rel, info))
	{
		ExecCloseIndices(info);
		table_close(rel, NoLock);
		return;
	}
	PreventCommandIfReadOnly("INSERT");
	insertion->rel = rel;
	insertion->info = info;
	/* a copy is not counted: thousands of pins make the resource owner slow */
	insertion->desc = n == 1 ? RelationGetDescr(rel) : CreateTupleDescCopy(RelationGetDescr(rel));
	insertion->estate = CreateExecutorState();
	insertion->slots = palloc(sizeof(TupleTableSlot *) * n);
	insertion->values = palloc0(sizeof(Datum) * RelationGetDescr(rel)->natts);
	insertion->nulls = palloc(sizeof(bool) * RelationGetDescr(rel)->natts);
}

static void
insert_row(Insertion *insertion, Datum *values, const bool *nulls)
{
	Target	   *target = insertion->target;
	TupleTableSlot *slot;

	if (insertion->rel == NULL)
	{
		char		spi_nulls[ESIM_MAX_COLUMNS];

		for (int c = 0; c < target->table.ncolumns; c++)
			spi_nulls[c] = nulls[c] ? 'n' : ' ';
		esim_execute_latest(target->statement, values, spi_nulls, 0);
		return;
	}

	memset(insertion->nulls, true, sizeof(bool) * insertion->desc->natts);
	for (int c = 0; c < target->table.ncolumns; c++)
	{
		insertion->values[target->table.attnum[c] - 1] = values[c];
		insertion->nulls[target->table.attnum[c] - 1] = nulls[c];
	}
	for (int d = 0; d < target->ndefaults; d++)
	{
		insertion->values[target->default_attnum[d] - 1] = target->default_value[d];
		insertion->nulls[target->default_attnum[d] - 1] = false;
	}
	slot = MakeSingleTupleTableSlot(insertion->desc, &TTSOpsHeapTuple);
	ExecStoreHeapTuple(heap_form_tuple(insertion->desc, insertion->values, insertion->nulls), slot,
					   true);
	slot->tts_tableOid = RelationGetRelid(insertion->rel);
	insertion->slots[insertion->nslots++] = slot;
}

/* Entries of all rows in one index: its pages stay in the processor's cache. */
static void
insert_index(Insertion *insertion, Relation index, IndexInfo *info)
{
	ExprContext *context = GetPerTupleExprContext(insertion->estate);
	ExprState  *predicate = NULL;
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];

	if (info->ii_Predicate != NIL)
		predicate = ExecPrepareQual(info->ii_Predicate, insertion->estate);
	for (int i = 0; i < insertion->nslots; i++)
	{
		TupleTableSlot *slot = insertion->slots[i];

		context->ecxt_scantuple = slot;
		if (predicate == NULL || ExecQual(predicate, context))
		{
			FormIndexDatum(info, slot, insertion->estate, values, nulls);
			index_insert(index, values, nulls, &slot->tts_tid, insertion->rel,
						 info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false, info);
		}
		ResetPerTupleExprContext(insertion->estate);
	}
}

static void
end_insertion(Insertion *insertion)
{
	CommandId	cid;

	if (insertion->rel == NULL)
		return;
	cid = GetCurrentCommandId(true);
	if (insertion->nslots == 1)
		table_tuple_insert(insertion->rel, insertion->slots[0], cid, 0, NULL);
	else
		table_multi_insert(insertion->rel, insertion->slots, insertion->nslots, cid, 0, NULL);
	for (int i = 0; i < insertion->info->ri_NumIndices; i++)
		insert_index(insertion, insertion->info->ri_IndexRelationDescs[i],
					 insertion->info->ri_IndexRelationInfo[i]);
	for (int i = 0; i < insertion->nslots; i++)
		ExecDropSingleTupleTableSlot(insertion->slots[i]);
	ExecCloseIndices(insertion->info);
	FreeExecutorState(insertion->estate);
	table_close(insertion->rel, NoLock);
}

Datum
esim_enum_value(const char *type, const char *label)
{
	Oid			oid = GetSysCacheOid2(ENUMTYPOIDNAME, Anum_pg_enum_oid,
									  ObjectIdGetDatum(esim_type_oid(type)), CStringGetDatum(label));

	if (!OidIsValid(oid))
		elog(ERROR, "enum %s has no label %s", type, label);
	return ObjectIdGetDatum(oid);
}

static void
set_text(Datum *values, bool *nulls, int column, const char *text)
{
	nulls[column] = text == NULL;
	values[column] = text ? PointerGetDatum(cstring_to_text(text)) : (Datum) 0;
}

static void
set_uuids(Datum *values, bool *nulls, int column, const pg_uuid_t *ids, int n)
{
	Datum	   *elements;

	nulls[column] = n == 0;
	if (n == 0)
		return;
	elements = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
		elements[i] = UUIDPGetDatum(&ids[i]);
	values[column] = PointerGetDatum(construct_array(elements, n, UUIDOID, UUID_LEN, false,
													 TYPALIGN_CHAR));
}

/* what is the same for all elements of a call */
static void
common_operation_values(EsimRequest *request, Datum *values, bool *nulls)
{
	const EsimKind *kind = request->kind;

	memset(values, 0, sizeof(Datum) * O_COUNT);
	memset(nulls, 0, sizeof(bool) * O_COUNT);
	set_text(values, nulls, O_KIND, rsp_kind_name(kind->kind));
	values[O_REQUESTED_BY] = ObjectIdGetDatum(request->caller);
	values[O_STATUS] = esim_enum_value("esim_operation_state", "ACCEPTED");
	values[O_ATTEMPTS] = Int32GetDatum(0);
	set_text(values, nulls, O_CORRELATOR, request->correlator);
	values[O_PRIORITY] = Int16GetDatum(request->priority);
	values[O_NOT_BEFORE] = TimestampTzGetDatum(request->not_before);
	nulls[O_NOT_BEFORE] = !request->has_not_before;
	values[O_CREATED_AT] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	values[O_ACTIVATE] = BoolGetDatum(request->activate);
	nulls[O_ACTIVATE] = kind->activate < 0;
	values[O_ROLLBACK] = BoolGetDatum(request->rollback);
	nulls[O_ROLLBACK] = kind->rollback < 0;
	set_text(values, nulls, O_SINK, request->sink);
	set_text(values, nulls, O_CALLBACK_URL, request->callback_url);
	set_text(values, nulls, O_CALLBACK_METHOD, request->callback_url ? request->callback_method : NULL);
	values[O_OPTIONS] = JsonbPGetDatum(request->options);
	values[O_GENERATE] = BoolGetDatum(request->generate_matching_id);
	nulls[O_GENERATE] = kind->generate_matching_id < 0;
	set_text(values, nulls, O_PROFILE_TYPE, request->profile_type);
	set_text(values, nulls, O_SMDS_ADDRESS, request->smds_address);
	values[O_RELEASE] = BoolGetDatum(request->release);
	nulls[O_RELEASE] = kind->release < 0;
	set_text(values, nulls, O_FINAL_STATUS, request->final_status);
	nulls[O_SUBSCRIPTION] = request->subscription == NULL;
	if (request->subscription != NULL)
		values[O_SUBSCRIPTION] = esim_enum_value("esim_subscription_status", request->subscription);
	set_text(values, nulls, O_FLEET, request->fleet);
	nulls[O_SETTINGS] = request->settings == NULL;
	values[O_SETTINGS] = JsonbPGetDatum(request->settings);
}

static void
common_pending_values(EsimRequest *request, Datum *values, bool *nulls)
{
	EsimEpoch	epoch;

	memset(values, 0, sizeof(Datum) * Q_COUNT);
	memset(nulls, 0, sizeof(bool) * Q_COUNT);
	values[Q_PRIORITY] = Int16GetDatum(request->priority);
	values[Q_URGENCY] = Int16GetDatum(request->priority);
	set_text(values, nulls, Q_KIND, rsp_kind_name(request->kind->kind));
	values[Q_ACTIVATE] = BoolGetDatum(request->activate);
	esim_current_epoch(&epoch);
	values[Q_SYSTEM] = Int64GetDatum(epoch.system_identifier);
	values[Q_TIMELINE] = Int32GetDatum(epoch.timeline);
	values[Q_DATABASE] = ObjectIdGetDatum(epoch.database);
}

/* NULL: it is about no eUICC that is known */
static const Eid *
eid_of(const EsimElement *element)
{
	if (element->device != NULL)
		return &element->device->eid;
	return element->profile != NULL && element->profile->has_eid ? &element->profile->eid : NULL;
}

static void
operation_values(EsimRequest *request, EsimElement *element, NameData *owner_name, Datum *values,
				 bool *nulls)
{
	EsimProfile *profile = request->kind->of_profile ? element->profile : NULL;
	const Eid  *eid = eid_of(element);
	bool		queued = element->state == 'R' || element->state == 'W';

	values[O_ID] = UUIDPGetDatum(&element->id);
	values[O_SEQ] = Int64GetDatum(element->seq);
	nulls[O_EID] = eid == NULL;
	values[O_EID] = EidPGetDatum(eid);
	nulls[O_ICCID] = profile == NULL || !profile->has_iccid;
	values[O_ICCID] = nulls[O_ICCID] ? (Datum) 0 : IccidGetDatum(profile->iccid);
	nulls[O_PROFILE] = profile == NULL;
	values[O_PROFILE] = profile ? UUIDPGetDatum(&profile->id) : (Datum) 0;
	values[O_OWNER] = ObjectIdGetDatum(element->owner);
	namestrcpy(owner_name, element->owner_name);
	values[O_OWNER_NAME] = NameGetDatum(owner_name);
	set_text(values, nulls, O_SERVER, element->choice->server->rsp.name);
	values[O_PHASE] = esim_enum_value("esim_operation_phase", queued ? "QUEUED" : "BLOCKED");
	set_text(values, nulls, O_REASON, element->phase_reason);
	nulls[O_NEXT_AT] = element->state != 'W' && element->state != 'D';
	values[O_NEXT_AT] =
		TimestampTzGetDatum(element->state == 'W' ? request->not_before : request->now);
	set_uuids(values, nulls, O_DEPENDS_ON, element->depends_on, element->ndepends_on);
	nulls[O_RETRY_OF] = !element->has_retry_of;
	values[O_RETRY_OF] = UUIDPGetDatum(&element->retry_of);
	values[O_EXPIRES_AT] = TimestampTzGetDatum(element->expires_at);
	set_text(values, nulls, O_KEY, element->idempotency_key);
	nulls[O_CODE] = element->used_code == NULL;
	values[O_CODE] = PointerGetDatum(element->used_code);
	if (request->kind->matching_id >= 0)
		set_text(values, nulls, O_MATCHING_ID, element->matching_id);
	else
		nulls[O_MATCHING_ID] = true;
	if (request->kind->lane == ESIM_LANE_FLEET)
		set_text(values, nulls, O_FLEET, element->name);
}

static void
pending_values(EsimRequest *request, EsimElement *element, Datum *values, bool *nulls)
{
	EsimProfile *profile = request->kind->of_profile ? element->profile : NULL;
	const Eid  *eid = eid_of(element);
	bool		early;

	values[Q_SEQ] = Int64GetDatum(element->seq);
	values[Q_OPERATION] = UUIDPGetDatum(&element->id);
	values[Q_LANE] = Int64GetDatum(element->lane);
	values[Q_SHARD] = Int16GetDatum(ESIM_SHARD(element->lane));
	values[Q_STATE] = CharGetDatum(element->state);
	nulls[Q_EID] = eid == NULL;
	values[Q_EID] = EidPGetDatum(eid);
	nulls[Q_PROFILE] = profile == NULL;
	values[Q_PROFILE] = profile ? UUIDPGetDatum(&profile->id) : (Datum) 0;
	set_text(values, nulls, Q_SERVER, element->choice->server->rsp.name);
	/* for the worker: not before then, whatever it waits for until it is its turn */
	early = request->has_not_before && request->not_before > request->now;
	nulls[Q_NEXT_AT] = !early && element->state != 'D';
	values[Q_NEXT_AT] = TimestampTzGetDatum(early ? request->not_before : request->now);
	values[Q_EXPIRES_AT] = TimestampTzGetDatum(element->expires_at);
	set_uuids(values, nulls, Q_WAITS_FOR, element->waits_for, element->nwaits_for);
}

void
esim_insert_secrets(EsimRequest *request, EsimElement *element)
{
	Datum		values[3];
	char		nulls[3] = {' ', ' ', ' '};

	if (element->confirmation_code == NULL && request->sink_credential == NULL)
		return;
	values[0] = UUIDPGetDatum(&element->id);
	values[1] = PointerGetDatum(element->confirmation_code);
	values[2] = PointerGetDatum(request->sink_credential);
	if (element->confirmation_code == NULL)
		nulls[1] = 'n';
	if (request->sink_credential == NULL)
		nulls[2] = 'n';
	esim_execute_latest(&insert_secret, values, nulls, 0);
}

void
esim_insert_elements(EsimRequest *request, EsimElement **elements, int n)
{
	Insertion	insertion;
	Datum		values[ESIM_MAX_COLUMNS];
	bool		nulls[ESIM_MAX_COLUMNS];
	NameData	owner_name;

	common_operation_values(request, values, nulls);
	begin_insertion(&insertion, &operation_target, n);
	for (int i = 0; i < n; i++)
	{
		operation_values(request, elements[i], &owner_name, values, nulls);
		insert_row(&insertion, values, nulls);
	}
	end_insertion(&insertion);

	common_pending_values(request, values, nulls);
	begin_insertion(&insertion, &pending_target, n);
	for (int i = 0; i < n; i++)
	{
		pending_values(request, elements[i], values, nulls);
		insert_row(&insertion, values, nulls);
	}
	end_insertion(&insertion);

	for (int i = 0; i < n; i++)
		esim_insert_secrets(request, elements[i]);
	CommandCounterIncrement();
	esim_wake_at_commit();
}
