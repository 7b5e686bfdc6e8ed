"""Working side by side, or alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Exclusion:
    """Any number share it, or one has it alone. Who waits to be alone comes before those that come later."""

    def __init__(self) -> None:
        self._entrance = asyncio.Lock()
        self._sharing = 0
        self._left = asyncio.Event()
        self._left.set()

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Wait until nobody is alone, nor waits for it; share it until the end of the block."""
        async with self._entrance:
            self._sharing += 1
            self._left.clear()
        try:
            yield
        finally:
            self._sharing -= 1
            if not self._sharing:
                self._left.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Wait until all have left; have it alone until the end of the block."""
        async with self._entrance:
            await self._left.wait()
            yield
