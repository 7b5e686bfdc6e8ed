"""The feed for agents of schema 1 (overlayd 0.1), so that a cluster can be upgraded host by host.

Such an agent knows one IPv4 range of each network, one IPv4 address of each endpoint, IPv4 underlay addresses and no
reservations, and it fails on a kind of record that it does not know. It receives each network with only the first IPv4
range, so containers attached in that range keep working whatever other ranges the network has or gets. Records without
an IPv4 part are left out.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv6Network

from overlayd.model.address import Family
from overlayd.model.block import Block
from overlayd.model.cluster import Record, RecordKey
from overlayd.model.endpoint import Endpoint
from overlayd.model.host import Host
from overlayd.model.network import Network
from overlayd.model.reservation import Reservation
from overlayd.wire import records
from overlayd.wire.feed import Bookmark, Delta, FeedMessage, InSync, Snapshot
from overlayd.wire.fields import Json

VERSION = 1


def narrow(message: FeedMessage) -> FeedMessage:
    """Return the message reduced to what schema 1 can express."""
    match message:
        case Snapshot(revision, puts):
            return Snapshot(revision, tuple(_narrowed_records(puts)))
        case Delta(revision, puts, deletes):
            narrowed = tuple(_narrowed_records(puts))
            # A record that lost its IPv4 part is deleted for such an agent, which ignores deletions of unknown records.
            lost = (RecordKey.of(record) for record in puts if _narrowed(record) is None)
            gone = tuple(key for key in (*deletes, *lost) if _is_known(key))
            return Delta(revision, narrowed, gone) if narrowed or gone else Bookmark(revision)
        case InSync(revision):
            return InSync(revision, VERSION)
        case Bookmark():
            return message


def encode_tagged(record: Record) -> dict[str, Json]:
    """Return the JSON object of a narrowed record, as an agent of schema 1 reads it."""
    form = records.encode_tagged(record)
    if isinstance(record, Endpoint):
        del form["addresses"]
        form["address"] = str(record.addresses[0])
    return form


def network(known: Network) -> Network:
    """Return a network with only its first IPv4 range, or unchanged when it has none."""
    first = next((pool for pool in known.pools if pool.family is Family.V4), None)
    return replace(known, pools=(first,), reserved=()) if first else known


def _narrowed_records(puts: Iterable[Record]) -> Iterator[Record]:
    for record in puts:
        narrowed = _narrowed(record)
        if narrowed is not None:
            yield narrowed


def _narrowed(record: Record) -> Record | None:
    """Return the IPv4 part of a record, None when it has none."""
    match record:
        case Host(address=address):
            return record if Family.of(address) is Family.V4 else None
        case Network(families=families):
            return network(record) if Family.V4 in families else None
        case Block(family=family):
            return record if family is Family.V4 else None
        case Endpoint(addresses=addresses):
            first_address = next((each for each in addresses if Family.of(each) is Family.V4), None)
            return replace(record, addresses=(first_address,)) if first_address else None
        case Reservation():
            return None


def _is_known(key: RecordKey) -> bool:
    """Return whether an agent of schema 1 can read the key of a record."""
    is_v6 = isinstance(key.key, tuple) and any(isinstance(part, IPv6Network) for part in key.key)
    return key.kind is not Reservation and not is_v6
