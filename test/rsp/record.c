/*
 * record.c
 *		The last requests, with headers and bodies, in a ring.
 */
#include <inttypes.h>
#include <string.h>

#include "rspsim.h"

#define RING			512
#define BODY_KEPT		8192

typedef struct Record
{
	uint64_t	number;
	uint64_t	at_ms;
	int			status;
	const char *fault;
	Buf			text;			/* JSON: method, path, headers, body */
} Record;

static Record ring[RING];
static uint64_t records;
static bool enabled = true;

void
record_enable(bool on)
{
	enabled = on;
}

static enum MHD_Result
add_header(void *subject, enum MHD_ValueKind kind, const char *name, const char *value)
{
	Buf		   *text = subject;

	(void) kind;
	if (text->data[text->length - 1] != '{')
		buf_char(text, ',');
	buf_json(text, name);
	buf_char(text, ':');
	buf_json(text, value ? value : "");
	return MHD_YES;
}

void
record_request(Request *request)
{
	Record	   *record;

	if (!enabled)
		return;
	request->record = ++records;
	record = &ring[records % RING];
	record->number = request->number;
	record->at_ms = wall_ms();
	record->status = 0;
	record->fault = NULL;
	buf_clear(&record->text);
	buf_format(&record->text, "\"method\":\"%s\",\"path\":", request->method);
	buf_json(&record->text, request->url);
	buf_text(&record->text, ",\"query\":{");
	MHD_get_connection_values(request->connection, MHD_GET_ARGUMENT_KIND, add_header,
							  &record->text);
	buf_text(&record->text, "},\"headers\":{");
	MHD_get_connection_values(request->connection, MHD_HEADER_KIND, add_header, &record->text);
	buf_text(&record->text, "},\"body\":");
	if (request->body.length > BODY_KEPT)
	{
		char		kept = request->body.data[BODY_KEPT];

		request->body.data[BODY_KEPT] = '\0';
		buf_json(&record->text, request->body.data);
		request->body.data[BODY_KEPT] = kept;
	}
	else
		buf_json(&record->text, request->body.data ? request->body.data : "");
}

/* Adds how a request ended: the status, 0 if there was no answer. */
void
record_answer(Request *request, int status)
{
	if (request->record == 0 || records - request->record >= RING)
		return;
	ring[request->record % RING].status = status;
	if (request->fault != NULL)
		ring[request->record % RING].fault = fault_name(request->fault->kind);
}

/* The last "count" requests, oldest first. */
void
record_json(Buf *out, uint32_t count)
{
	uint64_t	i;

	if (count > RING)
		count = RING;
	if (count > records)
		count = records;
	buf_text(out, "[");
	for (i = records - count + 1; i <= records; i++)
	{
		Record	   *record = &ring[i % RING];

		buf_format(out, "%s{\"number\":%" PRIu64 ",\"at\":", i == records - count + 1 ? "" : ",",
				   record->number);
		buf_time(out, record->at_ms);
		buf_format(out, ",\"status\":%d,", record->status);
		if (record->fault != NULL)
			buf_format(out, "\"fault\":\"%s\",", record->fault);
		buf_add(out, record->text.data, record->text.length);
		buf_text(out, "}");
	}
	buf_text(out, "]");
}

void
record_reset(void)
{
	int			i;

	for (i = 0; i < RING; i++)
		buf_free(&ring[i].text);
	memset(ring, 0, sizeof(ring));
	records = 0;
}
