"""A file on the controller's disk by which it recognises its store."""

import json
from pathlib import Path

import structlog

from controller.state.lineages import KnownLineage
from overlayd.configuration.files import write_atomically
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import Revision
from overlayd.model.lineage import parse_lineage
from overlayd.wire.fields import Fields

_VERSION = 1

_log = structlog.get_logger()


class KnownStore:
    """The file in which a controller notes what it knows of its store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._noted: KnownLineage | None = None
        self._has_failed = False

    def load(self) -> KnownLineage | None:
        """Return the last note, None when there is none.

        Raises `InvalidValue` that names the file when it is damaged, `OSError` when it cannot be read.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            fields = Fields(json.loads(content))
            return KnownLineage(
                parse_lineage(fields.text("lineage")), Revision(fields.number("revision")), fields.text("cluster")
            )
        except (ValueError, RecursionError, InvalidValue) as error:
            raise InvalidValue(
                f"is damaged ({error}); remove it, if this is the store that the controller had before",
                field=str(self.path),
            ) from None

    def note(self, known: KnownLineage) -> None:
        """Write what is known now. A full disk is logged, and does not stop the controller."""
        if known == self._noted:
            return
        body = {"v": _VERSION, "lineage": str(known.lineage), "revision": known.revision, "cluster": known.cluster}
        try:
            write_atomically(self.path, json.dumps(body).encode())
        except OSError as error:
            if not self._has_failed:
                _log.warning(
                    "what is known of the store cannot be kept: an older store may go unnoticed at the next start",
                    file=str(self.path),
                    reason=str(error),
                )
            self._has_failed = True
        else:
            self._noted, self._has_failed = known, False
