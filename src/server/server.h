/*-------------------------------------------------------------------------
 *
 * server.h
 *	  RSP servers: options of foreign servers and user mappings.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_SERVER_H
#define ESIM_SERVER_H

#include "postgres.h"

#include "rsp/rsp.h"

/*
 * One server with the credentials of one owner.  Lives in its own memory
 * context until released; cached entries are dropped when the server or a
 * user mapping changes, those in use when their last user releases them.
 */
typedef struct EsimServer
{
	RspServer	rsp;			/* what the driver sees; must be first */
	Oid			serverid;
	Oid			owner;			/* whose credentials these are */
	int			max_in_flight;
	double		rate_limit;		/* requests per second, 0: none */
	int64		default_expiry_ms;	/* eUICC operations */
	int64		default_network_expiry_ms;	/* operations in the network */
	const char *redownload;		/* NEVER, SAME_EID, ANY */
	int			refcount;		/* private to server.c */
	bool		stale;
	MemoryContext context;
} EsimServer;

/*
 * The server of that name with owner's user mapping, else PUBLIC's, else no
 * credentials.  with_endpoint: also reads keys and makes the HttpEndpoint.
 * Needs a transaction (catalog reads).  Returns NULL and sets *reason (in the
 * current memory context) if there is no such server, it is none of esim_rsp,
 * or its options do not suffice.  Release what you get.
 */
extern EsimServer *esim_server_get(const char *name, Oid owner,
								   bool with_endpoint, char **reason);
extern void esim_server_release(EsimServer *server);

/* In this process no server is locked: a worker waits for nothing that users
 * can hold. */
extern void esim_server_never_lock(void);

/* Names of all servers of the foreign data wrapper esim_rsp (List of char *). */
extern List *esim_server_names(void);

/* Bumped whenever a server or user mapping may have changed; call in a loop
 * after AcceptInvalidationMessages(). */
extern uint64 esim_server_generation(void);

#endif							/* ESIM_SERVER_H */
