/*-------------------------------------------------------------------------
 *
 * kind.c
 *	  The kinds of operations as the SQL functions have them.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "operation/operation.h"

/* a kind has none of a group of parameters */
#define NO_RESERVATION		-1, -1, -1, -1, -1
#define NO_NETWORK			-1, -1, -1, -1, -1

/*
 * In the order of EsimKind: eid, iccid, activation_code, activate,
 * confirmation_code, rollback; generate_matching_id, profile_type, matching_id,
 * smds_address, release; final_status, subscription, fleet, name, settings;
 * tail.
 */
static const EsimKind kinds[] = {
	{RSP_DOWNLOAD, "download", ESIM_LANE_EUICC, true, true,
	0, 1, 2, 3, 4, -1, NO_RESERVATION, NO_NETWORK, 5},
	{RSP_ENABLE, "enable", ESIM_LANE_EUICC, true, false,
	1, 0, -1, -1, -1, 2, NO_RESERVATION, NO_NETWORK, 3},
	{RSP_DISABLE, "disable", ESIM_LANE_EUICC, true, false,
	1, 0, -1, -1, -1, -1, NO_RESERVATION, NO_NETWORK, 2},
	{RSP_DELETE, "delete", ESIM_LANE_EUICC, true, false,
	1, 0, -1, -1, -1, -1, NO_RESERVATION, NO_NETWORK, 2},
	{RSP_SET_FALLBACK, "make a fallback of", ESIM_LANE_EUICC, true, false,
	0, 1, -1, -1, -1, -1, NO_RESERVATION, NO_NETWORK, 2},
	{RSP_UNSET_FALLBACK, "take the fallback from", ESIM_LANE_EUICC, false, false,
	0, -1, -1, -1, -1, -1, NO_RESERVATION, NO_NETWORK, 1},
	{RSP_REFRESH, "refresh", ESIM_LANE_EUICC, false, false,
	0, -1, -1, -1, -1, -1, NO_RESERVATION, NO_NETWORK, 1},
	{RSP_RESERVE, "reserve", ESIM_LANE_PROFILE, true, true,
	0, 2, -1, -1, 5, -1, 1, 3, 4, 6, 7, NO_NETWORK, 8},
	{RSP_RELEASE, "release", ESIM_LANE_PROFILE, true, false,
	-1, 0, -1, -1, -1, -1, NO_RESERVATION, NO_NETWORK, 1},
	{RSP_CANCEL_ORDER, "cancel the order of", ESIM_LANE_PROFILE, true, false,
	-1, 0, -1, -1, -1, -1, NO_RESERVATION, 1, -1, -1, -1, -1, 2},
	{RSP_SET_SUBSCRIPTION, "set the subscription of", ESIM_LANE_PROFILE, true, false,
	-1, 0, -1, -1, -1, -1, NO_RESERVATION, -1, 1, 2, -1, -1, 3},
	{RSP_ASSIGN_FLEET, "assign a fleet to", ESIM_LANE_PROFILE, true, false,
	-1, 0, -1, -1, -1, -1, NO_RESERVATION, -1, -1, 1, -1, -1, 2},
	{RSP_FLEET_CREATE, "create", ESIM_LANE_FLEET, false, false,
	-1, -1, -1, -1, -1, -1, NO_RESERVATION, -1, -1, -1, 0, 1, 2},
	{RSP_SYNC, "synchronise with", ESIM_LANE_SYNC, false, false,
	-1, -1, -1, -1, -1, -1, NO_RESERVATION, -1, -1, -1, 0, -1, 1},
};

const EsimKind *
esim_kind(RspKind kind)
{
	for (int i = 0; i < lengthof(kinds); i++)
	{
		if (kinds[i].kind == kind)
			return &kinds[i];
	}
	return NULL;
}
