/*-------------------------------------------------------------------------
 *
 * http_internal.h
 *	  What the files of src/http share with each other and with nobody else.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_HTTP_INTERNAL_H
#define ESIM_HTTP_INTERNAL_H

#include <stdint.h>
#include <time.h>
#include <sys/queue.h>
#include <curl/curl.h>

#include "http.h"

/* What is taken from a peer in headers, per try, 1xx answers included. */
#define HTTP_MAX_HEADER_BYTES	65536
#define HTTP_MAX_HEADER_LINES	100

/*
 * Requests of one endpoint that may be on their way to a connection at the
 * same time.  Bounds the resolver's threads, and keeps a peer that swallows
 * connection attempts from taking all sockets.
 */
#define HTTP_MAX_CONNECTING		16

/* kept connections that a request finds closed before it gives up */
#define HTTP_MAX_STALE			16

/* handles that an endpoint keeps while nothing is under way */
#define HTTP_IDLE_HANDLES		8

/*
 * A kept connection idle for longer is not used: peers close theirs after 5 s
 * and more, and an acting request that meets the close is lost.
 */
#define HTTP_IDLE_S_ASK			60
#define HTTP_IDLE_S_ACT			4

/* A header line with a credential; immutable, counted by reference. */
typedef struct HttpCredential
{
	int			refs;
	size_t		length;
	struct curl_slist header;	/* its next is the end of all header lists */
	char		line[];
} HttpCredential;

typedef struct HttpTokenSource HttpTokenSource;
typedef struct HttpSigner HttpSigner;
typedef struct HttpHandle HttpHandle;

TAILQ_HEAD(HttpRequestList, HttpRequest);

struct HttpEndpoint
{
	int			refs;

	char	   *base;			/* without trailing slash */
	char	   *origin;			/* scheme://host[:port]/ */
	size_t		target;			/* where the path begins in base */
	char	   *host;
	char	   *port;
	long		timeout_ms;
	long		connect_timeout_ms;
	size_t		max_answer;
	bool		verify;
	bool		allow_http;
	char	   *ca_file;
	char	   *client_cert;
	char	   *client_key;
	bool		(*address_allowed) (const struct sockaddr *address,
									size_t length, void *arg);
	void	   *address_arg;

	HttpCredential *credential; /* goes with each request; NULL: none, or no
								 * token yet */
	HttpTokenSource *tokens;	/* NULL: the credential is fixed */

	/* the loop's part */
	HttpLoop   *loop;			/* set while requests wait or run */
	int			in_flight;		/* waiting and running */
	int			connecting;
	struct HttpRequestList waiting;
	bool		listed;
	TAILQ_ENTRY(HttpEndpoint) link; /* in the loop's list, while listed */

	HttpHandle *spare;
	int			nspare;
};

/* An easy handle with all of its endpoint's options set. */
struct HttpHandle
{
	CURL	   *easy;
	HttpRequest *request;		/* NULL: spare */
	HttpLoop   *loop;			/* whose socket callbacks are set */
	bool		asks_only;
	HttpHandle *next;
	char		error[CURL_ERROR_SIZE];
};

typedef enum HttpRequestState
{
	HTTP_REQUEST_NEW,
	HTTP_REQUEST_WAITING,
	HTTP_REQUEST_RUNNING,
	HTTP_REQUEST_DONE
} HttpRequestState;

struct HttpRequest
{
	HttpEndpoint *endpoint;
	HttpEndpoint *token_for;	/* a token or discovery request of this
								 * endpoint */
	void	   *owner;
	HttpLoop   *loop;
	HttpRequestState state;
	TAILQ_ENTRY(HttpRequest) link;	/* in the list of its state */

	size_t		size;			/* of this block */
	char	   *room;			/* unused part of this block, for headers */
	size_t		room_left;
	const char *method;
	const char *url;
	const char *body;			/* NULL: none */
	size_t		length;
	struct curl_slist *headers;
	struct curl_slist **headers_end;
	void	   *blocks;			/* headers that found no room */
	bool		asks_only;
	const char *refused;		/* why it cannot be sent at all, or NULL */
	int			stale;			/* kept connections found unfit for use */

