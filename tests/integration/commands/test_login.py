"""`overlayctl login`, `token` and `whoami` as people use them, at a real controller over TLS."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.controllers.secure import SecureController, secure_controller
from tests.support.lab.lab import COMMANDS


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureController]:
    with secure_controller(tmp_path_factory.mktemp("secure")) as running:
        yield running


@dataclass(frozen=True, slots=True)
class Person:
    """A user with a home directory, in which a login may be."""

    home: Path

    @property
    def login(self) -> Path:
        return self.home / ".config/overlayd/login.json"

    def type(self, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run overlayctl."""
        known = {"PATH": os.environ["PATH"], "HOME": str(self.home), "COLUMNS": "200", **environment}
        command = [str(COMMANDS / "overlayctl"), *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, env=known)

    def succeed(self, *arguments: str, stdin: str = "", **environment: str) -> str:
        done = self.type(*arguments, stdin=stdin, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def fail(self, *arguments: str, stdin: str = "", **environment: str) -> str:
        done = self.type(*arguments, stdin=stdin, **environment)
        assert done.returncode == 1, done.stdout + done.stderr
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        return done.stderr


@pytest.fixture
def anna(tmp_path: Path) -> Person:
    return Person(tmp_path)


def log_in(person: Person, controller: SecureController, token: str) -> str:
    return person.succeed("login", controller.url, "--fingerprint", controller.fingerprint, stdin=f"{token}\n")


def test_a_login_lasts_until_the_logout(anna: Person, controller: SecureController) -> None:
    said = log_in(anna, controller, controller.make(kind="access", name="anna", role="operator"))
    assert said.startswith(f"logged in at {controller.url} as anna (operator)")
    assert anna.login.stat().st_mode & 0o777 == 0o600
    assert anna.succeed("whoami") == "anna (operator)\n"
    anna.succeed("network", "create", "annas", "--range", "10.50.0.0/16")
    assert "stays valid until it is revoked" in anna.succeed("logout")
    assert not anna.login.exists()
    assert anna.succeed("logout") == "not logged in\n"
    assert "log in first: overlayctl login" in anna.fail("whoami")


def test_a_login_by_a_file_of_the_authority_and_one_of_the_token(anna: Person, controller: SecureController) -> None:
    files = ["--ca", str(controller.directory / "ca.pem"), "--token-file", str(controller.directory / "admin-token")]
    assert json.loads(anna.succeed("login", controller.url, *files, "--json"))["name"] == "admin"
    assert json.loads(anna.succeed("whoami", "--json"))["role"] == "admin"
    assert json.loads(anna.succeed("logout", "--json"))["token"] == controller.admin.split("_")[1]


def test_a_fingerprint_may_be_written_as_openssl_prints_it(anna: Person, controller: SecureController) -> None:
    digits = controller.fingerprint.upper()
    colons = ":".join(digits[place : place + 2] for place in range(0, 64, 2))
    anna.succeed("login", controller.url, "--fingerprint", colons, stdin=controller.admin)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "one of --fingerprint"),
        (["--system-ca", "--fingerprint", "0" * 64], "one of --fingerprint"),
        (["--fingerprint", "0" * 64], "--fingerprint: https://127.0.0.1"),
        (["--fingerprint", "zz"], "64 hexadecimal digits"),
        (["--ca", "/nowhere"], "--ca: /nowhere cannot be read"),
        (["--ca", "/etc/passwd"], "is not one certificate"),
        (["--system-ca"], "certificate verify failed"),
    ],
)
def test_a_controller_that_is_not_recognised_gets_no_token(
    anna: Person, controller: SecureController, options: list[str], words: str
) -> None:
    said = anna.fail("login", controller.url, *options, stdin=controller.admin)
    assert words in said
    assert controller.admin not in said
    assert not anna.login.exists()


@pytest.mark.parametrize("token", ["", "nonsense", "ovt_" + "0" * 12 + "_" + "0" * 40])
def test_a_wrong_token_is_no_login(anna: Person, controller: SecureController, token: str) -> None:
    said = anna.fail("login", controller.url, "--fingerprint", controller.fingerprint, stdin=token)
    assert not token or token not in said
    assert not anna.login.exists()


def test_a_token_never_travels_without_tls_nor_to_somebody_else(anna: Person, controller: SecureController) -> None:
    assert "without TLS" in anna.fail("login", "http://127.0.0.1:1", "--system-ca", stdin=controller.admin)
    log_in(anna, controller, controller.admin)
    assert "no controller answers" in anna.fail("--controller", "http://127.0.0.1:1", "whoami")
    saved = json.loads(anna.login.read_text())
    anna.login.write_text(json.dumps({**saved, "authority": None}))
    assert "the login is for" in anna.fail("--controller", "https://127.0.0.1:1", "whoami")


def test_a_damaged_login_is_named_and_not_repeated(anna: Person, controller: SecureController) -> None:
    log_in(anna, controller, controller.admin)
    for content in ("{", "[]", '{"url": "https://c", "token": "ovt_' + "5ec2e7" * 8 + '"}'):
        anna.login.write_text(content)
        said = anna.fail("whoami")
        assert str(anna.login) in said
        assert "5ec2e7" not in said


