"""The network driver: an endpoint is attached when a container joins, and Docker moves its interface there."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

from overlayd.agent.attach.attachments import Attachments
from overlayd.agent.attach.request import AttachmentName, AttachRequest, AttachResult
from overlayd.agent.docker.docker_networks import RUNTIME, DockerNetworks
from overlayd.agent.docker.intended_addresses import IntendedAddresses
from overlayd.agent.docker.ipam_driver import NETWORK_OPTION, PLACEHOLDERS, SPACE, IpamDriver, own_gateway, range_for
from overlayd.agent.docker.network_wishes import TOPOLOGY_OPTION, VNI_OPTION, wanted_network
from overlayd.agent.docker.published_ports import PortChoice, wanted_ports
from overlayd.agent.holdings.blocks import HeldBlocks
from overlayd.dataplane import ownership
from overlayd.dataplane.desired.endpoint import ranges
from overlayd.model import ids
from overlayd.model.address import Family, IpAddress, IpNetwork, alone, overlap
from overlayd.model.endpoint import Workload
from overlayd.model.errors import InvalidValue, NotFound
from overlayd.model.ids import ContainerId, InterfaceName, MacAddress, NetworkName, ReservationName
from overlayd.model.network import Network, Topology, WantedNetwork
from overlayd.wire.fields import Fields, Json, parse_address

_log = structlog.get_logger(__name__)

_NETWORK_OPTIONS = (NETWORK_OPTION, VNI_OPTION, TOPOLOGY_OPTION)
_RESERVATION_OPTION = "overlayd.reservation"
_DOCKERS = "com.docker.network."
"""What the names of Docker's own options begin with."""

_GENERIC, _INTERNAL = f"{_DOCKERS}generic", f"{_DOCKERS}internal"
_CREATED_MAX = 4096
"""Endpoints that are created and that no container has joined yet: Docker creates one just before."""

_VIA, _CONNECTED = 0, 1
"""Kinds of routes (moby, libnetwork/types: NEXTHOP, CONNECTED)."""

Call = Callable[[Fields], Awaitable[dict[str, Json]]]


@dataclass(frozen=True, slots=True)
class _Created:
    """What CreateEndpoint says, for the Join that follows."""

    network: NetworkName
    addresses: tuple[IpAddress, ...]
    mac: MacAddress | None
    reservations: tuple[ReservationName, ...]


