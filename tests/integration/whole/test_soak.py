"""The soak, for a short time: `make soak` runs it for ten minutes with two hundred hosts."""

from pathlib import Path

import pytest

from tests.soak.run import Options, soak


@pytest.mark.anyio
@pytest.mark.timeout(180)
async def test_controllers_and_etcd_nodes_die_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    outcome = await soak(Options(seconds=20, hosts=24, pause=0.5, seed=7, directory=tmp_path))
    assert outcome.faults == ()
    assert outcome.acknowledged > 100
    assert len(outcome.chaos) >= 2, "there was something to survive"
