"""overlayd as it was released, for tests of an upgrade: it runs as processes of its own, beside ours."""

import sys
from pathlib import Path
from zipfile import ZipFile

V010 = Path(__file__).resolve().parents[1] / "data/overlayd-0.1.0.zip"
"""The last release of schema 1."""

_MODULES = {
    "overlayd": "overlayd.agent.main",
    "overlayctl": "overlayd.cli.main",
    "overlay-controller": "controller.main",
}


def unpacked(archive: Path, directory: Path) -> Path:
    """Unpack a release; return what goes on PYTHONPATH before everything else."""
    with ZipFile(archive) as release:
        release.extractall(directory)
    return directory


def python(tree: Path, *arguments: str) -> list[str]:
    """Return a command that runs Python with the modules of an unpacked release in the place of ours."""
    return ["env", f"PYTHONPATH={tree}", sys.executable, "-P", *arguments]


def command(tree: Path, name: str) -> list[str]:
    """Return what starts a command of an unpacked release."""
    module = _MODULES[name]
    return python(tree, "-c", f"from {module} import main; main()")
