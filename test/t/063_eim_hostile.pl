# test/t/063_eim_hostile.pl
# An eIM that answers with anything at all: at create, look-up, list, and below HTTP. Afterwards the
# worker still runs, each operation has ended as it is true, and the eUICC did everything once.
use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use JSON::PP;
use Test::More;

use EimCases;
use EsimTest;

my $db = 'postgres';
my $simulator = start_simulator();
my $node = new_node('eim_hostile', preload => 1, settings => ['esim.poll_interval = 500ms']);
my $true = JSON::PP::true;
my $uuid = '550e8400-e29b-41d4-a716-446655440000';
my @mangled = qw(malformed_json truncated_json empty_body wrong_types duplicate_keys invalid_utf8 nul_bytes wrong_iccid
  wrong_content_type oversized_json deep_json endless_body truncated_body slow_drip reset_after_effect);
my @texts = ('null', '7', '1e999', '"x"', '[]', '{}', '[[[[{}]]]]', '{"status":null}', '{"status":7}', '{"status":{}}', '{"status":""}',
	'{"status":"done"}{"status":"new"}', '<html><body>captive portal</body></html>', 'HTTP/1.1 303 See Other', "\x{feff}{}",
	'{"error":"not an eIM"}', '{"resourceIdList":[]}', '{"resourceIdList":null}', '{"resourceIdList":7}', '{"resourceIdList":[7,null,{}]}',
	'{"resourceIdList":{"0":"x"}}', '{"resourceIdList":["..","a/b","","%2e%2e%2f"]}',
	'{"resourceIdList":["../../psmo/delete/' . $uuid . '"]}', '{"resourceIdList":["' . $uuid . '\u0000"]}',
	'{"resourceIdList":["javascript:alert(1)","\r\nX: y"]}');

sub short { my ($text) = @_; $text =~ s/[^ -~]/?/g; return length $text > 60 ? substr($text, 0, 60) . '...' : $text; }

# ---- at create: what the answer says of the order ----

foreach my $location ('javascript:alert(1)', 'http://elsewhere.invalid/', "http://elsewhere.invalid/psmo/lookup/$uuid",
	"//elsewhere.invalid/psmo/lookup/$uuid", '/psmo/lookup/', '/psmo/lookup/not-a-uuid', '/psmo/lookup/../../psmo/delete/x', "/psmo/lookup/$uuid/..",
	"$uuid", "/psmo/lookup/{$uuid}", '/psmo/lookup/' . 'x' x 20000, '/psmo/lookup/' . uc($uuid) . 'x', "/psmo/lookup/$uuid%0d%0aX:y",
	"file:///etc/passwd", "/psmo/lookup/$uuid?a=b#c", "/psmo/lookup/$uuid", 'http://[::1', "\xc3\xa4\xff/psmo/lookup/x", '?', '#', '/', ' ')
{
	foreach my $status (303, 201)
	{
		add_case(name => "Location of $status: " . short($location), kind => 'enable',
			rules => [ { path => '/create', fault => 'status', status => $status, effect => $true, headers => { Location => $location }, count => 1 } ]);
	}
}
add_case(name => "create: $_", kind => 'enable', rules => [ { path => '/create', fault => $_, count => 1 } ]) foreach @mangled;
foreach my $status (301, 302, 307, 308)
{
	add_case(name => "create: $status to elsewhere", kind => 'enable', rules => [ { path => '/create', fault => 'redirect', status => $status,
		location => 'http://elsewhere.invalid/psmo/create', count => 1 } ]);
}
# for good: nothing comes of it, and that is said
add_case(name => 'create: never a Location that leads anywhere, and no list', kind => 'enable', expect => 'FAILED', code => 'OUTCOME_UNKNOWN', hurry => 1,
	effects => ['enabled'], state => 'DISABLED',
	rules => [ { path => '/create', fault => 'status', status => 303, effect => $true, headers => { Location => '/' } }, { path => '/list', fault => 'edit', to => '{}' } ]);

# ---- at the look-up ----

