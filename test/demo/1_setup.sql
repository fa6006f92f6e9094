-- The extension, in a schema of its own.
CREATE SCHEMA esim;
CREATE EXTENSION esim SCHEMA esim;

-- Where eSIMs are provisioned: an RSP platform that speaks CAMARA eSIM Profile Management.
CREATE SERVER rsp FOREIGN DATA WRAPPER esim_rsp
    OPTIONS (protocol 'camara', url :'url', allow_http 'true', smdp_address 'smdp.example.com');
CREATE USER MAPPING FOR PUBLIC SERVER rsp OPTIONS (token 'demo-token');

-- The fleet, as the warehouse sent it. A mistyped EID or ICCID would be an error here.
CREATE TABLE fleet (eid eid, label text, imei text, iccid iccid, fallback_iccid iccid);
\copy fleet FROM 'demo/inventory.csv' WITH (FORMAT csv, HEADER)
SELECT label, eid, iccid FROM fleet LIMIT 3;

-- Each eUICC is registered once.
INSERT INTO esim_device (eid, label, imei) SELECT eid, label, imei FROM fleet;
