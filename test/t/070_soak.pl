# test/t/070_soak.pl
# Everything at once, and then everything that may go wrong: applications of several tenants at all
# four protocols, while platforms, devices, sinks, backends, workers and the server itself fail.  At the
# end all faults are taken away, all must complete, and each promise is looked at.
#
# ESIM_SOAK_SECONDS (20) and ESIM_SOAK_SEED (1) as `make soak` sets them: the seed repeats the plan.
use strict;
use warnings;

use JSON::PP;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

use EsimFront;
use EsimSink;
use EsimSoak;
use EsimTest;
use EsimTwilio;

my $seed = $ENV{ESIM_SOAK_SEED} // 1;
my $seconds = $ENV{ESIM_SOAK_SECONDS} // 20;
my $clients = $ENV{ESIM_SOAK_CLIENTS} // 8;
my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my $db = 'postgres';
my $directory = "${PostgreSQL::Test::Utils::tmp_check}/soak";
my $random = EsimSoak::Random->new($seed, 0);
my $simulator = start_simulator("--seed=$seed", '--no-record');
my $sink = EsimSink::start("${PostgreSQL::Test::Utils::tmp_check}/soak_sink.log", 2);
my $node = new_node('soak', preload => 1, settings => [
	'esim.poll_interval = 500ms', "esim.sink_allow = '127.0.0.1'", 'esim.sink_allow_private = on', 'max_connections = 60',
	'restart_after_crash = on', 'max_prepared_transactions = 20', 'max_worker_processes = 20',
	# what the log says is looked at: by whom, and which code; statements are the clients' own
	"log_line_prefix = '%m [%p] %b %e '", 'log_min_error_statement = panic', 'log_statement = none' ]);
my @killed;

$EsimTwilio::password = 'soak-net-token';

mkdir $directory or die "$directory: $!";
diag("seed $seed, $seconds seconds, $clients applications");

# ---- what there is ----

create_database($node, $db);
my $front = EsimFront::start($node, $db);
$sink->set_switch('ok');
my %camara = (smdp_address => 'smdp.example.com', timeout => '2 s', max_in_flight => 64, rate_limit => 0);
create_server($node, $db, $simulator, 'r12', %camara, auth_method => 'bearer');
create_server($node, $db, $simulator, 'new', %camara, dialect => '2026-02', event_url => $front->url('new'));
create_server($node, $db, $simulator, 'eim', %camara, protocol => 'eim', url => "$simulator->{url}/eim/eim");
create_server($node, $db, $simulator, 'smdp', %camara, protocol => 'es2plus', url => "$simulator->{url}/smdp", requester_id => $EsimSoak::requester);
delete $camara{smdp_address};
create_server($node, $db, $simulator, 'net', %camara, protocol => 'twilio', url => "$simulator->{url}/net/supersim/v1", auth_method => 'basic', event_url => $front->url('net'));
$simulator->config('r12', auth => { bearer => 'soak-r12-token' }, device_delay_ms => 50);
$simulator->config('new', camara => { events => $true, copies => 2 }, device_delay_ms => 50);
$simulator->config('eim', eim => { v12 => $true, noshow_s => 20, stuck_s => 10 }, device_delay_ms => 50);
$simulator->config('smdp', es2plus => { notify_url => $front->url('smdp'), requester => $EsimSoak::requester, auto_download_ms => 500 });
$simulator->config('net', supersim => { reserve_ms => 200, schedule_ms => 200, install_ms => 700 }, auth => { username => 'AC1', password => 'soak-net-token' });
$simulator->post('/supersim/account', { server => 'net', fleets => [ 'north', 'south' ],
	sims => [ map { { iccid => iccid(500_000 + $_), status => 'active', fleet => 'north' } } 1 .. 20 ] });

my $roles = join '', map { qq(CREATE ROLE $_ LOGIN;
	SELECT esim_grant('$_', 'download', 'enable', 'disable', 'delete', 'set-fallback', 'retrieve-status', 'retrieve-operation', 'refresh', 'reserve', 'subscription');
	GRANT USAGE ON FOREIGN SERVER @{[ $server_of{$_} ]} TO $_;\n) } @tenants;
