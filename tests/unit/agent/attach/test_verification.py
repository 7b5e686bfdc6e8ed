"""What a CHECK finds without the kernel, and what plugins after us may change."""

from dataclasses import replace

import pytest

from overlayd.agent.attach.verification import allowed, contradictions, described, strange_mac
from overlayd.agent.records.attachment_records import Attachment
from overlayd.dataplane.endpoint import resolve_endpoint
from overlayd.dataplane.items import DeviceSysctls, Link, NamespaceRef, NftFamily, NftTable
from overlayd.model.bandwidth import Bandwidth, Rate
from overlayd.model.ids import InterfaceName, MacAddress
from overlayd.model.published_port import PortMapping, TransportProtocol
from overlayd.wire import cni_result
from overlayd.wire.cni import Command, Request
from overlayd.wire.cni_wishes import NOTHING, Wishes
from overlayd.wire.fields import Fields, Json
from tests.support.controllers import clusters

WEB = clusters.endpoint(1, "web", "10.32.0.5,fd00:32::5")
SANDBOX = NamespaceRef(WEB.sandbox)
PORTS = (PortMapping(TransportProtocol.TCP, 8080, 80), PortMapping(TransportProtocol.UDP, 53, 53))
LIMITS = Bandwidth(ingress=Rate(1_000_000, 80_000))
ATTACHED = Attachment(WEB, (4, 1), PORTS, LIMITS)
MTU = 1450


def check(*, wishes: Wishes = NOTHING, mac: str = WEB.mac, mtu: int | None = None, **changes: Json) -> Request:
    """Return a CHECK with the result of the whole chain, as it is when nothing was changed but what is said."""
    interface: Json = {"name": "eth0", "sandbox": WEB.sandbox, "mac": mac.upper(), "mtu": mtu}
    whole: dict[str, Json] = {
        "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:99"}, interface],
        "ips": [{"address": "10.32.0.5/32"}, {"address": "fd00:32::5/128"}, {"address": "192.0.2.9/24"}],
    }
    previous = cni_result.parse_previous(Fields({**whole, **changes}))
    name = WEB.network
    return Request(Command.CHECK, "1.0.0", name, WEB.container_id, WEB.interface, WEB.sandbox, name, wishes, previous)


@pytest.mark.parametrize(
    "request_",
    [
        check(),
        check(wishes=Wishes(ports=PORTS[::-1], bandwidth=LIMITS)),
        check(mac=""),
        check(mtu=0),
        check(mac="02:00:00:00:00:01"),  # the kernel says whether that is so
    ],
)
def test_what_is_as_it_was_made_has_no_contradiction(request_: Request) -> None:
    assert list(contradictions(request_, ATTACHED)) == []


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        (check(ips=[{"address": "fd00:32::5/128"}]), "prevResult does not have the address 10.32.0.5"),
        (check(interfaces=[{"name": "eth0"}]), "prevResult does not have the interface eth0 in a sandbox"),
        (
            check(wishes=Wishes(ports=PORTS[:1])),
            "runtimeConfig.portMappings is not what was published: TCP port 8080, UDP port 53",
        ),
        (
            check(wishes=Wishes(bandwidth=Bandwidth(egress=Rate(1_000_000, 80_000)))),
            "runtimeConfig.bandwidth is not what was asked for at the attachment",
        ),
    ],
)
def test_a_contradiction_is_named(request_: Request, found: str) -> None:
    assert list(contradictions(request_, ATTACHED)) == [found]


def mtu_expected(told: int | None, observed: int) -> int | None:
    """Return the MTU that is expected of the container's interface, with that of `prevResult` and the one it has."""
    items = resolve_endpoint(clusters.network(), WEB, MTU)
    (inside,) = (item for item in items if isinstance(item, Link) and item.ns == SANDBOX and item.name == "eth0")
    left = allowed(items, WEB, check(mtu=told), replace(inside, mtu=observed))
    (expected,) = (item for item in left if isinstance(item, Link) and item.key == inside.key)
    others = {item for item in items if item.key != inside.key and not isinstance(item, DeviceSysctls)}
    assert left - {expected} == others, "nothing else is anybody's"
    return expected.mtu


@pytest.mark.parametrize(
    ("told", "observed", "expected"),
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
def test_a_plugin_after_us_may_set_the_mtu(told: int | None, observed: int, expected: int) -> None:
    assert mtu_expected(told, observed) == expected


def test_without_the_interface_all_of_it_is_expected() -> None:
    items = resolve_endpoint(clusters.network(), WEB, MTU)
    left = allowed(items, WEB, check(), None)
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
