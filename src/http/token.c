/*-------------------------------------------------------------------------
 *
 * token.c
 *	  OAuth 2.0 client credentials (RFC 6749 4.4): an endpoint's access token,
 *	  fetched when it is needed, kept until shortly before it expires.
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <jansson.h>

#include "http_internal.h"

#define MAX_TOKEN_ANSWER		65536
#define MAX_TOKEN_LENGTH		16384
#define DEFAULT_LIFETIME_S		300
#define MAX_LIFETIME_S			86400

/* a token is not used in its last tenth, or half a minute */
#define MAX_MARGIN_S			30

/* waits between token requests that fail, and between renewals after a 401 */
#define BACKOFF_FIRST_US		INT64_C(1000000)
#define BACKOFF_MAX_US			INT64_C(60000000)

struct HttpTokenSource
{
	HttpEndpoint *endpoint;		/* the token endpoint */
	char	   *form;			/* body of the token request; holds secrets */
	size_t		form_length;
	HttpRequest *request;		/* under way, NULL: none */
	int64_t		expires_us;
	int			failures;		/* token requests in a row */
	int			rejections;		/* 401 in a row */
	int64_t		not_before_us;	/* of the next token request after failures */
	int64_t		no_renewal_before_us;
	int			status;			/* of the last failure */
	char		error[200];
};

/* application/x-www-form-urlencoded, RFC 6749 appendix B; returns the end */
static char *
form_encode(char *to, const char *text)
{
	static const char hex[] = "0123456789ABCDEF";

	for (; *text; text++)
	{
		unsigned char c = (unsigned char) *text;

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			(c >= '0' && c <= '9') || strchr("-._*", c) != NULL)
			*to++ = (char) c;
		else if (c == ' ')
			*to++ = '+';
		else
		{
			*to++ = '%';
			*to++ = hex[c >> 4];
			*to++ = hex[c & 15];
		}
	}
	*to = '\0';
	return to;
}

static size_t
encoded_max(const char *text)
{
	return text != NULL ? 3 * strlen(text) : 0;
}

static char *
add_field(char *to, const char *name, const char *value)
{
	if (value == NULL || *value == '\0')
		return to;
	*to++ = '&';
	to = stpcpy(to, name);
	*to++ = '=';
	return form_encode(to, value);
}

/* the body of the token request; false: no memory */
static bool
make_form(HttpTokenSource *tokens, const HttpEndpointOptions *options)
{
	size_t		size = 128 + encoded_max(options->client_id) +
		encoded_max(options->client_secret) + encoded_max(options->scope) +
		encoded_max(options->audience);
	char	   *to;

	tokens->form = malloc(size);
	if (tokens->form == NULL)
		return false;
	to = stpcpy(tokens->form, "grant_type=client_credentials");
	to = add_field(to, "scope", options->scope);
	to = add_field(to, "audience", options->audience);
	if (options->auth == HTTP_AUTH_CLIENT_SECRET_POST)
	{
		to = add_field(to, "client_id", options->client_id);
		to = add_field(to, "client_secret", options->client_secret);
	}
	tokens->form_length = to - tokens->form;
	return true;
}

/* RFC 6749 2.3.1: both are form-encoded before they are joined */
static HttpCredential *
make_basic(const HttpEndpointOptions *options)
{
	size_t		id_size = encoded_max(options->client_id) + 1;
	size_t		secret_size = encoded_max(options->client_secret) + 1;
	char	   *id = malloc(id_size);
	char	   *secret = malloc(secret_size);
	HttpCredential *credential = NULL;

	if (id != NULL && secret != NULL)
	{
		form_encode(id, options->client_id);
		form_encode(secret, options->client_secret);
		credential = http_credential_basic(id, secret);
	}
	http_wipe_free(id, id_size);
	http_wipe_free(secret, secret_size);
	return credential;
}

/*
 * Gives the endpoint a source of tokens.  token_url is absolute, or begins
 * with '/' at the server of the base URL.  False: error is filled.
 */
