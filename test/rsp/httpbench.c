/*
 * httpbench.c
 *		Bare libcurl against the simulator: what the HTTP part of an operation
 *		costs, the reference for benchmarks of whole operations.
 *
 * Each operation is two requests in the CAMARA shape: a POST that orders it
 * and a GET of the operation that the answer names.  One thread, the multi
 * interface on epoll, connections kept alive.
 */
#include <curl/curl.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define EVENTS		256
#define ANSWER_KEPT 4096

typedef struct Lane
{
	CURL	   *easy;
	bool		asking;			/* the GET, after the POST */
	char		body[1024];
	char		url[1024];
	char		answer[ANSWER_KEPT];
	size_t		answer_length;
} Lane;

static const char *base;
static const char *template;
static bool dialect_2026;
static const char *kind = "enable";
static bool poll_operation = true;
static struct curl_slist *post_headers;
static FILE *iccid_file;
static uint64_t counter;
static uint64_t operations_left;
static uint64_t operations_done;
static uint64_t requests_done;
static uint64_t failures;
static uint64_t not_completed;
static int	epoll_fd;
static int	still_running;
static long lanes_busy;
static CURLM *multi;
static long timeout_ms = -1;

static double
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void
fail(const char *what, const char *detail)
{
	fprintf(stderr, "httpbench: %s: %s\n", what, detail);
	exit(1);
}

/* 89, the number in 16 digits, the Luhn digit. */
static void
make_iccid(uint64_t number, char out[24])
{
	int			sum = 0;
	int			i;

	snprintf(out, 24, "89%016" PRIu64, number % UINT64_C(10000000000000000));
	for (i = 0; i < 18; i++)
	{
		int			digit = out[17 - i] - '0';

		if (i % 2 == 0)
			digit = digit * 2 > 9 ? digit * 2 - 9 : digit * 2;
		sum += digit;
	}
	out[18] = '0' + (10 - sum % 10) % 10;
	out[19] = '\0';
}

/* EID of the simulator's population: 8904903200, 20 digits, MOD 97-10. */
static void
make_eid(uint64_t number, char out[40])
{
	unsigned	rest = 0;
	int			i;

	snprintf(out, 40, "8904903200%020" PRIu64 "00", number);
	for (i = 0; i < 32; i++)
		rest = (rest * 10 + (out[i] - '0')) % 97;
	rest = 98 - rest;
	out[30] = '0' + rest / 10;
	out[31] = '0' + rest % 10;
}

static size_t
keep_answer(char *data, size_t size, size_t count, void *subject)
{
	Lane	   *lane = subject;
	size_t		length = size * count;

	if (lane->answer_length + length < ANSWER_KEPT)
	{
		memcpy(lane->answer + lane->answer_length, data, length);
		lane->answer_length += length;
	}
	return length;
}

/* Fills in the template: %i the ICCID, %e an EID, %n the number. */
static void
fill_body(Lane *lane)
{
	char		iccid[64];
	char		eid[40];
	char	   *out = lane->body;
	char	   *end = lane->body + sizeof(lane->body) - 64;
	const char *p;

	make_iccid(counter, iccid);
	make_eid(counter, eid);
	if (iccid_file != NULL)
	{
		if (fgets(iccid, sizeof(iccid), iccid_file) == NULL)
		{
			rewind(iccid_file);
			if (fgets(iccid, sizeof(iccid), iccid_file) == NULL)
				fail("--iccids", "the file is empty");
		}
		iccid[strcspn(iccid, "\r\n")] = '\0';
	}
	for (p = template; *p && out < end; p++)
	{
		if (*p == '%' && p[1] == 'i')
			out += sprintf(out, "%s", iccid);
		else if (*p == '%' && p[1] == 'e')
			out += sprintf(out, "%s", eid);
		else if (*p == '%' && p[1] == 'n')
			out += sprintf(out, "%" PRIu64, counter);
		else
		{
			*out++ = *p;
			continue;
		}
		p++;
	}
	*out = '\0';
	counter++;
}

