/*-------------------------------------------------------------------------
 *
 * allow.c
 *	  Where sinks and callback URLs may lead: esim.sink_allow, and the classes
 *	  of addresses.
 *
 * esim.sink_allow is a list of entries parted by commas:
 *
 *		[scheme://]host[:port]
 *
 * host is a name, an address (IPv6 in brackets), "*" for any host, or a name
 * whose first label is "*": any name below the rest, not the rest itself.
 * Without a port, or with "*" for it, every port is meant.  An empty list
 * allows every public host by https.  Private addresses need
 * esim.sink_allow_private besides; then a host that is listed may be spoken
 * to by http, but only at a private address.  An entry that begins with
 * http:// allows http for good.
 *
 * URLs are taken apart by libcurl's parser, as when they are used: what is
 * looked at here is what will be connected to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <curl/curl.h>

#include "event/message.h"

#define MAX_HOST	256
#define MAX_ENTRY	300

typedef struct Entry
{
	bool		http;			/* http:// is written */
	char		host[MAX_HOST]; /* lower case, no brackets */
	int			port;			/* 0: any */
} Entry;

/* ------------------------------------------------------------------------
 * Addresses
 * ------------------------------------------------------------------------ */

static bool
in4(uint32_t address, uint32_t net, int bits)
{
	return bits == 0 || ((address ^ net) >> (32 - bits)) == 0;
}

/* IANA's special-purpose registry, all that is not globally reachable */
static bool
is_private4(uint32_t a)
{
	static const struct
	{
		uint32_t	net;
		int			bits;
	}			nets[] = {
		{0x00000000, 8},		/* this network */
		{0x0a000000, 8},		/* private */
		{0x64400000, 10},		/* shared, RFC 6598 */
		{0x7f000000, 8},		/* loopback */
		{0xa9fe0000, 16},		/* link-local, cloud metadata */
		{0xac100000, 12},		/* private */
		{0xc0000000, 24},		/* protocol assignments */
		{0xc0000200, 24},		/* documentation */
		{0xc0586300, 24},		/* 6to4 relays */
		{0xc0a80000, 16},		/* private */
		{0xc6120000, 15},		/* benchmarking */
		{0xc6336400, 24},		/* documentation */
		{0xcb007100, 24},		/* documentation */
		{0xe0000000, 4},		/* multicast */
		{0xf0000000, 4}			/* reserved, broadcast */
	};
	size_t		i;

	for (i = 0; i < sizeof(nets) / sizeof(nets[0]); i++)
	{
		if (in4(a, nets[i].net, nets[i].bits))
			return true;
	}
	/* the metadata service of one more cloud */
	return a == 0xa83f8110;		/* 168.63.129.16 */
}

static uint32_t
word(const unsigned char *p)
{
	return (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3];
}

static bool
is_private6(const unsigned char *a)
{
	static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	static const unsigned char nat64[12] = {0, 0x64, 0xff, 0x9b};

	/* an IPv4 address in another form is what it is */
	if (memcmp(a, mapped, 12) == 0 || memcmp(a, nat64, 12) == 0)
		return is_private4(word(a + 12));

	/* all that is global unicast lies in 2000::/3 */
	if ((a[0] & 0xe0) != 0x20)
		return true;
	if (a[0] == 0x20 && a[1] == 0x02)	/* 6to4 */
		return is_private4(word(a + 2));
	if (a[0] == 0x20 && a[1] == 0x01)
	{
		if (a[2] < 0x02)		/* 2001::/23: Teredo, ORCHID and others */
			return true;
		if (a[2] == 0x0d && a[3] == 0xb8)	/* documentation */
			return true;
	}
	if (a[0] == 0x3f && a[1] == 0xff && (a[2] & 0xf0) == 0) /* documentation */
		return true;

	/* ISATAP: the IPv4 address at the end */
	if ((a[8] & 0xfd) == 0 && a[9] == 0 && a[10] == 0x5e && a[11] == 0xfe)
		return is_private4(word(a + 12));
	return false;
}

bool
sink_address_is_private(const struct sockaddr *address, size_t length)
{
	if (address->sa_family == AF_INET && length >= sizeof(struct sockaddr_in))
	{
		struct sockaddr_in in;

		memcpy(&in, address, sizeof(in));
		return is_private4(ntohl(in.sin_addr.s_addr));
	}
	if (address->sa_family == AF_INET6 && length >= sizeof(struct sockaddr_in6))
	{
		struct sockaddr_in6 in;

		memcpy(&in, address, sizeof(in));
		return is_private6(in.sin6_addr.s6_addr);
	}
	return true;
}

/*
 * A host that is private by how it is written: an address in any spelling that
 * some resolver takes, or a name that never is public.  Names in general are
 * looked at when they have been resolved.
 */
