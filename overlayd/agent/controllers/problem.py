"""A problem of this host."""

from dataclasses import dataclass

from overlayd.model.ids import NetworkName


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem: the object, one sentence about it, and the affected network.

    `network` None: all networks may be affected.
    """

    object: str
    message: str
    network: NetworkName | None = None

    def __str__(self) -> str:
        """Return object and sentence, as in an error."""
        return f"{self.object}: {self.message}"
