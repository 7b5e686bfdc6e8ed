"""What systemd hears of a process, and when it hears nothing more."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from overlayd.service.systemd_notify import ServiceManager

HERE = 4711


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def test_without_systemd_nobody_is_told_and_nothing_is_watched() -> None:
    alone = ServiceManager.of({}, HERE)
    assert alone == ServiceManager()
    alone.tell("READY=1")
    asyncio.run(alone.watch(lambda _: pytest.fail("nobody waits for it")))


def test_states_go_in_one_message(listening: socket.socket) -> None:
    ServiceManager.of({"NOTIFY_SOCKET": listening.getsockname()}, HERE).tell("READY=1", "STATUS=well")
    assert listening.recv(100) == b"READY=1\nSTATUS=well"


def test_an_abstract_socket_is_written_with_an_at_sign() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0overlayd-test-supervisor")
        ServiceManager("@overlayd-test-supervisor").tell("READY=1")
        assert listening.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "1500000"}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(HERE)}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_for_the_process_that_is_meant(variables: dict[str, str], seconds: float | None) -> None:
    assert ServiceManager.of(variables, HERE).watchdog == seconds


def test_signs_of_life_come_only_while_all_is_well(listening: socket.socket) -> None:
    well, asked = [True, False, False, True], list[float]()

    def is_well(patience: float) -> bool:
        asked.append(patience)
        if not well:
            raise KeyError
        return well.pop(0)

    with pytest.raises(KeyError):
        asyncio.run(ServiceManager(listening.getsockname(), watchdog=0.003).watch(is_well))
    assert asked == [0.003] * 5
    assert [listening.recv(100) for _ in range(2)] == [b"WATCHDOG=1"] * 2
    listening.settimeout(0)
    with pytest.raises(BlockingIOError):
        listening.recv(100)
