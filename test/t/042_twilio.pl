# test/t/042_twilio.pl
# Super SIM, end to end: each row of the tables in doc/protocols.md.  Every operation, its answer
# lost after the effect at each request of the sequence; every state of a Sim; what the codes mean;
# what cannot be told apart.
#
# Each case has an account of its own in the simulator, and they all run at the same time.
use strict;
use warnings;

use JSON::PP;
use Test::More;
use Time::HiRes qw(sleep);
use EsimTest;
use EsimFront;
use EsimTwilio;

my $db = 'postgres';
my $simulator = start_simulator();
my $node = new_node('twilio', preload => 1, settings => ['esim.poll_interval = 500ms', 'max_connections = 50']);
my $true = JSON::PP::true;
my $n = 0;
my @cases;

create_database($node, $db);
my $front = EsimFront::start($node, $db);

# statements are gathered: a session for each of hundreds of cases would take its time
my @statements;
sub sql { push @statements, $_[0]; return; }
sub flush { $node->safe_psql($db, join(";\n", splice @statements)); return; }

# the output of each query, all in one session
sub answers
{
	my @queries = @_;
	my $out = $node->safe_psql($db, join("\n", map { "$_;\n\\echo ----" } @queries));
	my @all = split /^----\n?/m, $out, -1;

	return map { my $one = $all[$_] // ''; $one =~ s/\n\z//; $one } 0 .. $#queries;
}

sub literal { my ($value) = @_; return defined $value ? "'$value'" : 'NULL'; }

# ---- what there is before an operation ----

sub device
{
	my ($case) = @_;

	sql("INSERT INTO esim_device (eid, server) VALUES ('$case->{eid}', '$case->{server}')");
	return;
}

# a physical SIM: at the account, and in a row that knows its ICCID alone, or its Sim as well
sub physical
{
	my ($case, $status, $fleet, $knows_sim) = @_;
	my $sim;

	$simulator->post('/supersim/account', { server => $case->{server}, fleets => ['F'],
		sims => [ { iccid => $case->{iccid}, status => $status, $fleet ? (fleet => 'F') : () } ] });
	$sim = api($simulator, $case->{server}, 'GET', "Sims?Iccid=$case->{iccid}")->{sims}[0]{sid} if $knows_sim;
	sql("INSERT INTO esim_profile (iccid, state, subscription_server, fleet, sim_id, subscription_status) VALUES ('$case->{iccid}', 'INSTALLED', '$case->{server}', "
		  . literal($fleet ? 'F' : undef) . ', ' . literal($sim) . ', ' . ($status ne 'scheduled' ? literal(uc $status) : 'NULL') . ')');
	return;
}

# an eSIM profile that is there, in a row that knows as much of it
sub reserved
{
	my ($case, %knows) = @_;
	my $made = api($simulator, $case->{server}, 'POST', 'ESimProfiles', $case->{bound} ? { Eid => $case->{eid} } : { GenerateMatchingId => 'true' });
	my $there;

	for (1 .. 100)
	{
		$there = api($simulator, $case->{server}, 'GET', "ESimProfiles/$made->{sid}");
		last if $there->{status} eq 'available';
		sleep 0.02;
	}
	$simulator->post('/supersim/account', { server => $case->{server}, fleets => ['F'] });
	$case->{iccid} = $there->{iccid};
	$case->{made} = $there;
	$case->{profile} = sprintf('00000000-0000-4000-8000-%012d', $case->{number});
	sql('INSERT INTO esim_profile (id, state, server, iccid, rsp_id, sim_id, subscription_status, reserved_eid) VALUES ('
		  . join(', ', "'$case->{profile}'", $knows{iccid} || $knows{rsp_id} ? "'RELEASED'" : "'RESERVED'", "'$case->{server}'",
			map({ literal($_) } $knows{iccid} ? $there->{iccid} : undef, $knows{rsp_id} ? $there->{sid} : undef, $knows{sim_id} ? $there->{sim_sid} : undef,
				$knows{sim_id} ? 'NEW' : undef, $case->{bound} ? $case->{eid} : undef)) . ')');
	return;
}

# ---- operations: what is there before, the call, the requests in order, and what holds after ----

my $own = q(SELECT %s FROM esim_profile p JOIN esim_operation o ON o.profile = p.id WHERE o.id = '%s');
my $complete = q(p.state, p.rsp_id ~ '^HP', p.sim_id ~ '^HS', p.iccid IS NOT NULL, p.smdp_address <> '', p.subscription_status);
my %kinds = (
	'reserve for an EID' => { before => \&device, call => sub { "esim_reserve('$_[0]{eid}', server => '$_[0]{server}')" },
		requests => [ [ POST => '/ESimProfiles' ], [ GET => '/ESimProfiles/HP' ], [ GET => '/Sims/HS' ] ],
		after => "$complete, p.matching_id IS NULL, p.activation_code IS NULL", is => 'RELEASED|t|t|t|t|NEW|t|t', profiles => 1 },
	'reserve with a matching ID' => { call => sub { "esim_reserve(generate_matching_id => true, server => '$_[0]{server}')" },
		requests => [ [ POST => '/ESimProfiles' ], [ GET => '/ESimProfiles/HP' ], [ GET => '/Sims/HS' ] ],
		after => "$complete, p.matching_id <> '', p.activation_code = esim_build_activation_code(p.smdp_address, p.matching_id)", is => 'RELEASED|t|t|t|t|NEW|t|t', profiles => 1 },
	'download' => { before => \&device, settings => { install_ms => 500 }, call => sub { "esim_download('$_[0]{eid}', server => '$_[0]{server}')" },
		requests => [ [ POST => '/ESimProfiles' ], [ GET => '/ESimProfiles/HP' ], [ GET => '/Sims/HS' ] ],
		after => "$complete, p.eid = o.eid", is => 'INSTALLED|t|t|t|t|NEW|t', profiles => 1 },
	'download of what is reserved' => { before => sub { device($_[0]); reserved($_[0], iccid => 1, rsp_id => 1, sim_id => 1) }, bound => 1, settings => { install_ms => 1500, reserve_ms => 0 },
		call => sub { "esim_download('$_[0]{eid}', '$_[0]{iccid}')" },
		requests => [ [ GET => '/ESimProfiles/HP' ], [ GET => '/Sims/HS' ] ],
		after => "$complete, p.eid = o.eid", is => 'INSTALLED|t|t|t|t|NEW|t', profiles => 1 },
	'download of an ICCID' => { before => sub { device($_[0]); reserved($_[0], iccid => 1) }, bound => 1, settings => { install_ms => 1500, reserve_ms => 0 },
		call => sub { "esim_download('$_[0]{eid}', '$_[0]{iccid}')" },
		requests => [ [ GET => '/Sims' ], [ GET => '/ESimProfiles' ], [ GET => '/ESimProfiles/HP' ], [ GET => '/Sims/HS' ] ],
		after => "$complete, p.eid = o.eid", is => 'INSTALLED|t|t|t|t|NEW|t', profiles => 1 },
	'set-subscription' => { before => sub { physical($_[0], 'active', 1, 1) }, call => sub { "esim_set_subscription('$_[0]{iccid}', 'INACTIVE')" },
		requests => [ [ POST => '/Sims/HS' ], [ GET => '/Sims/HS' ] ],
		after => 'p.subscription_status', is => 'INACTIVE' },
	'set-subscription by ICCID, with Fleet' => { before => sub { physical($_[0], 'new', 0, 0) }, call => sub { "esim_set_subscription('$_[0]{iccid}', 'ACTIVE', fleet => 'F')" },
		requests => [ [ GET => '/Sims' ], [ GET => '/Fleets' ], [ POST => '/Sims/HS' ], [ GET => '/Sims/HS' ] ],
		after => q(p.subscription_status, p.fleet, p.sim_id ~ '^HS'), is => 'ACTIVE|F|t' },
	'set-subscription by ESimProfile' => { settings => { reserve_ms => 0 }, before => sub { reserved($_[0], rsp_id => 1) }, call => sub { "esim_set_subscription(status => 'READY', fleet => 'F', profile => '$_[0]{profile}', server => '$_[0]{server}')" },
		requests => [ [ GET => '/ESimProfiles/HP' ], [ GET => '/Fleets' ], [ POST => '/Sims/HS' ], [ GET => '/Sims/HS' ] ],
		after => q(p.subscription_status, p.fleet), is => 'READY|F', profiles => 1 },
	'assign-fleet' => { before => sub { physical($_[0], 'new', 0, 1) }, call => sub { "esim_assign_fleet('$_[0]{iccid}', 'F')" },
		requests => [ [ GET => '/Fleets' ], [ POST => '/Sims/HS' ] ],
		after => 'p.subscription_status, p.fleet', is => 'NEW|F' },
	'fleet-create' => { call => sub { qq(esim_fleet_create('G', '{"NetworkAccessProfile": "HA00000000000000000000000000000001"}', server => '$_[0]{server}')) },
		requests => [ [ POST => '/Fleets' ] ], fleet => 1 },
	refresh => { before => sub { device($_[0]); reserved($_[0], rsp_id => 1) }, bound => 1, settings => { page_size => 1, reserve_ms => 0 }, call => sub { "esim_refresh('$_[0]{eid}')" },
		requests => [ [ GET => '/ESimProfiles' ] ],
		check => "SELECT state, iccid IS NOT NULL, sim_id ~ '^HS' FROM esim_profile WHERE server = '%s'", is => 'RELEASED|t|t', profiles => 1 },
	sync => { before => sub { physical($_[0], 'ready', 1, 0); reserved($_[0], rsp_id => 1) }, settings => { page_size => 1, reserve_ms => 0 }, call => sub { "esim_sync('$_[0]{server}')" },
		requests => [ [ GET => '/Fleets' ], [ GET => '/ESimProfiles' ], [ GET => '/Sims' ] ],
		check => "SELECT state, subscription_status, fleet FROM esim_profile WHERE coalesce(server, subscription_server) = '%s' ORDER BY state", is => "RELEASED|NEW|\nINSTALLED|READY|F", profiles => 1 });

my %losses = (
	'timed out' => { fault => 'timeout_after_effect' },
	'reset' => { fault => 'reset_after_effect' },
	'500' => { fault => 'status', status => 500, effect => $true });

foreach my $kind (sort keys %kinds)
{
	push @cases, { name => $kind, kind => $kind, expect => 'SUCCESS' };
	foreach my $request (@{ $kinds{$kind}{requests} })
	{
		push @cases, map { { name => "$kind, answer to $request->[0] $request->[1] $_", kind => $kind, expect => 'SUCCESS',
			rules => [ { method => $request->[0], path => $request->[1], count => 1, %{ $losses{$_} } } ] } } sort keys %losses;
		push @cases, { name => "$kind, $request->[0] $request->[1] never arrives", kind => $kind, expect => 'SUCCESS',
			rules => [ { method => $request->[0], path => $request->[1], count => 1, fault => 'timeout_before_effect' } ] } if $request->[0] eq 'POST';
	}
}
# the search for what was lost is lost as well
push @cases, { name => 'reserve for an EID, the search is lost too', kind => 'reserve for an EID', expect => 'SUCCESS',
	rules => [ { method => 'POST', path => '/ESimProfiles', fault => 'reset_after_effect', count => 1 }, { method => 'GET', path => '/ESimProfiles', fault => 'timeout_after_effect', count => 2 } ] },
  { name => 'fleet-create, the list is lost too', kind => 'fleet-create', expect => 'SUCCESS',
	rules => [ { method => 'POST', path => '/Fleets', fault => 'reset_after_effect', count => 1 }, { method => 'GET', path => '/Fleets', fault => 'timeout_after_effect', count => 2 } ] },
  { name => 'set-subscription, sent twice in vain', kind => 'set-subscription', expect => 'SUCCESS',
	rules => [ { method => 'POST', path => '/Sims/', fault => 'timeout_before_effect', count => 2 } ] };

# ---- a Sim: from each status to each; a Fleet is needed; a change that is under way ----

foreach my $from (qw(new ready active inactive))
{
	foreach my $to (qw(READY ACTIVE INACTIVE))
	{
		foreach my $fleet ($from eq 'new' ? (0, 1) : 1)
		{
			my $never = $to eq 'READY' && $from =~ /active/;
			my $refused = $never || ($from eq 'new' && ($to eq 'INACTIVE' || !$fleet));
			my $expect = $refused ? undef : 'SUCCESS';

			push @cases, { name => "$from to $to, " . ($fleet ? 'in a Fleet' : 'in none'), kind => 'set-subscription',
				before => sub { physical($_[0], $from, $fleet, 1) }, call => sub { "esim_set_subscription('$_[0]{iccid}', '$to')" },
				refused => $refused ? 'INCOMPATIBLE_STATE' : undef, expect => $expect,
				after => 'p.subscription_status', is => defined $expect && $expect eq 'SUCCESS' ? $to : uc $from };
		}
	}
}
push @cases, { name => 'ready becomes active by itself', kind => 'set-subscription', expect => 'SUCCESS', settings => { schedule_ms => 0 },
	before => sub { physical($_[0], 'new', 1, 1) }, call => sub { "esim_set_subscription('$_[0]{iccid}', 'READY')" },
	lies => [ { method => 'POST', path => '/Sims/', resource => { status => 'active' } } ], after => 'p.subscription_status', is => 'ACTIVE' },
  { name => 'somebody else is changing it, and to the same', kind => 'set-subscription', expect => 'SUCCESS', settings => { schedule_ms => 2000 },
	before => sub { physical($_[0], 'active', 1, 1); api($simulator, $_[0]{server}, 'POST', 'Sims/' . api($simulator, $_[0]{server}, 'GET', "Sims?Iccid=$_[0]{iccid}")->{sims}[0]{sid}, { Status => 'inactive', UniqueName => 'somebody' }) } },
  { name => 'somebody else is changing it, to another', kind => 'set-subscription', expect => 'SUCCESS', settings => { schedule_ms => 2000 },
	before => sub { physical($_[0], 'ready', 1, 1); api($simulator, $_[0]{server}, 'POST', 'Sims/' . api($simulator, $_[0]{server}, 'GET', "Sims?Iccid=$_[0]{iccid}")->{sims}[0]{sid}, { Status => 'active' }) } },
  { name => 'the change is accepted, and ends otherwise', kind => 'set-subscription', expect => 'FAILED INCOMPATIBLE_STATE', slow => 1,
	rules => [ { method => 'POST', path => '/Sims/', fault => 'device_fail', count => 1 } ], after => 'p.subscription_status', is => 'ACTIVE' },
  { name => 'a Fleet that is not there', kind => 'assign-fleet', expect => 'FAILED NOT_FOUND', call => sub { "esim_assign_fleet('$_[0]{iccid}', 'nowhere')" }, after => 'p.fleet', is => '' },
  { name => 'an ICCID that the account does not have', kind => 'set-subscription', expect => 'FAILED IDENTIFIER_NOT_FOUND',
	before => sub { sql("INSERT INTO esim_profile (iccid, state, subscription_server) VALUES ('$_[0]{iccid}', 'INSTALLED', '$_[0]{server}')") }, after => 'p.subscription_status', is => '' },
  { name => 'a Fleet whose name is in use', kind => 'fleet-create', expect => 'FAILED CONFLICT', before => sub { $simulator->post('/supersim/account', { server => $_[0]{server}, fleets => ['G'] }) }, fleet => 0 },
  { name => 'a reservation that fails', kind => 'reserve for an EID', expect => 'FAILED SERVICE_NOT_APPLICABLE',
	rules => [ { method => 'POST', path => '/ESimProfiles', fault => 'device_fail', reason => 'no luck', count => 1 } ], after => 'p.state, p.rsp_state, o.rsp_code, o.rsp_message', is => 'FAILED|failed|83000|no luck' },
  { name => 'a download of a physical SIM', kind => 'download of an ICCID', expect => 'FAILED SERVICE_NOT_APPLICABLE',
	before => sub { device($_[0]); $simulator->post('/supersim/account', { server => $_[0]{server}, sims => [ { iccid => $_[0]{iccid} } ] });
		sql("INSERT INTO esim_profile (iccid, state, server) VALUES ('$_[0]{iccid}', 'RELEASED', '$_[0]{server}')") }, after => 'p.state', is => 'RELEASED', profiles => 0 },
  { name => 'a profile of another eUICC', kind => 'download of what is reserved', expect => 'FAILED IDENTIFIER_MISMATCH', slow => 1,
	lies => [ { method => 'GET', path => '/ESimProfiles/', after => 2, count => 0, resource => { eid => eid(999999) } } ], settings => { install_ms => 0 }, after => 'p.state', is => 'RELEASED' };

# ---- what cannot be told apart ----

push @cases, { name => 'matching ID: two profiles that nobody knows', kind => 'reserve with a matching ID', expect => 'FAILED OUTCOME_UNKNOWN',
	rules => [ { method => 'POST', path => '/ESimProfiles', fault => 'timeout_after_effect', count => 1 } ],
	meanwhile => sub { api($simulator, $_[0]{server}, 'POST', 'ESimProfiles', { GenerateMatchingId => 'true' }) }, after => 'p.state, p.rsp_id', is => 'FAILED|', profiles => 2 },
  { name => 'EID: two profiles that nobody knows', kind => 'reserve for an EID', expect => 'FAILED OUTCOME_UNKNOWN',
	rules => [ { method => 'POST', path => '/ESimProfiles', fault => 'timeout_after_effect', count => 1 } ],
	meanwhile => sub { $simulator->post('/supersim/download', { eid => $_[0]{eid} }); api($simulator, $_[0]{server}, 'POST', 'ESimProfiles', { Eid => $_[0]{eid}, CallbackUrl => 'http://127.0.0.1:9/x?y' }) },
	after => 'p.state, p.rsp_id', is => 'FAILED|', profiles => 2 },
  { name => 'matching ID: another that is bound to an eUICC is none', kind => 'reserve with a matching ID', expect => 'SUCCESS',
	rules => [ { method => 'POST', path => '/ESimProfiles', fault => 'timeout_after_effect', count => 1 } ],
	meanwhile => sub { api($simulator, $_[0]{server}, 'POST', 'ESimProfiles', { Eid => eid(888888) }) }, profiles => 2 };

# ---- what the codes mean ----

# status, Twilio's code, and what becomes of: POST ESimProfiles, POST Sims/{sid}, GET Sims/{sid}
my @codes = (
	[ 401, 20003, 'PARKED', 'PARKED', 'PARKED' ], [ 401, 20104, 'PARKED' ], [ 401, undef, 'PARKED', 'PARKED' ], [ 407, undef, 'PARKED' ], [ 401, 20005, 'PARKED', 'PARKED' ],
	[ 429, 20429, 'SUCCESS', 'SUCCESS', 'SUCCESS' ], [ 429, undef, 'SUCCESS' ], [ 408, undef, 'SUCCESS', 'SUCCESS' ], [ 425, undef, 'SUCCESS', 'SUCCESS' ],
	(map { [ $_, undef, 'SUCCESS', 'SUCCESS', 'SUCCESS' ] } 500, 502, 503, 504, 599, 520), [ 500, 20500, 'SUCCESS' ], [ 503, 20503, 'SUCCESS' ], [ 504, 20504, 'SUCCESS' ],
	[ 404, 20404, 'IDENTIFIER_NOT_FOUND', 'IDENTIFIER_NOT_FOUND' ], [ 410, undef, 'GONE', 'GONE' ],
	[ 400, 83007, undef, 'INCOMPATIBLE_STATE' ], [ 400, 83010, undef, 'INCOMPATIBLE_STATE' ], [ 400, 83705, undef, 'INCOMPATIBLE_STATE' ],
	[ 409, 20409, 'CONFLICT', 'CONFLICT' ], [ 409, undef, 'CONFLICT', 'CONFLICT' ], [ 412, undef, 'FAILED_PRECONDITION', 'FAILED_PRECONDITION' ],
	[ 400, 83001, 'MISSING_IDENTIFIER', 'MISSING_IDENTIFIER' ], [ 400, 83002, 'SERVICE_NOT_APPLICABLE' ], [ 400, 83003, 'ALREADY_EXISTS' ], [ 400, 83011, undef, 'ALREADY_EXISTS' ], [ 400, 83006, undef, 'NOT_FOUND' ],
	[ 400, 20001, 'INVALID_ARGUMENT', 'INVALID_ARGUMENT' ], [ 422, 20422, 'INVALID_ARGUMENT' ], [ 400, undef, 'INVALID_ARGUMENT' ], [ 422, undef, 'INVALID_ARGUMENT' ], [ 400, 20007, 'OUT_OF_RANGE' ],
	[ 403, 20006, 'PERMISSION_DENIED' ], [ 403, 20008, 'PERMISSION_DENIED' ], [ 403, 20403, 'PERMISSION_DENIED' ], [ 403, undef, 'PERMISSION_DENIED', 'PERMISSION_DENIED' ],
	[ 405, 20004, 'METHOD_NOT_ALLOWED' ], [ 405, undef, 'METHOD_NOT_ALLOWED' ], [ 406, undef, 'NOT_ACCEPTABLE' ], [ 501, undef, 'NOT_IMPLEMENTED' ], [ 418, undef, 'INVALID_ARGUMENT' ]);
my @places = ([ 'reserve for an EID', 'POST', '/ESimProfiles' ], [ 'set-subscription', 'POST', '/Sims/HS' ], [ 'set-subscription', 'GET', '/Sims/HS' ]);
foreach my $row (@codes)
{
	my ($status, $code, @becomes) = @$row;

	foreach my $i (0 .. $#becomes)
	{
		next if !defined $becomes[$i];
		my ($kind, $method, $path) = @{ $places[$i] };
		my $parked = $becomes[$i] eq 'PARKED';
		my $good = $parked || $becomes[$i] eq 'SUCCESS';

		push @cases, { name => "$kind, $status" . (defined $code ? " with code $code" : '') . " at $method $path", kind => $kind, parked => $parked,
			expect => $good ? 'SUCCESS' : "FAILED $becomes[$i]",
			($good ? () : (after => 'p.state, o.rsp_code', is => ($i == 0 ? 'FAILED' : 'INSTALLED') . '|' . ($code // { 400 => 20001, 405 => 20004 }->{$status} // 20000 + $status), $i == 0 ? (profiles => 0) : ())),
			lies => [ { method => $method, path => $path, count => $parked ? 0 : 1, status => $status, body => defined $code ? { code => $code, message => 'no', more_info => "https://www.twilio.com/docs/errors/$code", status => $status } : '' } ],
			# refused before it has an effect
			$method eq 'POST' ? (rules => [ { method => $method, path => $path, count => $parked ? 0 : 1, fault => 'status', status => $status, defined $code ? (code => "$code") : (), $status == 429 ? (retry_after => 1) : () } ], lies => undef) : () };
	}
}
push @cases, { name => 'set-subscription, 83010 because it is so already', kind => 'set-subscription', expect => 'SUCCESS',
	rules => [ { method => 'POST', path => '/Sims/', count => 1, fault => 'status', status => 400, code => '83010', effect => $true } ] },
  { name => 'reserve for an EID, 404 for a while', kind => 'reserve for an EID', expect => 'SUCCESS',
	rules => [ { method => 'GET', path => '/ESimProfiles/', count => 3, fault => 'status', status => 404, code => '20404' } ] };

# ---- all of them ----

foreach my $case (@cases)
{
	my $kind = $kinds{ $case->{kind} };

	$case->{number} = ++$n;
	$case->{server} = "case$n";
	$case->{eid} = eid($n);
	$case->{iccid} = iccid(100000 + $n);
	$case->{$_} //= $kind->{$_} foreach qw(before call bound check profiles fleet);
	if (!exists $case->{is}) { $case->{$_} = $kind->{$_} foreach qw(after is); }
	account($node, $db, $simulator, $case->{server}, %{ $kind->{settings} // {} }, %{ $case->{settings} // {} },
		$case->{lies} ? (lies => $case->{lies}) : (), sql => \@statements, options => { event_url => $front->url($case->{server}) });
	$case->{before}->($case) if $case->{before};
	$simulator->fault({ server => $case->{server}, %$_ }) foreach @{ $case->{rules} // [] };
}
flush();
foreach my $case (grep { $_->{refused} } @cases)
{
	my ($status, $out, $err) = $node->psql($db, 'SELECT ' . $case->{call}->($case));

	like($err, qr/DETAIL:  $case->{refused}/, "$case->{name}: refused at once");
}
my @running = grep { !$_->{refused} } @cases;
my @ids = answers(map { 'SELECT ' . $_->{call}->($_) } @running);
$_->{id} = shift @ids foreach @running;
foreach my $case (grep { $_->{meanwhile} } @cases)
{
	ok(wait_until($node, $db, "SELECT count(*) > 0 FROM esim_attempt WHERE operation = '$case->{id}'", 't'), "$case->{name}: sent");
	sleep 0.5;
	$case->{meanwhile}->($case);
}
my @parked = grep { $_->{parked} } @cases;
wait_until($node, $db, q(SELECT count(*) FROM esim_operation WHERE phase = 'PARKED'), scalar @parked);
foreach my $case (@parked)
{
	ok(wait_until($node, $db, "SELECT phase, phase_reason <> '' FROM esim_operation WHERE id = '$case->{id}'", 'PARKED|t'), "$case->{name}: parked, and says why") or diag(attempts_of($node, $db, $case->{id}));
	$simulator->delete("/fault?server=$case->{server}");
	$simulator->config($case->{server}, supersim => { lies => [] });
}
sql('SELECT esim_resume()');
flush();
# what polls at growing intervals is asked at once when a callback comes
my @slow = grep { $_->{slow} } @cases;
for (1 .. 12)
{
	sleep 1;
	answers(map { qq(SELECT esim_receive('$_->{server}', '{}', '{"query": "op=$_->{id}"}')) } @slow);
}
ok(wait_until($node, $db, q(SELECT count(*) FROM esim_operation WHERE status = 'ACCEPTED'), '0', 180), 'all complete') or wait_completed($node, $db, 0.1);

my @results = answers(map { "SELECT result || coalesce(' ' || error_code, ''), coalesce(error_message, '') <> '' FROM esim_operation WHERE id = '$_->{id}'" } @running);
my @rows = answers(map { defined $_->{after} ? sprintf($own, $_->{after}, $_->{id}) : defined $_->{check} ? sprintf($_->{check}, $_->{server}) : 'SELECT 1' } @running);
my @fleets = answers(map { "SELECT count(*) FROM esim_fleet WHERE server = '$_->{server}' AND name = 'G' AND rsp_id ~ '^HF'" } @running);
foreach my $case (@running)
{
	my ($result, $row, $fleet) = (shift @results, shift @rows, shift @fleets);
	my $good = is($result, $case->{expect} . ($case->{expect} =~ /FAILED/ ? '|t' : '|f'), "$case->{name}: $case->{expect}" . ($case->{expect} =~ /FAILED/ ? ', with a reason' : ''));

	$good &= is($row, $case->{is}, "$case->{name}: its row") if defined $case->{after} || defined $case->{check};
	$good &= is($fleet, $case->{fleet}, "$case->{name}: the Fleet's row") if defined $case->{fleet};
	$good &= is(scalar @{ api($simulator, $case->{server}, 'GET', 'ESimProfiles?PageSize=1000')->{esim_profiles} }, $case->{profiles}, "$case->{name}: profiles at the account")
	  if defined $case->{profiles} && !$kinds{ $case->{kind} }{settings}{page_size};
	diag(attempts_of($node, $db, $case->{id})) if !$good;
}
ledger_is_exact($simulator, 'ledger');
is(value($node, $db, q(SELECT count(*) FROM (SELECT rsp_id FROM esim_profile WHERE rsp_id IS NOT NULL GROUP BY rsp_id HAVING count(*) > 1) d)), '0', 'no ESimProfile in two rows');

# ---- callbacks: what a front end hands over ----

account($node, $db, $simulator, 'plain', options => { event_url => $front->url('plain') });
$front->pump;
my $eid = eid(++$n);
sql("INSERT INTO esim_device (eid, server) VALUES ('$eid', 'plain')");
flush();
my $id = value($node, $db, "SELECT esim_download('$eid')");
ok($front->pump_until("SELECT phase FROM esim_operation WHERE id = '$id'", 'WAITING_DEVICE'), 'download: reserved, waits for the device');
is(value($node, $db, sprintf($own, "p.state, p.rsp_id ~ '^HP', p.sim_id ~ '^HS', p.smdp_address <> '', p.matching_id IS NULL, p.activation_code IS NULL", $id)),
	'RELEASED|t|t|t|t|t', 'ICCID, address and Sim are known; an EID has no matching ID');
$simulator->post('/supersim/download', { eid => $eid });
ok($front->pump_until("SELECT result FROM esim_operation WHERE id = '$id'", 'SUCCESS'), 'installed: the callback makes the worker ask, and the download completes');
ok((grep { $_ eq 'asked' } @{ $front->{outcomes} }) > 0, 'callbacks are hints');
is(value($node, $db, q(SELECT count(*) > 0 FROM esim_event WHERE kind = 'callback' AND outcome = 'asked' AND body ? 'Sid')), 't', 'and are kept');
is(value($node, $db, q(SELECT string_agg(DISTINCT outcome, ' ') FROM esim_attempt WHERE outcome !~ '^[a-z-]+$')), '', 'outcomes of requests are words of one kind');

my ($sid, $sim) = split /\|/, value($node, $db, sprintf($own, 'p.rsp_id, p.sim_id', $id));
my $refreshes = q(SELECT count(*) FROM esim_operation WHERE kind = 'refresh' AND server = 'plain');
my $before = value($node, $db, $refreshes);
is(value($node, $db, qq(SELECT esim_receive('plain', '{"Sid": "$sid", "Status": "installed"}'))), 'asked', 'nothing waits for it: the eUICC is listed');
is(value($node, $db, $refreshes), $before + 1, 'by a refresh');
ok(wait_until($node, $db, q(SELECT count(*) FROM esim_operation WHERE status = 'ACCEPTED'), '0'), 'which completes');
is(value($node, $db, qq(SELECT esim_receive('plain', '{}', '{"query": "?simsid=$sim"}'))), 'asked', 'a query as text, names in any case');
is(value($node, $db, qq(SELECT esim_receive('plain', '{}', '{"query": {"op": "$id"}}'))), 'asked', 'a query as object');
is(value($node, $db, q(SELECT esim_receive('plain', '{"Sid": "HP00000000000000000000000000000000"}'))), 'unknown', 'a profile that is not ours');
is(value($node, $db, qq(SELECT esim_receive('plain', '{"Sid": "$sid", "Other": "HP00000000000000000000000000000000"}'))), 'unknown', 'two profiles');
foreach my $bad ([ '{}', '{}' ], [ '{"Sid": "x"}', '{}' ], [ '{}', '{"query": 5}' ], [ '{}', '{"cookies": {}}' ], [ '{}', '{"query": "op=%0"}' ])
{
	my ($status, $out, $err) = $node->psql($db, "\\set VERBOSITY verbose\nSELECT esim_receive('plain', '$bad->[0]', '$bad->[1]')");
	like($err, qr/ES400/, "no callback: $bad->[0] $bad->[1]");
}

# ---- what Super SIM has no field for is said at once ----

foreach my $refused ([ "esim_reserve(server => 'plain')", 'MISSING_IDENTIFIER' ], [ "esim_reserve('$eid', generate_matching_id => true, server => 'plain')", 'INVALID_ARGUMENT' ],
	[ "esim_reserve(generate_matching_id => true, iccid => '@{[iccid(5)]}', server => 'plain')", 'SERVICE_NOT_APPLICABLE' ],
	(map { [ "esim_reserve(generate_matching_id => true, $_, server => 'plain')", 'SERVICE_NOT_APPLICABLE' ] } "profile_type => 'x'", "matching_id => 'X'", "confirmation_code => '1'", "smds_address => 'smds.example.com'", 'release => false'),
	[ "esim_download('$eid', activate_on_download => true, server => 'plain')", 'SERVICE_NOT_APPLICABLE' ],
	[ "esim_release('@{[value($node, $db, sprintf($own, 'p.iccid', $id))]}', server => 'plain')", 'SERVICE_NOT_APPLICABLE' ],
	[ "esim_fleet_create('x', '{}', server => 'plain')", 'INVALID_ARGUMENT' ], [ qq(esim_fleet_create('x', '{"NetworkAccessProfile": "p", "DataLimit": 0}', server => 'plain')), 'OUT_OF_RANGE' ])
{
	my ($status, $out, $err) = $node->psql($db, "SELECT $refused->[0]");
	like($err, qr/DETAIL:  $refused->[1]/, "refused: $refused->[0]");
}
is(value($node, $db, q(SELECT string_agg(kind, ' ' ORDER BY kind) FROM esim_capabilities('plain') WHERE supported)), 'assign-fleet download fleet-create refresh reserve set-subscription sync', 'capabilities');

ok(!$node->log_contains(qr/PANIC|was terminated by signal/), 'no crash');
ok(!$node->log_contains(qr/could not be applied/), 'nothing that could not be applied');
$node->stop;
done_testing();
