/*-------------------------------------------------------------------------
 *
 * jwt.c
 *	  Client assertions: signed JSON Web Tokens with which a client proves to
 *	  a token endpoint who it is (RFC 7523 2.2, OpenID Connect Core 9,
 *	  private_key_jwt).
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <jansson.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

#include "http_internal.h"

/*
 * CAMARA's security profile allows 300 s from iat to exp, and servers refuse
 * an exp of more than 300 s from their own now: clocks may differ by two
 * minutes.
 */
#define ASSERTION_LIFETIME_S	180

#define MIN_RSA_BITS			2048	/* RFC 7518 3.3 */
#define P256_BYTES				32

struct HttpSigner
{
	EVP_PKEY   *key;
	bool		ec;				/* ES256, else RS256 */
	char	   *header;			/* base64url */
	char	   *client_id;		/* as JSON, quotes included */
};

static const char base64url[] =
"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#define ENCODED_SIZE(n)	(((n) * 4 + 2) / 3)

/* RFC 7515 2: base64url without padding; returns the end */
static char *
encode(char *to, const void *data, size_t length)
{
	const unsigned char *from = data;
	size_t		i;

	for (i = 0; i < length; i += 3)
	{
		unsigned	bits = (unsigned) from[i] << 16;

		if (i + 1 < length)
			bits |= (unsigned) from[i + 1] << 8;
		if (i + 2 < length)
			bits |= from[i + 2];
		*to++ = base64url[bits >> 18];
		*to++ = base64url[(bits >> 12) & 63];
		if (i + 1 < length)
			*to++ = base64url[(bits >> 6) & 63];
		if (i + 2 < length)
			*to++ = base64url[bits & 63];
	}
	*to = '\0';
	return to;
}

/* text as a JSON string; NULL: no memory, or not UTF-8 */
static char *
quote(const char *text)
{
	json_t	   *string = json_string(text);
	char	   *quoted = string != NULL ?
		json_dumps(string, JSON_ENCODE_ANY | JSON_ENSURE_ASCII) : NULL;

	json_decref(string);
	return quoted;
}

/* OpenSSL would ask on the terminal */
static int
no_passphrase(char *buffer, int size, int writing, void *arg)
{
	*(bool *) arg = true;
	return -1;
}

/* NULL: error is filled */
static EVP_PKEY *
read_key(const char *pem, char *error, size_t error_size)
{
	BIO		   *bio = BIO_new_mem_buf(pem, -1);
	EVP_PKEY   *key = NULL;
	bool		encrypted = false;
	char		group[40] = "";

	if (bio != NULL)
		key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &encrypted);
	BIO_free(bio);
	if (key == NULL)
		snprintf(error, error_size, encrypted ?
				 "the key of option \"private_key\" is encrypted" :
				 "option \"private_key\" holds no private key that can be read");
	else if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA)
	{
		if (EVP_PKEY_get_bits(key) >= MIN_RSA_BITS)
			return key;
		snprintf(error, error_size,
				 "the RSA key of option \"private_key\" has less than %d bits", MIN_RSA_BITS);
	}
	else if (EVP_PKEY_get_base_id(key) == EVP_PKEY_EC)
	{
		if (EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_GROUP_NAME, group,
										   sizeof(group), NULL) == 1 &&
			(strcmp(group, "prime256v1") == 0 || strcmp(group, "P-256") == 0))
			return key;
		snprintf(error, error_size,
				 "the elliptic curve key of option \"private_key\" is not one of the curve P-256");
	}
	else
		snprintf(error, error_size,
				 "the key of option \"private_key\" is neither RSA nor of the curve P-256");
	EVP_PKEY_free(key);
	ERR_clear_error();
	return NULL;
}

/*
 * What signs assertions of client_id with private_key (PEM text or path): by
 * RS256 or ES256, as the key is.  key_id may be NULL.  NULL: error is filled.
 */
HttpSigner *
http_signer_create(const char *client_id, const char *private_key, const char *key_id,
				   char *error, size_t error_size)
{
	HttpSigner *signer = calloc(1, sizeof(HttpSigner));
	char	   *pem;
	char	   *kid = NULL;
	char	   *header = NULL;
	size_t		size;
	int			length;

	if (signer == NULL)
	{
		snprintf(error, error_size, "out of memory");
		return NULL;
	}
	ERR_clear_error();
	pem = http_load_pem("private_key", private_key, "", error, error_size);
	if (pem != NULL)
		signer->key = read_key(pem, error, error_size);
	http_wipe_free_string(pem);
	if (signer->key == NULL)
	{
		free(signer);
		return NULL;
	}
	signer->ec = EVP_PKEY_get_base_id(signer->key) == EVP_PKEY_EC;

	signer->client_id = quote(client_id);
	kid = key_id != NULL && *key_id != '\0' ? quote(key_id) : NULL;
	if (signer->client_id == NULL || (key_id != NULL && *key_id != '\0' && kid == NULL))
	{
		snprintf(error, error_size, "option \"%s\" is not UTF-8",
				 signer->client_id == NULL ? "client_id" : "key_id");
		free(kid);
		http_signer_free(signer);
		return NULL;
	}
	size = 64 + (kid != NULL ? strlen(kid) : 0);
	header = malloc(size);
	signer->header = malloc(ENCODED_SIZE(size) + 1);
	if (header != NULL && signer->header != NULL)
	{
		length = snprintf(header, size, "{\"alg\":\"%s\",\"typ\":\"JWT\"%s%s}",
						  signer->ec ? "ES256" : "RS256",
						  kid != NULL ? ",\"kid\":" : "", kid != NULL ? kid : "");
		encode(signer->header, header, (size_t) length);
	}
	else
	{
		snprintf(error, error_size, "out of memory");
		http_signer_free(signer);
		signer = NULL;
	}
	free(header);
	free(kid);
	return signer;
}

