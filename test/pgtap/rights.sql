-- rights.sql
--		Scopes, row-level security, the worker's role.

BEGIN;
SET search_path = esim, public;
SELECT no_plan();
\ir fixture.psql
SELECT pg_temp.operation('esim_test_alice', :'eid_a', :'profile_a1', 'enable', '1 hour', 'SUCCESS') AS op_a \gset
SELECT pg_temp.operation('esim_test_bob', :'eid_b', :'profile_b1', 'enable', '1 hour', 'FAILED') AS op_b \gset
SELECT pg_temp.operation('esim_test_bob', :'eid_b', :'profile_b1', 'disable', '1 minute') AS op_b2 \gset
INSERT INTO esim_notification (operation, target, format) VALUES (:'op_a', 'https://a.invalid/', 'cloudevent'), (:'op_b', 'https://b.invalid/', 'cloudevent');
INSERT INTO esim_operation_secret (operation, confirmation_code) VALUES (:'op_a', '1234');
INSERT INTO esim_credential (owner, name, kind, value) VALUES ('esim_test_alice', 'sink', 'bearer', 'secret');

--
-- without a scope: nothing but the types
--
SET ROLE esim_test_none;
SELECT throws_ok('SELECT * FROM esim_' || t, '42501', NULL, 'no scope, no ' || t)
FROM unnest('{device, device_state, profile, profile_event, drift, fleet, operation, attempt, notification, pending, deferred,
	idempotency, operation_secret, credential, audit, paused, profile_lane, inventory, device_summary,
	operation_summary, queue}'::text[]) t;
SELECT throws_ok('SELECT ' || c, '42501', NULL, 'no scope, no ' || c)
FROM unnest('{esim_health(), esim_pause(), esim_resume(), esim_prune(), esim_worker_status(), esim_capabilities(), esim_queue_counts(),
	esim_scopes(), esim_wake()}'::text[]) c;
SELECT throws_ok($$SELECT esim_grant('esim_test_none', 'admin')$$, '42501', NULL, 'nobody grants himself a scope');
SELECT throws_ok($$SELECT esim_transfer('89049032000000000000000000000100', 'esim_test_none')$$, NULL, NULL, 'nobody takes a device');
SELECT throws_ok($$SELECT * FROM esim_reassign_owned('esim_test_bob', 'esim_test_none')$$, '42501', NULL, 'or all that an owner had');
SELECT ok(NOT esim_iccid_valid('1'), 'functions on identifiers are for everybody');
SELECT is(:'iccid_a1'::iccid::text, :'iccid_a1', 'and the types');
SELECT ok(:'eid_a'::eid < :'eid_b'::eid, 'and their operators');
SELECT is(max(x), :'eid_b'::eid, 'and their aggregates') FROM (VALUES (:'eid_a'::eid), (:'eid_b'::eid)) v (x);
SELECT is(esim_ac_smdp_address('1$smdp.example$'), 'smdp.example', 'and activation codes');
RESET ROLE;

SELECT is_empty($$
	SELECT p.oid::regprocedure
	FROM pg_proc p
	JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'esim'
	WHERE has_function_privilege('esim_test_none', p.oid, 'EXECUTE')
	AND p.prokind <> 'a' AND p.proname !~ '^esim_(eid|iccid|activation_code)_|^esim_(ac|qr)_|^esim_(build_activation_code|qr|roles)$'$$,
	'PUBLIC has EXECUTE on functions of identifiers only');
SELECT is_empty($$
	SELECT c.oid::regclass, a.privilege_type
	FROM pg_class c
	JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
	JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'esim'
	CROSS JOIN LATERAL aclexplode(c.relacl) a
	WHERE a.grantee <> c.relowner AND (a.grantee = 0 OR a.privilege_type IN ('TRIGGER', 'REFERENCES', 'TRUNCATE') OR a.is_grantable)$$,
	'no table gives PUBLIC anything, nor anybody TRIGGER, REFERENCES, TRUNCATE or a grant option');

