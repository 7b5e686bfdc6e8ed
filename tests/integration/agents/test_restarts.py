"""Stopping, killing and restarting agents and controllers, with traffic running."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from overlayd.agent.controllers import cluster_form
from tests.support.kernel.notifications import Listening
from tests.support.lab.lab import COMMANDS, CommandFailed, Container, Lab, LabHost, plugin_config
from tests.support.lab.processes import eventually
from tests.support.packets.ping_stream import Pinging


def pair(lab: Lab, network: str, topology: str = "routed") -> tuple[Container, Container]:
    lab.overlayctl("network", "create", network, "--range", "10.40.0.0/16", "--topology", topology)
    source, destination = lab.attach_everywhere(network)
    return source, destination


def plan_of(host: LabHost) -> list[str]:
    answer = host.control("plan")
    assert answer is not None
    operations = answer["operations"]
    assert isinstance(operations, list)
    return [operation["command"] for operation in operations]


@pytest.mark.parametrize("topology", ["routed", "switched"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_no_ping_is_lost_while_the_agent_restarts(
    own_lab: Lab, tmp_path: Path, how: signal.Signals, topology: str
) -> None:
    source, destination = pair(own_lab, "blue", topology)
    with Pinging(source, destination.address, tmp_path / "ping") as pinging:
        for host in own_lab.hosts:
            host.stop_agent(how)
            pinging.more(50)
            host.start_agent()
            pinging.more(50)
    assert pinging.lost == set()
    assert [plan_of(host) for host in own_lab.hosts] == [[], []], "the kernel was adopted as it was"


def test_an_address_rests_although_the_agent_is_restarted(own_lab: Lab) -> None:
    former, other = pair(own_lab, "blue", "switched")
    assert other.ping(former.address) is not None
    host = former.host
    assert host.detach(former).status == 0
    host.stop_agent(signal.SIGKILL)
    host.start_agent()
    late = host.attach("late", "blue")
    assert late.address != former.address, "others know the former one's MAC"
    own_lab.in_force(late, other)
    assert other.ping(late.address) is not None


@pytest.mark.parametrize("topology", ["routed", "switched"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_with_unchanged_intent_writes_nothing_to_the_kernel(
    own_lab: Lab, how: signal.Signals, topology: str
) -> None:
    source, _ = pair(own_lab, "blue", topology)
    host = source.host
    with closing(Listening(host, "blue")) as listening:
        host.stop_agent(how)
        host.start_agent()
        eventually(lambda: is_settled(host), "the first cycle is through")
        assert plan_of(host) == []
        assert listening.heard() == []

        host.detach(source)
        assert {name for name, _ in listening.heard()} == {"blue"}, "every writer is heard"


@pytest.mark.parametrize("topology", ["routed", "switched"])
def test_no_ping_is_lost_while_other_objects_drift_and_are_repaired(
    own_lab: Lab, tmp_path: Path, topology: str
) -> None:
    source, destination = pair(own_lab, "blue", topology)
    own_lab.overlayctl("network", "create", "other", "--range", "10.41.0.0/16", "--topology", topology)
    bystanders = [host.attach(f"other-{host.name}", "other") for host in own_lab.hosts]
    own_lab.in_force(*bystanders)
    neighbours = [host.attach(f"late-{host.name}", "blue") for host in own_lab.hosts]
    own_lab.in_force(*neighbours)
    host = source.host
    drifts = (
        "ip -n ov-other link del vx0",
        "ip netns delete ov-other",
        f"ip -n ov-blue neighbour del {neighbours[0].address} dev {port_of(host, neighbours[0])}",
        f"ip -n ov-blue link del {port_of(host, neighbours[0])}",
        "nsenter --net=/run/netns/ov-blue sysctl -w net.ipv4.conf.default.send_redirects=1",
    )
    with Pinging(source, destination.address, tmp_path / "ping") as pinging:
        for drift in drifts if topology == "routed" else (*drifts[:2], drifts[3]):
            host.run(*drift.split())
            pinging.more(100)
        eventually(lambda: plan_of(host) == [], "all is repaired")
        eventually(lambda: bystanders[0].ping(bystanders[1].address, wait=0.2) is not None, "the other network works")
        eventually(lambda: neighbours[0].ping(neighbours[1].address, wait=0.2) is not None, "the neighbour works")
        pinging.more(100)
    assert pinging.lost == set()


def port_of(host: LabHost, container: Container) -> str:
    """Return the host's end of a container's veth pair: the far end of its eth0."""
    (link,) = json.loads(container.run("ip", "-j", "link", "show", "dev", "eth0"))
    ports = json.loads(host.run("ip", "-n", f"ov-{container.network}", "-j", "link", "show", "type", "veth"))
    (found,) = (port["ifname"] for port in ports if port["ifindex"] == link["link_index"])
    return str(found)


def is_settled(host: LabHost) -> bool:
    """Tell whether an agent's kernel matches what the controllers know."""
    status = host.agent_status() or {}
    return bool(status["in_sync"]) and status["applied"] == status["revision"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_no_ping_is_lost_while_the_controller_restarts(own_lab: Lab, tmp_path: Path, how: signal.Signals) -> None:
    source, destination = pair(own_lab, "blue")
    with Pinging(source, destination.address, tmp_path / "ping") as pinging:
        own_lab.stop_controller(how)
        for host in own_lab.hosts:
            eventually(lambda: not in_sync(host), f"{host.name} notices")  # noqa: B023 - used at once
        pinging.more(50)
        own_lab.start_controller()
        own_lab.overlayctl("wait")
        pinging.more(50)
    assert pinging.lost == set()


def in_sync(host: LabHost) -> bool:
    status = host.agent_status()
    assert status is not None
    return bool(status["in_sync"])


def test_attach_and_detach_go_on_without_a_controller(own_lab: Lab) -> None:
    source, destination = pair(own_lab, "blue")
    own_lab.stop_controller(signal.SIGKILL)

    late = own_lab.hosts[0].attach("late", "blue")
    assert late.ping(destination.address) is not None
    assert destination.ping(late.address) is not None
    assert own_lab.hosts[0].detach(late).status == 0
    assert source.ping(late.address, wait=0.3) is None

    own_lab.hosts[0].add_sandbox("stranger")
    refused = own_lab.hosts[0].cni(
        "ADD", plugin_config("unheard-of"), CONTAINERID="stranger", NETNS="/run/netns/stranger", IFNAME="eth0"
    )
    assert refused.status == 1
    assert refused.json["code"] == 11, "another network takes a controller, and may work later"

    kept = own_lab.hosts[1].attach("kept", "blue")
    own_lab.start_controller()
    own_lab.in_force(kept, source)
    assert "late" not in own_lab.published("blue")


def test_an_agent_that_starts_without_a_controller_works_on_what_it_knew(own_lab: Lab) -> None:
    _, destination = pair(own_lab, "blue")
    host = own_lab.hosts[0]
    cached = host.directory / "written/var/lib/overlayd/cluster.cache"
    eventually(lambda: len(cluster_form.decode(cached.read_bytes()).records) > 4, "the cluster is cached")
    own_lab.stop_controller(signal.SIGKILL)
    host.stop_agent(signal.SIGKILL)
    host.start_agent(wait=False)
    late = host.attach("late", "blue")
    assert late.ping(destination.address) is not None
    assert plan_of(host) == []


def test_a_del_while_the_agent_is_away_is_done_at_its_start(own_lab: Lab) -> None:
    source, destination = pair(own_lab, "blue")
    host = own_lab.hosts[1]
    host.stop_agent()

    done = host.detach(destination)
    assert (done.status, done.stdout) == (0, "")
    again = host.cni("DEL", plugin_config("blue"), CONTAINERID=destination.name, IFNAME="eth0")
    assert again.status == 0
    added = host.cni("ADD", plugin_config("blue", "1.1.0"), CONTAINERID="x", NETNS=destination.sandbox, IFNAME="eth1")
    assert added.status == 1
    assert (added.json["code"], added.json["cniVersion"]) == (11, "1.1.0")

    host.start_agent()
    eventually(lambda: destination.name not in own_lab.published("blue"), "the queued DEL is done")
    assert source.ping(destination.address, wait=0.3) is None
    assert host.run("ls", "/run/overlayd/del-queue") == ""


def test_a_queued_del_does_not_hit_a_later_add_of_the_same_container(own_lab: Lab) -> None:
    source, destination = pair(own_lab, "blue")
    host = own_lab.hosts[1]
    host.stop_agent()
    assert host.detach(destination).status == 0
    host.run("mv", "/run/overlayd/del-queue", "/run/overlayd/late")
    host.start_agent("--resync", "3600")
    host.run("mv", "/run/overlayd/late", "/run/overlayd/del-queue")

    again = host.attach(destination.name, "blue")

    own_lab.in_force(again)
    assert source.ping(again.address) is not None
    assert host.run("ls", "/run/overlayd/del-queue") == ""


def test_a_del_waits_for_the_add_that_its_runtime_gave_up_on(own_lab: Lab) -> None:
    source, _ = pair(own_lab, "blue")
    host = own_lab.hosts[0]
    own_lab.overlayctl("network", "create", "slow", "--range", "10.41.0.0/16")
    sandbox = host.add_sandbox("given-up")
    assert own_lab.controller is not None
    own_lab.controller.send(signal.SIGSTOP)
    with ThreadPoolExecutor() as threads:
        variables = {"CONTAINERID": "given-up", "NETNS": sandbox, "IFNAME": "eth0"}
        added = threads.submit(host.cni, "ADD", plugin_config("slow"), **variables)
        eventually(lambda: "cni.sock" in host.run("ss", "-xH", "state", "established"), "the ADD is under way")
        deleted = threads.submit(host.cni, "DEL", plugin_config("slow"), **variables)
        own_lab.controller.send(signal.SIGCONT)
        assert (added.result().status, deleted.result().status) == (0, 0)
    assert "eth0" not in host.run("ip", "-n", "given-up", "link")
    assert source.ping(source.address) is not None


def test_a_second_agent_on_a_host_is_refused(own_lab: Lab) -> None:
    host = own_lab.hosts[0]
    with pytest.raises(CommandFailed, match="another overlayd runs on this host"):
        host.run(str(COMMANDS / "overlayd"), "run", "--controller", own_lab.urls[0])
    assert in_sync(host)


def test_a_reboot_leaks_no_address_and_keeps_the_block(own_lab: Lab) -> None:
    source, destination = pair(own_lab, "blue")
    host = own_lab.hosts[1]

    host.reboot()
    host.start_agent()

    own_lab.overlayctl("wait")
    assert own_lab.published("blue") == {source.name}
    back = host.attach("back", "blue")
    assert back.address == destination.address, "the same block, from its beginning"
    own_lab.in_force(back)
    assert source.ping(back.address) is not None
    assert len(json.loads(own_lab.overlayctl("host", "list", "--json"))) == 2


def test_containers_of_one_id_on_two_hosts_are_two(own_lab: Lab) -> None:
    own_lab.overlayctl("network", "create", "lan", "--range", "10.42.0.0/16", "--topology", "switched")
    first, second = (host.attach("same-id", "lan") for host in own_lab.hosts)
    eventually(lambda: len(json.loads(own_lab.overlayctl("endpoint", "list", "--json"))) == 2, "both are published")
    own_lab.overlayctl("wait")
    assert first.ping(second.address) is not None
    first.host.detach(first)
    eventually(lambda: len(json.loads(own_lab.overlayctl("endpoint", "list", "--json"))) == 1, "one is gone")
    assert own_lab.published("lan") == {"same-id"}
