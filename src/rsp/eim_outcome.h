/*-------------------------------------------------------------------------
 *
 * eim_outcome.h
 *	  Orders of an eIM, and what their outcomes mean.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_EIM_OUTCOME_H
#define ESIM_EIM_OUTCOME_H

#include <stdbool.h>

#include "json.h"

#define EIM_SAID		128		/* bytes of an eIM's words that are kept */

typedef enum EimOrder
{
	ORDER_DOWNLOAD,
	ORDER_ENABLE,
	ORDER_DISABLE,
	ORDER_DELETE,
	ORDER_DISABLE_DELETE,
	ORDER_SET_FALLBACK,
	ORDER_UNSET_FALLBACK,
	ORDER_LIST,
	ORDER_COUNT
} EimOrder;

typedef struct EimOrderRow
{
	const char *name;			/* as the memo has it */
	const char *facility;
	const char *psmo[2];		/* NULL: no (second) one */
	const char *result[2];		/* what the outcome calls theirs */
} EimOrderRow;

extern const EimOrderRow eim_orders[ORDER_COUNT];

typedef enum EimMeaning
{
	M_OK,
	M_ALREADY,					/* not done: it is so already */
	M_STATE,					/* not done because of the state: it may be so already */
	M_ABSENT,					/* not done: the profile is not on the eUICC */
	M_FINAL,					/* not done, and it will not be otherwise */
	M_RETRY,					/* not done, try later */
	M_REPLAY,					/* not done: the eIM's counter is behind */
	M_NO_ROLLBACK,				/* not done: there is nothing to roll back to */
	M_UNDEFINED,				/* failed; whether it had an effect is not said: ask, do not repeat */
	M_UNCLEAR,					/* nobody knows: ask, then repeat */
	M_NOSHOW,					/* the device never fetched it */
	M_ROLLED_BACK,				/* done, and taken back */
	M_ROLLBACK_FAILED			/* done, and perhaps taken back */
} EimMeaning;

typedef struct EimRow
{
	const char *key;			/* of the result */
	int			number;			/* SGP.32's, -1: has none */
	const char *name;			/* NULL: any */
	EimMeaning	meaning;
	const char *code;			/* CAMARA's, or esim's; NULL: M_OK */
	const char *message;
} EimRow;

extern const EimRow eim_gone;	/* the eIM no longer has the order */
extern const EimRow eim_unreadable; /* its answers cannot be understood */

typedef struct EimVerdict
{
	const EimRow *row;			/* what decides */
	char		said[EIM_SAID];		/* in the eIM's words */
	bool		disabled;		/* the first PSMO of a delete was carried out */
	bool		turned;			/* it was the first PSMO of a delete that failed */
	const char *iccid;			/* of the download, as on the card; borrowed */
	const json_t *list;			/* of listProfileInfo; borrowed, NULL: none */
} EimVerdict;

extern void eim_judge(EimOrder order, const json_t *outcome, EimVerdict *verdict);

#endif							/* ESIM_EIM_OUTCOME_H */
