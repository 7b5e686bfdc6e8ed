"""Docker's calls of a plugin, dispatched to its drivers, and their errors in Docker's own form."""

import asyncio
from http import HTTPStatus

import structlog

from overlayd.agent.docker.http_messages import PluginCall, RefusedRequest, parse, render
from overlayd.agent.docker.ipam_driver import IpamDriver
from overlayd.agent.docker.network_driver import NetworkDriver
from overlayd.agent.runtime.signals import Changes
from overlayd.model.errors import OverlayError
from overlayd.wire.fields import Fields, Json

_log = structlog.get_logger(__name__)

DEADLINE = 10.0
"""Seconds for one call. Docker waits for 30, and holds its own locks while it waits."""

_ACTIVATE = "Plugin.Activate"
_IPAM = "IpamDriver."


class DockerServer:
    """Answers what Docker asks the plugin."""

    def __init__(self, network: NetworkDriver, ipam: IpamDriver, starts: Changes) -> None:
        """`starts` counts starts of Docker."""
        self._ipam = ipam
        self._starts = starts
        self._calls = {f"NetworkDriver.{name}": call for name, call in network.calls.items()}
        self._calls |= {f"{_IPAM}{name}": call for name, call in ipam.calls.items()}

    async def answer(self, received: bytes) -> bytes:
        """Return the answer to one HTTP request."""
        try:
            request = parse(received)
        except RefusedRequest as refused:
            return render(refused.answered, {"Err": str(refused)})
        if request.call == _ACTIVATE:
            self._ipam.begin()
            self._starts.set()
            return render(HTTPStatus.OK, {"Implements": ["NetworkDriver", "IpamDriver"]})
        if request.call not in self._calls:
            return render(HTTPStatus.NOT_FOUND, {"Err": "overlayd does not know this call"})
        return render(HTTPStatus.OK, await self._answered(request))

    async def _answered(self, request: PluginCall) -> dict[str, Json]:
        try:
            async with asyncio.timeout(DEADLINE):
                return await self._calls[request.call](Fields({} if request.body is None else request.body))
        except TimeoutError:
            reason = f"not done within {DEADLINE:.0f} s; the agent goes on as before"
        except OSError as failure:
            reason = f"a file of the agent cannot be read or written: {failure}"
        except OverlayError as refused:
            reason = str(refused)
        _log.warning("refused a call of Docker", call=request.call, reason=reason)
        return {"Error" if request.call.startswith(_IPAM) else "Err": reason}
