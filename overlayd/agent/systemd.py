"""Telling systemd how far the service is (sd_notify(3))."""

import os
import socket


def notify(state: str) -> None:
    """Send a state such as ``READY=1``; does nothing when systemd did not start this process."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        # A leading @ stands for the NUL of an abstract socket.
        channel.sendto(state.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)
