"""Problem documents (RFC 9457), the form of the API's errors."""

import json

from overlayd.model.errors import ERRORS_BY_CODE, OverlayError, Unavailable
from overlayd.wire.fields import Fields


def decode(status: int, body: bytes) -> OverlayError:
    """Return the error of an API's answer as it was raised there; `Unavailable` if the body is no problem document."""
    try:
        problem = Fields(json.loads(body))
        kind = ERRORS_BY_CODE.get(problem.text("code"), Unavailable)
        return kind(problem.text("detail"), field=problem.text("field") if problem.has("field") else None)
    except (ValueError, RecursionError, OverlayError):
        return Unavailable(f"the controller answered status {status} without a problem document")
