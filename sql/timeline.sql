/*
 * The story of one eUICC.
 */

-- drift that is resolved belongs to the story as well
CREATE INDEX esim_drift_eid_idx ON esim_drift (eid);

CREATE FUNCTION esim_timeline(eid eid, since timestamptz DEFAULT NULL)
RETURNS TABLE (at timestamptz, what text, kind text, iccid iccid, operation uuid, detail text)
AS 'MODULE_PATHNAME', 'esim_timeline' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100;
COMMENT ON FUNCTION esim_timeline(eid, timestamptz) IS
'What happened to an eUICC, in order, of what the caller may see: operations of the eUICC and those in the network of the profiles on it (asked, sent, completed), their requests (attempt), changes of profiles with their causes (profile), contradictions (drift, drift resolved), notifications; at the end what the first operation of each queue is waiting for (waiting), always, the rest from since on. kind is the operation''s. Errors: MISSING_IDENTIFIER, IDENTIFIER_NOT_FOUND.';
