# test/t/003_preload.pl
# With shared_preload_libraries: the launcher, several databases, several workers, what comes and goes.
use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep);
use EsimTest;

my $simulator = start_simulator();
my $node = new_node('preload', preload => 1,
	settings => [ 'max_prepared_transactions = 5', 'esim.poll_interval = 1s' ]);
my $launchers = q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'esim launcher');

ok(wait_until($node, 'postgres', $launchers, '1'), 'the launcher runs');

# every database that has the extension
foreach my $db ('one', 'two')
{
	my $n = $db eq 'one' ? 0 : 1000;

	create_database($node, $db);
	create_server($node, $db, $simulator, $db, timeout => '5 s');
	fleet($node, $db, 200, first => $n);
	query($node, $db, q(SELECT count(esim_download(d.eid, p.iccid)) FROM esim_device d JOIN esim_profile p
		ON substr(p.iccid::text, 3, 16)::numeric = substr(d.eid::text, 11, 20)::numeric));
}
foreach my $db ('one', 'two')
{
	ok(wait_completed($node, $db), "$db: all complete");
	is(value($node, $db, q(SELECT count(*) FROM esim_profile WHERE state = 'DISABLED' AND eid IS NOT NULL)), '200', "$db: downloaded");
	ok(wait_until($node, 'postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'esim worker' AND datname = '$db'", '1'),
		"$db: an idle worker stays");
}
is(value($node, 'one', q(SELECT usename FROM pg_stat_activity WHERE backend_type = 'esim worker' AND datname = 'one')),
	'esim_worker', 'workers connect as esim_worker');
is(value($node, 'one', 'SELECT count(*) FROM esim_worker_status() WHERE pid IS NOT NULL AND worker IS NOT NULL'), '1', 'esim_worker_status() shows it');

# COMMIT PREPARED wakes nobody: the poll finds it
$node->safe_psql('one', qq(BEGIN; SELECT esim_enable('@{[iccid(0)]}'); PREPARE TRANSACTION 'two'));
$node->safe_psql('one', "COMMIT PREPARED 'two'");
ok(wait_completed($node, 'one', 20), 'COMMIT PREPARED: the poll finds it');

# a restart picks up the queue by itself
$simulator->config('one', latency_ms => 20);
query($node, 'one', 'SELECT count(esim_enable(iccid)) FROM esim_profile WHERE state = $$DISABLED$$');
sleep 0.5;
$node->restart;
ok(wait_completed($node, 'one'), 'after a restart all complete by themselves');
is(value($node, 'one', q(SELECT count(*) FROM esim_profile WHERE state = 'ENABLED')), '200', 'all are ENABLED');
$simulator->config('one', latency_ms => 0);

# a worker that is terminated comes back, and the work is done
my ($pid) = worker_pids($node, 'one');
$simulator->config('one', latency_ms => 50);
query($node, 'one', 'SELECT count(esim_disable(iccid)) FROM esim_profile');
sleep 0.3;
$node->safe_psql('one', "SELECT pg_terminate_backend($pid)") if $pid;
ok(wait_completed($node, 'one'), 'a worker that was terminated is replaced');
is(value($node, 'one', q(SELECT count(*) FROM esim_profile WHERE state = 'DISABLED')), '200', 'all are DISABLED');
$simulator->config('one', latency_ms => 0);

# several workers, by SIGHUP
$node->append_conf('postgresql.conf', 'esim.workers = 3');
$node->reload;
my $workers = q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'esim worker' AND datname = 'two');
query($node, 'two', 'SELECT count(esim_enable(iccid)) FROM esim_profile');
ok(wait_until($node, 'postgres', $workers, '3'), 'SIGHUP: three workers');
ok(wait_completed($node, 'two'), 'they complete all');
query($node, 'two', 'SELECT count(esim_disable(iccid)) FROM esim_profile');
query($node, 'two', 'SELECT count(esim_refresh(eid)) FROM esim_device');
ok(wait_completed($node, 'two'), 'more work for three');
$node->append_conf('postgresql.conf', 'esim.workers = 1');
$node->reload;
ok(wait_until($node, 'postgres', $workers, '1'), 'SIGHUP: one worker again');
query($node, 'two', 'SELECT count(esim_enable(iccid)) FROM esim_profile');
ok(wait_completed($node, 'two'), 'it has taken over their share');

