"""Docker with the network driver and the IPAM driver of overlayd, on two hosts; the daemons are Debian's."""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import count
from pathlib import Path

import pytest

from tests.support.lab.lab import CommandFailed, Container, Lab, LabHost
from tests.support.lab.processes import eventually
from tests.support.machines.rootfs import DOCKER
from tests.support.packets.conversation import Server, ask
from tests.support.runtimes.docker import IMAGE, Docker
from tests.support.runtimes.images import root_filesystem

pytestmark = pytest.mark.timeout(600)  # the first test waits for a root of its release, and for the mirror

RELEASES = [pytest.param(release, marks=[] if release == 26 else pytest.mark.thorough) for release in sorted(DOCKER)]

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Engines:
    """A daemon on each of two hosts of a lab."""

    lab: Lab
    first: Docker
    second: Docker

    def network(self, *options: str, name: str = "", range6: bool = False) -> str:
        """Make a network, and one of the same name on both engines; return the name."""
        number = next(_numbers)
        made = name or f"dock{number}"
        ranges = ["--range", f"10.{150 + number}.0.0/16"]
        ranges += ["--range", f"fd00:{150 + number}::/48"] if range6 else []
        self.lab.overlayctl("network", "create", made, *ranges, *options)
        for docker in (self.first, self.second):
            create(docker, made, *(["--ipv6"] if range6 else []))
        return made


CREATE = ("network", "create", "--driver", "overlayd", "--ipam-driver", "overlayd")


def create(docker: Docker, name: str, *options: str, network: str = "") -> str:
    """Create a network of an engine for one of ours."""
    return docker.docker(*CREATE, "--ipam-opt", f"overlayd.network={network or name}", *options, name)


