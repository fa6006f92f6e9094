/*-------------------------------------------------------------------------
 *
 * loop.c
 *	  The loop: one libcurl multi handle, its sockets in one epoll set, and
 *	  the requests that wait for a connection or a token.
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "http_internal.h"

#define EVENTS_AT_ONCE	128

/* http_loop_run() comes back after so many turns even if there is more */
#define TURNS_AT_ONCE	16

/*
 * One per file descriptor.  libcurl drops the interest in a socket after each
 * answer and takes it up again with the next request; epoll is told only when
 * it matters.  That is done only with sockets that we open and close
 * ourselves, so that a descriptor cannot change its meaning unseen.
 */
typedef struct LoopSocket
{
	unsigned char wanted;		/* CURL_POLL_IN, _OUT or both; 0: nothing */
	unsigned char registered;	/* what epoll watches */
	bool		ours;

	/* of a kept connection; local_port 0: not known */
	int			local_port;
	int			remote_port;
	char		local_ip[46];
	char		remote_ip[46];
} LoopSocket;

struct HttpLoop
{
	CURLM	   *multi;
	int			epfd;
	int			max_connections;
	int			running;
	int			in_flight;
	int64_t		deadline_us;	/* libcurl's timer, -1: none */
	bool		kick;			/* something waits that may be startable */
	LoopSocket *sockets;
	int			nsockets;
	int			by_port[65536]; /* descriptor last seen with a local port */
	TAILQ_HEAD(, HttpEndpoint) endpoints;	/* those with waiting requests */
	struct HttpRequestList requests;	/* running */
	struct HttpRequestList done;
};

int64_t
http_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/*
 * libcurl may start a resolver thread, which inherits the signal mask: no
 * signal of this process is to be delivered there.
 */
static void
block_signals(sigset_t *saved)
{
	sigset_t	all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, saved);
}

static void
restore_signals(const sigset_t *saved)
{
	pthread_sigmask(SIG_SETMASK, saved, NULL);
}

static LoopSocket *
loop_socket(HttpLoop *loop, int fd)
{
	if (fd < 0)
		return NULL;
	if (fd >= loop->nsockets)
	{
		int			n = loop->nsockets > 0 ? loop->nsockets : 64;
		LoopSocket *sockets;

		while (n <= fd)
			n *= 2;
		sockets = realloc(loop->sockets, n * sizeof(LoopSocket));
		if (sockets == NULL)
			return NULL;
		memset(sockets + loop->nsockets, 0,
			   (n - loop->nsockets) * sizeof(LoopSocket));
		loop->sockets = sockets;
		loop->nsockets = n;
	}
	return &loop->sockets[fd];
}

static int
watch(HttpLoop *loop, int fd, LoopSocket *sock, unsigned char wanted)
{
	struct epoll_event event;

	memset(&event, 0, sizeof(event));
	event.data.fd = fd;
	if (wanted & CURL_POLL_IN)
		event.events |= EPOLLIN;
	if (wanted & CURL_POLL_OUT)
		event.events |= EPOLLOUT;
	if (wanted == 0)
	{
		/* gone by itself if the socket was closed */
		epoll_ctl(loop->epfd, EPOLL_CTL_DEL, fd, NULL);
	}
	else if (epoll_ctl(loop->epfd, sock->registered != 0 ? EPOLL_CTL_MOD : EPOLL_CTL_ADD,
					   fd, &event) != 0)
	{
		if (epoll_ctl(loop->epfd, errno == EEXIST ? EPOLL_CTL_MOD : EPOLL_CTL_ADD,
					  fd, &event) != 0)
			return -1;
	}
	sock->registered = wanted;
	return 0;
}

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	HttpLoop   *loop = arg;
	LoopSocket *sock = loop_socket(loop, fd);

	if (sock == NULL)
		return -1;
	sock->wanted = what == CURL_POLL_REMOVE ? 0 : (unsigned char) what;
	if (sock->ours && sock->wanted == 0)
		return 0;
	if (sock->ours && sock->wanted == sock->registered)
		return 0;
	return watch(loop, fd, sock, sock->wanted);
}

static int
on_timer(CURLM *multi, long timeout_ms, void *arg)
{
	HttpLoop   *loop = arg;

	loop->deadline_us = timeout_ms < 0 ? -1 :
		http_now_us() + (int64_t) timeout_ms * 1000;
	return 0;
}

