"""What every route of the API has in common: entity tags, pages, filters, and no tolerance for typing errors."""

import asyncio
from pathlib import Path

import pytest

from controller.overlay import Overlay
from tests.support.controllers.api import BLUE, HOST, api_of, assert_problem
from tests.support.controllers.overlays import controllers

pytestmark = pytest.mark.anyio

WIDER = {"pools": [{"range": "10.32.0.0/16"}, {"range": "10.64.0.0/16"}]}


async def test_a_change_for_a_network_that_has_changed_since_is_refused(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]), api_of(overlay) as api:
        made = await api.post("/v1/networks", json=BLUE)
        tag = made.headers["etag"]
        assert (await api.get("/v1/networks/blue")).headers["etag"] == tag
        unchanged = await api.get("/v1/networks/blue", headers={"If-None-Match": tag})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        changed = await api.patch("/v1/networks/blue", json=WIDER, headers={"If-Match": tag})
        assert changed.status_code == 200
        assert changed.headers["etag"] != tag
        assert (await api.get("/v1/networks/blue", headers={"If-None-Match": tag})).status_code == 200
        for answer in (
            await api.patch("/v1/networks/blue", json=WIDER, headers={"If-Match": tag}),
            await api.put("/v1/networks/blue", json=WIDER, headers={"If-Match": tag}),
            await api.delete("/v1/networks/blue", headers={"If-Match": tag}),
        ):
            assert_problem(answer, 412, "stale", None)
        assert (await api.delete("/v1/networks/blue", headers={"If-Match": changed.headers["etag"]})).status_code == 204


async def test_of_two_who_change_what_both_have_read_one_is_refused(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (_, overlays), api_of(overlays[0]) as here, api_of(overlays[1]) as there:
        tag = (await here.post("/v1/networks", json=BLUE)).headers["etag"]
        ranges = [{"pools": [{"range": "10.32.0.0/16"}, {"range": f"10.{n}.0.0/16"}]} for n in (64, 65)]
        outcomes = await asyncio.gather(
            here.patch("/v1/networks/blue", json=ranges[0], headers={"If-Match": tag}),
            there.patch("/v1/networks/blue", json=ranges[1], headers={"If-Match": tag}),
        )
        assert sorted(answer.status_code for answer in outcomes) == [200, 412]
        winner = next(answer for answer in outcomes if answer.status_code == 200)
        assert (await here.get("/v1/networks/blue")).json()["pools"] == winner.json()["pools"]


@pytest.mark.parametrize(("header", "value"), [("If-Match", 'W/"1"'), ("If-Match", "1"), ("If-None-Match", '"1"')])
async def test_a_malformed_tag_is_refused(tmp_path: Path, header: str, value: str) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]), api_of(overlay) as api:
        await api.post("/v1/networks", json=BLUE)
        answer = await api.put("/v1/networks/blue", json=WIDER, headers={header: value})
        assert_problem(answer, 422, "invalid-value", header)


async def test_put_makes_and_replaces(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]), api_of(overlay) as api:
        only_new = {"If-None-Match": "*"}
        made = await api.put("/v1/networks/blue", json=WIDER, headers=only_new)
        assert (made.status_code, len(made.json()["pools"])) == (201, 2)
        assert_problem(await api.put("/v1/networks/blue", json=WIDER, headers=only_new), 412, "stale", "If-None-Match")
        replaced = await api.put("/v1/networks/blue", json={"pools": WIDER["pools"][:1]})
        assert (replaced.status_code, replaced.json()["vni"]) == (200, made.json()["vni"])
        assert [pool["range"] for pool in replaced.json()["pools"]] == ["10.32.0.0/16"]
        other = await api.put("/v1/networks/blue", json={**WIDER, "topology": "switched"})
        assert_problem(other, 422, "invalid-value", "topology")


@pytest.mark.parametrize("headers", [{}, {"If-None-Match": "*"}])
async def test_put_names_the_vni_that_another_network_has(tmp_path: Path, headers: dict[str, str]) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]), api_of(overlay) as api:
        taken = (await api.post("/v1/networks", json=BLUE)).json()["vni"]
        answer = await api.put("/v1/networks/red", json={**WIDER, "vni": taken}, headers=headers)
        assert_problem(answer, 409, "already-exists", "vni")
        assert (await api.get("/v1/networks/red")).status_code == 404


