"""Builds the parts of this room."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.reconcile.checksums import Checksums
from overlayd.agent.reconcile.controller_addresses import ControllerAddresses
from overlayd.agent.reconcile.local import Local
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.agent.reconcile.vxlan_ports import remember_vxlan_port
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.runtime.actors import Actors
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.dataplane.desired.firewall import Metadata
from overlayd.model.ids import HostId


@dataclass(frozen=True, slots=True)
class HostSettings:
    """The settings of this host. `vxlan_port` is in host byte order, `resync` in seconds."""

    host: HostId
    vxlan_port: int
    resync: float
    metadata: Metadata
    controllers: Sequence[str]
    run_dir: Path
    state_dir: Path


@dataclass(frozen=True, slots=True)
class ReconcileParts:
    """The reconciler, and what it knows of this host in addition to the cluster."""

    reconciler: Reconciler
    checksums: Checksums
    addresses: ControllerAddresses
    resync: float

    def actors(self) -> Actors:
        """Return the actors of this room."""
        drift = self.reconciler.drift
        return {
            "controller addresses": self.addresses.follow(self.resync, drift),
            "reconcile": self.reconciler.run(),
            "drift": drift.run(),
        }


def build(
    turn: KernelTurn,
    feed: ClusterFeed,
    records: AttachmentRecords,
    settings: HostSettings,
) -> ReconcileParts:
    """Read what is remembered of this host and make the reconciler; raise `InvalidValue` or `OSError`."""
    checksums = Checksums(settings.run_dir / "software-checksums")
    former_ports = remember_vxlan_port(settings.state_dir / "vxlan-ports", settings.vxlan_port)
    addresses = ControllerAddresses(settings.controllers, settings.state_dir / "controllers.json")
    local = Local(settings.host, settings.vxlan_port, settings.resync, former_ports, addresses, settings.metadata)
    return ReconcileParts(Reconciler(turn, feed, records, checksums, local), checksums, addresses, settings.resync)
