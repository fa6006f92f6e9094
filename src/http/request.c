/*-------------------------------------------------------------------------
 *
 * request.c
 *	  One HTTP request: what is sent, how its answer is read and judged.
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "http_internal.h"

/* Headers of a usual request find room behind the request itself. */
#define HEADER_ROOM		448

/* Retry-After is cut to a year. */
#define MAX_RETRY_AFTER_S	(365L * 86400L)

static char no_body[1];

/* a header that did not fit into the request's own block */
typedef struct HeaderBlock
{
	struct HeaderBlock *next;
	char		data[];
} HeaderBlock;

static bool
is_token_char(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		(c >= '0' && c <= '9') || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool
is_token(const char *text)
{
	if (*text == '\0')
		return false;
	for (; *text; text++)
	{
		if (!is_token_char((unsigned char) *text))
			return false;
	}
	return true;
}

static bool
is_target(const char *text)
{
	for (; *text; text++)
	{
		if ((unsigned char) *text <= 0x20 || (unsigned char) *text >= 0x7f ||
			*text == '#')
			return false;
	}
	return true;
}

static void
clear_answer(HttpRequest *request)
{
	HttpAnswer *answer = &request->answer;
	int			tries = answer->tries;

	if (answer->body != no_body)
	{
		if (request->token_for != NULL)
			http_wipe_free(answer->body, request->body_size);
		else
			free(answer->body);
	}
	free(answer->content_type);
	free(answer->location);
	memset(answer, 0, sizeof(HttpAnswer));
	answer->body = no_body;
	answer->retry_after_ms = -1;
	answer->outcome = HTTP_NOT_SENT;
	answer->tries = tries;
	request->body_size = 0;
}

/* room for one header: a list element and its text */
static struct curl_slist *
header_alloc(HttpRequest *request, size_t size)
{
	size_t		need = (sizeof(struct curl_slist) + size + 7) & ~(size_t) 7;
	HeaderBlock *block;

	if (need <= request->room_left)
	{
		struct curl_slist *header = (struct curl_slist *) request->room;

		request->room += need;
		request->room_left -= need;
		header->data = (char *) (header + 1);
		return header;
	}
	block = malloc(sizeof(HeaderBlock) + need);
	if (block == NULL)
		return NULL;
	block->next = request->blocks;
	request->blocks = block;
	((struct curl_slist *) block->data)->data =
		block->data + sizeof(struct curl_slist);
	return (struct curl_slist *) block->data;
}

static bool
add_header(HttpRequest *request, const char *name, const char *separator,
		   const char *value)
{
	size_t		name_length = strlen(name);
	size_t		separator_length = strlen(separator);
	size_t		value_length = strlen(value);
	struct curl_slist *header;
	char	   *to;

	header = header_alloc(request, name_length + separator_length +
						  value_length + 1);
	if (header == NULL)
		return false;
	to = header->data;
	memcpy(to, name, name_length);
	memcpy(to + name_length, separator, separator_length);
	memcpy(to + name_length + separator_length, value, value_length + 1);
	header->next = &http_last_header;
	*request->headers_end = header;
	request->headers_end = &header->next;
	return true;
}

/*
 * See http.h.  One block holds the request, its URL, its body and its headers.
 */
HttpRequest *
http_request_create(HttpEndpoint *endpoint, const char *method,
					const char *path, const char *content_type,
					const char *body, size_t length, void *owner)
{
	size_t		base_length = strlen(endpoint->base);
	size_t		path_length = strlen(path);
	size_t		method_length = strlen(method);
	size_t		size;
	HttpRequest *request;
	char	   *at;

	if (body == NULL)
		length = 0;
	if (length > SIZE_MAX / 2)
		return NULL;
	size = sizeof(HttpRequest) + HEADER_ROOM + method_length + 1 +
		base_length + path_length + 2 + length + 1;
	request = malloc(size);
	if (request == NULL)
		return NULL;
	memset(request, 0, sizeof(HttpRequest));
	request->endpoint = endpoint;
	http_endpoint_retain(endpoint);
	request->owner = owner;
	request->size = size;
	request->headers = &http_last_header;
	request->headers_end = &request->headers;
	request->answer.body = no_body;
	clear_answer(request);

	at = (char *) (request + 1);
	request->room = at;
	request->room_left = HEADER_ROOM;
	at += HEADER_ROOM;
	memcpy(at, method, method_length + 1);
	request->method = at;
	at += method_length + 1;
	memcpy(at, endpoint->base, base_length);

	/* a URL always has a path in front of its query */
	if (endpoint->target == base_length && *path != '/')
	{
		request->url = at;
		at[base_length] = '/';
		memcpy(at + base_length + 1, path, path_length + 1);
		at++;
	}
	else
	{
		request->url = at;
		memcpy(at + base_length, path, path_length + 1);
	}
	at += base_length + path_length + 1;
	if (body != NULL)
	{
		memcpy(at, body, length);
		at[length] = '\0';
		request->body = at;
		request->length = length;
	}

	if (!is_token(method))
		request->refused = "the method is not valid";
	else if (!is_target(path) || (*path != '\0' && *path != '/' && *path != '?'))
		request->refused = "the path is not valid";
	else if (content_type != NULL &&
			 !http_request_header(request, "Content-Type", content_type))
		request->refused = "the content type is not valid";

	/* else libcurl would call it a form */
	else if (content_type == NULL && !add_header(request, "Content-Type", ":", ""))
		request->refused = "out of memory";
	return request;
}

void
http_request_asks_only(HttpRequest *request)
{
	request->asks_only = true;
}

bool
http_request_header(HttpRequest *request, const char *name, const char *value)
{
	const char *c;

	if (!is_token(name))
		return false;
	for (c = value; *c; c++)
	{
		if ((unsigned char) *c < 0x20 || (unsigned char) *c == 0x7f)
			return false;
	}
	while (*value == ' ')
		value++;

	/* libcurl's way of writing an empty header */
	if (*value == '\0')
		return add_header(request, name, ";", "");
	return add_header(request, name, ": ", value);
}

bool
http_request_bearer(HttpRequest *request, const char *token)
{
	const char *c;

	if (*token == '\0')
		return false;
	for (c = token; *c; c++)
	{
		if ((unsigned char) *c <= 0x20 || (unsigned char) *c >= 0x7f)
			return false;
	}
	http_credential_release(request->credential);
	request->credential = http_credential_create("Bearer", token);
	request->own_credential = true;
	return request->credential != NULL;
}

void *
http_request_owner(const HttpRequest *request)
{
	return request->owner;
}

const char *
http_request_url(const HttpRequest *request)
{
	return request->url;
}

const HttpAnswer *
http_request_answer(const HttpRequest *request)
{
	return &request->answer;
}

/*
 * Sets what differs from request to request, and begins a new try.  False: no
 * memory.
 */
bool
http_request_prepare(HttpRequest *request, HttpHandle *handle)
{
	CURL	   *easy = handle->easy;
	CURLcode	rc;

	clear_answer(request);
	request->answer.tries++;
	if (request->answer.tries == 1)
		request->started_us = http_now_us();
	request->begun = false;
	request->stale_now = false;
	request->repeat_refused = false;
	request->address_refused = false;
	request->too_large = false;
	request->bad_headers = false;
	request->in_body = false;
	request->header_bytes = 0;
	request->header_lines = 0;
	request->content_length = 0;
	request->retry_after_date = 0;
	request->peer_date = 0;
	handle->request = request;
	handle->error[0] = '\0';

	*request->headers_end = request->credential != NULL ?
		&request->credential->header : &http_last_header;
	rc = curl_easy_setopt(easy, CURLOPT_HTTPHEADER, request->headers);
	if (rc == CURLE_OK)
		rc = curl_easy_setopt(easy, CURLOPT_REQUEST_TARGET,
							  request->url + request->endpoint->target);
	if (handle->asks_only != request->asks_only && rc == CURLE_OK)
	{
		handle->asks_only = request->asks_only;
		rc = curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long)
							  (request->asks_only ? HTTP_IDLE_S_ASK : HTTP_IDLE_S_ACT));
	}

	if (rc != CURLE_OK)
		return false;
	if (request->body != NULL || strcmp(request->method, "POST") == 0 ||
		strcmp(request->method, "PUT") == 0 || strcmp(request->method, "PATCH") == 0)
	{
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
						 (curl_off_t) request->length);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS,
						 request->body != NULL ? request->body : "");
		rc = curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST,
							  strcmp(request->method, "POST") == 0 ?
							  NULL : request->method);
	}
	else if (strcmp(request->method, "HEAD") == 0)
	{
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, NULL);
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	}
	else
	{
		curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
		rc = curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST,
							  strcmp(request->method, "GET") == 0 ?
							  NULL : request->method);
	}
	return rc == CURLE_OK;
}

