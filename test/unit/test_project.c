/*-------------------------------------------------------------------------
 *
 * test_project.c
 *	  Unit tests of the preconditions, cell by cell, and of the projected
 *	  state; prints TAP.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/operation/project.h"
#include "tap.h"


/* ------------------------------------------------------------------------
 * Cells
 * ------------------------------------------------------------------------ */

/*
 * A letter per state in the order of RspState: none, RESERVING, RESERVED,
 * RELEASED, DOWNLOADED, INSTALLED, DISABLED, ENABLED, DELETED, CANCELLED,
 * FAILED.  x: allowed.
 */
static const struct
{
	RspKind		kind;
	const RspDriver *driver;
	bool		redownload;
	const char *cells;
}			table[] = {
	{RSP_DOWNLOAD, &rsp_camara, false, "x.xx......."},
	{RSP_DOWNLOAD, &rsp_camara, true, "x.xx....x.."},
	{RSP_DOWNLOAD, NULL, false, "x.xx......."},
	{RSP_ENABLE, &rsp_camara, false, ".....xx...."},
	{RSP_ENABLE, NULL, true, ".....xx...."},
	{RSP_DISABLE, &rsp_camara, false, ".....x.x..."},
	{RSP_DISABLE, NULL, false, ".....x.x..."},
	{RSP_DELETE, &rsp_camara, false, ".....xxx..."},
	{RSP_DELETE, NULL, false, ".....xxx..."},
	{RSP_SET_FALLBACK, &rsp_camara, false, ".....xx...."},
	{RSP_SET_FALLBACK, &rsp_eim, false, ".....xxx..."},
	{RSP_SET_FALLBACK, NULL, false, ".....xxx..."},
	{RSP_DELETE, &rsp_eim, false, ".....xxx..."},
	{RSP_UNSET_FALLBACK, NULL, false, "xxxxxxxxxxx"},
	{RSP_REFRESH, &rsp_camara, false, "xxxxxxxxxxx"},
	{RSP_RESERVE, NULL, false, "xx........."},
	{RSP_RELEASE, NULL, false, "..x........"},
	{RSP_CANCEL_ORDER, NULL, false, "..xx......x"},
	{RSP_SET_SUBSCRIPTION, NULL, false, "xxxxxxxxxxx"},
	{RSP_ASSIGN_FLEET, NULL, false, "xxxxxxxxxxx"},
	{RSP_FLEET_CREATE, NULL, false, "xxxxxxxxxxx"},
	{RSP_SYNC, NULL, false, "xxxxxxxxxxx"},
};

static void
test_cells(void)
{
	char		name[120];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
	{
		for (int state = 0; state < RSP_STATE_COUNT; state++)
		{
			ProjectQuestion question = {
				.kind = table[i].kind, .driver = table[i].driver, .redownload = table[i].redownload
			};
			bool		expected = table[i].cells[state] == 'x';

			snprintf(name, sizeof(name), "%s (%s%s) from %s: %s", rsp_kind_name(table[i].kind),
					 table[i].driver ? table[i].driver->name : "no driver", table[i].redownload ? ", redownload" : "",
					 state == RSP_STATE_NONE ? "nothing" : rsp_state_name((RspState) state),
					 expected ? "allowed" : "refused");
			ok(project_allowed(&question, (RspState) state) == expected, name);
		}
	}
	ok(!project_allowed(&(ProjectQuestion) {.kind = RSP_KIND_COUNT}, RSP_STATE_ENABLED) &&
	   !project_allowed(&(ProjectQuestion) {.kind = RSP_ENABLE}, RSP_STATE_COUNT),
	   "out of range is refused");
}

