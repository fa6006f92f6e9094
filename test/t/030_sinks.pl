# test/t/030_sinks.pl
# Completed operations are announced: CloudEvents to sinks, form fields to callback URLs; what is
# tried again, what is given up; sinks that are slow or dead hold nobody else up.
use strict;
use warnings;

use Digest::SHA qw(hmac_sha256_base64);
use JSON::PP;
use MIME::Base64;
use Test::More;
use Time::HiRes qw(sleep time);

use EsimTest;
use EsimSink;

my $ports = 6;
my $simulator = start_simulator();
my $sink = EsimSink::start("${PostgreSQL::Test::Utils::tmp_check}/sink.log", $ports);
my $node = new_node('sinks', settings => [
	"esim.sink_allow = '127.0.0.1, *.example.com'", 'esim.sink_allow_private = on',
	"esim.api_root = 'https://api.example.com/'", 'esim.poll_interval = 1s',
	'max_worker_processes = 20' ]);
my $database = 'sinks';
my $next_device = 1;

create_database($node, $database);
create_server($node, $database, $simulator, 'main', smdp_address => 'smdp.example.com');
fleet($node, $database, 100, state => 'DISABLED', simulator => $simulator);

# notification of an operation as a hash, or of its format
sub notification
{
	my ($operation, $format) = @_;
	my $json = value($node, $database, "SELECT to_jsonb(n) FROM esim_notification n WHERE operation = '$operation'"
		  . ($format ? " AND format = '$format'" : ''));
	return $json eq '' ? {} : decode_json($json);
}

sub wait_state
{
	my ($operation, $state, $seconds) = @_;
	return wait_until($node, $database, "SELECT DISTINCT state FROM esim_notification WHERE operation = '$operation'",
		$state, $seconds);
}

sub enable
{
	my ($tail) = @_;
	my $n = $next_device++;
	return value($node, $database, "SELECT esim_enable('" . iccid($n) . "', $tail)");
}

sub events { my ($path) = @_; return $sink->requests(qr{^\Q$path\E}); }

sub error_of
{
	my ($sql) = @_;
	my ($status, $out, $err) = $node->psql($database, "\\set VERBOSITY verbose\n$sql");
	return $status == 0 ? "none: $out" : $err;
}

