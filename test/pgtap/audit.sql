-- audit.sql
--		esim_audit: a row of each call, by whom, what came of it; who reads it,
--		and that nobody changes it.

BEGIN;
SET search_path = esim, public;
SET client_min_messages = error;
SET esim.lockout_guard = off;
SELECT no_plan();
\ir fixture.psql
SELECT d || esim_eid_check_digits(d) AS eid_d FROM (VALUES ('890490320000000000000000000004')) v (d) \gset
SELECT d || esim_iccid_check_digit(d) AS iccid_n1 FROM (VALUES ('890000000000000101')) v (d) \gset
SELECT d || esim_iccid_check_digit(d) AS iccid_n2 FROM (VALUES ('890000000000000102')) v (d) \gset
SELECT d || esim_iccid_check_digit(d) AS iccid_n3 FROM (VALUES ('890000000000000103')) v (d) \gset
SELECT d || esim_iccid_check_digit(d) AS iccid_n4 FROM (VALUES ('890000000000000104')) v (d) \gset
SELECT d || esim_iccid_check_digit(d) AS iccid_n5 FROM (VALUES ('890000000000000105')) v (d) \gset
CREATE SERVER esim_test_smdp FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'es2plus', url 'https://smdp.invalid/', requester_id 'me', smdp_address 'smdp.invalid');
CREATE SERVER esim_test_eim FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'eim', url 'https://eim.invalid/');
GRANT USAGE ON FOREIGN SERVER esim_test_one, esim_test_two, esim_test_smdp, esim_test_eim TO esim_test_alice;
INSERT INTO esim_device (eid, owner, server) VALUES (:'eid_d', 'esim_test_alice', 'esim_test_eim');
INSERT INTO esim_profile (iccid, owner, state, server, subscription_status) VALUES
	(:'iccid_n2', 'esim_test_alice', 'RESERVED', 'esim_test_smdp', NULL), (:'iccid_n3', 'esim_test_alice', 'RESERVED', 'esim_test_smdp', NULL),
	(:'iccid_n4', 'esim_test_alice', 'RELEASED', 'esim_test_two', 'ACTIVE');
INSERT INTO esim_profile (iccid, eid, owner, state, server) VALUES (:'iccid_n5', :'eid_d', 'esim_test_alice', 'DISABLED', 'esim_test_eim');

SELECT esim_grant('esim_test_alice', 'download', 'enable', 'disable', 'delete', 'set-fallback', 'retrieve-status', 'retrieve-operation',
	'refresh', 'reserve', 'subscription', 'receive', 'register');
SELECT esim_grant('esim_test_bob', 'enable', 'retrieve-status', 'retrieve-operation');
SELECT esim_grant('esim_test_admin', 'admin');
CREATE ROLE esim_test_front LOGIN IN ROLE esim_test_alice, esim_test_bob, esim_test_admin NOINHERIT;

-- the rows since the last look, which are removed, without session and time; N stands for an operation
CREATE TEMP TABLE seen (function text, contents text);
CREATE FUNCTION pg_temp.audited() RETURNS text LANGUAGE sql SECURITY DEFINER AS $$
	WITH gone AS (DELETE FROM esim.esim_audit RETURNING *),
	noted AS (INSERT INTO pg_temp.seen SELECT g.function, g::text FROM gone g)
	SELECT string_agg(concat_ws(' ', g.role, g.function, g.eid::text, g.iccid::text, CASE WHEN g.operation IS NOT NULL THEN 'N' END, g.outcome),
		E'\n' ORDER BY g.function COLLATE "C", g.eid, g.iccid, g.outcome COLLATE "C")
	FROM gone g
$$;
SELECT pg_temp.audited();

--
-- operations: one row each
--
SET ROLE esim_test_alice;
SELECT esim_enable(:'iccid_a2') AS enabled \gset
RESET ROLE;
SELECT is((SELECT count(*) FROM esim_audit a JOIN esim_operation o ON o.id = a.operation AND o.eid = a.eid AND o.iccid = a.iccid
	WHERE o.id = :'enabled' AND a.at BETWEEN o.created_at AND clock_timestamp()), 1::bigint, 'the row names its operation, and both its identifiers');
SELECT is(pg_temp.audited(), format('esim_test_alice esim_enable %s %s N ACCEPTED', :'eid_a', :'iccid_a2'), 'an operation');
SET ROLE esim_test_alice;
SELECT is(esim_enable(:'iccid_a1', idempotency_key => 'k'), esim_enable(:'iccid_a1', idempotency_key => 'k'), 'a repeated call');
RESET ROLE;
SELECT is((SELECT count(DISTINCT operation) FROM esim_audit), 1::bigint, 'repeated: it is the same operation');
SELECT is(pg_temp.audited(), format(E'esim_test_alice esim_enable %1$s %2$s N ACCEPTED\nesim_test_alice esim_enable %1$s %2$s N REPEATED', :'eid_a', :'iccid_a1'),
	'repeated: both calls are there');

