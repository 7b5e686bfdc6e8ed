"""Installing the plugin: whole files in one step, and removal that can be repeated."""

import json
import stat
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cni import install, shim
from cni.install import Conf
from overlayd.agent.program import app


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
    assert install.install_plugin(tmp_path).read_bytes() == install.interpreted_launcher()


def test_the_python_launcher_is_installed_with_its_source_and_always_the_same() -> None:
    content = install.interpreted_launcher()
    found: dict[str, object] = {"__name__": "launcher"}
    exec(content, found)  # noqa: S102 - this tree's own program, under another name than that of a program
    assert found["SOURCE"] == Path(shim.__file__).read_text()
    assert install.interpreted_launcher() == content


@pytest.mark.parametrize(
    ("damaged", "changes"),
    [
        ("the source", {b"SOURCE = r'''": b"SOURCE = r'''damaged"}),
        (
            "what another interpreter compiled",
            {b"COMPILED_FOR = ('": b"COMPILED_FOR = ('not ", b"COMPILED = b": b"COMPILED = b'' and b"},
        ),
    ],
)
def test_one_of_source_and_compiled_form_is_enough(tmp_path: Path, damaged: str, changes: dict[bytes, bytes]) -> None:
    content = install.interpreted_launcher()
    for before, after in changes.items():
        assert content.count(before) == 1, (damaged, before)
        content = content.replace(before, after)
    path = tmp_path / "overlayd"
    path.write_bytes(content)
    path.chmod(0o755)
    done = subprocess.run([path], env={"CNI_COMMAND": "VERSION"}, input=b"", capture_output=True, check=True)
    assert json.loads(done.stdout)["cniVersion"] == "1.1.0"


@pytest.mark.parametrize("first_line", [b"#!/nowhere/python3 -ISE\n", b"#!/usr/bin/false\n"])
def test_without_its_interpreter_the_source_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_line: bytes
) -> None:
    monkeypatch.setattr(install, "HERE", here := copied(tmp_path / "cni"))
    _, _, rest = (here / "shim.py").read_bytes().partition(b"\n")
    (here / "shim.py").write_bytes(first_line + rest)
    assert install.interpreted_launcher() == first_line + rest


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
    for name in ("launcher.c", "shim.py", "shim_compiler.py"):
        (directory / name).write_bytes(install.HERE.joinpath(name).read_bytes())
    return directory


@pytest.mark.parametrize("interpreted", [False, True])
def test_the_installed_launcher_runs_without_the_project(tmp_path: Path, *, interpreted: bool) -> None:
    path = install.install_plugin(tmp_path, interpreted=interpreted)
    done = subprocess.run(
        [path], env={"CNI_COMMAND": "VERSION"}, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    assert json.loads(done.stdout)["cniVersion"] == "1.1.0"


CAPABILITIES = dict.fromkeys(("aliases", "bandwidth", "dns", "ips", "mac", "portMappings"), True)


@pytest.mark.parametrize(
    ("conf", "name", "version", "plugin"),
    [
        (Conf("blue"), "blue", "1.0.0", {"capabilities": CAPABILITIES}),
        (Conf("blue", cni_version="0.4.0"), "blue", "0.4.0", {"capabilities": CAPABILITIES}),
        (Conf("blue", "k8s"), "k8s", "1.0.0", {"network": "blue", "capabilities": CAPABILITIES}),
        (
            Conf("blue", pod_annotations=True),
            "blue",
            "1.0.0",
            {"capabilities": {**CAPABILITIES, "io.kubernetes.cri.pod-annotations": True}},
        ),
    ],
)
def test_a_network_gets_a_configuration_list(
    tmp_path: Path, conf: Conf, name: str, version: str, plugin: dict[str, object]
) -> None:
    path = install.install_conf(conf, tmp_path / "net.d")
    assert path == tmp_path / "net.d" / f"10-overlayd-{name}.conflist"
    assert path.read_text().endswith("}\n")
    expected = {"cniVersion": version, "name": name, "plugins": [{"type": "overlayd", **plugin}]}
    assert json.loads(path.read_text()) == expected
    assert mode(path) == 0o644


def test_a_file_is_replaced_and_never_written_in_place(tmp_path: Path) -> None:
    path = install.install_conf(Conf("blue", cni_version="0.4.0"), tmp_path)
    with path.open() as before:
        install.install_conf(Conf("blue"), tmp_path)
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
    assert path.read_bytes() == install.interpreted_launcher()


def test_installing_twice_changes_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        install.install_plugin(tmp_path)
        install.install_conf(Conf("blue"), tmp_path)
    assert names(tmp_path) == ["10-overlayd-blue.conflist", "overlayd"]


def test_a_file_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "10-overlayd-blue.conflist").mkdir()
    with pytest.raises(IsADirectoryError):
        install.install_conf(Conf("blue"), tmp_path)
    assert names(tmp_path) == ["10-overlayd-blue.conflist"]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["install-cni", *map(str, arguments)])


