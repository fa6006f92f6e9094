/*-------------------------------------------------------------------------
 *
 * test_http.c
 *	  Unit tests of src/http against a server of bad manners; prints TAP.
 *
 * With an argument "bench <url> <requests> <connections>" it measures instead.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../src/http/http.h"
#include "client.h"
#include "http_server.h"
#include "tap.h"

static int	plain_port;

/* more patience, for valgrind: ESIM_TEST_SLOW=10 */
static int	slowness = 1;

static int64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static char *
url_of(const char *scheme, int port, const char *path)
{
	static char urls[8][200];
	static int	n = 0;

	n = (n + 1) % 8;
	snprintf(urls[n], sizeof(urls[n]), "%s://127.0.0.1:%d%s", scheme, port, path);
	return urls[n];
}

static HttpEndpointOptions
plain_options(void)
{
	HttpEndpointOptions options;

	memset(&options, 0, sizeof(options));
	options.base_url = url_of("http", plain_port, "");
	options.timeout_ms = 5000 * slowness;
	options.connect_timeout_ms = 2000 * slowness;
	options.max_answer = 100000;
	options.verify = true;
	options.allow_http = true;
	return options;
}

/* keeps the loop going for a while */
static void
spin(int ms)
{
	int64_t		end = now_ms() + ms;

	while (now_ms() < end)
	{
		struct pollfd poll_fd = {http_loop_fd(loop), POLLIN, 0};

		poll(&poll_fd, 1, 5);
		http_loop_run(loop);
	}
}

static const char *const outcome_names[] = {"ANSWERED", "NOT_SENT", "LOST", "BAD_ANSWER"};

/* one request, checked for outcome, status and a part of the error text */
static void
expect(HttpEndpoint *endpoint, const char *method, const char *path,
	   const char *body, HttpOutcome outcome, int status, const char *error)
{
	HttpRequest *request = call(endpoint, method, path, body, false);
	const HttpAnswer *answer = http_request_answer(request);
	char		name[200];
	bool		good = answer->outcome == outcome && answer->status == status &&
		(error == NULL ? answer->error[0] == '\0' : strstr(answer->error, error) != NULL);

	snprintf(name, sizeof(name), "%s %.*s: %s %d", method, (int) strcspn(path, "\r\n"),
			 path, outcome_names[outcome], status);
	ok(good, name);
	if (!good)
		printf("# got %s %d \"%s\"\n", outcome_names[answer->outcome],
			   answer->status, answer->error);
	http_request_free(request);
}

static void
test_endpoints(void)
{
	static const struct
	{
		const char *url;
		bool		allow_http;
		const char *error;		/* NULL: fine */
		const char *request;	/* URL of a request for /x */
	}			cases[] =
	{
		{"https://example.com", false, NULL, "https://example.com/x"},
		{"https://example.com/", false, NULL, "https://example.com/x"},
		{"https://example.com:8443/a/b//", false, NULL, "https://example.com:8443/a/b/x"},
		{"http://example.com", false, "allow_http", NULL},
		{"http://example.com", true, NULL, "http://example.com/x"},
		{"ftp://example.com", true, "https URL", NULL},
		{"file:///etc/passwd", true, "\"url\"", NULL},
		{"https://user@example.com", false, "user name", NULL},
		{"https://user:pw@example.com/", false, "user name", NULL},
		{"https://example.com/a@b", false, NULL, "https://example.com/a@b/x"},
		{"https://example.com/?a=b", false, "query", NULL},
		{"https://example.com/#a", false, "fragment", NULL},
		{"https://exa mple.com/", false, "blank", NULL},
		{"https://example.com/\r\nX: y", false, "blank", NULL},
		{"https://ex\303\244mple.com/", false, "ASCII", NULL},
		{"example.com", false, "scheme", NULL},
		{"https://", false, "host", NULL},
		{"https://example.com:99999/", false, "\"url\"", NULL},
		{"https://example.com:0/", false, "\"url\"", NULL},
		{"https://[::1]:8443/a", false, NULL, "https://[::1]:8443/a/x"},
		{"", false, "missing", NULL},
		{NULL, false, "missing", NULL},
	};
	int			i;

	for (i = 0; i < (int) (sizeof(cases) / sizeof(cases[0])); i++)
	{
		HttpEndpointOptions options = plain_options();
		char		error[200];
		HttpEndpoint *endpoint;
		char		name[200];
		bool		good;

		options.base_url = cases[i].url;
		options.allow_http = cases[i].allow_http;
		endpoint = http_endpoint_create(&options, error, sizeof(error));
		if (cases[i].error != NULL)
			good = endpoint == NULL && strstr(error, cases[i].error) != NULL;
		else
		{
			good = endpoint != NULL;
			if (good)
			{
				HttpRequest *request = http_request_create(endpoint, "GET", "/x",
														   NULL, NULL, 0, NULL);

				good = strcmp(http_request_url(request), cases[i].request) == 0;
				http_request_free(request);
			}
		}
		snprintf(name, sizeof(name), "url \"%.60s\"", cases[i].url ? cases[i].url : "NULL");
		if (strpbrk(name, "\r\n") != NULL)
			snprintf(name, sizeof(name), "url with a line break");
		ok(good, name);
		if (!good)
			printf("# %s\n", error);
		http_endpoint_release(endpoint);
	}
}

static void
refused_options(const char *name, HttpEndpointOptions options, const char *part)
{
	char		error[200];
	HttpEndpoint *endpoint = http_endpoint_create(&options, error, sizeof(error));

	ok(endpoint == NULL && strstr(error, part) != NULL, name);
	if (endpoint != NULL || strstr(error, part) == NULL)
		printf("# %s\n", error);
	http_endpoint_release(endpoint);
}

static void
test_options(void)
{
	HttpEndpointOptions options = plain_options();

	options.auth = HTTP_AUTH_BEARER;
	refused_options("bearer without token", options, "\"token\" is missing");
	options.token = "a\nb";
	refused_options("token with a line break", options, "not allowed");
	options = plain_options();
	options.auth = HTTP_AUTH_BASIC;
	refused_options("basic without username", options, "\"username\" is missing");
	options.username = "a:b";
	options.password = "c";
	refused_options("user name with a colon", options, "\"username\"");
	options = plain_options();
	options.auth = HTTP_AUTH_CLIENT_SECRET_POST;
	refused_options("no client_id", options, "\"client_id\" is missing");
	options.client_id = "id";
	options.client_secret = "secret";
	refused_options("no token_url", options, "\"token_url\" is missing");
	options.openid_config_url = "ftp://example.com/.well-known/openid-configuration";
	refused_options("bad openid_config_url", options, "\"openid_config_url\" is not an https URL");
	options.token_url = "ftp://example.com";
	refused_options("bad token_url", options, "\"token_url\"");
	options.auth = HTTP_AUTH_PRIVATE_KEY_JWT;
	refused_options("private_key_jwt without a key", options, "\"private_key\" is missing");
	options.client_id = "";
	refused_options("private_key_jwt without a client", options, "\"client_id\" is missing");
	options = plain_options();
	options.client_cert = "/nonexistent/cert.pem";
	refused_options("no such certificate file", options, "could not open");
	options.client_cert = NULL;
	options.client_key = "x";
	refused_options("key without certificate", options, "\"client_cert\" is missing");
}

