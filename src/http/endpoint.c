/*-------------------------------------------------------------------------
 *
 * endpoint.c
 *	  Where and how requests are sent: URL, TLS, credentials, curl handles.
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_internal.h"

/* There are gateways that let nobody in who has no name. */
#define USER_AGENT					"esim-postgresql"

#define MAX_PEM_FILE				262144
#define DEFAULT_TIMEOUT_MS			30000
#define DEFAULT_CONNECT_TIMEOUT_MS	10000
#define DEFAULT_MAX_ANSWER			(1024 * 1024)

/* No "100 Continue" is waited for: one more way for a request to be lost. */
struct curl_slist http_last_header = {(char *) "Expect:", NULL};

/*
 * Frees what held a secret.
 */
void
http_wipe_free(void *pointer, size_t size)
{
	if (pointer == NULL)
		return;
	explicit_bzero(pointer, size);
	free(pointer);
}

void
http_wipe_free_string(char *text)
{
	if (text != NULL)
		http_wipe_free(text, strlen(text));
}

/*
 * "Authorization: <scheme> <value>" as a header list of one; NULL: no memory.
 */
HttpCredential *
http_credential_create(const char *scheme, const char *value)
{
	size_t		size = strlen("Authorization:  ") + strlen(scheme) +
		strlen(value) + 1;
	HttpCredential *credential = malloc(sizeof(HttpCredential) + size);

	if (credential == NULL)
		return NULL;
	credential->refs = 1;
	credential->length = size;
	snprintf(credential->line, size, "Authorization: %s %s", scheme, value);
	credential->header.data = credential->line;
	credential->header.next = &http_last_header;
	return credential;
}

/*
 * The same for a user name and a password, RFC 7617.
 */
HttpCredential *
http_credential_basic(const char *user, const char *password)
{
	static const char digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t		length = strlen(user) + 1 + strlen(password);
	size_t		encoded_size = (length + 2) / 3 * 4 + 1;
	char	   *pair = malloc(length + 1);
	char	   *encoded = malloc(encoded_size);
	HttpCredential *credential = NULL;

	if (pair != NULL && encoded != NULL)
	{
		char	   *out = encoded;
		size_t		i;

		snprintf(pair, length + 1, "%s:%s", user, password);
		for (i = 0; i < length; i += 3)
		{
			unsigned	bits = (unsigned char) pair[i] << 16;

			if (i + 1 < length)
				bits |= (unsigned char) pair[i + 1] << 8;
			if (i + 2 < length)
				bits |= (unsigned char) pair[i + 2];
			*out++ = digits[bits >> 18];
			*out++ = digits[(bits >> 12) & 63];
			*out++ = i + 1 < length ? digits[(bits >> 6) & 63] : '=';
			*out++ = i + 2 < length ? digits[bits & 63] : '=';
		}
		*out = '\0';
		credential = http_credential_create("Basic", encoded);
	}
	http_wipe_free(pair, length);
	http_wipe_free(encoded, encoded_size);
	return credential;
}

void
http_credential_release(HttpCredential *credential)
{
	if (credential != NULL && --credential->refs == 0)
		http_wipe_free(credential, sizeof(HttpCredential) + credential->length);
}

/* text may stand in front of its blocks */
static bool
is_pem(const char *text)
{
	return strstr(text, "-----BEGIN ") != NULL;
}

static bool
is_clean(const char *text)
{
	for (; *text; text++)
	{
		if ((unsigned char) *text <= 0x20 || (unsigned char) *text >= 0x7f)
			return false;
	}
	return true;
}

/* for secrets that go into a header: RFC 7235's token68 and more, no blanks */
static bool
has_control(const char *text)
{
	for (; *text; text++)
	{
		if ((unsigned char) *text < 0x20 || (unsigned char) *text == 0x7f)
			return true;
	}
	return false;
}

/*
 * Takes the URL apart into endpoint's base, origin, target, host and port.
 * what is its name for messages.  False: error is filled.
 */
