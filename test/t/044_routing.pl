# test/t/044_routing.pl
# Operations that go to several servers, end to end: a fleet, a profile reserved at an SM-DP+, its
# subscription set at the operator, downloaded and enabled through the eIM, asked for in one
# transaction; what becomes of the rest when the reservation fails; a download that waits for the
# device holds up neither eUICC nor subscription.
use strict;
use warnings;

use Test::More;
use EsimTest;

my $db = 'postgres';
my $simulator = start_simulator();
my $node = new_node('routing', preload => 1, settings => ['esim.poll_interval = 500ms']);
my ($eid, $iccid) = (eid(1), iccid(1));

create_database($node, $db);
$simulator->config('smdp', es2plus => {});
$simulator->config('net', supersim => { reserve_ms => 300 }, auth => { username => 'AC1', password => 'token' });
create_server($node, $db, $simulator, 'smdp', protocol => 'es2plus', url => "$simulator->{url}/smdp",
	requester_id => 'me', smdp_address => 'smdp.example.com');
create_server($node, $db, $simulator, 'net', protocol => 'twilio', url => "$simulator->{url}/net/supersim/v1", auth_method => 'basic');
create_server($node, $db, $simulator, 'eim', protocol => 'eim', url => "$simulator->{url}/eim/eim");
$node->safe_psql($db, q(CREATE USER MAPPING FOR PUBLIC SERVER net OPTIONS (username 'AC1', password 'token')));
$node->safe_psql($db, "INSERT INTO esim_device (eid, server) VALUES ('$eid', 'eim'), ('@{[eid(2)]}', 'net'), ('@{[eid(3)]}', 'eim')");
$simulator->post('/es2plus/stock', [ { server => 'smdp', iccid => $iccid }, { server => 'smdp', profile_type => 'other', count => 1 } ]);
$simulator->post('/supersim/account', { server => 'net', sims => [ { iccid => $iccid, status => 'new' } ] });

sub outcome
{
	my ($id, $expect, $name) = @_;

	ok($node->poll_query_until($db, "SELECT concat_ws(' ', o.result, o.error_code) = '$expect' FROM esim_operation o WHERE o.id = '$id'"), $name)
	  or diag($node->safe_psql($db, 'SELECT o.kind, o.server, o.phase, o.phase_reason, o.result, o.error_code, o.error_message, q.state FROM esim_operation o LEFT JOIN esim_pending q ON q.operation = o.id ORDER BY o.seq'));
	return;
}

# what the SM-DP+ says of itself, so that the eIM's device gets the profile of the code
outcome($node->safe_psql($db, "SELECT esim_reserve(profile_type => 'other', matching_id => 'ROUTE-0', server => 'smdp')"), 'SUCCESS', 'a reservation');
my $address = $node->safe_psql($db, 'SELECT smdp_address FROM esim_profile');
$simulator->post('/stock', { code => "1\$$address\$ROUTE-1", iccid => $iccid });
$node->safe_psql($db, 'DELETE FROM esim_operation; DELETE FROM esim_profile');

# ---- one transaction, each step on its own server ----

my @steps = split /\n/, $node->safe_psql($db, qq(
	BEGIN;
	SELECT esim_fleet_create('meters', '{"NetworkAccessProfile": "HA00000000000000000000000000000001"}', server => 'net');
	SELECT esim_reserve(iccid => '$iccid', matching_id => 'ROUTE-1', server => 'smdp');
	SELECT esim_set_subscription(profile => id, status => 'ACTIVE', fleet => 'meters', server => 'net') FROM esim_profile WHERE iccid = '$iccid';
	SELECT esim_download('$eid', profile => id) FROM esim_profile WHERE iccid = '$iccid';
	SELECT esim_enable(profile => id) FROM esim_profile WHERE iccid = '$iccid';
	COMMIT;));