static void
test_requests(void)
{
	HttpEndpointOptions options = plain_options();
	HttpEndpoint *endpoint = endpoint_of(&options);
	HttpRequest *request;
	const HttpAnswer *answer;
	char	   *big;

	request = call(endpoint, "GET", "/ok?id=1&x=%20", NULL, true);
	answer = http_request_answer(request);
	ok(answer->outcome == HTTP_ANSWERED && answer->status == 200 &&
	   answer->length == 7 && strcmp(answer->body, "{\"a\":1}") == 0 &&
	   strcmp(answer->content_type, "application/json") == 0 &&
	   answer->location == NULL && answer->retry_after_ms == -1 &&
	   answer->tries == 1 && answer->error[0] == '\0', "a whole answer");
	ok(answer->date_skew_ms < -1000000000L, "skew of the peer's clock");
	ok(strncmp(server.last_request, "GET /ok?id=1&x=%20 HTTP/1.1\r\nHost: ", 35) == 0 &&
	   strstr(server.last_request, "Content-Type") == NULL &&
	   strstr(server.last_request, "Authorization") == NULL &&
	   strstr(server.last_request, "Accept-Encoding") == NULL, "the request as it was sent");
	http_request_free(request);

	request = http_request_create(endpoint, "POST", "/ok?id=2", "application/json",
								  "{\"b\":2}", 7, &options);
	ok(http_request_owner(request) == &options, "owner");
	ok(http_request_header(request, "X-Correlator", "a b \303\244"), "header");
	ok(!http_request_header(request, "X-Bad", "a\r\nB: c"), "header with a line break");
	ok(!http_request_header(request, "X-Bad", "a\001"), "header with a control character");
	ok(!http_request_header(request, "X Bad", "a"), "bad header name");
	ok(!http_request_header(request, "", "a"), "no header name");
	ok(http_request_header(request, "X-Empty", ""), "empty header");
	big = malloc(20001);
	memset(big, 'y', 20000);
	big[20000] = '\0';
	ok(http_request_header(request, "X-Long", big), "long header");
	http_loop_submit(loop, request);
	ok(http_loop_in_flight(loop) == 1 && http_loop_timeout(loop) == 0 &&
	   http_loop_next_done(loop) == NULL, "not finished within the call");
	ok(next_done() == request && http_loop_in_flight(loop) == 0, "finished later");
	ok(strncmp(server.last_request, "POST /ok?id=2 HTTP/1.1\r\n", 24) == 0 &&
	   strstr(server.last_request, "\r\nContent-Type: application/json\r\n") != NULL &&
	   strstr(server.last_request, "\r\nX-Correlator: a b \303\244\r\n") != NULL &&
	   strstr(server.last_request, "\r\nX-Empty:\r\n") != NULL &&
	   strstr(server.last_request, big) != NULL &&
	   strstr(server.last_request, "Expect") == NULL &&
	   strstr(server.last_request, "\r\n\r\n{\"b\":2}") != NULL, "a POST as it was sent");
	http_request_free(request);
	free(big);

	request = call(endpoint, "POST", "/ok?id=3", NULL, false);
	ok(http_request_answer(request)->outcome == HTTP_ANSWERED &&
	   strstr(server.last_request, "\r\nContent-Length: 0\r\n") != NULL &&
	   strstr(server.last_request, "Content-Type") == NULL, "POST without a body");
	http_request_free(request);

	request = call(endpoint, "DELETE", "/ok?id=4", NULL, false);
	ok(http_request_answer(request)->outcome == HTTP_ANSWERED &&
	   strncmp(server.last_request, "DELETE /ok", 10) == 0, "DELETE");
	http_request_free(request);
	request = call(endpoint, "PATCH", "/ok?id=5", "{}", false);
	ok(http_request_answer(request)->outcome == HTTP_ANSWERED &&
	   strncmp(server.last_request, "PATCH /ok", 9) == 0 &&
	   strstr(server.last_request, "\r\n\r\n{}") != NULL, "PATCH");
	http_request_free(request);
	request = call(endpoint, "GET", "/ok?id=6", NULL, false);
	ok(strncmp(server.last_request, "GET /ok", 7) == 0, "GET after PATCH with the same handle");
	http_request_free(request);
	request = call(endpoint, "GET", "", NULL, false);
	ok(strncmp(server.last_request, "GET / HTTP/1.1", 14) == 0, "empty path");
	http_request_free(request);
	request = call(endpoint, "GET", "?a=b", NULL, false);
	ok(strncmp(server.last_request, "GET /?a=b HTTP/1.1", 18) == 0, "query only");
	http_request_free(request);

	big = malloc(2000001);
	memset(big, 'z', 2000000);
	big[2000000] = '\0';
	request = call(endpoint, "POST", "/ok?id=7", big, false);
	ok(http_request_answer(request)->outcome == HTTP_ANSWERED, "body of 2 MB");
	http_request_free(request);
	free(big);

	expect(endpoint, "GET", "/a b", NULL, HTTP_NOT_SENT, 0, "path");
	expect(endpoint, "GET", "x", NULL, HTTP_NOT_SENT, 0, "path");
	expect(endpoint, "GET", "/a\r\nHost: x", NULL, HTTP_NOT_SENT, 0, "path");
	expect(endpoint, "GET X", "/a", NULL, HTTP_NOT_SENT, 0, "method");
	expect(endpoint, "GET", "/no-body", NULL, HTTP_ANSWERED, 204, NULL);
	expect(endpoint, "POST", "/redirect", "{}", HTTP_ANSWERED, 307, NULL);
	ok(server_count(999) == 0, "redirects are not followed");
	expect(endpoint, "GET", "/two-1xx", NULL, HTTP_ANSWERED, 200, NULL);

	request = call(endpoint, "GET", "/redirect", NULL, false);
	ok(strcmp(http_request_answer(request)->location, "/ok?id=999") == 0, "location");
	http_request_free(request);
	request = call(endpoint, "GET", "/retry-seconds", NULL, false);
	ok(http_request_answer(request)->retry_after_ms == 7000, "Retry-After in seconds");
	http_request_free(request);
	request = call(endpoint, "GET", "/retry-date", NULL, false);
	ok(http_request_answer(request)->retry_after_ms == 30000, "Retry-After as a date");
	http_request_free(request);
	request = call(endpoint, "GET", "/retry-huge", NULL, false);
	ok(http_request_answer(request)->retry_after_ms == 365L * 86400 * 1000, "Retry-After is cut");
	http_request_free(request);
	request = call(endpoint, "GET", "/nul-body", NULL, false);
	ok(http_request_answer(request)->length == 3 &&
	   memcmp(http_request_answer(request)->body, "a\0b", 4) == 0, "NUL in a body");
	http_request_free(request);
	request = call(endpoint, "GET", "/gzip-te", NULL, false);
	ok(http_request_answer(request)->length == 4, "a body is not decoded");
	http_request_free(request);
	http_endpoint_release(endpoint);
}

