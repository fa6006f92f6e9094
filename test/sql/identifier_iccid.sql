--
-- Type iccid
--

-- What is wrong with a text, as the error says it
CREATE FUNCTION pg_temp.why_not(t text, OUT value text, OUT state text, OUT message text,
								OUT detail text, OUT hint text)
LANGUAGE plpgsql AS $$
BEGIN
	value := t::iccid::text;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
END $$;

-- Numbers with the right check digit
SELECT t, t::iccid, length(t::iccid::text) AS digits, esim_iccid_valid(t)
FROM unnest(ARRAY['89883070000007537119', '89883070000078034798', '89883070000005381783',
				  '89883070000004578983', '89883070000004578975', '89883070000044236204',
				  '89883030000057338508', '8944476500008878576F', '8931080019073497795F',
				  '8944478600003770170', '8949449999999990023', '8949449999999990031',
				  '89457300000021819183', '8944478600003260131',
				  '8986 03157 60107 141426']) AS t;

-- What is passed over
SELECT iccid '  89883070000007537119 ', iccid '8944-4765-0000-8878-576',
	   iccid '8944476500008878576f', iccid '89444 76500 00887 8576 F',
	   iccid E'8944478600003770170\t\r\n';
SELECT iccid '890000000000000004', iccid '890000000000000004FF', iccid '890000000000000004ff';

-- Check digits that do not fit, each with the digit that would
SELECT t, w.state, w.message, w.detail, esim_iccid_valid(t)
FROM unnest(ARRAY['89883074500011906351', '89883070000123456789', '8988303000005733850',
				  '891000000000009125', '891004234814455936F', '8944303382697124823',
				  '8988247076000000319', '8988216716970004975', '8901260123456789012',
				  '8988211000000000001', '8944110000000000001']) AS t, pg_temp.why_not(t) AS w;

-- Shapes that are no ICCID
SELECT t, w.message, w.detail, w.hint
FROM unnest(ARRAY['', '  - ', '8', '89', '89100000000000000', '891000000000000000000',
				  '9988307000000753711', '984474680000730771F0', '98543700000012181938', '89441100000000001FFF',
				  '89883070000007537119F', '8944476500008878576FF', 'FF', 'F8944476500008878576',
				  '8944476500F08878576', '898600D6101400027602', '898602F2131820000959',
				  '898600A00000F0217731', '8988307aaaaaaaaaaaaa', 'ICCID: 8944476500008878576',
				  '+8944476500008878576', '89444765000088785.76', '8944476500008878576x',
				  '8944476500008878576Fx', E'89444765\x01']) AS t,
	pg_temp.why_not(t) AS w;
SELECT bool_or(esim_iccid_valid(t)) AS any_valid
FROM unnest(ARRAY['', '89', '984474680000730771F0', '898600D6101400027602',
				  repeat('89', 100000)]) AS t;
SELECT iccid '898600D6101400027602';
SELECT iccid '89883070000123456789';

-- The setting, and the type modifier
SET esim.check_digits = off;
SELECT iccid '89883070000123456789', esim_iccid_valid('89883070000123456789');
SELECT iccid '89883070000123456';
RESET esim.check_digits;
SELECT '89883070000123456789'::text::iccid(unchecked), '89883070000123456789'::varchar::iccid(unchecked);
SELECT '89883070000123456789'::text::iccid;
SELECT '898830700001234567'::varchar::iccid;
SELECT '89883070000007537119'::iccid::iccid(unchecked), '89883070000007537119'::iccid(unchecked)::iccid;
SELECT NULL::text::iccid IS NULL AS null_text, pg_typeof('89883070000007537119'::varchar::iccid);
CREATE TABLE identifier_bad (i iccid(checked));
CREATE TABLE identifier_bad (i iccid(1));
CREATE TABLE identifier_bad (i iccid(unchecked, unchecked));
CREATE TABLE identifier_iccid (n int, plain iccid, free iccid(unchecked));
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = 'identifier_iccid'::regclass AND attnum > 1;

-- COPY passes the modifier of the column, a literal has none
COPY identifier_iccid (n, free) FROM STDIN;
1	89883070000123456789
2	891000000000009125
3	89883070000007537119
4	\N
\.
COPY identifier_iccid (n, plain) FROM STDIN;
5	89883070000123456789
\.
COPY identifier_iccid (n, free) FROM STDIN;
5	898600D6101400027602
\.
INSERT INTO identifier_iccid (n, free) VALUES (5, '89883070000123456789');
-- what is read once goes everywhere
UPDATE identifier_iccid SET plain = free;
SELECT * FROM identifier_iccid ORDER BY n;

