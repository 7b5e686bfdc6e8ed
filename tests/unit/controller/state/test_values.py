"""Values of the store that another version of the controller wrote."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from controller.clock import SystemClock
from controller.journal.actor import BY_CONTROLLER
from controller.state import keys
from controller.state.mirror import Mirror
from controller.store.port import Committed, PutKey, Store, Transaction
from overlayd.model.cluster import RecordKey
from overlayd.model.endpoint import Endpoint
from overlayd.model.ids import ReservationName
from overlayd.model.reservation import Holder, Reservation
from overlayd.wire.fields import Json
from tests.support.controllers.overlays import (
    BLUE,
    H1,
    controller_on,
    controllers,
    make_endpoint,
    make_host,
    make_network,
    store_at,
)

pytestmark = pytest.mark.anyio


async def value_at(store: Store, key: str) -> dict[str, Json]:
    found = await store.get(key)
    assert found is not None
    value = json.loads(found.value)
    assert isinstance(value, dict)
    return value


async def write(store: Store, key: str, value: dict[str, Json]) -> None:
    """Write a value, as another controller does."""
    put = PutKey(key, json.dumps(value).encode())
    assert isinstance(await store.commit(Transaction((), (put, PutKey(keys.INTENT, keys.EMPTY)))), Committed)


async def test_fields_of_a_newer_controller_survive_our_changes(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_host(overlay, 1)
        await make_network(overlay)
        await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])
        network, host = await value_at(store, keys.network(BLUE)), await value_at(store, keys.host(H1))
        pool: Json = {"range": "10.32.0.0/16", "block_length": 26, "kind": "fast"}
        newer: dict[str, Json] = {**network, "colour": "deep", "pools": [pool]}
        await write(store, keys.network(BLUE), newer)
        await write(store, keys.host(H1), {**host, "rack": {"row": 4}})
        await overlay.mirror.reached(await store.current_revision())

        await overlay.networks.delete(BY_CONTROLLER, BLUE)
        await overlay.hosts.register(BY_CONTROLLER, H1, "another name", overlay.hosts.get(H1).address, "i1")

        assert await value_at(store, keys.network(BLUE)) == {**newer, "state": "deleting"}
        assert await value_at(store, keys.host(H1)) == {**host, "rack": {"row": 4}, "name": "another name"}


async def test_fields_of_a_newer_controller_survive_inside_a_holder(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_host(overlay, 1)
        await make_network(overlay)
        block = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        web = make_endpoint(block, 5)
        held = Reservation(
            BLUE, ReservationName("db"), web.addresses, None, Holder(H1, web.container_id, web.interface)
        )
        form = json.loads(keys.encode_record(held))
        form["holder"]["since"] = 14
        await write(store, keys.of(held), form)
        await overlay.mirror.reached(await store.current_revision())

        put = overlay.mirror.put(replace(held, mac=web.mac))

        assert json.loads(put.value) == {**form, "mac": web.mac}


async def test_an_endpoint_of_schema_1_is_read_and_written_as_today(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_host(overlay, 1)
        await make_network(overlay)
        block = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        web = make_endpoint(block, 5)
        form = json.loads(keys.encode_record(web))
        (form["address"],) = form.pop("addresses")
        await write(store, keys.of(web), {**form, "v": 1})
        await overlay.mirror.reached(await store.current_revision())
        assert overlay.mirror.intent.find(RecordKey(Endpoint, web.key)) == web

        moved = replace(web, sandbox="/run/netns/other")
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [moved], [])

        assert await value_at(store, keys.of(web)) == json.loads(keys.encode_record(moved))


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"v": 3}, "values of version 3"), ({"state": "archived"}, "state"), ({"number": None}, "number")],
)
async def test_a_value_that_means_nothing_to_us_stops_the_controller_and_is_named(
    tmp_path: Path, change: dict[str, Json], reason: str
) -> None:
    async with store_at(tmp_path / "store.db", SystemClock()) as store:
        async with controller_on(store) as overlay:
            await make_host(overlay, 1)
        mirror = Mirror(store, SystemClock(), log_max=3)
        await mirror.load()
        await write(store, keys.host(H1), {**await value_at(store, keys.host(H1)), **change})
        for go_on in (mirror.run, mirror.load):
            with pytest.raises(keys.Unreadable, match=f"{keys.host(H1)} .*{reason}"):
                await go_on()
