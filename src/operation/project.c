/*-------------------------------------------------------------------------
 *
 * project.c
 *	  The projected state of profiles and the preconditions of operations.
 *
 *-------------------------------------------------------------------------
 */
#include "project.h"

#include <stdio.h>
#include <string.h>

#define IN(state) (1u << (state))
#define ON_EUICC \
	(IN(RSP_STATE_INSTALLED) | IN(RSP_STATE_DISABLED) | IN(RSP_STATE_ENABLED))
#define ANY_STATE (IN(RSP_STATE_COUNT) - 1)

/*
 * Rows: the kinds in the order of RspKind; a bit per state.  Set-fallback and
 * delete are here as SGP.32 has them; a driver may know better.  Changes of a
 * subscription have conditions of their own below.
 */
static const unsigned allowed_from[RSP_KIND_COUNT] = {
	[RSP_DOWNLOAD] = IN(RSP_STATE_NONE) | IN(RSP_STATE_RESERVED) | IN(RSP_STATE_RELEASED),
	[RSP_ENABLE] = IN(RSP_STATE_DISABLED) | IN(RSP_STATE_INSTALLED),
	[RSP_DISABLE] = IN(RSP_STATE_ENABLED) | IN(RSP_STATE_INSTALLED),
	[RSP_DELETE] = ON_EUICC,
	[RSP_SET_FALLBACK] = ON_EUICC,
	[RSP_UNSET_FALLBACK] = ANY_STATE,
	[RSP_REFRESH] = ANY_STATE,
	[RSP_RESERVE] = IN(RSP_STATE_NONE) | IN(RSP_STATE_RESERVING),
	[RSP_RELEASE] = IN(RSP_STATE_RESERVED),
	[RSP_CANCEL_ORDER] = IN(RSP_STATE_RESERVED) | IN(RSP_STATE_RELEASED) | IN(RSP_STATE_FAILED),
	[RSP_SET_SUBSCRIPTION] = ANY_STATE,
	[RSP_ASSIGN_FLEET] = ANY_STATE,
	[RSP_FLEET_CREATE] = ANY_STATE,
	[RSP_SYNC] = ANY_STATE
};

bool
project_allowed(const ProjectQuestion *question, RspState state)
{
	RspKind		kind = question->kind;

	if ((unsigned) kind >= RSP_KIND_COUNT || (unsigned) state >= RSP_STATE_COUNT)
		return false;
	if ((kind == RSP_SET_FALLBACK || kind == RSP_DELETE) &&
		question->driver != NULL && question->driver->state_allowed != NULL)
		return question->driver->state_allowed(kind, state);
	if (kind == RSP_DOWNLOAD && state == RSP_STATE_DELETED)
		return question->redownload;
	return (allowed_from[kind] & IN(state)) != 0;
}

const char *
project_allowed_states(const ProjectQuestion *question, char *buffer, size_t size)
{
	/* the usual ones first */
	static const RspState order[] = {
		RSP_STATE_RESERVING, RSP_STATE_RESERVED, RSP_STATE_RELEASED, RSP_STATE_DOWNLOADED,
		RSP_STATE_DISABLED, RSP_STATE_ENABLED, RSP_STATE_INSTALLED, RSP_STATE_DELETED,
		RSP_STATE_CANCELLED, RSP_STATE_FAILED
	};
	int			total = 0;
	int			n = 0;
	size_t		used = 0;
	size_t		i;

	if (size == 0)
		return buffer;
	buffer[0] = '\0';
	for (i = 0; i < sizeof(order) / sizeof(order[0]); i++)
		total += project_allowed(question, order[i]);
	for (i = 0; i < sizeof(order) / sizeof(order[0]); i++)
	{
		int			written;

		if (!project_allowed(question, order[i]))
			continue;
		written = snprintf(buffer + used, size - used, "%s%s",
						   n == 0 ? "" : n == total - 1 ? " or " : ", ",
						   rsp_state_name(order[i]));
		if (written < 0 || (size_t) written >= size - used)
			break;
		used += (size_t) written;
		n++;
	}
	return buffer;
}

