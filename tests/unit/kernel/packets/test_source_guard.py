"""The filter of what a container sends, recognised in the program that the kernel has."""

from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from overlayd.dataplane.items import HOST, SourceGuard
from overlayd.kernel.packets.classic_bpf import Step, assembled
from overlayd.kernel.packets.source_guard import code, observed, program
from overlayd.model.ids import InterfaceName, MacAddress

DEVICE = InterfaceName("ve1")
macs = st.binary(min_size=6, max_size=6).map(lambda octets: MacAddress(octets.hex(":")))
addresses = st.frozensets(
    st.integers(1, 2**32 - 1).map(IPv4Address) | st.integers(1, 2**128 - 1).map(IPv6Address), max_size=8
)
NOTHING = SourceGuard(HOST, DEVICE, MacAddress(""), frozenset())


@given(macs, addresses, st.frozensets(st.sampled_from([0x88B5, 0x88CC, 0x8863]), max_size=3))
def test_what_a_program_lets_in_is_read_back(
    mac: MacAddress, lets_in: frozenset[IPv4Address | IPv6Address], ethertypes: frozenset[int]
) -> None:
    assert observed(HOST, DEVICE, assembled(program(mac, lets_in, ethertypes))) == SourceGuard(
        HOST, DEVICE, mac, lets_in, ethertypes
    )


@given(macs, addresses, st.frozensets(st.sampled_from([0x88B5, 0x88CC, 0x8863]), max_size=3))
def test_a_program_made_of_another_one_is_the_one_that_is_assembled(
    mac: MacAddress, lets_in: frozenset[IPv4Address | IPv6Address], ethertypes: frozenset[int]
) -> None:
    item = SourceGuard(HOST, DEVICE, mac, lets_in, ethertypes)
    assert code(item) == assembled(program(mac, lets_in, ethertypes))


def test_what_is_no_program_of_ours_lets_in_nothing_that_we_know_of() -> None:
    ours = assembled(program(MacAddress("02:00:00:00:00:01"), [IPv4Address("10.0.0.1")]))
    everything = assembled([Step(0x06, 0)])
    for other in (b"", everything, ours[:-8], ours[:8] + everything + ours[16:]):
        assert observed(HOST, DEVICE, other) == NOTHING
