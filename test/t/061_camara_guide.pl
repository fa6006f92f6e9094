# test/t/061_camara_guide.pl
# Follows doc/camara.md and doc/camara-provider.md: runs their SQL blocks in order in one session,
# with nothing but hosts replaced, and checks what the pages say of them.
use strict;
use warnings;

use JSON::PP;
use Test::More;
use EsimTest;
use EsimSink;
use EsimFront;

my $db = 'guide';
my $simulator = start_simulator();
my $node = new_node('guide', preload => 1, settings => [
	'esim.poll_interval = 500ms', q(esim.sink_allow = '127.0.0.1'), 'esim.sink_allow_private = on',
	q(esim.api_root = 'https://api.example.com/iot/'), 'search_path = public' ]);

$node->safe_psql('postgres', "CREATE DATABASE $db");
my $front = EsimFront::start($node, $db);
my $app = EsimSink::start(PostgreSQL::Test::Utils::tempdir_short() . '/app', 1);
$simulator->config('provider', camara => { events => JSON::PP::true },
	auth => { client_id => 'me', client_secret => 'secret', check_scopes => JSON::PP::true });

# ---- the page ----

open(my $in, '<', '../doc/camara.md') or die "doc/camara.md: $!";
my $page = do { local $/; <$in> };
close $in;
my @blocks = $page =~ /^```sql\n(.*?)^```$/msg;
cmp_ok(scalar @blocks, '>', 15, 'the page has blocks of SQL');

