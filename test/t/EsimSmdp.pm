# test/t/EsimSmdp.pm
# Cases at an SM-DP+: operations with faults, each with an eUICC, an ICCID and most with a server of
# the simulator's of its own, all at the same time.
#
# A case has: name, form (below), rules (faults, struck after the preparation), expect (a pattern for
# "RESULT CODE", or for the phase while it is not completed), and as it likes: smdp (settings of the
# simulator's SM-DP+), options (of CREATE SERVER), server (a case with the same name shares it), deeds
# (effects in stock, in order, with those of the preparation), state (of the profile, a pattern), rsp
# (rsp_code), reason (a pattern for what the row says: error_message, or phase_reason).
package EsimSmdp;

use strict;
use warnings;

use JSON::PP;
use Test::More;
use EsimTest;

our $requester = '1.3.6.1.4.1.99999';

my $reserve = sub { my ($arguments) = @_; return sub { my ($c) = @_; return "esim_reserve(" . $arguments->($c) . ", server => '$c->{server}')"; }; };
my $of_prepared = sub { my ($c) = @_; return "(SELECT p.iccid FROM esim_profile p WHERE p.server = '$c->{server}' AND p.iccid IS NOT NULL ORDER BY p.created_at LIMIT 1)"; };
my $download = sub { my ($c) = @_; return "esim_download('$c->{eid}', " . $of_prepared->($c) . ", server => '$c->{server}')"; };
my $cancel = sub { my ($final) = @_; return sub { my ($c) = @_; return 'esim_cancel_order(' . $of_prepared->($c) . ", '$final')"; }; };
my $any = sub { "generate_matching_id => true, profile_type => 'default'" };
my $bound = sub { my ($c) = @_; return "'$c->{eid}', profile_type => 'default'"; };
my @order = ('ordered', 'order-confirmed');
my $with_id = sub { 'generate_matching_id => true, iccid => ' . "'$_[0]{iccid}'" };
my @half = { path => 'confirmOrder', fault => 'status', status => 200, code => '8.2.6/2.1', count => 1 };

