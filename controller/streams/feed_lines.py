"""The lines of a feed, in each of its versions."""

from collections import OrderedDict

from overlayd.wire import schema1
from overlayd.wire.feed import Delta, FeedMessage, encode_line

_KEPT = 16
"""How many lines are kept: hosts with the same networks get the same one at about the same time."""


class FeedLines:
    """Encodes messages; a delta that several hosts get is encoded once.

    Such a delta is one object for all of them (`Deltas`), and is recognised as that: to hash it would cost more than a
    line of it.
    """

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[int, int], tuple[Delta, bytes]] = OrderedDict()

    def of(self, message: FeedMessage, version: int) -> bytes:
        """Return the line of a message in a version of the feed."""
        if not isinstance(message, Delta):
            return _encoded(message, version)
        key = id(message), version
        if key not in self._made:
            self._made[key] = message, _encoded(message, version)  # with the message: no other object gets its id
            if len(self._made) > _KEPT:
                self._made.popitem(last=False)
        return self._made[key][1]


def _encoded(message: FeedMessage, version: int) -> bytes:
    if version == schema1.VERSION:
        return encode_line(schema1.narrow(message), schema1.encode_tagged)
    return encode_line(message)
