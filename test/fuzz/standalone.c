/*
 * standalone.c
 *		A fuzzer without libFuzzer.
 *
 * With names of files it runs them, for instance to repeat a crash or under
 * valgrind; directories and other options of libFuzzer's are passed over.  With
 * -max_total_time=SECONDS it makes up inputs for so long; one that crashes or
 * hangs is kept in the file crash-standalone.
 */
#include <dirent.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

#define MAX_SIZE 4096
#define TIMEOUT_S 10				/* of one input */

/* what the sanitizers find ends as what MUST() finds does */
extern const char *__asan_default_options(void);
extern const char *__ubsan_default_options(void);

const char *
__asan_default_options(void)
{
	return "abort_on_error=1";
}

const char *
__ubsan_default_options(void)
{
	return "abort_on_error=1:print_stacktrace=1";
}

static uint8_t data[MAX_SIZE];
static size_t size;
static uint64_t seed;

static unsigned
draw(unsigned n)
{
	/* xorshift64* */
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (unsigned) ((seed * UINT64_C(2685821657736338717)) >> 33) % n;
}

/* a copy of the exact size: a step beyond its end shows */
static void
run(const uint8_t *from, size_t length)
{
	uint8_t    *copy = malloc(length > 0 ? length : 1);

	MUST(copy != NULL);
	memcpy(copy, from, length);
	alarm(TIMEOUT_S);
	LLVMFuzzerTestOneInput(copy, length);
	free(copy);
}

static void
run_file(const char *path)
{
	FILE	   *file = fopen(path, "rb");
	uint8_t    *text = NULL;
	size_t		room = 0;
	size_t		length = 0;
	size_t		n;

	if (file == NULL)
	{
		perror(path);
		exit(1);
	}
	do
	{
		if (length == room)
		{
			room = room * 2 + 65536;
			text = realloc(text, room);
			MUST(text != NULL);
		}
		n = fread(text + length, 1, room - length, file);
		length += n;
	} while (n > 0);
	fclose(file);
	run(text, length);
	free(text);
}

/* Bytes, a lot of them digits and marks, or a change of the last input. */
static void
make_up(void)
{
	static const char common[] = "!!!!????\xff\xff\0\0\0\0\0\x04$$::{}[]\",089AFfL18";
	size_t		i;

	if (size == 0 || draw(3) == 0)
	{
		size = draw(draw(8) ? 256 : MAX_SIZE) + 1;
		for (i = 0; i < size; i++)
			data[i] = draw(2) ? (uint8_t) draw(256) : (uint8_t) common[draw(sizeof(common) - 1)];
		return;
	}
	for (i = draw(8) + 1; i > 0; i--)
		data[draw(size)] = draw(2) ? (uint8_t) draw(256) :
			(uint8_t) common[draw(sizeof(common) - 1)];
}

static void
keep(int signal_number)
{
	FILE	   *file = fopen("crash-standalone", "wb");

	if (file != NULL)
	{
		fwrite(data, 1, size, file);
		fclose(file);
	}
	signal(signal_number, SIG_DFL);
	raise(signal_number);
}

int
main(int argc, char **argv)
{
	long		seconds = 0;
	long		runs = 0;
	time_t		end;
	int			i;

	for (i = 1; i < argc; i++)
	{
		DIR		   *directory = opendir(argv[i]);

		if (directory != NULL)
			closedir(directory);
		else if (strncmp(argv[i], "-max_total_time=", 16) == 0)
			seconds = strtol(argv[i] + 16, NULL, 10);
		else if (argv[i][0] != '-')
			run_file(argv[i]);
	}
	seed = (uint64_t) time(NULL) << 16 | (uint64_t) getpid();
	signal(SIGABRT, keep);
	signal(SIGALRM, keep);
	for (end = time(NULL) + seconds; time(NULL) < end; runs++)
	{
		make_up();
		run(data, size);
	}
	printf("%ld inputs made up\n", runs);
	return 0;
}
