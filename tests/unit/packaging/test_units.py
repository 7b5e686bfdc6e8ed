"""The systemd units and the example settings: systemd accepts them, and what they name exists."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import controller.settings
import overlayd.agent.settings
from overlayd.agent.controllers import credential

PACKAGING = Path(__file__).resolve().parents[3] / "packaging"
EVERY = sorted((PACKAGING / "systemd").glob("*.service"))
UNITS = [path for path in EVERY if not path.stem.endswith("@")]
EXAMPLES = {"overlayd": PACKAGING / "examples/agent.env", "overlay-controller": PACKAGING / "examples/controller.env"}

MAKES_MOUNT_NAMESPACE = {
    "BindPaths",
    "BindReadOnlyPaths",
    "DynamicUser",
    "ExecPaths",
    "ExtensionDirectories",
    "ExtensionImages",
    "InaccessiblePaths",
    "IPCNamespacePath",
    "LogNamespace",
    "MountFlags",
    "MountImages",
    "NetworkNamespacePath",
    "NoExecPaths",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateNetwork",
    "PrivateTmp",
    "ProcSubset",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "RootDirectory",
    "RootImage",
    "TemporaryFileSystem",
}
"""systemd.exec(5): settings that give a service a mount namespace of its own."""


def settings(unit: Path) -> dict[str, list[str]]:
    """Return the values of every key of a unit."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def unit(name: str) -> dict[str, list[str]]:
    return settings(PACKAGING / "systemd" / f"{name}.service")


def executed(name: str) -> list[str]:
    (line,) = unit(name)["ExecStart"]
    return line.split()


def variables(name: str) -> set[str]:
    """Return the environment variables that the service's command reads as settings."""
    schema = {"overlayd": overlayd.agent.settings, "overlay-controller": controller.settings}[name].SCHEMA
    return {schema.variable(setting) for setting in schema.settings}


def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    place = tmp_path / "etc/systemd/system"
    place.mkdir(parents=True)
    for path in EVERY:
        shutil.copy(path, place)
        command = tmp_path / executed(path.stem)[0].lstrip("/")
        command.parent.mkdir(parents=True, exist_ok=True)
        command.write_text("#!/bin/sh\n")
        command.chmod(0o755)
    for target in ("basic", "network-online", "shutdown", "sysinit"):
        (place / f"{target}.target").write_text("[Unit]\n")
    verify = [
        "systemd-analyze",
        "verify",
        "--man=no",
        f"--root={tmp_path}",
        *(path.name.replace("@", "@web") for path in EVERY),
    ]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    # It ends with 0 also where it has ignored something that it does not understand.
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_there_is_a_unit_for_each_service() -> None:
    assert {path.stem for path in UNITS} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_service_reports_when_it_is_ready_and_always_comes_back(name: str) -> None:
    keys = unit(name)
    assert keys["Type"] == ["notify"]
    assert keys["Restart"] == ["always"]
    assert keys["StartLimitIntervalSec"] == ["0"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_service_runs_its_own_program_with_its_own_settings(name: str) -> None:
    assert executed(name) == [f"/usr/bin/{name}", "run"]
    assert unit(name)["EnvironmentFile"] == [f"-/etc/overlayd/{EXAMPLES[name].name}"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_service_that_gives_no_sign_of_life_is_started_anew(name: str) -> None:
    (seconds,) = unit(name)["WatchdogSec"]
    assert 10 <= int(seconds) <= 60


@pytest.mark.parametrize("name", ["overlayd", "overlayd-netns@"])
def test_what_mounts_namespaces_has_the_mount_namespace_of_the_host(name: str) -> None:
    assert not MAKES_MOUNT_NAMESPACE & unit(name).keys()


def test_a_namespaces_unit_makes_it_once_and_removes_it() -> None:
    keys = unit("overlayd-netns@")
    assert (keys["Type"], keys["RemainAfterExit"]) == (["oneshot"], ["yes"])
    assert executed("overlayd-netns@") == [
        "/usr/bin/overlayd",
        "netns",
        "add",
        "%i",
        "--network",
        "${NETWORK}",
        "$OPTIONS",
    ]
    assert keys["ExecStop"] == ["/usr/bin/overlayd netns delete --ignore-missing %i"]
    assert "Requires" not in keys, "a namespace keeps its network while the agent is stopped"


@pytest.mark.parametrize(("name", "exposure"), [("overlayd", 50), ("overlay-controller", 13)])
def test_systemd_knows_little_more_that_could_be_taken_away(name: str, exposure: int) -> None:
    """In tenths, of 100. With the host's mount namespace, and as root, an agent cannot do with less."""
    path = PACKAGING / "systemd" / f"{name}.service"
    analyze = ["systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={exposure}", str(path)]
    done = subprocess.run(analyze, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_controller_gets_every_file_that_may_be_a_credential() -> None:
    known = {setting.credential for setting in controller.settings.SCHEMA.settings if setting.credential}
    assert known
    assert set(unit("overlay-controller")["LoadCredential"]) == known


def test_the_agent_gets_what_lets_a_host_join_by_itself() -> None:
    assert set(unit("overlayd")["LoadCredential"]) == {credential.JOIN_TOKEN, credential.CREDENTIAL}


ANNOUNCE = """
from ipaddress import ip_address
from overlayd.kernel.packets.announce import announcement, send
addresses = map(ip_address, ("10.0.0.1", "fd00::1"))
send("/proc/self/ns/net", "lo", [announcement(address, "02:00:00:00:00:50") for address in addresses])
"""


@pytest.mark.usefixtures("root")
def test_the_agent_may_announce_addresses() -> None:
    keys = unit("overlayd")
    (kept,), (families,) = keys["CapabilityBoundingSet"], keys["RestrictAddressFamilies"]
    assert "AF_PACKET" in families.split()
    bounding = ",".join(["-all", *(f"+{name.lower().removeprefix('cap_')}" for name in kept.split())])
    alone = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    limited = ["setpriv", f"--bounding-set={bounding}", sys.executable, "-c", ANNOUNCE]
    done = subprocess.run([*alone, *limited], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_agents_records_outlive_a_restart_in_the_directories_that_it_uses() -> None:
    keys = unit("overlayd")
    assert keys["RuntimeDirectoryPreserve"] == ["yes"]
    assert (keys["RuntimeDirectory"], keys["StateDirectory"]) == (["overlayd"], ["overlayd"])


def test_the_agent_is_there_before_any_runtime() -> None:
    keys = unit("overlayd")
    (before,) = keys["Before"]
    runtimes = {"docker.service", "containerd.service", "kubelet.service", "podman.service"}
    assert runtimes <= set(before.split())
    assert keys["After"] == keys["Wants"] == ["network-online.target"]


def test_the_controller_can_write_its_store_and_nothing_else() -> None:
    keys = unit("overlay-controller")
    assert keys["CapabilityBoundingSet"] == [""]
    assert keys["ProtectSystem"] == ["strict"]
    assert keys["StateDirectory"] == ["overlay-controller"]
    assert "ReadWritePaths" not in keys


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_shows_every_setting_and_no_other(name: str) -> None:
    shown = re.findall(r"^#?([A-Z_]+)=", EXAMPLES[name].read_text(), re.MULTILINE)
    assert len(shown) == len(set(shown))
    assert set(shown) == variables(name)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_changes_nothing_by_itself(name: str) -> None:
    assert all(line.startswith("#") for line in EXAMPLES[name].read_text().splitlines() if line)
