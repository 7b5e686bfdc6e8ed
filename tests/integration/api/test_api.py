"""The HTTP interface, without a network between: what it answers, and what it refuses."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from controller.api.bodies import response_bodies
from controller.api.http.permissions import NEEDS
from controller.store.port import Store
from overlayd.model.errors import OverlayError
from overlayd.wire import problem
from overlayd.wire.fields import Json
from tests.support.controllers.api import BLUE, HOST, api_of, assert_problem, endpoint
from tests.support.controllers.overlays import controllers, files_at_most, stored

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def a_cluster(directory: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Store]]:
    """Serve a cluster of network blue and host h1, which owns its first block."""
    async with controllers(directory, 1) as (store, [overlay]), api_of(overlay) as api:
        await api.post("/v1/networks", json=BLUE)
        await api.put("/v1/hosts/h1", json=HOST)
        answer = await api.post("/v1/networks/blue/blocks", json={"host": "h1", "held": []})
        assert answer.json()["cidr"] == "10.32.0.0/26"
        yield api, store


async def test_a_network_lives_and_dies(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]), api_of(overlay) as api:
        made = await api.post("/v1/networks", json=BLUE)
        expected = {
            "name": "blue",
            "vni": 1,
            "topology": "routed",
            "pools": [{"range": "10.32.0.0/16", "block_length": 26}],
            "state": "active",
            "reserved": [],
            "uplink": "auto",
            "egress": True,
            "ethertypes": [],
            "gateway_number": 1,
            "made_by": None,
        }
        first = made.json()["revision"]
        assert (made.status_code, made.json()) == (201, {**expected, "warnings": [], "revision": first})
        assert (await api.get("/v1/networks/blue")).json() == {**expected, "revision": first}
        assert (await api.get("/v1/networks")).json() == {"items": [expected], "next": None, "revision": first}
        assert (await api.delete("/v1/networks/blue")).status_code == 204
        assert (await api.get("/v1/networks")).json() == {"items": [], "next": None, "revision": first + 1}
        assert_problem(await api.get("/v1/networks/blue"), 404, "not-found", "network")


@pytest.mark.parametrize(
    ("whole", "length"), [("10.0.0.0/8", 26), ("10.0.0.0/24", 26), ("10.0.0.0/25", 27), ("10.0.0.0/29", 29)]
)
async def test_block_lengths_follow_the_range(tmp_path: Path, whole: str, length: int) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]), api_of(overlay) as api:
        made = await api.post("/v1/networks", json={"name": "n", "pools": [{"range": whole}]})
        assert made.json()["pools"] == [{"range": whole, "block_length": length}]


async def test_blocks_and_endpoints_of_a_host(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as (api, _):
        block = {"network": "blue", "cidr": "10.32.0.0/26", "host": "h1"}
        assert (await api.get("/v1/blocks", params={"network": "blue", "host": "h1"})).json()["items"] == [block]
        assert (await api.get("/v1/blocks", params={"host": "h2"})).json()["items"] == []
        published = await api.post("/v1/hosts/h1/endpoints", json={"puts": [endpoint(5), endpoint(6)]})
        assert published.status_code == 200
        found = (await api.get("/v1/endpoints", params={"network": "blue"})).json()
        assert found == {
            "items": [endpoint(n, host="h1", **UNTOLD) for n in (5, 6)],
            "next": None,
            "revision": published.json()["revision"],
        }
        key = {name: endpoint(5)[name] for name in ("network", "container_id", "interface")}
        await api.post("/v1/hosts/h1/endpoints", json={"deletes": [key]})
        assert [each["container_id"] for each in (await api.get("/v1/endpoints")).json()["items"]] == ["c6"]
        path = "/v1/networks/blue/blocks/10.32.0.0/26"
        assert_problem(await api.delete(path, params={"host": "h1"}), 409, "in-use", None)
        assert_problem(await api.delete("/v1/networks/blue"), 409, "in-use", None)
        await api.put("/v1/hosts/h1/endpoints", json={"endpoints": []})
        deleting = await api.delete("/v1/networks/blue")
        assert (deleting.status_code, deleting.json()["state"]) == (202, "deleting")
        assert (await api.delete(path, params={"host": "h1"})).status_code == 204
        assert (await api.get("/v1/networks")).json()["items"] == []


UNTOLD: dict[str, Json] = {
    "pod": None,
    "labels": {},
    "aliases": [],
    "runtime": "",
    "workload": "",
    "shares": [],
}
"""What an endpoint has besides when its runtime tells nothing."""

POD: Json = {"namespace": "shop", "name": "web-0", "uid": "a1-b2", "infra_container_id": "8f2c"}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"pod": "web-0"}, ["c5", "c6"]),
        ({"pod": "web-0", "pod_namespace": "shop"}, ["c5"]),
        ({"pod_namespace": "test"}, ["c6"]),
        ({"pod_uid": "a1-b2"}, ["c5"]),
        ({"labels": "app=web"}, ["c6", "c7"]),
        ({"labels": "tier=front,app=web"}, ["c7"]),
        ({"labels": "app="}, []),
        ({"alias": "www"}, ["c7"]),
        ({"pod": "web"}, []),
        ({"runtime": "docker"}, ["c6", "c7"]),
        ({"workload": "web-1"}, ["c7"]),
        ({"workload": "web"}, []),
        ({"pod": "", "network": "blue"}, ["c7"]),
    ],
)
async def test_endpoints_are_found_by_what_their_runtimes_told(
    tmp_path: Path, query: dict[str, str], found: list[str]
) -> None:
    puts = [
        endpoint(5, pod=POD),
        endpoint(6, pod={"namespace": "test", "name": "web-0"}, labels={"app": "web"}, runtime="docker"),
        endpoint(7, runtime="docker", workload="web-1", labels={"app": "web", "tier": "front"}, aliases=["www"]),
    ]
    async with a_cluster(tmp_path) as (api, _):
        assert (await api.post("/v1/hosts/h1/endpoints", json={"puts": puts})).status_code == 200
        items = (await api.get("/v1/endpoints", params=query)).json()["items"]
        assert [each["container_id"] for each in items] == found
        (first, *_) = (await api.get("/v1/endpoints")).json()["items"]
        assert first == endpoint(5, host="h1", **{**UNTOLD, "pod": POD})


@pytest.mark.parametrize("labels", ["app", "=web", "app=web,"])
async def test_what_is_no_label_is_refused(tmp_path: Path, labels: str) -> None:
    async with a_cluster(tmp_path) as (api, _):
        assert_problem(await api.get("/v1/endpoints", params={"labels": labels}), 422, "invalid-value", "labels")


async def test_a_newer_agent_may_say_more_than_we_know(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as (api, _):
        assert (await api.put("/v1/hosts/h1", json={**HOST, "kernel": "7.0"})).status_code == 200
        put = endpoint(5, colour="green")
        assert (await api.post("/v1/hosts/h1/endpoints", json={"puts": [put], "hints": {}})).status_code == 200


DEEP = b"[" * 100_000

MALFORMED: list[tuple[str, str, object, int, str, str | None]] = [
    (
        "POST",
        "/v1/networks",
        {"name": "green", "pools": [{"range": "10.0.0.0"}]},
        422,
        "invalid-value",
        "pools[0].range",
    ),
    (
        "POST",
        "/v1/networks",
        {"name": "green", "pools": [{"range": "10.0.0.1/16"}]},
        422,
        "invalid-value",
        "pools[0].range",
    ),
    (
        "POST",
        "/v1/networks",
        {"name": "green", "pools": [{"range": "10.0.0.0/33"}]},
        422,
        "invalid-value",
        "pools[0].range",
    ),
    (
        "POST",
        "/v1/networks",
        {"name": "green", "pools": [{"range": "127.0.0.0/16"}]},
        422,
        "invalid-value",
        "pools[0].range",
    ),
    ("POST", "/v1/networks", {"name": "green", "pools": [{"range": 10}]}, 422, "invalid-value", "pools[0].range"),
    (
        "POST",
        "/v1/networks",
        {"name": "green", "pools": [{"range": "10.33.0.0/16"}, {"range": "fd6f:7665:726c:6179::/64"}]},
        422,
        "invalid-value",
        "pools[1].range",
    ),
    ("POST", "/v1/networks", {"name": "green", "pools": [{}]}, 422, "invalid-value", "pools[0].range"),
    ("POST", "/v1/networks", {"name": "green", "pools": []}, 422, "invalid-value", "pools"),
    ("POST", "/v1/networks", {"name": "green", "pools": {"range": "10.0.0.0/16"}}, 422, "invalid-value", "pools"),
    ("POST", "/v1/networks", {**BLUE, "name": "green", "vni": 0}, 422, "invalid-value", "vni"),
    ("POST", "/v1/networks", {**BLUE, "name": "green", "vni": 2**24}, 422, "invalid-value", "vni"),
    ("POST", "/v1/networks", {**BLUE, "name": "green", "vni": 10**30}, 422, "invalid-value", "vni"),
    ("POST", "/v1/networks", {**BLUE, "name": "green", "vni": "5"}, 422, "invalid-value", "vni"),
    ("POST", "/v1/networks", {**BLUE, "name": "green", "vni": 5.0}, 422, "invalid-value", "vni"),
    ("POST", "/v1/networks", {**BLUE, "name": "green", "vni": True}, 422, "invalid-value", "vni"),
    ("POST", "/v1/networks", {**BLUE, "name": "green", "vni": 1}, 409, "already-exists", "vni"),
    ("POST", "/v1/networks", BLUE, 409, "already-exists", "name"),
    ("POST", "/v1/networks", {**BLUE, "name": "-x"}, 422, "invalid-value", "name"),
    ("POST", "/v1/networks", {**BLUE, "name": "a/b"}, 422, "invalid-value", "name"),
    ("POST", "/v1/networks", {**BLUE, "name": "x" * 64}, 422, "invalid-value", "name"),
    ("POST", "/v1/networks", {**BLUE, "name": "\ud800"}, 422, "invalid-value", "name"),
    ("POST", "/v1/networks", {**BLUE, "name": "green", "topology": "ring"}, 422, "invalid-value", "topology"),
    ("POST", "/v1/networks", {**BLUE, "name": "green", "mtu": 1500}, 422, "invalid-value", "mtu"),
    ("POST", "/v1/networks", [], 422, "invalid-value", None),
    ("POST", "/v1/networks", b"", 422, "invalid-value", None),
    ("POST", "/v1/networks", b"{", 422, "invalid-value", None),
    ("POST", "/v1/networks", b"\xff\xfe", 422, "invalid-value", None),
    ("POST", "/v1/networks", DEEP, 400, "malformed", None),
    ("PUT", "/v1/hosts/h2", {**HOST, "address": "192.0.2.1"}, 409, "already-exists", "address"),
    ("PUT", "/v1/hosts/h2", {**HOST, "address": "192.0.2.300"}, 422, "invalid-value", "address"),
    ("PUT", "/v1/hosts/h2", {**HOST, "address": "224.0.0.1"}, 422, "invalid-value", "address"),
    ("PUT", "/v1/hosts/h2", {**HOST, "address": "192.0.2.2", "name": ""}, 422, "invalid-value", "name"),
    ("PUT", "/v1/hosts/h2", {"name": "x", "address": "192.0.2.2"}, 422, "invalid-value", "instance"),
    ("PUT", "/v1/hosts/-", {**HOST, "address": "192.0.2.2"}, 422, "invalid-value", "id"),
    ("POST", "/v1/networks/none/blocks", {"host": "h1"}, 404, "not-found", "network"),
    ("POST", "/v1/networks/blue/blocks", {"host": "none"}, 404, "not-found", "host"),
    ("POST", "/v1/networks/blue/blocks", {"host": "h1", "held": ["10.0.0.1/8"]}, 422, "invalid-value", "held[0]"),
    ("DELETE", "/v1/networks/blue/blocks/10.32.0.1/26?host=h1", None, 422, "invalid-value", "cidr"),
    ("DELETE", "/v1/networks/blue/blocks/10.32.0.0/26", None, 422, "invalid-value", "host"),
    ("POST", "/v1/hosts/none/endpoint-sets", {"count": 1}, 404, "not-found", "host"),
    ("POST", "/v1/hosts/h1/endpoint-sets", {"count": 50_001}, 422, "invalid-value", "count"),
    ("POST", "/v1/hosts/h1/endpoint-sets", {"count": -1}, 422, "invalid-value", "count"),
    ("PUT", "/v1/hosts/h1/endpoint-sets/none/parts/0", {"endpoints": []}, 404, "not-found", "set"),
    ("PUT", "/v1/hosts/h1/endpoint-sets/none/parts/x", {"endpoints": []}, 422, "invalid-value", "part"),
    ("POST", "/v1/hosts/h1/endpoint-sets/none/publish", None, 404, "not-found", "set"),
    ("POST", "/v1/networks/blue/reservations", {"name": "w", "mac": "02:6f:76:00:00:02"}, 422, "invalid-value", "mac"),
    ("POST", "/v1/networks/blue/reservations", {"name": "w", "mac": "ff:ff:ff:ff:ff:ff"}, 422, "invalid-value", "mac"),
    ("POST", "/v1/networks/blue/reservations", {"name": "w", "mac": "01:00:5e:00:00:01"}, 422, "invalid-value", "mac"),
    (
        "POST",
        "/v1/hosts/h1/endpoints",
        {"puts": [endpoint(), endpoint(6, mac="no")]},
        422,
        "invalid-value",
        "puts[1].mac",
    ),
    ("POST", "/v1/hosts/h1/endpoints", {"puts": [endpoint(host="h2")]}, 422, "invalid-value", "puts[0].host"),
    ("POST", "/v1/hosts/h1/endpoints", {"puts": [endpoint(shares=[".."])]}, 422, "invalid-value", "puts[0].shares[0]"),
    ("POST", "/v1/hosts/h1/endpoints", {"puts": [endpoint(aliases=["\n"])]}, 422, "invalid-value", "puts[0].aliases"),
    (
        "POST",
        "/v1/hosts/h1/endpoints",
        {"deletes": [endpoint(interface="a/b")]},
        422,
        "invalid-value",
        "deletes[0].interface",
    ),
    ("PUT", "/v1/hosts/none/endpoints", {"endpoints": []}, 404, "not-found", "host"),
    ("PUT", "/v1/hosts/h1/endpoints", {"endpoints": {}}, 422, "invalid-value", "endpoints"),
    ("POST", "/v1/hosts/h1/report", {"instance": "i1", "revision": 1}, 404, "not-found", "host"),
    ("POST", "/v1/hosts/h1/report", {"instance": "i1", "revision": -1}, 422, "invalid-value", "revision"),
    ("GET", "/v1/feed?host=none&instance=i", None, 404, "not-found", "host"),
    ("GET", "/v1/feed?host=h1", None, 422, "invalid-value", "instance"),
    ("GET", "/v1/feed?host=h1&instance=i&after=x", None, 422, "invalid-value", "after"),
    ("GET", "/v1/convergence?network=none", None, 404, "not-found", "network"),
    ("GET", "/v1/convergence?revision=latest", None, 422, "invalid-value", "revision"),
    ("GET", "/v1/hosts/none", None, 404, "not-found", "host"),
    ("GET", "/v2/networks", None, 404, "not-found", None),
    ("PATCH", "/v1/blocks", None, 405, "method-not-allowed", None),
    ("POST", "/v1/networks", b" " * (1024 * 1024 + 1), 413, "too-large", None),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "code", "field"), MALFORMED)
async def test_bad_input_is_refused_with_its_field_and_changes_nothing(  # noqa: PLR0913, PLR0917 - a table's columns
    tmp_path: Path, method: str, path: str, body: object, status: int, code: str, field: str | None
) -> None:
    async with a_cluster(tmp_path) as (api, store):
        before = await stored(store)
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        answer = await api.request(method, path, content=content, headers=headers)
        assert_problem(answer, status, code, field)
        assert await stored(store) == before


async def test_a_body_that_does_not_announce_its_size_is_bounded_too(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(10_000):
            yield b" " * 1024

    async with a_cluster(tmp_path) as (api, _):
        headers = {"content-type": "application/json"}
        assert_problem(await api.post("/v1/networks", content=endless(), headers=headers), 413, "too-large", None)


async def test_a_store_that_cannot_be_written_is_503_with_a_time_to_come_again(tmp_path: Path) -> None:
    # What is logged stays in memory, as the file that pytest keeps it in is as full as all others.
    async with controllers(tmp_path, 1) as (_, [overlay]), api_of(overlay) as api:
        with capture_logs() as logged, files_at_most(1):
            answer = await api.post("/v1/networks", json=BLUE)
            assert_problem(answer, 503, "unavailable", None)
            assert answer.headers["retry-after"] == "1"
            assert (await api.get("/v1/networks")).json()["items"] == []
            assert (await api.get("/healthz")).json() == {"status": "ok", "revision": 0, "awaited": None}
            for _ in range(3):
                await overlay.writability.look()
            assert_problem(await api.get("/readyz"), 503, "unavailable", None)
        assert [line["event"].partition(":")[0] for line in logged] == ["the store takes no writes"]
        assert (await api.post("/v1/networks", json=BLUE)).status_code == 201
        await overlay.writability.look()
        assert (await api.get("/readyz")).is_success


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/networks", response_bodies.NetworksAnswer),
        ("/v1/networks/blue", response_bodies.NetworkAnswer),
        ("/v1/hosts", response_bodies.HostStatusesAnswer),
        ("/v1/hosts/h1", response_bodies.HostStatusAnswer),
        ("/v1/blocks", response_bodies.BlocksAnswer),
        ("/v1/endpoints", response_bodies.EndpointsAnswer),
        ("/v1/convergence", response_bodies.ConvergenceAnswer),
        ("/healthz", response_bodies.HealthAnswer),
    ],
)
async def test_answers_are_what_the_documentation_says(tmp_path: Path, path: str, model: type[BaseModel]) -> None:
    async with a_cluster(tmp_path) as (api, _):
        await api.post("/v1/hosts/h1/endpoints", json={"puts": [endpoint()]})
        body = (await api.get(path)).json()
        assert model.model_validate(body, strict=True, extra="forbid").model_dump() == body
        schema = (await api.get("/openapi.json")).json()
        documented = path.replace("/blue", "/{name}").replace("/h1", "/{id}")
        content = schema["paths"][documented]["get"]["responses"]["200"]["content"]
        assert content["application/json"]["schema"]["$ref"] == f"#/components/schemas/{model.__name__}"


async def test_everything_is_documented_and_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as (api, _):
        schema = (await api.get("/openapi.json")).json()
        operations = [operation for path in schema["paths"].values() for operation in path.values()]
        documented = {f"{method.upper()} {path}" for path, found in schema["paths"].items() for method in found}
        assert documented == {route.replace(":path", "") for route in NEEDS} - {"GET /docs", "GET /openapi.json"}
        assert all(operation["summary"] and operation["tags"] for operation in operations)
        assert {tag for operation in operations for tag in operation["tags"]} == {tag["name"] for tag in schema["tags"]}
        refusals = [
            status for operation in operations for status in operation["responses"].items() if status[0] >= "400"
        ]
        for status, refusal in refusals:
            assert refusal["content"] == {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            }, status
        page = await api.get("/docs")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "/openapi.json" in page.text
        assert "://" not in page.text


async def test_an_endpoint_that_cannot_be_is_refused_by_itself_and_all_others_are_there(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as (api, _):
        outside, unknown = endpoint(9, addresses=["10.99.0.1"]), endpoint(8, network="nowhere")
        answer = await api.post("/v1/hosts/h1/endpoints", json={"puts": [endpoint(5), outside, unknown, endpoint(6)]})
        assert answer.status_code == 200
        body = response_bodies.PublishedAnswer.model_validate(answer.json(), strict=True, extra="forbid")
        assert [(each.container_id, each.code, each.field) for each in body.refused] == [
            ("c9", "invalid-value", "puts[1].addresses"),
            ("c8", "not-found", "puts[2].network"),
        ]
        items = (await api.get("/v1/endpoints")).json()["items"]
        assert [each["container_id"] for each in items] == ["c5", "c6"]


async def test_clients_read_the_errors_that_were_raised(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as (api, _):
        answer = await api.post("/v1/networks", json=BLUE)
        error = problem.decode(answer.status_code, answer.content)
        assert isinstance(error, OverlayError)
        assert (error.code, error.field, error.detail) == ("already-exists", "name", "network blue exists")
