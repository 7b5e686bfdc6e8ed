"""The long-lived tasks of a process, by their names."""

import asyncio
from collections.abc import Collection, Coroutine, Mapping

Actors = Mapping[str, Coroutine[None, None, None]]
"""Coroutines that run until they are cancelled, each by the name of its task."""


def started(tasks: asyncio.TaskGroup, actors: Actors) -> list[asyncio.Task[None]]:
    """Start actors in a group, and return their tasks."""
    return [tasks.create_task(actor, name=name) for name, actor in actors.items()]


async def stopped(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks; return when they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
