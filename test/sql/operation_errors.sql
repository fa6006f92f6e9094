--
-- Errors of the functions that make operations
--
\getenv inputdir PG_ABS_SRCDIR
\set setup :inputdir '/sql/operation.psql'
\set hint false
\set ECHO none
\i :setup
\set ECHO all

CREATE SERVER op_rsp FOREIGN DATA WRAPPER esim_rsp
	OPTIONS (protocol 'camara', url 'https://rsp.example.com', smdp_address 'smdp.example.com');
INSERT INTO esim_device (eid, server) VALUES
	('89049032000000000000000000000601', 'op_rsp'), ('89049032000000000000000000000602', 'op_rsp');
INSERT INTO esim_profile (id, iccid, eid, state) VALUES
	('00000000-0000-4000-8000-000000000601', '8944000000000000601', '89049032000000000000000000000601', 'DISABLED'),
	('00000000-0000-4000-8000-000000000602', '8944000000000000602', '89049032000000000000000000000602', 'ENABLED'),
	('00000000-0000-4000-8000-000000000603', '894400000000000603', '89049032000000000000000000000602', 'DISABLED');

-- bare literals find the one signature
BEGIN;
SELECT esim_set_fallback('89049032000000000000000000000601', '8944000000000000601') IS NOT NULL AS set_fallback,
	esim_enable('8944000000000000601') IS NOT NULL AS enable,
	esim_disable('8944000000000000601', '89049032000000000000000000000601') IS NOT NULL AS disable,
	esim_delete('8944000000000000601') IS NOT NULL AS delete,
	esim_refresh('89049032000000000000000000000601') IS NOT NULL AS refresh;
ROLLBACK;
SELECT proname, count(*) FROM pg_proc WHERE proname LIKE 'esim\_%' AND pronamespace = 'public'::regnamespace
GROUP BY proname HAVING count(*) > 1;

-- identifiers
SELECT esim_enable();
SELECT esim_set_fallback('89049032000000000000000000000601');
SELECT esim_refresh(NULL);
SELECT esim_download(NULL);
SELECT esim_enable('8944000000000000699');
SELECT esim_enable(profile => '00000000-0000-4000-8000-000000000699');
SELECT esim_refresh('89049032000000000000000000000699');
SELECT esim_enable('8944000000000000601', '89049032000000000000000000000602');
SELECT esim_enable('8944000000000000602', profile => '00000000-0000-4000-8000-000000000601');
SELECT esim_refresh('89049032000000000000000000000601', profile => '00000000-0000-4000-8000-000000000602');
SELECT esim_refresh('89049032000000000000000000000601', profile => '00000000-0000-4000-8000-000000000699');
SELECT pg_temp.attempt($c$SELECT esim_refresh('89049032000000000000000000000601', profile => '00000000-0000-4000-8000-000000000601')$c$);
SELECT esim_set_fallback('89049032000000000000000000000602', '8944000000000000601');
SELECT esim_enable('89440000000000006');
SELECT esim_enable('894400000000000603');
UPDATE esim_device SET retired_at = now() WHERE eid = '89049032000000000000000000000601';
SELECT pg_temp.attempt($c$SELECT esim_enable('8944000000000000601')$c$);
SELECT pg_temp.attempt($c$SELECT esim_refresh('89049032000000000000000000000601')$c$);
UPDATE esim_device SET retired_at = NULL;
-- the profile's eUICC is no device here
UPDATE esim_profile SET eid = '89049032000000000000000000000699' WHERE iccid = '8944000000000000601';
SELECT pg_temp.attempt($c$SELECT esim_enable('8944000000000000601')$c$);
UPDATE esim_profile SET eid = '89049032000000000000000000000601' WHERE iccid = '8944000000000000601';

