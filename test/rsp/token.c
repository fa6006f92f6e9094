/*
 * token.c
 *		Authorization: bearer tokens, the OAuth 2.0 token endpoint (client
 *		credentials) and its discovery document.
 *
 * A token's text is made of its number and a keyed hash of it, so that no
 * table of texts is needed.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "rspsim.h"

#define MAX_TOKENS		1000000
#define ASSERTION_TYPE	"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
#define MAX_ASSERTION_LIFE	300 /* seconds, by the CAMARA security profile */

static const struct
{
	const char *name;
	uint32_t	bit;
}			scope_names[] = {
	{"iot-device-management:esim-profiles:download", SCOPE_DOWNLOAD},
	{"iot-device-management:esim-profiles:enable", SCOPE_ENABLE},
	{"iot-device-management:esim-profiles:disable", SCOPE_DISABLE},
	{"iot-device-management:esim-profiles:delete", SCOPE_DELETE},
	{"iot-device-management:esim-profiles:set-fallback", SCOPE_SET_FALLBACK},
	{"iot-device-management:esim-profiles:retrieve-status", SCOPE_RETRIEVE_STATUS},
	{"iot-device-management:esim-profiles:retrieve-operation", SCOPE_RETRIEVE_OPERATION},
	{"iot-device-management:esims:read", SCOPE_READ_2026},
	{"iot-device-management:esims:download", SCOPE_DOWNLOAD_2026},
	{"iot-device-management:esims:enable", SCOPE_ENABLE_2026},
	{"iot-device-management:esims:disable", SCOPE_DISABLE_2026},
	{"iot-device-management:esims:delete", SCOPE_DELETE_2026},
	{"openid", 0},
};

#define SCOPE_NAMES (sizeof(scope_names) / sizeof(scope_names[0]))

/* Reads names parted by blanks; false at one that is unknown. */
bool
scopes_parse(const char *text, size_t length, uint32_t *scopes)
{
	const char *end = text + length;

	*scopes = 0;
	while (text < end)
	{
		size_t		size = strcspn(text, " ");
		size_t		i;

		for (i = 0; i < SCOPE_NAMES; i++)
			if (strlen(scope_names[i].name) == size &&
				memcmp(scope_names[i].name, text, size) == 0)
				break;
		if (size > 0 && i == SCOPE_NAMES)
			return false;
		if (size > 0)
			*scopes |= scope_names[i].bit;
		text += size + 1;
	}
	return true;
}

void
scopes_text(uint32_t scopes, Buf *out)
{
	const char *blank = "";
	size_t		i;

	for (i = 0; i < SCOPE_NAMES; i++)
		if (scope_names[i].bit & scopes)
		{
			buf_format(out, "%s%s", blank, scope_names[i].name);
			blank = " ";
		}
}

void
token_free(Auth *auth)
{
	free(auth->bearer);
	free(auth->client_id);
	free(auth->client_secret);
	free(auth->public_key);
	free(auth->username);
	free(auth->password);
	free(auth->tokens);
}

static void
token_text(const Server *server, uint32_t number, char out[64])
{
	uint64_t	name = hash_bytes(server->name, strlen(server->name), simulator_seed);

	snprintf(out, 64, "rspsim-%08x-%016" PRIx64 "%016" PRIx64, number,
			 mix64(name ^ number), mix64(mix64(name) ^ number));
}

void
token_expire_all(Server *server)
{
	uint32_t	i;

	for (i = 0; i < server->auth.ntokens; i++)
		server->auth.tokens[i].expires_ms = 0;
}

static int	base64_decode(const char *text, size_t length, unsigned char *out, size_t size);

/* user name and password of HTTP Basic */
static bool
basic_fits(const char *given, const Auth *auth)
{
	unsigned char decoded[512];
	char		expected[512];

	snprintf(expected, sizeof(expected), "%s:%s", auth->username, auth->password);
	return base64_decode(given, strlen(given), decoded, sizeof(decoded)) >= 0 &&
		strcmp((char *) decoded, expected) == 0;
}

