--
-- Options of servers and user mappings
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS esim;
RESET client_min_messages;
\set VERBOSITY default
\set SHOW_CONTEXT never

-- what is required
CREATE SERVER so_a FOREIGN DATA WRAPPER esim_rsp;
CREATE SERVER so_a FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara');
CREATE SERVER so_a FOREIGN DATA WRAPPER esim_rsp OPTIONS (url 'https://rsp.example.com');
CREATE SERVER so_a FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://rsp.example.com/esim/v1');
ALTER SERVER so_a OPTIONS (DROP url);
ALTER SERVER so_a OPTIONS (DROP protocol);

-- unknown options, and options of the other catalog
CREATE SERVER so_b FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://rsp.example.com', host 'x');
CREATE SERVER so_b FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://rsp.example.com', token 'secret');
CREATE USER MAPPING FOR CURRENT_USER SERVER so_a OPTIONS (user 'x');
CREATE USER MAPPING FOR CURRENT_USER SERVER so_a OPTIONS (url 'https://elsewhere.example.com');
CREATE USER MAPPING FOR CURRENT_USER SERVER so_a OPTIONS (token_url 'https://elsewhere.example.com/token');
ALTER FOREIGN DATA WRAPPER esim_rsp OPTIONS (url 'https://rsp.example.com');
CREATE FOREIGN TABLE so_table (a int) SERVER so_a OPTIONS (url 'https://rsp.example.com');

-- each option with a value that is right
CREATE SERVER so_all FOREIGN DATA WRAPPER esim_rsp OPTIONS (
	protocol 'camara', url 'https://rsp.example.com:8443/esim/v1/', dialect '2026-02',
	smdp_address 'smdp.example.com', event_url 'https://events.example.com/esim',
	timeout '20 s', connect_timeout '500 ms', max_in_flight '8', rate_limit '2.5',
	default_expiry '2 days 4 hours', unknown_hold 'PT30M', redownload 'same_eid',
	matching_id_source 'server', ca_file '/etc/ssl/certs/ca-certificates.crt', allow_http 'false',
	verify 'on', auth_method 'client_secret_post', token_url 'https://login.example.com/token?tenant=1',
	openid_config_url 'https://login.example.com/.well-known/openid-configuration',
	scope 'esims:download esims:read', audience 'https://rsp.example.com/');
CREATE SERVER so_es2plus FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'es2plus', url 'https://smdp.example.com/gsma/rsp2/es2plus', requester_id '1.3.6.1.4.1.31746');
CREATE SERVER so_eim FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'eim', url 'https://[2001:db8::1]:8443');
CREATE SERVER so_twilio FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'TWILIO', url 'https://supersim.example.com/v1', redownload 'NEVER');
CREATE USER MAPPING FOR CURRENT_USER SERVER so_all OPTIONS (
	token 'abc.def', username 'me', password '', client_id 'me', client_secret 'x y',
	private_key E'-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n', key_id 'k1',
	client_cert E'-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n',
	client_key '/etc/esim/client.key');
CREATE USER MAPPING FOR PUBLIC SERVER so_all;

-- set one option of a server, or of a new user mapping, and say what came of it
CREATE FUNCTION pg_temp.so_set(option text, value text, server text = 'so_a') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	hint text;
BEGIN
	BEGIN
		EXECUTE format('ALTER SERVER %I OPTIONS (SET %I %L)', server, option, value);
	EXCEPTION WHEN undefined_object THEN
		EXECUTE format('ALTER SERVER %I OPTIONS (ADD %I %L)', server, option, value);
	END;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, message, nullif(detail, ''), nullif(hint, ''));
END
$$;
CREATE FUNCTION pg_temp.so_map(option text, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE format('CREATE USER MAPPING FOR CURRENT_USER SERVER so_a OPTIONS (%I %L)', option, value);
	EXECUTE 'DROP USER MAPPING FOR CURRENT_USER SERVER so_a';
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, message, nullif(detail, ''), nullif(hint, ''));
END
$$;

-- URLs
SELECT value, pg_temp.so_set('url', value) FROM (VALUES
	(1, 'https://rsp.example.com'), (2, 'HTTPS://RSP.EXAMPLE.COM/'), (3, 'https://10.0.0.1:9443/a/b'),
	(4, 'https://rsp_1/a%20b'), (5, ''), (6, 'rsp.example.com'), (7, 'ftp://rsp.example.com'),
	(8, 'https://'), (9, 'https:///x'), (10, 'https://me:secret@rsp.example.com'),
	(11, 'https://rsp.example.com@elsewhere.example.com'), (12, 'https://rsp.example.com?x=1'),
	(13, 'https://rsp.example.com/#x'), (14, 'https://rsp.example.com:0'), (15, 'https://rsp.example.com:65536'),
	(16, 'https://rsp.example.com:'), (17, 'https://rsp.example.com:1x'), (18, 'https://rsp example.com'),
	(19, E'https://rsp.example.com/\r\nX: y'), (20, 'https://rsp.example.com/a%0d%0ab'),
	(21, 'https://rsp.example.com/%zz'), (22, 'https://rsp.example.com\elsewhere'),
	(23, 'https://[::1'), (24, 'https://[]'), (25, 'https://[::1]x'), (26, U&'https://\00e4.example.com'),
	(27, 'https://-a'), (28, 'http://rsp.example.com'), (29, 'https://rsp.example.com/{a}')) v (n, value) ORDER BY n;