static curl_socket_t
on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	HttpHandle *handle = arg;
	HttpLoop   *loop = handle->loop;
	HttpEndpoint *endpoint = handle->request->endpoint;
	int			fd;
	LoopSocket *sock;

	/* the address itself, whatever the name was and is by now */
	if (endpoint->address_allowed != NULL &&
		!endpoint->address_allowed(&address->addr, address->addrlen,
								   endpoint->address_arg))
	{
		handle->request->address_refused = true;
		return CURL_SOCKET_BAD;
	}
	fd = socket(address->family, address->socktype | SOCK_CLOEXEC,
				address->protocol);
	sock = loop_socket(loop, fd);
	if (sock == NULL)
	{
		if (fd >= 0)
			close(fd);
		return CURL_SOCKET_BAD;
	}
	sock->wanted = 0;
	sock->registered = 0;
	sock->ours = true;
	sock->local_port = 0;
	return fd;
}

static int
on_close(void *arg, curl_socket_t fd)
{
	HttpLoop   *loop = arg;
	LoopSocket *sock = loop_socket(loop, fd);

	if (sock != NULL)
	{
		if (sock->registered != 0)
			watch(loop, fd, sock, 0);
		sock->wanted = 0;
		sock->ours = false;
		sock->local_port = 0;
	}
	return close(fd);
}

/*
 * Remembers which descriptor a new connection has, for libcurl does not tell
 * when the connection is used again.
 */
static void
note_connection(HttpLoop *loop, CURL *easy)
{
	long		connects = 0;
	long		local_port = 0;
	long		remote_port = 0;
	char	   *local_ip = NULL;
	char	   *remote_ip = NULL;
	curl_socket_t fd = CURL_SOCKET_BAD;
	LoopSocket *sock;

	curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &connects);
	if (connects == 0)
		return;
	curl_easy_getinfo(easy, CURLINFO_ACTIVESOCKET, &fd);
	curl_easy_getinfo(easy, CURLINFO_LOCAL_PORT, &local_port);
	curl_easy_getinfo(easy, CURLINFO_LOCAL_IP, &local_ip);
	curl_easy_getinfo(easy, CURLINFO_PRIMARY_PORT, &remote_port);
	curl_easy_getinfo(easy, CURLINFO_PRIMARY_IP, &remote_ip);
	if (fd == CURL_SOCKET_BAD || local_port <= 0 || local_port > 65535 ||
		local_ip == NULL || remote_ip == NULL)
		return;
	sock = loop_socket(loop, fd);
	if (sock == NULL || !sock->ours)
		return;
	sock->local_port = (int) local_port;
	sock->remote_port = (int) remote_port;
	snprintf(sock->local_ip, sizeof(sock->local_ip), "%s", local_ip);
	snprintf(sock->remote_ip, sizeof(sock->remote_ip), "%s", remote_ip);
	loop->by_port[local_port] = fd;
}

/*
 * The descriptor of a kept connection, -1: not known.
 */
int
http_loop_find_socket(HttpLoop *loop, const char *remote_ip, const char *local_ip,
					  int remote_port, int local_port)
{
	int			fd;
	int			i;

	if (local_port <= 0 || local_port > 65535)
		return -1;

	/* two connections to different peers may have the same local port */
	fd = loop->by_port[local_port];
	for (i = -1; i < loop->nsockets; i++)
	{
		LoopSocket *sock = i < 0 ? loop_socket(loop, fd) : &loop->sockets[i];

		if (sock != NULL && sock->ours && sock->local_port == local_port &&
			sock->remote_port == remote_port &&
			strcmp(sock->remote_ip, remote_ip) == 0 &&
			strcmp(sock->local_ip, local_ip) == 0)
			return i < 0 ? fd : i;
	}
	return -1;
}

/*
 * See http.h.  Not before the process has forked for the last time.
 */
