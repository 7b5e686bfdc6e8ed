"""A service of this machine, by way of systemctl(1)."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from overlayd.configuration import files
from overlayd.model.errors import InvalidValue, Unavailable

_BOOTED = Path("/run/systemd/system")
"""It is there where systemd runs (sd_booted(3))."""


@dataclass(frozen=True, slots=True)
class Service:
    """A unit, such as overlayd.service."""

    unit: str

    @property
    def is_ready(self) -> bool:
        """Whether it runs, and has said that it is ready."""
        return self._state() == "active"

    @property
    def is_started(self) -> bool:
        """Whether it runs, be it ready or not."""
        return self._state() in {"active", "activating", "reloading"}

    def _state(self) -> str:
        if not is_systemd_here():
            return ""
        return _systemctl("show", "--property=ActiveState", "--value", self.unit).stdout.strip()

    def enable(self) -> None:
        """Let it start with the machine; raise `Unavailable`."""
        self._do("enable", "--quiet", self.unit)

    def restart(self, patience: float = 60.0) -> None:
        """Start it, or start it anew, and return when it is ready; raise `Unavailable` with its last words.

        `patience` is in seconds: a controller waits for its store as long as it takes, and nobody waits for it so long.
        """
        self._do("restart", self.unit, patience=patience)

    def renew(self, patience: float = 60.0) -> bool:
        """Start it anew if it runs, ready or not; raise `Unavailable` with its last words.

        False if it is not ready after `patience` seconds: systemd goes on with it. `systemctl try-restart` would leave
        the old code in a controller that still waits for its store.
        """
        if not self.is_started:
            return True
        try:
            self._ask("restart", self.unit, patience=patience)
        except subprocess.TimeoutExpired:
            return False
        return True

    def reload(self, patience: float = 60.0) -> None:
        """Let it read its files anew, within `patience` seconds; raise `Unavailable` with its last words."""
        self._do("reload", self.unit, patience=patience)

    def disable(self) -> None:
        """Stop it, and let it not start with the machine any more; raise `Unavailable`."""
        self._do("disable", "--quiet", "--now", self.unit)

    def _do(self, *arguments: str, patience: float | None = None) -> None:
        try:
            self._ask(*arguments, patience=patience)
        except subprocess.TimeoutExpired:
            command = f"`systemctl {' '.join(arguments)}`"
            raise Unavailable(f"{command} goes on after {patience:.0f} s:\n{self._last_words()}") from None

    def _ask(self, *arguments: str, patience: float | None = None) -> None:
        done = _systemctl(*arguments, patience=patience)
        if done.returncode:
            said = "\n".join(filter(None, (done.stderr.strip(), self._last_words())))
            raise Unavailable(f"`systemctl {' '.join(arguments)}` failed:\n{said}")

    def _last_words(self) -> str:
        program = shutil.which("journalctl")
        if program is None:
            return ""
        journal = [program, "--unit", self.unit, "--lines", "5", "--output", "cat", "--no-pager", "--quiet"]
        return subprocess.run(journal, capture_output=True, text=True, check=False).stdout.strip()


def is_systemd_here() -> bool:
    """Tell whether systemd runs this machine."""
    return files.is_directory(_BOOTED)


def reload_units() -> None:
    """Let systemd read what units there are now; raise `Unavailable`."""
    done = _systemctl("daemon-reload")
    if done.returncode:
        raise Unavailable(f"`systemctl daemon-reload` failed: {done.stderr.strip()}")


def check_systemd(instead: str) -> None:
    """Raise `InvalidValue` where there is no systemd; `instead` says what to do then."""
    if not is_systemd_here():
        raise InvalidValue(f"systemd does not run here: {instead}", field="--no-start")


def _systemctl(*arguments: str, patience: float | None = None) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemctl")
    if program is None:
        raise Unavailable("there is no systemctl")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=patience)