$node->append_conf('postgresql.conf', 'esim.workers = 0');
$node->reload;
ok(wait_until($node, 'postgres', $workers, '0'), 'SIGHUP: none');
my $requests = $simulator->requests('two');
my $id = value($node, 'two', "SELECT esim_disable('" . iccid(1000) . "')");
sleep 1.5;
is($simulator->requests('two'), $requests, 'with esim.workers = 0 nothing is sent');
$node->append_conf('postgresql.conf', 'esim.workers = 1');
$node->reload;
ok(wait_completed($node, 'two'), 'and is sent when workers are wanted again');

# ALTER SERVER and ALTER USER MAPPING take effect in running workers; a rename is followed
$simulator->config('guarded', auth => { bearer => 'right' });
create_server($node, 'two', $simulator, 'guarded');
$node->safe_psql('two', q(CREATE USER MAPPING FOR PUBLIC SERVER guarded OPTIONS (token 'wrong')));
$node->safe_psql('two', q(UPDATE esim_device SET server = 'guarded'));
$id = value($node, 'two', "SELECT esim_enable('" . iccid(1000) . "')");
ok(wait_until($node, 'two', "SELECT phase FROM esim_operation WHERE id = '$id'", 'PARKED'), 'wrong credentials: PARKED');
$node->safe_psql('two', q(ALTER USER MAPPING FOR PUBLIC SERVER guarded OPTIONS (SET token 'right')));
ok(wait_completed($node, 'two'), 'right credentials: done') or $node->safe_psql('two', q(SELECT esim_resume('guarded')));
$node->safe_psql('two', q(SELECT esim_pause('guarded')));
$id = value($node, 'two', "SELECT esim_disable('" . iccid(1000) . "')");
$node->safe_psql('two', 'ALTER SERVER guarded RENAME TO renamed');
is(value($node, 'two', "SELECT server FROM esim_operation WHERE id = '$id'"), 'renamed', 'RENAME updates the rows');
my ($status, $out, $err) = $node->psql('two', 'DROP SERVER renamed CASCADE');
isnt($status, 0, 'DROP SERVER is refused while unfinished operations name it');
$node->safe_psql('two', q(SELECT esim_resume('renamed')));
ok(wait_completed($node, 'two'), 'renamed and resumed: done');
$node->safe_psql('two', 'DROP SERVER renamed CASCADE');

# statements that a worker could be in the way of
query($node, 'two', q(UPDATE esim_device SET server = 'two'));
$simulator->config('two', latency_ms => 50);
query($node, 'two', 'SELECT count(esim_refresh(eid)) FROM esim_device');
$node->safe_psql('postgres', 'CREATE DATABASE spare');
pass('CREATE DATABASE while workers are busy');
$node->safe_psql('postgres', 'DROP DATABASE two WITH (FORCE)');
pass('DROP DATABASE WITH (FORCE) while its worker is busy');
query($node, 'one', 'SELECT count(esim_refresh(eid)) FROM esim_device');
$node->safe_psql('one', 'DROP EXTENSION esim CASCADE', timeout => 30);
pass('DROP EXTENSION while its worker is busy');
ok(wait_until($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'esim worker'), '0'),
	'no worker is left');
create_database($node, 'three');
create_server($node, 'three', $simulator, 'three');
fleet($node, 'three', 10, first => 5000, state => 'DISABLED', simulator => $simulator);
query($node, 'three', 'SELECT count(esim_enable(iccid)) FROM esim_profile');
ok(wait_completed($node, 'three'), 'a database made later is served');
ok(wait_until($node, 'postgres', $launchers, '1'), 'the launcher still runs');

ok(!$node->log_contains(qr/PANIC|FATAL:  (?!terminating|database \d+ does not exist|.*shutting down|.*starting up)|was terminated by signal/), 'no PANIC, no crash');
ledger_is_exact($simulator, 'ledger');
$node->stop;
done_testing();
