/*
 * rspsim.h
 *		Types and functions shared by the parts of the RSP simulator.
 *
 * The simulator is one thread: the HTTP library is driven from our own event
 * loop, so nothing here needs a lock.
 */
#ifndef RSPSIM_H
#define RSPSIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>
#include <microhttpd.h>

#include "util.h"

/* ---- named servers (server.c) ---- */

#define MAX_SERVERS		1024
#define RATE_BUCKETS	10		/* of 100 ms each: a sliding second */
#define STATS_SLOTS		512

typedef enum Redownload
{
	REDOWNLOAD_NEVER,
	REDOWNLOAD_SAME_EID,
	REDOWNLOAD_ANY
} Redownload;

typedef struct Stat
{
	const char *label;			/* static string: "POST enable" */
	int			status;			/* 0: the connection was cut or left hanging */
	uint64_t	count;
} Stat;

typedef struct Token
{
	uint64_t	expires_ms;
	uint32_t	scopes;
} Token;

/* How a named server checks its callers. */
typedef struct Auth
{
	bool		required;
	bool		check_scopes;
	char	   *bearer;
	uint32_t	bearer_scopes;
	char	   *client_id;
	char	   *client_secret;
	char	   *public_key;		/* PEM, for private_key_jwt */
	char	   *username;		/* HTTP Basic */
	char	   *password;
	bool		allow_basic;
	bool		allow_post;
	uint32_t	scopes;			/* what a client may ask for */
	uint32_t	expires_in;		/* seconds */
	Token	   *tokens;
	uint32_t	ntokens;
	uint32_t	tokens_size;
	uint64_t	token_requests;
	uint64_t	tokens_issued;
} Auth;

typedef struct Server
{
	char		name[64];
	uint16_t	index;
	Auth		auth;
	uint32_t	latency_ms;
	uint32_t	device_delay_ms;
	uint32_t	ota_timeout_ms; /* 0: waits for ever */
	uint32_t	max_in_flight;	/* 0: no limit; above it 429 */
	uint32_t	rate_limit;		/* per second, 0: none; above it 429 */
	Redownload	redownload;
	bool		idempotent;		/* the device repeats an effect gladly */
	bool		conflict_when_busy; /* 409 ABORTED while an operation is pending */
	bool		opaque_ids;		/* operation ids that are no UUIDs (r1.2) */
	bool		client_cert;	/* a verified client certificate is needed */

	uint64_t	requests;
	uint32_t	in_flight;
	uint32_t	in_flight_seen;
	uint64_t	bucket_time;
	uint32_t	buckets[RATE_BUCKETS];
	uint32_t	window;			/* sum of the buckets */
	uint32_t	window_seen;
	Stat		stats[STATS_SLOTS];
} Server;

extern Server *server_get(const char *name, size_t length);
extern Server *server_by_index(uint16_t index);
extern bool server_configure(Server *server, json_t *config, char *error, size_t size);
extern void server_request_begins(Server *server);
extern void server_request_ends(Server *server);
extern void server_count_answer(Server *server, const char *label, int status);
extern void server_stats_json(Buf *out);
extern void server_reset_stats(void);
extern void server_reset_all(void);

/* ---- requests (http.c) ---- */

struct Request;

/*
 * A protocol: what stands behind "/<server><prefix>".  identify() names the
 * endpoint and finds the identifiers, as far as it can, so that faults can be
 * aimed; handle() does the work and fills in the answer; error() writes an
 * error in the protocol's own shape.
 */
typedef struct Protocol
{
	const char *name;
	const char *prefix;
	bool		authorized;		/* callers are checked by token_check() */
	void		(*identify) (struct Request *request);
	void		(*handle) (struct Request *request);
	void		(*error) (struct Request *request, int status, const char *code,
						  const char *message);
} Protocol;

/* faults that the model itself carries out, not the HTTP front */
typedef enum DeviceFault
{
	DEVICE_FAULT_NONE,
	DEVICE_FAULT_FAIL,			/* COMPLETED, FAILED, without an effect */
	DEVICE_FAULT_LOST,			/* stays ACCEPTED, without an effect */
	DEVICE_FAULT_UNREPORTED		/* stays ACCEPTED, with the effect */
} DeviceFault;

typedef enum Stage
{
	STAGE_BODY,
	STAGE_DELAYED,				/* waits before the effect */
	STAGE_ANSWER,				/* the answer is made, may wait for its latency */
	STAGE_HANGING,				/* will never be answered */
	STAGE_SENT
} Stage;

