"""A server and a client over TCP or UDP, each in any namespace. The answer is the address that the server saw.

Each is a process of its own in the namespace: ``python conversation.py VERB PROTOCOL ADDRESS PORT``.
"""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Self

Enter = Callable[[list[str]], Sequence[str]]

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_CHUNK = 1 << 16
_PATIENCE = 1.0
"""Seconds to wait for an answer that may never come."""


def _command(*words: str) -> list[str]:
    # Isolated: the environment's packages cost more to find than this program takes.
    return [sys.executable, "-IS", __file__, *words]


class Server:
    """Answers each client with the address that it sees, from the moment that the `with` block begins."""

    def __init__(self, enter: Enter, address: str, port: int = 0, protocol: str = "tcp") -> None:
        self._command = enter(_command("serve", protocol, address, str(port)))

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *self._command], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def ask(  # noqa: PLR0913 - who asks whom, and how
    enter: Enter,
    address: str,
    port: int,
    protocol: str = "tcp",
    *,
    source: str = "",
    source_port: int = 0,
    size: int = 1,
) -> str | None:
    """Ask a server with so many bytes, from an address and a port or from any; return the address that it saw.

    None: no answer came. A TCP server answers questions of one byte.
    """
    words = _command("ask", protocol, address, str(port), source, str(source_port), str(size))
    done = subprocess.run(enter(words), capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout.strip() or None


def transfer(enter: Enter, address: str, port: int) -> float:
    """Send a TCP server as much as goes in a second; return the rate in bits per second."""
    command = enter(_command("send", "tcp", address, str(port)))
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _serve(kind: int, address: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        if kind == socket.SOCK_STREAM:
            listener.listen()
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            _answer(listener, kind)


def _answer(listener: socket.socket, kind: int) -> None:
    if kind == socket.SOCK_DGRAM:
        _, peer = listener.recvfrom(100)
        listener.sendto(peer[0].encode(), peer)
        return
    connection, peer = listener.accept()
    with connection:
        if len(connection.recv(_CHUNK)) == 1:
            connection.sendall(peer[0].encode())
            return
        while connection.recv(_CHUNK):
            pass


def _ask(kind: int, address: str, port: int, source: tuple[str, int], size: int) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as channel:
        channel.settimeout(_PATIENCE)
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        channel.bind(source)
        try:
            channel.connect((address, port))
            channel.sendall(b"?" * size)
            sys.stdout.write(channel.recv(100).decode())
        except OSError:
            return 1
    return 0


def _send(address: str, port: int) -> int:
    """Send for a second, and print the rate at which everything arrived: the other side closes at the end."""
    with socket.create_connection((address, port)) as channel:
        started, sent = time.monotonic(), 0
        while time.monotonic() - started < 1:
            sent += channel.send(bytes(_CHUNK))
        channel.shutdown(socket.SHUT_WR)
        channel.recv(1)
        sys.stdout.write(f"{sent * 8 / (time.monotonic() - started)}")
    return 0


if __name__ == "__main__":
    _kind, _address, _port = _KINDS[sys.argv[2]], sys.argv[3], int(sys.argv[4])
    if sys.argv[1] == "send":
        sys.exit(_send(_address, _port))
    if sys.argv[1] == "ask":
        sys.exit(_ask(_kind, _address, _port, (sys.argv[5], int(sys.argv[6])), int(sys.argv[7])))
    _serve(_kind, _address, _port)
