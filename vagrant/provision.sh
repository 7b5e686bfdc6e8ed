#!/bin/bash
# Installs or upgrades the package that Vagrant has copied to the machine. Vagrant runs this script as root.
set -euo pipefail

export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT

install() {
    apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends --reinstall /tmp/overlayd.deb
}

# A new machine has no package lists, and dependencies of the package may be missing.
{ install || { apt-get -q update && install; }; } </dev/null >"$log" 2>&1 || {
    cat "$log" >&2
    exit 1
}
overlayd --version