static void
test_words(void)
{
	char		buffer[160];
	char		small[12];
	ProjectQuestion question = {.kind = RSP_ENABLE};

	ok(strcmp(project_allowed_states(&question, buffer, sizeof(buffer)), "DISABLED or INSTALLED") == 0,
	   "two states in words");
	question.kind = RSP_DELETE;
	ok(strcmp(project_allowed_states(&question, buffer, sizeof(buffer)),
			  "DISABLED, ENABLED or INSTALLED") == 0, "three states in words");
	question.kind = RSP_RELEASE;
	ok(strcmp(project_allowed_states(&question, buffer, sizeof(buffer)), "RESERVED") == 0,
	   "one state in words");
	question.kind = RSP_REFRESH;
	project_allowed_states(&question, small, sizeof(small));
	ok(strlen(small) < sizeof(small), "a short buffer is not overrun");
}

/* ------------------------------------------------------------------------
 * Folding
 * ------------------------------------------------------------------------ */

#define A 1
#define B 2
#define C 3

static ProjectProfile profiles[8];
static ProjectOperation operations[8];
static ProjectProfile work[20];
static ProjectAnswer answer;

static void
id_of(uint8_t id[16], int n)
{
	memset(id, 0, 16);
	id[15] = (uint8_t) n;
}

static void
profile(int i, int n, RspState state, bool fallback, int port)
{
	memset(&profiles[i], 0, sizeof(profiles[i]));
	id_of(profiles[i].id, n);
	profiles[i].state = state;
	profiles[i].fallback = fallback;
	profiles[i].port = port;
}

static void
operation(int i, RspKind kind, int n, bool flag)
{
	memset(&operations[i], 0, sizeof(operations[i]));
	id_of(operations[i].id, 100 + i);
	operations[i].seq = i + 1;
	operations[i].kind = kind;
	operations[i].has_profile = n != 0;
	id_of(operations[i].profile, n);
	operations[i].flag = flag;
}

static void
ask(RspKind kind, int n, int nprofiles, int noperations, bool redownload)
{
	uint8_t		id[16];
	ProjectQuestion question = {.kind = kind, .redownload = redownload, .driver = &rsp_camara};

	id_of(id, n);
	if (n != 0)
		question.profile = id;
	project(profiles, nprofiles, operations, noperations, &question, work, &answer);
}

static bool
is(bool allowed, RspState state, int depends_on)
{
	return answer.allowed == allowed && answer.state == state && answer.depends_on == depends_on;
}

