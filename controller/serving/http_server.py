"""The HTTP server of a controller: uvicorn, with connections by `controller.server.listener`."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from controller.api.app import create_app
from controller.api.http.auth import INSECURE
from controller.clock import Clock
from controller.overlay import Overlay
from controller.server import http
from controller.server.bounds import BOUNDS
from controller.server.listener import Listener
from controller.tls import Secured

_STOP_MAX = 1
"""Seconds that requests under way have at a stop."""


class HttpServer(uvicorn.Server):
    """A server that takes connections from `listener` and leaves signals to its caller.

    Uvicorn itself would raise a signal again before the store is closed.
    """

    def __init__(self, overlay: Overlay, sockets: list[socket.socket], secured: Secured | None, clock: Clock) -> None:
        config = uvicorn.Config(
            create_app(overlay, secured.security if secured else INSECURE),
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=_STOP_MAX,
        )
        super().__init__(config)
        context = secured.context if secured else None
        self.listener = Listener(sockets, context, http.protocol(config, self.server_state, BOUNDS), clock, BOUNDS)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start what serves requests; `listener` brings the connections."""
        del sockets
        self.servers = []
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more, and let requests under way end."""
        self.listener.stop()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
