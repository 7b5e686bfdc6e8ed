"""The requests of `overlayd netns` as `attach` understands them, and what is refused with the option at fault."""

from ipaddress import ip_address

import pytest

from overlayd.agent.attach.request import AttachmentName
from overlayd.agent.netns.request import attach_request, named_as_options, namespace_name
from overlayd.model.endpoint import Workload
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import ContainerId, InterfaceName, MacAddress, NetworkName, ReservationName
from overlayd.model.published_port import PortMapping, TransportProtocol
from overlayd.wire.fields import Fields, Json


def asked(**given: Json) -> Fields:
    plain: dict[str, Json] = {"namespace": "web", "network": "blue", "interface": "eth0", "mac": None}
    lists: dict[str, Json] = {name: [] for name in ("address", "reservation", "publish", "label", "alias")}
    return Fields({**plain, **lists, **given})


def test_the_shortest_request_names_a_namespace_and_a_network() -> None:
    found = attach_request(asked())
    assert found.name == AttachmentName(NetworkName("blue"), ContainerId("web"), InterfaceName("eth0"), "netns")
    assert found.sandbox == "/run/netns/web"
    assert found.owner is None
    assert found.workload == Workload(runtime="netns", name="web")
    assert (found.addresses, found.ports, found.reservations, found.mac) == ((), (), (), None)


def test_every_option_arrives() -> None:
    found = attach_request(
        asked(
            address=["10.32.0.9", "fd00:32::9"],
            reservation=["db", "db"],
            mac="02:00:00:00:00:09",
            publish=["8080:80", "127.0.0.1:53:5353/udp", "[2001:db8::1]:443:443/sctp"],
            label=["tier=web", "app=shop=1"],
            alias=["www"],
        )
    )
    assert found.addresses == (ip_address("10.32.0.9"), ip_address("fd00:32::9"))
    assert found.reservations == (ReservationName("db"),)
    assert found.mac == MacAddress("02:00:00:00:00:09")
    assert found.ports == (
        PortMapping(TransportProtocol.TCP, 8080, 80),
        PortMapping(TransportProtocol.UDP, 53, 5353, ip_address("127.0.0.1")),
        PortMapping(TransportProtocol.SCTP, 443, 443, ip_address("2001:db8::1")),
    )
    assert found.workload.labels == (("app", "shop=1"), ("tier", "web"))
    assert found.workload.aliases == ("www",)


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"namespace": "ov-blue"}, "NAME"),
        ({"namespace": "../web"}, "NAME"),
        ({"namespace": ""}, "NAME"),
        ({"network": "a/b"}, "--network"),
        ({"interface": "much-too-long-name"}, "--interface"),
        ({"address": ["10.32.0.9", "10.32.0.10"]}, "--address"),
        ({"address": ["10.32.0"]}, "--address"),
        ({"address": [7]}, "--address"),
        ({"reservation": ["a b"]}, "--reservation"),
        ({"mac": "01:00:00:00:00:01"}, "--mac"),
        ({"mac": "02:6f:76:00:00:01"}, "--mac"),
        ({"publish": ["80"]}, "--publish"),
        ({"publish": ["8080:80/icmp"]}, "--publish"),
        ({"publish": ["99999:80"]}, "--publish"),
        ({"publish": ["0:80"]}, "--publish"),
        ({"publish": ["8080:80", "8080:81"]}, "--publish"),
        ({"publish": ["1.2.3:8080:80"]}, "--publish"),
        ({"label": ["tier"]}, "--label"),
        ({"label": ["=web"]}, "--label"),
        ({"alias": ["w" * 300]}, "--alias"),
    ],
)
def test_what_is_wrong_is_refused_by_the_name_of_its_option(given: dict[str, Json], option: str) -> None:
    with pytest.raises(InvalidValue) as refused, named_as_options():
        attach_request(asked(**given))
    assert refused.value.field == option


def test_a_networks_own_namespace_is_never_attached() -> None:
    assert namespace_name("ov") == "ov"
    with pytest.raises(InvalidValue, match="those of networks"):
        namespace_name("ov-blue")
