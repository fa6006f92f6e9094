# test/t/EsimFront.pm
# A front end as users have one: takes what a platform sends over HTTP and hands it to esim_receive().
package EsimFront;

use strict;
use warnings;

use JSON::PP;
use Time::HiRes qw(sleep time);

use EsimSink;
use PostgreSQL::Test::Utils ();

# start(node, database): one receiver; each server has a URL of its own there
sub start
{
	my ($node, $database) = @_;
	my $sink = EsimSink::start(PostgreSQL::Test::Utils::tempdir_short() . '/front', 1);

	return bless { node => $node, database => $database, sink => $sink, taken => 0, outcomes => [] }, __PACKAGE__;
}

sub url { my ($self, $server) = @_; return $self->{sink}->url("/ok/$server"); }

sub literal { my ($text) = @_; $text =~ s/'/''/g; return "E'" . $text =~ s/\\/\\\\/gr . "'"; }

sub decode
{
	my ($text) = @_;

	$text =~ tr/+/ /;
	$text =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;
	return $text;
}

# The call that hands a request over.
sub event
{
	my ($request) = @_;
	my ($server, $query) = $request->{path} =~ m{^/ok/([^/?]+)(?:\?(.*))?$};
	my $event = $request->{body};

	if (($request->{headers}{'content-type'} // '') =~ /form/)
	{
		$event = encode_json({ map { my ($name, $value) = split /=/, $_, 2; decode($name) => decode($value // '') }
			split /&/, $request->{body} });
	}
	$event = '{}' if $event eq '';
	return "esim_receive('$server', " . literal($event) . ', '
	  . literal(encode_json({ headers => $request->{headers}, defined $query ? (query => $query) : () })) . ')';
}

# a statement with an event that nobody sent
sub forge { my ($server, $event) = @_; return "SELECT esim_receive('$server', " . literal(encode_json($event)) . ");\n"; }

# Hands over what has come since the last time; returns what became of each, oldest first.
sub pump
{
	my ($self) = @_;
	my @all = $self->{sink}->requests(qr{^/ok/});
	my @statements;
	my @outcomes;

	foreach my $request (@all[ $self->{taken} .. $#all ])
	{
		push @statements, 'SELECT ' . event($request);
		$self->{taken}++;
	}
	@outcomes = split /\n/, $self->{node}->safe_psql($self->{database}, join(";\n", @statements)) if @statements;
	push @{ $self->{outcomes} }, @outcomes;
	return @outcomes;
}

# Pumps until the query gives the value.
sub pump_until
{
	my ($self, $sql, $expected, $seconds) = @_;
	my $end = time() + ($seconds // 60);
	my $got = '';

	while (time() < $end)
	{
		$self->pump;
		$got = $self->{node}->safe_psql($self->{database}, $sql);
		return 1 if $got eq $expected;
		sleep 0.1;
	}
	Test::More::diag("still \"$got\" instead of \"$expected\": $sql");
	return 0;
}

1;
