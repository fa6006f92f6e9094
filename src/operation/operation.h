/*-------------------------------------------------------------------------
 *
 * operation.h
 *	  Requests for operations, on their way from a SQL call into the queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_OPERATION_H
#define ESIM_OPERATION_H

#include "esim.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "identifier/identifier.h"
#include "operation/project.h"
#include "server/server.h"

/* ----- kinds ----- */

/* what is done one at a time */
typedef enum EsimLaneKind
{
	ESIM_LANE_EUICC,
	ESIM_LANE_PROFILE,
	ESIM_LANE_FLEET,
	ESIM_LANE_SYNC				/* what an owner has at a server */
} EsimLaneKind;

/*
 * What there is to know about a kind of operation at enqueue.  Positions are
 * those of the SQL functions' arguments, -1: it has none such; the common tail
 * follows the own parameters.
 */
typedef struct EsimKind
{
	RspKind		kind;
	const char *verb;			/* "cannot <verb> profile ..." */
	EsimLaneKind lane;
	bool		of_profile;		/* it is about one profile */
	bool		adds_profile;	/* a profile that is not known is added */
	int			eid;
	int			iccid;
	int			activation_code;
	int			activate;
	int			confirmation_code;
	int			rollback;
	int			generate_matching_id;
	int			profile_type;
	int			matching_id;
	int			smds_address;
	int			release;
	int			final_status;
	int			subscription;
	int			fleet;
	int			name;			/* of the fleet that is made, of the server that is
								 * synchronised with */
	int			settings;
	int			tail;
} EsimKind;

extern const EsimKind *esim_kind(RspKind kind); /* NULL: none of this release's */

/* ----- failures: an error as data, so that a bulk call can report it ----- */

typedef struct EsimFailure
{
	int			sqlstate;
	const char *code;
	char	   *message;
	char	   *detail;			/* a sentence */
	char	   *hint;			/* a sentence, or NULL */
} EsimFailure;

extern EsimFailure *esim_failure(const char *code, char *message, char *detail, char *hint);
pg_noreturn extern void esim_failure_raise(const EsimFailure *failure, int ordinal);

/* "...1234", for messages */
extern char *esim_mask_eid(const Eid *eid);
extern char *esim_mask_iccid(Iccid iccid);
extern char *esim_mask_uuid(const pg_uuid_t *id);

/* ----- what was found in the tables ----- */

typedef struct EsimDevice
{
	Eid			eid;
	Oid			owner;
	char	   *owner_name;
	char	   *server;			/* NULL: none named */
	bool		retired;
	int64		lane;
} EsimDevice;

/*
 * The device with that EID, as the transaction's snapshot has it; NULL: there
 * is none that the caller may act for.  One of another owner costs what none
 * costs.  The same for ICCIDs: the ids of the profiles as uuid[].
 */
extern EsimDevice *esim_find_device(Oid caller, const Eid *eid);
extern Datum esim_find_profiles(Oid caller, Iccid iccid);

typedef struct EsimProfile
{
	pg_uuid_t	id;
	bool		has_iccid;
	Iccid		iccid;
	bool		has_eid;
	Eid			eid;
	bool		has_reserved_eid;
	Eid			reserved_eid;
	Oid			owner;
	char	   *owner_name;
	RspState	state;
	bool		plain;			/* operational, and without drift */
	int64		lane;
	TimestampTz created_at;
	struct varlena *activation_code;	/* NULL: none; the same below */
	char	   *smdp_address;
	char	   *matching_id;
	char	   *redownload;
	char	   *server;
	char	   *subscription_server;
	ProjectSubscription subscription;
	bool		has_fleet;
	bool		has_sim;		/* its subscription can be found without ICCID */
	char	   *rsp_id;
} EsimProfile;

/* ----- a request: one SQL call ----- */

