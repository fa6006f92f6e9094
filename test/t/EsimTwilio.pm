# test/t/EsimTwilio.pm
# What the scripts about Super SIM share: accounts at the simulator, and its API as a client of the
# account's owner has it.
package EsimTwilio;

use strict;
use warnings;

use Exporter 'import';
use HTTP::Tiny;
use JSON::PP;
use MIME::Base64 qw(encode_base64);

use EsimTest;

our @EXPORT = qw(account api attempts_of);
our $password = 'token';

# account(node, database, simulator, name, options => {of the server}, sql => [gets the statements,
# instead of running them], tenant => account, settings of the simulator): an account of its own, and
# a server of the same name
sub account
{
	my ($node, $database, $simulator, $name, %settings) = @_;
	my $tenant = delete $settings{tenant} // $name;
	my %options = (protocol => 'twilio', url => "$simulator->{url}/$tenant/supersim/v1", allow_http => 'true', timeout => '2 s',
		connect_timeout => '2 s', unknown_hold => '3 s', auth_method => 'basic', %{ delete $settings{options} // {} });
	my $statements = delete $settings{sql};
	my @make = (
		qq(CREATE SERVER "$name" FOREIGN DATA WRAPPER esim_rsp OPTIONS \() . join(', ', map { "$_ '$options{$_}'" } sort keys %options) . ')',
		qq(CREATE USER MAPPING FOR PUBLIC SERVER "$name" OPTIONS (username 'AC1', password 'token')));

	$simulator->config($tenant, supersim => { reserve_ms => 300, schedule_ms => 300, %settings },
		auth => { username => 'AC1', password => 'token' });
	if ($statements) { push @$statements, @make; }
	else { $node->safe_psql($database, join(";\n", @make)); }
	return $name;
}

# A request of somebody else's for the account, as curl would send it.
sub api
{
	my ($simulator, $name, $method, $path, $form) = @_;
	my $http = HTTP::Tiny->new(timeout => 60, proxy => undef, http_proxy => undef);
	my %how = (headers => { authorization => 'Basic ' . encode_base64("AC1:$password", '') });

	if ($form)
	{
		$how{headers}{'content-type'} = 'application/x-www-form-urlencoded';
		$how{content} = $http->www_form_urlencode($form);
	}
	my $answer = $http->request($method, "$simulator->{url}/$name/supersim/v1/$path", \%how);
	die "simulator: $method $path: $answer->{status} $answer->{content}" if !$answer->{success};
	return decode_json($answer->{content});
}

# How an operation stands, and its requests, for the log.
sub attempts_of
{
	my ($node, $database, $id) = @_;

	return query($node, $database, "SELECT o.kind, o.phase, o.phase_reason, o.result, o.error_code, o.error_message, o.rsp_code, a.number, a.method, right(a.url, 50), a.http_status, a.outcome, left(a.detail, 80)"
		  . " FROM esim_operation o LEFT JOIN esim_attempt a ON a.operation = o.id WHERE o.id = '$id' ORDER BY a.number LIMIT 30");
}

1;