struct Fault;

typedef struct Request
{
	struct MHD_Connection *connection;
	int			socket;
	const char *method;
	const char *url;
	const char *base;			/* "http" or "https" */
	Server	   *server;			/* NULL for the control API */
	const Protocol *protocol;
	const char *path;			/* behind the protocol's prefix */
	const char *label;			/* static, for the statistics */
	const char *correlator;		/* echoed if it is set */
	uint64_t	number;
	Buf			body;
	size_t		body_limit;
	bool		too_large;
	json_t	   *json;			/* the body, NULL if it is no JSON object */
	bool		has_eid;
	bool		has_iccid;
	Id			eid;
	Id			iccid;
	int			endpoint;		/* the protocol's own */

	Stage		stage;
	bool		suspended;
	bool		watched;		/* its socket is watched for the client's leaving */
	uint32_t	timer;			/* generation: timers of an older one are void */
	uint32_t	latency_ms;
	uint32_t	delay_ms;		/* before the effect */
	struct Fault *fault;		/* the one main fault, if any */
	bool		answered_plainly;	/* no fault stands between answer and client */
	DeviceFault device_fault;
	const char *device_reason;
	uint32_t	device_delay_ms;
	uint64_t	record;			/* number of its record, 0: none */

	/* the answer */
	int			status;
	Buf			out;
	const char *content_type;
	char		location[320];
	char		retry_after[64];
	const char *challenge;		/* WWW-Authenticate */
	const char *admin_protocol; /* X-Admin-Protocol */

	uint64_t	sent_at;		/* when a drip began */
	bool		active;
	struct Request *next;		/* of all that were ever made */
	struct Request *next_free;
} Request;

typedef struct Listen
{
	const char *host;
	int			port;
	int			tls_port;		/* -1: none */
	bool		plain;
	char	   *cert;			/* PEM */
	char	   *key;
	char	   *client_ca;
} Listen;

extern bool http_start(const Listen *listen, int epoll_fd);
extern int	http_port(bool tls);
extern int	http_wait_ms(void);
extern void http_run(void);
extern void http_socket_event(Request *request);
extern void http_stop(void);
extern void http_stats_json(Buf *out);
extern void http_reset_stats(void);
extern const char *http_header(Request *request, const char *name);
extern const char *http_query(Request *request, const char *name);
extern bool http_client_verified(Request *request);
extern void request_suspend(Request *request, uint32_t ms);

/* queues the answer, shaped by the request's fault (respond.c) */
extern enum MHD_Result respond(Request *request);

/* ---- last requests (record.c) ---- */

extern void record_enable(bool on);
extern void record_request(Request *request);
extern void record_answer(Request *request, int status);
extern void record_json(Buf *out, uint32_t count);
extern void record_reset(void);

/* ---- virtual eUICCs (euicc.c, operation.c) ---- */

#define DEFAULT_MEMORY	8
#define MAX_MEMORY		256

typedef enum Kind
{
	KIND_DOWNLOAD,
	KIND_ENABLE,
	KIND_DISABLE,
	KIND_DELETE,
	KIND_SET_FALLBACK,
	KINDS
} Kind;

typedef enum ProfileState
{
	PROFILE_ABSENT,
	PROFILE_DISABLED,
	PROFILE_ENABLED
} ProfileState;

/* The last request of one kind, to recognize its repeats. */
typedef struct Track
{
	uint32_t	operation;		/* index + 1 */
	uint32_t	tick;			/* when it was last accepted or repeated */
	bool		reversed;		/* since then something asked for the opposite */
} Track;

typedef struct Profile
{
	Id			iccid;
	uint32_t	euicc;			/* index + 1 of the last one, 0: none yet */
	uint32_t	next;			/* index + 1, on the same eUICC */
	uint32_t	code;			/* index + 1 of the code it came by */
	uint32_t	last_entry;		/* ledger, index + 1 */
	uint32_t	last_ask;		/* tick */
	uint8_t		state;
	uint8_t		fallback;
	uint8_t		port;
	uint8_t		spent;			/* was installed once */
	Track		track[KINDS];	/* all but KIND_DOWNLOAD */
} Profile;

