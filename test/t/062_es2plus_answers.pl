# test/t/062_es2plus_answers.pl
# What an SM-DP+ answers: every subject and reason code, HTTP statuses, manners of vendors, answers
# that are broken, hostile or about something else; and what is left of it after a promotion.
#
# Each case has a server of its own, and they all run at the same time.
use strict;
use warnings;

use JSON::PP;
use Test::More;
use EsimTest;
use EsimSmdp;

my $db = 'postgres';
my $simulator = start_simulator();
my $node = new_node('answers', preload => 1, init => { allows_streaming => 1 }, settings => ['esim.poll_interval = 500ms']);
my $true = JSON::PP::true;
my $false = JSON::PP::false;

create_database($node, $db);
my $smdp = EsimSmdp->new(node => $node, database => $db, simulator => $simulator);
my %form = (
	downloadOrder => 'reserve an ICCID', confirmOrder => 'reserve an ICCID', releaseProfile => 'release',
	cancelOrder => 'cancel-order of a RELEASED profile, Available');
my %name = (DO => 'downloadOrder', CO => 'confirmOrder', RP => 'releaseProfile', CaO => 'cancelOrder');

# a case at a function: its form without trouble, unless said otherwise
sub at
{
	my ($path, $name, $rules, %how) = @_;
	my $form = $how{form} // $form{$path};

	$smdp->add({ name => "$path, $name", form => $form, expect => 'SUCCESS', state => $EsimSmdp::forms{$form}{state}, deeds => [ EsimSmdp::effects($form) ],
		rules => [ map { { path => $path, count => 1, %$_ } } @$rules ], %how });
	return;
}

# ---- subject and reason codes: each row of the table ----

# what was done before the function was refused
my %before = (downloadOrder => [], confirmOrder => ['ordered'], releaseProfile => [ 'ordered', 'order-confirmed' ], cancelOrder => [ 'ordered', 'order-confirmed' ]);

foreach my $row (
	[ '8.1.1/2.2', 'CO', 'FAILED MISSING_IDENTIFIER' ],
	[ '8.1.1/3.9', 'DO CO', 'FAILED IDENTIFIER_NOT_FOUND' ],
	[ '8.1.1/3.10', 'CO CaO', 'FAILED IDENTIFIER_MISMATCH' ],
	[ '8.1.1/3.1', 'CO CaO', 'FAILED IDENTIFIER_MISMATCH' ],
	[ '8.2.1/3.10', 'CO CaO', 'FAILED IDENTIFIER_MISMATCH' ],
	[ '8.2.1/3.1', 'CO CaO', 'FAILED IDENTIFIER_MISMATCH' ],
	[ '8.2.1/1.2', 'DO CO RP CaO', 'FAILED PERMISSION_DENIED' ],
	[ '8.2.5/1.2', 'DO', 'FAILED PERMISSION_DENIED' ],
	[ '8.2.1/2.2', 'CaO', 'FAILED MISSING_IDENTIFIER' ],
	[ '8.2.1/3.3', 'DO', 'FAILED CONFLICT' ],
	[ '8.2.1/3.3', 'CO CaO', 'FAILED INCOMPATIBLE_STATE' ],
	[ '8.2.1/3.9', 'DO CO RP CaO', 'FAILED IDENTIFIER_NOT_FOUND' ],
	[ '8.2.5/3.8', 'DO', 'FAILED INVALID_ARGUMENT' ],
	[ '8.2.5/3.9', 'DO', 'FAILED NOT_FOUND' ],
	[ '8.2.6/2.1', 'CO', 'FAILED INVALID_ARGUMENT' ],
	[ '8.2.6/2.2', 'CaO', 'FAILED MISSING_IDENTIFIER' ],
	[ '8.2.6/3.3', 'CO', 'FAILED ALREADY_EXISTS' ],
	[ '8.2.6/3.10', 'CaO', 'FAILED IDENTIFIER_MISMATCH' ],
	[ '8.2.6/3.1', 'CaO', 'FAILED IDENTIFIER_MISMATCH' ],
	[ '1.3.2/3.1', 'DO RP', 'FAILED SERVICE_NOT_APPLICABLE' ],
	[ '1.6/2.1', 'DO CaO', 'FAILED NOT_IMPLEMENTED' ],
	[ '8.7/3.11', 'RP', 'FAILED SERVICE_NOT_APPLICABLE' ],
	[ '8.7/3.5', 'CaO', 'FAILED INCOMPATIBLE_STATE' ],
	[ '8.8/6.1', 'CO', 'FAILED PERMISSION_DENIED' ],
	[ '9.9/9.9', 'RP', 'FAILED SERVICE_NOT_APPLICABLE' ],
	[ '8.2.5/3.7', 'DO', 'PARKED' ],
	[ '1.1/1.1', 'DO CO RP CaO', 'PARKED' ],
	[ '1.2/3.8', 'DO', 'PARKED' ])
{
	my ($code, $functions, $expect) = @$row;

	foreach my $path (map { $name{$_} } split / /, $functions)
	{
		at($path, $code, [ { fault => 'status', status => 200, code => $code, count => 0 } ], expect => $expect, code => 1, path => $path,
			state => $path =~ /release|cancel/ ? '(?:RESERVED|RELEASED)' : $expect eq 'PARKED' ? 'RESERVING' : 'FAILED', deeds => $before{$path},
			rsp => $code);
	}
}

