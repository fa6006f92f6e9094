# test/t/046_camara_events.pl
# CloudEvents of a provider that speaks CAMARA's 2026-02: sent by the simulator to the sink of each
# request, taken by a front end that calls esim_receive().
#
# The next poll of what waits is put off for an hour, so that only an event can bring the end.
use strict;
use warnings;

use JSON::PP;
use Test::More;
use EsimTest;
use EsimFront;

my $db = 'postgres';
my $simulator = start_simulator();
my $node = new_node('events', preload => 1, settings => ['esim.poll_interval = 500ms']);
my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my $n = 0;

create_database($node, $db);
my $front = EsimFront::start($node, $db);

# a provider with its settings
sub provider
{
	my ($name, %settings) = @_;

	$simulator->config($name, camara => { events => $true, %settings });
	create_server($node, $db, $simulator, $name, dialect => '2026-02', event_url => $front->url($name), unknown_hold => '1 hour', timeout => '2 s');
	return $name;
}

# a device that is away, with a DISABLED profile
sub device
{
	my ($server, %how) = @_;
	my ($eid, $iccid) = (eid(++$n), iccid($n));
	my $state = $how{state} // 'DISABLED';

	$simulator->post('/euicc', { eid => $eid, online => $false, profiles => [ { iccid => $iccid, state => $state } ] });
	$node->safe_psql($db, "INSERT INTO esim_device (eid, server) VALUES ('$eid', '$server'); INSERT INTO esim_profile (iccid, eid, state) VALUES ('$iccid', '$eid', '$state')");
	return ($eid, $iccid);
}

sub comes_back { my ($eid) = @_; $simulator->post('/euicc', { eid => $eid, online => $true }); return; }
sub call { return value($node, $db, "SET esim.lockout_guard = off; SELECT $_[0]"); }
sub operation { my ($id, $columns) = @_; return value($node, $db, "SELECT $columns FROM esim_operation WHERE id = '$id'"); }
sub attempts { my ($id) = @_; return operation($id, 'attempts'); }
sub receive { my ($server, $event) = @_; return value($node, $db, "SELECT esim_receive('$server', " . EsimFront::literal(encode_json($event)) . ')'); }

# Waits for the phase, then puts the next poll off.
sub put_off
{
	my ($id, $phase) = @_;

	ok(wait_until($node, $db, "SELECT phase FROM esim_operation WHERE id = '$id'", $phase), "$phase")
	  or diag(operation($id, 'phase, phase_reason, error_code, error_message'));
	ok(wait_until($node, $db, "WITH u AS (UPDATE esim_pending SET next_at = now() + interval '1 hour' WHERE operation = '$id' AND state = 'W' AND NOT claimed RETURNING 1) SELECT count(*) FROM u", '1'),
		'its next poll is far off');
	return attempts($id);
}

