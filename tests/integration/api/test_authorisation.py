"""Who may do what over HTTP, for every route that there is."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter

from controller.api.app import create_app
from controller.api.http import permissions
from controller.api.http.auth import Security
from controller.api.http.permissions import NEEDS, HostPlace
from controller.identity.roles import Permission, Role, may
from controller.journal.actor import Actor, Requester
from controller.overlay import Overlay
from overlayd.model.ids import HostId
from overlayd.wire import problem
from tests.support.controllers.api import BLUE, HOST, assert_problem
from tests.support.controllers.overlays import H1, H2, controllers

pytestmark = pytest.mark.anyio

BY_ROOT = Requester(Actor("root", Role.ADMIN))
SECURE = Security("-----BEGIN CERTIFICATE-----\nb3VycyE=\n-----END CERTIFICATE-----\n", is_open=False)
GUARDED = [route for route, need in NEEDS.items() if need.permission is not None]
OF_HOSTS = [route for route, need in NEEDS.items() if need.host is not None]

BODIES: dict[str, Mapping[str, object]] = {
    "POST /v1/networks/{name}/reservations": {"name": "web"},
    "PATCH /v1/networks/{name}/reservations/{reservation}": {"mac": None},
    "POST /v1/networks/{name}/reservations/{reservation}/claim": {"container_id": "c"},
    "POST /v1/networks/{name}/reservations/{reservation}/release": {"container_id": "c"},
    "PATCH /v1/hosts/{id}": {"state": "draining"},
    "PATCH /v1/networks/{name}": {"reserved": []},
    "POST /v1/networks": {"name": "red", "pools": [{"range": "10.40.0.0/16"}]},
    "POST /v1/tokens": {"kind": "access", "name": "ci", "role": "viewer"},
    "POST /v1/networks/{name}/blocks": {"host": "h1", "held": []},
    "PUT /v1/hosts/{id}": HOST,
    "PUT /v1/hosts/{id}/networks/{name}": {"ranges": []},
    "POST /v1/hosts/{id}/report": {"instance": "i1", "revision": 1},
    "POST /v1/hosts/{id}/endpoints": {"puts": [], "deletes": []},
    "PUT /v1/hosts/{id}/endpoints": {"endpoints": []},
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A controller that asks for tokens, and a token of each kind."""

    overlay: Overlay
    api: httpx.AsyncClient
    tokens: Mapping[str, str]

    async def ask(self, route: str, token: str | None, **changes: str) -> httpx.Response:
        """Send a request for a route that is about host h1."""
        method, _, path = route.partition(" ")
        values = {"name": "blue", "cidr:path": "10.32.0.0/26", "id": "h1", "reservation": "web"} | changes
        for name, value in values.items():
            path = path.replace(f"{{{name}}}", value)
        query = {"host": values["id"], "instance": "i1", "after": "99"} if NEEDS[route].host is HostPlace.QUERY else {}
        body = BODIES.get(route)
        if NEEDS[route].host is HostPlace.BODY:
            body = {**BODIES[route], "host": values["id"]}
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        return await self.api.request(method, path, headers=headers, json=body, params=query)


@asynccontextmanager
async def a_cluster(directory: Path) -> AsyncIterator[Cluster]:
    async with controllers(directory, 1) as (_, [overlay]):
        tokens = {}
        for role in (Role.ADMIN, Role.OPERATOR, Role.VIEWER):
            tokens[str(role)] = (await overlay.tokens.create(BY_ROOT, f"the {role}", role, None)).result.token.text
        for host in (H1, H2):
            tokens[host] = await joined(overlay, host)
        transport = httpx.ASGITransport(create_app(overlay, SECURE))
        async with httpx.AsyncClient(transport=transport, base_url="https://controller") as api:
            cluster = Cluster(overlay, api, tokens)
            assert (await cluster.ask("PUT /v1/hosts/{id}", tokens["h1"])).status_code == 200
            admin = {"Authorization": f"Bearer {tokens['admin']}"}
            assert (await api.post("/v1/networks", json=BLUE, headers=admin)).status_code == 201
            yield cluster


async def joined(overlay: Overlay, host: HostId) -> str:
    joining = (await overlay.tokens.create_join(BY_ROOT, "f" * 64, None, 60)).result
    return (await overlay.tokens.join(BY_ROOT, joining.token.text, host)).result.token.text


def is_stream(route: str) -> bool:
    return route in {"GET /v1/feed", "GET /v1/watch"}  # endless, and of no end that this transport could give it


@pytest.mark.parametrize("route", GUARDED)
async def test_nobody_gets_anything_without_a_token(tmp_path: Path, route: str) -> None:
    async with a_cluster(tmp_path) as cluster:
        for token in (None, "", "nonsense", "ovt_" + "0" * 12 + "_" + "0" * 40):
            answer = await cluster.ask(route, token)
            assert_problem(answer, 401, "unauthenticated", None)
            assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("route", GUARDED)
