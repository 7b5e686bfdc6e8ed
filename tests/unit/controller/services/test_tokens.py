"""Tokens in the store: who is recognised, what a join gives, and what nobody can read there."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from controller.clock import SystemClock
from controller.identity.roles import Role
from controller.journal.actor import Actor, Requester
from controller.overlay import Overlay
from controller.services.tokens import JOIN_HOSTS_MAX, JOIN_TTL_MAX, TTL_MAX, Made
from controller.state import keys, token_records
from controller.store.embedded import EmbeddedStore
from controller.store.port import Committed, Conflict, KeyValue, PutKey, Store, Transaction, always
from overlayd.model.errors import AlreadyExists, InvalidValue, NotFound, Unauthenticated, Unavailable
from overlayd.model.ids import HostId, Revision
from tests.support.controllers.overlays import H1, H2, controller_on, controllers, make_host, store_at, stored

pytestmark = pytest.mark.anyio

PRINT = "f" * 64
ANNA = Actor("anna", Role.ADMIN)
BY_ANNA = Requester(ANNA)


class LaterClock(SystemClock):
    """The machine's clocks, with the time of day so many seconds ahead."""

    ahead = 0.0

    def wall(self) -> float:
        return super().wall() + self.ahead


@asynccontextmanager
async def one(directory: Path) -> AsyncIterator[tuple[Store, Overlay]]:
    async with controllers(directory, 1) as (store, [overlay]):
        yield store, overlay


async def access(overlay: Overlay, role: Role = Role.VIEWER, ttl: int | None = None) -> Made:
    return (await overlay.tokens.create(BY_ANNA, "ci", role, ttl)).result


async def joining(overlay: Overlay, *, ttl: int = 60, of_h1: bool = False) -> str:
    return (await overlay.tokens.create_join(BY_ANNA, PRINT, H1 if of_h1 else None, ttl)).result.token.text


async def history(store: Store) -> list[dict[str, object]]:
    page = await store.page(keys.HISTORY)
    return [json.loads(item.value) for item in page.items]


