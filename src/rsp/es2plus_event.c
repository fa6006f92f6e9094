/*-------------------------------------------------------------------------
 *
 * es2plus_event.c
 *	  Reads what an SM-DP+ says over ES2+: execution status, and the inbound
 *	  HandleDownloadProgressInfo and HandleNotification.
 *
 * HandleNotification has taken the place of HandleDownloadProgressInfo in
 * version 3: notificationEvent for notificationPointId, notificationEventStatus
 * for notificationPointStatus.
 *
 * Documents and servers differ: ICCIDs come with and without padding,
 * notificationPointId as a number and as a string, the time as W3C's date and
 * time, without a zone (pySim), or as seconds since 1970 under the name
 * timeStamp (CMLink).  All are understood.
 *
 *-------------------------------------------------------------------------
 */
#include "es2plus_event.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "rsp.h"
#include "json.h"

#define MAX_POINT		1000000

/* seconds since 1970 are below, milliseconds above: 5138-11-16 */
#define MAX_SECONDS		INT64_C(100000000000)

/* what has more digits is neither: 2286-11-20 */
#define MAX_MS			INT64_C(9999999999999)

#define lengthof(array) (sizeof(array) / sizeof((array)[0]))

/*
 * Failures that notifications tell of (SGP.22 5.3.5, 5.6).  ends: the order is
 * in the SM-DP+'s state Error, no further try of the device can succeed.
 */
static const struct
{
	const char *subject;
	const char *reason;
	bool		ends;
	const char *code;
}			failures[] = {
	{"8.2", "1.2", false, "INCOMPATIBLE_STATE"},	/* not released */
	{"8.2", "3.7", true, "INCOMPATIBLE_STATE"}, /* cannot be bound again */
	{"8.1", "4.8", false, "SERVICE_NOT_APPLICABLE"},	/* memory of the eUICC */
	{"8.1.1", "3.8", false, "IDENTIFIER_MISMATCH"},
	{"8.2.6", "3.8", false, "PERMISSION_DENIED"},
	{"8.2.7", "2.2", false, "PERMISSION_DENIED"},	/* no confirmation code */
	{"8.2.7", "3.8", false, "PERMISSION_DENIED"},	/* a wrong one */
	{"8.2.7", "6.4", true, "PERMISSION_DENIED"},	/* once too often */
	{"8.8.5", "3.8", true, "ABORTED"},	/* refused by the user */
	{"8.8.5", "4.10", true, "GONE"},	/* the order has expired */
	{"8.8.5", "4.1", true, "GONE"}, /* as lpac lists it */
	{"8.8.5", "6.4", true, "PERMISSION_DENIED"},	/* too many downloads */
	{"8.2.5", "4.3", true, "SERVICE_NOT_APPLICABLE"},	/* not eligible */

	/* the device has cancelled the session, and not for now only */
	{"8.2.8", "1.2", true, "SERVICE_NOT_APPLICABLE"},	/* profile policy rules */
	{"8.2.9", "3.11", true, "ABORTED"}, /* metadata that have changed */
	{"8.2.10", "4.2", true, "ABORTED"}, /* the package could not be loaded */
	{"8", "4.2", true, "ABORTED"},	/* an undefined reason */
};

/*
 * Reads an ICCID as ES2+ has it: 18 to 20 digits beginning 89, filled up with F
 * to at most 20.  out gets the digits.
 */
bool
es2plus_iccid(const char *text, char out[21])
{
	size_t		digits;
	size_t		padding;

	if (text == NULL)
		return false;
	digits = strspn(text, "0123456789");
	padding = strspn(text + digits, "Ff");
	if (text[digits + padding] != '\0' || digits < 18 || digits + padding > 20 ||
		strncmp(text, "89", 2) != 0)
		return false;
	memcpy(out, text, digits);
	out[digits] = '\0';
	return true;
}

/*
 * Does a subject or reason code fit a pattern?  "*" fits all, "8.9*" fits 8.9
 * and 8.9.1, but not 8.90.
 */
bool
es2plus_code_is(const char *code, const char *pattern)
{
	size_t		length = strlen(pattern);

	if (length == 0 || pattern[length - 1] != '*')
		return strcmp(code, pattern) == 0;
	length--;
	return length == 0 ||
		(strncmp(code, pattern, length) == 0 && (code[length] == '\0' || code[length] == '.'));
}

/* Codes are text, never numbers: 3.1 and 3.10 are two. */
static void
read_code(const json_t *object, const char *key, char *out, size_t size)
{
	const char *text = rsp_json_string(object, key, size - 1);

	out[0] = '\0';
	if (text != NULL && strspn(text, "0123456789.") == strlen(text) && strcmp(text, "0") != 0)
		strcpy(out, text);
}

/*
 * Reads an ExecutionStatus.  A success may carry codes, too: "0" is none.
 * false: there is no status that is known.
 */
