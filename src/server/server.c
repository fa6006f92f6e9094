/*-------------------------------------------------------------------------
 *
 * server.c
 *	  Servers of the foreign data wrapper esim_rsp, read from the catalogs and
 *	  kept until they change.
 *
 * There is one cached entry per server for those who only look (enqueue), and
 * one per server and owner for those who talk, with the credentials.  An entry
 * that has become stale leaves the table at once and is freed by whoever
 * releases it last, so that requests under way keep the endpoint with which
 * they began.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "common/string.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/lmgr.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "esim.h"
#include "server/option.h"
#include "server/server.h"

#define WRAPPER_NAME	"esim_rsp"

/* entries that nobody uses are dropped, least used first, above this */
#define MAX_CACHED		256

/* largest answer that is read from a server */
#define MAX_ANSWER		(4 * 1024 * 1024)

/* largest file that a certificate or key option may name */
#define MAX_FILE		(1024 * 1024)

#define NETWORK_EXPIRY_MS	INT64CONST(31536000000) /* 365 days */

typedef struct ServerKey
{
	Oid			serverid;
	Oid			owner;			/* InvalidOid without endpoint */
	uint32		with_endpoint;
} ServerKey;

/* A file that an option names, as it was when it was read. */
typedef struct ServerFile
{
	const char *path;
	struct stat seen;
} ServerFile;

typedef struct ServerEntry
{
	EsimServer	server;			/* must be first */
	ServerKey	key;
	uint32		server_hash;	/* of the syscaches' invalidations */
	uint32		owner_hash;
	uint32		public_hash;
	uint64		last_used;
	ServerFile	files[4];
	int			nfiles;
} ServerEntry;

typedef struct ServerSlot
{
	ServerKey	key;
	ServerEntry *entry;
} ServerSlot;

static HTAB *server_cache = NULL;
static uint64 generation = 1;
static uint64 use_counter = 0;
static Oid	wrapper_oid = InvalidOid;	/* of esim_rsp, InvalidOid: look */

PG_FUNCTION_INFO_V1(esim_server_lock);

/*
 * A server, a user mapping or the wrapper may have changed.  Runs while
 * invalidations are handled: it only marks.
 */
static void
invalidate(Datum arg, int cacheid, uint32 hash)
{
	HASH_SEQ_STATUS scan;
	ServerSlot *slot;

	generation++;
	if (cacheid == FOREIGNDATAWRAPPEROID)
		wrapper_oid = InvalidOid;
	if (server_cache == NULL)
		return;
	hash_seq_init(&scan, server_cache);
	while ((slot = hash_seq_search(&scan)) != NULL)
	{
		ServerEntry *entry = slot->entry;

		if (hash == 0 || cacheid == FOREIGNDATAWRAPPEROID ||
			(cacheid == FOREIGNSERVEROID && hash == entry->server_hash) ||
			(cacheid == USERMAPPINGUSERSERVER && entry->key.with_endpoint &&
			 (hash == entry->owner_hash || hash == entry->public_hash)))
			entry->server.stale = true;
	}
}

static void
initialize(void)
{
	static bool registered = false;
	HASHCTL		ctl;

	if (!registered)
	{
		CacheRegisterSyscacheCallback(FOREIGNDATAWRAPPEROID, invalidate, (Datum) 0);
		CacheRegisterSyscacheCallback(FOREIGNSERVEROID, invalidate, (Datum) 0);
		/* by owner and server: only their entries lose the tokens they hold */
		CacheRegisterSyscacheCallback(USERMAPPINGUSERSERVER, invalidate, (Datum) 0);
		registered = true;
	}
	if (server_cache == NULL)
	{
		memset(&ctl, 0, sizeof(ctl));
		ctl.keysize = sizeof(ServerKey);
		ctl.entrysize = sizeof(ServerSlot);
		server_cache = hash_create("esim servers", 64, &ctl, HASH_ELEM | HASH_BLOBS);
	}
}

uint64
esim_server_generation(void)
{
	initialize();
	return generation;
}

