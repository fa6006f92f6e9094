/*-------------------------------------------------------------------------
 *
 * project.h
 *	  The projected state: what the profiles of an eUICC will be when the
 *	  operations ahead have succeeded, and what may be asked for then.
 *
 * Plain C, no SQL and no PostgreSQL memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_PROJECT_H
#define ESIM_PROJECT_H

#include <stdbool.h>
#include <stdint.h>

#include "../rsp/rsp.h"

typedef struct ProjectProfile
{
	uint8_t		id[16];
	RspState	state;
	bool		fallback;
	int			port;
} ProjectProfile;

/* as the enum esim_subscription_status */
typedef enum ProjectSubscription
{
	PROJECT_UNKNOWN,
	PROJECT_NEW,
	PROJECT_READY,
	PROJECT_ACTIVE,
	PROJECT_INACTIVE,
	PROJECT_SCHEDULED,
	PROJECT_SUBSCRIPTION_COUNT
} ProjectSubscription;

/* an operation ahead */
typedef struct ProjectOperation
{
	uint8_t		id[16];
	int64_t		seq;
	int64_t		lane;			/* where it is queued; not looked at here */
	RspKind		kind;
	bool		has_profile;
	uint8_t		profile[16];
	bool		flag;			/* download: enables as well; reserve: releases as well */
	bool		by_device;		/* download: the device fetches it; whether it is
								 * enabled then is not known */
	ProjectSubscription wanted; /* set-subscription; PROJECT_UNKNOWN: as it is */
	bool		fleet;			/* set-subscription, assign-fleet: assigns one */
} ProjectOperation;

/* what is asked for */
typedef struct ProjectQuestion
{
	RspKind		kind;
	const uint8_t *profile;		/* NULL: the eUICC as a whole */
	const RspDriver *driver;	/* NULL: this release has none of the protocol */
	bool		redownload;		/* download: may be DELETED before */
} ProjectQuestion;

typedef struct ProjectAnswer
{
	bool		allowed;
	RspState	state;			/* of the profile, behind all operations ahead */
	bool		fallback;
	int			depends_on;		/* index of the operation ahead whose success it
								 * needs, -1: of none */
	bool		only_enabled;	/* it is the only ENABLED profile of the eUICC */
} ProjectAnswer;

/*
 * interface.md's table of preconditions: may kind be asked for when the
 * profile is in this state?
 */
extern bool project_allowed(const ProjectQuestion *question, RspState state);

/* The states that it is allowed from, in words ("DISABLED or INSTALLED"), in buffer. */
extern const char *project_allowed_states(const ProjectQuestion *question, char *buffer,
										  size_t size);

/*
 * Change the states as the success of an operation does.  profiles must have
 * room for one more; *nprofiles grows when the profile was not among them.
 */
extern void project_apply(ProjectProfile *profiles, int *nprofiles,
						  const ProjectOperation *operation);

/*
 * Fold the operations ahead, in their order, over the present states and
 * answer the question.  It depends on the last operation that makes the
 * precondition hold from there on; on none if it holds all along.  work needs
 * room for nprofiles + noperations + 1.
 */
extern void project(const ProjectProfile *profiles, int nprofiles,
					const ProjectOperation *operations, int noperations,
					const ProjectQuestion *question, ProjectProfile *work,
					ProjectAnswer *answer);

/* ----- subscriptions ----- */

/* a profile and its subscription in the network */
typedef struct ProjectSim
{
	RspState	state;			/* the profile's */
	bool		known;			/* the subscription can be found */
	ProjectSubscription status;
	bool		fleet;			/* it is assigned to a fleet */
} ProjectSim;

/* what is asked for: set-subscription or assign-fleet */
typedef struct ProjectChange
{
	ProjectSubscription wanted; /* PROJECT_UNKNOWN: the status stays */
	bool		fleet;			/* a fleet is assigned as well */
} ProjectChange;

typedef enum ProjectRefusal
{
	PROJECT_ALLOWED,
	PROJECT_RESERVING,			/* and nothing ahead reserves it */
	PROJECT_NOT_KNOWN,
	PROJECT_IS_SCHEDULED,		/* no second change meanwhile */
	PROJECT_NO_FLEET,
	PROJECT_WRONG_STATUS
} ProjectRefusal;

extern const char *project_subscription_name(ProjectSubscription status);	/* "" for UNKNOWN */
extern bool project_subscription_from_name(const char *name, ProjectSubscription *status);

/* May it be asked for when the subscription stands so? */
extern ProjectRefusal project_change_allowed(const ProjectChange *change, const ProjectSim *sim);

extern void project_apply_sim(ProjectSim *sim, const ProjectOperation *operation);

/*
 * The same as project() for a change of a subscription.  *sim becomes what it
 * is behind all operations ahead; depends_on as in ProjectAnswer.
 */
extern ProjectRefusal project_sim(ProjectSim *sim, const ProjectOperation *operations,
								  int noperations, const ProjectChange *change, int *depends_on);

#endif							/* ESIM_PROJECT_H */