static void
test_bad_answers(void)
{
	HttpEndpointOptions options = plain_options();
	HttpEndpoint *endpoint;
	int64_t		begin;

	options.timeout_ms = 1500;
	endpoint = endpoint_of(&options);
	expect(endpoint, "POST", "/close?id=20", "{}", HTTP_LOST, 0, "closed before an answer");
	ok(server_count(20) == 1, "a closed connection: received once");
	expect(endpoint, "POST", "/reset?id=21", "{}", HTTP_LOST, 0, "failed");
	ok(server_count(21) == 1, "a reset connection: received once");
	expect(endpoint, "GET", "/truncated", NULL, HTTP_BAD_ANSWER, 202, "broken off");
	expect(endpoint, "GET", "/chunk-cut", NULL, HTTP_BAD_ANSWER, 200, "");
	expect(endpoint, "GET", "/half-header", NULL, HTTP_BAD_ANSWER, 200, "");
	expect(endpoint, "GET", "/oversized", NULL, HTTP_BAD_ANSWER, 200, "more than 100000 bytes");
	expect(endpoint, "GET", "/oversized-chunked", NULL, HTTP_BAD_ANSWER, 200, "more than 100000 bytes");
	expect(endpoint, "GET", "/big", NULL, HTTP_BAD_ANSWER, 200, "more than 100000 bytes");
	expect(endpoint, "GET", "/endless-headers", NULL, HTTP_BAD_ANSWER, 200, "too many headers");
	expect(endpoint, "GET", "/huge-header", NULL, HTTP_BAD_ANSWER, 200, "");
	expect(endpoint, "GET", "/1xx", NULL, HTTP_LOST, 0, "too many headers");
	expect(endpoint, "GET", "/nul-header", NULL, HTTP_BAD_ANSWER, 200, "");
	expect(endpoint, "GET", "/garbage", NULL, HTTP_LOST, 0, "");
	expect(endpoint, "GET", "/status-garbage", NULL, HTTP_LOST, 0, "");
	expect(endpoint, "GET", "/101", NULL, HTTP_LOST, 0, "switched protocols");
	expect(endpoint, "GET", "/two-status", NULL, HTTP_BAD_ANSWER, 500, "");
	begin = now_ms();
	expect(endpoint, "POST", "/silent?id=22", "{}", HTTP_LOST, 0, "no answer from 127.0.0.1");
	ok(now_ms() - begin < 2500 && server_count(22) == 1, "time-out holds, received once");
	begin = now_ms();
	expect(endpoint, "GET", "/drip", NULL, HTTP_BAD_ANSWER, 200, "no whole answer");
	ok(now_ms() - begin < 2500, "a slow drip ends with the time-out");
	http_endpoint_release(endpoint);

	/* answers must not be taken for those of other requests */
	options = plain_options();
	endpoint = endpoint_of(&options);
	{
		HttpRequest *request = call(endpoint, "GET", "/glued", NULL, false);

		ok(strcmp(http_request_answer(request)->body, "{1}") == 0, "two answers at once: the first");
		http_request_free(request);
		request = call(endpoint, "GET", "/ok", NULL, false);
		ok(strcmp(http_request_answer(request)->body, "{\"a\":1}") == 0,
		   "the second is not the next request's");
		http_request_free(request);
		request = call(endpoint, "GET", "/later-junk", NULL, false);
		http_request_free(request);
		spin(150);
		request = call(endpoint, "GET", "/ok", NULL, false);
		ok(http_request_answer(request)->outcome == HTTP_ANSWERED &&
		   strcmp(http_request_answer(request)->body, "{\"a\":1}") == 0 &&
		   http_request_answer(request)->tries == 1,
		   "an answer that nobody asked for is nobody's");
		http_request_free(request);
	}
	http_endpoint_release(endpoint);
}

static void
test_dead_connections(void)
{
	static const struct
	{
		const char *method;
		const char *path;
		const char *body;
	}			cases[] =
	{
		{"POST", "/second-dies?id=%d", "{\"a\":1}"},
		{"POST", "/second-dies?id=%d", NULL},
		{"POST", "/second-dies?id=%d", ""},
		{"DELETE", "/second-dies?id=%d", NULL},
		{"PUT", "/second-dies?id=%d", "{\"a\":1}"},
		{"GET", "/second-dies?id=%d", NULL},
		{"POST", "/second-reset?id=%d", "{\"a\":1}"},
		{"DELETE", "/second-reset?id=%d", NULL},
	};
	HttpEndpointOptions options = plain_options();
	int			i;

	for (i = 0; i < (int) (sizeof(cases) / sizeof(cases[0])); i++)
	{
		HttpEndpoint *endpoint = endpoint_of(&options);
		HttpRequest *request;
		char		path[100];
		char		name[200];
		bool		good;
		int			connections;

		/* the loop's other connections would be taken up again */
		http_loop_destroy(loop);
		loop = http_loop_create(64, name, sizeof(name));
		snprintf(path, sizeof(path), cases[i].path, 100 + 2 * i);
		request = call(endpoint, cases[i].method, path, cases[i].body, false);
		good = http_request_answer(request)->outcome == HTTP_ANSWERED;
		http_request_free(request);
		connections = server.connections;
		snprintf(path, sizeof(path), cases[i].path, 101 + 2 * i);
		request = call(endpoint, cases[i].method, path, cases[i].body, false);
		spin(30);
		good = good && http_request_answer(request)->outcome == HTTP_LOST &&
			http_request_answer(request)->status == 0 &&
			http_request_answer(request)->error[0] != '\0' &&
			server_count(101 + 2 * i) == 1;
		snprintf(name, sizeof(name), "%s%s on a kept connection that dies: once, lost",
				 cases[i].method, cases[i].body != NULL ? " with body" : "");
		ok(good, name);
		if (!good)
			printf("# %s, received %d times, %d connections more\n",
				   http_request_answer(request)->error, server_count(101 + 2 * i),
				   server.connections - connections);
		http_request_free(request);
		http_endpoint_release(endpoint);
	}

	{
		HttpEndpoint *endpoint = endpoint_of(&options);
		HttpRequest *request = call(endpoint, "GET", "/second-dies?id=130", NULL, true);

		http_request_free(request);
		request = call(endpoint, "GET", "/second-dies?id=131", NULL, true);
		ok(http_request_answer(request)->outcome == HTTP_ANSWERED &&
		   server_count(131) == 2, "what only asks is asked again");
		http_request_free(request);

		/* a connection known to be closed is not used */
		request = call(endpoint, "POST", "/idle-close?id=132", "{}", false);
		http_request_free(request);
		spin(50);
		request = call(endpoint, "POST", "/ok?id=133", "{}", false);
		ok(http_request_answer(request)->outcome == HTTP_ANSWERED &&
		   server_count(133) == 1, "a connection closed while idle does no harm");
		http_request_free(request);
		http_endpoint_release(endpoint);
	}
}