static void
order(Lane *lane)
{
	if (operations_left == 0)
	{
		lanes_busy--;
		return;
	}
	operations_left--;
	lane->asking = false;
	lane->answer_length = 0;
	fill_body(lane);
	snprintf(lane->url, sizeof(lane->url), "%s%s/%s", base, dialect_2026 ? "/esim" : "", kind);
	curl_easy_setopt(lane->easy, CURLOPT_URL, lane->url);
	curl_easy_setopt(lane->easy, CURLOPT_HTTPHEADER, post_headers);
	curl_easy_setopt(lane->easy, CURLOPT_POSTFIELDS, lane->body);
	curl_multi_add_handle(multi, lane->easy);
}

static void
ask(Lane *lane, const char *id, size_t length)
{
	lane->asking = true;
	lane->answer_length = 0;
	snprintf(lane->url, sizeof(lane->url), "%s%s/operations/%.*s", base,
			 dialect_2026 ? "/esim" : "", (int) length, id);
	curl_easy_setopt(lane->easy, CURLOPT_URL, lane->url);
	curl_easy_setopt(lane->easy, CURLOPT_HTTPHEADER, NULL);
	curl_easy_setopt(lane->easy, CURLOPT_HTTPGET, 1L);
	curl_multi_add_handle(multi, lane->easy);
}

static void
answered(Lane *lane, CURLcode result)
{
	long		status = 0;
	char	   *id;

	curl_multi_remove_handle(multi, lane->easy);
	curl_easy_getinfo(lane->easy, CURLINFO_RESPONSE_CODE, &status);
	requests_done++;
	lane->answer[lane->answer_length] = '\0';
	id = strstr(lane->answer, "\"operationId\":\"");
	if (result != CURLE_OK || status != (lane->asking ? 200 : 202) || id == NULL)
	{
		if (failures++ == 0)
			fprintf(stderr, "httpbench: %s: %s %ld %.200s\n", lane->url,
					curl_easy_strerror(result), status, lane->answer);
		order(lane);
		return;
	}
	if (!lane->asking && poll_operation)
	{
		id += strlen("\"operationId\":\"");
		ask(lane, id, strcspn(id, "\""));
		return;
	}
	if (lane->asking && strstr(lane->answer, "COMPLETED") == NULL &&
		strstr(lane->answer, "\"completed\"") == NULL)
		not_completed++;
	operations_done++;
	order(lane);
}

static int
socket_changed(CURL *easy, curl_socket_t socket, int what, void *nothing, void *known)
{
	struct epoll_event event;

	(void) easy;
	(void) nothing;
	if (what == CURL_POLL_REMOVE)
	{
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, socket, NULL);
		return 0;
	}
	memset(&event, 0, sizeof(event));
	event.data.fd = socket;
	event.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
	if (epoll_ctl(epoll_fd, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, socket, &event) != 0)
		epoll_ctl(epoll_fd, known ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, socket, &event);
	curl_multi_assign(multi, socket, &still_running);
	return 0;
}

static int
timer_changed(CURLM *handle, long ms, void *nothing)
{
	(void) handle;
	(void) nothing;
	timeout_ms = ms;
	return 0;
}

static void
run(void)
{
	struct epoll_event events[EVENTS];

	while (lanes_busy > 0)
	{
		CURLMsg    *message;
		int			left;
		int			n = epoll_wait(epoll_fd, events, EVENTS, timeout_ms < 0 ? 1000 : (int) timeout_ms);
		int			i;

		if (n < 0 && errno != EINTR)
			fail("epoll_wait", strerror(errno));
		if (n <= 0)
			curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &still_running);
		for (i = 0; i < n; i++)
			curl_multi_socket_action(multi, events[i].data.fd,
									 (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
									 (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
									 (events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0),
									 &still_running);
		while ((message = curl_multi_info_read(multi, &left)) != NULL)
			if (message->msg == CURLMSG_DONE)
			{
				Lane	   *lane;

				curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &lane);
				answered(lane, message->data.result);
			}
	}
}

