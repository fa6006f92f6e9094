--
-- Type activation_code
--

-- What is wrong with a text, as the error says it
CREATE FUNCTION pg_temp.why_not(t text, OUT value text, OUT state text, OUT message text,
								OUT detail text, OUT hint text)
LANGUAGE plpgsql AS $$
BEGIN
	value := t::activation_code::text;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
END $$;

-- Codes of SGP.22 and of platforms, and what they are made of
SELECT t::activation_code AS code, esim_ac_smdp_address(t::activation_code) AS address,
	   esim_ac_matching_id(t::activation_code) AS matching_id,
	   esim_ac_smdp_oid(t::activation_code) AS oid,
	   esim_ac_confirmation_required(t::activation_code) AS confirm
FROM unnest(ARRAY['1$SMDP.GSMA.COM$04386-AGYFT-A74Y8-3F815',
				  '1$SMDP.GSMA.COM$04386-AGYFT-A74Y8-3F815$$1',
				  '1$SMDP.GSMA.COM$04386-AGYFT-A74Y8-3F815$1.3.6.1.4.1.31746$1',
				  '1$SMDP.GSMA.COM$04386-AGYFT-A74Y8-3F815$1.3.6.1.4.1.31746',
				  '1$SMDP.GSMA.COM$$1.3.6.1.4.1.31746',
				  'LPA:1$rsp.truphone.com$QR-G-5C-1LS-1W1Z9P7',
				  '1$SM-DP-PLUS.TWILIO.COM$AAAAA-BBBBB-CCCCC-DDDDD-EEEEE',
				  '1$SM-DP+.EXAMPLE.COM$X', '1$smdp.example.com$',
				  '1$192.168.2.111:8080$TS48V1-B-UNIQUE-nojavacard-nocsim',
				  '1$localhost:65535$a_b.c+d*e/f:g%h', '1$x$y$$1$Z$', '1$x$y$$$abc$$d']) AS t;

-- LPA: in any case, blanks around, empty fields at the end
SELECT t, t::activation_code, esim_ac_lpa(t::activation_code)
FROM unnest(ARRAY['LPA:1$host.example$TOK$$', 'lpa:1$host.example$TOK', 'Lpa:1$host.example$TOK$',
				  '  LPA:1$host.example$TOK  ', '1$host.example$$$', '1$host.example$TOK$$1$$$']) AS t;

-- What is no activation code
SELECT t, w.state, w.message, w.detail, w.hint
FROM unnest(ARRAY['', ' ', 'LPA:', '1', 'LPA:1', '1$', '1$$', '2$SMDP.GSMA.COM$X', '$SMDP.GSMA.COM$X',
				  '04386-AGYFT-A74Y8-3F815', '1$https://smdp.example.com/$X', '1$smdp.example.com/path$X',
				  '1$smdp.example.com$X$$0', '1$smdp.example.com$X$$x', '1$smdp.example.com$X$$11',
				  '1$smdp.example.com$X$1.3.x.1', '1$smdp.example.com$X$1', '1$smdp.example.com$X$3.1',
				  '1$smdp.example.com$X$1.40', '1$smdp.example.com$X$1..3', '1$smdp.example.com$X$1.03',
				  '1$smdp.example.com$X$1.3.', 'LPA:LPA:1$smdp.example.com$X', '1$smdp.example.com',
				  '1$smdp_x.example.com$X', '1$smdp..example.com$X', '1$.example.com$X', '1$example.com.$X',
				  '1$-a.example.com$X', '1$a-.example.com$X', '1$smdp.example.com:$X',
				  '1$smdp.example.com:0$X', '1$smdp.example.com:65536$X', '1$smdp.example.com:080$X',
				  '1$smdp.example.com:80a$X', '1$:80$X', '1$[::1]:80$X', '1$smdp.example.com$X Y',
				  '1$smdp.example.com$"X"', '1$smdp.example.com$X$$1$a b', '1$ smdp.example.com$X',
				  E'1$smdp.example.com$X\nY', 'LPA1$smdp.example.com$X', '1$user@smdp.example.com$X']) AS t,
	pg_temp.why_not(t) AS w;
SELECT activation_code '1$smdp.example.com$X$$0';

-- 255 characters, no more; 63 to a label
SELECT length(('1$smdp.example.com$' || repeat('A', 236))::activation_code::text),
	   length(esim_ac_lpa(('LPA:1$smdp.example.com$' || repeat('A', 236))::activation_code)),
	   length(('1$' || repeat('a', 63) || '.example$')::activation_code::text);
SELECT w.message, w.detail FROM pg_temp.why_not('1$smdp.example.com$' || repeat('A', 237)) AS w
UNION ALL
SELECT w.message, w.detail FROM pg_temp.why_not(repeat('$', 1000000)) AS w
UNION ALL
SELECT w.message, w.detail FROM pg_temp.why_not('1$a.' || repeat('a', 64) || '.example$') AS w;

-- Casts
SELECT '1$h$x'::text::activation_code, '1$h$x'::varchar::activation_code, NULL::text::activation_code IS NULL AS no_code,
	   activation_code '1$h$x'::text || '!' AS joined;

-- Building
SELECT esim_build_activation_code('SMDP.GSMA.COM', '04386-AGYFT-A74Y8-3F815'),
	   esim_build_activation_code('SMDP.GSMA.COM'),
	   esim_build_activation_code('SMDP.GSMA.COM', '', '1.3.6.1.4.1.31746');