	/* this try */
	HttpHandle *handle;
	HttpCredential *credential;
	bool		own_credential; /* not the endpoint's */
	bool		connecting;		/* counted in the endpoint's connecting */
	bool		begun;			/* a connection was there to write to */
	bool		stale_now;		/* it was not fit for use, nothing was written */
	bool		repeat_refused;
	bool		address_refused;
	bool		too_large;
	bool		bad_headers;
	bool		in_body;
	const char *why;			/* for bad_headers */
	size_t		header_bytes;
	int			header_lines;
	size_t		body_size;
	size_t		content_length;
	time_t		retry_after_date;
	time_t		peer_date;
	int64_t		started_us;		/* of the first try */

	HttpAnswer	answer;
};

/* endpoint.c */
extern HttpEndpoint *http_endpoint_new(const HttpEndpointOptions *options,
									   const char *what, const char *url,
									   bool query_allowed,
									   char *error, size_t error_size);
extern HttpHandle *http_endpoint_take_handle(HttpEndpoint *endpoint);
extern void http_endpoint_give_handle(HttpEndpoint *endpoint,
									  HttpHandle *handle);
extern HttpCredential *http_credential_create(const char *scheme,
											  const char *value);
extern HttpCredential *http_credential_basic(const char *user,
											 const char *password);
extern void http_credential_release(HttpCredential *credential);
extern char *http_load_pem(const char *option, const char *value, const char *last,
						   char *error, size_t error_size);
extern void http_wipe_free(void *pointer, size_t size);
extern void http_wipe_free_string(char *text);
extern struct curl_slist http_last_header;

/* request.c */
extern size_t http_on_header(char *data, size_t size, size_t n, void *arg);
extern size_t http_on_body(char *data, size_t size, size_t n, void *arg);
extern int	http_on_connected(void *arg, char *remote_ip, char *local_ip,
							  int remote_port, int local_port);
extern bool http_request_prepare(HttpRequest *request, HttpHandle *handle);
extern void http_request_judge(HttpRequest *request, CURLcode result);
extern void http_request_not_sent(HttpRequest *request, const char *reason);
extern void http_request_connected(HttpRequest *request);
extern void http_request_destroy(HttpRequest *request);

/* loop.c */
extern int64_t http_now_us(void);
extern int	http_loop_find_socket(HttpLoop *loop, const char *remote_ip,
								  const char *local_ip, int remote_port,
								  int local_port);

/* token.c */
typedef enum HttpTokenState
{
	HTTP_TOKEN_READY,
	HTTP_TOKEN_AWAITED,
	HTTP_TOKEN_FAILED
} HttpTokenState;

extern bool http_tokens_create(HttpEndpoint *endpoint,
							   const HttpEndpointOptions *options,
							   char *error, size_t error_size);
extern void http_tokens_free(HttpTokenSource *tokens);
extern HttpTokenState http_tokens_state(HttpLoop *loop,
										HttpEndpoint *endpoint);
extern void http_tokens_refuse(HttpEndpoint *endpoint, HttpRequest *request);
extern void http_tokens_answered(HttpEndpoint *endpoint,
								 HttpRequest *token_request);
extern void http_tokens_forget_request(HttpEndpoint *endpoint);
extern void http_tokens_accepted(HttpEndpoint *endpoint);
extern bool http_tokens_rejected(HttpEndpoint *endpoint,
								 HttpCredential *credential);

/* discovery.c */
extern HttpRequest *http_discovery_request(HttpEndpoint *endpoint);
extern char *http_discovery_token_url(const HttpAnswer *answer, char *error,
									  size_t error_size);

/* jwt.c */
extern HttpSigner *http_signer_create(const char *client_id, const char *private_key,
									  const char *key_id, char *error, size_t error_size);
extern void http_signer_free(HttpSigner *signer);
extern char *http_signer_assertion(const HttpSigner *signer, const char *audience,
								   char *error, size_t error_size);

#endif							/* ESIM_HTTP_INTERNAL_H */
