# test/t/EsimTest.pm
# What the TAP scripts share: clusters, the RSP simulator, fleets, waiting, the ledger.
package EsimTest;

use strict;
use warnings;

use Exporter 'import';
use HTTP::Tiny;
use IO::Handle;
use JSON::PP;
use Test::More;
use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(
  start_simulator new_node create_database create_server alter_server
  eid iccid fleet query value rows wait_until wait_completed tell_failures worker_pids
  ledger_is_exact
);

# Longest wait for what should take a second or two.
our $patience = $PostgreSQL::Test::Utils::timeout_default || 60;

my @simulators;

# Starts the simulator; its methods are below.
sub start_simulator
{
	my @options = @_;
	my $program = $ENV{ESIM_RSPSIM} or die "ESIM_RSPSIM does not say where the simulator is";
	my $number = scalar @simulators;
	my $errors = "${PostgreSQL::Test::Utils::log_path}/rspsim_$number.err";
	my ($line, $pid);

	pipe(my $reader, my $writer) or die "pipe: $!";
	$pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		close $reader;
		open(STDOUT, '>&', $writer) or die $!;
		open(STDERR, '>', $errors) or die $!;
		exec $program, '--parent-watch', '--quiet', @options or die "$program: $!";
	}
	close $writer;
	$line = <$reader>;
	die "the simulator did not start, see $errors"
	  if !defined $line || $line !~ /^rspsim listening on (\S+)$/;
	my $self = bless {
		pid => $pid, url => $1, out => $reader,
		http => HTTP::Tiny->new(timeout => 60, proxy => undef, http_proxy => undef)
	}, 'EsimTest::Simulator';
	push @simulators, $self;
	return $self;
}

END
{
	my $status = $?;

	$_->stop foreach @simulators;
	$? = $status;
}

