/*-------------------------------------------------------------------------
 *
 * option.c
 *	  The options of the foreign data wrapper esim_rsp: one table, and the
 *	  validator that PostgreSQL calls when a server or user mapping is made or
 *	  altered.
 *
 * Two rules are behind the table.  Every URL is a server's option and every
 * secret a user mapping's, so that a role that may only make its own user
 * mapping cannot have another's credentials sent to a host of its choosing.
 * And what weakens TLS or names a file of the machine is for administrators.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>
#include <string.h>

#include "access/reloptions.h"
#include "catalog/pg_authid_d.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "identifier/activation_code.h"
#include "server/option.h"

#define MAX_URL			2048
#define MAX_TEXT		1024
#define MAX_TOKEN		(16 * 1024)
#define MAX_PEM			(1024 * 1024)

#define SECOND_MS		INT64CONST(1000)
#define DAY_MS			(86400 * SECOND_MS)

typedef enum OptionType
{
	TYPE_TEXT,					/* printable ASCII */
	TYPE_WORD,					/* the same without blanks */
	TYPE_CREDENTIAL,			/* any characters but control characters */
	TYPE_URL,
	TYPE_URL_QUERY,				/* a URL that may have a query */
	TYPE_HOST,					/* SM-DP+ address */
	TYPE_BOOLEAN,
	TYPE_INTERVAL,
	TYPE_INTEGER,
	TYPE_REAL,
	TYPE_ENUM,
	TYPE_CERTIFICATE,			/* PEM text or path */
	TYPE_KEY					/* PEM text or path */
} OptionType;

typedef enum OptionAdmin
{
	ADMIN_NEVER,				/* whoever may alter the server or mapping */
	ADMIN_IF_TRUE,				/* superusers, where the value is true */
	ADMIN_IF_FALSE,
	ADMIN_IF_PATH				/* roles that may read files of the server */
} OptionAdmin;

typedef struct Option
{
	const char *name;
	Oid			catalog;
	OptionType	type;
	const char *initial;		/* default, NULL: none */
	int64		max;			/* of numbers (intervals: ms) and lengths */
	OptionAdmin admin;
	bool		secret;			/* its value is never shown */
	const char *const *labels;	/* of TYPE_ENUM, NULL at the end */
} Option;

static const char *const protocol_labels[] = {"camara", "es2plus", "eim", "twilio", NULL};
static const char *const dialect_labels[] = {"2026-02", "r1.2", NULL};
static const char *const redownload_labels[] = {"NEVER", "SAME_EID", "ANY", NULL};
static const char *const matching_id_labels[] = {"client", "server", NULL};
static const char *const auth_labels[] = {"none", "bearer", "basic", "client_secret_basic",
"client_secret_post", "private_key_jwt", NULL};

#define SERVER ForeignServerRelationId
#define MAPPING UserMappingRelationId

