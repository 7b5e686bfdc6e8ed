"""A warning about what is tried again and again."""

import structlog

_log = structlog.get_logger(__name__)


class Complaint:
    """Logs that something cannot be done: once, and again for another reason or after it could be done."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._reason = ""

    def because(self, reason: str, **about: str) -> None:
        """Take in that it cannot be done."""
        if reason != self._reason:
            _log.warning(self._event, reason=reason, **about)
        self._reason = reason

    def over(self) -> None:
        """Take in that it was done."""
        self._reason = ""