/*
 * Is the caller allowed to use something of this scope?  If not, the answer
 * is made: 401, or 403 for a scope that the token lacks.
 */
bool
token_check(Request *request, uint32_t scope)
{
	Server	   *server = request->server;
	Auth	   *auth = &server->auth;
	const char *given;
	uint32_t	scopes = 0;
	bool		known = false;

	if (server->client_cert && !http_client_verified(request))
	{
		request->protocol->error(request, 401, "UNAUTHENTICATED",
								 "A client certificate is required.");
		return false;
	}
	if (!auth->required)
		return true;
	given = http_header(request, "Authorization");
	if (given != NULL && strncasecmp(given, "Bearer ", 7) == 0)
	{
		unsigned	number;

		given += 7 + strspn(given + 7, " ");
		if (auth->bearer != NULL && strcmp(given, auth->bearer) == 0)
		{
			known = true;
			scopes = auth->bearer_scopes;
		}
		else if (sscanf(given, "rspsim-%8x-", &number) == 1 && number < auth->ntokens)
		{
			char		text[64];

			token_text(server, number, text);
			known = strcmp(text, given) == 0 && auth->tokens[number].expires_ms > wall_ms();
			scopes = auth->tokens[number].scopes;
		}
	}
	else if (given != NULL && strncasecmp(given, "Basic ", 6) == 0 && auth->username != NULL &&
			 auth->password != NULL)
	{
		known = basic_fits(given + 6 + strspn(given + 6, " "), auth);
		scopes = SCOPE_ANY;
	}
	if (!known)
	{
		request->challenge = given == NULL ? "Bearer" : "Bearer error=\"invalid_token\"";
		request->protocol->error(request, 401, "UNAUTHENTICATED",
								 "Request not authenticated due to missing, invalid, or expired credentials.");
		return false;
	}
	if (auth->check_scopes && (scopes & scope) != scope)
	{
		request->protocol->error(request, 403, "PERMISSION_DENIED",
								 "Client does not have sufficient permissions to perform this action.");
		return false;
	}
	return true;
}

/* Undoes percent and plus in place; false if a NUL would come of it. */
static bool
form_decode(char *text)
{
	char	   *out = text;

	for (; *text; text++)
	{
		unsigned	byte;

		if (*text == '%' && sscanf(text + 1, "%2x", &byte) == 1 && text[1] && text[2])
		{
			if (byte == 0)
				return false;
			*out++ = (char) byte;
			text += 2;
		}
		else
			*out++ = *text == '+' ? ' ' : *text;
	}
	*out = '\0';
	return true;
}

/*
 * Decodes base64, both alphabets, padding optional.  Gives the length, -1 if
 * it is not base64; the result ends in a NUL that does not count.
 */
static int
base64_decode(const char *text, size_t length, unsigned char *out, size_t size)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t	bits = 0;
	int			nbits = 0;
	size_t		made = 0;
	size_t		i;

	while (length > 0 && text[length - 1] == '=')
		length--;
	for (i = 0; i < length; i++)
	{
		char		c = text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i];
		const char *place = c ? strchr(alphabet, c) : NULL;

		if (place == NULL)
			return -1;
		bits = bits << 6 | (uint32_t) (place - alphabet);
		nbits += 6;
		if (nbits >= 8)
		{
			nbits -= 8;
			if (made + 1 >= size)
				return -1;
			out[made++] = bits >> nbits & 0xff;
		}
	}
	out[made] = '\0';
	return (int) made;
}

static json_t *
decode_part(const char *text, size_t length)
{
	unsigned char decoded[4096];
	int			size = base64_decode(text, length, decoded, sizeof(decoded));

	return size < 0 ? NULL : json_loadb((char *) decoded, size, JSON_REJECT_DUPLICATES, NULL);
}