/* in the order of EsimOptionId */
static const Option option_table[] = {
	{"protocol", SERVER, TYPE_ENUM, NULL, 0, ADMIN_NEVER, false, protocol_labels},
	{"url", SERVER, TYPE_URL, NULL, MAX_URL, ADMIN_NEVER, false, NULL},
	{"dialect", SERVER, TYPE_ENUM, "r1.2", 0, ADMIN_NEVER, false, dialect_labels},
	{"smdp_address", SERVER, TYPE_HOST, NULL, 255, ADMIN_NEVER, false, NULL},
	{"event_url", SERVER, TYPE_URL, NULL, MAX_URL, ADMIN_NEVER, false, NULL},
	{"timeout", SERVER, TYPE_INTERVAL, "30 s", 3600 * SECOND_MS, ADMIN_NEVER, false, NULL},
	{"connect_timeout", SERVER, TYPE_INTERVAL, "10 s", 3600 * SECOND_MS, ADMIN_NEVER, false, NULL},
	{"max_in_flight", SERVER, TYPE_INTEGER, "64", 10000, ADMIN_NEVER, false, NULL},
	{"rate_limit", SERVER, TYPE_REAL, "0", 100000, ADMIN_NEVER, false, NULL},
	{"default_expiry", SERVER, TYPE_INTERVAL, "30 days", 36500 * DAY_MS, ADMIN_NEVER, false, NULL},
	{"unknown_hold", SERVER, TYPE_INTERVAL, "1 hour", 3650 * DAY_MS, ADMIN_NEVER, false, NULL},
	{"redownload", SERVER, TYPE_ENUM, "SAME_EID", 0, ADMIN_NEVER, false, redownload_labels},
	{"matching_id_source", SERVER, TYPE_ENUM, "client", 0, ADMIN_NEVER, false, matching_id_labels},
	{"requester_id", SERVER, TYPE_TEXT, NULL, 255, ADMIN_NEVER, false, NULL},
	{"ca_file", SERVER, TYPE_CERTIFICATE, NULL, MAX_PEM, ADMIN_IF_PATH, false, NULL},
	{"allow_http", SERVER, TYPE_BOOLEAN, "false", 0, ADMIN_IF_TRUE, false, NULL},
	{"verify", SERVER, TYPE_BOOLEAN, "true", 0, ADMIN_IF_FALSE, false, NULL},
	{"auth_method", SERVER, TYPE_ENUM, NULL, 0, ADMIN_NEVER, false, auth_labels},
	{"token_url", SERVER, TYPE_URL_QUERY, NULL, MAX_URL, ADMIN_NEVER, false, NULL},
	{"openid_config_url", SERVER, TYPE_URL_QUERY, NULL, MAX_URL, ADMIN_NEVER, false, NULL},
	{"scope", SERVER, TYPE_TEXT, NULL, MAX_TEXT, ADMIN_NEVER, false, NULL},
	{"audience", SERVER, TYPE_TEXT, NULL, MAX_TEXT, ADMIN_NEVER, false, NULL},

	{"token", MAPPING, TYPE_WORD, NULL, MAX_TOKEN, ADMIN_NEVER, true, NULL},
	{"username", MAPPING, TYPE_CREDENTIAL, NULL, MAX_TEXT, ADMIN_NEVER, false, NULL},
	{"password", MAPPING, TYPE_CREDENTIAL, NULL, MAX_TEXT, ADMIN_NEVER, true, NULL},
	{"client_id", MAPPING, TYPE_TEXT, NULL, MAX_TEXT, ADMIN_NEVER, false, NULL},
	{"client_secret", MAPPING, TYPE_TEXT, NULL, MAX_TEXT, ADMIN_NEVER, true, NULL},
	{"private_key", MAPPING, TYPE_KEY, NULL, MAX_PEM, ADMIN_IF_PATH, true, NULL},
	{"key_id", MAPPING, TYPE_TEXT, NULL, MAX_TEXT, ADMIN_NEVER, false, NULL},
	{"client_cert", MAPPING, TYPE_CERTIFICATE, NULL, MAX_PEM, ADMIN_IF_PATH, true, NULL},
	{"client_key", MAPPING, TYPE_KEY, NULL, MAX_PEM, ADMIN_IF_PATH, true, NULL},
};

StaticAssertDecl(lengthof(option_table) == ESIM_OPT_COUNT,
				 "option_table must have a row for each EsimOptionId");

PG_FUNCTION_INFO_V1(esim_rsp_validator);

/*
 * Fill error; always returns false, so that a check can end with it.  detail
 * and hint may be NULL.
 */
static bool
fail(EsimOptionError *error, int sqlstate, char *message, const char *detail, char *hint)
{
	error->sqlstate = sqlstate;
	error->message = message;
	error->detail = detail ? pstrdup(detail) : NULL;
	error->hint = hint;
	return false;
}

static const char *
article(Oid catalog)
{
	return catalog == UserMappingRelationId ? "a user mapping" : "a server";
}