bool
http_tokens_create(HttpEndpoint *endpoint, const HttpEndpointOptions *options,
				   char *error, size_t error_size)
{
	HttpEndpointOptions token_options = *options;
	HttpTokenSource *tokens;
	char	   *url = NULL;

	if (options->token_url == NULL || *options->token_url == '\0')
	{
		if (options->openid_config_url != NULL && *options->openid_config_url != '\0')
			snprintf(error, error_size,
					 "option \"openid_config_url\" is not supported by this release, "
					 "\"token_url\" is needed");
		else
			snprintf(error, error_size, "option \"token_url\" is missing");
		return false;
	}

	tokens = calloc(1, sizeof(HttpTokenSource));
	if (tokens == NULL)
	{
		snprintf(error, error_size, "out of memory");
		return false;
	}
	endpoint->tokens = tokens;
	if (options->token_url[0] == '/')
	{
		size_t		size = endpoint->target + strlen(options->token_url) + 1;

		url = malloc(size);
		if (url == NULL)
		{
			snprintf(error, error_size, "out of memory");
			return false;
		}
		snprintf(url, size, "%.*s%s", (int) endpoint->target, endpoint->base,
				 options->token_url);
	}
	token_options.max_answer = MAX_TOKEN_ANSWER;
	tokens->endpoint = http_endpoint_new(&token_options, "token_url",
										 url != NULL ? url : options->token_url,
										 true, error, error_size);
	free(url);
	if (tokens->endpoint == NULL)
		return false;
	if (!make_form(tokens, options))
	{
		snprintf(error, error_size, "out of memory");
		return false;
	}
	if (options->auth == HTTP_AUTH_CLIENT_SECRET_BASIC)
	{
		tokens->endpoint->credential = make_basic(options);
		if (tokens->endpoint->credential == NULL)
		{
			snprintf(error, error_size, "out of memory");
			return false;
		}
	}
	return true;
}

void
http_tokens_free(HttpTokenSource *tokens)
{
	if (tokens == NULL)
		return;
	http_endpoint_release(tokens->endpoint);
	http_wipe_free(tokens->form, tokens->form_length);
	free(tokens);
}

static int64_t
backoff_us(int n)
{
	int64_t		delay = BACKOFF_FIRST_US;

	while (--n > 0 && delay < BACKOFF_MAX_US)
		delay *= 2;
	return delay < BACKOFF_MAX_US ? delay : BACKOFF_MAX_US;
}

static void
drop_token(HttpEndpoint *endpoint)
{
	http_credential_release(endpoint->credential);
	endpoint->credential = NULL;
}

static void
token_failed(HttpTokenSource *tokens, int status, const char *error)
{
	tokens->failures++;
	tokens->not_before_us = http_now_us() + backoff_us(tokens->failures);
	tokens->status = status;
	snprintf(tokens->error, sizeof(tokens->error), "%.190s", error);
}

/*
 * Whether requests of the endpoint can be started.  Fetches a token where one
 * is needed and none is under way; after a failure no other is tried for a
 * while.
 */
HttpTokenState
http_tokens_state(HttpLoop *loop, HttpEndpoint *endpoint)
{
	HttpTokenSource *tokens = endpoint->tokens;
	HttpRequest *request;
	int64_t		now;

	if (tokens == NULL)
		return HTTP_TOKEN_READY;
	now = http_now_us();
	if (endpoint->credential != NULL && now < tokens->expires_us)
		return HTTP_TOKEN_READY;
	if (tokens->request != NULL)
		return HTTP_TOKEN_AWAITED;
	drop_token(endpoint);
	if (tokens->failures > 0 && now < tokens->not_before_us)
		return HTTP_TOKEN_FAILED;

	request = http_request_create(tokens->endpoint, "POST", "",
								  "application/x-www-form-urlencoded",
								  tokens->form, tokens->form_length, NULL);
	if (request == NULL ||
		!http_request_header(request, "Accept", "application/json"))
	{
		http_request_free(request);
		token_failed(tokens, 0, "out of memory");
		return HTTP_TOKEN_FAILED;
	}
	http_request_asks_only(request);
	request->token_for = endpoint;
	http_endpoint_retain(endpoint);
	tokens->request = request;
	http_loop_submit(loop, request);
	return HTTP_TOKEN_AWAITED;
}

/*
 * Ends a waiting request for which there is no token.
 */
void
http_tokens_refuse(HttpEndpoint *endpoint, HttpRequest *request)
{
	char		reason[256];

	snprintf(reason, sizeof(reason), "could not get an access token: %s",
			 endpoint->tokens->error);
	http_request_not_sent(request, reason);
	request->answer.auth_failed = true;
	request->answer.auth_status = endpoint->tokens->status;
}

/* expires_in: a number, or one in a string; seconds that it may be used */
static int64_t
lifetime_s(const json_t *value)
{
	double		seconds = DEFAULT_LIFETIME_S;
	double		margin;

	if (json_is_number(value))
		seconds = json_number_value(value);
	else if (json_is_string(value))
	{
		char	   *end;
		double		number = strtod(json_string_value(value), &end);

		if (end != json_string_value(value) && *end == '\0')
			seconds = number;
	}
	if (!(seconds > 0))
		return 0;
	if (seconds > MAX_LIFETIME_S)
		seconds = MAX_LIFETIME_S;
	margin = seconds / 10;
	if (margin > MAX_MARGIN_S)
		margin = MAX_MARGIN_S;
	return (int64_t) (seconds - margin);
}

