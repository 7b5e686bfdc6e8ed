"""Garbage collection: exactly what a config attached and its runtime no longer lists, each for itself."""

from dataclasses import replace
from pathlib import Path

import pytest

from overlayd.agent.attach.request import AttachmentName
from overlayd.agent.cni.collection import Collector
from overlayd.agent.records.attachment_records import Attachment, AttachmentRecords
from overlayd.kernel.port import KernelError
from overlayd.model.endpoint import Workload
from overlayd.model.ids import ContainerId, InterfaceName, NetworkName
from overlayd.wire.cni.error import CniError, Code
from overlayd.wire.cni.requests import GcRequest
from tests.support.controllers import clusters

pytestmark = pytest.mark.anyio

BLUE, GREEN = NetworkName("blue"), NetworkName("green")
WEB = Attachment(clusters.endpoint(1, "web", "10.32.0.2"), (4, 1), owner=BLUE)
WEB_NET1 = Attachment(clusters.endpoint(1, "web", "10.32.0.3", interface="net1"), (4, 1), owner=BLUE)
DB = Attachment(clusters.endpoint(1, "db", "10.32.0.4"), (4, 2), owner=BLUE)
OTHERS = (
    Attachment(clusters.endpoint(1, "podman", "10.32.0.5"), (4, 3), owner=NetworkName("podman-blue")),
    Attachment(clusters.endpoint(1, "docker", "10.32.0.6"), (4, 4), owner=None),
    Attachment(
        replace(clusters.endpoint(1, "unit", "10.32.0.7"), workload=Workload(runtime="netns")), (4, 6), owner=BLUE
    ),
    Attachment(clusters.endpoint(1, "cache", "10.64.0.2", "green"), (4, 5), owner=GREEN),
)


class Host:
    """A host's records, from which a DEL takes; one of a container in `busy` fails."""

    def __init__(self, directory: Path, *attachments: Attachment) -> None:
        self.records = AttachmentRecords(directory)
        for attachment in attachments:
            self.records.put(attachment)
        self.collector = Collector(self.detach, self.records)
        self.busy: set[str] = set()
        self.meanwhile: list[Attachment] = []
        """What another ADD has made by the time that the next one goes."""

    async def detach(self, name: AttachmentName, owner: NetworkName | None) -> None:
        assert owner is not None
        while self.meanwhile:
            self.records.put(self.meanwhile.pop())
        if name.container_id in self.busy:
            raise KernelError(16, f"{name.container_id} is busy")
        self.records.remove(name.key(clusters.HERE))

    async def collect(self, *valid: tuple[str, str], conf: NetworkName = BLUE) -> None:
        kept = frozenset((ContainerId(container), InterfaceName(name)) for container, name in valid)
        await self.collector.collect(GcRequest("1.1.0", conf, kept))

    @property
    def left(self) -> set[Attachment]:
        return set(self.records.attachments.values())


async def test_what_is_not_listed_goes_and_nothing_else(tmp_path: Path) -> None:
    host = Host(tmp_path, WEB, WEB_NET1, DB, *OTHERS)
    await host.collect(("web", "net1"), ("gone", "eth0"))
    assert host.left == {WEB_NET1, *OTHERS}


async def test_an_empty_list_takes_all_of_the_config_only(tmp_path: Path) -> None:
    host = Host(tmp_path, WEB, DB, *OTHERS)
    await host.collect()
    assert host.left == set(OTHERS)


async def test_one_that_cannot_go_keeps_no_other(tmp_path: Path) -> None:
    host = Host(tmp_path, WEB, WEB_NET1, DB)
    host.busy = {"web"}
    with pytest.raises(CniError) as caught:
        await host.collect()
    assert host.left == {WEB, WEB_NET1}
    assert (caught.value.code, caught.value.msg) == (Code.NOT_COLLECTED, "not collected: eth0 of web: web is busy")
    assert caught.value.details == "net1 of web: web is busy"


async def test_what_is_attached_anew_in_between_stays(tmp_path: Path) -> None:
    host = Host(tmp_path, WEB, DB)
    again = replace(DB, sandbox_id=(4, 9))
    host.meanwhile = [again]
    await host.collect()
    assert host.left == {again}


async def test_what_is_still_being_attached_stays(tmp_path: Path) -> None:
    host = Host(tmp_path, WEB, DB)
    with host.collector.arriving(AttachmentName.of(WEB.endpoint)):
        await host.collect()
    assert host.left == {WEB}
    await host.collect()
    assert host.left == set()


def test_a_record_without_a_config_is_of_the_network_of_its_name(tmp_path: Path) -> None:
    host = Host(tmp_path, WEB, *OTHERS)
    for path in tmp_path.glob("*.json"):
        text = path.read_text()
        path.write_text(text.replace('"conf": "blue", ', ""))
    again = AttachmentRecords(tmp_path)
    again.load()
    assert set(again.attachments.values()) == host.left
