--
-- The twins _many
--
\getenv inputdir PG_ABS_SRCDIR
\set setup :inputdir '/sql/operation.psql'
\set hint false
\set ECHO none
\i :setup
\set ECHO all

CREATE SERVER op_rsp FOREIGN DATA WRAPPER esim_rsp
	OPTIONS (protocol 'camara', url 'https://rsp.example.com', smdp_address 'smdp.example.com');
INSERT INTO esim_device (eid, server)
SELECT ('890490320000000000000000000003' || lpad(g::text, 2, '0'))::eid, 'op_rsp' FROM generate_series(1, 20) g;
INSERT INTO esim_profile (iccid, eid, state)
SELECT ('89440000000000003' || lpad(g::text, 2, '0'))::iccid, ('890490320000000000000000000003' || lpad(g::text, 2, '0'))::eid,
	CASE WHEN g % 2 = 0 THEN 'DISABLED' ELSE 'ENABLED' END::esim_profile_state FROM generate_series(1, 10) g;

-- abort: the first error in the order of the arrays, nothing is queued
SELECT * FROM esim_enable_many(ARRAY['8944000000000000302', '8944000000000000301', '8944000000000000303']::iccid[]);
\set SHOW_CONTEXT always
SELECT * FROM esim_enable_many(ARRAY['8944000000000000302', NULL]::iccid[]);
\set SHOW_CONTEXT never
SELECT count(*) FROM esim_operation;

-- report: what is good is queued
BEGIN;
SELECT ordinal, operation IS NOT NULL AS made, sqlstate, code, message
FROM esim_enable_many(ARRAY['8944000000000000304', '8944000000000000301', '8944000000000000399', NULL, '8944000000000000302', '8944000000000000302']::iccid[],
	on_error => 'report', priority => 3::smallint, correlator => 'many');
SELECT kind, right(iccid::text, 3) AS iccid, priority, correlator, phase FROM esim_operation ORDER BY seq;
SELECT state, claimed, shard = (lane >> 1) & 15 AS shard FROM esim_pending ORDER BY seq;
ROLLBACK;

-- EIDs check, rows name profiles
BEGIN;
SELECT ordinal, code FROM esim_disable_many(ARRAY['8944000000000000301', '8944000000000000303']::iccid[],
	ARRAY['89049032000000000000000000000302', '89049032000000000000000000000303']::eid[], on_error => 'report');
SELECT count(operation) FROM esim_delete_many(profiles => (SELECT array_agg(id) FROM esim_profile));
ROLLBACK;

-- one lane: in the order of the array, each against what is ahead
BEGIN;
SELECT ordinal, code FROM esim_download_many(
	array_fill('89049032000000000000000000000311'::eid, ARRAY[3]),
	ARRAY['8944000000000000321', '8944000000000000322', '8944000000000000321']::iccid[],
	activation_codes => ARRAY['1$smdp.example.com$A', NULL, '1$smdp.example.com$B']::activation_code[],
	activate_on_download => true, on_error => 'report');
SELECT ordinal, code FROM esim_enable_many(ARRAY['8944000000000000322', '8944000000000000321', '8944000000000000322']::iccid[], on_error => 'report');
SELECT kind, right(iccid::text, 3) AS iccid, activation_code, activate_on_download, phase_reason, cardinality(depends_on) AS depends_on
FROM esim_operation ORDER BY seq;
ROLLBACK;

-- downloads: new profiles, known ones, one ICCID to two eUICCs, an unknown device
BEGIN;
INSERT INTO esim_profile (iccid, state) VALUES ('8944000000000000332', 'RELEASED');
SELECT ordinal, operation IS NOT NULL AS made, code, message FROM esim_download_many(
	ARRAY['89049032000000000000000000000315', '89049032000000000000000000000312', '89049032000000000000000000000313',
		'89049032000000000000000000000314', '89049032000000000000000000000398', NULL, '89049032000000000000000000000316']::eid[],
	ARRAY['8944000000000000331', '8944000000000000332', '8944000000000000331', '8944000000000000333', '8944000000000000334',
		'8944000000000000335', NULL]::iccid[], on_error => 'report');
SELECT right(eid::text, 3) AS eid, right(iccid::text, 3) AS iccid FROM esim_operation ORDER BY seq;
SELECT right(iccid::text, 3) AS iccid, state FROM esim_profile WHERE state = 'RELEASED' ORDER BY iccid;
ROLLBACK;

-- keys: one per element
BEGIN;
CREATE TEMPORARY TABLE first AS
SELECT * FROM esim_enable_many(ARRAY['8944000000000000302', '8944000000000000304']::iccid[], idempotency_key => 'batch');
SELECT f.operation = s.operation AS same FROM first f JOIN
	esim_enable_many(ARRAY['8944000000000000302', '8944000000000000304']::iccid[], idempotency_key => 'batch') s USING (ordinal);
SELECT ordinal, code FROM esim_enable_many(ARRAY['8944000000000000304', '8944000000000000302']::iccid[], idempotency_key => 'batch', on_error => 'report');
SELECT idempotency_key FROM esim_operation ORDER BY seq;
ROLLBACK;

-- the guard says it once
SET esim.lockout_guard = warning;
BEGIN;
SELECT count(*) FROM esim_disable_many(ARRAY['8944000000000000301', '8944000000000000303']::iccid[]);
ROLLBACK;
SET esim.lockout_guard = error;
SELECT ordinal, code FROM esim_disable_many(ARRAY['8944000000000000301']::iccid[], on_error => 'report');
SET esim.lockout_guard = off;

-- arguments
SELECT * FROM esim_enable_many(ARRAY['8944000000000000302']::iccid[], ARRAY[]::eid[]);
SELECT * FROM esim_enable_many(ARRAY[ARRAY['8944000000000000302']]::iccid[]);
SELECT * FROM esim_enable_many(ARRAY['8944000000000000302']::iccid[], on_error => 'ignore');
SELECT * FROM esim_enable_many();
SELECT * FROM esim_enable_many(ARRAY[]::iccid[]);
SELECT * FROM esim_refresh_many(NULL);

-- more than one chunk
INSERT INTO esim_device (eid, server)
SELECT ('8904903200000000000000000001' || lpad(g::text, 4, '0'))::eid, 'op_rsp' FROM generate_series(1, 5000) g;
BEGIN;
SELECT count(*), count(DISTINCT operation), count(operation) FILTER (WHERE ordinal = 10001) AS last
FROM esim_refresh_many((SELECT array_agg(eid ORDER BY eid DESC) || array_agg(eid) || array_agg(eid ORDER BY eid) FILTER (WHERE eid::text LIKE '%0001')
	FROM esim_device WHERE eid::text LIKE '8904903200000000000000000001%'));
SELECT state, count(*), count(DISTINCT lane) FROM esim_pending GROUP BY state ORDER BY state;
SELECT bool_and(o.seq = q.seq AND o.eid = q.eid AND o.id = q.operation) FROM esim_operation o FULL JOIN esim_pending q ON q.operation = o.id;
ROLLBACK;

DELETE FROM esim_profile;
DELETE FROM esim_device;
DROP SERVER op_rsp;