static void
test_not_sent(void)
{
	HttpEndpointOptions options = plain_options();
	HttpEndpoint *endpoint;
	struct sockaddr_in address;
	socklen_t	size = sizeof(address);
	int			fd;
	int			fillers[8];
	int			i;
	int64_t		begin;

	/* a port where nobody listens */
	memset(&address, 0, sizeof(address));
	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	bind(fd, (struct sockaddr *) &address, size);
	getsockname(fd, (struct sockaddr *) &address, &size);
	options.base_url = url_of("http", ntohs(address.sin_port), "");
	endpoint = endpoint_of(&options);
	expect(endpoint, "POST", "/x", "{}", HTTP_NOT_SENT, 0, "Connection refused");
	http_endpoint_release(endpoint);

	/* one whose queue is full: the connection is never made */
	listen(fd, 0);
	for (i = 0; i < 8; i++)
	{
		fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(fillers[i], (struct sockaddr *) &address, size);
	}
	usleep(50000);
	options.connect_timeout_ms = 400;
	endpoint = endpoint_of(&options);
	begin = now_ms();
	expect(endpoint, "POST", "/x", "{}", HTTP_NOT_SENT, 0, "timed out");
	ok(now_ms() - begin < 1500, "connect time-out holds");
	http_endpoint_release(endpoint);
	for (i = 0; i < 8; i++)
		close(fillers[i]);
	close(fd);

	options = plain_options();
	options.base_url = "http://no-such-host.invalid/";
	endpoint = endpoint_of(&options);
	expect(endpoint, "POST", "/x", "{}", HTTP_NOT_SENT, 0, "no-such-host.invalid");
	http_endpoint_release(endpoint);
}

static void
make_certificates(void)
{
	static const char ec[] = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

	shell("cd %s && openssl req -x509 %s -days 30 -subj '/CN=test CA' -keyout ca.key "
		  "-out ca.pem -addext basicConstraints=critical,CA:TRUE 2>/dev/null", dir, ec);
	shell("cd %s && openssl req -x509 %s -days 30 -subj '/CN=127.0.0.1' -keyout self.key "
		  "-out self.pem -addext subjectAltName=IP:127.0.0.1 2>/dev/null", dir, ec);
	shell("cd %s && openssl req %s -subj '/CN=x' -keyout server.key -out server.csr "
		  "2>/dev/null && echo subjectAltName=IP:127.0.0.1 > good.ext && "
		  "echo subjectAltName=DNS:other.example > wrong.ext", dir, ec);
	shell("cd %s && for i in good wrong; do "
		  "openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial "
		  "-days 30 -extfile $i.ext -out $i.pem 2>/dev/null || exit 1; done", dir);
	/* OpenSSL 3.4 refuses negative days, and has dates instead */
	shell("cd %s && for past in '-days -1' '-not_before 20200101000000Z -not_after 20200201000000Z'; do "
		  "openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key $past -extfile good.ext "
		  "-out expired.pem 2>/dev/null && exit 0; done; exit 1", dir);
}

/* a request that does not come about, and why not */
static void
expect_tls(HttpEndpoint *endpoint, const char *reason, const char *name)
{
	HttpRequest *request = call(endpoint, "POST", "/ok?tls", "{}", false);
	const HttpAnswer *answer = http_request_answer(request);
	bool		good = answer->outcome == HTTP_NOT_SENT && answer->tls_failed &&
		answer->tls_reason != NULL && strstr(answer->tls_reason, reason) != NULL;
	char		line[200];

	snprintf(line, sizeof(line), "TLS: %s: %s", name, reason);
	ok(good, line);
	if (!good)
		printf("# %s; %s; %s\n", outcome_names[answer->outcome], answer->error,
			   answer->tls_reason != NULL ? answer->tls_reason : "no reason");
	http_request_free(request);
}

/* A process that answers each connection's first bytes with these, and closes it. */
static pid_t
raw_peer(const char *said, size_t length, int *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t	size = sizeof(address);
	int			fd = socket(AF_INET, SOCK_STREAM, 0);
	pid_t		pid;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		listen(fd, 5) != 0 || getsockname(fd, (struct sockaddr *) &address, &size) != 0 ||
		(pid = fork()) < 0)
		bail("no peer");
	*port = ntohs(address.sin_port);
	while (pid == 0)
	{
		int			client = accept(fd, NULL, NULL);
		char		first[4096];

		if (client < 0)
			_exit(0);
		if (read(client, first, sizeof(first)) > 0 && length > 0 &&
			write(client, said, length) < 0)
			_exit(1);
		shutdown(client, SHUT_WR);
		while (read(client, first, sizeof(first)) > 0)
			;
		close(client);
	}
	close(fd);
	return pid;
}

