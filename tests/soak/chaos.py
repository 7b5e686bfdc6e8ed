"""Killing and freezing controllers and etcd nodes at random, and bringing them back."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle

from tests.support.controllers.etcd import EtcdCluster
from tests.support.controllers.processes import LocalController

PEACE = (0.5, 4.0)
"""Seconds between two faults of one kind, from and to."""


class Chaos:
    """Two actors, one for the controllers and one for etcd; `faults` counts what they did."""

    def __init__(self, controllers: Sequence[LocalController], etcd: EtcdCluster, seed: int) -> None:
        self.faults: Counter[str] = Counter()
        self._controllers = controllers
        self._etcd = etcd
        self._chance = random.Random(seed)

    async def run(self, stop: asyncio.Event) -> None:
        """Do harm until it is stopped, and leave everything running."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._repeat(self._harm_controller, stop), name="chaos of controllers")
            tasks.create_task(self._repeat(self._harm_etcd, stop), name="chaos of etcd")

    async def _repeat(self, harm: Callable[[str], Awaitable[None]], stop: asyncio.Event) -> None:
        ways = ["killed", "frozen", "killed", "stopped", "killed", "frozen", "two at once"]
        self._chance.shuffle(ways)
        for way in cycle(ways):
            await self._pause(*PEACE)
            if stop.is_set():
                return
            await harm(way)

    async def _harm_controller(self, way: str) -> None:
        number = 2 if way == "two at once" else 1
        victims = self._chance.sample(list(self._controllers), number)
        self.faults[f"controller {way}"] += 1
        if way == "frozen":
            victims[0].freeze()
            await self._pause(2, 14)
            victims[0].thaw()
            return
        for victim in victims:
            await asyncio.to_thread(victim.stop, signal.SIGTERM if way == "stopped" else signal.SIGKILL)
        await self._pause(0.2, 4)
        for victim in victims:
            victim.launch()

    async def _harm_etcd(self, way: str) -> None:
        number = 2 if way == "two at once" else 1
        victims = self._chance.sample(range(len(self._etcd.nodes)), number)
        self.faults[f"etcd node {'killed' if way == 'stopped' else way}"] += 1
        if way == "frozen":
            self._etcd.freeze(victims[0])
            await self._pause(1, 8)
            self._etcd.thaw(victims[0])
            return
        for victim in victims:
            self._etcd.kill(victim)
        await self._pause(0.2, 5)
        for victim in victims:
            self._etcd.launch(victim)
        # Before another node goes: three of three may fall, two of three at once are a cluster without quorum.
        await asyncio.to_thread(self._etcd.await_health)

    async def _pause(self, shortest: float, longest: float) -> None:
        await asyncio.sleep(self._chance.uniform(shortest, longest))