class NetworkDriver:
    """Answers the calls of `NetworkDriver`. Raises `OverlayError` or `OSError`."""

    def __init__(  # noqa: PLR0913, PLR0917 - each is a part that it translates to
        self,
        attachments: Attachments,
        blocks: HeldBlocks,
        networks: DockerNetworks,
        ipam: IpamDriver,
        intended: IntendedAddresses,
        choice: PortChoice,
    ) -> None:
        self._attachments = attachments
        self._blocks = blocks
        self._networks = networks
        self._ipam = ipam
        self._intended = intended
        self._choice = choice
        self._created: dict[str, _Created] = {}

    @property
    def calls(self) -> Mapping[str, Call]:
        """What it answers, by the name of the call."""
        return {
            "GetCapabilities": self._capabilities,
            "GwAllocCheck": self._skip_gateways,
            "CreateNetwork": self._create_network,
            "DeleteNetwork": self._delete_network,
            "CreateEndpoint": self._create_endpoint,
            "DeleteEndpoint": self._delete_endpoint,
            "EndpointOperInfo": self._endpoint_info,
            "Join": self._join,
            "Leave": self._leave,
            "ProgramExternalConnectivity": self._publish,
            "RevokeExternalConnectivity": self._revoke,
            "DiscoverNew": _nothing,
            "DiscoverDelete": _nothing,
        }

    async def _capabilities(self, _: Fields) -> dict[str, Json]:
        return {"Scope": "local", "ConnectivityScope": "global", "GwAllocChecker": True}

    async def _skip_gateways(self, _: Fields) -> dict[str, Json]:
        return {"SkipIPv4": True, "SkipIPv6": True}

    async def _create_network(self, asked: Fields) -> dict[str, Json]:
        options = asked.object("Options") if asked.has("Options") else Fields({})
        ours = options.object(_GENERIC) if options.has(_GENERIC) else Fields({})
        if unknown := next((name for name in ours.value if name not in _NETWORK_OPTIONS), None):
            known = ", ".join(_NETWORK_OPTIONS)
            raise InvalidValue(f"overlayd knows no option {ids.quoted(unknown)} of a network; it has {known}")
        pools = [pool for key in ("IPv4Data", "IPv6Data") for pool in (asked.objects(key) if asked.has(key) else ())]
        if not pools or any(pool.text("AddressSpace") != SPACE for pool in pools):
            raise InvalidValue(
                "the addresses must be those of overlayd: --ipam-driver overlayd, in a compose file ipam.driver"
            )
        ranges_of = [pool.cidr("Pool") for pool in pools]
        name, is_internal = self._wanted_network(ours, ranges_of), options.flag(_INTERNAL)
        docker_id, bound = asked.text("NetworkID"), self._ipam.to_bind(ranges_of, name)
        self._networks.check(docker_id, name, bound)
        try:
            await self._check_network(name, ours, pools, is_internal=is_internal)
        except NotFound as missing:
            if not ours.has(NETWORK_OPTION):
                raise
            await self._make(wanted_network(name, ours, pools, is_internal=is_internal), missing)
            await self._check_network(name, ours, pools, is_internal=is_internal)
        self._networks.put(docker_id, name, bound)
        return {}

    async def _check_network(self, name: NetworkName, ours: Fields, pools: list[Fields], *, is_internal: bool) -> None:
        """Raise `NotFound` when there is no such network, `InvalidValue` when it is not what its creation says."""
        async with self._blocks.attaching(name) as network:
            _check(network, ours, is_internal=is_internal)
            for pool in pools:
                _check_pool(network, pool)

    async def _make(self, wanted: WantedNetwork, missing: NotFound) -> None:
        """Have a network made, where hosts may; raise `missing` at a controller that is older than that."""
        try:
            await self._blocks.want(wanted)
        except NotFound:
            raise missing from None
        _log.info("had a network made for Docker", network=wanted.name)

    def _wanted_network(self, ours: Fields, pools: list[IpNetwork]) -> NetworkName:
        """Return the network that is named to the driver, or for which its pools were asked for; all must agree."""
        said = [set(self._ipam.asked(pool)) for pool in pools]
        by_pools = set.intersection(*said)
        if ours.has(NETWORK_OPTION):
            name = ids.network_name(ours.text(NETWORK_OPTION), NETWORK_OPTION)
            if any(said) and name not in by_pools:
                theirs = ", ".join(sorted(set[NetworkName]().union(*said)))
                raise InvalidValue(f"the addresses are of network {theirs}, and the driver is to use {name}")
            return name
        if len(by_pools) == 1:
            return by_pools.pop()
        raise InvalidValue(
            f"say which network it is: --opt {NETWORK_OPTION}=NAME, in a compose file driver_opts.{NETWORK_OPTION}"
        )

    async def _delete_network(self, asked: Fields) -> dict[str, Json]:
        self._networks.remove(asked.text("NetworkID"))
        return {}

    async def _create_endpoint(self, asked: Fields) -> dict[str, Json]:
        name = self._networks.name(asked.text("NetworkID"))
        endpoint = ids.container_id(asked.text("EndpointID"), "EndpointID")
        options = asked.object("Options") if asked.has("Options") else Fields({})
        own = {key for key in options.value if not key.startswith(_DOCKERS)}
        if unknown := next(iter(sorted(own - {_RESERVATION_OPTION})), None):
            raise InvalidValue(
                f"overlayd knows no option {ids.quoted(unknown)} of an endpoint; it has {_RESERVATION_OPTION}"
            )
        interface = asked.object("Interface") if asked.has("Interface") else Fields({})
        given = (interface.text(key) for key in ("Address", "AddressIPv6") if interface.has(key))
        addresses = tuple(parse_address(each.partition("/")[0], "Interface") for each in given if each)
        given_mac = interface.text("MacAddress") if interface.has("MacAddress") else ""
        mac = ids.workload_mac(given_mac, "MacAddress") if given_mac else None
        reserved = (ids.reservation_name(options.text(_RESERVATION_OPTION), _RESERVATION_OPTION),) if own else ()
        self._intended.created(name, addresses, mac)
        self._created.pop(endpoint, None)
        while len(self._created) >= _CREATED_MAX:
            del self._created[next(iter(self._created))]
        self._created[endpoint] = _Created(name, addresses, mac, reserved)
        return {"Interface": {}}

    async def _join(self, asked: Fields) -> dict[str, Json]:
        attached = self._named(asked)
        created = self._created.get(attached.container_id)
        if created is None or created.network != attached.network:
            raise NotFound("the agent has restarted since this endpoint was created: start the container again")
        request = AttachRequest(
            attached,
            asked.text("SandboxKey"),
            addresses=created.addresses,
            reservations=created.reservations,
            mac=created.mac,
            workload=Workload(runtime=RUNTIME),
            is_handed_over=True,
        )
        made = await self._attachments.attach(request)
        self._created.pop(attached.container_id, None)
        return _joined(self._blocks.network(attached.network), made)

    async def _leave(self, asked: Fields) -> dict[str, Json]:
        await self._attachments.detach(self._named(asked))
        return {}

    async def _delete_endpoint(self, asked: Fields) -> dict[str, Json]:
        self._created.pop(asked.text("EndpointID"), None)
        return await self._leave(asked)

    async def _endpoint_info(self, asked: Fields) -> dict[str, Json]:
        self._named(asked)
        return {"Value": {}}

    async def _publish(self, asked: Fields) -> dict[str, Json]:
        wanted = wanted_ports(asked)
        with self._choice.chosen(wanted) as ports:
            await self._attachments.publish(self._named(asked), ports)
        return {}

    async def _revoke(self, asked: Fields) -> dict[str, Json]:
        attached = self._named(asked)
        if self._attachments.find(attached):
            await self._attachments.publish(attached, ())
        return {}

    def _named(self, asked: Fields) -> AttachmentName:
        endpoint = ids.container_id(asked.text("EndpointID"), "EndpointID")
        return AttachmentName(self._networks.name(asked.text("NetworkID")), endpoint, _device(endpoint), RUNTIME)


