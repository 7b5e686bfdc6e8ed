"""Errors of the model as people read them: the field, the value, and the rule that it breaks."""

import re
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from overlayd.model import ids
from overlayd.model.endpoint import Workload
from overlayd.model.errors import InvalidValue
from overlayd.model.host import check_host_name, check_vtep_address
from overlayd.model.ids import ContainerId, HostId, InterfaceName, MacAddress
from overlayd.model.lineage import parse_lineage
from overlayd.model.reservation import Holder
from tests.support.controllers import clusters

LETTERS = "letters, digits, '_', '.' and '-'"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ids.network_name("-a"), f"name: '-a' must start with a letter or digit and hold only {LETTERS}"),
        (lambda: ids.network_name("a" * 64), f"name: '{'a' * 64}' is longer than 63 characters"),
        (lambda: ids.interface_name("a" * 16), f"interface: '{'a' * 16}' must have 1 to 15 bytes"),
        (lambda: ids.interface_name("a/b"), "interface: 'a/b' must not be '.' or '..' nor hold '/', ':' or a space"),
        (lambda: ids.mac_address("blue"), "mac: 'blue' is not a MAC address such as 02:12:34:56:78:9a"),
        (
            lambda: ids.workload_mac("02:6f:76:00:00:00"),
            "mac: '02:6f:76:00:00:00': 02:6f:76:* is for the devices of overlayd itself",
        ),
        (lambda: check_host_name("a\n"), "name: 'a\\n' must have 1 to 253 printable characters"),
        (
            lambda: check_vtep_address(IPv4Address("224.0.0.0")),
            "address: 224.0.0.0 is not a unicast address that other hosts can reach",
        ),
        (lambda: parse_lineage("old"), "lineage: 'old' is no lineage"),
        (
            lambda: replace(clusters.network(), ethertypes=(0x88B5,)),
            "ethertypes: a routed network carries IPv4 and IPv6 only",
        ),
        (
            lambda: replace(clusters.reservation("vip", "10.32.0.5"), mac=MacAddress("02:00:00:00:00:01"), shared=True),
            "mac: the members of a shared reservation have a MAC each",
        ),
        (
            lambda: Workload(labels=(("b", ""), ("a", ""))),
            "labels: must be in the order of their keys, and each key unique and not empty",
        ),
        (
            lambda: Holder(HostId("-"), ContainerId("web"), InterfaceName("eth0")),
            f"host: '-' must start with a letter or digit and hold only {LETTERS}",
        ),
    ],
)
def test_a_value_that_breaks_a_rule(make: Callable[[], object], text: str) -> None:
    with pytest.raises(InvalidValue, match=f"^{re.escape(text)}$"):
        make()


def test_a_value_is_quoted_up_to_a_bounded_length() -> None:
    assert ids.quoted("a" * 78) == f"'{'a' * 78}'"
    assert ids.quoted("a" * 79) == f"'{'a' * 79}…"


def test_a_value_nested_deeper_than_can_be_shown_is_named_by_its_kind() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert ids.quoted(nested) == "a deeply nested list"


def test_an_error_shows_its_sentence_also_in_a_debugger() -> None:
    assert repr(InvalidValue("is wrong", field="vni")) == "InvalidValue('is wrong')"
