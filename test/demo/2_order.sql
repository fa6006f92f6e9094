-- Two profiles for each device; the first is enabled, the second is the fallback.
-- All or nothing: it is one transaction, and nothing is sent before it commits.
BEGIN;
SELECT count(esim_download(eid, iccid)) AS downloads FROM fleet;
SELECT count(esim_enable(iccid)) AS enables FROM fleet;
SELECT count(esim_download(eid, fallback_iccid)) AS downloads FROM fleet;
SELECT count(esim_set_fallback(eid, fallback_iccid)) AS fallbacks FROM fleet;
COMMIT;