/* Is "aud" this endpoint, or does it hold it?  Only the path is compared. */
static bool
audience_fits(json_t *audience, const Request *request)
{
	size_t		i;
	json_t	   *item;

	if (json_is_array(audience))
	{
		json_array_foreach(audience, i, item)
			if (json_is_string(item) && audience_fits(item, request))
				return true;
		return false;
	}
	return json_is_string(audience) &&
		strstr(json_string_value(audience), request->server->name) != NULL;
}

/*
 * Checks a client assertion (RFC 7523; RS256 or ES256).  Gives NULL if it is
 * good, else what is wrong with it.
 */
static const char *
assertion_problem(Request *request, const char *assertion)
{
	Auth	   *auth = &request->server->auth;
	const char *dot1 = strchr(assertion, '.');
	const char *dot2 = dot1 ? strchr(dot1 + 1, '.') : NULL;
	json_t	   *header = NULL;
	json_t	   *claims = NULL;
	gnutls_pubkey_t key = NULL;
	gnutls_datum_t signature = {NULL, 0};
	gnutls_datum_t data;
	gnutls_datum_t pem;
	unsigned char raw[1024];
	const char *problem = "the assertion is no JWT";
	const char *algorithm;
	json_int_t	now = (json_int_t) (wall_ms() / 1000);
	json_int_t	expires;
	int			size;

	if (dot2 == NULL)
		return problem;
	header = decode_part(assertion, dot1 - assertion);
	claims = decode_part(dot1 + 1, dot2 - dot1 - 1);
	size = base64_decode(dot2 + 1, strlen(dot2 + 1), raw, sizeof(raw));
	algorithm = json_string_value(json_object_get(header, "alg"));
	if (claims == NULL || size < 0 || algorithm == NULL)
		goto done;

	problem = "iss and sub are not the client";
	if (auth->client_id == NULL || !json_is_string(json_object_get(claims, "iss")) ||
		!json_is_string(json_object_get(claims, "sub")) ||
		strcmp(json_string_value(json_object_get(claims, "iss")), auth->client_id) != 0 ||
		strcmp(json_string_value(json_object_get(claims, "sub")), auth->client_id) != 0)
		goto done;
	problem = "aud is not this endpoint";
	if (!audience_fits(json_object_get(claims, "aud"), request))
		goto done;
	problem = "jti is missing";
	if (!json_is_string(json_object_get(claims, "jti")))
		goto done;
	problem = "exp is missing, past, or too far away";
	expires = json_integer_value(json_object_get(claims, "exp"));
	if (expires <= now || expires > now + MAX_ASSERTION_LIFE + 5)
		goto done;

	problem = "the signature does not verify";
	data.data = (unsigned char *) assertion;
	data.size = dot2 - assertion;
	pem.data = (unsigned char *) auth->public_key;
	pem.size = strlen(auth->public_key);
	if (gnutls_pubkey_init(&key) != 0 ||
		gnutls_pubkey_import(key, &pem, GNUTLS_X509_FMT_PEM) != 0)
		goto done;
	if (strcmp(algorithm, "ES256") == 0 && size == 64)
	{
		gnutls_datum_t r = {raw, 32};
		gnutls_datum_t s = {raw + 32, 32};

		if (gnutls_encode_rs_value(&signature, &r, &s) == 0 &&
			gnutls_pubkey_verify_data2(key, GNUTLS_SIGN_ECDSA_SHA256, 0, &data, &signature) >= 0)
			problem = NULL;
		gnutls_free(signature.data);
	}
	else if (strcmp(algorithm, "RS256") == 0)
	{
		signature.data = raw;
		signature.size = size;
		if (gnutls_pubkey_verify_data2(key, GNUTLS_SIGN_RSA_SHA256, 0, &data, &signature) >= 0)
			problem = NULL;
	}

done:
	if (key != NULL)
		gnutls_pubkey_deinit(key);
	json_decref(header);
	json_decref(claims);
	return problem;
}

