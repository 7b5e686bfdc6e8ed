"""What Docker really asked, replayed call by call: our answers in place of those that it got then."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from overlayd.agent.docker.docker_networks import DockerNetworks
from overlayd.agent.docker.intended_addresses import EXPIRY, IntendedAddresses
from overlayd.agent.docker.ipam_driver import IpamDriver
from overlayd.agent.docker.network_driver import NetworkDriver
from overlayd.agent.docker.published_ports import PortChoice
from overlayd.agent.docker.server import DockerServer
from overlayd.agent.runtime.signals import Changes
from overlayd.model.published_port import PortMapping
from tests.support.agents.lone_host import LoneHost

RECORDED = Path(__file__).parents[3] / "data/docker-calls.jsonl"
RELEASES = ["28.5.2", "26.1.5"]


class Plugin:
    """A host with the plugin, and what it answered last to each call; `docker` is a start of Docker."""

    def __init__(self, directory: Path) -> None:
        self.host = LoneHost(directory)
        self.directory = directory
        self.answers: dict[str, Any] = {}
        self.start()

    def start(self) -> None:
        """Start the agent, which has forgotten what is not written down."""
        networks = DockerNetworks(self.directory / "docker-networks.json")
        networks.load()
        ipam = IpamDriver(self.host.addressing, self.host.blocks, networks)
        self.intended = intended = IntendedAddresses(self.host.addressing)
        ports = PortChoice(self.published)
        driver = NetworkDriver(self.host.attachments, self.host.blocks, networks, ipam, intended, ports)
        self.server = DockerServer(driver, ipam, Changes())

    def published(self) -> list[PortMapping]:
        return [port for each in self.host.records.attachments.values() for port in each.ports]

    def ask(self, call: str, request: object) -> dict[str, Any]:
        """Return what is answered with status 200."""
        status, answer = self.post(call, json.dumps(request).encode())
        assert status == 200
        self.answers[call] = answer
        return answer

    def post(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        head = f"POST /{path} HTTP/1.1\r\nHost: docker\r\nContent-Length: {len(body)}\r\n\r\n"
        answer = self.host.run(self.server.answer(head.encode() + body))
        first, _, content = answer.partition(b"\r\n\r\n")
        return int(first.split()[1]), json.loads(content)

    def as_now(self, request: Any) -> Any:  # noqa: ANN401 - JSON
        """Return a recorded request with the pools, addresses and sandboxes of today."""
        if request is None:
            return None
        now = json.loads(json.dumps(request))
        if "PoolID" in now:
            now["PoolID"] = self.answers["IpamDriver.RequestPool"]["PoolID"]
        for data in now.get("IPv4Data", ()):
            data |= {"AddressSpace": "overlayd", "Pool": self.answers["IpamDriver.RequestPool"]["Pool"]}
            if "Gateway" in data:
                data["Gateway"] = self.answers["IpamDriver.RequestAddress"]["Address"]
        if "Interface" in now:
            now["Interface"]["Address"] = self.answers["IpamDriver.RequestAddress"]["Address"]
        if now.get("Address"):
            now["Address"] = self.answers["IpamDriver.RequestAddress"]["Address"].partition("/")[0]
        return now


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Plugin]:
    made = Plugin(tmp_path)
    yield made
    made.host.close()


def recorded(release: str) -> list[dict[str, Any]]:
    calls = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    return [call for call in calls if call["docker"] == release]


@pytest.mark.parametrize("release", RELEASES)
def test_every_call_is_answered_and_in_the_end_nothing_is_left(plugin: Plugin, release: str) -> None:
    joined = False
    for call in recorded(release):
        request = plugin.as_now(call["request"])
        answer = plugin.ask(call["call"], request)
        assert not {"Err", "Error"} & answer.keys(), call["call"]
        if call["call"] == "NetworkDriver.Join":
            joined = True
            (attachment,) = plugin.host.records.attachments.values()
            address = attachment.endpoint.addresses[0]
            assert answer["InterfaceName"] == {"SrcName": attachment.endpoint.interface, "DstPrefix": "eth"}
            assert answer["Gateway"] == "169.254.1.1"
            ways = [(each["Destination"], each["RouteType"], each["NextHop"]) for each in answer["StaticRoutes"]]
            assert ways == [("169.254.1.1/32", 1, ""), ("10.32.0.0/24", 0, "169.254.1.1")]
            assert f"{address}/32" == plugin.answers["IpamDriver.RequestAddress"]["Address"]
            assert plugin.published() == []
        if call["call"] == "NetworkDriver.ProgramExternalConnectivity":
            assert {(port.transport.value, port.container_port) for port in plugin.published()} >= {("tcp", 80)}
    assert joined
    assert plugin.host.records.attachments == {}
    assert plugin.host.addressing.held() == frozenset()
    assert json.loads((plugin.directory / "docker-networks.json").read_text()) == {"v": 1, "networks": {}, "pools": {}}


@pytest.mark.parametrize("release", RELEASES)
def test_after_any_call_the_agent_may_start_again(plugin: Plugin, release: str) -> None:
    """But between CreateEndpoint and Join, and before a network is created: Docker then says so, and is asked again."""
    for call in recorded(release):
        answer = plugin.ask(call["call"], plugin.as_now(call["request"]))
        assert not {"Err", "Error"} & answer.keys(), call["call"]
        if call["call"] not in {"NetworkDriver.CreateEndpoint", "IpamDriver.RequestPool"}:
            pool = plugin.answers.get("IpamDriver.RequestPool")
            if pool is None or (plugin.directory / "docker-networks.json").exists():
                plugin.start()
    assert plugin.host.records.attachments == {}
    assert plugin.host.addressing.held() == frozenset()


def test_a_join_that_the_agent_cannot_know_says_what_to_do(plugin: Plugin) -> None:
    for call in recorded("28.5.2"):
        if call["call"] == "NetworkDriver.Join":
            plugin.start()
            answer = plugin.ask(call["call"], plugin.as_now(call["request"]))
            assert "start the container again" in answer["Err"]
            break
        plugin.ask(call["call"], plugin.as_now(call["request"]))


def test_docker_that_starts_again_gets_the_addresses_that_it_has_and_no_other_container_does(plugin: Plugin) -> None:
    calls = recorded("28.5.2")
    until = next(index for index, call in enumerate(calls) if call["call"] == "NetworkDriver.EndpointOperInfo")
    for call in calls[:until]:
        plugin.ask(call["call"], plugin.as_now(call["request"]))
    address = plugin.answers["IpamDriver.RequestAddress"]["Address"].partition("/")[0]
    pool = {"AddressSpace": "overlayd", "Pool": plugin.answers["IpamDriver.RequestPool"]["Pool"], "Options": {}}
    again = {"PoolID": plugin.answers["IpamDriver.RequestPool"]["PoolID"], "Address": address}
    assert "Error" in plugin.ask("IpamDriver.RequestAddress", again)
    plugin.ask("Plugin.Activate", None)
    assert plugin.ask("IpamDriver.RequestPool", pool)["PoolID"] == again["PoolID"]
    assert plugin.ask("IpamDriver.RequestAddress", again)["Address"] == f"{address}/32"
    assert "Error" in plugin.ask("IpamDriver.RequestAddress", again), "once for each start"


def test_one_container_cannot_be_in_two_networks_of_one_gateway(plugin: Plugin) -> None:
    for call in recorded("28.5.2"):
        plugin.ask(call["call"], plugin.as_now(call["request"]))
        if call["call"] == "NetworkDriver.Join":
            break
    network, endpoint = "9" * 64, "8" * 64
    options = {"overlayd.network": "green"}
    pool = plugin.ask("IpamDriver.RequestPool", {"AddressSpace": "overlayd", "Pool": "", "Options": options})
    data = [{"AddressSpace": "overlayd", "Pool": pool["Pool"]}]
    assert plugin.ask("NetworkDriver.CreateNetwork", {"NetworkID": network, "IPv4Data": data}) == {}
    given = plugin.ask("IpamDriver.RequestAddress", {"PoolID": pool["PoolID"], "Address": ""})
    ids = {"NetworkID": network, "EndpointID": endpoint}
    plugin.ask("NetworkDriver.CreateEndpoint", ids | {"Interface": {"Address": given["Address"]}})
    joining = ids | {"SandboxKey": call["request"]["SandboxKey"]}
    refused = "the container is in network blue, and green has the same gateway, 169.254.1.1"
    assert refused in plugin.ask("NetworkDriver.Join", joining)["Err"]
    assert "Err" not in plugin.ask("NetworkDriver.Join", joining | {"SandboxKey": "/run/docker/netns/other"})


@pytest.mark.parametrize("mac", ["02:6f:76:00:00:00", "01:00:5e:00:00:01", "02:00"])
def test_a_mac_of_a_gateway_or_of_a_group_is_refused(plugin: Plugin, mac: str) -> None:
    for call in recorded("28.5.2"):
        request = plugin.as_now(call["request"])
        if call["call"] == "NetworkDriver.CreateEndpoint":
            assert "MacAddress: " in plugin.ask(call["call"], request | {"Interface": {"MacAddress": mac}})["Err"]
            return
        plugin.ask(call["call"], request)
    pytest.fail("no endpoint is created")


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("NetworkDriver.Unknown", b"{}", 404, "does not know this call"),
        ("", b"{}", 404, "does not know this call"),
        ("NetworkDriver.Join", b"{", 400, "not JSON"),
        ("NetworkDriver.Join", b"[" * 100_000, 400, "not JSON"),
        ("NetworkDriver.Join", b'"' + b"x" * (1 << 20), 413, "more than 1048576 bytes"),
        ("NetworkDriver.Join", b"[]", 200, "expected an object"),
        ("NetworkDriver.Join", b'{"NetworkID": 7, "EndpointID": "e"}', 200, "expected a string"),
        ("NetworkDriver.Join", b"{}", 200, "is required"),
        ("NetworkDriver.Leave", b'{"NetworkID": "n", "EndpointID": "../e"}', 200, "EndpointID"),
        ("IpamDriver.RequestAddress", b'{"PoolID": "blue/5"}', 200, "is no pool of overlayd"),
        ("IpamDriver.RequestPool", b'{"Pool": "10.32.0.1/24"}', 200, "host bits set"),
        (
            "IpamDriver.RequestAddress",
            b'{"PoolID": "blue/6", "Options": {"RequestAddressType": "com.docker.network.gateway"}}',
            200,
            "has no IPv6 range",
        ),
    ],
)
def test_a_wrong_call_is_refused_in_dockers_form(
    plugin: Plugin, path: str, body: bytes, status: int, reason: str
) -> None:
    answered, answer = plugin.post(path, body)
    key = "Error" if path.startswith("Ipam") else "Err"
    assert (answered, reason in answer[key]) == (status, True), answer


MAC = "com.docker.network.endpoint.macaddress"
ONE, OTHER = "02:00:00:00:00:01", "02:00:00:00:00:02"
OF_DOCKER = {"NetworkID": "9" * 64, "EndpointID": "8" * 64}


def created(plugin: Plugin) -> str:
    """Create a network of Docker for blue; return the id of its pool."""
    pool = plugin.ask("IpamDriver.RequestPool", {"Options": {"overlayd.network": "blue"}})
    data = [{"AddressSpace": "overlayd", "Pool": pool["Pool"]}]
    assert plugin.ask("NetworkDriver.CreateNetwork", OF_DOCKER | {"IPv4Data": data}) == {}
    return str(pool["PoolID"])


def requested(plugin: Plugin, pool: str, mac: str | None, address: str = "") -> str:
    """Ask for an address as Docker does: for an endpoint with its MAC, for an auxiliary address without options."""
    options = None if mac is None else {MAC: mac}
    answer = plugin.ask("IpamDriver.RequestAddress", {"PoolID": pool, "Address": address, "Options": options})
    return str(answer["Address"].partition("/")[0] if "Address" in answer else answer["Error"])


def endpoint(plugin: Plugin, address: str, mac: str) -> dict[str, Any]:
    interface = {"Address": f"{address}/32", "MacAddress": mac}
    return plugin.ask("NetworkDriver.CreateEndpoint", OF_DOCKER | {"Interface": interface})


def pass_time(plugin: Plugin, seconds: float) -> None:
    """Let the plugin run for so long."""

    async def run() -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(plugin.intended.run(), seconds)

    plugin.host.run(run())


def test_an_address_that_docker_forgot_before_it_created_the_endpoint_is_free_again(plugin: Plugin) -> None:
    pool = created(plugin)
    given: list[str] = []
    while "10.32.0." in (address := requested(plugin, pool, ONE)) and len(given) < 8:
        given.append(address)
    assert given
    assert "has no free IPv4 block" in address
    pass_time(plugin, EXPIRY - 60)
    plugin.start()  # which begins the time anew
    pass_time(plugin, EXPIRY - 60)
    assert "has no free IPv4 block" in requested(plugin, pool, OTHER)
    pass_time(plugin, 90)
    assert {requested(plugin, pool, OTHER) for _ in given} == set(given)


def test_an_address_is_dockers_from_the_creation_of_its_endpoint_on(plugin: Plugin) -> None:
    pool = created(plugin)
    address = requested(plugin, pool, ONE)
    assert "Err" not in endpoint(plugin, address, ONE)
    asked_again = requested(plugin, pool, OTHER)
    plugin.ask("Plugin.Activate", None)
    assert requested(plugin, pool, None, asked_again) == asked_again, "Docker knows it"
    pass_time(plugin, 10 * EXPIRY)
    assert {str(each) for _, each in plugin.host.addressing.held()} == {address, asked_again}


def test_an_auxiliary_address_is_kept_until_docker_gives_it_back(plugin: Plugin) -> None:
    pool = created(plugin)
    address = requested(plugin, pool, None, "10.32.0.4")
    pass_time(plugin, 10 * EXPIRY)
    plugin.start()
    pass_time(plugin, 10 * EXPIRY)
    assert "taken" in requested(plugin, pool, ONE, address)
    assert address not in {requested(plugin, pool, ONE) for _ in range(8)}
    plugin.ask("IpamDriver.ReleaseAddress", {"PoolID": pool, "Address": address})
    assert requested(plugin, pool, ONE, address) == address


def test_a_docker_that_comes_too_late_is_refused_the_endpoint_before_and_after_another_has_the_address(
    plugin: Plugin,
) -> None:
    pool = created(plugin)
    address = requested(plugin, pool, ONE)
    pass_time(plugin, EXPIRY + 60)
    assert "is not held for this endpoint" in endpoint(plugin, address, ONE)["Err"]
    assert requested(plugin, pool, OTHER, address) == address
    assert "is not held for this endpoint" in endpoint(plugin, address, ONE)["Err"]
    assert "Err" not in endpoint(plugin, address, OTHER)