--
-- esim_grant, esim_revoke, esim_scopes
--
SELECT throws_ok($$SELECT esim_grant('esim_test_alice', 'downlod')$$, 'ES400', 'unknown scope "downlod"', 'unknown scope');
SELECT throws_ok($$SELECT esim_grant('esim_test_alice', 'enable', NULL)$$, 'ES400', 'unknown scope "NULL"', 'NULL is no scope');
SELECT throws_ok($$SELECT esim_grant('esim_test_alice', VARIADIC '{}'::text[])$$, 'ES400', 'no scope is named', 'no scope at all');
SELECT throws_ok($$SELECT esim_grant(NULL, 'enable')$$, 'ES404', 'role does not exist', 'no role');
SELECT throws_ok($$SELECT esim_grant(999999::oid::regrole, 'enable')$$, 'ES404', 'role does not exist', 'a role that is gone');
SELECT throws_ok($$SELECT esim_revoke('esim_test_alice', 'all')$$, 'ES400', NULL, 'unknown scope, revoked');

SELECT results_eq('SELECT scope COLLATE "C" FROM (SELECT DISTINCT number, scope FROM esim_scope_rights()) s ORDER BY number',
	$$SELECT unnest('{download, enable, disable, delete, set-fallback, retrieve-status, retrieve-operation, refresh, reserve, subscription, receive, register, admin}'::text[]) COLLATE "C"$$,
	'the scopes');
SET client_min_messages = error;
SELECT lives_ok(format($$SELECT esim_grant('esim_test_carol', %L)$$, scope), 'grant ' || scope)
FROM (SELECT DISTINCT number, scope FROM esim_scope_rights() ORDER BY number) s;
RESET client_min_messages;
SELECT results_eq($$SELECT scope FROM esim_scopes() WHERE role = 'esim_test_carol'::regrole$$,
	$$SELECT scope FROM (SELECT DISTINCT number, scope FROM esim_scope_rights() WHERE object IS NOT NULL) s ORDER BY number$$, 'carol has them all');
SELECT esim_revoke('esim_test_carol', 'enable');
SELECT ok(has_function_privilege('esim_test_carol', 'esim_cancel(uuid)', 'EXECUTE'), 'who makes operations may cancel');
SELECT is_empty($$SELECT scope FROM esim_scopes() WHERE role = 'esim_test_carol'::regrole AND scope = 'enable'$$, 'one scope gone');
SELECT esim_grant('esim_test_carol', 'enable');
SELECT lives_ok(format($$SELECT esim_grant('esim_test_carol', %L)$$, 'enable'), 'a second time is no error');
SELECT ok(has_function_privilege('esim_test_carol', r.object, r.privilege), r.scope || ' gives EXECUTE on ' || r.identity)
FROM esim_scope_rights() r WHERE r.kind = 'FUNCTION' AND r.object IS NOT NULL ORDER BY r.number, r.identity;

-- scopes share rights
SELECT lives_ok($$SELECT esim_revoke('esim_test_carol', 'retrieve-operation', 'enable', 'admin')$$, 'revoke three');
SELECT is_empty($$SELECT scope FROM esim_scopes() WHERE role = 'esim_test_carol'::regrole AND scope IN ('retrieve-operation', 'enable', 'admin')$$,
	'they are gone');
SELECT is((SELECT count(*) FROM esim_scopes() WHERE role = 'esim_test_carol'::regrole),
	(SELECT count(DISTINCT scope) - 3 FROM esim_scope_rights() WHERE object IS NOT NULL), 'the others are not');
SELECT ok(has_column_privilege('esim_test_carol', 'esim_operation', 'result', 'SELECT'), 'a right that another scope has as well stays');
SELECT ok(NOT has_table_privilege('esim_test_carol', 'esim_attempt', 'SELECT'), 'the rest goes');
SELECT ok(NOT has_function_privilege('esim_test_carol', 'esim_enable'::regproc, 'EXECUTE'), 'also functions');
SELECT lives_ok((SELECT format($$SELECT esim_revoke('esim_test_carol', VARIADIC %L::text[])$$, array_agg(DISTINCT scope)) FROM esim_scope_rights()),
	'revoke everything');
SELECT is_empty($$SELECT * FROM esim_scopes() WHERE role = 'esim_test_carol'::regrole$$, 'nothing is left');
SELECT lives_ok('DROP ROLE esim_test_carol', 'nothing at all: the role can be dropped');
SELECT esim_grant('esim_test_admin', 'retrieve-operation');
SELECT ok(NOT has_function_privilege('esim_test_admin', 'esim_cancel(uuid)', 'EXECUTE'), 'who may only read cancels nothing');
SELECT ok(NOT has_function_privilege('esim_test_admin', 'esim_retry(uuid[])', 'EXECUTE'), 'and retries nothing');
SELECT esim_revoke('esim_test_admin', 'retrieve-operation');

