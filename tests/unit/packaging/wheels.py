"""The wheel of this tree, and an environment into which pip has installed it."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.support.lab.lab import ROOT

PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]


def build_wheel(directory: Path) -> Path:
    """Build the wheel of a copy of this tree, without the network; return its path."""
    tree = directory / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in ("cni", "controller", "overlayd", "packaging"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = ["wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(directory), str(tree)]
    subprocess.run([*PIP, *build], check=True)
    (wheel,) = directory.glob("*.whl")
    return wheel


def install_wheel(wheel: Path, environment: Path) -> Path:
    """Make an environment with this wheel, and the dependencies of the one that runs the tests; return its programs."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    programs = environment / "bin"
    subprocess.run(
        [*PIP, "--python", str(programs / "python"), "install", "--no-deps", "--no-index", str(wheel)], check=True
    )
    (packages,) = environment.glob("lib/python3.*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return programs
