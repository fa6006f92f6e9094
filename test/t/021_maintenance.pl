# test/t/021_maintenance.pl
# Upkeep by the real pg_cron, in its own database and in another one.
#
# A minute is the shortest schedule of pg_cron 1.4: with ESIM_LONG=1 it is waited for, else what is
# registered is run by hand as the role that pg_cron would run it as.
use strict;
use warnings;

use Test::More;
use EsimTest;

use PostgreSQL::Test::Utils;

my $node = new_node('maintenance', start => 0, settings => ['esim.workers = 0']);
my $library = -e "${\ $node->config_data('--pkglibdir') }/pg_cron.so";
plan skip_all => 'pg_cron is not there (postgresql-NN-cron)' if !$library;

# without pg_cron
$node->start;
create_database($node, 'app');
my ($status, $out, $err) = $node->psql('app', 'SELECT * FROM esim_schedule_maintenance()');
like($err, qr/pg_cron is not there.*UNAVAILABLE.*shared_preload_libraries/s, 'no pg_cron: a clear error with a hint');
($status, $out, $err) = $node->psql('app', 'SELECT esim_unschedule_maintenance()');
like($err, qr/pg_cron is not there/, 'also when unscheduling');

$node->append_conf('postgresql.conf', join("\n",
	"shared_preload_libraries = 'pg_cron'", "cron.database_name = 'app'", "cron.host = '" . $node->host . "'") . "\n");
$node->restart;
($status, $out, $err) = $node->psql('app', 'SELECT * FROM esim_schedule_maintenance()');
like($err, qr/extension pg_cron is not there.*CREATE EXTENSION pg_cron/s, 'library without extension: another error and hint');
$node->safe_psql('app', q(
	CREATE EXTENSION pg_cron;
	CREATE ROLE upkeep LOGIN;
	CREATE ROLE reader LOGIN;
	CREATE ROLE tenant;
	SELECT esim_grant('upkeep', 'admin');
	SELECT esim_grant('reader', 'retrieve-status');
));

