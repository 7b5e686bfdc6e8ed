"""Locks that any local user can take hold up nothing."""

import fcntl
import os
import subprocess

import pytest

from overlayd.dataplane.items import Namespace, NamespaceRef, network_namespace
from overlayd.dataplane.plan import Add, Plan
from overlayd.kernel.spaces import namespaces
from overlayd.model.ids import NetworkName
from tests.support.kernel.hosted_kernel import HostedKernel, SimulatedHost
from tests.support.kernel.worlds import UNDERLAY
from tests.support.lab.processes import eventually

DIRECTORY = "/run/netns"
NOBODY = "65534"
FOR_SECONDS = "20"
"""For how long the stranger holds the lock at most."""


def is_locked() -> bool:
    fd = os.open(DIRECTORY, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


@pytest.mark.usefixtures("root")
def test_a_stranger_who_locks_the_directory_of_namespaces_holds_up_nothing() -> None:
    with SimulatedHost(UNDERLAY) as host:
        host.run(os.mkdir, DIRECTORY)
        command = ["setpriv", f"--reuid={NOBODY}", "--clear-groups", "flock", DIRECTORY, "sleep", FOR_SECONDS]
        stranger = host.run(subprocess.Popen, command)
        try:
            eventually(lambda: host.run(is_locked), "the stranger has the lock")
            kernel = HostedKernel(host)
            plan = Plan(tuple(Add(Namespace(network_namespace(NetworkName(name)), frozenset())) for name in "ab"))
            assert [outcome.error for outcome in kernel.apply(plan)] == [None, None]
            host.run(namespaces.create, NamespaceRef(f"{DIRECTORY}/sandbox"))
            assert len(kernel.namespaces()) == 2
            kernel.close()
            assert stranger.poll() is None
            assert host.run(is_locked), "all of that was done beside the stranger's lock"
        finally:
            stranger.kill()
            stranger.wait()
