"""The IPAM driver: a pool is a family of one of our networks, and an address is held from RequestAddress on.

Docker asks for a pool before it creates the network. An option names the network to IPAM (`--ipam-opt`); Compose cannot
say it, and then the pool is known by its range only, or by one that stands for no address, until the creation of the
network names it.
"""

import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType

from overlayd.agent.attach.addressing import Addressing
from overlayd.agent.attach.request import AttachmentName
from overlayd.agent.docker.docker_networks import RUNTIME, DockerNetworks
from overlayd.agent.holdings.blocks import HeldBlocks
from overlayd.dataplane.desired.endpoint import endpoint_address, gateway_of
from overlayd.model import ids
from overlayd.model.address import Family, IpAddress, IpNetwork, alone, interface
from overlayd.model.errors import InvalidValue, NotFound
from overlayd.model.ids import ContainerId, InterfaceName, NetworkName
from overlayd.model.network import Network
from overlayd.wire.fields import Fields, Json, parse_address, parse_cidr

SPACE = "overlayd"
"""The address space of our pools. One that has another is of Docker's own IPAM driver."""

NETWORK_OPTION = "overlayd.network"

PLACEHOLDERS: Mapping[Family, IpNetwork] = MappingProxyType(
    {Family.V4: IPv4Network("240.0.0.0/8"), Family.V6: IPv6Network("fd6f:7665:726c:6179:2::/80")}
)
"""Where the pools of networks lie that are not named to IPAM in any way; no network of ours can have such addresses."""

_UNNAMED = "="
"""What the id of a pool begins with that was not named to IPAM; its range follows."""

_GATEWAY = "com.docker.network.gateway"
_MAC = "com.docker.network.endpoint.macaddress"
"""An option of RequestAddress for an endpoint. Docker has none for auxiliary addresses and for what it asks again."""

_OPTIONS = frozenset({NETWORK_OPTION})

Call = Callable[[Fields], Awaitable[dict[str, Json]]]


