/*
 * camara_request.c
 *		Strict validation of CAMARA requests, by the OpenAPI of each dialect.
 *
 * The tables below are the request schemas: property, type, whether it is
 * required.  Release 1.2 refuses properties that are not declared, at any
 * level; 2026-02 lets them pass, as OpenAPI does by default.
 */
#include <ctype.h>
#include <string.h>

#include "camara.h"

#define MAX_ACTIVATION_CODE 256

typedef enum Type
{
	TYPE_TEXT,
	TYPE_CODE,					/* text of at most 256 characters */
	TYPE_BOOLEAN,
	TYPE_URI,
	TYPE_DATE_TIME,
	TYPE_EID,
	TYPE_ICCID,
	TYPE_ACCESSTOKEN,			/* an enum of one */
	TYPE_BEARER,				/* an enum of one */
	TYPE_OBJECT
} Type;

typedef struct Property
{
	const char *name;
	Type		type;
	bool		required;
	const struct Property *properties;	/* of an object; ends with an empty name */
} Property;

static const Property esim_download_2026[] = {
	{"eid", TYPE_EID, true, NULL}, {"iccid", TYPE_ICCID, true, NULL}, {NULL, 0, false, NULL}
};
static const Property esim_download_r12[] = {
	{"eid", TYPE_EID, true, NULL}, {"iccid", TYPE_ICCID, false, NULL}, {NULL, 0, false, NULL}
};
static const Property esim_operation[] = {
	{"eid", TYPE_EID, false, NULL}, {"iccid", TYPE_ICCID, true, NULL}, {NULL, 0, false, NULL}
};
static const Property esim_status[] = {
	{"eid", TYPE_EID, false, NULL}, {"iccid", TYPE_ICCID, false, NULL}, {NULL, 0, false, NULL}
};
static const Property sink_credential[] = {
	{"credentialType", TYPE_ACCESSTOKEN, true, NULL},
	{"accessToken", TYPE_TEXT, false, NULL},
	{"accessTokenExpireUtc", TYPE_DATE_TIME, false, NULL},
	{"accessTokenType", TYPE_BEARER, false, NULL},
	{NULL, 0, false, NULL}
};

static const Property download_2026[] = {
	{"esim", TYPE_OBJECT, true, esim_download_2026},
	{"activationCode", TYPE_TEXT, true, NULL},
	{"activateOnDownload", TYPE_BOOLEAN, false, NULL},
	{"sink", TYPE_URI, true, NULL},
	{"sinkCredential", TYPE_OBJECT, false, sink_credential},
	{"correlationId", TYPE_TEXT, false, NULL},
	{NULL, 0, false, NULL}
};
static const Property operation_2026[] = {
	{"esim", TYPE_OBJECT, true, esim_operation},
	{"sink", TYPE_URI, true, NULL},
	{"sinkCredential", TYPE_OBJECT, false, sink_credential},
	{"correlationId", TYPE_TEXT, false, NULL},
	{NULL, 0, false, NULL}
};
static const Property status_2026[] = {
	{"esim", TYPE_OBJECT, true, esim_status}, {NULL, 0, false, NULL}
};
static const Property download_r12[] = {
	{"esimProfile", TYPE_OBJECT, true, esim_download_r12},
	{"activationCode", TYPE_CODE, true, NULL},
	{NULL, 0, false, NULL}
};
static const Property operation_r12[] = {
	{"esimProfile", TYPE_OBJECT, true, esim_operation}, {NULL, 0, false, NULL}
};
static const Property status_r12[] = {
	{"esimProfile", TYPE_OBJECT, true, esim_status}, {NULL, 0, false, NULL}
};

