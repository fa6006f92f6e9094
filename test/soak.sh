#!/bin/bash
# test/soak.sh
# Everything at once, for long, with faults of every kind: `make soak`.
#
# The script is test/t/070_soak.pl, of which `make test` runs a short form.  The
# seed is printed; given again it repeats the plan of actions.  Environment:
#   MINUTES  how long (10)
#   SEED     of the plan (drawn)
#   CLIENTS  how many applications (8)
#   KEEP=1   keeps what was made, for a look after the end
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

MINUTES=${MINUTES:-10}
SEED=${SEED:-$RANDOM}
SECONDS_LONG=$(awk -v m="$MINUTES" 'BEGIN { printf "%d", m * 60 }')

[ "$SECONDS_LONG" -gt 0 ] || die "MINUTES must be a number above zero"
prepare
make_scratch soak
say "building"
build WERROR=1
if [ "$(id -u)" -eq 0 ]; then
	chown -R postgres: "$SOURCE"
fi
mkdir "$SCRATCH/tap"
if [ "$(id -u)" -eq 0 ]; then
	chown postgres: "$SCRATCH/tap"
fi

say "$MINUTES minutes, SEED=$SEED"
status=0
bounded $((SECONDS_LONG + 1800)) env "PATH=$BINDIR:$PATH" "PERL5LIB=$PGXS_DIR/test/perl:$SOURCE/test/t" \
	"PG_REGRESS=$PGXS_DIR/test/regress/pg_regress" "TESTDIR=$SCRATCH/tap" \
	"TESTDATADIR=$SCRATCH/tap/tmp_check" "TESTLOGDIR=$SCRATCH/tap/tmp_check/log" \
	"ESIM_RSPSIM=$SCRATCH/bin/rspsim" "PG_TEST_TIMEOUT_DEFAULT=${PG_TEST_TIMEOUT_DEFAULT:-180}" \
	"ESIM_SOAK_SECONDS=$SECONDS_LONG" "ESIM_SOAK_SEED=$SEED" "ESIM_SOAK_CLIENTS=${CLIENTS:-8}" \
	PG_TEST_NOCLEAN=1 \
	bash -c 'cd "$1" && exec prove -v t/070_soak.pl' prove "$SOURCE/test" || status=$?

if [ -n "${KEEP:-}" ]; then
	KEEP_SCRATCH=1
	say "kept: $SCRATCH"
elif [ "$status" -ne 0 ]; then
	kept=$(mktemp -d /tmp/esim-soak-log.XXXXXX)
	cp -R "$SCRATCH/tap/tmp_check/log" "$SCRATCH/tap/tmp_check/soak" "$kept"
	say "logs: $kept"
fi
say "SEED=$SEED: $([ "$status" -eq 0 ] && echo passed || echo failed)"
[ "$status" -eq 0 ]
