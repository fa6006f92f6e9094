# test/t/012_administrator.pl
# What administrators do to databases, roles, tables and settings while workers are at it: each does
# what it does elsewhere, workers go on, nothing is lost and nothing is done twice.
use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep);
use EsimTest;

my $simulator = start_simulator();
my $count = 40;
my $next = 0;
my %tenant = (renamed => 'moved');	# of the simulator, where it is not called as the database

# A database with devices of its own, each with a DISABLED profile.
sub make_database
{
	my ($node, $database) = @_;

	create_database($node, $database);
	create_server($node, $database, $simulator, 'main', tenant => $database, timeout => '5 s', max_in_flight => 2);
	$node->safe_psql($database, "ALTER DATABASE $database SET esim.lockout_guard = off");
	fleet($node, $database, $count, first => $next, state => 'DISABLED', simulator => $simulator);
	$next += 1000;
	return;
}

# Queues one operation for each profile, answered slowly, so that there is work for a while.
sub busy
{
	my ($node, $database, $what, $latency) = @_;

	$simulator->config($tenant{$database} // $database, latency_ms => $latency // 20);
	query($node, $database, "SELECT count(esim_$what(iccid)) FROM esim_profile WHERE owner_name <> 'gone'");
	return wait_until($node, $database, q(SELECT count(*) > 0 FROM esim_pending WHERE first_sent_at IS NOT NULL OR claimed), 't');
}

# All have completed, and the profiles are in that state.
sub done
{
	my ($node, $database, $state, $name) = @_;

	$simulator->config($tenant{$database} // $database, latency_ms => 0);
	ok(wait_completed($node, $database), "$name: all complete");
	is(value($node, $database, "SELECT count(*) FROM esim_profile WHERE state = '$state'"), $count, "$name: all profiles are $state")
	  or tell_failures($node, $database);
	return;
}

sub failure
{
	my ($node, $database, $sql) = @_;
	my ($status, $out, $err) = $node->psql($database, $sql);
	return $status == 0 ? "none: $out" : $err;
}

my $workers = q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'esim worker');

#
# settings of the cluster, of a database and of the workers' role that would stop others
#
my $node = new_node('administrator', preload => 1, settings => [ 'max_worker_processes = 20', 'esim.poll_interval = 1s' ]);
my %hostile = (statement_timeout => '1ms', lock_timeout => '1ms', idle_in_transaction_session_timeout => '1ms',
	default_transaction_read_only => 'on', default_transaction_isolation => 'serializable', default_transaction_deferrable => 'on',
	row_security => 'off', standard_conforming_strings => 'off', transform_null_equals => 'on', array_nulls => 'off',
	datestyle => 'German', intervalstyle => 'sql_standard', bytea_output => 'escape', search_path => 'hostile',
	quote_all_identifiers => 'on', extra_float_digits => '-15');

# the name changed with version 16
$hostile{ value($node, 'postgres', q(SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query'))) } = 'on';

make_database($node, 'settings');
# the sessions of the test itself are as they always are: what a role has goes before what a database has
$node->safe_psql('settings', 'ALTER ROLE ' . value($node, 'settings', 'SELECT quote_ident(current_user)') . ' SET '
	  . ($_ eq 'search_path' ? 'search_path = esim, public' : "$_ = " . value($node, 'settings', "SELECT quote_literal(current_setting('$_'))")))
  foreach sort keys %hostile;
$node->safe_psql('settings', q(
	CREATE SCHEMA hostile;
	CREATE TABLE hostile.esim_pending (seq text);
	CREATE FUNCTION hostile.esim_eid_valid(text) RETURNS boolean LANGUAGE sql AS 'SELECT 1 / 0 = 1';
	CREATE ROLE stranger;
	ALTER ROLE esim_worker SET session_preload_libraries = 'absent';
	ALTER ROLE esim_worker IN DATABASE settings SET role = 'stranger';
	ALTER ROLE esim_worker SET statement_timeout = '1ms';
	ALTER ROLE esim_worker SET session_replication_role = 'replica';
	ALTER ROLE esim_worker SET default_transaction_read_only = on;
	ALTER DATABASE settings SET search_path = hostile;
	ALTER DATABASE settings SET enable_indexscan = off;));
$node->append_conf('postgresql.conf', join("\n", map { "$_ = '$hostile{$_}'" } sort keys %hostile) . "\n");
$node->restart;
ok(busy($node, 'settings', 'enable'), 'settings: a worker works');
done($node, 'settings', 'ENABLED', 'settings');
is(value($node, 'settings', q(SELECT usename FROM pg_stat_activity WHERE backend_type = 'esim worker' AND datname = 'settings')), 'esim_worker', 'settings: as its role');
is(value($node, 'settings', q(SELECT count(*) FROM esim_worker_status() WHERE last_error IS NOT NULL)), '0', 'settings: without errors');
is(value($node, 'settings', q(SELECT array_to_string(problems, '; ') FROM esim_health())), '', 'settings: esim_health() is content');
$node->safe_psql('settings', q(ALTER ROLE esim_worker RESET ALL; ALTER ROLE esim_worker IN DATABASE settings RESET ALL;
	ALTER DATABASE settings RESET ALL; ALTER DATABASE settings SET search_path = esim, public));
$node->adjust_conf('postgresql.conf', $_, undef) foreach sort keys %hostile;
$node->restart;

#
# maintenance of the tables that workers write
#
busy($node, 'settings', 'disable', 100);
foreach my $sql ('VACUUM FULL esim_pending', 'CLUSTER esim_operation USING esim_operation_pkey', 'REINDEX TABLE CONCURRENTLY esim_pending',
	'REINDEX INDEX CONCURRENTLY esim_notification_due_idx', 'VACUUM FULL esim_profile', 'REINDEX SCHEMA CONCURRENTLY esim', 'VACUUM (FREEZE, ANALYZE)')
{
	is(failure($node, 'settings', $sql), 'none: ', "$sql while a worker is busy");
}
done($node, 'settings', 'DISABLED', 'maintenance');

# pg_cancel_backend() is about statements; what is in flight goes on
busy($node, 'settings', 'enable', 50);
my ($pid) = worker_pids($node, 'settings');
$node->safe_psql('settings', "SELECT pg_cancel_backend($pid)");
done($node, 'settings', 'ENABLED', 'pg_cancel_backend');
is((worker_pids($node, 'settings'))[0], $pid, 'pg_cancel_backend() does not end a worker');
is(value($node, 'settings', q(SELECT count(*) FROM esim_attempt WHERE outcome = 'lost' OR detail ~ 'stopped')), '0', 'and nothing is asked about');

# settings that only a session that has the library can set
like(failure($node, 'settings', 'ALTER SYSTEM SET esim.workers = 0'), qr/unrecognized|none/, 'ALTER SYSTEM');
is(failure($node, 'settings', "LOAD 'esim'; ALTER SYSTEM SET esim.workers = 0"), 'none: ', 'ALTER SYSTEM, with the library');
$node->safe_psql('settings', 'SELECT pg_reload_conf()');
ok(wait_until($node, 'postgres', $workers, '0'), 'esim.workers = 0: workers leave');
query($node, 'settings', 'SELECT count(esim_disable(iccid)) FROM esim_profile');
like(value($node, 'settings', q(SELECT array_to_string(problems, '; ') FROM esim_health())), qr/$count operations wait, and esim.workers is 0/, 'esim_health() says so');
is(value($node, 'settings', 'SELECT doing FROM esim_worker_status()'), 'none: esim.workers is 0', 'and esim_worker_status()');
$node->safe_psql('settings', "LOAD 'esim'; ALTER SYSTEM RESET esim.workers");
$node->safe_psql('settings', 'SELECT pg_reload_conf()');
done($node, 'settings', 'DISABLED', 'ALTER SYSTEM RESET');

# the channel: one that NOTIFY does not take is refused, with the worker unharmed
like(failure($node, 'settings', "LOAD 'esim'; ALTER SYSTEM SET esim.notify_channel = '" . 'x' x 64 . "'"), qr/invalid value for parameter "esim.notify_channel"/,
	'a channel that NOTIFY does not take');
my $longest = 'Done & "done" ' . 'x' x 49;
$node->append_conf('postgresql.conf', "esim.notify_channel = '$longest'");
$node->reload;
my $listener = $node->background_psql('settings', on_error_stop => 0);
$listener->query(sprintf 'LISTEN "%s"', $longest =~ s/"/""/gr);
sleep 0.5;
busy($node, 'settings', 'enable', 20);
done($node, 'settings', 'ENABLED', 'NOTIFY');
my %notified;
$notified{$_}++ foreach $listener->query('SELECT 1') =~ /with payload "([^"]*)"/g;
my @ids = map { $_->[0] } rows($node, 'settings', "SELECT id FROM esim_operation WHERE kind = 'enable' ORDER BY seq DESC LIMIT $count");
is_deeply(\%notified, { map { $_ => 1 } @ids }, 'NOTIFY: once for each operation, its identifier and nothing else');
$listener->quit;

#
# databases, while workers are connected and busy
#
make_database($node, 'moved');
busy($node, 'moved', 'enable', 200);
is(failure($node, 'postgres', 'ALTER DATABASE moved RENAME TO renamed'), 'none: ', 'ALTER DATABASE RENAME');
done($node, 'renamed', 'ENABLED', 'renamed');
busy($node, 'renamed', 'disable', 300);
is(failure($node, 'postgres', 'CREATE DATABASE copy TEMPLATE renamed'), 'none: ', 'CREATE DATABASE TEMPLATE');
done($node, 'renamed', 'DISABLED', 'template');
$node->safe_psql('postgres', 'ALTER DATABASE copy SET search_path = esim, public');
my $requests = $simulator->requests('moved');
isnt(value($node, 'copy', 'SELECT count(*) FROM esim_pending'), '0', 'operations were unfinished when it was copied');
ok(wait_until($node, 'copy', q(SELECT array_to_string(problems, '; ') ~ 'queued in another database' FROM esim_health()), 't'), 'the copy is paused');
is($simulator->requests('moved'), $requests, 'and sends nothing');
busy($node, 'renamed', 'enable', 300);
is(failure($node, 'postgres', 'DROP DATABASE renamed'), 'none: ', 'DROP DATABASE, without FORCE');
is(failure($node, 'postgres', 'DROP DATABASE copy'), 'none: ', 'and the copy');
ok($node->log_contains('esim worker leaves its database'), 'the workers left');
$simulator->config('moved', latency_ms => 0);

# moved by force: rows of a schema that functions do not name any more
like(failure($node, 'settings', 'ALTER SCHEMA esim RENAME TO other'), qr/schema of extension esim cannot be renamed/, 'ALTER SCHEMA RENAME is refused');
like(failure($node, 'settings', 'ALTER EXTENSION esim SET SCHEMA public'), qr/does not support SET SCHEMA/, 'and ALTER EXTENSION SET SCHEMA');
is(failure($node, 'settings', 'CREATE SCHEMA s; ALTER SCHEMA s RENAME TO t; DROP SCHEMA t'), 'none: ', 'other schemas are renamed');

#
# owners: renamed, dropped
#
make_database($node, 'owners');
$node->safe_psql('owners', q(
	CREATE ROLE tenant LOGIN;
	SELECT esim_grant('tenant', 'enable', 'disable', 'retrieve-status', 'retrieve-operation');
	GRANT USAGE ON FOREIGN SERVER main TO tenant;
	SELECT count(esim_transfer(eid, 'tenant')) FROM esim_device;));
query($node, 'owners', q(SET ROLE tenant; SELECT count(esim_enable(iccid)) FROM esim_profile));
done($node, 'owners', 'ENABLED', 'owner');
$node->safe_psql('owners', 'SELECT esim_pause()');
query($node, 'owners', q(SET ROLE tenant; SELECT count(esim_disable(iccid)) FROM esim_profile));
$node->safe_psql('owners', 'ALTER ROLE tenant RENAME TO renamed; SELECT esim_resume();');
is(value($node, 'owners', 'SET ROLE renamed; SELECT count(*) FROM esim_device'), '0', 'a renamed owner sees nothing');
ok(wait_until($node, 'owners', q(SELECT count(*) FROM esim_operation WHERE phase = 'PARKED' AND phase_reason ~ 'owner'), $count), 'its operations are PARKED');
like(value($node, 'owners', q(SELECT array_to_string(problems, '; ') FROM esim_health())),
	qr/owners that are gone or renamed: tenant \(now renamed\);.*esim_reassign_owned\(\)/, 'esim_health() says who it is and what to do');
$node->safe_psql('owners', q(CREATE ROLE tenant; SELECT esim_grant('tenant', 'retrieve-status')));
is(value($node, 'owners', 'SET ROLE tenant; SELECT count(*) FROM esim_device'), '0', 'a new role of the old name gets nothing');
is(value($node, 'owners', q(SELECT string_agg(what || ' ' || moved, ', ') FROM esim_reassign_owned('tenant', 'renamed'))),
	"devices $count, profiles $count, operations " . 2 * $count . ', fleets 0, credentials 0', 'esim_reassign_owned()');
done($node, 'owners', 'DISABLED', 'renamed owner');
is(value($node, 'owners', 'SET ROLE renamed; SELECT count(*) FROM esim_operation'), 2 * $count, 'it sees its history');

# the usual way to get rid of a role, with operations unfinished
$node->safe_psql('owners', 'SELECT esim_pause()');
query($node, 'owners', q(SET ROLE renamed; SELECT count(esim_enable(iccid)) FROM esim_profile));
like(failure($node, 'owners', 'DROP ROLE renamed'), qr/cannot be dropped because some objects depend on it/, 'DROP ROLE: not with rights');
is(failure($node, 'owners', 'REASSIGN OWNED BY renamed TO postgres; DROP OWNED BY renamed; DROP ROLE renamed'), 'none: ', 'REASSIGN OWNED, DROP OWNED, DROP ROLE');
is(value($node, 'owners', 'SELECT dangling_owners FROM esim_health()'), '1', 'esim_health() counts it');
$node->safe_psql('owners', 'SELECT esim_resume()');
ok(wait_until($node, 'owners', q(SELECT count(*) FROM esim_operation WHERE phase = 'PARKED'), $count), 'its operations are PARKED');
$node->safe_psql('owners', q(SELECT * FROM esim_reassign_owned('renamed', 'tenant')));
done($node, 'owners', 'ENABLED', 'dropped owner');
is(value($node, 'owners', q(SELECT array_to_string(problems, '; ') FROM esim_health())), '', 'esim_health() is content');

# the extension, with a worker busy, and made again
busy($node, 'owners', 'disable', 100);
is(failure($node, 'owners', 'DROP EXTENSION esim CASCADE'), 'none: ', 'DROP EXTENSION while a worker is busy');
$simulator->config('owners', latency_ms => 0);
is(failure($node, 'owners', 'CREATE EXTENSION esim SCHEMA esim'), 'none: ', 'CREATE EXTENSION');
ok(wait_until($node, 'owners', 'SELECT count(*) FROM esim_worker_status() WHERE last_error IS NOT NULL', '0'), 'no errors stay');

ok(!$node->log_contains(qr/PANIC|was terminated by signal|FATAL:  (?!terminating|the database system|database "?\w+"? (?:does not exist|is being accessed)|role "absent")/), 'no PANIC, no crash');
$node->stop;

# without preload nobody but the worker itself can see to it that the work goes on
my $stock = new_node('stock');
make_database($stock, 'stock');
ok(busy($stock, 'stock', 'enable', 300), 'stock: a worker works');
is(failure($stock, 'postgres', 'CREATE DATABASE copy TEMPLATE stock'), 'none: ', 'stock: CREATE DATABASE TEMPLATE');
done($stock, 'stock', 'ENABLED', 'stock: by itself');
busy($stock, 'stock', 'disable', 300);
is(failure($stock, 'postgres', 'DROP DATABASE stock'), 'none: ', 'stock: DROP DATABASE');
is(failure($stock, 'postgres', 'DROP DATABASE copy'), 'none: ', 'stock: and the copy');
ok(!$stock->log_contains(qr/PANIC|was terminated by signal/), 'stock: no crash');
$stock->stop;
ledger_is_exact($simulator, 'ledger');
done_testing();
