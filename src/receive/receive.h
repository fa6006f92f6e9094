/*-------------------------------------------------------------------------
 *
 * receive.h
 *	  Events from RSPs, on their way from esim_receive() to the rows that they
 *	  are about.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_RECEIVE_H
#define ESIM_RECEIVE_H

#include "esim.h"

#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "server/server.h"

/* An event's text may be so long. */
#define RECEIVE_MAX_BODY 65536

typedef enum ReceiveOutcome
{
	RECEIVE_APPLIED,
	RECEIVE_ASKED,
	RECEIVE_DUPLICATE,
	RECEIVE_IGNORED,
	RECEIVE_UNKNOWN
} ReceiveOutcome;

typedef struct Received
{
	EsimServer *server;
	Oid			caller;
	Jsonb	   *event;			/* an object */
	char	   *text;			/* the same as JSON, UTF-8 */
	size_t		length;
	Jsonb	   *headers;		/* an object, NULL: none */
	Jsonb	   *query_object;	/* NULL: none */
	char	   *query_text;		/* as in a URL, NULL: none */

	/* what it says that it is about, for esim_audit; NULL: nothing */
	const char *eid;
	const char *iccid;
} Received;

/*
 * The protocols.  Each reads the event, raises ES400 if it is none, has it
 * kept by receive_keep(), and says what became of it.
 */
extern ReceiveOutcome receive_camara(Received *received);
extern ReceiveOutcome receive_es2plus(Received *received);
extern ReceiveOutcome receive_twilio(Received *received);

/*
 * Keeps the event; extra is merged into its body.  key: what makes a
 * duplicate, NULL: nothing.  false: it is one, and its first copy was not
 * unknown then.
 */
extern bool receive_keep(const char *kind, const char *key, Jsonb *extra);

/* ES400: detail is a sentence */
pg_noreturn extern void receive_refuse(const char *detail);

/* a member of an object as text, in the server's encoding; NULL: none such */
extern char *receive_member(Jsonb *object, const char *path);

/* a uuid in its canonical form? */
extern bool receive_uuid(const char *text, pg_uuid_t *id);

/* Waits a little until no request of these operations is under way. */
extern void receive_settle(Datum *operations, int n);

/*
 * The worker looks at these operations now, if they wait for their next turn
 * and something was sent for them.  Returns how many are, or are just being,
 * asked about.
 */
extern int	receive_hurry(Datum *operations, int n);

/*
 * Has the eUICC listed at the server; false: it is no device of ours.  One
 * that waits for its turn already is enough.
 */
extern bool receive_refresh(Received *received, const char *eid, const char *server);

#endif							/* ESIM_RECEIVE_H */
