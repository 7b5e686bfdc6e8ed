"""An event loop in virtual time: it jumps to the next timer instead of waiting, and runs threads' work itself."""

import asyncio
import selectors
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

T = TypeVar("T")


class _JumpingSelector(selectors.BaseSelector):
    """Waits for no timer: where nothing is ready, it tells the loop how much time has passed."""

    def __init__(self) -> None:
        self.jump: Callable[[float], None] = lambda _: None
        self._real = selectors.DefaultSelector()

    def register(self, fileobj: "FileDescriptorLike", events: int, data: object = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: "FileDescriptorLike") -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: "FileDescriptorLike", events: int, data: object = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("nothing will ever happen: every task waits for another one")
        self.jump(timeout)
        return []

    def get_map(self) -> "Mapping[FileDescriptorLike, selectors.SelectorKey]":
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """One thread, and a clock that only timers move. So one order of events is the same in each run.

    `delay` says how many passes of the loop the work of a thread takes: others get ahead of it meanwhile.
    """

    def __init__(self, delay: Callable[[], int] = lambda: 0) -> None:
        selector = _JumpingSelector()
        super().__init__(selector)
        selector.jump = self._jump
        self._seconds = 1000.0
        self._delay = delay

    def time(self) -> float:
        return self._seconds

    def run_in_executor(self, executor: object, func: Callable[..., T], *args: object) -> "asyncio.Future[T]":
        """Run the work in the loop itself, some passes later; nothing keeps it from being done."""
        del executor
        result: asyncio.Future[T] = self.create_future()

        def work(passes: int) -> None:
            if passes:
                self.call_soon(work, passes - 1)
                return
            try:
                outcome = func(*args)
            except BaseException as error:  # noqa: BLE001 - a thread hands on whatever is raised
                if not result.cancelled():
                    result.set_exception(error)
            else:
                if not result.cancelled():
                    result.set_result(outcome)

        self.call_soon(work, self._delay())
        return result

    def _jump(self, seconds: float) -> None:
        self._seconds += seconds
