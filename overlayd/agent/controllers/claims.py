"""What this host states that its containers use, for controllers whose store was restored and may have lost it.

Of a network that the store has lost, what containers of this host use is *kept*, in addition to the cluster of the
feed, for as long as they use it.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

import structlog

from overlayd.agent.controllers.client import ControllerClient, Registered
from overlayd.agent.controllers.problem import Problem
from overlayd.agent.runtime.signals import Changes
from overlayd.model.cluster import Cluster, Record
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import Forbidden, OverlayError, Unauthenticated, Unavailable
from overlayd.model.ids import HostId, NetworkName
from overlayd.model.lineage import Statement
from overlayd.model.reservation import Holder

if TYPE_CHECKING:
    from overlayd.model.lineage import Lineage

REPEAT_INTERVAL = 10.0
"""Seconds until a statement is made again of which something was disputed, or that could not be made."""

OTHERS_MAX = 4000
"""Blocks of other hosts that a host names: a controller refuses bodies above 1 MiB.

They are those of the hosts whose ids follow its own, so that all hosts together name every block: what none of them
names of a host that cannot speak is given to others.
"""

_log = structlog.get_logger(__name__)


class Claims:
    """What this host states that it uses, and which of it the controllers dispute.

    `endpoints` returns those that this host has now; `save` keeps what is given to it for the next start.
    """

    def __init__(
        self,
        client: ControllerClient,
        endpoints: Callable[[], Collection[Endpoint]],
        kept: Cluster,
        save: Callable[[Cluster], None],
    ) -> None:
        self.problems: tuple[Problem, ...] = ()
        self.changes = Changes()
        self._client = client
        self._endpoints = endpoints
        self._kept = kept
        self._save = save
        self._stated: Lineage | None = None
        self._is_due = False

    async def compare(self, registered: Registered, known: Cluster) -> None:
        """State what this host uses if the controllers have another lineage than it knows, or ask for it.

        This comes before the feed, which then has the result already. A statement that is refused for what it says does
        not keep the host from following the feed: it is a problem, and `run` repeats it.

        Raises:
            Unavailable: no controller can take the statement now.
            Unauthenticated, Forbidden: the host's credential is refused.
        """
        lineage = registered.lineage
        is_other = known.lineage is not None and lineage != known.lineage
        is_asked = not registered.settled and lineage != self._stated
        if lineage is None or not (is_other or is_asked):
            return
        if is_other:
            _log.warning(
                "the controllers' store was restored: this host states what it knows and uses",
                knew=str(known.lineage),
                revision=known.revision,
                now=str(lineage),
            )
        try:
            await self._state(statement(self._client.host, known, self._kept, self._endpoints()))
        except (Unavailable, Unauthenticated, Forbidden):
            raise
        except OverlayError as error:
            self._note_problems(f"the controllers refuse what this host states: {error}")
        else:
            self._stated = lineage

    def note(self, before: Cluster, after: Cluster) -> None:
        """Keep what containers here use of networks that the cluster of the new lineage does not have."""
        self._keep(kept(self._client.host, (before, self._kept), after, self._endpoints()))

    async def run(self, known: Callable[[], Cluster], *changes: Changes) -> None:
        """State again what this host uses when that changes, and while something is disputed, until cancelled."""
        wake = Changes(*changes)
        while True:
            seen = wake.count
            cluster = known()
            if self._kept.networks:
                self._keep(kept(self._client.host, (self._kept,), cluster, self._endpoints()))
            if self._is_due:
                try:
                    await self._state(statement(self._client.host, cluster, self._kept, self._endpoints()))
                except OverlayError as error:
                    _log.debug("not said yet what this host uses", reason=str(error))
                    await asyncio.sleep(REPEAT_INTERVAL)
                    continue
            if self.problems:
                self._is_due = True
                await asyncio.sleep(REPEAT_INTERVAL)
                continue
            await wake.wait(seen)

    def _keep(self, found: Cluster) -> None:
        if {*found.records} != {*self._kept.records}:
            self._kept = found
            self._is_due = True
            self._save(found)

    async def _state(self, said: Statement) -> None:
        disputes = await self._client.state(said)
        self._is_due = False
        self._note_problems(*disputes)

    def _note_problems(self, *texts: str) -> None:
        problems = tuple(Problem("what this host uses", text) for text in texts)
        if problems != self.problems:
            self.problems = problems
            self.changes.set()


def statement(host: HostId, known: Cluster, kept: Cluster, endpoints: Collection[Endpoint]) -> Statement:
    """Return a host's statement, from the cluster that it knows and from what it has kept."""
    networks = {**kept.networks, **known.networks}
    blocks = {**kept.blocks, **known.blocks}
    held = [each for each in (*kept.reservations.values(), *known.reservations.values()) if each.holder]
    holders = {(endpoint.network, Holder.of(endpoint.key)) for endpoint in endpoints}
    reservations = {each.key: each for each in held if (each.network, each.holder) in holders}
    reserved = {(each.network, address) for each in reservations.values() for address in each.addresses}
    own = [block for block in blocks.values() if block.host == host]
    others = [block for block in blocks.values() if block.host != host]
    others.sort(key=lambda block: (block.host < host, block.host))
    outside = {
        (endpoint.network, address)
        for endpoint in endpoints
        for address in endpoint.addresses
        if endpoint.network in networks
        and (endpoint.network, address) not in reserved
        and not any(block.network == endpoint.network and address in block.cidr for block in own)
    }
    return Statement(
        known.lineage,
        known.revision,
        tuple((network.name, network.vni) for network in networks.values()),
        (*own, *others[:OTHERS_MAX]),
        tuple(sorted(outside, key=str)),
        tuple(reservations.values()),
    )


def kept(host: HostId, sources: Iterable[Cluster], present: Cluster, endpoints: Collection[Endpoint]) -> Cluster:
    """Return the records that a host's endpoints use in networks missing from `present`, each from its first source."""
    lost = {endpoint.network for endpoint in endpoints} - present.networks.keys()
    found: dict[NetworkName, list[Record]] = {}
    for source in sources:
        for name in (lost & source.networks.keys()) - found.keys():
            found[name] = [
                source.networks[name],
                *(each for each in source.blocks.values() if (each.network, each.host) == (name, host)),
                *(
                    each
                    for each in source.reservations.values()
                    if each.network == name and each.holder and each.holder.host == host
                ),
            ]
    return Cluster().changed(present.revision, [record for records in found.values() for record in records])
