# test/t/007_faults.pl
# Each fault of the simulator: what becomes of the operation, and no effect twice.
#
# Each case has a server of its own in the simulator, so that the breaker of
# one does not touch another, and they all run at the same time.
use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep time);
use EsimTest;

my $db = 'postgres';
my $simulator = start_simulator();
my $node = new_node('faults', preload => 1, settings => ['esim.poll_interval = 500ms']);

# A case: name, kind of operation, rules, and what is expected: a result, or the phase that it stays in.
my @cases;

# the request is not answered as it should be, once: it succeeds all the same
foreach my $kind ('download', 'enable', 'disable', 'delete', 'set-fallback')
{
	foreach my $fault (qw(timeout_before_effect timeout_after_effect reset_before_effect reset_after_effect
		malformed_json truncated_json truncated_body oversized_json deep_json wrong_content_type invalid_utf8
		nul_bytes slow_drip endless_body wrong_types empty_body duplicate_keys wrong_iccid redirect))
	{
		# one kind goes through all, the others through those that lose answers
		next if $kind ne 'enable' && $fault !~ /timeout|reset|malformed|truncated/;
		push @cases, {
			name => "$kind, $fault", kind => $kind, expect => 'SUCCESS',
			rules => [ { method => 'POST', path => $kind, fault => $fault, count => 1 } ] };
	}
}

# the same of the answer to the question how it went
foreach my $fault (qw(timeout_before_effect reset_before_effect malformed_json truncated_body oversized_json
	deep_json wrong_content_type invalid_utf8 nul_bytes wrong_types empty_body duplicate_keys forget_operation))
{
	push @cases, {
		name => "GET, $fault", kind => 'enable', expect => 'SUCCESS',
		rules => [ { method => 'GET', fault => $fault, count => 1 } ] };
}

# statuses
foreach my $status (
	[ 400, 'INVALID_ARGUMENT', 'FAILED' ], [ 400, 'OUT_OF_RANGE', 'FAILED' ],
	[ 403, 'PERMISSION_DENIED', 'FAILED|PARKED' ], [ 404, 'IDENTIFIER_NOT_FOUND', 'FAILED' ],
	[ 405, 'METHOD_NOT_ALLOWED', 'FAILED' ], [ 415, 'UNSUPPORTED_MEDIA_TYPE', 'FAILED' ],
	[ 422, 'SERVICE_NOT_APPLICABLE', 'FAILED' ], [ 422, 'IDENTIFIER_MISMATCH', 'FAILED' ],
	[ 409, 'ABORTED', 'SUCCESS' ],
	[ 429, 'TOO_MANY_REQUESTS', 'SUCCESS' ], [ 503, 'UNAVAILABLE', 'SUCCESS' ],
	[ 500, 'INTERNAL', 'SUCCESS' ], [ 502, 'BAD_GATEWAY', 'SUCCESS' ], [ 504, 'TIMEOUT', 'SUCCESS' ])
{
	my ($code, $text, $expect) = @$status;

	push @cases, {
		name => "enable, $code $text", kind => 'enable', expect => $expect,
		rules => [ { method => 'POST', path => 'enable', fault => 'status', count => 1,
			status => $code, code => $text, message => 'Because.' } ] };
}
push @cases, {
	name => '429 with Retry-After', kind => 'enable', expect => 'SUCCESS', slow => 2,
	rules => [ { method => 'POST', path => 'enable', fault => 'status', count => 1, status => 429,
		code => 'TOO_MANY_REQUESTS', message => 'Slow.', retry_after => 2 } ] };
push @cases, {
	name => '5xx after the effect', kind => 'enable', expect => 'SUCCESS',
	rules => [ { method => 'POST', path => 'enable', fault => 'status', count => 1, status => 500,
		code => 'INTERNAL', message => 'Done, though.', effect => JSON::PP::true } ] };

# the device
push @cases, (
	{ name => 'the device fails', kind => 'enable', expect => 'FAILED',
		rules => [ { path => 'enable', fault => 'device_fail', reason => 'No answer from the card.' } ] },
	{ name => 'the device is slow', kind => 'enable', expect => 'SUCCESS',
		rules => [ { path => 'enable', fault => 'device_delay', ms => 1500 } ] },
	{ name => 'latency', kind => 'enable', expect => 'SUCCESS', rules => [ { fault => 'latency', ms => 500 } ] },
	{ name => 'no memory', kind => 'download', expect => 'FAILED', rules => [], memory => 1 },
	{ name => 'no fault', kind => 'set-fallback', expect => 'SUCCESS', rules => [] });

