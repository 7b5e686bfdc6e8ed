"""The names of the schemas in the OpenAPI document: clients generate code from it, and find their classes by them."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.api.app import create_app
from controller.api.http.auth import INSECURE
from controller.clock import SystemClock
from controller.overlay import Overlay
from tests.support.controllers.overlays import store_at

pytestmark = pytest.mark.anyio

SCHEMAS = """
AcquireBody ActorAnswer AlarmAnswer BlockAnswer BlockRecord BlocksAnswer CallerAnswer CapacityAnswer
ChangeAnswer ChangesAnswer ConvergenceAnswer CredentialAnswer EndpointBody EndpointKeyBody EndpointRecord
EndpointSetAnswer EndpointSetBody EndpointsAnswer EndpointsBody FamilyAnswer HealthAnswer HolderAnswer
HolderBody HostAnswer HostBody HostPatch HostStatusAnswer HostStatusRecord HostStatusesAnswer JoinBody LagAnswer
NetworkAnswer NetworkBody NetworkCapacityAnswer NetworkCapacityRecord NetworkDefinition NetworkPatch
NetworkRecord NetworksAnswer PastAnswer PastObject PodAnswer PodBody PoolAnswer PoolBody PoolCapacityAnswer
Problem ProblemAnswer ProblemBody PublishBody PublishedAnswer RefusedEndpoint RegisteredAnswer ReportBody
ReservationAnswer ReservationBody ReservationPatch ReservationRecord ReservationsAnswer RevisionAnswer
StatementAnswer StatementBody SupplyAnswer TokenAnswer TokenBody TokenRecordAnswer TokensAnswer WantedNetworkBody
WrittenNetworkAnswer
"""
"""As they are published: a schema may come, and none may go or get another name."""


@pytest.fixture
async def document(tmp_path: Path) -> AsyncIterator[str]:
    async with store_at(tmp_path / "store.db", SystemClock()) as store:
        yield json.dumps(create_app(Overlay(store, SystemClock(), "c1"), INSECURE).openapi())


async def test_schemas_keep_their_names(document: str) -> None:
    assert sorted(json.loads(document)["components"]["schemas"]) == sorted(SCHEMAS.split())


async def test_every_reference_leads_to_a_schema(document: str) -> None:
    references = re.findall(r'"#/components/schemas/([^"]+)"', document)
    assert set(references) <= set(SCHEMAS.split())
    assert "Problem" in references


async def test_a_schema_has_its_own_name_as_title(document: str) -> None:
    schemas = json.loads(document)["components"]["schemas"]
    assert {name: schema["title"] for name, schema in schemas.items()} == {name: name for name in schemas}
