"""Errors as people read them: the field, what is wrong with which value, and what is expected."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from overlayd.model import ids
from overlayd.model.errors import InvalidValue
from overlayd.model.published_port import PortMapping
from overlayd.wire import credentials, records
from overlayd.wire.cni import ports
from overlayd.wire.fields import Fields, Json, parse_cidr

Read = Callable[[Fields], object]


@pytest.mark.parametrize(
    ("read", "value", "text"),
    [
        (lambda fields: fields.object("x"), 5, "at.x: expected an object, not 5"),
        (lambda fields: fields.text("x"), None, "at.x: is required"),
        (lambda fields: fields.text("x"), 5, "at.x: expected a string, not 5"),
        (lambda fields: fields.number("x"), "5", "at.x: expected an integer, not '5'"),
        (lambda fields: fields.flag("x"), 5, "at.x: expected true or false, not 5"),
        (lambda fields: fields.ipv4("x"), "fd00::5", "at.x: 'fd00::5' is not an IPv4 address"),
        (lambda fields: fields.texts("x"), ["a", 5], "at.x[1]: expected a string, not 5"),
        (lambda fields: fields.items("x"), 5, "at.x: expected an array, not 5"),
        (lambda fields: fields.address("x"), "blue", "at.x: 'blue' is not an IP address"),
        (
            lambda fields: fields.address("x"),
            "fe80::1%eth0",
            "at.x: 'fe80::1%eth0' has a zone, which means nothing on another host",
        ),
        (lambda fields: fields.cidr("x"), "10.32.0.0", "at.x: '10.32.0.0' is not a range such as 10.32.0.0/16"),
        (lambda fields: fields.cidr("x"), "10.32.0.0/33", "at.x: '10.32.0.0/33' is not a range such as 10.32.0.0/16"),
        (
            lambda fields: fields.cidr("x"),
            "10.32.0.5/16",
            "at.x: '10.32.0.5/16' has host bits set; did you mean 10.32.0.0/16?",
        ),
        (lambda fields: fields.ethertypes("x"), ["LLDP"], "at.x[0]: 'LLDP' is no EtherType, such as 0x88b5"),
    ],
)
def test_a_malformed_field(read: Read, value: Json, text: str) -> None:
    with pytest.raises(InvalidValue, match=f"^{re.escape(text)}$"):
        read(Fields({"x": value}, "at"))


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (
            {"kind": "tunnel"},
            "puts[0].kind: 'tunnel' is not one of network, host, block, endpoint, reservation",
        ),
        ({"kind": "block", "key": ["blue"]}, "puts[0].key: expected 2 parts"),
    ],
)
def test_a_malformed_key_of_a_record(form: dict[str, Json], text: str) -> None:
    with pytest.raises(InvalidValue, match=f"^{re.escape(text)}$"):
        records.decode_key(Fields(form, "puts[0]"))


TOKEN = "ovt_0123456789ab_" + 40 * "5"
JOIN_TOKEN = "ovj_0123456789ab_" + 40 * "5" + "_" + 64 * "f"

ACCESS_FORM = "expected ovt_ and two groups of hexadecimal digits"
JOIN_FORM = "expected ovj_ and three groups of hexadecimal digits"


@pytest.mark.parametrize(
    ("parse", "text", "error"),
    [
        (
            credentials.parse_access_token,
            JOIN_TOKEN,
            f"token: is a join token, which is for `overlayd join` only: {ACCESS_FORM}",
        ),
        (
            credentials.parse_access_token,
            "secret",
            f"token: is no token: {ACCESS_FORM}",
        ),
        (
            credentials.parse_join_token,
            TOKEN,
            f"token: is an access token, with which no host can join: {JOIN_FORM}",
        ),
        (
            credentials.parse_join_token,
            "secret",
            f"token: is no join token: {JOIN_FORM}",
        ),
        (credentials.parse_token_id, "mine", "id: 'mine' is not 12 hexadecimal digits"),
        (
            credentials.parse_fingerprint,
            "mine",
            "fingerprint: is no SHA-256 fingerprint: expected 64 hexadecimal digits",
        ),
        (credentials.fingerprint, "mine", "certificate: is not one certificate in PEM form"),
    ],
)
def test_a_malformed_credential(parse: Callable[[str], object], text: str, error: str) -> None:
    with pytest.raises(InvalidValue, match=f"^{re.escape(error)}$"):
        parse(text)


def publish(*entries: Json) -> tuple[PortMapping, ...]:
    return ports.decode(Fields({"portMappings": list(entries)}, "runtimeConfig"), "portMappings")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"protocol": "ICMP"}, "runtimeConfig.portMappings[0].protocol: 'icmp' is not one of tcp, udp, sctp"),
        ({"hostIP": "here"}, "runtimeConfig.portMappings[0].hostIP: 'here' is not an IP address"),
    ],
)
def test_a_port_that_cannot_be_published(change: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidValue, match=f"^{re.escape(text)}$"):
        publish({"hostPort": 8080, "containerPort": 80, **change})


def test_too_many_ports() -> None:
    entries: list[Json] = [{"hostPort": 1000 + number, "containerPort": 80} for number in range(ports.MAPPINGS_MAX + 1)]
    assert len(publish(*entries[:-1])) == ports.MAPPINGS_MAX
    with pytest.raises(InvalidValue, match=r"^runtimeConfig\.portMappings: 1025 entries are more than 1024$"):
        publish(*entries)


def test_a_range_that_stands_alone_has_the_name_of_its_option() -> None:
    with pytest.raises(InvalidValue, match=r"^--range: '10\.32\.0\.0/16/8' is not a range such as 10\.32\.0\.0/16$"):
        parse_cidr("10.32.0.0/16/8", "--range")


def test_a_long_value_is_cut() -> None:
    with pytest.raises(InvalidValue, match=r"^mac: 'x{79}… is not a MAC address such as 02:12:34:56:78:9a$"):
        ids.mac_address("x" * 200)