@pytest.fixture
def where(tmp_path: Path) -> list[str | Path]:
    return ["--bin-dir", tmp_path / "bin", "--conf-dir", tmp_path / "net.d"]


def lists(directory: Path, *networks: str) -> list[str]:
    return [str(directory / f"net.d/10-overlayd-{name}.conflist") for name in networks]


def test_the_command_installs_and_says_what(tmp_path: Path, where: list[str | Path]) -> None:
    done = run(*where, "blue", "green")
    files = [str(tmp_path / "bin/overlayd"), *lists(tmp_path, "blue", "green")]
    assert (done.exit_code, done.stdout.split()) == (0, files)
    assert all(Path(file).exists() for file in files)
    answer = json.loads(run(*where, "blue", "--interpreted", "--json").stdout)
    assert answer == {"plugin": files[0], "native": False, "configurations": lists(tmp_path, "blue")}


def test_the_options_of_a_configuration(tmp_path: Path, where: list[str | Path]) -> None:
    assert run(*where, "blue", "--name", "k8s", "--cni-version", "1.1.0", "--pod-annotations").exit_code == 0
    conf = json.loads((tmp_path / "net.d/10-overlayd-k8s.conflist").read_text())
    assert conf == Conf("blue", "k8s", "1.1.0", pod_annotations=True).content


def test_a_removal_takes_what_it_names_and_can_be_repeated(tmp_path: Path, where: list[str | Path]) -> None:
    run(*where, "blue", "green")
    for removed in (lists(tmp_path, "blue"), []):
        done = run(*where, "--remove", "blue", "--json")
        assert (done.exit_code, json.loads(done.stdout)) == (0, {"removed": removed})
        assert names(tmp_path / "net.d") == ["10-overlayd-green.conflist"]
        assert names(tmp_path / "bin") == ["overlayd"]


def test_a_removal_of_everything_takes_ours_alone(tmp_path: Path, where: list[str | Path]) -> None:
    assert run(*where, "--remove").exit_code == 0, "nothing was ever installed"
    run(*where, "blue", "green")
    (tmp_path / "bin/bridge").touch()
    (tmp_path / "net.d/87-podman.conflist").touch()
    assert run(*where, "--remove").exit_code == 0
    assert (names(tmp_path / "bin"), names(tmp_path / "net.d")) == (["bridge"], ["87-podman.conflist"])


def test_the_command_says_why_it_cannot_install(tmp_path: Path) -> None:
    (tmp_path / "bin").write_text("in the way")
    done = run("--bin-dir", tmp_path / "bin")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("overlayd: ")
    assert str(tmp_path / "bin") in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["../up"], "must start with"),
        ([""], "must start with"),
        (["a/b"], "must start with"),
        ([".hidden"], "must start with"),
        (["blue", "--name", "a/b"], "must start with"),
        (["blue", "green", "--name", "k8s"], "--name is for one network"),
        (["blue", "--cni-version", "9.9.9"], "'9.9.9' is not one of 0.1.0,"),
        (["../up", "--remove"], "must start with"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    tmp_path: Path, where: list[str | Path], arguments: list[str], reason: str
) -> None:
    done = run(*where, *arguments)
    assert done.exit_code == 1
    assert reason in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_list_that_is_shown_as_an_example_is_what_is_installed() -> None:
    example = Path(__file__).resolve().parents[3] / "packaging/examples/10-overlayd-blue.conflist"
    assert json.loads(example.read_text()) == Conf("blue").content
