"""The JSON bodies of requests. They check types only; the model checks values."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from controller.state.host_presence import HostProblem
from overlayd.ipam.blocks import default_block_length
from overlayd.model import ids
from overlayd.model.address import IpNetwork
from overlayd.model.endpoint import COUNT_MAX, SHARES_MAX, Endpoint, EndpointKey
from overlayd.model.ids import HostId
from overlayd.model.lineage import Statement
from overlayd.model.network import ETHERTYPES_MAX, POOLS_MAX, RESERVED_MAX, Pool, Topology, WantedNetwork
from overlayd.wire import records, statement
from overlayd.wire.fields import Fields, parse_cidr, parse_ethertype, parse_part
from overlayd.wire.problem_limit import foremost

ENDPOINTS_MAX = 10_000
"""How many endpoints one request may name."""

_TEXT_MAX = 500

Instance = Annotated[
    str,
    Field(
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="A random string that the agent draws when it starts.",
        examples=["5b7e0c1d"],
    ),
]
NetworkName = Annotated[str, Field(description="The network's name.", examples=["blue"])]
Cidr = Annotated[str, Field(description="A range of addresses, without host bits.", examples=["10.32.0.0/26"])]


UplinkChoice = Annotated[
    Literal["auto", "host", "isolated", "none"],
    Field(
        description="How the network is connected to each host: host makes the host a member of the network, isolated "
        "translates addresses only, none connects nothing. auto is host where the ranges are not in use otherwise."
    ),
]
Egress = Annotated[bool, Field(description="Whether containers may open connections to outside the network.")]
Reserved = Annotated[
    list[str],
    Field(
        max_length=RESERVED_MAX,
        description="Ranges and addresses that are never chosen automatically: for reservations, or for other uses.",
        examples=[["10.32.0.0/28"]],
    ),
]


class AdminBody(BaseModel):
    """A body from a person or a program: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", strict=True)


class AgentBody(BaseModel):
    """A body from an agent: unknown fields, as a newer agent may send, are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)


class PoolBody(AdminBody):
    """A range, and how it is divided among hosts."""

    range: Annotated[str, Field(description="Addresses in CIDR form.", examples=["10.32.0.0/16"])]
    block_length: Annotated[
        int | None,
        Field(description="Prefix length of a host's block; 26, or longer for a small range.", examples=[26]),
    ] = None

    def pool(self, path: str, known: Sequence[Pool] = ()) -> Pool:
        """Return the pool at `path` of the body; an existing one keeps its block length. Raises `InvalidValue`."""
        whole = parse_cidr(self.range, f"{path}.range")
        length = next((pool.block_length for pool in known if pool.range == whole), default_block_length(whole))
        return Fields({}, path).build(lambda: Pool(whole, length if self.block_length is None else self.block_length))


def pools_of(bodies: Sequence[PoolBody], known: Sequence[Pool] = ()) -> tuple[Pool, ...]:
    """Return the pools at ``pools`` of a body; raise `InvalidValue`."""
    return tuple(pool.pool(f"pools[{index}]", known) for index, pool in enumerate(bodies))


def reserved_of(texts: Sequence[str]) -> tuple[IpNetwork, ...]:
    """Return the ranges at ``reserved`` of a body; raise `InvalidValue`."""
    return tuple(parse_part(text, f"reserved[{index}]") for index, text in enumerate(texts))


def ethertypes_of(texts: Sequence[str]) -> tuple[int, ...]:
    """Return the EtherTypes at ``ethertypes`` of a body; raise `InvalidValue`."""
    return tuple(parse_ethertype(text, f"ethertypes[{index}]") for index, text in enumerate(texts))


Ethertypes = Annotated[
    list[str],
    Field(
        max_length=ETHERTYPES_MAX,
        description="EtherTypes that pass on a switched network, besides ARP, IPv4 and IPv6; no VLAN tags.",
        examples=[["0x88b5"]],
    ),
]


class NetworkDefinition(AdminBody):
    """What a network is to be."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"pools": [{"range": "10.32.0.0/16"}]}]})

    pools: Annotated[
        list[PoolBody],
        Field(max_length=POOLS_MAX, description="Of either family. Hosts get blocks of the first that has a free one."),
    ]
    reserved: Reserved = []
    vni: Annotated[int | None, Field(description="1 to 16777215; the lowest free one by default.", examples=[100])] = (
        None
    )
    topology: Annotated[
        Literal["routed", "switched"],
        Field(description="Forward by address between hosts, or as one layer-2 segment."),
    ] = "routed"
    uplink: UplinkChoice = "auto"
    egress: Egress = True
    ethertypes: Ethertypes = []


