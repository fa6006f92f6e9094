# test/t/045_camara.pl
# CAMARA in both dialects, end to end: every operation, lost answers at every request of it, every
# answer of the tables in doc/protocols.md, hostile answers.
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
my $node = new_node('camara', preload => 1, settings => ['esim.poll_interval = 500ms']);
my ($true, $false, $null) = (JSON::PP::true, JSON::PP::false, JSON::PP::null);

# call (EID, ICCID), state of the profile before and after, effects on the eUICC, requests by dialect
my $get = [ 'GET', '/operations/' ];
my %kinds = (
	download => {
		call => sub { "esim_download('$_[0]', '$_[1]')" },
		after => 'DISABLED', effects => ['downloaded'], requests => [ [ 'POST', '/download' ], $get ] },
	'download and enable' => {
		call => sub { "esim_download('$_[0]', '$_[1]', activate_on_download => true)" },
		after => 'ENABLED', effects => [ 'downloaded', 'enabled' ], requests => [ [ 'POST', '/download' ], $get ],
		'r1.2' => [ [ 'POST', '/download' ], $get, [ 'POST', '/enable' ], [ @$get, 1 ] ] },
	'download without ICCID' => {
		call => sub { "esim_download('$_[0]', activation_code => '1\$smdp.example.com\$$_[1]')" },
		after => 'DISABLED', effects => ['downloaded'], dialect => 'r1.2',
		requests => [ [ 'POST', '/retrieve-status' ], [ 'POST', '/download' ], $get, [ 'POST', '/retrieve-status', 1 ] ] },
	enable => {
		call => sub { "esim_enable('$_[1]')" },
		before => 'DISABLED', after => 'ENABLED', effects => ['enabled'], requests => [ [ 'POST', '/enable' ], $get ] },
	disable => {
		call => sub { "esim_disable('$_[1]')" },
		before => 'ENABLED', after => 'DISABLED', effects => ['disabled'], requests => [ [ 'POST', '/disable' ], $get ] },
	delete => {
		call => sub { "esim_delete('$_[1]')" },
		before => 'DISABLED', after => 'DELETED', effects => ['deleted'], requests => [ [ 'POST', '/delete' ], $get ] },
	'delete of an enabled one' => {
		call => sub { "esim_delete('$_[1]')" },
		before => 'ENABLED', after => 'DELETED', effects => [ 'disabled', 'deleted' ],
		requests => [ [ 'POST', '/disable' ], $get, [ 'POST', '/delete' ], [ @$get, 1 ] ] },
	'delete of one that may be enabled' => {
		call => sub { "esim_delete('$_[1]')" },
		before => 'ENABLED', known => 'INSTALLED', after => 'DELETED', effects => [ 'disabled', 'deleted' ],
		requests => [ [ 'POST', '/retrieve-status' ], [ 'POST', '/disable' ], $get, [ 'POST', '/delete' ], [ @$get, 1 ] ] },
	'set-fallback' => {
		call => sub { "esim_set_fallback('$_[0]', '$_[1]')" },
		before => 'DISABLED', after => 'DISABLED', effects => ['fallback-set'], requests => [ [ 'POST', '/set-fallback' ], $get ] },
	refresh => {
		call => sub { "esim_refresh('$_[0]')" },
		before => 'ENABLED', known => 'DISABLED', after => 'ENABLED', effects => [], requests => [ [ 'POST', '/retrieve-status' ] ] });

my @cases;

# a case for both dialects, or for the one that it names; rules may be a function of the dialect
sub add
{
	my (%case) = @_;
	my $only = $case{dialect} // $kinds{ $case{kind} }{dialect};

	foreach my $dialect ('r1.2', '2026-02')
	{
		next if defined $only && $only ne $dialect;
		my $rules = ref $case{rules} eq 'CODE' ? $case{rules}->($dialect) : $case{rules} // [];
		push @cases, {
			expect => 'SUCCESS', %case, name => "$dialect: $case{kind}" . ($case{name} ? ", $case{name}" : ''),
			dialect => $dialect, rules => [ map { { count => 1, %$_ } } @$rules ] };
	}
	return;
}

sub who { return $_[0] eq 'r1.2' ? 'esimProfile' : 'esim'; }
sub list { return $_[0] eq 'r1.2' ? 'esimProfiles' : 'esims'; }
sub status { my ($path, $status, $code, %more) = @_; return { path => $path, fault => 'status', status => $status, code => $code, message => 'Because.', %more }; }

# ---- every operation, and its answers lost at every request of the sequence ----

