/*
 * Rights: the scopes, row-level security, the worker's role, and last of all
 * what PUBLIC has not.
 */

/* ------------------------------------------------------------------------
 * Scopes
 * ------------------------------------------------------------------------ */

/*
 * What each scope consists of.  Functions and tables are looked up by name
 * among the members of the extension, so that a scope covers what this release
 * has.
 *
 * esim_cancel() and esim_retry() come with every scope that makes operations,
 * not with retrieve-operation: who may only read stops nothing.
 */
CREATE FUNCTION esim_scope_rights()
RETURNS TABLE (number bigint, scope text, kind text, object oid, identity text, privilege text, columns name[])
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY
	WITH scope (number, scope, functions, relations) AS (
		SELECT s.ordinality, s.scope, s.functions, s.relations
		FROM ROWS FROM (unnest(
			ARRAY['download', 'enable', 'disable', 'delete', 'set-fallback', 'retrieve-status', 'retrieve-operation',
				'refresh', 'reserve', 'subscription', 'receive', 'register', 'admin'],
			ARRAY[
				'download cancel retry camara set_credential drop_credential redeliver',
				'enable cancel retry camara set_credential drop_credential redeliver',
				'disable cancel retry camara set_credential drop_credential redeliver',
				'delete cancel retry camara set_credential drop_credential redeliver',
				'set_fallback unset_fallback cancel retry camara set_credential drop_credential redeliver',
				'status timeline activation_code capabilities camara',
				'operation_status wait queue_counts camara',
				'refresh cancel retry set_credential drop_credential redeliver',
				'reserve release cancel_order cancel retry set_credential drop_credential redeliver',
				'set_subscription assign_fleet fleet_create cancel retry set_credential drop_credential redeliver',
				'receive',
				'sync cancel retry',
				'pause resume prune transfer reassign_owned queue_counts health worker_status capabilities redeliver refresh_oldest cron_database check_cron audit_maintenance schedule_maintenance unschedule_maintenance grant revoke scopes'],
			ARRAY[
				'', '', '', '', '',
				'SELECT device; SELECT device_state; SELECT profile; SELECT profile_event; SELECT drift; SELECT fleet; SELECT inventory; SELECT device_summary; UPDATE device label device_ref imei; SELECT operation id seq kind eid iccid profile owner owner_name server status result phase phase_reason next_at error_code error_message created_at sent_at completed_at expires_at',
				'SELECT operation; SELECT attempt; SELECT notification; SELECT paused; SELECT queue; SELECT operation_summary',
				'', '', '', '',
				'SELECT device; INSERT device eid owner server label device_ref imei retired_at; UPDATE device server label device_ref imei retired_at',
				'SELECT audit; SELECT paused; SELECT queue; SELECT event; SELECT notification_point; INSERT notification_point; UPDATE notification_point; DELETE notification_point'])
		) WITH ORDINALITY AS s (scope, functions, relations, ordinality)
	), member AS (
		SELECT d.classid, d.objid
		FROM pg_depend d
		JOIN pg_extension e ON e.oid = d.refobjid
		WHERE d.refclassid = 'pg_extension'::regclass AND e.extname = 'esim' AND d.deptype = 'e'
	), rights AS (
		SELECT s.number, 'FUNCTION' AS kind, p.oid AS object, p.oid::regprocedure::text AS identity, 'EXECUTE' AS privilege,
			NULL::name[] AS columns, f.name IN ('cancel', 'retry', 'camara', 'capabilities', 'set_credential', 'drop_credential', 'redeliver') AS shared
		FROM scope s
		CROSS JOIN LATERAL unnest(string_to_array(s.functions, ' ')) AS f (name)
		JOIN pg_proc p ON p.proname IN ('esim_' || f.name, 'esim_' || f.name || '_many')
		JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
		UNION ALL
		SELECT s.number, 'TABLE', c.oid, c.oid::regclass::text, w.words[1], nullif(w.words[3:]::name[], '{}'), false
		FROM scope s
		CROSS JOIN LATERAL unnest(string_to_array(s.relations, '; ')) AS r (text)
		CROSS JOIN LATERAL string_to_array(r.text, ' ') AS w (words)
		JOIN pg_class c ON c.relname = 'esim_' || w.words[2]
		JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
	)
	SELECT s.number, s.scope, r.kind, r.object, r.identity, r.privilege, r.columns
	FROM scope s
	LEFT JOIN rights r ON r.number = s.number
		AND EXISTS (SELECT FROM rights o WHERE o.number = s.number AND NOT o.shared);
