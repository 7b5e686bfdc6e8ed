"""Threads that were started when there was room for them."""

import asyncio
import errno
import socket
from collections.abc import Coroutine
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest

from controller.clock import SystemClock
from controller.store.embedded import EmbeddedStore, StoreRefused
from controller.store.port import Committed, PutKey, Transaction
from overlayd.agent.runtime.dns_lookups import Loop
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.model.errors import Unavailable
from overlayd.service.ready_threads import ready_threads
from tests.support.kernel.failing_calls import Fault, under
from tests.support.kernel.fake_kernel import FakeKernel

T = TypeVar("T")

NO_ROOM = Fault("clone3", errno.EAGAIN)
"""What pthread_create(3) meets at a limit of threads."""


def ran_without_room(loop: asyncio.AbstractEventLoop, work: Coroutine[object, object, T]) -> T:
    """Run a coroutine in a thread that can start no other one."""
    with closing(loop):
        return under(NO_ROOM, lambda: loop.run_until_complete(work))


def test_they_work_where_no_other_thread_can_be_started() -> None:
    with ready_threads(3, "worker") as executor:
        assert under(NO_ROOM, lambda: list(executor.map(abs, range(-9, 0)))) == list(range(9, 0, -1))


def test_without_room_there_are_none() -> None:
    with pytest.raises(Unavailable, match="no room for a thread"):
        under(NO_ROOM, lambda: ready_threads(1, "worker"))


def test_the_kernel_is_called_although_no_thread_can_be_started() -> None:
    turn = KernelTurn(FakeKernel())
    assert ran_without_room(asyncio.new_event_loop(), turn.call(turn.kernel.sandbox_id, "/run/netns/web")) is None
    turn.close()


def test_a_store_is_read_and_written_although_no_thread_can_be_started(tmp_path: Path) -> None:
    async def use() -> None:
        writing = asyncio.create_task(store.run())
        assert isinstance(await store.commit(Transaction((), (PutKey("/a", b""),))), Committed)
        assert await store.get("/a")
        writing.cancel()
        await asyncio.wait([writing])
        await store.close()

    store = EmbeddedStore.open(tmp_path / "store.db", SystemClock())
    ran_without_room(asyncio.new_event_loop(), use())


def test_a_store_for_which_there_is_no_thread_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="no room for a thread"):
        under(NO_ROOM, lambda: EmbeddedStore.open(tmp_path / "store.db", SystemClock()))


def test_a_lookup_for_which_there_is_no_thread_fails_for_now() -> None:
    loop = Loop()
    with pytest.raises(socket.gaierror) as failed:
        ran_without_room(loop, loop.getaddrinfo("c1.example", 7471))
    assert failed.value.errno == socket.EAI_AGAIN
