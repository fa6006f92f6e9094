/*-------------------------------------------------------------------------
 *
 * enqueue.h
 *	  What the parts of queueing share: find.c, key.c, profile.c, account.c,
 *	  lane.c, network.c, decide.c, insert.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_ENQUEUE_H
#define ESIM_ENQUEUE_H

#include "operation/operation.h"
#include "operation/table.h"

/* elements that are read, decided and inserted at a time in a bulk call */
#define ESIM_CHUNK 4096

/* neither failed nor found to be a repeated call */
extern bool esim_is_open(const EsimElement *element);
extern bool esim_redownload_allowed(const EsimElement *element);
extern bool esim_redownload_anywhere(const EsimElement *element);

/* ----- lanes ----- */

/* an open operation of a profile, in whatever lane */
typedef struct EsimAhead
{
	ProjectOperation op;
	bool		has_eid;
	Eid			eid;
} EsimAhead;

/*
 * One lane of a chunk.  Of an eUICC: what is on it, and the operations ahead in
 * it.  Of a profile: all its open operations, in whatever lane.  Of a fleet or
 * a sync: the operations ahead in it.
 */
typedef struct EsimLane
{
	int64		number;
	Eid			eid;			/* of an eUICC */
	ProjectProfile *profiles;
	int			nprofiles;
	int			profiles_size;
	ProjectOperation *ops;
	int			nops;
	int			ops_size;
	ProjectOperation *outside;	/* downloads of the call that go to lanes of
								 * their own */
	int			noutside;
	int			outside_size;
	ProjectProfile *work;
	int			work_size;
	EsimProfile *profile;		/* of a profile: as it is now, NULL: gone */
} EsimLane;

/* What stands beside an element while its chunk is decided. */
typedef struct EsimScratch
{
	EsimLane   *lane;
	bool		target_found;
	ProjectProfile target;		/* its profile as it is now */
	bool		target_has_eid;
	Eid			target_eid;
	EsimAhead  *ahead;			/* open operations of the profile, where they
								 * count */
	int			nahead;
	int			ahead_size;
} EsimScratch;

/* ----- find.c ----- */

extern EsimTable esim_device_table;
extern EsimTable esim_profile_table;
extern EsimTable esim_operation_table;
extern EsimIndex esim_device_by_eid;
extern EsimIndex esim_profile_by_id;
extern EsimIndex esim_profile_by_eid;
extern EsimIndex esim_operation_by_profile;

/*
 * Find profile and device of every element, as far as they are the caller's.
 * What is missing becomes a failure.
 */
extern void esim_find_rows(EsimRequest *request);

/* The index scans by which rows are found. */
typedef struct EsimFinder
{
	Snapshot	snapshot;
	List	   *owners;			/* whom the caller may act for; NIL: for all */
	EsimScan	devices;
	EsimScan	by_id;
	EsimScan	by_iccid;
	EsimScan	operations;
} EsimFinder;

extern void esim_finder_open(EsimFinder *finder, Oid caller);
extern void esim_finder_close(EsimFinder *finder);
extern void esim_find_profile(EsimRequest *request, EsimFinder *finder, EsimElement *element);
extern EsimDevice *esim_device_of_row(EsimRow *row);
extern EsimProfile *esim_profile_of_row(EsimRow *row);
extern RspState esim_state_of_datum(Datum value);
extern ProjectSubscription esim_subscription_of_datum(Datum value);
extern bool esim_on_euicc(RspState state);
extern bool esim_same_eid(const Eid *a, const Eid *b);
extern Datum esim_make_array(Datum *values, bool *nulls, int n, Oid type);
extern EsimFailure *esim_unknown_device(const Eid *eid);
extern EsimFailure *esim_retired_device(const Eid *eid);
extern EsimFailure *esim_unknown_profile(const EsimElement *element);
extern char *esim_profile_label(const EsimElement *element);

/* ----- key.c ----- */

extern void esim_replay_all(EsimRequest *request);
extern bool esim_replay(EsimElement *element);
extern bool esim_claim_key(EsimElement *element);

/* ----- profile.c ----- */

