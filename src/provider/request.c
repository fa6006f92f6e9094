/*-------------------------------------------------------------------------
 *
 * request.c
 *	  Reads requests of CAMARA's eSIM APIs strictly; plain C.
 *
 *-------------------------------------------------------------------------
 */
#include "provider/request.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "rsp/json.h"

#define MAX_CORRELATOR	256
#define MAX_CODE		256		/* activationCode of r1.2 */

/* ------------------------------------------------------------------------
 * Paths
 * ------------------------------------------------------------------------ */

static const struct
{
	const char *name;
	ProviderEndpoint endpoint;
}			endpoints[] =
{
	{"download", PROVIDER_DOWNLOAD},
	{"enable", PROVIDER_ENABLE},
	{"disable", PROVIDER_DISABLE},
	{"delete", PROVIDER_DELETE},
	{"set-fallback", PROVIDER_SET_FALLBACK},
	{"retrieve-status", PROVIDER_RETRIEVE_STATUS}
};

const char *
provider_root(RspDialect dialect)
{
	return dialect == RSP_DIALECT_R1_2 ? "/esim-profile-management/vwip" : "/esim/vwip";
}

/* what follows prefix in text; NULL: it does not begin with it */
static const char *
behind(const char *text, const char *prefix, size_t length)
{
	return strncmp(text, prefix, length) == 0 ? text + length : NULL;
}

/* ^[a-zA-Z0-9-_:.]+$ of r1.2, a UUID in 2026-02 */
static bool
operation_id_valid(RspDialect dialect, const char *id, size_t length)
{
	if (length == 0 || length > PROVIDER_MAX_ID)
		return false;
	if (dialect == RSP_DIALECT_2026_02)
		return provider_uuid_valid(id);
	return strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_:.") == length;
}

static bool
endpoint_of(const char *rest, ProviderRoute *route)
{
	static const char operations[] = "operations/";
	size_t		length = strcspn(rest, "?");
	const char *id;

	for (size_t i = 0; i < sizeof(endpoints) / sizeof(endpoints[0]); i++)
	{
		if (strlen(endpoints[i].name) == length && strncmp(endpoints[i].name, rest, length) == 0)
		{
			route->endpoint = endpoints[i].endpoint;
			return true;
		}
	}
	id = behind(rest, operations, sizeof(operations) - 1);
	if (id == NULL)
		return false;
	length = strcspn(id, "?");
	if (length == 0 || memchr(id, '/', length) != NULL)
		return false;
	route->endpoint = PROVIDER_RETRIEVE_OPERATION;
	if (length <= PROVIDER_MAX_ID)
	{
		memcpy(route->id, id, length);
		route->id[length] = '\0';
	}
	route->id_valid = operation_id_valid(route->dialect, route->id, length);
	return true;
}

bool
provider_route(const char *path, const char *api_root, ProviderRoute *route)
{
	static const RspDialect dialects[] = {RSP_DIALECT_R1_2, RSP_DIALECT_2026_02};
	const char *host = api_root ? strstr(api_root, "://") : NULL;
	const char *prefix = host ? strchr(host + 3, '/') : NULL;

	memset(route, 0, sizeof(*route));
	if (prefix != NULL)
	{
		size_t		length = strlen(prefix);
		const char *rest;

		while (length > 0 && prefix[length - 1] == '/')
			length--;
		rest = behind(path, prefix, length);
		if (rest != NULL && *rest == '/')
			path = rest;
	}
	for (int i = 0; i < 2; i++)
	{
		const char *root = provider_root(dialects[i]);
		const char *rest = behind(path, root, strlen(root));

		if (rest == NULL || *rest != '/')
			continue;
		route->dialect = dialects[i];
		rest++;
		/* the paths of 2026-02 begin with /esim once more */
		if (route->dialect == RSP_DIALECT_2026_02)
			rest = behind(rest, "esim/", 5);
		return rest != NULL && endpoint_of(rest, route);
	}
	return false;
}

