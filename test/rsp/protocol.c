/*
 * protocol.c
 *		The table of protocols: which prefix behind a server's name is whose.
 */
#include <string.h>

#include "rspsim.h"

static const Protocol protocols[] = {
	{"camara 2026-02", "/esim/vwip", true,
	camara_2026_identify, camara_2026_handle, error_info},
	{"camara r1.2", "/esim-profile-management/vwip", true,
	camara_r12_identify, camara_r12_handle, error_info},
	{"es2plus", "/gsma/rsp2/es2plus", true,
	es2plus_identify, es2plus_handle, es2plus_error},
	{"es2plus", "/gsma/rsp/v2/es2plus", true,
	es2plus_identify, es2plus_handle, es2plus_error},
	{"supersim", "/supersim/v1", true,
	twilio_identify, twilio_handle, twilio_error},
	{"eim", "/eim", true,
	eim_identify, eim_handle, eim_error},
	{"oauth2", "/oauth2/token", false,
	token_identify, token_handle, oauth_error},
	{"openid", "/.well-known/openid-configuration", false,
	discovery_identify, discovery_handle, error_info},
};

/* The protocol of a path (without the server's name), NULL if it is nobody's. */
const Protocol *
protocol_find(const char *path, size_t *prefix_length)
{
	size_t		i;

	for (i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++)
	{
		*prefix_length = strlen(protocols[i].prefix);
		if (strncmp(path, protocols[i].prefix, *prefix_length) == 0 &&
			(path[*prefix_length] == '/' || path[*prefix_length] == '\0'))
			return &protocols[i];
	}
	return NULL;
}
