"""An agent that knows less than it did takes nothing away that containers use."""

import json
import signal
from ipaddress import ip_address
from pathlib import Path

import pytest

from overlayd.agent.controllers import cluster_form
from overlayd.model.cluster import Cluster
from overlayd.model.ids import Revision
from overlayd.wire.feed import FEED_VERSION
from tests.support.lab.lab import Container, Lab, LabHost
from tests.support.lab.processes import eventually
from tests.support.packets.ping_stream import Pinging

OUTSIDE = ip_address("10.99.0.1")
PORTS = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]


def pair(lab: Lab) -> tuple[Container, Container]:
    lab.overlayctl("network", "create", "blue", "--range", "10.40.0.0/16")
    source, destination = (
        host.attach(f"blue-{host.name}", "blue", runtimeConfig={"portMappings": PORTS}) for host in lab.hosts
    )
    lab.in_force(source, destination)
    return source, destination


def asked(host: LabHost, command: str) -> dict[str, object]:
    answer = host.control(command)
    assert answer is not None
    return answer


@pytest.mark.parametrize(
    "cache", [None, b"", b"overlayd cluster 3 0\n{}", cluster_form.encode(Cluster().changed(Revision(1)), FEED_VERSION)]
)
def test_a_start_without_a_controller_and_without_a_usable_cache_changes_nothing(
    own_lab: Lab, tmp_path: Path, cache: bytes | None
) -> None:
    source, destination = pair(own_lab)
    own_lab.stop_controller(signal.SIGKILL)
    with Pinging(source, destination.address, tmp_path / "ping") as pinging:
        for host in own_lab.hosts:
            host.stop_agent(signal.SIGKILL)
            cached = host.directory / "written/var/lib/overlayd/cluster.cache"
            cached.unlink(missing_ok=True)
            if cache is not None:
                cached.write_bytes(cache)
            host.start_agent(wait=False)
            assert asked(host, "plan") == {"operations": []}
        pinging.more(50)
    assert pinging.lost == set()


def test_a_controller_that_lost_its_store_takes_nothing_away(own_lab: Lab, tmp_path: Path) -> None:
    source, destination = pair(own_lab)
    with Pinging(source, destination.address, tmp_path / "ping") as pinging:
        own_lab.stop_controller(signal.SIGKILL)
        for file in own_lab.directory.glob("store.db*"):
            file.unlink()
        own_lab.start_controller()
        for host in own_lab.hosts:
            eventually(lambda: "network blue" in str(asked(host, "status")["problems"]), "it is reported")  # noqa: B023
        pinging.more(50)
        assert source.ping(OUTSIDE) is not None, "the way out stays too"
        assert "dport 8080" in source.host.run("nft", "list", "table", "inet", "overlayd"), "so do published ports"
        assert source.host.detach(source).status == 0, "the container is no prisoner of it"
    assert pinging.lost == set()
    eventually(lambda: "ov-blue" not in source.host.run("ip", "netns"), "what nothing uses goes")


def test_a_container_of_a_network_that_was_lost_holds_no_other_one_back(own_lab: Lab) -> None:
    pair(own_lab)
    own_lab.stop_controller(signal.SIGKILL)
    for file in own_lab.directory.glob("store.db*"):
        file.unlink()
    own_lab.start_controller()
    own_lab.overlayctl("network", "create", "red", "--range", "10.41.0.0/16", "--vni", "77")
    eventually(
        lambda: len(json.loads(own_lab.overlayctl("host", "list", "--json"))) == len(own_lab.hosts),
        "hosts register again",
    )
    late = [host.attach(f"red-{host.name}", "red") for host in own_lab.hosts]
    eventually(lambda: own_lab.published("red") == {each.name for each in late}, "what is attached since is published")

    def listed() -> str:
        return own_lab.overlayctl("host", "list", "--json")

    eventually(
        lambda: listed().count("refuse it: there is no network 'blue'") == len(late), "what is refused is listed"
    )
    own_lab.overlayctl("network", "create", "blue", "--range", "10.40.0.0/16")
    eventually(lambda: "there is no network" not in listed(), "the network is known again")


def test_a_container_whose_sandbox_is_gone_holds_nobody_up(own_lab: Lab) -> None:
    source, destination = pair(own_lab)
    source.host.remove_sandbox(source.name)
    eventually(lambda: "is gone" in str(asked(source.host, "status")["problems"]), "it is reported")
    late = source.host.attach("late", "blue")
    assert late.address != source.address, "its address is not free before its DEL"
    assert late.ping(destination.address) is not None
    assert source.host.detach(source).status == 0
    eventually(lambda: asked(source.host, "status")["problems"] == [], "the problem is over")


def test_another_namespace_at_the_same_path_gets_nothing(own_lab: Lab) -> None:
    source, _ = pair(own_lab)
    source.host.remove_sandbox(source.name)
    source.host.add_sandbox(source.name)
    eventually(lambda: "is gone" in str(asked(source.host, "status")["problems"]), "it is reported")
    assert "eth0" not in source.run("ip", "link")
