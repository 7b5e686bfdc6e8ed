"""What a user sends holds up the user's own requests at most: it is closed in a thread beside the event loop."""

import asyncio
import os
import socket
import struct
import time
from functools import partial
from pathlib import Path

import pytest

from overlayd.agent.netavark.user_calls import CALLS_MAX, UserCalls
from overlayd.agent.runtime.unix_server import UnixServer
from overlayd.model.ids import NetworkName
from tests.support.agents.lone_host import BLUE, LoneHost
from tests.unit.agent.netavark.test_users import Door

LINGERS = 20
"""Seconds."""

ME = os.getuid()


class Lingering:
    """A connection whose end takes `LINGERS` seconds to close, unless the other end is closed: socket(7), SO_LINGER."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.end = socket.create_connection(listener.getsockname())
            self.other, _ = listener.accept()
        self.end.setblocking(False)  # noqa: FBT003 - its only parameter
        try:
            while True:
                self.end.send(b"x" * 65536)  # until nothing more has room: the rest is what it lingers for
        except BlockingIOError:
            pass
        self.end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGERS))


def asked_with(path: Path, descriptors: list[int]) -> socket.socket:
    """Send a request that is nothing, with descriptors in the first and in another message."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    socket.send_fds(client, [b"one"], descriptors)
    socket.send_fds(client, [b"two"], descriptors)
    client.shutdown(socket.SHUT_WR)
    return client


@pytest.mark.parametrize("allowed", [ME, ME + 1])
def test_a_descriptor_that_takes_long_to_close_holds_up_no_other_request(tmp_path: Path, allowed: int) -> None:
    host = LoneHost(tmp_path)
    door = Door(host, tmp_path, {allowed: frozenset[NetworkName]({BLUE})}).door
    path = tmp_path / "users.sock"

    async def talk() -> bytes:
        server = UnixServer(path, door.answer, 1, door.read, door.over, close=door.close)
        serving, poison = asyncio.ensure_future(server.run()), Lingering()
        client = asked_with(path, [poison.end.fileno()])
        poison.end.close()
        reader, writer = await asyncio.open_unix_connection(path)  # taken up after that one
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        client.close()
        poison.other.close()
        return answer

    begin = time.monotonic()
    assert b"error" in asyncio.run(talk())
    assert time.monotonic() < begin + LINGERS
    host.close()


def test_a_server_that_stops_does_not_wait_for_what_waits_to_be_accepted(tmp_path: Path) -> None:
    host = LoneHost(tmp_path)
    door, path, poison = Door(host, tmp_path).door, tmp_path / "users.sock", Lingering()
    server = UnixServer(path, door.answer, 1, door.read, door.over, close=door.close)
    client = asked_with(path, [poison.end.fileno()])
    poison.end.close()
    begin = time.monotonic()
    server.close()
    assert time.monotonic() < begin + LINGERS
    assert not path.exists()
    poison.other.close()
    client.close()
    host.close()


def test_calls_that_hang_are_so_many_and_others_are_made_meanwhile() -> None:
    async def talk() -> tuple[int, int]:
        calls, kept = UserCalls(), [socket.socketpair() for _ in range(CALLS_MAX)]
        hanging = [asyncio.ensure_future(calls.do(1000, partial(ours.recv, 1), lambda _: None)) for ours, _ in kept]
        await asyncio.sleep(0)
        late = asyncio.ensure_future(calls.do(1000, lambda: 1, lambda _: None))
        others = await calls.do(1001, lambda: 2, lambda _: None)
        assert not late.done()
        kept[0][1].send(b"x")
        found = await late
        for _, theirs in kept:
            theirs.close()
        await asyncio.gather(*hanging)
        for ours, _ in kept:
            ours.close()
        return found, others

    assert asyncio.run(talk()) == (1, 2)


def test_the_result_of_a_call_for_which_nothing_waits_is_discarded() -> None:
    async def talk() -> list[bytes]:
        calls, (ours, theirs) = UserCalls(), socket.socketpair()
        found: asyncio.Queue[bytes] = asyncio.Queue()
        waiting = asyncio.ensure_future(calls.do(1000, lambda: ours.recv(1), found.put_nowait))
        await asyncio.sleep(0)
        waiting.cancel()
        theirs.send(b"x")
        discarded = await found.get()
        ours.close()
        theirs.close()
        return [discarded]

    assert asyncio.run(talk()) == [b"x"]


def test_what_a_call_raises_is_raised() -> None:
    def failing() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        asyncio.run(UserCalls().do(1000, failing, lambda _: None))
