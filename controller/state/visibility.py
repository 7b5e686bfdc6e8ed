"""The part of the intent that one host gets.

These are all hosts; and of each network in which it owns a block: the network, all its blocks and reservations, and all
its endpoints if it is switched. Other hosts need no endpoints of a routed network: its blocks say where packets go.
"""

from collections.abc import Collection, Iterable, Sequence

from controller.state.intent import Intent, IntentChange
from overlayd.model.block import Block
from overlayd.model.cluster import Record, RecordKey
from overlayd.model.endpoint import Endpoint
from overlayd.model.host import Host, HostState
from overlayd.model.ids import HostId, NetworkName
from overlayd.model.network import Network
from overlayd.model.reservation import Reservation


def snapshot(intent: Intent, host: HostId) -> list[Record]:
    """Return all that the host gets, networks and hosts before what refers to them."""
    return [*intent.hosts.values(), *_whole(intent, intent.networks_of(host))]


def difference(
    intent: Intent, changes: Sequence[IntentChange], before: frozenset[NetworkName], after: frozenset[NetworkName]
) -> tuple[list[Record], list[RecordKey]]:
    """Return the records to put and the keys to delete after these changes, of which `intent` is the result.

    `before` are the networks that the host knows, and `after` those that it must know. The deletions come first: a
    network that was deleted and made again is in both.
    """
    touched = {record.key: None for change in changes for record in change.records}
    gone = {r.key.key for change in changes for r in change.records if r.key.kind is Network and r.after is None}
    stayed = (after & before) - gone
    puts: list[Record] = _whole(intent, after - stayed)
    deletes = [RecordKey(Network, name) for name in sorted(before - stayed)]
    for key in touched:
        if _is_told(intent, key, stayed):
            record = intent.find(key)
            if record is None:
                deletes.append(key)
            else:
                puts.append(record)
    return puts, deletes


def networks_before(intent: Intent, host: HostId, changes: Iterable[IntentChange]) -> frozenset[NetworkName]:
    """Return the networks in which the host owned a block before these changes, of which `intent` is the outcome."""
    owned = {block.key for block in intent.blocks_of(host)}
    for change in reversed(list(changes)):
        for record in change.records:
            if isinstance(record.after, Block) and record.after.host == host:
                owned.discard(record.after.key)
            if isinstance(record.before, Block) and record.before.host == host:
                owned.add(record.before.key)
    return frozenset(network for network, _ in owned)


def concerned(intent: Intent, change: IntentChange) -> frozenset[HostId] | None:
    """Return the hosts that a change concerns; None means all of them."""
    hosts: set[HostId] = set()
    for record in change.records:
        match record.after or record.before:
            case Host():
                return None
            case Network(name=name):
                hosts |= intent.members(name)
            case Block(network=name):
                hosts |= intent.members(name)
                hosts |= {side.host for side in (record.before, record.after) if isinstance(side, Block)}
            case Reservation(network=name):
                hosts |= intent.members(name)
            case Endpoint(network=name):
                # Most changes are about endpoints of routed networks, which no host needs.
                hosts |= intent.members(name) if intent.is_switched(name) else frozenset()
    return frozenset(hosts)


def leaving(change: IntentChange) -> frozenset[HostId]:
    """Return the hosts that a change begins to forget, or that are forgotten with it: they get nothing more."""
    hosts = (record for record in change.records if record.key.kind is Host)
    return frozenset(
        record.before.id
        for record in hosts
        if isinstance(record.before, Host)
        and (not isinstance(record.after, Host) or record.after.state is HostState.FORGETTING)
    )


def _whole(intent: Intent, networks: Collection[NetworkName]) -> list[Record]:
    names = sorted(networks)
    return [
        *(intent.networks[name] for name in names),
        *(block for name in names for block in intent.blocks_in(name)),
        *(reservation for name in names for reservation in intent.reservations_in(name)),
        *(endpoint for name in names if intent.is_switched(name) for endpoint in intent.endpoints_in(name)),
    ]


def _is_told(intent: Intent, key: RecordKey, networks: Collection[NetworkName]) -> bool:
    match key.key:
        case (network, *_):
            return network in networks and (key.kind is not Endpoint or intent.is_switched(network))
        case name:
            return key.kind is Host or name in networks
