"""An agent without free file descriptors keeps what is attached, refuses new requests early, and reports why."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from overlayd.kernel.spaces import sysctls
from tests.support.lab.lab import CommandFailed, Container, Executed, Lab, LabHost, plugin_config
from tests.support.lab.processes import Process, eventually

pytestmark = pytest.mark.usefixtures("root")

ENOUGH_TO_ANSWER = 30
"""Descriptors to spare with which the agent can look and answer, and yet lets nothing in."""

SHORT = re.compile("Too many open files|file descriptors are in use")

BURST = 24
"""ADDs at once; each takes a descriptor for its connection, and several more while it is being made."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One host, whose agent looks at everything each second, with a network."""
    with Lab(tmp_path_factory.mktemp("lab"), hosts=1) as made:
        made.start_controller()
        made.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16")
        made.hosts[0].start_agent("--resync", "1")
        yield made


@pytest.fixture
def host(lab: Lab) -> LabHost:
    return lab.hosts[0]


def descriptors(host: LabHost) -> int:
    """Return how many descriptors the agent has open."""
    assert host.agent
    return sum(1 for _ in Path(f"/proc/{host.agent.pid.number}/fd").iterdir())


def limits(host: LabHost) -> tuple[int, int]:
    """Return the soft and the hard limit of the agent."""
    assert host.agent
    line = next(
        each
        for each in Path(f"/proc/{host.agent.pid.number}/limits").read_text().splitlines()
        if each.startswith("Max open files")
    )
    soft, hard = line.split()[3:5]
    return int(soft), int(hard)


@contextmanager
def limited(host: LabHost, limit: int) -> Iterator[None]:
    """Let the agent have so many descriptors for the time of a block."""
    assert host.agent
    soft, hard = limits(host)
    host.run("prlimit", f"--pid={host.agent.pid.number}", f"--nofile={limit}:{hard}")
    try:
        yield
    finally:
        host.run("prlimit", f"--pid={host.agent.pid.number}", f"--nofile={soft}:{hard}")


def problems(host: LabHost) -> str:
    """Return what the agent says of itself; nothing while it cannot answer."""
    status = host.agent_status()
    return str(status["problems"]) if status else ""


def wait_for_a_word(agent: Process) -> None:
    """Return when the agent has logged once more that it is short of descriptors."""
    before = len(SHORT.findall(agent.output))
    eventually(lambda: len(SHORT.findall(agent.output)) > before, "the agent says that it is short")


def deleted(lab: Lab, network: str) -> bool:
    """Delete a network, and tell whether the controllers let it: they hear of a DEL a moment later."""
    try:
        lab.delete_network(network)
    except CommandFailed:
        return False
    return True


def reach(one: Container, other: Container) -> bool:
    return one.ping(other.address) is not None


def added(host: LabHost, name: str) -> Executed:
    host.add_sandbox(name)
    variables = {"CONTAINERID": name, "NETNS": f"/run/netns/{name}", "IFNAME": "eth0"}
    return host.cni("ADD", plugin_config("blue"), **variables)


def test_an_agent_takes_as_many_descriptors_as_it_may(host: LabHost) -> None:
    soft, hard = limits(host)
    assert soft == hard


def test_a_network_takes_few_descriptors_and_gives_them_back(lab: Lab, host: LabHost) -> None:
    one = host.attach("first", "blue")
    before = descriptors(host)
    lab.overlayctl("network", "create", "green", "--range", "10.33.0.0/16")
    other = host.attach("first", "green", "eth1")
    # Sockets: for requests, for notifications of two kinds, for probes; and the directories of sysctls.
    eventually(lambda: before < descriptors(host) <= before + 4 + len(sysctls.directories()), "the network is watched")
    host.detach(other)
    eventually(lambda: deleted(lab, "green"), "the network can be deleted")
    # Connections to the controller come and go meanwhile.
    eventually(lambda: descriptors(host) <= before + 3, "the network's descriptors are closed")
    host.detach(one)


def test_without_descriptors_everything_stays_and_it_is_said(host: LabHost) -> None:
    one, other = host.attach("one", "blue"), host.attach("other", "blue")
    assert host.agent
    for spare in (0, 1, 2, 5, ENOUGH_TO_ANSWER):
        with limited(host, descriptors(host) + spare):
            wait_for_a_word(host.agent)
            if spare == ENOUGH_TO_ANSWER:
                assert "file descriptors are in use" in problems(host)
                refused = added(host, "late")
                assert refused.json["code"] == 11
                assert "file descriptors are in use" in str(refused.json["msg"])
                host.remove_sandbox("late")
            assert reach(one, other)
        host.agent.check()
        eventually(lambda: problems(host) == "[]", "the agent has room again")
        assert reach(one, other), f"{spare} to spare"
    with_room = host.attach("late", "blue")
    assert reach(one, with_room)


def test_a_burst_at_a_low_limit_is_refused_or_done(host: LabHost) -> None:
    one = host.attach("steady", "blue")
    with limited(host, descriptors(host) + 80), ThreadPoolExecutor(BURST) as pool:
        results = list(pool.map(lambda number: added(host, f"burst{number}"), range(BURST)))
    assert {int(str(each.json["code"])) for each in results if each.status} <= {11}
    for number, each in enumerate(results):
        path = f"/run/netns/burst{number}"
        made = Container(host, f"burst{number}", "blue", "eth0", each.json, path)
        assert each.status or reach(one, made), f"burst{number}"
        host.detach(made)
        host.remove_sandbox(made.name)
    assert host.agent
    host.agent.check()
    eventually(lambda: problems(host) == "[]", "nothing is wrong any more")
