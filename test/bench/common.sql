-- bench/common.sql
-- What all measurements share.

-- Devices with one DISABLED profile each, numbered as the simulator's populate does.
CREATE PROCEDURE bench_fleet(n int) LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO esim_device (eid)
	SELECT (b || esim_eid_check_digits(b))::eid
	FROM generate_series(0, n - 1) i, LATERAL (SELECT '8904903200' || lpad(i::text, 20, '0') AS b) d;
	INSERT INTO esim_profile (iccid, eid, state)
	SELECT (c || esim_iccid_check_digit(c))::iccid, (b || esim_eid_check_digits(b))::eid, 'DISABLED'
	FROM generate_series(0, n - 1) i, LATERAL (SELECT '8904903200' || lpad(i::text, 20, '0') AS b) d,
		LATERAL (SELECT '89' || lpad(i::text, 16, '0') AS c) e;
	COMMIT;
	ANALYZE esim_device, esim_profile;
END
$$;

-- Forgets all operations; the profiles are DISABLED again.
CREATE PROCEDURE bench_clear() LANGUAGE plpgsql AS $$
BEGIN
	TRUNCATE esim_operation, esim_pending, esim_attempt, esim_profile_event, esim_deferred, esim_idempotency, esim_operation_secret, esim_audit;
	UPDATE esim_profile SET state = 'DISABLED' WHERE state <> 'DISABLED';
	COMMIT;
END
$$;

-- One transaction that enables all profiles.
CREATE PROCEDURE bench_queue() LANGUAGE plpgsql AS $$
BEGIN
	PERFORM count(*) FROM esim_enable_many((SELECT array_agg(iccid) FROM esim_profile));
	COMMIT;
END
$$;

-- Waits until the queue is empty.  Each look is a transaction of its own: an
-- old snapshot would keep the queue's dead rows.
CREATE PROCEDURE bench_drain(nap double precision) LANGUAGE plpgsql AS $$
DECLARE
	begun timestamptz := clock_timestamp();
	rest text;
BEGIN
	LOOP
		EXIT WHEN NOT EXISTS (SELECT FROM esim_pending);
		IF clock_timestamp() - begun > interval '5 min' THEN
			SELECT string_agg(n || ' ' || phase || coalesce(' (' || phase_reason || ')', ''), ', ') INTO rest
			FROM (SELECT phase, phase_reason, count(*) AS n FROM esim_operation WHERE status = 'ACCEPTED' GROUP BY 1, 2) o;
			RAISE EXCEPTION 'the queue is not empty after 5 minutes: %', rest;
		END IF;
		COMMIT;
		PERFORM pg_sleep(nap);
		COMMIT;
	END LOOP;
END
$$;

-- Operations a second, from the commit to the last one COMPLETED.
CREATE PROCEDURE bench_execute(INOUT rate numeric DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
	begun timestamptz;
BEGIN
	SELECT count(*) INTO n FROM esim_profile;
	PERFORM count(*) FROM esim_enable_many((SELECT array_agg(iccid) FROM esim_profile));
	COMMIT;
	begun := clock_timestamp();
	CALL bench_drain(0.05);
	rate := round(n / extract(epoch FROM clock_timestamp() - begun), 1);
END
$$;

-- The same in rounds of n operations, enable and disable in turn.
CREATE PROCEDURE bench_rounds(n int, rounds int, INOUT rate numeric DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
	few iccid[];
	begun timestamptz;
	seconds numeric := 0;
BEGIN
	SELECT array_agg(iccid) INTO few FROM (SELECT iccid FROM esim_profile LIMIT n) p;
	FOR r IN 1 .. rounds + 2 LOOP
		IF r % 2 = 1 THEN
			PERFORM count(*) FROM esim_enable_many(few);
		ELSE
			PERFORM count(*) FROM esim_disable_many(few);
		END IF;
		COMMIT;
		begun := clock_timestamp();
		CALL bench_drain(0.003);
		-- the first two warm up
		IF r > 2 THEN
			seconds := seconds + extract(epoch FROM clock_timestamp() - begun);
		END IF;
	END LOOP;
	rate := round(n::numeric * rounds / seconds, 1);
END
$$;

-- Operations a second while n of them complete, after a fifth as many to warm up; the queue is deep.
-- Counting its rows would take a good part of the machine: what the worker has reported of the rows
-- that it removed is read, and timed from one report to another.
CREATE PROCEDURE bench_rate(n int, INOUT rate numeric DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
	first bigint := pg_stat_get_tuples_deleted('esim_pending'::regclass);
	begun_at bigint;
	now_done bigint;
	last bigint := 0;
	begun timestamptz;
BEGIN
	COMMIT;
	FOR tries IN 1 .. 15000 LOOP
		PERFORM pg_sleep(0.02);
		COMMIT;
		now_done := pg_stat_get_tuples_deleted('esim_pending'::regclass) - first;
		CONTINUE WHEN now_done = last;
		last := now_done;
		IF begun IS NULL AND now_done >= n / 5 THEN
			begun := clock_timestamp();
			begun_at := now_done;
		ELSIF begun IS NOT NULL AND now_done - begun_at >= n THEN
			rate := round((now_done - begun_at) / extract(epoch FROM clock_timestamp() - begun), 1);
			RETURN;
		END IF;
	END LOOP;
	RAISE EXCEPTION 'only % operations completed in 5 minutes', last;
END
$$;
