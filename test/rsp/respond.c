/*
 * respond.c
 *		Hands an answer to the HTTP library: whole, in drops, or without end.
 */
#include <poll.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "rspsim.h"

/* A body that is padded to a size: a long first member, then the answer. */
static const char padding_begins[] = "{\"padding\":\"";
static const char padding_ends[] = "\",";

static uint64_t
padded_size(const Request *request)
{
	return sizeof(padding_begins) - 1 + request->fault->bytes + sizeof(padding_ends) - 1 +
		(request->out.length > 0 ? request->out.length - 1 : 0);
}

/* Copies one part of a body that is put together from parts. */
static bool
copy_part(uint64_t *place, uint64_t length, const char *data, char *buffer, size_t max,
		  ssize_t *copied)
{
	if (*place >= length)
	{
		*place -= length;
		return false;
	}
	*copied = length - *place < max ? (ssize_t) (length - *place) : (ssize_t) max;
	if (data != NULL)
		memcpy(buffer, data + *place, *copied);
	else
		memset(buffer, 'a', *copied);
	return true;
}

static ssize_t
read_padded(void *subject, uint64_t place, char *buffer, size_t max)
{
	Request    *request = subject;
	ssize_t		copied;

	if (copy_part(&place, sizeof(padding_begins) - 1, padding_begins, buffer, max, &copied) ||
		copy_part(&place, request->fault->bytes, NULL, buffer, max, &copied) ||
		copy_part(&place, sizeof(padding_ends) - 1, padding_ends, buffer, max, &copied) ||
		(request->out.length > 0 &&
		 copy_part(&place, request->out.length - 1, request->out.data + 1, buffer, max, &copied)))
		return copied;
	return MHD_CONTENT_READER_END_OF_STREAM;
}

/* The first half, then the connection breaks off. */
static ssize_t
read_half(void *subject, uint64_t place, char *buffer, size_t max)
{
	Request    *request = subject;
	uint64_t	half = request->out.length / 2;

	if (place >= half)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (max > half - place)
		max = half - place;
	memcpy(buffer, request->out.data + place, max);
	return max;
}

/* "rate" bytes a second; the connection sleeps between the drops. */
static ssize_t
read_drops(void *subject, uint64_t place, char *buffer, size_t max)
{
	Request    *request = subject;
	uint64_t	due = 1 + (clock_ms() - request->sent_at) * request->fault->rate / 1000;

	if (due > request->out.length)
		due = request->out.length;
	if (place >= due)
	{
		request_suspend(request, request->fault->rate > 50 ? 20 : 1000 / request->fault->rate);
		return 0;
	}
	if (max > due - place)
		max = due - place;
	memcpy(buffer, request->out.data + place, max);
	return max;
}

/* So many informational answers before the answer itself; not over TLS. */
static void
storm(Request *request)
{
	static const char hint[] = "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n";
	struct pollfd wait = {request->socket, POLLOUT, 0};
	uint64_t	i;

	for (i = 0; i < request->fault->bytes; i++)
	{
		size_t		done = 0;

		while (done < sizeof(hint) - 1)
		{
			ssize_t		n = send(request->socket, hint + done, sizeof(hint) - 1 - done,
								 MSG_NOSIGNAL | MSG_DONTWAIT);

			if (n > 0)
				done += n;
			else if (poll(&wait, 1, 100) <= 0 || (wait.revents & (POLLERR | POLLHUP)))
				return;
		}
	}
}

static void
add_fault_headers(struct MHD_Response *response, json_t *headers)
{
	const char *name;
	json_t	   *value;

	json_object_foreach(headers, name, value)
		if (json_is_string(value))
		{
			const char *old = MHD_get_response_header(response, name);

			if (old != NULL)
				MHD_del_response_header(response, name, old);
			MHD_add_response_header(response, name, json_string_value(value));
		}
}

enum MHD_Result
respond(Request *request)
{
	const Fault *fault = request->fault;
	struct MHD_Response *response;
	enum MHD_Result result;

	request->stage = STAGE_SENT;
	switch (fault != NULL ? (int) fault->kind : -1)
	{
		case FAULT_OVERSIZED_JSON:
			response = MHD_create_response_from_callback(padded_size(request), 65536,
														 read_padded, request, NULL);
			break;
		case FAULT_ENDLESS_BODY:
			response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 65536, read_padded,
														 request, NULL);
			break;
		case FAULT_TRUNCATED_BODY:
			response = MHD_create_response_from_callback(request->out.length, 4096, read_half,
														 request, NULL);
			break;
		case FAULT_INFORMATIONAL:
			storm(request);
			response = MHD_create_response_from_buffer(request->out.length, request->out.data,
													   MHD_RESPMEM_PERSISTENT);
			break;
		case FAULT_SLOW_DRIP:
			request->sent_at = clock_ms();
			response = MHD_create_response_from_callback(request->out.length, 4096, read_drops,
														 request, NULL);
			break;
		default:
			response = MHD_create_response_from_buffer(request->out.length,
													   request->out.length ? request->out.data : "",
													   MHD_RESPMEM_PERSISTENT);
			break;
	}
	if (response == NULL)
		return MHD_NO;
	if (request->content_type != NULL && request->out.length > 0)
		MHD_add_response_header(response, "Content-Type", request->content_type);
	if (request->correlator != NULL && *request->correlator != '\0')
		MHD_add_response_header(response, "x-correlator", request->correlator);
	if (request->admin_protocol != NULL)
		MHD_add_response_header(response, "X-Admin-Protocol", request->admin_protocol);
	if (request->location[0] != '\0')
		MHD_add_response_header(response, "Location", request->location);
	if (request->retry_after[0] != '\0')
		MHD_add_response_header(response, "Retry-After", request->retry_after);
	if (request->challenge != NULL)
		MHD_add_response_header(response, "WWW-Authenticate", request->challenge);
	if (request->protocol != NULL && !request->protocol->authorized)
		MHD_add_response_header(response, "Cache-Control", "no-store");
	if (fault != NULL && fault->headers != NULL)
		add_fault_headers(response, fault->headers);
	result = MHD_queue_response(request->connection, request->status, response);
	MHD_destroy_response(response);
	return result;
}
