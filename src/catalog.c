/*-------------------------------------------------------------------------
 *
 * catalog.c
 *	  The extension in this database: its OIDs, its owner's rights, prepared
 *	  statements, errors, the epoch.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include <sys/time.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/pathnodes.h"
#include "parser/parsetree.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

/* ------------------------------------------------------------------------
 * OIDs
 * ------------------------------------------------------------------------ */

typedef struct NamedOid
{
	char		name[NAMEDATALEN];
	Oid			oid;
} NamedOid;

static bool catalog_valid = false;
static uint64 catalog_generation = 0;	/* of extension and schema name */
static bool callback_registered = false;
static Oid	extension_oid = InvalidOid;
static Oid	extension_schema = InvalidOid;
static Oid	extension_owner = InvalidOid;
static char schema_quoted[2 * NAMEDATALEN + 3];
static NamedOid type_oids[16];
static int	ntype_oids = 0;
static NamedOid relation_oids[32];
static int	nrelation_oids = 0;

/*
 * pg_extension has no syscache; CREATE and DROP EXTENSION, and renaming its
 * schema, invalidate namespaces, procedures or types instead.
 */
static void
invalidate_catalog(Datum arg, int cacheid, uint32 hashvalue)
{
	catalog_valid = false;
}

/* REINDEX CONCURRENTLY gives an index another number */
static void
invalidate_relation(Datum arg, Oid relid)
{
	for (int i = 0; i < nrelation_oids; i++)
		if (relid == InvalidOid || relation_oids[i].oid == relid)
			catalog_valid = false;
}

static void
load_catalog(void)
{
	Relation	rel;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	Oid			old_oid;
	char		old_schema[sizeof(schema_quoted)];

	if (!callback_registered)
	{
		CacheRegisterSyscacheCallback(NAMESPACEOID, invalidate_catalog, (Datum) 0);
		CacheRegisterSyscacheCallback(TYPEOID, invalidate_catalog, (Datum) 0);
		CacheRegisterRelcacheCallback(invalidate_relation, (Datum) 0);
		callback_registered = true;
	}

	old_oid = extension_oid;
	strlcpy(old_schema, schema_quoted, sizeof(old_schema));
	extension_oid = InvalidOid;
	ntype_oids = nrelation_oids = 0;

	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("esim"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_extension form = (Form_pg_extension) GETSTRUCT(tuple);
		char	   *name = get_namespace_name(form->extnamespace);

		if (name != NULL)
		{
			extension_oid = form->oid;
			extension_schema = form->extnamespace;
			extension_owner = form->extowner;
			strlcpy(schema_quoted, quote_identifier(name), sizeof(schema_quoted));
		}
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	if (extension_oid != old_oid || strcmp(old_schema, schema_quoted) != 0)
		catalog_generation++;

	/* what is absent may come at any time: only a hit is remembered */
	catalog_valid = OidIsValid(extension_oid);
}

Oid
esim_extension_oid(void)
{
	if (!catalog_valid)
		load_catalog();
	return extension_oid;
}

static void
require_extension(void)
{
	if (!OidIsValid(esim_extension_oid()))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"%s\" does not exist", "esim"),
				 errhint("Run CREATE EXTENSION esim in this database.")));
}

Oid
esim_schema_oid(void)
{
	require_extension();
	return extension_schema;
}

const char *
esim_schema(void)
{
	require_extension();
	return schema_quoted;
}

Oid
esim_owner_oid(void)
{
	require_extension();
	return extension_owner;
}

char *
esim_extension_version(void)
{
	Relation	rel;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	char	   *version = NULL;

	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("esim"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		datum = heap_getattr(tuple, Anum_pg_extension_extversion,
										 RelationGetDescr(rel), &isnull);

		if (!isnull)
			version = TextDatumGetCString(datum);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return version;
}

static Oid
named_oid(NamedOid *cache, int *count, int size, const char *name, bool type)
{
	Oid			schema = esim_schema_oid();
	Oid			oid;

	for (int i = 0; i < *count; i++)
		if (strcmp(cache[i].name, name) == 0)
			return cache[i].oid;

	oid = type ?
		GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum(name),
						ObjectIdGetDatum(schema)) :
		get_relname_relid(name, schema);
	if (!OidIsValid(oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("\"%s\" does not exist in schema %s", name, schema_quoted),
				 errhint("The library and the extension's objects do not fit together. Run ALTER EXTENSION esim UPDATE.")));
	if (*count < size)
	{
		strlcpy(cache[*count].name, name, NAMEDATALEN);
		cache[(*count)++].oid = oid;
	}
	return oid;
}

