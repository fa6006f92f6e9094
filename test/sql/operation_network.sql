--
-- Operations in the network: preconditions cell by cell and against the
-- projected state, rows of profiles and fleets, bulk calls, repeated calls
--
\getenv inputdir PG_ABS_SRCDIR
\set setup :inputdir '/sql/operation.psql'
\set hint true
\set ECHO none
\i :setup
\set ECHO all
CREATE FUNCTION pg_temp.show() RETURNS TABLE (n bigint, kind text, iccid text, phase esim_operation_phase,
	phase_reason text, depends_on text, queue "char")
LANGUAGE sql AS $$
	WITH o AS (SELECT row_number() OVER (ORDER BY seq) AS n, * FROM esim_operation)
	SELECT o.n, o.kind, right(o.iccid::text, 3), o.phase, o.phase_reason,
		(SELECT string_agg(d.n || ' ' || d.kind, ', ' ORDER BY d.n) FROM o d WHERE d.id = ANY (o.depends_on)), q.state
	FROM o LEFT JOIN esim_pending q ON q.operation = o.id ORDER BY o.n
$$;

CREATE SERVER nw_smdp FOREIGN DATA WRAPPER esim_rsp
	OPTIONS (protocol 'es2plus', url 'https://smdp.example.com', requester_id '1.3.6.1.4.1.1', smdp_address 'smdp.example.com');
CREATE SERVER nw_net FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'twilio', url 'https://net.example.com/v1');
CREATE SERVER nw_eim FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'eim', url 'https://eim.example.com');
INSERT INTO esim_device (eid, server) VALUES
	('89049032000000000000000000000801', 'nw_eim'), ('89049032000000000000000000000802', 'nw_eim');
INSERT INTO esim_profile (id, iccid, state, server) VALUES
	('00000000-0000-4000-8000-000000000801', '8944000000000000801', 'RESERVED', 'nw_smdp');

-- ------------------------------------------------------------------------
-- Kind against the profile's state
-- ------------------------------------------------------------------------

CREATE FUNCTION pg_temp.cell(call text, profile_state esim_profile_state) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	UPDATE esim_profile SET state = profile_state,
		eid = CASE WHEN profile_state IN ('DOWNLOADED', 'INSTALLED', 'DISABLED', 'ENABLED') THEN '89049032000000000000000000000801'::eid END
	WHERE id = '00000000-0000-4000-8000-000000000801';
	result := pg_temp.attempt(call);
	RETURN CASE result WHEN 'ok' THEN 'yes' ELSE split_part(split_part(result, '| ', 2), ':', 1) END;
END
$$;
SELECT s AS state,
	pg_temp.cell($c$SELECT esim_reserve(profile => '00000000-0000-4000-8000-000000000801')$c$, s) AS reserve,
	pg_temp.cell($c$SELECT esim_reserve(iccid => '8944000000000000801', server => 'nw_smdp')$c$, s) AS reserve_iccid,
	pg_temp.cell($c$SELECT esim_release('8944000000000000801')$c$, s) AS release,
	pg_temp.cell($c$SELECT esim_cancel_order('8944000000000000801')$c$, s) AS cancel_order,
	pg_temp.cell($c$SELECT esim_set_subscription('8944000000000000801', 'ACTIVE', 'f')$c$, s) AS set_subscription,
	pg_temp.cell($c$SELECT esim_assign_fleet('8944000000000000801', 'f')$c$, s) AS assign_fleet
FROM unnest(enum_range(NULL::esim_profile_state)) s;

-- the messages
UPDATE esim_profile SET state = 'RELEASED', eid = NULL WHERE id = '00000000-0000-4000-8000-000000000801';
SELECT esim_release('8944000000000000801');
SELECT esim_reserve(iccid => '8944000000000000801', server => 'nw_smdp');
UPDATE esim_profile SET state = 'INSTALLED' WHERE id = '00000000-0000-4000-8000-000000000801';
SELECT esim_cancel_order('8944000000000000801');
UPDATE esim_profile SET state = 'RESERVING' WHERE id = '00000000-0000-4000-8000-000000000801';
SELECT esim_set_subscription('8944000000000000801', 'INACTIVE');
SELECT esim_download('89049032000000000000000000000801', '8944000000000000801');

-- ------------------------------------------------------------------------
-- The subscription's status against the one that is asked for
-- ------------------------------------------------------------------------