static void
free_entry(ServerEntry *entry)
{
	if (entry->server.rsp.endpoint != NULL)
		http_endpoint_release(entry->server.rsp.endpoint);
	MemoryContextDelete(entry->server.context);
}

/* Take an entry out of the table; it lives on while it is in use. */
static void
unlink_entry(ServerEntry *entry)
{
	entry->server.stale = true;
	hash_search(server_cache, &entry->key, HASH_REMOVE, NULL);
	if (entry->server.refcount == 0)
		free_entry(entry);
}

static void
make_room(void)
{
	while (hash_get_num_entries(server_cache) >= MAX_CACHED)
	{
		HASH_SEQ_STATUS scan;
		ServerSlot *slot;
		ServerEntry *oldest = NULL;

		hash_seq_init(&scan, server_cache);
		while ((slot = hash_seq_search(&scan)) != NULL)
		{
			if (slot->entry->server.refcount == 0 &&
				(oldest == NULL || slot->entry->last_used < oldest->last_used))
				oldest = slot->entry;
		}
		if (oldest == NULL)
			break;				/* all in use, which the worker bounds */
		unlink_entry(oldest);
	}
}

void
esim_server_release(EsimServer *server)
{
	Assert(server->refcount > 0);
	server->refcount--;

	/*
	 * A stale entry still in the table is left to the next who looks there
	 * for it, or to make_room().
	 */
	if (server->refcount == 0 && server->stale)
	{
		ServerEntry *entry = (ServerEntry *) server;
		ServerSlot *slot = hash_search(server_cache, &entry->key, HASH_FIND, NULL);

		if (slot == NULL || slot->entry != entry)
			free_entry(entry);
	}
}

/*
 * OID of the wrapper esim_rsp, InvalidOid if the extension is not there.  One
 * of that name that somebody else made is not taken for it.
 */
static Oid
find_wrapper(void)
{
	if (!OidIsValid(wrapper_oid))
	{
		ForeignDataWrapper *wrapper = GetForeignDataWrapperByName(WRAPPER_NAME, true);
		Oid			extension = esim_extension_oid();

		if (wrapper != NULL && OidIsValid(extension) &&
			getExtensionOfObject(ForeignDataWrapperRelationId, wrapper->fdwid) == extension)
			wrapper_oid = wrapper->fdwid;
	}
	return wrapper_oid;
}

/*
 * List of char * in the current memory context, sorted by name.  Needs a
 * transaction.
 */
static int
compare_names(const ListCell *a, const ListCell *b)
{
	return strcmp((const char *) lfirst(a), (const char *) lfirst(b));
}

