"""The indexes of the records: what a host holds is found without looking at what others hold."""

from dataclasses import replace
from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from controller.state.intent import Intent
from overlayd.model.cluster import RecordKey
from overlayd.model.ids import ContainerId, HostId, InterfaceName, NetworkName, ReservationName
from overlayd.model.reservation import Holder, Reservation

HOSTS = [HostId("h1"), HostId("h2")]
NAMES = [ReservationName(f"r{number}") for number in range(4)]
STEPS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([None, "gone", *HOSTS])))


def reservation(name: ReservationName, holder: HostId | None) -> Reservation:
    address = IPv4Address("10.32.0.1") + NAMES.index(name)
    free = Reservation(NetworkName("blue"), name, (address,), None)
    if holder is None:
        return free
    return replace(free, holder=Holder(holder, ContainerId("c1"), InterfaceName(f"eth{NAMES.index(name)}")))


@given(STEPS)
def test_what_a_host_holds_is_what_the_records_say(steps: list[tuple[ReservationName, str | None]]) -> None:
    intent = Intent()
    for name, holder in steps:
        if holder == "gone":
            intent.remove(RecordKey(Reservation, (NetworkName("blue"), name)))
        else:
            intent.put(reservation(name, HostId(holder) if holder else None))
    for host in HOSTS:
        held = {each.name for each in intent.reservations() if each.holder and each.holder.host == host}
        assert {each.name for each in intent.held_on(host)} == held