static void
test_tls(void)
{
	HttpEndpointOptions options = plain_options();
	HttpEndpoint *endpoint;
	HttpRequest *request;
	char	   *ca;
	char	   *cert;
	char	   *key;
	int			good_port;
	int			mutual_port;
	static const struct
	{
		const char *name;
		const char *cert;
		const char *key;
		const char *ca;
		const char *error;
		const char *reason;
	}			cases[] =
	{
		{"self-signed", "self.pem", "self.key", "ca.pem", "self-signed", "certificate is not trusted"},
		{"wrong host", "wrong.pem", "server.key", "ca.pem", "not accepted", "another host name"},
		{"expired", "expired.pem", "server.key", "ca.pem", "expired", "certificate has expired"},
		{"unknown CA", "good.pem", "server.key", "self.pem", "issuer", "certificate is not trusted"},
	};
#define ALERT(code) "\x15\x03\x03\x00\x02\x02" code, 7
	static const struct
	{
		const char *name;
		const char *said;
		size_t		length;
		const char *reason;
	}			ends[] =
	{
		{"alert handshake_failure", ALERT("\x28"), "ended the TLS handshake"},
		{"alert protocol_version", ALERT("\x46"), "no TLS version"},
		{"alert internal_error", ALERT("\x50"), "ended the TLS handshake"},
		{"plain HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n", 28, "does not speak TLS"},
		{"closed", "", 0, "broke off the TLS handshake"},
		{"half a record", "\x16\x03\x03\x00\x40\x02", 6, "broke off the TLS handshake"},
	};
	int			raw_port;
	int			i;

	make_certificates();
	ca = text_of("", "ca.pem");
	cert = text_of("", "good.pem");
	key = text_of("", "server.key");
	options.allow_http = false;
	good_port = server_start(path_of("good.pem"), path_of("server.key"), NULL);
	for (i = 0; i < (int) (sizeof(cases) / sizeof(cases[0])); i++)
	{
		int			port = server_start(path_of(cases[i].cert), path_of(cases[i].key), NULL);
		long		bytes = server.bytes;
		const HttpAnswer *answer;
		char		name[100];
		bool		good;

		options.base_url = url_of("https", port, "");
		options.ca_file = path_of(cases[i].ca);
		endpoint = endpoint_of(&options);
		request = call(endpoint, "POST", "/ok", "{}", false);
		answer = http_request_answer(request);
		usleep(50000);
		good = answer->outcome == HTTP_NOT_SENT && answer->tls_failed &&
			strstr(answer->error, cases[i].error) != NULL && server.bytes == bytes &&
			answer->tls_reason != NULL && strstr(answer->tls_reason, cases[i].reason) != NULL;
		snprintf(name, sizeof(name), "TLS: %s: not a byte of the request seen", cases[i].name);
		ok(good, name);
		if (!good)
			printf("# %s; %s\n", answer->error, answer->tls_reason);
		http_request_free(request);
		http_endpoint_release(endpoint);
	}

	options.base_url = url_of("https", good_port, "");
	options.ca_file = path_of("ca.pem");
	endpoint = endpoint_of(&options);
	expect(endpoint, "POST", "/ok", "{}", HTTP_ANSWERED, 200, NULL);
	expect(endpoint, "POST", "/second-dies?id=150", "{}", HTTP_LOST, 0, "closed");
	ok(server_count(150) == 1, "TLS: a dead kept connection: once");
	http_endpoint_release(endpoint);
	options.ca_file = ca;
	endpoint = endpoint_of(&options);
	expect(endpoint, "POST", "/ok?ca=text", "{}", HTTP_ANSWERED, 200, NULL);
	expect(endpoint, "POST", "/truncated", "{}", HTTP_BAD_ANSWER, 202, "");
	expect(endpoint, "POST", "/close?id=151", "{}", HTTP_LOST, 0, "closed");
	expect(endpoint, "POST", "/reset?id=152", "{}", HTTP_LOST, 0, "");
	ok(server_count(151) == 1 && server_count(152) == 1, "TLS: received once");
	http_endpoint_release(endpoint);
	options.ca_file = NULL;
	endpoint = endpoint_of(&options);
	expect(endpoint, "POST", "/ok?ca=system", "{}", HTTP_NOT_SENT, 0, "not accepted");
	http_endpoint_release(endpoint);
	options.verify = false;
	endpoint = endpoint_of(&options);
	expect(endpoint, "POST", "/ok?ca=none", "{}", HTTP_ANSWERED, 200, NULL);
	http_endpoint_release(endpoint);
	options.verify = true;
	options.ca_file = "/nonexistent/ca.pem";
	endpoint = endpoint_of(&options);
	expect(endpoint, "POST", "/ok", "{}", HTTP_NOT_SENT, 0, "CA certificates cannot be used");
	http_endpoint_release(endpoint);

	/* TLS to a server without it, and the other way round */
	options.ca_file = ca;
	options.base_url = url_of("https", plain_port, "");
	options.timeout_ms = 1000;
	endpoint = endpoint_of(&options);
	expect(endpoint, "POST", "/ok", "{}", HTTP_NOT_SENT, 0, "");
	http_endpoint_release(endpoint);

	/* a peer that ends the handshake in one way or another */
	options.timeout_ms = 5000;
	for (i = 0; i < (int) (sizeof(ends) / sizeof(ends[0])); i++)
	{
		pid_t		peer = raw_peer(ends[i].said, ends[i].length, &raw_port);

		options.base_url = url_of("https", raw_port, "");
		endpoint = endpoint_of(&options);
		expect_tls(endpoint, ends[i].reason, ends[i].name);
		http_endpoint_release(endpoint);
		kill(peer, SIGKILL);
		waitpid(peer, NULL, 0);
	}

	/* a client certificate */
	options.timeout_ms = 5000;
	mutual_port = server_start(path_of("good.pem"), path_of("server.key"), path_of("ca.pem"));
	options.base_url = url_of("https", mutual_port, "");
	endpoint = endpoint_of(&options);
	request = call(endpoint, "POST", "/ok?id=160", "{}", false);
	ok(http_request_answer(request)->outcome == HTTP_NOT_SENT &&
	   http_request_answer(request)->tls_failed && server_count(160) == 0,
	   "TLS: no client certificate");
	http_request_free(request);
	for (i = 0; i < 5; i++)
		expect_tls(endpoint, "for a client certificate", "no client certificate");
	http_endpoint_release(endpoint);
	options.client_cert = cert;
	options.client_key = key;
	endpoint = endpoint_of(&options);
	expect(endpoint, "POST", "/ok?cert=text", "{}", HTTP_ANSWERED, 200, NULL);
	http_endpoint_release(endpoint);
	options.client_cert = path_of("good.pem");
	options.client_key = path_of("server.key");
	endpoint = endpoint_of(&options);
	expect(endpoint, "POST", "/ok?cert=file", "{}", HTTP_ANSWERED, 200, NULL);
	http_endpoint_release(endpoint);
	options.client_key = path_of("ca.key");
	endpoint = endpoint_of(&options);
	expect(endpoint, "POST", "/ok?cert=mismatch", "{}", HTTP_NOT_SENT, 0, "client certificate");
	expect_tls(endpoint, "client certificate or its key cannot be used", "another's key");
	http_endpoint_release(endpoint);
	options.client_cert = text_of("", "self.pem");
	options.client_key = text_of("", "self.key");
	endpoint = endpoint_of(&options);
	request = call(endpoint, "POST", "/ok?id=161", "{}", false);
	ok(http_request_answer(request)->outcome == HTTP_NOT_SENT &&
	   http_request_answer(request)->tls_failed && server_count(161) == 0,
	   "TLS: a client certificate of another CA");
	http_request_free(request);
	for (i = 0; i < 5; i++)
		expect_tls(endpoint, "the client certificate", "a client certificate of another CA");
	http_endpoint_release(endpoint);
	free((char *) options.client_cert);
	free((char *) options.client_key);
	free(ca);
	free(cert);
	free(key);
}

static void
test_fixed_credentials(void)
{
	HttpEndpointOptions options = plain_options();
	HttpEndpoint *endpoint;

	options.auth = HTTP_AUTH_BEARER;
	options.token = "abc.def";
	endpoint = endpoint_of(&options);
	expect(endpoint, "GET", "/ok", NULL, HTTP_ANSWERED, 200, NULL);
	ok(strstr(server.last_request, "\r\nAuthorization: Bearer abc.def\r\n") != NULL, "bearer");
	expect(endpoint, "GET", "/api", NULL, HTTP_ANSWERED, 401, NULL);
	http_endpoint_release(endpoint);

	options = plain_options();
	options.auth = HTTP_AUTH_BASIC;
	options.username = "Aladdin";
	options.password = "open sesame";
	endpoint = endpoint_of(&options);
	expect(endpoint, "GET", "/ok", NULL, HTTP_ANSWERED, 200, NULL);
	ok(strstr(server.last_request,
			  "\r\nAuthorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n") != NULL, "basic");
	http_endpoint_release(endpoint);
}

