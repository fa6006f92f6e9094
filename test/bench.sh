#!/bin/bash
# test/bench.sh
# Measures: `make bench`.  One line per figure on standard output:
#
#   figure <name> <ours> <reference> <ratio> <unit>
#
# parted by tabs; ours and reference are measured in the same run on the same
# machine, with durable settings.  More is better, but for sizes.  Notes go to
# standard error.  Environment:
#   ESIM_BENCH_SCALE  a factor for all numbers of rows (1), 0.01 to try it out
#   FIGURES           which, of: lookup enqueue execute backlog sink_isolation
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

SCALE=${ESIM_BENCH_SCALE:-1}
FIGURES=${FIGURES:-lookup enqueue execute backlog sink_isolation}
. "$ROOT/test/bench/sink_isolation.sh"
DB=postgres

note() {
	printf '%5d s  %s\n' "$SECONDS" "$*" >&2
}

# scaled N: N times the scale
scaled() {
	awk -v n="$1" -v s="$SCALE" 'BEGIN { n = int(n * s); print n < 1 ? 1 : n }'
}

# figure NAME OURS REFERENCE UNIT
figure() {
	awk -v name="$1" -v ours="$2" -v reference="$3" -v unit="$4" 'BEGIN {
		printf "figure\t%s\t%.0f\t%.0f\t%.3f\t%s\n", name, ours, reference, ours / reference, unit }'
}

# value SQL: what it gives
value() {
	sql -d "$DB" -q -A -t -c "$1"
}

# best OF VALUES: the largest number of the lines read
best() {
	sort -g | tail -n 1
}

file() {
	sql -d "$DB" -q -A -t "${@:2}" -f "bench/$1"
}

start() {
	PORT=$((PORT + 1))
	cluster_start "$1" "shared_buffers = 1GB" "max_wal_size = 8GB" "checkpoint_timeout = 30min" \
		"shared_preload_libraries = 'esim'" "esim.workers = 0" "esim.poll_interval = 1s" "esim.lockout_guard = off" "${@:2}"
	sql -q -d "$DB" -c 'CREATE SCHEMA esim' -c 'CREATE EXTENSION esim SCHEMA esim' \
		-c "ALTER DATABASE $DB SET search_path = public, esim"
	file common.sql
}

workers() {
	value "ALTER SYSTEM SET esim.workers = $1"
	value "SELECT pg_reload_conf()" >/dev/null
}

# simulator with COUNT devices that answer at once, with one DISABLED profile each
peer() {
	simulator_stop
	simulator_start --parent-watch --no-record
	control POST /populate "{\"count\": $1, \"profiles\": 1, \"state\": \"DISABLED\"}" >/dev/null
}

lookup() {
	local rows probes type run

	rows=$(scaled 2000000)
	probes=$(scaled 200000)
	start lookup
	note "lookup: $rows rows, $probes probes, best of 4"
	file lookup.sql -v rows="$rows" -v probes="$probes"
	for type in iccid eid; do
		figure "${type}_index_size" "$(value "SELECT pg_relation_size('bench_${type}_own')")" \
			"$(value "SELECT pg_relation_size('bench_${type}_text')")" bytes
		: >"$SCRATCH/own"
		: >"$SCRATCH/text"
		for run in 1 2 3 4; do
			value "SELECT bench_probe('$type', 'own', $probes)" >>"$SCRATCH/own"
			value "SELECT bench_probe('$type', 'text', $probes)" >>"$SCRATCH/text"
		done
		figure "${type}_lookup" "$(best <"$SCRATCH/own")" "$(best <"$SCRATCH/text")" probes/s
	done
	cluster_stop lookup
}

enqueue() {
	local n what run

	n=$(scaled 100000)
	start enqueue
	note "enqueue: $n operations in one transaction, best of 3"
	value "CALL bench_fleet($n)"
	value "CREATE SERVER main FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara', url 'http://127.0.0.1:9/', allow_http 'true')"
	file enqueue.sql
	for what in row many; do
		: >"$SCRATCH/own"
		: >"$SCRATCH/jobs"
		for run in 1 2 3; do
			value "CALL bench_enqueue('$what')" >>"$SCRATCH/own"
			value "CALL bench_jobs()" >>"$SCRATCH/jobs"
		done
		figure "$([ $what = row ] && echo enqueue || echo enqueue_many)" \
			"$(best <"$SCRATCH/own")" "$(best <"$SCRATCH/jobs")" operations/s
	done
	cluster_stop enqueue
}

