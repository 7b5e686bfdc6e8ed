"""Opening the store that a controller's settings name."""

from pathlib import Path

from controller.clock import Clock
from controller.store.embedded import EmbeddedStore
from controller.store.etcd.cluster import EtcdCluster
from controller.store.port import Store

StoreChoice = Path | EtcdCluster
"""The SQLite file of the embedded store, or an etcd."""


def open_store(choice: StoreChoice, clock: Clock) -> Store:
    """Open a store inside the event loop that uses it; raise `StoreRefused` when it cannot be used."""
    if isinstance(choice, Path):
        return EmbeddedStore.open(choice, clock)
    # gRPC costs 20 MB and a quarter of a second that a controller with the embedded store need not pay.
    from controller.store.etcd.store import EtcdStore  # noqa: PLC0415

    return EtcdStore(choice, clock)
