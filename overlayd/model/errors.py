"""Errors grouped by who is at fault, each with a stable code and the HTTP status that the API answers."""

from typing import ClassVar


class OverlayError(Exception):
    """Base of every error that a user of overlayd can cause or must act on.

    `detail` is one sentence for a person; `field` is the path of the input at fault (``pools[0].range``), if any.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field

    def __str__(self) -> str:
        """Return the field, if any, and the sentence."""
        return f"{self.field}: {self.detail}" if self.field else self.detail


class InvalidValue(OverlayError):
    """The caller sent a value that breaks a rule of the model."""

    code = "invalid-value"
    status = 422


class Unauthenticated(OverlayError):
    """The caller sent no credential, or an invalid one."""

    code = "unauthenticated"
    status = 401


class Forbidden(OverlayError):
    """The caller is authenticated but not authorised for this request."""

    code = "forbidden"
    status = 403


class NotFound(OverlayError):
    """The caller named an object that does not exist."""

    code = "not-found"
    status = 404


class AlreadyExists(OverlayError):
    """The caller asked for a name, number or address that another object holds."""

    code = "already-exists"
    status = 409


class InUse(OverlayError):
    """The object cannot be changed or deleted while another object depends on it."""

    code = "in-use"
    status = 409


class Stale(OverlayError):
    """The object has changed since the caller read it."""

    code = "stale"
    status = 412


class Compacted(OverlayError):
    """The caller asked for the changes since a revision, and those have been compacted."""

    code = "compacted"
    status = 410


class Exhausted(OverlayError):
    """No free address, block, number or VNI is left."""

    code = "exhausted"
    status = 409


class Unavailable(OverlayError):
    """A component that the request needs cannot be reached; the same request may succeed later."""

    code = "unavailable"
    status = 503


ERRORS_BY_CODE: dict[str, type[OverlayError]] = {
    error.code: error
    for error in (
        InvalidValue,
        Unauthenticated,
        Forbidden,
        NotFound,
        AlreadyExists,
        InUse,
        Stale,
        Compacted,
        Exhausted,
        Unavailable,
    )
}