static bool
unknown_option(const char *name, Oid catalog, EsimOptionError *error)
{
	StringInfoData list;
	char	   *detail = NULL;
	int			i;

	initStringInfo(&list);
	for (i = 0; i < ESIM_OPT_COUNT; i++)
	{
		if (option_table[i].catalog == catalog)
			appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", option_table[i].name);
		else if (strcmp(option_table[i].name, name) == 0)
			detail = psprintf("It is an option of %s.", article(option_table[i].catalog));
	}
	return fail(error, ERRCODE_FDW_INVALID_OPTION_NAME,
				psprintf("invalid option \"%s\"", name), detail,
				list.len > 0
				? psprintf("Valid options in this context are: %s", list.data)
				: pstrdup("There are no valid options in this context."));
}

/*
 * The value is not shown where it is a secret, or may hold one by mistake (a
 * password in a URL, a key in place of a path).
 */
static bool
invalid_value(const Option *option, const char *value, const char *detail, char *hint,
			  EsimOptionError *error)
{
	char	   *message;
	bool		show;

	show = !option->secret && strlen(value) <= 100 &&
		(option->type == TYPE_BOOLEAN || option->type == TYPE_INTERVAL ||
		 option->type == TYPE_INTEGER || option->type == TYPE_REAL ||
		 option->type == TYPE_ENUM || option->type == TYPE_HOST);
	message = show
		? psprintf("invalid value for option \"%s\": \"%s\"", option->name, value)
		: psprintf("invalid value for option \"%s\"", option->name);
	return fail(error, ERRCODE_INVALID_PARAMETER_VALUE, message, detail, hint);
}

/*
 * interval_in() without its errors: milliseconds, months as 30 days, years as
 * 365.25, as extract(epoch) has them.  Returns false if it is no finite
 * interval.
 */
static bool
parse_interval(const char *value, int64 *result)
{
	char	   *text = pstrdup(value);
	char		work[MAXDATELEN + MAXDATEFIELDS];
	char	   *field[MAXDATEFIELDS];
	int			ftype[MAXDATEFIELDS];
	int			nf;
	int			dtype = DTK_DELTA;
	int			status;
	struct pg_itm_in itm;
	Interval	span;

	memset(&itm, 0, sizeof(itm));
	status = ParseDateTime(text, work, sizeof(work), field, ftype, MAXDATEFIELDS, &nf);
	if (status == 0)
		status = DecodeInterval(field, ftype, nf, INTERVAL_FULL_RANGE, &dtype, &itm);
	if (status == DTERR_BAD_FORMAT)
		status = DecodeISO8601Interval(text, &dtype, &itm);
	pfree(text);
	if (status != 0 || dtype != DTK_DELTA || itmin2interval(&itm, &span) != 0)
		return false;

	/* an int32 of months or days in milliseconds fits */
	*result = (int64) (span.month / MONTHS_PER_YEAR) * (DAY_MS * 1461 / 4) +
		(int64) (span.month % MONTHS_PER_YEAR) * (DAY_MS * DAYS_PER_MONTH) +
		(int64) span.day * DAY_MS;
	if (span.time % 1000 > 0)
		*result += 1;			/* what is above zero stays so */
	*result += span.time / 1000;
	return true;
}

/*
 * A URL that can be handed to libcurl and into a request line as it stands:
 * http or https, a host, perhaps a port, a path.  Returns NULL or what is
 * wrong with it, a sentence.
 */