static void
test_fold(void)
{
	profile(0, A, RSP_STATE_DISABLED, false, 0);
	profile(1, B, RSP_STATE_ENABLED, true, 0);

	ask(RSP_ENABLE, A, 2, 0, false);
	ok(is(true, RSP_STATE_DISABLED, -1), "nothing ahead: no dependency");
	ask(RSP_ENABLE, B, 2, 0, false);
	ok(is(false, RSP_STATE_ENABLED, -1), "nothing ahead: refused in its state");
	ask(RSP_ENABLE, C, 2, 0, false);
	ok(is(false, RSP_STATE_NONE, -1), "not on the eUICC");

	operation(0, RSP_ENABLE, A, false);
	ask(RSP_ENABLE, A, 2, 1, false);
	ok(is(false, RSP_STATE_ENABLED, -1), "enable behind its enable");
	ask(RSP_ENABLE, B, 2, 1, false);
	ok(is(true, RSP_STATE_DISABLED, 0), "enable of the one that another enable disables depends on it");
	ask(RSP_DELETE, B, 2, 1, false);
	ok(is(true, RSP_STATE_DISABLED, -1), "delete is allowed before and behind: no dependency");
	ask(RSP_SET_FALLBACK, B, 2, 1, false);
	ok(is(true, RSP_STATE_DISABLED, 0), "set-fallback (camara) behind the enable of another");

	operation(0, RSP_DOWNLOAD, C, false);
	operation(1, RSP_ENABLE, C, false);
	operation(2, RSP_SET_FALLBACK, A, false);
	ask(RSP_ENABLE, C, 2, 1, false);
	ok(is(true, RSP_STATE_DISABLED, 0), "enable behind its download");
	ask(RSP_DISABLE, C, 2, 2, false);
	ok(is(true, RSP_STATE_ENABLED, 1), "disable behind download and enable depends on the enable");
	ask(RSP_DELETE, C, 2, 3, false);
	ok(is(true, RSP_STATE_ENABLED, 0), "delete behind download and enable depends on the download");
	ask(RSP_ENABLE, B, 2, 3, false);
	ok(is(true, RSP_STATE_DISABLED, 1), "a download and enable of C disables B");
	ask(RSP_DELETE, A, 2, 3, false);
	ok(answer.fallback, "the mark has moved to A");
	ask(RSP_DELETE, B, 2, 3, false);
	ok(!answer.fallback, "and away from B");

	operation(0, RSP_DOWNLOAD, C, true);
	ask(RSP_ENABLE, C, 2, 1, false);
	ok(is(false, RSP_STATE_ENABLED, -1), "activate_on_download: ENABLED behind it");
	ask(RSP_ENABLE, B, 2, 1, false);
	ok(is(true, RSP_STATE_DISABLED, 0), "activate_on_download disables the other of the port");

	operation(0, RSP_DELETE, A, false);
	ask(RSP_ENABLE, A, 2, 1, false);
	ok(is(false, RSP_STATE_DELETED, -1), "nothing behind a delete");
	ask(RSP_DOWNLOAD, A, 2, 1, false);
	ok(is(false, RSP_STATE_DELETED, -1), "download behind its delete: not to be downloaded again");
	ask(RSP_DOWNLOAD, A, 2, 1, true);
	ok(is(true, RSP_STATE_DELETED, 0), "download behind its delete depends on it");
	operation(1, RSP_DOWNLOAD, A, false);
	ask(RSP_ENABLE, A, 2, 2, true);
	ok(is(true, RSP_STATE_DISABLED, 1), "enable behind delete and download depends on the download");

	operation(0, RSP_REFRESH, 0, false);
	ask(RSP_ENABLE, A, 2, 1, false);
	ok(is(true, RSP_STATE_DISABLED, -1), "a refresh changes nothing");
	ask(RSP_REFRESH, 0, 2, 1, false);
	ok(answer.allowed && answer.depends_on == -1, "a refresh is always allowed");

	operation(0, RSP_DISABLE, B, false);
	operation(1, RSP_ENABLE, B, false);
	operation(2, RSP_DISABLE, B, false);
	ask(RSP_ENABLE, B, 2, 3, false);
	ok(is(true, RSP_STATE_DISABLED, 2), "the last one that makes it hold counts");

	profile(1, B, RSP_STATE_ENABLED, false, 1);
	operation(0, RSP_ENABLE, A, false);
	ask(RSP_ENABLE, B, 2, 1, false);
	ok(is(false, RSP_STATE_ENABLED, -1), "ports do not disable each other");
	profile(1, B, RSP_STATE_INSTALLED, false, 0);
	ask(RSP_DISABLE, B, 2, 1, false);
	ok(is(true, RSP_STATE_INSTALLED, -1), "INSTALLED stays INSTALLED: enabled or not is unknown");

	profile(0, A, RSP_STATE_DISABLED, true, 0);
	profile(1, B, RSP_STATE_ENABLED, false, 0);
	operation(0, RSP_UNSET_FALLBACK, 0, false);
	ask(RSP_DELETE, A, 2, 1, false);
	ok(!answer.fallback, "unset-fallback takes the mark");

	profile(0, A, RSP_STATE_RESERVED, false, 0);
	operation(0, RSP_RELEASE, A, false);
	ask(RSP_RELEASE, A, 1, 1, false);
	ok(is(false, RSP_STATE_RELEASED, -1), "release behind its release");
	ask(RSP_DOWNLOAD, A, 1, 1, false);
	ok(is(true, RSP_STATE_RELEASED, -1), "download from RESERVED and RELEASED: no dependency");
	profile(0, A, RSP_STATE_RESERVING, false, 0);
	operation(0, RSP_RESERVE, A, true);
	ask(RSP_DOWNLOAD, A, 1, 0, false);
	ok(is(false, RSP_STATE_RESERVING, -1), "download from RESERVING is refused");
	ask(RSP_DOWNLOAD, A, 1, 1, false);
	ok(is(true, RSP_STATE_RELEASED, 0), "but not behind its reserve");
	operation(1, RSP_CANCEL_ORDER, A, false);
	ask(RSP_DOWNLOAD, A, 1, 2, false);
	ok(is(false, RSP_STATE_CANCELLED, -1), "nor behind its cancel-order");
}

