# test/t/031_sink_address.pl
# Where sinks may not be: refused when the operation is asked for, and where a name or a setting
# hides it, when the message would be sent; nothing is connected.
use strict;
use warnings;

use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(sleep);

use EsimTest;
use EsimSink;

my $simulator = start_simulator();
my $sink = EsimSink::start("${PostgreSQL::Test::Utils::tmp_check}/address.log", 1);
my $port = $sink->{ports}[0];
my $node = new_node('address', settings => [ 'esim.poll_interval = 1s' ]);
my $database = 'address';
my $next_device = 0;

create_database($node, $database);
create_server($node, $database, $simulator, 'main', smdp_address => 'smdp.example.com');
fleet($node, $database, 100, state => 'DISABLED', simulator => $simulator);

sub ask
{
	my ($parameter, $url) = @_;
	my ($status, $out, $err) = $node->psql($database,
		"\\set VERBOSITY verbose\nSELECT esim_enable('" . iccid($next_device) . "', $parameter => '$url')");

	return $err if $status != 0;
	$next_device++;
	return "accepted $out";
}

sub setting
{
	my (%settings) = @_;

	$node->append_conf('postgresql.conf', join('', map { "$_ = '$settings{$_}'\n" } sort keys %settings));
	$node->reload;
	foreach my $name (sort keys %settings)
	{
		wait_until($node, $database, "SELECT current_setting('$name') FROM esim_eid_valid('')", $settings{$name});
	}
	sleep 0.2;
	return;
}

sub state_of
{
	my ($operation) = @_;
	return value($node, $database, "SELECT state || ' ' || tries || ' ' || coalesce(last_error, '') FROM esim_notification WHERE operation = '$operation'");
}

#
# at once: every spelling of an address that is private
#
my @private = (
	'127.0.0.1', '127.1', '127.0.1', '0x7f.1', '0x7f000001', '0x7F.0x0.0x0.0x1', '0177.0.0.1', '017700000001',
	'2130706433', '127.0.0.1.', '127.255.255.254', '0', '0.0.0.0', '0x0', 'localhost', 'LOCALHOST', 'localhost.',
	'a.localhost', '10.0.0.1', '167772161', '172.16.0.1', '192.168.1.1', '192.168.257', '3232235777',
	'169.254.169.254', '0xa9fea9fe', '2852039166', '0251.0376.0251.0376', '100.64.0.1', '198.18.0.1', '224.0.0.1',
	'255.255.255.255', '[::1]', '[::]', '[0:0:0:0:0:0:0:1]', '[::ffff:127.0.0.1]', '[::ffff:7f00:1]',
	'[::ffff:169.254.169.254]', '[::127.0.0.1]', '[64:ff9b::127.0.0.1]', '[64:ff9b::a9fe:a9fe]', '[2002:7f00:1::]',
	'[fe80::1]', '[fd00:ec2::254]', '[ff02::1]', '%31%32%37.0.0.1');
foreach my $host (@private)
{
	like(ask('sink', "https://$host:$port/ok"), qr/ES40[03]/, "sink at $host is refused");
}
foreach my $host (@private[ 0, 3, 8, 14, 32, 35 ])
{
	like(ask('callback_url', "https://$host:$port/ok"), qr/ES403.*PERMISSION_DENIED/s, "callback at $host too");
}
foreach my $url ("http://127.0.0.1:$port/ok", 'http://example.com/', 'ftp://example.com/', 'file:///etc/passwd',
	'gopher://example.com/', 'https://user@example.com/', 'https://example.com@127.0.0.1/', 'https://example.com/#a',
	'https:///x', 'https://', 'https://exa mple.com/', 'https://example.com/%zz"', 'unix:/tmp/x', '')
{
	like(ask('sink', $url), qr/ES400.*INVALID_ARGUMENT/s, "\"$url\" is no sink");
}
like(ask('sink', "https://example.com/' || E'\\r\\nX-Evil: 1' || '"), qr/ES400/, 'a line break in the URL');
like(ask('callback_url', "https://example.com/' || E'\\nX-Evil: 1' || '"), qr/ES400/, 'in the callback URL');
like(ask('correlator', "x' || E'\\r\\nX-Evil: 1' || '"), qr/ES400/, 'in the correlator');

