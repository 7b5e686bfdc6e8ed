"""What a network is to be that Docker creates, and that the controllers do not have."""

from collections.abc import Iterable

from overlayd.agent.docker.ipam_driver import PLACEHOLDERS
from overlayd.model import ids
from overlayd.model.address import Family, IpNetwork, overlap
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import NetworkName, Vni
from overlayd.model.network import Topology, WantedNetwork
from overlayd.wire.fields import Fields, parse_address

VNI_OPTION, TOPOLOGY_OPTION = "overlayd.vni", "overlayd.topology"

_DIGITS_MAX = 9
"""Of a VNI; the largest one has eight."""


def wanted_network(name: NetworkName, ours: Fields, pools: Iterable[Fields], *, is_internal: bool) -> WantedNetwork:
    """Return the network to create, from the options and pools of a CreateNetwork request.

    Raises `InvalidValue` for a network that cannot be made, before anything is made.
    """
    topology = _topology(ours)
    return WantedNetwork(
        name,
        tuple(_range(name, pool, topology) for pool in pools),
        topology,
        _vni(ours),
        False if is_internal else None,
    )


def _topology(ours: Fields) -> Topology | None:
    if not ours.has(TOPOLOGY_OPTION):
        return None
    given = ours.text(TOPOLOGY_OPTION)
    if given not in list(Topology):
        raise InvalidValue(f"a network is {' or '.join(Topology)}, not {ids.quoted(given)}", field=TOPOLOGY_OPTION)
    return Topology(given)


def _vni(ours: Fields) -> Vni | None:
    if not ours.has(VNI_OPTION):
        return None
    given = ours.text(VNI_OPTION)
    if not (given.isascii() and given.isdecimal() and len(given) <= _DIGITS_MAX):
        raise InvalidValue(f"{ids.quoted(given)} is no VNI", field=VNI_OPTION)
    return ids.vni(int(given))


def _range(name: NetworkName, pool: Fields, topology: Topology | None) -> IpNetwork:
    cidr = pool.cidr("Pool")
    family = Family.of(cidr)
    if overlap(PLACEHOLDERS[family], cidr):
        raise InvalidValue(
            f"there is no network {name}: say its IPv{family.value} range by --subnet if it is to be made, in a compose"
            " file ipam.config.subnet",
            field="Pool",
        )
    given = pool.text("Gateway").partition("/")[0] if pool.has("Gateway") else ""
    own = {cidr.network_address} | ({cidr.network_address + 1} if topology is Topology.SWITCHED else set())
    if given and parse_address(given, "Gateway") not in own:
        raise InvalidValue(
            f"the gateway of network {name} is chosen when it is made: leave out --gateway", field="Gateway"
        )
    return cidr
