"""How fast a container may send and receive."""

from dataclasses import dataclass

from overlayd.model.errors import InvalidValue

RATE_MIN, RATE_MAX = 1_000, 10**12
"""Bits per second. No container can work with less, and no network device has more."""

BURST_MAX = 1 << 34
"""Bits."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit in bits per second, and the burst in bits that may exceed it."""

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
    """The limits of one interface. `ingress` is what the container receives; None means no limit."""

    ingress: Rate | None = None
    egress: Rate | None = None


UNLIMITED = Bandwidth()
