/*-------------------------------------------------------------------------
 *
 * request.h
 *	  Requests of CAMARA's eSIM APIs as a provider takes them: paths, headers
 *	  and bodies, by the OpenAPI of each dialect.  Plain C.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_PROVIDER_REQUEST_H
#define ESIM_PROVIDER_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include "rsp/rsp.h"

#define PROVIDER_MAX_BODY		65536	/* octets */
#define PROVIDER_MAX_MESSAGE	512 /* ErrorInfo.message */
#define PROVIDER_MAX_ID			64	/* operationId of r1.2 */

typedef enum ProviderEndpoint
{
	PROVIDER_DOWNLOAD,
	PROVIDER_ENABLE,
	PROVIDER_DISABLE,
	PROVIDER_DELETE,
	PROVIDER_SET_FALLBACK,
	PROVIDER_RETRIEVE_STATUS,
	PROVIDER_RETRIEVE_OPERATION
} ProviderEndpoint;

typedef struct ProviderRoute
{
	RspDialect	dialect;
	ProviderEndpoint endpoint;
	char		id[PROVIDER_MAX_ID + 1];	/* of the operation */
	bool		id_valid;		/* it fits the dialect's schema */
} ProviderRoute;

/*
 * A body that fits its schema.  The strings belong to json; NULL: not given.
 * To be released, whether it fits or not.
 */
typedef struct ProviderBody
{
	struct json_t *json;
	const char *eid;
	const char *iccid;
	const char *activation_code;
	const char *sink;
	bool		activate;
	char	   *sink_credential;	/* a JSON object, of declared properties only */
	char	   *options;		/* a JSON object: what no parameter takes */
	char		error[PROVIDER_MAX_MESSAGE];	/* in UTF-8 */
} ProviderBody;

/* the path of an API's root, "/esim/vwip" or "/esim-profile-management/vwip" */
extern const char *provider_root(RspDialect dialect);

/*
 * Which endpoint a path names.  A query is passed over, and so is the path of
 * api_root, a URL (NULL or empty: none), in front.  False: none.
 */
extern bool provider_route(const char *path, const char *api_root, ProviderRoute *route);

/* x-correlator; allows_backslash: by the pattern of 2026-02 */
extern bool provider_correlator_valid(const char *value, bool allows_backslash);

/* Authorization: the scheme Bearer and a token of RFC 6750 */
extern bool provider_bearer_valid(const char *value);

/* Content-Type: application/json, whatever its parameters */
extern bool provider_content_type_valid(const char *value);

/* Accept: application/json may be the answer (RFC 9110 12.5.1) */
extern bool provider_accepts_json(const char *value);

/* a UUID in its canonical form, of either case */
extern bool provider_uuid_valid(const char *value);

/* a phone number in international format (E.164) */
extern bool provider_phone_valid(const char *value);

/*
 * Reads the body of an endpoint, in UTF-8, and checks it against the dialect's
 * schema.  r1.2 refuses properties that are not declared, at any level;
 * 2026-02 passes over them, as OpenAPI does where nothing else is said.  False:
 * body->error is a sentence for the client.
 */
extern bool provider_body_read(RspDialect dialect, ProviderEndpoint endpoint, const char *text,
							   size_t length, ProviderBody *body);
extern void provider_body_release(ProviderBody *body);

#endif							/* ESIM_PROVIDER_REQUEST_H */
