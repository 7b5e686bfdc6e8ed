"""Problem documents (RFC 9457) become the error that the controller raised."""

import json

import pytest

from overlayd.model.errors import (
    ERRORS_BY_CODE,
    Forbidden,
    InUse,
    InvalidValue,
    NotFound,
    OverlayError,
    Unauthenticated,
    Unavailable,
)
from overlayd.wire import problem


@pytest.mark.parametrize(("code", "kind"), ERRORS_BY_CODE.items())
def test_an_error_comes_back_as_it_was_raised(code: str, kind: type[OverlayError]) -> None:
    body = json.dumps({"code": code, "detail": "is wrong", "field": "pools[0].range", "status": kind.status})
    error = problem.decode(kind.status, body.encode())
    assert (type(error), error.detail, error.field) == (kind, "is wrong", "pools[0].range")


def test_an_error_without_a_field_has_none() -> None:
    error = problem.decode(409, b'{"code": "in-use", "detail": "has blocks"}')
    assert (str(error), error.field) == ("has blocks", None)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidValue),
        (401, Unauthenticated),
        (403, Forbidden),
        (404, NotFound),
        (405, InvalidValue),
        (408, Unavailable),
        (409, InUse),
        (413, InvalidValue),
        (418, InvalidValue),
        (425, Unavailable),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
def test_a_code_that_this_version_does_not_know_is_judged_by_its_status(status: int, kind: type[OverlayError]) -> None:
    error = problem.decode(status, b'{"code": "teapot", "detail": "short and stout"}')
    assert (type(error), error.detail) == (kind, "short and stout")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff", b"{}", b'{"code": 5}', b"[" * 100_000])
def test_a_body_that_tells_nothing_gives_the_status(body: bytes) -> None:
    error = problem.decode(502, body)
    assert isinstance(error, Unavailable)
    assert "status 502" in str(error)
