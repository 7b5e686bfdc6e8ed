"""Every metric is documented, and every documented metric is there."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.controllers.api import BLUE, HOST, api_of
from tests.support.controllers.overlays import controllers

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parents[3] / "docs/metrics.md").read_text()
_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|([\w, ]*)\|", re.MULTILINE)


async def test_the_page_lists_the_metrics_with_their_labels(tmp_path: Path) -> None:
    documented = {
        name: (kind, {label.strip() for label in labels.split(",")} - {""}) for name, kind, labels in _ROW.findall(PAGE)
    }
    async with controllers(tmp_path, 1) as (_, [overlay]), api_of(overlay) as api:
        await api.post("/v1/networks", json=BLUE)
        await api.get("/v1/networks/blue")
        families = list(text_string_to_metric_families((await api.get("/metrics")).text))
    found = {}
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, labels)
        assert family.documentation
    assert found == documented


async def test_metrics_tell_what_happened(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]), api_of(overlay) as api:
        await api.post("/v1/networks", json=BLUE)
        await api.post("/v1/networks", json=BLUE)
        await api.put("/v1/hosts/h1", json=HOST)
        await api.post("/v1/networks/blue/blocks", json={"host": "h1"})
        text = (await api.get("/metrics")).text
    values = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    requests = {"method": "POST", "route": "/v1/networks"}
    assert values["overlay_requests_total", tuple(sorted({**requests, "status": "201"}.items()))] == 1
    assert values["overlay_requests_total", tuple(sorted({**requests, "status": "409"}.items()))] == 1
    assert values["overlay_request_seconds_count", tuple(sorted(requests.items()))] == 2
    assert values["overlay_store_commits_total", (("outcome", "committed"),)] == 3
    assert values["overlay_store_commit_seconds_count", ()] == 3
    assert values["overlay_hosts", (("state", "active"),)] == 1
    assert values["overlay_hosts_connected", ()] == 0
    pool = {"network": "blue", "range": "10.32.0.0/16"}
    assert values["overlay_pool_blocks", tuple(sorted({**pool, "state": "used"}.items()))] == 1
    assert values["overlay_pool_blocks", tuple(sorted({**pool, "state": "free"}.items()))] == 1023


async def test_the_name_of_an_object_makes_no_series(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]), api_of(overlay) as api:
        for number in range(10):
            await api.get(f"/v1/networks/n{number}")
            await api.get(f"/no/such/path/{number}")
        text = (await api.get("/metrics")).text
    routes = {
        sample.labels["route"]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "route" in sample.labels
    }
    assert routes == {"/v1/networks/{name}", "none"}
