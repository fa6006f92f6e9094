#!/bin/bash
# test/install.sh
# Installs the Debian packages that building and testing esim needs, if any is missing:
#
#   install.sh [MAJOR]
#   install.sh --fuzz	what "make fuzz" needs, and clang
#
# MAJOR is the version of PostgreSQL, "none" if that is no package of Debian's;
# by default it is the suite's own, 15 on Debian 12.  Does nothing where all are
# there.  Works as root, or as a user that may use sudo.  No database cluster is
# made: the scripts bring their own.
set -euo pipefail

major=${1:-}
packages=(
	make gcc pkg-config
	libcurl4-openssl-dev libjansson-dev libssl-dev
	libmicrohttpd-dev libgnutls28-dev
	libqrencode-dev libpng-dev zbar-tools
	perl libipc-run-perl libtap-parser-sourcehandler-pgtap-perl
	openssl curl ca-certificates
)

if [ "$major" = --fuzz ]; then
	major=none
	packages=(make clang pkg-config libcurl4-openssl-dev libjansson-dev)
fi

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	echo "This is not Debian: please see to it that these are installed: PostgreSQL and its headers, pgTAP, pg_cron, ${packages[*]}" >&2
	exit 0
fi

# look [MAJOR]: sets missing
look() {
	local wanted=("${packages[@]}")
	local package
	local status

	[ "${1:-none}" = none ] || wanted+=("postgresql-$1" "postgresql-server-dev-$1" "postgresql-$1-pgtap" "postgresql-$1-cron")
	missing=()
	for package in "${wanted[@]}"; do
		status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
		[ "$status" = installed ] || missing+=("$package")
	done
}

# the suite's own version: what its package "postgresql" depends on
of_suite() {
	apt-cache depends postgresql 2>/dev/null | sed -n 's/.*Depends: postgresql-\([0-9]*\)$/\1/p' | head -n 1
}

[ -n "$major" ] || major=$(of_suite)
look "$major"
if [ -n "$major" ] && [ ${#missing[@]} -eq 0 ]; then
	exit 0
fi

if [ "$(id -u)" -eq 0 ]; then
	sudo=()
elif command -v sudo >/dev/null; then
	sudo=(sudo)
else
	echo "These Debian packages are missing, and only root can install them: ${missing[*]}" >&2
	exit 1
fi

log=$(mktemp)
no_cluster=
forget() {
	rm -f "$log"
	[ -z "$no_cluster" ] || "${sudo[@]}" rm -f "$no_cluster"
}
trap forget EXIT

apt() {
	if ! "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q \
		-o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1 </dev/null; then
		tail -n 30 "$log" >&2
		echo "apt-get $1 failed" >&2
		exit 1
	fi
}

apt update
if [ -z "$major" ]; then
	major=$(of_suite)
	look "$major"
fi

# a version before its release has no extensions yet; the tests say what they miss
wanted=()
for package in "${missing[@]}"; do
	if [[ $package == postgresql-*-@(pgtap|cron) ]] && ! apt-cache show "$package" >/dev/null 2>&1; then
		echo "there is no package $package" >&2
	else
		wanted+=("$package")
	fi
done
[ ${#wanted[@]} -gt 0 ] || exit 0
echo "installing ${wanted[*]}"

# Debian's package of the server would make and start a cluster; not while we install it
if [[ " ${missing[*]} " == *" postgresql-$major "* ]]; then
	no_cluster=/etc/postgresql-common/createcluster.d/esim-test-install.conf
	"${sudo[@]}" mkdir -p "$(dirname "$no_cluster")"
	echo 'create_main_cluster = false' | "${sudo[@]}" tee "$no_cluster" >/dev/null
fi
apt install -y --no-install-recommends "${wanted[@]}"
