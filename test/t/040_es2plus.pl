# test/t/040_es2plus.pl
# The SM-DP+ over ES2+, end to end: every operation, lost answers at every request, codes of
# failures, hostile answers, mutual TLS, and notifications through esim_receive().
use strict;
use warnings;

use JSON::PP;
use Test::More;
use EsimTest;
use EsimFront;

my $db = 'postgres';
my $simulator = start_simulator();
my $node = new_node('es2plus', preload => 1, settings => ['esim.poll_interval = 500ms']);
my $true = JSON::PP::true;
my $n = 0;

create_database($node, $db);
my $front = EsimFront::start($node, $db);

# a server of its own for each case; options of the simulator's es2plus
sub server
{
	my ($name, %settings) = @_;

	$simulator->config($name, es2plus => { notify_url => $front->url($name), requester => '1.3.6.1.4.1.99999', %settings });
	create_server($node, $db, $simulator, $name, protocol => 'es2plus', url => "$simulator->{url}/$name",
		requester_id => '1.3.6.1.4.1.99999', smdp_address => 'smdp.example.com', timeout => '2 s');
	return $name;
}

sub device
{
	my ($server) = @_;
	my $eid = eid(++$n);

	$node->safe_psql($db, "INSERT INTO esim_device (eid, server) VALUES ('$eid', '$server')");
	return $eid;
}

sub operation { my ($id) = @_; return value($node, $db, "SELECT result, error_code FROM esim_operation WHERE id = '$id'"); }

# ---- download: order, confirmation, notification point 4 ----

server('plain');
my $eid = device('plain');
my $iccid = iccid(1000 + $n);
my $id = value($node, $db, "SELECT esim_download('$eid', '$iccid')");
ok(wait_until($node, $db, "SELECT phase FROM esim_operation WHERE id = '$id'", 'WAITING_DEVICE'), 'download: waits for the device');
is($simulator->post('/es2plus/download', { server => 'plain', eid => $eid, until => 3 })->{state}, 'Downloaded', 'the device downloads');
ok($front->pump_until("SELECT state, state_source FROM esim_profile WHERE iccid = '$iccid'", 'DOWNLOADED|event'), 'point 3: DOWNLOADED, learned from an event');
is(value($node, $db, "SELECT status FROM esim_operation WHERE id = '$id'"), 'ACCEPTED', 'the operation goes on');
$simulator->post('/es2plus/download', { server => 'plain', eid => $eid, iccid => $iccid });
ok($front->pump_until("SELECT result FROM esim_operation WHERE id = '$id'", 'SUCCESS'), 'point 4: the download completes');
is(value($node, $db, "SELECT state, state_source, eid FROM esim_profile WHERE iccid = '$iccid'"), "INSTALLED|event|$eid", 'and the profile is INSTALLED, learned from an event');
is(value($node, $db, "SELECT string_agg(new_state || ' ' || cause, ', ' ORDER BY id) FROM esim_profile_event WHERE operation = '$id'"),
	'DOWNLOADED OPERATION, INSTALLED OPERATION', 'both are among its events');
is(value($node, $db, q(SELECT count(*) FROM esim_deferred)), '0', 'nothing is left behind');