List *
esim_server_names(void)
{
	List	   *names = NIL;
	Oid			wrapper;
	Relation	relation;
	SysScanDesc scan;
	HeapTuple	tuple;

	initialize();
	wrapper = find_wrapper();
	if (!OidIsValid(wrapper))
		return NIL;
	relation = table_open(ForeignServerRelationId, AccessShareLock);
	scan = systable_beginscan(relation, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_foreign_server form = (Form_pg_foreign_server) GETSTRUCT(tuple);

		if (form->srvfdw == wrapper)
			names = lappend(names, pstrdup(NameStr(form->srvname)));
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	list_sort(names, compare_names);
	return names;
}

static bool never_lock = false;

void
esim_server_never_lock(void)
{
	never_lock = true;
}

/*
 * OID of the server of that name, and with lock held on it to the end of the
 * transaction, so that it is neither dropped nor renamed while an open
 * transaction queues operations for it.
 */
static Oid
find_and_lock(const char *name)
{
	if (never_lock)
		return get_foreign_server_oid(name, true);
	for (;;)
	{
		Oid			serverid = get_foreign_server_oid(name, true);

		if (!OidIsValid(serverid))
			return InvalidOid;
		LockDatabaseObject(ForeignServerRelationId, serverid, 0, AccessShareLock);
		if (get_foreign_server_oid(name, true) == serverid)
			return serverid;
		UnlockDatabaseObject(ForeignServerRelationId, serverid, 0, AccessShareLock);
	}
}

/*
 * Text of a file that an option names, checked as libpq checks the key of its
 * client: a regular file; one with a private key readable by its owner only,
 * or by a group if it belongs to root.  Returns NULL and sets reason if it
 * cannot be used.  The text is to be wiped by the caller.
 */
static char *
read_file(ServerEntry *entry, const char *option, const char *path, char **reason)
{
	ServerFile *file;
	struct stat st;
	char	   *text;
	ssize_t		length = 0;
	int			fd;

	/* a FIFO must not hold us up */
	fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | PG_BINARY);
	if (fd < 0)
	{
		*reason = psprintf("could not open the file of option \"%s\": %m", option);
		return NULL;
	}
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
	{
		CloseTransientFile(fd);
		*reason = psprintf("the file of option \"%s\" is not a regular file", option);
		return NULL;
	}
	if (st.st_size > MAX_FILE)
	{
		CloseTransientFile(fd);
		*reason = psprintf("the file of option \"%s\" is too large", option);
		return NULL;
	}

	text = palloc(MAX_FILE + 1);
	for (;;)
	{
		ssize_t		n = read(fd, text + length, MAX_FILE - length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		length += n;
	}
	CloseTransientFile(fd);
	text[length] = '\0';

	if (strlen(text) != length || !esim_option_is_pem(text))
		*reason = psprintf("the file of option \"%s\" holds no PEM text", option);
	else if (strstr(text, "PRIVATE KEY-----") != NULL &&
			 ((st.st_uid != geteuid() && st.st_uid != 0) ||
			  (st.st_mode & (st.st_uid == 0 ? (S_IWGRP | S_IXGRP | S_IRWXO)
							 : (S_IRWXG | S_IRWXO))) != 0))
		*reason = psprintf("the file of option \"%s\" holds a private key and has group or world access",
						   option);
	if (*reason != NULL)
	{
		explicit_bzero(text, length);
		pfree(text);
		return NULL;
	}

	file = &entry->files[entry->nfiles++];
	file->path = MemoryContextStrdup(entry->server.context, path);
	file->seen = st;
	return text;
}

/* true: a file that an option names is another than the one that was read */
static bool
files_changed(const ServerEntry *entry)
{
	int			i;

	for (i = 0; i < entry->nfiles; i++)
	{
		const struct stat *seen = &entry->files[i].seen;
		struct stat now;

		if (stat(entry->files[i].path, &now) != 0 || now.st_ino != seen->st_ino ||
			now.st_dev != seen->st_dev || now.st_size != seen->st_size ||
			now.st_mtim.tv_sec != seen->st_mtim.tv_sec ||
			now.st_mtim.tv_nsec != seen->st_mtim.tv_nsec)
			return true;
	}
	return false;
}

/*
 * Options of owner's user mapping, else of PUBLIC's, else none.
 * GetUserMapping() would do the same with an error, and check no rights
 * either: who may use a mapping is decided by whose operation it is.
 */
static List *
mapping_options(Oid serverid, Oid owner, bool *found)
{
	HeapTuple	tuple;
	Datum		datum;
	bool		isnull;
	List	   *options = NIL;

	tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(owner),
							ObjectIdGetDatum(serverid));
	if (!HeapTupleIsValid(tuple) && OidIsValid(owner))
		tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid),
								ObjectIdGetDatum(serverid));
	*found = HeapTupleIsValid(tuple);
	if (!HeapTupleIsValid(tuple))
		return NIL;
	datum = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions, &isnull);
	if (!isnull)
		options = untransformRelOptions(datum);
	ReleaseSysCache(tuple);
	return options;
}

/*
 * HTTP wants UTF-8.  Options other than user name and password are ASCII.
 * Returns NULL if value cannot be converted.
 */
