--
-- esim_download: codes, servers, profiles that are not known, ownership
--
\getenv inputdir PG_ABS_SRCDIR
\set setup :inputdir '/sql/operation.psql'
\set hint false
\set ECHO none
\i :setup
\set ECHO all

CREATE SERVER op_rsp FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'https://rsp.example.com');
CREATE SERVER op_other FOREIGN DATA WRAPPER esim_rsp
	OPTIONS (protocol 'camara', url 'https://other.example.com', dialect '2026-02', default_expiry '1 day');
INSERT INTO esim_device (eid, server) VALUES
	('89049032000000000000000000000201', 'op_rsp'), ('89049032000000000000000000000202', NULL);
INSERT INTO esim_device (eid, server, retired_at) VALUES ('89049032000000000000000000000203', 'op_rsp', now());

-- where the code comes from: the call, the row, the server
SELECT esim_download('89049032000000000000000000000201', '8944000000000000201');
BEGIN;
SELECT esim_download('89049032000000000000000000000201', '8944000000000000201', 'LPA:1$smdp.example.com$CALL') IS NOT NULL AS call;
INSERT INTO esim_profile (iccid, state, activation_code, smdp_address, matching_id)
VALUES ('8944000000000000202', 'RELEASED', '1$smdp.example.com$ROW', 'smdp.example.com', 'NOT-THIS'),
	('8944000000000000203', 'RELEASED', NULL, 'smdp.example.com', 'MATCHING'),
	('8944000000000000204', 'RESERVED', NULL, 'smdp.example.com', NULL);
SELECT esim_download('89049032000000000000000000000201', '8944000000000000202') IS NOT NULL AS "row",
	esim_download('89049032000000000000000000000201', '8944000000000000203') IS NOT NULL AS row_parts,
	esim_download('89049032000000000000000000000201', '8944000000000000204') IS NOT NULL AS row_address;
ALTER SERVER op_rsp OPTIONS (ADD smdp_address 'default.example.com');
SELECT esim_download('89049032000000000000000000000201', '8944000000000000205') IS NOT NULL AS server;
SELECT right(o.iccid::text, 3) AS iccid, o.activation_code, p.state, p.state_source, p.eid, p.owner = o.owner AS same_owner,
	o.owner_name = current_user AS owner_name, o.requested_by = current_user::regrole AS requested_by,
	o.expires_at - o.created_at BETWEEN '29 days 23 hours' AND '30 days 1 hour' AS default_expiry
FROM esim_operation o JOIN esim_profile p ON p.id = o.profile ORDER BY o.seq;
ROLLBACK;
ALTER SERVER op_rsp OPTIONS (ADD smdp_address 'default.example.com');

-- the ICCID may come later where the protocol lets it (r1.2), not in 2026-02
BEGIN;
SELECT esim_download('89049032000000000000000000000201') IS NOT NULL AS unknown_iccid,
	esim_download('89049032000000000000000000000201') IS NOT NULL AS another_one;
SELECT o.iccid, p.iccid, p.state, p.state_source FROM esim_operation o JOIN esim_profile p ON p.id = o.profile ORDER BY o.seq;
SELECT esim_enable(profile => profile) IS NOT NULL AS enable_by_row FROM esim_operation ORDER BY seq LIMIT 1;
ROLLBACK;
SELECT pg_temp.attempt($c$SELECT esim_download('89049032000000000000000000000201', server => 'op_other', activation_code => '1$smdp.example.com$X')$c$);

-- which server
SELECT pg_temp.attempt($c$SELECT esim_download('89049032000000000000000000000202', '8944000000000000201', '1$smdp.example.com$X')$c$, true);
SET esim.default_server = 'op_other';
BEGIN;
SELECT esim_download('89049032000000000000000000000202', '8944000000000000201', '1$smdp.example.com$X') IS NOT NULL AS default_server,
	esim_download('89049032000000000000000000000201', '8944000000000000202', '1$smdp.example.com$X') IS NOT NULL AS device,
	esim_download('89049032000000000000000000000201', '8944000000000000203', '1$smdp.example.com$X', server => 'op_other') IS NOT NULL AS named;
