/*
 * What sessions see of the workers.
 */

CREATE FUNCTION esim_wake() RETURNS void
AS 'MODULE_PATHNAME', 'esim_wake' LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_wake() IS 'Internal: wakes the workers of this database when the transaction commits, or starts one.';

CREATE FUNCTION esim_epoch(OUT system_identifier bigint, OUT timeline integer, OUT database oid) RETURNS record
AS 'MODULE_PATHNAME', 'esim_epoch' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION esim_epoch() IS 'Internal: the epoch in which queue rows are written now: cluster, timeline, database.';

CREATE FUNCTION esim_worker_status(OUT pid integer, OUT worker integer, OUT started_at timestamptz, OUT doing text,
								   OUT in_flight integer, OUT last_error text, OUT since timestamptz) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'esim_worker_status' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION esim_worker_status() IS
'The background workers of this database, one row each: process, number, start, what it is doing and since when, operations in flight, its last error. Where none runs because none could start: one row without pid that says why.';

CREATE FUNCTION esim_failing_servers(OUT server oid, OUT since timestamptz, OUT error text) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'esim_failing_servers' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION esim_failing_servers() IS
'Internal: servers of this database that did not answer several requests in a row, since when, and what was wrong last. Known to the running cluster only.';
