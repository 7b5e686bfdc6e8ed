"""The identity of this host: an id that is made once, and an instance for each run of the agent."""

import secrets
import uuid
from dataclasses import dataclass
from pathlib import Path

from overlayd.configuration.files import read_regular, write_atomically
from overlayd.model import ids
from overlayd.model.ids import HostId

_SIZE_MAX = 1 << 10
"""Bytes; an id is a UUID."""


@dataclass(frozen=True, slots=True)
class Identity:
    """`id` stays for the life of the host; `instance` tells two machines apart that were cloned with one id."""

    id: HostId
    instance: str


def load_identity(state_dir: Path) -> Identity:
    """Read the host's id, or make it at the first start; raise `InvalidValue` when the file is damaged."""
    path = state_dir / "host-id"
    try:
        text = read_regular(path, _SIZE_MAX).decode(errors="replace").strip()
    except FileNotFoundError:
        text = str(uuid.uuid4())
        write_atomically(path, f"{text}\n".encode())
    return Identity(ids.host_id(text, str(path)), secrets.token_hex(8))
