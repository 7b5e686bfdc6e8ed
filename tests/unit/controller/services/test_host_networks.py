"""Networks that hosts have made by their credentials, where the administrator lets them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from controller.clock import SystemClock
from controller.identity.roles import Role
from controller.journal.actor import BY_CONTROLLER, Actor, Requester
from controller.overlay import Overlay
from controller.state import keys
from controller.store.port import Store
from overlayd.model.errors import AlreadyExists, Exhausted, Forbidden, InvalidValue, NotFound
from overlayd.model.ids import HostId, NetworkName, Vni
from overlayd.model.network import Topology, WantedNetwork
from tests.support.controllers.overlays import (
    BLUE,
    H1,
    H2,
    controller_on,
    make_host,
    make_network,
    store_at,
    stored,
    whole_cluster,
)

pytestmark = pytest.mark.anyio

BY_HOST = Requester(Actor("h1", Role.HOST))
WANTED = WantedNetwork(BLUE, (ip_network("10.32.0.0/16"),))


@asynccontextmanager
async def allowing(directory: Path, most: int, count: int = 1) -> AsyncIterator[tuple[Store, list[Overlay]]]:
    """Run controllers on one store that let each host make so many networks; h1 and h2 are registered."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(store_at(directory / "store.db", SystemClock()))
        made = [
            await stack.enter_async_context(controller_on(store, f"c{index}", host_networks=most))
            for index in range(count)
        ]
        for number in (1, 2):
            await make_host(made[0], number)
        yield store, made


def named(number: int) -> WantedNetwork:
    return replace(WANTED, name=NetworkName(f"n{number}"))


async def test_no_host_makes_a_network_unless_the_administrator_lets_it(tmp_path: Path) -> None:
    async with allowing(tmp_path, 0) as (store, [overlay]):
        before = await stored(store)
        with pytest.raises(Forbidden, match=r"no network blue.*overlayctl network create.*setting host-networks"):
            await overlay.networks.create_for_host(BY_HOST, H1, WANTED)
        assert await stored(store) == before
        there = await make_network(overlay)
        assert (await overlay.networks.create_for_host(BY_HOST, H1, WANTED)).result == there


async def test_a_network_of_a_host_says_so_and_the_history_names_the_host(tmp_path: Path) -> None:
    async with allowing(tmp_path, 1) as (store, [overlay]):
        wanted = replace(WANTED, topology=Topology.SWITCHED, vni=Vni(77), egress=False)
        made = (await overlay.networks.create_for_host(BY_HOST, H1, wanted)).result
        assert (made.made_by, made.topology, made.vni, made.egress) == (H1, Topology.SWITCHED, 77, False)
        assert (await whole_cluster(store)).networks == {BLUE: made}
        page = await store.page(keys.HISTORY)
        entries = [json.loads(item.value) for item in page.items]
        (author,) = [entry["actor"] for entry in entries if '"blue"' in json.dumps(entry)]
        assert author == {"name": "h1", "role": "host"}


async def test_hosts_that_want_the_same_network_at_once_get_the_same_one(tmp_path: Path) -> None:
    async with allowing(tmp_path, 1, 2) as (store, both):
        asked = [both[n % 2].networks.create_for_host(BY_HOST, (H1, H2)[n // 2 % 2], WANTED) for n in range(8)]
        answers = {written.result for written in await asyncio.gather(*asked)}
        assert len(answers) == 1
        assert set((await whole_cluster(store)).networks.values()) == answers
        revision = both[0].mirror.revision
        await both[0].networks.create_for_host(BY_HOST, H2, WANTED)
        assert both[0].mirror.revision == revision, "nothing is written again"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ranges": (ip_network("10.32.0.0/17"),)}, r"has the range 10.32.0.0/16, and not 10.32.0.0/17"),
        ({"ranges": (ip_network("10.32.0.0/16"), ip_network("fd00::/48"))}, r"and not fd00::/48"),
        ({"topology": Topology.SWITCHED}, "is routed, and not switched"),
        ({"vni": Vni(99)}, "has VNI 1, and not 99"),
        ({"egress": False}, "lets containers out"),
    ],
)
async def test_what_contradicts_a_network_is_refused_and_named(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    async with allowing(tmp_path, 5) as (store, [overlay]):
        await make_network(overlay)
        before = await stored(store)
        with pytest.raises(AlreadyExists, match=reason):
            await overlay.networks.create_for_host(BY_HOST, H1, replace(WANTED, **change))  # type: ignore[arg-type]
        assert await stored(store) == before


async def test_a_host_makes_no_more_than_it_may_at_all_controllers_together(tmp_path: Path) -> None:
    async with allowing(tmp_path, 3, 2) as (store, both):
        asked = [both[n % 2].networks.create_for_host(BY_HOST, H1, named(n)) for n in range(10)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        refused = [each for each in outcomes if isinstance(each, BaseException)]
        assert len(refused) == 7
        assert {type(each) for each in refused} == {Exhausted}
        assert "host h1 has made 3 networks" in str(refused[0])
        made = (await whole_cluster(store)).networks
        assert len(made) == 3
        other = await both[0].networks.create_for_host(BY_HOST, H2, named(10))
        assert other.result.made_by == H2
        await both[0].networks.delete(BY_CONTROLLER, next(iter(made)))
        assert (await both[0].networks.create_for_host(BY_HOST, H1, named(11))).result.made_by == H1


@pytest.mark.parametrize(
    ("wanted", "error", "field"),
    [
        (replace(WANTED, ranges=()), InvalidValue, "pools"),
        (replace(WANTED, ranges=(ip_network("127.0.0.0/16"),)), InvalidValue, "range"),
        (replace(WANTED, ranges=(ip_network("10.0.0.0/7"),)), InvalidValue, "range"),
        (replace(WANTED, ranges=(ip_network("10.0.0.0/8"), ip_network("10.9.0.0/16"))), InvalidValue, "pools[1].range"),
        (replace(WANTED, name=NetworkName("../x")), InvalidValue, "name"),
        (replace(WANTED, vni=Vni(1 << 24)), InvalidValue, "vni"),
        (replace(WANTED, vni=Vni(500)), AlreadyExists, "vni"),
    ],
)
async def test_the_rules_of_an_administrators_network_hold(
    tmp_path: Path, wanted: WantedNetwork, error: type[InvalidValue | AlreadyExists], field: str
) -> None:
    async with allowing(tmp_path, 5) as (store, [overlay]):
        other = WantedNetwork(NetworkName("other"), (ip_network("10.32.0.0/16"),), vni=Vni(500))
        await overlay.networks.create_for_host(BY_HOST, H2, other)
        before = await stored(store)
        with pytest.raises(error) as refused:
            await overlay.networks.create_for_host(BY_HOST, H1, wanted)
        assert refused.value.field == field
        assert await stored(store) == before


async def test_an_unknown_host_makes_none_and_a_network_that_goes_is_not_used_again(tmp_path: Path) -> None:
    async with allowing(tmp_path, 5) as (_, [overlay]):
        with pytest.raises(NotFound) as refused:
            await overlay.networks.create_for_host(BY_HOST, HostId("h9"), WANTED)
        assert refused.value.field == "host"
        await overlay.networks.create_for_host(BY_HOST, H1, WANTED)
        await overlay.blocks.acquire(BY_HOST, BLUE, H1, [], None)
        await overlay.networks.delete(BY_CONTROLLER, BLUE)
        with pytest.raises(AlreadyExists, match="is being deleted"):
            await overlay.networks.create_for_host(BY_HOST, H2, WANTED)
