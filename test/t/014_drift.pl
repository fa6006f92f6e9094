# test/t/014_drift.pl
# What the RSP says is kept where it breaks a rule of ours: the row as reported, a row in
# esim_drift, and no operation that cannot end.
use strict;
use warnings;

use JSON::PP;
use Test::More;
use EsimTest;

my $db = 'postgres';
my $simulator = start_simulator();
my $node = new_node('drift', preload => 1, settings => ['esim.poll_interval = 500ms']);
my ($eid, $other, $iccid) = (eid(1), eid(2), iccid(1));

create_database($node, $db);
create_server($node, $db, $simulator, 'main', smdp_address => 'smdp.example.com');
$node->safe_psql($db, "INSERT INTO esim_device (eid) VALUES ('$eid'), ('$other')");

my $drift = q(SELECT string_agg(what, ', ' ORDER BY id) FROM esim_drift WHERE resolved_at IS NULL);

# ---- the provider assigns an ICCID that another row has: that row was the same profile ----

$node->safe_psql($db, "INSERT INTO esim_profile (iccid) VALUES ('$iccid')");
$simulator->post('/stock', { eid => $eid, iccid => $iccid });
my $id = value($node, $db, "SELECT esim_download('$eid')");
ok(wait_until($node, $db, "SELECT result, error_code, error_message, iccid FROM esim_operation WHERE id = '$id'", "SUCCESS|||$iccid"), 'the download succeeds, as the provider says');
is(value($node, $db, "SELECT p.state, p.iccid, p.eid, p.drift FROM esim_profile p JOIN esim_operation o ON o.profile = p.id WHERE o.id = '$id'"),
	"DISABLED|$iccid|$eid|f", 'the row of the download');
is(value($node, $db, "SELECT string_agg(state::text, ', ' ORDER BY created_at) FROM esim_profile WHERE iccid = '$iccid'"), 'CANCELLED, DISABLED', 'the other one gives way');

# ---- two owners' rows of one eUICC: two profiles are said to be enabled ----

my ($ours, $theirs) = (iccid(11), iccid(12));
$simulator->post('/euicc', { eid => $other, profiles => [ { iccid => $ours, state => 'ENABLED' } ] });
$node->safe_psql($db, qq(
	CREATE ROLE somebody;
	INSERT INTO esim_profile (iccid, eid, state, owner) VALUES ('$theirs', '$other', 'ENABLED', 'somebody');
	INSERT INTO esim_profile (iccid, eid, state) VALUES ('$ours', '$other', 'DISABLED');
));
foreach my $time (1, 2)
{
	$id = value($node, $db, "SELECT esim_refresh('$other')");
	ok(wait_until($node, $db, "SELECT result, error_message FROM esim_operation WHERE id = '$id'", 'SUCCESS|'), "list $time: completes");
	is(value($node, $db, "SELECT string_agg(state || ' ' || drift, ', ' ORDER BY iccid) FROM esim_profile WHERE eid = '$other'"),
		'ENABLED true, ENABLED false', "list $time: the row is as reported, out of the reach of the rule");
	is(value($node, $db, $drift), 'state, two profiles enabled', "list $time: the contradictions are there to look at, once");
}
is(value($node, $db, 'SELECT open_drift FROM esim_health()'), '2', 'esim_health() counts them');

# the same with a row that somebody has locked: it waits, and nothing else does
my $third = iccid(13);
$simulator->post('/euicc', { eid => $other, profiles => [ { iccid => $ours, state => 'ENABLED' }, { iccid => $third, state => 'DISABLED' } ] });
$node->safe_psql($db, "INSERT INTO esim_profile (iccid, eid, state) VALUES ('$third', '$other', 'INSTALLED')");
my $session = $node->background_psql($db);
$session->query_safe("BEGIN; SELECT FROM esim_profile WHERE iccid = '$third' FOR UPDATE");
my $refresh = value($node, $db, "SELECT esim_refresh('$other')");
ok(wait_until($node, $db, 'SELECT count(*) FROM esim_deferred', '1'), 'a rule broken and a row locked: the list is put off');
$id = value($node, $db, "SELECT esim_refresh('$eid')");
ok(wait_until($node, $db, "SELECT result FROM esim_operation WHERE id = '$id'", 'SUCCESS'), 'the worker goes on');
$session->query_safe('COMMIT');
$session->quit;
ok(wait_until($node, $db, "SELECT result, error_message FROM esim_operation WHERE id = '$refresh'", 'SUCCESS|'), 'the list is applied when the lock is gone');
is(value($node, $db, "SELECT state FROM esim_profile WHERE iccid = '$third'"), 'DISABLED', 'with all that it says');
is(value($node, $db, $drift), 'state, two profiles enabled', 'and no contradiction twice');

