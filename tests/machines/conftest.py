"""The package that machines get, and the machines."""

import fcntl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.lab.lab import ROOT
from tests.support.machines.machines import Machine
from tests.support.machines.nspawn import nspawn_machines
from tests.support.machines.qemu import virtual_machines

_SOURCES = ("cni", "controller", "overlayd", "packaging", "pyproject.toml", "requirements.lock", "Makefile")
_MADE = ROOT / "dist"
_MAKERS: dict[str, Callable[[Path, int], AbstractContextManager[list[Machine]]]] = {
    "nspawn": nspawn_machines,
    "qemu": virtual_machines,
}


_PATIENCE = {"nspawn": 600, "qemu": 7200}
"""Seconds for one test: the first one of a file waits for the package and the machines."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give tests that boot machines more time than others have."""
    patience = pytest.mark.timeout(_PATIENCE[config.getoption("--machines")])
    for item in filter(_boots, items):
        item.add_marker(patience)


def _boots(item: pytest.Item) -> bool:
    return item.path.is_relative_to(Path(__file__).parent)


@pytest.fixture(scope="session")
def package(root: None) -> Path:  # noqa: ARG001 - the machines need root, and say so first
    """Today's package for this machine's release."""
    return _built(_MADE)


@pytest.fixture(scope="session")
def packages(root: None) -> Callable[[str], Path]:  # noqa: ARG001
    """Today's package for another release, by its code name."""
    return lambda codename: _built(_MADE / codename, f"RELEASE={codename}")


def _built(place: Path, *variables: str) -> Path:
    """Return the package in a directory; it is built unless it is newer than all that it is made of."""
    place.mkdir(parents=True, exist_ok=True)
    with (place / "package.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two files of tests want it at the same time
        if not (found := _newest(place)) or found.stat().st_mtime < _changed():
            subprocess.run(["make", "deb", *variables], cwd=ROOT, check=True, capture_output=True)
        built = _newest(place)
    assert built
    return built


def _newest(place: Path) -> Path | None:
    return max(place.glob("overlayd_*.deb"), key=lambda path: path.stat().st_mtime, default=None)


def _changed() -> float:
    """Return when something that the package is made of was changed."""
    listed = subprocess.run(["git", "ls-files", *_SOURCES], cwd=ROOT, capture_output=True, text=True, check=True)
    return max((ROOT / name).stat().st_mtime for name in listed.stdout.split() if (ROOT / name).exists())


@pytest.fixture(scope="module")
def machines(
    request: pytest.FixtureRequest, package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Machine]]:
    """Three machines that have been booted, with the package where a person would have put it."""
    maker = _MAKERS[request.config.getoption("--machines")]
    with maker(tmp_path_factory.mktemp("machines"), 3) as made:
        for machine in made:
            machine.give(package, f"/root/{package.name}")
        yield made
