-- upkeep.sql
--		esim_pause, esim_resume, esim_transfer, esim_prune.

BEGIN;
SET search_path = esim, public;
SELECT no_plan();
\ir fixture.psql

--
-- pause and resume
--
SELECT throws_ok($$SELECT esim_pause('esim_test_absent')$$, 'ES404', 'server "esim_test_absent" does not exist', 'pause: unknown server');
SELECT throws_ok($$SELECT esim_resume('esim_test_absent')$$, 'ES404', NULL, 'resume: unknown server');
SELECT ok(esim_pause('esim_test_one'), 'pause a server');
SELECT ok(NOT esim_pause('esim_test_one'), 'it is paused already');
SELECT ok(esim_pause(), 'pause the database');
SELECT ok(NOT esim_pause(NULL), 'it is paused already');
SELECT esim_grant('esim_test_admin', 'admin');
SET ROLE esim_test_admin;
SELECT ok(esim_pause('esim_test_two'), 'with the scope');
RESET ROLE;
SELECT is((SELECT paused_by FROM esim_paused WHERE server = 'esim_test_two'), 'esim_test_admin', 'who it was is noted');
SELECT ok(esim_resume(), 'resume the database');
SELECT results_eq($$SELECT server COLLATE "C" FROM esim_paused ORDER BY 1$$, $$VALUES ('esim_test_one'::text COLLATE "C"), ('esim_test_two')$$,
	'servers that are paused by name stay so');
SELECT ok(NOT esim_resume(), 'nothing to resume');
SELECT ok(esim_resume('esim_test_one'), 'resume the server');
SELECT ok(NOT esim_resume('esim_test_one'), 'nothing to resume');
SELECT ok(esim_resume('esim_test_two'), 'resume the other');

SELECT pg_temp.operation('esim_test_alice', :'eid_a', :'profile_a1', 'disable', '1 hour', NULL, 'P') AS p1 \gset
SELECT pg_temp.operation('esim_test_alice', :'eid_a', :'profile_a1', 'enable', '1 hour', NULL, 'B') AS p2 \gset
SELECT pg_temp.operation('esim_test_bob', :'eid_b', :'profile_b1', 'enable', '1 hour', NULL, 'P', 'esim_test_two') AS p3 \gset
UPDATE esim_operation SET not_before = now() + interval '1 day' WHERE id = :'p3';
SELECT ok(esim_resume('esim_test_one'), 'resume lets parked operations of the server go on');
SELECT is((SELECT string_agg(state::text, ' ' ORDER BY seq) FROM esim_pending WHERE operation IN (:'p1', :'p2', :'p3')), 'N B P', 'only those');
SELECT is((SELECT phase::text FROM esim_operation WHERE id = :'p1'), 'QUEUED', 'their phase too');
SELECT ok(esim_resume(), 'resume without a name: all of them');
SELECT ok((SELECT state = 'N' AND next_at > now() + interval '23 hours' FROM esim_pending WHERE operation = :'p3'), 'not before its time');

-- another epoch
UPDATE esim_pending SET system_identifier = 1, claimed = true WHERE operation = :'p1';
UPDATE esim_pending SET timeline = 99 WHERE operation = :'p2';
INSERT INTO esim_paused (server, reason) VALUES (NULL, 'the database is a copy');
SELECT ok(esim_resume('esim_test_one') IS FALSE, 'resuming a server does not take a copy into use');
SELECT is((SELECT count(*) FROM esim_pending WHERE system_identifier = 1), 1::bigint, 'its rows are as they were');
SELECT ok(esim_resume(), 'resume takes over rows of a copy');
SELECT is((SELECT count(*) FROM esim_pending p, esim_epoch() e WHERE (p.system_identifier, p.timeline, p.database) = (e.system_identifier, e.timeline, e.database)
	AND operation IN (:'p1', :'p2', :'p3')), 3::bigint, 'they are of this epoch');
SELECT is((SELECT string_agg(state::text || ask_first::text, ' ' ORDER BY seq) FROM esim_pending WHERE operation IN (:'p1', :'p2', :'p3')),
	'Ntrue Btrue Nfalse', 'workers ask first');
SELECT is_empty('SELECT * FROM esim_paused', 'nothing is paused');

