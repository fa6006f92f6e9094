# test/t/065_twilio_hostile.pl
# Super SIM gone bad, end to end: answers that are broken, too large, of the wrong shape, about
# something else, or that nobody has ever documented.  The worker lives, the operation ends in a
# state that is true, its row says why, and nothing is done twice.
use strict;
use warnings;

use JSON::PP;
use Test::More;
use Time::HiRes qw(sleep);
use EsimTest;
use EsimTwilio;

my $db = 'postgres';
my $simulator = start_simulator();
my $node = new_node('hostile', preload => 1, settings => ['esim.poll_interval = 500ms']);
my $true = JSON::PP::true;
my $null = undef;
my ($hp, $hs, $hf, $ac) = map { $_ . 'f' x 32 } qw(HP HS HF AC);

create_database($node, $db);

my $html = '<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body><h1>It works!</h1></body></html>';
my @all = qw(account_sid iccid sim_sid eid smdp_plus_address matching_id activation_code error_code error_message date_created date_updated url);

# what one answer is changed to; at each of the places below
my %once = (
	(map { $_ => { fault => $_ } } qw(malformed_json truncated_json empty_body wrong_types duplicate_keys invalid_utf8 nul_bytes wrong_content_type
		oversized_json deep_json endless_body truncated_body slow_drip redirect)),
	'a storm of 1xx' => { hints => 2000 },
	'an HTML page as 200' => { body => $html, content_type => 'text/html' },
	'an HTML page as 502' => { body => $html, content_type => 'text/html', status => 502 },
	'an array' => { body => [] },
	'a number' => { body => '5' },
	'an empty object' => { body => {} },
	'another resource' => { body => { sid => $hf, unique_name => 'x' } },
	'an error with status 200' => { body => { code => 20429, message => 'Too many requests', status => 429 } },
	'an error of a string' => { body => { code => 'x' x 1000, message => [ 1 ], status => 'no' }, status => 500 },
	'an error without code' => { body => { message => "\x{1}\x{85}\x{2028}%s%n" }, status => 503 },
	'another sid' => { resource => { sid => $hp } },
	'a sid of letters' => { resource => { sid => 'HP' . 'z' x 32 } },
	'a sid that is too long' => { resource => { sid => 'H' x 5000 } },
	'no sid' => { resource => { sid => $null } },
	'a status that there is not' => { resource => { status => 'quantum' } },
	'a status of nothing' => { resource => { status => $null } },
	'a status of 100 kB' => { resource => { status => 'x' x 100000 } },
	'status 201 for all' => { status => 201 },
	'status 204' => { status => 204, body => '' },
	'status 304' => { status => 304, body => '' },
	'status 599' => { status => 599, body => '' },
	'many members' => { answer => { map { ("member_$_" => $_) } 1 .. 5000 } });

