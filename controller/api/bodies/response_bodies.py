"""The JSON bodies of responses, for the API's documentation, and their construction from records."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from controller.api.http.problem_documents import ProblemDocument
from controller.health.convergence import HostStatus
from overlayd.wire.fields import Json

Next = Annotated[str | None, Field(description="What to pass as `after` for the next page; null: this is the last.")]
AtRevision = Annotated[int, Field(description="The revision of the intent that the answer holds at.", examples=[42])]


class PoolAnswer(BaseModel):
    """A range, and how it is divided among hosts."""

    range: Annotated[str, Field(examples=["10.32.0.0/16"])]
    block_length: Annotated[int, Field(examples=[26])]


class NetworkRecord(BaseModel):
    """A network."""

    name: Annotated[str, Field(examples=["blue"])]
    vni: Annotated[int, Field(examples=[1])]
    topology: Literal["routed", "switched"]
    pools: list[PoolAnswer]
    state: Annotated[
        Literal["active", "deleting"], Field(description="A deleting one waits for hosts to give back their blocks.")
    ]
    reserved: Annotated[list[str], Field(description="Never assigned automatically.", examples=[["10.32.0.0/28"]])]
    uplink: Annotated[
        Literal["auto", "host", "isolated", "none"],
        Field(description="The kind of uplink on each host."),
    ]
    egress: Annotated[bool, Field(description="Whether containers may open connections to outside the network.")]
    ethertypes: Annotated[
        list[str],
        Field(description="EtherTypes that pass on a segment, besides ARP, IPv4 and IPv6.", examples=[["0x88b5"]]),
    ]
    gateway_number: Annotated[
        int,
        Field(description="N of 169.254.1.N and fe80::N, the gateway of a routed network; stays.", examples=[1]),
    ]
    made_by: Annotated[
        str | None,
        Field(description="The id of the host that had it made; null: an administrator made it.", examples=[None]),
    ]


class NetworkAnswer(NetworkRecord):
    """A network as of a revision."""

    revision: AtRevision


class WrittenNetworkAnswer(NetworkAnswer):
    """A network as it was written."""

    warnings: Annotated[list[str], Field(description="What hosts will report of it, one sentence each.")]


class NetworksAnswer(BaseModel):
    """Networks as of a revision."""

    items: list[NetworkRecord]
    next: Next
    revision: AtRevision


class HostRecord(BaseModel):
    """A host."""

    id: Annotated[str, Field(examples=["h-7f3a"])]
    number: Annotated[int, Field(description="Given once, never to another host.", examples=[7])]
    name: Annotated[str, Field(examples=["rack1-07"])]
    address: Annotated[str, Field(examples=["192.0.2.7"])]
    state: Annotated[
        Literal["active", "draining", "forgetting"], Field(description="Only an active one gets anything new.")
    ]


class RegisteredAnswer(HostRecord):
    """A host that has registered, as of a revision."""

    revision: AtRevision
    lineage: Annotated[str | None, Field(description="The lineage of the store, to which revisions belong.")]
    settled: Annotated[bool, Field(description="True: the host must send a statement only if it knew another lineage.")]


class StatementAnswer(BaseModel):
    """Result of a host's statement."""

    disputes: Annotated[list[str], Field(description="One sentence for each thing that it uses and cannot have.")]
    revision: AtRevision


class HostAnswer(HostRecord):
    """A host as of a revision."""

    revision: AtRevision


class ProblemAnswer(BaseModel):
    """An object that a host cannot make true."""

    object: Annotated[str, Field(examples=["network blue"])]
    message: Annotated[str, Field(examples=["UDP port 4789 is taken"])]
    network: Annotated[str | None, Field(description="The affected network; null: any network.", examples=["blue"])]


class HostStatusRecord(HostRecord):
    """A host, whether it is connected, and the state that it reported last."""

    connected: Annotated[bool, Field(description="Whether it has a feed open, at any controller.")]
    applied: Annotated[int | None, Field(description="The revision that its kernel matches.", examples=[42])]
    problems: list[ProblemAnswer]


class HostStatusAnswer(HostStatusRecord):
    """A host and its status as of a revision."""

    revision: AtRevision


class HostStatusesAnswer(BaseModel):
    """Hosts and their status as of a revision."""

    items: list[HostStatusRecord]
    next: Next
    revision: AtRevision


class BlockRecord(BaseModel):
    """The part of a network's range that a host owns."""

    network: Annotated[str, Field(examples=["blue"])]
    cidr: Annotated[str, Field(examples=["10.32.0.0/26"])]
    host: Annotated[str, Field(examples=["h-7f3a"])]


class BlockAnswer(BlockRecord):
    """A block as of a revision."""

    revision: AtRevision


class BlocksAnswer(BaseModel):
    """Blocks as of a revision."""

    items: list[BlockRecord]
    next: Next
    revision: AtRevision


class PodAnswer(BaseModel):
    """The pod that an endpoint belongs to; what its runtime did not tell is empty."""

    namespace: Annotated[str, Field(examples=["shop"])]
    name: Annotated[str, Field(examples=["web-0"])]
    uid: Annotated[str, Field(examples=["2d9c7b1e-5a0f-4c8e-9f33-0a1b2c3d4e5f"])]
    infra_container_id: Annotated[str, Field(examples=["8f2c"])]


