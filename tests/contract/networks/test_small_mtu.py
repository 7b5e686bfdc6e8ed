"""An underlay that leaves IPv6 too little: IPv4 goes on, and IPv6 is back as soon as there is room for it."""

from dataclasses import replace

import pytest

from overlayd.dataplane.desired.endpoint import resolve_endpoint
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.items import Address, State
from overlayd.model.ids import NetworkName
from overlayd.model.network import Topology, Uplink
from tests.support.controllers.clusters import dual, endpoint, site
from tests.support.kernel.worlds import World, enforce

BLUE = NetworkName("blue")
LOCAL = endpoint(1, "web", "10.32.0.5,fd00:32::5")


def families(state: State) -> set[int]:
    """Return the families of the addresses in the sandbox."""
    return {item.address.version for item in state if isinstance(item, Address) and item.ns == LOCAL.sandbox}


@pytest.mark.parametrize("kind", [Uplink.HOST, Uplink.ISOLATED])
@pytest.mark.parametrize("begins", ["wide", "narrow"])
def test_ipv6_goes_and_comes_back_with_the_mtu(world: World, topology: Topology, kind: Uplink, begins: str) -> None:
    world.add_sandbox(LOCAL.sandbox)
    known = dual(topology)
    network = replace(known.networks[BLUE], uplink=kind)
    known = known.changed(known.revision, [network])
    for underlay in (1300, 1500, 1329, 1330) if begins == "narrow" else (1500, 1300, 9000):
        here = site(underlay)
        enforce(world, resolve(known, here, [LOCAL]))
        items = resolve_endpoint(network, LOCAL, here.mtu)
        assert world.kernel.missing(items) == frozenset()
        assert families(items) == ({4, 6} if here.mtu >= 1280 else {4})
