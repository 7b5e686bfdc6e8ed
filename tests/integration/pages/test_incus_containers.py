"""Containers of Incus in namespaces with names, as docs/systemd.md attaches them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lab.lab import COMMANDS, ROOT, Container, Lab
from tests.support.pages.guide import blocks
from tests.support.runtimes.images import root_filesystem
from tests.support.runtimes.incus import IMAGE, Incus

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(600)]  # the first test waits for a root with Incus

NETWORK = "blue"


@pytest.fixture(scope="module")
def incus(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Incus]:
    lab.overlayctl("network", "create", NETWORK, "--range", "10.32.0.0/16")
    with Incus(lab.hosts[0], root_filesystem(tmp_path_factory.mktemp("image") / "root")) as made:
        assert made.incus("--version").startswith("6.0.")
        yield made


def follow(incus: Incus, block: str) -> None:
    """Run the commands of a block of the page as they are printed."""
    known = [incus.in_shell, f'overlayd() {{ {COMMANDS / "overlayd"} "$@"; }}']
    incus.host.run("bash", "-euc", "\n".join((*known, block.replace("IMAGE", IMAGE))))


def found(incus: Incus, name: str) -> Container:
    """Return what `overlayd netns` has attached by this name, as it is in the container."""
    (entry,) = json.loads(incus.incus("list", "--format", "json", name))
    ips = [each for each in entry["state"]["network"]["eth0"]["addresses"] if each["scope"] == "global"]
    return Container(incus.host, name, NETWORK, "eth0", {"ips": [{"address": each["address"]} for each in ips]})


def test_a_container_is_attached_while_it_runs_and_another_one_at_each_start(lab: Lab, incus: Incus) -> None:
    there = lab.hosts[1].attach("there", NETWORK)
    for block in blocks("Incus", (ROOT / "docs/systemd.md").read_text()):
        follow(incus, block)
    box, shed = found(incus, "box"), found(incus, "shed")
    lab.in_force(box, shed, there)
    for one in (box, shed):
        assert one.ping(there.address) is not None
        assert there.ping(one.address) is not None
    assert box.ping(shed.address) is not None
    incus.incus("restart", "--force", "shed")
    assert found(incus, "shed").addresses == shed.addresses
    inside = Path(f"/proc/{incus.incus('list', '--format', 'csv', '--columns', 'p', 'shed')}")
    assert (inside / "ns/net").stat().st_ino == incus.host.inside(Path("/run/netns/shed")).stat().st_ino
    assert (inside / "uid_map").read_text().split()[:2] == ["0", "1000000"], "it has a user namespace of its own"
    assert there.ping(shed.address) is not None
    for name in ("box", "shed"):
        incus.incus("delete", "--force", name)
        incus.host.run(str(COMMANDS / "overlayd"), "netns", "delete", name)
    incus.host.run("ip", "netns", "delete", "box")
    assert incus.host.run("ls", "/run/overlayd/attachments") == ""
