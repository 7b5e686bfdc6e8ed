"""The versions of the CNI SPEC, and the features that each introduced."""

SUPPORTED = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""In ascending order. A config without `cniVersion` has the first one (SPEC 0.1.0)."""

VERSION = "0.2.0"
"""The operation VERSION. Without a version in the config its answer is in the latest version."""

INTERFACES = "0.3.0"
"""Results list interfaces, addresses and routes, and plugins can be chained."""

CHECK = "0.4.0"
NO_IP_VERSION = "1.0.0"
"""The entries of `ips` no longer have a `version`."""

GC = STATUS = DETAILS = "1.1.0"
"""GC, STATUS, and further fields of interfaces and routes."""


def is_since(version: str, first: str) -> bool:
    """Return whether a supported version is the same as another one or later."""
    return SUPPORTED.index(version) >= SUPPORTED.index(first)
