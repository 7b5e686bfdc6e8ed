#!/bin/bash
# Starts the three machines and forms a cluster of them, as docs/install.md describes; may be repeated.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

hosts=(host1 host2 host3)
controller=192.168.56.11

on() {
    vagrant ssh "$1" --no-tty -c "$2"
}

vagrant up --provision "$@"

# The command with which a machine joins. It is passed by standard input, because it contains a token.
said=$(on host1 "sudo overlay-controller init --listen $controller" </dev/null)
joining=$(grep 'overlayd join' <<<"$said")
for host in "${hosts[@]}"; do
    echo "$host joins"
    on "$host" "bash -eu -o pipefail -s" <<<"$joining"
done
on host1 "sudo overlayctl host list" </dev/null
