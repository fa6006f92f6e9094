-- provider.sql
--		esim_camara(): every example of the two OpenAPI files, and every error
--		that a database can produce.

BEGIN;
SET search_path = esim, public;
SELECT no_plan();
SET client_min_messages = error;
-- the identifiers of the examples have wrong check digits
SET esim.check_digits = off;
SET esim.lockout_guard = off;

CREATE ROLE esim_test_alice;
CREATE ROLE esim_test_bob;
CREATE ROLE esim_test_narrow;
GRANT USAGE ON SCHEMA esim, public TO PUBLIC;
CREATE SERVER esim_test_one FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://one.invalid/');
CREATE SERVER esim_test_super FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'twilio', url 'https://two.invalid/');
SELECT esim_grant('esim_test_alice', 'download', 'enable', 'disable', 'delete', 'set-fallback', 'retrieve-status', 'retrieve-operation');
SELECT esim_grant('esim_test_bob', 'download', 'enable', 'disable', 'delete', 'set-fallback', 'retrieve-status', 'retrieve-operation');

\set eid '89049032000000000000000000000001'
\set eid_2 '89049032000000000000000000000002'
\set eid_bob '89049032000000000000000000000003'
\set eid_super '89049032000000000000000000000004'
\set iccid '8901260123456789012'
\set iccid_2 '8901260123456789013'
\set iccid_bob '8901260123456789014'
\set iccid_new '8901260123456789015'
\set iccid_18 '890126012345678901'
INSERT INTO esim_device (eid, owner, server) VALUES (:'eid', 'esim_test_alice', 'esim_test_one'),
	(:'eid_2', 'esim_test_alice', 'esim_test_one'), (:'eid_bob', 'esim_test_bob', 'esim_test_one'),
	(:'eid_super', 'esim_test_alice', 'esim_test_super');

CREATE FUNCTION pg_temp.reset(of_first text, of_second text) RETURNS void LANGUAGE sql AS $$
	DELETE FROM esim.esim_pending;
	DELETE FROM esim.esim_operation;
	DELETE FROM esim.esim_profile;
	INSERT INTO esim.esim_profile (iccid, eid, owner, state, is_fallback, msisdn)
	SELECT v.iccid::esim.iccid, v.eid::esim.eid, v.owner::regrole, v.state::esim.esim_profile_state, v.is_fallback AND v.state IN ('DISABLED', 'ENABLED'), v.msisdn
	FROM (VALUES
		('8901260123456789012', '89049032000000000000000000000001', 'esim_test_alice', of_first, false, '+1234567890'),
		('8901260123456789013', '89049032000000000000000000000001', 'esim_test_alice', of_second, true, NULL),
		('8901260123456789014', '89049032000000000000000000000003', 'esim_test_bob', 'ENABLED', false, NULL)
	) v (iccid, eid, owner, state, is_fallback, msisdn)
	WHERE v.state IS NOT NULL
$$;

-- the answer, its body read
CREATE FUNCTION pg_temp.ask(method text, path text, body text DEFAULT NULL,
	headers jsonb DEFAULT '{"Authorization": "Bearer token", "Content-Type": "application/json"}')
RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('status', a.status, 'headers', a.headers, 'body', a.body::jsonb)
	FROM esim.esim_camara($1, $2, $4, $3) a
$$;
-- POST to an endpoint of r1.2, of 2026-02
CREATE FUNCTION pg_temp.new(endpoint text, body text) RETURNS jsonb LANGUAGE sql AS
	$$SELECT pg_temp.ask('POST', '/esim-profile-management/vwip/' || endpoint, body)$$;
CREATE FUNCTION pg_temp.old(endpoint text, body text) RETURNS jsonb LANGUAGE sql AS
	$$SELECT pg_temp.ask('POST', '/esim/vwip/esim/' || endpoint, body)$$;
