"""Drift: changes by others to what is ours in the kernel, noticed by notifications."""

import asyncio
from dataclasses import dataclass

import structlog

from overlayd.agent.runtime.backoff import Backoff
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.agent.runtime.signals import Changes
from overlayd.dataplane.items import HOST, NamespaceRef
from overlayd.kernel.port import Kernel, KernelError
from overlayd.model.ids import InterfaceName

_log = structlog.get_logger(__name__)

_SHORTEST, _LONGEST = 0.05, 1.0
"""Seconds between the first notification and the look: one command makes many, and two programs may undo each other."""

_PEACE = 5.0
"""Seconds after which a change counts as a new one, and not as the answer of another program to our repair."""


Revived = frozenset[tuple[NamespaceRef, InterfaceName]]
"""The host's ends of veth pairs whose other ends were down and came up again, so that what a sandbox had there went."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The namespaces in which the kernel reported changes by others, and the devices that came up again."""

    namespaces: frozenset[NamespaceRef]
    revived: Revived


def heard(kernel: Kernel) -> Heard:
    """Read the kernel's notifications; if they cannot be read, every namespace may have changed."""
    try:
        return Heard(kernel.changed(), kernel.revived())
    except KernelError as error:
        _log.warning("cannot read what changed in the kernel: looking everywhere", reason=str(error))
        return Heard(frozenset({HOST}), frozenset())


class Drift:
    """Collects what to observe: `suspects` are the namespaces that others may have changed since they were observed.

    `revived` are devices whose sandboxes have lost routes that are not restored yet.
    """

    def __init__(self, turn: KernelTurn) -> None:
        self.suspects: frozenset[NamespaceRef] = frozenset()
        self.revived: Revived = frozenset()
        self.changes = Changes()
        self._turn = turn

    async def run(self) -> None:
        """Receive notifications until cancelled."""
        loop = asyncio.get_running_loop()
        descriptor = self._turn.kernel.fileno()
        waits = Backoff(_SHORTEST, _LONGEST)
        last = -_PEACE
        while True:
            readable = asyncio.Event()
            loop.add_reader(descriptor, readable.set)
            try:
                # The kernel tells of a mount once, to the first that asks: add_reader() asks.
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
        """Start a cycle that observes the changed namespaces."""
        # Between observing and applying it is as good as at any other time: what it finds is looked at later.
        found = await self._turn.call(heard, self._turn.kernel)
        self.revived |= found.revived
        if found.namespaces or self.revived:
            self.suspect(found.namespaces)

    def suspect(self, namespaces: frozenset[NamespaceRef]) -> None:
        """Add namespaces to the suspects."""
        self.suspects |= namespaces
        self.changes.set()

    def take(self) -> frozenset[NamespaceRef]:
        """Return the suspects, and begin with an empty set."""
        found, self.suspects = self.suspects, frozenset()
        return found
