"""Requests over real connections: what is kept for the next one, what is sent again, and who may answer."""

import asyncio
import ssl
from contextlib import aclosing
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest

from controller.identity.authority import Authority
from overlayd.agent.http import http_client
from overlayd.agent.http.fault import HttpFault
from overlayd.agent.http.http_client import HttpRequest
from overlayd.agent.http.response_reader import HttpResponse
from tests.support.agents.raw_server import LONG, OK, Peer, answering, get, making, raw_server

pytestmark = pytest.mark.anyio


async def test_a_request_says_where_it_goes_and_what_it_brings() -> None:
    heads = list[bytes]()

    async def serve(peer: Peer) -> None:
        heads.append(await peer.request())
        await peer.say(OK)

    async with raw_server(serve) as server, making() as client:
        request = HttpRequest("PUT", server.url, "/v1/hosts/a?b=c", {"Authorization": "Bearer x"}, b"{}")
        assert await client.request(request, LONG) == HttpResponse(200, b"{}")
    first, *headers = heads[0].decode().split("\r\n")
    assert first == "PUT /v1/hosts/a?b=c HTTP/1.1"
    assert {"Authorization: Bearer x", "Content-Length: 2", "Content-Type: application/json"} < set(headers)
    assert f"Host: {server.url.removeprefix('http://')}" in headers


@pytest.mark.parametrize(("method", "says_so"), [("GET", False), ("DELETE", False), ("POST", True), ("PUT", True)])
async def test_a_request_without_content_says_so_where_some_is_expected(method: str, *, says_so: bool) -> None:
    heads = list[bytes]()

    async def serve(peer: Peer) -> None:
        heads.append(await peer.request())
        await peer.say(OK)

    async with raw_server(serve) as server, making() as client:
        await client.request(HttpRequest(method, server.url, "/"), LONG)
    assert (b"\r\nContent-Length: 0\r\n" in heads[0] + b"\r\n") == says_so


@pytest.mark.parametrize("target", ["/a b", "/a\r\nHost: b", "/\x00", "/ü"])
async def test_a_target_cannot_be_more_than_one(target: str) -> None:
    async with raw_server(answering) as server, making() as client:
        with pytest.raises(HttpFault, match="cannot be sent"):
            await client.request(get(server.url, target), LONG)
        assert server.peers == []


async def test_the_next_request_takes_the_same_connection() -> None:
    async with raw_server(answering) as server, making() as client:
        for _ in range(3):
            await client.request(get(server.url), LONG)
        assert len(server.peers) == 1


async def test_requests_at_the_same_time_take_a_connection_each() -> None:
    async with raw_server(answering) as server, making() as client:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(9):
                tasks.create_task(client.request(get(server.url), LONG))
        assert len(server.peers) == 9
        await client.request(get(server.url), LONG)
        assert len(server.peers) == 9


async def test_a_connection_without_requests_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "IDLE_MAX", 0.01)
    async with raw_server(answering) as server, making() as client:
        await client.request(get(server.url), LONG)
        await server.peers[0].ended.wait()
        await client.request(get(server.url), LONG)
        assert len(server.peers) == 2


async def test_a_connection_that_the_server_ends_is_not_used_again() -> None:
    async def once(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)

    async with raw_server(once) as server, making() as client:
        for _ in range(3):
            assert (await client.request(get(server.url), LONG)).is_success
        assert len(server.peers) == 3