static const char *
url_problem(const char *url, bool allow_query)
{
	const char *p = url;
	const char *host;
	long		port = 0;
	int			digits = 0;
	bool		query = false;

	for (p = url; *p; p++)
	{
		if ((unsigned char) *p <= ' ' || (unsigned char) *p >= 0x7f)
			return "A URL consists of printable ASCII characters without blanks.";
	}
	if (pg_strncasecmp(url, "https://", 8) == 0)
		host = url + 8;
	else if (pg_strncasecmp(url, "http://", 7) == 0)
		host = url + 7;
	else
		return "The URL must begin with https://.";

	p = host + strcspn(host, "/?#");
	if (memchr(host, '@', p - host) != NULL)
		return "The URL must not contain a user name or password.";

	p = host;
	if (*p == '[')
	{
		for (p++; isxdigit((unsigned char) *p) || *p == ':' || *p == '.'; p++)
			;
		if (*p != ']' || p - host < 3)
			return "The URL has no valid host.";
		p++;
	}
	else
	{
		for (; isalnum((unsigned char) *p) || *p == '-' || *p == '.' || *p == '_'; p++)
			;
		if (p == host || *host == '.' || *host == '-' || p - host > 253 ||
			(*p != '\0' && strchr(":/?#", *p) == NULL))
			return "The URL has no valid host.";
	}
	if (*p == ':')
	{
		for (p++; *p >= '0' && *p <= '9' && digits < 6; p++, digits++)
			port = port * 10 + (*p - '0');
		if (port < 1 || port > 65535)
			return "The URL has no valid port.";
	}
	if (*p != '\0' && strchr("/?#", *p) == NULL)
		return "The URL has no valid host.";

	for (; *p; p++)
	{
		if (*p == '#')
			return "The URL must not have a fragment.";
		if (*p == '?' && !allow_query)
			return "The URL must not have a query.";
		if (*p == '?')
			query = true;
		if (*p == '%')
		{
			if (!isxdigit((unsigned char) p[1]) || !isxdigit((unsigned char) p[2]))
				return "The URL has a percent sign without two hexadecimal digits.";
			if (p[1] == '0' || p[1] == '1')
				return "The URL must not contain an escaped control character.";
		}
		else if (!isalnum((unsigned char) *p) &&
				 strchr("/-._~!$&'()*+,;=:@", *p) == NULL && !(query && *p == '?'))
			return "The URL contains a character that must be escaped.";
	}
	return NULL;
}

static bool
is_http(const char *url)
{
	return pg_strncasecmp(url, "http://", 7) == 0;
}

bool
esim_option_is_pem(const char *value)
{
	return strstr(value, "-----BEGIN ") != NULL;
}

/* NULL or what is wrong with PEM text or a path, a sentence */
static const char *
pem_problem(const char *value, OptionType type)
{
	if (!esim_option_is_pem(value))
	{
		const char *p;

		for (p = value; *p; p++)
		{
			if ((unsigned char) *p < ' ' || *p == 0x7f)
				return "The value is neither PEM text nor a path.";
		}
		if (!is_absolute_path(value))
			return "The value is neither PEM text nor an absolute path.";
		if (strlen(value) >= MAXPGPATH)
			return "The path is too long.";
		return NULL;
	}
	if (strstr(value, "-----END ") == NULL)
		return "The PEM text has no end.";
	if (strstr(value, "ENCRYPTED") != NULL)
		return "The key is encrypted; there is no option for its passphrase.";
	if (type == TYPE_KEY && strstr(value, "PRIVATE KEY-----") == NULL)
		return "The PEM text holds no private key.";
	if (type == TYPE_CERTIFICATE && strstr(value, "CERTIFICATE-----") == NULL)
		return "The PEM text holds no certificate.";
	return NULL;
}

/* NULL or what is wrong with an SM-DP+ address, a sentence */
static const char *
address_problem(const char *value)
{
	ActivationCode code;
	ActivationCodeError error;

	if (activation_code_build(value, strlen(value), "", 0, NULL, 0, false, &code, &error))
		return NULL;
	switch (error.status)
	{
		case AC_ADDRESS_URL:
			return "An SM-DP+ address is a host name, without scheme and path.";
		case AC_ADDRESS_PORT:
			return "The port of the SM-DP+ address is not valid.";
		case AC_TOO_LONG:
			return "The SM-DP+ address is too long for an activation code.";
		default:
			return "An SM-DP+ address is a fully qualified domain name.";
	}
}

static const char *
text_problem(const char *value, OptionType type)
{
	const unsigned char *p;

	for (p = (const unsigned char *) value; *p; p++)
	{
		if (*p < ' ' || *p == 0x7f)
			return "The value must not contain control characters.";
		if (type == TYPE_WORD && *p == ' ')
			return "The value must not contain blanks.";
		if (type != TYPE_CREDENTIAL && *p > 0x7f)
			return "The value must consist of ASCII characters.";
	}
	return NULL;
}

