/*-------------------------------------------------------------------------
 *
 * rsp.h
 *	  The face between the worker and the drivers of the Remote SIM
 *	  Provisioning protocols.
 *
 * A driver knows HTTP and JSON of its protocol, no SQL and nothing of
 * PostgreSQL: plain C, malloc and jansson, so that it can be tested and fuzzed
 * alone.  It is a state machine over one operation: the worker calls begin()
 * when it has claimed the operation, carries out the action that the driver
 * has set, and calls answer() with what came back, until the action is one
 * that ends the turn.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_RSP_H
#define ESIM_RSP_H

#include <stdbool.h>
#include <stdint.h>
#include "../http/http.h"

struct json_t;					/* jansson's; see json.h */

typedef enum RspProtocol
{
	RSP_PROTOCOL_CAMARA,
	RSP_PROTOCOL_ES2PLUS,
	RSP_PROTOCOL_EIM,
	RSP_PROTOCOL_TWILIO
} RspProtocol;

typedef enum RspDialect
{
	RSP_DIALECT_2026_02,
	RSP_DIALECT_R1_2
} RspDialect;

/* in the order of the table rsp_kinds[] */
typedef enum RspKind
{
	RSP_DOWNLOAD,
	RSP_ENABLE,
	RSP_DISABLE,
	RSP_DELETE,
	RSP_SET_FALLBACK,
	RSP_UNSET_FALLBACK,
	RSP_REFRESH,
	RSP_RESERVE,
	RSP_RELEASE,
	RSP_CANCEL_ORDER,
	RSP_SET_SUBSCRIPTION,
	RSP_ASSIGN_FLEET,
	RSP_FLEET_CREATE,
	RSP_SYNC,
	RSP_KIND_COUNT
} RspKind;

/* as the enum esim_profile_state; RSP_STATE_NONE: not known, no row */
typedef enum RspState
{
	RSP_STATE_NONE,
	RSP_STATE_RESERVING,
	RSP_STATE_RESERVED,
	RSP_STATE_RELEASED,
	RSP_STATE_DOWNLOADED,
	RSP_STATE_INSTALLED,
	RSP_STATE_DISABLED,
	RSP_STATE_ENABLED,
	RSP_STATE_DELETED,
	RSP_STATE_CANCELLED,
	RSP_STATE_FAILED,
	RSP_STATE_COUNT
} RspState;

/* as the enum esim_operation_phase */
typedef enum RspPhase
{
	RSP_PHASE_QUEUED,
	RSP_PHASE_BLOCKED,
	RSP_PHASE_SENT,
	RSP_PHASE_WAITING_DEVICE,
	RSP_PHASE_RETRYING,
	RSP_PHASE_UNKNOWN,
	RSP_PHASE_PARKED,
	RSP_PHASE_DONE,
	RSP_PHASE_COUNT
} RspPhase;

typedef struct RspServer
{
	const char *name;
	RspProtocol protocol;
	RspDialect	dialect;
	const char *url;
	const char *event_url;		/* NULL: none */
	const char *smdp_address;
	const char *requester_id;
	const char *matching_id_source;
	int64_t		timeout_ms;
	int64_t		unknown_hold_ms;	/* how long a request of unknown outcome
									 * is asked about before it is repeated */
	HttpEndpoint *endpoint;		/* NULL where no request is made (enqueue) */
} RspServer;

/*
 * One operation as the driver sees it.  Strings are NULL where there is no
 * value.  Owned by the worker, constant to the driver but for the part marked
 * so.
 */
