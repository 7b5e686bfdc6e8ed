"""Clusters to test with: one example that reads well, and strategies over a small universe.

The universe is small (a few names, two addresses a host) so that two independent draws share most of their keys: a
diff between them adds, changes and removes. Blocks and addresses come from ipam, so they never overlap.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import islice

from hypothesis import strategies as st

from overlayd.dataplane.desired.site import Site
from overlayd.ipam import addresses
from overlayd.ipam.free_blocks import FreeBlocks
from overlayd.model.address import Family, IpAddress
from overlayd.model.bandwidth import Bandwidth, Rate
from overlayd.model.block import Block
from overlayd.model.cluster import Cluster, Record
from overlayd.model.endpoint import Endpoint
from overlayd.model.host import Host
from overlayd.model.ids import (
    ContainerId,
    HostId,
    HostNumber,
    InterfaceName,
    MacAddress,
    NetworkName,
    ReservationName,
    Revision,
    Vni,
)
from overlayd.model.network import Network, NetworkState, Pool, Topology, Uplink
from overlayd.model.published_port import PortMapping, Published, TransportProtocol
from overlayd.model.reservation import Holder, Reservation

HERE = HostId("host-1")
"""The host whose dataplane is looked at."""

NETWORK_NAMES = ("blue", "green", "red")
HOST_COUNT = 5
_RANGES = ("10.32.0.0/16", "10.32.0.0/24", "10.64.0.0/20", "172.20.0.0/16")
"""Two of them overlap: networks are isolated, and may use the same addresses."""

_RANGES6 = ("fd00:32::/48", "fd00:64::/64")
_UNDERLAYS = ("192.0.2.{}", "192.0.2.{}", "198.51.100.{}", "2001:db8::{}")
_BLOCK_LENGTHS = (26, 28, 29)
_MTUS = (1450, 1500, 9000)
_CONTAINERS = 6


@dataclass(frozen=True, slots=True)
class Scene:
    """All that `resolve` asks for: what the feed says, what holds on this host, and its own endpoints."""

    cluster: Cluster
    site: Site
    endpoints: tuple[Endpoint, ...]


def network(
    name: str = "blue", topology: Topology = Topology.ROUTED, cidr: str = "10.32.0.0/16", block_length: int = 24
) -> Network:
    """Return a network without an uplink; its VNI follows from its name."""
    vni = 100 + NETWORK_NAMES.index(name) if name in NETWORK_NAMES else 99
    pools = (Pool(ip_network(cidr), block_length),)
    return Network(NetworkName(name), Vni(vni), topology, pools, uplink=Uplink.NONE)


def host(number: int, address: str | None = None) -> Host:
    """Return host `number`, which is ``host-<number>``, by default at 192.0.2.<number>."""
    where = ip_address(address or f"192.0.2.{number}")
    return Host(HostId(f"host-{number}"), HostNumber(number), f"node-{number}", where)


def block(number: int, cidr: str, name: str = "blue") -> Block:
    """Return a block of host `number`."""
    return Block(NetworkName(name), ip_network(cidr), HostId(f"host-{number}"))


def endpoint(number: int, container: str, address: str, name: str = "blue", interface: str = "eth0") -> Endpoint:
    """Return an endpoint on host `number`, with one address or, with a comma between them, two.

    Its MAC follows from the end of the first one, to be recognised in a listing.
    """
    addresses = tuple(ip_address(each) for each in address.split(","))
    return Endpoint(
        network=NetworkName(name),
        container_id=ContainerId(container),
        interface=InterfaceName(interface),
        host=HostId(f"host-{number}"),
        addresses=addresses,
        mac=MacAddress("02:00:" + addresses[0].packed[-4:].hex(":")),
        sandbox=f"/run/netns/{container}",
    )


def cluster(records: Iterable[Record], revision: int = 1) -> Cluster:
    """Return the cluster of these records."""
    return Cluster().changed(Revision(revision), records)


def example(topology: Topology, *endpoints: Endpoint) -> Cluster:
    """Return network `blue` on hosts 1, 2 and 3, with a block each, and these endpoints."""
    hosts = [host(number) for number in (1, 2, 3)]
    held = [block(number, f"10.32.{number - 1}.0/24") for number in (1, 2, 3)]
    return cluster([network(topology=topology), *hosts, *held, *endpoints])


def dual(topology: Topology, *endpoints: Endpoint) -> Cluster:
    """Return the example with an IPv6 range beside, of which each host has a block too."""
    both = network(topology=topology)
    pools = (*both.pools, Pool(IPv6Network("fd00:32::/48"), 64))
    held = [block(number, f"fd00:32:0:{number - 1}::/64") for number in (1, 2, 3)]
    return example(topology, *endpoints).changed(Revision(1), [replace(both, pools=pools), *held])


def reservation(name: str, address: str, holder: Endpoint | None = None, network_name: str = "blue") -> Reservation:
    """Return a reservation of one address or, with a comma between them, two."""
    return Reservation(
        NetworkName(network_name),
        ReservationName(name),
        tuple(ip_address(each) for each in address.split(",")),
        holder=Holder.of(holder.key) if holder else None,
    )


def site(underlay_mtu: int = 1500, underlay: Family = Family.V4) -> Site:
    """Return the facts of host 1 on which its desired state depends."""
    return Site(HERE, underlay, underlay_mtu, 4789)


def networks(names: Sequence[str] = NETWORK_NAMES) -> st.SearchStrategy[Network]:
    """Networks with one of these names; the VNI follows from the name."""
    first = st.builds(Pool, st.sampled_from(_RANGES).map(IPv4Network), st.sampled_from(_BLOCK_LENGTHS))
    second = st.builds(Pool, st.sampled_from(_RANGES6).map(IPv6Network), st.just(112))
    return st.builds(
        lambda name, topology, pools, state, uplink, egress: Network(
            name=NetworkName(name),
            vni=Vni(100 + names.index(name)),
            topology=topology,
            pools=pools,
            state=state,
            uplink=uplink,
            egress=egress,
        ),
        st.sampled_from(names),
        st.sampled_from(Topology),
        st.one_of(st.tuples(first), st.tuples(second), st.tuples(first, second)),
        st.sampled_from([NetworkState.ACTIVE, NetworkState.ACTIVE, NetworkState.DELETING]),
        st.sampled_from(Uplink),
        st.booleans(),
    )


def network_sets() -> st.SearchStrategy[tuple[Network, ...]]:
    """None to all of the networks, each at most once."""
    return st.lists(networks(), unique_by=lambda made: made.name, max_size=len(NETWORK_NAMES)).map(tuple)


def hosts(numbers: Sequence[int] = tuple(range(1, HOST_COUNT + 1))) -> st.SearchStrategy[Host]:
    """One of these hosts, at one of the underlay addresses that it may have, one of them over IPv6."""
    return st.builds(
        lambda number, address: host(number, address.format(number)),
        st.sampled_from(numbers),
        st.sampled_from(_UNDERLAYS),
    )


def host_sets() -> st.SearchStrategy[tuple[Host, ...]]:
    """Host 1 and none to all of the others."""
    others = st.lists(hosts(range(2, HOST_COUNT + 1)), unique_by=lambda made: made.id, max_size=HOST_COUNT - 1)
    return st.tuples(hosts([1]), others).map(lambda pair: (pair[0], *pair[1]))


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """Clusters with host 1: networks, hosts, about two blocks a host and network, and endpoints in them."""
    members = draw(host_sets())
    records: list[Record] = [*members]
    attached: list[Endpoint] = []
    for made in draw(network_sets()):
        held: list[Block] = []
        for pool in made.pools:
            owners = draw(st.lists(st.sampled_from(members), max_size=min(2 * len(members), pool.capacity)))
            free = FreeBlocks(made, pool).free()
            held += [Block(made.name, cidr, owner.id) for owner, cidr in zip(owners, free, strict=False)]
        records += [made, *held]
        for where in draw(st.lists(st.sampled_from(held), max_size=4)) if held else []:
            attached += _attached(draw, made, _with_other_family(where, held), attached)
    return cluster([*records, *attached], draw(st.integers(1, 1000)))


@st.composite
def local_endpoints(draw: st.DrawFn, known: Cluster, owner: HostId = HERE) -> tuple[Endpoint, ...]:
    """The endpoints that the cluster already has on a host, less some, and some that no controller knows of yet."""
    there = list(known.endpoints.values())
    local = [one for one in there if one.host == owner and draw(st.booleans())]
    for made in known.networks.values():
        held = known.blocks_of(made.name, owner)
        for where in draw(st.lists(st.sampled_from(held), max_size=3)) if held else []:
            new = _attached(draw, made, _with_other_family(where, held), there)
            there += new
            local += new
    return tuple(local)


def sites(known: Cluster) -> st.SearchStrategy[Site]:
    """What may hold on host 1 of a cluster."""
    underlay = Family.of(known.hosts[HERE].address)
    return st.builds(
        Site,
        st.just(HERE),
        st.just(underlay),
        st.sampled_from(_MTUS),
        st.just(4789),
        software_checksums=st.booleans(),
    )


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Host 1 in a cluster, with ports that lead to some of its endpoints, and limits on some."""
    known = draw(clusters())
    local = draw(local_endpoints(known))
    here = replace(
        draw(sites(known)),
        published=tuple(
            Published(each.network, each.addresses, PortMapping(TransportProtocol.TCP, 8000 + number, 80))
            for number, each in enumerate(local)
            if draw(st.booleans())
        ),
        bandwidths=tuple((each, Bandwidth(Rate(8_000_000, 0))) for each in local if draw(st.booleans())),
    )
    return Scene(known, here, local)