static const char *
to_utf8(const char *value)
{
	int			length = strlen(value);
	char	   *converted;

	if (pg_is_ascii(value) || GetDatabaseEncoding() == PG_UTF8)
		return value;
	if (GetDatabaseEncoding() == PG_SQL_ASCII)
		return pg_encoding_verifymbstr(PG_UTF8, value, length) == length ? value : NULL;
	converted = (char *) pg_do_encoding_conversion((unsigned char *) pstrdup(value), length,
												   GetDatabaseEncoding(), PG_UTF8);
	return converted;
}

/*
 * How to authenticate: as the server's option says, else as the user mapping
 * allows.  Returns false and sets reason if the mapping lacks what it needs.
 */
static bool
choose_auth(const EsimOptions *server, const EsimOptions *mapping, bool has_mapping,
			HttpAuthMethod *auth, char **reason)
{
	static const struct
	{
		const char *name;
		HttpAuthMethod method;
		EsimOptionId needs[2];
		const char *missing;
	}			methods[] = {
		{"bearer", HTTP_AUTH_BEARER, {ESIM_OPT_TOKEN, ESIM_OPT_TOKEN}, "\"token\""},
		{"basic", HTTP_AUTH_BASIC, {ESIM_OPT_USERNAME, ESIM_OPT_PASSWORD},
		"\"username\" and \"password\""},
		{"client_secret_basic", HTTP_AUTH_CLIENT_SECRET_BASIC,
		{ESIM_OPT_CLIENT_ID, ESIM_OPT_CLIENT_SECRET}, "\"client_id\" and \"client_secret\""},
		{"client_secret_post", HTTP_AUTH_CLIENT_SECRET_POST,
		{ESIM_OPT_CLIENT_ID, ESIM_OPT_CLIENT_SECRET}, "\"client_id\" and \"client_secret\""},
		{"private_key_jwt", HTTP_AUTH_PRIVATE_KEY_JWT,
		{ESIM_OPT_CLIENT_ID, ESIM_OPT_PRIVATE_KEY}, "\"client_id\" and \"private_key\""},
	};
	const EsimOptionValue *method = &server->value[ESIM_OPT_AUTH_METHOD];
	int			i;

	*auth = HTTP_AUTH_NONE;
	if (method->given && strcmp(method->text, "none") == 0)
		return true;
	for (i = 0; i < lengthof(methods); i++)
	{
		bool		complete = mapping->value[methods[i].needs[0]].given &&
		mapping->value[methods[i].needs[1]].given;

		if (method->given)
		{
			if (strcmp(method->text, methods[i].name) != 0)
				continue;
			if (complete)
			{
				*auth = methods[i].method;
				return true;
			}
			*reason = has_mapping
				? psprintf("auth_method \"%s\" needs %s in the user mapping", method->text,
						   methods[i].missing)
				: psprintf("auth_method \"%s\" needs a user mapping with %s", method->text,
						   methods[i].missing);
			return false;
		}
		if (complete)
		{
			*auth = methods[i].method;
			break;
		}
	}
	if (*auth == HTTP_AUTH_NONE && (mapping->value[ESIM_OPT_TOKEN].given ||
									mapping->value[ESIM_OPT_USERNAME].given ||
									mapping->value[ESIM_OPT_CLIENT_ID].given))
	{
		*reason = pstrdup("the user mapping has not all that one auth_method needs");
		return false;
	}
	if (*auth >= HTTP_AUTH_CLIENT_SECRET_BASIC && !server->value[ESIM_OPT_TOKEN_URL].given &&
		!server->value[ESIM_OPT_OPENID_CONFIG_URL].given)
	{
		*reason = pstrdup("the credentials of the user mapping need the server's option \"token_url\" or \"openid_config_url\"");
		return false;
	}
	return true;
}

/*
 * The scopes that the protocol's own functions need, NULL: none are known.
 * For a provider that grants fewer, the server's option "scope" names them.
 */