/* Check one value and read it into out. */
static bool
parse_value(const Option *option, const char *value, EsimOptionValue *out,
			EsimOptionError *error)
{
	const char *problem = NULL;
	int			i;

	out->text = value;
	if (*value == '\0' && option != &option_table[ESIM_OPT_PASSWORD])
		return invalid_value(option, value, "The value must not be empty.", NULL, error);

	switch (option->type)
	{
		case TYPE_BOOLEAN:
			if (!parse_bool(value, &out->boolean))
				return invalid_value(option, value, "The value must be true or false.", NULL,
									 error);
			return true;

		case TYPE_INTEGER:
			if (!parse_int(value, &i, 0, NULL) || i < 1 || i > option->max)
				return invalid_value(option, value,
									 psprintf("The value must be an integer between 1 and %d.",
											  (int) option->max), NULL, error);
			out->integer = i;
			return true;

		case TYPE_REAL:
			if (!parse_real(value, &out->real, 0, NULL) || isnan(out->real) ||
				out->real < 0 || out->real > option->max)
				return invalid_value(option, value,
									 psprintf("The value must be a number between 0 and %d.",
											  (int) option->max), NULL, error);
			return true;

		case TYPE_INTERVAL:
			if (!parse_interval(value, &out->integer))
				return invalid_value(option, value, "The value must be an interval.",
									 pstrdup("Write it as \"30 s\" or \"2 hours\"."), error);
			if (out->integer <= 0)
				return invalid_value(option, value,
									 "The interval must be greater than zero.", NULL, error);
			if (out->integer > option->max)
				return invalid_value(option, value,
									 option->max >= DAY_MS
									 ? psprintf("The interval must be at most %d days.",
												(int) (option->max / DAY_MS))
									 : psprintf("The interval must be at most %d seconds.",
												(int) (option->max / SECOND_MS)), NULL, error);
			return true;

		case TYPE_ENUM:
			{
				StringInfoData list;

				initStringInfo(&list);
				for (i = 0; option->labels[i] != NULL; i++)
				{
					if (pg_strcasecmp(option->labels[i], value) == 0)
					{
						out->text = option->labels[i];
						return true;
					}
					appendStringInfo(&list, "%s%s", i > 0 ? ", " : "", option->labels[i]);
				}
				return invalid_value(option, value, NULL,
									 psprintf("Available values: %s", list.data), error);
			}

		case TYPE_URL:
		case TYPE_URL_QUERY:
			problem = url_problem(value, option->type == TYPE_URL_QUERY);
			break;
		case TYPE_HOST:
			problem = address_problem(value);
			break;
		case TYPE_CERTIFICATE:
		case TYPE_KEY:
			problem = pem_problem(value, option->type);
			break;
		case TYPE_TEXT:
		case TYPE_WORD:
		case TYPE_CREDENTIAL:
			problem = text_problem(value, option->type);
			break;
	}
	if (problem == NULL && (int64) strlen(value) > option->max)
		problem = psprintf("The value must not be longer than %d bytes.", (int) option->max);
	if (problem != NULL)
		return invalid_value(option, value, problem, NULL, error);
	return true;
}

static bool
conflict(EsimOptionError *error, char *message, const char *detail, const char *hint)
{
	return fail(error, ERRCODE_INVALID_PARAMETER_VALUE, message, detail,
				hint ? pstrdup(hint) : NULL);
}

