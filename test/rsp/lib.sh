# test/rsp/lib.sh
# What the simulator's self-tests share: TAP, starting simulators, requests.  To be
# sourced by bash in the directory of the script, which ends with "finish".
set -u
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1

dir=$(mktemp -d)
pids=()
limit=10	# seconds of a request
rspsim=${ESIM_RSPSIM:-./rspsim}
count=0
failed=0

clean_up()
{
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
	wait 2>/dev/null
	rm -rf "$dir"
}
trap clean_up EXIT

ok() { count=$((count + 1)); echo "ok $count - $1"; }
not_ok()
{
	count=$((count + 1)); failed=$((failed + 1))
	echo "not ok $count - $1"
	printf '%s\n' "${@:2}" | sed 's/^/# /'
}
is() { if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got:    $2" "wanted: $3"; fi; }
like() { case $2 in *"$3"*) ok "$1" ;; *) not_ok "$1" "got:    ${2:0:900}" "wanted: *$3*" ;; esac; }
unlike() { case $2 in *"$3"*) not_ok "$1" "got:      ${2:0:900}" "unwanted: *$3*" ;; *) ok "$1" ;; esac; }

# the plan; the script's status is this one
finish()
{
	echo "1..$count"
	[ "$failed" = 0 ] || echo "# $failed of $count failed"
	[ "$failed" = 0 ]
}

# start NAME OPTION...: starts a simulator, sets "url" to its first address
start()
{
	local name=$1
	shift
	"$rspsim" --port=0 --quiet "$@" >"$dir/$name.out" 2>"$dir/$name.err" &
	pids+=($!)
	for _ in $(seq 50); do
		url=$(sed -n '1s/^rspsim listening on //p' "$dir/$name.out")
		[ -n "$url" ] && return
		sleep 0.05
	done
	echo "Bail out! rspsim did not start: $(cat "$dir/$name.err")"
	exit 1
}

# request METHOD URL [BODY] [curl option]...: sets code, status, body, headers
request()
{
	local method=$1 target=$2 data=${3-}
	shift $(($# < 3 ? $# : 3))
	: >"$dir/body"
	status=$(curl -sS -X "$method" -o "$dir/body" -D "$dir/headers" -w '%{http_code}' \
		${data:+-H 'Content-Type: application/json' --data-binary "$data"} \
		--max-time "$limit" "$@" "$target" 2>"$dir/curl")
	code=$?
	body=$(head -c 200000 "$dir/body" | tr -d '\0')
	headers=$(tr -d '\r' <"$dir/headers" 2>/dev/null)
}

control() { request POST "$url/control/$1" "$2"; [ "$status" = 200 ] || not_ok "control $1 $2" "$body"; }
fault() { request DELETE "$url/control/fault"; control fault "$1"; }
no_fault() { request DELETE "$url/control/fault"; }
reset() { control reset '{}'; }
ledger() { request GET "$url/control/ledger"; number "$1"; }

# a member of the body, a text or a number
member() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" <<<"$body" | head -n 1; }
number() { grep -o "\"$1\":[0-9]*" <<<"$body" | head -n 1 | cut -d: -f2; }

eid=89049032000000000000000000000001
eid2=89049032000000000000000000000002
