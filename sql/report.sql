/*
 * Views and functions that report.
 *
 * The views are security_invoker: whoever reads one sees what row-level
 * security shows of the tables below it.  The queue is readable by none, so
 * what is said of it comes from functions that look at the caller first.
 */

CREATE FUNCTION esim_queue_counts(OUT server text, OUT kind text, OUT queued bigint, OUT running bigint, OUT parked bigint, OUT oldest timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'esim_queue_counts' LANGUAGE C STABLE;
COMMENT ON FUNCTION esim_queue_counts() IS
'Unfinished operations of the roles that the caller is a member of (a superuser: all), by server and kind. Below the view esim_queue.';

CREATE VIEW esim_queue WITH (security_invoker = true) AS
SELECT q.server, q.kind, q.queued, q.running, q.parked, q.oldest
FROM esim_queue_counts() q;
COMMENT ON VIEW esim_queue IS 'Unfinished operations by server and kind: how deep is the queue, and how old. Counts the queue, not the history.';
COMMENT ON COLUMN esim_queue.server IS 'Server that carries them out.';
COMMENT ON COLUMN esim_queue.kind IS 'Kind of the operations.';
COMMENT ON COLUMN esim_queue.queued IS 'Operations of which nothing that acts was sent yet.';
COMMENT ON COLUMN esim_queue.running IS 'Operations that were sent, or are about to be: the RSP or the eUICC has not answered for good.';
COMMENT ON COLUMN esim_queue.parked IS 'Operations that wait for an administrator; see phase_reason in esim_operation.';
COMMENT ON COLUMN esim_queue.oldest IS 'When the oldest of them was asked for.';

CREATE VIEW esim_inventory WITH (security_invoker = true) AS
SELECT p.id AS profile,
	p.iccid,
	p.eid,
	p.owner,
	d.label,
	d.device_ref,
	coalesce(CASE WHEN p.state IN ('INSTALLED', 'DISABLED', 'ENABLED', 'DOWNLOADED') THEN d.server END, p.server, d.server) AS server,
	p.state,
	p.is_fallback,
	p.profile_class,
	p.profile_type,
	p.subscription_status,
	p.subscription_server,
	p.fleet,
	p.msisdn,
	p.state_at,
	pg_catalog.now() - p.state_at AS state_age,
	p.state_source,
	p.drift,
	s.last_seen_at,
	o.id AS last_operation,
	o.kind AS last_kind,
	o.status AS last_status,
	o.phase AS last_phase,
	o.result AS last_result,
	o.error_code AS last_error_code,
	coalesce(o.completed_at, o.created_at) AS last_operation_at
FROM esim_profile p
LEFT JOIN esim_device d ON d.eid = p.eid
LEFT JOIN esim_device_state s ON s.eid = p.eid
LEFT JOIN LATERAL (
	SELECT l.id, l.kind, l.status, l.phase, l.result, l.error_code, l.created_at, l.completed_at
	FROM esim_operation l
	WHERE l.profile = p.id
	ORDER BY l.seq DESC
	LIMIT 1
) o ON true
WHERE p.state NOT IN ('DELETED', 'CANCELLED', 'FAILED');
COMMENT ON VIEW esim_inventory IS 'One row per live profile: where it is, in which state, how old that knowledge is, and what was last asked for.';
COMMENT ON COLUMN esim_inventory.profile IS 'esim_profile.id.';
COMMENT ON COLUMN esim_inventory.iccid IS 'ICCID, where it is known.';
COMMENT ON COLUMN esim_inventory.eid IS 'eUICC that it is on, or is bound to.';
COMMENT ON COLUMN esim_inventory.owner IS 'Role that owns the profile.';
COMMENT ON COLUMN esim_inventory.label IS 'The owner''s name for the device.';
COMMENT ON COLUMN esim_inventory.device_ref IS 'The owner''s key of the device in another system.';
COMMENT ON COLUMN esim_inventory.server IS 'Server that manages it: on the eUICC the device''s, before that the one that prepared it.';
COMMENT ON COLUMN esim_inventory.state IS 'State as last known.';
COMMENT ON COLUMN esim_inventory.is_fallback IS 'It has the fallback attribute (SGP.32).';
COMMENT ON COLUMN esim_inventory.profile_class IS 'OPERATIONAL, PROVISIONING or TEST.';
COMMENT ON COLUMN esim_inventory.profile_type IS 'Profile type (ES2+).';
COMMENT ON COLUMN esim_inventory.subscription_status IS 'Status of the subscription in the network.';
COMMENT ON COLUMN esim_inventory.subscription_server IS 'Server that has the subscription.';
COMMENT ON COLUMN esim_inventory.fleet IS 'Fleet of the subscription.';
COMMENT ON COLUMN esim_inventory.msisdn IS 'Phone number, if the RSP says it.';
COMMENT ON COLUMN esim_inventory.state_at IS 'When the state was learned.';
COMMENT ON COLUMN esim_inventory.state_age IS 'Age of that knowledge.';
COMMENT ON COLUMN esim_inventory.state_source IS 'Where the knowledge is from: operation, refresh, event, import.';
COMMENT ON COLUMN esim_inventory.drift IS 'The RSP reported something that contradicts it; see esim_drift.';
COMMENT ON COLUMN esim_inventory.last_seen_at IS 'Last time that something proved the eUICC to be reachable.';
COMMENT ON COLUMN esim_inventory.last_operation IS 'Last operation that was asked for on the profile.';
COMMENT ON COLUMN esim_inventory.last_kind IS 'Its kind.';
COMMENT ON COLUMN esim_inventory.last_status IS 'Its status.';
COMMENT ON COLUMN esim_inventory.last_phase IS 'What it waits for.';
COMMENT ON COLUMN esim_inventory.last_result IS 'Its result.';
COMMENT ON COLUMN esim_inventory.last_error_code IS 'Its error code.';
COMMENT ON COLUMN esim_inventory.last_operation_at IS 'When it completed, else when it was asked for.';

/*
 * The parts are grouped by EID, so that a condition on the EID reaches the
 * indexes below, and a report on all devices is three hash joins.
 */
CREATE VIEW esim_device_summary WITH (security_invoker = true) AS
SELECT d.eid,
	d.owner,
	d.server,
	d.label,
	d.device_ref,
	d.imei,
	d.retired_at,
	coalesce(p.profiles, 0) AS profiles,
	p.enabled_iccid,
	coalesce(p.enabled, 0) AS enabled,
	p.fallback_iccid,
	coalesce(o.open_operations, 0) AS open_operations,
	s.last_seen_at,
	s.refreshed_at,
	s.free_memory,
	coalesce(x.open_drift, 0) AS open_drift
FROM esim_device d
LEFT JOIN esim_device_state s ON s.eid = d.eid
LEFT JOIN (
	SELECT e.eid,
		count(*) AS profiles,
		(array_agg(e.iccid ORDER BY e.port) FILTER (WHERE e.state = 'ENABLED'))[1] AS enabled_iccid,
		count(*) FILTER (WHERE e.state = 'ENABLED') AS enabled,
		(array_agg(e.iccid) FILTER (WHERE e.is_fallback))[1] AS fallback_iccid
	FROM esim_profile e
	WHERE e.eid IS NOT NULL AND e.state IN ('DOWNLOADED', 'INSTALLED', 'DISABLED', 'ENABLED')
	GROUP BY e.eid
) p ON p.eid = d.eid
LEFT JOIN (
	SELECT e.eid, count(*) AS open_operations
	FROM esim_operation e
	WHERE e.eid IS NOT NULL AND e.status = 'ACCEPTED'
	GROUP BY e.eid
) o ON o.eid = d.eid
LEFT JOIN (
	SELECT e.eid, count(*) AS open_drift
	FROM esim_drift e
	WHERE e.eid IS NOT NULL AND e.resolved_at IS NULL
	GROUP BY e.eid
) x ON x.eid = d.eid;
COMMENT ON VIEW esim_device_summary IS 'One row per eUICC: what is on it, what is under way, and when it was last heard of.';
COMMENT ON COLUMN esim_device_summary.eid IS 'EID.';
COMMENT ON COLUMN esim_device_summary.owner IS 'Role that owns the device.';
COMMENT ON COLUMN esim_device_summary.server IS 'Server that manages the eUICC.';
COMMENT ON COLUMN esim_device_summary.label IS 'The owner''s name for it.';
COMMENT ON COLUMN esim_device_summary.device_ref IS 'The owner''s key in another system.';
COMMENT ON COLUMN esim_device_summary.imei IS 'IMEI.';
COMMENT ON COLUMN esim_device_summary.retired_at IS 'Since when nothing may be asked of it any more.';
COMMENT ON COLUMN esim_device_summary.profiles IS 'Profiles on the eUICC.';
COMMENT ON COLUMN esim_device_summary.enabled_iccid IS 'ICCID of the enabled profile, of the lowest port where there are several.';
COMMENT ON COLUMN esim_device_summary.enabled IS 'Enabled profiles.';
COMMENT ON COLUMN esim_device_summary.fallback_iccid IS 'ICCID of the profile with the fallback attribute.';
COMMENT ON COLUMN esim_device_summary.open_operations IS 'Operations that are not completed.';
COMMENT ON COLUMN esim_device_summary.last_seen_at IS 'Last time that something proved the eUICC to be reachable.';
COMMENT ON COLUMN esim_device_summary.refreshed_at IS 'Last time that the RSP listed all its profiles.';
COMMENT ON COLUMN esim_device_summary.free_memory IS 'Free memory in bytes, if the RSP says it.';
COMMENT ON COLUMN esim_device_summary.open_drift IS 'Reports that contradict what esim knew, not resolved.';

CREATE VIEW esim_operation_summary WITH (security_invoker = true) AS
SELECT o.created_at::date AS day,
	o.server,
	o.kind,
	count(*) AS operations,
	count(*) FILTER (WHERE o.status = 'ACCEPTED') AS unfinished,
	count(*) FILTER (WHERE o.result = 'SUCCESS') AS succeeded,
	count(*) FILTER (WHERE o.result = 'FAILED') AS failed,
	count(*) FILTER (WHERE o.result = 'CANCELLED') AS cancelled,
	round(count(*) FILTER (WHERE o.result = 'SUCCESS')::numeric
		/ nullif(count(*) FILTER (WHERE o.result IN ('SUCCESS', 'FAILED')), 0), 4) AS success_rate,
	percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM o.completed_at - o.created_at)::double precision)
		FILTER (WHERE o.result = 'SUCCESS') AS p50_seconds,
	percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM o.completed_at - o.created_at)::double precision)
		FILTER (WHERE o.result = 'SUCCESS') AS p95_seconds
