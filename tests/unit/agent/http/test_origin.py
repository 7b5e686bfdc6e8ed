"""What a URL says of a server."""

import pytest

from overlayd.agent.http.fault import HttpFault
from overlayd.agent.http.origin import HttpOrigin


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://10.0.0.1:7471", HttpOrigin("10.0.0.1", 7471, is_secure=False, authority="10.0.0.1:7471")),
        ("https://10.0.0.1", HttpOrigin("10.0.0.1", 443, is_secure=True, authority="10.0.0.1")),
        ("https://a.example:443/", HttpOrigin("a.example", 443, is_secure=True, authority="a.example")),
        ("http://a.example:443/", HttpOrigin("a.example", 443, is_secure=False, authority="a.example:443")),
        ("http://[fd00::1]:7471", HttpOrigin("fd00::1", 7471, is_secure=False, authority="[fd00::1]:7471")),
        ("https://[fd00::1]", HttpOrigin("fd00::1", 443, is_secure=True, authority="[fd00::1]")),
        ("http://[fe80::1%eth0]", HttpOrigin("fe80::1%eth0", 80, is_secure=False, authority="[fe80::1]")),
        ("http://bücher.example", HttpOrigin("bücher.example", 80, is_secure=False, authority="xn--bcher-kva.example")),
        ("http://name:secret@a.example", HttpOrigin("a.example", 80, is_secure=False, authority="a.example")),
    ],
)
def test_a_url_names_a_server(url: str, origin: HttpOrigin) -> None:
    assert HttpOrigin.of(url) == origin


@pytest.mark.parametrize("url", ["", "http://", "ftp://a.example", "http://a:x", "http://[::1", f"http://{'ü' * 80}"])
def test_what_names_no_server_is_refused(url: str) -> None:
    with pytest.raises(HttpFault, match="is not a URL"):
        HttpOrigin.of(url)


@pytest.mark.parametrize(("host", "is_literal"), [("10.0.0.1", True), ("fd00::1", True), ("a.example", False)])
def test_an_address_needs_no_look_up(host: str, is_literal: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert HttpOrigin(host, 80, is_secure=False, authority=host).is_literal is is_literal
