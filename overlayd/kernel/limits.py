"""Limits that old kernels set to what we put into them."""

import os
import re
from pathlib import Path

_COUNTED_BEFORE = (5, 0)
"""Up to Linux 4.20 permanent neighbours count against gc_thresh3 (commit 58956317c8de)."""

_GC_THRESH3 = Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3")


def neighbour_limit(release: str | None = None, setting: Path = _GC_THRESH3) -> int | None:
    """Return how many neighbours this machine may have in all namespaces; None when permanent ones do not count.

    `release` is that of the kernel, by default this one's. A limit of IPv6 is of its own, and as low by default.
    """
    major, minor = re.findall(r"\d+", release or os.uname().release)[:2]
    if (int(major), int(minor)) >= _COUNTED_BEFORE:
        return None
    return int(setting.read_text())
