"""What is wrong on this host."""

from dataclasses import dataclass

from overlayd.model.ids import NetworkName


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be: which object, what is wrong in one sentence, and which network suffers.

    `network` None: all of them may.
    """

    object: str
    message: str
    network: NetworkName | None = None

    def __str__(self) -> str:
        """Show both, as they belong together in an error."""
        return f"{self.object}: {self.message}"
