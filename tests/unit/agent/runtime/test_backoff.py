"""Waiting times: they double up to a limit, start again after a success, and differ between hosts."""

import pytest

from overlayd.agent.runtime.backoff import Backoff
from overlayd.model.errors import Forbidden, OverlayError, Unauthenticated, Unavailable


def test_waiting_times_double_up_to_the_longest() -> None:
    backoff = Backoff(shortest=1.0, longest=10.0)
    for nominal in (1.0, 2.0, 4.0, 8.0, 10.0, 10.0):
        assert nominal / 2 <= backoff.failed() <= nominal


def test_a_success_starts_again_with_the_shortest() -> None:
    backoff = Backoff(shortest=1.0, longest=100.0)
    for _ in range(6):
        backoff.failed()
    backoff.succeeded()
    assert backoff.failed() <= 1.0


def test_a_thousand_hosts_do_not_come_back_at_once() -> None:
    assert len({Backoff().failed() for _ in range(1000)}) > 900


@pytest.mark.parametrize("failures", [1, 5, 5000])
def test_no_waiting_time_is_longer_than_the_longest(failures: int) -> None:
    backoff = Backoff()
    assert max(backoff.failed() for _ in range(failures)) <= backoff.longest


@pytest.mark.parametrize("refusal", [Unauthenticated("revoked"), Forbidden("role")])
def test_a_refused_credential_is_tried_ever_more_slowly(refusal: OverlayError) -> None:
    backoff = Backoff(shortest=0.1, longest=5.0)
    assert 0.5 <= backoff.after(refusal) <= 1.0
    waits = [backoff.after(refusal) for _ in range(10)]
    assert 30.0 <= waits[-1] <= 60.0
    assert backoff.after(Unavailable("away")) <= backoff.longest
