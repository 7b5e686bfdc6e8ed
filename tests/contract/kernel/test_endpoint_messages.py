"""What is sent for endpoints that are made together is what the executor sends for their plans, byte for byte."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from overlayd.dataplane.desired.new_endpoint import NewEndpoint
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.diff import diff
from overlayd.dataplane.items import NamespaceRef
from overlayd.kernel.netlink.framing import NLM_F_CREATE, NLM_F_EXCL, messages
from overlayd.kernel.netlink.rtnetlink import (
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_NEWQDISC,
    RTM_NEWROUTE,
    RTM_NEWTFILTER,
    RTM_SETLINK,
)
from overlayd.kernel.spaces import namespaces
from overlayd.model.bandwidth import UNLIMITED, Bandwidth, Rate
from overlayd.model.network import Topology, Uplink
from tests.support.controllers.clusters import HERE, dual, endpoint, site
from tests.support.kernel.hosted_kernel import HostedKernel, SimulatedHost
from tests.support.kernel.worlds import UNDERLAY

pytestmark = pytest.mark.usefixtures("root")

Message = tuple[int, int, bytes]
"""Type, flags and content."""

WRITES = {RTM_NEWADDR, RTM_NEWLINK, RTM_NEWNEIGH, RTM_NEWQDISC, RTM_NEWROUTE, RTM_NEWTFILTER, RTM_SETLINK}
LIMITS = Bandwidth(Rate(100_000_000, 8_000_000), Rate(50_000_000, 4_000_000))


class HeardSocket(socket.socket):
    """A socket that keeps what is written over rtnetlink."""

    written: list[Message]

    def send(self, data: bytes, flags: int = 0, /) -> int:  # type: ignore[override]
        if self.family == socket.AF_NETLINK and self.proto == socket.NETLINK_ROUTE:
            self.written += (_known(*each) for each in messages(bytes(data)) if each[0] in WRITES)
        return super().send(data, flags)


def _known(kind: int, flags: int, _: int, content: bytes) -> Message:
    """Return a message without what differs by chance: the descriptor at the end of one that makes a pair."""
    makes = kind == RTM_NEWLINK and flags & NLM_F_CREATE and flags & NLM_F_EXCL
    return kind, flags, content[:-4] if makes else content


@contextmanager
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Message]]:
    HeardSocket.written = []
    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", HeardSocket)
        yield HeardSocket.written


@pytest.mark.parametrize("topology", list(Topology))
@pytest.mark.parametrize("uplink", [Uplink.NONE, Uplink.ISOLATED])
@pytest.mark.parametrize("bandwidth", [UNLIMITED, LIMITS], ids=["unlimited", "limited"])
@pytest.mark.parametrize("addresses", ["10.32.0.5", "fd00:32::5", "10.32.0.5,fd00:32::5"])
def test_the_messages_are_those_of_the_executor(
    monkeypatch: pytest.MonkeyPatch, topology: Topology, uplink: Uplink, bandwidth: Bandwidth, addresses: str
) -> None:
    known = dual(topology)
    (network,) = (replace(each, uplink=uplink, ethertypes=_ethertypes(topology)) for each in known.networks.values())
    known = known.changed(known.revision, [replace(known.hosts[HERE], address=UNDERLAY.ip), network])
    new = NewEndpoint(network, endpoint(1, "web", addresses), site().mtu, bandwidth)
    sent: list[list[Message]] = []
    for is_together in (True, False):
        with SimulatedHost(UNDERLAY) as host, heard(monkeypatch) as written:
            kernel = HostedKernel(host)
            assert all(outcome.done for outcome in kernel.apply(diff(resolve(known, site(), []), frozenset())))
            host.run(namespaces.create, NamespaceRef(new.endpoint.sandbox))
            written.clear()
            if is_together:
                assert kernel.attach([new]) == (None,)
            else:
                assert all(outcome.done for outcome in kernel.apply(new.plan))
            sent.append(list(written))
            kernel.close()
    together, alone = sent
    assert together
    assert sorted(together) == sorted(alone)
    if topology is Topology.ROUTED:
        assert together == alone, "and in the same order"


def _ethertypes(topology: Topology) -> tuple[int, ...]:
    return (0x88B5,) if topology is Topology.SWITCHED else ()
