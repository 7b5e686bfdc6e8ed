"""The agent's settings: immutable, from flags, environment and a TOML file; a change needs a restart."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from overlayd.agent.controllers.credential import Credential
from overlayd.configuration.controller_urls import check_url
from overlayd.configuration.schema import Schema, Setting, ValueKind
from overlayd.dataplane.desired.firewall import VXLAN_PORT, Metadata
from overlayd.model.address import IpAddress
from overlayd.model.errors import InvalidValue, OverlayError
from overlayd.model.host import check_host_name, check_vtep_address
from overlayd.model.ids import NetworkName, network_name, quoted
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
        Setting("allow-user", ValueKind.TEXTS),
        Setting("log-level", choices=tuple(LogLevel)),
    ),
)
"""The settings of `overlayd run`."""

_PORT_MAX = 65535
_UID_MAX = (1 << 32) - 2
"""credentials(7): the number above it means "no user"."""


def failure_line(error: OverlayError | OSError) -> str:
    """Return in one line what went wrong, for people."""
    if isinstance(error, PermissionError):
        return f"{error.filename} can be read by root only: run this as root"
    return str(error)


@dataclass(frozen=True, slots=True)
class UserGrant:
    """A user who is not root, and a network that the user's containers may be in."""

    uid: int
    network: NetworkName

    @classmethod
    def parse(cls, text: str, field: str) -> Self:
        """Return the grant that ``UID:NETWORK`` means; raise `InvalidValue`."""
        number, _, network = text.partition(":")
        if not (number.isascii() and number.isdigit() and 1 <= int(number[:11]) <= _UID_MAX):
            raise InvalidValue(
                f"{quoted(text)} is not UID:NETWORK, with the number of a user who is not root", field=field
            )
        return cls(int(number), network_name(network, field))


class NotJoined(InvalidValue):
    """The settings are valid, but the host has no controller or no credential."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one agent.

    `credential` is what the host received when it joined, None without TLS. `vtep` None means: the source address of
    the route to the first controller. `resync` is in seconds. `users_socket` is where netavark's plugin connects for a
    user who is not root; it knows the default only. It is not in /run: podman without root has another directory there
    while it executes plugins.
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
    grants: tuple[UserGrant, ...] = ()
    users_socket: Path = Path("/var/lib/overlayd-users/netavark.sock")

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
    def allowed_networks(self) -> dict[int, frozenset[NetworkName]]:
        """The networks that users who are not root may use, by the number of the user."""
        users = {grant.uid for grant in self.grants}
        return {uid: frozenset(grant.network for grant in self.grants if grant.uid == uid) for uid in users}

    @property
    def user_sandboxes(self) -> Path:
        """Where namespaces of users have a path while they are being attached."""
        return self.run_dir / "user-sandboxes"

    @property
    def queue_dir(self) -> Path:
        """Where the CNI launcher queues a DEL while the agent does not run."""
        return self.run_dir / "del-queue"

    @property
    def teardown_queue_dir(self) -> Path:
        """Where netavark's plugin queues a teardown while the agent does not run."""
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
    allow_user: Sequence[str] | None,
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
        grants=tuple(dict.fromkeys(UserGrant.parse(each, "--allow-user") for each in allow_user or ())),
    )


def check_urls(urls: Sequence[str], field: str) -> None:
    """Raise `InvalidValue` unless these are URLs of controllers."""
    if not urls:
        raise NotJoined("give at least one URL, or let the host join: overlayd join --help", field=field)
    for url in urls:
        check_url(url, field)
