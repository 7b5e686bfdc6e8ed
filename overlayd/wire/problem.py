"""Problem documents (RFC 9457), the form of the API's errors."""

import json
from http import HTTPStatus

from overlayd.model.errors import (
    ERRORS_BY_CODE,
    Forbidden,
    InUse,
    InvalidValue,
    NotFound,
    OverlayError,
    Unauthenticated,
    Unavailable,
)
from overlayd.wire.fields import Fields

_LATER = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
"""Of the statuses that blame the client, those that ask it to send the same again (RFC 9110, 8470, 6585)."""

_BLAMES: dict[int, type[OverlayError]] = {
    HTTPStatus.UNAUTHORIZED: Unauthenticated,
    HTTPStatus.FORBIDDEN: Forbidden,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.CONFLICT: InUse,
}


def decode(status: int, body: bytes) -> OverlayError:
    """Return the error of an API's answer as it was raised there; `Unavailable` if the body is no problem document.

    Of a code that this release does not know, the status says who is at fault: to send the same again helps only if
    that is not the client.
    """
    try:
        problem = Fields(json.loads(body))
        kind = ERRORS_BY_CODE.get(problem.text("code")) or _kind(status)
        return kind(problem.text("detail"), field=problem.text("field") if problem.has("field") else None)
    except (ValueError, RecursionError, OverlayError):
        return Unavailable(f"the controller answered status {status} without a problem document")


def _kind(status: int) -> type[OverlayError]:
    is_client_error = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _LATER
    return _BLAMES.get(status, InvalidValue) if is_client_error else Unavailable
