"""The agent's side of the controller's API."""

import json
from collections.abc import AsyncIterator, Iterable
from ipaddress import IPv4Address

import httpx

from overlayd.agent.credential import Credential
from overlayd.agent.identity import Identity
from overlayd.agent.problem import Problem
from overlayd.agent.trust import Trust
from overlayd.model.address import Family, IpNetwork
from overlayd.model.block import Block
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.errors import Unavailable
from overlayd.model.host import Host
from overlayd.model.ids import NetworkName, Revision
from overlayd.wire import problem, records
from overlayd.wire.feed import FEED_VERSION, FeedMessage, decode_line
from overlayd.wire.fields import Fields, Json

FEED_SILENCE = 15.0
"""Seconds without a line after which a feed counts as dead; a controller sends a bookmark every 5 s."""

_TIMEOUT = httpx.Timeout(10.0, connect=2.0)


class ControllerClient:
    """Talks to one controller at a time, and to the next one when it cannot be reached.

    Every method raises the `OverlayError` that the controller answered, or `Unavailable` when none answers.
    """

    def __init__(self, urls: tuple[str, ...], identity: Identity, credential: Credential | None) -> None:
        self._urls = [url.rstrip("/") for url in urls]
        self._identity = identity
        self._token = credential.token if credential else None
        trust = credential.trust if credential else Trust(None)
        self._extensions = trust.extensions
        # Underlay traffic never goes through a proxy of the environment.
        self._http = httpx.AsyncClient(verify=trust.context(), timeout=_TIMEOUT, trust_env=False)

    @property
    def url(self) -> str:
        """The controller in use."""
        return self._urls[0]

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    def change_over(self) -> None:
        """Use the next controller from now on."""
        self._urls.append(self._urls.pop(0))

    async def register(self, name: str, address: IPv4Address) -> Host:
        """Announce this host and its VTEP address; return it with its number."""
        body: Json = {"name": name, "address": str(address), "instance": self._identity.instance}
        return records.decode_host(await self._call("PUT", f"/v1/hosts/{self._identity.id}", body))

    async def acquire_block(self, network: NetworkName, held: Iterable[IpNetwork], family: Family) -> Block:
        """Ask for a block of a family beside those that this host holds; asking twice gives the same one."""
        body: Json = {"host": self._identity.id, "family": family, "held": [str(cidr) for cidr in held]}
        return records.decode_block(await self._call("POST", f"/v1/networks/{network}/blocks", body))

    async def release_block(self, block: Block) -> None:
        """Give a block back."""
        path = f"/v1/networks/{block.network}/blocks/{block.cidr}"
        await self._call("DELETE", path, params={"host": self._identity.id})

    async def publish(self, puts: Iterable[Endpoint], deletes: Iterable[EndpointKey]) -> None:
        """Tell about endpoints that came and went."""
        body: Json = {
            "puts": [records.encode(endpoint) for endpoint in puts],
            "deletes": [
                {"network": network, "container_id": container, "interface": interface}
                for network, _, container, interface in deletes
            ],
        }
        await self._call("POST", f"/v1/hosts/{self._identity.id}/endpoints", body)

    async def replace_endpoints(self, endpoints: Iterable[Endpoint]) -> None:
        """Tell about all endpoints of this host; any other that the controllers know of it is gone."""
        body: Json = {"endpoints": [records.encode(endpoint) for endpoint in endpoints]}
        await self._call("PUT", f"/v1/hosts/{self._identity.id}/endpoints", body)

    async def report(self, revision: Revision, problems: Iterable[Problem]) -> None:
        """Say which revision the kernel matches but for these problems."""
        body: Json = {
            "instance": self._identity.instance,
            "revision": revision,
            "problems": [
                {"object": problem.object, "message": problem.message, "network": problem.network}
                for problem in problems
            ],
        }
        await self._call("POST", f"/v1/hosts/{self._identity.id}/report", body)

    async def feed(self, after: Revision | None) -> AsyncIterator[FeedMessage]:
        """Follow the feed, resumed after a revision or from a snapshot; ends or raises when the stream breaks."""
        params = {"host": self._identity.id, "instance": self._identity.instance, "version": str(FEED_VERSION)}
        if after is not None:
            params["after"] = str(after)
        timeout = httpx.Timeout(10.0, connect=2.0, read=FEED_SILENCE)
        try:
            async with self._http.stream(
                "GET",
                f"{self.url}/v1/feed",
                params=params,
                timeout=timeout,
                headers=self._headers(),
                extensions=self._extensions,
            ) as response:
                if not response.is_success:
                    await response.aread()
                    raise problem.decode(response.status_code, response.content)
                async for line in response.aiter_lines():
                    yield decode_line(line.encode())
        except httpx.RequestError as error:
            raise Unavailable(f"the feed from {self.url} broke: {error!r}") from error

    async def _call(self, method: str, path: str, body: Json = None, params: dict[str, str] | None = None) -> Fields:
        failures = []
        for _ in range(len(self._urls)):
            try:
                response = await self._http.request(
                    method,
                    self.url + path,
                    json=body,
                    params=params,
                    headers=self._headers(),
                    extensions=self._extensions,
                )
            except httpx.RequestError as error:
                failures.append(f"{self.url}: {error!r}")
                self.change_over()
                continue
            if not response.is_success:
                raise problem.decode(response.status_code, response.content)
            return _body(response)
        raise Unavailable("no controller can be reached: " + "; ".join(failures))

    def _headers(self) -> dict[str, str]:
        """Return what shows who we are; a token never travels without TLS."""
        if self._token is None or not self.url.startswith("https://"):
            return {}
        return {"Authorization": f"Bearer {self._token.text}"}


def _body(response: httpx.Response) -> Fields:
    try:
        return Fields(json.loads(response.content or b"{}"))
    except (ValueError, RecursionError):
        raise Unavailable(f"{response.request.url.host} answered {response.status_code} without JSON") from None