static const char *
default_scope(const RspServer *rsp)
{
#define CAMARA_SCOPE(object, action) "iot-device-management:" object ":" action
	if (rsp->protocol != RSP_PROTOCOL_CAMARA)
		return NULL;
	if (rsp->dialect == RSP_DIALECT_2026_02)
		return CAMARA_SCOPE("esims", "download") " "
			CAMARA_SCOPE("esims", "enable") " "	/* set-fallback needs it, too */
			CAMARA_SCOPE("esims", "disable") " "
			CAMARA_SCOPE("esims", "delete") " "
			CAMARA_SCOPE("esims", "read");
	return CAMARA_SCOPE("esim-profiles", "download") " "
		CAMARA_SCOPE("esim-profiles", "enable") " "
		CAMARA_SCOPE("esim-profiles", "disable") " "
		CAMARA_SCOPE("esim-profiles", "delete") " "
		CAMARA_SCOPE("esim-profiles", "set-fallback") " "
		CAMARA_SCOPE("esim-profiles", "retrieve-status") " "
		CAMARA_SCOPE("esim-profiles", "retrieve-operation");
#undef CAMARA_SCOPE
}

/* Make the entry's endpoint.  Returns false and sets reason. */
static bool
make_endpoint(ServerEntry *entry, const EsimOptions *server, char **reason)
{
	static const struct
	{
		EsimOptionId id;
		const char *name;
	}			pem[] = {
		{ESIM_OPT_CA_FILE, "ca_file"},
		{ESIM_OPT_CLIENT_CERT, "client_cert"},
		{ESIM_OPT_CLIENT_KEY, "client_key"},
		{ESIM_OPT_PRIVATE_KEY, "private_key"},
	};
	HttpEndpointOptions options;
	EsimOptions mapping;
	EsimOptionError error;
	bool		has_mapping;
	List	   *list;
	const char *pem_text[lengthof(pem)];
	char	   *file_text[lengthof(pem)] = {0};
	char		message[256] = "";
	int			i;

	list = mapping_options(entry->key.serverid, entry->key.owner, &has_mapping);
	if (!esim_options_parse(list, UserMappingRelationId, &mapping, &error))
	{
		*reason = psprintf("user mapping: %s", error.message);
		return false;
	}

	memset(&options, 0, sizeof(options));
	options.base_url = server->value[ESIM_OPT_URL].text;
	options.timeout_ms = (long) server->value[ESIM_OPT_TIMEOUT].integer;
	options.connect_timeout_ms = (long) server->value[ESIM_OPT_CONNECT_TIMEOUT].integer;
	options.max_answer = MAX_ANSWER;
	options.verify = server->value[ESIM_OPT_VERIFY].boolean;
	options.allow_http = server->value[ESIM_OPT_ALLOW_HTTP].boolean;
	options.token = mapping.value[ESIM_OPT_TOKEN].text;
	options.client_id = mapping.value[ESIM_OPT_CLIENT_ID].text;
	options.client_secret = mapping.value[ESIM_OPT_CLIENT_SECRET].text;
	options.key_id = mapping.value[ESIM_OPT_KEY_ID].text;
	options.token_url = server->value[ESIM_OPT_TOKEN_URL].text;
	options.openid_config_url = server->value[ESIM_OPT_OPENID_CONFIG_URL].text;
	options.scope = server->value[ESIM_OPT_SCOPE].given
		? server->value[ESIM_OPT_SCOPE].text : default_scope(&entry->server.rsp);
	options.audience = server->value[ESIM_OPT_AUDIENCE].text;
	if (!choose_auth(server, &mapping, has_mapping, &options.auth, reason))
		return false;
	if (options.auth == HTTP_AUTH_BASIC)
	{
		options.username = to_utf8(mapping.value[ESIM_OPT_USERNAME].text);
		options.password = to_utf8(mapping.value[ESIM_OPT_PASSWORD].text);
		if (options.username == NULL || options.password == NULL)
		{
			*reason = pstrdup("user name or password cannot be converted to UTF-8");
			return false;
		}
	}

	for (i = 0; i < lengthof(pem) && *reason == NULL; i++)
	{
		pem_text[i] = pem[i].id == ESIM_OPT_CA_FILE ? server->value[pem[i].id].text
			: mapping.value[pem[i].id].text;
		if (pem_text[i] != NULL && !esim_option_is_pem(pem_text[i]))
			pem_text[i] = file_text[i] = read_file(entry, pem[i].name, pem_text[i], reason);
	}
	if (*reason == NULL)
	{
		options.ca_file = pem_text[0];
		options.client_cert = pem_text[1];
		/* certificate and key may stand in one text */
		options.client_key = pem_text[2] != NULL ? pem_text[2] : pem_text[1];
		options.private_key = pem_text[3];
		if (options.client_key != NULL && strstr(options.client_key, "PRIVATE KEY-----") == NULL)
			*reason = pstrdup("there is no private key to the client's certificate");
		else if (options.private_key != NULL && strstr(options.private_key, "PRIVATE KEY-----") == NULL)
			*reason = pstrdup("the file of option \"private_key\" holds no private key");
	}
	if (*reason == NULL)
	{
		entry->server.rsp.endpoint = http_endpoint_create(&options, message, sizeof(message));
		if (entry->server.rsp.endpoint == NULL)
			*reason = pstrdup(message);
	}
	for (i = 0; i < lengthof(pem); i++)
	{
		if (file_text[i] != NULL)
		{
			explicit_bzero(file_text[i], strlen(file_text[i]));
			pfree(file_text[i]);
		}
	}
	return *reason == NULL;
}

