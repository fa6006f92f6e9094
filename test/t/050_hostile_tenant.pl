# test/t/050_hostile_tenant.pl
# A tenant with every right that a tenant has, against another tenant: reading, guessing, forging,
# code that others would run, server and session objects, input, locks. Each attempt is a test;
# none succeeds, and at the end nothing of the other tenant has changed.
use strict;
use warnings;

use IPC::Run qw(start finish);
use JSON::PP;
use Test::More;
use Time::HiRes qw(sleep);

use EsimTest;
use EsimSink;

my $simulator = start_simulator();
my $sink = EsimSink::start("${PostgreSQL::Test::Utils::tmp_check}/hostile.log", 2);
my ($port, $other_port) = @{ $sink->{ports} };
my $node = new_node('hostile', start => 0, settings => [
		"esim.sink_allow = '127.0.0.1:$port'", 'esim.sink_allow_private = on', "esim.notify_channel = 'esim'",
		'esim.poll_interval = 1s' ]);
my $database = 'hostile';

# workers do not come in by pg_hba.conf, so nobody has to as their role
my $hba = $node->data_dir . '/pg_hba.conf';
my $lines = PostgreSQL::Test::Utils::slurp_file($hba);
unlink $hba;
PostgreSQL::Test::Utils::append_to_file($hba, "local all esim_worker reject\nhost all esim_worker all reject\n$lines");
$node->start;

create_database($node, $database);
create_server($node, $database, $simulator, 'shared', smdp_address => 'smdp.example.com');
create_server($node, $database, $simulator, 'ear', url => "http://127.0.0.1:$port/ear", unknown_hold => '1 s');
create_server($node, $database, $simulator, 'private');
fleet($node, $database, 20, state => 'DISABLED', server => 'shared', simulator => $simulator);

my @scopes = qw(download enable disable delete set-fallback retrieve-status retrieve-operation refresh);
my $theirs = join ', ', map { "'" . eid($_) . "'" } 0 .. 9;
$node->safe_psql($database, qq(
	CREATE ROLE victim LOGIN;
	CREATE ROLE hostile LOGIN;
	CREATE ROLE front LOGIN NOINHERIT IN ROLE victim, hostile;
	SELECT esim_grant(r, VARIADIC '{@{[ join ',', @scopes ]}}') FROM unnest('{victim,hostile}'::regrole[]) r;
	GRANT USAGE ON FOREIGN SERVER shared, ear TO victim, hostile;
	GRANT USAGE ON FOREIGN SERVER private TO victim;
	CREATE USER MAPPING FOR victim SERVER shared OPTIONS (token 'token-of-victim');
	CREATE USER MAPPING FOR victim SERVER ear OPTIONS (token 'token-of-victim');
	CREATE USER MAPPING FOR PUBLIC SERVER shared OPTIONS (token 'token-of-public');
	UPDATE esim_device SET owner = 'hostile', owner_name = 'hostile', label = 'mine';
	UPDATE esim_device SET owner = 'victim', owner_name = 'victim', label = 'secret label', imei = '490154203237518' WHERE eid IN ($theirs);
	UPDATE esim_profile p SET owner = d.owner, owner_name = d.owner_name, msisdn = '+491510000000' FROM esim_device d WHERE d.eid = p.eid;
	UPDATE esim_profile SET activation_code = '1\$smdp.example.com\$SECRET-OF-VICTIM' WHERE owner = 'victim'::regrole;
	INSERT INTO esim_drift (eid, what, ours, reported) VALUES ('@{[ eid(4) ]}', 'state', 'ENABLED', 'DISABLED');
	INSERT INTO esim_device_state (eid, last_seen_at) VALUES ('@{[ eid(4) ]}', now());
	INSERT INTO esim_fleet (name, owner, owner_name, server) VALUES ('fleet of victim', 'victim', 'victim', 'shared');
	CREATE SCHEMA hostile AUTHORIZATION hostile;
	GRANT USAGE ON SCHEMA hostile TO PUBLIC;
));

