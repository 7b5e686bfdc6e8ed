"""The way in for podman without root: users reach networks that the host's settings name for them.

netavark executes the plugin as the user, in namespaces of the user's own, to which the agent has no path. So the plugin
passes the container's network namespace as a descriptor. The kernel says which user is at the socket's other end
(unix(7), SO_PEERCRED). A user attaches namespaces of their own only, and detaches their own attachments only.
"""

import asyncio
import os
import shutil
import socket
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

import structlog

from overlayd.agent.attach.attachments import Attachments
from overlayd.agent.netavark import request
from overlayd.agent.netavark.server import TEARDOWN_DEADLINE, NetavarkServer, answered
from overlayd.agent.netavark.user_calls import UserCalls
from overlayd.agent.netavark.user_request import UserRequest, peer, received
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.records.quarantine import QUARANTINE_SECONDS
from overlayd.model.errors import Exhausted, Forbidden, InvalidValue, OverlayError
from overlayd.model.ids import NetworkName, quoted
from overlayd.wire.cni.requests import unpack
from overlayd.wire.fields import Fields, Json

_log = structlog.get_logger(__name__)

ATTACHMENTS_MAX = 64
"""Interfaces of one user: more than a person's containers have, and few enough to leave addresses to others."""

TURNOVER_MAX = 4
"""How many times as many interfaces a user may attach within the quarantine of addresses. Each detached one leaves
addresses that rest, so a user who attaches and detaches all the time would take the whole network."""

REQUESTS_MAX = 8
"""Requests of one user that are read or executed at the same time; podman itself makes one after the other."""


@dataclass(frozen=True, slots=True)
class Users:
    """Which users may use which networks.

    `places` is the directory of the paths of namespaces that are being attached, `most` how many interfaces one user
    may have on this host at the same time.
    """

    allowed: Mapping[int, frozenset[NetworkName]]
    places: Path
    most: int = ATTACHMENTS_MAX