--
-- transfer
--
SELECT throws_ok(format('SELECT esim_transfer(%L, %L)', :'eid_c', 'esim_test_bob'), 'ES404', 'device is not known', 'transfer: unknown device');
SELECT throws_ok(format('SELECT esim_transfer(NULL, %L)', 'esim_test_bob'), 'ES422', 'cannot transfer a device without its EID', 'transfer: no EID');
SELECT throws_ok(format('SELECT esim_transfer(%L, 999999::oid::regrole)', :'eid_a'), 'ES404', 'new owner does not exist', 'transfer: unknown role');
SELECT throws_ok(format('SELECT esim_transfer(%L, %L)', :'eid_a', 'esim_test_bob'), 'ES409', 'device has 2 unfinished operations', 'transfer: not with unfinished operations');
DELETE FROM esim_pending;
DELETE FROM esim_operation;
SELECT pg_temp.operation('esim_test_alice', :'eid_a', :'profile_a1', 'enable', '1 hour', 'SUCCESS') AS done \gset
UPDATE esim_profile SET state = 'DELETED', is_fallback = false WHERE id = :'profile_a2';
SELECT lives_ok(format('SELECT esim_transfer(%L, %L)', :'eid_a', 'esim_test_bob'), 'transfer');
SELECT is((SELECT format('%s %s', owner, owner_name) FROM esim_device WHERE eid = :'eid_a'), 'esim_test_bob esim_test_bob', 'the device');
SELECT is((SELECT format('%s %s', owner, owner_name) FROM esim_profile WHERE id = :'profile_a1'), 'esim_test_bob esim_test_bob', 'its live profile');
SELECT is((SELECT format('%s %s', owner, owner_name) FROM esim_profile WHERE id = :'profile_a2'), 'esim_test_alice esim_test_alice', 'not the deleted one');
SELECT is((SELECT format('%s %s', owner, owner_name) FROM esim_operation WHERE id = :'done'), 'esim_test_alice esim_test_alice', 'not the history');
SELECT lives_ok(format('SELECT esim_transfer(%L, %L)', :'eid_a', 'esim_test_bob'), 'transfer to the owner: nothing to do');
INSERT INTO esim_profile (iccid, owner) VALUES (:'iccid_a1', 'esim_test_alice');
SELECT throws_ok(format('SELECT esim_transfer(%L, %L)', :'eid_a', 'esim_test_alice'), 'ES409', NULL, 'transfer: the new owner has the ICCID already');
DELETE FROM esim_profile WHERE iccid = :'iccid_a1' AND owner = 'esim_test_alice'::regrole;

-- an owner that is gone
SELECT pg_temp.operation('esim_test_bob', :'eid_b', :'profile_b1', 'disable', '1 hour', NULL, 'P') AS q \gset
ALTER ROLE esim_test_bob RENAME TO esim_test_robert;
SELECT lives_ok(format('SELECT esim_transfer(%L, %L)', :'eid_b', 'esim_test_robert'), 'transfer from an owner that is gone');
SELECT is((SELECT format('%s %s %s', owner, owner_name, phase) FROM esim_operation WHERE id = :'q'), 'esim_test_robert esim_test_robert QUEUED', 'operations go along');
SELECT is((SELECT state::text FROM esim_pending WHERE operation = :'q'), 'N', 'and are looked at again');

--
-- all that a renamed or dropped owner had
--
SELECT throws_ok($$SELECT * FROM esim_reassign_owned('esim_test_nobody', 'esim_test_alice')$$, 'ES404', 'there is no owner "esim_test_nobody" that is gone', 'reassign: unknown owner');
SELECT throws_ok($$SELECT * FROM esim_reassign_owned('esim_test_alice', 'esim_test_robert')$$, 'ES404', NULL, 'reassign: an owner that is there');
SELECT throws_ok($$SELECT * FROM esim_reassign_owned('esim_test_alice', 999999::oid::regrole)$$, 'ES404', 'new owner does not exist', 'reassign: unknown role');
INSERT INTO esim_device (eid, owner) VALUES (:'eid_c', 'esim_test_robert');
INSERT INTO esim_profile (iccid, owner, state) VALUES (:'iccid_a1', 'esim_test_robert', 'DELETED');
INSERT INTO esim_fleet (name, owner) VALUES ('trams', 'esim_test_robert');
SELECT esim_set_credential('hook', 'bearer', 'x', 'esim_test_robert');
SELECT pg_temp.operation('esim_test_robert', :'eid_b', :'profile_b1', 'disable', '1 hour', 'SUCCESS') AS done \gset
SELECT pg_temp.operation('esim_test_robert', :'eid_b', :'profile_b1', 'disable', '1 hour', NULL, 'P') AS q \gset
INSERT INTO esim_idempotency (owner, key, operation, fingerprint) VALUES ('esim_test_robert', 'r', :'done', '\x00');
SELECT count(*) AS devices FROM esim_device WHERE owner_name = 'esim_test_robert' \gset
ALTER ROLE esim_test_robert RENAME TO esim_test_roberta;
SELECT results_eq($$SELECT what COLLATE "C", moved > 0 FROM esim_reassign_owned('esim_test_robert', 'esim_test_roberta')$$,
	$$VALUES ('devices'::text COLLATE "C", true), ('profiles', true), ('operations', true), ('fleets', true), ('credentials', true)$$,
	'reassign: a role that was renamed');
