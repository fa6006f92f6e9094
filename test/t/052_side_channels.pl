# test/t/052_side_channels.pl
# A tenant who may type SQL and measures: whatever plan is chosen, EXPLAIN ANALYZE, estimates,
# counters and buffers are the same for what another tenant has and for what nobody has. The same
# attacks by a superuser, who sees all rows, succeed: so they are attacks.
use strict;
use warnings;

use Test::More;

use EsimTest;

my $node = new_node('side', settings => [ 'autovacuum = off', 'esim.workers = 0', 'jit = off', 'max_parallel_workers_per_gather = 0' ]);
my $database = 'side';
create_database($node, $database);

my @scopes = qw(download enable disable delete set-fallback retrieve-status retrieve-operation refresh);
$node->safe_psql($database, qq(
	CREATE ROLE victim LOGIN;
	CREATE ROLE hostile LOGIN;
	CREATE ROLE third LOGIN;
	SELECT esim_grant(r, VARIADIC '{@{[ join ',', @scopes ]}}') FROM unnest('{victim,hostile,third}'::regrole[]) r;
	CREATE SERVER shared FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://shared.invalid/');
	GRANT USAGE ON FOREIGN SERVER shared TO victim, hostile, third;
	CREATE SCHEMA hostile AUTHORIZATION hostile;

	-- even numbers only: odd ones are nobody's
	CREATE TEMP TABLE n AS
	SELECT n, (ARRAY['victim', 'hostile', 'third'])[n % 3 + 1]::regrole AS owner,
		(e || esim_eid_check_digits(e))::eid AS eid, (i || esim_iccid_check_digit(i))::iccid AS iccid, gen_random_uuid() AS profile, gen_random_uuid() AS operation
	FROM generate_series(0, 2999) n, LATERAL (SELECT '8904903200' || lpad((2 * n)::text, 20, '0') AS e, '89' || lpad((2 * n)::text, 16, '0') AS i) d;
	INSERT INTO esim_device (eid, owner, server, imei) SELECT eid, owner, 'shared', lpad((2 * n)::text, 15, '3') FROM n;
	INSERT INTO esim_device_state (eid, last_seen_at) SELECT eid, now() FROM n;
	INSERT INTO esim_profile (id, iccid, eid, owner, state, server, rsp_iccid, reserved_eid, activation_code)
	SELECT profile, iccid, eid, owner, CASE n % 2 WHEN 0 THEN 'ENABLED' ELSE 'DISABLED' END::esim_profile_state, 'shared', iccid, eid, ('1\$smdp.example.com\$M' || n)::activation_code FROM n;
	INSERT INTO esim_operation (id, seq, kind, eid, iccid, profile, owner, owner_name, requested_by, server, status, result, phase, error_code, completed_at, expires_at, activation_code)
	SELECT operation, nextval('esim_operation_seq'), 'download', eid, iccid, profile, owner, pg_get_userbyid(owner), owner, 'shared', 'COMPLETED', 'FAILED', 'DONE', 'X', now(), now(),
		('1\$smdp.example.com\$M' || n)::activation_code FROM n;
	INSERT INTO esim_attempt (operation, number, at, method, url) SELECT operation, 1, now(), 'POST', 'https://shared.invalid/' || eid FROM n WHERE n < 1500;
	INSERT INTO esim_notification (operation, target, format) SELECT operation, 'https://' || owner || '.invalid/' || n, 'cloudevent' FROM n WHERE n < 1500;
	INSERT INTO esim_profile_event (profile, eid, new_state, cause) SELECT profile, eid, 'DISABLED', 'OPERATION' FROM n WHERE n < 1500;
	INSERT INTO esim_drift (eid, profile, what) SELECT eid, CASE n % 2 WHEN 0 THEN profile END, 'state' FROM n WHERE n < 1500;
	INSERT INTO esim_fleet (name, owner, owner_name, server) SELECT 'fleet-' || n, owner, pg_get_userbyid(owner), 'shared' FROM n WHERE n < 600;
));

