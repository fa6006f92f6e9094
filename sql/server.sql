/*
 * The foreign data wrapper esim_rsp, and what keeps the names of its servers
 * right in the extension's tables.
 *
 * Tables hold names of servers, not OIDs, so that a dump can be restored.  So
 * a RENAME is followed, and a server that unfinished operations name is not
 * dropped: a new one of that name would be asked what became of their
 * requests, answer that it knows nothing of them, and get them again.  Nor is
 * its protocol changed: another driver cannot go on where one has stopped.
 */

CREATE FUNCTION esim_rsp_validator(options text[], catalog oid) RETURNS void
AS 'MODULE_PATHNAME', 'esim_rsp_validator' LANGUAGE C STRICT;
REVOKE ALL ON FUNCTION esim_rsp_validator(text[], oid) FROM PUBLIC;
COMMENT ON FUNCTION esim_rsp_validator(text[], oid) IS 'Validator of esim_rsp: checks the options of servers and user mappings.';

CREATE FOREIGN DATA WRAPPER esim_rsp NO HANDLER VALIDATOR esim_rsp_validator;
COMMENT ON FOREIGN DATA WRAPPER esim_rsp IS 'Remote SIM Provisioning platforms: each server is one of them, its user mappings are the credentials.';

CREATE FUNCTION esim_server_lock(server oid) RETURNS void
AS 'MODULE_PATHNAME', 'esim_server_lock' LANGUAGE C STRICT;
REVOKE ALL ON FUNCTION esim_server_lock(oid) FROM PUBLIC;
COMMENT ON FUNCTION esim_server_lock(oid) IS 'Internal: waits for open transactions that queue operations for the server.';

CREATE TABLE esim_server_name (
	serverid oid NOT NULL,
	name text NOT NULL,
	protocol text,
	CONSTRAINT esim_server_name_pkey PRIMARY KEY (serverid)
);
REVOKE ALL ON TABLE esim_server_name FROM PUBLIC;
COMMENT ON TABLE esim_server_name IS 'Internal: names and protocols of the servers as they were before the statement that is running, so that it can be told what it renames, drops or changes. Not dumped.';
COMMENT ON COLUMN esim_server_name.serverid IS 'OID of the foreign server.';
COMMENT ON COLUMN esim_server_name.name IS 'Its name.';
COMMENT ON COLUMN esim_server_name.protocol IS 'Its option protocol, in lower case.';

/*
 * Brings esim_server_name up to date.  Also runs before each statement that
 * could rename or drop a server: after pg_upgrade the OIDs are others, and
 * event triggers may have been off for a while.
 */
CREATE FUNCTION esim_server_name_sync() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM @extschema@.esim_server_name n
	WHERE NOT EXISTS (
		SELECT FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
		WHERE s.oid = n.serverid AND w.fdwname = 'esim_rsp');

	INSERT INTO @extschema@.esim_server_name AS n (serverid, name, protocol)
	SELECT s.oid, s.srvname, t.protocol
	FROM pg_foreign_server s
	JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
	CROSS JOIN LATERAL (
		SELECT min(lower(o.option_value)) AS protocol
		FROM pg_options_to_table(s.srvoptions) o WHERE o.option_name = 'protocol') t
	WHERE w.fdwname = 'esim_rsp'
	AND NOT EXISTS (
		SELECT FROM @extschema@.esim_server_name o
		WHERE o.serverid = s.oid AND o.name = s.srvname AND o.protocol IS NOT DISTINCT FROM t.protocol)
	ORDER BY s.oid
	ON CONFLICT (serverid) DO UPDATE SET name = excluded.name, protocol = excluded.protocol;
END
$$;
REVOKE ALL ON FUNCTION esim_server_name_sync() FROM PUBLIC;
COMMENT ON FUNCTION esim_server_name_sync() IS 'Internal: brings esim_server_name up to date.';

CREATE FUNCTION esim_server_ddl_start() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM @extschema@.esim_server_name_sync();
END
$$;
REVOKE ALL ON FUNCTION esim_server_ddl_start() FROM PUBLIC;
COMMENT ON FUNCTION esim_server_ddl_start() IS 'Event trigger: notes the names of the servers before they change.';

CREATE FUNCTION esim_server_ddl_end() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	changed record;
	renamed record;
	unfinished bigint;