#
# one message, in all its parts
#
my $id = enable("correlator => 'corr-1', sink => '" . $sink->url('/ok/one?a=b&c=d')
	  . q{', sink_credential => '{"credentialType": "ACCESSTOKEN", "accessToken": "tok.en-1", "accessTokenExpireUtc": "2099-01-01T00:00:00Z", "accessTokenType": "bearer"}'});
ok(wait_state($id, 'DELIVERED'), 'a sink is told');
my @got = events('/ok/one');
is(scalar @got, 1, 'once');
is("$got[0]{method} $got[0]{path}", 'POST /ok/one?a=b&c=d', 'POST to the URL as it was given');
is($got[0]{headers}{'content-type'}, 'application/cloudevents+json', 'content type of structured mode');
is($got[0]{headers}{'x-correlator'}, 'corr-1', 'x-correlator');
is($got[0]{headers}{authorization}, 'Bearer tok.en-1', 'the access token');
my $event = decode_json($got[0]{body});
my $row = notification($id);
is($event->{id}, $row->{id}, 'its identifier is the notification\'s');
is($event->{specversion}, '1.0', 'CloudEvents 1.0');
is($event->{type}, 'com.camara.esim-management.vwip.operation-completed', 'CAMARA\'s type');
is($event->{source}, 'https://api.example.com/esim/vwip', 'source');
like($event->{time}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, 'time');
is_deeply($event->{data}, {
	operationId => $id, operation => 'enable', status => 'completed',
	esim => { eid => eid(1), iccid => iccid(1) },
	result => { outcome => 'success', completedAt => $event->{time} } }, 'data');
is("$row->{tries} $row->{format}", '1 cloudevent', 'the row says how');
ok(defined $row->{delivered_at} && !defined $row->{next_at} && !defined $row->{last_error}, 'and when');
is(value($node, $database, "SELECT count(*) FROM esim_operation_secret"), '0', 'the token is gone');
like(error_of("SELECT esim_redeliver('$row->{id}')"), qr/ES409.*INCOMPATIBLE_STATE/s, 'so it cannot be sent again');
is(scalar(grep { /tok\.en/ } split /\n/, $node->log_content // ''), 0, 'no token in the log')
  if $node->can('log_content');

# another kind, a failure
$id = value($node, $database, "SELECT esim_refresh('" . eid(90) . "', sink => '" . $sink->url('/ok/refresh') . "')");
ok(wait_state($id, 'DELIVERED'), 'a refresh is announced');
is(decode_json((events('/ok/refresh'))[0]{body})->{type}, 'esim.operation-completed', 'its type is ours');
is((events('/ok/refresh'))[0]{headers}{'x-correlator'}, $id, 'x-correlator is the operation if there is none');
$simulator->fault({ path => 'enable', fault => 'device_fail', reason => 'No answer from the card.' });
$id = enable("sink => '" . $sink->url('/ok/failed') . "'");
ok(wait_completed($node, $database), 'an operation fails');
ok(wait_state($id, 'DELIVERED'), 'a failure is announced');
$simulator->clear_faults;
my ($result, $code) = split /\|/, value($node, $database, "SELECT result, error_code FROM esim_operation WHERE id = '$id'");
is($result, 'FAILED', 'it is one');
$event = decode_json((events('/ok/failed'))[0]{body});
is($event->{data}{status}, 'completed', 'status stays completed');
is($event->{data}{error}{code}, $code, 'the code');
ok($event->{data}{error}{status} >= 400 && length $event->{data}{error}{message}, 'status and message');
ok(!exists $event->{data}{result}, 'no result');

#
# callbacks
#
$id = enable("callback_url => '" . $sink->url('/ok/get?x=1') . "'");
ok(wait_state($id, 'DELIVERED'), 'a callback by GET');
like((events('/ok/get'))[0]{path}, qr{^/ok/get\?x=1&NotificationId=[0-9a-f-]{36}&OperationId=$id&Operation=enable&Status=completed&Result=SUCCESS&Eid=\d{32}&Iccid=\d{18,20}&CompletedAt=[^&]+&Correlator=$id$}, 'fields in the query');
is((events('/ok/get'))[0]{method}, 'GET', 'by GET');
$id = enable("callback_url => '" . $sink->url('/ok/post') . "', callback_method => 'POST', sink => '" . $sink->url('/ok/both') . "'");
ok(wait_state($id, 'DELIVERED'), 'a callback by POST, and a sink');
my ($post) = events('/ok/post');
is($post->{headers}{'content-type'}, 'application/x-www-form-urlencoded', 'form fields');
like($post->{body}, qr/^NotificationId=.*&OperationId=$id&/, 'in the body');
is(scalar events('/ok/both'), 1, 'the sink is told as well');
is(value($node, $database, "SELECT string_agg(format, ' ' ORDER BY format) FROM esim_notification WHERE operation = '$id'"),
	'cloudevent form', 'one row per target');

# what has a meaning in forms and URLs, and what is not ASCII, arrives as it was
my $odd = qq(a&b=c+d%20e;f#g?h/i"j'k<l>m\\n~o*p|q \x{e4}\x{20ac}\x{1f4a9});
my $correlator = 'c-_:;./<>{}1';
utf8::encode($odd);
$simulator->fault({ path => 'enable', fault => 'device_fail' });
foreach my $case ([ '/ok/odd', '?', 'no query' ], [ '/ok/odd?', '', 'an empty query' ], [ '/ok/odd?x=a%26b&', '', 'a query that ends in &' ],
	[ '/ok/odd?x=%C3%BC', '&', 'a query' ], [ '/ok/odd/post?x=1', undef, 'POST' ])
{
	my ($path, $joint, $name) = @$case;

	$id = enable("correlator => '$correlator', callback_method => '" . (defined $joint ? 'GET' : 'POST') . "', callback_url => '" . $sink->url($path) . "'");
	ok(wait_state($id, 'DELIVERED'), "callback_url with $name");
	query($node, $database, "UPDATE esim_operation SET error_message = \$odd\$$odd\$odd\$ WHERE id = '$id'; SELECT esim_redeliver('" . notification($id)->{id} . "')");
	ok(wait_until($node, $database, "SELECT tries || state FROM esim_notification WHERE operation = '$id'", '2DELIVERED'), "$name: again");
	my ($request) = reverse grep { "$_->{path}$_->{body}" =~ /OperationId=$id/ } events('/ok/odd');
	my $form = $request->{body};
	if (defined $joint)
	{
		like($request->{path}, qr/^\Q$path$joint\ENotificationId=/, "$name: what was there stays");
		$form = substr $request->{path}, length "$path$joint";
	}
	else
	{
		is($request->{path}, $path, "$name: the URL is as it was");
	}
	my %field = map { my ($key, $value) = split /=/, $_, 2; $key => $value =~ s/%([0-9A-F]{2})/chr hex $1/ger } split /&/, $form;
	is($field{Correlator}, $correlator, "$name: the correlator");
	is($field{ErrorMessage}, $odd, "$name: special characters arrive");
}
$simulator->clear_faults;

#
# stored credentials
#
my $secret = encode_base64(join('', map { chr } 1 .. 32), '');
$node->safe_psql($database, qq(
	SELECT esim_set_credential('token', 'bearer', 'first');
	SELECT esim_set_credential('token', 'bearer', 'second-token');
	SELECT esim_set_credential('hook', 'webhook-secret', 'whsec_$secret');));
$id = enable(q{sink_credential => '{"name": "token"}', sink => '} . $sink->url('/ok/stored') . "'");
ok(wait_state($id, 'DELIVERED'), 'with a stored token');
is((events('/ok/stored'))[0]{headers}{authorization}, 'Bearer second-token', 'the one of that name');
is(value($node, $database, "SELECT esim_redeliver('" . notification($id)->{id} . "')"), 't', 'esim_redeliver');
ok(wait_until($node, $database, "SELECT tries || state FROM esim_notification WHERE operation = '$id'", '2DELIVERED'), 'sends it again');
@got = events('/ok/stored');
is(decode_json($got[0]{body})->{id}, decode_json($got[1]{body})->{id}, 'with the same identifier');
is($got[0]{body}, $got[1]{body}, 'and the same body');
is($got[1]{headers}{authorization}, 'Bearer second-token', 'and the credential');
$id = enable(q{sink_credential => '{"name": "hook"}', sink => '} . $sink->url('/flaky/1/signed') . "'");
ok(wait_state($id, 'DELIVERED'), 'with a signature');
@got = events('/flaky/1/signed');
is(scalar @got, 2, 'at the second try');
foreach my $request (@got)
{
	my $h = $request->{headers};
	my $expected = hmac_sha256_base64("$h->{'webhook-id'}.$h->{'webhook-timestamp'}.$request->{body}", join('', map { chr } 1 .. 32));
	$expected .= '=' while length($expected) % 4;
	is($h->{'webhook-signature'}, "v1,$expected", 'Standard Webhooks: the signature is right');
	is($h->{'webhook-id'}, notification($id)->{id}, 'webhook-id is the identifier');
	ok(abs($h->{'webhook-timestamp'} - $request->{at}) < 3, 'webhook-timestamp is the time of the try');
	ok(!exists $h->{authorization}, 'no token');
}
$id = enable(q{sink_credential => '{"name": "absent"}', sink => '} . $sink->url('/ok/absent') . "'");
ok(wait_until($node, $database, "SELECT last_error ~ 'no credential' FROM esim_notification WHERE operation = '$id'", 't'),
	'a name that there is not: nothing is sent');
$node->safe_psql($database, q(SELECT esim_set_credential('absent', 'bearer', 'late')));
ok(wait_state($id, 'DELIVERED'), 'until it is there');
is((events('/ok/absent'))[0]{headers}{authorization}, 'Bearer late', 'then with it');
is(value($node, $database, q(SELECT esim_drop_credential('absent'), esim_drop_credential('absent'))), 't|f', 'esim_drop_credential');
$id = enable(q{sink_credential => '{"credentialType": "ACCESSTOKEN", "accessToken": "old", "accessTokenExpireUtc": "2020-01-01T00:00:00Z"}', sink => '}
	  . $sink->url('/ok/expired') . "'");
ok(wait_state($id, 'GIVEN_UP'), 'an expired token is not sent');
like(notification($id)->{last_error}, qr/expired/, 'the reason is there');
is(scalar events('/ok/expired'), 0, 'nothing came');
$id = enable(q{sink_credential => '{"credentialType": "ACCESSTOKEN", "accessToken": "old", "accessTokenExpiresUtc": "2020-01-01T00:00:00Z"}', sink => '}
	  . $sink->url('/ok/expired') . "'");
ok(wait_state($id, 'GIVEN_UP'), 'nor one that has, by the name that CAMARA\'s Commonalities have');
is(scalar events('/ok/expired'), 0, 'nothing came');
# one that expires while its sink does not answer
$sink->set_switch('fail');
my $soon = value($node, $database, q(SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC' + interval '3 s', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')));
$id = enable(q(sink_credential => '{"credentialType": "ACCESSTOKEN", "accessToken": "short", "accessTokenExpiresUtc": ")
	  . $soon . q("}', sink => ') . $sink->url('/switch/short') . "'");
ok(wait_state($id, 'GIVEN_UP', 30), 'a token that expires between two tries is not sent again');
my $end = value($node, $database, "SELECT extract(epoch FROM '$soon'::timestamptz)");
@got = events('/switch/short');
is(scalar(grep { $_->{headers}{authorization} eq 'Bearer short' && $_->{at} < $end + 0.5 } @got), scalar @got, 'it was sent until then');
like(notification($id)->{last_error}, qr/expired/, 'the reason is there');

#
# what cannot be asked for
#
foreach my $bad (
	[ q('{"credentialType": "ACCESSTOKEN", "accessToken": "a\r\nX-Evil: 1"}'), 'a token with a line break' ],
	[ q('{"credentialType": "ACCESSTOKEN", "accessToken": "a b"}'), 'a token with a blank' ],
	[ q('{"credentialType": "ACCESSTOKEN", "accessToken": ""}'), 'an empty token' ],
	[ q('{"credentialType": "ACCESSTOKEN", "accessToken": 1}'), 'a token that is a number' ],
	[ q('{"credentialType": "PLAIN"}'), 'another type' ],
	[ q('{"accessToken": "x"}'), 'no type' ],
	[ q('{"credentialType": "ACCESSTOKEN", "accessToken": "x", "accessTokenType": "mac"}'), 'another type of token' ],
	[ q('{"credentialType": "ACCESSTOKEN", "accessToken": "x", "accessTokenExpireUtc": "soon"}'), 'no time' ],
	[ q('{"credentialType": "ACCESSTOKEN", "accessToken": "x", "accessTokenExpiresUtc": "soon"}'), 'no time, by the other name' ],
	[ q('{"credentialType": "ACCESSTOKEN", "accessToken": "x", "accessTokenExpireUtc": "2099-01-01T00:00:00Z", "accessTokenExpiresUtc": "2098-01-01T00:00:00Z"}'), 'two times' ],
	[ q('{"name": "x", "accessToken": "y", "credentialType": "ACCESSTOKEN"}'), 'a name and a token' ],
	[ q('{"name": ""}'), 'an empty name' ])
{
	like(error_of("SELECT esim_enable('" . iccid(97) . "', sink => 'https://a.example.com/', sink_credential => $bad->[0])"),
		qr/ES400.*INVALID_ARGUMENT/s, "sink_credential: $bad->[1]");
}
like(error_of("SELECT esim_set_credential('x', 'bearer', E'a\\nb')"), qr/ES400/, 'a stored token with a line break');
like(error_of("SELECT esim_set_credential('x', 'webhook-secret', 'short')"), qr/ES400/, 'a secret that is none');
like(error_of("SELECT esim_set_credential('x', 'basic', 'a:b')"), qr/ES400/, 'a kind that is none');
like(error_of("SELECT esim_redeliver('00000000-0000-0000-0000-000000000000')"), qr/ES404/, 'a notification that is none');

#
# answers
#
$id = enable("sink => '" . $sink->url('/flaky/3/x') . "'");
ok(wait_state($id, 'DELIVERED', 30), 'three times 503, then delivered');
$row = notification($id);
@got = events('/flaky/3/x');
is($row->{tries}, 4, 'tries are counted');
is(scalar(keys %{ { map { decode_json($_->{body})->{id} => 1 } @got } }), 1, 'the identifier is the same at every try');
is(scalar(keys %{ { map { $_->{body} => 1 } @got } }), 1, 'and so is the body');
ok($got[1]{at} - $got[0]{at} > 0.7 && $got[2]{at} - $got[1]{at} > 1.5, 'the time between them grows');
my $later = enable("sink => '" . $sink->url('/later/x') . "'");
my $gone = enable("sink => '" . $sink->url('/gone/x') . "'");
my $redirect = enable("sink => '" . $sink->url('/redirect/x') . "'");
my $big = enable("sink => '" . $sink->url('/big/x') . "'");
my $reset = enable("sink => '" . $sink->url('/reset/x') . "'");
ok(wait_state($gone, 'GIVEN_UP'), '410 ends it');
$row = notification($gone);
is("$row->{tries} " . ($row->{next_at} // 'never'), '1 never', 'at once');
like($row->{last_error}, qr/410/, 'and says so');
ok(wait_state($big, 'DELIVERED'), 'an endless answer is no trouble');
ok(wait_state($later, 'DELIVERED', 30), '429 is tried again');
@got = events('/later/x');
ok(@got == 2 && $got[1]{at} - $got[0]{at} >= 1.9, 'not before Retry-After');
ok(wait_until($node, $database, "SELECT last_error ~ '302.*redirects' FROM esim_notification WHERE operation = '$redirect'", 't'), 'redirects are not followed');
is(scalar events('/ok/redirected'), 0, 'not even once');
ok(wait_until($node, $database, "SELECT tries > 1 AND last_error <> '' FROM esim_notification WHERE operation = '$reset'", 't', 20),
	'a reset connection is tried again');

# cancelled operations and those that need their success
$simulator->post('/euicc', { eid => eid(91), online => JSON::PP::false });
my $held = value($node, $database, "SELECT esim_enable('" . iccid(91) . "', not_before => now() + interval '1 hour', sink => '" . $sink->url('/ok/cancelled') . "')");
is(value($node, $database, "SELECT esim_cancel('$held')"), 't', 'esim_cancel');
ok(wait_state($held, 'DELIVERED'), 'a cancelled operation is announced');
is(decode_json((events('/ok/cancelled'))[0]{body})->{data}{error}{code}, 'CANCELLED', 'as that');

#
# giving up, and what it takes to begin again
#
$node->append_conf('postgresql.conf', 'esim.sink_give_up = 3s');
$node->reload;
sleep 0.3;
$sink->set_switch('fail');
$id = enable("sink => '" . $sink->url('/switch/up') . "'");
ok(wait_state($id, 'GIVEN_UP', 30), 'given up after esim.sink_give_up');
$row = notification($id);
ok($row->{tries} >= 3 && !defined $row->{next_at}, 'after some tries');
like($row->{last_error}, qr/status 500/, 'with the reason');
is(value($node, $database, 'SELECT dead_sinks > 0 FROM esim_health()'), 't', 'esim_health knows');
$sink->set_switch('ok');
is(value($node, $database, "SELECT esim_redeliver('$row->{id}')"), 't', 'esim_redeliver takes it up again');
ok(wait_state($id, 'DELIVERED', 10), 'and it is delivered');
ok(notification($id)->{tries} > $row->{tries}, 'tries go on');
$node->append_conf('postgresql.conf', 'esim.sink_give_up = 3d');
$node->reload;

#
# whose it is
#
$node->safe_psql($database, q(
	CREATE ROLE sinks_alice LOGIN;
	CREATE ROLE sinks_bob LOGIN;
	SELECT esim_grant(r, 'enable', 'retrieve-operation') FROM unnest('{sinks_alice, sinks_bob}'::regrole[]) r;
	GRANT USAGE ON FOREIGN SERVER main TO sinks_alice, sinks_bob;) . "
	SELECT esim_transfer('" . eid(95) . "', 'sinks_alice'), esim_transfer('" . eid(96) . "', 'sinks_bob');");
sub as
{
	my ($role, $sql) = @_;
	return error_of("SET ROLE $role;\n$sql");
}
unlike(as('sinks_alice', q{SELECT esim_set_credential('mine', 'bearer', 'alices-token')}), qr/ERROR/, 'a tenant stores a credential');
like(as('sinks_alice', 'SELECT * FROM esim_credential'), qr/42501/, 'that it cannot read');
like(as('sinks_bob', q{SELECT esim_set_credential('mine', 'bearer', 'x', 'sinks_alice')}), qr/ES404/, 'nobody stores one for another');
like(as('sinks_bob', q{SELECT esim_drop_credential('mine', 'sinks_alice')}), qr/ES404/, 'or drops it');
as('sinks_alice', "SELECT esim_enable('" . iccid(95) . q{', sink_credential => '{"name": "mine"}', sink => '} . $sink->url('/ok/alice') . "')");
as('sinks_bob', "SELECT esim_enable('" . iccid(96) . q{', sink_credential => '{"name": "mine"}', sink => '} . $sink->url('/ok/bob') . "')");
ok(wait_until($node, $database, "SELECT state FROM esim_notification WHERE target ~ '/ok/alice'", 'DELIVERED'), 'it is used for her');
is((events('/ok/alice'))[0]{headers}{authorization}, 'Bearer alices-token', 'her token');
ok(wait_until($node, $database, "SELECT last_error ~ 'no credential' FROM esim_notification WHERE target ~ '/ok/bob'", 't'), 'and not for others');
is(scalar events('/ok/bob'), 0, 'nothing is sent with it');
$id = value($node, $database, "SELECT id FROM esim_notification WHERE target ~ '/ok/alice'");
like(as('sinks_bob', "SELECT esim_redeliver('$id')"), qr/ES404/, 'nobody redelivers for another');
like(as('sinks_alice', "SELECT esim_redeliver('$id')"), qr/t$/, 'but for himself');
like(as('sinks_bob', "SELECT count(*) FROM esim_notification WHERE id = '$id'"), qr/0$/, 'others do not see it');
ok(wait_until($node, $database, "SELECT tries || state FROM esim_notification WHERE id = '$id'", '2DELIVERED'), 'it is sent again');
$node->safe_psql($database, q{SELECT esim_set_credential('mine', 'bearer', 'root-token', 'sinks_bob')});
ok(wait_until($node, $database, "SELECT state FROM esim_notification WHERE target ~ '/ok/bob'", 'DELIVERED'), 'an administrator stores one for an owner');

# locked by a user: nobody waits
$sink->set_switch('fail');
$id = enable("sink => '" . $sink->url('/switch/locked') . "'");
ok(wait_until($node, $database, "SELECT tries > 0 FROM esim_notification WHERE operation = '$id'", 't'), 'a sink that fails');
$row = notification($id);
my $session = $node->background_psql($database, on_error_stop => 0) if $node->can('background_psql');
if (defined $session && ref $session && $session->can('query_safe'))
{
	$session->query_safe("BEGIN; SELECT esim_redeliver('$row->{id}')");
	my $other = enable("sink => '" . $sink->url('/ok/unlocked') . "'");
	ok(wait_state($other, 'DELIVERED', 10), 'a lock on one notification holds no other up');
	$session->query_safe('COMMIT');
	$session->quit;
}

# a copy of the database sends nothing
$node->safe_psql($database, "UPDATE esim_notification SET system_identifier = 1 WHERE operation = '$id'");
$sink->set_switch('ok');
my $before = scalar events('/switch/locked');
sleep 3;
is(scalar events('/switch/locked'), $before, 'a copy sends nothing');
is(value($node, $database, 'SELECT esim_resume()'), 't', 'until esim_resume()');
ok(wait_state($id, 'DELIVERED', 30), 'then it does');

#
# a crash: sent again, with the same identifier
#
$sink->set_switch('timeout');
$id = enable("sink => '" . $sink->url('/switch/crash') . "'");
ok(wait_completed($node, $database), 'an operation whose sink does not answer');
sleep 0.3 until events('/switch/crash');
$node->stop('immediate');
$sink->set_switch('ok');
$node->start;
value($node, $database, "SELECT count(*) FROM esim_worker_status()");
ok(wait_state($id, 'DELIVERED', 30), 'delivered after a crash of the server');
@got = events('/switch/crash');
ok(@got >= 2, 'it was sent before and after');
is(scalar(keys %{ { map { decode_json($_->{body})->{id} => 1 } @got } }), 1, 'with one identifier');

#
# 10,000 operations, a fifth of the sinks time out, fail or reset; two workers, that are ended in the middle
#
my $count = 10000;
my $sinks = 20;
$node->append_conf('postgresql.conf', 'esim.workers = 2');
$node->reload;
create_database($node, 'many');
create_server($node, 'many', $simulator, 'main', smdp_address => 'smdp.example.com', tenant => 'many', max_in_flight => 200);
fleet($node, 'many', $count, first => 1000000, state => 'DISABLED', simulator => $simulator);
my @dead = qw(timeout fail reset timeout);
my $case = join ' ', map { my $n = $_; "WHEN $n THEN '" . $sink->url(($n < @dead ? "/$dead[$n]" : '/ok') . "/many$n", $n % $ports) . "'" } 0 .. $sinks - 1;
$database = 'many';
$node->safe_psql('many', qq(
	SELECT count(esim_enable(iccid, sink => CASE n % $sinks $case END))
	FROM (SELECT iccid, row_number() OVER () AS n FROM esim_profile) p));
ok(wait_until($node, 'many', "SELECT count(*) > $count / 4 FROM esim_notification WHERE state = 'DELIVERED'", 't'), 'some have been told');
$node->safe_psql('many', q(SELECT pg_terminate_backend(pid) FROM esim_worker_status() WHERE pid IS NOT NULL));
ok(wait_until($node, 'many', q(SELECT count(*) > 0 FROM esim_worker_status() WHERE pid IS NOT NULL AND started_at > (SELECT max(delivered_at) FROM esim_notification)), 't')
	  || value($node, 'many', q(SELECT count(*) FROM esim_worker_status() WHERE pid IS NOT NULL)) > 0, 'workers are ended, others begin');
ok(wait_completed($node, 'many', 120), 'all operations complete');
my $living = qq(FROM esim_notification WHERE target ~ '/ok/');
ok(wait_until($node, 'many', "SELECT count(*) $living AND state <> 'DELIVERED'", '0', 60), 'every living sink has been told');
is(value($node, 'many', "SELECT count(*) $living"), $count * ($sinks - @dead) / $sinks, 'all of them');
is(value($node, 'many', 'SELECT count(DISTINCT operation) FROM esim_notification'), $count, 'one notification per operation');
is(value($node, 'many', 'SELECT count(*) FROM esim_notification'), $count, 'and no more');

# each event at its sink, with the identifier that the table has, whoever sent it how often
my %seen;
open(my $received, '<', $sink->{file}) or die $!;
while (my $line = <$received>)
{
	next if $line !~ /"path":"(\/ok\/many\d+)"/;
	my $path = $1;
	my ($event) = $line =~ /\\"id\\":\\"([0-9a-f-]{36})/;
	my ($operation) = $line =~ /\\"operationId\\":\\"([0-9a-f-]{36})/;
	$seen{"$event $operation $path"}++;
}
close $received;
my %expected = map { $_ => 1 } split /\n/, value($node, 'many', "SELECT id || ' ' || operation || ' ' || substring(target FROM '/ok/.*') $living");
is(scalar(grep { !exists $seen{$_} } keys %expected), 0, 'every event came to its sink');
is(scalar(grep { !exists $expected{$_} } keys %seen), 0, 'with one identifier, and none came elsewhere');
is(value($node, 'many', "SELECT max(tries) $living"), '1', 'at the first try');
# a dead one takes ten seconds each time
my $slowest = value($node, 'many', "SELECT max(extract(epoch FROM n.delivered_at - n.since)) FROM esim_notification n WHERE target ~ '/ok/'");
ok($slowest < 10, "nobody waited for the dead ones ($slowest s)");
is(value($node, 'many', "SELECT count(*) FROM esim_notification WHERE target !~ '/ok/' AND state <> 'PENDING'"), '0', 'the dead ones are tried again');
ok(wait_until($node, 'many', "SELECT count(DISTINCT sink) FROM esim_notification WHERE target !~ '/ok/' AND tries > 0", scalar @dead, 30),
	'each of them was tried');
is(value($node, 'many', q(SELECT count(*) FROM esim_worker_status() WHERE last_error <> '')), '0', 'workers had no errors');

$node->stop('fast');
done_testing();
