"""Opening the store that a controller's settings name."""

from pathlib import Path

from controller.clock import Clock
from controller.store.etcd.cluster import EtcdCluster
from controller.store.port import Store

StoreChoice = Path | EtcdCluster
"""The SQLite file of the embedded store, or an etcd."""


def open_store(choice: StoreChoice, clock: Clock) -> Store:
    """Open a store inside the event loop that uses it; raise `StoreRefused` when it cannot be used."""
    # Each is imported when it is opened: commands that print their help open none, and gRPC costs 20 MB and a quarter
    # of a second that a controller with the embedded store need not pay.
    if isinstance(choice, Path):
        from controller.store.embedded import EmbeddedStore  # noqa: PLC0415

        return EmbeddedStore.open(choice, clock)
    from controller.store.etcd.store import EtcdStore  # noqa: PLC0415

    return EtcdStore(choice, clock)
