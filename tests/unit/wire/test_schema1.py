"""What agents of the previous schema get."""

import json
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Address, IPv6Network

import pytest

from overlayd.model.block import Block
from overlayd.model.cluster import Record, RecordKey
from overlayd.model.host import HostState
from overlayd.model.ids import MacAddress, ReservationName, Revision
from overlayd.model.network import Network, Pool
from overlayd.model.reservation import Reservation
from overlayd.wire import schema1
from overlayd.wire.feed import Bookmark, Delta, FeedMessage, InSync, Snapshot, encode_line
from tests.support.controllers import clusters

AT = Revision(5)
HOST = clusters.host(7)
V6_HOST = clusters.host(7, "2001:db8::7")
BLUE = clusters.network()
V6_POOL = Pool(IPv6Network("fd00::/48"), 64)
V6_BLOCK = Block(BLUE.name, IPv6Network("fd00::/64"), HOST.id)
V4_BLOCK = clusters.block(7, "10.32.0.0/24")
WEB = clusters.endpoint(7, "web", "10.32.0.5")
V6_WEB = replace(WEB, addresses=(IPv6Address("fd00::5"),))
DB = Reservation(BLUE.name, ReservationName("db"), WEB.addresses, MacAddress("02:00:00:00:00:01"))


def with_pools(*pools: Pool) -> Network:
    return replace(BLUE, pools=pools, reserved=(IPv4Network("10.32.0.0/28"),))


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (HOST, HOST),
        (V6_HOST, None),
        (BLUE, BLUE),
        (with_pools(*BLUE.pools, V6_POOL), BLUE),
        (with_pools(V6_POOL, *BLUE.pools), BLUE),
        (with_pools(*BLUE.pools, Pool(IPv4Network("10.64.0.0/16"), 24)), BLUE),
        (replace(BLUE, pools=(V6_POOL,)), None),
        (V4_BLOCK, V4_BLOCK),
        (V6_BLOCK, None),
        (WEB, WEB),
        (replace(WEB, addresses=(IPv6Address("fd00::5"), *WEB.addresses)), WEB),
        (V6_WEB, None),
        (DB, None),
    ],
)
def test_a_record_is_told_by_its_ipv4_part_if_it_has_one(record: Record, expected: Record | None) -> None:
    puts = (expected,) if expected else ()
    assert schema1.narrow(Snapshot(AT, (record,))) == Snapshot(AT, puts)


def test_a_network_without_an_ipv4_range_has_no_other_form() -> None:
    v6 = replace(BLUE, pools=(V6_POOL,))
    assert schema1.network(v6) is v6


def test_what_lost_its_ipv4_part_is_deleted() -> None:
    delta = Delta(AT, (HOST, V6_WEB, replace(BLUE, pools=(V6_POOL,))), (RecordKey.of(V4_BLOCK),))
    gone = (RecordKey.of(V4_BLOCK), RecordKey.of(WEB), RecordKey.of(BLUE))
    assert schema1.narrow(delta) == Delta(AT, (HOST,), gone)


def test_a_host_that_moves_to_an_ipv6_underlay_is_gone_for_who_cannot_reach_it() -> None:
    assert schema1.narrow(Delta(AT, (V6_HOST,), ())) == Delta(AT, (), (RecordKey.of(HOST),))


def test_deletions_of_what_was_never_told_are_left_out() -> None:
    deletes = tuple(RecordKey.of(record) for record in (DB, V6_BLOCK, HOST))
    assert schema1.narrow(Delta(AT, (), deletes)) == Delta(AT, (), (RecordKey.of(HOST),))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Delta(AT, (DB, V6_BLOCK), (RecordKey.of(DB),)), Bookmark(AT)),
        (Bookmark(AT), Bookmark(AT)),
        (InSync(AT), InSync(AT, 1)),
        (Snapshot(AT, ()), Snapshot(AT, ())),
    ],
)
def test_what_leaves_nothing_to_tell_still_carries_its_revision(message: FeedMessage, expected: FeedMessage) -> None:
    assert schema1.narrow(message) == expected


def test_the_lines_are_those_of_schema_1() -> None:
    message = Snapshot(AT, (replace(HOST, state=HostState.DRAINING), WEB))
    form = json.loads(encode_line(schema1.narrow(message), schema1.encode_tagged))
    assert form["puts"][1] == {
        "kind": "endpoint",
        "network": "blue",
        "container_id": "web",
        "interface": "eth0",
        "host": "host-7",
        "address": "10.32.0.5",
        "mac": WEB.mac,
        "sandbox": WEB.sandbox,
    }