END
$$;
COMMENT ON FUNCTION esim_scope_rights() IS 'Internal: the rights that each scope consists of; one row without object for a scope of which this release has nothing.';

CREATE FUNCTION esim_check_scopes(grantee regrole, scopes text[]) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	unknown text;
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = grantee) THEN
		RAISE EXCEPTION 'role does not exist'
		USING ERRCODE = 'ES404', DETAIL = 'NOT_FOUND: Scopes are granted to roles.', HINT = 'Name a role.';
	END IF;
	SELECT coalesce("left"(s.scope, 100), 'NULL') INTO unknown
	FROM unnest(scopes) AS s (scope)
	WHERE s.scope IS NULL OR NOT EXISTS (SELECT FROM @extschema@.esim_scope_rights() r WHERE r.scope = s.scope)
	LIMIT 1;
	IF unknown IS NOT NULL OR coalesce(cardinality(scopes), 0) = 0 THEN
		RAISE EXCEPTION USING
			MESSAGE = CASE WHEN unknown IS NULL THEN 'no scope is named' ELSE format('unknown scope "%s"', unknown) END,
			ERRCODE = 'ES400',
			DETAIL = 'INVALID_ARGUMENT: Scopes are granted and revoked by name.',
			HINT = 'Scopes are ' || (
				SELECT string_agg(r.scope, ', ' ORDER BY r.number)
				FROM (SELECT DISTINCT r.number, r.scope FROM @extschema@.esim_scope_rights() r) r) || '.';
	END IF;
END
$$;
COMMENT ON FUNCTION esim_check_scopes(regrole, text[]) IS 'Internal: raises ES404 for an unknown role and ES400 for an unknown scope.';