# what all answers about ESimProfiles (or Sims) say: what it ends in, and what the row shows
my @always = (
	[ 'an ICCID of letters, as in the examples', { iccid => '8988307aaaaaaaaaaaaa' }, 'SUCCESS', 'p.state, p.iccid IS NOT NULL, p.sim_id IS NOT NULL', 'RELEASED|t|t' ],
	[ 'an EID of letters, as in the examples', { eid => '89049032005008882600033489aaaaaa' }, 'SUCCESS', 'p.state, p.reserved_eid IS NOT NULL', 'RELEASED|t' ],
	[ 'an address with $', { smdp_plus_address => 'evil.example.com$X$Y' }, 'SUCCESS', 'p.state, p.smdp_address', 'RELEASED|' ],
	[ 'an address with line breaks', { smdp_plus_address => "a\r\nb.example.com" }, 'SUCCESS', 'p.smdp_address', '' ],
	[ 'an address of 5000 bytes', { smdp_plus_address => 'a' x 5000 }, 'RUNNING', 'p.state', 'RESERVING' ],
	[ 'an activation code that does not parse', { activation_code => 'LPA:2$x', matching_id => 'not a code' }, 'SUCCESS', 'p.state, p.activation_code, p.matching_id', 'RELEASED||' ],
	[ 'an activation code of another SM-DP+', { activation_code => 'LPA:1$other.example.com$ABC' }, 'SUCCESS', 'p.state', 'RELEASED' ],
	[ 'an ICCID of another industry', { iccid => '4111111111111111' }, 'SUCCESS', 'p.iccid IS NOT NULL', 't' ],
	[ 'an ICCID of numbers', { iccid => 89883070000 }, 'RUNNING', 'p.state', 'RESERVING' ],
	[ 'a Sim with a sid of a Fleet', { sim_sid => $hf }, 'RUNNING', 'p.state', 'RESERVING' ],
	[ 'a Sim that is not there', { sim_sid => $hs }, 'SUCCESS', 'p.state, o.error_message', 'RELEASED|the server does not show the Sim of the profile' ],
	[ 'dates of nowhere', { date_created => '0000-99-99T99:99:99Z', date_updated => 5 }, 'SUCCESS', 'p.state', 'RELEASED' ],
	[ 'another account', { account_sid => $ac }, 'SUCCESS', 'p.state', 'RELEASED' ],
	[ 'a failure with error texts of any kind', { status => 'failed', error_code => [ 1 ], error_message => { a => 1 } }, 'FAILED SERVICE_NOT_APPLICABLE', 'p.state', 'FAILED' ],
	[ 'a failure with a code of 1 MB', { status => 'failed', error_code => 'x' x 1000000, error_message => "\x{1F4A9}" x 600 }, 'FAILED SERVICE_NOT_APPLICABLE', 'p.state', 'FAILED' ],
	[ 'a failure with a number for a code', { status => 'failed', error_code => 83002, error_message => 'no' }, 'FAILED SERVICE_NOT_APPLICABLE', 'p.state, o.rsp_code', 'FAILED|83002' ],
	[ 'available, and all else null', { status => 'available', map { $_ => $null } @all }, 'SUCCESS', 'p.state, p.iccid, p.sim_id, o.error_message', 'RELEASED|||the server did not tell all of the profile' ],
	[ 'another eUICC', { eid => eid(777777) }, 'FAILED OUTCOME_UNKNOWN', undef, undef ],
	[ 'a status that there is not, for ever', { status => 'quantum' }, 'RUNNING', 'p.state, p.rsp_state', 'RESERVING|quantum' ],
	[ 'new for ever', { status => 'new' }, 'RUNNING', 'p.state, p.rsp_state', 'RESERVING|new' ]);

my @cases;
foreach my $place ([ 'POST', '/ESimProfiles' ], [ 'GET', '/ESimProfiles/' ], [ 'GET', '/Sims/' ])
{
	push @cases, map { { name => "$_ at $place->[0] $place->[1]", call => 'eid', expect => 'SUCCESS', check => 'p.state', is => 'RELEASED', parked => $_ eq 'redirect' && $place->[0] eq 'GET',
		# the sid of a resource that is not there: it is asked for, and what was made is not made again
		$_ eq 'another sid' && $place->[0] eq 'POST' ? (expect => 'RUNNING', is => 'RESERVING') : (),
		exists $once{$_}{fault} ? (rules => [ { method => $place->[0], path => $place->[1], count => 1, %{ $once{$_} } } ])
			: (lies => [ { method => $place->[0], path => $place->[1], %{ $once{$_} } } ]) } } sort keys %once;
}
push @cases, map { { name => "$_ at POST /Sims/", call => 'sim', expect => 'SUCCESS', check => 'p.subscription_status', is => 'INACTIVE',
	exists $once{$_}{fault} ? (rules => [ { method => 'POST', path => '/Sims/', count => 1, %{ $once{$_} } } ])
		: (lies => [ { method => 'POST', path => '/Sims/', %{ $once{$_} } } ]) } } sort keys %once;
push @cases, map { { name => $_->[0], call => 'eid', expect => $_->[2], check => $_->[3], is => $_->[4], lies => [ { path => '/ESimProfiles', count => 0, resource => $_->[1] } ] } } @always;
push @cases, { name => 'the same ESimProfile for two reservations', call => 'eid', expect => 'SUCCESS' },
  { name => 'creations that are never told', call => 'fleet', expect => 'FAILED OUTCOME_UNKNOWN', slow => 1, lies => [ { method => 'POST', path => '/Fleets', count => 0, resource => { unique_name => 'other' } }, { method => 'GET', path => '/Fleets', count => 0, resource => { unique_name => 'other' } } ] },
  { name => 'changes that are never told', call => 'sim', expect => 'SUCCESS', lies => [ { method => 'POST', path => '/Sims/', count => 0, body => $html } ], check => 'p.subscription_status', is => 'INACTIVE' },
  { name => 'a Sim that never changes', call => 'sim', expect => 'FAILED OUTCOME_UNKNOWN', slow => 1, check => 'p.subscription_status', is => 'ACTIVE',
	lies => [ { method => 'POST', path => '/Sims/', count => 0, body => {} }, { method => 'GET', path => '/Sims/', count => 0, resource => { status => 'active' } } ] };

