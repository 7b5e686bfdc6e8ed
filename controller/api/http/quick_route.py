"""Routes that hosts ask for all the time, without FastAPI's routing and dependencies, which cost more than a report."""

import inspect
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.api.http import auth
from controller.api.http.admission import admit
from controller.api.http.auth import CurrentCaller
from controller.api.http.dependencies import By, Services, overlay_of, requester_of

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

_GIVEN: dict[object, Callable[[Request], object]] = {
    Services: overlay_of,
    By: requester_of,
    CurrentCaller: auth.current,
}
"""What a function gets that it asks for by these annotations."""


class QuickRoute(APIRoute):
    """A route that `QuickRoutes` may answer: its function has parts of the path, one body, and what `_GIVEN` lists."""

    def get_route_handler(self) -> Handler:
        """Return FastAPI's handler; raise `TypeError` when the function has another parameter."""
        parameters = inspect.signature(self.endpoint).parameters
        self._given = {name: _GIVEN[each.annotation] for name, each in parameters.items() if each.annotation in _GIVEN}
        rest = {name: each.annotation for name, each in parameters.items() if name not in self._given}
        [(self._body, self._model)] = [(name, each) for name, each in rest.items() if _is_model(each)]
        if rest.keys() - {self._body} != set(self.param_convertors):
            raise TypeError(f"{self.path}: a quick route has parts of its path, a body, and what is given to it")
        return super().get_route_handler()

    def parts(self, scope: Scope) -> dict[str, Any] | None:
        """Return the parts of the path of a request for this route, None for one that is for another route."""
        if scope["type"] != "http" or scope["method"] not in (self.methods or ()):
            return None
        found = self.path_regex.match(scope["path"])
        return found and {name: self.param_convertors[name].convert(part) for name, part in found.groupdict().items()}

    async def answer(self, request: Request) -> Response | None:
        """Answer a request in order, one with JSON that matches the function's body. None: it is not in order."""
        found = await _read(request, self._model)
        if found is None:
            return None
        await admit(request)
        given = {name: give(request) for name, give in self._given.items()}
        response: Response = await self.endpoint(**request.path_params, **given, **{self._body: found})
        return response


class QuickRoutes:
    """ASGI middleware around the router that answers by quick routes what is in order, and leaves all else to it.

    It makes no difference to the caller.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[object]) -> None:
        self._app = app
        self._routes = [route for route in routes if isinstance(route, QuickRoute)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for route in self._routes:
            parts = route.parts(scope)
            if parts is not None:
                scope.update(route=route, path_params=parts)
                heard = _Heard(receive)
                response = await route.answer(Request(scope, heard.listen, send))
                await (response(scope, receive, send) if response else self._app(scope, heard.again, send))
                return
        await self._app(scope, receive, send)


class _Heard:
    """The messages of a request, for two readers: FastAPI reads again what a quick route has read."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._messages = deque[Message]()

    async def listen(self) -> Message:
        message = await self._receive()
        self._messages.append(message)
        return message

    async def again(self) -> Message:
        return self._messages.popleft() if self._messages else await self._receive()


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


async def _read(request: Request, model: type[BaseModel]) -> BaseModel | None:
    """Return the body of a request, None when it is not what the model says, or does not come whole.

    Then FastAPI, which reads it once more, says what is wrong.
    """
    if request.headers.get("content-type") != "application/json":
        return None
    try:
        return model.model_validate_json(await request.body())
    except (ValidationError, ClientDisconnect):
        return None
