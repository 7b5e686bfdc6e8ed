"""Paths of namespaces that others gave, and a creation that is interrupted."""

import fcntl
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Interface
from pathlib import Path
from types import FrameType

import pytest

from overlayd.dataplane.items import NamespaceRef
from overlayd.kernel.port import NoNamespace
from overlayd.kernel.spaces import namespaces
from tests.support.kernel.hosted_kernel import SimulatedHost
from tests.support.lab.descriptors import opened
from tests.support.lab.processes import eventually


@pytest.mark.parametrize("path", ["/run/netns/a\0b", "/run/netns/\ud800", "", "/run/netns/" + "x" * 300, "/dev/null"])
def test_a_path_that_can_lead_to_no_namespace_leads_to_none(path: str) -> None:
    assert namespaces.identity(NamespaceRef(path)) is None


@pytest.mark.usefixtures("root")
def test_a_network_namespace_belongs_to_who_made_its_user_namespace() -> None:
    alone = ["setpriv", "--reuid=1234", "--clear-groups", "unshare", "--user", "--map-root-user", "--net", "cat"]
    with (
        subprocess.Popen(alone, stdin=subprocess.PIPE) as made,
        Path("/proc/self/ns/net").open() as own,
        Path("/proc/self/ns/uts").open() as other,
    ):
        eventually(lambda: Path(f"/proc/{made.pid}/comm").read_text() == "cat\n", "it has its namespaces")
        with Path(f"/proc/{made.pid}/ns/net").open() as theirs:
            assert namespaces.owner(theirs.fileno()) == 1234
        assert namespaces.owner(own.fileno()) == 0
        for none in (other.fileno(), 0):
            with pytest.raises(NoNamespace):
                namespaces.owner(none)
        made.communicate()


def interrupted(ns: NamespaceRef, at: int) -> bool:
    """Create a namespace, and press Ctrl-C before this line of the module; return False when it has fewer lines."""
    left = at

    def trace(frame: FrameType, event: str, _: object) -> object:
        nonlocal left
        if frame.f_code.co_filename != namespaces.__file__:
            return None
        if event == "line":
            left -= 1
            if not left:
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        namespaces.create(ns)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


@pytest.mark.usefixtures("root")
def test_a_creation_that_is_interrupted_at_any_line_leaves_no_namespace() -> None:
    ns = NamespaceRef("/run/netns/web")
    with SimulatedHost(IPv4Interface("192.0.2.1/24")) as host:
        host.run(namespaces.share)
        at = 1
        while host.run(interrupted, ns, at):
            assert host.run(namespaces.identity, ns) is None, at
            host.run(namespaces.delete, ns)  # the file, which the next creation would replace by more steps
            at += 1
        assert at > 20
        assert host.run(namespaces.identity, ns)


@pytest.mark.usefixtures("root")
def test_the_lock_of_ip_netns_is_free_at_once_although_a_program_that_is_being_started_has_a_copy_of_it() -> None:
    directory = Path("/run/netns")

    def take() -> int:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd

    def share_beside_a_copy() -> None:
        directory.mkdir()
        with ThreadPoolExecutor(1) as executor:
            other = take()  # so that there is time to copy what waits for it
            sharing = executor.submit(namespaces.share)
            eventually(lambda: len(opened(directory)) == 2, "the lock is waited for")
            (mine,) = set(opened(directory)) - {other}
            copy = os.dup(mine)
            os.close(other)
            sharing.result()
        os.close(take())
        os.close(copy)

    with SimulatedHost(IPv4Interface("192.0.2.1/24")) as host:
        host.run(share_beside_a_copy)


@pytest.mark.usefixtures("root")
def test_the_lasting_identity_of_a_namespace_is_that_of_no_later_one() -> None:
    ns, seen = NamespaceRef("/run/netns/web"), set[tuple[int, ...]]()
    with SimulatedHost(IPv4Interface("192.0.2.1/24")) as host:
        for _ in range(8):
            host.run(namespaces.create, ns)
            seen.add(host.run(namespaces.lasting_identity, ns))
            assert host.run(namespaces.lasting_identity, ns) in seen
            host.run(namespaces.delete, ns)
        assert len(seen) == 8
        with pytest.raises(NoNamespace):
            host.run(namespaces.lasting_identity, ns)
