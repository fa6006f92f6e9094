# test/t/041_eim.pl
# The eIM, end to end: every operation, lost answers at every request, all outcomes, hostile answers.
#
# Each case has a server of its own in the simulator and an eUICC of its own, and they all run at
# the same time.
use strict;
use warnings;

use JSON::PP;
use Test::More;
use EsimTest;

my $db = 'postgres';
my $simulator = start_simulator();
my $node = new_node('eim', preload => 1, settings => ['esim.poll_interval = 500ms']);
my $true = JSON::PP::true;

my %call = (
	download => sub { "esim_download('$_[0]', '$_[1]')" },
	'download and enable' => sub { "esim_download('$_[0]', '$_[1]', activate_on_download => true)" },
	enable => sub { "esim_enable('$_[1]')" },
	disable => sub { "esim_disable('$_[1]')" },
	delete => sub { "esim_delete('$_[1]')" },
	'delete of an enabled one' => sub { "esim_delete('$_[1]')" },
	'set-fallback' => sub { "esim_set_fallback('$_[0]', '$_[1]')" },
	'unset-fallback' => sub { "esim_unset_fallback('$_[0]')" },
	refresh => sub { "esim_refresh('$_[0]')" });

# state of the profile before and after, and the effects on the eUICC
my %shape = (
	download => [ undef, 'DISABLED', 'downloaded' ],
	'download and enable' => [ undef, 'ENABLED', 'downloaded', 'enabled' ],
	enable => [ 'DISABLED', 'ENABLED', 'enabled' ],
	disable => [ 'ENABLED', 'DISABLED', 'disabled' ],
	delete => [ 'DISABLED', 'DELETED', 'deleted' ],
	'delete of an enabled one' => [ 'ENABLED', 'DELETED', 'disabled', 'deleted' ],
	'set-fallback' => [ 'DISABLED', 'DISABLED', 'fallback-set' ],
	'unset-fallback' => [ 'DISABLED', 'DISABLED', 'fallback-unset' ],
	refresh => [ 'DISABLED', 'DISABLED' ]);

my @cases;

# every operation, and its answers lost after the effect at every request of the sequence
foreach my $kind (sort keys %call)
{
	my @losses = ([], [ 'create', 0 ], [ 'lookup', 0 ]);

	push @losses, [ 'create', 1 ], [ 'lookup', 1 ] if $kind eq 'download and enable';
	foreach my $loss (@losses)
	{
		my ($path, $after) = @$loss;

		push @cases, {
			name => $kind . ($path ? ", answer to $path " . ($after + 1) . ' lost' : ''),
			kind => $kind, expect => 'SUCCESS', eim => { v12 => $true },
			rules => $path ? [ { path => "/$path", fault => 'timeout_after_effect', after => $after, count => 1 } ] : [] };
	}
}
# the list that looks for a lost order, and the delete of the finished one
push @cases, {
	name => 'enable, answers to create and list lost', kind => 'enable', expect => 'SUCCESS',
	rules => [ { path => '/create', fault => 'reset_after_effect', count => 1 },
		{ path => '/list', fault => 'timeout_after_effect', count => 1 } ] }, {
	name => 'enable, answer to delete lost', kind => 'enable', expect => 'SUCCESS',
	rules => [ { path => '/delete', fault => 'timeout_after_effect', count => 1 } ] }, {
	name => 'enable, create never arrives', kind => 'enable', expect => 'SUCCESS',
	rules => [ { path => '/create', fault => 'timeout_before_effect', count => 1 } ] }, {
	name => 'enable, 500 after the effect', kind => 'enable', expect => 'SUCCESS',
	rules => [ { path => '/create', fault => 'status', status => 500, effect => $true, count => 1 } ] };

# hostile answers, at create and at lookup
foreach my $path ('create', 'lookup')
{
	foreach my $fault (qw(malformed_json truncated_json empty_body wrong_types duplicate_keys invalid_utf8 nul_bytes
		wrong_iccid wrong_content_type oversized_json deep_json endless_body truncated_body slow_drip reset_after_effect))
	{
		push @cases, {
			name => "enable, $fault at $path", kind => 'enable', expect => 'SUCCESS',
			rules => [ { path => "/$path", fault => $fault, count => 1 } ] };
	}
}
foreach my $status (429, 503, 502, 408)
{
	push @cases, {
		name => "enable, $status", kind => 'enable', expect => 'SUCCESS',
		rules => [ { path => '/create', fault => 'status', status => $status, count => 1 } ] };
}

