# test/t/066_readme.pl
# README.md and doc/security.md can be followed: their very blocks of SQL, in order, against the
# simulator, with the outcomes that the pages state.
use strict;
use warnings;

use Test::More;
use EsimTest;
use EsimGuide;

my $simulator = start_simulator();
my $node = new_node('readme', preload => 1, settings => ['esim.poll_interval = 500ms']);
my $temporary = PostgreSQL::Test::Utils::tempdir();
my $platform = "url '" . $simulator->base('main', '2026-02') . "', dialect '2026-02', allow_http 'true'";

# blocks of a page, those under the headings named apart from the others
sub page
{
	my ($name, @apart) = @_;
	my (@blocks, @others);

	foreach my $block (EsimGuide::blocks($name))
	{
		if (grep { $block->[0] eq $_ } @apart) { push @others, $block; }
		else { push @blocks, $block; }
	}
	return (\@blocks, \@others);
}

# follows them; every block must run, and what each printed is found by its heading
sub follow
{
	my ($database, $name, $blocks, %how) = @_;
	my $followed = EsimGuide::follow($node, $database, $blocks, %how);
	my %said;

	is($followed->{error} =~ s/^(?:WARNING|NOTICE|DETAIL|HINT):.*\n?//mgr, '', "$name: no error");
	foreach my $part (@{ $followed->{parts} })
	{
		my ($heading, $text, $output) = @$part;

		ok(defined $output, "$name, $heading: " . (split /\n/, $text)[0]);
		push @{ $said{$heading} }, $output // '';
	}
	return \%said;
}

# ---- README.md: servers as in production, and where it is installed ----

$node->safe_psql('postgres', $_) foreach 'CREATE DATABASE mydb', 'CREATE DATABASE readme', 'CREATE DATABASE security';
my ($readme, $production) = page('../README.md', 'Install', 'Servers');
# a key in full would stand in nobody's manual
my @carrier = grep { $_->[1] =~ /BEGIN PRIVATE KEY/ } @$production;
is(scalar @carrier, 1, 'README.md: private_key_jwt');
my ($status, $out, $err) = $node->psql('mydb', 'CREATE EXTENSION esim; ' . $carrier[0][1] =~ s/FOR backoffice/FOR CURRENT_USER/r);
like($err, qr/ERROR:  invalid value for option "private_key"/, 'README.md: the key that is left out is missed, all else is right');
$node->safe_psql('mydb', 'DROP EXTENSION esim CASCADE');
my $said = follow('mydb', 'README.md', [ grep { $_->[1] !~ /BEGIN PRIVATE KEY/ } @$production ],
	before => sub { my ($heading) = @_; return $heading eq 'Servers' ? 'SET search_path = public, esim;' : ''; });
is(scalar(() = ($said->{Servers}[0] =~ /^rsp\|camara\|/mg)), 14, 'README.md: capabilities of a server, a row per kind');
like($said->{Servers}[0], qr/^rsp\|camara\|unset-fallback\|f\|CAMARA has no operation that takes the fallback attribute away$/m, 'README.md: as it shows them');

# ---- README.md: all the rest, in one session ----

open(my $csv, '>', "$temporary/devices.csv") or die $!;
print $csv "eid,owner,label\n", eid(50), ",backoffice,Bus 301\n";
close $csv;
my $fleet = join ', ', map { "('" . eid($_) . "', 'Bus 20$_', '" . iccid(2 * $_) . "', '" . iccid(2 * $_ + 1) . "')" } 1 .. 3;
my $settled = q(DO $$BEGIN FOR i IN 1 .. 600 LOOP EXIT WHEN NOT EXISTS (SELECT FROM esim_operation WHERE status = 'ACCEPTED'); COMMIT; PERFORM pg_sleep(0.1); END LOOP; END$$;);
$said = follow('readme', 'README.md', $readme,
	replace => {
		"url 'https://rsp.example.com/esim-profile-management/vwip'" => $platform,
		"'devices.csv'" => "'$temporary/devices.csv'",
		"'01a20357-cb5e-7e87-b40c-d29325fbcdd4'" => '(SELECT max(id::text)::uuid FROM esim_operation)',
		"'…'" => '(SELECT id FROM esim_operation ORDER BY seq LIMIT 1)' },
	before => sub {
		my ($heading, $text) = @_;

		return "CREATE TABLE fleet (eid eid, label text, iccid iccid, fallback_iccid iccid);\n"
		  . "INSERT INTO fleet VALUES $fleet; INSERT INTO esim_device (eid, label) SELECT eid, label FROM fleet;\n$settled"
		  if $text =~ /^BEGIN/;
		return $settled if $heading =~ /^(?:Getting started|Devices and profiles)$/ && $text !~ /esim_wait/;
		return "\\pset format unaligned" if $heading eq 'Running it';
		return '';
	});
like($said->{esim}[0], qr/^download\|ACCEPTED\|QUEUED\|$/m, 'the first example: queued');
like($said->{esim}[0], qr/^8944500307182401120\|\|RELEASED$/m, 'the first example: its profile is there');
is(join(' ', $said->{'Getting started'}[0] =~ /^(\d+)$/mg), '3 3 3 3', 'getting started: one transaction');
is($said->{'Getting started'}[1], "COMPLETED|SUCCESS|\n", 'getting started: waited for');
like($said->{Operations}[0], qr/^[0-9a-f-]{36}$/m, 'operations: all parameters');
is(scalar(() = $said->{'Reservation, subscriptions, QR codes'}[0] =~ /[\x{80}-\x{ff}]/g) > 500, 1, 'QR codes: of the profile\'s own code');
is($said->{'Many at once'}[0] =~ s/\.\.\.\d{4}/.../gr,
	join('', map { qq($_||ES409|INCOMPATIBLE_STATE|cannot enable profile "..." in state ENABLED\n) } 1 .. 3), 'many at once: what is refused, as README.md shows it');
like($said->{'What failed'}[0], qr/^1\|POST\|vwip\/[^|]*\|202\|accepted\|\d+$/m, 'what failed: the requests');
like($said->{Reports}[0], qr/^Bus 101\|8944500307182401120\|DISABLED\|f\|[0-9:]+\|enable\|$/m, 'reports: the inventory');
is($said->{'Roles and scopes'}[0] =~ s/^\n//r, join('', map { "backoffice|$_\n" } qw(download enable disable set-fallback retrieve-status retrieve-operation register)), 'roles: its scopes');
like($said->{'Running it'}[0], qr/^\d+\|0\|.*\|idle\|0\|\|/m, 'running it: a worker');
like($said->{'Running it'}[0], qr/^t\|\{\}\|\|0\|0\|\{\}\|0\|0\|0\|0$/m, 'running it: healthy');
$node->safe_psql('postgres', 'ALTER DATABASE readme SET search_path = public, esim');
is(value($node, 'readme', q(SELECT count(*) FROM fleet f JOIN esim_profile a ON a.iccid = f.iccid JOIN esim_profile b ON b.iccid = f.fallback_iccid
	WHERE a.state = 'ENABLED' AND b.is_fallback)), '3', 'getting started: the first profile is enabled, the second the fallback');

# ---- README.md: errors as it shows them ----

open(my $in, '<', '../README.md') or die "README.md: $!";
my $text = do { local $/; <$in> };
close $in;
foreach my $case ([ iccid => '8944500307182401121' ], [ eid => '89049032007408882600000422017144' ], [ iccid => '898600D7991800047602' ])
{
	($status, $out, $err) = $node->psql('readme', "SELECT '$case->[1]'::esim.$case->[0]");
	$err =~ s/^psql:<stdin>:\d+: //mg;
	$err =~ s/^LINE 1: .*\n.*\n//m;
	ok(index($text, $err) > 0, "README.md shows the error of an $case->[0] that ends in " . substr($case->[1], -4)) or diag($err);
}
($status, $out, $err) = $node->psql('readme', q(SELECT esim.esim_enable('8944500307182401120', priority => 5)));
like($err, qr/function esim\.esim_enable\(.*priority => integer\) does not exist/, 'README.md, troubleshooting: priority');
is(value($node, 'readme', q(SELECT '8944500307182401121'::text::esim.iccid(unchecked))), '8944500307182401121', 'README.md, types: a single number with another check digit');

# ---- doc/security.md ----

$node->safe_psql('security', q(CREATE SCHEMA esim; CREATE EXTENSION esim SCHEMA esim; ALTER DATABASE security SET search_path = public, esim));
create_server($node, 'security', $simulator, 'rsp', tenant => 'security');
my ($security, $hidden) = page('security.md', 'What is not hidden');
$said = follow('security', 'security.md', [ @$security, @$hidden ],
	replace => {
		'esim_camara($1, $2, $3, $4)' => q(esim_camara('GET', '/esim-profile-management/vwip/operations/00000000-0000-7000-8000-000000000000', '{"Authorization": "Bearer x"}', '')),
		"eid = '…'" => "eid = '" . eid(60) . "'" },
	before => sub {
		my ($heading, $block) = @_;
		return "INSERT INTO esim_device (eid, owner) VALUES ('" . eid(60) . "', 'acme');\nSET SESSION AUTHORIZATION api;" if $block =~ /^BEGIN/;
		return "RESET SESSION AUTHORIZATION;";
	});
like($said->{'Front ends'}[1], qr/^404\|/m, 'front ends: one call');
($status, $out, $err) = $node->psql('security', q(SET SESSION AUTHORIZATION api; SELECT count(*) FROM esim.esim_device));
like($err, qr/permission denied for schema esim/, 'front ends: a forgotten SET ROLE is an error');
my $eid = eid(60);
foreach my $call ("esim_status('$eid')", "esim_timeline('$eid')", "esim_camara('POST', '/esim-profile-management/vwip/retrieve-status', '{\"Authorization\": \"Bearer x\"}', '{}')")
{
	($status, $out, $err) = $node->psql('security', "SET SESSION AUTHORIZATION acme_app; SELECT count(*) FROM esim.$call");
	is($err, '', 'a tenant without tables calls ' . $call =~ s/\(.*//r);
}
foreach my $table (qw(esim_device esim_inventory esim_operation))
{
	($status, $out, $err) = $node->psql('security', "SET SESSION AUTHORIZATION acme_app; SELECT count(*) FROM esim.$table");
	like($err, qr/permission denied for/, "and does not read $table");
}
is(value($node, 'security', q(SELECT string_agg(scope, ' ') FROM esim_scopes() WHERE role = 'fleet_admin'::regrole)), 'retrieve-operation admin', 'roles: the upkeep');

ledger_is_exact($simulator, 'ledger');
ok(!$node->log_contains(qr/PANIC|was terminated by signal/), 'no crash');
$node->stop;
done_testing();