# what is not the end: done already, tried again, found out
at('releaseProfile', '8.2.1/3.5', [ { fault => 'status', status => 200, code => '8.2.1/3.5', count => 0 } ], deeds => [ 'ordered', 'order-confirmed' ]);
foreach my $row ([ '8.9/4.2', 'CO RP CaO' ], [ '8.9.1/5.1', 'CO RP CaO' ], [ '8.9/5.1', 'CO RP CaO' ], [ '8.2.7/4.10', 'DO CaO' ], [ '8.1/4.3', 'DO CO RP CaO' ], [ '8.8/5.1', 'DO CO RP CaO' ])
{
	at($name{$_}, "$row->[0] once", [ { fault => 'status', status => 200, code => $row->[0] } ]) foreach split / /, $row->[1];
}
at($_, 'Expired', [ { fault => 'body', before => $true, body => '{"header": {"functionExecutionStatus": {"status": "Expired"}}}' } ]) foreach values %name;
at('downloadOrder', '8.1/4.3 where the SM-DP+ chooses', [ { fault => 'status', status => 200, code => '8.1/4.3' } ], form => 'reserve with a MatchingID of ours',
	expect => 'FAILED OUTCOME_UNKNOWN', state => 'FAILED', deeds => [], rsp => '8.1/4.3');
at('confirmOrder', '8.2.6/3.3 once: another MatchingID', [ { fault => 'status', status => 200, code => '8.2.6/3.3' } ]);
at('confirmOrder', '8.2.6/3.3 of a given one', [ { fault => 'status', status => 200, code => '8.2.6/3.3', count => 0 } ], form => 'reserve with a given MatchingID',
	expect => 'FAILED ALREADY_EXISTS', state => 'FAILED', deeds => ['ordered'], rsp => '8.2.6/3.3');
at('confirmOrder', '8.2.6/3.3 of a given one after a lost answer', [ { fault => 'reset_after_effect' }, { fault => 'status', status => 200, code => '8.2.6/3.3', count => 0 } ],
	form => 'reserve with a given MatchingID', expect => 'FAILED OUTCOME_UNKNOWN', state => 'FAILED', rsp => '8.2.6/3.3');
at('confirmOrder', '8.2.6/3.3 of ours after a lost answer', [ { fault => 'reset_after_effect' }, { fault => 'status', status => 200, code => '8.2.6/3.3', count => 0 } ]);
at('cancelOrder', '8.2.6/2.2: once more with the empty one', [ { fault => 'status', status => 200, code => '8.2.6/2.2' } ], form => 'cancel-order of a RELEASED and bound profile, Available');
at('cancelOrder', "$_ after a lost answer", [ { fault => 'reset_after_effect' }, { fault => 'status', status => 200, code => $_, count => 0 } ])
	foreach ('8.1.1/3.10', '8.1.1/3.1', '8.2.6/3.10', '8.2.1/3.9');
at('cancelOrder', '8.2.1/3.3 after a lost answer, RELEASED', [ { fault => 'reset_after_effect' }, { fault => 'status', status => 200, code => '8.2.1/3.3', count => 0 } ],
	expect => 'FAILED OUTCOME_UNKNOWN', state => 'RELEASED', rsp => '8.2.1/3.3');
at('cancelOrder', '8.2.1/3.3 after a lost answer, RESERVED', [ { fault => 'reset_after_effect' }, { fault => 'status', status => 200, code => '8.2.1/3.3', count => 0 } ],
	form => 'cancel-order of a RESERVED profile, Available');
