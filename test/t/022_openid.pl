# test/t/022_openid.pl
# OpenID Connect as CAMARA's security profile has it, from the options to the RSP: discovery,
# private_key_jwt, the scopes of each dialect.
use strict;
use warnings;

use MIME::Base64 qw(decode_base64url);
use Test::More;
use EsimTest;

use PostgreSQL::Test::Utils;

my $simulator = start_simulator();
my $node = new_node('openid');
my $directory = $PostgreSQL::Test::Utils::tmp_check;

# A new private key and its public one, both PEM text.
sub make_key
{
	my ($name, @how) = @_;
	my $file = "$directory/$name.key";

	system('openssl', 'genpkey', @how, '-quiet', '-out', $file) == 0
	  or system('openssl', 'genpkey', @how, '-out', $file) == 0
	  or die 'openssl genpkey';
	chmod 0600, $file;
	return (slurp_file($file), scalar `openssl pkey -in $file -pubout`, $file);
}

# The token requests of a tenant that the simulator has seen: form fields, newest last.
sub token_requests
{
	my ($tenant) = @_;
	my @forms;

	foreach my $request (@{ $simulator->get('/requests?n=500') })
	{
		next if $request->{path} !~ m{^/\Q$tenant\E/oauth2/token};
		my %form = map { s/\+/ /gr =~ s/%([0-9A-F]{2})/chr hex $1/ger } map { split /=/, $_, 2 } split /&/, $request->{body};

		push @forms, \%form;
	}
	return @forms;
}

sub part_of
{
	my ($assertion, $n) = @_;
	return JSON::PP::decode_json(decode_base64url((split /\./, $assertion)[$n]));
}

my %wanted = (
	'r1.2' => join(' ', map { "iot-device-management:esim-profiles:$_" }
		  qw(download enable disable delete set-fallback retrieve-status retrieve-operation)),
	'2026-02' => join(' ', map { "iot-device-management:esims:$_" } qw(download enable disable delete read)));
