"""The addresses of this machine, as its kernel knows them."""

import re
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

_LOCAL_V4 = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")
"""In /proc/net/fib_trie: the routes by which the kernel knows its own addresses."""


def local_addresses() -> list[IPv4Address | IPv6Address]:
    """Return the addresses of this machine, but no link-local ones."""
    found: list[IPv4Address | IPv6Address] = []
    with suppress(FileNotFoundError):
        found += [IPv4Address(text) for text in _LOCAL_V4.findall(Path("/proc/net/fib_trie").read_text())]
    with suppress(FileNotFoundError):  # without IPv6
        found += [IPv6Address(bytes.fromhex(line[:32])) for line in Path("/proc/net/if_inet6").read_text().splitlines()]
    return sorted({each for each in found if not each.is_link_local}, key=lambda each: (each.version, int(each)))
