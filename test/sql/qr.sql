-- qr.sql
--		Activation codes of profiles; the shape of their QR codes and errors.
--		That they can be read is tested by test/t/020_qr.pl.
\set VERBOSITY verbose
\pset format unaligned
\pset tuples_only on

-- text: lines of equal length, blocks only, a quiet zone of four modules around
\set code '''1$smdp.example.com$ABC-123'''
SELECT count(*), count(DISTINCT length(line)), bool_and(line ~ '^[█▀▄ ]+$'), bool_and(line ~ '^████.*████$'),
	bool_and(line !~ '[▀▄ ]') FILTER (WHERE n IN (1, 2, 18, 19))
FROM string_to_table(esim_qr(:code), E'\n') WITH ORDINALITY AS l (line, n);
SELECT count(*), count(DISTINCT length(line)), bool_and(line ~ '^    .*    $'), bool_and(line ~ '^ +$') FILTER (WHERE n IN (1, 2, 18, 19))
FROM string_to_table(esim_qr(:code, inverse => true), E'\n') WITH ORDINALITY AS l (line, n);
SELECT translate(esim_qr(:code), '█▀▄ ', ' ▄▀█') = esim_qr(:code, true);
-- the same code in another form is the same symbol; letters keep their case
SELECT esim_qr('LPA:1$smdp.example.com$ABC-123') = esim_qr(' lpa:1$smdp.example.com$ABC-123$$ ');
SELECT esim_qr('1$smdp.example.com$ABC') = esim_qr('1$SMDP.EXAMPLE.COM$ABC'), esim_qr('1$smdp.example.com$ABC') = esim_qr('1$smdp.example.com$abc');

-- SVG: 29 modules and twice four
SELECT substr(esim_qr_svg(:code), 1, 157), right(esim_qr_svg(:code), 9), esim_qr_svg(:code) ~ '^[ -~]+$';
SELECT esim_qr_svg(:code, 10) ~ ' width="370" height="370" viewBox="0 0 37 37" ';
SELECT level, substring(esim_qr_svg(:code, level => level) FROM 'width="(\d+)"')::int / 4 - 8 FROM unnest('{L,M,Q,H}'::text[]) level;

-- PNG: signature, header with width, height, one bit of grey
SELECT encode(substr(esim_qr_png(:code), 1, 29), 'hex');
SELECT m, get_byte(png, 18) * 256 + get_byte(png, 19), get_byte(png, 22) * 256 + get_byte(png, 23)
FROM unnest('{1,2,3,64}'::int[]) m, esim_qr_png(:code, m) png;
SELECT length(esim_qr_png(('1$smdp.example.com$' || repeat('a', 236))::activation_code, level => 'H')) > 1000;

-- nothing of nothing
SELECT esim_qr(NULL) IS NULL, esim_qr_svg(NULL) IS NULL, esim_qr_png(NULL) IS NULL, esim_qr_png(:code, NULL) IS NULL, esim_qr_svg(:code, 4, NULL) IS NULL;

