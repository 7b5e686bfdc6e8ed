"""The store port: a revisioned key-value store with compare-and-swap, leases and watches.

It promises no more than etcd v3 gives. Keys are text ordered by their UTF-8 bytes, a prefix ends in "/". Every
committed transaction that writes moves the store's revision by exactly one, and all its writes carry that revision; one
that has nothing to write may move it or not.

Every operation may raise `StoreUnavailable`. After a write raised it, the write happened entirely or not at all, and
only a read can tell which.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import NewType, Protocol

from overlayd.model.errors import Unavailable
from overlayd.model.ids import Revision

LeaseId = NewType("LeaseId", int)

TRANSACTION_MAX = 120
"""The most compares, and the most operations, in one transaction: etcd takes 128 (--max-txn-ops), and its store adds
some of its own."""

PAGE_MAX = 1000
"""The most keys that one page of a list holds."""


class StoreUnavailable(Unavailable):
    """The store cannot be read or written now: no quorum, a full disk, a file that became read-only."""


class Replaced(StoreUnavailable):
    """The store is not the one any more that was opened: it was restored from a backup, or exchanged for another.

    What is known of it holds no more. Nothing is read or written by it again: it is to be opened, and read, from the
    beginning.
    """


class Abandoned(StoreUnavailable):
    """The transaction was not written and never will be: it was to be tried again, and was not wanted any more."""


class RevisionCompacted(Exception):
    """The revision that was asked for is older than what the store remembers. Read everything again."""


class LeaseLost(Exception):
    """The lease has expired or was revoked, and its keys are gone."""


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One key as of some revision. The key goes when `lease` ends; None: it stays."""

    key: str
    value: bytes
    create_revision: Revision
    mod_revision: Revision
    lease: LeaseId | None = None


@dataclass(frozen=True, slots=True)
class Compare:
    """Holds when the key was last modified at exactly `mod_revision`; 0 stands for a key that does not exist."""

    key: str
    mod_revision: Revision


@dataclass(frozen=True, slots=True)
class Unmodified:
    """Holds when no existing key below `prefix` was created or modified after `since`. Deletions go unnoticed."""

    prefix: str
    since: Revision


@dataclass(frozen=True, slots=True)
class PutKey:
    """Writes a value; the key hangs on `lease` from now on, or on none."""

    key: str
    value: bytes
    lease: LeaseId | None = None


@dataclass(frozen=True, slots=True)
class DeleteKey:
    """Removes a key; nothing happens when it is not there."""

    key: str


@dataclass(frozen=True, slots=True)
class Transaction:
    """Operations that happen together, in one revision, if every compare holds. Each key is written once at most."""

    compares: tuple[Compare | Unmodified, ...]
    ops: tuple[PutKey | DeleteKey, ...]

    def __post_init__(self) -> None:
        """Raise `ValueError` for what no store accepts: our own mistake, and never a user's."""
        if max(len(self.compares), len(self.ops)) > TRANSACTION_MAX:
            raise ValueError(f"a transaction has at most {TRANSACTION_MAX} compares and {TRANSACTION_MAX} operations")
        if len({op.key for op in self.ops}) != len(self.ops):
            raise ValueError("a transaction writes each key at most once")


@dataclass(frozen=True, slots=True)
class Committed:
    """Every compare held and every operation is done; `revision` is the store's from here on."""

    revision: Revision


@dataclass(frozen=True, slots=True)
class Conflict:
    """A compare failed and nothing was written. `revision` is the store's at that time: read up to it, then decide."""

    revision: Revision


@dataclass(frozen=True, slots=True)
class Page:
    """Keys in order, as of `revision`. `more` is true if the store has keys after the last one of `items`."""

    items: tuple[KeyValue, ...]
    revision: Revision
    more: bool


@dataclass(frozen=True, slots=True)
class Count:
    """How many keys there are, as of `revision`."""

    number: int
    revision: Revision


@dataclass(frozen=True, slots=True)
class Event:
    """One key was written (`value`) or deleted (None). `previous` is the value before, unless that is compacted."""

    key: str
    value: bytes | None
    previous: bytes | None


@dataclass(frozen=True, slots=True)
class RevisionEvents:
    """Everything that one revision changed below the watched prefix, by key."""

    revision: Revision
    events: tuple[Event, ...]


def always() -> bool:
    """Go on as long as it takes."""
    return True


class Store(Protocol):
    """A key-value store. Its opener runs `run` as a task while it is in use, and closes it."""

    @property
    def cluster(self) -> str:
        """What tells this store from others, once something was read of it; "" for one that is known by its place."""

    async def run(self) -> None:
        """Do the store's own work, such as the expiry of leases, until cancelled; raises `Replaced`."""

    async def close(self) -> None:
        """Let go of the store; nothing else may be called after."""

    async def current_revision(self) -> Revision:
        """Return the revision of the last write."""

    async def get(self, key: str, revision: Revision | None = None) -> KeyValue | None:
        """Return a key as of `revision` (default: now), None when it does not exist; may raise `RevisionCompacted`."""

    async def page(
        self,
        prefix: str,
        *,
        limit: int = PAGE_MAX,
        after_key: str | None = None,
        revision: Revision | None = None,
    ) -> Page:
        """Return up to `limit` keys below the prefix, those after `after_key`, as of `revision` (default: now).

        The pages of one list are asked for with the revision of the first one. May raise `RevisionCompacted`.
        """

    async def count(self, prefix: str) -> Count:
        """Return how many keys are below the prefix now; nothing of them is sent."""

    async def commit(self, transaction: Transaction, go_on: Callable[[], bool] = always) -> Committed | Conflict:
        """Do all of the transaction or nothing; raises `LeaseLost` when a put names a lease that is gone.

        A store that must try more than once asks `go_on` before it tries again, and raises `Abandoned` if it is not to.
        """

    async def check_writable(self) -> None:
        """Return when the store takes a write that changes nothing and moves no revision, as it would any other."""

    async def grant(self, ttl: float) -> LeaseId:
        """Return a new lease that lasts `ttl` seconds from now and from each `keep_alive`, at least."""

    async def keep_alive(self, lease: LeaseId) -> None:
        """Let the lease last its `ttl` from now; raises `LeaseLost`."""

    async def revoke(self, lease: LeaseId) -> None:
        """End the lease and delete its keys in one revision; nothing happens when it is gone already."""

    def watch(self, prefix: str, after_revision: Revision) -> AsyncIterator[RevisionEvents]:
        """Yield every change below the prefix after `after_revision`, each revision once and in order, without end.

        Raises `RevisionCompacted` when changes after `after_revision` may have been forgotten.
        """

    async def compact(self, revision: Revision) -> None:
        """Forget how things were before `revision`; what exists at it stays. An older `revision` changes nothing."""
