#!/bin/bash
# Installs the package that Vagrant has put there, or brings the machine up to it. Vagrant runs this as root.
set -euo pipefail

export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT

install() {
    apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends --reinstall /tmp/overlayd.deb
}

# A new machine has no lists of packages, which what the package depends on may want.
{ install || { apt-get -q update && install; }; } </dev/null >"$log" 2>&1 || {
    cat "$log" >&2
    exit 1
}
overlayd --version
