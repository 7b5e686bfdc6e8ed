"""Our nft tables on the real kernel: a table that was changed is noticed, the others are not written."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from overlayd.dataplane.diff import diff
from overlayd.dataplane.items import HOST, Namespace, NamespaceRef, NftFamily, NftTable, State
from overlayd.dataplane.plan import Add, Change, Plan
from overlayd.kernel.nft import DIRECTORY
from overlayd.kernel.port import NoNamespace
from tests.support.kernel.hosted_kernel import HostedKernel, SimulatedHost
from tests.support.kernel.worlds import UNDERLAY

pytestmark = pytest.mark.usefixtures("root")

NS = NamespaceRef("/run/netns/ov-blue")
TEXT = """table inet overlayd {
	counter seen { }
	chain arriving {
		type filter hook prerouting priority raw; policy accept;
		udp dport 9 counter name seen drop
		tcp dport { 80, 443 } accept
	}
}
"""
HERE = NftTable(HOST, NftFamily.INET, "overlayd", TEXT)
INSIDE = replace(HERE, ns=NS)
BOTH: State = frozenset({Namespace(NS, frozenset()), HERE, INSIDE})


@contextmanager
def agent(host: SimulatedHost) -> Iterator[HostedKernel]:
    kernel = HostedKernel(host)
    try:
        yield kernel
    finally:
        kernel.close()


@pytest.fixture
def host() -> Iterator[SimulatedHost]:
    with SimulatedHost(UNDERLAY) as made:
        yield made


def tables(kernel: HostedKernel) -> State:
    return frozenset(item for item in kernel.observe([HOST, NS]) if isinstance(item, NftTable))


def enforce(kernel: HostedKernel, *wanted: NftTable) -> Plan:
    plan = diff(frozenset(wanted), tables(kernel))
    assert [outcome for outcome in kernel.apply(plan) if not outcome.done] == []
    assert tables(kernel) == frozenset(wanted)
    return plan


def with_handles(host: SimulatedHost) -> str:
    """Return all tables with the kernel's numbers for their parts, which differ after a replacement."""
    return host.command(["nft", "-a", "-s", "list", "ruleset"])


BREAKS = [
    "flush ruleset",
    "delete table inet overlayd",
    "flush chain inet overlayd arriving",
    "add rule inet overlayd arriving tcp dport 22 drop",
    "insert rule inet overlayd arriving accept",
    "add chain inet overlayd more",
]


each_break = pytest.mark.parametrize("by_hand", BREAKS)


@each_break
def test_whatever_is_changed_in_a_table_is_seen_and_repaired(host: SimulatedHost, by_hand: str) -> None:
    with agent(host) as kernel:
        enforce(kernel, HERE)
        host.command(["nft", by_hand])
        assert enforce(kernel, HERE)


@each_break
def test_what_is_changed_while_no_agent_runs_is_seen_by_the_next_one(host: SimulatedHost, by_hand: str) -> None:
    with agent(host) as kernel:
        enforce(kernel, HERE)
    host.command(["nft", by_hand])
    with agent(host) as kernel:
        assert enforce(kernel, HERE)


def test_a_table_that_goes_leaves_the_other_one_known(host: SimulatedHost) -> None:
    other = replace(HERE, name="overlayd_vxlan", text=TEXT.replace("inet overlayd", "inet overlayd_vxlan"))
    with agent(host) as kernel:
        enforce(kernel, HERE, other)
        assert len(enforce(kernel, other)) == 1


def test_a_new_agent_writes_nothing_while_nothing_changed(host: SimulatedHost) -> None:
    with agent(host) as kernel:
        kernel.apply(diff(BOTH, frozenset()))
        before = with_handles(host)
    host.command(["nft", "add", "table", "inet", "foreign"])
    before += host.command(["nft", "-a", "-s", "list", "table", "inet", "foreign"])
    for _ in range(2):
        with agent(host) as kernel:
            assert not diff(frozenset({HERE, INSIDE}), tables(kernel))
    assert with_handles(host) == before


def test_without_its_memory_a_new_agent_makes_the_tables_anew(host: SimulatedHost) -> None:
    with agent(host) as kernel:
        enforce(kernel, HERE)
    host.command(["rm", "-r", str(DIRECTORY)])
    with agent(host) as kernel:
        assert [type(op) for op in enforce(kernel, HERE)] == [Change]


def test_a_namespace_of_the_same_name_is_another_one(host: SimulatedHost) -> None:
    with agent(host) as kernel:
        kernel.apply(diff(BOTH, frozenset()))
        host.command(["ip", "netns", "delete", "ov-blue"])
        host.command(["ip", "netns", "add", "ov-blue"])
        with pytest.raises(NoNamespace, match="not made for it"):
            tables(kernel)
        assert tables(kernel) == {HERE}
    with agent(host) as kernel:
        assert tables(kernel) == {HERE}


def test_foreign_tables_stay_through_every_change(host: SimulatedHost) -> None:
    foreign = "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }"
    host.command(["nft", "-f", "-"], foreign)
    before = with_handles(host)
    with agent(host) as kernel:
        enforce(kernel, HERE)
        enforce(kernel, replace(HERE, text=TEXT.replace("9", "7")))
        enforce(kernel)
    assert with_handles(host) == before


def test_a_counter_goes_on_counting_when_its_table_is_replaced(host: SimulatedHost) -> None:
    with agent(host) as kernel:
        enforce(kernel, HERE)
        host.command(["bash", "-c", f"echo x > /dev/udp/{UNDERLAY.ip}/9"])
        enforce(kernel, replace(HERE, text=TEXT.replace("443", "8443")))
    assert "packets 1 " in host.command(["nft", "list", "counter", "inet", "overlayd", "seen"])


def test_a_text_that_nft_refuses_changes_nothing_and_is_told_in_its_words(host: SimulatedHost) -> None:
    with agent(host) as kernel:
        enforce(kernel, HERE)
        broken = replace(HERE, text=TEXT.replace("udp dport 9", "udp dport nine"))
        (outcome,) = kernel.apply(Plan((Change(broken, HERE),)))
        assert "nft: " in str(outcome.error)
        assert tables(kernel) == {HERE}


def test_a_host_without_nft_says_so(host: SimulatedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    with agent(host) as kernel:
        monkeypatch.setenv("PATH", "/nowhere")
        (outcome,) = kernel.apply(Plan((Add(HERE),)))
        assert "there is no program nft" in str(outcome.error)
        assert tables(kernel) == frozenset()