static bool
is_private_host(const char *host)
{
	char		name[MAX_HOST];
	size_t		length = strlen(host);
	struct in_addr in;
	struct in6_addr in6;
	char	   *zone;

	if (length >= sizeof(name))
		return true;
	memcpy(name, host, length + 1);
	while (length > 0 && name[length - 1] == '.')
		name[--length] = '\0';
	if (length == 0)
		return true;
	if (inet_aton(name, &in) != 0)
		return is_private4(ntohl(in.s_addr));
	zone = strchr(name, '%');
	if (zone != NULL)
		*zone = '\0';
	if (inet_pton(AF_INET6, name, &in6) == 1)
		return zone != NULL || is_private6(in6.s6_addr);
	if (strcasecmp(name, "localhost") == 0 ||
		strcasecmp(name, "localhost.localdomain") == 0 ||
		strcasecmp(name, "ip6-localhost") == 0 ||
		strcasecmp(name, "ip6-loopback") == 0 ||
		(length > 10 && strcasecmp(name + length - 10, ".localhost") == 0))
		return true;
	return false;
}

/* ------------------------------------------------------------------------
 * The list
 * ------------------------------------------------------------------------ */

static void
say(char *reason, size_t size, const char *text)
{
	if (reason != NULL && size > 0)
		snprintf(reason, size, "%s", text);
}