-- an error takes its row along, as it does everything
SET ROLE esim_test_alice;
SELECT throws_ok(format('SELECT esim_enable(%L)', :'iccid_b1'), 'ES404', NULL, 'an error');
RESET ROLE;
SELECT is(pg_temp.audited(), NULL, 'has no row');

SELECT format(call, :'eid_a', :'eid_d', :'iccid_a1', :'iccid_a2', :'iccid_n1', :'iccid_n2', :'iccid_n3', :'iccid_n4', :'iccid_n5') AS call,
	format('esim_test_alice ' || row || ' N ACCEPTED', :'eid_a', :'eid_d', :'iccid_a1', :'iccid_a2', :'iccid_n1', :'iccid_n2', :'iccid_n3', :'iccid_n4', :'iccid_n5') AS row
INTO TEMP TABLE call
FROM (VALUES
	(1, 'esim_download(%1$L, %5$L, ''1$smdp.invalid$TOP-SECRET-1'')', 'esim_download %1$s %5$s'),
	(2, 'esim_disable(%3$L)', 'esim_disable %1$s %3$s'),
	(3, 'esim_set_fallback(iccid => %3$L)', 'esim_set_fallback %1$s %3$s'),
	(4, 'esim_delete(%4$L)', 'esim_delete %1$s %4$s'),
	(5, 'esim_refresh(%1$L)', 'esim_refresh %1$s'),
	(6, 'esim_unset_fallback(%2$L)', 'esim_unset_fallback %2$s'),
	(7, 'esim_enable(%9$L, sink => ''https://a.example/'', sink_credential => ''{"credentialType": "ACCESSTOKEN", "accessToken": "TOP-SECRET-3"}'')', 'esim_enable %2$s %9$s'),
	(8, 'esim_reserve(profile_type => ''p'', matching_id => ''TOP-SECRET-4'', confirmation_code => ''TOP-SECRET-2'', server => ''esim_test_smdp'')', 'esim_reserve'),
	(9, 'esim_release(%6$L)', 'esim_release %6$s'),
	(10, 'esim_cancel_order(%7$L)', 'esim_cancel_order %7$s'),
	(11, 'esim_set_subscription(%8$L, ''INACTIVE'')', 'esim_set_subscription %8$s'),
	(12, 'esim_fleet_create(''f'', ''{"NetworkAccessProfile": "HA00000000000000000000000000000001"}'', server => ''esim_test_two'')', 'esim_fleet_create'),
	(13, 'esim_assign_fleet(%8$L, ''f'')', 'esim_assign_fleet %8$s'),
	(14, 'esim_sync(''esim_test_two'')', 'esim_sync')) v (n, call, row)
