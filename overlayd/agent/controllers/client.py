"""The agent's side of the controller's API."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import blake2s
from itertools import chain
from urllib.parse import urlencode

from overlayd.agent.controllers.credential import Credential, Identity
from overlayd.agent.controllers.problem import Problem
from overlayd.agent.http.fault import HttpFault
from overlayd.agent.http.http_client import HttpClient, HttpRequest, Patience
from overlayd.agent.http.response_reader import HttpResponse
from overlayd.model.address import Family, IpAddress, IpNetwork
from overlayd.model.block import Block
from overlayd.model.cluster import Cluster
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.errors import NotFound, OverlayError, Unavailable
from overlayd.model.host import Host
from overlayd.model.ids import HostId, NetworkName, Revision
from overlayd.model.lineage import Lineage, Statement, parse_lineage
from overlayd.model.network import Network, WantedNetwork
from overlayd.model.reservation import Holder, Reservation
from overlayd.wire import problem, records, refusals, statement
from overlayd.wire.feed import FEED_VERSION, FeedMessage, decode_line
from overlayd.wire.fields import Fields, Json
from overlayd.wire.problem_limit import foremost

FEED_SILENCE = 8.0
"""Seconds without a line after which a feed counts as dead; a controller sends a bookmark every 3 s (5 s in 0.1)."""

_PROBE_PATIENCE = Patience(2.0, 3.0)
"""How long a controller has to say that it is ready; one that is takes milliseconds."""

_CONNECT = 2.0
"""Seconds until there is a connection to a controller, with name look-up and TLS."""

_PATIENCE, _SET_PATIENCE = 10.0, 60.0
"""Seconds that a controller has for each part of its answer; it writes a set of ten thousand endpoints in two hundred
transactions."""

PART_MAX = 500
"""Endpoints in one part."""

PART_BYTES_MAX = 512 * 1024
"""Bytes of the endpoints of one part; the controller refuses bodies above 1 MiB."""


class Controllers:
    """URLs, the one in use first. A task that finds that it does not work moves the whole agent to the next one."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = [url.rstrip("/") for url in urls]

    @classmethod
    def for_host(cls, urls: Sequence[str], host: HostId) -> "Controllers":
        """Begin at a URL that the host's id determines, so that many hosts spread over all controllers."""
        start = int.from_bytes(blake2s(host.encode(), digest_size=4).digest(), "big") % len(urls)
        return cls([*urls[start:], *urls[:start]])

    @property
    def current(self) -> str:
        """The URL of the controller in use."""
        return self._urls[0]

    @property
    def order(self) -> tuple[str, ...]:
        """All URLs, in the order in which to try them."""
        return tuple(self._urls)

    def leave(self, url: str) -> None:
        """Use the next one from now on, unless another task left this one already."""
        if url == self.current:
            self._urls.append(self._urls.pop(0))

    def use(self, url: str) -> None:
        """Use this one from now on."""
        while url != self.current:
            self._urls.append(self._urls.pop(0))


@dataclass(frozen=True, slots=True)
class _Addressees:
    """The URLs of the controllers to which one request goes in turn, and how many seconds each has to answer."""

    urls: Sequence[str]
    patience: float = _PATIENCE


@dataclass(frozen=True, slots=True)
class Registered:
    """A host as the controllers have it, and the lineage of their store, None where they are older than lineages.

    While it is not settled, every host must state what it uses.
    """

    host: Host
    lineage: Lineage | None
    settled: bool