-- Out and in again, as text and binary, checked and not
\getenv abs_builddir PG_ABS_BUILDDIR
\set file :abs_builddir '/results/identifier_iccid.data'
CREATE TABLE identifier_copy (LIKE identifier_iccid);
COPY identifier_iccid TO :'file';
COPY identifier_copy FROM :'file';
COPY identifier_iccid (n, free) TO :'file';
COPY identifier_copy (n, free) FROM :'file';
COPY identifier_iccid (n, free) TO :'file' (FORMAT binary);
COPY identifier_copy (n, free) FROM :'file' (FORMAT binary);
COPY identifier_copy (n, plain) FROM :'file' (FORMAT binary);
SET esim.check_digits = off;
COPY identifier_copy (n, plain) FROM :'file' (FORMAT binary);
RESET esim.check_digits;
SELECT n, free, plain, count(*) FROM identifier_copy GROUP BY n, free, plain ORDER BY n, free, plain;
-- octets that are no ICCID
COPY (SELECT 1, '\x0123456789abcdef0123'::bytea) TO :'file' (FORMAT binary);
COPY identifier_copy (n, free) FROM :'file' (FORMAT binary);
COPY (SELECT 1, '\x0123'::bytea) TO :'file' (FORMAT binary);
COPY identifier_copy (n, free) FROM :'file' (FORMAT binary);
COPY (SELECT 1, '\x984474680000730771F000'::bytea) TO :'file' (FORMAT binary);
COPY identifier_copy (n, free) FROM :'file' (FORMAT binary);

-- The form on the card
SELECT card, esim_iccid_from_card(card), esim_iccid_to_card(esim_iccid_from_card(card)) = card AS same,
	   esim_iccid_valid(esim_iccid_from_card(card)::text) AS valid
FROM unnest(ARRAY['\x984474680000730771F0', '\x989444999999990920F3', '\x989444999999990930F1',
				  '\x98543700000012181938', '\x984474680000230631F1',
				  '\x980100000000001952FF']::bytea[]) AS card;
SELECT esim_iccid_to_card('890000000000000004'), esim_iccid_to_card('8944476500008878576'),
	   esim_iccid_to_card('89883070000007537119'), iccid_send
FROM esim_iccid_send('89883070000007537119') AS iccid_send;
SELECT esim_iccid_from_card('\x984474680000730771');
SELECT esim_iccid_from_card('');
SELECT esim_iccid_from_card('\x984474680000730771F0FF');
SELECT esim_iccid_from_card('\x994474680000730771F0');
SELECT esim_iccid_from_card('\x98447468000073077FF0');
SELECT esim_iccid_from_card('\x984474680000A30771F0');
SELECT esim_iccid_from_card('\xFFFFFFFFFFFFFFFFFFFF');

-- The check digit on its own
SELECT esim_iccid_check_digit('8988303000005733850'), esim_iccid_check_digit('8988 3070 0000 0753-711'),
	   esim_iccid_check_digit('89000000000000000'), esim_iccid_check_digit(NULL);
SELECT esim_iccid_check_digit('8988303000005733');
SELECT esim_iccid_check_digit('89883030000057338508');
SELECT esim_iccid_check_digit('7988303000005733850');
SELECT esim_iccid_check_digit('89883030000057338F');
SELECT bool_and(esim_iccid_valid(d || esim_iccid_check_digit(d))) AS all_valid, count(*)
FROM (SELECT '89' || substr(translate(md5(i::text), 'abcdef', '678901'), 1, 15 + i % 3) AS d
	  FROM generate_series(1, 3000) AS i) AS numbers;

-- Order is that of the digits as text, operators agree with it
SET esim.check_digits = off;
CREATE TABLE identifier_order AS
SELECT d, d::iccid AS i
FROM (SELECT '89' || substr(md5, 1, 16 + n % 3) AS d
	  FROM (SELECT n, translate(md5(n::text), 'abcdef', '012345') AS md5
			FROM generate_series(1, 1000) AS n) AS hashes
	  UNION ALL
	  VALUES ('890000000000000000'), ('8900000000000000000'), ('89000000000000000000'),
			 ('899999999999999999'), ('8999999999999999999'), ('89999999999999999999')) AS numbers(d);
