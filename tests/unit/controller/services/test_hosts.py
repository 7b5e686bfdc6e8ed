import asyncio
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest

from controller.journal.actor import BY_CONTROLLER
from controller.state import keys
from controller.store.port import DeleteKey, PutKey, Transaction
from overlayd.model.errors import AlreadyExists, InvalidValue, Stale
from overlayd.model.host import Host, HostState
from overlayd.model.ids import HostId, HostNumber
from tests.support.controllers.overlays import (
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
        first = await overlay.hosts.register(BY_CONTROLLER, H1, "one", FIRST, "a")
        assert first.result == Host(H1, HostNumber(1), "one", FIRST)
        before = await stored(store)
        again = await overlay.hosts.register(BY_CONTROLLER, H1, "one", FIRST, "a")
        assert again == first
        assert await stored(store) == before
        assert (await overlay.hosts.register(BY_CONTROLLER, H2, "two", SECOND, "a")).result.number == 2


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
        block = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        moved = (await overlay.hosts.register(BY_CONTROLLER, H1, "one", SECOND, "a")).result
        assert moved == Host(H1, HostNumber(1), "one", SECOND)
        assert overlay.blocks.select(None, H1) == [block]
        assert [key for key in await stored(store) if "/vteps/" in key] == [keys.vtep(SECOND)]
        assert (await overlay.hosts.register(BY_CONTROLLER, H2, "two", FIRST, "a")).result.number == 2


async def test_a_host_may_move_to_an_ipv6_address_which_is_its_alone_then(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_host(overlay, 1)
        await make_host(overlay, 2)
        address = IPv6Address("2001:db8::1")
        moved = (await overlay.hosts.register(BY_CONTROLLER, H1, "one", address, "a")).result
        assert moved == Host(H1, HostNumber(1), "one", address)
        assert keys.vtep(address) in await stored(store)
        assert keys.vtep(FIRST) not in await stored(store)
        with pytest.raises(AlreadyExists, match=r"2001:db8::1 is the address of host"):
            await overlay.hosts.register(BY_CONTROLLER, H2, "two", address, "a")


@pytest.mark.parametrize("length", [2, 3, 7])
async def test_hosts_that_rotate_their_addresses_all_get_them(tmp_path: Path, length: int) -> None:
    """Each announces the next one's address, to one of two controllers, and again when it is refused."""
    async with controllers(tmp_path, 2) as (store, both):
        made = [await make_host(both[0], number) for number in range(1, length + 1)]
        await both[1].mirror.reached(both[0].mirror.revision)
        wanted = {host.id: made[(index + 1) % length].address for index, host in enumerate(made)}

        async def announce(index: int, host: Host) -> bool:
            try:
                await both[index % 2].hosts.register(
                    BY_CONTROLLER, host.id, host.name, wanted[host.id], f"i{host.number}"
                )
            except AlreadyExists:
                return False
            return True

        await asyncio.gather(*(announce(index, host) for index, host in enumerate(made)))
        for controller in both:
            await controller.mirror.reached(await store.current_revision())
        for index, host in enumerate(made):
            assert await announce(index, host), "everybody has given up the former address by now"
        cluster = await whole_cluster(store)
        assert {host.id: host.address for host in cluster.hosts.values()} == wanted
        assert {host.id: host.number for host in cluster.hosts.values()} == {host.id: host.number for host in made}
        claims = {key: keys.decode(item.value) for key, item in (await stored(store)).items() if "/vteps/" in key}
        assert {key: claim.text("holder") for key, claim in claims.items()} == {
            keys.vtep(address): host for host, address in wanted.items()
        }
        assert not any(claim.flag("given_up") for claim in claims.values())


async def test_an_address_that_was_given_up_is_taken_by_others_or_again(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_host(overlay, 1)
        await make_host(overlay, 2)
        with pytest.raises(AlreadyExists, match="host h2"):
            await overlay.hosts.register(BY_CONTROLLER, H1, "one", SECOND, "i1")
        # It is at its old address after all.
        assert (await overlay.hosts.register(BY_CONTROLLER, H1, "one", FIRST, "i1")).result.address == FIRST
        with pytest.raises(AlreadyExists, match="host h1"):
            await overlay.hosts.register(BY_CONTROLLER, H2, "two", FIRST, "i2")
        # Now h2 has given up its one, and a third host takes it.
        third = HostId("h3")
        assert (await overlay.hosts.register(BY_CONTROLLER, third, "three", SECOND, "i3")).result.address == SECOND
        with pytest.raises(AlreadyExists, match="host h3"):
            await overlay.hosts.register(BY_CONTROLLER, H2, "two", SECOND, "i2")
        with pytest.raises(AlreadyExists, match="host h3"):
            await overlay.hosts.register(BY_CONTROLLER, H1, "one", SECOND, "i1")
        await overlay.hosts.forget(BY_CONTROLLER, H2)
        claim = keys.decode((await stored(store))[keys.vtep(SECOND)].value)
        assert claim.text("holder") == third, "what h2 gave up does not go with it"


async def test_a_clone_gives_up_nothing(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_host(overlay, 1)
        await make_host(overlay, 2)
        with overlay.feeds.open(H1, "i1"):
            await until_heard(overlay, H1, lambda presence: presence is not None)
            before = await stored(store)
            with pytest.raises(AlreadyExists) as refused:
                await overlay.hosts.register(BY_CONTROLLER, H1, "clone", SECOND, "i9")
            assert refused.value.field == "id"
            assert await stored(store) == before


async def test_the_address_of_a_host_without_a_claim_is_its_own(tmp_path: Path) -> None:
    """A controller of a former release takes the claim along that another host has by then."""
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_host(overlay, 1)
        await store.commit(Transaction((), (DeleteKey(keys.vtep(FIRST)),)))
        await overlay.mirror.reached(await store.current_revision())
        with pytest.raises(AlreadyExists, match="host h1"):
            await overlay.hosts.register(BY_CONTROLLER, H2, "two", FIRST, "i2")
        assert (await overlay.hosts.register(BY_CONTROLLER, H1, "one", SECOND, "i1")).result.address == SECOND


async def test_an_address_that_another_host_has_is_refused_and_names_it(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_host(overlay, 1)
        await make_host(overlay, 2)
        before = await stored(store)
        with pytest.raises(AlreadyExists, match="host h1") as refused:
            await overlay.hosts.register(BY_CONTROLLER, H2, "two", FIRST, "a")
        assert refused.value.field == "address"
        after = await stored(store)
        assert {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)} == {keys.vtep(SECOND)}


async def test_of_hosts_that_claim_one_address_at_once_one_gets_it(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (store, both):
        claims = [
            both[0].hosts.register(BY_CONTROLLER, H1, "one", FIRST, "a"),
            both[1].hosts.register(BY_CONTROLLER, H2, "two", FIRST, "b"),
        ]
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
                await there.hosts.register(BY_CONTROLLER, H1, "clone", SECOND, "i2")
            assert refused.value.field == "id"
            assert await stored(store) == before
            await there.hosts.register(BY_CONTROLLER, H1, "restarted", FIRST, "i2")
            await there.hosts.register(BY_CONTROLLER, H1, "moved", SECOND, "i1")


async def test_the_id_of_a_host_that_is_not_connected_may_come_from_elsewhere(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        assert (await overlay.hosts.register(BY_CONTROLLER, H1, "rebooted", SECOND, "i2")).result.number == 1


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "0.0.0.1", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::1", "fe80::1"]
)
async def test_an_address_that_is_no_vtep_is_refused(tmp_path: Path, address: str) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        with pytest.raises(InvalidValue) as refused:
            await overlay.hosts.register(BY_CONTROLLER, H1, "one", ip_address(address), "a")
        assert refused.value.field == "address"
        assert await stored(store) == {}


async def test_a_host_that_an_earlier_release_let_have_no_vtep_keeps_it_until_it_has_another_one(
    tmp_path: Path,
) -> None:
    strange = IPv4Address("0.0.0.1")
    async with controllers(tmp_path, 1) as (store, [overlay]):
        recorded = overlay.mirror.put(Host(H1, HostNumber(1), "one", strange))
        await store.commit(Transaction((), (recorded, PutKey(keys.number(HostNumber(1)), keys.EMPTY))))
        await overlay.mirror.reached(await store.current_revision())
        assert (await overlay.hosts.register(BY_CONTROLLER, H1, "one", strange, "a")).result.address == strange
        with pytest.raises(InvalidValue):
            await overlay.hosts.register(BY_CONTROLLER, H1, "one", IPv4Address("0.0.0.2"), "a")
        assert (await overlay.hosts.register(BY_CONTROLLER, H1, "one", FIRST, "a")).result.address == FIRST


async def test_a_host_drains_and_is_active_again(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        host = await make_host(overlay, 1)
        seen = overlay.mirror.mod_revision(keys.host(H1))
        draining = await overlay.hosts.update(BY_CONTROLLER, H1, HostState.DRAINING, seen)
        assert draining.result == replace(host, state=HostState.DRAINING)
        assert (await make_host(overlay, 1)).state is HostState.DRAINING
        with pytest.raises(Stale):
            await overlay.hosts.update(BY_CONTROLLER, H1, HostState.ACTIVE, seen)
        with pytest.raises(InvalidValue, match="by deleting it"):
            await overlay.hosts.update(BY_CONTROLLER, H1, HostState.FORGETTING)
        await overlay.hosts.update(BY_CONTROLLER, H1, HostState.ACTIVE, draining.revision)
        assert (await whole_cluster(store)).hosts == {H1: host}
