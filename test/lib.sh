# test/lib.sh
# What demo.sh, test.sh and bench.sh share: packages, the build, throw-away
# clusters, the RSP simulator.  To be sourced by bash.
#
# Servers run as the user postgres when we are root, else as ourselves.  All
# that is made lies in $SCRATCH and is gone, processes too, when the script
# ends, however it ends.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
SCRATCH=
BINDIR=
PORT=5432
CHILD=
SIM_PID=
SIM_URL=
SOURCE=
KEEP_SCRATCH=

# the environment of the caller must not decide which server we talk to
for variable in $(compgen -v PG); do
	[ "$variable" = PG_CONFIG ] || unset "$variable"
done
unset variable LANGUAGE LC_ALL
export LANG=C.UTF-8
umask 022

say() {
	printf '%s\n' "$*"
}

die() {
	printf '%s\n' "$*" >&2
	exit 1
}

# the newest PostgreSQL among Debian's packages, if there is one
newest() {
	local server

	server=$(printf '%s\n' /usr/lib/postgresql/*/bin/postgres | sort -V | tail -n 1)
	[ ! -x "$server" ] || basename "${server%/bin/postgres}"
}

# Installs what is missing, and finds PostgreSQL: PG_CONFIG's, else the newest
# that is installed, else the one that comes with this Debian.
prepare() {
	local major=none
	local bindir

	if [ -z "${PG_CONFIG:-}" ]; then
		major=$(newest)
	else
		bindir=$("$PG_CONFIG" --bindir 2>/dev/null || dirname "$PG_CONFIG")
		[[ $bindir != /usr/lib/postgresql/*/bin ]] || major=$(basename "${bindir%/bin}")
	fi
	bash "$ROOT/test/install.sh" "$major"
	if [ -z "${PG_CONFIG:-}" ]; then
		PG_CONFIG=/usr/lib/postgresql/$(newest)/bin/pg_config
		[ -x "$PG_CONFIG" ] || PG_CONFIG=$(command -v pg_config || true)
	fi
	[ -n "$PG_CONFIG" ] && [ -x "$(command -v "$PG_CONFIG")" ] || die "pg_config was not found; set PG_CONFIG"
	export PG_CONFIG
	BINDIR=$("$PG_CONFIG" --bindir)
	PGXS_DIR=$(dirname "$("$PG_CONFIG" --pgxs)")/..
}

