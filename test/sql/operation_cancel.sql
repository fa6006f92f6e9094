--
-- esim_cancel, esim_retry, esim_wait, esim_status, esim_operation_status
--
\getenv inputdir PG_ABS_SRCDIR
\set setup :inputdir '/sql/operation.psql'
\set hint false
\set ECHO none
\i :setup
\set ECHO all

-- The same without the operation's identifier in the message
CREATE FUNCTION pg_temp.cancel(id uuid) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN esim_cancel(id)::text;
EXCEPTION WHEN SQLSTATE 'ES409' THEN
	RETURN regexp_replace(SQLERRM, '"[^"]*"', '"..."');
END
$$;

CREATE SERVER op_rsp FOREIGN DATA WRAPPER esim_rsp
	OPTIONS (protocol 'camara', url 'https://rsp.example.com', smdp_address 'smdp.example.com');
INSERT INTO esim_device (eid, server) VALUES ('89049032000000000000000000000501', 'op_rsp');
INSERT INTO esim_profile (id, iccid, eid, state, is_fallback, msisdn, state_at) VALUES
	('00000000-0000-4000-8000-000000000501', '8944000000000000501', '89049032000000000000000000000501', 'DISABLED', true, NULL, '2026-01-02 00:00Z'),
	('00000000-0000-4000-8000-000000000502', '8944000000000000502', '89049032000000000000000000000501', 'ENABLED', false, '+441234567890', '2026-01-02 00:00Z'),
	('00000000-0000-4000-8000-000000000503', '8944000000000000503', '89049032000000000000000000000501', 'DELETED', false, NULL, '2026-01-02 00:00Z');

-- esim_status
SELECT * FROM esim_status('89049032000000000000000000000501') ORDER BY iccid;
SELECT iccid, state FROM esim_status('89049032000000000000000000000501', options => '{"all": true}') ORDER BY iccid;
SELECT iccid, state FROM esim_status(iccid => '8944000000000000502');
SELECT iccid, state FROM esim_status('89049032000000000000000000000501', '8944000000000000502');
SELECT * FROM esim_status();
SELECT * FROM esim_status('89049032000000000000000000000599');
SELECT * FROM esim_status(iccid => '8944000000000000599');
SELECT * FROM esim_status('89049032000000000000000000000501', '8944000000000000599');
SELECT * FROM esim_status('89049032000000000000000000000501', options => '{"all": 1}');
SELECT * FROM esim_status('89049032000000000000000000000501', options => '[]');
SELECT * FROM esim_status('89049032000000000000000000000501', options => '{"all": true, "al": true}');

-- a lane: enable 501, delete 502 (which that disables), refresh, enable 503 behind its download
SELECT esim_enable('8944000000000000501') AS a \gset
SELECT esim_delete('8944000000000000502') AS b \gset
SELECT esim_refresh('89049032000000000000000000000501') AS c \gset
SELECT esim_disable('8944000000000000501') AS d \gset
SELECT esim_enable('8944000000000000501') AS e \gset
SELECT esim_cancel(:'e');
SELECT esim_cancel(:'e');
SELECT esim_disable('8944000000000000501');

-- with what needs its success; the others stay, and the next one is looked at
UPDATE esim_pending SET state = 'B' WHERE state = 'N';
SELECT esim_cancel(:'a');
SELECT o.kind, right(o.iccid::text, 3) AS iccid, o.status, o.result, o.phase, o.error_code, o.error_message,
	o.completed_at IS NOT NULL AS completed, q.state FROM esim_operation o LEFT JOIN esim_pending q ON q.operation = o.id ORDER BY o.seq;

-- what was sent stays
UPDATE esim_pending SET claimed = true WHERE operation = :'b';
SELECT pg_temp.cancel(:'b');
UPDATE esim_pending SET claimed = false, unresolved = true, acting = 1 WHERE operation = :'b';
SELECT pg_temp.cancel(:'b');
UPDATE esim_pending SET unresolved = false, rsp_operation_id = 'x', state = 'W', step = 2 WHERE operation = :'b';
SELECT pg_temp.cancel(:'b');
-- but not what was refused, parked, or waits for its time
UPDATE esim_pending SET rsp_operation_id = NULL, state = 'P', step = 0 WHERE operation = :'b';
BEGIN;
SELECT pg_temp.cancel(:'b');
ROLLBACK;
SELECT esim_cancel('00000000-0000-7000-8000-000000000000');
SELECT esim_cancel(NULL);

