"""What goes between launcher and agent, and the version in which a broken request is answered."""

import pytest

from overlayd.wire.cni import requests as cni
from overlayd.wire.cni.error import CniError, Code


def nested(depth: int, before: str = "") -> bytes:
    """Return a config of version 1.0.0 that is nested so deeply, in objects and lists by turns."""
    kinds = [('{"a":', "}"), ("[", "]")]
    opened = "".join(kinds[level % 2][0] for level in range(depth - 1))
    closed = "".join(kinds[level % 2][1] for level in reversed(range(depth - 1)))
    return f'{{"cniVersion": "1.0.0", {before} "a": {opened}0{closed}}}'.encode()


WIDE = f'"list": [{"[]," * 300}{{}}],'


@pytest.mark.parametrize(
    ("frame", "environment", "stdin"),
    [
        (b"CNI_COMMAND=ADD\0CNI_NETNS=\0\0{}", {"CNI_COMMAND": "ADD", "CNI_NETNS": ""}, b"{}"),
        (b"CNI_ARGS=IP=10.0.0.5;MAC=\0\0", {"CNI_ARGS": "IP=10.0.0.5;MAC="}, b""),
        (b"A=1\0\0{\0\0}", {"A": "1"}, b"{\0\0}"),
        (b"\0{}", {}, b"{}"),
        (b"\0{\0\0}", {}, b"{\0\0}"),
        (b"A=\xff\0\0{}", {"A": "\ufffd"}, b"{}"),
    ],
)
def test_a_frame_is_variables_and_stdin(frame: bytes, environment: dict[str, str], stdin: bytes) -> None:
    assert cni.unpack(frame) == (environment, stdin)


@pytest.mark.parametrize("frame", [b"", b"CNI_COMMAND=ADD", b"CNI_COMMAND=ADD\0"])
def test_a_frame_that_is_cut_short_is_refused(frame: bytes) -> None:
    with pytest.raises(CniError, match=r"^the request from the launcher is incomplete$") as caught:
        cni.unpack(frame)
    assert caught.value.code is Code.IO_FAILURE


@pytest.mark.parametrize(
    ("stdin", "version"),
    [
        (b'{"cniVersion": "1.0.0"}', "1.0.0"),
        (b'{"cniVersion": "9.9.9"}', "0.1.0"),
        (b'{"cniVersion": 1}', "0.1.0"),
        (b"{}", "0.1.0"),
        (b"[]", "0.1.0"),
        (b"", "0.1.0"),
        (b"\xff", "0.1.0"),
        (b"[" * 100_000, "0.1.0"),
        (b'{"cniVersion": "1.0.0", "number": ' + b"9" * 5000 + b"}", "1.0.0"),
        (nested(200), "1.0.0"),
        (nested(201), "0.1.0"),
        (nested(200, WIDE), "1.0.0"),
        (nested(201, WIDE), "0.1.0"),
        (b'{"cniVersion": "1.0.0", "text": "' + b"]" * 300 + b'"}', "1.0.0"),
        (b'{"cniVersion": "1.0.0", "text": "' + b"[" * 300 + b'"}', "1.0.0"),
        (nested(201, f'"text": "{"]" * 300}",'), "0.1.0"),
        (nested(200, f'"text": "{"[" * 300}",'), "1.0.0"),
        (nested(100_000, f'"text": "{"]" * 100_000}",'), "0.1.0"),
        (nested(100_000, rf'"text": "\"{"]" * 100_000}",'), "0.1.0"),
        (nested(100_000, r'"text": "\\",'), "0.1.0"),
    ],
)
def test_a_request_is_answered_in_its_own_version_if_that_can_be_read_and_is_supported(
    stdin: bytes, version: str
) -> None:
    assert cni.version_of(stdin) == version