# How each operation is asked for; prepare: what is done before, faults: its own; any: the SM-DP+
# chooses the ICCID; state: of the profile when it went well; device: what a device needs to come.
our %forms = (
	'reserve for an eUICC' => { any => 1, requests => 2, state => 'RELEASED', call => $reserve->($bound) },
	'reserve with a MatchingID of ours' => { any => 1, requests => 2, state => 'RELEASED', call => $reserve->($any) },
	'reserve an ICCID' => { requests => 2, state => 'RELEASED', call => $reserve->(sub { "iccid => '$_[0]{iccid}', generate_matching_id => true" }) },
	'reserve an ICCID for an eUICC' => { requests => 2, state => 'RELEASED', call => $reserve->(sub { "'$_[0]{eid}', iccid => '$_[0]{iccid}'" }) },
	'reserve an ICCID of a type' => { requests => 2, state => 'RELEASED', call => $reserve->(sub { "generate_matching_id => true, iccid => '$_[0]{iccid}', profile_type => 'default'" }) },
	'reserve with a given MatchingID' => { requests => 2, state => 'RELEASED', call => $reserve->(sub { "iccid => '$_[0]{iccid}', matching_id => 'GIVEN-$_[0]{n}'" }) },
	'reserve with a confirmation code' => { requests => 2, state => 'RELEASED', call => $reserve->(sub { "iccid => '$_[0]{iccid}', generate_matching_id => true, confirmation_code => '4711'" }) },
	'reserve with an SM-DS' => { requests => 2, state => 'RELEASED', call => $reserve->(sub { "'$_[0]{eid}', iccid => '$_[0]{iccid}', smds_address => 'smds.example.com'" }) },
	'reserve without release' => { requests => 2, state => 'RESERVED', call => $reserve->(sub { "iccid => '$_[0]{iccid}', generate_matching_id => true, release => false" }) },
	'release' => { requests => 1, path => 'releaseProfile', state => 'RELEASED', effect => 'released',
		prepare => $reserve->(sub { $any->() . ', release => false' }), any => 1, call => sub { 'esim_release(' . $of_prepared->($_[0]) . ')' } },
	(map { my ($from, $prepare, $faults) = @$_;
		(map { my ($final) = $_;
			("cancel-order of a $from profile, $final" => { requests => 1, path => 'cancelOrder', state => 'CANCELLED', effect => 'order-cancelled', final => $final,
				any => 1, prepare => $prepare, faults => $faults, half => defined $faults, call => $cancel->($final) }) } ('Available', 'Unavailable')) }
		([ 'RESERVED', $reserve->(sub { $any->() . ', release => false' }) ], [ 'RELEASED', $reserve->($any) ],
		[ 'RELEASED and bound', $reserve->($bound) ], [ 'FAILED', $reserve->($any), \@half ], [ 'FAILED and bound', $reserve->($bound), \@half ])),
	'cancel-order after a confirmation that was lost' => { requests => 1, path => 'cancelOrder', state => 'CANCELLED', effect => 'order-cancelled', prepare => $reserve->($with_id),
		faults => [ { path => 'confirmOrder', fault => 'reset_after_effect', count => 1 }, @half ], call => $cancel->('Available') },
	'cancel-order after a confirmation that never came' => { requests => 1, path => 'cancelOrder', state => 'CANCELLED', effect => 'order-cancelled', half => 1, prepare => $reserve->($with_id),
		faults => [ { path => 'confirmOrder', fault => 'timeout_before_effect', count => 1 }, @half ], call => $cancel->('Available') },
	'download' => { requests => 2, state => 'RELEASED', device => '', call => sub { "esim_download('$_[0]{eid}', '$_[0]{iccid}', server => '$_[0]{server}')" } },
	'download of any' => { any => 1, requests => 2, state => 'RELEASED', device => '', call => sub { "esim_download('$_[0]{eid}', server => '$_[0]{server}')" } },
	'download with an activation code' => { requests => 2, state => 'RELEASED', device => 'CODE',
		call => sub { "esim_download('$_[0]{eid}', '$_[0]{iccid}', '1\$smdp.example.com\$CODE-$_[0]{n}', server => '$_[0]{server}')" } },
	'download with a confirmation code' => { requests => 2, state => 'RELEASED', device => 'CODE', confirmation => '4711',
		call => sub { "esim_download('$_[0]{eid}', '$_[0]{iccid}', '1\$smdp.example.com\$CODE-$_[0]{n}\$\$1', confirmation_code => '4711', server => '$_[0]{server}')" } },
	'download of what is released for it' => { any => 1, requests => 0, state => 'RELEASED', device => '', prepare => $reserve->($bound), call => $download },
	'download of what is reserved for it' => { any => 1, requests => 1, path => 'releaseProfile', state => 'RELEASED', effect => 'released', device => '',
		prepare => $reserve->(sub { $bound->($_[0]) . ', release => false' }), call => $download },
	'download of what has a MatchingID' => { any => 1, requests => 0, state => 'RELEASED', device => 'row', prepare => $reserve->($any), call => $download },
);

# the requests of a form, in their order
sub paths
{
	my ($form) = @_;
	my $f = $forms{$form};

	return $f->{requests} == 0 ? () : $f->{path} ? ($f->{path}) : ('downloadOrder', 'confirmOrder');
}

