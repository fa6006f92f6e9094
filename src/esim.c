/*-------------------------------------------------------------------------
 *
 * esim.c
 *	  Start-up of the library: settings, planner hooks, shared memory, the launcher.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include <limits.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "event/event.h"
#include "right/right.h"
#include "worker/worker.h"

ESIM_MODULE_MAGIC;

bool		esim_check_digits = true;
char	   *esim_default_server = NULL;
int			esim_lockout_guard = ESIM_LOCKOUT_WARNING;
int			esim_workers = 1;
int			esim_poll_interval_ms = 5000;
int			esim_max_in_flight = 256;
bool		esim_log_operations = false;
int			esim_retention_min = 90 * 24 * 60;
int			esim_max_pending_per_owner = 0;
char	   *esim_sink_allow = NULL;
bool		esim_sink_allow_private = false;
int			esim_sink_give_up_s = 3 * 24 * 3600;
char	   *esim_sink_ca_file = NULL;
char	   *esim_notify_channel = NULL;
char	   *esim_api_root = NULL;
char	   *esim_worker_role = NULL;
bool		esim_preloaded = false;

static const struct config_enum_entry lockout_guard_options[] = {
	{"off", ESIM_LOCKOUT_OFF, false},
	{"warning", ESIM_LOCKOUT_WARNING, false},
	{"error", ESIM_LOCKOUT_ERROR, false},
	{NULL, 0, false}
};

PGDLLEXPORT void _PG_init(void);

/* a channel that NOTIFY refuses would keep workers from writing outcomes */
static bool
check_notify_channel(char **newval, void **extra, GucSource source)
{
	if (strlen(*newval) < NAMEDATALEN)
		return true;
	GUC_check_errdetail("A channel has at most %d bytes.", NAMEDATALEN - 1);
	return false;
}

static void
define_settings(void)
{
	/* anyone */
	DefineCustomBoolVariable("esim.check_digits",
							 "Checks the check digits of EIDs and ICCIDs where they are read.",
							 "What already stands in a table of esim is accepted whatever its check digits.",
							 &esim_check_digits, true, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("esim.default_server",
							   "Server for devices and profiles that name none.",
							   NULL,
							   &esim_default_server, "", PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("esim.lockout_guard",
							 "What happens when an operation would disable or delete the only enabled profile of an eUICC.",
							 NULL,
							 &esim_lockout_guard, ESIM_LOCKOUT_WARNING, lockout_guard_options,
							 PGC_USERSET, 0, NULL, NULL, NULL);

	/* configuration file */
	DefineCustomIntVariable("esim.workers",
							"Number of background workers per database.",
							"0: none; operations stay queued.",
							&esim_workers, 1, 0, ESIM_SHARDS, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("esim.poll_interval",
							"Longest time between two looks of a worker at the queue.",
							"Operations wake the workers when their transaction commits; this is for what cannot, such as COMMIT PREPARED.",
							&esim_poll_interval_ms, 5000, 10, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("esim.max_in_flight",
							"Largest number of operations that one worker has in flight.",
							NULL,
							&esim_max_in_flight, 256, 1, 10000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("esim.log_operations",
							 "Logs the end of each operation.",
							 "Identifiers are cut to their last four characters.",
							 &esim_log_operations, false, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("esim.retention",
							"Age from which esim_prune() removes completed operations.",
							NULL,
							&esim_retention_min, 90 * 24 * 60, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MIN, NULL, NULL, NULL);
	DefineCustomIntVariable("esim.max_pending_per_owner",
							"Largest number of unfinished operations of one owner.",
							"0: no limit.",
							&esim_max_pending_per_owner, 0, 0, INT_MAX, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("esim.sink_allow",
							   "Hosts that sinks and callback URLs may name, separated by commas.",
							   "Such as example.com, *.example.com (all names below it), example.com:8443; empty: every public host.",
							   &esim_sink_allow, "", PGC_SIGHUP, 0, esim_check_sink_allow, NULL, NULL);
	DefineCustomBoolVariable("esim.sink_allow_private",
							 "Lets sinks and callback URLs be at private addresses.",
							 NULL,
							 &esim_sink_allow_private, false, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("esim.sink_give_up",
							"Time after which a notification that cannot be delivered is given up.",
							NULL,
							&esim_sink_give_up_s, 3 * 24 * 3600, 1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomStringVariable("esim.sink_ca_file",
							   "File with the certificate authorities of sinks and callback URLs.",
							   "In place of the system's; empty: the system's.",
							   &esim_sink_ca_file, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("esim.notify_channel",
							   "Channel on which workers notify of completed operations; empty: none.",
							   "The payload is the operation's identifier.",
							   &esim_notify_channel, "", PGC_SIGHUP, 0, check_notify_channel, NULL, NULL);
	DefineCustomStringVariable("esim.api_root",
							   "Root of the absolute URLs that the database gives out as a CAMARA API provider.",
							   NULL,
							   &esim_api_root, "", PGC_SIGHUP, 0, NULL, NULL, NULL);

	/* superuser */
	DefineCustomStringVariable("esim.worker_role",
							   "Role as which the background workers connect.",
							   "CREATE EXTENSION makes it if it is absent and grants it what a worker needs.",
							   &esim_worker_role, "esim_worker", PGC_SUSET, 0, NULL, NULL, NULL);

	MarkGUCPrefixReserved("esim");
}

/*
 * Loaded by shared_preload_libraries, or by the first call of a function.
 */
void
_PG_init(void)
{
	define_settings();
	esim_planner_install();
	esim_statement_install();

	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;

	esim_preloaded = true;
	esim_shmem_preload();
	esim_launcher_register();
}
