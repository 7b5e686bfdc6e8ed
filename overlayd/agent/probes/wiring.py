"""Builds the parts of this room."""

from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.probes.offload import OffloadProbe
from overlayd.agent.probes.path import PathProbe
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.agent.runtime.actors import Actors
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.model.ids import HostId


def actors(turn: KernelTurn, feed: ClusterFeed, reconciler: Reconciler, host: HostId, interval: float) -> Actors:
    """Return the actors of this room; a host that does not answer is probed again after `interval` seconds."""
    return {
        "path probe": PathProbe(turn, feed, reconciler, host).run(),
        "offload probe": OffloadProbe(feed, reconciler, interval).run(),
    }