SELECT pg_temp.so_set('url', 'https://rsp.example.com/' || repeat('a', 2100));
SELECT pg_temp.so_set('event_url', 'http://events.example.com');
SELECT pg_temp.so_set('event_url', 'https://events.example.com/?a=b');
SELECT pg_temp.so_set('token_url', 'http://login.example.com/token', 'so_all');
SELECT pg_temp.so_set('token_url', 'https://login.example.com/token#a', 'so_all');
SELECT pg_temp.so_set('openid_config_url', 'login.example.com', 'so_all');

-- enums
SELECT o, pg_temp.so_set(o, 'x') FROM unnest(ARRAY['protocol', 'dialect', 'redownload', 'matching_id_source', 'auth_method']) o;

-- numbers, booleans
SELECT o, v, pg_temp.so_set(o, v, 'so_all') FROM (VALUES
	(1, 'max_in_flight', '0'), (2, 'max_in_flight', '-1'), (3, 'max_in_flight', '10001'), (4, 'max_in_flight', 'many'),
	(5, 'max_in_flight', '10000'), (6, 'rate_limit', '-0.1'), (7, 'rate_limit', 'NaN'), (8, 'rate_limit', 'infinity'),
	(9, 'rate_limit', '0'), (10, 'rate_limit', ''), (11, 'allow_http', 'maybe'), (12, 'verify', '2')) x (n, o, v) ORDER BY n;

-- intervals
SELECT o, v, pg_temp.so_set(o, v, 'so_all') FROM (VALUES
	(1, 'timeout', '30'), (2, 'timeout', '1 microsecond'), (3, 'timeout', '0'), (4, 'timeout', '-1 s'),
	(5, 'timeout', '1 hour'), (6, 'timeout', '1 hour 1 s'), (7, 'timeout', 'soon'), (8, 'timeout', ''),
	(9, 'connect_timeout', '00:00:02'), (10, 'default_expiry', '1 year 2 mons'), (11, 'default_expiry', '101 years'),
	(12, 'unknown_hold', '178000000 years'), (13, 'unknown_hold', '999999999999999999999 s'),
	(14, 'unknown_hold', 'infinity')) x (n, o, v) ORDER BY n;
SELECT pg_temp.so_set('unknown_hold', repeat('1 s ', 60), 'so_all');

-- text, addresses
SELECT o, v, pg_temp.so_set(o, v, 'so_all') FROM (VALUES
	(1, 'smdp_address', 'https://smdp.example.com'), (2, 'smdp_address', 'smdp.example.com:8443'),
	(3, 'smdp_address', 'smdp.example.com:0'), (4, 'smdp_address', 'a$b'), (5, 'smdp_address', ''),
	(6, 'scope', E'a\nb'), (7, 'audience', U&'\00e4'), (8, 'scope', '')) x (n, o, v) ORDER BY n;
SELECT pg_temp.so_set('scope', repeat('a', 1025), 'so_all');
SELECT pg_temp.so_set('ca_file', 'certs/ca.crt', 'so_all');
SELECT pg_temp.so_set('ca_file', '/' || repeat('a', 2000), 'so_all');
SELECT pg_temp.so_set('ca_file', E'-----BEGIN PRIVATE KEY-----\nA\n-----END PRIVATE KEY-----', 'so_all');

-- what must go together
CREATE SERVER so_b FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'eim', url 'https://eim.example.com', dialect 'r1.2');
CREATE SERVER so_b FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://rsp.example.com', requester_id 'x');
CREATE SERVER so_b FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'twilio', url 'https://supersim.example.com', redownload 'ANY');
CREATE SERVER so_b FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://rsp.example.com', auth_method 'client_secret_basic');
CREATE SERVER so_b FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://rsp.example.com', auth_method 'private_key_jwt');
ALTER SERVER so_all OPTIONS (SET protocol 'es2plus');

