"""Responses from bytes: what is whole, what may follow, and that nothing else comes through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlayd.agent.http.fault import HttpFault
from overlayd.agent.http.response_reader import HEAD_MAX, ResponseReader

OK = b"HTTP/1.1 200 OK\r\n"


def read(*pieces: bytes, ends: bool = True) -> ResponseReader:
    reader = ResponseReader()
    for piece in pieces:
        reader.feed(piece)
    if ends:
        reader.end()
    return reader


@pytest.mark.parametrize(
    ("data", "status", "body", "may_follow"),
    [
        (OK + b"Content-Length: 2\r\n\r\n{}", 200, b"{}", True),
        (OK + b"content-length: 0\r\n\r\n", 200, b"", True),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;a=b\r\n}\r\n0\r\n\r\n", 200, b"{}", True),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nTrailer: 1\r\n\r\n", 200, b"{}", True),
        (OK + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}", 200, b"{}", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, b"{}", False),
        (OK + b"\r\n{}", 200, b"{}", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 304 -\r\nContent-Length: 7\r\n\r\n", 304, b"", True),
        (b"HTTP/1.1 503\r\nContent-Length: 0\r\n\r\n", 503, b"", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\n{}", 200, b"{}", True),
        (b"HTTP/1.1 103 -\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\n{}", 200, b"{}", True),
        (OK + b"Content-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n", 200, b"{}", False),
        (OK + b"Content-Length: 2\r\n\r\n{}rubbish", 200, b"{}", False),
        (OK + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}rubbish", 200, b"{}", False),
    ],
)
def test_a_response_is_whole_wherever_it_is_cut(data: bytes, status: int, body: bytes, *, may_follow: bool) -> None:
    for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
        reader = read(*pieces)
        assert reader.is_whole
        assert (reader.status, reader.take(), reader.may_follow) == (status, body, may_follow)


@pytest.mark.parametrize(
    "data",
    [
        b"rubbish",
        b"HTTP/7.1 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 99999999999999999999999\r\n\r\n",
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\n",
        OK + b"Header\x00: 1\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    ],
)
def test_what_is_no_response_is_refused(data: bytes) -> None:
    with pytest.raises(HttpFault, match="malformed"):
        read(data, ends=False)


@pytest.mark.parametrize(
    ("data", "is_unanswered"),
    [
        (b"", True),
        (b"HTTP/1.1 ", False),
        (OK, False),
        (OK + b"Content-Length: 2\r\n\r\n{", False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", False),
        (b"HTTP/1.1 100 Continue\r\n\r\n", False),
    ],
)
def test_what_ends_in_the_middle_is_not_whole(data: bytes, *, is_unanswered: bool) -> None:
    reader = read(*([data] if data else []), ends=False)
    with pytest.raises(HttpFault, match="closed the connection") as refused:
        reader.end()
    assert not reader.is_whole
    assert refused.value.is_unanswered is is_unanswered


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (OK, b"Header: x\r\n"),
        (OK + b"Header: ", b"x" * 64),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"extension" * 8),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"Trailer: x\r\n"),
    ],
)
def test_headers_without_end_are_refused(begin: bytes, more: bytes) -> None:
    reader = ResponseReader()
    reader.feed(begin)

    def feed() -> None:
        for _ in range(HEAD_MAX // len(more) + 1):
            reader.feed(more)

    with pytest.raises(HttpFault, match="bytes of headers"):
        feed()


PARTS = st.sampled_from(
    [
        OK,
        b"HTTP/1.1 100 Continue\r\n",
        b"HTTP/1.1 204 -\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"\r\n",
        b"5\r\nlines\r\n",
        b"0\r\n\r\n",
        b"lines",
    ]
)


@given(st.lists(PARTS | st.binary(max_size=8), max_size=12), st.data())
def test_any_bytes_read_the_same_however_they_are_cut(parts: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(parts)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)))))
    pieces = [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    def outcome(pieces: list[bytes]) -> tuple[bool, int, bytes, bool]:
        reader = ResponseReader()
        try:
            for piece in pieces:
                reader.feed(piece)
            reader.end()
        except HttpFault:
            return False, 0, b"", False
        return reader.is_whole, reader.status, reader.take(), reader.may_follow

    assert outcome(pieces) == outcome([whole])
