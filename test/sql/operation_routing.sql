--
-- Which server an operation goes to, and one transaction over four servers
--
\getenv inputdir PG_ABS_SRCDIR
\set setup :inputdir '/sql/operation.psql'
\set hint true
\set ECHO none
\i :setup
\set ECHO all

-- An operation as text: kind, server, what it depends on and waits for, state of
-- its row in the queue; lanes are numbered
CREATE FUNCTION pg_temp.show() RETURNS TABLE (n bigint, kind text, server text, lane text, phase esim_operation_phase,
	phase_reason text, depends_on text, waits_for text, queue "char")
LANGUAGE sql AS $$
	WITH o AS (SELECT row_number() OVER (ORDER BY seq) AS n, * FROM esim_operation)
	SELECT o.n, o.kind, o.server,
		CASE WHEN q.lane < 0 THEN 'negative' WHEN q.lane & 1 = 1 THEN 'eUICC' WHEN q.lane = p.lane THEN 'profile'
			WHEN q.lane = f.lane THEN 'fleet' WHEN q.lane IS NOT NULL THEN 'own' END,
		o.phase, o.phase_reason,
		(SELECT string_agg(d.n || ' ' || d.kind, ', ' ORDER BY d.n) FROM o d WHERE d.id = ANY (o.depends_on)),
		(SELECT string_agg(d.n || ' ' || d.kind, ', ' ORDER BY d.n) FROM o d WHERE d.id = ANY (q.waits_for)), q.state
	FROM o LEFT JOIN esim_pending q ON q.operation = o.id
	LEFT JOIN esim_profile p ON p.id = o.profile
	LEFT JOIN esim_fleet f ON f.name = o.fleet AND f.server = o.server
	ORDER BY o.n
$$;

-- without a server, and with one that cannot do it
SELECT pg_temp.attempt($c$SELECT esim_reserve(generate_matching_id => true)$c$);
CREATE SERVER ro_eim FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'eim', url 'https://eim.example.com');
SELECT pg_temp.attempt($c$SELECT esim_reserve(generate_matching_id => true)$c$);

-- the only one that can do it
CREATE SERVER ro_smdp FOREIGN DATA WRAPPER esim_rsp
	OPTIONS (protocol 'es2plus', url 'https://smdp.example.com', requester_id '1.3.6.1.4.1.1', smdp_address 'smdp.example.com');
BEGIN;
SELECT esim_reserve(generate_matching_id => true) AS reserve \gset
SELECT o.kind, o.server, p.server AS profile_server FROM esim_operation o JOIN esim_profile p ON p.id = o.profile WHERE o.id = :'reserve';
ROLLBACK;

-- more than one
CREATE SERVER ro_net FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'twilio', url 'https://net.example.com/v1');
SELECT pg_temp.attempt($c$SELECT esim_reserve(generate_matching_id => true)$c$);
SELECT pg_temp.attempt($c$SELECT esim_reserve(generate_matching_id => true, server => 'ro_net')$c$);
SET esim.default_server = 'ro_smdp';
SELECT pg_temp.attempt($c$SELECT esim_reserve(generate_matching_id => true)$c$);
RESET esim.default_server;

-- what a server cannot do names those that can
CREATE SERVER ro_camara FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://rsp.example.com');
INSERT INTO esim_device (eid, server) VALUES
	('89049032000000000000000000000701', 'ro_eim'), ('89049032000000000000000000000702', 'ro_net'), ('89049032000000000000000000000703', NULL);
INSERT INTO esim_profile (id, iccid, state, server) VALUES
	('00000000-0000-4000-8000-000000000701', '8944000000000000701', 'RESERVED', 'ro_smdp'),
	('00000000-0000-4000-8000-000000000702', '8944000000000000702', 'RESERVED', 'ro_net'),
	('00000000-0000-4000-8000-000000000703', '8944000000000000703', 'RESERVED', NULL);
SELECT k.call, pg_temp.attempt(k.call) FROM unnest(ARRAY[
	$$SELECT esim_reserve(generate_matching_id => true, server => 'ro_eim')$$,
	$$SELECT esim_reserve(generate_matching_id => true, server => 'ro_camara')$$,
	$$SELECT esim_release('8944000000000000701')$$,
	$$SELECT esim_release('8944000000000000702')$$,
	$$SELECT esim_release('8944000000000000703')$$,
	$$SELECT esim_cancel_order('8944000000000000702')$$,
	$$SELECT esim_set_subscription('8944000000000000701', 'ACTIVE', 'f', server => 'ro_smdp')$$,
	$$SELECT esim_set_subscription('8944000000000000701', 'ACTIVE', 'f')$$,
	$$SELECT esim_assign_fleet('8944000000000000702', 'f', server => 'ro_camara')$$,
	$$SELECT esim_fleet_create('f', server => 'ro_eim')$$,
	$$SELECT esim_refresh('89049032000000000000000000000701', server => 'ro_smdp')$$,
	$$SELECT esim_sync('ro_smdp')$$,
	$$SELECT esim_sync('ro_none')$$,
	$$SELECT esim_unset_fallback('89049032000000000000000000000701', server => 'ro_camara')$$]) k (call);

