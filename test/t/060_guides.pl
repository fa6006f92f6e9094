# test/t/060_guides.pl
# doc/twilio.md can be followed step by step: its very blocks, against the simulator, with the
# outcomes that the page states.
use strict;
use warnings;

use JSON::PP;
use Test::More;
use EsimTest;
use EsimFront;
use EsimGuide;

my $db = 'postgres';
my $simulator = start_simulator();
my $node = new_node('guides', preload => 1, settings => ['esim.poll_interval = 500ms']);

# ---- doc/twilio.md ----

my $blocks = [ EsimGuide::blocks('twilio.md') ];
$node->safe_psql('postgres', 'CREATE DATABASE twilio');
$simulator->config('supersim', supersim => { reserve_ms => 500, schedule_ms => 500 },
	auth => { username => 'AC' . '0' x 32, password => 'the auth token' });
$simulator->config('kore', supersim => { reserve_ms => 500 }, auth => { client_id => 'id', client_secret => 'secret' });

my $followed = EsimGuide::follow($node, 'twilio', $blocks,
	replace => {
		"url 'https://supersim.twilio.com/v1'" => "url '$simulator->{url}/supersim/supersim/v1', allow_http 'true'",
		"url 'https://supersim.api.korewireless.com/v1'" => "url '$simulator->{url}/kore/supersim/v1', allow_http 'true'",
		"token_url 'https://api.korewireless.com/api-services/v1/auth/token'" => "token_url '$simulator->{url}/kore/oauth2/token'",
		"event_url 'https://front.example.com/supersim'" => "event_url 'http://127.0.0.1:9/supersim'" });
is($followed->{error}, '', 'twilio.md: no error');
is($followed->{status}, 0, 'twilio.md: all blocks run');

my %says;
foreach my $part (@{ $followed->{parts} })
{
	my ($heading, $text, $output) = @$part;

	ok(defined $output, "twilio.md, $heading: " . (split /\n/, $text)[0]);
	push @{ $says{$heading} }, $output // '';
	# whatever waits for an operation says how it has ended
	next if $text !~ /esim_wait\(/;
	my $waits = () = $text =~ /SELECT result FROM esim_wait\(/g;
	my $wins = () = ($output // '') =~ /^SUCCESS$/mg;
	is($wins, $waits, "twilio.md, $heading: SUCCESS");
}
my ($reserve, $there, $bound) = @{ $says{'1. Reserve an eSIM profile'} };
like($there, qr/^RELEASED\|HP[0-9a-f]{32}\|available\|HS[0-9a-f]{32}\|\d{18,20}\|[^|]+\|[A-Z0-9-]+$/m, 'step 1: RELEASED, available, with ESimProfile, Sim, ICCID, address and matching ID');
my ($fleet, $activate, $both) = @{ $says{'2. Assign the profile\'s Sim to a Fleet and activate it'} };
like($activate, qr/^ACTIVE\|Meters$/m, 'step 2: ACTIVE in the Fleet');
my ($code, $qr, $parts, $address) = @{ $says{'3. Pass the SM-DP+ address to the LPA'} };
like($code, qr/^(1\$[^\$]+\$[A-Z0-9-]+)\nLPA:\1$/m, 'step 3: 1$<address>$<matching ID>, and with LPA: before it');
like($qr, qr/<svg.*\\x89504e47/s, 'step 3: QR codes for a page and as an image');
is($parts, "1\$smdp.example.com\$ABCDE-FGHIJ-KLMNO-PQRST\n", 'step 3: a code from parts');
like($address, qr/^[a-z0-9.-]+$/m, 'step 3: the address of a profile that is reserved for an EID');
is(value($node, 'twilio', q(SELECT count(*) FROM esim_profile WHERE reserved_eid IS NOT NULL AND matching_id IS NULL AND activation_code IS NULL)), '1', 'step 1: matching ID and code stay empty for an EID');
like($says{'4. Install the eSIM profile'}[0], qr/^ACCEPTED\|/, 'step 4: the download waits');
like($says{Callbacks}[1], qr/^unknown$/m, 'callbacks: neither is ours');

# the device comes: the operation of step 4 completes, the phone's profile is seen
my $id = value($node, 'twilio', q(SELECT id FROM esim_operation WHERE kind = 'download'));
ok(wait_until($node, 'twilio', "SELECT phase FROM esim_operation WHERE id = '$id'", 'WAITING_DEVICE'), 'step 4: for the device');
is(value($node, 'twilio', q(SELECT count(*) FROM esim_operation WHERE status = 'ACCEPTED')), '1', 'nothing else is held up');
$simulator->post('/supersim/download', { eid => '89049032000000000000000000000163' });
$node->safe_psql('twilio', qq(SELECT esim_receive('supersim', '{}', '{"query": "op=$id"}')));
ok(wait_until($node, 'twilio', "SELECT result FROM esim_operation WHERE id = '$id'", 'SUCCESS'), 'step 4: completes when the profile is installed');
my ($phone, $profile) = split /\|/, value($node, 'twilio', q(SELECT activation_code, id FROM esim_profile WHERE matching_id IS NOT NULL ORDER BY created_at LIMIT 1));
$simulator->post('/supersim/download', { eid => eid(7), code => $phone });
$id = value($node, 'twilio', q(SELECT esim_sync('supersim')));
ok(wait_until($node, 'twilio', "SELECT result FROM esim_operation WHERE id = '$id'", 'SUCCESS'), 'what the account has is read again');
is(value($node, 'twilio', "SELECT state FROM esim_profile WHERE id = '$profile'"), 'INSTALLED', 'step 4: a profile that a phone got by its QR code becomes INSTALLED');
my ($status, $out, $err) = $node->psql('twilio', "INSERT INTO esim_device (eid, server) VALUES ('@{[eid(8)]}', 'supersim'); SELECT esim_download('@{[eid(8)]}', iccid) FROM esim_profile WHERE reserved_eid IS NOT NULL AND state = 'INSTALLED'");
like($err, qr/IDENTIFIER_MISMATCH/, 'step 4: once, to one eUICC');
is(value($node, 'twilio', q(SELECT pg_has_role('front', 'front', 'USAGE'), has_server_privilege('front', 'supersim', 'USAGE'))), 't|t', 'callbacks: the role of the front end');

# KORE: the same with OAuth 2.0
$id = value($node, 'twilio', q(SELECT esim_reserve(generate_matching_id => true, server => 'kore')));
ok(wait_until($node, 'twilio', "SELECT result FROM esim_operation WHERE id = '$id'", 'SUCCESS'), 'KORE: reserved with a token');

ledger_is_exact($simulator, 'ledger');
ok(!$node->log_contains(qr/PANIC|was terminated by signal/), 'no crash');
$node->stop;
done_testing();
