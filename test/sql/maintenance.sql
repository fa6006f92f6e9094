-- maintenance.sql
--		Upkeep by pg_cron where there is none, and the refresh that it calls.
--		With pg_cron it is tested by test/t/021_maintenance.pl.
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.error_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	m text; d text; h text;
BEGIN
	EXECUTE statement;
	RETURN 'none';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
	RETURN format(E'%s: %s\n  %s\n  %s', SQLSTATE, m, d, h);
END
$$;

SELECT pg_temp.error_of('SELECT * FROM esim_schedule_maintenance()');
SELECT pg_temp.error_of('SELECT esim_unschedule_maintenance()');
SELECT pg_temp.error_of(format('SELECT * FROM esim_schedule_maintenance(%L)', o)) FROM unnest(ARRAY[
	'[]', NULL, '{"prune": 1}', '{"prune_schedule": 5}', '{"prune_schedule": ""}', '{"refresh_schedule": "1 2 * * *; x"}', '{"refresh_rate": 0}',
	'{"refresh_rate": 1.5}', '{"refresh_rate": 1e9}', '{"refresh_rate": "5"}', '{"refresh_rate": null}', '{"database": null}', '{"schema": ""}',
	'{"audit_older_than": 5}', '{"audit_older_than": "soon"}', '{"audit_older_than": "1 day"}']) o;
SELECT pg_temp.error_of(format('SELECT esim_unschedule_maintenance(%L)', o)) FROM unnest(ARRAY['[]', NULL, '{"x": "y"}', '{"database": 5}']) o;
SELECT pg_temp.error_of(format('SELECT esim_refresh_oldest(%s)', n)) FROM unnest('{0, -1, 1000001, NULL::int}'::text[]) n;

-- the refresh by hand
CREATE ROLE regress_maintenance_one;
CREATE ROLE regress_maintenance_two;
CREATE SERVER regress_camara FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://rsp.invalid/');
CREATE SERVER regress_paused FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://rsp.invalid/');
CREATE SERVER regress_es2plus FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'es2plus', url 'https://rsp.invalid/');
SELECT esim_pause('regress_paused');
SET esim.check_digits = off;
-- EIDs end in the number of days since they were heard of
INSERT INTO esim_device (eid, owner, server, created_at)
SELECT ('890490320000000000000000000000' || lpad(n::text, 2, '0'))::eid, CASE n % 2 WHEN 0 THEN 'regress_maintenance_one' ELSE 'regress_maintenance_two' END::regrole,
	CASE n WHEN 20 THEN 'regress_paused' WHEN 21 THEN 'regress_es2plus' ELSE 'regress_camara' END, '2026-01-01'
FROM generate_series(1, 25) n;
INSERT INTO esim_device_state (eid, last_seen_at, refreshed_at)
SELECT d.eid, now() - right(d.eid::text, 2)::int * interval '1 day', CASE right(d.eid::text, 2) WHEN '18' THEN now() END
FROM esim_device d WHERE d.eid::text !~ '1$';
UPDATE esim_device SET retired_at = now() WHERE eid::text ~ '19$';
UPDATE esim_device SET owner_name = 'regress_gone' WHERE eid::text ~ '17$';
SELECT esim_refresh_oldest(6);
CREATE VIEW pg_temp.asked AS
SELECT string_agg(right(o.eid::text, 2), ' ' ORDER BY o.seq) AS eids, string_agg(DISTINCT o.owner::text, ' ') AS owners, min(o.priority) AS priority,
	min(o.expires_at - o.created_at) AS expiry
FROM esim_operation o WHERE o.kind = 'refresh';
SELECT * FROM pg_temp.asked;
-- others come next: not those that are being asked
SELECT esim_refresh_oldest(5);
SELECT eids FROM pg_temp.asked;
-- nor those that were asked in vain of late; who answered is in line again
DELETE FROM esim_pending;
UPDATE esim_operation SET status = 'COMPLETED', phase = 'DONE', completed_at = now(), result = CASE WHEN eid::text ~ '01$' THEN 'SUCCESS' ELSE 'FAILED' END::esim_operation_result,
	error_code = CASE WHEN eid::text ~ '01$' THEN NULL ELSE 'EXPIRED' END WHERE kind = 'refresh';
SELECT esim_refresh_oldest(1);
SELECT right(eid::text, 2) FROM esim_operation WHERE kind = 'refresh' AND status = 'ACCEPTED';
SELECT esim_refresh_oldest();
SELECT esim_refresh_oldest();
SELECT esim_pause();
DELETE FROM esim_pending;
DELETE FROM esim_operation;
SELECT esim_refresh_oldest();
SELECT esim_resume();

-- administrators only
SET ROLE regress_maintenance_one;
SELECT esim_refresh_oldest(1);
RESET ROLE;
SELECT esim_grant('regress_maintenance_one', 'admin');
GRANT USAGE ON SCHEMA public TO regress_maintenance_one;
SET ROLE regress_maintenance_one;
SELECT esim_refresh_oldest(1);
SELECT pg_temp.error_of('SELECT * FROM esim_schedule_maintenance()');
RESET ROLE;

DELETE FROM esim_pending;
DELETE FROM esim_operation;
DELETE FROM esim_device_state;
DELETE FROM esim_device;
SELECT esim_resume('regress_paused');
DROP SERVER regress_camara;
DROP SERVER regress_paused;
DROP SERVER regress_es2plus;
DROP OWNED BY regress_maintenance_one, regress_maintenance_two;
DROP ROLE regress_maintenance_one, regress_maintenance_two;
