"""What was cut short, refused beside the cycle or forgotten is looked at again: the kernel is never believed as it was.

Each test ends with a change of another network, as a busy cluster always has the next one, and asks what is left to do.
"""

import asyncio
import errno
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

import pytest

from overlayd.agent.records.attachment_records import Attachment
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.items import Item, NamespaceRef, Route, State
from overlayd.dataplane.plan import Plan
from overlayd.kernel.port import KernelError, Outcome
from overlayd.model.cluster import RecordKey
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import OverlayError
from overlayd.model.ids import NetworkName
from tests.support.controllers import clusters
from tests.unit.agent.reconcile.test_where_it_looks import BLUE, GREEN, NEWCOMER, WatchedHost, settled

pytestmark = pytest.mark.anyio

ELSEWHERE = clusters.block(2, "10.64.1.0/24", "green")
"""What comes in another network than the one that a test is about."""


def attached(host: WatchedHost, container: str, address: str, network: str = "blue") -> Endpoint:
    """Record an attachment; the next cycle makes it."""
    endpoint = clusters.endpoint(1, container, address, network)
    host.kernel.add_sandbox(endpoint.sandbox)
    found = host.kernel.sandbox_id(endpoint.sandbox)
    assert found
    host.records.put(Attachment(endpoint, found))
    return endpoint


def is_there(host: WatchedHost, item: Item) -> bool:
    return host.kernel.missing(frozenset({item})) == frozenset()


def a_route(host: WatchedHost, ns: NamespaceRef) -> Route:
    return next(item for item in host.kernel.observe({ns}) if isinstance(item, Route) and item.dev)


async def test_what_a_sandbox_lost_is_not_forgotten_when_a_look_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with settled(tmp_path) as host:
        web = attached(host, "web", "10.32.0.5")
        await host.look(None)
        host.kernel.flap(web.sandbox, web.interface)
        with monkeypatch.context() as failing:

            def missing(_: State) -> State:
                raise KernelError(errno.ENOBUFS, "no memory")

            failing.setattr(host.kernel, "missing", missing)
            assert (await host.reconciler.cycle(frozenset({BLUE}))).problems
        await host.look(None)
        assert host.reconciler.site
        desired = resolve(host.feed.cluster, host.reconciler.site, [web])
        assert host.kernel.missing(frozenset(item for item in desired if item.ns == web.sandbox)) == frozenset()


async def test_what_a_sandbox_lost_is_tried_again_when_the_kernel_refuses_it_once(tmp_path: Path) -> None:
    async with settled(tmp_path) as host:
        web = attached(host, "web", "10.32.0.5")
        await host.look(None)
        host.kernel.flap(web.sandbox, web.interface)
        host.kernel.fail_next(errno.ENOBUFS)
        assert (await host.reconciler.cycle(frozenset({BLUE}))).problems
        assert (await host.reconciler.cycle(None)).problems == ()
        assert host.reconciler.site
        desired = resolve(host.feed.cluster, host.reconciler.site, [web])
        assert host.kernel.missing(frozenset(item for item in desired if item.ns == web.sandbox)) == frozenset()
        assert host.reconciler.drift.revived == frozenset()


async def test_what_a_cancelled_cycle_did_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with settled(tmp_path) as host:
        apply, began = host.kernel.apply, asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow(plan: Plan) -> tuple[Outcome, ...]:
            loop.call_soon_threadsafe(began.set)
            outcomes = apply(plan)
            monkeypatch.undo()
            return outcomes

        monkeypatch.setattr(host.kernel, "apply", slow)
        host.feed.cluster = host.feed.cluster.changed(host.feed.cluster.revision, [NEWCOMER])
        cycle = asyncio.create_task(host.reconciler.refresh())
        await began.wait()
        cycle.cancel()
        await asyncio.gather(cycle, return_exceptions=True)
        assert cycle.cancelled()
        await host.hear(deletes=(RecordKey.of(NEWCOMER),))  # a KernelError, or entries left, where it is not known


async def test_what_a_cancelled_look_noticed_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with settled(tmp_path) as host:
        await host.hear(NEWCOMER)
        route = a_route(host, BLUE)
        host.kernel.remove_by_hand(route)
        observe, began = host.kernel.observe, asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow(namespaces: Iterable[NamespaceRef]) -> State:
            loop.call_soon_threadsafe(began.set)
            return observe(namespaces)

        monkeypatch.setattr(host.kernel, "observe", slow)
        plan = asyncio.create_task(host.reconciler.plan())
        await began.wait()
        plan.cancel()
        await asyncio.gather(plan, return_exceptions=True)
        await host.reconciler.cycle(host.reconciler.drift.take())
        await host.hear(ELSEWHERE)
        assert is_there(host, route)


async def test_what_a_failed_look_noticed_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with settled(tmp_path) as host:
        await host.hear(NEWCOMER)
        route = a_route(host, BLUE)
        host.kernel.remove_by_hand(route)
        observe = host.kernel.observe
        with monkeypatch.context() as failing:

            def interrupted(namespaces: Iterable[NamespaceRef]) -> State:
                if namespaces := frozenset(namespaces):
                    observe(namespaces)
                    raise KernelError(errno.ENOBUFS, "the second table")
                return frozenset()

            failing.setattr(host.kernel, "observe", interrupted)
            with pytest.raises(OverlayError):
                await host.reconciler.misdirected(NetworkName("blue"))
        await host.reconciler.cycle(host.reconciler.drift.take())
        await host.hear(ELSEWHERE)
        assert is_there(host, route)


async def test_what_a_redirection_was_refused_is_repeated(tmp_path: Path) -> None:
    async with settled(tmp_path) as host:
        await host.hear(NEWCOMER)
        route = a_route(host, BLUE)
        host.kernel.remove_by_hand(route)
        host.kernel.fail_next(errno.ENOBUFS)
        await host.reconciler.redirect(NetworkName("blue"), nullcontext)
        await host.reconciler.cycle(host.reconciler.drift.take())
        await host.hear(ELSEWHERE)
        assert is_there(host, route)


async def test_a_network_that_goes_during_a_failure_is_not_left_behind(tmp_path: Path) -> None:
    async with settled(tmp_path) as host:
        gone = clusters.network("green", cidr="10.64.0.0/16")
        host.feed.cluster = host.feed.cluster.changed(host.feed.cluster.revision, (), [RecordKey.of(gone)])
        host.kernel.failing = errno.ENOBUFS
        assert (await host.reconciler.cycle(frozenset())).problems
        host.kernel.failing = None
        await host.hear(NEWCOMER)
        assert host.reconciler.status.is_pruned
        assert host.kernel.namespaces() == {BLUE}


async def test_a_forgotten_network_goes_with_its_last_container(tmp_path: Path) -> None:
    async with settled(tmp_path) as host:
        web = attached(host, "web", "10.64.0.5", "green")
        await host.look(None)
        gone = clusters.network("green", cidr="10.64.0.0/16")
        host.feed.cluster = host.feed.cluster.changed(host.feed.cluster.revision, (), [RecordKey.of(gone)])
        await host.reconciler.cycle(frozenset())
        assert GREEN in host.kernel.namespaces()
        host.kernel.remove_sandbox(web.sandbox)
        host.records.remove(web.key)
        await host.hear(NEWCOMER)
        assert host.kernel.namespaces() == {BLUE}
