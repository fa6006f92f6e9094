/*
 * Upkeep by the clock: jobs of pg_cron, and the refresh that they call.
 *
 * pg_cron keeps its jobs in one database of the cluster.  Where that is this
 * one, its functions are called with the caller's rights, and pg_cron runs the
 * jobs as the caller.  Where it is another one, they cannot be called from
 * here: the statements to run there are handed out.  With esim in pg_cron's
 * database as well, the option "database" schedules from there.
 */

CREATE FUNCTION esim_cron_database() RETURNS name
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- ordinary roles may not read it
	place text := nullif(current_setting('cron.database_name', true), '');
BEGIN
	IF place IS NULL OR current_setting('shared_preload_libraries') !~ '\mpg_cron\M' THEN
		RAISE EXCEPTION 'pg_cron is not there'
		USING ERRCODE = 'ES503',
			DETAIL = 'UNAVAILABLE: Its library is not loaded.',
			HINT = 'Install it (Debian: postgresql-15-cron), add pg_cron to shared_preload_libraries, restart, and CREATE EXTENSION pg_cron; or have another scheduler call esim_prune() and esim_refresh_oldest().';
	ELSIF place = current_database() AND NOT EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_cron') THEN
		RAISE EXCEPTION 'the extension pg_cron is not there'
		USING ERRCODE = 'ES503',
			DETAIL = 'UNAVAILABLE: Its library is loaded and this is its database, but the extension was not created.',
			HINT = 'CREATE EXTENSION pg_cron.';
	END IF;
	RETURN place;
END
$$;
COMMENT ON FUNCTION esim_cron_database() IS 'Internal: the database of pg_cron; raises ES503 where there is no pg_cron.';

CREATE FUNCTION esim_check_cron(target name) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_database d WHERE d.datname = target) THEN
		RAISE EXCEPTION 'database "%" does not exist', target
		USING ERRCODE = 'ES404',
			DETAIL = 'NOT_FOUND: There is no database of the option "database".',
			HINT = 'Without the option it is the current one.';
	END IF;
	IF NOT has_schema_privilege('cron', 'USAGE') THEN
		RAISE EXCEPTION 'permission denied for schema cron'
		USING ERRCODE = 'insufficient_privilege',
			DETAIL = 'Jobs are scheduled with the rights of the role that calls, and run as that role.',
			HINT = 'A superuser can GRANT USAGE ON SCHEMA cron.';
	END IF;
END
$$;
COMMENT ON FUNCTION esim_check_cron(name) IS 'Internal: raises ES404 for a database that is not there, 42501 where the caller may not use pg_cron.';

