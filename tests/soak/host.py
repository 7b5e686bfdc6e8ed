"""A simulated host: it follows its feed as an agent does, and does what agents and administrators do."""

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, TypeVar

from overlayd.agent.controllers.claims import Claims
from overlayd.agent.controllers.client import ControllerClient, Controllers
from overlayd.agent.controllers.credential import Identity
from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.controllers.own_address import OwnAddress
from overlayd.model.address import Family, IpAddress
from overlayd.model.block import Block
from overlayd.model.cluster import Cluster, Record, RecordKey
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import OverlayError
from overlayd.model.ids import ContainerId, HostId, InterfaceName, MacAddress, NetworkName, ReservationName, Revision
from overlayd.model.network import Network
from overlayd.model.reservation import Reservation
from overlayd.wire import records, refusals
from tests.soak.calls import Answer, Calls
from tests.soak.verdict import Acknowledged

if TYPE_CHECKING:
    from overlayd.wire.fields import Json

R = TypeVar("R", Block, Endpoint, Network, Reservation)

BLOCKS_MAX = 2
"""How many blocks a host has of one family in one network, at most."""

_ENDPOINTS_MAX = 12
_RESERVATIONS_MAX = 3
_NETWORKS_MAX = 2
_BATCH = 4


@dataclass(frozen=True, slots=True)
class Shared:
    """What all hosts use: networks with the families of their ranges, and names of reservations that they claim."""

    networks: Mapping[NetworkName, tuple[Family, ...]]
    wanted: tuple[tuple[NetworkName, ReservationName], ...]


@dataclass
class Notes:
    """What a client knows: every acknowledged write, and the last state of what only it writes (None: deleted)."""

    acknowledged: list[Acknowledged] = field(default_factory=list)
    mine: dict[RecordKey, Record | None] = field(default_factory=dict)

    def answered(self, answer: Answer, *found: Record, mine: bool = True) -> None:
        """Note that records are so as of the answer's revision."""
        revision = Revision(answer.body.number("revision"))
        for record in found:
            self.acknowledged.append(Acknowledged(revision, record))
            if mine:
                self.mine[RecordKey.of(record)] = record

    def gone(self, *keys: RecordKey) -> None:
        for key in keys:
            self.mine[key] = None