at('downloadOrder', '8.2.1/3.3 after a lost answer: confirmed', [ { fault => 'reset_after_effect' }, { fault => 'status', status => 200, code => '8.2.1/3.3', count => 0 } ]);

# ---- HTTP ----

at('downloadOrder', "HTTP $_", [ { fault => 'status', status => $_, count => 0 } ], expect => 'PARKED', state => 'RESERVING', deeds => [])
	foreach (401, 403, 404, 405, 406, 407, 411, 413, 414, 415, 421, 426, 431, 501, 505);
at('downloadOrder', "HTTP $_ once", [ { fault => 'status', status => $_ } ]) foreach (408, 425, 429);
at('confirmOrder', "HTTP $_ once", [ { fault => 'status', status => $_, effect => $true } ]) foreach (400, 409, 500, 502, 504);
at('confirmOrder', 'HTTP 429 with Retry-After: 1', [ { fault => 'status', status => 429, retry_after => 1 } ]);
at('downloadOrder', 'HTTP 429 with an endless Retry-After', [ { fault => 'status', status => 429, retry_after => '99999999999' } ], expect => 'RETRYING', state => 'RESERVING', deeds => [], later => 1);
at('downloadOrder', 'HTTP 400 where the SM-DP+ chooses', [ { fault => 'status', status => 400 } ], form => 'reserve with a MatchingID of ours',
	expect => 'FAILED OUTCOME_UNKNOWN', state => 'FAILED', deeds => []);
at('confirmOrder', 'Failed with HTTP 500', [ { fault => 'status', status => 500, code => '8.2.6/2.1', count => 0 } ], expect => 'FAILED INVALID_ARGUMENT', state => 'FAILED', deeds => ['ordered'], rsp => '8.2.6/2.1');
at('confirmOrder', 'success with HTTP 500', [ { fault => 'body', before => $true, status => 500, body => '{"header": {"functionExecutionStatus": {"status": "Executed-Success"}}, "matchingId": "X"}' } ]);

# ---- manners of vendors ----

foreach my $manner ([ 'plain_iccid' ], [ 'full_iccid' ], [ 'bare_iccid' ], [ 'digits_only' ], [ 'cmlink' ], [ 'accept_repeats' ], [ 'old_codes' ], [ 'warn', '8.2.9/4.3' ])
{
	my ($setting, $rsp) = @$manner;
	my @rsp = defined $rsp ? (rsp => $rsp) : ();
	my %smdp = ($setting => $true, $setting =~ /^(?:bare_iccid|digits_only)$/ ? (plain_iccid => $true) : ());

	at('downloadOrder', $setting, [], smdp => {%smdp}, @rsp);
	at('confirmOrder', "$setting, answer lost", [ { fault => 'reset_after_effect' } ], smdp => {%smdp});
	at('cancelOrder', "$setting, answer lost", [ { fault => 'reset_after_effect' } ], smdp => {%smdp});
	at('releaseProfile', $setting, [], smdp => {%smdp}, @rsp);
}
at('downloadOrder', 'the path in the url', [], options => { url => "$simulator->{url}/in_url/gsma/rsp2/es2plus" }, server => 'in_url');
at('downloadOrder', 'another path in the url', [], options => { url => "$simulator->{url}/in_other_url/gsma/rsp/v2/es2plus" }, server => 'in_other_url');
at('downloadOrder', 'a slash behind the url', [], options => { url => "$simulator->{url}/with_slash/" }, server => 'with_slash');
# a refusal without a reason proves nothing after a lost answer
at('downloadOrder', 'no codes, answer lost', [ { fault => 'reset_after_effect' } ], smdp => { no_codes => $true });
at('downloadOrder', 'no codes, request lost', [ { fault => 'timeout_before_effect' } ], smdp => { no_codes => $true });
at($_, 'no codes, answer lost', [ { fault => 'reset_after_effect' } ], smdp => { no_codes => $true }, expect => 'FAILED OUTCOME_UNKNOWN', state => undef) foreach ('confirmOrder', 'cancelOrder', 'releaseProfile');
at('confirmOrder', 'no codes', [ { fault => 'status', status => 200, code => '8.2.6/2.1', count => 0 } ], smdp => { no_codes => $true }, expect => 'FAILED INVALID_ARGUMENT', state => 'FAILED', deeds => ['ordered']);
at('confirmOrder', 'the server makes the MatchingID', [], options => { matching_id_source => 'server' });
at('confirmOrder', 'the server makes the MatchingID, answer lost', [ { fault => 'reset_after_effect' } ], options => { matching_id_source => 'server' }, expect => 'FAILED OUTCOME_UNKNOWN', state => 'FAILED');
at('confirmOrder', 'the server makes the MatchingID, bound, answer lost', [ { fault => 'reset_after_effect' } ], options => { matching_id_source => 'server' }, form => 'reserve an ICCID for an eUICC');
at('downloadOrder', 'another requester', [], smdp => { requester => 'somebody' }, expect => 'PARKED', state => 'RESERVING', deeds => [], rsp => '1.1/1.1');

