"""A released agent reads whatever feed a controller of today tells it."""

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlayd.model.address import IpNetwork
from overlayd.model.block import Block
from overlayd.model.cluster import Cluster, Record, RecordKey
from overlayd.model.host import HostState
from overlayd.model.ids import HostId, NetworkName, ReservationName, Revision
from overlayd.model.network import NetworkState, Pool, Topology
from overlayd.model.reservation import Reservation
from overlayd.wire import schema1
from overlayd.wire.feed import Bookmark, Delta, FeedMessage, InSync, Snapshot, decode_line, encode_line
from tests.support.agents import released
from tests.support.controllers import clusters

OLD_READER = """
import sys
from overlayd.wire.feed import decode_line, encode_line
for line in sys.stdin.buffer:
    sys.stdout.buffer.write(encode_line(decode_line(line)))
    sys.stdout.buffer.flush()
"""

V4_POOLS = tuple(Pool(IPv4Network(f"10.{number}.0.0/16"), 24) for number in (32, 33))
V6_POOLS = tuple(Pool(IPv6Network(f"fd00:{number}::/48"), 64) for number in (32, 33))
NAMES = st.sampled_from(["blue", "green"])
NUMBERS = st.integers(1, 3)
V4 = st.integers(2, 200).map(lambda offset: IPv4Address("10.32.0.0") + offset)
V6 = st.integers(2, 200).map(lambda offset: IPv6Address("fd00:32::") + offset)
ADDRESSES = st.one_of(st.tuples(V4), st.tuples(V6), st.tuples(V4, V6), st.tuples(V6, V4))
CIDRS: st.SearchStrategy[IpNetwork] = st.sampled_from(
    [next(pool.range.subnets(new_prefix=pool.block_length)) for pool in (*V4_POOLS, *V6_POOLS)]
)
NETWORKS = st.builds(
    lambda name, topology, pools, state: replace(clusters.network(name, topology), pools=tuple(pools), state=state),
    NAMES,
    st.sampled_from(Topology),
    st.lists(st.sampled_from([*V4_POOLS, *V6_POOLS]), min_size=1, max_size=4, unique=True),
    st.sampled_from(NetworkState),
)
HOSTS = st.builds(
    lambda number, address, state: replace(clusters.host(number, address.format(number)), state=state),
    NUMBERS,
    st.sampled_from(["192.0.2.{}", "2001:db8::{}"]),
    st.sampled_from(HostState),
)
BLOCKS = st.builds(
    lambda name, cidr, number: Block(NetworkName(name), cidr, HostId(f"host-{number}")), NAMES, CIDRS, NUMBERS
)
ENDPOINTS = st.builds(
    lambda name, number, addresses: replace(clusters.endpoint(number, "web", "10.32.0.2", name), addresses=addresses),
    NAMES,
    NUMBERS,
    ADDRESSES,
)
RESERVATIONS = st.builds(
    lambda name, addresses: Reservation(NetworkName(name), ReservationName("db"), addresses), NAMES, ADDRESSES
)
RECORDS: st.SearchStrategy[Record] = st.one_of(NETWORKS, HOSTS, BLOCKS, ENDPOINTS, RESERVATIONS)
PUTS = st.lists(RECORDS, max_size=6, unique_by=RecordKey.of).map(tuple)
KEYS = st.lists(RECORDS.map(RecordKey.of), max_size=4).map(tuple)
REVISIONS = st.integers(1, 2**40).map(Revision)
MESSAGES: st.SearchStrategy[FeedMessage] = st.one_of(
    st.builds(Snapshot, REVISIONS, PUTS),
    st.builds(Delta, REVISIONS, PUTS, KEYS),
    st.builds(InSync, REVISIONS),
    st.builds(Bookmark, REVISIONS),
)

OldReader = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def old_reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OldReader]:
    """Read a line as overlayd 0.1.0 does; return the line that it would have written itself."""
    command = released.V010.unpacked(tmp_path_factory.mktemp("released")).python("-c", OLD_READER)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        into, out_of = process.stdin, process.stdout

        def read(line: bytes) -> bytes:
            into.write(line)
            into.flush()
            return out_of.readline()

        yield read
        into.close()


def narrowed(message: FeedMessage) -> bytes:
    return encode_line(schema1.narrow(message), schema1.encode_tagged)


@given(message=MESSAGES)
def test_the_old_decoder_reads_every_line_and_knows_all_of_it_but_the_new_states(
    old_reader: OldReader, message: FeedMessage
) -> None:
    line = json.loads(narrowed(message))
    for record in line.get("puts", []):
        if record["kind"] == "host":
            del record["state"]
        if record["kind"] == "network":
            for later in ("reserved", "uplink", "egress", "ethertypes", "gateway_number", "made_by"):
                del record[later]
    assert json.loads(old_reader(narrowed(message))) == line


def applied(known: Cluster, message: FeedMessage) -> Cluster:
    match message:
        case Snapshot(revision, puts):
            return Cluster().changed(revision, puts)
        case Delta(revision, puts, deletes):
            return known.changed(revision, puts, deletes)
        case _:
            return known.changed(message.revision)


@given(st.lists(MESSAGES, max_size=6))
def test_following_what_is_told_is_the_same_as_being_told_what_all_came_to(messages: list[FeedMessage]) -> None:
    """Narrowing each message, or the outcome of all: an agent knows the same, whenever it connects."""
    whole = followed = Cluster()
    for message in messages:
        whole = applied(whole, message)
        followed = applied(followed, decode_line(narrowed(message)))
    at_once = applied(Cluster(), decode_line(narrowed(Snapshot(whole.revision, whole.records))))
    assert within_known_networks(followed) == within_known_networks(at_once)


def within_known_networks(cluster: Cluster) -> Cluster:
    """Leave out what is in networks that are not sent: no range is removed while anything is in it."""
    kept = [record for record in cluster.records if getattr(record, "network", None) in {None, *cluster.networks}]
    return Cluster().changed(cluster.revision, kept)
