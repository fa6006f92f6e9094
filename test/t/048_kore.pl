# test/t/048_kore.pl
# KORE: Super SIM's API with OAuth 2.0 client credentials.  Both ways to authenticate the client and
# a fixed token; a token is fetched once, and once more when the API refuses it; what goes wrong at
# the token endpoint is told apart.
use strict;
use warnings;

use JSON::PP;
use Test::More;
use EsimTest;

my $db = 'postgres';
my $simulator = start_simulator();
my $node = new_node('kore', preload => 1, settings => ['esim.poll_interval = 500ms']);

create_database($node, $db);

sub kore
{
	my ($name, %how) = @_;
	my $method = $how{method} // 'client_secret_post';
	my $mapping = $how{mapping} // q(client_id 'id', client_secret 'se/cr+et=&');

	$simulator->config($name, supersim => { reserve_ms => 200 }, auth => $how{auth} // { client_id => 'id', client_secret => 'se/cr+et=&', expires_in => 3600 });
	create_server($node, $db, $simulator, $name, protocol => 'twilio', url => "$simulator->{url}/$name/supersim/v1", timeout => '2 s',
		unknown_hold => '3 s', auth_method => $method, ($method ne 'bearer' ? (token_url => "$simulator->{url}/$name/oauth2/token") : ()), %{ $how{options} // {} });
	$node->safe_psql($db, "CREATE USER MAPPING FOR PUBLIC SERVER \"$name\" OPTIONS ($mapping)");
	return $name;
}

# requests so far, by what the path ends in
sub requests
{
	my ($name, $part) = @_;

	return scalar grep { $_->{path} =~ m{^/\Q$name\E/} && $_->{path} =~ /$part/ } @{ $simulator->get('/requests?n=512') };
}

sub reserve { return value($node, $db, "SELECT esim_reserve(generate_matching_id => true, server => '$_[0]')"); }

sub stands
{
	my ($id, $expect, $name) = @_;

	return ok(wait_until($node, $db, "SELECT coalesce(result::text, phase::text) FROM esim_operation WHERE id = '$id'", $expect), $name)
	  || diag(query($node, $db, "SELECT o.phase, o.phase_reason, o.error_code, o.error_message, a.number, a.method, right(a.url, 40), a.http_status, a.outcome, a.detail FROM esim_operation o LEFT JOIN esim_attempt a ON a.operation = o.id WHERE o.id = '$id' ORDER BY a.number"));
}

foreach my $method ('client_secret_post', 'client_secret_basic')
{
	my $name = kore($method, method => $method);

	stands($_, 'SUCCESS', "$method: reserved") foreach map { reserve($name) } 1 .. 4;
	is(requests($name, 'oauth2/token'), 1, "$method: one token for all of them");
	# the server forgets its tokens
	$simulator->config($name, expire_tokens => JSON::PP::true);
	stands(reserve($name), 'SUCCESS', "$method: the token is refused, another is fetched");
	is(requests($name, 'oauth2/token'), 2, "$method: once");
}
my ($form) = grep { $_->{path} =~ m{^/client_secret_post/oauth2} } @{ $simulator->get('/requests?n=512') };
like($form->{body}, qr/grant_type=client_credentials/, 'client credentials');
like($form->{body}, qr/client_secret=se%2Fcr%2Bet%3D%26/, 'encoded as a form');
is(requests('client_secret_basic', 'ESimProfiles$') > 5 ? 1 : 0, 1, 'the request that was refused is repeated');

kore('bearer', method => 'bearer', mapping => q(token 'fixed'), auth => { bearer => 'fixed' });
stands(reserve('bearer'), 'SUCCESS', 'a fixed token');

# refused whatever the token: parked, and the token endpoint is not worn out
kore('refused');
$simulator->fault({ server => 'refused', path => '/supersim/', fault => 'token_expired', count => 0 });
my $id = reserve('refused');
stands($id, 'PARKED', 'the API refuses new tokens as well: parked');
cmp_ok(requests('refused', 'oauth2/token'), '<=', 2, 'after one more token');
# a second attempt is due to a worker that hears of the new server only now: it resumes what is parked
is(value($node, $db, "SELECT string_agg(DISTINCT outcome, ' ') FROM esim_attempt WHERE operation = '$id'"), 'unauthenticated', 'the attempt says so');
$simulator->clear_faults;
$node->safe_psql($db, 'SELECT esim_resume()');
stands($id, 'SUCCESS', 'and goes on when it is mended');

# the token endpoint knows us not: nothing is sent to the API
kore('stranger', mapping => q(client_id 'id', client_secret 'wrong'));
$id = reserve('stranger');
stands($id, 'PARKED', 'wrong secret: parked');
is(value($node, $db, "SELECT phase_reason FROM esim_operation WHERE id = '$id'"), 'the token endpoint refuses the credentials', 'for that reason');
is(requests('stranger', '/supersim/'), 0, 'nothing was sent to the API');
$node->safe_psql($db, q(ALTER USER MAPPING FOR PUBLIC SERVER stranger OPTIONS (SET client_secret 'se/cr+et=&')));
stands($id, 'SUCCESS', 'new credentials: goes on by itself');

# the token endpoint is away, or answers without sense
my @away;
foreach my $fault ({ fault => 'timeout_before_effect' }, { fault => 'status', status => 503 }, { fault => 'malformed_json' }, { fault => 'endless_body' }, { fault => 'redirect' })
{
	my $name = kore("token_$fault->{fault}", options => { timeout => '1 s' });

	$simulator->fault({ server => $name, path => 'oauth2/token', count => 2, %$fault });
	push @away, [ reserve($name), "token endpoint, $fault->{fault}: tried again" ];
}
stands($_->[0], 'SUCCESS', $_->[1]) foreach @away;

# a token that is lost with its POST: the answer says 401 before the effect, so nothing happens twice
ledger_is_exact($simulator, 'ledger');
is(value($node, $db, q(SELECT count(*), count(DISTINCT rsp_id) FROM esim_profile)), join('|', (value($node, $db, q(SELECT count(*) FROM esim_operation))) x 2), 'one profile a reservation');
is(value($node, $db, q(SELECT count(*) FROM esim_attempt WHERE detail ~ 'se/cr|Bearer' OR url ~ 'token=')), '0', 'no secret in the attempts');
ok(!$node->log_contains(qr/PANIC|was terminated by signal/), 'no crash');
$node->stop;
done_testing();