static bool
take_url(HttpEndpoint *endpoint, const char *what, const char *url,
		 bool query_allowed, char *error, size_t error_size)
{
	CURLU	   *parts;
	CURLUcode	code;
	char	   *scheme = NULL;
	char	   *host = NULL;
	char	   *port = NULL;
	char	   *whole = NULL;
	char	   *path;
	size_t		length;
	bool		ok = false;

	if (url == NULL || *url == '\0')
	{
		snprintf(error, error_size, "%s is missing", what);
		return false;
	}
	if (!is_clean(url))
	{
		snprintf(error, error_size,
				 "%s has a blank, a control character or one beyond ASCII",
				 what);
		return false;
	}

	parts = curl_url();
	if (parts == NULL)
	{
		snprintf(error, error_size, "out of memory");
		return false;
	}
	code = curl_url_set(parts, CURLUPART_URL, url,
						CURLU_NON_SUPPORT_SCHEME | CURLU_DISALLOW_USER);
	if (code == CURLUE_USER_NOT_ALLOWED)
		snprintf(error, error_size, "%s must not contain a user name", what);
	else if (code != CURLUE_OK ||
			 curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
			 curl_url_get(parts, CURLUPART_HOST, &host, 0) != CURLUE_OK)
		snprintf(error, error_size, "%s is not a URL with a scheme and a host",
				 what);
	else if (strcmp(scheme, "https") != 0 && strcmp(scheme, "http") != 0)
		snprintf(error, error_size, "%s is not an https URL", what);
	else if (strcmp(scheme, "http") == 0 && !endpoint->allow_http)
		snprintf(error, error_size,
				 "%s is not an https URL and \"allow_http\" is off", what);
	else if (strchr(url, '#') != NULL)
		snprintf(error, error_size, "%s must not have a fragment", what);
	else if (strchr(url, '?') != NULL && !query_allowed)
		snprintf(error, error_size, "%s must not have a query", what);
	else if (curl_url_get(parts, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK ||
			 curl_url_get(parts, CURLUPART_URL, &whole, 0) != CURLUE_OK ||
			 strtol(port, NULL, 10) < 1)
		snprintf(error, error_size, "%s is not a valid URL", what);
	else
	{
		path = strchr(strstr(whole, "://") + 3, '/');
		length = strlen(whole);
		endpoint->target = path != NULL ? (size_t) (path - whole) : length;
		if (!query_allowed || strchr(whole, '?') == NULL)
		{
			while (length > endpoint->target && whole[length - 1] == '/')
				length--;
		}
		endpoint->base = strndup(whole, length);
		endpoint->origin = malloc(endpoint->target + 2);
		endpoint->host = strdup(host);
		endpoint->port = strdup(port);
		if (endpoint->base == NULL || endpoint->origin == NULL ||
			endpoint->host == NULL || endpoint->port == NULL)
			snprintf(error, error_size, "out of memory");
		else
		{
			memcpy(endpoint->origin, whole, endpoint->target);
			memcpy(endpoint->origin + endpoint->target, "/", 2);
			ok = true;
		}
	}

	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	curl_free(whole);
	curl_url_cleanup(parts);
	return ok;
}

/*
 * The text of a PEM file, or of a value that is PEM text itself, with the
 * line last behind it.  NULL: error is filled.
 */
char *
http_load_pem(const char *option, const char *value, const char *last,
			  char *error, size_t error_size)
{
	char	   *text = NULL;
	size_t		length = 0;
	FILE	   *file;

	if (is_pem(value))
	{
		length = strlen(value);
		text = malloc(length + strlen(last) + 1);
		if (text != NULL)
			memcpy(text, value, length);
	}
	else
	{
		file = fopen(value, "re");
		if (file == NULL)
		{
			snprintf(error, error_size, "could not open the file of option \"%s\": %s",
					 option, strerror(errno));
			return NULL;
		}
		text = malloc(MAX_PEM_FILE + strlen(last) + 1);
		if (text != NULL)
			length = fread(text, 1, MAX_PEM_FILE, file);
		if (text != NULL && (ferror(file) || length == 0 || length == MAX_PEM_FILE ||
							 memchr(text, '\0', length) != NULL))
		{
			snprintf(error, error_size, "could not read the file of option \"%s\"", option);
			http_wipe_free(text, MAX_PEM_FILE);
			fclose(file);
			return NULL;
		}
		fclose(file);
	}
	if (text == NULL)
		snprintf(error, error_size, "out of memory");
	else
		strcpy(text + length, last);
	return text;
}

/*
 * Certificate and key of the client.  libcurl takes up a kept connection if
 * the certificate is the same, and does not look at the key: who names
 * another's certificate would get that one's connections.  So each endpoint
 * has a certificate text of its own; PEM allows lines around its blocks.
 */
static bool
load_client_cert(HttpEndpoint *endpoint, const HttpEndpointOptions *options,
				 char *error, size_t error_size)
{
	static unsigned long last_number = 0;
	char		line[40];
	const char *key = options->client_key;

	if (options->client_cert == NULL || *options->client_cert == '\0')
		return true;

	/* the key may stand in the same file or text as the certificate */
	if (key == NULL || *key == '\0')
		key = options->client_cert;
	snprintf(line, sizeof(line), "\nendpoint %lu\n", ++last_number);
	endpoint->client_cert = http_load_pem("client_cert", options->client_cert, line,
										  error, error_size);
	if (endpoint->client_cert == NULL)
		return false;
	endpoint->client_key = http_load_pem("client_key", key, "", error, error_size);
	return endpoint->client_key != NULL;
}

/*
 * An endpoint for url with the options' limits and TLS, without credentials.
 * what is url's name for messages.  NULL: error is filled.
 */
HttpEndpoint *
http_endpoint_new(const HttpEndpointOptions *options, const char *what,
				  const char *url, bool query_allowed,
				  char *error, size_t error_size)
{
	HttpEndpoint *endpoint = calloc(1, sizeof(HttpEndpoint));

	if (endpoint == NULL)
	{
		snprintf(error, error_size, "out of memory");
		return NULL;
	}
	endpoint->refs = 1;
	TAILQ_INIT(&endpoint->waiting);
	endpoint->timeout_ms = options->timeout_ms > 0 ?
		options->timeout_ms : DEFAULT_TIMEOUT_MS;
	endpoint->connect_timeout_ms = options->connect_timeout_ms > 0 ?
		options->connect_timeout_ms : DEFAULT_CONNECT_TIMEOUT_MS;
	endpoint->max_answer = options->max_answer > 0 ?
		options->max_answer : DEFAULT_MAX_ANSWER;
	endpoint->verify = options->verify;
	endpoint->allow_http = options->allow_http;
	endpoint->address_allowed = options->address_allowed;
	endpoint->address_arg = options->address_arg;

	if (!take_url(endpoint, what, url, query_allowed, error, error_size))
	{
		http_endpoint_release(endpoint);
		return NULL;
	}
	if (options->ca_file != NULL && *options->ca_file != '\0')
	{
		endpoint->ca_file = strdup(options->ca_file);
		if (endpoint->ca_file == NULL)
		{
			snprintf(error, error_size, "out of memory");
			http_endpoint_release(endpoint);
			return NULL;
		}
	}
	if (!load_client_cert(endpoint, options, error, error_size))
	{
		http_endpoint_release(endpoint);
		return NULL;
	}
	return endpoint;
}

/*
 * See http.h.  The options' strings are copied.
 */
HttpEndpoint *
http_endpoint_create(const HttpEndpointOptions *options,
					 char *error, size_t error_size)
{
	HttpEndpoint *endpoint;
	const char *missing = NULL;
	const char *unclean = NULL;
	bool		ok = true;

	error[0] = '\0';
	endpoint = http_endpoint_new(options, "option \"url\"", options->base_url,
								 false, error, error_size);
	if (endpoint == NULL)
		return NULL;

	if (options->client_key != NULL && *options->client_key != '\0' &&
		endpoint->client_cert == NULL)
		missing = "client_cert";

	switch (options->auth)
	{
		case HTTP_AUTH_NONE:
			break;
		case HTTP_AUTH_BEARER:
			if (options->token == NULL || *options->token == '\0')
				missing = "token";
			else if (!is_clean(options->token))
				unclean = "token";
			else if (missing == NULL)
			{
				endpoint->credential = http_credential_create("Bearer",
															  options->token);
				ok = endpoint->credential != NULL;
			}
			break;
		case HTTP_AUTH_BASIC:
			if (options->username == NULL || *options->username == '\0')
				missing = "username";
			else if (options->password == NULL)
				missing = "password";
			else if (has_control(options->username) ||
					 strchr(options->username, ':') != NULL)
				unclean = "username";
			else if (has_control(options->password))
				unclean = "password";
			else if (missing == NULL)
			{
				endpoint->credential = http_credential_basic(options->username,
															 options->password);
				ok = endpoint->credential != NULL;
			}
			break;
		case HTTP_AUTH_CLIENT_SECRET_BASIC:
		case HTTP_AUTH_CLIENT_SECRET_POST:
			if (options->client_id == NULL || *options->client_id == '\0')
				missing = "client_id";
			else if (options->client_secret == NULL)
				missing = "client_secret";
			else if (missing == NULL &&
					 !http_tokens_create(endpoint, options, error, error_size))
			{
				http_endpoint_release(endpoint);
				return NULL;
			}
			break;
		case HTTP_AUTH_PRIVATE_KEY_JWT:
			if (options->client_id == NULL || *options->client_id == '\0')
				missing = "client_id";
			else if (options->private_key == NULL || *options->private_key == '\0')
				missing = "private_key";
			else if (missing == NULL &&
					 !http_tokens_create(endpoint, options, error, error_size))
			{
				http_endpoint_release(endpoint);
				return NULL;
			}
			break;
		default:
			snprintf(error, error_size, "unknown authentication method");
			http_endpoint_release(endpoint);
			return NULL;
	}

	if (missing != NULL)
		snprintf(error, error_size, "option \"%s\" is missing", missing);
	else if (unclean != NULL)
		snprintf(error, error_size,
				 "option \"%s\" has a character that is not allowed", unclean);
	else if (!ok)
		snprintf(error, error_size, "out of memory");
	else
		return endpoint;
	http_endpoint_release(endpoint);
	return NULL;
}

void
http_endpoint_retain(HttpEndpoint *endpoint)
{
	endpoint->refs++;
}

static void
free_handle(HttpHandle *handle)
{
	curl_easy_cleanup(handle->easy);
	free(handle);
}

void
http_endpoint_release(HttpEndpoint *endpoint)
{
	if (endpoint == NULL || --endpoint->refs > 0)
		return;
	while (endpoint->spare != NULL)
	{
		HttpHandle *handle = endpoint->spare;

		endpoint->spare = handle->next;
		free_handle(handle);
	}
	http_tokens_free(endpoint->tokens);
	http_credential_release(endpoint->credential);
	free(endpoint->base);
	free(endpoint->origin);
	free(endpoint->host);
	free(endpoint->port);
	free(endpoint->ca_file);
	http_wipe_free_string(endpoint->client_cert);
	http_wipe_free_string(endpoint->client_key);
	free(endpoint);
}

/*
 * The text stays ours and lives as long as the handle.
 */
static CURLcode
set_pem(CURL *easy, CURLoption option, char *text)
{
	struct curl_blob blob;

	blob.data = text;
	blob.len = strlen(text);
	blob.flags = CURL_BLOB_NOCOPY;
	return curl_easy_setopt(easy, option, &blob);
}

/*
 * All that is the same for each request of the endpoint.
 */
static bool
set_options(HttpHandle *handle, HttpEndpoint *endpoint)
{
	CURL	   *easy = handle->easy;
	CURLcode	rc = CURLE_OK;

#define SET(option, value) \
	do { \
		if (rc == CURLE_OK) \
			rc = curl_easy_setopt(easy, option, value); \
	} while (0)

	SET(CURLOPT_PRIVATE, (void *) handle);
	SET(CURLOPT_ERRORBUFFER, handle->error);
	SET(CURLOPT_URL, endpoint->origin);
	SET(CURLOPT_NOSIGNAL, 1L);

	/* a resolver thread that is still at it is left behind, not waited for */
	SET(CURLOPT_QUICK_EXIT, 1L);
	SET(CURLOPT_PROTOCOLS_STR, endpoint->allow_http ? "http,https" : "https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_USERAGENT, USER_AGENT);
	SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_HTTP_CONTENT_DECODING, 0L);
	SET(CURLOPT_HTTP09_ALLOWED, 0L);

	/* the environment of the postmaster has no say */
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NOPROXY, "*");
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);

	SET(CURLOPT_TIMEOUT_MS, endpoint->timeout_ms);
	SET(CURLOPT_CONNECTTIMEOUT_MS, endpoint->connect_timeout_ms);
	SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t) endpoint->max_answer);

	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, endpoint->verify ? 1L : 0L);
	SET(CURLOPT_SSL_VERIFYHOST, endpoint->verify ? 2L : 0L);
	if (endpoint->ca_file != NULL)
	{
		/* only what was named, not the system's directory besides */
		SET(CURLOPT_CAPATH, NULL);
		if (!is_pem(endpoint->ca_file))
		{
			SET(CURLOPT_CAINFO, endpoint->ca_file);
#if LIBCURL_VERSION_NUM >= 0x075700
			/* what stands in the file now, not a day ago */
			SET(CURLOPT_CA_CACHE_TIMEOUT, 0L);
#endif
		}
		else if (rc == CURLE_OK)
			rc = set_pem(easy, CURLOPT_CAINFO_BLOB, endpoint->ca_file);
	}
	if (endpoint->client_cert != NULL)
	{
		if (rc == CURLE_OK)
			rc = set_pem(easy, CURLOPT_SSLCERT_BLOB, endpoint->client_cert);
		if (rc == CURLE_OK)
			rc = set_pem(easy, CURLOPT_SSLKEY_BLOB, endpoint->client_key);
	}

	SET(CURLOPT_WRITEFUNCTION, http_on_body);
	SET(CURLOPT_WRITEDATA, (void *) handle);
	SET(CURLOPT_HEADERFUNCTION, http_on_header);
	SET(CURLOPT_HEADERDATA, (void *) handle);
	SET(CURLOPT_PREREQFUNCTION, http_on_connected);
	SET(CURLOPT_PREREQDATA, (void *) handle);
	SET(CURLOPT_NOPROGRESS, 1L);
	SET(CURLOPT_MAXAGE_CONN, (long) HTTP_IDLE_S_ACT);
