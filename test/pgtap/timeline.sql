-- timeline.sql
--		esim_timeline(): the story of one eUICC.

BEGIN;
SET search_path = esim, public;
SELECT no_plan();
\ir fixture.psql
-- the fixture's are of this moment
DELETE FROM esim_profile_event;
DELETE FROM esim_drift;
SELECT esim_grant('esim_test_alice', 'retrieve-status');
SELECT esim_grant('esim_test_bob', 'retrieve-status');
SELECT esim_grant('esim_test_admin', 'admin');

-- an operation that succeeded five hours ago, with all that belongs to it
SELECT pg_temp.operation('esim_test_alice', :'eid_a', :'profile_a1', 'enable', '5 hours', 'SUCCESS') AS op_1 \gset
DELETE FROM esim_attempt;
UPDATE esim_operation SET iccid = :'iccid_a1', sent_at = created_at + interval '1 s', created_at = created_at, completed_at = created_at + interval '10 s',
	result = 'FAILED', error_code = 'ROLLED_BACK', error_message = 'the new profile got no connection', correlator = 'secret' WHERE id = :'op_1';
INSERT INTO esim_attempt (operation, number, at, method, url, http_status, outcome, duration_ms)
SELECT id, n, created_at + n * interval '2 s', 'POST', 'https://one.invalid/enable?token=secret', CASE n WHEN 2 THEN 202 END, CASE n WHEN 2 THEN 'accepted' ELSE 'retry' END, 35
FROM esim_operation, generate_series(1, 2) n WHERE id = :'op_1';
INSERT INTO esim_profile_event (profile, eid, old_state, new_state, at, cause, operation, detail)
SELECT :'profile_a1', :'eid_a', 'ENABLED', 'DISABLED', created_at + interval '9 s', 'ROLLBACK', id, 'no connection' FROM esim_operation WHERE id = :'op_1';
INSERT INTO esim_profile_event (profile, eid, new_state, at, cause) VALUES (:'profile_a2', :'eid_a', 'ENABLED', now() - interval '3 hours', 'FALLBACK');
INSERT INTO esim_drift (eid, profile, what, ours, reported, seen_at, resolved_at) VALUES
	(:'eid_a', :'profile_a1', 'state', 'ENABLED', 'DISABLED', now() - interval '2 hours', now() - interval '1 hour'),
	(:'eid_a', NULL, 'profile', NULL, 'DISABLED', now() - interval '30 minutes', NULL);
INSERT INTO esim_notification (operation, target, format, state, tries, delivered_at)
SELECT id, 'https://sink.invalid/x?key=secret', 'cloudevent', 'DELIVERED', 2, created_at + interval '20 s' FROM esim_operation WHERE id = :'op_1';
-- what others have done there, and elsewhere
SELECT pg_temp.operation('esim_test_bob', :'eid_a', :'profile_b1', 'enable', '4 hours', 'SUCCESS') AS op_old \gset
SELECT pg_temp.operation('esim_test_bob', :'eid_b', :'profile_b1', 'enable', '4 hours', 'SUCCESS') AS op_b \gset

SET ROLE esim_test_alice;
SELECT results_eq(format('SELECT what COLLATE "C", kind COLLATE "C", iccid, operation, detail COLLATE "C" FROM esim_timeline(%L)', :'eid_a'),
	format($$SELECT a COLLATE "C", b COLLATE "C", c::iccid, d::uuid, e COLLATE "C" FROM (VALUES
		('asked', 'enable', %1$L, %3$L, 'by esim_test_alice, server esim_test_one'),
		('sent', 'enable', %1$L, %3$L, 'to server esim_test_one'),
		('attempt', 'enable', %1$L, %3$L, 'POST https://one.invalid/enable: no answer, retry, 35 ms'),
		('attempt', 'enable', %1$L, %3$L, 'POST https://one.invalid/enable: HTTP 202, accepted, 35 ms'),
		('profile', 'enable', %1$L, %3$L, 'ENABLED to DISABLED, cause ROLLBACK, no connection'),
		('completed', 'enable', %1$L, %3$L, 'FAILED: ROLLED_BACK, the new profile got no connection'),
		('notification', 'enable', %1$L, %3$L, 'to https://sink.invalid/x, DELIVERED, 2 tries'),
		('profile', NULL, %2$L, NULL, 'ENABLED, cause FALLBACK'),
		('drift', NULL, %1$L, NULL, 'state: ours ENABLED, reported DISABLED'),
		('drift resolved', NULL, %1$L, NULL, 'state: ours ENABLED, reported DISABLED'),
		('drift', NULL, NULL, NULL, 'profile: ours none, reported DISABLED')) v (a, b, c, d, e)$$, :'iccid_a1', :'iccid_a2', :'op_1'),
	'the whole story, and of others nothing');
