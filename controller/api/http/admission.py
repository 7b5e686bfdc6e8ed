"""What every request must pass before its route: the caller may make it, and it says nothing that the route lacks."""

from fastapi import Request

from controller.api.http import auth, unknown_parameters


async def admit(request: Request) -> None:
    """Raise `Forbidden`, `Unauthenticated` or `InvalidValue` for a request that its route is not to see.

    One dependency of the application and not two: FastAPI takes as long to call one as it takes to do its work.
    """
    await auth.authorise(request)
    await unknown_parameters.refuse_unknown_parameters(request)