# ---- hostile answers: the SM-DP+ has done what was asked for, and says something else ----

my $execution = sub { my ($value) = @_; return { header => { functionExecutionStatus => $value } }; };
my $deep = '[' x 5000;
my @broken = (
	(map { [ $_, { fault => $_ } ] } qw(malformed_json truncated_json empty_body wrong_types duplicate_keys invalid_utf8 nul_bytes oversized_json deep_json endless_body truncated_body slow_drip)),
	[ 'an array', { fault => 'body', body => '[]' } ], [ 'null', { fault => 'body', body => 'null' } ], [ 'a string', { fault => 'body', body => '"Executed-Success"' } ],
	[ 'an empty object', { fault => 'body', body => '{}' } ], [ 'blanks', { fault => 'body', body => " \n\t " } ], [ 'a page', { fault => 'body', body => '<html>ok</html>' } ],
	[ 'two texts', { fault => 'body', body => '{"header": {"functionExecutionStatus": {"status": "Executed-Success"}}}{}' } ],
	[ 'a trailing comma', { fault => 'body', body => '{"header": {"functionExecutionStatus": {"status": "Executed-Success"}},}' } ],
	[ 'half a surrogate', { fault => 'body', body => '{"header": {"functionExecutionStatus": {"status": "Executed-Success"}}, "x": "\ud800"}' } ],
	[ 'an escaped NUL', { fault => 'body', body => '{"header": {"functionExecutionStatus": {"status": "Executed-Success"}}, "x": "\u0000"}' } ],
	[ 'a number beyond all numbers', { fault => 'body', body => '{"header": {"functionExecutionStatus": {"status": "Executed-Success"}}, "x": 1e999}' } ],
	[ 'no header', { fault => 'merge_json', merge => { header => undef } } ], [ 'header is a text', { fault => 'merge_json', merge => { header => 'Executed-Success' } } ],
	[ 'no execution status', { fault => 'merge_json', merge => $execution->(undef) } ], [ 'no status', { fault => 'merge_json', merge => $execution->({ status => undef }) } ],
	[ 'status is a number', { fault => 'merge_json', merge => $execution->({ status => 0 }) } ], [ 'status is true', { fault => 'merge_json', merge => $execution->({ status => $true }) } ],
	[ 'status is a list', { fault => 'merge_json', merge => $execution->({ status => ['Executed-Success'] }) } ], [ 'an unknown status', { fault => 'merge_json', merge => $execution->({ status => 'Executed' }) } ],
	[ 'a long status', { fault => 'merge_json', merge => $execution->({ status => 'Executed-Success' . ' ' x 1000 }) } ],
	[ 'redirect', { fault => 'redirect', effect => $true } ], [ 'redirect to itself', { fault => 'redirect', effect => $true, location => '/' } ],
	[ 'a thousand interim answers', { fault => 'informational', bytes => 1000 } ],
	[ 'too many headers', { fault => 'merge_json', merge => {}, headers => { map { ("X-Header-$_" => 'x') } 1 .. 200 } } ],
	[ 'HTTP 201 without a body', { fault => 'body', status => 201, body => '', effect => $true } ], [ 'HTTP 204', { fault => 'body', status => 204, body => '', effect => $true } ]);
