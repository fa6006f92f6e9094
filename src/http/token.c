/*-------------------------------------------------------------------------
 *
 * token.c
 *	  OAuth 2.0 client credentials (RFC 6749 4.4): an endpoint's access token,
 *	  fetched when it is needed, kept until shortly before it expires.
 *
 * Where the token endpoint is, is said by an option or asked of the OpenID
 * provider's configuration first.  There is one such request at a time, for
 * the configuration or for a token.
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

/* how long the OpenID provider's configuration is good for; tests have less */
#ifndef DISCOVERY_LIFETIME_US
#define DISCOVERY_LIFETIME_US	INT64_C(3600000000)
#endif

#define ASSERTION_FIELDS \
	"&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer" \
	"&client_assertion="

struct HttpTokenSource
{
	HttpEndpoint *endpoint;		/* the token endpoint, NULL: not known yet */
	char	   *url;			/* its URL as it was told */
	HttpCredential *credential; /* that it is shown, NULL: none */
	char	   *form;			/* body of the token request; holds secrets */
	size_t		form_length;
	HttpSigner *signer;			/* of assertions, NULL: none */
	char	   *audience;		/* of assertions, NULL: url */

	HttpEndpoint *config;		/* of the OpenID configuration, NULL: none */
	int64_t		look_us;		/* when to look there again */
	int			config_failures;	/* in a row */

