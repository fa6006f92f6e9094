/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  Differences between PostgreSQL versions.  README.md says which of them
 *	  are tested.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_COMPAT_H
#define ESIM_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "esim needs PostgreSQL 15 or newer"
#endif

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* get_database_name() */
#if PG_VERSION_NUM >= 190000
#include "utils/lsyscache.h"
#else
#include "commands/dbcommands.h"
#endif

#if PG_VERSION_NUM >= 180000
#define ESIM_MODULE_MAGIC PG_MODULE_MAGIC_EXT(.name = "esim", .version = ESIM_VERSION)
#else
#define ESIM_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/* stands before a declaration from 18 on */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* local transaction id of this backend */
#if PG_VERSION_NUM >= 170000
#define ESIM_MY_LXID (MyProc->vxid.lxid)
#else
#define ESIM_MY_LXID (MyProc->lxid)
#endif

/* a wait event set that lives as long as the process */
#if PG_VERSION_NUM >= 170000
#define ESIM_CREATE_WAIT_EVENT_SET(n) CreateWaitEventSet(NULL, n)
#else
#define ESIM_CREATE_WAIT_EVENT_SET(n) CreateWaitEventSet(TopMemoryContext, n)
#endif

/* the end of a number of index_insert() */
#if PG_VERSION_NUM >= 170000
#define ESIM_INDEX_INSERT_CLEANUP(index, info) index_insert_cleanup(index, info)
#else
#define ESIM_INDEX_INSERT_CLEANUP(index, info) ((void) 0)
#endif

/* an index scan that nobody counts */
#if PG_VERSION_NUM >= 190000
#define ESIM_INDEX_BEGINSCAN(heap, index, snapshot, nkeys) index_beginscan(heap, index, snapshot, NULL, nkeys, 0, 0)
#elif PG_VERSION_NUM >= 180000
#define ESIM_INDEX_BEGINSCAN(heap, index, snapshot, nkeys) index_beginscan(heap, index, snapshot, NULL, nkeys, 0)
#else
#define ESIM_INDEX_BEGINSCAN(heap, index, snapshot, nkeys) index_beginscan(heap, index, snapshot, nkeys, 0)
#endif

/* signals and their handlers */
#if PG_VERSION_NUM >= 190000
#define ESIM_SIG_IGN PG_SIG_IGN
#define ESIM_SIGNAL_ARGUMENTS postgres_signal_arg, pg_siginfo
#else
#define ESIM_SIG_IGN SIG_IGN
#define ESIM_SIGNAL_ARGUMENTS postgres_signal_arg
#endif

/* the hook that sees the size of a table while a statement is planned */
#if PG_VERSION_NUM >= 190000
#include "optimizer/pathnode.h"
#define ESIM_TABLE_HOOK build_simple_rel_hook
#define ESIM_TABLE_HOOK_TYPE build_simple_rel_hook_type
#define ESIM_TABLE_HOOK_PARAMETERS PlannerInfo *root, RelOptInfo *rel, RangeTblEntry *rte
#define ESIM_TABLE_HOOK_ARGUMENTS root, rel, rte
#else
#include "optimizer/plancat.h"
#define ESIM_TABLE_HOOK get_relation_info_hook
#define ESIM_TABLE_HOOK_TYPE get_relation_info_hook_type
#define ESIM_TABLE_HOOK_PARAMETERS PlannerInfo *root, Oid relid, bool inhparent, RelOptInfo *rel
#define ESIM_TABLE_HOOK_ARGUMENTS root, relid, inhparent, rel
#endif

/* from 19 on the name of a tranche is shared memory's business */
#if PG_VERSION_NUM >= 190000
#define ESIM_NEW_TRANCHE(name) LWLockNewTrancheId(name)
#define ESIM_REGISTER_TRANCHE(tranche, name) ((void) 0)
#else
#define ESIM_NEW_TRANCHE(name) LWLockNewTrancheId()
#define ESIM_REGISTER_TRANCHE(tranche, name) LWLockRegisterTranche(tranche, name)
#endif

#endif							/* ESIM_COMPAT_H */
