#!/bin/bash
# test/test.sh
# All tests, in throw-away clusters: `make test`.
#
# Ends with the line "N passed, N failed"; where something failed, the logs are
# kept and the line before says where.  Environment:
#   SUITES   which suites, of: furniture unit simulator regress isolation pgtap tap
#   TESTS    for tap: which scripts, such as "t/001_main.pl t/004_crash.pl"
#   KEEP=1   keeps what was made, for a look after the end
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

SUITES=${SUITES:-furniture unit simulator regress isolation pgtap tap}
PASSED=0
FAILED=0

prepare
make_scratch test
LOGS=$SCRATCH/logs
mkdir "$LOGS"
chmod 777 "$LOGS"

# count NAME PASSED FAILED STATUS: a suite that failed without a failed test counts as one
count() {
	local failed=$3

	if [ "$4" -ne 0 ] && [ "$failed" -eq 0 ]; then
		failed=1
	fi
	PASSED=$((PASSED + $2))
	FAILED=$((FAILED + failed))
	printf '%-12s %6d passed, %d failed\n' "$1" "$2" "$failed"
}

# lines PATTERN FILE: how many match
lines() {
	grep -cE "$1" "$2" || true
}

# count_tap NAME LOG STATUS: the points of TAP output, subtests not counted
count_tap() {
	local bad

	bad=$(grep -E '^not ok ' "$2" | grep -cvE '# (TODO|SKIP)' || true)
	count "$1" "$(lines '^ok |^not ok .*# (TODO|SKIP)' "$2")" "$bad" "$3"
	if [ "$bad" -ne 0 ] || [ "$3" -ne 0 ]; then
		[ "$3" -lt 124 ] || say "  ended by a signal or the time limit (status $3)"
		grep -E -A 6 '^not ok |^# +(Failed|Looks like)|Dubious|Parse errors|Bailout|^Bail out|: error:|\*\*\* ' "$2" |
			grep -vE '^ok |^--$' | head -n 60 | sed 's/^/  /' || true
	fi
}

# count_regress NAME LOG STATUS DIFFS: pg_regress prints TAP from version 16 on
count_regress() {
	count "$1" "$(lines '\.\.\. +ok |^ok ' "$2")" "$(lines '\.\.\. .*(FAILED|failed)|^not ok ' "$2")" "$3"
	if [ "$3" -ne 0 ]; then
		grep -E 'FAILED|failed|^not ok ' "$2" | sed 's/^/  /' || tail -n 20 "$2" | sed 's/^/  /'
		[ ! -s "$4" ] || head -n 80 "$4" | sed 's/^/  /'
	fi
}