static const char *
keep(ServerEntry *entry, const EsimOptions *options, EsimOptionId id)
{
	const char *text = options->value[id].text;

	return text ? MemoryContextStrdup(entry->server.context, text) : NULL;
}

/*
 * Read a server from the catalogs.  Returns NULL and sets reason, in the
 * current memory context.
 */
static ServerEntry *
load_entry(const ServerKey *key, char **reason)
{
	ForeignServer *foreign = GetForeignServer(key->serverid);
	EsimOptions options;
	EsimOptionError error;
	MemoryContext context;
	ServerEntry *entry;
	EsimServer *server;
	bool		ok;

	if (foreign->fdwid != find_wrapper())
	{
		*reason = psprintf("server \"%s\" is not one of the foreign-data wrapper \"%s\"",
						   foreign->servername, WRAPPER_NAME);
		return NULL;
	}
	if (!esim_options_parse(foreign->options, ForeignServerRelationId, &options, &error))
	{
		*reason = psprintf("server \"%s\": %s", foreign->servername, error.message);
		return NULL;
	}

	context = AllocSetContextCreate(CurrentMemoryContext, "esim server", ALLOCSET_SMALL_SIZES);
	entry = MemoryContextAllocZero(context, sizeof(ServerEntry));
	server = &entry->server;
	server->context = context;
	server->serverid = key->serverid;
	server->owner = key->owner;
	entry->key = *key;

	server->rsp.name = MemoryContextStrdup(context, foreign->servername);
	if (!rsp_protocol_from_name(options.value[ESIM_OPT_PROTOCOL].text, &server->rsp.protocol))
		elog(ERROR, "protocol \"%s\" has no number", options.value[ESIM_OPT_PROTOCOL].text);
	server->rsp.dialect = strcmp(options.value[ESIM_OPT_DIALECT].text, "2026-02") == 0
		? RSP_DIALECT_2026_02 : RSP_DIALECT_R1_2;
	server->rsp.url = keep(entry, &options, ESIM_OPT_URL);
	server->rsp.event_url = keep(entry, &options, ESIM_OPT_EVENT_URL);
	server->rsp.smdp_address = keep(entry, &options, ESIM_OPT_SMDP_ADDRESS);
	server->rsp.requester_id = keep(entry, &options, ESIM_OPT_REQUESTER_ID);
	server->rsp.matching_id_source = keep(entry, &options, ESIM_OPT_MATCHING_ID_SOURCE);
	server->rsp.timeout_ms = options.value[ESIM_OPT_TIMEOUT].integer;
	server->rsp.unknown_hold_ms = options.value[ESIM_OPT_UNKNOWN_HOLD].integer;
	server->max_in_flight = (int) options.value[ESIM_OPT_MAX_IN_FLIGHT].integer;
	server->rate_limit = options.value[ESIM_OPT_RATE_LIMIT].real;
	server->default_expiry_ms = options.value[ESIM_OPT_DEFAULT_EXPIRY].integer;
	server->default_network_expiry_ms = options.value[ESIM_OPT_DEFAULT_EXPIRY].given
		? server->default_expiry_ms : NETWORK_EXPIRY_MS;
	/* a Super SIM profile can be downloaded only once */
	server->redownload = server->rsp.protocol == RSP_PROTOCOL_TWILIO
		? "NEVER" : keep(entry, &options, ESIM_OPT_REDOWNLOAD);

	ok = true;
	if (key->with_endpoint)
	{
		char	   *why = NULL;

		ok = make_endpoint(entry, &options, &why);
		if (!ok)
			*reason = psprintf("server \"%s\": %s", foreign->servername, why);
	}
	if (!ok)
	{
		MemoryContextDelete(context);
		return NULL;
	}

	entry->server_hash = GetSysCacheHashValue1(FOREIGNSERVEROID, ObjectIdGetDatum(key->serverid));
	entry->owner_hash = GetSysCacheHashValue2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(key->owner),
											  ObjectIdGetDatum(key->serverid));
	entry->public_hash = GetSysCacheHashValue2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid),
											   ObjectIdGetDatum(key->serverid));
	return entry;
}