/* ------------------------------------------------------------------------
 * Headers
 * ------------------------------------------------------------------------ */

bool
provider_correlator_valid(const char *value, bool allows_backslash)
{
	size_t		length = strlen(value);

	if (length > MAX_CORRELATOR)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		unsigned char c = (unsigned char) value[i];

		if (c >= 0x80 || !(isalnum(c) || strchr("-_:;./<>{}", c) != NULL ||
						   (allows_backslash && c == '\\')))
			return false;
	}
	return true;
}

bool
provider_bearer_valid(const char *value)
{
	size_t		length;

	if (strncasecmp(value, "Bearer ", 7) != 0)
		return false;
	value += 7 + strspn(value + 7, " ");
	length = strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/");
	if (length == 0)
		return false;
	value += length;
	value += strspn(value, "=");
	return *value == '\0';
}

bool
provider_content_type_valid(const char *value)
{
	static const char json[] = "application/json";

	if (strncasecmp(value, json, sizeof(json) - 1) != 0)
		return false;
	value += sizeof(json) - 1;
	value += strspn(value, " \t");
	return *value == '\0' || *value == ';';
}

/* q of a media range, from its parameters to the comma: is it 0? */
static bool
weight_is_zero(const char *parameters, size_t length)
{
	const char *end = parameters + length;

	for (const char *p = parameters; p < end; p++)
	{
		if (*p != ';')
			continue;
		p++;
		while (p < end && (*p == ' ' || *p == '\t'))
			p++;
		if (end - p >= 3 && (*p == 'q' || *p == 'Q') && p[1] == '=')
		{
			size_t		n = strspn(p + 2, "0.");

			return p[2] == '0' && (p + 2 + n >= end || strchr(" \t;", p[2 + n]) != NULL);
		}
		p--;
	}
	return false;
}

bool
provider_accepts_json(const char *value)
{
	static const char *const ranges[] = {"*/*", "application/*", "application/json"};
	int			closest = -1;
	bool		accepted = false;

	/* the range that is closest to it decides */
	for (const char *p = value + strspn(value, ", \t"); *p;)
	{
		size_t		length = strcspn(p, ",");
		size_t		name = strcspn(p, ",; \t");

		for (int i = 0; i < (int) (sizeof(ranges) / sizeof(ranges[0])); i++)
		{
			if (i > closest && strlen(ranges[i]) == name && strncasecmp(p, ranges[i], name) == 0)
			{
				closest = i;
				accepted = !weight_is_zero(p + name, length - name);
			}
		}
		p += length;
		p += strspn(p, ", \t");
	}
	return accepted || value[strspn(value, ", \t")] == '\0';
}

/* ------------------------------------------------------------------------
 * Formats
 * ------------------------------------------------------------------------ */

bool
provider_uuid_valid(const char *value)
{
	for (int i = 0; i < 36; i++)
	{
		bool		dash = (i == 8 || i == 13 || i == 18 || i == 23);

		if (dash ? value[i] != '-' : !isxdigit((unsigned char) value[i]))
			return false;
	}
	return value[36] == '\0';
}

static bool
all_digits(const char *value, size_t min, size_t max)
{
	size_t		length = strspn(value, "0123456789");

	return value[length] == '\0' && length >= min && length <= max;
}

bool
provider_phone_valid(const char *value)
{
	return value[0] == '+' && value[1] != '0' && all_digits(value + 1, 5, 15);
}

/* RFC 3986: a scheme, a colon, and no character that a URI cannot have */
static bool
uri_valid(const char *value)
{
	size_t		scheme = strcspn(value, ":");

	if (!isalpha((unsigned char) value[0]) || value[scheme] != ':' || value[scheme + 1] == '\0')
		return false;
	for (size_t i = 1; i < scheme; i++)
	{
		if (!isalnum((unsigned char) value[i]) && strchr("+-.", value[i]) == NULL)
			return false;
	}
	for (const char *p = value + scheme + 1; *p; p++)
	{
		unsigned char c = (unsigned char) *p;

		if (c == '%')
		{
			if (!isxdigit((unsigned char) p[1]) || !isxdigit((unsigned char) p[2]))
				return false;
		}
		else if (c >= 0x80 || (!isalnum(c) && strchr("-._~:/?#[]@!$&'()*+,;=", c) == NULL))
			return false;
	}
	return true;
}