# hosts: those of this machine, which speak http
my %hosts = (
	'https://api.example.com/esim/vwip\'' => $simulator->base('provider', '2026-02') . q(', allow_http 'true'),
	'https://auth.example.com/oauth2/token' => "$simulator->{url}/provider/oauth2/token",
	'https://front.example.com/camara' => $front->url('provider'),
	'https://app.example.com/events' => $app->url('/ok/events'));
my $script = '';
my $n = 0;
foreach my $block (@blocks)
{
	foreach my $host (sort keys %hosts) { $block =~ s/\Q$host\E/$hosts{$host}/g; }
	$script .= "\\echo <block $n>\n$block";
	$n++;
}
my ($status, $out, $err) = $node->psql($db, $script, extra_params => [ '-v', 'client_min_messages=notice' ], on_error_stop => 1);
is($status, 0, 'the page runs from its first statement to its last') or diag($err);
unlike($err, qr/ERROR/, 'without an error');

# the output of the block in which the text stands
sub output
{
	my ($text) = @_;
	my ($which) = grep { index($blocks[$_], $text) >= 0 } 0 .. $#blocks;

	die "no block has \"$text\"" if !defined $which;
	my ($got) = $out =~ /^<block $which>\n(.*?)(?=^<block |\z)/ms;
	$got //= '';
	chomp $got;
	return $got;
}

# ---- what it says ----

my ($eid, $first, $second) = ('89049032000000000000000000000163', '8900000000000000003', '8900000000000000011');

my ($waited, $shape) = split /\n/, output(q(esim_wait(:'download')));
is($waited, 'COMPLETED|SUCCESS|', '1: the download succeeds');
my $operation = decode_json($shape);
is($operation->{status}, 'completed', '1: in CAMARA\'s shape: status');
is($operation->{result}{outcome}, 'success', '1: outcome');
is_deeply($operation->{esim}, { eid => $eid, iccid => $first }, '1: eSIM');
is(output(q(esim_wait(:'enable'))), 'SUCCESS', '2: it is enabled');
is((split /\n/, output(q(esim_wait(:'fallback'))))[-1], 'SUCCESS', '3: the fallback is set, in one transaction with the download');

my @status = split /\n/, output('FROM esim_status(\'');
is($status[0], 'SUCCESS', '4: the refresh succeeds');
like($status[1], qr/^$first\|ENABLED\|f\|[^|]+\|\w+$/, '4: the first profile is ENABLED');
like($status[2], qr/^$second\|DISABLED\|t\|[^|]+\|\w+$/, '4: the second is the fallback');
is($status[3], 'ENABLED', '4: by ICCID');
my @inventory = split /\n/, output('FROM esim_inventory');
is(join(' ', sort grep { /Tram 1\|\d{19}\|/ } @inventory), "Tram 1|$first|ENABLED|f|enable|SUCCESS Tram 1|$second|DISABLED|t|set-fallback|SUCCESS", '4: the inventory');
is((grep { /^Tram 1\|2\|/ } @inventory)[0], "Tram 1|2|$first|$second|0", '4: and by device');
is(scalar(grep { /^Tram \d\|0\|\|\|0$/ } @inventory), 2, '4: the other devices have nothing');
like(output('esim_timeline'), qr/download.*enable.*set-fallback|set-fallback.*enable.*download/s, '4: all that happened');

is((split /\n/, output(q(esim_wait(:'gone'))))[-1], 'SUCCESS', '5: the swap succeeds');
like($err, qr/WARNING.*connection|WARNING.*enabled profile/s, '5: it is warned of a device without a connection');
is((split /\n/, output(q(esim_wait(:'disabled'))))[-1], 'SUCCESS', '5: and disabled');

my @many = split /\n/, output('esim_download_many');
is($many[0], '1||', 'many: the first is queued');
is($many[1], '2||', 'many: the second, too');
like($many[2], qr/^3\|INCOMPATIBLE_STATE\|/, 'many: the bad one is reported');
my @progress = split /\n/, output('esim_retry');
is(scalar(grep { /^download\|SUCCESS\|4$/ } @progress), 1, 'many: all downloads have succeeded');
is(scalar(grep { /FAILED|CANCELLED/ } @progress), 0, 'many: nothing failed');

is((split /\n/, output(q(esim_wait(:'told'))))[-1], 'SUCCESS', 'being told: the operation succeeds');
ok(wait_until($node, $db, q(SELECT count(*) FROM esim_notification WHERE state = 'DELIVERED'), '1'), 'being told: the event is delivered');
my ($event) = $app->requests;
is(decode_json($event->{body})->{data}{esim}{iccid}, $second, 'being told: to the application\'s sink');
unlike(join(' ', map { $_->{body} } @{ $simulator->get('/requests?n=500') }), qr{/ok/events}, 'being told: which the provider does not see');
is((split /\n/, output('esim_receive'))[-1], 'unknown', 'being told: an event of nobody');
my @from_provider = $front->pump;
cmp_ok(scalar @from_provider, '>', 5, 'being told: the provider has sent its events to event_url');
is(scalar(grep { !/^(duplicate|asked)$/ } @from_provider), 0, 'being told: each belongs to an operation of ours');

like(output('FROM esim_attempt'), qr/^1\|POST\|\S*delete\|202\|accepted\n2\|GET\|[0-9a-f-]{20}\|200\|completed$/, 'errors: each request of the delete');
# the error of the page, word for word
my ($statement, $error, $detail) = $page =~ /^=> (SELECT .*?;)\n(ERROR: .*?)\n(DETAIL: .*?)\n/m;
($status, $out, $err) = $node->psql($db, $statement);
like($err, qr/\Q$error\E/, 'errors: the message of the page');
like($err, qr/\Q$detail\E/, 'errors: its detail');

# ---- what the devices did ----

is(join(', ', @{ $simulator->effects($eid) }), join(', ', "downloaded $first", "enabled $first", "downloaded $second", "fallback-set $second",
	"disabled $first", "enabled $second", "deleted $first", "disabled $second", "enabled $second"), 'what the device did');
ledger_is_exact($simulator, 'ledger', downloaded => 4);
ok(!$node->log_contains(qr/PANIC|was terminated by signal|esim worker failed/), 'no trouble');

# every link of the page leads to a heading
my %anchors = map { my $anchor = lc $_; $anchor =~ s/[^a-z0-9 -]//g; $anchor =~ tr/ /-/; $anchor => 1 } $page =~ /^##+ (.*)$/mg;
is(join(' ', grep { !$anchors{$_} } $page =~ /\]\(#([^)]+)\)/g), '', 'links within the page');

# ---- doc/camara-provider.md ----

my $provider = 'provider';
open($in, '<', '../doc/camara-provider.md') or die "doc/camara-provider.md: $!";
$page = do { local $/; <$in> };
close $in;
my ($call, $roles) = $page =~ /^```sql\n(.*?)^```$/msg;
$node->safe_psql('postgres', "CREATE DATABASE $provider");
$node->safe_psql($provider, 'CREATE SCHEMA esim; CREATE EXTENSION esim SCHEMA esim');
create_server($node, $provider, $simulator, 'rsp');
($status, $out, $err) = $node->psql($provider, "SET search_path = esim;\n$roles", on_error_stop => 1);
is($status, 0, 'provider: the roles of a front end') or diag($err);
$node->safe_psql($provider, "SET search_path = esim; GRANT USAGE ON FOREIGN SERVER rsp TO acme; INSERT INTO esim_device (eid, server, owner) VALUES ('$eid', 'rsp', 'acme'), ('@{[eid(2)]}', 'rsp', 'acme');
	INSERT INTO esim_profile (iccid, eid, owner, state) VALUES ('8988307000007537119', '$eid', 'acme', 'DISABLED'), ('$first', '@{[eid(2)]}', 'acme', 'DISABLED')");

# as the front end does it: its own role, a transaction, the client's role, one call; JSON of the answer
sub front_end
{
	my ($statement) = @_;

	$statement =~ s/;\s*$//;
	my ($code, $answer, $complaint) = $node->psql($provider, "BEGIN; SET LOCAL ROLE acme; SELECT row_to_json(a) FROM ($statement) a; COMMIT", extra_params => [ '-U', 'api' ], on_error_stop => 1);
	return $code == 0 ? decode_json($answer) : { status => 0, body => $complaint };
}

sub ask
{
	my ($method, $path, $request) = @_;
	my $headers = '{"Authorization": "Bearer t", "Content-Type": "application/json", "x-correlator": "order-1"}';

	return front_end("SELECT status, headers, body FROM esim_camara('$method', '$path', '$headers', " . (defined $request ? "'" . encode_json($request) . "'" : 'NULL') . ')');
}

my $root = '/iot/esim-profile-management/vwip';
my $answer = front_end($call =~ s/…/token/r);
is($answer->{status}, 202, 'provider: the call of the page is accepted') or diag($answer->{body});
my $id = decode_json($answer->{body})->{operationId};
is($answer->{headers}{Location}, "https://api.example.com$root/operations/$id", 'provider: Location begins with esim.api_root');
$answer = ask('GET', "$root/operations/$id");
is($answer->{status}, 200, 'provider: its path leads to the operation');
is($answer->{headers}{'x-correlator'}, 'order-1', 'provider: x-correlator comes back');
is(ask('GET', "/esim-profile-management/vwip/operations/$id")->{status}, 200, 'provider: also without the path of the root');
is(ask('GET', "/other/esim-profile-management/vwip/operations/$id")->{status}, 404, 'provider: not with another');
is((front_end("SELECT 1") // {})->{'?column?'}, 1, 'provider: the front end may become its client');
($status, $out, $err) = $node->psql($provider, q(SELECT esim.esim_camara('GET', '/', '{}', NULL)), extra_params => [ '-U', 'api' ]);
like($err, qr/permission denied/, 'provider: a forgotten SET ROLE is an error');

# a quota: the device is away, so that what is asked for waits
$simulator->post('/euicc', { eid => eid(2), online => JSON::PP::false, profiles => [ { iccid => $first, state => 'DISABLED' } ] });
ok(wait_until($node, $provider, q(SELECT count(*) FROM esim.esim_operation WHERE status = 'ACCEPTED'), '0'), 'provider: nothing waits');
$node->safe_psql($provider, 'ALTER SYSTEM SET esim.max_pending_per_owner = 1');
$node->safe_psql($provider, 'SELECT pg_reload_conf()');
ok(wait_until($node, $provider, 'SHOW esim.max_pending_per_owner', '1'), 'provider: one at a time');
is(ask('POST', "$root/enable", { esimProfile => { iccid => $first } })->{status}, 202, 'provider: the first is accepted');
foreach my $request ([ "$root/delete", { esimProfile => { iccid => $first } } ],
	[ '/iot/esim/vwip/esim/delete', { esim => { iccid => $first }, sink => 'https://127.0.0.1/x' } ])
{
	$answer = ask('POST', @$request);
	is($answer->{status}, 429, "provider: $request->[0]: the quota is used up") or diag($answer->{body});
	is(decode_json($answer->{body})->{code}, 'QUOTA_EXCEEDED', 'provider: and says so');
}
ok(!$node->log_contains(qr/PANIC|was terminated by signal|esim worker failed/), 'no trouble');
$node->stop;
done_testing();
