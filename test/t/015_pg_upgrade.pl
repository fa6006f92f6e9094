# test/t/015_pg_upgrade.pl
# pg_upgrade takes everything along, and nothing is sent from the new cluster until esim_resume().
use strict;
use warnings;

use Cwd qw(getcwd);
use Test::More;
use Time::HiRes qw(sleep);
use EsimTest;

use PostgreSQL::Test::Utils;

my $db = 'fleet';
my $simulator = start_simulator();
my $old = new_node('old', preload => 1, settings => ['esim.poll_interval = 1s']);

create_database($old, $db);
create_server($old, $db, $simulator, 'main');
$old->safe_psql($db, q(
	CREATE ROLE tenant;
	SELECT esim_grant('tenant', 'enable', 'retrieve-status', 'retrieve-operation');
	GRANT USAGE ON FOREIGN SERVER main TO tenant;
	CREATE USER MAPPING FOR tenant SERVER main OPTIONS (token 'x');
	SELECT esim_set_credential('hook', 'bearer', 'token', 'tenant');
	CREATE TABLE mine (eid eid(unchecked) PRIMARY KEY, iccid iccid UNIQUE, code activation_code);
));
fleet($old, $db, 20, state => 'DISABLED', simulator => $simulator);
$old->safe_psql($db, q(
	INSERT INTO mine SELECT d.eid, p.iccid, '1$smdp.example.com$ABC' FROM esim_device d JOIN esim_profile p ON p.eid = d.eid;
	SELECT count(esim_transfer(eid, 'tenant')) FROM (SELECT eid FROM esim_device ORDER BY eid LIMIT 10) d;
	SELECT count(esim_enable(iccid)) FROM esim_profile WHERE owner = 'tenant'::regrole;));
ok(wait_completed($old, $db), 'some history');
$old->append_conf('postgresql.conf', 'esim.workers = 0');
$old->reload;
ok(wait_until($old, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'esim worker'), '0'), 'no workers');
$old->safe_psql($db, 'SELECT count(esim_enable(iccid)) FROM esim_profile WHERE state <> $$ENABLED$$');
is(value($old, $db, 'SELECT count(*) FROM esim_pending'), '10', 'operations are queued');

my @tables = qw(esim_device esim_device_state esim_profile esim_fleet esim_operation esim_pending esim_idempotency
  esim_attempt esim_profile_event esim_drift esim_credential mine);

sub contents
{
	my ($node) = @_;
	return join "\n", (map { "$_: " . query($node, $db, "SELECT md5(coalesce(string_agg(t::text, '+' ORDER BY t::text), '')) || ' ' || count(*) FROM $_ t") } @tables),
	  query($node, $db, 'SELECT * FROM esim_scopes()');
}
my $before = contents($old);
my $requests = $simulator->requests('main');
$old->stop;

my $new = new_node('new', preload => 1, settings => ['esim.poll_interval = 1s'], start => 0);
my $directory = getcwd();
chdir ${PostgreSQL::Test::Utils::tmp_check} or die $!;
my @upgrade = ('pg_upgrade', '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $old->config_data('--bindir'),
	'-B', $new->config_data('--bindir'), '-s', $new->host, '-p', $old->port, '-P', $new->port);
command_ok([ @upgrade, '--check' ], 'pg_upgrade --check');
command_ok(\@upgrade, 'pg_upgrade');
chdir $directory or die $!;
$new->start;

is(contents($new), $before, 'every row, every scope is the same');
is(value($new, $db, 'SELECT count(*) FROM mine m JOIN esim_device d ON d.eid = m.eid'), '20', 'indexes on tables of users work');
ok(wait_until($new, $db, q(SELECT array_to_string(problems, '; ') ~ 'paused: .*queued in another cluster' FROM esim_health()), 't'),
	'esim_health() says that the new cluster is paused, and why') or diag(value($new, $db, 'SELECT problems FROM esim_health()'));
is($simulator->requests('main'), $requests, 'nothing is sent');
is(value($new, $db, 'SELECT esim_resume()'), 't', 'esim_resume()');
ok(wait_completed($new, $db), 'then all complete');
is(value($new, $db, q(SELECT count(*) FROM esim_profile WHERE state = 'ENABLED')), '20', 'all are ENABLED');
ledger_is_exact($simulator, 'ledger', enabled => 20);

# what follows servers by their OIDs, which are others now
$new->safe_psql($db, 'ALTER SERVER main RENAME TO other');
is(value($new, $db, q(SELECT count(*) FROM esim_operation WHERE kind = 'enable')), '20', 'a server can be renamed');
is(value($new, $db, q(SET ROLE tenant; SELECT count(*) FROM esim_device)), '10', 'the owner sees his rows');
$new->safe_psql($db, q(SELECT esim_refresh(eid) FROM esim_device WHERE owner <> 'tenant'::regrole LIMIT 1));
ok(wait_completed($new, $db), 'it takes new operations');
is(value($new, $db, q(SELECT array_to_string(problems, '; ') FROM esim_health())), '', 'esim_health() is content');
$new->stop;
done_testing();
