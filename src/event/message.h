/*-------------------------------------------------------------------------
 *
 * message.h
 *	  What is sent to sinks and callback URLs, and where it may go: the parts
 *	  that know no SQL and nothing of PostgreSQL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_MESSAGE_H
#define ESIM_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sockaddr;

/* ------------------------------------------------------------------------
 * Where it may go (allow.c)
 * ------------------------------------------------------------------------ */

#define SINK_MAX_URL		2048
#define SINK_MAX_ORIGIN		300

typedef enum SinkVerdict
{
	SINK_ALLOWED,
	SINK_INVALID,				/* no URL that can be sent to */
	SINK_NOT_HTTPS,				/* http where only https is allowed */
	SINK_NOT_LISTED,			/* esim.sink_allow does not have the host */
	SINK_PRIVATE				/* the host is a private address or its name */
} SinkVerdict;

typedef struct SinkRoute
{
	char		origin[SINK_MAX_ORIGIN];	/* scheme://host:port */
	const char *target;			/* rest of the URL: path and query, may be "" */
	bool		plain_http;
	bool		only_private;	/* no other address may be connected to */
} SinkRoute;

/*
 * May a sink have this URL?  allow is the value of esim.sink_allow, "" or NULL
 * for none; allow_private that of esim.sink_allow_private.  route (may be
 * NULL) is filled when it may; reason (may be NULL) gets a sentence when not.
 */
extern SinkVerdict sink_check(const char *url, const char *allow, bool allow_private,
							  SinkRoute *route, char *reason, size_t size);

/* false: list is no value for esim.sink_allow, reason says why */
extern bool sink_allow_valid(const char *list, char *reason, size_t size);

/*
 * Is this one of the addresses that a request from outside must not make us
 * connect to: loopback, private, link-local, multicast, metadata, reserved; in
 * their IPv6 clothes too.  Everything that is not IPv4 or IPv6 is.
 */
extern bool sink_address_is_private(const struct sockaddr *address, size_t length);

/* ------------------------------------------------------------------------
 * Messages (cloudevent.c)
 * ------------------------------------------------------------------------ */

/* An operation that has completed.  Texts are UTF-8; NULL where there is none. */
typedef struct SinkEvent
{
	const char *id;				/* of the notification: the same at every try */
	const char *source;
	const char *operation;
	const char *kind;
	const char *result;			/* SUCCESS, FAILED, CANCELLED */
	const char *eid;
	const char *iccid;
	const char *error_code;
	const char *error_message;
	const char *completed_at;	/* RFC 3339, UTC */
	const char *correlator;
} SinkEvent;

/*
 * CloudEvents 1.0, structured mode, as CAMARA's ESimCloudEvent.  malloc'ed;
 * NULL: a text is not UTF-8, or no memory.
 */
extern char *sink_cloudevent(const SinkEvent *event);

/* application/x-www-form-urlencoded; malloc'ed, NULL: no memory */
extern char *sink_form(const SinkEvent *event);

/* CAMARA's HTTP status for an error code of an operation */
extern int	sink_error_status(const char *code);

/* seconds since 1970 of an RFC 3339 time; false: it is none */
extern bool sink_parse_time(const char *text, int64_t *seconds);

/* ------------------------------------------------------------------------
 * Credentials (signature.c)
 * ------------------------------------------------------------------------ */

#define SINK_MAX_TOKEN		4096
#define SINK_MAX_SECRET		64	/* Standard Webhooks: 24 to 64 bytes */
#define SINK_MIN_SECRET		24
#define SINK_SIGNATURE_SIZE	64

/* visible ASCII, 1 to SINK_MAX_TOKEN of it: what can stand in the header */
extern bool sink_token_valid(const char *token);

/*
 * A secret of Standard Webhooks, base64 with or without "whsec_" before it, of
 * 24 to 64 bytes, is written to key.  Returns its length, 0: it is none.
 */
extern size_t sink_secret(const char *text, unsigned char key[SINK_MAX_SECRET]);

/*
 * Standard Webhooks: "v1,<base64 of HMAC-SHA256>" over id, timestamp (seconds)
 * and body.  false: OpenSSL failed.
 */
extern bool sink_signature(const unsigned char *key, size_t key_length, const char *id,
						   int64_t timestamp, const char *body, size_t length,
						   char signature[SINK_SIGNATURE_SIZE]);

#endif							/* ESIM_MESSAGE_H */
