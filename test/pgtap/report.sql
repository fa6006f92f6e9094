-- report.sql
--		Views, esim_capabilities, esim_health.

BEGIN;
SET search_path = esim, public;
SELECT no_plan();
\ir fixture.psql

SELECT pg_temp.operation('esim_test_alice', :'eid_a', :'profile_a1', 'disable', '3 hours', 'FAILED') AS a1 \gset
SELECT pg_temp.operation('esim_test_alice', :'eid_a', :'profile_a1', 'enable', '2 hours', 'SUCCESS') AS a2 \gset
SELECT pg_temp.operation('esim_test_alice', :'eid_a', :'profile_a2', 'delete', '1 minute', NULL, 'R') AS a3 \gset
SELECT pg_temp.operation('esim_test_alice', :'eid_a', :'profile_a2', 'refresh', '1 minute', NULL, 'B') AS a4 \gset
SELECT pg_temp.operation('esim_test_bob', :'eid_b', :'profile_b1', 'enable', '5 minutes', NULL, 'C') AS b1 \gset
SELECT pg_temp.operation('esim_test_bob', :'eid_b', :'profile_b1', 'enable', '2 minutes', NULL, 'P') AS b2 \gset
SELECT pg_temp.operation('esim_test_bob', :'eid_b', NULL, 'enable', '1 minute', NULL, 'W', 'esim_test_two') AS b3 \gset
UPDATE esim_pending SET acting = 1 WHERE operation = :'b3';

--
-- esim_inventory
--
SELECT results_eq(format('SELECT iccid::text COLLATE "C", state, is_fallback, label COLLATE "C", server COLLATE "C", last_operation, last_kind COLLATE "C", last_result FROM esim_inventory WHERE eid = %L ORDER BY iccid', :'eid_a'),
	format($$VALUES (%L::text COLLATE "C", 'ENABLED'::esim_profile_state, false, 'meter a'::text COLLATE "C", 'esim_test_one'::text COLLATE "C", %L::uuid, 'enable'::text COLLATE "C", 'SUCCESS'::esim_operation_result),
		(%L, 'DISABLED', true, 'meter a', 'esim_test_one', %L, 'refresh', NULL)$$, :'iccid_a1', :'a2', :'iccid_a2', :'a4'),
	'inventory: one row per profile, with its last operation');
UPDATE esim_profile SET state = 'DELETED', is_fallback = false WHERE id = :'profile_a2';
SELECT is((SELECT count(*) FROM esim_inventory WHERE eid = :'eid_a'), 1::bigint, 'inventory: not the deleted ones');
UPDATE esim_profile SET state = 'DISABLED', is_fallback = true WHERE id = :'profile_a2';
INSERT INTO esim_profile (id, owner, server) VALUES (gen_random_uuid(), 'esim_test_bob', 'esim_test_two');
SELECT is((SELECT array_agg(server ORDER BY server) FROM esim_inventory WHERE owner = 'esim_test_bob'::regrole),
	'{esim_test_one, esim_test_two}', 'inventory: on the eUICC the device''s server, else the one that prepared it');

--
-- esim_device_summary
--
SELECT results_eq(format('SELECT profiles, enabled, enabled_iccid, fallback_iccid, open_operations, open_drift FROM esim_device_summary WHERE eid = %L', :'eid_a'),
	format('VALUES (2::bigint, 1::bigint, %L::iccid, %L::iccid, 2::bigint, 1::bigint)', :'iccid_a1', :'iccid_a2'), 'device summary');
INSERT INTO esim_device (eid, owner) VALUES (:'eid_c', 'esim_test_bob');
SELECT results_eq(format('SELECT profiles, enabled, enabled_iccid, fallback_iccid, open_operations, open_drift, last_seen_at FROM esim_device_summary WHERE eid = %L', :'eid_c'),
	'VALUES (0::bigint, 0::bigint, NULL::iccid, NULL::iccid, 0::bigint, 0::bigint, NULL::timestamptz)', 'device summary: of an empty one');

--
-- esim_operation_summary
--
SELECT results_eq($$SELECT kind COLLATE "C", sum(operations), sum(unfinished), sum(succeeded), sum(failed) FROM esim_operation_summary
		WHERE server = 'esim_test_one' GROUP BY kind ORDER BY kind$$,
	$$VALUES ('delete'::text COLLATE "C", 1::numeric, 1::numeric, 0::numeric, 0::numeric), ('disable', 1, 0, 0, 1), ('enable', 3, 2, 1, 0), ('refresh', 1, 1, 0, 0)$$,
	'operation summary: counts');
SELECT results_eq($$SELECT success_rate, p50_seconds, p95_seconds FROM esim_operation_summary WHERE server = 'esim_test_one' AND succeeded > 0$$,
	'VALUES (1.0000::numeric, 2::double precision, 2::double precision)', 'operation summary: rate and times');
SELECT is((SELECT success_rate FROM esim_operation_summary WHERE server = 'esim_test_one' AND kind = 'delete'), NULL, 'operation summary: no rate where nothing ended');

--
-- esim_queue
--
SELECT results_eq($$SELECT server COLLATE "C", kind COLLATE "C", queued, running, parked FROM esim_queue WHERE server ~ '^esim_test' ORDER BY 1, 2$$,
	$$VALUES ('esim_test_one'::text COLLATE "C", 'delete'::text COLLATE "C", 1::bigint, 0::bigint, 0::bigint), ('esim_test_one', 'enable', 0, 1, 1),
		('esim_test_one', 'refresh', 1, 0, 0), ('esim_test_two', 'enable', 0, 1, 0)$$, 'queue: all of it for a superuser');