/* RFC 6750 2.1: visible ASCII is all that can stand in the header */
static bool
is_usable_token(const char *token, size_t length)
{
	size_t		i;

	if (length == 0 || length > MAX_TOKEN_LENGTH)
		return false;
	for (i = 0; i < length; i++)
	{
		if ((unsigned char) token[i] <= 0x20 || (unsigned char) token[i] >= 0x7f)
			return false;
	}
	return true;
}

/* RFC 6749 5.2's error code, if it is one */
static void
add_error_code(char *text, size_t size, const json_t *object)
{
	const char *code = json_string_value(json_object_get(object, "error"));
	size_t		length = strlen(text);
	const char *c;

	if (code == NULL || *code == '\0' || strlen(code) > 60)
		return;
	for (c = code; *c; c++)
	{
		if (!((*c >= 'a' && *c <= 'z') || *c == '_'))
			return;
	}
	snprintf(text + length, size - length, " (%s)", code);
}

static void
take_token(HttpEndpoint *endpoint, const json_t *object)
{
	HttpTokenSource *tokens = endpoint->tokens;
	const json_t *token = json_object_get(object, "access_token");
	const char *type = json_string_value(json_object_get(object, "token_type"));
	int64_t		lifetime = lifetime_s(json_object_get(object, "expires_in"));

	if (!json_is_string(token) ||
		!is_usable_token(json_string_value(token), json_string_length(token)))
	{
		token_failed(tokens, 200, "the token endpoint's answer has no usable access_token");
		return;
	}
	if (type != NULL && strcasecmp(type, "Bearer") != 0)
	{
		token_failed(tokens, 200, "the token endpoint gave a token that is no bearer token");
		return;
	}
	drop_token(endpoint);
	endpoint->credential = http_credential_create("Bearer",
												  json_string_value(token));
	if (endpoint->credential == NULL)
	{
		token_failed(tokens, 200, "out of memory");
		return;
	}

	/* one that is over at once serves those that wait for it now */
	tokens->expires_us = http_now_us() +
		(lifetime > 0 ? lifetime : 1) * INT64_C(1000000);
	tokens->failures = 0;
	tokens->not_before_us = 0;
}

/*
 * The token request is over; its caller frees it.
 */
void
http_tokens_answered(HttpEndpoint *endpoint, HttpRequest *token_request)
{
	HttpTokenSource *tokens = endpoint->tokens;
	const HttpAnswer *answer = &token_request->answer;
	json_t	   *object = NULL;
	json_t	   *token;
	char		text[200];

	tokens->request = NULL;
	if (answer->outcome != HTTP_ANSWERED)
	{
		token_failed(tokens, 0, answer->error);
		return;
	}
	object = json_loadb(answer->body, answer->length, JSON_REJECT_DUPLICATES, NULL);
	if (answer->status != 200)
	{
		snprintf(text, sizeof(text), "the token endpoint answered with status %d",
				 answer->status);
		add_error_code(text, sizeof(text), object);
		token_failed(tokens, answer->status, text);
	}
	else if (!json_is_object(object))
		token_failed(tokens, answer->status,
					 "the token endpoint's answer is no JSON object");
	else
		take_token(endpoint, object);

	/* jansson does not wipe what it frees */
	token = json_object_get(object, "access_token");
	if (json_is_string(token))
		explicit_bzero((char *) json_string_value(token), json_string_length(token));
	json_decref(object);
}

/* its loop is gone */
void
http_tokens_forget_request(HttpEndpoint *endpoint)
{
	endpoint->tokens->request = NULL;
}

/* the peer took the token */
void
http_tokens_accepted(HttpEndpoint *endpoint)
{
	endpoint->tokens->rejections = 0;
}

/*
 * A request that carried credential was answered with 401.  True: the token is
 * or was renewed and the request may be sent once more.  A peer that rejects
 * fresh tokens does not make us ask for one each time.
 */
bool
http_tokens_rejected(HttpEndpoint *endpoint, HttpCredential *credential)
{
	HttpTokenSource *tokens = endpoint->tokens;
	int64_t		now;

	if (credential == NULL)
		return false;
	if (credential != endpoint->credential)
		return true;
	now = http_now_us();
	if (tokens->rejections > 0 && now < tokens->no_renewal_before_us)
		return false;
	tokens->rejections++;
	tokens->no_renewal_before_us = now + backoff_us(tokens->rejections);
	drop_token(endpoint);
	return true;
}
