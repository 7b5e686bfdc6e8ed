"""The versions of the CNI SPEC, and what came with them."""

SUPPORTED = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""In order; the first one is what a config without `cniVersion` means (SPEC 0.1.0)."""

VERSION = "0.2.0"
"""The operation of this name; where nobody says a version, it answers in the last one."""

INTERFACES = "0.3.0"
"""Results list interfaces, addresses and routes, and plugins may stand in a chain."""

CHECK = "0.4.0"
NO_IP_VERSION = "1.0.0"
"""The entries of `ips` lose their `version`."""

GC = STATUS = DETAILS = "1.1.0"
"""Garbage collection, status, and more to say of interfaces and routes."""


def is_since(version: str, first: str) -> bool:
    """Tell whether a supported version has what came with another one."""
    return SUPPORTED.index(version) >= SUPPORTED.index(first)