Oid
esim_type_oid(const char *name)
{
	return named_oid(type_oids, &ntype_oids, lengthof(type_oids), name, true);
}

Oid
esim_relation_oid(const char *name)
{
	return named_oid(relation_oids, &nrelation_oids, lengthof(relation_oids), name, false);
}

/* ------------------------------------------------------------------------
 * Rights
 * ------------------------------------------------------------------------ */

#if PG_VERSION_NUM < 170000
static int
esim_push_search_path(Oid schema, const char *quoted)
{
	OverrideSearchPath path;

	path.schemas = list_make1_oid(schema);
	path.addCatalog = true;
	path.addTemp = false;
	PushOverrideSearchPath(&path);
	list_free(path.schemas);
	return 0;
}

static void
esim_pop_search_path(int level)
{
	PopOverrideSearchPath();
}
#else
static int
esim_push_search_path(Oid schema, const char *quoted)
{
	int			level = NewGUCNestLevel();
	char		path[2 * NAMEDATALEN + 32];

	snprintf(path, sizeof(path), "pg_catalog, %s, pg_temp", quoted);
	(void) set_config_option("search_path", path, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return level;
}

static void
esim_pop_search_path(int level)
{
	AtEOXact_GUC(true, level);
}
#endif

void
esim_enter_owner(EsimRights *save)
{
	Oid			owner = esim_owner_oid();

	GetUserIdAndSecContext(&save->caller, &save->context);
	SetUserIdAndSecContext(owner, save->context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);

	/*
	 * Names and operators in what is run now are pg_catalog's and the
	 * extension's, whatever the caller's search_path is: an exact match in a
	 * schema of the caller's would be preferred, and run with these rights.
	 * An error restores the path by itself.
	 */
	save->path_level = esim_push_search_path(esim_schema_oid(), schema_quoted);
}

void
esim_leave_owner(const EsimRights *save)
{
	esim_pop_search_path(save->path_level);
	SetUserIdAndSecContext(save->caller, save->context);
}

bool
esim_may_act_for(Oid caller, Oid owner, const char *owner_name)
{
	char	   *name;

	/* a role that was dropped and whose number another one has got */
	name = GetUserNameFromId(owner, true);
	if (name == NULL || strcmp(name, owner_name) != 0)
		return false;
	return has_privs_of_role(caller, owner);
}

/*
 * Trigger: fills owner_name where it was left out.
 */
PG_FUNCTION_INFO_V1(esim_owner_name);
Datum
esim_owner_name(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	HeapTuple	tuple;
	int			owner_attno;
	int			name_attno;
	Datum		owner;
	bool		isnull;
	NameData	name;
	Datum		value;
	bool		null = false;
	char	   *owner_name;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be called by a trigger before insert", "esim_owner_name")));

	desc = RelationGetDescr(trigger->tg_relation);
	tuple = trigger->tg_trigtuple;
	owner_attno = SPI_fnumber(desc, "owner");
	name_attno = SPI_fnumber(desc, "owner_name");
	if (owner_attno <= 0 || name_attno <= 0)
		elog(ERROR, "relation \"%s\" has no columns owner and owner_name",
			 RelationGetRelationName(trigger->tg_relation));

	owner = heap_getattr(tuple, owner_attno, desc, &isnull);
	if (isnull)
		return PointerGetDatum(tuple);	/* NOT NULL will tell */
	owner_name = GetUserNameFromId(DatumGetObjectId(owner), true);
	if (owner_name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role with OID %u does not exist", DatumGetObjectId(owner))));
	namestrcpy(&name, owner_name);
	value = NameGetDatum(&name);
	return PointerGetDatum(heap_modify_tuple_by_cols(tuple, desc, 1, &name_attno, &value, &null));
}

/* ------------------------------------------------------------------------
 * Statements
 * ------------------------------------------------------------------------ */

static Oid
statement_type(const char *name)
{
	Oid			oid;
	bool		array = false;
	const char *base = name;
	char		buffer[NAMEDATALEN];
	size_t		len = strlen(name);

	if (len > 2 && strcmp(name + len - 2, "[]") == 0)
	{
		array = true;
		strlcpy(buffer, name, Min(sizeof(buffer), len - 1));
		base = buffer;
	}
	if (base[0] == '@')
		oid = esim_type_oid(base + 1);
	else
		oid = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum(base),
							  ObjectIdGetDatum(PG_CATALOG_NAMESPACE));
	if (array && OidIsValid(oid))
		oid = get_array_type(oid);
	if (!OidIsValid(oid))
		elog(ERROR, "type \"%s\" does not exist", name);
	return oid;
}

static void
prepare_statement(EsimStatement *statement)
{
	Oid			types[ESIM_MAX_ARGS];
	StringInfoData sql;
	SPIPlanPtr	plan;

	/* the calls come first: they fill the cache that extension_oid is of */
	require_extension();
	if (statement->plan != NULL && statement->generation == catalog_generation)
		return;

	if (statement->plan != NULL)
	{
		SPI_freeplan(statement->plan);
		statement->plan = NULL;
	}

	Assert(statement->nargs <= ESIM_MAX_ARGS);
	for (int i = 0; i < statement->nargs; i++)
		types[i] = statement_type(statement->types[i]);

	initStringInfo(&sql);
	for (const char *p = statement->text; *p; p++)
	{
		if (*p == '@')
		{
			appendStringInfoString(&sql, schema_quoted);
			appendStringInfoChar(&sql, '.');
		}
		else
			appendStringInfoChar(&sql, *p);
	}

	plan = SPI_prepare_cursor(sql.data, statement->nargs, types, CURSOR_OPT_GENERIC_PLAN);
	if (plan == NULL)
		elog(ERROR, "could not prepare statement: %s", SPI_result_code_string(SPI_result));
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "could not keep statement");
	statement->plan = plan;
	statement->generation = catalog_generation;
	statement->planned = false;
	pfree(sql.data);
}

