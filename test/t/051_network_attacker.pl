# test/t/051_network_attacker.pl
# Somebody between the database and the RSP: certificates that are not the server's, older TLS,
# none at all, redirects, a proxy in the environment. Nothing of an operation is sent to him, and
# the operation waits with a reason that can be read.
use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use IPC::Open3;
use Test::More;
use Time::HiRes qw(sleep time);

use EsimTest;

my $directory = $PostgreSQL::Test::Utils::tmp_check;
my $database = 'network';
my $token = 'token-that-nobody-else-may-see';
my $secret = 'secret-that-nobody-else-may-see';
my @children;

sub openssl
{
	system("openssl @_ >>'$directory/openssl.log' 2>&1") == 0 or die "openssl @_";
	return;
}

sub write_file
{
	my ($name, $text) = @_;

	unlink "$directory/$name";
	PostgreSQL::Test::Utils::append_to_file("$directory/$name", $text);
	return "$directory/$name";
}

my $new_key = '-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes';

sub make_ca
{
	my ($name) = @_;

	openssl("req -x509 $new_key -keyout '$directory/$name.key' -out '$directory/$name.pem' -days 30 -subj '/CN=$name'");
	return;
}

# A certificate: ca (undef: signed by itself), names, days, usage, what stands behind it.
sub make_certificate
{
	my ($name, %how) = @_;
	my $extensions = write_file("$name.ext", 'subjectAltName = ' . ($how{names} // 'DNS:localhost, IP:127.0.0.1')
		  . "\nextendedKeyUsage = " . ($how{usage} // 'serverAuth') . "\nbasicConstraints = CA:FALSE\n");
	my $ca = $how{ca} // $name;
	my $days = $how{days} // 30;

	openssl("req -new $new_key -keyout '$directory/$name.key' -out '$directory/$name.csr' -subj '/CN=" . ($how{cn} // 'localhost') . "'");
	openssl("x509 -req -in '$directory/$name.csr' -days $days -extfile '$extensions' -out '$directory/$name.pem' "
		  . (defined $how{ca} ? "-CA '$directory/$ca.pem' -CAkey '$directory/$ca.key' -CAcreateserial" : "-signkey '$directory/$name.key'"));
	PostgreSQL::Test::Utils::append_to_file("$directory/$name.pem", PostgreSQL::Test::Utils::slurp_file("$directory/$how{chain}.pem")) if $how{chain};
	return;
}

# A process that the end of the test ends.
sub child
{
	my ($code) = @_;
	my $parent = $$;
	my $pid = fork() // die "fork: $!";

	if ($pid == 0)
	{
		$SIG{TERM} = 'DEFAULT';
		$SIG{PIPE} = 'IGNORE';
		eval { $code->($parent); };
		print STDERR $@ if $@;
		require POSIX;
		POSIX::_exit(0);
	}
	push @children, $pid;
	return $pid;
}

END
{
	my $status = $?;

	kill 'TERM', @children if @children;
	waitpid $_, 0 foreach @children;
	$? = $status;
}

# A peer that speaks TLS: openssl s_server with these options. What it decrypts is kept; answer is
# sent when a whole head has come.
sub tls_peer
{
	my ($name, $certificate, $options, $answer) = @_;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $file = write_file("$name.got", '');
	my ($key) = $certificate;

	child(sub {
		my ($parent) = @_;
		my $pid = open3(my $in, my $out, undef, 'openssl', 's_server', '-accept', "127.0.0.1:$port", '-quiet', '-cert', "$directory/$certificate.pem", '-cert_chain',
			"$directory/$certificate.pem", '-key', "$directory/$key.key", split / /, $options // '');
		my $select = IO::Select->new($out);
		my $head = '';

		local $SIG{TERM} = sub { kill 'TERM', $pid; waitpid $pid, 0; require POSIX; POSIX::_exit(0); };
		while (getppid() == $parent)
		{
			next if !$select->can_read(0.5);
			last if !sysread($out, my $data, 65536);
			PostgreSQL::Test::Utils::append_to_file($file, $data);
			$head .= $data;
			if (defined $answer && $head =~ /\r\n\r\n/)
			{
				$head = '';
				syswrite($in, $answer);
			}
		}
		kill 'TERM', $pid;
		waitpid $pid, 0;
	});
	return { port => $port, file => $file };
}

# A peer that speaks no TLS: keeps what comes, and says answer to each first bytes.
sub plain_peer
{
	my ($name, $answer) = @_;
	my $listen = IO::Socket::INET->new(Listen => 50, LocalAddr => '127.0.0.1', Proto => 'tcp') or die "listen: $!";
	my $file = write_file("$name.got", '');
	my $port = $listen->sockport;

	child(sub {
		my ($parent) = @_;
		my $select = IO::Select->new($listen);

		while (getppid() == $parent)
		{
			foreach my $socket ($select->can_read(0.5))
			{
				if ($socket == $listen)
				{
					my $client = $listen->accept;
					if ($client)
					{
						PostgreSQL::Test::Utils::append_to_file("$file.connections", "1\n");
						$select->add($client);
					}
				}
				elsif (sysread($socket, my $data, 65536))
				{
					PostgreSQL::Test::Utils::append_to_file($file, $data);
					syswrite($socket, $answer) if defined $answer;
				}
				else
				{
					$select->remove($socket);
					close $socket;
				}
			}
		}
	});
	close $listen;
	return { port => $port, file => $file };
}

sub got
{
	my ($peer) = @_;
	return PostgreSQL::Test::Utils::slurp_file($peer->{file});
}

sub connections
{
	my ($peer) = @_;
	return -e "$peer->{file}.connections" ? length(PostgreSQL::Test::Utils::slurp_file("$peer->{file}.connections")) / 2 : 0;
}

sub accepts
{
	my ($peer) = @_;
	my $end = time() + 20;

	while (time() < $end)
	{
		return 1 if IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $peer->{port}, Timeout => 1);
		sleep 0.1;
	}
	return 0;
}

make_ca('ca');
make_ca('other_ca');
make_certificate('good', ca => 'ca');
make_certificate('self', ca => undef);
make_certificate('stranger', ca => 'other_ca');
make_certificate('expired', ca => 'ca', days => -1);
make_certificate('elsewhere', ca => 'ca', names => 'DNS:rsp.example.com', cn => 'rsp.example.com');
make_certificate('common_name', ca => 'ca', names => 'DNS:rsp.example.com', cn => 'localhost');
make_certificate('no_address', ca => 'ca', names => 'DNS:localhost');
make_certificate('wildcard', ca => 'ca', names => 'DNS:*, DNS:*.0.0.1');
make_certificate('client', ca => 'ca', usage => 'clientAuth');
make_certificate('below_leaf', ca => 'good', chain => 'good');

# the proxy that somebody has put into the environment of the server
my $proxy = plain_peer('proxy', "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
my @proxy_variables = qw(http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY);
my $simulator = start_simulator();
my $node;
{
	local @ENV{@proxy_variables} = ("http://127.0.0.1:$proxy->{port}") x @proxy_variables;
	local $ENV{no_proxy} = '';
	$node = new_node('network', settings => [ 'esim.poll_interval = 1s', "esim.sink_allow = '*'", 'esim.sink_allow_private = on' ]);
}
create_database($node, $database);
create_server($node, $database, $simulator, 'main');
my $authority = PostgreSQL::Test::Utils::slurp_file("$directory/ca.pem");
my $next = 0;
fleet($node, $database, 60, state => 'DISABLED', server => 'main', simulator => $simulator);
$node->safe_psql($database, q(CREATE ROLE plain; GRANT USAGE ON FOREIGN DATA WRAPPER esim_rsp TO plain));

# An operation at a server with this URL; gives its identifier, EID and ICCID.
sub ask
{
	my ($server, $url, %options) = @_;
	my $mapping = delete $options{mapping} // "token '$token'";

	%options = (protocol => 'camara', url => $url, ca_file => $authority, timeout => '2 s', connect_timeout => '2 s', unknown_hold => '1 hour', %options);
	$node->safe_psql($database, "CREATE SERVER $server FOREIGN DATA WRAPPER esim_rsp OPTIONS ("
		  . join(', ', map { "$_ '$options{$_}'" } sort keys %options) . "); CREATE USER MAPPING FOR PUBLIC SERVER $server OPTIONS ($mapping)");
	my $n = $next++;
	return (value($node, $database, "SELECT esim_enable('" . iccid($n) . "', server => '$server', correlator => 'of-the-operation')"), eid($n), iccid($n));
}

my @asked;

# The operation is asked for now and looked at later, when all have been tried.
sub attack
{
	my ($name, $peer, $reason, %options) = @_;
	my $host = delete $options{host} // '127.0.0.1';
	my $server = 's' . (@asked + 1);

	ok(accepts($peer), "$name: the peer is there");
	my ($id, $eid, $iccid) = ask($server, "https://$host:$peer->{port}/esim-profile-management/vwip", %options);
	push @asked, { name => $name, peer => $peer, reason => $reason, id => $id, eid => $eid, iccid => $iccid };
	return;
}

sub nothing_of
{
	my ($got, $name, $asked) = @_;

	unlike($got, qr/\Q$asked->{eid}\E|\Q$asked->{iccid}\E|\Q$token\E|\Q$secret\E|of-the-operation|esim-profile-management|POST |GET /,
		"$name: nothing of the operation was sent");
	return;
}

# the control: the right certificate, and everything is there to be seen
my $good = tls_peer('good_peer', 'good');
ok(accepts($good), 'control: the peer is there');
my ($id, $eid, $iccid) = ask('good_server', "https://127.0.0.1:$good->{port}/esim-profile-management/vwip");
my $end = time() + 30;
sleep 0.2 while got($good) !~ /\Q$iccid\E/ && time() < $end;
like(got($good), qr/POST .*\Q$token\E/s, 'control: with the right certificate the token is sent');
like(got($good), qr/\Q$iccid\E/, 'control: and the operation');

my $certificate = qr/certificate/i;
attack('self-signed certificate', tls_peer('self_peer', 'self'), $certificate);
attack('certificate of another authority', tls_peer('stranger_peer', 'stranger'), $certificate);
attack('expired certificate', tls_peer('expired_peer', 'expired'), qr/certificate.*expired/i);
attack('certificate of another host', tls_peer('elsewhere_peer', 'elsewhere'), $certificate);
attack('certificate of another host, by name', tls_peer('elsewhere_peer2', 'elsewhere'), $certificate, host => 'localhost');
attack('the host only in the common name', tls_peer('common_peer', 'common_name'), $certificate, host => 'localhost');
attack('certificate of the name, asked for by address', tls_peer('no_address_peer', 'no_address'), $certificate);
attack('certificate of any host', tls_peer('wildcard_peer', 'wildcard'), $certificate, host => 'localhost');
attack('certificate of any address', tls_peer('wildcard_peer2', 'wildcard'), $certificate);
attack('certificate of a client', tls_peer('client_peer', 'client'), $certificate);
attack('certificate signed by a server\'s', tls_peer('leaf_peer', 'below_leaf'), $certificate);
attack('the system\'s authorities, a private one', tls_peer('system_peer', 'good'), $certificate, ca_file => PostgreSQL::Test::Utils::slurp_file("$directory/other_ca.pem"));
attack('TLS 1.0', tls_peer('tls10_peer', 'good', '-tls1 -cipher ALL:@SECLEVEL=0'), qr/TLS|SSL|reset|closed/i);
attack('TLS 1.1', tls_peer('tls11_peer', 'good', '-tls1_1 -cipher ALL:@SECLEVEL=0'), qr/TLS|SSL|reset|closed/i);
attack('no encryption', tls_peer('null_peer', 'good', '-tls1_2 -cipher NULL:eNULL:aNULL:@SECLEVEL=0'), qr/TLS|SSL|reset|closed/i);
attack('plain HTTP at the port of TLS', plain_peer('http_peer', "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), qr/TLS|SSL/i);
attack('a TLS alert', plain_peer('alert_peer', "\x15\x03\x03\x00\x02\x02\x28"), qr/TLS|SSL/i);
attack('something else', plain_peer('noise_peer', "\x00" x 2000), qr/TLS|SSL/i);

# the peers with old TLS do work with who wants that
SKIP:
{
	my ($old) = grep { $_->{name} eq 'TLS 1.1' } @asked;
	my $said = `echo | openssl s_client -connect 127.0.0.1:$old->{peer}{port} -tls1_1 -cipher 'ALL:\@SECLEVEL=0' 2>&1`;

	skip 'OpenSSL here has no TLS 1.1', 1 if $said !~ /Protocol *: TLSv1/ && $said =~ /no protocols available|unsupported protocol/;
	like($said, qr/Protocol *: TLSv1\.1/, 'control: the peer would speak TLS 1.1');
}

# the token endpoint is somebody else
my $token_peer = tls_peer('token_peer', 'self');
my $behind = plain_peer('behind_token');
ok(accepts($token_peer), 'the peer at the token endpoint is there');
($id, $eid, $iccid) = ask('with_token', "https://127.0.0.1:$behind->{port}/esim-profile-management/vwip", auth_method => 'client_secret_post',
	token_url => "https://127.0.0.1:$token_peer->{port}/oauth2/token", mapping => "client_id 'client', client_secret '$secret'");
push @asked, { name => 'token endpoint with another certificate', peer => $token_peer, reason => $certificate, id => $id, eid => $eid, iccid => $iccid };

foreach my $asked (@asked)
{
	ok(wait_until($node, $database, "SELECT phase NOT IN ('QUEUED', 'SENT') AND phase_reason IS NOT NULL FROM esim_operation WHERE id = '$asked->{id}'", 't', 30), "$asked->{name}: was tried");
	my ($status, $phase, $reason) = split /\|/, value($node, $database, "SELECT status, phase, phase_reason FROM esim_operation WHERE id = '$asked->{id}'");
	is($status, 'ACCEPTED', "$asked->{name}: the operation waits");
	like($reason, qr/certificate|TLS|token/i, "$asked->{name}: and says why");
	my $detail = value($node, $database, "SELECT string_agg(DISTINCT detail, '; ') FROM esim_attempt WHERE operation = '$asked->{id}'");
	like($detail, $asked->{reason}, "$asked->{name}: its attempt says so in full");
	nothing_of(got($asked->{peer}), $asked->{name}, $asked);
	is(value($node, $database, "SELECT count(*) FROM esim_attempt WHERE operation = '$asked->{id}' AND outcome IS NOT NULL AND http_status IS NOT NULL"), '0', "$asked->{name}: no answer is recorded");
	is(value($node, $database, "SELECT unresolved FROM esim_pending WHERE operation = '$asked->{id}'"), 'f', "$asked->{name}: nothing is in doubt");
}
unlike(got($behind), qr/$secret|POST|\x16\x03/, 'without a token the RSP is not asked');

# redirects: the server may say what it wants, nobody else is asked
my $thief = plain_peer('thief', "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
my $tls_thief = tls_peer('tls_thief', 'good');
ok(accepts($tls_thief), 'the peer of the redirect is there');
foreach my $case ([ 302, "http://127.0.0.1:$thief->{port}/" ], [ 307, "http://127.0.0.1:$thief->{port}/" ], [ 308, "https://127.0.0.1:$tls_thief->{port}/" ])
{
	my ($code, $location) = @$case;
	my $peer = tls_peer("redirect_$code", 'good', '', "HTTP/1.1 $code Moved\r\nLocation: $location\r\nContent-Length: 0\r\n\r\n");

	ok(accepts($peer), "redirect $code: the peer is there");
	my ($operation) = ask("redirect_$code", "https://127.0.0.1:$peer->{port}/esim-profile-management/vwip");
	ok(wait_until($node, $database, "SELECT count(*) > 0 FROM esim_attempt WHERE operation = '$operation' AND http_status = $code", 't', 30), "redirect $code: the server's answer came");
}
sleep 1;
is(got($thief), '', 'redirect to http: nothing was sent');
is(connections($thief), 0, 'nor connected');
unlike(got($tls_thief), qr/$token|HTTP|esim|89\d{10}/, 'redirect to https elsewhere: nothing was sent');

# plain http as an option is for superusers, and https is not left for it
foreach my $sql ("CREATE SERVER plain FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'http://127.0.0.1/')",
	"CREATE SERVER plain FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://127.0.0.1/', token_url 'http://127.0.0.1/')",
	"SET ROLE plain; CREATE SERVER plain FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'http://127.0.0.1/', allow_http 'true')",
	"SET ROLE plain; CREATE SERVER plain FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://127.0.0.1/', verify 'false')",
	"SET ROLE plain; CREATE SERVER plain FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://127.0.0.1/', ca_file '/etc/passwd')")
{
	isnt($node->psql($database, $sql), 0, 'refused: ' . $sql =~ s/ FOREIGN DATA WRAPPER esim_rsp OPTIONS//r);
}

# a sink with a certificate that is not its own hears nothing
my $sink = tls_peer('sink_peer', 'self');
ok(accepts($sink), 'the peer at the sink is there');
my $n = $next++;
$id = value($node, $database, "SELECT esim_enable('" . iccid($n) . "', sink => 'https://127.0.0.1:$sink->{port}/hook', sink_credential =>
	'{\"credentialType\": \"ACCESSTOKEN\", \"accessToken\": \"$token\", \"accessTokenExpireUtc\": \"2099-01-01T00:00:00Z\", \"accessTokenType\": \"bearer\"}')");
ok(wait_until($node, $database, "SELECT tries > 0 FROM esim_notification WHERE operation = '$id'", 't', 30), 'the sink was tried');
like(value($node, $database, "SELECT state || ' ' || last_error FROM esim_notification WHERE operation = '$id'"), qr/^PENDING .*certificate/i, 'the notification waits, and says why');
nothing_of(got($sink), 'sink', { eid => eid($n), iccid => iccid($n) });

# an authority of one's own for sinks: in place of the system's, read again at each reload
my $private = tls_peer('private_sink', 'good', '', "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n");
my $bundle = write_file('sinks.pem', PostgreSQL::Test::Utils::slurp_file("$directory/other_ca.pem"));
ok(accepts($private), 'the peer at the private sink is there');
$n = $next++;
my $private_id = value($node, $database, "SELECT esim_enable('" . iccid($n) . "', sink => 'https://127.0.0.1:$private->{port}/hook')");
my $notification = "FROM esim_notification WHERE operation = '$private_id'";
my $tries = 0;
foreach my $case ([ '', 'certificate', 'without the setting' ], [ "$directory/absent.pem", 'certificate|CA', 'a file that is not there' ],
	[ $bundle, 'certificate', 'another authority' ])
{
	my ($file, $reason, $name) = @$case;

	$node->append_conf('postgresql.conf', "esim.sink_ca_file = '$file'");
	$node->reload;
	sleep 0.5;
	value($node, $database, "SELECT esim_redeliver(id) $notification") if $tries;
	ok(wait_until($node, $database, "SELECT tries > $tries $notification", 't', 30), "private sink: $name: it was tried");
	like(value($node, $database, "SELECT state || ' ' || last_error $notification"), qr/^PENDING .*(?:$reason)/i, "private sink: $name: refused");
	$tries = value($node, $database, "SELECT tries $notification");
}
unlike(got($private), qr/HTTP/, 'private sink: nothing was sent');
write_file('sinks.pem', PostgreSQL::Test::Utils::slurp_file("$directory/ca.pem"));
$node->reload;
sleep 0.5;
value($node, $database, "SELECT esim_redeliver(id) $notification");
ok(wait_until($node, $database, "SELECT state $notification", 'DELIVERED', 30), 'private sink: its authority in the same file: delivered');
like(got($private), qr{^POST /hook HTTP/1\.1\r.*$private_id}ms, 'private sink: the event');

# the environment's proxy saw nothing of all this, nor of what went to the simulator by http
is(value($node, $database, "SELECT result FROM esim_operation WHERE id = '$id'"), 'SUCCESS', 'an operation at the simulator, with a proxy in the environment');
is(connections($proxy), 0, 'the proxy was never connected to');
is(got($proxy), '', 'and got nothing');

# nor do the messages of the server tell secrets
my @log = grep { /^\d{4}-\d\d-\d\d .*?(?:LOG|ERROR|WARNING|FATAL|DETAIL|HINT):  / && !/LOG:  statement: / } split /\n/, PostgreSQL::Test::Utils::slurp_file($node->logfile);
is(join("\n", grep { /$token|$secret/ } @log), '', 'no secrets in the log');

$node->stop('fast');
done_testing();
