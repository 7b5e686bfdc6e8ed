"""`overlayd netns`: namespaces with names on the same networks as containers."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from tests.integration.conftest import NewNetwork
from tests.support.lab.lab import COMMANDS, ROOT, CommandFailed, Container, Lab, LabHost
from tests.support.lab.processes import Process, eventually
from tests.support.packets.conversation import Server, ask
from tests.support.pages.guide import blocks

OVERLAYD = str(COMMANDS / "overlayd")


def netns(host: LabHost, *words: str) -> str:
    return host.run(OVERLAYD, "netns", *words)


def add(host: LabHost, name: str, network: str, *options: str) -> Container:
    """Add a namespace, and return it as what it is: a workload like every other one."""
    made = json.loads(netns(host, "add", name, "--network", network, "--json", *options))
    result: dict[str, object] = {"ips": [{"address": each} for each in made["addresses"]]}
    return Container(host, name, network, made["interface"], result)


def namespaces(host: LabHost) -> set[str]:
    return {line.split()[0] for line in host.run("ip", "netns", "list").splitlines()}


def listed(host: LabHost) -> dict[tuple[str, str], dict[str, object]]:
    found = json.loads(netns(host, "list", "--json"))["attachments"]
    return {(each["namespace"], each["interface"]): each for each in found}


@pytest.fixture
def host(lab: Lab) -> Iterator[LabHost]:
    """The first host; namespaces that a test leaves are removed."""
    (host, *_) = lab.hosts
    yield host
    for name in {namespace for namespace, _ in listed(host)}:
        netns(host, "delete", name)


def test_a_namespace_and_a_container_on_another_host_reach_each_other(
    lab: Lab, host: LabHost, new_network: NewNetwork
) -> None:
    network = new_network()
    there = lab.hosts[1].attach(f"{network}-there", network)
    here = add(host, "unit", network, "--publish", "8080:8000", "--label", "tier=web", "--alias", "www")
    lab.in_force(here, there)
    assert here.ping(there.address) is not None
    assert there.ping(here.address) is not None
    with Server(here.enter, str(here.address), 8000) as server:
        assert ask(lab.enter_underlay, str(host.address), 8080) is not None
        assert ask(there.enter, str(here.address), server.port) is not None

    found = json.loads(lab.overlayctl("endpoint", "list", "--network", network, "--runtime", "netns", "--json"))
    (endpoint,) = found
    assert (endpoint["container_id"], endpoint["workload"]) == ("unit", "unit")
    assert (endpoint["labels"], endpoint["aliases"]) == ({"tier": "web"}, ["www"])
    shown = netns(host, "list")
    assert shown.splitlines()[0].split() == ["NAMESPACE", "NETWORK", "INTERFACE", "ADDRESSES", "MAC", "PORTS"]
    assert f"unit       {network}" in shown

    netns(host, "delete", "unit")
    assert "unit" not in namespaces(host)
    assert ("unit", "eth0") not in listed(host)
    eventually(lambda: lab.published(network) == {there.name}, "its endpoint is gone")


def test_one_namespace_is_in_several_networks_and_leaves_all_of_them(host: LabHost, new_network: NewNetwork) -> None:
    blue, red = new_network(), new_network()
    add(host, "both", blue)
    add(host, "both", red, "--interface", "eth1")
    inside = host.run("ip", "-n", "both", "-br", "link")
    assert "eth0" in inside
    assert "eth1" in inside
    assert {interface: each["network"] for (_, interface), each in listed(host).items()} == {"eth0": blue, "eth1": red}
    netns(host, "delete", "both")
    assert "both" not in namespaces(host)
    assert listed(host) == {}


def test_what_is_asked_for_is_what_it_gets(lab: Lab, host: LabHost, new_network: NewNetwork) -> None:
    network = new_network()
    lab.overlayctl("reservation", "create", network, "db")
    held = json.loads(lab.overlayctl("reservation", "show", network, "db", "--json"))["addresses"]
    reserved = add(host, "db", network, "--reservation", "db", "--mac", "02:00:00:00:0d:0b")
    assert [str(each) for each in reserved.addresses] == held
    assert listed(host)["db", "eth0"]["mac"] == "02:00:00:00:0d:0b"
    (block, *_) = json.loads(lab.overlayctl("network", "show", network, "--json"))["blocks"]
    free = str(ip_network(block["cidr"])[-9])
    assert str(add(host, "fixed", network, "--address", free).address) == free


def test_a_container_of_nspawn_has_the_namespace(host: LabHost, new_network: NewNetwork) -> None:
    unit = add(host, "shop", new_network())
    (command,) = blocks("systemd-nspawn", (ROOT / "docs/systemd.md").read_text())
    assert f"inet {unit.address}/" in host.run("bash", "-euc", command)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--network", "nowhere"], "--network"),
        (["--network", "NETWORK", "--address", "192.0.2.1"], "--address"),
        (["--network", "NETWORK", "--mac", "ff:ff:ff:ff:ff:ff"], "--mac"),
        (["--network", "NETWORK", "--publish", "80"], "--publish"),
        (["--network", "NETWORK", "--reservation", "nobody"], "--reservation"),
        (["--network", "NETWORK", "--interface", "lo"], "--interface"),
    ],
)
def test_what_cannot_be_done_names_the_option_and_leaves_no_namespace(
    host: LabHost, new_network: NewNetwork, options: list[str], message: str
) -> None:
    network = new_network()
    with pytest.raises(CommandFailed, match=f"overlayd: {message}: "):
        netns(host, "add", "wrong", *(each.replace("NETWORK", network) for each in options))
    assert "wrong" not in namespaces(host)
    assert "wrong" not in host.run("ls", "/run/overlayd/netns")
    assert listed(host) == {}


def test_names_of_networks_and_of_nothing_are_refused(host: LabHost, new_network: NewNetwork) -> None:
    network = new_network()
    add(host, "seed", network)
    with pytest.raises(CommandFailed, match="NAME: "):
        netns(host, "add", f"ov-{network}", "--network", network)
    with pytest.raises(CommandFailed, match="NAME: "):
        netns(host, "delete", f"ov-{network}")
    assert f"ov-{network}" in namespaces(host)
    with pytest.raises(CommandFailed, match="has attached no namespace nothing"):
        netns(host, "delete", "nothing")
    netns(host, "delete", "--ignore-missing", "nothing")


def test_a_namespace_of_somebody_else_is_attached_and_stays(host: LabHost, new_network: NewNetwork) -> None:
    host.run("ip", "netns", "add", "theirs")
    add(host, "theirs", new_network())
    assert "eth0" in host.run("ip", "-n", "theirs", "-br", "link")
    netns(host, "delete", "theirs")
    assert "eth0" not in host.run("ip", "-n", "theirs", "-br", "link")
    assert "theirs" in namespaces(host)
    host.run("ip", "netns", "delete", "theirs")


def test_of_adds_at_the_same_time_one_wins_and_its_namespace_is_removed(host: LabHost, new_network: NewNetwork) -> None:
    network = new_network()
    for attempt in range(3):
        command = [OVERLAYD, "netns", "add", f"twin{attempt}", "--network", network]
        started = [subprocess.Popen(host.enter(command), stderr=subprocess.PIPE, text=True) for _ in range(4)]
        ended = [(process.communicate(timeout=120)[1], process.returncode) for process in started]
        assert sorted(status for _, status in ended) == [0, 1, 1, 1], ended
        assert all("--interface: " in text for text, status in ended if status), ended
        assert "eth0" in host.run("ip", "-n", f"twin{attempt}", "-br", "link")
        netns(host, "delete", f"twin{attempt}")
        assert f"twin{attempt}" not in namespaces(host)
        assert host.run("ls", "--almost-all", "/run/overlayd/netns") == ""


def test_a_name_that_was_given_to_another_namespace_is_not_removed(host: LabHost, new_network: NewNetwork) -> None:
    network = new_network()
    add(host, "ours", network)
    host.run("ip", "netns", "delete", "ours")
    host.run("ip", "netns", "add", "ours")
    netns(host, "delete", "ours")
    assert "ours" in namespaces(host)
    host.run("ip", "netns", "delete", "ours")


@pytest.mark.parametrize("make", ["ln -s nowhere", "cp /etc/hostname", "mkdir"])
def test_what_is_no_namespace_is_refused_and_stays(host: LabHost, new_network: NewNetwork, make: str) -> None:
    network = new_network()
    add(host, "first", network)  # the directory
    host.run("sh", "-ec", f"{make} /run/netns/other")
    with pytest.raises(CommandFailed, match="NAME: /run/netns/other is there, and it is no network namespace"):
        netns(host, "add", "other", "--network", network)
    host.run("sh", "-ec", "test -e /run/netns/other || test -h /run/netns/other; rm -r /run/netns/other")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_add_that_is_ended_leaves_nothing(own_lab: Lab, number: signal.Signals) -> None:
    host, _ = own_lab.hosts
    host.stop_agent()
    command = [OVERLAYD, "netns", "add", "unit", "--network", "blue", "--wait", "600"]
    log = host.directory / "add.log"
    process = Process(host.enter(command), log)
    eventually(lambda: "unit" in namespaces(host), "the namespace is made")
    assert process.stop(number) != 0
    assert "unit" not in namespaces(host)
    assert host.run("ls", "--almost-all", "/run/overlayd/netns") == ""


KILLED_AFTER = """
import os, signal, sys
from overlayd.agent.commands import netns
from overlayd.agent.main import main
ask = netns.ask
def ask_and_die(command, **arguments):
    answer = ask(command, **arguments)
    if command == "netns-attach":
        os.kill(os.getpid(), signal.SIGKILL)
    return answer
