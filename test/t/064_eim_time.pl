# test/t/064_eim_time.pl
# The eIM and time: devices that come late, after days or never, operations that are cancelled
# meanwhile, an eIM that is restarted, and others who hand in orders at the same eIM. Hours go by at once at the simulator; the worker's own
# waits are cut short.
use strict;
use warnings;

use HTTP::Tiny;
use JSON::PP;
use Test::More;
use Time::HiRes qw(sleep time);

use EimCases;
use EsimTest;

my $db = 'postgres';
my $other_db = 'other';
my $simulator = start_simulator();
my $node = new_node('eim_time', preload => 1, settings => ['esim.poll_interval = 500ms']);
my $true = JSON::PP::true;
my $away = JSON::PP::false;
my $http = HTTP::Tiny->new(timeout => 20, max_redirect => 0);

sub phases { my ($phase, @of) = @_; return value($node, $db, "SELECT count(*) FROM esim_operation WHERE phase = '$phase' AND id IN (" . join(', ', map { "'$_->{id}'" } @of) . ')'); }
sub wait_phase { my ($phase, @of) = @_; return ok(EimCases::hurry($node, $db, sub { phases($phase, @of) == @of }, @of), "$phase: " . join(', ', map { $_->{name} } @of)) || diag(query($node, $db, 'SELECT phase, phase_reason, count(*) FROM esim_operation GROUP BY 1, 2')); }
sub advance { my ($seconds) = @_; $simulator->post('/clock', { advance_ms => 1000 * $seconds }); return; }
sub creates { my ($case) = @_; return value($node, $db, "SELECT count(*) FROM esim_attempt WHERE operation = '$case->{id}' AND url LIKE '%/create'"); }
sub online { $simulator->post('/euicc', [ map { { eid => $_->{eid}, online => $true } } @_ ]); return; }
sub eim_of { my ($case) = @_; return $simulator->get('/eim')->{ $case->{tenant} }; }

# Somebody else hands in an order; gives its identifier.
sub somebody_enables
{
	my ($case) = @_;
	my $answer = $http->post("$simulator->{url}/$case->{tenant}/eim/psmo/create", { headers => { 'Content-Type' => 'application/json' },
		content => qq({"eidValue":"$case->{eid}","order":{"psmo":[{"enable":{"iccid":"$case->{card}","rollback":true}}]}}) });

	return $answer->{headers}{location} =~ s{.*/}{}r;
}

my @kinds = ('download', 'download and enable', 'enable', 'disable', 'delete', 'delete of an enabled one', 'set-fallback', 'unset-fallback', 'refresh');
my $offline = { online => $away, hurry => 1, eim => { v12 => $true } };

add_case(name => "$_, the device is late", kind => $_, group => 'late', share => 'late', %$offline) foreach @kinds;
add_case(name => "$_, the device comes after days", kind => $_, group => 'days', share => 'days', %$offline) foreach @kinds;
# expires_at is the operation's, in real time: long enough to be handed in, the device is away anyway
foreach my $kind ('enable', 'delete', 'download')
{
	add_case(name => "$kind, the device never comes", kind => $kind, group => 'never', expect => 'FAILED', code => 'EXPIRED', %$offline,
		call => { enable => sub { "esim_enable('$_[1]', expires_at => now() + interval '16 s')" }, delete => sub { "esim_delete('$_[1]', expires_at => now() + interval '16 s')" },
			download => sub { "esim_download('$_[0]', '$_[1]', expires_at => now() + interval '16 s')" } }->{$kind},
		state => $kind eq 'download' ? 'RELEASED' : 'DISABLED');
}
add_case(name => "$_, the eIM is restarted while the device is at it", kind => $_, group => 'restart', share => 'restart', hurry => 1, eim => { work_ms => 30000 })
  foreach 'enable', 'disable', 'delete', 'download';
add_case(name => 'enable, the eIM is restarted before the device comes', kind => 'enable', group => 'restart new', share => 'restart-new', %$offline);
add_case(name => "$_, the device does not tell", kind => $_, group => 'silent', share => 'silent', hurry => 1, eim => { v12 => $true },
	rules => [ { path => '/create', fault => 'device_unreported', count => 1 } ]) foreach @kinds[0 .. 6];
