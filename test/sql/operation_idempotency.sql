--
-- Idempotency keys
--
\getenv inputdir PG_ABS_SRCDIR
\set setup :inputdir '/sql/operation.psql'
\set hint false
\set ECHO none
\i :setup
\set ECHO all

CREATE SERVER op_rsp FOREIGN DATA WRAPPER esim_rsp
	OPTIONS (protocol 'camara', url 'https://rsp.example.com', smdp_address 'smdp.example.com');
INSERT INTO esim_device (eid, server) VALUES ('89049032000000000000000000000401', 'op_rsp');
INSERT INTO esim_profile (iccid, eid, state) VALUES ('8944000000000000401', '89049032000000000000000000000401', 'DISABLED');

-- the first operation, before any precondition, whatever became of it
SELECT esim_enable('8944000000000000401', idempotency_key => 'k1') AS k1 \gset
SELECT esim_enable('8944000000000000401', idempotency_key => 'k1') = :'k1' AS again;
SELECT esim_enable('8944000000000000401');
SELECT esim_cancel(:'k1');
SELECT esim_enable('8944000000000000401', idempotency_key => 'k1') = :'k1' AS after_its_end;
UPDATE esim_device SET retired_at = now();
SELECT esim_enable('8944000000000000401', idempotency_key => 'k1') = :'k1' AS retired;
UPDATE esim_device SET retired_at = NULL;
SELECT count(*) FROM esim_operation;

-- correlator, times and priority may differ
SELECT esim_enable('8944000000000000401', idempotency_key => 'k1', correlator => 'x', priority => 7::smallint,
	not_before => now() + '1 hour', expires_at => now() + '2 hours') = :'k1' AS same;
-- kind, identifiers, server, parameters may not
SELECT esim_disable('8944000000000000401', idempotency_key => 'k1');
SELECT pg_temp.attempt($c$SELECT esim_enable('8944000000000000401', '89049032000000000000000000000401', idempotency_key => 'k1')$c$);
SELECT pg_temp.attempt($c$SELECT esim_enable('8944000000000000401', rollback => false, idempotency_key => 'k1')$c$);
SELECT pg_temp.attempt($c$SELECT esim_enable('8944000000000000401', server => 'op_rsp', idempotency_key => 'k1')$c$);
SELECT pg_temp.attempt($c$SELECT esim_enable('8944000000000000401', options => '{"a": 1}', idempotency_key => 'k1')$c$);
SELECT pg_temp.attempt($c$SELECT esim_enable('8944000000000000401', sink => 'https://sink.example.com', idempotency_key => 'k1')$c$);

-- of downloads: the code counts, and the row that the first call made is found
SELECT esim_download('89049032000000000000000000000401', '8944000000000000402', '1$smdp.example.com$X', idempotency_key => 'k2') AS k2 \gset
SELECT esim_download('89049032000000000000000000000401', '8944000000000000402', 'LPA:1$smdp.example.com$X', idempotency_key => 'k2') = :'k2' AS again;
SELECT pg_temp.attempt($c$SELECT esim_download('89049032000000000000000000000401', '8944000000000000402', '1$smdp.example.com$Y', idempotency_key => 'k2')$c$);
SELECT esim_download('89049032000000000000000000000401', idempotency_key => 'k3') AS k3 \gset
SELECT esim_download('89049032000000000000000000000401', idempotency_key => 'k3') = :'k3' AS again_without_iccid;
SELECT count(*) FROM esim_profile;
-- credentials go in as a keyed hash
SELECT esim_refresh('89049032000000000000000000000401', sink => 'https://sink.example.com', sink_credential => '{"credentialType": "ACCESSTOKEN", "accessToken": "secret"}', idempotency_key => 'k4') AS k4 \gset
SELECT esim_refresh('89049032000000000000000000000401', sink => 'https://sink.example.com', sink_credential => '{"credentialType": "ACCESSTOKEN", "accessToken": "secret"}', idempotency_key => 'k4') = :'k4' AS again;
SELECT pg_temp.attempt($c$SELECT esim_refresh('89049032000000000000000000000401', sink => 'https://sink.example.com', sink_credential => '{"credentialType": "ACCESSTOKEN", "accessToken": "other"}', idempotency_key => 'k4')$c$);

-- keys belong to owners
CREATE ROLE op_one NOLOGIN;
INSERT INTO esim_device (eid, owner, server) VALUES ('89049032000000000000000000000411', 'op_one', 'op_rsp');
SELECT esim_refresh('89049032000000000000000000000411', idempotency_key => 'k1') NOT IN (:'k1', :'k2') AS another_owner;
SELECT owner = 'op_one'::regrole AS other, key, length(fingerprint) FROM esim_idempotency ORDER BY 1, 2;

-- undone with the transaction
BEGIN;
SELECT esim_refresh('89049032000000000000000000000401', idempotency_key => 'k5') IS NOT NULL AS made;
ROLLBACK;
SELECT count(*) FROM esim_idempotency WHERE key = 'k5';

SELECT pg_temp.attempt($c$SELECT esim_refresh('89049032000000000000000000000401', idempotency_key => '')$c$);
SELECT pg_temp.attempt($c$SELECT esim_refresh('89049032000000000000000000000401', idempotency_key => repeat('x', 257))$c$);

DELETE FROM esim_pending;
DELETE FROM esim_operation;
DELETE FROM esim_operation_secret;
DELETE FROM esim_idempotency;
DELETE FROM esim_profile;
DELETE FROM esim_device;
DROP ROLE op_one;
DROP SERVER op_rsp;