@pytest.fixture(scope="module", params=RELEASES, ids=lambda release: f"docker-{release}")
def engines(request: pytest.FixtureRequest, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    root = root_filesystem(tmp_path_factory.mktemp("image") / "root")
    with ExitStack() as running:
        first, second = (running.enter_context(Docker(host, DOCKER[request.param], root)) for host in lab.hosts)
        assert first.docker("version", "--format", "{{.Server.Version}}").startswith(f"{request.param}.")
        yield Engines(lab, first, second)


def refusal(docker: Docker, *command: str) -> str:
    """Run a command that fails; return what it prints."""
    with pytest.raises(CommandFailed) as failed:
        docker.docker(*command)
    return str(failed.value)


def refused_run(docker: Docker, network: str, *options: str) -> str:
    """Start a container that cannot start; return what Docker prints, and remove it."""
    said = refusal(docker, "run", "--detach", "--name", "refused", "--network", network, *options, IMAGE)
    docker.docker("rm", "--force", "refused")
    return said


def devices(host: LabHost) -> set[str]:
    return {each["ifname"] for each in json.loads(host.run("ip", "-j", "link"))}


def held(host: LabHost) -> list[str]:
    return host.run("ls", "/run/overlayd/held-addresses").split()


def published_in(lab: Lab, network: str) -> set[str]:
    listed = json.loads(lab.overlayctl("endpoint", "list", "--network", network, "--runtime", "docker", "--json"))
    return {address for endpoint in listed for address in endpoint["addresses"]}


def reach_each_other(*containers: Container) -> None:
    for one in containers:
        for other in containers:
            for address in other.addresses if one is not other else ():
                assert one.ping(address) is not None, f"{one.name} reaches {other.name} at {address}"


def test_containers_of_docker_and_of_cni_reach_each_other_across_hosts(engines: Engines) -> None:
    lab, network = engines.lab, engines.network(range6=True)
    here, there = engines.first.run("front", network), engines.second.run("back", network)
    beside = lab.hosts[1].attach(f"{network}-cni", network)
    eventually(lambda: {str(here.address), str(there.address)} <= published_in(lab, network), "they are published")
    lab.in_force(beside)
    reach_each_other(here, there, beside)
    assert not any("docker_gwbridge" in devices(host) for host in lab.hosts)
    for docker, name in ((engines.first, "front"), (engines.second, "back")):
        docker.docker("rm", "--force", name)
        docker.docker("network", "rm", network)
    eventually(lambda: not published_in(lab, network), "their endpoints are gone")
    assert [held(host) for host in lab.hosts] == [[], []]
    assert not any(name.startswith("ov-") for name in devices(lab.hosts[0]))


def test_containers_of_a_segment_reach_each_other_and_the_world(engines: Engines) -> None:
    network = engines.network("--topology", "switched", range6=True)
    here, there = engines.first.run("front-s", network), engines.second.run("back-s", network)
    reach_each_other(here, there)
    assert here.ping(engines.lab.hosts[1].address) is not None
    for docker, name in ((engines.first, "front-s"), (engines.second, "back-s")):
        docker.docker("rm", "--force", name)


def test_a_published_port_is_reached_from_outside_though_docker_drops_what_is_forwarded(engines: Engines) -> None:
    lab, network = engines.lab, engines.network()
    host = lab.hosts[0]
    web = engines.first.run("web", network, "--publish", "8080:80", "--publish", "127.0.0.1::81")
    assert "policy drop" in host.run("nft", "list", "chain", "ip", "filter", "FORWARD")
    with Server(web.enter, str(web.address), 80):
        assert ask(lab.enter_underlay, str(host.address), 8080) is not None
    assert web.ping(lab.hosts[1].address) is not None, "the way out passes, too"
    said = refused_run(engines.first, network, "--publish", "8080:80")
    assert "TCP port 8080 is published by" in said
    engines.first.docker("restart", "web")
    web = engines.first.found("web", network)
    with Server(web.enter, str(web.address), 80):
        assert ask(lab.enter_underlay, str(host.address), 8080) is not None
    engines.first.docker("rm", "--force", "web")
    assert "dport 8080" not in host.run("nft", "list", "table", "inet", "overlayd")


def test_one_container_is_in_several_networks_that_come_and_go(engines: Engines) -> None:
    lab, docker = engines.lab, engines.first
    routed, other, segment = engines.network(), engines.network(), engines.network("--topology", "switched")
    docker.run("several", routed)
    for network in (other, segment):
        docker.docker("network", "connect", network, "several")
    found = [docker.found("several", network, f"eth{index}") for index, network in enumerate((routed, other, segment))]
    for index, network in enumerate((routed, other, segment)):
        beside = lab.hosts[1].attach(f"{network}-beside", network)
        lab.in_force(beside)
        assert found[index].ping(beside.address) is not None, f"by eth{index}"
    docker.docker("network", "disconnect", routed, "several")
    assert found[0].run("ip", "-o", "link").count("eth0") == 0
    beside = lab.hosts[1].attach(f"{other}-later", other)
    assert found[1].ping(beside.address) is not None
    docker.docker("network", "connect", routed, "several")
    docker.docker("rm", "--force", "several")
    assert held(lab.hosts[0]) == []


def test_an_internal_network_is_one_without_egress(engines: Engines) -> None:
    lab, docker = engines.lab, engines.first
    network = engines.network("--no-egress", range6=True)
    create(docker, f"{network}-internal", "--internal", "--ipv6", network=network)
    inside, there = docker.run("inside", f"{network}-internal"), lab.hosts[1].attach(f"{network}-there", network)
    lab.in_force(there)
    reach_each_other(inside, there)
    assert "default" not in inside.run("ip", "route") + inside.run("ip", "-6", "route")
    assert "docker_gwbridge" not in devices(lab.hosts[0])
    docker.docker("rm", "--force", "inside")


def test_a_network_may_have_ipv6_alone(engines: Engines) -> None:
    lab, docker, number = engines.lab, engines.first, next(_numbers)
    name, range6 = f"six{number}", f"fd00:{150 + number}::/48"
    lab.overlayctl("network", "create", name, "--range", range6)
    if docker.release < 28:
        assert "has no IPv4 range" in refusal(docker, *CREATE, "--ipam-opt", f"overlayd.network={name}", "--ipv6", name)
        return
    create(docker, name, "--ipv4=false", "--ipv6")
    here, there = docker.run("six", name), lab.hosts[1].attach(f"{name}-there", name)
    lab.in_force(there)
    reach_each_other(here, there)
    docker.docker("rm", "--force", "six")


def test_an_address_and_a_mac_are_what_was_asked_for(engines: Engines) -> None:
    lab, network = engines.lab, engines.network()
    range4 = json.loads(lab.overlayctl("network", "show", network, "--json"))["pools"][0]["range"]
    create(engines.first, f"{network}-subnet", "--subnet", range4, network=network)
    first = ip_address(range4.partition("/")[0])
    wanted, reserved = str(first + 9), str(first + 40 * 256)
    lab.overlayctl("reservation", "create", network, "db", "--address", reserved)
    mac = "02:00:00:00:00:09"
    named = engines.first.run("named", f"{network}-subnet", "--ip", wanted, "--mac-address", mac)
    assert (str(named.address), named.result["interfaces"]) == (wanted, [{"name": "eth0", "mac": mac}])
    assert f"{wanted} is taken" in refused_run(engines.first, f"{network}-subnet", "--ip", wanted)
    database = engines.first.run("db", f"{network}-subnet", "--ip", reserved)
    assert str(database.address) == reserved
    there = lab.hosts[1].attach(f"{network}-there", network)
    lab.in_force(there)
    assert there.ping(database.address) is not None, "the reservation moved here"
    for name in ("named", "db"):
        engines.first.docker("rm", "--force", name)


def test_no_container_gets_an_auxiliary_address_until_the_network_is_removed(engines: Engines) -> None:
    lab, docker, network = engines.lab, engines.first, engines.network()
    range4 = json.loads(lab.overlayctl("network", "show", network, "--json"))["pools"][0]["range"]
    kept, elsewhere = (str(ip_address(range4.partition("/")[0]) + place) for place in (7, 200 * 256))
    name = f"{network}-aux"
    create(docker, name, "--subnet", range4, "--aux-address", f"router={kept}", network=network)
    (shown,) = json.loads(docker.docker("network", "inspect", name))
    assert shown["IPAM"]["Config"][0]["AuxiliaryAddresses"] == {"router": kept}
    docker.stop(signal.SIGKILL)
    docker.start()
    assert f"{kept} is taken" in refused_run(docker, name, "--ip", kept)
    given = [str(docker.run(f"aux{each}", name).address) for each in range(8)]
    assert kept not in given
    beside = lab.hosts[0].attach(f"{network}-beside", network)
    assert str(beside.address) != kept
    options = ("--ipam-opt", f"overlayd.network={network}", "--subnet", range4)
    said = refusal(docker, *CREATE, *options, "--aux-address", f"router={elsewhere}", "no")
    assert elsewhere in said, "it is in no block of this host"
    for each in range(8):
        docker.docker("rm", "--force", f"aux{each}")
    docker.docker("network", "rm", name)
    create(docker, name, "--subnet", range4, network=network)
    assert str(docker.run("aux", name, "--ip", kept).address) == kept
    docker.docker("rm", "--force", "aux")
    assert held(lab.hosts[0]) == []


def test_what_cannot_be_is_refused_with_a_reason_and_leaves_nothing(engines: Engines) -> None:
    lab, docker, network = engines.lab, engines.first, engines.network()
    for options, reason in (
        (["--ipam-opt", "overlayd.network=nowhere"], "no network"),
        ([], "--opt overlayd.network=NAME"),
        (["--opt", f"overlayd.network={network}", "--gateway", "10.9.0.9", "--subnet", "10.9.0.0/16"], "is no range"),
        (["--ipam-opt", f"overlayd.network={network}", "--ipam-opt", "size=9"], "no option 'size' of IPAM"),
        (["--ipam-opt", f"overlayd.network={network}", "--opt", "mtu=9"], "no option 'mtu' of a network"),
        (["--ipam-opt", f"overlayd.network={network}", "--opt", "overlayd.vni=77777"], "has VNI"),
        (["--ipam-opt", f"overlayd.network={network}", "--opt", "overlayd.topology=switched"], "is routed"),
        (
            ["--ipam-opt", f"overlayd.network={network}", "--opt", "overlayd.network=other"],
            "the driver is to use other",
        ),
        (["--ipam-opt", f"overlayd.network={network}", "--subnet", "10.9.0.0/16"], "is no range of network"),
        (["--ipam-opt", f"overlayd.network={network}", "--ipv6"], "has no IPv6 range"),
        (["--ipam-opt", f"overlayd.network={network}", "--internal"], "lets containers out"),
    ):
        said = refusal(docker, *CREATE, *options, "no")
        assert reason in said, options
    assert "--ipam-driver overlayd" in refusal(docker, "network", "create", "--driver", "overlayd", "no")
    assert "overlayd knows no option 'speed' of an endpoint" in refused_run(
        docker, f"name={network},driver-opt=speed=9"
    )
    assert "no" not in docker.docker("network", "ls", "--format", "{{.Name}}").split()
    assert held(lab.hosts[0]) == []
    assert published_in(lab, network) == set()


def test_networks_endpoints_and_ports_outlive_the_daemon_and_the_agent(engines: Engines) -> None:
    lab, docker, network = engines.lab, engines.first, engines.network()
    host = lab.hosts[0]
    there = engines.second.run("there", network)
    docker.run("kept", network, "--restart", "always", "--publish", "8090:80")
    kept = docker.found("kept", network)
    for number in (signal.SIGTERM, signal.SIGKILL):
        docker.stop(number)
        host.stop_agent(number)
        host.start_agent("--resync", "3600")
        docker.start()
        eventually(lambda: docker.docker("inspect", "-f", "{{.State.Running}}", "kept") == "true", "it runs again")
        kept = docker.found("kept", network)
        assert there.ping(kept.address) is not None, f"after {number.name}"
        with Server(kept.enter, str(kept.address), 80):
            assert ask(lab.enter_underlay, str(host.address), 8090) is not None
    host.stop_agent()
    assert kept.ping(there.address) is not None, "nothing of it needs the agent"
    host.start_agent("--resync", "3600")
    docker.docker("rm", "--force", "kept")
    eventually(lambda: str(kept.address) not in published_in(lab, network), "its endpoint is gone")
    engines.second.docker("rm", "--force", "there")
    docker.docker("network", "rm", network)
    assert held(host) == []


@pytest.mark.thorough  # Docker goes on asking for half a minute, twice
def test_what_ends_while_the_agent_is_away_is_freed_when_it_is_back(engines: Engines) -> None:
    lab, docker, network = engines.lab, engines.second, engines.network()
    host = lab.hosts[1]
    lost = docker.run("lost", network)
    eventually(lambda: str(lost.address) in published_in(lab, network), "it is published")
    host.stop_agent()
    docker.docker("kill", "lost")
    eventually(lambda: docker.docker("ps", "--quiet", "--filter", "name=lost") == "", "it has ended")
    host.start_agent("--resync", "1")
    eventually(lambda: not published_in(lab, network), "its endpoint is gone")
    eventually(lambda: held(host) == [], "its address is not held any more")
    docker.docker("rm", "--force", "lost")
    host.stop_agent()
    host.start_agent("--resync", "3600")


@pytest.mark.thorough
@pytest.mark.parametrize("release", sorted(DOCKER))
def test_with_live_restore_a_container_goes_on_while_docker_is_killed(
    own_lab: Lab, tmp_path: Path, release: int
) -> None:
    own_lab.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16")
    host, there = own_lab.hosts[0], own_lab.hosts[1].attach("there", "blue")
    root = root_filesystem(tmp_path / "root")
    with Docker(host, DOCKER[release], root, ["--live-restore"]) as docker:
        create(docker, "blue")
        kept = docker.run("kept", "blue", "--publish", "8090:80")
        process = docker.docker("inspect", "--format", "{{.State.Pid}}", "kept")
        for number in (signal.SIGTERM, signal.SIGKILL):
            docker.stop(number)
            assert kept.ping(there.address) is not None
            host.stop_agent(number)
            host.start_agent("--resync", "3600")
            docker.start()
            assert docker.docker("inspect", "--format", "{{.State.Pid}}", "kept") == process
            assert kept.ping(there.address) is not None
            other = docker.run("other", "blue")
            assert other.address != kept.address
            docker.docker("rm", "--force", "other")
            with Server(kept.enter, str(kept.address), 80):
                assert ask(own_lab.enter_underlay, str(host.address), 8090) is not None
        docker.docker("rm", "--force", "kept")
        docker.docker("network", "rm", "blue")
        assert held(host) == []
        eventually(lambda: own_lab.published("blue") == {there.name}, "its endpoint is gone")


def test_without_a_controller_containers_start_from_the_blocks_that_the_host_has(engines: Engines) -> None:
    lab, docker, network = engines.lab, engines.first, engines.network()
    docker.run("before", network)
    lab.overlayctl("network", "create", "unseen", "--range", "10.149.0.0/16")
    lab.stop_controller()
    docker.run("meanwhile", network)
    assert "no controller" in refusal(docker, *CREATE, "--ipam-opt", "overlayd.network=unseen", "unseen")
    lab.start_controller()
    for name in ("before", "meanwhile"):
        docker.docker("rm", "--force", name)


def test_a_collection_by_cni_leaves_dockers_endpoints_alone(engines: Engines) -> None:
    lab, network = engines.lab, engines.network()
    container = engines.first.run("bystander", network)
    eventually(lambda: str(container.address) in published_in(lab, network), "it is published")
    conf = {"cniVersion": "1.1.0", "name": network, "type": "overlayd", "cni.dev/valid-attachments": []}
    done = lab.hosts[0].cni("GC", conf)
    assert (done.status, done.stdout) == (0, "")
    assert str(container.address) in published_in(lab, network)
    assert container.ping(lab.hosts[1].address) is not None
    engines.first.docker("rm", "--force", "bystander")
