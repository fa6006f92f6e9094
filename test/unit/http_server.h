/*-------------------------------------------------------------------------
 *
 * http_server.h
 *	  A server of bad manners for test_http.c, in threads of the same process.
 *
 *-------------------------------------------------------------------------
 */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

typedef struct ServerSettings
{
	/* the token endpoint */
	int			generation;		/* number in the token that is valid */
	int			token_status;	/* 200: gives a token */
	int			token_delay_ms;
	const char *token_body;		/* instead of a token, NULL: none */
	const char *expires_in;		/* as JSON text, NULL: absent */
	int			always_401;
	int			slow_ms;		/* of /slow */

	/* the OpenID provider's configuration, under /.well-known/ */
	int			config_status;
	const char *config_headers;
	const char *config_body;

	/* what was seen */
	int			token_requests;
	int			config_requests;
	int			connections;	/* accepted so far */
	int			open_connections;
	int			max_connections;
	long		bytes;			/* of requests, after TLS */
	int			requests;
	char		last_token_request[4096];
	char		last_request[65536];
} ServerSettings;

extern ServerSettings server;

/* cert NULL: no TLS; client_ca NULL: no client certificate wanted */
extern int	server_start(const char *cert, const char *key,
						 const char *client_ca);

/* how many times a request with "id=<id>" in its target was received */
extern int	server_count(int id);

#endif							/* HTTP_SERVER_H */
