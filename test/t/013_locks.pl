# test/t/013_locks.pl
# Rows that a user has locked keep nothing from being recorded: the worker goes on, and what it has
# learned, where the conversation with the RSP stands included, is applied when the lock is gone.
use strict;
use warnings;

use Test::More;
use Time::HiRes;
use EsimTest;

my $db = 'postgres';
my $simulator = start_simulator();
my $node = new_node('locks', preload => 1, settings => ['esim.poll_interval = 500ms']);
my ($eid, $other) = (eid(1), eid(2));

create_database($node, $db);
$simulator->config('net', supersim => { reserve_ms => 300 }, auth => { username => 'AC1', password => 'token' });
create_server($node, $db, $simulator, 'net', protocol => 'twilio', url => "$simulator->{url}/net/supersim/v1", auth_method => 'basic');
create_server($node, $db, $simulator, 'main');
$node->safe_psql($db, qq(
	CREATE USER MAPPING FOR PUBLIC SERVER net OPTIONS (username 'AC1', password 'token');
	INSERT INTO esim_device (eid, server) VALUES ('$eid', 'net'), ('$other', 'main');
));

# holds a lock while the code runs
sub locked
{
	my ($lock, $code) = @_;
	my $session = $node->background_psql($db);

	$session->query_safe("BEGIN; $lock");
	$code->();
	$session->query_safe('COMMIT');
	$session->quit;
	return;
}

my $deferred = 'SELECT count(*) > 0 FROM esim_deferred';

# ---- the answer to a creation: the resource's identifier must not be lost ----

$node->safe_psql($db, q(SELECT esim_pause('net')));
my $id = value($node, $db, "SELECT esim_reserve('$eid', server => 'net')");
my $profile = value($node, $db, "SELECT profile FROM esim_operation WHERE id = '$id'");
locked("SELECT FROM esim_profile WHERE id = '$profile' FOR UPDATE", sub
{
	$node->safe_psql($db, q(SELECT esim_resume('net')));
	ok(wait_until($node, $db, $deferred, 't'), 'reserve: the answer is recorded although the profile is locked');
	is($simulator->requests('net'), 1, 'one request was sent');
	is(value($node, $db, "SELECT rsp_id IS NULL FROM esim_profile WHERE id = '$profile'"), 't', 'the row waits for the lock');

	# others go on meanwhile
	my $fleet = value($node, $db, q(SELECT esim_fleet_create('meters', '{"NetworkAccessProfile": "HA00000000000000000000000000000001"}', server => 'net')));
	ok(wait_until($node, $db, "SELECT result FROM esim_operation WHERE id = '$fleet'", 'SUCCESS'), 'the worker goes on');
});
ok(wait_until($node, $db, "SELECT result FROM esim_operation WHERE id = '$id'", 'SUCCESS'), 'reserve: goes on when the lock is gone');
is(value($node, $db, "SELECT state, rsp_id ~ '^HP', sim_id ~ '^HS', server FROM esim_profile WHERE id = '$profile'"), 'RELEASED|t|t|net', 'the profile');
is(value($node, $db, "SELECT count(*) FROM esim_attempt WHERE operation = '$id' AND method = 'POST'"), '1', 'it was asked for once');
is(value($node, $db, "SELECT bool_and(outcome IS NOT NULL AND number > 0) FROM esim_attempt WHERE operation = '$id'"), 't', 'every request has its row and its outcome');
is(value($node, $db, q(SELECT count(*) FROM esim_deferred)), '0', 'nothing is left behind');

# ---- a crash while the answer waits ----

