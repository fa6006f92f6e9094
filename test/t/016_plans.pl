# test/t/016_plans.pl
# What a worker reads of the queue and of the history does not grow with them, whatever was known
# of the tables when its plans were made: that they are empty, here, as they often are when
# autovacuum comes.
use strict;
use warnings;

use Test::More;
use EsimTest;

my $db = 'postgres';
my $count = 3000;
my $simulator = start_simulator('--no-record');
my $node = new_node('plans', preload => 1, settings => ['autovacuum = off']);

create_database($node, $db);
create_server($node, $db, $simulator, 'main');
fleet($node, $db, $count, state => 'DISABLED', simulator => $simulator);

my $one = iccid(0);
foreach my $round (1, 2)
{
	query($node, $db, $round == 1 ? "SELECT esim_enable('$one')" : "SELECT esim_disable('$one')");
	ok(wait_until($node, $db, q(SELECT count(*) FROM esim_pending), '0'), 'one alone');
	$node->safe_psql($db, 'TRUNCATE esim_operation, esim_attempt, esim_profile_event, esim_device_state') if $round == 1;
	$node->safe_psql($db, 'VACUUM ANALYZE') if $round == 1;
}

# entries of indexes and rows that scans have returned
my $read = q(SELECT sum(n) FROM (
	SELECT pg_stat_get_tuples_returned(c.oid) AS n FROM pg_class c
	WHERE c.oid IN ('esim_pending'::regclass, 'esim_operation'::regclass)
	UNION ALL SELECT pg_stat_get_tuples_returned(i.indexrelid) FROM pg_index i
	WHERE i.indrelid IN ('esim_pending'::regclass, 'esim_operation'::regclass)) s);
my $before = value($node, $db, $read);

query($node, $db, q(SELECT count(*) FROM esim_enable_many((SELECT array_agg(iccid) FROM esim_profile)) WHERE sqlstate IS NULL));
# no look at the tables themselves meanwhile: it would count
ok(wait_until($node, $db, qq(SELECT pg_stat_get_tuples_deleted('esim_pending'::regclass) >= $count), 't', 120), 'all have ended');
is(value($node, $db, q(SELECT count(*) FROM esim_pending)), '0', 'the queue is empty');
my $each = (value($node, $db, $read) - $before) / $count;
note(sprintf('%.1f entries and rows read for each operation', $each));
cmp_ok($each, '<', 150, "little is read for each of $count operations");

ledger_is_exact($simulator, 'ledger');
$node->stop;
done_testing();
