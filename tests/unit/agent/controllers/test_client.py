"""Calls to a controller: what they say, and what their failures mean."""

import asyncio
import ssl
from contextlib import aclosing
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from controller.identity.authority import Authority
from overlayd.agent.controllers.client import PART_MAX, ControllerClient, Controllers
from overlayd.agent.controllers.credential import Credential
from overlayd.agent.controllers.problem import Problem
from overlayd.model.address import Family
from overlayd.model.cluster import Cluster
from overlayd.model.errors import AlreadyExists, Exhausted, InvalidValue, NotFound, OverlayError, Unavailable
from overlayd.model.ids import NetworkName, Revision
from overlayd.wire.credentials import AccessToken, TokenId
from overlayd.wire.feed import InSync
from overlayd.wire.fields import Json
from tests.support.agents.loopback import (
    IDENTITY,
    Answer,
    Request,
    Server,
    answer,
    client_of,
    controller,
    problem,
    unused_url,
)
from tests.support.controllers import clusters

pytestmark = pytest.mark.anyio

WEB = clusters.endpoint(1, "web", "10.32.0.2")
WEB_FORM: Json = {
    "network": "blue",
    "container_id": "web",
    "interface": "eth0",
    "host": "host-1",
    "addresses": ["10.32.0.2"],
    "mac": "02:00:0a:20:00:02",
    "sandbox": "/run/netns/web",
    "pod": None,
    "labels": {},
    "aliases": [],
    "runtime": "",
    "workload": "",
    "shares": [],
}
BLOCK_FORM: Json = {"network": "blue", "cidr": "10.32.0.0/24", "host": "host-1"}


def always(server: Server, reply: Answer) -> None:
    server.respond = lambda _: reply


async def test_a_host_is_registered_with_name_address_and_instance() -> None:
    async with controller() as server, client_of(server) as client:
        assert (await client.register("node-1", IPv4Address("192.0.2.1"), Cluster())).host == clusters.host(1)
        body: Json = {"name": "node-1", "address": "192.0.2.1", "instance": "instance-1"}
        assert server.requests.get_nowait() == Request("PUT", "/v1/hosts/host-1", {}, body)


async def test_a_token_never_travels_without_tls() -> None:
    credential = Credential((), AccessToken(TokenId("0" * 12), "0" * 40), None)
    async with controller() as server:
        client = ControllerClient(Controllers([server.url]), IDENTITY, credential)
        await client.register("node-1", IPv4Address("192.0.2.1"), Cluster())
        await client.close()
        assert server.requests.qsize() == 1
        assert server.shown == []


