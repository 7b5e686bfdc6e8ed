"""The agent's CNI socket, asked as the launcher does."""

import contextlib
import json
import socket
import time
from pathlib import Path

from tests.support.lab.lab import LabHost, plugin_config

RETRY = 0.005
"""Seconds between two attempts to get an answer from an agent that starts."""


def ask(host: LabHost, command: str, network: str, container: str, sandbox: str) -> bytes:
    """Return the answer to a request: the exit status of the launcher as a digit, and what it prints.

    Raise `OSError` when no agent listens.
    """
    variables = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": f"/run/netns/{sandbox}",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt/cni/bin",
    }
    head = "".join(f"{name}={value}\0" for name, value in variables.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.connect(str(Path(f"/proc/{host.pid}/root/run/overlayd/cni.sock")))
        channel.sendall(f"{head}\0{json.dumps(plugin_config(network))}".encode())
        channel.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: channel.recv(65536), b""))


def execute(host: LabHost, command: str, network: str, container: str, sandbox: str) -> None:
    """Ask; raise `ChildProcessError` when the agent refuses."""
    answer = ask(host, command, network, container, sandbox)
    if not answer.startswith(b"0"):
        raise ChildProcessError(f"{command} failed: {answer.decode()}")


def first_served(
    host: LabHost, network: str, container: str, sandbox: str, patience: float = 60.0
) -> tuple[float, float]:
    """Ask for an ADD again and again until one succeeds.

    Return the times on the monotonic clock when the first request that the agent answered was sent, and when one had
    succeeded.
    """
    deadline = time.monotonic() + patience
    listens: float | None = None
    while (asked := time.monotonic()) < deadline:
        with contextlib.suppress(OSError):
            answer = ask(host, "ADD", network, container, sandbox)
            listens = asked if listens is None else listens
            if answer.startswith(b"0"):
                return listens, time.monotonic()
        time.sleep(RETRY)
    raise TimeoutError(f"no ADD succeeded within {patience:.0f} s")
