from ipaddress import ip_address

import pytest

from overlayd.agent.docker.published_ports import PortChoice, WantedPort, wanted_ports
from overlayd.model.errors import AlreadyExists, InvalidValue
from overlayd.model.published_port import PortMapping, TransportProtocol
from overlayd.wire.fields import Fields, Json

TCP, UDP = TransportProtocol.TCP, TransportProtocol.UDP
OPTION = "com.docker.network.portmap"


def entry(**changed: Json) -> dict[str, Json]:
    return {"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8080, "HostPortEnd": 8080, **changed}


def wanted(*entries: dict[str, Json]) -> list[WantedPort]:
    return wanted_ports(Fields({"Options": {OPTION: list(entries)}}))


def test_ports_are_read_as_docker_says_them() -> None:
    assert wanted(entry(), entry(Proto=17, HostIP="127.0.0.1", HostPort=1, HostPortEnd=9), entry(HostPort=0)) == [
        WantedPort(TCP, 80, 8080, 8080, None),
        WantedPort(UDP, 80, 1, 9, ip_address("127.0.0.1")),
        WantedPort(TCP, 80, 0, 8080, None),
    ]
    assert wanted_ports(Fields({"Options": None})) == wanted_ports(Fields({"Options": {OPTION: None}})) == []


@pytest.mark.parametrize(
    "wrong", [entry(Proto=1), entry(HostPort=9, HostPortEnd=8), entry(HostPortEnd=70000), entry(HostIP="x")]
)
def test_what_cannot_be_is_refused(wrong: dict[str, Json]) -> None:
    with pytest.raises(InvalidValue):
        wanted(wrong)
    with pytest.raises(InvalidValue):
        wanted(*[entry()] * 1025)


def test_docker_leaves_the_choice_and_gets_ports_that_nothing_has() -> None:
    published = [PortMapping(TCP, 9000, 1)]
    choice = PortChoice(lambda: published)
    ranged, free = WantedPort(TCP, 80, 9000, 9002, None), WantedPort(UDP, 53, 0, 0, None)
    with choice.chosen([ranged, free]) as (first, other), choice.chosen([ranged]) as (second,):
        assert (first.host_port, second.host_port) == (9001, 9002)
        assert other.host_port > 1023
        with pytest.raises(AlreadyExists), choice.chosen([ranged]):
            pass
    with choice.chosen([ranged]) as (again,):
        assert again.host_port == 9001


def test_a_port_that_docker_chose_itself_stays_so_that_its_holder_is_named() -> None:
    with PortChoice(lambda: [PortMapping(TCP, 8080, 1)]).chosen([WantedPort(TCP, 80, 8080, 8080, None)]) as (mapping,):
        assert mapping == PortMapping(TCP, 8080, 80)
