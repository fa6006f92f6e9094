--
-- RENAME and DROP of servers that the extension's tables name
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS esim;
RESET client_min_messages;
\set SHOW_CONTEXT never

CREATE SERVER sd_a FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://a.example.com');
CREATE SERVER sd_b FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://b.example.com');
SELECT n.name FROM esim_server_name n JOIN pg_foreign_server s ON s.oid = n.serverid AND s.srvname = n.name
WHERE n.name LIKE 'sd\_%' ORDER BY n.name;

INSERT INTO esim_device (eid, server) VALUES
	('89049032123451234512345678901235', 'sd_a'), ('89882119900000000000000000000005', 'sd_b');
INSERT INTO esim_profile (id, iccid, eid, state, server, subscription_server) VALUES
	('00000000-0000-7000-8000-00000000d001', NULL, NULL, 'RELEASED', 'sd_a', 'sd_b'),
	('00000000-0000-7000-8000-00000000d002', NULL, NULL, 'RELEASED', 'sd_b', 'sd_a');

-- rows that name the server follow its new name
ALTER SERVER sd_a RENAME TO sd_c;
SELECT eid, server FROM esim_device WHERE server LIKE 'sd\_%' ORDER BY eid;
SELECT id, server, subscription_server FROM esim_profile WHERE server LIKE 'sd\_%' ORDER BY id;

-- two servers change their names
BEGIN;
ALTER SERVER sd_b RENAME TO sd_x;
ALTER SERVER sd_c RENAME TO sd_b;
ALTER SERVER sd_x RENAME TO sd_c;
COMMIT;
SELECT eid, server FROM esim_device WHERE server LIKE 'sd\_%' ORDER BY eid;
BEGIN;
ALTER SERVER sd_b RENAME TO sd_y;
ROLLBACK;
SELECT eid, server FROM esim_device WHERE server LIKE 'sd\_%' ORDER BY eid;

-- other statements change nothing
ALTER SERVER sd_b OPTIONS (ADD timeout '5 s');
ALTER SERVER sd_b VERSION '2';
SELECT eid, server FROM esim_device WHERE server LIKE 'sd\_%' ORDER BY eid;

-- an unfinished operation keeps its server from being dropped; it is parked
-- under a lane and an epoch of its own, so that no worker takes it
INSERT INTO esim_fleet (name, server) VALUES ('sd', 'sd_b');
INSERT INTO esim_paused (server, reason) VALUES ('sd_b', 'test');
INSERT INTO esim_operation (id, seq, kind, eid, owner, owner_name, requested_by, server, expires_at, status, result, phase, completed_at)
SELECT ('00000000-0000-7000-8000-00000000d10' || n)::uuid, -n, 'refresh', '89049032123451234512345678901235',
	quote_ident(current_user)::regrole, current_user, quote_ident(current_user)::regrole, 'sd_b', 'infinity',
	CASE WHEN n = 3 THEN 'COMPLETED' ELSE 'ACCEPTED' END::esim_operation_state,
	CASE WHEN n = 3 THEN 'SUCCESS' END::esim_operation_result,
	CASE WHEN n = 3 THEN 'DONE' ELSE 'PARKED' END::esim_operation_phase,
	CASE WHEN n = 3 THEN now() END
FROM generate_series(1, 3) n;
INSERT INTO esim_pending (seq, operation, lane, shard, state, priority, urgency, kind, eid, server, expires_at, system_identifier, timeline, database)
SELECT -n, ('00000000-0000-7000-8000-00000000d10' || n)::uuid, 0, 0, 'P', 0, 0, 'refresh', '89049032123451234512345678901235',
	'sd_b', 'infinity', 0, 0, 0
FROM generate_series(1, 2) n;
DROP SERVER sd_b;
DROP SERVER sd_c, sd_b;
DELETE FROM esim_pending WHERE seq = -2;
DROP SERVER sd_b CASCADE;
\echo :LAST_ERROR_SQLSTATE

-- nor does its protocol change, whatever is changed with it
ALTER SERVER sd_b OPTIONS (SET protocol 'eim');
\echo :LAST_ERROR_SQLSTATE
ALTER SERVER sd_b OPTIONS (SET protocol 'CAMARA', ADD dialect '2026-02', SET url 'https://d.example.com');