/* What of a server's options must go together. */
static bool
check_server(const EsimOptions *parsed, EsimOptionError *error)
{
	const EsimOptionValue *v = parsed->value;
	static const EsimOptionId required[] = {ESIM_OPT_PROTOCOL, ESIM_OPT_URL};
	static const EsimOptionId urls[] = {ESIM_OPT_URL, ESIM_OPT_EVENT_URL, ESIM_OPT_TOKEN_URL,
	ESIM_OPT_OPENID_CONFIG_URL};
	const char *protocol;
	int			i;

	for (i = 0; i < lengthof(required); i++)
	{
		const char *name = option_table[required[i]].name;

		if (!v[required[i]].given)
			return fail(error, ERRCODE_FDW_OPTION_NAME_NOT_FOUND,
						psprintf("option \"%s\" is required", name), NULL,
						required[i] == ESIM_OPT_PROTOCOL
						? pstrdup("Say how the server is spoken to: camara, es2plus, eim or twilio.")
						: pstrdup("Give the base URL under which the server's interface is found."));
	}
	protocol = v[ESIM_OPT_PROTOCOL].text;

	for (i = 0; i < lengthof(urls); i++)
	{
		const char *name = option_table[urls[i]].name;

		if (v[urls[i]].given && is_http(v[urls[i]].text) && !v[ESIM_OPT_ALLOW_HTTP].boolean)
			return conflict(error, psprintf("option \"%s\" must be an https URL", name),
							"Credentials and identifiers would be sent without encryption.",
							"A superuser may set the option \"allow_http\" to true for tests.");
	}
	if (v[ESIM_OPT_DIALECT].given && strcmp(protocol, "camara") != 0)
		return conflict(error, psprintf("option \"dialect\" does not apply to protocol \"%s\"", protocol),
						"Only the protocol \"camara\" has dialects.", NULL);
	if (v[ESIM_OPT_REQUESTER_ID].given && strcmp(protocol, "es2plus") != 0)
		return conflict(error, psprintf("option \"requester_id\" does not apply to protocol \"%s\"", protocol),
						"It is ES2+'s functionRequesterIdentifier.", NULL);
	if (v[ESIM_OPT_REDOWNLOAD].given && strcmp(protocol, "twilio") == 0 &&
		strcmp(v[ESIM_OPT_REDOWNLOAD].text, "NEVER") != 0)
		return conflict(error, pstrdup("option \"redownload\" must be NEVER with protocol \"twilio\""),
						"A Super SIM profile can be downloaded only once.", NULL);
	if (v[ESIM_OPT_AUTH_METHOD].given && !v[ESIM_OPT_TOKEN_URL].given &&
		!v[ESIM_OPT_OPENID_CONFIG_URL].given &&
		(strncmp(v[ESIM_OPT_AUTH_METHOD].text, "client_secret_", 14) == 0 ||
		 strcmp(v[ESIM_OPT_AUTH_METHOD].text, "private_key_jwt") == 0))
		return conflict(error, psprintf("auth_method \"%s\" needs the option \"token_url\" or \"openid_config_url\"",
										v[ESIM_OPT_AUTH_METHOD].text),
						"Access tokens are fetched there.", NULL);
	return true;
}

/* What of a user mapping's options must go together. */
static bool
check_mapping(const EsimOptions *parsed, EsimOptionError *error)
{
	const EsimOptionValue *v = parsed->value;
	static const EsimOptionId needs[][2] = {
		{ESIM_OPT_PASSWORD, ESIM_OPT_USERNAME},
		{ESIM_OPT_CLIENT_SECRET, ESIM_OPT_CLIENT_ID},
		{ESIM_OPT_PRIVATE_KEY, ESIM_OPT_CLIENT_ID},
		{ESIM_OPT_KEY_ID, ESIM_OPT_PRIVATE_KEY},
		{ESIM_OPT_CLIENT_KEY, ESIM_OPT_CLIENT_CERT},
	};
	int			i;

	for (i = 0; i < lengthof(needs); i++)
	{
		if (v[needs[i][0]].given && !v[needs[i][1]].given)
			return conflict(error, psprintf("option \"%s\" needs the option \"%s\"",
											option_table[needs[i][0]].name,
											option_table[needs[i][1]].name), NULL, NULL);
	}
	if (v[ESIM_OPT_CLIENT_CERT].given && !v[ESIM_OPT_CLIENT_KEY].given &&
		esim_option_is_pem(v[ESIM_OPT_CLIENT_CERT].text) &&
		strstr(v[ESIM_OPT_CLIENT_CERT].text, "PRIVATE KEY-----") == NULL)
		return conflict(error, pstrdup("option \"client_cert\" needs the option \"client_key\""),
						"The certificate's PEM text does not hold its private key.", NULL);
	if (v[ESIM_OPT_USERNAME].given && strchr(v[ESIM_OPT_USERNAME].text, ':') != NULL)
		return conflict(error, pstrdup("invalid value for option \"username\""),
						"HTTP Basic authentication does not allow a colon in a user name.", NULL);
	return true;
}

