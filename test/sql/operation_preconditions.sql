--
-- Preconditions: kind against state, cell by cell, and against the projected
-- state
--
\getenv inputdir PG_ABS_SRCDIR
\set setup :inputdir '/sql/operation.psql'
\set hint false
\set ECHO none
\i :setup
\set ECHO all

CREATE SERVER op_rsp FOREIGN DATA WRAPPER esim_rsp
	OPTIONS (protocol 'camara', url 'https://rsp.example.com', smdp_address 'smdp.example.com');
INSERT INTO esim_device (eid, server) VALUES
	('89049032000000000000000000000101', 'op_rsp'), ('89049032000000000000000000000102', 'op_rsp');
INSERT INTO esim_profile (id, iccid, eid, state) VALUES
	('00000000-0000-4000-8000-000000000101', '8944000000000000101', '89049032000000000000000000000101', 'INSTALLED'),
	('00000000-0000-4000-8000-000000000102', '8944000000000000102', '89049032000000000000000000000101', 'INSTALLED');

-- every kind from every state, on the profile's own eUICC
CREATE FUNCTION pg_temp.cell(kind text, profile_state esim_profile_state, redownload text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	UPDATE esim_profile SET state = profile_state, redownload = cell.redownload,
		eid = CASE WHEN profile_state IN ('RESERVING', 'RESERVED', 'RELEASED', 'CANCELLED', 'FAILED') THEN NULL
			ELSE '89049032000000000000000000000101'::eid END
	WHERE id = '00000000-0000-4000-8000-000000000101';
	result := pg_temp.attempt(CASE kind
		WHEN 'download' THEN $c$SELECT esim_download('89049032000000000000000000000101', '8944000000000000101')$c$
		ELSE format($c$SELECT esim_%s(iccid => '8944000000000000101')$c$, replace(kind, '-', '_')) END);
	RETURN CASE result WHEN 'ok' THEN 'yes' ELSE split_part(split_part(result, '| ', 2), ':', 1) END;
END
$$;
SELECT s AS state,
	pg_temp.cell('download', s, 'NEVER') AS download_never,
	pg_temp.cell('download', s) AS download,
	pg_temp.cell('enable', s) AS enable,
	pg_temp.cell('disable', s) AS disable,
	pg_temp.cell('delete', s) AS delete,
	pg_temp.cell('set-fallback', s) AS set_fallback
FROM unnest(enum_range(NULL::esim_profile_state)) s;

-- a download to another eUICC than the one of the profile
CREATE FUNCTION pg_temp.elsewhere(profile_state esim_profile_state, redownload text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
	UPDATE esim_profile SET state = profile_state, redownload = elsewhere.redownload,
		eid = CASE WHEN profile_state IN ('RESERVING', 'CANCELLED', 'FAILED') THEN NULL
			ELSE '89049032000000000000000000000101'::eid END
	WHERE id = '00000000-0000-4000-8000-000000000101';
	RETURN pg_temp.attempt($c$SELECT esim_download('89049032000000000000000000000102', '8944000000000000101')$c$);
END
$$;
SELECT s AS state, r AS redownload, pg_temp.elsewhere(s, r) FROM unnest(enum_range(NULL::esim_profile_state)) s,
	unnest(ARRAY['NEVER', 'SAME_EID', 'ANY']) r
WHERE s IN ('DELETED', 'ENABLED') OR r = 'ANY' ORDER BY s, r;
-- reserved for another eUICC
UPDATE esim_profile SET state = 'RESERVED', eid = NULL, reserved_eid = '89049032000000000000000000000101'
WHERE id = '00000000-0000-4000-8000-000000000101';
SELECT pg_temp.attempt($c$SELECT esim_download('89049032000000000000000000000102', '8944000000000000101')$c$);
SELECT pg_temp.attempt($c$SELECT esim_download('89049032000000000000000000000101', '8944000000000000101')$c$);
-- where it was deleted is not known
UPDATE esim_profile SET state = 'DELETED', reserved_eid = NULL, redownload = NULL
WHERE id = '00000000-0000-4000-8000-000000000101';
SELECT pg_temp.attempt($c$SELECT esim_download('89049032000000000000000000000101', '8944000000000000101')$c$, true);
-- the server's option counts where the row says nothing
ALTER SERVER op_rsp OPTIONS (ADD redownload 'ANY');
SELECT pg_temp.attempt($c$SELECT esim_download('89049032000000000000000000000101', '8944000000000000101')$c$, true);
ALTER SERVER op_rsp OPTIONS (SET redownload 'NEVER');
SELECT pg_temp.attempt($c$SELECT esim_download('89049032000000000000000000000101', '8944000000000000101')$c$, true);
ALTER SERVER op_rsp OPTIONS (DROP redownload);

-- the messages
UPDATE esim_profile SET state = 'ENABLED', redownload = NULL, eid = '89049032000000000000000000000101'
WHERE id = '00000000-0000-4000-8000-000000000101';
UPDATE esim_profile SET state = 'DISABLED' WHERE id = '00000000-0000-4000-8000-000000000102';
SELECT esim_enable('8944000000000000101');
SELECT esim_disable('8944000000000000102');
SELECT esim_set_fallback('89049032000000000000000000000101', '8944000000000000101');
SELECT esim_unset_fallback('89049032000000000000000000000101');

-- The projected state, all in one transaction.  An operation as text: kind,
-- what it depends on, state of its row in the queue
CREATE FUNCTION pg_temp.show() RETURNS TABLE (n bigint, kind text, iccid text, phase esim_operation_phase,
	phase_reason text, depends_on text, queue "char")
LANGUAGE sql AS $$
	WITH o AS (SELECT row_number() OVER (ORDER BY seq) AS n, * FROM esim_operation)
	SELECT o.n, o.kind, right(o.iccid::text, 3), o.phase, o.phase_reason,
		(SELECT string_agg(d.n || ' ' || d.kind, ', ') FROM o d WHERE d.id = ANY (o.depends_on)), q.state
	FROM o LEFT JOIN esim_pending q ON q.operation = o.id ORDER BY o.n
$$;
BEGIN;
SELECT esim_download('89049032000000000000000000000101', '8944000000000000103') IS NOT NULL AS download,
	esim_enable('8944000000000000103') IS NOT NULL AS enable,
	esim_disable('8944000000000000103') IS NOT NULL AS disable,
	esim_set_fallback('89049032000000000000000000000101', '8944000000000000103') IS NOT NULL AS set_fallback;
SELECT pg_temp.attempt($c$SELECT esim_enable('8944000000000000101')$c$);
SELECT pg_temp.attempt($c$SELECT esim_disable('8944000000000000101')$c$);
SELECT pg_temp.attempt($c$SELECT esim_disable('8944000000000000103')$c$);
SELECT pg_temp.attempt($c$SELECT esim_download('89049032000000000000000000000101', '8944000000000000103')$c$);
SELECT pg_temp.attempt($c$SELECT esim_download('89049032000000000000000000000102', '8944000000000000103')$c$);
SELECT pg_temp.attempt($c$SELECT esim_enable('8944000000000000103', '89049032000000000000000000000102')$c$);
SELECT * FROM pg_temp.show();
ROLLBACK;

BEGIN;
SELECT esim_enable('8944000000000000102') IS NOT NULL AS enable_other,
	esim_delete('8944000000000000101') IS NOT NULL AS delete_what_that_disables,
	esim_refresh('89049032000000000000000000000101') IS NOT NULL AS refresh;
SELECT pg_temp.attempt($c$SELECT esim_enable('8944000000000000101')$c$);
-- downloaded again, and enabled at once
SELECT esim_download('89049032000000000000000000000101', '8944000000000000101', activate_on_download => true) IS NOT NULL
	AS download_again;
SELECT esim_enable('8944000000000000102') IS NOT NULL AS enable_other_again;
SELECT * FROM pg_temp.show();
ROLLBACK;

-- deleted on one eUICC, then downloaded to another: waits for the other lane
BEGIN;
UPDATE esim_profile SET redownload = 'ANY' WHERE id = '00000000-0000-4000-8000-000000000101';
SELECT esim_delete('8944000000000000101') IS NOT NULL AS delete,
	esim_download('89049032000000000000000000000102', '8944000000000000101') IS NOT NULL AS download,
	esim_enable('8944000000000000101', '89049032000000000000000000000102') IS NOT NULL AS enable;
SELECT * FROM pg_temp.show();
SELECT cardinality(waits_for) AS waits_for, next_at IS NOT NULL AS has_next_at, kind FROM esim_pending ORDER BY seq;
ROLLBACK;

-- not_before at the head, and behind another
BEGIN;
SELECT esim_enable('8944000000000000102', not_before => now() + '1 day') IS NOT NULL AS later;
SELECT esim_disable('8944000000000000102', not_before => now() + '1 day') IS NOT NULL AS later;
SELECT * FROM pg_temp.show();
SELECT state, next_at > now() + '23 hours' AS next_at FROM esim_pending ORDER BY seq;
ROLLBACK;

-- the lockout guard
SET esim.lockout_guard = warning;
BEGIN;
SELECT esim_disable('8944000000000000101') IS NOT NULL AS disable;
ROLLBACK;
SET esim.lockout_guard = error;
SELECT esim_delete('8944000000000000101');
BEGIN;
SELECT esim_enable('8944000000000000102') IS NOT NULL AS enable_other, esim_delete('8944000000000000101') IS NOT NULL AS delete;
ROLLBACK;
SET esim.lockout_guard = off;

DELETE FROM esim_profile WHERE id IN ('00000000-0000-4000-8000-000000000101', '00000000-0000-4000-8000-000000000102');
DELETE FROM esim_device WHERE server = 'op_rsp';
DROP SERVER op_rsp;