-- arguments
SELECT a AS arguments, pg_temp.attempt(format($c$SELECT esim_enable('8944000000000000601', %s)$c$, a)) FROM unnest(ARRAY[
	$$correlator => 'a b'$$,
	$$correlator => 'ä'$$,
	$$correlator => repeat('x', 256)$$,
	$$correlator => repeat('x', 257)$$,
	$$correlator => 'aZ09-_:;./<>{}'$$,
	$$correlator => ''$$,
	$$sink => 'http://sink.example.com/'$$,
	$$sink => 'HTTPS://sink.example.com'$$,
	$$sink => 'https://user@sink.example.com/'$$,
	$$sink => 'https:///path'$$,
	$$sink => 'https://:443/'$$,
	$$sink => 'https://sink.example.com/ x'$$,
	$$sink => E'https://sink.example.com/\nx'$$,
	$$sink => 'https://sink.example.com/ä'$$,
	$$sink => 'https://sink.example.com\@evil.example.com/'$$,
	$$sink => 'https://sink.example.com/#x'$$,
	$$sink => 'https://sink.example.com/' || repeat('x', 3000)$$,
	$$sink => 'file:///etc/passwd'$$,
	$$callback_url => 'http://call.example.com/'$$,
	$$callback_url => 'https://call.example.com/?a=@b'$$,
	$$callback_method => 'PUT'$$,
	$$callback_method => NULL$$,
	$$sink_credential => '{"name": "mine"}'$$,
	$$sink => 'https://s.example.com', sink_credential => '[]'$$,
	$$options => '[]'$$,
	$$options => NULL$$,
	$$options => jsonb_build_object('a', repeat('x', 20000))$$,
	$$options => '{"a": 1e400}'$$,
	$$not_before => 'infinity'$$,
	$$expires_at => 'infinity'$$,
	$$expires_at => '2020-01-01 00:00Z'$$,
	$$expires_at => now() + interval '1 hour', not_before => now() + interval '2 hours'$$,
	$$server => 'nowhere'$$,
	$$server => repeat('x', 64)$$,
	$$idempotency_key => E'a\tb'$$]) a;
SELECT pg_temp.attempt($c$SELECT esim_download('89049032000000000000000000000601', confirmation_code => repeat('1', 256))$c$);
SELECT pg_temp.attempt($c$SELECT esim_download('89049032000000000000000000000601', '8944000000000000611', '1$smdp.example.com$X$$1')$c$);
SELECT pg_temp.attempt($c$SELECT esim_download('89049032000000000000000000000601', '8944000000000000611', 'smdp.example.com')$c$) ~ '^22P02';

-- not a server of ours, one without a driver
CREATE FOREIGN DATA WRAPPER op_stranger;
CREATE SERVER op_strange FOREIGN DATA WRAPPER op_stranger;
SELECT pg_temp.attempt($c$SELECT esim_enable('8944000000000000601', server => 'op_strange')$c$);
DROP FOREIGN DATA WRAPPER op_stranger CASCADE;

-- a read-only transaction, a statement that is undone
BEGIN READ ONLY;
SELECT esim_enable('8944000000000000601');
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT esim_enable('8944000000000000601') IS NOT NULL AS made;
ROLLBACK TO s;
SELECT esim_enable('8944000000000000601') IS NOT NULL AS made_again;
SELECT count(*) FROM esim_pending;
ROLLBACK;

-- a trigger of a user's own on the tables still fires
CREATE FUNCTION op_note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE '% %: %', TG_TABLE_NAME, TG_OP, NEW.kind;
	RETURN NULL;
END
$$;
CREATE TRIGGER op_note AFTER INSERT ON esim_operation FOR EACH ROW EXECUTE FUNCTION op_note();
BEGIN;
SELECT esim_enable('8944000000000000601') IS NOT NULL AS made;
SELECT count(*) FROM esim_operation o JOIN esim_pending q ON q.operation = o.id AND q.seq = o.seq;
ROLLBACK;
DROP TRIGGER op_note ON esim_operation;
DROP FUNCTION op_note();

-- an identifier in a message shows its last four characters only
SELECT pg_temp.attempt($c$SELECT esim_enable('8944000000000000699')$c$, true) ~ '89440' AS leaks;

-- limits per owner
ALTER SYSTEM SET esim.max_pending_per_owner = 2;
SELECT pg_reload_conf();
\c -
SET esim.check_digits = off;
SHOW esim.max_pending_per_owner;
BEGIN;
SELECT esim_refresh('89049032000000000000000000000601') IS NOT NULL AS made;
SAVEPOINT s;
SELECT esim_refresh('89049032000000000000000000000601') IS NOT NULL AS made;
ROLLBACK TO s;
SELECT esim_refresh('89049032000000000000000000000601') IS NOT NULL AS what_was_undone_does_not_count;
-- the superuser has another name on each machine
DO $$
DECLARE
	said text;
	more text;
BEGIN
	PERFORM esim_refresh('89049032000000000000000000000601');
EXCEPTION WHEN SQLSTATE 'ES429' THEN
	GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, more = PG_EXCEPTION_DETAIL;
	RAISE NOTICE '%; %', replace(said, format('"%s"', current_user), 'OWNER'), more;
END
$$;
ROLLBACK;
SELECT ordinal, code FROM esim_refresh_many(array_fill('89049032000000000000000000000601'::eid, ARRAY[4]), on_error => 'report');
ALTER SYSTEM RESET esim.max_pending_per_owner;
SELECT pg_reload_conf();
DELETE FROM esim_pending;
DELETE FROM esim_operation;

DELETE FROM esim_profile;
DELETE FROM esim_device;
DROP SERVER op_rsp;
