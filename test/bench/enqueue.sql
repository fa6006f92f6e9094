-- bench/enqueue.sql
-- A plain jobs table with as many columns and indexes as esim_operation.
CREATE TABLE bench_job (LIKE esim_operation INCLUDING DEFAULTS);
ALTER TABLE bench_job ADD PRIMARY KEY (id);
CREATE INDEX ON bench_job (profile, seq);
CREATE INDEX ON bench_job (eid, seq);
CREATE INDEX ON bench_job (owner, eid, seq);

-- Operations a second, commit included: row, one call per row; many, the array form.
CREATE PROCEDURE bench_enqueue(what text, INOUT rate numeric DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
	begun timestamptz;
BEGIN
	SELECT count(*) INTO n FROM esim_profile;
	begun := clock_timestamp();
	IF what = 'row' THEN
		PERFORM count(esim_enable(iccid)) FROM esim_profile;
	ELSE
		PERFORM count(*) FROM esim_enable_many((SELECT array_agg(iccid) FROM esim_profile));
	END IF;
	COMMIT;
	rate := round(n / extract(epoch FROM clock_timestamp() - begun), 1);
	IF (SELECT count(*) FROM esim_pending) <> n THEN
		RAISE EXCEPTION 'not all are queued';
	END IF;
	COMMIT;
	TRUNCATE esim_operation, esim_pending, esim_audit;
	COMMIT;
END
$$;

-- Rows a second of one INSERT of as many rows, commit included.
CREATE PROCEDURE bench_jobs(INOUT rate numeric DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
	begun timestamptz;
BEGIN
	SELECT count(*) INTO n FROM esim_profile;
	begun := clock_timestamp();
	INSERT INTO bench_job (id, seq, kind, eid, iccid, profile, owner, owner_name, requested_by, server, status, phase,
		priority, expires_at, created_at, rollback, callback_method, options)
	SELECT gen_random_uuid(), nextval('esim_operation_seq'), 'enable', eid, iccid, id, owner, owner_name, owner, 'main', 'ACCEPTED', 'QUEUED',
		0, now() + interval '30 days', now(), true, 'GET', '{}'
	FROM esim_profile;
	COMMIT;
	rate := round(n / extract(epoch FROM clock_timestamp() - begun), 1);
	TRUNCATE bench_job;
	COMMIT;
END
$$;