UPDATE esim_profile SET state = 'ENABLED', eid = '89049032000000000000000000000801', server = 'nw_net'
WHERE id = '00000000-0000-4000-8000-000000000801';
CREATE FUNCTION pg_temp.change(now esim_subscription_status, wanted esim_subscription_status, in_fleet boolean, with_fleet boolean DEFAULT false)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	UPDATE esim_profile SET subscription_status = now, fleet = CASE WHEN in_fleet THEN 'f' END
	WHERE id = '00000000-0000-4000-8000-000000000801';
	result := pg_temp.attempt(format('SELECT esim_set_subscription(%L, %L, %L)', '8944000000000000801', wanted,
		CASE WHEN with_fleet THEN 'g' END));
	RETURN CASE result WHEN 'ok' THEN 'yes' ELSE split_part(split_part(result, '| ', 2), ':', 1) END;
END
$$;
SELECT s AS status, f.in_fleet,
	pg_temp.change(s, 'NEW', f.in_fleet) AS new,
	pg_temp.change(s, 'READY', f.in_fleet) AS ready,
	pg_temp.change(s, 'ACTIVE', f.in_fleet) AS active,
	pg_temp.change(s, 'INACTIVE', f.in_fleet) AS inactive,
	pg_temp.change(s, 'SCHEDULED', f.in_fleet) AS scheduled,
	pg_temp.change(s, 'ACTIVE', f.in_fleet, true) AS active_and_fleet,
	pg_temp.change(s, NULL, f.in_fleet, true) AS fleet,
	pg_temp.change(s, NULL, f.in_fleet) AS nothing
FROM unnest(enum_range(NULL::esim_subscription_status) || NULL::esim_subscription_status) WITH ORDINALITY s (s, n),
	(VALUES (true), (false)) f (in_fleet)
ORDER BY f.in_fleet DESC, s.n;

-- the messages
UPDATE esim_profile SET subscription_status = 'NEW', fleet = NULL WHERE id = '00000000-0000-4000-8000-000000000801';
SELECT esim_set_subscription('8944000000000000801', 'ACTIVE');
SELECT esim_set_subscription('8944000000000000801', 'INACTIVE');
SELECT esim_set_subscription('8944000000000000801', 'NEW');
SELECT esim_set_subscription('8944000000000000801');
SELECT esim_set_subscription('8944000000000000801', 'ASLEEP');
SELECT esim_assign_fleet('8944000000000000801');
SELECT esim_assign_fleet('8944000000000000801', '');
UPDATE esim_profile SET subscription_status = 'INACTIVE', fleet = 'f' WHERE id = '00000000-0000-4000-8000-000000000801';
SELECT esim_set_subscription('8944000000000000801', 'READY');
UPDATE esim_profile SET subscription_status = 'SCHEDULED' WHERE id = '00000000-0000-4000-8000-000000000801';
SELECT esim_assign_fleet('8944000000000000801', 'g');

-- the projected status
UPDATE esim_profile SET subscription_status = 'NEW', fleet = NULL WHERE id = '00000000-0000-4000-8000-000000000801';
BEGIN;
SELECT esim_assign_fleet('8944000000000000801', 'f') IS NOT NULL AS fleet,
	esim_set_subscription('8944000000000000801', 'READY') IS NOT NULL AS ready,
	esim_set_subscription('8944000000000000801', 'ACTIVE') IS NOT NULL AS active;
SELECT pg_temp.attempt($c$SELECT esim_set_subscription('8944000000000000801', 'READY')$c$);
SELECT esim_set_subscription('8944000000000000801', 'INACTIVE') IS NOT NULL AS inactive;
SELECT * FROM pg_temp.show();
ROLLBACK;
-- what is scheduled by an operation ahead ends as that one wants it
UPDATE esim_profile SET subscription_status = 'SCHEDULED', fleet = 'f' WHERE id = '00000000-0000-4000-8000-000000000801';
SELECT pg_temp.attempt($c$SELECT esim_set_subscription('8944000000000000801', 'INACTIVE')$c$, false);
UPDATE esim_profile SET subscription_status = 'NEW' WHERE id = '00000000-0000-4000-8000-000000000801';
BEGIN;
SELECT esim_set_subscription('8944000000000000801', 'ACTIVE') IS NOT NULL AS active;
UPDATE esim_profile SET subscription_status = 'SCHEDULED' WHERE id = '00000000-0000-4000-8000-000000000801';
SELECT esim_set_subscription('8944000000000000801', 'INACTIVE') IS NOT NULL AS inactive;
SELECT * FROM pg_temp.show();
ROLLBACK;

