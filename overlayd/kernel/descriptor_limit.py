"""The limit of this process's open descriptors, and whether it is nearly reached."""

import resource
from pathlib import Path

from overlayd.kernel.port import KernelError, translated

DESCRIPTOR_RESERVE = 64
"""Descriptors that stay free when nothing new is let in: for looking at what exists, repairing and detaching it.

A new network needs 10, attachments 33 while sixteen are made together and 18 while sixteen end, `nft` 6, and each
request one (docs/dataplane.md).
"""

_DESCRIPTORS = Path("/proc/self/fd")


def raise_descriptor_limit() -> None:
    """Let this process open as many descriptors as its administrator allows (getrlimit(2): the hard limit).

    The soft limit is low for the sake of programs that use select(2), of which this is none.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_shortage() -> str | None:
    """Return in one sentence that this process has hardly any descriptor left; None while it has enough."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        used = _used_descriptors()
    except KernelError as error:
        if not error.is_shortage:
            raise
        used = limit
    if limit - used >= DESCRIPTOR_RESERVE:
        return None
    return f"{used} of {limit} file descriptors are in use: raise LimitNOFILE of the service, and restart it"


def _used_descriptors() -> int:
    """Return how many descriptors this process has open; raise `KernelError`."""
    with translated(str(_DESCRIPTORS)):
        # Their number since Linux 6.2 (fs/proc/fd.c: proc_fd_getattr); before, it is 0.
        return _DESCRIPTORS.stat().st_size or sum(1 for _ in _DESCRIPTORS.iterdir()) - 1
