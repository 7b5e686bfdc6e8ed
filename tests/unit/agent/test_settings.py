"""Settings refuse what cannot work before anything starts, and name the option."""

from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from cni import shim
from overlayd.agent.controllers.credential import Credential
from overlayd.agent.settings import NotJoined, Settings, UserGrant
from overlayd.model.errors import InvalidValue
from overlayd.wire.credentials import AccessToken, TokenId

CREDENTIAL = Credential((), AccessToken(TokenId("a" * 12), "b" * 40), None)
SETTINGS = Settings(("http://10.0.0.1:7471",), "node-1")


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1:7471",
        "https://controller",
        "http://controller.example.org/",
        "http://[2001:db8::1]:7471",
        "http://[fe80::1%eth0.100]:7471",
        "http://controller.example.org.",
        f"http://{'a' * 63}.example",
        "http://bücher.example",
        "http://a:1",
    ],
)
def test_a_url_of_a_controller_is_taken(url: str) -> None:
    assert replace(SETTINGS, controllers=(url,), credential=CREDENTIAL).controllers == (url,)


def test_a_controller_with_tls_needs_a_credential() -> None:
    with pytest.raises(NotJoined, match="overlayd join"):
        replace(SETTINGS, controllers=("http://10.0.0.1", "https://10.0.0.1"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "10.0.0.1:7471",
        "ftp://10.0.0.1",
        "http://",
        "http://:7471",
        "http://a:b",
        "http://a:70000",
        "http://a:0",
        "http://[::1",
        "http://a/path",
        "http://a?query",
        "http://a#fragment",
        "http://a b",
        "http://a\n",
        "http://.a",
        "http://a..b",
        f"http://{'a' * 64}.example",
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidValue, match="is not a URL") as caught:
        replace(SETTINGS, controllers=("http://10.0.0.1:7471", url))
    assert caught.value.field == "--controller"


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"controllers": ()}, "--controller"),
        ({"name": ""}, "--name"),
        ({"name": "two\nlines"}, "--name"),
        ({"vtep": IPv4Address("127.0.0.1")}, "--vtep"),
        ({"vtep": IPv4Address("224.0.0.1")}, "--vtep"),
        ({"vxlan_port": 0}, "--vxlan-port"),
        ({"vxlan_port": 65536}, "--vxlan-port"),
        ({"resync": 0.0}, "--resync"),
        ({"resync": -1.0}, "--resync"),
        ({"resync": 0.999}, "--resync"),
        ({"resync": 86401.0}, "--resync"),
        ({"resync": float("nan")}, "--resync"),
        ({"resync": float("inf")}, "--resync"),
    ],
)
def test_a_value_that_cannot_work_is_refused(change: dict[str, Any], option: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        replace(SETTINGS, **change)
    assert caught.value.field == option


def test_the_defaults_are_the_standards_and_the_systems() -> None:
    assert SETTINGS.vxlan_port == 4789
    assert (SETTINGS.state_dir, SETTINGS.run_dir) == (Path("/var/lib/overlayd"), Path("/run/overlayd"))


def test_sockets_and_queue_are_where_the_launcher_looks() -> None:
    assert str(SETTINGS.cni_socket) == shim.SOCKET
    assert str(SETTINGS.queue_dir) == shim.QUEUE
    assert str(SETTINGS.users_socket) == shim.USERS_SOCKET


def test_a_user_is_a_number_with_a_network() -> None:
    found = UserGrant.parse("1000:blue", "--allow-user")
    assert (found.uid, found.network) == (1000, "blue")
    other = UserGrant.parse("1000:green", "--allow-user")
    allowed = replace(SETTINGS, grants=(found, other, UserGrant.parse("7:blue", "--allow-user"))).allowed_networks
    assert allowed == {1000: {"blue", "green"}, 7: {"blue"}}


@pytest.mark.parametrize(
    "text",
    ["", "1000", "1000:", ":blue", "alice:blue", "0:blue", "-1:blue", "4294967295:blue", "9" * 30 + ":blue", "٣:blue"],
)
def test_another_user_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        UserGrant.parse(text, "--allow-user")
    assert caught.value.field == "--allow-user"