#
# a list
#
like(ask('sink', 'https://hooks.example.com/'), qr/^accepted/, 'without a list any public host');
setting('esim.sink_allow' => 'example.com, *.example.org:8443');
like(ask('sink', 'https://hooks.example.com/'), qr/ES403.*PERMISSION_DENIED.*sink_allow/s, 'with a list no other host');
like(ask('sink', 'https://example.com.evil.net/'), qr/ES403/, 'none that only begins so');
like(ask('sink', 'https://example.com/'), qr/^accepted/, 'but those');
like(ask('sink', 'https://a.example.org:8443/'), qr/^accepted/, 'also by a wildcard');
like(ask('sink', 'https://a.example.org/'), qr/ES403/, 'with the port');
like(ask('sink', 'http://example.com/'), qr/ES400/, 'by https');
my ($status, $out, $err) = $node->psql($database, "LOAD 'esim'; ALTER SYSTEM SET esim.sink_allow = 'a b'");
like($err, qr/invalid value/, 'a list that is none is refused');
setting('esim.sink_allow' => '127.0.0.1');
like(ask('sink', "https://127.0.0.1:$port/ok"), qr/ES403/, 'a private address is not allowed by listing it');

#
# when it is sent: names that lead to private addresses, and URLs that a setting let in
#
setting('esim.sink_allow' => '*', 'esim.sink_allow_private' => 'on');
my %hidden = map { $_ => '' } ("http://127.0.0.1:$port/ok/a", "http://localhost:$port/ok/b", "http://0x7f.1:$port/ok/c",
	"http://[::ffff:127.0.0.1]:$port/ok/d", "http://2130706433:$port/ok/e");
$node->safe_psql($database, q(SELECT esim_pause()));
foreach my $url (sort keys %hidden)
{
	my $answer = ask('sink', $url);
	like($answer, qr/^accepted/, "$url is let in by settings");
	($hidden{$url}) = $answer =~ /^accepted (\S+)/;
}
setting('esim.sink_allow' => '', 'esim.sink_allow_private' => 'off');
$node->safe_psql($database, q(SELECT esim_resume()));
foreach my $url (sort keys %hidden)
{
	ok(wait_until($node, $database, "SELECT tries > 0 FROM esim_notification WHERE operation = '$hidden{$url}'", 't'), "$url is looked at");
	like(state_of($hidden{$url}), qr/^PENDING \d+ the URL is not allowed/, 'and not sent to');
}
is(scalar($sink->requests), 0, 'nothing came');

# names of this machine that the resolver knows: the address itself decides
my $name = `hostname`;
chomp $name;
my $address = gethostbyname($name);
SKIP:
{
	skip 'the name of this machine leads to no private address', 3
	  if $name !~ /^[a-zA-Z0-9.-]+$/ || !defined $address || length $address != 4
	  || join('.', unpack('C4', $address)) !~ /^(10|127|172\.(1[6-9]|2\d|3[01])|192\.168)\./;
	my $everywhere = IO::Socket::INET->new(Listen => 5, LocalAddr => '0.0.0.0');
	my $answer = ask('sink', 'https://' . $name . ':' . $everywhere->sockport . '/');
	like($answer, qr/^accepted/, 'a name is let in');
	my ($id) = $answer =~ /^accepted (\S+)/;
	ok(wait_until($node, $database, "SELECT tries > 0 FROM esim_notification WHERE operation = '$id'", 't'), 'and looked at');
	like(state_of($id), qr/is not one that may be connected to/, 'its address is refused');
	$everywhere->blocking(0);
	ok(!defined $everywhere->accept, 'nothing was connected');
}

# plain http needs the host in the list, and then goes to private addresses only
setting('esim.sink_allow' => '127.0.0.1, example.com', 'esim.sink_allow_private' => 'on');
ok(wait_until($node, $database, "SELECT string_agg(DISTINCT state, ' ') FROM esim_notification WHERE operation IN ('$hidden{\"http://127.0.0.1:$port/ok/a\"}', '$hidden{\"http://0x7f.1:$port/ok/c\"}')",
	'DELIVERED', 90), 'allowed again: delivered');
is(scalar($sink->requests(qr{^/ok/[bd]})), 0, 'what is not listed is not');

$node->stop('fast');
done_testing();