$node->safe_psql($db, q(SELECT esim_pause('net')));
$node->safe_psql($db, "INSERT INTO esim_device (eid, server) VALUES ('@{[eid(3)]}', 'net')");
$id = value($node, $db, "SELECT esim_reserve('@{[eid(3)]}', server => 'net')");
$profile = value($node, $db, "SELECT profile FROM esim_operation WHERE id = '$id'");
locked("SELECT FROM esim_profile WHERE id = '$profile' FOR UPDATE", sub
{
	$node->safe_psql($db, q(SELECT esim_resume('net')));
	ok(wait_until($node, $db, $deferred, 't'), 'crash: the answer is recorded');
	# the worker goes, another comes
	my ($pid) = worker_pids($node, $db);
	$node->safe_psql($db, "SELECT pg_terminate_backend($pid)");
	ok(wait_until($node, $db, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'esim worker' AND pid <> $pid", '1'), 'another worker takes over');
});
ok(wait_until($node, $db, "SELECT result FROM esim_operation WHERE id = '$id'", 'SUCCESS', 15), 'crash: goes on from the record')
  or diag(query($node, $db, "SELECT o.phase, o.phase_reason, o.next_at - now(), p.* FROM esim_operation o JOIN esim_pending p ON p.operation = o.id") . query($node, $db, 'SELECT * FROM esim_deferred') . query($node, $db, 'SELECT * FROM esim_worker_status()') . query($node, $db, 'SELECT * FROM esim_paused'));
is(value($node, $db, "SELECT count(*) FROM esim_attempt WHERE operation = '$id' AND method = 'POST'"), '1', 'it was asked for once');

# ---- a page of an account ----

$simulator->post('/supersim/account', { server => 'net', profiles => 40, fleets => ['north'], sims => [ map { { iccid => iccid($_), status => 'active', fleet => 'north' } } 75 .. 79 ] });
my $sync;
locked("INSERT INTO esim_profile (iccid, state) VALUES ('@{[iccid(77)]}', 'RELEASED')", sub
{
	$sync = value($node, $db, q(SELECT esim_sync('net')));
	ok(wait_until($node, $db, $deferred, 't'), 'sync: a page is recorded although an ICCID of it is being inserted');
});
ok(wait_until($node, $db, "SELECT result FROM esim_operation WHERE id = '$sync'", 'SUCCESS'), 'sync: completes');
is(value($node, $db, q(SELECT count(*) FROM esim_profile WHERE rsp_id ~ '^HP')), 42, 'sync: every profile of the account, once');
is(value($node, $db, "SELECT subscription_status, fleet, sim_id ~ '^HS', count(*) OVER () FROM esim_profile WHERE iccid = '@{[iccid(77)]}'"), 'ACTIVE|north|t|1', 'sync: the subscription is in the row that was inserted');
is(value($node, $db, q(SELECT count(*) FROM esim_profile WHERE rsp_id IS NULL AND subscription_status = 'ACTIVE' AND fleet = 'north')), '5', 'sync: the others of its page are there');
is(value($node, $db, q(SELECT count(*) FROM esim_profile WHERE state NOT IN ('RESERVING', 'RELEASED', 'INSTALLED'))), '0', 'sync: stock is no profile on an eUICC');
is(value($node, $db, q(SELECT count(*) FROM esim_profile WHERE rsp_id ~ '^HP' AND redownload IS DISTINCT FROM 'NEVER')), '0', 'sync: a Super SIM profile downloads once');
is(value($node, $db, q(SELECT count(*) FROM esim_drift)), '0', 'sync: nothing contradicts');

# ---- the outcome cannot be written, nor put off ----

my $iccid = iccid(500);
$simulator->post('/euicc', { eid => $other, profiles => [ { iccid => $iccid, state => 'DISABLED' } ] });
$node->safe_psql($db, qq(
	INSERT INTO esim_profile (iccid, eid, state) VALUES ('$iccid', '$other', 'DISABLED');
	CREATE TABLE public.disk (is_full boolean);
	INSERT INTO public.disk VALUES (true);
	CREATE FUNCTION public.write_anything() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \$\$
	BEGIN
		IF (SELECT is_full FROM public.disk) THEN
			RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
		END IF;
		RETURN NEW;
	END\$\$;
	CREATE TRIGGER disk BEFORE UPDATE ON esim_operation FOR EACH ROW EXECUTE FUNCTION public.write_anything();
	CREATE TRIGGER disk BEFORE INSERT ON esim_deferred FOR EACH ROW EXECUTE FUNCTION public.write_anything();
));
$id = value($node, $db, "SELECT esim_enable('$iccid')");
my $found = 0;
for (my $tries = 0; $tries < 600 && !$found; $tries++)
{
	$found = $simulator->effects($other)->[0];
	Time::HiRes::sleep(0.05) if !$found;
}
is($found, "enabled $iccid", 'full disk: the RSP has done it');
ok($node->wait_for_log(qr/recording an outcome: could not extend file/), 'and it could not be recorded');
is(value($node, $db, "SELECT status FROM esim_operation WHERE id = '$id'"), 'ACCEPTED', 'the operation goes on');
$node->safe_psql($db, 'UPDATE public.disk SET is_full = false');
ok(wait_until($node, $db, "SELECT result, error_code FROM esim_operation WHERE id = '$id'", 'SUCCESS|'), 'when there is room again it is found out what became of it');
is(value($node, $db, "SELECT state FROM esim_profile WHERE iccid = '$iccid'"), 'ENABLED', 'the profile');
is(join(', ', @{ $simulator->effects($other) }), "enabled $iccid", 'nothing was done twice');
is(value($node, $db, q(SELECT count(*) FROM esim_pending WHERE claimed)), '0', 'nothing is left behind');

# ---- the next of a lane is locked when its turn comes, and the worker that knows of it ends ----

my $third = eid(4);
$simulator->config('main', latency_ms => 1500);
$node->safe_psql($db, "INSERT INTO esim_device (eid, server) VALUES ('$third', 'main')");
my ($first, $second) = map { value($node, $db, "SELECT esim_refresh('$other')") } 1 .. 2;
ok(wait_until($node, $db, "SELECT state FROM esim_pending WHERE operation = '$second'", 'B'), 'one waits behind another');
locked("SELECT FROM esim_pending WHERE operation = '$second' FOR UPDATE", sub
{
	my ($pid) = worker_pids($node, $db);

	ok(wait_until($node, $db, "SELECT result FROM esim_operation WHERE id = '$first'", 'SUCCESS'), 'the one ahead completes while it is locked');
	$node->safe_psql($db, "SELECT pg_terminate_backend($pid)");
	ok(wait_until($node, $db, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'esim worker' AND pid <> $pid", '1'), 'another worker takes over');
	$id = value($node, $db, "SELECT esim_refresh('$third')");
	ok(wait_until($node, $db, "SELECT result FROM esim_operation WHERE id = '$id'", 'SUCCESS'), 'it is at work');
});
ok(wait_until($node, $db, "SELECT result FROM esim_operation WHERE id = '$second'", 'SUCCESS'), 'the one behind has its turn when the lock is gone');

ledger_is_exact($simulator, 'ledger');
ok(!$node->log_contains(qr/PANIC|was terminated by signal/), 'no crash');
$node->stop;
done_testing();