/* two digits as a number; -1: they are none */
static int
two_digits(const char *p)
{
	if (!isdigit((unsigned char) p[0]) || !isdigit((unsigned char) p[1]))
		return -1;
	return (p[0] - '0') * 10 + p[1] - '0';
}

/* RFC 3339 5.6, with its zone */
static bool
date_time_valid(const char *value)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int			year,
				century,
				month,
				day,
				hour,
				minute,
				second;

	if (strlen(value) < 20 || value[4] != '-' || value[7] != '-' ||
		(value[10] != 'T' && value[10] != 't') || value[13] != ':' || value[16] != ':')
		return false;
	century = two_digits(value);
	year = two_digits(value + 2);
	month = two_digits(value + 5);
	day = two_digits(value + 8);
	hour = two_digits(value + 11);
	minute = two_digits(value + 14);
	second = two_digits(value + 17);
	if (century < 0 || year < 0 || month < 1 || month > 12 || day < 1 || hour < 0 || hour > 23 ||
		minute < 0 || minute > 59 || second < 0 || second > 60)
		return false;
	year += century * 100;
	if (day > days[month - 1] +
		(month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)))
		return false;
	value += 19;
	if (*value == '.')
	{
		size_t		fraction = strspn(value + 1, "0123456789");

		if (fraction == 0)
			return false;
		value += 1 + fraction;
	}
	if (strcasecmp(value, "Z") == 0)
		return true;
	if ((*value != '+' && *value != '-') || strlen(value) != 6 || value[3] != ':')
		return false;
	hour = two_digits(value + 1);
	minute = two_digits(value + 4);
	return hour >= 0 && hour <= 23 && minute >= 0 && minute <= 59;
}

/* ------------------------------------------------------------------------
 * Schemas
 * ------------------------------------------------------------------------ */

typedef enum PropertyType
{
	TYPE_TEXT,
	TYPE_CODE,					/* text of at most MAX_CODE characters */
	TYPE_BOOLEAN,
	TYPE_URI,
	TYPE_DATE_TIME,
	TYPE_EID,
	TYPE_ICCID,
	TYPE_ACCESSTOKEN,			/* an enum of one */
	TYPE_BEARER,				/* an enum of one */
	TYPE_OBJECT
} PropertyType;

typedef struct Property
{
	const char *name;			/* NULL: the list ends */
	PropertyType type;
	bool		required;
	const struct Property *properties;	/* of an object */
} Property;

#define END {NULL, TYPE_TEXT, false, NULL}

static const Property eid_and_iccid[] = {
	{"eid", TYPE_EID, true, NULL}, {"iccid", TYPE_ICCID, true, NULL}, END
};
static const Property eid_or_more[] = {
	{"eid", TYPE_EID, true, NULL}, {"iccid", TYPE_ICCID, false, NULL}, END
};
static const Property iccid_or_more[] = {
	{"eid", TYPE_EID, false, NULL}, {"iccid", TYPE_ICCID, true, NULL}, END
};
static const Property either[] = {
	{"eid", TYPE_EID, false, NULL}, {"iccid", TYPE_ICCID, false, NULL}, END
};
static const Property sink_credential[] = {
	{"credentialType", TYPE_ACCESSTOKEN, true, NULL},
	{"accessToken", TYPE_TEXT, false, NULL},
	{"accessTokenExpireUtc", TYPE_DATE_TIME, false, NULL},
	{"accessTokenExpiresUtc", TYPE_DATE_TIME, false, NULL}, /* CAMARA Commonalities */
	{"accessTokenType", TYPE_BEARER, false, NULL},
	END
};

