"""What an agent knows of its controllers' addresses, today and from before."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import pytest

from overlayd.agent.reconcile import controller_addresses
from overlayd.agent.reconcile.controller_addresses import ControllerAddresses
from overlayd.agent.reconcile.drift import Drift
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.dataplane.items import HOST
from tests.support.kernel.fake_kernel import FakeKernel

pytestmark = pytest.mark.anyio

NAMES = ["https://c1.example:7471", "https://[2001:db8::1]:7471", "http://192.0.2.1"]


class Nameserver:
    """Resolves these names; a test replaces them."""

    def __init__(self, names: Mapping[str, list[str]]) -> None:
        self.names = names

    def __call__(self, name: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        if name not in self.names:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", (address, 9)) for address in self.names[name]]


@pytest.fixture
def nameserver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Nameserver:
    found = Nameserver({"c1.example": ["198.51.100.1", "2001:db8::7"]})
    monkeypatch.setattr(socket, "getaddrinfo", found)
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("# ours\nsearch example\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nnameserver\n")
    monkeypatch.setattr(controller_addresses, "RESOLVER_FILES", (resolv, tmp_path / "none"))
    return found


@asynccontextmanager
async def following(addresses: ControllerAddresses) -> AsyncIterator[Drift]:
    turn = KernelTurn(FakeKernel())
    drift = Drift(turn)
    task = asyncio.create_task(addresses.follow(0.01, drift))
    try:
        yield drift
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        turn.close()


def texts(addresses: ControllerAddresses) -> set[str]:
    return {str(lifeline.address) for lifeline in addresses.lifelines}


LITERAL = {"2001:db8::1", "192.0.2.1"}
NAMESERVERS = {"192.0.2.53", "fe80::1"}
RESOLVED = {"198.51.100.1", "2001:db8::7"}


@pytest.mark.usefixtures("nameserver")
async def test_literal_addresses_need_no_nameserver(tmp_path: Path) -> None:
    addresses = ControllerAddresses(NAMES[1:], tmp_path / "controllers.json")
    await addresses.known()
    assert texts(addresses) == LITERAL
    assert addresses.nameservers == {ip_address(each) for each in NAMESERVERS}


async def test_names_are_followed_and_outlive_the_agent(tmp_path: Path, nameserver: Nameserver) -> None:
    file = tmp_path / "controllers.json"
    addresses = ControllerAddresses(NAMES, file)
    async with following(addresses) as drift:
        await addresses.known()
        assert texts(addresses) == LITERAL | NAMESERVERS | RESOLVED
        seen = await drift.changes.wait(0)
        nameserver.names = {"c1.example": ["198.51.100.2"]}
        await drift.changes.wait(seen)
        assert drift.suspects == {HOST}
        assert texts(addresses) == LITERAL | NAMESERVERS | {"198.51.100.2"}
        nameserver.names = {}
    after = ControllerAddresses(NAMES, file)
    await after.known()
    assert texts(after) == LITERAL | NAMESERVERS | {"198.51.100.2"}


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"v": 1, "names": {"c1.example": ["nowhere"]}}'])
async def test_a_file_that_says_nothing_is_as_none(
    tmp_path: Path, nameserver: Nameserver, content: bytes | None
) -> None:
    file = tmp_path / "controllers.json"
    if content is not None:
        file.write_bytes(content)
    nameserver.names = {}
    addresses = ControllerAddresses(NAMES, file)
    async with following(addresses):
        await addresses.known()  # as the nameserver has been asked
        assert texts(addresses) == LITERAL | NAMESERVERS
