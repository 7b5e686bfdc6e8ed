"""What is known to be in force is compared with what is desired, and what is not known must be observed."""

from ipaddress import IPv4Address

from overlayd.dataplane.items import HOST, Link, Loopback, NamespaceRef, Neighbour, State
from overlayd.dataplane.ownership import LOOPBACK, VXLAN
from overlayd.dataplane.tracker import Difference, Tracker
from overlayd.model.ids import MacAddress

BLUE, GREEN = NamespaceRef("/run/netns/ov-blue"), NamespaceRef("/run/netns/ov-green")
SANDBOX = NamespaceRef("/run/netns/web")
MAC = MacAddress("02:6f:76:00:00:02")


def neighbour(last: int) -> Neighbour:
    return Neighbour(BLUE, VXLAN, IPv4Address(f"169.254.2.{last}"), MAC)


OLD: State = frozenset({neighbour(2), neighbour(3)})
NEW: State = frozenset({neighbour(3), neighbour(4)})
REACHED = Tracker().after({BLUE: OLD, GREEN: frozenset(), HOST: frozenset()}, None, ())


def test_before_the_first_look_everything_is_pending() -> None:
    assert Tracker().pending({BLUE: OLD, HOST: frozenset(), SANDBOX: frozenset()}) == {BLUE, HOST}


def test_only_what_is_desired_otherwise_is_pending() -> None:
    spaces = {BLUE: OLD, GREEN: frozenset[Neighbour](), HOST: frozenset[Neighbour]()}
    reached = Tracker().after(spaces, None, ())
    assert reached.pending(spaces) == frozenset()
    assert reached.pending({**spaces, BLUE: NEW}) == {BLUE}
    assert reached.pending({BLUE: OLD, HOST: spaces[HOST]}) == {GREEN}, "what is no longer desired"


def test_entries_that_come_and_go_need_no_observing() -> None:
    assert REACHED.difference(BLUE, NEW) == Difference(frozenset({neighbour(4)}), frozenset({neighbour(2)}))


def test_devices_that_come_or_go_do() -> None:
    assert REACHED.difference(BLUE, OLD | {Link(BLUE, LOOPBACK, Loopback(), None, None)}) is None


def test_so_do_the_hosts_own_namespace_and_what_others_may_have_changed() -> None:
    assert REACHED.difference(HOST, frozenset()) is None
    assert REACHED.doubting({BLUE}).difference(BLUE, NEW) is None
    assert REACHED.doubting({BLUE}).pending({BLUE: OLD}) == {GREEN, HOST}, "it is as desired, as far as is known"
    assert REACHED.doubting({SANDBOX}) is REACHED


def test_what_failed_is_pending_and_is_observed() -> None:
    failed = REACHED.after({BLUE: NEW}, frozenset({BLUE}), {BLUE})
    assert BLUE in failed.pending({BLUE: NEW})
    assert failed.difference(BLUE, NEW) is None


def test_what_is_forgotten_is_pending_and_observed_even_if_it_is_no_longer_desired() -> None:
    forgotten = REACHED.forgetting({BLUE})
    assert forgotten.pending({BLUE: OLD}) == {BLUE, GREEN, HOST}
    assert forgotten.pending({}) == {BLUE, GREEN, HOST}
    assert forgotten.difference(BLUE, NEW) is None


def test_what_is_doubted_or_forgotten_is_one_namespace_and_no_other() -> None:
    both = Tracker().after({BLUE: OLD, GREEN: OLD}, None, ())
    for tracker in (both.doubting({BLUE}), both.forgetting({BLUE}), both.after({BLUE: NEW}, frozenset({BLUE}), {BLUE})):
        assert tracker.difference(BLUE, OLD) is None
        assert tracker.difference(GREEN, OLD) == Difference(frozenset(), frozenset())


def test_only_what_was_looked_at_has_reached_the_desired_state() -> None:
    then = Tracker().after({BLUE: OLD, GREEN: OLD}, None, ()).after({BLUE: NEW, GREEN: NEW}, frozenset({BLUE}), ())
    assert then.difference(BLUE, NEW) == Difference(frozenset(), frozenset())
    assert then.difference(GREEN, OLD) == Difference(frozenset(), frozenset())
    assert then.pending({BLUE: NEW, GREEN: NEW}) == {GREEN}


def test_what_was_looked_at_after_a_doubt_is_known_again() -> None:
    then = REACHED.doubting({BLUE}).after({BLUE: OLD}, frozenset({BLUE}), ())
    assert then.difference(BLUE, OLD) == Difference(frozenset(), frozenset())