class ControllerClient:
    """Uses one controller at a time, and the next one when it cannot be reached or cannot reach its store.

    Every method may be called again after an answer was lost. It raises the `OverlayError` that the controller
    answered, or `Unavailable` when none can do what is asked.
    """

    def __init__(self, controllers: Controllers, identity: Identity, credential: Credential | None) -> None:
        self._controllers = controllers
        self._followed = controllers.current
        self._identity = identity
        self._token = credential.token if credential else None
        # Without a credential every URL is without TLS.
        trust = credential.trust if credential else None
        self._http = HttpClient(trust.context(), trust.server_name) if trust else HttpClient(None)

    @property
    def host(self) -> HostId:
        """The host for which this client makes requests."""
        return self._identity.id

    @property
    def followed(self) -> str:
        """The controller from which the feed comes, or was last requested."""
        return self._followed

    async def close(self) -> None:
        """Close every connection."""
        self._http.renew()
        await asyncio.sleep(0)  # the event loop closes them

    def renew(self) -> None:
        """Make new connections from now on: the present ones have a source address that this host may have lost.

        Requests that still wait for an answer time out.
        """
        self._http.renew()

    def leave_followed(self) -> None:
        """Let the next feed come from another controller."""
        self._controllers.leave(self._followed)

    async def find_ready(self) -> bool:
        """Let the next feed come from another controller that can reach its store; return whether there is one."""
        for url in self._controllers.order:
            if url != self._followed and await self._is_ready(url):
                self._controllers.use(url)
                return True
        return False

    async def register(self, name: str, address: IpAddress, known: Cluster) -> Registered:
        """Register this host with its VTEP address, and the lineage and revision up to which it knows the cluster."""
        self._followed = self._controllers.current
        body: dict[str, Json] = {"name": name, "address": str(address), "instance": self._identity.instance}
        if known.lineage is not None:
            host = known.hosts.get(self._identity.id)
            number = host.number if host else None
            body |= {"lineage": str(known.lineage), "revision": known.revision, "number": number}
        answer = await self._call("PUT", f"/v1/hosts/{self._identity.id}", body)
        if not answer.has("lineage"):
            return Registered(records.decode_host(answer), None, settled=True)
        lineage = parse_lineage(answer.text("lineage"), answer.at("lineage"))
        return Registered(records.decode_host(answer), lineage, answer.flag("settled"))

    async def state(self, said: Statement) -> list[str]:
        """State what this host uses; return which of it the controllers dispute."""
        path = f"/v1/hosts/{self._identity.id}/statement"
        return (await self._call("PUT", path, statement.encode(said))).texts("disputes")

    async def acquire_block(self, network: NetworkName, held: Iterable[IpNetwork], family: Family) -> Block:
        """Request a block of a family in addition to those in `held`; repeating the request gives the same block."""
        body: Json = {"host": self._identity.id, "family": family, "held": [str(cidr) for cidr in held]}
        return records.decode_block(await self._call("POST", f"/v1/networks/{network}/blocks", body))

    async def network(self, name: NetworkName) -> Network:
        """Return a network as it is defined, whether or not this host takes part in it; raise `NotFound`."""
        return records.decode_network(await self._call("GET", f"/v1/networks/{name}"))

    async def want_network(self, wanted: WantedNetwork) -> Network:
        """Return the network that is wanted; it is made if it is missing and this host may make one.

        Raises `AlreadyExists` when there is one that contradicts it, `Forbidden` or `Exhausted` when this host may make
        none (any more), `NotFound` without a field at a controller of an earlier release.
        """
        body: Json = {
            "ranges": [str(cidr) for cidr in wanted.ranges],
            "topology": None if wanted.topology is None else wanted.topology.value,
            "vni": wanted.vni,
            "egress": wanted.egress,
        }
        return records.decode_network(await self._call("PUT", f"{self._place}/networks/{wanted.name}", body))

    async def free_blocks(self, network: NetworkName, family: Family) -> int:
        """Return how many blocks of a family this host can still get in a network."""
        answer = await self._call("GET", f"/v1/networks/{network}/capacity")
        supplies = [each for each in answer.objects("families") if each.number("family") == family]
        return sum(each.number("total") - each.number("taken") for each in supplies)

    async def release_block(self, block: Block) -> None:
        """Give a block back."""
        path = f"/v1/networks/{block.network}/blocks/{block.cidr}"
        await self._call("DELETE", path, params={"host": self._identity.id})

    async def claim_reservation(self, reservation: Reservation, holder: Holder) -> Revision:
        """Claim a reservation, also from another holder; return a revision at which it is claimed."""
        answer = await self._call("POST", f"{_path_of(reservation)}/claim", _encode_holder(holder))
        return Revision(answer.number("revision"))

    async def release_reservation(self, reservation: Reservation, holder: Holder) -> None:
        """Release a reservation; does nothing when this holder does not have it (any more)."""
        await self._call("POST", f"{_path_of(reservation)}/release", _encode_holder(holder))

    async def publish(
        self, puts: Iterable[Endpoint], deletes: Iterable[EndpointKey]
    ) -> dict[EndpointKey, OverlayError]:
        """Publish added and removed endpoints, at most one part; return the refused ones with the reasons."""
        body: Json = {
            "puts": [records.encode(endpoint) for endpoint in puts],
            "deletes": [
                {"network": network, "container_id": container, "interface": interface}
                for network, _, container, interface in deletes
            ],
        }
        return self._refused(await self._call("POST", f"{self._place}/endpoints", body))

    async def replace_endpoints(self, endpoints: Iterable[Endpoint]) -> dict[EndpointKey, OverlayError]:
        """Publish all endpoints of this host; the controllers remove any other endpoint that they have of it.

        Returns the refused ones with the reasons. They are replaced at once when all parts have arrived.
        """
        parts = list(in_parts(endpoints))
        if len(parts) <= 1:
            return await self._replace_at_once(parts)
        count: Json = {"count": sum(map(len, parts))}
        try:
            url, begun = await self._answered("POST", f"{self._place}/endpoint-sets", count)
        except NotFound as error:
            if error.field is not None:
                raise
            return await self._replace_at_once(parts)  # a controller of an earlier release has no such path
        # The set is at the controller that answered alone.
        at = (url,)
        place = f"{self._place}/endpoint-sets/{begun.text('set')}"
        try:
            for number, part in enumerate(parts):
                await self._call("PUT", f"{place}/parts/{number}", _encode_part(part), at=_Addressees(at))
            return self._refused(await self._call("POST", f"{place}/publish", at=_Addressees(at, _SET_PATIENCE)))
        except NotFound as error:
            raise Unavailable(f"the controller at {at[0]} has lost the endpoints that came so far: {error}") from None

    async def _replace_at_once(self, parts: Iterable[Iterable[Endpoint]]) -> dict[EndpointKey, OverlayError]:
        return self._refused(await self._call("PUT", f"{self._place}/endpoints", _encode_part(chain(*parts))))

    @property
    def _place(self) -> str:
        return f"/v1/hosts/{self._identity.id}"

    def _refused(self, answer: Fields) -> dict[EndpointKey, OverlayError]:
        return refusals.decode(answer, self._identity.id)

    async def report(self, revision: Revision, problems: Iterable[Problem]) -> None:
        """Report to the controller that sends the feed which revision the kernel matches, except for these problems."""
        body: Json = {
            "instance": self._identity.instance,
            "revision": revision,
            "problems": [
                {"object": problem.object, "message": problem.message, "network": problem.network}
                for problem in foremost(problems, lambda problem: problem.network)
            ],
        }
        path = f"/v1/hosts/{self._identity.id}/report"
        await self._call("POST", path, body, at=_Addressees((self._followed,)))

    async def feed(self, after: Revision | None, lineage: Lineage | None = None) -> AsyncGenerator[FeedMessage, None]:
        """Follow the feed, resumed after a revision or from a snapshot; ends or raises when the stream breaks.

        `lineage` is the lineage of the revision, for controllers that ask for it.
        """
        params = {"host": self._identity.id, "instance": self._identity.instance, "version": str(FEED_VERSION)}
        if after is not None:
            params["after"] = str(after)
            if lineage is not None:
                params["lineage"] = str(lineage)
        url = self._followed = self._controllers.current
        request = HttpRequest("GET", url, f"/v1/feed?{urlencode(params)}", self._headers(url))
        try:
            async with self._http.stream(request, Patience(_CONNECT, FEED_SILENCE)) as stream:
                if not stream.is_success:
                    response = await stream.whole()
                    raise problem.decode(response.status, response.body)
                async with aclosing(stream.lines(FEED_SILENCE)) as lines:
                    async for line in lines:
                        yield decode_line(line)
        except HttpFault as fault:
            raise Unavailable(f"the feed from {url} broke: {fault}") from fault

    async def _call(
        self,
        method: str,
        path: str,
        body: Json = None,
        params: dict[str, str] | None = None,
        at: "_Addressees | None" = None,
    ) -> Fields:
        """Return the first answer, asking these controllers (default: all) in turn."""
        return (await self._answered(method, path, body, params, at))[1]

    async def _answered(
        self,
        method: str,
        path: str,
        body: Json = None,
        params: dict[str, str] | None = None,
        at: "_Addressees | None" = None,
    ) -> tuple[str, Fields]:
        """Do as `_call`; return whose answer it is, too: another task may have gone to another controller since."""
        failures = []
        asked = at or _Addressees(self._controllers.order)
        target = f"{path}?{urlencode(params)}" if params else path
        content = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        for url in asked.urls:
            request = HttpRequest(method, url, target, self._headers(url), content)
            try:
                response = await self._http.request(request, Patience(_CONNECT, asked.patience))
            except HttpFault as fault:
                failures.append(f"{url}: {fault}")
            else:
                if response.is_success:
                    return url, _body(response, url)
                refusal = problem.decode(response.status, response.body)
                if not isinstance(refusal, Unavailable):
                    raise refusal
                failures.append(f"{url}: {refusal}")
            self._controllers.leave(url)
        raise Unavailable("no controller can do it now: " + "; ".join(failures))

    async def _is_ready(self, url: str) -> bool:
        try:
            answer = await self._http.request(HttpRequest("GET", url, "/readyz"), _PROBE_PATIENCE)
        except HttpFault:
            return False
        return answer.is_success

    def _headers(self, url: str) -> dict[str, str]:
        """Return the headers that authenticate this host; a token is never sent without TLS."""
        if self._token is None or not url.startswith("https://"):
            return {}
        return {"Authorization": f"Bearer {self._token.text}"}


def in_parts(endpoints: Iterable[Endpoint]) -> Iterator[list[Endpoint]]:
    """Yield these endpoints in parts, in their order; one that is larger than a part comes alone."""
    part: list[Endpoint] = []
    size = 0
    for endpoint in endpoints:
        length = len(json.dumps(records.encode(endpoint)))
        if part and (len(part) == PART_MAX or size + length > PART_BYTES_MAX):
            yield part
            part, size = [], 0
        part.append(endpoint)
        size += length
    if part:
        yield part


def _path_of(reservation: Reservation) -> str:
    return f"/v1/networks/{reservation.network}/reservations/{reservation.name}"


def _encode_part(endpoints: Iterable[Endpoint]) -> Json:
    return {"endpoints": [records.encode(endpoint) for endpoint in endpoints]}


def _encode_holder(holder: Holder) -> Json:
    return {"host": holder.host, "container_id": holder.container_id, "interface": holder.interface}


def _body(response: HttpResponse, url: str) -> Fields:
    try:
        return Fields(json.loads(response.body or b"{}"))
    except (ValueError, RecursionError):
        raise Unavailable(f"{url} answered {response.status} without JSON") from None
