/*
 * http.c
 *		The HTTP front: connections, requests and their stages.
 *
 * The library runs in our loop (its epoll descriptor lies in ours).  A request
 * that waits is suspended, so it costs no thread; one that is never to be
 * answered has its socket watched, because the library does not look at
 * suspended connections.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "rspsim.h"

#define BODY_LIMIT			(1024 * 1024)
#define CONTROL_BODY_LIMIT	(256 * 1024 * 1024)
#define MAX_CONNECTIONS		20000
#define KEPT_BUFFER			65536

uint64_t	requests_total;

static struct MHD_Daemon *daemons[2];	/* plain, TLS */
static int	ports[2] = {-1, -1};
static int	loop_fd;
static Request *all;
static Request *free_list;
static uint64_t connections;
static uint64_t connections_total;
static uint64_t connections_seen;
static bool stopping;

const char *
http_header(Request *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

const char *
http_query(Request *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, name);
}

/* Did the caller show a certificate that the client CA has signed? */
bool
http_client_verified(Request *request)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
	unsigned	status;

	return info != NULL && info->tls_session != NULL &&
		gnutls_certificate_verify_peers2(info->tls_session, &status) == 0 && status == 0;
}

static void
timer_resumes(void *subject, uint32_t generation)
{
	Request    *request = subject;

	if (request->active && request->suspended && request->timer == generation)
	{
		request->suspended = false;
		MHD_resume_connection(request->connection);
	}
}

/* Puts the request to sleep; afterwards the library calls where it had left off. */
void
request_suspend(Request *request, uint32_t ms)
{
	request->suspended = true;
	MHD_suspend_connection(request->connection);
	timer_add(clock_ms() + ms, timer_resumes, request, ++request->timer);
}

/*
 * Cuts the connection with a reset.  connect() to no address is what makes
 * the kernel send one at once; closing is left to the library.
 */