-- user mappings: values are not shown
SELECT o, pg_temp.so_map(o, v) FROM (VALUES
	(1, 'token', ''), (2, 'token', 'a b'), (3, 'token', E'a\r\nX: b'), (4, 'token', U&'\00e4'), (5, 'token', 'ok.OK-1~+/='),
	(6, 'username', 'a:b'), (7, 'username', U&'J\00fcrgen'), (8, 'username', E'a\nb'), (9, 'password', 'x'),
	(10, 'client_secret', 'x'), (11, 'private_key', 'x'), (12, 'key_id', 'x'), (13, 'client_key', '/x'),
	(14, 'client_cert', 'x'), (15, 'client_cert', E'a\nb'), (16, 'client_cert', '-----BEGIN CERTIFICATE-----'),
	(17, 'client_cert', '-----BEGIN CERTIFICATE-----A-----END CERTIFICATE-----'),
	(18, 'client_cert', '-----BEGIN CERTIFICATE-----A-----END CERTIFICATE----------BEGIN PRIVATE KEY-----A-----END PRIVATE KEY-----'),
	(19, 'client_cert', '/etc/esim/client.pem'),
	(20, 'private_key', '-----BEGIN CERTIFICATE-----A-----END CERTIFICATE-----'),
	(21, 'private_key', '-----BEGIN ENCRYPTED PRIVATE KEY-----A-----END ENCRYPTED PRIVATE KEY-----')) x (n, o, v) ORDER BY n;
SELECT pg_temp.so_map('token', repeat('a', 16385));

-- called by itself
SELECT esim_rsp_validator('{protocol=camara,url}', 'pg_foreign_server'::regclass);
SELECT esim_rsp_validator('{NULL}', 'pg_foreign_server'::regclass);
SELECT esim_rsp_validator('{a=b}', 0);

-- administrators' options
ALTER SERVER so_a OPTIONS (ADD allow_http 'true', SET url 'http://127.0.0.1:8080');
ALTER SERVER so_a OPTIONS (SET allow_http 'false');
ALTER SERVER so_a OPTIONS (ADD verify 'false');
ALTER SERVER so_a OPTIONS (SET url 'https://rsp.example.com', DROP allow_http, DROP verify);

CREATE ROLE regress_esim_admin;
CREATE ROLE regress_esim_tenant;
GRANT USAGE ON FOREIGN DATA WRAPPER esim_rsp TO regress_esim_admin;
SET ROLE regress_esim_admin;
CREATE SERVER so_c FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'http://127.0.0.1', allow_http 'true');
CREATE SERVER so_c FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://rsp.example.com', verify 'off');
CREATE SERVER so_c FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://rsp.example.com', ca_file '/etc/passwd');
CREATE SERVER so_c FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://rsp.example.com', verify 'true', allow_http 'false',
	ca_file '-----BEGIN CERTIFICATE-----A-----END CERTIFICATE-----');
ALTER SERVER so_c OPTIONS (ADD timeout '10 s');
GRANT USAGE ON FOREIGN SERVER so_c TO regress_esim_tenant;
RESET ROLE;

-- one is set: others change nothing beside it
ALTER SERVER so_c OPTIONS (SET verify 'false');
SET ROLE regress_esim_admin;
ALTER SERVER so_c OPTIONS (SET timeout '20 s');
ALTER SERVER so_c OPTIONS (SET verify 'true', SET timeout '20 s');
RESET ROLE;

-- a tenant's own user mapping: secrets yes, URLs and files no
SET ROLE regress_esim_tenant;
CREATE USER MAPPING FOR regress_esim_tenant SERVER so_c OPTIONS (url 'https://elsewhere.example.com');
CREATE USER MAPPING FOR regress_esim_tenant SERVER so_c OPTIONS (client_cert '/etc/esim/client.pem');
CREATE USER MAPPING FOR regress_esim_tenant SERVER so_c OPTIONS (client_id 'x', private_key '/etc/esim/client.pem');
CREATE USER MAPPING FOR regress_esim_tenant SERVER so_c OPTIONS (token 'abc');
ALTER USER MAPPING FOR regress_esim_tenant SERVER so_c OPTIONS (SET token 'def');
CREATE USER MAPPING FOR PUBLIC SERVER so_c OPTIONS (token 'abc');
CREATE SERVER so_d FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://rsp.example.com');
RESET ROLE;
SELECT u.usename, u.umoptions FROM pg_user_mappings u WHERE u.srvname = 'so_c';
SET ROLE regress_esim_admin;
SELECT count(*), count(u.umoptions) AS readable FROM pg_user_mappings u WHERE u.srvname = 'so_all';
RESET ROLE;

-- with pg_read_server_files a path may be named
GRANT pg_read_server_files TO regress_esim_admin;
SET ROLE regress_esim_admin;
ALTER SERVER so_c OPTIONS (SET ca_file '/etc/ssl/certs/ca-certificates.crt');
RESET ROLE;
REVOKE pg_read_server_files FROM regress_esim_admin;
SET ROLE regress_esim_admin;
ALTER SERVER so_c OPTIONS (SET timeout '30 s');
RESET ROLE;

SELECT srvname, option FROM pg_foreign_server, unnest(srvoptions) WITH ORDINALITY u (option, n)
WHERE srvname LIKE 'so\_%' ORDER BY srvname, n;

SET client_min_messages = warning;
DROP SERVER so_a, so_all, so_es2plus, so_eim, so_twilio, so_c CASCADE;
REVOKE ALL ON FOREIGN DATA WRAPPER esim_rsp FROM regress_esim_admin;
DROP ROLE regress_esim_admin, regress_esim_tenant;
