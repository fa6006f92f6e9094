-- What became of it.
SELECT server, kind, operations, succeeded, failed, cancelled, round(p95_seconds::numeric, 1) AS p95_seconds
FROM esim_operation_summary ORDER BY kind;

-- What failed, and why; what needed it was cancelled.
SELECT d.label, o.kind, o.result, o.error_code, coalesce(o.rsp_message, o.error_message) AS reason
FROM esim_operation o JOIN esim_device d USING (eid)
WHERE o.result <> 'SUCCESS' ORDER BY o.seq;

-- The requests that were sent for it.
SELECT a.number, a.method, regexp_replace(a.url, '.*/(vwip/[^/]*).*', '\1') AS path, a.http_status, a.outcome, a.duration_ms
FROM esim_attempt a JOIN esim_operation o ON o.id = a.operation
WHERE o.result = 'FAILED' ORDER BY a.operation, a.number;

-- The inventory: one row per profile.
SELECT label, iccid, state, is_fallback AS fallback, date_trunc('second', state_age) AS age, last_kind, last_result
FROM esim_inventory ORDER BY label, iccid LIMIT 8;

-- And one row per device.
SELECT label, profiles, enabled_iccid, fallback_iccid, open_operations AS open
FROM esim_device_summary ORDER BY label LIMIT 5;