class SimulatedHost:
    """One host. Only it uses its id, its containers, and the networks and reservations that have its name."""

    def __init__(self, number: int, shared: Shared, calls: Calls, controllers: Controllers, seed: int) -> None:
        self.id = HostId(f"soak-{number:03}")
        self.notes = Notes()
        self.feed: ClusterFeed | None = None
        self._number = number
        self._address = IPv4Address("10.200.0.0") + number
        self._shared = shared
        self._calls = calls
        self._controllers = controllers
        self._chance = random.Random(seed)
        self._made = 0
        self._following: asyncio.Task[None] | None = None
        self._client: ControllerClient | None = None
        self._name = f"host {number}"

    async def run(self, pause: float, stop: asyncio.Event) -> None:
        """Work until it is stopped, with one action every `pause` seconds on average."""
        await self._start_anew()
        while not stop.is_set():
            action, *_ = self._chance.choices(*zip(*self._actions(), strict=True))
            await action()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._chance.uniform(0, 2 * pause)):
                    await stop.wait()

    async def end(self) -> None:
        """Hang up."""
        if self._following and self._client:
            self._following.cancel()
            await asyncio.wait([self._following])
            await self._client.close()

    def _actions(self) -> Iterator[tuple[Callable[[], Awaitable[None]], int]]:
        yield self._acquire, 12
        yield self._release, 8
        yield self._publish, 25
        yield self._unpublish, 15
        yield self._replace, 3
        yield self._rename, 3
        yield self._report, 10
        yield self._start_anew, 1
        yield self._create_network, 3
        yield self._delete_network, 3
        yield self._reserve, 5
        yield self._unreserve, 4
        yield self._take, 8

    async def _start_anew(self) -> None:
        """Be an agent that starts: another instance, which follows its feed from what it knew."""
        await self.end()
        identity = Identity(self.id, secrets.token_hex(8))
        self._client = ControllerClient(self._controllers, identity, None)
        self.feed = ClusterFeed(
            self._client,
            self.feed.cluster if self.feed else Cluster(),
            Claims(self._client, tuple, Cluster(), lambda _kept: None),
        )
        following = self.feed.run(self._name, OwnAddress(self._address, ()).current)
        self._following = asyncio.create_task(following, name=f"feed of {self.id}")
        self._instance = identity.instance
        await self._rename()

    async def _rename(self) -> None:
        self._name = f"host {self._number} as of {self._next()}"
        body: Json = {"name": self._name, "address": str(self._address), "instance": self._instance}
        answer = await self._calls.ask("register", "PUT", f"/v1/hosts/{self.id}", body)
        if answer.is_done:
            # The feed registers with the name that it began with, whenever it connects.
            self.notes.answered(answer, records.decode_host(answer.body), mine=False)

    async def _report(self) -> None:
        if self._client and self.feed and self.feed.in_sync:
            with suppress(OverlayError):  # its controller may have gone this moment; the next report comes
                await self._client.report(self.feed.cluster.revision, [])

    async def _acquire(self) -> None:
        network = self._chance.choice(list(self._shared.networks))
        family = self._chance.choice(self._shared.networks[network])
        held = [block for block in self._own(Block) if (block.network, block.family) == (network, family)]
        if len(held) >= BLOCKS_MAX:
            return
        body: Json = {"host": self.id, "family": int(family), "held": [str(block.cidr) for block in held]}
        answer = await self._calls.ask("acquire block", "POST", f"/v1/networks/{network}/blocks", body)
        if answer.is_done:
            self.notes.answered(answer, records.decode_block(answer.body))

    async def _release(self) -> None:
        used = [endpoint.addresses for endpoint in self._own(Endpoint)]
        free = [
            block
            for block in self._own(Block)
            if not any(each in block.cidr for addresses in used for each in addresses)
        ]
        if not free:
            return
        block = self._chance.choice(free)
        path = f"/v1/networks/{block.network}/blocks/{block.cidr}"
        if (await self._calls.ask("release block", "DELETE", path, params={"host": self.id})).is_done:
            self.notes.gone(RecordKey.of(block))

    async def _publish(self) -> None:
        blocks, endpoints = self._own(Block), self._own(Endpoint)
        if not blocks or len(endpoints) >= _ENDPOINTS_MAX:
            return
        taken = {(each.network, address) for each in endpoints for address in each.addresses}
        puts: list[Endpoint] = []
        for _ in range(self._chance.randint(1, _BATCH)):
            block = self._chance.choice(blocks)
            address = block.cidr[self._chance.randint(4, 50)]
            if (block.network, address) not in taken:
                taken.add((block.network, address))
                puts.append(self._endpoint(block.network, ContainerId(f"{self.id}-{self._next()}"), address))
        await self._put("publish", puts, mine=True)

    async def _put(self, what: str, puts: list[Endpoint], *, mine: bool) -> None:
        body: Json = {"puts": [records.encode(endpoint) for endpoint in puts]}
        answer = await self._calls.ask(what, "POST", f"/v1/hosts/{self.id}/endpoints", body)
        if answer.is_done:
            refused = refusals.decode(answer.body, self.id)
            self.notes.answered(answer, *(endpoint for endpoint in puts if endpoint.key not in refused), mine=mine)

    async def _unpublish(self) -> None:
        endpoints = self._own(Endpoint)
        going = self._chance.sample(endpoints, min(len(endpoints), self._chance.randint(1, _BATCH)))
        keys: list[Json] = [
            {"network": each.network, "container_id": each.container_id, "interface": each.interface} for each in going
        ]
        answer = await self._calls.ask("unpublish", "POST", f"/v1/hosts/{self.id}/endpoints", {"deletes": keys})
        if answer.is_done:
            self.notes.gone(*(RecordKey.of(endpoint) for endpoint in going))

    async def _replace(self) -> None:
        whole = self._own(Endpoint)
        body: Json = {"endpoints": [records.encode(endpoint) for endpoint in whole]}
        answer = await self._calls.ask("replace endpoints", "PUT", f"/v1/hosts/{self.id}/endpoints", body)
        if answer.is_done:
            refused = refusals.decode(answer.body, self.id)
            self.notes.answered(answer, *(endpoint for endpoint in whole if endpoint.key not in refused))
            self.notes.gone(*(RecordKey.of(endpoint) for endpoint in whole if endpoint.key in refused))

    async def _create_network(self) -> None:
        if len(self._own(Network)) >= _NETWORKS_MAX:
            return
        name = NetworkName(f"n{self._number}-{self._next()}")
        body: Json = {"name": name, "pools": [{"range": "10.99.0.0/16"}]}
        answer = await self._calls.ask("create network", "POST", "/v1/networks", body)
        if answer.field == "name":  # made by an attempt whose answer was lost
            answer = await self._calls.ask("read network", "GET", f"/v1/networks/{name}")
        if answer.is_done:
            self.notes.answered(answer, records.decode_network(answer.body))

    async def _delete_network(self) -> None:
        for network in self._own(Network)[:1]:
            answer = await self._calls.ask("delete network", "DELETE", f"/v1/networks/{network.name}")
            if answer.is_done or answer.status == 404:
                self.notes.gone(RecordKey.of(network))

    async def _reserve(self) -> None:
        if len(self._own(Reservation)) >= _RESERVATIONS_MAX:
            return
        network, name = self._chance.choice(list(self._shared.networks)), f"r{self._number}-{self._next()}"
        path = f"/v1/networks/{network}/reservations"
        answer = await self._calls.ask("reserve", "POST", path, {"name": name})
        if answer.field == "name":  # made by an attempt whose answer was lost
            answer = await self._calls.ask("read reservation", "GET", f"{path}/{name}")
        if answer.is_done:
            self.notes.answered(answer, records.decode_reservation(answer.body))

    async def _unreserve(self) -> None:
        for found in self._own(Reservation)[:1]:
            path = f"/v1/networks/{found.network}/reservations/{found.name}"
            answer = await self._calls.ask("delete reservation", "DELETE", path)
            if answer.is_done or answer.status == 404:
                self.notes.gone(RecordKey.of(found))

    async def _take(self) -> None:
        """Claim a reservation that others want too, use its addresses, and perhaps let go of it."""
        network, name = self._chance.choice(self._shared.wanted)
        container = ContainerId(f"{self.id}-{name}")
        path = f"/v1/networks/{network}/reservations/{name}"
        holder: Json = {"host": self.id, "container_id": container, "interface": "eth0"}
        answer = await self._calls.ask("claim", "POST", f"{path}/claim", holder)
        if not answer.is_done:
            return
        reservation = records.decode_reservation(answer.body)
        self.notes.answered(answer, reservation, mine=False)
        await self._put("publish claimed", [self._endpoint(network, container, *reservation.addresses)], mine=False)
        if self._chance.random() < 0.5:
            released = await self._calls.ask("release claim", "POST", f"{path}/release", holder)
            if released.is_done:
                self.notes.answered(released, records.decode_reservation(released.body), mine=False)

    def _own(self, kind: type[R]) -> list[R]:
        return [record for record in self.notes.mine.values() if isinstance(record, kind)]

    def _endpoint(self, network: NetworkName, container: ContainerId, *addresses: IpAddress) -> Endpoint:
        mac = MacAddress(f"02:{self._chance.randbytes(5).hex(':')}")
        sandbox = f"/run/netns/{container}"
        return Endpoint(network, container, InterfaceName("eth0"), self.id, addresses, mac, sandbox)

    def _next(self) -> int:
        self._made += 1
        return self._made
