"""The error object that a failed CNI operation answers (CNI SPEC, section "Error")."""

import json
from enum import IntEnum

from overlayd.model.ids import quoted


class Code(IntEnum):
    """Error codes: 1..99 are those of the CNI SPEC, from 100 on our own."""

    INCOMPATIBLE_VERSION = 1
    UNSUPPORTED_FIELD = 2
    UNKNOWN_CONTAINER = 3
    INVALID_ENVIRONMENT = 4
    IO_FAILURE = 5
    DECODING_FAILURE = 6
    INVALID_CONFIG = 7
    INVALID_NAMESPACE = 8
    TRY_AGAIN_LATER = 11
    NOT_AVAILABLE = 50
    LIMITED = 51
    KERNEL = 100
    EXHAUSTED = 101
    NOT_AS_ATTACHED = 102
    NOT_COLLECTED = 103


class CniError(Exception):
    """An operation failed; rendered as the CNI error object."""

    def __init__(self, code: Code, msg: str, details: str = "") -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.details = details


def unsupported(value: object, field: str, reason: str) -> CniError:
    """Return the error for a field of the config with an unsupported value; it names both, as the SPEC requires."""
    return CniError(Code.UNSUPPORTED_FIELD, f"{field}: {quoted(value)} is not supported: {reason}")


def render(version: str, error: CniError) -> bytes:
    """Return the error object."""
    body: dict[str, object] = {"cniVersion": version, "code": int(error.code), "msg": error.msg}
    if error.details:
        body["details"] = error.details
    return json.dumps(body, indent=2).encode() + b"\n"
