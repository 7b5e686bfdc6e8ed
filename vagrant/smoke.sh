#!/bin/bash
# Tries the three machines: a network, a sandbox on each through the CNI plugin, a ping for each pair, and all is gone again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

hosts=(host1 host2 host3)
network=smoke
sandbox="sudo /srv/overlayd/vagrant/sandbox.sh"
declare -A address

on() {
    vagrant ssh "$1" --no-tty -c "$2" </dev/null
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
    listed=$(on host1 "overlayctl endpoint list --network $network --json") || return
    for host in "${hosts[@]}"; do
        [[ $listed == *"\"${address[$host]}\""* ]] || return
    done
}

network_is_gone() {
    local listed
    listed=$(on host1 "overlayctl network list --json") || return
    [[ $listed != *"\"$network\""* ]]
}

# Also after a failure half-way.
remove() {
    local host status=0
    for host in "${hosts[@]}"; do
        on "$host" "$sandbox detach $network" || status=1
    done
    on host1 "overlayctl network delete $network" || return
    eventually network_is_gone || return # the hosts give back their blocks first
    return "$status"
}

on host1 "overlayctl network create $network --range 10.200.0.0/16"
trap remove EXIT

for host in "${hosts[@]}"; do
    address[$host]=$(on "$host" "$sandbox attach $network")
    echo "$host: ${address[$host]}"
done
eventually every_endpoint_is_published
on host1 "overlayctl wait --network $network"

for source in "${hosts[@]}"; do
    for destination in "${hosts[@]}"; do
        [ "$source" != "$destination" ] || continue
        echo "$source -> $destination"
        on "$source" "$sandbox ping $network ${address[$destination]}"
    done
done

trap - EXIT
remove
echo "every ping was answered"