/* ^[a-zA-Z0-9-_:;.\/<>{}]{0,256}$; 2026-02's pattern has the backslash, too. */
bool
camara_correlator_valid(Dialect dialect, const char *correlator)
{
	size_t		length = strlen(correlator);
	size_t		i;

	if (length > 256)
		return false;
	for (i = 0; i < length; i++)
		if (!isalnum((unsigned char) correlator[i]) &&
			strchr("-_:;./<>{}", correlator[i]) == NULL &&
			!(dialect == DIALECT_2026_02 && correlator[i] == '\\'))
			return false;
	return true;
}

/* A UUID in 2026-02, ^[a-zA-Z0-9-_:.]+$ of at most 64 in release 1.2. */
bool
camara_operation_id_valid(Dialect dialect, const char *id)
{
	size_t		length = strlen(id);
	size_t		i;

	if (dialect == DIALECT_R12)
		return length > 0 && length <= 64 &&
			strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_:.") == length;
	if (length != 36)
		return false;
	for (i = 0; i < length; i++)
		if (i == 8 || i == 13 || i == 18 || i == 23 ? id[i] != '-' :
			!isxdigit((unsigned char) id[i]))
			return false;
	return true;
}

/* RFC 3986: a scheme, and no character that a URI cannot have. */
static bool
is_uri(const char *text)
{
	size_t		scheme = strcspn(text, ":");
	size_t		i;

	if (text[scheme] != ':' || scheme == 0 || !isalpha((unsigned char) text[0]) ||
		text[scheme + 1] == '\0')
		return false;
	for (i = 1; i < scheme; i++)
		if (!isalnum((unsigned char) text[i]) && strchr("+-.", text[i]) == NULL)
			return false;
	for (i = scheme + 1; text[i]; i++)
	{
		if (text[i] == '%')
		{
			if (!isxdigit((unsigned char) text[i + 1]) || !isxdigit((unsigned char) text[i + 2]))
				return false;
		}
		else if (!isalnum((unsigned char) text[i]) &&
				 strchr("-._~:/?#[]@!$&'()*+,;=", text[i]) == NULL)
			return false;
	}
	return true;
}

/* RFC 3339, with its zone. */
static bool
is_date_time(const char *text)
{
	static const char shape[] = "dddd-dd-ddTdd:dd:dd";
	int			month,
				day,
				hour,
				minute,
				second;
	size_t		i;

	for (i = 0; shape[i]; i++)
		if (shape[i] == 'd' ? !isdigit((unsigned char) text[i]) :
			toupper((unsigned char) text[i]) != shape[i])
			return false;
	month = (text[5] - '0') * 10 + text[6] - '0';
	day = (text[8] - '0') * 10 + text[9] - '0';
	hour = (text[11] - '0') * 10 + text[12] - '0';
	minute = (text[14] - '0') * 10 + text[15] - '0';
	second = (text[17] - '0') * 10 + text[18] - '0';
	if (month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60)
		return false;
	text += i;
	if (*text == '.')
	{
		if (!isdigit((unsigned char) text[1]))
			return false;
		text += 1 + strspn(text + 1, "0123456789");
	}
	if (strcmp(text, "Z") == 0 || strcmp(text, "z") == 0)
		return true;
	return (*text == '+' || *text == '-') && strlen(text) == 6 &&
		isdigit((unsigned char) text[1]) && isdigit((unsigned char) text[2]) && text[3] == ':' &&
		isdigit((unsigned char) text[4]) && isdigit((unsigned char) text[5]);
}