/* Make rows of profiles that are not known; a download locks the lanes of the others. */
extern void esim_prepare_profiles(EsimRequest *request);
/* What a reservation says of profiles whose rows were there before. */
extern void esim_reserve_profiles(EsimRequest *request, EsimElement **elements, int n);
/* Remove the rows made for elements that could not be queued after all. */
extern void esim_remove_profiles(EsimRequest *request);

extern void esim_lock_profile_lanes(Datum *lanes, int nlanes);

/* ----- account.c ----- */

/* Find or make the lanes of fleets and of syncs, and the rows of fleets. */
extern void esim_prepare_accounts(EsimRequest *request);
/* Remove the rows of fleets that could not be queued after all. */
extern void esim_remove_fleets(EsimRequest *request);
extern void esim_decide_fleet(EsimRequest *request, EsimElement *element, EsimLane *lane);
/* Queue a refresh of each device instead, and the operation as completed. */
extern void esim_sync_by_refresh(EsimRequest *request, EsimElement *element);

/* ----- lane.c: lanes of eUICCs ----- */

extern void esim_lock_lanes(EsimRequest *request, EsimElement **chunk, int n);
extern void esim_read_lanes(EsimRequest *request, EsimElement **chunk, int n, EsimScratch *scratch);

/* The index scans by which the open operations of a profile are found. */
typedef struct EsimAheadReader
{
	EsimScan	operations;		/* by profile */
	EsimScan	by_operation;	/* their rows in the queue */
	Datum		accepted;
	Datum		waiting_device;
} EsimAheadReader;

extern void esim_ahead_open(EsimAheadReader *reader, Snapshot snapshot);
extern void esim_ahead_close(EsimAheadReader *reader);
extern void esim_ahead_search(EsimAheadReader *reader, const pg_uuid_t *profile);
/* waiting: it waits for the device */
extern bool esim_ahead_next(EsimAheadReader *reader, EsimAhead *ahead, bool *waiting);

extern EsimIndex esim_pending_by_lane;
extern void esim_operation_of_row(EsimRow *row, ProjectOperation *op);
extern ProjectProfile *esim_lane_profile(EsimLane *lane, const pg_uuid_t *id);
extern void esim_lane_add_profile(EsimLane *lane, const ProjectProfile *profile);
extern void esim_lane_add_operation(EsimLane *lane, const ProjectOperation *op);
extern void esim_lane_add_outside(EsimLane *lane, const ProjectOperation *op);
extern void *esim_grow(void *array, int *size, int needed, size_t width);

/* ----- network.c: the other lanes ----- */

extern void esim_lock_network_lanes(EsimRequest *request, EsimElement **chunk, int n);
extern void esim_read_network_lanes(EsimRequest *request, EsimElement **chunk, int n,
									EsimScratch *scratch);
extern void esim_decide_network(EsimRequest *request, EsimElement *element, EsimLane *lane);

/* ----- decide.c ----- */

extern void esim_decide(EsimRequest *request, EsimElement *element, EsimScratch *scratch);
/* accepted: elements of the chunk that are accepted and not inserted yet */
extern void esim_check_quota(EsimElement *element, int accepted);
/* the state is not one of those that the kind is allowed in; now: as it is at present */
extern void esim_refuse(EsimRequest *request, EsimElement *element,
						const ProjectQuestion *question, RspState now, RspState state);
/* It needs the success of op; waits for it, if that is in another lane. */
extern void esim_depend_on(EsimElement *element, const ProjectOperation *op);
extern void esim_wait_for(EsimElement *element, const ProjectOperation *op);

/* ----- insert.c ----- */

/*
 * Insert the rows of accepted elements into esim_operation and esim_pending, in
 * the order given, and what is secret in their parameters; wakes the workers.
 */
extern void esim_insert_elements(EsimRequest *request, EsimElement **elements, int n);

extern void esim_insert_secrets(EsimRequest *request, EsimElement *element);

/* an enum label of the extension as a Datum */
extern Datum esim_enum_value(const char *type, const char *label);

#endif							/* ESIM_ENQUEUE_H */
