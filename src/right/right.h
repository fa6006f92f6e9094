/*-------------------------------------------------------------------------
 *
 * right.h
 *	  Whose rows a session may see.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_RIGHT_H
#define ESIM_RIGHT_H

#include "esim.h"

#include "nodes/pg_list.h"

/* ----- role.c ----- */

/* Roles whose rows the role sees: itself, and those it has the rights of. */
extern List *esim_roles_of(Oid role);

/* ----- planner.c ----- */

/* Puts the hooks in place that keep rows of others out of plans. */
extern void esim_planner_install(void);

#endif							/* ESIM_RIGHT_H */