# waits until a worker of ours runs
worker_runs() {
	local tries

	for ((tries = 0; tries < 300; tries++)); do
		[ "$(value "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'esim worker'")" = 0 ] || return 0
		sleep 0.1
	done
	die "no worker started"
}

execute() {
	local n connections=64 requests ours reference run

	n=$(scaled 100000)
	start execute
	note "execute: $n operations on distinct EIDs, one worker, $connections connections, best of 3"
	value "CALL bench_fleet($n)"
	peer "$n"
	value "CREATE SERVER main FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara',
		url '$SIM_URL/bench/esim-profile-management/vwip', allow_http 'true', max_in_flight '$connections')"
	workers 1
	worker_runs
	: >"$SCRATCH/own"
	: >"$SCRATCH/bare"
	for run in 1 2 3; do
		value "CALL bench_execute()" >>"$SCRATCH/own"
		[ "$(value "SELECT count(*) FROM esim_operation WHERE result = 'SUCCESS'")" = "$n" ] || die "not all succeeded"
		requests=$(value "SELECT count(*) FROM esim_attempt")
		[ "$requests" = $((2 * n)) ] || note "execute: $requests requests for $n operations"
		[ "$(value "SELECT count(*) FROM esim_profile_event")" -ge "$n" ] || die "events are missing"
		value "CALL bench_clear()"
		sleep 1
		control POST /reset >/dev/null
		control POST /populate "{\"count\": $n, \"profiles\": 1, \"state\": \"DISABLED\"}" >/dev/null
		(cd "$SCRATCH" && "${AS_SERVER[@]}" bin/httpbench --url="$SIM_URL/bench/esim-profile-management/vwip" \
			--operations=$((requests / 2)) --connections="$connections") >"$SCRATCH/httpbench.out"
		sed -n 's/.*operations\/s *\([0-9.]*\).*/\1/p; s/.*[^0-9.]\([0-9.]*\) operations\/s.*/\1/p' "$SCRATCH/httpbench.out" | head -n 1 >>"$SCRATCH/bare"
		control POST /reset >/dev/null
		control POST /populate "{\"count\": $n, \"profiles\": 1, \"state\": \"DISABLED\"}" >/dev/null
	done
	figure execute "$(best <"$SCRATCH/own")" "$(best <"$SCRATCH/bare")" operations/s
	cluster_stop execute
	simulator_stop
}

backlog() {
	local n few=1000 small large

	n=$(scaled 1000000)
	[ "$n" -gt "$few" ] || few=$n
	start backlog
	note "backlog: $n queued against rounds of $few"
	value "CALL bench_fleet($n)"
	note "backlog: the fleet is there"
	peer "$n"
	value "CREATE SERVER main FOREIGN DATA WRAPPER esim_rsp OPTIONS (protocol 'camara',
		url '$SIM_URL/bench/esim-profile-management/vwip', allow_http 'true')"
	workers 1
	worker_runs
	small=$(value "CALL bench_rounds($few, $(scaled 40))")
	note "backlog: $small operations/s in rounds of $few"
	value "CALL bench_clear()"
	workers 0
	control POST /reset >/dev/null
	control POST /populate "{\"count\": $n, \"profiles\": 1, \"state\": \"DISABLED\"}" >/dev/null
	value "CALL bench_queue()"
	note "backlog: $n are queued"
	workers 1
	worker_runs
	large=$(value "CALL bench_rate($(scaled 100000))")
	figure backlog "$large" "$small" operations/s
	cluster_stop backlog immediate
	simulator_stop
}

prepare
make_scratch bench
note "building"
build >&2
cp -R "$ROOT/test/bench" "$SCRATCH/bench"
chmod -R a+rX "$SCRATCH/bench"
note "$("$BINDIR/postgres" --version), $(nproc) cores, $(uname -r), scale $SCALE"
for name in $FIGURES; do
	"$name"
done