static const Property download_2026_02[] = {
	{"esim", TYPE_OBJECT, true, eid_and_iccid},
	{"activationCode", TYPE_TEXT, true, NULL},
	{"activateOnDownload", TYPE_BOOLEAN, false, NULL},
	{"sink", TYPE_URI, true, NULL},
	{"sinkCredential", TYPE_OBJECT, false, sink_credential},
	{"correlationId", TYPE_TEXT, false, NULL},
	END
};
static const Property mutation_2026_02[] = {
	{"esim", TYPE_OBJECT, true, iccid_or_more},
	{"sink", TYPE_URI, true, NULL},
	{"sinkCredential", TYPE_OBJECT, false, sink_credential},
	{"correlationId", TYPE_TEXT, false, NULL},
	END
};
static const Property status_2026_02[] = {
	{"esim", TYPE_OBJECT, true, either}, END
};
static const Property download_r1_2[] = {
	{"esimProfile", TYPE_OBJECT, true, eid_or_more},
	{"activationCode", TYPE_CODE, true, NULL},
	END
};
static const Property mutation_r1_2[] = {
	{"esimProfile", TYPE_OBJECT, true, iccid_or_more}, END
};
static const Property status_r1_2[] = {
	{"esimProfile", TYPE_OBJECT, true, either}, END
};

static const Property *
schema(RspDialect dialect, ProviderEndpoint endpoint)
{
	bool		r1_2 = (dialect == RSP_DIALECT_R1_2);

	if (endpoint == PROVIDER_DOWNLOAD)
		return r1_2 ? download_r1_2 : download_2026_02;
	if (endpoint == PROVIDER_RETRIEVE_STATUS)
		return r1_2 ? status_r1_2 : status_2026_02;
	return r1_2 ? mutation_r1_2 : mutation_2026_02;
}

/* ------------------------------------------------------------------------
 * Bodies
 * ------------------------------------------------------------------------ */

/* what a value of this type must be; NULL: it is that */
static const char *
wrong(PropertyType type, const json_t *value)
{
	const char *text = json_string_value(value);
	size_t		characters = 0;

	if (type == TYPE_BOOLEAN)
		return json_is_boolean(value) ? NULL : "must be a boolean";
	if (type == TYPE_OBJECT)
		return json_is_object(value) ? NULL : "must be an object";
	if (text == NULL)
		return "must be a string";
	switch (type)
	{
		case TYPE_CODE:
			for (const char *p = text; *p; p++)
				characters += ((unsigned char) *p & 0xc0) != 0x80;
			return characters <= MAX_CODE ? NULL : "must have at most 256 characters";
		case TYPE_URI:
			return uri_valid(text) ? NULL : "must be a URI";
		case TYPE_DATE_TIME:
			return date_time_valid(text) ? NULL : "must be a date-time of RFC 3339";
		case TYPE_EID:
			return all_digits(text, 32, 32) ? NULL : "must be 32 digits";
		case TYPE_ICCID:
			return all_digits(text, 19, 20) ? NULL : "must be 19 or 20 digits";
		case TYPE_ACCESSTOKEN:
			return strcmp(text, "ACCESSTOKEN") == 0 ? NULL : "must be ACCESSTOKEN";
		case TYPE_BEARER:
			return strcmp(text, "bearer") == 0 ? NULL : "must be bearer";
		default:
			return NULL;
	}
}

/* "parent.name sentence." into error; a name of the client's is cut at a character */
static void
complain(ProviderBody *body, const char *parent, const char *name, const char *sentence)
{
	int			length = 0;

	while (name[length] && length < 64)
		length++;
	while (length > 0 && ((unsigned char) name[length] & 0xc0) == 0x80)
		length--;
	if (length == 0)
	{
		name = "\"\"";
		length = 2;
	}
	snprintf(body->error, sizeof(body->error), "%s%s%.*s %s.", parent, *parent ? "." : "",
			 length, name, sentence);
}