typedef struct Euicc
{
	Id			eid;
	uint32_t	first_profile;	/* index + 1 */
	uint32_t	queue_head;		/* operations, index + 1 */
	uint32_t	queue_tail;
	uint32_t	pending;
	uint32_t	last_entry;
	uint32_t	last_ask;
	uint32_t	downloads;
	int32_t		delay_ms;		/* -1: the server's */
	uint32_t	online_generation;
	uint16_t	profiles;
	uint16_t	memory;
	bool		online;
} Euicc;

/* What an activation code stands for; the key is a hash of the code. */
typedef struct Code
{
	Id			iccid;
	uint32_t	euicc;			/* index + 1 of the one that used it */
	bool		known_iccid;	/* from the stock, or by its use */
	bool		generic;		/* of an empty matching ID */
	Track		track;
} Code;

typedef enum Outcome
{
	OUTCOME_NONE,
	OUTCOME_SUCCESS,
	OUTCOME_FAILED
} Outcome;

#define OPERATION_ACTIVATE		0x01	/* enable after the download */
#define OPERATION_REPEAT		0x02
#define OPERATION_TOLD			0x04	/* a caller has read the final outcome */
#define OPERATION_OPAQUE		0x08	/* its id is no UUID */
#define OPERATION_UNREPORTED	0x10
#define OPERATION_FAILING		0x20
#define OPERATION_QUEUED		0x40

typedef struct Operation
{
	uint64_t	accepted_ms;
	uint64_t	completed_ms;
	uint64_t	due_ms;			/* monotonic */
	const char *reason;			/* interned */
	const char *reason_code;	/* static */
	uint32_t	euicc;			/* index */
	uint32_t	profile;		/* index + 1, 0: not known yet */
	uint32_t	code;			/* index + 1 */
	uint32_t	request;
	uint32_t	next;			/* in the eUICC's queue, index + 1 */
	uint32_t	correlator;		/* offset + 1 in the text store */
	uint32_t	delay_ms;
	uint16_t	server;
	uint16_t	reason_status;
	uint8_t		kind;
	uint8_t		dialect;
	uint8_t		outcome;		/* OUTCOME_NONE: not completed */
	uint8_t		flags;
} Operation;

extern const char *const kind_names[KINDS];
extern const char *const profile_state_names[];

extern bool accept_unknown_eid;
extern bool accept_unknown_iccid;

extern Euicc *euicc_get(uint32_t index);
extern Euicc *euicc_find(Id eid, uint32_t *index);
extern Euicc *euicc_make(Id eid, uint32_t *index);
extern Euicc *euicc_seen(Id eid, uint32_t *index);
extern uint32_t euicc_total(void);
extern Profile *profile_get(uint32_t index);
extern Profile *profile_find(Id iccid, uint32_t *index);
extern Profile *profile_make(Id iccid, uint32_t *index);
extern Profile *profile_seen(Id iccid, uint32_t *index);
extern uint32_t profile_total(void);
extern void profile_attach(uint32_t index, uint32_t euicc);
extern void profile_detach(uint32_t index);
extern Profile *euicc_enabled(Euicc *euicc, uint32_t *index);
extern Profile *euicc_fallback(Euicc *euicc, uint32_t *index);
extern void euicc_set_online(uint32_t index, bool online, uint32_t offline_ms);
extern void euicc_json(Buf *out, Euicc *euicc);
extern void euicc_reset(void);

extern Code *code_get(uint32_t index);
extern Code *code_lookup(const char *code, Id eid, Id iccid, uint32_t *index);
extern void code_stock(const char *code, bool has_eid, Id eid, Id iccid);
extern bool code_well_formed(const char *code);

extern Operation *operation_get(uint32_t index);
extern uint32_t operation_accept(Request *request, Kind kind, int dialect, uint32_t euicc,
								 uint32_t profile, uint32_t code, bool activate, bool repeat);
extern uint32_t operation_record(Request *request, Kind kind, uint32_t euicc, uint32_t profile,
								 uint32_t code, bool repeat);
extern void operation_perform(uint32_t index);
extern void operation_close(uint32_t index, bool good, const char *reason);
extern void operation_give_up(uint32_t index, const char *reason);
extern void operation_id(uint32_t index, char out[48]);
extern Operation *operation_find(const char *id, uint32_t *index);
extern void operation_counts_json(Buf *out);
extern void operation_reset(void);
extern void euicc_drain(uint32_t index);

/* called when an operation has completed; NULL: nobody wants to know */
extern void (*operation_completed_hook) (uint32_t index);

