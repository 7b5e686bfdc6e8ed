"""The package for another release of Debian, installed, used, upgraded and removed in machines of that release."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.lab.lab import ROOT
from tests.support.lab.processes import eventually
from tests.support.machines.machines import Machine, remains
from tests.support.machines.nspawn import nspawn_machines
from tests.support.machines.packages import reversioned
from tests.support.machines.rootfs import BUILDERS, MACHINES, PACKAGED, release
from tests.support.pages.guide import blocks

pytestmark = pytest.mark.thorough

OTHERS = [codename for codename in PACKAGED if codename != release()]
OLD = "0.1.9"
"""The version from which the machines are upgraded."""


@dataclass(frozen=True, slots=True)
class Released:
    """Two machines of a release, and the package for it."""

    codename: str
    package: Path
    machines: list[Machine]


@pytest.fixture(params=OTHERS)
def released(request: pytest.FixtureRequest, packages: Callable[[str], Path], tmp_path: Path) -> Iterator[Released]:
    package = packages(request.param)
    with nspawn_machines(tmp_path / "machines", 2, MACHINES[request.param]) as machines:
        for machine in machines:
            machine.give(package, f"/root/{package.name}")
        yield Released(request.param, package, machines)


def test_it_is_installed_upgraded_and_removed_while_containers_keep_their_network(
    released: Released, tmp_path: Path
) -> None:
    first, second = released.machines
    number = PACKAGED[released.codename]
    assert f'VERSION_ID="{number}"' in first.run("cat", "/etc/os-release")
    assert released.package.name == f"overlayd_0.2.0+deb{number}_amd64.deb"
    install, initialise, _, show = blocks("A cluster in three commands", codename=released.codename)
    old = reversioned(released.package, OLD, tmp_path)
    for machine in released.machines:
        machine.give(old, f"/root/{old.name}")
        machine.shell(f"apt-get -qq install ./{old.name} </dev/null")
        assert machine.run("overlayd", "--version").split()[-1] == OLD
    said = first.shell(initialise)
    (line,) = [line for line in said.splitlines() if "overlayd join" in line]
    for machine in released.machines:
        assert "in sync with a controller" in machine.shell(line)
    assert all(machine.name in first.shell(show) for machine in released.machines)
    first.run("overlayctl", "network", "create", "blue", "--range", "10.32.0.0/16")
    here, there = (machine.attach("blue", "web") for machine in released.machines)
    eventually(lambda: here.ping(there.address), "the hosts know each other")

    for machine in released.machines:
        machine.shell(install)
        assert machine.run("overlayd", "--version").split()[-1] == "0.2.0"
        machine.run("overlayd", "status")
    assert here.ping(there.address)
    assert there.ping(second.attach("blue", "later").address)
    assert first.property("overlayd.service", "ActiveState") == "active"
    assert first.property("overlay-controller.service", "ActiveState") == "active"
    assert first.execute("dpkg", "--verify", "overlayd").stdout == ""

    refused = second.execute("apt-get", "-qq", "remove", "overlayd")
    assert refused.returncode
    assert "containers of this host are attached" in refused.stdout + refused.stderr
    remove, purge, _ = blocks("Remove", codename=released.codename)
    second.shell(f"OVERLAYD_CUT_OFF=1 {remove.removeprefix('sudo ')}", stdin="y\n")
    assert second.property("overlayd.service", "ActiveState") == "inactive"
    assert here.ping(there.address), "traffic goes on"
    second.shell(install)
    assert second.property("overlayd.service", "ActiveState") == "active", "it comes back"
    first.detach("blue", here)
    for machine in released.machines:
        machine.shell(f"OVERLAYD_CUT_OFF=1 {remove.removeprefix('sudo ')}", stdin="y\n")
        machine.shell(purge, stdin="y\n")
        assert remains(machine) == []


@pytest.mark.skipif(release() not in BUILDERS, reason="no package is built for this machine's release in a root")
def test_a_root_of_a_release_gives_the_same_bytes_as_a_machine_of_it(package: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PIP": f"{sys.executable} -m pip", "VERSION": ""}
    command = [ROOT / "packaging/deb/build-in.sh", BUILDERS[release()].made(), tmp_path]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    (made,) = tmp_path.iterdir()
    assert made.name == package.name
    assert made.read_bytes() == package.read_bytes()


@pytest.mark.parametrize("codename", OTHERS)
def test_it_depends_on_the_python_of_its_release(
    packages: Callable[[str], Path], codename: str, tmp_path: Path
) -> None:
    package = packages(codename)
    subprocess.run(["dpkg-deb", "--raw-extract", package, tmp_path / "unpacked"], check=True)
    minor = {"bookworm": 11, "trixie": 13}[codename]
    control = (tmp_path / "unpacked/DEBIAN/control").read_text()
    assert f"python3 (>= 3.{minor}), python3 (<< 3.{minor + 1})" in control
    assert f"Version: 0.2.0+deb{PACKAGED[codename]}" in control
    (site,) = (tmp_path / "unpacked/usr/lib/overlayd/lib").glob("python3.*/site-packages")
    assert site.parent.name == f"python3.{minor}"
    compiled = {path.name.split(".")[-2] for path in site.rglob("*.cpython-*.pyc")}
    assert compiled == {f"cpython-3{minor}"}
    extensions = [path.name for path in site.rglob("*.cpython-*.so")]
    assert extensions
    assert all(f"cpython-3{minor}-" in name for name in extensions)