-- an enable follows changes of the subscription; it needs those that let it attach
UPDATE esim_profile SET state = 'DISABLED', subscription_status = 'NEW', fleet = NULL WHERE id = '00000000-0000-4000-8000-000000000801';
BEGIN;
SELECT esim_set_subscription('8944000000000000801', 'ACTIVE', 'f') IS NOT NULL AS active,
	esim_assign_fleet('8944000000000000801', 'g') IS NOT NULL AS fleet,
	esim_enable('8944000000000000801') IS NOT NULL AS enable,
	esim_disable('8944000000000000801') IS NOT NULL AS disable;
SELECT n, kind, phase_reason, depends_on, queue, (SELECT array_agg(w.kind ORDER BY w.seq) FROM esim_pending q
	JOIN esim_operation o ON o.id = q.operation JOIN esim_operation w ON w.id = ANY (q.waits_for)
	WHERE o.kind = s.kind) AS waits_for FROM pg_temp.show() s;
ROLLBACK;
UPDATE esim_profile SET subscription_status = 'ACTIVE', fleet = 'f' WHERE id = '00000000-0000-4000-8000-000000000801';
BEGIN;
SELECT esim_set_subscription('8944000000000000801', 'INACTIVE') IS NOT NULL AS inactive,
	esim_enable('8944000000000000801') IS NOT NULL AS enable;
SELECT * FROM pg_temp.show();
ROLLBACK;

-- neither ICCID nor subscription known
UPDATE esim_profile SET iccid = NULL, state = 'RELEASED', eid = NULL WHERE id = '00000000-0000-4000-8000-000000000801';
SELECT pg_temp.attempt($c$SELECT esim_assign_fleet(profile => '00000000-0000-4000-8000-000000000801', fleet => 'f')$c$);
UPDATE esim_profile SET sim_id = 'HS00000000000000000000000000000001' WHERE id = '00000000-0000-4000-8000-000000000801';
SELECT pg_temp.attempt($c$SELECT esim_assign_fleet(profile => '00000000-0000-4000-8000-000000000801', fleet => 'f')$c$);
DELETE FROM esim_profile;

-- ------------------------------------------------------------------------
-- Orders
-- ------------------------------------------------------------------------

-- the projected state
BEGIN;
SELECT esim_reserve('89049032000000000000000000000801', iccid => '8944000000000000802', release => false, confirmation_code => '4711',
	server => 'nw_smdp') AS reserve \gset
SELECT esim_download('89049032000000000000000000000801', '8944000000000000802', '1$smdp.example.com$X') IS NOT NULL AS download_before_release;
SELECT pg_temp.attempt($c$SELECT esim_release('8944000000000000802')$c$);
SELECT pg_temp.attempt($c$SELECT esim_cancel_order('8944000000000000802')$c$);
SELECT * FROM pg_temp.show();
ROLLBACK;
BEGIN;
SELECT esim_reserve('89049032000000000000000000000801', iccid => '8944000000000000802', release => false, confirmation_code => '4711',
	server => 'nw_smdp') AS reserve \gset
SELECT iccid, eid, owner = current_user::regrole AS mine, owner_name = current_user AS my_name, state, state_source, reserved_eid, server
FROM esim_profile;
SELECT esim_release('8944000000000000802') IS NOT NULL AS release;
SELECT esim_download('89049032000000000000000000000801', '8944000000000000802') IS NOT NULL AS download;
SELECT pg_temp.attempt($c$SELECT esim_reserve(iccid => '8944000000000000802', server => 'nw_smdp')$c$);
SELECT * FROM pg_temp.show();
-- secrets are not in the operation
SELECT confirmation_code, sink_credential FROM esim_operation_secret;
SELECT count(*) FROM esim_operation o WHERE o::text LIKE '%4711%';
-- an order whose download only waits for the device can be taken back
SELECT pg_temp.attempt($c$SELECT esim_cancel_order('8944000000000000802')$c$, false);
UPDATE esim_operation SET phase = 'WAITING_DEVICE' WHERE kind = 'download';
SELECT esim_cancel_order('8944000000000000802', final_status => 'Unavailable') IS NOT NULL AS cancel_order;
SELECT final_status FROM esim_operation WHERE kind = 'cancel-order';
SELECT pg_temp.attempt($c$SELECT esim_cancel_order('8944000000000000802')$c$, false);
-- everything that needed the reservation goes with it
SELECT esim_cancel(:'reserve');
SELECT n, kind, o.result, o.error_code, s.queue FROM pg_temp.show() s JOIN esim_operation o USING (kind) ORDER BY n;
SELECT p.state, e.old_state, e.new_state, e.cause, e.detail FROM esim_profile p JOIN esim_profile_event e ON e.profile = p.id;
-- and the ICCID is free again
SELECT esim_reserve(iccid => '8944000000000000802', server => 'nw_smdp') IS NOT NULL AS reserve_again;
SELECT count(*) FROM esim_profile;
-- a retry asks for the same ICCID
SELECT ordinal, code, message FROM esim_retry(ARRAY[:'reserve']::uuid[]);
DELETE FROM esim_profile WHERE state = 'RESERVING';
-- with a row of its own where the former one has come to an end
SELECT ordinal, code, message FROM esim_retry(ARRAY[:'reserve']::uuid[]);
SELECT iccid, state, reserved_eid FROM esim_profile ORDER BY state;
ROLLBACK;