def _with_other_family(where: Block, held: Iterable[Block]) -> tuple[Block, ...]:
    """Return a block, and one of the other family that its host holds beside it, if there is one."""
    others = (block for block in held if block.host == where.host and block.family is not where.family)
    return (where, *islice(others, 1))


def _attached(draw: st.DrawFn, to: Network, where: Sequence[Block], others: Iterable[Endpoint]) -> list[Endpoint]:
    """Return one more endpoint in these blocks, or none when one is full or the container cannot join.

    A container has one sandbox, with an interface for each of its networks; as the agent would have it, it is in one
    network at most where ranges overlap.
    """
    there, owner = list(others), where[0].host
    container = ContainerId(f"{owner}-container-{draw(st.integers(1, _CONTAINERS))}")
    joined = [other for other in there if other.container_id == container]
    taken = {address for other in there if other.network == to.name for address in other.addresses}
    full = any(
        len([address for address in taken if address in block.cidr]) == addresses.usable(to, block) for block in where
    )
    if full or any(_may_overlap(address, to) for other in joined for address in other.addresses):
        return []
    chosen = tuple(addresses.free_address(to, [block], taken) for block in where)
    tail = draw(st.integers(0, 255)).to_bytes(1, "big") + chosen[0].packed[-4:]
    return [
        Endpoint(
            network=to.name,
            container_id=container,
            interface=InterfaceName(f"eth{NETWORK_NAMES.index(to.name)}"),
            host=owner,
            addresses=tuple(sorted(chosen, key=Family.of)),
            mac=MacAddress(f"02:{tail.hex(':')}"),
            sandbox=f"/run/netns/{container}",
        )
    ]


def _may_overlap(address: IpAddress, other: Network) -> bool:
    """Return whether the range of an address may overlap a network's: ours differ in the first 16 bits or overlap.

    All IPv6 ranges are taken to overlap, as they begin alike.
    """
    return any(address in pool.range.supernet(new_prefix=16) for pool in other.pools)
