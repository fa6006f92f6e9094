/*
 * outbound.c
 *		Sends what a platform tells its customers (callbacks, notifications) to
 *		their URLs, from a thread of its own, in order.
 */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

#include "rspsim.h"

#define MAX_QUEUED		10000
#define TIMEOUT_MS		5000L

typedef struct Message
{
	struct Message *next;
	char	   *method;
	char	   *url;
	char	   *content_type;	/* NULL: none */
	char	   *header;			/* one more, NULL: none */
	char	   *body;			/* NULL: none */
} Message;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t filled = PTHREAD_COND_INITIALIZER;
static pthread_t thread;
static bool running;
static bool stopping;
static Message *first;
static Message **last = &first;
static uint64_t queued;
static uint64_t sent;			/* answered with 2xx */
static uint64_t failed;
static uint64_t dropped;

static void
message_free(Message *message)
{
	free(message->method);
	free(message->url);
	free(message->content_type);
	free(message->header);
	free(message->body);
	free(message);
}

static size_t
swallow(char *data, size_t size, size_t n, void *nothing)
{
	(void) data;
	(void) nothing;
	return size * n;
}

static bool
deliver(CURL *curl, const Message *message)
{
	struct curl_slist *headers = NULL;
	char		line[200];
	long		status = 0;
	CURLcode	result;

	curl_easy_reset(curl);
	curl_easy_setopt(curl, CURLOPT_URL, message->url);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, TIMEOUT_MS);
	curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
	curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, swallow);
	if (message->content_type != NULL)
	{
		snprintf(line, sizeof(line), "Content-Type: %s", message->content_type);
		headers = curl_slist_append(headers, line);
	}
	if (message->header != NULL)
		headers = curl_slist_append(headers, message->header);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	if (message->body != NULL)
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, message->body);
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, message->method);
	result = curl_easy_perform(curl);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	curl_slist_free_all(headers);
	return result == CURLE_OK && status >= 200 && status < 300;
}

static void *
run(void *nothing)
{
	CURL	   *curl = curl_easy_init();

	(void) nothing;
	pthread_mutex_lock(&lock);
	while (!stopping)
	{
		Message    *message = first;
		bool		good;

		if (message == NULL)
		{
			pthread_cond_wait(&filled, &lock);
			continue;
		}
		first = message->next;
		if (first == NULL)
			last = &first;
		pthread_mutex_unlock(&lock);
		good = curl != NULL && deliver(curl, message);
		message_free(message);
		pthread_mutex_lock(&lock);
		queued--;
		if (good)
			sent++;
		else
			failed++;
	}
	pthread_mutex_unlock(&lock);
	curl_easy_cleanup(curl);
	return NULL;
}

/*
 * Queues a request to somebody's URL; its answer is only counted.  header is
 * one whole header line; content_type, header and body may be NULL.
 */
void
outbound_send(const char *method, const char *url, const char *content_type,
			  const char *header, const char *body)
{
	Message    *message;

	if (!running)
	{
		sigset_t	every;
		sigset_t	before;

		curl_global_init(CURL_GLOBAL_DEFAULT);
		/* signals are the main thread's */
		sigfillset(&every);
		pthread_sigmask(SIG_SETMASK, &every, &before);
		running = pthread_create(&thread, NULL, run, NULL) == 0;
		pthread_sigmask(SIG_SETMASK, &before, NULL);
		if (!running)
			return;
	}
	message = xalloc(sizeof(Message));
	message->method = xstrdup(method);
	message->url = xstrdup(url);
	message->content_type = content_type ? xstrdup(content_type) : NULL;
	message->header = header ? xstrdup(header) : NULL;
	message->body = body ? xstrdup(body) : NULL;
	pthread_mutex_lock(&lock);
	if (queued >= MAX_QUEUED)
	{
		dropped++;
		message_free(message);
	}
	else
	{
		queued++;
		*last = message;
		last = &message->next;
		pthread_cond_signal(&filled);
	}
	pthread_mutex_unlock(&lock);
}

void
outbound_json(Buf *out)
{
	pthread_mutex_lock(&lock);
	buf_format(out, "{\"queued\":%" PRIu64 ",\"sent\":%" PRIu64 ",\"failed\":%" PRIu64
			   ",\"dropped\":%" PRIu64 "}", queued, sent, failed, dropped);
	pthread_mutex_unlock(&lock);
}

/* Forgets what waits and what was counted. */
void
outbound_reset(void)
{
	pthread_mutex_lock(&lock);
	while (first != NULL)
	{
		Message    *next = first->next;

		message_free(first);
		first = next;
		queued--;
	}
	last = &first;
	sent = failed = dropped = 0;
	pthread_mutex_unlock(&lock);
}

void
outbound_stop(void)
{
	outbound_reset();
	if (!running)
		return;
	pthread_mutex_lock(&lock);
	stopping = true;
	pthread_cond_signal(&filled);
	pthread_mutex_unlock(&lock);
	pthread_join(thread, NULL);
	running = false;
	curl_global_cleanup();
}
