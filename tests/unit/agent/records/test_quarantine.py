"""A freed address rests for its time, in its network only."""

from ipaddress import IPv4Address, IPv6Address
from itertools import count
from pathlib import Path

import pytest

from overlayd.agent.records.quarantine import QUARANTINE_SECONDS, RestingAddresses
from overlayd.model.ids import NetworkName

BLUE, RED = NetworkName("blue"), NetworkName("red")
FIRST, SECOND = IPv4Address("10.32.0.2"), IPv4Address("10.32.0.3")


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "resting"


def test_addresses_rest_for_their_time(file: Path) -> None:
    time = Time()
    resting = RestingAddresses(file, time)
    assert resting.of(BLUE) == frozenset()
    resting.add(BLUE, [FIRST])
    time.now += QUARANTINE_SECONDS / 2
    resting.add(BLUE, [SECOND])
    assert resting.of(BLUE) == {FIRST, SECOND}
    assert resting.of(RED) == frozenset()
    time.now += QUARANTINE_SECONDS / 2
    assert resting.of(BLUE) == {SECOND}
    time.now += QUARANTINE_SECONDS / 2
    assert resting.of(BLUE) == frozenset()


def test_an_address_that_is_freed_again_rests_anew(file: Path) -> None:
    time = Time()
    resting = RestingAddresses(file, time)
    resting.add(BLUE, [FIRST])
    time.now += QUARANTINE_SECONDS - 1
    resting.add(BLUE, [FIRST])
    time.now += QUARANTINE_SECONDS - 1
    assert resting.of(BLUE) == {FIRST}


def test_the_next_agent_of_this_boot_knows_what_rests(file: Path) -> None:
    time = Time()
    other = IPv6Address("fd00:32::2")
    RestingAddresses(file, time).add(BLUE, [FIRST, other])
    time.now += QUARANTINE_SECONDS / 2
    second = RestingAddresses(file, time)
    assert second.of(BLUE) == {FIRST, other}
    second.add(RED, [SECOND])
    third = RestingAddresses(file, time)
    assert third.of(BLUE) == {FIRST, other}
    assert third.of(RED) == {SECOND}
    time.now += QUARANTINE_SECONDS / 2
    assert third.of(BLUE) == RestingAddresses(file, time).of(BLUE) == frozenset()


def test_the_file_does_not_grow_with_what_rests_no_more(file: Path) -> None:
    time = Time()
    resting = RestingAddresses(file, time)
    lines = []
    for number in count():
        resting.add(BLUE, [IPv4Address(f"10.32.{number % 200}.{number % 250}")])
        time.now += QUARANTINE_SECONDS
        lines.append(len(file.read_text().splitlines()))
        if lines[-1] < max(lines):
            break
    assert max(lines) < 5000
    assert lines[-1] <= 1


@pytest.mark.parametrize(
    "line", ["", "nonsense", "1e9 blue 10.32.0", "1e9 blue", "inf blue 10.32.0.9", "nan blue 10.32.0.9"]
)
def test_a_damaged_line_takes_nothing_else_away_and_lets_nothing_rest_for_ever(file: Path, line: str) -> None:
    time = Time()
    RestingAddresses(file, time).add(BLUE, [FIRST])
    with file.open("a") as damaged:
        damaged.write(line)
    second = RestingAddresses(file, time)
    assert FIRST in second.of(BLUE)
    time.now += QUARANTINE_SECONDS
    assert second.of(BLUE) == frozenset()


def test_where_the_file_cannot_be_used_addresses_rest_all_the_same(tmp_path: Path) -> None:
    resting = RestingAddresses(tmp_path / "absent" / "resting", Time())
    resting.add(BLUE, [FIRST])
    assert resting.of(BLUE) == {FIRST}
    (tmp_path / "directory").mkdir()
    assert RestingAddresses(tmp_path / "directory", Time()).of(BLUE) == frozenset()
