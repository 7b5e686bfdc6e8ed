"""The facts of this host at one moment, outside the namespaces of networks."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from overlayd.agent.reconcile.drift import Revived
from overlayd.agent.reconcile.local import Local
from overlayd.agent.records.attachment_records import Attachment, AttachmentRecords, Stray
from overlayd.agent.records.presence import Presence, presence
from overlayd.dataplane.desired import uplink
from overlayd.dataplane.desired.endpoint import host_end
from overlayd.dataplane.desired.resolve import Membership
from overlayd.dataplane.items import NamespaceRef, network_namespace
from overlayd.ipam.lifelines import Lifeline
from overlayd.kernel.port import Kernel, Surroundings
from overlayd.model.address import IpAddress
from overlayd.model.cluster import Cluster
from overlayd.model.endpoint import EndpointKey
from overlayd.model.ids import InterfaceName, NetworkName


@dataclass(frozen=True, slots=True)
class Recorded:
    """The records of this host's attachments when an assessment begins."""

    attachments: Mapping[EndpointKey, Attachment]
    strays: frozenset[Stray]

    @classmethod
    def of(cls, records: AttachmentRecords) -> "Recorded":
        """Copy the present records for another thread."""
        return cls(dict(records.attachments), records.strays)


@dataclass(frozen=True, slots=True)
class Facts:
    """The observed facts of the host.

    `present` are the attachments whose sandboxes exist, of which `out_of_reach` have no path, and `gone` the others;
    `strays` are the interfaces without a record that still exist. `unknown` counts the endpoints and strays
    of networks in which the cluster gives this host no block, and `kept_uplinks` are the host's ends of their uplinks.
    `mtu` is the underlay's in bytes, None when the cluster does not know this host. `lifelines` are the addresses that
    no network may take, besides those of other hosts. `shortage` names a resource that this process is short of.
    """

    present: tuple[Attachment, ...]
    out_of_reach: frozenset[EndpointKey]
    gone: tuple[Attachment, ...]
    strays: frozenset[Stray]
    unknown: Mapping[NetworkName, int]
    kept_uplinks: frozenset[InterfaceName]
    surroundings: Surroundings
    lifelines: frozenset[Lifeline]
    nameservers: frozenset[IpAddress]
    mtu: int | None
    shortage: str | None

    def ends_of(self, sandboxes: Collection[NamespaceRef]) -> Revived:
        """Return the host's ends of the veth pairs that lead to these sandboxes."""
        endpoints = (each.endpoint for each in self.present)
        return frozenset(
            (network_namespace(each.network), host_end(each.key)) for each in endpoints if each.sandbox in sandboxes
        )


def gather(  # noqa: PLR0913, PLR0917 - all that facts depend on
    kernel: Kernel,
    local: Local,
    recorded: Recorded,
    cluster: Cluster,
    membership: Membership,
    known: Surroundings | None = None,
) -> Facts:
    """Gather the facts; raise `KernelError`, or `NotFound` when no device has this host's address.

    Runs in the kernel's thread: the controllers' addresses are only read from files. Surroundings that are `known` are
    not read again.
    """
    found = {key: presence(kernel, attachment) for key, attachment in recorded.attachments.items()}
    strays = frozenset(
        each for each in recorded.strays if kernel.has_device(network_namespace(each.network), each.device)
    )
    unknown = _unknown(recorded.attachments, strays, membership)
    surroundings = known or kernel.surroundings()
    me = cluster.hosts.get(local.host)
    peers = _peers(cluster, membership)
    return Facts(
        present=tuple(each for key, each in recorded.attachments.items() if found[key] is not Presence.GONE),
        out_of_reach=frozenset(key for key, one in found.items() if one is Presence.OUT_OF_REACH),
        gone=tuple(each for key, each in recorded.attachments.items() if found[key] is Presence.GONE),
        strays=strays,
        unknown=unknown,
        kept_uplinks=_kept_uplinks(kernel, unknown),
        surroundings=surroundings,
        lifelines=_lifelines(surroundings) | local.controllers.lifelines,
        nameservers=local.controllers.nameservers,
        mtu=kernel.underlay(me.address, peers).mtu if me else None,
        shortage=kernel.shortage(),
    )


def _unknown(
    attachments: Iterable[EndpointKey], strays: Iterable[Stray], membership: Membership
) -> Mapping[NetworkName, int]:
    known = membership.blocks
    count = Counter(network for network, *_ in attachments if network not in known)
    count.update(stray.network for stray in strays if stray.network not in known)
    return dict(count)


def _kept_uplinks(kernel: Kernel, networks: Collection[NetworkName]) -> frozenset[InterfaceName]:
    left = {network_namespace(name) for name in networks}
    return uplink.host_devices(kernel.observe(left)) if left else frozenset()


def _peers(cluster: Cluster, membership: Membership) -> Iterator[IpAddress]:
    """Yield the tunnel ends of the hosts that take part in this host's networks, some more than once."""
    for name in membership.blocks:
        members = (cluster.hosts.get(block.host) for block in cluster.blocks.of(name).values())
        yield from (member.address for member in members if member)


def _lifelines(surroundings: Surroundings) -> frozenset[Lifeline]:
    own = {Lifeline(address, "an address of this host") for address in surroundings.addresses}
    return frozenset(own | {Lifeline(address, "a gateway of this host") for address in surroundings.next_hops})
