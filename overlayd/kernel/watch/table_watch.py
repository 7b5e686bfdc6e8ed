"""Which transactions of nftables touched our tables, and were not ours (linux/netfilter/nf_tables.h)."""

from collections.abc import Iterable

from overlayd.dataplane import ownership
from overlayd.kernel.nfnetlink import NFT_MSG_NEWGEN
from overlayd.kernel.watch.beliefs import Notification

_OUR_NAMES = ownership.TABLE.encode()
"""What the names of all our tables begin with."""


class TableWatch:
    """Counts the transactions of this agent that the kernel has not reported yet."""

    def __init__(self) -> None:
        self._own = 0

    def did(self) -> None:
        """Record that the agent made, replaced or deleted one of our tables."""
        self._own += 1

    def settle(self) -> None:
        """Record that all notifications so far were discarded."""
        self._own = 0

    def is_news(self, notifications: Iterable[Notification]) -> bool:
        """Return whether others touched our tables too."""
        touching, touched = 0, False
        for kind, payload in notifications:
            if kind != NFT_MSG_NEWGEN:  # the last message of each transaction
                touched = touched or _OUR_NAMES in payload
            elif touched:
                touching, touched = touching + 1, False
        own, self._own = self._own, 0
        return touching > own