-- a reservation that was not carried out goes on with its row
BEGIN;
SELECT esim_reserve(profile_type => 'iot', matching_id => 'AAAAA-BBBBB', smds_address => NULL, server => 'nw_smdp') AS reserve \gset
DELETE FROM esim_pending;
UPDATE esim_operation SET status = 'COMPLETED', result = 'FAILED', phase = 'DONE', completed_at = now(), error_code = 'EXPIRED';
SELECT ordinal, code, message FROM esim_retry(ARRAY[:'reserve']::uuid[]);
SELECT kind, status, retry_of = :'reserve' AS retry, profile = (SELECT profile FROM esim_operation WHERE id = :'reserve') AS same_row,
	generate_matching_id, matching_id, profile_type, release FROM esim_operation ORDER BY seq;
ROLLBACK;
-- the parameters of the others
INSERT INTO esim_profile (id, iccid, state, server, subscription_status) VALUES
	('00000000-0000-4000-8000-000000000803', '8944000000000000803', 'RESERVED', 'nw_smdp', 'NEW');
BEGIN;
SELECT esim_set_subscription('8944000000000000803', 'READY', 'f') IS NOT NULL, esim_assign_fleet('8944000000000000803', 'g') IS NOT NULL,
	esim_cancel_order('8944000000000000803', 'Unavailable') IS NOT NULL, esim_fleet_create('h', '{"NetworkAccessProfile": "n"}') IS NOT NULL,
	esim_sync('nw_net', correlator => 'c') IS NOT NULL;
SELECT array_agg(id ORDER BY seq) AS first FROM esim_operation \gset
DELETE FROM esim_pending;
UPDATE esim_operation SET status = 'COMPLETED', result = 'FAILED', phase = 'DONE', completed_at = now(), error_code = 'EXPIRED';
SELECT ordinal, code, message FROM esim_retry(:'first');
SELECT o.kind, o.server, o.correlator, o.profile IS NOT DISTINCT FROM r.profile AS same_profile, o.subscription_status, o.fleet, o.final_status, o.settings
FROM esim_operation o JOIN esim_operation r ON r.id = o.retry_of ORDER BY o.seq;
ROLLBACK;

-- arguments
SELECT k.call, pg_temp.attempt(k.call, false) FROM unnest(ARRAY[
	$$SELECT esim_reserve(server => 'nw_smdp')$$,
	$$SELECT esim_reserve(server => 'nw_net')$$,
	$$SELECT esim_reserve('89049032000000000000000000000899', server => 'nw_smdp')$$,
	$$SELECT esim_reserve('89049032000000000000000000000801', true, server => 'nw_net')$$,
	$$SELECT esim_reserve('89049032000000000000000000000801', server => 'nw_net')$$,
	$$SELECT esim_reserve(generate_matching_id => true, server => 'nw_net')$$,
	$$SELECT esim_reserve(generate_matching_id => true, profile_type => 'iot', server => 'nw_net')$$,
	$$SELECT esim_reserve(iccid => '8944000000000000804', server => 'nw_net')$$,
	$$SELECT esim_reserve(generate_matching_id => true, release => false, server => 'nw_net')$$,
	$$SELECT esim_reserve(generate_matching_id => true, matching_id => 'A', server => 'nw_smdp')$$,
	$$SELECT esim_reserve(matching_id => 'a$b', server => 'nw_smdp')$$,
	$$SELECT esim_reserve(profile_type => repeat('x', 201), server => 'nw_smdp')$$,
	$$SELECT esim_reserve(profile => '00000000-0000-4000-8000-000000000899', server => 'nw_smdp')$$,
	$$SELECT esim_release()$$,
	$$SELECT esim_release('8944000000000000899')$$,
	$$SELECT esim_release('8944000000000000803', profile => '00000000-0000-4000-8000-000000000899')$$,
	$$SELECT esim_cancel_order('8944000000000000803', 'available')$$,
	$$SELECT esim_cancel_order('8944000000000000803', NULL)$$,
	$$SELECT esim_set_subscription(status => 'ACTIVE')$$,
	$$SELECT esim_set_subscription('8944000000000000803', 'ACTIVE', repeat('x', 201))$$,
	$$SELECT esim_fleet_create(NULL, '{"NetworkAccessProfile": "n"}')$$,
	$$SELECT esim_fleet_create('', '{"NetworkAccessProfile": "n"}')$$,
	$$SELECT esim_fleet_create('f')$$,
	$$SELECT esim_fleet_create('f', '[]')$$,
	$$SELECT esim_fleet_create('f', '{"NetworkAccessProfile": "n", "Colour": "red"}')$$,
	$$SELECT esim_fleet_create('f', '{"NetworkAccessProfile": "n", "DataLimit": 0}')$$,
	$$SELECT esim_sync(NULL)$$]) k (call);

