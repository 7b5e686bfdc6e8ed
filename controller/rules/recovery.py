"""Recovery: the time after a restoration in which nothing new is given out, until hosts have stated what they use.

It ends when every host that the store knows has sent its statement, or some time after a controller saw it begin. All
controllers see it, because it is a mark of the lineage in the store.
"""

from collections.abc import Iterable

import structlog

from controller.clock import Clock
from controller.journal.actor import BY_CONTROLLER, Requester
from controller.journal.journal import Journal, TransactionDraft
from controller.state import keys
from controller.state.lineages import settled
from controller.state.mirror import Mirror
from overlayd.model.errors import OverlayError, Unavailable
from overlayd.model.host import Host, HostState
from overlayd.model.ids import HostId, Revision
from overlayd.model.lineage import Lineage

_LOOK_INTERVAL = 0.5
"""Seconds between two looks whether all have spoken."""

_NAMED = 5
"""How many hosts a sentence names."""

_log = structlog.get_logger()


class Recovery:
    """The recovery after a restoration: waits for the statements of the hosts, then settles the lineage."""

    def __init__(self, mirror: Mirror, journal: Journal, clock: Clock, patience: float) -> None:
        self._mirror = mirror
        self._journal = journal
        self._clock = clock
        self._patience = patience

    @property
    def is_under_way(self) -> bool:
        """Whether statements of hosts are awaited."""
        record = self._mirror.lineage
        return record is not None and not record.settled

    def awaited(self) -> list[Host]:
        """Return the hosts whose statements are awaited; none outside of a recovery."""
        if not self.is_under_way:
            return []
        return [host for host in self._mirror.intent.hosts.values() if self.is_awaited(host)]

    def is_awaited(self, host: Host) -> bool:
        """Return whether the statement of a host is awaited."""
        record = self._mirror.lineage
        return (
            record is not None
            and not record.settled
            and host.state is not HostState.FORGETTING
            and self._mirror.statements.get(host.id) != str(record.lineage)
        )

    def refuse(self) -> None:
        """Raise `Unavailable` while nothing may be given out."""
        if self.is_under_way:
            raise Unavailable(
                "the store was restored, and nothing new is given out until its hosts have said what they use, or for"
                f" {self._patience:.0f} s; not heard yet: {_names(self.awaited()) or 'a host that is new'}"
            )

    async def compare(self, by: Requester, host: HostId, knew: Lineage | None, revision: Revision) -> None:
        """Find out whether a host knows a later revision of the store's lineage than the store has.

        Then the store went back in time unnoticed: it gets another lineage. Raises `Unavailable` in that case,
        for whatever was to be done. Every host can cause that once.
        """
        record = self._mirror.lineage
        if record is None or knew != record.lineage or revision <= self._mirror.intent_revision:
            return
        await self._mirror.verify()
        record = self._mirror.lineage
        if record is None or knew != record.lineage or revision <= self._mirror.intent_revision:
            return
        if host in record.doubters:
            _log.warning("a host says once more that it knows later revisions; not heeded", host=host)
            return
        found = self._mirror.intent_revision
        _log.warning("a host knows a later revision than the store has", host=host, revision=revision, store=found)
        renewed = record.renewed(found, host)
        unchanged = self._journal.unchanged(keys.LINEAGE)
        await self._journal.write_unnoted(by, lambda: TransactionDraft(None, (unchanged,), (renewed.put(),)))
        raise Unavailable("the store is older than what this host knows; it is read again, and hosts are asked")

    async def run(self) -> None:
        """End each recovery when its condition holds, until cancelled."""
        began: float | None = None
        while True:
            if not self.is_under_way:
                began = None
            elif began is None:
                began = self._clock.now()
                _log.warning(
                    "the store was restored: nothing new is given out until its hosts have said what they use",
                    hosts=_names(self.awaited()),
                    seconds=self._patience,
                )
            waiting = self.awaited()
            if began is not None and (not waiting or self._clock.now() - began >= self._patience):
                await self._settle(waiting)
            await self._clock.sleep(_LOOK_INTERVAL)

    async def _settle(self, silent: list[Host]) -> None:
        def draft() -> TransactionDraft[None]:
            record = self._mirror.lineage
            if record is None or record.settled:
                return TransactionDraft(None)
            return TransactionDraft(None, (self._journal.unchanged(keys.LINEAGE),), (settled(record).put(),))

        try:
            await self._journal.write_unnoted(BY_CONTROLLER, draft)
        except OverlayError as error:
            _log.warning("the recovery cannot end yet", reason=str(error))
        else:
            _log.info("the recovery has ended; blocks, VNIs and addresses are given out", unheard=_names(silent))


def _names(hosts: Iterable[Host]) -> str:
    names = sorted(host.name for host in hosts)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
