"""What netavark's plugin is answered, whatever it sends."""

import asyncio
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
from tests.support.agents.lone_host import LoneHost, sandbox_of
from tests.support.controllers import clusters


@pytest.fixture
def host(tmp_path: Path) -> Iterator[LoneHost]:
    made = LoneHost(tmp_path)
    yield made
    made.close()


@pytest.fixture
def queue(host: LoneHost, tmp_path: Path) -> DetachQueue[AttachmentName]:
    kind = QueuedKind(".teardown", read, host.attachments.detach, AttachmentName.__eq__)
    return DetachQueue(tmp_path / "queue", kind)


@pytest.fixture
def server(host: LoneHost, queue: DetachQueue[AttachmentName]) -> NetavarkServer:
    async def network(name: NetworkName) -> Network:
        return clusters.network(name)

    return NetavarkServer(host.attachments, network, queue)


@pytest.mark.parametrize("document", ['{"name": "blue", "options": %s}', '{"name": "blue", "labels": %s}', "%s"])
def test_a_document_of_any_depth_is_answered(host: LoneHost, server: NetavarkServer, document: str) -> None:
    """Just above what the parser refuses, other functions that recurse still meet it: on the stack they are deeper."""
    for depth in [*range(900, 1010), 100_000]:
        text = document % ("[" * depth + "]" * depth)
        answer = host.run(server.answer(b"NETAVARK_COMMAND=create\0\0" + text.encode()))
        assert answer[:1] == b"0" or "error" in json.loads(answer[1:])


def frame(command: str) -> bytes:
    network = {"name": "blue", "id": "1", "driver": "overlayd", "options": {"network": "blue"}}
    options = {"interface_name": "eth0"}
    document = {"container_id": "web", "container_name": "web", "network": network, "network_options": options}
    head = f"NETAVARK_COMMAND={command}\0NETAVARK_NETNS={sandbox_of('web')}\0"
    return f"{head}\0{json.dumps(document)}".encode()


def test_a_teardown_does_not_overtake_a_setup_that_waits_for_a_queued_one(
    host: LoneHost, server: NetavarkServer, queue: DetachQueue[AttachmentName]
) -> None:
    """A container that podman starts again has the id that it had, and podman tears down what it gave up on."""
    host.kernel.add_sandbox(sandbox_of("web"))
    assert host.run(server.answer(frame("setup")))[:1] == b"0"
    queue.put(frame("teardown"))

    async def both() -> tuple[bytes, bytes]:
        async with host.turn.taken_to_remove():
            tasks = [asyncio.ensure_future(server.answer(frame(command))) for command in ("setup", "teardown")]
            await asyncio.sleep(0.1)
        first, last = await asyncio.gather(*tasks)
        return first, last

    first, last = host.run(both())
    assert (first[:1], last) == (b"0", b"0")
    assert host.records.endpoints == ()


def setup(host: LoneHost, server: NetavarkServer, sandbox: str) -> str:
    """Set the container up in this namespace; return what is wrong, nothing when it is attached."""
    document = {
        "container_id": "web",
        "network": {"name": "blue"},
        "network_options": {"interface_name": "eth0", "static_ips": ["10.32.0.4"]},
    }
    variables = f"NETAVARK_COMMAND=setup\0NETAVARK_NETNS={sandbox_of(sandbox)}\0\0"
    answer = host.run(server.answer(variables.encode() + json.dumps(document).encode()))
    return str(json.loads(answer[1:]).get("error", ""))


def test_a_container_whose_podman_was_killed_starts_again_in_another_namespace(
    host: LoneHost, server: NetavarkServer
) -> None:
    for sandbox in ("before", "now"):
        host.kernel.add_sandbox(sandbox_of(sandbox))
    assert setup(host, server, "before") == ""
    assert setup(host, server, "now") == ""
    assert (host.inside("before"), host.inside("now")) == ({"lo"}, {"lo", "eth0"})
    assert "attached to blue" in setup(host, server, "now"), "twice in one namespace is a mistake"
    assert host.inside("now") == {"lo", "eth0"}