/* leaves the crowd of those that look for a connection */
void
http_request_connected(HttpRequest *request)
{
	if (request->connecting)
	{
		request->connecting = false;
		request->endpoint->connecting--;
	}
}

/*
 * Is there something to read on a kept connection?  A peer that gives up an
 * idle connection may say so with a 408 that nobody asked for; it must not be
 * taken for the answer to the next request.
 */
static bool
is_stale(HttpHandle *handle, const char *remote_ip, const char *local_ip,
		 int remote_port, int local_port)
{
	long		connects = 1;
	char		c;
	ssize_t		n;
	int			fd;

	if (curl_easy_getinfo(handle->easy, CURLINFO_NUM_CONNECTS, &connects) != CURLE_OK ||
		connects != 0)
		return false;
	fd = http_loop_find_socket(handle->loop, remote_ip, local_ip, remote_port, local_port);
	if (fd < 0)
		return false;
	n = recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);
	return n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

/*
 * libcurl calls this each time that it has a connection and is about to write
 * the request.  libcurl repeats requests, POSTs too, when a kept connection
 * dies before a byte of the answer: a request that acts goes no second time if
 * a byte of it has left.
 */
int
http_on_connected(void *arg, char *remote_ip, char *local_ip,
				  int remote_port, int local_port)
{
	HttpHandle *handle = arg;
	HttpRequest *request = handle->request;
	long		sent = 0;

	http_request_connected(request);
	if (request->begun && !request->asks_only &&
		(curl_easy_getinfo(handle->easy, CURLINFO_REQUEST_SIZE, &sent) != CURLE_OK ||
		 sent != 0))
	{
		request->repeat_refused = true;
		return CURL_PREREQFUNC_ABORT;
	}
	if (!request->begun &&
		is_stale(handle, remote_ip, local_ip, remote_port, local_port))
	{
		request->stale++;
		request->stale_now = true;
		return CURL_PREREQFUNC_ABORT;
	}
	request->begun = true;
	return CURL_PREREQFUNC_OK;
}

