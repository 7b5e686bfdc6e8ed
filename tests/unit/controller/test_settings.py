"""What a controller is told, and the option that an error names."""

from pathlib import Path

import pytest

from controller import settings
from controller.store.etcd.cluster import Certificates, EtcdCluster, Login
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
    assert chosen == EtcdCluster(("a:2379",), tls, Login("root", file))
    assert "secret" not in repr(chosen)
    assert settings.parse_store("etcds://a", NONE, None, None) == EtcdCluster(("a:2379",), NONE)


def test_anything_else_is_a_file() -> None:
    assert settings.parse_store("/var/lib/x/store.db", NONE, None, None) == Path("/var/lib/x/store.db")


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
