/*-------------------------------------------------------------------------
 *
 * test_jwt.c
 *	  Unit tests of private_key_jwt and OpenID Connect discovery: assertions
 *	  alone, against a server of bad manners, and against the simulator, which
 *	  checks them with another library; prints TAP.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <jansson.h>
#include <openssl/bn.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "http/http_internal.h"
#include "client.h"
#include "http_server.h"
#include "tap.h"

static int	plain_port;

/* the clock of this program may be wrong */
static time_t clock_offset = 0;

time_t
time(time_t *result)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	now.tv_sec += clock_offset;
	if (result != NULL)
		*result = now.tv_sec;
	return now.tv_sec;
}

static void
make_keys(void)
{
	shell("cd %s && exec 2>/dev/null"
		  " && openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.key"
		  " && openssl rsa -in rsa.key -traditional -out rsa1.key && openssl rsa -in rsa.key -pubout -out rsa.pub"
		  " && openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out small.key"
		  " && openssl genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out pss.key", dir);
	shell("cd %s && exec 2>/dev/null"
		  " && openssl ecparam -name prime256v1 -genkey -out ec1.key"
		  " && openssl pkcs8 -topk8 -nocrypt -in ec1.key -out ec.key && openssl ec -in ec1.key -pubout -out ec.pub"
		  " && openssl ecparam -name secp384r1 -genkey -noout -out p384.key"
		  " && openssl genpkey -algorithm ed25519 -out ed.key"
		  " && openssl pkcs8 -topk8 -passout pass:x -in ec1.key -out locked.key"
		  " && openssl rsa -in rsa.key -traditional -aes128 -passout pass:x -out locked1.key"
		  " && openssl req -x509 -key ec1.key -subj /CN=127.0.0.1 -days 2 -addext subjectAltName=IP:127.0.0.1 -out ec.pem"
		  " && echo '-----BEGIN PRIVATE KEY-----' > broken.key && echo 'AAAA' >> broken.key"
		  " && echo '-----END PRIVATE KEY-----' >> broken.key && echo > empty.key", dir);
}

/* ---- assertions ---- */

static size_t
decode(const char *text, size_t length, unsigned char *out)
{
	static const char alphabet[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	uint32_t	bits = 0;
	int			nbits = 0;
	size_t		n = 0;
	size_t		i;

	for (i = 0; i < length; i++)
	{
		const char *at = strchr(alphabet, text[i]);

		if (at == NULL)
			return 0;
		bits = bits << 6 | (uint32_t) (at - alphabet);
		nbits += 6;
		if (nbits >= 8)
		{
			nbits -= 8;
			out[n++] = (unsigned char) (bits >> nbits);
		}
	}
	return n;
}

static json_t *
part(const char *begin, const char *end)
{
	unsigned char text[8192];
	size_t		length = decode(begin, (size_t) (end - begin), text);

	return json_loadb((char *) text, length, JSON_REJECT_DUPLICATES, NULL);
}

static bool
is_text(const json_t *object, const char *name, const char *wanted)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text != NULL && strcmp(text, wanted) == 0;
}

static bool
verifies(const char *assertion, const char *public_key)
{
	const char *dot = strrchr(assertion, '.');
	unsigned char raw[4096];
	unsigned char der[200];
	unsigned char *signature = raw;
	size_t		length = decode(dot + 1, strlen(dot + 1), raw);
	FILE	   *file = fopen(path_of(public_key), "r");
	EVP_PKEY   *key = PEM_read_PUBKEY(file, NULL, NULL, NULL);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool		good = true;

	fclose(file);
	if (EVP_PKEY_get_base_id(key) == EVP_PKEY_EC)
	{
		ECDSA_SIG  *sig = ECDSA_SIG_new();
		unsigned char *p = der;

		good = length == 64;
		ECDSA_SIG_set0(sig, BN_bin2bn(raw, 32, NULL), BN_bin2bn(raw + 32, 32, NULL));
		length = i2d_ECDSA_SIG(sig, &p);
		signature = der;
		ECDSA_SIG_free(sig);
	}
	good = good && EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, key) == 1 &&
		EVP_DigestVerify(context, signature, length, (const unsigned char *) assertion,
						 (size_t) (dot - assertion)) == 1;
	EVP_MD_CTX_free(context);
	EVP_PKEY_free(key);
	return good;
}