/*
 * See server.h.  Checks no rights: whoever lets a caller name a server looks
 * for USAGE on it.  Without endpoint the entry is the same for all owners
 * (owner is InvalidOid in it), no user mapping is read, and the server is
 * locked against DROP and RENAME to the end of the transaction, but not by a
 * worker.
 */
EsimServer *
esim_server_get(const char *name, Oid owner, bool with_endpoint, char **reason)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext work;
	ServerKey	key;
	ServerSlot *slot;
	ServerEntry *entry;
	uint64		before;
	char	   *why = NULL;
	bool		found;

	*reason = NULL;
	initialize();

	memset(&key, 0, sizeof(key));
	key.serverid = with_endpoint ? get_foreign_server_oid(name, true) : find_and_lock(name);
	key.owner = with_endpoint ? owner : InvalidOid;
	key.with_endpoint = with_endpoint;
	if (!OidIsValid(key.serverid))
	{
		*reason = psprintf("server \"%s\" does not exist", name);
		return NULL;
	}

	slot = hash_search(server_cache, &key, HASH_FIND, NULL);
	if (slot != NULL)
	{
		entry = slot->entry;
		if (!entry->server.stale && !files_changed(entry))
		{
			entry->server.refcount++;
			entry->last_used = ++use_counter;
			return &entry->server;
		}
		unlink_entry(entry);
	}

	/* copies of options and their lists go with this context */
	before = generation;
	work = AllocSetContextCreate(caller, "esim server options", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(work);
	entry = load_entry(&key, &why);
	MemoryContextSwitchTo(caller);
	if (entry == NULL)
	{
		*reason = pstrdup(why);
		MemoryContextDelete(work);
		return NULL;
	}
	MemoryContextSetParent(entry->server.context, TopMemoryContext);
	MemoryContextDelete(work);

	make_room();
	slot = hash_search(server_cache, &key, HASH_ENTER, &found);
	Assert(!found);
	slot->entry = entry;
	entry->server.refcount = 1;
	entry->last_used = ++use_counter;
	/* something changed while it was read: good for this once */
	entry->server.stale = generation != before;
	return &entry->server;
}

/*
 * esim_server_lock(server oid)
 *
 * Waits for open transactions that queue operations for the server, and keeps
 * new ones out to the end of the transaction; for the event trigger that
 * follows a RENAME.  DROP takes this lock by itself.
 */
Datum
esim_server_lock(PG_FUNCTION_ARGS)
{
	LockDatabaseObject(ForeignServerRelationId, PG_GETARG_OID(0), 0, AccessExclusiveLock);
	PG_RETURN_VOID();
}
