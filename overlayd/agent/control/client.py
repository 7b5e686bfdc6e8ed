"""The client of the control socket of this host's agent."""

import json
import socket
from pathlib import Path

from overlayd.model.errors import InvalidValue, Unavailable
from overlayd.wire.fields import Fields, Json

CONTROL_SOCKET = Path("/run/overlayd/control.sock")

_TIMEOUT = 40.0
"""Seconds: more than the agent takes for any request."""


def ask(command: str, **arguments: Json) -> Fields:
    """Return the agent's answer.

    Raises `Unavailable` when none runs, or cannot do it for now, or else `InvalidValue` when it refuses.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(_TIMEOUT)
        try:
            channel.connect(str(CONTROL_SOCKET))
            channel.sendall(json.dumps({"command": command, **arguments}).encode())
            channel.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: channel.recv(65536), b""))
        except OSError as error:
            raise Unavailable(f"no agent answers on {CONTROL_SOCKET}: {error}; is overlayd running?") from error
    try:
        fields = Fields(json.loads(answer))
    except ValueError as error:
        raise Unavailable("the agent ended before it had answered; what it was asked for may be done") from error
    if fields.has("error"):
        refused = fields.text("code") if fields.has("code") else ""
        raise (Unavailable if refused == Unavailable.code else InvalidValue)(fields.text("error"))
    return fields


def plan_lines(answer: Fields) -> list[str]:
    """Return the operations of a plan as commands, for people."""
    commands = [operation.text("command") for operation in answer.objects("operations")]
    return commands or ["nothing to do: the kernel is as it should be"]


def status_lines(fields: Fields) -> list[str]:
    """Return the state of an agent, for people."""
    answer = fields.value
    networks = answer["networks"]
    checksums = ["checksums and segments are made by the kernel: the underlay's device makes bad ones"]
    return [
        "in sync with a controller" if answer["in_sync"] else "not in sync: no controller answers",
        f"knows revision {answer['revision']}, the kernel matches {answer['applied']}",
        f"VTEP {answer['address'] or 'not announced yet'}, overlay MTU {answer['mtu'] or 'not known yet'}",
        f"networks in force: {', '.join(map(str, networks)) if isinstance(networks, list) and networks else 'none'}",
        *(checksums if answer.get("software_checksums") else []),
        *(f"problem: {each.text('object')}: {each.text('message')}" for each in fields.objects("problems")),
    ]
