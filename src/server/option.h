/*-------------------------------------------------------------------------
 *
 * option.h
 *	  The options of servers and user mappings: table, check, values.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_OPTION_H
#define ESIM_OPTION_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* in the order of the table in option.c */
typedef enum EsimOptionId
{
	/* servers */
	ESIM_OPT_PROTOCOL,
	ESIM_OPT_URL,
	ESIM_OPT_DIALECT,
	ESIM_OPT_SMDP_ADDRESS,
	ESIM_OPT_EVENT_URL,
	ESIM_OPT_TIMEOUT,
	ESIM_OPT_CONNECT_TIMEOUT,
	ESIM_OPT_MAX_IN_FLIGHT,
	ESIM_OPT_RATE_LIMIT,
	ESIM_OPT_DEFAULT_EXPIRY,
	ESIM_OPT_UNKNOWN_HOLD,
	ESIM_OPT_REDOWNLOAD,
	ESIM_OPT_MATCHING_ID_SOURCE,
	ESIM_OPT_REQUESTER_ID,
	ESIM_OPT_CA_FILE,
	ESIM_OPT_ALLOW_HTTP,
	ESIM_OPT_VERIFY,
	ESIM_OPT_AUTH_METHOD,
	ESIM_OPT_TOKEN_URL,
	ESIM_OPT_OPENID_CONFIG_URL,
	ESIM_OPT_SCOPE,
	ESIM_OPT_AUDIENCE,
	/* user mappings */
	ESIM_OPT_TOKEN,
	ESIM_OPT_USERNAME,
	ESIM_OPT_PASSWORD,
	ESIM_OPT_CLIENT_ID,
	ESIM_OPT_CLIENT_SECRET,
	ESIM_OPT_PRIVATE_KEY,
	ESIM_OPT_KEY_ID,
	ESIM_OPT_CLIENT_CERT,
	ESIM_OPT_CLIENT_KEY,
	ESIM_OPT_COUNT
} EsimOptionId;

typedef struct EsimOptionValue
{
	bool		given;			/* false: the default, text is NULL if there
								 * is none */
	const char *text;			/* as given; of an enum as the table spells it */
	bool		boolean;
	int64		integer;		/* also intervals, in milliseconds */
	double		real;
} EsimOptionValue;

typedef struct EsimOptions
{
	EsimOptionValue value[ESIM_OPT_COUNT];
} EsimOptions;

/* For ereport; allocated in the current memory context, NULL if there is none. */
typedef struct EsimOptionError
{
	int			sqlstate;
	char	   *message;
	char	   *detail;
	char	   *hint;
} EsimOptionError;

/*
 * Reads a list of DefElem with string values, as untransformRelOptions() gives
 * it.  catalog is ForeignServerRelationId or UserMappingRelationId; values of
 * the other catalog's options are left as defaults.  Checks names, values, and
 * what must go together; no rights.  Returns false and fills error.  Raises
 * nothing.
 */
extern bool esim_options_parse(List *options, Oid catalog, EsimOptions *parsed,
							   EsimOptionError *error);

/* true: the value of a certificate or key option is PEM text, not a path */
extern bool esim_option_is_pem(const char *value);

#endif							/* ESIM_OPTION_H */