# make_scratch NAME: the directory of all that is made here
make_scratch() {
	local parent=${TMPDIR:-/tmp}

	# servers must reach it, and the path of a socket must be short
	if [ "$(id -u)" -eq 0 ] || [ ${#parent} -gt 40 ]; then
		parent=/tmp
	fi
	SCRATCH=$(mktemp -d "$parent/esim-$1.XXXXXX")
	trap cleanup EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	mkdir "$SCRATCH/tmp"
	AS_SERVER=(env "HOME=$SCRATCH" "TMPDIR=$SCRATCH/tmp")
	if [ "$(id -u)" -eq 0 ]; then
		chown -R postgres: "$SCRATCH"
		AS_SERVER=(setpriv --reuid=postgres --regid=postgres --init-groups "${AS_SERVER[@]}")
	fi
}

cleanup() {
	local status=$?
	local file

	trap - EXIT
	trap '' HUP INT TERM
	set +e
	if [ -n "$CHILD" ]; then
		kill -TERM "$CHILD" 2>/dev/null
		wait "$CHILD" 2>/dev/null
	fi
	if [ -z "$KEEP_SCRATCH" ]; then
		simulator_stop
		while IFS= read -r -d '' file; do
			as_server "$BINDIR/pg_ctl" -D "$(dirname "$file")" -m immediate -w -t 20 stop >/dev/null 2>&1
		done < <(find "$SCRATCH" -name postmaster.pid -print0 2>/dev/null)
		rm -rf "$SCRATCH"
	fi
	exit "$status"
}

# as_server COMMAND...: runs it as the user of the servers
as_server() {
	(cd "$SCRATCH" && exec "${AS_SERVER[@]}" "$@")
}

# bounded SECONDS COMMAND...: the same with an end; a signal to us ends it, too
bounded() {
	local limit=$1
	local status=0

	shift
	(cd "$SCRATCH" && exec timeout -k 20 "$limit" "${AS_SERVER[@]}" "$@") &
	CHILD=$!
	wait "$CHILD" || status=$?
	CHILD=
	return "$status"
}

# quietly LOG COMMAND...: shows its output only if it fails
quietly() {
	local log=$1
	local status=0

	shift
	"$@" >"$log" 2>&1 </dev/null || status=$?
	if [ "$status" -ne 0 ]; then
		tail -n 40 "$log" >&2
		die "failed: $*"
	fi
}

# build [MAKE ARGUMENTS...]: builds and installs the extension, builds the simulator.
# From a copy, $SOURCE: the checkout stays as it is, need not be writable, and
# nothing that was built for another PostgreSQL gets in.
build() {
	local source=$SCRATCH/source
	local sudo=()

	mkdir "$source"
	tar -C "$ROOT" --exclude=./.git --exclude='*.o' --exclude='*.bc' --exclude='*.so' --exclude=./log \
		--exclude=./test/rsp/rspsim --exclude=./test/rsp/httpbench -cf - . | tar -C "$source" -xf - --no-same-owner
	chmod -R u+rwX,a+rX "$source"
	SOURCE=$source
	quietly "$SCRATCH/build.log" make -s -C "$source" -j2 PG_CONFIG="$PG_CONFIG" "$@" all
	quietly "$SCRATCH/simulator.log" make -s -C "$source/test/rsp" -j2
	if [ ! -w "$("$PG_CONFIG" --pkglibdir)" ]; then
		command -v sudo >/dev/null || die "installing the extension into $("$PG_CONFIG" --pkglibdir) needs root"
		sudo=(sudo)
	fi
	quietly "$SCRATCH/install.log" "${sudo[@]}" make -s -C "$source" PG_CONFIG="$PG_CONFIG" "$@" install
	install -d "$SCRATCH/bin"
	install -m 755 "$source/test/rsp/rspsim" "$source/test/rsp/httpbench" "$SCRATCH/bin"
}

# cluster_start NAME [SETTING...]: makes a cluster, without TCP, and starts it
cluster_start() {
	local data=$SCRATCH/$1
	local log=$SCRATCH/$1.log

	shift
	quietly "$SCRATCH/initdb.log" as_server "$BINDIR/initdb" -D "$data" -U postgres -A trust \
		-E UTF8 --locale=C.UTF-8 --no-sync
	{
		printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$SCRATCH'" "port = $PORT"
		printf '%s\n' "$@"
	} | as_server tee -a "$data/postgresql.conf" >/dev/null
	quietly "$SCRATCH/start.log" as_server "$BINDIR/pg_ctl" -D "$data" -l "$log" -w -t 60 start
}

# cluster_stop NAME [MODE]
cluster_stop() {
	quietly "$SCRATCH/stop.log" as_server "$BINDIR/pg_ctl" -D "$SCRATCH/$1" -m "${2:-fast}" -w -t 60 stop
}

# sql [PSQL ARGUMENTS...]: psql as the superuser; errors end the script
sql() {
	as_server "$BINDIR/psql" -X -v ON_ERROR_STOP=1 -h "$SCRATCH" -p "$PORT" -U postgres "$@"
}

# simulator_start [OPTION...]: sets SIM_PID and SIM_URL
simulator_start() {
	local out=$SCRATCH/rspsim.out
	local tries

	: >"$out"
	(cd "$SCRATCH" && exec "${AS_SERVER[@]}" "$SCRATCH/bin/rspsim" --quiet "$@") >"$out" 2>"$SCRATCH/rspsim.err" &
	SIM_PID=$!
	for ((tries = 0; tries < 100; tries++)); do
		SIM_URL=$(sed -n 's/^rspsim listening on //p' "$out" | head -n 1)
		[ -z "$SIM_URL" ] || return 0
		kill -0 "$SIM_PID" 2>/dev/null || break
		sleep 0.1
	done
	cat "$SCRATCH/rspsim.err" >&2
	die "the simulator did not start"
}

simulator_stop() {
	[ -n "$SIM_PID" ] || return 0
	kill -TERM "$SIM_PID" 2>/dev/null || true
	wait "$SIM_PID" 2>/dev/null || true
	SIM_PID=
}

# control METHOD PATH [JSON]: the simulator's control API
control() {
	curl -sS -f --noproxy '*' --max-time 60 -X "$1" ${3:+-H 'Content-Type: application/json' --data-binary "$3"} \
		"$SIM_URL/control$2"
}