BEGIN
	FOR changed IN
		SELECT n.serverid, n.name
		FROM @extschema@.esim_server_name n
		JOIN pg_foreign_server s ON s.oid = n.serverid
		CROSS JOIN LATERAL pg_options_to_table(s.srvoptions) o
		WHERE o.option_name = 'protocol' AND lower(o.option_value) <> n.protocol
		ORDER BY n.serverid
	LOOP
		PERFORM @extschema@.esim_server_lock(changed.serverid);
		SELECT count(*) INTO unfinished FROM @extschema@.esim_pending WHERE server = changed.name;
		IF unfinished > 0 THEN
			RAISE EXCEPTION 'server "%" is used by % unfinished operation%', changed.name, unfinished,
				CASE WHEN unfinished > 1 THEN 's' ELSE '' END
			USING ERRCODE = 'ES409',
				DETAIL = 'CONFLICT: They cannot go on with another protocol.',
				HINT = 'Wait until they have ended, or cancel them with esim_cancel(); or make another server.';
		END IF;
	END LOOP;
	FOR renamed IN
		SELECT n.serverid, n.name AS old, s.srvname::text AS new
		FROM @extschema@.esim_server_name n JOIN pg_foreign_server s ON s.oid = n.serverid
		WHERE s.srvname <> n.name
	LOOP
		-- from here on, what open transactions have queued is seen
		PERFORM @extschema@.esim_server_lock(renamed.serverid);
		UPDATE @extschema@.esim_device SET server = renamed.new WHERE server = renamed.old;
		UPDATE @extschema@.esim_profile SET server = renamed.new WHERE server = renamed.old;
		UPDATE @extschema@.esim_profile SET subscription_server = renamed.new WHERE subscription_server = renamed.old;
		UPDATE @extschema@.esim_fleet SET server = renamed.new WHERE server = renamed.old;
		UPDATE @extschema@.esim_notification_point SET server = renamed.new WHERE server = renamed.old;
		UPDATE @extschema@.esim_operation o SET server = renamed.new
		FROM @extschema@.esim_pending p
		WHERE p.server = renamed.old AND o.id = p.operation;
		UPDATE @extschema@.esim_pending SET server = renamed.new WHERE server = renamed.old;
		DELETE FROM @extschema@.esim_paused WHERE server = renamed.new;
		UPDATE @extschema@.esim_paused SET server = renamed.new WHERE server = renamed.old;
	END LOOP;
	PERFORM @extschema@.esim_server_name_sync();
END
$$;
REVOKE ALL ON FUNCTION esim_server_ddl_end() FROM PUBLIC;
COMMENT ON FUNCTION esim_server_ddl_end() IS 'Event trigger: after ALTER SERVER ... RENAME, rows that name the server follow; finished operations and attempts keep the name they were carried out under. Refuses to change the protocol of a server that unfinished operations name.';

CREATE FUNCTION esim_server_dropped() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	gone record;
	unfinished bigint;
BEGIN
	FOR gone IN
		SELECT n.serverid, n.name
		FROM pg_event_trigger_dropped_objects() d
		JOIN @extschema@.esim_server_name n ON n.serverid = d.objid
		WHERE d.classid = 'pg_foreign_server'::regclass
		ORDER BY n.name
	LOOP
		SELECT count(*) INTO unfinished FROM @extschema@.esim_pending WHERE server = gone.name;
		IF unfinished > 0 THEN
			RAISE EXCEPTION 'server "%" is used by % unfinished operation%', gone.name, unfinished,
				CASE WHEN unfinished > 1 THEN 's' ELSE '' END
			USING ERRCODE = 'ES409',
				DETAIL = 'CONFLICT: What became of their requests could not be found out any more.',
				HINT = 'Wait until they have ended, or cancel them with esim_cancel(); esim_queue shows them.';
		END IF;
		DELETE FROM @extschema@.esim_paused WHERE server = gone.name;
		DELETE FROM @extschema@.esim_server_name WHERE serverid = gone.serverid;
	END LOOP;
END
$$;
REVOKE ALL ON FUNCTION esim_server_dropped() FROM PUBLIC;
COMMENT ON FUNCTION esim_server_dropped() IS 'Event trigger: refuses to drop a server that unfinished operations name.';

CREATE EVENT TRIGGER esim_server_ddl_start ON ddl_command_start
	WHEN TAG IN ('ALTER SERVER', 'DROP SERVER', 'DROP OWNED', 'DROP FOREIGN DATA WRAPPER')
	EXECUTE FUNCTION esim_server_ddl_start();
COMMENT ON EVENT TRIGGER esim_server_ddl_start IS 'Notes the names of esim''s servers before they change.';

CREATE EVENT TRIGGER esim_server_ddl_end ON ddl_command_end
	WHEN TAG IN ('CREATE SERVER', 'ALTER SERVER')
	EXECUTE FUNCTION esim_server_ddl_end();
COMMENT ON EVENT TRIGGER esim_server_ddl_end IS 'Rows that name a server follow its new name.';

CREATE EVENT TRIGGER esim_server_dropped ON sql_drop
	WHEN TAG IN ('DROP SERVER', 'DROP OWNED', 'DROP FOREIGN DATA WRAPPER')
	EXECUTE FUNCTION esim_server_dropped();
COMMENT ON EVENT TRIGGER esim_server_dropped IS 'Refuses to drop a server that unfinished operations name.';
