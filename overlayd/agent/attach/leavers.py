"""Attachments that ended a moment ago: a container that comes back is no new one for a host that is draining.

A runtime that renews a container's network detaches it and attaches it again, as ``podman network reload`` does.
"""

from collections.abc import Callable

from overlayd.agent.records.attachment_records import UNKNOWN_SANDBOX, Attachment
from overlayd.model.endpoint import EndpointKey

RETURN = 30.0
"""Seconds within which it must come back: a runtime does so at once."""


class Leavers:
    """Remembers which interface of which sandbox was detached. `now` tells the time in seconds and never jumps."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._left: dict[tuple[EndpointKey, tuple[int, int]], float] = {}

    def leaves(self, attachment: Attachment) -> None:
        """Remember an attachment that ends, and forget those that have not come back."""
        now = self._now()
        if attachment.sandbox_id != UNKNOWN_SANDBOX:
            self._left.pop((attachment.endpoint.key, attachment.sandbox_id), None)  # they are ordered by time
            self._left[attachment.endpoint.key, attachment.sandbox_id] = now
        while self._left and self._left[first := next(iter(self._left))] + RETURN < now:
            del self._left[first]

    def comes_back(self, key: EndpointKey, sandbox_id: tuple[int, int]) -> bool:
        """Return whether this interface was detached from this very sandbox a moment ago."""
        left = self._left.get((key, sandbox_id))
        return left is not None and self._now() <= left + RETURN
