# test/t/047_sync.pl
# esim_sync(): what an account has, page by page.  Nothing that operations know better is
# overwritten, nothing that they are creating is taken from them, and no page is lost to an odd
# entry or to somebody's lock.
#
# ESIM_SYNC_SIZE says how many profiles the large account has.
use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time sleep);
use EsimTest;
use EsimTwilio;

my $db = 'postgres';
my $simulator = start_simulator();
my $node = new_node('sync', preload => 1, settings => ['esim.poll_interval = 500ms']);
my $size = ($ENV{ESIM_SYNC_SIZE} // 2000) + 0;

create_database($node, $db);

sub server
{
	my ($name, %how) = @_;
	my $tenant = delete $how{tenant} // $name;
	my %options = %{ delete $how{options} // {} };

	account($node, $db, $simulator, $name, reserve_ms => 200, %how, tenant => $tenant, options => \%options);
	return $name;
}

sub call { return value($node, $db, "SELECT $_[0]"); }

sub ends
{
	my ($id, $expect, $name, $seconds) = @_;

	return ok(wait_until($node, $db, "SELECT result || coalesce(' ' || error_code, '') FROM esim_operation WHERE id = '$id' AND status = 'COMPLETED'", $expect, $seconds), $name)
	  || diag(attempts_of($node, $db, $id));
}

sub synced { my ($server, $name, $seconds) = @_; return ends(call("esim_sync('$server')"), 'SUCCESS', $name, $seconds); }

sub numbers { return join '|', map { value($node, $db, "SELECT count(*) FROM $_") } @_; }

# ---- repeatable, and less news than is known changes nothing ----

server('known');
$simulator->post('/supersim/account', { server => 'known', profiles => 8, fleets => ['Old'],
	sims => [ { iccid => iccid(900), status => 'active', fleet => 'Old' } ] });
synced('known', 'an account is adopted');
is(value($node, $db, q(SELECT count(*), count(DISTINCT rsp_id), count(DISTINCT iccid), count(sim_id), count(smdp_address), count(esim_activation_code(profile => id)), min(subscription_server), min(redownload) FROM esim_profile WHERE server = 'known')),
	'8|8|8|8|8|8|known|NEVER', 'profiles with Sim, address and activation code');
is(value($node, $db, "SELECT state, subscription_status, fleet, eid IS NULL, server IS NULL FROM esim_profile WHERE iccid = '@{[iccid(900)]}'"),
	'INSTALLED|ACTIVE|Old|t|t', 'a physical SIM has an ICCID and no device');
my @rows = map { $_->[0] } rows($node, $db, q(SELECT id FROM esim_profile WHERE server = 'known' ORDER BY iccid));
my $eid = eid(1);
$node->safe_psql($db, qq(
	INSERT INTO esim_device (eid, server) VALUES ('$eid', 'known');
	UPDATE esim_profile SET state = 'DELETED' WHERE id = '$rows[0]';
	UPDATE esim_profile SET state = 'ENABLED', eid = '$eid' WHERE id = '$rows[1]';
	UPDATE esim_profile SET state = 'INSTALLED', eid = '$eid' WHERE id = '$rows[2]';
	UPDATE esim_profile SET state = 'RESERVING' WHERE id = '$rows[3]';));
my $stamps = q(SELECT string_agg(xmin::text || state_at::text, ',' ORDER BY id) FROM esim_profile WHERE iccid IS NOT NULL);
my $stamp;
foreach my $time (1, 2, 3)
{
	synced('known', "sync, time $time");
	is(value($node, $db, q(SELECT string_agg(state::text, ',' ORDER BY iccid) FROM esim_profile WHERE server = 'known')),
		'DELETED,ENABLED,INSTALLED,RELEASED,RELEASED,RELEASED,RELEASED,RELEASED', "time $time: what is known better stays");
	is(value($node, $db, $stamps), $stamp, "time $time: no row is written for nothing") if defined $stamp;
	$stamp = value($node, $db, $stamps);
}
is(value($node, $db, q(SELECT string_agg(what || ' ' || ours || ' ' || reported, ', ' ORDER BY ours) FROM esim_drift WHERE resolved_at IS NULL)),
	'state DELETED RELEASED, state ENABLED RELEASED, state INSTALLED RELEASED', 'what contradicts is kept as drift, once');
is(value($node, $db, "SELECT old_state, new_state, cause FROM esim_profile_event WHERE profile = '$rows[3]'"), 'RESERVING|RELEASED|UNKNOWN', 'and what is news as an event');
# the device fetches it by its code; nobody has told us
my $code = value($node, $db, "SELECT esim_activation_code(profile => '$rows[4]')");
$simulator->post('/supersim/download', { eid => $eid, code => $code });
synced('known', 'sync after a download');
is(value($node, $db, "SELECT p.state, e.cause FROM esim_profile p JOIN esim_profile_event e ON e.profile = p.id WHERE p.id = '$rows[4]'"), 'INSTALLED|LOCAL', 'the download is seen');
is(numbers('esim_profile', 'esim_fleet'), '9|1', 'no row twice');
# what contradicts no more is resolved; what another server said of the eUICC is not
$node->safe_psql($db, "INSERT INTO esim_drift (profile, what, ours, reported) VALUES ('$rows[2]', 'state', 'DISABLED', 'ENABLED')");
$simulator->post('/supersim/download', { eid => $eid, code => value($node, $db, "SELECT esim_activation_code(profile => '$rows[2]')") });
synced('known', 'sync after another download');
is(value($node, $db, "SELECT string_agg(reported, ',') FILTER (WHERE resolved_at IS NULL), string_agg(reported, ',') FILTER (WHERE resolved_at IS NOT NULL) FROM esim_drift WHERE profile = '$rows[2]'"),
	'ENABLED|RELEASED', 'drift is resolved by who has told it');

# ---- entries that do not fit: the page is not lost ----

server('odd', lies => [ { method => 'GET', path => 'ESimProfiles', resource => { iccid => iccid(800), eid => undef }, count => 0 } ]);
$simulator->post('/supersim/account', { server => 'odd', profiles => 5 });
synced('odd', 'one ICCID for all profiles');
is(value($node, $db, q(SELECT count(*), count(*) FILTER (WHERE drift) FROM esim_profile WHERE server = 'odd')), '5|4', 'all are there, but one with drift');
is(value($node, $db, q(SELECT count(*) FROM esim_drift d JOIN esim_profile p ON p.id = d.profile WHERE p.server = 'odd' AND what = 'ICCID of another profile' AND d.reported NOT LIKE '89%')), '4', 'which says why, without the ICCID');
synced('odd', 'and again');
is(value($node, $db, q(SELECT count(*) FROM esim_profile WHERE server = 'odd')), '5', 'no row twice');

server('masked', lies => [ { method => 'GET', path => 'ESimProfiles', count => 0, resource => { iccid => '8988307aaaaaaaaaaaaa', eid => '89049032005008882600033489aaaaaa' } },
	{ method => 'GET', path => 'Sims', count => 0, resource => { iccid => '8988307aaaaaaaaaaaaa', status => 'active' } } ]);
$simulator->post('/supersim/account', { server => 'masked', profiles => 3 });
synced('masked', 'masked identifiers, as in the examples of the OpenAPI');
is(value($node, $db, q(SELECT count(*), count(iccid), count(sim_id), min(subscription_status) FROM esim_profile WHERE server = 'masked')), '3|0|3|ACTIVE', 'Sims find their profiles by their SIDs');

# ---- somebody holds a lock: the page waits, nothing of it is lost ----

server('locked');
$simulator->post('/supersim/account', { server => 'locked', profiles => 4, fleets => [ 'One', 'Two' ] });
synced('locked', 'before the lock');
$node->safe_psql($db, q(UPDATE esim_profile SET subscription_status = NULL, sim_id = NULL, state = 'RESERVING' WHERE server = 'locked'));
my $pid = fork() // die "fork: $!";
if ($pid == 0)
{
	# a user who has begun something and gone for lunch
	exec 'psql', '-X', '-q', '-d', $node->connstr($db), '-c',
	  q(BEGIN; UPDATE esim_profile SET msisdn = '+1' WHERE id = (SELECT id FROM esim_profile WHERE server = 'locked' ORDER BY iccid LIMIT 1); SELECT pg_sleep(6); COMMIT)
	  or die $!;
}
ok(wait_until($node, $db, q(SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(6)%' AND wait_event = 'PgSleep'), '1'), 'a lock is held');
my $id = call("esim_sync('locked')");
ok(wait_until($node, $db, q(SELECT count(*) > 0 FROM esim_deferred), 't'), 'the page is recorded');
waitpid $pid, 0;
ends($id, 'SUCCESS', 'and applied when the lock is gone');
is(value($node, $db, q(SELECT count(*), count(sim_id), min(state), min(subscription_status) FROM esim_profile WHERE server = 'locked')), '4|4|RELEASED|NEW', 'with everything that it said');
is(value($node, $db, q(SELECT count(*) FROM esim_deferred)), '0', 'nothing is left over');

# the outcome of a request that acts meets a lock: what was answered counts, it is not sent again
server('held', reserve_ms => 2500, options => { event_url => 'http://127.0.0.1:9/callback' });
$id = call(q(esim_reserve(generate_matching_id => true, server => 'held')));
$pid = fork() // die "fork: $!";
if ($pid == 0)
{
	exec 'psql', '-X', '-q', '-d', $node->connstr($db), '-c',
	  q(BEGIN; SELECT 1 FROM esim_profile WHERE server = 'held' FOR UPDATE; SELECT pg_sleep(5); COMMIT)
	  or die $!;
}
ok(wait_until($node, $db, q(SELECT count(*) > 0 FROM esim_deferred), 't'), 'an outcome of a reservation is recorded');
waitpid $pid, 0;
ends($id, 'SUCCESS', 'and applied');
is(value($node, $db, "SELECT p.state, p.rsp_id = o.rsp_operation_id, p.sim_id IS NOT NULL, p.activation_code IS NOT NULL FROM esim_profile p JOIN esim_operation o ON o.profile = p.id WHERE o.id = '$id'"), 'RELEASED|t|t|t', 'with all that was learned');
is(scalar @{ api($simulator, 'held', 'GET', 'ESimProfiles')->{esim_profiles} }, 1, 'one profile was made');
is(value($node, $db, "SELECT count(*) = max(a.number), max(a.number) = max(o.attempts), count(*) FILTER (WHERE a.outcome IS NULL) FROM esim_attempt a JOIN esim_operation o ON o.id = a.operation WHERE o.id = '$id'"), 't|t|0', 'every request has its row and its outcome');

# ---- an answer that was lost, and a sync in between: one profile, and it is the reservation's ----

foreach my $how (
	[ 'matching ID', sub { q(esim_reserve(generate_matching_id => true, server => 'race')) } ],
	[ 'EID', sub { value($node, $db, "INSERT INTO esim_device (eid, server) VALUES ('$_[0]', 'race') RETURNING ''"); "esim_reserve('$_[0]', server => 'race')" } ],
	[ 'download', sub { value($node, $db, "INSERT INTO esim_device (eid, server) VALUES ('$_[0]', 'race') RETURNING ''"); "esim_download('$_[0]', server => 'race')" } ])
{
	my ($what, $make) = @$how;
	my $tenant = 'race_' . lc($what =~ s/ //gr);
	my $device = eid(10 + length $what);

	server('race', tenant => $tenant, install_ms => 1, options => { event_url => 'http://127.0.0.1:9/callback' });
	$simulator->post('/supersim/account', { server => $tenant, profiles => 3 });
	synced('race', "$what: what the account has");
	$simulator->fault({ server => $tenant, method => 'POST', path => 'ESimProfiles', fault => 'timeout_after_effect', count => 1 });
	$id = call($make->($device));
	ok(wait_until($node, $db, qq(SELECT count(*) FROM esim_operation WHERE id = '$id' AND phase IN ('SENT', 'UNKNOWN')), '1'), "$what: sent");
	synced('race', "$what: sync while it is under way");
	ends(call("esim_refresh('$device')"), 'SUCCESS', "$what: and a refresh") if $what eq 'EID';
	ends($id, 'SUCCESS', "$what: the reservation finds its profile");
	is(value($node, $db, "SELECT count(*), count(*) FILTER (WHERE p.id = o.profile AND p.rsp_id = o.rsp_operation_id AND p.sim_id IS NOT NULL AND p.iccid IS NOT NULL) FROM esim_profile p, esim_operation o WHERE o.id = '$id' AND p.rsp_id = o.rsp_operation_id"), '1|1', "$what: in its own row, once");
	synced('race', "$what: sync afterwards");
	is(scalar @{ api($simulator, $tenant, 'GET', 'ESimProfiles')->{esim_profiles} }, 4, "$what: one profile was made");
	is(value($node, $db, q(SELECT count(*), count(DISTINCT rsp_id) FROM esim_profile WHERE server = 'race')), '4|4', "$what: the others are adopted as well");
	is(value($node, $db, q(SELECT count(*) FROM esim_drift d JOIN esim_profile p ON p.id = d.profile WHERE p.server = 'race')), '0', "$what: without drift");
	$node->safe_psql($db, q(DELETE FROM esim_profile WHERE server = 'race'; DROP SERVER race CASCADE));
}

# ---- two owners, one account ----

server('shared');
$node->safe_psql($db, q(CREATE ROLE acme; SELECT esim_grant('acme', 'reserve', 'subscription', 'retrieve-status'); GRANT USAGE ON FOREIGN SERVER shared TO acme));
$id = value($node, $db, q(SET ROLE acme; SELECT esim.esim_reserve(generate_matching_id => true, server => 'shared')));
ends($id, 'SUCCESS', 'a tenant reserves');
synced('shared', 'somebody else reads the account');
is(value($node, $db, q(SELECT count(*), min(owner::text) FROM esim_profile WHERE server = 'shared')), '1|acme', 'what is the tenant\'s is not taken over, nor doubled');

# ---- pages ----

my %page = (
	refused => [ { method => 'GET', path => 'ESimProfiles', after => 1, status => 500, body => '' }, 'SUCCESS' ],
	forbidden => [ { method => 'GET', path => 'ESimProfiles', after => 1, status => 403, body => '{"code": 20403, "status": 403}' }, 'SUCCESS' ],
	'refused for ever' => [ { method => 'GET', path => 'ESimProfiles', after => 1, status => 404, body => '{"code": 20404, "status": 404}', count => 0 }, 'FAILED IDENTIFIER_NOT_FOUND' ],
	'on another host' => [ { method => 'GET', path => 'ESimProfiles', meta => { next_page_url => 'https://evil.example.com/v1/ESimProfiles?Page=1' }, count => 0 }, 'FAILED INTERNAL' ],
	'of another resource' => [ { method => 'GET', path => 'ESimProfiles', meta => { next_page_url => '@/Sims?Page=1' }, count => 0 }, 'FAILED INTERNAL' ],
	'with a user in its URL' => [ { method => 'GET', path => 'ESimProfiles', meta => { next_page_url => '@user' }, count => 0 }, 'FAILED INTERNAL' ],
	'in a circle' => [ { method => 'GET', path => 'ESimProfiles', after => 1, meta => { next_page_url => '@/ESimProfiles?PageSize=1000' }, count => 0 }, 'FAILED INTERNAL' ],
	'that is itself' => [ { method => 'GET', path => 'ESimProfiles', meta => { next_page_url => '@/ESimProfiles?PageSize=1000' }, count => 0 }, 'FAILED INTERNAL' ],
	'no URL' => [ { method => 'GET', path => 'ESimProfiles', meta => { next_page_url => 5 } }, 'SUCCESS' ],
	'without meta' => [ { method => 'GET', path => 'Fleets', answer => { meta => undef } }, 'SUCCESS' ],
	'with 1001 entries' => [ { method => 'GET', path => 'ESimProfiles', answer => { esim_profiles => [ (undef) x 1001 ] } }, 'SUCCESS' ]);
my %sync;
foreach my $name (sort keys %page)
{
	my ($rule, undef) = @{ $page{$name} };
	my $tenant = 'page_' . ($name =~ s/ /_/gr);
	my $url = "$simulator->{url}/$tenant/supersim/v1";

	if ($rule->{meta})
	{
		$rule->{meta}{next_page_url} =~ s{^\@user$}{$url/ESimProfiles?Page=1} and $rule->{meta}{next_page_url} =~ s{://}{://a\@};
		$rule->{meta}{next_page_url} =~ s{^\@}{$url} if !ref $rule->{meta}{next_page_url};
		$rule->{meta}{next_page_url} = 5 if $name eq 'no URL';
	}
	server($tenant, page_size => 2, lies => [$rule]);
	$simulator->post('/supersim/account', { server => $tenant, profiles => 5 });
	$sync{$name} = call("esim_sync('$tenant')");
}
foreach my $name (sort keys %page)
{
	my $tenant = 'page_' . ($name =~ s/ /_/gr);

	ends($sync{$name}, $page{$name}[1], "a page $name: $page{$name}[1]", 90);
	is(value($node, $db, "SELECT count(*) FROM esim_profile WHERE server = '$tenant'"), '5', "a page $name: all is read in the end") if $page{$name}[1] eq 'SUCCESS';
	isnt(value($node, $db, "SELECT error_message FROM esim_operation WHERE id = '$sync{$name}'"), '', "a page $name: a reason") if $page{$name}[1] ne 'SUCCESS';
}
# too large for the memory that an answer may take: smaller pages
server('large', lies => [ { method => 'GET', path => 'ESimProfiles', resource => { padding => 'x' x 60000 }, count => 0 } ]);
$simulator->post('/supersim/account', { server => 'large', profiles => 60 });
my $large = call(q(esim_sync('large')));
ends($large, 'SUCCESS', 'pages that are too large are asked for smaller', 120);
is(value($node, $db, q(SELECT count(*) FROM esim_profile WHERE server = 'large')), '60', 'and all is read');

# ---- a crash in the middle: it goes on with the page where it was, and adopts nothing twice ----

server('crash', page_size => 20);
$simulator->config('crash', latency_ms => 50);
$simulator->post('/supersim/account', { server => 'crash', profiles => 400 });
$id = call(q(esim_sync('crash')));
ok(wait_until($node, $db, q(SELECT count(*) >= 160 FROM esim_profile WHERE server = 'crash'), 't'), 'some pages are read');
$node->stop('immediate');
$node->start;
ends($id, 'SUCCESS', 'a sync outlives a crash');
is(value($node, $db, q(SELECT count(*), count(DISTINCT iccid), count(DISTINCT rsp_id), count(subscription_status) FROM esim_profile WHERE server = 'crash')),
	'400|400|400|400', 'each is there once');
my $asked = $simulator->requests('crash');
cmp_ok($asked, '<=', 46, "it did not begin anew ($asked requests for 41 pages)");

# ---- what one page says of one profile counts in turn ----

server('repeats', page_size => 100);
$simulator->post('/supersim/account', { server => 'repeats', profiles => 60 });
synced('repeats', 'before');
# rows as an import makes them: one knows the identifier, another one the ICCID
$node->safe_psql($db, q(
	CREATE TABLE odd AS SELECT id, iccid, rsp_id, row_number() OVER (ORDER BY rsp_id) AS n FROM esim_profile WHERE server = 'repeats';
	UPDATE esim_profile p SET iccid = NULL, sim_id = NULL FROM odd o WHERE p.id = o.id AND o.n % 3 <> 2;
	UPDATE esim_profile p SET rsp_id = NULL, sim_id = NULL FROM odd o WHERE p.id = o.id AND o.n % 3 = 2;
	UPDATE esim_profile p SET iccid = x.iccid FROM odd o, odd x WHERE p.id = o.id AND o.n % 3 = 1 AND x.n = o.n + 2 AND x.n % 3 = 0;));
synced('repeats', 'rows that two entries of one page are about');
my $rows = q(SELECT count(*), count(DISTINCT rsp_id), count(sim_id) FROM esim_profile WHERE server = 'repeats');
is(value($node, $db, $rows), '60|60|60', 'no row is doubled');
my $before_again = value($node, $db, q(SELECT string_agg(xmin::text || state, ',' ORDER BY id) FROM esim_profile WHERE server = 'repeats'));
synced('repeats', 'and again');
is(value($node, $db, q(SELECT string_agg(xmin::text || state, ',' ORDER BY id) FROM esim_profile WHERE server = 'repeats')), $before_again, 'which changes nothing');

# ---- size ----

server('size');
$simulator->post('/supersim/account', { server => 'size', profiles => $size });
my ($worker) = worker_pids($node, $db);
sub memory { open my $file, '<', "/proc/$worker/status" or return 0; my ($kb) = map { /^RssAnon:\s+(\d+)/ ? $1 : () } <$file>; return $kb // 0; }
my $before = memory();
my $begin = time();
$id = call("esim_sync('size')");
# operations go on meanwhile, on rows that the pages have as well
my @busy = map { $_->[0] } rows($node, $db, q(SELECT id FROM esim_profile WHERE server = 'known' AND state = 'RELEASED' LIMIT 3));
my $change = call("esim_assign_fleet(fleet => 'Old', profile => '$busy[0]')");
ends($change, 'SUCCESS', 'another operation is not held up');
my $peak = 0;
while (value($node, $db, "SELECT status FROM esim_operation WHERE id = '$id'") eq 'ACCEPTED' && time() < $begin + 540)
{
	my $now = memory();
	$peak = $now if $now > $peak;
	sleep 0.2;
}
my $seconds = time() - $begin;
ends($id, 'SUCCESS', "$size profiles");
is(value($node, $db, q(SELECT count(*), count(iccid), count(subscription_status) FROM esim_profile WHERE server = 'size')), "$size|$size|$size", 'all of them');
note(sprintf('%d profiles and Sims in %.1f s (%.0f entries a second), worker %d kB before, %d kB at most', $size, $seconds, 2 * $size / $seconds, $before, $peak));
cmp_ok($peak - $before, '<', 65536, 'in bounded memory');
$begin = time();
synced('size', 'once more', 500);
note(sprintf('once more in %.1f s', time() - $begin));
is(value($node, $db, q(SELECT count(*) FROM esim_profile WHERE server = 'size')), $size, 'nothing new');

ledger_is_exact($simulator, 'ledger');
ok(!$node->log_contains(qr/PANIC|was terminated by signal/), 'no crash');
ok(!$node->log_contains(qr/could not be applied|duplicate key/), 'nothing that could not be applied');
$node->stop;
done_testing();
