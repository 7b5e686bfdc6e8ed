"""The interpreted launcher in forks of the test process, where mutation tests can change its functions."""

import ctypes
import errno
import json
import os
import posix
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from cni import shim
from overlayd.wire.cni import requests as cni
from overlayd.wire.cni.error import Code
from tests.support.lab.processes import PATIENCE, eventually
from tests.unit.cni import test_launchers as one
from tests.unit.cni import test_launchers_agree as both
from tests.unit.cni import test_netavark_launchers as netavark
from tests.unit.cni.test_launchers import CONFIG, ENVIRONMENT, FRAME, SHIM, Agent, Machine

pytestmark = pytest.mark.usefixtures("root")

CLONE_NEWNS, CLONE_NEWUSER, MS_BIND, MS_REC, MS_PRIVATE = (
    0x20000,
    0x10000000,
    0x1000,
    0x4000,
    0x40000,
)  # linux/sched.h, linux/mount.h

LIBC = ctypes.CDLL(None, use_errno=True)


class ForkedMachine(Machine):
    """A machine whose launcher is a fork of this process, which needs no start of an interpreter.

    `first` is what a fork does before it becomes the launcher, and `child` is the last fork.
    """

    first: tuple[Callable[[], object], ...] = ()
    child = 0

    def execute(
        self, stdin: bytes = CONFIG, environment: Mapping[str, str | bytes] = ENVIRONMENT, *wrapper: str, **changes: str
    ) -> subprocess.CompletedProcess[bytes]:
        state = wrapper[3] if wrapper[:3] == ("sh", "-ec", netavark.AS_USER) else None
        program, *arguments = wrapper[4:] if state else wrapper or [str(self.launcher)]
        assert program == str(self.launcher), "a fork cannot become another program"
        with ExitStack() as files:
            given, stdout, stderr = (files.enter_context(tempfile.TemporaryFile()) for _ in range(3))
            given.write(stdin)
            given.seek(0)
            child = os.fork()
            if not child:
                try:
                    self._enter({**environment, **changes}, given.fileno(), stdout.fileno(), stderr.fileno())
                    sys.argv = [program, *arguments]
                    if state:
                        become_a_user(state)
                    for action in self.first:
                        action()
                    os._exit(shim.main())
                except BaseException as error:  # noqa: BLE001 - it must never run on as a second pytest
                    os.write(2, repr(error).encode())
                    os._exit(70)
            self.child = child
            status = ended(child)
            for file in (stdout, stderr):
                file.seek(0)
            return subprocess.CompletedProcess("shim", status, stdout.read(), stderr.read())

    def _enter(self, environment: Mapping[str, str | bytes], *streams: int) -> None:
        call(LIBC.unshare(CLONE_NEWNS))
        call(LIBC.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
        call(LIBC.mount(os.fsencode(self.run), b"/run", None, MS_BIND, None))
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        posix.environ.clear()
        posix.environ.update({os.fsencode(name): os.fsencode(value) for name, value in environment.items()})


def become_a_user(state: str) -> None:
    """Do what the script AS_USER does: enter a user namespace with a network namespace of its own."""
    call(LIBC.mount(os.fsencode(state), b"/var/lib", None, MS_BIND, None))
    call(LIBC.unshare(CLONE_NEWUSER | netavark.CLONE_NEWNET))
    Path("/proc/self/uid_map").write_text("0 0 1")


def ended(child: int) -> int:
    """Return the exit status of a fork, which ends by itself."""
    descriptor = os.pidfd_open(child)
    try:
        if not select.select([descriptor], [], [], PATIENCE)[0]:
            os.kill(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(descriptor)


def call(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@pytest.fixture
def machine(tmp_path: Path) -> ForkedMachine:
    return ForkedMachine(tmp_path, SHIM)


test_the_agent_gets_the_variables_and_stdin = one.test_the_agent_gets_the_variables_and_stdin_and_its_answer_is_relayed
test_status_and_answer_are_relayed = one.test_status_and_answer_are_relayed
test_a_large_request_and_a_large_answer_are_whole = one.test_a_large_request_and_a_large_answer_are_whole
test_only_the_named_variables_are_forwarded = one.test_only_the_named_variables_are_forwarded
test_a_request_without_a_command = one.test_a_request_without_a_command_reaches_the_agent_as_such
test_a_variable_that_is_no_utf_8 = one.test_a_variable_that_is_no_utf_8_is_forwarded_as_it_came
test_an_agent_that_hangs_up = one.test_an_agent_that_hangs_up_means_try_again_later
test_a_delete_is_asked_for_once_more = one.test_a_delete_that_an_agent_hangs_up_on_is_asked_for_once_more
test_a_delete_that_agents_keep_hanging_up_on_is_queued = one.test_a_delete_that_agents_keep_hanging_up_on_is_queued
test_a_delete_on_a_connection_that_is_reset_is_queued = one.test_a_delete_on_a_connection_that_is_reset_is_queued
test_without_an_agent_only_a_delete_succeeds = one.test_without_an_agent_only_a_delete_succeeds
test_an_error_is_in_the_version_of_the_config = one.test_an_error_is_in_the_version_of_the_config_if_it_can_be_read
test_a_delete_without_an_agent_is_queued_whole = one.test_a_delete_without_an_agent_is_queued_whole
test_queued_deletes_are_for_root_only = one.test_queued_deletes_are_for_root_only
test_queued_deletes_sort_by_age = one.test_queued_deletes_sort_by_age
test_a_socket_that_nobody_listens_on_is_no_agent = one.test_a_socket_that_nobody_listens_on_is_no_agent
test_a_host_on_which_no_agent_ever_ran_takes_deletes = one.test_a_host_on_which_no_agent_ever_ran_takes_deletes
test_a_delete_that_cannot_be_queued_fails = one.test_a_delete_that_cannot_be_queued_fails
test_a_version_request_needs_no_agent = one.test_a_version_request_needs_no_agent_and_answers_as_it_does
test_without_a_request_it_tells_its_version = (
    one.test_without_a_request_it_tells_its_version_as_the_reference_plugins_do
)
test_netavark_is_told_both_versions = netavark.test_it_tells_its_version_and_that_of_the_api_without_an_agent
test_an_operation_of_netavark_is_forwarded = (
    netavark.test_an_operation_is_forwarded_with_its_namespace_and_the_answer_relayed
)
test_a_namespace_that_is_no_utf_8 = netavark.test_a_namespace_that_is_no_utf_8_is_forwarded_as_it_came
test_netavark_is_told_an_error_of_the_agent = netavark.test_an_error_of_the_agent_is_one
test_netavark_without_an_agent = netavark.test_without_an_agent_nothing_is_created_and_nothing_set_up
test_a_teardown_without_an_agent = netavark.test_a_teardown_without_an_agent_is_queued_whole_and_for_root_only
test_a_teardown_that_agents_hang_up_on = netavark.test_a_teardown_that_agents_hang_up_on_is_queued
test_a_teardown_that_cannot_be_queued = netavark.test_a_teardown_that_cannot_be_queued_fails
test_a_user_whom_no_agent_serves = netavark.test_a_user_whom_no_agent_serves_is_refused_in_words
test_a_fifo_in_place_of_a_users_namespace = netavark.test_a_fifo_in_place_of_a_users_namespace_is_not_waited_for
test_a_users_namespace_goes_with_the_setup = netavark.test_a_users_namespace_goes_with_the_setup
test_of_a_long_document_of_a_user = netavark.test_of_a_long_document_the_namespace_goes_with_the_first_bytes
test_no_namespace_goes_with_a_users_network = netavark.test_no_namespace_goes_with_a_users_network
test_the_reason_for_a_user_counts = netavark.test_the_reason_counts_that_comes_without_the_request_being_read
test_a_users_namespace_that_is_not_there = netavark.test_a_users_namespace_that_is_not_there_is_an_error
test_a_teardown_of_a_user_always_succeeds = netavark.test_a_teardown_of_a_user_always_succeeds
test_another_operation_of_netavark = netavark.test_another_operation_is_refused
test_a_document_without_an_end = netavark.test_a_document_without_an_end_is_refused


def test_the_version_is_that_of_the_config_up_to_a_depth() -> None:
    for config in both.CONFIGS:
        assert shim.version_of(config) == cni.version_of(config), config


DELETE = FRAME.replace(b"=ADD", b"=DEL")
SETUP = f"NETAVARK_COMMAND=setup\0NETAVARK_NETNS={netavark.NAMESPACE}\0\0".encode()


def with_patience(**seconds: int) -> tuple[Callable[[], object], ...]:
    """Return what gives the launcher other time limits than it has, so that no test waits for those."""
    return tuple(partial(setattr, shim, name, value) for name, value in seconds.items())


def reopened(path: str, flags: int, stream: int) -> Callable[[], object]:
    return lambda: os.dup2(os.open(path, flags), stream)


def message_of(done: subprocess.CompletedProcess[bytes]) -> str:
    return str(json.loads(done.stdout)["msg"])


@contextmanager
def silent(path: Path, backlog: int = 8) -> Iterator[socket.socket]:
    """Listen like an agent that does not answer."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(backlog)
        listener.settimeout(PATIENCE)
        yield listener


def answer(listener: socket.socket, what: bytes) -> None:
    channel, _ = listener.accept()
    with channel:
        while channel.recv(65536):
            pass
        channel.sendall(what)


def test_the_time_limits_are_those_of_the_kernels_structure() -> None:
    assert shim.timeval(15) == struct.pack("ll", 15, 0)


@pytest.mark.parametrize("stdin", [CONFIG, CONFIG.ljust(1 << 20)], ids=["that reads", "that does not even read"])
def test_an_agent_without_an_answer_is_waited_for_up_to_the_limit(machine: ForkedMachine, stdin: bytes) -> None:
    """What is longer than a socket holds is not sent before the agent reads."""
    machine.first = with_patience(**{"ANSWER_PATIENCE" if stdin == CONFIG else "SEND_PATIENCE": 1})
    with silent(machine.socket):
        done = machine.execute(stdin)
    assert one.error_of(done) == ("0.4.0", Code.TRY_AGAIN_LATER)
    assert message_of(done) == f"the overlayd agent did not answer on {shim.SOCKET}: {os.strerror(errno.EAGAIN)}"


@pytest.mark.parametrize("stdin", [CONFIG, CONFIG.ljust(1 << 20)], ids=["that reads", "that does not even read"])
def test_a_delete_is_queued_when_the_limit_for_deletes_is_over(machine: ForkedMachine, stdin: bytes) -> None:
    machine.first = with_patience(**{"DEL_ANSWER_PATIENCE" if stdin == CONFIG else "DEL_SEND_PATIENCE": 1})
    with silent(machine.socket):
        assert machine.execute(stdin, CNI_COMMAND="DEL").returncode == 0
    assert machine.queued() == [DELETE.removesuffix(CONFIG) + stdin]


def test_netavark_is_told_that_the_agent_did_not_answer_and_a_teardown_is_queued(machine: ForkedMachine) -> None:
    machine.first = with_patience(ANSWER_PATIENCE=1, DEL_ANSWER_PATIENCE=1)
    with silent(machine.run / "overlayd/netavark.sock"):
        assert netavark.said(machine, "setup", netavark.NAMESPACE) == netavark.error(
            f"the overlayd agent did not answer on {shim.NETAVARK_SOCKET}: {os.strerror(errno.EAGAIN)}"
        )
        assert netavark.said(machine, "teardown", netavark.NAMESPACE) == (0, b"")
    assert len(netavark.queued(machine)) == 1


def test_a_launcher_that_is_stopped_while_it_waits_to_connect_connects(machine: ForkedMachine) -> None:
    def waits() -> bool:
        return machine.child > 0 and "unix_wait_for_peer" in Path(f"/proc/{machine.child}/wchan").read_text()

    with silent(machine.socket, 0) as listener, socket.socket(socket.AF_UNIX) as before:
        before.connect(str(machine.socket))
        with ThreadPoolExecutor(1) as executor:
            done = executor.submit(machine.execute)
            eventually(waits, "it waits to be accepted")
            os.kill(machine.child, signal.SIGSTOP)
            eventually(lambda: both.state(machine.child) == "T", "it has stopped")
            os.kill(machine.child, signal.SIGCONT)
            eventually(lambda: waits() or done.done(), "it waits again")
            listener.accept()[0].close()
            answer(listener, b"0ok")
            assert (done.result().returncode, done.result().stdout) == (0, b"ok")


@pytest.mark.parametrize(("handler", "status"), [(signal.default_int_handler, -2), (signal.SIG_IGN, 0)])
def test_an_interrupt_ends_it_unless_its_runtime_ignores_interrupts(
    machine: ForkedMachine, handler: Callable[..., object] | signal.Handlers, status: int
) -> None:
    machine.first = (partial(signal.signal, signal.SIGINT, handler),)
    with silent(machine.socket) as listener, ThreadPoolExecutor(1) as executor:
        done = executor.submit(machine.execute)
        channel, _ = listener.accept()
        with channel:
            while channel.recv(65536):
                pass
            os.kill(machine.child, signal.SIGINT)
            if not status:
                channel.sendall(b"0ok")
        assert (done.result().returncode, done.result().stdout) == (status, b"" if status else b"ok")
        assert done.result().stderr == b""


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_no_closed_standard_stream_is_taken_for_the_socket(machine: ForkedMachine, closed: tuple[int, ...]) -> None:
    machine.first = tuple(partial(os.close, each) for each in closed)
    with Agent(machine.socket, b"0ok") as agent:
        done = machine.execute()
    assert agent.request == (FRAME.removesuffix(CONFIG) if 0 in closed else FRAME)
    assert (done.returncode, done.stdout, done.stderr) == ((1, b"", b"") if 1 in closed else (0, b"ok", b""))


def test_closed_standard_streams_are_occupied_and_nothing_else_stays_open() -> None:
    def are_occupied() -> bool:
        os.closerange(0, 1 << 16)
        shim.hold_standard_streams()
        leads_to = {path.name: path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
        return leads_to == dict.fromkeys("012", Path(os.devnull))

    child = os.fork()
    if not child:
        try:
            os._exit(0 if are_occupied() else 1)
        except OSError:
            os._exit(70)
    assert ended(child) == 0


def test_nothing_is_read_from_a_terminal(machine: ForkedMachine) -> None:
    ours, theirs = os.openpty()
    try:
        os.write(ours, b"typed\n\x04")
        machine.first = (partial(os.dup2, theirs, 0),)
        with Agent(machine.socket, b"0ok") as agent:
            assert machine.execute().stdout == b"ok"
        assert agent.request == FRAME.removesuffix(CONFIG)
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_config_that_cannot_be_read_is_an_error(machine: ForkedMachine) -> None:
    machine.first = (reopened("/", os.O_RDONLY, 0),)
    done = machine.execute()
    assert one.error_of(done) == ("0.1.0", Code.IO_FAILURE)
    assert message_of(done) == f"cannot read the network config on stdin: {os.strerror(errno.EISDIR)}"
    reason = f"cannot read stdin and /proc/self/uid_map: {os.strerror(errno.EISDIR)}"
    assert netavark.said(machine, "setup", netavark.NAMESPACE) == netavark.error(reason)


@pytest.mark.parametrize("stream", [1, 2])
def test_what_cannot_be_printed_is_an_error(machine: ForkedMachine, stream: int) -> None:
    machine.first = (reopened("/dev/full", os.O_WRONLY, stream),)
    assert machine.execute(CONFIG, {}).returncode == (1 if stream == 2 else 0), "the version goes to standard error"
    of_an_answer = 1 if stream == 1 else 0
    assert machine.execute(CONFIG, {"CNI_COMMAND": "VERSION"}).returncode == of_an_answer
    assert machine.execute(b"", {}, str(machine.launcher), "info").returncode == of_an_answer
    with Agent(machine.socket, b"0ok"):
        assert machine.execute().returncode == of_an_answer
    with Agent(machine.run / "overlayd/netavark.sock", b"0ok"):
        assert machine.execute(b"", {}, str(machine.launcher), "setup").returncode == of_an_answer


def test_an_error_says_what_happened(machine: ForkedMachine) -> None:
    away = f"the overlayd agent is not running: nothing listens on {shim.SOCKET}"
    assert [message_of(machine.execute(CNI_COMMAND=command)) for command in ("ADD", "STATUS")] == [away, away]
    machine.queue.write_text("in the way")
    assert message_of(machine.execute(CNI_COMMAND="DEL")) == (
        f"the overlayd agent does not answer, and {shim.QUEUE} cannot be written: {os.strerror(errno.ENOTDIR)}"
    )
    with Agent(machine.socket, b""):
        done = machine.execute()
    assert message_of(done) == f"the overlayd agent did not answer on {shim.SOCKET}: {os.strerror(errno.ECONNRESET)}"


def test_stdin_has_a_limit(machine: ForkedMachine) -> None:
    longest = CONFIG.ljust(shim.STDIN_MAX)
    with Agent(machine.socket, b"0ok") as agent:
        assert machine.execute(longest).stdout == b"ok"
    assert agent.request == FRAME.removesuffix(CONFIG) + longest
    done = machine.execute(longest + b" ")
    assert one.error_of(done) == ("0.1.0", Code.INVALID_CONFIG)
    assert message_of(done) == f"the network config on stdin is longer than {shim.STDIN_MAX} bytes"


def test_a_delete_that_does_not_fit_on_the_disk_fails_and_leaves_nothing(machine: ForkedMachine) -> None:
    machine.first = (partial(resource.setrlimit, resource.RLIMIT_FSIZE, (4096, 4096)),)
    done = machine.execute(CONFIG.ljust(8192), CNI_COMMAND="DEL")
    assert one.error_of(done) == ("0.4.0", Code.IO_FAILURE)
    assert message_of(done).endswith(f"cannot be written: {os.strerror(errno.EFBIG)}")
    assert machine.queued() == []


def test_the_longest_document_is_forwarded(machine: ForkedMachine) -> None:
    document = netavark.DOCUMENT.ljust(shim.STDIN_MAX)
    with Agent(machine.run / "overlayd/netavark.sock", b"0{}") as agent:
        assert netavark.said(machine, "setup", netavark.NAMESPACE, stdin=document) == (0, b"{}")
    assert agent.request == SETUP + document
