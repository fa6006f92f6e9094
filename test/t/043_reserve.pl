# test/t/043_reserve.pl
# Reservation and subscription, end to end: at an SM-DP+, with lost answers at every request, and at
# Super SIM (042_twilio.pl has the rest of it); an order that is taken back while it waits for its
# device; events through esim_receive().
use strict;
use warnings;

use JSON::PP;
use Test::More;
use EsimTest;
use EsimFront;

my $db = 'postgres';
my $simulator = start_simulator();
my $node = new_node('reserve', preload => 1, settings => ['esim.poll_interval = 500ms']);
my $true = JSON::PP::true;
my $n = 0;

create_database($node, $db);
my $front = EsimFront::start($node, $db);

sub smdp
{
	my ($name, %settings) = @_;

	$simulator->config($name, es2plus => { notify_url => $front->url($name), %settings });
	create_server($node, $db, $simulator, $name, protocol => 'es2plus', url => "$simulator->{url}/$name",
		requester_id => 'me', smdp_address => 'smdp.example.com', timeout => '2 s');
	return $name;
}

sub supersim
{
	my ($name, %settings) = @_;

	$simulator->config($name, supersim => { reserve_ms => 300, %settings }, auth => { username => 'AC1', password => 'token' });
	create_server($node, $db, $simulator, $name, protocol => 'twilio', url => "$simulator->{url}/$name/supersim/v1",
		timeout => '2 s', unknown_hold => '3 s', auth_method => 'basic', event_url => $front->url($name));
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

sub completed
{
	my ($id, $expect, $name) = @_;

	$expect //= 'SUCCESS';
	ok($front->pump_until("SELECT coalesce(result || coalesce(' ' || error_code, ''), '') FROM esim_operation WHERE id = '$id'", $expect, 40), $name)
	  or diag(query($node, $db, "SELECT o.kind, o.phase, o.phase_reason, o.error_code, o.error_message, a.number, a.method, right(a.url, 30), a.http_status, a.outcome, left(a.detail, 60) FROM esim_operation o LEFT JOIN esim_attempt a ON a.operation = o.id WHERE o.id = '$id' ORDER BY a.number"));
	return;
}

sub call { return value($node, $db, "SELECT $_[0]"); }
sub profile { my ($id, $columns) = @_; return value($node, $db, "SELECT $columns FROM esim_profile p JOIN esim_operation o ON o.profile = p.id WHERE o.id = '$id'"); }

# ---- ES2+ ----

smdp('smdp');
my $eid = device('smdp');
my $id = call(q(esim_reserve(generate_matching_id => true, profile_type => 'default', server => 'smdp')));
completed($id, undef, 'ES2+: reserve with a MatchingID of ours');
like(profile($id, 'p.state, p.activation_code'), qr/^RELEASED\|1\$[^\$]+\$[A-Z0-9-]{20,}$/, 'RELEASED, with an activation code');
my ($iccid, $code) = split /\|/, profile($id, 'p.iccid, p.activation_code');
is(value($node, $db, "SELECT esim_activation_code('$iccid')"), $code, 'esim_activation_code() gives it');
# a phone scans it: nobody has registered it
$simulator->post('/es2plus/download', { server => 'smdp', eid => eid(777), activation_code => $code });
ok($front->pump_until("SELECT state, state_source FROM esim_profile WHERE iccid = '$iccid'", 'INSTALLED|event'), 'a phone that scans the code: INSTALLED, learned from an event');
is(value($node, $db, "SELECT eid FROM esim_profile WHERE iccid = '$iccid'"), eid(777), 'on the eUICC that the event names');
is(value($node, $db, "SELECT string_agg(new_state || ' ' || cause, ', ' ORDER BY e.id) FROM esim_profile_event e JOIN esim_profile p ON p.id = e.profile WHERE p.iccid = '$iccid' AND e.cause <> 'OPERATION'"),
	'DOWNLOADED LOCAL, INSTALLED LOCAL', 'as the device\'s own doing');

$id = call("esim_reserve('$eid', profile_type => 'default', server => 'smdp')");
completed($id, undef, 'ES2+: reserve for an eUICC');
is(profile($id, 'p.state, p.reserved_eid, p.matching_id, p.activation_code'), "RELEASED|$eid||", 'matching ID and code stay NULL');
$id = call("esim_reserve(iccid => '@{[iccid(100)]}', generate_matching_id => true, release => false, server => 'smdp')");
completed($id, undef, 'ES2+: reserve an ICCID without releasing it');
is(profile($id, 'p.state, p.iccid'), 'RESERVED|' . iccid(100), 'RESERVED');
completed(call("esim_release('@{[iccid(100)]}')"), undef, 'ES2+: release');
is(profile($id, 'p.state'), 'RELEASED', 'RELEASED');
completed(call("esim_cancel_order('@{[iccid(100)]}', 'Unavailable')"), undef, 'ES2+: cancel-order');
is(profile($id, 'p.state'), 'CANCELLED', 'CANCELLED');

my @cases;
foreach my $path ('downloadOrder', 'confirmOrder')
{
	foreach my $fault ('timeout_after_effect', 'timeout_before_effect', 'reset_after_effect', 'malformed_json')
	{
		push @cases, { name => "ES2+: reserve an ICCID, $fault at $path", path => $path, fault => $fault,
			call => sub { "esim_reserve(iccid => '$_[1]', generate_matching_id => true, server => '$_[2]')" } };
		push @cases, { name => "ES2+: reserve any, $fault at $path", path => $path, fault => $fault, any => 1,
			expect => $path eq 'downloadOrder' ? 'FAILED OUTCOME_UNKNOWN' : undef,
			call => sub { "esim_reserve(profile_type => 'default', generate_matching_id => true, server => '$_[2]')" } };
	}
}
foreach my $case (@cases)
{
	my $server = smdp('smdp' . ++$n);

	$simulator->post('/es2plus/stock', $case->{any} ? { server => $server, profile_type => 'default', count => 5 } : { server => $server, iccid => iccid(200 + $n) });
	$simulator->fault({ server => $server, path => $case->{path}, fault => $case->{fault}, count => 1 });
	$case->{id} = call($case->{call}->(undef, iccid(200 + $n), $server));
}
completed($_->{id}, $_->{expect}, $_->{name}) foreach @cases;
foreach my $path ('releaseProfile', 'cancelOrder')
{
	foreach my $fault ('timeout_after_effect', 'timeout_before_effect', 'reset_after_effect')
	{
		my $server = smdp('smdp' . ++$n);
		my $which = iccid(200 + $n);

		$simulator->post('/es2plus/stock', { server => $server, iccid => $which });
		completed(call("esim_reserve(iccid => '$which', generate_matching_id => true, release => false, server => '$server')"), undef, "reserve for $path, $fault");
		$simulator->fault({ server => $server, path => $path, fault => $fault, count => 1 });
		completed(call($path eq 'releaseProfile' ? "esim_release('$which')" : "esim_cancel_order('$which')"), undef, "ES2+: $path, $fault");
	}
}
ledger_is_exact($simulator, 'ES2+');

# ---- Super SIM: the guide ----

supersim('twilio');
$eid = device('twilio');
completed(call(q(esim_fleet_create('Meters', '{"NetworkAccessProfile": "HA00000000000000000000000000000001"}', server => 'twilio'))), undef, 'Super SIM: a Fleet');
$id = call(q(esim_reserve(generate_matching_id => true, server => 'twilio')));
completed($id, undef, 'Super SIM: reserve with a MatchingID');
is(profile($id, q(p.state, p.matching_id <> '', p.smdp_address <> '', p.activation_code IS NOT NULL, p.rsp_id ~ '^HP', p.sim_id ~ '^HS', p.iccid IS NOT NULL)), 'RELEASED|t|t|t|t|t|t', 'all of it is known');
$iccid = profile($id, 'p.iccid');
completed(call("esim_set_subscription('$iccid', 'ACTIVE', fleet => 'Meters')"), undef, 'Super SIM: Fleet and status in one call');
is(profile($id, 'p.subscription_status, p.fleet'), 'ACTIVE|Meters', 'ACTIVE in the Fleet');
completed(call("esim_set_subscription('$iccid', 'INACTIVE')"), undef, 'Super SIM: inactive');
$id = call("esim_reserve('$eid', server => 'twilio')");
completed($id, undef, 'Super SIM: reserve for an eUICC');
is(profile($id, 'p.state, p.matching_id, p.activation_code'), 'RELEASED||', 'without matching ID and code');
$iccid = profile($id, 'p.iccid');
completed(call("esim_assign_fleet('$iccid', 'Meters')"), undef, 'Super SIM: assign to a Fleet');
my $download = call("esim_download('$eid', '$iccid')");
ok($front->pump_until("SELECT phase FROM esim_operation WHERE id = '$download'", 'WAITING_DEVICE'), 'Super SIM: download waits for the device');
completed(call("esim_set_subscription('$iccid', 'ACTIVE')"), undef, 'Super SIM: the subscription changes while the download waits');
$simulator->post('/supersim/download', { eid => $eid });
completed($download, undef, 'Super SIM: the device comes');
is(profile($id, 'p.state'), 'INSTALLED', 'INSTALLED');

ledger_is_exact($simulator, 'Super SIM');

# ---- routing: each step on its own server, in one transaction ----

my $phone = device('smdp');
($id, my $enable) = split /\|/, (split /\n/, value($node, $db, qq(
	BEGIN;
	CREATE TEMP TABLE step AS SELECT esim_reserve('$phone', profile_type => 'default', server => 'smdp') AS id;
	SELECT s.id, esim_download('$phone', profile => o.profile, server => 'smdp') FROM step s JOIN esim_operation o USING (id);
	COMMIT;)))[-1];
completed($id, undef, 'routing: the reservation');
ok($front->pump_until("SELECT phase FROM esim_operation WHERE id = '$enable'", 'WAITING_DEVICE'), 'routing: the download that was queued behind it');
$simulator->post('/es2plus/download', { server => 'smdp', eid => $phone });
completed($enable, undef, 'routing: and ends by the notification');

# ---- an order that waits for its device is taken back ----

my $absent = device('smdp');
$id = call("esim_download('$absent', '@{[iccid(9000)]}', server => 'smdp')");
ok($front->pump_until("SELECT phase FROM esim_operation WHERE id = '$id'", 'WAITING_DEVICE'), 'cancel: a download waits for its device');
is(value($node, $db, "SELECT esim_cancel('$id'), esim_cancel('$id')"), 't|t', 'cancel: the SM-DP+ is asked, once');
ok(wait_until($node, $db, "SELECT result, error_code FROM esim_operation WHERE id = '$id'", 'CANCELLED|CANCELLED'), 'cancel: the download ends with the order');
is(value($node, $db, "SELECT kind, result FROM esim_operation WHERE kind = 'cancel-order' AND profile = (SELECT profile FROM esim_operation WHERE id = '$id')"),
	'cancel-order|SUCCESS', 'cancel: which was an operation of its own');
is(profile($id, 'p.state'), 'CANCELLED', 'cancel: the profile');
is(value($node, $db, "SELECT esim_cancel('$id')"), 'f', 'cancel: nothing is left to cancel');
is(value($node, $db, "SELECT string_agg(outcome, ' ' ORDER BY at) FROM esim_audit WHERE function = 'esim_cancel' AND operation = '$id'"), 'ASKED ASKED COMPLETED', 'cancel: the audit tells them apart');
# the device is quicker than the order to the SM-DP+
my $quick = device('smdp');
$id = call("esim_download('$quick', '@{[iccid(9001)]}', server => 'smdp')");
ok($front->pump_until("SELECT phase FROM esim_operation WHERE id = '$id'", 'WAITING_DEVICE'), 'cancel: another download waits');
$simulator->post('/es2plus/download', { server => 'smdp', eid => $quick, until => 3 });
is(value($node, $db, "SELECT esim_cancel('$id')"), 't', 'cancel: the SM-DP+ is asked, too late');
ok($front->pump_until("SELECT result, error_code FROM esim_operation WHERE kind = 'cancel-order' AND profile = (SELECT profile FROM esim_operation WHERE id = '$id')", 'FAILED|INCOMPATIBLE_STATE'),
	'cancel: what was downloaded is not cancelled');
is(value($node, $db, "SELECT status FROM esim_operation WHERE id = '$id'"), 'ACCEPTED', 'cancel: the download goes on');
$simulator->post('/es2plus/download', { server => 'smdp', eid => $quick, iccid => iccid(9001) });
completed($id, undef, 'cancel: and ends by the notification');
ledger_is_exact($simulator, 'cancel');

ok(!$node->log_contains(qr/PANIC|was terminated by signal/), 'no crash');
$node->stop;
done_testing();
