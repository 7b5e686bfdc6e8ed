"""The credential of a host as a file."""

import json
from pathlib import Path

import pytest

from overlayd.agent.controllers import credential
from overlayd.agent.controllers.credential import Credential
from overlayd.agent.controllers.trust import Trust
from overlayd.model.errors import InvalidValue
from overlayd.wire.credentials import AccessToken, TokenId

TOKEN = AccessToken(TokenId("0123456789ab"), "5ec2e7" * 6 + "abcd")
PEM = "-----BEGIN CERTIFICATE-----\nb3VycyE=\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("authority", [None, PEM])
def test_it_is_read_as_it_was_written(tmp_path: Path, authority: str | None) -> None:
    written = Credential(("https://a:7471", "https://b:7471"), TOKEN, authority)
    path = credential.save(tmp_path, written)
    assert path.stat().st_mode & 0o777 == 0o600
    assert credential.load(tmp_path) == written
    assert list(tmp_path.iterdir()) == [path]


def test_a_host_that_has_not_joined_has_none(tmp_path: Path) -> None:
    assert credential.load(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"controllers": [], "token": TOKEN.text, "authority": PEM[:40]}),
        "",
        "[]",
        "{}",
        '{"controllers": []}',
        f'{{"controllers": [], "token": "{TOKEN.text}x"}}',
        "[" * 100_000,
        "\xff",
    ],
)
def test_a_damaged_one_is_named_and_not_repeated(tmp_path: Path, content: str) -> None:
    (tmp_path / "credential.json").write_text(content, encoding="latin-1")
    with pytest.raises(InvalidValue, match="damaged") as refused:
        credential.load(tmp_path)
    assert refused.value.field == str(tmp_path / "credential.json")
    assert TOKEN.secret not in str(refused.value)


def test_it_does_not_show_its_secret() -> None:
    assert TOKEN.secret not in repr(Credential((), TOKEN, None))


def test_an_authority_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidValue) as refused:
        Trust(PEM).context()
    assert refused.value.field == "certificate authority"
