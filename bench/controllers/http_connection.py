"""One HTTP/1.1 connection with TLS whose own cost is small, so that a benchmark measures the controller."""

import asyncio
import json
import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Authority:
    """Where the controller is, what it is verified with, and the token to show."""

    port: int
    context: ssl.SSLContext
    token: str

    @classmethod
    def of(cls, words: list[str]) -> "Authority":
        """Return the one that a command line names: the port, the file of the authority and that of the token."""
        port, certificate, token = words
        return cls(int(port), ssl.create_default_context(cafile=certificate), Path(token).read_text().strip())

    @property
    def head(self) -> str:
        """The header lines of each request."""
        return f"Host: bench\r\nAuthorization: Bearer {self.token}\r\n"

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.context, limit=2**24)


class Connection:
    """Sends one request after another; opens the connection when there is none, or the controller has closed it."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: object) -> dict[str, object]:
        """Return the JSON of the answer; raise `ValueError` when it is a refusal."""
        if self._streams is None or self._streams[0].at_eof():
            self._streams = await self._authority.open()
        reader, writer = self._streams
        content = json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\n{self._authority.head}Content-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().splitlines()
        length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
        answer = await reader.readexactly(length)
        if not lines[0].startswith("http/1.1 2"):
            raise ValueError(f"{method} {path}: {lines[0]}: {answer.decode()}")
        found: dict[str, object] = json.loads(answer) if answer else {}
        return found