# what does not matter
my @odd = (
	[ 'lower case', { fault => 'merge_json', merge => $execution->({ status => 'executed-success' }) } ], [ 'a mere word', { fault => 'merge_json', merge => $execution->('Executed-Success') } ],
	[ 'success with the codes of a failure', { fault => 'merge_json', merge => $execution->({ statusCodeData => { subjectCode => '8.2.1', reasonCode => '3.3', message => 'Failed' } }) } ],
	[ 'codes of other types', { fault => 'merge_json', merge => $execution->({ statusCodeData => { subjectCode => 8.2, reasonCode => [], message => {} } }) } ],
	[ 'statusCodeData is null', { fault => 'merge_json', merge => { header => { functionExecutionStatus => { statusCodeData => [] } } } } ],
	[ 'members that nobody knows', { fault => 'merge_json', merge => { header => { version => 3 }, extension => { a => [ 1, 2, { b => 'c' } ] }, 'a' x 300 => 1 } } ],
	[ 'a charset', { fault => 'wrong_content_type', content_type => 'application/json; charset=utf-8' } ], [ 'text/html', { fault => 'wrong_content_type' } ],
	[ 'no X-Admin-Protocol to speak of', { fault => 'merge_json', merge => {}, headers => { 'X-Admin-Protocol' => 'gsma/rsp/v9' } } ],
	[ 'a lie about the encoding', { fault => 'merge_json', merge => {}, headers => { 'Content-Encoding' => 'gzip', 'Set-Cookie' => 'a=b' } } ],
	[ 'five interim answers', { fault => 'informational', bytes => 5 } ]);

foreach my $answer (@broken, @odd)
{
	my ($name, $rule) = @$answer;

	at('downloadOrder', $name, [ { effect => $true, %$rule } ]) if $rule->{fault} =~ /./ && $rule->{fault} eq 'body' || @{ $smdp->{cases} } % 2;
	at('confirmOrder', $name, [ { effect => $true, %$rule } ]);
}
foreach my $answer (@broken[ 0, 2, 4, 12, 24 ], @odd[ 0, 2 ])
{
	my ($name, $rule) = @$answer;

	at($_, $name, [ { effect => $true, %$rule } ]) foreach ('releaseProfile', 'cancelOrder');
}

# the same of a download
foreach my $path ('downloadOrder', 'confirmOrder')
{
	at($path, "$_->[0], of a download", [ { effect => $true, %{ $_->[1] } } ], form => 'download', expect => 'WAITING_DEVICE') foreach (@broken[ 0, 3, 6, 7, 9, 30 ], @odd[ 0, 10 ]);
	at($path, "$_->[0] of a download", [ { fault => 'status', status => 200, code => $_->[0], count => 0 } ], form => 'download', expect => $_->[1], deeds => $before{$path}, rsp => $_->[0], state => undef)
		foreach ([ '8.1.1/3.9', 'FAILED IDENTIFIER_NOT_FOUND' ], [ '8.2.1/1.2', 'FAILED PERMISSION_DENIED' ],
		$path eq 'downloadOrder' ? [ '8.2.5/3.7', 'PARKED' ] : [ '8.2.1/3.10', 'FAILED IDENTIFIER_MISMATCH' ]);
}
at('releaseProfile', '8.2.1/1.2 of a download', [ { fault => 'status', status => 200, code => '8.2.1/1.2', count => 0 } ], form => 'download of what is reserved for it', expect => 'FAILED PERMISSION_DENIED',
	deeds => $before{releaseProfile}, rsp => '8.2.1/1.2', state => 'RESERVED');
at('releaseProfile', '8.2.1/3.5 of a download: it is released', [ { fault => 'status', status => 200, code => '8.2.1/3.5', count => 0 } ], form => 'download of what is reserved for it', expect => 'WAITING_DEVICE',
	deeds => $before{releaseProfile});
at('downloadOrder', 'another ICCID of a download that leaves it open', [ { fault => 'wrong_iccid' } ], form => 'download of any', expect => 'FAILED IDENTIFIER_NOT_FOUND', state => 'FAILED', deeds => ['ordered']);

# another profile, another eUICC, codes that cannot be one
at('downloadOrder', $_->[0], [ { fault => 'merge_json', merge => { iccid => $_->[1] } } ])
	foreach ([ 'the ICCID of another device', iccid(100000) ], [ 'an ICCID that is a number', 8944500000 ], [ 'an empty ICCID', '' ], [ 'a short ICCID', '8944' ],
	[ 'a long ICCID', '894450000000000000000' ], [ 'an ICCID of letters', '89445000ABCDEF00000F' ], [ 'an ICCID with a line break', "8944500000000000001\n" ], [ 'a list of ICCIDs', [ iccid(1) ] ]);
at('downloadOrder', 'another ICCID where the SM-DP+ chooses: none', [ { fault => 'merge_json', merge => { iccid => undef } } ], form => 'reserve with a MatchingID of ours',
	expect => 'FAILED OUTCOME_UNKNOWN', state => 'FAILED', deeds => ['ordered']);
