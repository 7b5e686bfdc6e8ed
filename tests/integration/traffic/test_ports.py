"""Published ports: every place from which they are reached, both families, and every transport."""

import json
from collections.abc import Callable, Sequence
from ipaddress import ip_address

import pytest

from overlayd.dataplane.items import NamespaceRef
from overlayd.model.address import IpAddress
from tests.integration.conftest import NewNetwork
from tests.support.lab.lab import Container, Executed, Lab, LabHost, plugin_config
from tests.support.lab.processes import eventually
from tests.support.packets.conversation import Server, ask
from tests.support.packets.sctp_end import associate, sctp_ends

OUTSIDE = "10.99.0.1"
PORT = 8000
KINDS = pytest.mark.parametrize("kind", ["host", "isolated"])
BOTH = pytest.mark.parametrize("topology", ["routed", "switched"])

Enter = Callable[[Sequence[str]], list[str]]


def mapping(host_port: int, protocol: str = "tcp", host_address: str = "") -> dict[str, object]:
    return {"hostPort": host_port, "containerPort": PORT, "protocol": protocol, "hostIP": host_address}


def publish(host: LabHost, name: str, network: str, *mappings: dict[str, object]) -> Container:
    return host.attach(name, network, runtimeConfig={"portMappings": list(mappings)})


def add(host: LabHost, name: str, network: str, *mappings: dict[str, object]) -> Executed:
    """ADD as `publish` does; return the result, also of a failure."""
    config = plugin_config(network, runtimeConfig={"portMappings": list(mappings)})
    return host.cni("ADD", config, CONTAINERID=name, NETNS=host.add_sandbox(name), IFNAME="eth0")


def serve(container: Container, protocol: str = "tcp", address: str | None = None) -> Server:
    return Server(container.enter, address or str(container.address), PORT, protocol)


def remove(*containers: Container) -> None:
    for container in containers:
        assert container.host.detach(container).status == 0


@BOTH
@KINDS
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_is_reached_from_everywhere(
    lab: Lab, new_network: NewNetwork, topology: str, kind: str, protocol: str
) -> None:
    network = new_network("--topology", topology, "--uplink", kind)
    host, other = lab.hosts
    web = publish(host, f"{network}-web", network, mapping(8080, protocol))
    beside = host.attach(f"{network}-beside", network)
    stranger = host.attach(f"{network}-stranger", new_network("--uplink", kind))
    elsewhere = other.attach(f"{network}-elsewhere", network)
    lab.in_force(web, beside, elsewhere)
    here = str(host.address)
    asking: dict[str, tuple[Enter, str]] = {
        "the world outside": (lab.enter_underlay, here),
        "another host": (other.enter, here),
        "the host itself": (host.enter, here),
        "the host itself, at its loopback address": (host.enter, "127.0.0.1"),
        "a container beside": (beside.enter, here),
        "the container itself": (web.enter, here),
        "a container of another network": (stranger.enter, here),
        "a container of another host": (elsewhere.enter, here),
    }
    with serve(web, protocol):
        silent = [who for who, (enter, address) in asking.items() if ask(enter, address, 8080, protocol) is None]
        assert silent == []
        assert ask(elsewhere.enter, str(web.address), PORT, protocol) == str(elsewhere.address)
    remove(web)
    with serve(web.host.attach(f"{network}-late", network), protocol):
        assert ask(lab.enter_underlay, here, 8080, protocol) is None


