/*-------------------------------------------------------------------------
 *
 * enqueue.h
 *	  What the parts of queueing share: find.c, key.c, download.c, lane.c,
 *	  decide.c, insert.c, in the order in which enqueue.c calls them.
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
	EsimScan	devices;
	EsimScan	by_id;
	EsimScan	by_iccid;
	EsimScan	operations;
} EsimFinder;

extern void esim_finder_open(EsimFinder *finder);
extern void esim_finder_close(EsimFinder *finder);
extern void esim_find_profile(EsimRequest *request, EsimFinder *finder, EsimElement *element);
extern EsimDevice *esim_device_of_row(EsimRow *row);
extern RspState esim_state_of_datum(Datum value);
extern bool esim_on_euicc(RspState state);
extern bool esim_same_eid(const Eid *a, const Eid *b);
extern Datum esim_make_array(Datum *values, bool *nulls, int n, Oid type);
extern EsimFailure *esim_unknown_device(const Eid *eid);
extern EsimFailure *esim_unknown_profile(const EsimElement *element);
extern char *esim_profile_label(const EsimElement *element);

/* ----- key.c ----- */

extern void esim_replay_all(EsimRequest *request);
extern bool esim_replay(EsimElement *element);
extern bool esim_claim_key(EsimElement *element);

/* ----- download.c ----- */

/* Make rows of profiles that are not known, lock the lanes of the others. */
extern void esim_prepare_profiles(EsimRequest *request);
/* Remove the rows made for elements that could not be queued after all. */
extern void esim_remove_profiles(EsimRequest *request);

/* ----- lane.c ----- */

/* an open operation of a profile, in whatever lane */
typedef struct EsimAhead
{
	ProjectOperation op;
	bool		has_eid;
	Eid			eid;
} EsimAhead;

/* One eUICC of a chunk: what is on it, and what is ahead. */
typedef struct EsimLane
{
	Eid			eid;
	ProjectProfile *profiles;
	int			nprofiles;
	int			profiles_size;
	ProjectOperation *ops;
	int			nops;
	int			ops_size;
	ProjectProfile *work;
	int			work_size;
} EsimLane;

/* What stands beside an element while its chunk is decided. */
typedef struct EsimScratch
{
	EsimLane   *lane;
	bool		target_found;
	ProjectProfile target;		/* its profile as it is now */
	bool		target_has_eid;
	Eid			target_eid;
	EsimAhead  *ahead;			/* download: open operations of the profile */
	int			nahead;
	int			ahead_size;
} EsimScratch;

extern void esim_lock_lanes(EsimRequest *request, EsimElement **chunk, int n);
extern void esim_read_lanes(EsimRequest *request, EsimElement **chunk, int n, EsimScratch *scratch);
extern ProjectProfile *esim_lane_profile(EsimLane *lane, const pg_uuid_t *id);
extern void esim_lane_add_profile(EsimLane *lane, const ProjectProfile *profile);
extern void esim_lane_add_operation(EsimLane *lane, const ProjectOperation *op);
extern void *esim_grow(void *array, int *size, int needed, size_t width);

/* ----- decide.c ----- */

extern void esim_decide(EsimRequest *request, EsimElement *element, EsimScratch *scratch);
/* accepted: elements of the chunk that are accepted and not inserted yet */
extern void esim_check_quota(EsimElement *element, int accepted);

/* ----- insert.c ----- */

/*
 * Insert the rows of accepted elements into esim_operation and esim_pending, in
 * the order given, and what is secret in their parameters; wakes the workers.
 */
extern void esim_insert_elements(EsimRequest *request, EsimElement **elements, int n);

/* an enum label of the extension as a Datum */
extern Datum esim_enum_value(const char *type, const char *label);

#endif							/* ESIM_ENQUEUE_H */
