"""Long requests, which end together with the token that they were made with."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from controller.clock import Clock
from controller.services.tokens import Tokens
from overlayd.wire.credentials import TokenId

_INTERVAL = 1.0
"""Seconds: how long a request may outlast its token."""


class Sessions:
    """The requests that are open at this controller, by their tokens."""

    def __init__(self, tokens: Tokens, clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock
        self._open: defaultdict[TokenId, set[asyncio.Event]] = defaultdict(set)

    @contextmanager
    def open(self, token: TokenId) -> Iterator[asyncio.Event]:
        """Yield an event that is set when the token is revoked or expires."""
        ended = asyncio.Event()
        self._open[token].add(ended)
        try:
            yield ended
        finally:
            self._open[token].discard(ended)
            if not self._open[token]:
                del self._open[token]

    async def run(self) -> None:
        """Look for tokens that have expired or were revoked, until cancelled."""
        while True:
            await self._clock.sleep(_INTERVAL)
            now = self._clock.wall()
            for token, events in self._open.items():
                if not self._tokens.is_valid(token, now):
                    for ended in events:
                        ended.set()
