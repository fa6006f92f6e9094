# test/t/005_standby.pl
# A standby that is promoted in mid-run goes on with what had reached it, and asks before it sends.
use strict;
use warnings;

use Test::More;
use EsimTest;
use EsimSink;

my $db = 'postgres';
my $simulator = start_simulator();
my $sink = EsimSink::start("${PostgreSQL::Test::Utils::tmp_check}/standby.log", 1);
my $primary = new_node('primary', preload => 1, init => { allows_streaming => 1 },
	settings => [ 'shared_buffers = 16MB', "esim.sink_allow = '127.0.0.1'", 'esim.sink_allow_private = on' ]);

create_database($primary, $db);
create_server($primary, $db, $simulator, 'main', max_in_flight => 50);
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

$simulator->config('main', latency_ms => 15);
fleet($primary, $db, 1000);
$primary->safe_psql($db, q(
	SELECT count(esim_download(d.eid, p.iccid)) FROM esim_device d JOIN esim_profile p
		ON substr(p.iccid::text, 3, 16)::numeric = substr(d.eid::text, 11, 20)::numeric;
	SELECT count(esim_enable(iccid)) FROM esim_profile;
));
# an announcement that the primary does not get rid of
$sink->set_switch('fail');
my $told = value($primary, $db, "SELECT esim_refresh('" . eid(0) . "', priority => (-1)::smallint, sink => '" . $sink->url('/switch/standby') . "')");
is(value($standby, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'esim%')), '0',
	'nothing of ours runs on a standby');
ok(wait_until($standby, $db, q(SELECT count(*) > 500 FROM esim_operation WHERE status = 'COMPLETED'), 't'),
	'the standby follows');
ok(wait_until($standby, $db, "SELECT tries > 0 FROM esim_notification WHERE operation = '$told'", 't'), 'a sink that the primary cannot tell');
my $sent = scalar $sink->requests;

# two that wait when the standby hears of the primary for the last time; then the primary sends one of them
create_server($primary, $db, $simulator, 'other');
fleet($primary, $db, 2, first => 2000, server => 'other', state => 'DISABLED', simulator => $simulator);
$primary->safe_psql($db, "SELECT esim_pause('other')");
my ($never, $unheard) = map { value($primary, $db, "SELECT esim_enable('" . iccid($_) . "')") } 2000, 2001;
ok(wait_until($standby, $db, "SELECT count(*) FROM esim_operation WHERE id IN ('$never', '$unheard')", '2'), 'two that wait');
$standby->append_conf('postgresql.conf', "primary_conninfo = ''");
$standby->reload;
ok(wait_until($primary, $db, 'SELECT count(*) FROM pg_stat_replication', '0'), 'the standby hears no more');
$primary->safe_psql($db, "SELECT esim_cancel('$never'); SELECT esim_resume('other')");
ok(wait_until($primary, $db, "SELECT result FROM esim_operation WHERE id = '$unheard'", 'SUCCESS'), 'one of them is carried out');

# a plain read of ours does not start anything there
my ($status, $out, $err) = $standby->psql($db, 'SELECT ok FROM esim_health()');
is($status, 0, 'esim_health() works on a standby') or diag($err);

$primary->stop('immediate');
$sink->set_switch('ok');
$standby->promote;
ok(wait_until($standby, $db, 'SELECT pg_is_in_recovery()', 'f'), 'promoted');
ok(wait_until($standby, $db, q(SELECT bool_and(ask_first) FROM esim_pending WHERE server = 'other'), 't'), 'the other two are known to be doubtful');
is(value($standby, $db, "SELECT bool_and(esim_cancel(id)) FROM unnest(ARRAY['$never', '$unheard']::uuid[]) id"), 't', 'they are to be cancelled');
is(value($standby, $db, "SELECT count(*) FROM esim_operation WHERE id IN ('$never', '$unheard') AND status = 'ACCEPTED'"), '2', 'which is not said of them before it is known');
$standby->safe_psql($db, "SELECT esim_resume('other')");
ok(wait_until($standby, $db, "SELECT string_agg(result::text, ' ' ORDER BY id) FROM esim_operation WHERE id IN ('$never', '$unheard')", 'CANCELLED SUCCESS'),
	'cancelled is what was never sent; the other turns out to have been');
my $reached = value($standby, $db, 'SELECT count(*) FROM esim_operation');
is($reached, '2003', 'all operations had reached it');
ok(wait_completed($standby, $db, 90), 'all complete on the new primary, by themselves');
is(value($standby, $db, q(SELECT string_agg(kind || ' ' || result || ' ' || n, ', ' ORDER BY kind, result)
		FROM (SELECT kind, result, count(*) AS n FROM esim_operation GROUP BY 1, 2) o)),
	'download SUCCESS 1000, enable SUCCESS 1001, enable CANCELLED 1, refresh SUCCESS 1', 'all succeed')
	  or tell_failures($standby, $db);
is(value($standby, $db, q(SELECT count(*) FROM esim_profile WHERE state = 'ENABLED')), '1001', 'all profiles are ENABLED');
ok(wait_until($standby, $db, "SELECT state FROM esim_notification WHERE operation = '$told'", 'DELIVERED'), 'what the primary could not tell is told');
my @events = map { $_->{body} } $sink->requests;
cmp_ok(scalar @events, '>', $sent, 'by the new primary');
is(scalar(keys %{ { map { $_ => 1 } @events } }), 1, 'with the same identifier and content');
ledger_is_exact($simulator, 'ledger', downloaded => 1000, enabled => 1001);
$standby->safe_psql($db, 'SELECT count(esim_disable(iccid, server => \'main\')) FROM esim_profile WHERE state = \'ENABLED\'');
ok(wait_completed($standby, $db), 'it takes new operations');
$standby->stop;
done_testing();
