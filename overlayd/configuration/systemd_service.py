"""Controls a service of this machine with systemctl(1)."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from overlayd.configuration import files
from overlayd.model.errors import InvalidValue, Unavailable

_BOOTED = Path("/run/systemd/system")
"""This directory exists where systemd runs (sd_booted(3))."""


@dataclass(frozen=True, slots=True)
class Service:
    """A unit, such as overlayd.service."""

    unit: str

    @property
    def is_ready(self) -> bool:
        """Whether the service runs and has reported that it is ready."""
        return self._state() == "active"

    @property
    def is_started(self) -> bool:
        """Whether the service runs, ready or not."""
        return self._state() in {"active", "activating", "reloading"}

    def _state(self) -> str:
        if not is_systemd_here():
            return ""
        return _systemctl("show", "--property=ActiveState", "--value", self.unit).stdout.strip()

    def enable(self) -> None:
        """Enable the service, so that it starts at boot; raise `Unavailable`."""
        self._do("enable", "--quiet", self.unit)

    def restart(self, patience: float = 60.0) -> None:
        """Start or restart the service, and return when it is ready; raise `Unavailable` with the end of its log.

        `patience` is the time limit in seconds, because a controller waits for its store without one.
        """
        self._do("restart", self.unit, patience=patience)

    def renew(self, patience: float = 60.0) -> bool:
        """Restart the service if it runs, ready or not; raise `Unavailable` with the end of its log.

        Returns True when it is ready, or was not running and stays so. Returns False if it is not ready after
        `patience` seconds; it keeps starting then. `systemctl try-restart` would not restart a
        controller that still waits for its store, so that one would keep running old code.
        """
        if not self.is_started:
            return True
        try:
            self._ask("restart", self.unit, patience=patience)
        except subprocess.TimeoutExpired:
            return False
        return True

    def reload(self, patience: float = 60.0) -> None:
        """Reload the service within `patience` seconds; raise `Unavailable` with the end of its log."""
        self._do("reload", self.unit, patience=patience)

    def disable(self) -> None:
        """Stop and disable the service; raise `Unavailable`."""
        self._do("disable", "--quiet", "--now", self.unit)

    def _do(self, *arguments: str, patience: float | None = None) -> None:
        try:
            self._ask(*arguments, patience=patience)
        except subprocess.TimeoutExpired:
            command = f"`systemctl {' '.join(arguments)}`"
            raise Unavailable(f"{command} has not finished after {patience:.0f} s:\n{self._end_of_log()}") from None

    def _ask(self, *arguments: str, patience: float | None = None) -> None:
        done = _systemctl(*arguments, patience=patience)
        if done.returncode:
            said = "\n".join(filter(None, (done.stderr.strip(), self._end_of_log())))
            raise Unavailable(f"`systemctl {' '.join(arguments)}` failed:\n{said}")

    def _end_of_log(self) -> str:
        program = shutil.which("journalctl")
        if program is None:
            return ""
        journal = [program, "--unit", self.unit, "--lines", "5", "--output", "cat", "--no-pager", "--quiet"]
        return subprocess.run(journal, capture_output=True, text=True, check=False).stdout.strip()


def is_systemd_here() -> bool:
    """Return whether systemd runs on this machine."""
    return files.is_directory(_BOOTED)


def reload_units() -> None:
    """Let systemd reload all units; raise `Unavailable`."""
    done = _systemctl("daemon-reload")
    if done.returncode:
        raise Unavailable(f"`systemctl daemon-reload` failed: {done.stderr.strip()}")


def check_systemd(instead: str) -> None:
    """Raise `InvalidValue` where systemd does not run; `instead` is the advice in the error."""
    if not is_systemd_here():
        raise InvalidValue(f"systemd does not run here: {instead}", field="--no-start")


def _systemctl(*arguments: str, patience: float | None = None) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemctl")
    if program is None:
        raise Unavailable("there is no systemctl")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=patience)
