"""The status line that the service manager shows for this agent (`systemctl status`)."""

import asyncio

from overlayd.agent.control.server import Control
from overlayd.agent.runtime.signals import Changes
from overlayd.service.systemd_notify import ServiceManager

INTERVAL = 1.0
"""Seconds between two updates, at least."""


async def show_status(supervisor: ServiceManager, control: Control, changes: Changes) -> None:
    """Send the service manager a summary of this agent whenever it changes, until cancelled."""
    seen, shown = 0, ""
    while True:
        if (summary := control.summary()) != shown:
            shown = summary
            supervisor.tell(f"STATUS={summary}")
        await asyncio.sleep(INTERVAL)
        seen = await changes.wait(seen)
