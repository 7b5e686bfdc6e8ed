"""Which course of events a revision belongs to.

A store that is restored from a backup goes on from an older state: the same revisions mean something else from there
on. A *lineage* names one course. It is drawn when a store is made, and again whenever a store is found to be older than
what is known of it. `cluster` is drawn once, and stays.
"""

import re
import secrets
from dataclasses import dataclass, replace

from overlayd.model.errors import InvalidValue
from overlayd.model.ids import quoted

_FORM = re.compile(r"([0-9a-f]{16})\.([0-9a-f]{16})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Lineage:
    """A cluster, and one course of events in it."""

    cluster: str
    course: str

    def __str__(self) -> str:
        """Return it as it travels and is stored."""
        return f"{self.cluster}.{self.course}"

    @classmethod
    def founded(cls) -> "Lineage":
        """Return the lineage of a new cluster."""
        return cls(secrets.token_hex(8), secrets.token_hex(8))

    def renewed(self) -> "Lineage":
        """Return another course of the same cluster."""
        return replace(self, course=secrets.token_hex(8))


def parse_lineage(text: str, field: str = "lineage") -> Lineage:
    """Read a lineage; raise `InvalidValue`."""
    found = _FORM.fullmatch(text)
    if not found:
        raise InvalidValue(f"{quoted(text)} is no lineage", field=field)
    return Lineage(*found.groups())
