"""Lines that many hosts get are made once."""

from ipaddress import IPv4Address

from controller.streams.feed_lines import FeedLines
from overlayd.model.host import Host
from overlayd.model.ids import HostId, HostNumber, Revision
from overlayd.wire import schema1
from overlayd.wire.feed import FEED_VERSION, Bookmark, Delta, FeedMessage, InSync, Snapshot, decode_line

HOST = Host(HostId("h1"), HostNumber(1), "rack1-07", IPv4Address("192.0.2.7"))


def test_a_line_says_what_the_message_says() -> None:
    lines = FeedLines()
    messages: list[FeedMessage] = [Snapshot(Revision(1), (HOST,)), InSync(Revision(1)), Delta(Revision(2), (HOST,), ())]
    assert [decode_line(lines.of(each, FEED_VERSION)) for each in messages] == messages
    assert decode_line(lines.of(Bookmark(Revision(3), stale=True), FEED_VERSION)) == Bookmark(Revision(3), stale=True)


def test_one_delta_has_one_line_for_all_hosts_of_a_version() -> None:
    lines, delta = FeedLines(), Delta(Revision(2), (HOST,), ())
    assert lines.of(delta, FEED_VERSION) is lines.of(delta, FEED_VERSION)
    assert lines.of(delta, schema1.VERSION) != b""
    assert decode_line(lines.of(delta, FEED_VERSION)) == delta


def test_no_delta_gets_the_line_of_one_that_is_forgotten() -> None:
    lines = FeedLines()
    for number in range(2000):
        # The memory of a message that nothing refers to any more, and so its id, is the next one's.
        delta = Delta(Revision(number), (HOST,), ())
        assert decode_line(lines.of(delta, FEED_VERSION)) == delta