-- another owner's is not known
CREATE ROLE op_one NOLOGIN;
GRANT EXECUTE ON FUNCTION esim_cancel, esim_retry, esim_operation_status, esim_wait TO op_one;
SET ROLE op_one;
SELECT pg_temp.attempt(format('SELECT esim_cancel(%L)', :'b')) ~ '^ES404 .*NOT_FOUND' AS not_found;
SELECT pg_temp.attempt(format('SELECT esim_operation_status(%L)', :'b')) ~ '^ES404 .*NOT_FOUND' AS not_found;
SELECT ordinal, operation, sqlstate, code FROM esim_retry(ARRAY[:'a']::uuid[]);
RESET ROLE;

-- retry
SELECT ordinal, operation IS NOT NULL AS made, sqlstate, code, regexp_replace(message, '"[^"]*"', '"..."') AS message
FROM esim_retry(ARRAY[:'e', :'a', :'b', NULL, '00000000-0000-7000-8000-000000000000']::uuid[]);
SELECT kind, right(iccid::text, 3) AS iccid, retry_of = :'a' AS retry_of, rollback, server FROM esim_operation WHERE retry_of IS NOT NULL;
SELECT ordinal, code FROM esim_retry(ARRAY[:'a']::uuid[]);
SELECT * FROM esim_retry(NULL);

-- CAMARA's shape
UPDATE esim_operation SET status = 'COMPLETED', result = 'SUCCESS', phase = 'DONE', completed_at = '2026-01-02 03:04:05.678Z'
WHERE id = :'c';
UPDATE esim_operation SET status = 'COMPLETED', result = 'FAILED', phase = 'DONE', completed_at = '2026-01-02 03:04:05.678Z',
	error_code = 'INCOMPATIBLE_STATE', error_message = repeat('x', 300) WHERE id = :'b';
UPDATE esim_operation SET completed_at = '2026-01-02 03:04:05.678Z' WHERE status = 'COMPLETED';
SELECT o.kind, left((esim_operation_status(o.id) - 'operationId')::text, 250) AS "r1.2" FROM esim_operation o ORDER BY o.seq;
SELECT o.kind, left((esim_operation_status(o.id, '2026-02') - 'operationId')::text, 250) AS "2026-02" FROM esim_operation o ORDER BY o.seq;
SELECT esim_operation_status(:'a') ->> 'operationId' = :'a' AS id;
SELECT length(esim_operation_status(:'b') #>> '{result,failureReason}');
INSERT INTO esim_operation (id, seq, kind, eid, iccid, owner, owner_name, requested_by, server, status, result, phase, completed_at, expires_at)
VALUES ('00000000-0000-7000-8000-000000000501', 0, 'download', '89049032000000000000000000000501', '8944000000000000501',
	current_user::regrole, current_user, current_user::regrole, 'op_rsp', 'COMPLETED', 'SUCCESS', 'DONE', '2026-01-02 03:04:05Z', now()),
	('00000000-0000-7000-8000-000000000502', 0, 'download', '89049032000000000000000000000501', '894400000000000501',
	current_user::regrole, current_user, current_user::regrole, 'op_rsp', 'ACCEPTED', NULL, 'QUEUED', NULL, now());
SELECT jsonb_pretty(esim_operation_status('00000000-0000-7000-8000-000000000501'));
SELECT esim_operation_status('00000000-0000-7000-8000-000000000502');
SELECT esim_operation_status(:'a', 'r0');
SELECT esim_operation_status(NULL);
SELECT esim_operation_status('00000000-0000-7000-8000-000000000000');

-- wait
SELECT kind, status, result FROM esim_wait(:'a');
DO $$ BEGIN PERFORM esim_wait('00000000-0000-7000-8000-000000000502', '20 ms'); END $$;
SELECT status FROM esim_wait('00000000-0000-7000-8000-000000000502', '-1 s');
BEGIN;
SELECT esim_refresh('89049032000000000000000000000501') AS own \gset
SELECT pg_temp.attempt(format('SELECT esim_wait(%L)', :'own'), true) ~ '^55000 cannot wait' AS own;
SELECT esim_cancel(:'own');
SELECT (esim_wait(:'own')).result;
ROLLBACK;
SELECT esim_wait('00000000-0000-7000-8000-000000000000');

REVOKE EXECUTE ON FUNCTION esim_cancel, esim_retry, esim_operation_status, esim_wait FROM op_one;
DROP ROLE op_one;
DELETE FROM esim_pending;
DELETE FROM esim_operation;
DELETE FROM esim_profile;
DELETE FROM esim_device;
DROP SERVER op_rsp;
