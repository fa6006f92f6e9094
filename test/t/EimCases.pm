# test/t/EimCases.pm
# Cases of the eIM that all run at the same time: each has an eUICC of its own in the simulator,
# and a server of its own unless it names one that it shares.
package EimCases;

use strict;
use warnings;

use Exporter 'import';
use JSON::PP;
use Test::More;
use Time::HiRes ();

use EsimTest;

our @EXPORT = qw(%shape add_case run_cases);

my $true = JSON::PP::true;

my %call = (
	download => sub { "esim_download('$_[0]', '$_[1]')" },
	'download of an unknown ICCID' => sub { "esim_download('$_[0]', activation_code => '1\$smdp.example.com\$$_[1]')" },
	'download and enable' => sub { "esim_download('$_[0]', '$_[1]', activate_on_download => true)" },
	enable => sub { "esim_enable('$_[1]')" },
	disable => sub { "esim_disable('$_[1]')" },
	delete => sub { "esim_delete('$_[1]')" },
	'delete of an enabled one' => sub { "esim_delete('$_[1]')" },
	'set-fallback' => sub { "esim_set_fallback('$_[0]', '$_[1]')" },
	'unset-fallback' => sub { "esim_unset_fallback('$_[0]')" },
	refresh => sub { "esim_refresh('$_[0]')" });

# state of the profile before and after, and the effects on the eUICC
our %shape = (
	download => [ undef, 'DISABLED', 'downloaded' ],
	'download of an unknown ICCID' => [ undef, 'DISABLED', 'downloaded' ],
	'download and enable' => [ undef, 'ENABLED', 'downloaded', 'enabled' ],
	enable => [ 'DISABLED', 'ENABLED', 'enabled' ],
	disable => [ 'ENABLED', 'DISABLED', 'disabled' ],
	delete => [ 'DISABLED', 'DELETED', 'deleted' ],
	'delete of an enabled one' => [ 'ENABLED', 'DELETED', 'disabled', 'deleted' ],
	'set-fallback' => [ 'DISABLED', 'DISABLED', 'fallback-set' ],
	'unset-fallback' => [ 'DISABLED', 'DISABLED', 'fallback-unset' ],
	refresh => [ 'DISABLED', 'DISABLED' ]);

my @cases;

# name, kind, and of the rest what matters:
#	expect		result, as a pattern (SUCCESS); code, state: of the profile afterwards
#	effects		on the profile, in order (those of the kind, none when it fails)
#	rules		faults; {eid}, {iccid} and {card} of the case are put in
#	share		name of a server that others use as well: the rules are aimed by EID
#	eim			settings of its server at the simulator; options: of its foreign server
#	ours, theirs	state of the profile in the database and on the eUICC (absent: not there)
#	others		profiles beside it on the eUICC: [ state, ... ]
#	parked		it waits for an administrator at first, as long as the last of the rules stands
#	hurry		its waits are cut short
#	call		another call than the kind's; later: it is not asked for at the beginning
sub add_case
{
	my (%case) = @_;

	$case{expect} //= 'SUCCESS';
	$case{rules} //= [];
	push @cases, \%case;
	return;
}

sub last_case { return $cases[-1]; }

sub card
{
	my $digits = shift;

	$digits .= 'F' x (20 - length $digits);
	return join '', map { scalar reverse } $digits =~ /(..)/g;
}

sub fill_in
{
	my ($value, $case) = @_;

	if (ref $value eq 'HASH') { return { map { $_ => fill_in($value->{$_}, $case) } keys %$value }; }
	if (ref $value eq 'ARRAY') { return [ map { fill_in($_, $case) } @$value ]; }
	return $value if ref $value || !defined $value;
	return $value if $value !~ /\{(?:eid|iccid|card)\}/;
	return $value =~ s/\{(eid|iccid|card)\}/$case->{$1}/gr;
}