/* Reads the entry of length bytes at text; false: it is none. */
static bool
read_entry(const char *text, size_t length, Entry *entry)
{
	char		buffer[MAX_ENTRY];
	char	   *host = buffer;
	char	   *port;
	char	   *c;

	if (length == 0 || length >= sizeof(buffer))
		return false;
	memcpy(buffer, text, length);
	buffer[length] = '\0';
	memset(entry, 0, sizeof(*entry));
	if (strncasecmp(host, "https://", 8) == 0)
		host += 8;
	else if (strncasecmp(host, "http://", 7) == 0)
	{
		host += 7;
		entry->http = true;
	}
	if (*host == '[')
	{
		struct in6_addr in6;

		host++;
		c = strchr(host, ']');
		if (c == NULL)
			return false;
		*c++ = '\0';
		if (inet_pton(AF_INET6, host, &in6) != 1)
			return false;
		inet_ntop(AF_INET6, &in6, entry->host, sizeof(entry->host));
		if (*c != '\0' && *c != ':')
			return false;
		port = *c == ':' ? c + 1 : NULL;
	}
	else
	{
		size_t		n;

		port = strchr(host, ':');
		if (port != NULL)
			*port++ = '\0';
		n = strlen(host);
		while (n > 0 && host[n - 1] == '.')
			host[--n] = '\0';
		if (n == 0 || n >= sizeof(entry->host))
			return false;
		for (c = host; *c; c++)
		{
			if (*c >= 'A' && *c <= 'Z')
				*c += 'a' - 'A';
			if (!((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') ||
				  strchr("-_.", *c) != NULL ||
				  (*c == '*' && c == host && (c[1] == '.' || c[1] == '\0'))))
				return false;
		}
		memcpy(entry->host, host, n + 1);
	}
	if (port != NULL && strcmp(port, "*") != 0)
	{
		char	   *end;
		long		number = strtol(port, &end, 10);

		if (*port < '0' || *port > '9' || *end != '\0' || number < 1 || number > 65535)
			return false;
		entry->port = (int) number;
	}
	return true;
}

/*
 * The next entry of the list behind *list; false: there is none.  An entry
 * that cannot be read is given with *good false.
 */
static bool
next_entry(const char **list, Entry *entry, bool *good, const char **text, size_t *length)
{
	const char *c = *list;

	c += strspn(c, " \t\r\n,");
	if (*c == '\0')
		return false;
	*text = c;
	*length = strcspn(c, ",");
	*list = c + *length;
	while (*length > 0 && strchr(" \t\r\n", c[*length - 1]) != NULL)
		(*length)--;
	*good = read_entry(c, *length, entry);
	return true;
}

bool
sink_allow_valid(const char *list, char *reason, size_t size)
{
	Entry		entry;
	const char *text;
	size_t		length;
	bool		good;

	while (list != NULL && next_entry(&list, &entry, &good, &text, &length))
	{
		if (!good)
		{
			snprintf(reason, size, "\"%.*s\" is not of the form [scheme://]host[:port].",
					 (int) (length < 60 ? length : 60), text);
			return false;
		}
	}
	return true;
}

static bool
host_matches(const Entry *entry, const char *host)
{
	size_t		length = strlen(host);
	size_t		tail = strlen(entry->host);

	if (strcmp(entry->host, "*") == 0)
		return true;
	if (entry->host[0] != '*')
		return strcmp(entry->host, host) == 0;
	tail--;						/* with its dot */
	return length > tail && strcmp(host + length - tail, entry->host + 1) == 0;
}

/* ------------------------------------------------------------------------
 * URLs
 * ------------------------------------------------------------------------ */

typedef struct Parts
{
	bool		http;
	char		host[MAX_HOST]; /* lower case, no brackets, no dot at the end */
	bool		ipv6;
	int			port;
} Parts;

static bool
take_apart(const char *url, Parts *parts, SinkRoute *route, char *reason, size_t size)
{
	CURLU	   *handle;
	char	   *scheme = NULL;
	char	   *host = NULL;
	char	   *port = NULL;
	const char *c;
	size_t		length;
	bool		ok = false;

	memset(parts, 0, sizeof(*parts));
	if (strlen(url) > SINK_MAX_URL)
	{
		say(reason, size, "It is longer than 2048 characters.");
		return false;
	}
	for (c = url; *c; c++)
	{
		if ((unsigned char) *c <= 0x20 || (unsigned char) *c >= 0x7f)
		{
			say(reason, size, "It has a blank, a control character or one outside ASCII.");
			return false;
		}
		if (strchr("\\\"<>^`{|}", *c) != NULL)
		{
			say(reason, size, "It has a character that URLs do not have.");
			return false;
		}
	}
	if (strchr(url, '#') != NULL)
	{
		say(reason, size, "It has a fragment.");
		return false;
	}
	if (strncasecmp(url, "https://", 8) != 0 && strncasecmp(url, "http://", 7) != 0)
	{
		say(reason, size, "Its scheme is not https.");
		return false;
	}
	c = strstr(url, "://") + 3;
	length = strcspn(c, "/?");
	if (memchr(c, '@', length) != NULL)
	{
		say(reason, size, "It has user information.");
		return false;
	}
	if (length == 0 || *c == ':')
	{
		say(reason, size, "It has no host.");
		return false;
	}
	if (route != NULL)
		route->target = c + length;

	say(reason, size, "It is not a URL with a scheme and a host.");
	handle = curl_url();
	if (handle == NULL)
		return false;
	if (curl_url_set(handle, CURLUPART_URL, url, CURLU_DISALLOW_USER) == CURLUE_OK &&
		curl_url_get(handle, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
		curl_url_get(handle, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
		curl_url_get(handle, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
		strlen(host) < MAX_HOST && host[0] != '\0')
	{
		char	   *to = parts->host;

		parts->http = strcmp(scheme, "http") == 0;
		parts->port = atoi(port);
		parts->ipv6 = host[0] == '[';
		for (c = host; *c; c++)
		{
			if (*c == '[' || *c == ']')
				continue;
			*to++ = *c >= 'A' && *c <= 'Z' ? *c + ('a' - 'A') : *c;
		}
		*to = '\0';
		while (to > parts->host && to[-1] == '.')
			*--to = '\0';
		if (parts->ipv6)
		{
			struct in6_addr in6;

			/* one spelling; a zone stays and will not be matched */
			if (inet_pton(AF_INET6, parts->host, &in6) == 1)
				inet_ntop(AF_INET6, &in6, parts->host, sizeof(parts->host));
		}
		if (route != NULL)
			snprintf(route->origin, sizeof(route->origin), "%s://%s:%d",
					 scheme, host, parts->port);
		ok = parts->port >= 1 && parts->port <= 65535 && parts->host[0] != '\0';
	}
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(handle);
	return ok;
}

SinkVerdict
sink_check(const char *url, const char *allow, bool allow_private,
		   SinkRoute *route, char *reason, size_t size)
{
	Parts		parts;
	bool		listed = false;
	bool		http = false;
	bool		any = false;
	const char *list = allow;
	Entry		entry;
	const char *text;
	size_t		length;
	bool		good;

	if (!take_apart(url, &parts, route, reason, size))
		return SINK_INVALID;

	while (list != NULL && next_entry(&list, &entry, &good, &text, &length))
	{
		any = true;
		if (!good || !host_matches(&entry, parts.host) ||
			(entry.port != 0 && entry.port != parts.port))
			continue;
		if (entry.http)
			http = true;
		/* http:// lets https pass as well: that is more, not less */
		listed = true;
	}
	if (parts.http && !http && !(listed && allow_private))
	{
		say(reason, size, "Its scheme is not https.");
		return SINK_NOT_HTTPS;
	}
	if (!allow_private && is_private_host(parts.host))
	{
		say(reason, size, "Its host is a private or local address.");
		return SINK_PRIVATE;
	}
	if (any && !listed)
	{
		say(reason, size, "Its host is not in esim.sink_allow.");
		return SINK_NOT_LISTED;
	}
	if (route != NULL)
	{
		route->plain_http = parts.http;
		route->only_private = parts.http && !http;
	}
	say(reason, size, "");
	return SINK_ALLOWED;
}
