"""Threads that are started before they are needed, so that a system without room for more cannot end a daemon later."""

import threading
from concurrent.futures import ThreadPoolExecutor

from overlayd.model.errors import Unavailable


def ready_threads(count: int, name: str) -> ThreadPoolExecutor:
    """Return an executor whose threads run; raise `Unavailable` when the system has no room for them.

    An executor otherwise starts a thread when it is given work, and raises `RuntimeError` where that fails; it may do
    the work all the same, later.
    """
    executor = ThreadPoolExecutor(count, thread_name_prefix=name)
    started = threading.Barrier(count + 1)  # none of them is idle before all run, so each submission starts another
    try:
        for _ in range(count):
            executor.submit(started.wait)
    except RuntimeError as error:
        started.abort()
        executor.shutdown()
        raise Unavailable(f"the system has no room for a thread: {error}") from error
    started.wait()
    return executor
