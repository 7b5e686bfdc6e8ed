"""A stream of pings that tells afterwards whether one got lost."""

import re
import signal
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol, Self

from overlayd.model.address import IpAddress
from tests.support.lab.processes import PATIENCE, NotInTime, Process, eventually

_ANSWER = re.compile(r"icmp_seq=(\d+) (?:ttl|hlim)=")
_TIME = re.compile(r"^\[(\d+\.\d+)\].*time=", re.MULTILINE)


class Source(Protocol):
    """Where pings come from: a container, of the lab or of a machine."""

    def enter(self, command: Sequence[str]) -> list[str]: ...


class Pinging:
    """Sends echo requests, one every millisecond by default, from the beginning of the `with` block to its end."""

    def __init__(self, source: Source, destination: IpAddress, log: Path, interval: float = 0.001) -> None:
        # ping looks for answers without a pause; its low priority leaves the processors to the others.
        self._command = source.enter(["nice", "-n19", "ping", "-nD", "-i", str(interval), str(destination)])
        self._log = log
        self._interval = interval

    def __enter__(self) -> Self:
        self._process = Process(self._command, self._log)
        try:
            self.more(50)
        except NotInTime:
            self._process.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop(signal.SIGINT)

    @property
    def answered(self) -> list[int]:
        """The sequence numbers of the answers so far."""
        return [int(number) for number in _ANSWER.findall(self._process.output)]

    def more(self, count: int) -> None:
        """Wait until so many more answers have come."""
        known = self._log.stat().st_size

        def have_come() -> bool:
            # Only what is new: the log grows by sixty kilobytes a second.
            with self._log.open("rb") as log:
                log.seek(known)
                return len(_ANSWER.findall(log.read().decode(errors="replace"))) >= count

        patience = PATIENCE + 10 * count * self._interval
        eventually(have_come, f"{count} more pings are answered", patience)

    def gap(self, since: float) -> float:
        """Return the longest time in seconds without an answer from a point in time (of the epoch) on."""
        answers = (float(time) for time in _TIME.findall(self._process.output))
        return max(later - earlier for earlier, later in pairwise((since, *(time for time in answers if time > since))))

    @property
    def lost(self) -> set[int]:
        """The sequence numbers without an answer, up to the last one that has one."""
        answered = set(self.answered)
        return set(range(1, max(answered) + 1)) - answered
