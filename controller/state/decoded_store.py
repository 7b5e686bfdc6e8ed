"""The decoded content of the store, as of one revision."""

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from controller.identity.tokens import TokenKind
from controller.state import host_presence, keys, lineages, token_records
from controller.state.host_presence import HostPresence
from controller.state.intent import Intent, IntentChange, RecordChange
from controller.state.occupancy import ClusterOccupancy
from controller.store.port import Event, KeyValue, RevisionEvents
from overlayd.model.cluster import Record, RecordKey
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import HostId, Revision
from overlayd.model.network import Network
from overlayd.wire.credentials import TokenId
from overlayd.wire.unknown_fields import NOTHING, Unknown

if TYPE_CHECKING:
    from controller.identity.tokens import TokenRecord
    from controller.state.lineages import LineageRecord


class _DecodedValue(NamedTuple):
    mod_revision: Revision
    record: RecordKey | None
    unknown: Unknown


class DecodedStore:
    """The records, the presences, the tokens, what is free, and the modification revision of every key."""

    def __init__(self) -> None:
        self.revision = Revision(0)
        self.intent = Intent()
        self.occupancy = ClusterOccupancy()
        self.tokens: dict[TokenId, TokenRecord] = {}
        self._credentials: defaultdict[HostId, dict[TokenId, TokenRecord]] = defaultdict(dict)
        self.instances: dict[HostId, str] = {}
        self.lineage: LineageRecord | None = None
        self.statements: dict[HostId, str] = {}
        self._entries: dict[str, _DecodedValue] = {}
        self._presences: defaultdict[HostId, dict[str, HostPresence]] = defaultdict(dict)

    def mod_revision(self, key: str) -> Revision:
        """Return the revision that wrote a key last, 0 when the key does not exist."""
        entry = self._entries.get(key)
        return entry.mod_revision if entry else Revision(0)

    def record(self, key: str) -> Record | None:
        """Return the record that a key holds, None when it holds none."""
        entry = self._entries.get(key)
        return self.intent.find(entry.record) if entry and entry.record else None

    def unknown(self, key: str) -> Unknown:
        """Return the fields of a record that another release wrote and this one does not know."""
        entry = self._entries.get(key)
        return entry.unknown if entry else NOTHING

    def presence(self, host: HostId) -> HostPresence | None:
        """Return the presence of a host at the controller to which it connected last, None when it is not connected."""
        return next(reversed(self._presences[host].values()), None) if host in self._presences else None

    def credential(self, host: HostId) -> "TokenRecord | None":
        """Return the access token of a host, None when it has none."""
        return next(iter(self._credentials[host].values())) if host in self._credentials else None

    def load(self, item: KeyValue) -> None:
        """Decode a key of a listing; raise `keys.Unreadable`."""
        self._put(item.key, item.value, item.mod_revision)

    def apply(self, changes: RevisionEvents) -> IntentChange:
        """Apply one revision; return what it changed of the records, if anything; raise `keys.Unreadable`."""
        applied = [self._apply(event, changes.revision) for event in changes.events]
        self.revision = changes.revision
        return IntentChange(changes.revision, tuple(change for change in applied if change))

    def _apply(self, event: Event, revision: Revision) -> RecordChange | None:
        if event.value is not None:
            return self._put(event.key, event.value, revision)
        entry = self._entries.pop(event.key, None)
        if event.key.startswith(keys.PRESENCE):
            host = HostId(event.key.removeprefix(keys.PRESENCE).partition("/")[0])
            self._presences[host].pop(event.key, None)
            if not self._presences[host]:
                del self._presences[host]
        if event.key.startswith(keys.INSTANCES):
            self.instances.pop(HostId(event.key.removeprefix(keys.INSTANCES)), None)
        if event.key.startswith(keys.STATEMENTS):
            self.statements.pop(HostId(event.key.removeprefix(keys.STATEMENTS)), None)
        if event.key == keys.LINEAGE:
            self.lineage = None
        if event.key.startswith(keys.TOKENS):
            self._drop_token(TokenId(event.key.removeprefix(keys.TOKENS)))
        self.occupancy.take_in(event.key, None)
        change = self.intent.remove(entry.record) if entry and entry.record else None
        if change and isinstance(change.before, Network):
            self.occupancy.set_network(change.before.name, None)
        return change

    def _drop_token(self, token_id: TokenId) -> None:
        token = self.tokens.pop(token_id, None)
        if token and token.kind is TokenKind.ACCESS and token.host:
            del self._credentials[token.host][token_id]
            if not self._credentials[token.host]:
                del self._credentials[token.host]

    def _put(self, key: str, value: bytes, revision: Revision) -> RecordChange | None:
        try:
            return self._put_decoded(key, value, revision)
        except (ValueError, InvalidValue) as error:
            raise keys.Unreadable(f"the value of {key} cannot be read: {error}") from error

    def _put_decoded(self, key: str, value: bytes, revision: Revision) -> RecordChange | None:
        change, unknown = None, NOTHING
        if keys.is_record(key):
            record, unknown = keys.decode_record(key, value)
            change = self.intent.put(record)
            if isinstance(record, Network):
                self.occupancy.set_network(record.name, record)
        if key.startswith(keys.PRESENCE):
            decoded = host_presence.decode(value)
            of_host = self._presences[decoded.host]
            of_host.pop(key, None)  # put back at the end: the latest comes last
            of_host[key] = decoded
        if key.startswith(keys.INSTANCES):
            self.instances[HostId(key.removeprefix(keys.INSTANCES))] = keys.decode(value).text("instance")
        if key.startswith(keys.STATEMENTS):
            self.statements[HostId(key.removeprefix(keys.STATEMENTS))] = keys.decode(value).text("lineage")
        if key == keys.LINEAGE:
            self.lineage = lineages.decode(value)
        if key.startswith(keys.TOKENS):
            token, unknown = token_records.decode(value)
            self._drop_token(token.id)
            self.tokens[token.id] = token
            if token.kind is TokenKind.ACCESS and token.host:
                self._credentials[token.host][token.id] = token
        self._entries[key] = _DecodedValue(revision, change.key if change else None, unknown)
        self.occupancy.take_in(key, value)
        return change
