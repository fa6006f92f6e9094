/*
 * Upkeep: pause and resume, change of owner, removal of history.
 *
 * All of it is for administrators: SECURITY DEFINER, granted with the scope
 * admin, across all owners.
 */

CREATE FUNCTION esim_check_server(server text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (
		SELECT FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
		WHERE s.srvname = esim_check_server.server AND w.fdwname = 'esim_rsp')
	THEN
		RAISE EXCEPTION 'server "%" does not exist', server
		USING ERRCODE = 'ES404',
			DETAIL = 'NOT_FOUND: No server of the foreign data wrapper esim_rsp has this name.',
			HINT = coalesce((
				SELECT 'There are: ' || string_agg(quote_ident(s.srvname), ', ' ORDER BY s.srvname) || '.'
				FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
				WHERE w.fdwname = 'esim_rsp'),
				'CREATE SERVER ... FOREIGN DATA WRAPPER esim_rsp makes one.');
	END IF;
END
$$;
COMMENT ON FUNCTION esim_check_server(text) IS 'Internal: raises ES404 where there is no RSP server of that name.';

CREATE FUNCTION esim_pause(server text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	changed boolean;
BEGIN
	IF esim_pause.server IS NOT NULL THEN
		PERFORM @extschema@.esim_check_server(esim_pause.server);
	END IF;
	-- current_user is the function's owner here; the setting knows of SET ROLE
	INSERT INTO @extschema@.esim_paused (server, reason, paused_by)
	VALUES (esim_pause.server, 'esim_pause()', coalesce(nullif(current_setting('role'), 'none'), session_user))
	ON CONFLICT DO NOTHING;
	changed := FOUND;
	PERFORM @extschema@.esim_audit_note('esim_pause', format('%s %s', CASE WHEN changed THEN 'PAUSED' ELSE 'UNCHANGED' END,
		coalesce('server ' || quote_ident(esim_pause.server), 'database')));
	IF changed THEN
		PERFORM @extschema@.esim_wake();
	END IF;
	RETURN changed;
END
$$;
COMMENT ON FUNCTION esim_pause(text) IS
'Workers send nothing new to the server, without a name to no server of this database, until esim_resume(). Operations are still accepted and expire as always; what is under way is followed up to its answer. Returns whether it was not paused before. Unknown server: ES404.';

CREATE FUNCTION esim_resume(server text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	changed boolean;
BEGIN
	DELETE FROM @extschema@.esim_paused p WHERE p.server IS NOT DISTINCT FROM esim_resume.server;
	changed := FOUND;
	IF NOT changed AND esim_resume.server IS NOT NULL THEN
		PERFORM @extschema@.esim_check_server(esim_resume.server);
	END IF;

	-- rows that were written elsewhere: they are this database's from now on
	IF esim_resume.server IS NULL THEN
		WITH epoch AS MATERIALIZED (
			SELECT e.system_identifier, e.timeline, e.database FROM @extschema@.esim_epoch() e
		), foreign_row AS MATERIALIZED (
			SELECT p.seq
			FROM @extschema@.esim_pending p, epoch e
			WHERE (p.system_identifier, p.timeline, p.database) IS DISTINCT FROM (e.system_identifier, e.timeline, e.database)
			ORDER BY p.seq
			FOR UPDATE OF p
		)
		UPDATE @extschema@.esim_pending p
		SET system_identifier = e.system_identifier,
			timeline = e.timeline,
			database = e.database,
			ask_first = true,
			handling = false,
			claimed = false,
			state = CASE WHEN p.claimed THEN 'N' ELSE p.state END
		FROM foreign_row f, epoch e
		WHERE p.seq = f.seq;
		changed := changed OR FOUND;

		UPDATE @extschema@.esim_notification n
		SET system_identifier = e.system_identifier, timeline = e.timeline, database = e.database
		FROM @extschema@.esim_epoch() e
		WHERE n.next_at IS NOT NULL
		AND (n.system_identifier, n.timeline, n.database) IS DISTINCT FROM (e.system_identifier, e.timeline, e.database);
		changed := changed OR FOUND;
	END IF;

	WITH parked AS MATERIALIZED (
		SELECT p.seq
		FROM @extschema@.esim_pending p
		WHERE p.state = 'P' AND (esim_resume.server IS NULL OR p.server = esim_resume.server)
		ORDER BY p.seq
		FOR UPDATE
	), released AS (
		UPDATE @extschema@.esim_pending p
		SET state = 'N', next_at = CASE WHEN o.not_before > now() THEN o.not_before END
		FROM parked, @extschema@.esim_operation o
		WHERE p.seq = parked.seq AND o.id = p.operation
		RETURNING p.operation
	)
	UPDATE @extschema@.esim_operation o
	SET phase = 'QUEUED', phase_reason = NULL, next_at = NULL
	FROM released r
	WHERE o.id = r.operation AND o.status = 'ACCEPTED';
	changed := changed OR FOUND;

	PERFORM @extschema@.esim_audit_note('esim_resume', format('%s %s', CASE WHEN changed THEN 'RESUMED' ELSE 'UNCHANGED' END,
		coalesce('server ' || quote_ident(esim_resume.server), 'database')));
	IF changed THEN
		PERFORM @extschema@.esim_wake();
	END IF;
	RETURN changed;
END
$$;
COMMENT ON FUNCTION esim_resume(text) IS
'Undoes esim_pause() for the server and lets its parked operations try again. Without a name: undoes esim_pause() without a name (a server that is paused by name stays so), lets all parked operations try again, and takes over the operations of a copied or restored database: call it in one copy only; workers ask the RSP before they send. Returns whether anything changed. Unknown server: ES404.';

CREATE FUNCTION esim_transfer(eid eid, new_owner regrole) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	device @extschema@.esim_device;
	new_name name;
	gone boolean;
	unfinished bigint;
	taken uuid[];
BEGIN
	-- an older snapshot would not show what was queued while this waited for a lane
	IF current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE EXCEPTION 'esim_transfer() cannot run in an isolation level above READ COMMITTED'
		USING ERRCODE = 'invalid_transaction_state',
			HINT = 'Call it in a transaction of its own.';
	END IF;

	IF esim_transfer.eid IS NULL THEN
		RAISE EXCEPTION 'cannot transfer a device without its EID'
		USING ERRCODE = 'ES422', DETAIL = 'MISSING_IDENTIFIER: The EID is NULL.', HINT = 'Give the EID of the eUICC.';
	END IF;
	SELECT r.rolname INTO new_name FROM pg_roles r WHERE r.oid = esim_transfer.new_owner;
	IF new_name IS NULL THEN
		RAISE EXCEPTION 'new owner does not exist'
		USING ERRCODE = 'ES404', DETAIL = 'NOT_FOUND: There is no such role.', HINT = 'Name a role.';
	END IF;

	-- lanes of profiles before the lane of the eUICC, as when operations are queued
	INSERT INTO @extschema@.esim_profile_lane AS l (lane)
	SELECT p.lane FROM @extschema@.esim_profile p
	WHERE p.eid OPERATOR(@extschema@.=) esim_transfer.eid OR p.reserved_eid OPERATOR(@extschema@.=) esim_transfer.eid
	ORDER BY p.lane
	ON CONFLICT DO NOTHING;
	PERFORM l.lane FROM @extschema@.esim_profile_lane l
	WHERE l.lane IN (
		SELECT p.lane FROM @extschema@.esim_profile p
		WHERE p.eid OPERATOR(@extschema@.=) esim_transfer.eid OR p.reserved_eid OPERATOR(@extschema@.=) esim_transfer.eid)
	ORDER BY l.lane
	FOR UPDATE;

	SELECT d.* INTO device FROM @extschema@.esim_device d WHERE d.eid OPERATOR(@extschema@.=) esim_transfer.eid FOR NO KEY UPDATE;
	IF device.eid IS NULL THEN
		RAISE EXCEPTION 'device is not known'
		USING ERRCODE = 'ES404',
			DETAIL = 'IDENTIFIER_NOT_FOUND: No device with this EID is registered.',
			HINT = 'Insert it into esim_device with the owner that it is to have.';
	END IF;
	IF device.owner = esim_transfer.new_owner AND device.owner_name = new_name THEN
		PERFORM @extschema@.esim_audit_note('esim_transfer', format('UNCHANGED owner %I', new_name), device.eid);
		RETURN;
	END IF;

	SELECT array_agg(q.operation) INTO taken
	FROM (
		SELECT q.operation FROM @extschema@.esim_pending q WHERE q.lane = device.lane
		UNION
		-- a download that the device fetches by itself has a lane of its own
		SELECT q.operation
		FROM @extschema@.esim_operation o
		JOIN @extschema@.esim_pending q ON q.operation = o.id
		WHERE o.eid OPERATOR(@extschema@.=) esim_transfer.eid AND o.owner = device.owner AND o.status = 'ACCEPTED'
		UNION
		SELECT q.operation
		FROM @extschema@.esim_profile p
		JOIN @extschema@.esim_pending q ON q.lane = p.lane
		WHERE p.owner = device.owner
		AND (p.eid OPERATOR(@extschema@.=) esim_transfer.eid OR p.reserved_eid OPERATOR(@extschema@.=) esim_transfer.eid)
	) q;
	unfinished := coalesce(cardinality(taken), 0);
	gone := pg_get_userbyid(device.owner) <> device.owner_name;
	IF unfinished > 0 AND NOT gone THEN
		RAISE EXCEPTION 'device has % unfinished operation%', unfinished, CASE WHEN unfinished > 1 THEN 's' ELSE '' END
		USING ERRCODE = 'ES409',
			DETAIL = 'CONFLICT: They were asked for by its owner and are carried out with the owner''s credentials.',
			HINT = 'Wait until they have ended, or cancel them with esim_cancel().';
	END IF;

	BEGIN
		UPDATE @extschema@.esim_profile p
		SET owner = esim_transfer.new_owner, owner_name = new_name
		WHERE p.owner = device.owner AND p.owner_name = device.owner_name
		AND (p.eid OPERATOR(@extschema@.=) esim_transfer.eid OR p.reserved_eid OPERATOR(@extschema@.=) esim_transfer.eid)
		AND p.state NOT IN ('DELETED', 'CANCELLED', 'FAILED');
	EXCEPTION WHEN unique_violation THEN
		RAISE EXCEPTION 'new owner already has a profile with an ICCID of this device'
		USING ERRCODE = 'ES409',
			DETAIL = 'CONFLICT: An ICCID is unique among the live profiles of one owner.',
			HINT = 'Look into esim_inventory as the new owner.';
	END;
	UPDATE @extschema@.esim_device d
	SET owner = esim_transfer.new_owner, owner_name = new_name
	WHERE d.eid OPERATOR(@extschema@.=) esim_transfer.eid;

	-- nobody else can free the operations of an owner that is gone
	IF unfinished > 0 THEN
		UPDATE @extschema@.esim_operation o
		SET owner = esim_transfer.new_owner, owner_name = new_name
		WHERE o.id = ANY (taken);
		WITH released AS (
			UPDATE @extschema@.esim_pending q
			SET state = 'N', next_at = CASE WHEN o.not_before > now() THEN o.not_before END
			FROM @extschema@.esim_operation o
			WHERE q.operation = ANY (taken) AND q.state = 'P' AND o.id = q.operation
			RETURNING q.operation
		)
		UPDATE @extschema@.esim_operation o
		SET phase = 'QUEUED', phase_reason = NULL, next_at = NULL
		FROM released r
		WHERE o.id = r.operation AND o.status = 'ACCEPTED';
		PERFORM @extschema@.esim_wake();
	END IF;
	PERFORM @extschema@.esim_audit_note('esim_transfer', format('TRANSFERRED from %I to %I', device.owner_name, new_name), device.eid);
END
$$;
COMMENT ON FUNCTION esim_transfer(eid, regrole) IS
'Gives a device with its live profiles to another owner. Finished operations and ended profiles stay with the old one. While operations are unfinished: ES409; but where the old owner''s role is gone or renamed they go along, and parked ones try again with the new owner''s credentials. Unknown device or role: ES404; an ICCID that the new owner has already: ES409.';

CREATE FUNCTION esim_reassign_owned(old_owner name, new_owner regrole, OUT what text, OUT moved bigint) RETURNS SETOF record
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	new_name name;
	gone oid[];
	operations bigint;
	devices bigint;
	profiles bigint;
	fleets bigint;
	credentials bigint;
BEGIN
	SELECT r.rolname INTO new_name FROM pg_roles r WHERE r.oid = esim_reassign_owned.new_owner;
	IF new_name IS NULL THEN
		RAISE EXCEPTION 'new owner does not exist'
		USING ERRCODE = 'ES404', DETAIL = 'NOT_FOUND: There is no such role.', HINT = 'Name a role.';
	END IF;

	-- numbers that rows with this name have, and that no role of this name has
	SELECT array_agg(o.owner) INTO gone
	FROM (
		SELECT d.owner::oid FROM @extschema@.esim_device d WHERE d.owner_name = esim_reassign_owned.old_owner
		UNION SELECT p.owner FROM @extschema@.esim_profile p WHERE p.owner_name = esim_reassign_owned.old_owner
		UNION SELECT p.owner FROM @extschema@.esim_operation p WHERE p.owner_name = esim_reassign_owned.old_owner
		UNION SELECT f.owner FROM @extschema@.esim_fleet f WHERE f.owner_name = esim_reassign_owned.old_owner
		UNION SELECT c.owner FROM @extschema@.esim_credential c WHERE c.owner_name = esim_reassign_owned.old_owner
	) o
	WHERE pg_get_userbyid(o.owner) <> esim_reassign_owned.old_owner;
	IF gone IS NULL THEN
		RAISE EXCEPTION 'there is no owner "%" that is gone', old_owner
		USING ERRCODE = 'ES404',
			DETAIL = 'NOT_FOUND: No row names an owner of this name whose role was dropped or renamed.',
			HINT = 'esim_health() names such owners. Devices of an owner that is there are given away with esim_transfer().';
	END IF;

	BEGIN
		UPDATE @extschema@.esim_operation o
		SET owner = esim_reassign_owned.new_owner, owner_name = new_name
		WHERE o.owner = ANY (gone) AND o.owner_name = old_owner;
		GET DIAGNOSTICS operations = ROW_COUNT;
		UPDATE @extschema@.esim_device d
		SET owner = esim_reassign_owned.new_owner, owner_name = new_name
		WHERE d.owner = ANY (gone) AND d.owner_name = old_owner;
		GET DIAGNOSTICS devices = ROW_COUNT;
		UPDATE @extschema@.esim_profile p
		SET owner = esim_reassign_owned.new_owner, owner_name = new_name
		WHERE p.owner = ANY (gone) AND p.owner_name = old_owner;
		GET DIAGNOSTICS profiles = ROW_COUNT;
		UPDATE @extschema@.esim_fleet f
		SET owner = esim_reassign_owned.new_owner, owner_name = new_name
		WHERE f.owner = ANY (gone) AND f.owner_name = old_owner;
		GET DIAGNOSTICS fleets = ROW_COUNT;
	EXCEPTION WHEN unique_violation THEN
		RAISE EXCEPTION 'new owner already has a profile or a fleet of the old one'
		USING ERRCODE = 'ES409',
			DETAIL = 'CONFLICT: An ICCID is unique among the live profiles of one owner, a name among the fleets of one owner and server.',
			HINT = 'Look into esim_inventory and esim_fleet as the new owner.';
	END;

	-- secrets go along with a role, not to another one
	UPDATE @extschema@.esim_credential c
	SET owner = esim_reassign_owned.new_owner, owner_name = new_name
	WHERE c.owner = ANY (gone) AND c.owner_name = old_owner AND (c.owner = new_owner OR new_name = old_owner)
	AND NOT EXISTS (
		SELECT FROM @extschema@.esim_credential x
		WHERE x.owner = new_owner AND x.owner <> c.owner AND x.name = c.name);
	GET DIAGNOSTICS credentials = ROW_COUNT;
	UPDATE @extschema@.esim_idempotency k
	SET owner = esim_reassign_owned.new_owner
	WHERE k.owner = ANY (gone) AND k.owner <> new_owner
	AND EXISTS (SELECT FROM @extschema@.esim_operation o WHERE o.id = k.operation AND o.owner = new_owner)
	AND NOT EXISTS (SELECT FROM @extschema@.esim_idempotency x WHERE x.owner = new_owner AND x.key = k.key);

	-- they were parked, or held back, as nobody's
	WITH released AS (
		UPDATE @extschema@.esim_pending q
		SET state = 'N', next_at = CASE WHEN o.not_before > now() THEN o.not_before END
		FROM @extschema@.esim_operation o
		WHERE q.state = 'P' AND o.id = q.operation AND o.owner = new_owner
		RETURNING q.operation
	)
	UPDATE @extschema@.esim_operation o
	SET phase = 'QUEUED', phase_reason = NULL, next_at = NULL
	FROM released r
	WHERE o.id = r.operation AND o.status = 'ACCEPTED';
	UPDATE @extschema@.esim_notification n
	SET next_at = clock_timestamp()
	FROM @extschema@.esim_operation o
	WHERE n.next_at > clock_timestamp() AND n.tries > 0 AND o.id = n.operation AND o.owner = new_owner;
	PERFORM @extschema@.esim_wake();

	PERFORM @extschema@.esim_audit_note('esim_reassign_owned', format('REASSIGNED from %I to %I: devices %s, profiles %s, operations %s, fleets %s, credentials %s',
		old_owner, new_name, devices, profiles, operations, fleets, credentials));
	RETURN QUERY VALUES ('devices', devices), ('profiles', profiles), ('operations', operations), ('fleets', fleets),
		('credentials', credentials);
END
$$;
COMMENT ON FUNCTION esim_reassign_owned(name, regrole) IS
'Gives all that an owner has whose role is gone or was renamed to another role: devices, profiles, operations (finished ones too), fleets, idempotency keys; after ALTER ROLE alice RENAME TO alicia: esim_reassign_owned(''alice'', ''alicia''). Stored credentials go along only to the same role, or to a new one of the same name. Parked operations try again with the new owner''s credentials at the RSP. Returns how many rows were given. No such owner, unknown role: ES404; an ICCID or fleet that the new owner has already: ES409.';

/*
 * Functions name the schema that they were made in: the extension is not
 * relocatable, and ALTER SCHEMA ... RENAME would be a way around that.
 */
CREATE FUNCTION esim_schema_renamed() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (
		SELECT FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
		WHERE e.extname = 'esim' AND quote_ident(n.nspname) <> $name$@extschema@$name$)
	THEN
		RAISE EXCEPTION 'schema of extension esim cannot be renamed'
		USING ERRCODE = 'feature_not_supported',
			DETAIL = 'Its functions name the schema that they were made in.',
			HINT = 'For another schema dump the data, create the extension there, and restore the data.';
	END IF;
END
$$;
REVOKE ALL ON FUNCTION esim_schema_renamed() FROM PUBLIC;
COMMENT ON FUNCTION esim_schema_renamed() IS 'Event trigger: refuses to rename the schema of the extension.';

CREATE EVENT TRIGGER esim_schema_renamed ON ddl_command_end
	WHEN TAG IN ('ALTER SCHEMA')
	EXECUTE FUNCTION esim_schema_renamed();
COMMENT ON EVENT TRIGGER esim_schema_renamed IS 'The schema of esim keeps its name.';

CREATE FUNCTION esim_prune(options jsonb DEFAULT '{}', OUT what text, OUT removed bigint) RETURNS SETOF record
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	option record;
	older_than interval;
	age interval;
	batch integer := 10000;
	max_batches integer := 10;
	bound timestamptz;
	bound_id uuid;
	last_id uuid := '00000000-0000-0000-0000-000000000000';
	needed uuid[];
	looked uuid[];
	held uuid[];
	ids uuid[];
	n bigint;
	operations bigint := 0;
	attempts bigint := 0;
	notifications bigint := 0;
	idempotency_keys bigint := 0;
	secrets bigint := 0;
	profile_events bigint := 0;
	drift bigint := 0;
	received bigint := 0;
	audit_older_than interval;
	rows tid[];
	seqscan CONSTANT text := current_setting('enable_seqscan');
	audit bigint := 0;
BEGIN
	-- the library must be there for its settings to be
	PERFORM @extschema@.esim_eid_valid('');
	older_than := current_setting('esim.retention')::interval;

	IF jsonb_typeof(options) IS DISTINCT FROM 'object' THEN
		RAISE EXCEPTION 'options must be a JSON object'
		USING ERRCODE = 'ES400', DETAIL = 'INVALID_ARGUMENT: They are not an object.',
			HINT = 'Options are older_than, audit_older_than, batch and max_batches.';
	END IF;
	FOR option IN SELECT e.key, e.value, jsonb_typeof(e.value) AS type, options ->> e.key AS text FROM jsonb_each(options) e LOOP
		IF option.key IN ('older_than', 'audit_older_than') AND option.type = 'string' THEN
			BEGIN
				age := option.text::interval;
			EXCEPTION WHEN data_exception THEN
				age := NULL;
			END;
			IF age IS NULL OR age < interval '0' OR age > interval '1000 years' THEN
				RAISE EXCEPTION 'invalid value for option "%": "%"', option.key, "left"(option.text, 100)
				USING ERRCODE = 'ES400', DETAIL = 'INVALID_ARGUMENT: It is not an interval of zero or more.',
					HINT = format('Write for instance {"%s": "%s"}.', option.key,
						CASE option.key WHEN 'older_than' THEN '30 days' ELSE '2 years' END);
			ELSIF option.key = 'older_than' THEN
				older_than := age;
			-- nobody removes the traces of what he has just done
			ELSIF age < current_setting('esim.retention')::interval THEN
				RAISE EXCEPTION 'option "audit_older_than" is out of range'
				USING ERRCODE = 'ES400',
					DETAIL = format('OUT_OF_RANGE: Rows of esim_audit are kept for esim.retention, %s, at least.', current_setting('esim.retention')),
					HINT = 'Write for instance {"audit_older_than": "2 years"}.';
			ELSE
				audit_older_than := age;
			END IF;
		ELSIF option.key IN ('batch', 'max_batches') AND option.type = 'number' THEN
			IF option.text::numeric NOT BETWEEN 1 AND 100000 OR option.text::numeric % 1 <> 0 THEN
				RAISE EXCEPTION 'option "%" is out of range', option.key
				USING ERRCODE = 'ES400', DETAIL = 'OUT_OF_RANGE: It is a whole number from 1 to 100000.',
					HINT = 'The default is batch 10000 and max_batches 10.';
			END IF;
			IF option.key = 'batch' THEN
				batch := option.text::numeric::integer;
			ELSE
				max_batches := option.text::numeric::integer;
			END IF;
		ELSIF option.key IN ('older_than', 'audit_older_than', 'batch', 'max_batches') THEN
			RAISE EXCEPTION 'option "%" has the wrong type', option.key
			USING ERRCODE = 'ES400', DETAIL = format('INVALID_ARGUMENT: It is of type %s.', option.type),
				HINT = 'older_than and audit_older_than are texts with an interval, batch and max_batches are numbers.';
		ELSE
			RAISE EXCEPTION 'unknown option "%"', "left"(option.key, 100)
			USING ERRCODE = 'ES400', DETAIL = 'INVALID_ARGUMENT: There is no such option.',
				HINT = 'Options are older_than, audit_older_than, batch and max_batches.';
		END IF;
	END LOOP;
	bound := now() - older_than;

	/*
	 * What completed before the bound was asked for before it, and the time of
	 * the request leads the key.
	 */
	bound_id := (lpad(to_hex(greatest(floor(extract(epoch FROM bound) * 1000), 0)::bigint + 1), 12, '0') || '70008000000000000000')::uuid;

	-- operations that unfinished ones of that age wait for, or need
	SELECT array_agg(DISTINCT w.id) INTO needed
	FROM @extschema@.esim_pending p
	JOIN @extschema@.esim_operation o ON o.id = p.operation
	CROSS JOIN LATERAL unnest(p.waits_for || o.depends_on) AS w (id)
	WHERE p.operation < bound_id;

	FOR i IN 1 .. max_batches LOOP
		SELECT array_agg(o.id ORDER BY o.id) INTO looked
		FROM (
			SELECT c.id FROM @extschema@.esim_operation c
			WHERE c.id > last_id AND c.id < bound_id AND c.status = 'COMPLETED' AND c.completed_at < bound
			ORDER BY c.id
			LIMIT batch
			FOR UPDATE SKIP LOCKED
		) o;
		EXIT WHEN looked IS NULL;
		last_id := looked[cardinality(looked)];

		-- somebody may be about to have one announced again: that is not waited for
		WITH free AS MATERIALIZED (
			SELECT t.id FROM @extschema@.esim_notification t WHERE t.operation = ANY (looked) FOR UPDATE SKIP LOCKED
		)
		SELECT array_agg(t.operation) INTO held
		FROM @extschema@.esim_notification t
		WHERE t.operation = ANY (looked) AND NOT EXISTS (SELECT FROM free f WHERE f.id = t.id);

		-- what is still to be announced stays
		SELECT array_agg(l.id) INTO ids
		FROM unnest(looked) AS l (id)
		WHERE l.id <> ALL (coalesce(needed, '{}')) AND l.id <> ALL (coalesce(held, '{}'))
		AND NOT EXISTS (
			SELECT FROM @extschema@.esim_notification t
			WHERE t.operation = l.id AND t.delivered_at IS NULL AND t.next_at IS NOT NULL);

		IF ids IS NOT NULL THEN
			DELETE FROM @extschema@.esim_attempt a WHERE a.operation = ANY (ids);
			GET DIAGNOSTICS n = ROW_COUNT;
			attempts := attempts + n;
			DELETE FROM @extschema@.esim_notification t WHERE t.operation = ANY (ids);
			GET DIAGNOSTICS n = ROW_COUNT;
			notifications := notifications + n;
			DELETE FROM @extschema@.esim_idempotency k WHERE k.operation = ANY (ids);
			GET DIAGNOSTICS n = ROW_COUNT;
			idempotency_keys := idempotency_keys + n;
			DELETE FROM @extschema@.esim_operation_secret s WHERE s.operation = ANY (ids);
			GET DIAGNOSTICS n = ROW_COUNT;
			secrets := secrets + n;
			DELETE FROM @extschema@.esim_operation o WHERE o.id = ANY (ids);
			GET DIAGNOSTICS n = ROW_COUNT;
			operations := operations + n;
		END IF;
		EXIT WHEN cardinality(looked) < batch;
	END LOOP;

	-- the index on the time is not taken for what it is while there are few rows
	PERFORM set_config('enable_seqscan', 'off', true);
	WITH chosen AS MATERIALIZED (
		SELECT c.ctid AS place FROM @extschema@.esim_profile_event c
		WHERE c.at < bound
		LIMIT batch::bigint * max_batches
		FOR UPDATE SKIP LOCKED
	)
	DELETE FROM @extschema@.esim_profile_event v USING chosen WHERE v.ctid = chosen.place;
	GET DIAGNOSTICS profile_events = ROW_COUNT;
	PERFORM set_config('enable_seqscan', seqscan, true);

	WITH chosen AS MATERIALIZED (
		SELECT c.id FROM @extschema@.esim_drift c
		WHERE c.resolved_at < bound
		ORDER BY c.id
		LIMIT batch::bigint * max_batches
		FOR UPDATE SKIP LOCKED
	)
	DELETE FROM @extschema@.esim_drift x USING chosen WHERE x.id = chosen.id;
	GET DIAGNOSTICS drift = ROW_COUNT;

	WITH chosen AS MATERIALIZED (
		SELECT c.id FROM @extschema@.esim_event c
		WHERE c.received_at < bound
		ORDER BY c.received_at
		LIMIT batch::bigint * max_batches
		FOR UPDATE SKIP LOCKED
	)
	DELETE FROM @extschema@.esim_event x USING chosen WHERE x.id = chosen.id;
	GET DIAGNOSTICS received = ROW_COUNT;

	-- as above
	IF audit_older_than IS NOT NULL THEN
		PERFORM set_config('enable_seqscan', 'off', true);
		FOR i IN 1 .. max_batches LOOP
			rows := ARRAY(
				SELECT c.ctid FROM @extschema@.esim_audit c
				WHERE c.at < now() - audit_older_than
				LIMIT batch
				FOR UPDATE SKIP LOCKED);
			DELETE FROM @extschema@.esim_audit x WHERE x.ctid = ANY (rows);
			GET DIAGNOSTICS n = ROW_COUNT;
			audit := audit + n;
			EXIT WHEN n < batch;
		END LOOP;
		PERFORM set_config('enable_seqscan', seqscan, true);
	END IF;

	PERFORM @extschema@.esim_audit_note('esim_prune', coalesce('REMOVED ' || (
		SELECT string_agg(format('%s %s', v.removed, v.what), ', ')
		FROM (VALUES (operations, 'operations'), (profile_events, 'profile_events'), (drift, 'drift'), (received, 'events'),
			(audit, 'audit')) AS v (removed, what)
		WHERE v.removed > 0), 'UNCHANGED'));

	RETURN QUERY VALUES
		('operations', operations), ('attempts', attempts), ('notifications', notifications),
		('idempotency_keys', idempotency_keys), ('secrets', secrets), ('profile_events', profile_events), ('drift', drift), ('events', received),
		('audit', audit);
END
$$;
COMMENT ON FUNCTION esim_prune(jsonb) IS
'Removes operations that completed longer ago than esim.retention, with their attempts, notifications, idempotency keys and secrets, and profile events, resolved drift and received events of that age. options: older_than (interval instead of esim.retention), audit_older_than (interval, not below esim.retention: rows of esim_audit that are older are removed as well; without it they stay), batch (default 10000), max_batches (default 10). One call is one transaction and removes at most batch * max_batches operations; call it repeatedly, or have pg_cron call it. Rows that others have locked are left for the next call; operations with notifications still to be delivered, or that unfinished ones need, stay. Unknown option: ES400.';
