"""What is written on a container's interface says whose it is, as far as it fits."""

from dataclasses import replace

import pytest

from overlayd.dataplane.link_alias import SIZE_MAX, alias, parse
from overlayd.model.ids import ContainerId, InterfaceName, NetworkName
from tests.support.controllers.clusters import endpoint

WEB = endpoint(1, "web", "10.32.0.2,fd00:32::2")
TEXT = "overlayd blue web eth0 02:00:0a:20:00:02 10.32.0.2,fd00:32::2 /run/netns/web"


def test_it_says_whose_the_interface_is() -> None:
    assert alias(WEB) == TEXT
    named = parse(TEXT)
    assert named
    assert (named.network, named.container_id, named.interface) == (WEB.network, WEB.container_id, WEB.interface)
    assert (named.addresses, named.mac, named.sandbox) == (WEB.addresses, WEB.mac, WEB.sandbox)


def test_a_path_may_have_spaces() -> None:
    named = parse(alias(replace(WEB, sandbox="/run/a b  c")))
    assert named
    assert named.sandbox == "/run/a b  c"


def test_a_path_that_does_not_fit_is_left_out() -> None:
    text = alias(replace(WEB, container_id=ContainerId("c" * 64), sandbox="/run/" + "é" * 80))
    assert len(text.encode()) <= SIZE_MAX
    named = parse(text)
    assert named
    assert (named.container_id, named.addresses, named.sandbox) == ("c" * 64, WEB.addresses, "")


@pytest.mark.parametrize(("more", "fits"), [(0, True), (1, False)])
def test_a_path_fits_up_to_the_last_byte(more: int, fits: bool) -> None:  # noqa: FBT001 - an expected value
    left = SIZE_MAX - len(alias(replace(WEB, sandbox="")).encode())
    path = "/" * (left + more)
    named = parse(alias(replace(WEB, sandbox=path)))
    assert named
    assert named.sandbox == (path if fits else "")


def test_a_key_that_does_not_fit_is_not_cut() -> None:
    longest = replace(
        WEB,
        network=NetworkName("n" * 63),
        container_id=ContainerId("c" * 128),
        interface=InterfaceName("i" * 15),
    )
    assert alias(longest) == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "uplink of rack 4",
        "overlayd",
        "overlayd blue web eth0 02:00:0a:20:00:02",
        TEXT.replace("blue", "-blue"),
        TEXT.replace("10.32.0.2", "10.32.0"),
        TEXT.replace("fd00:32::2", "10.32.0.3"),
        TEXT.replace("02:00:", "02:"),
        TEXT.replace("overlayd", "other"),
    ],
)
def test_what_others_wrote_says_nothing(text: str) -> None:
    assert parse(text) is None