/* What the value of this type should be; NULL if it is that. */
static const char *
wrong(Type type, json_t *value)
{
	const char *text = json_string_value(value);
	size_t		length = json_is_string(value) ? json_string_length(value) : 0;
	size_t		characters = 0;
	Id			id;
	size_t		i;

	switch (type)
	{
		case TYPE_BOOLEAN:
			return json_is_boolean(value) ? NULL : "must be a boolean";
		case TYPE_OBJECT:
			return json_is_object(value) ? NULL : "must be an object";
		default:
			break;
	}
	if (text == NULL)
		return "must be a string";
	switch (type)
	{
		case TYPE_CODE:
			for (i = 0; i < length; i++)
				characters += (text[i] & 0xc0) != 0x80;
			return characters <= MAX_ACTIVATION_CODE ? NULL : "must have at most 256 characters";
		case TYPE_URI:
			return is_uri(text) ? NULL : "must be a URI";
		case TYPE_DATE_TIME:
			return is_date_time(text) ? NULL : "must be a date-time of RFC 3339";
		case TYPE_EID:
			return id_parse(text, length, 32, 32, &id) ? NULL : "must match ^[0-9]{32}$";
		case TYPE_ICCID:
			return id_parse(text, length, 19, 20, &id) ? NULL : "must match ^[0-9]{19,20}$";
		case TYPE_ACCESSTOKEN:
			return strcmp(text, "ACCESSTOKEN") == 0 ? NULL : "must be ACCESSTOKEN";
		case TYPE_BEARER:
			return strcmp(text, "bearer") == 0 ? NULL : "must be bearer";
		default:
			return NULL;
	}
}

static bool
object_valid(json_t *json, const Property *properties, bool strict, const char *parent,
			 char *error, size_t size)
{
	const char *dot = *parent ? "." : "";
	const Property *property;
	const char *key;
	json_t	   *value;

	for (property = properties; property->name != NULL; property++)
	{
		const char *problem;

		value = json_object_get(json, property->name);
		if (value == NULL)
		{
			if (!property->required)
				continue;
			snprintf(error, size, "%s%s%s is required.", parent, dot, property->name);
			return false;
		}
		problem = wrong(property->type, value);
		if (problem != NULL)
		{
			snprintf(error, size, "%s%s%s %s.", parent, dot, property->name, problem);
			return false;
		}
		if (property->type == TYPE_OBJECT &&
			!object_valid(value, property->properties, strict, property->name, error, size))
			return false;
	}
	if (!strict)
		return true;
	json_object_foreach(json, key, value)
	{
		for (property = properties; property->name != NULL; property++)
			if (strcmp(property->name, key) == 0)
				break;
		if (property->name == NULL)
		{
			snprintf(error, size, "%s%s%.64s is not declared.", parent, dot, key);
			return false;
		}
	}
	return true;
}

/*
 * Checks a request body against the schema of its endpoint and reads it.
 * False, with a sentence that names the property, if it does not fit.
 */
bool
camara_body_valid(Dialect dialect, int endpoint, json_t *json, CamaraBody *body, char *error,
				  size_t size)
{
	bool		r12 = dialect == DIALECT_R12;
	const char *container = r12 ? "esimProfile" : "esim";
	const Property *schema;
	json_t	   *esim;
	json_t	   *value;

	memset(body, 0, sizeof(*body));
	if (!json_is_object(json))
	{
		snprintf(error, size, "The body must be a JSON object.");
		return false;
	}
	if (endpoint == KIND_DOWNLOAD)
		schema = r12 ? download_r12 : download_2026;
	else if (endpoint == ENDPOINT_STATUS)
		schema = r12 ? status_r12 : status_2026;
	else
		schema = r12 ? operation_r12 : operation_2026;
	if (!object_valid(json, schema, r12, "", error, size))
		return false;

	esim = json_object_get(json, container);
	if ((value = json_object_get(esim, "eid")) != NULL)
		body->has_eid = id_parse(json_string_value(value), json_string_length(value), 32, 32,
								 &body->eid);
	if ((value = json_object_get(esim, "iccid")) != NULL)
		body->has_iccid = id_parse(json_string_value(value), json_string_length(value), 19, 20,
								   &body->iccid);
	if (!body->has_eid && !body->has_iccid)
	{
		snprintf(error, size, "%s needs eid or iccid.", container);
		return false;
	}
	body->activation_code = json_string_value(json_object_get(json, "activationCode"));
	body->sink = json_string_value(json_object_get(json, "sink"));
	body->activate = json_is_true(json_object_get(json, "activateOnDownload"));
	return true;
}
