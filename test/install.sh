#!/bin/bash
# test/install.sh
# Installs the Debian packages that building and testing esim needs, if any is missing.
#
# Does nothing where all are there.  Works as root, or as a user that may use
# sudo.  No database cluster is made: the scripts bring their own.
set -euo pipefail

packages=(
	make gcc pkg-config
	postgresql-15 postgresql-server-dev-15 postgresql-15-pgtap
	libcurl4-openssl-dev libjansson-dev libssl-dev
	libmicrohttpd-dev libgnutls28-dev
	libqrencode-dev libpng-dev zbar-tools postgresql-15-cron
	perl libipc-run-perl libtap-parser-sourcehandler-pgtap-perl
	openssl curl
)

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	echo "This is not Debian: please see to it that these are installed: ${packages[*]}" >&2
	exit 0
fi

missing=()
for package in "${packages[@]}"; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
	sudo=()
elif command -v sudo >/dev/null; then
	sudo=(sudo)
else
	echo "These Debian packages are missing, and only root can install them: ${missing[*]}" >&2
	exit 1
fi

# Debian's postgresql-15 would make and start a cluster; not while we install it
no_cluster=/etc/postgresql-common/createcluster.d/esim-test-install.conf
forget() {
	"${sudo[@]}" rm -f "$no_cluster"
}

echo "installing ${missing[*]}"
if [[ " ${missing[*]} " == *" postgresql-15 "* ]]; then
	trap forget EXIT
	"${sudo[@]}" mkdir -p "$(dirname "$no_cluster")"
	echo 'create_main_cluster = false' | "${sudo[@]}" tee "$no_cluster" >/dev/null
fi
log=$(mktemp)
apt() {
	if ! "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q \
		-o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1 </dev/null; then
		tail -n 30 "$log" >&2
		rm -f "$log"
		echo "apt-get $1 failed" >&2
		exit 1
	fi
}
apt update
apt install -y --no-install-recommends "${missing[@]}"
rm -f "$log"