bool
es2plus_execution(const json_t *object, Es2plusExecution *out)
{
	static const struct
	{
		const char *word;
		Es2plusStatus status;
	}			words[] = {
		{"Executed-Success", ES2PLUS_SUCCESS},
		{"Executed-WithWarning", ES2PLUS_WARNING},
		{"Failed", ES2PLUS_FAILED},
		{"Expired", ES2PLUS_EXPIRED},
	};
	const char *text;
	const json_t *data;
	size_t		i;

	memset(out, 0, sizeof(*out));
	text = json_is_string(object) ? json_string_value(object) :
		rsp_json_string(object, "status", 64);
	if (text == NULL)
		return false;
	for (i = 0; i < lengthof(words); i++)
	{
		if (strcasecmp(text, words[i].word) == 0)
			out->status = words[i].status;
	}
	data = json_object_get(object, "statusCodeData");
	read_code(data, "subjectCode", out->subject, sizeof(out->subject));
	read_code(data, "reasonCode", out->reason, sizeof(out->reason));
	text = rsp_json_string(data, "message", 8192);
	if (text == NULL)
		text = rsp_json_string(object, "message", 8192);
	rsp_set(out->message, sizeof(out->message), text);
	return out->status != ES2PLUS_NOT_SAID;
}

static bool
all_digits(const char *text, size_t min, size_t max)
{
	size_t		n = strspn(text, "0123456789");

	return text[n] == '\0' && n >= min && n <= max;
}

/* A whole number that is written as a number or as a string of digits. */
static bool
read_number(const json_t *value, int64_t max, int64_t *out)
{
	const char *text = json_string_value(value);
	double		real;

	if (json_is_integer(value))
		*out = json_integer_value(value);
	else if (json_is_real(value))
	{
		real = json_real_value(value);
		if (!(real >= 0 && real <= (double) max) || (double) (int64_t) real != real)
			return false;
		*out = (int64_t) real;
	}
	else if (text != NULL && all_digits(text, 1, 18))
	{
		for (*out = 0; *text != '\0'; text++)
			*out = *out * 10 + (*text - '0');
	}
	else
		return false;
	return *out >= 0 && *out <= max;
}

/* two digits at text, -1: they are none */
static int
two_digits(const char *text)
{
	if (text[0] < '0' || text[0] > '9' || text[1] < '0' || text[1] > '9')
		return -1;
	return (text[0] - '0') * 10 + (text[1] - '0');
}

