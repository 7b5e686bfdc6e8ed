"""Bandwidth limits of a container as token buckets at both ends of its veth pair. Pure."""

from collections.abc import Iterator

from overlayd.dataplane.items import BUCKET_TICK, NamespaceRef, RateLimit
from overlayd.model.bandwidth import Bandwidth, Rate
from overlayd.model.ids import InterfaceName

_LATENCY = 25
"""Milliseconds that a packet may wait in the queue, as in the plugin `bandwidth` of the CNI project."""

_BURST_MIN = 10
"""The smallest burst, in milliseconds at the rate: with less the rate would not be reached."""

_FRAME_EXTRA = 14
_NANOSECONDS, _MILLISECONDS = 1_000_000_000, 1_000
_NUMBER_MAX = (1 << 32) - 1


Device = tuple[NamespaceRef, InterfaceName]


def limits(bandwidth: Bandwidth, near: Device, far: Device, mtu: int) -> Iterator[RateLimit]:
    """Yield the limits of a veth pair: of what a container receives on the host's end, of what it sends on its own."""
    for rate, (ns, dev) in ((bandwidth.ingress, near), (bandwidth.egress, far)):
        if rate:
            yield _bucket(rate, ns, dev, mtu)


def _bucket(rate: Rate, ns: NamespaceRef, dev: InterfaceName, mtu: int) -> RateLimit:
    per_second = rate.rate // 8
    # A frame larger than the bucket would never pass.
    burst = max(rate.burst // 8, per_second * _BURST_MIN // _MILLISECONDS, 2 * (mtu + _FRAME_EXTRA))
    depth = min(-(-burst * _NANOSECONDS // (per_second * BUCKET_TICK)), _NUMBER_MAX)
    waiting = min(per_second * _LATENCY // _MILLISECONDS + burst, _NUMBER_MAX)
    return RateLimit(ns, dev, per_second, depth, waiting)