netns.ask = ask_and_die
sys.argv = ["overlayd", *sys.argv[1:]]
main()
"""
"""`overlayd` that is killed when a namespace is attached, and before it can say so."""


@pytest.mark.parametrize("is_there", [False, True], ids=["new", "of others"])
def test_an_add_that_was_killed_after_it_had_attached_is_done_again(
    host: LabHost, new_network: NewNetwork, *, is_there: bool
) -> None:
    network, other = new_network(), new_network()
    if is_there:
        host.run("ip", "netns", "add", "unit")
    for name in (network, other):  # what a killed one attached to another network is undone too
        with pytest.raises(CommandFailed):
            host.run(sys.executable, "-c", KILLED_AFTER, "netns", "add", "unit", "--network", name)
        assert {each["network"] for each in listed(host).values()} == {name}
    add(host, "unit", network)
    assert {each["network"] for each in listed(host).values()} == {network}
    netns(host, "delete", "unit")
    assert ("unit" in namespaces(host)) is is_there
    assert host.run("ls", "--almost-all", "/run/overlayd/netns") == ""
    if is_there:
        host.run("ip", "netns", "delete", "unit")


def test_a_container_of_cni_is_no_namespace_of_ours(lab: Lab, host: LabHost, new_network: NewNetwork) -> None:
    network = new_network()
    container = host.attach(f"{network}-cni", network)
    with pytest.raises(CommandFailed, match="has attached no namespace"):
        netns(host, "delete", container.name)
    with pytest.raises(CommandFailed, match="--interface: "):
        netns(host, "add", container.name, "--network", network)
    lab.in_force(container)
    assert container.name in namespaces(host)
    unit = add(host, "unit", network)
    assert host.detach(unit).status == 0, "a DEL of what is not there succeeds"
    assert ("unit", "eth0") in listed(host)
    assert unit.ping(container.address) is not None


def test_without_an_agent_a_namespace_goes_and_its_address_is_freed_later(own_lab: Lab) -> None:
    host, other = own_lab.hosts
    own_lab.overlayctl("network", "create", "blue", "--range", "10.80.0.0/16")
    here, there = add(host, "unit", "blue"), other.attach("there", "blue")
    own_lab.in_force(here, there)
    host.stop_agent()
    assert here.ping(there.address) is not None, "it needs no agent"
    netns(host, "delete", "unit")
    assert "unit" not in namespaces(host)
    with pytest.raises(CommandFailed, match="no agent answers"):
        netns(host, "add", "unit", "--network", "blue", "--wait", "0")
    assert "unit" not in namespaces(host)
    host.start_agent()
    again = add(host, "unit", "blue")
    own_lab.in_force(again)
    assert again.ping(there.address) is not None