at('confirmOrder', $_->[0], [ { fault => 'merge_json', merge => { $_->[1] => $_->[2] } } ], form => 'reserve an ICCID for an eUICC', code => undef)
	foreach ([ 'the EID of another eUICC', eid => eid(9999) ], [ 'an EID that is a number', eid => 89 ], [ 'half an EID', eid => '8904' ], [ 'an empty EID', eid => '' ]);
at('confirmOrder', $_->[0], [ { fault => 'merge_json', merge => { matchingId => $_->[1] } } ])
	foreach ([ 'a MatchingID with a $', 'A$B' ], [ 'a MatchingID that is a number', 4711 ], [ 'a MatchingID that is an object', {} ], [ 'a MatchingID without end', 'A' x 300 ],
	[ 'a MatchingID with a blank', 'A B' ], [ 'a MatchingID with a line break', "AB\n" ], [ 'a MatchingID with an escape', "AB\x1b[2J" ]);
at('confirmOrder', $_->[0], [ { fault => 'merge_json', merge => { smdpAddress => $_->[1] } } ], address => 'fallback.example.com')
	foreach ([ 'an address with a $', 'smdp.example.com$X' ], [ 'an address that is a number', 1 ], [ 'an address that is a URL', 'https://smdp.example.com/' ], [ 'an address without end', 'a' x 300 ],
	[ 'an address with a line break', "smdp.example.com\r\nX: y" ], [ 'no address', undef ], [ 'an empty address', '' ]);
at('confirmOrder', 'a MatchingID of its own', [ { fault => 'merge_json', merge => { matchingId => 'OTHER-ONE' } } ], matching_id => 'OTHER-ONE');
at('confirmOrder', 'no MatchingID', [ { fault => 'merge_json', merge => { matchingId => undef } } ]);

# failures that say little, or much
at('confirmOrder', 'Failed without codes', [ { fault => 'body', before => $true, count => 0, body => '{"header": {"functionExecutionStatus": {"status": "Failed"}}}' } ], expect => 'FAILED SERVICE_NOT_APPLICABLE', state => 'FAILED',
	deeds => ['ordered'], rsp => '');
at('confirmOrder', 'Failed with numbers for codes', [ { fault => 'body', before => $true, count => 0, body => '{"header": {"functionExecutionStatus": {"status": "Failed", "statusCodeData": {"subjectCode": 8.2, "reasonCode": 3.10}}}}' } ],
	expect => 'FAILED SERVICE_NOT_APPLICABLE', state => 'FAILED', deeds => ['ordered'], rsp => '');
at('confirmOrder', 'Failed with a long and dirty message', [ { fault => 'body', before => $true, count => 0, body => encode_json({ header => { functionExecutionStatus => { status => 'Failed',
	statusCodeData => { subjectCode => '8.2.6', reasonCode => '2.1', message => "a\n\x1b[2J" . 'b' x 5000 } } } }) } ], expect => 'FAILED INVALID_ARGUMENT', state => 'FAILED', deeds => ['ordered'], rsp => '8.2.6/2.1');
at('confirmOrder', 'Failed with codes that are none', [ { fault => 'body', before => $true, count => 0, body => encode_json({ header => { functionExecutionStatus => { status => 'Failed',
	statusCodeData => { subjectCode => "'; DROP TABLE x; --", reasonCode => '3.10.' x 20 } } } }) } ], expect => 'FAILED SERVICE_NOT_APPLICABLE', state => 'FAILED', deeds => ['ordered'], rsp => '');

# answers without sense, for ever
at('downloadOrder', 'nonsense for ever', [ { fault => 'body', before => $true, count => 0, body => 'nonsense' }, { fault => 'body', before => $true, count => 0, body => 'nonsense', path => 'confirmOrder' } ],
	expect => 'FAILED OUTCOME_UNKNOWN', state => 'FAILED', deeds => [], hurry => 1);

# no answer, for ever: it is waited for
at('downloadOrder', 'no answer for ever', [ { fault => 'reset_before_effect', count => 0 }, { fault => 'reset_before_effect', count => 0, path => 'confirmOrder' } ],
	expect => 'UNKNOWN', state => 'RESERVING', deeds => [], hurry => 1, patient => 1, reason => qr/answer was lost/);

note(scalar(@{ $smdp->{cases} }) . ' cases');
my @workers = worker_pids($node, $db);
$smdp->start;

