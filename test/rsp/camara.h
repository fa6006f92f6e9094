/*
 * camara.h
 *		What the two files of the CAMARA dialects share.
 */
#ifndef RSPSIM_CAMARA_H
#define RSPSIM_CAMARA_H

#include "rspsim.h"

typedef enum Dialect
{
	DIALECT_2026_02,
	DIALECT_R12
} Dialect;

/* the first five are the kinds of operation */
typedef enum Endpoint
{
	ENDPOINT_STATUS = KINDS,
	ENDPOINT_OPERATION,
	ENDPOINT_NONE
} Endpoint;

/* A request body after validation; the pointers point into the JSON. */
typedef struct CamaraBody
{
	bool		has_eid;
	bool		has_iccid;
	Id			eid;
	Id			iccid;
	const char *activation_code;
	const char *sink;
	bool		activate;
} CamaraBody;

extern bool camara_correlator_valid(Dialect dialect, const char *correlator);
extern bool camara_operation_id_valid(Dialect dialect, const char *id);
extern bool camara_body_valid(Dialect dialect, int endpoint, json_t *json, CamaraBody *body,
							  char *error, size_t size);

#endif							/* RSPSIM_CAMARA_H */
