"""Who changes the intent."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """The author of a change, as the history names it: the name of a token, and the role it acts in."""

    name: str
    role: str


CONTROLLER = Actor("controller", "controller")
"""The author of what a controller does without a request."""


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Requester:
    """The actor that asks for a change, and whether it still waits for the result.

    A change that waits for its turn to be written is dropped when `is_waiting` returns False.
    """

    actor: Actor
    is_waiting: Callable[[], bool] = _always


BY_CONTROLLER = Requester(CONTROLLER)
"""The controller itself: it waits for every change that it begins."""