# The version stands in esim.control; where it must stand again, it must be the same.
furniture() {
	local log=$LOGS/furniture.log
	local version
	local status=0
	local n=0

	version=$(sed -n "s/^default_version *= *'\(.*\)'/\1/p" "$SOURCE/esim.control")
	check() {
		n=$((n + 1))
		if [ "$1" -eq 0 ]; then
			echo "ok $n - $2"
		else
			echo "not ok $n - $2"
			status=1
		fi
	}
	{
		perl -MJSON::PP -e '
			local $/; my $meta = JSON::PP->new->decode(<STDIN>);
			exit !($meta->{version} eq $ARGV[0] && $meta->{provides}{esim}{version} eq $ARGV[0])' \
			"$version" <"$SOURCE/META.json" && check 0 "META.json has version $version" ||
			check 1 "META.json has version $version"
		grep -q "^## $version\b" "$SOURCE/CHANGELOG.md" && check 0 "CHANGELOG.md knows version $version" ||
			check 1 "CHANGELOG.md knows version $version"
		[ -s "$SOURCE/sql/esim--$version.sql" ] && check 0 "the install script has the version" ||
			check 1 "the install script has the version"
		for file in "$SOURCE"/test/*.sh "$SOURCE"/.ci/run; do
			bash -n "$file" && check 0 "syntax of ${file#"$SOURCE/"}" || check 1 "syntax of ${file#"$SOURCE/"}"
		done
	} >"$log" 2>&1
	count_tap furniture "$log" "$status"
}

unit() {
	local log=$LOGS/unit.log
	local status=0
	local program
	local one

	: >"$log"
	make -C "$SOURCE/test/unit" -j2 PG_CONFIG="$PG_CONFIG" all >"$log" 2>&1 || status=$?
	if [ "$status" -eq 0 ]; then
		for program in "$SOURCE"/test/unit/test_*; do
			[ -f "$program" ] && [ -x "$program" ] || continue
			echo "# $(basename "$program")" >>"$log"
			one=0
			bounded 120 env "ESIM_RSPSIM=$SCRATCH/bin/rspsim" "$program" >>"$log" 2>&1 || one=$?
			[ "$one" -eq 0 ] || { status=$one; echo "# Failed: $program, status $one" >>"$log"; }
		done
	fi
	count_tap unit "$log" "$status"
}

simulator() {
	local log=$LOGS/simulator.log
	local status=0

	: >"$log"
	for script in "$SOURCE"/test/rsp/selftest*.sh; do
		bounded 180 bash "$script" >>"$log" 2>&1 || status=$?
	done
	count_tap simulator "$log" "$status"
}

# pg_regress looks for expected/ beside sql/
regress() {
	local input=$SCRATCH/regress
	local log=$LOGS/regress.log
	local status=0
	local tests=()
	local file

	mkdir -p "$input"
	cp -R "$SOURCE/test/sql" "$SOURCE/expected" "$input"
	for file in "$input"/sql/*.sql; do
		tests+=("$(basename "$file" .sql)")
	done
	printf '%s\n' 'esim.workers = 0' >"$input/conf"
	chmod -R a+rX "$input"
	bounded 180 "$PGXS_DIR/test/regress/pg_regress" --bindir="$BINDIR" --inputdir="$input" \
		--outputdir="$LOGS" --temp-instance="$SCRATCH/regress_instance" --temp-config="$input/conf" \
		--encoding=UTF8 --load-extension=esim --dbname=contrib_regression "${tests[@]}" >"$log" 2>&1 || status=$?
	count_regress regress "$log" "$status" "$LOGS/regression.diffs"
}

isolation() {
	local input=$SCRATCH/isolation
	local log=$LOGS/isolation.log
	local status=0
	local tests=()
	local file

	mkdir -p "$input" "$LOGS/isolation"
	chmod 777 "$LOGS/isolation"
	cp -R "$SOURCE/test/isolation/." "$input"
	for file in "$input"/specs/*.spec; do
		tests+=("$(basename "$file" .spec)")
	done
	printf '%s\n' 'esim.workers = 0' 'max_prepared_transactions = 5' >"$input/conf"
	chmod -R a+rX "$input"
	bounded 240 "$PGXS_DIR/test/isolation/pg_isolation_regress" --bindir="$BINDIR" --inputdir="$input" \
		--outputdir="$LOGS/isolation" --temp-instance="$SCRATCH/isolation_instance" \
		--temp-config="$input/conf" --encoding=UTF8 --load-extension=esim \
		--dbname=isolation_regression "${tests[@]}" >"$log" 2>&1 || status=$?
	count_regress isolation "$log" "$status" "$LOGS/isolation/regression.diffs"
}

pgtap() {
	local log=$LOGS/pgtap.log
	local status=0

	cluster_start pgtap "esim.workers = 0" "fsync = off"
	sql -q -d postgres -c 'CREATE EXTENSION pgtap' -c 'CREATE SCHEMA esim' \
		-c 'CREATE EXTENSION esim SCHEMA esim' -c 'ALTER DATABASE postgres SET search_path = esim, public' \
		>"$log" 2>&1 || status=$?
	if [ "$status" -eq 0 ]; then
		bounded 300 env "PATH=$BINDIR:$PATH" pg_prove -v -h "$SCRATCH" -p "$PORT" -U postgres -d postgres \
			"$SOURCE"/test/pgtap/*.sql >>"$log" 2>&1 || status=$?
	fi
	count_tap pgtap "$log" "$status"
	cluster_stop pgtap immediate
	cp "$SCRATCH/pgtap.log" "$LOGS/pgtap_server.log" 2>/dev/null || true
}

tap() {
	local log=$LOGS/tap.log
	local status=0
	local scripts=${TESTS:-}

	if [ -z "$scripts" ]; then
		scripts=$(cd "$SOURCE/test" && ls t/*.pl)
	fi
	mkdir "$SCRATCH/tap"
	if [ "$(id -u)" -eq 0 ]; then
		chown postgres: "$SCRATCH/tap"
	fi
	# shellcheck disable=SC2086
	bounded "${TAP_LIMIT:-2400}" env "PATH=$BINDIR:$PATH" "PERL5LIB=$PGXS_DIR/test/perl:$SOURCE/test/t" \
		"PG_REGRESS=$PGXS_DIR/test/regress/pg_regress" "TESTDIR=$SCRATCH/tap" \
		"TESTDATADIR=$SCRATCH/tap/tmp_check" "TESTLOGDIR=$SCRATCH/tap/tmp_check/log" \
		"ESIM_RSPSIM=$SCRATCH/bin/rspsim" "PG_TEST_TIMEOUT_DEFAULT=${PG_TEST_TIMEOUT_DEFAULT:-60}" \
		${KEEP:+PG_TEST_NOCLEAN=1} \
		bash -c 'cd "$1" && shift && exec prove -j3 --timer -v "$@"' prove "$SOURCE/test" $scripts >"$log" 2>&1 || status=$?
	count_tap tap "$log" "$status"
	cp -R "$SCRATCH/tap/tmp_check/log" "$LOGS/tap" 2>/dev/null || true
}

say "building"
build WERROR=1
if [ "$(id -u)" -eq 0 ]; then
	chown -R postgres: "$SOURCE"
fi

for suite in $SUITES; do
	"$suite"
done

if [ -n "${KEEP:-}" ]; then
	KEEP_SCRATCH=1
	say "kept: $SCRATCH"
elif [ "$FAILED" -ne 0 ]; then
	if [ -w "$ROOT" ]; then
		kept=$ROOT/log
		rm -rf "$kept"
	else
		kept=$(mktemp -d /tmp/esim-test-log.XXXXXX)
	fi
	cp -R "$LOGS" "$kept"
	say "logs: $kept"
fi
say "$PASSED passed, $FAILED failed"
[ "$FAILED" -eq 0 ]
