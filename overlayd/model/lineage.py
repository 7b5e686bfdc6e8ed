"""The lineage of a store: revisions can be compared only within one lineage.

A store that is restored from a backup continues from an older state, and then gives the same revision numbers to other
changes. A *lineage* identifies one such sequence of changes. It is random, made with the store, and replaced when the
store is found to be older than a revision that was seen before. Its part `cluster` is made once and never replaced.
"""

import re
import secrets
from dataclasses import dataclass, replace

from overlayd.model.errors import InvalidValue
from overlayd.model.ids import quoted

_FORM = re.compile(r"([0-9a-f]{16})\.([0-9a-f]{16})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Lineage:
    """A cluster, and one sequence of changes (`course`) in it."""

    cluster: str
    course: str

    def __str__(self) -> str:
        """Return the text form, as messages and the store have it."""
        return f"{self.cluster}.{self.course}"

    @classmethod
    def founded(cls) -> "Lineage":
        """Return the lineage of a new cluster."""
        return cls(secrets.token_hex(8), secrets.token_hex(8))

    def renewed(self) -> "Lineage":
        """Return the lineage of a restored store: the same cluster with a new course."""
        return replace(self, course=secrets.token_hex(8))


def parse_lineage(text: str, field: str = "lineage") -> Lineage:
    """Read a lineage; raise `InvalidValue`."""
    found = _FORM.fullmatch(text)
    if not found:
        raise InvalidValue(f"{quoted(text)} is no lineage", field=field)
    return Lineage(*found.groups())