foreach my $kind (sort keys %kinds)
{
	add(kind => $kind);
	foreach my $dialect ('r1.2', '2026-02')
	{
		next if ($kinds{$kind}{dialect} // $dialect) ne $dialect;
		foreach my $request (@{ $kinds{$kind}{$dialect} // $kinds{$kind}{requests} })
		{
			my ($method, $path, $after) = @$request;
			my $where = "$method $path" . ($after ? ' again' : '');
			my %at = (method => $method, path => $path, after => $after // 0);

			add(kind => $kind, dialect => $dialect, name => "$_ at $where", rules => [ { %at, fault => $_ } ])
			  foreach 'timeout_after_effect', 'reset_after_effect';
			add(kind => $kind, dialect => $dialect, name => "500 after the effect at $where",
				rules => [ { %at, fault => 'status', status => 500, effect => $true } ]);
			add(kind => $kind, dialect => $dialect, name => "$where does not arrive",
				rules => [ { %at, fault => 'timeout_before_effect' } ]) if $method eq 'POST';
		}
	}
}
add(kind => 'enable', name => 'retrieve-status lost as well, twice', rules => [
	{ path => '/enable', fault => 'reset_after_effect' }, { path => '/retrieve-status', fault => 'timeout_after_effect', count => 2 } ]);
add(kind => 'enable', name => 'and the answer to the repeated request', rules => [
	{ path => '/enable', fault => 'timeout_before_effect' }, { path => '/enable', fault => 'timeout_after_effect', after => 1 } ]);

# ---- the operation is not known any more ----

foreach my $kind ('enable', 'download', 'delete', 'download without ICCID')
{
	add(kind => $kind, name => '404 of the operation, the effect is there',
		rules => [ { fault => 'forget_operation', count => 0 } ]);
	add(kind => $kind, name => '404 of the operation, the effect comes later', phase => 'UNKNOWN',
		rules => [ { fault => 'forget_operation', count => 0 }, { path => "/" . ($kind =~ /(\w+)/)[0], fault => 'device_delay', ms => 4000 } ]);
	add(kind => $kind, name => '404 of the operation, nothing came of it', phase => 'UNKNOWN',
		rules => [ { fault => 'forget_operation' , count => 0 }, { path => "/" . ($kind =~ /(\w+)/)[0], fault => 'device_lost' } ]);
}

# ---- what is tried again ----

foreach my $answer ([ 408, 'TIMEOUT' ], [ 409, 'ABORTED' ], [ 425, 'TOO_EARLY' ], [ 429, 'TOO_MANY_REQUESTS' ], [ 503, 'UNAVAILABLE' ])
{
	my ($status, $code) = @$answer;

	add(kind => 'enable', name => "$status $code at POST", rules => [ status('/enable', @$answer) ], phase => 'RETRYING');
	add(kind => 'enable', name => "$status $code at GET", rules => [ status('/operations/', @$answer) ]);
	add(kind => 'refresh', name => "$status $code", rules => [ status('/retrieve-status', @$answer) ], phase => 'RETRYING');
}
add(kind => 'enable', name => '429 with Retry-After', seconds => 3, rules => [ status('/enable', 429, 'TOO_MANY_REQUESTS', retry_after => 3) ]);
add(kind => 'refresh', name => '503 with Retry-After', seconds => 3, rules => [ status('/retrieve-status', 503, 'UNAVAILABLE', retry_after => 3) ]);
foreach my $where ([ 'enable', '/enable' ], [ 'enable', '/operations/' ], [ 'refresh', '/retrieve-status' ])
{
	add(kind => $where->[0], name => "429 QUOTA_EXCEEDED at $where->[1]", phase => 'RETRYING', far => 800, rules => [ status($where->[1], 429, 'QUOTA_EXCEEDED') ]);
	add(kind => $where->[0], name => "401 at $where->[1]", phase => 'PARKED', rules => [ status($where->[1], 401, 'UNAUTHENTICATED', count => 0) ]);
	add(kind => $where->[0], name => "407 at $where->[1]", phase => 'PARKED', rules => [ status($where->[1], 407, '', count => 0) ]);
	add(kind => $where->[0], name => "401 at $where->[1] with a token that can be renewed", oauth => 2, rules => [ { path => $where->[1], fault => 'token_expired' } ]);
	add(kind => $where->[0], name => "401 at $where->[1] with the new token, too", oauth => '[2-9]', phase => 'PARKED',
		rules => [ { path => $where->[1], fault => 'token_expired', count => 0 } ]);
}

# ---- what may have been carried out ----

foreach my $answer ([ 500, 'INTERNAL' ], [ 502, 'BAD_GATEWAY' ], [ 503, '' ], [ 504, 'TIMEOUT' ], [ 507, 'X' ], [ 302, '' ])
{
	add(kind => 'enable', name => "$answer->[0] before the effect", rules => [ status('/enable', @$answer) ], phase => 'UNKNOWN');
	add(kind => 'delete', name => "$answer->[0] after the effect", rules => [ status('/delete', @$answer, effect => $true) ]);
	add(kind => 'enable', name => "$answer->[0] at GET", rules => [ status('/operations/', @$answer) ]);
}

# ---- what ends it ----

foreach my $answer (
	[ 400, 'INVALID_ARGUMENT' ], [ 400, 'OUT_OF_RANGE' ], [ 403, 'PERMISSION_DENIED' ], [ 403, 'INVALID_TOKEN_CONTEXT' ],
	[ 404, 'IDENTIFIER_NOT_FOUND' ], [ 404, 'NOT_FOUND' ], [ 405, 'METHOD_NOT_ALLOWED' ], [ 406, 'NOT_ACCEPTABLE' ],
	[ 409, 'INCOMPATIBLE_STATE' ], [ 409, 'CONFLICT' ], [ 409, 'ALREADY_EXISTS' ], [ 410, 'GONE' ], [ 412, 'FAILED_PRECONDITION' ],
	[ 415, 'UNSUPPORTED_MEDIA_TYPE' ], [ 418, '', 'INVALID_ARGUMENT' ], [ 422, 'SERVICE_NOT_APPLICABLE' ], [ 422, 'MISSING_IDENTIFIER' ],
	[ 422, 'UNSUPPORTED_IDENTIFIER' ], [ 422, 'UNNECESSARY_IDENTIFIER' ], [ 422, 'IDENTIFIER_MISMATCH' ], [ 501, 'NOT_IMPLEMENTED' ])
{
	my ($status, $code, $ours) = @$answer;

	add(kind => 'enable', name => "$status $code", rules => [ status('/enable', $status, $code) ],
		expect => 'FAILED', code => $ours // $code, after => 'DISABLED', said => $code);
}
foreach my $answer ([ 403, 'PERMISSION_DENIED' ], [ 404, 'IDENTIFIER_NOT_FOUND' ], [ 422, 'SERVICE_NOT_APPLICABLE' ])
{
	add(kind => 'refresh', name => "@$answer", rules => [ status('/retrieve-status', @$answer) ], expect => 'FAILED', code => $answer->[1], after => 'DISABLED');
	add(kind => 'enable', name => "@$answer at GET", rules => [ status('/operations/', @$answer) ]);
	add(kind => 'download without ICCID', name => "@$answer at retrieve-status", rules => [ status('/retrieve-status', @$answer) ],
		$answer->[0] == 404 ? () : (expect => 'FAILED', code => $answer->[1], after => 'RELEASED', effects => []));
}

# it is so already: the device has changed by itself, or the profile is gone
add(kind => 'enable', name => 'it is ENABLED already', event => 'local_enable', already => 1);
add(kind => 'disable', name => 'it is DISABLED already', event => 'local_disable', already => 1);
add(kind => 'delete', name => 'it is gone already', event => 'delete', already => 1);
add(kind => 'delete of an enabled one', name => 'it is gone already', event => 'delete', already => 1);
add(kind => 'delete of an enabled one', name => 'it is DISABLED already', event => 'local_disable', effects => ['deleted'], already => 1);
add(kind => 'delete', name => 'it is ENABLED', event => 'local_enable', expect => 'FAILED', code => 'INCOMPATIBLE_STATE', after => 'ENABLED', effects => [], already => 1);
add(kind => 'set-fallback', name => 'it is ENABLED', event => 'local_enable', expect => 'FAILED', code => 'INCOMPATIBLE_STATE', after => 'ENABLED', effects => [], already => 1);
add(kind => 'enable', name => 'it is gone', event => 'delete', expect => 'FAILED', effects => [], already => 1,
	after => { 'r1.2' => 'DISABLED', '2026-02' => 'DISABLED|DELETED' });

# the device
add(kind => $_, name => 'the device fails', rules => [ { fault => 'device_fail', reason => 'No answer from the card.' } ],
	expect => 'FAILED', after => $kinds{$_}{before} // 'RELEASED', effects => [], words => qr/^No answer from the card\.$/)
  foreach 'download', 'enable', 'disable', 'delete', 'set-fallback';
add(kind => 'download', name => 'no memory', rules => [ { fault => 'memory_full' } ], expect => 'FAILED', after => 'RELEASED', effects => []);
add(kind => 'download and enable', name => 'the enable fails', dialect => 'r1.2', after => 'DISABLED', effects => ['downloaded'], expect => 'FAILED',
	rules => [ { path => '/enable', fault => 'device_fail', reason => 'No answer from the card.' } ]);
add(kind => 'delete of an enabled one', name => 'the delete fails', after => 'DISABLED', effects => ['disabled'], expect => 'FAILED',
	rules => [ { path => '/delete', fault => 'device_fail', reason => 'No answer from the card.' } ]);
add(kind => 'enable', name => 'the device is slow', phase => 'WAITING_DEVICE', rules => [ { path => '/enable', fault => 'device_delay', ms => 2500 } ]);

# ---- hostile answers ----

my @mangled = qw(malformed_json truncated_json empty_body wrong_types duplicate_keys invalid_utf8 nul_bytes wrong_content_type
	oversized_json deep_json endless_body truncated_body slow_drip redirect);
foreach my $fault (@mangled)
{
	add(kind => 'enable', name => "$fault at POST", rules => [ { path => '/enable', fault => $fault } ]);
	add(kind => 'enable', name => "$fault at GET", rules => [ { path => '/operations/', fault => $fault } ]);
	add(kind => 'refresh', name => $fault, rules => [ { path => '/retrieve-status', fault => $fault } ]);
	add(kind => 'enable', name => "$fault at retrieve-status, after a lost answer",
		rules => [ { path => '/enable', fault => 'reset_after_effect' }, { path => '/retrieve-status', fault => $fault } ]);
}
add(kind => 'enable', name => "$_->[1] informational answers at $_->[0]", rules => [ { path => $_->[0], fault => 'informational', bytes => $_->[1] } ])
  foreach [ '/enable', 3 ], [ '/enable', 100000 ], [ '/operations/', 100000 ];
add(kind => 'refresh', name => '100000 informational answers', rules => [ { path => '/retrieve-status', fault => 'informational' } ]);
add(kind => 'enable', name => "another body at $_->[0]: " . substr($_->[1], 0, 20) =~ s/[^ -~]/?/gr, rules => [ { path => $_->[0], fault => 'body', body => $_->[1] } ])
  foreach map { ([ '/enable', $_ ], [ '/operations/', $_ ]) } '[]', 'null', '7', '"ACCEPTED"', '{}', '[{}]', '{"operationId": null}', '{"status": 200, "code": "OK", "message": "fine"}',
	'<html>OK</html>', "\x{feff}{}", '{"operationId": "\u0000"}', '{"operationId": 1e400}';
add(kind => 'enable', name => "$_ without a body", rules => [ { path => '/enable', fault => 'body', body => '', status => $_ } ]) foreach 200, 201, 202, 204, 206, 304;
add(kind => 'enable', name => "$_ that is a page at GET", rules => [ { path => '/operations/', fault => 'body', body => '<html>', status => $_ } ]) foreach 200, 404, 500;

# members of an operation; at the POST its effect is there, at the GET the next poll is better
my $long = 'x' x 20000;
foreach my $change (
	[ 'operationId with a way up', { operationId => '../../../control/reset' } ],
	[ 'operationId ..', { operationId => '..' } ],
	[ 'operationId with a query', { operationId => 'a?b=c' } ],
	[ 'operationId with blanks and lines', { operationId => "a b\r\nX: y" } ],
	[ 'operationId of 65 characters', { operationId => 'a' x 65 } ],
	[ 'operationId of 20000 characters', { operationId => $long } ],
	[ 'an empty operationId', { operationId => '' } ],
	[ 'operationId as a number', { operationId => 42 } ],
	[ 'operationId as an object', { operationId => { id => 'x' } } ],
	[ 'no operationId', { operationId => undef } ],
	[ 'another operation', { operationId => '550e8400-e29b-41d4-a716-446655440000' } ],
	[ 'an identifier that is no UUID', { operationId => 'job:4_2.x-1' } ],
	[ 'another kind', { operation => 'delete' } ],
	[ 'the kind as a number', { operation => 4 } ],
	[ 'another eUICC', { who => { eid => eid(4711) } } ],
	[ 'another profile', { who => { iccid => iccid(4711) } } ],
	[ 'an EID that is none', { who => { eid => 'x' } } ],
	[ 'an ICCID that is none', { who => { iccid => $long } } ],
	[ 'the profile as an array', { who => ['x'] } ],
	[ 'no profile', { who => undef } ],
	[ 'no status', { status => undef } ],
	[ 'status as a number', { status => 200 } ],
	[ 'an unknown status', { status => 'PENDING' } ],
	[ 'an empty status', { status => '' } ],
	[ 'a status of 20000 characters', { status => $long } ],
	[ 'completed without a result', { status => 'COMPLETED', result => undef } ],
	[ 'completed without an outcome', { status => 'completed', result => { outcome => undef, completedAt => undef } } ],
	[ 'an unknown outcome', { status => 'COMPLETED', result => { outcome => 'DONE' } } ],
	[ 'outcome as a number', { status => 'COMPLETED', result => { outcome => 1 } } ],
	[ 'result as an array', { status => 'COMPLETED', result => [] } ],
	[ 'success and an error', { status => 'Completed', result => { outcome => 'Success' }, error => { status => 500, code => 'INTERNAL', message => 'x' } } ],
	[ 'failed and success', { status => 'failed', result => { outcome => 'SUCCESS' } } ],
	[ 'accepted with an outcome', { status => 'Accepted', result => { outcome => 'FAILED' } } ],
	[ 'mixed case', { status => 'cOmPlEtEd', result => { outcome => 'sUcCeSs' } } ],
	[ 'more members', { status => 'COMPLETED', result => { outcome => 'SUCCESS' }, constructor => { a => [ 1, $null ] }, __proto__ => 1, $long => 1 } ])
{
	my ($what, $merge) = @$change;
	my $rules = sub {
		my ($path, $dialect) = @_;
		my %merge = %$merge;
		$merge{ who($dialect) } = delete $merge{who} if exists $merge{who};
		return [ { path => $path, fault => 'merge_json', merge => \%merge } ];
	};

	add(kind => 'enable', name => "$what at POST", rules => sub { $rules->('/enable', @_) });
	add(kind => 'enable', name => "$what at GET", rules => sub { $rules->('/operations/', @_) });
}
add(kind => 'enable', name => "Location $_", rules => [ { path => '/enable', fault => 'merge_json', merge => {}, headers => { Location => $_ } } ])
  foreach '..', '/', 'operations/x', 'http://192.0.2.1/operations/1', 'file:///etc/passwd', '//evil.invalid/x', 'x' x 5000, '';
add(kind => 'enable', name => 'headers of any kind', rules => [ { path => '/enable', fault => 'merge_json', merge => {}, headers => {
	'x-correlator' => 'somebody else\'s', 'Retry-After' => '99999999999999999999', 'Content-Encoding' => 'identity', 'Set-Cookie' => "a=$long" } } ]);

# a failure is told with its reason, whatever it looks like
foreach my $failure (
	[ { status => 'COMPLETED', result => { outcome => 'FAILED', failureReason => "no\x{7}\n\x{1b}[31m luck \x{20ac}" } } ],
	[ { status => 'COMPLETED', result => { outcome => 'failed', failureReason => 'y' x 5000 } } ],
	[ { status => 'failed', result => undef, error => { status => 422, code => 'X' x 100, message => 'z' x 5000 } } ],
	[ { status => 'FAILED', result => { outcome => 'FAILURE' }, error => { status => 'x', code => 7, message => [] } } ],
	[ { status => 'failed', result => { outcome => 'failed', code => 'DEVICE_UNREACHABLE', message => 'told in the result' } }, qr/^told in the result$/ ],
	[ { status => 'completed', result => { outcome => 'failed', error => { status => 409, code => 'INCOMPATIBLE_STATE', message => 'told deeper' } } }, qr/^told deeper$/ ],
	[ { status => 'CANCELLED' } ], [ { status => 'COMPLETED', result => { outcome => 'canceled' } } ])
{
	my ($merge, $words) = @$failure;

	add(kind => 'enable', name => 'told as ' . substr(encode_json($merge), 0, 60), words => $words,
		rules => [ { path => '/enable', fault => 'device_lost' }, { path => '/operations/', fault => 'merge_json', merge => $merge } ],
		expect => 'FAILED|CANCELLED', after => 'DISABLED', effects => []);
}

# lists: what is said of others is not believed, what is left out is not taken for gone
my @others = map { { iccid => iccid(1000000 + $_), state => 'DISABLED', isFallback => $false } } 1 .. 1500;
foreach my $change (
	[ 'another eUICC\'s', sub { [ { eid => eid(4711), iccid => $_[2], state => 'ENABLED', isFallback => $true } ] } ],
	[ '257 profiles', sub { [ map { { eid => $_[1], %$_ } } @others[ 0 .. 256 ] ] } ],
	[ '1500 profiles', sub { [ map { { eid => $_[1], %$_ } } @others ] } ],
	[ 'an ICCID twice', sub { [ map { { eid => $_[1], iccid => $_[2], state => $_, isFallback => $false } } 'DISABLED', 'ENABLED' ] } ],
	[ 'no EIDs', sub { [ { iccid => $_[2], state => 'ENABLED', isFallback => $false } ] } ],
	[ 'no ICCIDs', sub { [ { eid => $_[1], state => 'ENABLED', isFallback => $false } ] } ],
	[ 'no states', sub { [ { eid => $_[1], iccid => $_[2] } ] } ],
	[ 'an unknown state', sub { [ { eid => $_[1], iccid => $_[2], state => 'BROKEN', isFallback => 'yes' } ] } ],
	[ 'numbers', sub { [ 1, 2, $null, 'x', [], { eid => 1, iccid => 2, state => 3, isFallback => 4 } ] } ],
	[ 'letters in it', sub { [ { eid => $_[1], iccid => '8944A' . 'F' x 15, state => 'enabled', isFallback => $false } ] } ],
	[ '21 digits', sub { [ { eid => $_[1], iccid => "$_[2]77", state => 'enabled', isFallback => $false } ] } ],
	[ 'an ICCID as a number', sub { [ { eid => $_[1], iccid => 8, state => 'enabled', isFallback => $false } ] } ])
{
	my ($what, $entries) = @$change;

	add(kind => 'refresh', name => "a list with $what", list => $entries, after => 'DISABLED|ENABLED|INSTALLED' . ($what =~ /^257/ ? '|DELETED' : ''), expect => 'SUCCESS|FAILED');
	# of a lost answer the list decides only when it makes sense
	add(kind => 'enable', name => "a lost answer, a list with $what", list => $entries, rules => [ { path => '/enable', fault => 'reset_after_effect' } ],
		after => 'ENABLED|INSTALLED');
	add(kind => 'delete', name => "a delete that was lost before it arrived, a list with $what", list => $entries,
		rules => [ { path => '/delete', fault => 'reset_before_effect' } ]);
}
add(kind => 'refresh', name => "a list that is " . encode_json({ x => $_ }), rules => sub { [ { path => '/retrieve-status', fault => 'merge_json', merge => { list($_[0]) => $_ } } ] })
  foreach {}, 'x', 7;

# an ICCID that r1.2's download was not asked for
add(kind => 'download', dialect => 'r1.2', name => 'assignedIccid of nobody', hurry => 1,
	rules => [ { path => '/operations/', fault => 'merge_json', merge => { result => { assignedIccid => iccid(4711) } }, count => 0 } ]);
add(kind => 'download without ICCID', name => 'assignedIccid of nobody', hurry => 1,
	rules => [ { path => '/operations/', fault => 'merge_json', merge => { result => { assignedIccid => iccid(4711) }, esimProfile => { iccid => iccid(4711) } }, count => 0 } ]);
add(kind => 'download without ICCID', name => 'no assignedIccid',
	rules => [ { path => '/operations/', fault => 'merge_json', merge => { result => { assignedIccid => undef }, esimProfile => { iccid => undef } }, count => 0 } ]);
add(kind => 'download', dialect => '2026-02', name => 'assignedIccid of nobody',
	rules => [ { path => '/operations/', fault => 'merge_json', merge => { result => { assignedIccid => iccid(4711) } } } ]);

# its ICCID has a row already: stock that was imported; or it is said to be on another eUICC
add(kind => 'download without ICCID', name => 'the ICCID is in stock', stock => "'RELEASED', NULL");
add(kind => 'download without ICCID', name => 'the ICCID is on another eUICC', stock => "'DISABLED', '@{[eid(4712)]}'", moved => 1);

# ---- run ----

create_database($node, $db);
my @pids = worker_pids($node, $db);
my (@setup, @euiccs, @faults, @calls, @events);
my $n = 0;
foreach my $case (@cases)
{
	my ($eid, $iccid, $other) = (eid($n), iccid(2 * $n), iccid(2 * $n + 1));
	my $kind = $kinds{ $case->{kind} };
	my $tenant = "case$n";
	my $known = $kind->{known} // $kind->{before};

	@$case{qw(eid iccid tenant)} = ($eid, $iccid, $tenant);
	my %options = (protocol => 'camara', dialect => $case->{dialect}, url => $simulator->base($tenant, $case->{dialect}), allow_http => 'true',
		timeout => '2 s', connect_timeout => '2 s', unknown_hold => '2 s');
	if ($case->{oauth})
	{
		%options = (%options, auth_method => 'client_secret_basic', token_url => "$simulator->{url}/$tenant/oauth2/token");
		$simulator->config($tenant, auth => { client_id => 'me', client_secret => 'secret', expires_in => 3600 });
	}
	push @setup, "CREATE SERVER $tenant FOREIGN DATA WRAPPER esim_rsp OPTIONS (" . join(', ', map { "$_ '$options{$_}'" } sort keys %options) . ')';
	push @setup, "CREATE USER MAPPING FOR PUBLIC SERVER $tenant OPTIONS (client_id 'me', client_secret 'secret')" if $case->{oauth};
	push @setup, "INSERT INTO esim_device (eid, server) VALUES ('$eid', '$tenant')",
	  "INSERT INTO esim_profile (iccid, eid, state) VALUES ('$other', '$eid', 'DISABLED')";
	push @setup, $known ? "INSERT INTO esim_profile (iccid, eid, state) VALUES ('$iccid', '$eid', '$known')"
	  : "INSERT INTO esim_profile (iccid, state, activation_code) VALUES ('$iccid', 'RELEASED', '1\$smdp.example.com\$$iccid')"
	  if $case->{kind} ne 'download without ICCID';
	push @setup, "INSERT INTO esim_profile (iccid, state, eid, msisdn) VALUES ('$iccid', $case->{stock}, '+491234')" if $case->{stock};
	push @euiccs, { eid => $eid, profiles => [ { iccid => $other, state => 'DISABLED' }, $kind->{before} ? { iccid => $iccid, state => $kind->{before} } : () ] };
	push @events, { eid => $eid, what => $case->{event}, iccid => $iccid } if $case->{event};
	push @{ $case->{rules} }, { path => '/retrieve-status', fault => 'merge_json', count => 1,
		merge => { list($case->{dialect}) => $case->{list}->($case->{dialect}, $eid, $iccid) } } if $case->{list};
	push @faults, map { { server => $tenant, %$_ } } @{ $case->{rules} };
	push @calls, "SELECT '$n', " . $kind->{call}->($eid, $iccid);
	$n++;
}
$simulator->post('/euicc', \@euiccs);
$simulator->post('/device-event', $_) foreach @events;
my $device_effects = @events;
$simulator->fault(@faults);
$node->safe_psql($db, join(";\n", @setup));
$cases[ $_->[0] ]{id} = $_->[1] foreach rows($node, $db, join(";\n", 'SET esim.lockout_guard = off', @calls));

sub told
{
	my ($case) = @_;

	diag(query($node, $db, "SELECT phase, phase_reason, next_at - now(), error_code, error_message, rsp_code, left(rsp_message, 60) FROM esim_operation WHERE id = '$case->{id}'"));
	diag(query($node, $db, "SELECT number, method, right(url, 40), http_status, outcome, left(detail, 80) FROM esim_attempt WHERE operation = '$case->{id}' ORDER BY number"));
	return;
}

# those that are to be seen on their way, and those that wait for somebody or for long
my %seen;
my $end = time() + 2 * $EsimTest::patience;
my @wanted = grep { $_->{phase} } @cases;
while (@wanted && time() < $end)
{
	my %completed;

	foreach my $row (rows($node, $db, q(SELECT id, status, phase, round(extract(epoch FROM next_at - now())), phase_reason FROM esim_operation
		WHERE status = 'COMPLETED' OR phase IN ('RETRYING', 'PARKED', 'UNKNOWN', 'WAITING_DEVICE'))))
	{
		my ($id, $status, $phase, @rest) = @$row;

		$seen{$id}{$phase} = \@rest;
		$completed{$id} = 1 if $status eq 'COMPLETED';
	}
	# what has come and gone between two looks has left its attempts
	@wanted = grep { !$seen{ $_->{id} }{ $_->{phase} } && !$completed{ $_->{id} } } @wanted;
}
# a short RETRYING may be over between two looks
foreach my $case (grep { $_->{phase} && ($_->{far} || $_->{phase} ne 'RETRYING') } @cases)
{
	my $seen = $seen{ $case->{id} }{ $case->{phase} };

	ok($seen, "$case->{name}: $case->{phase}") or told($case), next;
	like($seen->[1], qr/\w{3}/, "$case->{name}: with a reason");
	cmp_ok($seen->[0], '>=', $case->{far}, "$case->{name}: for long") if $case->{far};
	$simulator->delete("/fault?server=$case->{tenant}") if $case->{phase} eq 'PARKED';
}
$node->safe_psql($db, 'SELECT esim_resume()');
my $far = join(', ', map { "'$_->{id}'" } grep { $_->{far} || $_->{hurry} } @cases);
$end = time() + 4 * $EsimTest::patience;
while (value($node, $db, q(SELECT count(*) FROM esim_operation WHERE status = 'ACCEPTED')) ne '0' && time() < $end)
{
	# their time comes at once
	$node->safe_psql($db, "UPDATE esim_pending SET next_at = now() WHERE operation IN ($far) AND state = 'W' AND NOT claimed");
	# one that was just being tried again when the fault was taken away is parked anew
	$node->safe_psql($db, 'SELECT esim_resume()');
	select(undef, undef, undef, 0.2);
}
ok(wait_completed($node, $db, 1), 'all complete');

my %rows = map { $_->[0] => $_ } rows($node, $db, q(
	SELECT o.id, o.result, coalesce(o.error_code, ''), translate(coalesce(o.error_message, ''), '|', '/'), coalesce(o.rsp_code, ''),
		replace(coalesce(o.rsp_message, ''), '|', '/'), o.attempts,
		(SELECT count(*) FROM esim_attempt a WHERE a.operation = o.id AND a.outcome IS NOT NULL), round(extract(epoch FROM o.completed_at - o.created_at), 1),
		coalesce(p.iccid::text, ''), coalesce(p.state::text, 'none'),
		(SELECT string_agg(q.state::text, ', ') FROM esim_profile q WHERE q.iccid = p.iccid AND q.id <> p.id AND q.state NOT IN ('DELETED', 'CANCELLED', 'FAILED'))
	FROM esim_operation o LEFT JOIN esim_profile p ON p.id = o.profile));
my %states = map { $_->[0] => $_->[1] } rows($node, $db, 'SELECT iccid, state FROM esim_profile WHERE iccid IS NOT NULL');
foreach my $case (@cases)
{
	my $kind = $kinds{ $case->{kind} };
	my ($id, $result, $code, $message, $rsp_code, $rsp_message, $attempts, $written, $seconds, $iccid, $state, $twins) = @{ $rows{ $case->{id} } };
	my $after = $case->{after} // $kind->{after};
	my @effects = grep { /$case->{iccid}/ } @{ $simulator->effects($case->{eid}) };
	my @expected = map { "$_ $case->{iccid}" } @{ $case->{effects} // ($result eq 'SUCCESS' && !$case->{already} ? $kind->{effects} : []) };
	my $good = 1;

	# what the device did by itself came first
	@effects = @effects[ 1 .. $#effects ] if $case->{event};
	$after = $after->{ $case->{dialect} } if ref $after;
	$state = $states{ $case->{iccid} } if $case->{kind} eq 'refresh';
	$good &= like($result, qr/^(?:$case->{expect})$/, "$case->{name}: $case->{expect}");
	$good &= is($code, $case->{code}, "$case->{name}: its code") if defined $case->{code};
	$good &= is($rsp_code, $case->{said}, "$case->{name}: the server's code") if $case->{said};
	$good &= like($rsp_message, $case->{words}, "$case->{name}: the server's words") if $case->{words};
	$good &= $result eq 'SUCCESS' ? unlike($message, qr/could not be applied/, "$case->{name}: what came of it is in our rows")
	  : like($message, qr/^[[:print:]]*\w{3}[[:print:]]*$/, "$case->{name}: a reason");
	$good &= unlike($rsp_message, qr/[\x00-\x1f\x7f]/, "$case->{name}: printable words") if $rsp_message ne '';
	$good &= like($state, qr/^(?:$after)$/, "$case->{name}: $after");
	$good &= is("$iccid $twins", "$case->{iccid} ", "$case->{name}: one row has the ICCID") if $case->{kind} ne 'refresh' && $result eq 'SUCCESS';
	$good &= is(join(', ', @effects), join(', ', @expected), "$case->{name}: what the eUICC did, once");
	$good &= is($written, $attempts, "$case->{name}: all requests are written");
	$good &= cmp_ok($seconds, '>=', $case->{seconds}, "$case->{name}: waited for") if $case->{seconds};
	$good &= like($simulator->stats($case->{tenant})->{tokens_issued}, qr/^$case->{oauth}$/, "$case->{name}: tokens") if $case->{oauth};
	told($case) if !$good;
	note("$case->{name}: $result $code, $attempts requests, $seconds s");
}
ledger_is_exact($simulator, 'ledger');

# the row that was there has given way, what was known of it stays
foreach my $case (grep { $_->{stock} } @cases)
{
	is(value($node, $db, "SELECT string_agg(state || ' ' || coalesce(msisdn, ''), ', ' ORDER BY state) FROM esim_profile WHERE iccid = '$case->{iccid}'"),
		'DISABLED +491234, CANCELLED +491234', "$case->{name}: one row counts");
	is(value($node, $db, "SELECT what FROM esim_drift d JOIN esim_profile p ON p.id = d.profile WHERE p.iccid = '$case->{iccid}' AND p.state = 'DISABLED'"),
		$case->{moved} ? 'on another eUICC' : '', "$case->{name}: what is odd of it");
}

# nothing of what hostile lists said has touched others
is(value($node, $db, "SELECT count(*) FROM esim_profile WHERE iccid = '@{[iccid(4711)]}'"), '0', 'no profile of nobody');

# 2026-02 wants an ICCID, both want one that their schemas allow
my ($eid) = $cases[0]{eid};
foreach my $bad (
	[ "esim_download('$eid', activation_code => '1\$smdp.example.com\$X', server => '@{[ (grep { $_->{dialect} eq '2026-02' } @cases)[0]{tenant} ]}')", 'MISSING_IDENTIFIER' ],
	[ "esim_download('$eid', '890000000000000006', '1\$smdp.example.com\$X')", 'UNSUPPORTED_IDENTIFIER' ],
	[ "esim_unset_fallback('$eid')", 'SERVICE_NOT_APPLICABLE' ])
{
	my ($status, $out, $err) = $node->psql($db, "SET esim.check_digits = off; SELECT $bad->[0]");
	like($err, qr/$bad->[1]/, "at once: $bad->[1]");
}

# esim_sync() is a refresh of each device
foreach my $dialect ('r1.2', '2026-02')
{
	(my $server = "sync_$dialect") =~ s/\W/_/g;

	create_server($node, $db, $simulator, $server, dialect => $dialect, tenant => $server);
	fleet($node, $db, 20, first => ($dialect eq 'r1.2' ? 50000 : 60000), profiles => 2, state => 'DISABLED', server => $server, simulator => $simulator);
	$node->safe_psql($db, "DELETE FROM esim_profile p USING esim_device d WHERE d.eid = p.eid AND d.server = '$server'; SELECT esim_sync('$server')");
	ok(wait_until($node, $db, "SELECT count(*) FROM esim_operation WHERE server = '$server' AND status = 'ACCEPTED'", '0'), "$dialect: sync");
	is(value($node, $db, "SELECT count(*), count(DISTINCT p.eid) FROM esim_profile p JOIN esim_device d USING (eid) WHERE d.server = '$server' AND p.state = 'DISABLED'"), '40|20',
		"$dialect: all profiles are there");
}

is(join(' ', worker_pids($node, $db)), join(' ', @pids), 'the worker is the one of the beginning');
ok(!$node->log_contains(qr/PANIC|was terminated by signal/), 'no crash');
$node->stop;
done_testing();
