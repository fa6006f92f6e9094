/*
 * client.h
 *		What the unit tests over HTTP share: the loop of the requests, the RSP
 *		simulator, files.
 */
#ifndef CLIENT_H
#define CLIENT_H

#include "http/http.h"

extern HttpLoop *loop;

extern void loop_start(int connections);

/* Either ends the test where it fails. */
extern HttpEndpoint *endpoint_of(const HttpEndpointOptions *options);
extern HttpRequest *next_done(void);	/* the next request that is over */

/* One request and its answer; the caller frees it.  The body is JSON. */
extern HttpRequest *call(HttpEndpoint *endpoint, const char *method, const char *path,
						 const char *body, bool asks);

/* The same with a body of another type. */
extern HttpRequest *call_with(HttpEndpoint *endpoint, const char *method, const char *path,
							  const char *type, const char *body, bool asks);

/*
 * Starts the simulator that ESIM_RSPSIM names, else ../rsp/rspsim.  false: there
 * is none.  option may be NULL.
 */
extern bool simulator_start(const char *option);
extern void simulator_stop(void);
extern char simulator_url[100];

/* a directory for files of the test, and its path */
extern void scratch_make(void);
extern void scratch_remove(void);
extern char dir[];

/* the path of a file in it; good for the next seven calls */
extern char *path_of(const char *name);

/* what such a file holds, with text in front; never freed */
extern char *text_of(const char *front, const char *name);

/* a shell command, which must not fail */
extern void shell(const char *format,...) __attribute__((format(printf, 1, 2)));

#endif							/* CLIENT_H */