# the other row goes: the next list lifts the mark
$node->safe_psql($db, "DELETE FROM esim_profile WHERE iccid = '$theirs'");
$id = value($node, $db, "SELECT esim_refresh('$other')");
ok(wait_until($node, $db, "SELECT result FROM esim_operation WHERE id = '$id'", 'SUCCESS'), 'a list without the other row');
is(value($node, $db, $drift), '', 'nothing contradicts any more');
is(value($node, $db, "SELECT drift, enabled_port FROM esim_profile WHERE iccid = '$ours'"), 'f|0', 'the rule covers the row again');
is(value($node, $db, 'SELECT count(*) FROM esim_drift WHERE resolved_at IS NOT NULL'), '2', 'the history stays');

# ---- an account whose stock has the ICCID of two rows ----

$simulator->config('net', supersim => { reserve_ms => 1 }, auth => { username => 'AC1', password => 'token' });
create_server($node, $db, $simulator, 'net', protocol => 'twilio', url => "$simulator->{url}/net/supersim/v1", auth_method => 'basic');
$node->safe_psql($db, q(CREATE USER MAPPING FOR PUBLIC SERVER net OPTIONS (username 'AC1', password 'token')));
$simulator->post('/supersim/account', { server => 'net', profiles => 20 });
my $sync = "SELECT esim_sync('net')";
$id = value($node, $db, $sync);
ok(wait_until($node, $db, "SELECT result FROM esim_operation WHERE id = '$id'", 'SUCCESS'), 'an account is adopted');
is(value($node, $db, q(SELECT count(*) FROM esim_profile WHERE rsp_id ~ '^HP' AND iccid IS NOT NULL)), '20', 'all of it');
# one row has lost its ICCID, which stands in a row of the inventory
$node->safe_psql($db, q(
	WITH t AS (SELECT id, iccid FROM esim_profile WHERE rsp_id ~ '^HP' ORDER BY rsp_id LIMIT 1),
	u AS (UPDATE esim_profile p SET iccid = NULL FROM t WHERE p.id = t.id RETURNING t.iccid)
	SELECT count(*) FROM u));
my ($lost) = split /\n/, value($node, $db, q(SELECT rsp_id FROM esim_profile WHERE rsp_id ~ '^HP' AND iccid IS NULL));
my ($report) = grep { $_->{sid} eq $lost } @{ $simulator->{http}->get("$simulator->{url}/net/supersim/v1/ESimProfiles?PageSize=100",
	{ headers => { authorization => 'Basic QUMxOnRva2Vu' } })->{content} =~ /(\{.*\})/s ? JSON::PP::decode_json($1)->{esim_profiles} : [] };
$node->safe_psql($db, "UPDATE esim_profile SET rsp_state = 'new' WHERE rsp_id ~ '^HP'; INSERT INTO esim_profile (iccid) VALUES ('$report->{iccid}')");
$id = value($node, $db, $sync);
ok(wait_until($node, $db, "SELECT result, error_message FROM esim_operation WHERE id = '$id'", 'SUCCESS|'), 'the account is read again');
is(value($node, $db, "SELECT iccid, drift FROM esim_profile WHERE rsp_id = '$lost'"), "$report->{iccid}|t", 'the one that breaks the rule is as reported, with its mark');
is(value($node, $db, q(SELECT count(*) FROM esim_profile WHERE rsp_id ~ '^HP' AND rsp_state = 'new')), '0', 'the others of its page are as reported, too');
is(value($node, $db, q(SELECT count(*) FROM esim_profile WHERE drift)), '1', 'and have no mark');
is(value($node, $db, $drift), 'ICCID of another profile', 'the contradiction is there to look at');

ok(!$node->log_contains(qr/PANIC|was terminated by signal/), 'no crash');
$node->stop;
done_testing();