ORDER BY n;
CREATE FUNCTION pg_temp.call(call text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL ROLE esim_test_alice;
	EXECUTE 'SELECT ' || call;
	RESET ROLE;
	RETURN pg_temp.audited();
END
$$;
SELECT is(pg_temp.call(call), row, substring(call, '^[a-z_]+')) FROM call;

-- a sync with a server that lists one eUICC at a time: its refreshes too
SET ROLE esim_test_alice;
SELECT esim_sync('esim_test_one');
RESET ROLE;
SELECT is(pg_temp.audited(), 'esim_test_alice esim_sync N ACCEPTED', 'esim_sync, where a refresh waits already');
DELETE FROM esim_pending WHERE kind = 'refresh';
SET ROLE esim_test_alice;
SELECT esim_sync('esim_test_one');
RESET ROLE;
SELECT is(pg_temp.audited(), format(E'esim_test_alice esim_sync %s N ACCEPTED\nesim_test_alice esim_sync N ACCEPTED', :'eid_a'), 'esim_sync and the refresh that it asks for');

--
-- many: a row of each element, also of what is refused
--
SELECT f AS function, format('%s(%s on_error => ''report'')', f, a) AS call, n INTO TEMP TABLE bulk
FROM (VALUES
	('esim_download_many', '%1$L::eid[], %2$L::iccid[],', 2), ('esim_enable_many', '%2$L::iccid[],', 2), ('esim_disable_many', '%2$L::iccid[],', 2),
	('esim_delete_many', '%2$L::iccid[],', 2), ('esim_set_fallback_many', 'iccids => %2$L::iccid[],', 2),
	('esim_unset_fallback_many', '%1$L::eid[],', 2), ('esim_refresh_many', '%1$L::eid[],', 2), ('esim_reserve_many', 'iccids => %2$L::iccid[],', 2),
	('esim_release_many', '%2$L::iccid[],', 2), ('esim_cancel_order_many', '%2$L::iccid[],', 2),
	('esim_set_subscription_many', '%2$L::iccid[], ''ACTIVE'',', 2), ('esim_assign_fleet_many', '%2$L::iccid[], ''f'',', 2),
	('esim_fleet_create_many', '''{f,g}''::text[], server => ''esim_test_one'',', 2), ('esim_sync_many', '''{esim_test_one,no}''::text[],', 2)) v (f, a, n);
CREATE FUNCTION pg_temp.bulk(call text) RETURNS TABLE (operations bigint, refused bigint, answer text) LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL ROLE esim_test_alice;
	EXECUTE 'SELECT count(r.operation), count(r.code), string_agg(coalesce(r.code, ''ACCEPTED''), '' '' ORDER BY coalesce(r.code, ''ACCEPTED'')) FROM ' || call || ' r'
	INTO operations, refused, answer;
	RESET ROLE;
	RETURN NEXT;
END
$$;
CREATE TEMP TABLE told AS
SELECT b.function, t.*, (SELECT string_agg(a.outcome, ' ' ORDER BY a.outcome) FROM esim_audit a WHERE a.function = b.function) AS nothing, NULL::text AS rows, NULL::bigint AS n
FROM bulk b, pg_temp.bulk(format(b.call, ARRAY[:'eid_a', :'eid_b'], ARRAY[:'iccid_a2', :'iccid_b1'])) t;
UPDATE told t SET n = (SELECT count(*) FROM esim_audit a WHERE a.function = t.function AND NOT (a.function = 'esim_sync_many' AND a.eid IS NOT NULL)),
	rows = (SELECT string_agg(a.outcome, ' ' ORDER BY a.outcome) FROM esim_audit a WHERE a.function = t.function AND NOT (a.function = 'esim_sync_many' AND a.eid IS NOT NULL)
		AND a.role = 'esim_test_alice' AND (a.outcome = 'ACCEPTED') = (a.operation IS NOT NULL));
SELECT is(t.rows, t.answer, t.function || ': what it answered, and what was noted') FROM told t ORDER BY t.function COLLATE "C";
SELECT is(t.n, 2::bigint, t.function || ': a row of each element') FROM told t ORDER BY t.function COLLATE "C";
SELECT ok((SELECT count(*) > 0 FROM told WHERE operations > 0 AND refused > 0), 'some were refused beside others that were not');
SELECT is((SELECT string_agg(right(a.eid::text, 4) || ' ' || a.outcome, ', ' ORDER BY a.outcome) FROM esim_audit a WHERE a.function = 'esim_refresh_many'),
	format('%s ACCEPTED, %s IDENTIFIER_NOT_FOUND', right(:'eid_a', 4), right(:'eid_b', 4)), 'the EID that was asked for stands in the row, also another owner''s');
SELECT pg_temp.audited() IS NULL;

-- more than are inserted at a time
SET esim.check_digits = off;
CREATE TEMP TABLE large AS SELECT ('89049033' || lpad(n::text, 24, '0'))::eid AS eid FROM generate_series(1, 5000) n;
INSERT INTO esim_device (eid, owner, server) SELECT eid, 'esim_test_alice', 'esim_test_one' FROM large;
RESET esim.check_digits;
GRANT SELECT ON large TO PUBLIC;
SET ROLE esim_test_alice;
SELECT count(*) FROM esim_refresh_many((SELECT array_agg(eid) FROM large));
RESET ROLE;
SELECT is((SELECT count(DISTINCT (a.eid, a.operation)) FROM esim_audit a JOIN esim_operation o ON o.id = a.operation AND o.eid = a.eid), 5000::bigint, 'a large call');
-- a table with something of the owner's own on it is written by a statement
ALTER TABLE esim_audit ADD CHECK (outcome <> 'never'), ADD note text DEFAULT 'n';
SET ROLE esim_test_alice;
SELECT count(*) FROM esim_refresh_many((SELECT array_agg(eid) FROM (SELECT eid FROM large LIMIT 10) l));
RESET ROLE;
SELECT is((SELECT count(*) FROM esim_audit WHERE note = 'n' AND function = 'esim_refresh_many' AND operation IN (SELECT id FROM esim_operation)), 5010::bigint, 'the table altered by its owner');
ALTER TABLE esim_audit DROP note;
DELETE FROM esim_audit;
DELETE FROM esim_pending WHERE eid IN (SELECT eid FROM large);
DELETE FROM esim_device WHERE eid IN (SELECT eid FROM large);

--
-- what is done with operations
--
SELECT pg_temp.operation('esim_test_alice', :'eid_a', :'profile_a1', 'enable', '1 minute') AS queued \gset
SELECT pg_temp.operation('esim_test_alice', :'eid_a', :'profile_a1', 'enable', '1 hour', 'SUCCESS') AS done \gset
SELECT pg_temp.operation('esim_test_alice', :'eid_d', NULL, 'refresh', '1 hour', 'FAILED', at_server => 'esim_test_eim') AS failed \gset
SET ROLE esim_test_alice;
SELECT ok(esim_cancel(:'queued'), 'cancel');
SELECT ok(NOT esim_cancel(:'done'), 'cancel what has completed');
RESET ROLE;
SELECT is((SELECT string_agg(outcome, ' ' ORDER BY outcome) FROM esim_audit WHERE (outcome = 'CANCELLED') = (operation = :'queued')), 'CANCELLED COMPLETED', 'the rows name what was to be cancelled');
SELECT is(pg_temp.audited(), format(E'esim_test_alice esim_cancel %1$s N CANCELLED\nesim_test_alice esim_cancel %1$s N COMPLETED', :'eid_a'), 'esim_cancel');
SET ROLE esim_test_alice;
SELECT operation AS again FROM esim_retry(ARRAY[:'failed', :'done', gen_random_uuid()]::uuid[]) WHERE ordinal = 1 \gset
RESET ROLE;
SELECT is(pg_temp.audited(), format(E'esim_test_alice esim_retry %s N ACCEPTED\nesim_test_alice esim_retry N INCOMPATIBLE_STATE\nesim_test_alice esim_retry N NOT_FOUND', :'eid_d'),
	'esim_retry: the new operation, and those that are not repeated');
INSERT INTO esim_notification (operation, target, format) VALUES (:'done', 'https://a.invalid/', 'cloudevent') RETURNING id AS notification \gset
SET ROLE esim_test_alice;
SELECT esim_redeliver(:'notification');
RESET ROLE;
SELECT is(pg_temp.audited(), format('esim_test_alice esim_redeliver %s N QUEUED %s', :'eid_a', :'notification'), 'esim_redeliver');

-- credentials: the name, never the value
SET ROLE esim_test_alice;
SELECT esim_set_credential('hook', 'bearer', 'TOP-SECRET-5');
SELECT esim_drop_credential('hook'), esim_drop_credential('hook');
RESET ROLE;
SELECT is(pg_temp.audited(), E'esim_test_alice esim_drop_credential DROPPED hook of esim_test_alice\nesim_test_alice esim_drop_credential NOT_FOUND hook of esim_test_alice\nesim_test_alice esim_set_credential STORED bearer hook of esim_test_alice', 'credentials');

-- events of RSPs, and the operation that one leads to
SET ROLE esim_test_alice;
SELECT is(esim_receive('esim_test_smdp', jsonb_build_object('header', jsonb_build_object('functionRequesterIdentifier', 'x', 'functionCallIdentifier', 'y'),
	'iccid', :'iccid_n1', 'eid', :'eid_a', 'profileType', 'A', 'timestamp', '2026-11-01T10:00:00Z', 'notificationPointId', 4,
	'notificationPointStatus', jsonb_build_object('status', 'Executed-Success'))), 'unknown', 'an event');
RESET ROLE;
SELECT is(pg_temp.audited(), format('esim_test_alice esim_receive %s %s unknown, server esim_test_smdp', :'eid_a', :'iccid_n1'), 'esim_receive');
DELETE FROM esim_pending;
SET ROLE esim_test_alice;
SELECT is(esim_receive('esim_test_one', jsonb_build_object('specversion', '1.0', 'type', 'com.camara.esim-management.vwip.operation-completed', 'source', 'urn:x',
	'id', '1', 'data', jsonb_build_object('esim', jsonb_build_object('eid', :'eid_a')))), 'asked', 'an event that has a device asked for');
RESET ROLE;
SELECT is(pg_temp.audited(), format(E'esim_test_alice esim_receive %1$s N ACCEPTED\nesim_test_alice esim_receive %1$s asked, server esim_test_one', :'eid_a'), 'esim_receive and its refresh');

-- CAMARA: what is done by its function, what is refused by its answer
CREATE FUNCTION pg_temp.ask(path text, body text, token text DEFAULT 'Bearer TOP-SECRET-6') RETURNS int LANGUAGE sql AS $$
	SELECT a.status FROM esim.esim_camara('POST', path, jsonb_build_object('Authorization', token, 'Content-Type', 'application/json'), body) a
$$;
SET ROLE esim_test_alice;
SELECT is(pg_temp.ask('/esim-profile-management/vwip/disable', format('{"esimProfile": {"eid": "%s", "iccid": "%s"}}', :'eid_a', :'iccid_a1')), 202, 'a request');
SELECT is(pg_temp.ask('/esim-profile-management/vwip/enable', format('{"esimProfile": {"eid": "%s", "iccid": "%s"}}', :'eid_b', :'iccid_b1')), 404, 'another''s');
SELECT is(pg_temp.ask('/esim-profile-management/vwip/retrieve-status', format('{"esimProfile": {"eid": "%s"}}', :'eid_b')), 404, 'reading another''s');
SELECT is(pg_temp.ask('/esim-profile-management/vwip/retrieve-status', format('{"esimProfile": {"eid": "%s"}}', :'eid_a')), 200, 'reading one''s own');
SELECT is(pg_temp.ask('/esim-profile-management/vwip/enable', '{"TOP-SECRET-7": 1}'), 400, 'a bad body');
SELECT is(pg_temp.ask('/TOP-SECRET-8', '{}'), 404, 'a bad path');
SET ROLE esim_test_bob;
SELECT is(pg_temp.ask('/esim-profile-management/vwip/delete', '{}'), 403, 'without the scope')
WHERE has_function_privilege('esim_camara(text, text, jsonb, text)', 'EXECUTE');
RESET ROLE;
SELECT is(pg_temp.audited(), format($$esim_test_alice esim_camara %2$s %3$s 404 IDENTIFIER_NOT_FOUND, esim_enable
esim_test_alice esim_camara %2$s 404 IDENTIFIER_NOT_FOUND, esim_status
esim_test_alice esim_camara 400 INVALID_ARGUMENT, esim_enable
esim_test_bob esim_camara 403 PERMISSION_DENIED, esim_delete
esim_test_alice esim_camara 404 NOT_FOUND
esim_test_alice esim_disable %1$s %4$s N ACCEPTED$$, :'eid_a', :'eid_b', :'iccid_b1', :'iccid_a1'), 'esim_camara');

-- where nothing can be written, the API still answers
SAVEPOINT s;
SET LOCAL transaction_read_only = on;
SET LOCAL ROLE esim_test_alice;
SELECT pg_temp.ask('/esim-profile-management/vwip/retrieve-status', format('{"esimProfile": {"eid": "%s"}}', :'eid_b')) AS answer \gset
ROLLBACK TO s;
SELECT is(:answer, 404, 'READ ONLY: a refused request is answered');
SELECT is(pg_temp.audited(), NULL, 'READ ONLY: and leaves no row');
-- what is undone in part
SAVEPOINT s;
SET LOCAL ROLE esim_test_alice;
SELECT count(*) FROM esim_refresh_many(ARRAY[:'eid_b']::eid[], on_error => 'report');
ROLLBACK TO s;
SELECT is(pg_temp.audited(), NULL, 'ROLLBACK TO SAVEPOINT takes the rows along');

--
-- administrators' functions
--
SET ROLE esim_test_admin;
SELECT esim_pause('esim_test_one'), esim_pause('esim_test_one'), esim_pause();
RESET ROLE;
SELECT is(pg_temp.audited(), E'esim_test_admin esim_pause PAUSED database\nesim_test_admin esim_pause PAUSED server esim_test_one\nesim_test_admin esim_pause UNCHANGED server esim_test_one', 'esim_pause');
SET ROLE esim_test_admin;
SELECT esim_resume('esim_test_one'), esim_resume('esim_test_one');
RESET ROLE;
SELECT is(pg_temp.audited(), E'esim_test_admin esim_resume RESUMED server esim_test_one\nesim_test_admin esim_resume UNCHANGED server esim_test_one', 'esim_resume');
DELETE FROM esim_pending;
SET ROLE esim_test_admin;
SELECT esim_transfer(:'eid_b', 'esim_test_alice'), esim_transfer(:'eid_b', 'esim_test_alice'), esim_transfer(:'eid_b', 'esim_test_bob');
RESET ROLE;
SELECT is(pg_temp.audited(), format(E'esim_test_admin esim_transfer %1$s TRANSFERRED from esim_test_alice to esim_test_bob\nesim_test_admin esim_transfer %1$s TRANSFERRED from esim_test_bob to esim_test_alice\nesim_test_admin esim_transfer %1$s UNCHANGED owner esim_test_alice', :'eid_b'), 'esim_transfer, and no row of the table''s trigger');
ALTER ROLE esim_test_bob RENAME TO esim_test_robert;
SET ROLE esim_test_admin;
SELECT * FROM esim_reassign_owned('esim_test_bob', 'esim_test_robert');
RESET ROLE;
SELECT matches(pg_temp.audited(), '^esim_test_admin esim_reassign_owned REASSIGNED from esim_test_bob to esim_test_robert: devices 1, profiles \d+, operations \d+, fleets 1, credentials \d+$',
	'esim_reassign_owned: one row');
ALTER ROLE esim_test_robert RENAME TO esim_test_bob;
SELECT * FROM esim_reassign_owned('esim_test_robert', 'esim_test_bob');
SELECT pg_temp.audited();
SET ROLE esim_test_admin;
SELECT esim_grant('esim_test_none', 'enable', 'disable', 'enable'), esim_revoke('esim_test_none', 'enable');
RESET ROLE;
SELECT is(pg_temp.audited(), E'esim_test_admin esim_grant GRANTED disable, enable esim_test_none\nesim_test_admin esim_revoke REVOKED enable esim_test_none', 'esim_grant, esim_revoke: one row, also where other scopes stay');
SET ROLE esim_test_admin;
SELECT esim_refresh_oldest(1);
RESET ROLE;
SELECT alike(pg_temp.audited(), '%esim_test_admin esim_refresh_oldest QUEUED _%', 'esim_refresh_oldest');

--
-- devices that are written by users
--
SET ROLE esim_test_alice;
INSERT INTO esim_device (eid, server, label) VALUES (:'eid_c', 'esim_test_one', 'TOP-SECRET-9');
UPDATE esim_device SET label = 'x', imei = '490154203237518' WHERE eid = :'eid_c';
UPDATE esim_device SET server = server, retired_at = retired_at WHERE eid = :'eid_c';
RESET ROLE;
SELECT is(pg_temp.audited(), format('esim_test_alice INSERT esim_device %s owner_name esim_test_alice, server esim_test_one', :'eid_c'), 'registering; not what says nothing of the server');
SET ROLE esim_test_alice;
UPDATE esim_device SET server = 'esim_test_eim' WHERE eid = :'eid_c';
UPDATE esim_device SET server = NULL, retired_at = '2026-01-02 03:04:05+00' WHERE eid = :'eid_c';
INSERT INTO esim_device (eid) VALUES (:'eid_c') ON CONFLICT DO NOTHING;
RESET ROLE;
SELECT is(pg_temp.audited(), format(E'esim_test_alice UPDATE esim_device %1$s server NULL, retired_at 2026-01-02T03:04:05+00:00\nesim_test_alice UPDATE esim_device %1$s server esim_test_eim', :'eid_c'), 'moved, retired');
-- as the restore of a dump does
UPDATE esim_device SET retired_at = NULL WHERE eid = :'eid_c';
DELETE FROM esim_device WHERE eid = :'eid_c';
INSERT INTO esim_device (eid, owner) VALUES (:'eid_c', 'esim_test_alice');
SELECT is(pg_temp.audited(), NULL, 'who is above row-level security leaves no row');
CREATE TRIGGER t AFTER INSERT ON seen FOR EACH ROW EXECUTE FUNCTION esim_audit_device();
SELECT throws_ok($$INSERT INTO seen VALUES ('x')$$, '39P01', NULL, 'the trigger works on its table only');
DROP TRIGGER t ON seen;

--
-- who: the current role, and in the session who has logged in
--
SET SESSION AUTHORIZATION esim_test_front;
SET application_name = 'shop "x", user: postgres';
SET ROLE esim_test_bob;
SELECT count(*) FROM esim_enable_many(ARRAY[:'iccid_b1']::iccid[], on_error => 'report');
SET ROLE esim_test_admin;
SELECT esim_pause('esim_test_two');
RESET SESSION AUTHORIZATION;
SELECT is((SELECT string_agg(role || ' ' || function, ', ' ORDER BY function) FROM esim_audit), 'esim_test_bob esim_enable_many, esim_test_admin esim_pause', 'SET ROLE: the current role');
SELECT is((SELECT array_agg(DISTINCT session::jsonb ->> 'user') FROM esim_audit), '{esim_test_front}', 'and who has logged in');
SELECT is((SELECT array_agg(DISTINCT session::jsonb ->> 'login') FROM esim_audit), ARRAY[session_user::text], 'and whom SET SESSION AUTHORIZATION was for');
SELECT is((SELECT array_agg(DISTINCT (session::jsonb ->> 'pid')::int) FROM esim_audit), ARRAY[pg_backend_pid()], 'the process');
SELECT is((SELECT array_agg(DISTINCT session::jsonb ->> 'application') FROM esim_audit), ARRAY['shop "x", user: postgres'], 'application_name passes for nothing else');
SELECT is((SELECT array_agg(DISTINCT (session::jsonb ->> 'started')::timestamptz) FROM esim_audit),
	(SELECT array_agg(backend_start) FROM pg_stat_activity WHERE pid = pg_backend_pid()), 'when the session began');
SELECT is((SELECT array_agg(DISTINCT session::jsonb ->> 'client') FROM esim_audit), ARRAY[coalesce(host(inet_client_addr()), 'local')], 'from where');
RESET application_name;
SELECT esim_resume('esim_test_two');
SELECT is((SELECT session::jsonb ->> 'user' FROM esim_audit WHERE function = 'esim_resume'), session_user::text, 'the session''s text follows its user');
SELECT ok((SELECT NOT session::jsonb ? 'login' FROM esim_audit WHERE function = 'esim_resume'), 'who is the same is not named twice');
DELETE FROM esim_audit WHERE function <> 'esim_resume';
SELECT is((SELECT role FROM esim_audit), session_user::text, 'without SET ROLE: the session''s user');
-- a function of somebody else's that runs with the rights of its owner
CREATE FUNCTION pg_temp.by_alice(iccid iccid) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = esim
	AS $$SELECT count(*) FROM esim_enable_many(ARRAY[$1], on_error => 'report')$$;
ALTER FUNCTION pg_temp.by_alice(iccid) OWNER TO esim_test_alice;
SELECT pg_temp.audited();
SELECT pg_temp.by_alice(:'iccid_a1');
SELECT is((SELECT role || ' ' || (session::jsonb ->> 'user') FROM esim_audit), 'esim_test_alice ' || session_user, 'SECURITY DEFINER: the role whose rights counted, and who has logged in');
SELECT pg_temp.audited();

--
-- every function that a scope gives either leaves rows, as seen above, or only reads
--
SELECT is_empty($$
	SELECT DISTINCT p.proname FROM esim_scope_rights() r JOIN pg_proc p ON p.oid = r.object
	WHERE r.kind = 'FUNCTION' AND p.proname NOT IN (SELECT s.function FROM seen s UNION SELECT t.function FROM told t)
	-- these read
	AND p.proname <> ALL ('{esim_status,esim_timeline,esim_activation_code,esim_capabilities,esim_operation_status,esim_wait,esim_queue_counts,esim_health,
		esim_worker_status,esim_scopes,esim_cron_database,esim_check_cron}')
	-- and these are tested below, and with pg_cron in test/t/021_maintenance.pl
	AND p.proname <> ALL ('{esim_prune,esim_schedule_maintenance,esim_unschedule_maintenance,esim_audit_maintenance}')$$, 'no function is forgotten');
SET ROLE esim_test_alice;
SELECT count(*) FROM esim_status(:'eid_a');
SELECT count(*) FROM esim_timeline(:'eid_a');
SELECT count(*) FROM esim_capabilities();
SELECT esim_operation_status(:'done');
SELECT esim_activation_code(:'iccid_a1');
RESET ROLE;
SELECT is(pg_temp.audited(), NULL, 'who only reads leaves no row');

--
-- who reads it, and that nobody changes it
--
SET ROLE esim_test_alice;
SELECT count(*) FROM esim_refresh_many(ARRAY[:'eid_a']::eid[]);
SELECT throws_ok('SELECT * FROM esim_audit', '42501', NULL, 'a tenant does not read it, not even of himself');
SELECT throws_ok(format($$INSERT INTO esim_audit (role, function) VALUES (%L, 'esim_delete')$$, 'esim_test_bob'), '42501', NULL, 'nor writes it');
SELECT throws_ok($$SELECT esim_audit_note('esim_delete', 'x')$$, '42501', NULL, 'by function neither');
SELECT throws_ok($$SELECT esim_audit_scopes('esim_grant', 'x', 'esim_test_bob', '{}')$$, '42501', NULL, 'nor by others');
SELECT throws_ok($$SELECT esim_grant_scopes('esim_test_alice', '{admin}')$$, '42501', NULL, 'scopes are granted by esim_grant() alone');
SET ROLE esim_test_admin;
SELECT is((SELECT count(*) FROM esim_audit WHERE role = 'esim_test_alice'), 1::bigint, 'the scope admin reads all of it');
SELECT throws_ok(s, '42501', NULL, 'admin: ' || s)
FROM unnest(ARRAY['DELETE FROM esim_audit', 'UPDATE esim_audit SET role = NULL', 'TRUNCATE esim_audit', $$INSERT INTO esim_audit (role, function) VALUES ('x', 'y')$$,
	'DROP TABLE esim_audit', 'ALTER TABLE esim_audit DISABLE ROW LEVEL SECURITY', 'DROP TRIGGER esim_audit_insert ON esim_device',
	'ALTER TABLE esim_device DISABLE TRIGGER ALL', $$SELECT esim_audit_note('x', 'y')$$]) s;
RESET ROLE;
SELECT is((SELECT string_agg(DISTINCT a.grantee::regrole || ' ' || a.privilege_type, ', ') FROM pg_class c, aclexplode(c.relacl) a
	WHERE c.oid = 'esim_audit'::regclass AND a.grantee <> c.relowner), 'esim_test_admin SELECT', 'nobody has any other right on it');
CREATE ROLE esim_test_all IN ROLE pg_read_all_data, pg_write_all_data;
CREATE ROLE esim_test_auditor;
GRANT SELECT ON esim_audit TO esim_test_auditor;
SET ROLE esim_test_all;
SELECT is((SELECT count(*) FROM esim_audit), 0::bigint, 'pg_read_all_data alone sees nothing of it');
SELECT is_empty('DELETE FROM esim_audit RETURNING *', 'pg_write_all_data removes nothing');
-- nor of what comes from platforms, and what it means
SELECT is((SELECT count(*) FROM esim_event), 0::bigint, 'pg_read_all_data alone sees no event');
SELECT is((SELECT count(*) FROM esim_notification_point), 0::bigint, 'nor a notification point');
SELECT throws_ok($$INSERT INTO esim_notification_point (point, meaning) VALUES (4, 'DELETED')$$, '42501', NULL, 'pg_write_all_data changes no meaning');
SELECT is_empty('UPDATE esim_notification_point SET meaning = meaning RETURNING *', 'of none');
SET ROLE esim_test_admin;
SELECT isnt((SELECT count(*) FROM esim_event), 0::bigint, 'the scope admin sees events');
SELECT lives_ok($$INSERT INTO esim_notification_point (server, point, meaning) VALUES ('esim_test_one', 77, 'DELETED')$$, 'and says what points mean');
SELECT isnt_empty('UPDATE esim_notification_point SET note = note WHERE point = 77 RETURNING *', 'anew');
SELECT isnt_empty('DELETE FROM esim_notification_point WHERE point = 77 RETURNING *', 'or no more');
SET ROLE esim_test_all;
SELECT throws_ok($$INSERT INTO esim_audit (role, function) VALUES ('x', 'y')$$, '42501', NULL, 'nor adds anything');
SET ROLE esim_test_auditor;
SELECT ok((SELECT count(*) > 0 FROM esim_audit), 'an auditor with SELECT and nothing else does');
RESET ROLE;
SELECT pg_temp.audited();

--
-- prune
--
INSERT INTO esim_audit (at, role, function) SELECT now() - n * interval '10 days', 'x', 'old' FROM generate_series(1, 40) n;
SET ROLE esim_test_admin;
SELECT is((SELECT removed FROM esim_prune('{"older_than": "0"}') WHERE what = 'audit'), 0::bigint, 'prune: rows stay unless it is asked for');
SELECT throws_ok(format('SELECT * FROM esim_prune(%L)', o), 'ES400', m, 'prune: ' || o)
FROM (VALUES ('{"audit_older_than": "0"}', 'option "audit_older_than" is out of range'), ('{"audit_older_than": "89 days"}', 'option "audit_older_than" is out of range'),
	('{"audit_older_than": "soon"}', 'invalid value for option "audit_older_than": "soon"'), ('{"audit_older_than": 5}', 'option "audit_older_than" has the wrong type')) v (o, m);
SELECT is((SELECT removed FROM esim_prune('{"audit_older_than": "200 days", "batch": 7, "max_batches": 2}') WHERE what = 'audit'), 14::bigint, 'prune: no more than batch * max_batches at once');
SELECT is((SELECT removed FROM esim_prune('{"audit_older_than": "200 days", "batch": 7, "max_batches": 2}') WHERE what = 'audit'), 6::bigint, 'prune: the rest');
RESET ROLE;
SELECT is((SELECT count(*) FROM esim_audit WHERE function = 'old'), 20::bigint, 'prune: what is younger stays');
DELETE FROM esim_audit WHERE function = 'old';
SELECT alike(pg_temp.audited(), E'%esim_prune REMOVED 14 audit\n%esim_prune REMOVED 6 audit', 'prune: its own rows say what it removed');

SELECT is_empty($$SELECT contents FROM seen WHERE contents LIKE '%TOP-SECRET%'$$, 'no secret came into it');

SELECT * FROM finish();
ROLLBACK;
