/*-------------------------------------------------------------------------
 *
 * audit.h
 *	  Rows of esim_audit: who asked for what, and what came of it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_AUDIT_H
#define ESIM_AUDIT_H

#include "esim.h"

#include "utils/uuid.h"

#include "identifier/identifier.h"

/* outcomes of operations that are asked for; else the code of the error */
#define ESIM_AUDIT_ACCEPTED "ACCEPTED"
#define ESIM_AUDIT_REPEATED "REPEATED"	/* an idempotency key's operation */

typedef struct EsimAuditEntry
{
	const Eid  *eid;			/* NULL: none; the same below */
	Iccid		iccid;			/* ICCID_INVALID: none */
	const pg_uuid_t *operation;
	const char *outcome;		/* no secrets, no text of others unbounded */
} EsimAuditEntry;

/*
 * Write rows, in the transaction of what they tell of.  caller: the role whose
 * rights counted.  Needs SPI_connect() and the extension owner's rights.
 */
extern void esim_audit(Oid caller, const char *function, const EsimAuditEntry *entries, int n);

/* a row about an operation, or about none */
extern void esim_audit_one(Oid caller, const char *function, const pg_uuid_t *operation,
						   const char *outcome);

#endif							/* ESIM_AUDIT_H */
