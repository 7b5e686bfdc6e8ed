"""Tables of nftables: replaced by the `nft` program in one transaction, and listed after each change.

The kernel counts the transactions of each namespace (its *generation*). After a write of ours the table is listed once,
and a digest of the listing is kept with that number, in a file too. It is listed again when the number has changed. So
a restarted agent lists and writes nothing unless a table was changed. Names are those of linux/netfilter/nf_tables.h.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Self

from overlayd.configuration.files import read_regular
from overlayd.dataplane import ownership, render
from overlayd.dataplane.items import NamespaceRef, NftFamily, NftTable
from overlayd.dataplane.redirection import Redirection, redirections
from overlayd.kernel import nfnetlink, nft_program
from overlayd.kernel.conntrack import forget_misled
from overlayd.kernel.netlink.framing import attributes
from overlayd.kernel.netlink.transport import Netlink, open_socket
from overlayd.kernel.port import KernelError, NoNamespace, translated
from overlayd.kernel.spaces import namespaces
from overlayd.model.errors import InvalidValue

DIRECTORY = Path("/run/overlayd/tables")

_FAMILIES = {1: NftFamily.INET, 7: NftFamily.BRIDGE}
"""Numbers of linux/netfilter.h: NFPROTO_INET, NFPROTO_BRIDGE."""

_NO_NFTABLES = frozenset({errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL})
"""What a kernel that was built without nfnetlink answers to the socket, and without nf_tables to the first request."""

_REMEMBERED_MAX = 64 << 20
"""Bytes of what is remembered of one namespace: ten thousand published ports are a tenth of it."""

_COUNTER = re.compile(r"\bcounter (?P<name>\w+) \{\s*packets (?P<packets>\d+) bytes (?P<bytes>\d+)")

_TableKey = tuple[NftFamily, str]


@dataclass(frozen=True, slots=True)
class _KnownTable:
    """A table as of some generation: the text that it stands for, and a digest of the kernel's own listing.

    `made` is the text from which it was last made, even if it has changed since; empty if unknown.
    """

    text: str
    listing: str
    made: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """Our tables of one namespace as of a generation. The cookie is the namespace's, which is never used again."""

    cookie: int
    generation: int
    tables: Mapping[_TableKey, _KnownTable]


class Tables:
    """Our tables in every namespace. Each method enters the namespace for the time of its work.

    The digests are kept in `directory`, which must not outlive the boot.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: dict[NamespaceRef, _Seen] = {}

    def observe(self, ns: NamespaceRef) -> Iterator[NftTable]:
        """Yield our tables of a namespace; one that differs from what we made has the kernel's listing as its text."""
        with contextlib.ExitStack() as stack:
            try:
                inside = stack.enter_context(_Inside(ns))
                generation = inside.generation()
            except NoNamespace:
                raise
            except KernelError as error:
                if error.errno not in _NO_NFTABLES:
                    raise
                return
            seen = self._seen_in(ns)
            if seen is None or (seen.cookie, seen.generation) != (inside.cookie, generation):
                seen = _look(inside, seen)
                self._keep(ns, seen)
        for (family, name), known in seen.tables.items():
            yield NftTable(ns, family, name, known.text)

    def put(self, table: NftTable) -> None:
        """Create or replace a table. Its counters keep their values.

        Flows to ports whose redirections change are translated again. Only then the table counts as made.
        """
        key = (table.family, table.name)
        with _Inside(table.ns) as inside:
            seen = self._seen_in(table.ns)
            before = inside.generation()
            nft_program.run("-f", "-", stdin=render.replacement(replace(table, text=_counted(table, inside))))
            after = inside.generation()
            known = _look(inside, seen).tables
            # With another writer in between it is unknown whose rules are there: it is made again.
            listing = known[key].listing if key in known and after == before + 1 else ""
            rules = redirections(table.text)
            forget_misled(inside.netlink, _changed(seen, key, rules), rules)
            made = _KnownTable(table.text, listing, table.text)
            self._keep(table.ns, _Seen(inside.cookie, after, {**known, key: made}))

    def delete(self, table: NftTable) -> None:
        """Remove a table; one that does not exist is no failure."""
        name = f"{table.family} {table.name}"
        with _Inside(table.ns) as inside:
            seen = self._seen_in(table.ns)
            nft_program.run("-f", "-", stdin=f"table {name}\ndelete table {name}\n")
            forget_misled(inside.netlink, _changed(seen, (table.family, table.name), frozenset()), frozenset())
            self._keep(table.ns, _look(inside, seen))

    def _seen_in(self, ns: NamespaceRef) -> _Seen | None:
        if ns not in self._seen and (stored := _read(self._path(ns))):
            self._seen[ns] = stored
        return self._seen.get(ns)

    def _keep(self, ns: NamespaceRef, seen: _Seen) -> None:
        if self._seen.get(ns) == seen:
            return
        self._seen[ns] = seen
        path = self._path(ns)
        if seen.tables:
            _write(path, seen)
        else:
            with translated(f"what is remembered of nft tables in {path}"):
                path.unlink(missing_ok=True)

    def _path(self, ns: NamespaceRef) -> Path:
        name = PurePath(ns).name if ownership.is_network_namespace(ns) else "host"
        return self._directory / f"{name}.json"