@BOTH
@KINDS
def test_a_port_is_published_over_ipv6(lab: Lab, new_network: NewNetwork, topology: str, kind: str) -> None:
    network = new_network("--topology", topology, "--uplink", kind, "--range", "fd00:88::/48")
    host = lab.hosts[0]
    host.run("ip", "address", "add", "fd99::11/64", "dev", "eth0", "nodad")
    lab.underlay_run("ip", "address", "add", "fd99::1/64", "dev", "under0", "nodad")
    web = publish(host, f"{network}-web", network, mapping(8080))
    beside = host.attach(f"{network}-beside", network)
    with serve(web, address=str(web.addresses[1])):
        for enter in (lab.enter_underlay, host.enter, beside.enter, web.enter):
            eventually(lambda: ask(enter, "fd99::11", 8080), "the port answers over IPv6")  # noqa: B023 - used at once
    with Server(lab.enter_underlay, "fd99::1") as outside:
        assert ask(web.enter, "fd99::1", outside.port) == "fd99::11"
    remove(web)
    host.run("ip", "address", "del", "fd99::11/64", "dev", "eth0")
    lab.underlay_run("ip", "address", "del", "fd99::1/64", "dev", "under0")


@BOTH
def test_a_port_leads_from_the_lan_into_a_network_that_has_the_lans_range(
    lab: Lab, new_network: NewNetwork, topology: str
) -> None:
    """Such a network is isolated. Its containers would look for the client among themselves."""
    host = lab.hosts[0]
    lan = ["10.88.0.{}/24", "fd00:88::{}/64"]
    for address in lan:
        host.run("ip", "address", "add", address.format(11), "dev", "eth0")
        lab.underlay_run("ip", "address", "add", address.format(1), "dev", "under0")
    network = new_network("--topology", topology, "--range", "fd00:88::/48", cidr="10.88.0.0/16")
    web = publish(host, f"{network}-web", network, mapping(8080))
    for address, own in zip(lan, web.addresses, strict=True):
        at = address.format(11).partition("/")[0]
        with serve(web, address=str(own)):
            for enter in (lab.enter_underlay, host.enter):
                eventually(lambda: ask(enter, at, 8080), f"the port answers at {at}")  # noqa: B023 - used at once
    remove(web)
    for address in lan:
        host.run("ip", "address", "del", address.format(11), "dev", "eth0")
        lab.underlay_run("ip", "address", "del", address.format(1), "dev", "under0")


@KINDS
def test_a_port_at_one_address_of_the_host_is_not_at_the_others(lab: Lab, new_network: NewNetwork, kind: str) -> None:
    one, other = (new_network("--uplink", kind) for _ in range(2))
    host = lab.hosts[0]
    host.run("ip", "address", "add", "10.99.0.111/24", "dev", "eth0")
    first = publish(host, f"{one}-a", one, mapping(8081, host_address=str(host.address)))
    with serve(first):
        assert ask(lab.enter_underlay, str(host.address), 8081)
        assert ask(lab.enter_underlay, "10.99.0.111", 8081) is None
        second = publish(host, f"{other}-b", other, mapping(8081, host_address="10.99.0.111"))
        with serve(second):
            assert ask(lab.enter_underlay, "10.99.0.111", 8081)
    remove(first, second)
    host.run("ip", "address", "del", "10.99.0.111/24", "dev", "eth0")


@KINDS
def test_a_flow_is_led_by_the_ports_that_are_published_now(lab: Lab, new_network: NewNetwork, kind: str) -> None:
    """The client keeps its own port, and asks before the host's is published and after its container was replaced."""
    network = new_network("--uplink", kind, "--range", "fd00:88::/48")
    host = lab.hosts[0]
    lab.underlay_run("ip", "address", "add", "fd00:99::1/64", "dev", "under0", "nodad")
    asked = [(str(host.address), 0), (str(host.address6), 1)]

    def answered(address: str, enter: Enter = lab.enter_underlay) -> str | None:
        return ask(enter, address, 8053, "udp", source_port=5353)

    lab.in_force(host.attach(f"{network}-early", network))  # from then on the host tracks its connections
    assert not any(answered(address) for address, _ in asked)
    with Server(lab.enter_underlay, OUTSIDE, 8053, "udp"):
        assert answered(OUTSIDE, host.enter) is not None
    for name in ("first", "second"):
        web = publish(host, f"{network}-{name}", network, mapping(8053, "udp"))
        for address, position in asked:
            with serve(web, "udp", str(web.addresses[position])):
                eventually(lambda: answered(address), f"{name} answers at {address}")  # noqa: B023 - used at once
        remove(web)
        left = [line for line in tracked(host, network) if "dport=8053" in line]
        assert ["dst=10.99.0.1 sport=5353 dport=8053" in line for line in left] == [True], "the host's own flow"
    lab.underlay_run("ip", "address", "del", "fd00:99::1/64", "dev", "under0")


