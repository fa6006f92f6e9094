/*
 * server.c
 *		Named servers (the first segment of a path): settings and statistics.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "rspsim.h"

static Server *servers[MAX_SERVERS];
static int	nservers;

static void
set_defaults(Server *server)
{
	server->latency_ms = 0;
	server->device_delay_ms = 0;
	server->ota_timeout_ms = 0;
	server->max_in_flight = 0;
	server->rate_limit = 0;
	server->redownload = REDOWNLOAD_SAME_EID;
	server->idempotent = false;
	server->conflict_when_busy = false;
	server->opaque_ids = false;
	server->client_cert = false;
	token_free(&server->auth);
	memset(&server->auth, 0, sizeof(server->auth));
	server->auth.allow_basic = server->auth.allow_post = true;
	server->auth.scopes = SCOPE_ANY;
	server->auth.bearer_scopes = SCOPE_ANY;
	server->auth.expires_in = 3600;
}

/* The server of this name, made if it is new; NULL if there cannot be one. */
Server *
server_get(const char *name, size_t length)
{
	static Server *last;
	Server	   *server;
	int			i;

	if (last != NULL && strncmp(last->name, name, length) == 0 && last->name[length] == '\0')
		return last;
	if (length == 0 || length >= sizeof(server->name) ||
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") < length)
		return NULL;
	for (i = 0; i < nservers; i++)
		if (strncmp(servers[i]->name, name, length) == 0 && servers[i]->name[length] == '\0')
			return last = servers[i];
	if (nservers == MAX_SERVERS)
		return NULL;
	server = xalloc(sizeof(Server));
	memcpy(server->name, name, length);
	server->index = nservers;
	set_defaults(server);
	servers[nservers++] = server;
	return last = server;
}

Server *
server_by_index(uint16_t index)
{
	return servers[index];
}

static void
set_text(char **target, json_t *value)
{
	free(*target);
	*target = json_is_string(value) ? xstrdup(json_string_value(value)) : NULL;
}

static bool
configure_auth(Auth *auth, json_t *config, char *error, size_t size)
{
	const char *key;
	json_t	   *value;

	if (json_is_null(config))
	{
		auth->required = false;
		return true;
	}
	if (!json_is_object(config))
	{
		snprintf(error, size, "auth is an object or null");
		return false;
	}
	auth->required = true;
	json_object_foreach(config, key, value)
	{
		bool		text = json_is_string(value);
		bool		good = true;

		if (strcmp(key, "bearer") == 0 && text)
			set_text(&auth->bearer, value);
		else if (strcmp(key, "bearer_scopes") == 0 && text)
			good = scopes_parse(json_string_value(value), json_string_length(value),
								&auth->bearer_scopes);
		else if (strcmp(key, "client_id") == 0 && text)
			set_text(&auth->client_id, value);
		else if (strcmp(key, "client_secret") == 0 && text)
			set_text(&auth->client_secret, value);
		else if (strcmp(key, "public_key") == 0 && text)
			set_text(&auth->public_key, value);
		else if (strcmp(key, "username") == 0 && text)
			set_text(&auth->username, value);
		else if (strcmp(key, "password") == 0 && text)
			set_text(&auth->password, value);
		else if ((strcmp(key, "scope") == 0 || strcmp(key, "scopes") == 0) && text)
			good = scopes_parse(json_string_value(value), json_string_length(value),
								&auth->scopes);
		else if (strcmp(key, "check_scopes") == 0 && json_is_boolean(value))
			auth->check_scopes = json_is_true(value);
		else if (strcmp(key, "expires_in") == 0 && json_is_integer(value) &&
				 json_integer_value(value) >= 0 && json_integer_value(value) <= 86400 * 365)
			auth->expires_in = json_integer_value(value);
		else if (strcmp(key, "methods") == 0 && json_is_array(value))
		{
			size_t		i;
			json_t	   *item;

			auth->allow_basic = auth->allow_post = false;
			json_array_foreach(value, i, item)
			{
				const char *method = json_is_string(item) ? json_string_value(item) : "";

				if (strcmp(method, "client_secret_basic") == 0)
					auth->allow_basic = true;
				else if (strcmp(method, "client_secret_post") == 0)
					auth->allow_post = true;
				else if (strcmp(method, "private_key_jwt") != 0)
					good = false;
			}
		}
		else
			good = false;
		if (!good)
		{
			snprintf(error, size, "auth.%s is unknown or has a wrong value", key);
			return false;
		}
	}
	return true;
}

/*
 * Applies the settings that "config" names; the others stay.  False, with a
 * message, at the first one that is unknown or wrong.
 */
bool
server_configure(Server *server, json_t *config, char *error, size_t size)
{
	struct
	{
		const char *name;
		uint32_t   *value;
	}			numbers[] = {
		{"latency_ms", &server->latency_ms},
		{"device_delay_ms", &server->device_delay_ms},
		{"ota_timeout_ms", &server->ota_timeout_ms},
		{"max_in_flight", &server->max_in_flight},
		{"rate_limit", &server->rate_limit},
	};
	struct
	{
		const char *name;
		bool	   *value;
	}			switches[] = {
		{"idempotent", &server->idempotent},
		{"conflict_when_busy", &server->conflict_when_busy},
		{"opaque_ids", &server->opaque_ids},
		{"client_cert", &server->client_cert},
	};
	const char *key;
	json_t	   *value;
	size_t		i;

	if (!json_is_object(config))
	{
		snprintf(error, size, "a server's settings are an object");
		return false;
	}
	json_object_foreach(config, key, value)
	{
		bool		good = false;

		for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
			if (strcmp(key, numbers[i].name) == 0 && json_is_integer(value) &&
				json_integer_value(value) >= 0 && json_integer_value(value) <= INT32_MAX)
			{
				*numbers[i].value = json_integer_value(value);
				good = true;
			}
		for (i = 0; i < sizeof(switches) / sizeof(switches[0]); i++)
			if (strcmp(key, switches[i].name) == 0 && json_is_boolean(value))
			{
				*switches[i].value = json_is_true(value);
				good = true;
			}
		if (strcmp(key, "redownload") == 0 && json_is_string(value))
		{
			const char *text = json_string_value(value);

			good = true;
			if (strcmp(text, "never") == 0)
				server->redownload = REDOWNLOAD_NEVER;
			else if (strcmp(text, "same_eid") == 0)
				server->redownload = REDOWNLOAD_SAME_EID;
			else if (strcmp(text, "any") == 0)
				server->redownload = REDOWNLOAD_ANY;
			else
				good = false;
		}
		if (strcmp(key, "auth") == 0)
		{
			if (!configure_auth(&server->auth, value, error, size))
				return false;
			good = true;
		}
		if (strcmp(key, "camara") == 0 && json_is_object(value))
		{
			if (!camara_configure(server, value, error, size))
				return false;
			good = true;
		}
		if (strcmp(key, "supersim") == 0 && json_is_object(value))
		{
			if (!twilio_configure(server, value, error, size))
				return false;
			good = true;
		}
		if (strcmp(key, "es2plus") == 0)
		{
			if (!es2plus_configure(server, value, error, size))
				return false;
			good = true;
		}
		if (strcmp(key, "eim") == 0)
		{
			if (!eim_configure(server, value, error, size))
				return false;
			good = true;
		}
		if (strcmp(key, "expire_tokens") == 0 && json_is_true(value))
		{
			token_expire_all(server);
			good = true;
		}
		if (!good)
		{
			snprintf(error, size, "setting \"%s\" is unknown or has a wrong value", key);
			return false;
		}
	}
	return true;
}

/* Counts the request in; the window slides in steps of 100 ms. */
void
server_request_begins(Server *server)
{
	uint64_t	now = clock_ms() / 100;

	server->requests++;
	if (++server->in_flight > server->in_flight_seen)
		server->in_flight_seen = server->in_flight;
	if (now - server->bucket_time >= RATE_BUCKETS)
	{
		memset(server->buckets, 0, sizeof(server->buckets));
		server->window = 0;
		server->bucket_time = now;
	}
	while (server->bucket_time < now)
	{
		uint32_t   *bucket = &server->buckets[++server->bucket_time % RATE_BUCKETS];

		server->window -= *bucket;
		*bucket = 0;
	}
	server->buckets[now % RATE_BUCKETS]++;
	if (++server->window > server->window_seen)
		server->window_seen = server->window;
}

void
server_request_ends(Server *server)
{
	server->in_flight--;
}

void
server_count_answer(Server *server, const char *label, int status)
{
	uint32_t	slot = mix64((uintptr_t) label ^ (uint64_t) status << 48);
	int			tries;

	for (tries = 0; tries < STATS_SLOTS; tries++)
	{
		Stat	   *stat = &server->stats[(slot + tries) % STATS_SLOTS];

		if (stat->label == NULL)
		{
			stat->label = label;
			stat->status = status;
		}
		if (stat->label == label && stat->status == status)
		{
			stat->count++;
			return;
		}
	}
}

void
server_stats_json(Buf *out)
{
	int			i,
				j;

	buf_text(out, "{");
	for (i = 0; i < nservers; i++)
	{
		Server	   *server = servers[i];
		const char *comma = "";

		buf_format(out, "%s\"%s\":{\"requests\":%" PRIu64 ",\"in_flight\":%u,"
				   "\"max_in_flight\":%u,\"max_per_second\":%u,\"token_requests\":%" PRIu64
				   ",\"tokens_issued\":%" PRIu64 ",\"answers\":{",
				   i ? "," : "", server->name, server->requests, server->in_flight,
				   server->in_flight_seen, server->window_seen, server->auth.token_requests,
				   server->auth.tokens_issued);
		for (j = 0; j < STATS_SLOTS; j++)
			if (server->stats[j].label != NULL)
			{
				buf_format(out, "%s\"%s %d\":%" PRIu64, comma, server->stats[j].label,
						   server->stats[j].status, server->stats[j].count);
				comma = ",";
			}
		buf_text(out, "}}");
	}
	buf_text(out, "}");
}

/* Forgets what was counted; what is in flight stays. */
void
server_reset_stats(void)
{
	int			i;

	for (i = 0; i < nservers; i++)
	{
		Server	   *server = servers[i];

		server->requests = 0;
		server->in_flight_seen = server->in_flight;
		server->window = server->window_seen = 0;
		memset(server->buckets, 0, sizeof(server->buckets));
		memset(server->stats, 0, sizeof(server->stats));
		server->auth.token_requests = server->auth.tokens_issued = 0;
	}
}

/* Settings back to their defaults, too.  The records stay: requests point at them. */
void
server_reset_all(void)
{
	int			i;

	server_reset_stats();
	for (i = 0; i < nservers; i++)
		set_defaults(servers[i]);
}
