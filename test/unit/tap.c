/*
 * tap.c
 *		Counts and prints the points of a unit test as TAP.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tap.h"

static int	tests = 0;
static int	failed = 0;

/* does it say that the point does not count? */
static bool
is_directive(const char *text)
{
	if (*text++ != '#')
		return false;
	text += strspn(text, " ");
	return strncasecmp(text, "skip", 4) == 0 || strncasecmp(text, "todo", 4) == 0;
}

/* The name becomes one line of ASCII. */
bool
ok(bool good, const char *name)
{
	printf("%sok %d - ", good ? "" : "not ", ++tests);
	for (; *name != '\0'; name++)
		putchar(*name >= 0x20 && *name < 0x7f && !is_directive(name) ? *name : '?');
	putchar('\n');
	/* before a crash, and not once more by a child */
	fflush(stdout);
	if (!good)
		failed++;
	return good;
}

bool
check(bool good, const char *format,...)
{
	char		name[500];
	va_list		args;

	va_start(args, format);
	vsnprintf(name, sizeof(name), format, args);
	va_end(args);
	return ok(good, name);
}

void
skip(const char *name, const char *why)
{
	printf("ok %d - %s # SKIP %s\n", ++tests, name, why);
	fflush(stdout);
}

int
skip_all(const char *why)
{
	printf("1..0 # SKIP %s\n", why);
	return 0;
}

int
points(void)
{
	return tests;
}

void
bail(const char *format,...)
{
	va_list		args;

	printf("Bail out! ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	exit(1);
}

int
finish(void)
{
	printf("1..%d\n", tests);
	if (failed > 0)
		printf("# %d of %d failed\n", failed, tests);
	return failed > 0;
}
