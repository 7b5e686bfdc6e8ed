"""Noticing at once that somebody changed by hand what is ours in the kernel."""

import asyncio

import structlog

from overlayd.agent.runtime.backoff import Backoff
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.agent.runtime.signals import Changes
from overlayd.dataplane.items import HOST, NamespaceRef
from overlayd.kernel.port import KernelError
from overlayd.model.ids import InterfaceName

_log = structlog.get_logger(__name__)

_SHORTEST, _LONGEST = 0.05, 1.0
"""Seconds between the first sign and the look: one command makes many events, and somebody may fight with us."""

_PEACE = 5.0
"""Seconds after which a change counts as one of its own, and not as a fight's next round."""


class Drift:
    """`suspects` are the namespaces in which something may have changed since they were last looked at.

    `revived` are the host's ends of veth pairs whose other ends were down, so that what a sandbox had there went: only
    the kernel's thread changes it.
    """

    def __init__(self, turn: KernelTurn) -> None:
        self.suspects: frozenset[NamespaceRef] = frozenset()
        self.revived = frozenset[tuple[NamespaceRef, InterfaceName]]()
        self.changes = Changes()
        self._turn = turn

    async def run(self) -> None:
        """Listen for ever."""
        loop = asyncio.get_running_loop()
        descriptor = self._turn.kernel.fileno()
        waits = Backoff(_SHORTEST, _LONGEST)
        last = -_PEACE
        while True:
            readable = asyncio.Event()
            loop.add_reader(descriptor, readable.set)
            try:
                # The kernel tells of a mount once, and whoever asks first takes that away: add_reader() does.
                await self._look()
                await readable.wait()
            finally:
                loop.remove_reader(descriptor)
            if loop.time() - last > _PEACE:
                waits.succeeded()
            last = loop.time()
            await asyncio.sleep(waits.failed())
            await self._look()

    async def _look(self) -> None:
        """Have what has changed looked at."""
        # Between observing and applying it is as good as at any other time: what it finds is looked at later.
        found = await self._turn.call(self._changed)
        if found or self.revived:
            self.suspect(found)

    def _changed(self) -> frozenset[NamespaceRef]:
        """Return where something may have changed; anywhere, when the kernel's news cannot be read."""
        try:
            found = self._turn.kernel.changed()
        except KernelError as error:
            _log.warning("cannot read what changed in the kernel: looking everywhere", reason=str(error))
            return frozenset({HOST})
        self.saw_revived()
        return found

    def saw_revived(self) -> None:
        """Take in which devices came up again, in the kernel's thread."""
        self.revived |= self._turn.kernel.revived()

    def suspect(self, namespaces: frozenset[NamespaceRef]) -> None:
        """Have these looked at."""
        self.suspects |= namespaces
        self.changes.set()

    def take(self) -> frozenset[NamespaceRef]:
        """Return the suspects, who are now looked at."""
        found, self.suspects = self.suspects, frozenset()
        return found