# outcomes: reason as the simulator takes it, the result, the code, the state afterwards
foreach my $outcome (
	[ 'enable', 'catBusy', 'SUCCESS', '', 'ENABLED' ],
	[ 'enable', 'disallowedByPolicy', 'FAILED', 'INCOMPATIBLE_STATE', 'DISABLED' ],
	[ 'enable', 'iccidOrAidNotFound', 'FAILED', 'IDENTIFIER_MISMATCH', 'DISABLED' ],
	[ 'enable', 'rollback', 'FAILED', 'ROLLED_BACK', 'DISABLED' ],
	[ 'enable', 'procedureError:badOrder', 'FAILED|SUCCESS', undef, undef ],
	[ 'enable', 'euiccPackageErrorCode:invalidEid', 'FAILED', 'IDENTIFIER_MISMATCH', 'DISABLED' ],
	[ 'enable', 'euiccPackageErrorCode:replayError', 'SUCCESS', '', 'ENABLED' ],
	[ 'enable', 'effect:procedureError:euiccSignatureInvalid', 'SUCCESS', '', 'ENABLED' ],
	[ 'enable', 'procedureError:stuckOrder', 'SUCCESS', '', 'ENABLED' ],
	[ 'enable', 'effect:procedureError:stuckOrder', 'SUCCESS', '', 'ENABLED' ],
	[ 'enable', 'effect:procedureError:abortedOrder', 'SUCCESS', '', 'ENABLED' ],
	[ 'enable', 'eimPackageError:invalidPackageFormat', 'FAILED', 'SERVICE_NOT_APPLICABLE', 'DISABLED' ],
	[ 'download', 'cancel', 'FAILED', undef, undef ],
	[ 'set-fallback', 'fallbackNotAllowed', 'FAILED', 'INCOMPATIBLE_STATE', 'DISABLED' ])
{
	my ($kind, $reason, $expect, $code, $state) = @$outcome;

	push @cases, {
		name => "$kind, $reason", kind => $kind, expect => $expect, code => $code, state => $state, eim => { v12 => $true },
		failing => 1, rules => [ { path => '/create', fault => 'device_fail', reason => $reason, count => 1 } ] };
}
push @cases, {
	name => 'set-fallback on SGP.32 v1.0', kind => 'set-fallback', expect => 'FAILED', code => 'SERVICE_NOT_APPLICABLE',
	state => 'DISABLED', failing => 1, rules => [] };

# a redirect is not followed: an administrator looks at it
push @cases, {
	name => 'enable, redirect at lookup', kind => 'enable', expect => 'SUCCESS', parked => 1,
	rules => [ { path => '/lookup', fault => 'redirect', count => 1 } ] };

# a device that comes late: the order is handed in anew each time
push @cases, {
	name => 'enable, noshow', kind => 'enable', expect => 'SUCCESS', offline_ms => 8000, eim => { noshow_s => 2 },
	rules => [], resubmitted => 1 };

