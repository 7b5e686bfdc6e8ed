"""What every request must pass before its route: the caller may make it, and it says nothing that the route lacks."""

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from controller.api.http import auth
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import quoted


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
