"""An etcd store keeps its promises while nodes die, freeze and come back, and while answers are lost."""

import asyncio
import random
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from controller.clock import SystemClock
from controller.store.etcd.cluster import Certificates, EtcdLogin, parse_url
from controller.store.etcd.cluster import EtcdCluster as Address
from controller.store.etcd.store import EtcdStore
from controller.store.port import (
    Committed,
    Compare,
    Conflict,
    KeyValue,
    LeaseLost,
    PutKey,
    Replaced,
    RevisionCompacted,
    RevisionEvents,
    StoreUnavailable,
    Transaction,
)
from overlayd.model.errors import Unavailable
from overlayd.model.ids import NetworkName, Revision
from tests.support.controllers.api import api_of
from tests.support.controllers.cutting_proxy import CuttingProxy
from tests.support.controllers.etcd import EtcdCluster
from tests.support.controllers.overlays import controller_on, make_network, pool

pytestmark = pytest.mark.anyio


@pytest.fixture
def three() -> Iterator[EtcdCluster]:
    with EtcdCluster(3) as cluster:
        yield cluster


@pytest.fixture
def one() -> Iterator[EtcdCluster]:
    with EtcdCluster(1) as cluster:
        yield cluster


def address(cluster: EtcdCluster) -> Address:
    return parse_url(cluster.url, Certificates(), None, "--store")


@asynccontextmanager
async def store_of(where: Address) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(where, SystemClock())
    try:
        yield store
    finally:
        await store.close()


NOTHING = Revision(0)


