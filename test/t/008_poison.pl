# test/t/008_poison.pl
# An operation during whose handling the worker crashes again and again is set
# aside; everything else completes.
#
# A library loaded before all others takes the place of json_loadb() and
# raises SIGSEGV when the text contains a marker.
use strict;
use warnings;

use Test::More;
use EsimTest;

use PostgreSQL::Test::Utils;

my $db = 'postgres';
my $marker = 'KILLS-THE-WORKER';
my $source = "${PostgreSQL::Test::Utils::tmp_check}/poison.c";
my $library = "${PostgreSQL::Test::Utils::tmp_check}/poison.so";

open(my $file, '>', $source) or die "$source: $!";
print $file qq(
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <string.h>

void *json_loadb(const char *buffer, size_t length, size_t flags, void *error);

void *
json_loadb(const char *buffer, size_t length, size_t flags, void *error)
{
	static void *(*real) (const char *, size_t, size_t, void *);

	if (memmem(buffer, length, "$marker", strlen("$marker")) != NULL)
		raise(SIGSEGV);
	if (real == NULL)
		real = dlsym(dlopen("libjansson.so.4", RTLD_NOW), "json_loadb");
	return real(buffer, length, flags, error);
}
);
close $file;
if (system('gcc', '-shared', '-fPIC', '-o', $library, $source, '-ldl') != 0)
{
	plan skip_all => 'gcc cannot build a shared library';
}

my $simulator = start_simulator();
my $node = new_node('poison', preload => 1, start => 0, settings => [ 'restart_after_crash = on', 'esim.poll_interval = 500ms' ]);
{
	local $ENV{LD_PRELOAD} = $library;
	$node->start;
}
create_database($node, $db);
create_server($node, $db, $simulator, 'main');
fleet($node, $db, 100, state => 'DISABLED', simulator => $simulator);

# number 50: the answer to a request that acts; number 60: to one that asks only
my ($acting, $asking) = (iccid(50), eid(60));
$simulator->fault(
	{ method => 'POST', path => 'enable', iccid => $acting, fault => 'status', status => 400, message => $marker },
	{ method => 'POST', path => 'retrieve-status', eid => $asking, fault => 'status', status => 400, message => $marker });
$simulator->config('main', latency_ms => 30);
# (number 60 is not enabled: after a crash that would be asked about too)
$node->psql($db, "BEGIN; SELECT count(esim_enable(iccid)) FROM esim_profile WHERE eid <> '$asking';
	SELECT count(esim_refresh(eid)) FROM esim_device; COMMIT");

ok(wait_until($node, $db, q(SELECT count(*) FROM esim_operation WHERE status = 'ACCEPTED'), '0', 120), 'all complete')
  or wait_completed($node, $db, 1);
is(value($node, $db, "SELECT result, error_code FROM esim_operation WHERE kind = 'enable' AND iccid = '$acting'"),
	'FAILED|OUTCOME_UNKNOWN', 'the one that had sent a request that acts: OUTCOME_UNKNOWN');
is(value($node, $db, "SELECT result, error_code FROM esim_operation WHERE kind = 'refresh' AND eid = '$asking'"),
	'FAILED|POISONED', 'the one that had only asked: POISONED');
is(value($node, $db, q(SELECT string_agg(kind || ' ' || result || ' ' || n, ', ' ORDER BY kind, result)
		FROM (SELECT kind, result, count(*) AS n FROM esim_operation GROUP BY 1, 2) o)),
	'enable SUCCESS 98, enable FAILED 1, refresh SUCCESS 99, refresh FAILED 1', 'the others succeed')
  or tell_failures($node, $db);
my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
my $crashes = () = $log =~ /was terminated by signal 11/g;
# one before they are suspects, two while they are known to be handled
cmp_ok($crashes, '<=', 6, "three crashes each at most ($crashes)");
cmp_ok($crashes, '>=', 2, 'it did crash');
ledger_is_exact($simulator, 'ledger', enabled => 98);
$node->stop;
done_testing();
