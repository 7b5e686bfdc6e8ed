"""Published ports as runtimes ask for them, and as records keep them."""

import pytest

from overlayd.model.address import Family
from overlayd.model.errors import InvalidValue
from overlayd.model.published_port import PortMapping, TransportProtocol
from overlayd.wire.cni import ports
from overlayd.wire.fields import Fields, Json, parse_address


def decode(*entries: Json) -> tuple[PortMapping, ...]:
    return ports.decode(Fields({"portMappings": list(entries)}, "runtimeConfig"), "portMappings")


def mapping(host_port: int, where: str = "", transport: TransportProtocol = TransportProtocol.TCP) -> PortMapping:
    return PortMapping(transport, host_port, 80, parse_address(where, "") if where else None)


def test_a_mapping_is_read_with_its_defaults() -> None:
    assert decode({"hostPort": 8080, "containerPort": 80}) == (mapping(8080),)
    assert decode({"hostPort": 8080, "containerPort": 80, "protocol": "UDP", "hostIP": ""}) == (
        mapping(8080, transport=TransportProtocol.UDP),
    )
    assert decode({"hostPort": 8080, "containerPort": 80, "hostIP": "fd00::1"}) == (mapping(8080, "fd00::1"),)


def test_without_a_host_port_there_is_nothing_to_publish() -> None:
    assert decode({"containerPort": 80}, {"hostPort": 0, "containerPort": 80}) == ()
    assert ports.decode(Fields({}), "portMappings") == ()


def test_what_is_said_twice_is_one_and_what_contradicts_is_refused() -> None:
    entry: Json = {"hostPort": 8080, "containerPort": 80}
    assert decode(entry, entry) == (mapping(8080),)
    with pytest.raises(InvalidValue, match="listed twice") as refused:
        decode(entry, {"hostPort": 8080, "containerPort": 81})
    assert refused.value.field == "runtimeConfig.portMappings[1].hostPort"


def test_the_record_has_the_form_of_the_request() -> None:
    known = (
        mapping(8080),
        mapping(53, "192.0.2.1", TransportProtocol.UDP),
        mapping(9, "fd00::1", TransportProtocol.SCTP),
    )
    assert ports.decode(Fields({"ports": ports.encode(known)}), "ports") == known


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("", "", True),
        ("", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("0.0.0.0", "192.0.2.2", True),
        ("0.0.0.0", "fd00::1", False),
        ("0.0.0.0", "::", False),
        ("::", "fd00::1", True),
        ("", "fd00::1", True),
    ],
)
def test_mappings_clash_where_they_share_an_address(one: str, other: str, *, clash: bool) -> None:
    assert mapping(80, one).clashes(mapping(80, other)) is clash
    assert mapping(80, other).clashes(mapping(80, one)) is clash
    assert not mapping(80, one).clashes(mapping(81, other))
    assert not mapping(80, one).clashes(mapping(80, other, TransportProtocol.UDP))


def test_an_unspecified_address_stands_for_its_family() -> None:
    assert [mapping(80, "::").is_of(family) for family in Family] == [False, True]
    assert mapping(80, "::").one_address is None
    assert str(mapping(80, "::")) == "TCP port 80"
    assert str(mapping(80, "192.0.2.1")) == "TCP port 80 of 192.0.2.1"