@pytest.mark.parametrize("name", ["admin", "operator", "viewer", "h1"])
async def test_a_role_gets_what_the_table_says(tmp_path: Path, route: str, name: str) -> None:
    permission = NEEDS[route].permission
    assert permission is not None
    role = Role.HOST if name == "h1" else Role(name)
    async with a_cluster(tmp_path) as cluster:
        if may(role, permission) and is_stream(route):
            return
        answer = await cluster.ask(route, cluster.tokens[name])
        if may(role, permission):
            assert answer.status_code not in {401, 403}, answer.text
        else:
            assert_problem(answer, 403, "forbidden", None)
            assert permission in answer.text, "it names what is missing"
            assert role in answer.text


@pytest.mark.parametrize("route", OF_HOSTS)
async def test_a_host_does_nothing_for_another(tmp_path: Path, route: str) -> None:
    async with a_cluster(tmp_path) as cluster:
        before = cluster.overlay.mirror.revision
        answer = await cluster.ask(route, cluster.tokens["h2"])
        assert_problem(answer, 403, "forbidden", None)
        assert "host h2 cannot act for host 'h1'" in answer.text
        assert cluster.overlay.mirror.revision == before
        if not is_stream(route):
            own = await cluster.ask(route, cluster.tokens["h1"])
            assert own.status_code not in {401, 403}, own.text