class NetworkBody(NetworkDefinition):
    """A network to be made."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "blue", "pools": [{"range": "10.32.0.0/16"}]}]})

    name: Annotated[
        str,
        Field(description="1 to 63 letters, digits, '_', '.', '-'; starts with a letter or digit.", examples=["blue"]),
    ]


class WantedNetworkBody(AdminBody):
    """What a host wants a network to be, whether or not it exists; null: it does not matter, or the default."""

    ranges: Annotated[
        list[str],
        Field(
            max_length=POOLS_MAX,
            description="Ranges that it has; of one that is made, all.",
            examples=[["10.32.0.0/16"]],
        ),
    ]
    topology: Literal["routed", "switched"] | None = None
    vni: Annotated[int | None, Field(description="1 to 16777215.", examples=[100])] = None
    egress: Annotated[
        bool | None, Field(description="Whether containers may open connections to outside the network.")
    ] = None

    def wanted(self, name: str) -> WantedNetwork:
        """Return the network that the request wants; raise `InvalidValue`."""
        return WantedNetwork(
            ids.network_name(name),
            tuple(parse_cidr(cidr, f"ranges[{index}]") for index, cidr in enumerate(self.ranges)),
            None if self.topology is None else Topology(self.topology),
            None if self.vni is None else ids.vni(self.vni),
            self.egress,
        )


class NetworkPatch(AdminBody):
    """What changes of a network (RFC 7396)."""

    pools: Annotated[
        list[PoolBody],
        Field(
            default_factory=list,
            max_length=POOLS_MAX,
            description="All ranges. They can be added at any time, and removed while nothing in them is in use.",
        ),
    ]
    reserved: Reserved = []
    uplink: UplinkChoice = "auto"
    egress: Egress = True
    ethertypes: Ethertypes = []


class HostBody(AgentBody):
    """What a host says of itself."""

    name: Annotated[str, Field(description="A name for people.", examples=["rack1-07"])]
    address: Annotated[str, Field(description="Its VTEP's underlay address, of either family.", examples=["192.0.2.7"])]
    instance: Instance
    number: Annotated[
        int | None, Field(description="The host number that it had, which it gets again from a restored store.")
    ] = None
    lineage: Annotated[str | None, Field(description="The lineage of the store that it knew last.")] = None
    revision: Annotated[int, Field(ge=0, description="The revision of that lineage that it knew.", examples=[42])] = 0


class StatementBody(AgentBody):
    """What a host uses."""

    knew: Annotated[str | None, Field(description="The lineage of the store that it knew; null: it does not know.")] = (
        None
    )
    revision: Annotated[int, Field(ge=0, description="The revision of that lineage that it knew.", examples=[42])]
    networks: Annotated[list[dict[str, object]], Field(description="The names and VNIs of networks that it knows.")]
    blocks: Annotated[list[dict[str, object]], Field(description="The blocks of all hosts in them.")]
    addresses: Annotated[
        list[dict[str, object]], Field(description="Addresses of its containers that lie in no block of its own.")
    ]
    reservations: Annotated[list[dict[str, object]], Field(description="The reservations that its containers hold.")]

    def statement(self) -> Statement:
        """Return the statement; raise `InvalidValue`."""
        return statement.decode(Fields(self.model_dump()))


class HostPatch(AdminBody):
    """What changes of a host (RFC 7396)."""

    state: Annotated[
        Literal["active", "draining"],
        Field(description="A draining host gets no new blocks and containers.", examples=["draining"]),
    ]


class AcquireBody(AgentBody):
    """A host that wants a block."""

    host: Annotated[str, Field(description="The host's id.", examples=["h-7f3a"])]
    family: Annotated[
        Literal[4, 6] | None,
        Field(description="The IP version of the block; agents before 0.2, which know IPv4 only, leave it out."),
    ] = None
    held: Annotated[
        list[str],
        Field(max_length=1000, description="The blocks of this network that the host knows it has.", examples=[[]]),
    ] = []

    def held_blocks(self) -> list[IpNetwork]:
        return [parse_cidr(cidr, f"held[{index}]") for index, cidr in enumerate(self.held)]


class EndpointKeyBody(AgentBody):
    """The name of an endpoint."""

    network: NetworkName
    container_id: Annotated[str, Field(description="The runtime's id of the container.", examples=["8f2c"])]
    interface: Annotated[str, Field(description="The interface inside the container.", examples=["eth0"])]

    def endpoint_key(self, host: HostId, path: str) -> EndpointKey:
        """Return the key of an endpoint of a host, at `path` of the body; raise `InvalidValue`."""
        return Fields({}, path).build(
            lambda: (
                ids.network_name(self.network, "network"),
                host,
                ids.container_id(self.container_id),
                ids.interface_name(self.interface),
            )
        )


class PodBody(AgentBody):
    """The pod that an endpoint belongs to; what its runtime did not tell is empty."""

    namespace: Annotated[str, Field(examples=["shop"])] = ""
    name: Annotated[str, Field(examples=["web-0"])] = ""
    uid: Annotated[str, Field(examples=["2d9c7b1e-5a0f-4c8e-9f33-0a1b2c3d4e5f"])] = ""
    infra_container_id: Annotated[str, Field(examples=["8f2c"])] = ""


Shares = Annotated[
    list[str],
    Field(
        max_length=SHARES_MAX,
        description="The shared reservations whose addresses the endpoint may use.",
        examples=[["gateway"]],
    ),
]


class EndpointBody(EndpointKeyBody):
    """An endpoint."""

    addresses: Annotated[
        list[str],
        Field(
            max_length=2, description="At most one of each family, of blocks the host owns.", examples=[["10.32.0.5"]]
        ),
    ] = []
    address: Annotated[
        str | None, Field(description="The only address, as agents before 0.2 write it.", deprecated=True)
    ] = None
    mac: Annotated[str, Field(description="The container's MAC address.", examples=["02:5e:10:00:00:05"])]
    sandbox: Annotated[
        str, Field(max_length=4096, description="Its network namespace on the host.", examples=["/run/netns/c1"])
    ]
    host: Annotated[str | None, Field(description="The host's id; the one in the path by default.")] = None
    pod: Annotated[PodBody | None, Field(description="The pod of a Kubernetes cluster, if it is one.")] = None
    labels: Annotated[
        dict[str, str],
        Field(max_length=COUNT_MAX, description="Labels that its runtime reports.", examples=[{"app": "web"}]),
    ] = {}
    aliases: Annotated[
        list[str], Field(max_length=COUNT_MAX, description="Further names of the container.", examples=[["web"]])
    ] = []
    runtime: Annotated[
        str, Field(description="The runtime's interface: cni, docker, netavark or netns.", examples=["docker"])
    ] = ""
    workload: Annotated[str, Field(description="What its runtime calls the container.", examples=["web-1"])] = ""
    shares: Shares = []

    def endpoint(self, host: HostId, path: str) -> Endpoint:
        """Return the endpoint at `path` of the body; raise `InvalidValue`."""
        return records.decode_endpoint(Fields({**self.model_dump(), "host": self.host or host}, path))


class PublishBody(AgentBody):
    """Changes of a host's endpoints."""

    puts: Annotated[
        list[EndpointBody], Field(max_length=ENDPOINTS_MAX, description="Endpoints to add or replace.")
    ] = []
    deletes: Annotated[list[EndpointKeyBody], Field(max_length=ENDPOINTS_MAX, description="Endpoints to remove.")] = []


