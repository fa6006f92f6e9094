# test/t/041_eim.pl
# The eIM, end to end: every operation, answers lost at every request of the sequence, every outcome
# and status of HTTP.
use strict;
use warnings;

use JSON::PP;
use Test::More;

use EimCases;
use EsimTest;

my $db = 'postgres';
my $simulator = start_simulator();
my $node = new_node('eim', preload => 1, settings => ['esim.poll_interval = 500ms']);
my $true = JSON::PP::true;

# ---- every operation, and its answers lost at each request that it makes ----

my %loss = (
	'lost' => { fault => 'timeout_after_effect' },
	'reset' => { fault => 'reset_after_effect' },
	'500' => { fault => 'status', status => 500, effect => $true },
	'303 without Location' => { fault => 'status', status => 303, effect => $true });
my @losses = ('lost', 'reset', '500');
# the device has not told what became of the first order: then an order lists the profiles
my @stuck = ({ path => '/create', fault => 'device_fail', reason => 'procedureError:stuckOrder', count => 1 });
my @done_and_stuck = ({ path => '/create', fault => 'device_fail', reason => 'effect:procedureError:stuckOrder', count => 1 });
my @points = (
	[ 'create', [ @losses, '303 without Location' ], [], { path => '/create' } ],
	[ 'look-up', \@losses, [], { path => '/lookup' } ],
	[ 'list', \@losses, [ { path => '/create', fault => 'reset_after_effect', count => 1 } ], { path => '/list' } ],
	[ 'look-up of a candidate', \@losses, [ { path => '/create', fault => 'reset_after_effect', count => 1 } ], { path => '/lookup' } ],
	[ 'create of the list order', [ @losses, '303 without Location' ], \@stuck, { path => '/create', after => 1 } ],
	[ 'look-up of the list order', \@losses, \@done_and_stuck, { path => '/lookup', after => 1 } ],
	[ 'delete of an earlier order', \@losses, \@stuck, { path => '/delete' } ],
	[ 'delete at the end', \@losses, [], { path => '/delete' } ]);

foreach my $kind (sort keys %shape)
{
	add_case(name => $kind, kind => $kind, eim => { v12 => $true });
	foreach my $point (@points)
	{
		my ($what, $losses, $rules, $aim) = @$point;

		# an ICCID that is not known cannot be looked for in the list: OUTCOME_UNKNOWN, see below
		next if $kind eq 'download of an unknown ICCID' && grep { $_->{fault} eq 'device_fail' } @$rules;
		foreach my $loss (@$losses)
		{
			add_case(name => "$kind, $what $loss", kind => $kind, eim => { v12 => $true },
				rules => [ @$rules, { count => 1, %$aim, %{ $loss{$loss} } } ]);
		}
	}
}
foreach my $loss (@losses)
{
	add_case(name => "download and enable, second $_ $loss", kind => 'download and enable',
		rules => [ { path => "/psmo/$_", count => 1, %{ $loss{$loss} } } ]) foreach 'create', 'lookup';
}
add_case(name => 'enable, create never arrives', kind => 'enable',
	rules => [ { path => '/create', fault => 'timeout_before_effect', count => 1 } ]);
add_case(name => 'enable, create is refused three times with 500', kind => 'enable', hurry => 1,
	rules => [ { path => '/create', fault => 'status', status => 500, count => 3 } ]);
add_case(name => 'delete, answers to create, list and look-up lost', kind => 'delete',
	rules => [ map { { path => "/$_", fault => 'reset_after_effect', count => 2 } } 'create', 'list', 'lookup' ]);

# an eIM that has more than 52 orders cannot list them
foreach my $kind (grep { $_ ne 'download of an unknown ICCID' } sort keys %shape)
{
	add_case(name => "$kind, create $_ and no list", kind => $kind, hurry => 1, eim => { v12 => $true },
		rules => [ { path => '/create', count => 1, %{ $loss{$_} } }, { path => '/list', fault => 'status', status => 500 } ]) foreach 'reset', '500';
}
add_case(name => 'enable, create never arrives and no list', kind => 'enable', hurry => 1,
	rules => [ { path => '/create', fault => 'timeout_before_effect', count => 1 }, { path => '/list', fault => 'status', status => 500 } ]);

