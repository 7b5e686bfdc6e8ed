"""Tokens as records: minted, recognised, expired."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from controller.identity.roles import Role
from controller.identity.tokens import (
    TokenKind,
    TokenRecord,
    digest,
    matches,
    mint_access_token,
    mint_join_token,
)
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import HostId
from overlayd.wire.credentials import AccessToken, TokenId, parse_access_token, parse_join_token


def record(token: AccessToken) -> TokenRecord:
    return TokenRecord(
        id=token.id,
        kind=TokenKind.ACCESS,
        name="anna",
        role=Role.VIEWER,
        digest=digest(token.secret),
        created=1000,
        expires=2000,
        host=None,
        by="root",
    )


def test_what_is_minted_is_well_formed_and_never_the_same() -> None:
    made = [mint_access_token() for _ in range(100)]
    assert [parse_access_token(token.text) for token in made] == made
    assert len({token.id for token in made} | {token.secret for token in made}) == 200
    joining = mint_join_token("a" * 64)
    assert parse_join_token(joining.text) == joining


def test_a_record_recognises_its_secret_and_no_other() -> None:
    token = mint_access_token()
    known = record(token)
    assert matches(known, token.secret)
    assert not matches(known, mint_access_token().secret)
    assert not matches(known, known.digest)
    assert not matches(None, token.secret)


def test_a_record_holds_no_secret() -> None:
    token = mint_access_token()
    assert token.secret not in repr(record(token))


def test_a_token_ends_at_its_time() -> None:
    known = record(mint_access_token())
    assert not known.is_expired(1999.9)
    assert known.is_expired(2000)
    assert not replace(known, expires=None).is_expired(1e12)


GOOD = record(AccessToken(TokenId("a" * 12), "b" * 40))


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: replace(GOOD, name=""), "name"),
        (lambda: replace(GOOD, name="x" * 101), "name"),
        (lambda: replace(GOOD, name="a\nb"), "name"),
        (lambda: replace(GOOD, host=HostId("h1")), "host"),
        (lambda: replace(GOOD, role=Role.HOST), "host"),
        (lambda: replace(GOOD, kind=TokenKind.JOIN), "role"),
        (lambda: replace(GOOD, hosts=1), "hosts"),
        (lambda: replace(GOOD, kind=TokenKind.JOIN, role=Role.HOST), "hosts"),
        (lambda: replace(GOOD, kind=TokenKind.JOIN, role=Role.HOST, hosts=-1), "hosts"),
        (lambda: replace(GOOD, kind=TokenKind.JOIN, role=Role.HOST, hosts=2, host=HostId("h1")), "hosts"),
        (lambda: replace(GOOD, joined_with=TokenId("c" * 12)), "joined_with"),
        (lambda: replace(GOOD, kind=TokenKind.JOIN, role=Role.HOST, hosts=1, joined_with=GOOD.id), "joined_with"),
    ],
)
def test_a_record_that_makes_no_sense_cannot_be(make: Callable[[], TokenRecord], field: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        make()
    assert refused.value.field == field
