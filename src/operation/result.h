/*-------------------------------------------------------------------------
 *
 * result.h
 *	  Rows (ordinal, operation, sqlstate, code, message) of bulk calls.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_RESULT_H
#define ESIM_RESULT_H

#include "nodes/execnodes.h"

#include "operation/operation.h"

/* failure: NULL where the operation id was made */
extern void esim_put_result(ReturnSetInfo *rsinfo, int ordinal, const pg_uuid_t *id,
							const EsimFailure *failure);

#endif							/* ESIM_RESULT_H */