static void
check_assertion(const char *name, const char *assertion, const char *algorithm,
				const char *kid, const char *client, const char *audience,
				const char *public_key)
{
	const char *dot = strchr(assertion, '.');
	json_t	   *header = part(assertion, dot);
	json_t	   *claims = part(dot + 1, strchr(dot + 1, '.'));
	long long	iat = json_integer_value(json_object_get(claims, "iat"));
	long long	exp = json_integer_value(json_object_get(claims, "exp"));
	long long	now = (long long) time(NULL);

	check(is_text(header, "alg", algorithm) && is_text(header, "typ", "JWT") &&
		  (kid != NULL ? is_text(header, "kid", kid) && json_object_size(header) == 3 :
		   json_object_size(header) == 2), "%s: header", name);
	check(is_text(claims, "iss", client) && is_text(claims, "sub", client) &&
		  is_text(claims, "aud", audience) && json_object_size(claims) == 6, "%s: who and to whom", name);
	check(iat >= now - 20 && iat <= now && exp > iat && exp <= iat + 300,
		  "%s: lives 300 seconds at most", name);
	check(verifies(assertion, public_key), "%s: the signature verifies", name);
	json_decref(header);
	json_decref(claims);
}

static void
test_signer(void)
{
	static const struct
	{
		const char *name;
		const char *front;
		const char *key;
		bool		path;
		const char *algorithm;
		const char *kid;
		const char *client;
		const char *audience;
		const char *public_key;
	}			good[] =
	{
		{"RSA, PKCS #8", "", "rsa.key", false, "RS256", NULL, "me", "https://op.example/token", "rsa.pub"},
		{"RSA, PKCS #1, from a file", "", "rsa1.key", true, "RS256", "k-1", "me", "https://op.example/token?a=b", "rsa.pub"},
		{"EC, PKCS #8", "", "ec.key", false, "ES256", "k", "me", "x", "ec.pub"},
		{"EC, SEC 1 with parameters", "", "ec1.key", false, "ES256", "", "me", "x", "ec.pub"},
		{"EC with text in front", "Bag Attributes: none\n", "ec1.key", false, "ES256", NULL, "me", "x", "ec.pub"},
		{"what must be escaped", "", "ec.key", false, "ES256", "k\"\\\001", "m\"e\\\t\303\244", "a\"\\/", "ec.pub"},
	};
	static const struct
	{
		const char *name;
		const char *key;
		const char *error;
	}			bad[] =
	{
		{"an encrypted key", "locked.key", "encrypted"},
		{"an encrypted key of the old form", "locked1.key", "encrypted"},
		{"1024 bits", "small.key", "less than 2048 bits"},
		{"RSA-PSS", "pss.key", "neither RSA"},
		{"P-384", "p384.key", "P-256"},
		{"Ed25519", "ed.key", "neither RSA"},
		{"a broken key", "broken.key", "no private key that can be read"},
		{"a public key", "rsa.pub", "no private key that can be read"},
		{"a certificate", "ec.pem", "no private key that can be read"},
		{"no file", "absent.key", "could not open"},
	};
	char		error[200];
	HttpSigner *signer;
	char	   *jtis[100];
	int			same = 0;
	int			verified = 0;
	size_t		i;
	size_t		k;

	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
	{
		char	   *assertion;

		signer = http_signer_create(good[i].client, good[i].path ? path_of(good[i].key) :
									text_of(good[i].front, good[i].key), good[i].kid,
									error, sizeof(error));
		if (!check(signer != NULL, "%s: taken", good[i].name))
		{
			printf("# %s\n", error);
			continue;
		}
		assertion = http_signer_assertion(signer, good[i].audience, error, sizeof(error));
		check_assertion(good[i].name, assertion, good[i].algorithm,
						good[i].kid != NULL && *good[i].kid ? good[i].kid : NULL,
						good[i].client, good[i].audience, good[i].public_key);
		http_wipe_free_string(assertion);
		http_signer_free(signer);
	}
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		signer = http_signer_create("me", path_of(bad[i].key), NULL, error, sizeof(error));
		if (!check(signer == NULL && strstr(error, bad[i].error) != NULL, "%s: refused", bad[i].name))
			printf("# %s\n", error);
		http_signer_free(signer);
	}
	signer = http_signer_create("m\377", path_of("ec.key"), NULL, error, sizeof(error));
	ok(signer == NULL && strstr(error, "UTF-8") != NULL, "a client_id that is not UTF-8: refused");

	/* r and s are shorter than 32 bytes now and then */
	signer = http_signer_create("me", path_of("ec.key"), NULL, error, sizeof(error));
	for (i = 0; i < 100; i++)
	{
		char	   *assertion = http_signer_assertion(signer, "x", error, sizeof(error));
		const char *dot = strchr(assertion, '.');
		json_t	   *claims = part(dot + 1, strchr(dot + 1, '.'));

		jtis[i] = strdup(json_string_value(json_object_get(claims, "jti")));
		for (k = 0; k < i; k++)
			same += strcmp(jtis[i], jtis[k]) == 0;
		verified += verifies(assertion, "ec.pub");
		json_decref(claims);
		free(assertion);
	}
	ok(same == 0 && strlen(jtis[0]) >= 22, "jti never repeats");
	ok(verified == 100, "a hundred signatures verify");
	for (i = 0; i < 100; i++)
		free(jtis[i]);
	http_signer_free(signer);
}

