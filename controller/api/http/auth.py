"""Authentication and authorisation: the token of a request is checked before its body is read.

`Authentication` comes before everything else and identifies the caller; `authorise` is a dependency of every route and
compares the caller's role with the table in `permissions`. A route that is missing there answers no request.
"""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import parse_qsl

import structlog
from fastapi import Depends, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.api.http import permissions, problem_documents
from controller.api.http.permissions import HostPlace
from controller.identity.roles import Role, may
from controller.identity.tokens import TokenRecord
from controller.journal.actor import Actor
from controller.overlay import Overlay
from controller.server.http import recognise
from controller.services.sessions import Sessions
from controller.throttle import Throttle
from overlayd.model.errors import Forbidden, Unauthenticated
from overlayd.model.ids import HostId, quoted
from overlayd.wire.credentials import TokenId

_log = structlog.get_logger()

_CALLER = "overlayd.caller"
"""The key of the caller in an ASGI scope."""


@dataclass(frozen=True, slots=True)
class Security:
    """How callers are authenticated, and how they authenticate a controller.

    `authority` is the certificate in PEM form that they need to trust, None where the system's roots vouch, or where
    there is no TLS. `is_open`: no caller needs a token (`--insecure`).
    """

    authority: str | None
    is_open: bool


INSECURE = Security(None, is_open=True)


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request. `host` is set for a host, which acts for itself only."""

    actor: Actor
    role: Role
    host: HostId | None
    token: TokenRecord | None

    def must_be(self, host: str) -> None:
        """Raise `Forbidden` when the caller is another host than this one."""
        if self.host is not None and self.host != host:
            raise Forbidden(f"host {self.host} cannot act for host {quoted(host)}")


ANONYMOUS = Caller(Actor("anonymous", Role.ADMIN), Role.ADMIN, None, None)
"""Everybody, at a controller that asks for no credentials."""


class Authentication:
    """ASGI middleware that answers 401 to a request without a valid token, unless its path is open to all.

    A long request, such as a feed, ends when its token does: to the route that looks like a disconnected client.
    """

    def __init__(self, app: ASGIApp, overlay: Overlay, security: Security) -> None:
        self._app = app
        self._overlay = overlay
        self._is_open = security.is_open
        self._open_paths = permissions.open_paths()
        self._refusals = _Refusals()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (not self._is_open and scope["path"] in self._open_paths):
            await self._app(scope, receive, send)
            return
        try:
            caller = ANONYMOUS if self._is_open else self._caller(scope)
        except Unauthenticated as refused:
            self._refusals.note(scope, refused, self._overlay.clock.now())
            response = problem_documents.response(HTTPStatus.UNAUTHORIZED, refused.code, refused.detail)
            await response(scope, receive, send)
            return
        recognise(scope, caller.token.id if caller.token else None)
        ending = _Ending(receive, self._overlay.sessions, caller.token.id) if caller.token else receive
        await self._app({**scope, _CALLER: caller}, ending, send)

    def _caller(self, scope: Scope) -> Caller:
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(shown) != 1:
            raise Unauthenticated("show a token: the request needs one header `Authorization: Bearer …`")
        scheme, _, text = shown[0].decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("the header Authorization must begin with `Bearer`")
        token = self._overlay.tokens.authenticate(text.strip(), self._overlay.clock.wall())
        return Caller(Actor(token.name, token.role), token.role, token.host, token)


class _Refusals:
    """Logs that callers are refused."""

    def __init__(self) -> None:
        self._throttle = Throttle()

    def note(self, scope: Scope, refused: Unauthenticated, now: float) -> None:
        if count := self._throttle.count(now):
            client = scope.get("client")
            _log.warning("callers refused", count=count, last=client[0] if client else None, reason=str(refused))


class _Ending:
    """What a request receives, until its token ends."""

    def __init__(self, receive: Receive, sessions: Sessions, token: TokenId) -> None:
        self._receive = receive
        self._sessions = sessions
        self._token = token
        self._is_whole = False

    async def __call__(self) -> Message:
        if not self._is_whole:
            message = await self._receive()
            self._is_whole = not message.get("more_body", False)
            return message
        # A route that reads on after the whole body waits for the client to go: the request is a stream.
        with self._sessions.open(self._token) as ended:
            waits = {asyncio.ensure_future(self._receive()), asyncio.ensure_future(ended.wait())}
            try:
                done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        received = [wait.result() for wait in done]
        return next((message for message in received if isinstance(message, dict)), {"type": "http.disconnect"})


async def _current(request: Request) -> Caller:
    return current(request)


def current(request: Request) -> Caller:
    """Return the caller of a request; raise `Unauthenticated` when the request was not authenticated."""
    caller = request.scope.get(_CALLER)
    if not isinstance(caller, Caller):
        raise Unauthenticated("show a token")
    return caller


CurrentCaller = Annotated[Caller, Depends(_current)]


async def authorise(request: Request) -> None:
    """Refuse a caller without the permission of the route: `Forbidden` names the permission."""
    need = permissions.need(request.method, request.scope["route"].path)
    if need.permission is None:
        return
    caller = current(request)
    if not may(caller.role, need.permission):
        raise Forbidden(f"this needs the permission to {need.permission}, which role {caller.role} does not have")
    if need.host is HostPlace.PATH:
        caller.must_be(request.path_params["id"])
    if need.host is HostPlace.QUERY:
        for name, host in parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True):
            if name == "host":
                caller.must_be(host)


def document(schema: dict[str, Any]) -> None:
    """Add the authentication of callers, and their refusal, to an OpenAPI document."""
    schema.setdefault("components", {}).setdefault("securitySchemes", {})["token"] = {
        "type": "http",
        "scheme": "bearer",
        "description": "A token that an administrator made, `ovt_…`.",
    }
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            if path in permissions.open_paths():
                operation["security"] = []
                continue
            operation["security"] = [{"token": []}]
            for status, description in _REFUSALS.items():
                problem = {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
                operation["responses"][str(int(status))] = {
                    "description": description,
                    "content": {problem_documents.MEDIA_TYPE: problem},
                }


_REFUSALS = {
    HTTPStatus.UNAUTHORIZED: "The request shows no token, or one that is not valid.",
    HTTPStatus.FORBIDDEN: "The token's role does not have the permission, or the host is another.",
}
