"""podman 5 with netavark's plugin, on two hosts: what each of its commands does to a network of ours.

5.4 comes with netavark 1.14, 5.8 with 1.17.
"""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.support.lab.lab import COMMANDS, ROOT, CommandFailed, Container, Lab
from tests.support.lab.processes import eventually
from tests.support.machines.rootfs import PODMAN
from tests.support.packets.conversation import Server, ask
from tests.support.runtimes.images import PAUSE, root_filesystem
from tests.support.runtimes.podman import PLUGINS, Podman

pytestmark = pytest.mark.timeout(600)  # the first test waits for a root of its release, and for the mirror

PAGE = (ROOT / "docs/podman.md").read_text()
QUEUE = "/run/overlayd/teardown-queue"
RELEASES = [pytest.param(release, marks=[] if release == "5.4" else pytest.mark.thorough) for release in PODMAN]
of_each_release = pytest.mark.parametrize("release", RELEASES)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that containers start from."""
    return root_filesystem(tmp_path_factory.mktemp("image") / "root")


@pytest.fixture(scope="module")
def networks(lab: Lab) -> None:
    """Networks of the overlay, and the plugin on both hosts."""
    lab.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16", "--range", "fd00:32::/48")
    lab.overlayctl("network", "create", "green", "--range", "10.33.0.0/16")
    lab.overlayctl("reservation", "create", "blue", "shop", "--address", "10.32.200.1")
    for host in lab.hosts:
        host.run(str(COMMANDS / "overlayd"), "install-netavark", "--plugin-dir", PLUGINS)


@pytest.fixture(scope="module", params=RELEASES, ids=lambda release: f"podman-{release}")
def podmen(
    request: pytest.FixtureRequest,
    lab: Lab,
    root: Path,
    networks: None,  # noqa: ARG001 - those of podman are made from them
) -> Iterator[tuple[Podman, Podman]]:
    """Podman on both hosts, with networks pods (our blue) and green."""
    with ExitStack() as running:
        here, there = (running.enter_context(Podman(host, root, PODMAN[request.param])) for host in lab.hosts)
        assert here.podman("--version").startswith(f"podman version {request.param}.")
        for podman in (here, there):
            podman.podman("network", "create", "-d", "overlayd", "-o", "network=blue", "pods")
            podman.podman("network", "create", "-d", "overlayd", "green")
        yield here, there


@pytest.fixture
def podman(podmen: tuple[Podman, Podman]) -> Iterator[Podman]:
    """The first host's podman; what a test starts ends with it."""
    yield podmen[0]
    for each in podmen:
        each.podman("rm", "--force", "--all", "--time", "0")


def endpoints(lab: Lab, network: str) -> dict[str, dict[str, object]]:
    """Return the published endpoints of podman by the name of the container."""
    found = json.loads(lab.overlayctl("endpoint", "list", "--network", network, "--runtime", "netavark", "--json"))
    return {each["workload"]: each for each in found}


def resolves(container: Container) -> str:
    return container.run("cat", "/etc/resolv.conf")


def test_containers_of_two_hosts_reach_each_other_and_are_known_by_name(
    lab: Lab, podmen: tuple[Podman, Podman], podman: Podman
) -> None:
    web = podman.run("web", "pods", "--network-alias", "www")
    db = podmen[1].run("db", "pods")
    beside = lab.hosts[1].attach("beside", "blue")
    lab.in_force(beside)
    eventually(lambda: endpoints(lab, "blue").keys() == {"web", "db"}, "both are published")
    assert web.ping(db.address) is not None
    assert web.ping(beside.address) is not None, "a container of CNI on the same network"
    assert web.ping(db.addresses[1]) is not None, "IPv6"
    found = endpoints(lab, "blue")["web"]
    assert found["container_id"] == web.name
    assert "www" in found["aliases"]  # type: ignore[operator]
    lab.hosts[1].detach(beside)


def test_podman_gives_out_no_address_of_its_own(podmen: tuple[Podman, Podman], podman: Podman) -> None:
    shown = json.loads(podman.podman("network", "inspect", "pods"))[0]
    assert shown["ipam_options"] == {"driver": "overlayd"}
    both = [each.run(f"one-{each.host.name}", "pods") for each in podmen]
    assert len({each.address for each in both}) == 2


