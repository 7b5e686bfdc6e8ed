"""Tokens: making, recognising, exchanging and revoking them."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from controller.identity.roles import Role
from controller.identity.tokens import (
    TokenKind,
    TokenRecord,
    digest,
    matches,
    mint_access_token,
    mint_join_token,
)
from controller.journal.actor import BY_CONTROLLER, Actor, Requester
from controller.journal.change_record import Note
from controller.journal.journal import TransactionDraft, Written
from controller.rules.wiring import RuleParts
from controller.state import keys, token_records
from controller.store.port import Compare, DeleteKey, PutKey
from overlayd.model.errors import AlreadyExists, InvalidValue, NotFound, Unauthenticated, Unavailable
from overlayd.model.ids import HostId, quoted
from overlayd.wire.credentials import AccessToken, JoinToken, TokenId, parse_access_token, parse_join_token

JOIN_TTL_MAX = 7 * 24 * 3600
"""Seconds: a join token lies about on new machines and in scripts."""

TTL_MAX = 10 * 365 * 24 * 3600
"""Seconds."""

JOIN_HOSTS_MAX = 1000
"""How many hosts can join with one token."""

_KEPT = 24 * 3600
"""Seconds that an expired token is still listed."""

_TURN_MAX = 5.0
"""Seconds that a request to join waits for its turn; the client gives up after ten."""

_PURGED_MAX = 50
"""How many tokens one transaction removes."""


@dataclass(frozen=True, slots=True)
class Made:
    """A new token with its secret, which the store does not keep, and the record of it."""

    token: AccessToken | JoinToken
    record: TokenRecord


@dataclass(frozen=True, slots=True)
class _Use:
    """One use of a join token: its compares, its operations, and its notes for the history."""

    compares: tuple[Compare, ...]
    ops: tuple[PutKey, ...]
    noted: tuple[Note, ...]


class Tokens:
    """The tokens of the cluster."""

    def __init__(self, rules: RuleParts) -> None:
        self._mirror = rules.mirror
        self._journal = rules.journal
        self._clock = rules.clock
        self._joining = asyncio.Lock()

    def all(self) -> list[TokenRecord]:
        """Return every token, the oldest first."""
        return sorted(self._mirror.tokens.values(), key=lambda record: (record.created, record.id))

    def get(self, token_id: TokenId) -> TokenRecord:
        """Return the record of a token; raise `NotFound`."""
        record = self._mirror.tokens.get(token_id)
        if record is None:
            raise NotFound(f"there is no token {quoted(token_id)}", field="token")
        return record

    def authenticate(self, text: str, now: float) -> TokenRecord:
        """Return the record of an access token valid at `now`; raise `Unauthenticated`, which does not repeat it."""
        try:
            token = parse_access_token(text)
        except InvalidValue as error:
            raise Unauthenticated(f"the token {error.detail}") from None
        return self._recognised(token, TokenKind.ACCESS, now)

    def is_valid(self, token_id: TokenId, now: float) -> bool:
        """Return whether an access token that was recognised once still is good."""
        record = self._mirror.tokens.get(token_id)
        return record is not None and not record.is_expired(now)

    async def create(self, by: Requester, name: str, role: Role, ttl: int | None) -> Written[Made]:
        """Make an access token that lasts `ttl` seconds, None: until it is revoked. Raises `InvalidValue`.

        Hosts get theirs by `join` only.
        """
        if role is Role.HOST:
            raise InvalidValue("a host gets its token by joining: make a join token", field="role")
        return await self.add(by, mint_access_token(), name, role, ttl)

    async def add(self, by: Requester, token: AccessToken, name: str, role: Role, ttl: int | None) -> Written[Made]:
        """Make a token valid that was minted before; otherwise as `create`."""
        record = self._record(token, TokenKind.ACCESS, name, role, _limited(ttl, TTL_MAX), by=by.actor.name)
        return await self._add(by, Made(token, record))

    async def create_join(
        self, by: Requester, fingerprint: str | None, host: HostId | None, ttl: int, hosts: int = 1
    ) -> Written[Made]:
        """Make a join token that lasts `ttl` seconds, for this host, or for `hosts` new ones.

        `fingerprint` is the authority's, None where the system's root certificates verify controllers. Raises
        `InvalidValue`.
        """
        if not 1 <= hosts <= JOIN_HOSTS_MAX:
            raise InvalidValue(f"{hosts} is not in 1..{JOIN_HOSTS_MAX}", field="hosts")
        token = mint_join_token(fingerprint)
        name = f"join {host}" if host else "join"
        limited = _limited(ttl, JOIN_TTL_MAX)
        record = self._record(token, TokenKind.JOIN, name, Role.HOST, limited, host, hosts, by=by.actor.name)
        return await self._add(by, Made(token, record))

    async def join(self, by: Requester, text: str, host: HostId) -> Written[Made]:
        """Exchange a join token for the credential of a host. The token is for one host less then, or used up.

        The answer may be lost: until the host has registered with its credential, the same token replaces that, and
        the host is not counted again. Raises `Unauthenticated` for a token that is not valid (any more), or
        `AlreadyExists` when the host has a credential and the token was not made for this very host.
        """
        token = _parsed_join_token(text)
        await self._check_joining(token)
        by = replace(by, actor=Actor(f"join token {token.id}", Role.HOST))

        def draft() -> TransactionDraft[Made]:
            joining = self._recognised(token, TokenKind.JOIN, self._clock.wall())
            former = self._mirror.credential(host)
            used = self._use(joining, host, former)
            minted = mint_access_token()
            record = self._record(minted, TokenKind.ACCESS, host, Role.HOST, None, host, by=joining.by)
            made = Made(minted, replace(record, joined_with=joining.id))
            claim, replaced = keys.credential(host), [former] if former else []
            kept = (claim, *(keys.token(each.id) for each in (joining, *replaced)))
            return TransactionDraft(
                made,
                (*map(self._journal.unchanged, kept), *used.compares),
                (
                    _put(made.record),
                    PutKey(claim, keys.claim(minted.id)),
                    *used.ops,
                    *(DeleteKey(keys.token(each.id)) for each in replaced),
                ),
                (_came(made.record), *used.noted, *map(_went, replaced)),
            )

        # Hosts that share a token would be in each other's way.
        async with AsyncExitStack() as turn:
            try:
                async with asyncio.timeout(_TURN_MAX):
                    await turn.enter_async_context(self._joining)
            except TimeoutError:
                raise Unavailable("too many hosts are joining; try again") from None
            return await self._journal.write_aside(by, draft)

    async def revoke(self, by: Requester, token_id: TokenId) -> Written[None]:
        """End a token; raises `NotFound`."""

        def draft() -> TransactionDraft[None]:
            return self._removal(self.get(token_id))

        return await self._journal.write_aside(by, draft)

    async def revoke_credential(self, by: Requester, host: HostId) -> Written[None]:
        """End the credential of a host, if it has one, as part of forgetting the host."""

        def draft() -> TransactionDraft[None]:
            record = self._mirror.credential(host)
            return self._removal(record) if record else TransactionDraft(None)

        return await self._journal.write_aside(by, draft)

    async def purge(self, now: float) -> None:
        """Remove tokens that expired long before a time, in seconds since 1970 (UTC)."""
        before = now - _KEPT

        def draft() -> TransactionDraft[None]:
            gone = [record for record in self.all() if record.is_expired(before)][:_PURGED_MAX]
            return TransactionDraft(
                None, (), tuple(DeleteKey(keys.token(record.id)) for record in gone), tuple(map(_went, gone))
            )

        await self._journal.write_aside(BY_CONTROLLER, draft)

    def _recognised(self, token: AccessToken | JoinToken, kind: TokenKind, now: float) -> TokenRecord:
        record = self._mirror.tokens.get(token.id)
        if not matches(record, token.secret) or record is None or record.kind is not kind:
            raise Unauthenticated("the token is not known here: it was revoked or used up, or never was")
        if record.is_expired(now):
            raise Unauthenticated(f"the token {record.id} ({record.name}) has expired")
        return record

    async def _check_joining(self, token: JoinToken) -> None:
        """Refuse a token that is not valid before its host waits for a turn: strangers make those that join wait.

        What the mirror knows of a token decides, as neither its secret nor its end ever changes. Only one that the
        mirror does not know may have been made at another controller a moment ago: all who show such a token at the
        same time share one look at the store. Raises `Unauthenticated`, or `Unavailable` when the store cannot be read.
        """
        if token.id not in self._mirror.tokens:
            await self._mirror.verify()
        self._recognised(token, TokenKind.JOIN, self._clock.wall())

    def _record(  # noqa: PLR0913, PLR0917 - the fields of a record
        self,
        token: AccessToken | JoinToken,
        kind: TokenKind,
        name: str,
        role: Role,
        ttl: int | None,
        host: HostId | None = None,
        hosts: int | None = None,
        *,
        by: str,
    ) -> TokenRecord:
        now = int(self._clock.wall())
        expires = None if ttl is None else now + ttl
        return TokenRecord(token.id, kind, name, role, digest(token.secret), now, expires, host, by, hosts)

    async def _add(self, by: Requester, made: Made) -> Written[Made]:
        def draft() -> TransactionDraft[Made]:
            key = keys.token(made.record.id)
            return TransactionDraft(made, (self._journal.unchanged(key),), (_put(made.record),), (_came(made.record),))

        return await self._journal.write_aside(by, draft)

    def _use(self, joining: TokenRecord, host: HostId, former: TokenRecord | None) -> _Use:
        """Return how a join token becomes one for a host less, or what it takes to use it for the same host again.

        Raises `Unauthenticated` or `AlreadyExists` when the host cannot join with it.
        """
        if joining.host not in {None, host}:
            raise Unauthenticated(f"the join token is for host {joining.host} only")
        if former and former.joined_with == joining.id and not self._has_registered(host):
            return _Use((self._journal.unchanged(keys.instance(host)),), (), ())
        if not joining.hosts:
            raise Unauthenticated(f"the join token {joining.id} is used up")
        if former and joining.host != host:
            raise AlreadyExists(
                f"host {host} has joined already; a join token made for it (token create --join --host) replaces"
                " its credential",
                field="host",
            )
        rest = replace(joining, hosts=joining.hosts - 1)
        note = Note("token", token_records.shown(joining), token_records.shown(rest))
        return _Use((), (self._mirror.put_token(rest),), (note,))

    def _has_registered(self, host: HostId) -> bool:
        """Return whether a host has registered since it got its credential: every start of its agent does so first."""
        made, registered = keys.credential(host), keys.instance(host)
        return self._mirror.mod_revision(registered) > self._mirror.mod_revision(made)

    def _removal(self, record: TokenRecord) -> TransactionDraft[None]:
        key = keys.token(record.id)
        claimed = (DeleteKey(keys.credential(record.host)),) if record.kind is TokenKind.ACCESS and record.host else ()
        return TransactionDraft(None, (self._journal.unchanged(key),), (DeleteKey(key), *claimed), (_went(record),))


def _parsed_join_token(text: str) -> JoinToken:
    try:
        return parse_join_token(text)
    except InvalidValue as error:
        raise Unauthenticated(f"the token {error.detail}") from None


def _limited(ttl: int | None, limit: int) -> int | None:
    if ttl is not None and not 1 <= ttl <= limit:
        raise InvalidValue(f"{ttl} is not in 1..{limit} seconds", field="ttl")
    return ttl


def _put(record: TokenRecord) -> PutKey:
    return PutKey(keys.token(record.id), token_records.encode(record))


def _came(record: TokenRecord) -> Note:
    return Note("token", None, token_records.shown(record))


def _went(record: TokenRecord) -> Note:
    return Note("token", token_records.shown(record), None)
