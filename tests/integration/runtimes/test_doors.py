"""All ways in at once: containers of CNI, Docker, netavark and plain namespaces share one network of two hosts."""

import json
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.conftest import SELDOM
from tests.support.lab.lab import COMMANDS, ROOT, CommandFailed, Container, Lab, LabHost
from tests.support.lab.processes import eventually
from tests.support.machines.rootfs import CONTAINERD_2, DOCKER, PODMAN, Rootfs
from tests.support.packets.conversation import Server, ask
from tests.support.pages.guide import blocks
from tests.support.runtimes.containerd import Containerd
from tests.support.runtimes.docker import Docker
from tests.support.runtimes.doors import INSIDE, ContainerdDoor, DockerDoor, Door, NamespaceDoor, PluginDoor, PodmanDoor
from tests.support.runtimes.images import archive, root_filesystem
from tests.support.runtimes.podman import PLUGINS, Podman

pytestmark = pytest.mark.timeout(600)  # the first test waits for a root of its release, and for the mirror

SHARED = "blue"
"""The network of all tests: `ctr` can be in no other one than that of the first list."""

PORTS = {"in-docker": 8081, "in-podman": 8081, "plugin-here": 8082, "plugin-there": 8082, "unit-here": 8083}

RUN = Path("/run/overlayd")


@dataclass(frozen=True, slots=True)
class Generation:
    """Runtimes of one time; containerd is this machine's where none is named."""

    docker: Rootfs
    podman: Rootfs
    containerd: Rootfs | None


GENERATIONS = {
    "debian-13": Generation(DOCKER[26], PODMAN["5.4"], None),
    "testing": Generation(DOCKER[28], PODMAN["5.8"], CONTAINERD_2),
}


@dataclass(frozen=True, slots=True)
class House:
    """Two hosts, and every runtime on one or both of them."""

    lab: Lab
    docker: Docker
    podman: Podman
    containerd: Containerd
    doors: Mapping[str, Door]
    """By the name of the container that each one starts."""

    def start(self, ports: Mapping[str, int] | None = None) -> dict[str, Container]:
        """Start a container by each door, with these ports of the host; return them when they are in force."""
        started = {name: door.start(name, SHARED, (ports or {}).get(name, 0)) for name, door in self.doors.items()}
        self.until_in_force(started.values())
        return started

    def until_in_force(self, containers: Iterable[Container]) -> None:
        """Wait until the controllers know these containers and no others, and both hosts have them in force.

        They are known by their addresses: Docker tells no name of its containers.
        """
        wanted = {str(address) for container in containers for address in container.addresses}
        eventually(lambda: self.published() == wanted, f"{wanted} are published")
        self.lab.overlayctl("wait", "--network", SHARED)

    def published(self, *options: str) -> set[str]:
        """Return the addresses of the network's endpoints that the controllers know."""
        listed = json.loads(self.lab.overlayctl("endpoint", "list", "--network", SHARED, *options, "--json"))
        return {address for endpoint in listed for address in endpoint["addresses"]}

    def end(self) -> None:
        """Remove what all of them started."""
        for name, door in self.doors.items():
            door.end(name, SHARED)
        eventually(lambda: not self.published(), "no endpoint is left")