static void
reset_socket(Request *request)
{
	struct linger linger = {1, 0};
	struct sockaddr none;

	memset(&none, 0, sizeof(none));
	none.sa_family = AF_UNSPEC;
	setsockopt(request->socket, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	if (connect(request->socket, &none, sizeof(none)) != 0 && errno != EAFNOSUPPORT)
		perror("rspsim: reset");
}

/* No answer will come; wakes up when the client leaves, or after "ms". */
static enum MHD_Result
hang(Request *request, uint32_t ms)
{
	struct epoll_event event;

	request->stage = STAGE_HANGING;
	request_suspend(request, ms);
	memset(&event, 0, sizeof(event));
	event.events = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
	event.data.ptr = request;
	if (epoll_ctl(loop_fd, EPOLL_CTL_ADD, request->socket, &event) == 0)
		request->watched = true;
	return MHD_YES;
}

/* The client of a hanging request has left. */
void
http_socket_event(Request *request)
{
	if (!request->active || !request->watched || !request->suspended)
		return;
	epoll_ctl(loop_fd, EPOLL_CTL_DEL, request->socket, NULL);
	request->watched = false;
	request->suspended = false;
	request->timer++;
	MHD_resume_connection(request->connection);
}

static void
answer_error(Request *request, int status, const char *code, const char *message)
{
	if (request->protocol != NULL)
		request->protocol->error(request, status, code, message);
	else
		error_info(request, status, code, message);
}

/* The code that goes with a status, for rules that name none. */
static const char *
usual_code(int status)
{
	switch (status)
	{
		case 400:
			return "INVALID_ARGUMENT";
		case 401:
			return "UNAUTHENTICATED";
		case 403:
			return "PERMISSION_DENIED";
		case 404:
			return "NOT_FOUND";
		case 409:
			return "CONFLICT";
		case 422:
			return "SERVICE_NOT_APPLICABLE";
		case 429:
			return "TOO_MANY_REQUESTS";
		case 502:
			return "BAD_GATEWAY";
		case 503:
			return "UNAVAILABLE";
		case 504:
			return "TIMEOUT";
		default:
			return "INTERNAL";
	}
}

/* The answer is made and its time has come: sends it, unless a fault forbids. */
static enum MHD_Result
finish(Request *request)
{
	const Fault *fault = request->fault;

	if (fault == NULL)
		return respond(request);
	switch (fault->kind)
	{
		case FAULT_TIMEOUT_BEFORE:
		case FAULT_TIMEOUT_AFTER:
			return hang(request, fault->ms);
		case FAULT_RESET_BEFORE:
		case FAULT_RESET_AFTER:
			reset_socket(request);
			return MHD_NO;
		case FAULT_STATUS:
			answer_error(request, fault->status, fault->code ? fault->code :
						 usual_code(fault->status),
						 fault->message ? fault->message : "A fault was asked for.");
			break;
		case FAULT_TOKEN_EXPIRED:
			request->challenge = "Bearer error=\"invalid_token\"";
			answer_error(request, 401, "UNAUTHENTICATED",
						 "Request not authenticated due to missing, invalid, or expired credentials.");
			break;
		case FAULT_FORGET:
			answer_error(request, 404, "NOT_FOUND", "The specified resource is not found.");
			break;
		case FAULT_REDIRECT:
			buf_clear(&request->out);
			request->status = fault->status;
			snprintf(request->location, sizeof(request->location), "%s",
					 fault->location ? fault->location : "http://redirected.invalid/");
			break;
		case FAULT_BODY:
			if (fault->status != 0 || request->status == 0)
				request->status = fault->status != 0 ? fault->status : 200;
			mangle(request);
			break;
		default:
			mangle(request);
			break;
	}
	if (fault->retry_after != NULL)
		snprintf(request->retry_after, sizeof(request->retry_after), "%s", fault->retry_after);
	return respond(request);
}

static enum MHD_Result
perform(Request *request)
{
	const Fault *fault = request->fault;

	if (fault == NULL || !fault_before_effect(fault))
	{
		request->answered_plainly = fault == NULL || fault->kind == FAULT_SLOW_DRIP ||
			fault->kind == FAULT_INFORMATIONAL ||
			(fault->kind == FAULT_MERGE_JSON && json_object_size(fault->merge) == 0);
		request->protocol->handle(request);
	}
	request->stage = STAGE_ANSWER;
	if (request->latency_ms > 0)
	{
		request_suspend(request, request->latency_ms);
		return MHD_YES;
	}
	return finish(request);
}

/* The whole request is here. */
static enum MHD_Result
begin(Request *request)
{
	Server	   *server = request->server;

	if (strncmp(request->url, "/control", 8) == 0 &&
		(request->url[8] == '/' || request->url[8] == '\0'))
	{
		control_handle(request);
		return respond(request);
	}
	request->number = ++requests_total;
	record_request(request);
	if (server == NULL || request->protocol == NULL)
	{
		error_info(request, 404, "NOT_FOUND", "The specified resource is not found.");
		return respond(request);
	}
	request->protocol->identify(request);
	if ((server->max_in_flight > 0 && server->in_flight > server->max_in_flight) ||
		(server->rate_limit > 0 && server->window > server->rate_limit))
	{
		answer_error(request, 429, "TOO_MANY_REQUESTS", "Rate limit reached.");
		snprintf(request->retry_after, sizeof(request->retry_after), "1");
		return respond(request);
	}
	request->latency_ms = server->latency_ms;
	fault_choose(request);
	if (request->delay_ms > 0)
	{
		request->stage = STAGE_DELAYED;
		request_suspend(request, request->delay_ms);
		return MHD_YES;
	}
	return perform(request);
}

static Request *
request_new(struct MHD_Connection *connection, const char *url, const char *method, bool tls)
{
	Request    *request = free_list;
	const char *slash = strchr(url + 1, '/');

	if (request != NULL)
		free_list = request->next_free;
	else
	{
		request = xalloc(sizeof(Request));
		request->next = all;
		all = request;
	}
	request->active = true;
	request->connection = connection;
	request->socket = MHD_get_connection_info(connection,
											  MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	request->url = url;
	request->method = method;
	request->base = tls ? "https" : "http";
	request->label = "unknown path";
	request->body_limit = CONTROL_BODY_LIMIT;
	request->stage = STAGE_BODY;
	if (strncmp(url, "/control", 8) != 0 || (url[8] != '/' && url[8] != '\0'))
	{
		size_t		prefix;

		request->body_limit = BODY_LIMIT;
		if (slash != NULL)
		{
			request->protocol = protocol_find(slash, &prefix);
			/* only what leads somewhere makes a server */
			if (request->protocol != NULL)
			{
				request->path = slash + prefix;
				request->server = server_get(url + 1, slash - url - 1);
			}
		}
		if (request->server != NULL)
			server_request_begins(request->server);
	}
	return request;
}

static enum MHD_Result
handle_request(void *daemon, struct MHD_Connection *connection, const char *url,
			   const char *method, const char *version, const char *upload,
			   size_t *upload_size, void **subject)
{
	Request    *request = *subject;

	(void) version;
	if (request == NULL)
	{
		*subject = request_new(connection, url, method, daemon == &daemons[1]);
		return MHD_YES;
	}
	if (*upload_size > 0)
	{
		if (request->body.length + *upload_size > request->body_limit)
			request->too_large = true;
		else if (!request->too_large)
			buf_add(&request->body, upload, *upload_size);
		*upload_size = 0;
		return MHD_YES;
	}
	if (stopping)
		return MHD_NO;
	switch (request->stage)
	{
		case STAGE_BODY:
			if (request->too_large)
				buf_clear(&request->body);
			return begin(request);
		case STAGE_DELAYED:
			return perform(request);
		case STAGE_ANSWER:
			return finish(request);
		case STAGE_HANGING:
			/* the client has left, or has waited long enough */
			if (request->watched)
				reset_socket(request);
			return MHD_NO;
		case STAGE_SENT:
			break;
	}
	return MHD_NO;
}

static void
request_completed(void *nothing, struct MHD_Connection *connection, void **subject,
				  enum MHD_RequestTerminationCode code)
{
	Request    *request = *subject;
	Request		blank;
	int			status;

	(void) nothing;
	(void) connection;
	if (request == NULL)
		return;
	*subject = NULL;
	status = request->stage == STAGE_SENT && code == MHD_REQUEST_TERMINATED_COMPLETED_OK ?
		request->status : 0;
	if (request->watched)
		epoll_ctl(loop_fd, EPOLL_CTL_DEL, request->socket, NULL);
	if (request->server != NULL)
	{
		server_count_answer(request->server, request->label, status);
		server_request_ends(request->server);
	}
	record_answer(request, status);
	json_decref(request->json);
	if (request->fault != NULL)
		fault_release(request->fault);
	if (request->body.size > KEPT_BUFFER)
		buf_free(&request->body);
	if (request->out.size > KEPT_BUFFER)
		buf_free(&request->out);

	memset(&blank, 0, sizeof(blank));
	blank.body = request->body;
	blank.out = request->out;
	blank.timer = request->timer + 1;
	blank.next = request->next;
	blank.next_free = free_list;
	*request = blank;
	buf_clear(&request->body);
	buf_clear(&request->out);
	free_list = request;
}

static void
connection_changed(void *nothing, struct MHD_Connection *connection, void **subject,
				   enum MHD_ConnectionNotificationCode code)
{
	(void) nothing;
	(void) connection;
	(void) subject;
	if (code == MHD_CONNECTION_NOTIFY_STARTED)
	{
		connections_total++;
		if (++connections > connections_seen)
			connections_seen = connections;
	}
	else
		connections--;
}

static unsigned
connection_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return 900;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_cur < MAX_CONNECTIONS + 64 ? (unsigned) limit.rlim_cur - 64 : MAX_CONNECTIONS;
}

static bool
start_daemon(int which, const Listen *listen, int port)
{
	unsigned	flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_TURBO;
	struct MHD_OptionItem options[8];
	struct sockaddr_in address;
	const union MHD_DaemonInfo *info;
	struct epoll_event event;
	int			n = 0;

	memset(&address, 0, sizeof(address));
	address.sin_family = AF_INET;
	address.sin_port = htons(port);
	if (inet_pton(AF_INET, listen->host, &address.sin_addr) != 1)
	{
		fprintf(stderr, "rspsim: \"%s\" is no IPv4 address\n", listen->host);
		return false;
	}
	memset(options, 0, sizeof(options));
	if (which == 1)
	{
		flags |= MHD_USE_TLS;
		options[n++] = (struct MHD_OptionItem) {MHD_OPTION_HTTPS_MEM_CERT, 0, listen->cert};
		options[n++] = (struct MHD_OptionItem) {MHD_OPTION_HTTPS_MEM_KEY, 0, listen->key};
		if (listen->client_ca != NULL)
			options[n++] = (struct MHD_OptionItem) {MHD_OPTION_HTTPS_MEM_TRUST, 0, listen->client_ca};
	}
	options[n] = (struct MHD_OptionItem) {MHD_OPTION_END, 0, NULL};
	daemons[which] =
		MHD_start_daemon(flags, port, NULL, NULL, handle_request, &daemons[which],
						 MHD_OPTION_SOCK_ADDR, (struct sockaddr *) &address,
						 MHD_OPTION_CONNECTION_LIMIT, connection_limit(),
						 MHD_OPTION_CONNECTION_TIMEOUT, 0u,
						 MHD_OPTION_LISTEN_BACKLOG_SIZE, 1024u,
						 MHD_OPTION_NOTIFY_COMPLETED, request_completed, NULL,
						 MHD_OPTION_NOTIFY_CONNECTION, connection_changed, NULL,
						 MHD_OPTION_ARRAY, options,
						 MHD_OPTION_END);
	if (daemons[which] == NULL)
	{
		fprintf(stderr, "rspsim: could not listen on %s:%d: %s\n", listen->host, port,
				strerror(errno));
		return false;
	}
	ports[which] = MHD_get_daemon_info(daemons[which], MHD_DAEMON_INFO_BIND_PORT)->port;
	info = MHD_get_daemon_info(daemons[which], MHD_DAEMON_INFO_EPOLL_FD);
	memset(&event, 0, sizeof(event));
	event.events = EPOLLIN;
	event.data.ptr = NULL;
	return epoll_ctl(loop_fd, EPOLL_CTL_ADD, info->epoll_fd, &event) == 0;
}

/*
 * Begins to listen, plain and with TLS as asked for, and adds the sockets to
 * the loop.  False, with a message on stderr, if that fails.
 */
bool
http_start(const Listen *listen, int epoll_fd)
{
	loop_fd = epoll_fd;
	return (!listen->plain || start_daemon(0, listen, listen->port)) &&
		(listen->tls_port < 0 || start_daemon(1, listen, listen->tls_port));
}

int
http_port(bool tls)
{
	return ports[tls];
}

/* How long the loop may sleep for the library's sake; -1: for ever. */
int
http_wait_ms(void)
{
	int			wait = -1;
	int			i;

	for (i = 0; i < 2; i++)
	{
		MHD_UNSIGNED_LONG_LONG timeout;

		if (daemons[i] != NULL && MHD_get_timeout(daemons[i], &timeout) == MHD_YES)
		{
			int			ms = timeout > 60000 ? 60000 : (int) timeout;

			if (wait < 0 || ms < wait)
				wait = ms;
		}
	}
	return wait;
}

void
http_run(void)
{
	int			i;

	for (i = 0; i < 2; i++)
		if (daemons[i] != NULL)
			MHD_run(daemons[i]);
}

void
http_stop(void)
{
	Request    *request;
	int			i;

	stopping = true;
	for (request = all; request != NULL; request = request->next)
		if (request->active && request->suspended)
		{
			request->suspended = false;
			MHD_resume_connection(request->connection);
		}
	http_run();
	for (i = 0; i < 2; i++)
		if (daemons[i] != NULL)
			MHD_stop_daemon(daemons[i]);
	while (all != NULL)
	{
		Request    *next = all->next;

		buf_free(&all->body);
		buf_free(&all->out);
		free(all);
		all = next;
	}
}

void
http_stats_json(Buf *out)
{
	buf_format(out, "{\"now\":%" PRIu64 ",\"total\":%" PRIu64 ",\"max\":%" PRIu64 "}", connections,
			   connections_total, connections_seen);
}

void
http_reset_stats(void)
{
	connections_total = connections_seen = connections;
}
