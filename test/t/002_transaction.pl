# test/t/002_transaction.pl
# Operations exist exactly when their transaction commits, and run in order.
use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep);
use EsimTest;

my $simulator = start_simulator();
my $node = new_node('transaction', settings => [ 'max_prepared_transactions = 5', 'esim.lockout_guard = off' ]);
my $db = 'postgres';
my ($eid, $old, $new) = (eid(1), iccid(10), iccid(11));

create_database($node, $db);
create_server($node, $db, $simulator, 'main', smdp_address => 'smdp.example.com');
$simulator->post('/euicc', { eid => $eid, profiles => [ { iccid => $old, state => 'DISABLED' } ] });
$node->safe_psql($db, qq(
	INSERT INTO esim_device (eid) VALUES ('$eid');
	INSERT INTO esim_profile (iccid, eid, state) VALUES ('$old', '$eid', 'DISABLED');
	INSERT INTO esim_profile (iccid, state, activation_code) VALUES ('$new', 'RELEASED', '1\$smdp.example.com\$$new');
));

my $chain = qq(
	SELECT esim_download('$eid', '$new');
	SELECT esim_enable('$new');
	SELECT esim_set_fallback('$eid', '$old');
);
my $trace = q(SELECT (SELECT count(*) FROM esim_operation), (SELECT count(*) FROM esim_pending),
	(SELECT count(*) FROM esim_idempotency), (SELECT count(*) FROM esim_profile));

# rolled back
my $before = value($node, $db, $trace);
$node->safe_psql($db, "BEGIN; $chain ROLLBACK");
is(value($node, $db, $trace), $before, 'a transaction rolled back leaves no trace');
$node->safe_psql($db, "BEGIN; SAVEPOINT s; $chain ROLLBACK TO s; COMMIT");
is(value($node, $db, $trace), $before, 'a savepoint rolled back leaves no trace');
my ($status, $out, $err) = $node->psql($db, "BEGIN; $chain SELECT 1/0; COMMIT");
is(value($node, $db, $trace), $before, 'an error leaves no trace');
sleep 1;
is($simulator->requests('main'), 0, 'nothing was sent');

# committed
$node->safe_psql($db, "BEGIN; $chain COMMIT");
ok(wait_completed($node, $db), 'committed: all complete');
is(value($node, $db, q(SELECT string_agg(kind || ' ' || result, ', ' ORDER BY seq) FROM esim_operation)),
	'download SUCCESS, enable SUCCESS, set-fallback SUCCESS', 'all three succeed');
is(join(', ', @{ $simulator->effects($eid) }), "downloaded $new, enabled $new, fallback-set $old", 'in order');
is(value($node, $db, q(SELECT string_agg(iccid || ' ' || state || ' ' || is_fallback, ', ' ORDER BY iccid) FROM esim_profile)),
	"$old DISABLED true, $new ENABLED false", 'the rows say so');
is(value($node, $db, q(SELECT count(*) FROM esim_operation o JOIN esim_operation d ON d.id = ANY (o.depends_on)
	WHERE o.kind = 'enable' AND d.kind = 'download')), '1', 'the enable depends on the download');

# nothing is sent before the commit
my $requests = $simulator->requests('main');
my $session = $node->background_psql($db);
$session->query_safe("BEGIN; SELECT esim_disable('$new')");
sleep 1;
is($simulator->requests('main'), $requests, 'nothing is sent while the transaction is open');
my $id = value($node, $db, 'SELECT count(*) FROM esim_operation');
is($id, '3', 'and nobody sees it');
$session->quit;
is(value($node, $db, 'SELECT count(*) FROM esim_operation'), '3', 'a session that ends takes its operations with it');

($status, $out, $err) = $node->psql($db, qq(
	BEGIN;
	SELECT esim_disable('$new') AS id \\gset
	SELECT esim_wait(:'id', '1 s');
));
like($err, qr/^psql.*ERROR/m, 'esim_wait refuses an operation of its own transaction');
is(value($node, $db, 'SELECT count(*) FROM esim_operation'), '3', 'which leaves no trace either');

# two-phase commit: nobody is woken, the next call looks
$node->safe_psql($db, "BEGIN; SELECT esim_disable('$new'); PREPARE TRANSACTION 'two'");
is(value($node, $db, q(SELECT count(*) FROM esim_operation WHERE status = 'ACCEPTED')), '0', 'prepared: not there yet');
sleep 0.5;
is($simulator->requests('main'), $requests, 'prepared: nothing is sent');
$node->safe_psql($db, "COMMIT PREPARED 'two'");
$node->safe_psql($db, 'SELECT * FROM esim_worker_status()');
ok(wait_completed($node, $db), 'COMMIT PREPARED: it completes');
is(value($node, $db, "SELECT state FROM esim_profile WHERE iccid = '$new'"), 'DISABLED', 'the profile is DISABLED');
$requests = $simulator->requests('main');
$node->safe_psql($db, "BEGIN; SELECT esim_enable('$new'); PREPARE TRANSACTION 'two'");
$node->safe_psql($db, "ROLLBACK PREPARED 'two'");
is(value($node, $db, q(SELECT count(*) FROM esim_pending)), '0', 'ROLLBACK PREPARED leaves no trace');
sleep 0.5;
is($simulator->requests('main'), $requests, 'and sends nothing');

# what needed the success of something that failed is cancelled; the rest runs
my $full = iccid(12);
$simulator->post('/euicc', { eid => $eid, memory => 2 });
$node->safe_psql($db, qq(
	INSERT INTO esim_profile (iccid, state, activation_code) VALUES ('$full', 'RELEASED', '1\$smdp.example.com\$$full');
	BEGIN;
	SELECT esim_download('$eid', '$full');
	SELECT esim_enable('$full');
	SELECT esim_enable('$old');
	COMMIT;
));
ok(wait_completed($node, $db), 'with a failure in it: all complete');
is(value($node, $db, q(SELECT string_agg(kind || ' ' || result || coalesce(' ' || error_code, ''), ', ' ORDER BY seq)
		FROM (SELECT * FROM esim_operation ORDER BY seq DESC LIMIT 3) o)) =~ s/download FAILED \w+/download FAILED/r,
	'download FAILED, enable CANCELLED DEPENDENCY_FAILED, enable SUCCESS',
	'dependents are cancelled, the rest runs');
is(value($node, $db, "SELECT state FROM esim_profile WHERE iccid = '$old'"), 'ENABLED', 'the independent one took effect');

# an idempotency key sends once
my $keyed = "SELECT esim_disable('$old', idempotency_key => 'k1')";
my $one = value($node, $db, $keyed);
ok(wait_completed($node, $db), 'it completes');
is(value($node, $db, $keyed), $one, 'the same key gives the first operation');
ok(wait_completed($node, $db), 'nothing more');

# a chain in two transactions, the second of which waits for nothing
$node->safe_psql($db, "SELECT esim_enable('$new')");
$node->safe_psql($db, "SELECT esim_disable('$new')");
$node->safe_psql($db, "SELECT esim_delete('$new')");
ok(wait_completed($node, $db), 'queued one after the other: all complete');
is(value($node, $db, "SELECT state FROM esim_profile WHERE iccid = '$new'"), 'DELETED', 'in order');

ledger_is_exact($simulator, 'ledger', deleted => 1, downloaded => 1);
$node->stop;
done_testing();
