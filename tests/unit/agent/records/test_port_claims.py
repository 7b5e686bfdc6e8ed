"""Who may publish which port."""

from dataclasses import replace

import pytest

from overlayd.agent.records.attachment_records import Attachment
from overlayd.agent.records.port_claims import check_ports
from overlayd.model.errors import AlreadyExists, InvalidValue
from overlayd.model.network import Uplink
from overlayd.model.published_port import PortMapping, TransportProtocol
from overlayd.wire.fields import parse_address
from tests.support.controllers import clusters

NETWORK = replace(clusters.network(), uplink=Uplink.AUTO)


def attachment(container: str, *mappings: PortMapping, network: str = "blue") -> Attachment:
    return Attachment(clusters.endpoint(1, container, "10.32.0.5", network), (1, 2), mappings)


def mapping(port: int, where: str = "") -> PortMapping:
    return PortMapping(TransportProtocol.TCP, port, 80, parse_address(where, "") if where else None)


def test_a_free_port_is_given() -> None:
    others = [attachment("a", mapping(81)), attachment("b", mapping(80, "192.0.2.2"), network="green")]
    check_ports(NETWORK, attachment("c", mapping(80, "192.0.2.1")), others)


def test_a_taken_port_names_its_holder() -> None:
    with pytest.raises(AlreadyExists, match="TCP port 80 is published by a of network green"):
        check_ports(NETWORK, attachment("c", mapping(80)), [attachment("a", mapping(80, "192.0.2.1"), network="green")])


def test_one_network_has_a_port_once_as_it_may_be_isolated() -> None:
    with pytest.raises(AlreadyExists, match="published by a of network blue"):
        check_ports(NETWORK, attachment("c", mapping(80, "192.0.2.2")), [attachment("a", mapping(80, "192.0.2.1"))])


def test_a_container_may_have_its_port_at_several_of_its_networks() -> None:
    check_ports(NETWORK, attachment("c", mapping(80)), [attachment("c", mapping(80), network="green")])


def test_without_an_uplink_or_the_family_nothing_is_published() -> None:
    with pytest.raises(InvalidValue, match="has no uplink"):
        check_ports(replace(NETWORK, uplink=Uplink.NONE), attachment("c", mapping(80)), [])
    with pytest.raises(InvalidValue, match="no addresses of the family of TCP port 80 of fd00::1"):
        check_ports(NETWORK, attachment("c", mapping(80, "fd00::1")), [])
    check_ports(replace(NETWORK, uplink=Uplink.NONE), attachment("c"), [])