static ProjectProfile *
find_profile(ProjectProfile *profiles, int nprofiles, const uint8_t *id)
{
	int			i;

	for (i = 0; i < nprofiles; i++)
	{
		if (memcmp(profiles[i].id, id, sizeof(profiles[i].id)) == 0)
			return &profiles[i];
	}
	return NULL;
}

/* One profile per port is ENABLED: enabling one disables the other. */
static void
enable(ProjectProfile *profiles, int nprofiles, ProjectProfile *profile)
{
	int			i;

	for (i = 0; i < nprofiles; i++)
	{
		if (&profiles[i] != profile && profiles[i].port == profile->port &&
			profiles[i].state == RSP_STATE_ENABLED)
			profiles[i].state = RSP_STATE_DISABLED;
	}
	profile->state = RSP_STATE_ENABLED;
}

void
project_apply(ProjectProfile *profiles, int *nprofiles, const ProjectOperation *operation)
{
	ProjectProfile *profile = NULL;
	int			i;

	if (operation->has_profile)
	{
		profile = find_profile(profiles, *nprofiles, operation->profile);
		if (profile == NULL)
		{
			profile = &profiles[(*nprofiles)++];
			memset(profile, 0, sizeof(*profile));
			memcpy(profile->id, operation->profile, sizeof(profile->id));
		}
	}

	switch (operation->kind)
	{
		case RSP_DOWNLOAD:
			if (profile == NULL)
				break;
			profile->fallback = false;
			if (operation->by_device)
				profile->state = RSP_STATE_INSTALLED;
			else if (operation->flag)
				enable(profiles, *nprofiles, profile);
			else
				profile->state = RSP_STATE_DISABLED;
			break;
		case RSP_ENABLE:
			if (profile != NULL)
				enable(profiles, *nprofiles, profile);
			break;
		case RSP_DISABLE:
			if (profile != NULL)
				profile->state = RSP_STATE_DISABLED;
			break;
		case RSP_DELETE:
			if (profile != NULL)
			{
				profile->state = RSP_STATE_DELETED;
				profile->fallback = false;
			}
			break;
		case RSP_SET_FALLBACK:
		case RSP_UNSET_FALLBACK:
			for (i = 0; i < *nprofiles; i++)
				profiles[i].fallback = false;
			if (operation->kind == RSP_SET_FALLBACK && profile != NULL)
				profile->fallback = true;
			break;
		case RSP_RESERVE:
			if (profile != NULL)
				profile->state = operation->flag ? RSP_STATE_RELEASED : RSP_STATE_RESERVED;
			break;
		case RSP_RELEASE:
			if (profile != NULL)
				profile->state = RSP_STATE_RELEASED;
			break;
		case RSP_CANCEL_ORDER:
			if (profile != NULL)
				profile->state = RSP_STATE_CANCELLED;
			break;
		default:
			break;
	}
}

void
project(const ProjectProfile *profiles, int nprofiles,
		const ProjectOperation *operations, int noperations,
		const ProjectQuestion *question, ProjectProfile *work,
		ProjectAnswer *answer)
{
	const ProjectProfile *profile = NULL;
	bool		holds;
	int			n = nprofiles;
	int			i;

	memset(answer, 0, sizeof(*answer));
	answer->depends_on = -1;
	if (nprofiles > 0)
		memcpy(work, profiles, sizeof(*work) * (size_t) nprofiles);

	if (question->profile != NULL)
		profile = find_profile(work, n, question->profile);
	holds = project_allowed(question, profile ? profile->state : RSP_STATE_NONE);

	for (i = 0; i < noperations; i++)
	{
		bool		held = holds;

		project_apply(work, &n, &operations[i]);
		if (question->profile == NULL)
			continue;
		profile = find_profile(work, n, question->profile);
		holds = project_allowed(question, profile ? profile->state : RSP_STATE_NONE);
		if (holds && !held)
			answer->depends_on = i;
	}

	answer->allowed = holds;
	if (!holds)
		answer->depends_on = -1;
	if (profile != NULL)
	{
		answer->state = profile->state;
		answer->fallback = profile->fallback;
		answer->only_enabled = (profile->state == RSP_STATE_ENABLED);
		for (i = 0; i < n && answer->only_enabled; i++)
		{
			if (&work[i] != profile && work[i].state == RSP_STATE_ENABLED)
				answer->only_enabled = false;
		}
	}
}

