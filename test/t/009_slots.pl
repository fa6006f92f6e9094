# test/t/009_slots.pl
# No background worker slot is free: operations stay queued, the reason shows, and they run once one is free.
use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep);
use EsimTest;

my $db = 'postgres';
my $simulator = start_simulator();

foreach my $preload (0, 1)
{
	my $name = $preload ? 'preload' : 'stock';
	my $first = $preload * 100;
	my $node = new_node("slots_$name", preload => $preload,
		settings => [ 'max_logical_replication_workers = 0', 'max_worker_processes = ' . (1 + $preload) ]);

	# a parallel query takes the slot, before anything of ours wants it
	my $taker = $node->background_psql($db, on_error_stop => 0);
	$taker->query_until(qr/started/, qq(
		SELECT set_config(name, 'on', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
		\\echo started
		SELECT pg_sleep(600);
	));
	ok(wait_until($node, $db, q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker'), '1'),
		"$name: the slot is taken");
	create_database($node, $db);
	create_server($node, $db, $simulator, 'main');
	fleet($node, $db, 10, first => $first, state => 'DISABLED', simulator => $simulator);
	my $requests = $simulator->requests('main');

	my ($status, $out, $err) = $node->psql($db, 'SELECT count(esim_enable(iccid)) FROM esim_profile');
	is($status, 0, "$name: operations are accepted");
	($status, $out, $err) = $node->psql($db, "SELECT doing, last_error FROM esim_worker_status() WHERE pid IS NULL");
	like($out, qr/max_worker_processes/, "$name: esim_worker_status() says why");
	($status, $out, $err) = $node->psql($db, "SELECT esim_refresh('@{[eid($first)]}')");
	is($status, 0, "$name: more are accepted");
	like($err, qr/WARNING.*\n.*max_worker_processes/, "$name: the next call warns");
	sleep 1;
	is($simulator->requests('main'), $requests, "$name: nothing was sent");
	is(value($node, $db, q(SELECT count(*) FROM esim_operation WHERE status = 'ACCEPTED')), '11', "$name: all are queued");
	is(value($node, $db, 'SELECT missing_workers FROM esim_health()'), '1', "$name: esim_health() misses a worker") if $preload;

	$node->safe_psql($db, q(SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()));
	ok(wait_until($node, $db, q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker'), '0'),
		"$name: the slot is free");
	$node->safe_psql($db, 'SELECT * FROM esim_worker_status()') if !$preload;
	ok(wait_completed($node, $db), "$name: all complete");
	is(value($node, $db, q(SELECT count(*) FROM esim_worker_status() WHERE last_error IS NOT NULL AND pid IS NULL)), '0',
		"$name: the reason is gone");
	$taker->quit;
	$node->stop;
}
ledger_is_exact($simulator, 'ledger', enabled => 20);
done_testing();
