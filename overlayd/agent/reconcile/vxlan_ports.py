"""The UDP ports that VXLAN has had on this host."""

from pathlib import Path

from overlayd.configuration.files import read_regular, write_atomically
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import quoted
from overlayd.model.published_port import PORT_MAX

_REMEMBERED_MAX = 16
_SIZE_MAX = 1 << 12
"""Bytes of the file."""

_DIGITS_MAX = len(str(PORT_MAX))


def remember_vxlan_port(path: Path, port: int) -> frozenset[int]:
    """Return the ports that this host's VXLAN had before `port`, and remember `port` too.

    Other hosts may still use a former port, and accept there what this host sends. So the file, one port a line, keeps
    each port until it is removed. All are in host byte order.

    Raises:
        InvalidValue: the file is damaged; names it.
        OSError: the file cannot be read or written.
    """
    known = _read(path)
    ports = [*(each for each in known if each != port), port][-_REMEMBERED_MAX:]
    if ports != known:
        write_atomically(path, "".join(f"{each}\n" for each in ports).encode())
    return frozenset(ports) - {port}


def _read(path: Path) -> list[int]:
    try:
        lines = read_regular(path, _SIZE_MAX).decode(errors="replace").split()
    except FileNotFoundError:
        return []
    for line in lines:
        if not (line.isascii() and line.isdecimal() and len(line) <= _DIGITS_MAX and 1 <= int(line) <= PORT_MAX):
            detail = f"{quoted(line)} is not a port; remove the file when no host has a former one"
            raise InvalidValue(detail, field=str(path))
    return [int(line) for line in lines]
