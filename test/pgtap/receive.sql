-- receive.sql
--		esim_receive, without workers: rights, hints, orders at an SM-DP+, bad input.

BEGIN;
SET search_path = esim, public;
SELECT no_plan();
\ir fixture.psql
CREATE SERVER esim_test_smdp FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'es2plus', url 'https://smdp.invalid/', requester_id 'me');
CREATE SERVER esim_test_eim FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'eim', url 'https://eim.invalid/');

CREATE FUNCTION pg_temp.cloudevent(id text, data jsonb, type text DEFAULT 'com.camara.esim-management.vwip.operation-completed') RETURNS jsonb
LANGUAGE sql AS $$ SELECT jsonb_build_object('specversion', '1.0', 'type', type, 'source', 'urn:x', 'id', id, 'data', data) $$;
CREATE FUNCTION pg_temp.progress(iccid text, eid text, point int, status text DEFAULT 'Executed-Success', call text DEFAULT gen_random_uuid()::text) RETURNS jsonb
LANGUAGE sql AS $$ SELECT jsonb_strip_nulls(jsonb_build_object('header', jsonb_build_object('functionRequesterIdentifier', 'x', 'functionCallIdentifier', call),
	'iccid', iccid, 'eid', eid, 'profileType', 'A', 'timestamp', '2026-11-01T10:00:00Z', 'notificationPointId', point,
	'notificationPointStatus', jsonb_build_object('status', status))) $$;

--
-- rights and bad input
--
SET ROLE esim_test_alice;
SELECT throws_ok($$SELECT esim_receive('esim_test_one', '{}')$$, '42501', NULL, 'without the scope');
RESET ROLE;
SELECT lives_ok($$SELECT esim_grant('esim_test_alice', 'receive')$$, 'the scope receive');
SET ROLE esim_test_alice;
SELECT throws_ok($$SELECT esim_receive('esim_test_one', '{}')$$, 'ES403', NULL, 'without USAGE on the server');
SELECT throws_ok($$SELECT * FROM esim_event$$, '42501', NULL, 'events are not for front ends');
RESET ROLE;
SELECT throws_ok($$SELECT esim_receive('esim_test_none', '{}')$$, 'ES404', NULL, 'an unknown server');
SELECT throws_ok(format('SELECT esim_receive(%L, %L, %L)', s, e, o), 'ES400', NULL, format('%s: %s %s', s, left(e, 40), o))
FROM (VALUES
	('esim_test_one', NULL, '{}'), ('esim_test_one', '5', '{}'), ('esim_test_one', '{}', '{}'), ('esim_test_one', '{"type": "x", "source": "y"}', '{}'),
	('esim_test_one', '{"type": 1, "source": {}, "id": ""}', '{}'), ('esim_test_one', '{}', '[]'), ('esim_test_one', '{}', '{"body": 1}'),
	('esim_test_smdp', '{}', '{}'), ('esim_test_smdp', '{"iccid": "abc", "notificationPointId": 4}', '{}'),
	('esim_test_two', '{}', '{}'), ('esim_test_two', '{"Sid": "nothing"}', '{}'), ('esim_test_two', '{}', '{"query": "a=%zz"}'),
	('esim_test_one', jsonb_build_object('type', repeat('x', 70000))::text, '{}')) v (s, e, o);
SELECT is((SELECT count(*) FROM esim_event), 0::bigint, 'nothing of it is kept');
SELECT is(esim_receive('esim_test_eim', '{"a": 1}'), 'ignored', 'an eIM has no events');

