"""Both launchers as container runtimes execute them: a process, its environment, stdin, stdout and exit status.

They run with a directory of the test in place of /run, so they find the test's agent, or none.
"""

import errno
import json
import os
import socket
import stat
import subprocess
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from cni import install, shim
from overlayd.agent.cni.server import DEL_DEADLINE
from overlayd.wire.cni import requests as cni
from overlayd.wire.cni import version as cni_version
from overlayd.wire.cni.error import Code
from tests.support.lab.processes import PATIENCE, eventually

pytestmark = pytest.mark.usefixtures("root")

SHIM = Path(shim.__file__)
ENVIRONMENT = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/c1",
    "CNI_IFNAME": "eth0",
    "CNI_ARGS": "IP=10.32.0.5;MAC=",
    "CNI_PATH": "/opt/cni/bin",
}
CONFIG = b'{"cniVersion": "0.4.0", "name": "blue", "type": "overlayd"}'
FRAME = (
    b"CNI_COMMAND=ADD\0CNI_CONTAINERID=c1\0CNI_NETNS=/run/netns/c1\0CNI_IFNAME=eth0\0"
    b"CNI_ARGS=IP=10.32.0.5;MAC=\0CNI_PATH=/opt/cni/bin\0\0" + CONFIG
)


class Agent:
    """Takes a request on a unix socket for each answer, and answers it; with an empty one it hangs up."""

    def __init__(self, path: Path, *answers: bytes) -> None:
        self.requests: list[bytes] = []
        self._answers = answers
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.settimeout(20)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)

    @property
    def request(self) -> bytes:
        (request,) = self.requests
        return request

    def _serve(self) -> None:
        for answer in self._answers:
            try:
                channel, _ = self._listener.accept()
            except OSError as error:
                if error.errno != errno.EINVAL:  # it was shut down, and nobody waits to be accepted
                    raise
                return
            with channel:
                channel.settimeout(20)
                self.requests.append(b"".join(iter(lambda: channel.recv(65536), b"")))  # noqa: B023 - called here
                channel.sendall(answer)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # a launcher that has ended sends no further request
        self._thread.join()
        self._listener.close()


@dataclass
class Machine:
    """What the launcher finds in /run."""

    run: Path
    launcher: Path

    def __post_init__(self) -> None:
        (self.run / "overlayd").mkdir()

    @property
    def socket(self) -> Path:
        return self.run / "overlayd" / "cni.sock"

    @property
    def queue(self) -> Path:
        return self.run / "overlayd" / "del-queue"

    def queued(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted(self.queue.iterdir())]

    def execute(
        self, stdin: bytes = CONFIG, environment: Mapping[str, str | bytes] = ENVIRONMENT, *wrapper: str, **changes: str
    ) -> subprocess.CompletedProcess[bytes]:
        command = self.command({**environment, **changes}, *wrapper)
        return subprocess.run(command, input=stdin, capture_output=True, timeout=PATIENCE, check=False)

    def command(self, environment: Mapping[str, str | bytes] = ENVIRONMENT, *wrapper: str) -> list[str | bytes]:
        """Return what becomes the launcher, or what is wrapped around it, as one and the same process."""
        enter = ["unshare", "--mount", "--propagation=private", "--"]
        replace_run = ["sh", "-c", 'mount --bind "$0" /run && exec "$@"', str(self.run)]
        values = {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}
        variables = [b"%b=%b" % pair for pair in values.items()]
        return [*enter, *replace_run, "env", "-i", *variables, *(wrapper or [str(self.launcher)])]