-- unfinished operations follow the name, finished ones keep it
ALTER SERVER sd_b RENAME TO sd_d;
SELECT o.id, o.status, o.server, p.server AS pending
FROM esim_operation o LEFT JOIN esim_pending p ON p.operation = o.id WHERE o.seq IN (-1, -3) ORDER BY o.id;
SELECT name, server FROM esim_fleet WHERE server LIKE 'sd\_%';
SELECT server FROM esim_paused WHERE server LIKE 'sd\_%';
DROP SERVER sd_d;

-- rows do not keep it, nor does a finished operation
DELETE FROM esim_pending WHERE seq = -1;
ALTER SERVER sd_d OPTIONS (SET protocol 'eim', DROP dialect);
ALTER SERVER sd_d OPTIONS (SET protocol 'es2plus');
DROP SERVER sd_d;
SELECT server FROM esim_paused WHERE server LIKE 'sd\_%';
SELECT name FROM esim_server_name WHERE name LIKE 'sd\_%' ORDER BY name;

-- DROP OWNED, by a role that owns a server
CREATE ROLE regress_esim_owner;
GRANT USAGE ON FOREIGN DATA WRAPPER esim_rsp TO regress_esim_owner;
SET ROLE regress_esim_owner;
CREATE SERVER sd_e FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://e.example.com');
ALTER SERVER sd_e RENAME TO sd_f;
SELECT name FROM esim_server_name;
SELECT esim_server_lock(0);
RESET ROLE;
SELECT name FROM esim_server_name WHERE name LIKE 'sd\_%' ORDER BY name;
INSERT INTO esim_pending (seq, operation, lane, shard, state, priority, urgency, kind, server, expires_at, system_identifier, timeline, database)
VALUES (-1, '00000000-0000-7000-8000-00000000d101', 0, 0, 'P', 0, 0, 'refresh', 'sd_f', 'infinity', 0, 0, 0);
DROP OWNED BY regress_esim_owner;
DELETE FROM esim_pending WHERE seq = -1;
DROP OWNED BY regress_esim_owner;
DROP ROLE regress_esim_owner;
SELECT name FROM esim_server_name WHERE name LIKE 'sd\_%' ORDER BY name;

-- names that were noted wrongly (pg_upgrade gives other OIDs) do no harm
UPDATE esim_server_name SET name = 'sd_gone' WHERE name = 'sd_c';
INSERT INTO esim_server_name VALUES (1, 'sd_c');
UPDATE esim_device SET server = 'sd_gone' WHERE server = 'sd_d';
ALTER SERVER sd_c OPTIONS (ADD timeout '5 s');
SELECT server FROM esim_device WHERE server LIKE 'sd\_%' ORDER BY eid;
SELECT n.name FROM esim_server_name n JOIN pg_foreign_server s ON s.oid = n.serverid AND s.srvname = n.name
WHERE n.name LIKE 'sd\_%';

-- servers of other wrappers are let be
CREATE FOREIGN DATA WRAPPER sd_other;
CREATE SERVER sd_other FOREIGN DATA WRAPPER sd_other;
ALTER SERVER sd_other RENAME TO sd_other2;
SELECT count(*) FROM esim_server_name WHERE name LIKE 'sd_other%';
SET client_min_messages = warning;
DROP FOREIGN DATA WRAPPER sd_other CASCADE;
RESET client_min_messages;
DROP SERVER sd_c;

-- a server goes with its extension, whatever is queued
SET client_min_messages = warning;
BEGIN;
CREATE SERVER sd_g FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://g.example.com');
INSERT INTO esim_pending (seq, operation, lane, shard, state, priority, urgency, kind, server, expires_at, system_identifier, timeline, database)
VALUES (-1, '00000000-0000-7000-8000-00000000d101', 0, 0, 'P', 0, 0, 'refresh', 'sd_g', 'infinity', 0, 0, 0);
DROP EXTENSION esim CASCADE;
SELECT count(*) FROM pg_foreign_server WHERE srvname LIKE 'sd\_%';
ROLLBACK;
RESET client_min_messages;

DELETE FROM esim_operation WHERE seq < 0;
DELETE FROM esim_fleet WHERE name = 'sd';
DELETE FROM esim_profile WHERE server LIKE 'sd\_%';
DELETE FROM esim_device WHERE server LIKE 'sd\_%';