/* ---- requests ---- */

static HttpEndpointOptions
plain_options(void)
{
	static char url[100];
	HttpEndpointOptions options;

	memset(&options, 0, sizeof(options));
	snprintf(url, sizeof(url), "http://127.0.0.1:%d", plain_port);
	options.base_url = url;
	options.timeout_ms = 5000;
	options.connect_timeout_ms = 2000;
	options.max_answer = 100000;
	options.verify = true;
	options.allow_http = true;
	return options;
}

/* one request that is answered */
static void
answered(const char *name, HttpEndpoint *endpoint, const char *path)
{
	HttpRequest *request = call(endpoint, "GET", path, NULL, false);
	const HttpAnswer *answer = http_request_answer(request);

	if (!check(answer->outcome == HTTP_ANSWERED && answer->status == 200, "%s", name))
		printf("# %d %d \"%s\"\n", answer->outcome, answer->status, answer->error);
	http_request_free(request);
}

/* one that is not sent, for want of a token */
static void
unauthorized(const char *name, HttpEndpoint *endpoint, int status, const char *error)
{
	HttpRequest *request = call(endpoint, "POST", "/api?id=1", "{}", false);
	const HttpAnswer *answer = http_request_answer(request);

	if (!check(answer->outcome == HTTP_NOT_SENT && answer->auth_failed &&
			   answer->auth_status == status && strstr(answer->error, error) != NULL &&
			   server_count(1) == 0, "%s", name))
		printf("# %d %d %d \"%s\"\n", answer->outcome, answer->status, answer->auth_status,
			   answer->error);
	http_request_free(request);
}

/* the assertion in the last token request; NULL: none */
static char *
sent_assertion(void)
{
	char	   *at = strstr(server.last_token_request, "&client_assertion=");

	return at != NULL ? at + strlen("&client_assertion=") : NULL;
}

