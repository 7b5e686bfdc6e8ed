"""The names of fields as the CNI conventions spell them.

Plugins written in Go read them in any case, so runtimes get away with others: containerd writes `HostPort` and
`IngressRate`, and nobody but us would notice.
"""

from overlayd.wire.fields import Json

_NAMES = (
    *("hostPort", "containerPort", "protocol", "hostIP"),
    *("ingressRate", "ingressBurst", "egressRate", "egressBurst"),
    *("servers", "searches", "options"),
    *("subnet", "rangeStart", "rangeEnd", "gateway"),
)
_SPELLINGS = {name.lower(): name for name in _NAMES}
_DEPTH = 4
"""Levels: `ipRanges` is an array of arrays of objects."""


def as_specified(value: Json, depth: int = _DEPTH) -> Json:
    """Return the value of a capability with its fields spelled as the conventions have them."""
    if depth and isinstance(value, dict):
        return {_SPELLINGS.get(name.lower(), name): as_specified(each, depth - 1) for name, each in value.items()}
    if depth and isinstance(value, list):
        return [as_specified(each, depth - 1) for each in value]
    return value
