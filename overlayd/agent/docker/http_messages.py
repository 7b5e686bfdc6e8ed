"""HTTP/1.1 as Docker speaks it with its plugins: one POST for each connection, answered as a whole (RFC 9112)."""

import asyncio
import json
import socket
from dataclasses import dataclass
from http import HTTPStatus

from overlayd.model.errors import InvalidValue
from overlayd.wire.fields import Json

BODY_MAX = 1 << 20
"""Bytes; a thousand published ports take a tenth of it."""

_HEAD_MAX = 1 << 16
_PIECE = 65536
_END = b"\r\n\r\n"
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"


class RefusedRequest(InvalidValue):
    """What is no request that this server answers, with the status of its answer."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        """`detail` is a sentence for the client."""
        super().__init__(detail)
        self.answered = status


@dataclass(frozen=True, slots=True)
class PluginCall:
    """A call, which is the path without its first slash, and its body, null when there is none."""

    call: str
    body: Json


async def read_request(channel: socket.socket) -> bytes | None:
    """Return the bytes of a request to the end of its body, or those up to the limit; None when it is incomplete.

    Raises `OSError`.
    """
    loop, received = asyncio.get_running_loop(), bytearray()
    while not _is_whole(received):
        piece = await loop.sock_recv(channel, _PIECE)
        if not piece:
            return None
        received += piece
    return bytes(received)


def parse(received: bytes) -> PluginCall:
    """Return a request; raise `RefusedRequest`."""
    head, end, rest = received.partition(_END)
    if not end:
        raise RefusedRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request has too many headers")
    method, _, path = head.partition(b"\r\n")[0].decode("latin-1").rpartition(" ")[0].partition(" ")
    if method != "POST" or not path.startswith("/"):
        raise RefusedRequest(HTTPStatus.METHOD_NOT_ALLOWED, "a plugin is called by POST")
    headers = _headers(head)
    if _length(headers) > BODY_MAX or len(rest) > BODY_MAX:
        raise RefusedRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has more than {BODY_MAX} bytes")
    content = _unchunked(rest) if _is_chunked(headers) else rest[: _length(headers)]
    try:
        body: Json = json.loads(content) if content.strip() else None
    except (ValueError, RecursionError):
        raise RefusedRequest(HTTPStatus.BAD_REQUEST, "the body is not JSON") from None
    return PluginCall(path.removeprefix("/"), body)


def render(status: HTTPStatus, content: Json) -> bytes:
    """Return an answer, after which the connection ends."""
    body = json.dumps(content).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {_CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body


def _is_whole(received: bytearray) -> bool:
    head, end, rest = bytes(received).partition(_END)
    if not end:
        return len(received) > _HEAD_MAX
    headers = _headers(head)
    if len(rest) > BODY_MAX or _length(headers) > BODY_MAX:
        return True
    if _is_chunked(headers):
        return (b"\r\n" + rest).endswith(_LAST_CHUNK)
    return len(rest) >= _length(headers)


def _headers(head: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    return {name.strip().lower(): value.strip() for name, _, value in lines}


def _is_chunked(headers: dict[str, str]) -> bool:
    return headers.get("transfer-encoding", "").lower() == "chunked"


def _length(headers: dict[str, str]) -> int:
    given = headers.get("content-length", "0")
    return int(given) if given.isascii() and given.isdecimal() and len(given) < len(str(BODY_MAX)) + 2 else BODY_MAX + 1


def _unchunked(rest: bytes) -> bytes:
    content = bytearray()
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        try:
            length = int(size.partition(b";")[0], 16)
        except ValueError:
            raise RefusedRequest(HTTPStatus.BAD_REQUEST, "a chunk has no size") from None
        if length <= 0:
            break
        content += rest[:length]
        rest = rest[length:].removeprefix(b"\r\n")
    return bytes(content)
