#!/bin/bash
# Tests a network with a network namespace in place of a container, on one machine, as root:
#
#     sandbox.sh attach NETWORK       creates a sandbox, attaches it and prints its address
#     sandbox.sh ping NETWORK ADDRESS sends packets of the maximum size from it
#     sandbox.sh detach NETWORK       detaches and removes it; may be repeated
#
# smoke.sh sends this script to the machines by `bash -s`.
set -euo pipefail

network=$2
sandbox=sandbox-$network
namespace=/run/netns/$sandbox
container=$sandbox-$HOSTNAME # a container id must be unique in a network

# Executes the plugin as a container runtime does (CNI specification, section 2).
cni() {
    echo "{\"cniVersion\": \"1.0.0\", \"name\": \"$network\", \"type\": \"overlayd\"}" |
        env CNI_COMMAND="$1" CNI_CONTAINERID="$container" CNI_NETNS="$namespace" CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin \
            /opt/cni/bin/overlayd
}

case $1 in
attach)
    ip netns add "$sandbox"
    if ! answer=$(cni ADD); then
        echo "ADD failed: $answer" >&2
        exit 1
    fi
    python3 -c 'import json, sys; print(json.loads(sys.argv[1])["ips"][0]["address"].partition("/")[0])' "$answer"
    ;;
ping)
    mtu=$(nsenter --net="$namespace" ip -json link show dev eth0 |
        python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["mtu"])')
    # 28 bytes are the headers of IPv4 and ICMP; -M do forbids fragments.
    nsenter --net="$namespace" ping -n -q -c 3 -i 0.2 -W 2 -M "do" -s $((mtu - 28)) "$3"
    ;;
detach)
    cni DEL
    ! [ -e "$namespace" ] || ip netns delete "$sandbox"
    ;;
*)
    echo "there is no sandbox.sh $1" >&2
    exit 2
    ;;
esac
