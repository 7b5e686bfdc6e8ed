"""Finding this host's address, also while no name is resolved."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from overlayd.agent.controllers import own_address
from overlayd.agent.controllers.own_address import OwnAddress
from overlayd.model.errors import Unavailable

pytestmark = pytest.mark.anyio


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A resolver that says nothing until the event is set, and then that it found nothing."""
    released = threading.Event()

    def resolve(*_: object, **__: object) -> object:
        released.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    yield released
    released.set()


async def test_a_silent_resolver_stops_nothing_else(silence: threading.Event) -> None:
    asked = asyncio.create_task(OwnAddress(None, ["https://c1.example:7471"]).current())
    for _ in range(3):
        await asyncio.sleep(0)
    assert not asked.done(), "the loop goes on while the lookup does"
    silence.set()
    with pytest.raises(Unavailable, match=r"no route to the controller c1\.example: .*Temporary failure"):
        await asked


@pytest.mark.usefixtures("silence")
async def test_a_lookup_ends_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_address, "_LOOKUP_MAX", 0.01)
    with pytest.raises(Unavailable, match=r"c1\.example: cannot resolve its name; .*c2\.example: cannot"):
        await OwnAddress(None, ["https://c1.example:7471", "https://c2.example:7471"]).current()


@pytest.mark.usefixtures("silence")
async def test_an_address_that_was_given_needs_no_resolver() -> None:
    given = ip_address("192.0.2.1")
    assert await OwnAddress(given, ["https://c1.example:7471"]).current() == given
