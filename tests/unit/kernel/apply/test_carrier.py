"""A container sends from the moment that its pair is up: the kernel's own look at the carrier comes later."""

import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from ipaddress import IPv4Interface

import pytest

from overlayd.dataplane.items import Link, NamespaceRef, Veth, VethPeer
from overlayd.dataplane.plan import Change
from overlayd.kernel.apply import carrier
from overlayd.kernel.apply.sockets import open_in
from overlayd.kernel.netlink import link_messages
from overlayd.kernel.netlink.transport import Netlink
from overlayd.kernel.port import Outcome
from overlayd.kernel.spaces import namespaces
from overlayd.kernel.spaces.namespaces import descriptor
from overlayd.model.ids import InterfaceName, MacAddress
from tests.support.kernel.hosted_kernel import SimulatedHost

pytestmark = pytest.mark.usefixtures("root")

NEAR, SANDBOX = NamespaceRef("/run/netns/ov-blue"), NamespaceRef("/run/netns/c1")
INSIDE, OUTSIDE = InterfaceName("eth0"), InterfaceName("ve1")
MAC = MacAddress("02:00:00:00:00:01")
PEER = VethPeer(SANDBOX, INSIDE, MAC)
PAIR = Link(NEAR, OUTSIDE, Veth(PEER), MAC, 1450, up=False)
ETHERTYPE = 0x88B5
"""For local experiments (IEEE 802)."""

FRAME = bytes.fromhex(f"ffffffffffff020000000002{ETHERTYPE:04x}").ljust(60, b"x")
ROUNDS = 60


@pytest.fixture
def host() -> Iterator[SimulatedHost]:
    with SimulatedHost(IPv4Interface("192.0.2.1/24")) as made:
        for ns in (NEAR, SANDBOX):
            made.run(namespaces.create, ns)
        yield made


def set_up(near: Netlink, inside: Netlink) -> None:
    """Make a pair and set it up, the container's end first: as an attachment does."""
    with descriptor(SANDBOX) as fd:
        near.execute(link_messages.created_pair(PAIR, PEER, fd, up=False))
    inside.execute(link_messages.changed(INSIDE, up=True))
    near.execute(link_messages.changed(OUTSIDE, up=True))


def in_namespace(ns: NamespaceRef, device: InterfaceName) -> socket.socket:
    """Return a socket that sends and receives frames at a device."""
    with descriptor(ns) as fd, namespaces.entered(fd):
        found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE))
    found.bind((device, ETHERTYPE))
    found.settimeout(0.5)
    return found


def test_nothing_is_dropped_once_the_kernel_was_asked(host: SimulatedHost) -> None:
    outcome = Outcome(Change(replace(PAIR, up=True), PAIR))

    def rounds() -> int:
        """Count what arrives of the first frame of each container."""
        found = 0
        with closing(open_in(NEAR)) as near, closing(open_in(SANDBOX)) as inside:
            for _ in range(ROUNDS):
                set_up(near, inside)
                carrier.settle([outcome])
                with in_namespace(NEAR, OUTSIDE) as receiver, in_namespace(SANDBOX, INSIDE) as sender:
                    sender.send(FRAME)
                    with suppress(TimeoutError):
                        found += receiver.recv(2048) == FRAME
                near.execute(link_messages.deleted(OUTSIDE))
        return found

    assert host.run(rounds) == ROUNDS


def test_a_container_that_is_gone_is_no_failure(host: SimulatedHost) -> None:
    host.run(carrier.settle, [Outcome(Change(replace(PAIR, up=True), PAIR))])