static void
test_lockout(void)
{
	profile(0, A, RSP_STATE_DISABLED, false, 0);
	profile(1, B, RSP_STATE_ENABLED, false, 0);
	ask(RSP_DISABLE, B, 2, 0, false);
	ok(answer.only_enabled, "the only enabled profile");
	operation(0, RSP_ENABLE, A, false);
	ask(RSP_DELETE, B, 2, 1, false);
	ok(!answer.only_enabled, "not any more behind the enable of another");
	ask(RSP_DELETE, A, 2, 1, false);
	ok(answer.only_enabled, "that is the only one then");
	profile(0, A, RSP_STATE_ENABLED, false, 1);
	ask(RSP_DISABLE, B, 2, 0, false);
	ok(!answer.only_enabled, "another port is enabled");
}

/* ------------------------------------------------------------------------
 * Subscriptions
 * ------------------------------------------------------------------------ */

/*
 * A letter per status in the order of ProjectSubscription: unknown, NEW, READY,
 * ACTIVE, INACTIVE, SCHEDULED.  x: allowed, f: needs a fleet, w: wrong status,
 * s: scheduled.
 */
static const struct
{
	ProjectSubscription wanted;
	const char *cells;
}			changes[] = {
	{PROJECT_UNKNOWN, "xxxxxs"},
	{PROJECT_NEW, "wwwwws"},
	{PROJECT_READY, "ffxwws"},
	{PROJECT_ACTIVE, "ffxxxs"},
	{PROJECT_INACTIVE, "xwxxxs"},
	{PROJECT_SCHEDULED, "wwwwws"},
};

static void
test_changes(void)
{
	static const char letters[] = {
		[PROJECT_ALLOWED] = 'x', [PROJECT_RESERVING] = 'r', [PROJECT_NOT_KNOWN] = 'k',
		[PROJECT_IS_SCHEDULED] = 's', [PROJECT_NO_FLEET] = 'f', [PROJECT_WRONG_STATUS] = 'w'
	};
	char		name[120];

	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
	{
		for (int status = 0; status < PROJECT_SUBSCRIPTION_COUNT; status++)
		{
			ProjectChange change = {.wanted = changes[i].wanted};
			ProjectSim	sim = {
				.state = RSP_STATE_ENABLED, .known = true, .status = (ProjectSubscription) status
			};
			char		expected = changes[i].cells[status];

			snprintf(name, sizeof(name), "subscription from %s to %s: %c",
					 project_subscription_name(sim.status),
					 project_subscription_name(change.wanted), expected);
			ok(letters[project_change_allowed(&change, &sim)] == expected, name);
			if (expected != 'f')
				continue;
			change.fleet = true;
			ok(project_change_allowed(&change, &sim) == PROJECT_ALLOWED, "with a fleet it is allowed");
			change.fleet = false;
			sim.fleet = true;
			ok(project_change_allowed(&change, &sim) == PROJECT_ALLOWED, "in a fleet it is allowed");
			sim.known = false;
			ok(project_change_allowed(&change, &sim) == PROJECT_NOT_KNOWN, "not while nothing is known of it");
			sim.state = RSP_STATE_RESERVING;
			ok(project_change_allowed(&change, &sim) == PROJECT_RESERVING, "not while the profile is RESERVING");
		}
	}
}

static ProjectRefusal
change_sim(RspState state, bool known, ProjectSubscription status, bool fleet, int noperations,
		   ProjectSubscription wanted, int *depends_on)
{
	ProjectSim	sim = {.state = state, .known = known, .status = status, .fleet = fleet};
	ProjectChange change = {.wanted = wanted};

	return project_sim(&sim, operations, noperations, &change, depends_on);
}