RESET esim.check_digits;
SELECT count(*), count(DISTINCT i),
	   count(*) FILTER (WHERE i::text <> d) AS changed,
	   min(i), max(i), min(i)::text = min(d COLLATE "C") AS min_agrees, max(i)::text = max(d COLLATE "C") AS max_agrees
FROM identifier_order;
SELECT count(*) AS disagree
FROM (SELECT row_number() OVER (ORDER BY i) AS a, row_number() OVER (ORDER BY d COLLATE "C") AS b
	  FROM identifier_order) AS numbered
WHERE a <> b;
SELECT count(*) AS disagree
FROM identifier_order AS x, (SELECT * FROM identifier_order ORDER BY i LIMIT 100) AS y
WHERE (x.i = y.i) <> (x.d = y.d) OR (x.i <> y.i) <> (x.d <> y.d)
	OR (x.i < y.i) <> (x.d < y.d COLLATE "C") OR (x.i <= y.i) <> (x.d <= y.d COLLATE "C")
	OR (x.i > y.i) <> (x.d > y.d COLLATE "C") OR (x.i >= y.i) <> (x.d >= y.d COLLATE "C")
	OR esim_iccid_cmp(x.i, y.i) <> CASE WHEN x.d = y.d THEN 0 WHEN x.d < y.d COLLATE "C" THEN -1 ELSE 1 END;
SELECT count(DISTINCT esim_iccid_hash(i)) > 1000 AS hash_spreads,
	   count(DISTINCT esim_iccid_hash_extended(i, 1)) > 1000 AS extended_spreads,
	   bool_and(esim_iccid_hash_extended(i, 0) & 4294967295 = esim_iccid_hash(i)::bigint & 4294967295) AS agree
FROM identifier_order;
SELECT min(i), max(i) FROM identifier_order WHERE false;

-- Plans: indexes, joins, deduplication of equal keys
CREATE INDEX identifier_order_i ON identifier_order (i);
CREATE INDEX identifier_order_hash ON identifier_order USING hash (i);
ANALYZE identifier_order;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT * FROM identifier_order WHERE i < '8900000000000000011';
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
SELECT scans FROM pg_temp.scans('SELECT min(i), max(i) FROM identifier_order') scans WHERE scans IS NOT NULL;
SELECT min(i), max(i) FROM identifier_order;
RESET enable_seqscan;
SET enable_nestloop = off;
SET enable_mergejoin = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM identifier_order AS a JOIN identifier_order AS b USING (i);
SELECT count(*) FROM identifier_order AS a JOIN identifier_order AS b USING (i);
SET enable_hashjoin = off;
SET enable_mergejoin = on;
SET enable_indexscan = off;
SET enable_indexonlyscan = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM identifier_order AS a JOIN identifier_order AS b USING (i);
SELECT count(*) FROM identifier_order AS a JOIN identifier_order AS b USING (i);
RESET enable_nestloop;
RESET enable_mergejoin;
RESET enable_hashjoin;
RESET enable_indexscan;
RESET enable_indexonlyscan;
DROP INDEX identifier_order_i;
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT d FROM identifier_order WHERE i = '89883070000007537119';
-- ranges, by the text
CREATE INDEX ON identifier_order ((i::text) text_pattern_ops);
EXPLAIN (COSTS OFF) SELECT i FROM identifier_order WHERE i::text LIKE '89883%';
RESET enable_seqscan;
RESET enable_bitmapscan;

-- What the planner and row-level security rest on
SELECT proname, provolatile, proisstrict, proleakproof, proparallel
FROM pg_proc WHERE proname ~ '^esim_iccid_(eq|ne|lt|le|gt|ge|cmp|hash|hash_extended|in|out|from_text|to_text)$'
ORDER BY proname COLLATE "C";
SELECT typlen, typbyval, typalign, typstorage FROM pg_type WHERE typname = 'iccid';
SELECT amname, opcname, opcdefault, amvalidate(o.oid) FROM pg_opclass AS o JOIN pg_am AS a ON a.oid = opcmethod
WHERE opcintype = 'iccid'::regtype ORDER BY amname;

DROP TABLE identifier_iccid, identifier_copy, identifier_order;