static void
test_tokens(void)
{
	HttpEndpointOptions options = plain_options();
	HttpEndpoint *endpoint;
	HttpRequest *request;
	const HttpAnswer *answer;
	int			i;
	int			n;
	bool		good;

	options.auth = HTTP_AUTH_CLIENT_SECRET_BASIC;
	options.client_id = "my id:1";
	options.client_secret = "s%ecret/+";
	options.token_url = url_of("http", plain_port, "/token");
	options.scope = "esim:download esim:enable";
	options.audience = "https://aud.example/x";
	server.generation = 1;
	server.expires_in = "3600";
	endpoint = endpoint_of(&options);
	n = server.token_requests;
	expect(endpoint, "POST", "/api?id=200", "{}", HTTP_ANSWERED, 200, NULL);
	expect(endpoint, "POST", "/api?id=201", "{}", HTTP_ANSWERED, 200, NULL);
	ok(server.token_requests == n + 1, "one token serves many requests");

	/* my+id%3A1:s%25ecret%2F%2B */
	ok(strstr(server.last_token_request,
			  "\r\nAuthorization: Basic bXkraWQlM0ExOnMlMjVlY3JldCUyRiUyQg==\r\n") != NULL,
	   "client_secret_basic: id and secret are form-encoded first");
	ok(strstr(server.last_token_request,
			  "\r\n\r\ngrant_type=client_credentials&scope=esim%3Adownload+esim%3Aenable"
			  "&audience=https%3A%2F%2Faud.example%2Fx") != NULL, "grant type, scope, audience");
	ok(strstr(server.last_token_request,
			  "\r\nContent-Type: application/x-www-form-urlencoded\r\n") != NULL, "form");

	/* the peer forgets the token */
	server.generation = 2;
	request = call(endpoint, "POST", "/api?id=202", "{}", false);
	answer = http_request_answer(request);
	ok(answer->outcome == HTTP_ANSWERED && answer->status == 200 && answer->tries == 2 &&
	   server_count(202) == 2 && server.token_requests == n + 2,
	   "401: new token, once more");
	http_request_free(request);

	/* the peer takes no token at all */
	server.always_401 = 1;
	n = server.token_requests;
	for (i = 0, good = true; i < 20; i++)
	{
		request = call(endpoint, "POST", "/api?id=203", "{}", false);
		answer = http_request_answer(request);
		good = good && answer->outcome == HTTP_ANSWERED && answer->status == 401 &&
			answer->tries <= 2;
		http_request_free(request);
	}
	ok(good && server_count(203) == 21 && server.token_requests == n + 1,
	   "401 for ever: answered with 401, no storm of token requests");
	server.always_401 = 0;
	http_endpoint_release(endpoint);

	/* many requests wait for one token */
	server.token_delay_ms = 100;
	endpoint = endpoint_of(&options);
	n = server.token_requests;
	for (i = 0; i < 50; i++)
		http_loop_submit(loop, http_request_create(endpoint, "GET", "/api", NULL, NULL, 0, NULL));
	for (i = 0, good = true; i < 50; i++)
	{
		request = next_done();
		good = good && http_request_answer(request)->status == 200;
		http_request_free(request);
	}
	ok(good && server.token_requests == n + 1, "50 requests wait for one token");
	server.generation = 3;
	for (i = 0; i < 50; i++)
		http_loop_submit(loop, http_request_create(endpoint, "GET", "/api?id=210", NULL, NULL, 0, NULL));
	for (i = 0, good = true; i < 50; i++)
	{
		request = next_done();
		good = good && http_request_answer(request)->status == 200;
		http_request_free(request);
	}
	ok(good && server.token_requests == n + 2, "50 requests with a stale token renew it once");
	server.token_delay_ms = 0;
	http_endpoint_release(endpoint);

	/* secret in the body; lifetime in a string; relative token URL */
	options.auth = HTTP_AUTH_CLIENT_SECRET_POST;
	options.token_url = "/token?x=y";
	server.expires_in = "\"1\"";
	endpoint = endpoint_of(&options);
	n = server.token_requests;
	expect(endpoint, "GET", "/api", NULL, HTTP_ANSWERED, 200, NULL);
	ok(strstr(server.last_token_request, "&client_id=my+id%3A1&client_secret=s%25ecret%2F%2B") != NULL &&
	   strstr(server.last_token_request, "Authorization") == NULL &&
	   strncmp(server.last_token_request, "POST /token?x=y ", 16) == 0, "client_secret_post");
	usleep(1100000);
	expect(endpoint, "GET", "/api", NULL, HTTP_ANSWERED, 200, NULL);
	ok(server.token_requests == n + 2, "a token that expired is renewed before it is used");
	http_endpoint_release(endpoint);

	/* no token to be had */
	server.expires_in = NULL;
	server.token_status = 401;
	endpoint = endpoint_of(&options);
	n = server.token_requests;
	for (i = 0; i < 10; i++)
		http_loop_submit(loop, http_request_create(endpoint, "POST", "/api?id=220", "application/json", "{}", 2, NULL));
	for (i = 0, good = true; i < 10; i++)
	{
		request = next_done();
		answer = http_request_answer(request);
		good = good && answer->outcome == HTTP_NOT_SENT && answer->auth_failed &&
			answer->auth_status == 401 && strstr(answer->error, "invalid_client") != NULL &&
			strstr(answer->error, "hunter2") == NULL;
		http_request_free(request);
	}
	ok(good && server_count(220) == 0 && server.token_requests == n + 1,
	   "a failed token request ends those that wait");
	request = call(endpoint, "POST", "/api?id=220", "{}", false);
	ok(http_request_answer(request)->auth_failed && server.token_requests == n + 1,
	   "no other token request at once");
	http_request_free(request);
	usleep(1100000);
	server.token_status = 200;
	expect(endpoint, "POST", "/api?id=221", "{}", HTTP_ANSWERED, 200, NULL);
	http_endpoint_release(endpoint);

	{
		static const char *const bodies[] = {
			"", "{}", "[]", "nonsense", "{\"access_token\":5}", "{\"access_token\":\"\"}",
			"{\"access_token\":\"a b\"}", "{\"access_token\":\"a\\r\\nX: y\"}",
			"{\"access_token\":\"a\\u0000b\"}", "{\"access_token\":\"a\",\"access_token\":\"b\"}",
			"{\"access_token\":\"a\",\"token_type\":\"mac\"}", "\"a\"", "null"
		};

		for (i = 0; i < (int) (sizeof(bodies) / sizeof(bodies[0])); i++)
		{
			char		name[100];

			server.token_body = bodies[i];
			endpoint = endpoint_of(&options);
			request = call(endpoint, "POST", "/api", "{}", false);
			answer = http_request_answer(request);
			snprintf(name, sizeof(name), "token answer %.60s", bodies[i]);
			ok(answer->outcome == HTTP_NOT_SENT && answer->auth_failed, name);
			http_request_free(request);
			http_endpoint_release(endpoint);
		}
		server.token_body = NULL;
	}
	options.token_url = "/close";
	endpoint = endpoint_of(&options);
	expect(endpoint, "POST", "/api", "{}", HTTP_NOT_SENT, 0, "access token");
	http_endpoint_release(endpoint);
	options.token_url = "http://127.0.0.1:1/";
	endpoint = endpoint_of(&options);
	expect(endpoint, "POST", "/api", "{}", HTTP_NOT_SENT, 0, "access token");
	http_endpoint_release(endpoint);
}

