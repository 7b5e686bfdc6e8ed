"""The Vagrant machines: what the Vagrantfile defines, and the smoke test, run for real on simulated hosts."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from tests.support.lab import COMMANDS, CONTROLLER, PORT, ROOT, Lab

VAGRANT = ROOT / "vagrant"
VAGRANTFILE = VAGRANT / "Vagrantfile"
SMOKE = VAGRANT / "smoke.sh"

StandIn = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def defined() -> dict[str, Any]:
    """Return what the Vagrantfile defines."""
    reader = Path(__file__).with_name("vagrant_dsl.rb")
    done = subprocess.run(["ruby", reader, VAGRANTFILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_ruby_can_read_the_vagrantfile() -> None:
    subprocess.run(["ruby", "-wc", VAGRANTFILE], check=True, capture_output=True)


def test_there_are_three_debian_12_machines_named_as_the_smoke_test_expects(defined: dict[str, Any]) -> None:
    assert defined["box"] == "debian/bookworm64"
    assert [machine["hostname"] for machine in defined["machines"].values()] == list(defined["machines"])
    named = re.search(r"^hosts=\((.*)\)$", SMOKE.read_text(), re.MULTILINE)
    assert named
    assert named[1].split() == list(defined["machines"])
    assert len(defined["machines"]) == 3


def addresses(defined: dict[str, Any]) -> dict[str, IPv4Address]:
    """Return each machine's address; it must have exactly one, on a private network."""
    found = {}
    for name, machine in defined["machines"].items():
        (network,) = machine["networks"]
        assert network["kind"] == "private_network"
        found[name] = IPv4Address(network["ip"])
    return found


def test_each_machine_has_an_address_of_its_own_where_virtualbox_allows_it(defined: dict[str, Any]) -> None:
    found = set(addresses(defined).values())
    assert len(found) == 3
    # VirtualBox allows host-only networks in this range only, unless it is configured.
    assert all(address in IPv4Network("192.168.56.0/21") for address in found)
    assert len({IPv4Network((int(address), 24), strict=False) for address in found}) == 1


def test_every_machine_is_an_agent_of_the_one_controller(defined: dict[str, Any]) -> None:
    (folder,) = defined["folders"]
    controller = addresses(defined)["host1"]
    for name, machine in defined["machines"].items():
        (provision,) = machine["provisions"]
        roles = "controller agent" if name == "host1" else "agent"
        assert provision == {"kind": "shell", "inline": f"{folder}/vagrant/provision.sh {controller} {roles}"}


def test_both_providers_are_given_the_same(defined: dict[str, Any]) -> None:
    assert set(defined["providers"]) == {"libvirt", "virtualbox"}
    assert defined["providers"]["libvirt"] == defined["providers"]["virtualbox"]


def test_the_machines_get_the_source_where_the_smoke_test_looks_for_it(defined: dict[str, Any]) -> None:
    ((place, folder),) = defined["folders"].items()
    assert (VAGRANT / folder["from"]).resolve() == ROOT
    assert {".git/", ".venv/", "build/"} <= set(folder["exclude"])
    assert f'sandbox="sudo {place}/vagrant/sandbox.sh"' in SMOKE.read_text()


def smoke(lab: Lab, stand_in: StandIn) -> subprocess.CompletedProcess[str]:
    """Run the smoke test; `vagrant ssh` leads into the lab's hosts, where the source is in another place."""
    stand_ins = stand_in("sudo", 'exec "$@"')
    cases = "\n".join(f"{host.name}) pid={host.pid} ;;" for host in lab.hosts)
    url = f"OVERLAY_CONTROLLER_URL=http://{CONTROLLER}:{PORT}"
    stand_in(
        "vagrant",
        f"""
[ "$1 $3 $4 $#" = "ssh --no-tty -c 5" ] || exit 99
case $2 in
{cases}
esac
exec nsenter --target="$pid" --net --mount env PATH={stand_ins}:{COMMANDS}:"$PATH" HOSTNAME="$2" {url} \\
    bash -c "${{5//\\/srv\\/overlayd/{ROOT}}}"
""",
    )
    environment = {**os.environ, "PATH": f"{stand_ins}:{os.environ['PATH']}"}
    return subprocess.run([SMOKE], capture_output=True, text=True, check=False, env=environment)


@pytest.mark.usefixtures("root")
def test_the_smoke_test_passes_and_leaves_nothing(tmp_path: Path, stand_in: StandIn) -> None:
    with Lab(tmp_path / "lab", hosts=3) as lab:
        lab.start_controller()
        for host in lab.hosts:
            host.start_agent()
        done = smoke(lab, stand_in)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count(" 0% packet loss") == 6
        assert json.loads(lab.overlayctl("network", "list", "--json")) == []
        assert not any("sandbox" in host.run("ip", "netns", "list") for host in lab.hosts)


@pytest.mark.usefixtures("root")
def test_the_smoke_test_fails_when_a_machine_does_and_still_cleans_up(tmp_path: Path, stand_in: StandIn) -> None:
    with Lab(tmp_path / "lab", hosts=3) as lab:
        lab.start_controller()
        for host in lab.hosts:
            host.start_agent()
        lab.hosts[2].stop_agent()
        done = smoke(lab, stand_in)
        assert done.returncode != 0
        assert "the overlayd agent is not running" in done.stderr
        assert "every ping was answered" not in done.stdout
        assert json.loads(lab.overlayctl("network", "list", "--json")) == []
        assert not any("sandbox" in host.run("ip", "netns", "list") for host in lab.hosts)
