"""How many attachments are made at once: bounded, in order, and one network holds up no other."""

import asyncio
from collections.abc import Sequence

import pytest

from overlayd.agent.attach.admission import Admission, Bounds
from overlayd.model.endpoint import EndpointKey
from overlayd.model.errors import Unavailable
from overlayd.model.ids import ContainerId, InterfaceName, NetworkName
from tests.support.controllers.clusters import HERE

pytestmark = pytest.mark.anyio

BOUNDS = Bounds(at_once=4, in_network=3, waiting=6, patience=60.0)


def key(network: str, container: str) -> EndpointKey:
    return (NetworkName(network), HERE, ContainerId(container), InterfaceName("eth0"))


class Attaching:
    """Attachments that go on until the test lets them end."""

    def __init__(self, admission: Admission) -> None:
        self.begun: list[str] = []
        self.admission = admission
        self.may_end: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def begin(self, *names: str) -> None:
        """Ask for these at once: the part before the dash is the network."""
        for name in names:
            self.may_end[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._attach(name))
        await settled()

    async def end(self, *names: str) -> None:
        for name in names:
            self.may_end[name].set()
        await settled()

    async def cancel(self, *names: str) -> None:
        for name in names:
            self.tasks[name].cancel()
        await settled()

    def refusal(self, name: str) -> str:
        error = self.tasks[name].exception()
        assert isinstance(error, Unavailable)
        return str(error)

    async def all_end(self) -> Sequence[BaseException | None]:
        for event in self.may_end.values():
            event.set()
        return await asyncio.gather(*self.tasks.values(), return_exceptions=True)

    async def _attach(self, name: str) -> None:
        async with self.admission.admitted(key(name.partition("-")[0], name)):
            self.begun.append(name)
            await self.may_end[name].wait()


async def settled() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_so_many_are_made_at_once_and_the_others_come_in_order() -> None:
    attaching = Attaching(Admission(BOUNDS))
    await attaching.begin("blue-1", "blue-2", "red-1", "red-2", "red-3", "green-1", "blue-3")
    assert attaching.begun == ["blue-1", "blue-2", "red-1", "red-2"]
    await attaching.end("blue-1")
    await attaching.end("red-2", "red-1")
    assert attaching.begun[4:] == ["red-3", "green-1", "blue-3"]
    assert await attaching.all_end() == [None] * 7


async def test_a_network_whose_attachments_go_on_for_long_holds_up_no_other() -> None:
    attaching = Attaching(Admission(BOUNDS))
    await attaching.begin(*(f"slow-{number}" for number in range(5)), "blue-1")
    assert attaching.begun == ["slow-0", "slow-1", "slow-2", "blue-1"]
    await attaching.end("blue-1")
    await attaching.begin("blue-2")
    assert attaching.begun[4:] == ["blue-2"], "those of the slow network wait for their own"
    assert await attaching.all_end() == [None] * 7


async def test_what_is_too_much_is_refused_at_once() -> None:
    attaching = Attaching(Admission(BOUNDS))
    await attaching.begin(*(f"blue-{number}" for number in range(10)))
    assert attaching.refusal("blue-9") == "this host is busy with 3 other attachments, and 6 wait already"
    assert await attaching.all_end() == [None] * 9 + [attaching.tasks["blue-9"].exception()]


async def test_a_turn_that_does_not_come_in_time_is_refused_and_takes_no_place() -> None:
    attaching = Attaching(Admission(Bounds(at_once=1, in_network=1, waiting=6, patience=0.01)))
    await attaching.begin("blue-1", "blue-2")
    await asyncio.wait([attaching.tasks["blue-2"]])
    assert "its turn did not come" in attaching.refusal("blue-2")
    await attaching.end("blue-1")
    await attaching.begin("blue-3")
    assert attaching.begun == ["blue-1", "blue-3"]
    await attaching.all_end()


async def test_one_whose_del_comes_before_it_is_begun_is_refused() -> None:
    attaching = Attaching(Admission(BOUNDS))
    await attaching.begin(*(f"blue-{number}" for number in range(5)))
    attaching.admission.withdraw(key("blue", "blue-3"))
    attaching.admission.withdraw(key("blue", "blue-0"))
    await settled()
    assert "its DEL came" in attaching.refusal("blue-3")
    await attaching.end("blue-0")
    assert attaching.begun == ["blue-0", "blue-1", "blue-2", "blue-4"]
    await attaching.all_end()


async def test_one_that_is_cancelled_as_its_turn_comes_passes_it_on() -> None:
    attaching = Attaching(Admission(Bounds(at_once=1, in_network=1, waiting=6, patience=60.0)))
    await attaching.begin("blue-1", "blue-2", "blue-3")
    attaching.may_end["blue-1"].set()
    await asyncio.sleep(0)
    await attaching.cancel("blue-2")
    assert attaching.begun == ["blue-1", "blue-3"]
    await attaching.all_end()


async def test_one_that_is_cancelled_before_its_turn_comes_takes_no_place() -> None:
    attaching = Attaching(Admission(Bounds(at_once=1, in_network=1, waiting=6, patience=60.0)))
    await attaching.begin("blue-1", "blue-2", "blue-3")
    attaching.tasks["blue-2"].cancel()
    await attaching.end("blue-1")
    assert attaching.begun == ["blue-1", "blue-3"]
    await attaching.all_end()
