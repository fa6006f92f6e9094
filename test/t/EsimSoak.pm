# test/t/EsimSoak.pm
# What the long run is made of: applications that do everything an application does, all at once.
#
# Each client is a process with a session of its own.  What it does is drawn from a sequence that the
# seed and its number begin; which row a step meets depends on what has happened until then.  It keeps
# what it saw of its transactions: "acked" are operations whose COMMIT was answered, "rolled" those
# that were rolled back.  What was asked for stands in soak.asked, written by the same transaction.
package EsimSoak;

use strict;
use warnings;

use Exporter 'import';
use IPC::Open2;
use JSON::PP;
use POSIX ();
use Time::HiRes qw(sleep time);

use EsimFront;
use EsimTest;

our @EXPORT = qw(start_clients @tenants %server_of %devices_of);

our $requester = '1.3.6.1.4.1.99999';
our $sink_token = 'soak-sink-token';
our $confirmation = 'soak-confirmation';

# server => its protocol's kind of devices; tenants that use it
our %server_of = (alpha => 'r12', beta => 'r12', gamma => 'new', delta => 'eim', epsilon => 'smdp', zeta => 'net');
our @tenants = sort keys %server_of;

# numbers of the eUICCs of each server; the first of r12 are handed to and fro
our %devices_of = (r12 => [ 0 .. 15 ], new => [ 20 .. 31 ], eim => [ 40 .. 51 ], smdp => [ 60 .. 79 ], net => [ 80 .. 99 ]);

# ---- chance ----

package EsimSoak::Random
{
	sub new { my ($class, @seed) = @_; my $s = 1; $s = ($s * 69069 + $_ * 7919 + 1) % 2147483648 foreach @seed; my $self = bless \$s, $class; $self->below(2) for 1 .. 8; return $self; }
	sub next { my ($self) = @_; $$self = ($$self * 1103515245 + 12345) % 2147483648; return ($$self >> 8) / 8388608; }
	sub below { my ($self, $n) = @_; return int($self->next * $n); }
	sub chance { my ($self, $p) = @_; return $self->next < $p; }
	sub one { my ($self, @of) = @_; return $of[ $self->below(scalar @of) ]; }

	# one of weight => value, ...
	sub weighed
	{
		my ($self, @pairs) = @_;
		my $sum = 0;

		for (my $i = 0; $i < @pairs; $i += 2) { $sum += $pairs[$i]; }
		my $at = $self->next * $sum;
		for (my $i = 0; $i < @pairs; $i += 2) { $at -= $pairs[$i]; return $pairs[ $i + 1 ] if $at < 0; }
		return $pairs[-1];
	}
}

# ---- a session that may die at any time ----

package EsimSoak::Session
{
	use IPC::Open2;
	use Time::HiRes qw(sleep);

	sub new
	{
		my ($class, %self) = @_;
		return bless { marks => 0, %self }, $class;
	}

	sub close
	{
		my ($self) = @_;

		return if !$self->{pid};
		close $self->{in};
		close $self->{out};
		waitpid $self->{pid}, 0;
		$self->{pid} = 0;
		return;
	}

	# Runs statements; the lines of the answer, and whether the session lived to the end of it.
	sub run
	{
		my ($self, $sql) = @_;
		my $mark = '@end ' . ++$self->{marks};
		my @lines;

		if (!$self->{pid})
		{
			$self->{pid} = IPC::Open2::open2($self->{out}, $self->{in}, 'sh', '-c', 'exec psql "$@" 2>&1', 'psql', '-XAt',
				'-v', 'VERBOSITY=sqlstate', '-d', "$self->{connection} user=$self->{user} application_name=soak-$self->{user}");
		}
		print { $self->{in} } $sql, "\n\\echo $mark\n";
		$self->{in}->flush;
		while (my $line = readline $self->{out})
		{
			chomp $line;
			return (1, @lines) if $line eq $mark;
			push @lines, $line;
		}
		$self->close;
		return (0, @lines);
	}
}

package EsimSoak;

# ---- clients ----