async def test_a_host_cannot_name_itself_and_another_one(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as cluster:
        for query in ("host=h2&host=h1", "host=h1&host=h2", "host=h1&host=", "%68ost=h1"):
            answer = await cluster.api.get(
                f"/v1/feed?{query}&instance=i", headers={"Authorization": f"Bearer {cluster.tokens['h2']}"}
            )
            assert answer.status_code == 403, query


async def test_a_host_publishes_no_endpoint_of_another(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as cluster:
        theirs = {
            "network": "blue",
            "container_id": "c",
            "interface": "eth0",
            "host": "h1",
            "addresses": ["10.32.0.2"],
            "mac": "02:00:00:00:00:05",
            "sandbox": "/run/netns/c",
        }
        headers = {"Authorization": f"Bearer {cluster.tokens['h2']}"}
        host2 = {**HOST, "address": "192.0.2.2"}
        assert (await cluster.api.put("/v1/hosts/h2", json=host2, headers=headers)).status_code == 200
        for method, body in (("POST", {"puts": [theirs]}), ("PUT", {"endpoints": [theirs]})):
            answer = await cluster.api.request(method, "/v1/hosts/h2/endpoints", json=body, headers=headers)
            assert answer.status_code == 422
            assert "cannot publish for h1" in answer.text


async def test_the_open_paths_are_open_and_no_others(tmp_path: Path) -> None:
    assert permissions.open_paths() == {"/docs", "/healthz", "/openapi.json", "/readyz", "/v1/ca", "/v1/join"}
    async with a_cluster(tmp_path) as cluster:
        for path in sorted(permissions.open_paths() - {"/v1/join"}):
            assert (await cluster.api.get(path)).status_code == 200
        assert (await cluster.api.get("/v1/ca")).text == SECURE.authority
        for path in ("/v1/ca/", "//v1/ca", "/v1/ca/../networks", "/docs/x", "/nothing"):
            assert (await cluster.api.get(path)).status_code == 401


@pytest.mark.parametrize(
    "header",
    ["Basic dXNlcjpwYXNz", "Bearer", "bearer {}x", "Bearer {} {}", "{}", "Token {}", "Bearer  ovt_\u00e9"],
)
async def test_a_header_of_another_form_is_refused(tmp_path: Path, header: str) -> None:
    async with a_cluster(tmp_path) as cluster:
        shown = header.replace("{}", cluster.tokens["admin"])
        answer = await cluster.api.get("/v1/networks", headers={b"Authorization": shown.encode("latin-1")})
        assert_problem(answer, 401, "unauthenticated", None)
        assert cluster.tokens["admin"] not in answer.text


async def test_two_tokens_are_none(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as cluster:
        headers = [("Authorization", f"Bearer {cluster.tokens[name]}") for name in ("viewer", "admin")]
        assert (await cluster.api.get("/v1/networks", headers=headers)).status_code == 401


async def test_the_scheme_may_be_written_in_any_case(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as cluster:
        headers = {"authorization": f"bEARER {cluster.tokens['viewer']}"}
        assert (await cluster.api.get("/v1/networks", headers=headers)).status_code == 200


async def test_a_refusal_comes_before_the_body_is_read(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as cluster:
        assert_problem(await cluster.api.post("/v1/networks", content=b"{"), 401, "unauthenticated", None)
        assert_problem(await cluster.api.post("/v1/networks", content=b"x" * 2_000_000), 401, "unauthenticated", None)


async def test_a_route_that_nobody_has_thought_about_serves_nobody(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as cluster:
        app = create_app(cluster.overlay, SECURE)
        router = APIRouter(prefix="/v1/secrets")
        router.add_api_route("", lambda: "secret")
        app.include_router(router)
        headers = {"Authorization": f"Bearer {cluster.tokens['admin']}"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://controller") as api:
            with pytest.raises(LookupError, match=r"GET /v1/secrets is not in the table"):
                await api.get("/v1/secrets", headers=headers)


async def test_a_token_lives_from_its_making_to_its_revocation(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as cluster:
        admin = {"Authorization": f"Bearer {cluster.tokens['admin']}"}
        body = {"kind": "access", "name": "anna", "role": "operator", "ttl": 3600}
        made = await cluster.api.post("/v1/tokens", json=body, headers=admin)
        assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
        anna = {"Authorization": f"Bearer {made.json()['token']}"}
        me = (await cluster.api.get("/v1/whoami", headers=anna)).json()
        assert (me["name"], me["role"], me["host"], me["token"]) == ("anna", "operator", None, made.json()["id"])
        assert me["expires"] == made.json()["created"] + 3600
        listed = (await cluster.api.get("/v1/tokens", headers=admin)).json()["items"]
        assert {"anna", "the admin", "h1"} <= {item["name"] for item in listed}
        assert {item["by"] for item in listed} == {"root", "the admin"}
        place = f"/v1/tokens/{made.json()['id']}"
        assert (await cluster.api.get(place, headers=admin)).json()["name"] == "anna"
        everything = (await cluster.api.get("/v1/tokens", headers=admin)).text
        assert "digest" not in everything
        assert made.json()["token"] not in everything
        assert (await cluster.api.delete(place, headers=admin)).status_code == 204
        assert_problem(await cluster.api.get("/v1/whoami", headers=anna), 401, "unauthenticated", None)
        assert_problem(await cluster.api.delete(place, headers=admin), 404, "not-found", "token")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "access"}, "name"),
        ({"kind": "access", "name": "anna"}, "role"),
        ({"kind": "access", "name": "anna", "role": "host"}, "role"),
        ({"kind": "access", "name": "anna", "role": "viewer", "host": "h1"}, "host"),
        ({"kind": "access", "name": "anna", "role": "viewer", "ttl": 0}, "ttl"),
        ({"kind": "access", "name": "a\nb", "role": "viewer"}, "name"),
        ({"kind": "join", "name": "anna"}, "name"),
        ({"kind": "join", "role": "admin"}, "role"),
        ({"kind": "join", "host": "../h1"}, "host"),
        ({"kind": "join", "ttl": 10**9}, "ttl"),
        ({"kind": "other"}, "kind"),
        ({}, "kind"),
    ],
)
async def test_a_bad_token_is_not_made(tmp_path: Path, body: dict[str, object], field: str) -> None:
    async with a_cluster(tmp_path) as cluster:
        before = len(cluster.overlay.tokens.all())
        headers = {"Authorization": f"Bearer {cluster.tokens['admin']}"}
        assert_problem(await cluster.api.post("/v1/tokens", json=body, headers=headers), 422, "invalid-value", field)
        assert len(cluster.overlay.tokens.all()) == before


async def test_a_join_over_http(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as cluster:
        admin = {"Authorization": f"Bearer {cluster.tokens['admin']}"}
        text = (await cluster.api.post("/v1/tokens", json={"kind": "join"}, headers=admin)).json()["token"]
        as_bearer = await cluster.api.get("/v1/networks", headers={"Authorization": f"Bearer {text}"})
        assert_problem(as_bearer, 401, "unauthenticated", None)
        taken = await cluster.api.post("/v1/join", json={"token": text, "host": "h1"})
        assert_problem(taken, 409, "already-exists", "host")
        made = await cluster.api.post("/v1/join", json={"token": text, "host": "h3"})
        assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
        me = await cluster.api.get("/v1/whoami", headers={"Authorization": f"Bearer {made.json()['token']}"})
        assert (me.json()["role"], me.json()["host"]) == ("host", "h3")
        again = await cluster.api.post("/v1/join", json={"token": text, "host": "h4"})
        assert_problem(again, 401, "unauthenticated", None)
        assert text not in again.text
        for token in ("", "nonsense", cluster.tokens["admin"]):
            refused = await cluster.api.post("/v1/join", json={"token": token, "host": "h4"})
            assert_problem(refused, 401, "unauthenticated", None)


async def test_errors_come_back_as_they_were_raised(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as cluster:
        for token, route, kind in (
            (None, "GET /v1/networks", "Unauthenticated"),
            (cluster.tokens["viewer"], "POST /v1/networks", "Forbidden"),
        ):
            answer = await cluster.ask(route, token)
            assert type(problem.decode(answer.status_code, answer.content)).__name__ == kind


def test_permissions_that_are_about_a_host_say_where_it_is_named() -> None:
    about_hosts = {Permission.ACT_AS_HOST, Permission.CLAIM_RESERVATIONS}
    assert all((need.permission in about_hosts) == (need.host is not None) for need in NEEDS.values())
