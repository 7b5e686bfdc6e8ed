"""A request that is repeated at other controllers until one gives a definite answer, and its result."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from overlayd.agent.controllers.client import Controllers
from overlayd.wire.fields import Fields, Json

_ATTEMPT_MAX = 6.0
"""Seconds for one attempt: a frozen controller answers nothing."""

_PAUSE = (0.05, 0.5)
"""Seconds between attempts, from and to."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A definite answer: what was asked for is done, or never will be."""

    status: int
    body: Fields

    @property
    def is_done(self) -> bool:
        return self.status < 300

    @property
    def field(self) -> str:
        return self.body.text("field") if self.body.has("field") else ""


@dataclass
class Tally:
    """What all clients counted. Times are in seconds."""

    done: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    repeated: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)


class Calls:
    """The calls of one client. Whatever it asks for may be asked again."""

    def __init__(self, http: httpx.AsyncClient, controllers: Controllers, tally: Tally, chance: random.Random) -> None:
        self._http = http
        self._controllers = controllers
        self._tally = tally
        self._chance = chance

    async def ask(
        self, what: str, method: str, path: str, body: Json = None, params: Mapping[str, str] | None = None
    ) -> Answer:
        """Return the first definite answer of any controller, however long that takes."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while True:
            url = self._controllers.current
            try:
                response = await self._http.request(
                    method, url + path, json=body, params=params, timeout=httpx.Timeout(_ATTEMPT_MAX, connect=1.0)
                )
            except httpx.RequestError as error:
                self._tally.repeated[type(error).__name__] += 1
            else:
                if response.status_code < 500:
                    self._tally.seconds.append(loop.time() - begun)
                    return self._definite(what, response)
                self._tally.repeated[str(response.status_code)] += 1
                if response.status_code != 503:
                    self._tally.defects.append(f"{what} was answered {response.status_code}: {response.text[:300]}")
            self._controllers.leave(url)
            await asyncio.sleep(self._chance.uniform(*_PAUSE))

    def _definite(self, what: str, response: httpx.Response) -> Answer:
        body = Fields(response.json() if response.content else {})
        if response.is_success:
            self._tally.done[what] += 1
        else:
            self._tally.refused[f"{what}: {body.text('code') if body.has('code') else response.status_code}"] += 1
        if response.status_code in {400, 405, 422}:
            self._tally.defects.append(f"{what} was answered {response.status_code}: {response.text[:300]}")
        return Answer(response.status_code, body)