create_database($node, $db);
my $n = 0;
foreach my $case (@cases)
{
	my ($eid, $iccid, $other) = (eid($n), iccid(2 * $n), iccid(2 * $n + 1));
	my $kind = $case->{kind};
	my $tenant = "case$n";
	my $state = { download => undef, disable => 'ENABLED' }->{$kind};

	$state = 'DISABLED' if $kind !~ /^(download|disable)$/;
	$case->{tenant} = $tenant;
	$case->{eid} = $eid;
	create_server($node, $db, $simulator, $tenant, timeout => '2 s');
	$simulator->post('/euicc', { eid => $eid, ($case->{memory} ? (memory => $case->{memory}) : ()),
		profiles => [ { iccid => $other, state => 'DISABLED' }, $state ? { iccid => $iccid, state => $state } : () ] });
	$simulator->fault({ server => $tenant, %$_ }) foreach @{ $case->{rules} };
	$node->safe_psql($db, qq(INSERT INTO esim_device (eid, server) VALUES ('$eid', '$tenant');
		INSERT INTO esim_profile (iccid, eid, state) VALUES ('$other', '$eid', 'DISABLED'); )
		. ($state ? "INSERT INTO esim_profile (iccid, eid, state) VALUES ('$iccid', '$eid', '$state')"
			: "INSERT INTO esim_profile (iccid, state, activation_code) VALUES ('$iccid', 'RELEASED', '1\$smdp.example.com\$$iccid')"));
	$case->{call} = 'SELECT ' . {
		download => "esim_download('$eid', '$iccid')",
		enable => "esim_enable('$iccid')",
		disable => "esim_disable('$iccid')",
		delete => "esim_delete('$iccid')",
		'set-fallback' => "esim_set_fallback('$eid', '$iccid')" }->{$kind};
	$case->{effect} = { download => 'downloaded', enable => 'enabled', disable => 'disabled',
		delete => 'deleted', 'set-fallback' => 'fallback-set' }->{$kind} . " $iccid";
	$n++;
}
my @ids = map { value($node, $db, "SET esim.lockout_guard = off; $_->{call}") } @cases;

# those that stay are PARKED, the others complete
ok(wait_until($node, $db, q(SELECT count(*) FROM esim_operation WHERE status = 'ACCEPTED' AND phase <> 'PARKED'), '0', 90),
	'all complete') or wait_completed($node, $db, 0.1);
foreach my $case (@cases)
{
	my $id = shift @ids;
	my ($row) = rows($node, $db, qq(SELECT result, phase, error_code, attempts,
		round(extract(epoch FROM completed_at - created_at), 1) FROM esim_operation WHERE id = '$id'));
	my ($result, $phase, $code, $attempts, $seconds) = @$row;
	my $came = $result || $phase;
	my $effects = grep { $_ eq $case->{effect} } @{ $simulator->effects($case->{eid}) };
	my $wanted = $case->{expect};

	like($came, qr/^(?:$wanted)$/, "$case->{name}: $wanted")
	  or diag(query($node, $db, "SELECT number, method, http_status, outcome, detail FROM esim_attempt WHERE operation = '$id' ORDER BY number"));
	is($effects, $came eq 'SUCCESS' ? 1 : 0, "$case->{name}: the effect is there exactly if it says so");
	cmp_ok($seconds, '>=', $case->{slow}, "$case->{name}: waited for") if $case->{slow} && $seconds;
	note("$case->{name}: $came $code, $attempts requests, $seconds s");
}
ledger_is_exact($simulator, 'ledger');

# many operations of one server, a tenth of which meets something
create_server($node, $db, $simulator, 'storm', timeout => '2 s', tenant => 'storm');
fleet($node, $db, 1000, first => 10000, profiles => 1, state => 'DISABLED', server => 'storm', simulator => $simulator);
foreach my $fault (qw(reset_before_effect reset_after_effect malformed_json truncated_body wrong_types))
{
	$simulator->fault({ server => 'storm', fault => $fault, probability => 0.01 });
}
$simulator->fault({ server => 'storm', fault => 'status', status => 503, probability => 0.02 },
	{ server => 'storm', fault => 'status', status => 429, probability => 0.02, retry_after => 1 });
