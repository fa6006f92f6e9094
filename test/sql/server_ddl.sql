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

-- an unfinished operation keeps its server from being dropped
SET esim.workers = 0;
SELECT esim_pause('sd_b');
BEGIN;
SELECT esim_refresh('89049032123451234512345678901235', server => 'sd_b') IS NOT NULL AS queued;
DROP SERVER sd_b;
ROLLBACK;
SELECT esim_refresh('89049032123451234512345678901235', server => 'sd_b') AS operation \gset
\set VERBOSITY verbose
DROP SERVER sd_b;
\set VERBOSITY default
ALTER SERVER sd_b RENAME TO sd_d;
SELECT o.server, p.server FROM esim_operation o JOIN esim_pending p ON p.operation = o.id WHERE o.id = :'operation';
SELECT server FROM esim_paused;
DROP SERVER sd_d;
SELECT esim_cancel(:'operation');

-- rows do not, nor does a finished operation
DROP SERVER sd_d;
SELECT server FROM esim_operation WHERE id = :'operation';
SELECT server FROM esim_paused;
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
DROP OWNED BY regress_esim_owner;
DROP ROLE regress_esim_owner;
SELECT name FROM esim_server_name WHERE name LIKE 'sd\_%' ORDER BY name;

-- names that were noted wrongly (pg_upgrade gives other OIDs) do no harm
UPDATE esim_server_name SET name = 'sd_gone' WHERE name = 'sd_c';
INSERT INTO esim_server_name VALUES (1, 'sd_c');
UPDATE esim_device SET server = 'sd_gone' WHERE server = 'sd_b';
ALTER SERVER sd_c OPTIONS (ADD timeout '5 s');
SELECT server FROM esim_device WHERE server LIKE 'sd\_%' ORDER BY eid;
SELECT n.name FROM esim_server_name n JOIN pg_foreign_server s ON s.oid = n.serverid AND s.srvname = n.name
WHERE n.name LIKE 'sd\_%';

-- servers of other wrappers are let be
CREATE FOREIGN DATA WRAPPER sd_other;
CREATE SERVER sd_other FOREIGN DATA WRAPPER sd_other;
ALTER SERVER sd_other RENAME TO sd_other2;
SELECT count(*) FROM esim_server_name WHERE name LIKE 'sd_other%';
DROP FOREIGN DATA WRAPPER sd_other CASCADE;

DROP SERVER sd_c;
DELETE FROM esim_profile WHERE server LIKE 'sd\_%';
DELETE FROM esim_device WHERE server LIKE 'sd\_%' OR server = 'sd_gone' OR server = 'sd_d';