class _Inside:
    """A namespace while the calling thread is in it, as a context manager."""

    def __init__(self, ns: NamespaceRef) -> None:
        self._ns = ns
        self._leaving = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as failure:
            fd = namespaces.open_namespace(self._ns)
            failure.callback(os.close, fd)
            failure.enter_context(namespaces.entered(fd))
            channel = open_socket(nfnetlink.NETLINK_NETFILTER)
            failure.callback(channel.close)
            number = namespaces.cookie(channel)
            self.cookie = int.from_bytes(os.urandom(8)) if number is None else number  # random: none is the same
            self.netlink = Netlink(channel)
            self._leaving = failure.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.close()

    def generation(self) -> int:
        """Return how many transactions this namespace has seen."""
        answer = self.netlink.get(nfnetlink.GENERATION)
        return int.from_bytes(_attribute(answer, nfnetlink.NFTA_GEN_ID))

    def names(self) -> list[_TableKey]:
        """Return the family and the name of each table that is ours."""
        found = []
        for payload in self.netlink.dump(nfnetlink.TABLES):
            family = _FAMILIES.get(payload[0])
            name = _attribute(payload, nfnetlink.NFTA_TABLE_NAME).rstrip(b"\0").decode()
            if family and name in {ownership.TABLE, ownership.VXLAN_TABLE}:
                found.append((family, name))
        return found


def _look(inside: _Inside, before: _Seen | None) -> _Seen:
    """List our tables. One whose listing is unchanged still has the text from which it was made."""
    generation = inside.generation()
    tables = {}
    for family, name in inside.names():
        listing = nft_program.run("-s", "list", "table", family, name)
        digest = hashlib.blake2s(listing.encode()).hexdigest()
        known = before.tables.get((family, name)) if before and before.cookie == inside.cookie else None
        if known is None or known.listing != digest:
            known = _KnownTable(listing, digest, known.made if known else "")
        tables[(family, name)] = known
    return _Seen(inside.cookie, generation, tables)


def _changed(seen: _Seen | None, key: _TableKey, rules: frozenset[Redirection]) -> frozenset[Redirection]:
    """Return the redirections of a table that these `rules` add or remove.

    If the table differs from what was made, any redirection may have been in force since: these are all returned.
    """
    known = seen.tables.get(key) if seen else None
    if known is None:
        return rules
    made = redirections(known.made)
    return rules ^ made if known.text == known.made else rules | made | redirections(known.text)


def _counted(table: NftTable, inside: _Inside) -> str:
    """Return the table's text with its named counters set to what they have counted so far."""
    if "counter " not in table.text or (table.family, table.name) not in inside.names():
        return table.text
    listed = nft_program.run("list", "counters", "table", table.family, table.name)
    text = table.text
    for found in _COUNTER.finditer(listed):
        values = f"packets {found['packets']} bytes {found['bytes']}"
        text = text.replace(f"counter {found['name']} {{ }}", f"counter {found['name']} {{ {values} }}")
    return text


def _attribute(payload: bytes, wanted: int) -> bytes:
    return attributes(payload, nfnetlink.NFGENMSG.size).get(wanted, b"")


def _read(path: Path) -> _Seen | None:
    """Return the tables that an earlier agent recorded, None when there is no usable record; raise `KernelError`."""
    try:
        with translated(f"what is remembered of nft tables in {path}"):
            stored = json.loads(read_regular(path, _REMEMBERED_MAX))
        tables = {
            (NftFamily(each["family"]), str(each["name"])): _KnownTable(
                str(each["text"]), str(each["listing"]), str(each["made"])
            )
            for each in stored["tables"]
        }
        return _Seen(int(stored["cookie"]), int(stored["generation"]), tables)
    except (InvalidValue, ValueError, KeyError, TypeError, RecursionError):
        return None
    except KernelError as error:
        if error.errno not in {errno.ENOENT, errno.ENOTDIR}:
            raise
        return None


def _write(path: Path, seen: _Seen) -> None:
    tables = [
        {"family": family, "name": name, "text": known.text, "listing": known.listing, "made": known.made}
        for (family, name), known in seen.tables.items()
    ]
    content = json.dumps({"cookie": seen.cookie, "generation": seen.generation, "tables": tables})
    # Without the file the next agent lists the tables and makes them again: no reason to fail.
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(content)
        temporary.replace(path)
