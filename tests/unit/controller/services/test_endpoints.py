import asyncio
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from controller.clock import SystemClock
from controller.journal.actor import BY_CONTROLLER
from controller.store.embedded import EmbeddedStore
from controller.store.port import KeyValue
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import AlreadyExists, InvalidValue, NotFound, OverlayError
from overlayd.model.ids import HostId, MacAddress, NetworkName, Revision
from tests.support.controllers.overlays import (
    BLUE,
    H1,
    H2,
    controller_on,
    make_endpoint,
    make_host,
    make_network,
    open_store,
    stored,
    two_hosts_with_blocks,
    whole_cluster,
)

pytestmark = pytest.mark.anyio


async def test_endpoints_are_added_replaced_and_removed(tmp_path: Path) -> None:
    async with two_hosts_with_blocks(tmp_path, 22) as (store, [overlay, _], block, _):
        first, second = make_endpoint(block, 2), make_endpoint(block, 3)
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [first, second], [])
        moved = replace(first, addresses=(block.cidr[9],))
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [moved], [second.key])
        assert (await whole_cluster(store)).endpoints == {moved.key: moved}
        before = await stored(store)
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [moved], [second.key])
        assert await stored(store) == before


async def test_a_full_set_replaces_what_was_there_and_nothing_of_other_hosts(tmp_path: Path) -> None:
    async with two_hosts_with_blocks(tmp_path, 22) as (store, [overlay, _], block, other):
        theirs = make_endpoint(other, 2)
        await overlay.endpoints.publish(BY_CONTROLLER, H2, [theirs], [])
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [make_endpoint(block, n) for n in range(2, 300)], [])
        wanted = [make_endpoint(block, n) for n in range(200, 500)]
        await overlay.endpoints.replace(BY_CONTROLLER, H1, wanted)
        assert set((await whole_cluster(store)).endpoints.values()) == {theirs, *wanted}
        await overlay.endpoints.replace(BY_CONTROLLER, H1, [])
        assert set((await whole_cluster(store)).endpoints.values()) == {theirs}


async def test_an_address_passes_to_another_container_in_one_request(tmp_path: Path) -> None:
    async with two_hosts_with_blocks(tmp_path, 22) as (store, [overlay, _], block, _):
        first, heir = make_endpoint(block, 2, "old"), make_endpoint(block, 2, "new")
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [first], [])
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [heir], [first.key])
        assert set((await whole_cluster(store)).endpoints.values()) == {heir}


def _of_unknown_network(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, network=NetworkName("forgotten"))


def _outside(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, addresses=(IPv4Address("10.99.0.1"),))


def _in_block_of_other_host(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, addresses=(endpoint.addresses[0] + 1024,))


def _with_address_of_another(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, addresses=(endpoint.addresses[0] - 1,))


def _with_mac_of_another(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, mac=MacAddress("02:00:0a:20:04:02"))


def _with_mac_of_a_host(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, mac=MacAddress("02:6f:76:00:00:02"))


REFUSED = pytest.mark.parametrize(
    ("spoil", "error", "field"),
    [
        (_of_unknown_network, NotFound, "network"),
        (_outside, InvalidValue, "addresses"),
        (_in_block_of_other_host, InvalidValue, "addresses"),
        (_with_address_of_another, AlreadyExists, "addresses"),
        (_with_mac_of_another, AlreadyExists, "mac"),
        (_with_mac_of_a_host, InvalidValue, "mac"),
    ],
)
Spoil = Callable[[Endpoint], Endpoint]


@REFUSED
async def test_one_wrong_endpoint_is_refused_by_itself(
    tmp_path: Path, spoil: Spoil, error: type[OverlayError], field: str
) -> None:
    async with two_hosts_with_blocks(tmp_path, 22) as (store, [overlay, _], block, other):
        theirs = make_endpoint(other, 2)
        await overlay.endpoints.publish(BY_CONTROLLER, H2, [theirs], [])
        good = [make_endpoint(block, 5), make_endpoint(block, 9)]
        wrong = spoil(make_endpoint(block, 6))
        for number in range(2):
            if number == 0:
                done = await overlay.endpoints.publish(BY_CONTROLLER, H1, [good[0], wrong, good[1]], [])
            else:
                done = await overlay.endpoints.replace(BY_CONTROLLER, H1, [good[0], wrong, good[1]])
            (refusal,) = done.result
            assert (refusal.endpoint, type(refusal.error)) == (wrong.key, error)
            assert refusal.error.field == f"{('puts', 'endpoints')[number]}[1].{field}"
            assert set((await whole_cluster(store)).endpoints.values()) == {theirs, *good}


@REFUSED
async def test_what_was_known_of_an_endpoint_that_is_refused_is_withdrawn(
    tmp_path: Path, spoil: Spoil, error: type[OverlayError], field: str
) -> None:
    async with two_hosts_with_blocks(tmp_path, 22) as (store, [overlay, _], block, other):
        theirs = make_endpoint(other, 2)
        await overlay.endpoints.publish(BY_CONTROLLER, H2, [theirs], [])
        good, changed = make_endpoint(block, 5), make_endpoint(block, 6)
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [good, changed], [])
        done = await overlay.endpoints.publish(BY_CONTROLLER, H1, [spoil(changed)], [])
        assert [(type(refusal.error), refusal.error.field) for refusal in done.result] == [(error, f"puts[0].{field}")]
        kept = {theirs, good, changed} if spoil is _of_unknown_network else {theirs, good}
        assert set((await whole_cluster(store)).endpoints.values()) == kept