-- ------------------------------------------------------------------------
-- Fleets
-- ------------------------------------------------------------------------

BEGIN;
SELECT esim_fleet_create('f', '{"NetworkAccessProfile": "n"}') AS create \gset
SELECT pg_temp.attempt($c$SELECT esim_fleet_create('f', '{"NetworkAccessProfile": "n"}')$c$);
-- made again when it has failed
DELETE FROM esim_pending;
UPDATE esim_operation SET status = 'COMPLETED', result = 'FAILED', phase = 'DONE', completed_at = now(), error_code = 'EXPIRED';
SELECT esim_fleet_create('f', '{"NetworkAccessProfile": "m"}') IS NOT NULL AS again;
SELECT name, server, rsp_id, settings FROM esim_fleet;
DELETE FROM esim_pending;
UPDATE esim_fleet SET rsp_id = 'HF00000000000000000000000000000001';
SELECT pg_temp.attempt($c$SELECT esim_fleet_create('f', '{"NetworkAccessProfile": "n"}')$c$);
-- a bulk call with a name twice
SELECT ordinal, operation IS NOT NULL AS queued, sqlstate, code, message
FROM esim_fleet_create_many(ARRAY['g', 'f', 'h', 'g', NULL], '{"NetworkAccessProfile": "n"}', on_error => 'report');
SELECT name, settings FROM esim_fleet ORDER BY name;
ROLLBACK;

-- ------------------------------------------------------------------------
-- Bulk calls, repeated calls
-- ------------------------------------------------------------------------

BEGIN;
SELECT ordinal, operation IS NOT NULL AS queued, code, message
FROM esim_reserve_many(eids => array_fill(NULL::eid, ARRAY[3]), generate_matching_id => true, server => 'nw_net');
SELECT count(*), count(DISTINCT p.lane), bool_and(p.state = 'RESERVING'), bool_and(q.lane = p.lane), bool_and(q.state = 'R')
FROM esim_pending q JOIN esim_profile p ON p.id = q.profile;
ROLLBACK;
BEGIN;
SELECT ordinal, operation IS NOT NULL AS queued, code, message
FROM esim_reserve_many(
	ARRAY['89049032000000000000000000000801', NULL, '89049032000000000000000000000802', '89049032000000000000000000000899', NULL]::eid[],
	iccids => ARRAY[NULL, '8944000000000000805', '8944000000000000805', NULL, '8944000000000000803']::iccid[],
	confirmation_codes => ARRAY['1', NULL, NULL, NULL, NULL], server => 'nw_smdp', on_error => 'report');
SELECT p.iccid, p.state, p.reserved_eid, o.kind FROM esim_profile p LEFT JOIN esim_operation o ON o.profile = p.id ORDER BY 1, 3;
ROLLBACK;
SELECT pg_temp.attempt($c$SELECT count(*) FROM esim_reserve_many(iccids => ARRAY['8944000000000000803']::iccid[], server => 'nw_smdp')$c$);
SELECT pg_temp.attempt($c$SELECT count(*) FROM esim_reserve_many(generate_matching_id => true, server => 'nw_net')$c$);
SELECT pg_temp.attempt($c$SELECT count(*) FROM esim_reserve_many(server => 'nw_net')$c$);
SELECT pg_temp.attempt($c$SELECT count(*) FROM esim_release_many()$c$);
SELECT * FROM esim_release_many('{}');