my @edits = (
	[ 'another EID', '"eidValue":"{eid}"', '"eidValue":"89049032000000000000000000000001"' ],
	[ 'another EID of 32 letters', '"eidValue":"{eid}"', '"eidValue":"' . 'x' x 32 . '"' ],
	[ 'an EID that is a number', '"eidValue":"{eid}"', '"eidValue":{eid}' ],
	[ 'no EID', '"eidValue"', '"eid"' ],
	[ 'another ICCID', '{card}', '98001032547698103285' ],
	[ 'an ICCID of letters', '{card}', 'ZZZZZZZZZZZZZZZZZZZZ' ],
	[ 'another PSMO', '{"enable":', '{"delete":' ],
	[ 'two PSMOs', '"psmo":[', '"psmo":[{"disable":{"iccid":"{card}"}},' ],
	[ 'an order that is a list', '"order":{', '"order":[{}],"order2":{' ],
	[ 'a resource that is a text', '"resource":', '"resource":"x","resource2":' ],
	[ 'a status that nobody knows', '"status":"done"', '"status":"lost"' ],
	[ 'status error', '"status":"done"', '"status":"error"' ],
	[ 'a status that is a list', '"status":"done"', '"status":["done"]' ],
	[ 'a status with NUL', '"status":"done"', '"status":"done\u0000"' ],
	[ 'a status without end', '"status":"done"', '"status":"' . 'd' x 100000 . '"' ],
	[ 'status absent, which is a lie', '"status":"done"', '"status":"absent"' ],
	[ 'status new, which is a lie', '"status":"done"', '"status":"new"' ],
	[ 'a time before time', '"timestamp":"', '"timestamp":"-99999' ],
	[ 'a time after all time', '"timestamp":"', '"timestamp":"99999999999999999999' ],
	[ 'a time that is an object', '"timestamp":"', '"timestamp":{},"x":"' ],
	[ 'an outcome that is an object', '"outcome":[{"enableResult":"ok"}]', '"outcome":{"enableResult":"ok"}' ],
	[ 'an outcome that is a text', '"outcome":[{"enableResult":"ok"}]', '"outcome":"ok"' ],
	[ 'no outcome', '"outcome"', '"result"' ],
	[ 'an empty outcome', '[{"enableResult":"ok"}]', '[]' ],
	[ 'an outcome of 100,000 results', '[{"enableResult":"ok"}]', '[' . join(',', ('{}') x 100000) . ']' ],
	[ 'a result that is a list', '"ok"', '["ok"]' ],
	[ 'a result that is null', '"ok"', 'null' ],
	[ 'a result beyond all numbers', '"ok"', '1e308' ],
	[ 'a result of 2^63', '"ok"', '9223372036854775808' ],
	[ 'a result with a surrogate', '"ok"', '"\ud800"' ],
	[ 'a result with control characters', '"ok"', '"\u0007\u001b[2J"' ],
	[ 'a result with quotes and SQL', '"ok"', '"\'; DROP TABLE esim_operation; --"' ],
	[ 'a key without end', '"enableResult"', '"' . 'k' x 100000 . '"' ],
	[ 'the same key twice', '{"enableResult":"ok"}', '{"enableResult":"ok","enableResult":"catBusy"}' ],
	[ 'debuginfo of 3 MB', '"debuginfo":"', '"debuginfo":"' . 'A' x 3000000 ],
	[ 'debuginfo of 5 MB', '"debuginfo":"', '"debuginfo":"' . 'A' x 5000000 ],
	[ '33 deep', '"debuginfo":"', '"deep":' . '[' x 33 . ']' x 33 . ',"debuginfo":"' ]);
foreach my $edit (@edits)
{
	add_case(name => "look-up: $edit->[0]", kind => 'enable', rules => [ { path => '/lookup', fault => 'edit', from => $edit->[1], to => $edit->[2], count => 1 } ]);
}
add_case(name => "look-up: $_", kind => 'enable', rules => [ { path => '/lookup', fault => $_, count => 1 } ]) foreach @mangled;
add_case(name => 'look-up: ' . short($_), kind => 'enable', rules => [ { path => '/lookup', fault => 'edit', to => $_, count => 1 } ]) foreach @texts;
add_case(name => 'look-up: 200 from elsewhere', kind => 'enable', parked => 1,
	rules => [ { path => '/lookup', fault => 'redirect', status => 302, location => "http://elsewhere.invalid/psmo/lookup/$uuid", count => 1 } ]);

