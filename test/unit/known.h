/*
 * known.h
 *		Identifiers at the server that esim's rows have: the worker tells from them
 *		which candidates of a driver nobody knows.
 */
#ifndef KNOWN_H
#define KNOWN_H

#include "rsp.h"

extern void forget_all(void);
extern void know(const char *id);

/* what the driver finds in memo, of the candidates of its turn */
extern void tell_unknown(const RspConversation *c);

#endif							/* KNOWN_H */
