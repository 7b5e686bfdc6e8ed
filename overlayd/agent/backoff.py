"""How long to wait before trying again."""

import random
from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Exponential waiting times in seconds, with jitter so that a thousand agents do not come back at once."""

    shortest: float = 0.1
    longest: float = 5.0
    _next: float = 0.0

    def failed(self) -> float:
        """Return how long to wait after one more failure."""
        self._next = min(max(self._next * 2, self.shortest), self.longest)
        return self._next * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, protects nothing

    def succeeded(self) -> None:
        """Start again with the shortest time."""
        self._next = 0.0