--
-- owners
--
SELECT esim_grant('esim_test_alice', 'enable', 'retrieve-status', 'retrieve-operation');
SELECT esim_grant('esim_test_bob', 'retrieve-status', 'retrieve-operation');
SELECT esim_grant('esim_test_none', 'retrieve-status', 'retrieve-operation');

CREATE FUNCTION pg_temp.seen() RETURNS text LANGUAGE sql AS $$
	SELECT format('%s %s %s %s %s %s %s %s %s %s %s', (SELECT count(*) FROM esim.esim_device), (SELECT count(*) FROM esim.esim_device_state),
		(SELECT count(*) FROM esim.esim_profile), (SELECT count(*) FROM esim.esim_profile_event), (SELECT count(*) FROM esim.esim_drift),
		(SELECT count(*) FROM esim.esim_operation), (SELECT count(*) FROM esim.esim_attempt), (SELECT count(*) FROM esim.esim_notification),
		(SELECT count(*) FROM esim.esim_inventory), (SELECT coalesce(sum(queued), 0) FROM esim.esim_queue), (SELECT count(*) FROM esim.esim_fleet))
$$;
GRANT EXECUTE ON FUNCTION pg_temp.seen() TO PUBLIC;
SET ROLE esim_test_alice;
SELECT is(pg_temp.seen(), '1 1 2 1 1 1 1 1 2 0 1', 'alice sees what is hers');
SELECT is((SELECT array_agg(DISTINCT owner::text) FROM esim_inventory), '{esim_test_alice}', 'in the views too');
SET ROLE esim_test_bob;
SELECT is(pg_temp.seen(), '1 1 1 1 1 2 1 1 1 1 1', 'bob sees what is his');
SET ROLE esim_test_none;
SELECT is(pg_temp.seen(), '0 0 0 0 0 0 0 0 0 0 0', 'who owns nothing sees nothing');
RESET ROLE;
SET ROLE esim_test_member;
SELECT is(pg_temp.seen(), '1 1 2 1 1 1 1 1 2 0 1', 'a member of the owner sees the same as the owner');
RESET ROLE;
ALTER ROLE esim_test_member NOINHERIT;
SELECT esim_grant('esim_test_member', 'retrieve-status', 'retrieve-operation');
SET ROLE esim_test_member;
SELECT is(pg_temp.seen(), '0 0 0 0 0 0 0 0 0 0 0', 'not one that does not inherit');
RESET ROLE;

-- an owner that is gone
UPDATE esim_device SET owner_name = 'esim_test_gone' WHERE eid = :'eid_a';
SET ROLE esim_test_alice;
SELECT is_empty('SELECT * FROM esim_device', 'a row whose owner has another name is visible to nobody');
RESET ROLE;
UPDATE esim_device SET owner_name = 'esim_test_alice' WHERE eid = :'eid_a';

-- what owners may write
SET ROLE esim_test_alice;
SELECT lives_ok(format($$UPDATE esim_device SET label = 'l', device_ref = 'r', imei = '490154203237518' WHERE eid = %L$$, :'eid_a'), 'owners label their devices');
UPDATE esim_device SET label = 'stolen' WHERE eid = :'eid_b';
SELECT throws_ok('UPDATE esim_device SET ' || c || ' = NULL', '42501', NULL, 'owners do not write ' || c)
FROM unnest('{eid, owner, owner_name, server, retired_at, created_at, lane}'::text[]) c;
SELECT throws_ok('UPDATE esim_profile SET ' || attname || ' = NULL', '42501', NULL, 'nobody writes esim_profile.' || attname)
FROM pg_attribute WHERE attrelid = 'esim.esim_profile'::regclass AND attnum > 0 AND attgenerated = '';
SELECT throws_ok('UPDATE esim_operation SET ' || attname || ' = NULL', '42501', NULL, 'nobody writes esim_operation.' || attname)
FROM pg_attribute WHERE attrelid = 'esim.esim_operation'::regclass AND attnum > 0 AND attgenerated = '';
SELECT throws_ok('DELETE FROM esim_' || t, '42501', NULL, 'nobody deletes from ' || t)
FROM unnest('{device, device_state, profile, profile_event, drift, fleet, operation, attempt, notification, pending, audit}'::text[]) t;
SELECT throws_ok('SELECT * FROM esim_' || t, '42501', NULL, 'the owner does not read ' || t)
FROM unnest('{pending, operation_secret, credential, idempotency, deferred, audit}'::text[]) t;
SELECT throws_ok(format($$INSERT INTO esim_operation (id, seq, kind, owner, owner_name, requested_by, server, expires_at)
	VALUES (gen_random_uuid(), 1, 'enable', 'esim_test_alice', 'esim_test_alice', 'esim_test_alice', 'esim_test_one', now())$$), '42501', NULL, 'operations are not forged');