my @rows;
foreach my $tenant (@tenants)
{
	my $kind = $server_of{$tenant};

	foreach my $n (@{ $devices_of{$kind} })
	{
		next if ($tenant eq 'alpha' && $n % 2) || ($tenant eq 'beta' && $n % 2 == 0);
		push @rows, "INSERT INTO esim_device (eid, owner, server) VALUES ('@{[ eid($n) ]}', '$tenant', '$kind')";
		next if $kind =~ /smdp|net/;
		my @profiles = map { [ iccid(10 * $n + $_), $_ ? 'DISABLED' : 'ENABLED' ] } 0 .. 2;

		push @rows, "INSERT INTO esim_profile (iccid, eid, owner, state) VALUES ('$_->[0]', '@{[ eid($n) ]}', '$tenant', '$_->[1]')" foreach @profiles;
		$simulator->post('/euicc', { eid => eid($n), memory => 100, profiles => [ map { { iccid => $_->[0], state => $_->[1] } } @profiles ] });
	}
}
push @rows, map { "INSERT INTO esim_profile (iccid, owner, state, subscription_server, fleet, subscription_status) VALUES ('@{[ iccid(500_000 + $_) ]}', 'zeta', 'INSTALLED', 'net', 'north', 'ACTIVE')" } 1 .. 20;
$node->safe_psql($db, qq(
	CREATE SCHEMA soak;
	CREATE TABLE soak.asked (id uuid PRIMARY KEY, client int, call text, at timestamptz DEFAULT now());
	CREATE TABLE soak.disk (is_full boolean);
	INSERT INTO soak.disk VALUES (false);
	CREATE FUNCTION soak.write_anything() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \$\$
	BEGIN
		IF (SELECT is_full FROM soak.disk) THEN
			RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
		END IF;
		RETURN NEW;
	END\$\$;
	CREATE TRIGGER disk BEFORE UPDATE ON esim_operation FOR EACH ROW EXECUTE FUNCTION soak.write_anything();
	CREATE TRIGGER disk BEFORE INSERT ON esim_deferred FOR EACH ROW EXECUTE FUNCTION soak.write_anything();
	CREATE TRIGGER disk BEFORE UPDATE ON esim_profile FOR EACH ROW EXECUTE FUNCTION soak.write_anything();
	GRANT USAGE ON SCHEMA soak TO PUBLIC;
	GRANT INSERT, SELECT ON soak.asked TO PUBLIC;
	$roles
	CREATE ROLE receiver LOGIN;
	SELECT esim_grant('receiver', 'receive');
	GRANT USAGE ON FOREIGN SERVER new, smdp, net TO receiver;
	CREATE USER MAPPING FOR PUBLIC SERVER r12 OPTIONS (token 'soak-r12-token');
	CREATE USER MAPPING FOR PUBLIC SERVER net OPTIONS (username 'AC1', password 'soak-net-token');
	) . join(";\n", @rows));
$node->safe_psql($db, 'CREATE DATABASE other');

# ---- the run ----

my $until = time() + $seconds;
my $superuser = value($node, $db, 'SELECT current_user');
my @pids = EsimSoak::start_clients(node => $node, database => $db, seed => $seed, until => $until, directory => $directory,
	sink => $sink, front => $front, clients => $clients, superuser => $superuser);
my $front_pid = pop @pids;
my @later;				# [ when, what takes it back ]
my %peak;

# statements of a superuser, whatever becomes of them; undef: they failed
sub try_sql
{
	my ($database, $sql) = @_;

	local $ENV{PGOPTIONS} = '-c statement_timeout=20s';
	open(my $psql, '-|', 'sh', '-c', 'exec psql "$@" 2>/dev/null', 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($database), '-c', $sql) or return;
	my $out = do { local $/; <$psql> };
	close $psql or return;
	return $out =~ s/\n\z//r;
}

sub later { my ($after, $code) = @_; push @later, [ time() + $after, $code ]; return; }

sub victim
{
	my ($where) = @_;
	my $pid = try_sql('postgres', "SELECT pid FROM pg_stat_activity WHERE $where ORDER BY md5(pid::text) LIMIT 1");

	return $pid ? $pid : undef;
}

