# test/t/004_crash.pl
# The cluster is stopped with immediate in the middle of 5,000 operations: every effect exactly once.
use strict;
use warnings;

use Test::More;
use EsimTest;

foreach my $case (
	{ name => 'preload', preload => 1 },
	{ name => 'stock', preload => 0 },
	{ name => 'preload_async', preload => 1, settings => ['synchronous_commit = off'] },
	{ name => 'workers', preload => 1, settings => ['esim.workers = 3'] })
{
	my $name = $case->{name};
	my $db = 'postgres';
	my $simulator = start_simulator();
	my $node = new_node($name, preload => $case->{preload}, settings => $case->{settings});

	create_database($node, $db);
	create_server($node, $db, $simulator, 'main', max_in_flight => 100);
	$simulator->config('main', latency_ms => 15);
	fleet($node, $db, 2000);

	# 2,000 downloads, 2,000 enables behind them, 1,000 refreshes behind those
	$node->safe_psql($db, q(
		BEGIN;
		SELECT count(esim_download(d.eid, p.iccid)) FROM esim_device d JOIN esim_profile p
			ON substr(p.iccid::text, 3, 16)::numeric = substr(d.eid::text, 11, 20)::numeric;
		SELECT count(esim_enable(iccid)) FROM esim_profile;
		SELECT count(esim_refresh(eid)) FROM (SELECT eid FROM esim_device ORDER BY eid LIMIT 1000) d;
		COMMIT;
	));
	is(value($node, $db, 'SELECT count(*) FROM esim_operation'), '5000', "$name: 5,000 operations");
	ok(wait_until($node, $db, q(SELECT count(*) > 1200 FROM esim_operation WHERE status = 'COMPLETED'), 't'),
		"$name: a good part is done");
	my $done = value($node, $db, q(SELECT count(*) FROM esim_operation WHERE status = 'COMPLETED'));
	$node->stop('immediate');
	cmp_ok($done, '<', 5000, "$name: stopped in the middle, at $done");
	$node->start;
	if (!$case->{preload})
	{
		# any function of ours will do
		$node->safe_psql($db, q(SELECT * FROM esim_worker_status()));
	}
	ok(wait_completed($node, $db, 90), "$name: all complete");
	is(value($node, $db, q(SELECT string_agg(kind || ' ' || result || ' ' || n, ', ' ORDER BY kind, result)
			FROM (SELECT kind, result, count(*) AS n FROM esim_operation GROUP BY 1, 2) o)),
		'download SUCCESS 2000, enable SUCCESS 2000, refresh SUCCESS 1000', "$name: all succeed")
	  or tell_failures($node, $db);
	is(value($node, $db, q(SELECT count(*) FROM esim_profile WHERE state = 'ENABLED' AND eid IS NOT NULL)), '2000',
		"$name: all profiles are ENABLED");
	is(value($node, $db, 'SELECT count(*) FROM esim_pending'), '0', "$name: the queue is empty");
	ledger_is_exact($simulator, $name, downloaded => 2000, enabled => 2000, disabled => 0);
	note(explain($simulator->get('/ledger')));
	ok(!$node->log_contains(qr/PANIC/), "$name: no PANIC");
	$node->stop;
	$simulator->stop;
}
done_testing();