class UserDoor:
    """Attaches containers of users.

    `owner` returns the user to whom a network namespace belongs, by its descriptor; it raises `KernelError`.
    """

    def __init__(
        self,
        server: NetavarkServer,
        attachments: Attachments,
        records: AttachmentRecords,
        users: Users,
        owner: Callable[[int], int],
    ) -> None:
        self._server = server
        self._attachments = attachments
        self._records = records
        self._allowed = users.allowed
        self._places = users.places
        self._most = users.most
        self._owner = owner
        self._calls = UserCalls()
        self._under_way: Counter[int] = Counter()
        self._attached: defaultdict[int, deque[float]] = defaultdict(deque)
        self._turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    async def read(self, channel: socket.socket) -> UserRequest | None:
        """Read one request, None when it is too long; raise `OSError`. One that is refused anyway is not read."""
        uid = peer(channel)
        if uid not in self._allowed:
            return UserRequest(uid, refusal=f"user {uid} may use no network of this host: see allow-user in agent.toml")
        if self._under_way[uid] >= REQUESTS_MAX:
            return UserRequest(uid, refusal=f"{REQUESTS_MAX} requests of user {uid} are under way already")
        self._under_way[uid] += 1
        found: UserRequest | None = None
        try:
            found = await self._calls.do(uid, lambda: received(channel, uid, self._owner), _close)
        finally:
            if found is None:
                self._left(uid)
        return found

    async def close(self, channel: socket.socket) -> None:
        """Close a connection, and what the user has sent by it and was not read; raise `OSError`."""
        await self._calls.do(peer(channel), channel.close, _nothing)

    def over(self, asked: UserRequest) -> None:
        """Close what came with a request."""
        asked.close()
        if not asked.refusal:
            self._left(asked.uid)

    async def answer(self, asked: UserRequest) -> bytes:
        """Return exit status and stdout for one request."""
        return await answered(self._execute(asked))

    async def _execute(self, asked: UserRequest) -> dict[str, Json]:
        if asked.refusal:
            raise Forbidden(asked.refusal)
        environment, stdin = unpack(asked.frame)
        fields = request.parse(stdin)
        async with self._turns.setdefault(asked.uid, asyncio.Lock()):
            match environment.get("NETAVARK_COMMAND", ""):
                case "create":
                    self._check_network(asked.uid, fields)
                    return await self._server.create(fields)
                case "setup":
                    self._check_network(asked.uid, fields.object("network"))
                    return await self._setup(asked, fields)
                case "teardown":
                    await self._teardown(asked.uid, fields)
                    return {}
                case other:
                    raise InvalidValue(f"{quoted(other)} is not one of create, setup, teardown", field="the operation")

    def _check_network(self, uid: int, fields: Fields) -> None:
        """Raise `Forbidden` unless a user may use a network, whether it exists or not."""
        name = request.overlay_network(fields)
        if name not in self._allowed[uid]:
            raise Forbidden(f"user {uid} may not use network {name} of this host: see allow-user in agent.toml")

    async def _setup(self, asked: UserRequest, fields: Fields) -> dict[str, Json]:
        if asked.handed is None:
            raise InvalidValue(asked.no_namespace, field="the namespace")
        if asked.owner != asked.uid:
            raise Forbidden(f"belongs to user {asked.owner}, not to user {asked.uid}", field="the namespace")
        with request.named_as_in_netavark(fields), self._placed(asked.uid, asked.handed) as sandbox:
            wanted = request.user_request(fields, sandbox, asked.uid)
            servers = request.nameservers(fields)
            if self._attachments.find(wanted.name):  # its teardown never came
                await self._attachments.detach(wanted.name)
            self._check_count(asked.uid)
            made = await self._attachments.attach(wanted)
            self._attached[asked.uid].append(asyncio.get_running_loop().time())
        return request.status_block(made, servers)

    def _check_count(self, uid: int) -> None:
        runtime = request.runtime_of(uid)
        held = sum(each.endpoint.workload.runtime == runtime for each in self._records.attachments.values())
        if held >= self._most:
            raise Exhausted(f"user {uid} has {held} interfaces on this host, and may have no more")
        recent, now = self._attached[uid], asyncio.get_running_loop().time()
        while recent and recent[0] + QUARANTINE_SECONDS <= now:
            recent.popleft()
        if len(recent) >= TURNOVER_MAX * self._most:
            raise Exhausted(
                f"user {uid} has attached {len(recent)} interfaces in the last {QUARANTINE_SECONDS:.0f} s, and may"
                " attach no more until the addresses of those that are gone have rested"
            )

    @contextmanager
    def _placed(self, uid: int, namespace: int) -> Iterator[str]:
        """Give a namespace a path for the time of the block; raise `OSError`.

        It is a link to a descriptor of this process and no mount, which would keep a namespace alive that its user has
        left. Afterwards the attachment is one without a path, and freed when its interface is gone.
        """
        self._places.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = self._places / f"{uid}-{os.fstat(namespace).st_ino}"
        place.unlink(missing_ok=True)
        place.symlink_to(f"/proc/{os.getpid()}/fd/{namespace}")
        try:
            yield str(place)
        finally:
            place.unlink(missing_ok=True)

    async def _teardown(self, uid: int, fields: Fields) -> None:
        """Detach; what cannot be detached now is freed when its namespace is gone. Raises `InvalidValue`."""
        name = request.user_name_of(fields, uid)
        if self._attachments.find(name) is None:
            return
        try:
            async with asyncio.timeout(TEARDOWN_DEADLINE):
                await self._attachments.detach(name)
        except (OverlayError, OSError) as error:
            late = isinstance(error, TimeoutError)
            reason = f"not done within {TEARDOWN_DEADLINE:.0f} s" if late else str(error)
            _log.warning("a user's teardown failed", user=uid, container=name.container_id, reason=reason)

    def _left(self, uid: int) -> None:
        self._under_way[uid] -= 1
        if not self._under_way[uid]:
            del self._under_way[uid]


def _close(lost: UserRequest | None) -> None:
    if lost:
        lost.close()


def _nothing(_result: None) -> None:
    """Leave it at that: what was closed is closed."""


def forget_places(places: Path) -> None:
    """Remove the paths that an agent left which was killed: another process may have its descriptors by now."""
    with suppress(FileNotFoundError):
        shutil.rmtree(places)
