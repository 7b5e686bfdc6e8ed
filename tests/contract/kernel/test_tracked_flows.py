"""Flows that connection tracking knows, when redirections of their port come, change or go: on the real kernel."""

from collections.abc import Iterator

import pytest

from overlayd.dataplane.items import HOST, NftFamily, NftTable
from overlayd.dataplane.plan import Add, Change, Delete, Plan
from tests.support.kernel.hosted_kernel import HostedKernel, SimulatedHost
from tests.support.kernel.worlds import UNDERLAY

pytestmark = pytest.mark.usefixtures("root")

PORT = 8053
MANY = range(8000, 8100)
"""More ports than are looked for one by one."""


def leading(target: str, *ports: int, counter: str = "seen") -> NftTable:
    """Return a table that leads these ports of the host somewhere, as those of published ports do."""
    rules = "".join(f"\t\tmeta nfproto ipv4 udp dport {port} dnat ip to {target}\n" for port in ports)
    text = f"""table inet overlayd {{
	counter {counter} {{ }}
	chain published {{
{rules}	}}
	chain from_this_host {{
		type nat hook output priority -100; policy accept;
		fib daddr type local jump published
	}}
}}
"""
    return NftTable(HOST, NftFamily.INET, "overlayd", text)


@pytest.fixture
def host() -> Iterator[SimulatedHost]:
    with SimulatedHost(UNDERLAY) as made:
        yield made


@pytest.fixture
def kernel(host: SimulatedHost) -> Iterator[HostedKernel]:
    made = HostedKernel(host)
    try:
        yield made
    finally:
        made.close()


def applied(kernel: HostedKernel, op: Add | Change | Delete) -> None:
    assert [outcome.error for outcome in kernel.apply(Plan((op,)))] == [None]


def send(host: SimulatedHost) -> list[str]:
    """Send a datagram to the port; return the flows that are known then."""
    host.command(["bash", "-c", f"echo x > /dev/udp/{UNDERLAY.ip}/{PORT}"])
    return flows(host)


def flows(host: SimulatedHost) -> list[str]:
    """Return where the answers to each flow to the port come from."""
    listed = host.command(["cat", "/proc/net/nf_conntrack"]).splitlines()
    return [line.partition("[UNREPLIED] src=")[2].split()[0] for line in listed if f" dport={PORT} [" in line]


@pytest.mark.parametrize("ports", [[PORT], MANY], ids=["one", "many"])
def test_a_flow_goes_where_the_rules_lead_it_now(host: SimulatedHost, kernel: HostedKernel, ports: list[int]) -> None:
    nothing = leading("203.0.113.1:53", 1)  # a table without any would let the kernel track nothing
    first, second = (leading(target, 1, *ports) for target in ("203.0.113.1:53", "203.0.113.2:53"))
    host.command(["ip", "route", "add", "default", "dev", "lo"])
    applied(kernel, Add(nothing))
    assert send(host) == [str(UNDERLAY.ip)], "nothing leads anywhere yet"
    for table, before, target in ((first, nothing, "203.0.113.1"), (second, first, "203.0.113.2")):
        applied(kernel, Change(table, before))
        assert flows(host) == []
        assert send(host) == [target]
    applied(kernel, Change(nothing, second))
    assert flows(host) == []


def test_flows_stay_when_no_redirection_changes(host: SimulatedHost, kernel: HostedKernel) -> None:
    table = leading("203.0.113.1:53", PORT)
    host.command(["ip", "route", "add", "default", "dev", "lo"])
    applied(kernel, Add(table))
    led = send(host)
    assert led == ["203.0.113.1"]
    applied(kernel, Change(leading("203.0.113.1:53", PORT, counter="other"), table))
    applied(kernel, Change(leading("203.0.113.1:53", PORT, 9999), table))
    assert flows(host) == led


def test_what_an_agent_that_ended_left_undone_is_done_by_the_next_one(host: SimulatedHost) -> None:
    first, second = (leading(f"203.0.113.{number}:53", PORT) for number in (1, 2))
    host.command(["ip", "route", "add", "default", "dev", "lo"])
    kernel = HostedKernel(host)
    applied(kernel, Add(first))
    kernel.close()
    assert send(host) == ["203.0.113.1"]
    host.command(["nft", "-f", "-"], f"delete table inet overlayd\n{second.text}")  # and then it was killed
    kernel = HostedKernel(host)
    (found,) = (item for item in kernel.observe([HOST]) if isinstance(item, NftTable))
    applied(kernel, Change(second, found))
    assert flows(host) == []
    send(host)
    applied(kernel, Delete(second))
    kernel.close()
    assert flows(host) == []