/* An error in the shape of RFC 6749 5.2. */
void
oauth_error(Request *request, int status, const char *code, const char *message)
{
	request->status = status;
	request->content_type = "application/json";
	buf_clear(&request->out);
	buf_text(&request->out, "{\"error\":");
	buf_json(&request->out, code);
	buf_text(&request->out, ",\"error_description\":");
	buf_json(&request->out, message);
	buf_text(&request->out, "}");
}

void
token_identify(Request *request)
{
	request->label = strcmp(request->method, "POST") == 0 ? "POST token" : "other token";
}

/* What the form of a token request holds; RFC 6749 forbids repeats. */
typedef struct Form
{
	char	   *grant_type;
	char	   *scope;
	char	   *client_id;
	char	   *client_secret;
	char	   *assertion_type;
	char	   *assertion;
	char	   *audience;
	char	   *resource;
} Form;

static bool
read_form(char *text, Form *form)
{
	struct
	{
		const char *name;
		char	  **value;
	}			fields[] = {
		{"grant_type", &form->grant_type},
		{"scope", &form->scope},
		{"client_id", &form->client_id},
		{"client_secret", &form->client_secret},
		{"client_assertion_type", &form->assertion_type},
		{"client_assertion", &form->assertion},
		{"audience", &form->audience},
		{"resource", &form->resource},
	};
	char	   *save;
	char	   *pair;

	for (pair = strtok_r(text, "&", &save); pair != NULL; pair = strtok_r(NULL, "&", &save))
	{
		char	   *value = strchr(pair, '=');
		size_t		i;

		if (value == NULL)
			return false;
		*value++ = '\0';
		if (!form_decode(pair) || !form_decode(value))
			return false;
		for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
			if (strcmp(pair, fields[i].name) == 0)
			{
				if (*fields[i].value != NULL)
					return false;
				*fields[i].value = value;
			}
	}
	return true;
}