/* ---- device events ---- */

extern const char *device_event(uint32_t euicc, const char *what, bool has_iccid, Id iccid);

/* ---- ledger (ledger.c) ---- */

typedef enum Effect
{
	EFFECT_DOWNLOADED,
	EFFECT_ENABLED,
	EFFECT_DISABLED,
	EFFECT_DELETED,
	EFFECT_FALLBACK_SET,
	EFFECT_FALLBACK_UNSET,
	EFFECTS
} Effect;

typedef enum Cause
{
	CAUSE_OPERATION,
	CAUSE_IMPLICIT,				/* the consequence of an operation on another profile */
	CAUSE_DEVICE				/* the device by itself */
} Cause;

extern uint32_t ledger_tick(void);
extern uint32_t ledger_correlator(const char *text);
extern void ledger_effect(Effect what, Cause cause, uint32_t operation, uint32_t euicc,
						  uint32_t profile, int from, int to);
extern void ledger_already_so(void);
extern bool ledger_request(Kind kind, Track *track, Operation *first, uint32_t last_ask,
						   Request *request, Id id);
extern void ledger_accepted(Kind kind, Track *track, uint32_t operation, uint32_t profile);
extern void ledger_reversed(uint32_t profile, unsigned kinds);
extern void ledger_summary_json(Buf *out);
extern bool ledger_entries_json(Buf *out, Request *request, char *error, size_t size);
extern bool ledger_write(const char *path, uint32_t limit);
extern void ledger_reset(void);

/* ---- effects that are not on an eUICC (deed.c) ---- */

extern void deed_effect(const char *what, const Request *request, const Server *server,
						const char *subject, const char *from, const char *to, bool twice);
extern void deed_repeat(const char *what, const Request *request, const char *subject,
						bool asked);
extern uint64_t deed_total(void);
extern uint64_t deed_doubles(void);
extern uint64_t deed_repeats(void);
extern uint64_t deed_unasked(void);
extern void deed_kinds_json(Buf *out, bool repeated);
extern void deed_unasked_json(Buf *out, bool first);
extern void deed_list_json(Buf *out, uint32_t from, uint32_t limit);
extern void deed_reset(void);

/* ---- requests to other people's URLs (outbound.c) ---- */

extern void outbound_send(const char *method, const char *url, const char *content_type,
						  const char *header, const char *body);
extern void outbound_json(Buf *out);
extern void outbound_reset(void);
extern void outbound_stop(void);

/* ---- faults (fault.c, mangle.c) ---- */

typedef enum FaultKind
{
	FAULT_LATENCY,
	FAULT_STATUS,
	FAULT_TIMEOUT_BEFORE,
	FAULT_TIMEOUT_AFTER,
	FAULT_RESET_BEFORE,
	FAULT_RESET_AFTER,
	FAULT_REDIRECT,
	FAULT_TOKEN_EXPIRED,
	FAULT_FORGET,
	FAULT_MALFORMED_JSON,
	FAULT_TRUNCATED_JSON,
	FAULT_TRUNCATED_BODY,
	FAULT_OVERSIZED_JSON,
	FAULT_DEEP_JSON,
	FAULT_CONTENT_TYPE,
	FAULT_INVALID_UTF8,
	FAULT_NUL_BYTES,
	FAULT_SLOW_DRIP,
	FAULT_ENDLESS_BODY,
	FAULT_WRONG_ICCID,
	FAULT_WRONG_TYPES,
	FAULT_EMPTY_BODY,
	FAULT_DUPLICATE_KEYS,
	FAULT_MERGE_JSON,
	FAULT_BODY,
	FAULT_INFORMATIONAL,
	FAULT_EDIT,
	FAULT_DEVICE_FAIL,
	FAULT_DEVICE_LOST,
	FAULT_DEVICE_UNREPORTED,
	FAULT_DEVICE_DELAY,
	FAULT_KINDS
} FaultKind;

