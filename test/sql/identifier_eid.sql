--
-- Type eid
--

-- What is wrong with a text, as the error says it
CREATE FUNCTION pg_temp.why_not(t text, OUT value text, OUT state text, OUT message text,
								OUT detail text, OUT hint text)
LANGUAGE plpgsql AS $$
BEGIN
	value := t::eid::text;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
END $$;

-- Numbers with the right check digits
SELECT t, t::eid::text = t AS same, esim_eid_valid(t),
	   esim_eid_check_digits(substr(t, 1, 30)) = substr(t, 31) AS computed
FROM unnest(ARRAY['89049032123451234512345678901235', '89882119900000000000000000000005',
				  '89044045118427484800000000011628', '89044045116727494800000004479172',
				  '89044045116727494800000004479366', '89086030202200000022000027485428',
				  '89086030202200000025000015085962', '89086030202200000022000023022943',
				  '89034011022310000000000006803372', '89049032007008882600085727376656',
				  '89049032007108882600137544319616', '89044045930000000000001492294428',
				  '89044045930000000000002153893210', '89044045910000000000000966075104',
				  '89033023427100000000009924552528', '89033023426300000000033217590106',
				  '89033023426300000000019675655040', '89033023422130000000000199272786',
				  '89049032000001000000031328322874', '89049032021008881300304741158317',
				  '89043051202200005223001347834515']) AS t;

-- Any beginning; what is passed over
SELECT eid '00000000000000000000000000000001', eid '35290611000000000000000000000011';
SELECT eid ' 8904 9032 1234 5123 4512 3456 7890 1235 ', eid '89049032-12345-12345-123456789012-35',
	   eid E'89049032123451234512345678901235\n';

-- Check digits that do not fit, each with those that would
SELECT t, w.state, w.message, w.detail, esim_eid_valid(t)
FROM unnest(ARRAY['89049032000000000000000000000001', '89049032123451234512345678901234',
				  '89049032003451234567890123456789', '89045967676472615349763031303005',
				  '89033023426200000330025426265873', '89049032007208882600178661005175',
				  '12345678900000000000000000001234', '12345000000000000000000000000133']) AS t,
	pg_temp.why_not(t) AS w;

-- Shapes that are no EID
SELECT t, w.state, w.message, w.detail, w.hint
FROM unnest(ARRAY['', ' - ', '1', '8904903212345123451234567890123', '890490321234512345123456789012350',
				  '89049032123451234512345678aaaaaa', '8904903212345123451234567890123F',
				  'EID 89049032123451234512345678901235', '+89049032123451234512345678901235',
				  '0x890490321234512345123456789012', E'8904\x7f']) AS t,
	pg_temp.why_not(t) AS w;
SELECT bool_or(esim_eid_valid(t)) AS any_valid
FROM unnest(ARRAY['', '89', '8904903212345123451234567890123F', repeat('8', 100000)]) AS t;
SELECT eid '89049032000000000000000000000001';
SELECT eid '8904903200000000000000000000001';

-- The setting, and the type modifier
SET esim.check_digits = off;
SELECT eid '89049032000000000000000000000001', esim_eid_valid('89049032000000000000000000000001');
RESET esim.check_digits;
SELECT '89049032000000000000000000000001'::text::eid(unchecked),
	   '89049032000000000000000000000001'::varchar::eid(unchecked);
SELECT '89049032000000000000000000000001'::text::eid;
SELECT '89049032000000000000000000000001'::varchar::eid;
SELECT NULL::text::eid IS NULL AS null_text, pg_typeof('89049032123451234512345678901235'::varchar::eid);
CREATE TABLE identifier_bad (e eid(checked));
CREATE TABLE identifier_eid (n int, plain eid, free eid(unchecked), several eid(unchecked)[]);
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = 'identifier_eid'::regclass AND attnum > 1;

