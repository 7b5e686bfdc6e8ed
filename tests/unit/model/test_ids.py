"""Names and numbers: what is taken, what is refused, and that the refusal names the field."""

from collections.abc import Callable
from ipaddress import IPv4Address

import pytest

from overlayd.dataplane import ownership
from overlayd.model import ids
from overlayd.model.errors import InvalidValue
from overlayd.model.host import Vtep

Check = Callable[[str, str], str]

NAMES: list[tuple[Check, int]] = [(ids.network_name, 63), (ids.host_id, 63), (ids.container_id, 128)]


@pytest.mark.parametrize(("check", "limit"), NAMES)
@pytest.mark.parametrize("value", ["a", "0", "blue", "Blue-2_x.y", "9f86d081884c"])
def test_a_name_is_returned_as_it_came(check: Check, limit: int, value: str) -> None:
    assert check(value, "where") == value
    assert check("a" * limit, "where") == "a" * limit


@pytest.mark.parametrize(("check", "limit"), NAMES)
def test_a_name_longer_than_the_limit_is_refused(check: Check, limit: int) -> None:
    with pytest.raises(InvalidValue, match=f"longer than {limit} characters") as caught:
        check("a" * (limit + 1), "where")
    assert caught.value.field == "where"


@pytest.mark.parametrize(("check", "limit"), NAMES)
@pytest.mark.parametrize("value", ["", "-a", ".a", "_a", "a b", "a/b", "a\n", "blü", "a\0", "../etc", "٣", "\ud800"])
def test_a_name_outside_the_alphabet_is_refused(check: Check, limit: int, value: str) -> None:
    with pytest.raises(InvalidValue, match="must start with a letter or digit") as caught:
        check(value, "where")
    assert caught.value.field == "where"
    assert len(value) <= limit  # so that the alphabet is the reason


@pytest.mark.parametrize("value", ["e", "eth0", "a" * 15, "ve-1.2", "ü" * 7])
def test_an_interface_name_is_returned_as_it_came(value: str) -> None:
    assert ids.interface_name(value) == value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "1 to 15 bytes"),
        ("a" * 16, "1 to 15 bytes"),
        ("ü" * 8, "1 to 15 bytes"),
        (".", "must not be"),
        ("..", "must not be"),
        ("a/b", "must not be"),
        ("eth0:1", "must not be"),
        ("eth 0", "must not be"),
        ("eth0\n", "must not be"),
        ("eth\u00a00", "must not be"),
        ("eth\0", "must not be"),
        ("eth\x7f", "must not be"),
        ("\ud800", "must not be"),
    ],
)
def test_an_interface_name_that_the_kernel_refuses_is_refused(value: str, reason: str) -> None:
    with pytest.raises(InvalidValue, match=reason) as caught:
        ids.interface_name(value, "CNI_IFNAME")
    assert caught.value.field == "CNI_IFNAME"


@pytest.mark.parametrize(("check", "largest"), [(ids.host_number, 64_000), (ids.vni, 16_777_215)])
def test_a_number_is_taken_up_to_its_limits(check: Callable[[int, str], int], largest: int) -> None:
    assert [check(value, "where") for value in (1, largest)] == [1, largest]
    for value in (-1, 0, largest + 1):
        with pytest.raises(InvalidValue, match=rf"{value} is not in 1\.\.{largest}") as caught:
            check(value, "where")
        assert caught.value.field == "where"


@pytest.mark.parametrize("value", ["02:00:0a:20:00:05", "02:00:0A:20:00:05"])
def test_a_mac_is_returned_in_the_kernels_spelling(value: str) -> None:
    assert ids.mac_address(value) == "02:00:0a:20:00:05"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "is not a MAC address"),
        ("02:00:0a:20:00", "is not a MAC address"),
        ("02:00:0a:20:00:05:06", "is not a MAC address"),
        ("02-00-0a-20-00-05", "is not a MAC address"),
        ("02:00:0a:20:00:0g", "is not a MAC address"),
        ("2:0:a:20:0:5", "is not a MAC address"),
        ("02:00:0a:20:00:05\n", "is not a MAC address"),
        ("03:00:0a:20:00:05", "is not a unicast address"),
        ("ff:ff:ff:ff:ff:ff", "is not a unicast address"),
        ("00:00:00:00:00:00", "is not a unicast address"),
    ],
)
def test_what_is_no_unicast_mac_is_refused(value: str, reason: str) -> None:
    with pytest.raises(InvalidValue, match=reason) as caught:
        ids.mac_address(value)
    assert caught.value.field == "mac"


def test_a_mac_is_packed_as_it_stands_in_a_frame() -> None:
    assert ids.packed_mac(ids.mac_address("02:00:0a:20:00:05")) == bytes((2, 0, 10, 32, 0, 5))


def test_hostile_input_stays_short_in_an_error() -> None:
    with pytest.raises(InvalidValue) as caught:
        ids.network_name("\n" * 1_000_000)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("value", ["02:6f:76:00:00:00", "02:6F:76:00:00:01", "02:6f:76:01:00:00", "02:6f:76:ff:ff:ff"])
def test_no_workload_gets_a_mac_of_overlayds_own_devices(value: str) -> None:
    assert ids.mac_address(value) == value.lower(), "an earlier release may have stored it"
    with pytest.raises(InvalidValue, match="for the devices of overlayd itself"):
        ids.workload_mac(value)
    assert ids.workload_mac("02:6f:77:00:00:00") == "02:6f:77:00:00:00"


def test_every_mac_of_a_host_is_ours() -> None:
    numbers = (1, 255, ids.HOST_NUMBER_MAX)
    macs = [Vtep(IPv4Address("192.0.2.1"), ids.host_number(number)).mac for number in numbers]
    assert all(ids.is_own_mac(mac) for mac in (*macs, ownership.GATEWAY_MAC, ownership.HOST_MAC))
