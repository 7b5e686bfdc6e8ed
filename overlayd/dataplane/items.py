"""Items: the entries of the kernel's tables as frozen values, keyed as the kernel keys them.

Desired and observed state are sets of items in one canonical form, so that a set difference is the diff. An item names
its network namespace by the path of the namespace file; the *network namespaces* below `/run/netns/ov-` are ours
alone, any other path is the *sandbox* of a workload.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from overlayd.model.address import IpAddress, IpInterface, IpNetwork
from overlayd.model.ids import InterfaceName, MacAddress, NetworkName, Vni

NamespaceRef = NewType("NamespaceRef", str)
"""The absolute path of a network namespace file."""

NETWORK_NAMESPACES = "/run/netns/ov-"
HOST = NamespaceRef("/proc/thread-self/ns/net")
"""The host's own namespace, as the thread that uses the kernel sees it."""

BUCKET_TICK = 64
"""Nanoseconds: the kernel's unit of a token bucket's depth (net/pkt_sched.h: PSCHED_SHIFT)."""

FLOOD = MacAddress("00:00:00:00:00:00")
"""The MAC of the VXLAN driver's default entries, which receive broadcast and multicast (linux/vxlan: all_zeros_mac)."""


def network_namespace(network: NetworkName) -> NamespaceRef:
    """Return the namespace of a network, the same on every host."""
    return NamespaceRef(NETWORK_NAMESPACES + network)


@dataclass(frozen=True, slots=True)
class Namespace:
    """The namespace of a network, with the sysctls (dotted name, value) that differ from the kernel's defaults."""

    ns: NamespaceRef
    sysctls: frozenset[tuple[str, str]]

    @property
    def key(self) -> tuple[object, ...]:
        """Kind and path."""
        return (Namespace, self.ns)


@dataclass(frozen=True, slots=True)
class Loopback:
    """The device `lo`, which every namespace has. Adding it means setting it up."""


@dataclass(frozen=True, slots=True)
class Vxlan:
    """A VXLAN device without learning (linux/if_link.h: IFLA_VXLAN_*).

    Its UDP socket belongs to the host's namespace, as the device is created from there; port is in host byte order.
    """

    vni: Vni
    local: IpAddress
    port: int


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge without spanning tree and without multicast snooping."""


@dataclass(frozen=True, slots=True)
class VethPeer:
    """The sandbox's end of a veth pair, as it is created together with the host's end."""

    ns: NamespaceRef
    name: InterfaceName
    mac: MacAddress


@dataclass(frozen=True, slots=True)
class Veth:
    """One end of a veth pair. `peer` is set on the host's end, which is the one that is created and deleted.

    `peer` is ignored in comparisons, because the kernel does not report the path of the peer's namespace.
    """

    peer: VethPeer | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Other:
    """A device with one of our names that is not ours and has to be replaced. `what` describes it in texts."""

    what: str


LinkKind = Loopback | Vxlan | Bridge | Veth | Other


@dataclass(frozen=True, slots=True)
class BridgePort:
    """The flags of a bridge's port (linux/if_link.h: IFLA_BRPORT_LEARNING, _UNICAST_FLOOD, _NEIGH_SUPPRESS)."""

    master: InterfaceName
    learning: bool
    unicast_flood: bool
    neigh_suppress: bool


@dataclass(frozen=True, slots=True)
class Link:
    """A device. `mac` and `mtu` (bytes) are None for the loopback only; `port` is None outside a bridge.

    `alias` (IFLA_IFALIAS) is set on the host's ends of containers' veth pairs only.
    """

    ns: NamespaceRef
    name: InterfaceName
    kind: LinkKind
    mac: MacAddress | None
    mtu: int | None
    up: bool = True
    port: BridgePort | None = None
    alias: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        """Kind, namespace and name."""
        return (Link, self.ns, self.name)


@dataclass(frozen=True, slots=True)
class DeviceSysctls:
    """Sysctls below ``net.ipv6.conf`` of one device in a sandbox, as name and value. The others there are foreign."""

    ns: NamespaceRef
    dev: InterfaceName
    sysctls: frozenset[tuple[str, str]]

    @property
    def key(self) -> tuple[object, ...]:
        """Kind, namespace and device."""
        return (DeviceSysctls, self.ns, self.dev)


@dataclass(frozen=True, slots=True)
class SoftwareChecksums:
    """A device without checksum and segmentation offload, for an underlay device that cannot do these for VXLAN."""

    ns: NamespaceRef
    dev: InterfaceName

    @property
    def key(self) -> tuple[object, ...]:
        """Kind, namespace and device."""
        return (SoftwareChecksums, self.ns, self.dev)