bool
esim_options_parse(List *options, Oid catalog, EsimOptions *parsed, EsimOptionError *error)
{
	ListCell   *cell;
	int			i;

	memset(parsed, 0, sizeof(*parsed));
	memset(error, 0, sizeof(*error));
	for (i = 0; i < ESIM_OPT_COUNT; i++)
	{
		if (option_table[i].initial != NULL &&
			!parse_value(&option_table[i], option_table[i].initial, &parsed->value[i], error))
			return false;
	}

	foreach(cell, options)
	{
		DefElem    *def = lfirst_node(DefElem, cell);

		for (i = 0; i < ESIM_OPT_COUNT; i++)
		{
			if (option_table[i].catalog == catalog && strcmp(option_table[i].name, def->defname) == 0)
				break;
		}
		if (i == ESIM_OPT_COUNT)
			return unknown_option(def->defname, catalog, error);
		if (!parse_value(&option_table[i], def->arg ? strVal(def->arg) : "",
						 &parsed->value[i], error))
			return false;
		parsed->value[i].given = true;
	}

	if (catalog == ForeignServerRelationId)
		return check_server(parsed, error);
	if (catalog == UserMappingRelationId)
		return check_mapping(parsed, error);
	return true;
}

/*
 * Raises an error if the current role may not set one of the options as it is.
 * The validator sees the whole list as it will be, not what is changed; so a
 * role that could not set an option can also change nothing beside it.
 */
static void
check_rights(const EsimOptions *parsed, Oid catalog)
{
	int			i;

	for (i = 0; i < ESIM_OPT_COUNT; i++)
	{
		const EsimOptionValue *v = &parsed->value[i];
		const Option *option = &option_table[i];

		if (!v->given)
			continue;
		if (((option->admin == ADMIN_IF_TRUE && v->boolean) ||
			 (option->admin == ADMIN_IF_FALSE && !v->boolean)) && !superuser())
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied to set option \"%s\" to %s",
							option->name, v->boolean ? "true" : "false"),
					 errhint("Only superusers may do that, and only they may change the options of a server on which it is done.")));
		if (option->admin == ADMIN_IF_PATH && !esim_option_is_pem(v->text) &&
			!has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied to set option \"%s\" to a path", option->name),
					 errdetail("Only roles with privileges of the role \"pg_read_server_files\" may name a file of the server, and only they may change the options of %s in which one is named.",
							   article(catalog)),
					 errhint("Give the PEM text instead.")));
	}
}

/*
 * esim_rsp_validator(options text[], catalog oid)
 *
 * Called with the options as they will be after CREATE or ALTER.  Raises
 * FDW_INVALID_OPTION_NAME, FDW_OPTION_NAME_NOT_FOUND (one that is required),
 * INVALID_PARAMETER_VALUE or INSUFFICIENT_PRIVILEGE.
 */
Datum
esim_rsp_validator(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);
	EsimOptions parsed;
	EsimOptionError error;

	if (!esim_options_parse(options, catalog, &parsed, &error))
		ereport(ERROR,
				(errcode(error.sqlstate),
				 errmsg("%s", error.message),
				 error.detail ? errdetail("%s", error.detail) : 0,
				 error.hint ? errhint("%s", error.hint) : 0));
	check_rights(&parsed, catalog);
	PG_RETURN_VOID();
}
