/*-------------------------------------------------------------------------
 *
 * event.h
 *	  The outbox: completed operations are announced to their sinks and
 *	  callback URLs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_EVENT_H
#define ESIM_EVENT_H

#include "esim.h"

#include "datatype/timestamp.h"
#include "utils/guc.h"
#include "utils/jsonb.h"

/* ----- at enqueue (sink.c) ----- */

/* Raises ES400 or ES403 if a sink or callback URL may not be this one. */
extern void esim_check_sink(const char *name, const char *url);

/* Raises ES400 if it is no credential of a sink.  The value is an object. */
extern void esim_check_sink_credential(Jsonb *credential);

/* check hook of esim.sink_allow */
extern bool esim_check_sink_allow(char **newval, void **extra, GucSource source);

/* ----- in the transaction that completes operations (outbox.c) ----- */

/*
 * Column of a statement that completes operations (RETURNING): the operation
 * if it is to be announced, else NULL.  o is its name there.
 */
#define ESIM_ANNOUNCED(o) \
	"CASE WHEN " o ".sink IS NOT NULL OR " o ".callback_url IS NOT NULL THEN " o ".id END"

/*
 * Writes the notifications of the operations in the column (from 1) of n rows.
 * Needs SPI_connect(); nothing is executed where nothing is to be announced.
 * The table is not freed, but SPI_tuptable is another one afterwards.
 */
extern void esim_outbox_write(SPITupleTable *table, uint64 n, int column);

/* ----- in the worker's loop (deliver.c) ----- */

/* descriptor to wait for: of this loop's sockets and of other's */
extern int	deliver_start(int other);
extern void deliver_finish(void);

/* settings have been read again */
extern void deliver_reload(void);

/* there may be something new in the outbox */
extern void deliver_look(void);

/* shard has been taken over, or is given back */
extern void deliver_shard(int shard, bool held);

/*
 * Takes in what has been answered; writes results, fetches what is due and
 * sends it where there is something of it to do, in a transaction of its own.
 */
extern void deliver_turn(TimestampTz now);

/* milliseconds until deliver_turn() must be called again; -1: never */
extern long deliver_timeout(TimestampTz now);

/* within a transaction: is anything left to be delivered from the shards held? */
extern bool deliver_anything_left(void);

#endif							/* ESIM_EVENT_H */
