"""Feed messages: their lines, and that a malformed line is refused with the path of the fault."""

import json

import pytest

from overlayd.model.cluster import RecordKey
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import Revision
from overlayd.model.lineage import Lineage
from overlayd.wire.feed import Bookmark, Delta, FeedMessage, InSync, Snapshot, decode_line, encode_line
from overlayd.wire.fields import Json
from tests.support.controllers import clusters

HOST = clusters.host(7)
HOST_FORM: dict[str, Json] = {
    "kind": "host",
    "id": "host-7",
    "number": 7,
    "name": "node-7",
    "address": "192.0.2.7",
    "state": "active",
}
LINES: list[tuple[FeedMessage, dict[str, Json]]] = [
    (Snapshot(Revision(5), (HOST,)), {"revision": 5, "type": "snapshot", "puts": [HOST_FORM]}),
    (Snapshot(Revision(5), ()), {"revision": 5, "type": "snapshot", "puts": []}),
    (
        Delta(Revision(6), (HOST,), (RecordKey.of(clusters.network()),)),
        {"revision": 6, "type": "delta", "puts": [HOST_FORM], "deletes": [{"kind": "network", "key": "blue"}]},
    ),
    (InSync(Revision(7)), {"revision": 7, "type": "in-sync", "version": 2}),
    (InSync(Revision(7), 1), {"revision": 7, "type": "in-sync", "version": 1}),
    (
        InSync(Revision(7), 2, Lineage("0123456789abcdef", "fedcba9876543210")),
        {"revision": 7, "type": "in-sync", "version": 2, "lineage": "0123456789abcdef.fedcba9876543210"},
    ),
    (Bookmark(Revision(8)), {"revision": 8, "type": "bookmark"}),
    (Bookmark(Revision(8), stale=True), {"revision": 8, "type": "bookmark", "stale": True}),
]


@pytest.mark.parametrize(("message", "form"), LINES)
def test_a_message_is_one_line_of_json(message: FeedMessage, form: dict[str, Json]) -> None:
    line = encode_line(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert b" " not in line
    assert json.loads(line) == form
    assert decode_line(line) == message


@pytest.mark.parametrize(("message", "form"), LINES)
def test_unknown_fields_are_ignored(message: FeedMessage, form: dict[str, Json]) -> None:
    assert decode_line(json.dumps({**form, "later": True}).encode()) == message


def test_a_controller_that_names_no_version_speaks_the_first() -> None:
    assert decode_line(b'{"revision": 7, "type": "in-sync"}') == InSync(Revision(7), 1)


def test_a_name_with_line_ends_in_it_stays_on_its_line() -> None:
    # httpx splits lines at every character that str.splitlines knows.
    line = encode_line(Snapshot(Revision(1), (clusters.endpoint(1, "web", "10.32.0.5"),)))
    strange = decode_line(line.replace(b"/run/netns/web", b"/run/\\u2028\\u0085\\u000b"))
    assert len(encode_line(strange).decode().splitlines()) == 1


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"[" * 100_000, b"9" * 5000, b'{"revision":1'],
)
def test_a_line_that_is_no_json_object_is_refused(line: bytes) -> None:
    with pytest.raises(InvalidValue) as caught:
        decode_line(line)
    assert caught.value.field is None
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("form", "path"),
    [
        ({}, "revision"),
        ({"revision": "5", "type": "in-sync"}, "revision"),
        ({"revision": 5}, "type"),
        ({"revision": 5, "type": "tunnel"}, "type"),
        ({"revision": 5, "type": "snapshot"}, "puts"),
        ({"revision": 5, "type": "snapshot", "puts": {}}, "puts"),
        ({"revision": 5, "type": "snapshot", "puts": [HOST_FORM, 5]}, "puts[1]"),
        ({"revision": 5, "type": "snapshot", "puts": [{**HOST_FORM, "address": "x"}]}, "puts[0].address"),
        ({"revision": 5, "type": "snapshot", "puts": [{**HOST_FORM, "number": 0}]}, "puts[0].number"),
        ({"revision": 5, "type": "delta", "puts": []}, "deletes"),
        ({"revision": 5, "type": "delta", "puts": [], "deletes": [{"kind": "host"}]}, "deletes[0].key"),
    ],
)
def test_a_malformed_message_is_refused_with_the_path(form: dict[str, Json], path: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        decode_line(json.dumps(form).encode())
    assert caught.value.field == path
