/*-------------------------------------------------------------------------
 *
 * json.h
 *	  jansson, made safe beside PostgreSQL.
 *
 * The server's executable exports a function json_object of its own, which
 * the dynamic linker would find first: calling jansson's would run it.  So
 * jansson.h is included only through this file, never beside
 * utils/builtins.h, and json_object() is another way to make an object.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ESIM_JSON_H
#define ESIM_JSON_H

#include <jansson.h>

#define json_object() rsp_json_object()

extern struct json_t *rsp_json_object(void);

#endif							/* ESIM_JSON_H */