typedef struct RspOperation
{
	char		id[37];			/* uuid, our operation id */
	RspKind		kind;
	const char *correlator;		/* the user's, NULL: none */
	const char *eid;
	const char *iccid;
	const char *activation_code;	/* without LPA: */
	const char *confirmation_code;
	bool		activate_on_download;
	bool		rollback;
	const char *matching_id;
	const char *profile_type;
	const char *smds_address;
	const char *final_status;
	const char *subscription;	/* wanted: READY, ACTIVE, INACTIVE */
	const char *fleet;			/* its name; fleet-create: the new one's */
	const char *fleet_rsp_id;	/* the fleet's identifier at this server */
	bool		generate_matching_id;
	bool		release;		/* reserve: release at once */
	struct json_t *settings;	/* fleet-create: object, never NULL */
	struct json_t *options;		/* object, never NULL */

	/* the profile as esim knows it */
	RspState	state;
	bool		is_fallback;
	const char *rsp_id;			/* at the server that prepared it */
	const char *reserved_eid;
	const char *profile_matching_id;
	const char *profile_smdp_address;
	const char *sim_id;			/* of its subscription */
	const char *subscription_now;	/* NEW ... SCHEDULED */

	int64_t		now_ms;			/* wall clock, since 1970; set before every
								 * call */
	int64_t		first_sent_ms;	/* 0: nothing that acts was sent yet */
	int64_t		last_sent_ms;
	int			attempts;		/* requests that act, sent so far */

	/*
	 * true: the last request that acts may have been carried out, nobody
	 * knows.  Set by the worker from the committed intent; also after a crash
	 * or a promotion.  The driver clears it when it knows.
	 */
	bool		unresolved;

	/*
	 * true: ask before sending even if nothing is known to have been sent
	 * (rows of an earlier timeline).  Cleared by the driver.
	 */
	bool		ask_first;
	bool		cancel_asked;	/* it is to end CANCELLED where nothing of it
								 * was carried out */

	/* the driver's own, kept in the operation's queue row between turns */
	int			step;			/* 0 at first.  Other than 0 in a wait where
								 * something has come, or may have come, of
								 * what was sent: that is not cancelled */
	struct json_t *memo;			/* object, never NULL */
	int			polls;			/* answers "not yet" in a row, for the
								 * growing poll interval */
	int			failures;		/* answers "try again" in a row */
	char		rsp_operation_id[128];	/* "": none yet */
} RspOperation;

typedef enum RspReportWhat
{
	RSP_REPORT_PROFILE,			/* a profile on an eUICC, or in stock */
	RSP_REPORT_SUBSCRIPTION,	/* a subscription: rsp_id is its own */
	RSP_REPORT_FLEET			/* a fleet: rsp_id and name */
} RspReportWhat;

/* What the RSP says about one profile; recorded even where it contradicts us. */
typedef struct RspReport
{
	RspReportWhat what;
	char		eid[33];		/* "" if not said */
	char		iccid[21];		/* 18 to 20 digits, check digit unchecked */
	RspState	state;			/* RSP_STATE_NONE: not said */
	int			is_fallback;	/* -1: not said */
	char		msisdn[24];		/* "" if not said */
	char		rsp_id[64];		/* "" if not said, as all that follow */
	char		rsp_state[32];	/* the server's own word */
	char		sim_id[64];
	char		subscription[12];
	char		fleet_id[64];
	char		name[204];
	char		smdp_address[256];
	char		matching_id[256];
	int64_t		created_ms;		/* when the server made it, by our clock; 0 if
								 * not said */
} RspReport;

/*
 * What was learned of the operation's own profile (or fleet), at whatever end
 * of a turn: written to its row, "" where nothing was said.
 */
typedef struct RspFacts
{
	char		rsp_id[64];
	char		rsp_state[64];
	char		smdp_address[256];
	char		matching_id[256];
	char		activation_code[260];
	char		sim_id[64];
	char		subscription[12];
	char		fleet[204];
	char		imsi[20];
	char		msisdn[24];
	char		reserved_eid[33];
} RspFacts;

