"""How a controller's options about TLS go together."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller import settings
from controller.identity.authority import Authority
from controller.settings import GivenCertificate, OwnCertificate, Tls
from overlayd.model.errors import InvalidValue

CERT, KEY = Path("cert.pem"), Path("key.pem")


@pytest.mark.parametrize(
    ("cert", "key", "names", "insecure", "expected"),
    [
        (None, None, [], False, OwnCertificate(())),
        (None, None, ["a.example"], False, OwnCertificate(("a.example",))),
        (None, None, [], True, None),
    ],
)
def test_tls_is_on_unless_somebody_says_otherwise(
    cert: Path | None, key: Path | None, names: list[str], *, insecure: bool, expected: Tls | None
) -> None:
    assert settings.load_tls(cert, key, names, insecure=insecure) == expected


def pair(directory: Path) -> tuple[Path, Path]:
    now = datetime.now(UTC)
    issued = Authority.create(now).issue(["a.example"], [], now)
    certificate, key = directory / "cert.pem", directory / "key.pem"
    certificate.write_text(issued.certificate)
    key.write_text(issued.key)
    return certificate, key


def test_a_certificate_and_its_key_are_tried(tmp_path: Path) -> None:
    certificate, key = pair(tmp_path)
    assert settings.load_tls(certificate, key, [], insecure=False) == GivenCertificate(certificate, key)
    (tmp_path / "other").mkdir()
    _, another = pair(tmp_path / "other")
    for first, second, message in (
        (CERT, key, "--tls-cert: there is no file cert.pem"),
        (tmp_path, key, f"--tls-cert: there is no file {tmp_path}"),
        (certificate, KEY, "--tls-key: there is no file key.pem"),
        (certificate, another, f"--tls-cert: {certificate} and {another} cannot be used: "),
        (certificate, certificate, f"--tls-cert: {certificate} and {certificate} cannot be used: "),
    ):
        with pytest.raises(InvalidValue, match=re.escape(message)):
            settings.load_tls(first, second, [], insecure=False)


@pytest.mark.parametrize(
    "name", ["a", "a.example", "*.a.example", "a_b.example", "xn--bcher-kva.example", "::1", "10.0.0.1"]
)
def test_a_name_that_a_certificate_can_hold(name: str) -> None:
    assert settings.load_tls(None, None, [name], insecure=False) == OwnCertificate((name,))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "two words",
        "b\u00fccher.example",
        "a..b",
        ".a",
        "a.",
        "-a",
        "a-",
        "x" * 64,
        "https://a",
        "a:1",
        "[::1]",
        "10.0.0",
        "a\n",
    ],
)
def test_a_name_that_no_certificate_can_hold_is_refused(name: str) -> None:
    with pytest.raises(InvalidValue, match=r"^--tls-name: .* is neither an address nor a DNS name$"):
        settings.load_tls(None, None, ["good.example", name], insecure=False)


@pytest.mark.parametrize(
    ("cert", "key", "names", "insecure", "field"),
    [
        (CERT, None, [], False, "--tls-cert"),
        (None, KEY, [], False, "--tls-key"),
        (CERT, KEY, ["a.example"], False, "--tls-name"),
        (CERT, KEY, [], True, "--insecure"),
        (None, None, ["a.example"], True, "--insecure"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    cert: Path | None, key: Path | None, names: list[str], *, insecure: bool, field: str
) -> None:
    with pytest.raises(InvalidValue) as refused:
        settings.load_tls(cert, key, names, insecure=insecure)
    assert refused.value.field == field


def test_the_admin_token_stands_beside_the_store_by_default() -> None:
    def place(given: Path | None) -> Path:
        return settings.load(Path("/var/lib/x/store.db"), [], None, given, 60).admin_token

    assert place(None) == Path("/var/lib/x/admin-token")
    assert place(Path("/run/secret")) == Path("/run/secret")


@pytest.mark.parametrize("quarantine", [-1, 0, 24 * 3600 + 1])
def test_a_quarantine_is_a_second_to_a_day(quarantine: int) -> None:
    with pytest.raises(InvalidValue, match=r"--quarantine: .* is not in 1\.\.86400 seconds"):
        settings.load(Path("/var/lib/x/store.db"), [], None, None, quarantine)
