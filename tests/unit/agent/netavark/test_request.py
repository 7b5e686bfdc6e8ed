"""netavark's documents, as podman 5.4 and 5.8 sent them, in the terms of `attach`, and what is refused by its field."""

import json
from ipaddress import ip_address

import pytest

from overlayd.agent.attach.request import AttachmentName
from overlayd.agent.netavark import request
from overlayd.model.endpoint import Workload
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import ContainerId, InterfaceName, MacAddress, NetworkName, ReservationName
from overlayd.model.published_port import PortMapping, TransportProtocol
from overlayd.wire.fields import Fields, Json
from tests.support.controllers import clusters

ID = "a724f16ea7af8748c051a65747511b64b20880e77107098553f6d9b8ef6ab08b"
CREATED: dict[str, Json] = {
    "name": "pods",
    "id": "3ea96fe483a645ed61e1073a2b319861da11fcff1e0281339b4519a0a29fbf88",
    "driver": "overlayd",
    "created": "0001-01-01T00:00:00Z",
    "ipv6_enabled": False,
    "internal": False,
    "dns_enabled": True,
}


def setup(*, options: Json = None, network: Json = None, **given: Json) -> Fields:
    """Return a document of setup and teardown; podman says null for what is unset."""
    unset: dict[str, Json] = {"static_ips": None, "static_mac": None, "options": None}
    asked = options if isinstance(options, dict) else {}
    whole = network if isinstance(network, dict) else {}
    return Fields(
        {
            "container_id": ID,
            "container_name": "web",
            "port_mappings": None,
            "network": {
                **CREATED,
                "options": {"network": "blue"},
                "subnets": None,
                "network_dns_servers": None,
                **whole,
            },
            "network_options": {"aliases": [ID[:12]], "interface_name": "eth0", **unset, **asked},
            **given,
        }
    )


def test_a_plain_container_is_attached_to_the_network_that_the_option_names() -> None:
    found = request.attach_request(setup(), "/run/netns/netns-1")
    assert found.name == AttachmentName(NetworkName("blue"), ContainerId(ID), InterfaceName("eth0"), "netavark")
    assert (found.sandbox, found.owner, found.addresses, found.ports, found.mac) == (
        "/run/netns/netns-1",
        None,
        (),
        (),
        None,
    )
    assert found.workload == Workload(aliases=(ID[:12],), runtime="netavark", name="web")


def test_without_the_option_the_networks_have_one_name() -> None:
    assert request.name_of(setup(network={"options": None})).network == "pods"