sub as
{
	my ($role, $sql) = @_;
	my ($status, $out, $err) = $node->psql($database, "\\set VERBOSITY verbose\n$sql", extra_params => [ '-U', $role ]);

	# psql's own prefix is not the server's word
	$err =~ s/^psql:<stdin>:\d+: //mg;
	return ($status, $out // '', $err // '');
}

sub as_ok
{
	my ($role, $sql) = @_;
	my ($status, $out, $err) = as($role, $sql);

	die "$role: $sql: $err" if $status != 0;
	return $out;
}

# An error with this SQLSTATE (a pattern).
sub refused
{
	my ($name, $sql, $state) = @_;
	my ($status, $out, $err) = as('hostile', $sql);

	$state //= '42501';
	ok($status != 0 && $err =~ /^(?:ERROR|FATAL): +(?:$state):/m, $name) || diag("status $status, out: $out, err: $err");
	unlike("$out$err", qr/SECRET-OF|token-of-|secret label/, "$name: nothing leaks") if "$out$err" =~ /SECRET-OF|token-of-|secret label/;
	return $err;
}

# The output is exactly this.
sub gives
{
	my ($name, $sql, $expected) = @_;
	my ($status, $out, $err) = as('hostile', $sql);

	is($status == 0 ? $out : $err, $expected, $name) || diag($err);
	return;
}

# The answer is the same, down to the place in the source, for what is another's and for what is
# nobody's; %s in the statement stands for it. Masked ends of identifiers may differ.
sub same
{
	my ($name, $sql, $foreign, $unknown) = @_;
	my @answer;

	foreach my $identifier ($foreign, $unknown)
	{
		my ($status, $out, $err) = as('hostile', $sql =~ s/%s/$identifier/gr);

		s/\.\.\.[0-9a-f]{4}/.../g, s/\Q$identifier\E/IDENTIFIER/g foreach $out, $err;
		push @answer, "status $status\n$out\n$err";
	}
	is($answer[0], $answer[1], $name);
	return $answer[0];
}

sub same_error
{
	my ($name, $sql, $foreign, $unknown, $state) = @_;
	my $answer = same($name, $sql, $foreign, $unknown);

	like($answer, qr/ERROR: +(?:$state):/, "$name: $state");
	return;
}

# A session of the tenant beside this one; its output goes to a file.
my $aside_out = "${PostgreSQL::Test::Utils::tmp_check}/aside.out";
sub aside
{
	my ($sql) = @_;
	my $in = "${PostgreSQL::Test::Utils::tmp_check}/aside.sql";

	unlink $in;
	PostgreSQL::Test::Utils::append_to_file($in, $sql);
	return start([ 'psql', '-X', '-U', 'hostile', '-d', $node->connstr($database), '-f', $in, '-o', $aside_out ], '<', '/dev/null', '>', "$aside_out.1", '2>', "$aside_out.2");
}

# what the other tenant has done
my $done = as_ok('victim', "SELECT esim_enable('" . iccid(0) . "', idempotency_key => 'order-1', correlator => 'of-victim')");
my $waiting = as_ok('victim', "SELECT esim_enable('" . iccid(1) . "', not_before => now() + interval '1 day', idempotency_key => 'order-2')");
my $cancelled = as_ok('victim', "SELECT esim_enable('" . iccid(2) . "', not_before => now() + interval '1 day')");
as_ok('victim', "SELECT esim_cancel('$cancelled')");
as_ok('victim', "SELECT esim_set_credential('hook', 'bearer', 'token-of-victim')");
my $announced = as_ok('victim', "SELECT esim_refresh('" . eid(5) . "', sink => 'http://127.0.0.1:$port/ok/victim', sink_credential => '{\"name\": \"hook\"}')");
my $mine = as_ok('hostile', "SELECT esim_enable('" . iccid(10) . "', not_before => now() + interval '1 day', idempotency_key => 'mine')");
ok(wait_until($node, $database, "SELECT count(*) FROM esim_operation WHERE status = 'ACCEPTED'", '2'), 'the stage is set')
  || BAIL_OUT('no stage');
ok(wait_until($node, $database, "SELECT count(*) FROM esim_notification WHERE state = 'DELIVERED'", '1'), 'with a notification');
is(($sink->requests(qr{^/ok/victim}))[0]{headers}{authorization}, 'Bearer token-of-victim', 'that carries a secret');
my $notification = value($node, $database, 'SELECT id FROM esim_notification');
my $their_profile = value($node, $database, "SELECT id FROM esim_profile WHERE iccid = '" . iccid(0) . "'");
my $no_uuid = '01900000-0000-7000-8000-000000000000';
my ($their_eid, $no_eid, $my_eid) = (eid(0), eid(90000), eid(10));
my ($their_iccid, $no_iccid, $my_iccid) = (iccid(0), iccid(90000), iccid(10));

# All rows of the other tenant.
sub state_of_victim
{
	return value($node, $database, q(
		SELECT md5(string_agg(x, E'\n' ORDER BY x)) FROM (
			SELECT 'device ' || t FROM esim_device t WHERE owner = 'victim'::regrole
			UNION ALL SELECT 'profile ' || t FROM esim_profile t WHERE owner = 'victim'::regrole
			UNION ALL SELECT 'operation ' || t FROM esim_operation t WHERE owner = 'victim'::regrole
			UNION ALL SELECT 'attempt ' || t FROM esim_attempt t JOIN esim_operation o ON o.id = t.operation WHERE o.owner = 'victim'::regrole
			UNION ALL SELECT 'pending ' || t FROM esim_pending t JOIN esim_operation o ON o.id = t.operation WHERE o.owner = 'victim'::regrole
			UNION ALL SELECT 'key ' || t FROM esim_idempotency t WHERE owner = 'victim'::regrole
			UNION ALL SELECT 'credential ' || t FROM esim_credential t WHERE owner = 'victim'::regrole
			UNION ALL SELECT 'fleet ' || t FROM esim_fleet t WHERE owner = 'victim'::regrole
			UNION ALL SELECT 'notification ' || t FROM esim_notification t JOIN esim_operation o ON o.id = t.operation WHERE o.owner = 'victim'::regrole
			UNION ALL SELECT 'drift ' || t FROM esim_drift t WHERE eid IN (SELECT eid FROM esim_device WHERE owner = 'victim'::regrole)
				OR profile IN (SELECT id FROM esim_profile WHERE owner = 'victim'::regrole)
			UNION ALL SELECT 'mapping ' || t FROM pg_user_mappings t
			UNION ALL SELECT 'server ' || srvname || srvowner || srvoptions::text FROM pg_foreign_server) s (x)));
}

my $before = state_of_victim();

#
# reading
#
foreach my $table (qw(pending deferred idempotency operation_secret credential audit profile_lane event notification_point server_name))
{
	refused("read esim_$table", "SELECT * FROM esim_$table");
}
foreach my $table (qw(device profile operation fleet))
{
	gives("rows of others in esim_$table", "SELECT count(*) FROM esim_$table WHERE owner <> 'hostile'::regrole", '0');
}
gives('their EID in each table that has one', join(' UNION ALL ', map { "SELECT count(*) FROM esim_$_ WHERE eid = '" . eid(4) . "'" }
		qw(device device_state profile drift inventory device_summary operation)), join("\n", (0) x 7));
gives('their operation', join(' UNION ALL ', map { "SELECT count(*) FROM esim_$_ WHERE operation = '$done'" } qw(attempt notification profile_event)), "0\n0\n0");
gives('figures of their operations in esim_operation_summary', 'SELECT coalesce(sum(operations), 0) FROM esim_operation_summary', '1');
gives('figures of their queue in esim_queue', 'SELECT sum(queued + running + parked) FROM esim_queue', '1');
gives('figures of their queue in the function below it', 'SELECT sum(queued + running + parked) FROM esim_queue_counts()', '1');
refused('health of everybody', 'SELECT * FROM esim_health()');
refused('what the workers do', 'SELECT * FROM esim_worker_status()');
refused('who has which scopes', 'SELECT * FROM esim_scopes()');
refused('row-level security switched off', "SET row_security = off; SELECT * FROM esim_device");
gives('COPY of a table', 'COPY (SELECT count(*) FROM esim_device) TO STDOUT', '10');
unlike((as('hostile', 'COPY esim_device TO STDOUT'))[1], qr/$their_eid|secret label/, 'COPY of a table, plain');
refused('COPY to a program', "COPY esim_device TO PROGRAM 'cat'");
refused('COPY from a file', "CREATE TEMP TABLE t (x text); COPY t FROM '" . $node->data_dir . "/pg_hba.conf'");
unlike(join('', as('hostile', "CREATE FUNCTION hostile.leak(anyelement) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
	\$\$BEGIN RAISE NOTICE 'saw %', \$1; RETURN true; END\$\$;
	SELECT count(*) FROM esim_device WHERE hostile.leak(eid) AND hostile.leak(label);
	SELECT count(*) FROM esim_profile WHERE hostile.leak(iccid) AND hostile.leak(activation_code);
	SELECT count(*) FROM esim_operation WHERE hostile.leak(correlator) AND hostile.leak(id);
	SELECT count(*) FROM esim_inventory WHERE hostile.leak(msisdn) AND hostile.leak(eid);
	SELECT count(*) FROM esim_device_summary WHERE hostile.leak(imei);
	SELECT count(*) FROM esim_drift WHERE hostile.leak(eid)")),
	qr/$their_eid|@{[ eid(4) ]}|secret label|$their_iccid|SECRET-OF|of-victim|$done/, 'a cheap function in WHERE that tells what it sees');
gives('an error that depends on rows of others', "SELECT count(*) FROM esim_device WHERE 1 / (CASE WHEN label = 'secret label' THEN 0 ELSE 1 END) = 1", '10');
gives('a cast that fails on rows of others', "SELECT count(*) FROM esim_device WHERE CASE WHEN label <> 'mine' THEN label::int END = 1", '0');
refused('a function declared leakproof', "CREATE FUNCTION hostile.lp(eid) RETURNS boolean LEAKPROOF LANGUAGE sql AS 'SELECT true'");
refused('one of ours declared leakproof', 'ALTER FUNCTION esim_eid_valid(text) LEAKPROOF');
unlike((as('hostile', "EXPLAIN (VERBOSE, ANALYZE, COSTS OFF) SELECT * FROM esim_device"))[1], qr/$their_eid|secret label/, 'EXPLAIN ANALYZE shows no values');
is((as('hostile', "SELECT count(*) FROM pg_stats WHERE schemaname = 'esim' AND tablename IN ('esim_device', 'esim_profile', 'esim_operation')"))[1], '0', 'values in pg_stats');
refused('values in pg_statistic', 'SELECT stavalues1 FROM pg_statistic');
is((as('hostile', "SELECT count(*) FROM pg_user_mappings WHERE umoptions IS NOT NULL"))[1], '0', 'secrets in pg_user_mappings');
refused('secrets in pg_user_mapping', 'SELECT umoptions FROM pg_user_mapping');
is((as('hostile', "SELECT count(*) FROM pg_stat_activity WHERE usename <> 'hostile' AND query NOT IN ('', '<insufficient privilege>')"))[1], '0', 'statements of others in pg_stat_activity');
refused('numbers of operations from the sequence', 'SELECT last_value FROM esim_operation_seq');
refused('numbers of lanes from the sequence', "SELECT nextval('esim_device_lane_seq')");
gives('a row locked to see whether it is there', "SELECT count(*) FROM (SELECT 1 FROM esim_device WHERE eid = '$their_eid' FOR UPDATE) s", '0');
refused('a foreign key to see whether it is there', 'CREATE TABLE hostile.t1 (eid eid REFERENCES esim_device)');
refused('a child table', 'CREATE TABLE hostile.t2 () INHERITS (esim_device)');
refused('extended statistics', 'CREATE STATISTICS hostile.s ON eid, label FROM esim_device', '42501|42809');
refused('a publication', 'CREATE PUBLICATION p FOR TABLE esim_operation');
refused('an index that calls a function', 'CREATE INDEX ON esim_device (hostile.leak(eid))', '42501|42P17');
{
	my ($status, $out, $err) = as('front', 'SET ROLE victim; PREPARE q AS SELECT count(*), min(owner::text) FROM esim_device;
		EXECUTE q; SELECT count(*) FROM esim_status(eid => \'' . $their_eid . '\'); RESET ROLE; SET ROLE hostile; EXECUTE q;');
	is($out, "10|victim\n1\n10|hostile", 'a plan that was made for another role is not used') || diag($err);
	($status, $out, $err) = as('front', "SET ROLE victim; SELECT count(*) FROM esim_status(eid => '$their_eid'); SET ROLE hostile; SELECT count(*) FROM esim_status(eid => '$their_eid')");
	like($err, qr/ES404/, 'nor is a look of a function remembered');
	($status, $out, $err) = as('front', 'SELECT * FROM esim.esim_device');
	like($err, qr/42501/, 'the front end itself has nothing');
}

#
# guessing: what is another's and what is nobody's are alike
#
same_error('esim_status by EID', "SELECT esim_status(eid => '%s')", $their_eid, $no_eid, 'ES404');
same_error('esim_status by ICCID', "SELECT esim_status(iccid => '%s')", $their_iccid, $no_iccid, 'ES404');
same_error('esim_status of all', "SELECT esim_status(iccid => '%s', options => '{\"all\": true}')", $their_iccid, $no_iccid, 'ES404');
same_error('esim_status, own EID', "SELECT esim_status('$my_eid', '%s')", $their_iccid, $no_iccid, 'ES422');
same_error('esim_status, own ICCID', "SELECT esim_status('%s', '$my_iccid')", $their_eid, $no_eid, 'ES404');
foreach my $function (qw(enable disable delete))
{
	same_error("esim_$function by ICCID", "SELECT esim_$function('%s')", $their_iccid, $no_iccid, 'ES404');
	same_error("esim_$function by profile", "SELECT esim_$function(profile => '%s')", $their_profile, $no_uuid, 'ES404');
	same_error("esim_$function, own EID", "SELECT esim_$function('%s', '$my_eid')", $their_iccid, $no_iccid, 'ES404');
	same_error("esim_$function, own ICCID", "SELECT esim_$function('$my_iccid', '%s')", $their_eid, $no_eid, 'ES422');
	same("esim_${function}_many", "SELECT code, message, sqlstate FROM esim_${function}_many(ARRAY['%s']::iccid[], on_error => 'report')", $their_iccid, $no_iccid);
}
same_error('esim_set_fallback, own EID', "SELECT esim_set_fallback('$my_eid', '%s')", $their_iccid, $no_iccid, 'ES404');
same_error('esim_set_fallback, own ICCID', "SELECT esim_set_fallback('%s', '$my_iccid')", $their_eid, $no_eid, 'ES422');
same_error('esim_unset_fallback', "SELECT esim_unset_fallback('%s')", $their_eid, $no_eid, 'ES404');
same_error('esim_refresh', "SELECT esim_refresh('%s')", $their_eid, $no_eid, 'ES404');
same_error('esim_refresh with a profile', "SELECT esim_refresh('$my_eid', profile => '%s')", $their_profile, $no_uuid, 'ES404');
same_error('esim_download to their eUICC', "SELECT esim_download('%s', '$no_iccid')", $their_eid, $no_eid, 'ES404');
same_error('esim_download of their profile', "SELECT esim_download('$my_eid', profile => '%s')", $their_profile, $no_uuid, 'ES404');
same('esim_download of an ICCID that they have', "BEGIN; SELECT esim_download('$my_eid', '%s') IS NOT NULL; ROLLBACK", $their_iccid, $no_iccid);
same_error('esim_timeline', "SELECT esim_timeline('%s')", $their_eid, $no_eid, 'ES404');
same_error('esim_activation_code by ICCID', "SELECT esim_activation_code('%s')", $their_iccid, $no_iccid, 'ES404');
same_error('esim_activation_code by profile', "SELECT esim_activation_code(profile => '%s')", $their_profile, $no_uuid, 'ES404');
foreach my $id ($done, $waiting, $cancelled)
{
	same_error("esim_operation_status of $id", "SELECT esim_operation_status('%s')", $id, $no_uuid, 'ES404');
	same_error("esim_wait for $id", "SELECT esim_wait('%s', '0 s')", $id, $no_uuid, 'ES404');
	same_error("esim_cancel of $id", "SELECT esim_cancel('%s')", $id, $no_uuid, 'ES404');
	same("esim_retry of $id", "SELECT code, message, sqlstate, operation FROM esim_retry(ARRAY['%s']::uuid[])", $id, $no_uuid);
}
same_error('esim_operation_status in the other dialect', "SELECT esim_operation_status('%s', '2026-02')", $done, $no_uuid, 'ES404');
same_error('esim_redeliver', "SELECT esim_redeliver('%s')", $notification, $no_uuid, 'ES404');
same('an idempotency key that they have used', "BEGIN; SELECT esim_enable('" . iccid(11) . "', idempotency_key => '%s') NOT IN ('$done', '$waiting'); ROLLBACK", 'order-1', 'order-none');
same('a correlator that they have used', "BEGIN; SELECT esim_enable('" . iccid(11) . "', correlator => '%s') IS NOT NULL; ROLLBACK", 'of-victim', 'of-nobody');
same('a credential that they have', "BEGIN; SELECT esim_enable('" . iccid(11) . "', sink => 'http://127.0.0.1:$port/ok/x', sink_credential => '{\"name\": \"%s\"}') IS NOT NULL; ROLLBACK", 'hook', 'none');
same('esim_drop_credential of a name that they have', "SELECT esim_drop_credential('%s')", 'hook', 'none');

# one ICCID in two rows of one's own, as test profiles have it: the EID decides, and tells nothing
my $test_iccid = iccid(80000);
$node->safe_psql($database, "INSERT INTO esim_profile (iccid, eid, state, profile_class, owner, owner_name)
	SELECT '$test_iccid', e::eid, 'DISABLED', 'TEST', 'hostile', 'hostile' FROM unnest(ARRAY['" . eid(18) . "', '" . eid(19) . "']) e");
same('an ICCID of several profiles and a guessed EID', "SELECT esim_enable('$test_iccid', '%s')", $their_eid, $no_eid);

# through CAMARA's API
sub camara
{
	my ($name, $method, $path, $body, $foreign, $unknown, $status) = @_;
	my $answer = same("CAMARA: $name", "SELECT status, body FROM esim_camara('$method', '$path', '{\"Authorization\": \"Bearer x\", \"Content-Type\": \"application/json\", \"x-correlator\": \"c\"}', "
		  . (defined $body ? "'$body'" : 'NULL') . ')', $foreign, $unknown);

	like($answer, qr/^$status\|/m, "CAMARA: $name is $status");
	return;
}

my $r = '/esim-profile-management/vwip';
camara('enable', 'POST', "$r/enable", '{"esimProfile": {"iccid": "%s"}}', $their_iccid, $no_iccid, 404);
camara('disable', 'POST', "$r/disable", '{"esimProfile": {"iccid": "%s"}}', $their_iccid, $no_iccid, 404);
camara('delete', 'POST', "$r/delete", '{"esimProfile": {"iccid": "%s"}}', $their_iccid, $no_iccid, 404);
camara('retrieve-status', 'POST', "$r/retrieve-status", '{"esimProfile": {"eid": "%s"}}', $their_eid, $no_eid, '40[04]');
camara('an operation', 'GET', "$r/operations/%s", undef, $done, $no_uuid, 404);
camara('an operation of 2026-02', 'GET', '/esim/vwip/esim/operations/%s', undef, $done, $no_uuid, 404);
like((as('hostile', "SELECT status FROM esim_camara('GET', '$r/operations/../operations/$done', '{\"Authorization\": \"Bearer x\"}', NULL)"))[1], qr/^40[04]/, 'CAMARA: a path that climbs');
like((as('hostile', "SELECT status FROM esim_camara('GET', '$r/operations/$done', '{\"Authorization\": \"Bearer token-of-victim\", \"X-Role\": \"victim\"}', NULL)"))[1], qr/^404/, 'CAMARA: headers make nobody another role');

#
# forging
#
refused('state of an own profile', "UPDATE esim_profile SET state = 'ENABLED'");
refused('state of their profile', "UPDATE esim_profile SET state = 'DELETED' WHERE iccid = '$their_iccid'");
refused('owner of a device', "UPDATE esim_device SET owner = 'hostile', owner_name = 'hostile'");
refused('server of a device', "UPDATE esim_device SET server = 'private'");
refused('a new device', "INSERT INTO esim_device (eid) VALUES ('$no_eid')");
refused('a device taken over', "INSERT INTO esim_device (eid) VALUES ('$their_eid') ON CONFLICT (eid) DO UPDATE SET label = 'taken'");
gives('label of their device', "WITH u AS (UPDATE esim_device SET label = 'taken' WHERE eid = '$their_eid' RETURNING 1) SELECT count(*) FROM u", '0');
gives('label of all devices but one\'s own', "WITH u AS (UPDATE esim_device SET label = 'taken' WHERE owner <> 'hostile'::regrole RETURNING 1) SELECT count(*) FROM u", '0');
gives('MERGE into their device', "MERGE INTO esim_device d USING (SELECT '$their_eid'::eid AS e) s ON d.eid = s.e WHEN MATCHED THEN UPDATE SET label = 'taken'", '');
refused('a profile', "INSERT INTO esim_profile (iccid) VALUES ('$no_iccid')");
refused('a completed operation', "UPDATE esim_operation SET status = 'COMPLETED', result = 'SUCCESS'");
refused('an operation', "INSERT INTO esim_operation SELECT * FROM esim_operation LIMIT 1");
refused('an operation removed', 'DELETE FROM esim_operation');
refused('the queue', "UPDATE esim_pending SET priority = -1");
refused('the queue emptied', 'TRUNCATE esim_pending');
refused('an outcome', "INSERT INTO esim_deferred (operation, shard, outcome) VALUES ('$waiting', 0, 'SUCCESS')");
refused('an attempt', "INSERT INTO esim_attempt (operation, number, at, method, url) VALUES ('$waiting', 1, now(), 'POST', 'x')");
refused('an event of a profile', "INSERT INTO esim_profile_event (profile, cause) VALUES ('$their_profile', 'OPERATION')");
refused('drift', "INSERT INTO esim_drift (eid, what) VALUES ('$their_eid', 'state')");
refused('drift resolved', 'UPDATE esim_drift SET resolved_at = now()');
refused('a notification', "INSERT INTO esim_notification (operation, target, format) VALUES ('$done', 'http://127.0.0.1:$port/ok/forged', 'cloudevent')");
refused('target of a notification', "UPDATE esim_notification SET target = 'http://127.0.0.1:$port/ok/forged'");
refused('an idempotency key', "INSERT INTO esim_idempotency VALUES ('victim', 'k', '$mine', '')");
refused('a credential', "INSERT INTO esim_credential (owner, name, kind, value) VALUES ('victim', 'hook', 'bearer', 'x')");
refused('a credential of theirs by function', "SELECT esim_set_credential('hook', 'bearer', 'x', 'victim')", 'ES404');
refused('a credential of theirs removed', "SELECT esim_drop_credential('hook', 'victim')", 'ES404');
refused("the audit: $_", $_) foreach 'DELETE FROM esim_audit', "UPDATE esim_audit SET role = 'victim'", 'TRUNCATE esim_audit',
	"INSERT INTO esim_audit (role, function) VALUES ('victim', 'esim_delete')", "COPY esim_audit (role, function) FROM PROGRAM 'true'",
	'ALTER TABLE esim_audit DISABLE ROW LEVEL SECURITY', "CREATE INDEX ON esim_audit (role)", 'BEGIN; LOCK TABLE esim_audit IN SHARE MODE',
	"CREATE TRIGGER t BEFORE INSERT ON esim_audit FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
	"CREATE RULE r AS ON INSERT TO esim_audit DO INSTEAD NOTHING", 'DROP TRIGGER esim_audit_update ON esim_device',
	"SELECT esim_audit_note('esim_delete', 'ACCEPTED')", 'SELECT esim_audit_maintenance()', "SELECT esim_prune('{\"audit_older_than\": \"90 days\"}')",
	"SET session_replication_role = replica";
refused('a pause', "INSERT INTO esim_paused (server, reason) VALUES (NULL, 'x')");
refused('a device transferred', "SELECT esim_transfer('$their_eid', 'hostile')");
refused('one\'s own device given away', "SELECT esim_transfer('$my_eid', 'victim')");
refused('a scope', "SELECT esim_grant('hostile', 'admin')");
refused('a scope taken from others', "SELECT esim_revoke('victim', 'enable')");
refused('esim_pause', 'SELECT esim_pause()');
refused('esim_resume', 'SELECT esim_resume()');
refused('esim_prune', 'SELECT esim_prune()');
refused('esim_receive', "SELECT esim_receive('shared', '{}')");
refused($_, "SELECT $_") foreach 'esim_wake()', 'esim_epoch()', 'esim_server_lock(0)', 'esim_scope_rights()', 'esim_server_name_sync()', "esim_check_server('x')";

#
# code that others would run
#
refused('a trigger', 'CREATE TRIGGER t BEFORE INSERT ON esim_operation FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()');
refused('a rule', 'CREATE RULE r AS ON INSERT TO esim_operation DO INSTEAD NOTHING');
refused('a policy', 'CREATE POLICY p ON esim_device USING (true)');
refused('a policy changed', 'ALTER POLICY esim_owner ON esim_device USING (true)');
refused('a default', "ALTER TABLE esim_operation ALTER priority SET DEFAULT hostile.leak(1)::int");
refused('a check', 'ALTER TABLE esim_operation ADD CHECK (hostile.leak(id))');
refused('a trigger switched off', 'ALTER TABLE esim_device DISABLE TRIGGER ALL');
refused('row-level security taken away', 'ALTER TABLE esim_device DISABLE ROW LEVEL SECURITY');
refused('an event trigger', 'CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION esim_server_ddl_start()');
refused('a table in the extension\'s schema', 'CREATE TABLE esim.t ()');
refused('a function in the extension\'s schema', "CREATE FUNCTION esim.esim_roles(int) RETURNS int LANGUAGE sql AS 'SELECT 1'");
refused('a function replaced', "CREATE OR REPLACE FUNCTION esim.esim_roles() RETURNS oid[] LANGUAGE sql AS 'SELECT NULL::oid[]'");
refused('a view replaced', 'CREATE OR REPLACE VIEW esim.esim_queue AS SELECT 1');
refused('a function of the library', "CREATE FUNCTION hostile.f() RETURNS void LANGUAGE c AS '\$libdir/esim', 'esim_wake'");
refused('a cast between our types', "CREATE FUNCTION hostile.c(eid) RETURNS iccid LANGUAGE sql AS 'SELECT NULL::iccid'; CREATE CAST (eid AS iccid) WITH FUNCTION hostile.c(eid) AS IMPLICIT");
refused('an operator class', 'CREATE OPERATOR CLASS hostile.oc DEFAULT FOR TYPE eid USING btree AS OPERATOR 1 esim.<');
refused('the extension changed', 'ALTER EXTENSION esim UPDATE');
refused('the extension taken apart', 'ALTER EXTENSION esim DROP TABLE esim_pending');
refused('the extension removed', 'DROP EXTENSION esim');
refused('their objects taken', 'REASSIGN OWNED BY victim TO hostile');
refused('their rights dropped', 'DROP OWNED BY victim');

# names of ours and of pg_catalog in a schema that comes first, with an eye on who runs them
as_ok('hostile', q(
	CREATE TABLE hostile.log (who text, what text);
	GRANT INSERT ON hostile.log TO PUBLIC;
	CREATE FUNCTION hostile.note(what text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS
	$$BEGIN
		IF current_user <> 'hostile' THEN
			INSERT INTO hostile.log VALUES (current_user, what);
			BEGIN EXECUTE 'ALTER ROLE hostile SUPERUSER'; EXCEPTION WHEN OTHERS THEN NULL; END;
		END IF;
	END$$;
	GRANT EXECUTE ON FUNCTION hostile.note(text) TO PUBLIC;
	CREATE DOMAIN hostile.uuid AS pg_catalog.text; CREATE DOMAIN hostile.regrole AS pg_catalog.text;
	CREATE TABLE hostile.esim_operation (id int); CREATE TABLE hostile.esim_pending (id int); CREATE TABLE hostile.esim_device (id int);
	CREATE TABLE hostile.esim_profile (id int); CREATE TABLE hostile.pg_foreign_server (id int); CREATE TABLE hostile.pg_proc (id int);
));
foreach my $type (qw(esim.eid esim.iccid pg_catalog.uuid pg_catalog.text pg_catalog.int8 pg_catalog.oid pg_catalog.name pg_catalog.timestamptz
	esim.esim_operation_state esim.esim_profile_state), 'pg_catalog."char"', 'pg_catalog.regrole')
{
	my $name = $type =~ s/\W/_/gr;

	as_ok('hostile', "CREATE FUNCTION hostile.compare_$name($type, $type) RETURNS bool LANGUAGE plpgsql AS \$\$BEGIN PERFORM hostile.note('= $type'); RETURN true; END\$\$;
		GRANT EXECUTE ON FUNCTION hostile.compare_$name($type, $type) TO PUBLIC;"
		  . join('', map { "CREATE OPERATOR hostile.$_ (LEFTARG = $type, RIGHTARG = $type, FUNCTION = hostile.compare_$name);" } '=', '<>', '<', '>='));
}
foreach my $function ('pg_has_role(oid, text) bool true', 'pg_get_userbyid(oid) name null', 'now() timestamptz null', 'clock_timestamp() timestamptz null',
	'esim_roles() oid[] null', 'length(text) int 1', 'lower(text) text null', 'gen_random_uuid() pg_catalog.uuid null', 'has_function_privilege(oid,oid,text) bool true',
	'esim_eid_valid(text) bool true', 'current_setting(text) text null', 'quote_ident(text) text null', 'esim_wake() void null', 'replace(text,text,text) text null')
{
	my ($head, $type, $value) = $function =~ /^(.*\)) (\S+) (\S+)$/;
	my $result = $type eq 'void' ? 'RETURN' : "RETURN $value";

	as_ok('hostile', "CREATE FUNCTION hostile.$head RETURNS $type LANGUAGE plpgsql AS \$\$BEGIN PERFORM hostile.note('$head'); $result; END\$\$; GRANT EXECUTE ON FUNCTION hostile.$head TO PUBLIC");
}
my $path = 'SET search_path = hostile, pg_catalog, esim;';
foreach my $call ("esim.esim_status(esim.eid '$my_eid')", "esim.esim_timeline('$my_eid')", "esim.esim_enable('" . iccid(12) . "', idempotency_key => 'k')",
	"esim.esim_enable('" . iccid(12) . "', idempotency_key => 'k')", "esim.esim_enable_many(ARRAY['" . iccid(13) . "']::esim.iccid[])",
	"esim.esim_download('$my_eid', '" . iccid(70000) . "', sink => 'http://127.0.0.1:$port/ok/a')", "esim.esim_operation_status('$mine')",
	"esim.esim_wait('$mine', '0')", "esim.esim_retry(ARRAY['$mine']::pg_catalog.uuid[])", "esim.esim_refresh('" . eid(14) . "')",
	'esim.esim_queue_counts()', 'esim.esim_capabilities()', "esim.esim_set_credential('c', 'bearer', 'x')", "esim.esim_drop_credential('c')",
	"esim.esim_activation_code('$my_iccid')", "esim.esim_camara('POST', '$r/enable', '{\"Authorization\": \"Bearer x\", \"Content-Type\": \"application/json\"}', '{\"esimProfile\": {\"iccid\": \"" . iccid(15) . "\"}}')",
	"esim.esim_cancel('$mine')")
{
	my ($name) = $call =~ /esim\.(esim_\w+)/;
	my ($status, $out, $err) = as('hostile', "$path SELECT $call");
	my $who = value($node, $database, 'SELECT string_agg(DISTINCT who || what, $$, $$) FROM hostile.log');

	ok($who eq '' && ($status == 0 || $err =~ /ES\d\d\d|42883|42703/), "search_path with shadows: $name") || diag("$who $err");
}
foreach my $view (qw(inventory device_summary operation_summary queue))
{
	as('hostile', "$path SELECT count(*) FROM esim.esim_$view");
	is(value($node, $database, 'SELECT count(*) FROM hostile.log'), '0', "search_path with shadows: esim_$view");
}
as('hostile', "CREATE TEMP TABLE esim_operation (id int); CREATE FUNCTION pg_temp.pg_has_role(oid, text) RETURNS bool LANGUAGE plpgsql AS \$\$BEGIN PERFORM hostile.note('temp'); RETURN true; END\$\$;
	SET search_path = pg_temp, hostile, pg_catalog, esim; SELECT esim.esim_status(esim.eid '$my_eid'); SELECT esim.esim_operation_status('$mine')");
is(value($node, $database, 'SELECT count(*) FROM hostile.log'), '0', 'names in pg_temp');
foreach my $call ('esim.esim_health()', 'esim.esim_scopes()', "esim.esim_pause('private')", "esim.esim_resume('private')", "esim.esim_prune('{}')",
	"esim.esim_grant('hostile', 'enable')", 'esim.esim_worker_status()', "esim.esim_transfer('" . eid(17) . "', 'hostile')")
{
	my ($name) = $call =~ /esim\.(esim_\w+)/;

	$node->psql($database, "$path SELECT $call");
	is(value($node, $database, 'SELECT string_agg(DISTINCT who || what, $$, $$) FROM hostile.log'), '', "an administrator with shadows in the search_path: $name");
}
$node->psql($database, "$path ALTER SERVER ear RENAME TO ear2; ALTER SERVER ear2 RENAME TO ear;");
is(value($node, $database, 'SELECT count(*) FROM hostile.log'), '0', 'a server renamed with shadows in the search_path');
ok(wait_until($node, $database, "SELECT count(*) FROM esim_operation WHERE status = 'ACCEPTED' AND owner = 'hostile'::regrole", '0'), 'the workers have done what was asked for meanwhile');
is(value($node, $database, 'SELECT string_agg(DISTINCT who || what, $$, $$) FROM hostile.log'), '', 'code in the workers');
is(value($node, $database, "SELECT rolsuper FROM pg_roles WHERE rolname = 'hostile'"), 'f', 'nobody has made the tenant a superuser');

# an error in the middle does not leave the owner's rights behind
gives('rights after an error that is caught', "DO \$\$ BEGIN BEGIN PERFORM esim_enable('$their_iccid'); EXCEPTION WHEN OTHERS THEN NULL; END;
	IF current_user <> 'hostile' OR has_table_privilege('esim.esim_pending', 'SELECT') THEN RAISE 'owner'; END IF;
	IF current_setting('search_path') <> 'esim, public' THEN RAISE 'path'; END IF; END \$\$", '');
refused('a table after an error that is caught', "DO \$\$ BEGIN BEGIN PERFORM esim_cancel('$waiting'); EXCEPTION WHEN OTHERS THEN NULL; END; PERFORM * FROM esim_pending; END \$\$");
my $superuser = value($node, $database, 'SELECT current_user');
refused('a role from within', "DO \$\$ BEGIN BEGIN PERFORM esim_enable_many(ARRAY['$their_iccid']::iccid[]); EXCEPTION WHEN OTHERS THEN NULL; END; SET ROLE \"$superuser\"; END \$\$");

#
# servers, roles, settings
#
my $mapping = 'OPTIONS (token $$x$$)';
refused('a user mapping for the other', "CREATE USER MAPPING FOR victim SERVER private $mapping", '42501');
refused('a user mapping for PUBLIC', "CREATE USER MAPPING FOR PUBLIC SERVER ear $mapping");
refused('their user mapping changed', "ALTER USER MAPPING FOR victim SERVER shared OPTIONS (SET token 'x')");
refused('their user mapping dropped', 'DROP USER MAPPING FOR victim SERVER shared');
refused('a user mapping on a server without USAGE', "CREATE USER MAPPING FOR hostile SERVER private $mapping");
refused('a user mapping with a URL', "CREATE USER MAPPING FOR hostile SERVER shared OPTIONS (url 'http://127.0.0.1:$port/')", 'HV00D');
refused('a user mapping with a file of the server', "CREATE USER MAPPING FOR hostile SERVER shared OPTIONS (client_id 'x', private_key '/etc/passwd')");
refused('a user mapping with a certificate of the server', "CREATE USER MAPPING FOR hostile SERVER shared OPTIONS (client_cert '/etc/passwd', client_key '/etc/passwd')");
refused('a token with a line break', "CREATE USER MAPPING FOR hostile SERVER shared OPTIONS (token E'x\\r\\nX-Evil: 1')", '22023');
refused('a user name with a line break', "CREATE USER MAPPING FOR hostile SERVER shared OPTIONS (username E'x\\r\\nX-Evil: 1', password 'x')", '22023');
refused('url of a server', "ALTER SERVER shared OPTIONS (SET url 'http://127.0.0.1:$port/')");
refused('name of a server', 'ALTER SERVER shared RENAME TO mine');
refused('owner of a server', 'ALTER SERVER shared OWNER TO hostile');
refused('a server', "CREATE SERVER mine FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://127.0.0.1:$port/')");
refused('a server dropped', 'DROP SERVER shared CASCADE');
refused('a foreign table', "CREATE FOREIGN TABLE hostile.ft (x int) SERVER shared; SELECT * FROM hostile.ft", '42501|55000|HV\w+|0A000');
refused('a server without USAGE named', "SELECT esim_enable('" . iccid(11) . "', server => 'private')", 'ES403');
refused('a server without USAGE by setting', "SET esim.default_server = 'private'; SELECT esim_download('" . eid(16) . "', '" . iccid(70001) . "', server => 'private')", 'ES403');
like(same('a server that does not exist', "SELECT esim_enable('" . iccid(11) . "', server => '%s')", 'none-a', 'none-b'), qr/ERROR/, 'a server that does not exist is an error');
refused('SET ROLE victim', 'SET ROLE victim');
refused('SET ROLE esim_worker', 'SET ROLE esim_worker');
refused('SET SESSION AUTHORIZATION', 'SET SESSION AUTHORIZATION esim_worker');
refused('set_config of role', "SELECT set_config('role', 'victim', false)");
refused('membership in the workers\' role', 'GRANT esim_worker TO hostile');
refused('membership in the other', 'GRANT victim TO hostile');
refused('the workers\' role changed', "ALTER ROLE esim_worker PASSWORD 'x'");
isnt(($node->psql($database, 'SELECT 1', extra_params => [ '-U', 'esim_worker' ]))[0], 0, 'a connection as the workers\' role');
refused("SET esim.$_->[0]", "LOAD 'esim'; SET esim.$_->[0] = '$_->[1]'", '42501|55P02|58P01')
  foreach [ 'sink_allow', '*' ], [ 'sink_allow_private', 'on' ], [ 'worker_role', 'hostile' ], [ 'workers', '0' ], [ 'notify_channel', 'x' ], [ 'max_pending_per_owner', '0' ];
refused('settings before the library is there', "SET esim.sink_allow = '*'; SET esim.sink_allow_private = on; SELECT esim_enable('" . iccid(11) . "', sink => 'http://127.0.0.1:$other_port/ok/x')", 'ES40[03]');
{
	local $ENV{PGOPTIONS} = '-c esim.sink_allow=* -c esim.sink_allow_private=on';
	refused('settings on the connection', "SELECT esim_enable('" . iccid(11) . "', sink => 'http://127.0.0.1:$other_port/ok/x')", 'ES40[03]');
}
refused('settings of the role', "ALTER ROLE hostile SET esim.sink_allow = '*'");
refused('settings of the system', "ALTER SYSTEM SET esim.sink_allow = '*'");
{
	as_ok('hostile', "SELECT esim_refresh('" . eid(14) . "')");
	ok(wait_until($node, $database, "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'esim worker'", 't'), 'there is a worker');
	my $pid = (worker_pids($node, $database))[0] // 0;
	refused('a worker terminated', "SELECT pg_terminate_backend($pid)");
	refused('a worker cancelled', "SELECT pg_cancel_backend($pid)");
	gives('what a worker is doing', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND (backend_type IS NOT NULL OR query <> '<insufficient privilege>')", '0');
}

#
# input
#
my $own = iccid(11);
sub input
{
	my ($name, $parameters, $state) = @_;

	refused($name, "SELECT esim_enable('$own', $parameters)", $state // 'ES400');
	return;
}

input('a line break in the correlator', "correlator => E'x\\r\\nX-Evil: 1'");
input('a blank in the correlator', "correlator => 'x y'");
input('a correlator of 10,000 characters', "correlator => repeat('x', 10000)");
input('a line break in the sink', "sink => E'http://127.0.0.1:$port/ok\\r\\nX-Evil: 1'");
input('a sink of 10,000 characters', "sink => 'http://127.0.0.1:$port/' || repeat('x', 10000)");
input('a line break in the callback', "callback_url => E'http://127.0.0.1:$port/ok\\nX-Evil: 1'");
input('another method for the callback', "callback_url => 'http://127.0.0.1:$port/ok', callback_method => E'GET / HTTP/1.1\\r\\nX-Evil: 1'");
input('a line break in the sink\'s token', "sink => 'http://127.0.0.1:$port/ok', sink_credential => jsonb_build_object('credentialType', 'ACCESSTOKEN', 'accessToken', E'x\\r\\nX-Evil: 1')");
input('a line break in the idempotency key', "idempotency_key => E'x\\r\\nX-Evil: 1'");
input('an idempotency key of 10,000 characters', "idempotency_key => repeat('x', 10000)");
input('options of a megabyte', "options => jsonb_build_object('x', repeat('x', 1000000))");
input('options 10,000 deep', "options => (repeat('{\"a\":', 10000) || '1' || repeat('}', 10000))::jsonb", 'ES400|54001|22P02');
input('options that are no object', "options => '[]'");
input('a credential of a megabyte', "sink => 'http://127.0.0.1:$port/ok', sink_credential => jsonb_build_object('name', repeat('x', 1000000))");
input('a server\'s name with SQL in it', "server => 'x''; DROP TABLE esim_device; --'", 'ES\d+');
input('an end of time', "expires_at => 'infinity'");
refused('an array of more than a million', "SELECT esim_enable_many(array_fill('$own'::iccid, ARRAY[1000001]))", 'ES400');
refused('a retry of more than 100,000', "SELECT esim_retry(array_fill('$mine'::uuid, ARRAY[100001]))", 'ES400');
refused('an ICCID of a megabyte', "SELECT esim_enable(repeat('8', 1000000)::iccid)", '22P02|ES400');
like((as('hostile', "SELECT status FROM esim_camara('POST', '$r/enable', '{\"Authorization\": \"Bearer x\", \"Content-Type\": \"application/json\"}', repeat('x', 5000000))"))[1], qr/^4\d\d/, 'a body of 5 MB');
like((as('hostile', "SELECT status, headers FROM esim_camara('GET', '$r/operations/$mine', jsonb_build_object('Authorization', 'Bearer x', 'x-correlator', E'c\\r\\nX-Evil: 1'), NULL)"))[1], qr/^(?!.*X-Evil)400/, 'a line break in the header x-correlator');
foreach my $url ("http://127.0.0.1:$other_port/ok", "http://localhost:$port/ok", "http://0x7f.1:$other_port/ok", "http://2130706433:$other_port/ok", "http://127.1:$other_port/ok", "http://[::ffff:127.0.0.1]:$port/ok",
	'http://169.254.169.254/latest/meta-data', 'https://169.254.169.254/', 'https://[fd00:ec2::254]/', 'https://10.0.0.1/', 'https://[::1]/', 'https://example.com/',
	"http://127.0.0.1:$port\@example.com/", "http://x\@127.0.0.1:$port/", 'file:///etc/passwd', 'gopher://127.0.0.1/', "http://127.0.0.1:$port#\@example.com/")
{
	input("sink at $url", "sink => '$url'", 'ES40[03]');
}

#
# with the workers: whose credentials, whose rows
#
$node->safe_psql($database, 'SELECT esim_pause()');
my $heard = as_ok('hostile', "SELECT esim_enable('" . iccid(16) . "', server => 'ear', sink => 'http://127.0.0.1:$port/ok/hostile', sink_credential => '{\"name\": \"hook\"}',
	options => jsonb_build_object('correlationId', E'x\\r\\nX-Evil: 1'))");
my $other = as_ok('hostile', "SELECT esim_download('" . eid(17) . "', '$their_iccid', '1\$smdp.example.com\$M')");
$node->safe_psql($database, 'SELECT esim_resume()');
ok(wait_until($node, $database, "SELECT count(*) FROM esim_operation WHERE id IN ('$heard', '$other') AND status = 'ACCEPTED'", '0', 20), 'operations at another server, and of their ICCID, have ended')
  || tell_failures($node, $database);
sleep 2;
my @heard = $sink->requests(qr{^/ear});
cmp_ok(scalar(@heard), '>', 0, 'the other server was asked');
unlike(encode_json([@heard]), qr/token-of-victim/, 'but not with the credentials of another owner');
unlike(encode_json([ $sink->requests(qr{/hostile}) ]), qr/token-of-victim/, 'nor is a sink told a stored credential of another owner');
ok(!(grep { exists $_->{headers}{'x-evil'} } $sink->requests), 'no header was injected');
unlike(encode_json($simulator->get('/requests?n=500')), qr/"x-evil"/i, 'nor at the other server');
is(state_of_victim(), $before, 'a download of their ICCID has changed nothing of theirs');

# LISTEN: anyone may, and learns an identifier that is of no use to him
{
	my $session = aside("LISTEN esim;\nSELECT pg_sleep(4);\nSELECT 1;\n");
	sleep 1;
	my $id = as_ok('victim', "SELECT esim_refresh('" . eid(6) . "', correlator => 'listened-to')");
	as_ok('victim', "SELECT esim_wait('$id', '20 s')");
	finish($session);
	my $out = PostgreSQL::Test::Utils::slurp_file($aside_out);
	like($out, qr/Asynchronous notification "esim" with payload "$id"/, 'LISTEN gives the identifier of an operation');
	unlike($out, qr/@{[ eid(6) ]}|listened-to|refresh|SUCCESS/, 'LISTEN tells no more than identifiers of operations');
	like((as('hostile', "SELECT esim_operation_status('$id')"))[2], qr/ES404/, 'which open nothing');
	$before = state_of_victim();
}

# locks: nothing that the tenant holds keeps the other's operations
{
	my $session = aside("BEGIN;
		SELECT esim_refresh('" . eid(18) . "'); UPDATE esim_device SET label = 'held'; SELECT * FROM esim_device FOR UPDATE;
		SELECT count(pg_advisory_lock(n)) + count(pg_advisory_lock(n, n)) FROM generate_series(0, 100) n;
		LOCK TABLE esim_operation, esim_profile, esim_device IN ACCESS SHARE MODE;
		SELECT pg_sleep(8); ROLLBACK;\n");
	wait_until($node, $database, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'hostile' AND query LIKE '%pg_sleep(8)%'", '1', 20);
	my $id = as_ok('victim', "SET lock_timeout = '3s'; SELECT esim_enable('" . iccid(7) . "')");
	like(as_ok('victim', "SELECT status, result FROM esim_wait('$id', '5 s')"), qr/^COMPLETED\|SUCCESS$/, 'open locks of one tenant do not hold up another');
	is(value($node, $database, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'hostile' AND query LIKE '%pg_sleep(8)%'"), '1', 'they were held all the while');
	finish($session);
	$before = state_of_victim();
}
refused("$_ locked", "BEGIN; LOCK TABLE $_ IN ACCESS EXCLUSIVE MODE") foreach qw(esim_operation esim_device esim_pending);
gives('their rows locked', "SELECT count(*) FROM (SELECT 1 FROM esim_device WHERE label = 'secret label' FOR UPDATE) s", '0');
refused('own profiles locked against the workers', 'SELECT 1 FROM esim_profile FOR UPDATE');
refused('own operations locked against the workers', 'SELECT 1 FROM esim_operation FOR UPDATE');
refused('own operations locked for key share', 'SELECT 1 FROM esim_operation FOR KEY SHARE');

#
# doc/security.md: a tenant with the functions alone, who has no table to EXPLAIN and measure
#
$node->safe_psql($database, "CREATE ROLE narrow LOGIN IN ROLE hostile NOINHERIT;
	SELECT esim_grant('narrow', VARIADIC '{@{[ join ',', @scopes ]}}'); REVOKE SELECT, UPDATE ON ALL TABLES IN SCHEMA esim FROM narrow;
	UPDATE esim_device SET owner = 'narrow', owner_name = 'narrow' WHERE eid = '" . eid(19) . "'; UPDATE esim_profile SET owner = 'narrow', owner_name = 'narrow' WHERE eid = '" . eid(19) . "';
	GRANT USAGE ON FOREIGN SERVER shared TO narrow");
foreach my $table (qw(device device_state profile profile_event drift fleet operation attempt notification inventory device_summary operation_summary queue))
{
	like((as('narrow', "EXPLAIN ANALYZE SELECT count(*) FROM esim_$table"))[2], qr/42501/, "functions alone: EXPLAIN ANALYZE of esim_$table");
}
my $narrow = as_ok('narrow', "SELECT esim_refresh('" . eid(19) . "')");
like(as_ok('narrow', "SELECT esim_operation_status('$narrow')"), qr/refresh/, 'functions alone: operations are asked for and looked at');
is(as_ok('narrow', "SELECT count(*) > 0 FROM esim_status('" . eid(19) . "')"), 't', 'functions alone: profiles');
like(as_ok('narrow', "SELECT status FROM esim_camara('POST', '$r/retrieve-status', '{\"Authorization\": \"Bearer x\", \"Content-Type\": \"application/json\"}', '{\"esimProfile\": {\"eid\": \"" . eid(19) . "\"}}')"),
	qr/^200$/, 'functions alone: the API');
is(as_ok('narrow', "SELECT count(*) > 0 FROM esim_timeline('" . eid(19) . "')"), 't', 'functions alone: the timeline');
foreach my $call ("esim_status(eid => '%s')", "esim_timeline('%s')", "esim_refresh('%s')")
{
	my @plan = map { join "\n", as('narrow', 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT ' . $call =~ s/%s/$_/r) } $their_eid, $no_eid;

	s/\.\.\.\d{4}/.../g foreach @plan;
	like($plan[0], qr/ES404/, "functions alone: EXPLAIN ANALYZE of $call");
	is($plan[0], $plan[1], "functions alone: EXPLAIN ANALYZE of $call tells nothing");
}
ok(wait_until($node, $database, "SELECT status FROM esim_operation WHERE id = '$narrow'", 'COMPLETED'), 'functions alone: and are carried out');

#
# the end: nothing of theirs has changed, nothing has come out
#
is(state_of_victim(), $before, 'nothing of the other tenant has changed');
is(value($node, $database, "SELECT count(*) FROM esim_operation WHERE owner = 'victim'::regrole AND requested_by <> 'victim'::regrole"), '0', 'nobody asked for anything in their name');
is(value($node, $database, "SELECT count(*) FROM esim_scopes() WHERE role = 'hostile'::regrole"), scalar(@scopes), 'the tenant has the scopes it had');
is(value($node, $database, "SELECT count(*) FROM esim_audit WHERE role = 'victim' AND session::jsonb ->> 'user' NOT IN ('victim', 'front')"), '0', 'nor does the audit say so');
cmp_ok(value($node, $database, "SELECT count(*) FROM esim_audit WHERE role = 'hostile' AND session::jsonb ->> 'user' = 'hostile'"), '>', 10, 'it says what the tenant has done');
is(value($node, $database, "SELECT count(*) FROM esim_audit a WHERE a::text ~ 'token-of-|SECRET-OF|secret label'"), '0', 'and no secret');
is(scalar(grep { $_->{port} == $other_port } $sink->requests), 0, 'nothing came to a port that is not allowed');
my @log = grep { /^\d{4}-\d\d-\d\d .*?(?:LOG|ERROR|WARNING|FATAL|DETAIL|HINT):  / && !/LOG:  statement: / } split /\n/, PostgreSQL::Test::Utils::slurp_file($node->logfile);
is(join("\n", grep { /token-of-|SECRET-OF|$their_eid|$their_iccid/ } @log), '', 'messages in the log have neither secrets nor whole identifiers');

$node->stop('fast');
done_testing();
