/*-------------------------------------------------------------------------
 *
 * test_sink.c
 *	  Unit test of what is sent to sinks and where it may go: esim.sink_allow,
 *	  classes of addresses in every spelling, messages, signatures; and that
 *	  a refused address is never connected to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <jansson.h>

#include "event/message.h"
#include "http/http.h"
#include "rsp/rsp.h"
#include "tap.h"


/* ------------------------------------------------------------------------
 * Addresses
 * ------------------------------------------------------------------------ */

static bool
private_text(const char *text)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	memset(&in, 0, sizeof(in));
	memset(&in6, 0, sizeof(in6));
	in.sin_family = AF_INET;
	in6.sin6_family = AF_INET6;
	if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
		return sink_address_is_private((struct sockaddr *) &in, sizeof(in));
	if (inet_pton(AF_INET6, text, &in6.sin6_addr) == 1)
		return sink_address_is_private((struct sockaddr *) &in6, sizeof(in6));
	abort();
}

static void
test_addresses(void)
{
	static const char *const private[] = {
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255",
		"127.0.0.1", "127.255.255.254", "169.254.169.254", "169.254.0.1", "172.16.0.1",
		"172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.0.1", "192.168.255.255",
		"198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255",
		"240.0.0.1", "255.255.255.255", "168.63.129.16",
		"::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
		"::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",
		"100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:10::1", "2001:db8::1",
		"2002:7f00:1::1", "2002:a00:1::1", "2002:c0a8:101::", "3fff::1", "5f00::1", "fc00::1",
		"fd00:ec2::254", "fdff::1", "fe80::1", "febf::1", "fec0::1", "ff02::1", "ff0e::1",
		"4000::1", "2a00:1450::5efe:10.0.0.1", "2a00:1450::200:5efe:7f00:1"
	};
	static const char *const public[] = {
		"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.0",
		"126.255.255.255", "128.0.0.1", "169.253.255.255", "169.255.0.0", "172.15.255.255",
		"172.32.0.0", "192.0.1.1", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0",
		"223.255.255.255", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1",
		"2001:200::1", "2001:4860:4860::8888", "2a00:1450:4001::1", "2606:4700::1111"
	};
	struct sockaddr un;
	size_t		i;

	for (i = 0; i < sizeof(private) / sizeof(private[0]); i++)
		check(private_text(private[i]), "%s is private", private[i]);
	for (i = 0; i < sizeof(public) / sizeof(public[0]); i++)
		check(!private_text(public[i]), "%s is public", public[i]);
	memset(&un, 0, sizeof(un));
	un.sa_family = AF_UNIX;
	check(sink_address_is_private(&un, sizeof(un)), "%s is no way out", "another family of addresses");
}

/* ------------------------------------------------------------------------
 * URLs and the list
 * ------------------------------------------------------------------------ */

/* spellings of what must not be reached */
static const char *const private_urls[] = {
	"https://127.0.0.1/", "https://127.1/", "https://127.0.1/", "https://0x7f.1/", "https://0x7f000001/",
	"https://0177.0.0.1/", "https://017700000001/", "https://2130706433/", "https://127.0.0.1./",
	"https://0/", "https://0.0.0.0/", "https://10.0.0.1/", "https://0xa.0.0.1/", "https://192.168.1/",
	"https://3232235777/", "https://169.254.169.254/latest/meta-data/", "https://2852039166/",
	"https://0xa9fea9fe/", "https://0251.0376.0251.0376/", "https://100.64.0.1/", "https://[::1]/",
	"https://[::]/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/",
	"https://[0:0:0:0:0:ffff:127.0.0.1]/", "https://[::127.0.0.1]/", "https://[64:ff9b::7f00:1]/",
	"https://[2002:7f00:1::]/", "https://[fe80::1]/", "https://[fe80::1%25eth0]/", "https://[fd00::1]/",
	"https://[ff02::1]/", "https://localhost/", "https://LOCALHOST/", "https://localhost./",
	"https://foo.localhost/", "https://localhost.localdomain/", "https://ip6-localhost/",
	"https://%31%32%37.0.0.1/", "https://127.0.0.1:8443/x?y", "https://127.0.0.1?x"
};

