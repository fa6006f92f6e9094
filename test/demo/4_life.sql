-- One eSIM from the operator's stock to a device, on two more platforms: Super SIM has
-- profiles and subscriptions, an eIM (SGP.32) reaches the eUICC.
CREATE SERVER supersim FOREIGN DATA WRAPPER esim_rsp
    OPTIONS (protocol 'twilio', url :'supersim', auth_method 'basic', allow_http 'true');
CREATE USER MAPPING FOR PUBLIC SERVER supersim OPTIONS (username 'AC1', password 'demo-secret');
CREATE SERVER eim FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'eim', url :'eim', allow_http 'true');
INSERT INTO esim_device (eid, label, server) VALUES ('89049032007408882600000477019344', 'Meter 7', 'eim');

-- Reserve a profile, put its subscription into a fleet and activate it, download and enable it:
-- each step on its own platform, in one transaction, before the ICCID is known.
BEGIN;
SELECT esim_fleet_create('meters', '{"NetworkAccessProfile": "HA00000000000000000000000000000001"}', server => 'supersim') AS fleet;
SELECT esim_reserve(generate_matching_id => true, server => 'supersim') AS reserve \gset
SELECT profile FROM esim_operation WHERE id = :'reserve' \gset
SELECT esim_set_subscription(profile => :'profile', status => 'ACTIVE', fleet => 'meters') AS subscription;
SELECT esim_download('89049032007408882600000477019344', profile => :'profile') AS download;
SELECT esim_enable(profile => :'profile') AS enable \gset
COMMIT;

SELECT result FROM esim_wait(:'enable', '60 s');
SELECT kind, server, result, round(extract(epoch FROM completed_at - created_at), 1) AS seconds
FROM esim_operation WHERE server IN ('supersim', 'eim') ORDER BY seq;
SELECT iccid, state, subscription_status, fleet, rsp_state, matching_id FROM esim_profile WHERE id = :'profile';

-- Where a person does the download: the same code for a phone's camera.
\pset format unaligned
\pset tuples_only on
SELECT esim_ac_lpa(esim_activation_code(profile => :'profile'));
SELECT esim_qr(esim_activation_code(profile => :'profile'));
\pset format aligned
\pset tuples_only off

-- What happened to the device, in order.
SELECT to_char(at, 'HH24:MI:SS.MS') AS at, what, kind, regexp_replace(detail, 'http://[^/]*|/[0-9a-f-]{36}', '', 'g') AS detail
FROM esim_timeline('89049032007408882600000477019344');
