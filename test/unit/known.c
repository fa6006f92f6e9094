/*
 * known.c
 *		Identifiers at the server that esim's rows have; see known.h.
 */
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "known.h"
#include "tap.h"

#define MAX_KNOWN 64

static char known[MAX_KNOWN][64];
static int	nknown;

void
forget_all(void)
{
	nknown = 0;
}

static bool
is_known(const char *id)
{
	int			i;

	for (i = 0; i < nknown; i++)
	{
		if (strcmp(known[i], id) == 0)
			return true;
	}
	return false;
}

void
know(const char *id)
{
	if (is_known(id))
		return;
	if (nknown == MAX_KNOWN)
		bail("more than %d identifiers", MAX_KNOWN);
	snprintf(known[nknown++], sizeof(known[0]), "%s", id);
}

void
tell_unknown(const RspConversation *c)
{
	json_t	   *unknown = json_array();
	size_t		i;

	for (i = 0; i < json_array_size(c->candidates); i++)
	{
		const char *id = json_string_value(json_array_get(c->candidates, i));

		if (!is_known(id))
			json_array_append_new(unknown, json_string(id));
	}
	json_object_set_new(c->op->memo, "unknown", unknown);
}