# ---- outcomes ----

# A reason as the simulator takes it; without a rule's count it is told once.
sub outcome
{
	my ($kind, $reason, $expect, $code, %more) = @_;
	my $share = delete $more{share} // 'v12';
	my $always = delete $more{always};

	add_case(name => "$kind, $reason" . ($always ? ' always' : '') . ($more{theirs} ? ", $more{theirs} on the eUICC" : ''),
		kind => $kind, expect => $expect, code => $code, share => $share, eim => { v12 => $share eq 'v12' ? $true : JSON::PP::false },
		rules => [ { path => '/create', fault => 'device_fail', reason => $reason, $always ? (iccid => '{iccid}') : (count => 1) } ], %more);
	return;
}

my %same = (map { $_ => $shape{$_}[0] // 'RELEASED' } keys %shape);
my @acting = grep { $_ ne 'refresh' && !/^download/ && $_ ne 'unset-fallback' } sort keys %shape;
my @unclear = ('procedureError:stuckOrder', 'procedureError:abortedOrder', 'error:malformedResult',
	'euiccPackageErrorCode:counterValueMismatch', 'euiccPackageErrorCode:undefinedError', '[{"euiccPackageErrorCode":127}]',
	'processingTerminated:resultSizeOverflow', 'processingTerminated:interruption', 'processingTerminated:undefinedError',
	'[{"processingTerminated":1}]', '[{"processingTerminated":3}]', '[{"processingTerminated":127}]',
	'eimPackageError:undefinedError', '[{"eimPackageError":127}]', 'procedureError:somethingNew', 'somethingNew:ok', '[]', '[{}]',
	'[{"notificationResult":"otherSignedNotification"}]');

# nobody knows: the eUICC is asked, then it is handed in again, or had been done
foreach my $kind (@acting, 'unset-fallback', 'download')
{
	outcome($kind, $_, 'SUCCESS', '') foreach @unclear;
	outcome($kind, "effect:$_", 'SUCCESS', '') foreach @unclear;
}
outcome('refresh', $_, 'SUCCESS', '', hurry => 1) foreach @unclear;

# five times, then it fails as it ended; the orders that list are not met
outcome('enable', $_->[0], 'FAILED', $_->[1], always => 1, state => 'DISABLED') foreach
  [ 'procedureError:stuckOrder', 'TIMEOUT' ], [ 'procedureError:abortedOrder', 'ABORTED' ], [ 'error:malformedResult', 'INTERNAL' ];
# and no list either
add_case(name => "$_->[0], $_->[1] and no list", kind => $_->[0], expect => 'FAILED', code => $_->[2], share => 'v12', hurry => 1, state => $_->[3],
	effects => $_->[1] =~ /^effect/ ? [ @{ $shape{ $_->[0] } }[ 2 .. $#{ $shape{ $_->[0] } } ] ] : [],
	rules => [ { path => '/create', fault => 'device_fail', reason => $_->[1], count => 1 },
		{ path => '/create', fault => 'device_fail', reason => '[{"listProfileInfoResult":{"finalResult":"errorResult"}}]' } ]) foreach
  [ 'enable', 'procedureError:stuckOrder', 'OUTCOME_UNKNOWN', 'DISABLED' ],
  [ 'enable', 'enableResult:undefinedError', 'OUTCOME_UNKNOWN', 'DISABLED' ],
  [ 'delete', 'effect:procedureError:abortedOrder', 'OUTCOME_UNKNOWN', 'DISABLED' ],
  [ 'enable', 'iccidOrAidNotFound', 'IDENTIFIER_MISMATCH', 'DISABLED' ],
  [ 'refresh', 'profileChangeOngoing', 'INTERNAL', 'DISABLED' ];

# a download whose ICCID is not known can be repeated only where nothing is on the eUICC
outcome('download of an unknown ICCID', 'procedureError:stuckOrder', 'FAILED', 'OUTCOME_UNKNOWN');
outcome('download of an unknown ICCID', 'effect:procedureError:stuckOrder', 'FAILED', 'OUTCOME_UNKNOWN', effects => ['downloaded'], others => []);
outcome('download of an unknown ICCID', 'procedureError:abortedOrder', 'SUCCESS', '', others => []);
# told to be another one: what is listed is believed
outcome('download', 'effect:[{"profileInstallationResult":{"finalResult":"successResult","iccid":"98543700000012181938"}}]', 'SUCCESS', '');
outcome('download', '[{"profileInstallationResult":{"finalResult":"successResult","iccid":"98543700000012181938"}}]', 'FAILED', 'OUTCOME_UNKNOWN');
outcome('download', 'effect:[{"profileInstallationResult":{"finalResult":"successResult"}}]', 'SUCCESS', '');

# failed, whether with an effect is not said
foreach my $kind (@acting)
{
	my $key = { enable => 'enable', disable => 'disable', delete => 'delete', 'set-fallback' => 'setFallbackAttribute' }->{$kind} // 'disable';

	foreach my $reason ("${key}Result:undefinedError", "[{\"${key}Result\":127}]", 'procedureError:euiccSignatureInvalid')
	{
		outcome($kind, $reason, 'FAILED', 'INTERNAL', state => $same{$kind});
		outcome($kind, "effect:$reason", 'SUCCESS', '');
	}
}
outcome('enable', 'commandError', 'FAILED', 'INTERNAL', state => 'DISABLED');
outcome('enable', 'effect:enableResult:commandError', 'SUCCESS', '');
outcome('enable', '[{"enableResult":7}]', 'FAILED', 'INTERNAL', state => 'DISABLED');
outcome('unset-fallback', 'unsetFallbackAttributeResult:commandError', 'FAILED', 'INTERNAL');
outcome('unset-fallback', 'procedureError:euiccSignatureInvalid', 'FAILED', 'INTERNAL');
foreach my $reason ('handleNotificationError', 'euiccSignatureInvalid')
{
	outcome('download', "procedureError:$reason", 'FAILED', 'INTERNAL');
	outcome('download', "effect:procedureError:$reason", 'SUCCESS', '');
	outcome('download of an unknown ICCID', "effect:procedureError:$reason", 'FAILED', 'OUTCOME_UNKNOWN', effects => ['downloaded']);
}

# so already, or not so
outcome('enable', $_, 'FAILED', 'INCOMPATIBLE_STATE', state => 'DISABLED') foreach 'profileNotInDisabledState', '[{"enableResult":2}]';
outcome('disable', $_, 'FAILED', 'INCOMPATIBLE_STATE', state => 'ENABLED') foreach 'profileNotInEnabledState', '[{"disableResult":2}]';
outcome('delete', $_, 'FAILED', 'INCOMPATIBLE_STATE', state => 'DISABLED') foreach 'profileNotInDisabledState', '[{"deleteResult":2}]';
foreach my $share ('v12', 'v10')
{
	my @server = (share => $share, eim => { v12 => $share eq 'v12' ? $true : JSON::PP::false }, rules => []);

	add_case(name => "enable of an enabled one, $share", kind => 'enable', theirs => 'ENABLED', others => ['DISABLED'], effects => [], @server);
	add_case(name => "disable of a disabled one, $share", kind => 'disable', theirs => 'DISABLED', effects => [], @server);
	add_case(name => "delete of one that is not there, $share", kind => 'delete', theirs => 'absent', effects => [], @server);
	add_case(name => "delete of an enabled one that is not there, $share", kind => 'delete of an enabled one', theirs => 'absent', effects => [], @server);
	add_case(name => "delete of an enabled one that is disabled, $share", kind => 'delete of an enabled one', theirs => 'DISABLED', effects => ['deleted'], @server);
	add_case(name => "delete of one of which nothing is known, $share", kind => 'delete', ours => 'INSTALLED', theirs => $_,
		effects => $_ eq 'ENABLED' ? [ 'disabled', 'deleted' ] : ['deleted'], @server) foreach 'ENABLED', 'DISABLED';
	add_case(name => "$_ of one that is not there, $share", kind => $_, theirs => 'absent', expect => 'FAILED', code => 'IDENTIFIER_MISMATCH', @server)
	  foreach 'enable', 'disable', ($share eq 'v12' ? 'set-fallback' : ());
}
outcome($_, 'iccidOrAidNotFound', 'FAILED', 'IDENTIFIER_MISMATCH', state => $same{$_}) foreach 'enable', 'disable', 'set-fallback';
outcome('delete', 'iccidOrAidNotFound', 'FAILED', 'IDENTIFIER_MISMATCH', state => 'DISABLED');
outcome('unset-fallback', $_, 'SUCCESS', '', effects => [], state => 'DISABLED') foreach 'noFallbackAttribute', '[{"unsetFallbackAttributeResult":2}]';

# later
foreach my $share ('v12', 'v10')
{
	outcome($_, 'catBusy', 'SUCCESS', '', share => $share, hurry => 1) foreach 'enable', 'disable', 'delete', 'delete of an enabled one';
	outcome('enable', 'euiccPackageErrorCode:ecallActive', 'SUCCESS', '', share => $share, hurry => 1);
	outcome('refresh', "[{\"listProfileInfoResult\":$_}]", 'SUCCESS', '', share => $share, hurry => 1) foreach '"profileChangeOngoing"', 11;
}
outcome('enable', "euiccPackageErrorCode:replayError", 'SUCCESS', '', hurry => 1);
outcome('enable', '[{"euiccPackageErrorCode":4}]', 'SUCCESS', '', hurry => 1, share => 'v10');
add_case(name => 'enable, replayError for good', kind => 'enable', hurry => 1, parked => 1,
	rules => [ { path => '/create', fault => 'device_fail', reason => 'euiccPackageErrorCode:replayError' } ]);

# nothing to roll back to, with and without an enabled profile
foreach my $share ('v12', 'v10')
{
	outcome('enable', 'rollbackNotAvailable', 'FAILED', 'INCOMPATIBLE_STATE', state => 'DISABLED', share => $share);
	add_case(name => "enable, rollbackNotAvailable and nothing is enabled, $share", kind => 'enable', others => ['DISABLED'], share => $share,
		rules => [ { path => '/create', fault => 'device_fail', reason => 'rollbackNotAvailable', count => 1 } ]);
	outcome('delete', $_, 'FAILED', 'INCOMPATIBLE_STATE', state => 'DISABLED', share => $share) foreach 'rollbackNotAvailable', 'returnFallbackProfile';
	outcome($_, 'disallowedByPolicy', 'FAILED', 'INCOMPATIBLE_STATE', state => $same{$_}, share => $share) foreach 'enable', 'disable', 'delete';
}
outcome('enable', 'rollback', 'FAILED', 'ROLLED_BACK', state => 'DISABLED', effects => [ 'enabled', 'disabled' ]);
outcome('enable', 'effect:[{"enableResult":"ok"},{"rollbackResult":"undefinedError"}]', 'SUCCESS', '');
outcome('enable', '[{"enableResult":"ok"},{"rollbackResult":"undefinedError"}]', 'FAILED', 'ROLLED_BACK', state => 'DISABLED');
outcome('download and enable', 'disallowedByPolicy', 'FAILED', 'INCOMPATIBLE_STATE', state => 'DISABLED', effects => ['downloaded'],
	rules => [ { path => '/psmo/create', fault => 'device_fail', reason => 'disallowedByPolicy', count => 1 } ]);
outcome('download and enable', 'rollback', 'FAILED', 'ROLLED_BACK', state => 'DISABLED', effects => [ 'downloaded', 'enabled', 'disabled' ],
	rules => [ { path => '/psmo/create', fault => 'device_fail', reason => 'rollback', count => 1 } ]);

# final
outcome('set-fallback', $_, 'FAILED', 'INCOMPATIBLE_STATE', state => 'DISABLED') foreach 'fallbackNotAllowed', 'fallbackProfileEnabled',
  '[{"setFallbackAttributeResult":2}]', '[{"setFallbackAttributeResult":3}]';
outcome('unset-fallback', $_, 'FAILED', 'INCOMPATIBLE_STATE') foreach 'fallbackProfileEnabled', '[{"unsetFallbackAttributeResult":3}]';
foreach my $final ([ 'euiccPackageErrorCode:invalidEid', 'IDENTIFIER_MISMATCH' ], [ '[{"euiccPackageErrorCode":3}]', 'IDENTIFIER_MISMATCH' ],
	[ 'euiccPackageErrorCode:counterValueOutOfRange', 'OUT_OF_RANGE' ], [ '[{"euiccPackageErrorCode":6}]', 'OUT_OF_RANGE' ],
	[ 'euiccPackageErrorCode:sizeOverflow', 'SERVICE_NOT_APPLICABLE' ], [ '[{"euiccPackageErrorCode":15}]', 'SERVICE_NOT_APPLICABLE' ],
	[ 'procedureError:badPsmo', 'SERVICE_NOT_APPLICABLE' ], [ 'procedureError:badOrder', 'INTERNAL' ], [ 'procedureError:badEco', 'INTERNAL' ],
	[ 'procedureError:badEdr', 'INTERNAL' ], [ 'eimPackageError:invalidPackageFormat', 'SERVICE_NOT_APPLICABLE' ],
	[ '[{"eimPackageError":1}]', 'SERVICE_NOT_APPLICABLE' ], [ 'eimPackageError:unknownPackage', 'SERVICE_NOT_APPLICABLE' ],
	[ '[{"eimPackageError":2}]', 'SERVICE_NOT_APPLICABLE' ], [ 'processingTerminated:unknownOrDamagedCommand', 'SERVICE_NOT_APPLICABLE' ],
	[ '[{"processingTerminated":2}]', 'SERVICE_NOT_APPLICABLE' ])
{
	outcome($_, @$final[0], 'FAILED', @$final[1], state => $same{$_}) foreach 'enable', 'delete of an enabled one';
}
foreach my $kind ('download', 'download of an unknown ICCID', 'download and enable')
{
	outcome($kind, "procedureError:$_", 'FAILED', 'SERVICE_NOT_APPLICABLE') foreach 'initiateAuthenticationError', 'authenticateResponseError',
	  'authenticateClientError', 'downloadResponseError', 'getBoundProfilePackageError', 'cancelSessionResponseError';
	outcome($kind, $_, 'FAILED', 'SERVICE_NOT_APPLICABLE') foreach 'cancel', 'cancelSessionResult:undefinedError';
	outcome($kind, '[{"profileInstallationResult":{"finalResult":"errorResult"}}]', 'FAILED', 'SERVICE_NOT_APPLICABLE', state => 'FAILED');
	outcome($kind, 'cancelSessionResult:somethingNew', 'FAILED', 'SERVICE_NOT_APPLICABLE');
}
outcome($_, 'none', 'FAILED', 'SERVICE_NOT_APPLICABLE', share => 'v10', rules => [], state => 'DISABLED') foreach 'set-fallback', 'unset-fallback';

# more results than asked for, fewer, two in one object, of something else
outcome('delete of an enabled one', '[{"disableResult":"ok"}]', 'SUCCESS', '');
outcome('delete of an enabled one', 'effect:[{"disableResult":"ok"}]', 'SUCCESS', '');
outcome('delete of an enabled one', 'effect:[{"disableResult":"ok"},{"processingTerminated":"interruption"}]', 'SUCCESS', '');
outcome('delete of an enabled one', 'effect:[{"disableResult":"ok","deleteResult":"ok"}]', 'SUCCESS', '');
outcome('enable', 'effect:[{"enableResult":"ok"},{"enableResult":"ok"}]', 'SUCCESS', '');
outcome('enable', 'effect:[{"enableResult":"ok"},{"disableResult":"ok"}]', 'SUCCESS', '');
outcome('enable', 'effect:[{"enableResult":"ok","notificationResult":"otherSignedNotification"}]', 'SUCCESS', '');
outcome('enable', '[{"disableResult":"ok"}]', 'SUCCESS', '');
outcome('enable', '[{"enableResult":"ok"},{"processingTerminated":"undefinedError"}]', 'SUCCESS', '');
outcome('enable', '[{"enableResult":"ok"},{"enableResult":"disallowedByPolicy"}]', 'FAILED', 'INCOMPATIBLE_STATE', state => 'DISABLED');
outcome('enable', 'effect:[' . join(',', ('{"enableResult":"ok"}') x 20000) . ']', 'SUCCESS', '');

# ---- statuses of HTTP ----

my %park = map { $_ => 1 } 401, 403, 405, 406, 407, 414, 415, 431, 501;
foreach my $status (400, 401, 403, 404, 405, 406, 407, 408, 409, 410, 413, 414, 415, 418, 422, 425, 426, 429, 431, 451, 500, 501, 502, 503, 504, 505, 599,
	204, 200, 300, 301, 302, 304, 307, 308)
{
	my $redirect = $status >= 300 && $status < 400;
	my $unknown = $status < 400 || ($status >= 500 && $status != 501);
	my $parks = $park{$status} || $status == 404 || $status == 410;
	my $final = !$parks && !$unknown && !grep { $status == $_ } 408, 409, 425, 429;

	add_case(name => "enable, $status to create", kind => 'enable', expect => $final ? 'FAILED' : 'SUCCESS', $final ? (state => 'DISABLED') : (),
		parked => $parks, rules => [ { path => '/create', fault => 'status', status => $status, count => 1 } ]);
	add_case(name => "enable, $status to the look-up", kind => 'enable', parked => $park{$status} || $redirect,
		rules => [ { path => '/lookup', fault => 'status', status => $status, count => 1, effect => $true } ]);
	add_case(name => "enable, $status to the list", kind => 'enable', parked => $park{$status} || $redirect,
		rules => [ { path => '/create', fault => 'reset_after_effect', count => 1 },
			{ path => '/list', fault => 'status', status => $status, count => 1, effect => $true } ]);
}

create_database($node, $db);
my @run = run_cases($node, $db, $simulator);
note(scalar(@run) . ' cases');

ledger_is_exact($simulator, 'ledger');
my $eim = $simulator->get('/eim');
is(scalar(grep { ref $_ eq 'HASH' && $_->{overlaps} } values %$eim), 0, 'never two open orders of one eUICC');
is(scalar(grep { ref $_ eq 'HASH' && $_->{crashes} } values %$eim), 0, 'the eIM could read every order');

# a rollback is an event with its cause
is(value($node, $db, q(SELECT count(*) > 0, bool_and(EXISTS (SELECT FROM esim_profile_event e WHERE e.operation = o.id AND e.cause = 'ROLLBACK'
		AND e.old_state = 'ENABLED' AND e.new_state = 'DISABLED')) FROM esim_operation o WHERE o.error_code = 'ROLLED_BACK')), 't|t', 'rolled back: an event says why');

# what the protocol does not have is said at once
my ($status, $out, $err) = $node->psql($db, "SELECT esim_download('@{[eid(0)]}', '@{[iccid(50000)]}', '1\$smdp.example.com\$X\$\$1', confirmation_code => '1', server => 'case0')");
like($err, qr/SERVICE_NOT_APPLICABLE/, 'a code that needs a confirmation code');

# an eIM has no events
is(value($node, $db, q(SELECT esim_receive('case0', '{"anything": 1}'))), 'ignored', 'an event is ignored');
ok(!$node->log_contains(qr/PANIC|was terminated by signal/), 'no crash');
$node->stop;
done_testing();