# start_clients(node =>, database =>, seed =>, until =>, directory =>, sink =>, clients =>): process ids
sub start_clients
{
	my (%how) = @_;
	my @pids;
	my $number = 0;
	my @roles = (map({ (\&application) x $_ } $how{clients} // 8), \&locker, \&administrator, \&front);

	foreach my $role (@roles)
	{
		my $pid = fork() // die "fork: $!";

		$number++;
		if ($pid == 0)
		{
			$SIG{PIPE} = 'IGNORE';
			$SIG{TERM} = sub { POSIX::_exit(0) };
			open(STDOUT, '>', '/dev/null');
			open(my $log, '>', "$how{directory}/client.$number") or POSIX::_exit(1);
			$log->autoflush(1);
			my $self = bless { %how, parent => getppid(), number => $number, log => $log, count => 0, keys => [], random => EsimSoak::Random->new($how{seed}, $number) }, __PACKAGE__;
			eval { $role->($self); 1 } or print $log "died $@";
			POSIX::_exit(0);
		}
		push @pids, $pid;
	}
	return @pids;
}

sub session
{
	my ($self, $user) = @_;
	return EsimSoak::Session->new(user => $user, connection => $self->{node}->connstr($self->{database}));
}

# Runs a piece of a plan and keeps what became of the operations in it.
sub follow
{
	my ($self, $session, $sql) = @_;
	my ($alive, @lines) = $session->run($sql);
	my (@open, @kept);
	my $to = 0;

	foreach my $line (@lines)
	{
		if ($line =~ /^ID (\S+)/) { push @open, $1; }
		elsif ($line eq '@savepoint') { @kept = @open; }
		elsif ($line eq '@to') { $to = 1; }
		elsif ($line eq 'BEGIN') { @open = @kept = (); }
		elsif ($line =~ /^COMMIT/) { print { $self->{log} } map { "acked $_\n" } splice @open; }
		elsif ($line eq 'ROLLBACK' && $to)
		{
			my %before = map { $_ => 1 } @kept;

			print { $self->{log} } map { "rolled $_\n" } grep { !$before{$_} } @open;
			@open = @kept;
			$to = 0;
		}
		elsif ($line =~ /^ROLLBACK/) { print { $self->{log} } map { "rolled $_\n" } splice @open; $to = 0; }
		elsif ($line =~ /(?:ERROR|FATAL|PANIC):\s+(\S+)/) { print { $self->{log} } "error $1\n"; $to = 0 if $1 ne ''; }
	}
	# without a transaction block a statement that has answered is committed, if the session lives on
	sleep 0.3 if !$alive;
	return $alive;
}

# An operation that is asked for: written down by the same transaction.
sub ask
{
	my ($self, $call, $from) = @_;

	return "INSERT INTO soak.asked (id, client, call) SELECT o.id, $self->{number}, '" . ($call =~ /^(\w+)/)[0]
	  . "' FROM (SELECT $call AS id" . ($from ? " FROM ($from) p" : '') . ") o WHERE o.id IS NOT NULL ON CONFLICT DO NOTHING RETURNING 'ID ' || id;\n";
}

sub ask_many
{
	my ($self, $call) = @_;

	return "INSERT INTO soak.asked (id, client, call) SELECT o.operation, $self->{number}, '" . ($call =~ /^(\w+)/)[0]
	  . "' FROM $call o WHERE o.operation IS NOT NULL ON CONFLICT DO NOTHING RETURNING 'ID ' || id;\n";
}

# named parameters that any operation may have
sub tail
{
	my ($self) = @_;
	my $r = $self->{random};
	my @tail;

	push @tail, 'priority => ' . ($r->below(5) - 2) . '::smallint' if $r->chance(0.2);
	push @tail, "not_before => now() + interval '" . (1 + $r->below(3)) . " s'" if $r->chance(0.05);
	push @tail, "correlator => 'soak-$self->{number}-" . ++$self->{count} . "'" if $r->chance(0.05);
	if ($r->chance(0.5))
	{
		push @tail, "sink => '" . $self->{sink}->url('/' . $r->weighed(4 => 'ok', 4 => 'switch', 1 => 'later') . "/$self->{number}", $r->below(2)) . "'";
		push @tail, qq(sink_credential => '{"credentialType": "ACCESSTOKEN", "accessToken": "$sink_token", "accessTokenExpireUtc": "2099-01-01T00:00:00Z", "accessTokenType": "bearer"}')
		  if $r->chance(0.3);
	}
	push @tail, "callback_url => '" . $self->{sink}->url("/switch/callback/$self->{number}", 1) . "', callback_method => '" . $r->one('GET', 'POST') . "'" if $r->chance(0.2);
	if ($r->chance(0.3))
	{
		# a key of this client's, sometimes one that it has used before
		my $key = @{ $self->{keys} } && $r->chance(0.5) ? $r->one(@{ $self->{keys} }) : "key-$self->{number}-" . ++$self->{count};

		push @{ $self->{keys} }, $key;
		push @tail, "idempotency_key => '$key'";
	}
	return @tail ? ', ' . join(', ', @tail) : '';
}

# an ICCID that nobody has used
sub fresh { my ($self, $range) = @_; return iccid(($range // 1) * 1_000_000 + $self->{number} * 100_000 + ++$self->{count}); }
sub some_eid { my ($self, $kind) = @_; return eid($self->{random}->one(@{ $devices_of{$kind} })); }

# one of the device's profiles in these states
sub profile_of
{
	my ($self, $eid, @states) = @_;
	my $turn = $self->{random}->below(1000);

	return "SELECT iccid, eid, id FROM esim_profile WHERE eid = '$eid' AND iccid IS NOT NULL AND state IN (" . join(', ', map { "'$_'" } @states)
	  . ") ORDER BY md5(iccid::text || $turn) LIMIT 1";
}

sub any_profile
{
	my ($self, $where) = @_;
	my $turn = $self->{random}->below(1000);

	return "SELECT iccid, eid, reserved_eid, id FROM esim_profile WHERE $where ORDER BY md5(id::text || $turn) LIMIT 1";
}

sub code { my ($iccid) = @_; return "1\$smdp.example.com\$$iccid"; }

# One statement of an application of a tenant.
sub statement
{
	my ($self, $tenant) = @_;
	my $r = $self->{random};
	my $kind = $server_of{$tenant};
	my $tail = $self->tail;
	my $eid = $self->some_eid($kind);
	my $turn = $r->below(1000);

	# what is about operations, whatever the protocol
	return "SELECT esim_cancel(id) FROM (SELECT id FROM esim_operation WHERE status = 'ACCEPTED' ORDER BY md5(id::text || $turn) LIMIT 1) o;\n" if $r->chance(0.04);
	return $self->ask_many("esim_retry(ARRAY(SELECT id FROM (SELECT id FROM esim_operation WHERE result IN ('FAILED', 'CANCELLED') ORDER BY md5(id::text || $turn) LIMIT 2) o))") if $r->chance(0.03);
	return "SELECT count(*) FROM esim_status('$eid');\nSELECT count(*) FROM esim_timeline('$eid');\n" if $r->chance(0.02);
	return "SELECT status FROM esim_wait((SELECT id FROM esim_operation ORDER BY id DESC LIMIT 1), '0.5 s');\n" if $r->chance(0.02);
	return "SELECT count(*) FROM esim_inventory;\nSELECT count(*) FROM esim_queue;\n" if $r->chance(0.02);

	if ($kind eq 'smdp')
	{
		# of these nobody may say that another eUICC has them
		my $iccid = $self->fresh;
		my $free = $self->fresh(2);

		return $r->weighed(
			5 => $self->ask("esim_reserve(iccid => '$free', generate_matching_id => true, server => '$kind'$tail)"),
			2 => $self->ask("esim_reserve(iccid => '$free', generate_matching_id => true, release => false, server => '$kind'$tail)"),
			4 => $self->ask("esim_reserve('$eid', iccid => '$iccid', server => '$kind'$tail)"),
			3 => $self->ask("esim_download('$eid', '$iccid', server => '$kind'$tail)"),
			3 => $self->ask("esim_download(p.reserved_eid, p.iccid$tail)", $self->any_profile("reserved_eid IS NOT NULL AND iccid IS NOT NULL AND state IN ('RESERVED', 'RELEASED')")),
			2 => $self->ask("esim_release(p.iccid$tail)", $self->any_profile("iccid IS NOT NULL AND state = 'RESERVED'")),
			3 => $self->ask("esim_cancel_order(p.iccid, '" . $r->one('Available', 'Unavailable') . "'$tail)", $self->any_profile("iccid IS NOT NULL AND state IN ('RESERVED', 'RELEASED', 'FAILED')")),
			1 => $self->ask("esim_cancel_order(profile => p.id$tail)", $self->any_profile("state IN ('RESERVED', 'RELEASED', 'FAILED')")));
	}
	if ($kind eq 'net')
	{
		return $r->weighed(
			6 => $self->ask("esim_set_subscription(p.iccid, '" . $r->one('ACTIVE', 'INACTIVE') . "'$tail)", $self->any_profile("iccid IS NOT NULL AND subscription_status IS NOT NULL AND subscription_status <> 'NEW'")),
			2 => $self->ask("esim_set_subscription(p.iccid, 'ACTIVE', fleet => '" . $r->one('north', 'south') . "'$tail)", $self->any_profile("iccid IS NOT NULL AND subscription_status IS NOT NULL")),
			3 => $self->ask("esim_assign_fleet(p.iccid, '" . $r->one('north', 'south') . "'$tail)", $self->any_profile('iccid IS NOT NULL AND sim_id IS NOT NULL')),
			2 => $self->ask("esim_reserve(generate_matching_id => true, server => '$kind'$tail)"),
			2 => $self->ask("esim_reserve('$eid', server => '$kind'$tail)"),
			2 => $self->ask("esim_download('$eid', server => '$kind'$tail)"),
			2 => $self->ask("esim_download(p.reserved_eid, p.iccid$tail)", $self->any_profile("reserved_eid IS NOT NULL AND iccid IS NOT NULL AND state = 'RELEASED'")),
			1 => $self->ask("esim_fleet_create('fleet-$self->{number}-" . ++$self->{count} . qq(', '{"NetworkAccessProfile": "HA00000000000000000000000000000001"}', server => '$kind'$tail\))),
			1 => $self->ask("esim_refresh('$eid'$tail)"),
			1 => $self->ask("esim_sync('$kind'$tail)"));
	}

	my $iccid = $self->fresh;
	my $activate = $r->one('true', 'false');
	my $many = join ', ', map { "'$_'" } map { $self->some_eid($kind) } 1 .. 4;
	my $list = sub { my ($state) = @_; return "ARRAY(SELECT iccid FROM (SELECT DISTINCT ON (eid) iccid FROM esim_profile WHERE eid IN ($many) AND state = '$state' ORDER BY eid, md5(iccid::text || $turn)) p)"; };
	my $tail_many = $tail =~ s/, idempotency_key => '[^']*'//r . ", on_error => 'report'";
	my $secret = $kind eq 'new' && $r->chance(0.2) ? ", confirmation_code => '$confirmation'" : '';
	return $r->weighed(
		8 => $self->ask("esim_enable(p.iccid$tail)", $self->profile_of($eid, 'DISABLED')),
		6 => $self->ask("esim_disable(p.iccid$tail)", $self->profile_of($eid, 'ENABLED')),
		3 => $self->ask("esim_delete(p.iccid$tail)", $self->profile_of($eid, 'DISABLED', $r->chance(0.3) ? 'ENABLED' : ())),
		6 => $self->ask("esim_download('$eid', '$iccid', '" . code($iccid) . "', $activate$secret$tail)"),
		2 => $self->ask("esim_download('$eid', '$iccid', '" . code($iccid) . "')") . $self->ask("esim_enable('$iccid'$tail)"),
		# at an eIM a lost order without a MatchingID could bring a second profile that nobody asked for
		$kind eq 'eim' ? () : (1 => $self->ask("esim_download(p.eid, p.iccid$tail)", $self->profile_of($eid, 'DELETED'))),
		2 => $self->ask("esim_set_fallback('$eid', p.iccid$tail)", $self->profile_of($eid, 'DISABLED')),
		$kind eq 'eim' ? (1 => $self->ask("esim_unset_fallback('$eid'$tail)")) : (),
		3 => $self->ask("esim_refresh('$eid'$tail)"),
		1 => $self->ask_many("esim_enable_many(" . $list->('DISABLED') . "$tail_many)"),
		1 => $self->ask_many("esim_disable_many(" . $list->('ENABLED') . "$tail_many)"),
		1 => $self->ask_many("esim_refresh_many(ARRAY[$many]::eid[]$tail_many)"));
}

# transactions one after the other, until time is up
sub application
{
	my ($self) = @_;
	my $r = $self->{random};
	my $session;
	my $tenant;

	while (time() < $self->{until})
	{
		my $sql = '';
		my $prepared = "soak-$self->{number}-" . ++$self->{count};

		if (!$session || $r->chance(0.05))
		{
			$session->close if $session;
			$tenant = $tenants[ $self->{number} <= @tenants && $r->chance(0.7) ? $self->{number} - 1 : $r->below(scalar @tenants) ];
			$session = session($self, $tenant);
			$sql .= "SET esim.lockout_guard = off;\nSET lock_timeout = '3 s';\nSET statement_timeout = '" . $r->one('10 s', '10 s', '300 ms', '30 ms') . "';\n";
			$sql .= '\set ON_ERROR_ROLLBACK ' . $r->one('on', 'off') . "\n";
		}
		$sql .= $r->weighed(12 => "BEGIN;\n", 1 => "BEGIN ISOLATION LEVEL REPEATABLE READ;\n", 1 => "BEGIN ISOLATION LEVEL SERIALIZABLE;\n");
		for (1 .. $r->weighed(5 => 1, 2 => 2, 1 => 4))
		{
			if ($r->chance(0.1))
			{
				my $savepoint = 's' . ++$self->{count};

				$sql .= "SAVEPOINT $savepoint;\n\\echo \@savepoint\n" . $self->statement($tenant);
				$sql .= $r->chance(0.5) ? "\\echo \@to\nROLLBACK TO SAVEPOINT $savepoint;\n" : "RELEASE SAVEPOINT $savepoint;\n";
			}
			$sql .= $self->statement($tenant);
		}
		$sql .= "SELECT pg_sleep($_);\n" foreach $r->chance(0.05) ? $r->next : ();
		$sql .= $r->weighed(
			72 => "COMMIT;\n",
			10 => "ROLLBACK;\n",
			3 => "SELECT 1/0;\nCOMMIT;\n",
			3 => "SELECT pg_terminate_backend(pg_backend_pid());\nCOMMIT;\n",
			8 => "PREPARE TRANSACTION '$prepared';\nSELECT pg_sleep(" . $r->next . ");\nCOMMIT PREPARED '$prepared';\n",
			4 => "PREPARE TRANSACTION '$prepared';\nSELECT pg_sleep(" . $r->next . ");\nROLLBACK PREPARED '$prepared';\n");
		$self->follow($session, $sql) or undef $session;
		sleep 0.02 + 0.1 * $r->next;
	}
	return;
}

# holds rows, and whole tables, that the workers want
sub locker
{
	my ($self) = @_;
	my $r = $self->{random};
	my $session = session($self, $self->{superuser});

	while (time() < $self->{until})
	{
		my $sleep = sprintf '%.2f', 0.2 + 2 * $r->next;
		my $turn = $r->below(1000);
		my $rows = 1 + $r->below(10);
		my $table = $r->one(qw(esim_device esim_profile esim_operation esim_profile_lane esim_notification esim_device_state esim_pending esim_operation_secret));

		$self->follow($session, "SET statement_timeout = '10 s';\nBEGIN;\n" . $r->weighed(
			6 => "SELECT count(*) FROM (SELECT FROM $table t ORDER BY md5(t::text || $turn) LIMIT $rows FOR UPDATE) x;\n",
			3 => "SELECT count(*) FROM (SELECT FROM esim_operation t WHERE status = 'ACCEPTED' ORDER BY md5(t::text || $turn) LIMIT $rows FOR UPDATE) x;\n",
			2 => "INSERT INTO esim_profile (iccid, owner, state) SELECT iccid, owner, 'RELEASED' FROM esim_operation WHERE status = 'ACCEPTED' AND iccid IS NOT NULL LIMIT 1 ON CONFLICT DO NOTHING;\n",
			1 => "LOCK TABLE $table IN " . $r->one('SHARE', 'EXCLUSIVE', 'ACCESS EXCLUSIVE') . " MODE;\n")
			. "SELECT pg_sleep($sleep);\nROLLBACK;\n");
		sleep $r->next;
	}
	return;
}

# The front end: what platforms send goes to esim_receive() until it is taken, some of it twice, some
# of it long after; in between events that nobody sent.
sub front
{
	my ($self) = @_;
	my $r = $self->{random};
	my $session = session($self, 'receiver');
	my @old;
	my $end;

	# until the file is there that says that all have completed
	while (!-e "$self->{directory}/drained" && getppid() == $self->{parent})
	{
		my $sql = '';
		my $in = $self->{received};

		if (!$in) { open($in, '<', $self->{front}{sink}{file}) and $self->{received} = $in; }
		seek $in, 0, 1 if $in;
		while ($in && defined(my $line = readline $in))
		{
			if ($line !~ /\n\z/) { seek $in, -length $line, 1; last; }
			push @{ $self->{inbox} }, EsimFront::event(decode_json($line));
		}
		foreach my $event (splice @{ $self->{inbox} }, 0, 20)
		{
			my ($alive, @answer);

			for (1 .. 1 + $r->chance(0.2))
			{
				for (1 .. 300)
				{
					($alive, @answer) = $session->run("SET statement_timeout = '10 s';\nSELECT 'became ' || $event;");
					last if grep { /^became/ } @answer;
					sleep 0.2;
				}
				print { $self->{log} } map { "$_\n" } @answer;
			}
			print { $self->{log} } "taken\n";
			push @old, $event;
			shift @old if @old > 300;
		}
		$sql .= 'SELECT ' . $r->one(@old) . ";\n" if @old && $r->chance(0.2);
		if ($r->chance(0.2) && time() < $self->{until})
		{
			my ($eid, $iccid) = (eid($r->below(100)), iccid(1_000_000 + (1 + $r->below(8)) * 100_000 + $r->below(100)));
			my $id = sprintf '%08x-0000-7000-8000-%012x', $r->below(1 << 30), $r->below(1 << 30);

			$sql .= EsimFront::forge($_->[0], $_->[1]) foreach $r->one(
				[ smdp => { header => { functionRequesterIdentifier => 'x', functionCallIdentifier => "forged-" . ++$self->{count} }, eid => eid(5000 + $r->below(100)), iccid => $iccid,
					profileType => 'A', timestamp => '2026-11-01T10:00:00Z', notificationPointId => $r->one(3, 4, 101), notificationPointStatus => { status => $r->one('Executed-Success', 'Failed') } } ],
				[ new => { specversion => '1.0', id => $id, source => 'urn:x', type => 'com.camara.esim-management.vwip.operation-completed', time => '2026-11-01T10:00:00Z',
					data => { operationId => $id, correlationId => $id, eid => $eid, iccid => $iccid, status => 'completed' } } ],
				[ net => { SimSid => 'HS' . '0' x 32, SimStatus => 'inactive', AccountSid => 'AC1', NotificationType => 'x' } ],
				[ net => {} ], [ new => { a => [ 1, 2, undef ] } ], [ smdp => { header => 7 } ]);
		}
		$session->run($sql) if $sql ne '';
		sleep 0.1;
	}
	return;
}

# what administrators do in between
sub administrator
{
	my ($self) = @_;
	my $r = $self->{random};
	my $session = session($self, $self->{superuser});

	while (time() < $self->{until})
	{
		my $server = $r->one(qw(r12 new eim smdp net));
		my $eid = eid($r->one(@{ $devices_of{r12} }[ 0 .. 7 ]));
		my $rest = sprintf '%.2f', 0.2 + $r->next;

		$self->follow($session, "SET lock_timeout = '2 s';\n" . $r->weighed(
			3 => "SELECT esim_pause('$server');\nSELECT pg_sleep($rest);\nSELECT esim_resume('$server');\n",
			1 => "SELECT esim_pause();\nSELECT pg_sleep($rest);\nSELECT esim_resume();\n",
			3 => qq(SELECT esim_transfer('$eid', '@{[ $r->one('alpha', 'beta') ]}');\n),
			2 => qq(ALTER SERVER "$server" OPTIONS (SET timeout '@{[ $r->one(1, 2, 3) ]} s');\n),
			2 => qq(ALTER SERVER "$server" OPTIONS (SET max_in_flight '@{[ $r->one(1, 4, 64) ]}');\n),
			1 => qq(ALTER SERVER "$server" OPTIONS (SET rate_limit '@{[ $r->one(0, 20, 100) ]}');\n),
			1 => "ALTER USER MAPPING FOR PUBLIC SERVER r12 OPTIONS (SET token 'soak-wrong-token');\nSELECT pg_sleep($rest);\nALTER USER MAPPING FOR PUBLIC SERVER r12 OPTIONS (SET token 'soak-r12-token');\nSELECT esim_resume('r12');\n",
			1 => "ALTER USER MAPPING FOR PUBLIC SERVER net OPTIONS (SET password 'soak-wrong-token');\nSELECT pg_sleep($rest);\nALTER USER MAPPING FOR PUBLIC SERVER net OPTIONS (SET password 'soak-net-token');\nSELECT esim_resume('net');\n",
			1 => "SELECT count(*) FROM esim_prune('{\"older_than\": \"1 day\"}');\n",
			1 => "SELECT * FROM esim_health();\nSELECT * FROM esim_worker_status();\n",
			1 => "VACUUM esim_pending, esim_operation;\n",
			1 => "REINDEX TABLE esim_pending;\n",
			1 => "SELECT esim_redeliver(id) FROM esim_notification WHERE credential IS NULL LIMIT 1;\n",
			1 => "ALTER SYSTEM SET esim.workers = @{[ 1 + $r->below(3) ]};\nSELECT pg_reload_conf();\n"));
		sleep $r->next;
	}
	return;
}

1;
