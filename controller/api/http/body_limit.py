"""A bound on the size of request bodies."""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.api.http import problem_documents

BODY_MAX = 1024 * 1024
"""Bytes."""

_DETAIL = f"a request has at most {BODY_MAX} bytes"


class BodyLimit:
    """ASGI middleware that answers 413 to a body that is too large, announced or not, without reading it whole."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if int(announced) > BODY_MAX:
            refusal = problem_documents.response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", _DETAIL)
            await refusal(scope, receive, send)
            return
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > BODY_MAX:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _DETAIL)
            return message

        await self._app(scope, bounded, send)
