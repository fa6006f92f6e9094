# test/t/010_limits.pl
# Limits of a server hold across workers; a server in trouble is left alone and holds up nobody.
use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep time);
use EsimTest;

my $db = 'postgres';
my $simulator = start_simulator();
my $node = new_node('limits', preload => 1, settings => [ 'esim.workers = 2', 'esim.poll_interval = 500ms' ]);

create_database($node, $db);
create_server($node, $db, $simulator, 'narrow', max_in_flight => 4);
create_server($node, $db, $simulator, 'slow', rate_limit => 100);
create_server($node, $db, $simulator, 'sick');
create_server($node, $db, $simulator, 'well');
fleet($node, $db, 200, first => 0, state => 'DISABLED', server => 'narrow', simulator => $simulator);
fleet($node, $db, 300, first => 1000, state => 'DISABLED', server => 'slow', simulator => $simulator);
fleet($node, $db, 1000, first => 2000, state => 'DISABLED', server => 'sick', simulator => $simulator);
fleet($node, $db, 1000, first => 4000, state => 'DISABLED', server => 'well', simulator => $simulator);
ok(wait_until($node, $db, q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'esim worker'), '2'), 'two workers');

sub enable_all
{
	my ($server) = @_;
	return query($node, $db, "SELECT count(esim_enable(p.iccid)) FROM esim_profile p JOIN esim_device d USING (eid) WHERE d.server = '$server'");
}

sub completed
{
	my ($server, $seconds) = @_;
	return wait_until($node, $db, "SELECT count(*) FROM esim_operation WHERE status = 'ACCEPTED' AND server = '$server'", '0', $seconds);
}

# max_in_flight
$simulator->config('narrow', latency_ms => 20);
enable_all('narrow');
ok(completed('narrow'), 'max_in_flight: all complete');
my $stats = $simulator->stats('narrow');
cmp_ok($stats->{max_in_flight}, '<=', 4, "max_in_flight: at most 4 at once ($stats->{max_in_flight})");
cmp_ok($stats->{max_in_flight}, '>=', 3, 'max_in_flight: it is made use of');

# rate_limit
my $begin = time();
enable_all('slow');
ok(completed('slow'), 'rate_limit: all complete');
my $seconds = time() - $begin;
$stats = $simulator->stats('slow');
# what is sent evenly may arrive in heaps: the whole counts
cmp_ok($stats->{requests}, '<=', 15 + 100 * $seconds, "rate_limit: at most 100 a second and a burst of a tenth ($stats->{max_per_second})");
cmp_ok($stats->{requests} / $seconds, '>=', 70, sprintf('rate_limit: it is made use of (%.0f a second)', $stats->{requests} / $seconds));

# ALTER takes effect at once
alter_server($node, $db, 'slow', rate_limit => 0);
$begin = time();
query($node, $db, q(SELECT count(esim_disable(p.iccid)) FROM esim_profile p JOIN esim_device d USING (eid) WHERE d.server = 'slow'));
ok(completed('slow'), 'rate_limit lifted: all complete');
cmp_ok(time() - $begin, '<', 4, 'rate_limit lifted: soon');

# breaker
$simulator->fault({ server => 'sick', fault => 'status', status => 503 });
enable_all('sick');
sleep 3;
my $before = $simulator->requests('sick');
cmp_ok($before, '<', 400, "a server that answers 503 is not stormed ($before requests for 1,000 operations in 3 s)");
$begin = time();
enable_all('well');
ok(completed('well', 20), 'another server is not held up');
cmp_ok(time() - $begin, '<', 10, 'and is quick');
sleep 2;
my $more = $simulator->requests('sick') - $before;
cmp_ok($more, '<', 50, "while the breaker is open it is only probed ($more requests)");
is(value($node, $db, q(SELECT count(*) FROM esim_operation WHERE server = 'sick' AND status = 'ACCEPTED')), '1000', 'nothing of it failed');
like(value($node, $db, q(SELECT array_to_string(problems, '; ') FROM esim_health())),
	qr/^server "sick" has failed for [0-9:]+ \(HTTP status 503\), and 1000 operations wait$/, 'esim_health() says so');
is(value($node, $db, q(SELECT esim_pause('sick'); SELECT array_to_string(problems, '; ') FROM esim_health())), "t\npaused: sick",
	'but not of one that is paused');
$node->safe_psql($db, q(SELECT esim_resume('sick')));
$simulator->clear_faults;
ok(completed('sick', 90), 'when it is well again all complete');
is(value($node, $db, q(SELECT array_to_string(problems, '; ') FROM esim_health())), '', 'esim_health() is content');
is(value($node, $db, q(SELECT count(*) FROM esim_operation WHERE result <> 'SUCCESS')), '0', 'all succeed');

# pause
$node->safe_psql($db, q(SELECT esim_pause('well')));
$before = $simulator->requests('well');
query($node, $db, q(SELECT count(esim_disable(p.iccid)) FROM esim_profile p JOIN esim_device d USING (eid) WHERE d.server = 'well'));
$begin = time();
query($node, $db, q(SELECT count(esim_disable(p.iccid)) FROM esim_profile p JOIN esim_device d USING (eid) WHERE d.server = 'sick'));
ok(completed('sick', 30), 'a paused server holds up nobody');
is($simulator->requests('well'), $before, 'and gets nothing');
$node->safe_psql($db, q(SELECT esim_resume('well')));
ok(completed('well'), 'until it is resumed');
ledger_is_exact($simulator, 'ledger', enabled => 2500);
$node->stop;
done_testing();