async def test_a_token_is_recognised_at_every_controller(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (store, [here, there]):
        made = await access(here)
        await there.mirror.reached(await store.current_revision())
        for overlay in (here, there):
            found = overlay.tokens.authenticate(made.token.text, 0)
            assert found == made.record
            assert (found.name, found.role, found.host, found.by) == ("ci", Role.VIEWER, None, "anna")


async def test_what_is_not_a_valid_token_is_refused_without_being_repeated(tmp_path: Path) -> None:
    async with one(tmp_path) as (_, overlay):
        made = await access(overlay)
        text, other = made.token.text, (await access(overlay)).token
        wrong = [
            text[:-1] + ("0" if text[-1] != "0" else "1"),
            f"ovt_{made.token.id}_{other.secret}",
            "ovt_" + "0" * 12 + "_" + made.token.secret,
            "nonsense",
            "",
            await joining(overlay),
        ]
        for shown in wrong:
            with pytest.raises(Unauthenticated) as refused:
                overlay.tokens.authenticate(shown, 0)
            assert shown == "" or shown not in str(refused.value)
            assert made.token.secret not in str(refused.value)


async def test_a_join_token_in_the_clothes_of_an_access_token_is_refused(tmp_path: Path) -> None:
    async with one(tmp_path) as (_, overlay):
        _, token_id, secret, _ = (await joining(overlay)).split("_")
        with pytest.raises(Unauthenticated):
            overlay.tokens.authenticate(f"ovt_{token_id}_{secret}", 0)
        made = await access(overlay)
        with pytest.raises(Unauthenticated):
            await overlay.tokens.join(BY_ANNA, f"ovj_{made.token.id}_{made.token.secret}_{PRINT}", H1)


async def test_a_token_ends_by_its_time_or_by_revocation(tmp_path: Path) -> None:
    async with one(tmp_path) as (_, overlay):
        made = await access(overlay, ttl=60)
        ends = made.record.expires
        assert ends == made.record.created + 60
        assert overlay.tokens.is_valid(made.record.id, ends - 1)
        assert not overlay.tokens.is_valid(made.record.id, ends)
        with pytest.raises(Unauthenticated, match=r"\(ci\) has expired"):
            overlay.tokens.authenticate(made.token.text, ends)
        lasting = await access(overlay)
        await overlay.tokens.revoke(BY_ANNA, lasting.record.id)
        with pytest.raises(Unauthenticated):
            overlay.tokens.authenticate(lasting.token.text, 0)
        assert not overlay.tokens.is_valid(lasting.record.id, 0)
        with pytest.raises(NotFound):
            await overlay.tokens.revoke(BY_ANNA, lasting.record.id)


async def test_a_join_token_makes_one_credential(tmp_path: Path) -> None:
    async with one(tmp_path) as (_, overlay):
        text = await joining(overlay)
        made = (await overlay.tokens.join(BY_ANNA, text, H1)).result
        found = overlay.tokens.authenticate(made.token.text, 0)
        assert (found.role, found.host, found.name, found.expires, found.by) == (Role.HOST, H1, H1, None, "anna")
        with pytest.raises(Unauthenticated, match="used up"):
            await overlay.tokens.join(BY_ANNA, text, H2)


async def test_an_expired_or_foreign_join_token_makes_none(tmp_path: Path) -> None:
    async with one(tmp_path) as (_, overlay):
        made = (await overlay.tokens.create_join(BY_ANNA, PRINT, H1, 60)).result
        with pytest.raises(Unauthenticated, match="for host h1 only"):
            await overlay.tokens.join(BY_ANNA, made.token.text, H2)
        with pytest.raises(Unauthenticated, match="no host can join"):
            await overlay.tokens.join(BY_ANNA, (await access(overlay)).token.text, H1)
        assert {record.host for record in overlay.tokens.all() if record.kind == "access"} == {None}


async def test_a_second_join_of_a_host_needs_a_token_for_this_very_host(tmp_path: Path) -> None:
    async with one(tmp_path) as (_, overlay):
        first = (await overlay.tokens.join(BY_ANNA, await joining(overlay), H1)).result
        spare = await joining(overlay)
        with pytest.raises(AlreadyExists) as refused:
            await overlay.tokens.join(BY_ANNA, spare, H1)
        assert refused.value.field == "host"
        assert overlay.tokens.authenticate(first.token.text, 0) == first.record
        second = (await overlay.tokens.join(BY_ANNA, await joining(overlay, of_h1=True), H1)).result
        with pytest.raises(Unauthenticated):
            overlay.tokens.authenticate(first.token.text, 0)
        assert overlay.tokens.authenticate(second.token.text, 0).host == H1
        assert (await overlay.tokens.join(BY_ANNA, spare, H2)).result.record.host == H2, (
            "a refused join uses nothing up"
        )


@pytest.mark.parametrize("by_host", [True, False])
async def test_a_host_whose_credential_was_revoked_may_join_again(tmp_path: Path, *, by_host: bool) -> None:
    async with one(tmp_path) as (_, overlay):
        first = (await overlay.tokens.join(BY_ANNA, await joining(overlay), H1)).result
        await (
            overlay.tokens.revoke_credential(BY_ANNA, H1)
            if by_host
            else overlay.tokens.revoke(BY_ANNA, first.record.id)
        )
        with pytest.raises(Unauthenticated):
            overlay.tokens.authenticate(first.token.text, 0)
        again = (await overlay.tokens.join(BY_ANNA, await joining(overlay), H1)).result
        assert overlay.tokens.authenticate(again.token.text, 0) == again.record


async def test_of_many_joins_at_once_one_wins(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (store, both):
        tokens = [await joining(both[0]) for _ in range(6)]
        await both[1].mirror.reached(await store.current_revision())
        joins = [both[index % 2].tokens.join(BY_ANNA, text, H1) for index, text in enumerate(tokens)]
        outcomes = await asyncio.gather(*joins, return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AlreadyExists"] * 5 + ["Written"]
        text = await joining(both[0])
        await both[1].mirror.reached(await store.current_revision())
        uses = await asyncio.gather(
            both[0].tokens.join(BY_ANNA, text, H2),
            both[1].tokens.join(BY_ANNA, text, HostId("h3")),
            return_exceptions=True,
        )
        assert sorted(type(use).__name__ for use in uses) == ["Unauthenticated", "Written"]


@pytest.mark.parametrize("ttl", [0, -1, TTL_MAX + 1])
async def test_a_time_to_live_has_limits(tmp_path: Path, ttl: int) -> None:
    async with one(tmp_path) as (store, overlay):
        with pytest.raises(InvalidValue) as refused:
            await overlay.tokens.create(BY_ANNA, "ci", Role.VIEWER, ttl)
        assert refused.value.field == "ttl"
        with pytest.raises(InvalidValue):
            await overlay.tokens.create_join(BY_ANNA, PRINT, None, JOIN_TTL_MAX + 1)
        with pytest.raises(InvalidValue) as refused:
            await overlay.tokens.create(BY_ANNA, "h1", Role.HOST, None)
        assert refused.value.field == "role"
        assert await stored(store) == {}


async def test_the_store_and_the_history_hold_no_secret_and_the_history_no_hash(tmp_path: Path) -> None:
    async with one(tmp_path) as (store, overlay):
        made = [await access(overlay), (await overlay.tokens.join(BY_ANNA, await joining(overlay), H1)).result]
        await overlay.tokens.revoke(BY_ANNA, made[0].record.id)
        recorded = json.dumps(await history(store))
        for each in made:
            assert each.record.id in recorded
            assert each.record.digest not in recorded
            assert each.token.secret not in recorded
        kept = b"".join(item.value for item in (await stored(store)).values()).decode()
        assert made[1].record.digest in kept
        assert made[1].token.secret not in kept
        assert "digest" not in token_records.shown(made[1].record)
        actors = [entry["actor"] for entry in await history(store)]
        assert actors[:2] == [{"name": "anna", "role": "admin"}] * 2
        assert actors[2] != actors[0], "who joins acts by the join token"


async def test_hosts_are_told_nothing_of_tokens(tmp_path: Path) -> None:
    async with one(tmp_path) as (_, overlay):
        await make_host(overlay, 1)
        before = overlay.mirror.intent_revision
        await access(overlay)
        await overlay.tokens.join(BY_ANNA, await joining(overlay), H1)
        assert overlay.mirror.intent_revision == before
        assert overlay.mirror.since(before) == []


async def test_a_controller_that_starts_later_knows_the_tokens(tmp_path: Path) -> None:
    async with one(tmp_path) as (_, overlay):
        made = await access(overlay)
        await overlay.mirror.load()
        assert overlay.tokens.authenticate(made.token.text, 0) == made.record
        assert [record.id for record in overlay.tokens.all()] == [made.record.id]


async def test_a_join_token_for_several_hosts_counts_them_down(tmp_path: Path) -> None:
    async with one(tmp_path) as (store, overlay):
        made = (await overlay.tokens.create_join(BY_ANNA, PRINT, None, 60, hosts=2)).result
        assert (await overlay.tokens.join(BY_ANNA, made.token.text, H1)).result.record.host == H1
        assert overlay.tokens.get(made.record.id).hosts == 1
        await make_host(overlay, 1)
        with pytest.raises(AlreadyExists):
            await overlay.tokens.join(BY_ANNA, made.token.text, H1)
        assert overlay.tokens.get(made.record.id).hosts == 1, "a refused join uses nothing up"
        assert (await overlay.tokens.join(BY_ANNA, made.token.text, H2)).result.record.host == H2
        with pytest.raises(Unauthenticated, match="used up"):
            await overlay.tokens.join(BY_ANNA, made.token.text, HostId("h3"))
        changes = [change for entry in await history(store) for change in entry["changes"]]  # type: ignore[attr-defined]
        recorded = [
            (each["before"], each["after"])
            for each in changes
            if (each["before"] or each["after"]).get("kind") == "join"
        ]
        assert [(before and before["hosts"], after and after["hosts"]) for before, after in recorded] == [
            (None, 2),
            (2, 1),
            (1, 0),
        ]


async def test_many_hosts_join_with_one_token_at_once(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (store, both):
        made = (await both[0].tokens.create_join(BY_ANNA, PRINT, None, 60, hosts=40)).result
        await both[1].mirror.reached(await store.current_revision())
        joins = [both[number % 2].tokens.join(BY_ANNA, made.token.text, HostId(f"h{number}")) for number in range(50)]
        outcomes = await asyncio.gather(*joins, return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Unauthenticated"] * 10 + ["Written"] * 40
        joined = {record.host for record in both[0].tokens.all() if record.kind == "access"}
        assert len(joined) == 40


@pytest.mark.parametrize(("host", "hosts"), [(None, 0), (None, -1), (None, JOIN_HOSTS_MAX + 1), (H1, 2)])
async def test_a_join_token_is_for_one_host_or_a_bounded_number(
    tmp_path: Path, host: HostId | None, hosts: int
) -> None:
    async with one(tmp_path) as (store, overlay):
        with pytest.raises(InvalidValue) as refused:
            await overlay.tokens.create_join(BY_ANNA, PRINT, host, 60, hosts)
        assert refused.value.field == "hosts"
        assert await stored(store) == {}


async def test_a_join_token_keeps_what_another_version_added_to_it(tmp_path: Path) -> None:
    async with one(tmp_path) as (store, overlay):
        made = (await overlay.tokens.create_join(BY_ANNA, PRINT, None, 60, hosts=2)).result
        key = keys.token(made.record.id)
        found = await store.get(key)
        assert found
        value = json.dumps({**json.loads(found.value), "site": "rack 7"}).encode()
        written = await store.commit(Transaction((), (PutKey(key, value),)))
        await overlay.mirror.reached(written.revision)
        await overlay.tokens.join(BY_ANNA, made.token.text, H1)
        found = await store.get(key)
        assert found
        assert json.loads(found.value)["site"] == "rack 7"


async def test_a_join_token_of_an_older_version_is_for_one_host(tmp_path: Path) -> None:
    async with one(tmp_path) as (store, overlay):
        made = (await overlay.tokens.create_join(BY_ANNA, PRINT, None, 60)).result
        key = keys.token(made.record.id)
        found = await store.get(key)
        assert found
        value = json.loads(found.value)
        del value["hosts"]
        written = await store.commit(Transaction((), (PutKey(key, json.dumps(value).encode()),)))
        await overlay.mirror.reached(written.revision)
        assert overlay.tokens.get(made.record.id) == made.record


@pytest.mark.parametrize("hosts", [1, 2])
@pytest.mark.parametrize("of_h1", [True, False])
async def test_a_join_whose_answer_was_lost_is_repeated(tmp_path: Path, *, hosts: int, of_h1: bool) -> None:
    async with controllers(tmp_path, 2) as (store, [here, there]):
        made = (await here.tokens.create_join(BY_ANNA, PRINT, H1 if of_h1 else None, 60, 1 if of_h1 else hosts)).result
        lost = (await here.tokens.join(BY_ANNA, made.token.text, H1)).result
        left = here.tokens.get(made.record.id).hosts
        again = (await there.tokens.join(BY_ANNA, made.token.text, H1)).result
        assert there.tokens.authenticate(again.token.text, 0).host == H1
        with pytest.raises(Unauthenticated):
            there.tokens.authenticate(lost.token.text, 0)
        assert there.tokens.get(made.record.id).hosts == left, "it is one host"
        assert sum(record.kind == "access" for record in there.tokens.all()) == 1

        await make_host(there, 1)
        await here.mirror.reached(await store.current_revision())
        with pytest.raises((Unauthenticated, AlreadyExists), match=r"used up|has joined already"):
            await here.tokens.join(BY_ANNA, made.token.text, H1)
        assert here.tokens.authenticate(again.token.text, 0) == again.record, "a host that works is not taken over"


async def test_what_a_host_did_before_it_joined_is_no_use_of_its_credential(tmp_path: Path) -> None:
    """As hosts of 0.1 have registered where nobody needed a token."""
    async with one(tmp_path) as (_, overlay):
        await make_host(overlay, 1)
        text = await joining(overlay)
        await overlay.tokens.join(BY_ANNA, text, H1)
        again = (await overlay.tokens.join(BY_ANNA, text, H1)).result
        await overlay.hosts.register(BY_ANNA, H1, "host 1", IPv4Address("192.0.2.1"), "a new start")
        with pytest.raises(Unauthenticated, match="used up"):
            await overlay.tokens.join(BY_ANNA, text, H1)
        assert overlay.tokens.authenticate(again.token.text, 0) == again.record


async def test_a_host_that_registers_while_its_join_is_repeated_is_not_taken_over(tmp_path: Path) -> None:
    async with one(tmp_path) as (_, overlay):
        text = await joining(overlay)
        await overlay.tokens.join(BY_ANNA, text, H1)
        await asyncio.gather(make_host(overlay, 1), overlay.tokens.join(BY_ANNA, text, H1), return_exceptions=True)
        registered, made = (overlay.mirror.mod_revision(key) for key in (keys.instance(H1), keys.credential(H1)))
        assert registered > made, "the one before the other, or not at all"


@pytest.mark.parametrize("ended", ["expired", "revoked", "credential revoked"])
async def test_a_join_is_not_repeated_with_a_token_that_has_ended(tmp_path: Path, ended: str) -> None:
    clock = LaterClock()
    async with store_at(tmp_path / "store.db", clock) as store, controller_on(store, clock=clock) as overlay:
        joining = (await overlay.tokens.create_join(BY_ANNA, PRINT, None, 60)).result
        made = (await overlay.tokens.join(BY_ANNA, joining.token.text, H1)).result
        match ended:
            case "expired":
                clock.ahead = 60
            case "revoked":
                await overlay.tokens.revoke(BY_ANNA, joining.record.id)
            case _:
                await overlay.tokens.revoke(BY_ANNA, made.record.id)
        with pytest.raises(Unauthenticated, match=r"has expired|revoked or used up|is used up"):
            await overlay.tokens.join(BY_ANNA, joining.token.text, H1)


async def test_a_credential_of_an_older_version_is_replaced_by_no_join_token_but_its_own(tmp_path: Path) -> None:
    async with one(tmp_path) as (store, overlay):
        text = (await overlay.tokens.create_join(BY_ANNA, PRINT, None, 60, hosts=2)).result.token.text
        made = (await overlay.tokens.join(BY_ANNA, text, H1)).result
        key = keys.token(made.record.id)
        found = await store.get(key)
        assert found
        value = json.loads(found.value)
        del value["joined_with"]
        written = await store.commit(Transaction((), (PutKey(key, json.dumps(value).encode()),)))
        await overlay.mirror.reached(written.revision)
        assert overlay.tokens.authenticate(made.token.text, 0).host == H1
        with pytest.raises(AlreadyExists):
            await overlay.tokens.join(BY_ANNA, text, H1)
        assert (await overlay.tokens.join(BY_ANNA, await joining(overlay, of_h1=True), H1)).result.record.host == H1


async def test_who_went_to_another_controller_keeps_what_he_got_there(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (store, [slow, other]):
        text = (await slow.tokens.create_join(BY_ANNA, PRINT, None, 60)).result.token.text
        await other.mirror.reached(await store.current_revision())
        made = (await other.tokens.join(BY_ANNA, text, H1)).result
        with pytest.raises(Unavailable, match="has disconnected"):
            await slow.tokens.join(Requester(ANNA, lambda: False), text, H1)
        assert other.tokens.authenticate(made.token.text, 0) == made.record


class StallingStore(EmbeddedStore):
    """A store that neither reads nor writes while it is stalled, as an etcd cluster without quorum."""

    stalled = False

    async def get(self, key: str, revision: Revision | None = None) -> KeyValue | None:
        await self._go_on()
        return await super().get(key, revision)

    async def commit(self, transaction: Transaction, go_on: Callable[[], bool] = always) -> Committed | Conflict:
        await self._go_on()
        return await super().commit(transaction, go_on)

    async def _go_on(self) -> None:
        if self.stalled:
            await asyncio.Event().wait()


@asynccontextmanager
async def stalled(directory: Path) -> AsyncIterator[tuple[Overlay, str]]:
    """Give a controller and a join token whose exchange for a host is under way, on a store that has stalled since."""
    store = StallingStore.open(directory / "store.db", SystemClock())
    running = asyncio.create_task(store.run())
    async with controller_on(store) as overlay:
        text = await joining(overlay)
        store.stalled = True
        under_way = asyncio.create_task(overlay.tokens.join(BY_ANNA, text, H1))  # it has its turn, and keeps it
        await asyncio.sleep(0)
        try:
            yield overlay, text
        finally:
            for task in (under_way, running):
                task.cancel()
            await asyncio.wait([under_way, running])
            await store.close()


async def test_a_wrong_join_token_is_refused_at_once_while_the_store_does_not_answer(tmp_path: Path) -> None:
    async with stalled(tmp_path) as (overlay, text), asyncio.timeout(1):
        kind, token_id, secret, fingerprint = text.split("_")
        with pytest.raises(Unauthenticated):
            await overlay.tokens.join(BY_ANNA, "_".join((kind, token_id, secret[::-1], fingerprint)), H2)


async def test_a_join_does_not_wait_for_its_turn_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.services.tokens._TURN_MAX", 0.1)
    async with stalled(tmp_path) as (overlay, text):
        with pytest.raises(Unavailable, match="too many hosts"):
            await overlay.tokens.join(BY_ANNA, text, H2)


async def test_a_token_of_another_controller_joins_before_this_one_has_heard_of_it(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (_, [here, there]):
        text = await joining(here)
        assert (await there.tokens.join(BY_ANNA, text, H1)).result.record.host == H1
