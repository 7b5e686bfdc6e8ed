"""What runs as long as a controller does."""

from collections.abc import Coroutine

Actors = dict[str, Coroutine[None, None, None]]
"""Coroutines that never return, by the names of their tasks."""
