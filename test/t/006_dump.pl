# test/t/006_dump.pl
# A dump brings everything back, and nothing is sent from the copy until esim_resume().
use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep);
use EsimTest;

use PostgreSQL::Test::Utils;

my $db = 'fleet';
my $simulator = start_simulator();
my $node = new_node('dumped');
my $wrong = '8944110000000000001';	  # its Luhn digit would be another
my $dump = "${PostgreSQL::Test::Utils::tmp_check}/fleet.sql";

create_database($node, $db);
create_server($node, $db, $simulator, 'main');
$node->safe_psql($db, 'CREATE ROLE tenant; CREATE ROLE gone; GRANT USAGE ON FOREIGN SERVER main TO tenant, gone');
fleet($node, $db, 20, state => 'DISABLED', simulator => $simulator);
$node->safe_psql($db, qq(
	SELECT count(esim_enable(iccid)) FROM esim_profile WHERE substr(iccid::text, 3, 16)::numeric < 5;
));
ok(wait_completed($node, $db), 'some history');
$node->safe_psql($db, qq(
	SELECT esim_pause();
	SET esim.check_digits = off;
	INSERT INTO esim_profile (iccid, eid, owner, state) SELECT '$wrong', '@{[eid(7)]}', 'tenant', 'DISABLED';
	RESET esim.check_digits;
	SELECT esim_transfer('@{[eid(8)]}', 'gone');
	SELECT esim_transfer('@{[eid(7)]}', 'tenant');
	SELECT count(esim_enable(iccid)) FROM esim_profile WHERE state = 'DISABLED' AND owner <> 'tenant'::regrole;
	SELECT esim_enable('@{[iccid(7)]}', idempotency_key => 'key');
));
$node->safe_psql($db, "SELECT esim_grant('tenant', 'register'); SET ROLE tenant; INSERT INTO esim_device (eid) VALUES ('@{[eid(50)]}')");
is(value($node, $db, q(SELECT role FROM esim_audit WHERE function = 'INSERT esim_device')), 'tenant', 'a device that a user registers is audited');
my $queued = value($node, $db, 'SELECT count(*) FROM esim_pending');
cmp_ok($queued, '>', 10, 'operations are queued');
$node->safe_psql($db, 'REVOKE USAGE ON FOREIGN SERVER main FROM gone; DROP ROLE gone');

# tables as text, for comparison; the owner that is gone dumps as a number
my @tables = qw(esim_device esim_device_state esim_profile esim_fleet esim_operation esim_pending esim_idempotency
  esim_attempt esim_profile_event esim_drift esim_paused esim_audit);

sub contents
{
	my ($node, $database) = @_;
	return join "\n", map { "$_: " . query($node, $database, "SELECT md5(coalesce(string_agg(t::text, '+' ORDER BY t::text), '')) || ' ' || count(*) FROM $_ t") } @tables;
}
my $before = contents($node, $db);
$node->command_ok([ 'pg_dumpall', '--globals-only', '-f', "$dump.globals" ], 'roles are dumped');
$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $db ], 'pg_dump');
my $requests = $simulator->requests('main');
$node->stop;

# another cluster
my $copy = new_node('restored', preload => 1);
$copy->safe_psql('postgres', 'CREATE DATABASE fleet');
$copy->command_ok([ 'psql', '-X', '-q', '-d', 'postgres', '-f', "$dump.globals" ], 'roles are restored');
$copy->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $db, '-f', $dump ], 'the dump is restored');
# not part of a dump of one database
$copy->safe_psql('postgres', "ALTER DATABASE $db SET search_path = esim, public");
is(contents($copy, $db), $before, 'every row is the same');
is(value($copy, $db, "SELECT count(*) FROM esim_profile WHERE iccid::text = '$wrong'"), '1', 'the wrong check digit came back');
is(value($copy, $db, q(SELECT count(*) FROM esim_device WHERE owner_name = 'gone')), '1', 'the device of the dropped owner came back');

# paused as it was in the dump, and even when that is lifted in a copy: another cluster, so not sent
$copy->safe_psql($db, 'SELECT * FROM esim_worker_status()');
sleep 2;
is($simulator->requests('main'), $requests, 'nothing is sent');
my $health = value($copy, $db, 'SELECT ok FROM esim_health()');
is($health, 'f', 'esim_health() says that something is wrong');

$copy->safe_psql($db, 'SELECT esim_resume()');
ok(wait_until($copy, $db, q(SELECT count(*) FROM esim_operation WHERE status = 'ACCEPTED' AND phase <> 'PARKED'), '0'),
	'after esim_resume() all complete that have an owner');
is(value($copy, $db, q(SELECT count(*) FROM esim_operation WHERE phase = 'PARKED' AND owner_name = 'gone')), '1',
	'the operation of the dropped owner is PARKED');
is(value($copy, $db, q(SELECT count(*) FROM esim_operation WHERE status = 'COMPLETED' AND result <> 'SUCCESS')), '0', 'all succeed');
ledger_is_exact($simulator, 'ledger', enabled => 19);
is(value($copy, $db, "SELECT count(*) FROM esim_operation WHERE id = esim_enable('@{[iccid(7)]}', idempotency_key => 'key')"), '1',
	'the idempotency key still gives the first operation');
$copy->stop;

# a queue that was not paused in the dump: the copy pauses itself
my $running = new_node('running', settings => ['esim.workers = 0']);
create_database($running, $db);
create_server($running, $db, $simulator, 'main');
fleet($running, $db, 5, first => 100, state => 'DISABLED', simulator => $simulator);
$running->safe_psql($db, 'SELECT count(esim_enable(iccid)) FROM esim_profile');
$running->command_ok([ 'pg_dump', '-Fc', '-f', "$dump.custom", '-d', $db ], 'pg_dump -Fc');
$running->command_ok([ 'pg_dump', '--inserts', '-f', "$dump.inserts", '-d', $db ], 'pg_dump --inserts');
$running->stop;
$requests = $simulator->requests('main');
my $second = new_node('second', preload => 1);
$second->safe_psql('postgres', 'CREATE DATABASE fleet');
$second->command_ok([ 'pg_restore', '-d', $db, "$dump.custom" ], 'pg_restore');
$second->safe_psql('postgres', "ALTER DATABASE $db SET search_path = esim, public");
$second->safe_psql($db, 'SELECT * FROM esim_worker_status()');
ok(wait_until($second, $db, 'SELECT count(*) FROM esim_paused', '1'), 'the copy pauses itself');
is($simulator->requests('main'), $requests, 'nothing is sent');
$second->safe_psql($db, 'SELECT esim_resume()');
ok(wait_completed($second, $db), 'after esim_resume() all complete');
is(value($second, $db, q(SELECT count(*) FROM esim_profile WHERE state = 'ENABLED')), '5', 'all are ENABLED');

# --inserts carries no type modifier to the input function: the check must be off
$second->safe_psql('postgres', 'CREATE DATABASE inserts');
{
	local $ENV{PGOPTIONS} = '-c esim.check_digits=off';
	$second->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'inserts', '-f', "$dump.inserts" ],
		'a dump made with --inserts is restored with the check off');
}
is(value($second, 'inserts', 'SELECT count(*) FROM esim.esim_pending'), '5', 'its queue is there');
is(value($second, 'inserts', 'SELECT count(*) FROM esim.esim_operation'), '5', 'and its operations');
is(value($second, 'inserts', 'SELECT count(*) FROM esim.esim_audit'), '5', 'and who asked for them; the restore itself is not audited');
$second->stop;
done_testing();
