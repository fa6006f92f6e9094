# test/t/042_twilio.pl
# Super SIM, end to end: the default SM-DP+ method, lost answers, hostile answers, callbacks through
# esim_receive().
use strict;
use warnings;

use JSON::PP;
use Test::More;
use EsimTest;
use EsimFront;

my $db = 'postgres';
my $simulator = start_simulator();
my $node = new_node('twilio', preload => 1, settings => ['esim.poll_interval = 500ms']);
my $n = 0;

create_database($node, $db);
my $front = EsimFront::start($node, $db);

# an account of its own for each case
sub server
{
	my ($name, %settings) = @_;

	$simulator->config($name, supersim => { reserve_ms => 300, %settings },
		auth => { username => 'AC1', password => 'token' });
	create_server($node, $db, $simulator, $name, protocol => 'twilio', url => "$simulator->{url}/$name/supersim/v1",
		timeout => '2 s', unknown_hold => '3 s', smdp_address => 'smdp.example.com', auth_method => 'basic', event_url => $front->url($name));
	$node->safe_psql($db, "CREATE USER MAPPING FOR PUBLIC SERVER \"$name\" OPTIONS (username 'AC1', password 'token')");
	return $name;
}

sub device
{
	my ($server) = @_;
	my $eid = eid(++$n);

	$node->safe_psql($db, "INSERT INTO esim_device (eid, server) VALUES ('$eid', '$server')");
	return $eid;
}

# ---- download: reserved for the EID, then installed by the device ----

server('plain');
my $eid = device('plain');
my $id = value($node, $db, "SELECT esim_download('$eid')");
ok($front->pump_until("SELECT phase FROM esim_operation WHERE id = '$id'", 'WAITING_DEVICE'), 'download: reserved, waits for the device');
is(value($node, $db, "SELECT p.state, p.rsp_id ~ '^HP', p.sim_id ~ '^HS', p.smdp_address <> '', p.matching_id IS NULL, p.activation_code IS NULL FROM esim_profile p JOIN esim_operation o ON o.profile = p.id WHERE o.id = '$id'"),
	'RELEASED|t|t|t|t|t', 'ICCID, address and Sim are known; an EID has no matching ID');
$simulator->post('/supersim/download', { eid => $eid });
ok($front->pump_until("SELECT result FROM esim_operation WHERE id = '$id'", 'SUCCESS'), 'installed: the callback makes the worker ask, and the download completes');
is(value($node, $db, "SELECT state FROM esim_profile p JOIN esim_operation o ON o.profile = p.id WHERE o.id = '$id'"), 'INSTALLED', 'the profile is INSTALLED');
ok((grep { $_ eq 'asked' } @{ $front->{outcomes} }) > 0, 'callbacks are hints');
is(value($node, $db, q(SELECT count(*) FROM esim_event WHERE kind = 'callback' AND outcome = 'asked' AND body ? 'Sid')) > 0 ? 1 : 0, 1, 'and are kept');

# ---- what a front end hands over ----

my ($sid, $sim) = split /\|/, value($node, $db, "SELECT p.rsp_id, p.sim_id FROM esim_profile p JOIN esim_operation o ON o.profile = p.id WHERE o.id = '$id'");
my $refreshes = "SELECT count(*) FROM esim_operation WHERE kind = 'refresh'";
my $before = value($node, $db, $refreshes);
is(value($node, $db, qq(SELECT esim_receive('plain', '{"Sid": "$sid", "Status": "installed"}'))), 'asked', 'nothing waits for it: the eUICC is listed');
is(value($node, $db, $refreshes), $before + 1, 'by a refresh');
ok(wait_until($node, $db, q(SELECT count(*) FROM esim_operation WHERE status = 'ACCEPTED'), '0'), 'which completes');
is(value($node, $db, qq(SELECT esim_receive('plain', '{}', '{"query": "?simsid=$sim"}'))), 'asked', 'a query as text, names in any case');
is(value($node, $db, qq(SELECT esim_receive('plain', '{}', '{"query": {"op": "$id"}}'))), 'asked', 'a query as object');
is(value($node, $db, q(SELECT esim_receive('plain', '{"Sid": "HP00000000000000000000000000000000"}'))), 'unknown', 'a profile that is not ours');
is(value($node, $db, qq(SELECT esim_receive('plain', '{"Sid": "$sid", "Other": "HP00000000000000000000000000000000"}'))), 'unknown', 'two profiles');
foreach my $bad ([ '{}', '{}' ], [ '{"Sid": "x"}', '{}' ], [ '{}', '{"query": 5}' ], [ '{}', '{"cookies": {}}' ], [ '{}', '{"query": "op=%0"}' ])
{
	my ($status, $out, $err) = $node->psql($db, "\\set VERBOSITY verbose\nSELECT esim_receive('plain', '$bad->[0]', '$bad->[1]')");
	like($err, qr/ES400/, "no callback: $bad->[0] $bad->[1]");
}

# ---- lost and hostile answers ----

my @cases;
foreach my $request ([ 'POST', 'ESimProfiles' ], [ 'GET', 'ESimProfiles' ], [ 'GET', 'Sims' ])
{
	foreach my $fault (qw(timeout_after_effect timeout_before_effect reset_after_effect malformed_json truncated_json empty_body
		wrong_types duplicate_keys invalid_utf8 nul_bytes wrong_content_type oversized_json deep_json endless_body truncated_body
		slow_drip redirect))
	{
		push @cases, { name => "download, $fault at $request->[0] $request->[1]",
			rules => [ { method => $request->[0], path => $request->[1], fault => $fault, count => 1 } ] };
	}
	push @cases, map { { name => "download, $_ at $request->[0] $request->[1]",
		rules => [ { method => $request->[0], path => $request->[1], fault => 'status', status => $_, count => 1 } ] } } (429, 500, 503);
}
foreach my $case (@cases)
{
	my $server = server('case' . scalar(grep { $_->{id} } @cases), install_ms => 3000);

	$case->{eid} = device($server);
	$simulator->fault({ server => $server, %$_ }) foreach @{ $case->{rules} };
	$case->{id} = value($node, $db, "SELECT esim_download('$case->{eid}')");
}
$front->pump_until("SELECT count(*) FROM esim_operation WHERE status = 'ACCEPTED'", '0', 90);
foreach my $case (@cases)
{
	is(value($node, $db, "SELECT result FROM esim_operation WHERE id = '$case->{id}'"), 'SUCCESS', $case->{name})
	  or diag(query($node, $db, "SELECT o.phase, o.phase_reason, o.error_code, o.error_message, a.number, a.method, right(a.url, 30), a.http_status, a.outcome, left(a.detail, 60) FROM esim_operation o LEFT JOIN esim_attempt a ON a.operation = o.id WHERE o.id = '$case->{id}' ORDER BY a.number"));
}
is(value($node, $db, q(SELECT count(*) FROM esim_profile WHERE server LIKE 'case%')), scalar @cases, 'one profile each');
ledger_is_exact($simulator, 'ledger');
ok(!$node->log_contains(qr/PANIC|was terminated by signal/), 'no crash');
$node->stop;
done_testing();
