"""What a host says that it uses when the controllers' store was restored, and what it keeps of what is lost."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import pytest

from overlayd.agent.controllers.claims import OTHERS_MAX, Claims, kept, statement
from overlayd.model.cluster import Cluster
from overlayd.model.ids import HostId, NetworkName, ReservationName, Revision
from overlayd.model.lineage import Lineage, Statement
from overlayd.model.reservation import Holder, Reservation
from overlayd.wire.feed import InSync, Snapshot
from overlayd.wire.fields import Fields, Json
from overlayd.wire.statement import decode, encode
from tests.support.agents.loopback import (
    IDENTITY,
    Answer,
    Request,
    Server,
    answer,
    client_of,
    controller,
    following,
    in_sync,
    problem,
    registered,
    request_to,
    running,
)
from tests.support.controllers import clusters

pytestmark = pytest.mark.anyio

BEFORE = Lineage("c" * 16, "0" * 16)
AFTER = replace(BEFORE, course="1" * 16)
BLUE = clusters.network()
MINE, THEIRS = clusters.block(1, "10.32.1.0/24"), clusters.block(2, "10.32.2.0/24")
KNOWN = replace(
    Cluster().changed(Revision(9), [clusters.host(1), clusters.host(2), BLUE, MINE, THEIRS]), lineage=BEFORE
)
WEB = clusters.endpoint(1, "web", "10.32.1.7")
STATEMENT = f"/v1/hosts/{IDENTITY.id}/statement"


def of_lineage(lineage: Lineage, *, settled: bool) -> Callable[[Request], Answer | None]:
    """Return how a controller answers whose store has a lineage."""

    def respond(request: Request) -> Answer | None:
        if request.path == STATEMENT:
            return answer({"disputes": [], "revision": 1})
        host = clusters.host(1)
        body: dict[str, Json] = {"id": host.id, "number": host.number, "name": host.name, "address": str(host.address)}
        is_registration = registered(request) is not None
        return answer({**body, "lineage": str(lineage), "settled": settled}) if is_registration else None

    return respond


def test_a_host_says_what_it_has_and_what_others_have() -> None:
    outside = clusters.endpoint(1, "old", "10.32.9.9")
    holder = clusters.endpoint(1, "held", "10.32.200.1")
    held = Reservation(BLUE.name, ReservationName("held"), holder.addresses, holder=Holder.of(holder.key))
    free = Reservation(BLUE.name, ReservationName("free"), (ip_address("10.32.200.2"),))
    known = KNOWN.changed(Revision(9), [held, free])
    said = statement(IDENTITY.id, known, Cluster(), [WEB, outside, holder])
    assert (said.knew, said.revision, said.vnis) == (BEFORE, 9, ((BLUE.name, BLUE.vni),))
    assert said.blocks == (MINE, THEIRS)
    assert said.addresses == ((BLUE.name, outside.addresses[0]),)
    assert said.reservations == (held,)
    assert decode(Fields(encode(said))) == said


def test_blocks_of_others_are_named_as_far_as_a_request_has_room() -> None:
    many = [clusters.block(2, f"10.{n >> 8}.{n & 255}.0/24") for n in range(OTHERS_MAX + 100)]
    said = statement(IDENTITY.id, KNOWN.changed(Revision(9), many), Cluster(), [])
    assert said.blocks[0] == MINE
    assert len(said.blocks) == OTHERS_MAX + 1


def test_hosts_that_have_room_for_some_blocks_each_name_all_of_them_together() -> None:
    each = OTHERS_MAX // 5
    many = [clusters.block(10 + n // each, f"10.{n >> 8}.{n & 255}.0/24") for n in range(2 * OTHERS_MAX)]
    known = Cluster().changed(Revision(9), [BLUE, *many])
    said = (statement(HostId(name), known, Cluster(), []) for name in ("host-1", "host-15"))
    assert {block for one in said for block in one.blocks} == {*many}


def test_what_containers_have_of_a_lost_network_is_kept_as_long_as_they_have_it() -> None:
    lost = kept(IDENTITY.id, (KNOWN, Cluster()), Cluster(Revision(3)), [WEB])
    assert {*lost.records} == {BLUE, MINE}
    assert kept(IDENTITY.id, (Cluster(), lost), Cluster(Revision(4)), [WEB]).records == lost.records
    assert kept(IDENTITY.id, (lost,), Cluster(Revision(4)), []).records == ()
    assert kept(IDENTITY.id, (lost,), KNOWN, [WEB]).records == ()
    again = statement(IDENTITY.id, replace(Cluster(Revision(4)), lineage=AFTER), lost, [WEB])
    assert (again.knew, again.blocks, again.vnis) == (AFTER, (MINE,), ((BLUE.name, BLUE.vni),))


@pytest.mark.parametrize(
    ("now", "settled", "speaks"), [(AFTER, True, True), (BEFORE, True, False), (BEFORE, False, True)]
)
async def test_a_host_speaks_before_it_follows_a_feed_of_another_lineage(
    now: Lineage, *, settled: bool, speaks: bool
) -> None:
    async with controller() as server:
        server.respond = of_lineage(now, settled=settled)
        async with following(server, cached=KNOWN) as feed:
            stream = await server.feeds.get()
            registration = server.requests.get_nowait()
            assert isinstance(registration.body, dict)
            assert (registration.body["lineage"], registration.body["revision"]) == (str(BEFORE), 9)
            assert registration.body["number"] == 1
            assert (server.requests.qsize() == 1) is speaks
            assert (stream.query["after"], stream.query["lineage"]) == ("9", str(BEFORE))
            await stream.send(Snapshot(Revision(4), (clusters.host(1),)), InSync(Revision(4), lineage=now))
            assert (await in_sync(feed)).lineage == now


@pytest.mark.parametrize(
    ("status", "code", "field", "told"),
    [
        (422, "invalid-value", "blocks[0]", "blocks[0]: there is no such block"),
        (413, "too-large", None, "there is no such block"),  # a code of no error of ours
    ],
)
async def test_a_statement_that_is_refused_for_good_keeps_no_host_from_the_feed(
    status: int, code: str, field: str | None, told: str
) -> None:
    async with controller() as server:
        usual = of_lineage(AFTER, settled=True)
        refusal = problem(status, code, "there is no such block", field)
        server.respond = lambda request: refusal if request.path == STATEMENT else usual(request)
        async with following(server, cached=KNOWN) as feed:
            stream = await server.feeds.get()
            await stream.send(Snapshot(Revision(4), (clusters.host(1),)), InSync(Revision(4), lineage=AFTER))
            assert (await in_sync(feed)).lineage == AFTER
            (reported,) = feed.claims.problems
            assert told in reported.message
            server.respond = usual
            seen = feed.claims.changes.count
            async with running(feed.claims.run(lambda: feed.cluster, feed.changes)):
                await feed.claims.changes.wait(seen)
            assert feed.claims.problems == (), "it is repeated, and accepted then"


async def test_a_statement_that_no_controller_can_take_now_comes_before_the_feed() -> None:
    async with controller() as server:
        usual = of_lineage(AFTER, settled=True)
        refusals = [problem(503, "unavailable", "no quorum")]

        def respond(request: Request) -> Answer | None:
            return refusals.pop() if request.path == STATEMENT and refusals else usual(request)

        server.respond = respond
        async with following(server, cached=KNOWN):
            await server.feeds.get()
            asked = [server.requests.get_nowait().path for _ in range(server.requests.qsize())]
            assert asked.count(STATEMENT) == 2


async def test_a_controller_that_is_older_than_lineages_is_asked_as_before() -> None:
    async with controller() as server, following(server, cached=replace(KNOWN, lineage=None)) as feed:
        stream = await server.feeds.get()
        assert server.requests.get_nowait().body == {
            "name": "node-1",
            "address": "192.0.2.1",
            "instance": IDENTITY.instance,
        }
        assert (stream.query["after"], stream.query.get("lineage")) == ("9", None)
        await stream.send(InSync(Revision(9)))
        assert (await in_sync(feed)).lineage is None


async def test_a_lineage_is_remembered_while_an_older_controller_tells_of_none() -> None:
    async with controller() as server, following(server, cached=KNOWN) as feed:
        await (await server.feeds.get()).send(InSync(Revision(9)))
        assert (await in_sync(feed)).lineage == BEFORE


async def test_what_is_lost_is_saved_and_said_again() -> None:
    saved: list[Cluster] = []
    async with controller() as server, client_of(server) as client:
        server.respond = of_lineage(AFTER, settled=True)
        claims = Claims(client, lambda: [WEB], Cluster(), saved.append)
        claims.note(KNOWN, replace(Cluster(Revision(4)), lineage=AFTER))
        assert {*saved[-1].records} == {BLUE, MINE}
        assert NetworkName("blue") in saved[-1].networks
        await claims.compare(await client.register("node-1", clusters.host(1).address, KNOWN), KNOWN)
        said = await said_to(server)
        assert said.blocks == (MINE, THEIRS)


async def said_to(server: Server) -> Statement:
    return decode(Fields((await request_to(server, "PUT", STATEMENT)).body))