-- a reservation for an eUICC: its server if that can do it, else as without
BEGIN;
SELECT esim_reserve('89049032000000000000000000000702') IS NOT NULL AS by_device;
SELECT pg_temp.attempt($c$SELECT esim_reserve('89049032000000000000000000000701')$c$);
SET LOCAL esim.default_server = 'ro_smdp';
SELECT esim_reserve('89049032000000000000000000000701') IS NOT NULL AS by_default;
SELECT kind, eid, server FROM esim_operation ORDER BY seq;
ROLLBACK;

-- set-subscription: the subscription's server, else the profile's if that can do it, else the only one
CREATE SERVER ro_net2 FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'twilio', url 'https://net2.example.com/v1');
SELECT pg_temp.attempt($c$SELECT esim_set_subscription('8944000000000000701', 'ACTIVE', 'f')$c$);
BEGIN;
SELECT esim_set_subscription('8944000000000000702', 'ACTIVE', 'f') IS NOT NULL AS by_profile;
UPDATE esim_profile SET subscription_server = 'ro_net2' WHERE iccid = '8944000000000000701';
SELECT esim_assign_fleet('8944000000000000701', 'f') IS NOT NULL AS by_subscription;
UPDATE esim_profile SET subscription_server = 'ro_camara' WHERE iccid = '8944000000000000703';
SELECT pg_temp.attempt($c$SELECT esim_assign_fleet('8944000000000000703', 'f')$c$);
SELECT kind, server, lane FROM pg_temp.show();
ROLLBACK;
DROP SERVER ro_net2;

-- naming a server needs USAGE on it, one that a row names does not
CREATE ROLE regress_esim_router;
SELECT esim_grant('regress_esim_router', 'reserve', 'subscription', 'register', 'retrieve-operation');
UPDATE esim_profile SET owner = 'regress_esim_router', owner_name = 'regress_esim_router' WHERE iccid = '8944000000000000701';
SET ROLE regress_esim_router;
SELECT k.call, pg_temp.attempt(k.call) FROM unnest(ARRAY[
	$$SELECT esim_reserve(generate_matching_id => true, server => 'ro_smdp')$$,
	$$SELECT esim_fleet_create('f', '{"NetworkAccessProfile": "n"}', server => 'ro_net')$$,
	$$SELECT esim_sync('ro_net')$$,
	$$SELECT esim_release('8944000000000000701')$$,
	$$SELECT esim_release('8944000000000000702')$$]) k (call);
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER ro_net TO regress_esim_router;
SET ROLE regress_esim_router;
BEGIN;
SELECT esim_fleet_create('f', '{"NetworkAccessProfile": "n"}', server => 'ro_net') IS NOT NULL AS fleet_create,
	esim_sync('ro_net') IS NOT NULL AS sync;
SELECT kind, server, owner, requested_by FROM esim_operation ORDER BY seq;
COMMIT;
RESET ROLE;
SELECT name, server, owner, owner_name, rsp_id, settings FROM esim_fleet;
DELETE FROM esim_pending;
DELETE FROM esim_operation;
DELETE FROM esim_fleet;
UPDATE esim_profile SET owner = current_user::regrole, owner_name = current_user;
SELECT esim_revoke('regress_esim_router', 'reserve', 'subscription', 'register', 'retrieve-operation');
DROP OWNED BY regress_esim_router;
DROP ROLE regress_esim_router;

-- One transaction: a fleet, a profile reserved at an SM-DP+, its subscription set
-- at the operator, downloaded and enabled through the eIM.  Nothing but the
-- profile's row names it.
BEGIN;
SELECT esim_fleet_create('meters', '{"NetworkAccessProfile": "n", "DataLimit": 10}', server => 'ro_net') IS NOT NULL AS fleet;
SELECT esim_reserve(profile_type => 'iot', generate_matching_id => true, server => 'ro_smdp') AS reserve \gset
SELECT profile AS p FROM esim_operation WHERE id = :'reserve' \gset
SELECT iccid, state, state_source, server, profile_type, smdp_address, matching_id, activation_code, redownload, reserved_eid
FROM esim_profile WHERE id = :'p';
SELECT esim_set_subscription(profile => :'p', status => 'ACTIVE', fleet => 'meters', server => 'ro_net') IS NOT NULL AS subscription;
SELECT esim_download('89049032000000000000000000000701', profile => :'p') IS NOT NULL AS download;
SELECT esim_enable(profile => :'p') IS NOT NULL AS enable;
SELECT * FROM pg_temp.show();
SELECT o.kind, o.eid, o.iccid, o.activation_code, o.profile = :'p' AS profile, o.generate_matching_id, o.profile_type, o.release,
	o.subscription_status, o.fleet, o.settings, o.activate_on_download, o.rollback
FROM esim_operation o ORDER BY o.seq;
ROLLBACK;