def test_programs_need_no_login(anna: Person, controller: SecureController) -> None:
    environment = {
        "OVERLAY_CONTROLLER_URL": controller.url,
        "OVERLAY_TOKEN_FILE": str(controller.directory / "admin-token"),
        "OVERLAY_CA_FILE": str(controller.directory / "ca.pem"),
    }
    assert anna.succeed("whoami", **environment) == "admin (admin)\n"
    environment["OVERLAY_TOKEN_FILE"] = "/nowhere"
    assert "/nowhere cannot be read" in anna.fail("whoami", **environment)


def test_a_token_is_printed_once_and_alone(anna: Person, controller: SecureController) -> None:
    log_in(anna, controller, controller.admin)
    made = anna.type("token", "create", "--role", "viewer", "--name", "prometheus", "--ttl", "30d")
    (line,) = made.stdout.splitlines()
    assert line.startswith("ovt_")
    assert line not in made.stderr
    assert "prometheus" in made.stderr
    token_id = line.split("_")[1]
    listed = anna.succeed("token", "list")
    assert token_id in listed
    assert line not in listed
    found = next(each for each in json.loads(anna.succeed("token", "list", "--json")) if each["id"] == token_id)
    assert found["expires"] - found["created"] == 30 * 24 * 3600
    assert "token" not in found

    bob = Person(anna.home / "bob")
    log_in(bob, controller, line)
    assert "which role viewer does not have" in bob.fail("token", "list")
    assert f"token {token_id} revoked" in anna.succeed("token", "revoke", token_id)
    assert "revoked or used up" in bob.fail("whoami")


def test_a_join_token_carries_the_fingerprint(anna: Person, controller: SecureController) -> None:
    log_in(anna, controller, controller.admin)
    made = json.loads(anna.succeed("token", "create", "--join", "--host", "h-1", "--ttl", "10m", "--json"))
    assert (made["kind"], made["host"], made["expires"] - made["created"]) == ("join", "h-1", 600)
    assert made["token"].endswith(controller.fingerprint)
    assert anna.succeed("token", "create", "--join").startswith("ovj_")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "--role", "viewer"], "name"),
        (["create", "--name", "x"], "role"),
        (["create", "--join", "--role", "admin"], "role"),
        (["create", "--join", "--ttl", "8d"], "ttl"),
        (["create", "--join", "--ttl", "soon"], "--ttl: 'soon' is not a time"),
        (["revoke", "../networks/annas"], "ID"),
        (["revoke", "0" * 12], "there is no token"),
    ],
)
def test_a_bad_request_names_the_field(
    anna: Person, controller: SecureController, arguments: list[str], words: str
) -> None:
    log_in(anna, controller, controller.admin)
    assert words in anna.fail("token", *arguments)


def test_lost_admin_tokens_are_replaced_while_the_controller_rests(anna: Person, tmp_path: Path) -> None:
    command = [str(COMMANDS / "overlay-controller"), "admin-token", "--store", str(tmp_path / "c/store.db")]
    with secure_controller(tmp_path / "c") as running:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert "in use by another controller" in done.stderr
        running.process.stop()
    token = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    shown = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    with secure_controller(tmp_path / "c") as running:
        for each in (token, shown["token"]):
            assert each != running.admin
            assert "as admin (admin)" in log_in(anna, running, each)


def test_a_given_certificate_is_verified_by_the_systems_roots(anna: Person, tmp_path: Path) -> None:
    """SSL_CERT_FILE stands for the system's roots here."""
    (tmp_path / "given").mkdir()
    key, certificate = tmp_path / "given/key.pem", tmp_path / "given/cert.pem"
    own = ["-x509", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    names = ["-subj", "/CN=given", "-addext", "subjectAltName=IP:127.0.0.1"]
    request = ["openssl", "req", *own, "-keyout", str(key), "-out", str(certificate), *names]
    subprocess.run(request, check=True, capture_output=True)
    (tmp_path / "c").mkdir()
    (tmp_path / "c/ca.pem").write_text(certificate.read_text())  # for the support's own client: it is its own root
    options = ["--tls-cert", str(certificate), "--tls-key", str(key)]
    with secure_controller(tmp_path / "c", *options, name="127.0.0.1") as running:
        roots = {"SSL_CERT_FILE": str(certificate)}
        anna.succeed("login", running.url, "--system-ca", stdin=running.admin, **roots)
        assert "certificate verify failed" in anna.fail("whoami")
        assert anna.succeed("whoami", **roots) == "admin (admin)\n"
        token = anna.succeed("token", "create", "--join", **roots).strip()
        assert token.endswith("_system")
        joining = [str(COMMANDS / "overlayd"), "join", running.url, "--no-start", "--state-dir", str(tmp_path)]
        environment = {**os.environ, **roots}
        done = subprocess.run(joining, input=token, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / "credential.json").read_text())["authority"] is None
        assert running.client(None).get("/v1/ca").status_code == 404