static void
refuse_headers(HttpRequest *request, const char *why)
{
	request->bad_headers = true;
	request->why = why;
}

/* peers send the same Date many times a second */
static time_t
parse_date(const char *value, size_t length)
{
	static char last[40];
	static time_t last_time;
	char		text[40];

	if (length >= sizeof(text))
		return -1;
	memcpy(text, value, length);
	text[length] = '\0';
	if (strcmp(text, last) == 0)
		return last_time;
	last_time = curl_getdate(text, NULL);
	strcpy(last, text);
	return last_time;
}

/*
 * Keeps a header's value; one with anything but printable ASCII is no media
 * type and no URL and is dropped.
 */
static void
keep_value(char **kept, const char *value, size_t length)
{
	size_t		i;

	for (i = 0; i < length; i++)
	{
		if ((unsigned char) value[i] < 0x20 || (unsigned char) value[i] >= 0x7f)
			return;
	}
	free(*kept);
	*kept = strndup(value, length);
}

/* digits only; -1: not a number; cut to max */
static long
parse_number(const char *value, size_t length, long max)
{
	long		number = 0;
	size_t		i;

	if (length == 0)
		return -1;
	for (i = 0; i < length; i++)
	{
		if (value[i] < '0' || value[i] > '9')
			return -1;
		if (number < max)
			number = number * 10 + (value[i] - '0');
	}
	return number < max ? number : max;
}