typedef enum RspActionType
{
	RSP_ACT_NONE,				/* not set: a driver's fault, ends
								 * OUTCOME_UNKNOWN or FAILED */
	RSP_ACT_ASK,				/* send a request that changes nothing, at
								 * once */
	RSP_ACT_SEND,				/* send a request that acts: the intent is
								 * committed first */
	RSP_ACT_WAIT,				/* come back (begin) after delay_ms, phase and
								 * reason are shown */
	RSP_ACT_PARK,				/* wait for an administrator */
	RSP_ACT_DONE,				/* SUCCESS */
	RSP_ACT_FAIL				/* FAILED */
} RspActionType;

typedef struct RspAction
{
	RspActionType type;

	/* ASK, SEND: the request; freed by rsp_conversation_reset() */
	const char *method;
	char	   *path;
	const char *content_type;
	char	   *body;
	bool		no_correlator;
	struct
	{
		char		name[40];
		char		value[300];
	}			headers[4];
	int			nheaders;
	char		call_id[64];	/* of this HTTP try, for esim_attempt */

	/* WAIT, PARK */
	RspPhase	phase;
	int64_t		delay_ms;
	bool		server_trouble; /* counts for the breaker: the server as a
								 * whole does not answer */

	/* WAIT, PARK, FAIL */
	char		code[40];		/* CAMARA's code or one of esim's */
	char		message[512];	/* why, in words; no identifiers */
	char		rsp_code[128];	/* the RSP's own, verbatim */
	char		rsp_message[512];

	/* DONE, FAIL */
	char		iccid[21];		/* the ICCID that was assigned, "" if as known */
	bool		profile_state_set;	/* state holds what the profile is now */
	RspState	state;			/* DONE: else derived from the kind */
	bool		cancelled;		/* FAIL: CANCELLED rather than FAILED */
} RspAction;

typedef struct RspConversation
{
	const RspServer *server;
	RspOperation *op;
	RspAction	action;

	/* reports gathered in this turn, applied with its end */
	RspReport  *reports;
	int			nreports;
	int			reports_size;
	bool		reports_whole;	/* they are all profiles of the eUICC op->eid */
	RspFacts	facts;			/* learned in this turn */

	/*
	 * Sent when the end of the operation is committed, its answer is not
	 * looked at: for servers that keep finished orders until they are told.
	 */
	char	   *cleanup_method;
	char	   *cleanup_path;

	/*
	 * Identifiers at the server that might be the operation's own.  With WAIT:
	 * those that no row of esim knows, and that no other unfinished operation
	 * of the server has, come back in memo as the array "unknown", in the
	 * order of their bytes, RSP_MAX_CANDIDATES of them at the most.
	 */
	struct json_t *candidates;
	char		outcome[40];	/* of the last request, for esim_attempt: what
								 * the driver made of it */
	char		detail[512];
} RspConversation;

#define RSP_MAX_CANDIDATES 1000

/* At most this many reports are taken from one turn (r1.2: maxItems 256). */
#define RSP_MAX_REPORTS 1024

typedef struct RspError
{
	const char *code;			/* CAMARA's code */
	char		message[256];	/* for errmsg: lower case, no full stop */
	char		detail[256];	/* a sentence, or "" */
	char		hint[256];		/* a sentence, or "" */
} RspError;

typedef struct RspDriver
{
	RspProtocol protocol;
	const char *name;

	/* false: this protocol cannot do it; note says why or under which
	 * condition (static text, may be "") */
	bool		(*supports) (RspDialect dialect, RspKind kind, const char **note);

	/* What can be known without the device, at enqueue.  op has no run-time
	 * part then.  false: error is filled. */
	bool		(*check) (const RspServer *server, const RspOperation *op,
						  RspError *error);

	/* true: set-fallback and delete are allowed in this state; the table of
	 * preconditions differs by protocol only there */
	bool		(*state_allowed) (RspKind kind, RspState state);

	/* true: an RSP of this protocol can be asked what became of a request */
	bool		can_ask;

	/*
	 * true: op->cancel_asked is heeded also when a request was sent.  All that
	 * can ask heed it when it turns out that no earlier timeline sent one.
	 */
	bool		can_withdraw;

	void		(*begin) (RspConversation *c);
	void		(*answer) (RspConversation *c, const HttpAnswer *answer);
} RspDriver;

