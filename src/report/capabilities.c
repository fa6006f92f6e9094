/*-------------------------------------------------------------------------
 *
 * capabilities.c
 *	  What servers can be asked for.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "operation/operation.h"

#define CAPABILITY_COLUMNS 5

static void
put(ReturnSetInfo *result, const char *server, const char *protocol, const char *kind,
	bool supported, const char *note)
{
	Datum		values[CAPABILITY_COLUMNS];
	bool		nulls[CAPABILITY_COLUMNS] = {false};

	values[0] = CStringGetTextDatum(server);
	values[1] = (Datum) 0;
	nulls[1] = protocol == NULL;
	if (protocol != NULL)
		values[1] = CStringGetTextDatum(protocol);
	values[2] = CStringGetTextDatum(kind);
	values[3] = BoolGetDatum(supported);
	values[4] = (Datum) 0;
	nulls[4] = note == NULL || note[0] == '\0';
	if (!nulls[4])
		values[4] = CStringGetTextDatum(note);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
put_server(ReturnSetInfo *result, const char *name)
{
	char	   *reason = NULL;
	EsimServer *server = esim_server_get(name, GetUserId(), false, &reason);
	const RspDriver *driver = NULL;
	const char *protocol = NULL;

	if (server != NULL)
	{
		protocol = rsp_protocol_name(server->rsp.protocol);
		driver = rsp_driver(server->rsp.protocol);
		if (driver == NULL)
			reason = psprintf("this release has no driver for protocol %s", protocol);
	}

	for (int kind = 0; kind < RSP_KIND_COUNT; kind++)
	{
		const char *note = reason;
		bool		supported = false;

		if (driver != NULL)
			supported = esim_server_can(server, (RspKind) kind, NULL, &note);
		put(result, name, protocol, rsp_kind_name((RspKind) kind), supported, note);
	}
	if (server != NULL)
		esim_server_release(server);
}

/*
 * esim_capabilities(server text?) setof (server, protocol, kind, supported,
 * note): one row per server and kind, all servers if none is named.  ES404 if
 * there is no such server.
 */
PG_FUNCTION_INFO_V1(esim_capabilities);
Datum
esim_capabilities(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *wanted = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool		found = false;
	List	   *names;
	ListCell   *cell;

	esim_look_after_worker();
	InitMaterializedSRF(fcinfo, 0);

	names = esim_server_names();
	foreach(cell, names)
	{
		const char *name = (const char *) lfirst(cell);

		if (wanted != NULL && strcmp(wanted, name) != 0)
			continue;
		found = true;
		put_server(result, name);
	}
	if (wanted != NULL && !found)
		ereport(ERROR,
				(errcode(ERRCODE_ESIM_NOT_FOUND),
				 errmsg("server \"%s\" does not exist", wanted),
				 esim_errdetail("NOT_FOUND", "No server of the foreign data wrapper esim_rsp has this name."),
				 errhint("SELECT DISTINCT server FROM esim_capabilities() names those that there are.")));

	return (Datum) 0;
}