SELECT ok(abs(extract(epoch FROM oldest - (clock_timestamp() - interval '5 minutes'))) < 60, 'queue: oldest')
FROM esim_queue WHERE server = 'esim_test_one' AND kind = 'enable';
SELECT esim_grant('esim_test_alice', 'retrieve-operation', 'retrieve-status');
SET ROLE esim_test_alice;
SELECT results_eq('SELECT kind COLLATE "C", queued, running, parked FROM esim_queue ORDER BY 1',
	$$VALUES ('delete'::text COLLATE "C", 1::bigint, 0::bigint, 0::bigint), ('refresh', 1, 0, 0)$$, 'queue: one''s own');
SELECT is((SELECT count(*) FROM esim_device_summary), 1::bigint, 'device summary: one''s own');
SELECT is((SELECT sum(operations) FROM esim_operation_summary), 4::numeric, 'operation summary: one''s own');
RESET ROLE;

--
-- esim_capabilities
--
SELECT is((SELECT count(*) FROM esim_capabilities('esim_test_one')), 14::bigint, 'capabilities: a row per kind');
SELECT is((SELECT string_agg(DISTINCT protocol, ',') FROM esim_capabilities('esim_test_one')), 'camara', 'capabilities: protocol');
SELECT is((SELECT string_agg(kind, ' ' ORDER BY kind) FROM esim_capabilities('esim_test_one') WHERE supported AND kind IN ('download', 'enable', 'disable', 'delete', 'set-fallback', 'reserve')),
	'delete disable download enable set-fallback', 'capabilities: what CAMARA can do');
SELECT ok(bool_and(supported OR note IS NOT NULL), 'capabilities: what cannot be done says why') FROM esim_capabilities();
SELECT is((SELECT array_agg(DISTINCT server) FROM esim_capabilities() WHERE server ~ '^esim_test'), '{esim_test_one, esim_test_two}', 'capabilities: all servers');
SELECT throws_ok($$SELECT * FROM esim_capabilities('esim_test_absent')$$, 'ES404', 'server "esim_test_absent" does not exist', 'capabilities: unknown server');

--
-- esim_health
--
SELECT results_eq('SELECT ok, stuck, parked, paused_servers, dead_sinks, dangling_owners, open_drift FROM esim_health()',
	$$VALUES (false, 0::bigint, 1::bigint, '{}'::text[], 0::bigint, 0::bigint, 2::bigint)$$, 'health');
SELECT ok((SELECT oldest_ready FROM esim_health()) BETWEEN '50 s' AND '2 min', 'health: oldest ready');
SELECT ok('1 operation is parked at server "esim_test_one"' = ANY (problems), 'health: says what it is') FROM esim_health();
UPDATE esim_operation SET phase_reason = 'the credentials were refused' WHERE phase = 'PARKED';
SELECT ok('1 operation is parked at server "esim_test_one": the credentials were refused' = ANY (problems), 'health: and why') FROM esim_health();
UPDATE esim_pending SET state = 'W', next_at = now() - interval '10 min' WHERE operation = :'b2';
SELECT is((SELECT stuck FROM esim_health()), 1::bigint, 'health: overdue');
INSERT INTO esim_notification (operation, target, format, state, tries) VALUES (:'a1', 'https://a.invalid/', 'cloudevent', 'GIVEN_UP', 9);
SELECT is((SELECT dead_sinks FROM esim_health()), 1::bigint, 'health: given up');
UPDATE esim_notification SET since = now() - interval '12 days' WHERE target = 'https://a.invalid/';
SELECT is((SELECT dead_sinks FROM esim_health()), 0::bigint, 'health: given up long ago');
INSERT INTO esim_notification (operation, target, format, tries, next_at, since)
VALUES (:'a1', 'https://b.invalid/?1', 'cloudevent', 3, now(), now() - interval '6 min'), (:'a1', 'https://b.invalid/?2', 'cloudevent', 1, now(), now() - interval '1 h'),
	(:'a1', 'https://c.invalid/', 'cloudevent', 1, now(), now()), (:'a1', 'https://d.invalid/', 'cloudevent', 0, now(), now() - interval '1 h');
SELECT is((SELECT dead_sinks FROM esim_health()), 1::bigint, 'health: a sink that does not answer');
SELECT ok('1 sinks do not take what they are sent; last_error in esim_notification says why' = ANY (problems), 'health: says so') FROM esim_health();
SELECT esim_pause('esim_test_one');
SELECT results_eq('SELECT oldest_ready, stuck, paused_servers FROM esim_health()', $$VALUES (NULL::interval, 0::bigint, '{esim_test_one}'::text[])$$,
	'health: what is paused is not late');
ALTER ROLE esim_test_bob RENAME TO esim_test_robert;
SELECT is((SELECT dangling_owners FROM esim_health()), 1::bigint, 'health: an owner was renamed');
SELECT ok((SELECT array_to_string(problems, ' ') FROM esim_health()) ~ 'gone or renamed: esim_test_bob \(now esim_test_robert\);', 'health: names it');

SELECT * FROM finish();
ROLLBACK;
