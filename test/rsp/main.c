/*
 * main.c
 *		rspsim, a simulator of Remote SIM Provisioning platforms: options and
 *		event loop.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "rspsim.h"

#define EVENTS			256

uint64_t	simulator_seed = 1;

static int	signal_fd;

static void
usage(FILE *file)
{
	fputs("rspsim simulates Remote SIM Provisioning platforms over HTTP.\n\n"
		  "Usage: rspsim [OPTION]...\n\n"
		  "  --host=ADDRESS           IPv4 address to listen on (127.0.0.1)\n"
		  "  --port=N                 port, 0 for any (0)\n"
		  "  --tls-cert=FILE          PEM certificate: serves HTTPS\n"
		  "  --tls-key=FILE           its key\n"
		  "  --tls-port=N             HTTPS here, HTTP on --port as well\n"
		  "  --client-ca=FILE         asks TLS clients for certificates of this CA\n"
		  "  --seed=N                 makes all that is random repeatable (1)\n"
		  "  --config=FILE            configuration document, JSON\n"
		  "  --ledger-out=FILE        writes the ledger at exit\n"
		  "  --ledger-entries=N       with the last N entries (200000)\n"
		  "  --accept-unknown-eid[=no]  an EID makes its eUICC when first seen (yes)\n"
		  "  --accept-unknown-iccid   an unknown ICCID is found DISABLED on an eUICC of its own\n"
		  "  --no-record              does not keep the last requests\n"
		  "  --parent-watch           ends with its parent\n"
		  "  --quiet                  says nothing at exit\n"
		  "  --help                   this text\n", file);
}

static void
fail(const char *what, const char *detail)
{
	fprintf(stderr, "rspsim: %s: %s\n", what, detail);
	exit(1);
}

static char *
read_file(const char *path)
{
	FILE	   *file = fopen(path, "r");
	Buf			buf = {0};
	char		chunk[8192];
	size_t		got;

	if (file == NULL)
		fail(path, strerror(errno));
	while ((got = fread(chunk, 1, sizeof(chunk), file)) > 0)
		buf_add(&buf, chunk, got);
	if (ferror(file) || buf.data == NULL)
		fail(path, "could not be read, or is empty");
	fclose(file);
	return buf.data;
}

static void
read_config(const char *path)
{
	json_error_t problem;
	json_t	   *config = json_load_file(path, JSON_REJECT_DUPLICATES, &problem);
	char		error[256];

	if (config == NULL)
		fail(path, problem.text);
	if (!config_apply(config, error, sizeof(error)))
		fail(path, error);
	json_decref(config);
}

static uint64_t
read_number(const char *option, const char *text, uint64_t most)
{
	char	   *end;
	unsigned long long number;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno != 0 || *end != '\0' || *text < '0' || *text > '9' || number > most)
		fail(option, "wrong number");
	return number;
}

/* Runs until a signal says to end. */
static void
run(int epoll_fd)
{
	struct epoll_event events[EVENTS];
	bool		stop = false;

	while (!stop)
	{
		int			wait = http_wait_ms();
		int			timer = timer_wait_ms();
		int			n;
		int			i;

		if (timer >= 0 && (wait < 0 || timer < wait))
			wait = timer;
		n = epoll_wait(epoll_fd, events, EVENTS, wait);
		if (n < 0 && errno != EINTR)
			fail("epoll_wait", strerror(errno));
		for (i = 0; i < n; i++)
		{
			if (events[i].data.ptr == &signal_fd)
				stop = true;
			else if (events[i].data.ptr != NULL)
				http_socket_event(events[i].data.ptr);
		}
		timer_run();
		http_run();
	}
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{"host", required_argument, NULL, 'h'},
		{"port", required_argument, NULL, 'p'},
		{"tls-cert", required_argument, NULL, 'c'},
		{"tls-key", required_argument, NULL, 'k'},
		{"tls-port", required_argument, NULL, 't'},
		{"client-ca", required_argument, NULL, 'a'},
		{"seed", required_argument, NULL, 's'},
		{"config", required_argument, NULL, 'f'},
		{"ledger-out", required_argument, NULL, 'l'},
		{"ledger-entries", required_argument, NULL, 'n'},
		{"accept-unknown-eid", optional_argument, NULL, 'e'},
		{"accept-unknown-iccid", no_argument, NULL, 'i'},
		{"no-record", no_argument, NULL, 'r'},
		{"parent-watch", no_argument, NULL, 'w'},
		{"quiet", no_argument, NULL, 'q'},
		{"help", no_argument, NULL, '?'},
		{NULL, 0, NULL, 0}
	};
	Listen		listen = {.host = "127.0.0.1", .tls_port = -1, .plain = true};
	const char *config = NULL;
	const char *ledger_out = NULL;
	uint32_t	ledger_entries = 200000;
	bool		parent_watch = false;
	bool		quiet = false;
	bool		tls_port_given = false;
	pid_t		parent = getppid();
	struct epoll_event event;
	sigset_t	signals;
	int			epoll_fd;
	int			option;
	int			status = 0;

	opterr = 1;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		switch (option)
		{
			case 'h':
				listen.host = optarg;
				break;
			case 'p':
				listen.port = (int) read_number("--port", optarg, 65535);
				break;
			case 'c':
				listen.cert = read_file(optarg);
				break;
			case 'k':
				listen.key = read_file(optarg);
				break;
			case 't':
				listen.tls_port = (int) read_number("--tls-port", optarg, 65535);
				tls_port_given = true;
				break;
			case 'a':
				listen.client_ca = read_file(optarg);
				break;
			case 's':
				simulator_seed = read_number("--seed", optarg, UINT64_MAX);
				break;
			case 'f':
				config = optarg;
				break;
			case 'l':
				ledger_out = optarg;
				break;
			case 'n':
				ledger_entries = (uint32_t) read_number("--ledger-entries", optarg, UINT32_MAX);
				break;
			case 'e':
				accept_unknown_eid = optarg == NULL || strcmp(optarg, "no") != 0;
				break;
			case 'i':
				accept_unknown_iccid = true;
				break;
			case 'r':
				record_enable(false);
				break;
			case 'w':
				parent_watch = true;
				break;
			case 'q':
				quiet = true;
				break;
			default:
				if (optopt == 0)
				{
					usage(stdout);
					return 0;
				}
				usage(stderr);
				return 1;
		}
	}
	if (optind < argc)
		fail(argv[optind], "unexpected argument");
	if ((listen.cert == NULL) != (listen.key == NULL) || (tls_port_given && listen.cert == NULL))
		fail("TLS", "needs both --tls-cert and --tls-key");
	if (listen.client_ca != NULL && listen.cert == NULL)
		fail("--client-ca", "needs --tls-cert");
	if (listen.cert != NULL && !tls_port_given)
	{
		listen.tls_port = listen.port;
		listen.plain = false;
	}

	if (parent_watch)
	{
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		/* it may have died before */
		if (getppid() != parent)
			return 1;
	}
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	memset(&event, 0, sizeof(event));
	event.events = EPOLLIN;
	event.data.ptr = &signal_fd;
	if (signal_fd < 0 || epoll_fd < 0 ||
		epoll_ctl(epoll_fd, EPOLL_CTL_ADD, signal_fd, &event) != 0)
		fail("epoll", strerror(errno));

	if (config != NULL)
		read_config(config);
	if (!http_start(&listen, epoll_fd))
		return 1;
	if (listen.plain)
		printf("rspsim listening on http://%s:%d\n", listen.host, http_port(false));
	if (listen.tls_port >= 0)
		printf("rspsim listening on https://%s:%d\n", listen.host, http_port(true));
	fflush(stdout);

	run(epoll_fd);

	http_stop();
	outbound_stop();
	if (ledger_out != NULL && !ledger_write(ledger_out, ledger_entries))
	{
		fprintf(stderr, "rspsim: %s: %s\n", ledger_out, strerror(errno));
		status = 1;
	}
	if (!quiet)
	{
		Buf			summary = {0};

		ledger_summary_json(&summary);
		fprintf(stderr, "rspsim: %s\n", summary.data);
		buf_free(&summary);
	}
	reset_everything();
	intern_reset();
	free(listen.cert);
	free(listen.key);
	free(listen.client_ca);
	return status;
}
