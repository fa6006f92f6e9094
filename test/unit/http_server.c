/*-------------------------------------------------------------------------
 *
 * http_server.c
 *	  A server of bad manners for test_http.c: the path of a request says how
 *	  it is answered.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include <openssl/ssl.h>

#include "http_server.h"

#define MAX_ID	20000

ServerSettings server = {.token_status = 200, .config_status = 200,
.config_headers = "", .config_body = "{}"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int	counts[MAX_ID];

typedef struct Listener
{
	int			fd;
	SSL_CTX    *tls;
} Listener;

typedef struct Peer
{
	int			fd;
	SSL		   *ssl;
	SSL_CTX    *tls;
	int			served;
	char	   *buffer;
	size_t		size;
	size_t		length;
} Peer;

static bool
put(Peer *peer, const char *data, size_t length)
{
	while (length > 0)
	{
		ssize_t		n = peer->ssl != NULL ? SSL_write(peer->ssl, data, (int) length) :
			send(peer->fd, data, length, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		data += n;
		length -= n;
	}
	return true;
}

static bool
say(Peer *peer, const char *text)
{
	return put(peer, text, strlen(text));
}

static bool
answer(Peer *peer, int status, const char *headers, const char *body)
{
	char		head[1024];

	snprintf(head, sizeof(head), "HTTP/1.1 %d Status\r\nContent-Type: application/json\r\n"
			 "Content-Length: %zu\r\n%s\r\n", status, strlen(body), headers);
	if (strlen(head) + strlen(body) >= sizeof(head))
		return say(peer, head) && say(peer, body);
	strcat(head, body);
	return say(peer, head);
}

static ssize_t
get(Peer *peer)
{
	ssize_t		n;

	if (peer->size - peer->length < 65536)
	{
		peer->size = peer->size * 2 + 131072;
		peer->buffer = realloc(peer->buffer, peer->size);
	}
	n = peer->ssl != NULL ?
		SSL_read(peer->ssl, peer->buffer + peer->length, 65000) :
		recv(peer->fd, peer->buffer + peer->length, 65000, 0);
	if (n > 0)
	{
		peer->length += n;
		pthread_mutex_lock(&lock);
		server.bytes += n;
		pthread_mutex_unlock(&lock);
	}
	return n;
}

static void
reset(Peer *peer)
{
	struct linger linger = {1, 0};

	setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

static bool
begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool
token(Peer *peer, const char *request, size_t length)
{
	char		body[256];
	char		expires[64] = "";

	pthread_mutex_lock(&lock);
	server.token_requests++;
	snprintf(server.last_token_request, sizeof(server.last_token_request), "%.*s",
			 (int) length, request);
	pthread_mutex_unlock(&lock);
	if (server.token_delay_ms > 0)
		usleep(server.token_delay_ms * 1000);
	if (server.token_body != NULL)
		return answer(peer, server.token_status, "", server.token_body);
	if (server.token_status != 200)
		return answer(peer, server.token_status, "",
					  "{\"error\":\"invalid_client\",\"error_description\":\"hunter2\"}");
	if (server.expires_in != NULL)
		snprintf(expires, sizeof(expires), ",\"expires_in\":%s", server.expires_in);
	snprintf(body, sizeof(body),
			 "{\"access_token\":\"token-%d\",\"token_type\":\"bearer\"%s}",
			 server.generation, expires);
	return answer(peer, 200, "", body);
}

/* one request, complete; false: the connection is over */
static bool
serve(Peer *peer, const char *request, size_t length)
{
	const char *path = strchr(request, ' ') + 1;
	const char *id = strstr(path, "id=");
	const char *line_end = strchr(path, '\n');
	int			i;

	pthread_mutex_lock(&lock);
	server.requests++;
	if (id != NULL && id < line_end && atoi(id + 3) < MAX_ID)
		counts[atoi(id + 3)]++;
	snprintf(server.last_request, sizeof(server.last_request), "%.*s",
			 (int) length, request);
	pthread_mutex_unlock(&lock);
	peer->served++;

	if (begins(path, "/token"))
		return token(peer, request, length);
	if (begins(path, "/.well-known/"))
	{
		pthread_mutex_lock(&lock);
		server.config_requests++;
		pthread_mutex_unlock(&lock);
		return answer(peer, server.config_status, server.config_headers, server.config_body);
	}
	if (begins(path, "/api"))
	{
		char		wanted[64];

		snprintf(wanted, sizeof(wanted), "\r\nAuthorization: Bearer token-%d\r\n",
				 server.generation);
		if (strstr(request, wanted) == NULL || server.always_401)
			return answer(peer, 401, "", "{\"code\":\"UNAUTHENTICATED\"}");
		return answer(peer, 200, "", "{\"ok\":true}");
	}
	if (begins(path, "/second-dies"))
	{
		if (peer->served == 1)
			return answer(peer, 200, "", "{}");
		return false;
	}
	if (begins(path, "/second-reset"))
	{
		if (peer->served == 1)
			return answer(peer, 200, "", "{}");
		reset(peer);
		return false;
	}
	if (begins(path, "/idle-close"))
	{
		answer(peer, 200, "", "{}");
		return false;
	}
	if (begins(path, "/close"))
		return false;
	if (begins(path, "/reset"))
	{
		reset(peer);
		return false;
	}
	if (begins(path, "/silent"))
	{
		get(peer);
		return false;
	}
	if (begins(path, "/truncated"))
	{
		say(peer, "HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\n{\"a\":");
		return false;
	}
	if (begins(path, "/half-header"))
	{
		say(peer, "HTTP/1.1 200 OK\r\nContent-Le");
		return false;
	}
	if (begins(path, "/chunk-cut"))
	{
		say(peer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"a\":");
		return false;
	}
	if (begins(path, "/oversized-chunked"))
	{
		say(peer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
		while (say(peer, "a\r\n0123456789\r\n"))
			;
		return false;
	}
	if (begins(path, "/oversized"))
	{
		say(peer, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n");
		while (say(peer, "0123456789"))
			;
		return false;
	}
	if (begins(path, "/endless-headers"))
	{
		say(peer, "HTTP/1.1 200 OK\r\n");
		for (i = 0; say(peer, "X-More: of the same\r\n") && i < 1000000; i++)
			;
		return false;
	}
	if (begins(path, "/huge-header"))
	{
		say(peer, "HTTP/1.1 200 OK\r\nX-Huge: ");
		for (i = 0; say(peer, "0123456789") && i < 1000000; i++)
			;
		return false;
	}
	if (begins(path, "/1xx"))
	{
		for (i = 0; say(peer, "HTTP/1.1 100 Continue\r\n\r\n") && i < 1000000; i++)
			;
		return false;
	}
	if (begins(path, "/two-1xx"))
	{
		say(peer, "HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
		return answer(peer, 200, "", "{\"a\":1}");
	}
	if (begins(path, "/nul-header"))
	{
		static const char text[] =
		"HTTP/1.1 200 OK\r\nX-Nul: a\0b\r\nContent-Length: 2\r\n\r\n{}";

		return put(peer, text, sizeof(text) - 1);
	}
	if (begins(path, "/nul-body"))
		return put(peer, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na\0b", 41);
	if (begins(path, "/drip"))
	{
		say(peer, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
		while (say(peer, "x"))
			usleep(50000);
		return false;
	}
	if (begins(path, "/garbage"))
	{
		say(peer, "SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n");
		return false;
	}
	if (begins(path, "/status-garbage"))
	{
		say(peer, "HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\n{}");
		return false;
	}
	if (begins(path, "/two-status"))
		return say(peer, "HTTP/1.1 500 No\r\nHTTP/1.1 202 Yes\r\nContent-Length: 2\r\n\r\n{}");
	if (begins(path, "/101"))
		return say(peer, "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
	if (begins(path, "/redirect"))
		return answer(peer, 307, "Location: /ok?id=999\r\n", "{}");
	if (begins(path, "/retry-seconds"))
		return answer(peer, 429, "retry-after:  7 \r\n", "{}");
	if (begins(path, "/retry-huge"))
		return answer(peer, 429, "Retry-After: 99999999999999999999999\r\n", "{}");
	if (begins(path, "/retry-date"))
		return answer(peer, 503, "Date: Sun, 06 Nov 2044 08:49:37 GMT\r\n"
					  "Retry-After: Sun, 06 Nov 2044 08:50:07 GMT\r\n", "{}");
	if (begins(path, "/glued"))
	{
		say(peer, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{1}"
			"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{2}");
		return true;
	}
	if (begins(path, "/later-junk"))
	{
		answer(peer, 200, "", "{1}");
		usleep(50000);
		return answer(peer, 200, "", "{2}");
	}
	if (begins(path, "/gzip-te"))
		return say(peer, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\037\213xx");
	if (begins(path, "/no-body"))
		return say(peer, "HTTP/1.1 204 No Content\r\n\r\n");
	if (begins(path, "/slow"))
	{
		usleep(server.slow_ms * 1000);
		return answer(peer, 200, "", "{\"a\":1}");
	}
	if (begins(path, "/big"))
	{
		char	   *body = malloc(300001);

		memset(body, 'x', 300000);
		body[300000] = '\0';
		say(peer, "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n");
		say(peer, body);
		free(body);
		return true;
	}
	return answer(peer, 200, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "{\"a\":1}");
}

static void *
talk(void *arg)
{
	Peer	   *peer = arg;
	bool		more = true;
	int			one = 1;
	sigset_t	pipe;

	/* the library under test has to do without SIGPIPE's being ignored */
	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe, NULL);
	setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (peer->tls != NULL)
	{
		peer->ssl = SSL_new(peer->tls);
		SSL_set_fd(peer->ssl, peer->fd);
		if (SSL_accept(peer->ssl) != 1)
		{
			/* lets the alert arrive: no reset for what is not read */
			char		rest[1000];

			more = false;
			shutdown(peer->fd, SHUT_WR);
			while (recv(peer->fd, rest, sizeof(rest), 0) > 0)
				;
		}
	}
	peer->size = 131072;
	peer->buffer = malloc(peer->size + 1);
	while (more)
	{
		char	   *end;
		const char *length_header;
		size_t		length;

		peer->buffer[peer->length] = '\0';
		while ((end = memmem(peer->buffer, peer->length, "\r\n\r\n", 4)) == NULL)
		{
			if (get(peer) <= 0)
				goto out;
			peer->buffer[peer->length] = '\0';
		}
		length = end + 4 - peer->buffer;
		length_header = strcasestr(peer->buffer, "\r\nContent-Length:");
		if (length_header != NULL && length_header < end)
			length += atol(length_header + 17);
		while (peer->length < length)
		{
			if (get(peer) <= 0)
				goto out;
		}
		peer->buffer[peer->length] = '\0';
		more = serve(peer, peer->buffer, length);
		memmove(peer->buffer, peer->buffer + length, peer->length - length);
		peer->length -= length;
	}
out:
	if (peer->ssl != NULL)
	{
		SSL_shutdown(peer->ssl);
		SSL_free(peer->ssl);
	}
	close(peer->fd);
	free(peer->buffer);
	free(peer);
	pthread_mutex_lock(&lock);
	server.open_connections--;
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void *
accept_all(void *arg)
{
	Listener   *listener = arg;
	int			fd;

	while ((fd = accept(listener->fd, NULL, NULL)) >= 0)
	{
		Peer	   *peer = calloc(1, sizeof(Peer));
		pthread_t	thread;
		pthread_attr_t attr;

		pthread_mutex_lock(&lock);
		server.connections++;
		server.open_connections++;
		if (server.open_connections > server.max_connections)
			server.max_connections = server.open_connections;
		pthread_mutex_unlock(&lock);
		peer->fd = fd;
		peer->tls = listener->tls;
		pthread_attr_init(&attr);
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		if (pthread_create(&thread, &attr, talk, peer) != 0)
			abort();
		pthread_attr_destroy(&attr);
	}
	return NULL;
}

int
server_start(const char *cert, const char *key, const char *client_ca)
{
	Listener   *listener = calloc(1, sizeof(Listener));
	struct sockaddr_in address;
	socklen_t	size = sizeof(address);
	pthread_t	thread;

	if (cert != NULL)
	{
		listener->tls = SSL_CTX_new(TLS_server_method());
		if (SSL_CTX_use_certificate_chain_file(listener->tls, cert) != 1 ||
			SSL_CTX_use_PrivateKey_file(listener->tls, key, SSL_FILETYPE_PEM) != 1)
			abort();
		if (client_ca != NULL)
		{
			SSL_CTX_load_verify_locations(listener->tls, client_ca, NULL);
			SSL_CTX_set_verify(listener->tls,
							   SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
		}
	}
	memset(&address, 0, sizeof(address));
	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener->fd, (struct sockaddr *) &address, size) != 0 ||
		listen(listener->fd, 1024) != 0 ||
		getsockname(listener->fd, (struct sockaddr *) &address, &size) != 0 ||
		pthread_create(&thread, NULL, accept_all, listener) != 0)
		abort();
	pthread_detach(thread);
	return ntohs(address.sin_port);
}

int
server_count(int id)
{
	int			n;

	pthread_mutex_lock(&lock);
	n = counts[id];
	pthread_mutex_unlock(&lock);
	return n;
}
