"""A control group for all that a container runtime starts: its helpers outlive it, and must end with the test."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Self

from tests.support.lab.processes import eventually

_ROOT = Path("/sys/fs/cgroup")
_PREFIXES = ("overlayd-lab", "ovm")
"""Of container runtimes in the lab, and of machines."""

_numbers = count(1)


class ControlGroup:
    """A control group of a name of its own, in every hierarchy. All that is in it, and below, ends with the block."""

    def __init__(self, prefix: str = _PREFIXES[0]) -> None:
        self.name = f"{prefix}-{_numbered_in()}-{os.getpid()}-{next(_numbers)}"

    def __enter__(self) -> Self:
        _end(_abandoned())
        for hierarchy in _hierarchies():
            (hierarchy / self.name / "daemon").mkdir(parents=True, exist_ok=True)  # one may have two names
        return self

    def __exit__(self, *_: object) -> None:
        _end([hierarchy / self.name for hierarchy in _hierarchies()])

    def start(self, command: Sequence[str]) -> list[str]:
        """Return a command that runs another one in this group."""
        places = " ".join(str(each / self.name / "daemon/cgroup.procs") for each in _hierarchies() if _takes(each))
        return ["sh", "-ec", f'for group in {places}; do echo $$ >$group; done; exec "$@"', "sh", *command]


def _hierarchies() -> list[Path]:
    """Return where control groups are mounted: at one place in version 2, one for each controller in version 1."""
    places = [_ROOT] if (_ROOT / "cgroup.procs").exists() else sorted(_ROOT.iterdir())
    return [place for place in places if (place / "cgroup.procs").exists()]


def _takes(hierarchy: Path) -> bool:
    """Return whether a new group can hold processes at once: one of `cpuset` has neither CPUs nor memory."""
    return not (hierarchy / "cpuset.cpus").exists()


def _numbered_in() -> int:
    """Return the inode of this process's PID namespace: a process id means nothing in another one."""
    return Path("/proc/self/ns/pid").stat().st_ino


def _abandoned() -> list[Path]:
    """Return the groups of tests that were killed themselves."""
    patterns = [(hierarchy, f"{prefix}-{_numbered_in()}-*-*") for hierarchy in _hierarchies() for prefix in _PREFIXES]
    found = (group for hierarchy, pattern in patterns for group in hierarchy.glob(pattern))
    return [group for group in found if not Path("/proc", group.name.split("-")[-2]).exists()]


def _end(groups: Sequence[Path]) -> None:
    """Kill what is in these groups and remove them."""

    def ended() -> bool:
        left = {pid for group in groups for pid in _processes(group)}
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    eventually(ended, f"all of {', '.join(sorted({group.name for group in groups}))} have ended")
    for group in groups:
        eventually(lambda: _removed(group), f"{group} is removed")  # noqa: B023 - used at once


def _below(group: Path) -> Iterator[Path]:
    """Yield a group and those in it, the inner ones first."""
    for directory, _, _ in os.walk(group, topdown=False):
        yield Path(directory)


def _processes(group: Path) -> Iterator[int]:
    for each in _below(group):
        with suppress(FileNotFoundError):
            # 0 is a process that this machine's processes cannot see.
            yield from (int(pid) for pid in (each / "cgroup.procs").read_text().split() if pid != "0")


def _removed(group: Path) -> bool:
    """Remove a group; a process that has just ended may hold it for a moment."""
    for each in _below(group):
        with suppress(OSError):
            each.rmdir()
    return not group.exists()
