"""Reservations, capacity and the life of hosts over HTTP: what is answered, and what is refused."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from pydantic import BaseModel

from controller.api.routes.capacity import CapacityAnswer, NetworkCapacityAnswer
from controller.api.routes.reservations import ReservationAnswer, ReservationsAnswer
from controller.overlay import Overlay
from tests.support.controllers.api import HOST, api_of, assert_problem, endpoint
from tests.support.controllers.overlays import controllers

pytestmark = pytest.mark.anyio

PLACE = "/v1/networks/blue/reservations"
WEB = {
    "network": "blue",
    "name": "web",
    "addresses": ["10.32.0.18"],
    "mac": None,
    "holder": None,
    "shared": False,
}
HOLDER = {"host": "h1", "container_id": "c1", "interface": "eth0"}


@asynccontextmanager
async def a_cluster(directory: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Overlay]]:
    """Serve network blue of 16 blocks, host h1 with the first of them, and reservation web in the second."""
    async with controllers(directory, 1) as (_, [overlay]), api_of(overlay) as api:
        await api.post("/v1/networks", json={"name": "blue", "pools": [{"range": "10.32.0.0/24", "block_length": 28}]})
        await api.put("/v1/hosts/h1", json=HOST)
        await api.post("/v1/networks/blue/blocks", json={"host": "h1", "held": []})
        made = await api.post(PLACE, json={"name": "web", "addresses": ["10.32.0.18"]})
        assert made.status_code == 201
        assert made.json() == {**WEB, "revision": overlay.mirror.intent_revision}
        yield api, overlay


async def test_a_reservation_lives_and_dies(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as (api, overlay):
        at = overlay.mirror.intent_revision
        assert (await api.get(PLACE)).json() == {"items": [WEB], "next": None, "revision": at}
        assert (await api.get(f"{PLACE}/web")).json() == {**WEB, "revision": at}
        changed = await api.patch(f"{PLACE}/web", json={"mac": "02:00:00:00:00:AA"})
        assert changed.json()["mac"] == "02:00:00:00:00:aa"
        assert (await api.patch(f"{PLACE}/web", json={})).json() == changed.json()
        assert (await api.patch(f"{PLACE}/web", json={"mac": None})).json()["mac"] is None
        automatic = await api.post(PLACE, json={"name": "db", "families": [4]})
        assert automatic.json()["addresses"] == ["10.32.0.17"]
        assert (await api.delete(f"{PLACE}/web")).status_code == 204
        assert [each["name"] for each in (await api.get(PLACE)).json()["items"]] == ["db"]
        assert_problem(await api.get(f"{PLACE}/web"), 404, "not-found", "reservation")
        assert_problem(await api.post(PLACE, json={**automatic_body("10.32.0.18")}), 409, "in-use", "addresses[0]")
        assert_problem(await api.delete("/v1/networks/blue"), 409, "in-use", None)


def automatic_body(address: str) -> dict[str, object]:
    return {"name": "again", "addresses": [address]}


async def test_a_host_claims_publishes_and_releases(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as (api, _):
        mine = endpoint(18, container_id="c1")
        (refused,) = (await api.post("/v1/hosts/h1/endpoints", json={"puts": [mine]})).json()["refused"]
        assert (refused["code"], refused["field"]) == ("already-exists", "puts[0].addresses")
        claimed = await api.post(f"{PLACE}/web/claim", json=HOLDER)
        assert (claimed.status_code, claimed.json()["holder"]) == (200, HOLDER)
        assert (await api.post("/v1/hosts/h1/endpoints", json={"puts": [mine]})).status_code == 200
        assert_problem(await api.delete(f"{PLACE}/web"), 409, "in-use", None)
        other = {**HOLDER, "container_id": "c2"}
        assert (await api.post(f"{PLACE}/web/release", json=other)).json()["holder"] == HOLDER
        assert (await api.post(f"{PLACE}/web/release", json=HOLDER)).json()["holder"] is None
        assert (await api.get("/v1/endpoints")).json()["items"] == []
        assert (await api.delete(f"{PLACE}/web")).status_code == 204


async def test_a_host_drains_resumes_and_is_forgotten(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as (api, _):
        drained = await api.patch("/v1/hosts/h1", json={"state": "draining"})
        assert (drained.status_code, drained.json()["state"]) == (200, "draining")
        refused = await api.post("/v1/networks/blue/blocks", json={"host": "h1", "held": ["10.32.0.0/28"]})
        assert_problem(refused, 409, "in-use", "host")
        assert_problem(await api.post(f"{PLACE}/web/claim", json=HOLDER), 409, "in-use", "host")
        assert (await api.patch("/v1/hosts/h1", json={"state": "active"})).json()["state"] == "active"
        assert (await api.delete("/v1/hosts/h1")).status_code == 204
        assert (await api.get("/v1/blocks")).json()["items"] == []
        assert_problem(await api.delete("/v1/hosts/h1"), 404, "not-found", "host")
        assert_problem(await api.put("/v1/hosts/h2", json=HOST), 409, "in-use", "address")


async def test_a_network_gets_and_loses_ranges(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as (api, _):
        first, second = {"range": "10.32.0.0/24", "block_length": 28}, {"range": "fd00:1::/64", "block_length": 112}
        changed = await api.patch(
            "/v1/networks/blue", json={"pools": [{"range": "10.32.0.0/24"}, second], "reserved": ["10.32.0.240/28"]}
        )
        assert changed.status_code == 200
        assert changed.json()["pools"] == [first, second]
        assert changed.json()["reserved"] == ["10.32.0.240/28"]
        v6 = await api.post("/v1/networks/blue/blocks", json={"host": "h1", "family": 6})
        assert v6.json()["cidr"] == "fd00:1::/112"
        assert_problem(await api.patch("/v1/networks/blue", json={"pools": [first]}), 409, "in-use", "pools")
        assert (await api.patch("/v1/networks/blue", json={})).json()["pools"] == [first, second]
        made = await api.post("/v1/networks", json={"name": "red", "pools": [first, second], "reserved": ["10.32.0.5"]})
        assert (made.status_code, made.json()["reserved"]) == (201, ["10.32.0.5/32"])


async def test_capacity_counts_every_block_once_and_alarms_tell_what_to_do(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as (api, _):
        await api.put("/v1/hosts/h2", json={**HOST, "address": "192.0.2.2"})
        held: list[str] = []
        for _ in range(11):
            block = await api.post("/v1/networks/blue/blocks", json={"host": "h2", "held": held})
            held.append(block.json()["cidr"])
        await api.delete(f"/v1/networks/blue/blocks/{held[0]}", params={"host": "h2"})
        found = (await api.get("/v1/networks/blue/capacity")).json()
        assert found["pools"] == [
            {
                "range": "10.32.0.0/24",
                "block_length": 28,
                "total": 16,
                "used": 11,
                "quarantined": 1,
                "withheld": 1,
                "reserved": 0,
                "free": 3,
            }
        ]
        assert found["families"] == [{"family": 4, "total": 16, "taken": 13, "level": "warning"}]
        everything = (await api.get("/v1/capacity")).json()
        assert everything["networks"] == [{name: found[name] for name in ("network", "pools", "families")}]
        assert everything["host_numbers"] == {"total": 64000, "taken": 2, "level": None}
        assert everything["alarms"] == [
            {
                "level": "warning",
                "network": "blue",
                "subject": "IPv4 blocks of network blue",
                "total": 16,
                "taken": 13,
                "advice": "overlayctl network add-range blue CIDR gives it another range",
            }
        ]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "field"),
    [
        ("POST", PLACE, {"name": "web"}, 409, "already-exists", "name"),
        ("POST", PLACE, {"name": "-"}, 422, "invalid-value", "name"),
        ("POST", PLACE, {}, 422, "invalid-value", "name"),
        ("POST", PLACE, {"name": "x", "addresses": ["10.32.0.18"]}, 409, "already-exists", "addresses[0]"),
        ("POST", PLACE, {"name": "x", "addresses": ["10.32.0.5"]}, 409, "in-use", "addresses[0]"),
        ("POST", PLACE, {"name": "x", "addresses": ["10.32.0.255"]}, 422, "invalid-value", "addresses[0]"),
        ("POST", PLACE, {"name": "x", "addresses": ["10.33.0.1"]}, 422, "invalid-value", "addresses[0]"),
        ("POST", PLACE, {"name": "x", "addresses": ["ten"]}, 422, "invalid-value", "addresses[0]"),
        ("POST", PLACE, {"name": "x", "addresses": ["10.32.0.40", "10.32.0.41"]}, 422, "invalid-value", "addresses"),
        ("POST", PLACE, {"name": "x", "addresses": ["1"] * 3}, 422, "invalid-value", "addresses"),
        ("POST", PLACE, {"name": "x", "families": [5]}, 422, "invalid-value", "families[0]"),
        ("POST", PLACE, {"name": "x", "families": [6]}, 422, "invalid-value", "family"),
        ("POST", PLACE, {"name": "x", "mac": "01:00:00:00:00:01"}, 422, "invalid-value", "mac"),
        ("POST", PLACE, {"name": "x", "shared": True}, 422, "invalid-value", "shared"),
        ("POST", PLACE, {"name": "x", "shared": "yes"}, 422, "invalid-value", "shared"),
        ("POST", PLACE, {"name": "x", "holder": None}, 422, "invalid-value", "holder"),
        ("POST", "/v1/networks/red/reservations", {"name": "x"}, 404, "not-found", "network"),
        ("GET", "/v1/networks/red/reservations", None, 404, "not-found", "network"),
        ("GET", f"{PLACE}/db", None, 404, "not-found", "reservation"),
        ("PATCH", f"{PLACE}/web", {"addresses": ["10.32.0.19"]}, 422, "invalid-value", "addresses"),
        ("PATCH", f"{PLACE}/db", {}, 404, "not-found", "reservation"),
        ("DELETE", f"{PLACE}/db", None, 404, "not-found", "reservation"),
        ("POST", f"{PLACE}/db/claim", HOLDER, 404, "not-found", "reservation"),
        ("POST", f"{PLACE}/web/claim", {**HOLDER, "host": "h9"}, 404, "not-found", "host"),
        ("POST", f"{PLACE}/web/claim", {"host": "h1"}, 422, "invalid-value", "container_id"),
        ("POST", f"{PLACE}/web/claim", {**HOLDER, "interface": "a/b"}, 422, "invalid-value", "interface"),
        ("PATCH", "/v1/hosts/h1", {"state": "forgetting"}, 422, "invalid-value", "state"),
        ("PATCH", "/v1/hosts/h1", {"number": 3}, 422, "invalid-value", "state"),
        ("PATCH", "/v1/hosts/h9", {"state": "active"}, 404, "not-found", "host"),
        ("DELETE", "/v1/hosts/h9", None, 404, "not-found", "host"),
        ("GET", "/v1/networks/red/capacity", None, 404, "not-found", "network"),
        ("PATCH", "/v1/networks/red", {}, 404, "not-found", "network"),
        ("PATCH", "/v1/networks/blue", {"pools": []}, 422, "invalid-value", "pools"),
        ("PATCH", "/v1/networks/blue", {"pools": None}, 422, "invalid-value", "pools"),
        ("PATCH", "/v1/networks/blue", {"pools": [{"range": "10.32.0.0/33"}]}, 422, "invalid-value", "pools[0].range"),
        ("PATCH", "/v1/networks/blue", {"vni": 5}, 422, "invalid-value", "vni"),
        ("PATCH", "/v1/networks/blue", {"reserved": ["10.32.0.1/24"]}, 422, "invalid-value", "reserved[0]"),
        ("PATCH", "/v1/networks/blue", {"reserved": ["10.99.0.1"]}, 422, "invalid-value", "reserved[0]"),
        ("PATCH", "/v1/networks/blue", {"reserved": ["10.32.0.8/29"]}, 409, "in-use", "reserved"),
        (
            "PATCH",
            "/v1/networks/blue",
            {"pools": [{"range": "10.32.0.0/24", "block_length": 27}]},
            422,
            "invalid-value",
            "pools[0].block_length",
        ),
    ],
)
async def test_bad_input_is_refused_with_its_field_and_changes_nothing(  # noqa: PLR0913, PLR0917 - a table's columns
    tmp_path: Path, method: str, path: str, body: object, status: int, code: str, field: str | None
) -> None:
    async with a_cluster(tmp_path) as (api, overlay):
        before = overlay.mirror.revision
        content = None if body is None else json.dumps(body).encode()
        answer = await api.request(method, path, content=content, headers={"content-type": "application/json"})
        assert_problem(answer, status, code, field)
        assert overlay.mirror.revision == before


@pytest.mark.parametrize(
    ("path", "documented", "model"),
    [
        (PLACE, "/v1/networks/{name}/reservations", ReservationsAnswer),
        (f"{PLACE}/web", "/v1/networks/{name}/reservations/{reservation}", ReservationAnswer),
        ("/v1/networks/blue/capacity", "/v1/networks/{name}/capacity", NetworkCapacityAnswer),
        ("/v1/capacity", "/v1/capacity", CapacityAnswer),
    ],
)
async def test_answers_are_what_the_documentation_says(
    tmp_path: Path, path: str, documented: str, model: type[BaseModel]
) -> None:
    async with a_cluster(tmp_path) as (api, _):
        await api.post(f"{PLACE}/web/claim", json=HOLDER)
        body = (await api.get(path)).json()
        assert model.model_validate(body, strict=True, extra="forbid").model_dump() == body
        schema = (await api.get("/openapi.json")).json()
        content = schema["paths"][documented]["get"]["responses"]["200"]["content"]
        assert content["application/json"]["schema"]["$ref"] == f"#/components/schemas/{model.__name__}"