# duplicates and wrong order
my $sent = sub {
	my ($server, %how) = @_;
	my %event = (header => { functionRequesterIdentifier => 'smdp', functionCallIdentifier => $how{call} // 'call-' . ++$n },
		iccid => $how{iccid}, profileType => 'A', timestamp => '2026-11-01T10:00:00Z', notificationPointId => $how{point},
		notificationPointStatus => { status => $how{status} // 'Executed-Success',
			$how{subject} ? (statusCodeData => { subjectCode => $how{subject}, reasonCode => $how{reason}, message => "It's so." }) : () },
		$how{eid} ? (eid => $how{eid}) : ());

	return value($node, $db, "SELECT esim_receive('$server', " . EsimFront::literal(encode_json(\%event)) . ')');
};
is($sent->('plain', iccid => $iccid, eid => $eid, point => 3), 'ignored', 'a late point 3 says nothing new');
$node->safe_psql($db, "UPDATE esim_profile SET state = 'ENABLED' WHERE iccid = '$iccid'");
is($sent->('plain', iccid => $iccid, eid => $eid, point => 4), 'ignored', 'a late point 4 either');
is(value($node, $db, "SELECT state FROM esim_profile WHERE iccid = '$iccid'"), 'ENABLED', 'what is known better stays');
is($sent->('plain', iccid => $iccid, eid => $eid, point => 4, call => 'same'), 'ignored', 'once');
is($sent->('plain', iccid => $iccid, eid => $eid, point => 4, call => 'same'), 'duplicate', 'the same again is a duplicate');
is($sent->('plain', iccid => iccid(99999), eid => $eid, point => 4), 'unknown', 'an ICCID that is not ours');
is(value($node, $db, q(SELECT count(*) FROM esim_event WHERE outcome = 'unknown')), '1', 'is kept');
is($sent->('plain', iccid => $iccid, eid => $eid, point => 7), 'ignored', 'a point that means nothing');

# another EID than the order's, none, and another server
my $eid2 = device('plain');
my $iccid2 = iccid(1000 + $n);
my $id2 = value($node, $db, "SELECT esim_download('$eid2', '$iccid2')");
ok(wait_until($node, $db, "SELECT phase FROM esim_operation WHERE id = '$id2'", 'WAITING_DEVICE'), 'another download');
server('other');
is($sent->('plain', iccid => $iccid2, eid => $eid, point => 4), 'unknown', 'the EID of another eUICC does not count');
is($sent->('plain', iccid => $iccid2, point => 4), 'asked', 'without an EID the worker looks, no more');
is($sent->('other', iccid => $iccid2, eid => $eid2, point => 4), 'unknown', 'nor does the word of another server');
is(value($node, $db, "SELECT state FROM esim_profile WHERE iccid = '$iccid2'"), 'RELEASED', 'nothing has changed');

# a failure that is not the end, and one that is
is($sent->('plain', iccid => $iccid2, eid => $eid2, point => 2, status => 'Failed', subject => '8.2.7', reason => '3.8'), 'applied', 'a wrong confirmation code');
is(value($node, $db, "SELECT status FROM esim_operation WHERE id = '$id2'"), 'ACCEPTED', 'may be given again');
is($sent->('plain', iccid => $iccid2, eid => $eid2, point => 4, status => 'Failed', subject => '8.1', reason => '4.8'), 'applied', 'an installation that fails');
ok(wait_until($node, $db, "SELECT result, rsp_code FROM esim_operation WHERE id = '$id2'", 'FAILED|8.1/4.8'), 'ends the download with its code');
isnt(value($node, $db, "SELECT error_code || error_message FROM esim_operation WHERE id = '$id2'"), '', 'and a reason');
is(value($node, $db, "SELECT state, state_source FROM esim_profile WHERE iccid = '$iccid2'"), 'FAILED|event', 'the profile is FAILED');

# vendors' own points, as CMLink has them
server('cmlink', cmlink => $true);
$node->safe_psql($db, q(INSERT INTO esim_notification_point (server, point, meaning, note) VALUES
	('cmlink', 5, 'DELETED', 'CMLink'), ('cmlink', 101, 'ENABLED', 'CMLink'), ('cmlink', 102, 'DISABLED', 'CMLink')));
$eid = device('cmlink');
$iccid = iccid(1000 + $n);
$id = value($node, $db, "SELECT esim_download('$eid', '$iccid')");
ok(wait_until($node, $db, "SELECT phase FROM esim_operation WHERE id = '$id'", 'WAITING_DEVICE'), 'CMLink: waits');
$simulator->post('/es2plus/download', { server => 'cmlink', eid => $eid });
ok($front->pump_until("SELECT result FROM esim_operation WHERE id = '$id'", 'SUCCESS'), 'CMLink: points and times as texts');
foreach my $point ([ 101, 'ENABLED' ], [ 102, 'DISABLED' ], [ 5, 'DELETED' ])
{
	$simulator->post('/es2plus/notify', { server => 'cmlink', iccid => $iccid, eid => $eid, point => $point->[0] });
	ok($front->pump_until("SELECT state, state_source FROM esim_profile WHERE iccid = '$iccid'", "$point->[1]|event"), "CMLink: point $point->[0] is $point->[1]");
}
is(value($node, $db, "SELECT string_agg(new_state::text, ' ' ORDER BY e.id) FROM esim_profile_event e JOIN esim_profile p ON p.id = e.profile WHERE p.iccid = '$iccid' AND cause = 'LOCAL'"),
	'ENABLED DISABLED DELETED', 'CMLink: local switches are recorded as such');

# the notification is faster than the answer to the confirmation
server('fast', auto_download_ms => 1);
$eid = device('fast');
$iccid = iccid(1000 + $n);
$simulator->fault({ server => 'fast', path => 'confirmOrder', fault => 'latency', ms => 700, count => 1 });
$id = value($node, $db, "SELECT esim_download('$eid', '$iccid')");
ok($front->pump_until("SELECT result FROM esim_operation WHERE id = '$id'", 'SUCCESS', 30), 'a notification that is faster than the answer ends the download as well');

# ---- lost answers, hostile answers, codes ----

my @cases;
foreach my $path ('downloadOrder', 'confirmOrder')
{
	foreach my $fault (qw(timeout_after_effect timeout_before_effect reset_after_effect malformed_json truncated_json empty_body
		wrong_types duplicate_keys invalid_utf8 nul_bytes wrong_content_type oversized_json deep_json endless_body truncated_body
		slow_drip redirect))
	{
		push @cases, { name => "download, $fault at $path", expect => 'WAITING_DEVICE',
			rules => [ { path => $path, fault => $fault, count => 1 } ] };
	}
	push @cases, map { { name => "download, $_->[0] at $path", expect => $_->[1],
		rules => [ { path => $path, fault => 'status', status => 200, code => $_->[0], ($_->[1] eq 'PARKED' ? () : (count => 1)) } ] } }
	  $path eq 'downloadOrder'
	  ? ([ '8.1.1/3.9', 'FAILED IDENTIFIER_NOT_FOUND' ], [ '8.2.1/1.2', 'FAILED PERMISSION_DENIED' ], [ '8.2.1/3.9', 'FAILED IDENTIFIER_NOT_FOUND' ],
		[ '8.2.5/3.7', 'PARKED' ], [ '8.2.5/3.9', 'FAILED NOT_FOUND' ], [ '1.3.2/3.1', 'FAILED .+' ])
	  : ([ '8.2.1/3.10', 'FAILED IDENTIFIER_MISMATCH' ], [ '8.2.1/3.1', 'FAILED IDENTIFIER_MISMATCH' ], [ '8.9/4.2', 'WAITING_DEVICE' ],
		[ '8.9/5.1', 'WAITING_DEVICE' ]);
	push @cases, map { { name => "download, $_ at $path", expect => 'WAITING_DEVICE',
		rules => [ { path => $path, fault => 'status', status => $_, count => 1 } ] } } (429, 503);
}
push @cases, { name => 'download without an ICCID, answer lost', no_iccid => 1, expect => 'FAILED OUTCOME_UNKNOWN',
	rules => [ { path => 'downloadOrder', fault => 'timeout_after_effect', count => 1 } ] };
push @cases, { name => 'download without an ICCID', no_iccid => 1, expect => 'WAITING_DEVICE', rules => [] };
foreach my $case (@cases)
{
	my $server = server('case' . scalar(grep { $_->{id} } @cases));

	$case->{eid} = device($server);
	$case->{iccid} = iccid(2000 + $n);
	$case->{server} = $server;
	$simulator->post('/es2plus/stock', $case->{no_iccid} ? { server => $server, profile_type => 'default', count => 5 }
		: { server => $server, iccid => $case->{iccid} });
	$simulator->fault({ server => $server, %$_ }) foreach @{ $case->{rules} };
	$case->{id} = value($node, $db, 'SELECT esim_download(' . ($case->{no_iccid} ? "'$case->{eid}'" : "'$case->{eid}', '$case->{iccid}'") . ')');
}
foreach my $case (@cases)
{
	my $sql = "SELECT CASE WHEN status = 'ACCEPTED' THEN phase::text ELSE result || ' ' || coalesce(error_code, '') END ~ '^(?:$case->{expect})\$' FROM esim_operation WHERE id = '$case->{id}'";

	ok(wait_until($node, $db, $sql, 't', 60), "$case->{name}: $case->{expect}")
	  or diag(query($node, $db, "SELECT o.phase, o.phase_reason, o.result, o.error_code, o.error_message, a.number, right(a.url, 20), a.http_status, a.outcome, left(a.detail, 60) FROM esim_operation o LEFT JOIN esim_attempt a ON a.operation = o.id WHERE o.id = '$case->{id}' ORDER BY a.number"));
}
# those that wait get their device
foreach my $case (grep { $_->{expect} eq 'WAITING_DEVICE' } @cases)
{
	$simulator->post('/es2plus/download', { server => $case->{server}, eid => $case->{eid} });
}
my $waiting = join ', ', map { "'$_->{id}'" } grep { $_->{expect} eq 'WAITING_DEVICE' } @cases;
ok($front->pump_until("SELECT count(*) FROM esim_operation WHERE id IN ($waiting) AND result IS DISTINCT FROM 'SUCCESS'", '0'), 'all that wait succeed when their devices come');
is(value($node, $db, "SELECT count(*) FROM esim_operation o JOIN esim_profile p ON p.id = o.profile WHERE o.id IN ($waiting) AND p.state <> 'INSTALLED'"), '0', 'and are INSTALLED');
is(value($node, $db, q(SELECT count(*) FROM (SELECT call_id FROM esim_attempt WHERE call_id IS NOT NULL GROUP BY call_id HAVING count(*) > 1) c)), '0', 'every try has a functionCallIdentifier of its own');
ledger_is_exact($simulator, 'ledger');

# ---- what the front end may get wrong ----

foreach my $bad ([ '[1]', 'ES400' ], [ '{}', 'ES400' ], [ '{"iccid": "x"}', 'ES400' ], [ '{"iccid": 5, "notificationPointId": []}', 'ES400' ])
{
	my ($status, $out, $err) = $node->psql($db, "\\set VERBOSITY verbose\nSELECT esim_receive('plain', '$bad->[0]')");
	like($err, qr/$bad->[1]/, "an event that is none: $bad->[0]");
}
my ($status, $out, $err) = $node->psql($db, "\\set VERBOSITY verbose\nSELECT esim_receive('nobody', '{}')");
like($err, qr/ES404/, 'an unknown server');
($status, $out, $err) = $node->psql($db, "\\set VERBOSITY verbose\nSELECT esim_receive('plain', jsonb_build_object('iccid', repeat('x', 70000)))");
like($err, qr/ES400/, 'an event that is too long');
$node->safe_psql($db, q(CREATE ROLE front; SELECT esim_grant('front', 'receive')));
($status, $out, $err) = $node->psql($db, "\\set VERBOSITY verbose\nSET ROLE front; SELECT esim_receive('plain', '{}')");
like($err, qr/ES403/, 'without USAGE on the server');
$node->safe_psql($db, 'GRANT USAGE ON FOREIGN SERVER plain TO front');
($status, $out, $err) = $node->psql($db, "\\set VERBOSITY verbose\nSET ROLE front; SELECT esim_receive('plain', '{}')");
like($err, qr/ES400/, 'with it, and the scope receive');

# ---- mutual TLS ----

my $dir = PostgreSQL::Test::Utils::tempdir();
foreach my $command (
	"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout $dir/ca.key -out $dir/ca.pem",
	(map { my ($who, $extension) = @$_;
		("openssl req -newkey rsa:2048 -nodes -subj /CN=$who -keyout $dir/$who.key -out $dir/$who.csr",
		 "printf '$extension' > $dir/$who.ext && openssl x509 -req -days 2 -in $dir/$who.csr -CA $dir/ca.pem -CAkey $dir/ca.key -CAcreateserial -extfile $dir/$who.ext -out $dir/$who.pem") }
		([ 'server', 'subjectAltName=IP:127.0.0.1,DNS:localhost' ], [ 'client', 'extendedKeyUsage=clientAuth' ])))
{
	system("($command) >/dev/null 2>&1") == 0 or die $command;
}
open(my $config, '>', "$dir/config.json") or die $!;
print $config '{"servers": {"tls": {"client_cert": true}}}';
close $config;
my $tls = start_simulator("--tls-cert=$dir/server.pem", "--tls-key=$dir/server.key", "--client-ca=$dir/ca.pem", "--config=$dir/config.json");
create_server($node, $db, $tls, 'tls', protocol => 'es2plus', url => "$tls->{url}/tls", requester_id => 'me', timeout => '5 s', ca_file => "$dir/ca.pem", smdp_address => 'smdp.example.com');
$eid = device('tls');
$id = value($node, $db, "SELECT esim_download('$eid', '@{[iccid(9000)]}')");
ok(wait_until($node, $db, "SELECT phase FROM esim_operation WHERE id = '$id'", 'PARKED'), 'without a client certificate the operation is parked');
$node->safe_psql($db, "CREATE USER MAPPING FOR PUBLIC SERVER tls OPTIONS (client_cert '$dir/client.pem', client_key '$dir/client.key')");
ok(wait_until($node, $db, "SELECT phase FROM esim_operation WHERE id = '$id'", 'WAITING_DEVICE'), 'with one it goes on by itself')
  or diag(query($node, $db, "SELECT phase, phase_reason FROM esim_operation WHERE id = '$id'"));

ok(!$node->log_contains(qr/PANIC|was terminated by signal/), 'no crash');
$node->stop;
done_testing();
