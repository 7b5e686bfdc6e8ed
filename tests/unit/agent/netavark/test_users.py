"""Users who are not root: each attaches namespaces of their own to networks that were allowed, and nothing else."""

import asyncio
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from overlayd.agent.attach.request import AttachmentName
from overlayd.agent.netavark.server import NetavarkServer
from overlayd.agent.netavark.user_request import FRAME_MAX, UserRequest
from overlayd.agent.netavark.users import REQUESTS_MAX, TURNOVER_MAX, UserDoor, Users, forget_places
from overlayd.agent.netavark.wiring import read
from overlayd.agent.records.detach_queue import DetachQueue, QueuedKind
from overlayd.agent.records.quarantine import QUARANTINE_SECONDS
from overlayd.kernel.port import NoNamespace
from overlayd.model.ids import NetworkName
from overlayd.model.network import Network
from tests.support.agents.lone_host import BLUE, LoneHost, asked, sandbox_of
from tests.support.controllers import clusters

ALICE, BOB = 1000, 1001
ALLOWED = dict.fromkeys((ALICE, BOB, os.getuid()), frozenset({BLUE}))
NOTHING: Mapping[str, object] = {}
WEB, DB = "a" * 64, "b" * 64


class Door:
    """The door of a lone host. A namespace is a file here, and belongs to whom `owners` says, by its inode."""

    def __init__(
        self, host: LoneHost, directory: Path, allowed: Mapping[int, frozenset[NetworkName]] = ALLOWED, most: int = 64
    ) -> None:
        async def network(name: NetworkName) -> Network:
            return clusters.network(name)

        self.host = host
        self.places = directory / "places"
        self.owners: dict[int, int] = {}
        self._directory = directory
        queue = DetachQueue(
            directory / "queue", QueuedKind(".teardown", read, host.attachments.detach, AttachmentName.__eq__)
        )
        server = NetavarkServer(host.attachments, network, queue)
        users = Users(allowed, self.places, most)
        self.door = UserDoor(server, host.attachments, host.records, users, self._owner)

    def _owner(self, descriptor: int) -> int:
        inode = os.fstat(descriptor).st_ino
        if inode not in self.owners:
            raise NoNamespace("no network namespace")
        return self.owners[inode]

    def namespace(self, name: str, owner: int) -> int:
        """Make a namespace of a user; return a descriptor of it, which the door closes."""
        descriptor = os.open(self._directory / name, os.O_RDWR | os.O_CREAT, 0o600)
        inode = os.fstat(descriptor).st_ino
        for user in (ALICE, BOB) if inode not in self.owners else ():
            self.host.kernel.add_sandbox(f"{self.places}/{user}-{inode}")
        self.owners[inode] = owner
        return descriptor

    def ask(
        self,
        uid: int,
        command: str,
        *handed: int,
        container: str = WEB,
        network: str = "blue",
        wishes: Mapping[str, object] = NOTHING,
    ) -> str:
        """Return the error, nothing when it is done."""
        options = {"interface_name": "eth0", **wishes}
        document: dict[str, object] = {"name": network}
        if command != "create":
            document = {"container_id": container, "network": document, "network_options": options}
        frame = f"NETAVARK_COMMAND={command}\0\0{json.dumps(document)}".encode()
        owned = [(each, self._owner(each)) for each in handed]
        sent = UserRequest(uid, frame, *owned[0]) if owned else UserRequest(uid, frame)
        answer = self.host.run(self.door.answer(sent))
        sent.close()
        return str(json.loads(answer[1:] or b"{}").get("error", "")).removeprefix("overlayd: ")

    @property
    def attached(self) -> set[tuple[str, str]]:
        """Container and runtime of each attachment."""
        return {(each.container_id, each.workload.runtime) for each in self.host.records.endpoints}


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    host = LoneHost(tmp_path)
    yield Door(host, tmp_path)
    host.close()


def test_a_users_container_is_attached_and_the_path_of_its_namespace_lasts_no_longer(door: Door) -> None:
    assert door.ask(ALICE, "setup", door.namespace("web", ALICE)) == ""
    assert door.attached == {(f"1000.{WEB}", "netavark-1000")}
    assert list(door.places.iterdir()) == []
    assert door.ask(ALICE, "teardown") == ""
    assert door.attached == set()


def test_what_belongs_to_another_user_or_to_root_is_not_attached(door: Door) -> None:
    assert "belongs to user 1001" in door.ask(ALICE, "setup", door.namespace("bobs", BOB))
    assert "belongs to user 0" in door.ask(ALICE, "setup", door.namespace("host", 0))
    assert "was not handed over" in door.ask(ALICE, "setup")
    assert door.attached == set()


def test_a_network_that_was_not_allowed_is_refused_whether_it_exists_or_not(door: Door) -> None:
    for network in ("green", "nowhere"):
        for command in ("create", "setup"):
            said = door.ask(ALICE, command, door.namespace("web", ALICE), network=network)
            assert said == f"user 1000 may not use network {network} of this host: see allow-user in agent.toml"


def test_a_user_detaches_nothing_of_another_user_and_nothing_of_root(door: Door) -> None:
    assert door.ask(BOB, "setup", door.namespace("web", BOB)) == ""
    assert door.ask(ALICE, "teardown") == ""
    assert door.attached == {(f"1001.{WEB}", "netavark-1001")}


def test_a_user_keeps_no_container_of_others_from_its_network_by_taking_its_id(door: Door) -> None:
    """Ids are seen by everybody, in the command lines of conmon; a container that stopped has its id when it starts."""
    assert door.ask(ALICE, "setup", door.namespace("mine", ALICE)) == ""
    assert door.ask(BOB, "setup", door.namespace("web", BOB)) == ""
    door.host.kernel.add_sandbox(sandbox_of(WEB))
    door.host.run(door.host.attachments.attach(asked(WEB)))
    owners = {(f"1000.{WEB}", "netavark-1000"), (f"1001.{WEB}", "netavark-1001"), (WEB, "")}
    assert door.attached == owners