HttpLoop *
http_loop_create(int max_connections, char *error, size_t error_size)
{
	static bool initialized = false;
	HttpLoop   *loop;

	error[0] = '\0';
	if (!initialized)
	{
		if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		{
			snprintf(error, error_size, "could not initialize libcurl");
			return NULL;
		}
		initialized = true;
	}

	loop = calloc(1, sizeof(HttpLoop));
	if (loop == NULL)
	{
		snprintf(error, error_size, "out of memory");
		return NULL;
	}
	TAILQ_INIT(&loop->endpoints);
	TAILQ_INIT(&loop->requests);
	TAILQ_INIT(&loop->done);
	loop->max_connections = max_connections > 0 ? max_connections : 1;
	loop->deadline_us = -1;
	loop->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epfd < 0)
	{
		snprintf(error, error_size, "could not create epoll descriptor: %s",
				 strerror(errno));
		free(loop);
		return NULL;
	}
	loop->multi = curl_multi_init();
	if (loop->multi == NULL ||
		curl_multi_setopt(loop->multi, CURLMOPT_SOCKETFUNCTION, on_socket) != CURLM_OK ||
		curl_multi_setopt(loop->multi, CURLMOPT_SOCKETDATA, loop) != CURLM_OK ||
		curl_multi_setopt(loop->multi, CURLMOPT_TIMERFUNCTION, on_timer) != CURLM_OK ||
		curl_multi_setopt(loop->multi, CURLMOPT_TIMERDATA, loop) != CURLM_OK ||
		curl_multi_setopt(loop->multi, CURLMOPT_PIPELINING,
						  (long) CURLPIPE_NOTHING) != CURLM_OK ||
		curl_multi_setopt(loop->multi, CURLMOPT_MAXCONNECTS,
						  (long) loop->max_connections) != CURLM_OK ||
		curl_multi_setopt(loop->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS,
						  (long) loop->max_connections) != CURLM_OK)
	{
		snprintf(error, error_size, "could not set up libcurl");
		http_loop_destroy(loop);
		return NULL;
	}
	return loop;
}

static void
list_endpoint(HttpLoop *loop, HttpEndpoint *endpoint)
{
	if (!endpoint->listed && !TAILQ_EMPTY(&endpoint->waiting))
	{
		endpoint->listed = true;
		TAILQ_INSERT_TAIL(&loop->endpoints, endpoint, link);
	}
}

static void
unlist_endpoint(HttpLoop *loop, HttpEndpoint *endpoint)
{
	if (endpoint->listed && TAILQ_EMPTY(&endpoint->waiting))
	{
		endpoint->listed = false;
		TAILQ_REMOVE(&loop->endpoints, endpoint, link);
	}
}

/* out of the list of its state; the handle goes back to the endpoint */
static void
detach(HttpRequest *request)
{
	HttpLoop   *loop = request->loop;
	HttpEndpoint *endpoint = request->endpoint;

	switch (request->state)
	{
		case HTTP_REQUEST_NEW:
			return;
		case HTTP_REQUEST_DONE:
			TAILQ_REMOVE(&loop->done, request, link);
			break;
		case HTTP_REQUEST_WAITING:
			TAILQ_REMOVE(&endpoint->waiting, request, link);
			unlist_endpoint(loop, endpoint);
			break;
		case HTTP_REQUEST_RUNNING:
			curl_multi_remove_handle(loop->multi, request->handle->easy);
			TAILQ_REMOVE(&loop->requests, request, link);
			loop->running--;
			http_request_connected(request);
			http_endpoint_give_handle(endpoint, request->handle);
			request->handle = NULL;
			loop->kick = true;
			break;
	}
	if (request->state != HTTP_REQUEST_DONE)
	{
		if (request->token_for == NULL)
			loop->in_flight--;
		if (--endpoint->in_flight == 0)
			endpoint->loop = NULL;
	}
	request->state = HTTP_REQUEST_NEW;
}

/* a request that is over: to its owner, or into the endpoint's tokens */
static void
finish(HttpRequest *request)
{
	HttpLoop   *loop = request->loop;

	detach(request);
	if (request->token_for != NULL)
	{
		http_tokens_answered(request->token_for, request);
		http_request_destroy(request);
		loop->kick = true;
		return;
	}
	request->state = HTTP_REQUEST_DONE;
	TAILQ_INSERT_TAIL(&loop->done, request, link);
}

/*
 * See http.h.  An endpoint belongs to the loop that has requests for it.
 */
void
http_loop_submit(HttpLoop *loop, HttpRequest *request)
{
	HttpEndpoint *endpoint = request->endpoint;

	if (request->state != HTTP_REQUEST_NEW)
		return;
	request->loop = loop;
	request->answer.tries = 0;
	request->stale = 0;
	if (endpoint->loop != NULL && endpoint->loop != loop)
		request->refused = "the endpoint is in use by another loop";
	if (request->refused != NULL)
	{
		http_request_not_sent(request, request->refused);
		request->state = HTTP_REQUEST_DONE;
		TAILQ_INSERT_TAIL(&loop->done, request, link);
		return;
	}
	endpoint->loop = loop;
	endpoint->in_flight++;
	if (request->token_for == NULL)
		loop->in_flight++;
	request->state = HTTP_REQUEST_WAITING;
	TAILQ_INSERT_TAIL(&endpoint->waiting, request, link);
	list_endpoint(loop, endpoint);
	loop->kick = true;
}

