"""netavark's plugin: both launchers forward, queue and refuse with the same bytes."""

import fcntl
import json
import os
import socket
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Self

import pytest

from cni import install, shim
from tests.support.lab.processes import PATIENCE
from tests.unit.cni.test_launchers import Agent, Machine, launchers

__all__ = ["launchers"]  # the fixture

pytestmark = pytest.mark.usefixtures("root")

DOCUMENT = b'{"container_id": "c1", "network": {"name": "pods"}}'
NAMESPACE = "/run/netns/netns-1"
NO_USERS = (
    "podman without root is not allowed on this host: nothing listens on /var/lib/overlayd-users/netavark.sock;"
    " allow-user in /etc/overlayd/agent.toml names users and their networks"
)
NO_NETWORKS = (
    "this user may use no network of this host; allow-user in /etc/overlayd/agent.toml names users and their networks"
)
NS_GET_NSTYPE, CLONE_NEWNET = 0xB703, 0x40000000
PROGRAMS = ["interpreted", *install.COMPILERS]


@pytest.fixture(params=PROGRAMS)
def machine(tmp_path: Path, launchers: dict[str, Path], request: pytest.FixtureRequest) -> Machine:
    return Machine(tmp_path, launchers[request.param])


def said(machine: Machine, *arguments: str, stdin: bytes = DOCUMENT, enter: tuple[str, ...] = ()) -> tuple[int, bytes]:
    """Execute the plugin; return its exit status and what it printed. It says nothing on standard error."""
    done = machine.execute(stdin, {"PATH": "/usr/bin:/bin"}, *enter, str(machine.launcher), *arguments)
    assert done.stderr == b""
    return done.returncode, done.stdout


def error(reason: str) -> tuple[int, bytes]:
    return 1, f'{{"error": "overlayd: {reason}"}}\n'.encode()


def queued(machine: Machine) -> list[Path]:
    directory = machine.run / "overlayd/teardown-queue"
    return sorted(directory.iterdir()) if directory.exists() else []


def test_it_tells_its_version_and_that_of_the_api_without_an_agent(machine: Machine) -> None:
    status, answer = said(machine, "info")
    assert (status, json.loads(answer)) == (0, {"version": version("overlayd"), "api_version": shim.NETAVARK_API})


@pytest.mark.parametrize("operation", ["create", "setup", "teardown"])
def test_an_operation_is_forwarded_with_its_namespace_and_the_answer_relayed(machine: Machine, operation: str) -> None:
    arguments = (operation,) if operation == "create" else (operation, NAMESPACE)
    with Agent(machine.run / "overlayd/netavark.sock", b'0{"interfaces": {}}\n') as agent:
        assert said(machine, *arguments) == (0, b'{"interfaces": {}}\n')
    namespace = "" if operation == "create" else NAMESPACE
    head = f"NETAVARK_COMMAND={operation}\0NETAVARK_NETNS={namespace}\0\0"
    assert agent.request == head.encode() + DOCUMENT


def test_a_namespace_that_is_no_utf_8_is_forwarded_as_it_came(machine: Machine) -> None:
    with Agent(machine.run / "overlayd/netavark.sock", b"0{}") as agent:
        assert said(machine, "setup", os.fsdecode(b"/run/netns/\xff\xfe")) == (0, b"{}")
    assert agent.request == b"NETAVARK_COMMAND=setup\0NETAVARK_NETNS=/run/netns/\xff\xfe\0\0" + DOCUMENT


def test_an_error_of_the_agent_is_one(machine: Machine) -> None:
    with Agent(machine.run / "overlayd/netavark.sock", b'1{"error": "overlayd: no"}\n'):
        assert said(machine, "setup", NAMESPACE) == error("no")


@pytest.mark.parametrize("operation", ["create", "setup"])
def test_without_an_agent_nothing_is_created_and_nothing_set_up(machine: Machine, operation: str) -> None:
    reason = "the overlayd agent is not running: nothing listens on /run/overlayd/netavark.sock"
    assert said(machine, operation, NAMESPACE) == error(reason)
    assert queued(machine) == []


def test_a_teardown_without_an_agent_is_queued_whole_and_for_root_only(machine: Machine) -> None:
    assert said(machine, "teardown", NAMESPACE) == (0, b"")
    (path,) = queued(machine)
    assert path.read_bytes() == f"NETAVARK_COMMAND=teardown\0NETAVARK_NETNS={NAMESPACE}\0\0".encode() + DOCUMENT
    assert path.suffix == ".teardown"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_teardown_that_agents_hang_up_on_is_queued(machine: Machine) -> None:
    with Agent(machine.run / "overlayd/netavark.sock", b"", b"") as agent:
        assert said(machine, "teardown", NAMESPACE) == (0, b"")
    assert len(agent.requests) == 2
    assert len(queued(machine)) == 1


def test_a_teardown_that_cannot_be_queued_fails(machine: Machine) -> None:
    (machine.run / "overlayd/teardown-queue").touch()
    reason = "the overlayd agent does not answer, and /run/overlayd/teardown-queue cannot be written: Not a directory"
    assert said(machine, "teardown", NAMESPACE) == error(reason)


AS_USER = 'mount --bind "$0" /var/lib && exec unshare --user --map-root-user --net "$@"'

AS_STRANGER = """
mount --bind "$0" /var/lib
mount -t tmpfs none /mnt
cp "$1" /mnt/launcher
shift
exec setpriv --reuid=1234 --regid=1234 --clear-groups unshare --user --map-root-user --net /mnt/launcher "$@"
"""
"""As a user who may not enter the directory in which the tests have the launcher."""