@dataclass(frozen=True, slots=True)
class Address:
    """An address of a device, with its prefix length."""

    ns: NamespaceRef
    dev: InterfaceName
    address: IpInterface

    @property
    def key(self) -> tuple[object, ...]:
        """Kind, namespace, device and address."""
        return (Address, self.ns, self.dev, self.address)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A permanent neighbour: overlay address → inner MAC."""

    ns: NamespaceRef
    dev: InterfaceName
    address: IpAddress
    mac: MacAddress

    @property
    def key(self) -> tuple[object, ...]:
        """Kind, namespace, device and address: the kernel's neighbour table key."""
        return (Neighbour, self.ns, self.dev, self.address)


@dataclass(frozen=True, slots=True)
class FdbEntry:
    """An entry of the VXLAN device's own table: inner MAC → VTEP address (``bridge fdb … self``)."""

    ns: NamespaceRef
    dev: InterfaceName
    mac: MacAddress
    dst: IpAddress

    @property
    def key(self) -> tuple[object, ...]:
        """Kind, namespace, device and MAC; also the VTEP for flood entries, of which several have the same MAC."""
        return (FdbEntry, self.ns, self.dev, self.mac, self.dst if self.mac == FLOOD else None)


@dataclass(frozen=True, slots=True)
class BridgeEntry:
    """A static entry of a bridge's table: MAC → port (``bridge fdb … master static``).

    With the bridge itself as the device the MAC is local: such frames go to the host (``… self permanent``).
    """

    ns: NamespaceRef
    bridge: InterfaceName
    mac: MacAddress
    dev: InterfaceName

    @property
    def key(self) -> tuple[object, ...]:
        """Kind, namespace, bridge and MAC."""
        return (BridgeEntry, self.ns, self.bridge, self.mac)


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the main table.

    With `via` it is an on-link next hop on `dev`, with `dev` alone a directly reachable destination, and with neither
    an *unreachable* route. `metric` is part of the kernel's key. It is never 0 over IPv6, where the kernel
    takes 0 for 1024.
    """

    ns: NamespaceRef
    dst: IpNetwork
    dev: InterfaceName | None
    via: IpAddress | None
    metric: int

    @property
    def key(self) -> tuple[object, ...]:
        """Kind, namespace, destination and metric."""
        return (Route, self.ns, self.dst, self.metric)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket at the root of a device, which limits what the device sends to `rate` bytes per second.

    `depth` is the size of the bucket, in ticks of `BUCKET_TICK` at that rate; `limit` is that of the queue in bytes.
    """

    ns: NamespaceRef
    dev: InterfaceName
    rate: int
    depth: int
    limit: int

    @property
    def key(self) -> tuple[object, ...]:
        """Kind, namespace and device."""
        return (RateLimit, self.ns, self.dev)


@dataclass(frozen=True, slots=True)
class SourceGuard:
    """A filter at the host's end of a veth pair that admits packets from this MAC and these addresses only.

    Frames of these `ethertypes` pass with any content.
    """

    ns: NamespaceRef
    dev: InterfaceName
    mac: MacAddress
    addresses: frozenset[IpAddress]
    ethertypes: frozenset[int] = frozenset()

    @property
    def key(self) -> tuple[object, ...]:
        """Kind, namespace and device."""
        return (SourceGuard, self.ns, self.dev)


@dataclass(frozen=True, slots=True)
class Sysctl:
    """A sysctl of the host's own namespace, by its dotted name. It is never reset, because others may rely on it."""

    ns: NamespaceRef
    name: str
    value: str

    @property
    def key(self) -> tuple[object, ...]:
        """Kind, namespace and name."""
        return (Sysctl, self.ns, self.name)


class NftFamily(StrEnum):
    """The family of an nftables table: IP packets of both versions, or the frames that a bridge forwards."""

    INET = "inet"
    BRIDGE = "bridge"


@dataclass(frozen=True, slots=True)
class NftTable:
    """An nftables table, always replaced as a whole. `text` is the input of ``nft -f``."""

    ns: NamespaceRef
    family: NftFamily
    name: str
    text: str

    @property
    def key(self) -> tuple[object, ...]:
        """Kind, namespace, family and name."""
        return (NftTable, self.ns, self.family, self.name)


Item = (
    Namespace
    | Link
    | DeviceSysctls
    | SoftwareChecksums
    | Address
    | Neighbour
    | FdbEntry
    | BridgeEntry
    | Route
    | NftTable
    | Sysctl
    | RateLimit
    | SourceGuard
)


State = frozenset[Item]
"""Desired or observed: a set of items, at most one for each key."""
