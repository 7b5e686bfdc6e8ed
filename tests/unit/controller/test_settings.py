"""Settings of a controller, and the option that an error names."""

from pathlib import Path

import pytest

from controller import settings
from controller.settings import InheritedSocket, Listen, TcpAddress
from controller.store.etcd.cluster import Certificates, EtcdCluster, EtcdLogin
from overlayd.model.errors import InvalidValue

NONE = Certificates()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("secret")
    return path


@pytest.mark.parametrize(
    ("text", "endpoints"),
    [
        ("etcd://a:2379,b:1", ("a:2379", "b:1")),
        ("etcd://a", ("a:2379",)),
        ("etcd://[fd00::1]:5,192.0.2.1/", ("[fd00::1]:5", "192.0.2.1:2379")),
    ],
)
def test_a_url_names_the_endpoints_of_an_etcd(text: str, endpoints: tuple[str, ...]) -> None:
    assert settings.parse_store(text, NONE, None, None) == EtcdCluster(endpoints)


def test_tls_and_a_login_go_with_an_etcd(file: Path) -> None:
    tls = Certificates(file, file, file)
    chosen = settings.parse_store("etcds://a", tls, "root", file)
    assert chosen == EtcdCluster(("a:2379",), tls, EtcdLogin("root", file))
    assert "secret" not in repr(chosen)
    assert settings.parse_store("etcds://a", NONE, None, None) == EtcdCluster(("a:2379",), NONE)


def test_anything_else_is_a_file(tmp_path: Path) -> None:
    assert settings.parse_store(f"{tmp_path}/store.db", NONE, None, None) == tmp_path / "store.db"
    unmade = Path(settings.DEFAULT_STORE).with_name("x.db")
    assert settings.parse_store(str(unmade), NONE, None, None) == unmade, "systemd makes the directory"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no file"),
        ("/", "/ is a directory"),
        (".", ". is a directory"),
        ("/proc/self/", "/proc/self is a directory"),
        ("/nonexistent/store.db", "there is no directory /nonexistent"),
        ("/proc/version/store.db", "there is no directory /proc/version"),
    ],
)
def test_a_store_that_cannot_be_made_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        settings.parse_store(text, NONE, None, None)
    assert str(caught.value) == f"--store: {message}"


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("127.0.0.1:7471", TcpAddress("127.0.0.1", 7471)),
        ("host.example:0", TcpAddress("host.example", 0)),
        ("[fd00::1]:65535", TcpAddress("fd00::1", 65535)),
        ("[fe80::1%eth0]:1", TcpAddress("fe80::1%eth0", 1)),
        ("fd:5", InheritedSocket(5)),
    ],
)
def test_where_to_listen(text: str, listen: Listen) -> None:
    assert settings.parse_listen(text) == listen
    assert str(listen) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fd00::1", "'fd00::1': an IPv6 address is written in brackets"),
        ("fd00::1:1", "'fd00::1:1': an IPv6 address is written in brackets"),
        ("[fd00::1:1", "'[fd00::1:1': an IPv6 address is written in brackets"),
        ("[10.0.0.1]:1", "'[10.0.0.1]' is neither an address nor a DNS name"),
        ("[host]:1", "'[host]' is neither an address nor a DNS name"),
        ("10.0.0.300:1", "'10.0.0.300' is neither an address nor a DNS name"),
        ("a..b:1", "'a..b' is neither an address nor a DNS name"),
        ("two words:1", "'two words' is neither an address nor a DNS name"),
        ("https://host:1", "'https://host' is neither an address nor a DNS name"),
        ("host:65536", "'host:65536' is neither HOST:PORT nor fd:N"),
        ("h:" + "1" * 5000, "'h:" + "1" * 77 + "… is neither HOST:PORT nor fd:N"),
    ],
)
def test_where_nobody_can_listen(text: str, message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        settings.parse_listen(text)
    assert str(caught.value) == f"--listen: {message}"


@pytest.mark.parametrize("days", [-1.0, 0.0, 1e9, float("inf"), float("nan")])
def test_a_history_is_up_to_a_hundred_years_long(days: float) -> None:
    with pytest.raises(InvalidValue, match=r"^--history-days: .* is not above 0 and up to 36500 days"):
        settings.load_history(days, 1)


def test_the_first_token_is_left_in_a_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=f"^--admin-token-file: {tmp_path} is a directory$"):
        settings.load(tmp_path / "store.db", [], None, tmp_path, 60)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("etcd://", "--store"),
        ("etcd://a,", "--store"),
        ("etcd://a:99999", "--store"),
        ("etcd://a:x", "--store"),
        ("etcd://user@a", "--store"),
        ("etcd://a/path", "--store"),
        ("http://a:2379", "--store"),
    ],
)
def test_a_malformed_store_is_refused(text: str, field: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        settings.parse_store(text, NONE, None, None)
    assert caught.value.field == field


def test_options_that_do_not_go_together_are_refused(file: Path) -> None:
    missing = file.with_name("missing")
    for text, tls, user, password, field in (
        ("etcd://a", Certificates(file, None, None), None, None, "--store"),
        ("/store.db", Certificates(file, None, None), None, None, "--store"),
        ("/store.db", NONE, "root", file, "--store"),
        ("etcds://a", Certificates(None, file, None), None, None, "--etcd-cert"),
        ("etcds://a", Certificates(missing, None, None), None, None, "--etcd-ca"),
        ("etcd://a", NONE, "root", None, "--etcd-user"),
        ("etcd://a", NONE, "root", missing, "--etcd-password-file"),
    ):
        with pytest.raises(InvalidValue) as caught:
            settings.parse_store(text, tls, user, password)
        assert caught.value.field == field


@pytest.mark.parametrize("most", [-1, settings.HOST_NETWORKS_MAX + 1])
def test_a_number_of_networks_of_a_host_that_is_out_of_range_is_refused(tmp_path: Path, most: int) -> None:
    with pytest.raises(InvalidValue) as caught:
        settings.load(tmp_path / "store.db", [], None, None, 60, host_networks=most)
    assert caught.value.field == "--host-networks"
    assert settings.load(tmp_path / "store.db", [], None, None, 60).host_networks == 0


@pytest.mark.parametrize("most", [0, settings.HOST_BLOCKS_MAX + 1])
def test_a_number_of_blocks_of_a_host_that_is_out_of_range_is_refused(tmp_path: Path, most: int) -> None:
    with pytest.raises(InvalidValue) as caught:
        settings.load(tmp_path / "store.db", [], None, None, 60, host_blocks=most)
    assert caught.value.field == "--host-blocks"
    assert settings.load(tmp_path / "store.db", [], None, None, 60).host_blocks == 256