static void
test_urls(void)
{
	static const char *const invalid[] = {
		"", "https://", "https:///x", "https://:443/", "ftp://example.com/", "file:///etc/passwd",
		"gopher://127.0.0.1:70/", "https://user@example.com/", "https://user:pass@example.com/",
		"https://example.com@127.0.0.1/", "https://exam ple.com/", "https://example.com/\r\nX: y",
		"https://example.com/\n", "https://example.com/a b", "https://example.com/\x01",
		"https://ex\xc3\xa4mple.com/", "https://example.com/#x", "https://example.com\\@evil/",
		"https://example.com:0/", "https://example.com:99999/", "https://example.com:x/",
		"https://[::1/", "https://[zz]/", "javascript:alert(1)", "//example.com/", "https:example.com",
		"https://example.com/<", "https://example.com/{a}"
	};
	SinkRoute	route;
	char		reason[128];
	char		long_url[2100];
	size_t		i;

	for (i = 0; i < sizeof(private_urls) / sizeof(private_urls[0]); i++)
	{
		check(sink_check(private_urls[i], "", false, NULL, NULL, 0) != SINK_ALLOWED,
			  "%s is refused", private_urls[i]);
		check(sink_check(private_urls[i], "*", false, NULL, NULL, 0) != SINK_ALLOWED,
			  "%s is refused though any host is listed", private_urls[i]);
	}
	for (i = 0; i < sizeof(invalid) / sizeof(invalid[0]); i++)
		check(sink_check(invalid[i], "*", true, NULL, reason, sizeof(reason)) == SINK_INVALID &&
			  reason[0] != '\0', "%.40s is no URL", invalid[i]);
	memset(long_url, 'a', sizeof(long_url));
	memcpy(long_url, "https://example.com/", 20);
	long_url[sizeof(long_url) - 1] = '\0';
	ok(sink_check(long_url, "", false, NULL, NULL, 0) == SINK_INVALID, "too long");

#define VERDICT(url, allow, private, verdict) \
	check(sink_check(url, allow, private, NULL, NULL, 0) == (verdict), "%s", url " with " #allow " is " #verdict)
	VERDICT("https://example.com/x", NULL, false, SINK_ALLOWED);
	VERDICT("https://example.com/x", "", false, SINK_ALLOWED);
	VERDICT("http://example.com/x", "", false, SINK_NOT_HTTPS);
	VERDICT("http://example.com/x", "", true, SINK_NOT_HTTPS);
	VERDICT("http://example.com/x", "example.com", false, SINK_NOT_HTTPS);
	VERDICT("http://example.com/x", "http://example.com", false, SINK_ALLOWED);
	VERDICT("https://example.com/x", "example.com", false, SINK_ALLOWED);
	VERDICT("https://EXAMPLE.com./x", "Example.COM", false, SINK_ALLOWED);
	VERDICT("https://example.org/x", "example.com", false, SINK_NOT_LISTED);
	VERDICT("https://evil-example.com/", "example.com", false, SINK_NOT_LISTED);
	VERDICT("https://example.com.evil.org/", "example.com", false, SINK_NOT_LISTED);
	VERDICT("https://a.example.com/", "example.com", false, SINK_NOT_LISTED);
	VERDICT("https://a.example.com/", "*.example.com", false, SINK_ALLOWED);
	VERDICT("https://a.b.example.com/", "*.example.com", false, SINK_ALLOWED);
	VERDICT("https://example.com/", "*.example.com", false, SINK_NOT_LISTED);
	VERDICT("https://aexample.com/", "*.example.com", false, SINK_NOT_LISTED);
	VERDICT("https://example.com:8443/", "example.com:8443", false, SINK_ALLOWED);
	VERDICT("https://example.com/", "example.com:443", false, SINK_ALLOWED);
	VERDICT("https://example.com:8443/", "example.com:443", false, SINK_NOT_LISTED);
	VERDICT("https://b.org/", "a.org, b.org ,c.org", false, SINK_ALLOWED);
	VERDICT("https://127.0.0.1/", "127.0.0.1", false, SINK_PRIVATE);
	VERDICT("https://127.0.0.1/", "127.0.0.1", true, SINK_ALLOWED);
	VERDICT("https://127.0.0.1/", "", true, SINK_ALLOWED);
	VERDICT("http://127.0.0.1:8000/", "127.0.0.1", true, SINK_ALLOWED);
	VERDICT("http://127.0.0.1:8000/", "http://127.0.0.1:*", false, SINK_PRIVATE);
	VERDICT("http://127.0.0.1:8000/", "http://127.0.0.1:*", true, SINK_ALLOWED);
	VERDICT("http://127.0.0.1:8000/", "http://127.0.0.1:8001", true, SINK_NOT_HTTPS);
	VERDICT("https://[::1]:8000/", "[::1]:8000", true, SINK_ALLOWED);
	VERDICT("https://[0:0::1]/", "[::1]", true, SINK_ALLOWED);
#undef VERDICT

	ok(sink_check("https://Example.com/a/b?c=d", "", false, &route, NULL, 0) == SINK_ALLOWED &&
	   strcmp(route.target, "/a/b?c=d") == 0 && !route.plain_http, "the rest of the URL is kept as it is");
	ok(sink_check("https://example.com?x", "", false, &route, NULL, 0) == SINK_ALLOWED &&
	   strcmp(route.target, "?x") == 0, "also without a path");
	ok(sink_check("https://0x08080808/", "", false, &route, NULL, 0) == SINK_ALLOWED &&
	   strcmp(route.origin, "https://8.8.8.8:443") == 0, "what is checked is what is connected to");
	ok(sink_check("http://h.example/", "h.example", true, &route, NULL, 0) == SINK_ALLOWED &&
	   route.only_private, "http without http:// in the list: at private addresses only");
	ok(sink_check("http://h.example/", "http://h.example", true, &route, NULL, 0) == SINK_ALLOWED &&
	   !route.only_private, "http:// in the list: anywhere");

	ok(sink_allow_valid("", reason, sizeof(reason)), "an empty list");
	ok(sink_allow_valid("a.example, *.b.example:8443, http://c.example:*, [::1]:80, *", reason, sizeof(reason)),
	   "a list of all forms");
	ok(!sink_allow_valid("a b", reason, sizeof(reason)), "a blank within");
	ok(!sink_allow_valid("https://a/path", reason, sizeof(reason)), "a path");
	ok(!sink_allow_valid("a*.example", reason, sizeof(reason)), "a star within a label");
	ok(!sink_allow_valid("a.example:0", reason, sizeof(reason)), "port 0");
	ok(!sink_allow_valid("[::1", reason, sizeof(reason)), "half a bracket");
	ok(!sink_allow_valid("ftp://a.example", reason, sizeof(reason)), "another scheme");
}

/* ------------------------------------------------------------------------
 * The filter on connections
 * ------------------------------------------------------------------------ */

static int	asked;

static bool
filter(const struct sockaddr *address, size_t length, void *arg)
{
	asked++;
	return !sink_address_is_private(address, length);
}

static HttpAnswer
request_once(const char *url, bool filtered, HttpRequest **kept)
{
	HttpEndpointOptions options;
	HttpEndpoint *endpoint;
	HttpRequest *request;
	HttpRequest *done = NULL;
	HttpLoop   *loop;
	HttpAnswer	answer;
	char		error[256];

	memset(&options, 0, sizeof(options));
	options.base_url = url;
	options.timeout_ms = 3000;
	options.connect_timeout_ms = 2000;
	options.allow_http = true;
	options.verify = true;
	options.address_allowed = filtered ? filter : NULL;
	endpoint = http_endpoint_create(&options, error, sizeof(error));
	loop = http_loop_create(4, error, sizeof(error));
	request = http_request_create(endpoint, "GET", "/", NULL, NULL, 0, NULL);
	http_loop_submit(loop, request);
	while (done == NULL)
	{
		struct pollfd fd = {http_loop_fd(loop), POLLIN, 0};

		http_loop_run(loop);
		done = http_loop_next_done(loop);
		if (done == NULL)
			poll(&fd, 1, 20);
	}
	answer = *http_request_answer(done);
	*kept = done;
	http_endpoint_release(endpoint);
	http_loop_destroy(loop);
	return answer;
}

static void
test_filter(void)
{
	/* names and spellings that lead to this machine, as the resolver has them */
	static const char *const hosts[] = {
		"127.0.0.1", "127.1", "0x7f.1", "2130706433", "017700000001", "localhost", "localhost.",
		"[::ffff:127.0.0.1]", "[::1]", "0.0.0.0", "0", "ip6-localhost"
	};
	struct sockaddr_in6 address;
	socklen_t	length = sizeof(address);
	int			fd = socket(AF_INET6, SOCK_STREAM, 0);
	int			off = 0;
	char		url[128];
	size_t		i;

	memset(&address, 0, sizeof(address));
	address.sin6_family = AF_INET6;
	if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) != 0 ||
		bind(fd, (struct sockaddr *) &address, sizeof(address)) != 0 || listen(fd, 16) != 0 ||
		getsockname(fd, (struct sockaddr *) &address, &length) != 0)
	{
		ok(true, "skipped: no IPv6 here");
		return;
	}
	for (i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++)
	{
		HttpRequest *request;
		HttpAnswer	answer;
		struct pollfd pfd = {fd, POLLIN, 0};

		snprintf(url, sizeof(url), "http://%s:%d", hosts[i], ntohs(address.sin6_port));
		asked = 0;
		answer = request_once(url, true, &request);
		check(answer.outcome == HTTP_NOT_SENT && poll(&pfd, 1, 30) == 0,
			  "%s: nothing is connected", hosts[i]);
		check(answer.address_refused || asked == 0 || strstr(answer.error, "resolve") != NULL,
			  "%s: the reason is known", hosts[i]);
		http_request_free(request);
	}
	snprintf(url, sizeof(url), "http://127.0.0.1:%d", ntohs(address.sin6_port));
	{
		HttpRequest *request;
		HttpAnswer	answer = request_once(url, false, &request);
		struct pollfd pfd = {fd, POLLIN, 0};

		ok(answer.outcome == HTTP_LOST && poll(&pfd, 1, 1000) == 1, "without the filter it is connected");
		http_request_free(request);
	}
	close(fd);
}

