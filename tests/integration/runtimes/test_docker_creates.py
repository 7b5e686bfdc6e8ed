"""Docker creates networks that the controllers do not have, on two hosts with credentials, where they may make two."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.support.lab.lab import CommandFailed, Lab, LabHost
from tests.support.lab.processes import eventually
from tests.support.machines.rootfs import DOCKER
from tests.support.runtimes.docker import Docker
from tests.support.runtimes.images import root_filesystem

CREATE = ("network", "create", "--driver", "overlayd", "--ipam-driver", "overlayd")
RELEASES = [pytest.param(release, marks=[] if release == 26 else pytest.mark.thorough) for release in sorted(DOCKER)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab"), hosts=2, secure=True) as made:
        made.start_controller("--host-networks", "2")
        for host in made.hosts:
            host.start_agent()
        yield made


@pytest.fixture(scope="module", params=RELEASES, ids=lambda release: f"docker-{release}")
def engines(
    request: pytest.FixtureRequest, lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Docker]]:
    root = root_filesystem(tmp_path_factory.mktemp("image") / "root")
    with ExitStack() as running:
        yield [running.enter_context(Docker(host, DOCKER[request.param], root)) for host in lab.hosts]


@pytest.fixture
def networks(lab: Lab, engines: list[Docker]) -> Iterator[None]:
    """Removes what a test creates, in Docker and at the controller."""
    yield
    for docker in engines:
        if running := docker.docker("ps", "--all", "--quiet").split():
            docker.docker("rm", "--force", *running)
        if left := docker.docker("network", "ls", "--quiet", "--filter", "driver=overlayd").split():
            docker.docker("network", "rm", *left)
    for network in known(lab):
        lab.delete_network(network)


pytestmark = pytest.mark.usefixtures("networks")


def known(lab: Lab) -> list[str]:
    return [network["name"] for network in json.loads(lab.overlayctl("network", "list", "--json"))]


def create(docker: Docker, name: str, *options: str) -> None:
    docker.docker(*CREATE, "--opt", f"overlayd.network={name}", *options, name)


def in_sync(host: LabHost) -> bool:
    status = host.agent_status()
    return status is not None and status["in_sync"] is True


def refusal(docker: Docker, name: str, *options: str) -> str:
    """Create a network that is refused; return what Docker prints."""
    with pytest.raises(CommandFailed) as failed:
        create(docker, name, *options)
    assert name not in docker.docker("network", "ls", "--format", "{{.Name}}").split()
    return str(failed.value)


def test_every_engine_may_create_a_network_at_once_and_none_deletes_it(lab: Lab, engines: list[Docker]) -> None:
    ranges = ("--subnet", "10.210.0.0/16", "--ipv6", "--subnet", "fd00:210::/48")
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda docker: create(docker, "shop", *ranges), engines))
    shown = json.loads(lab.overlayctl("network", "show", "shop", "--json"))
    assert [pool["range"] for pool in shown["pools"]] == ["10.210.0.0/16", "fd00:210::/48"]
    listed = json.loads(lab.overlayctl("host", "list", "--json"))
    assert shown["made_by"] in {host["id"] for host in listed}
    changes = json.loads(lab.overlayctl("history", "--network", "shop", "--kind", "network", "--json"))["items"]
    assert [change["actor"]["role"] for change in changes] == ["host"]
    here, there = (docker.run(f"c{index}", "shop") for index, docker in enumerate(engines))
    assert len(there.addresses) == 2
    for address in there.addresses:
        eventually(lambda: here.ping(address) is not None, f"{address} is reached")  # noqa: B023 - used at once
    for index, docker in enumerate(engines):
        docker.docker("rm", "--force", f"c{index}")
        docker.docker("network", "rm", "shop")
    assert known(lab) == ["shop"]
    create(engines[0], "shop")  # without a range: it exists


def test_options_say_what_is_made(lab: Lab, engines: list[Docker]) -> None:
    options = ("--opt", "overlayd.topology=switched", "--opt", "overlayd.vni=7777", "--internal")
    create(engines[0], "lan", "--subnet", "10.211.0.0/16", *options)
    shown = json.loads(lab.overlayctl("network", "show", "lan", "--json"))
    assert (shown["topology"], shown["vni"], shown["egress"]) == ("switched", 7777, False)
    for others, reason in (
        (("--subnet", "10.212.0.0/16"), "10.212.0.0/16 is no range of network lan"),
        (("--opt", "overlayd.topology=routed"), "lan is switched"),
        (("--opt", "overlayd.vni=8888"), "lan has VNI 7777"),
    ):
        assert reason in refusal(engines[1], "lan", *others)
    create(engines[1], "lan", "--subnet", "10.211.0.0/16", "--opt", "overlayd.vni=7777")


def test_what_is_not_allowed_or_wrong_makes_nothing(lab: Lab, engines: list[Docker]) -> None:
    docker = engines[0]
    assert "say its IPv4 range by --subnet" in refusal(docker, "one")
    assert "leave out --gateway" in refusal(docker, "one", "--subnet", "10.213.0.0/16", "--gateway", "10.213.0.9")
    assert "not 'flat'" in refusal(docker, "one", "--subnet", "10.213.0.0/16", "--opt", "overlayd.topology=flat")
    assert "which containers cannot use" in refusal(docker, "one", "--subnet", "127.1.0.0/16")
    by_ipam = ("--ipam-opt", "overlayd.network=one", "--subnet", "10.213.0.0/16")
    assert "there is no network" in refusal(docker, "one", *by_ipam)
    assert known(lab) == []
    for number, name in enumerate(("one", "two")):
        create(docker, name, "--subnet", f"10.{214 + number}.0.0/16")
    said = refusal(docker, "three", "--subnet", "10.216.0.0/16")
    assert "has made 2 networks, and may make 2 (the controllers' setting host-networks)" in said
    assert known(lab) == ["one", "two"]
    create(engines[1], "three", "--subnet", "10.216.0.0/16")


def test_unless_the_administrator_lets_it_an_engine_makes_none(lab: Lab, engines: list[Docker]) -> None:
    lab.stop_controller()
    lab.start_controller()
    eventually(lambda: all(in_sync(host) for host in lab.hosts), "the agents follow the controller")
    said = refusal(engines[0], "shop", "--subnet", "10.210.0.0/16")
    assert "hosts may not make networks" in said
    assert "overlayctl network create" in said
    assert known(lab) == []
    lab.overlayctl("network", "create", "shop", "--range", "10.210.0.0/16")
    create(engines[0], "shop", "--subnet", "10.210.0.0/16")
    lab.stop_controller()
    lab.start_controller("--host-networks", "2")
