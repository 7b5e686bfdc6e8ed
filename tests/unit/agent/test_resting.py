"""A freed address rests for its time, in its network only."""

from ipaddress import IPv4Address

from overlayd.agent.resting import QUARANTINE_SECONDS, RestingAddresses
from overlayd.model.ids import NetworkName

BLUE, RED = NetworkName("blue"), NetworkName("red")
FIRST, SECOND = IPv4Address("10.32.0.2"), IPv4Address("10.32.0.3")


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_addresses_rest_for_their_time() -> None:
    time = Time()
    resting = RestingAddresses(time)
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


def test_an_address_that_is_freed_again_rests_anew() -> None:
    time = Time()
    resting = RestingAddresses(time)
    resting.add(BLUE, [FIRST])
    time.now += QUARANTINE_SECONDS - 1
    resting.add(BLUE, [FIRST])
    time.now += QUARANTINE_SECONDS - 1
    assert resting.of(BLUE) == {FIRST}
