"""A local endpoint with all that decides what it has in the kernel, and the plan that makes it. Pure."""

from dataclasses import dataclass

from overlayd.dataplane.desired.endpoint import (
    handed_over,
    handed_pair,
    resolve_endpoint,
    resolve_limits,
    without_sandbox,
)
from overlayd.dataplane.diff import diff
from overlayd.dataplane.items import State
from overlayd.dataplane.plan import Plan
from overlayd.model.address import IpAddress
from overlayd.model.bandwidth import UNLIMITED, Bandwidth
from overlayd.model.endpoint import Endpoint
from overlayd.model.network import Network


@dataclass(frozen=True, slots=True)
class NewEndpoint:
    """An endpoint of a network on this host. The MTU is in bytes; `lost` and `shared` are as for `resolve_endpoint`.

    The interface of one that is handed over is made in the host's own namespace, from where its runtime moves it.
    """

    network: Network
    endpoint: Endpoint
    mtu: int
    bandwidth: Bandwidth = UNLIMITED
    lost: frozenset[IpAddress] = frozenset()
    shared: frozenset[IpAddress] = frozenset()
    is_handed_over: bool = False

    @property
    def items(self) -> State:
        """What the endpoint has in the kernel."""
        limits = resolve_limits(self.endpoint, self.mtu, self.bandwidth)
        items = resolve_endpoint(self.network, self.endpoint, self.mtu, self.lost, self.shared)
        if self.is_handed_over:
            return handed_over(self.network, self.endpoint, items, self.mtu) | without_sandbox(limits)
        return items | limits

    @property
    def plan(self) -> Plan:
        """The operations that make it where nothing of it is."""
        return diff(handed_pair(self.endpoint, self.items) if self.is_handed_over else self.items, frozenset())
