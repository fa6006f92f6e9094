#!/bin/bash
# test/demo.sh
# A fleet of devices gets its eSIM profiles: `make demo`.
#
# Makes a throw-away cluster and starts the RSP simulator; both are gone at the
# end.  KEEP=1 leaves them up and prints how to enter and how to stop them.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

DATABASE=demo

step() {
	printf '\n== %s ==\n\n' "$*"
}

# show FILE: its statements and what they give
show() {
	sql -d "$DATABASE" -a -q -P pager=off -P footer=off -v "url=$SIM_URL/demo/esim-profile-management/vwip" \
		-v "supersim=$SIM_URL/operator/supersim/v1" -v "eim=$SIM_URL/eim/eim" -f "demo/$1"
}

# what the SM-DP+ has in stock for each eUICC, from the inventory
stock() {
	awk -F, 'NR > 1 {
		for (i = 4; i <= 5; i++)
			printf "%s{\"eid\":\"%s\",\"iccid\":\"%s\"}", n++ ? "," : "[", $1, $i
	} END { print "]" }' "$ROOT/test/demo/inventory.csv"
}

watch() {
	local line
	local last=
	local tries

	for ((tries = 0; tries < 240; tries++)); do
		line=$(sql -d "$DATABASE" -A -t -F ' ' -c "
			SELECT format('%s COMPLETED, %s ACCEPTED', count(*) FILTER (WHERE status = 'COMPLETED'),
				count(*) FILTER (WHERE status = 'ACCEPTED'))
				|| coalesce(': ' || (SELECT string_agg(p.n || ' ' || p.phase, ', ' ORDER BY p.phase) FROM
					(SELECT phase, count(*) AS n FROM esim_operation WHERE status = 'ACCEPTED' GROUP BY phase) p), '')
			FROM esim_operation")
		[ "$line" = "$last" ] || say "  $line"
		last=$line
		case $line in
			*" 0 ACCEPTED"*) return 0 ;;
		esac
		sleep 0.5
	done
	die "the operations did not complete in two minutes"
}

say "esim demo: preparing (packages, build, a throw-away PostgreSQL cluster, the RSP simulator)"
prepare
make_scratch demo
build
cp -R "$ROOT/test/demo" "$SCRATCH/demo"
chmod -R a+rX "$SCRATCH/demo"
cluster_start data "fsync = off"
if [ -n "${KEEP:-}" ]; then
	simulator_start
else
	simulator_start --parent-watch
fi
control POST /stock "$(stock)" >/dev/null
control POST /config '{"server": "demo", "device_delay_ms": 600, "auth": {"bearer": "demo-token"}}' >/dev/null
control POST /config '{"server": "operator", "supersim": {"reserve_ms": 700, "schedule_ms": 500},
	"auth": {"username": "AC1", "password": "demo-secret"}}' >/dev/null
control POST /config '{"server": "eim", "device_delay_ms": 300}' >/dev/null
# the eUICC of Crane 2 has room for one profile only
control POST /euicc "{\"eid\": \"$(awk -F, '$2 == "Crane 2" {print $1}' "$ROOT/test/demo/inventory.csv")\", \"memory\": 1}" >/dev/null
sql -q -d postgres -c "CREATE DATABASE $DATABASE" -c "ALTER DATABASE $DATABASE SET search_path = public, esim"

step "Set up"
show 1_setup.sql
step "Order"
show 2_order.sql
step "The worker carries it out: each device is asked for one thing at a time"
watch
step "Report"
show 3_report.sql
step "One eSIM from stock to device: reserve, subscription, download, enable, QR code"
show 4_life.sql

step "What to type next"
if [ -n "${KEEP:-}" ]; then
	KEEP_SCRATCH=1
	cat >"$SCRATCH/stop" <<END
#!/bin/sh
# Stops what \`make demo KEEP=1\` left up, and removes it.
kill $SIM_PID 2>/dev/null
cd / && ${AS_SERVER[*]} $BINDIR/pg_ctl -D $SCRATCH/data -m fast -w stop >/dev/null
rm -rf $SCRATCH
END
	chmod 755 "$SCRATCH/stop"
	say "The cluster and the simulator are up. To enter:"
	say "    $BINDIR/psql -h $SCRATCH -U postgres $DATABASE"
	say "To stop and remove them:"
	say "    $SCRATCH/stop"
	say
else
	say "make demo KEEP=1 leaves the cluster up, to try this:"
fi
cat <<'END'
    SELECT esim_enable(fallback_iccid) FROM fleet WHERE label = 'Ferry Alma';
    SELECT * FROM esim_inventory WHERE label = 'Ferry Alma';
    SELECT * FROM esim_operation ORDER BY seq DESC LIMIT 3;
    SELECT * FROM esim_queue;
    SELECT * FROM esim_capabilities();
    SELECT * FROM esim_health();
END
