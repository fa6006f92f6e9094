/*
 * The audit of what is asked for: rows of functions in SQL, and of devices that
 * users write themselves.  Functions in C write theirs themselves.
 */

CREATE FUNCTION esim_audit_note(function text, outcome text, eid eid DEFAULT NULL, operation uuid DEFAULT NULL) RETURNS void
AS 'MODULE_PATHNAME', 'esim_audit_note' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_audit_note(text, text, eid, uuid) IS
'Internal: writes a row into esim_audit, for functions in SQL. Nobody may call it but the extension''s owner, as whom they run.';

/*
 * Who is above row-level security leaves no row: superusers, and so the restore
 * of a dump, be it by COPY (which all others are refused) or by INSERT, and the
 * functions of the extension, which have rows of their own.
 */
CREATE FUNCTION esim_audit_device() RETURNS trigger
AS 'MODULE_PATHNAME', 'esim_audit_device' LANGUAGE C;
COMMENT ON FUNCTION esim_audit_device() IS 'Trigger: writes a row into esim_audit for a device that is registered, moved to another server, or retired.';
CREATE TRIGGER esim_audit_insert AFTER INSERT ON esim_device
	FOR EACH ROW WHEN (pg_catalog.row_security_active('esim_device'::pg_catalog.regclass::pg_catalog.oid))
	EXECUTE FUNCTION esim_audit_device();
COMMENT ON TRIGGER esim_audit_insert ON esim_device IS 'Registering leaves a row in esim_audit.';
CREATE TRIGGER esim_audit_update AFTER UPDATE OF server, retired_at ON esim_device
	FOR EACH ROW WHEN ((NEW.server IS DISTINCT FROM OLD.server OR NEW.retired_at IS DISTINCT FROM OLD.retired_at)
		AND pg_catalog.row_security_active('esim_device'::pg_catalog.regclass::pg_catalog.oid))
	EXECUTE FUNCTION esim_audit_device();
COMMENT ON TRIGGER esim_audit_update ON esim_device IS 'Moving to another server and retiring leave a row in esim_audit.';