class EndpointsBody(AgentBody):
    """All endpoints of a host."""

    endpoints: Annotated[list[EndpointBody], Field(max_length=ENDPOINTS_MAX, description="All endpoints of the host.")]


class EndpointSetBody(AgentBody):
    """A set of all endpoints of a host that comes in parts."""

    count: Annotated[int, Field(ge=0, description="How many endpoints all parts have.", examples=[12000])]


class ProblemBody(AgentBody):
    """An object that a host cannot make true."""

    object: Annotated[str, Field(description="Which one.", examples=["network blue"])]
    message: Annotated[str, Field(description="Why.", examples=["UDP port 4789 is taken"])]
    network: Annotated[str | None, Field(description="The affected network; null: any network.", examples=["blue"])] = (
        None
    )


class ReportBody(AgentBody):
    """What a host has made true."""

    instance: Instance
    revision: Annotated[int, Field(ge=0, description="The revision that its kernel matches.", examples=[42])]
    problems: Annotated[
        list[ProblemBody], Field(description="Objects that it cannot bring into force; at most 100 are kept.")
    ] = []

    def kept(self) -> tuple[HostProblem, ...]:
        """Return the problems to keep, limited in number and length: a report is never refused for its size."""
        return tuple(
            HostProblem(
                problem.object[:_TEXT_MAX],
                problem.message[:_TEXT_MAX],
                None if problem.network is None else ids.network_name(problem.network, f"problems[{index}].network"),
            )
            for index, problem in foremost(enumerate(self.problems), lambda numbered: numbered[1].network)
        )