SELECT is(array_agg(at ORDER BY n), array_agg(at ORDER BY at), 'in order of time') FROM esim_timeline(:'eid_a') WITH ORDINALITY AS t (at, what, kind, iccid, operation, detail, n);
SELECT is(array_agg(what ORDER BY n), '{drift, drift resolved, drift}', 'since')
FROM esim_timeline(:'eid_a', now() - interval '150 minutes') WITH ORDINALITY AS t (at, what, kind, iccid, operation, detail, n);
SELECT ok(NOT has_table_privilege('esim_attempt', 'SELECT'), 'the scope to see the status is enough');
RESET ROLE;

-- what became of a profile before it was on the eUICC: its operation has no EID, nor has the event
SAVEPOINT reserved;
SELECT pg_temp.operation('esim_test_alice', NULL, :'profile_a2', 'reserve', '6 hours', 'SUCCESS') AS op_0 \gset
INSERT INTO esim_profile_event (profile, old_state, new_state, at, cause, operation)
SELECT :'profile_a2', 'RESERVING', 'RELEASED', completed_at, 'OPERATION', id FROM esim_operation WHERE id = :'op_0';
SELECT is((SELECT concat_ws('|', kind, operation, detail) FROM esim_timeline(:'eid_a') WHERE what = 'profile' ORDER BY at LIMIT 1),
	format('reserve|%s|RESERVING to RELEASED, cause OPERATION', :'op_0'), 'what a reservation did to a profile that is on it now');
ROLLBACK TO reserved;

--
-- what is waited for
--
CREATE FUNCTION pg_temp.last_words(eid text) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws('|', t.what, t.kind, t.operation, t.detail) FROM esim.esim_timeline($1::esim.eid) WITH ORDINALITY AS t (at, what, kind, iccid, operation, detail, n)
	ORDER BY n DESC LIMIT 1