# effects in stock of a form that went well, with those of its preparation
sub effects
{
	my ($form) = @_;
	my $f = $forms{$form};

	return ($f->{half} ? 'ordered' : @order, $f->{effect} // ());
}

# new(node, database, simulator, url of the front end for a server): first: number of the first case
sub new
{
	my ($class, %self) = @_;
	my $self = bless { first => 0, %self }, $class;

	$self->{cases} = [];
	$self->{servers} = {};
	$self->{next} = $self->{first};
	return $self;
}

sub add
{
	my ($self, @cases) = @_;

	foreach my $case (@cases)
	{
		my $form = $forms{ $case->{form} } or die "no form $case->{form}";
		my $n = $self->{next}++;

		$case->{n} = $n;
		$case->{eid} = EsimTest::eid($n + 1);
		$case->{iccid} = EsimTest::iccid(100000 + $n);
		$case->{server} //= "case$n";
		push @{ $self->{cases} }, $case;
	}
	return;
}

# one psql for many statements; what they give, a line each
sub lines
{
	my ($self, @statements) = @_;

	return () if !@statements;
	return split /\n/, $self->{node}->safe_psql($self->{database}, join(";\n", @statements));
}

sub make
{
	my ($self) = @_;
	my (@ddl, @stock, @faults);

	foreach my $case (grep { !$_->{made} } @{ $self->{cases} })
	{
		my $form = $forms{ $case->{form} };
		my $server = $case->{server};

		if (!$self->{servers}{$server}++)
		{
			my %options = (protocol => 'es2plus', url => "$self->{simulator}{url}/$server", requester_id => $requester,
				smdp_address => 'fallback.example.com', timeout => '4 s', connect_timeout => '4 s', allow_http => 'true', %{ $case->{options} // {} });

			$self->{simulator}->config($server, es2plus => { requester => $requester,
				($self->{front} ? (notify_url => $self->{front}->url($server)) : ()), %{ $case->{smdp} // {} } });
			push @ddl, qq(CREATE SERVER "$server" FOREIGN DATA WRAPPER esim_rsp OPTIONS \() . join(', ', map { "$_ '$options{$_}'" } sort keys %options) . ')';
		}
		push @ddl, "INSERT INTO esim_device (eid, server) VALUES ('$case->{eid}', '$server')";
		push @stock, $form->{any} ? { server => $server, profile_type => 'default', count => 3 } : { server => $server, iccid => $case->{iccid} };
		push @faults, map { { server => $server, %$_ } } @{ $form->{faults} // [] };
		$case->{made} = 1;
	}
	$self->{simulator}->post('/es2plus/stock', \@stock) if @stock;
	$self->{simulator}->fault(@faults) if @faults;
	$self->{node}->safe_psql($self->{database}, join(";\n", @ddl)) if @ddl;
	return;
}

# Prepares and asks for what was added since the last time; does not wait for the end.
sub start
{
	my ($self) = @_;
	my @new = grep { !defined $_->{id} } @{ $self->{cases} };
	my @prepared = grep { $forms{ $_->{form} }{prepare} } @new;
	my @ids;

	$self->make;
	@ids = $self->lines(map { 'SELECT ' . $forms{ $_->{form} }{prepare}->($_) } @prepared);
	if (@ids)
	{
		my $list = join ', ', map { "'$_'" } @ids;

		ok(EsimTest::wait_until($self->{node}, $self->{database}, "SELECT count(*) FROM esim_operation WHERE id IN ($list) AND status = 'ACCEPTED'", '0'), 'prepared');
	}
	my @faults = map { my $case = $_; map { { server => $case->{server}, %$_ } } @{ $case->{rules} // [] } } @new;
	$self->{simulator}->fault(@faults) if @faults;
	@ids = $self->lines(map { 'SELECT ' . $forms{ $_->{form} }{call}->($_) } @new);
	die 'an operation was refused' if @ids != @new;
	$new[$_]{id} = $ids[$_] foreach 0 .. $#new;
	return;
}

# All that were asked for end as they should; then the ledger is looked at.
sub check
{
	my ($self, $seconds) = @_;
	my @cases = grep { defined $_->{id} && !$_->{checked}++ } @{ $self->{cases} };
	my %row;
	my %deeds;
	my $end = time() + ($seconds // 120);
	my $from = 1;

	while (1)
	{
		my $list = join ', ', map { "'$_->{id}'" } @cases;

		$self->{front}->pump if $self->{front};
		$self->{between}->() if $self->{between};
		%row = map { my @column = split /\|/, $_, -1; $column[0] => \@column } $self->lines(qq(
			SELECT o.id, CASE WHEN o.status = 'ACCEPTED' THEN o.phase::text ELSE concat_ws(' ', o.result, o.error_code) END,
				coalesce(p.state::text, ''), coalesce(o.rsp_code, ''), coalesce(o.error_message, o.phase_reason, ''), o.attempts
			FROM esim_operation o LEFT JOIN esim_profile p ON p.id = o.profile WHERE o.id IN ($list)));
		last if !grep { $row{ $_->{id} }[1] !~ /^(?:$_->{expect})$/ } @cases;
		last if time() > $end;
		Time::HiRes::sleep(0.2);
	}
	while (my @page = @{ $self->{simulator}->get("/ledger?deeds=1&from=$from&limit=10000") })
	{
		push @{ $deeds{ $_->{server} } }, $_->{what} foreach grep { $_->{what} !~ /^(?:fetched|installed|order-error)$/ } @page;
		$from += @page;
	}
	foreach my $case (@cases)
	{
		my (undef, $end_as, $state, $rsp, $reason, $attempts) = @{ $row{ $case->{id} } };
		my $good = like($end_as, qr/^(?:$case->{expect})$/, "$case->{name}: $case->{expect}");

		$good &= like($state, qr/^(?:$case->{state})$/, "$case->{name}: profile $case->{state}") if defined $case->{state};
		$good &= is($rsp, $case->{rsp}, "$case->{name}: rsp_code") if defined $case->{rsp};
		$good &= like($reason, $case->{reason} // qr/\w/, "$case->{name}: a reason") if defined $case->{reason} || $end_as =~ /^(?:FAILED|PARKED)/;
		$good &= is(join(' ', @{ $deeds{ $case->{server} } // [] }), join(' ', @{ $case->{deeds} }), "$case->{name}: what the SM-DP+ did, once") if $case->{deeds};
		diag(EsimTest::query($self->{node}, $self->{database}, "SELECT o.phase, o.phase_reason, o.error_message, a.number, right(a.url, 20), a.http_status, a.outcome, left(a.detail, 80) FROM esim_operation o LEFT JOIN esim_attempt a ON a.operation = o.id WHERE o.id = '$case->{id}' ORDER BY a.number"))
		  if !$good;
	}
	return @cases;
}

# The devices of downloads that wait come; all of them succeed then.
sub devices
{
	my ($self, @cases) = @_;
	my @waiting = grep { defined $forms{ $_->{form} }{device} && $_->{expect} eq 'WAITING_DEVICE' } @cases;
	my $list = join ', ', map { "'$_->{id}'" } @waiting;
	my %row = map { my @column = split /\|/, $_, -1; $column[0] => \@column } $self->lines(
		"SELECT o.id, p.matching_id FROM esim_operation o JOIN esim_profile p ON p.id = o.profile WHERE o.id IN ($list)");

	foreach my $case (@waiting)
	{
		my $form = $forms{ $case->{form} };
		my $matching_id = $form->{device} eq 'CODE' ? "CODE-$case->{n}" : $form->{device} eq 'row' ? $row{ $case->{id} }[1] : undef;

		$self->{simulator}->post('/es2plus/download', { server => $case->{server}, eid => $case->{eid}, (defined $matching_id ? (matching_id => $matching_id) : ()),
			($form->{confirmation} ? (confirmation_code => $form->{confirmation}) : ()) });
	}
	ok($self->{front}->pump_until("SELECT count(*) FROM esim_operation WHERE id IN ($list) AND result IS DISTINCT FROM 'SUCCESS'", '0'), scalar(@waiting) . ' that wait succeed when their devices come');
	is(join(', ', $self->lines("SELECT o.id FROM esim_operation o JOIN esim_profile p ON p.id = o.profile WHERE o.id IN ($list) AND (p.state <> 'INSTALLED' OR p.eid IS DISTINCT FROM o.eid OR p.state_source <> 'event')")),
		'', 'their profiles are INSTALLED on their eUICCs, learned from events');
	return;
}

1;