static void
read_header(HttpRequest *request, const char *line, size_t length)
{
	HttpAnswer *answer = &request->answer;
	const char *colon = memchr(line, ':', length);
	const char *value;
	size_t		name_length;
	size_t		value_length;
	long		number;

	if (colon == NULL)
		return;
	name_length = colon - line;
	value = colon + 1;
	value_length = length - name_length - 1;
	while (value_length > 0 && (*value == ' ' || *value == '\t'))
	{
		value++;
		value_length--;
	}
	while (value_length > 0 && (value[value_length - 1] == ' ' ||
								value[value_length - 1] == '\t'))
		value_length--;

#define IS(name) \
	(name_length == sizeof(name) - 1 && strncasecmp(line, name, name_length) == 0)

	if (IS("Content-Type"))
		keep_value(&answer->content_type, value, value_length);
	else if (IS("Content-Length"))
	{
		number = parse_number(value, value_length, 1L << 30);
		request->content_length = number > 0 ? number : 0;
	}
	else if (IS("Date"))
	{
		request->peer_date = parse_date(value, value_length);
		if (request->peer_date < 0)
			request->peer_date = 0;
	}
	else if (IS("Location"))
		keep_value(&answer->location, value, value_length);
	else if (IS("Retry-After"))
	{
		number = parse_number(value, value_length, MAX_RETRY_AFTER_S);
		if (number >= 0)
			answer->retry_after_ms = number * 1000;
		else
			request->retry_after_date = parse_date(value, value_length);
	}
#undef IS
}

/*
 * libcurl's header callback: one line at a time, status lines, those of 1xx
 * answers and trailers included.  Anything but n ends the request.
 */
size_t
http_on_header(char *data, size_t size, size_t n, void *arg)
{
	HttpRequest *request = ((HttpHandle *) arg)->request;
	HttpAnswer *answer = &request->answer;
	size_t		length = size * n;

	if (length == 0)
		return 0;
	request->header_bytes += length;
	request->header_lines++;
	if (request->header_bytes > HTTP_MAX_HEADER_BYTES ||
		request->header_lines > HTTP_MAX_HEADER_LINES)
	{
		refuse_headers(request, "the answer has too many headers");
		return 0;
	}
	if (memchr(data, '\0', length) != NULL)
	{
		refuse_headers(request, "a header of the answer has a NUL");
		return 0;
	}
	while (length > 0 && (data[length - 1] == '\n' || data[length - 1] == '\r'))
		length--;

	/* a trailer says nothing that is wanted here */
	if (request->in_body)
		return size * n;

	if (length == 0)
	{
		if (answer->status != 0)
			request->in_body = true;
	}
	else if (answer->status == 0 && length > 5 && strncmp(data, "HTTP/", 5) == 0)
	{
		const char *space = memchr(data, ' ', length);
		size_t		at = space != NULL ? (size_t) (space - data) : length;
		long		status = -1;

		while (at < length && data[at] == ' ')
			at++;
		if (at + 3 <= length && (at + 3 == length || data[at + 3] == ' '))
			status = parse_number(data + at, 3, 1000);
		if (status < 100)
		{
			refuse_headers(request, "the answer has no valid status line");
			return 0;
		}
		if (status == 101)
		{
			refuse_headers(request, "the peer switched protocols unasked");
			return 0;
		}
		if (status >= 200)
			answer->status = (int) status;
	}
	else if (answer->status != 0)
		read_header(request, data, length);
	return size * n;
}

/*
 * libcurl's body callback.
 */
size_t
http_on_body(char *data, size_t size, size_t n, void *arg)
{
	HttpRequest *request = ((HttpHandle *) arg)->request;
	HttpAnswer *answer = &request->answer;
	size_t		max = request->endpoint->max_answer;
	size_t		length = size * n;

	if (length > max - answer->length)
	{
		request->too_large = true;
		return 0;
	}
	if (answer->length + length + 1 > request->body_size)
	{
		size_t		want = answer->length + length;
		char	   *body;

		if (request->content_length > want && request->content_length <= max &&
			answer->length == 0)
			want = request->content_length;
		else if (answer->length > 0 && want < 2 * answer->length)
			want = 2 * answer->length;
		if (request->token_for != NULL)
		{
			/* what held a token is not left behind */
			body = malloc(want + 1);
			if (body != NULL && answer->length > 0)
				memcpy(body, answer->body, answer->length);
			if (body != NULL && answer->body != no_body)
				http_wipe_free(answer->body, request->body_size);
		}
		else
			body = realloc(answer->body != no_body ? answer->body : NULL,
						   want + 1);
		if (body == NULL)
			return 0;
		answer->body = body;
		request->body_size = want + 1;
	}
	memcpy(answer->body + answer->length, data, length);
	answer->length += length;
	answer->body[answer->length] = '\0';
	return length;
}

