"""Routes that hosts ask for all the time, without FastAPI's dependencies, which take longer than a report itself."""

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

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
    """Answers what is in order itself: JSON that matches the body of the function. All else FastAPI answers.

    It makes no difference to the caller. The function has parts of the path, one body, and what `_GIVEN` lists.
    """

    def get_route_handler(self) -> Handler:
        """Return the handler; raise `TypeError` when the function has another parameter."""
        whole, endpoint = super().get_route_handler(), self.endpoint
        parameters = inspect.signature(endpoint).parameters
        given = {name: _GIVEN[each.annotation] for name, each in parameters.items() if each.annotation in _GIVEN}
        rest = {name: each for name, each in parameters.items() if name not in given}
        [(body, model)] = [(name, each.annotation) for name, each in rest.items() if _is_model(each.annotation)]
        if rest.keys() - {body} != set(self.param_convertors):
            raise TypeError(f"{self.path}: a quick route has parts of its path, a body, and what is given to it")

        async def handle(request: Request) -> Response:
            found = await _read(request, model)
            if found is None:
                return await whole(request)
            await admit(request)
            read = {name: give(request) for name, give in given.items()}
            response: Response = await endpoint(**request.path_params, **read, **{body: found})
            return response

        return handle


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