static void
test_token_request(void)
{
	HttpEndpointOptions options = plain_options();
	HttpEndpoint *endpoint;
	char		url[200];
	char		first[4096];
	int			n;

	snprintf(url, sizeof(url), "http://127.0.0.1:%d/token", plain_port);
	options.auth = HTTP_AUTH_PRIVATE_KEY_JWT;
	options.client_id = "my client";
	options.private_key = text_of("", "rsa.key");
	options.key_id = "key-7";
	options.token_url = url;
	options.scope = "a:b c";
	server.generation = 1;
	server.expires_in = "1";
	endpoint = endpoint_of(&options);
	n = server.token_requests;
	answered("private_key_jwt", endpoint, "/api");
	answered("the token is kept", endpoint, "/api");
	ok(server.token_requests == n + 1, "one token request");
	ok(strstr(server.last_token_request,
			  "\r\n\r\ngrant_type=client_credentials&scope=a%3Ab+c&client_id=my+client"
			  "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
			  "&client_assertion=ey") != NULL &&
	   strstr(server.last_token_request, "Authorization") == NULL, "the form");
	check_assertion("aud is the token endpoint", sent_assertion(), "RS256", "key-7", "my client",
					url, "rsa.pub");
	strcpy(first, sent_assertion());
	usleep(1100000);
	answered("the token is renewed", endpoint, "/api");
	ok(server.token_requests == n + 2 && strcmp(first, sent_assertion()) != 0,
	   "with another assertion");
	server.generation = 2;
	answered("a token that is refused is renewed", endpoint, "/api");
	http_endpoint_release(endpoint);
	server.expires_in = NULL;

	options.audience = "https://issuer.example/";
	options.private_key = path_of("ec1.key");
	options.key_id = NULL;
	options.token_url = "/token?x=y";
	endpoint = endpoint_of(&options);
	answered("a path as token_url, ES256, a key file", endpoint, "/api");
	check_assertion("aud is the option audience", sent_assertion(), "ES256", NULL, "my client",
					"https://issuer.example/", "ec.pub");
	ok(strstr(server.last_token_request, "audience=") == NULL, "which is no parameter then");
	http_endpoint_release(endpoint);

	server.token_status = 401;
	endpoint = endpoint_of(&options);
	n = server.token_requests;
	unauthorized("the client is refused", endpoint, 401, "(invalid_client)");
	unauthorized("and again", endpoint, 401, "(invalid_client)");
	ok(server.token_requests == n + 1, "no storm of token requests");
	http_endpoint_release(endpoint);
	server.token_status = 200;
}