SELECT right(iccid::text, 3) AS iccid, server, expires_at < now() + '2 days' AS expiry_of_server FROM esim_operation ORDER BY seq;
ROLLBACK;
SET esim.default_server = 'nowhere';
SELECT pg_temp.attempt($c$SELECT esim_download('89049032000000000000000000000202', '8944000000000000201', '1$smdp.example.com$X')$c$, true);
RESET esim.default_server;
BEGIN;
DROP SERVER op_other;
SELECT esim_download('89049032000000000000000000000202', '8944000000000000201') IS NOT NULL AS only_one;
SELECT server FROM esim_operation;
ROLLBACK;

-- what is remembered in the operation
BEGIN;
SELECT esim_download('89049032000000000000000000000201', '8944000000000000201', '1$smdp.example.com$X', true,
	correlator => 'abc-1', sink => 'https://sink.example.com/x', sink_credential => '{"credentialType": "ACCESSTOKEN", "accessToken": "t"}',
	callback_url => 'https://call.example.com/', callback_method => 'POST', priority => 5::smallint,
	expires_at => now() + '2 hours', idempotency_key => 'key', options => '{"a": 1}') IS NOT NULL AS all_of_it;
SELECT kind, status, phase, activate_on_download, rollback, correlator, sink, callback_url, callback_method, priority,
	idempotency_key, options, expires_at - created_at <= '2 hours' AS expires FROM esim_operation;
SELECT state, priority, urgency, activate, claimed, kind, server, (lane & 1) = 1 AS odd FROM esim_pending;
SELECT confirmation_code, sink_credential FROM esim_operation_secret;
ROLLBACK;

-- owners
CREATE ROLE op_one NOLOGIN;
CREATE ROLE op_two NOLOGIN;
CREATE ROLE op_member NOLOGIN IN ROLE op_one;
INSERT INTO esim_device (eid, owner, server) VALUES
	('89049032000000000000000000000211', 'op_one', 'op_rsp'), ('89049032000000000000000000000212', 'op_two', 'op_rsp');
GRANT EXECUTE ON FUNCTION esim_download, esim_enable, esim_cancel TO op_one, op_two;
SET ROLE op_member;
SELECT esim_download('89049032000000000000000000000211', '8944000000000000221') IS NOT NULL AS ours;
SELECT pg_temp.attempt($c$SELECT esim_download('89049032000000000000000000000212', '8944000000000000221')$c$);
SELECT pg_temp.attempt($c$SELECT esim_download('89049032000000000000000000000299', '8944000000000000221')$c$);
SELECT pg_temp.attempt($c$SELECT esim_download('89049032000000000000000000000203', '8944000000000000221')$c$);
SELECT pg_temp.attempt($c$SELECT esim_download('89049032000000000000000000000211', '8944000000000000222', server => 'op_rsp')$c$, true);
SET ROLE op_two;
-- the same ICCID is another profile here
SELECT esim_download('89049032000000000000000000000212', '8944000000000000221') IS NOT NULL AS theirs;
SELECT pg_temp.attempt($c$SELECT esim_enable('8944000000000000221', '89049032000000000000000000000211')$c$);
RESET ROLE;
SELECT o.owner, o.owner_name, o.requested_by, p.owner = o.owner AS profile_owner FROM esim_operation o
JOIN esim_profile p ON p.id = o.profile ORDER BY o.seq;
-- both are ours to us: the EID or the row tells them apart
SELECT pg_temp.attempt($c$SELECT esim_enable('8944000000000000221')$c$, true);
SELECT pg_temp.attempt($c$SELECT esim_enable('8944000000000000221', '89049032000000000000000000000212')$c$);
-- an owner that is gone
UPDATE esim_device SET owner_name = 'op_gone' WHERE eid = '89049032000000000000000000000211';
SELECT pg_temp.attempt($c$SELECT esim_download('89049032000000000000000000000211', '8944000000000000222')$c$);

-- a profile on another owner's row
SELECT pg_temp.attempt(format($c$SELECT esim_download('89049032000000000000000000000201', profile => %L)$c$, id))
FROM esim_profile WHERE owner = 'op_two'::regrole;

DELETE FROM esim_pending;
DELETE FROM esim_operation;
DELETE FROM esim_profile;
DELETE FROM esim_device;
REVOKE EXECUTE ON FUNCTION esim_download, esim_enable, esim_cancel FROM op_one, op_two;
DROP ROLE op_member, op_one, op_two;
DROP SERVER op_rsp, op_other;