static void
test_freeing(void)
{
	HttpEndpointOptions options = plain_options();
	HttpEndpoint *endpoint = endpoint_of(&options);
	HttpRequest *requests[40];
	char		error[100];
	int			i;

	/* waiting, running and done ones */
	for (i = 0; i < 40; i++)
	{
		requests[i] = http_request_create(endpoint, "GET", i % 2 ? "/silent" : "/ok",
										  NULL, NULL, 0, NULL);
		http_loop_submit(loop, requests[i]);
	}
	http_request_free(requests[0]);
	spin(100 * slowness);
	http_request_free(requests[1]);
	http_request_free(requests[2]);
	ok(http_loop_in_flight(loop) == 19, "requests may be freed at any time");
	for (i = 3; i < 40; i++)
		http_request_free(requests[i]);
	ok(http_loop_in_flight(loop) == 0 && http_loop_next_done(loop) == NULL, "all gone");

	/* with a token under way */
	options.auth = HTTP_AUTH_CLIENT_SECRET_POST;
	options.client_id = "a";
	options.client_secret = "b";
	options.token_url = "/silent";
	http_endpoint_release(endpoint);
	endpoint = endpoint_of(&options);
	requests[0] = http_request_create(endpoint, "GET", "/api", NULL, NULL, 0, NULL);
	http_loop_submit(loop, requests[0]);
	http_endpoint_release(endpoint);
	spin(50);
	http_request_free(requests[0]);
	endpoint = endpoint_of(&options);
	requests[1] = http_request_create(endpoint, "GET", "/api", NULL, NULL, 0, NULL);
	http_loop_submit(loop, requests[1]);
	spin(50);

	/* the loop goes first */
	http_loop_destroy(loop);
	loop = http_loop_create(64, error, sizeof(error));
	ok(loop != NULL, "another loop");
	http_loop_submit(loop, requests[1]);
	spin(50);
	ok(http_loop_in_flight(loop) == 1, "a request may go to another loop when its loop has gone");
	http_request_free(requests[1]);
	http_endpoint_release(endpoint);
}

static void
test_many(void)
{
	HttpEndpointOptions options = plain_options();
	HttpEndpoint *endpoint;
	HttpEndpoint *other;
	int			i;
	int			answered = 0;
	bool		once = true;
	bool		slow_first = false;
	char		path[100];

	/* 2,000 / 64 * 20 ms is twice that */
	options.timeout_ms = 300 * slowness;
	server.slow_ms = 20 * slowness;
	endpoint = endpoint_of(&options);
	usleep(100000);
	server.max_connections = server.open_connections;
	for (i = 0; i < 2000; i++)
	{
		snprintf(path, sizeof(path), "/slow?id=%d", 1000 + i);
		http_loop_submit(loop, http_request_create(endpoint, "POST", path, "application/json",
												   "{}", 2, NULL));
	}
	ok(http_loop_in_flight(loop) == 2000, "2,000 requests under way");

	/* another endpoint does not stand behind all of them */
	other = endpoint_of(&options);
	http_loop_submit(loop, http_request_create(other, "GET", "/ok?id=900", NULL, NULL, 0, other));
	for (i = 0; i < 2001; i++)
	{
		HttpRequest *request = next_done();

		if (http_request_answer(request)->outcome == HTTP_ANSWERED)
			answered++;
		if (http_request_owner(request) == other && i < 400)
			slow_first = true;
		http_request_free(request);
	}
	for (i = 0; i < 2000; i++)
		once = once && server_count(1000 + i) == 1;
	ok(answered == 2001, "all answered: the time-out does not run while they wait");
	ok(once, "each received once");
	ok(slow_first, "endpoints take turns");
	ok(server.max_connections <= 64 + 16, "no more than 64 connections");
	printf("# %d connections at most\n", server.max_connections);
	http_endpoint_release(endpoint);
	http_endpoint_release(other);
}

/* one control request to the simulator; returns the status */
static int
control(HttpEndpoint *endpoint, const char *what, const char *body)
{
	char		path[100];
	HttpRequest *request;
	int			status;

	snprintf(path, sizeof(path), "/control/%s", what);
	request = call(endpoint, body != NULL ? "POST" : "GET", path, body, false);
	status = http_request_answer(request)->status;
	if (status >= 300)
		printf("# %s: %s\n", what, http_request_answer(request)->body);
	http_request_free(request);
	return status;
}

/* a fault of the simulator and what becomes of a request */
static void
expect_fault(HttpEndpoint *admin, HttpEndpoint *endpoint, const char *fault,
			 HttpOutcome outcome, int status)
{
	static int	n = 0;
	char		body[300];
	HttpRequest *request;
	const HttpAnswer *answer;
	bool		good;

	snprintf(body, sizeof(body), "{\"server\":\"main\",\"method\":\"POST\",\"count\":1,%s}", fault);
	control(admin, "fault", body);
	snprintf(body, sizeof(body), "{\"esimProfile\":{\"iccid\":\"8900000000000000%04d\"}}", n++);
	request = call(endpoint, "POST", "/enable", body, false);
	answer = http_request_answer(request);
	good = answer->outcome == outcome && answer->status == status;
	snprintf(body, sizeof(body), "simulator: %s: %s %d", fault, outcome_names[outcome], status);
	ok(good, body);
	if (!good)
		printf("# got %s %d \"%s\"\n", outcome_names[answer->outcome], answer->status,
			   answer->error);
	http_request_free(request);
}