# what the eUICC tells of itself
my @lists = (
	[ 'no list', '"profileInfoList"', '"profiles"' ],
	[ 'a list that is null', '"profileInfoList":', '"profileInfoList":null,"x":' ],
	[ 'entries that are none', '"profileInfoList":[', '"profileInfoList":[7,null,"x",[],{},' ],
	[ '5000 profiles', '"profileInfoList":[', '"profileInfoList":[' . '{"iccid":"984474680000730771F0","profileState":"enabled"},' x 5000 ],
	[ 'the profile twice', '"profileInfoList":[', '"profileInfoList":[{"iccid":"{card}","profileState":"enabled"},' ],
	[ 'states that are numbers', '"profileState":"enabled"', '"profileState":1' ],
	[ 'states that nobody knows', '"profileState":"disabled"', '"profileState":"sleeping"' ],
	[ 'ICCIDs of letters', '"iccid":"98', '"iccid":"ZZ' ],
	[ 'ICCIDs that are short', '"iccid":"98', '"iccid":"' ],
	[ 'ICCIDs that are numbers', '"iccid":"', '"iccid":1,"x":"' ]);
foreach my $list (@lists)
{
	add_case(name => "refresh: $list->[0]", kind => 'refresh', state => undef, expect => 'SUCCESS|FAILED', hurry => 1,
		rules => [ { path => '/lookup', fault => 'edit', from => $list->[1], to => $list->[2], count => 1 } ]);
}
# told wrongly once, a profile is not taken for deleted
add_case(name => "delete: $_->[0]", kind => 'delete', ours => 'DISABLED', theirs => 'DISABLED',
	rules => [ { path => '/create', fault => 'device_fail', reason => 'procedureError:stuckOrder', count => 1 },
		{ path => '/lookup', after => 1, fault => 'edit', from => $_->[1], to => $_->[2], count => 1 } ]) foreach
  [ 'another ICCID in the list', '{"iccid":"{card}"', '{"iccid":"984474680000730771F0"' ], grep { $_->[0] =~ /^ICCIDs|^entries|^a list/ } @lists;

# an order of another eUICC for good: it is neither carried on with nor taken away
add_case(name => 'look-up: always of another eUICC', kind => 'enable', expect => 'SUCCESS', hurry => 1,
	rules => [ { path => '/lookup', fault => 'edit', from => '"eidValue":"{eid}"', to => '"eidValue":"89049032000000000000000000000001"', count => 7 } ]);
add_case(name => 'look-up: 500 for good, of one order', kind => 'enable', hurry => 1, rules => [ { path => '/lookup', fault => 'status', status => 500, count => 14 } ]);

# ---- at the list, after a lost create ----

sub lost_and
{
	my ($name, %rule) = @_;

	add_case(name => "list: $name", kind => 'enable', hurry => 1,
		rules => [ { path => '/create', fault => 'reset_after_effect', count => 1 }, { path => '/list', fault => 'edit', count => 1, %rule } ]);
	return;
}

