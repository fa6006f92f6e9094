/*-------------------------------------------------------------------------
 *
 * twilio_event.h
 *	  What Super SIM sends to a CallbackUrl: fields of a form or of a query.
 *
 * The names of the fields are not documented for ESimProfiles, so what counts
 * is their shape.  A callback is a hint and no proof: whoever gets one asks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_TWILIO_EVENT_H
#define ESIM_TWILIO_EVENT_H

#include <stdbool.h>
#include <stddef.h>

/* "" where a field was not there, or not of the right shape */
typedef struct TwilioCallback
{
	char		profile_sid[35];	/* an ESimProfile: HP and 32 hexadecimal digits */
	char		sim_sid[35];	/* a Sim: HS... */
	char		account_sid[35];	/* AC... */
	char		operation[37];	/* our operation, out of the CallbackUrl */
	char		eid[33];
	char		iccid[21];
	char		status[32];		/* as it was sent */
	char		error_code[32];
	char		error_message[256];
	bool		ambiguous;		/* two different sids of one sort: none is kept */
} TwilioCallback;

/*
 * Takes one field by its name, for callers that have them apart.  Names are
 * compared without regard to case; NULL values are passed over.
 */
extern void twilio_callback_field(TwilioCallback *callback, const char *name,
								  const char *value);

/*
 * Takes a body of application/x-www-form-urlencoded, a query (with or without
 * its '?'), or a whole URL.  May be called for body and query in turn with one
 * callback, which must have been zeroed before the first.  false: the text is
 * no such thing; *reason (static text) says why, fields before the fault are
 * kept.
 */
extern bool twilio_callback(const char *form_or_query, size_t length,
							TwilioCallback *callback, const char **reason);

/* Is there anything that an operation or a profile can be found by? */
extern bool twilio_callback_usable(const TwilioCallback *callback);

#endif							/* ESIM_TWILIO_EVENT_H */