/* one line of printable ASCII */
static void
clean_line(char *text)
{
	size_t		length = strlen(text);

	while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == ' ' ||
						  text[length - 1] == '.'))
		text[--length] = '\0';
	for (; *text; text++)
	{
		if ((unsigned char) *text < 0x20 || (unsigned char) *text >= 0x7f)
			*text = '?';
	}
}

/* a TLS connection made for this request, on which nothing was heard */
static bool
is_fresh_tls(const HttpRequest *request)
{
	long		connects = 0;

	return request->endpoint->origin[4] == 's' && request->header_bytes == 0 &&
		curl_easy_getinfo(request->handle->easy, CURLINFO_NUM_CONNECTS,
						  &connects) == CURLE_OK && connects == 1;
}

/*
 * The peer refused our certificate (TLS 1.3: it says so only after we have
 * sent the request, but before it has taken it in).
 */
static bool
is_client_cert_alert(const HttpRequest *request, const char *reason)
{
	return is_fresh_tls(request) && strstr(reason, " alert ") != NULL &&
		(strstr(reason, "certificate") != NULL ||
		 strstr(reason, "alert unknown ca") != NULL ||
		 strstr(reason, "alert access denied") != NULL);
}

/*
 * Why there is no TLS with the peer, by what libcurl and OpenSSL say.  An alert
 * is the peer's word, so one about a certificate is about ours.
 */
static const char *
tls_reason(const HttpRequest *request, CURLcode result)
{
	static const struct
	{
		const char *part;
		bool		ours;		/* about our certificate */
		const char *reason;
	}			alerts[] = {
		{"alert certificate required", true, "the server asks for a client certificate"},
		{"alert certificate expired", true, "the server says that the client certificate has expired"},
		{"alert certificate revoked", true, "the server says that the client certificate was revoked"},
		{"alert unknown ca", true, "the server does not trust the client certificate"},
		{"certificate", true, "the server does not accept the client certificate"},
		{"alert access denied", true, "the server does not accept the client certificate"},
		{"protocol version", false, "the server has no TLS version that is accepted"},
		{"", false, "the server ended the TLS handshake"},
	},			others[] = {
		{"unsupported protocol", false, "the server has no TLS version that is accepted"},
		{"no protocols available", false, "the server has no TLS version that is accepted"},
		{"version too low", false, "the server has no TLS version that is accepted"},
		{"wrong version number", false, "the server does not speak TLS"},
		{"packet length too long", false, "the server does not speak TLS"},
		{"SSL_ERROR_SYSCALL", false, "the server broke off the TLS handshake"},
		{"eset by peer", false, "the server broke off the TLS handshake"},
		{"unexpected eof", false, "the server broke off the TLS handshake"},
		{"", false, "the TLS handshake failed"},
	};
	const char *said = request->handle->error;
	int			i;

	switch (result)
	{
		case CURLE_PEER_FAILED_VERIFICATION:
			if (strstr(said, "expired") != NULL)
				return "the server's certificate has expired";
			if (strstr(said, "not yet valid") != NULL)
				return "the server's certificate is not valid yet";
			if (strstr(said, "subject name") != NULL)
				return "the server's certificate is for another host name";
			return "the server's certificate is not trusted";
		case CURLE_SSL_CACERT_BADFILE:
			return "the CA certificates cannot be used";
		case CURLE_SSL_CERTPROBLEM:
			return "the client certificate or its key cannot be used";
		default:
			break;
	}
	if (strstr(said, " alert ") != NULL)
	{
		for (i = 0; strstr(said, alerts[i].part) == NULL; i++)
			;
		return alerts[i].ours && request->endpoint->client_cert == NULL ?
			alerts[0].reason : alerts[i].reason;
	}
	for (i = 0; strstr(said, others[i].part) == NULL; i++)
		;
	return others[i].reason;
}