-- errors
\set VERBOSITY default
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
SELECT pg_temp.error_of('SELECT esim_qr_' || f) FROM unnest(ARRAY[
	'svg(''1$a.b$C'', 0)', 'svg(''1$a.b$C'', 65)', 'svg(''1$a.b$C'', -2147483648)', 'png(''1$a.b$C'', 0)', 'png(''1$a.b$C'', 65)',
	'svg(''1$a.b$C'', 4, ''X'')', 'svg(''1$a.b$C'', level => '''')', 'png(''1$a.b$C'', level => ''m'')', 'png(''1$a.b$C'', level => ''LM'')',
	'png(''1$a.b$C'', level => repeat(''ä'', 1000))', 'png(''C'')']) f;

-- codes of profiles
CREATE ROLE regress_qr_one;
CREATE ROLE regress_qr_two;
GRANT USAGE ON SCHEMA public TO regress_qr_one, regress_qr_two;
SELECT esim_grant('regress_qr_one', 'retrieve-status');
SELECT esim_grant('regress_qr_two', 'retrieve-status');
SET esim.check_digits = off;
INSERT INTO esim_profile (id, iccid, owner, state, activation_code, smdp_address, matching_id, reserved_eid, created_at) VALUES
	('00000000-0000-4000-8000-000000000001', '8900000000000000001', 'regress_qr_one', 'RELEASED', '1$own.example$OWN', 'other.example', 'OTHER', NULL, '2026-01-01'),
	('00000000-0000-4000-8000-000000000002', '8900000000000000002', 'regress_qr_one', 'RELEASED', NULL, 'smdp.example', 'MATCH-1', NULL, '2026-01-01'),
	('00000000-0000-4000-8000-000000000003', '8900000000000000003', 'regress_qr_one', 'RESERVED', NULL, 'smdp.example', NULL, '89049032000000000000000000000001', '2026-01-01'),
	('00000000-0000-4000-8000-000000000004', NULL, 'regress_qr_one', 'RESERVING', NULL, NULL, NULL, '89049032000000000000000000000001', '2026-01-01'),
	('00000000-0000-4000-8000-000000000005', '8900000000000000005', 'regress_qr_one', 'RESERVED', NULL, 'smdp.example', NULL, NULL, '2026-01-01'),
	('00000000-0000-4000-8000-000000000006', '8900000000000000006', 'regress_qr_one', 'DELETED', '1$old.example$OLD', NULL, NULL, NULL, '2026-02-01'),
	('00000000-0000-4000-8000-000000000007', '8900000000000000006', 'regress_qr_one', 'RELEASED', '1$new.example$NEW', NULL, NULL, NULL, '2026-01-01'),
	('00000000-0000-4000-8000-000000000008', '8900000000000000008', 'regress_qr_one', 'FAILED', '1$first.example$', NULL, NULL, NULL, '2026-01-01'),
	('00000000-0000-4000-8000-000000000009', '8900000000000000008', 'regress_qr_one', 'DELETED', '1$second.example$', NULL, NULL, NULL, '2026-02-01'),
	('00000000-0000-4000-8000-00000000000a', '8900000000000000001', 'regress_qr_two', 'RELEASED', '1$two.example$TWO', NULL, NULL, NULL, '2026-01-01'),
	('00000000-0000-4000-8000-00000000000b', '8900000000000000011', 'regress_qr_two', 'RELEASED', '1$two.example$', NULL, NULL, NULL, '2026-01-01');
SET ROLE regress_qr_one;
SELECT n, coalesce(esim_activation_code(('890000000000000000' || n)::iccid)::text, 'NULL') FROM unnest('{1,2,3,5,6,8}'::text[]) n;
SELECT esim_activation_code(profile => '00000000-0000-4000-8000-000000000002'), esim_activation_code(profile => '00000000-0000-4000-8000-000000000004') IS NULL,
	esim_activation_code(profile => '00000000-0000-4000-8000-000000000006'), esim_activation_code('8900000000000000002', '00000000-0000-4000-8000-000000000002');
SELECT length(esim_qr(esim_activation_code('8900000000000000003'))) > 500;
SELECT pg_temp.error_of('SELECT esim_activation_code(' || a || ')') FROM unnest(ARRAY['', '''8900000000000000099''', '''8900000000000000011''',
	'profile => ''00000000-0000-4000-8000-00000000000b''', '''8900000000000000001'', ''00000000-0000-4000-8000-000000000002''']) a;
SET ROLE regress_qr_two;
SELECT esim_activation_code('8900000000000000001'), esim_activation_code('8900000000000000011');
RESET ROLE;
SELECT pg_temp.error_of('SELECT esim_activation_code(''8900000000000000001'')');
SELECT esim_activation_code(profile => '00000000-0000-4000-8000-00000000000a');
CREATE ROLE regress_qr_none;
SET ROLE regress_qr_none;
SELECT length(esim_qr('1$a.b$')) > 0;
SELECT esim_activation_code('8900000000000000001');
RESET ROLE;

DELETE FROM esim_profile WHERE id < '00000000-0000-4000-8000-000000000100';
DROP OWNED BY regress_qr_one, regress_qr_two, regress_qr_none;
DROP ROLE regress_qr_one, regress_qr_two, regress_qr_none;
