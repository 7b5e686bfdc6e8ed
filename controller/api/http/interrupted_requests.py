"""The answer to a request that a stop of the controller interrupts."""

import asyncio
from http import HTTPStatus

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.api.http import problem_documents
from overlayd.model.errors import Unavailable

_log = structlog.get_logger()


class InterruptedRequests:
    """ASGI middleware that answers 503 to a request that the server cancels because it outlasts a stop.

    Whether the request was executed is unknown by then; it may be repeated, at another controller. An answer that has
    begun, such as a stream to a reader that does not read, is cut off.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except asyncio.CancelledError:
            if scope["type"] != "http":
                raise
            _log.warning("interrupted by the stop", method=scope["method"], path=scope["path"])
            if begun:
                return  # the answer breaks off, and the server closes the connection
            # The task ends here, as requested, but with an answer of ours: the server's own would be a bare 500.
            refusal = problem_documents.response(
                HTTPStatus.SERVICE_UNAVAILABLE, Unavailable.code, "this controller is stopping"
            )
            await refusal(scope, receive, send)