lost_and($_, fault => $_) foreach @mangled;
lost_and(short($_), to => $_) foreach grep { $_ ne '{"resourceIdList":[]}' } @texts;
my $begin = '"resourceIdList": [';
lost_and('others that are no orders', from => $begin, to => qq($begin"$uuid","00000000-0000-4000-8000-000000000000",));
lost_and('the same id 50,000 times', from => $begin, to => $begin . qq("$uuid",) x 50000);
lost_and('2,500 ids that nobody knows', from => $begin, to => $begin . join('', map { sprintf '"00000000-0000-4000-8000-%012d",', $_ } 1 .. 2500));
lost_and('200,000 ids, which are too many', from => $begin, to => $begin . qq("$uuid",) x 200000);
lost_and('ids that are paths', from => $begin, to => $begin . '"../delete/x","..%2f..%2fdelete","/psmo/delete/' . $uuid . '",');
lost_and('ids with blanks and control characters', from => $begin, to => $begin . '" ' . $uuid . '","\u0000","\r\n\r\nGET / HTTP/1.1",');
lost_and('a redirect', fault => 'redirect', status => 301, location => 'http://elsewhere.invalid/psmo/list');
$_->{parked} = 1 foreach EimCases::last_case();
# of a candidate
foreach my $edit (grep { $_->[0] !~ /absent/ } @edits)
{
	add_case(name => "candidate: $edit->[0]", kind => 'enable', hurry => 1,
		rules => [ { path => '/create', fault => 'reset_after_effect', count => 1 },
			{ path => '/lookup', fault => 'edit', from => $edit->[1], to => $edit->[2], count => 1 } ]);
}

# ---- below HTTP: a front that answers by itself once, and else leads to the simulator ----

my $see_other = "HTTP/1.1 303 See Other\r\nContent-Length: 0\r\n";
my %raw = (
	'a storm of 1xx' => "HTTP/1.1 100 Continue\r\n\r\n" x 200000,
	'103 and nothing' => "HTTP/1.1 103 Early Hints\r\n\r\n",
	'101' => "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
	'no HTTP' => "SSH-2.0-OpenSSH_9.2\r\n",
	'HTTP/9.9' => "HTTP/9.9 999 Huh\r\n\r\n",
	'HTTP/0.9' => '{"status":"done","outcome":[{"enableResult":"ok"}]}',
	'a status of letters' => "HTTP/1.1 abc\r\n\r\n",
	'NULs' => "\0" x 1000,
	'100,000 headers' => "HTTP/1.1 200 OK\r\n" . "X: y\r\n" x 100000 . "\r\n",
	'a header of 10 MB' => "HTTP/1.1 200 OK\r\nX: " . 'y' x 10_000_000 . "\r\n\r\n",
	'a negative length' => "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
	'a length beyond all' => "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
	'two lengths' => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
	'a length that is not reached' => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
	'chunks that are none' => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
	'a chunk beyond all' => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}\r\n",
	'compressed' => "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 10\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\0",
	'a Location in two lines' => "${see_other}Location: /psmo/lookup/\r\n $uuid\r\n\r\n",
	'a Location with a header behind it' => "${see_other}Location: /psmo/lookup/x\r\nSet-Cookie: a=b\r\n\r\n",
	'two Locations' => "${see_other}Location: /psmo/lookup/x\r\nLocation: javascript:alert(1)\r\n\r\n",
	'a Location with NUL' => "${see_other}Location: /psmo/lookup/$uuid\0x\r\n\r\n",
	'a Location of 80 kB' => "${see_other}Location: /" . 'x' x 80000 . "\r\n\r\n",
	'a bare line feed' => "HTTP/1.1 303 See Other\nLocation: /psmo/lookup/x\n\n",
	'a close' => '');
my @raw = sort keys %raw;