def test_everything_that_podman_can_ask_for_arrives() -> None:
    ports: Json = [
        {"container_port": 443, "host_ip": "", "host_port": 8443, "protocol": "sctp", "range": 1},
        {"container_port": 80, "host_ip": "", "host_port": 8080, "protocol": "tcp,udp", "range": 1},
        {"container_port": 9000, "host_ip": "127.0.0.1", "host_port": 9000, "protocol": "udp", "range": 3},
    ]
    options: Json = {
        "aliases": ["api", ID[:12]],
        "interface_name": "web0",
        "static_ips": ["10.32.0.44", "10.32.0.44"],  # as `podman network reload` says it
        "static_mac": "02:00:00:00:00:44",
        "options": {"reservation": "db/cache"},
    }
    found = request.attach_request(setup(options=options, port_mappings=ports), "/run/netns/netns-1")
    assert found.name.interface == "web0"
    assert found.addresses == (ip_address("10.32.0.44"),)
    assert found.mac == MacAddress("02:00:00:00:00:44")
    assert found.reservations == (ReservationName("db"), ReservationName("cache"))
    assert found.workload.aliases == ("api", ID[:12])
    local = ip_address("127.0.0.1")
    assert found.ports == (
        PortMapping(TransportProtocol.SCTP, 8443, 443),
        PortMapping(TransportProtocol.TCP, 8080, 80),
        PortMapping(TransportProtocol.UDP, 8080, 80),
        *(PortMapping(TransportProtocol.UDP, port, port, local) for port in (9000, 9001, 9002)),
    )


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"container_id": "../x"}, "container_id"),
        ({"options": {"interface_name": "a/b"}}, "network_options.interface_name"),
        ({"options": {"static_ips": ["10.32.0.4", "10.32.0.5"]}}, "network_options.static_ips"),
        ({"options": {"static_ips": ["10.32.0"]}}, "network_options.static_ips[0]"),
        ({"options": {"static_mac": "02:6f:76:00:00:01"}}, "network_options.static_mac"),
        ({"options": {"options": {"foo": "bar"}}}, "network_options.options"),
        ({"options": {"options": {"reservation": "a b"}}}, "network_options.options.reservation"),
        ({"network": {"options": {"network": "blue", "mtu": "1400"}}}, "network.options"),
        ({"network": {"options": {"network": "a/b"}}}, "options.network"),
        ({"port_mappings": [{"host_port": 65535, "container_port": 80, "protocol": "tcp", "range": 2}]}, "range"),
        ({"port_mappings": [{"host_port": 80, "container_port": 80, "protocol": "icmp"}]}, "port_mappings"),
        ({"port_mappings": [{"host_port": 0, "container_port": 80, "protocol": "tcp"}]}, "port_mappings[0].host_port"),
        ({"port_mappings": [{"host_port": 9, "container_port": 80, "protocol": "tcp", "range": 0}]}, "range"),
        (
            {"port_mappings": [{"host_port": 9, "container_port": 80, "protocol": "tcp", "range": 1025}]},
            "port_mappings",
        ),
        (
            {"port_mappings": [{"host_port": 9, "container_port": 9, "protocol": "tcp," * 999, "range": 9}]},
            "port_mappings",
        ),
    ],
)
def test_what_is_wrong_is_refused_by_its_field(given: dict[str, Json], field: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        request.attach_request(setup(**given), "/run/netns/netns-1")
    assert field in str(refused.value.field)


def test_a_network_is_completed_so_that_podman_gives_out_no_address() -> None:
    document = Fields({**CREATED, "labels": {"tier": "a"}, "options": {"network": "blue"}})
    assert request.completed(document) == {**document.value, "ipam_options": {"driver": "overlayd"}}
    again = Fields({**CREATED, "ipam_options": {"driver": "overlayd"}})
    assert request.completed(again)["ipam_options"] == {"driver": "overlayd"}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"internal": True}, "internal"),
        ({"network_interface": "xyz0"}, "network_interface"),
        ({"routes": [{"destination": "10.90.0.0/16", "gateway": "10.77.0.254"}]}, "routes"),
        ({"ipam_options": {"driver": "host-local"}}, "ipam_options.driver"),
        ({"ipam_options": {"driver": "none"}}, "ipam_options.driver"),
        ({"options": {"isolate": "true"}}, "options"),
    ],
)
def test_what_a_network_does_not_do_is_refused_when_it_is_created(given: dict[str, Json], field: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        request.completed(Fields({**CREATED, **given}))
    assert refused.value.field == field


def test_a_subnet_must_be_in_the_network() -> None:
    network = clusters.network("blue", cidr="10.32.0.0/16")
    inside: list[Json] = [{"subnet": "10.32.4.0/24", "gateway": "10.32.4.1"}]
    request.check_subnets(Fields({**CREATED, "subnets": inside}), network)
    request.check_subnets(Fields({**CREATED, "subnets": None}), network)
    with pytest.raises(InvalidValue) as refused:
        request.check_subnets(Fields({**CREATED, "subnets": [*inside, {"subnet": "10.33.0.0/24"}]}), network)
    assert refused.value.field == "subnets[1].subnet"


def test_nameservers_are_those_of_podmans_network() -> None:
    assert request.nameservers(setup()) == []
    assert request.nameservers(setup(network={"network_dns_servers": ["192.0.2.53", "2001:DB8::53"]})) == [
        "192.0.2.53",
        "2001:db8::53",
    ]
    wrong_ones: list[Json] = [["nowhere"], [[]], {}, "192.0.2.53"]
    for wrong in wrong_ones:
        with pytest.raises(InvalidValue, match="network_dns_servers"):
            request.nameservers(setup(network={"network_dns_servers": wrong}))


def test_lists_of_which_each_entry_takes_time_are_short() -> None:
    """A mebibyte of nameservers took three seconds of the agent's event loop."""
    most = request.LISTED_MAX
    assert len(request.nameservers(setup(network={"network_dns_servers": ["192.0.2.53"] * most}))) == most
    with pytest.raises(InvalidValue, match=f"network.network_dns_servers: {most + 1} entries are more than"):
        request.nameservers(setup(network={"network_dns_servers": ["192.0.2.53"] * (most + 1)}))
    subnets: list[Json] = [{"subnet": "10.32.4.0/24"}] * (most + 1)
    network = clusters.network("blue", cidr="10.32.0.0/16")
    request.check_subnets(Fields({**CREATED, "subnets": subnets[1:]}), network)
    with pytest.raises(InvalidValue, match=f"subnets: {most + 1} entries"):
        request.check_subnets(Fields({**CREATED, "subnets": subnets}), network)


@pytest.mark.parametrize("stdin", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_document_is_refused(stdin: bytes) -> None:
    with pytest.raises(InvalidValue):
        request.parse(stdin)


def test_a_document_is_read_as_it_came() -> None:
    assert request.parse(json.dumps(setup().value).encode()).value == setup().value