def test_an_address_a_mac_an_interface_and_ports_are_what_was_asked_for(lab: Lab, podman: Podman) -> None:
    wishes = [
        "--ip",
        "10.32.0.9",
        "--mac-address",
        "02:00:00:00:00:09",
        "--publish",
        "8080:80",
        "--publish",
        "127.0.0.1:9000-9001:9000-9001/udp",
    ]
    container = podman.run("named", "pods:interface_name=web0", *wishes, interface="web0")
    assert container.address == ip_address("10.32.0.9")
    assert container.result["interfaces"] == [{"name": "web0", "mac": "02:00:00:00:00:09"}]
    with Server(container.enter, "10.32.0.9", 80):
        assert ask(lab.enter_underlay, str(podman.host.address), 8080) is not None
    with Server(container.enter, "10.32.0.9", 9001, "udp"):
        assert ask(podman.host.enter, "127.0.0.1", 9001, "udp") is not None

    moved = podman.run("shop", "pods:reservation=shop")
    assert moved.address == ip_address("10.32.200.1")
    podman.podman("rm", "--force", "--time", "0", "named")
    again = podman.run("again", "pods", "--publish", "8080:80")
    with Server(again.enter, str(again.address), 80):
        assert ask(lab.enter_underlay, str(podman.host.address), 8080) is not None


def test_networks_come_go_and_are_reloaded_while_a_container_runs(lab: Lab, podman: Podman) -> None:
    container = podman.run("several", "pods", "--publish", "8090:80")
    podman.podman("network", "connect", "green", "several")
    second = podman.found("several", "green", "eth1")
    beside = lab.hosts[1].attach("beside", "green")
    lab.in_force(beside)
    assert second.ping(beside.address) is not None
    with Server(container.enter, "0.0.0.0", 80):
        assert ask(lab.enter_underlay, str(podman.host.address), 8090) is not None
        podman.podman("network", "reload", "several")
        assert podman.found("several", "pods").address == container.address
        assert ask(lab.enter_underlay, str(podman.host.address), 8090) is not None
        podman.podman("network", "disconnect", "pods", "several")
        assert ask(lab.enter_underlay, str(podman.host.address), 8090) is not None, "by the network that is left"
    assert "eth0" not in container.run("ip", "-o", "link")
    assert second.ping(beside.address) is not None
    lab.hosts[1].detach(beside)


def test_a_restart_of_the_container_or_of_the_agent_keeps_everything(lab: Lab, podman: Podman) -> None:
    container = podman.run("lasting", "pods")
    beside = lab.hosts[1].attach("beside", "blue")
    lab.in_force(beside)
    podman.host.stop_agent()
    podman.host.start_agent()
    assert container.ping(beside.address) is not None
    podman.podman("restart", "--time", "0", "lasting")
    assert podman.found("lasting", "pods").ping(beside.address) is not None
    eventually(lambda: endpoints(lab, "blue").keys() == {"lasting"}, "one endpoint, with its latest address")
    lab.hosts[1].detach(beside)


def test_a_container_joins_a_namespace_that_is_attached(lab: Lab, podman: Podman) -> None:
    """As docs/systemd.md says: podman makes no network for it."""
    overlayd = str(COMMANDS / "overlayd")
    podman.host.run(overlayd, "netns", "add", "shop", "--network", "blue")
    beside = lab.hosts[1].attach("beside", "blue")
    lab.in_force(beside)
    inside = podman.run("inside", "ns:/run/netns/shop")
    assert inside.ping(beside.address) is not None
    podman.podman("rm", "--force", "--time", "0", "inside")
    assert "eth0" in podman.host.run("ip", "-n", "shop", "-o", "link"), "the namespace is not podman's"
    podman.host.run(overlayd, "netns", "delete", "shop")
    lab.hosts[1].detach(beside)
    lab.hosts[1].remove_sandbox("beside")


