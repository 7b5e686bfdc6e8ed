"""What netavark's plugin is answered, whatever it sends."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from overlayd.agent.attach.request import AttachmentName
from overlayd.agent.netavark.server import NetavarkServer
from overlayd.agent.netavark.wiring import read
from overlayd.agent.records.detach_queue import DetachQueue, QueuedKind
from overlayd.model.ids import NetworkName
from overlayd.model.network import Network
from tests.support.agents.lone_host import LoneHost
from tests.support.controllers import clusters


@pytest.fixture
def host(tmp_path: Path) -> Iterator[LoneHost]:
    made = LoneHost(tmp_path)
    yield made
    made.close()


@pytest.fixture
def server(host: LoneHost, tmp_path: Path) -> NetavarkServer:
    async def network(name: NetworkName) -> Network:
        return clusters.network(name)

    kind = QueuedKind(".teardown", read, host.attachments.detach, AttachmentName.__eq__)
    return NetavarkServer(host.attachments, network, DetachQueue(tmp_path / "queue", kind))


@pytest.mark.parametrize("document", ['{"name": "blue", "options": %s}', '{"name": "blue", "labels": %s}', "%s"])
def test_a_document_of_any_depth_is_answered(host: LoneHost, server: NetavarkServer, document: str) -> None:
    """Just above what the parser refuses, other functions that recurse still meet it: on the stack they are deeper."""
    for depth in [*range(900, 1010), 100_000]:
        text = document % ("[" * depth + "]" * depth)
        answer = host.run(server.answer(b"NETAVARK_COMMAND=create\0\0" + text.encode()))
        assert answer[:1] == b"0" or "error" in json.loads(answer[1:])
