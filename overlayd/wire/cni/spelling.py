"""Restores the spelling of field names in the CNI conventions.

Plugins written in Go ignore the case of field names, and so runtimes are careless about it: containerd sends `HostPort`
and `IngressRate`.
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
    """Return the value of a capability with its field names spelled as in the conventions."""
    if depth and isinstance(value, dict):
        return {_SPELLINGS.get(name.lower(), name): as_specified(each, depth - 1) for name, each in value.items()}
    if depth and isinstance(value, list):
        return [as_specified(each, depth - 1) for each in value]
    return value
