-- comments.sql
--		What holds for all objects of the extension: comments, pinned search
--		paths, row-level security, views by the caller's rights.

BEGIN;
SET search_path = esim, public;
SELECT plan(11);

CREATE TEMP TABLE member AS
SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS name
FROM pg_depend d
JOIN pg_extension e ON e.oid = d.refobjid
WHERE d.refclassid = 'pg_extension'::regclass AND e.extname = 'esim' AND d.deptype = 'e';

SELECT cmp_ok((SELECT count(*) FROM member), '>', 100::bigint, 'there are members');
SELECT is_empty($$
	SELECT m.name FROM member m
	WHERE obj_description(m.objid, m.classid::regclass::name) IS NULL
	AND m.classid NOT IN ('pg_opfamily'::regclass)
	AND NOT EXISTS (SELECT FROM pg_type t WHERE m.classid = 'pg_type'::regclass AND t.oid = m.objid AND (t.typelem <> 0 OR t.typrelid <> 0))
	AND NOT EXISTS (SELECT FROM pg_class c WHERE m.classid = 'pg_class'::regclass AND c.oid = m.objid AND c.relkind = 'S'
		AND EXISTS (SELECT FROM pg_depend i WHERE i.classid = 'pg_class'::regclass AND i.objid = c.oid AND i.deptype = 'i'))
	ORDER BY 1$$, 'every object has a comment');
SELECT is_empty($$
	SELECT m.name, a.attname FROM member m
	JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid AND c.relkind IN ('r', 'v')
	JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
	WHERE col_description(a.attrelid, a.attnum) IS NULL ORDER BY 1, 2$$, 'every column has one');
SELECT is_empty($$
	SELECT m.name, p.polname FROM member m
	JOIN pg_policy p ON m.classid = 'pg_class'::regclass AND p.polrelid = m.objid
	WHERE obj_description(p.oid, 'pg_policy') IS NULL$$, 'every policy has one');
SELECT is_empty($$
	SELECT m.name FROM member m
	JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid AND c.relkind = 'r'
	WHERE NOT c.relrowsecurity$$, 'every table has row-level security');
SELECT is_empty($$
	SELECT m.name FROM member m
	JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid AND c.relkind = 'v'
	WHERE NOT coalesce('security_invoker=true' = ANY (c.reloptions), false)$$, 'every view is security_invoker');
SELECT is_empty($$
	SELECT m.name FROM member m
	JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
	JOIN pg_language l ON l.oid = p.prolang AND l.lanname IN ('sql', 'plpgsql')
	WHERE p.prosqlbody IS NULL AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)$$,
	'functions in SQL and PL/pgSQL have their search_path pinned');
SELECT is_empty($$
	SELECT m.name FROM member m
	JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
	JOIN pg_language l ON l.oid = p.prolang AND l.lanname = 'c'
	WHERE p.prosecdef$$, 'functions in C are not SECURITY DEFINER: they look at the caller');
SELECT is_empty($$
	SELECT p.proname FROM member m
	JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
	GROUP BY p.proname HAVING count(*) > 1 AND p.proname NOT IN ('min', 'max')$$, 'no name has two signatures');
SELECT is_empty($$
	SELECT m.name FROM member m
	LEFT JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
	LEFT JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
	LEFT JOIN pg_type t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid
	WHERE coalesce(p.proname, c.relname, t.typname) !~ '^_?(esim_|eid$|iccid$|activation_code$)' AND coalesce(p.proname, '') NOT IN ('min', 'max')$$,
	'every name begins with esim_');
SELECT is_empty($$
	SELECT m.name FROM member m
	JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid AND c.relkind IN ('r', 'S')
	WHERE c.relname NOT IN ('esim_server_name')
	AND NOT EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'esim' AND c.oid = ANY (e.extconfig))
	ORDER BY 1$$, 'every table and sequence is dumped');

SELECT * FROM finish();
ROLLBACK;
