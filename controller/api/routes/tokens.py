"""Routes for tokens."""

from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from controller.api.bodies import response_bodies
from controller.api.bodies.request_bodies import AdminBody
from controller.api.http.auth import Security
from controller.api.http.dependencies import By, Services
from controller.identity.roles import Role
from controller.services.tokens import JOIN_HOSTS_MAX, JOIN_TTL_MAX, TTL_MAX
from controller.state import token_records
from overlayd.model import ids
from overlayd.model.errors import InUse, InvalidValue
from overlayd.wire import credentials
from overlayd.wire.credentials import TokenId

router = APIRouter(prefix="/v1/tokens", tags=["identity"])

_JOIN_TTL = 3600
"""Seconds."""


class TokenBody(AdminBody):
    """A token to be made."""

    kind: Annotated[Literal["access", "join"], Field(description="To call with, or for a host to join with.")]
    name: Annotated[str | None, Field(description="Of an access token: whose it is.", examples=["anna"])] = None
    role: Annotated[
        Literal["admin", "operator", "viewer"] | None, Field(description="Of an access token: what it may do.")
    ] = None
    host: Annotated[
        str | None, Field(description="Of a join token: the only host that may use it.", examples=["h-7f3a"])
    ] = None
    hosts: Annotated[
        int | None,
        Field(
            description=f"Of a join token: how many hosts may use it, up to {JOIN_HOSTS_MAX}; 1 if unset.", examples=[3]
        ),
    ] = None
    ttl: Annotated[
        int | None,
        Field(
            description=f"Seconds that it lasts, up to {TTL_MAX}; a join token up to {JOIN_TTL_MAX}. An access token"
            f" lasts until it is revoked if unset, a join token {_JOIN_TTL}.",
            examples=[86400],
        ),
    ] = None


class TokenRecordAnswer(BaseModel):
    """What is known of a token. Times are in seconds since 1970 (UTC)."""

    id: Annotated[str, Field(examples=["1f0c5e9a7b42"])]
    kind: Literal["access", "join"]
    name: str
    role: Literal["admin", "operator", "viewer", "host"]
    host: str | None
    hosts: Annotated[
        int | None,
        Field(description="How many hosts can join with it yet, 0 when it is used up; null of access tokens."),
    ]
    created: int
    expires: Annotated[int | None, Field(description="Null: it lasts until it is revoked.")]
    by: Annotated[str, Field(description="The name of who made it.", examples=["admin"])]


class TokenAnswer(TokenRecordAnswer):
    """A new token, shown this once."""

    token: Annotated[str, Field(examples=["ovt_…"])]


class TokensAnswer(BaseModel):
    """Tokens."""

    items: list[TokenRecordAnswer]


@router.get("", summary="List tokens", response_model=TokensAnswer)
async def list_tokens(overlay: Services) -> JSONResponse:
    """List all tokens, also those that expired within the last day."""
    return JSONResponse({"items": [token_records.shown(record) for record in overlay.tokens.all()]})


@router.post(
    "",
    summary="Make a token",
    status_code=201,
    response_model=TokenAnswer,
    responses=response_bodies.refusals(409, 413, 422, 503),
)
async def create_token(body: TokenBody, overlay: Services, by: By, request: Request) -> JSONResponse:
    """Make a token for a person or a program, or one with which a host joins. It is shown this once."""
    if body.kind == "join":
        _refuse_given(body, "name", "role")
        host = ids.host_id(body.host, "host") if body.host is not None else None
        fingerprint = _fingerprint(request.app.state.security)
        ttl = _JOIN_TTL if body.ttl is None else body.ttl
        written = await overlay.tokens.create_join(by, fingerprint, host, ttl, 1 if body.hosts is None else body.hosts)
    else:
        _refuse_given(body, "host", "hosts")
        if body.name is None or body.role is None:
            raise InvalidValue("an access token needs one", field="name" if body.name is None else "role")
        written = await overlay.tokens.create(by, body.name, Role(body.role), body.ttl)
    shown = token_records.shown(written.result.record)
    return JSONResponse({**shown, "token": written.result.token.text}, 201, {"cache-control": "no-store"})


@router.get(
    "/{id}", summary="Show a token", response_model=TokenRecordAnswer, responses=response_bodies.refusals(404, 422)
)
async def get_token(id: str, overlay: Services) -> JSONResponse:  # noqa: A002 - the path's own word
    return JSONResponse(token_records.shown(overlay.tokens.get(TokenId(id))))


@router.delete(
    "/{id}",
    summary="Revoke a token",
    status_code=204,
    response_description="The token is no longer valid; its open connections end within seconds.",
    response_model=None,
    responses=response_bodies.refusals(404, 422, 503),
)
async def revoke_token(id: str, overlay: Services, by: By) -> Response:  # noqa: A002
    await overlay.tokens.revoke(by, TokenId(id))
    return Response(status_code=204)


def _fingerprint(security: Security) -> str | None:
    """Return by what a host recognises the controllers; raise `InUse` where they cannot be recognised."""
    if security.is_open:
        raise InUse("this controller runs with --insecure: hosts need not join, and could not recognise it")
    return None if security.authority is None else credentials.fingerprint(security.authority)


def _refuse_given(body: TokenBody, *fields: str) -> None:
    for field in fields:
        if getattr(body, field) is not None:
            raise InvalidValue(f"does not go with kind {body.kind}", field=field)