-- reserved for the eUICC, the default SM-DP+ way: the same, in one download that enables
BEGIN;
SELECT esim_reserve('89049032000000000000000000000701', server => 'ro_smdp') AS reserve \gset
SELECT profile AS p FROM esim_operation WHERE id = :'reserve' \gset
SELECT esim_set_subscription(profile => :'p', status => 'ACTIVE', fleet => 'meters', server => 'ro_net') IS NOT NULL AS subscription;
SELECT esim_download('89049032000000000000000000000701', profile => :'p', activate_on_download => true) IS NOT NULL AS download;
SELECT state, eid IS NULL AS on_no_euicc, reserved_eid FROM esim_profile WHERE id = :'p';
SELECT * FROM pg_temp.show();
SELECT pg_temp.attempt(format($c$SELECT esim_download('89049032000000000000000000000702', profile => %L)$c$, :'p'));
ROLLBACK;

-- Super SIM: the device fetches the profile by itself.  That waits in a lane of
-- its own: the eUICC goes on, and the subscription can be stopped meanwhile.
BEGIN;
SELECT esim_download('89049032000000000000000000000702') AS download \gset
SELECT o.activation_code, p.server, p.redownload, p.state, o.expires_at > now() + interval '300 days' AS long,
	p.iccid FROM esim_operation o JOIN esim_profile p ON p.id = o.profile WHERE o.id = :'download';
SELECT profile AS p FROM esim_operation WHERE id = :'download' \gset
SELECT esim_refresh('89049032000000000000000000000702') IS NOT NULL AS refresh;
SELECT regexp_replace(pg_temp.attempt(format($c$SELECT esim_download('89049032000000000000000000000702', profile => %L)$c$, :'p')),
	'"[.]{3}[0-9a-f]{4}"', '"..."') AS attempt;
-- its ICCID is not known before
SELECT esim_set_subscription(profile => :'p', status => 'ACTIVE', fleet => 'meters') IS NOT NULL AS subscription;
-- INSTALLED then, enabled or not: through another server that can
SELECT esim_enable(profile => :'p', server => 'ro_eim') IS NOT NULL AS enable;
SELECT * FROM pg_temp.show();
ROLLBACK;
-- reserved before: nothing waits for the device but the download
BEGIN;
SELECT esim_reserve('89049032000000000000000000000702', server => 'ro_net') AS reserve \gset
SELECT profile AS p FROM esim_operation WHERE id = :'reserve' \gset
SELECT redownload, server, reserved_eid FROM esim_profile WHERE id = :'p';
SELECT esim_set_subscription(profile => :'p', status => 'ACTIVE', fleet => 'meters') IS NOT NULL AS subscription;
SELECT esim_download('89049032000000000000000000000702', profile => :'p') IS NOT NULL AS download;
SELECT esim_set_subscription(profile => :'p', status => 'INACTIVE') IS NOT NULL AS stop;
SELECT * FROM pg_temp.show();
ROLLBACK;

-- sync: with Super SIM one operation, elsewhere a refresh of each device
INSERT INTO esim_device (eid, server, retired_at) VALUES ('89049032000000000000000000000704', 'ro_eim', now());
BEGIN;
SELECT esim_sync('ro_net') IS NOT NULL AS first, esim_sync('ro_net') IS NOT NULL AS second;
SELECT esim_sync('ro_eim') AS sync \gset
SELECT esim_sync('ro_eim') AS again \gset
SELECT kind, eid, server, status, result, phase, error_message, completed_at IS NOT NULL AS completed
FROM esim_operation ORDER BY seq;
SELECT kind, server, lane, phase_reason, queue FROM pg_temp.show() WHERE kind = 'sync' AND queue IS NOT NULL;
SELECT count(DISTINCT q.lane) FROM esim_pending q WHERE q.kind = 'sync';
SELECT jsonb_pretty(esim_operation_status(:'sync', '2026-02') #- '{operationId}' #- '{result,completedAt}');
ROLLBACK;
-- devices that name no server count where they would be routed
BEGIN;
SET LOCAL esim.default_server = 'ro_camara';
SELECT esim_sync('ro_camara') IS NOT NULL AS sync;
SELECT kind, eid, server, error_message FROM esim_operation ORDER BY seq;
ROLLBACK;
SELECT ordinal, code, message FROM esim_sync_many(ARRAY['ro_net', 'ro_smdp', 'ro_none', NULL, 'ro_eim'], on_error => 'report');
SELECT pg_temp.attempt($c$SELECT esim_sync('ro_net', server => 'ro_eim')$c$);
SELECT pg_temp.attempt($c$SELECT esim_sync('ro_net', profile => '00000000-0000-4000-8000-000000000701')$c$);

SELECT server, kind, supported, note FROM esim_capabilities() WHERE kind IN ('reserve', 'sync') ORDER BY 2, 1;

DELETE FROM esim_pending;
DELETE FROM esim_operation;
DELETE FROM esim_profile;
DELETE FROM esim_device;
DROP SERVER ro_eim;
DROP SERVER ro_smdp;
DROP SERVER ro_net;
DROP SERVER ro_camara;
