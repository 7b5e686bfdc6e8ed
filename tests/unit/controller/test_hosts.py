import asyncio
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from controller.services import keys
from overlayd.model.errors import AlreadyExists, InvalidValue, Stale
from overlayd.model.host import Host, HostState
from overlayd.model.ids import HostNumber
from tests.unit.controller.overlays import (
    BLUE,
    H1,
    H2,
    controllers,
    make_host,
    make_network,
    stored,
    until_heard,
    whole_cluster,
)

pytestmark = pytest.mark.anyio

FIRST = IPv4Address("192.0.2.1")
SECOND = IPv4Address("192.0.2.2")


async def test_a_host_gets_the_lowest_free_number_once(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        first = await overlay.hosts.register(H1, "one", FIRST, "a")
        assert first.result == Host(H1, HostNumber(1), "one", FIRST)
        before = await stored(store)
        again = await overlay.hosts.register(H1, "one", FIRST, "a")
        assert again == first
        assert await stored(store) == before
        assert (await overlay.hosts.register(H2, "two", SECOND, "a")).result.number == 2


async def test_hosts_that_register_at_once_with_two_controllers_have_numbers_of_their_own(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (store, both):
        made = await asyncio.gather(*(make_host(both[n % 2], n) for n in range(1, 65)))
        assert len({host.number for host in made}) == 64
        assert {host.id: host for host in made} == (await whole_cluster(store)).hosts


async def test_one_host_that_registers_with_two_controllers_at_once_has_one_number(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (store, both):
        made = await asyncio.gather(*(make_host(both[n % 2], 1) for n in range(10)))
        assert set(made) == {Host(H1, HostNumber(1), "host 1", FIRST)}
        assert [key for key in await stored(store) if "/numbers/" in key] == [keys.number(HostNumber(1))]


async def test_a_changed_address_keeps_number_and_blocks(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_network(overlay)
        await make_host(overlay, 1)
        block = (await overlay.blocks.acquire(BLUE, H1, [])).result
        moved = (await overlay.hosts.register(H1, "one", SECOND, "a")).result
        assert moved == Host(H1, HostNumber(1), "one", SECOND)
        assert overlay.blocks.select(None, H1) == [block]
        assert [key for key in await stored(store) if "/vteps/" in key] == [keys.vtep(SECOND)]
        assert (await overlay.hosts.register(H2, "two", FIRST, "a")).result.number == 2


async def test_a_host_may_move_to_an_ipv6_address_which_is_its_alone_then(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_host(overlay, 1)
        await make_host(overlay, 2)
        address = IPv6Address("2001:db8::1")
        moved = (await overlay.hosts.register(H1, "one", address, "a")).result
        assert moved == Host(H1, HostNumber(1), "one", address)
        assert keys.vtep(address) in await stored(store)
        assert keys.vtep(FIRST) not in await stored(store)
        with pytest.raises(AlreadyExists, match=r"2001:db8::1 is the address of host"):
            await overlay.hosts.register(H2, "two", address, "a")


async def test_an_address_that_another_host_has_is_refused_and_names_it(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_host(overlay, 1)
        await make_host(overlay, 2)
        before = await stored(store)
        with pytest.raises(AlreadyExists, match="host h1") as refused:
            await overlay.hosts.register(H2, "two", FIRST, "a")
        assert refused.value.field == "address"
        assert await stored(store) == before


async def test_of_hosts_that_claim_one_address_at_once_one_gets_it(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (store, both):
        claims = [both[0].hosts.register(H1, "one", FIRST, "a"), both[1].hosts.register(H2, "two", FIRST, "b")]
        outcomes = await asyncio.gather(*claims, return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AlreadyExists", "Written"]
        assert len((await whole_cluster(store)).hosts) == 1


async def test_a_second_host_with_the_id_of_a_connected_one_is_refused(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (store, [here, there]):
        await make_host(here, 1)
        with here.feeds.open(H1, "i1"):
            await until_heard(there, H1, lambda presence: presence is not None)
            before = await stored(store)
            with pytest.raises(AlreadyExists, match=r"connected from 192\.0\.2\.1") as refused:
                await there.hosts.register(H1, "clone", SECOND, "i2")
            assert refused.value.field == "id"
            assert await stored(store) == before
            await there.hosts.register(H1, "restarted", FIRST, "i2")
            await there.hosts.register(H1, "moved", SECOND, "i1")


async def test_the_id_of_a_host_that_is_not_connected_may_come_from_elsewhere(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        assert (await overlay.hosts.register(H1, "rebooted", SECOND, "i2")).result.number == 1


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"])
async def test_an_address_that_is_no_vtep_is_refused(tmp_path: Path, address: str) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        with pytest.raises(InvalidValue) as refused:
            await overlay.hosts.register(H1, "one", IPv4Address(address), "a")
        assert refused.value.field == "address"
        assert await stored(store) == {}


async def test_a_host_drains_and_is_active_again(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        host = await make_host(overlay, 1)
        seen = overlay.mirror.mod_revision(keys.host(H1))
        draining = await overlay.hosts.update(H1, HostState.DRAINING, seen)
        assert draining.result == replace(host, state=HostState.DRAINING)
        assert (await make_host(overlay, 1)).state is HostState.DRAINING
        with pytest.raises(Stale):
            await overlay.hosts.update(H1, HostState.ACTIVE, seen)
        with pytest.raises(InvalidValue, match="by deleting it"):
            await overlay.hosts.update(H1, HostState.FORGETTING)
        await overlay.hosts.update(H1, HostState.ACTIVE, draining.revision)
        assert (await whole_cluster(store)).hosts == {H1: host}
