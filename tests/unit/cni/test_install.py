"""Installing the plugin: whole files in one step, and removal that can be repeated."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cni import install, shim


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


ELF = b"\x7fELF"
PYTHON = b"#!/usr/bin/python3"


@pytest.mark.parametrize(("interpreted", "start"), [(False, ELF), (True, PYTHON)])
def test_the_launcher_is_installed_executable_under_the_plugins_name(
    tmp_path: Path, start: bytes, *, interpreted: bool
) -> None:
    path = install.install_plugin(tmp_path / "opt" / "bin", interpreted=interpreted)
    assert path == tmp_path / "opt" / "bin" / "overlayd"
    assert path.read_bytes().startswith(start)
    assert mode(path) == 0o755


def test_without_a_compiler_the_python_launcher_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "HERE", copied(tmp_path / "cni"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install.install_plugin(tmp_path).read_bytes() == Path(shim.__file__).read_bytes()


def test_a_launcher_that_was_shipped_is_installed_if_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = copied(tmp_path / "cni")
    monkeypatch.setattr(install, "HERE", here)
    (here / "launcher").write_bytes(b"#!/bin/sh\nexit 0\n")
    (here / "launcher").chmod(0o755)
    assert install.install_plugin(tmp_path).read_bytes() == b"#!/bin/sh\nexit 0\n"
    (here / "launcher").write_bytes(ELF + b" of another machine")
    assert install.install_plugin(tmp_path).read_bytes().startswith(PYTHON)


def copied(directory: Path) -> Path:
    """Return a copy of the plugin's source, without what was compiled of it."""
    directory.mkdir()
    for name in ("launcher.c", "shim.py"):
        (directory / name).write_bytes(install.HERE.joinpath(name).read_bytes())
    return directory


@pytest.mark.parametrize("interpreted", [False, True])
def test_the_installed_launcher_runs_without_the_project(tmp_path: Path, *, interpreted: bool) -> None:
    path = install.install_plugin(tmp_path, interpreted=interpreted)
    done = subprocess.run(
        [path], env={"CNI_COMMAND": "VERSION"}, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    assert json.loads(done.stdout)["cniVersion"] == "1.1.0"


@pytest.mark.parametrize(("arguments", "version"), [((), "1.0.0"), (("0.4.0",), "0.4.0")])
def test_a_network_gets_a_configuration_list(tmp_path: Path, arguments: tuple[str, ...], version: str) -> None:
    path = install.install_network("blue", tmp_path / "net.d", *arguments)
    assert path == tmp_path / "net.d" / "10-overlayd-blue.conflist"
    assert path.read_text().endswith("}\n")
    assert json.loads(path.read_text()) == {
        "cniVersion": version,
        "name": "blue",
        "plugins": [
            {"type": "overlayd", "capabilities": dict.fromkeys(("bandwidth", "ips", "mac", "portMappings"), True)}
        ],
    }
    assert mode(path) == 0o644


def test_a_file_is_replaced_and_never_written_in_place(tmp_path: Path) -> None:
    path = install.install_network("blue", tmp_path, "0.4.0")
    with path.open() as before:
        install.install_network("blue", tmp_path)
        assert json.load(before)["cniVersion"] == "0.4.0"
    assert json.loads(path.read_text())["cniVersion"] == "1.0.0"
    assert names(tmp_path) == [path.name]


def test_a_launcher_that_is_being_executed_can_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "overlayd"
    path.write_bytes(Path("/bin/sleep").read_bytes())
    path.chmod(0o755)
    with subprocess.Popen([path, "60"]) as running:
        try:
            install.install_plugin(tmp_path, interpreted=True)
        finally:
            running.kill()
    assert path.read_bytes() == Path(shim.__file__).read_bytes()


def test_installing_twice_changes_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        install.install_plugin(tmp_path)
        install.install_network("blue", tmp_path)
    assert names(tmp_path) == ["10-overlayd-blue.conflist", "overlayd"]


def test_a_removal_takes_what_it_names_and_can_be_repeated(tmp_path: Path) -> None:
    install.install_plugin(tmp_path)
    for network in ("blue", "green"):
        install.install_network(network, tmp_path)
    for _ in range(2):
        install.remove("blue", tmp_path, tmp_path)
        assert names(tmp_path) == ["10-overlayd-green.conflist", "overlayd"]
    for _ in range(2):
        install.remove(None, tmp_path, tmp_path)
        assert names(tmp_path) == ["10-overlayd-green.conflist"]


def test_a_removal_where_nothing_was_ever_installed_succeeds(tmp_path: Path) -> None:
    install.remove("blue", tmp_path / "bin", tmp_path / "net.d")
    install.remove(None, tmp_path / "bin", tmp_path / "net.d")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cni.install", *arguments],
        cwd=Path(install.__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_installs_and_removes(tmp_path: Path) -> None:
    where = ("--bin-dir", tmp_path / "bin", "--conf-dir", tmp_path / "net.d")
    done = run(*where, "blue", "green")
    files = [
        tmp_path / "bin/overlayd",
        *(tmp_path / f"net.d/10-overlayd-{name}.conflist" for name in ("blue", "green")),
    ]
    assert (done.returncode, done.stdout.split()) == (0, [str(path) for path in files])
    assert all(path.exists() for path in files)
    for _ in range(2):
        assert run("--remove", *where, "blue", "green").returncode == 0
        assert not any(path.exists() for path in files)


def test_the_command_says_why_it_cannot_install(tmp_path: Path) -> None:
    (tmp_path / "bin").write_text("in the way")
    done = run("--bin-dir", tmp_path / "bin")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("cannot install: ")
    assert str(tmp_path / "bin") in done.stderr


@pytest.mark.parametrize("name", ["../up", "", "a/b", ".hidden"])
def test_a_network_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="must start with"):
        install.install_network(name, tmp_path / "net.d")
    assert list(tmp_path.iterdir()) == []
