"""The settings of this host that the reconcile cycle needs."""

from dataclasses import dataclass

from overlayd.agent.reconcile.controller_addresses import ControllerAddresses
from overlayd.dataplane.desired.firewall import Metadata
from overlayd.model.ids import HostId


@dataclass(frozen=True, slots=True)
class Local:
    """The settings of this host. VXLAN ports are in host byte order, `resync` is in seconds."""

    host: HostId
    vxlan_port: int
    resync: float
    former_vxlan_ports: frozenset[int]
    controllers: ControllerAddresses
    metadata: Metadata