-- status and code
CREATE FUNCTION pg_temp.code(answer jsonb) RETURNS text LANGUAGE sql AS
	$$SELECT concat_ws(' ', answer ->> 'status', answer #>> '{body,code}')$$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pg_temp TO PUBLIC;

--
-- the examples of r1.2
--
CREATE FUNCTION pg_temp.accepted(answer jsonb, expected jsonb, name text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is((answer ->> 'status')::int, 202, name || ': accepted');
	RETURN NEXT is(answer -> 'body', expected || jsonb_build_object('operationId', answer #>> '{body,operationId}'), name || ': the body');
	RETURN NEXT ok((answer #>> '{body,operationId}')::uuid IS NOT NULL, name || ': the identifier is a UUID');
	RETURN NEXT is(answer #>> '{headers,Location}', CASE WHEN expected ? 'esimProfile' THEN
		'http://localhost:9091/esim-profile-management/vwip/operations/' || (answer #>> '{body,operationId}') END,
		name || ': Location as the dialect has it');
	RETURN NEXT matches(answer #>> '{headers,x-correlator}', '^[a-zA-Z0-9_:;./<>{}-]+$', name || ': x-correlator');
	RETURN NEXT is(answer #>> '{headers,Content-Type}', 'application/json', name || ': Content-Type');
END
$$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pg_temp TO PUBLIC;

SELECT pg_temp.reset(NULL, NULL);
SET ROLE esim_test_alice;
SELECT pg_temp.new('download', '{"esimProfile": {"eid": "89049032000000000000000000000001"}, "activationCode": "LPA:1$SM-DP+.EXAMPLE.COM$04386-AGYFT-A74Y8-3F815"}') AS answer \gset
SELECT pg_temp.accepted(:'answer', '{"operation": "download", "status": "ACCEPTED", "esimProfile": {"eid": "89049032000000000000000000000001"}}', 'r1.2 download');
RESET ROLE;
SELECT is(o.activation_code::text, '1$SM-DP+.EXAMPLE.COM$04386-AGYFT-A74Y8-3F815', 'the activation code is passed on')
FROM esim_operation o;
SELECT is(o.correlator, :'answer'::jsonb #>> '{headers,x-correlator}', 'the correlator that was made is the operation''s') FROM esim_operation o;
SELECT ok(NOT o.activate_on_download AND o.requested_by = 'esim_test_alice'::regrole AND o.owner = 'esim_test_alice'::regrole, 'asked for by alice')
FROM esim_operation o;

SELECT pg_temp.reset('DISABLED', 'ENABLED');
SET ROLE esim_test_alice;
SELECT pg_temp.accepted(pg_temp.new('enable', '{"esimProfile": {"iccid": "8901260123456789012"}}'),
	'{"operation": "enable", "status": "ACCEPTED", "esimProfile": {"eid": "89049032000000000000000000000001", "iccid": "8901260123456789012"}}', 'r1.2 enable');
RESET ROLE;
SELECT pg_temp.reset('ENABLED', 'DISABLED');
SET ROLE esim_test_alice;
SELECT pg_temp.accepted(pg_temp.new('disable', '{"esimProfile": {"iccid": "8901260123456789012"}}'),
	'{"operation": "disable", "status": "ACCEPTED", "esimProfile": {"eid": "89049032000000000000000000000001", "iccid": "8901260123456789012"}}', 'r1.2 disable');
SELECT pg_temp.accepted(pg_temp.new('delete', '{"esimProfile": {"iccid": "8901260123456789012"}}'),
	'{"operation": "delete", "status": "ACCEPTED", "esimProfile": {"eid": "89049032000000000000000000000001", "iccid": "8901260123456789012"}}', 'r1.2 delete');
SELECT pg_temp.accepted(pg_temp.new('set-fallback', '{"esimProfile": {"iccid": "8901260123456789013"}}'),
	'{"operation": "set-fallback", "status": "ACCEPTED", "esimProfile": {"eid": "89049032000000000000000000000001", "iccid": "8901260123456789013"}}', 'r1.2 set-fallback');
SELECT pg_temp.accepted(pg_temp.new('set-fallback', '{"esimProfile": {"eid": "89049032000000000000000000000001", "iccid": "8901260123456789013"}}'),
	'{"operation": "set-fallback", "status": "ACCEPTED", "esimProfile": {"eid": "89049032000000000000000000000001", "iccid": "8901260123456789013"}}', 'r1.2 set-fallback with EID');
RESET ROLE;
SELECT pg_temp.reset('ENABLED', 'DISABLED');
SET ROLE esim_test_alice;
SELECT is(pg_temp.new('retrieve-status', '{"esimProfile": {"eid": "89049032000000000000000000000001"}}') -> 'body',
	'{"esimProfiles": [{"eid": "89049032000000000000000000000001", "iccid": "8901260123456789012", "state": "ENABLED", "isFallback": false},
		{"eid": "89049032000000000000000000000001", "iccid": "8901260123456789013", "state": "DISABLED", "isFallback": true}]}', 'r1.2 status by EID');
SELECT is(pg_temp.new('retrieve-status', '{"esimProfile": {"iccid": "8901260123456789012"}}') - 'headers',
	'{"status": 200, "body": {"esimProfiles": [{"eid": "89049032000000000000000000000001", "iccid": "8901260123456789012", "state": "ENABLED", "isFallback": false}]}}', 'r1.2 status by ICCID');
SELECT is(pg_temp.new('retrieve-status', '{"esimProfile": {"eid": "89049032000000000000000000000002"}}') - 'headers',
	'{"status": 200, "body": {"esimProfiles": []}}', 'r1.2 status of an empty eUICC');
RESET ROLE;

--
-- the examples of 2026-02
--
SELECT pg_temp.reset(NULL, NULL);
SET ROLE esim_test_alice;
SELECT pg_temp.accepted(pg_temp.old('download', '{"esim": {"eid": "89049032000000000000000000000001", "iccid": "8901260123456789012"},
		"activationCode": "LPA:1$SM-DP+.EXAMPLE.COM$04386-AGYFT-A74Y8-3F815", "sink": "https://webhook.example.com/esim-notifications"}'),
	'{"operation": "download", "status": "accepted", "esim": {"eid": "89049032000000000000000000000001", "iccid": "8901260123456789012"}}', '2026-02 download');
RESET ROLE;
SELECT ok(NOT o.activate_on_download, 'it stays disabled') FROM esim_operation o;
SELECT is(o.sink, 'https://webhook.example.com/esim-notifications', 'the sink is passed on') FROM esim_operation o;
SELECT pg_temp.reset(NULL, NULL);
SET ROLE esim_test_alice;
SELECT pg_temp.accepted(pg_temp.old('download', '{"esim": {"eid": "89049032000000000000000000000001", "iccid": "8901260123456789012"},
		"activationCode": "LPA:1$SM-DP+.EXAMPLE.COM$04386-AGYFT-A74Y8-3F815", "activateOnDownload": true, "sink": "https://webhook.example.com/esim-notifications"}'),
	'{"operation": "download", "status": "accepted", "esim": {"eid": "89049032000000000000000000000001", "iccid": "8901260123456789012"}}', '2026-02 download and activate');
RESET ROLE;
SELECT ok(o.activate_on_download, 'activateOnDownload is passed on') FROM esim_operation o;

SELECT pg_temp.reset('DISABLED', 'DISABLED');
SET ROLE esim_test_alice;
SELECT pg_temp.accepted(pg_temp.old(e, '{"esim": {"iccid": "8901260123456789012"}, "sink": "https://webhook.example.com/esim-notifications"}'),
	jsonb_build_object('operation', e, 'status', 'accepted', 'esim', jsonb_build_object('eid', '89049032000000000000000000000001', 'iccid', '8901260123456789012')),
	'2026-02 ' || e)
FROM unnest('{enable, disable, delete}'::text[]) WITH ORDINALITY AS e (e, n) ORDER BY n;
SELECT pg_temp.accepted(pg_temp.old('set-fallback', '{"esim": {"iccid": "8901260123456789013"}, "sink": "https://webhook.example.com/esim-notifications"}'),
	'{"operation": "set-fallback", "status": "accepted", "esim": {"eid": "89049032000000000000000000000001", "iccid": "8901260123456789013"}}', '2026-02 set-fallback');
RESET ROLE;
SELECT pg_temp.reset('ENABLED', 'DISABLED');
SET ROLE esim_test_alice;
SELECT is(pg_temp.old('retrieve-status', '{"esim": {"eid": "89049032000000000000000000000001"}}') - 'headers',
	'{"status": 200, "body": {"esims": [{"eid": "89049032000000000000000000000001", "iccid": "8901260123456789012", "state": "enabled", "phoneNumber": "+1234567890", "isFallback": false},
		{"eid": "89049032000000000000000000000001", "iccid": "8901260123456789013", "state": "disabled", "isFallback": true}]}}', '2026-02 status by EID');
SELECT is(pg_temp.old('retrieve-status', '{"esim": {"iccid": "8901260123456789013"}}') - 'headers',
	'{"status": 200, "body": {"esims": [{"eid": "89049032000000000000000000000001", "iccid": "8901260123456789013", "state": "disabled", "isFallback": true}]}}', '2026-02 status by ICCID');

-- all that 2026-02 lets a client say
SELECT pg_temp.old('disable', '{"esim": {"iccid": "8901260123456789012"}, "sink": "https://webhook.example.com/x", "correlationId": "order 66",
	"sinkCredential": {"credentialType": "ACCESSTOKEN", "accessToken": "secret", "accessTokenExpireUtc": "2099-12-31T23:59:60.5+01:00", "accessTokenType": "bearer", "more": 1}}') AS answer \gset
RESET ROLE;
SELECT is(pg_temp.code(:'answer'), '202', 'a credential and a correlationId');
SELECT is(o.options ->> 'correlationId', 'order 66', 'correlationId is kept') FROM esim_operation o;
SELECT is(s.sink_credential, '{"credentialType": "ACCESSTOKEN", "accessToken": "secret", "accessTokenExpireUtc": "2099-12-31T23:59:60.5+01:00", "accessTokenType": "bearer"}'::jsonb,
	'the credential is passed on, without what is not declared')
FROM esim_operation_secret s JOIN esim_operation o ON o.id = s.operation;

--
-- operations
--
CREATE FUNCTION pg_temp.end_with(outcome text, code text, message text) RETURNS void LANGUAGE sql AS $$
	DELETE FROM esim.esim_pending;
	UPDATE esim.esim_operation SET status = 'COMPLETED', phase = 'DONE', result = outcome::esim.esim_operation_result, error_code = code, error_message = message,
		completed_at = '2024-01-15T10:30:00Z', iccid = '8901260123456789012'
$$;
SELECT pg_temp.reset(NULL, NULL);
SET ROLE esim_test_alice;
SELECT pg_temp.new('download', '{"esimProfile": {"eid": "89049032000000000000000000000001"}, "activationCode": "LPA:1$SM-DP+.EXAMPLE.COM$04386-AGYFT-A74Y8-3F815"}')
	#>> '{body,operationId}' AS id \gset
SELECT is(pg_temp.ask('GET', '/esim-profile-management/vwip/operations/' || :'id') - 'headers', jsonb_build_object('status', 200, 'body',
	jsonb_build_object('operationId', :'id', 'operation', 'download', 'status', 'ACCEPTED', 'esimProfile', '{"eid": "89049032000000000000000000000001"}'::jsonb)), 'r1.2 operation that is open');
SELECT is(pg_temp.ask('GET', '/esim/vwip/esim/operations/' || :'id') - 'headers', jsonb_build_object('status', 200, 'body',
	jsonb_build_object('operationId', :'id', 'operation', 'download', 'status', 'accepted', 'esim', '{"eid": "89049032000000000000000000000001"}'::jsonb)), '2026-02 operation that is open');
RESET ROLE;
SELECT pg_temp.end_with('SUCCESS', NULL, NULL);
SET ROLE esim_test_alice;
SELECT is(pg_temp.ask('GET', '/esim-profile-management/vwip/operations/' || :'id') -> 'body',
	jsonb_build_object('operationId', :'id', 'operation', 'download', 'status', 'COMPLETED', 'esimProfile', '{"eid": "89049032000000000000000000000001", "iccid": "8901260123456789012"}'::jsonb,
	'result', '{"completedAt": "2024-01-15T10:30:00.000Z", "outcome": "SUCCESS", "assignedIccid": "8901260123456789012"}'::jsonb), 'r1.2 operation_result');
SELECT is(pg_temp.ask('GET', '/esim/vwip/esim/operations/' || upper(:'id')) -> 'body',
	jsonb_build_object('operationId', :'id', 'operation', 'download', 'status', 'completed', 'esim', '{"eid": "89049032000000000000000000000001", "iccid": "8901260123456789012"}'::jsonb,
	'result', '{"completedAt": "2024-01-15T10:30:00.000Z", "outcome": "success"}'::jsonb), '2026-02 operation_result');
RESET ROLE;
SELECT pg_temp.end_with('FAILED', 'SERVICE_NOT_APPLICABLE', repeat('x', 500));
SET ROLE esim_test_alice;
SELECT pg_temp.ask('GET', '/esim-profile-management/vwip/operations/' || :'id') -> 'body' AS body \gset
SELECT is(:'body'::jsonb #>> '{result,outcome}', 'FAILED', 'r1.2 operation that failed');
SELECT is(length(:'body'::jsonb #>> '{result,failureReason}'), 256, 'failureReason is bounded');
SELECT is(pg_temp.ask('GET', '/esim/vwip/esim/operations/' || :'id') #>> '{body,status}', 'failed', '2026-02 operation that failed');
RESET ROLE;
SELECT pg_temp.end_with('CANCELLED', 'CANCELLED', NULL);
SET ROLE esim_test_alice;
SELECT is(pg_temp.ask('GET', '/esim-profile-management/vwip/operations/' || :'id') #> '{body,result}',
	'{"completedAt": "2024-01-15T10:30:00.000Z", "outcome": "FAILED", "failureReason": "cancelled"}', 'r1.2 has no cancelled outcome');
RESET ROLE;
UPDATE esim_operation SET kind = 'refresh';
SET ROLE esim_test_alice;
SELECT is(pg_temp.code(pg_temp.ask('GET', '/esim-profile-management/vwip/operations/' || :'id')), '404 NOT_FOUND', 'an operation of another kind is none of the API''s');
RESET ROLE;
UPDATE esim_operation SET kind = 'download';
SET ROLE esim_test_bob;
SELECT is(pg_temp.code(pg_temp.ask('GET', p || :'id')), '404 NOT_FOUND', 'somebody else''s operation') FROM unnest('{/esim-profile-management/vwip/operations/,/esim/vwip/esim/operations/}'::text[]) p;
SET ROLE esim_test_alice;
SELECT is(pg_temp.code(pg_temp.ask('GET', p || '550e8400-e29b-41d4-a716-446655440000')), '404 NOT_FOUND', 'an unknown operation') FROM unnest('{/esim-profile-management/vwip/operations/,/esim/vwip/esim/operations/}'::text[]) p;
SELECT is(pg_temp.code(pg_temp.ask('GET', '/esim-profile-management/vwip/operations/any-id_1:2.3')), '404 NOT_FOUND', 'r1.2: an identifier need not be a UUID');
SELECT is(pg_temp.code(pg_temp.ask('GET', '/esim/vwip/esim/operations/any-id_1:2.3')), '400 INVALID_ARGUMENT', '2026-02: it must be');
SELECT is(pg_temp.code(pg_temp.ask('GET', '/esim/vwip/esim/operations/{550e8400-e29b-41d4-a716-446655440000}')), '400 INVALID_ARGUMENT', 'not in braces');
SELECT is(pg_temp.code(pg_temp.ask('GET', '/esim-profile-management/vwip/operations/' || i)), '400 INVALID_ARGUMENT', 'no identifier: ' || left(i, 20))
FROM unnest(ARRAY['a%20b', 'a b', 'ü', repeat('a', 65), '''; DROP TABLE x', repeat('a', 100000)]) i;
SELECT is(pg_temp.code(pg_temp.ask('GET', '/esim-profile-management/vwip/operations/' || repeat('a', 64))), '404 NOT_FOUND', '64 characters are an identifier');

--
-- 401
--
SELECT is(pg_temp.code(pg_temp.ask('POST', '/esim-profile-management/vwip/enable', '{}', h)), '401 UNAUTHENTICATED', '401: ' || coalesce(h::text, 'NULL'))
FROM unnest(ARRAY[NULL, '{}', '[]', '"Authorization"', '{"Authorization": ""}', '{"Authorization": "Basic dTpw"}', '{"Authorization": "Bearer"}', '{"Authorization": "Bearer "}',
	'{"Authorization": "Bearer a b"}', '{"Authorization": "Bearer a\u0001"}', '{"Authorization": "Bearer =a"}', '{"Authorization": null}', '{"Authorization": 1}', '{"Authorization": {"a": "Bearer x"}}',
	'{"Authorization": ["Bearer x", "Bearer y"]}', '{"Authorization": [["Bearer x"]]}', '{"Authorization": "Bearer x", "authorization": "Bearer x"}', '{"Authorizations": "Bearer x"}', '{"x": {"Authorization": "Bearer x"}}']::jsonb[]) h;
SELECT is(pg_temp.ask('POST', '/esim/vwip/esim/enable', '{}', '{}') #>> '{headers,WWW-Authenticate}', 'Bearer', '401 says how');
SELECT is(pg_temp.ask('POST', '/esim/vwip/esim/enable', '{}', '{}') -> 'body',
	'{"status": 401, "code": "UNAUTHENTICATED", "message": "Request not authenticated: a bearer token is required."}', '401 has an ErrorInfo');
SELECT isnt(pg_temp.ask('POST', '/esim-profile-management/vwip/enable', '{}', h) ->> 'status', '401', 'a bearer token: ' || h::text)
FROM unnest(ARRAY['{"AUTHORIZATION": "bearer x"}', '{"authorization": [" Bearer  a-._~+/1== "]}']::jsonb[]) h;

--
-- 404, 405
--
SELECT is(pg_temp.code(pg_temp.ask('POST', p, '{}')), '404 NOT_FOUND', 'no such path: ' || coalesce(p, 'NULL'))
FROM unnest(ARRAY[NULL, '', '/', 'x', '/esim', '/esim/vwip', '/esim/vwip/', '/esim/vwip/esim', '/esim/vwip/esim/', '/esim/vwip/download', '/esim/v1/esim/download', '/esim/vwip/esim/enable/', '/esim/vwip/esim//enable',
	'/esim/vwip/esim/refresh', '/ESIM/vwip/esim/enable', '/esim-profile-management/vwip', '/esim-profile-management/vwip/esim/enable', '/esim-profile-management/vwip/enabled', '/esim-profile-management/vwip/enabl',
	'/esim-profile-management/vwip/operations', '/esim-profile-management/vwip/operations/', '/esim-profile-management/vwip/operations/a/b', '/esim-profile-management/vwip/../vwip/enable', 'https://host/esim/vwip/esim/enable']) p;
SELECT is(pg_temp.code(pg_temp.ask(m, p)), '405 METHOD_NOT_ALLOWED', format('no %s of %s', coalesce(m, 'NULL'), p))
FROM unnest('{GET, PUT, DELETE, PATCH, HEAD, OPTIONS, "", NULL}'::text[]) m, unnest('{/esim/vwip/esim/enable, /esim-profile-management/vwip/retrieve-status}'::text[]) p;
SELECT is(pg_temp.ask('GET', '/esim/vwip/esim/enable') #>> '{headers,Allow}', 'POST', '405 says what is allowed');
SELECT is(pg_temp.ask('POST', '/esim/vwip/esim/operations/550e8400-e29b-41d4-a716-446655440000') #>> '{headers,Allow}', 'GET', 'also for operations');
SELECT is(pg_temp.code(pg_temp.ask('post', '/esim-profile-management/vwip/retrieve-status?x=1', '{"esimProfile": {"eid": "89049032000000000000000000000001"}}')), '200', 'a method in lower case, a query');

--
-- x-correlator
--
CREATE FUNCTION pg_temp.correlate(path text, correlator jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT pg_temp.ask('GET', path || '550e8400-e29b-41d4-a716-446655440000', NULL, jsonb_build_object('authorization', 'Bearer x', 'X-Correlator', correlator))
$$;
\set new '/esim-profile-management/vwip/operations/'
\set old '/esim/vwip/esim/operations/'
SELECT is(pg_temp.correlate(:'new', '"b4333c46-49c0-4f62-80d7-f0ef930f1c46"') #>> '{headers,x-correlator}', 'b4333c46-49c0-4f62-80d7-f0ef930f1c46', 'x-correlator is echoed');
SELECT is(pg_temp.correlate(:'new', '["azAZ09-_:;./<>{}"]') #>> '{headers,x-correlator}', 'azAZ09-_:;./<>{}', 'all its characters');
SELECT is(pg_temp.correlate(:'new', to_jsonb(repeat('c', 256))) #>> '{headers,x-correlator}', repeat('c', 256), 'all its length');
SELECT is(pg_temp.correlate(:'old', '"a\\b"') #>> '{headers,x-correlator}', 'a\b', '2026-02 has the backslash');
SELECT is(pg_temp.ask('POST', '/esim/vwip/esim/enable', '{}', '{"x-correlator": "given"}') #>> '{headers,x-correlator}', 'given', 'errors echo it');
SELECT is(pg_temp.ask('POST', '/nowhere', '{}', '{"x-correlator": "given", "authorization": "Bearer x"}') #>> '{headers,x-correlator}', 'given', 'all errors');
SELECT concat_ws(E'\n', is(pg_temp.code(a), '400 INVALID_ARGUMENT', 'no x-correlator: ' || left(c::text, 20)), ok((a #>> '{headers,x-correlator}')::uuid IS NOT NULL, 'a new one is made'))
FROM unnest(ARRAY['"a b"', '"a,b"', '"a\\b"', '"ü"', '"a\u000d\u000ab"', '["a", "b"]', '7', to_jsonb(repeat('c', 257))]::jsonb[]) c, pg_temp.correlate(:'new', c) a;
SELECT ok((pg_temp.correlate(:'new', '""') #>> '{headers,x-correlator}')::uuid IS NOT NULL, 'an empty one is none');
SELECT isnt(pg_temp.correlate(:'new', NULL) #>> '{headers,x-correlator}', pg_temp.correlate(:'new', NULL) #>> '{headers,x-correlator}', 'each answer has its own');
SELECT pg_temp.ask('POST', '/esim-profile-management/vwip/download', '{"esimProfile": {"eid": "89049032000000000000000000000002"}, "activationCode": "1$smdp.example$X"}',
	'{"authorization": "Bearer x", "x-correlator": "mine"}') #>> '{body,operationId}' AS id \gset
RESET ROLE;
SELECT is((SELECT correlator FROM esim_operation WHERE id = :'id'), 'mine', 'the operation has it');
SET ROLE esim_test_alice;

--
-- 400, 406, 415: content types and body
--
SELECT is(pg_temp.code(pg_temp.ask('POST', '/esim-profile-management/vwip/retrieve-status', '{"esimProfile": {"eid": "89049032000000000000000000000001"}}',
	jsonb_build_object('authorization', 'Bearer x', 'content-type', t))), e, 'Content-Type ' || coalesce(t::text, 'NULL'))
FROM (VALUES ('"application/json"'::jsonb, '200'), ('"Application/JSON; charset=utf-8"', '200'), ('["application/json ;charset=UTF-8"]', '200'), (NULL, '200'),
	('"text/plain"', '415 UNSUPPORTED_MEDIA_TYPE'), ('"application/jsonx"', '415 UNSUPPORTED_MEDIA_TYPE'), ('"application/x-www-form-urlencoded"', '415 UNSUPPORTED_MEDIA_TYPE'), ('""', '415 UNSUPPORTED_MEDIA_TYPE'), ('1', '415 UNSUPPORTED_MEDIA_TYPE'),
	('["application/json", "text/plain"]', '415 UNSUPPORTED_MEDIA_TYPE')) v (t, e);
SELECT is(pg_temp.code(pg_temp.ask('POST', '/esim/vwip/esim/retrieve-status', '{"esim": {"eid": "89049032000000000000000000000001"}}',
	'{"authorization": "Bearer x", "content-type": "text/plain"}')), '400 INVALID_ARGUMENT', '2026-02 has no 415');
SELECT is(pg_temp.code(pg_temp.ask('POST', '/esim-profile-management/vwip/retrieve-status', '{"esimProfile": {"eid": "89049032000000000000000000000001"}}',
	jsonb_build_object('authorization', 'Bearer x', 'accept', t))), e, 'Accept ' || coalesce(t::text, 'NULL'))
FROM (VALUES (NULL, '200'), ('"application/json"'::jsonb, '200'), ('"*/*"', '200'), ('"Application/*"', '200'), ('""', '200'), ('"text/html, application/json;q=0.5"', '200'), ('"text/html;level=1;q=1, */*; q=0.01"', '200'),
	('["text/html", "application/json"]', '200'), ('"application/json;q=0, application/json"', '406 NOT_ACCEPTABLE'), ('"text/html"', '406 NOT_ACCEPTABLE'), ('"application/xml, text/*"', '406 NOT_ACCEPTABLE'),
	('"application/json;q=0"', '406 NOT_ACCEPTABLE'), ('"*/*, application/json; Q=0.000"', '406 NOT_ACCEPTABLE'), ('"application/jsonx"', '406 NOT_ACCEPTABLE'), ('["text/html", "image/png"]', '406 NOT_ACCEPTABLE')) v (t, e);
SELECT is(pg_temp.code(pg_temp.ask('GET', '/esim-profile-management/vwip/operations/550e8400-e29b-41d4-a716-446655440000', NULL, '{"authorization": "Bearer x", "accept": "text/html"}')), '406 NOT_ACCEPTABLE', 'also where there is no body');
SELECT is(pg_temp.code(pg_temp.ask('GET', '/esim/vwip/esim/operations/550e8400-e29b-41d4-a716-446655440000', NULL, '{"authorization": "Bearer x", "accept": "text/html"}')), '404 NOT_FOUND', '2026-02 has no 406');

SELECT is(pg_temp.code(pg_temp.new('enable', b)), '400 INVALID_ARGUMENT', 'r1.2 enable: ' || coalesce(left(b, 60), 'NULL'))
FROM unnest(ARRAY[NULL, '', ' ', 'null', '[]', '1', '"x"', '{', '{}', '{"esimProfile": null}', '{"esimProfile": []}', '{"esimProfile": "x"}', '{"esimProfile": {}}',
	'{"esimProfile": {"eid": "89049032000000000000000000000001"}}', '{"esimProfile": {"iccid": 8901260123456789012}}', '{"esimProfile": {"iccid": null}}', '{"esimProfile": {"iccid": ""}}',
	'{"esimProfile": {"iccid": "890126012345678901"}}', '{"esimProfile": {"iccid": "890126012345678901234"}}', '{"esimProfile": {"iccid": "890126012345678901A"}}', '{"esimProfile": {"iccid": " 8901260123456789012"}}',
	'{"esimProfile": {"iccid": "8901260123456789012F"}}', '{"esimProfile": {"iccid": "8801260123456789012"}}', '{"esimProfile": {"iccid": "8901260123456789012\n"}}', '{"esimProfile": {"iccid": "8901260123456789012\u0000"}}',
	'{"esimProfile": {"iccid": "8901260123456789012", "eid": "1"}}', '{"esimProfile": {"iccid": "8901260123456789012", "eid": "8904903200000000000000000000000A"}}',
	'{"esimProfile": {"iccid": "8901260123456789012", "eid": 1}}', '{"esimProfile": {"iccid": "8901260123456789012", "x": 1}}', '{"esimProfile": {"iccid": "8901260123456789012"}, "sink": "https://x.example/"}',
	'{"esimProfile": {"iccid": "8901260123456789012"}, "": 1}', '{"esimProfile": {"iccid": "8901260123456789012"}, "esim": {}}', '{"esimProfile": {"iccid": "8901260123456789012", "iccid": "8901260123456789012"}}',
	'{"esimProfile": {"iccid": "8901260123456789013"}, "esimProfile": {"iccid": "8901260123456789012"}}', '{"esimProfile": {"iccid": "8901260123456789012"}} x', '{"esimProfile": {"iccid": "8901260123456789012"},}',
	'{"EsimProfile": {"iccid": "8901260123456789012"}}', '{"esimProfile": {"ICCID": "8901260123456789012"}}', repeat('[', 60000), repeat('{"a":', 10000), '{"esimProfile": {"iccid": "8901260123456789012"}' || repeat(' ', 65536) || '}',
	'{"esimProfile": {"iccid": "8901260123456789012"}, "' || repeat('ü', 200) || '": 1}', '{"esimProfile": {"iccid": "8901260123456789012"}, "x": 1e999999}']) b;
SELECT is(pg_temp.code(pg_temp.new('download', b)), '400 INVALID_ARGUMENT', 'r1.2 download: ' || left(b, 90))
FROM unnest(ARRAY['{"esimProfile": {"eid": "89049032000000000000000000000001"}}', '{"activationCode": "1$smdp.example$X"}', '{"esimProfile": {"iccid": "8901260123456789012"}, "activationCode": "1$smdp.example$X"}',
	'{"esimProfile": {"eid": "89049032000000000000000000000001"}, "activationCode": 1}', '{"esimProfile": {"eid": "89049032000000000000000000000001"}, "activationCode": ""}',
	'{"esimProfile": {"eid": "89049032000000000000000000000001"}, "activationCode": "QR"}', '{"esimProfile": {"eid": "89049032000000000000000000000001"}, "activationCode": "1$smdp.example$\u00fc"}',
	'{"esimProfile": {"eid": "89049032000000000000000000000001"}, "activationCode": "1$smdp.example$' || repeat('X', 300) || '"}',
	'{"esimProfile": {"eid": "89049032000000000000000000000001"}, "activationCode": "1$smdp.example$X", "activateOnDownload": true}']) b;
SELECT is(pg_temp.code(pg_temp.new('retrieve-status', b)), '400 INVALID_ARGUMENT', 'r1.2 status: ' || b)
FROM unnest('{"{\"esimProfile\": {}}","{\"esimProfile\": {\"eid\": \"1\"}}","{}"}'::text[]) b;
SELECT is(pg_temp.code(pg_temp.old('enable', b)), '400 INVALID_ARGUMENT', '2026-02 enable: ' || b)
FROM unnest(ARRAY['{"esim": {"iccid": "8901260123456789012"}}', '{"sink": "https://x.example/"}', '{"esimProfile": {"iccid": "8901260123456789012"}, "sink": "https://x.example/"}',
	'{"esim": {"iccid": "8901260123456789012"}, "sink": 1}', '{"esim": {"iccid": "8901260123456789012"}, "sink": "x"}', '{"esim": {"iccid": "8901260123456789012"}, "sink": "https://x.example/ y"}',
	'{"esim": {"iccid": "8901260123456789012"}, "sink": "http://x.example/"}', '{"esim": {"iccid": "8901260123456789012"}, "sink": "https://u:p@x.example/"}', '{"esim": {"iccid": "8901260123456789012"}, "sink": "https://x.example/%zz"}',
	'{"esim": {"iccid": "8901260123456789012"}, "sink": "https://x.example/\r\nX: y"}', '{"esim": {"iccid": "8901260123456789012"}, "sink": "ftp://x.example/"}', '{"esim": {"iccid": "8901260123456789012"}, "sink": "https://x.example/", "correlationId": 1}',
	'{"esim": {"iccid": "8901260123456789012"}, "sink": "https://x.example/", "sinkCredential": "x"}', '{"esim": {"iccid": "8901260123456789012"}, "sink": "https://x.example/", "sinkCredential": {}}',
	'{"esim": {"iccid": "8901260123456789012"}, "sink": "https://x.example/", "sinkCredential": {"credentialType": "PLAIN"}}', '{"esim": {"iccid": "8901260123456789012"}, "sink": "https://x.example/", "sinkCredential": {"credentialType": "ACCESSTOKEN", "accessToken": 1}}',
	'{"esim": {"iccid": "8901260123456789012"}, "sink": "https://x.example/", "sinkCredential": {"credentialType": "ACCESSTOKEN", "accessTokenType": "Bearer"}}',
	'{"esim": {"iccid": "8901260123456789012"}, "sink": "https://x.example/", "sinkCredential": {"credentialType": "ACCESSTOKEN", "accessTokenExpireUtc": "2027-02-29T00:00:00Z"}}',
	'{"esim": {"iccid": "8901260123456789012"}, "sink": "https://x.example/", "sinkCredential": {"credentialType": "ACCESSTOKEN", "accessTokenExpireUtc": "2027-02-28T00:00:00"}}',
	'{"esim": {"iccid": "8901260123456789012"}, "sink": "https://x.example/", "sinkCredential": {"credentialType": "ACCESSTOKEN", "accessTokenExpireUtc": "2027-02-28"}}']) b;
SELECT is(pg_temp.code(pg_temp.old('download', b)), '400 INVALID_ARGUMENT', '2026-02 download: ' || b)
FROM unnest(ARRAY['{"esim": {"eid": "89049032000000000000000000000001"}, "activationCode": "1$smdp.example$X", "sink": "https://x.example/"}',
	'{"esim": {"iccid": "8901260123456789015"}, "activationCode": "1$smdp.example$X", "sink": "https://x.example/"}', '{"esim": {"eid": "89049032000000000000000000000001", "iccid": "8901260123456789015"}, "sink": "https://x.example/"}',
	'{"esim": {"eid": "89049032000000000000000000000001", "iccid": "8901260123456789015"}, "activationCode": "1$smdp.example$X"}',
	'{"esim": {"eid": "89049032000000000000000000000001", "iccid": "8901260123456789015"}, "activationCode": "1$smdp.example$X", "sink": "https://x.example/", "activateOnDownload": "true"}']) b;
SELECT is(pg_temp.code(pg_temp.old('retrieve-status', '{"esim": {"eid": "89049032000000000000000000000001", "more": 1}, "more": {"a": [1]}}')), '200', '2026-02 passes over what is not declared');
SELECT is(pg_temp.new('enable', '{"esimProfile": {"iccid": "8901260123456789012", "more": 1}}') #>> '{body,message}', 'esimProfile.more is not declared.', 'the message says what is wrong');
SET esim.check_digits = on;
SELECT is(pg_temp.code(pg_temp.new('retrieve-status', b)), '400 INVALID_ARGUMENT', 'check digits are checked where the session checks them')
FROM unnest('{"{\"esimProfile\": {\"eid\": \"89049032000000000000000000000001\"}}","{\"esimProfile\": {\"iccid\": \"8901260123456789012\"}}"}'::text[]) b;
SELECT matches(pg_temp.new('retrieve-status', '{"esimProfile": {"eid": "89049032000000000000000000000001"}}') #>> '{body,message}', '^esimProfile\.eid is not valid\. .*check digits', 'and the message says so');
SET esim.check_digits = off;

--
-- 403
--
RESET ROLE;
SELECT pg_temp.reset('ENABLED', 'DISABLED');
CREATE FUNCTION pg_temp.reach() RETURNS TABLE (dialect text, endpoint text) LANGUAGE plpgsql AS $$
DECLARE
	answer jsonb;
BEGIN
	FOR dialect, endpoint IN
		SELECT d, e FROM unnest('{r1.2, 2026-02}'::text[]) d,
			unnest('{download, enable, disable, delete, set-fallback, retrieve-status, operations}'::text[]) WITH ORDINALITY AS e (e, n) ORDER BY d DESC, n
	LOOP
		answer := pg_temp.ask(CASE endpoint WHEN 'operations' THEN 'GET' ELSE 'POST' END,
			CASE dialect WHEN 'r1.2' THEN '/esim-profile-management/vwip/' ELSE '/esim/vwip/esim/' END || endpoint || CASE endpoint WHEN 'operations' THEN '/550e8400-e29b-41d4-a716-446655440000' ELSE '' END, '{}');
		IF pg_temp.code(answer) <> '403 PERMISSION_DENIED' THEN
			RETURN NEXT;
		END IF;
	END LOOP;
END
$$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pg_temp TO PUBLIC;
CREATE FUNCTION pg_temp.reach_with(scope text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	reached text;
BEGIN
	PERFORM esim.esim_grant('esim_test_narrow', scope);
	SET LOCAL ROLE esim_test_narrow;
	SELECT string_agg(r.dialect || ' ' || r.endpoint, ', ') INTO reached FROM pg_temp.reach() r;
	RESET ROLE;
	PERFORM esim.esim_revoke('esim_test_narrow', scope);
	RETURN reached;
END
$$;
SELECT is(pg_temp.reach_with(s), r, 'scope ' || s)
FROM (VALUES ('download', 'r1.2 download, 2026-02 download'), ('enable', 'r1.2 enable, 2026-02 enable, 2026-02 set-fallback'), ('disable', 'r1.2 disable, 2026-02 disable'),
	('delete', 'r1.2 delete, 2026-02 delete'), ('set-fallback', 'r1.2 set-fallback'), ('retrieve-status', 'r1.2 retrieve-status, 2026-02 retrieve-status, 2026-02 operations'),
	('retrieve-operation', 'r1.2 operations, 2026-02 retrieve-status, 2026-02 operations')) v (s, r);
SET ROLE esim_test_narrow;
SELECT throws_ok($$SELECT esim_camara('GET', '/', '{}', NULL)$$, '42501', NULL, 'without any scope it cannot be called');
RESET ROLE;

-- who may download only sees what became of his call, and no more
SELECT esim_grant('esim_test_narrow', 'download', 'enable');
UPDATE esim_device SET owner = 'esim_test_narrow', owner_name = 'esim_test_narrow' WHERE eid = :'eid_2';
SET ROLE esim_test_narrow;
SELECT pg_temp.old('download', '{"esim": {"eid": "89049032000000000000000000000002", "iccid": "8901260123456789015"}, "activationCode": "1$smdp.example$X", "activateOnDownload": false, "sink": "https://x.example/"}') AS answer \gset
SELECT is(pg_temp.code(:'answer'), '202', 'the scope to download is enough to download');
SELECT is(:'answer'::jsonb #>> '{body,esim,iccid}', '8901260123456789015', 'and to see the answer');
SELECT is(pg_temp.code(pg_temp.ask('GET', '/esim/vwip/esim/operations/' || (:'answer'::jsonb #>> '{body,operationId}'))), '403 PERMISSION_DENIED', 'not to read the operation');
SELECT is(pg_temp.code(pg_temp.old('set-fallback', '{"esim": {"iccid": "8901260123456789015"}, "sink": "https://x.example/"}')), '202', '2026-02: the fallback is set with the scope enable');
SELECT throws_ok($$SELECT esim_set_fallback(iccid => '8901260123456789015')$$, '42501', NULL, 'not in SQL');
RESET ROLE;
SELECT esim_revoke('esim_test_narrow', 'download', 'enable');
SELECT esim_grant('esim_test_narrow', 'retrieve-operation');
SET ROLE esim_test_narrow;
SELECT is(pg_temp.code(pg_temp.old('retrieve-status', '{"esim": {"eid": "89049032000000000000000000000002"}}')), '200', '2026-02: either scope to read is enough');
SELECT is(pg_temp.code(pg_temp.ask('GET', '/esim/vwip/esim/operations/' || (:'answer'::jsonb #>> '{body,operationId}'))), '200', 'for both requests');
SELECT throws_ok($$SELECT * FROM esim_status('89049032000000000000000000000002')$$, '42501', NULL, 'not in SQL');
RESET ROLE;
SELECT esim_revoke('esim_test_narrow', 'retrieve-operation');
SELECT esim_grant('esim_test_narrow', 'retrieve-status');
SET ROLE esim_test_narrow;
SELECT is(pg_temp.code(pg_temp.ask('GET', '/esim/vwip/esim/operations/' || (:'answer'::jsonb #>> '{body,operationId}'))), '200', 'and the other way round');
SELECT is(pg_temp.code(pg_temp.ask('GET', '/esim-profile-management/vwip/operations/' || (:'answer'::jsonb #>> '{body,operationId}'))), '403 PERMISSION_DENIED', 'r1.2 has one for each');
RESET ROLE;
UPDATE esim_device SET owner = 'esim_test_alice', owner_name = 'esim_test_alice' WHERE eid = :'eid_2';

-- a server that the role may not use
SELECT pg_temp.reset('ENABLED', 'DISABLED');
UPDATE esim_device SET server = NULL WHERE eid = :'eid_2';
SET esim.default_server = 'esim_test_one';
SET ROLE esim_test_alice;
SELECT is(pg_temp.new('download', '{"esimProfile": {"eid": "89049032000000000000000000000002"}, "activationCode": "1$smdp.example$X"}') -> 'body',
	'{"status": 403, "code": "PERMISSION_DENIED", "message": "Client does not have sufficient permissions to perform this action."}', '403 names no server');
RESET ROLE;
RESET esim.default_server;

--
-- 404, 409, 422 of the functions
--
SET ROLE esim_test_alice;
SELECT concat_ws(E'\n', is(pg_temp.code(pg_temp.new(e, format('{"esimProfile": {"iccid": "%s"}}', i))), '404 IDENTIFIER_NOT_FOUND', format('r1.2 %s of %s', e, i)),
	is(pg_temp.code(pg_temp.old(e, format('{"esim": {"iccid": "%s"}, "sink": "https://x.example/"}', i))), CASE e WHEN 'retrieve-status' THEN '404 IDENTIFIER_NOT_FOUND' ELSE '422 SERVICE_NOT_APPLICABLE' END, format('2026-02 %s of %s', e, i)))
FROM unnest('{enable, disable, delete, set-fallback, retrieve-status}'::text[]) e, unnest('{8901260123456789014, 8901260123456789999}'::text[]) i;
SELECT concat_ws(E'\n', is(pg_temp.code(pg_temp.new('download', format('{"esimProfile": {"eid": "%s"}, "activationCode": "1$smdp.example$X"}', d))), '404 IDENTIFIER_NOT_FOUND', 'r1.2 download to ' || d),
	is(pg_temp.code(pg_temp.old('download', format('{"esim": {"eid": "%s", "iccid": "8901260123456789015"}, "activationCode": "1$smdp.example$X", "sink": "https://x.example/"}', d))), '422 SERVICE_NOT_APPLICABLE', '2026-02 download to ' || d),
	is(pg_temp.code(pg_temp.new('retrieve-status', format('{"esimProfile": {"eid": "%s"}}', d))), '404 IDENTIFIER_NOT_FOUND', 'r1.2 status of ' || d),
	is(pg_temp.code(pg_temp.old('retrieve-status', format('{"esim": {"eid": "%s"}}', d))), '404 IDENTIFIER_NOT_FOUND', '2026-02 status of ' || d))
FROM unnest('{89049032000000000000000000000003, 89049032000000000000000000000099}'::text[]) d;
SELECT is(replace(pg_temp.new('enable', '{"esimProfile": {"iccid": "8901260123456789014"}}') #>> '{body,message}', '...9014', 'X'),
	replace(pg_temp.new('enable', '{"esimProfile": {"iccid": "8901260123456789999"}}') #>> '{body,message}', '...9999', 'X'), 'unknown and somebody else''s cannot be told apart');
SELECT is(pg_temp.new('enable', '{"esimProfile": {"iccid": "8901260123456789999"}}') #>> '{body,message}',
	'Profile "...9999" is not known. There is no profile of yours with this identifier.', 'the message names no table');

SELECT is(pg_temp.new('enable', '{"esimProfile": {"iccid": "8901260123456789012"}}') -> 'body',
	'{"status": 409, "code": "INCOMPATIBLE_STATE", "message": "Cannot enable profile \"...9012\" in state ENABLED. Its state is ENABLED."}', 'r1.2 enable of an enabled one');
SELECT is(pg_temp.code(pg_temp.old('enable', '{"esim": {"iccid": "8901260123456789012"}, "sink": "https://x.example/"}')), '422 SERVICE_NOT_APPLICABLE', '2026-02 enable of an enabled one');
SELECT is(pg_temp.code(pg_temp.new('disable', '{"esimProfile": {"iccid": "8901260123456789013"}}')), '409 INCOMPATIBLE_STATE', 'r1.2 disable of a disabled one');
SELECT is(pg_temp.code(pg_temp.new('set-fallback', '{"esimProfile": {"iccid": "8901260123456789012"}}')), '409 INCOMPATIBLE_STATE', 'r1.2 set-fallback of an enabled one');
SELECT is(pg_temp.code(pg_temp.old('download', '{"esim": {"eid": "89049032000000000000000000000001", "iccid": "8901260123456789012"}, "activationCode": "1$smdp.example$X", "sink": "https://x.example/"}')),
	'422 SERVICE_NOT_APPLICABLE', '2026-02 download of one that is there');
SELECT is(pg_temp.code(pg_temp.new('download', '{"esimProfile": {"eid": "89049032000000000000000000000001", "iccid": "8901260123456789012"}, "activationCode": "1$smdp.example$X"}')),
	'422 SERVICE_NOT_APPLICABLE', 'r1.2 has no 409 for download');
SELECT is(pg_temp.code(pg_temp.new('delete', '{"esimProfile": {"iccid": "8901260123456789012"}}')), '202', 'r1.2 delete of an enabled one: disabled first');
SELECT is(pg_temp.code(pg_temp.new('delete', '{"esimProfile": {"iccid": "8901260123456789012"}}')), '409 INCOMPATIBLE_STATE', 'but not twice');

SELECT concat_ws(E'\n', is(pg_temp.code(pg_temp.new(e, '{"esimProfile": {"eid": "89049032000000000000000000000002", "iccid": "8901260123456789013"}}')), '422 IDENTIFIER_MISMATCH', 'r1.2 mismatch: ' || e),
	is(pg_temp.code(pg_temp.old(e, '{"esim": {"eid": "89049032000000000000000000000002", "iccid": "8901260123456789013"}, "sink": "https://x.example/"}')),
	CASE e WHEN 'retrieve-status' THEN '404 IDENTIFIER_NOT_FOUND' ELSE '422 SERVICE_NOT_APPLICABLE' END, '2026-02 mismatch: ' || e))
FROM unnest('{enable, disable, delete, set-fallback, retrieve-status}'::text[]) e;

-- a server that cannot do it
SELECT is(pg_temp.new('download', '{"esimProfile": {"eid": "89049032000000000000000000000004"}, "activationCode": "1$smdp.example$X"}') #>> '{body,code}', 'SERVICE_NOT_APPLICABLE', 'a download by a server that has none')
WHERE EXISTS (SELECT FROM esim_capabilities('esim_test_super') c WHERE c.kind = 'download' AND NOT c.supported);
RESET ROLE;
ALTER SERVER esim_test_one OPTIONS (ADD dialect '2026-02');
SET ROLE esim_test_alice;
SELECT is(pg_temp.new('download', '{"esimProfile": {"eid": "89049032000000000000000000000001"}, "activationCode": "1$smdp.example$X"}') -> 'body',
	'{"status": 422, "code": "SERVICE_NOT_APPLICABLE", "message": "The service is not available for the provided identifier."}', 'r1.2 download where the RSP wants an ICCID');
RESET ROLE;
ALTER SERVER esim_test_one OPTIONS (DROP dialect);

--
-- 503, 500
--
DELETE FROM esim_pending;
UPDATE esim_device SET server = 'esim_test_gone' WHERE eid = :'eid_2';
SET ROLE esim_test_alice;
SELECT is(a - 'headers', '{"status": 503, "body": {"status": 503, "code": "UNAVAILABLE", "message": "Service unavailable."}}', 'no server')
FROM pg_temp.new('download', '{"esimProfile": {"eid": "89049032000000000000000000000002"}, "activationCode": "1$smdp.example$X"}') a;
RESET ROLE;

-- what nobody expects: no word of it goes out, nothing is left of it
CREATE FUNCTION pg_temp.fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'secret %', TG_ARGV[0] USING ERRCODE = TG_ARGV[0], DETAIL = 'INCOMPATIBLE_STATE: secret';
END
$$;
CREATE FUNCTION pg_temp.with_error(state text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	answer jsonb;
BEGIN
	EXECUTE format('CREATE TRIGGER esim_test_fail BEFORE INSERT ON esim.esim_operation FOR EACH ROW EXECUTE FUNCTION pg_temp.fail(%L)', state);
	answer := pg_temp.new('disable', '{"esimProfile": {"iccid": "8901260123456789012"}}') || jsonb_build_object('old', pg_temp.old('disable', '{"esim": {"iccid": "8901260123456789012"}, "sink": "https://x.example/"}'));
	DROP TRIGGER esim_test_fail ON esim.esim_operation;
	RETURN answer;
END
$$;
SELECT pg_temp.reset('ENABLED', 'DISABLED');
SELECT concat_ws(E'\n', is(pg_temp.code(a), c, 'r1.2: an error ' || s), is(pg_temp.code(a -> 'old'), o, '2026-02: an error ' || s), unalike(a::text, '%secret%', 'no word of it goes out'))
FROM (VALUES ('XX000', '500 INTERNAL', '500 INTERNAL'), ('23505', '500 INTERNAL', '500 INTERNAL'), ('P0001', '500 INTERNAL', '500 INTERNAL'), ('55P03', '409 ABORTED', '503 UNAVAILABLE'), ('40001', '409 ABORTED', '503 UNAVAILABLE'),
	('40P01', '409 ABORTED', '503 UNAVAILABLE'), ('53200', '503 UNAVAILABLE', '503 UNAVAILABLE'), ('25006', '503 UNAVAILABLE', '503 UNAVAILABLE'), ('42501', '403 PERMISSION_DENIED', '403 PERMISSION_DENIED'),
	('22003', '400 INVALID_ARGUMENT', '400 INVALID_ARGUMENT')) v (s, c, o), pg_temp.with_error(s) a;
SELECT is((SELECT count(*) FROM esim_operation), 0::bigint, 'and nothing is left of it');
CREATE FUNCTION pg_temp.cancelled() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_temp.with_error('57014');
	RETURN false;
EXCEPTION WHEN query_canceled THEN
	RETURN true;
END
$$;
SELECT ok(pg_temp.cancelled(), 'cancellation is no answer');

--
-- what CAMARA cannot say is left out
--
SELECT pg_temp.reset('INSTALLED', 'DOWNLOADED');
INSERT INTO esim_profile (iccid, eid, owner, state) VALUES (:'iccid_18', :'eid', 'esim_test_alice', 'DISABLED');
INSERT INTO esim_profile (iccid, eid, owner, state, msisdn) VALUES (:'iccid_new', :'eid', 'esim_test_alice', 'ENABLED', '0123');
SET ROLE esim_test_alice;
SELECT is(pg_temp.old('retrieve-status', '{"esim": {"eid": "89049032000000000000000000000001"}}') -> 'body',
	'{"esims": [{"eid": "89049032000000000000000000000001", "iccid": "8901260123456789015", "state": "enabled", "isFallback": false}]}',
	'states, ICCIDs and phone numbers that CAMARA cannot say are left out');
RESET ROLE;
INSERT INTO esim_profile (iccid, eid, owner, state, drift)
SELECT ('89012601234560' || lpad(i::text, 5, '0'))::iccid, :'eid', 'esim_test_alice', 'DISABLED', true FROM generate_series(1, 300) i;
SET ROLE esim_test_alice;
SELECT is(jsonb_array_length(pg_temp.new('retrieve-status', '{"esimProfile": {"eid": "89049032000000000000000000000001"}}') #> '{body,esimProfiles}'), 256, 'at most 256 profiles');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
