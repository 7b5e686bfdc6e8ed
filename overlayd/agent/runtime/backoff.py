"""How long to wait before trying again."""

import random
from dataclasses import dataclass

from overlayd.model.errors import Forbidden, OverlayError, Unauthenticated

_REFUSED_SHORTEST, _REFUSED_LONGEST = 1.0, 60.0
"""Seconds between attempts with a credential that is refused: more often than not, an administrator must act first."""


@dataclass(slots=True)
class Backoff:
    """Exponential waiting times in seconds, with jitter so that a thousand agents do not come back at once."""

    shortest: float = 0.1
    longest: float = 5.0
    _next: float = 0.0

    def failed(self) -> float:
        """Return how long to wait after one more failure."""
        return self._longer(self.shortest, self.longest)

    def after(self, error: OverlayError) -> float:
        """Return how long to wait after this failure: longer if our credential was refused."""
        if isinstance(error, Unauthenticated | Forbidden):
            return self._longer(_REFUSED_SHORTEST, _REFUSED_LONGEST)
        return self.failed()

    def succeeded(self) -> None:
        """Start again with the shortest time."""
        self._next = 0.0

    def _longer(self, shortest: float, longest: float) -> float:
        self._next = min(max(self._next * 2, shortest), longest)
        return self._next * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, protects nothing