async def test_a_server_that_does_not_prove_to_be_a_controller_is_asked_for_nothing(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    ours, other = Authority.create(now), Authority.create(now)
    issued = other.issue([], [], now)
    (tmp_path / "own.pem").write_text(issued.key + issued.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem")
    served = Server()
    async with await asyncio.start_server(served.serve, "127.0.0.1", 0, ssl=context) as listener:
        url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        token = AccessToken(TokenId("0" * 12), "0" * 40)
        for authority, is_trusted in ((ours, False), (other, True)):
            client = ControllerClient(Controllers([url]), IDENTITY, Credential((), token, authority.certificate))
            if is_trusted:
                await client.register("node-1", IPv4Address("192.0.2.1"), Cluster())
            else:
                with pytest.raises(Unavailable, match="certificate verify failed"):
                    await client.register("node-1", IPv4Address("192.0.2.1"), Cluster())
                assert served.shown == []
            await client.close()
        assert served.shown == [f"Bearer {token.text}"]


async def test_a_block_is_asked_for_and_given_back() -> None:
    async with controller() as server, client_of(server) as client:
        always(server, answer(BLOCK_FORM))
        block = await client.acquire_block(NetworkName("blue"), [IPv4Network("10.32.9.0/24")], Family.V4)
        assert block == clusters.block(1, "10.32.0.0/24")
        body: Json = {"host": "host-1", "family": 4, "held": ["10.32.9.0/24"]}
        assert server.requests.get_nowait() == Request("POST", "/v1/networks/blue/blocks", {}, body)
        await client.release_block(block)
        path = "/v1/networks/blue/blocks/10.32.0.0/24"
        assert server.requests.get_nowait() == Request("DELETE", path, {"host": "host-1"}, None)


async def test_endpoints_are_published_by_difference_or_as_a_whole() -> None:
    async with controller() as server, client_of(server) as client:
        always(server, Answer(204, b""))
        await client.publish([WEB], [WEB.key])
        key: Json = {"network": "blue", "container_id": "web", "interface": "eth0"}
        changes: Json = {"puts": [WEB_FORM], "deletes": [key]}
        assert server.requests.get_nowait() == Request("POST", "/v1/hosts/host-1/endpoints", {}, changes)
        await client.replace_endpoints([WEB])
        whole: Json = {"endpoints": [WEB_FORM]}
        assert server.requests.get_nowait() == Request("PUT", "/v1/hosts/host-1/endpoints", {}, whole)


async def test_a_report_has_revision_and_problems() -> None:
    async with controller() as server, client_of(server) as client:
        always(server, Answer(204, b""))
        await client.report(Revision(7), [Problem("network blue", "no such device", NetworkName("blue"))])
        problems: list[Json] = [{"object": "network blue", "message": "no such device", "network": "blue"}]
        body: Json = {"instance": "instance-1", "revision": 7, "problems": problems}
        assert server.requests.get_nowait() == Request("POST", "/v1/hosts/host-1/report", {}, body)


@pytest.mark.parametrize(
    ("reply", "error", "detail"),
    [
        (problem(404, "not-found", "no such network"), NotFound, "no such network"),
        (problem(409, "exhausted", "no block is left"), Exhausted, "no block is left"),
        (problem(409, "already-exists", "another host has it"), AlreadyExists, "another host has it"),
        (problem(503, "unavailable", "no quorum"), Unavailable, "no quorum"),
        (Answer(502, b"<html>"), Unavailable, "502"),
        (Answer(302, b""), Unavailable, "302"),
        (Answer(200, b"<html>"), Unavailable, "without JSON"),
        (Answer(200, b"[" * 100_000), Unavailable, "without JSON"),
        (Answer(200, b"[]"), InvalidValue, "expected an object"),
        (Answer(200, b""), InvalidValue, "is required"),
        (answer({"network": "blue", "cidr": "10.32.0.5/24", "host": "host-1"}), InvalidValue, "has host bits set"),
    ],
)
async def test_a_failure_is_the_error_that_the_controller_raised(
    reply: Answer, error: type[OverlayError], detail: str
) -> None:
    async with controller() as server, client_of(server) as client:
        always(server, reply)
        with pytest.raises(error, match=detail):
            await client.acquire_block(NetworkName("blue"), [], Family.V4)


async def test_a_controller_that_cannot_be_reached_is_passed_over_from_then_on() -> None:
    controllers = Controllers([await unused_url()])
    async with controller() as server:
        controllers = Controllers([*controllers.order, server.url])
        client = ControllerClient(controllers, IDENTITY, None)
        assert (await client.register("node-1", IPv4Address("192.0.2.1"), Cluster())).host == clusters.host(1)
        assert controllers.current == server.url
        await client.close()


@pytest.mark.parametrize("reply", [problem(503, "unavailable", "no quorum"), Answer(502, b"<html>")])
async def test_a_controller_that_cannot_do_it_now_is_passed_over(reply: Answer) -> None:
    async with controller() as first, controller() as second, client_of(first, second) as client:
        always(first, reply)
        assert (await client.register("node-1", IPv4Address("192.0.2.1"), Cluster())).host == clusters.host(1)
        assert first.requests.qsize() == second.requests.qsize() == 1


async def test_a_refusal_is_the_last_word_of_every_controller() -> None:
    async with controller() as first, controller() as second, client_of(first, second) as client:
        always(first, problem(409, "already-exists", "another host has it"))
        with pytest.raises(AlreadyExists):
            await client.register("node-1", IPv4Address("192.0.2.1"), Cluster())
        assert second.requests.empty()


async def test_a_report_goes_to_who_sends_the_feed_and_to_nobody_else() -> None:
    async with controller() as first, controller() as second:
        controllers = Controllers([first.url, second.url])
        client = ControllerClient(controllers, IDENTITY, None)
        always(second, Answer(204, b""))
        async with aclosing(client.feed(None)) as messages:
            said = asyncio.ensure_future(anext(messages))
            await (await first.feeds.get()).send(InSync(Revision(7)))
            await said
            controllers.leave(first.url)  # as another call does
            always(first, problem(503, "unavailable", "no quorum"))
            with pytest.raises(Unavailable):
                await client.report(Revision(7), [])
            assert second.requests.empty()
        await client.close()


async def test_when_none_can_do_it_every_one_is_named() -> None:
    async with controller() as server:
        always(server, problem(503, "unavailable", "no quorum"))
        urls = [await unused_url(), server.url]
        async with client_of(*urls) as client:
            with pytest.raises(Unavailable, match="no controller can do it now") as caught:
                await client.register("node-1", IPv4Address("192.0.2.1"), Cluster())
    assert all(text in str(caught.value) for text in (*urls, "no quorum"))


async def test_parts_go_to_the_controller_that_began_the_set_although_another_task_leaves_it_meanwhile() -> None:
    many = [clusters.endpoint(1, f"c{number}", f"10.32.{number >> 8}.{number & 255}") for number in range(PART_MAX + 1)]
    async with controller() as first, controller() as second:
        controllers = Controllers([first.url, second.url])

        def begun(request: Request) -> Answer:
            if request.path.endswith("/endpoint-sets"):
                controllers.leave(first.url)
                return answer({"set": "s1"})
            return answer({"revision": 7})

        first.respond = begun
        client = ControllerClient(controllers, IDENTITY, None)
        assert await client.replace_endpoints(many) == {}
        await client.close()
        asked = [first.requests.get_nowait().path.rpartition("/")[2] for _ in range(first.requests.qsize())]
        assert asked == ["endpoint-sets", "0", "1", "publish"]
        assert second.requests.empty()
