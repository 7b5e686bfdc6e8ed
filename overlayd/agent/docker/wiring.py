"""Builds the parts of this room."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from overlayd.agent.attach.wiring import AttachParts
from overlayd.agent.docker.admission import UplinkAdmission
from overlayd.agent.docker.docker_networks import DockerNetworks
from overlayd.agent.docker.intended_addresses import IntendedAddresses
from overlayd.agent.docker.ipam_driver import IpamDriver
from overlayd.agent.docker.network_driver import NetworkDriver
from overlayd.agent.docker.published_ports import PortChoice
from overlayd.agent.docker.server import DockerServer
from overlayd.agent.holdings.wiring import HoldingParts
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.runtime.actors import Actors
from overlayd.agent.runtime.signals import Changes
from overlayd.kernel.port import Kernel
from overlayd.model.published_port import PortMapping


@dataclass(frozen=True, slots=True)
class DockerParts:
    """What answers Docker, and what lets its rules pass the uplinks."""

    server: DockerServer
    admission: UplinkAdmission
    intended: IntendedAddresses

    def actors(self) -> Actors:
        """Return the actors of this room."""
        return {"Docker's rules": self.admission.run(), "addresses that Docker asked for": self.intended.run()}


def build(  # noqa: PLR0913, PLR0917 - each is a part of another room, or a setting
    kernel: Kernel,
    attach: AttachParts,
    records: AttachmentRecords,
    holdings: HoldingParts,
    state_dir: Path,
    interval: float,
) -> DockerParts:
    """Make what answers Docker, whose rules are looked at every `interval` seconds.

    Raises `InvalidValue` that names a file of a newer agent, or `OSError`.
    """
    networks = DockerNetworks(state_dir / "docker-networks.json")
    networks.load()
    starts = Changes()
    admission = UplinkAdmission(kernel.admit_uplinks, starts, interval)
    ipam = IpamDriver(attach.addressing, holdings.blocks, networks)

    def published() -> Iterator[PortMapping]:
        return (port for attachment in records.attachments.values() for port in attachment.ports)

    intended = IntendedAddresses(attach.addressing)
    driver = NetworkDriver(attach.attachments, holdings.blocks, networks, ipam, intended, PortChoice(published))
    return DockerParts(DockerServer(driver, ipam, starts), admission, intended)