/* ------------------------------------------------------------------------
 * Messages
 * ------------------------------------------------------------------------ */

static void
test_messages(void)
{
	SinkEvent	event;
	char	   *text;
	json_t	   *json;
	json_t	   *data;
	int64_t		seconds;

	memset(&event, 0, sizeof(event));
	event.id = "0b2a3f0e-3c65-4a51-9d3e-2a8e6bb0c001";
	event.source = "https://api.example.com/esim/vwip";
	event.operation = "0190f0e0-0000-7000-8000-000000000001";
	event.kind = "enable";
	event.result = "SUCCESS";
	event.eid = "89049032000000000000000000000001";
	event.iccid = "8901260123456789012";
	event.completed_at = "2026-02-25T10:30:00.000Z";
	event.correlator = "a b&c=\xc3\xa4";

	text = sink_cloudevent(&event);
	json = json_loads(text, 0, NULL);
	data = json_object_get(json, "data");
#define IS(object, key, value) \
	check(json_object_get(object, key) != NULL && \
		  strcmp(json_string_value(json_object_get(object, key)), value) == 0, "%s", key " is " value)
	IS(json, "specversion", "1.0");
	IS(json, "type", "com.camara.esim-management.vwip.operation-completed");
	IS(json, "source", "https://api.example.com/esim/vwip");
	IS(json, "id", "0b2a3f0e-3c65-4a51-9d3e-2a8e6bb0c001");
	IS(json, "time", "2026-02-25T10:30:00.000Z");
	IS(data, "operationId", "0190f0e0-0000-7000-8000-000000000001");
	IS(data, "operation", "enable");
	IS(data, "status", "completed");
	IS(json_object_get(data, "esim"), "eid", "89049032000000000000000000000001");
	IS(json_object_get(data, "esim"), "iccid", "8901260123456789012");
	IS(json_object_get(data, "result"), "outcome", "success");
	IS(json_object_get(data, "result"), "completedAt", "2026-02-25T10:30:00.000Z");
	ok(json_object_get(data, "error") == NULL, "no error");
	json_decref(json);
	free(text);

	text = sink_form(&event);
	ok(strcmp(text, "NotificationId=0b2a3f0e-3c65-4a51-9d3e-2a8e6bb0c001"
			  "&OperationId=0190f0e0-0000-7000-8000-000000000001&Operation=enable&Status=completed"
			  "&Result=SUCCESS&Eid=89049032000000000000000000000001&Iccid=8901260123456789012"
			  "&CompletedAt=2026-02-25T10%3A30%3A00.000Z&Correlator=a%20b%26c%3D%C3%A4") == 0,
	   "form fields");
	free(text);

	event.kind = "reserve";
	event.result = "FAILED";
	event.iccid = "890126012345678901";
	event.error_code = "OUTCOME_UNKNOWN";
	event.error_message = "no \"answer\"\r\nX-Injected: 1";
	text = sink_cloudevent(&event);
	ok(strchr(text, '\r') == NULL && strchr(text, '\n') == NULL, "control characters are escaped");
	json = json_loads(text, 0, NULL);
	data = json_object_get(json, "data");
	IS(json, "type", "esim.operation-completed");
	IS(data, "status", "completed");
	IS(json_object_get(data, "error"), "code", "OUTCOME_UNKNOWN");
	ok(json_integer_value(json_object_get(json_object_get(data, "error"), "status")) == 504, "with a status");
	ok(json_object_get(data, "result") == NULL, "no result");
	ok(json_object_get(json_object_get(data, "esim"), "iccid") == NULL, "the schema has no ICCID of 18 digits");
	json_decref(json);
	free(text);
	text = sink_form(&event);
	ok(strchr(text, '\r') == NULL && strchr(text, '\n') == NULL && strchr(text, ' ') == NULL,
	   "in form fields too");
	free(text);
	event.error_message = "\xff\xfe";
	ok(sink_cloudevent(&event) == NULL, "broken UTF-8 makes no message");
#undef IS

	ok(sink_error_status("INCOMPATIBLE_STATE") == 409 && sink_error_status("EXPIRED") == 504 &&
	   sink_error_status("IDENTIFIER_NOT_FOUND") == 404 && sink_error_status("x") == 500 &&
	   sink_error_status(NULL) == 500, "status of codes");

	ok(sink_parse_time("2026-02-25T10:30:00Z", &seconds) && seconds == 1772015400, "RFC 3339");
	ok(sink_parse_time("2026-02-25T11:30:00.123456+01:00", &seconds) && seconds == 1772015400, "with an offset");
	ok(!sink_parse_time("2026-02-25", &seconds) && !sink_parse_time("2026-02-25T10:30:00", &seconds) &&
	   !sink_parse_time("2026-13-25T10:30:00Z", &seconds) && !sink_parse_time("2026-02-25T25:30:00Z", &seconds) &&
	   !sink_parse_time("2026-02-25T10:30:00Zx", &seconds) && !sink_parse_time("", &seconds) &&
	   !sink_parse_time("tomorrow", &seconds), "what is no time");
}

