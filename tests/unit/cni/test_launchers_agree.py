"""Both launchers give the same bytes, whatever goes wrong: a host's operator need not know which one is installed."""

import errno
import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cni import install, shim
from overlayd.agent.runtime.unix_server import REQUEST_MAX
from overlayd.wire.cni import requests as cni
from tests.support.lab.processes import PATIENCE, eventually
from tests.unit.cni.test_launchers import CONFIG, ENVIRONMENT, SHIM, Agent, Machine, launchers

__all__ = ["launchers"]  # the fixture

pytestmark = pytest.mark.usefixtures("root")

Executed = subprocess.CompletedProcess[bytes]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that one launcher did."""

    status: int
    stdout: bytes
    stderr: bytes
    queued: tuple[bytes, ...]

    @property
    def message(self) -> str:
        return str(json.loads(self.stdout)["msg"])


class Pair:
    """Two machines that differ in nothing but the launcher."""

    def __init__(self, directory: Path, native: Path) -> None:
        self.machines = []
        for name, launcher in (("native", native), ("interpreted", SHIM)):
            (directory / name).mkdir()
            self.machines.append(Machine(directory / name, launcher))

    def do(self, act: Callable[[Machine], Executed]) -> Outcome:
        """Let each of them act; return the outcome, which is the same."""
        native, interpreted = (self._outcome(machine, act(machine)) for machine in self.machines)
        assert native == interpreted
        return native

    @staticmethod
    def _outcome(machine: Machine, done: Executed) -> Outcome:
        queued = tuple(machine.queued()) if machine.queue.is_dir() else ()
        return Outcome(done.returncode, done.stdout, done.stderr, queued)

    def shell(self, script: str, **changes: str) -> Outcome:
        """Run each launcher as `$0` of a shell script."""
        return self.do(
            lambda machine: machine.execute(CONFIG, ENVIRONMENT, "sh", "-c", script, str(machine.launcher), **changes)
        )


PRINT_TEXTS = """
#define main launcher
#include "launcher.c"
#undef main

