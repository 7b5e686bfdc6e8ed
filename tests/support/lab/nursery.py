"""Starting our daemons for tests by forking a process that has imported them: imports take most of the time of a start.

What is started so runs in its own session, in the namespaces and with the descriptors, arguments and environment that
it is given, as if its command had been executed. It ends with the test process, however that ends.
"""

import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
NUMBER = 4
"""Bytes of a process id or an exit status, as they are sent."""

NO_PUBLIC_AUTHORITIES = {"SSL_CERT_FILE": os.devnull}
"""An environment in which OpenSSL does not read the machine's 140 authorities, which takes 25 ms for each client: no
server of a test has a certificate of theirs."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process runs: in the network namespace of another one, and in its mount namespace or in our own."""

    pid: int
    mounts: bool

    def enter(self, command: Sequence[str]) -> list[str]:
        """Return a command that runs another one there."""
        mounts = ["--mount", f"--wd={ROOT}"] if self.mounts else []
        return ["nsenter", f"--target={self.pid}", "--net", *mounts, "--", *command]


@dataclass(frozen=True, slots=True)
class Order:
    """What to start. `descriptors` are inherited, in addition to the standard ones."""

    program: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    place: Place | None
    descriptors: tuple[int, ...]


class Child:
    """A process that was forked elsewhere, in the form of `subprocess.Popen`."""

    def __init__(self, reports: int) -> None:
        self.returncode: int | None = None
        self._reports = reports
        self.pid = self._number()

    def poll(self) -> int | None:
        """Return the exit status if it has ended, negative when a signal has ended it."""
        if self.returncode is None and select.select([self._reports], [], [], 0)[0]:
            self._end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status; raise `subprocess.TimeoutExpired` when there is none within so many seconds."""
        if self.returncode is None:
            if not select.select([self._reports], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired([str(self.pid)], timeout or 0)
            self._end()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _end(self) -> None:
        self.returncode = self._number()
        os.close(self._reports)

    def _number(self) -> int:
        found = os.read(self._reports, NUMBER)
        if not found:
            raise ChildProcessError("the nursery ended")
        return int.from_bytes(found, "big", signed=True)


class Nursery:
    """The process that forks."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.support.lab.nursery_process", str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT, start_new_session=True)

    def start(self, command: Sequence[str], place: Place | None, output: int, descriptors: Sequence[int] = ()) -> Child:
        """Start one of our commands, which writes to the descriptor `output`."""
        program, *arguments = command
        environment = {**os.environ, **NO_PUBLIC_AUTHORITIES}
        order = Order(program, tuple(arguments), environment, place, tuple(descriptors))
        reports, reporting = os.pipe()
        try:
            socket.send_fds(self._socket, [json.dumps(asdict(order)).encode()], [output, reporting, *descriptors])
        finally:
            os.close(reporting)
        return Child(reports)


@functools.cache
def nursery() -> Nursery:
    """Return the one of this process."""
    return Nursery()
