"""What `overlayd netns` is answered when the agent itself is in trouble."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from overlayd.agent.control.server import Control
from overlayd.agent.netns.door import NamespaceDoor
from overlayd.agent.records.quarantine import QUARANTINE_SECONDS
from overlayd.model.errors import OverlayError
from overlayd.wire.fields import Fields, Json
from tests.support.agents.lone_host import LoneHost


def asked(interface: str = "eth0", network: str = "blue") -> Fields:
    lists: dict[str, Json] = {name: [] for name in ("address", "reservation", "publish", "label", "alias")}
    return Fields({"namespace": "web", "network": network, "interface": interface, **lists})


@pytest.fixture
def host(tmp_path: Path) -> Iterator[LoneHost]:
    made = LoneHost(tmp_path)
    yield made
    made.close()


def test_a_record_that_cannot_be_written_is_an_answer_and_not_the_end_of_the_agent(
    host: LoneHost, tmp_path: Path
) -> None:
    door = NamespaceDoor(host.attachments, host.records)
    control = Control(host.reconciler, host.feed, host.publication, door.commands)
    host.kernel.add_sandbox("/run/netns/web")
    (tmp_path / "attachments").write_text("where the directory of the records should be")
    request = {"command": "netns-attach", **asked().value}
    answer = json.loads(host.run(control.answer(json.dumps(request).encode())))
    assert "a file of the agent cannot be read or written" in answer["error"]
    assert host.devices() == set()


def test_an_attach_without_an_answer_is_withdrawn_whatever_became_of_it(host: LoneHost) -> None:
    door = NamespaceDoor(host.attachments, host.records)
    host.kernel.add_sandbox("/run/netns/web")
    host.run(door.attach(asked("eth1", "green")))

    async def withdrawn(turns: int) -> None:
        """Withdraw an attach after so many turns of the loop."""
        attach = asyncio.ensure_future(door.attach(asked()))
        for _ in range(turns):
            await asyncio.sleep(0)
        await door.withdraw(asked())
        await asyncio.gather(attach, return_exceptions=True)
        if isinstance(failed := attach.exception(), BaseException) and not isinstance(failed, OverlayError):
            raise failed
        await asyncio.sleep(QUARANTINE_SECONDS)

    for turns in range(1, 60, 3):
        host.run(withdrawn(turns))
        assert [name[3] for name in host.records.attachments] == ["eth1"], turns
    host.run(door.attach(asked()))
    assert host.inside("web") >= {"eth0", "eth1"}
