/*-------------------------------------------------------------------------
 *
 * choose.c
 *	  Which server carries out an operation.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "operation/operation.h"

static void
release_server(void *arg)
{
	esim_server_release(arg);
}

/* held until the current memory context goes */
static EsimServer *
get_server(const char *name, char **reason)
{
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));
	EsimServer *server = esim_server_get(name, InvalidOid, false, reason);

	if (server != NULL)
	{
		callback->func = release_server;
		callback->arg = server;
		MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	}
	return server;
}

bool
esim_server_can(const EsimServer *server, RspKind kind, const RspDriver **driver,
				const char **note)
{
	const RspDriver *its = rsp_driver(server->rsp.protocol);

	if (driver != NULL)
		*driver = its;
	*note = "";
	if (its == NULL)
	{
		*note = "This release has no driver for its protocol.";
		return false;
	}
	if (its->supports(server->rsp.dialect, kind, note))
		return true;
	/* what lists one eUICC at a time is asked about each */
	if (kind == RSP_SYNC && its->supports(server->rsp.dialect, RSP_REFRESH, note))
	{
		*note = "queues a refresh of each registered device";
		return true;
	}
	(void) its->supports(server->rsp.dialect, kind, note);
	return false;
}

/* The servers that can do it, by name; *only is one of them. */
static char *
candidates(RspKind kind, int *count, char **only)
{
	StringInfoData names;
	ListCell   *lc;

	*count = 0;
	*only = NULL;
	initStringInfo(&names);
	foreach(lc, esim_server_names())
	{
		char	   *name = lfirst(lc);
		char	   *reason;
		const char *note;
		EsimServer *server = get_server(name, &reason);

		if (server == NULL || !esim_server_can(server, kind, NULL, &note))
			continue;
		appendStringInfo(&names, "%s\"%s\"", *count > 0 ? ", " : "", name);
		(*count)++;
		*only = name;
	}
	return names.data;
}

/* Naming a server needs USAGE on it. */
static bool
may_use(EsimServer *server, Oid caller)
{
	return DatumGetBool(DirectFunctionCall3(has_server_privilege_id_id,
											ObjectIdGetDatum(caller),
											ObjectIdGetDatum(server->serverid),
											PointerGetDatum(cstring_to_text("USAGE"))));
}

static void
choose(EsimRequest *request, EsimChoice *choice)
{
	RspKind		kind = request->kind->kind;
	const char *kind_name = rsp_kind_name(kind);
	const char *name;
	bool		named = false;
	char	   *reason;
	const char *note;
	EsimServer *server = NULL;
	int			count;
	char	   *only;
	char	   *names;

	if (request->server != NULL)
	{
		name = request->server;
		named = !request->own_server;
	}
	else if (choice->asked != NULL &&
			 (!choice->optional ||
			  ((server = get_server(choice->asked, &reason)) != NULL &&
			   esim_server_can(server, kind, NULL, &note))))
	{
		name = choice->asked;
		named = kind == RSP_SYNC && !request->own_server;
	}
	else if (esim_default_server != NULL && esim_default_server[0] != '\0')
	{
		name = esim_default_server;
		named = true;
	}
	else
	{
		names = candidates(kind, &count, &only);
		if (count == 0)
		{
			choice->failure =
				esim_failure("UNAVAILABLE",
							 psprintf("no server can carry out \"%s\"", kind_name),
							 pstrdup("There is no server of esim_rsp whose protocol has it."),
							 pstrdup("Run CREATE SERVER ... FOREIGN DATA WRAPPER esim_rsp."));
			return;
		}
		if (count > 1)
		{
			choice->failure =
				esim_failure("UNAVAILABLE",
							 psprintf("more than one server can carry out \"%s\"", kind_name),
							 psprintf("They are %s.", names),
							 request->kind->lane == ESIM_LANE_EUICC ?
							 pstrdup("Set the device's server or esim.default_server, or name one in the parameter server.") :
							 pstrdup("Set esim.default_server, or name one in the parameter server."));
			return;
		}
		name = only;
	}

	server = get_server(name, &reason);
	if (server == NULL)
	{
		choice->failure =
			esim_failure("UNAVAILABLE",
						 psprintf("server \"%s\" cannot be used", name),
						 psprintf("The %s.", reason),
						 pstrdup("Name a server of esim_rsp."));
		return;
	}
	if (named && !may_use(server, request->caller))
	{
		choice->failure =
			esim_failure("PERMISSION_DENIED",
						 psprintf("permission denied for server \"%s\"", name),
						 pstrdup("Naming a server needs the privilege USAGE on it."),
						 psprintf("Run GRANT USAGE ON FOREIGN SERVER %s.",
								  quote_identifier(name)));
		return;
	}
	if (!esim_server_can(server, kind, &choice->driver, &note))
	{
		names = candidates(kind, &count, &only);
		choice->failure =
			esim_failure("SERVICE_NOT_APPLICABLE",
						 psprintf("server \"%s\" cannot carry out \"%s\"", name, kind_name),
						 note[0] != '\0' ? psprintf("%s%s", note, note[strlen(note) - 1] == '.' ? "" : ".") :
						 psprintf("Its protocol is %s.",
								  rsp_protocol_name(server->rsp.protocol)),
						 count > 0 ? psprintf("Servers that can: %s.", names) :
						 pstrdup("No server of esim_rsp here can."));
		return;
	}
	choice->server = server;
}

const EsimChoice *
esim_choose_server(EsimRequest *request, const char *asked, bool optional)
{
	EsimChoice *choice;

	for (choice = request->choices; choice != NULL; choice = choice->next)
	{
		if (choice->optional == optional &&
			(choice->asked == NULL ? asked == NULL :
			 asked != NULL && strcmp(choice->asked, asked) == 0))
			return choice;
	}
	choice = palloc0(sizeof(EsimChoice));
	choice->asked = asked ? pstrdup(asked) : NULL;
	choice->optional = optional;
	choose(request, choice);
	choice->next = request->choices;
	request->choices = choice;
	return choice;
}