is(scalar @steps, 5, 'five operations');
outcome($steps[4], 'SUCCESS', 'the last one succeeds');
is($node->safe_psql($db, 'SELECT string_agg(kind || \' \' || server || \' \' || result, \', \' ORDER BY seq) FROM esim_operation'),
	'fleet-create net SUCCESS, reserve smdp SUCCESS, set-subscription net SUCCESS, download eim SUCCESS, enable eim SUCCESS', 'all of them, each at its server');
is($node->safe_psql($db, "SELECT count(*) FROM esim_operation o JOIN esim_operation d ON d.id = ANY (o.depends_on) WHERE o.sent_at < d.completed_at"), '0',
	'none is sent before what it depends on has ended');
is($node->safe_psql($db, "SELECT state, eid, server, subscription_server, subscription_status, fleet FROM esim_profile WHERE iccid = '$iccid'"),
	"ENABLED|$eid|smdp|net|ACTIVE|meters", 'the profile');
is($node->safe_psql($db, 'SELECT rsp_id IS NOT NULL FROM esim_fleet'), 't', 'the fleet');
outcome($node->safe_psql($db, "SELECT esim_set_subscription('$iccid', 'INACTIVE')"), 'SUCCESS', 'its subscription is known to be there by now');

# ---- the reservation fails ----

@steps = split /\n/, $node->safe_psql($db, qq(
	BEGIN;
	SELECT esim_reserve(iccid => '@{[iccid(2)]}', server => 'smdp', generate_matching_id => true);
	SELECT esim_set_subscription(profile => id, status => 'ACTIVE', fleet => 'meters', server => 'net') FROM esim_profile WHERE iccid = '@{[iccid(2)]}';
	SELECT esim_download('@{[eid(3)]}', profile => id) FROM esim_profile WHERE iccid = '@{[iccid(2)]}';
	SELECT esim_enable(profile => id) FROM esim_profile WHERE iccid = '@{[iccid(2)]}';
	SELECT esim_refresh('@{[eid(3)]}');
	COMMIT;));
outcome($steps[0], 'FAILED IDENTIFIER_NOT_FOUND', 'an ICCID that is not in stock');
outcome($steps[$_], 'CANCELLED DEPENDENCY_FAILED', "what needed it ends with it ($_)") foreach 1 .. 3;
outcome($steps[4], 'SUCCESS', 'what did not goes on');

# ---- a download that waits for the device ----

my $download = $node->safe_psql($db, "SELECT esim_download('@{[eid(2)]}')");
ok($node->poll_query_until($db, "SELECT phase = 'WAITING_DEVICE' FROM esim_operation WHERE id = '$download'"), 'the download waits for the device');
outcome($node->safe_psql($db, "SELECT esim_refresh('@{[eid(2)]}')"), 'SUCCESS', 'the eUICC goes on meanwhile');
outcome($node->safe_psql($db, "SELECT esim_set_subscription(profile => profile, status => 'ACTIVE', fleet => 'meters') FROM esim_operation WHERE id = '$download'"),
	'SUCCESS', 'so does the subscription');
outcome($node->safe_psql($db, "SELECT esim_set_subscription(profile => profile, status => 'INACTIVE') FROM esim_operation WHERE id = '$download'"),
	'SUCCESS', 'which can be stopped');
is($node->safe_psql($db, "SELECT phase FROM esim_operation WHERE id = '$download'"), 'WAITING_DEVICE', 'the download still waits');
$simulator->post('/supersim/download', { server => 'net', eid => eid(2) });
outcome($download, 'SUCCESS', 'until the device comes');
is($node->safe_psql($db, "SELECT p.state, p.redownload FROM esim_profile p JOIN esim_operation o ON o.profile = p.id WHERE o.id = '$download'"),
	'INSTALLED|NEVER', 'enabled or not is not known');

ledger_is_exact($simulator, 'routing');
ok(!$node->log_contains(qr/PANIC|was terminated by signal/), 'no crash');
$node->stop;
done_testing();