FROM esim_operation o
GROUP BY o.created_at::date, o.server, o.kind;
COMMENT ON VIEW esim_operation_summary IS 'Operations by day of the request (in the session''s time zone), server and kind: how many, how well, how fast. Reads the history; restrict it to the days that are needed.';
COMMENT ON COLUMN esim_operation_summary.day IS 'Day on which they were asked for.';
COMMENT ON COLUMN esim_operation_summary.server IS 'Server.';
COMMENT ON COLUMN esim_operation_summary.kind IS 'Kind.';
COMMENT ON COLUMN esim_operation_summary.operations IS 'All of them.';
COMMENT ON COLUMN esim_operation_summary.unfinished IS 'Still ACCEPTED.';
COMMENT ON COLUMN esim_operation_summary.succeeded IS 'Ended SUCCESS.';
COMMENT ON COLUMN esim_operation_summary.failed IS 'Ended FAILED.';
COMMENT ON COLUMN esim_operation_summary.cancelled IS 'Ended CANCELLED.';
COMMENT ON COLUMN esim_operation_summary.success_rate IS 'Succeeded of those that succeeded or failed, 0 to 1; NULL if there is none.';
COMMENT ON COLUMN esim_operation_summary.p50_seconds IS 'Median of the seconds from request to completion, of those that succeeded.';
COMMENT ON COLUMN esim_operation_summary.p95_seconds IS '95th percentile of the same.';