static void
usage(FILE *file)
{
	fputs("httpbench orders operations from the RSP simulator over bare libcurl.\n\n"
		  "Usage: httpbench --url=BASE [OPTION]...\n\n"
		  "  --url=BASE            up to the dialect's own paths: http://host:port/main/esim-profile-management/vwip\n"
		  "  --dialect=NAME        r1.2 (default) or 2026-02\n"
		  "  --kind=NAME           enable (default), disable, delete, set-fallback, download\n"
		  "  --operations=N        100000\n"
		  "  --connections=N       64\n"
		  "  --first=N             number of the first identifier, 0\n"
		  "  --iccids=FILE         ICCIDs, one a line, instead of counted ones\n"
		  "  --body=TEMPLATE       %i ICCID, %e EID, %n number\n"
		  "  --no-get              only the POSTs\n", file);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{"url", required_argument, NULL, 'u'},
		{"dialect", required_argument, NULL, 'd'},
		{"kind", required_argument, NULL, 'k'},
		{"operations", required_argument, NULL, 'o'},
		{"connections", required_argument, NULL, 'c'},
		{"first", required_argument, NULL, 'f'},
		{"iccids", required_argument, NULL, 'i'},
		{"body", required_argument, NULL, 'b'},
		{"no-get", no_argument, NULL, 'g'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0}
	};
	long		connections = 64;
	uint64_t	operations = 100000;
	Lane	   *lanes;
	double		began;
	double		took;
	long		i;
	int			option;
	bool		download;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		switch (option)
		{
			case 'u':
				base = optarg;
				break;
			case 'd':
				dialect_2026 = strcmp(optarg, "2026-02") == 0;
				break;
			case 'k':
				kind = optarg;
				break;
			case 'o':
				operations = strtoull(optarg, NULL, 10);
				break;
			case 'c':
				connections = strtol(optarg, NULL, 10);
				break;
			case 'f':
				counter = strtoull(optarg, NULL, 10);
				break;
			case 'i':
				iccid_file = fopen(optarg, "r");
				if (iccid_file == NULL)
					fail(optarg, strerror(errno));
				break;
			case 'b':
				template = optarg;
				break;
			case 'g':
				poll_operation = false;
				break;
			case 'h':
				usage(stdout);
				return 0;
			default:
				usage(stderr);
				return 1;
		}
	}
	if (base == NULL || connections < 1 || connections > 10000)
	{
		usage(stderr);
		return 1;
	}
	download = strcmp(kind, "download") == 0;
	if (template == NULL && dialect_2026)
		template = download ?
			"{\"esim\":{\"eid\":\"%e\",\"iccid\":\"%i\"},\"activationCode\":\"LPA:1$rsp.example.com$%i\",\"sink\":\"https://sink.invalid/\"}" :
			"{\"esim\":{\"iccid\":\"%i\"},\"sink\":\"https://sink.invalid/\"}";
	else if (template == NULL)
		template = download ?
			"{\"esimProfile\":{\"eid\":\"%e\"},\"activationCode\":\"LPA:1$rsp.example.com$%i\"}" :
			"{\"esimProfile\":{\"iccid\":\"%i\"}}";

	curl_global_init(CURL_GLOBAL_DEFAULT);
	multi = curl_multi_init();
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	post_headers = curl_slist_append(NULL, "Content-Type: application/json");
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, socket_changed);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, timer_changed);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, connections);
	lanes = calloc(connections, sizeof(Lane));
	if (lanes == NULL || multi == NULL || epoll_fd < 0)
		fail("start", "out of memory");
	operations_left = operations;
	began = now();
	for (i = 0; i < connections; i++)
	{
		lanes[i].easy = curl_easy_init();
		curl_easy_setopt(lanes[i].easy, CURLOPT_PRIVATE, &lanes[i]);
		curl_easy_setopt(lanes[i].easy, CURLOPT_WRITEFUNCTION, keep_answer);
		curl_easy_setopt(lanes[i].easy, CURLOPT_WRITEDATA, &lanes[i]);
		curl_easy_setopt(lanes[i].easy, CURLOPT_TIMEOUT_MS, 30000L);
		curl_easy_setopt(lanes[i].easy, CURLOPT_NOSIGNAL, 1L);
		lanes_busy++;
		order(&lanes[i]);
	}
	curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &still_running);
	run();
	took = now() - began;
	printf("operations %" PRIu64 ", requests %" PRIu64 ", failures %" PRIu64
		   ", not completed %" PRIu64 ", connections %ld\n"
		   "seconds %.3f, requests/s %.0f, operations/s %.0f\n",
		   operations_done, requests_done, failures, not_completed, connections, took,
		   requests_done / took, operations_done / took);
	for (i = 0; i < connections; i++)
		curl_easy_cleanup(lanes[i].easy);
	curl_multi_cleanup(multi);
	curl_slist_free_all(post_headers);
	if (iccid_file != NULL)
		fclose(iccid_file);
	free(lanes);
	return failures > 0;
}
