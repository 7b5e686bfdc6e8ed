"""The rules by which published ports lead somewhere, read back."""

from ipaddress import ip_address

import pytest

from overlayd.dataplane.desired.firewall import HostUplink, Metadata, host_table, inner_table
from overlayd.dataplane.desired.uplink import host_device
from overlayd.dataplane.redirection import Redirection, redirections
from overlayd.model.address import IpAddress
from overlayd.model.ids import NetworkName
from overlayd.model.network import Topology, Uplink
from overlayd.model.published_port import PortMapping, Published, TransportProtocol
from tests.support.controllers import clusters

BLUE = clusters.dual(Topology.ROUTED).networks[NetworkName("blue")]
V4, V6 = ip_address("10.32.0.5"), ip_address("fd00:32::5")
HIDDEN4, HIDDEN6 = ip_address("241.0.0.100"), ip_address("fd6f:7665:726c:6179::64")
UDP, SCTP = TransportProtocol.UDP, TransportProtocol.SCTP


def published(transport: TransportProtocol, at: str | None) -> Published:
    return Published(BLUE.name, (V4, V6), PortMapping(transport, 8080, 80, ip_address(at) if at else None))


@pytest.mark.parametrize("transport", [UDP, SCTP])
@pytest.mark.parametrize(
    ("at", "read"),
    [
        (None, {(None, V4), (None, V6)}),
        ("0.0.0.0", {(None, V4)}),
        ("::", {(None, V6)}),
        ("192.0.2.1", {(ip_address("192.0.2.1"), V4)}),
        ("2001:db8::1", {(ip_address("2001:db8::1"), V6)}),
    ],
)
def test_what_a_network_with_host_access_publishes_is_read(
    transport: TransportProtocol, at: str | None, read: set[tuple[IpAddress | None, IpAddress]]
) -> None:
    way = HostUplink(BLUE, Uplink.HOST, host_device(BLUE.vni), (published(transport, at),))
    expected = {Redirection(transport, 8080, where, target, 80) for where, target in read}
    assert redirections(host_table([way], (), {4789}, Metadata.ALLOWED).text) == expected


def test_what_an_isolated_network_publishes_is_read_on_both_sides() -> None:
    ports = (published(UDP, "192.0.2.1"), published(UDP, "::"))
    way = HostUplink(BLUE, Uplink.ISOLATED, host_device(BLUE.vni), ports)
    assert redirections(host_table([way], (), {4789}, Metadata.ALLOWED).text) == {
        Redirection(UDP, 8080, ip_address("192.0.2.1"), HIDDEN4, 8080),
        Redirection(UDP, 8080, None, HIDDEN6, 8080),
    }
    inner = inner_table(BLUE, Uplink.ISOLATED, [ip_address("10.32.0.1"), ip_address("fd00:32::1")], ports)
    assert inner is not None
    assert redirections(inner.text) == {
        Redirection(UDP, 8080, HIDDEN4, V4, 80),
        Redirection(UDP, 8080, HIDDEN6, V6, 80),
    }


def test_connections_that_end_by_themselves_are_left_alone() -> None:
    way = HostUplink(BLUE, Uplink.HOST, host_device(BLUE.vni), (published(TransportProtocol.TCP, None),))
    assert redirections(host_table([way], (), {4789}, Metadata.ALLOWED).text) == frozenset()