typedef struct Fault
{
	FaultKind	kind;
	uint32_t	number;
	uint32_t	references;		/* the list, and the requests that carry it */
	/* which requests */
	char	   *server;
	char	   *method;
	char	   *path;
	bool		has_eid;
	bool		has_iccid;
	Id			eid;
	Id			iccid;
	uint64_t	after;
	uint64_t	count;			/* 0: no end */
	uint64_t	every;			/* 0 and 1: each */
	double		probability;
	uint64_t	random;
	uint64_t	seen;
	uint64_t	hits;
	/* what happens */
	uint32_t	ms;
	bool		before;			/* latency: wait before the effect; body: without it */
	bool		effect;			/* status, redirect: after the effect */
	int			status;
	char	   *code;
	char	   *message;
	char	   *retry_after;
	char	   *location;
	char	   *content_type;
	char	   *from;			/* edit: what is replaced, NULL: all */
	char	   *to;
	json_t	   *headers;
	json_t	   *merge;
	char	   *body;
	uint64_t	bytes;
	uint64_t	rate;
	struct Fault *next;
} Fault;

extern bool fault_add(json_t *rule, char *error, size_t size);
extern void fault_clear(const char *server);
extern void fault_json(Buf *out);
extern void fault_choose(Request *request);
extern void fault_release(Fault *fault);
extern bool fault_before_effect(const Fault *fault);
extern const char *fault_name(FaultKind kind);
extern void mangle(Request *request);

/* ---- protocols (protocol.c and one file each) ---- */

extern const Protocol *protocol_find(const char *path, size_t *prefix_length);
extern void error_info(Request *request, int status, const char *code, const char *message);
extern void oauth_error(Request *request, int status, const char *code, const char *message);

extern void camara_2026_identify(Request *request);
extern void camara_2026_handle(Request *request);
extern void camara_r12_identify(Request *request);
extern void camara_r12_handle(Request *request);
extern bool camara_configure(Server *server, json_t *config, char *error, size_t size);
extern void camara_event_expect(uint32_t operation, const Request *request, json_t *body);
extern void camara_event_reset(void);

extern void es2plus_identify(Request *request);
extern void es2plus_handle(Request *request);
extern void es2plus_error(Request *request, int status, const char *code, const char *message);
extern bool es2plus_configure(Server *server, json_t *config, char *error, size_t size);
extern void es2plus_control(Request *request, const char *path);
extern void es2plus_reset(void);

extern void eim_identify(Request *request);
extern void eim_handle(Request *request);
extern void eim_error(Request *request, int status, const char *code, const char *message);
extern bool eim_configure(Server *server, json_t *config, char *error, size_t size);
extern bool eim_control(Request *request, const char *path);
extern void eim_device_online(uint32_t euicc);
extern void eim_reset(void);

extern void twilio_identify(Request *request);
extern void twilio_handle(Request *request);
extern void twilio_error(Request *request, int status, const char *code, const char *message);
extern bool twilio_configure(Server *server, json_t *config, char *error, size_t size);
extern void twilio_control(Request *request, const char *path);
extern void twilio_installed(Id eid, Id iccid);
extern void twilio_reset(void);

extern void token_identify(Request *request);
extern void token_handle(Request *request);
extern void discovery_identify(Request *request);
extern void discovery_handle(Request *request);
extern bool token_check(Request *request, uint32_t scope);
extern void token_expire_all(Server *server);
extern void token_free(Auth *auth);

/* scopes as bits; token.c has their names */
#define SCOPE_DOWNLOAD			0x01
#define SCOPE_ENABLE			0x02
#define SCOPE_DISABLE			0x04
#define SCOPE_DELETE			0x08
#define SCOPE_SET_FALLBACK		0x10
#define SCOPE_RETRIEVE_STATUS	0x20
#define SCOPE_RETRIEVE_OPERATION 0x40
#define SCOPE_READ_2026			0x80
#define SCOPE_DOWNLOAD_2026		0x100
#define SCOPE_ENABLE_2026		0x200
#define SCOPE_DISABLE_2026		0x400
#define SCOPE_DELETE_2026		0x800
#define SCOPE_ANY				0xffffffffu

extern bool scopes_parse(const char *text, size_t length, uint32_t *scopes);
extern void scopes_text(uint32_t scopes, Buf *out);

/* ---- control API (control.c, config.c) ---- */

extern void control_handle(Request *request);
extern bool config_apply(json_t *config, char *error, size_t size);
extern bool config_euicc(json_t *item, char *error, size_t size);
extern bool config_stock(json_t *item, char *error, size_t size);
extern bool config_populate(json_t *item, char *error, size_t size);
extern bool config_each(json_t *value, bool (*apply) (json_t *, char *, size_t), char *error,
						size_t size);
extern void reset_everything(void);

extern uint64_t simulator_seed;
extern uint64_t requests_total;

#endif							/* RSPSIM_H */
