"""What every request must pass before its route: its turn, the caller's permission, and parameters that it may have."""

import re

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from controller.api.http import auth
from controller.streams.turns import CanWait, Turns
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import quoted

_REPORT = re.compile(r"/v1/hosts/[^/]+/report")
"""The path of a report: nothing waits for its answer, and after a change all hosts of a network send one."""


class Precedence:
    """ASGI middleware that lets reports wait until other requests and changes have had their turn."""

    def __init__(self, app: ASGIApp, turns: Turns) -> None:
        self._app = app
        self._turns = turns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _REPORT.fullmatch(scope["path"]):
            await self._turns.turn(CanWait.REPORT)
        await self._app(scope, receive, send)


async def admit(request: Request) -> None:
    """Raise `Forbidden`, `Unauthenticated` or `InvalidValue` for a request that its route is not to see.

    One dependency of the application and not two: FastAPI takes as long to call one as it takes to do its work.
    """
    await auth.authorise(request)
    await _refuse_unknown_parameters(request)


async def _refuse_unknown_parameters(request: Request) -> None:
    """Raise `InvalidValue` for a query parameter that the route does not have, or that is given twice."""
    if not request.query_params:
        return
    route = request.scope["route"]
    known = _parameters(route.dependant)
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name not in known:
            raise InvalidValue(f"there is no such parameter; {_listed(route, known)}", field=name[:80])
        if name in seen:
            raise InvalidValue("is given twice", field=name)
        seen.add(name)


def _listed(route: APIRoute, known: set[str]) -> str:
    names = ", ".join(sorted(known))
    return f"{route.path} knows {names}" if known else f"{quoted(route.path)} knows none"


def _parameters(dependant: Dependant) -> set[str]:
    """Return the query parameters of a route and of all its dependencies."""
    return {field.alias for field in dependant.query_params}.union(*map(_parameters, dependant.dependencies))
