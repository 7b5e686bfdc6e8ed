"""A TCP connection that lasts: `python -m tests.chaos.stream serve ADDRESS` and `send ADDRESS PORT`.

The sender counts up, some times a second, and waits for each number to come back on the same connection. It ends with
SIGTERM, printing how many came back; an end of the connection before that is its failure.
"""

import signal
import socket
import sys
import time

PAUSE = 0.05
"""Seconds between two numbers."""

_PATIENCE = 60.0
"""Seconds without an answer after which the connection counts as dead."""

_SIZE = 8


class Stopped(Exception):
    """The signal came."""


def _stop(*_: object) -> None:
    raise Stopped


def serve(address: str) -> None:
    """Print the port, and echo what comes on one connection after the other."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((address, 0))
        listener.listen()
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            connection, _ = listener.accept()
            with connection:
                while content := connection.recv(4096):
                    connection.sendall(content)


def send(address: str, port: int) -> int:
    """Return the exit status."""
    signal.signal(signal.SIGTERM, _stop)
    answered = 0
    try:
        with socket.create_connection((address, port), timeout=_PATIENCE) as connection:
            while True:
                number = (answered + 1).to_bytes(_SIZE, "big")
                connection.sendall(number)
                received = b""
                while len(received) < _SIZE:
                    received += (piece := connection.recv(_SIZE - len(received)))
                    if not piece:
                        sys.stdout.write(f"the connection ended after {answered} answers\n")
                        return 1
                if received != number:
                    sys.stdout.write(f"the answer to {answered + 1} was {received.hex()}\n")
                    return 1
                answered += 1
                time.sleep(PAUSE)
    except Stopped:
        sys.stdout.write(f"{answered}\n")
        return 0
    except OSError as error:
        sys.stdout.write(f"after {answered} answers: {error}\n")
        return 1


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    sys.exit(send(sys.argv[2], int(sys.argv[3])))
