"""netavark's plugin: both launchers forward, queue and refuse with the same bytes."""

import json
import os
from importlib.metadata import version
from pathlib import Path

import pytest

from cni import install, shim
from tests.unit.cni.test_launchers import Agent, Machine, launchers

__all__ = ["launchers"]  # the fixture

pytestmark = pytest.mark.usefixtures("root")

DOCUMENT = b'{"container_id": "c1", "network": {"name": "pods"}}'
NAMESPACE = "/run/netns/netns-1"
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


@pytest.mark.parametrize("operation", ["create", "setup", "teardown"])
def test_podman_without_root_is_refused_in_words(machine: Machine, operation: str) -> None:
    """Its plugins run in a user namespace, and in a mount namespace with another /run."""
    reason = "podman without root is not supported: the agent attaches containers of root's podman only"
    assert said(machine, operation, NAMESPACE, enter=("unshare", "--user", "--map-root-user")) == error(reason)
    assert queued(machine) == []


@pytest.mark.parametrize("operation", ["", "delete", "--help"])
def test_another_operation_is_refused(machine: Machine, operation: str) -> None:
    assert said(machine, operation) == error("the operation is not one of info, create, setup, teardown")


def test_a_document_without_an_end_is_refused(machine: Machine) -> None:
    assert said(machine, "setup", NAMESPACE, stdin=b"x" * (shim.STDIN_MAX + 1)) == error(
        f"stdin is longer than {shim.STDIN_MAX} bytes"
    )
