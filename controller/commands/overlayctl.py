"""Calls `overlayctl` from `overlay-controller`: only that program has a client of the administrator's API."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from overlayd.model.errors import Unavailable

_OVERRIDING = {"OVERLAY_CONTROLLER_URL", "OVERLAY_TOKEN_FILE", "OVERLAY_CA_FILE"}
"""Variables that say something else than the login does."""


def program(name: str) -> str:
    """Return the path of another command of the same installation."""
    return str(Path(sys.executable).with_name(name))


@dataclass(frozen=True, slots=True)
class Overlayctl:
    """The command, for the controller at a URL, as the user of this process."""

    url: str

    def is_admin(self) -> bool:
        """Return whether the saved login is that of an admin."""
        done = self._execute("whoami", "--json")
        return done.returncode == 0 and json.loads(done.stdout)["role"] == "admin"

    def is_usual(self) -> bool:
        """Return whether commands reach a controller without an option for its URL, by the login's URL."""
        return self._run("whoami", "--json").returncode == 0

    def login(self, authority: Path, token: str) -> str:
        """Log in, and return the output of the command; raise `Unavailable`."""
        return self._done("login", self.url, "--ca", str(authority), said=token)

    def make_join_token(self, hosts: int, ttl: str) -> str:
        """Return a new join token; raise `Unavailable`."""
        return self._done("token", "create", "--join", "--hosts", str(hosts), "--ttl", ttl)

    def _done(self, *arguments: str, said: str = "") -> str:
        done = self._execute(*arguments, said=said)
        if done.returncode:
            raise Unavailable(f"overlayctl {arguments[0]}: {done.stderr.strip().removeprefix('overlayctl: ')}")
        return done.stdout.strip()

    def _execute(self, *arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
        return self._run("--controller", self.url, *arguments, said=said)

    @staticmethod
    def _run(*arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name not in _OVERRIDING}
        command = [program("overlayctl"), *arguments]
        return subprocess.run(command, input=said, capture_output=True, text=True, check=False, env=environment)