extern const RspDriver rsp_camara;
extern const RspDriver rsp_es2plus;
extern const RspDriver rsp_eim;
extern const RspDriver rsp_twilio;

/* rsp.c */
extern const RspDriver *rsp_driver(RspProtocol protocol);	/* NULL: this
															 * release has none */
extern const char *rsp_protocol_name(RspProtocol protocol);
extern bool rsp_protocol_from_name(const char *name, RspProtocol *protocol);
extern const char *rsp_kind_name(RspKind kind);
extern bool rsp_kind_from_name(const char *name, RspKind *kind);
extern const char *rsp_state_name(RspState state);	/* "" for NONE */
extern bool rsp_state_from_name(const char *name, RspState *state);
extern const char *rsp_phase_name(RspPhase phase);

/* how far a profile has come on its way onto an eUICC, from RESERVING (1) to
 * DISABLED and ENABLED (RSP_PROGRESS_MAX); 0: it is gone, or failed */
#define RSP_PROGRESS_MAX 6
extern int	rsp_state_progress(RspState state);

/*
 * Set the action.  Texts are cut to size, control characters and broken UTF-8
 * in them replaced: they may come from the network.
 */
extern void rsp_conversation_reset(RspConversation *c); /* frees the request,
														 * clears the action;
														 * reports stay */
extern void rsp_conversation_free(RspConversation *c);	/* all of it */
extern void rsp_ask(RspConversation *c, const char *method, const char *path,
					struct json_t *body);	/* body: reference stolen, NULL: none */
extern void rsp_send(RspConversation *c, const char *method, const char *path,
					 struct json_t *body);
extern void rsp_header(RspConversation *c, const char *name, const char *value);
extern void rsp_wait(RspConversation *c, RspPhase phase, int64_t delay_ms,
					 const char *code, const char *message);
extern void rsp_park(RspConversation *c, const char *code, const char *message);
extern void rsp_done(RspConversation *c);
extern void rsp_fail(RspConversation *c, const char *code, const char *message);
extern void rsp_said(RspConversation *c, const char *rsp_code,
					 const char *rsp_message);
extern void rsp_report(RspConversation *c, const char *eid, const char *iccid,
					   RspState state, int is_fallback, const char *msisdn);

/* fills a report of the kind what and returns it, NULL when there are too many */
extern RspReport *rsp_report_add(RspConversation *c, RspReportWhat what);

/* copies text into a member of facts or of a report, cleaned and cut to size */
extern void rsp_set(char *member, size_t size, const char *text);
extern void rsp_cleanup(RspConversation *c, const char *method, const char *path);
extern void rsp_candidates(RspConversation *c, struct json_t *ids); /* array, reference
																	 * stolen */

/* a body that is no JSON: content type and text (copied) of the request that
 * rsp_ask() or rsp_send() has just set without a body */
extern void rsp_body(RspConversation *c, const char *content_type, const char *text);
extern void rsp_note(RspConversation *c, const char *outcome, const char *detail);

/* Growing interval with jitter of a tenth: base doubled n times, at most max. */
extern int64_t rsp_backoff_ms(int n, int64_t base_ms, int64_t max_ms);

/*
 * Reads JSON that came over the network: valid UTF-8, no NUL, no duplicate
 * keys, depth at most 32.  NULL: not so, reason (static text) says why.
 */
extern struct json_t *rsp_json(const char *text, size_t length, const char **reason);

/* an empty object; its text (free() it), NULL when it is empty; release */
extern struct json_t *rsp_json_object(void);
extern char *rsp_json_text(const struct json_t *object);
extern void rsp_json_release(struct json_t *object);
extern bool rsp_json_any(const struct json_t *object);	/* has it members? */

/* member's string if it is one of at most max bytes, else NULL */
extern const char *rsp_json_string(const struct json_t *object, const char *key,
								   size_t max);

#endif							/* ESIM_RSP_H */