sub samples
{
	foreach my $line (split /\n/, try_sql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'esim worker'") // '')
	{
		open(my $status, '<', "/proc/$line/status") or next;
		while (<$status>) { $peak{$line} = $1 if /^RssAnon:\s+(\d+)/ && $1 > ($peak{$line} // 0); }
	}
	return;
}

my @fault_kinds = (
	{ fault => 'latency', ms => 700 }, { fault => 'latency', ms => 1500, before => $true }, { fault => 'latency', ms => 2500 },
	(map { { fault => $_ } } qw(timeout_before_effect timeout_after_effect reset_before_effect reset_after_effect malformed_json truncated_json
		truncated_body empty_body wrong_types duplicate_keys invalid_utf8 nul_bytes wrong_content_type slow_drip deep_json endless_body redirect token_expired forget_operation device_fail)),
	{ fault => 'oversized_json', bytes => 4_000_000 }, { fault => 'device_delay', ms => 1500 },
	(map { { fault => 'status', status => $_ } } 500, 502, 503, 504, 403, 404, 409),
	# 503 and 429 say that nothing was done
	(map { { fault => 'status', status => $_, effect => $true } } 500, 502, 504),
	{ fault => 'status', status => 429, retry_after => 1 }, { fault => 'status', status => 503, retry_after => 2 });
my @servers = sort keys %devices_of;

my %back;
my %chaos = (
	faults => sub
	{
		my $server = $random->one(@servers);

		$simulator->fault(map { my $kind = $random->one(@fault_kinds); { server => $server, %$kind, probability => 0.05 + 0.4 * $random->next, $random->chance(0.3) ? (method => 'POST') : () } } 1 .. 1 + $random->below(3));
		later(1 + 3 * $random->next, sub { $simulator->delete("/fault?server=$server") });
	},
	'simulator stands still' => sub
	{
		# it does not take orders meanwhile
		kill 'STOP', $simulator->{pid};
		sleep 0.5 + 3 * $random->next;
		kill 'CONT', $simulator->{pid};
	},
	'sink fails' => sub
	{
		$sink->set_switch($random->one('fail', 'timeout', 'reset'));
		later(0.5 + 2 * $random->next, sub { $sink->set_switch('ok') });
	},
	'sink stands still' => sub
	{
		kill 'STOP', $sink->{pid};
		later(0.5 + 2 * $random->next, sub { kill 'CONT', $sink->{pid} });
	},
	'devices are away' => sub
	{
		my $kind = $random->one('r12', 'new', 'eim');
		my @away = map { eid($_) } grep { $random->chance(0.5) } @{ $devices_of{$kind} };

		# for no longer than a lost request is asked about: else it is repeated, and carried out twice
		return if time() < ($back{$kind} // 0);
		$back{$kind} = time() + 6;
		$simulator->post('/euicc', [ map { { eid => $_, online => $false } } @away ]) if @away;
		later(1 + 3 * $random->next, sub { $simulator->post('/euicc', [ map { { eid => $_, online => $true } } @away ]) if @away });
	},
	# whose client is gone
	'prepared transactions are finished' => sub
	{
		foreach my $gid (split /\n/, try_sql($db, q(SELECT gid FROM pg_prepared_xacts WHERE prepared < clock_timestamp() - interval '5 seconds' ORDER BY gid)) // '')
		{
			try_sql($db, ($random->chance(0.5) ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$gid'");
		}
	},
	'eIM starts anew' => sub { $simulator->post('/eim/restart', { server => 'eim' }); },
	'worker is ended' => sub { try_sql('postgres', q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'esim worker')); },
	'launcher is ended' => sub { try_sql('postgres', q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'esim launcher')); },
	'worker is killed' => sub
	{
		my $pid = victim(q(backend_type = 'esim worker')) or return;

		push @killed, $pid;
		kill 'KILL', $pid;
	},
	'backend is killed' => sub
	{
		my $pid = victim(q(application_name ~ '^soak-')) or return;

		push @killed, $pid;
		kill 'KILL', $pid;
	},
	'backends are ended' => sub { try_sql('postgres', q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ '^soak-')); },
	'queries are cancelled' => sub { try_sql('postgres', q(SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name ~ '^soak-' OR backend_type = 'esim worker')); },
	'stop immediate' => sub { up(); $node->stop('immediate'); sleep 0.5 * $random->next; $node->start; },
	'restart' => sub { up(); $node->restart; },
	'disk is full' => sub
	{
		try_sql($db, 'UPDATE soak.disk SET is_full = true');
		later(0.5 + $random->next, sub { until (defined try_sql($db, 'UPDATE soak.disk SET is_full = false')) { sleep 0.2; } });
	},
	'another database' => sub
	{
		try_sql('other', q(CREATE EXTENSION IF NOT EXISTS esim; CREATE SERVER IF NOT EXISTS other FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'http://127.0.0.1:9', allow_http 'true')));
		try_sql('other', "INSERT INTO esim_device (eid, server) VALUES ('@{[ eid(200) ]}', 'other') ON CONFLICT DO NOTHING; SELECT esim_refresh('@{[ eid(200) ]}')");
		later(1 + 2 * $random->next, sub { try_sql('other', 'DROP EXTENSION IF EXISTS esim CASCADE'); try_sql('postgres', 'DROP DATABASE other'); try_sql('postgres', 'CREATE DATABASE other'); });
	},
	reload => sub { try_sql('postgres', 'SELECT pg_reload_conf()'); });

# the server is there
sub up
{
	for (1 .. 300)
	{
		return 1 if defined try_sql('postgres', 'SELECT 1');
		sleep 0.2;
	}
	BAIL_OUT('the server does not come back');
	return;
}

# what must be seen in a short run, too, then what chance brings
my @plan = ('faults', 'worker is killed', 'faults', 'devices are away', 'sink fails', 'worker is ended', 'faults', 'stop immediate', 'faults', 'disk is full');
while (time() < $until)
{
	my $what = @plan ? shift @plan : $random->weighed(
		30 => 'faults', 3 => 'simulator stands still', 3 => 'sink fails', 2 => 'sink stands still', 5 => 'devices are away', 2 => 'eIM starts anew',
		3 => 'worker is ended', 1 => 'launcher is ended', 2 => 'worker is killed', 1 => 'backend is killed', 1 => 'backends are ended', 2 => 'queries are cancelled',
		2 => 'stop immediate', 1 => 'restart', 2 => 'disk is full', 4 => 'prepared transactions are finished', 2 => 'another database', 1 => 'reload');
	my $next = time() + 0.3 + 1.5 * $random->next;

	note(sprintf('%7.2f %s', time() - $until + $seconds, $what));
	$chaos{$what}->();
	samples();
	do
	{
		my $now = time();
		my @due = grep { $_->[0] <= $now } @later;

		@later = grep { $_->[0] > $now } @later;
		$_->[1]->() foreach @due;
		sleep 0.05;
	} while (time() < $next && time() < $until);
}

# ---- all faults are taken away ----

$_->[1]->() foreach @later;
up();
$simulator->clear_faults;
$sink->set_switch('ok');
$simulator->post('/euicc', [ map { { eid => eid($_), online => $true } } map { @$_ } @devices_of{qw(r12 new eim)} ]);
{
	my $end = time() + 60;
	my %left = map { $_ => 1 } @pids;

	while (%left && time() < $end)
	{
		foreach my $pid (keys %left) { delete $left{$pid} if waitpid($pid, POSIX::WNOHANG()) != 0; }
		sleep 0.1;
	}
	is(scalar(keys %left), 0, 'the clients have ended');
	kill 'TERM', keys %left;
}
# what was prepared and left: half of it is committed
foreach my $row (rows($node, $db, 'SELECT gid FROM pg_prepared_xacts ORDER BY gid'))
{
	$node->safe_psql($db, ($random->chance(0.5) ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$row->[0]'");
}
foreach my $server (@servers)
{
	alter_server($node, $db, $server, timeout => '5 s', max_in_flight => 64, rate_limit => 0);
	$node->safe_psql($db, "SELECT esim_resume('$server')");
}
$node->safe_psql($db, q(
	UPDATE soak.disk SET is_full = false;
	ALTER USER MAPPING FOR PUBLIC SERVER r12 OPTIONS (SET token 'soak-r12-token');
	ALTER USER MAPPING FOR PUBLIC SERVER net OPTIONS (SET password 'soak-net-token');
	SELECT esim_resume();
	ALTER SYSTEM RESET esim.workers;
));
$node->reload;

# Everything completes; waits of hours are cut short, what was parked is tried again.
sub drain
{
	my ($name) = @_;
	my $end = time() + 3 * $EsimTest::patience;
	my $rounds = 0;
	my $left;

	while (time() < $end)
	{
		$left = value($node, $db, 'SELECT (SELECT count(*) FROM esim_pending), (SELECT count(*) FROM esim_deferred), (SELECT count(*) FROM esim_notification WHERE next_at IS NOT NULL)');
		last if $left eq '0|0|0';
		samples();
		sleep 0.5;
		next if ++$rounds % 4;
		$node->safe_psql($db, q(
			UPDATE esim_pending SET next_at = clock_timestamp() WHERE seq IN (
				SELECT seq FROM esim_pending WHERE state = 'W' AND NOT claimed AND next_at > now() + interval '6 s' FOR UPDATE SKIP LOCKED);
			UPDATE esim_notification SET next_at = clock_timestamp() WHERE id IN (
				SELECT id FROM esim_notification WHERE next_at > now() + interval '6 s' FOR UPDATE SKIP LOCKED);
			SELECT esim_resume() WHERE EXISTS (SELECT FROM esim_pending WHERE state = 'P');
		));
		# whose device has not been told of: it comes once more
		next if $rounds < 30;
		foreach my $row (rows($node, $db, q(SELECT o.server, o.eid, p.iccid FROM esim_operation o JOIN esim_profile p ON p.id = o.profile
			WHERE o.phase = 'WAITING_DEVICE' AND o.server = 'smdp' AND o.kind = 'download' AND p.iccid IS NOT NULL)))
		{
			eval { $simulator->post('/es2plus/download', { server => $row->[0], eid => $row->[1], iccid => $row->[2] }); };
			eval { $simulator->post('/es2plus/notify', { server => $row->[0], eid => $row->[1], iccid => $row->[2], point => 4 }); };
		}
	}
	return is($left, '0|0|0', "$name: all complete, all is announced") || do
	{
		wait_completed($node, $db, 0.1);
		diag(query($node, $db, q(SELECT o.kind, o.phase, left(o.phase_reason, 100), o.server, o.next_at - now(), p.state, p.claimed, p.handling, p.unresolved, p.crashes, p.waits_for FROM esim_pending p JOIN esim_operation o ON o.id = p.operation ORDER BY p.seq LIMIT 20)));
		diag(query($node, $db, q(SELECT target, state, tries, next_at - now(), last_error FROM esim_notification WHERE next_at IS NOT NULL LIMIT 10)));
		0;
	};
}

# a query that must find nothing
sub nothing
{
	my ($name, $sql) = @_;
	my $found = query($node, $db, "SELECT * FROM ($sql) q LIMIT 20");

	return is($found, '', $name);
}

drain('faults are gone');

# what platforms had to tell has been taken, and what that has brought about is done
sub listened
{
	my $end = time() + $EsimTest::patience;
	my $all = -1;

	while (time() < $end)
	{
		my $told = $front->{sink}->requests;
		open(my $in, '<', "$directory/client." . ($clients + 3)) or die $!;
		my $taken = grep { /^taken$/ } <$in>;

		return if $told == $taken && $told == $all;
		$all = $told;
		sleep 2;
	}
	return fail('the front end has taken all events');
}
listened();
drain('events are taken');

# ---- transactional ----

my %acked;
my %rolled;
my %errors;
my %became;
foreach my $file (glob "$directory/client.*")
{
	open(my $in, '<', $file) or die "$file: $!";
	while (<$in>)
	{
		if (/^acked (\S+)/) { $acked{$1} = 1; }
		elsif (/^rolled (\S+)/) { $rolled{$1} = 1; }
		elsif (/^error (\S+)/) { $errors{$1}++; }
		elsif (/^became (\S+)/) { $became{$1}++; }
		elsif (/^died/) { fail("a client has ended: $_"); }
	}
}
my %operation = map { $_->[0] => $_ } rows($node, $db, 'SELECT id, seq, kind, eid, iccid, result, error_code, sent_at IS NOT NULL, server, NULL, correlator FROM esim_operation ORDER BY seq');
is(join(' ', grep { !$operation{$_} } sort keys %acked), '', 'every operation whose COMMIT was answered is there');
is(join(' ', grep { $operation{$_} } sort keys %rolled), '', 'none that was rolled back is');
nothing('every operation that a committed transaction asked for is there', 'SELECT id, client, call FROM soak.asked a WHERE NOT EXISTS (SELECT FROM esim_operation o WHERE o.id = a.id)');
nothing('and no other, but what a sync or a cancel asked for', q(SELECT id, kind FROM esim_operation o WHERE kind NOT IN ('cancel-order', 'refresh') AND NOT EXISTS (SELECT FROM soak.asked a WHERE a.id = o.id)));
nothing('all are COMPLETED', q(SELECT id, kind FROM esim_operation WHERE status <> 'COMPLETED'));
cmp_ok(scalar keys %operation, '>', 50, 'there were many: ' . keys %operation);
cmp_ok(scalar(grep { $_->[5] eq 'SUCCESS' } values %operation), '>', 0.3 * keys %operation, 'and many succeeded');
note('rolled back: ' . keys(%rolled) . ', committed: ' . keys(%acked));
note(query($node, $db, q(SELECT server, kind, result, error_code, count(*) FROM esim_operation GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4)));
note('errors: ' . join(', ', map { "$_ $errors{$_}" } sort keys %errors) . '; events: ' . join(', ', map { "$_ $became{$_}" } sort keys %became));

# what an application may be told when it or the server is in trouble
is(join(' ', grep { !/^(?:ES\d+|22012|25P02|25P01|25000|26000|40P01|40001|55006|42501|3B001|42704|55P03|55000|57014|57P01|57P02|57P03|53100|08\d+|58\d+|the|server|could|connection)$/ } sort keys %errors), '', 'applications meet errors that have a meaning');

# ---- no effect twice, in order ----

sub pages
{
	my ($what) = @_;
	my @all;

	while (my @page = @{ $simulator->get("/ledger?$what=1&from=" . (1 + @all) . '&limit=10000') }) { push @all, @page; }
	return @all;
}
my @effects = pages('entries');
my %by_correlator;

# one that was tried again has the correlator of the first
foreach my $operation (values %operation) { push @{ $by_correlator{ $operation->[10] || $operation->[0] } }, $operation; }
my %unsettled = map { $_->[0] => 1 } rows($node, $db, q(SELECT DISTINCT eid FROM esim_operation WHERE eid IS NOT NULL AND result = 'FAILED' AND error_code IN ('OUTCOME_UNKNOWN', 'POISONED')));
# eUICCs with a profile that turned out to have another ICCID than the one asked for
my %renamed = map { $_->[0] => 1 } rows($node, $db, q(SELECT DISTINCT o.eid FROM esim_operation o JOIN esim_profile p ON p.id = o.profile WHERE o.eid IS NOT NULL AND o.iccid <> p.iccid));
my (%last, @disorder, @strange, %on);
my $already = 0;

# Super SIM's profiles do not say whose request made them: of two reservations that were lost at once
# one may get the other's profile.  That each has one is looked at below.
my @double = grep { $_->{double} && !($_->{server} eq 'net' && $_->{what} eq 'reserved') } @effects, pages('deeds');
is($simulator->get('/ledger')->{unasked_repeats}, 0, 'ledger: nothing repeated without asking') || diag(explain($simulator->get('/ledger')->{unasked}));
is(scalar @double, 0, 'ledger: no effect twice')
  or diag(map { encode_json($_) . "\n" } @double)
  or diag(query($node, $db, q(
	SELECT o.server, o.kind, o.id, o.result, o.error_code, a.number, a.method, right(a.url, 60), a.http_status, a.outcome, a.detail, a.at, a.duration_ms
	FROM esim_operation o JOIN esim_attempt a ON a.operation = o.id
	WHERE o.kind IN ('download', 'reserve') AND (SELECT count(*) FROM esim_attempt b WHERE b.operation = o.id AND b.method = 'POST' AND b.url !~ 'retrieve-status') > 1
	ORDER BY o.seq, a.number)));
foreach my $effect (@effects)
{
	my @operations = @{ $by_correlator{ $effect->{correlator} // '' } // [] };
	my $operation = $operations[0];

	push @{ $on{ $effect->{eid} } }, "$effect->{what} $effect->{iccid}";
	# an eIM is not told whose request it is
	next if !exists $effect->{correlator};
	if (!$operation)
	{
		push @strange, "$effect->{what} $effect->{iccid}, $effect->{correlator}";
		next;
	}
	next if @operations > 1;
	push @disorder, "$operation->[2] $operation->[0] at $effect->{eid}" if $operation->[1] < ($last{ $effect->{eid} } // 0);
	$last{ $effect->{eid} } = $operation->[1];
	push @strange, "$effect->{what} of $operation->[0], a $operation->[2] that ended CANCELLED" if $operation->[5] eq 'CANCELLED';
}
is(join("\n", @strange[ 0 .. ($#strange > 9 ? 9 : $#strange) ]), '', 'every effect on an eUICC is of an operation that exists and was not cancelled');

# What succeeded, and what the eUICC did, each in its order: as much as can be is matched.  What is
# left over found its aim reached.
{
	my %did = (download => 'downloaded', enable => 'enabled', disable => 'disabled', delete => 'deleted', 'set-fallback' => 'fallback-set');
	my %asked;

	foreach my $operation (sort { $a->[1] <=> $b->[1] } values %operation)
	{
		my ($id, undef, $kind, $eid, $iccid, $result, undef, undef, $server) = @$operation;

		push @{ $asked{$eid} }, [ "$did{$kind} $iccid", "$server $kind $id" ] if $did{$kind} && $result eq 'SUCCESS' && $server !~ /smdp|net/ && !$unsettled{$eid} && !$renamed{$eid};
	}
	foreach my $eid (sort keys %asked)
	{
		my @asked = @{ $asked{$eid} };
		my @is = @{ $on{$eid} // [] };
		my %known = map { $_ => 1 } @is;
		my @length = map { [ (0) x (@is + 1) ] } 0 .. @asked;
		my ($i, $j) = (0, 0);

		for my $i (reverse 0 .. $#asked)
		{
			for my $j (reverse 0 .. $#is)
			{
				$length[$i][$j] = $asked[$i][0] eq $is[$j] ? 1 + $length[ $i + 1 ][ $j + 1 ]
				  : $length[ $i + 1 ][$j] > $length[$i][ $j + 1 ] ? $length[ $i + 1 ][$j] : $length[$i][ $j + 1 ];
			}
		}
		while ($i < @asked)
		{
			if ($j < @is && $asked[$i][0] eq $is[$j]) { $i++; $j++; }
			elsif ($j < @is && $length[$i][ $j + 1 ] >= $length[ $i + 1 ][$j]) { $j++; }
			else
			{
				my ($wanted, $name) = @{ $asked[ $i++ ] };

				push @disorder, "$eid: $name: $wanted is missing, did " . join(', ', @is) if !$known{$wanted} || $wanted =~ /^(?:downloaded|deleted)/;
				$already++;
			}
		}
	}
}
is(join("\n", @disorder[ 0 .. ($#disorder > 9 ? 9 : $#disorder) ]), '', 'effects on an eUICC came in the order of its operations');
note('effects on eUICCs: ' . @effects . ", operations whose aim was reached already: $already");

# ---- the rows say what is so ----

sub truth
{
	my %there;
	my $from = 0;

	do
	{
		my $page = $simulator->get("/profiles?from=$from&limit=1000");

		$there{ $_->{iccid} } = $_ foreach @{ $page->{profiles} };
		$from = $page->{next};
	} while ($from);
	return %there;
}

# profiles of eUICCs whose state the row does not tell; unsettled: EIDs of which that was said
sub differences
{
	my (%unsettled) = @_;
	my %there = truth();
	my %where = map { my $kind = $_; map { eid($_) => $kind } @{ $devices_of{$kind} } } qw(r12 new eim);
	my @wrong;

	foreach my $row (rows($node, $db, q(SELECT DISTINCT ON (eid, iccid) iccid, eid, state, is_fallback, drift FROM esim_profile WHERE eid IS NOT NULL AND iccid IS NOT NULL ORDER BY eid, iccid, live NULLS LAST, state_at DESC)))
	{
		my ($iccid, $eid, $state, $fallback, $drift) = @$row;
		my $real = delete $there{$iccid};
		my $is = !$real || $real->{eid} ne $eid ? 'absent' : $real->{state};

		next if !$where{$eid} || $unsettled{$eid} || $drift eq 't';
		next if $state =~ /^(?:RELEASED|DELETED|FAILED|CANCELLED)$/ && $is eq 'absent';
		push @wrong, "$where{$eid} $eid $iccid: $state, is $is" if $state ne $is;
		push @wrong, "$where{$eid} $eid $iccid: fallback $fallback" if $is ne 'absent' && $state eq $is && ($real->{fallback} ? 't' : 'f') ne $fallback;
	}
	push @wrong, map { "$_->{eid} $_->{iccid}: not known, is $_->{state}" } grep { $where{ $_->{eid} } && !$unsettled{ $_->{eid} } } values %there;
	return @wrong;
}
note('eUICCs with an OUTCOME_UNKNOWN: ' . keys %unsettled);
is(join("\n", differences(%unsettled)), '', 'profiles are as on their eUICCs, where no outcome is unknown')
  or diag(query($node, $db, 'SELECT o.eid, o.kind, o.iccid, o.result, o.error_code, o.attempts, left(o.error_message, 60) FROM esim_operation o WHERE eid::text IN ('
	. join(', ', map { /(\d{32})/ ? "'$1'" : () } differences(%unsettled)) . ') ORDER BY eid, seq'));
$node->safe_psql($db, 'SELECT count(*) FROM esim_refresh_many(ARRAY(SELECT eid FROM esim_device WHERE server IN (\'r12\', \'new\', \'eim\')))');
drain('refreshed');
is(join("\n", differences()), '', 'and all of them when their eUICCs have been looked at');

# orders at the SM-DP+, subscriptions
{
	my %at;
	my $from = 0;
	my @wrong;
	my %means = (RESERVED => 'Allocated|Linked|Confirmed', RELEASED => 'Released|Downloaded', INSTALLED => 'Installed', DOWNLOADED => 'Downloaded', CANCELLED => 'Available|Unavailable|absent');

	do
	{
		my $page = $simulator->get("/es2plus/profiles?from=$from&limit=1000");

		$at{ $_->{iccid} } = $_->{state} foreach ref $page eq 'ARRAY' ? @$page : @{ $page->{profiles} };
		$from = ref $page eq 'ARRAY' ? 0 : $page->{next};
	} while ($from);
	foreach my $row (rows($node, $db, q(SELECT p.iccid, p.state FROM (SELECT DISTINCT ON (iccid) * FROM esim_profile WHERE server = 'smdp' AND iccid IS NOT NULL ORDER BY iccid, live NULLS LAST, created_at DESC) p WHERE NOT drift AND state NOT IN ('FAILED', 'RESERVING')
		AND NOT EXISTS (SELECT FROM esim_operation o WHERE o.profile = p.id AND o.result = 'FAILED')
		-- a download that was taken back before it was sent leaves a row as well
		AND EXISTS (SELECT FROM esim_operation o WHERE o.profile = p.id AND o.sent_at IS NOT NULL))))
	{
		my $real = $at{ $row->[0] } // 'absent';

		push @wrong, "$row->[0]: $row->[1], is $real" if $real !~ /^(?:$means{$row->[1]})$/;
	}
	is(join("\n", @wrong), '', 'orders are as at the SM-DP+');
	cmp_ok(scalar keys %at, '>', 0, 'there were orders: ' . keys %at);
	@wrong = ();
	my ($next, %status) = ('Sims?PageSize=100');
	while ($next)
	{
		my $page = api($simulator, 'net', 'GET', $next);

		$status{ $_->{sid} } = [ uc $_->{status}, $_->{iccid} ] foreach @{ $page->{sims} };
		($next) = ($page->{meta}{next_page_url} // '') =~ m{(Sims\?.*)};
	}
	foreach my $row (rows($node, $db, q(SELECT p.sim_id, p.subscription_status, p.iccid FROM esim_profile p WHERE sim_id IS NOT NULL AND NOT drift AND subscription_status IS NOT NULL
		AND NOT EXISTS (SELECT FROM esim_operation o WHERE o.profile = p.id AND o.error_code = 'OUTCOME_UNKNOWN'))))
	{
		my ($is, $iccid) = @{ $status{ $row->[0] } // [ 'absent', '' ] };

		push @wrong, "$row->[0]: $row->[1], is $is" if $is ne $row->[1];
		push @wrong, "$row->[0]: $row->[2], is $iccid" if $iccid ne $row->[2];
	}
	is(join("\n", @wrong), '', 'subscriptions are as in the account');
	my ($more, @reserved) = ('ESimProfiles?PageSize=100');
	while ($more)
	{
		my $page = api($simulator, 'net', 'GET', $more);

		push @reserved, map { $_->{sid} } grep { $_->{status} ne 'failed' } @{ $page->{esim_profiles} };
		($more) = ($page->{meta}{next_page_url} // '') =~ m{(ESimProfiles\?.*)};
	}
	my %rows;
	$rows{ $_->[0] }++ foreach rows($node, $db, q(SELECT rsp_id FROM esim_profile WHERE rsp_id ~ '^HP'));
	cmp_ok(scalar(grep { !$rows{$_} } @reserved), '<=', value($node, $db, q(SELECT count(*) FROM esim_operation WHERE server = 'net' AND kind IN ('reserve', 'download') AND error_code IN ('OUTCOME_UNKNOWN', 'EXPIRED', 'POISONED'))),
		'no profile was reserved in the account that nobody has: ' . @reserved);
	is(join(' ', grep { $rows{$_} > 1 } sort keys %rows), '', 'nor one that two have');
	cmp_ok(scalar keys %status, '>=', 20, 'there were subscriptions: ' . keys %status);
}

# ---- nothing is left behind ----

nothing('the queue is empty', 'SELECT * FROM esim_pending');
nothing('no outcome is put off', 'SELECT * FROM esim_deferred');
nothing('no secret is left', 'SELECT operation FROM esim_operation_secret');
nothing('attempts belong to operations', 'SELECT a.operation, a.url FROM esim_attempt a WHERE NOT EXISTS (SELECT FROM esim_operation o WHERE o.id = a.operation)');
nothing('attempts are counted', 'SELECT o.id, o.kind, o.attempts, count(a.number), max(a.number) FROM esim_operation o JOIN esim_attempt a ON a.operation = o.id GROUP BY o.id HAVING o.attempts < max(a.number) OR min(a.number) < 1');
# of what was under way in a crash it is not known
nothing('attempts that were answered have an outcome', 'SELECT operation, number FROM esim_attempt a WHERE outcome IS NULL AND (http_status IS NOT NULL OR duration_ms IS NOT NULL)');
nothing('and so has the last one of what succeeded', q(SELECT DISTINCT ON (o.id) a.* FROM esim_operation o JOIN esim_attempt a ON a.operation = o.id WHERE a.number = o.attempts AND a.outcome IS NULL AND o.result = 'SUCCESS' AND o.server <> 'smdp'));
nothing('idempotency keys belong to operations', 'SELECT k.key FROM esim_idempotency k WHERE NOT EXISTS (SELECT FROM esim_operation o WHERE o.id = k.operation)');
nothing('a key has one operation', 'SELECT owner, idempotency_key, count(*) FROM esim_operation WHERE idempotency_key IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1');
nothing('lanes belong to something', q(SELECT l.lane FROM esim_profile_lane l WHERE l.lane > 0 AND NOT EXISTS (SELECT FROM esim_profile p WHERE p.lane = l.lane) AND NOT EXISTS (SELECT FROM esim_fleet f WHERE f.lane = l.lane)));
nothing('events belong to profiles', 'SELECT e.profile, e.cause FROM esim_profile_event e WHERE NOT EXISTS (SELECT FROM esim_profile p WHERE p.id = e.profile)');
nothing('notifications belong to operations', 'SELECT n.id FROM esim_notification n WHERE NOT EXISTS (SELECT FROM esim_operation o WHERE o.id = n.operation)');
nothing('nothing reserves for ever', q(SELECT id, state FROM esim_profile WHERE state = 'RESERVING'));
nothing('one profile is enabled on an eUICC', q(SELECT eid, count(*) FROM esim_profile WHERE state = 'ENABLED' AND NOT drift GROUP BY 1 HAVING count(*) > 1));
nothing('what needs another succeeds only after it', q(SELECT o.id, o.kind, d.kind, d.result FROM esim_operation o JOIN esim_operation d ON d.id = ANY (o.depends_on) WHERE o.result = 'SUCCESS' AND d.result <> 'SUCCESS'));
nothing('operations end after they begin', 'SELECT id FROM esim_operation WHERE completed_at < sent_at');
nothing('no server is paused', 'SELECT * FROM esim_paused');
nothing('no lock is held', q(SELECT l.relation::regclass, l.mode, a.backend_type FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_class c ON c.oid = l.relation
	WHERE a.pid <> pg_backend_pid() AND a.backend_type <> 'autovacuum worker' AND c.relname ~ '^esim' AND l.mode <> 'AccessShareLock' AND a.state <> 'active'));
ok(defined try_sql($db, "SET lock_timeout = '1 s'; BEGIN; SELECT FROM esim_device FOR UPDATE; SELECT FROM esim_profile_lane FOR UPDATE; ROLLBACK"), 'no lane is locked');

# ---- everybody was told ----

{
	my (%seen, %ids, @missing);

	foreach my $request ($sink->requests)
	{
		my ($id) = $request->{body} =~ /"id":"([^"]*)"/;
		my ($operation) = $request->{body} =~ /"operationId":"([^"]*)"/;

		($id) = "$request->{path}&$request->{body}" =~ /NotificationId=([0-9a-f-]+)/ if !defined $id;
		$seen{$id}++ if defined $id;
		$ids{"$request->{path} $operation"}{$id} = 1 if defined $operation;
	}
	my @notifications = rows($node, $db, 'SELECT n.id, n.state, n.format FROM esim_notification n');
	push @missing, map { "$_->[2] $_->[0] $_->[1]" } grep { !$seen{ $_->[0] } || $_->[1] ne 'DELIVERED' } @notifications;
	is(join("\n", @missing), '', 'every notification has reached its sink');
	cmp_ok(scalar @notifications, '>', 0, 'there were notifications: ' . @notifications);
	is(join(' ', grep { keys %{ $ids{$_} } > 1 } keys %ids), '', 'under the same identifier each time');
	nothing('every sink is told, once', q(SELECT o.id, o.sink, o.callback_url FROM esim_operation o LEFT JOIN esim_notification n ON n.operation = o.id
		GROUP BY o.id HAVING count(n.id) <> (o.sink IS NOT NULL)::int + (o.callback_url IS NOT NULL)::int));
}

# ---- the log ----

open(my $flag, '>', "$directory/drained") or die $!;
close $flag;
waitpid $front_pid, 0;
# what workers leave when they end in good order is looked at as well
$node->stop;
{
	my %ours = map { $_ => 1 } @killed;
	my (@bad, %errors_of, @leaks);
	my @secrets = ($EsimSoak::sink_token, $EsimSoak::confirmation, 'soak-r12-token', 'soak-net-token', 'soak-wrong-token');
	my %identifier;

	$node->start;
	$identifier{$_} = 1 foreach map { $_->[0] } rows($node, $db, q(SELECT eid::text FROM esim_device UNION SELECT iccid::text FROM esim_profile WHERE iccid IS NOT NULL UNION SELECT iccid::text FROM esim_operation WHERE iccid IS NOT NULL
		UNION SELECT matching_id FROM esim_profile WHERE length(matching_id) > 5 UNION SELECT imsi FROM esim_profile WHERE imsi IS NOT NULL UNION SELECT msisdn FROM esim_profile WHERE msisdn IS NOT NULL));
	$node->stop;
	open(my $log, '<', $node->logfile) or die $!;
	while (my $line = <$log>)
	{
		push @bad, $line if $line =~ /PANIC|TRAP:|stuck spinlock|invalid memory alloc|could not find|leaked|leak:|memory exhausted/;
		push @bad, $line if $line =~ /\(PID (\d+)\) (?:was terminated by signal|exited with exit code [^01])/ && !($ours{$1} && $line =~ /signal 9/);
		$errors_of{"$1 $2"} = $line if $line =~ /\] (esim \w+) (\w{5}) (?:ERROR|FATAL):/;
		# PostgreSQL itself tells statements: of a deadlock, of a backend that was killed
		next if $line =~ /^\tProcess \d+: |postmaster \S+ DETAIL:  Failed process was running: /;
		push @leaks, $line if grep { index($line, $_) >= 0 } @secrets;
		push @leaks, $line if grep { $identifier{$_} } $line =~ /(\d{15,32})/g, $line =~ /\$([A-Z0-9-]{6,})/g;
	}
	is(join('', @bad), '', 'the log knows of no crash but ours: ' . @killed);
	# workers that are told to go, and what they come to when the server goes
	# down, or its database is dropped
	delete $errors_of{$_} foreach grep { / (?:57P0[123]|3D000)$/ } keys %errors_of;
	is(join('', map { $errors_of{$_} } sort keys %errors_of), '', 'no error of a worker');
	is(join('', @leaks[ 0 .. ($#leaks > 4 ? 4 : $#leaks) ]), '', 'no secret and no identifier in full');
}
my ($most) = sort { $b <=> $a } values %peak, 0;
note("workers: " . keys(%peak) . ", most memory of their own $most kB");
cmp_ok($most, '<', 65536, 'memory of the workers is bounded');
$simulator->stop;
done_testing();
