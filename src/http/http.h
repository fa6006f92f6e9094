/*-------------------------------------------------------------------------
 *
 * http.h
 *	  HTTP requests over one libcurl multi handle: TLS, tokens, limits.
 *
 * Knows nothing of eSIM and nothing of SQL.  No function here raises a
 * PostgreSQL error and none uses palloc, so that nothing can jump through a
 * libcurl frame; memory is malloc'ed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_HTTP_H
#define ESIM_HTTP_H

#include <stdbool.h>
#include <stddef.h>

struct sockaddr;

typedef enum HttpAuthMethod
{
	HTTP_AUTH_NONE,
	HTTP_AUTH_BEARER,			/* a fixed token */
	HTTP_AUTH_BASIC,			/* user name and password */
	HTTP_AUTH_CLIENT_SECRET_BASIC,	/* OAuth 2.0 client credentials, RFC 6749
									 * 2.3.1 */
	HTTP_AUTH_CLIENT_SECRET_POST,	/* the same, secret in the body */
	HTTP_AUTH_PRIVATE_KEY_JWT	/* RFC 7523 */
} HttpAuthMethod;

/*
 * Where and how requests are sent.  Made by http_endpoint_create() with the
 * values copied, counted by reference: a request holds one until it is freed,
 * so that options may change while requests are under way.
 */
typedef struct HttpEndpoint HttpEndpoint;

typedef struct HttpEndpointOptions
{
	const char *base_url;		/* scheme, host, port, path; no trailing slash
								 * needed */
	long		timeout_ms;		/* whole request */
	long		connect_timeout_ms;
	size_t		max_answer;		/* bytes of body; more ends the request */
	bool		verify;			/* peer and host name */
	bool		allow_http;
	const char *ca_file;		/* path or PEM text, NULL: the system's */
	const char *client_cert;	/* path or PEM text, NULL: none */
	const char *client_key;
	HttpAuthMethod auth;
	const char *token;
	const char *username;
	const char *password;
	const char *client_id;
	const char *client_secret;
	const char *private_key;	/* path or PEM text: RSA of 2048 bits or more,
								 * or EC P-256 */
	const char *key_id;			/* kid of assertions, NULL: none */
	const char *token_url;		/* absolute, or a path at base_url's server */
	const char *openid_config_url;	/* where the token endpoint is told, if
									 * there is no token_url */
	const char *scope;
	const char *audience;		/* parameter of token requests; with
								 * private_key_jwt aud of the assertion
								 * instead of the token endpoint's URL */

	/*
	 * Asked for each address that a connection is about to be made to, after
	 * the name was resolved; false: there is none made.  NULL: all are fine.
	 */
	bool		(*address_allowed) (const struct sockaddr *address,
									size_t length, void *arg);
	void	   *address_arg;
} HttpEndpointOptions;

/* What became of a request; the difference that matters is whether the peer
 * can have acted on it. */
typedef enum HttpOutcome
{
	HTTP_ANSWERED,				/* status and body are there, whole */
	HTTP_NOT_SENT,				/* certain: the peer never had the request */
	HTTP_LOST,					/* sent, but no whole answer came: effect
								 * unknown */
	HTTP_BAD_ANSWER				/* status known, body too large or broken off:
								 * effect unknown unless the status tells */
} HttpOutcome;

typedef struct HttpAnswer
{
	HttpOutcome outcome;
	int			status;			/* 0 when no status line came */
	char	   *body;			/* NUL terminated behind length bytes; never
								 * NULL */
	size_t		length;
	char	   *content_type;	/* as sent, NULL if absent */
	char	   *location;		/* NULL if absent */
	long		retry_after_ms; /* -1 if absent; date form understood */
	long		date_skew_ms;	/* peer's Date minus ours, 0 if absent */
	int			tries;			/* 2 when a token was renewed after a 401 */
	int			duration_ms;
	bool		auth_failed;	/* no token could be had; with HTTP_NOT_SENT */
	int			auth_status;	/* with auth_failed: the token endpoint's
								 * status, 0 if it gave no whole answer */
	bool		tls_failed;		/* no TLS came about; with HTTP_NOT_SENT */
	const char *tls_reason;		/* with tls_failed: why, in a few words that
								 * tell whose fault it is; static */
	bool		address_refused;	/* address_allowed() said no; with
									 * HTTP_NOT_SENT */
	char		error[256];		/* one line, no secrets; empty if all went
								 * well */
} HttpAnswer;

typedef struct HttpRequest HttpRequest;
typedef struct HttpLoop HttpLoop;

/* Returns NULL and writes the reason into error (of size error_size). */
extern HttpEndpoint *http_endpoint_create(const HttpEndpointOptions *options,
										  char *error, size_t error_size);
extern void http_endpoint_retain(HttpEndpoint *endpoint);
extern void http_endpoint_release(HttpEndpoint *endpoint);

/*
 * A request to endpoint's base URL with path appended (path begins with '/' or
 * '?', or is empty, and is already escaped).  body may be NULL; it is copied.
 * Redirects are never followed, the answer's encoding is never compressed.  A
 * request is never repeated by the library once a byte of it has left, unless
 * it only asks: such a loss is HTTP_LOST.  What can be had with the arguments
 * but not sent (a blank in the path) ends HTTP_NOT_SENT.  NULL: no memory.
 */
extern HttpRequest *http_request_create(HttpEndpoint *endpoint,
										const char *method, const char *path,
										const char *content_type,
										const char *body, size_t length,
										void *owner);

/*
 * The request changes nothing at the peer: it may be repeated when a kept
 * connection turns out to be dead, and may use older connections.
 */
extern void http_request_asks_only(HttpRequest *request);

/*
 * false: the name is no header name, the value has a control character, or no
 * memory; the header is not added
 */
extern bool http_request_header(HttpRequest *request, const char *name,
								const char *value);

/*
 * "Authorization: Bearer <token>" for this request alone, at an endpoint
 * without credentials; wiped with the request.  false: the token has a
 * character that cannot stand there, or no memory.
 */
extern bool http_request_bearer(HttpRequest *request, const char *token);
extern void *http_request_owner(const HttpRequest *request);
extern const char *http_request_url(const HttpRequest *request);

/* what became of it; to be read when http_loop_next_done() gave the request */
extern const HttpAnswer *http_request_answer(const HttpRequest *request);

/* Also ends a request that is under way; its loop forgets it. */
extern void http_request_free(HttpRequest *request);

/*
 * The loop.  max_connections bounds the sockets.  http_loop_fd() is an epoll
 * descriptor that becomes readable when a socket of curl's does: wait on it
 * together with a latch.
 */
extern HttpLoop *http_loop_create(int max_connections, char *error,
								  size_t error_size);
extern void http_loop_destroy(HttpLoop *loop);
extern int	http_loop_fd(const HttpLoop *loop);

/* milliseconds until http_loop_run() should be called again even if the
 * descriptor stays quiet; -1: never */
extern long http_loop_timeout(HttpLoop *loop);

/* drives what can be driven, never blocks */
extern void http_loop_run(HttpLoop *loop);

/* hands a request over; it is finished later, never within this call */
extern void http_loop_submit(HttpLoop *loop, HttpRequest *request);

/* next finished request, NULL when there is none; the caller frees it */
extern HttpRequest *http_loop_next_done(HttpLoop *loop);

/* requests handed over and not finished yet, the waiting ones included */
extern int	http_loop_in_flight(const HttpLoop *loop);

#endif							/* ESIM_HTTP_H */
