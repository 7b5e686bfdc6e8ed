"""Telling systemd how this process is (sd_notify(3), sd_watchdog_enabled(3))."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

_BEATS = 3
"""How many are sent in the time after which systemd gives a process up: one or two may be late."""


@dataclass(frozen=True, slots=True)
class Supervisor:
    """Who started this process, if that wants to hear of it.

    `watchdog` is the time in seconds after which it ends a process that says nothing; None: it waits for ever.
    """

    address: str | None = None
    watchdog: float | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str], process: int) -> Self:
        """Return what the environment of this process says."""
        # Children inherit the variables; they are not the ones that are waited for.
        meant = environment.get("WATCHDOG_PID", str(process)) == str(process)
        time = environment.get("WATCHDOG_USEC", "")
        is_time = time.isascii() and time.isdigit() and int(time) > 0
        return cls(environment.get("NOTIFY_SOCKET") or None, int(time) / 1e6 if meant and is_time else None)

    def tell(self, *states: str) -> None:
        """Send states such as ``READY=1``, if anybody listens."""
        if not self.address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            # A leading @ stands for the NUL of an abstract socket.
            address = self.address.replace("@", "\0", 1) if self.address.startswith("@") else self.address
            channel.sendto("\n".join(states).encode(), address)

    async def watch(self, is_well: Callable[[float], bool]) -> None:
        """Send signs of life for ever, as long as the event loop runs and `is_well`, which gets the watchdog's time."""
        if self.watchdog is None:
            return
        while True:
            if is_well(self.watchdog):
                self.tell("WATCHDOG=1")
            await asyncio.sleep(self.watchdog / _BEATS)
