/*-------------------------------------------------------------------------
 *
 * discovery.c
 *	  OpenID Connect Discovery 1.0: where the token endpoint is.
 *
 * Of the provider's configuration only token_endpoint is read.  Its issuer is
 * not compared with the URL (section 4.3): which URL that is was said by an
 * administrator, TLS proves who answers there, and gateways that publish a
 * provider under another name are many.
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>

#include "http_internal.h"

#define MAX_TOKEN_URL	2048

/*
 * The request for the configuration that endpoint's URL names.  NULL: no
 * memory.
 */
HttpRequest *
http_discovery_request(HttpEndpoint *endpoint)
{
	HttpRequest *request = http_request_create(endpoint, "GET", "", NULL, NULL, 0, NULL);

	if (request == NULL)
		return NULL;
	if (!http_request_header(request, "Accept", "application/json"))
	{
		http_request_free(request);
		return NULL;
	}
	http_request_asks_only(request);
	return request;
}

/*
 * The token endpoint's URL in the answer, malloc'ed; whether requests may be
 * sent there is not looked at.  NULL: error is filled.
 */
char *
http_discovery_token_url(const HttpAnswer *answer, char *error, size_t error_size)
{
	json_t	   *object;
	const json_t *value;
	char	   *url = NULL;

	if (answer->outcome != HTTP_ANSWERED)
	{
		snprintf(error, error_size, "OpenID configuration: %.160s", answer->error);
		return NULL;
	}
	if (answer->status != 200)
	{
		snprintf(error, error_size, "the OpenID configuration was answered with status %d",
				 answer->status);
		return NULL;
	}
	object = json_loadb(answer->body, answer->length, JSON_REJECT_DUPLICATES, NULL);
	value = json_object_get(object, "token_endpoint");
	if (!json_is_object(object))
		snprintf(error, error_size, "the OpenID configuration is no JSON object");
	else if (!json_is_string(value) || json_string_length(value) == 0 ||
			 json_string_length(value) > MAX_TOKEN_URL)
		snprintf(error, error_size, "the OpenID configuration has no usable token_endpoint");
	else if ((url = strdup(json_string_value(value))) == NULL)
		snprintf(error, error_size, "out of memory");
	json_decref(object);
	return url;
}