-- COPY passes the modifier of the column, a literal has none
COPY identifier_eid (n, free, several) FROM STDIN;
1	89049032000000000000000000000001	{12345678900000000000000000001234,NULL}
2	12345678900000000000000000001234	{}
3	89049032123451234512345678901235	\N
4	\N	\N
\.
COPY identifier_eid (n, plain) FROM STDIN;
5	89049032000000000000000000000001
\.
INSERT INTO identifier_eid (n, free) VALUES (5, '89049032000000000000000000000001');
-- what is read once goes everywhere
UPDATE identifier_eid SET plain = free;
SELECT * FROM identifier_eid ORDER BY n;

-- Out and in again, as text and binary, checked and not
\getenv abs_builddir PG_ABS_BUILDDIR
\set file :abs_builddir '/results/identifier_eid.data'
CREATE TABLE identifier_copy (LIKE identifier_eid);
COPY identifier_eid (n, free, several) TO :'file';
COPY identifier_copy (n, free, several) FROM :'file';
COPY identifier_eid (n, free, several) TO :'file' (FORMAT binary);
COPY identifier_copy (n, free, several) FROM :'file' (FORMAT binary);
COPY identifier_copy (n, plain, several) FROM :'file' (FORMAT binary);
SET esim.check_digits = off;
COPY identifier_copy (n, plain, several) FROM :'file' (FORMAT binary);
RESET esim.check_digits;
SELECT n, free, plain, several, count(*) FROM identifier_copy
GROUP BY n, free, plain, several ORDER BY n, free, plain;
SELECT esim_eid_send('89049032123451234512345678901235');
-- octets that are no EID
COPY (SELECT 1, '\x8904903212345123451234567890123F'::bytea) TO :'file' (FORMAT binary);
COPY identifier_copy (n, free) FROM :'file' (FORMAT binary);
COPY (SELECT 1, '\x0123'::bytea) TO :'file' (FORMAT binary);
COPY identifier_copy (n, free) FROM :'file' (FORMAT binary);

-- The check digits on their own
SELECT esim_eid_check_digits('890490321234512345123456789012'),
	   esim_eid_check_digits('8904 9032 0000 0000 0000-0000-0000-00'),
	   esim_eid_check_digits('000000000000000000000000000000'), esim_eid_check_digits(NULL);
SELECT esim_eid_check_digits('89049032123451234512345678901');
SELECT esim_eid_check_digits('89049032123451234512345678901235');
SELECT esim_eid_check_digits('89049032123451234512345678901x');
SELECT bool_and(esim_eid_valid(d || esim_eid_check_digits(d))) AS all_valid,
	   bool_or(esim_eid_valid(d || lpad(((esim_eid_check_digits(d)::int + i % 95 + 1) % 97)::text, 2, '0'))) AS others_valid,
	   min(esim_eid_check_digits(d)), max(esim_eid_check_digits(d))
FROM (SELECT i, substr(translate(md5(i::text), 'abcdef', '678901'), 1, 30) AS d
	  FROM generate_series(1, 3000) AS i) AS numbers;

-- Order is that of the digits as text, operators agree with it
SET esim.check_digits = off;
CREATE TABLE identifier_order AS
SELECT d, d::eid AS e
FROM (SELECT CASE WHEN n % 2 = 0 THEN '890490321234512345' ELSE '' END
			 || right(translate(md5(n::text), 'abcdef', '012345'), CASE WHEN n % 2 = 0 THEN 14 ELSE 32 END) AS d
	  FROM generate_series(1, 1000) AS n
	  UNION ALL
	  VALUES (repeat('0', 32)), (repeat('9', 32))) AS numbers(d);
RESET esim.check_digits;
SELECT count(*), count(DISTINCT e), count(*) FILTER (WHERE e::text <> d) AS changed,
	   min(e), max(e), min(e)::text = min(d COLLATE "C") AS min_agrees, max(e)::text = max(d COLLATE "C") AS max_agrees
FROM identifier_order;
SELECT count(*) AS disagree
FROM (SELECT row_number() OVER (ORDER BY e) AS a, row_number() OVER (ORDER BY d COLLATE "C") AS b
	  FROM identifier_order) AS numbered
