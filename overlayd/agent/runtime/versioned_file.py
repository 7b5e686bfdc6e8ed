"""JSON files of the agent that contain the version of their format."""

import json
from pathlib import Path

from overlayd.configuration.files import read_regular
from overlayd.model.errors import InvalidValue
from overlayd.wire.fields import Fields


class NewerVersion(InvalidValue):
    """A newer agent wrote this file, and it may contain fields that this agent would lose."""


def read_versioned(path: Path, size_max: int, newest: int) -> Fields:
    """Return the fields of a file whose version is `newest` or an earlier one; `size_max` is in bytes.

    Raises:
        NewerVersion: a newer agent wrote it.
        InvalidValue: it is larger, is not JSON or has no version; names the file.
        OSError: it cannot be read.
    """
    try:
        fields = Fields(json.loads(read_regular(path, size_max)), str(path))
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"is not JSON: {error}", field=str(path)) from None
    if fields.number("v") > newest:
        raise NewerVersion("was written by a newer overlayd", field=fields.at("v"))
    return fields
