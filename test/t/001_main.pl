# test/t/001_main.pl
# The main job on a stock server: CREATE EXTENSION, one server, one device, one call.
use strict;
use warnings;

use Test::More;
use EsimTest;

my $simulator = start_simulator();
my $node = new_node('main');

foreach my $dialect ('r1.2', '2026-02')
{
	(my $database = "main_$dialect") =~ s/\W/_/g;
	my $n = $dialect eq 'r1.2' ? 1 : 2;
	my ($eid, $first, $second) = (eid($n), iccid(10 * $n), iccid(10 * $n + 1));

	# what the device's default SM-DP+ holds for it; the second one comes by an activation code
	$simulator->post('/stock', { eid => $eid, iccid => $first });

	create_database($node, $database);
	create_server($node, $database, $simulator, 'main',
		dialect => $dialect, smdp_address => 'smdp.example.com');
	$node->safe_psql($database, "INSERT INTO esim_device (eid) VALUES ('$eid')");

	my $id = value($node, $database, "SELECT esim_download('$eid', '$first')");
	like($id, qr/^[0-9a-f]{8}-[0-9a-f]{4}-7/, "$dialect: a uuid of version 7");
	is(value($node, $database, "SELECT status, result, error_code FROM esim_wait('$id', '30 s')"),
		'COMPLETED|SUCCESS|', "$dialect: download succeeds");
	is(value($node, $database, "SELECT state, eid, state_source FROM esim_profile WHERE iccid = '$first'"),
		"DISABLED|$eid|operation", "$dialect: the profile is DISABLED");

	$id = value($node, $database, "SELECT esim_download('$eid', '$second', '1\$smdp.example.com\$$second', true)");
	is(value($node, $database, "SELECT status, result, error_code FROM esim_wait('$id', '30 s')"),
		'COMPLETED|SUCCESS|', "$dialect: download with activation succeeds");
	is(value($node, $database, "SELECT state FROM esim_profile WHERE iccid = '$second'"),
		'ENABLED', "$dialect: the profile is ENABLED");

	$id = value($node, $database, "SELECT esim_enable('$first')");
	is(value($node, $database, "SELECT result FROM esim_wait('$id', '30 s')"), 'SUCCESS', "$dialect: enable");
	is(value($node, $database, 'SELECT string_agg(iccid || state::text, chr(32) ORDER BY iccid) FROM esim_profile'),
		"${first}ENABLED ${second}DISABLED", "$dialect: the other one is DISABLED");

	$id = value($node, $database, "SELECT esim_set_fallback('$eid', '$second')");
	is(value($node, $database, "SELECT result FROM esim_wait('$id', '30 s')"), 'SUCCESS', "$dialect: set fallback");
	is(value($node, $database, "SELECT iccid FROM esim_profile WHERE is_fallback"), $second, "$dialect: it is the fallback");

	$id = value($node, $database, "SELECT esim_refresh('$eid')");
	is(value($node, $database, "SELECT result FROM esim_wait('$id', '30 s')"), 'SUCCESS', "$dialect: refresh");

	$id = value($node, $database, "SELECT esim_disable('$first')");
	is(value($node, $database, "SELECT result FROM esim_wait('$id', '30 s')"), 'SUCCESS', "$dialect: disable");
	$id = value($node, $database, "SELECT esim_delete('$first')");
	is(value($node, $database, "SELECT result FROM esim_wait('$id', '30 s')"), 'SUCCESS', "$dialect: delete");
	is(value($node, $database, "SELECT state FROM esim_profile WHERE iccid = '$first'"), 'DELETED', "$dialect: it is DELETED");

	is(join(', ', @{ $simulator->effects($eid) }),
		join(', ', "downloaded $first", "downloaded $second", "enabled $second",
			"disabled $second", "enabled $first", "fallback-set $second", "disabled $first", "deleted $first"),
		"$dialect: what the device did")
	  or diag(explain($simulator->effects($eid)));
	is(value($node, $database, 'SELECT count(*) FROM esim_pending'), '0', "$dialect: nothing is left in the queue");
	is(value($node, $database, q(
			SELECT count(*) FROM esim_operation o
			WHERE o.attempts <> (SELECT count(*) FROM esim_attempt a WHERE a.operation = o.id)
				OR EXISTS (SELECT FROM esim_attempt a WHERE a.operation = o.id AND a.outcome IS NULL))),
		'0', "$dialect: every attempt is written, and its outcome");
	ledger_is_exact($simulator, $dialect);
}

# a device that is not online is waited for
my $eid = eid(1);
my $iccid = iccid(11);
$simulator->post('/euicc', { eid => $eid, online => JSON::PP::false });
my $id = value($node, 'main_r1_2', "SELECT esim_enable('$iccid')");
ok(wait_until($node, 'main_r1_2', "SELECT phase FROM esim_operation WHERE id = '$id'", 'WAITING_DEVICE'),
	'an offline device is waited for');
my ($status, $out, $err) = $node->psql('main_r1_2', "SELECT status FROM esim_wait('$id', '100 ms')");
is($out, 'ACCEPTED', 'esim_wait gives the row as it stands at its time-out');
like($err, qr/NOTICE/, 'and says so');
$simulator->post('/euicc', { eid => $eid, online => JSON::PP::true });
is(value($node, 'main_r1_2', "SELECT result FROM esim_wait('$id', '60 s')"), 'SUCCESS', 'and done when it is online again');

# without preload an idle worker goes
ok(wait_until($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'esim worker'), '0', 30),
	'idle workers go');
is($node->stop('fast') // 1, 1, 'the server stops');

done_testing();
