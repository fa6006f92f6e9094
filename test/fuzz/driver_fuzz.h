/*
 * driver_fuzz.h
 *		What the fuzzers of the RSP drivers share: a worker that gives arbitrary
 *		answers.
 *
 * The input begins with bytes that the fuzzer of the driver reads for itself.
 * Then come answers: one byte for the outcome (255: the worker crashes instead),
 * two for the status, two for the length of the body, the body.  A body that
 * begins with '!', or another mark of the fuzzer's own, is replaced by one that
 * makes sense, so that the later steps are reached as well.
 */
#ifndef DRIVER_FUZZ_H
#define DRIVER_FUZZ_H

#include "fuzz.h"
#include "json.h"
#include "rsp.h"

typedef struct Input
{
	const uint8_t *at;
	size_t		left;
} Input;

/* 0 behind the end */
extern unsigned next_byte(Input *input);

typedef struct DriverFuzz
{
	const RspDriver *driver;
	int			steps;			/* at most */
	const char *marks;			/* first bytes of bodies that are replaced */

	/* What must hold of an action beside what holds at every driver. */
	void		(*sound) (const RspConversation *c);

	/*
	 * A body that makes sense for the request that is under way, from malloc();
	 * choice and mark come from the input, rest is what else it has for the
	 * body.  Status, outcome and location may be set, too.
	 */
	char	   *(*sensible) (const RspConversation *c, unsigned choice, char mark,
							 const Input *rest, HttpAnswer *answer);

	/* NULL, or called before the driver sees the answer */
	void		(*answering) (const RspConversation *c, const HttpAnswer *answer);
} DriverFuzz;

/* fills in what every driver needs */
extern void fuzz_setup(const DriverFuzz *fuzz, RspServer *server, RspOperation *op);

/* runs the operation to its end, or that of the input, and frees it */
extern void fuzz_run(const DriverFuzz *fuzz, RspServer *server, RspOperation *op, Input *input);

#endif							/* DRIVER_FUZZ_H */