# Makes and starts a cluster: preload => 0 or 1, settings => [...], start => 0.
sub new_node
{
	my ($name, %how) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(
		extra => [ '--locale=C.UTF-8', '--encoding=UTF8' ],
		%{ $how{init} // {} });
	$node->append_conf('postgresql.conf',
		join("\n", 'log_min_messages = info',
			($how{preload} ? "shared_preload_libraries = 'esim'" : ()),
			@{ $how{settings} // [] }) . "\n");
	$node->start unless exists $how{start} && !$how{start};
	return $node;
}

# Gives a database the extension in a schema of its own.
sub create_database
{
	my ($node, $database) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database") if $database ne 'postgres';
	$node->safe_psql($database, qq(
		CREATE SCHEMA esim;
		CREATE EXTENSION esim SCHEMA esim;
		ALTER DATABASE $database SET search_path = esim, public;
	));
	return;
}

# A server of the simulator: dialect, name (of the simulator's tenant), and options of CREATE SERVER.
sub create_server
{
	my ($node, $database, $simulator, $server, %options) = @_;
	my $tenant = delete $options{tenant} // $server;
	my $dialect = $options{dialect} // 'r1.2';

	%options = (
		protocol => 'camara',
		url => $simulator->base($tenant, $dialect),
		allow_http => 'true',
		timeout => '3 s',
		connect_timeout => '2 s',
		unknown_hold => '2 s',
		%options);
	$node->safe_psql($database,
		qq(CREATE SERVER "$server" FOREIGN DATA WRAPPER esim_rsp OPTIONS \()
		  . join(', ', map { "$_ '$options{$_}'" } sort keys %options) . ')');
	return;
}

# alter_server(node, database, server, option => value, ...): value undef drops
sub alter_server
{
	my ($node, $database, $server, %options) = @_;

	foreach my $option (sort keys %options)
	{
		my $there = value($node, $database, qq(
			SELECT count(*) FROM pg_foreign_server, pg_options_to_table(srvoptions)
			WHERE srvname = '$server' AND option_name = '$option'));
		my $what = !defined $options{$option} ? "DROP $option"
		  : ($there ? 'SET' : 'ADD') . " $option '$options{$option}'";

		$node->safe_psql($database, qq(ALTER SERVER "$server" OPTIONS ($what)));
	}
	return;
}

# EID number n of the simulator's fleets: MOD 97-10 check digits.
sub eid
{
	my $body = sprintf('8904903200%020d', shift);
	my $rest = 0;

	$rest = ($rest * 10 + $_) % 97 foreach split //, $body . '00';
	return $body . sprintf('%02d', 98 - $rest);
}

# ICCID number n of the simulator's fleets: Luhn digit.
sub iccid
{
	my $body = sprintf('89%016d', shift);
	my $sum = 0;
	my $double = 1;

	foreach my $digit (reverse split //, $body)
	{
		my $n = $double ? $digit * 2 : $digit;
		$sum += $n > 9 ? $n - 9 : $n;
		$double = !$double;
	}
	return $body . (10 - $sum % 10) % 10;
}

# Registers count devices from number first on, each with so many profiles, numbered as the
# simulator's populate does.  Options: first, profiles, state (NULL: none on the eUICC yet, the
# profile waits RELEASED with an activation code that names it), server, simulator to populate too.
sub fleet
{
	my ($node, $database, $count, %how) = @_;
	my $first = $how{first} // 0;
	my $last = $first + $count - 1;
	my $profiles = $how{profiles} // 1;
	my $server = $how{server} ? "'$how{server}'" : 'NULL';
	my $iccid = q((b.body || esim_iccid_check_digit(b.body))::iccid);
	my $eid = q((d.body || esim_eid_check_digits(d.body))::eid);

	$node->safe_psql($database, qq(
		INSERT INTO esim_device (eid, server)
		SELECT $eid, $server
		FROM generate_series($first, $last) n,
			LATERAL (SELECT '8904903200' || lpad(n::text, 20, '0') AS body) d;
		INSERT INTO esim_profile (iccid, eid, state, activation_code)
		SELECT $iccid, ) . ($how{state} ? "$eid, '$how{state}', NULL" : qq(NULL, 'RELEASED',
			('1\$smdp.example.com\$' || b.body || esim_iccid_check_digit(b.body))::activation_code)) . qq(
		FROM generate_series($first, $last) n, generate_series(0, $profiles - 1) k,
			LATERAL (SELECT '8904903200' || lpad(n::text, 20, '0') AS body) d,
			LATERAL (SELECT '89' || lpad((n * $profiles + k)::text, 16, '0') AS body) b;
		ANALYZE esim_device, esim_profile;
	));
	$how{simulator}->post('/populate',
		{ count => $count + 0, first => $first + 0, profiles => $profiles + 0, state => $how{state} })
	  if $how{simulator} && $how{state};
	return;
}

# The output of a query, one line a row, columns parted by |.
sub query
{
	my ($node, $database, $sql) = @_;
	return $node->safe_psql($database, $sql);
}

sub value { return query(@_); }

sub rows
{
	return map { [ split /\|/, $_, -1 ] } split /\n/, query(@_);
}

# Waits until the query gives the value, looks 20 times a second; false at the end of patience.
sub wait_until
{
	my ($node, $database, $sql, $expected, $seconds) = @_;
	my $end = time() + ($seconds // $patience);
	my $got = '';

	while (time() < $end)
	{
		my ($status, $out) = $node->psql($database, $sql);
		$got = $out // '';
		return 1 if defined $status && $status == 0 && $got eq $expected;
		sleep 0.05;
	}
	diag("still \"$got\" instead of \"$expected\": $sql");
	return 0;
}

# All operations COMPLETED?  Looks at the table only: no function of ours is called that could
# wake a worker.
sub wait_completed
{
	my ($node, $database, $seconds) = @_;

	return 1 if wait_until($node, $database,
		q(SELECT count(*) FROM esim_operation WHERE status = 'ACCEPTED'), '0', $seconds);
	diag(query($node, $database, q(
		SELECT kind, phase, left(phase_reason, 80), count(*), max(attempts)
		FROM esim_operation WHERE status = 'ACCEPTED' GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 10)));
	diag(query($node, $database, q(
		SELECT o.kind, a.method, a.http_status, a.outcome, left(a.detail, 80), count(*)
		FROM esim_operation o JOIN esim_attempt a ON a.operation = o.id
		WHERE o.status = 'ACCEPTED' GROUP BY 1, 2, 3, 4, 5 ORDER BY 6 DESC LIMIT 10)));
	diag(query($node, $database,
		q(SELECT state, unresolved, handling, crashes, ask_first, count(*), min(next_at - now()) FROM esim_pending GROUP BY 1, 2, 3, 4, 5)));
	diag(query($node, $database, q(SELECT pid, doing, in_flight, last_error FROM esim_worker_status())));
	return 0;
}

# What did not succeed, for the log of a test.
sub tell_failures
{
	my ($node, $database) = @_;

	diag(query($node, $database, q(
		SELECT o.kind, o.result, o.error_code, left(o.error_message, 100), o.rsp_code, count(*), min(o.attempts), max(o.attempts)
		FROM esim_operation o WHERE o.result <> 'SUCCESS' GROUP BY 1, 2, 3, 4, 5 ORDER BY 6 DESC LIMIT 10)));
	diag(query($node, $database, q(
		SELECT a.number, a.method, a.http_status, a.outcome, left(a.detail, 100), a.duration_ms, a.at
		FROM esim_attempt a WHERE a.operation = (SELECT id FROM esim_operation WHERE result <> 'SUCCESS' ORDER BY seq LIMIT 1)
		ORDER BY a.number LIMIT 20)));
	diag(query($node, $database, q(SELECT what, ours, reported, count(*) FROM esim_drift GROUP BY 1, 2, 3 LIMIT 10)));
	return;
}

# Process ids of the workers of a database.
sub worker_pids
{
	my ($node, $database) = @_;
	return map { $_->[0] } rows($node, 'postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'esim worker' AND datname = '$database' ORDER BY pid");
}

# Every effect exactly once, nothing repeated without asking; expected: effect => number.
sub ledger_is_exact
{
	my ($simulator, $name, %expected) = @_;
	my $ledger = $simulator->get('/ledger');
	my $good = 1;

	$good &= is($ledger->{double_effects}, 0, "$name: no effect twice");
	$good &= is($ledger->{unasked_repeats}, 0, "$name: nothing repeated without asking")
	  || diag(explain($ledger->{unasked}));
	foreach my $effect (sort keys %expected)
	{
		$good &= is($ledger->{by_kind}{$effect}, $expected{$effect}, "$name: $effect");
	}
	return $good;
}

package EsimTest::Simulator;

use strict;
use warnings;

use JSON::PP;

# Base URL of a tenant in a dialect, as the OpenAPI files have it.
sub base
{
	my ($self, $tenant, $dialect) = @_;
	my $api = ($dialect // 'r1.2') eq '2026-02' ? 'esim' : 'esim-profile-management';

	return "$self->{url}/$tenant/$api/vwip";
}

sub request
{
	my ($self, $method, $path, $data) = @_;
	my $answer = $self->{http}->request($method, "$self->{url}/control$path",
		defined $data
		? { headers => { 'content-type' => 'application/json' }, content => encode_json($data) }
		: {});

	die "simulator: $method $path: $answer->{status} $answer->{content}" if !$answer->{success};
	return decode_json($answer->{content});
}

sub get { my ($self, $path) = @_; return $self->request('GET', $path); }
sub post { my ($self, $path, $data) = @_; return $self->request('POST', $path, $data); }
sub delete { my ($self, $path) = @_; return $self->request('DELETE', $path); }

# Adds fault rules, for example {path => 'enable', fault => 'reset_after_effect', count => 1}.
sub fault { my ($self, @rules) = @_; return $self->post('/fault', [@rules]); }
sub clear_faults { my ($self) = @_; return $self->delete('/fault'); }

# Settings of a tenant: latency_ms, device_delay_ms, auth, ...
sub config { my ($self, $tenant, %settings) = @_; return $self->post('/config', { server => $tenant, %settings }); }

sub stats { my ($self, $tenant) = @_; return $self->get('/stats')->{servers}{$tenant} // { requests => 0 }; }
sub reset { my ($self) = @_; return $self->post('/reset'); }

# Requests of a tenant so far.
sub requests { my ($self, $tenant) = @_; return $self->stats($tenant)->{requests}; }

# Effects on one eUICC, oldest first, as "what iccid".
sub effects
{
	my ($self, $eid) = @_;
	return [ map { "$_->{what} $_->{iccid}" } reverse @{ $self->get("/ledger?eid=$eid&limit=1000") } ];
}

sub stop
{
	my ($self) = @_;

	return if !$self->{pid};
	kill 'TERM', $self->{pid};
	waitpid $self->{pid}, 0;
	$self->{pid} = 0;
	return;
}

1;