@pytest.fixture(scope="module", params=["debian-13", pytest.param("testing", marks=pytest.mark.thorough)])
def house(request: pytest.FixtureRequest, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    generation = GENERATIONS[request.param]
    directory = tmp_path_factory.mktemp("image")
    root = root_filesystem(directory / "root")
    image = archive(root, directory / "image.tar")
    first, second = lab.hosts
    for host in lab.hosts:
        host.install(SHARED)
        host.run(str(COMMANDS / "overlayd"), "install-netavark", "--plugin-dir", PLUGINS)
    with ExitStack() as running:
        docker = running.enter_context(Docker(first, generation.docker, root, ["--live-restore"]))
        podman = running.enter_context(Podman(second, root, generation.podman))
        containerd = running.enter_context(Containerd(second, image, generation.containerd))
        doors: dict[str, Door] = {
            "in-docker": DockerDoor(docker),
            "in-podman": PodmanDoor(podman),
            "in-containerd": ContainerdDoor(containerd),
            "plugin-here": PluginDoor(first),
            "plugin-there": PluginDoor(second),
            "unit-here": NamespaceDoor(first),
            "unit-there": NamespaceDoor(second),
        }
        lab.overlayctl("network", "create", SHARED, "--range", "10.32.0.0/16", "--range", "fd00:32::/48")
        ours = ["--ipam-driver", "overlayd", "--ipam-opt", f"overlayd.network={SHARED}", "--ipv6"]
        docker.docker("network", "create", "--driver", "overlayd", *ours, SHARED)
        podman.podman("network", "create", "--driver", "overlayd", SHARED)
        yield House(lab, docker, podman, containerd, doors)


@pytest.fixture
def doors(house: House) -> Iterator[House]:
    """The house; what a test starts ends with it."""
    yield house
    house.end()


def reach_each_other(containers: Iterable[Container]) -> None:
    """Each one reaches those of the other host, at every address."""
    every = list(containers)
    for one in every:
        for other in every:
            for address in other.addresses if one.host is not other.host else ():
                assert one.ping(address) is not None, f"{one.name} reaches {other.name} at {address}"


def are_published(house: House, containers: Mapping[str, Container], ports: Mapping[str, int]) -> None:
    """The ports of the hosts lead to the containers, for who is no host of ours."""
    for name, port in ports.items():
        container = containers[name]
        with Server(container.enter, str(container.address), INSIDE):
            assert ask(house.lab.enter_underlay, str(container.host.address), port) is not None, name


def test_containers_of_all_runtimes_reach_each_other_and_are_reached_from_outside(doors: House) -> None:
    started = doors.start(PORTS)
    reach_each_other(started.values())
    are_published(doors, started, PORTS)
    for runtime in {door.name for door in doors.doors.values()}:
        by_it = [started[name] for name, door in doors.doors.items() if door.name == runtime]
        assert doors.published("--runtime", runtime) == {str(each) for one in by_it for each in one.addresses}
    unit, there = started["unit-here"], started["in-podman"]
    (shown,) = blocks("systemd-nspawn", (ROOT / "docs/systemd.md").read_text())
    inside, _, _ = shown.replace("/run/netns/shop", unit.sandbox).partition(" ip ")
    assert "1 received" in unit.host.run("bash", "-euc", f"{inside} ping -nc1 -W2 {there.address}")


@pytest.mark.thorough
def test_a_port_that_one_runtime_publishes_is_refused_to_the_others(doors: House) -> None:
    started = doors.start(PORTS)
    for name in ("plugin-here", "unit-here", "plugin-there", "unit-there"):
        with pytest.raises(CommandFailed, match="port 8081 is published by"):
            doors.doors[name].start(f"{name}-too", SHARED, 8081)
        doors.doors[name].end(f"{name}-too", SHARED)
    for name in ("in-docker", "in-podman"):
        with pytest.raises(CommandFailed, match="port 8082 is published by"):
            doors.doors[name].start(f"{name}-too", SHARED, 8082)
        doors.doors[name].end(f"{name}-too", SHARED)
    doors.until_in_force(started.values())


def stop_agents(house: House, number: signal.Signals) -> None:
    for host in house.lab.hosts:
        host.stop_agent(number)


def start_agents(house: House, _: signal.Signals) -> None:
    for host in house.lab.hosts:
        host.start_agent(*SELDOM)


def stop_runtimes(house: House, number: signal.Signals) -> None:
    house.docker.stop(number)
    house.containerd.stop(number)


def start_runtimes(house: House, _: signal.Signals) -> None:
    house.docker.start()
    house.containerd.start()


Step = Callable[[House, signal.Signals], None]


@pytest.mark.parametrize(
    ("number", "steps"),
    [
        pytest.param(signal.SIGKILL, (stop_agents, start_agents, stop_runtimes, start_runtimes), id="agents first"),
        pytest.param(
            signal.SIGTERM,
            (stop_runtimes, start_runtimes, stop_agents, start_agents),
            id="runtimes first",
            marks=pytest.mark.thorough,
        ),
        pytest.param(
            signal.SIGKILL,
            (stop_agents, stop_runtimes, start_agents, start_runtimes),
            id="agents are back first",
            marks=pytest.mark.thorough,
        ),
        pytest.param(
            signal.SIGTERM,
            (stop_runtimes, stop_agents, start_runtimes, start_agents),
            id="runtimes are back first",
            marks=pytest.mark.thorough,  # Docker looks for its driver for a quarter of a minute
        ),
    ],
)
def test_containers_outlive_agents_and_runtimes(doors: House, number: signal.Signals, steps: tuple[Step, ...]) -> None:
    started = doors.start(PORTS)
    for step in steps:
        step(doors, number)
    reach_each_other(started.values())
    are_published(doors, started, PORTS)
    # podman has no daemon that could be restarted: its container is.
    doors.podman.podman("restart", "--time", "0", "in-podman")
    started["in-podman"] = doors.podman.found("in-podman", SHARED)
    doors.until_in_force(started.values())
    reach_each_other(started.values())
    are_published(doors, started, PORTS)


def asked(host: LabHost) -> int:
    """Return how many connections to the agent's sockets wait until it accepts them (ss(8): Recv-Q)."""
    listening = (line.split() for line in host.run("ss", "-xlH").splitlines())
    return sum(int(waiting) for _, _, waiting, _, path, *_ in listening if "overlayd" in path)


def recorded(host: LabHost) -> int:
    """Return how many attachments the agent of a host has recorded."""
    return len(list(host.inside(RUN / "attachments").glob("*.json")))


def nothing_yet(_: LabHost) -> bool:
    return True


def one_is_attached(host: LabHost) -> bool:
    return recorded(host) > 0


@pytest.mark.parametrize("moment", [pytest.param(nothing_yet, marks=pytest.mark.thorough), one_is_attached])
def test_agents_that_are_killed_during_starts_leave_no_leak(doors: House, moment: Callable[[LabHost], bool]) -> None:
    hosts = doors.lab.hosts
    for host in hosts:
        assert host.agent
        host.agent.send(signal.SIGSTOP)
    with ThreadPoolExecutor(len(doors.doors)) as starting:
        starts = {name: starting.submit(door.start, name, SHARED) for name, door in doors.doors.items()}
        for host in hosts:
            expected = sum(door.host is host for door in doors.doors.values())
            eventually(lambda: asked(host) == expected, "all of them have asked")  # noqa: B023 - used at once
            assert host.agent
            host.agent.send(signal.SIGCONT)
            eventually(lambda: moment(host), "the moment has come")  # noqa: B023 - used at once
            host.stop_agent(signal.SIGKILL)
        for host in hosts:
            host.start_agent("--resync", "1")  # looks for what is gone every second
    running = {name: start.result() for name, start in starts.items() if start.exception() is None}
    refused = {name: start.exception() for name, start in starts.items() if start.exception() is not None}
    assert all(isinstance(error, CommandFailed) for error in refused.values()), refused
    for name in refused:
        doors.doors[name].end(name, SHARED)
    doors.until_in_force(running.values())
    reach_each_other(running.values())
    for host in hosts:
        here = {each.name for each in running.values() if each.host is host}
        assert recorded(host) == len(here)
        links = json.loads(host.run("ip", "-n", f"ov-{SHARED}", "-j", "link"))
        assert sum(link["ifname"].startswith("ve") for link in links) == len(here)
        namespaces = host.run("ip", "netns", "list").split()
        assert {name for name in namespaces if name in refused and name.startswith("unit")} == set()
        held = [json.loads(path.read_text()) for path in host.inside(RUN / "held-addresses").glob("*.json")]
        # Docker gives back no address whose answer it did not get: it is free ten minutes later.
        assert {each["address"] for each in held if "intended_for" not in each} <= doors.published(
            "--runtime", "docker"
        )
    for host in hosts:
        host.stop_agent()
        host.start_agent(*SELDOM)


def test_a_collection_by_cni_takes_nothing_of_the_others(doors: House) -> None:
    started = doors.start()
    kept = started["in-containerd"]
    for host in doors.lab.hosts:
        valid = [{"containerID": kept.name, "ifname": "eth0"}]
        conf = {"cniVersion": "1.1.0", "name": SHARED, "type": "overlayd", "cni.dev/valid-attachments": valid}
        done = host.cni("GC", conf)
        assert (done.status, done.stdout) == (0, "")
    for name in ("plugin-here", "plugin-there"):
        del started[name]
    doors.until_in_force(started.values())
    reach_each_other(started.values())


@pytest.mark.thorough
def test_a_network_is_not_deleted_while_any_of_them_is_in_it(doors: House) -> None:
    for name, door in doors.doors.items():
        doors.until_in_force([door.start(name, SHARED)])
        with pytest.raises(CommandFailed, match=f"network {SHARED} has 1 endpoints"):
            doors.lab.overlayctl("network", "delete", SHARED)
        door.end(name, SHARED)
        doors.until_in_force([])
