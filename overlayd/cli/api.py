"""The client of the controller's API for administrators."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from overlayd.agent.controllers.trust import Trust
from overlayd.model.errors import InvalidValue, Stale, Unavailable
from overlayd.wire import problem
from overlayd.wire.credentials import AccessToken
from overlayd.wire.fields import Fields, Json

if TYPE_CHECKING:
    import httpx

_CONNECT, _PATIENCE = 3.0, 30.0
"""Seconds for a connection, and for everything after it."""

STREAM_SILENCE = 15.0
"""Seconds without a line after which a stream counts as dead; a controller sends one every 5 s at least."""

_AMEND_ATTEMPTS = 5

Document = dict[str, Json]
"""A JSON object of the API."""


class Api:
    """A client of one controller. Every method raises the error that the API answers, or `Unavailable`.

    The token is sent with every request. It must be None unless the URL has https.
    """

    def __init__(self, url: str, trust: Trust, token: AccessToken | None) -> None:
        import httpx  # takes 65 ms, which a command that asks no controller need not wait for

        headers = {"Authorization": f"Bearer {token.text}"} if token else {}
        self._http = httpx.Client(
            base_url=url.rstrip("/"),
            verify=trust.context(),
            headers=headers,
            timeout=httpx.Timeout(_PATIENCE, connect=_CONNECT),
            trust_env=False,
        )
        self._extensions = trust.extensions
        self._url = url

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, **params: str | float | None) -> Document:
        return self._call("GET", path, params={name: value for name, value in params.items() if value is not None})

    def post(self, path: str, body: Document) -> Document:
        return self._call("POST", path, body=body)

    def patch(self, path: str, body: Document) -> Document:
        return self._call("PATCH", path, body=body)

    def amend(self, path: str, change: Callable[[Fields], Document]) -> Document:
        """Read an object and change it; retry if another client has changed it in between."""
        for _ in range(_AMEND_ATTEMPTS - 1):
            with suppress(Stale):
                return self._amend(path, change)
        return self._amend(path, change)

    def _amend(self, path: str, change: Callable[[Fields], Document]) -> Document:
        seen = self._response("GET", path)
        tag = {"If-Match": seen.headers["ETag"]} if "ETag" in seen.headers else {}
        return _document(self._response("PATCH", path, change(Fields(_document(seen))), headers=tag))

    def delete(self, path: str) -> Document:
        return self._call("DELETE", path)

    def items(self, path: str, **params: str | float | None) -> list[Document]:
        """Return all items of a collection, fetching every page."""
        found: list[Document] = []
        after: str | None = None
        while True:
            page = Fields(self.get(path, after=after, **params))
            found += [fields.value for fields in page.objects("items")]
            if not page.has("next"):
                return found
            after = page.text("next")

    def lines(self, path: str, **params: str | float | None) -> Iterator[str]:
        """Yield the lines of a stream until it ends."""
        import httpx

        given = {name: value for name, value in params.items() if value is not None}
        timeout = httpx.Timeout(STREAM_SILENCE, connect=_CONNECT)
        try:
            with self._http.stream("GET", path, params=given, extensions=self._extensions, timeout=timeout) as response:
                if response.is_error:
                    raise problem.decode(response.status_code, response.read())
                yield from response.iter_lines()
        except httpx.TransportError as error:
            raise Unavailable(f"the stream from {self._url} broke: {error}") from error

    def _call(
        self, method: str, path: str, body: Document | None = None, params: dict[str, str | float] | None = None
    ) -> Document:
        return _document(self._response(method, path, body, params))

    def _response(
        self,
        method: str,
        path: str,
        body: Document | None = None,
        params: dict[str, str | float] | None = None,
        headers: dict[str, str] | None = None,
    ) -> "httpx.Response":
        import httpx

        try:
            response = self._http.request(
                method, path, json=body, params=params, headers=headers, extensions=self._extensions
            )
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise InvalidValue(f"{self._url!r} is not a URL: {error}", field="--controller") from error
        except httpx.TransportError as error:
            raise Unavailable(f"no controller answers at {self._url}: {error}") from error
        if response.is_error:
            raise problem.decode(response.status_code, response.content)
        return response


def _document(response: "httpx.Response") -> Document:
    return cast("Document", response.json()) if response.content else {}