async def test_a_request_that_crosses_with_the_end_of_its_connection_is_sent_once_more() -> None:
    async def one_too_few(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        await peer.request()

    async with raw_server(one_too_few, answering) as server, making() as client:
        for _ in range(2):
            assert (await client.request(get(server.url), LONG)).is_success
        assert len(server.peers) == 2


async def test_what_comes_without_a_request_answers_none() -> None:
    async def too_much(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
        await peer.gone()

    async with raw_server(too_much, answering) as server, making() as client:
        for _ in range(2):
            assert (await client.request(get(server.url), LONG)).body == b"{}"
            await server.peers[0].ended.wait()
        assert len(server.peers) == 2


async def test_a_cancelled_request_leaves_no_connection_behind() -> None:
    asked = asyncio.Event()

    async def silent(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.gone()

    async with raw_server(silent, answering) as server, making() as client:
        task = asyncio.create_task(client.request(get(server.url), LONG))
        await asked.wait()
        task.cancel()
        await server.peers[0].ended.wait()
        assert (await client.request(get(server.url), LONG)).is_success
        assert len(server.peers) == 2


async def test_after_a_renewal_every_connection_is_new() -> None:
    asked, released = asyncio.Event(), asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await released.wait()
        await peer.say(OK)
        await peer.gone()

    async with raw_server(answering, slow, answering) as server, making() as client:
        await client.request(get(server.url), LONG)
        client.renew()
        await server.peers[0].ended.wait()
        waiting = asyncio.create_task(client.request(get(server.url), LONG))
        await asked.wait()
        client.renew()
        released.set()
        assert (await waiting).is_success
        await server.peers[1].ended.wait()
        await client.request(get(server.url), LONG)
        assert len(server.peers) == 3


async def test_no_proxy_is_ever_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(answering) as server, raw_server(answering) as proxy, making() as client:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert (await client.request(get(server.url), LONG)).is_success
        assert (len(server.peers), len(proxy.peers)) == (1, 0)


async def test_an_ipv6_address_is_a_server_too() -> None:
    heads = list[bytes]()

    async def serve(peer: Peer) -> None:
        heads.append(await peer.request())
        await peer.say(OK)

    async with raw_server(serve, host="::1") as server, making() as client:
        assert (await client.request(get(server.url), LONG)).is_success
    assert f"Host: {server.url.removeprefix('http://')}".encode() in heads[0]


async def test_a_name_leads_to_any_of_its_addresses() -> None:
    async with raw_server(answering) as server, making() as client:  # localhost may be ::1 as well
        url = server.url.replace("127.0.0.1", "localhost")
        assert (await client.request(get(url), LONG)).is_success


@pytest.fixture
def authority() -> Authority:
    return Authority.create(datetime.now(UTC))


def server_context(authority: Authority, directory: Path, names: list[str], addresses: list[str]) -> ssl.SSLContext:
    issued = authority.issue(names, [ip_address(each) for each in addresses], datetime.now(UTC))
    (directory / "own.pem").write_text(issued.key + issued.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "own.pem")
    return context


@pytest.mark.parametrize(
    ("names", "addresses", "verified", "is_right"),
    [
        (["controllers.example"], [], "controllers.example", True),
        (["other.example"], ["127.0.0.1"], "controllers.example", False),
        ([], ["127.0.0.1"], None, True),
        (["controllers.example"], ["127.0.0.2"], None, False),
    ],
)
async def test_a_server_proves_the_name_or_the_address_of_its_url(  # noqa: PLR0913, PLR0917 - parameters of the test
    authority: Authority,
    tmp_path: Path,
    names: list[str],
    addresses: list[str],
    verified: str | None,
    is_right: bool,  # noqa: FBT001
) -> None:
    context = ssl.create_default_context(cadata=authority.certificate)
    serving = server_context(authority, tmp_path, names, addresses)
    async with raw_server(answering, context=serving) as server, making(context, verified) as client:
        if is_right:
            assert (await client.request(get(server.url), LONG)).is_success
            assert (await client.request(get(server.url), LONG)).is_success
            assert len(server.peers) == 1
        else:
            with pytest.raises(HttpFault, match="certificate verify failed"):
                await client.request(get(server.url), LONG)


async def test_a_large_request_goes_over_tls_as_a_whole(authority: Authority, tmp_path: Path) -> None:
    context = ssl.create_default_context(cadata=authority.certificate)
    serving = server_context(authority, tmp_path, [], ["127.0.0.1"])
    async with raw_server(answering, context=serving) as server, making(context) as client:
        request = HttpRequest("POST", server.url, "/", {}, bytes(3 << 20))
        for _ in range(2):
            assert (await client.request(request, LONG)).is_success
        assert len(server.peers) == 1


async def test_without_an_authority_no_certificate_is_taken(authority: Authority, tmp_path: Path) -> None:
    serving = server_context(authority, tmp_path, [], ["127.0.0.1"])
    async with raw_server(answering, context=serving) as server, making() as client:
        with pytest.raises(HttpFault, match="nothing to verify"):
            await client.request(get(server.url), LONG)


async def test_a_stream_takes_the_kept_connection_and_ends_it() -> None:
    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n")
        await peer.gone()

    async with raw_server(serve) as server, making() as client:
        await client.request(get(server.url), LONG)
        async with client.stream(get(server.url), LONG) as stream, aclosing(stream.lines(30.0)) as lines:
            assert (stream.status, await anext(lines)) == (200, b"one")
        await server.peers[0].ended.wait()
        assert len(server.peers) == 1