--
-- camara: hints
--
SELECT pg_temp.operation('esim_test_alice', :'eid_a', :'profile_a1', 'enable', '1 hour', 'SUCCESS') AS done \gset
SELECT pg_temp.operation('esim_test_alice', :'eid_a', :'profile_a1', 'disable', '1 minute') AS open \gset
INSERT INTO esim_attempt (operation, number, at, method, url) VALUES (:'done', 100, now(), 'GET', 'https://one.invalid/operations/op-1');
UPDATE esim_operation SET rsp_operation_id = 'op-2' WHERE id = :'open';
UPDATE esim_pending SET rsp_operation_id = 'op-2', state = 'W', acting = 1, next_at = now() + interval '1 hour' WHERE operation = :'open';
SELECT is(esim_receive('esim_test_one', pg_temp.cloudevent('1', jsonb_build_object('operationId', 'op-2', 'esim', jsonb_build_object('eid', :'eid_a')))), 'asked', 'an operation that waits');
SELECT ok((SELECT next_at <= clock_timestamp() FROM esim_pending WHERE operation = :'open'), 'is due now');
SELECT is(esim_receive('esim_test_one', pg_temp.cloudevent('1', '{}')), 'duplicate', 'the same id and source');
SELECT is(esim_receive('esim_test_one', pg_temp.cloudevent('2', jsonb_build_object('operationId', 'op-2'))), 'asked', 'without the EID');
SELECT is(esim_receive('esim_test_one', pg_temp.cloudevent('3', jsonb_build_object('correlationId', :'open'))), 'asked', 'by our own identifier');
SELECT is(esim_receive('esim_test_one', pg_temp.cloudevent('4', jsonb_build_object('operationId', 'op-1', 'esim', jsonb_build_object('eid', :'eid_a')), 'esim-enabled')), 'duplicate', 'one that has completed, a type of the diagram');
SELECT is(esim_receive('esim_test_one', pg_temp.cloudevent('5', '{"operationId": "other"}')), 'unknown', 'one that is not ours');
SELECT is(esim_receive('esim_test_one', pg_temp.cloudevent('5', '{"operationId": "other"}')), 'unknown', 'which may be ours the next time');
SELECT is(esim_receive('esim_test_one', pg_temp.cloudevent('6', '{}', 'org.example.other')), 'ignored', 'a type that says nothing');
SELECT is(esim_receive('esim_test_one', pg_temp.cloudevent('7', jsonb_build_object('esim', jsonb_build_object('eid', :'eid_b')), 'esim-fallback-set')), 'asked', 'news of an eUICC of ours');
SELECT is((SELECT count(*) FROM esim_operation WHERE kind = 'refresh' AND eid = :'eid_b' AND owner = 'esim_test_bob'::regrole), 1::bigint, 'has it listed, for its owner');
SELECT is(esim_receive('esim_test_one', pg_temp.cloudevent('8', jsonb_build_object('esim', jsonb_build_object('eid', :'eid_b')), 'esim-fallback-set')), 'asked', 'once more');
SELECT is((SELECT count(*) FROM esim_operation WHERE kind = 'refresh' AND eid = :'eid_b'), 1::bigint, 'one refresh is enough');
UPDATE esim_pending SET acting = 0, step = 0, rsp_operation_id = NULL, next_at = now() + interval '1 hour' WHERE operation = :'open';
SELECT is(esim_receive('esim_test_one', pg_temp.cloudevent('9', jsonb_build_object('correlationId', :'open'))), 'asked', 'one that waits for not_before');
SELECT ok((SELECT next_at > clock_timestamp() FROM esim_pending WHERE operation = :'open'), 'waits on');

--
-- es2plus: what counts
--
INSERT INTO esim_device (eid, owner, server) VALUES (:'eid_c', 'esim_test_alice', 'esim_test_smdp');
INSERT INTO esim_profile (id, iccid, reserved_eid, owner, state, server) VALUES ('00000000-0000-4000-8000-0000000000c1', :'iccid_a3', :'eid_c', 'esim_test_alice', 'RELEASED', 'esim_test_smdp');
SELECT is(esim_receive('esim_test_smdp', pg_temp.progress(:'iccid_a3', :'eid_a', 4)), 'unknown', 'the EID of another eUICC');
SELECT is(esim_receive('esim_test_smdp', pg_temp.progress(:'iccid_a3', NULL, 4)), 'unknown', 'no EID where the order has one');
SELECT is(esim_receive('esim_test_smdp', pg_temp.progress(:'iccid_a1', :'eid_a', 4)), 'unknown', 'a profile of another server');
SELECT is(esim_receive('esim_test_smdp', pg_temp.progress(:'iccid_a3', :'eid_c', 1)), 'applied', 'point 1');
SELECT is((SELECT state::text || state_source FROM esim_profile WHERE iccid = :'iccid_a3'), 'RELEASEDimport', 'is no change');
SELECT is(esim_receive('esim_test_smdp', pg_temp.progress(:'iccid_a3', :'eid_c', 4)), 'applied', 'point 4');
SELECT is((SELECT state || ' ' || state_source || ' ' || eid FROM esim_profile WHERE iccid = :'iccid_a3'), 'INSTALLED event ' || :'eid_c', 'INSTALLED on its eUICC');
SELECT is(esim_receive('esim_test_smdp', pg_temp.progress(:'iccid_a3', :'eid_c', 3)), 'ignored', 'point 3 after it');
SELECT is(esim_receive('esim_test_smdp', pg_temp.progress(:'iccid_a3', :'eid_c', 4, 'Failed')), 'ignored', 'nor a late failure');
SELECT is(esim_receive('esim_test_smdp', pg_temp.progress(:'iccid_a3', :'eid_c', 101)), 'ignored', 'a number that means nothing');
INSERT INTO esim_notification_point (server, point, meaning) VALUES (NULL, 101, 'DISABLED'), ('esim_test_smdp', 101, 'ENABLED'), ('esim_test_smdp', 5, 'DELETED');
SELECT is(esim_receive('esim_test_smdp', pg_temp.progress(:'iccid_a3', :'eid_c', 101)), 'applied', 'a number of this vendor');
SELECT is((SELECT state::text FROM esim_profile WHERE iccid = :'iccid_a3'), 'ENABLED', 'the row of the server goes before the one for all');
SELECT is((SELECT string_agg(new_state || ' ' || cause, ', ' ORDER BY id) FROM esim_profile_event WHERE profile = '00000000-0000-4000-8000-0000000000c1'), 'INSTALLED LOCAL, ENABLED LOCAL', 'events of the device');
SELECT is(esim_receive('esim_test_smdp', pg_temp.progress(:'iccid_a3', :'eid_c', 5, call => 'once')), 'applied', 'deleted');
SELECT is(esim_receive('esim_test_smdp', pg_temp.progress(:'iccid_a3', :'eid_c', 5, call => 'once')), 'duplicate', 'once');
SELECT throws_ok($$INSERT INTO esim_notification_point (server, point, meaning) VALUES ('esim_test_smdp', 101, 'DISABLED')$$, '23505', NULL, 'one meaning per number and server');
-- HandleNotification of version 3: its own numbers where there are any
SELECT d || esim_iccid_check_digit(d) AS iccid_v3 FROM (VALUES ('890000000000007703')) v (d) \gset
CREATE FUNCTION pg_temp.v3(iccid text, eid text, event int, call text DEFAULT gen_random_uuid()::text, at text DEFAULT '2026-11-01T10:00:00Z') RETURNS jsonb
LANGUAGE sql AS $$ SELECT jsonb_strip_nulls(jsonb_build_object('header', jsonb_build_object('functionRequesterIdentifier', 'x', 'functionCallIdentifier', call),
	'iccid', iccid, 'eid', eid, 'timestamp', at, 'notificationEvent', event, 'notificationEventStatus', '{"status": "Executed-Success"}'::jsonb)) $$;
