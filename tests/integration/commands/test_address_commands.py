"""The commands of `overlayctl` about addresses, at a real controller."""

import shlex
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from overlayd.model.errors import AlreadyExists, InUse, InvalidValue, NotFound
from tests.support.controllers.lone_controller import controller
from tests.support.controllers.terminal import Terminal

PAGE = Path(__file__).parents[3] / "docs/addresses.md"


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """Two hosts of one name and one of another, and network blue of which the last one has a block."""
    with controller(tmp_path_factory.mktemp("controller") / "store.db") as running:
        terminal = Terminal(running.api)
        terminal.type("network", "create", "blue", "--range", "10.32.0.0/24", "--block-length", "28")
        for number, name in ((1, "twin"), (2, "twin"), (3, "rack1-07")):
            body = {"name": name, "address": f"192.0.2.{number}", "instance": "i"}
            assert running.api.put(f"/v1/hosts/h{number}", json=body).status_code == 200
        running.api.post("/v1/networks/blue/blocks", json={"host": "h3"})
        yield terminal


def test_a_network_of_both_families(terminal: Terminal) -> None:
    ranges = ["--range", "10.33.0.0/24", "--range", "fd00:33::/48", "--block-length6", "120"]
    made = terminal.type("network", "create", "both", *ranges, "--reserve", "10.33.0.7")
    assert "10.33.0.0/24, fd00:33::/48 in blocks of /26, /120, 10.33.0.7/32 reserved" in made


def test_the_endpoints_of_a_pod_are_found(terminal: Terminal) -> None:
    (block,) = terminal.api.get("/v1/blocks", params={"host": "h3"}).json()["items"]
    first = ip_network(block["cidr"])
    shared = {"network": "blue", "interface": "eth0", "sandbox": "/run/netns/c"}
    pods = [{"namespace": "shop", "name": "web-0"}, {"namespace": "test", "name": "web-0"}]
    puts = [
        {
            **shared,
            "container_id": f"c{number}",
            "addresses": [str(first[number])],
            "mac": f"02:00:00:00:00:{number:02x}",
            "pod": pod,
            "labels": {"app": "x"},
        }
        for number, pod in enumerate(pods, 5)
    ]
    assert terminal.api.put("/v1/hosts/h3/endpoints", json={"endpoints": puts}).status_code == 200
    assert "shop/web-0" in terminal.type("endpoint", "list")
    asked = ("endpoint", "list", "--pod", "web-0", "--pod-namespace", "test", "--label", "app=x")
    found = terminal.json(*asked)
    assert isinstance(found, list)
    assert [each["container_id"] for each in found] == ["c6"]
    assert "c6" not in terminal.type("endpoint", "list", "--label", "app=y")
    terminal.api.put("/v1/hosts/h3/endpoints", json={"endpoints": []})


def test_ranges_come_and_go(terminal: Terminal) -> None:
    assert "10.32.0.0/24, 10.40.0.0/24 in blocks of /28, /26" in terminal.type(
        "network", "add-range", "blue", "10.40.0.0/24"
    )
    assert "10.40.0.0/28 reserved" in terminal.type("network", "reserve", "blue", "10.40.0.0/28")
    with pytest.raises(AlreadyExists):
        terminal.type("network", "reserve", "blue", "10.40.0.0/28")
    assert "reserved" not in terminal.type("network", "unreserve", "blue", "10.40.0.0/28")
    with pytest.raises(NotFound):
        terminal.type("network", "unreserve", "blue", "10.40.0.0/28")
    with pytest.raises(InUse, match="belongs to host h3"):
        terminal.type("network", "remove-range", "blue", "10.32.0.0/24")
    assert "10.40" not in terminal.type("network", "remove-range", "blue", "10.40.0.0/24")
    with pytest.raises(NotFound, match=r"no range 10\.40\.0\.0/24"):
        terminal.type("network", "remove-range", "blue", "10.40.0.0/24")
    with pytest.raises(InvalidValue, match="did you mean"):
        terminal.type("network", "add-range", "blue", "10.40.0.1/24")


