/*-------------------------------------------------------------------------
 *
 * signature.c
 *	  Tokens and signatures of messages: Standard Webhooks, HMAC-SHA256.
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "event/message.h"

bool
sink_token_valid(const char *token)
{
	size_t		i;

	for (i = 0; token[i]; i++)
	{
		if (i >= SINK_MAX_TOKEN || (unsigned char) token[i] <= 0x20 ||
			(unsigned char) token[i] >= 0x7f)
			return false;
	}
	return i > 0;
}

static int
base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

size_t
sink_secret(const char *text, unsigned char key[SINK_MAX_SECRET])
{
	size_t		length;
	size_t		pad = 0;
	size_t		n = 0;
	size_t		i;
	unsigned	bits = 0;

	if (strncmp(text, "whsec_", 6) == 0)
		text += 6;
	length = strlen(text);
	while (pad < 2 && length > 0 && text[length - 1] == '=')
	{
		length--;
		pad++;
	}

	/* padding may be left out; where it is, it is as it must be */
	if (length % 4 == 1 || (pad > 0 && (length + pad) % 4 != 0))
		return 0;
	for (i = 0; i < length; i++)
	{
		int			digit = base64_digit(text[i]);

		if (digit < 0)
			return 0;
		bits = bits << 6 | (unsigned) digit;
		if (i % 4 != 0)
		{
			if (n == SINK_MAX_SECRET)
				return 0;
			key[n++] = (unsigned char) (bits >> (6 - i % 4 * 2));
		}
	}
	return n >= SINK_MIN_SECRET ? n : 0;
}

bool
sink_signature(const unsigned char *key, size_t key_length, const char *id,
			   int64_t timestamp, const char *body, size_t length,
			   char signature[SINK_SIGNATURE_SIZE])
{
	size_t		size = strlen(id) + 32 + length;
	char	   *text = malloc(size);
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned	digest_length = 0;
	size_t		head;
	bool		ok;

	if (text == NULL)
		return false;
	head = (size_t) snprintf(text, size, "%s.%" PRId64 ".", id, timestamp);
	memcpy(text + head, body, length);
	ok = HMAC(EVP_sha256(), key, (int) key_length, (unsigned char *) text, head + length,
			  digest, &digest_length) != NULL && digest_length == 32;
	free(text);
	if (!ok)
		return false;
	memcpy(signature, "v1,", 3);
	EVP_EncodeBlock((unsigned char *) signature + 3, digest, 32);
	return true;
}
