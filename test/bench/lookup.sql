-- bench/lookup.sql
-- The same numbers as our types and as text in the default collation, indexed.
\set QUIET 1
SET maintenance_work_mem = '256MB';

CREATE TABLE bench_iccid (own iccid, txt text);
INSERT INTO bench_iccid
SELECT t::iccid, t
FROM (SELECT c || esim_iccid_check_digit(c) AS t
	FROM (SELECT '89' || lpad(((hashint8extended(i, 1) & 9223372036854775807) % 10000000000000000)::text, 16, '0') AS c
		FROM generate_series(1, :rows) i) n) m;

CREATE TABLE bench_eid (own eid, txt text);
INSERT INTO bench_eid
SELECT t::eid, t
FROM (SELECT b || esim_eid_check_digits(b) AS t
	FROM (SELECT '89049032' || lpad(((hashint8extended(i, 2) & 9223372036854775807) % 100000000000)::text, 11, '0')
			|| lpad(((hashint8extended(i, 3) & 9223372036854775807) % 100000000000)::text, 11, '0') AS b
		FROM generate_series(1, :rows) i) n) m;

-- single-column tables, so that the two differ in nothing else
CREATE TABLE bench_iccid_own_table AS SELECT own AS v FROM bench_iccid;
CREATE TABLE bench_iccid_text_table AS SELECT txt AS v FROM bench_iccid;
CREATE TABLE bench_eid_own_table AS SELECT own AS v FROM bench_eid;
CREATE TABLE bench_eid_text_table AS SELECT txt AS v FROM bench_eid;
CREATE INDEX bench_iccid_own ON bench_iccid_own_table (v);
CREATE INDEX bench_iccid_text ON bench_iccid_text_table (v);
CREATE INDEX bench_eid_own ON bench_eid_own_table (v);
CREATE INDEX bench_eid_text ON bench_eid_text_table (v);

-- keys to look up, in an order that has nothing to do with the index
CREATE TABLE bench_iccid_own_keys AS SELECT own AS v FROM (SELECT own FROM bench_iccid ORDER BY hashtext(txt) LIMIT :probes) k;
CREATE TABLE bench_iccid_text_keys AS SELECT txt AS v FROM (SELECT txt FROM bench_iccid ORDER BY hashtext(txt) LIMIT :probes) k;
CREATE TABLE bench_eid_own_keys AS SELECT own AS v FROM (SELECT own FROM bench_eid ORDER BY hashtext(txt) LIMIT :probes) k;
CREATE TABLE bench_eid_text_keys AS SELECT txt AS v FROM (SELECT txt FROM bench_eid ORDER BY hashtext(txt) LIMIT :probes) k;
DROP TABLE bench_iccid, bench_eid;
VACUUM (FREEZE, ANALYZE);

-- Index probes a second, in one nested loop.
CREATE FUNCTION bench_probe(type text, what text, probes int) RETURNS numeric
LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_memoize = off SET enable_seqscan = on
SET max_parallel_workers_per_gather = 0 SET jit = off SET enable_bitmapscan = off SET enable_material = off
AS $$
DECLARE
	query text := format('SELECT count(*) FROM %1$I k JOIN %2$I t ON t.v = k.v',
		format('bench_%s_%s_keys', type, what), format('bench_%s_%s_table', type, what));
	line text;
	plan text := '';
	found bigint;
	begun timestamptz;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN ' || query LOOP
		plan := plan || line || E'\n';
	END LOOP;
	IF plan !~ 'Nested Loop' OR plan !~ format('Index Only Scan using bench_%s_%s ', type, what) THEN
		RAISE EXCEPTION 'not a nested loop over the index: %', plan;
	END IF;
	begun := clock_timestamp();
	EXECUTE query INTO found;
	IF found < probes THEN
		RAISE EXCEPTION 'found only %', found;
	END IF;
	RETURN round(probes / extract(epoch FROM clock_timestamp() - begun), 1);
END
$$;
