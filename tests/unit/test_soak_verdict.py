"""The soak's verdict finds what it is there to find."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from overlayd.model.block import Block
from overlayd.model.cluster import Record, RecordKey
from overlayd.model.ids import ContainerId, HostId, InterfaceName, NetworkName, ReservationName, Revision
from overlayd.model.reservation import Holder, Reservation
from tests.soak.verdict import Acknowledged, Entry, RecordChange, judge
from tests.support.controllers import clusters

BLUE, ONE, TWO = clusters.network(), clusters.host(1), clusters.host(2)
BLOCK = clusters.block(1, "10.32.0.0/24")
WEB = clusters.endpoint(1, "web", "10.32.0.5")
VIP = Reservation(BLUE.name, ReservationName("vip"), clusters.endpoint(2, "vip", "10.32.9.9").addresses)
HELD = replace(VIP, holder=Holder(TWO.id, ContainerId("vip"), InterfaceName("eth0")))


class History:
    """Transactions that make or change one record each; a tuple is a record that goes."""

    def __init__(self, *steps: Record | tuple[Record]) -> None:
        self.entries: list[Entry] = []
        self.stored: dict[RecordKey, Record] = {}
        for step in steps:
            self.add(step)

    def add(self, step: Record | tuple[Record]) -> None:
        (record,) = step if isinstance(step, tuple) else (step,)
        key, after = RecordKey.of(record), None if isinstance(step, tuple) else record
        change = RecordChange(key, self.stored.pop(key, None), after)
        self.entries.append(Entry(Revision(10 * len(self.entries) + 10), (change,)))
        if after is not None:
            self.stored[key] = after


def faults(
    history: History,
    acknowledged: Iterable[Acknowledged] = (),
    remembered: dict[HostId, dict[RecordKey, Record | None]] | None = None,
) -> list[str]:
    return judge(history.entries, history.stored, acknowledged, remembered or {})


def test_a_sound_history_has_no_faults() -> None:
    history = History(BLUE, ONE, TWO, BLOCK, WEB, VIP, HELD, clusters.endpoint(2, "vip", "10.32.9.9"))
    moved = replace(ONE, name="moved")
    history.add(moved)
    acknowledged = [Acknowledged(Revision(50), WEB), Acknowledged(Revision(1000), WEB), Acknowledged(Revision(89), ONE)]
    assert faults(history, acknowledged, {ONE.id: {RecordKey.of(WEB): WEB, RecordKey.of(VIP): HELD}}) == []


def double_number(history: History) -> None:
    history.add(replace(TWO, id=HostId("host-9"), address=clusters.host(9).address))


def double_address(history: History) -> None:
    history.add(replace(TWO, id=HostId("host-9"), number=clusters.host(9).number))


def double_vni(history: History) -> None:
    history.add(replace(BLUE, name=NetworkName("red")))


def double_endpoint_address(history: History) -> None:
    history.add(replace(WEB, container_id=ContainerId("other")))


def double_reservation(history: History) -> None:
    history.add(replace(VIP, name=ReservationName("other")))


def stolen_block(history: History) -> None:
    history.add(replace(BLOCK, host=TWO.id))


def block_gone_under_an_endpoint(history: History) -> None:
    history.add((BLOCK,))


def overlapping_block(history: History) -> None:
    history.add(Block(BLUE.name, IPv4Network("10.32.0.128/25"), TWO.id))


def block_outside(history: History) -> None:
    history.add(clusters.block(2, "10.99.0.0/24"))


def foreign_address(history: History) -> None:
    history.add(clusters.endpoint(2, "thief", "10.32.0.77"))


def unclaimed_reservation(history: History) -> None:
    history.add(clusters.endpoint(1, "thief", "10.32.9.9"))


def new_number(history: History) -> None:
    history.add(replace(ONE, number=clusters.host(77).number))


def lost_update(history: History) -> None:
    key = RecordKey.of(BLUE)
    history.entries.append(Entry(Revision(999), (RecordChange(key, None, BLUE),)))


def unrecorded_write(history: History) -> None:
    stray = clusters.host(5)
    history.stored[RecordKey.of(stray)] = stray


def unrecorded_deletion(history: History) -> None:
    del history.stored[RecordKey.of(WEB)]


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (double_number, "host number"),
        (double_address, "VTEP address"),
        (double_vni, "VNI"),
        (double_endpoint_address, "'address'"),
        (double_reservation, "reserved address"),
        (stolen_block, "went from host-1 to host-2"),
        (block_gone_under_an_endpoint, "was given back under"),
        (overlapping_block, "overlap"),
        (block_outside, "lies in no range"),
        (foreign_address, "has no right to it"),
        (unclaimed_reservation, "has no right to it"),
        (new_number, "had number 1 and has 77"),
        (lost_update, "and the change says None"),
        (unrecorded_write, "in no history"),
        (unrecorded_deletion, "is not stored as the history ends"),
    ],
)
def test_every_kind_of_fault_is_found(harm: Callable[[History], None], found: str) -> None:
    history = History(BLUE, ONE, TWO, BLOCK, WEB, VIP)
    harm(history)
    assert any(found in fault for fault in faults(history)), faults(history)


@pytest.mark.parametrize(
    "acknowledged",
    [
        Acknowledged(Revision(49), WEB),  # before it was written
        Acknowledged(Revision(50), replace(WEB, sandbox="/run/netns/other")),
        Acknowledged(Revision(60), WEB),  # after it was deleted
        Acknowledged(Revision(50), clusters.host(7)),
    ],
)
def test_an_acknowledged_write_that_the_history_does_not_have_is_found(acknowledged: Acknowledged) -> None:
    history = History(BLUE, ONE, TWO, BLOCK, WEB, (WEB,))
    (fault,) = faults(history, [acknowledged])
    assert "was acknowledged" in fault


def test_an_end_that_is_not_what_the_owner_was_told_is_found() -> None:
    history = History(BLUE, ONE, TWO, BLOCK)
    key = RecordKey.of(BLOCK)
    assert faults(history, (), {ONE.id: {key: BLOCK}}) == []
    assert len(faults(history, (), {ONE.id: {key: None}})) == 1
    assert len(faults(history, (), {ONE.id: {RecordKey.of(WEB): WEB}})) == 1
    assert faults(history, (), {TWO.id: {key: None}}) == [], "given back by one host, it is another's now"
