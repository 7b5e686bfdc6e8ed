"""What of an attachment plugins after us may have changed."""

from dataclasses import replace

import pytest

from overlayd.agent.attach.interfaces import allowed, described, strange_mac
from overlayd.dataplane.desired.endpoint import resolve_endpoint
from overlayd.dataplane.items import DeviceSysctls, Link, NamespaceRef, NftFamily, NftTable
from overlayd.model.ids import InterfaceName, MacAddress
from tests.support.controllers import clusters

WEB = clusters.endpoint(1, "web", "10.32.0.5,fd00:32::5")
SANDBOX = NamespaceRef(WEB.sandbox)
MTU = 1450


def mtu_expected(announced: int | None, observed: int) -> int | None:
    """Return the MTU that is expected of the container's interface, with that of `prevResult` and the one it has."""
    items = resolve_endpoint(clusters.network(), WEB, MTU)
    (inside,) = (item for item in items if isinstance(item, Link) and item.ns == SANDBOX and item.name == "eth0")
    left = allowed(items, WEB, announced, replace(inside, mtu=observed))
    (expected,) = (item for item in left if isinstance(item, Link) and item.key == inside.key)
    others = {item for item in items if item.key != inside.key and not isinstance(item, DeviceSysctls)}
    assert left - {expected} == others, "nothing else is anybody's"
    return expected.mtu


@pytest.mark.parametrize(
    ("announced", "observed", "expected"),
    [
        (None, MTU, MTU),
        (None, 1400, 1400),
        (None, 1500, MTU),
        (1400, 1400, 1400),
        (1400, MTU, 1400),
        (MTU, MTU, MTU),
        (MTU, 1300, 1300),
        (1400, 1300, 1300),
        (MTU, 1500, MTU),
        (9000, 1500, 9000),
        (9000, 9000, 9000),
        (0, 1400, 1400),
    ],
)
def test_a_plugin_after_us_may_set_the_mtu(announced: int | None, observed: int, expected: int) -> None:
    assert mtu_expected(announced, observed) == expected


def test_without_the_interface_all_of_it_is_expected() -> None:
    items = resolve_endpoint(clusters.network(), WEB, MTU)
    left = allowed(items, WEB, None, None)
    assert left == {item for item in items if not isinstance(item, DeviceSysctls)}


def test_a_mac_that_the_network_does_not_know_is_named_with_what_to_do() -> None:
    items = resolve_endpoint(clusters.network(), WEB, MTU)
    (inside,) = (item for item in items if isinstance(item, Link) and item.ns == SANDBOX and item.name == "eth0")
    assert strange_mac(WEB, inside) is None
    assert strange_mac(WEB, None) is None, "it is missing, which others say"
    found = strange_mac(WEB, replace(inside, mac=MacAddress("02:00:00:00:00:01")))
    assert found is not None
    assert found.startswith(f"eth0 has the MAC address 02:00:00:00:00:01, and the network delivers to {WEB.mac}: ")
    assert "capability mac" in found


def test_what_is_not_in_force_is_told_in_a_line() -> None:
    route = "ip -n web link set lo up"
    items = resolve_endpoint(clusters.network(), WEB, MTU)
    assert f"missing or different: {route}" in {described(item) for item in items}
    table = NftTable(SANDBOX, NftFamily.INET, "overlayd", "table inet overlayd {\n}\n")
    assert described(table) == f"missing or different: table inet overlayd of nftables in {SANDBOX}"
    assert InterfaceName("eth0") in " ".join(map(described, items))