CREATE FUNCTION esim_scopes() RETURNS TABLE (role regrole, scope text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	WITH needed AS MATERIALIZED (
		SELECT r.number, r.scope, r.object, r.privilege, coalesce(c.name, '') AS col,
			count(*) OVER (PARTITION BY r.number) AS rights
		FROM @extschema@.esim_scope_rights() r
		LEFT JOIN LATERAL unnest(r.columns) AS c (name) ON true
		WHERE r.object IS NOT NULL
	), held AS MATERIALIZED (
		SELECT a.grantee, p.oid AS object, a.privilege_type AS privilege, ''::name AS col
		FROM pg_proc p CROSS JOIN LATERAL aclexplode(p.proacl) a
		WHERE p.oid IN (SELECT n.object FROM needed n)
		UNION
		SELECT a.grantee, c.oid, a.privilege_type, ''
		FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
		WHERE c.oid IN (SELECT n.object FROM needed n)
		UNION
		SELECT a.grantee, t.attrelid, a.privilege_type, t.attname
		FROM pg_attribute t CROSS JOIN LATERAL aclexplode(t.attacl) a
		WHERE t.attrelid IN (SELECT n.object FROM needed n)
	)
	SELECT h.grantee::regrole, n.scope
	FROM needed n
	JOIN held h ON h.object = n.object AND h.privilege = n.privilege AND h.col = n.col
	WHERE h.grantee <> 0
	AND h.grantee <> (SELECT e.extowner FROM pg_extension e WHERE e.extname = 'esim')
	GROUP BY h.grantee, n.number, n.scope, n.rights
	HAVING count(*) = n.rights
	ORDER BY pg_get_userbyid(h.grantee), n.number;
END
$$;
COMMENT ON FUNCTION esim_scopes() IS
'The scopes that are granted to roles themselves; members of such a role have them too. A role has a scope when it has every right that belongs to it.';

CREATE FUNCTION esim_grant_scopes(grantee regrole, scopes text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	statement text;
BEGIN
	FOR statement IN
		SELECT format('GRANT %s%s ON %s %s TO %I', r.privilege,
			'(' || (SELECT string_agg(quote_ident(c.name), ', ') FROM unnest(r.columns) AS c (name)) || ')',
			r.kind, r.identity, pg_get_userbyid(esim_grant_scopes.grantee))
		FROM @extschema@.esim_scope_rights() r
		WHERE r.scope = ANY (esim_grant_scopes.scopes) AND r.object IS NOT NULL
		UNION ALL
		SELECT format('GRANT USAGE ON SCHEMA @extschema@ TO %I', pg_get_userbyid(esim_grant_scopes.grantee))
	LOOP
		EXECUTE statement;
	END LOOP;
END
$$;
COMMENT ON FUNCTION esim_grant_scopes(regrole, text[]) IS 'Internal: grants what the scopes consist of.';

CREATE FUNCTION esim_audit_scopes(function text, what text, grantee regrole, scopes text[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT @extschema@.esim_audit_note(function, format('%s %s %s', what, (
		SELECT string_agg(DISTINCT s.scope, ', ') FROM unnest(scopes) AS s (scope)),
		quote_ident(pg_get_userbyid(grantee))));
END;
COMMENT ON FUNCTION esim_audit_scopes(text, text, regrole, text[]) IS 'Internal: writes a row into esim_audit about scopes.';

CREATE FUNCTION esim_grant(grantee regrole, VARIADIC scopes text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	absent text;
BEGIN
	PERFORM @extschema@.esim_check_scopes(esim_grant.grantee, esim_grant.scopes);
	PERFORM @extschema@.esim_grant_scopes(esim_grant.grantee, esim_grant.scopes);
	PERFORM @extschema@.esim_audit_scopes('esim_grant', 'GRANTED', esim_grant.grantee, esim_grant.scopes);
	FOR absent IN
		SELECT r.scope FROM @extschema@.esim_scope_rights() r
		WHERE r.scope = ANY (esim_grant.scopes) AND r.object IS NULL
		ORDER BY r.number
	LOOP
		RAISE WARNING 'scope "%" is empty in this release', absent
		USING DETAIL = 'Nothing was granted for it.',
			HINT = 'Grant it again when a release has its functions.';
	END LOOP;
END
$$;
COMMENT ON FUNCTION esim_grant(regrole, text[]) IS
'Grants scopes: EXECUTE on the functions of each and their _many twins, rights on the tables and views that belong to it, and USAGE on the schema. What a role sees is still only what it owns or is a member of the owner of. Scopes: download, enable, disable, delete, set-fallback, retrieve-status, retrieve-operation, refresh, reserve, subscription, receive, register, admin. Those that make operations include esim_cancel() and esim_retry(); admin is about all owners. Unknown scope: ES400.';

CREATE FUNCTION esim_revoke(grantee regrole, VARIADIC scopes text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kept text[];
	statement text;
BEGIN
	PERFORM @extschema@.esim_check_scopes(esim_revoke.grantee, esim_revoke.scopes);
	SELECT array_agg(s.scope) INTO kept
	FROM @extschema@.esim_scopes() s
	WHERE s.role = esim_revoke.grantee AND s.scope <> ALL (esim_revoke.scopes);
	FOR statement IN
		SELECT format('REVOKE %s%s ON %s %s FROM %I', r.privilege,
			'(' || (SELECT string_agg(quote_ident(c.name), ', ') FROM unnest(r.columns) AS c (name)) || ')',
			r.kind, r.identity, pg_get_userbyid(esim_revoke.grantee))
		FROM @extschema@.esim_scope_rights() r
		WHERE r.scope = ANY (esim_revoke.scopes) AND r.object IS NOT NULL
		UNION ALL
		SELECT format('REVOKE USAGE ON SCHEMA @extschema@ FROM %I', pg_get_userbyid(esim_revoke.grantee))
		WHERE kept IS NULL
	LOOP
		EXECUTE statement;
	END LOOP;
	-- scopes share rights
	IF kept IS NOT NULL THEN
		PERFORM @extschema@.esim_grant_scopes(esim_revoke.grantee, kept);
	END IF;
	PERFORM @extschema@.esim_audit_scopes('esim_revoke', 'REVOKED', esim_revoke.grantee, esim_revoke.scopes);
END
$$;
COMMENT ON FUNCTION esim_revoke(regrole, text[]) IS
'Revokes scopes that were granted to the role itself; rights that they share with scopes it keeps stay, and with the last scope USAGE on the schema goes too. Unknown scope: ES400.';

/*
 * Naming a server needs USAGE on it, and a server must be one of esim_rsp.  In
 * esim_device users write the name themselves.  Superusers, and so the restore
 * of a dump, are not asked.
 */
CREATE FUNCTION esim_device_server() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_OP = 'UPDATE' AND NEW.server IS NOT DISTINCT FROM OLD.server
		OR (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user)
	THEN
		RETURN NEW;
	END IF;
	PERFORM FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
	WHERE s.srvname = NEW.server AND w.fdwname = 'esim_rsp' AND has_server_privilege(s.oid, 'USAGE');
	IF NOT FOUND THEN
		RAISE EXCEPTION 'permission denied for server "%"', NEW.server
		USING ERRCODE = 'ES403',
			DETAIL = 'PERMISSION_DENIED: It does not exist, or the role may not use it.',
			HINT = 'An administrator can GRANT USAGE ON FOREIGN SERVER.';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION esim_device_server() IS 'Trigger: whoever names the server of a device has USAGE on it.';
CREATE TRIGGER esim_device_server BEFORE INSERT OR UPDATE OF server ON esim_device
	FOR EACH ROW WHEN (NEW.server IS NOT NULL) EXECUTE FUNCTION esim_device_server();
COMMENT ON TRIGGER esim_device_server ON esim_device IS 'Whoever names the server of a device has USAGE on it.';

/* ------------------------------------------------------------------------
 * Row-level security
 * ------------------------------------------------------------------------ */

/*
 * What policies ask.  A condition is looked at before others by its cost, and
 * LEAKPROOF ones of a query may come before those of a policy: these come
 * first of all, so that nothing that a query asks is asked of a row of another
 * owner.  src/right/ has the rest of it.
 */
CREATE FUNCTION esim_visible_support(internal) RETURNS internal
AS 'MODULE_PATHNAME', 'esim_visible_support' LANGUAGE C STRICT;
COMMENT ON FUNCTION esim_visible_support(internal) IS 'Internal: planner support of the functions that policies ask.';
CREATE FUNCTION esim_roles() RETURNS oid[]
AS 'MODULE_PATHNAME', 'esim_roles' LANGUAGE C STABLE LEAKPROOF PARALLEL SAFE;
COMMENT ON FUNCTION esim_roles() IS
'The current role and all roles whose rights it has as a member, directly or not. Policies use it to find rows by an index on the owner.';
CREATE FUNCTION esim_visible(owner regrole, owner_name name) RETURNS boolean
AS 'MODULE_PATHNAME', 'esim_visible' LANGUAGE C STABLE STRICT LEAKPROOF PARALLEL SAFE COST 0.0001 SUPPORT esim_visible_support;
COMMENT ON FUNCTION esim_visible(regrole, name) IS 'For policies: the current role has the rights of the owner, and the owner still is the role of that name.';
CREATE FUNCTION esim_operation_visible(operation uuid) RETURNS boolean
AS 'MODULE_PATHNAME', 'esim_operation_visible' LANGUAGE C STABLE STRICT LEAKPROOF PARALLEL SAFE COST 0.0001 SUPPORT esim_visible_support;
COMMENT ON FUNCTION esim_operation_visible(uuid) IS 'For policies: the current role sees the operation.';
CREATE FUNCTION esim_profile_visible(profile uuid) RETURNS boolean
AS 'MODULE_PATHNAME', 'esim_profile_visible' LANGUAGE C STABLE STRICT LEAKPROOF PARALLEL SAFE COST 0.0001 SUPPORT esim_visible_support;
COMMENT ON FUNCTION esim_profile_visible(uuid) IS 'For policies: the current role sees the profile.';
CREATE FUNCTION esim_device_visible(eid eid) RETURNS boolean
AS 'MODULE_PATHNAME', 'esim_device_visible' LANGUAGE C STABLE STRICT LEAKPROOF PARALLEL SAFE COST 0.0001 SUPPORT esim_visible_support;
COMMENT ON FUNCTION esim_device_visible(eid) IS 'For policies: the current role sees a device with that EID.';

/*
 * A row is seen by members of its owner, while the owner still is the role of
 * that name.  The first condition decides; the second finds the rows by an
 * index that begins with the owner.  What hangs on such a row is seen with it.
 */
DO $$
DECLARE
	of_owner CONSTANT text := '@extschema@.esim_visible(owner, owner_name) AND owner = ANY (@extschema@.esim_roles())';
	name text;
BEGIN
	FOREACH name IN ARRAY ARRAY['device', 'profile', 'operation', 'fleet'] LOOP
		EXECUTE format('CREATE POLICY esim_owner ON @extschema@.%I FOR SELECT USING (%s)', 'esim_' || name, of_owner);
		EXECUTE format('COMMENT ON POLICY esim_owner ON @extschema@.%I IS %L', 'esim_' || name, 'Members of the owner see the row.');
	END LOOP;
	EXECUTE format('CREATE POLICY esim_owner_insert ON @extschema@.esim_device FOR INSERT WITH CHECK (%s)', of_owner);
	EXECUTE format('CREATE POLICY esim_owner_update ON @extschema@.esim_device FOR UPDATE USING (%s) WITH CHECK (%s)', of_owner, of_owner);
END
$$;
COMMENT ON POLICY esim_owner_insert ON esim_device IS 'Devices are registered for roles that one is a member of.';
COMMENT ON POLICY esim_owner_update ON esim_device IS 'Members of the owner change what column rights let them.';

-- the owner beside them is not always the last one: what they hang on decides
CREATE POLICY esim_owner ON esim_device_state FOR SELECT
	USING (esim_visible(owner, owner_name) AND owner = ANY (esim_roles()) AND esim_device_visible(eid));
COMMENT ON POLICY esim_owner ON esim_device_state IS 'Seen with the device.';
CREATE POLICY esim_owner ON esim_attempt FOR SELECT USING (esim_operation_visible(operation));
COMMENT ON POLICY esim_owner ON esim_attempt IS 'Seen with the operation.';
CREATE POLICY esim_owner ON esim_notification FOR SELECT USING (esim_operation_visible(operation));
COMMENT ON POLICY esim_owner ON esim_notification IS 'Seen with the operation.';
CREATE POLICY esim_owner ON esim_profile_event FOR SELECT USING (esim_profile_visible(profile));
COMMENT ON POLICY esim_owner ON esim_profile_event IS 'Seen with the profile.';
CREATE POLICY esim_owner ON esim_drift FOR SELECT
	USING (esim_visible(owner, owner_name) AND owner = ANY (esim_roles())
		AND CASE WHEN profile IS NOT NULL THEN esim_profile_visible(profile) ELSE esim_device_visible(eid) END);
COMMENT ON POLICY esim_owner ON esim_drift IS 'Seen with the profile, else with the device.';
/*
 * Who was given a right, by the scope admin or by GRANT, has it for all rows,
 * but not members of pg_read_all_data and pg_write_all_data, who were not.
 */
DO $$
DECLARE
	granted CONSTANT text := '(SELECT bool_or(a.grantee = 0 OR pg_has_role(a.grantee, ''USAGE''))'
		' FROM pg_catalog.pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a'
		' WHERE c.oid = %L::regclass AND a.privilege_type = %L)';
	line text;
	relation text;
	command text;
	condition text;
BEGIN
	FOREACH line IN ARRAY ARRAY['audit SELECT', 'event SELECT', 'notification_point SELECT', 'notification_point INSERT',
		'notification_point UPDATE', 'notification_point DELETE']
	LOOP
		relation := '@extschema@.' || quote_ident('esim_' || split_part(line, ' ', 1));
		command := split_part(line, ' ', 2);
		condition := format(granted, relation, command);
		EXECUTE format('CREATE POLICY %I ON %s FOR %s %s (%s)', 'esim_' || lower(command), relation, command,
			CASE command WHEN 'INSERT' THEN 'WITH CHECK' ELSE 'USING' END, condition);
		EXECUTE format('COMMENT ON POLICY %I ON %s IS %L', 'esim_' || lower(command), relation,
			format('Who was given %s, as by the scope admin, has it for all rows.', command));
	END LOOP;
END
$$;
CREATE POLICY esim_reader ON esim_paused FOR SELECT USING (true);
COMMENT ON POLICY esim_reader ON esim_paused IS 'What is paused is no secret to those who have operations.';

/* ------------------------------------------------------------------------
 * The worker's role
 * ------------------------------------------------------------------------ */

/*
 * A role of the whole cluster: another database may have made it.  It is
 * nobody's group, has no attribute but LOGIN, and no password; so nobody
 * becomes it but through the background workers.
 */
DO $$
DECLARE
	worker text := coalesce(nullif(current_setting('esim.worker_role', true), ''), 'esim_worker');
	present pg_roles;
	line text;
BEGIN
	SELECT r.* INTO present FROM pg_roles r WHERE r.rolname = worker;
	IF present.oid IS NULL THEN
		EXECUTE format('CREATE ROLE %I LOGIN', worker);
		EXECUTE format('COMMENT ON ROLE %I IS %L', worker, 'Background workers of the extension esim; without password.');
	ELSIF present.rolsuper OR present.rolcreaterole OR present.rolcreatedb OR present.rolreplication OR present.rolbypassrls THEN
		RAISE EXCEPTION 'role "%" cannot be the role of esim''s workers', worker
		USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = 'It is a superuser, or has CREATEROLE, CREATEDB, REPLICATION or BYPASSRLS.',
			HINT = 'Take the attributes away, or name another role in esim.worker_role.';
	ELSIF NOT present.rolcanlogin THEN
		RAISE EXCEPTION 'role "%" cannot be the role of esim''s workers', worker
		USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = 'Workers connect as it, and it has no LOGIN.',
			HINT = 'ALTER ROLE ... LOGIN, without a password, or name another role in esim.worker_role.';
	ELSIF EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = present.oid) THEN
		RAISE EXCEPTION 'role "%" cannot be the role of esim''s workers', worker
		USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = 'It has members, who would have its rights on everybody''s rows.',
			HINT = 'Revoke it from its members, or name another role in esim.worker_role.';
	END IF;

	IF NOT has_database_privilege(worker, current_database(), 'CONNECT') THEN
		EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), worker);
	END IF;
	EXECUTE format('GRANT USAGE ON SCHEMA @extschema@ TO %I', worker);

	/*
	 * Owners, lanes, and what an operation asks for: the worker reads them and
	 * writes them in new rows only.
	 */
	FOREACH line IN ARRAY ARRAY[
		'SELECT, INSERT, UPDATE, DELETE|pending',
		'SELECT, INSERT|operation',
		'UPDATE (eid, iccid, profile, status, result, phase, phase_reason, next_at, attempts, error_code, error_message,'
			' rsp_operation_id, rsp_code, rsp_message, sent_at, completed_at)|operation',
		'SELECT, INSERT, UPDATE|attempt',
		'SELECT, INSERT|profile',
		'UPDATE (iccid, eid, port, state, is_fallback, profile_class, server, reserved_eid, smdp_address, matching_id,'
			' activation_code, redownload, profile_type, subscription_server, subscription_status, sim_id, fleet, msisdn, imsi,'
			' rsp_id, rsp_state, rsp_iccid, state_at, state_source, drift)|profile',
		'SELECT|device',
		'SELECT, INSERT, UPDATE, DELETE|device_state',
		'SELECT, INSERT|profile_event',
		'SELECT, INSERT, UPDATE|drift',
		'SELECT, INSERT, UPDATE, DELETE|deferred',
		'SELECT, DELETE|operation_secret',
		'UPDATE (confirmation_code)|operation_secret',
		'SELECT|credential',
		'SELECT, INSERT|paused',
		'SELECT, INSERT, UPDATE, DELETE|notification',
		'SELECT, INSERT, UPDATE|fleet']
	LOOP
		EXECUTE format('GRANT %s ON @extschema@.%I TO %I', split_part(line, '|', 1), 'esim_' || split_part(line, '|', 2), worker);
	END LOOP;
	FOR line IN
		SELECT DISTINCT c.relname
		FROM pg_class c
		WHERE c.relnamespace = '@extschema@'::regnamespace
		AND c.relname IN ('esim_pending', 'esim_operation', 'esim_attempt', 'esim_profile', 'esim_device', 'esim_device_state',
			'esim_profile_event', 'esim_drift', 'esim_deferred', 'esim_operation_secret', 'esim_paused',
			'esim_notification', 'esim_credential', 'esim_fleet')
	LOOP
		EXECUTE format('CREATE POLICY esim_worker ON @extschema@.%I TO %I USING (true) WITH CHECK (true)', line, worker);
		EXECUTE format('COMMENT ON POLICY esim_worker ON @extschema@.%I IS %L', line, 'Workers are about everybody''s rows.');
	END LOOP;
	FOR line IN
		SELECT c.oid::regclass::text
		FROM pg_class c
		JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
		JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'esim'
		WHERE c.relkind = 'S'
	LOOP
		EXECUTE format('GRANT USAGE ON SEQUENCE %s TO %I', line, worker);
	END LOOP;
END
$$;

/* ------------------------------------------------------------------------
 * Nobody else
 * ------------------------------------------------------------------------ */

/*
 * Row-level security on every table, and no rights but those above: default
 * privileges of whoever installs may have given some away.  What stays with
 * PUBLIC: using the types (their functions, operators and casts, and those
 * that only work on identifiers), and what policies call.
 */
DO $$
DECLARE
	worker text := coalesce(nullif(current_setting('esim.worker_role', true), ''), 'esim_worker');
	statement text;
BEGIN
	FOR statement IN
		WITH member AS (
			SELECT d.classid, d.objid
			FROM pg_depend d
			JOIN pg_extension e ON e.oid = d.refobjid
			WHERE d.refclassid = 'pg_extension'::regclass AND e.extname = 'esim' AND d.deptype = 'e'
		)
		SELECT format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', c.oid::regclass)
		FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
		WHERE c.relkind = 'r'
		UNION ALL
		SELECT format('REVOKE ALL ON %s %s FROM %s', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass,
			CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END)
		FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
		CROSS JOIN LATERAL (
			SELECT 0::oid AS grantee
			UNION
			SELECT a.grantee FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner AND pg_get_userbyid(a.grantee) <> worker) g
		WHERE c.relkind IN ('r', 'v', 'S')
		UNION ALL
		SELECT format('REVOKE ALL ON FUNCTION %s FROM %s', p.oid::regprocedure,
			CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END)
		FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
		CROSS JOIN LATERAL (
			SELECT 0::oid AS grantee
			WHERE p.prokind <> 'a'
			AND p.proname !~ '^esim_(eid|iccid|activation_code)_|^esim_(ac|qr)_|^esim_(build_activation_code|qr|roles|visible|(operation|profile|device)_visible)$'
			UNION
			SELECT a.grantee FROM aclexplode(p.proacl) a WHERE a.grantee <> p.proowner AND a.grantee <> 0) g
	LOOP
		EXECUTE statement;
	END LOOP;
END
$$;
