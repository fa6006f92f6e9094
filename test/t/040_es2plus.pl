# test/t/040_es2plus.pl
# The SM-DP+ over ES2+, end to end: every operation in each of its forms, the answers to each of its
# requests lost, what the requests look like, mutual TLS, and notifications through esim_receive().
use strict;
use warnings;

use JSON::PP;
use Test::More;
use EsimTest;
use EsimFront;
use EsimSmdp;

my $db = 'postgres';
my $simulator = start_simulator();
my $node = new_node('es2plus', preload => 1, settings => ['esim.poll_interval = 500ms']);
my $true = JSON::PP::true;
my $n = 0;

create_database($node, $db);
my $front = EsimFront::start($node, $db);

# a server of its own for each case; options of the simulator's es2plus
sub server
{
	my ($name, %settings) = @_;

	$simulator->config($name, es2plus => { notify_url => $front->url($name), requester => '1.3.6.1.4.1.99999', %settings });
	create_server($node, $db, $simulator, $name, protocol => 'es2plus', url => "$simulator->{url}/$name",
		requester_id => '1.3.6.1.4.1.99999', smdp_address => 'smdp.example.com', timeout => '2 s');
	return $name;
}

sub device
{
	my ($server) = @_;
	my $eid = eid(10000 + ++$n);

	$node->safe_psql($db, "INSERT INTO esim_device (eid, server) VALUES ('$eid', '$server')");
	return $eid;
}

sub operation { my ($id) = @_; return value($node, $db, "SELECT result, error_code FROM esim_operation WHERE id = '$id'"); }

# ---- download: order, confirmation, notification point 4 ----

server('plain');
my $eid = device('plain');
my $iccid = iccid(1000 + $n);
my $id = value($node, $db, "SELECT esim_download('$eid', '$iccid')");
ok(wait_until($node, $db, "SELECT phase FROM esim_operation WHERE id = '$id'", 'WAITING_DEVICE'), 'download: waits for the device');
is($simulator->post('/es2plus/download', { server => 'plain', eid => $eid, until => 3 })->{state}, 'Downloaded', 'the device downloads');
ok($front->pump_until("SELECT state, state_source FROM esim_profile WHERE iccid = '$iccid'", 'DOWNLOADED|event'), 'point 3: DOWNLOADED, learned from an event');
is(value($node, $db, "SELECT status FROM esim_operation WHERE id = '$id'"), 'ACCEPTED', 'the operation goes on');
$simulator->post('/es2plus/download', { server => 'plain', eid => $eid, iccid => $iccid });
ok($front->pump_until("SELECT result FROM esim_operation WHERE id = '$id'", 'SUCCESS'), 'point 4: the download completes');
is(value($node, $db, "SELECT state, state_source, eid FROM esim_profile WHERE iccid = '$iccid'"), "INSTALLED|event|$eid", 'and the profile is INSTALLED, learned from an event');
is(value($node, $db, "SELECT string_agg(new_state || ' ' || cause, ', ' ORDER BY id) FROM esim_profile_event WHERE operation = '$id'"),
	'DOWNLOADED OPERATION, INSTALLED OPERATION', 'both are among its events');
is(value($node, $db, q(SELECT count(*) FROM esim_deferred)), '0', 'nothing is left behind');