foreach my $n (0 .. $#raw)
{
	foreach my $verb ('create', 'lookup', 'list')
	{
		add_case(name => "$verb: $raw[$n]", kind => 'enable', share => undef, raw => [ $verb, $raw[$n] ], hurry => 1,
			rules => $verb eq 'list' ? [ { path => '/create', fault => 'reset_after_effect', count => 1 } ] : []);
	}
}

my $listen = IO::Socket::INET->new(Listen => 500, LocalAddr => '127.0.0.1', Proto => 'tcp') or die "listen: $!";
my $front_url = 'http://127.0.0.1:' . $listen->sockport;
my %trap;						# tenant => [verb, name]: to be read by the front before it is forked

# Reads a head and a body; undef at the end.
sub read_message
{
	my ($socket) = @_;
	my $data = '';

	while ($data !~ /\r\n\r\n/)
	{
		return if !IO::Select->new($socket)->can_read(20) || !sysread($socket, $data, 65536, length $data);
	}
	my ($length) = $data =~ /^content-length: *([0-9]+)/mi;
	my $whole = index($data, "\r\n\r\n") + 4 + ($length // 0);
	while (length $data < $whole)
	{
		last if !IO::Select->new($socket)->can_read(20) || !sysread($socket, $data, 65536, length $data);
	}
	return $data;
}

sub serve
{
	my ($peer, $sprung) = @_;
	my $request = read_message($peer) // return;
	my ($tenant, $verb) = $request =~ m{^\S+ /([^/]+)/eim/psmo/([a-z]+)};
	my $trap = $trap{ $tenant // '' };
	my $answer;

	$request =~ s/\r\n/\r\nConnection: close\r\n/;
	# an order is made, whatever is answered
	my $real = IO::Socket::INET->new(PeerAddr => $simulator->{url} =~ s{^http://}{}r, Proto => 'tcp') or return;
	syswrite($real, $request);
	$answer = read_message($real);
	if ($trap && ($verb // '') eq $trap->[0] && !-e "$sprung/$tenant")
	{
		open(my $mark, '>', "$sprung/$tenant") or die $!;
		close $mark;
		$answer = $raw{ $trap->[1] };
	}
	return if !defined $answer;
	while (length $answer)
	{
		my $n = syswrite($peer, $answer, 65536) or last;
		substr($answer, 0, $n) = '';
	}
	return;
}

my $sprung = PostgreSQL::Test::Utils::tempdir();
my $front;

sub start_front
{
	my $parent = $$;

	$front = fork() // die "fork: $!";
	return if $front != 0;
	$SIG{TERM} = 'DEFAULT';
	$SIG{PIPE} = 'IGNORE';
	$SIG{CHLD} = 'IGNORE';
	while (getppid() == $parent)
	{
		next if !IO::Select->new($listen)->can_read(0.5);
		my $peer = $listen->accept or next;
		my $pid = fork();

		if (defined $pid && $pid == 0)
		{
			eval { serve($peer, $sprung); };
			shutdown($peer, 1);
			POSIX::_exit(0);
		}
		close $peer;
	}
	POSIX::_exit(0);
}

END
{
	my $status = $?;

	if ($front) { kill 'TERM', $front; waitpid $front, 0; }
	$? = $status;
}
require POSIX;

create_database($node, $db);
my @run = run_cases($node, $db, $simulator,
	url => sub {
		my ($tenant, $case) = @_;
		return "$simulator->{url}/$tenant/eim" if !$case->{raw};
		$trap{$tenant} = $case->{raw};
		return "$front_url/$tenant/eim";
	},
	before => \&start_front);
note(scalar(@run) . ' cases');

ledger_is_exact($simulator, 'ledger');
my $eim = $simulator->get('/eim');
is(join(', ', map { $_->{name} } grep { $eim->{ $_->{tenant} }{overlaps} } @run), '', 'never two open orders of one eUICC');
is(value($node, $db, q(SELECT count(*) FROM esim_operation WHERE result = 'FAILED' AND coalesce(error_message, '') = '')), '0', 'every failure has a reason');
is(value($node, $db, q(SELECT count(*) FROM esim_attempt WHERE outcome IS NULL OR outcome = '')), '0', 'every request has an outcome');
is(value($node, $db, q(SELECT count(*) FROM esim_attempt WHERE url NOT LIKE 'http://127.0.0.1:%')), '0', 'nobody else was spoken to');
is(value($node, $db, q(SELECT count(*) FROM esim_attempt WHERE detail ~ '[\x01-\x1f\x7f]' OR length(detail) > 512)), '0', 'no control characters, nothing long');
is(value($node, $db, "SELECT count(*) > 0 AND bool_and(last_error IS NULL OR last_error = '') FROM esim_worker_status()"), 't', 'the workers run, without an error');
ok(!$node->log_contains(qr/PANIC|was terminated by signal|exited with exit code/), 'no crash');
$node->stop;
done_testing();
