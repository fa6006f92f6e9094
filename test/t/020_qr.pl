# test/t/020_qr.pl
# QR codes are read by a reader that is not ours: zbar.  What esim_qr() gives is painted as a
# terminal would show it.
use strict;
use warnings;

use Test::More;
use EsimTest;

use PostgreSQL::Test::Utils;

my $zbar = (grep { -x } map { "$_/zbarimg" } split /:/, $ENV{PATH})[0];
plan skip_all => 'zbarimg is not there (zbar-tools)' if !defined $zbar;

my $node = new_node('qr', settings => ['esim.workers = 0']);
create_database($node, 'postgres');
my $directory = $PostgreSQL::Test::Utils::tmp_check;
my $number = 0;

# What zbar reads in a picture; the empty string if nothing.
sub scan
{
	my ($bytes, $extension) = @_;
	my $file = sprintf('%s/qr_%d.%s', $directory, $number++, $extension);
	my ($out, $err) = ('', '');

	open(my $handle, '>:raw', $file) or die "$file: $!";
	print $handle $bytes;
	close $handle or die $!;
	IPC::Run::run([ $zbar, '--nodbus', '-q', '--raw', $file ], '<', \undef, '>', \$out, '2>', \$err);
	unlink $file;
	chomp $out;
	return $out;
}

# A grey picture of rows of 0 (black) and 1 (white), so many pixels each.
sub picture
{
	my ($pixels, @rows) = @_;
	my $width = scalar @{ $rows[0] } * $pixels;
	my $data = '';

	foreach my $row (@rows)
	{
		$data .= join('', map { ($_ ? "\xff" : "\0") x $pixels } @$row) x $pixels;
	}
	return sprintf("P5\n%d %d\n255\n", $width, scalar @rows * $pixels) . $data;
}

# A terminal with the text on it, and some of its ground around: 1 is light.
sub terminal
{
	my ($text, $letters, $ground) = @_;
	my @lines = split /\n/, $text, -1;
	my @rows;

	utf8::decode($_) foreach @lines;
	my $edge = [ ($ground) x (length($lines[0]) + 12) ];
	my $paint = sub {
		my ($line, $blocks) = @_;
		return [ ($ground) x 6, (map { index($blocks, $_) >= 0 ? $letters : $ground } split //, $line), ($ground) x 6 ];
	};
	push @rows, ($edge) x 6;
	foreach my $line (@lines)
	{
		push @rows, $paint->($line, "\x{2588}\x{2580}"), $paint->($line, "\x{2588}\x{2584}");
	}
	push @rows, ($edge) x 6;
	return picture(4, @rows);
}

# Paints the paths of an SVG document of ours, a pixel a user unit; then as large as it asks for.
sub svg
{
	my ($text) = @_;
	my ($width, $side) = $text =~ /^<svg [^>]*width="(\d+)" height="\1" viewBox="0 0 (\d+) \2"/ or return '';
	my @rows = map { [ (0) x $side ] } 1 .. $side;

	while ($text =~ /<path fill="#(000000|ffffff)" d="([^"]*)"\/>/g)
	{
		my ($white, $path) = ($1 eq 'ffffff', $2);

		while ($path =~ /\GM(\d+) (\d+)h(\d+)v(\d+)h-\3z/gc)
		{
			my ($x, $y, $w, $h) = ($1, $2, $3, $4);

			foreach my $row (@rows[ $y .. $y + $h - 1 ])
			{
				@$row[ $x .. $x + $w - 1 ] = ($white ? 1 : 0) x $w;
			}
		}
		return '' if (pos($path) // 0) != length $path;
	}
	return picture($width / $side, @rows);
}

my $long = '1$smdp.example.com$' . join('', map { chr(65 + $_ % 26) . $_ % 10 } 1 .. 118);
my @codes = (
	[ 'usual', '1$smdp.example.com$QR-G-5C-1LS-1W1Z9P7' ],
	[ 'the document\'s', '1$SMDP-PLUS.EXAMPLE.COM$04386-AGYFT-A74Y8-3F815' ],
	[ 'capitals and small letters', '1$SmDp.Example.COM$aBcDeF' ],
	[ 'with OID and flag', '1$smdp.example.com$ABC$1.3.6.1.4.1.31746$1' ],
	[ 'flag without OID', '1$smdp.example.com$ABC$$1' ],
	[ 'without matching ID', '1$smdp.example.com$' ],
	[ 'with port and plus', '1$SM-DP+.EXAMPLE.COM:8443$X' ],
	[ 'of 255 characters', $long ]);

is(length $long, 255, 'the longest code');
foreach my $case (@codes)
{
	my ($name, $code) = @$case;
	my $lpa = "LPA:$code";

	is(scan(terminal(value($node, 'postgres', "SELECT esim_qr('$code')"), 1, 0), 'pgm'),
		$lpa, "$name: off a dark terminal");
	is(scan(terminal(value($node, 'postgres', "SELECT esim_qr('$lpa', inverse => true)"), 0, 1), 'pgm'),
		$lpa, "$name: off a light terminal");
	is(scan(pack('H*', value($node, 'postgres', "SELECT encode(esim_qr_png('$code'), 'hex')")), 'png'),
		$lpa, "$name: PNG");
	is(scan(svg(value($node, 'postgres', "SELECT esim_qr_svg('$code')")), 'pgm'), $lpa, "$name: SVG");
}

foreach my $level (qw(L M Q H))
{
	foreach my $module (2, 3, 10)
	{
		is(scan(pack('H*', value($node, 'postgres', "SELECT encode(esim_qr_png('$codes[0][1]', $module, '$level'), 'hex')")), 'png'),
			"LPA:$codes[0][1]", "PNG, module $module, level $level");
		is(scan(svg(value($node, 'postgres', "SELECT esim_qr_svg('$codes[0][1]', $module, '$level')")), 'pgm'),
			"LPA:$codes[0][1]", "SVG, module $module, level $level");
	}
}
is(scan(pack('H*', value($node, 'postgres', "SELECT encode(esim_qr_png('$codes[0][1]', 64, 'H'), 'hex')")), 'png'),
	"LPA:$codes[0][1]", 'PNG, module 64');

# another encoding of the database: the error is clear, the pictures are there
$node->safe_psql('postgres', q(CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'));
create_database_in($node, 'latin');
my ($status, $out, $err) = $node->psql('latin', "SELECT esim_qr('$codes[0][1]')");
like($err, qr/has no equivalent in encoding "LATIN1"/, 'no blocks in LATIN1');
is(scan(pack('H*', value($node, 'latin', "SELECT encode(esim_qr_png('$codes[0][1]'), 'hex')")), 'png'),
	"LPA:$codes[0][1]", 'but a PNG');

# a profile's code on the terminal, as in the guide
my $iccid = iccid(1);
$node->safe_psql('postgres', qq(
	INSERT INTO esim_profile (iccid, state, smdp_address, matching_id)
	VALUES ('$iccid', 'RELEASED', 'smdp.example.com', 'MATCH-1')));
is(scan(terminal(value($node, 'postgres', "SELECT esim_qr(esim_activation_code('$iccid'))"), 1, 0), 'pgm'),
	'LPA:1$smdp.example.com$MATCH-1', 'the code of a profile');
$node->stop('fast');
done_testing();

# as create_database(), for a database that is there
sub create_database_in
{
	my ($on, $database) = @_;

	$on->safe_psql($database, qq(
		CREATE SCHEMA esim;
		CREATE EXTENSION esim SCHEMA esim;
		ALTER DATABASE $database SET search_path = esim, public;
	));
	return;
}
