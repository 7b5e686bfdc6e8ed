"""What `overlay-controller init` refuses, and what it writes, where no controller is started."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from controller.commands import listen_addresses
from controller.commands.listen_addresses import ListenAddress
from controller.main import app
from controller.settings import SCHEMA
from overlayd.configuration.file_changes import check_service_file
from overlayd.model.errors import InUse, InvalidValue


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "controller.toml"


def init(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["init", "--no-start", "--config", str(config), *arguments])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port


@pytest.mark.parametrize(
    ("text", "shown", "url"),
    [
        ("10.0.0.1", "10.0.0.1:7471", "https://10.0.0.1:7471"),
        ("10.0.0.1:80", "10.0.0.1:80", "https://10.0.0.1:80"),
        ("fd00::1", "[fd00::1]:7471", "https://[fd00::1]:7471"),
        ("[fd00::1]:80", "[fd00::1]:80", "https://[fd00::1]:80"),
        ("[fd00::1]", "[fd00::1]:7471", "https://[fd00::1]:7471"),
    ],
)
def test_a_place_is_an_address_and_a_port(text: str, shown: str, url: str) -> None:
    place = listen_addresses.parse(text, "--listen")
    assert (str(place), place.url, place.for_hosts, place.for_this_machine) == (shown, url, place, place)
    assert listen_addresses.parse(shown, "--listen") == place


@pytest.mark.parametrize(
    "text", ["", "controller", "10.0.0", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "[::1", "fd:3"]
)
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        listen_addresses.parse(text, "--listen")
    assert refused.value.field == "--listen"


def test_loopback_is_added_where_it_is_not_meant_already() -> None:
    def added(*texts: str) -> list[str]:
        return [
            str(place)
            for place in listen_addresses.with_loopback([listen_addresses.parse(text, "x") for text in texts])
        ]

    assert added("10.0.0.1:80", "10.0.0.2") == ["127.0.0.1:80", "10.0.0.1:80", "10.0.0.2:7471"]
    assert added("0.0.0.0") == ["0.0.0.0:7471"]
    assert added("::1") == ["[::1]:7471"]


def test_all_addresses_are_reached_at_one() -> None:
    everywhere = listen_addresses.parse("0.0.0.0:80", "x")
    assert str(everywhere.for_this_machine) == "127.0.0.1:80"
    assert not everywhere.for_hosts.address.is_unspecified


@pytest.mark.parametrize(
    ("everywhere", "bridge", "uplink", "gateway", "found"),
    [
        ("0.0.0.0", "10.0.0.1/24", "192.168.1.10/24", "192.168.1.1", "192.168.1.10:7471"),
        ("::", "fd00::1/64", "fd01::10/64", "fd01::1", "[fd01::10]:7471"),
    ],
)
def test_of_all_addresses_hosts_are_told_the_one_of_the_default_route(
    everywhere: str, bridge: str, uplink: str, gateway: str, found: str
) -> None:
    script = """
        ip link set lo up
        for each in bridge=$1 uplink=$2; do
            ip link add ${each%%=*} type bridge
            ip link set ${each%%=*} up
            ip address add ${each#*=} dev ${each%%=*} $4
        done
        ip route add default via $3 dev uplink
        exec "$5" -c "$6"
    """
    look = f"from controller.commands.listen_addresses import parse; print(parse({everywhere!r}, '').for_hosts)"
    option = "nodad" if ":" in everywhere else ""
    done = subprocess.run(
        ["unshare", "--net", "sh", "-euc", script, "sh", bridge, uplink, gateway, option, sys.executable, look],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == found


def test_settings_that_the_service_would_not_read_are_refused(config: Path) -> None:
    with pytest.raises(InvalidValue, match=r"the service reads /etc/overlayd/controller\.toml, not") as refused:
        check_service_file(SCHEMA, config)
    assert refused.value.field == "--config"
    check_service_file(SCHEMA, None)
    check_service_file(SCHEMA, SCHEMA.path)


def test_paths_are_written_for_a_service_that_works_elsewhere(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ca.pem").touch()
    listen = f"127.0.0.1:{free_port()}"
    assert not init(config, "--listen", listen, "--store", "store.db").exit_code
    assert f'store = "{tmp_path}/store.db"' in config.read_text()
    assert not init(config, "--store", "store.db").exit_code, "the same store"
    config.unlink()
    assert not init(config, "--listen", listen, "--store", "etcds://127.0.0.1", "--etcd-ca", "ca.pem").exit_code
    assert f'etcd-ca = "{tmp_path}/ca.pem"' in config.read_text()
    assert 'store = "etcds://127.0.0.1"' in config.read_text()


def test_a_place_that_somebody_else_has_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = listen_addresses.parse(f"127.0.0.1:{taken.getsockname()[1]}", "x")
        with pytest.raises(InUse, match=rf"port {place.port} of 127\.0\.0\.1 is taken") as refused:
            place.check("--listen")
    assert f"--listen ADDRESS:{place.port + 1}" in str(refused.value)
    with pytest.raises(InvalidValue, match="is no address of this machine, which has"):
        listen_addresses.parse("192.0.2.99", "x").check("--listen")
    ListenAddress(place.address, free_port()).check("--listen")


def test_the_settings_are_written_once_and_kept(config: Path) -> None:
    port = free_port()
    done = init(config, "--listen", f"127.0.0.1:{port}", "--tls-name", "a.example")
    assert (done.exit_code, done.stdout) == (0, ""), done.output
    assert f"settings: {config}\nnow start it" in done.stderr
    text = config.read_text()
    assert text == f'listen = ["127.0.0.1:{port}"]\ntls-name = ["a.example"]\n'
    assert config.stat().st_mode & 0o777 == 0o644
    config.write_text(f"# mine\n{text}quarantine = 5 # short\n")
    again = init(config)
    assert f"settings: {config}, as they were" in again.stderr
    assert config.read_text() == f"# mine\n{text}quarantine = 5 # short\n"
    init(config, "--tls-name", "b.example")
    assert config.read_text() == f"# mine\n{text}quarantine = 5 # short\n".replace("a.example", "b.example")


@pytest.mark.parametrize(
    ("text", "arguments", "error"),
    [
        ("", [], "--listen: say at which address of this machine hosts reach it, which has"),
        ("", ["--listen", "controller"], "--listen: 'controller' is not an address such as 10.0.0.1"),
        ("", ["--listen", "192.0.2.99"], "--listen: 192.0.2.99 is no address of this machine"),
        ('listen = "somewhere:1"', [], "FILE:1: listen: 'somewhere:1' is not an address"),
        ('\ninsecure = true\nlisten = "127.0.0.1:1"', [], "FILE:2: insecure: init is for controllers with"),
        ('tls-cert = "/x"\nlisten = "127.0.0.1:1"', [], "FILE:1: tls-cert: init is for controllers with"),
        ("listne = 5", [], "FILE:1: listne: there is no such setting; did you mean listen?"),
        (
            'listen = "127.0.0.1:1"\nstore = "etcd://a"',
            ["--store", "etcd://b"],
            "--store: this machine's controller has its store in etcd://a (FILE:2: store), and another store",
        ),
        ('store = "http://a"', [], "FILE:1: store: 'http://a' is neither a file nor etcd://HOST:PORT"),
        ("", ["--tls-name", "two words"], "--tls-name: 'two words' is neither an address nor a DNS name"),
        ("", ["--store", "etcd://a", "--etcd-key", "/nowhere"], "--etcd-key: there is no file /nowhere"),
    ],
)
def test_what_cannot_work_is_refused_and_changes_nothing(
    config: Path, text: str, arguments: list[str], error: str
) -> None:
    config.parent.mkdir()
    config.write_text(text)
    done = init(config, *arguments)
    assert done.exit_code == 1
    assert done.stderr.replace(str(config), "FILE").startswith(f"overlay-controller: {error}")
    assert len(done.stderr.splitlines()) == 1
    assert config.read_text() == text