CREATE FUNCTION esim_audit_maintenance(removed integer DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF removed IS NULL THEN
		PERFORM @extschema@.esim_audit_note('esim_schedule_maintenance', 'SCHEDULED');
	ELSE
		PERFORM @extschema@.esim_audit_note('esim_unschedule_maintenance', format('REMOVED %s', removed));
	END IF;
END
$$;
COMMENT ON FUNCTION esim_audit_maintenance(integer) IS
'Internal: writes a row into esim_audit for esim_schedule_maintenance() and esim_unschedule_maintenance(), which run with their caller''s rights.';

CREATE FUNCTION esim_refresh_oldest(batch integer DEFAULT 1000) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	-- a refresh that did not succeed is not asked for again before
	again CONSTANT interval := '3 days';
	-- and one that waits for its device makes way for the next
	expiry CONSTANT interval := '20 hours';
	able text[];
	bound_id uuid;
	found @extschema@.eid[];
	passed_over @extschema@.eid[];
	nestloop CONSTANT text := current_setting('enable_nestloop');
	refused @extschema@.eid[];
	n bigint;
	queued bigint := 0;
BEGIN
	IF batch IS NULL OR batch NOT BETWEEN 1 AND 1000000 THEN
		RAISE EXCEPTION 'batch is out of range'
		USING ERRCODE = 'ES400', DETAIL = 'OUT_OF_RANGE: It is a number from 1 to 1000000.',
			HINT = 'The default is 1000.';
	END IF;
	SELECT array_agg(c.server) INTO able FROM @extschema@.esim_capabilities() c WHERE c.kind = 'refresh' AND c.supported;
	-- the time of the request leads the key
	bound_id := (lpad(to_hex(floor(extract(epoch FROM now() - again) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid;

	passed_over := ARRAY(
		SELECT o.eid FROM @extschema@.esim_operation o
		WHERE o.id >= bound_id AND o.kind = 'refresh' AND o.eid IS NOT NULL AND o.result IS DISTINCT FROM 'SUCCESS'
		UNION ALL
		SELECT q.eid FROM @extschema@.esim_pending q WHERE q.kind = 'refresh' AND q.eid IS NOT NULL);

	-- who cannot be asked makes way for others, but not for ever
	FOR i IN 1 .. 3 LOOP
		-- the planner takes what is passed over for little, whatever it is
		PERFORM set_config('enable_nestloop', 'off', true);
		found := ARRAY(
			SELECT d.eid
			FROM @extschema@.esim_device d
			LEFT JOIN @extschema@.esim_device_state s ON s.eid OPERATOR(@extschema@.=) d.eid
			WHERE d.retired_at IS NULL
			AND pg_get_userbyid(d.owner) = d.owner_name
			AND (d.server IS NULL OR d.server = ANY (able))
			AND NOT EXISTS (SELECT FROM @extschema@.esim_paused p WHERE p.server IS NULL OR p.server = d.server)
			AND NOT EXISTS (SELECT FROM unnest(passed_over) AS f (eid) WHERE f.eid OPERATOR(@extschema@.=) d.eid)
			ORDER BY greatest(s.last_seen_at, s.refreshed_at) NULLS FIRST, d.created_at, d.eid USING OPERATOR(@extschema@.<)
			LIMIT batch - queued
			FOR NO KEY UPDATE OF d SKIP LOCKED);
		PERFORM set_config('enable_nestloop', nestloop, true);
		EXIT WHEN cardinality(found) = 0;
		SELECT count(r.operation), array_agg(found[r.ordinal]) FILTER (WHERE r.operation IS NULL)
		INTO n, refused
		FROM @extschema@.esim_refresh_many(eids => found, priority => 100::smallint, expires_at => now() + expiry,
			on_error => 'report') r;
		queued := queued + n;
		EXIT WHEN refused IS NULL;
		passed_over := passed_over || refused;
	END LOOP;
	PERFORM @extschema@.esim_audit_note('esim_refresh_oldest', format('QUEUED %s', queued));
	RETURN queued;
END
$$;
COMMENT ON FUNCTION esim_refresh_oldest(integer) IS
'Queues a refresh of the batch eUICCs that were not heard of for longest (never ones first), of all owners; returns how many were queued. Left out: retired ones, those whose server is paused or cannot list profiles, those that are being refreshed or that a refresh of the last three days failed for, and rows that others have locked. The refreshes have priority 100, behind those of users, and expire after 20 hours. Errors: OUT_OF_RANGE (ES400).';

CREATE FUNCTION esim_schedule_maintenance(options jsonb DEFAULT '{}', OUT job text, OUT schedule text, OUT command text) RETURNS SETOF record
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	option record;
	prune_schedule text := '17 * * * *';
	prune_call text := 'esim_prune()';
	refresh_schedule text := '23 2 * * *';
	refresh_rate integer := 1000;
	target name := current_database();
	target_schema name;
	cron name;
	old bigint;
BEGIN
	-- the library must be there for its settings to be
	PERFORM @extschema@.esim_eid_valid('');
	SELECT n.nspname INTO target_schema
	FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'esim';
	IF jsonb_typeof(options) IS DISTINCT FROM 'object' THEN
		RAISE EXCEPTION 'options must be a JSON object'
		USING ERRCODE = 'ES400', DETAIL = 'INVALID_ARGUMENT: They are not an object.',
			HINT = 'Options are prune_schedule, audit_older_than, refresh_schedule, refresh_rate, database and schema.';
	END IF;
	FOR option IN SELECT e.key, jsonb_typeof(e.value) AS type, options ->> e.key AS text FROM jsonb_each(options) e LOOP
		IF option.key IN ('prune_schedule', 'refresh_schedule') AND option.type IN ('string', 'null') THEN
			IF option.text !~ '^[0-9A-Za-z@*][0-9A-Za-z*/, @-]{0,99}$' THEN
				RAISE EXCEPTION 'invalid value for option "%": "%"', option.key, "left"(option.text, 100)
				USING ERRCODE = 'ES400', DETAIL = 'INVALID_ARGUMENT: It is no schedule of pg_cron.',
					HINT = 'Write for instance "17 * * * *", or null for no such job.';
			END IF;
			IF option.key = 'prune_schedule' THEN
				prune_schedule := option.text;
			ELSE
				refresh_schedule := option.text;
			END IF;
		ELSIF option.key = 'refresh_rate' AND option.type = 'number' THEN
			IF option.text::numeric NOT BETWEEN 1 AND 1000000 OR option.text::numeric % 1 <> 0 THEN
				RAISE EXCEPTION 'option "refresh_rate" is out of range'
				USING ERRCODE = 'ES400', DETAIL = 'OUT_OF_RANGE: It is a whole number of eUICCs from 1 to 1000000.',
					HINT = 'The default is 1000 for each run of the job.';
			END IF;
			refresh_rate := option.text::numeric::integer;
		ELSIF option.key IN ('database', 'schema') AND option.type = 'string' THEN
			IF octet_length(option.text) NOT BETWEEN 1 AND 63 THEN
				RAISE EXCEPTION 'option "%" is no name', option.key
				USING ERRCODE = 'ES400', DETAIL = 'INVALID_ARGUMENT: A name has 1 to 63 bytes.',
					HINT = 'Without the option it is the one in which this function is.';
			END IF;
			IF option.key = 'database' THEN
				target := option.text;
			ELSE
				target_schema := option.text;
			END IF;
		ELSIF option.key = 'audit_older_than' AND option.type = 'string' THEN
			BEGIN
				IF option.text::interval < current_setting('esim.retention')::interval THEN
					RAISE EXCEPTION 'option "audit_older_than" is out of range'
					USING ERRCODE = 'ES400',
						DETAIL = format('OUT_OF_RANGE: Rows of esim_audit are kept for esim.retention, %s, at least.', current_setting('esim.retention')),
						HINT = 'Write for instance {"audit_older_than": "2 years"}.';
				END IF;
			EXCEPTION WHEN data_exception THEN
				RAISE EXCEPTION 'invalid value for option "audit_older_than": "%"', "left"(option.text, 100)
				USING ERRCODE = 'ES400', DETAIL = 'INVALID_ARGUMENT: It is not an interval.',
					HINT = 'Write for instance {"audit_older_than": "2 years"}.';
			END;
			prune_call := format('esim_prune(%L)', jsonb_build_object('audit_older_than', option.text));
		ELSIF option.key IN ('prune_schedule', 'audit_older_than', 'refresh_schedule', 'refresh_rate', 'database', 'schema') THEN
			RAISE EXCEPTION 'option "%" has the wrong type', option.key
			USING ERRCODE = 'ES400', DETAIL = format('INVALID_ARGUMENT: It is of type %s.', option.type),
				HINT = 'refresh_rate is a number, the others are texts; a schedule may be null.';
		ELSE
			RAISE EXCEPTION 'unknown option "%"', "left"(option.key, 100)
			USING ERRCODE = 'ES400', DETAIL = 'INVALID_ARGUMENT: There is no such option.',
				HINT = 'Options are prune_schedule, audit_older_than, refresh_schedule, refresh_rate, database and schema.';
		END IF;
	END LOOP;

	cron := @extschema@.esim_cron_database();
	IF cron <> current_database() AND target <> current_database() THEN
		RAISE EXCEPTION 'jobs for another database are scheduled in the database of pg_cron'
		USING ERRCODE = 'ES400', DETAIL = format('INVALID_ARGUMENT: pg_cron is in the database "%s".', cron),
			HINT = 'Leave the option "database" out, or call the function there.';
	END IF;
	IF cron = current_database() THEN
		PERFORM @extschema@.esim_check_cron(target);
		FOR old IN EXECUTE
			'SELECT j.jobid FROM cron.job j WHERE j.database = $1 AND j.jobname ~ ''^esim_(prune|refresh)/'''
			USING target
		LOOP
			EXECUTE 'SELECT cron.unschedule($1)' USING old;
		END LOOP;
	END IF;

	FOR job, schedule, command IN
		-- a name is unique for its role in all of pg_cron
		SELECT CASE WHEN octet_length(target) <= 50 THEN format('esim_%s/%s', v.what, target)
				ELSE format('esim_%s/%s', v.what, md5(target)) END,
			v.schedule, format('SELECT %I.%s', target_schema, v.call)
		FROM (VALUES ('prune', prune_schedule, prune_call),
			('refresh', refresh_schedule, format('esim_refresh_oldest(%s)', refresh_rate))) AS v (what, schedule, call)
		WHERE v.schedule IS NOT NULL
	LOOP
		IF cron <> current_database() THEN
			command := format('SELECT cron.schedule_in_database(%L, %L, %L, %L)', job, schedule, command, target);
		ELSIF target = current_database() THEN
			EXECUTE 'SELECT cron.schedule($1, $2, $3)' USING job, schedule, command;
		ELSE
			EXECUTE 'SELECT cron.schedule_in_database($1, $2, $3, $4)' USING job, schedule, command, target::text;
		END IF;
		RETURN NEXT;
	END LOOP;

	IF cron = current_database() THEN
		PERFORM @extschema@.esim_audit_maintenance();
	END IF;
	IF cron <> current_database() THEN
		RAISE NOTICE 'pg_cron is in the database "%": nothing has been scheduled yet', cron
		USING HINT = 'Run the statements of the column "command" there, as the role that the jobs are to run as.';
	ELSIF NOT (SELECT r.rolcanlogin FROM pg_roles r WHERE r.rolname = current_user) THEN
		RAISE WARNING 'role "%" cannot log in', current_user
		USING DETAIL = 'pg_cron runs the jobs as that role.', HINT = 'Call the function as a role that has LOGIN.';
	END IF;
END
$$;
COMMENT ON FUNCTION esim_schedule_maintenance(jsonb) IS
'Registers the jobs of this database with pg_cron, in place of those that were registered before, and shows them: esim_prune/<database> hourly, esim_refresh/<database> nightly. pg_cron runs them as the role that calls, which needs LOGIN, the scope admin and USAGE on the schema cron. options: prune_schedule, refresh_schedule (as pg_cron has them; null: no such job), audit_older_than (as of esim_prune(); without it esim_audit is not pruned), refresh_rate (eUICCs for each run, default 1000); database, schema: for another database, called in that of pg_cron by a role that may call cron.schedule_in_database(). Where pg_cron is in another database nothing is registered: command is then the statement to run there. No pg_cron at all: ES503; unknown option: ES400; unknown database: ES404.';

CREATE FUNCTION esim_unschedule_maintenance(options jsonb DEFAULT '{}') RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	target name := current_database();
	cron name;
	old bigint;
	removed integer := 0;
BEGIN
	IF jsonb_typeof(options) IS DISTINCT FROM 'object' OR (options - 'database') <> '{}'
		OR jsonb_typeof(options -> 'database') <> 'string'
	THEN
		RAISE EXCEPTION 'options are not valid'
		USING ERRCODE = 'ES400', DETAIL = 'INVALID_ARGUMENT: They are not an object of the options that there are.',
			HINT = 'The only option is database, a text.';
	END IF;
	target := coalesce(options ->> 'database', target);
	cron := @extschema@.esim_cron_database();
	IF cron <> current_database() THEN
		RAISE NOTICE 'pg_cron is in the database "%": nothing has been unscheduled', cron
		USING HINT = format('Run there: SELECT cron.unschedule(jobid) FROM cron.job WHERE database = %L AND jobname ~ ''^esim_(prune|refresh)/'';', target);
		RETURN 0;
	END IF;
	-- jobs of a database that is gone can be taken away, too
	PERFORM @extschema@.esim_check_cron(current_database());
	FOR old IN EXECUTE
		'SELECT j.jobid FROM cron.job j WHERE j.database = $1 AND j.jobname ~ ''^esim_(prune|refresh)/'''
		USING target
	LOOP
		EXECUTE 'SELECT cron.unschedule($1)' USING old;
		removed := removed + 1;
	END LOOP;
	PERFORM @extschema@.esim_audit_maintenance(removed);
	RETURN removed;
END
$$;
COMMENT ON FUNCTION esim_unschedule_maintenance(jsonb) IS
'Takes the jobs of this database away from pg_cron: the caller''s, a superuser''s call everybody''s. Returns how many there were; 0 is no error. options: database, for another database, called in that of pg_cron. Where pg_cron is in another database a NOTICE says what to run there. No pg_cron at all: ES503.';