# first: number of the first eUICC; url: of a case's eIM; before, during: called before the first
# request and while they run
sub run_cases
{
	my ($node, $db, $simulator, %how) = @_;
	my $n = $how{first} // 0;
	my $url = $how{url} // sub { "$simulator->{url}/$_[0]/eim" };
	my (%known, @euiccs, @rules);
	my $sql = '';
	my @run = @cases;

	@cases = ();
	foreach my $case (@run)
	{
		my ($eid, $iccid) = (eid($n), iccid(4 * $n));
		my ($before) = @{ $shape{ $case->{kind} } };
		my $ours = $case->{ours} // $before;
		my $theirs = $case->{theirs} // $before // 'absent';
		my $fallback = $case->{kind} eq 'unset-fallback';
		my $tenant = $case->{share} // "case$n";
		# enabling has somewhere to go back to
		my @others = @{ $case->{others} // [ $case->{kind} eq 'enable' || $case->{kind} eq 'download and enable' ? 'ENABLED' : 'DISABLED' ] };

		@$case{qw(eid iccid card tenant)} = ($eid, $iccid, card($iccid), $tenant);
		if (!$known{$tenant}++)
		{
			my %options = (protocol => 'eim', url => $url->($tenant, $case), allow_http => 'true', timeout => '2 s',
				connect_timeout => '2 s', unknown_hold => '2 s', %{ $case->{options} // {} });

			$simulator->config($tenant, eim => $case->{eim}) if $case->{eim};
			$sql .= qq(CREATE SERVER "$tenant" FOREIGN DATA WRAPPER esim_rsp OPTIONS \()
			  . join(', ', map { "$_ '$options{$_}'" } sort keys %options) . ");\n";
		}
		push @euiccs, { eid => $eid,
			(defined $case->{offline_ms} ? (offline_ms => $case->{offline_ms}) : ()),
			(defined $case->{online} ? (online => $case->{online}) : ()),
			profiles => [
				(map { { iccid => iccid(4 * $n + 1 + $_), state => $others[$_] } } 0 .. $#others),
				$theirs ne 'absent' ? { iccid => $iccid, state => $theirs, ($fallback ? (fallback => $true) : ()) } : () ] };
		# it may be tried again by itself before we see it
		$case->{rules}[-1] = { %{ $case->{rules}[-1] }, count => 0 } if $case->{parked};
		push @rules, map { { server => $tenant, ($case->{share} ? (eid => $eid) : ()), %{ fill_in($_, $case) } } } @{ $case->{rules} };
		$sql .= "INSERT INTO esim_device (eid, server) VALUES ('$eid', '$tenant');\n";
		$sql .= "INSERT INTO esim_profile (iccid, eid, state) VALUES ('@{[iccid(4 * $n + 1 + $_)]}', '$eid', '$others[$_]');\n" foreach 0 .. $#others;
		if ($ours)
		{
			$sql .= "INSERT INTO esim_profile (iccid, eid, state, is_fallback) VALUES ('$iccid', '$eid', '$ours', " . ($fallback ? 'true' : 'false') . ");\n";
		}
		elsif ($case->{kind} ne 'download of an unknown ICCID')
		{
			$sql .= "INSERT INTO esim_profile (iccid, state, activation_code) VALUES ('$iccid', 'RELEASED', '1\$smdp.example.com\$$iccid');\n";
		}
		$n++;
	}
	$simulator->post('/euicc', \@euiccs);
	$simulator->post('/fault', \@rules) if @rules;
	$how{before}->(@run) if $how{before};
	$node->safe_psql($db, "BEGIN;\n$sql" . 'COMMIT');

	enqueue($node, $db, grep { !$_->{later} } @run);
	$how{during}->(@run) if $how{during};
	foreach my $case (grep { $_->{parked} } @run)
	{
		my $seen = '';

		hurry($node, $db, sub {
			my ($row) = rows($node, $db, "SELECT phase, phase_reason <> '' FROM esim_operation WHERE id = '$case->{id}'");
			$seen = "@$row";
			return $seen eq 'PARKED t';
		}, @run);
		is($seen, 'PARKED t', "$case->{name}: parked, with a reason");
		$simulator->delete("/fault?server=$case->{tenant}");
	}
	$node->safe_psql($db, 'SELECT esim_resume()') if grep { $_->{parked} } @run;
	ok(hurry($node, $db, sub { value($node, $db, q(SELECT count(*) FROM esim_operation WHERE status = 'ACCEPTED')) eq '0' },
		$how{hurry_all} ? map { { id => $_->[0], hurry => 1 } } rows($node, $db, q(SELECT id FROM esim_operation WHERE status = 'ACCEPTED')) : @run), 'all complete')
	  or wait_completed($node, $db, 0.1);
	my %name = map { $_->{id} => $_->{name} } @run;
	note("$_->[1] s: $name{$_->[0]}") foreach grep { $name{ $_->[0] } } rows($node, $db, q(SELECT id, round(extract(epoch FROM completed_at - created_at), 1)
		FROM esim_operation WHERE completed_at IS NOT NULL ORDER BY completed_at - created_at DESC LIMIT 10));
	judge($node, $db, $simulator, @run);
	return @run;
}

# Asks for the operations; run_cases() does, but of those that are for later.
sub enqueue
{
	my ($node, $db, @run) = @_;
	my @ids = split /\n/, query($node, $db, "SET esim.lockout_guard = off;\n"
		. join("\n", map { 'SELECT ' . ($_->{call} // $call{ $_->{kind} })->($_->{eid}, $_->{iccid}) . ';' } @run));

	$run[$_]{id} = $ids[$_] foreach 0 .. $#run;
	return;
}

# Waits until it is so, and cuts the waits of some short.
sub hurry
{
	my ($node, $db, $so, @run) = @_;
	my @ids = map { "'$_->{id}'" } grep { $_->{hurry} && $_->{id} } @run;
	my $end = time() + 3 * $EsimTest::patience;

	while (time() < $end)
	{
		return 1 if $so->();
		$node->safe_psql($db, "UPDATE esim_pending SET next_at = now() WHERE state IN ('W', 'P') AND NOT claimed AND next_at > now() + interval '1 second'"
			  . ' AND operation IN (' . join(', ', @ids) . ')') if @ids;
		Time::HiRes::sleep(0.1);
	}
	return 0;
}

sub judge
{
	my ($node, $db, $simulator, @run) = @_;
	my %row = map { $_->[0] => $_ } rows($node, $db, q(
		SELECT o.id, o.result, o.error_code, translate(o.error_message, '|', '/'), o.attempts, p.state, p.iccid
		FROM esim_operation o LEFT JOIN esim_profile p ON p.id = o.profile));
	my %state = map { $_->[0] => $_->[1] } rows($node, $db, 'SELECT iccid, state FROM esim_profile WHERE iccid IS NOT NULL');
	my %effects;

	for (my $from = 1; ; )
	{
		my $entries = $simulator->get("/ledger?entries=1&from=$from&limit=1000");
		my @page = ref $entries eq 'ARRAY' ? @$entries : @{ $entries->{entries} };

		last if !@page;
		push @{ $effects{"$_->{eid} $_->{iccid}"} }, $_->{what} foreach @page;
		$from += @page;
	}
	foreach my $case (@run)
	{
		my ($before, $after, @effects) = @{ $shape{ $case->{kind} } };
		my (undef, $result, $code, $message, $attempts, $state, $iccid) = @{ $row{ $case->{id} } };
		my $success = $case->{expect} eq 'SUCCESS';
		my @done = @{ $effects{"$case->{eid} $case->{iccid}"} // [] };
		my $good = 1;

		@effects = () if !$success;
		@effects = @{ $case->{effects} } if $case->{effects};
		$state = $state{ $case->{iccid} } // $state;
		$after = $case->{state} // ($success ? $after : undef);
		$good &= like($result, qr/^(?:$case->{expect})$/, "$case->{name}: $case->{expect}");
		$good &= is($code, $case->{code}, "$case->{name}: its code") if defined $case->{code};
		$good &= isnt($message, '', "$case->{name}: a reason") if $result eq 'FAILED';
		$good &= is($state, $after, "$case->{name}: $after") if defined $after;
		$good &= is(join(', ', @done), join(', ', @effects), "$case->{name}: what the eUICC did, once");
		next if $good;
		diag("$case->{name}: $result $code ($message) after $attempts requests, profile $state");
		diag(query($node, $db, "SELECT number, method, right(url, 50), http_status, outcome, left(detail, 80) FROM esim_attempt WHERE operation = '$case->{id}' ORDER BY number"));
	}
	return;
}

1;