# Runs SQL as a role that connects.
sub as_role
{
	my ($role, $sql, $database) = @_;
	my ($rc, $stdout, $stderr) = $node->psql($database // 'app', $sql, extra_params => [ '-U', $role ]);

	return ($stdout, $stderr);
}

my $jobs = q(SELECT jobname, schedule, command, database, username, active FROM cron.job ORDER BY jobname, username);

# ---- pg_cron in this database ----

($out, $err) = as_role('reader', 'SELECT * FROM esim_schedule_maintenance()');
like($err, qr/permission denied for function/, 'only the scope admin may schedule');
($out, $err) = as_role('upkeep', 'SELECT * FROM esim_schedule_maintenance()');
like($err, qr/permission denied for schema cron.*GRANT USAGE ON SCHEMA cron/s, 'and pg_cron must be allowed to it');
is(value($node, 'app', 'SELECT count(*) FROM cron.job'), '0', 'nothing was registered');
$node->safe_psql('app', 'GRANT USAGE ON SCHEMA cron TO upkeep');
($out, $err) = as_role('upkeep', 'SELECT * FROM esim_schedule_maintenance()');
is($out, "esim_prune/app|17 * * * *|SELECT esim.esim_prune()\nesim_refresh/app|23 2 * * *|SELECT esim.esim_refresh_oldest(1000)",
	'two jobs');
is($err, '', 'without a word');
is(value($node, 'app', $jobs), join("\n",
		'esim_prune/app|17 * * * *|SELECT esim.esim_prune()|app|upkeep|t',
		'esim_refresh/app|23 2 * * *|SELECT esim.esim_refresh_oldest(1000)|app|upkeep|t'),
	'they are registered, for the role that called');
as_role('upkeep', q(SELECT esim_schedule_maintenance('{"refresh_schedule": "*/10 1-4 * * *", "refresh_rate": 50}')));
is(value($node, 'app', $jobs), join("\n",
		'esim_prune/app|17 * * * *|SELECT esim.esim_prune()|app|upkeep|t',
		'esim_refresh/app|*/10 1-4 * * *|SELECT esim.esim_refresh_oldest(50)|app|upkeep|t'),
	'a second call replaces them');
as_role('upkeep', q(SELECT esim_schedule_maintenance('{"refresh_schedule": null}')));
is(value($node, 'app', 'SELECT jobname FROM cron.job'), 'esim_prune/app', 'null: no such job');
($out, $err) = as_role('upkeep', q(SELECT esim_schedule_maintenance('{"prune_schedule": "99 * * * *"}')));
like($err, qr/invalid schedule/, 'pg_cron refuses a schedule that is none');
is(value($node, 'app', 'SELECT jobname, schedule FROM cron.job'), 'esim_prune/app|17 * * * *', 'and what was there stays');
as_role('upkeep', q(SELECT cron.schedule('other', '0 0 1 1 *', 'SELECT 1')));
($out) = as_role('upkeep', 'SELECT esim_unschedule_maintenance()');
is($out, '1', 'unscheduled');
($out) = as_role('upkeep', 'SELECT esim_unschedule_maintenance()');
is($out, '0', 'nothing is left');
is(value($node, 'app', 'SELECT jobname FROM cron.job'), 'other', 'but other people\'s jobs');

# a superuser replaces them all, whoever made them
as_role('upkeep', 'SELECT esim_schedule_maintenance()');
$node->safe_psql('app', 'SELECT esim_schedule_maintenance()');
is(value($node, 'app', q(SELECT string_agg(DISTINCT username, ' '), count(*) FROM cron.job WHERE jobname LIKE 'esim%')),
	value($node, 'app', 'SELECT current_user') . '|2', 'a superuser takes them over');
is(value($node, 'app', 'SELECT esim_unschedule_maintenance()'), '2', 'and away');
($status, $out, $err) = $node->psql('app', 'GRANT USAGE ON SCHEMA cron TO tenant; SELECT esim_grant(\'tenant\', \'admin\'); SET ROLE tenant; SELECT count(*) FROM esim_schedule_maintenance()');
like($err, qr/WARNING:  role "tenant" cannot log in/, 'a warning where pg_cron could not run them');
is(value($node, 'app', 'SELECT esim_unschedule_maintenance()'), '2', 'they are there all the same');

# ---- what the jobs do ----

create_server_offline();
fleet($node, 'app', 30, server => 'main');
$node->safe_psql('app', q(
	INSERT INTO esim_device_state (eid, last_seen_at)
	SELECT eid, now() - row_number() OVER (ORDER BY eid) * interval '1 day' FROM esim_device;
	INSERT INTO esim_operation (id, seq, kind, eid, owner, owner_name, requested_by, server, status, result, phase,
		created_at, completed_at, expires_at)
	SELECT (lpad(to_hex((extract(epoch FROM now() - interval '200 days') * 1000)::bigint + n), 12, '0') || '70008000000000000000')::uuid,
		nextval('esim_operation_seq'), 'enable', eid, owner, owner_name, owner, 'main', 'COMPLETED', 'SUCCESS', 'DONE',
		now() - interval '200 days', now() - interval '199 days', now()
	FROM (SELECT row_number() OVER (ORDER BY eid) AS n, * FROM esim_device) d;
));
as_role('upkeep', q(SELECT esim_schedule_maintenance('{"prune_schedule": "* * * * *", "audit_older_than": "1 year", "refresh_schedule": "* * * * *", "refresh_rate": 5}')));
is(value($node, 'app', q(SELECT command FROM cron.job WHERE jobname = 'esim_prune/app')), q(SELECT esim.esim_prune('{"audit_older_than": "1 year"}')),
	'the audit is pruned where that is asked for');
is(value($node, 'app', q(SELECT string_agg(DISTINCT function || ' ' || outcome, ', ' ORDER BY function || ' ' || outcome) FROM esim_audit
		WHERE role = 'upkeep' AND session::jsonb ->> 'user' = 'upkeep' AND function LIKE '%maintenance')),
	'esim_schedule_maintenance SCHEDULED, esim_unschedule_maintenance REMOVED 0, esim_unschedule_maintenance REMOVED 1', 'esim_audit says who did it');
if ($ENV{ESIM_LONG})
{
	ok(wait_until($node, 'app', q(
			SELECT count(DISTINCT jobid) FROM cron.job_run_details WHERE status IN ('succeeded', 'failed')), '2', 70),
		'pg_cron has run both');
	is(value($node, 'app', q(SELECT string_agg(DISTINCT status || ' ' || username, ' ') FROM cron.job_run_details)),
		'succeeded upkeep', 'as the role that registered them');
	$node->safe_psql('app', 'SELECT esim_unschedule_maintenance()');
}
else
{
	foreach my $job (rows($node, 'app', q(SELECT username, command FROM cron.job WHERE jobname LIKE 'esim%' ORDER BY jobname)))
	{
		($out, $err) = as_role($job->[0], $job->[1]);
		is($err, '', "$job->[1] as $job->[0]");
	}
}
is(value($node, 'app', q(SELECT count(*) FROM esim_operation WHERE kind = 'enable')), '0', 'old history is gone');
my @asked = map { $_->[0] } rows($node, 'app', q(
	SELECT o.eid FROM esim_operation o WHERE o.kind = 'refresh' ORDER BY o.eid));
my $runs = @asked / 5;
cmp_ok($runs, '>=', 1, 'refreshes are queued');
is(join(' ', @asked), join(' ', map { eid($_) } (30 - 5 * $runs) .. 29), 'of those not heard of for longest');

# ---- pg_cron in another database ----

create_database($node, 'tenants');
($status, $out, $err) = $node->psql('tenants', 'SELECT * FROM esim_schedule_maintenance()');
is($out, join("\n",
		q(esim_prune/tenants|17 * * * *|SELECT cron.schedule_in_database('esim_prune/tenants', '17 * * * *', 'SELECT esim.esim_prune()', 'tenants')),
		q(esim_refresh/tenants|23 2 * * *|SELECT cron.schedule_in_database('esim_refresh/tenants', '23 2 * * *', 'SELECT esim.esim_refresh_oldest(1000)', 'tenants'))),
	'elsewhere: the statements to run there');
like($err, qr/NOTICE:  pg_cron is in the database "app".*HINT:  Run the statements/s, 'it says so');
$node->safe_psql('app', $_->[2]) foreach map { [ split /\|/, $_ ] } split /\n/, $out;
$node->safe_psql('app', 'SELECT esim_schedule_maintenance()');
is(value($node, 'app', q(SELECT jobname, database, command FROM cron.job WHERE jobname LIKE 'esim%' ORDER BY 1)), join("\n",
		'esim_prune/app|app|SELECT esim.esim_prune()', 'esim_prune/tenants|tenants|SELECT esim.esim_prune()',
		'esim_refresh/app|app|SELECT esim.esim_refresh_oldest(1000)',
		'esim_refresh/tenants|tenants|SELECT esim.esim_refresh_oldest(1000)'),
	'run there, they are registered beside those of that database');
$node->safe_psql('tenants', 'SELECT esim.esim_prune(); SELECT esim.esim_refresh_oldest(10)');
is(value($node, 'app', q(SELECT esim_unschedule_maintenance())), '2', 'each database\'s jobs are its own');
($status, $out, $err) = $node->psql('tenants', 'SELECT esim_unschedule_maintenance()');
is($out, '0', 'elsewhere nothing is unscheduled');
my ($statement) = $err =~ /Run there: (SELECT .*;)/;
$node->safe_psql('app', $statement);
is(value($node, 'app', q(SELECT count(*) FROM cron.job WHERE jobname LIKE 'esim%')), '0', 'but by the statement in the hint');

# from the database of pg_cron
is(value($node, 'app', q(SELECT job, command FROM esim_schedule_maintenance('{"database": "tenants", "schema": "Upkeep", "refresh_schedule": null}'))),
	'esim_prune/tenants|SELECT "Upkeep".esim_prune()', 'database and schema');
is(value($node, 'app', q(SELECT jobname, database FROM cron.job WHERE jobname LIKE 'esim%')), 'esim_prune/tenants|tenants', 'registered there');
is(value($node, 'app', 'SELECT esim_unschedule_maintenance()'), '0', 'not a job of this database');
is(value($node, 'app', q(SELECT esim_unschedule_maintenance('{"database": "tenants"}'))), '1', 'but of that one');
($status, $out, $err) = $node->psql('app', q(SELECT esim_schedule_maintenance('{"database": "absent"}')));
like($err, qr/database "absent" does not exist/, 'an unknown database');
($status, $out, $err) = $node->psql('tenants', q(SELECT esim_schedule_maintenance('{"database": "app"}')));
like($err, qr/scheduled in the database of pg_cron/, 'not from a third one');

# a database whose name is too long for a job's, and has to be quoted
my $name = 'A "long" name, ' . 'x' x 40;
$node->safe_psql('postgres', sprintf('CREATE DATABASE "%s"', $name =~ s/"/""/gr));
my $literal = $name =~ s/"/\\"/gr;
like(value($node, 'app', qq(SELECT job FROM esim_schedule_maintenance('{"database": "$literal"}'))),
	qr/^esim_prune\/[0-9a-f]{32}\nesim_refresh\/[0-9a-f]{32}$/, 'a long name');
is(value($node, 'app', qq(SELECT esim_unschedule_maintenance('{"database": "$literal"}'))), '2', 'found again');

$node->stop('fast');
done_testing();

# nothing is sent in this test
sub create_server_offline
{
	$node->safe_psql('app',
		q(CREATE SERVER main FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://rsp.invalid/')));
	return;
}