/* Answers a token request: RFC 6749 4.4 with client authentication 2.3.1. */
void
token_handle(Request *request)
{
	Auth	   *auth = &request->server->auth;
	const char *type = http_header(request, "Content-Type");
	const char *basic = http_header(request, "Authorization");
	Form		form = {0};
	unsigned char credentials[2048];
	const char *id = NULL;
	const char *secret = NULL;
	uint32_t	scopes = auth->scopes;
	char		text[64];
	bool		good;

	auth->token_requests++;
	if (strcmp(request->method, "POST") != 0)
	{
		oauth_error(request, 405, "invalid_request", "The token endpoint takes POST.");
		return;
	}
	if (type == NULL || strncasecmp(type, "application/x-www-form-urlencoded", 33) != 0 ||
		request->body.data == NULL || strlen(request->body.data) != request->body.length ||
		!read_form(request->body.data, &form))
	{
		oauth_error(request, 400, "invalid_request", "The body is no form, or repeats a parameter.");
		return;
	}
	if (basic != NULL && strncasecmp(basic, "Basic ", 6) == 0)
	{
		char	   *colon;

		if (form.client_secret != NULL || form.assertion != NULL)
		{
			oauth_error(request, 400, "invalid_request", "More than one client authentication.");
			return;
		}
		if (auth->allow_basic &&
			base64_decode(basic + 6, strlen(basic + 6), credentials, sizeof(credentials)) > 0 &&
			(colon = strchr((char *) credentials, ':')) != NULL)
		{
			*colon = '\0';
			if (form_decode((char *) credentials) && form_decode(colon + 1))
			{
				id = (char *) credentials;
				secret = colon + 1;
			}
		}
	}
	else if (auth->allow_post)
	{
		id = form.client_id;
		secret = form.client_secret;
	}
	if (form.assertion != NULL)
	{
		const char *problem = "private_key_jwt is not set up";

		if (form.assertion_type == NULL || strcmp(form.assertion_type, ASSERTION_TYPE) != 0)
			problem = "client_assertion_type is not the JWT bearer's";
		else if (auth->public_key != NULL)
			problem = assertion_problem(request, form.assertion);
		if (problem != NULL)
		{
			oauth_error(request, 401, "invalid_client", problem);
			return;
		}
		good = true;
	}
	else
		good = id != NULL && secret != NULL && auth->client_id != NULL &&
			auth->client_secret != NULL && strcmp(id, auth->client_id) == 0 &&
			strcmp(secret, auth->client_secret) == 0;
	if (!good)
	{
		request->challenge = "Basic realm=\"rspsim\"";
		oauth_error(request, 401, "invalid_client", "Client authentication failed.");
		return;
	}
	if (form.grant_type == NULL || strcmp(form.grant_type, "client_credentials") != 0)
	{
		oauth_error(request, 400, form.grant_type ? "unsupported_grant_type" : "invalid_request",
					"grant_type must be client_credentials.");
		return;
	}
	if (form.scope != NULL &&
		(!scopes_parse(form.scope, strlen(form.scope), &scopes) || (scopes & ~auth->scopes)))
	{
		oauth_error(request, 400, "invalid_scope", "A scope is unknown or not granted.");
		return;
	}
	if (auth->ntokens == MAX_TOKENS)
	{
		oauth_error(request, 503, "temporarily_unavailable", "Too many tokens.");
		return;
	}
	if (auth->ntokens == auth->tokens_size)
	{
		auth->tokens_size = auth->tokens_size ? auth->tokens_size * 2 : 16;
		auth->tokens = xrealloc(auth->tokens, auth->tokens_size * sizeof(Token));
	}
	auth->tokens[auth->ntokens].expires_ms = wall_ms() + (uint64_t) auth->expires_in * 1000;
	auth->tokens[auth->ntokens].scopes = scopes;
	token_text(request->server, auth->ntokens++, text);
	auth->tokens_issued++;
	request->status = 200;
	request->content_type = "application/json";
	buf_format(&request->out, "{\"access_token\":\"%s\",\"token_type\":\"Bearer\","
			   "\"expires_in\":%u,\"scope\":\"", text, auth->expires_in);
	scopes_text(scopes, &request->out);
	buf_text(&request->out, "\"}");
}

void
discovery_identify(Request *request)
{
	request->label = "GET openid-configuration";
}

/* OpenID Connect discovery: as much of it as a client-credentials client reads. */
void
discovery_handle(Request *request)
{
	const char *host = http_header(request, "Host");
	Auth	   *auth = &request->server->auth;
	struct
	{
		const char *name;
		bool		allowed;
	}			methods[] = {
		{"client_secret_basic", auth->allow_basic},
		{"client_secret_post", auth->allow_post},
		{"private_key_jwt", auth->public_key != NULL},
	};
	Buf			issuer = {0};
	const char *comma = "";
	size_t		i;

	if (host == NULL || strlen(host) > 200)
		host = "localhost";
	buf_format(&issuer, "%s://%s/%s", request->base, host, request->server->name);
	request->status = 200;
	request->content_type = "application/json";
	buf_text(&request->out, "{\"issuer\":");
	buf_json(&request->out, issuer.data);
	buf_text(&issuer, "/oauth2/token");
	buf_text(&request->out, ",\"token_endpoint\":");
	buf_json(&request->out, issuer.data);
	buf_text(&request->out, ",\"grant_types_supported\":[\"client_credentials\"],"
			 "\"token_endpoint_auth_signing_alg_values_supported\":[\"ES256\",\"RS256\"],"
			 "\"token_endpoint_auth_methods_supported\":[");
	for (i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (methods[i].allowed)
		{
			buf_format(&request->out, "%s\"%s\"", comma, methods[i].name);
			comma = ",";
		}
	buf_text(&request->out, "]}");
	buf_free(&issuer);
}
