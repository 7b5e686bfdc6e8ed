"""Who changes the intent."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """Whoever asked for a change, for the history: the name of a token, and the role it acts in."""

    name: str
    role: str


CONTROLLER = Actor("controller", "controller")
"""What controllers do by themselves."""