class IpamDriver:
    """Answers the calls of `IpamDriver`. Raises `OverlayError` or `OSError`."""

    def __init__(self, addressing: Addressing, blocks: HeldBlocks, networks: DockerNetworks) -> None:
        self._addressing = addressing
        self._blocks = blocks
        self._networks = networks
        self._asked: dict[IpNetwork, dict[NetworkName, None]] = {}
        self._unnamed = set[IpNetwork]()
        self._replayed = set[tuple[NetworkName, IpAddress]]()

    @property
    def calls(self) -> Mapping[str, Call]:
        """What it answers, by the name of the call."""
        return {
            "GetCapabilities": self._capabilities,
            "GetDefaultAddressSpaces": self._spaces,
            "RequestPool": self._request_pool,
            "ReleasePool": self._release_pool,
            "RequestAddress": self._request_address,
            "ReleaseAddress": self._release_address,
        }

    def begin(self) -> None:
        """Docker has started: it asks for each address that it still knows once more."""
        self._replayed = set(self._addressing.held())

    def asked(self, pool: IpNetwork) -> tuple[NetworkName, ...]:
        """Return for which networks a pool was asked for since the agent's start."""
        return tuple(self._asked.get(pool, ()))

    def to_bind(self, pools: Iterable[IpNetwork], name: NetworkName) -> list[IpNetwork]:
        """Return which pools of a network that is created were asked for without its name.

        Another network of Docker may have asked for the same range by name: that one may be another network of ours.
        """
        return [
            pool
            for pool in pools
            if pool in self._unnamed
            and not (name in self.asked(pool) and self._networks.of_pool(pool) not in {None, name})
        ]

    async def _capabilities(self, _: Fields) -> dict[str, Json]:
        return {"RequiresMACAddress": True, "RequiresRequestReplay": True}

    async def _spaces(self, _: Fields) -> dict[str, Json]:
        return {"LocalDefaultAddressSpace": SPACE, "GlobalDefaultAddressSpace": SPACE}

    async def _request_pool(self, asked: Fields) -> dict[str, Json]:
        options = asked.object("Options") if asked.has("Options") else Fields({})
        if unknown := next((name for name in options.value if name not in _OPTIONS), None):
            raise InvalidValue(f"overlayd knows no option {ids.quoted(unknown)} of IPAM; it has {NETWORK_OPTION}")
        if _text(asked, "SubPool"):
            raise InvalidValue("addresses come from the blocks of each host: --ip-range cannot be given")
        family, given = Family.V6 if asked.flag("V6") else Family.V4, _text(asked, "Pool")
        if not options.has(NETWORK_OPTION):
            unnamed = parse_cidr(given, "Pool") if given else _placeholder(family)
            self._unnamed.add(unnamed)
            return {"PoolID": f"{_UNNAMED}{unnamed}", "Pool": str(unnamed), "Data": {}}
        name = ids.network_name(options.text(NETWORK_OPTION), NETWORK_OPTION)
        async with self._blocks.attaching(name) as network:
            pool = range_for(network, family, given)
        self._asked.setdefault(pool, {})[name] = None
        return {"PoolID": f"{name}/{family.value}", "Pool": str(pool), "Data": {}}

    async def _release_pool(self, asked: Fields) -> dict[str, Json]:
        pool = asked.text("PoolID")
        if pool.startswith(_UNNAMED) and self._networks.of_pool(cidr := parse_cidr(pool[1:], "PoolID")) is None:
            self._unnamed.discard(cidr)  # of a network that was refused
        return {}

    async def _request_address(self, asked: Fields) -> dict[str, Json]:
        pool = asked.text("PoolID")
        options = asked.object("Options") if asked.has("Options") else Fields({})
        is_gateway = options.value.get("RequestAddressType") == _GATEWAY
        if is_gateway and pool.startswith(_UNNAMED):
            return {"Address": _unnamed_gateway(pool, _text(asked, "Address")), "Data": {}}
        name, family = self._pool_id(pool)
        given = _text(asked, "Address")
        wanted = parse_address(given, "Address") if given else None
        if wanted is not None and Family.of(wanted) is not family:
            raise InvalidValue(f"{wanted} is no address of this pool", field="Address")
        if is_gateway:
            return {"Address": await self._gateway(name, family, wanted), "Data": {}}
        if wanted is not None and (name, wanted) in self._replayed:
            self._replayed.discard((name, wanted))
            self._addressing.settle(name, wanted)
            address = wanted
        else:
            holder = AttachmentName(name, ContainerId(RUNTIME), InterfaceName("eth0"), RUNTIME)
            mac = ids.mac_address(options.text(_MAC), _MAC) if options.has(_MAC) else None
            address = await self._addressing.hold(holder, family, wanted, mac)
        return {"Address": str(endpoint_address(self._blocks.network(name), address)), "Data": {}}

    async def _gateway(self, name: NetworkName, family: Family, wanted: IpAddress | None) -> str:
        """Return the network's own gateway, which Docker asks for when it creates a network."""
        async with self._blocks.attaching(name) as network:
            found = own_gateway(network, family)
            if wanted is not None and wanted != found:
                raise InvalidValue(f"the gateway of network {name} is {found}, not {wanted}", field="Address")
            return str(interface(found))

    async def _release_address(self, asked: Fields) -> dict[str, Json]:
        address = parse_address(_text(asked, "Address").partition("/")[0], "Address")
        try:
            name, _ = self._pool_id(asked.text("PoolID"))
        except NotFound:
            return {}  # its network was never created, and no address of it was given
        self._replayed.discard((name, address))
        self._addressing.let_go(name, address)
        return {}

    def _pool_id(self, pool: str) -> tuple[NetworkName, Family]:
        """Return the network and the family of a pool; raise `InvalidValue`, or `NotFound` while it has no network."""
        if pool.startswith(_UNNAMED):
            cidr = parse_cidr(pool.removeprefix(_UNNAMED), "PoolID")
            name = self._networks.of_pool(cidr)
            if name is None:
                raise NotFound(f"no network has said that {cidr} is its pool: name it to IPAM by --ipam-opt, too")
            return name, Family.of(cidr)
        text, _, family = pool.partition("/")
        if family not in {str(each.value) for each in Family}:
            raise InvalidValue(f"{ids.quoted(pool)} is no pool of overlayd", field="PoolID")
        return ids.network_name(text, "PoolID"), Family(int(family))


def own_gateway(network: Network, family: Family) -> IpAddress:
    """Return the gateway of a network, which Docker shows; a segment without egress uses none.

    Raises `InvalidValue` when the network has no range of the family.
    """
    first = range_for(network, family, "")
    return gateway_of(network, first.network_address + 1) or network.link_local_gateway(family)


async def _nothing(_: Fields) -> dict[str, Json]:
    return {}


def range_for(network: Network, family: Family, wanted: str) -> IpNetwork:
    """Return the range of a network that is a pool for Docker: the first of the family, or that which it asks for."""
    ranges = [pool.range for pool in network.pools if pool.family is family]
    if not ranges:
        raise InvalidValue(f"network {network.name} has no IPv{family.value} range", field="V6")
    if not wanted:
        return ranges[0]
    if (cidr := parse_cidr(wanted, "Pool")) not in ranges:
        theirs = ", ".join(map(str, ranges))
        raise InvalidValue(f"{cidr} is no range of network {network.name}, which has {theirs}", field="Pool")
    return cidr


def _placeholder(family: Family) -> IpNetwork:
    """Return a pool that stands for no address, another one each time."""
    whole = PLACEHOLDERS[family]
    return alone(whole.network_address + 1 + secrets.randbelow((1 << 24) - 1))


def _unnamed_gateway(pool: str, wanted: str) -> str:
    """Return the gateway for Docker to show while the pool's network is unknown: the pool's first address."""
    first = parse_cidr(pool.removeprefix(_UNNAMED), "PoolID").network_address
    return str(interface(parse_address(wanted, "Address") if wanted else first))


def _text(fields: Fields, name: str) -> str:
    return fields.text(name) if fields.has(name) else ""