$$;
GRANT EXECUTE ON FUNCTION pg_temp.last_words(text) TO PUBLIC;
SELECT pg_temp.operation('esim_test_alice', :'eid_a', :'profile_a1', 'download', '9 days', NULL) AS op_2 \gset
SELECT pg_temp.operation('esim_test_alice', :'eid_a', :'profile_a2', 'delete', '1 minute', NULL, 'B') AS op_3 \gset
UPDATE esim_operation SET expires_at = now() + interval '50 hours' WHERE id = :'op_2';
UPDATE esim_operation SET phase = 'BLOCKED', phase_reason = 'behind 1 operation of its eUICC' WHERE id = :'op_3';
CREATE FUNCTION pg_temp.becomes(id uuid, phase text, reason text, sent interval DEFAULT NULL, next interval DEFAULT NULL, not_before interval DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
	UPDATE esim.esim_operation o SET phase = $2::esim.esim_operation_phase, phase_reason = $3, sent_at = now() - $4, next_at = now() + $5, not_before = now() + $6 WHERE o.id = $1
$$;
UPDATE esim_device_state SET last_seen_at = now() - interval '9 days 5 hours' WHERE eid = :'eid_a';
-- becomes a phase, and says what it waits for
CREATE FUNCTION pg_temp.waits(eid text, id uuid, phase text, reason text, sent interval, next interval, not_before interval) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_temp.becomes(id, phase, reason, sent, next, not_before);
	RETURN pg_temp.last_words(eid);
END
$$;
SELECT is(pg_temp.waits(:'eid_a', :'op_2', p, r, s, x, b), format('waiting|download|%s|%s; expires in two days; 1 operation behind it', :'op_2', e), 'waiting: ' || p)
FROM (VALUES
	('QUEUED', NULL, NULL::interval, NULL::interval, NULL::interval, 'waiting for its turn'),
	('QUEUED', 'not_before has not come', NULL, NULL, '3 hours 59 minutes', 'waiting until it may begin, in three hours'),
	('SENT', NULL, '119 minutes', NULL, NULL, 'waiting for the answer of the RSP, asked one hour ago'),
	('WAITING_DEVICE', 'polling', '9 days', NULL, NULL, 'waiting for the device, last seen nine days ago'),
	('RETRYING', 'HTTP 503', '1 hour', '13 hours 59 minutes', NULL, 'waiting for the next try, in 13 hours: HTTP 503'),
	('RETRYING', NULL, '1 hour', '-1 hour', NULL, 'waiting for the next try'),
	('UNKNOWN', NULL, '1 hour', NULL, NULL, 'waiting to learn what became of a request'),
	('PARKED', 'no credentials', NULL, NULL, NULL, 'waiting for an administrator: no credentials'),
	('BLOCKED', 'waits for the profile', NULL, NULL, NULL, 'waiting for other operations: waits for the profile')) v (p, r, s, x, b, e);
SELECT is((SELECT count(*) FROM esim_timeline(:'eid_a') WHERE what = 'waiting'), 1::bigint, 'what waits behind another one is counted only');
SELECT is(pg_temp.waits(:'eid_a', :'op_2', 'WAITING_DEVICE', NULL, NULL, NULL, NULL), format('waiting|download|%s|waiting for the device, last seen nine days ago; expires in two days; 1 operation behind it', :'op_2'), 'waiting for the device');
UPDATE esim_device_state SET last_seen_at = NULL WHERE eid = :'eid_a';
SELECT alike(pg_temp.last_words(:'eid_a'), '%|waiting for the device, never seen;%', 'a device that was never seen');
DELETE FROM esim_device_state WHERE eid = :'eid_a';
SELECT alike(pg_temp.last_words(:'eid_a'), '%|waiting for the device, never seen;%', 'nothing known of it');
INSERT INTO esim_paused (server, reason) VALUES ('esim_test_one', 'upgrade');
SELECT alike(pg_temp.last_words(:'eid_a'), '%|waiting for server esim_test_one to be resumed;%', 'its server is paused');
INSERT INTO esim_paused (server, reason) VALUES (NULL, 'copy');
SELECT alike(pg_temp.last_words(:'eid_a'), '%|waiting for the database to be resumed;%', 'all is paused');
DELETE FROM esim_paused;

-- an operation in another queue; that of the eUICC comes last
SELECT pg_temp.operation('esim_test_alice', :'eid_a', :'profile_a1', 'set-subscription', '10 days', NULL) AS op_4 \gset
UPDATE esim_pending SET lane = (SELECT lane FROM esim_profile WHERE id = :'profile_a1'), shard = ((SELECT lane FROM esim_profile WHERE id = :'profile_a1') >> 1) & 15 WHERE operation = :'op_4';
SELECT is(array_agg(kind ORDER BY n), '{set-subscription, download}', 'one line for each queue, the eUICC''s last')
FROM esim_timeline(:'eid_a') WITH ORDINALITY AS t (at, what, kind, iccid, operation, detail, n) WHERE what = 'waiting';
SELECT is(count(*), 2::bigint, 'since does not hide what is waited for') FROM esim_timeline(:'eid_a', now() + interval '1 day');

-- operations in the network name no EID: they belong to the eUICC that the profile is on
SELECT pg_temp.operation('esim_test_alice', NULL, :'profile_a2', 'set-subscription', '12 days', 'SUCCESS') AS op_5 \gset
SELECT pg_temp.operation('esim_test_alice', NULL, :'profile_a2', 'assign-fleet', '11 days', NULL) AS op_6 \gset
SELECT pg_temp.operation('esim_test_bob', NULL, :'profile_a2', 'assign-fleet', '11 days', NULL) AS op_7 \gset
SET ROLE esim_test_alice;
SELECT is(array_agg(operation ORDER BY n), ARRAY[:'op_5', :'op_5', :'op_6']::uuid[], 'operations in the network of a profile that is on it, one''s own')
FROM esim_timeline(:'eid_a') WITH ORDINALITY AS t (at, what, kind, iccid, operation, detail, n) WHERE what IN ('asked', 'completed') AND operation IN (:'op_5', :'op_6', :'op_7');
SELECT is(array_agg(kind ORDER BY n), '{set-subscription, assign-fleet, download}', 'and what they wait for')
FROM esim_timeline(:'eid_a') WITH ORDINALITY AS t (at, what, kind, iccid, operation, detail, n) WHERE what = 'waiting';
RESET ROLE;

--
-- who may see it
--
SET ROLE esim_test_bob;
SELECT throws_ok(format('SELECT * FROM esim_timeline(%L)', :'eid_a'), 'ES404', format('eUICC "...%s" is not known', right(:'eid_a', 4)), 'somebody else''s device');
SELECT throws_ok(format('SELECT * FROM esim_timeline(%L)', :'eid_c'), 'ES404', format('eUICC "...%s" is not known', right(:'eid_c', 4)), 'an unknown device');
SELECT throws_ok('SELECT * FROM esim_timeline(NULL)', 'ES422', NULL, 'no device');
SELECT is((SELECT array_agg(operation) FROM esim_timeline(:'eid_b') WHERE what = 'asked'), ARRAY[:'op_b']::uuid[], 'one''s own');
SET ROLE esim_test_member;
SELECT ok(count(*) > 10, 'a member of the owner sees it') FROM esim_timeline(:'eid_a');
SET ROLE esim_test_none;
SELECT throws_ok(format('SELECT * FROM esim_timeline(%L)', :'eid_a'), '42501', NULL, 'not without the scope');
SET ROLE esim_test_admin;
SELECT throws_ok(format('SELECT * FROM esim_timeline(%L)', :'eid_a'), '42501', NULL, 'nor with that of an administrator');
RESET ROLE;
SELECT is((SELECT count(*) FROM esim_timeline(:'eid_a') WHERE operation = :'op_old'), 3::bigint, 'a superuser sees what former owners asked for');
UPDATE esim_device SET owner_name = 'esim_test_gone' WHERE eid = :'eid_a';
SET ROLE esim_test_alice;
SELECT throws_ok(format('SELECT * FROM esim_timeline(%L)', :'eid_a'), 'ES404', NULL, 'an owner that is gone');
RESET ROLE;
SELECT esim_revoke('esim_test_alice', 'retrieve-status');
SELECT ok(NOT has_function_privilege('esim_test_alice', 'esim_timeline(eid, timestamptz)', 'EXECUTE'), 'revoked with the scope');

SELECT * FROM finish();
ROLLBACK;
