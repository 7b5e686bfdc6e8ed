"""Routes by which hosts and people come to trust a controller, and it them."""

from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, Field

from controller.api.bodies import response_bodies
from controller.api.bodies.request_bodies import AgentBody
from controller.api.http.auth import CurrentCaller, Security
from controller.api.http.dependencies import ByController, Services
from overlayd.model import ids
from overlayd.model.errors import NotFound
from overlayd.wire.credentials import TOKEN_MAX

PEM = "application/pem-certificate-chain"
"""RFC 8555, section 9.1."""

router = APIRouter(prefix="/v1", tags=["identity"])


class JoinBody(AgentBody):
    """A host that joins."""

    token: Annotated[str, Field(max_length=TOKEN_MAX, description="A join token.", examples=["ovj_…"])]
    host: Annotated[str, Field(description="The host's id.", examples=["h-7f3a"])]


class CredentialAnswer(BaseModel):
    """The credential of a host, shown this once."""

    host: Annotated[str, Field(examples=["h-7f3a"])]
    token: Annotated[str, Field(description="An access token of role host.", examples=["ovt_…"])]


class CallerAnswer(BaseModel):
    """Who calls."""

    name: Annotated[str, Field(examples=["anna"])]
    role: Annotated[str, Field(examples=["operator"])]
    host: Annotated[str | None, Field(description="The host that it acts for, and for no other.")]
    token: Annotated[str | None, Field(description="The token's id; null at a controller that needs no tokens.")]
    expires: Annotated[int | None, Field(description="Seconds since 1970 (UTC); null: until it is revoked.")]


@router.get(
    "/ca",
    summary="Get the certificate of the controllers' authority",
    response_class=PlainTextResponse,
    responses={
        200: {"content": {PEM: {}}, "description": "A certificate in PEM form."},
        **response_bodies.refusals(404),
    },
)
async def authority(request: Request) -> PlainTextResponse:
    """Trust it only if its SHA-256 fingerprint is the one in the join token."""
    security = _security(request)
    if security.authority is None:
        raise NotFound("this controller has no certificate authority of its own")
    return PlainTextResponse(security.authority, media_type=PEM)


@router.post(
    "/join",
    summary="Exchange a join token for the credential of a host",
    status_code=201,
    response_model=CredentialAnswer,
    responses=response_bodies.refusals(401, 409, 413, 422, 503),
)
async def join(body: JoinBody, overlay: Services, by: ByController) -> JSONResponse:
    """Make a host one of the cluster's. The token is for one host less then; the credential is shown this once.

    Where the answer was lost, ask again: the same token replaces the credential until the host has registered.
    Refused (`already-exists`) when the host has a credential and the token was not made for this very host.
    """
    host = ids.host_id(body.host, "host")
    written = await overlay.tokens.join(by, body.token, host)
    return JSONResponse({"host": host, "token": written.result.token.text}, 201, {"cache-control": "no-store"})


@router.get("/whoami", summary="Show the identity of the caller", response_model=CallerAnswer)
async def whoami(caller: CurrentCaller) -> JSONResponse:
    token = caller.token
    return JSONResponse(
        {
            "name": caller.actor.name,
            "role": caller.role,
            "host": caller.host,
            "token": token.id if token else None,
            "expires": token.expires if token else None,
        }
    )


def _security(request: Request) -> Security:
    security = request.app.state.security
    if not isinstance(security, Security):
        raise TypeError("the application was made without its security")
    return security