# what would wait for minutes is hurried
my @hurry = map { "'$_->{id}'" } grep { $_->{hurry} } @{ $smdp->{cases} };
my $hurried = sub {
	$node->safe_psql($db, "UPDATE esim_pending SET next_at = now() WHERE operation IN (" . join(', ', @hurry) . ") AND state = 'W' AND next_at > now() + interval '1 second'");
};
$smdp->{between} = $hurried;
my @cases = $smdp->check(150);

foreach my $case (grep { defined $_->{address} || defined $_->{matching_id} } @cases)
{
	is(value($node, $db, "SELECT p.smdp_address FROM esim_operation o JOIN esim_profile p ON p.id = o.profile WHERE o.id = '$case->{id}'"), $case->{address}, "$case->{name}: the server's option instead") if defined $case->{address};
	is(value($node, $db, "SELECT p.matching_id FROM esim_operation o JOIN esim_profile p ON p.id = o.profile WHERE o.id = '$case->{id}'"), $case->{matching_id}, "$case->{name}: it counts") if defined $case->{matching_id};
}
# an order of another profile: what is known of that one stays
$smdp->add({ name => 'the profile that a lie is about', form => 'reserve an ICCID', expect => 'SUCCESS', state => 'RELEASED', server => 'liar' });
$smdp->start;
my ($victim) = $smdp->check;
foreach my $form ('reserve with a MatchingID of ours', 'download of any')
{
	$smdp->add({ name => "$form, the answer names a profile of ours", form => $form, expect => 'FAILED (?:INCOMPATIBLE_STATE|OUTCOME_UNKNOWN)', server => 'liar',
		rules => [ { path => 'downloadOrder', fault => 'merge_json', merge => { iccid => $victim->{iccid} }, count => 1 } ] });
	$smdp->start;
	$smdp->check;
}
is(value($node, $db, "SELECT state FROM esim_profile WHERE id = (SELECT profile FROM esim_operation WHERE id = '$victim->{id}')"), 'RELEASED', 'the profile that the lie is about is as it was');
is(value($node, $db, "SELECT count(*) FROM esim_profile WHERE iccid = '$victim->{iccid}' AND state <> 'FAILED'"), '1', 'no other that lives has its ICCID');
my $cancel = value($node, $db, "SELECT esim_cancel_order('$victim->{iccid}')");
is(value($node, $db, "SELECT count(DISTINCT profile) FROM esim_operation WHERE id IN ('$cancel', '$victim->{id}')"), '1', 'and it is the one that its ICCID names');

my $coded = join ', ', map { "'$_->{id}'" } grep { $_->{code} && $_->{expect} =~ /^FAILED/ } @cases;
is(value($node, $db, "SELECT count(*) FROM esim_operation WHERE id IN ($coded) AND rsp_message IS DISTINCT FROM 'A fault was asked for.'"), '0', 'the words of the SM-DP+ are kept');
is(value($node, $db, q(SELECT count(*) FROM esim_operation WHERE error_message ~ '[\x01-\x1f]' OR rsp_message ~ '[\x01-\x1f]' OR phase_reason ~ '[\x01-\x1f]')), '0', 'no control characters in what is shown');
is(value($node, $db, q(SELECT count(*) FROM esim_profile WHERE activation_code IS NOT NULL AND activation_code::text !~ '^1\$[a-z.]+\$[A-Z0-9-]+(\$\$1)?$')), '0', 'every activation code is one');
is(value($node, $db, "SELECT max(next_at) < now() + interval '27 hours' FROM esim_operation WHERE status = 'ACCEPTED'"), 't', 'no wait without end');
is(value($node, $db, q(SELECT count(*) FROM (SELECT call_id FROM esim_attempt WHERE call_id IS NOT NULL GROUP BY call_id HAVING count(*) > 1) c)), '0', 'every try has a functionCallIdentifier of its own');
ledger_is_exact($simulator, 'ledger');
is(join(' ', worker_pids($node, $db)), join(' ', @workers), 'the workers are those of the beginning');
is(value($node, $db, q(SELECT string_agg(DISTINCT last_error, '; ') FROM esim_worker_status())), '', 'without an error');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/ERROR:  (?!.*(?:esim_receive|psql))/, 'nor one in the log');

