"""Reporting the state of this process to systemd (sd_notify(3), sd_watchdog_enabled(3))."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

_BEATS = 3
"""How often the watchdog is fed within its time limit: one or two notifications may be late."""


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """The service manager that started this process. Without `address` there is none, and nothing is sent.

    `watchdog` is the time in seconds after which it kills a process that sends no notification; None means never.
    """

    address: str | None = None
    watchdog: float | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str], process: int) -> Self:
        """Return the service manager that the environment of this process names."""
        # Child processes inherit the variables, but the watchdog expects only the process that WATCHDOG_PID names.
        meant = environment.get("WATCHDOG_PID", str(process)) == str(process)
        time = environment.get("WATCHDOG_USEC", "")
        is_time = time.isascii() and time.isdigit() and int(time) > 0
        return cls(environment.get("NOTIFY_SOCKET") or None, int(time) / 1e6 if meant and is_time else None)

    def tell(self, *states: str) -> None:
        """Send states such as ``READY=1`` to the service manager, if there is one."""
        if not self.address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            # A leading @ stands for the NUL of an abstract socket.
            address = self.address.replace("@", "\0", 1) if self.address.startswith("@") else self.address
            channel.sendto("\n".join(states).encode(), address)

    async def watch(self, is_well: Callable[[float], bool]) -> None:
        """Feed the watchdog until cancelled, while the event loop runs and `is_well` holds.

        `is_well` gets the watchdog's time in seconds. Returns at once when there is no watchdog.
        """
        if self.watchdog is None:
            return
        while True:
            if is_well(self.watchdog):
                self.tell("WATCHDOG=1")
            await asyncio.sleep(self.watchdog / _BEATS)
