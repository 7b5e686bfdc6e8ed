"""The chaos, for a minute: `make chaos` runs it as long as one likes, with another seed each time."""

from pathlib import Path

import pytest

from tests.chaos.run import Options, chaos


@pytest.mark.usefixtures("root")
@pytest.mark.timeout(400)
def test_whatever_goes_wrong_traffic_goes_on_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    outcome = chaos(Options(60, "one minute", tmp_path), print)
    assert outcome.violations == (), outcome.timeline
    assert len(outcome.faults) >= 10, "there was something to survive"
    assert outcome.done["attached"] > 20
