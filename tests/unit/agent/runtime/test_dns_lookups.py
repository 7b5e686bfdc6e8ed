"""Lookups of names that take as long as they like."""

import asyncio
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator

import pytest

from overlayd.agent.runtime.dns_lookups import Loop


class Silence:
    """A resolver that says nothing until it is released, and then `answer`."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.released = threading.Event()
        self.answer: object = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    def __call__(self, *question: object) -> object:
        self.asked.append(question)
        self.released.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Iterator[Silence]:
    resolver = Silence()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    yield resolver
    resolver.released.set()


def test_a_loop_that_ends_waits_for_no_lookup(silence: Silence) -> None:
    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.get_running_loop().getaddrinfo("c1.example", 7471)

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(give_up())
    assert silence.asked
    assert not silence.released.is_set(), "it is over, and the lookup goes on"


def test_a_process_that_ends_waits_for_no_lookup_either() -> None:
    program = """
        import asyncio, socket, threading
        from overlayd.agent.runtime.dns_lookups import Loop
        asked = threading.Event()
        def resolve(*question):
            asked.set()
            threading.Event().wait()
        socket.getaddrinfo = resolve
        async def ask():
            lookup = asyncio.create_task(asyncio.get_running_loop().getaddrinfo("c1.example", 7471))
            await asyncio.to_thread(asked.wait)
            lookup.cancel()
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(ask())
        print("ends")
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "ends\n"


def test_a_name_that_is_asked_for_already_is_not_asked_for_again(silence: Silence) -> None:
    silence.answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 7471))]

    async def ask_twice() -> None:
        loop = asyncio.get_running_loop()
        names = ("c1.example", "c1.example", "c2.example")
        asking = [asyncio.create_task(loop.getaddrinfo(name, 7471)) for name in names]
        await asyncio.sleep(0)
        asking[0].cancel()
        silence.released.set()
        assert await asking[1] == await asking[2] == silence.answer
        assert {question[0] for question in silence.asked} == set(names)
        assert len(silence.asked) == 2
        await loop.getaddrinfo("c1.example", 7471)
        assert len(silence.asked) == 3, "an answer is good for those who waited for it"

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(ask_twice())


@pytest.mark.parametrize(
    "error", [socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), UnicodeError("label too long")]
)
def test_a_lookup_that_fails_says_so_to_all_who_wait(silence: Silence, error: Exception) -> None:
    silence.answer = error
    silence.released.set()

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        both = await asyncio.gather(*(loop.getaddrinfo("c1.example", 1) for _ in range(2)), return_exceptions=True)
        assert [type(each) for each in both] == [socket.gaierror] * 2

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(ask())