def test_a_reservation_from_its_making_to_its_end(terminal: Terminal) -> None:
    made = terminal.type("reservation", "create", "blue", "web", "--address", "10.32.0.20")
    assert made == "reservation web of network blue has 10.32.0.20\n"
    assert "no container holds it" in terminal.type("reservation", "show", "blue", "web")
    holder = {"host": "h3", "container_id": "c1", "interface": "eth0"}
    assert terminal.api.post("/v1/networks/blue/reservations/web/claim", json=holder).status_code == 200
    assert "eth0 of container c1 on host h3 holds it" in terminal.type("reservation", "show", "blue", "web")
    for arguments in (["blue"], []):
        listed = terminal.type("reservation", "list", *arguments)
        assert all(text in listed for text in ("web", "10.32.0.20", "rack1-07", "c1"))
    with pytest.raises(InUse, match="container c1"):
        terminal.type("reservation", "delete", "blue", "web")
    for _ in range(2):
        assert "no container holds reservation web" in terminal.type("reservation", "release", "blue", "web")
    assert terminal.type("reservation", "delete", "blue", "web") == "reservation web of network blue deleted\n"
    assert terminal.json("reservation", "list") == []
    with pytest.raises(NotFound):
        terminal.type("reservation", "show", "blue", "web")


def test_a_host_is_found_by_its_id_or_its_name(terminal: Terminal) -> None:
    assert terminal.type("host", "drain", "rack1-07") == "host rack1-07 (h3) is draining\n"
    assert "draining, not connected" in terminal.type("host", "list")
    assert terminal.type("host", "resume", "h3") == "host rack1-07 (h3) is active\n"
    with pytest.raises(InvalidValue, match="several hosts: h1, h2; give the id"):
        terminal.type("host", "drain", "twin")
    with pytest.raises(NotFound):
        terminal.type("host", "forget", "rack9")


def test_capacity_shows_every_range(terminal: Terminal) -> None:
    shown = terminal.type("capacity")
    assert all(text in shown for text in ("blue", "10.32.0.0/24", "/28", "VNIs", "host numbers", "16777215"))
    assert "10.32.0.0/24" in terminal.type("capacity", "--network", "blue")
    found = terminal.json("capacity")
    assert isinstance(found, dict)
    assert found["alarms"] == []
    terminal.type("network", "create", "tiny", "--range", "10.34.0.0/29", "--range", "fd00:34::/48")
    terminal.api.post("/v1/networks/tiny/blocks", json={"host": "h3"})
    shown = terminal.type("capacity")
    assert "critical: 1 of 1 IPv4 blocks of network tiny: overlayctl network add-range tiny CIDR" in shown
    assert "2^64" in shown


def test_a_host_that_is_gone_is_forgotten(terminal: Terminal) -> None:
    said = terminal.type("host", "forget", "h2")
    assert said == "host twin (h2) is forgotten; its blocks are free after their quarantine\n"
    hosts = terminal.json("host", "list")
    assert isinstance(hosts, list)
    assert [host["id"] for host in hosts] == ["h1", "h3"]


def test_the_commands_of_the_documentation_work_as_they_are_printed(tmp_path: Path) -> None:
    blocks = PAGE.read_text().split("```")[1::2]
    commands = [line for block in blocks for line in block.splitlines() if line.startswith("overlayctl ")]
    assert len(commands) > 10
    with controller(tmp_path / "store.db") as running:
        for number in (7, 8):
            body = {"name": f"rack1-0{number}", "address": f"192.0.2.{number}", "instance": "i"}
            assert running.api.put(f"/v1/hosts/h{number}", json=body).status_code == 200
        for command in commands:
            Terminal(running.api).type(*shlex.split(command, comments=True)[1:])
