#!/bin/bash
# Makes this machine a host of the overlay: provision.sh CONTROLLER-ADDRESS ROLE...
# The steps are those of docs/install.md, without TLS: the machines see nobody but each other and their owner.
set -euo pipefail

controller=$1
shift
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

install -d /etc/overlayd
services=()
for role; do
    case $role in
    controller)
        {
            echo "OVERLAY_CONTROLLER_LISTEN=\"127.0.0.1:7471 $controller:7471\""
            echo "OVERLAY_CONTROLLER_INSECURE=1"
        } >/etc/overlayd/controller.env
        services+=(overlay-controller)
        ;;
    agent)
        echo "OVERLAYD_CONTROLLER=\"http://$controller:7471\"" >/etc/overlayd/agent.env
        services+=(overlayd)
        ;;
    esac
done

# For overlayctl, in every session.
sed -i '/^OVERLAY_CONTROLLER_URL=/d' /etc/environment
echo "OVERLAY_CONTROLLER_URL=http://$controller:7471" >>/etc/environment

"$source/packaging/install.sh" "$@"
systemctl start "${services[@]}"
