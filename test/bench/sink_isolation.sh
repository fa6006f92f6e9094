# bench/sink_isolation.sh
# To be sourced by bench.sh: the figure sink_isolation.
#
# Operations a second from their commit until all have completed and every
# living sink has been told: ours with a fifth of the sinks dead (they time out,
# answer 500, or reset the connection), reference with none.  Four operations
# in five have a living sink in both; the rest have a dead sink, or none.

# sink_round COUNT dead|none: operations a second
sink_round() {
	value "TRUNCATE esim_notification" >/dev/null
	value "CALL bench_clear()" >/dev/null
	value "DO \$\$
		DECLARE
			ports text[] := '{$SINK_PORTS}';
			modes text[] := '{timeout, fail, reset, timeout}';
			few iccid[];
			target text;
		BEGIN
			FOR k IN 0 .. 19 LOOP
				SELECT array_agg(iccid) INTO few FROM (SELECT iccid, row_number() OVER (ORDER BY iccid) AS n FROM esim_profile) p WHERE n % 20 = k;
				target := 'http://127.0.0.1:' || ports[1 + k % cardinality(ports)] || '/' || coalesce(modes[k + 1], 'ok') || '/' || k;
				IF k < 4 AND '$2' = 'none' THEN
					target := NULL;
				END IF;
				PERFORM count(*) FROM esim_enable_many(few, sink => target);
			END LOOP;
		END \$\$" >/dev/null
	value "SELECT bench_told()" >/dev/null
	value "SELECT round($1 / (SELECT extract(epoch FROM greatest(max(o.completed_at), (SELECT max(n.delivered_at) FROM esim_notification n)) - min(o.created_at)) FROM esim_operation o), 1)"
}

sink_isolation() {
	local n pid

	n=$(scaled 10000)
	start sinks "esim.sink_allow = '127.0.0.1'" "esim.sink_allow_private = on"
	note "sink_isolation: $n operations, 20 sinks, best of 3"
	value "CALL bench_fleet($n)"
	value "CREATE FUNCTION bench_told() RETURNS void LANGUAGE plpgsql AS \$\$
		BEGIN
			FOR i IN 1 .. 6000 LOOP
				EXIT WHEN NOT EXISTS (SELECT FROM esim_pending)
					AND NOT EXISTS (SELECT FROM esim_notification WHERE state <> 'DELIVERED' AND target ~ '/ok/');
				PERFORM pg_sleep(0.02);
			END LOOP;
		END \$\$"
	peer "$n"
	value "CREATE SERVER main FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara',
		url '$SIM_URL/bench/esim-profile-management/vwip', allow_http 'true')"
	cp "$ROOT/test/t/EsimSink.pm" "$SCRATCH"
	chmod a+r "$SCRATCH/EsimSink.pm"
	(cd "$SCRATCH" && exec "${AS_SERVER[@]}" perl -I. -MEsimSink -e 'EsimSink::serve("sink.log", 5)' >sink.out) &
	pid=$!
	sleep 1
	SINK_PORTS=$(head -n 1 "$SCRATCH/sink.out" | tr ' ' ',')
	workers 1
	worker_runs
	: >"$SCRATCH/own"
	: >"$SCRATCH/alone"
	for _ in 1 2 3; do
		control POST /reset >/dev/null
		control POST /populate "{\"count\": $n, \"profiles\": 1, \"state\": \"DISABLED\"}" >/dev/null
		sink_round "$n" none >>"$SCRATCH/alone"
		control POST /reset >/dev/null
		control POST /populate "{\"count\": $n, \"profiles\": 1, \"state\": \"DISABLED\"}" >/dev/null
		sink_round "$n" dead >>"$SCRATCH/own"
	done
	kill "$pid"
	wait "$pid" 2>/dev/null || true
	figure sink_isolation "$(best <"$SCRATCH/own")" "$(best <"$SCRATCH/alone")" operations/s
	cluster_stop sinks immediate
	simulator_stop
}