typedef struct EsimElement
{
	int			ordinal;		/* from 1 */

	/* what was asked for */
	bool		has_eid;
	bool		has_iccid;
	bool		has_profile;
	Eid			eid;
	Iccid		iccid;
	pg_uuid_t	profile_id;
	struct varlena *activation_code;	/* NULL: not given */
	text	   *confirmation_code;
	char	   *matching_id;
	char	   *name;			/* fleet-create, sync */
	char	   *idempotency_key;
	uint8		fingerprint[32];
	bool		has_retry_of;
	pg_uuid_t	retry_of;

	/* what was found */
	Oid			wanted_owner;	/* of the profile, if valid */
	EsimProfile *profile;
	EsimDevice *device;
	Oid			owner;			/* of the operation; InvalidOid: not known */
	char	   *owner_name;
	int64		lane;
	bool		fresh;			/* the row of the profile, or the fleet, was made by
								 * this call */
	const struct EsimChoice *choice;
	struct varlena *used_code;	/* the activation code that the download uses;
								 * NULL: what is known when it runs */
	bool		by_device;		/* download: the device fetches it by itself */
	bool		by_refresh;		/* sync: refreshes are queued instead */
	bool		redownload;		/* a DELETED profile may be downloaded */

	/* what becomes of it */
	EsimFailure *failure;
	bool		replayed;		/* id is that of an earlier operation */
	pg_uuid_t	id;
	int64		seq;
	TimestampTz expires_at;
	char		state;			/* esim_pending.state */
	char	   *phase_reason;
	pg_uuid_t  *depends_on;		/* whose success it needs */
	int			ndepends_on;
	pg_uuid_t  *waits_for;		/* of other lanes, which must have ended before */
	int			nwaits_for;
	bool		lockout;		/* takes the last enabled profile */
} EsimElement;

typedef struct EsimRequest
{
	const EsimKind *kind;
	const char *function;		/* that was called, for esim_audit */
	Oid			caller;
	char	   *caller_name;
	TimestampTz now;

	/* the same for all elements; see interface.md's tail */
	bool		activate;
	bool		rollback;
	bool		generate_matching_id;
	char	   *profile_type;
	char	   *smds_address;
	bool		release;
	char	   *final_status;
	char	   *subscription;	/* a label of esim_subscription_status */
	char	   *fleet;
	Jsonb	   *settings;
	struct json_t *settings_json;
	char	   *server;
	char	   *correlator;
	char	   *sink;
	Jsonb	   *sink_credential;
	char	   *callback_url;
	char	   *callback_method;
	int16		priority;
	bool		has_not_before;
	TimestampTz not_before;
	bool		has_expires_at;
	TimestampTz expires_at;
	Jsonb	   *options;
	struct json_t *options_json;

	bool		report;			/* failures stay in their elements */
	bool		own_server;		/* the server is that of an earlier operation, not
								 * named by the caller */
	EsimElement *elements;
	int			nelements;

	struct EsimChoice *choices;
	ProjectOperation creation;	/* of the fleet; seq 0: none is open */
	const struct EsimChoice *creation_choice;	/* for these */
	Oid			creation_owner;
	Oid			known_owner;	/* memory of esim_request_may_act_for() */
	char	   *known_owner_name;
	bool		known_may;
} EsimRequest;

/*
 * Queue the elements of a request.  Needs SPI_connect() and the extension
 * owner's rights.  With report set, what cannot be queued has its failure;
 * else the first one is raised.
 */
extern void esim_enqueue(EsimRequest *request);

extern bool esim_request_may_act_for(EsimRequest *request, Oid owner, const char *owner_name);

/* ----- arguments (argument.c): raise ES400, ES422 ----- */

extern char *esim_argument_text(const char *name, Datum value, int max);
extern void esim_check_correlator(const char *correlator);
extern void esim_check_times(EsimRequest *request);
extern void esim_check_object(const char *name, Jsonb *value, int max);
extern struct json_t *esim_json_from_jsonb(const char *name, Jsonb *value);
extern void esim_fingerprint(const EsimRequest *request, EsimElement *element);

/* ----- servers (choose.c) ----- */

typedef struct EsimChoice
{
	char	   *asked;			/* the server that a row names; NULL: it names none */
	bool		optional;		/* asked counts only if it can do it */
	EsimServer *server;			/* NULL: failure says why */
	const RspDriver *driver;
	EsimFailure *failure;
	struct EsimChoice *next;
} EsimChoice;

/*
 * The server for a device or profile that names that one; remembered in the
 * request.
 */
extern const EsimChoice *esim_choose_server(EsimRequest *request, const char *asked,
											bool optional);

/*
 * Can the server carry out the kind?  note says why not, or under which
 * condition; driver may be NULL.
 */
extern bool esim_server_can(const EsimServer *server, RspKind kind, const RspDriver **driver,
							const char **note);

/* ----- used by several ----- */

/* the values of one row of a result, in columns */
#define ESIM_MAX_COLUMNS 48
typedef struct EsimRow
{
	Datum		value[ESIM_MAX_COLUMNS];
	bool		null[ESIM_MAX_COLUMNS];
} EsimRow;

extern void esim_row(EsimRow *row, SPITupleTable *table, uint64 n);

#endif							/* ESIM_OPERATION_H */