/* ------------------------------------------------------------------------
 * Subscriptions
 * ------------------------------------------------------------------------ */

static const char *const subscription_names[PROJECT_SUBSCRIPTION_COUNT] = {
	"", "NEW", "READY", "ACTIVE", "INACTIVE", "SCHEDULED"
};

const char *
project_subscription_name(ProjectSubscription status)
{
	return (unsigned) status < PROJECT_SUBSCRIPTION_COUNT ? subscription_names[status] : "";
}

bool
project_subscription_from_name(const char *name, ProjectSubscription *status)
{
	int			i;

	for (i = PROJECT_NEW; i < PROJECT_SUBSCRIPTION_COUNT; i++)
	{
		if (strcmp(name, subscription_names[i]) == 0)
		{
			*status = (ProjectSubscription) i;
			return true;
		}
	}
	return false;
}

/*
 * READY can be set from NEW only; NEW becomes READY or ACTIVE, once it is in a
 * fleet, and never comes back.  What it is already may be asked for again:
 * nothing happens then.  Where the status is not known, only what holds for all
 * of them is checked.
 */
ProjectRefusal
project_change_allowed(const ProjectChange *change, const ProjectSim *sim)
{
	bool		fleet = change->fleet || sim->fleet;

	if (sim->state == RSP_STATE_RESERVING)
		return PROJECT_RESERVING;
	if (!sim->known)
		return PROJECT_NOT_KNOWN;
	if (sim->status == PROJECT_SCHEDULED)
		return PROJECT_IS_SCHEDULED;
	switch (change->wanted)
	{
		case PROJECT_UNKNOWN:
			return PROJECT_ALLOWED;
		case PROJECT_READY:
			if (sim->status == PROJECT_ACTIVE || sim->status == PROJECT_INACTIVE)
				return PROJECT_WRONG_STATUS;
			break;
		case PROJECT_ACTIVE:
			break;
		case PROJECT_INACTIVE:
			return sim->status == PROJECT_NEW ? PROJECT_WRONG_STATUS : PROJECT_ALLOWED;
		default:
			return PROJECT_WRONG_STATUS;
	}
	if (!fleet && (sim->status == PROJECT_UNKNOWN || sim->status == PROJECT_NEW))
		return PROJECT_NO_FLEET;
	return PROJECT_ALLOWED;
}

void
project_apply_sim(ProjectSim *sim, const ProjectOperation *operation)
{
	ProjectProfile profile;
	int			n = 1;

	switch (operation->kind)
	{
		case RSP_SET_SUBSCRIPTION:
		case RSP_ASSIGN_FLEET:
			if (operation->wanted != PROJECT_UNKNOWN)
				sim->status = operation->wanted;
			if (operation->fleet)
				sim->fleet = true;
			break;
		default:
			if (!operation->has_profile)
				break;
			memset(&profile, 0, sizeof(profile));
			memcpy(profile.id, operation->profile, sizeof(profile.id));
			profile.state = sim->state;
			project_apply(&profile, &n, operation);
			sim->state = profile.state;
			/* both tell the ICCID */
			if (operation->kind == RSP_RESERVE || operation->kind == RSP_DOWNLOAD)
				sim->known = true;
			break;
	}
}

ProjectRefusal
project_sim(ProjectSim *sim, const ProjectOperation *operations, int noperations,
			const ProjectChange *change, int *depends_on)
{
	ProjectRefusal refusal = project_change_allowed(change, sim);
	int			i;

	*depends_on = -1;
	for (i = 0; i < noperations; i++)
	{
		bool		held = refusal == PROJECT_ALLOWED;

		project_apply_sim(sim, &operations[i]);
		refusal = project_change_allowed(change, sim);
		if (refusal == PROJECT_ALLOWED && !held)
			*depends_on = i;
	}
	if (refusal != PROJECT_ALLOWED)
		*depends_on = -1;
	return refusal;
}