my %key = (
	'r1.2' => [ make_key('rsa', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048'), 'RS256' ],
	'2026-02' => [ make_key('ec', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256'), 'ES256' ]);

create_database($node, 'openid');
my $n = 0;
foreach my $dialect ('r1.2', '2026-02')
{
	my ($private, $public, $file, $algorithm) = @{ $key{$dialect} };
	my $tenant = $dialect eq 'r1.2' ? 'rsa' : 'ec';
	my $eid = eid(++$n);
	my $iccid = iccid($n);

	$simulator->config($tenant,
		auth => { client_id => 'esim "1"', public_key => $public, check_scopes => JSON::PP::true });
	create_server($node, 'openid', $simulator, $tenant,
		dialect => $dialect,
		auth_method => 'private_key_jwt',
		openid_config_url => "$simulator->{url}/$tenant/.well-known/openid-configuration");
	my $value = $dialect eq 'r1.2' ? $private : $file;
	$node->safe_psql('openid', qq(
		CREATE USER MAPPING FOR PUBLIC SERVER "$tenant" OPTIONS (client_id 'esim "1"', private_key '$value', key_id 'key-$n');
		INSERT INTO esim_device (eid, server) VALUES ('$eid', '$tenant');
	));
	my $operations = qq(
		SELECT esim_download('$eid', '$iccid', '1\$smdp.example.com\$$iccid');
		SELECT esim_set_fallback('$eid', '$iccid');
		SELECT esim_enable('$iccid');
		SELECT esim_refresh('$eid');
		SELECT esim_disable('$iccid');
		SELECT esim_delete('$iccid');
	);
	$node->safe_psql('openid', $operations);
	ok(wait_completed($node, 'openid'), "$dialect: completed");
	is(value($node, 'openid', qq(SELECT string_agg(kind || ' ' || result || coalesce(' ' || error_message, ''), ', ' ORDER BY seq)
			FROM esim_operation WHERE server = '$tenant')),
		'download SUCCESS, set-fallback SUCCESS, enable SUCCESS, refresh SUCCESS, disable SUCCESS, delete SUCCESS',
		"$dialect: the default scopes do for all");
	my @requests = token_requests($tenant);
	is(scalar @requests, 1, "$dialect: one token") or diag(explain(\@requests));
	is($requests[0]{scope}, $wanted{$dialect}, "$dialect: the scopes of the dialect");
	is_deeply(part_of($requests[0]{client_assertion}, 0), { alg => $algorithm, typ => 'JWT', kid => "key-$n" },
		"$dialect: $algorithm and key_id");
	my $claims = part_of($requests[0]{client_assertion}, 1);
	is("$claims->{iss} $claims->{sub} $claims->{aud}", qq(esim "1" esim "1" $simulator->{url}/$tenant/oauth2/token),
		"$dialect: issuer, subject, audience");
	is(scalar(grep { $_->{path} =~ m{^/$tenant/.well-known/} } @{ $simulator->get('/requests?n=500') }), 1,
		"$dialect: the configuration is asked for once");
}

# another audience and scope
alter_server($node, 'openid', 'rsa', audience => 'https://elsewhere.example/', scope => 'openid iot-device-management:esim-profiles:retrieve-status');
my $eid = eid(1);
my $id = value($node, 'openid', "SELECT esim_refresh('$eid')");
ok(wait_until($node, 'openid', "SELECT phase FROM esim_operation WHERE id = '$id'", 'PARKED'),
	'a wrong audience: refused, so an administrator is waited for');
my @requests = token_requests('rsa');
is(part_of($requests[-1]{client_assertion}, 1)->{aud}, 'https://elsewhere.example/', 'it was the option\'s');
alter_server($node, 'openid', 'rsa', audience => "$simulator->{url}/rsa");
$node->safe_psql('openid', "SELECT esim_resume('rsa')");
is(value($node, 'openid', "SELECT result FROM esim_wait('$id', '30 s')"), 'SUCCESS', 'the issuer as audience');
@requests = token_requests('rsa');
is($requests[-1]{scope}, 'openid iot-device-management:esim-profiles:retrieve-status', 'the option scope');
ok(!exists $requests[-1]{audience}, 'the audience is no parameter here');

# another key, until the mapping is mended
my ($other) = make_key('other', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256');
$node->safe_psql('openid', qq(ALTER USER MAPPING FOR PUBLIC SERVER ec OPTIONS (SET private_key '$other')));
$eid = eid(2);
$id = value($node, 'openid', "SELECT esim_refresh('$eid')");
ok(wait_until($node, 'openid', "SELECT phase FROM esim_operation WHERE id = '$id'", 'PARKED'), 'another key: refused');
unlike(slurp_file($node->logfile) =~ s/^.*(?:STATEMENT|statement):.*?(?=^\d{4}-)//gmsr, qr/PRIVATE KEY|client_assertion|eyJ/,
	'no secrets in the log but in statements');
$node->safe_psql('openid', qq(ALTER USER MAPPING FOR PUBLIC SERVER ec OPTIONS (SET private_key '$key{'2026-02'}[0]')));
$node->safe_psql('openid', "SELECT esim_resume('ec')");
is(value($node, 'openid', "SELECT result FROM esim_wait('$id', '30 s')"), 'SUCCESS', 'the key is mended');

# a key that cannot be used
$node->safe_psql('openid', q(ALTER USER MAPPING FOR PUBLIC SERVER ec OPTIONS (SET private_key
	E'-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n')));
$id = value($node, 'openid', "SELECT esim_refresh('$eid')");
ok(wait_until($node, 'openid', "SELECT phase FROM esim_operation WHERE id = '$id'", 'PARKED'), 'no key at all');
like(value($node, 'openid', "SELECT phase_reason FROM esim_operation WHERE id = '$id'"), qr/"private_key" holds no private key/,
	'and the reason says so');
ledger_is_exact($simulator, 'openid');
$node->stop('fast');
done_testing();
