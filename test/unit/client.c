/*
 * client.c
 *		What the unit tests over HTTP share; see client.h.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "tap.h"

/* so long may one request take, even under valgrind */
#define PATIENCE_S 60

HttpLoop   *loop;
char		simulator_url[100];
char		dir[] = "/tmp/esim_unit_XXXXXX";

static pid_t simulator;

void
loop_start(int connections)
{
	char		error[200];

	loop = http_loop_create(connections, error, sizeof(error));
	if (loop == NULL)
		bail("%s", error);
}

HttpEndpoint *
endpoint_of(const HttpEndpointOptions *options)
{
	char		error[200];
	HttpEndpoint *endpoint = http_endpoint_create(options, error, sizeof(error));

	if (endpoint == NULL)
		bail("%s", error);
	return endpoint;
}

HttpRequest *
next_done(void)
{
	HttpRequest *request;
	struct timespec now;
	time_t		give_up;

	/* not time(): a test may have a wrong one */
	clock_gettime(CLOCK_MONOTONIC, &now);
	give_up = now.tv_sec + PATIENCE_S;
	http_loop_run(loop);
	while ((request = http_loop_next_done(loop)) == NULL)
	{
		struct pollfd poll_fd = {http_loop_fd(loop), POLLIN, 0};
		long		timeout = http_loop_timeout(loop);

		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec > give_up)
			bail("the loop does not end its requests");
		poll(&poll_fd, 1, timeout < 0 || timeout > 1000 ? 1000 : (int) timeout);
		http_loop_run(loop);
	}
	return request;
}

HttpRequest *
call_with(HttpEndpoint *endpoint, const char *method, const char *path, const char *type,
		  const char *body, bool asks)
{
	HttpRequest *request = http_request_create(endpoint, method, path, type, body,
											   body != NULL ? strlen(body) : 0, NULL);

	if (asks)
		http_request_asks_only(request);
	http_loop_submit(loop, request);
	if (next_done() != request)
		bail("another request than the one submitted");
	return request;
}

HttpRequest *
call(HttpEndpoint *endpoint, const char *method, const char *path, const char *body, bool asks)
{
	return call_with(endpoint, method, path, body != NULL ? "application/json" : NULL, body, asks);
}

bool
simulator_start(const char *option)
{
	const char *program = getenv("ESIM_RSPSIM");
	char		line[200];
	int			pipes[2];
	FILE	   *output;

	if (program == NULL)
		program = "../rsp/rspsim";
	if (access(program, X_OK) != 0)
		return false;
	if (pipe(pipes) != 0 || (simulator = fork()) < 0)
		abort();
	if (simulator == 0)
	{
		dup2(pipes[1], 1);
		close(pipes[0]);
		close(pipes[1]);
		execl(program, program, "--port=0", "--quiet", "--parent-watch", option, (char *) NULL);
		_exit(127);
	}
	close(pipes[1]);
	output = fdopen(pipes[0], "r");
	if (output == NULL || fgets(line, sizeof(line), output) == NULL ||
		sscanf(line, "rspsim listening on %99s", simulator_url) != 1)
		bail("the simulator does not start");
	fclose(output);
	atexit(simulator_stop);
	return true;
}

void
simulator_stop(void)
{
	if (simulator <= 0)
		return;
	kill(simulator, SIGTERM);
	waitpid(simulator, NULL, 0);
	simulator = 0;
}

void
scratch_make(void)
{
	if (mkdtemp(dir) == NULL)
		bail("%s", dir);
}

void
scratch_remove(void)
{
	shell("rm -rf %s", dir);
}

char *
path_of(const char *name)
{
	static char names[8][100];
	static int	n = 0;

	n = (n + 1) % 8;
	snprintf(names[n], sizeof(names[n]), "%s/%s", dir, name);
	return names[n];
}

char *
text_of(const char *front, const char *name)
{
	FILE	   *file = fopen(path_of(name), "r");
	char	   *text = calloc(1, 65536);
	size_t		length = strlen(front);

	if (file == NULL || text == NULL)
		bail("%s", name);
	strcpy(text, front);
	if (fread(text + length, 1, 65535 - length, file) == 0)
		bail("%s", name);
	fclose(file);
	return text;
}

void
shell(const char *format,...)
{
	char		command[1000];
	va_list		args;

	va_start(args, format);
	if (vsnprintf(command, sizeof(command), format, args) >= (int) sizeof(command))
		abort();
	va_end(args);
	if (system(command) != 0)
		bail("%s", command);
}
