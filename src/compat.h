/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  Differences between PostgreSQL versions.  15 is tested; what is said
 *	  of later ones is from their headers and untried.
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

#if PG_VERSION_NUM >= 180000
#define ESIM_MODULE_MAGIC PG_MODULE_MAGIC_EXT(.name = "esim", .version = ESIM_VERSION)
#else
#define ESIM_MODULE_MAGIC PG_MODULE_MAGIC
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

#endif							/* ESIM_COMPAT_H */