@pytest.fixture(scope="module")
def launchers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The launchers: the native one of each compiler, and the interpreted one, as its source and as it is installed."""
    directory = tmp_path_factory.mktemp("launchers")
    found = {"interpreted": SHIM, **{compiler: directory / compiler for compiler in install.COMPILERS}}
    found["compiled"] = install.install_plugin(directory, interpreted=True)
    for compiler in install.COMPILERS:
        assert install.compile_with(compiler, found[compiler]), compiler
    return found


@pytest.fixture(params=["interpreted", "compiled", *install.COMPILERS])
def machine(tmp_path: Path, launchers: dict[str, Path], request: pytest.FixtureRequest) -> Machine:
    return Machine(tmp_path, launchers[request.param])


def error_of(done: subprocess.CompletedProcess[bytes]) -> tuple[str, int]:
    """Return version and code of the error object, after checking that the rest is as CNI wants it."""
    body = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (1, b"")
    assert sorted(body) == ["cniVersion", "code", "msg"]
    assert body["msg"]
    return body["cniVersion"], body["code"]


def test_the_agent_gets_the_variables_and_stdin_and_its_answer_is_relayed(machine: Machine) -> None:
    with Agent(machine.socket, b'0{"cniVersion": "0.4.0"}\n') as agent:
        done = machine.execute()
    assert (done.returncode, done.stdout, done.stderr) == (0, b'{"cniVersion": "0.4.0"}\n', b"")
    assert agent.request == FRAME
    assert cni.unpack(agent.request) == (ENVIRONMENT, CONFIG)


def test_the_shebang_line_and_the_interpreter_do_the_same(machine: Machine) -> None:
    with Agent(machine.socket, b"0ok") as agent:
        done = machine.execute(CONFIG, ENVIRONMENT, "/usr/bin/python3", "-ISE", str(SHIM))
    assert (done.returncode, done.stdout, done.stderr, agent.request) == (0, b"ok", b"", FRAME)


@pytest.mark.parametrize(
    ("answer", "status", "stdout"),
    [
        (b"0", 0, b""),
        (b'1{"code": 101}', 1, b'{"code": 101}'),
        (b"1", 1, b""),
        (b"?x", 1, b"x"),
        (b"0\xff\0", 0, b"\xff\0"),
    ],
)
def test_status_and_answer_are_relayed(machine: Machine, answer: bytes, status: int, stdout: bytes) -> None:
    with Agent(machine.socket, answer):
        done = machine.execute()
    assert (done.returncode, done.stdout, done.stderr) == (status, stdout, b"")


def test_a_large_request_and_a_large_answer_are_whole(machine: Machine) -> None:
    stdin, stdout = b"s" * 900_000, b"a" * 900_000
    with Agent(machine.socket, b"0" + stdout) as agent:
        done = machine.execute(stdin)
    assert done.stdout == stdout
    assert cni.unpack(agent.request) == (ENVIRONMENT, stdin)


def test_only_the_named_variables_are_forwarded(machine: Machine) -> None:
    environment = {"CNI_COMMAND": "DEL", "CNI_SECRET": "x", "PASSWORD": "hunter2", "PATH": "/bin"}
    with Agent(machine.socket, b"0") as agent:
        machine.execute(CONFIG, environment)
    assert agent.request == b"CNI_COMMAND=DEL\0\0" + CONFIG


@pytest.mark.parametrize("environment", [{}, {"CNI_PATH": "/opt/cni/bin", "HOME": "/root"}])
@pytest.mark.parametrize("stdin", [b"", CONFIG])
def test_without_a_request_it_tells_its_version_as_the_reference_plugins_do(
    machine: Machine, environment: dict[str, str], stdin: bytes
) -> None:
    """Nomad takes the first word that is a semantic version, of stdout and stderr together, from a status of 0."""
    done = machine.execute(stdin, environment)
    assert (done.returncode, done.stdout) == (0, b"")
    first, second = done.stderr.decode().splitlines()
    assert first == f"CNI overlayd plugin v{version('overlayd')}"
    assert second == f"CNI protocol versions supported: {', '.join(shim.SUPPORTED_VERSIONS)}"


def test_a_request_without_a_command_reaches_the_agent_as_such(machine: Machine) -> None:
    with Agent(machine.socket, b"1") as agent:
        machine.execute(CONFIG, {"CNI_CONTAINERID": "web"})
    assert cni.unpack(agent.request) == ({"CNI_CONTAINERID": "web"}, CONFIG)


def test_a_variable_that_is_no_utf_8_is_forwarded_as_it_came(machine: Machine) -> None:
    with Agent(machine.socket, b"1") as agent:
        done = machine.execute(CONFIG, {"CNI_COMMAND": "ADD", "CNI_NETNS": b"/run/\xff\xfe"})
    assert (done.returncode, done.stderr) == (1, b"")
    assert agent.request == b"CNI_COMMAND=ADD\0CNI_NETNS=/run/\xff\xfe\0\0" + CONFIG


@pytest.mark.parametrize("command", ["ADD", "CHECK"])
def test_an_agent_that_hangs_up_means_try_again_later(machine: Machine, command: str) -> None:
    with Agent(machine.socket, b""):
        done = machine.execute(CNI_COMMAND=command)
    assert error_of(done) == ("0.4.0", Code.TRY_AGAIN_LATER)
    assert not machine.queue.exists()


def test_a_delete_that_an_agent_hangs_up_on_is_asked_for_once_more(machine: Machine) -> None:
    with Agent(machine.socket, b"", b"0") as agent:
        done = machine.execute(CNI_COMMAND="DEL")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert agent.requests == [FRAME.replace(b"=ADD", b"=DEL")] * 2
    assert not machine.queue.exists()


def test_a_delete_that_agents_keep_hanging_up_on_is_queued(machine: Machine) -> None:
    with Agent(machine.socket, b"", b""):
        assert machine.execute(CNI_COMMAND="DEL").returncode == 0
    assert machine.queued() == [FRAME.replace(b"=ADD", b"=DEL")]


def test_a_delete_on_a_connection_that_is_reset_is_queued(machine: Machine) -> None:
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as executor:
        listener.bind(str(machine.socket))
        listener.listen()
        done = executor.submit(machine.execute, CNI_COMMAND="DEL")
        while not done.done():
            listener.settimeout(0.1)
            with suppress(TimeoutError):
                channel, _ = listener.accept()
                assert channel.recv(1)
                channel.close()  # with the rest unread, which is a reset
        assert done.result().returncode == 0
    assert len(machine.queued()) == 1


def test_a_delete_is_queued_when_the_agent_is_frozen(tmp_path: Path, launchers: dict[str, Path]) -> None:
    machines = []
    for name, launcher in launchers.items():
        (tmp_path / name).mkdir()
        machines.append(Machine(tmp_path / name, launcher))
    with ExitStack() as listening, ThreadPoolExecutor(len(machines)) as executor:
        for machine in machines:
            listener = listening.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(machine.socket))
            listener.listen()
        done = list(executor.map(lambda machine: machine.execute(CNI_COMMAND="DEL"), machines))
    assert [(each.returncode, each.stdout, each.stderr) for each in done] == [(0, b"", b"")] * len(machines)
    assert [machine.queued() for machine in machines] == [[FRAME.replace(b"=ADD", b"=DEL")]] * len(machines)


@pytest.mark.parametrize(
    ("command", "code"), [*((each, Code.TRY_AGAIN_LATER) for each in ("ADD", "CHECK", "GC", "")), ("STATUS", 50)]
)
def test_without_an_agent_only_a_delete_succeeds(machine: Machine, command: str, code: int) -> None:
    assert error_of(machine.execute(CNI_COMMAND=command)) == ("0.4.0", code)
    assert not machine.queue.exists()


@pytest.mark.parametrize(
    ("stdin", "version"),
    [(b"", "0.1.0"), (b"{", "0.1.0"), (b"[]", "0.1.0"), (b"\xff", "0.1.0"), (b"[" * 100_000, "0.1.0")]
    + [(json.dumps({"cniVersion": version}).encode(), version) for version in cni_version.SUPPORTED],
)
def test_an_error_is_in_the_version_of_the_config_if_it_can_be_read(
    machine: Machine, stdin: bytes, version: str
) -> None:
    assert error_of(machine.execute(stdin)) == (version, Code.TRY_AGAIN_LATER)
    assert cni.version_of(stdin) == version


def test_a_delete_without_an_agent_is_queued_whole(machine: Machine) -> None:
    done = machine.execute(CNI_COMMAND="DEL")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert machine.queued() == [FRAME.replace(b"=ADD", b"=DEL")]
    assert [path.suffix for path in machine.queue.iterdir()] == [".del"]


def test_queued_deletes_are_for_root_only(machine: Machine) -> None:
    machine.execute(CNI_COMMAND="DEL")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (machine.queue, *machine.queue.iterdir())]
    assert modes == [0o700, 0o600]


def test_queued_deletes_sort_by_age(machine: Machine) -> None:
    containers = ["c1", "c2", "c3"]
    for container in containers:
        assert machine.execute(CNI_COMMAND="DEL", CNI_CONTAINERID=container).returncode == 0
    environments = [cni.unpack(frame)[0] for frame in machine.queued()]
    assert [environment["CNI_CONTAINERID"] for environment in environments] == containers


def test_a_socket_that_nobody_listens_on_is_no_agent(machine: Machine) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(machine.socket))
    assert error_of(machine.execute()) == ("0.4.0", Code.TRY_AGAIN_LATER)
    assert machine.execute(CNI_COMMAND="DEL").returncode == 0
    assert len(machine.queued()) == 1


def test_a_host_on_which_no_agent_ever_ran_takes_deletes(machine: Machine) -> None:
    (machine.run / "overlayd").rmdir()
    assert machine.execute(CNI_COMMAND="DEL").returncode == 0
    assert len(machine.queued()) == 1


def test_a_delete_that_cannot_be_queued_fails(machine: Machine) -> None:
    machine.queue.write_text("in the way")
    assert error_of(machine.execute(CNI_COMMAND="DEL")) == ("0.4.0", Code.IO_FAILURE)


def test_a_delete_that_does_not_fit_on_the_disk_fails_and_leaves_nothing(machine: Machine) -> None:
    done = machine.execute(CONFIG, ENVIRONMENT, "prlimit", "--fsize=64", str(machine.launcher), CNI_COMMAND="DEL")
    assert error_of(done) == ("0.4.0", Code.IO_FAILURE)
    assert machine.queued() == []


@pytest.mark.parametrize(
    "stdin",
    [b"", b"{", b"{}", *(b'{"cniVersion": "%b"}' % each.encode() for each in (*cni_version.SUPPORTED, "9.9.9"))],
)
def test_a_version_request_needs_no_agent_and_answers_as_it_does(machine: Machine, stdin: bytes) -> None:
    done = machine.execute(stdin, {"CNI_COMMAND": "VERSION"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout) == json.loads(cni.render_version(cni.version_of(stdin)))


def test_a_version_request_works_with_stdin_closed(machine: Machine) -> None:
    done = machine.execute(b"", {"CNI_COMMAND": "VERSION"}, "sh", "-c", f"exec {machine.launcher} <&-")
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["supportedVersions"] == list(cni_version.SUPPORTED)


@pytest.mark.parametrize(
    "config",
    [
        b'{"cniVersion": "0.4.0"} x',
        b'{"cniVersion": "0.4.0"',
        b'{"cniVersion": 4}',
        b'{"a": {"cniVersion": "0.4.0"}}',
        b'{"a": [1, -2.5e-3, 0.1E+7, true, false, null, "\\u00e9\\n\\"", {}, [], [[]]], "cniVersion": "0.4.0"}',
        b'{"cniVersion": "0.3.1", "cniVersion": "0.4.0"}',
        b'{"cniVersion": "0.4.0",}',
        b'{"cniVersion": "0.4.0", "a": 01}',
        b'{"cniVersion": "0.4.0", "a": 1.}',
        b'{"cniVersion": "0.4.0", "a": [1, ]}',
        b'{"cniVersion": "0.4.0", "a": "\t"}',
        b'{"cniVersion": "0.4.0", "a": "\\x"}',
        b'{"cniVersion": "0.4.0", "a": "\\u12"}',
        b'{"cniVersion": "0.4.0", a: 1}',
        b"{\"cniVersion\": '0.4.0'}",
        b'{"cniVersion": "0.4.0"}\0',
        b' \r\n\t{ "cniVersion" : "0.4.0" } ',
        b'"cniVersion"',
        b'{"cniVersion": "x\\"y"}',
    ],
)
def test_the_version_is_read_as_the_agent_reads_it(machine: Machine, config: bytes) -> None:
    assert error_of(machine.execute(config)) == (cni.version_of(config), Code.TRY_AGAIN_LATER)


def test_where_many_wait_one_more_waits_too(machine: Machine) -> None:
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as waiting:
        listener.bind(str(machine.socket))
        listener.listen(0)
        first = waiting.enter_context(socket.socket(socket.AF_UNIX))
        first.connect(str(machine.socket))
        first.shutdown(socket.SHUT_WR)
        with ThreadPoolExecutor(1) as executor:
            done = executor.submit(machine.execute)
            eventually(lambda: _is_connecting(machine.launcher), "the launcher waits to be accepted")
            for _ in range(2):
                channel, _ = listener.accept()
                with channel:
                    channel.settimeout(20)
                    while channel.recv(65536):
                        pass
                    channel.sendall(b"0")
            assert done.result().returncode == 0


def _is_connecting(launcher: Path) -> bool:
    """Tell whether a process of the launcher sleeps in connect()."""
    for wchan in Path("/proc").glob("[0-9]*/wchan"):
        with suppress(OSError):
            waits = "unix_wait_for_peer" in wchan.read_text()
            if waits and str(launcher).encode() in (wchan.parent / "cmdline").read_bytes():
                return True
    return False


def test_launcher_and_agent_support_the_same_versions() -> None:
    assert shim.SUPPORTED_VERSIONS == cni_version.SUPPORTED


def test_the_launcher_waits_for_a_delete_longer_than_the_agent_takes_for_it_and_far_less_than_a_runtime_does() -> None:
    assert DEL_DEADLINE < shim.DEL_ANSWER_PATIENCE
    assert 2 * (shim.DEL_SEND_PATIENCE + shim.DEL_ANSWER_PATIENCE) < 30


def test_launcher_and_agent_mean_the_same_codes() -> None:
    ours = (shim.IO_FAILURE, shim.TRY_AGAIN_LATER, shim.NOT_AVAILABLE)
    assert ours == (Code.IO_FAILURE, Code.TRY_AGAIN_LATER, Code.NOT_AVAILABLE)
