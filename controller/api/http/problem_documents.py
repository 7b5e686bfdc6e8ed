"""Every error as a problem document (RFC 9457), with a stable code and the path of the field at fault."""

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from overlayd.model.errors import InvalidValue, OverlayError

MEDIA_TYPE = "application/problem+json"

_HEADERS = {
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": "1"},
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": 'Bearer realm="overlayd"'},  # RFC 6750, section 3
}

CODES = {
    HTTPStatus.BAD_REQUEST: "malformed",
    HTTPStatus.NOT_FOUND: "not-found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method-not-allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too-large",
}


class ProblemDocument(BaseModel):
    """Why a request was refused."""

    type: str = Field(description="A URN made of the code.", examples=["urn:overlayd:problem:in-use"])
    title: str = Field(description="The code in words.", examples=["In use"])
    status: int = Field(description="The HTTP status.", examples=[409])
    detail: str = Field(description="One sentence for a person.")
    code: str = Field(description="A stable code for programs.", examples=["in-use"])
    field: str | None = Field(None, description="The path of the input at fault.", examples=["pools[0].range"])


def install(app: FastAPI) -> None:
    """Make an application answer every error as a problem."""
    app.add_exception_handler(OverlayError, _from_overlay)
    app.add_exception_handler(RequestValidationError, _from_validation)
    app.add_exception_handler(HTTPException, _from_http)
    app.add_exception_handler(Exception, _from_defect)


def response(status: int, code: str, detail: str, field: str | None = None) -> JSONResponse:
    """Return a problem document."""
    problem = ProblemDocument(
        type=f"urn:overlayd:problem:{code}",
        title=code.replace("-", " ").capitalize(),
        status=status,
        detail=detail,
        code=code,
        field=field,
    )
    return JSONResponse(problem.model_dump(exclude_none=True), status, _HEADERS.get(HTTPStatus(status)), MEDIA_TYPE)


def field_path(location: Sequence[str | int]) -> str | None:
    """Return a location in FastAPI's form, such as ("body", "pools", 0, "range"), as a path: pools[0].range."""
    path = ""
    for part in location[1:]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".") or None


def document(schema: dict[str, Any]) -> None:
    """Document the errors of every route, with their media type, in an OpenAPI document: FastAPI names another one."""
    for path in schema["paths"].values():
        for operation in path.values():
            operation["responses"].setdefault("422", _documented("A value or a parameter is invalid."))
            if "requestBody" in operation:
                operation["responses"].setdefault("400", _documented("The body is no text."))
            for status, answer in operation["responses"].items():
                if int(status) >= HTTPStatus.BAD_REQUEST:
                    answer["content"] = {MEDIA_TYPE: answer["content"].popitem()[1]}


def _documented(description: str) -> dict[str, Any]:
    reference = {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
    return {"description": description, "content": {MEDIA_TYPE: reference}}


async def _from_overlay(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OverlayError)  # noqa: S101 - what it is installed for
    return response(error.status, error.code, error.detail, error.field)


async def _from_validation(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - what it is installed for
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return response(InvalidValue.status, InvalidValue.code, "the body is not JSON")
    return response(InvalidValue.status, InvalidValue.code, first["msg"], field_path(first["loc"]))


async def _from_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is installed for
    code = CODES.get(HTTPStatus(error.status_code), "refused")
    refusal = response(error.status_code, code, str(error.detail))
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        refusal.headers["Allow"] = ", ".join(sorted(_allowed(request)))
    return refusal


def _allowed(request: Request) -> Iterator[str]:
    """Yield the methods of all routes of a path; the one that refused knows its own only."""
    app: FastAPI = request.app
    for route in app.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            yield from getattr(route, "methods", None) or ()


async def _from_defect(_request: Request, _error: Exception) -> JSONResponse:
    # Starlette raises the exception again after this answer, and the server logs it.
    return response(HTTPStatus.INTERNAL_SERVER_ERROR, OverlayError.code, "a defect of the controller; see its log")