add_case(name => 'refresh, the device does not tell', kind => 'refresh', group => 'silent', share => 'silent', hurry => 1,
	rules => [ { path => '/create', fault => 'device_unreported', count => 1 } ]);
# cancelled while their devices are away; of some the devices come before the eIM has given up
add_case(name => "$_, cancelled while the device is away", kind => $_, group => 'cancelled', share => 'cancelled', expect => 'CANCELLED', %$offline,
	effects => [], /^download/ ? (state => 'RELEASED') : (state => $shape{$_}[0])) foreach @kinds;
add_case(name => "$_, cancelled too late", kind => $_, group => 'too late', share => 'too-late', %$offline) foreach @kinds;
# many orders that are known lie at the eIM while one is lost
add_case(name => "enable, one of many ($_)", kind => 'enable', group => 'many', share => 'many', %$offline) foreach 1 .. 40;
add_case(name => 'enable, lost among many', kind => 'enable', group => 'lost', share => 'many', hurry => 1, later => 1,
	rules => [ { path => '/create', fault => 'reset_after_effect', count => 1 } ]);
add_case(name => "enable, somebody else's order of the same content is $_", kind => 'enable', group => $_, %$offline,
	rules => [ { path => '/create', fault => 'timeout_before_effect', after => $_ eq 'older' ? 1 : 0, count => 1 } ]) foreach 'older', 'younger';
# two databases at one eIM
add_case(name => 'enable, lost among the orders of another database', kind => 'enable', group => 'shared', share => 'shared', hurry => 1,
	rules => [ { path => '/create', fault => 'reset_after_effect', count => 1 } ]);