	HttpRequest *request;		/* under way, NULL: none */
	bool		discovering;	/* it is one for the configuration */
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

/* the body of the token request but for an assertion; false: no memory */
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
	if (options->auth != HTTP_AUTH_PRIVATE_KEY_JWT)
		to = add_field(to, "audience", options->audience);
	if (options->auth != HTTP_AUTH_CLIENT_SECRET_BASIC)
		to = add_field(to, "client_id", options->client_id);
	if (options->auth == HTTP_AUTH_CLIENT_SECRET_POST)
		to = add_field(to, "client_secret", options->client_secret);
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
 * text, or the same at the server of the endpoint's base URL if it begins with
 * '/'; malloc'ed.
 */
static char *
absolute_url(const HttpEndpoint *endpoint, const char *text)
{
	size_t		size = endpoint->target + strlen(text) + 1;
	char	   *url;

	if (text[0] != '/')
		return strdup(text);
	url = malloc(size);
	if (url != NULL)
		snprintf(url, size, "%.*s%s", (int) endpoint->target, endpoint->base, text);
	return url;
}

/*
 * Makes url, which becomes ours, the token endpoint's; limits and TLS are
 * those of options.  What was known before stays if that fails: error is
 * filled then.
 */
static bool
set_token_url(HttpTokenSource *tokens, const HttpEndpointOptions *options,
			  const char *what, char *url, char *error, size_t error_size)
{
	HttpEndpoint *endpoint;

	if (url == NULL)
	{
		snprintf(error, error_size, "out of memory");
		return false;
	}
	if (tokens->url != NULL && strcmp(tokens->url, url) == 0)
	{
		free(url);
		return true;
	}
	endpoint = http_endpoint_new(options, what, url, true, error, error_size);
	if (endpoint == NULL)
	{
		free(url);
		return false;
	}
	if (tokens->credential != NULL)
	{
		tokens->credential->refs++;
		endpoint->credential = tokens->credential;
	}
	http_endpoint_release(tokens->endpoint);
	free(tokens->url);
	tokens->endpoint = endpoint;
	tokens->url = url;
	return true;
}

/*
 * Gives the endpoint a source of tokens.  token_url and openid_config_url are
 * absolute, or begin with '/' at the server of the base URL; with both, the
 * first counts.  False: error is filled.
 */
bool
http_tokens_create(HttpEndpoint *endpoint, const HttpEndpointOptions *options,
				   char *error, size_t error_size)
{
	HttpEndpointOptions token_options = *options;
	HttpTokenSource *tokens;
	bool		discover = options->token_url == NULL || *options->token_url == '\0';
	char	   *url;

	if (discover && (options->openid_config_url == NULL || *options->openid_config_url == '\0'))
	{
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
	if (!make_form(tokens, options))
	{
		snprintf(error, error_size, "out of memory");
		return false;
	}
	if (options->auth == HTTP_AUTH_PRIVATE_KEY_JWT)
	{
		tokens->signer = http_signer_create(options->client_id, options->private_key,
											options->key_id, error, error_size);
		if (tokens->signer == NULL)
			return false;
		if (options->audience != NULL && *options->audience != '\0' &&
			(tokens->audience = strdup(options->audience)) == NULL)
		{
			snprintf(error, error_size, "out of memory");
			return false;
		}
	}
	if (options->auth == HTTP_AUTH_CLIENT_SECRET_BASIC)
	{
		tokens->credential = make_basic(options);
		if (tokens->credential == NULL)
		{
			snprintf(error, error_size, "out of memory");
			return false;
		}
	}

	token_options.max_answer = MAX_TOKEN_ANSWER;
	url = absolute_url(endpoint, discover ? options->openid_config_url : options->token_url);
	if (!discover)
		return set_token_url(tokens, &token_options, "option \"token_url\"", url,
							 error, error_size);
	if (url == NULL)
		snprintf(error, error_size, "out of memory");
	else
		tokens->config = http_endpoint_new(&token_options, "option \"openid_config_url\"",
										   url, true, error, error_size);
	free(url);
	return tokens->config != NULL;
}

void
http_tokens_free(HttpTokenSource *tokens)
{
	if (tokens == NULL)
		return;
	http_endpoint_release(tokens->endpoint);
	http_endpoint_release(tokens->config);
	http_credential_release(tokens->credential);
	http_signer_free(tokens->signer);
	http_wipe_free(tokens->form, tokens->form_length);
	free(tokens->audience);
	free(tokens->url);
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
 * The request for a token, with a fresh assertion where there are any.  NULL:
 * error is filled.
 */
static HttpRequest *
token_request(HttpTokenSource *tokens, char *error, size_t error_size)
{
	HttpRequest *request;
	char	   *assertion = NULL;
	char	   *form = tokens->form;
	size_t		length = tokens->form_length;

	if (tokens->signer != NULL)
	{
		assertion = http_signer_assertion(tokens->signer, tokens->audience != NULL ?
										  tokens->audience : tokens->url,
										  error, error_size);
		if (assertion == NULL)
			return NULL;
		length += strlen(ASSERTION_FIELDS) + strlen(assertion);
		form = malloc(length + 1);
		if (form != NULL)
			stpcpy(stpcpy(stpcpy(form, tokens->form), ASSERTION_FIELDS), assertion);
		http_wipe_free_string(assertion);
	}

	snprintf(error, error_size, "out of memory");
	if (form == NULL)
		return NULL;
	request = http_request_create(tokens->endpoint, "POST", "",
								  "application/x-www-form-urlencoded",
								  form, length, NULL);
	if (form != tokens->form)
		http_wipe_free(form, length);
	if (request == NULL)
		return NULL;
	if (!http_request_header(request, "Accept", "application/json"))
	{
		http_request_free(request);
		return NULL;
	}

	/* an assertion is good for one use */
	if (tokens->signer == NULL)
		http_request_asks_only(request);
	return request;
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
	char		error[200] = "out of memory";

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

	tokens->discovering = tokens->config != NULL &&
		(tokens->endpoint == NULL || now >= tokens->look_us);
	request = tokens->discovering ? http_discovery_request(tokens->config) :
		token_request(tokens, error, sizeof(error));
	if (request == NULL)
	{
		token_failed(tokens, 0, error);
		return HTTP_TOKEN_FAILED;
	}
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
 * The OpenID configuration was asked for.  While it cannot be had, a token
 * endpoint that is known from before is used.
 */
static void
take_configuration(HttpTokenSource *tokens, const HttpAnswer *answer)
{
	const HttpEndpoint *config = tokens->config;
	HttpEndpointOptions options;
	char		error[200] = "";
	char	   *url = http_discovery_token_url(answer, error, sizeof(error));

	memset(&options, 0, sizeof(options));
	options.timeout_ms = config->timeout_ms;
	options.connect_timeout_ms = config->connect_timeout_ms;
	options.max_answer = config->max_answer;
	options.verify = config->verify;
	options.allow_http = config->allow_http;
	options.ca_file = config->ca_file;
	options.client_cert = config->client_cert;
	options.client_key = config->client_key;
	options.address_allowed = config->address_allowed;
	options.address_arg = config->address_arg;
	if (url != NULL &&
		set_token_url(tokens, &options, "token_endpoint of the OpenID configuration", url,
					  error, sizeof(error)))
	{
		tokens->config_failures = 0;
		tokens->look_us = http_now_us() + DISCOVERY_LIFETIME_US;
	}
	else if (tokens->endpoint != NULL)
		tokens->look_us = http_now_us() + backoff_us(++tokens->config_failures);
	else
		token_failed(tokens, answer->outcome == HTTP_ANSWERED ? answer->status : 0, error);
}

/*
 * The request for a token or for the OpenID configuration is over; its caller
 * frees it.
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
	if (tokens->discovering)
	{
		take_configuration(tokens, answer);
		return;
	}
	if (answer->outcome != HTTP_ANSWERED)
	{
		/* it may have moved */
		tokens->look_us = 0;
		token_failed(tokens, 0, answer->error);
		return;
	}
	object = json_loadb(answer->body, answer->length, JSON_REJECT_DUPLICATES, NULL);
	if (answer->status != 200)
	{
		if (answer->status < 400 || answer->status == 404 || answer->status == 410)
			tokens->look_us = 0;
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