def tracked(host: LabHost, network: str) -> list[str]:
    """Return what connection tracking knows on the host and in a network's namespace."""
    inside = ["nsenter", f"--net=/run/netns/ov-{network}", "cat", "/proc/net/nf_conntrack"]
    return host.run("cat", "/proc/net/nf_conntrack").splitlines() + host.run(*inside).splitlines()


@KINDS
def test_an_sctp_association_is_opened_through_a_published_port(lab: Lab, new_network: NewNetwork, kind: str) -> None:
    """By packets of the test's own: this kernel tracks and translates SCTP, and may have no sockets of it."""
    network = new_network("--uplink", kind, "--range", "fd00:88::/48")
    host, other = lab.hosts
    lab.underlay_run("ip", "address", "replace", "fd00:99::1/64", "dev", "under0", "nodad")
    web = publish(host, f"{network}-web", network, mapping(8080, "sctp"))
    beside = host.attach(f"{network}-beside", network)
    stranger = host.attach(f"{network}-stranger", new_network("--uplink", kind, "--range", "fd00:89::/48"))
    elsewhere = other.attach(f"{network}-elsewhere", network)
    lab.in_force(web, beside, elsewhere)
    asking = {
        "the world outside": f"/proc/{lab.place.pid}/ns/net",
        "another host": f"/proc/{other.pid}/ns/net",
        "the host itself": f"/proc/{host.pid}/ns/net",
        **{each.name: f"/proc/{each.host.pid}/root{each.sandbox}" for each in (beside, stranger, elsewhere)},
    }
    at: dict[int, IpAddress] = {4: host.address, 6: host.address6}

    def opened(who: str, version: int, server: str, port: int) -> IpAddress | None:
        with sctp_ends(NamespaceRef(asking[who]), NamespaceRef(server), version) as (client, end):
            return associate(client, at[version], 8080, end, port)

    inside = f"/proc/{host.pid}/root{web.sandbox}"
    silent = [(who, version) for who in asking for version in at if not opened(who, version, inside, PORT)]
    assert silent == []
    remove(web)
    outside = {version: opened("the world outside", version, asking["the host itself"], 8080) for version in at}
    assert outside == {4: ip_address(OUTSIDE), 6: ip_address("fd00:99::1")}, "from then on the port is the host's"
    lab.underlay_run("ip", "address", "del", "fd00:99::1/64", "dev", "under0")


def test_a_taken_port_is_refused_and_its_holder_named(lab: Lab, new_network: NewNetwork) -> None:
    network, other = new_network(), new_network()
    host = lab.hosts[0]
    web = publish(host, f"{network}-web", network, mapping(8080), mapping(8080, "udp"))
    refused = add(host, f"{other}-late", other, mapping(8080, host_address=str(host.address)))
    assert (refused.status, refused.json["code"]) == (1, 7)
    assert f"TCP port 8080 of {host.address} is published by {web.name} of network {network}" in str(
        refused.json["msg"]
    )
    assert "eth0" not in host.run("ip", "-n", f"{other}-late", "-o", "link")
    free = publish(host, f"{other}-free", other, mapping(8082))
    remove(web, free)
    again = publish(host, f"{other}-again", other, mapping(8080))
    remove(again)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"hostPort": 70000, "containerPort": 80}, "runtimeConfig.portMappings[0].hostPort: 70000 is not in 1..65535"),
        ({"hostPort": 80, "containerPort": 0}, "runtimeConfig.portMappings[0].containerPort: 0 is not in 1..65535"),
        ({"hostPort": 80, "containerPort": 80, "protocol": "icmp"}, "portMappings[0].protocol: 'icmp'"),
        ({"hostPort": 80, "containerPort": 80, "hostIP": "fd00::1"}, "no addresses of the family"),
        ({"hostPort": "80", "containerPort": 80}, "expected an integer"),
    ],
)
def test_what_cannot_be_published_is_refused(
    lab: Lab, new_network: NewNetwork, entry: dict[str, object], words: str
) -> None:
    network = new_network()
    refused = add(lab.hosts[0], f"{network}-c", network, entry)
    assert (refused.status, refused.json["code"]) == (1, 7)
    assert words in str(refused.json["msg"])


