"""The controllers of the cluster, and which of them this agent uses."""

from collections.abc import Sequence
from hashlib import blake2s

from overlayd.model.ids import HostId


class Controllers:
    """URLs, the one in use first. A task that finds that it does not work moves the whole agent to the next one."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = [url.rstrip("/") for url in urls]

    @classmethod
    def for_host(cls, urls: Sequence[str], host: HostId) -> "Controllers":
        """Begin at a URL that the host's id determines, so that many hosts spread over all controllers."""
        start = int.from_bytes(blake2s(host.encode(), digest_size=4).digest(), "big") % len(urls)
        return cls([*urls[start:], *urls[:start]])

    @property
    def current(self) -> str:
        """The URL of the controller in use."""
        return self._urls[0]

    @property
    def order(self) -> tuple[str, ...]:
        """All URLs, in the order in which to try them."""
        return tuple(self._urls)

    def leave(self, url: str) -> None:
        """Use the next one from now on, unless another task left this one already."""
        if url == self.current:
            self._urls.append(self._urls.pop(0))

    def use(self, url: str) -> None:
        """Use this one from now on."""
        while url != self.current:
            self._urls.append(self._urls.pop(0))
