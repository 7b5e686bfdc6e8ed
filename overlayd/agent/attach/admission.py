"""How many attachments are made at the same time, and which come next."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from overlayd.model.endpoint import EndpointKey
from overlayd.model.errors import Unavailable
from overlayd.model.ids import NetworkName


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many attachments are made at once, on this host and in one network, which may have to wait for controllers.

    `waiting` is how many more may wait, and `patience` for how many seconds: a request is refused early, so that those
    that have begun have time left.
    """

    at_once: int
    in_network: int
    waiting: int
    patience: float


BOUNDS = Bounds(at_once=64, in_network=32, waiting=512, patience=10.0)


@dataclass(frozen=True, slots=True)
class _Waiter:
    key: EndpointKey
    turn: "asyncio.Future[None]"


class Admission:
    """Lets attachments begin in the order of their requests; a busy network does not hold up the others."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._running: Counter[NetworkName] = Counter()
        self._waiting: dict[_Waiter, None] = {}

    @asynccontextmanager
    async def admitted(self, key: EndpointKey) -> AsyncIterator[None]:
        """Wait until an endpoint may be attached; it counts until the end of the block.

        Raises `Unavailable` when too many wait, when its turn does not come in time, or when it is withdrawn.
        """
        network = key[0]
        if self._has_room(network) and not any(waiter.key[0] == network for waiter in self._waiting):
            self._running[network] += 1
        else:
            await self._turn_of(key)
        try:
            yield
        finally:
            self._leave(network)

    def withdraw(self, key: EndpointKey) -> None:
        """Refuse an endpoint that still waits, as its runtime has given up on it."""
        for waiter in [each for each in self._waiting if each.key == key and not each.turn.done()]:
            del self._waiting[waiter]
            waiter.turn.set_exception(Unavailable("its DEL came before it was begun"))

    async def _turn_of(self, key: EndpointKey) -> None:
        if len(self._waiting) >= self._bounds.waiting:
            raise self._refusal(f"{len(self._waiting)} wait already")
        waiter = _Waiter(key, asyncio.get_running_loop().create_future())
        self._waiting[waiter] = None
        try:
            async with asyncio.timeout(self._bounds.patience):
                await waiter.turn
        except TimeoutError:
            self._give_up(waiter)
            raise self._refusal(f"its turn did not come within {self._bounds.patience:.0f} s") from None
        except asyncio.CancelledError:
            self._give_up(waiter)
            raise

    def _refusal(self, reason: str) -> Unavailable:
        return Unavailable(f"this host is busy with {self._running.total()} other attachments, and {reason}")

    def _give_up(self, waiter: _Waiter) -> None:
        if waiter in self._waiting:
            del self._waiting[waiter]
        elif not waiter.turn.cancelled() and not waiter.turn.exception():
            self._leave(waiter.key[0])  # its turn came in the same moment

    def _leave(self, network: NetworkName) -> None:
        self._running[network] -= 1
        if not self._running[network]:
            del self._running[network]
        for waiter in list(self._waiting):
            if self._running.total() >= self._bounds.at_once:
                break
            if self._has_room(waiter.key[0]) and not waiter.turn.done():
                del self._waiting[waiter]
                self._running[waiter.key[0]] += 1
                waiter.turn.set_result(None)

    def _has_room(self, network: NetworkName) -> bool:
        has_room_here = self._running.total() < self._bounds.at_once
        return has_room_here and self._running[network] < self._bounds.in_network