/* Days of the Gregorian calendar since 1970-01-01. */
static int64_t
days_since_1970(int year, int month, int day)
{
	int			era;
	int			of_era;
	int			of_year;

	/* the year begins in March, so that the leap day is its last */
	year -= month <= 2;
	era = year / 400;
	of_era = year - era * 400;
	of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	return (int64_t) era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/*
 * W3C's YYYY-MM-DDThh:mm:ssTZD, with a fraction of the second or without;
 * without a zone it is read as UTC: that will do to tell what came first at one
 * server.  0: it is none.
 */
static int64_t
read_date_time(const char *text)
{
	static const char shape[] = "dddd-dd-ddTdd:dd:dd";
	static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int			year;
	int			month;
	int			day;
	int			hour;
	int			minute;
	int			second;
	int			ms = 0;
	int			unit = 100;
	int			zone_hour;
	int			zone_minute;
	int64_t		at;
	size_t		i;

	for (i = 0; shape[i] != '\0'; i++)
	{
		char		c = text[i];

		if (shape[i] == 'd' ? c < '0' || c > '9' :
			c != shape[i] && !(shape[i] == 'T' && (c == 't' || c == ' ')))
			return 0;
	}
	year = two_digits(text) * 100 + two_digits(text + 2);
	month = two_digits(text + 5);
	day = two_digits(text + 8);
	hour = two_digits(text + 11);
	minute = two_digits(text + 14);
	second = two_digits(text + 17);
	if (year < 1970 || month < 1 || month > 12 || day < 1 || day > days[month - 1] ||
		(month == 2 && day == 29 && (year % 4 != 0 || (year % 100 == 0 && year % 400 != 0))) ||
		hour > 23 || minute > 59 || second > 60)
		return 0;
	text += i;
	if (*text == '.')
	{
		if (text[1] < '0' || text[1] > '9')
			return 0;
		for (text++; *text >= '0' && *text <= '9'; text++)
		{
			ms += (*text - '0') * unit;
			unit /= 10;
		}
	}
	at = ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
	if (*text == '\0' || ((*text == 'Z' || *text == 'z') && text[1] == '\0'))
		return at * 1000 + ms;
	if ((*text != '+' && *text != '-') || (zone_hour = two_digits(text + 1)) < 0 ||
		zone_hour > 23)
		return 0;
	i = text[3] == ':' ? 4 : 3;
	zone_minute = two_digits(text + i);
	if (zone_minute < 0 || zone_minute > 59 || text[i + 2] != '\0')
		return 0;
	zone_minute += zone_hour * 60;
	at += (*text == '+' ? -60 : 60) * zone_minute;
	return at > 0 ? at * 1000 + ms : 0;
}

static int64_t
read_time(const json_t *root, char *said, size_t size)
{
	const json_t *value = json_object_get(root, "timestamp");
	const char *text;
	int64_t		number;

	if (value == NULL)
		value = json_object_get(root, "timeStamp");
	if (json_is_integer(value))
		snprintf(said, size, "%lld", (long long) json_integer_value(value));
	else
		rsp_set(said, size, json_string_value(value));
	if (read_number(value, MAX_MS, &number))
		return number < MAX_SECONDS ? number * 1000 : number;
	text = json_string_value(value);
	return text != NULL ? read_date_time(text) : 0;
}

static bool
is_absent(const json_t *root, const char *key)
{
	const json_t *value = json_object_get(root, key);

	return value == NULL || json_is_null(value) ||
		(json_is_string(value) && json_string_length(value) == 0);
}

static bool
read_progress(const json_t *root, Es2plusProgress *out, const char **reason)
{
	const json_t *header;
	const json_t *status;
	const char *text;
	int64_t		point;

	*reason = "not an object";
	if (!json_is_object(root))
		return false;
	out->v3 = json_object_get(root, "notificationPointId") == NULL &&
		json_object_get(root, "notificationEvent") != NULL;

	/* version 3 has events that are about no profile */
	*reason = "has no valid iccid";
	if (!es2plus_iccid(rsp_json_string(root, "iccid", 20), out->iccid) &&
		!(out->v3 && is_absent(root, "iccid")))
		return false;
	*reason = "has an eid that is none";
	if (!is_absent(root, "eid"))
	{
		text = rsp_json_string(root, "eid", 32);
		if (text == NULL || !all_digits(text, 32, 32))
			return false;
		strcpy(out->eid, text);
	}
	*reason = out->v3 ? "has no valid notificationEvent" : "has no valid notificationPointId";
	if (!read_number(json_object_get(root, out->v3 ? "notificationEvent" : "notificationPointId"),
					 MAX_POINT, &point))
		return false;
	out->point = (int) point;
	*reason = out->v3 ? "has no valid notificationEventStatus" :
		"has no valid notificationPointStatus";
	status = json_object_get(root, out->v3 ? "notificationEventStatus" : "notificationPointStatus");
	if (!es2plus_execution(status, &out->execution))
		return false;

	out->at_ms = read_time(root, out->time, sizeof(out->time));
	rsp_set(out->profile_type, sizeof(out->profile_type),
			rsp_json_string(root, "profileType", 4096));
	out->has_result = json_is_string(json_object_get(root, "resultData"));
	header = json_object_get(root, "header");
	rsp_set(out->requester, sizeof(out->requester),
			rsp_json_string(header, "functionRequesterIdentifier", 4096));
	rsp_set(out->call_id, sizeof(out->call_id),
			rsp_json_string(header, "functionCallIdentifier", 4096));
	*reason = "";
	return true;
}

/*
 * Reads the body of a HandleDownloadProgressInfo or a HandleNotification.
 * false: it is none that can be used, reason (static text) says why.
 */
bool
es2plus_progress(const char *json, size_t len, Es2plusProgress *out, const char **reason)
{
	const char *ignored;
	json_t	   *root;
	bool		good;

	if (reason == NULL)
		reason = &ignored;
	memset(out, 0, sizeof(*out));
	root = rsp_json(json, len, reason);
	if (root == NULL)
		return false;
	good = read_progress(root, out, reason);
	json_decref(root);
	return good;
}

/*
 * What a notification means by SGP.22: points 1 eligibility and retry limit, 2
 * confirmation failure, 3 download of the bound profile package, 4 its
 * installation.  Others are vendors' own and mean nothing here.
 */
void
es2plus_meaning(const Es2plusProgress *progress, Es2plusMeaning *out)
{
	const Es2plusExecution *told = &progress->execution;
	size_t		i;

	memset(out, 0, sizeof(*out));
	if (progress->point < 1 || progress->point > 4)
		return;
	if (told->status == ES2PLUS_SUCCESS || told->status == ES2PLUS_WARNING)
	{
		if (progress->point == 3)
			out->state = "DOWNLOADED";
		else if (progress->point == 4)
		{
			out->state = "INSTALLED";
			out->ends = true;
		}
		return;
	}

	/* a profile that failed to install never returns to stock by itself */
	out->ends = progress->point == 4;
	out->code = told->status == ES2PLUS_EXPIRED ? "GONE" : "SERVICE_NOT_APPLICABLE";
	for (i = 0; i < lengthof(failures); i++)
	{
		if (strcmp(told->subject, failures[i].subject) == 0 &&
			strcmp(told->reason, failures[i].reason) == 0)
		{
			out->code = failures[i].code;
			out->ends = out->ends || failures[i].ends;
		}
	}
	if (out->ends)
		out->state = "FAILED";
}