int main(void)
{
    for (int why = 1; why < 134; why++) puts(text_of(why));
}
"""


@pytest.mark.parametrize("compiler", install.COMPILERS)
def test_both_say_the_same_of_an_errno(tmp_path: Path, compiler: str) -> None:
    source, program = tmp_path / "texts.c", tmp_path / "texts"
    source.write_text(PRINT_TEXTS)
    subprocess.run([compiler, "-static", f"-I{SHIM.parent}", "-o", program, source], check=True)
    texts = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
    unknown = "No error information"  # musl's text for what no call of the launcher can end with
    assert {number for number, text in enumerate(texts, 1) if text not in {os.strerror(number), unknown}} == set()
    assert texts[errno.EUCLEAN - 1] == os.strerror(errno.EUCLEAN)


@pytest.fixture
def pair(tmp_path: Path, launchers: dict[str, Path]) -> Pair:
    return Pair(tmp_path, launchers[install.COMPILERS[0]])


READ = b'"cniVersion": "0.4.0"'
NESTED = shim.DEPTH_MAX - 1
CONFIGS = [
    b"",
    b" ",
    b"{}",
    b"{",
    b"null",
    b"[]",
    b'"cniVersion"',
    b"{%b}" % READ,
    b" \r\n\t{ %b } \n" % READ,
    b"\x0b{%b}" % READ,
    b"\xef\xbb\xbf{%b}" % READ,
    (b"{%b}" % READ).decode().encode("utf-16"),
    (b"{%b}" % READ).decode().encode("utf-32-le"),
    b"{%b}\0" % READ,
    b"{%b}x" % READ,
    b"{%b,}" % READ,
    b"{,%b}" % READ,
    b"{%b %b}" % (READ, READ),
    b'{"cniVersion": "0.3.1", %b}' % READ,
    b'{%b, "cniVersion": "0.3.1"}' % READ,
    b'{%b, "cniVersion": 4}' % READ,
    b'{%b, "cniVersion": null}' % READ,
    b'{"cniVersion": ["0.4.0"]}',
    b'{"cniVersion": {"0.4.0": 1}}',
    b'{"a": {%b}}' % READ,
    b'{"CNIVersion": "0.4.0"}',
    b'{"cniVersion ": "0.4.0"}',
    b'{"cni\\u0056ersion": "0.4.0"}',
    b'{"cniVersion": "0\\u002e4.0"}',
    b'{"cniVersion": "0\\u002E4\\u002e0"}',
    b'{"cniVersion": "0\\u012e4.0"}',
    b'{"cniVersion": "\\/"}',
    b'{"cniVersion": "0.4.0\\u0000"}',
    b'{"cniVersion": "0.4.0\\n"}',
    b'{"cniVersion": "0.4"}',
    b'{"cniVersion": "0.4.00"}',
    b'{"cniVersion": ""}',
    '{"cniVersion": "\u0660.4.0"}'.encode(),
    *(
        b'{%b, "a": %b}' % (READ, value)
        for value in (
            *(b"01", b"1.", b".1", b"1e", b"1e+", b"-", b"--1", b"+1", b"0x1", b"1_0", b"-0", b"1E-2", b"0.0e+0"),
            *(b"9" * 5000, b"1" + b"0" * 400 + b".5", b"NaN", b"-NaN", b"Infinity", b"-Infinity", b"inf", b"True"),
            *(b"nul", b"nullx", b"truefalse", b"[1,]", b"[,1]", b"[1 2]", b"[", b"]", b"{}}", b"[]]", b"{1: 2}"),
            *(b'"', b'"a', b'"\t"', b'"\x7f"', b'"\\x"', b'"\\u12"', b'"\\u+123"', b'"\\u12g4"', b'"\\ud800"', b"'a'"),
            *(b'"\\"', b'"\\\\"', b'"a\0b"', b"\0", b"/**/1", b"1//"),
            *(b'"\xc3\xa9"', b'"\xff"', b'"\xc0\x80"', b'"\xc1\xbf"', b'"\xe0\x80\x80"', b'"\xe0\xa0\x80"'),
            *(b'"\xed\xa0\x80"', b'"\xed\x9f\xbf"', b'"\xef\xbf\xbf"', b'"\xf0\x80\x80\x80"', b'"\xf0\x90\x80\x80"'),
            *(
                b'"\xf4\x8f\xbf\xbf"',
                b'"\xf4\x90\x80\x80"',
                b'"\xf5\x80\x80\x80"',
                b'"\xe2\x82"',
                b'"\xe2\x82',
                b'"\x80"',
            ),
            *(b"[" * NESTED + b"]" * NESTED, b"[" * (NESTED + 1) + b"]" * (NESTED + 1)),
            b"[%b%b]" % (b"[]," * 300, b"[" * NESTED + b"]" * NESTED),
            *(b'"%b"' % (b"{" * (NESTED + 1)), b"[" * 100_000, b'{"a":' * 100_000),
            *(b'["%b", %b' % (b"]" * 1_000_000, b"[" * 1_000_000), b'["\\"%b", %b' % (b"]" * 1000, b"[" * 1000)),
            *(b'["%b' % (b"[" * 1000), b'["%b\\' % (b"[" * 1000), b'["\\\\", %b' % (b"[" * 1000)),
        )
    ),
]


def test_a_config_is_read_or_not_by_both_and_the_agent(launchers: dict[str, Path]) -> None:
    def version(launcher: Path, config: bytes) -> bytes:
        asked = {"CNI_COMMAND": "VERSION"}
        return subprocess.run([launcher], env=asked, input=config, capture_output=True, check=True).stdout

    for config in CONFIGS:
        expected = cni.render_version(cni.version_of(config))
        found = [version(launcher, config) for launcher in launchers.values()]
        assert found == [expected] * len(launchers), config
    assert sum(cni.version_of(config) == "0.4.0" for config in CONFIGS) > 20


@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", "", "add", "NOTHING"])
def test_without_an_agent(pair: Pair, command: str) -> None:
    done = pair.do(lambda machine: machine.execute(CNI_COMMAND=command))
    assert bool(done.queued) == (command == "DEL")


@pytest.mark.parametrize("command", ["ADD", "DEL", "STATUS"])
@pytest.mark.parametrize("what", ["nobody listens", "directory", "file", "link to nowhere"])
def test_what_is_no_socket_is_no_agent(pair: Pair, command: str, what: str) -> None:
    for machine in pair.machines:
        match what:
            case "nobody listens":
                with socket.socket(socket.AF_UNIX) as dead:
                    dead.bind(str(machine.socket))
            case "directory":
                machine.socket.mkdir()
            case "file":
                machine.socket.touch()
            case _:
                machine.socket.symlink_to("nowhere")
    done = pair.do(lambda machine: machine.execute(CNI_COMMAND=command))
    assert (done.status == 0) == bool(done.queued) == (command == "DEL")


WITHOUT_PRIVILEGES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_a_directory_that_may_not_be_entered(pair: Pair, command: str) -> None:
    for machine in pair.machines:
        machine.socket.parent.chmod(0)
    done = pair.do(
        lambda machine: machine.execute(
            CONFIG, ENVIRONMENT, *WITHOUT_PRIVILEGES, str(machine.launcher), CNI_COMMAND=command
        )
    )
    assert done.message.endswith(": Permission denied")
    assert f"{shim.QUEUE} cannot be written" in done.message or command == "ADD"


@pytest.mark.parametrize("what", ["file", "link to nowhere", "read-only", "full"])
def test_a_delete_that_cannot_be_queued(pair: Pair, what: str) -> None:
    wrapper: tuple[str, ...] = ()
    for machine in pair.machines:
        match what:
            case "file":
                machine.queue.touch()
            case "link to nowhere":
                machine.queue.symlink_to("nowhere")
            case "read-only":
                machine.queue.mkdir(mode=0o500)
                wrapper = WITHOUT_PRIVILEGES
            case _:
                wrapper = ("prlimit", "--fsize=64")
    done = pair.do(
        lambda machine: machine.execute(CONFIG, ENVIRONMENT, *wrapper, str(machine.launcher), CNI_COMMAND="DEL")
    )
    assert (done.status, done.queued) == (1, ())
    assert f"{shim.QUEUE} cannot be written: " in done.message


ANSWERS = [b"0", b"1", b"0x", b'1{"code": 7}', b"?x", b'0{"cniVersion": "0.4', b"0\xff\0", b"0" + b"a" * 5_000_000]


@pytest.mark.parametrize("answer", ANSWERS, ids=range(len(ANSWERS)))
def test_an_answer_is_relayed(pair: Pair, answer: bytes) -> None:
    requests = []

    def act(machine: Machine) -> Executed:
        with Agent(machine.socket, answer) as agent:
            done = machine.execute()
        requests.append(agent.request)
        return done

    done = pair.do(act)
    assert (done.status, done.stdout) == (int(answer[:1] != b"0"), answer[1:])
    assert requests[0] == requests[1]


def test_an_agent_that_hangs_up(pair: Pair) -> None:
    def act(machine: Machine) -> Executed:
        with Agent(machine.socket, b""):
            return machine.execute()

    assert pair.do(act).message.endswith(": Connection reset by peer")


def test_an_agent_that_resets_the_connection_within_its_answer(pair: Pair) -> None:
    def act(machine: Machine) -> Executed:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(machine.socket))
            listener.listen()
            with subprocess.Popen(machine.command(), stdin=-1, stdout=-1, stderr=-1) as running:
                assert running.stdin
                running.stdin.write(CONFIG)
                running.stdin.close()
                channel, _ = listener.accept()
                channel.recv(1)
                hung_up = select.poll()
                hung_up.register(channel, select.POLLRDHUP)
                assert hung_up.poll(1000 * PATIENCE), "it has sent its whole request, and reads"
                channel.send(b"0{")
                channel.close()  # with the rest of the request unread
                stdout, stderr = running.stdout, running.stderr
                assert stdout
                assert stderr
                return subprocess.CompletedProcess("", running.wait(PATIENCE), stdout.read(), stderr.read())

    assert pair.do(act).message.endswith(": Connection reset by peer")


SIGNALS = [(signal.SIGTERM, -15), (signal.SIGINT, -2), (signal.SIGHUP, -1), (signal.SIGSTOP, 0), (signal.SIGPIPE, 0)]


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_a_signal_while_the_agent_is_asked(pair: Pair, number: signal.Signals, status: int) -> None:
    def act(machine: Machine) -> Executed:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(machine.socket))
            listener.listen()
            with subprocess.Popen(machine.command(), stdin=subprocess.DEVNULL, stdout=-1, stderr=-1) as running:
                channel, _ = listener.accept()
                with channel:
                    while channel.recv(65536):
                        pass
                    eventually(lambda: state(running.pid) == "S", "it waits for the answer")
                    running.send_signal(number)
                    if number == signal.SIGSTOP:
                        eventually(lambda: state(running.pid) == "T", "it has stopped")
                        running.send_signal(signal.SIGCONT)
                    if not status:
                        channel.sendall(b"0ok")
                        channel.shutdown(socket.SHUT_WR)
                    running.wait(PATIENCE)
                stdout, stderr = running.stdout, running.stderr
                assert stdout
                assert stderr
                return subprocess.CompletedProcess("", running.returncode, stdout.read(), stderr.read())

    done = pair.do(act)
    assert (done.status, done.stdout, done.stderr) == (status, b"" if status else b"ok", b"")


def test_a_launcher_that_is_stopped_while_it_waits_to_connect(pair: Pair) -> None:
    def act(machine: Machine) -> Executed:
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
            listener.bind(str(machine.socket))
            listener.listen(0)
            first.connect(str(machine.socket))
            with subprocess.Popen(machine.command(), stdin=subprocess.DEVNULL, stdout=-1, stderr=-1) as running:
                wchan = Path(f"/proc/{running.pid}/wchan")
                eventually(lambda: "unix_wait_for_peer" in wchan.read_text(), "it waits to be accepted")
                running.send_signal(signal.SIGSTOP)
                eventually(lambda: state(running.pid) == "T", "it has stopped")
                running.send_signal(signal.SIGCONT)
                eventually(lambda: "unix_wait_for_peer" in wchan.read_text(), "it waits again")
                listener.accept()[0].close()
                channel, _ = listener.accept()
                with channel:
                    while channel.recv(65536):
                        pass
                    channel.sendall(b"0ok")
                running.wait(PATIENCE)
                stdout, stderr = running.stdout, running.stderr
                assert stdout
                assert stderr
                return subprocess.CompletedProcess("", running.returncode, stdout.read(), stderr.read())

    done = pair.do(act)
    assert (done.status, done.stdout, done.stderr) == (0, b"ok", b"")


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("command", ["VERSION", "ADD", "DEL"])
@pytest.mark.parametrize(
    "redirection",
    ["<&-", "</dev/zero", "0>/dev/null", ">&-", ">/dev/full", "2>&-", "<&- >&- 2>&-", ">&- 2>&-"],
)
def test_odd_standard_streams(pair: Pair, command: str, redirection: str) -> None:
    pair.shell(f'exec "$0" {redirection}', CNI_COMMAND=command)


@pytest.mark.parametrize("redirection", ["", ">&-", ">/dev/full", "<&- >&- 2>&-"])
@pytest.mark.parametrize("answer", [b"0", b"0ok", b"1no"])
def test_an_answer_goes_to_stdout_or_fails(pair: Pair, redirection: str, answer: bytes) -> None:
    def act(machine: Machine) -> Executed:
        with Agent(machine.socket, answer) as agent:
            script = f'exec "$0" {redirection}'
            done = machine.execute(CONFIG, ENVIRONMENT, "sh", "-c", script, str(machine.launcher))
        assert agent.request.startswith(b"CNI_COMMAND=ADD")
        return done

    assert pair.do(act).status == (0 if answer == b"0" or (answer == b"0ok" and not redirection) else 1)


@pytest.mark.parametrize(("length", "fits"), [(shim.STDIN_MAX, True), (shim.STDIN_MAX + 1, False)])
def test_stdin_has_a_limit_and_what_is_longer_is_never_asked_for_again(pair: Pair, length: int, *, fits: bool) -> None:
    stdin = CONFIG.ljust(length)

    def act(machine: Machine) -> Executed:
        if not fits:
            return machine.execute(stdin)
        with Agent(machine.socket, b"0ok") as agent:
            done = machine.execute(stdin)
        assert agent.request.endswith(stdin)
        assert len(agent.request) < REQUEST_MAX
        return done

    done = pair.do(act)
    if fits:
        assert (done.status, done.stdout) == (0, b"ok")
    else:
        assert json.loads(done.stdout) == {
            "cniVersion": "0.1.0",
            "code": 7,
            "msg": f"the network config on stdin is longer than {shim.STDIN_MAX} bytes",
        }


def test_the_longest_list_of_ten_thousand_containers_fits() -> None:
    listed = [{"containerID": "c" * 128, "ifname": "i" * 15}] * 10_000
    config = {"cniVersion": "1.1.0", "name": "n" * 63, "type": "overlayd", "cni.dev/valid-attachments": listed}
    assert len(json.dumps(config, indent=2)) < shim.STDIN_MAX


@pytest.mark.parametrize(
    "changes",
    [
        {"LC_ALL": "de_DE.UTF-8", "LANGUAGE": "de"},
        {"PYTHONHOME": "/nowhere", "PYTHONPATH": "/nowhere", "PYTHONSTARTUP": "/nowhere", "PYTHONVERBOSE": "1"},
        {"PYTHONINTMAXSTRDIGITS": "640", "PYTHONUTF8": "0", "PYTHONIOENCODING": "utf-16", "PYTHONDEVMODE": "1"},
        {"CNI_NETNS": "", "CNI_IFNAME": "", "CNI_ARGS": "", "CNI_PATH": ""},
        {"CNI_ARGS": "a" * 100_000},
        {"CNI_ARGS": 'a\nb=c;"\\'},
        {"CNI_SECRET": "x", "cni_command": "DEL"},
    ],
    ids=range(7),
)
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_odd_environments(pair: Pair, command: str, changes: dict[str, str]) -> None:
    environment = {**ENVIRONMENT, "CNI_COMMAND": command, **changes}
    pair.do(lambda machine: machine.execute(CONFIG, environment))


def test_an_empty_environment(pair: Pair) -> None:
    pair.do(lambda machine: machine.execute(CONFIG, {}))
