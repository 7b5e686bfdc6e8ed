"""Commands about one name exclude each other, though each removes the lock's file at its end."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from overlayd.agent.commands import made_namespaces
from overlayd.configuration import files
from overlayd.dataplane.items import NamespaceRef
from overlayd.kernel.spaces import namespaces
from overlayd.model.ids import ContainerId
from tests.support.kernel.hosted_kernel import SimulatedHost
from tests.support.lab.descriptors import copied, opened
from tests.support.lab.processes import PATIENCE, eventually

pytestmark = pytest.mark.usefixtures("root")

WEB = ContainerId("web")
THREADS, ROUNDS = 6, 40


@pytest.fixture
def host() -> Iterator[SimulatedHost]:
    with SimulatedHost(IPv4Interface("192.0.2.1/24")) as made:
        yield made


def test_one_at_a_time_has_a_name(host: SimulatedHost) -> None:
    inside: list[int] = []
    most: list[int] = []

    def take(number: int) -> None:
        for _ in range(ROUNDS):
            with made_namespaces.alone(WEB):
                inside.append(number)
                os.sched_yield()
                most.append(len(inside))
                inside.remove(number)

    def all_take() -> list[str]:
        with ThreadPoolExecutor(THREADS) as executor:
            list(executor.map(take, range(THREADS)))
        return files.names(Path("/run/overlayd/netns"))

    assert host.run(all_take) == []
    assert most == [1] * THREADS * ROUNDS


def test_a_name_is_free_at_once_although_a_program_that_is_being_started_has_a_copy_of_its_lock(
    host: SimulatedHost,
) -> None:
    lock = Path("/run/overlayd/netns/.web.lock")

    def take() -> None:
        with made_namespaces.alone(WEB):
            pass

    def take_beside_a_copy() -> None:
        with ThreadPoolExecutor(1) as executor, ExitStack() as starting:
            with made_namespaces.alone(WEB):
                starting.enter_context(copied(lock))
                waiting = executor.submit(take)
                eventually(lambda: len(opened(lock)) == 3, "another command waits for the lock")
            waiting.result(PATIENCE)

    host.run(take_beside_a_copy)


def test_a_namespace_is_made_once_and_known_until_it_is_removed(host: SimulatedHost) -> None:
    def made_and_removed() -> list[bool]:
        path = NamespaceRef("/run/netns/web")
        with made_namespaces.alone(WEB):
            found = [made_namespaces.is_made(WEB), made_namespaces.make(WEB), made_namespaces.make(WEB)]
            found.append(made_namespaces.is_made(WEB))
            namespaces.delete(path)
            found.append(made_namespaces.is_made(WEB))
            namespaces.create(path)
            found.append(made_namespaces.is_made(WEB))
            made_namespaces.remove(WEB)
            return [*found, made_namespaces.is_made(WEB)]

    assert host.run(made_and_removed) == [False, True, False, True, True, False, False]


def test_a_namespace_is_not_taken_for_one_that_was_made_before_a_boot(host: SimulatedHost) -> None:
    def is_made_after(change: Callable[[str], str]) -> bool:
        mark = Path("/run/overlayd/netns/web")
        with made_namespaces.alone(WEB):
            made_namespaces.make(WEB)
            mark.write_text(change(mark.read_text()))
            found = made_namespaces.is_made(WEB)
            made_namespaces.remove(WEB)
            return found

    def of_another_boot(text: str) -> str:
        return f"{'0' * 36} {text.partition(' ')[2]}"

    def of_an_earlier_release(text: str) -> str:
        return text.partition(" ")[2]

    assert not host.run(is_made_after, of_another_boot)
    assert host.run(is_made_after, of_an_earlier_release)