void
http_signer_free(HttpSigner *signer)
{
	if (signer == NULL)
		return;
	EVP_PKEY_free(signer->key);
	free(signer->header);
	free(signer->client_id);
	free(signer);
}

/*
 * RFC 7518 3.4 wants r and s, each of fixed length, where OpenSSL gives them
 * as DER.  False: not so.
 */
static bool
raw_signature(const unsigned char *der, size_t length, unsigned char raw[2 * P256_BYTES])
{
	ECDSA_SIG  *signature = d2i_ECDSA_SIG(NULL, &der, (long) length);
	bool		ok;

	if (signature == NULL)
		return false;
	ok = BN_bn2binpad(ECDSA_SIG_get0_r(signature), raw, P256_BYTES) == P256_BYTES &&
		BN_bn2binpad(ECDSA_SIG_get0_s(signature), raw + P256_BYTES, P256_BYTES) == P256_BYTES;
	ECDSA_SIG_free(signature);
	return ok;
}

/* appends the signature of what stands before end; false: it could not be made */
static bool
sign(const HttpSigner *signer, const char *text, char *end)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	unsigned char signature[2048];	/* an RSA key of 16384 bits */
	unsigned char raw[2 * P256_BYTES];
	size_t		length = sizeof(signature);
	bool		ok;

	ok = context != NULL &&
		EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, signer->key) == 1 &&
		EVP_DigestSign(context, signature, &length, (const unsigned char *) text,
					   (size_t) (end - text)) == 1;
	EVP_MD_CTX_free(context);
	if (ok)
	{
		*end++ = '.';
		if (!signer->ec)
			encode(end, signature, length);
		else if ((ok = raw_signature(signature, length, raw)))
			encode(end, raw, sizeof(raw));
	}
	ERR_clear_error();
	return ok;
}

/*
 * A fresh assertion for audience, malloc'ed; to be freed with
 * http_wipe_free_string().  NULL: error is filled.
 */
char *
http_signer_assertion(const HttpSigner *signer, const char *audience,
					  char *error, size_t error_size)
{
	unsigned char random[16];
	char		jti[ENCODED_SIZE(sizeof(random)) + 1];
	char	   *quoted = quote(audience);
	char	   *claims = NULL;
	char	   *assertion = NULL;
	size_t		size;
	size_t		signature_size = (size_t) EVP_PKEY_get_size(signer->key);
	long long	now = (long long) time(NULL);
	int			length;
	char	   *end;

	error[0] = '\0';
	if (RAND_bytes(random, sizeof(random)) != 1)
	{
		snprintf(error, error_size, "could not get random bytes for a client assertion");
		ERR_clear_error();
		free(quoted);
		return NULL;
	}
	encode(jti, random, sizeof(random));
	if (quoted != NULL)
	{
		size = strlen(quoted) + 2 * strlen(signer->client_id) + sizeof(jti) + 128;
		claims = malloc(size);
		assertion = malloc(strlen(signer->header) + 1 + ENCODED_SIZE(size) + 1 +
						   ENCODED_SIZE(signature_size + 2 * P256_BYTES) + 1);
	}
	if (claims != NULL && assertion != NULL)
	{
		length = snprintf(claims, size, "{\"iss\":%s,\"sub\":%s,\"aud\":%s,\"jti\":\"%s\","
						  "\"iat\":%lld,\"exp\":%lld}", signer->client_id, signer->client_id,
						  quoted, jti, now, now + ASSERTION_LIFETIME_S);
		end = stpcpy(assertion, signer->header);
		*end++ = '.';
		end = encode(end, claims, (size_t) length);
		if (!sign(signer, assertion, end))
		{
			snprintf(error, error_size, "could not sign a client assertion");
			free(assertion);
			assertion = NULL;
		}
	}
	else
	{
		snprintf(error, error_size, "out of memory");
		free(assertion);
		assertion = NULL;
	}
	free(claims);
	free(quoted);
	return assertion;
}