def said_to_user(machine: Machine, *arguments: str, stdin: bytes = DOCUMENT) -> tuple[int, bytes]:
    """Execute the plugin as podman without root does: in a user namespace."""
    state = machine.run / "lib"
    return said(machine, *arguments, stdin=stdin, enter=("sh", "-ec", AS_USER, str(state)))


class UsersAgent:
    """Takes one request of a user on its socket, and says what it got: bytes, and which namespaces were handed over.

    With `reads` false it answers and hangs up at once, as to a user who may do nothing.
    """

    def __init__(self, machine: Machine, answer: bytes, *, reads: bool = True) -> None:
        self.request = b""
        self.handed: list[int] = []
        place = machine.run / "lib/overlayd-users"
        place.mkdir(parents=True)
        self._answer, self._reads = answer, reads
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.settimeout(PATIENCE)
        self._listener.bind(str(place / "netavark.sock"))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        channel, _ = self._listener.accept()
        with channel:
            channel.settimeout(PATIENCE)
            if self._reads:
                self.request, handed, _, _ = socket.recv_fds(channel, 65536, 4)
                self.request += b"".join(iter(lambda: channel.recv(65536), b""))
                self.handed = [fcntl.ioctl(each, NS_GET_NSTYPE) for each in handed]
                for each in handed:
                    os.close(each)
            channel.sendall(self._answer)


@pytest.mark.parametrize("operation", ["create", "setup"])
def test_a_user_whom_no_agent_serves_is_refused_in_words(machine: Machine, operation: str) -> None:
    (machine.run / "lib").mkdir()
    assert said_to_user(machine, operation, "/proc/self/ns/net") == error(NO_USERS)
    assert queued(machine) == []


def test_a_user_whom_the_agent_lets_in_nowhere_is_refused_in_words(machine: Machine) -> None:
    place = machine.run / "lib/overlayd-users"
    place.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "netavark.sock"))
        (place / "netavark.sock").chmod(0o600)
        listener.listen()
        enter = ("sh", "-ec", AS_STRANGER, str(place.parent))
        assert said(machine, "setup", "/proc/self/ns/net", enter=enter) == error(NO_NETWORKS)


def test_a_fifo_in_place_of_a_users_namespace_is_not_waited_for(machine: Machine) -> None:
    (machine.run / "lib").mkdir()
    os.mkfifo(machine.run / "fifo")
    assert said_to_user(machine, "setup", "/run/fifo") == error(NO_USERS)


def test_a_users_namespace_goes_with_the_setup(machine: Machine) -> None:
    with UsersAgent(machine, b'0{"interfaces": {}}\n') as agent:
        assert said_to_user(machine, "setup", "/proc/self/ns/net") == (0, b'{"interfaces": {}}\n')
    assert agent.request == b"NETAVARK_COMMAND=setup\0NETAVARK_NETNS=/proc/self/ns/net\0\0" + DOCUMENT
    assert agent.handed == [CLONE_NEWNET]


def test_of_a_long_document_the_namespace_goes_with_the_first_bytes(machine: Machine) -> None:
    document = b'{"labels": "' + b"x" * (1 << 20) + b'"}'
    with UsersAgent(machine, b"0") as agent:
        assert said_to_user(machine, "setup", "/proc/self/ns/net", stdin=document) == (0, b"")
    assert agent.request.endswith(b"\0\0" + document)
    assert agent.handed == [CLONE_NEWNET]


def test_no_namespace_goes_with_a_users_network(machine: Machine) -> None:
    with UsersAgent(machine, b'0{"name": "pods"}\n') as agent:
        assert said_to_user(machine, "create") == (0, b'{"name": "pods"}\n')
    assert agent.handed == []


@pytest.mark.parametrize("stdin", [DOCUMENT, b"x" * (1 << 20)], ids=["short", "long"])
def test_the_reason_counts_that_comes_without_the_request_being_read(machine: Machine, stdin: bytes) -> None:
    with UsersAgent(machine, b'1{"error": "overlayd: no"}\n', reads=False):
        assert said_to_user(machine, "setup", "/proc/self/ns/net", stdin=stdin) == error("no")


def test_a_users_namespace_that_is_not_there_is_an_error(machine: Machine) -> None:
    with UsersAgent(machine, b"0") as agent:
        reason = "the namespace of the container cannot be opened: No such file or directory"
        assert said_to_user(machine, "setup", "/run/netns/none") == error(reason)
        said_to_user(machine, "create")
    assert agent.request.startswith(b"NETAVARK_COMMAND=create\0")


@pytest.mark.parametrize("answer", [None, b'1{"error": "overlayd: no"}\n'], ids=["no agent", "refused"])
def test_a_teardown_of_a_user_always_succeeds(machine: Machine, answer: bytes | None) -> None:
    """Podman never repeats it, and the agent finds by itself what is gone."""
    if answer is None:
        (machine.run / "lib").mkdir()
        assert said_to_user(machine, "teardown", NAMESPACE) == (0, b"")
    else:
        with UsersAgent(machine, answer):
            assert said_to_user(machine, "teardown", NAMESPACE) == (0, b"")
    assert queued(machine) == []


@pytest.mark.parametrize("operation", ["", "delete", "--help"])
def test_another_operation_is_refused(machine: Machine, operation: str) -> None:
    assert said(machine, operation) == error("the operation is not one of info, create, setup, teardown")


def test_a_document_without_an_end_is_refused(machine: Machine) -> None:
    assert said(machine, "setup", NAMESPACE, stdin=b"x" * (shim.STDIN_MAX + 1)) == error(
        f"stdin is longer than {shim.STDIN_MAX} bytes"
    )
