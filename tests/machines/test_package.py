"""What is in the Debian package."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.lab.lab import ROOT


def field(package: Path, name: str) -> str:
    return subprocess.run(
        ["dpkg-deb", "--field", package, name], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def unpacked(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the package's files."""
    directory = tmp_path_factory.mktemp("package")
    subprocess.run(["dpkg-deb", "--raw-extract", package, directory], check=True)
    return directory


def test_it_needs_the_python_that_it_was_made_with_and_no_library_of_debians(package: Path) -> None:
    wanted = {each.split()[0] for each in field(package, "Depends").split(", ")}
    assert wanted == {"debconf", "iproute2", "libc6", "nftables", "python3"}
    bounds = re.findall(r"python3 \((.*?)\)", field(package, "Depends"))
    assert [bound.split(".")[0] for bound in bounds] == [">= 3", "<< 3"]


def test_the_environment_has_what_the_lock_pins_and_nothing_that_installs(unpacked: Path) -> None:
    (packages,) = unpacked.glob("usr/lib/overlayd/lib/python3.*/site-packages")
    found = {path.name.removesuffix(".dist-info").rsplit("-", 1)[0] for path in packages.glob("*.dist-info")}
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert {canonical(name) for name in found} == {canonical(name) for name in locked} | {"overlayd"}
    assert {
        path.name for path in (unpacked / "usr/lib/overlayd/bin").iterdir() if not path.name.startswith("python")
    } == {
        "overlay-controller",
        "overlayctl",
        "overlayd",
    }


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_module_is_compiled_and_nothing_names_the_directory_of_the_build(unpacked: Path) -> None:
    (packages,) = unpacked.glob("usr/lib/overlayd/lib/python3.*/site-packages")
    for ours in ("cni", "controller", "overlayd"):
        for source in (packages / ours).rglob("*.py"):
            assert list(source.parent.glob(f"__pycache__/{source.stem}.*.pyc")), source
    shebangs = {path.read_text().splitlines()[0] for path in (unpacked / "usr/lib/overlayd/bin").glob("overlay*")}
    assert shebangs == {"#!/usr/lib/overlayd/bin/python -I"}
    temporary = Path(tempfile.gettempdir()) / "tmp[.]"  # as mktemp names them
    named = subprocess.run(["grep", "-rl", temporary, unpacked / "usr"], capture_output=True, text=True, check=False)
    assert named.stdout == ""


def test_the_plugin_is_the_native_one_in_both_places(unpacked: Path) -> None:
    for place in ("opt/cni/bin", "usr/lib/cni"):
        plugin = unpacked / place / "overlayd"
        assert plugin.read_bytes().startswith(b"\x7fELF")
        assert plugin.stat().st_mode & 0o777 == 0o755


def test_settings_are_shown_but_not_there(unpacked: Path) -> None:
    assert list((unpacked / "etc").rglob("*")) == [unpacked / "etc/overlayd"]
    assert not (unpacked / "DEBIAN/conffiles").exists()
    shown = {path.name for path in (unpacked / "usr/share/doc/overlayd/examples").iterdir()}
    assert shown == {path.name for path in (ROOT / "packaging/examples").iterdir()}


def test_there_are_pages_and_completions_for_every_command(unpacked: Path) -> None:
    share = unpacked / "usr/share"
    pages = {path.name for path in share.glob("man/man?/*")}
    assert pages == {"overlay-controller.8.gz", "overlayctl.1.gz", "overlayd.8.gz"}
    for directory in ("bash-completion/completions", "zsh/vendor-completions", "fish/vendor_completions.d"):
        assert len(list((share / directory).iterdir())) == 3


@pytest.mark.thorough
def test_the_same_source_gives_the_same_bytes_in_another_directory_and_without_what_was_kept(tmp_path: Path) -> None:
    tree = tmp_path / "elsewhere"
    for name in subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split():
        if (ROOT / name).exists():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    shutil.copy(ROOT / "cni/launcher", tree / "cni")
    environment = {**os.environ, "PIP": f"{sys.executable} -m pip", "SOURCE_DATE_EPOCH": "1700000000", "VERSION": ""}
    made: list[Path] = []
    for source in (ROOT, tree):
        output = tmp_path / f"of-{source.name}"
        subprocess.run([source / "packaging/deb/build.sh", output], env=environment, check=True, capture_output=True)
        made += output.iterdir()
    assert made[0].name == made[1].name
    assert made[0].read_bytes() == made[1].read_bytes()