def test_nothing_is_published_into_a_network_without_uplink(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network("--uplink", "none")
    refused = add(lab.hosts[0], f"{network}-c", network, mapping(8080))
    assert "has no uplink" in str(refused.json["msg"])


@KINDS
def test_published_ports_outlive_the_agent_and_come_back_after_a_flush(own_lab: Lab, kind: str) -> None:
    own_lab.overlayctl("network", "create", "blue", "--range", "10.61.0.0/16", "--uplink", kind, "--no-egress")
    host = own_lab.hosts[0]
    web = publish(host, "web", "blue", mapping(8080))

    def answers() -> bool:
        return ask(own_lab.enter_underlay, str(host.address), 8080) is not None

    with serve(web):
        assert answers(), "without egress too"
        host.stop_agent()
        assert answers()
        host.run("nft", "flush", "ruleset")
        host.start_agent()
        eventually(answers, "the port answers again")
        host.run("nft", "flush", "ruleset")
        eventually(answers, "the port answers again")
        own_lab.stop_controller()
        second = publish(host, "second", "blue", mapping(8090))
        with serve(second):
            assert ask(own_lab.enter_underlay, str(host.address), 8090), "while no controller answers"
        remove(web)
        assert not answers()


def test_containers_do_not_get_at_the_hosts_loopback_address(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network()
    host = lab.hosts[0]
    web = publish(host, f"{network}-web", network, mapping(8080))
    vni = json.loads(lab.overlayctl("network", "show", network, "--json"))["vni"]
    assert host.run("sysctl", "-n", f"net.ipv4.conf.ov{vni}.route_localnet").strip() == "1"
    inside = ["nsenter", f"--net=/run/netns/ov-{network}"]
    host.run(*inside, "ip", "route", "add", "127.1.1.1/32", "via", "169.254.1.2", "dev", "up0", "onlink")
    host.run(*inside, "sysctl", "-q", "-w", "net.ipv4.conf.all.route_localnet=1")
    (way_out,) = json.loads(web.run("ip", "-j", "route", "show", "default"))
    web.run("ip", "route", "add", "127.1.1.1/32", "via", way_out["gateway"], "dev", "eth0", "onlink")
    web.run("sysctl", "-q", "-w", "net.ipv4.conf.all.route_localnet=1")
    with Server(host.enter, "127.1.1.1") as server:
        assert ask(host.enter, "127.1.1.1", server.port) is not None
        assert ask(web.enter, "127.1.1.1", server.port) is None
    remove(web)


def test_a_kernel_that_refuses_the_rules_fails_the_add_and_leaves_nothing(own_lab: Lab) -> None:
    own_lab.overlayctl("network", "create", "blue", "--range", "10.62.0.0/16")
    host = own_lab.hosts[0]
    host.attach("first", "blue")
    nft = host.run("sh", "-c", "command -v nft").strip()
    host.run("mount", "--bind", "/bin/false", nft)
    refused = add(host, "web", "blue", mapping(8080))
    host.run("umount", nft)
    assert (refused.status, refused.json["code"]) == (1, 100)
    assert "cannot publish ports" in str(refused.json["msg"])
    assert "eth0" not in host.run("ip", "-n", "web", "-o", "link")
    host.remove_sandbox("web")
    publish(host, "web", "blue", mapping(8080))
