"""The sockets on which a controller listens."""

import socket

from controller.settings import InheritedSocket, Listen
from overlayd.model.errors import InvalidValue

_USER_TIMEOUT_MS = 15_000
"""How long a peer may leave data unacknowledged: a host that lost its power is noticed after that."""


def bind(listen: Listen) -> socket.socket:
    """Return a socket that is bound; raise `InvalidValue` that names the option."""
    try:
        if isinstance(listen, InheritedSocket):
            sock = socket.socket(fileno=listen.fd)
        else:
            family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
            sock = socket.create_server((listen.host, listen.port), family=family)
    except OSError as error:
        raise InvalidValue(f"cannot listen at {listen}: {error.strerror}", field="--listen") from None
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)  # sockets of connections inherit it
    return sock
