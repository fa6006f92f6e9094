# test/t/EsimSink.pm
# A receiver of notifications: a process that answers as the first part of the path says, and
# keeps a log of what came.
#
#   /ok/...          204
#   /fail/...        500
#   /status/N/...    status N
#   /gone/...        410
#   /later/...       the first time 429 with Retry-After: 2, then 204
#   /flaky/N/...     N times 503 for each event, then 204
#   /redirect/...    302 to /ok/redirected
#   /timeout/...     no answer
#   /reset/...       the connection is reset
#   /big/...         200 with an endless body
#   /switch/...      as the file of set_switch() says: ok, fail, timeout, reset
#
# Alone: perl -Itest/t -MEsimSink -e 'EsimSink::serve("log", 4)' prints the ports and serves.
package EsimSink;

use strict;
use warnings;

use Errno qw(EAGAIN EINTR);
use IO::Select;
use IO::Socket::INET;
use JSON::PP;
use Socket qw(SOL_SOCKET SO_LINGER);
use Time::HiRes qw(time);

# start(file, ports): a receiver with so many ports, ended with the test
sub start
{
	my ($file, $ports) = @_;
	my $parent = $$;

	pipe(my $reader, my $writer) or die "pipe: $!";
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		close $reader;
		open(STDOUT, '>&', $writer) or die $!;
		close $writer;
		serve($file, $ports // 1, $parent);
		require POSIX;
		POSIX::_exit(0);
	}
	close $writer;
	my $line = <$reader> // die 'the receiver did not start';
	chomp $line;
	my $self = bless { pid => $pid, file => $file, ports => [ split / /, $line ] }, __PACKAGE__;
	return $self;
}

sub stop
{
	my ($self) = @_;

	return if !$self->{pid};
	kill 'KILL', $self->{pid};
	waitpid $self->{pid}, 0;
	$self->{pid} = 0;
	return;
}

sub DESTROY { my ($self) = @_; local $?; $self->stop; return; }

sub url
{
	my ($self, $path, $port) = @_;
	return "http://127.0.0.1:$self->{ports}[ $port // 0 ]$path";
}

sub set_switch
{
	my ($self, $mode) = @_;

	open(my $out, '>', "$self->{file}.switch.new") or die $!;
	print $out $mode;
	close $out;
	rename "$self->{file}.switch.new", "$self->{file}.switch" or die $!;
	return;
}

# all requests so far: hashes with at, port, method, path, headers (names in lower case), body
sub requests
{
	my ($self, $match) = @_;
	my @result;

	open(my $in, '<', $self->{file}) or return ();
	while (my $line = <$in>)
	{
		last if $line !~ /\n$/;
		my $request = decode_json($line);
		push @result, $request if !defined $match || $request->{path} =~ $match;
	}
	return @result;
}

sub answer
{
	my ($status, $headers, $body) = @_;

	$body //= '';
	return "HTTP/1.1 $status X\r\nContent-Length: " . length($body) . "\r\n" . ($headers // '') . "\r\n$body";
}

sub serve
{
	my ($file, $count, $parent) = @_;
	my $select = IO::Select->new;
	my (%listen, %buffer, %stuck, %seen, @ports);

	$parent //= getppid();
	$SIG{PIPE} = 'IGNORE';
	open(my $log, '>>', $file) or die "$file: $!";
	$log->autoflush(1);
	for (1 .. $count)
	{
		my $socket = IO::Socket::INET->new(Listen => 512, LocalAddr => '127.0.0.1', Proto => 'tcp')
		  or die "listen: $!";
		$socket->blocking(0);
		$listen{$socket} = $socket->sockport;
		push @ports, $socket->sockport;
		$select->add($socket);
	}
	$| = 1;
	print join(' ', @ports), "\n";

	while (getppid() == $parent)
	{
		foreach my $socket ($select->can_read(1))
		{
			if (exists $listen{$socket})
			{
				my $port = $listen{$socket};

				while (my $client = $socket->accept)
				{
					$client->blocking(0);
					$buffer{$client} = '';
					$stuck{$client} = $port;
					$select->add($client);
				}
				next;
			}
			my $n = sysread($socket, $buffer{$socket}, 65536, length $buffer{$socket});
			next if !defined $n && ($! == EAGAIN || $! == EINTR);
			if (!$n)
			{
				$select->remove($socket);
				delete $buffer{$socket};
				delete $stuck{$socket};
				close $socket;
				next;
			}
			while (exists $buffer{$socket} && $buffer{$socket} =~ /\A(.*?)\r\n\r\n/s)
			{
				my $head = $1;
				my ($length) = $head =~ /^content-length:\s*(\d+)/im;
				my $whole = length($head) + 4 + ($length // 0);

				last if length($buffer{$socket}) < $whole;
				my $body = substr($buffer{$socket}, length($head) + 4, $length // 0);
				substr($buffer{$socket}, 0, $whole) = '';
				my ($line, @lines) = split /\r\n/, $head;
				my ($method, $path) = split / /, $line;
				my %headers = map { /^([^:]+):\s*(.*)$/ ? (lc $1, $2) : () } @lines;
				my $out = '';

				print $log encode_json({
					at => time(), port => $stuck{$socket}, method => $method, path => $path,
					headers => \%headers, body => $body }) . "\n";

				my ($mode, $argument) = $path =~ m{^/([^/?]*)(?:/([^/?]*))?};
				my ($id) = $body =~ /"id":"([^"]*)"/;
				$id //= $path . $body;
				if ($mode eq 'switch')
				{
					open(my $in, '<', "$file.switch") or die $!;
					$mode = <$in> // 'ok';
					close $in;
				}
				if ($mode eq 'ok') { $out = answer(204); }
				elsif ($mode eq 'fail') { $out = answer(500, '', 'broken'); }
				elsif ($mode eq 'status') { $out = answer($argument); }
				elsif ($mode eq 'gone') { $out = answer(410); }
				elsif ($mode eq 'later') { $out = $seen{$id}++ ? answer(204) : answer(429, "Retry-After: 2\r\n"); }
				elsif ($mode eq 'flaky') { $out = $seen{$id}++ < $argument ? answer(503) : answer(204); }
				elsif ($mode eq 'redirect') { $out = answer(302, "Location: /ok/redirected\r\n"); }
				elsif ($mode eq 'timeout') { $select->remove($socket); push @{ $stuck{kept} }, $socket; }
				elsif ($mode eq 'big') { $out = answer(200, '', 'x' x 2_000_000); }
				elsif ($mode eq 'reset')
				{
					setsockopt($socket, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0));
					$select->remove($socket);
					delete $buffer{$socket};
					delete $stuck{$socket};
					close $socket;
				}
				else { $out = answer(404); }
				if (length $out)
				{
					$socket->blocking(1) if length $out > 1000;
					syswrite($socket, $out);
					$socket->blocking(0) if length $out > 1000;
				}
			}
		}
	}
	return;
}

1;
