"""How fast a container may send and receive."""

from dataclasses import dataclass

from overlayd.model.errors import InvalidValue

RATE_MIN, RATE_MAX = 1_000, 10**12
"""Bits per second. Less is no network, more than any device has."""

BURST_MAX = 1 << 34
"""Bits."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate in bits per second, and how many bits may pass at once above it."""

    rate: int
    burst: int

    def __post_init__(self) -> None:
        """Raise `InvalidValue` (fields `Rate`, `Burst`) when a number is out of bounds."""
        if not RATE_MIN <= self.rate <= RATE_MAX:
            raise InvalidValue(f"{self.rate} is not in {RATE_MIN}..{RATE_MAX} bits per second", field="Rate")
        if not 0 <= self.burst <= BURST_MAX:
            raise InvalidValue(f"{self.burst} is not in 0..{BURST_MAX} bits", field="Burst")


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """The limits of one interface, as the container sees it: `ingress` is what it receives; None is no limit."""

    ingress: Rate | None = None
    egress: Rate | None = None


UNLIMITED = Bandwidth()