async def _nothing(_: Fields) -> dict[str, Json]:
    return {}


def _device(endpoint: ContainerId) -> InterfaceName:
    """Return the name of an endpoint's interface until Docker moves and renames it."""
    return InterfaceName(f"{ownership.HANDED_PREFIX}{hashlib.blake2s(endpoint.encode(), digest_size=6).hexdigest()}")


def _check(network: Network, ours: Fields, *, is_internal: bool) -> None:
    """Raise `InvalidValue` when a network is not what its creation in Docker says."""
    if ours.has(VNI_OPTION) and ours.text(VNI_OPTION) != str(network.vni):
        raise InvalidValue(f"network {network.name} has VNI {network.vni}, not {ids.quoted(ours.text(VNI_OPTION))}")
    if ours.has(TOPOLOGY_OPTION) and ours.text(TOPOLOGY_OPTION) != network.topology:
        raise InvalidValue(
            f"network {network.name} is {network.topology}, not {ids.quoted(ours.text(TOPOLOGY_OPTION))}"
        )
    if is_internal and network.has_egress:
        raise InvalidValue(
            f"network {network.name} lets containers out, which --internal forbids: overlayctl network set"
            f" {network.name} --no-egress"
        )


def _check_pool(network: Network, pool: Fields) -> None:
    """Raise `InvalidValue` when a pool is no range of a network, or has another gateway than that."""
    cidr = pool.cidr("Pool")
    family = Family.of(cidr)
    range_for(network, family, "" if overlap(PLACEHOLDERS[family], cidr) else str(cidr))
    given = pool.text("Gateway").partition("/")[0] if pool.has("Gateway") else ""
    gateway = own_gateway(network, family)
    if given and parse_address(given, "Gateway") not in {gateway, cidr.network_address}:
        raise InvalidValue(f"the gateway of network {network.name} is {gateway}, not {given}", field="Gateway")


def _joined(network: Network, made: AttachResult) -> dict[str, Json]:
    """Return the answer to a Join: how the interface is called, and where its routes lead."""
    answer: dict[str, Json] = {"InterfaceName": {"SrcName": made.endpoint.interface, "DstPrefix": "eth"}}
    routes: list[Json] = []
    for given in made.addresses:
        family = Family.of(given.interface.ip)
        if given.gateway is None:
            continue
        if network.topology is Topology.ROUTED:
            routes.append({"Destination": str(alone(given.gateway)), "RouteType": _CONNECTED, "NextHop": ""})
            routes += (
                {"Destination": str(whole), "RouteType": _VIA, "NextHop": str(given.gateway)}
                for whole in ranges(network, family)
            )
        if network.has_egress:
            answer["Gateway" if family is Family.V4 else "GatewayIPv6"] = str(given.gateway)
    if not network.has_egress:
        answer["DisableGatewayService"] = True
    return answer | {"StaticRoutes": routes}