static void
test_discovery(void)
{
	static const struct
	{
		const char *body;
		const char *error;
	}			bad[] =
	{
		{"", "no JSON object"},
		{"nonsense", "no JSON object"},
		{"[]", "no JSON object"},
		{"null", "no JSON object"},
		{"{}", "no usable token_endpoint"},
		{"{\"token_endpoint\":5}", "no usable token_endpoint"},
		{"{\"token_endpoint\":\"\"}", "no usable token_endpoint"},
		{"{\"token_endpoint\":[\"http://127.0.0.1/\"]}", "no usable token_endpoint"},
		{"{\"token_endpoint\":\"http://a/\",\"token_endpoint\":\"http://b/\"}", "no JSON object"},
		{"{\"token_endpoint\":\"http://a/\\u0000b\"}", "no JSON object"},
		{"{\"token_endpoint\":\"http://a/\xff\"}", "no JSON object"},
		{"{\"token_endpoint\":\"/token\"}", "not a URL"},
		{"{\"token_endpoint\":\"file:///etc/passwd\"}", "token_endpoint of the OpenID configuration"},
		{"{\"token_endpoint\":\"ftp://a/\"}", "not an https URL"},
		{"{\"token_endpoint\":\"http://me:pw@a/\"}", "user name"},
		{"{\"token_endpoint\":\"http://a/#b\"}", "fragment"},
		{"{\"token_endpoint\":\"http://a/\\r\\nX: y\"}", "control character"},
		{"{\"token_endpoint\":\"http://a b/\"}", "blank"},
	};
	HttpEndpointOptions options = plain_options();
	HttpEndpoint *endpoint;
	char		body[400];
	char		moved[400];
	char		deep[3000];
	char	   *big;
	size_t		i;
	int			n;
	int			tokens;

	snprintf(body, sizeof(body), "{\"issuer\":\"https://op.example\",\"x\":{\"token_endpoint\":1},"
			 "\"token_endpoint\":\"http://127.0.0.1:%d/token/of/op\"}", plain_port);
	options.auth = HTTP_AUTH_PRIVATE_KEY_JWT;
	options.client_id = "me";
	options.private_key = path_of("ec.key");
	options.openid_config_url = "/.well-known/openid-configuration";
	server.config_body = body;
	server.expires_in = "1";
	endpoint = endpoint_of(&options);
	n = server.config_requests;
	answered("discovery", endpoint, "/api");
	ok(strncmp(server.last_token_request, "POST /token/of/op ", 18) == 0, "the token endpoint is where it says");
	snprintf(moved, sizeof(moved), "http://127.0.0.1:%d/token/of/op", plain_port);
	check_assertion("aud is the discovered endpoint", sent_assertion(), "ES256", NULL, "me", moved, "ec.pub");
	usleep(1050000);
	answered("another token", endpoint, "/api");
	ok(server.config_requests == n + 1, "the configuration is kept");
	snprintf(moved, sizeof(moved), "{\"token_endpoint\":\"http://127.0.0.1:%d/token/moved\"}", plain_port);
	server.config_body = moved;
	usleep(1050000);
	answered("and fetched anew after its time", endpoint, "/api");
	ok(server.config_requests == n + 2 &&
	   strncmp(server.last_token_request, "POST /token/moved ", 18) == 0, "from where it is now");

	/* while it cannot be had, what was known is good */
	server.config_status = 503;
	usleep(1600000);
	answered("no configuration: the endpoint that is known", endpoint, "/api");
	ok(server.config_requests == n + 3, "it was asked for");
	server.config_status = 200;

	/* the token endpoint is gone: it may be elsewhere */
	server.config_body = body;
	server.token_status = 404;
	usleep(2100000);
	unauthorized("the token endpoint answers 404", endpoint, 404, "status 404");
	server.token_status = 200;
	n = server.config_requests;
	usleep(1100000);
	answered("then it is looked for again", endpoint, "/api");
	ok(server.config_requests == n + 1, "at once");
	http_endpoint_release(endpoint);

	/* failures */
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		char		name[200];

		server.config_body = bad[i].body;
		endpoint = endpoint_of(&options);
		n = server.config_requests;
		tokens = server.token_requests;
		snprintf(name, sizeof(name), "configuration %.80s", bad[i].body);
		unauthorized(name, endpoint, 200, bad[i].error);
		unauthorized("and again", endpoint, 200, bad[i].error);
		ok(server.config_requests == n + 1 && server.token_requests == tokens,
		   "asked for once, no token request");
		http_endpoint_release(endpoint);
	}
	memset(deep, '[', sizeof(deep) - 1);
	deep[sizeof(deep) - 1] = '\0';
	server.config_body = deep;
	endpoint = endpoint_of(&options);
	unauthorized("a deep configuration", endpoint, 200, "no JSON object");
	http_endpoint_release(endpoint);
	big = malloc(100001);
	memset(big, ' ', 100000);
	big[100000] = '\0';
	server.config_body = big;
	endpoint = endpoint_of(&options);
	unauthorized("a large configuration", endpoint, 0, "more than");
	http_endpoint_release(endpoint);
	free(big);
	server.config_body = body;

	server.config_status = 404;
	endpoint = endpoint_of(&options);
	unauthorized("configuration: 404", endpoint, 404, "OpenID configuration was answered with status 404");
	server.config_status = 200;
	usleep(1100000);
	answered("it is there later", endpoint, "/api");
	http_endpoint_release(endpoint);
	server.config_status = 302;
	server.config_headers = "Location: /.well-known/other\r\n";
	endpoint = endpoint_of(&options);
	n = server.config_requests;
	unauthorized("a redirect is not followed", endpoint, 302, "status 302");
	ok(server.config_requests == n + 1, "not at all");
	http_endpoint_release(endpoint);
	server.config_status = 200;
	server.config_headers = "";
	options.openid_config_url = "/close";
	endpoint = endpoint_of(&options);
	unauthorized("no answer", endpoint, 0, "OpenID configuration: ");
	http_endpoint_release(endpoint);
	options.openid_config_url = "http://127.0.0.1:1/";
	endpoint = endpoint_of(&options);
	unauthorized("no connection", endpoint, 0, "Connection refused");
	http_endpoint_release(endpoint);

	/* with a secret, which is shown to the token endpoint only */
	options.openid_config_url = "/.well-known/openid-configuration";
	options.auth = HTTP_AUTH_CLIENT_SECRET_BASIC;
	options.client_secret = "secret";
	options.audience = "api";
	endpoint = endpoint_of(&options);
	answered("client_secret_basic", endpoint, "/api");
	ok(strstr(server.last_token_request, "\r\nAuthorization: Basic bWU6c2VjcmV0\r\n") != NULL &&
	   strstr(server.last_token_request, "&audience=api") != NULL &&
	   strstr(server.last_token_request, "client_id") == NULL, "as always");
	http_endpoint_release(endpoint);
	options.auth = HTTP_AUTH_CLIENT_SECRET_POST;
	options.token_url = "/token/first";
	endpoint = endpoint_of(&options);
	n = server.config_requests;
	answered("token_url and openid_config_url", endpoint, "/api");
	ok(server.config_requests == n && strncmp(server.last_token_request, "POST /token/first ", 18) == 0,
	   "token_url counts");
	http_endpoint_release(endpoint);

	/* freed with the configuration under way, and used anew */
	options.token_url = NULL;
	options.openid_config_url = "/silent";
	endpoint = endpoint_of(&options);
	{
		HttpRequest *request = http_request_create(endpoint, "GET", "/api", NULL, NULL, 0, NULL);

		http_loop_submit(loop, request);
		http_loop_run(loop);
		http_request_free(request);
		http_endpoint_release(endpoint);
		ok(http_loop_in_flight(loop) == 0, "freed while the configuration is awaited");
	}
	server.expires_in = NULL;
}