INSERT INTO esim_profile (id, iccid, reserved_eid, owner, state, server) VALUES ('00000000-0000-4000-8000-0000000000c2', :'iccid_v3', :'eid_c', 'esim_test_alice', 'RELEASED', 'esim_test_smdp');
SELECT is(esim_receive('esim_test_smdp', pg_temp.v3(:'iccid_v3', :'eid_c', 3)), 'applied', 'event 3');
SELECT is((SELECT state || ' ' || rsp_state FROM esim_profile WHERE id = '00000000-0000-4000-8000-0000000000c2'), 'DOWNLOADED notification event 3: Executed-Success', 'DOWNLOADED');
SELECT is(esim_receive('esim_test_smdp', pg_temp.v3(:'iccid_v3', :'eid_c', 4)), 'applied', 'event 4');
SELECT is((SELECT state || ' ' || state_source FROM esim_profile WHERE id = '00000000-0000-4000-8000-0000000000c2'), 'INSTALLED event', 'INSTALLED');
SELECT is(esim_receive('esim_test_smdp', pg_temp.v3(:'iccid_v3', :'eid_c', 6)), 'ignored', 'a number that nobody has told the meaning of');
INSERT INTO esim_notification_point (server, point, meaning, function) VALUES ('esim_test_smdp', 101, 'DISABLED', 'handleNotification');
SELECT is(esim_receive('esim_test_smdp', pg_temp.v3(:'iccid_v3', :'eid_c', 101)), 'applied', 'a number of both functions');
SELECT is((SELECT state::text FROM esim_profile WHERE id = '00000000-0000-4000-8000-0000000000c2'), 'DISABLED', 'has the meaning of its function');
SELECT is(esim_receive('esim_test_smdp', pg_temp.progress(:'iccid_v3', :'eid_c', 101)), 'applied', 'the other function');
SELECT is((SELECT state::text FROM esim_profile WHERE id = '00000000-0000-4000-8000-0000000000c2'), 'ENABLED', 'has its own');
SELECT is(esim_receive('esim_test_smdp', pg_temp.v3(NULL, NULL, 9)), 'ignored', 'an event about no profile');
SELECT throws_ok(format('SELECT esim_receive(%L, %L)', 'esim_test_smdp', pg_temp.v3('12', NULL, 4)), 'ES400', NULL, 'an ICCID that is none');
SELECT is((SELECT string_agg(DISTINCT kind, ' ' ORDER BY kind) FROM esim_event WHERE kind LIKE 'handle%'), 'handleDownloadProgressInfo handleNotification', 'both are kept by their names');
-- CMLink's functionCallIdentifier is always the same
SELECT is(esim_receive('esim_test_smdp', pg_temp.v3(:'iccid_v3', :'eid_c', 101, 'handleDownloadProgressInfo', '2026-11-01T11:00:00Z')), 'applied', 'disabled');
SELECT is(esim_receive('esim_test_smdp', pg_temp.v3(:'iccid_v3', :'eid_c', 101, 'handleDownloadProgressInfo', '2026-11-01T11:00:00Z')), 'duplicate', 'the same once more');
UPDATE esim_profile SET state = 'ENABLED' WHERE id = '00000000-0000-4000-8000-0000000000c2';
SELECT is(esim_receive('esim_test_smdp', pg_temp.v3(:'iccid_v3', :'eid_c', 101, 'handleDownloadProgressInfo', '2026-11-01T12:00:00Z')), 'applied', 'disabled again, later');
-- switches in the wrong order: the later one counts
CREATE FUNCTION pg_temp.switch(iccid text, eid text, point int, at text) RETURNS jsonb
LANGUAGE sql AS $$ SELECT pg_temp.progress(iccid, eid, point) || jsonb_build_object('timestamp', at) $$;
INSERT INTO esim_notification_point (server, point, meaning) VALUES ('esim_test_smdp', 102, 'DISABLED');
SELECT is(esim_receive('esim_test_smdp', pg_temp.switch(:'iccid_v3', :'eid_c', 101, '2026-12-01T11:00:00+01:00')), 'applied', 'enabled at ten');
SELECT is(esim_receive('esim_test_smdp', pg_temp.switch(:'iccid_v3', :'eid_c', 102, '2026-12-01T09:59:59Z')), 'ignored', 'disabled before it, which comes late');
SELECT is((SELECT state::text FROM esim_profile WHERE id = '00000000-0000-4000-8000-0000000000c2'), 'ENABLED', 'is still ENABLED');
SELECT is(esim_receive('esim_test_smdp', pg_temp.switch(:'iccid_v3', :'eid_c', 102, '1796119201')), 'applied', 'disabled a second after it, in seconds since 1970');
SELECT is((SELECT state::text FROM esim_profile WHERE id = '00000000-0000-4000-8000-0000000000c2'), 'DISABLED', 'is DISABLED');
-- times without a zone tell it, too
SELECT is(esim_receive('esim_test_smdp', pg_temp.switch(:'iccid_v3', :'eid_c', 101, '2026-12-02T11:00:00.123456')), 'applied', 'enabled, at a time without a zone');
SELECT is(esim_receive('esim_test_smdp', pg_temp.switch(:'iccid_v3', :'eid_c', 102, '2026-12-02T11:00:00.022456')), 'ignored', 'disabled before it, which comes late');
SELECT is(esim_receive('esim_test_smdp', pg_temp.switch(:'iccid_v3', :'eid_c', 102, '2026-12-02T11:00:00.223456')), 'applied', 'disabled after it');
SELECT is(esim_receive('esim_test_smdp', pg_temp.switch(:'iccid_v3', :'eid_c', 101, '20261202115959')), 'applied', 'a time that cannot be read is none, not one of a far year');
SELECT is(esim_receive('esim_test_smdp', pg_temp.switch(:'iccid_v3', :'eid_c', 102, '2026-12-02T12:00:00Z')), 'applied', 'so that later ones count');
SELECT is((SELECT state::text FROM esim_profile WHERE id = '00000000-0000-4000-8000-0000000000c2'), 'DISABLED', 'is DISABLED');
-- where another server manages the eUICC, that one is asked
INSERT INTO esim_profile (iccid, eid, owner, state, server) VALUES (:'iccid_b1', :'eid_a', 'esim_test_alice', 'DISABLED', 'esim_test_smdp');
SELECT is(esim_receive('esim_test_smdp', pg_temp.progress(:'iccid_b1', :'eid_a', 101)), 'asked', 'a switch on an eUICC that another server manages');
SELECT is((SELECT server FROM esim_operation WHERE kind = 'refresh' AND eid = :'eid_a'), 'esim_test_one', 'is looked at there');
SELECT is((SELECT state::text FROM esim_profile WHERE iccid = :'iccid_b1' AND owner = 'esim_test_alice'::regrole), 'DISABLED', 'before anything changes');

--
-- upkeep
--
UPDATE esim_event SET received_at = now() - interval '1 year' WHERE kind = 'event';
SELECT is((SELECT removed FROM esim_prune('{"older_than": "90 days"}') WHERE what = 'events'), 1::bigint, 'old events are pruned');
SELECT lives_ok('ALTER SERVER esim_test_smdp RENAME TO esim_test_smdp2', 'a server is renamed');
SELECT is((SELECT count(*) FROM esim_notification_point WHERE server = 'esim_test_smdp2'), 4::bigint, 'its numbers follow');

SELECT * FROM finish();
ROLLBACK;