/*
 * A plan that was made while the queue was empty would scan it from end to
 * end for ever after, for each row of another table perhaps.  So while a
 * statement is planned only index scans and nested loops of them are to be
 * had, and no table of ours is small: next to nothing, all ways through an
 * index cost the same, and the one that reads all of it may be taken.
 */
#define PLANNED_PAGES 20000.0
#define PLANNED_ROWS 1000000.0

static bool planning = false;

static ESIM_TABLE_HOOK_TYPE previous_table_hook = NULL;

static void
planned_size(ESIM_TABLE_HOOK_PARAMETERS)
{
	RangeTblEntry *entry = planner_rt_fetch(rel->relid, root);
	ListCell   *cell;

	if (previous_table_hook)
		previous_table_hook(ESIM_TABLE_HOOK_ARGUMENTS);
	if (!planning || rel->tuples >= PLANNED_ROWS || entry->rtekind != RTE_RELATION ||
		get_rel_namespace(entry->relid) != esim_schema_oid())
		return;

	foreach(cell, rel->indexlist)
	{
		IndexOptInfo *index = lfirst_node(IndexOptInfo, cell);
		double		part = index->indpred != NIL ? 0.1 : 1.0;

		index->pages = Max(index->pages, PLANNED_PAGES / 5 * part);
		index->tuples = Max(index->tuples, PLANNED_ROWS * part);
		index->tree_height = Max(index->tree_height, 2);
	}
	rel->pages = Max(rel->pages, PLANNED_PAGES);
	rel->tuples = PLANNED_ROWS;
}

void
esim_statement_install(void)
{
	previous_table_hook = ESIM_TABLE_HOOK;
	ESIM_TABLE_HOOK = planned_size;
}

static int
execute(EsimStatement *statement, Datum *values, const char *nulls, Snapshot snapshot, long limit)
{
	int			result;

	if (snapshot == InvalidSnapshot)
		result = SPI_execute_plan(statement->plan, values, nulls, false, limit);
	else
		result = SPI_execute_snapshot(statement->plan, values, nulls, snapshot, InvalidSnapshot,
									  false, true, limit);
	if (result <= 0)
		elog(ERROR, "statement failed: %s", SPI_result_code_string(result));
	return result;
}