SELECT throws_ok($$INSERT INTO esim_profile_event (profile, cause) VALUES (gen_random_uuid(), 'LOCAL')$$, '42501', NULL, 'nor events');
SELECT throws_ok(format($$INSERT INTO esim_device (eid) VALUES (%L)$$, :'eid_c'), '42501', NULL, 'without register no device');
SELECT throws_ok($$CREATE TRIGGER t BEFORE UPDATE ON esim_device EXECUTE FUNCTION suppress_redundant_updates_trigger()$$, '42501', NULL, 'no triggers');
SELECT throws_ok('SELECT esim_health()', '42501', NULL, 'health is for administrators');
RESET ROLE;
SELECT is(label, 'meter b', 'others'' devices are not touched') FROM esim_device WHERE eid = :'eid_b';

-- what a caller puts in front is not used with the rights of the extension's owner
CREATE SCHEMA esim_test_front;
GRANT USAGE ON SCHEMA esim_test_front TO PUBLIC;
CREATE FUNCTION esim_test_front.trap(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'trapped'; END$$;
CREATE FUNCTION esim_test_front.trap(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'trapped'; END$$;
CREATE FUNCTION esim_test_front.trap(text, text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'trapped'; END$$;
CREATE OPERATOR esim_test_front.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = esim_test_front.trap);
CREATE OPERATOR esim_test_front.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = esim_test_front.trap);
CREATE OPERATOR esim_test_front.= (LEFTARG = text, RIGHTARG = text, FUNCTION = esim_test_front.trap);
INSERT INTO esim_profile (iccid, eid, owner, state) VALUES (:'iccid_a3', :'eid_a', 'esim_test_alice', 'DISABLED');
SELECT lives_ok(format('SET search_path = %s, public; SET ROLE esim_test_alice; %s; RESET ROLE; SET search_path = esim, public', path, call),
	call || ' with search_path ' || path)
FROM (VALUES ('pg_catalog', :'iccid_a2'), ('esim_test_front, pg_catalog, esim', :'iccid_a3')) p (path, iccid),
	unnest(ARRAY[
		format('SELECT esim.esim_enable(%L::esim.iccid)', p.iccid),
		'SELECT count(*) FROM esim.esim_queue',
		'SELECT count(*) FROM esim.esim_inventory',
		'SELECT count(*) FROM esim.esim_device_summary',
		format('SELECT * FROM esim.esim_status(%L::esim.eid)', :'eid_a'),
		format('SELECT esim.esim_operation_status(%L)', :'op_a'),
		format('SELECT esim.esim_cancel(%L)', :'op_a')]) call;

-- a scope is for its kind, also when an operation is repeated
SELECT pg_temp.operation('esim_test_alice', :'eid_a', :'profile_a2', 'delete', '1 hour', 'FAILED') AS failed \gset
SET ROLE esim_test_alice;
SELECT is((SELECT code FROM esim_retry(ARRAY[:'failed'::uuid])), 'PERMISSION_DENIED', 'no retry of what one may not ask for');
RESET ROLE;

--
-- register
--
SELECT esim_grant('esim_test_alice', 'register');
SET ROLE esim_test_alice;
SELECT lives_ok(format('INSERT INTO esim_device (eid, label) VALUES (%L, %L)', :'eid_c', 'new'), 'register: for oneself');
SELECT is((SELECT format('%s %s', owner, owner_name) FROM esim_device WHERE eid = :'eid_c'), 'esim_test_alice esim_test_alice', 'the owner is the current role');
SELECT throws_ok(format('INSERT INTO esim_device (eid, owner) VALUES (%L, %L)', '89049032000000000000000000000458', 'esim_test_bob'), NULL, NULL, 'not for others');
SELECT throws_ok(format('INSERT INTO esim_device (eid, owner_name) VALUES (%L, %L)', :'eid_c', 'x'), '42501', NULL, 'the name of the owner is not written');
SELECT throws_ok(format('UPDATE esim_device SET server = %L WHERE eid = %L', 'esim_test_two', :'eid_c'), 'ES403', NULL, 'naming a server needs USAGE on it');
SELECT throws_ok(format('UPDATE esim_device SET server = %L WHERE eid = %L', 'esim_test_absent', :'eid_c'), 'ES403', NULL, 'and that it is there');
SELECT lives_ok(format('UPDATE esim_device SET retired_at = now(), server = NULL WHERE eid = %L', :'eid_c'), 'register: retire');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER esim_test_two TO esim_test_alice;
SET ROLE esim_test_alice;
SELECT lives_ok(format('UPDATE esim_device SET server = %L WHERE eid = %L', 'esim_test_two', :'eid_c'), 'with USAGE it may be named');
RESET ROLE;

--
-- admin
--
SELECT esim_grant('esim_test_admin', 'admin');
SET ROLE esim_test_admin;
SELECT lives_ok('SELECT * FROM esim_health()', 'admin: health');
SELECT ok((SELECT count(*) > 0 FROM esim_audit WHERE role = 'esim_test_alice' AND function = 'esim_enable'), 'admin: audit');
SELECT lives_ok($$SELECT esim_grant('esim_test_none', 'enable')$$, 'admin: grant');
SELECT throws_ok('SELECT * FROM esim_device', '42501', NULL, 'admin alone does not show devices');
SELECT throws_ok('DELETE FROM esim_audit', '42501', NULL, 'the audit is not for deleting');
RESET ROLE;

--
-- the worker's role
--
SELECT current_setting('esim.worker_role') AS worker \gset
SELECT is((SELECT (rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls)::text FROM pg_roles WHERE rolname = :'worker'),
	'(t,f,f,f,f,f)', 'the worker''s role has no attribute but LOGIN');
SELECT is((SELECT rolpassword FROM pg_authid WHERE rolname = :'worker'), NULL, 'and no password');
SELECT is((SELECT count(*) FROM pg_auth_members m WHERE m.roleid = :'worker'::regrole), 0::bigint, 'and no members');
SET ROLE :worker;
SELECT is((SELECT count(*) FROM esim_operation WHERE id IN (:'op_a', :'op_b', :'op_b2')), 3::bigint, 'the worker sees all operations');
SELECT lives_ok(format($$UPDATE esim_operation SET phase = 'SENT', sent_at = now(), attempts = 1 WHERE id = %L$$, :'op_b2'), 'the worker writes what changes');
SELECT throws_ok('UPDATE esim_operation SET ' || c || ' = NULL', '42501', NULL, 'the worker does not write esim_operation.' || c)
FROM unnest('{id, seq, kind, owner, owner_name, requested_by, server, priority, not_before, expires_at, activation_code, rollback, options, created_at}'::text[]) c;
SELECT lives_ok(format($$UPDATE esim_profile SET state = 'DISABLED', state_at = now() WHERE id = %L$$, :'profile_b1'), 'the worker writes states');
SELECT throws_ok('UPDATE esim_profile SET ' || c || ' = NULL', '42501', NULL, 'the worker does not write esim_profile.' || c)
FROM unnest('{id, owner, owner_name, lane, created_at}'::text[]) c;
SELECT throws_ok('UPDATE esim_device SET label = NULL', '42501', NULL, 'the worker does not write devices');
SELECT throws_ok('SELECT * FROM esim_' || t, '42501', NULL, 'the worker does not read ' || t)
FROM unnest('{idempotency, audit, profile_lane}'::text[]) t;
SELECT throws_ok($$UPDATE esim_credential SET value = ''$$, '42501', NULL, 'the worker does not write credentials');
SELECT throws_ok('SELECT esim_' || c, '42501', NULL, 'the worker does not call esim_' || c)
FROM unnest('{pause(), resume(), prune(), health(), scopes()}'::text[]) c;
SELECT lives_ok($$WITH d AS (DELETE FROM esim_pending RETURNING seq) SELECT count(*) FROM d$$, 'the queue is the worker''s');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
