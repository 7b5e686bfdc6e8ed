"""Tokens and fingerprints as they are written, and what is refused without being repeated."""

import hashlib
import re
import ssl
from collections.abc import Callable

import pytest

from overlayd.model.errors import InvalidValue
from overlayd.wire.credentials import (
    AccessToken,
    JoinToken,
    TokenId,
    fingerprint,
    parse_access_token,
    parse_fingerprint,
    parse_join_token,
    parse_token_id,
)

ID, SECRET, PRINT = "0123456789ab", "5ec2e7" * 6 + "abcd", "f" * 64
ACCESS, JOIN = f"ovt_{ID}_{SECRET}", f"ovj_{ID}_{SECRET}_{PRINT}"


def test_tokens_are_read_as_they_are_written() -> None:
    assert parse_access_token(ACCESS) == AccessToken(TokenId(ID), SECRET)
    assert parse_access_token(ACCESS).text == ACCESS
    assert parse_join_token(JOIN) == JoinToken(TokenId(ID), SECRET, PRINT)
    assert parse_join_token(JOIN).text == JOIN
    by_the_system = JOIN.replace(PRINT, "system")
    assert parse_join_token(by_the_system) == JoinToken(TokenId(ID), SECRET, None)
    assert parse_join_token(by_the_system).text == by_the_system


def test_a_token_does_not_show_its_secret_by_accident() -> None:
    for token in (parse_access_token(ACCESS), parse_join_token(JOIN)):
        assert SECRET not in repr(token)
        assert SECRET not in str(token)
        assert ID in repr(token)


MALFORMED = ["", "ovt", ACCESS[:-1], ACCESS + "0", ACCESS.upper(), f" {ACCESS}", f"{ACCESS}\n", "ovt_" * 100_000, "é"]


@pytest.mark.parametrize("text", [*MALFORMED, JOIN], ids=lambda text: text[:20])
def test_a_malformed_access_token_is_refused_without_being_repeated(text: str) -> None:
    refuse(parse_access_token, text)


@pytest.mark.parametrize("text", [*MALFORMED, ACCESS, JOIN[:-1], f"{JOIN}0"], ids=lambda text: text[:20])
def test_a_malformed_join_token_is_refused_without_being_repeated(text: str) -> None:
    refuse(parse_join_token, text)


def refuse(parse: Callable[[str, str], object], text: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        parse(text, "--token-file")
    assert refused.value.field == "--token-file"
    assert not set(re.findall(r"[0-9a-f]{12,}", text)) & set(re.findall(r"[0-9a-f]{12,}", str(refused.value)))


def test_a_token_is_named_by_its_id() -> None:
    assert parse_token_id(ID) == ID
    for text in ("", ID[:-1], f"{ID}0", ID.upper(), SECRET):
        with pytest.raises(InvalidValue):
            parse_token_id(text)


def test_tokens_of_the_other_kind_are_named_as_such() -> None:
    with pytest.raises(InvalidValue, match="a join token"):
        parse_access_token(JOIN)
    with pytest.raises(InvalidValue, match="an access token"):
        parse_join_token(ACCESS)


def test_a_fingerprint_is_read_as_people_and_openssl_write_it() -> None:
    colons = ":".join(["AB"] * 32)
    assert parse_fingerprint(colons) == parse_fingerprint("ab" * 32) == "ab" * 32
    for text in ("", "ab" * 31, "xy" * 32, "ab" * 33):
        with pytest.raises(InvalidValue):
            parse_fingerprint(text)


def test_a_fingerprint_is_the_hash_of_the_der_form() -> None:
    for der in (b"anything", b"several lines" * 20):
        assert fingerprint(ssl.DER_cert_to_PEM_cert(der)) == hashlib.sha256(der).hexdigest()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no certificate",
        "-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nQQ==QQ==\n-----END CERTIFICATE-----\n",
        ssl.DER_cert_to_PEM_cert(b"one") + ssl.DER_cert_to_PEM_cert(b"another"),
        "text before\n" + ssl.DER_cert_to_PEM_cert(b"one"),
    ],
)
def test_what_is_not_exactly_one_certificate_has_no_fingerprint(text: str) -> None:
    with pytest.raises(InvalidValue, match="one certificate in PEM form"):
        fingerprint(text)
