"""The blocks that this host owns: acquired for the first attachment, released when their network is deleted."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

import structlog

from overlayd.agent.controllers.client import ControllerClient
from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.runtime.backoff import Backoff
from overlayd.agent.runtime.shared_work import SharedAttempt
from overlayd.agent.runtime.signals import Changes
from overlayd.agent.runtime.under_way import UnderWay
from overlayd.model.address import Family
from overlayd.model.block import Block, BlockKey
from overlayd.model.errors import InUse, InvalidValue, NotFound, OverlayError, Unavailable
from overlayd.model.host import HostState
from overlayd.model.ids import HostId, NetworkName
from overlayd.model.network import Network, NetworkState, WantedNetwork

_log = structlog.get_logger(__name__)

FIRST_WORD = 0.5
"""Seconds that an attachment waits, after a start without knowledge, for a controller to say something."""

FEED_DELAY = 10.0
"""Seconds that a new block may take from the controller's answer until the feed brings it."""


class HeldBlocks:
    """The blocks of this host, according to the feed."""

    def __init__(self, host: HostId, client: ControllerClient, feed: ClusterFeed, records: AttachmentRecords) -> None:
        self.host = host
        self._client = client
        self._feed = feed
        self._records = records
        self._attaching = UnderWay[NetworkName]()
        self._growths: WeakValueDictionary[tuple[NetworkName, Family], SharedAttempt] = WeakValueDictionary()
        self._held: dict[NetworkName, tuple[Mapping[BlockKey, Block], tuple[Block, ...]]] = {}
        """By network its blocks of all hosts, and those of this one that were found among them."""

    def network_or_none(self, name: NetworkName) -> Network | None:
        """Return a network in which this host takes part, or None."""
        return self._feed.cluster.networks.get(name)

    def network(self, name: NetworkName) -> Network:
        """Return a network in which this host takes part; raise `NotFound` otherwise."""
        network = self.network_or_none(name)
        if network is None:
            raise NotFound(f"network {name} is not known on this host", field="name")
        return network

    def held(self, name: NetworkName, family: Family) -> tuple[Block, ...]:
        """Return the blocks of one family of a network that this host holds, by address."""
        table = self._feed.cluster.blocks.of(name)
        if not table:
            self._held.pop(name, None)
            return ()
        known, blocks = self._held.get(name, (None, ()))
        if known is not table:
            blocks = self._feed.cluster.blocks_of(name, self.host)
            self._held[name] = (table, blocks)
        return tuple(block for block in blocks if block.family is family)

    @asynccontextmanager
    async def attaching(self, name: NetworkName, *, comes_back: bool = False) -> AsyncIterator[Network]:
        """Hold a block of each family of a network until the context ends, and yield the network.

        A draining host takes what `comes_back`: it keeps the containers that it has.

        Raises:
            NotFound: there is no such network.
            InUse: the network is being deleted, or this host is draining.
            Exhausted: the network has no block left.
            Unavailable: this host lacks a block and no controller answers, or the feed does not bring it in time.
        """
        if not (comes_back and self._is_draining):
            self.check_active()
        with self._attaching.counted(name):
            if self.network_or_none(name) is None:
                await self._first_word()
                await self._join(name)
            network = self.network(name)
            for family in sorted(network.families):
                if not self.held(name, family):
                    await self.grow(name, family)
            if network.state is NetworkState.DELETING:
                raise InUse(f"network {name} is being deleted", field="name")
            yield network

    async def want(self, wanted: WantedNetwork) -> None:
        """Have a network made that does not exist, where the administrator lets hosts do that.

        Raises as `ControllerClient.want_network` does, `InUse` when this host takes no containers, or `Unavailable`.
        """
        self.check_active()
        try:
            await self._client.want_network(wanted)
        except NotFound as error:
            if error.field == "host":
                raise _unknown_host() from None
            raise

    @property
    def _is_draining(self) -> bool:
        host = self._feed.cluster.hosts.get(self.host)
        return host is not None and host.state is HostState.DRAINING

    def check_active(self) -> None:
        """Raise `InUse` when this host is draining or being forgotten."""
        host = self._feed.cluster.hosts.get(self.host)
        if host and host.state is HostState.DRAINING:
            raise InUse(
                f"host {host.name} is draining and takes no containers; overlayctl host resume {host.id} lets it"
            )
        if host and host.state is HostState.FORGETTING:
            raise InUse(f"host {host.name} is being forgotten and takes no containers")

    async def _first_word(self) -> None:
        """Return when the feed is in sync for the first time, or shortly after the start.

        A runtime should try again rather than wait for controllers that cannot be reached.
        """
        try:
            async with asyncio.timeout(FIRST_WORD):
                while not self._feed.in_sync:
                    await self._feed.syncs.wait(self._feed.syncs.count)
        except TimeoutError:
            raise Unavailable("this agent has just started, and no controller has sent it the networks yet") from None

    async def _join(self, name: NetworkName) -> None:
        """Acquire the first block of a network whose families this host does not know yet."""
        try:
            await self.grow(name, Family.V4)
        except InvalidValue as error:
            if error.field != "family":
                raise
            await self.grow(name, Family.V6)

    async def grow(self, name: NetworkName, family: Family) -> None:
        """Get one more block of a network and wait until the feed has brought it; raises as `attaching` does.

        Concurrent callers get one block together, which may not be enough for all of them.
        """
        growth = self._growths.setdefault((name, family), SharedAttempt())
        await growth.make(lambda: self._grow(name, family))

    async def _grow(self, name: NetworkName, family: Family) -> None:
        seen = self._feed.changes.count
        try:
            block = await self._client.acquire_block(name, [held.cidr for held in self.held(name, family)], family)
        except NotFound as error:
            if error.field != "host":
                raise
            raise _unknown_host() from None
        try:
            async with asyncio.timeout(FEED_DELAY):
                while block.key not in self._feed.cluster.blocks:
                    seen = await self._feed.changes.wait(seen)
        except TimeoutError:
            raise Unavailable(f"the feed did not bring block {block.cidr} of network {name} in time") from None

    async def run(self, attachments: Changes) -> None:
        """Release the blocks of networks that are being deleted, once no container of this host is attached to them."""
        wake = Changes(self._feed.changes, attachments)
        backoff = Backoff()
        while True:
            seen = wake.count
            try:
                for block in self._unneeded():
                    await self._client.release_block(block)
                backoff.succeeded()
            except OverlayError as error:
                # Typically the controllers have not yet heard that the last endpoint went.
                _log.debug("block not given back yet", reason=str(error))
                await asyncio.sleep(backoff.after(error))
                continue
            await wake.wait(seen)

    def _unneeded(self) -> list[Block]:
        cluster = self._feed.cluster
        ending = [name for name, network in cluster.networks.items() if network.state is NetworkState.DELETING]
        deleting = [block for name in ending for block in cluster.blocks_of(name, self.host)]
        if not deleting:
            return []
        used = {endpoint.network for endpoint in self._records.endpoints} | set(self._attaching)
        return [block for block in deleting if block.network not in used]


def _unknown_host() -> Unavailable:
    """Return the error for a store that was lost or restored: the feed, which registers hosts, may come a bit later."""
    return Unavailable("the controllers do not know this host yet; it registers with its next feed")
