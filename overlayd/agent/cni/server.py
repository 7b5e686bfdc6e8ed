"""Answering the CNI launcher."""

import asyncio

import structlog

from overlayd.agent.attach.attachments import Attachments
from overlayd.agent.cni.collection import Collector
from overlayd.agent.cni.previous_result import contradictions, known_mtu
from overlayd.agent.cni.readiness import Readiness
from overlayd.agent.cni.translation import attach_request, cni_error, cni_result, name_of, named_as_in
from overlayd.agent.records.detach_queue import DetachQueue
from overlayd.model.errors import OverlayError
from overlayd.wire.cni import requests as cni
from overlayd.wire.cni.error import CniError, Code
from overlayd.wire.cni.error import render as render_error
from overlayd.wire.cni.requests import Command, GcRequest, Request, StatusRequest
from overlayd.wire.cni.result import render

_log = structlog.get_logger(__name__)

DEADLINE = 30.0
"""Seconds for one request; a runtime gives up after 60 and may then take the node for dead."""

DEL_DEADLINE = 5.0
"""Seconds for a DEL, which is queued then; its launcher waits for 7."""


class CniServer:
    """Turns requests of the launcher into attachments."""

    def __init__(
        self, attachments: Attachments, collector: Collector, readiness: Readiness, queue: DetachQueue[Request]
    ) -> None:
        self._attachments = attachments
        self._collector = collector
        self._readiness = readiness
        self._queue = queue

    async def answer(self, frame: bytes) -> bytes:
        """Return exit status and stdout for one request of the launcher."""
        try:
            async with asyncio.timeout(DEADLINE):
                return b"0" + await self._execute(frame)
        except asyncio.CancelledError:
            _log.warning("a request is cut short, as the agent ends", **_about(frame))
            raise
        except TimeoutError:
            error = CniError(Code.TRY_AGAIN_LATER, f"not done within {DEADLINE:.0f} s; the agent goes on as before")
        except CniError as refused:
            error = refused
        except OSError as failure:
            error = CniError(Code.IO_FAILURE, f"a file of the agent cannot be read or written: {failure}")
        except OverlayError as refused:
            error = cni_error(refused)
        return b"1" + render_error(cni.version_of(frame.partition(b"\0\0")[2]), error)

    async def _execute(self, frame: bytes) -> bytes:
        environment, stdin = cni.unpack(frame)
        if environment.get("CNI_COMMAND") == Command.VERSION:
            return cni.render_version(cni.version_of(stdin))
        match cni.parse(environment, stdin):
            case Request(command=Command.ADD) as request:
                with self._collector.arriving(name_of(request)), named_as_in(request):
                    await self._queue.precede(request)
                    made = await self._attachments.attach(attach_request(request))
                return render(request.version, cni_result(made, request))
            case Request(command=Command.DEL) as request:
                await self._detach(request, frame)
            case Request() as request:
                await self._check(request)
            case GcRequest() as request:
                await self._collector.collect(request)
            case StatusRequest(network=network):
                await self._readiness.check(network)
        return b""

    async def _check(self, request: Request) -> None:
        """Execute a CHECK; raise `CniError` when the attachment does not exist or differs from what was made."""
        attachment = self._attachments.find(name_of(request))
        if attachment is None:
            what = f"{request.interface} of this container is not attached to {request.network}"
            raise CniError(Code.UNKNOWN_CONTAINER, what)
        differences = tuple(contradictions(request, attachment)) or await self._attachments.check(
            attachment, request.sandbox, known_mtu(request)
        )
        if differences:
            raise CniError(Code.NOT_AS_ATTACHED, differences[0], "; ".join(differences[1:]))

    async def _detach(self, request: Request, frame: bytes) -> None:
        """Execute a DEL, or queue it and succeed: a runtime needs its DELs to succeed (CNI SPEC, section "DEL").

        Raises `OSError` when it cannot be queued either.
        """
        try:
            async with asyncio.timeout(DEL_DEADLINE):
                await self._queue.follow(request)
                await self._attachments.detach(name_of(request), request.conf)
        except (OverlayError, OSError) as error:
            reason = f"not done within {DEL_DEADLINE:.0f} s" if isinstance(error, TimeoutError) else str(error)
            self._queue.put(frame)
            _log.warning("a DEL cannot be done now and is queued", **_about(frame), reason=reason)


def _about(frame: bytes) -> dict[str, str]:
    """Return the fields of a log line about a request."""
    environment, _ = cni.unpack(frame)
    names = {"command": "CNI_COMMAND", "container": "CNI_CONTAINERID", "interface": "CNI_IFNAME"}
    return {name: environment.get(variable, "") for name, variable in names.items()}