SELECT is((SELECT count(*) FROM esim_device WHERE owner_name = 'esim_test_roberta' AND owner = 'esim_test_roberta'::regrole), :devices::bigint, 'reassign: all devices');
SELECT is((SELECT format('%s %s', owner, owner_name) FROM esim_operation WHERE id = :'done'), 'esim_test_roberta esim_test_roberta', 'reassign: history too');
SELECT is((SELECT format('%s %s', owner_name, phase) FROM esim_operation WHERE id = :'q'), 'esim_test_roberta QUEUED', 'reassign: parked operations go on');
SELECT ok((SELECT array_to_string(problems, ' ') FROM esim_health()) !~ 'robert\M', 'reassign: esim_health() is content');
SELECT is((SELECT owner_name FROM esim_credential WHERE name = 'hook'), 'esim_test_roberta', 'reassign: credentials stay with the role');
SELECT is((SELECT count(*) FROM esim_audit WHERE function = 'esim_reassign_owned' AND outcome ~ '^REASSIGNED from esim_test_robert to esim_test_roberta: devices \d+,'), 1::bigint, 'reassign: it is in esim_audit');
-- to another role: not its secrets
ALTER ROLE esim_test_roberta RENAME TO esim_test_robert;
INSERT INTO esim_profile (iccid, owner, state) SELECT iccid, 'esim_test_alice', 'RELEASED' FROM esim_profile WHERE id = :'profile_b1';
SELECT throws_ok($$SELECT * FROM esim_reassign_owned('esim_test_roberta', 'esim_test_alice')$$, 'ES409', NULL, 'reassign: the new owner has a profile already');
DELETE FROM esim_profile WHERE owner = 'esim_test_alice'::regrole AND iccid = (SELECT iccid FROM esim_profile WHERE id = :'profile_b1');
SELECT lives_ok($$SELECT * FROM esim_reassign_owned('esim_test_roberta', 'esim_test_alice')$$, 'reassign: to another role');
SELECT is((SELECT count(*) FROM esim_device WHERE owner_name = 'esim_test_roberta'), 0::bigint, 'reassign: devices go');
SELECT is((SELECT owner_name FROM esim_credential WHERE name = 'hook'), 'esim_test_roberta', 'reassign: secrets do not go to another role');
SELECT is((SELECT owner::text FROM esim_idempotency WHERE key = 'r'), 'esim_test_alice', 'reassign: idempotency keys go with their operations');
DELETE FROM esim_pending;
DELETE FROM esim_operation;
DELETE FROM esim_notification;

--
-- prune
--
DELETE FROM esim_attempt;
DELETE FROM esim_profile_event;
DELETE FROM esim_drift;
SELECT throws_ok(format('SELECT * FROM esim_prune(%L)', o), 'ES400', m, 'prune: ' || o)
FROM (VALUES ('{"older": "1 day"}', 'unknown option "older"'), ('{"older_than": "soon"}', 'invalid value for option "older_than": "soon"'),
	('{"older_than": "-1 day"}', 'invalid value for option "older_than": "-1 day"'), ('{"older_than": 5}', 'option "older_than" has the wrong type'),
	('{"batch": 0}', 'option "batch" is out of range'), ('{"batch": 1.5}', 'option "batch" is out of range'),
	('{"max_batches": 1e9}', 'option "max_batches" is out of range'), ('{"batch": null}', 'option "batch" has the wrong type'),
	('[]', 'options must be a JSON object')) v (o, m);
