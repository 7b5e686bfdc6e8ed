"""Answering netavark's plugin."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from overlayd.agent.attach.attachments import Attachments
from overlayd.agent.attach.request import AttachmentName, AttachRequest
from overlayd.agent.netavark import request
from overlayd.agent.records.detach_queue import DetachQueue
from overlayd.model.errors import InvalidValue, OverlayError
from overlayd.model.ids import NetworkName, quoted
from overlayd.model.network import Network
from overlayd.wire.cni.error import CniError
from overlayd.wire.cni.requests import unpack
from overlayd.wire.fields import Fields, Json

_log = structlog.get_logger(__name__)

COMMAND, NETNS = "NETAVARK_COMMAND", "NETAVARK_NETNS"
"""The variables in which the launcher forwards netavark's arguments."""

DEADLINE = 30.0
"""Seconds for one request. podman waits without a limit, and holds a lock that all its commands need."""

TEARDOWN_DEADLINE = 5.0
"""Seconds for a teardown, which is queued then; its launcher waits for 7."""


async def answered(work: Coroutine[Any, Any, dict[str, Json]]) -> bytes:
    """Return exit status and stdout for a request that this work executes."""
    try:
        async with asyncio.timeout(DEADLINE):
            answer = await work
            return b"0" + (json.dumps(answer).encode() + b"\n" if answer else b"")
    except TimeoutError:
        reason = f"not done within {DEADLINE:.0f} s; the agent goes on as before"
    except OSError as failure:
        reason = f"a file of the agent cannot be read or written: {failure}"
    except RecursionError:
        reason = "the document is nested too deeply to be answered"
    except CniError as refused:  # of the parts that a request has in common with CNI's
        reason = refused.msg
    except OverlayError as refused:
        reason = str(refused)
    return b"1" + json.dumps({"error": f"overlayd: {reason}"}).encode() + b"\n"


class NetavarkServer:
    """Turns requests of the plugin into attachments. `network` returns a network by name, or raises `NotFound`."""

    def __init__(
        self,
        attachments: Attachments,
        network: Callable[[NetworkName], Awaitable[Network]],
        queue: DetachQueue[AttachmentName],
    ) -> None:
        self._attachments = attachments
        self._network = network
        self._queue = queue

    async def answer(self, frame: bytes) -> bytes:
        """Return exit status and stdout for one request of the launcher."""
        return await answered(self._execute(frame))

    async def _execute(self, frame: bytes) -> dict[str, Json]:
        environment, stdin = unpack(frame)
        sandbox = environment.get(NETNS, "")
        match environment.get(COMMAND, ""):
            case "create":
                return await self.create(request.parse(stdin))
            case "setup":
                return await self._setup(stdin, sandbox)
            case "teardown":
                await self._teardown(frame, stdin)
                return {}
            case other:
                raise InvalidValue(f"{quoted(other)} is not one of create, setup, teardown", field="the operation")

    async def create(self, fields: Fields) -> dict[str, Json]:
        """Check a network of podman against ours, and return it completed; raise `OverlayError`."""
        answer, name = request.completed(fields), request.overlay_network(fields)
        with request.named_as_in_netavark(fields):
            network = await self._network(name)
        request.check_subnets(fields, network)
        return answer

    async def _setup(self, stdin: bytes, sandbox: str) -> dict[str, Json]:
        fields = request.parse(stdin)
        asked, servers = request.attach_request(fields, sandbox), request.nameservers(fields)
        await self._queue.precede(asked.name)
        with request.named_as_in_netavark(fields):
            await self._detach_former(asked)
            made = await self._attachments.attach(asked)
        return request.status_block(made, servers)

    async def _detach_former(self, asked: AttachRequest) -> None:
        """Detach what the container has in a namespace that it had before; raise `OverlayError`.

        podman that is killed before it has written down a setup sends no teardown for it, and leaves its namespace, so
        it would count as in use for ever. The next start of the container has a namespace of its own.
        """
        former = self._attachments.find(asked.name)
        if former and former.endpoint.sandbox != asked.sandbox:
            _log.warning("a container has another namespace than it was attached by", container=asked.name.container_id)
            await self._attachments.detach(asked.name)

    async def _teardown(self, frame: bytes, stdin: bytes) -> None:
        """Detach. A teardown is never repeated, so what cannot be done now is queued.

        Raises `InvalidValue` when the document names no attachment, and `OSError` when it cannot be queued.
        """
        name = request.name_of(request.parse(stdin))
        try:
            async with asyncio.timeout(TEARDOWN_DEADLINE):
                await self._queue.follow(name)
                await self._attachments.detach(name)
        except (OverlayError, OSError) as error:
            late = isinstance(error, TimeoutError)
            reason = f"not done within {TEARDOWN_DEADLINE:.0f} s" if late else str(error)
            self._queue.put(frame)
            _log.warning("a teardown cannot be done now and is queued", container=name.container_id, reason=reason)
