/*-------------------------------------------------------------------------
 *
 * es2plus_event.h
 *	  What an SM-DP+ says over ES2+ (SGP.22 5.3, 6.5): execution status, and the
 *	  inbound HandleDownloadProgressInfo and HandleNotification.
 *
 * Plain C without state: shared by the driver, which reads answers, and by
 * whatever receives notifications.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_ES2PLUS_EVENT_H
#define ESIM_ES2PLUS_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_t;

typedef enum Es2plusStatus
{
	ES2PLUS_NOT_SAID,			/* or a word that is none of these */
	ES2PLUS_SUCCESS,			/* Executed-Success */
	ES2PLUS_WARNING,			/* Executed-WithWarning: done */
	ES2PLUS_FAILED,				/* Failed: nothing was done */
	ES2PLUS_EXPIRED				/* Expired: its time was over before it was done */
} Es2plusStatus;

/* ExecutionStatus: functionExecutionStatus and notificationPointStatus */
typedef struct Es2plusExecution
{
	Es2plusStatus status;
	char		subject[20];	/* subjectCode: digits and dots; "" if not said, or "0" */
	char		reason[20];		/* reasonCode, likewise */
	char		message[512];	/* "" if not said */
} Es2plusExecution;

/* HandleDownloadProgressInfo, SGP.22 5.3.5; HandleNotification of version 3 */
typedef struct Es2plusProgress
{
	bool		v3;				/* HandleNotification */
	char		iccid[21];		/* without padding; "" if not said, version 3 only */
	char		eid[33];		/* "" if not said */
	char		profile_type[256];	/* "" if not said */
	int			point;			/* notificationPointId, or notificationEvent: 0 to
								 * 1000000 */
	Es2plusExecution execution; /* notificationPointStatus, or
								 * notificationEventStatus; its status is one
								 * of the four */
	int64_t		at_ms;			/* timestamp, since 1970; 0 if not said, or not
								 * readable */
	char		time[64];		/* timestamp as sent, "" if not said */
	char		requester[256]; /* functionRequesterIdentifier, "" if not said */
	char		call_id[256];	/* functionCallIdentifier, "" if not said: a
								 * duplicate has the same */
	bool		has_result;		/* resultData, signed by the eUICC, is there */
} Es2plusProgress;

/* What a notification of SGP.22's own points means for the order it is about. */
typedef struct Es2plusMeaning
{
	const char *state;			/* label of esim_profile_state, NULL: no news */
	bool		ends;			/* nothing more will come of this order */
	const char *code;			/* CAMARA's code for a failure, NULL: none */
} Es2plusMeaning;

extern bool es2plus_progress(const char *json, size_t len, Es2plusProgress *out,
							 const char **reason);
extern void es2plus_meaning(const Es2plusProgress *progress, Es2plusMeaning *out);
extern bool es2plus_execution(const struct json_t *status, Es2plusExecution *out);
extern bool es2plus_iccid(const char *text, char out[21]);
extern bool es2plus_code_is(const char *code, const char *pattern);

#endif							/* ESIM_ES2PLUS_EVENT_H */
