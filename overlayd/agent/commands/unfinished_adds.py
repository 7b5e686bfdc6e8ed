"""A note of each `overlayd netns add` that has begun, so that the next one undoes what a killed one attached."""

import json
from pathlib import Path

from overlayd.configuration.files import read_regular, replace_content
from overlayd.model.errors import InvalidValue
from overlayd.wire.fields import Fields, Json

_SIZE_MAX = 4096
"""Bytes of a note."""


class UnfinishedAdd:
    """The note about one namespace. Only the command that holds the lock of the name uses it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def left(self) -> Fields | None:
        """Return the note of a command that was killed, None if there is none; raise `OSError` or `InvalidValue`."""
        try:
            return Fields(json.loads(read_regular(self._path, _SIZE_MAX)), str(self._path))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise InvalidValue(f"is not JSON: {error}", field=str(self._path)) from None

    def begin(self, what: dict[str, Json]) -> None:
        """Write a note of what this command may attach from now on; raise `OSError`."""
        replace_content(self._path, json.dumps(what).encode())

    def end(self) -> None:
        """Remove the note: the attachment is complete, or nothing is left of it."""
        self._path.unlink(missing_ok=True)