my @statements;
my $n = 0;
foreach my $case (@cases)
{
	$case->{number} = ++$n;
	$case->{server} = "case$n";
	$case->{eid} = eid($n);
	$case->{iccid} = iccid(200000 + $n);
	account($node, $db, $simulator, $case->{server}, $case->{lies} ? (lies => $case->{lies}) : (), sql => \@statements,
		options => { timeout => '3 s', unknown_hold => '1 s', event_url => 'http://127.0.0.1:9/callback' });
	$simulator->fault({ server => $case->{server}, %$_ }) foreach @{ $case->{rules} // [] };
	push @statements, "INSERT INTO esim_device (eid, server) VALUES ('$case->{eid}', '$case->{server}')";
	if ($case->{call} eq 'sim')
	{
		$simulator->post('/supersim/account', { server => $case->{server}, fleets => ['F'], sims => [ { iccid => $case->{iccid}, status => 'active', fleet => 'F' } ] });
		my $sim = api($simulator, $case->{server}, 'GET', "Sims?Iccid=$case->{iccid}")->{sims}[0]{sid};
		push @statements, "INSERT INTO esim_profile (iccid, state, subscription_server, fleet, sim_id, subscription_status) VALUES ('$case->{iccid}', 'INSTALLED', '$case->{server}', 'F', '$sim', 'ACTIVE')";
	}
}
$node->safe_psql($db, join(";\n", @statements));
my @ids = split /\n/, $node->safe_psql($db, join(";\n", map { 'SELECT ' . (
	$_->{call} eq 'sim' ? "esim_set_subscription('$_->{iccid}', 'INACTIVE')"
	: $_->{call} eq 'fleet' ? "esim_fleet_create('G', '{\"NetworkAccessProfile\": \"p\"}', server => '$_->{server}')"
	: "esim_reserve('$_->{eid}', server => '$_->{server}')") } @cases));
$_->{id} = shift @ids foreach @cases;

# a redirect of what reads is parked: somebody looks at it
foreach my $case (grep { $_->{parked} } @cases) { $case->{parked_id} = $case->{id}; }
my $open = join ', ', map { "'$_->{id}'" } grep { $_->{expect} !~ /RUNNING/ } @cases;
my $end = time() + 180;
while (time() < $end && value($node, $db, "SELECT count(*) FROM esim_operation WHERE status = 'ACCEPTED' AND id IN ($open)") ne '0')
{
	$node->safe_psql($db, q(SELECT esim_resume())) if value($node, $db, q(SELECT count(*) FROM esim_operation WHERE phase = 'PARKED')) ne '0';
	$node->safe_psql($db, join(";\n", map { qq(SELECT esim_receive('$_->{server}', '{}', '{"query": "op=$_->{id}"}')) } grep { $_->{slow} } @cases));
	sleep 1;
}

my @rows = rows($node, $db, 'SELECT id, coalesce(result::text, \'RUNNING\'), error_code, coalesce(error_message, phase_reason, \'\') FROM esim_operation WHERE id IN (' . join(', ', map { "'$_->{id}'" } @cases) . ')');
my %row = map { $_->[0] => $_ } @rows;
my $worker = value($node, $db, q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'esim worker'));
foreach my $case (@cases)
{
	my (undef, $result, $code, $why) = @{ $row{ $case->{id} } };
	my $ended = $result . ($code ? " $code" : '');
	my $good = like($ended, qr/^(?:$case->{expect})$/, "$case->{name}: $case->{expect}");

	$good &= isnt($why, '', "$case->{name}: the row says why") if $ended ne 'SUCCESS';
	$good &= is(value($node, $db, "SELECT $case->{check} FROM esim_profile p JOIN esim_operation o ON o.profile = p.id WHERE o.id = '$case->{id}'"), $case->{is}, "$case->{name}: its row") if defined $case->{check};
	diag(attempts_of($node, $db, $case->{id})) if !$good;
}
is($worker, '1', 'the worker runs');
ledger_is_exact($simulator, 'ledger');
is(value($node, $db, q(SELECT count(*) FROM esim_operation WHERE error_code = 'POISONED')), '0', 'nothing is poison');
ok(!$node->log_contains(qr/PANIC|was terminated by signal|could not be applied/), 'no crash, nothing that could not be applied');
cmp_ok(scalar(keys %once) * 4 + scalar(@always), '>', 40, 'more than forty kinds');
$node->stop;
done_testing();