/* The statement must be prepared. */
static int
plan_and_execute(EsimStatement *statement, Datum *values, const char *nulls, Snapshot snapshot, long limit)
{
	static const char *const settings[] = {
		"enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "enable_material", "jit"
	};
	volatile int result = 0;
	bool		outer = planning;
	int			level;

	/* what would be heard of when the tables are locked is heard of now */
	AcceptInvalidationMessages();
	if (statement->planned && SPI_plan_is_valid(statement->plan))
		return execute(statement, values, nulls, snapshot, limit);

	level = NewGUCNestLevel();
	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i], "off", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	planning = true;
	PG_TRY();
	{
		result = execute(statement, values, nulls, snapshot, limit);
	}
	PG_FINALLY();
	{
		planning = outer;
	}
	PG_END_TRY();
	AtEOXact_GUC(false, level);
	statement->planned = true;
	return result;
}

int
esim_execute(EsimStatement *statement, Datum *values, const char *nulls, long limit)
{
	prepare_statement(statement);
	return plan_and_execute(statement, values, nulls, InvalidSnapshot, limit);
}

int
esim_execute_latest(EsimStatement *statement, Datum *values, const char *nulls, long limit)
{
	Snapshot	snapshot;
	int			result;

	prepare_statement(statement);

	/* as RI triggers do: our own changes so far must be visible */
	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	result = plan_and_execute(statement, values, nulls, snapshot, limit);
	UnregisterSnapshot(snapshot);
	return result;
}

/* ------------------------------------------------------------------------
 * Errors
 * ------------------------------------------------------------------------ */

int
esim_sqlstate_for_code(const char *code)
{
	static const struct
	{
		const char *code;
		int			sqlstate;
	}			codes[] = {
		{"INVALID_ARGUMENT", ERRCODE_ESIM_INVALID},
		{"OUT_OF_RANGE", ERRCODE_ESIM_INVALID},
		{"PERMISSION_DENIED", ERRCODE_ESIM_DENIED},
		{"IDENTIFIER_NOT_FOUND", ERRCODE_ESIM_NOT_FOUND},
		{"NOT_FOUND", ERRCODE_ESIM_NOT_FOUND},
		{"INCOMPATIBLE_STATE", ERRCODE_ESIM_CONFLICT},
		{"CONFLICT", ERRCODE_ESIM_CONFLICT},
		{"ALREADY_EXISTS", ERRCODE_ESIM_CONFLICT},
		{"QUOTA_EXCEEDED", ERRCODE_ESIM_QUOTA},
		{"UNAVAILABLE", ERRCODE_ESIM_UNAVAILABLE},
	};

	for (int i = 0; i < lengthof(codes); i++)
		if (strcmp(codes[i].code, code) == 0)
			return codes[i].sqlstate;
	return ERRCODE_ESIM_UNPROCESSABLE;
}

int
esim_errdetail(const char *code, const char *fmt,...)
{
	StringInfoData text;

	initStringInfo(&text);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, fmt);
		needed = appendStringInfoVA(&text, fmt, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&text, needed);
	}
	return errdetail_internal("%s: %s", code, text.data);
}

char *
esim_mask(const char *identifier)
{
	size_t		len = strlen(identifier);

	return psprintf("...%s", len > 4 ? identifier + len - 4 : identifier);
}

/* ------------------------------------------------------------------------
 * Epoch and identifiers of operations
 * ------------------------------------------------------------------------ */

void
esim_current_epoch(EsimEpoch *epoch)
{
	epoch->system_identifier = (int64) GetSystemIdentifier();
	/* writing is only possible outside recovery, where this cannot change */
	epoch->timeline = RecoveryInProgress() ? 0 : (int32) GetWALInsertionTimeLine();
	epoch->database = MyDatabaseId;
}

void
esim_uuid7(unsigned char uuid[16])
{
	static uint64 last = 0;
	struct timeval now;
	uint64		tick;

	/* milliseconds, and 12 bits of the microseconds below (RFC 9562, 6.2) */
	gettimeofday(&now, NULL);
	tick = (((uint64) now.tv_sec * 1000 + now.tv_usec / 1000) << 12) |
		((uint64) (now.tv_usec % 1000) * 4096 / 1000);
	if (tick <= last)
		tick = last + 1;
	last = tick;

	if (!pg_strong_random(uuid, 16))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	for (int i = 0; i < 6; i++)
		uuid[i] = (unsigned char) (tick >> (52 - 8 * i));
	uuid[6] = (unsigned char) (0x70 | ((tick >> 8) & 0x0f));
	uuid[7] = (unsigned char) (tick & 0xff);
	uuid[8] = (uuid[8] & 0x3f) | 0x80;
}