static void
test_simulator(void)
{
	HttpEndpointOptions options = plain_options();
	HttpEndpoint *admin;
	HttpEndpoint *endpoint;
	HttpRequest *request;
	char		line[200];
	char		body[200];
	int			i;
	bool		good;

	if (!simulator_start("--accept-unknown-iccid"))
	{
		skip("the simulator", "not built");
		return;
	}
	options.base_url = simulator_url;
	options.timeout_ms = 1000 * slowness;
	admin = endpoint_of(&options);
	ok(control(admin, "config", "{\"server\":\"main\",\"auth\":{\"client_id\":\"me\","
			   "\"client_secret\":\"s:e&c r%t\"}}") == 200, "simulator: tokens wanted");
	snprintf(line, sizeof(line), "%s/main/esim-profile-management/vwip/", simulator_url);
	options.base_url = line;
	options.auth = HTTP_AUTH_CLIENT_SECRET_BASIC;
	options.client_id = "me";
	options.client_secret = "s:e&c r%t";
	options.token_url = "/main/oauth2/token";
	for (i = 0; i < 2; i++)
	{
		endpoint = endpoint_of(&options);
		snprintf(body, sizeof(body), "{\"esimProfile\":{\"iccid\":\"890000000000000100%d\"}}", i);
		expect(endpoint, "POST", "/enable", body, HTTP_ANSWERED, 202, NULL);
		if (i == 0)
			http_endpoint_release(endpoint);
		options.auth = HTTP_AUTH_CLIENT_SECRET_POST;
	}

	control(admin, "config", "{\"server\":\"main\",\"expire_tokens\":true}");
	for (i = 0; i < 200; i++)
	{
		snprintf(body, sizeof(body), "{\"esimProfile\":{\"iccid\":\"8900000000000002%03d\"}}", i);
		http_loop_submit(loop, http_request_create(endpoint, "POST", "/enable", "application/json",
												   body, strlen(body), NULL));
	}
	for (i = 0, good = true; i < 200; i++)
	{
		request = next_done();
		good = good && http_request_answer(request)->status == 202 &&
			http_request_answer(request)->location != NULL;
		http_request_free(request);
	}
	ok(good, "simulator: 200 requests with an expired token");
	request = call(admin, "GET", "/control/ledger", NULL, true);
	ok(strstr(http_request_answer(request)->body, "\"repeats\":0") != NULL &&
	   strstr(http_request_answer(request)->body, "\"double_effects\":0") != NULL,
	   "simulator: no repeats");
	http_request_free(request);

	expect_fault(admin, endpoint, "\"fault\":\"reset_before_effect\"", HTTP_LOST, 0);
	expect_fault(admin, endpoint, "\"fault\":\"reset_after_effect\"", HTTP_LOST, 0);
	expect_fault(admin, endpoint, "\"fault\":\"timeout_after_effect\"", HTTP_LOST, 0);
	expect_fault(admin, endpoint, "\"fault\":\"status\",\"status\":503,\"retry_after\":3", HTTP_ANSWERED, 503);
	expect_fault(admin, endpoint, "\"fault\":\"truncated_json\"", HTTP_ANSWERED, 202);
	expect_fault(admin, endpoint, "\"fault\":\"oversized_json\",\"bytes\":1000000", HTTP_BAD_ANSWER, 202);
	expect_fault(admin, endpoint, "\"fault\":\"endless_body\"", HTTP_BAD_ANSWER, 202);
	expect_fault(admin, endpoint, "\"fault\":\"slow_drip\",\"rate\":20", HTTP_BAD_ANSWER, 202);
	expect_fault(admin, endpoint, "\"fault\":\"token_expired\"", HTTP_ANSWERED, 202);
	expect_fault(admin, endpoint, "\"fault\":\"redirect\"", HTTP_ANSWERED, 307);
	http_endpoint_release(endpoint);
	http_endpoint_release(admin);
	simulator_stop();
}

/* POST and GET in turn, as the worker does; prints requests per second */
static int
bench(const char *url, int requests, int connections)
{
	HttpEndpointOptions options = plain_options();
	HttpEndpoint *endpoint;
	char		error[200];
	int			submitted = 0;
	int			done = 0;
	int			bad = 0;
	int64_t		begin;
	int64_t		end;
	struct rusage usage;
	double		cpu;
	static const char body[] = "{\"eid\":\"89049032000000000000000000000001\",\"iccid\":\"8901234567890123456\"}";

	options.base_url = url;
	options.verify = false;
	endpoint = endpoint_of(&options);
	loop = http_loop_create(connections, error, sizeof(error));
	begin = now_ms();
	while (done < requests)
	{
		HttpRequest *request;

		while (submitted < requests && http_loop_in_flight(loop) < 4 * connections)
		{
			bool		post = submitted % 2 == 0;

			request = http_request_create(endpoint, post ? "POST" : "GET", "/bench/x",
										  post ? "application/json" : NULL,
										  post ? body : NULL, post ? sizeof(body) - 1 : 0, NULL);
			http_request_header(request, "x-correlator", "0190a5a0-0000-7000-8000-000000000001");
			if (!post)
				http_request_asks_only(request);
			http_loop_submit(loop, request);
			submitted++;
		}
		http_loop_run(loop);
		if ((request = http_loop_next_done(loop)) == NULL)
		{
			struct pollfd poll_fd = {http_loop_fd(loop), POLLIN, 0};
			long		timeout = http_loop_timeout(loop);

			poll(&poll_fd, 1, timeout < 0 || timeout > 1000 ? 1000 : (int) timeout);
			continue;
		}
		do
		{
			if (http_request_answer(request)->outcome != HTTP_ANSWERED)
			{
				if (bad++ == 0)
					printf("# %s\n", http_request_answer(request)->error);
			}
			http_request_free(request);
			done++;
		} while ((request = http_loop_next_done(loop)) != NULL);
	}
	end = now_ms();
	getrusage(RUSAGE_SELF, &usage);
	cpu = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
		(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
	printf("%d requests, %d bad, %.0f requests/s, %.0f requests/s of CPU (user %.2f s, system %.2f s)\n",
		   requests, bad, requests * 1000.0 / (end - begin), requests / cpu,
		   usage.ru_utime.tv_sec + usage.ru_utime.tv_usec / 1e6,
		   usage.ru_stime.tv_sec + usage.ru_stime.tv_usec / 1e6);
	http_endpoint_release(endpoint);
	http_loop_destroy(loop);
	return bad != 0;
}

int
main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "bench") == 0)
		return bench(argv[2], atoi(argv[3]), atoi(argv[4]));

	if (getenv("ESIM_TEST_SLOW") != NULL)
		slowness = atoi(getenv("ESIM_TEST_SLOW"));
	scratch_make();
	setenv("http_proxy", "http://127.0.0.1:1/", 1);
	setenv("https_proxy", "http://127.0.0.1:1/", 1);
	setenv("ALL_PROXY", "http://127.0.0.1:1/", 1);
	plain_port = server_start(NULL, NULL, NULL);
	loop_start(64);
	ok(http_loop_timeout(loop) == -1 && http_loop_next_done(loop) == NULL, "an empty loop");
	test_endpoints();
	test_options();
	test_requests();
	test_bad_answers();
	test_dead_connections();
	test_not_sent();
	test_tls();
	test_fixed_credentials();
	test_tokens();
	test_freeing();
	test_many();
	test_simulator();
	http_loop_destroy(loop);
	scratch_remove();
	return finish();
}
