/*-------------------------------------------------------------------------
 *
 * twilio_event.c
 *	  Reads what Super SIM sends to a CallbackUrl; pure C.
 *
 *-------------------------------------------------------------------------
 */
#include "twilio_event.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#define SID_LENGTH		34
#define MAX_TEXT		65536
#define MAX_FIELDS		200
#define MAX_NAME		64
#define MAX_VALUE		1024

static bool
is_sid(const char *text, const char *prefix)
{
	size_t		i;

	if (text[0] != prefix[0] || text[1] != prefix[1])
		return false;
	for (i = 2; i < SID_LENGTH; i++)
	{
		if (!isxdigit((unsigned char) text[i]))
			return false;
	}
	return text[SID_LENGTH] == '\0';
}

static bool
is_uuid(const char *text)
{
	size_t		i;

	for (i = 0; i < 36; i++)
	{
		bool		dash = (i == 8 || i == 13 || i == 18 || i == 23);

		if (dash ? text[i] != '-' : !isxdigit((unsigned char) text[i]))
			return false;
	}
	return text[36] == '\0';
}

static bool
all_digits(const char *text, size_t min, size_t max)
{
	size_t		n = strspn(text, "0123456789");

	return text[n] == '\0' && n >= min && n <= max;
}

/*
 * Keeps a value of which there may be one.  A callback that names two
 * different ones names none.
 */
static void
keep(TwilioCallback *callback, char *member, const char *value)
{
	if (callback->ambiguous)
		return;
	if (member[0] == '\0')
		strcpy(member, value);
	else if (strcasecmp(member, value) != 0)
	{
		callback->profile_sid[0] = '\0';
		callback->sim_sid[0] = '\0';
		callback->operation[0] = '\0';
		callback->ambiguous = true;
	}
}

/* A text for people: printable ASCII, cut to size. */
static void
keep_text(char *member, size_t size, const char *value)
{
	size_t		n = 0;

	if (member[0] != '\0')
		return;
	for (; *value != '\0' && n + 1 < size; value++)
		member[n++] = (unsigned char) *value >= 0x20 && (unsigned char) *value < 0x7f ?
			*value : '?';
	member[n] = '\0';
}

void
twilio_callback_field(TwilioCallback *callback, const char *name, const char *value)
{
	if (name == NULL || value == NULL)
		return;
	/* sids by their shape, whatever the field is called */
	if (is_sid(value, "HP"))
		keep(callback, callback->profile_sid, value);
	else if (is_sid(value, "HS"))
		keep(callback, callback->sim_sid, value);
	else if (is_sid(value, "AC") && callback->account_sid[0] == '\0')
		strcpy(callback->account_sid, value);
	else if (strcasecmp(name, "op") == 0)
	{
		if (is_uuid(value))
			keep(callback, callback->operation, value);
	}
	else if (strcasecmp(name, "Eid") == 0)
	{
		if (callback->eid[0] == '\0' && all_digits(value, 32, 32))
			strcpy(callback->eid, value);
	}
	else if (strcasecmp(name, "Iccid") == 0 || strcasecmp(name, "SimIccid") == 0)
	{
		if (callback->iccid[0] == '\0' && all_digits(value, 18, 20))
			strcpy(callback->iccid, value);
	}
	else if (strcasecmp(name, "Status") == 0 || strcasecmp(name, "SimStatus") == 0 ||
			 strcasecmp(name, "ESimProfileStatus") == 0)
		keep_text(callback->status, sizeof(callback->status), value);
	else if (strcasecmp(name, "ErrorCode") == 0 || strcasecmp(name, "error_code") == 0)
		keep_text(callback->error_code, sizeof(callback->error_code), value);
	else if (strcasecmp(name, "ErrorMessage") == 0 || strcasecmp(name, "error_message") == 0)
		keep_text(callback->error_message, sizeof(callback->error_message), value);
}

static int
hex_digit(char ch)
{
	if (ch >= '0' && ch <= '9')
		return ch - '0';
	if (ch >= 'A' && ch <= 'F')
		return ch - 'A' + 10;
	if (ch >= 'a' && ch <= 'f')
		return ch - 'a' + 10;
	return -1;
}

/*
 * Decodes one name or value.  What is longer than the buffer is cut: nothing
 * that counts is so long.  false: broken escape, or a NUL.
 */
static bool
decode(const char *text, size_t length, char *out, size_t size)
{
	size_t		n = 0;
	size_t		i;

	for (i = 0; i < length; i++)
	{
		char		ch = text[i];

		if (ch == '+')
			ch = ' ';
		else if (ch == '%')
		{
			int			high = i + 2 < length ? hex_digit(text[i + 1]) : -1;
			int			low = i + 2 < length ? hex_digit(text[i + 2]) : -1;

			if (high < 0 || low < 0)
				return false;
			ch = (char) (high << 4 | low);
			i += 2;
		}
		if (ch == '\0')
			return false;
		if (n + 1 < size)
			out[n++] = ch;
	}
	out[n] = '\0';
	return true;
}

bool
twilio_callback(const char *form_or_query, size_t length, TwilioCallback *callback,
				const char **reason)
{
	const char *ignored;
	const char *text = form_or_query;
	const char *end;
	const char *mark;
	int			fields = 0;
	char		name[MAX_NAME];
	char		value[MAX_VALUE];

	if (reason == NULL)
		reason = &ignored;
	*reason = "";
	if (text == NULL || length == 0)
		return true;
	if (length > MAX_TEXT)
	{
		*reason = "too long";
		return false;
	}
	end = text + length;

	/* of a URL, and of a path, the query */
	mark = memchr(text, '?', length);
	if (mark != NULL && (mark == text || text[0] == '/' ||
						 (length > 7 && (strncasecmp(text, "http://", 7) == 0 ||
										 strncasecmp(text, "https://", 8) == 0))))
		text = mark + 1;
	mark = memchr(text, '#', end - text);
	if (mark != NULL)
		end = mark;

	while (text < end)
	{
		const char *stop = memchr(text, '&', end - text);
		const char *equals;

		if (stop == NULL)
			stop = end;
		equals = memchr(text, '=', stop - text);
		if (equals != NULL)
		{
			if (++fields > MAX_FIELDS)
			{
				*reason = "has too many fields";
				return false;
			}
			if (!decode(text, equals - text, name, sizeof(name)) ||
				!decode(equals + 1, stop - equals - 1, value, sizeof(value)))
			{
				*reason = "is not encoded as a form";
				return false;
			}
			twilio_callback_field(callback, name, value);
		}
		text = stop < end ? stop + 1 : end;
	}
	return true;
}

bool
twilio_callback_usable(const TwilioCallback *callback)
{
	return callback->profile_sid[0] != '\0' || callback->sim_sid[0] != '\0' ||
		callback->operation[0] != '\0';
}