# text that says whose it is, in every column that takes any
my %fixed = map { $_ => 1 } qw(esim_operation.kind esim_operation.server esim_operation.error_code esim_operation.phase_reason esim_attempt.method esim_attempt.url
  esim_notification.format esim_notification.state esim_notification.target esim_notification.sink esim_profile_event.cause esim_profile.profile_class esim_profile.redownload
  esim_profile.state_source esim_profile.server esim_device.imei esim_device.server esim_fleet.name esim_fleet.server);
my @tables = qw(esim_device esim_device_state esim_profile esim_operation esim_attempt esim_notification esim_profile_event esim_drift esim_fleet);
my @columns = rows($node, $database, qq(SELECT c.relname, a.attname, a.atttypid::regtype FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
	WHERE c.relnamespace = 'esim'::regnamespace AND c.relname = ANY ('{@{[ join ',', @tables ]}}')
	AND a.atttypid IN ('esim.eid'::regtype, 'esim.iccid'::regtype, 'esim.activation_code'::regtype, 'text'::regtype) ORDER BY 1, 2));
foreach my $table (@tables)
{
	my @free = map { $_->[1] } grep { $_->[0] eq $table && $_->[2] eq 'text' && !$fixed{"$table.$_->[1]"} } @columns;

	$node->safe_psql($database, "UPDATE $table SET " . join(', ', map { "$_ = 'of ' || md5('$_' || ctid::text)" } @free)) if @free;
}
$node->safe_psql($database, 'VACUUM ANALYZE');
cmp_ok(scalar(@columns), '>', 50, 'columns with identifiers and texts');