create_database($node, $db);
my $n = 0;
foreach my $case (@cases)
{
	my ($eid, $iccid, $other) = (eid($n), iccid(2 * $n), iccid(2 * $n + 1));
	my ($before) = @{ $shape{ $case->{kind} } };
	my $tenant = "case$n";
	my $fallback = $case->{kind} eq 'unset-fallback' ? 'true' : 'false';

	my $enabled = $case->{kind} eq 'enable' ? 'ENABLED' : 'DISABLED';

	$case->{eid} = $eid;
	$case->{iccid} = $iccid;
	$simulator->config($tenant, eim => $case->{eim}) if $case->{eim};
	create_server($node, $db, $simulator, $tenant, protocol => 'eim', url => "$simulator->{url}/$tenant/eim", timeout => '2 s');
	# enabling has somewhere to go back to
	$simulator->post('/euicc', { eid => $eid,
		($case->{offline_ms} ? (offline_ms => $case->{offline_ms}) : ()),
		profiles => [ { iccid => $other, state => $enabled },
			$before ? { iccid => $iccid, state => $before, ($fallback eq 'true' ? (fallback => $true) : ()) } : () ] });
	$simulator->fault({ server => $tenant, %$_ }) foreach @{ $case->{rules} };
	$node->safe_psql($db, qq(INSERT INTO esim_device (eid, server) VALUES ('$eid', '$tenant');
		INSERT INTO esim_profile (iccid, eid, state) VALUES ('$other', '$eid', '$enabled'); )
		. ($before ? "INSERT INTO esim_profile (iccid, eid, state, is_fallback) VALUES ('$iccid', '$eid', '$before', $fallback)"
			: "INSERT INTO esim_profile (iccid, state, activation_code) VALUES ('$iccid', 'RELEASED', '1\$smdp.example.com\$$iccid')"));
	$n++;
}
foreach my $case (@cases)
{
	# away from now on, however long the cases before it took
	$simulator->post('/euicc', { eid => $case->{eid}, offline_ms => $case->{offline_ms} }) if $case->{offline_ms};
	$case->{id} = value($node, $db, 'SET esim.lockout_guard = off; SELECT ' . $call{ $case->{kind} }->($case->{eid}, $case->{iccid}));
}
foreach my $case (grep { $_->{parked} } @cases)
{
	ok(wait_until($node, $db, "SELECT phase FROM esim_operation WHERE id = '$case->{id}'", 'PARKED'), "$case->{name}: parked");
	$node->safe_psql($db, 'SELECT esim_resume()');
}
ok(wait_until($node, $db, q(SELECT count(*) FROM esim_operation WHERE status = 'ACCEPTED'), '0', 120), 'all complete')
  or wait_completed($node, $db, 0.1);

foreach my $case (@cases)
{
	my ($before, $after, @effects) = @{ $shape{ $case->{kind} } };
	my ($row) = rows($node, $db, "SELECT result, error_code, error_message, attempts FROM esim_operation WHERE id = '$case->{id}'");
	my ($result, $code, $message, $attempts) = @$row;
	my $state = value($node, $db, "SELECT state FROM esim_profile WHERE iccid = '$case->{iccid}'");
	my $good = 1;

	$good &= like($result, qr/^(?:$case->{expect})$/, "$case->{name}: $case->{expect}");
	$good &= is($code, $case->{code}, "$case->{name}: its code") if defined $case->{code};
	$good &= isnt($message, '', "$case->{name}: a reason") if $result eq 'FAILED';
	if (!$case->{failing})
	{
		$good &= is($state, $after, "$case->{name}: $after");
		my @done = grep { /$case->{iccid}/ } @{ $simulator->effects($case->{eid}) };
		$good &= is(join(', ', @done), join(', ', map { "$_ $case->{iccid}" } @effects), "$case->{name}: what the eUICC did, once");
	}
	elsif (defined $case->{state})
	{
		$good &= is($state, $case->{state}, "$case->{name}: $case->{state}");
	}
	if ($case->{resubmitted})
	{
		cmp_ok(value($node, $db, "SELECT count(*) FROM esim_attempt WHERE operation = '$case->{id}' AND url LIKE '%/create'"), '>', 1,
			"$case->{name}: handed in more than once");
	}
	diag(query($node, $db, "SELECT number, method, right(url, 50), http_status, outcome, left(detail, 80) FROM esim_attempt WHERE operation = '$case->{id}' ORDER BY number"))
	  if !$good;
	note("$case->{name}: $result $code, $attempts requests");
}
ledger_is_exact($simulator, 'ledger');
my $eim = $simulator->get('/eim');
is(scalar(grep { ref $_ eq 'HASH' && $_->{overlaps} } values %$eim), 0, 'never two open orders of one eUICC');
is(value($node, $db, q(SELECT count(*) FROM esim_profile p JOIN esim_operation o ON o.profile = p.id WHERE o.error_code = 'ROLLED_BACK' AND p.state = 'DISABLED')),
	'1', 'rolled back: the profile is DISABLED');

# what the protocol does not have is said at once
my ($status, $out, $err) = $node->psql($db, "SELECT esim_download('@{[eid(0)]}', '@{[iccid(5000)]}', '1\$smdp.example.com\$X\$\$1', confirmation_code => '1', server => 'case0')");
like($err, qr/SERVICE_NOT_APPLICABLE/, 'a code that needs a confirmation code');

# an eIM has no events
is(value($node, $db, q(SELECT esim_receive('case0', '{"anything": 1}'))), 'ignored', 'an event is ignored');
ok(!$node->log_contains(qr/PANIC|was terminated by signal/), 'no crash');
$node->stop;
done_testing();
