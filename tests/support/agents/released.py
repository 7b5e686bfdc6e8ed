"""overlayd as it was released, for tests of an upgrade: it runs as processes of its own, beside ours."""

import sys
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

_DATA = Path(__file__).resolve().parents[2] / "data"

_MODULES = {
    "overlayd": "overlayd.agent.main",
    "overlayctl": "overlayd.cli.main",
    "overlay-controller": "controller.main",
}


@dataclass(frozen=True, slots=True)
class Archive:
    """A release as it was packed."""

    path: Path
    has_tokens: bool
    """Whether its controller knows TLS, tokens and `/readyz`, and needs `--insecure` to go without."""

    def unpacked(self, directory: Path) -> "Release":
        """Unpack it; return what runs its commands."""
        with ZipFile(self.path) as archive:
            archive.extractall(directory)
        return Release(directory, self.has_tokens)


@dataclass(frozen=True, slots=True)
class Release:
    """An unpacked release: its tree goes on PYTHONPATH before everything else."""

    tree: Path
    has_tokens: bool

    def python(self, *arguments: str) -> list[str]:
        """Return a command that runs Python with the modules of this release in the place of ours."""
        return ["env", f"PYTHONPATH={self.tree}", sys.executable, "-P", *arguments]

    def command(self, name: str) -> list[str]:
        """Return the command line that starts a command of this release."""
        return self.python("-c", f"from {_MODULES[name]} import main; main()")


V010 = Archive(_DATA / "overlayd-0.1.0.zip", has_tokens=False)
"""The last release of schema 1."""

PREVIOUS = Archive(_DATA / "overlayd-88403ed.zip", has_tokens=True)
"""The release before this one."""