/* a running request back to the head of its line */
static void
start_again(HttpLoop *loop, HttpRequest *request)
{
	HttpEndpoint *endpoint = request->endpoint;

	detach(request);
	endpoint->loop = loop;
	endpoint->in_flight++;
	if (request->token_for == NULL)
		loop->in_flight++;
	request->state = HTTP_REQUEST_WAITING;
	TAILQ_INSERT_HEAD(&endpoint->waiting, request, link);
	list_endpoint(loop, endpoint);
}

/* hands the endpoint's next waiting request to libcurl */
static void
start(HttpLoop *loop, HttpEndpoint *endpoint)
{
	HttpRequest *request = TAILQ_FIRST(&endpoint->waiting);
	HttpHandle *handle = http_endpoint_take_handle(endpoint);

	if (handle == NULL)
	{
		http_request_not_sent(request, "could not set up a request: out of memory or "
							  "a TLS option that libcurl does not take");
		finish(request);
		return;
	}

	/* the token may have changed while it waited */
	if (!request->own_credential && request->credential != endpoint->credential)
	{
		http_credential_release(request->credential);
		request->credential = endpoint->credential;
		if (request->credential != NULL)
			request->credential->refs++;
	}
	if (handle->loop != loop)
	{
		handle->loop = loop;
		curl_easy_setopt(handle->easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
		curl_easy_setopt(handle->easy, CURLOPT_OPENSOCKETDATA, handle);
		curl_easy_setopt(handle->easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
		curl_easy_setopt(handle->easy, CURLOPT_CLOSESOCKETDATA, loop);
	}
	if (!http_request_prepare(request, handle) ||
		curl_multi_add_handle(loop->multi, handle->easy) != CURLM_OK)
	{
		http_endpoint_give_handle(endpoint, handle);
		http_request_not_sent(request, "could not set up a request: out of memory");
		finish(request);
		return;
	}
	TAILQ_REMOVE(&endpoint->waiting, request, link);
	unlist_endpoint(loop, endpoint);
	request->handle = handle;
	request->state = HTTP_REQUEST_RUNNING;
	TAILQ_INSERT_TAIL(&loop->requests, request, link);
	loop->running++;
	request->connecting = true;
	endpoint->connecting++;
}

/*
 * Starts what may be started, one request of each endpoint in turn.  True if
 * anything was.
 */
static bool
start_waiting(HttpLoop *loop)
{
	bool		started = false;
	bool		progress;

	loop->kick = false;
	do
	{
		HttpEndpoint *endpoint = TAILQ_FIRST(&loop->endpoints);

		progress = false;
		while (endpoint != NULL && loop->running < loop->max_connections)
		{
			HttpEndpoint *next = TAILQ_NEXT(endpoint, link);

			if (endpoint->connecting < HTTP_MAX_CONNECTING)
			{
				switch (http_tokens_state(loop, endpoint))
				{
					case HTTP_TOKEN_READY:
						start(loop, endpoint);
						progress = true;
						break;
					case HTTP_TOKEN_AWAITED:
						/* a token request may have been put in line just now */
						progress |= loop->kick;
						loop->kick = false;
						break;
					case HTTP_TOKEN_FAILED:
						while (!TAILQ_EMPTY(&endpoint->waiting))
						{
							HttpRequest *request = TAILQ_FIRST(&endpoint->waiting);

							http_tokens_refuse(endpoint, request);
							finish(request);
						}
						progress = true;
						break;
				}
			}
			endpoint = next;
		}
		started |= progress;
	} while (progress);

	/* the next turn must not begin with the same endpoint each time */
	if (loop->running >= loop->max_connections && !TAILQ_EMPTY(&loop->endpoints))
	{
		HttpEndpoint *first = TAILQ_FIRST(&loop->endpoints);

		TAILQ_REMOVE(&loop->endpoints, first, link);
		TAILQ_INSERT_TAIL(&loop->endpoints, first, link);
	}
	return started;
}

/* true if a request ended */
static bool
collect(HttpLoop *loop)
{
	CURLMsg    *message;
	int			left;
	bool		any = false;

	while ((message = curl_multi_info_read(loop->multi, &left)) != NULL)
	{
		HttpHandle *handle;
		HttpRequest *request;
		HttpEndpoint *endpoint;
		char	   *private = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
		handle = (HttpHandle *) private;
		request = handle->request;
		endpoint = request->endpoint;
		any = true;
		note_connection(loop, handle->easy);
		if (request->stale_now && request->stale < HTTP_MAX_STALE)
		{
			http_request_connected(request);
			request->answer.tries--;
			start_again(loop, request);
			continue;
		}
		http_request_judge(request, message->data.result);

		if (endpoint->tokens != NULL && request->answer.status != 0)
		{
			if (request->answer.status != 401)
				http_tokens_accepted(endpoint);
			else if (request->answer.outcome == HTTP_ANSWERED &&
					 request->answer.tries == 1 &&
					 http_tokens_rejected(endpoint, request->credential))
			{
				/* refused for its token, so not carried out: once more */
				start_again(loop, request);
				continue;
			}
		}
		finish(request);
	}
	return any;
}

void
http_loop_run(HttpLoop *loop)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	sigset_t	saved;
	int			still;
	int			turn;

	block_signals(&saved);
	for (turn = 0; turn < TURNS_AT_ONCE; turn++)
	{
		bool		progress = false;
		int			n = epoll_wait(loop->epfd, events, EVENTS_AT_ONCE, 0);
		int			i;

		for (i = 0; i < n; i++)
		{
			int			fd = events[i].data.fd;
			LoopSocket *sock = loop_socket(loop, fd);
			int			mask = 0;

			/* an idle connection: libcurl looks when it wants to use it */
			if (sock == NULL || sock->wanted == 0)
			{
				if (sock != NULL && sock->registered != 0)
					watch(loop, fd, sock, 0);
				continue;
			}
			if (events[i].events & EPOLLIN)
				mask |= CURL_CSELECT_IN;
			if (events[i].events & EPOLLOUT)
				mask |= CURL_CSELECT_OUT;
			if (events[i].events & (EPOLLERR | EPOLLHUP))
				mask |= CURL_CSELECT_ERR;
			curl_multi_socket_action(loop->multi, fd, mask, &still);
			progress = true;
		}
		if (loop->deadline_us >= 0 && http_now_us() >= loop->deadline_us)
		{
			loop->deadline_us = -1;
			curl_multi_socket_action(loop->multi, CURL_SOCKET_TIMEOUT, 0, &still);
			progress = true;
		}
		if (progress && collect(loop))
			loop->kick = true;

		/* places may have become free also where a connection was found */
		if ((progress || loop->kick) && !TAILQ_EMPTY(&loop->endpoints))
			progress |= start_waiting(loop);
		else
			loop->kick = false;
		if (!progress)
			break;
	}
	restore_signals(&saved);
}

int
http_loop_fd(const HttpLoop *loop)
{
	return loop->epfd;
}

long
http_loop_timeout(HttpLoop *loop)
{
	int64_t		left;

	if (!TAILQ_EMPTY(&loop->done) || loop->kick)
		return 0;
	if (loop->deadline_us < 0)
		return -1;
	left = loop->deadline_us - http_now_us();
	return left <= 0 ? 0 : (long) ((left + 999) / 1000);
}

HttpRequest *
http_loop_next_done(HttpLoop *loop)
{
	HttpRequest *request = TAILQ_FIRST(&loop->done);

	if (request != NULL)
	{
		TAILQ_REMOVE(&loop->done, request, link);
		request->state = HTTP_REQUEST_NEW;
		request->loop = NULL;
	}
	return request;
}

int
http_loop_in_flight(const HttpLoop *loop)
{
	return loop->in_flight;
}

void
http_request_free(HttpRequest *request)
{
	sigset_t	saved;

	if (request == NULL)
		return;
	if (request->loop != NULL)
	{
		block_signals(&saved);
		detach(request);
		restore_signals(&saved);
	}
	http_request_destroy(request);
}

/* ends a request for good when its loop goes */
static void
abandon(HttpRequest *request)
{
	detach(request);
	request->loop = NULL;
	if (request->token_for != NULL)
	{
		http_tokens_forget_request(request->token_for);
		http_request_destroy(request);
	}
}

/*
 * Requests that are not finished lose their loop; they are still their
 * owners' to free.
 */
void
http_loop_destroy(HttpLoop *loop)
{
	sigset_t	saved;
	HttpRequest *request;
	HttpEndpoint *endpoint;

	if (loop == NULL)
		return;
	block_signals(&saved);
	while ((request = TAILQ_FIRST(&loop->requests)) != NULL)
		abandon(request);
	while ((endpoint = TAILQ_FIRST(&loop->endpoints)) != NULL)
		abandon(TAILQ_FIRST(&endpoint->waiting));
	while ((request = TAILQ_FIRST(&loop->done)) != NULL)
		abandon(request);
	if (loop->multi != NULL)
		curl_multi_cleanup(loop->multi);
	close(loop->epfd);
	free(loop->sockets);
	free(loop);
	restore_signals(&saved);
}
