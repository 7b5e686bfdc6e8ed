"""DELs that the launcher queued: each is done once, none keeps another, and a later ADD is safe from them."""

import asyncio
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from overlayd.agent.attach.request import AttachmentName
from overlayd.agent.cni.del_queue import del_queue
from overlayd.agent.records.detach_queue import AT_ONCE
from overlayd.agent.runtime.signals import Changes
from overlayd.kernel.port import KernelError
from overlayd.model.ids import ContainerId, InterfaceName, NetworkName
from overlayd.wire.cni.requests import Command, Request
from tests.support.agents.loopback import running

pytestmark = pytest.mark.anyio


def queue(directory: Path, number: int, container: str, command: str = "DEL", **config: str) -> None:
    """Queue as the launcher does."""
    variables = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt/cni/bin",
        "CNI_NETNS": "/run/netns/x",
    }
    head = "".join(f"{name}={value}\0" for name, value in variables.items())
    whole = {"cniVersion": "1.0.0", "name": "blue", "type": "overlayd", **config}
    directory.mkdir(exist_ok=True)
    (directory / f"{number}-1.del").write_bytes(f"{head}\0{json.dumps(whole)}".encode())


def queued_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def added(container: str) -> Request:
    name, blue = ContainerId(container), NetworkName("blue")
    return Request(Command.ADD, "1.0.0", blue, name, InterfaceName("eth0"), f"/run/netns/{container}", blue)


class Detaching:
    """Counts what is detached; some must wait until they are let go, and some fail."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.begun: list[str] = []
        self.waits: dict[str, asyncio.Event] = {}
        self.fails: set[str] = set()
        self._changes = Changes()

    async def reached(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changes.wait(self._changes.count)

    async def __call__(self, name: AttachmentName, owner: NetworkName | None) -> None:
        assert owner is not None
        self.begun.append(name.container_id)
        self._changes.set()
        if name.container_id in self.waits:
            await self.waits[name.container_id].wait()
        if name.container_id in self.fails:
            raise KernelError(errno.EBUSY, "not now")
        self.done.append(name.container_id)
        self._changes.set()


async def test_an_addition_waits_for_what_its_config_has_queued_for_another_network(tmp_path: Path) -> None:
    queue(tmp_path, 1, "c1", network="green")
    queue(tmp_path, 2, "c1", name="theirs", network="green")
    queue(tmp_path, 3, "c2", network="green")
    detaching = Detaching()
    await del_queue(tmp_path, detaching).precede(added("c1"))
    assert detaching.done == ["c1"]
    assert sorted(queued_in(tmp_path)) == ["2-1.del", "3-1.del"]


async def test_five_hundred_are_done_though_some_have_to_wait(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(500)]
    for number, name in enumerate(names, 1000):
        queue(tmp_path, number, name)
    detaching = Detaching()
    stuck = names[: AT_ONCE - 1]
    detaching.waits = {name: asyncio.Event() for name in stuck}
    queued = del_queue(tmp_path, detaching)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(queued.drain())
        await detaching.reached(lambda: len(detaching.done) == len(names) - len(stuck))
        assert detaching.done == names[len(stuck) :]
        for event in detaching.waits.values():
            event.set()
    assert sorted(detaching.done) == sorted(names)
    assert queued_in(tmp_path) == []


async def test_an_add_waits_for_the_dels_of_its_own_interface_only(tmp_path: Path) -> None:
    for number, name in enumerate(["other", "web", "stuck", "web"]):
        queue(tmp_path, number, name)
    detaching = Detaching()
    queued = del_queue(tmp_path, detaching)
    await queued.precede(added("web"))
    assert detaching.done == ["web", "web"]
    assert len(queued_in(tmp_path)) == 2
    await queued.precede(added("web"))
    assert detaching.done == ["web", "web"]


async def test_one_that_is_being_done_is_waited_for_and_not_repeated(tmp_path: Path) -> None:
    queue(tmp_path, 1, "web")
    detaching = Detaching()
    go_on = detaching.waits["web"] = asyncio.Event()
    queued = del_queue(tmp_path, detaching)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(queued.drain())
        await detaching.reached(lambda: bool(detaching.begun))
        preceding = tasks.create_task(queued.precede(added("web")))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not preceding.done()
        go_on.set()
    assert detaching.begun == ["web"]


async def test_one_that_fails_stays_and_keeps_an_add_from_its_place(tmp_path: Path) -> None:
    for number, name in enumerate(["web", "db"]):
        queue(tmp_path, number, name)
    detaching = Detaching()
    detaching.fails = {"web"}
    queued = del_queue(tmp_path, detaching)
    await queued.drain()
    assert detaching.done == ["db"]
    with pytest.raises(KernelError):
        await queued.precede(added("web"))
    detaching.fails.clear()
    await queued.precede(added("web"))
    assert detaching.done == ["db", "web"]
    assert queued_in(tmp_path) == []


async def test_one_that_goes_on_failing_is_one_line_of_the_log(tmp_path: Path) -> None:
    queue(tmp_path, 1, "web")
    detaching = Detaching()
    detaching.fails = {"web"}
    waiting = del_queue(tmp_path, detaching)
    with capture_logs() as logs:
        for _ in range(3):
            await waiting.drain()
    assert [(line["event"], line["file"]) for line in logs] == [("a queued request failed and stays queued", "1-1.del")]


async def test_what_makes_no_sense_is_set_aside(tmp_path: Path) -> None:
    queue(tmp_path, 1, "../etc")
    queue(tmp_path, 2, "web", command="ADD")
    (tmp_path / "3-1.del").write_bytes(b"junk")
    (tmp_path / "4-1.new").write_bytes(b"half a request")
    os.mkfifo(tmp_path / "4-2.del")
    (tmp_path / "4-3.del").mkdir()
    with (tmp_path / "4-4.del").open("wb") as file:
        file.truncate(1 << 40)
    queue(tmp_path, 5, "web")
    detaching = Detaching()
    await del_queue(tmp_path, detaching).drain()
    assert detaching.done == ["web"]
    assert sorted(queued_in(tmp_path)) == sorted(
        ["4-1.new", *(f"{name}.refused" for name in ("1-1", "2-1", "3-1", "4-2", "4-3", "4-4"))]
    )


async def test_what_comes_later_is_found_with_the_next_look(tmp_path: Path) -> None:
    detaching = Detaching()
    async with running(del_queue(tmp_path / "not-there-yet", detaching).run(0.01)):
        queue(tmp_path / "not-there-yet", 1, "web")
        await detaching.reached(lambda: detaching.done == ["web"])


async def test_a_file_that_cannot_be_read_keeps_no_other_one_and_no_add_overtakes_it(tmp_path: Path) -> None:
    queue(tmp_path, 2, "web")
    unreadable = tmp_path / "1-1.del"
    unreadable.symlink_to(unreadable)
    detaching = Detaching()
    queued = del_queue(tmp_path, detaching)
    with pytest.raises(OSError, match="symbolic links"):
        await queued.drain()
    assert detaching.done == ["web"]
    with pytest.raises(OSError, match="symbolic links"):
        await queued.precede(added("db"))
    unreadable.unlink()
    await queued.precede(added("db"))
    assert queued_in(tmp_path) == []