WHERE a <> b;
SELECT count(*) AS disagree
FROM identifier_order AS x, (SELECT * FROM identifier_order ORDER BY e LIMIT 100) AS y
WHERE (x.e = y.e) <> (x.d = y.d) OR (x.e <> y.e) <> (x.d <> y.d)
	OR (x.e < y.e) <> (x.d < y.d COLLATE "C") OR (x.e <= y.e) <> (x.d <= y.d COLLATE "C")
	OR (x.e > y.e) <> (x.d > y.d COLLATE "C") OR (x.e >= y.e) <> (x.d >= y.d COLLATE "C")
	OR sign(esim_eid_cmp(x.e, y.e)) <> CASE WHEN x.d = y.d THEN 0 WHEN x.d < y.d COLLATE "C" THEN -1 ELSE 1 END;
SELECT count(DISTINCT esim_eid_hash(e)) > 1000 AS hash_spreads,
	   count(DISTINCT esim_eid_hash_extended(e, 1)) > 1000 AS extended_spreads,
	   bool_and(esim_eid_hash_extended(e, 0) & 4294967295 = esim_eid_hash(e)::bigint & 4294967295) AS agree
FROM identifier_order;

-- Plans: indexes and joins
CREATE INDEX identifier_order_e ON identifier_order (e);
CREATE INDEX identifier_order_hash ON identifier_order USING hash (e);
ANALYZE identifier_order;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT * FROM identifier_order WHERE e < '00000000000000000000000000000001';
-- the scans alone: how the rest of this plan is written differs between versions
CREATE FUNCTION pg_temp.scans(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		RETURN NEXT substring(line FROM '\w[\w ]* Scan.* on \w+');
	END LOOP;
END
$$;
SELECT scans FROM pg_temp.scans('SELECT min(e), max(e) FROM identifier_order') scans WHERE scans IS NOT NULL;
SELECT min(e), max(e) FROM identifier_order;
RESET enable_seqscan;
SET enable_nestloop = off;
SET enable_mergejoin = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM identifier_order AS a JOIN identifier_order AS b USING (e);
SELECT count(*) FROM identifier_order AS a JOIN identifier_order AS b USING (e);
SET enable_hashjoin = off;
SET enable_mergejoin = on;
SET enable_indexscan = off;
SET enable_indexonlyscan = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM identifier_order AS a JOIN identifier_order AS b USING (e);
SELECT count(*) FROM identifier_order AS a JOIN identifier_order AS b USING (e);
RESET enable_nestloop;
RESET enable_mergejoin;
RESET enable_hashjoin;
RESET enable_indexscan;
RESET enable_indexonlyscan;

-- Beneath row-level security an index serves: = is leakproof
CREATE ROLE regress_identifier_reader;
ALTER TABLE identifier_order ENABLE ROW LEVEL SECURITY;
CREATE POLICY readers ON identifier_order USING (pg_has_role(current_user, 'MEMBER') AND length(d) = 32);
GRANT SELECT ON identifier_order TO regress_identifier_reader;
DROP INDEX identifier_order_hash;
SET enable_seqscan = off;
SET ROLE regress_identifier_reader;
EXPLAIN (COSTS OFF) SELECT d FROM identifier_order WHERE e = '89049032123451234512345678901235';
RESET ROLE;
RESET enable_seqscan;
RESET enable_bitmapscan;

-- What the planner and row-level security rest on
SELECT proname, provolatile, proisstrict, proleakproof, proparallel
FROM pg_proc WHERE proname ~ '^esim_eid_(eq|ne|lt|le|gt|ge|cmp|hash|hash_extended|in|out|from_text|to_text)$'
ORDER BY proname COLLATE "C";
SELECT typlen, typbyval, typalign, typstorage FROM pg_type WHERE typname = 'eid';
SELECT amname, opcname, opcdefault, amvalidate(o.oid) FROM pg_opclass AS o JOIN pg_am AS a ON a.oid = opcmethod
WHERE opcintype = 'eid'::regtype ORDER BY amname;

DROP TABLE identifier_eid, identifier_copy, identifier_order;
DROP ROLE regress_identifier_reader;
