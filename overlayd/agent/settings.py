"""The agent's settings: immutable, from flags, environment and a TOML file; a change needs a restart."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from overlayd.agent.controllers.credential import Credential
from overlayd.configuration.controller_urls import check_url
from overlayd.configuration.schema import Schema, Setting, ValueKind
from overlayd.dataplane.desired.firewall import VXLAN_PORT, Metadata
from overlayd.model.address import IpAddress
from overlayd.model.errors import InvalidValue, OverlayError
from overlayd.model.host import check_host_name, check_vtep_address
from overlayd.wire.fields import parse_address

DEFAULT_STATE_DIR = Path("/var/lib/overlayd")
DEFAULT_RESYNC = 30.0
"""Seconds."""

RESYNC_MAX = 24 * 3600
"""Seconds; more often than every second, an agent would do nothing else."""


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


SCHEMA = Schema(
    "OVERLAYD",
    Path("/etc/overlayd/agent.toml"),
    (
        Setting("controller", ValueKind.TEXTS),
        Setting("name"),
        Setting("vtep"),
        Setting("vxlan-port", ValueKind.INTEGER),
        Setting("metadata", choices=tuple(Metadata)),
        Setting("state-dir", ValueKind.PATH),
        Setting("resync", ValueKind.NUMBER),
        Setting("log-level", choices=tuple(LogLevel)),
    ),
)
"""The settings of `overlayd run`."""

_PORT_MAX = 65535


def failure_line(error: OverlayError | OSError) -> str:
    """Return in one line what went wrong, for people."""
    if isinstance(error, PermissionError):
        return f"{error.filename} can be read by root only: run this as root"
    return str(error)


class NotJoined(InvalidValue):
    """The settings are valid, but the host has no controller or no credential."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one agent.

    `credential` is what the host received when it joined, None without TLS. `vtep` None means: the source address of
    the route to the first controller. `resync` is in seconds.
    """

    controllers: tuple[str, ...]
    name: str
    credential: Credential | None = None
    vtep: IpAddress | None = None
    vxlan_port: int = VXLAN_PORT
    state_dir: Path = DEFAULT_STATE_DIR
    run_dir: Path = Path("/run/overlayd")
    resync: float = DEFAULT_RESYNC
    metadata: Metadata = Metadata.REFUSED

    def __post_init__(self) -> None:
        """Raise `InvalidValue` that names the option, `NotJoined` when nothing else is wrong."""
        check_host_name(self.name, "--name")
        if self.vtep is not None:
            check_vtep_address(self.vtep, "--vtep")
        if not 1 <= self.vxlan_port <= _PORT_MAX:
            raise InvalidValue(f"{self.vxlan_port} is not in 1..{_PORT_MAX}", field="--vxlan-port")
        if not 1 <= self.resync <= RESYNC_MAX:
            raise InvalidValue(f"{self.resync:g} is not in 1..{RESYNC_MAX} seconds", field="--resync")
        check_urls(self.controllers, "--controller")
        if self.credential is None and any(url.startswith("https://") for url in self.controllers):
            raise NotJoined("this host has not joined: overlayd join --help", field="--controller")

    @property
    def cni_socket(self) -> Path:
        """Where the CNI launcher connects; the launcher knows the default only."""
        return self.run_dir / "cni.sock"

    @property
    def control_socket(self) -> Path:
        """Where `overlayctl plan` connects."""
        return self.run_dir / "control.sock"

    @property
    def docker_socket(self) -> Path:
        """Where Docker looks for a plugin of the name overlayd: beside the agent's own directory, as /run/docker."""
        return self.run_dir.parent / "docker/plugins/overlayd.sock"

    @property
    def netavark_socket(self) -> Path:
        """Where netavark's plugin connects; it knows the default only."""
        return self.run_dir / "netavark.sock"

    @property
    def queue_dir(self) -> Path:
        """Where the CNI launcher leaves a DEL while the agent is away."""
        return self.run_dir / "del-queue"

    @property
    def teardown_queue_dir(self) -> Path:
        """Where netavark's plugin leaves a teardown while the agent is away."""
        return self.run_dir / "teardown-queue"


def choose(  # noqa: PLR0913 - each is an option
    *,
    controller: Sequence[str] | None,
    name: str,
    vtep: str | None,
    vxlan_port: int,
    metadata: Metadata,
    state_dir: Path,
    resync: float,
    credential: Credential | None,
) -> Settings:
    """Return the settings that the options and the host's credential give; raise `InvalidValue` as `Settings` does."""
    return Settings(
        controllers=tuple(controller or ()) or (credential.controllers if credential else ()),
        name=name or socket.gethostname(),
        credential=credential,
        vtep=None if vtep is None else parse_address(vtep, "--vtep"),
        vxlan_port=vxlan_port,
        metadata=metadata,
        state_dir=state_dir,
        resync=resync,
    )


def check_urls(urls: Sequence[str], field: str) -> None:
    """Raise `InvalidValue` unless these are URLs of controllers."""
    if not urls:
        raise NotJoined("give at least one URL, or let the host join: overlayd join --help", field=field)
    for url in urls:
        check_url(url, field)
