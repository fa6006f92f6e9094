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

/* an operation ahead */
typedef struct ProjectOperation
{
	uint8_t		id[16];
	int64_t		seq;
	RspKind		kind;
	bool		has_profile;
	uint8_t		profile[16];
	bool		flag;			/* download: enables as well; reserve: releases as well */
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

#endif							/* ESIM_PROJECT_H */