@pytest.mark.parametrize("container", ["web", "A" * 64, "a" * 63])
def test_a_container_has_an_id_that_only_podman_makes(door: Door, container: str) -> None:
    assert "container_id" in door.ask(ALICE, "setup", door.namespace("web", ALICE), container=container)


@pytest.mark.parametrize(
    ("option", "value"),
    [("static_ips", ["10.32.0.4"]), ("static_mac", "02:00:00:00:00:09"), ("options", {"reservation": "shop"})],
)
def test_addresses_are_those_that_the_network_gives(door: Door, option: str, value: object) -> None:
    said = door.ask(ALICE, "setup", door.namespace("web", ALICE), wishes={option: value})
    assert said.startswith(f"network_options.{option}: is not allowed without root")


def test_a_container_whose_teardown_never_came_is_attached_again(door: Door) -> None:
    assert door.ask(ALICE, "setup", door.namespace("before", ALICE)) == ""
    assert door.ask(ALICE, "setup", door.namespace("now", ALICE)) == ""
    assert door.attached == {(f"1000.{WEB}", "netavark-1000")}


def test_a_user_has_so_many_interfaces_and_others_have_theirs(door: Door, tmp_path: Path) -> None:
    door = Door(door.host, tmp_path, most=1)
    assert door.ask(ALICE, "setup", door.namespace("web", ALICE)) == ""
    assert "may have no more" in door.ask(ALICE, "setup", door.namespace("db", ALICE), container=DB)
    assert door.ask(BOB, "setup", door.namespace("bobs", BOB), container=DB) == ""


def test_a_user_who_attaches_and_detaches_all_the_time_does_not_use_the_network_up(door: Door, tmp_path: Path) -> None:
    door = Door(door.host, tmp_path, most=1)
    for _ in range(TURNOVER_MAX):
        assert door.ask(ALICE, "setup", door.namespace("web", ALICE)) == ""
        assert door.ask(ALICE, "teardown") == ""
    assert "until the addresses" in door.ask(ALICE, "setup", door.namespace("web", ALICE))
    assert door.ask(BOB, "setup", door.namespace("bobs", BOB)) == ""
    door.host.run(asyncio.sleep(QUARANTINE_SECONDS))
    assert door.ask(ALICE, "setup", door.namespace("web", ALICE)) == ""


def test_paths_that_a_killed_agent_left_are_removed(tmp_path: Path) -> None:
    places = tmp_path / "places"
    forget_places(places)
    places.mkdir()
    (places / "1000-7").symlink_to("/proc/1/fd/7")
    forget_places(places)
    assert not places.exists()


def read_by(door: Door, *sent: bytes, handed: tuple[int, ...] = ()) -> UserRequest | None:
    """Let this process's user send a request; return what the door reads."""

    async def exchange() -> UserRequest | None:
        server, client = socket.socketpair()
        server.setblocking(False)  # noqa: FBT003 - its only parameter
        with server, client:
            reading = asyncio.ensure_future(door.door.read(server))
            await asyncio.sleep(0)
            socket.send_fds(client, [sent[0]], list(handed))
            for each in sent[1:]:
                await asyncio.to_thread(client.sendall, each)
            client.shutdown(socket.SHUT_WR)
            return await reading

    return asyncio.run(exchange())


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_request_is_read_whole_with_one_descriptor_that_no_child_gets(door: Door) -> None:
    before, own = descriptors(), door.namespace("own", os.getuid())
    found = read_by(door, b"one ", b"x" * 100_000, handed=(own, own))
    os.close(own)
    assert found
    assert (found.uid, found.frame, found.owner) == (os.getuid(), b"one " + b"x" * 100_000, os.getuid())
    assert found.handed is not None
    assert not os.get_inheritable(found.handed)
    door.door.over(found)
    assert descriptors() == before


def test_what_is_no_namespace_is_closed_at_once(door: Door) -> None:
    before = descriptors()
    with Path(os.devnull).open() as other:
        found = read_by(door, b"x", handed=(other.fileno(),))
    assert found
    assert (found.handed, found.no_namespace) == (None, "cannot be used: no network namespace")
    assert descriptors() == before


def test_a_request_that_is_too_long_is_not_read_and_its_descriptor_closed(door: Door) -> None:
    before, own = descriptors(), door.namespace("own", os.getuid())
    assert read_by(door, b"x", b"x" * FRAME_MAX, handed=(own,)) is None
    os.close(own)
    assert descriptors() == before
    assert read_by(door, b"short") is not None, "it counts no more"


def test_a_user_has_so_many_requests_at_once(door: Door) -> None:
    under_way = [read_by(door, b"x") for _ in range(REQUESTS_MAX)]
    refused = read_by(door, b"x")
    assert refused
    assert "under way already" in refused.refusal
    door.door.over(refused)
    for each in under_way:
        assert each
        door.door.over(each)
    again = read_by(door, b"x")
    assert again
    assert again.refusal == ""


def test_a_user_who_may_do_nothing_is_answered_without_being_read(tmp_path: Path) -> None:
    host = LoneHost(tmp_path)
    stranger = Door(host, tmp_path, {ALICE: frozenset({BLUE})})
    found = read_by(stranger, b"x")
    assert found
    assert found.frame == b""
    assert "may use no network of this host" in host.run(stranger.door.answer(found)).decode()
    stranger.door.over(found)
    host.close()