static void
explain(HttpRequest *request, CURLcode result)
{
	HttpAnswer *answer = &request->answer;
	HttpEndpoint *endpoint = request->endpoint;
	char		reason[CURL_ERROR_SIZE];
	const char *detail;
	long		os_errno = 0;

	detail = request->handle->error;

	/* libcurl keeps the first message, and this one is beside the point */
	if (*detail == '\0' || strncmp(detail, "getpeername()", 13) == 0)
		detail = curl_easy_strerror(result);
	snprintf(reason, sizeof(reason), "%s", detail);
	clean_line(reason);

#define SAY(...) \
	snprintf(answer->error, sizeof(answer->error), __VA_ARGS__)

	if (request->too_large || result == CURLE_FILESIZE_EXCEEDED)
		SAY("the answer has more than %zu bytes", endpoint->max_answer);
	else if (request->bad_headers)
		SAY("%s", request->why);
	else if (request->stale_now)
		SAY("kept connections to %s port %s were closed", endpoint->host,
			endpoint->port);
	else if (request->repeat_refused)
		SAY("the connection to %s port %s was closed before an answer came",
			endpoint->host, endpoint->port);
	else if (request->address_refused && result == CURLE_COULDNT_CONNECT)
		SAY("the address of %s is not one that may be connected to",
			endpoint->host);
	else
	{
		switch (result)
		{
			case CURLE_COULDNT_RESOLVE_HOST:
				SAY("could not resolve host name \"%s\"", endpoint->host);
				break;
			case CURLE_COULDNT_CONNECT:
				curl_easy_getinfo(request->handle->easy, CURLINFO_OS_ERRNO,
								  &os_errno);
				SAY("could not connect to %s port %s: %.120s", endpoint->host,
					endpoint->port, os_errno != 0 ? strerror((int) os_errno) : reason);
				break;
			case CURLE_OPERATION_TIMEDOUT:
				if (!request->begun)
					SAY("could not connect to %s port %s: timed out",
						endpoint->host, endpoint->port);
				else if (answer->status == 0)
					SAY("no answer from %s port %s within %ld ms",
						endpoint->host, endpoint->port, endpoint->timeout_ms);
				else
					SAY("no whole answer from %s port %s within %ld ms",
						endpoint->host, endpoint->port, endpoint->timeout_ms);
				break;
			case CURLE_PEER_FAILED_VERIFICATION:
				detail = strstr(reason, "problem: ");
				SAY("the certificate of %s port %s was not accepted: %.120s",
					endpoint->host, endpoint->port,
					detail != NULL ? detail + 9 : reason);
				break;
			case CURLE_SSL_CACERT_BADFILE:
				SAY("the CA certificates cannot be used");
				break;
			case CURLE_SSL_CERTPROBLEM:
				SAY("the client certificate or its key cannot be used");
				break;
			case CURLE_PARTIAL_FILE:
				SAY("the answer from %s port %s was broken off",
					endpoint->host, endpoint->port);
				break;
			case CURLE_GOT_NOTHING:
				SAY("the connection to %s port %s was closed before an answer came",
					endpoint->host, endpoint->port);
				break;
			case CURLE_SSL_CONNECT_ERROR:
				SAY("TLS handshake with %s port %s failed: %.120s",
					endpoint->host, endpoint->port, reason);
				break;
			default:
				SAY("request to %s port %s failed: %.120s",
					endpoint->host, endpoint->port, reason);
				break;
		}
	}
	clean_line(answer->error);
#undef SAY
}

/*
 * The try is over with curl's result: fills the answer.  Its handle is still
 * there.
 */
