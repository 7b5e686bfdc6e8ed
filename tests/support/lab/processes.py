"""Real processes in namespaces, and waiting for what they do."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.support.lab.nursery import Child, Place, nursery

T = TypeVar("T")

POLL = 0.02
"""Seconds between two looks at a condition, at least."""

PATIENCE = 60.0
"""Seconds to wait for a condition: many, as a slow machine is no fault. A test that passes does not wait so long."""


class NotInTime(AssertionError):
    """A condition did not come true."""


def eventually(condition: Callable[[], T], what: str, timeout: float = PATIENCE) -> T:
    """Return the condition's first true value; raise `NotInTime` that says what was waited for.

    At most half of the time goes to looking: the rest is for the processes that are to make the condition true.
    """
    deadline = time.monotonic() + timeout
    looked = time.monotonic()
    while not (value := condition()):
        now = time.monotonic()
        if now > deadline:
            raise NotInTime(f"not within {timeout:.0f} s: {what}")
        time.sleep(max(POLL, now - looked))
        looked = time.monotonic()
    return value


@dataclass(frozen=True, slots=True)
class Pid:
    """A process; its start time (proc(5), field 22) distinguishes it from a later one with the same number."""

    number: int
    started: int

    @classmethod
    def of(cls, number: int) -> "Pid":
        return cls(number, _start_time(number))

    @property
    def alive(self) -> bool:
        try:
            return _start_time(self.number) == self.started
        except (FileNotFoundError, ProcessLookupError):
            return False

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal if this process still is the one that was started."""
        if self.alive:
            os.kill(self.number, number)


def _start_time(number: int) -> int:
    text = Path(f"/proc/{number}/stat").read_text()
    fields = text.rpartition(")")[2].split()
    if fields[0] == "Z":
        raise ProcessLookupError(number)
    return int(fields[19])


class Process:
    """A daemon that was started for a test, with its output in a file."""

    def __init__(self, command: Sequence[str], log: Path, *, lasting: bool = False, **options: Any) -> None:  # noqa: ANN401 - Popen's own
        """Start it. Unless it is `lasting` it ends with the process that started it, however that ends."""
        bound = [] if lasting else ["setpriv", "--pdeathsig", "KILL"]
        with log.open("ab") as output:
            popen = subprocess.Popen(
                [*bound, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **options,
            )
        self._follow(popen, command, log)

    def _follow(self, popen: subprocess.Popen[bytes] | Child, command: Sequence[str], log: Path) -> None:
        self.log = log
        self._command = " ".join(command)
        self._popen = popen
        self.pid = Pid.of(popen.pid)

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def check(self) -> None:
        """Fail with the output when the process has ended."""
        if self._popen.poll() is not None:
            raise AssertionError(f"{self._command} ended with {self._popen.returncode}:\n{self.output[-3000:]}")

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = PATIENCE) -> int:
        """Send a signal and return the exit status; a process that does not end is killed, and that fails."""
        if self._popen.poll() is None:
            self._popen.send_signal(number)
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
            raise NotInTime(f"{self._command} did not stop within {timeout:.0f} s:\n{self.output[-3000:]}") from None

    def wait(self, timeout: float = PATIENCE) -> int:
        """Return the exit status of a process that ends by itself."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise NotInTime(f"{self._command} did not end within {timeout:.0f} s:\n{self.output[-3000:]}") from None

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()


class Forked(Process):
    """One of our own daemons, forked from the nursery; it ends with the process that started it."""

    def __init__(self, command: Sequence[str], log: Path, place: Place | None, descriptors: Sequence[int] = ()) -> None:
        """Start the daemon, with these descriptors in addition to the standard ones."""
        with log.open("ab") as output:
            self._follow(nursery().start(command, place, output.fileno(), descriptors), command, log)
