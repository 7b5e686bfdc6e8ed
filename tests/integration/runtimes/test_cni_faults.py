"""Many requests at once, killed agents, vanished containers: nothing is lost, and every request is answered."""

import json
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import pytest

from tests.integration.conftest import NewNetwork
from tests.support.lab.lab import Executed, Lab, LabHost, plugin_config
from tests.support.lab.processes import eventually


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One host in sync with a controller, whose agent is stopped and killed by turns."""
    with Lab(tmp_path_factory.mktemp("lab"), hosts=1) as made:
        made.start_controller()
        made.hosts[0].start_agent("--resync", "1")
        yield made


@pytest.fixture
def host(lab: Lab) -> LabHost:
    return lab.hosts[0]


def add_sandboxes(host: LabHost, names: Sequence[str]) -> None:
    host.run("sh", "-ec", f"for name in {' '.join(names)}; do ip netns add $name; done")


def all_at_once(
    host: LabHost, command: str, network: str, names: Sequence[str], first_port: int | None = None
) -> list[Executed]:
    """Execute the plugin for all of these containers at the same time, each in a sandbox of its name.

    With a first port each publishes one of its own.
    """
    with ThreadPoolExecutor(len(names)) as threads:
        ports = [None] * len(names) if first_port is None else range(first_port, first_port + len(names))
        return list(threads.map(lambda name, port: execute(host, command, network, name, port), names, ports))


def execute(host: LabHost, command: str, network: str, name: str, port: int | None = None) -> Executed:
    sandbox = f"/run/netns/{name}"
    mappings = [{"hostPort": port, "containerPort": 80, "protocol": "tcp"}] if port else []
    config = plugin_config(network, runtimeConfig={"portMappings": mappings})
    return host.cni(command, config, CONTAINERID=name, NETNS=sandbox, IFNAME="eth0")


def queued(host: LabHost) -> int:
    return len(host.run("find", "/run/overlayd/del-queue", "-name", "*.del").split())


def is_bare(host: LabHost, network: str, names: Sequence[str], others: int = 0) -> bool:
    """Tell whether nothing of containers is left in their sandboxes, and on the host only so many others are."""
    listings = [host.run("ip", "-n", name, "-o", "link") for name in names]
    beside = host.run("ip", "-n", f"ov-{network}", "-o", "link", "show", "type", "veth")
    return (
        "veth" not in "".join(listings) and "@if" not in "".join(listings) and beside.count("@if") == 1 + others
    )  # and the uplink


def expect_attached(lab: Lab, host: LabHost, network: str, attached: set[str], others: Sequence[str]) -> None:
    """Expect that these containers are attached, here and to the controllers, and nothing is left of the others."""
    eventually(lambda: lab.published(network) == attached, "the controllers know what the runtime knows")
    eventually(lambda: is_bare(host, network, others, len(attached)), "nothing else is left")


def test_sixty_four_requests_at_once_are_all_answered(host: LabHost, new_network: NewNetwork) -> None:
    network = new_network()
    names = [f"{network}-{number}" for number in range(64)]
    add_sandboxes(host, names)
    added = all_at_once(host, "ADD", network, names)
    assert [done for done in added if done.status] == []
    assert len({json.loads(done.stdout)["ips"][0]["address"] for done in added}) == 64
    assert [done for done in all_at_once(host, "DEL", network, names) if done.status] == []
    eventually(lambda: is_bare(host, network, names), "the reaper is done")


def test_a_hundred_with_ports_at_once_are_attached_and_their_deletions_keep_nobody_waiting(
    lab: Lab, host: LabHost, new_network: NewNetwork
) -> None:
    network = new_network()
    names = [f"{network}-{number}" for number in range(100)]
    add_sandboxes(host, names)
    added = all_at_once(host, "ADD", network, names, 20_000)
    assert [done for done in added if done.status] == []
    assert len({json.loads(done.stdout)["ips"][0]["address"] for done in added}) == 100
    rules = host.run("nft", "list", "table", "inet", "overlayd")
    assert [port for port in range(20_000, 20_100) if f" {port} " not in rules] == []
    assert [done for done in all_at_once(host, "DEL", network, names, 20_000) if done.status] == []
    assert " 20000 " not in host.run("nft", "list", "table", "inet", "overlayd")
    eventually(lambda: is_bare(host, network, names), "the reaper is done")
    eventually(lambda: lab.published(network) == set(), "the controllers know")


def test_five_hundred_queued_deletions_are_done_and_keep_nobody_waiting(
    lab: Lab, host: LabHost, new_network: NewNetwork
) -> None:
    network = new_network()
    names = [f"{network}-{number}" for number in range(8)]
    add_sandboxes(host, [*names, f"{network}-new"])
    assert [done for done in all_at_once(host, "ADD", network, names) if done.status] == []
    host.stop_agent(signal.SIGKILL)
    config = host.directory / "config.json"
    config.write_text(json.dumps(plugin_config(network)))
    one = "CNI_NETNS=/run/netns/$name CNI_CONTAINERID=$name /opt/cni/bin/overlayd"
    ghosts = [f"ghost-{number}" for number in range(492)]
    environment = {"CNI_COMMAND": "DEL", "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin", "PATH": "/usr/bin:/bin"}
    script = f"for name in {' '.join([*ghosts, *names])}; do {one} <$0; done"
    done = host.execute(["sh", "-ec", script, str(config)], environment)
    assert (done.returncode, done.stdout) == (0, "")
    assert queued(host) == 500

    host.start_agent("--resync", "1", wait=False)
    late = host.attach(f"{network}-new", network)
    eventually(lambda: queued(host) == 0, "the queue is drained")
    eventually(lambda: is_bare(host, network, names, others=1), "only the new one is left")
    eventually(lambda: lab.published(network) == {late.name}, "the controllers know")
    assert host.detach(late).status == 0


def test_what_a_killed_agent_was_about_is_asked_for_again(host: LabHost, new_network: NewNetwork) -> None:
    network = new_network()
    names = [f"{network}-{number}" for number in range(12)]
    add_sandboxes(host, names)
    host.detach(host.attach(f"{network}-first", network))
    for command in ("ADD", "DEL"):
        with ThreadPoolExecutor(len(names)) as threads:
            asked = [threads.submit(execute, host, command, network, name) for name in names]
            wait(asked, return_when=FIRST_COMPLETED)
            host.stop_agent(signal.SIGKILL)
            answers = [each.result() for each in asked]
        assert {json.loads(done.stdout)["code"] for done in answers if done.status} <= {11}
        host.start_agent("--resync", "1")
        assert [done for done in all_at_once(host, "DEL", network, names) if done.status] == []
        eventually(lambda: is_bare(host, network, names), "nothing is left")
        if command == "ADD":
            assert [done for done in all_at_once(host, "ADD", network, names) if done.status] == []


def test_a_stop_finishes_what_is_under_way_and_cuts_nothing_in_half(
    lab: Lab, host: LabHost, new_network: NewNetwork
) -> None:
    network = new_network()
    names = [f"{network}-{number}" for number in range(24)]
    add_sandboxes(host, names)
    host.detach(host.attach(f"{network}-first", network))
    for command, codes in (("ADD", {11}), ("DEL", set())):
        with ThreadPoolExecutor(len(names)) as threads:
            asked = [threads.submit(execute, host, command, network, name) for name in names]
            wait(asked, return_when=FIRST_COMPLETED)
            host.stop_agent()
            host.start_agent("--resync", "1")
            answers = dict(zip(names, (each.result() for each in asked), strict=True))
        refused = [name for name, done in answers.items() if done.status]
        assert {answers[name].json["code"] for name in refused} <= codes
        expect_attached(lab, host, network, set(names).difference(refused) if command == "ADD" else set(), refused)
    eventually(lambda: is_bare(host, network, names), "nothing is left")
    assert host.agent is not None
    assert "Traceback" not in host.agent.output


def test_a_stop_cuts_an_add_short_that_waits_for_a_frozen_controller(
    lab: Lab, host: LabHost, new_network: NewNetwork
) -> None:
    network = new_network()
    name = f"{network}-waits"
    add_sandboxes(host, [name])
    assert lab.controller is not None
    assert host.agent is not None
    log = host.agent.log
    lab.controller.send(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as threads:
            added = threads.submit(execute, host, "ADD", network, name)
            eventually(lambda: "cni.sock" in host.run("ss", "-xH", "state", "established"), "the ADD is under way")
            host.stop_agent()
            assert added.result().json["code"] == 11
    finally:
        lab.controller.send(signal.SIGCONT)
    lines = [line for line in log.read_text().splitlines() if name in line]
    assert ["a request is cut short" in line for line in lines] == [True]
    host.start_agent("--resync", "1")
    assert execute(host, "DEL", network, name).status == 0
    assert "veth" not in host.run("ip", "-n", name, "-o", "link")


def test_a_del_succeeds_while_the_agent_is_frozen_and_is_done_afterwards(
    host: LabHost, new_network: NewNetwork
) -> None:
    network = new_network()
    gone, there = (host.attach(f"{network}-{what}", network) for what in ("gone", "there"))
    assert host.agent is not None
    host.agent.send(signal.SIGSTOP)
    try:
        assert host.detach(gone).status == 0
        assert queued(host) == 1
    finally:
        host.agent.send(signal.SIGCONT)
    eventually(lambda: queued(host) == 0, "the queue is drained")
    eventually(lambda: is_bare(host, network, [gone.name], others=1), "it is detached")
    assert there.ping(there.address) is not None


def test_a_container_that_vanishes_without_a_deletion_leaks_nothing(
    lab: Lab, host: LabHost, new_network: NewNetwork
) -> None:
    network = new_network()
    gone, there = (host.attach(f"{network}-{what}", network) for what in ("gone", "there"))
    eventually(lambda: lab.published(network) == {gone.name, there.name}, "both are published")
    host.remove_sandbox(gone.name)
    eventually(lambda: lab.published(network) == {there.name}, "it is forgotten")
    again = host.attach(gone.name, network)
    assert again.ping(there.address) is not None