# psql in a session of its own; what it prints, with the value struck out
sub session
{
	my ($role, $sql, @strike) = @_;
	my ($status, $out, $err) = $node->psql($database, $sql, extra_params => [ '-U', $role ]);

	foreach my $text ($out, $err)
	{
		$text =~ s/\Q$_\E/VALUE/g foreach @strike;
		$text =~ s/\.\.\.\d{4}/.../g;
		$text =~ s/psql:<stdin>:\d+: //g;
		# where a page came from depends on who was here before
		$text =~ s{shared(?: hit=(\d+))?(?: read=(\d+))}{'shared hit=' . (($1 // 0) + $2)}ge;
	}
	return "$out\n$err";
}

sub as_hostile_ok
{
	my ($sql) = @_;
	my ($status, $out, $err) = $node->psql($database, $sql, extra_params => [ '-U', 'hostile' ]);

	die "$sql: $err" if $status != 0;
	return $out;
}

# What is done with a value, V; the table is T, the column C, what holds only the value hostile.guess.
my @shapes = (
	'SELECT * FROM T WHERE C = V',
	'SELECT count(*) FROM T WHERE C = ANY (ARRAY[V, V])',
	'SELECT C FROM T WHERE C BETWEEN V AND V',
	'SELECT C FROM T WHERE C IS NOT DISTINCT FROM V',
	'SELECT * FROM T WHERE (C, C) >= (V, V) AND C <= V',
	'SELECT C FROM T WHERE C >= V ORDER BY C LIMIT 1',
	'SELECT min(C) FROM T WHERE C >= V',
	'SELECT * FROM T WHERE C = V OR C < V AND C > V',
	'SELECT * FROM hostile.guess g JOIN T ON T.C = g.v',
	'SELECT * FROM hostile.guess g LEFT JOIN T ON T.C = g.v',
	'SELECT * FROM hostile.guess g WHERE EXISTS (SELECT FROM T WHERE T.C = g.v)',
	'SELECT * FROM hostile.guess g WHERE g.v NOT IN (SELECT C FROM T WHERE C IS NOT NULL)',
	'SELECT * FROM hostile.guess g, LATERAL (SELECT * FROM T WHERE T.C = g.v OFFSET 0) s',
	'SELECT * FROM T JOIN T u USING (C) WHERE C = V',
	'SELECT * FROM T TABLESAMPLE SYSTEM (100) WHERE C = V',
	"SELECT * FROM T WHERE ctid >= '(0,0)' AND C = V",
	'SELECT C FROM T WHERE C = V UNION ALL SELECT C FROM T WHERE C > V AND C < V',
	'EXECUTE p(V)');
my @toggles = ('', 'enable_seqscan = off', 'enable_seqscan = off; SET enable_indexscan = off', 'enable_seqscan = off; SET enable_bitmapscan = off',
	'enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off', 'enable_hashjoin = off; SET enable_nestloop = off', 'cpu_operator_cost = 0');

# All plans of all shapes for a value, each table's first without a literal of ours.
sub plans
{
	my ($table, $column, $type, $value) = @_;
	my $literal = "'$value'::$type";
	my $sql = '';

	# a text is in no index of a tenant's: fewer plans differ
	my $few = $type eq 'text';
	foreach my $toggle ($few ? @toggles[0, 1] : @toggles)
	{
		$sql .= "\\echo == $toggle\n";
		$sql .= "SET $toggle;\n" if $toggle;
		foreach my $shape ($few ? @shapes[0, 1, 5, 7, 8, 12, 17] : @shapes)
		{
			next if $shape =~ /min/ && $type eq 'activation_code';
			# counters of buffers settle when it is done again
			my $statement = $shape =~ s/\bV\b/$literal/gr =~ s/\bT\b/$table/gr =~ s/\bC\b/$column/gr;
			$sql .= "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, BUFFERS OFF) $statement;\n";
			$sql .= "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, BUFFERS) $statement;\n" if $toggle eq '' || $type ne 'text';
		}
		$sql .= "RESET ALL;\n";
	}
	return "SET client_min_messages = error;
		DROP TABLE IF EXISTS hostile.guess; CREATE TABLE hostile.guess (v $type); INSERT INTO hostile.guess VALUES ($literal); ANALYZE hostile.guess;
		SELECT pg_stat_clear_snapshot();
		PREPARE p($type) AS SELECT * FROM $table WHERE $column = \$1; SET plan_cache_mode = force_generic_plan;
		\\c -\n"
	  . "SET plan_cache_mode = force_generic_plan; PREPARE p($type) AS SELECT * FROM $table WHERE $column = \$1;\n$sql";
}

sub first_difference
{
	my @a = split /\n/, shift, -1;
	my @b = split /\n/, shift, -1;

	for my $i (0 .. $#a)
	{
		next if defined $b[$i] && $a[$i] eq $b[$i];
		my $from = $i > 6 ? $i - 6 : 0;
		return join("\n", "line $i", @a[$from .. $i], 'instead of', $b[$i] // 'nothing');
	}
	return 'longer';
}

# A value of the other tenant from the middle of the column, and one beside it that nobody has.
sub pair
{
	my ($table, $column, $type) = @_;
	my $of = { esim_attempt => 'operation IN (SELECT id FROM esim_operation WHERE owner = $$victim$$::regrole)',
		esim_notification => 'operation IN (SELECT id FROM esim_operation WHERE owner = $$victim$$::regrole)',
		esim_profile_event => 'profile IN (SELECT id FROM esim_profile WHERE owner = $$victim$$::regrole)',
		esim_drift => 'eid IN (SELECT eid FROM esim_device WHERE owner = $$victim$$::regrole)',
		esim_device_state => 'eid IN (SELECT eid FROM esim_device WHERE owner = $$victim$$::regrole)' }->{$table} // 'owner = $$victim$$::regrole';
	my $foreign = value($node, $database, "SELECT $column FROM $table WHERE $of AND $column IS NOT NULL ORDER BY $column OFFSET 100 LIMIT 1");
	my $nobody = $foreign =~ s/.$/Z/r;

	if ($type =~ /eid|iccid/)
	{
		# the next odd number
		my $cut = $type =~ /eid/ ? 10 : 2;
		my $n = substr($foreign, $cut, $type =~ /eid/ ? 20 : 16) + 1;
		$nobody = $type =~ /eid/ ? eid($n) : iccid($n);
	}
	$nobody = $foreign + 1 if $column eq 'imei';
	return ($foreign, $nobody);
}


# What a role may find out by a column: the plans for both values.
sub compare
{
	my ($role, $table, $name, $type) = @_;
	my @values = pair($table, $name, $type);

	return map { session($role, plans($table, $name, $type, $_), $_) } @values;
}

sub all_columns
{
	my ($how, @columns) = @_;

	foreach my $column (@columns)
	{
		my ($table, $name, $type) = @$column;
		my @seen = compare('hostile', @$column);

		ok($seen[0] eq $seen[1], "$how: plans for $table.$name tell nothing") || diag(first_difference(@seen));
		like($seen[0], qr/actual rows/, "$how: plans for $table.$name are there");
		unlike($seen[0], qr/ERROR/, "$how: plans for $table.$name are all made");
	}
	return;
}

# those that all rows have in common say nothing
@columns = grep { !$fixed{"$_->[0].$_->[1]"} || $_->[1] =~ /^(?:imei|url|target|sink|name)$/ } @columns;
cmp_ok(scalar(@columns), '>', 40, 'columns with identifiers and texts of owners');
all_columns('library not preloaded', @columns);
foreach my $column ([ 'esim_device', 'eid', 'eid' ], [ 'esim_profile', 'iccid', 'iccid' ])
{
	my @seen = compare('postgres', @$column);
	isnt($seen[0], $seen[1], "for who sees all rows plans for $column->[0].$column->[1] differ");
}

#
# views, and functions of the tenant's own
#
{
	my ($foreign, $nobody) = pair('esim_device', 'eid', 'eid');
	my $profile = value($node, $database, "SELECT iccid FROM esim_profile WHERE eid = '$foreign'");
	my $no_profile = iccid(substr($nobody, 10, 20));

	foreach my $view (qw(esim_inventory esim_device_summary))
	{
		my @seen = map { session('hostile', plans($view, 'eid', 'eid', $_), $_) } $foreign, $nobody;
		ok($seen[0] eq $seen[1], "plans for $view tell nothing") || diag(first_difference(@seen));
		like($seen[0], qr/actual rows/, "plans for $view are there");
	}
	as_hostile_ok("CREATE FUNCTION hostile.look(eid) RETURNS SETOF esim_device LANGUAGE sql STABLE AS 'SELECT * FROM esim.esim_device WHERE eid = \$1';
		CREATE VIEW hostile.v AS SELECT * FROM esim_device; CREATE VIEW hostile.barrier WITH (security_barrier) AS SELECT * FROM esim_device;
		CREATE FUNCTION hostile.note(eid) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS 'BEGIN RAISE NOTICE ''%'', \$1; RETURN true; END'");
	foreach my $sql ("SELECT * FROM hostile.look('V')", "SELECT * FROM hostile.v WHERE eid = 'V'", "SELECT * FROM hostile.barrier WHERE eid = 'V'",
		"SELECT * FROM hostile.v WHERE eid = 'V' AND hostile.note(eid)", "SELECT * FROM esim_device WHERE eid = 'V' FOR UPDATE",
		"UPDATE esim_device SET label = 'mine' WHERE eid = 'V'", "MERGE INTO esim_device d USING (VALUES ('V'::eid)) v (eid) ON d.eid = v.eid WHEN MATCHED THEN UPDATE SET label = 'mine'",
		"SELECT esim_activation_code('W')", "WITH x AS MATERIALIZED (SELECT * FROM esim_device WHERE eid = 'V') SELECT count(*) FROM x",
		"SELECT * FROM esim_profile WHERE iccid = 'W' AND eid = 'V'", "SELECT * FROM esim_profile WHERE iccid = 'W' OR eid = 'V'",
		"SELECT * FROM esim_operation WHERE eid = 'V' ORDER BY seq DESC LIMIT 1")
	{
		my @seen = map { my ($eid, $iccid) = @$_; session('hostile', 'EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, BUFFERS OFF) ' . $sql =~ s/\bV\b/$eid/gr =~ s/\bW\b/$iccid/gr, $eid, $iccid) }
		  [ $foreign, $profile ], [ $nobody, $no_profile ];
		is($seen[0], $seen[1], "a plan tells nothing: $sql");
		like($seen[0], qr/QUERY PLAN|actual rows|IDENTIFIER|not known|MERGE/, "is made: $sql") if $sql !~ /activation_code/;
	}
}

#
# random identifiers: they are not closed in on, range by range
#
foreach my $column (rows($node, $database, "SELECT c.relname, a.attname, i.indnkeyatts > 1 FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
	WHERE c.relname = ANY ('{@{[ join ',', @tables ]}}') AND c.relnamespace = 'esim'::regnamespace AND a.atttypid = 'uuid'::regtype ORDER BY 1, 2"))
{
	my ($table, $name, $more) = @$column;
	my $foreign = value($node, $database, "SELECT $name FROM $table WHERE $name IN (SELECT id FROM esim_profile WHERE owner = 'victim'::regrole UNION ALL SELECT id FROM esim_operation WHERE owner = 'victim'::regrole
		UNION ALL SELECT id FROM esim_fleet WHERE owner = 'victim'::regrole UNION ALL SELECT n.id FROM esim_notification n JOIN esim_operation o ON o.id = n.operation WHERE o.owner = 'victim'::regrole) ORDER BY 1 OFFSET 20 LIMIT 1");
	my $second = { esim_operation => 'seq', esim_attempt => 'number', esim_profile_event => 'id' }->{$table};
	my $near = sub { my $id = shift; return map { substr($id, 0, 24) . $_ } '000000000000', 'ffffffffffff'; };
	my $plans = sub {
		my ($from, $to) = $near->(shift);
		my $sql = '';

		foreach my $toggle ('seqscan = off', 'seqscan = off; SET enable_indexscan = off', 'seqscan = off; SET enable_bitmapscan = off')
		{
			$sql .= "SET enable_$toggle;\n";
			$sql .= "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, BUFFERS) SELECT * FROM $table WHERE $_;\n" x 2
			  foreach "$name BETWEEN '$from' AND '$to'", "$name > '$from' AND $name < '$to'", "($name, $name) BETWEEN ('$from', '$from') AND ('$to', '$to')",
			  "$name >= '$from' AND $name < '$to' ORDER BY $name LIMIT 1", ($second ? ("$name IS NOT NULL AND $second = 1", "($name, $second) > ('$from', 0) AND ($name, $second) < ('$to', 1000000000)") : ());
			$sql .= "RESET ALL;\n";
		}
		return session('hostile', $sql, $from, $to);
	};
	my @seen = map { $plans->($_) } $foreign, 'ffffffff-ffff-4fff-8fff-ffffffffffff';
	ok($seen[0] eq $seen[1], "$table.$name is not closed in on") || diag(first_difference(@seen));
	unlike($seen[0], qr/Index Cond:[^\n]*\b$name\b|ERROR/, "no index on $table.$name is searched by range");
}

#
# estimates: histograms bisected for the EIDs that they are made of
#
sub estimate
{
	my ($role, $bound) = @_;
	my ($status, $out, $err) = $node->psql($database, "SET esim.check_digits = off; EXPLAIN SELECT FROM esim_device WHERE eid < '$bound'", extra_params => [ '-U', $role ]);

	return $out =~ /rows=(\d+)/ ? $1 : die "no estimate: $err";
}

# The smallest of 32 digits at which the estimate is another: an EID.
sub bisect
{
	my ($role) = @_;
	my ($low, $high) = map { int } 0, 1e14;
	my $number = sub { return '8904903200' . sprintf('%022d', shift) };
	my $first = estimate($role, $number->($low));

	return 'nothing' if estimate($role, $number->($high)) == $first;
	while ($high - $low > 1)
	{
		my $middle = int(($low + $high) / 2);
		if (estimate($role, $number->($middle)) == $first) { $low = $middle; }
		else { $high = $middle; }
	}
	# an estimate changes behind the value
	return $number->($low);
}

# The estimates of a column under many bounds: one figure if they come from no value.
sub estimates
{
	my ($role, $table, $column) = @_;
	my $sql = join '', map { "EXPLAIN SELECT FROM $table WHERE $column < '$_';\nEXPLAIN SELECT FROM $table WHERE $column = '$_';\n" }
	  map { split /\n/, value($node, $database, "SELECT $column FROM $table WHERE $column IS NOT NULL ORDER BY random() LIMIT 20") } 1;
	my ($status, $out, $err) = $node->psql($database, "SET esim.check_digits = off;\n$sql", extra_params => [ '-U', $role ]);
	my %seen;

	$out =~ s/^(?!.*rows=).*\n//mg;
	my @lines = $out =~ /^\S.*?rows=(\d+)/mg;
	$seen{ $_ % 2 . ":$lines[$_]" }++ foreach 0 .. $#lines;
	return join ' ', sort keys %seen;
}

my $found = bisect('postgres');
is(value($node, $database, "SET esim.check_digits = off; SELECT count(*) FROM esim_device WHERE eid = '$found'"), '1', 'the estimates of who sees all rows are bisected for an EID');
is(bisect('hostile'), 'nothing', 'those of a tenant are not');
foreach my $column (@columns)
{
	my ($table, $name) = @$column;
	unlike(estimates('hostile', $table, $name), qr/0:\S+ 0:|1:\S+ 1:/, "estimates for $table.$name do not depend on values");
}
like(estimates('postgres', 'esim_device', 'label'), qr/0:\S+ 0:/, 'those of who sees all rows do');

#
# counters and buffers of functions: what they read for another's is what they read for nobody's
#
{
	my ($foreign, $nobody) = pair('esim_device', 'eid', 'eid');
	my $profile = value($node, $database, "SELECT iccid FROM esim_profile WHERE eid = '$foreign'");
	my $no_profile = iccid(substr($nobody, 10, 20));
	my $mine = value($node, $database, "SELECT eid FROM esim_device WHERE owner = 'hostile'::regrole LIMIT 1");
	my $my_profile = value($node, $database, "SELECT iccid FROM esim_profile WHERE eid = '$mine'");

	as_hostile_ok("CREATE FUNCTION hostile.try(text) RETURNS text LANGUAGE plpgsql AS
		'BEGIN EXECUTE \$1; RETURN ''done''; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END'");
	my $counters = q(SELECT c.relname, pg_stat_get_xact_numscans(c.oid), pg_stat_get_xact_tuples_returned(c.oid), pg_stat_get_xact_tuples_fetched(c.oid), pg_stat_get_xact_blocks_fetched(c.oid)
		FROM pg_class c WHERE c.relname ~ '^esim_' AND c.relkind IN ('r', 'i') AND pg_stat_get_xact_numscans(c.oid) > 0 ORDER BY 1);
	my @calls = ("esim_status(eid => ''V'')", "esim_status(iccid => ''W'')", "esim_status(''V'', ''W'')", "esim_timeline(''V'')", "esim_refresh(''V'')",
		"esim_enable(''W'')", "esim_enable(''W'', ''V'')", "esim_disable(''W'')", "esim_delete(''W'')", "esim_delete(''W'', ''$mine'')", "esim_set_fallback(''V'', ''W'')", "esim_unset_fallback(''V'')",
		"esim_download(''V'', ''$my_profile'', ''1\$smdp.example.com\$M'')", "esim_download(''V'', ''W'', ''1\$smdp.example.com\$M'')",
		"esim_refresh_many(ARRAY[''V'']::eid[], on_error => ''report'')", "esim_enable_many(ARRAY[''W'']::iccid[], on_error => ''report'')",
		"esim_activation_code(''W'')", "esim_device_visible(''V'')",
		"esim_camara(''POST'', ''/esim-profile-management/vwip/retrieve-status'', ''{\"Authorization\": \"Bearer x\", \"Content-Type\": \"application/json\"}'', ''{\"esimProfile\": {\"eid\": \"V\"}}'')",
		"esim_camara(''POST'', ''/esim-profile-management/vwip/enable'', ''{\"Authorization\": \"Bearer x\", \"Content-Type\": \"application/json\"}'', ''{\"esimProfile\": {\"iccid\": \"W\"}}'')");
	my $measure = sub {
		my ($role, $call, $eid, $iccid) = @_;
		my $try = "hostile.try('SELECT * FROM " . $call =~ s/\bV\b/$eid/gr =~ s/\bW\b/$iccid/gr . "')";

		# once before, so that caches are filled
		return session($role, "SELECT $try;\nBEGIN;\nSELECT $try;\n$counters;\nCOMMIT;\nEXPLAIN (ANALYZE, BUFFERS, TIMING OFF, SUMMARY OFF) SELECT $try;", $eid, $iccid);
	};

	foreach my $call (@calls)
	{
		my @seen = map { $measure->('hostile', $call, @$_) } [ $foreign, $profile ], [ $nobody, $no_profile ];
		is($seen[0], $seen[1], "counters tell nothing: $call");
		like($seen[0], qr/ES4|ES4\d\d|done/, "$call was answered");
	}
	my @seen = map { $measure->('postgres', $calls[1], @$_) } [ $foreign, $profile ], [ $nobody, $no_profile ];
	isnt($seen[0], $seen[1], 'for who sees all rows counters differ');
	like(join('', map { as_hostile_ok("SELECT hostile.try('SELECT $_')") } "esim_status(''$mine'')", "esim_timeline(''$mine'')"), qr/^donedone$/, 'functions find what is one\'s own');
}

#
# the price: what is one's own is still found by an index, and others' plans are as they were
#
sub plan_of
{
	my ($role, $sql) = @_;
	my ($status, $out, $err) = $node->psql($database, "SET ROLE $role; EXPLAIN $sql");

	return $status == 0 ? $out : $err;
}

{
	my $mine = value($node, $database, "SELECT eid FROM esim_device WHERE owner = 'hostile'::regrole LIMIT 1");
	my $my_profile = value($node, $database, "SELECT iccid FROM esim_profile WHERE eid = '$mine'");
	my $my_operation = value($node, $database, "SELECT id FROM esim_operation WHERE eid = '$mine'");

	foreach my $sql ("SELECT * FROM esim_device WHERE eid = '$mine'", "SELECT * FROM esim_device_state WHERE eid = '$mine'", "SELECT * FROM esim_profile WHERE eid = '$mine'",
		"SELECT * FROM esim_profile WHERE iccid = '$my_profile'", "SELECT * FROM esim_operation WHERE eid = '$mine'", "SELECT * FROM esim_operation WHERE id = '$my_operation'",
		"SELECT * FROM esim_attempt WHERE operation = '$my_operation'", "SELECT * FROM esim_notification WHERE operation = '$my_operation'",
		"SELECT * FROM esim_drift WHERE eid = '$mine' AND resolved_at IS NULL",
		"SELECT * FROM esim_device_summary WHERE eid = '$mine'", "SELECT * FROM esim_inventory WHERE eid = '$mine'", "SELECT * FROM esim_inventory WHERE iccid = '$my_profile'")
	{
		my $plan = plan_of('hostile', $sql);
		ok($plan =~ /Index/ && $plan !~ /Seq Scan/, "an index finds one's own: " . $sql =~ s/= '.*?'/= .../r) || diag($plan);
	}
	like(plan_of('postgres', "SELECT * FROM esim_device WHERE eid = '$mine'"), qr/esim_device_pkey/, 'who sees all rows has all indexes');
	like(plan_of('esim_worker', "SELECT * FROM esim_device WHERE eid = '$mine'"), qr/esim_device_pkey/, 'workers, too');
	like(plan_of('esim_worker', "SELECT * FROM esim_profile WHERE iccid = '$my_profile'"), qr/esim_profile_iccid_idx/, 'of profiles as well');
	is(value($node, $database, "SET ROLE hostile; SELECT count(*) FROM esim_device_summary d JOIN esim_device_state s USING (eid) WHERE d.open_drift > 0 AND d.last_seen_at IS NOT NULL"), '500', 'views are complete');
}

# an administrator's own policy, by which rows are seen whatever their owner
{
	my ($foreign, $nobody) = pair('esim_device', 'eid', 'eid');

	$node->safe_psql($database, "CREATE POLICY region ON esim_device FOR SELECT TO hostile USING (device_ref = 'north')");
	my @seen = map { session('hostile', "SET enable_seqscan = off; EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, BUFFERS OFF) SELECT * FROM esim_device WHERE owner = 'victim'::regrole AND eid = '$_'", $_) } $foreign, $nobody;
	is($seen[0], $seen[1], 'a plan tells nothing where a policy does not ask for the owner');
	like($seen[0], qr/Seq Scan/, 'since no index is searched');
	$node->safe_psql($database, 'DROP POLICY region ON esim_device; CREATE INDEX of_admin ON esim_device (label, owner); CREATE INDEX by_label ON esim_device (owner, label); ANALYZE esim_device');
	@seen = map { session('hostile', "SET enable_seqscan = off; EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, BUFFERS OFF) SELECT * FROM esim_device WHERE label = '$_'", $_) } pair('esim_device', 'label', 'text');
	is($seen[0], $seen[1], 'a plan tells nothing where an administrator has made indexes');
	like($seen[0], qr/using by_label/, 'and uses the one by owner');
	$node->safe_psql($database, 'DROP INDEX of_admin, by_label');
}

# what hangs on a device follows it
{
	my $eid = value($node, $database, "SELECT eid FROM esim_drift WHERE profile IS NULL AND owner = 'victim'::regrole LIMIT 1");
	my $other = value($node, $database, "SELECT eid FROM esim_drift WHERE profile IS NOT NULL AND owner = 'victim'::regrole LIMIT 1");
	my $look = "SELECT (SELECT count(*) FROM esim_device_state WHERE eid IN ('$eid', '$other')), (SELECT count(*) FROM esim_drift WHERE eid IN ('$eid', '$other'))";

	is(value($node, $database, "SET ROLE hostile; $look"), '0|0', 'before esim_transfer() state and drift are not seen');
	$node->safe_psql($database, "SELECT esim_transfer(e, 'hostile') FROM unnest('{$eid,$other}'::eid[]) e");
	is(value($node, $database, "SET ROLE hostile; $look"), '2|2', 'state and drift follow the device to another owner');
	is(value($node, $database, "SET ROLE victim; $look"), '0|0', 'and have left the one before');

	# a worker may write the owner that there was a moment before
	$node->safe_psql($database, "UPDATE esim_device_state SET owner = 'victim', owner_name = 'victim' WHERE eid = '$eid'; UPDATE esim_drift SET owner = 'victim', owner_name = 'victim' WHERE eid IN ('$eid', '$other')");
	is(value($node, $database, "SET ROLE victim; $look"), '0|0', 'the owner beside them alone shows nobody anything');
	$node->safe_psql($database, "UPDATE esim_device_state s SET owner = d.owner, owner_name = d.owner_name FROM esim_device d WHERE d.eid = s.eid;
		UPDATE esim_drift x SET owner = d.owner, owner_name = d.owner_name FROM esim_device d WHERE d.eid = x.eid");
}

#
# the same where the library is preloaded
#
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'esim'");
$node->restart;
$node->safe_psql($database, 'VACUUM ANALYZE');
all_columns('library preloaded', grep { "$_->[0].$_->[1]" =~ /^esim_(?:device\.eid|device\.label|device_state\.eid|profile\.iccid|attempt\.url)$/ } @columns);
is(bisect('hostile'), 'nothing', 'library preloaded: no estimate is bisected');

$node->stop('fast');
done_testing();