SELECT esim_build_activation_code('SMDP.GSMA.COM', 'X', confirmation_required => true),
	   esim_build_activation_code('SMDP.GSMA.COM', 'X', '1.3.6.1.4.1.31746', true),
	   esim_build_activation_code(smdp_address => 'SM-DP+.EXAMPLE.COM:8443', matching_id => NULL, confirmation_required => NULL),
	   esim_build_activation_code(NULL, 'X') IS NULL AS no_address;
SELECT esim_build_activation_code('');
SELECT esim_build_activation_code('https://smdp.example.com');
SELECT esim_build_activation_code('smdp.example.com', 'X$1.2.3$1');
SELECT esim_build_activation_code('smdp.example.com$X', '');
SELECT esim_build_activation_code('smdp.example.com', 'X', '1.2$1');
SELECT esim_build_activation_code('smdp.example.com', repeat('X', 240));
SELECT count(*) AS differ
FROM unnest(ARRAY['1$a.example$', '1$a.example$X', '1$a.example$X$1.2', '1$a.example$X$$1', '1$a.example$$1.2.3$1']::activation_code[]) AS c
WHERE c::text <> esim_build_activation_code(esim_ac_smdp_address(c), esim_ac_matching_id(c),
											esim_ac_smdp_oid(c), esim_ac_confirmation_required(c))::text;

-- Equality: the host in any case, all else exact
SELECT a, b, a = b AS eq, a <> b AS ne, a < b AS lt, a <= b AS le, a > b AS gt, a >= b AS ge,
	   sign(esim_activation_code_cmp(a, b)) AS cmp,
	   esim_activation_code_hash(a) = esim_activation_code_hash(b) AS hash,
	   esim_activation_code_hash_extended(a, 7) = esim_activation_code_hash_extended(b, 7) AS extended
FROM (VALUES ('1$SMDP.EXAMPLE.COM$X', 'LPA:1$smdp.example.com$X$$'),
			 ('1$smdp.example.com$X', '1$smdp.example.com$x'),
			 ('1$smdp.example.com$', '1$smdp.example.com$X'),
			 ('1$b.example$A', '1$A.example$B'),
			 ('1$a.example$X$$1', '1$a.example$X')) AS v(x, y),
	LATERAL (SELECT x::activation_code AS a, y::activation_code AS b) AS c;

-- Index, sort, joins, grouping
CREATE TABLE identifier_code (n int, code activation_code);
INSERT INTO identifier_code
SELECT n, esim_build_activation_code(CASE WHEN n % 2 = 0 THEN 'RSP' ELSE 'rsp' END || n % 7 || '.example',
									 'M' || n / 2 % 100)
FROM generate_series(1, 1000) AS n;
SELECT count(DISTINCT code), count(DISTINCT code::text) AS spellings FROM identifier_code;
SELECT count(*) FROM (SELECT code FROM identifier_code GROUP BY code) AS groups;
SELECT count(*) AS wrong
FROM (SELECT code, lag(code) OVER (ORDER BY code) AS before FROM identifier_code) AS pairs
WHERE before > code;
CREATE INDEX identifier_code_code ON identifier_code (code);
CREATE INDEX identifier_code_hash ON identifier_code USING hash (code);
ANALYZE identifier_code;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT n FROM identifier_code WHERE code >= '1$rsp6.example$M99';
SELECT n FROM identifier_code WHERE code = '1$Rsp3.Example$M1' ORDER BY n;
DROP INDEX identifier_code_code;
EXPLAIN (COSTS OFF) SELECT n FROM identifier_code WHERE code = '1$Rsp3.Example$M1';
SELECT n FROM identifier_code WHERE code = '1$Rsp3.Example$M1' ORDER BY n;
RESET enable_seqscan;
RESET enable_bitmapscan;
SET enable_nestloop = off;
SET enable_mergejoin = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM identifier_code AS a JOIN identifier_code AS b USING (code);
SELECT count(*) FROM identifier_code AS a JOIN identifier_code AS b USING (code);
SET enable_hashjoin = off;
SET enable_mergejoin = on;
EXPLAIN (COSTS OFF) SELECT count(*) FROM identifier_code AS a JOIN identifier_code AS b USING (code);
SELECT count(*) FROM identifier_code AS a JOIN identifier_code AS b USING (code);
RESET enable_nestloop;
RESET enable_mergejoin;
RESET enable_hashjoin;
CREATE UNIQUE INDEX identifier_code_one ON identifier_code (code) WHERE n IN (6, 7);
INSERT INTO identifier_code VALUES (7, '1$RSP6.EXAMPLE$M3');

-- Out and in again
\getenv abs_builddir PG_ABS_BUILDDIR
\set file :abs_builddir '/results/identifier_activation_code.data'
CREATE TABLE identifier_copy (LIKE identifier_code);
COPY identifier_code TO :'file';
COPY identifier_copy FROM :'file';
COPY identifier_code TO :'file' (FORMAT binary);
COPY identifier_copy FROM :'file' (FORMAT binary);
SELECT count(*), count(*) FILTER (WHERE a.code::text = b.code::text) AS same
FROM identifier_code AS a JOIN identifier_copy AS b USING (n);
COPY (SELECT 1, '1$smdp.example.com'::text) TO :'file' (FORMAT binary);
COPY identifier_copy FROM :'file' (FORMAT binary);

SELECT amname, opcname, opcdefault, amvalidate(o.oid) FROM pg_opclass AS o JOIN pg_am AS a ON a.oid = opcmethod
WHERE opcintype = 'activation_code'::regtype ORDER BY amname;

-- Every function of the identifiers is described
SELECT p.oid::regprocedure FROM pg_proc AS p
WHERE proname ~ '^esim_(eid_|iccid_|activation_code_|ac_|build_activation_code)' AND obj_description(p.oid, 'pg_proc') IS NULL;

DROP TABLE identifier_code, identifier_copy;
