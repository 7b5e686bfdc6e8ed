"""What `overlayd netns` is answered when the agent itself is in trouble."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from overlayd.agent.control.server import Control
from overlayd.agent.netns.door import NamespaceDoor
from tests.support.agents.lone_host import LoneHost


@pytest.fixture
def host(tmp_path: Path) -> Iterator[LoneHost]:
    made = LoneHost(tmp_path)
    yield made
    made.close()


def test_a_record_that_cannot_be_written_is_an_answer_and_not_the_end_of_the_agent(
    host: LoneHost, tmp_path: Path
) -> None:
    door = NamespaceDoor(host.attachments, host.records)
    control = Control(host.reconciler, host.feed, host.publication, {"netns-attach": door.attach})
    host.kernel.add_sandbox("/run/netns/web")
    (tmp_path / "attachments").write_text("where the directory of the records should be")
    request = {
        "command": "netns-attach",
        "namespace": "web",
        "network": "blue",
        "interface": "eth0",
        **{name: [] for name in ("address", "reservation", "publish", "label", "alias")},
    }
    answer = json.loads(host.run(control.answer(json.dumps(request).encode())))
    assert "a file of the agent cannot be read or written" in answer["error"]
    assert host.devices() == set()