$node->safe_psql($db, q(SELECT count(esim_enable(p.iccid)) FROM esim_profile p JOIN esim_device d USING (eid) WHERE d.server = 'storm'));
ok(wait_until($node, $db, q(SELECT count(*) FROM esim_operation WHERE status = 'ACCEPTED' AND server = 'storm'), '0', 90), 'storm: all complete')
  or wait_completed($node, $db, 0.1);
is(value($node, $db, q(SELECT count(*) FROM esim_operation WHERE result = 'SUCCESS' AND server = 'storm')), '1000', 'storm: all succeed');
is(value($node, $db, q(SELECT count(*) FROM esim_profile p JOIN esim_device d USING (eid) WHERE d.server = 'storm' AND state = 'ENABLED')), '1000', 'storm: all are ENABLED')
  or tell_failures($node, $db),
  diag(query($node, $db, q(SELECT p.state, p.state_source, o.attempts, a.number, a.method, a.http_status, a.outcome, left(a.detail, 60)
	FROM esim_profile p JOIN esim_device d USING (eid) JOIN esim_operation o ON o.profile = p.id JOIN esim_attempt a ON a.operation = o.id
	WHERE d.server = 'storm' AND p.state <> 'ENABLED' ORDER BY o.id, a.number LIMIT 20)));
ledger_is_exact($simulator, 'storm');

# a token that runs out is fetched anew, once
$simulator->config('oauth', auth => { client_id => 'me', client_secret => 'secret', expires_in => 3600 });
create_server($node, $db, $simulator, 'oauth', auth_method => 'client_secret_basic', token_url => "$simulator->{url}/oauth/oauth2/token");
$node->safe_psql($db, q(CREATE USER MAPPING FOR PUBLIC SERVER oauth OPTIONS (client_id 'me', client_secret 'secret')));
fleet($node, $db, 50, first => 20000, state => 'DISABLED', server => 'oauth', simulator => $simulator);
$node->safe_psql($db, q(SELECT count(esim_enable(p.iccid)) FROM esim_profile p JOIN esim_device d USING (eid) WHERE d.server = 'oauth'));
ok(wait_until($node, $db, q(SELECT count(*) FROM esim_operation WHERE result = 'SUCCESS' AND server = 'oauth'), '50'), 'OAuth: all succeed');
is($simulator->stats('oauth')->{tokens_issued}, 1, 'OAuth: with one token');
$simulator->config('oauth', expire_tokens => JSON::PP::true);
$node->safe_psql($db, q(SELECT count(esim_disable(p.iccid)) FROM esim_profile p JOIN esim_device d USING (eid) WHERE d.server = 'oauth'));
ok(wait_until($node, $db, q(SELECT count(*) FROM esim_operation WHERE result = 'SUCCESS' AND server = 'oauth'), '100'), 'OAuth: and after the tokens ran out');
is($simulator->stats('oauth')->{tokens_issued}, 2, 'OAuth: with one more');
ledger_is_exact($simulator, 'OAuth');

# a device that changes by itself is seen by a refresh
my $eid = eid(20000);
$simulator->post('/device-event', { eid => $eid, what => 'local_enable', iccid => iccid(20000) });
$node->safe_psql($db, "SELECT esim_refresh('$eid')");
ok(wait_until($node, $db, "SELECT state FROM esim_profile WHERE iccid = '@{[iccid(20000)]}'", 'ENABLED'), 'a refresh tells what the device did');
is(value($node, $db, "SELECT count(*) FROM esim_profile_event e JOIN esim_profile p ON p.id = e.profile WHERE p.iccid = '@{[iccid(20000)]}' AND cause <> 'OPERATION'"),
	'1', 'and it is recorded');

# a server that is not there
create_server($node, $db, $simulator, 'nobody', url => 'http://127.0.0.1:9/nobody');
fleet($node, $db, 1, first => 30000, state => 'DISABLED', server => 'nobody');
$node->safe_psql($db, "SELECT esim_enable('@{[iccid(30000)]}')");
ok(wait_until($node, $db, q(SELECT phase FROM esim_operation WHERE server = 'nobody'), 'RETRYING'), 'a server that is not there is tried again');
ok(!$node->log_contains(qr/PANIC|was terminated by signal/), 'no crash');
$node->stop;
done_testing();