# a worker that hears late of a new server resumes what is parked: wait until it is parked again
ok(wait_until($node, $db, "SELECT count(*) FROM esim_operation o CROSS JOIN LATERAL (SELECT max(at) AS last FROM esim_attempt a WHERE a.operation = o.id) a
	WHERE phase = 'PARKED' AND rsp_code = '8.2.5/3.7' AND next_at BETWEEN last + interval '12 minutes' AND last + interval '7 hours'", '2'), 'stock is looked at again by itself');

# what is parked goes on when stock has come, or an administrator says so
$simulator->clear_faults;
my @parked = map { "'$_->{id}'" } grep { $_->{expect} eq 'PARKED' && $_->{name} !~ /another requester/ } @cases;
my ($patient) = grep { $_->{patient} } @cases;
cmp_ok(value($node, $db, "SELECT attempts FROM esim_operation WHERE id = '$patient->{id}'"), '>', 1, 'a server that does not answer is asked again and again');
push @parked, "'$patient->{id}'";
@hurry = ("'$patient->{id}'");
$hurried->();
$node->safe_psql($db, 'SELECT esim_resume()');
ok(wait_until($node, $db, 'SELECT count(*) FROM esim_operation WHERE id IN (' . join(', ', @parked) . ") AND result IS DISTINCT FROM 'SUCCESS' AND phase <> 'WAITING_DEVICE'", '0'), scalar(@parked) . ' operations that were parked or waited succeed')
  or diag(query($node, $db, "SELECT o.id, o.server, o.phase, o.phase_reason, o.next_at, o.result, o.error_code, o.error_message, p.state, p.next_at, p.unresolved, now() FROM esim_operation o LEFT JOIN esim_pending p ON p.operation = o.id WHERE o.id IN (" . join(', ', @parked) . ") AND o.result IS DISTINCT FROM 'SUCCESS'"));
ledger_is_exact($simulator, 'ledger after it');

# ---- after a promotion nothing can be asked ----

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('answers_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
my $promoted = EsimSmdp->new(node => $node, database => $db, simulator => $simulator, first => 5000);
$promoted->add({ name => 'waits for its device', form => 'download', expect => 'WAITING_DEVICE' },
	{ name => 'requests were sent', form => 'reserve an ICCID', expect => 'RETRYING', rules => [ { path => 'confirmOrder', fault => 'status', status => 200, code => '8.9/4.2' } ] });
$promoted->start;
$promoted->check;
$promoted->add({ name => 'nothing was sent', form => 'reserve an ICCID', expect => 'QUEUED' });
$EsimSmdp::forms{'reserve an ICCID'}{call} = sub { my ($c) = @_; return "esim_reserve(iccid => '$c->{iccid}', generate_matching_id => true, server => '$c->{server}', not_before => now() + interval '8 seconds')"; };
$promoted->start;
my ($waits, $sent, $unsent) = @{ $promoted->{cases} };
$node->wait_for_catchup($standby);
$node->stop('immediate');
$standby->promote;
ok(wait_until($standby, $db, "SELECT concat_ws(' ', result, error_code) FROM esim_operation WHERE id = '$sent->{id}'", 'FAILED OUTCOME_UNKNOWN'), 'promoted: requests were sent: OUTCOME_UNKNOWN');
ok(wait_until($standby, $db, "SELECT phase FROM esim_operation WHERE id = '$unsent->{id}'", 'PARKED'), 'promoted: nothing was sent: PARKED');
like(value($standby, $db, "SELECT phase_reason FROM esim_operation WHERE id = '$unsent->{id}'"), qr/promoted.*esim_resume/, 'promoted: and says what to do');
is(value($standby, $db, "SELECT status || ' ' || phase FROM esim_operation WHERE id = '$waits->{id}'"), 'ACCEPTED WAITING_DEVICE', 'promoted: the download waits on');
$standby->safe_psql($db, 'SELECT esim_resume()');
ok(wait_until($standby, $db, "SELECT result FROM esim_operation WHERE id = '$unsent->{id}'", 'SUCCESS'), 'promoted: esim_resume() sends it');
is(value($standby, $db, "SELECT esim_receive('$waits->{server}', jsonb_build_object('header', jsonb_build_object('functionRequesterIdentifier', 'smdp', 'functionCallIdentifier', '1'), 'iccid', '$waits->{iccid}', 'eid', '$waits->{eid}', 'notificationPointId', 4, 'notificationPointStatus', jsonb_build_object('status', 'Executed-Success')))"),
	'applied', 'promoted: a notification counts');
ok(wait_until($standby, $db, "SELECT result FROM esim_operation WHERE id = '$waits->{id}'", 'SUCCESS'), 'promoted: and ends the download');
ledger_is_exact($simulator, 'ledger after the promotion');

ok(!$standby->log_contains(qr/PANIC|was terminated by signal/), 'no crash');
$standby->stop;
done_testing();
