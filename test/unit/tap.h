/*
 * tap.h
 *		Counts and prints the points of a unit test as TAP.
 */
#ifndef TAP_H
#define TAP_H

#include <stdbool.h>

/* A point and its name, to the letter or as a format; both return good. */
extern bool ok(bool good, const char *name);
extern bool check(bool good, const char *format,...) __attribute__((format(printf, 2, 3)));

/* A point that cannot be looked at here. */
extern void skip(const char *name, const char *why);

/* The whole program cannot run here; to be returned by main(). */
extern int	skip_all(const char *why);

/* The number of points so far. */
extern int	points(void);

/* The test cannot go on. */
extern void bail(const char *format,...) __attribute__((format(printf, 1, 2), noreturn));

/* The plan; to be returned by main(). */
extern int	finish(void);

#endif							/* TAP_H */
