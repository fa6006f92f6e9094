# test/t/011_memory.pl
# The memory of a worker does not grow with the backlog.
#
# With ESIM_LONG=1 the backlog is 1,000,000 operations, else 100,000.
use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep);
use EsimTest;

my $db = 'postgres';
my $large = $ENV{ESIM_LONG} ? 1_000_000 : 100_000;
my $simulator = start_simulator('--no-record');
my %peak;

# Resident kilobytes of a process; the part that is its own.
sub resident
{
	my ($pid) = @_;
	my %kb;

	open(my $status, '<', "/proc/$pid/status") or return;
	while (<$status>)
	{
		$kb{$1} = $2 if /^(VmRSS|RssAnon|RssShmem):\s+(\d+)/;
	}
	return ($kb{VmRSS}, $kb{VmRSS} - $kb{RssShmem});
}

foreach my $backlog (1000, $large)
{
	my $node = new_node("memory_$backlog", preload => 1,
		settings => [ 'esim.workers = 0', 'shared_buffers = 16MB', 'max_wal_size = 4GB', 'maintenance_work_mem = 256MB' ]);
	my ($whole, $own, $samples) = (0, 0, 0);

	$simulator->reset;
	create_database($node, $db);
	create_server($node, $db, $simulator, 'main', timeout => '30 s');
	fleet($node, $db, $backlog, state => 'DISABLED', simulator => $simulator);
	query($node, $db, q(SELECT count(*) FROM esim_enable_many((SELECT array_agg(iccid) FROM esim_profile))));
	is(value($node, $db, 'SELECT count(*) FROM esim_pending'), $backlog, "$backlog are queued");

	# the same work for both: while the first thousand is done
	$simulator->config('main', latency_ms => 20);
	$node->append_conf('postgresql.conf', 'esim.workers = 1');
	$node->reload;
	my $query = q(SELECT count(*) >= 1000 FROM (SELECT FROM esim_operation WHERE status = 'COMPLETED' LIMIT 1000) o);
	for (my $tries = 0; $tries < 1200; $tries++)
	{
		my ($pid) = worker_pids($node, $db);
		my ($all, $mine) = $pid ? resident($pid) : ();

		if (defined $all)
		{
			$whole = $all if $all > $whole;
			$own = $mine if $mine > $own;
			$samples++;
		}
		last if value($node, $db, $query) eq 't';
		sleep 0.05;
	}
	is(value($node, $db, $query), 't', "$backlog: a thousand is done");
	cmp_ok($samples, '>', 3, "$backlog: seen $samples times");
	$peak{$backlog} = $own;
	note("$backlog queued: resident $whole kB, of which its own $own kB");
	diag("$backlog queued: resident $whole kB, of which its own $own kB");
	$node->stop('immediate');
}
cmp_ok(abs($peak{$large} - $peak{1000}), '<=', 0.10 * $peak{1000}, "within 10 percent: $peak{1000} kB and $peak{$large} kB");
done_testing();
