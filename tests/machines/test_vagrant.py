"""The Vagrant machines: what the Vagrantfile defines, and its scripts, run on machines that are booted already."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from tests.support.lab.lab import ROOT
from tests.support.machines.machines import Machine

VAGRANT = ROOT / "vagrant"
VAGRANTFILE = VAGRANT / "Vagrantfile"
STAND_IN = ROOT / "tests/support/machines/vagrant.py"

Script = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def defined(package: Path) -> dict[str, Any]:
    """Return what the Vagrantfile defines, once there is a package."""
    assert package.exists()
    reader = Path(__file__).with_name("vagrant_dsl.rb")
    done = subprocess.run(["ruby", reader, VAGRANTFILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def vagrant(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run Debian's Vagrant, which writes below `home` only."""
    environment = {**os.environ, "HOME": str(home), "VAGRANT_HOME": str(home / "vagrant.d")}
    environment |= {"VAGRANT_CWD": str(VAGRANT), "VAGRANT_DOTFILE_PATH": str(home / "dot")}
    environment |= {"VAGRANT_CHECKPOINT_DISABLE": "1"}
    return subprocess.run(["vagrant", *words], capture_output=True, text=True, check=False, env=environment)


def is_in_this_release(package: str) -> bool:
    """Tell whether the machine's release of Debian has a package."""
    policy = subprocess.run(["apt-cache", "policy", package], capture_output=True, text=True, check=True).stdout
    return "Candidate: " in policy and "Candidate: (none)" not in policy


@pytest.mark.skipif(not is_in_this_release("vagrant"), reason="this release of Debian has no vagrant")
def test_vagrant_validates_the_vagrantfile(defined: dict[str, Any], tmp_path: Path) -> None:
    assert len(defined["machines"]) == 3
    done = vagrant("validate", "--ignore-provider", home=tmp_path)  # neither libvirt nor VirtualBox are here
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Vagrantfile validated successfully" in done.stdout


def test_there_are_three_debian_12_machines_named_as_the_scripts_expect(defined: dict[str, Any]) -> None:
    assert defined["box"] == "debian/bookworm64"
    assert [machine["hostname"] for machine in defined["machines"].values()] == list(defined["machines"])
    for script in ("smoke.sh", "up.sh"):
        named = re.search(r"^hosts=\((.*)\)$", (VAGRANT / script).read_text(), re.MULTILINE)
        assert named
        assert named[1].split() == list(defined["machines"])


def test_each_machine_has_an_address_of_its_own_where_virtualbox_allows_it(defined: dict[str, Any]) -> None:
    found = [address(machine) for machine in defined["machines"].values()]
    assert len(set(found)) == 3
    # VirtualBox allows host-only networks in this range only, unless it is configured.
    assert all(each in IPv4Network("192.168.56.0/21") for each in found)
    assert len({IPv4Network((int(each), 24), strict=False) for each in found}) == 1
    assert f"controller={found[0]}\n" in (VAGRANT / "up.sh").read_text()


def address(machine: dict[str, Any]) -> IPv4Address:
    """Return a machine's address; it must have exactly one, on a private network."""
    (network,) = machine["networks"]
    assert network["kind"] == "private_network"
    return IPv4Address(network["ip"])


def test_both_providers_are_given_the_same(defined: dict[str, Any]) -> None:
    assert set(defined["providers"]) == {"libvirt", "virtualbox"}
    assert defined["providers"]["libvirt"] == defined["providers"]["virtualbox"]


@pytest.fixture
def script(machines: list[Machine], defined: dict[str, Any], tmp_path: Path) -> Script:
    """Run a script of vagrant/; its `vagrant` is the stand-in."""
    known = {
        name: {
            "enter": machine.inside([]),
            "address": str(address(definition)),
            "provisions": definition["provisions"],
        }
        for machine, (name, definition) in zip(machines, defined["machines"].items(), strict=True)
    }
    definition = tmp_path / "defined.json"
    definition.write_text(json.dumps(known))
    stand_in = tmp_path / "bin/vagrant"
    stand_in.parent.mkdir()
    stand_in.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, str(STAND_IN), str(definition)])} "$@"\n')
    stand_in.chmod(0o755)
    environment = {**os.environ, "PATH": f"{stand_in.parent}:{os.environ['PATH']}"}

    def run(name: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [VAGRANT / name, *words], capture_output=True, text=True, check=False, env=environment, cwd="/"
        )

    return run


def test_the_scripts_make_a_cluster_of_three_machines_and_try_it(machines: list[Machine], script: Script) -> None:
    done = script("up.sh")
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(machine.name in done.stdout for machine in machines)

    tried = script("smoke.sh")
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert tried.stdout.count(" 0% packet loss") == 6
    assert nothing_is_left(machines)


@pytest.mark.thorough
def test_the_machines_are_brought_up_to_date_by_the_same_script(machines: list[Machine], script: Script) -> None:
    for _ in range(2):
        done = script("up.sh")
        assert done.returncode == 0, done.stdout + done.stderr
    hosts = json.loads(machines[0].run("overlayctl", "host", "list", "--json"))
    assert [host["name"] for host in hosts] == [machine.name for machine in machines]


@pytest.mark.thorough
def test_the_smoke_test_fails_when_a_machine_does_and_still_cleans_up(machines: list[Machine], script: Script) -> None:
    done = script("up.sh")
    assert done.returncode == 0, done.stdout + done.stderr
    machines[2].run("systemctl", "stop", "overlayd")
    failed = script("smoke.sh")
    assert failed.returncode != 0
    assert "the overlayd agent is not running" in failed.stderr
    assert "every ping was answered" not in failed.stdout
    assert nothing_is_left(machines)


def nothing_is_left(machines: list[Machine]) -> bool:
    """Tell whether the smoke test removed what it made."""
    networks = json.loads(machines[0].run("overlayctl", "network", "list", "--json"))
    return networks == [] and not any("sandbox" in machine.run("ip", "netns", "list") for machine in machines)