class EndpointRecord(BaseModel):
    """An interface of a container in a network."""

    network: Annotated[str, Field(examples=["blue"])]
    container_id: Annotated[str, Field(examples=["8f2c"])]
    interface: Annotated[str, Field(examples=["eth0"])]
    host: Annotated[str, Field(examples=["h-7f3a"])]
    addresses: Annotated[list[str], Field(examples=[["10.32.0.5"]])]
    mac: Annotated[str, Field(examples=["02:5e:10:00:00:05"])]
    sandbox: Annotated[str, Field(examples=["/run/netns/c1"])]
    pod: Annotated[PodAnswer | None, Field(description="The pod of a Kubernetes cluster; null: it is none.")]
    labels: Annotated[dict[str, str], Field(description="Labels that its runtime reports.", examples=[{"app": "web"}])]
    aliases: Annotated[list[str], Field(description="Further names of the container.", examples=[["web"]])]
    runtime: Annotated[
        str,
        Field(
            description="The runtime's interface: cni, docker, netavark or netns; empty: unknown.", examples=["docker"]
        ),
    ]
    workload: Annotated[str, Field(description="What its runtime calls the container.", examples=["web-1"])]
    shares: Annotated[list[str], Field(description="The shared reservations whose addresses the endpoint may use.")]


class EndpointsAnswer(BaseModel):
    """Endpoints as of a revision."""

    items: list[EndpointRecord]
    next: Next
    revision: AtRevision


class RevisionAnswer(BaseModel):
    """That something holds as of a revision."""

    revision: AtRevision


class RefusedEndpoint(BaseModel):
    """An endpoint that is not published, and why."""

    network: Annotated[str, Field(examples=["blue"])]
    container_id: Annotated[str, Field(examples=["8f2c"])]
    interface: Annotated[str, Field(examples=["eth0"])]
    code: Annotated[str, Field(description="As in a problem.", examples=["already-exists"])]
    detail: Annotated[str, Field(description="One sentence.", examples=["there is no network 'blue'"])]
    field: Annotated[str | None, Field(description="The part of the request at fault.", examples=["puts[3].mac"])]


class PublishedAnswer(RevisionAnswer):
    """Result of a publication of endpoints."""

    refused: Annotated[list[RefusedEndpoint], Field(description="The refused endpoints; all others are published.")]


class EndpointSetAnswer(BaseModel):
    """A set of endpoints that has begun."""

    set: Annotated[str, Field(description="Its name at this controller.", examples=["5b7e0c1d00f3a911"])]


class HealthAnswer(RevisionAnswer):
    """A controller that can do its work."""

    status: Literal["ok"]
    awaited: Annotated[
        int | None,
        Field(
            description="Number of hosts whose statement is awaited since the store was restored: until then nothing"
            " new is given out (`GET /v1/hosts` names them). null: no recovery is under way."
        ),
    ] = None


class LagAnswer(BaseModel):
    """A host, and whether it has the revision in force."""

    host: Annotated[str, Field(examples=["h-7f3a"])]
    name: Annotated[str, Field(examples=["rack1-07"])]
    connected: bool
    applied: Annotated[int | None, Field(examples=[41])]
    problems: list[ProblemAnswer]
    lag: Annotated[str | None, Field(description="Why it has not, null if it has.", examples=["at revision 41"])]


class ConvergenceAnswer(RevisionAnswer):
    """On which hosts a revision is in force."""

    in_force: Annotated[int, Field(description="Number of hosts on which the revision is in force.", examples=[2])]
    total: Annotated[int, Field(description="Number of hosts that count.", examples=[3])]
    hosts: list[LagAnswer]


_REFUSALS = {
    401: "The token is not valid, or not any more.",
    404: "What the request names does not exist.",
    409: "Another object has what it asks for, or something still depends on it.",
    410: "What came after that revision is not known any more.",
    412: "The object has changed since it was read (`If-Match`), or exists already (`If-None-Match`).",
    413: "The body has more than 1 MiB.",
    422: "A value breaks a rule; `field` says which one.",
    503: "The store cannot be reached now; the same request may succeed later.",
}


UNCHANGED: dict[int | str, dict[str, object]] = {304: {"description": "It is as the reader knows it."}}

MERGE_PATCH: dict[str, object] = {"requestBody": {"description": "A JSON merge patch (RFC 7396)."}}
"""What a PATCH route documents."""


def refusals(*statuses: int) -> dict[int | str, dict[str, object]]:
    """Return the documentation of a route for these error statuses."""
    return {status: {"model": ProblemDocument, "description": _REFUSALS[status]} for status in statuses}


def heard(status: HostStatus) -> dict[str, Json]:
    """Return the state that a host reported last, and whether it is connected."""
    presence = status.presence
    problems: list[Json] = [
        {"object": problem.object, "message": problem.message, "network": problem.network}
        for problem in (presence.problems if presence else ())
    ]
    if status.is_awaited:
        message = "the store was restored, and this host has yet to say what it uses"
        problems.append({"object": "recovery", "message": message, "network": None})
    return {
        "connected": presence is not None,
        "applied": presence.applied if presence else None,
        "problems": problems,
    }