# duplicates and wrong order
my $sent = sub {
	my ($server, %how) = @_;
	my %event = (header => { functionRequesterIdentifier => 'smdp', functionCallIdentifier => $how{call} // 'call-' . ++$n },
		iccid => $how{iccid}, profileType => 'A', timestamp => '2026-11-01T10:00:00Z', notificationPointId => $how{point},
		notificationPointStatus => { status => $how{status} // 'Executed-Success',
			$how{subject} ? (statusCodeData => { subjectCode => $how{subject}, reasonCode => $how{reason}, message => "It's so." }) : () },
		$how{eid} ? (eid => $how{eid}) : ());

	return value($node, $db, "SELECT esim_receive('$server', " . EsimFront::literal(encode_json(\%event)) . ')');
};
is($sent->('plain', iccid => $iccid, eid => $eid, point => 3), 'ignored', 'a late point 3 says nothing new');
$node->safe_psql($db, "UPDATE esim_profile SET state = 'ENABLED' WHERE iccid = '$iccid'");
is($sent->('plain', iccid => $iccid, eid => $eid, point => 4), 'ignored', 'a late point 4 either');
is(value($node, $db, "SELECT state FROM esim_profile WHERE iccid = '$iccid'"), 'ENABLED', 'what is known better stays');
is($sent->('plain', iccid => $iccid, eid => $eid, point => 4, call => 'same'), 'ignored', 'once');
is($sent->('plain', iccid => $iccid, eid => $eid, point => 4, call => 'same'), 'duplicate', 'the same again is a duplicate');
is($sent->('plain', iccid => iccid(99999), eid => $eid, point => 4), 'unknown', 'an ICCID that is not ours');
is(value($node, $db, q(SELECT count(*) FROM esim_event WHERE outcome = 'unknown')), '1', 'is kept');
is($sent->('plain', iccid => $iccid, eid => $eid, point => 7), 'ignored', 'a point that means nothing');

# another EID than the order's, none, and another server
my $eid2 = device('plain');
my $iccid2 = iccid(1000 + $n);
my $id2 = value($node, $db, "SELECT esim_download('$eid2', '$iccid2')");
ok(wait_until($node, $db, "SELECT phase FROM esim_operation WHERE id = '$id2'", 'WAITING_DEVICE'), 'another download');
server('other');
is($sent->('plain', iccid => $iccid2, eid => $eid, point => 4), 'unknown', 'the EID of another eUICC does not count');
is($sent->('plain', iccid => $iccid2, point => 4), 'asked', 'without an EID the worker looks, no more');
is($sent->('other', iccid => $iccid2, eid => $eid2, point => 4), 'unknown', 'nor does the word of another server');
is(value($node, $db, "SELECT state FROM esim_profile WHERE iccid = '$iccid2'"), 'RELEASED', 'nothing has changed');

# a failure that is not the end, and one that is
is($sent->('plain', iccid => $iccid2, eid => $eid2, point => 2, status => 'Failed', subject => '8.2.7', reason => '3.8'), 'applied', 'a wrong confirmation code');
is(value($node, $db, "SELECT status FROM esim_operation WHERE id = '$id2'"), 'ACCEPTED', 'may be given again');
is($sent->('plain', iccid => $iccid2, eid => $eid2, point => 4, status => 'Failed', subject => '8.1', reason => '4.8'), 'applied', 'an installation that fails');
ok(wait_until($node, $db, "SELECT result, rsp_code FROM esim_operation WHERE id = '$id2'", 'FAILED|8.1/4.8'), 'ends the download with its code');
isnt(value($node, $db, "SELECT error_code || error_message FROM esim_operation WHERE id = '$id2'"), '', 'and a reason');
is(value($node, $db, "SELECT state, state_source FROM esim_profile WHERE iccid = '$iccid2'"), 'FAILED|event', 'the profile is FAILED');

# vendors' own points, as CMLink has them
server('cmlink', cmlink => $true);
$node->safe_psql($db, q(INSERT INTO esim_notification_point (server, point, meaning, note) VALUES
	('cmlink', 5, 'DELETED', 'CMLink'), ('cmlink', 101, 'ENABLED', 'CMLink'), ('cmlink', 102, 'DISABLED', 'CMLink')));
$eid = device('cmlink');
$iccid = iccid(1000 + $n);
$id = value($node, $db, "SELECT esim_download('$eid', '$iccid')");
ok(wait_until($node, $db, "SELECT phase FROM esim_operation WHERE id = '$id'", 'WAITING_DEVICE'), 'CMLink: waits');
$simulator->post('/es2plus/download', { server => 'cmlink', eid => $eid });
ok($front->pump_until("SELECT result FROM esim_operation WHERE id = '$id'", 'SUCCESS'), 'CMLink: points and times as texts');
foreach my $point ([ 101, 'ENABLED' ], [ 102, 'DISABLED' ], [ 5, 'DELETED' ])
{
	$simulator->post('/es2plus/notify', { server => 'cmlink', iccid => $iccid, eid => $eid, point => $point->[0] });
	ok($front->pump_until("SELECT state, state_source FROM esim_profile WHERE iccid = '$iccid'", "$point->[1]|event"), "CMLink: point $point->[0] is $point->[1]");
}
is(value($node, $db, "SELECT string_agg(new_state::text, ' ' ORDER BY e.id) FROM esim_profile_event e JOIN esim_profile p ON p.id = e.profile WHERE p.iccid = '$iccid' AND cause = 'LOCAL'"),
	'ENABLED DISABLED DELETED', 'CMLink: local switches are recorded as such');

# the notification is faster than the answer to the confirmation
server('fast', auto_download_ms => 1);
$eid = device('fast');
$iccid = iccid(1000 + $n);
$simulator->fault({ server => 'fast', path => 'confirmOrder', fault => 'latency', ms => 700, count => 1 });
$id = value($node, $db, "SELECT esim_download('$eid', '$iccid')");
ok($front->pump_until("SELECT result FROM esim_operation WHERE id = '$id'", 'SUCCESS', 30), 'a notification that is faster than the answer ends the download as well');

# faster than the answer to a reservation: that the profile is released is old news then
server('faster', auto_download_ms => 1);
foreach my $case ([ 'INSTALLED', 'DOWNLOADED INSTALLED', 8 ], [ 'FAILED', 'DOWNLOADED FAILED', 1 ])
{
	my ($state, $events, $memory) = @$case;

	$eid = device('faster');
	$iccid = iccid(1000 + $n);
	$simulator->post('/euicc', { eid => $eid, memory => $memory, profiles => [ { iccid => iccid(90000 + $n), state => 'DISABLED' } ] });
	$simulator->fault({ server => 'faster', path => 'confirmOrder', fault => 'latency', ms => 1500, count => 1 });
	$id = value($node, $db, "SELECT esim_reserve('$eid', iccid => '$iccid', server => 'faster')");
	ok($front->pump_until("SELECT result FROM esim_operation WHERE id = '$id'", 'SUCCESS', 30), "a notification that is faster than the answer to a reservation: $state");
	is(value($node, $db, "SELECT state, state_source FROM esim_profile WHERE iccid = '$iccid'"), "$state|event", 'what it said stays');
	is(value($node, $db, "SELECT string_agg(new_state::text, ' ' ORDER BY e.id) FROM esim_profile_event e JOIN esim_profile p ON p.id = e.profile WHERE p.iccid = '$iccid'"), $events, 'and is all that has happened');
}

# a download that only waits for its device is taken back; the lane of its own leaves nothing behind
server('back');
$eid = device('back');
$iccid = iccid(1000 + $n);
$id = value($node, $db, "SELECT esim_download('$eid', '$iccid')");
ok(wait_until($node, $db, "SELECT phase FROM esim_operation WHERE id = '$id'", 'WAITING_DEVICE'), 'another waits for its device');
is(value($node, $db, "SELECT esim_cancel('$id')"), 't', 'it is taken back');
ok(wait_until($node, $db, "SELECT result FROM esim_operation WHERE id = '$id'", 'CANCELLED'), 'and ends CANCELLED');
is(value($node, $db, q(SELECT count(*) FROM esim_profile_lane l WHERE l.lane > 0 AND NOT EXISTS (SELECT FROM esim_profile p WHERE p.lane = l.lane))), '0', 'every lane is a profile\'s');

# version 3's HandleNotification: 1 to 4 as before, others by rows of the server
server('three', notify_v3 => $true);
$node->safe_psql($db, q(INSERT INTO esim_notification_point (server, point, meaning, function) VALUES ('three', 20, 'ENABLED', 'handleNotification')));
$eid = device('three');
$iccid = iccid(1000 + $n);
$id = value($node, $db, "SELECT esim_download('$eid', '$iccid')");
ok(wait_until($node, $db, "SELECT phase FROM esim_operation WHERE id = '$id'", 'WAITING_DEVICE'), 'HandleNotification: waits');
$simulator->post('/es2plus/download', { server => 'three', eid => $eid });
ok($front->pump_until("SELECT result FROM esim_operation WHERE id = '$id'", 'SUCCESS'), 'HandleNotification: event 4 completes the download');
is(value($node, $db, "SELECT string_agg(DISTINCT kind, ' ') FROM esim_event WHERE server = 'three'"), 'handleNotification', 'HandleNotification: is kept by its name');
$simulator->post('/es2plus/notify', { server => 'three', iccid => $iccid, eid => $eid, point => 7 });
$simulator->post('/es2plus/notify', { server => 'three', iccid => $iccid, eid => $eid, point => 20 });
ok($front->pump_until("SELECT state FROM esim_profile WHERE iccid = '$iccid'", 'ENABLED'), 'HandleNotification: an event that a row gives a meaning');
is(value($node, $db, "SELECT outcome FROM esim_event WHERE server = 'three' AND body ->> 'notificationEvent' = '7'"), 'ignored', 'HandleNotification: one that nobody has told the meaning of');

# a download that expires while the device is away: a late result is the profile's, not the operation's
server('late');
$eid = device('late');
$iccid = iccid(1000 + $n);
$id = value($node, $db, "SELECT esim_download('$eid', '$iccid', expires_at => now() + interval '4 seconds')");
ok(wait_until($node, $db, "SELECT result || ' ' || error_code FROM esim_operation WHERE id = '$id'", 'FAILED EXPIRED'), 'a download expires while its device is away');
is(value($node, $db, "SELECT state FROM esim_profile WHERE iccid = '$iccid'"), 'RELEASED', 'its order stands');
$simulator->post('/es2plus/download', { server => 'late', eid => $eid });
ok($front->pump_until("SELECT state FROM esim_profile WHERE iccid = '$iccid'", 'INSTALLED'), 'the device comes after all: the profile is INSTALLED');
is(value($node, $db, "SELECT error_code FROM esim_operation WHERE id = '$id'"), 'EXPIRED', 'the operation stays as it was');
$eid = device('late');
$iccid = iccid(1000 + $n);
$id = value($node, $db, "SELECT esim_download('$eid', '$iccid', expires_at => now() + interval '4 seconds')");
ok(wait_until($node, $db, "SELECT result || ' ' || error_code FROM esim_operation WHERE id = '$id'", 'FAILED EXPIRED'), 'another one');
$id = value($node, $db, "SELECT esim_cancel_order('$iccid')");
ok(wait_until($node, $db, "SELECT result FROM esim_operation WHERE id = '$id'", 'SUCCESS'), 'its order can be cancelled');

# ---- every operation in each of its forms ----

my $smdp = EsimSmdp->new(node => $node, database => $db, simulator => $simulator, front => $front);
my $as_it_should = sub { my ($form) = @_; return defined $EsimSmdp::forms{$form}{device} ? 'WAITING_DEVICE' : 'SUCCESS'; };

$smdp->add(map { { name => $_, form => $_, expect => $as_it_should->($_), state => $EsimSmdp::forms{$_}{state}, deeds => [ EsimSmdp::effects($_) ],
	server => 'form ' . $_ =~ s/[^a-zA-Z]+/_/gr } } sort keys %EsimSmdp::forms);
$_->{server} = $_->{server} =~ tr/ /_/r foreach @{ $smdp->{cases} };
$smdp->start;
my @plain = $smdp->check;
my %case = map { $_->{form} => $_ } @plain;

sub of { my ($form, $columns) = @_; return value($node, $db, "SELECT $columns FROM esim_operation o JOIN esim_profile p ON p.id = o.profile WHERE o.id = '$case{$form}{id}'"); }
my $what = q(p.iccid IS NOT NULL, p.reserved_eid IS NOT NULL, p.matching_id IS NOT NULL, p.smdp_address, p.activation_code IS NOT NULL, p.rsp_state);
is(of('reserve for an eUICC', $what), 't|t|f|smdp.example.com|f|Released', 'for an eUICC: no MatchingID, no activation code');
is(of('reserve with a MatchingID of ours', $what), 't|f|t|smdp.example.com|t|Released', 'with a MatchingID: an activation code');
like(of('reserve with a MatchingID of ours', 'p.matching_id, p.activation_code'), qr/^([0-9A-Z]{5}(?:-[0-9A-Z]{5}){3})\|1\$smdp\.example\.com\$\1$/, 'of ours: four times five letters and digits');
is(of('reserve with a given MatchingID', 'p.matching_id'), "GIVEN-$case{'reserve with a given MatchingID'}{n}", 'the given MatchingID');
like(of('reserve with a confirmation code', 'p.activation_code'), qr/\$\$1$/, 'a confirmation code: the activation code asks for it');
is(of('reserve with a confirmation code', q(p.activation_code::text LIKE '%4711%' OR o::text LIKE '%4711%')), 'f', 'the code itself stands nowhere');
is(of('reserve without release', $what), 't|f|t|smdp.example.com|t|Confirmed', 'without release: Confirmed');
is(of('reserve with an SM-DS', 'p.matching_id IS NOT NULL'), 't', 'an SM-DS: a MatchingID, by which its event is named');
is(of('reserve an ICCID', 'p.iccid'), $case{'reserve an ICCID'}{iccid}, 'the ICCID that was asked for');
foreach my $final ('Available', 'Unavailable')
{
	is(of("cancel-order of a RELEASED profile, $final", 'p.rsp_state'), $final, "cancel-order: $final");
	my ($item) = @{ $simulator->get('/es2plus/profiles?iccid=' . of("cancel-order of a RELEASED profile, $final", 'p.iccid'))->{profiles} };
	is($item->{state}, $final, "and $final it is at the SM-DP+");
}

# What the requests look like, to the letter: headers, members, their forms, in SGP.22 6.5's schemas.
my %pattern = (
	eid => qr/^[0-9]{32}$/, iccid => qr/^[0-9]{19}[0-9F]?$/, profileType => qr/^.{1,255}$/, matchingId => qr/^[A-Z0-9-]{0,255}$/, confirmationCode => qr/^.{1,255}$/,
	smdsAddress => qr/^[a-zA-Z0-9.-]+$/, finalProfileStatusIndicator => qr/^(?:Available|Unavailable)$/);
my %members = (
	downloadOrder => [ [], [ 'eid', 'iccid', 'profileType' ] ],
	confirmOrder => [ [ 'iccid', 'releaseFlag' ], [ 'eid', 'matchingId', 'confirmationCode', 'smdsAddress' ] ],
	cancelOrder => [ [ 'iccid', 'finalProfileStatusIndicator' ], [ 'eid', 'matchingId' ] ],
	releaseProfile => [ [ 'iccid' ], [] ]);
my %seen;
my %call_id;
my @wrong;
foreach my $request (grep { $_->{path} =~ m{/es2plus/} } @{ $simulator->get('/requests?n=512') })
{
	my ($function) = $request->{path} =~ m{^/[^/]+/gsma/rsp2/es2plus/(\w+)$};
	my %header = map { lc $_ => $request->{headers}{$_} } keys %{ $request->{headers} };
	my $body = eval { JSON::PP->new->utf8->decode($request->{body}) } // {};
	my %left = %$body;
	my $head = delete $left{header} // {};

	$function //= 'none';
	$seen{$function}++;
	push @wrong, "$function: method $request->{method}" if $request->{method} ne 'POST';
	push @wrong, "$function: Content-Type $header{'content-type'}" if $header{'content-type'} ne 'application/json';
	push @wrong, "$function: X-Admin-Protocol" if ($header{'x-admin-protocol'} // '') !~ m{^gsma/rsp/v2\.[0-9]+\.[0-9]+$};
	push @wrong, "$function: User-Agent" if ($header{'user-agent'} // '') !~ m{^[A-Za-z][\w.-]*(?:/[\w.-]+)?$};
	push @wrong, "$function: Content-Length" if ($header{'content-length'} // -1) != length $request->{body};
	push @wrong, "$function: $_" foreach grep { exists $header{$_} } ('expect', 'transfer-encoding', 'authorization', 'x-correlator', 'cookie');
	push @wrong, "$function: header " . encode_json($head) if join(' ', sort keys %$head) ne 'functionCallIdentifier functionRequesterIdentifier' ||
		$head->{functionRequesterIdentifier} ne $EsimSmdp::requester || $call_id{ $head->{functionCallIdentifier} }++;
	my ($required, $optional) = @{ $members{$function} // [ [], [] ] };
	push @wrong, "$function: no $_" foreach grep { !exists $left{$_} } @$required;
	foreach my $name (sort keys %left)
	{
		push @wrong, "$function: $name" if !grep { $_ eq $name } @$required, @$optional;
		push @wrong, "$function: $name is " . encode_json([ $left{$name} ]) if $name eq 'releaseFlag' ? !JSON::PP::is_bool($left{$name}) :
			!defined $left{$name} || encode_json([ $left{$name} ]) !~ /^\["/ || $left{$name} !~ $pattern{$name};
	}
	push @wrong, "$function: an empty MatchingID without an EID" if exists $left{matchingId} && $left{matchingId} eq '' && !exists $left{eid};
	push @wrong, "$function: an SM-DS without an EID" if exists $left{smdsAddress} && !exists $left{eid};
}
is(join("\n", @wrong), '', 'headers, members and their forms');
is(join(' ', sort keys %seen), 'cancelOrder confirmOrder downloadOrder releaseProfile', 'all functions were seen');
is(value($node, $db, q(SELECT count(*) FROM esim_attempt a JOIN esim_operation o ON o.id = a.operation WHERE o.server LIKE 'form%' AND a.call_id IS NULL)), '0', 'each try keeps its functionCallIdentifier');
is(scalar(grep { !$call_id{$_} } split /\n/, query($node, $db, q(SELECT a.call_id FROM esim_attempt a JOIN esim_operation o ON o.id = a.operation WHERE o.server LIKE 'form%'))), 0, 'the one that was sent');
$smdp->devices(@plain);

# ---- the answers to each request lost: after the effect in three ways, and before it ----

my @faults = (
	[ 'time-out after the effect', 1, fault => 'timeout_after_effect' ], [ 'reset after the effect', 1, fault => 'reset_after_effect' ],
	[ '503 after the effect', 1, fault => 'status', status => 503, effect => $true ], [ 'time-out before the effect', 0, fault => 'timeout_before_effect' ]);
foreach my $form (sort keys %EsimSmdp::forms)
{
	foreach my $path (EsimSmdp::paths($form))
	{
		foreach my $fault (@faults)
		{
			my ($name, $after, %rule) = @$fault;
			my $f = $EsimSmdp::forms{$form};
			my %case = (name => "$form, $name at $path", form => $form, expect => $as_it_should->($form), state => $f->{state}, deeds => [ EsimSmdp::effects($form) ],
				rules => [ { path => $path, count => 1, %rule } ]);

			# a second order would take a second profile
			if ($f->{any} && $path eq 'downloadOrder')
			{
				%case = (%case, expect => 'FAILED OUTCOME_UNKNOWN', deeds => $after ? ['ordered'] : []);
				$case{state} = $form =~ /^reserve/ ? 'FAILED' : undef;
			}
			# an order of which there is nothing to tell it by
			if ($form =~ /of a FAILED profile/ && ($form =~ /, Available/ || $after))
			{
				%case = (%case, expect => 'FAILED OUTCOME_UNKNOWN', state => 'FAILED', deeds => $after ? $case{deeds} : ['ordered']);
			}
			# or perhaps not by its MatchingID
			if ($form =~ /a confirmation that (was lost|never came)/ && ($1 eq 'never came' || $after))
			{
				%case = (%case, expect => 'FAILED OUTCOME_UNKNOWN', state => 'FAILED', deeds => $1 eq 'was lost' ? $case{deeds} : ['ordered']);
			}
			$smdp->add(\%case);
		}
	}
}
$smdp->start;
$smdp->devices($smdp->check);
is(value($node, $db, q(SELECT count(*) FROM (SELECT call_id FROM esim_attempt WHERE call_id IS NOT NULL GROUP BY call_id HAVING count(*) > 1) c)), '0', 'every try has a functionCallIdentifier of its own');
ledger_is_exact($simulator, 'ledger');
is($simulator->get('/es2plus/summary')->{reused_call_ids}, 0, 'none was used twice');

# ---- what the front end may get wrong ----

foreach my $bad ([ '[1]', 'ES400' ], [ '{}', 'ES400' ], [ '{"iccid": "x"}', 'ES400' ], [ '{"iccid": 5, "notificationPointId": []}', 'ES400' ])
{
	my ($status, $out, $err) = $node->psql($db, "\\set VERBOSITY verbose\nSELECT esim_receive('plain', '$bad->[0]')");
	like($err, qr/$bad->[1]/, "an event that is none: $bad->[0]");
}
my ($status, $out, $err) = $node->psql($db, "\\set VERBOSITY verbose\nSELECT esim_receive('nobody', '{}')");
like($err, qr/ES404/, 'an unknown server');
($status, $out, $err) = $node->psql($db, "\\set VERBOSITY verbose\nSELECT esim_receive('plain', jsonb_build_object('iccid', repeat('x', 70000)))");
like($err, qr/ES400/, 'an event that is too long');
$node->safe_psql($db, q(CREATE ROLE front; SELECT esim_grant('front', 'receive')));
($status, $out, $err) = $node->psql($db, "\\set VERBOSITY verbose\nSET ROLE front; SELECT esim_receive('plain', '{}')");
like($err, qr/ES403/, 'without USAGE on the server');
$node->safe_psql($db, 'GRANT USAGE ON FOREIGN SERVER plain TO front');
($status, $out, $err) = $node->psql($db, "\\set VERBOSITY verbose\nSET ROLE front; SELECT esim_receive('plain', '{}')");
like($err, qr/ES400/, 'with it, and the scope receive');

# ---- mutual TLS ----

my $dir = PostgreSQL::Test::Utils::tempdir();
foreach my $command (
	"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout $dir/ca.key -out $dir/ca.pem",
	(map { my ($who, $extension) = @$_;
		("openssl req -newkey rsa:2048 -nodes -subj /CN=$who -keyout $dir/$who.key -out $dir/$who.csr",
		 "printf '$extension' > $dir/$who.ext && openssl x509 -req -days 2 -in $dir/$who.csr -CA $dir/ca.pem -CAkey $dir/ca.key -CAcreateserial -extfile $dir/$who.ext -out $dir/$who.pem") }
		([ 'server', 'subjectAltName=IP:127.0.0.1,DNS:localhost' ], [ 'client', 'extendedKeyUsage=clientAuth' ])),
	"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=stranger -keyout $dir/stranger.key -out $dir/stranger.pem")
{
	system("($command) >/dev/null 2>&1") == 0 or die $command;
}
open(my $config, '>', "$dir/config.json") or die $!;
print $config '{"servers": {"tls": {"client_cert": true}}}';
close $config;
my $tls = start_simulator("--tls-cert=$dir/server.pem", "--tls-key=$dir/server.key", "--client-ca=$dir/ca.pem", "--config=$dir/config.json");
create_server($node, $db, $tls, 'tls', protocol => 'es2plus', url => "$tls->{url}/tls", requester_id => 'me', timeout => '5 s', ca_file => "$dir/ca.pem", smdp_address => 'smdp.example.com');
$eid = device('tls');
$id = value($node, $db, "SELECT esim_download('$eid', '@{[iccid(9000)]}')");
ok(wait_until($node, $db, "SELECT phase FROM esim_operation WHERE id = '$id'", 'PARKED'), 'without a client certificate the operation is parked');
$node->safe_psql($db, "CREATE USER MAPPING FOR PUBLIC SERVER tls OPTIONS (client_cert '$dir/client.pem', client_key '$dir/client.key')");
ok(wait_until($node, $db, "SELECT phase FROM esim_operation WHERE id = '$id'", 'WAITING_DEVICE'), 'with one it goes on by itself')
  or diag(query($node, $db, "SELECT phase, phase_reason FROM esim_operation WHERE id = '$id'"));

# the same as texts, and as one text; a certificate of another authority
my %pem = map { $_ => PostgreSQL::Test::Utils::slurp_file("$dir/$_") } qw(ca.pem client.pem client.key stranger.pem stranger.key);
foreach my $way ([ 'texts', "client_cert '$pem{'client.pem'}', client_key '$pem{'client.key'}'", 'WAITING_DEVICE' ],
	[ 'one text', "client_cert '$pem{'client.pem'}$pem{'client.key'}'", 'WAITING_DEVICE' ],
	[ 'a stranger', "client_cert '$pem{'stranger.pem'}', client_key '$pem{'stranger.key'}'", 'PARKED' ])
{
	my ($name, $mapping, $phase) = @$way;
	my $as = 'tls_' . $name =~ s/ /_/r;

	create_server($node, $db, $tls, $as, protocol => 'es2plus', url => "$tls->{url}/tls", requester_id => 'me', timeout => '5 s', ca_file => $pem{'ca.pem'}, smdp_address => 'smdp.example.com');
	$node->safe_psql($db, qq(CREATE USER MAPPING FOR PUBLIC SERVER "$as" OPTIONS ($mapping)));
	$eid = device($as);
	$id = value($node, $db, "SELECT esim_download('$eid', '@{[iccid(9000 + ++$n)]}', server => '$as')");
	ok(wait_until($node, $db, "SELECT phase FROM esim_operation WHERE id = '$id'", $phase), "mutual TLS, $name: $phase")
	  or diag(query($node, $db, "SELECT phase, phase_reason FROM esim_operation WHERE id = '$id'"));
	ok(wait_until($node, $db, "SELECT phase_reason ~ 'credentials|certificate|let this client in' FROM esim_operation WHERE id = '$id'", 't'), 'and the row says why') if $phase eq 'PARKED';
}

ok(!$node->log_contains(qr/PANIC|was terminated by signal/), 'no crash');
$node->stop;
done_testing();
