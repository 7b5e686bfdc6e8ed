"""A MAC has one owner in a network, whoever asks for it, at whichever controller."""

import asyncio
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from controller.journal.actor import BY_CONTROLLER
from controller.state import keys
from controller.store.port import DeleteKey, PutKey, Store, Transaction
from overlayd.model.block import Block
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import AlreadyExists, InvalidValue
from overlayd.model.ids import MacAddress, NetworkName, ReservationName
from overlayd.model.reservation import Holder
from tests.support.controllers.overlays import (
    BLUE,
    H1,
    H2,
    make_endpoint,
    make_network,
    stored,
    two_hosts_with_blocks,
    whole_cluster,
)

pytestmark = pytest.mark.anyio

MAC, OTHER = MacAddress("02:00:00:00:00:50"), MacAddress("02:00:00:00:00:51")
WEB, DB = ReservationName("web"), ReservationName("db")


def having(mac: MacAddress, block: Block, offset: int) -> Endpoint:
    return replace(make_endpoint(block, offset), mac=mac)


async def endpoints(store: Store) -> set[Endpoint]:
    return set((await whole_cluster(store)).endpoints.values())


async def mac_keys(store: Store) -> set[str]:
    return {key for key in await stored(store) if key.startswith(keys.MACS)}


async def test_of_hosts_that_publish_one_mac_at_two_controllers_at_once_one_gets_it(tmp_path: Path) -> None:
    async with two_hosts_with_blocks(tmp_path) as (store, both, block, other):
        for offset in range(2, 12):
            mac = MacAddress(f"02:00:00:00:01:{offset:02x}")
            here, there = having(mac, block, offset), having(mac, other, offset)
            done = await asyncio.gather(
                both[0].endpoints.publish(BY_CONTROLLER, H1, [here], []),
                both[1].endpoints.publish(BY_CONTROLLER, H2, [there], []),
            )
            (refusal,) = (*done[0].result, *done[1].result)
            assert isinstance(refusal.error, AlreadyExists)
            assert len({here, there} & await endpoints(store)) == 1


async def test_a_mac_is_free_when_its_container_is_gone(tmp_path: Path) -> None:
    async with two_hosts_with_blocks(tmp_path) as (store, [overlay, _], block, other):
        here, there = having(MAC, block, 2), having(MAC, other, 2)
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [here], [])
        assert await mac_keys(store) == {keys.mac(BLUE, MAC)}
        assert (await overlay.endpoints.publish(BY_CONTROLLER, H2, [there], [])).result
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [], [here.key])
        assert await mac_keys(store) == set()
        assert (await overlay.endpoints.publish(BY_CONTROLLER, H2, [there], [])).result == ()
        assert await endpoints(store) == {there}
        await overlay.hosts.forget(BY_CONTROLLER, H2)
        assert await mac_keys(store) == set()


async def test_a_mac_may_be_anothers_in_another_network(tmp_path: Path) -> None:
    async with two_hosts_with_blocks(tmp_path) as (_, [overlay, _], block, _):
        green = NetworkName("green")
        await make_network(overlay, green)
        elsewhere = (await overlay.blocks.acquire(BY_CONTROLLER, green, H2, [])).result
        assert (await overlay.endpoints.publish(BY_CONTROLLER, H1, [having(MAC, block, 2)], [])).result == ()
        assert (await overlay.endpoints.publish(BY_CONTROLLER, H2, [having(MAC, elsewhere, 2)], [])).result == ()


async def test_containers_of_a_host_that_exchange_their_macs_have_them_at_once(tmp_path: Path) -> None:
    async with two_hosts_with_blocks(tmp_path) as (store, [overlay, _], block, _):
        one, two = having(MAC, block, 2), having(OTHER, block, 3)
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [one, two], [])
        swapped = [replace(one, mac=OTHER), replace(two, mac=MAC)]
        assert (await overlay.endpoints.publish(BY_CONTROLLER, H1, swapped, [])).result == ()
        assert await endpoints(store) == set(swapped)
        assert await mac_keys(store) == {keys.mac(BLUE, MAC), keys.mac(BLUE, OTHER)}


async def test_of_what_an_earlier_release_stored_the_older_one_stands(tmp_path: Path) -> None:
    """It let two containers have one MAC, and kept no keys for them."""
    async with two_hosts_with_blocks(tmp_path) as (store, [overlay, _], block, other):
        older, younger = having(MAC, other, 2), having(MAC, block, 2)
        for endpoint in (older, younger):
            await store.commit(Transaction((), (PutKey(keys.of(endpoint), keys.encode_record(endpoint)),)))
        await overlay.mirror.reached(await store.current_revision())
        third = having(MAC, block, 9)
        done = await overlay.endpoints.publish(BY_CONTROLLER, H1, [third], [])
        assert [refusal.endpoint for refusal in done.result] == [third.key]
        assert (await overlay.endpoints.replace(BY_CONTROLLER, H2, [older])).result == ()
        done = await overlay.endpoints.replace(BY_CONTROLLER, H1, [younger])
        assert [refusal.endpoint for refusal in done.result] == [younger.key]
        assert await endpoints(store) == {older}