/* https is wanted of the token endpoint too, and TLS is the same there */
static void
test_tls(void)
{
	HttpEndpointOptions options = plain_options();
	HttpEndpoint *endpoint;
	char		url[100];
	char		body[200];
	int			port = server_start(path_of("ec.pem"), path_of("ec1.key"), NULL);
	int			n = server.token_requests;

	snprintf(url, sizeof(url), "https://127.0.0.1:%d", port);
	options.base_url = url;
	options.ca_file = path_of("ec.pem");
	options.allow_http = false;
	options.auth = HTTP_AUTH_PRIVATE_KEY_JWT;
	options.client_id = "me";
	options.private_key = path_of("ec.key");
	options.openid_config_url = "/.well-known/openid-configuration";
	snprintf(body, sizeof(body), "{\"token_endpoint\":\"http://127.0.0.1:%d/token\"}", plain_port);
	server.config_body = body;
	endpoint = endpoint_of(&options);
	unauthorized("a token endpoint without TLS", endpoint, 200, "\"allow_http\" is off");
	ok(server.token_requests == n, "gets nothing");
	http_endpoint_release(endpoint);
	snprintf(body, sizeof(body), "{\"token_endpoint\":\"https://127.0.0.1:%d/token\"}", port);
	endpoint = endpoint_of(&options);
	answered("all over TLS", endpoint, "/api");
	http_endpoint_release(endpoint);
}

/* ---- the simulator ---- */

static void
control(const char *base, const char *what, const char *body)
{
	HttpEndpointOptions options = plain_options();
	HttpEndpoint *endpoint;
	HttpRequest *request;
	char		path[100];

	options.base_url = base;
	endpoint = endpoint_of(&options);
	snprintf(path, sizeof(path), "/control/%s", what);
	request = call(endpoint, "POST", path, body, false);
	if (http_request_answer(request)->status != 200)
		bail(http_request_answer(request)->body);
	http_request_free(request);
	http_endpoint_release(endpoint);
}

/* a status asked of the simulator: what came of it; the error in last_error */
static int	last_auth_status;

static int
ask(const HttpEndpointOptions *options)
{
	HttpEndpoint *endpoint = endpoint_of(options);
	HttpRequest *request = call(endpoint, "POST", "/retrieve-status",
								"{\"esimProfile\":{\"eid\":\"89049032000000000000000000000140\"}}", false);
	const HttpAnswer *answer = http_request_answer(request);
	int			status = answer->status;

	last_auth_status = answer->auth_status;
	if (answer->outcome != HTTP_ANSWERED)
		printf("# %s\n", answer->error);
	http_request_free(request);
	http_endpoint_release(endpoint);
	return status;
}