async def test_a_request_that_speaks_for_another_host_changes_nothing(tmp_path: Path) -> None:
    async with two_hosts_with_blocks(tmp_path, 22) as (store, [overlay, _], block, _):
        before = await stored(store)
        foreign = replace(make_endpoint(block, 6), host=H2)
        with pytest.raises(InvalidValue) as refused:
            await overlay.endpoints.publish(BY_CONTROLLER, H1, [make_endpoint(block, 5), foreign], [])
        assert refused.value.field == "puts[1].host"
        assert await stored(store) == before


async def test_an_endpoint_named_twice_is_refused(tmp_path: Path) -> None:
    async with two_hosts_with_blocks(tmp_path, 22) as (store, [overlay, _], block, _):
        endpoint = make_endpoint(block, 2)
        before = await stored(store)
        with pytest.raises(InvalidValue, match="twice"):
            await overlay.endpoints.publish(
                BY_CONTROLLER, H1, [endpoint, replace(endpoint, addresses=(block.cidr[3],))], []
            )
        with pytest.raises(InvalidValue, match="twice"):
            await overlay.endpoints.publish(BY_CONTROLLER, H1, [endpoint], [endpoint.key])
        assert await stored(store) == before


async def test_of_two_containers_with_one_address_the_first_stands(tmp_path: Path) -> None:
    async with two_hosts_with_blocks(tmp_path, 22) as (store, [overlay, _], block, _):
        first, second = make_endpoint(block, 2, "b"), make_endpoint(block, 2, "a")
        second = replace(second, mac=MacAddress("02:00:00:00:00:01"))
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [first], [])
        for refused in (
            (await overlay.endpoints.publish(BY_CONTROLLER, H1, [second], [])).result,
            (await overlay.endpoints.replace(BY_CONTROLLER, H1, [second, first])).result,
        ):
            assert [refusal.endpoint for refusal in refused] == [second.key]
            assert "10.32.0.2" in str(refused[0].error)
            assert set((await whole_cluster(store)).endpoints.values()) == {first}


async def test_a_thousand_changes_remove_before_they_add(tmp_path: Path) -> None:
    """Each container has the address of one that goes, in another order."""
    async with two_hosts_with_blocks(tmp_path, 22) as (store, [overlay, _], block, _):
        old = [make_endpoint(block, 2 + n, f"old{n}") for n in range(500)]
        new = [make_endpoint(block, 501 - n, f"new{n}") for n in range(500)]
        assert (await overlay.endpoints.publish(BY_CONTROLLER, H1, old, [])).result == ()
        assert (
            await overlay.endpoints.publish(BY_CONTROLLER, H1, new, [endpoint.key for endpoint in old])
        ).result == ()
        assert set((await whole_cluster(store)).endpoints.values()) == set(new)


async def test_two_hosts_may_have_containers_of_one_id(tmp_path: Path) -> None:
    async with two_hosts_with_blocks(tmp_path, 22) as (store, [overlay, _], block, other):
        ours, theirs = make_endpoint(block, 2, "first"), make_endpoint(other, 2, "first")
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [ours], [])
        await overlay.endpoints.publish(BY_CONTROLLER, H2, [theirs], [])
        assert (await whole_cluster(store)).endpoints == {ours.key: ours, theirs.key: theirs}


async def test_a_host_does_not_remove_endpoints_of_another(tmp_path: Path) -> None:
    async with two_hosts_with_blocks(tmp_path, 22) as (store, [overlay, _], _, other):
        theirs = make_endpoint(other, 2)
        await overlay.endpoints.publish(BY_CONTROLLER, H2, [theirs], [])
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [], [theirs.key])
        assert (await whole_cluster(store)).endpoints == {theirs.key: theirs}


async def test_a_host_that_never_registered_publishes_nothing(tmp_path: Path) -> None:
    async with two_hosts_with_blocks(tmp_path, 22) as (_, [overlay, _], _, _):
        with pytest.raises(NotFound):
            await overlay.endpoints.replace(BY_CONTROLLER, HostId("nobody"), [])


async def test_full_sets_sent_to_two_controllers_at_once_end_as_one_of_them(tmp_path: Path) -> None:
    async with two_hosts_with_blocks(tmp_path, 22) as (store, both, block, _):
        first = [make_endpoint(block, n) for n in range(2, 52)]
        second = [make_endpoint(block, n) for n in range(40, 90)]
        await asyncio.gather(
            both[0].endpoints.replace(BY_CONTROLLER, H1, first), both[1].endpoints.replace(BY_CONTROLLER, H1, second)
        )
        assert set((await whole_cluster(store)).endpoints.values()) in (set(first), set(second))


class Counting(EmbeddedStore):
    """A store that counts how often a key is read."""

    reads = 0

    async def get(self, key: str, revision: Revision | None = None) -> KeyValue | None:
        self.reads += 1
        return await super().get(key, revision)


async def test_a_publication_that_one_transaction_makes_is_looked_at_once(tmp_path: Path) -> None:
    async with (
        open_store(Counting.open(tmp_path / "store.db", SystemClock())) as store,
        controller_on(store) as overlay,
    ):
        await make_network(overlay)
        await make_host(overlay, 1)
        block = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        endpoint = make_endpoint(block, 5)
        before = store.reads
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [endpoint], [])
        assert store.reads == before + 1
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [], [endpoint.key])
        assert store.reads == before + 2
        assert (await whole_cluster(store)).endpoints == {}