@pytest.mark.parametrize(
    ("options", "network", "said"),
    [
        (["--ip", "192.0.2.1"], "pods", "network_options.static_ips"),
        (["--publish", "8080:80"], "pods", "port_mappings"),
        ([], "pods:reservation=nobody", "network_options.options.reservation"),
        ([], "pods:speed=9", "speed"),
    ],
)
def test_what_cannot_be_done_is_said_by_podman_and_leaves_nothing(
    lab: Lab, podman: Podman, options: list[str], network: str, said: str
) -> None:
    ports = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
    holder = podman.host.attach("holder", "blue", runtimeConfig=ports)  # podman sees its own containers' ports only
    podman.run("first", "pods")
    with pytest.raises(CommandFailed, match="overlayd: ") as refused:
        podman.run("second", network, *options)
    assert said in str(refused.value)
    eventually(lambda: endpoints(lab, "blue").keys() == {"first"}, "nothing of the second one")
    podman.host.detach(holder)
    podman.host.remove_sandbox("holder")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-o", "network=nowhere"], "options.network: "),
        (["-o", "network=blue", "--subnet", "10.99.0.0/24"], "subnets"),
        (["-o", "network=blue", "--internal"], "internal"),
        (["-o", "network=blue", "-o", "mtu=1400"], "mtu"),
        (["-o", "network=blue", "--ipam-driver", "host-local"], "ipam_options.driver"),
    ],
)
def test_a_network_that_cannot_be_is_not_created(podman: Podman, options: list[str], said: str) -> None:
    with pytest.raises(CommandFailed, match="overlayd: ") as refused:
        podman.podman("network", "create", "-d", "overlayd", *options, "wrong")
    assert said in str(refused.value)
    assert "wrong" not in podman.podman("network", "ls")


@of_each_release
def test_without_an_agent_a_container_goes_and_none_comes(own_lab: Lab, root: Path, release: str) -> None:
    (host, _) = own_lab.hosts
    own_lab.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16")
    own_lab.overlayctl("network", "create", "green", "--range", "10.33.0.0/16")
    host.run(str(COMMANDS / "overlayd"), "install-netavark", "--plugin-dir", PLUGINS)
    with Podman(host, root, PODMAN[release]) as podman:
        for network in ("blue", "green"):
            podman.podman("network", "create", "-d", "overlayd", network)
        kept, gone = podman.run("kept", "blue"), podman.run("gone", "blue")
        podman.podman("network", "connect", "green", "kept")
        host.stop_agent()
        with pytest.raises(CommandFailed, match="the overlayd agent is not running"):
            podman.run("new", "blue")
        podman.podman("network", "disconnect", "green", "kept")
        podman.podman("rm", "--force", "--time", "0", "gone")
        assert host.run("ls", QUEUE).count(".teardown") == 2
        host.start_agent()
        eventually(lambda: host.run("ls", QUEUE) == "", "the queue is drained")
        assert "eth1" not in kept.run("ip", "-o", "link")
        eventually(lambda: set(endpoints(own_lab, "blue")) == {"kept"}, "the address of the other one is free")
        assert endpoints(own_lab, "green") == {}
        assert gone.name != kept.name
        podman.podman("rm", "--force", "--all", "--time", "0")


@of_each_release
def test_the_commands_of_the_page_work_as_they_are_printed(own_lab: Lab, root: Path, release: str) -> None:
    (host, _) = own_lab.hosts
    printed = "".join(re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    with Podman(host, root, PODMAN[release]) as podman:
        started = ["--cgroup-parent", f"/{podman.group.name}", "--rootfs", f"{root}:O", PAUSE]
        own_lab.overlayctl("network", "create", "green", "--range", "10.33.0.0/16")
        for line in printed.splitlines():
            program, *words = line.split()
            if program == "overlayctl":
                own_lab.overlayctl(*words)
                own_lab.overlayctl("reservation", "create", "blue", "shop", "--address", "10.32.200.1")
            elif program == "overlayd":
                host.run(str(COMMANDS / "overlayd"), *words, "--plugin-dir", PLUGINS)
                podman.podman("network", "create", "-d", "overlayd", "green")
            elif program == "podman":
                podman.podman(*words[:-1], *started) if words[-1] == "IMAGE" else podman.podman(*words)
        assert set(endpoints(own_lab, "green")) == {"web"}
        eventually(lambda: set(endpoints(own_lab, "blue")) == {"db", "shop"}, "web has left it")
        podman.podman("rm", "--force", "--all", "--time", "0")