async def test_a_patch_changes_what_it_names(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]), api_of(overlay) as api:
        made = (await api.post("/v1/networks", json={**BLUE, "reserved": ["10.32.0.0/28"]})).json()
        patch = await api.patch(
            "/v1/networks/blue",
            content=b'{"reserved": ["10.32.1.1"]}',
            headers={"content-type": "application/merge-patch+json"},
        )
        assert patch.json() == {**made, "reserved": ["10.32.1.1/32"], "revision": patch.json()["revision"]}
        closed = await api.patch("/v1/networks/blue", json={"egress": False, "uplink": "isolated"})
        assert (closed.json()["egress"], closed.json()["uplink"]) == (False, "isolated")
        assert closed.json()["reserved"] == ["10.32.1.1/32"]
        assert_problem(await api.patch("/v1/networks/blue", json={"uplink": "wide"}), 422, "invalid-value", "uplink")
        replaced = await api.put("/v1/networks/blue", json={"pools": WIDER["pools"][:1], "uplink": "none"})
        assert (replaced.json()["egress"], replaced.json()["uplink"]) == (True, "none")
        await api.put("/v1/hosts/h1", json=HOST)
        tag = (await api.get("/v1/hosts/h1")).headers["etag"]
        drained = await api.patch("/v1/hosts/h1", json={"state": "draining"}, headers={"If-Match": tag})
        assert drained.json()["state"] == "draining"
        stale = await api.patch("/v1/hosts/h1", json={"state": "active"}, headers={"If-Match": tag})
        assert_problem(stale, 412, "stale", None)


async def pages(overlay: Overlay, path: str, limit: int) -> list[list[str]]:
    async with api_of(overlay) as api:
        found, after = [], None
        while True:
            params = {"limit": str(limit)} | ({"after": after} if after else {})
            answer = (await api.get(path, params=params)).json()
            found.append([str(item.get("name") or item.get("cidr")) for item in answer["items"]])
            after = answer["next"]
            if after is None:
                return found


async def test_lists_come_in_pages(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]), api_of(overlay) as api:
        for number in range(5):
            await api.post("/v1/networks", json={**BLUE, "name": f"n{number}"})
            await api.put(f"/v1/hosts/h{number}", json={**HOST, "name": f"x{number}", "address": f"192.0.2.{number}"})
            await api.post("/v1/networks/n0/blocks", json={"host": f"h{number}"})
        assert await pages(overlay, "/v1/networks", 2) == [["n0", "n1"], ["n2", "n3"], ["n4"]]
        assert await pages(overlay, "/v1/networks", 5) == [["n0", "n1", "n2", "n3", "n4"]]
        assert [len(page) for page in await pages(overlay, "/v1/hosts", 3)] == [3, 2]
        blocks = [cidr for page in await pages(overlay, "/v1/blocks", 1) for cidr in page]
        assert blocks == [f"10.32.{n // 4}.{n % 4 * 64}/26" for n in range(5)]
        first = (await api.get("/v1/networks", params={"limit": 2})).json()["next"]
        await api.delete("/v1/networks/n1")
        await api.post("/v1/networks", json={**BLUE, "name": "a"})
        rest = (await api.get("/v1/networks", params={"after": first})).json()["items"]
        assert [item["name"] for item in rest] == ["n2", "n3", "n4"]
        for cursor in ("x", "bnVsbA", first):
            wrong = await api.get("/v1/hosts", params={"after": cursor})
            assert_problem(wrong, 422, "invalid-value", "after")


async def test_lists_are_filtered(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]), api_of(overlay) as api:
        await api.post("/v1/networks", json=BLUE)
        await api.post("/v1/networks", json={**BLUE, "name": "green", "topology": "switched"})
        await api.put("/v1/hosts/h1", json=HOST)

        async def names(path: str, **params: str) -> list[str]:
            return [item["name"] for item in (await api.get(path, params=params)).json()["items"]]

        assert await names("/v1/networks", topology="switched") == ["green"]
        assert await names("/v1/networks", state="deleting") == []
        assert await names("/v1/hosts", connected="false", state="active") == ["rack1-07"]
        assert await names("/v1/hosts", name="other") == []


@pytest.mark.parametrize("path", ["/v1/networks", "/v1/hosts", "/v1/endpoints", "/healthz", "/v1/networks/blue"])
async def test_a_parameter_that_a_route_does_not_know_is_refused(tmp_path: Path, path: str) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]), api_of(overlay) as api:
        await api.post("/v1/networks", json=BLUE)
        assert_problem(await api.get(path, params={"netwrok": "blue"}), 422, "invalid-value", "netwrok")


async def test_a_parameter_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]), api_of(overlay) as api:
        answer = await api.get("/v1/blocks?host=h1&host=h2")
        assert_problem(answer, 422, "invalid-value", "host")
