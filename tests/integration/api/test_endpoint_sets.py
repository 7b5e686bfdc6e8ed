"""A host with ten thousand endpoints publishes them to a controller process: in parts, and all or none of them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from overlayd.agent.controllers.client import ControllerClient, Controllers
from overlayd.agent.controllers.credential import Identity
from overlayd.model.address import Family
from overlayd.model.cluster import Cluster
from overlayd.model.endpoint import Endpoint
from overlayd.model.ids import ContainerId, HostId, InterfaceName, MacAddress, NetworkName
from overlayd.wire import records
from tests.support.controllers.lone_controller import Controller, controller

pytestmark = pytest.mark.anyio

BLUE = NetworkName("blue")
H1 = HostId("h1")
COUNT = 10_000


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    with controller(tmp_path_factory.mktemp("controller") / "store.db") as made:
        made.api.post(
            "/v1/networks", json={"name": BLUE, "pools": [{"range": "10.32.0.0/14", "block_length": 18}]}
        ).raise_for_status()
        yield made


@asynccontextmanager
async def a_host(running: Controller) -> AsyncIterator[ControllerClient]:
    client = ControllerClient(Controllers([str(running.api.base_url)]), Identity(H1, "i1"), None)
    try:
        await client.register("rack1-07", IPv4Address("192.0.2.1"), Cluster())
        await client.acquire_block(BLUE, [], Family.V4)
        yield client
    finally:
        await client.close()


def endpoint(number: int) -> Endpoint:
    address = IPv4Address("10.32.0.2") + number
    return Endpoint(
        network=BLUE,
        container_id=ContainerId(f"{number:064x}"),
        interface=InterfaceName("eth0"),
        host=H1,
        addresses=(address,),
        mac=MacAddress("02:00:" + address.packed.hex(":")),
        sandbox=f"/var/run/netns/cni-{number:08x}-0000-0000-0000-000000000000",
    )


def published(running: Controller) -> set[str]:
    found: set[str] = set()
    after = None
    while True:
        query = {"limit": "1000", **({"after": after} if after else {})}
        page = running.api.get("/v1/endpoints", params=query).json()
        found |= {item["container_id"] for item in page["items"]}
        after = page["next"]
        if after is None:
            return found


async def test_ten_thousand_endpoints_are_published_and_replaced(running: Controller) -> None:
    whole = [endpoint(number) for number in range(COUNT)]
    async with a_host(running) as client:
        assert await client.replace_endpoints(whole) == {}
        assert published(running) == {each.container_id for each in whole}
        foreign = replace(endpoint(COUNT), addresses=(IPv4Address("10.99.0.1"),))
        others = [endpoint(number) for number in range(COUNT + 1, COUNT + 101)]
        refused = await client.replace_endpoints([*whole[500:], foreign, *others])
        assert list(refused) == [foreign.key]
        assert published(running) == {each.container_id for each in (*whole[500:], *others)}


async def test_parts_alone_change_nothing(running: Controller) -> None:
    async with a_host(running) as client:
        await client.replace_endpoints([endpoint(1), endpoint(2)])
        name = running.api.post("/v1/hosts/h1/endpoint-sets", json={"count": 2}).json()["set"]
        part = {"endpoints": [records.encode(endpoint(3))]}
        place = f"/v1/hosts/h1/endpoint-sets/{name}"
        assert running.api.put(f"{place}/parts/0", json=part).status_code == 204
        early = running.api.post(f"{place}/publish")
        assert (early.status_code, early.json()["field"]) == (422, "set")
        assert published(running) == {endpoint(number).container_id for number in (1, 2)}