SELECT throws_ok('SELECT * FROM esim_prune(NULL)', 'ES400', NULL, 'prune: NULL');

SELECT pg_temp.operation('esim_test_alice', :'eid_a', :'profile_a1', 'enable', n * interval '1 day', 'SUCCESS') FROM generate_series(85, 110) n;
SELECT pg_temp.operation('esim_test_alice', :'eid_a', :'profile_a1', 'enable', '200 days', NULL, 'W') AS unfinished \gset
SELECT pg_temp.operation('esim_test_alice', :'eid_a', :'profile_a1', 'enable', '300 days', 'SUCCESS') AS needed \gset
UPDATE esim_operation SET depends_on = ARRAY[:'needed'::uuid] WHERE id = :'unfinished';
SELECT pg_temp.operation('esim_test_alice', :'eid_a', :'profile_a1', 'enable', '150 days', 'SUCCESS') AS announced \gset
INSERT INTO esim_notification (operation, target, format, next_at) VALUES (:'announced', 'https://a.invalid/', 'cloudevent', now());
SELECT pg_temp.operation('esim_test_alice', :'eid_a', :'profile_a1', 'enable', '150 days', 'SUCCESS') AS old \gset
INSERT INTO esim_notification (operation, target, format, delivered_at) VALUES (:'old', 'https://a.invalid/', 'cloudevent', now());
INSERT INTO esim_idempotency (owner, key, operation, fingerprint) VALUES ('esim_test_alice', 'k', :'old', '\x00');
INSERT INTO esim_operation_secret (operation) VALUES (:'old');
INSERT INTO esim_profile_event (profile, new_state, cause, at)
SELECT :'profile_a1', 'ENABLED', 'OPERATION', now() - (40 - n) * interval '10 days' FROM generate_series(1, 40) n;
INSERT INTO esim_drift (eid, what, seen_at, resolved_at) VALUES (:'eid_a', 'x', now() - interval '1 year', NULL),
	(:'eid_a', 'y', now() - interval '1 year', now() - interval '100 days'), (:'eid_a', 'z', now() - interval '1 year', now());

SELECT results_eq($$SELECT what COLLATE "C", removed FROM esim_prune('{"batch": 5, "max_batches": 2}')$$,
	$$VALUES ('operations'::text COLLATE "C", 8::bigint), ('attempts', 8), ('notifications', 1), ('idempotency_keys', 1), ('secrets', 1), ('profile_events', 10), ('drift', 1), ('events', 0), ('audit', 0)$$,
	'prune: no more than batch * max_batches at once')
WHERE current_setting('esim.retention')::interval = '90 days';
SELECT is((SELECT removed FROM esim_prune() WHERE what = 'operations'), 13::bigint, 'prune: the rest')
WHERE current_setting('esim.retention')::interval = '90 days';
SELECT is((SELECT sum(removed) FROM esim_prune('{"older_than": "90 days"}') WHERE what <> 'profile_events'), 0::numeric, 'prune: nothing more to do');
SELECT is((SELECT count(*) FROM esim_operation WHERE id IN (:'unfinished', :'needed', :'announced')), 3::bigint, 'unfinished operations stay, what they need, and what is still to be announced');
SELECT is((SELECT min(completed_at) > now() - interval '91 days' FROM esim_operation WHERE id NOT IN (:'unfinished', :'needed', :'announced')), true, 'what is younger stays');
SELECT is((SELECT count(*) FROM esim_attempt a WHERE NOT EXISTS (SELECT FROM esim_operation o WHERE o.id = a.operation)), 0::bigint, 'no attempt is left behind');
SELECT is((SELECT count(*) FROM esim_profile_event WHERE at < now() - interval '90 days'), 0::bigint, 'old events are gone');
SELECT is((SELECT string_agg(what, '' ORDER BY what) FROM esim_drift), 'xz', 'drift that is open or was resolved lately stays');
SELECT ok((SELECT removed > 0 FROM esim_prune('{"older_than": "0"}') WHERE what = 'operations'), 'prune: everything that is completed');
SELECT is((SELECT count(*) FROM esim_operation WHERE status = 'ACCEPTED'), 1::bigint, 'never what is not');

SELECT * FROM finish();
ROLLBACK;
