# test/t/EsimGuide.pm
# Follows a guide of doc/: its ```sql blocks, in order, in one session of psql, as a reader would
# type them.  Only hosts, URLs and credentials are replaced by those of the simulator.
package EsimGuide;

use strict;
use warnings;

use File::Basename qw(dirname);

# blocks(name): [ heading above it, text ] of each ```sql block of doc/name
sub blocks
{
	my ($name) = @_;
	my $file = dirname(__FILE__) . "/../../doc/$name";
	my $heading = '';
	my @blocks;
	my $block;

	open my $guide, '<', $file or die "$file: $!";
	while (<$guide>)
	{
		if (defined $block)
		{
			if (/^```\s*$/) { push @blocks, [ $heading, $block ]; undef $block; }
			else { $block .= $_; }
		}
		elsif (/^```sql\s*$/) { $block = ''; }
		elsif (/^#+\s+(.*)/) { $heading = $1; }
	}
	close $guide;
	die "$file: a block without end" if defined $block;
	return @blocks;
}

# follow(node, database, blocks, from => to of what is replaced; every "from" must occur):
# [ heading, text, output ] of each block; dies at the first error.  before => sub { heading, text }
# is called before each block and may return statements to run first.
sub follow
{
	my ($node, $database, $blocks, %how) = @_;
	my $replace = $how{replace} // {};
	my %seen;
	my $script = "\\set ON_ERROR_STOP on\n";
	my @parts;

	foreach my $i (0 .. $#$blocks)
	{
		my ($heading, $text) = @{ $blocks->[$i] };

		foreach my $from (sort { length $b <=> length $a } keys %$replace)
		{
			$seen{$from} = 1 if $text =~ s/\Q$from\E/$replace->{$from}/g;
		}
		my $first = $how{before} ? $how{before}->($heading, $text) // '' : '';
		$script .= "$first\n\\echo ==== $i\n$text\n\\echo ====\n";
	}
	foreach my $from (keys %$replace) { die "the guide has no \"$from\"" if !$seen{$from}; }

	my ($status, $out, $err) = $node->psql($database, $script, on_error_stop => 1, timeout => 300);
	foreach my $i (0 .. $#$blocks)
	{
		push @parts, [ @{ $blocks->[$i] }, $out =~ /^==== $i\n(.*?)^====$/ms ? $1 : undef ];
	}
	return { status => $status, error => $err, parts => \@parts };
}

1;