#undef SET
	return rc == CURLE_OK;
}

/*
 * A handle for one request, from the spare ones if there is one.  NULL: no
 * memory, or a TLS option that libcurl does not take.
 */
HttpHandle *
http_endpoint_take_handle(HttpEndpoint *endpoint)
{
	HttpHandle *handle = endpoint->spare;

	if (handle != NULL)
	{
		endpoint->spare = handle->next;
		endpoint->nspare--;
		return handle;
	}
	handle = calloc(1, sizeof(HttpHandle));
	if (handle == NULL)
		return NULL;
	handle->easy = curl_easy_init();
	if (handle->easy == NULL)
	{
		free(handle);
		return NULL;
	}
	if (!set_options(handle, endpoint))
	{
		free_handle(handle);
		return NULL;
	}
	return handle;
}

/*
 * Back to the spare ones; few are kept while the endpoint is idle.
 */
void
http_endpoint_give_handle(HttpEndpoint *endpoint, HttpHandle *handle)
{
	handle->request = NULL;
	handle->next = endpoint->spare;
	endpoint->spare = handle;
	endpoint->nspare++;
	while (endpoint->in_flight <= 1 && endpoint->nspare > HTTP_IDLE_HANDLES)
	{
		handle = endpoint->spare;
		endpoint->spare = handle->next;
		endpoint->nspare--;
		free_handle(handle);
	}
}