async def test_a_key_that_was_left_behind_is_in_nobodys_way(tmp_path: Path) -> None:
    """A controller of an earlier release removes an endpoint, and not the key of its MAC."""
    async with two_hosts_with_blocks(tmp_path) as (store, [overlay, _], block, other):
        gone, heir = having(MAC, block, 2), having(MAC, other, 2)
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [gone], [])
        await store.commit(Transaction((), (DeleteKey(keys.of(gone)),)))
        await overlay.mirror.reached(await store.current_revision())
        assert (await overlay.endpoints.publish(BY_CONTROLLER, H2, [heir], [])).result == ()
        assert await endpoints(store) == {heir}


async def test_a_reservation_and_a_container_cannot_have_one_mac(tmp_path: Path) -> None:
    async with two_hosts_with_blocks(tmp_path) as (store, [overlay, _], block, _):
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [having(MAC, block, 2)], [])
        with pytest.raises(AlreadyExists, match="container h1-2 on host h1") as refused:
            await overlay.reservations.create(BY_CONTROLLER, BLUE, WEB, mac=MAC)
        assert refused.value.field == "mac"
        await overlay.reservations.create(BY_CONTROLLER, BLUE, WEB, mac=OTHER)
        with pytest.raises(AlreadyExists, match="reservation web"):
            await overlay.reservations.create(BY_CONTROLLER, BLUE, DB, mac=OTHER)
        made = (await overlay.reservations.create(BY_CONTROLLER, BLUE, DB)).result
        with pytest.raises(AlreadyExists, match="reservation web"):
            await overlay.reservations.update(BY_CONTROLLER, BLUE, DB, lambda found: replace(found, mac=OTHER))
        done = await overlay.endpoints.publish(BY_CONTROLLER, H1, [having(OTHER, block, 3)], [])
        assert [type(refusal.error) for refusal in done.result] == [AlreadyExists]
        assert (await whole_cluster(store)).reservations[made.key].mac is None


async def test_a_reservation_brings_its_mac_along_to_another_host(tmp_path: Path) -> None:
    async with two_hosts_with_blocks(tmp_path) as (store, [overlay, _], block, other):
        made = (await overlay.reservations.create(BY_CONTROLLER, BLUE, WEB, mac=MAC)).result
        before = await mac_keys(store)
        for host, where in ((H1, block), (H2, other)):
            endpoint = replace(having(MAC, where, 2), addresses=made.addresses)
            await overlay.reservations.claim(BY_CONTROLLER, BLUE, WEB, Holder.of(endpoint.key))
            assert (await overlay.endpoints.publish(BY_CONTROLLER, host, [endpoint], [])).result == ()
            assert await endpoints(store) == {endpoint}
        assert await mac_keys(store) == before == {keys.mac(BLUE, MAC)}
        await overlay.reservations.update(BY_CONTROLLER, BLUE, WEB, lambda found: replace(found, mac=OTHER))
        # The container still has the former one.
        with pytest.raises(AlreadyExists):
            await overlay.reservations.create(BY_CONTROLLER, BLUE, DB, mac=MAC)
        await overlay.endpoints.replace(BY_CONTROLLER, H2, [])
        await overlay.reservations.create(BY_CONTROLLER, BLUE, DB, mac=MAC)
        await overlay.reservations.delete(BY_CONTROLLER, BLUE, DB)
        assert await mac_keys(store) == {keys.mac(BLUE, OTHER)}


async def test_no_container_gets_the_mac_of_a_gateway_or_a_tunnel_end(tmp_path: Path) -> None:
    async with two_hosts_with_blocks(tmp_path) as (store, [overlay, _], block, _):
        wrong = [having(MacAddress(f"02:6f:76:{end}"), block, 2 + n) for n, end in enumerate(("00:00:00", "01:00:00"))]
        done = await overlay.endpoints.publish(BY_CONTROLLER, H1, wrong, [])
        assert [(type(refusal.error), refusal.error.field) for refusal in done.result] == [
            (InvalidValue, f"puts[{index}].mac") for index in range(2)
        ]
        assert await endpoints(store) == set()


async def test_an_address_of_a_removed_reservation_leaves_no_key(tmp_path: Path) -> None:
    async with two_hosts_with_blocks(tmp_path) as (store, [overlay, _], _, _):
        await overlay.reservations.create(BY_CONTROLLER, BLUE, WEB, [IPv4Address("10.32.9.9")], mac=MAC)
        await overlay.reservations.delete(BY_CONTROLLER, BLUE, WEB)
        assert await mac_keys(store) == set()