sub completed
{
	my ($id, $name, $expect) = @_;

	ok($front->pump_until("SELECT coalesce(result::text, phase::text) FROM esim_operation WHERE id = '$id'", $expect // 'SUCCESS', 40), $name)
	  or diag(query($node, $db, "SELECT o.phase, o.phase_reason, o.next_at - now(), a.number, a.method, right(a.url, 50), a.http_status, a.outcome FROM esim_operation o LEFT JOIN esim_attempt a ON a.operation = o.id WHERE o.id = '$id' ORDER BY a.number"));
	return;
}

# outcomes of the events since the last time, when so many have come
sub outcomes
{
	my ($count) = @_;
	my $end = time() + $EsimTest::patience;

	while (@{ $front->{outcomes} } < $count && time() < $end)
	{
		$front->pump;
		select(undef, undef, undef, 0.05);
	}
	my @got = @{ $front->{outcomes} };
	$front->{outcomes} = [];
	return join(' ', @got);
}

# ---- each kind: the event brings the end ----

provider('plain');
my %calls = (
	enable => sub { "esim_enable('$_[1]')" }, disable => sub { "esim_disable('$_[1]')" }, delete => sub { "esim_delete('$_[1]')" },
	'set-fallback' => sub { "esim_set_fallback('$_[0]', '$_[1]')" },
	download => sub { "esim_download('$_[0]', '@{[iccid(100000 + $n)]}', '1\$smdp.example.com\$@{[iccid(100000 + $n)]}')" },
	'download and enable' => sub { "esim_download('$_[0]', '@{[iccid(100000 + $n)]}', '1\$smdp.example.com\$@{[iccid(100000 + $n)]}', true)" });
foreach my $kind (sort keys %calls)
{
	my ($eid, $iccid) = device('plain', state => $kind eq 'disable' ? 'ENABLED' : 'DISABLED');
	my $id = call($calls{$kind}->($eid, $iccid));
	my $before = put_off($id, 'WAITING_DEVICE');

	comes_back($eid);
	completed($id, "$kind: its event brings the end");
	is(attempts($id), $before + 1, "$kind: by one request");
	is(outcomes(1), 'asked', "$kind: asked");
}

# the request as the simulator got it, the event as the front end did
my ($request) = grep { $_->{path} =~ m{/enable$} } @{ $simulator->get('/requests?n=500') };
my $body = decode_json($request->{body});
is($body->{sink}, $front->url('plain'), 'the sink is event_url');
like($body->{correlationId}, qr/^[0-9a-f-]{36}$/, 'with our operation as correlationId');
my ($came) = $front->{sink}->requests(qr{^/ok/plain});
is($came->{headers}{'content-type'}, 'application/cloudevents+json', 'events are CloudEvents');
is(decode_json($came->{body})->{type}, 'com.camara.esim-management.vwip.operation-completed', 'of the type of the OpenAPI');

# a failure is told in the event, and asked for all the same
{
	my ($eid, $iccid) = device('plain');

	$simulator->fault({ server => 'plain', path => '/enable', fault => 'device_fail', reason => 'No answer from the card.', count => 1 });
	my $id = call("esim_enable('$iccid')");
	put_off($id, 'WAITING_DEVICE');
	comes_back($eid);
	completed($id, 'a failure', 'FAILED');
	is(operation($id, 'rsp_code, rsp_message'), 'DEVICE_ERROR|No answer from the card.', 'with the provider\'s code and words');
	is(value($node, $db, "SELECT state FROM esim_profile WHERE iccid = '$iccid'"), 'DISABLED', 'nothing is changed');
	outcomes(1);
}

# ---- the answer to the request was lost: the event has an identifier that we do not know ----

{
	my ($eid, $iccid) = device('plain');

	$simulator->fault({ server => 'plain', path => '/enable', fault => 'timeout_after_effect', count => 1 });
	my $id = call("esim_enable('$iccid')");
	put_off($id, 'UNKNOWN');
	comes_back($eid);
	completed($id, 'a lost answer: the event brings the end');
	is(outcomes(1), 'asked', 'asked for the eUICC');
}

# ---- the event is there before the answer to the request ----

{
	my ($eid, $iccid) = device('plain');

	comes_back($eid);
	$simulator->fault({ server => 'plain', path => '/enable', fault => 'latency', ms => 700, count => 1 });
	my $id = call("esim_enable('$iccid')");
	completed($id, 'an event before the answer');
	like(outcomes(1), qr/^(asked|duplicate)$/, 'does no harm');
}

# ---- copies, wrong order, names of the diagram ----

provider('copies', copies => 3);
{
	my ($eid, $iccid) = device('copies');
	my $id = call("esim_enable('$iccid')");
	my $before = put_off($id, 'WAITING_DEVICE');

	comes_back($eid);
	completed($id, 'three copies');
	is(outcomes(3), 'asked duplicate duplicate', 'two of them are known already');
	is(attempts($id), $before + 1, 'it is asked once');
}

provider('reversed', hold => 3, names => 'diagram');
{
	my @devices = map { [ device('reversed') ] } 1 .. 3;
	my @ids = (
		call("esim_enable('$devices[0][1]')"), call("esim_set_fallback('$devices[1][0]', '$devices[1][1]')"),
		call("esim_download('$devices[2][0]', '@{[iccid(200000)]}', '1\$smdp.example.com\$@{[iccid(200000)]}')"));

	put_off($_, 'WAITING_DEVICE') foreach @ids;
	comes_back($_->[0]) foreach @devices;
	completed($_, 'newest first, named as in the diagram') foreach @ids;
	is(outcomes(3), 'asked asked asked', 'each is asked for');
	is(join(' ', map { decode_json($_->{body})->{type} =~ /([^.]+)$/ } $front->{sink}->requests(qr{^/ok/reversed})),
		'esim-downloaded esim-fallback-set esim-enabled', 'as they came');
}

# three operations of one eUICC, told of in the wrong order
{
	my ($eid, $iccid) = device('reversed');
	my @ids = (call("esim_enable('$iccid')"), call("esim_disable('$iccid')"), call("esim_delete('$iccid')"));

	put_off($ids[0], 'WAITING_DEVICE');
	comes_back($eid);
	# the first one's event is held back: its poll finds it, those behind follow
	$node->safe_psql($db, "UPDATE esim_pending SET next_at = now() WHERE operation = '$ids[0]'");
	completed($_, 'one after the other') foreach @ids;
	is(join(', ', @{ $simulator->effects($eid) }), "enabled $iccid, disabled $iccid, deleted $iccid", 'in their order');
	like(outcomes(3), qr/^\w+ \w+ \w+$/, 'late events');
	is(value($node, $db, "SELECT state FROM esim_profile WHERE iccid = '$iccid'"), 'DELETED', 'change nothing');
}

# ---- forged ----

{
	my ($eid, $iccid) = device('plain');
	my ($other_eid, $other_iccid) = device('copies');
	my $id = call("esim_enable('$iccid')");
	my $before = put_off($id, 'WAITING_DEVICE');
	my $operation = operation($id, 'rsp_operation_id');
	my %event = (specversion => '1.0', type => 'com.camara.esim-management.vwip.operation-completed', source => 'https://forged.example/',
		data => { operationId => $operation, operation => 'enable', status => 'completed', esim => { eid => $eid, iccid => $iccid },
			result => { outcome => 'success', completedAt => '2026-01-01T00:00:00Z' } });
	my $number = 0;
	my $forge = sub {
		my ($server, %data) = @_;
		return receive($server, { %event, id => 'forged ' . ++$number, data => { %{ $event{data} }, %data } });
	};

	is($forge->('plain'), 'asked', 'a forged success makes the worker ask');
	ok(wait_until($node, $db, "SELECT attempts FROM esim_operation WHERE id = '$id'", $before + 1), 'once');
	is(operation($id, 'status, result'), 'ACCEPTED|', 'what the provider says counts');
	is(value($node, $db, "SELECT state FROM esim_profile WHERE iccid = '$iccid'"), 'DISABLED', 'the profile is as it was');
	put_off($id, 'WAITING_DEVICE');
	$before = attempts($id);
	is($forge->('copies'), 'unknown', 'another server\'s operation is none of this one\'s');
	is($forge->('plain', operationId => '550e8400-e29b-41d4-a716-446655440000'), 'unknown', 'an operation of nobody');
	is($forge->('plain', operationId => '../../etc/passwd'), 'unknown', 'an identifier that is none');
	is($forge->('plain', operationId => 'x' x 10000), 'unknown', 'a long one');
	is($forge->('plain', esim => { eid => $other_eid, iccid => $other_iccid }), 'unknown', 'another eUICC\'s');
	is(receive('plain', { %event, id => 'type', type => 'com.camara.esim-management.vwip.something-else' }), 'ignored', 'another type');
	is(receive('plain', { %event, id => 'shape', data => [ 1, 2 ] }), 'unknown', 'data of another shape');
	my ($status, $out, $err) = $node->psql($db, q(SELECT esim_receive('plain', '{"data": {}}')));
	like($err, qr/INVALID_ARGUMENT/, 'what is no CloudEvent is refused');
	select(undef, undef, undef, 1.5);
	is(attempts($id), $before, 'none of these made the worker ask');
	comes_back($eid);
	completed($id, 'the real one brings the end');
	is(receive('plain', { %event, id => 'late' }), 'duplicate', 'one that comes after it is a duplicate');
}

is(value($node, $db, q(SELECT count(*) FROM esim_operation WHERE status = 'ACCEPTED')), '0', 'nothing waits');
ledger_is_exact($simulator, 'ledger');
ok(!$node->log_contains(qr/PANIC|was terminated by signal|esim worker failed/), 'no trouble');
$node->stop;
done_testing();
