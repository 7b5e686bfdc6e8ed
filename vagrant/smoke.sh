#!/bin/bash
# Tests the three machines: creates a network and a sandbox on each by the CNI plugin, pings each pair, and removes it all.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

hosts=(host1 host2 host3)
network=smoke
declare -A address

on() {
    vagrant ssh "$1" --no-tty -c "$2" </dev/null
}

sandbox() {
    local host=$1
    shift
    vagrant ssh "$host" --no-tty -c "sudo bash -s $*" <sandbox.sh
}

eventually() {
    local tries
    for tries in {1..30}; do
        ! "$@" || return 0
        sleep 1
    done
    echo "still not after $tries tries: $*" >&2
    return 1
}

every_endpoint_is_published() {
    local host listed
    listed=$(on host1 "sudo overlayctl endpoint list --network $network --json") || return
    for host in "${hosts[@]}"; do
        [[ $listed == *"\"${address[$host]}\""* ]] || return
    done
}

network_is_gone() {
    local listed
    listed=$(on host1 "sudo overlayctl network list --json") || return
    [[ $listed != *"\"$network\""* ]]
}

# Called after a failure too.
remove() {
    local host status=0
    for host in "${hosts[@]}"; do
        sandbox "$host" detach "$network" || status=1
    done
    on host1 "sudo overlayctl network delete $network" || return
    eventually network_is_gone || return # the hosts release their blocks first
    return "$status"
}

on host1 "sudo overlayctl network create $network --range 10.200.0.0/16"
trap remove EXIT

for host in "${hosts[@]}"; do
    address[$host]=$(sandbox "$host" attach "$network")
    echo "$host: ${address[$host]}"
done
eventually every_endpoint_is_published
on host1 "sudo overlayctl wait --network $network"

for source in "${hosts[@]}"; do
    for destination in "${hosts[@]}"; do
        [ "$source" != "$destination" ] || continue
        echo "$source -> $destination"
        sandbox "$source" ping "$network" "${address[$destination]}"
    done
done

trap - EXIT
remove
echo "every ping was answered"