static void
trust(const char *base, const char *public_key)
{
	json_t	   *config = json_pack("{s:s,s:{s:s,s:s,s:b}}", "server", "main", "auth",
								   "client_id", "esim-client", "public_key",
								   text_of("", public_key), "check_scopes", 1);
	char	   *body = json_dumps(config, 0);

	control(base, "config", body);
	free(body);
	json_decref(config);
}

static void
test_simulator(void)
{
	HttpEndpointOptions options = plain_options();
	const char *base = simulator_url;
	char		url[200];
	char		config_url[200];
	char		token_url[200];
	int			i;

	if (!simulator_start(NULL))
	{
		skip("the simulator", "not built");
		return;
	}

	snprintf(url, sizeof(url), "%s/main/esim-profile-management/vwip", base);
	snprintf(config_url, sizeof(config_url), "%s/main/.well-known/openid-configuration", base);
	snprintf(token_url, sizeof(token_url), "%s/main/oauth2/token", base);
	options.base_url = url;
	options.auth = HTTP_AUTH_PRIVATE_KEY_JWT;
	options.client_id = "esim-client";
	options.openid_config_url = config_url;
	options.scope = "iot-device-management:esim-profiles:retrieve-status";
	for (i = 0; i < 2; i++)
	{
		const char *algorithm = i == 0 ? "RS256" : "ES256";

		trust(base, i == 0 ? "rsa.pub" : "ec.pub");
		options.private_key = path_of(i == 0 ? "rsa.key" : "ec.key");
		options.key_id = "k1";
		check(ask(&options) == 200, "simulator: %s, discovery", algorithm);
		options.private_key = path_of(i == 0 ? "ec.key" : "rsa.key");
		check(ask(&options) == 0 && last_auth_status == 401, "simulator: %s, another key", algorithm);
		shell("cd %s && openssl genpkey -algorithm %s -out other.key 2>/dev/null", dir, i == 0 ?
			  "RSA" : "EC -pkeyopt ec_paramgen_curve:P-256");
		options.private_key = path_of("other.key");
		check(ask(&options) == 0 && last_auth_status == 401, "simulator: %s, a key that is not ours", algorithm);
		options.private_key = path_of(i == 0 ? "rsa.key" : "ec.key");
		options.audience = "https://elsewhere.example/token";
		check(ask(&options) == 0 && last_auth_status == 401, "simulator: %s, wrong audience", algorithm);
		options.audience = token_url;
		check(ask(&options) == 200, "simulator: %s, audience", algorithm);
		options.audience = NULL;
		options.client_id = "another";
		check(ask(&options) == 0 && last_auth_status == 401, "simulator: %s, another client", algorithm);
		options.client_id = "esim-client";
	}
	clock_offset = -1000;
	ok(ask(&options) == 0 && last_auth_status == 401, "simulator: our clock is slow: expired");
	clock_offset = 1000;
	ok(ask(&options) == 0 && last_auth_status == 401, "simulator: our clock is fast: too far away");
	clock_offset = 100;
	ok(ask(&options) == 200, "simulator: a clock that is 100 s fast");
	clock_offset = -100;
	ok(ask(&options) == 200, "simulator: a clock that is 100 s slow");
	clock_offset = 0;
	options.scope = "iot-device-management:esim-profiles:enable";
	ok(ask(&options) == 403, "simulator: a scope that does not do");
	options.scope = "nonsense";
	ok(ask(&options) == 0 && last_auth_status == 400, "simulator: a scope that is unknown");
	simulator_stop();
}

int
main(void)
{
	scratch_make();
	make_keys();
	plain_port = server_start(NULL, NULL, NULL);
	loop_start(16);
	test_signer();
	test_token_request();
	test_discovery();
	test_tls();
	test_simulator();
	http_loop_destroy(loop);
	scratch_remove();
	return finish();
}