@dataclass
class Traffic:
    """Writers that count keys up by compare-and-swap, and a watcher of all they do."""

    store: EtcdStore
    acknowledged: dict[Revision, str] = field(default_factory=dict)
    seen: list[RevisionEvents] = field(default_factory=list)
    unavailable: int = 0
    doubled: list[str] = field(default_factory=list)
    position: Revision = NOTHING
    stopping: bool = False
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def flowing(self, after: Revision, writers: int = 8) -> AsyncIterator["Traffic"]:
        """Write and watch while the context lasts, and then until the watcher has seen the last write."""
        watching = asyncio.create_task(self._watch(after), name="watch")
        tasks = [asyncio.create_task(self._write(number), name=f"writer {number}") for number in range(writers)]
        try:
            yield self
            self.stopping = True
            await asyncio.gather(*tasks)
            last = max(self.acknowledged)
            await self.until(lambda: self.position >= last)
        finally:
            for task in (*tasks, watching):
                task.cancel()
            outcomes = await asyncio.gather(*tasks, watching, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _write(self, number: int) -> None:
        key, count = f"/t/{number}", 0
        at = NOTHING
        while not self.stopping:
            count += 1
            value = f"{number}:{count}"
            try:
                outcome = await self._commit(key, at, value)
            except StoreUnavailable:
                self._failed()
                # The write happened or not: only a read can tell.
                found = await self._read(key)
                at, count = (found.mod_revision, int(found.value.split(b":")[1])) if found else (Revision(0), 0)
                continue
            # No other client writes this key: a conflict would mean that a write happened that was called a failure.
            if isinstance(outcome, Conflict):
                self.doubled.append(value)
                return
            at = outcome.revision

    async def _commit(self, key: str, at: Revision, value: str) -> Committed | Conflict:
        outcome = await self.store.commit(Transaction((Compare(key, at),), (PutKey(key, value.encode()),)))
        if isinstance(outcome, Committed):
            self.acknowledged[outcome.revision] = value
            self._moved.set()
        return outcome

    def _failed(self) -> None:
        self.unavailable += 1
        self._moved.set()

    async def _read(self, key: str) -> KeyValue | None:
        while True:
            with suppress(StoreUnavailable):
                return await self.store.get(key)

    async def _watch(self, after: Revision) -> None:
        self.position = after
        while True:
            try:
                async for changes in self.store.watch("/t/", self.position):
                    self.seen.append(changes)
                    self.position = changes.revision
                    self._moved.set()
            except StoreUnavailable:
                self._failed()

    async def progress(self, number: int = 20) -> None:
        """Return when so many more writes are acknowledged, and seen by the watcher."""
        target = len(self.acknowledged) + number
        await self.until(lambda: len(self.acknowledged) >= target)
        last = max(self.acknowledged)
        await self.until(lambda: self.position >= last)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self._moved.clear()
                await self._moved.wait()

    def assert_sound(self) -> None:
        """Whatever was acknowledged was seen, all was seen once and in order, and each key counts up by one."""
        assert self.doubled == []
        revisions = [changes.revision for changes in self.seen]
        assert revisions == sorted(set(revisions))
        values = {changes.revision: [event.value for event in changes.events] for changes in self.seen}
        for revision, value in self.acknowledged.items():
            assert values[revision] == [value.encode()]
        counts: dict[str, int] = {}
        for changes in self.seen:
            for event in changes.events:
                assert event.value is not None
                count = int(event.value.split(b":")[1])
                assert count == counts.get(event.key, 0) + 1
                counts[event.key] = count


async def test_nodes_that_are_killed_cost_nothing(three: EtcdCluster) -> None:
    async with store_of(address(three)) as store, Traffic(store).flowing(await store.current_revision()) as traffic:
        for index in (0, 1, 2):
            await traffic.progress()
            three.kill(index)
            await traffic.progress()
            three.launch(index)
            await asyncio.to_thread(three.await_health)
    traffic.assert_sound()


async def test_nodes_that_freeze_cost_nothing(three: EtcdCluster) -> None:
    async with store_of(address(three)) as store, Traffic(store).flowing(await store.current_revision()) as traffic:
        for index in (0, 1, 2):
            await traffic.progress()
            three.freeze(index)
            await traffic.progress()
            three.thaw(index)
            await asyncio.to_thread(three.await_health)
    traffic.assert_sound()


async def test_all_nodes_go_and_come_back(three: EtcdCluster) -> None:
    async with store_of(address(three)) as store, Traffic(store).flowing(await store.current_revision()) as traffic:
        await traffic.progress()
        for index in (0, 1, 2):
            three.kill(index)
        await traffic.until(lambda: traffic.unavailable > 0)
        for index in (0, 1, 2):
            three.launch(index)
        await traffic.progress()
    traffic.assert_sound()


async def test_a_store_without_quorum_says_so_and_has_written_nothing(three: EtcdCluster) -> None:
    async with store_of(address(three)) as store:
        before = await store.commit(Transaction((), (PutKey("/t/x", b"before"),)))
        three.kill(1)
        three.kill(2)
        outcomes = await asyncio.gather(
            store.get("/t/x"),
            store.commit(Transaction((), (PutKey("/t/x", b"without quorum"),))),
            store.grant(10),
            store.current_revision(),
            return_exceptions=True,
        )
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
        three.launch(1)
        await asyncio.to_thread(three.await_health)
        found = await store.get("/t/x")
        assert found is not None
        # It was proposed to a leader without followers: it happened or it did not, and no answer said that it had.
        assert found.value in {b"before", b"without quorum"}
        assert found.mod_revision >= before.revision


async def test_a_watch_of_what_is_compacted_says_so(three: EtcdCluster) -> None:
    async with store_of(address(three)) as store:
        start = await store.current_revision()
        watch = store.watch("/t/", start)
        first = await store.commit(Transaction((), (PutKey("/t/x", b"1"),)))
        assert (await anext(watch)).revision == first.revision
        for index in (0, 1, 2):
            three.kill(index)
        for index in (0, 1, 2):
            three.launch(index)
        await asyncio.to_thread(three.await_health)
        await store.commit(Transaction((), (PutKey("/t/x", b"2"),)))
        last = await store.commit(Transaction((), (PutKey("/t/x", b"3"),)))
        await store.compact(last.revision)
        late = store.watch("/t/", first.revision)
        with pytest.raises(RevisionCompacted):
            await anext(late)
        with pytest.raises(RevisionCompacted):
            await store.get("/t/x", first.revision)


async def test_a_lease_outlives_a_node_and_ends_when_nobody_keeps_it(three: EtcdCluster) -> None:
    async with store_of(address(three)) as store:
        lease = await store.grant(5)
        put = await store.commit(Transaction((), (PutKey("/t/leased", b"", lease),)))
        three.kill(0)
        await store.keep_alive(lease)
        watch = store.watch("/t/", put.revision)
        async with asyncio.timeout(30):
            gone = await anext(watch)
        assert [event.value for event in gone.events] == [None]
        with pytest.raises(LeaseLost):
            await store.keep_alive(lease)


async def test_a_commit_whose_answer_is_lost_is_known_to_have_happened(one: EtcdCluster) -> None:
    proxy = CuttingProxy("127.0.0.1", one.nodes[0].client_port)
    async with proxy.serving(), store_of(Address((f"127.0.0.1:{proxy.port}",))) as store:
        at = Revision(0)
        for number in range(20):
            transaction = Transaction((Compare("/t/x", at),), (PutKey("/t/x", b"%d" % number),))
            if number % 2:
                proxy.lose_next_answer()
            outcome = await store.commit(transaction)
            assert isinstance(outcome, Committed)
            found = await store.get("/t/x")
            assert found is not None
            assert (found.value, found.mod_revision) == (b"%d" % number, outcome.revision)
            at = outcome.revision
        assert proxy.lost == 10


async def test_many_commits_whose_answers_are_lost_happen_once_each(one: EtcdCluster) -> None:
    proxy = CuttingProxy("127.0.0.1", one.nodes[0].client_port)
    chance = random.Random(7)

    async def lose() -> None:
        while True:
            await asyncio.sleep(chance.uniform(0.2, 0.6))
            proxy.lose_next_answer()

    async with proxy.serving(), store_of(Address((f"127.0.0.1:{proxy.port}",))) as store:
        losing = asyncio.create_task(lose())
        try:
            async with Traffic(store).flowing(await store.current_revision(), writers=32) as traffic:
                await traffic.until(lambda: proxy.lost >= 8)
                losing.cancel()
                await traffic.progress()
        finally:
            losing.cancel()
    traffic.assert_sound()


@pytest.fixture
def small() -> Iterator[EtcdCluster]:
    with EtcdCluster(1, flags=("--quota-backend-bytes", "2000000")) as cluster:
        yield cluster


async def test_an_etcd_without_space_is_read_and_not_written_until_it_has_some(small: EtcdCluster) -> None:
    async with store_of(address(small)) as store, controller_on(store) as overlay, api_of(overlay) as api:
        await make_network(overlay)
        with pytest.raises(StoreUnavailable, match="space"):
            await fill(store)
        before = await store.current_revision()
        await overlay.writability.look()
        refused = await api.get("/readyz")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "space" in refused.json()["detail"]
        red = {"name": "red", "pools": [{"range": "10.64.0.0/16"}]}
        assert (await api.post("/v1/networks", json=red)).status_code == 503
        assert "overlay_store_writable 0.0" in (await api.get("/metrics")).text
        assert (await api.get("/v1/networks/blue")).is_success
        assert await store.current_revision() == before
        make_space(small)
        await overlay.writability.look()
        assert (await api.get("/readyz")).is_success
        await make_network(overlay, NetworkName("red"), pool("10.64.0.0/16"))


async def fill(store: EtcdStore) -> None:
    """Write until etcd refuses."""
    for number in range(400):
        await store.commit(Transaction((), (PutKey(f"/filling/{number}", b"x" * 100_000),)))


def make_space(cluster: EtcdCluster) -> None:
    """Do what etcd's maintenance guide says about an alarm of NOSPACE: compact, defragment, disarm."""
    first, last = (b64encode(key).decode() for key in (b"/filling/", b"/filling0"))
    deleted = cluster.post("/v3/kv/deleterange", {"key": first, "range_end": last})
    header = deleted["header"]
    assert isinstance(header, dict)
    cluster.post("/v3/kv/compaction", {"revision": header["revision"], "physical": True})
    cluster.post("/v3/maintenance/defragment", {})
    raised = cluster.post("/v3/maintenance/alarm", {"action": "GET"})["alarms"]
    assert isinstance(raised, list)
    for alarm in raised:
        cluster.post("/v3/maintenance/alarm", {**alarm, "action": "DEACTIVATE"})


@pytest.mark.parametrize("how", ["the same nodes", "other nodes"])
async def test_an_etcd_that_goes_back_is_another_one(tmp_path: Path, one: EtcdCluster, how: str) -> None:
    async with store_of(address(one)) as store:
        await store.commit(Transaction((), (PutKey("/t/x", b"1"),)))
        await asyncio.to_thread(one.save, tmp_path / "snapshot")
        later = await store.commit(Transaction((), (PutKey("/t/x", b"2"),)))
        watch = store.watch("/t/", later.revision)
        one.kill(0)
        if how == "other nodes":
            one.renew()
        one.restore(tmp_path / "snapshot")
        one.launch(0)
        await asyncio.to_thread(one.await_health)
        if how == "other nodes":  # whose revision has passed what was known
            await write_past(address(one), later.revision)
        with pytest.raises(Replaced):
            await store.get("/t/x")
        # From now on nothing is read, written or watched by what is known of the other one.
        for refused in (store.commit(Transaction((), (PutKey("/t/x", b"3"),))), anext(watch)):
            with pytest.raises(Replaced):
                await refused


async def write_past(where: Address, until: Revision) -> None:
    """Write until an etcd is past a revision."""
    async with store_of(where) as store:
        while (await store.commit(Transaction((), (PutKey("/t/y", b""),)))).revision <= until:
            pass


def root_of(cluster: EtcdCluster, directory: Path) -> tuple[Address, Path]:
    """Make a cluster ask for a user, and return how to use it as one, and the file of the password."""
    cluster.post("/v3/auth/user/add", {"name": "root", "password": "sesame"})
    cluster.post("/v3/auth/role/add", {"name": "root"})
    cluster.post("/v3/auth/user/grant", {"user": "root", "role": "root"})
    cluster.post("/v3/auth/enable", {})
    password = directory / "password"
    password.write_text("sesame\n")
    return Address((cluster.nodes[0].endpoint,), None, EtcdLogin("root", password)), password


async def test_a_login_that_is_refused_ends_no_controller(tmp_path: Path, one: EtcdCluster) -> None:
    where, password = root_of(one, tmp_path)
    async with store_of(where) as store, controller_on(store) as overlay:
        await make_network(overlay)
        lease = await store.grant(60)
        ticket = one.post("/v3/auth/authenticate", {"name": "root", "password": "sesame"})["token"]
        one.post("/v3/auth/user/changepw", {"name": "root", "password": "changed"}, str(ticket))
        with pytest.raises(Unavailable, match="user root cannot log in"):
            await store.grant(60)
        with pytest.raises(Unavailable, match="user root cannot log in"):
            await store.keep_alive(lease)
        with pytest.raises(Unavailable, match="user root cannot log in"):
            await overlay.mirror.verify()
        password.write_text("changed")
        async with asyncio.timeout(30):
            while True:
                with suppress(Unavailable):
                    await make_network(overlay, NetworkName("red"), pool("10.64.0.0/16"))
                    break
        await store.keep_alive(lease)


async def test_a_user_logs_in_again_when_its_token_is_forgotten(tmp_path: Path, one: EtcdCluster) -> None:
    where, password = root_of(one, tmp_path)
    async with store_of(where) as store, Traffic(store).flowing(await store.current_revision()) as traffic:
        await traffic.progress()
        one.kill(0)  # its simple tokens are in memory
        one.launch(0)
        await traffic.progress()
    traffic.assert_sound()
    password.write_text("wrong")
    async with store_of(where) as store:
        with pytest.raises(StoreUnavailable, match="etcd refuses") as caught:
            await store.get("/t/x")
    assert "wrong" not in str(caught.value)
    async with store_of(Address((one.nodes[0].endpoint,))) as store:
        with pytest.raises(StoreUnavailable, match="etcd refuses"):
            await store.get("/t/x")