INSERT INTO esim_profile (iccid, state, server, subscription_status)
SELECT ('89440000000001' || to_char(n, 'FM00000'))::iccid, CASE WHEN n % 2 = 0 THEN 'RESERVED' ELSE 'ENABLED' END::esim_profile_state, 'nw_smdp',
	CASE WHEN n % 3 = 0 THEN 'ACTIVE' ELSE 'NEW' END::esim_subscription_status
FROM generate_series(1, 6) n WHERE n % 2 = 0;
BEGIN;
SELECT ordinal, operation IS NOT NULL AS queued, code, message FROM esim_set_subscription_many(
	ARRAY['8944000000000100002', '8944000000000100004', '8944000000000100006', '8944000000000100099', '8944000000000100002', NULL]::iccid[],
	'READY', 'f', on_error => 'report');
SELECT ordinal, code, message FROM esim_assign_fleet_many(ARRAY['8944000000000100002', '8944000000000100006']::iccid[], 'g');
SELECT ordinal, code, message FROM esim_release_many(profiles => (SELECT array_agg(id ORDER BY iccid) FROM esim_profile), on_error => 'report');
SELECT ordinal, code, message FROM esim_cancel_order_many(ARRAY['8944000000000100004', '8944000000000100004']::iccid[], on_error => 'report');
SELECT * FROM pg_temp.show() ORDER BY iccid, n;
ROLLBACK;

-- idempotency keys: what was asked for counts, not what there is by now
BEGIN;
SELECT esim_reserve(generate_matching_id => true, server => 'nw_net', idempotency_key => 'k1') AS k1 \gset
SELECT esim_reserve(generate_matching_id => true, server => 'nw_net', idempotency_key => 'k1', correlator => 'c') = :'k1' AS again;
SELECT count(*) FROM esim_profile WHERE state = 'RESERVING';
SELECT pg_temp.attempt($c$SELECT esim_reserve('89049032000000000000000000000801', server => 'nw_net', idempotency_key => 'k1')$c$, false);
SELECT esim_reserve(iccid => '8944000000000000806', matching_id => 'A', server => 'nw_smdp', idempotency_key => 'k2') AS k2 \gset
SELECT esim_reserve(iccid => '8944000000000000806', matching_id => 'A', server => 'nw_smdp', idempotency_key => 'k2') = :'k2' AS again;
SELECT pg_temp.attempt($c$SELECT esim_reserve(iccid => '8944000000000000806', matching_id => 'B', server => 'nw_smdp', idempotency_key => 'k2')$c$, false);
SELECT pg_temp.attempt($c$SELECT esim_reserve(iccid => '8944000000000000806', matching_id => 'A', release => false, server => 'nw_smdp', idempotency_key => 'k2')$c$, false);
SELECT esim_set_subscription('8944000000000000803', 'ACTIVE', 'f', idempotency_key => 'k3') AS k3 \gset
SELECT esim_set_subscription('8944000000000000803', 'ACTIVE', 'f', idempotency_key => 'k3') = :'k3' AS again;
SELECT pg_temp.attempt($c$SELECT esim_set_subscription('8944000000000000803', 'ACTIVE', 'g', idempotency_key => 'k3')$c$, false);
SELECT pg_temp.attempt($c$SELECT esim_set_subscription('8944000000000000803', 'INACTIVE', 'f', idempotency_key => 'k3')$c$, false);
SELECT esim_fleet_create('f', '{"NetworkAccessProfile": "n"}', idempotency_key => 'k4') AS k4 \gset
SELECT esim_fleet_create('f', '{"NetworkAccessProfile": "n"}', idempotency_key => 'k4') = :'k4' AS again;
SELECT pg_temp.attempt($c$SELECT esim_fleet_create('f', '{"NetworkAccessProfile": "m"}', idempotency_key => 'k4')$c$, false);
SELECT esim_sync('nw_eim', idempotency_key => 'k5') AS k5 \gset
SELECT esim_sync('nw_eim', idempotency_key => 'k5') = :'k5' AS again;
SELECT pg_temp.attempt($c$SELECT esim_sync('nw_net', idempotency_key => 'k5')$c$, false);
ROLLBACK;

DELETE FROM esim_profile;
DELETE FROM esim_profile_lane;
DELETE FROM esim_device;
DROP SERVER nw_smdp;
DROP SERVER nw_net;
DROP SERVER nw_eim;
