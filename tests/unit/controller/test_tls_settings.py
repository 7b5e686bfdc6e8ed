"""How a controller's options about TLS go together."""

from pathlib import Path

import pytest

from controller import settings
from controller.settings import GivenCertificate, OwnCertificate, Tls
from overlayd.model.errors import InvalidValue

CERT, KEY = Path("cert.pem"), Path("key.pem")


@pytest.mark.parametrize(
    ("cert", "key", "names", "insecure", "expected"),
    [
        (None, None, [], False, OwnCertificate(())),
        (None, None, ["a.example"], False, OwnCertificate(("a.example",))),
        (CERT, KEY, [], False, GivenCertificate(CERT, KEY)),
        (None, None, [], True, None),
    ],
)
def test_tls_is_on_unless_somebody_says_otherwise(
    cert: Path | None, key: Path | None, names: list[str], *, insecure: bool, expected: Tls | None
) -> None:
    assert settings.load_tls(cert, key, names, insecure=insecure) == expected


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