CREATE FUNCTION esim_capabilities(server text DEFAULT NULL, OUT server text, OUT protocol text, OUT kind text, OUT supported boolean, OUT note text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'esim_capabilities' LANGUAGE C STABLE;
COMMENT ON FUNCTION esim_capabilities(text) IS
'What a server can be asked for, one row per kind of operation; without a name: all servers. The note says why not, or under which condition. Unknown server: ES404.';

/*
 * SECURITY DEFINER: health is about everybody's operations, and gives figures
 * only.  Granted with the scope admin.
 */
CREATE FUNCTION esim_health(OUT ok boolean, OUT problems text[], OUT oldest_ready interval, OUT stuck bigint, OUT parked bigint,
	OUT paused_servers text[], OUT dead_sinks bigint, OUT missing_workers integer, OUT dangling_owners bigint, OUT open_drift bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ready_limit CONSTANT interval := '15 min';
	stuck_limit CONSTANT interval := '5 min';
	server_limit CONSTANT integer := 10;
	database_paused text;
	poll interval;
	wanted integer;
	running integer;
	waiting bigint;
	due bigint;
	last_error text;
	dangling text[];
	given_up bigint;
BEGIN
	-- the library must be there for its settings to be
	PERFORM @extschema@.esim_eid_valid('');
	problems := '{}';
	poll := current_setting('esim.poll_interval')::interval;
	wanted := current_setting('esim.workers')::integer;

	SELECT array_agg(p.server ORDER BY p.server) FILTER (WHERE p.server IS NOT NULL), max(p.reason) FILTER (WHERE p.server IS NULL)
	INTO paused_servers, database_paused
	FROM @extschema@.esim_paused p;
	paused_servers := coalesce(paused_servers, '{}');
	IF database_paused IS NOT NULL THEN
		problems := problems || format('all servers are paused: %s', database_paused);
	END IF;
	IF paused_servers <> '{}' THEN
		problems := problems || format('paused: %s', array_to_string(paused_servers, ', '));
	END IF;

	-- the time of a request leads its identifier
	SELECT count(*) FILTER (WHERE q.server <> ALL (paused_servers) AND
			(q.expires_at < now() - stuck_limit
			 OR q.state IN ('W', 'D') AND q.next_at < now() - stuck_limit
			 OR q.state = 'N' AND q.waits_for IS NULL AND q.asked < now() - stuck_limit)),
		count(*) FILTER (WHERE q.state = 'P'),
		count(*) FILTER (WHERE q.state <> 'P' AND q.server <> ALL (paused_servers)),
		count(*) FILTER (WHERE q.server <> ALL (paused_servers) AND q.asked < now() - 2 * poll
			AND (q.state IN ('N', 'R') OR q.state IN ('W', 'D') AND q.next_at < now() - 2 * poll))
	INTO stuck, parked, waiting, due
	FROM (
		SELECT p.state, p.server, p.next_at, p.expires_at, p.waits_for,
			to_timestamp(('x' || translate("left"(p.operation::text, 13), '-', ''))::bit(48)::bigint / 1000.0) AS asked
		FROM @extschema@.esim_pending p
	) q;

	-- what was behind another operation is ready since that one ended
	SELECT max(now() - greatest(o.created_at, o.not_before, (
		SELECT b.completed_at FROM @extschema@.esim_operation b
		WHERE b.eid OPERATOR(@extschema@.=) o.eid AND b.seq < o.seq AND b.completed_at IS NOT NULL
		ORDER BY b.completed_at DESC LIMIT 1)))
	INTO oldest_ready
	FROM (
		SELECT p.operation FROM @extschema@.esim_pending p
		WHERE p.state = 'R' AND NOT p.claimed AND p.server <> ALL (paused_servers)
		ORDER BY p.seq
		LIMIT 100
	) r
	JOIN @extschema@.esim_operation o ON o.id = r.operation;

	IF database_paused IS NOT NULL THEN
		oldest_ready := NULL;
		stuck := 0;
		due := 0;
	END IF;
	IF oldest_ready > ready_limit THEN
		problems := problems || format('the oldest ready operation has waited for %s', date_trunc('second', oldest_ready));
	END IF;
	IF stuck > 0 THEN
		problems := problems || format('%s operations are overdue, and no worker has looked at them', stuck);
	END IF;
	-- one reason of each server tells most: its credentials are not accepted
	IF parked > 0 THEN
		problems := problems || ARRAY(
			SELECT format('%s parked at server "%s"%s', CASE g.n WHEN 1 THEN '1 operation is' ELSE g.n || ' operations are' END,
				g.server, coalesce(': ' || o.phase_reason, ''))
			FROM (
				SELECT p.server, count(*) AS n, min(p.seq) AS first
				FROM @extschema@.esim_pending p WHERE p.state = 'P'
				GROUP BY p.server
				ORDER BY n DESC, p.server LIMIT server_limit
			) g
			JOIN @extschema@.esim_pending f ON f.seq = g.first
			LEFT JOIN @extschema@.esim_operation o ON o.id = f.operation
			ORDER BY g.n DESC, g.server);
	END IF;

	-- what waits there is neither late nor parked
	problems := problems || ARRAY(
		SELECT format('server "%s" has failed for %s (%s), and %s', s.srvname,
			date_trunc('second', clock_timestamp() - f.since), f.error,
			CASE w.n WHEN 1 THEN '1 operation waits' ELSE w.n || ' operations wait' END)
		FROM @extschema@.esim_failing_servers() f
		JOIN pg_foreign_server s ON s.oid = f.server
		CROSS JOIN LATERAL (
			SELECT count(*) AS n FROM @extschema@.esim_pending p WHERE p.server = s.srvname AND p.state <> 'P') w
		WHERE w.n > 0 AND s.srvname <> ALL (paused_servers) AND database_paused IS NULL
		ORDER BY w.n DESC, s.srvname LIMIT server_limit);

	-- without preload idle workers end, and the first operation starts one
	SELECT count(w.pid), max(w.last_error) FILTER (WHERE w.pid IS NULL)
	INTO running, last_error
	FROM @extschema@.esim_worker_status() w;
	IF wanted = 0 AND waiting > 0 THEN
		problems := problems || format('%s operations wait, and esim.workers is 0', waiting);
	END IF;
	IF current_setting('shared_preload_libraries') !~ '(^|[, /"])esim("|,|\s|\.so|$)' THEN
		wanted := CASE WHEN due > 0 THEN least(wanted, 1) ELSE 0 END;
	END IF;
	missing_workers := greatest(wanted - running, 0);
	IF missing_workers > 0 THEN
		problems := problems || (format('%s of %s workers are missing', missing_workers, wanted) || coalesce(': ' || last_error, ''));
	END IF;

	-- both lists are short, and indexed: what was delivered is not looked at
	SELECT count(*), count(*) FILTER (WHERE d.given_up) INTO dead_sinks, given_up
	FROM (
		SELECT s.sink, bool_or(s.given_up) AS given_up
		FROM (
			SELECT n.sink, true AS given_up
			FROM @extschema@.esim_notification n
			WHERE n.state = 'GIVEN_UP' AND n.tries > 0
			AND n.since > now() - current_setting('esim.sink_give_up')::interval - interval '7 days'
			UNION ALL
			SELECT n.sink, false
			FROM @extschema@.esim_notification n
			WHERE n.next_at IS NOT NULL AND n.tries > 0 AND n.since < now() - stuck_limit
		) s
		GROUP BY s.sink
	) d;
	IF dead_sinks > given_up THEN
		problems := problems || format('%s sinks do not take what they are sent; last_error in esim_notification says why', dead_sinks - given_up);
	END IF;
	IF given_up > 0 THEN
		problems := problems || format('for %s sinks notifications were given up in the last days; last_error in esim_notification says why', given_up);
	END IF;

	-- owner by owner along the index, not row by row
	WITH RECURSIVE device (owner, owner_name) AS (
		(SELECT d.owner, d.owner_name FROM @extschema@.esim_device d ORDER BY d.owner, d.owner_name LIMIT 1)
		UNION ALL
		SELECT n.owner, n.owner_name
		FROM device c
		CROSS JOIN LATERAL (
			SELECT d.owner, d.owner_name FROM @extschema@.esim_device d
			WHERE (d.owner, d.owner_name) > (c.owner, c.owner_name)
			ORDER BY d.owner, d.owner_name LIMIT 1) n
	), profile (owner, owner_name) AS (
		(SELECT p.owner, p.owner_name FROM @extschema@.esim_profile p ORDER BY p.owner, p.owner_name LIMIT 1)
		UNION ALL
		SELECT n.owner, n.owner_name
		FROM profile c
		CROSS JOIN LATERAL (
			SELECT p.owner, p.owner_name FROM @extschema@.esim_profile p
			WHERE (p.owner, p.owner_name) > (c.owner, c.owner_name)
			ORDER BY p.owner, p.owner_name LIMIT 1) n
	)
	SELECT count(*), array_agg(format('%I', g.owner_name) || CASE WHEN g.new_name IS NULL THEN '' ELSE format(' (now %I)', g.new_name) END ORDER BY g.owner_name)
	INTO dangling_owners, dangling
	FROM (
		SELECT o.owner_name, (SELECT r.rolname FROM pg_roles r WHERE r.oid = o.owner) AS new_name
		FROM (SELECT owner, owner_name FROM device UNION SELECT owner, owner_name FROM profile) o
		WHERE pg_get_userbyid(o.owner) <> o.owner_name
	) g;
	IF dangling_owners > 0 THEN
		problems := problems || format('owners that are gone or renamed: %s; their rows are visible to nobody until esim_reassign_owned()', array_to_string(dangling[1:5], ', '));
	END IF;

	SELECT count(*) INTO open_drift FROM @extschema@.esim_drift d WHERE d.resolved_at IS NULL;

	ok := problems = '{}';
END
$$;
COMMENT ON FUNCTION esim_health() IS
'One row for monitoring, about all owners. ok: there are no problems; problems: each in a sentence. oldest_ready: how long the oldest ready operation of a server that is not paused has waited (a problem above 15 minutes). stuck: unfinished operations that should have been looked at five minutes ago. parked: operations that wait for an administrator; problems has a reason for each server, and names the servers that do not answer. dead_sinks: sinks for which a notification was given up in the last seven days, or has been tried in vain for five minutes. missing_workers: of esim.workers those that do not run (without shared_preload_libraries one is missed only while operations are due). dangling_owners: owners whose role is gone or has another name. open_drift: unresolved rows of esim_drift, for information, not a problem.';