static void
test_credentials(void)
{
	static const char body[] = "{\"test\": 2432232314}";
	unsigned char key[SINK_MAX_SECRET];
	char		signature[SINK_SIGNATURE_SIZE];
	char		token[SINK_MAX_TOKEN + 2];
	size_t		length;

	/* the example of the Standard Webhooks specification */
	length = sink_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", key);
	ok(length == 24, "a secret of 24 bytes");
	check(sink_signature(key, length, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body, strlen(body), signature) &&
		  strcmp(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=") == 0, "%s", signature);
	ok(sink_secret("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", key) == 24, "without whsec_");
	ok(sink_secret("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", key) == 32 && key[31] == 31,
	   "with padding");
	ok(sink_secret("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", key) == 32 && key[31] == 31,
	   "and with padding left out");
	ok(sink_secret("", key) == 0 && sink_secret("whsec_", key) == 0 && sink_secret("whsec_AAAA", key) == 0 &&
	   sink_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!", key) == 0 &&
	   sink_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw=", key) == 0, "what is no secret");
	memset(token, 'A', sizeof(token));
	token[100] = '\0';
	ok(sink_secret(token, key) == 0, "a secret too long");

	ok(sink_token_valid("eyJhbGciOiJIUzI1NiJ9.e30.x-_~+/="), "a token");
	ok(!sink_token_valid("") && !sink_token_valid("a b") && !sink_token_valid("a\r\nX: y") &&
	   !sink_token_valid("a\n") && !sink_token_valid("\xc3\xa4") && !sink_token_valid("a\x7f"),
	   "what is no token");
	memset(token, 'A', sizeof(token));
	token[SINK_MAX_TOKEN + 1] = '\0';
	ok(!sink_token_valid(token), "a token too long");
	token[SINK_MAX_TOKEN] = '\0';
	ok(sink_token_valid(token), "a token just not too long");
}

int
main(void)
{
	test_addresses();
	test_urls();
	test_filter();
	test_messages();
	test_credentials();
	return finish();
}
