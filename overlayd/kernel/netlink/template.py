"""A message that pyroute2 has encoded once, cut where later ones of its kind differ from it.

pyroute2 takes half a millisecond for a message, and to join the pieces takes a microsecond. The message is encoded with
a *marker* for each field that differs: where the markers are in the bytes, the fields are.
"""

import hashlib
import sys
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from overlayd.kernel.netlink.framing import MessageRun
from overlayd.model.ids import MacAddress

_WIDTHS = {4: 4, 6: 16}
"""Bytes of an address, by IP version."""

_MARKER_MIN = 4
"""Bytes: a shorter marker might be in a message by chance."""

TextShape = str | int
"""A text that all messages of a template share, or for one that is a field its length in bytes."""

_TEXT_FIELD_MIN = 8
"""Bytes of a text from which on it is a field: shorter ones, as `eth0`, are the same for most containers."""


class Template:
    """The bytes between the fields of a message. Values are given in the order of their fields."""

    def __init__(self, message: bytes, markers: Sequence[bytes]) -> None:
        """Cut a message at its markers; raise `ValueError` unless each is in it once, and in this order."""
        pieces, start = [], 0
        self._fields: list[tuple[int, int]] = []
        """Where each field begins, and how long it is, in bytes."""

        for marker in markers:
            at = message.find(marker, start)
            if len(marker) < _MARKER_MIN or message.count(marker) != 1 or at < 0:
                raise ValueError(f"the marker {marker.hex()} is not once, and in order, in {message.hex()}")
            pieces.append(message[start:at])
            self._fields.append((at, len(marker)))
            start = at + len(marker)
        self._message = message
        self._size = len(message)
        self._frame = [part for piece in (*pieces, message[start:]) for part in (piece, b"")][:-1]

    def fill(self, *values: bytes) -> bytes:
        """Return the message with these values; raise `ValueError` when one has another length than its marker."""
        frame = self._frame.copy()
        frame[1::2] = values
        message = b"".join(frame)
        if len(message) != self._size:
            raise ValueError(f"values of {[len(value) for value in values]} bytes for a message of {self._size}")
        return message

    def repeated(self, count: int, *columns: bytes) -> MessageRun:
        """Return a number of messages. A column has one value for all of them, or the value of each, one after another.

        Raises `ValueError` for a column of another length, or for a field of an odd number of bytes.
        """
        first = bytearray(self._message)
        several = []
        for (at, width), column in zip(self._fields, columns, strict=True):
            if len(column) == width:
                first[at : at + width] = column
            elif len(column) == width * count and not (at % 2 or width % 2):
                several.append((at // 2, width // 2, memoryview(column).cast("H")))
            else:
                raise ValueError(f"a column of {len(column)} bytes for {count} fields of {width} bytes at {at}")
        data = first * count
        words, step = memoryview(data).cast("H"), self._size // 2
        for at, width, column_words in several:
            for place in range(width):
                words[at + place :: step] = column_words[place::width]
        return MessageRun(data, count)


class TemplateFields:
    """Makes a marker for each field of a template, and records the bytes into which pyroute2 encodes it.

    Markers must be made in the order of the fields in the message.
    """

    def __init__(self) -> None:
        self._markers: list[bytes] = []

    def template(self, message: bytes) -> Template:
        """Return the message that was encoded with these values, cut."""
        return Template(message, self._markers)

    def number(self) -> int:
        """Return a number of 32 bits."""
        return int.from_bytes(self.data(4), sys.byteorder)

    def mac(self) -> MacAddress:
        """Return a MAC."""
        return MacAddress(self.data(6).hex(":"))

    def address(self, version: int) -> str:
        """Return an address of this IP version."""
        packed = self.data(_WIDTHS[version])
        return str(IPv4Address(packed) if version == 4 else IPv6Address(packed))  # noqa: PLR2004 - IPv4

    def text(self, shape: TextShape) -> str:
        """Return a text of this shape, which is no field when it is the same in all messages."""
        if isinstance(shape, str):
            return shape
        found = _bytes(f"{len(self._markers)}", shape).hex()[:shape]
        self._markers.append(found.encode())
        return found

    def unterminated(self, shape: TextShape) -> str:
        """Return a text of this shape for an attribute that ends with the text, where pyroute2 adds a zero byte."""
        if isinstance(shape, str):
            return shape
        found = _bytes(f"{len(self._markers)}", shape).hex()[: shape - 1]
        self._markers.append(found.encode() + b"\0")
        return found

    def data(self, size: int) -> bytes:
        """Return this many bytes, of which none is above 127: a number made of them is not negative."""
        found = _bytes(f"{len(self._markers)}", size)
        self._markers.append(found)
        return found


def _bytes(name: str, size: int) -> bytes:
    """Return bytes that no message holds by chance, and that differ from those of other names."""
    return bytes(each & 0x7F for each in hashlib.shake_128(name.encode()).digest(size))


def shape(text: str) -> TextShape:
    """Return the property of a text on which its template depends: the text if it is short, else its size in bytes."""
    size = len(text.encode())
    return text if size < _TEXT_FIELD_MIN else size


def values(text: str) -> tuple[bytes, ...]:
    """Return the values by which a template is filled with a text: none when it is no field."""
    packed = text.encode()
    return () if len(packed) < _TEXT_FIELD_MIN else (packed,)
