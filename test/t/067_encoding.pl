# test/t/067_encoding.pl
# Databases that are not UTF-8: texts of the network are stored in their encoding, with a question
# mark for what it does not have, and texts of theirs are sent as UTF-8.
use strict;
use warnings;

use Encode qw(decode);
use Test::More;
use EsimTest;

my $simulator = start_simulator();
my $node = new_node('encoding', preload => 1, settings => ['esim.poll_interval = 500ms']);
my %encoding = (latin => 'LATIN1', japan => 'EUC_JP', unicode => 'UTF8');
# bytes of UTF-8, here as in what psql prints
my $message = 'Não é possível: 電源 €';
my %stored = (latin => 'Não é possível: ?? ?', japan => 'Não é possível: 電源 ?', unicode => $message);
my $fleet = 'Zähler 7';
my $n = 0;

$simulator->config('shop');
foreach my $database (sort keys %encoding)
{
	$node->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE template0 ENCODING '$encoding{$database}' LOCALE 'C'");
	$node->safe_psql($database, "CREATE SCHEMA esim; CREATE EXTENSION esim SCHEMA esim; ALTER DATABASE $database SET search_path = esim, public");
	$node->safe_psql('postgres', "ALTER DATABASE $database SET client_encoding = 'UTF8'");
	create_server($node, $database, $simulator, 'main');
	create_server($node, $database, $simulator, 'Geräte', protocol => 'twilio', url => "$simulator->{url}/shop/supersim/v1");
	fleet($node, $database, 2, first => $n, state => 'DISABLED', server => 'main', simulator => $simulator);
	$n += 10;
}
$simulator->fault({ server => 'main', path => '/enable', fault => 'status', status => 422, code => 'SERVICE_NOT_APPLICABLE', message => decode('UTF-8', $message) });

foreach my $database (sort keys %encoding)
{
	my $id = value($node, $database, 'SELECT esim_enable(iccid) FROM esim_profile ORDER BY iccid LIMIT 1');

	ok(wait_until($node, $database, "SELECT result FROM esim_operation WHERE id = '$id'", 'FAILED'), "$database: refused");
	is(value($node, $database, "SELECT rsp_message FROM esim_operation WHERE id = '$id'"), $stored{$database}, "$database: the RSP's words");
	is(value($node, $database, "SELECT esim_operation_status('$id') IS NOT NULL"), 't', "$database: in CAMARA's shape");
}

# a name goes out of one database and comes into the others
my $id = value($node, 'latin', qq(SELECT esim_fleet_create('$fleet', '{"NetworkAccessProfile": "HA00000000000000000000000000000001"}', server => 'Geräte')));
ok(wait_until($node, 'latin', "SELECT result FROM esim_operation WHERE id = '$id'", 'SUCCESS'), 'latin: a fleet is made')
  or tell_failures($node, 'latin');
foreach my $database (sort keys %encoding)
{
	$id = value($node, $database, q(SELECT esim_sync('Geräte')));
	ok(wait_until($node, $database, "SELECT result FROM esim_operation WHERE id = '$id'", 'SUCCESS'), "$database: synced")
	  or tell_failures($node, $database);
	is(value($node, $database, q(SELECT string_agg(name, ' ') || ' ' || string_agg(server, ' ') FROM esim_fleet)), "$fleet Geräte", "$database: the fleet has its name");
}

# all of it can be read again
foreach my $database (sort keys %encoding)
{
	my ($status, $out, $err) = $node->psql($database, q(SET client_encoding = 'UTF8'; SELECT count(o::text), count(a::text) FROM esim_operation o, esim_attempt a));
	is($err, '', "$database: every row can be shown");
}
ok(!$node->log_contains(qr/PANIC|was terminated by signal|invalid byte sequence/), 'no crash, nothing that is not in the encoding');
$node->stop;
done_testing();