static bool
declared(const Property *properties, const char *name)
{
	for (; properties->name != NULL; properties++)
	{
		if (strcmp(properties->name, name) == 0)
			return true;
	}
	return false;
}

static bool
fits(ProviderBody *body, json_t *object, const Property *properties, const char *parent, bool strict)
{
	const char *name;
	json_t	   *value;

	if (strict)
	{
		json_object_foreach(object, name, value)
		{
			if (!declared(properties, name))
			{
				complain(body, parent, name, "is not declared");
				return false;
			}
		}
	}
	for (const Property *p = properties; p->name != NULL; p++)
	{
		const char *problem;

		value = json_object_get(object, p->name);
		if (value == NULL)
		{
			if (!p->required)
				continue;
			complain(body, parent, p->name, "is required");
			return false;
		}
		problem = wrong(p->type, value);
		if (problem != NULL)
		{
			complain(body, parent, p->name, problem);
			return false;
		}
		if (p->type == TYPE_OBJECT && !fits(body, value, p->properties, p->name, strict))
			return false;
	}
	return true;
}

/* the declared properties of object as JSON text; NULL: there is no such object */
static char *
declared_text(const json_t *object, const Property *properties)
{
	json_t	   *copy;
	char	   *text;

	if (object == NULL)
		return NULL;
	copy = json_object();
	for (; properties->name != NULL; properties++)
	{
		json_t	   *value = json_object_get(object, properties->name);

		if (value != NULL)
			json_object_set(copy, properties->name, value);
	}
	text = json_dumps(copy, JSON_COMPACT);
	json_decref(copy);
	return text;
}

bool
provider_body_read(RspDialect dialect, ProviderEndpoint endpoint, const char *text, size_t length,
				   ProviderBody *body)
{
	static const Property correlation[] = {{"correlationId", TYPE_TEXT, false, NULL}, END};
	bool		r1_2 = (dialect == RSP_DIALECT_R1_2);
	const char *name = r1_2 ? "esimProfile" : "esim";
	const char *reason;
	json_t	   *who;

	memset(body, 0, sizeof(*body));
	if (length > PROVIDER_MAX_BODY)
	{
		snprintf(body->error, sizeof(body->error), "The body must have at most %d octets.",
				 PROVIDER_MAX_BODY);
		return false;
	}
	if (length == 0)
	{
		snprintf(body->error, sizeof(body->error), "A body is required.");
		return false;
	}
	body->json = rsp_json(text, length, &reason);
	if (body->json == NULL)
	{
		snprintf(body->error, sizeof(body->error), "The body cannot be read: %s.", reason);
		return false;
	}
	if (!json_is_object(body->json))
	{
		snprintf(body->error, sizeof(body->error), "The body must be a JSON object.");
		return false;
	}
	if (!fits(body, body->json, schema(dialect, endpoint), "", r1_2))
		return false;

	who = json_object_get(body->json, name);
	body->eid = json_string_value(json_object_get(who, "eid"));
	body->iccid = json_string_value(json_object_get(who, "iccid"));
	if (body->eid == NULL && body->iccid == NULL)
	{
		complain(body, "", name, "must have eid or iccid");
		return false;
	}
	if (endpoint == PROVIDER_RETRIEVE_STATUS)
		return true;
	if (endpoint == PROVIDER_DOWNLOAD)
	{
		body->activation_code = json_string_value(json_object_get(body->json, "activationCode"));
		body->activate = !r1_2 && json_is_true(json_object_get(body->json, "activateOnDownload"));
	}
	if (!r1_2)
	{
		body->sink = json_string_value(json_object_get(body->json, "sink"));
		body->sink_credential = declared_text(json_object_get(body->json, "sinkCredential"),
											  sink_credential);
		if (json_object_get(body->json, "correlationId") != NULL)
			body->options = declared_text(body->json, correlation);
	}
	return true;
}

void
provider_body_release(ProviderBody *body)
{
	json_decref(body->json);
	free(body->sink_credential);
	free(body->options);
	memset(body, 0, sizeof(*body));
}