create_database($node, $db);
create_database($node, $other_db);
create_server($node, $other_db, $simulator, 'shared', protocol => 'eim', url => "$simulator->{url}/shared/eim");
my @others = (900 .. 909);
$simulator->post('/euicc', [ map { { eid => eid($_), online => $away, profiles => [ { iccid => iccid(4 * $_), state => 'DISABLED' }, { iccid => iccid(4 * $_ + 1), state => 'ENABLED' } ] } } @others ]);
$node->safe_psql($other_db, join("\n", map { "INSERT INTO esim_device (eid, server) VALUES ('@{[eid($_)]}', 'shared');
	INSERT INTO esim_profile (iccid, eid, state) VALUES ('@{[iccid(4 * $_)]}', '@{[eid($_)]}', 'DISABLED'), ('@{[iccid(4 * $_ + 1)]}', '@{[eid($_)]}', 'ENABLED');" } @others)
	. join("\n", map { "SELECT esim_enable('@{[iccid(4 * $_)]}');" } @others));
ok(wait_until($node, $other_db, q(SELECT count(*) FROM esim_operation WHERE phase = 'WAITING_DEVICE'), scalar @others), 'the other database has orders there');

my %group;
my %elsewhere;
my $behind;
my @run = run_cases($node, $db, $simulator,
	before => sub {
		my @all = @_;

		# seconds before ours, so that it is known to be older
		($elsewhere{older}) = map { somebody_enables($_) } grep { $_->{group} eq 'older' } @all;
		sleep 6.5;
	},
	hurry_all => 1,
	during => sub {
		my @all = @_;
		my ($younger) = grep { $_->{group} eq 'younger' } @all;

		push @{ $group{ $_->{group} } }, $_ foreach @all;
		# ours is under way and will never arrive
		ok(EimCases::hurry($node, $db, sub { ($simulator->stats($younger->{tenant})->{requests} // 0) > 0 }), 'it is sent');
		$elsewhere{younger} = somebody_enables($younger);

		# restarted; the devices go on nevertheless
		ok(EimCases::hurry($node, $db, sub { eim_of($group{restart}[0])->{work} == @{ $group{restart} } }), 'the devices are at it');
		$simulator->post('/eim/restart');

		# one of many: what is known is not looked up
		wait_phase('WAITING_DEVICE', map { @{ $group{$_} } } 'late', 'days', 'restart new', 'many', 'older', 'younger', 'cancelled', 'too late');
		my $cancel = join("\n", map { "SELECT esim_cancel('$_->{id}');" } @{ $group{cancelled} }, @{ $group{'too late'} });
		is(query($node, $db, "$cancel\n$cancel") =~ tr/t//, 2 * 2 * @kinds, 'cancelled: asked, again and again');
		$behind = value($node, $db, "SELECT esim_refresh('$group{cancelled}[0]{eid}')");
		EimCases::enqueue($node, $db, @{ $group{lost} });
		wait_phase('DONE', map { @{ $group{$_} } } 'lost', 'shared');
		is(value($node, $db, "SELECT count(*) FROM esim_attempt WHERE outcome = 'another' AND operation = '$group{lost}[0]{id}'"), '0',
			'orders of operations that wait are not looked up to find a lost one');
		is(value($node, $db, "SELECT rsp_operation_id FROM esim_operation WHERE id = '$group{younger}[0]{id}'"), $elsewhere{younger}, 'the younger one is gone on with');
		isnt(value($node, $db, "SELECT rsp_operation_id FROM esim_operation WHERE id = '$group{older}[0]{id}'"), $elsewhere{older}, 'the older one is not ours');

		advance(30);
		online(@{ $group{'restart new'} }, @{ $group{older} }, @{ $group{younger} }, @{ $group{many} });
		wait_phase('DONE', map { @{ $group{$_} } } 'restart', 'restart new', 'older', 'younger', 'many');
		is(value($node, $db, "SELECT count(*) FROM esim_attempt WHERE url LIKE '%/delete/$elsewhere{older}'"), '0', "the older one is not taken away");

		# the lane is not freed before it is known; the device may be quicker
		wait_phase('WAITING_DEVICE', @{ $group{cancelled} });
		is(phases('BLOCKED', { id => $behind }), '1', 'cancelled: what is behind waits');
		online(@{ $group{'too late'} });
		wait_phase('DONE', @{ $group{'too late'} });

		# expired: the order is taken away, and is not carried out when the device comes after all
		wait_phase('DONE', @{ $group{never} });
		ok(EimCases::hurry($node, $db, sub { !grep { eim_of($_)->{revoked} < 1 } @{ $group{never} } }), 'expired: taken away at the eIM');
		online(@{ $group{never} });

		# half an hour and again: late
		foreach my $time (2 .. 4)
		{
			advance(1820);
			ok(EimCases::hurry($node, $db, sub { !grep { creates($_) < $time } @{ $group{late} } }, @{ $group{late} }, @{ $group{days} }), 'handed in again after noshow');
		}
		wait_phase('DONE', @{ $group{cancelled} });
		is(join(' ', grep { $_ != 1 } map { creates($_) } @{ $group{cancelled} }), '', 'cancelled: not handed in again after noshow');
		online(@{ $group{cancelled} });
		ok(EimCases::hurry($node, $db, sub { phases('DONE', { id => $behind }) }, { id => $behind, hurry => 1 }), 'what is behind is carried out');
		online(@{ $group{late} });
		wait_phase('DONE', @{ $group{late} }, @{ $group{silent} });

		# days, in which the eIM forgets
		wait_phase('WAITING_DEVICE', @{ $group{days} });
		advance(3 * 86400);
		EimCases::hurry($node, $db, sub { !grep { creates($_) < 5 } @{ $group{days} } }, @{ $group{days} });
		online(@{ $group{days} });
	});
note(scalar(@run) . ' cases');

# the other database's
$simulator->post('/euicc', [ map { { eid => eid($_), online => $true } } @others ]);
ok(EimCases::hurry($node, $other_db, sub { value($node, $other_db, q(SELECT count(*) FROM esim_operation WHERE status = 'ACCEPTED')) eq '0' },
	map { { id => $_->[0], hurry => 1 } } rows($node, $other_db, 'SELECT id FROM esim_operation')), 'the orders of the other database');
is(value($node, $other_db, q(SELECT count(*) FROM esim_operation WHERE result = 'SUCCESS')), scalar @others, 'all were carried out');

ledger_is_exact($simulator, 'ledger');
my $eim = $simulator->get('/eim');

# a fleet whose devices are away, at an eIM that may be asked little: who only looks does not keep
# new orders out
my $crowd = 400;
create_server($node, $db, $simulator, 'crowd', protocol => 'eim', url => "$simulator->{url}/crowd/eim");
$simulator->post('/euicc', [ map { { eid => eid($_), online => $away, profiles => [ { iccid => iccid(4 * $_), state => 'DISABLED' } ] } } 1000 .. 1000 + $crowd ]);
$simulator->post('/euicc', { eid => eid(1000 + $crowd), online => $true });
$node->safe_psql($db, join("\n", map { "INSERT INTO esim_device (eid, server) VALUES ('@{[eid($_)]}', 'crowd'); INSERT INTO esim_profile (iccid, eid, state) VALUES ('@{[iccid(4 * $_)]}', '@{[eid($_)]}', 'DISABLED');" } 1000 .. 1000 + $crowd)
	. join("\n", map { "SELECT esim_enable('@{[iccid(4 * $_)]}');" } 1000 .. 999 + $crowd));
ok(wait_until($node, $db, q(SELECT count(*) FROM esim_operation WHERE server = 'crowd' AND phase = 'WAITING_DEVICE'), $crowd), 'a crowd waits');
alter_server($node, $db, 'crowd', rate_limit => 20);
$node->safe_psql($db, q(UPDATE esim_pending SET next_at = now() WHERE server = 'crowd' AND state = 'W' AND NOT claimed));
my $since = value($node, $db, 'SELECT clock_timestamp()');
my $one = value($node, $db, "SELECT esim_enable('@{[iccid(4 * (1000 + $crowd))]}')");
ok(wait_until($node, $db, "SELECT result FROM esim_operation WHERE id = '$one'", 'SUCCESS'), 'a new order is carried out');
my $looked = value($node, $db, qq(SELECT count(*) FROM esim_attempt a JOIN esim_operation o ON o.id = a.operation JOIN esim_operation n ON n.id = '$one'
	WHERE o.server = 'crowd' AND o.id <> n.id AND a.at > '$since' AND a.at < n.completed_at));
cmp_ok($looked, '<', $crowd / 2, 'before all of the crowd are looked up');
# more than 52 orders: the eIM cannot list them, and a lost one is not found; that is nobody else's trouble
my ($lost, $next) = map { { eid => eid($_), iccid => iccid(4 * $_), hurry => 1 } } 1001 + $crowd, 1002 + $crowd;
$simulator->post('/euicc', [ map { { eid => $_->{eid}, online => $true, profiles => [ { iccid => $_->{iccid}, state => 'DISABLED' } ] } } $lost, $next ]);
$simulator->post('/fault', { server => 'crowd', eid => $lost->{eid}, path => '/create', fault => 'reset_after_effect', count => 1 });
alter_server($node, $db, 'crowd', unknown_hold => '2 s');
$node->safe_psql($db, join("\n", map { "INSERT INTO esim_device (eid, server) VALUES ('$_->{eid}', 'crowd'); INSERT INTO esim_profile (iccid, eid, state) VALUES ('$_->{iccid}', '$_->{eid}', 'DISABLED');" } $lost, $next));
$lost->{id} = value($node, $db, "SELECT esim_enable('$lost->{iccid}')");
ok(EimCases::hurry($node, $db, sub { value($node, $db, "SELECT count(*) FROM esim_attempt WHERE operation = '$lost->{id}' AND url LIKE '%/list' AND http_status = 500") >= 6 }, $lost), 'no list');
$next->{id} = value($node, $db, "SELECT esim_enable('$next->{iccid}')");
ok(wait_until($node, $db, "SELECT result FROM esim_operation WHERE id = '$next->{id}'", 'SUCCESS'), 'others go on');
ok(EimCases::hurry($node, $db, sub { value($node, $db, "SELECT result FROM esim_operation WHERE id = '$lost->{id}'") eq 'SUCCESS' }, $lost), 'the eUICC says what became of it')
  or diag(query($node, $db, "SELECT phase, phase_reason, error_code FROM esim_operation WHERE id = '$lost->{id}'"));
is(creates($lost), '2', 'by a list of its profiles, not by another order');
ok(wait_until($node, $db, qq(SELECT count(*) > 20 FROM esim_attempt a JOIN esim_operation o ON o.id = a.operation WHERE o.server = 'crowd' AND a.at > '$since'), 't'),
	'they are looked up as well');
is(join(', ', map { $_->{name} } grep { $_->{group} !~ /older/ && $eim->{ $_->{tenant} }{overlaps} } @run), '', 'never two open orders of one eUICC, but for the one of somebody else');
is($eim->{late}{new} + $eim->{days}{new}, 0, 'no order is left behind');
ok(!$node->log_contains(qr/PANIC|was terminated by signal/), 'no crash');
$node->stop;
done_testing();