static void
test_sims(void)
{
	ProjectSubscription status;
	int			depends_on;

	ok(project_subscription_from_name("SCHEDULED", &status) && status == PROJECT_SCHEDULED &&
	   !project_subscription_from_name("", &status) && !project_subscription_from_name("active", &status),
	   "names of statuses");

	operation(0, RSP_RESERVE, A, true);
	operation(1, RSP_ASSIGN_FLEET, A, false);
	operations[1].fleet = true;
	operation(2, RSP_SET_SUBSCRIPTION, A, false);
	operations[2].wanted = PROJECT_ACTIVE;
	ok(change_sim(RSP_STATE_RESERVING, false, PROJECT_UNKNOWN, false, 0, PROJECT_INACTIVE, &depends_on) ==
	   PROJECT_RESERVING && depends_on == -1, "nothing reserves it");
	ok(change_sim(RSP_STATE_RESERVING, false, PROJECT_UNKNOWN, false, 1, PROJECT_INACTIVE, &depends_on) ==
	   PROJECT_ALLOWED && depends_on == 0, "it depends on the reservation");
	ok(change_sim(RSP_STATE_RESERVING, true, PROJECT_UNKNOWN, false, 1, PROJECT_INACTIVE, &depends_on) ==
	   PROJECT_ALLOWED && depends_on == 0, "also where the ICCID is known");
	ok(change_sim(RSP_STATE_RESERVING, false, PROJECT_UNKNOWN, false, 1, PROJECT_ACTIVE, &depends_on) ==
	   PROJECT_NO_FLEET && depends_on == -1, "a reservation assigns no fleet");
	ok(change_sim(RSP_STATE_RESERVING, false, PROJECT_UNKNOWN, false, 2, PROJECT_ACTIVE, &depends_on) ==
	   PROJECT_ALLOWED && depends_on == 1, "the assignment of a fleet does");
	ok(change_sim(RSP_STATE_ENABLED, true, PROJECT_NEW, true, 0, PROJECT_READY, &depends_on) ==
	   PROJECT_ALLOWED && depends_on == -1, "nothing ahead: no dependency");
	ok(change_sim(RSP_STATE_ENABLED, true, PROJECT_NEW, true, 3, PROJECT_READY, &depends_on) ==
	   PROJECT_WRONG_STATUS, "READY behind ACTIVE is refused");
	ok(change_sim(RSP_STATE_ENABLED, true, PROJECT_NEW, true, 3, PROJECT_INACTIVE, &depends_on) ==
	   PROJECT_ALLOWED && depends_on == 2, "INACTIVE depends on what leads away from NEW");
	ok(change_sim(RSP_STATE_ENABLED, true, PROJECT_SCHEDULED, true, 3, PROJECT_INACTIVE, &depends_on) ==
	   PROJECT_ALLOWED && depends_on == 2, "what an operation ahead has scheduled ends as that wants it");

	operation(0, RSP_DOWNLOAD, A, false);
	operations[0].by_device = true;
	ok(change_sim(RSP_STATE_RELEASED, false, PROJECT_UNKNOWN, true, 1, PROJECT_ACTIVE, &depends_on) ==
	   PROJECT_ALLOWED && depends_on == 0, "a download tells the ICCID, too");
	profile(0, A, RSP_STATE_RELEASED, false, 0);
	ask(RSP_ENABLE, A, 1, 1, false);
	ok(is(true, RSP_STATE_INSTALLED, 0), "what the device fetches by itself is INSTALLED");
	ask(RSP_DISABLE, A, 1, 1, false);
	ok(is(true, RSP_STATE_INSTALLED, 0), "and may be enabled");
}

int
main(void)
{
	test_cells();
	test_words();
	test_fold();
	test_lockout();
	test_changes();
	test_sims();
	return finish();
}