void
http_request_judge(HttpRequest *request, CURLcode result)
{
	HttpAnswer *answer = &request->answer;
	int64_t		duration = (http_now_us() - request->started_us + 500) / 1000;
	long		sent = 0;

	http_request_connected(request);
	answer->duration_ms = duration < INT32_MAX ? (int) duration : INT32_MAX;
	if (request->peer_date != 0)
		answer->date_skew_ms = (long) (request->peer_date - time(NULL)) * 1000L;
	if (request->retry_after_date > 0 && answer->retry_after_ms < 0)
	{
		long		delay = (long) (request->retry_after_date -
									(request->peer_date != 0 ?
									 request->peer_date : time(NULL)));

		if (delay < 0)
			delay = 0;
		if (delay > MAX_RETRY_AFTER_S)
			delay = MAX_RETRY_AFTER_S;
		answer->retry_after_ms = delay * 1000L;
	}

	/* libcurl lets an answer pass that was cut within its headers */
	if (result == CURLE_OK && answer->status != 0 && request->in_body)
	{
		answer->outcome = HTTP_ANSWERED;
		return;
	}
	if (result == CURLE_OK)
		result = CURLE_PARTIAL_FILE;
	/* what later releases of libcurl call a key that does not fit, such as 8.23 */
	if (result == CURLE_BAD_FUNCTION_ARGUMENT && request->endpoint->client_cert != NULL && !request->begun)
		result = CURLE_SSL_CERTPROBLEM;
	explain(request, result);
	answer->address_refused = request->address_refused && result == CURLE_COULDNT_CONNECT;
	if (answer->status != 0)
	{
		answer->outcome = HTTP_BAD_ANSWER;
		return;
	}

	/*
	 * Not a byte was given to the connection, or there was none.  With TLS
	 * more than one record can have left before libcurl counts it.
	 */
	answer->outcome = HTTP_LOST;
	if (!request->begun)
		answer->outcome = HTTP_NOT_SENT;
	else if (request->header_bytes == 0 && request->length < 8192 &&
			 curl_easy_getinfo(request->handle->easy, CURLINFO_REQUEST_SIZE,
							   &sent) == CURLE_OK && sent == 0)
		answer->outcome = HTTP_NOT_SENT;
	else if (is_client_cert_alert(request, request->handle->error))
	{
		answer->outcome = HTTP_NOT_SENT;
		answer->tls_failed = true;
		answer->tls_reason = tls_reason(request, CURLE_SSL_CONNECT_ERROR);
		snprintf(answer->error, sizeof(answer->error),
				 "%s port %s did not accept the client certificate",
				 request->endpoint->host, request->endpoint->port);
	}
	if (answer->outcome == HTTP_NOT_SENT &&
		(result == CURLE_PEER_FAILED_VERIFICATION ||
		 result == CURLE_SSL_CONNECT_ERROR ||
		 result == CURLE_SSL_CACERT_BADFILE ||
		 result == CURLE_SSL_CERTPROBLEM ||
		 result == CURLE_SSL_ISSUER_ERROR ||
		 result == CURLE_SSL_CIPHER))
	{
		answer->tls_failed = true;
		answer->tls_reason = tls_reason(request, result);
	}

	/*
	 * With TLS 1.3 our part of the handshake ends before the peer has looked at
	 * our certificate.  One that closes the connection then has said why, but
	 * the connection is gone before that can be read.
	 */
	else if (answer->outcome == HTTP_NOT_SENT && result == CURLE_SEND_ERROR &&
			 is_fresh_tls(request))
	{
		answer->tls_failed = true;
		answer->tls_reason = request->endpoint->client_cert != NULL ?
			"the server closed the connection; it seems not to accept the client certificate" :
			"the server closed the connection; it seems to ask for a client certificate";
		snprintf(answer->error, sizeof(answer->error),
				 "%s port %s closed the connection after the TLS handshake",
				 request->endpoint->host, request->endpoint->port);
	}
}

/*
 * Ends the request without it having been tried.
 */
void
http_request_not_sent(HttpRequest *request, const char *reason)
{
	clear_answer(request);
	snprintf(request->answer.error, sizeof(request->answer.error), "%s", reason);
}

/*
 * The request's own memory; http_request_free() has taken it out of its loop.
 */
void
http_request_destroy(HttpRequest *request)
{
	HeaderBlock *block = request->blocks;

	clear_answer(request);
	while (block != NULL)
	{
		HeaderBlock *next = block->next;

		free(block);
		block = next;
	}
	http_credential_release(request->credential);
	http_endpoint_release(request->endpoint);
	if (request->token_for != NULL)
	{
		http_endpoint_release(request->token_for);
		explicit_bzero(request, request->size);
	}
	free(request);
}
