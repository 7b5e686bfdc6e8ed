"""A token in a file, or on standard input."""

import sys
from pathlib import Path

from overlayd.model.errors import InvalidValue

_READ_MAX = 4096
"""Characters: a token is far shorter."""


def read_token(path: Path, field: str) -> str:
    """Return the token in a file, or on standard input for the path `-`; raise `InvalidValue`."""
    try:
        if str(path) == "-":
            return sys.stdin.read(_READ_MAX).strip()
        with path.open() as file:
            return file.read(_READ_MAX).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValue(f"{path} cannot be read: {error}", field=field) from None
