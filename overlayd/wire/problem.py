"""Problem documents (RFC 9457), in which the API's errors travel."""

import json

from overlayd.model.errors import ERRORS_BY_CODE, OverlayError, Unavailable
from overlayd.wire.fields import Fields


def decode(status: int, body: bytes) -> OverlayError:
    """Return the error that an API answered, as it was raised there; `Unavailable` when the body tells nothing."""
    try:
        problem = Fields(json.loads(body))
        kind = ERRORS_BY_CODE.get(problem.text("code"), Unavailable)
        return kind(problem.text("detail"), field=problem.text("field") if problem.has("field") else None)
    except (ValueError, RecursionError, OverlayError):
        return Unavailable(f"the controller answered status {status} without a problem document")
